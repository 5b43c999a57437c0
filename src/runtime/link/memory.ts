/**
 * Third step of linking: SRAM. Proves that ports, banks, address generators and rows are used as the machine allows, and orders
 * reads and writes of the same rows.
 *
 * Each slice is replayed by itself, its bursts merged by cycle, with the last write, its node and the readers since of every row.
 * Addresses of Gather and Scatter are data, so on a slice that has one every burst waits for the one before it, and bursts
 * that overlap one in time are tied together, which makes them run execution by execution. Pairs of a write and an earlier
 * read of the same row are kept: a read whose row is overwritten before its last consumer runs must be copied.
 */

import { at, sure } from "../../diagnostics.js";
import { MNEMONICS } from "../../ir/isa.js";
import { addEdge, type Nodes } from "./nodes.js";
import { instructionOf, IntList, lastCycle, type Tables } from "./tables.js";

export interface MemoryFindings {
  /** A writing and a reading node of the same row, one after the other: write, read, write, read ... */
  readonly overwrites: IntList;
  /** Whether each row of every chip is written when the program has ended, in the order of Sram. */
  readonly written: Uint8Array;
  /** Whether the program writes the row. */
  readonly changed: Uint8Array;
  /** Slices (chip * 2 * slices + slice) with a Gather or Scatter. */
  readonly tracked: ReadonlySet<number>;
}

const NEVER = -(2 ** 30);

/** `initial`: rows that hold constants or inputs when the program starts. */
export function linkMemory(tables: Tables, nodes: Nodes, initial: Uint8Array): MemoryFindings {
  const { target, program } = tables;
  const findings: MemoryFindings & { tracked: Set<number> } = {
    overwrites: new IntList(),
    written: initial.slice(),
    changed: new Uint8Array(initial.length),
    tracked: new Set(),
  };
  const rows = 2 * target.rowsPerBank;
  const state = new SliceState(rows, nodes.kind.length);
  program.chips.forEach((_, chip) => {
    for (let slice = 0; slice < 2 * target.slices; slice++) {
      const bursts = at(at(tables.byQueue, chip, "chip"), slice, "queue").filter(
        (burst) => memoryOp(tables, burst) !== undefined,
      );
      if (bursts.length === 0) continue;
      const index = chip * 2 * target.slices + slice;
      const tracked = bursts.some(
        (burst) => memoryOp(tables, burst) === "gather" || memoryOp(tables, burst) === "scatter",
      );
      if (tracked) {
        findings.tracked.add(index);
        orderTracked(tables, nodes, bursts);
      }
      replaySlice(tables, nodes, findings, state, bursts, index * rows);
    }
  });
  return findings;
}

type MemoryOp = "read" | "write" | "gather" | "scatter";

function memoryOp(tables: Tables, burst: number): MemoryOp | undefined {
  const op = MNEMONICS[tables.op.at(burst)];
  return op === "read" || op === "write" || op === "gather" || op === "scatter" ? op : undefined;
}

function orderTracked(tables: Tables, nodes: Nodes, bursts: readonly number[]): void {
  bursts.forEach((burst, index) => {
    const node = nodes.ofBurst[burst] as number;
    for (let other = index - 1; other >= 0; other--) {
      const before = bursts[other] as number;
      addEdge(nodes, node, nodes.ofBurst[before] as number);
      if (lastCycle(tables, before) >= tables.cycle.at(burst)) addEdge(nodes, nodes.ofBurst[before] as number, node);
    }
  });
}

/** What is remembered of each row and port of one slice, reused from slice to slice. */
class SliceState {
  readonly writeCycle: Int32Array;
  readonly writer: Int32Array;
  /** Readers of each row since its last write: a linked list. */
  readonly readers: Int32Array;
  readonly reader = new IntList();
  readonly next = new IntList();
  /** By node: the last node that got an edge to it, so that a pair is noted once. */
  readonly readBy: Int32Array;
  readonly overwrittenBy: Int32Array;
  readCycle = NEVER;
  readBank = 0;
  readUntil = NEVER;
  writePort = NEVER;
  writeBank = 0;
  writeUntil = NEVER;
  lastScatter = NEVER;

  constructor(rows: number, nodes: number) {
    this.writeCycle = new Int32Array(rows);
    this.writer = new Int32Array(rows);
    this.readers = new Int32Array(rows);
    this.readBy = new Int32Array(nodes).fill(-1);
    this.overwrittenBy = new Int32Array(nodes).fill(-1);
  }
  reset(): void {
    this.writeCycle.fill(NEVER);
    this.writer.fill(-1);
    this.readers.fill(-1);
    this.reader.length = 0;
    this.next.length = 0;
    this.readCycle = NEVER;
    this.readUntil = NEVER;
    this.writePort = NEVER;
    this.writeUntil = NEVER;
    this.lastScatter = NEVER;
  }
}

interface Run {
  readonly burst: number;
  readonly op: MemoryOp;
  readonly node: number;
  readonly count: number;
  readonly interval: number;
  readonly step: number;
  row: number;
  cycle: number;
  index: number;
}

/** Executes the bursts of a slice in the order of cycles. */
function replaySlice(
  tables: Tables,
  nodes: Nodes,
  findings: MemoryFindings,
  state: SliceState,
  bursts: readonly number[],
  firstRow: number,
): void {
  state.reset();
  const noWrites = bursts.every((burst) => memoryOp(tables, burst) === "read");
  let running: Run[] = [];
  let started = 0;
  for (;;) {
    const nextStart = started < bursts.length ? tables.cycle.at(bursts[started] as number) : Number.POSITIVE_INFINITY;
    let run: Run | undefined;
    for (const candidate of running) if (run === undefined || candidate.cycle < run.cycle) run = candidate;
    if (run === undefined || nextStart < run.cycle) {
      if (started === bursts.length) return;
      running.push(startRun(tables, nodes, state, bursts[started++] as number));
      continue;
    }
    let until = nextStart;
    for (const candidate of running) if (candidate !== run) until = Math.min(until, candidate.cycle);
    // Alone until then; at an equal cycle the order among runs does not matter, so at least one execution goes.
    do {
      step(tables, nodes, findings, state, run, firstRow, noWrites);
    } while (run.index < run.count && run.cycle < until);
    if (run.index === run.count) running = running.filter((candidate) => candidate !== run);
  }
}

function startRun(tables: Tables, nodes: Nodes, state: SliceState, burst: number): Run {
  const { target, faults } = tables;
  const op = sure(memoryOp(tables, burst), "operation of a slice");
  const instruction = instructionOf(tables, burst);
  const base = tables.base.at(burst);
  const step = op === "read" || op === "write" ? instruction.step : 0;
  const row = op === "read" || op === "write" ? Number(instruction.fields["address"]) + base * step : -1;
  const cycle = tables.cycle.at(burst);
  const count = tables.count.at(burst);
  const rows = 2 * target.rowsPerBank;
  const last = row + (count - 1) * step;
  if (row !== -1 && !(row >= 0 && row < rows && last >= 0 && last < rows)) {
    faults.reportRecord("LPU4008", burst, cycle, `operand 'address': expected 0 to ${rows - 1} at every execution`);
    return { burst, op, node: nodes.ofBurst[burst] as number, count: 1, interval: 1, step: 0, row: 0, cycle, index: 0 };
  }
  if (base === 0 && instruction.count > 1) {
    const reads = op === "read" || op === "gather";
    const until = reads ? state.readUntil : state.writeUntil;
    if (until >= cycle)
      faults.report(
        "LPU4003",
        burst,
        cycle,
        `the ${reads ? "read" : "write"} address generator runs until cycle ${until}`,
      );
    const end = cycle + (instruction.count - 1) * tables.interval.at(burst);
    if (reads) state.readUntil = end;
    else state.writeUntil = end;
  }
  return {
    burst,
    op,
    node: nodes.ofBurst[burst] as number,
    count,
    interval: tables.interval.at(burst),
    step,
    row,
    cycle,
    index: 0,
  };
}

function step(
  tables: Tables,
  nodes: Nodes,
  findings: MemoryFindings,
  state: SliceState,
  run: Run,
  firstRow: number,
  noWrites: boolean,
): void {
  const { target, faults } = tables;
  const { burst, op, row, cycle, node } = run;
  const { memWrite } = target.timing;
  const bank = row < 0 ? -1 : row < target.rowsPerBank ? 0 : 1;
  const fault = (code: Parameters<typeof faults.report>[0], message: string): void =>
    faults.report(code, burst, cycle, message);
  if (op === "read" || op === "gather") {
    if (state.readCycle === cycle) fault("LPU4003", "the slice already has a read in this cycle");
    if (state.writePort === cycle && (bank < 0 || state.writeBank < 0 || bank === state.writeBank))
      fault("LPU4004", "read and write of one bank in one cycle");
    state.readCycle = cycle;
    state.readBank = bank;
    if (op === "gather") {
      if (cycle < state.writePort + memWrite) fault("LPU4006", "a write is still on its way");
    } else {
      if (findings.written[firstRow + row] !== 1) fault("LPU4005", `row ${row} was never written`);
      const ready = Math.max(state.writeCycle[row] as number, state.lastScatter) + memWrite;
      if (cycle < ready) fault("LPU4006", `row ${row} may be read at cycle ${ready}`);
      if (!noWrites) {
        const writer = state.writer[row] as number;
        if (writer >= 0 && state.readBy[writer] !== node) {
          state.readBy[writer] = node;
          addEdge(nodes, node, writer);
        }
        state.next.push(state.readers[row] as number);
        state.readers[row] = state.reader.push(node);
      }
    }
  } else {
    if (state.writePort === cycle) fault("LPU4003", "the slice already has a write in this cycle");
    if (state.readCycle === cycle && (bank < 0 || state.readBank < 0 || bank === state.readBank))
      fault("LPU4004", "read and write of one bank in one cycle");
    state.writePort = cycle;
    state.writeBank = bank;
    if (op === "scatter") {
      state.lastScatter = cycle;
      scatterRows(findings, state, node);
      findings.changed.fill(1, firstRow, firstRow + 2 * target.rowsPerBank);
    } else {
      writeRow(nodes, findings, state, node, row);
      state.writeCycle[row] = cycle;
      findings.written[firstRow + row] = 1;
      findings.changed[firstRow + row] = 1;
    }
  }
  run.row += run.step;
  run.cycle += run.interval;
  run.index++;
}

/** Any row may be overwritten, so every earlier read of the slice is one whose row is. Their order is that of time already. */
function scatterRows(findings: MemoryFindings, state: SliceState, node: number): void {
  for (let at = 0; at < state.reader.length; at++) {
    const reader = state.reader.at(at);
    if (state.overwrittenBy[reader] === node) continue;
    state.overwrittenBy[reader] = node;
    findings.overwrites.pushAll(node, reader);
  }
}

/** The write comes after the write before it, and after every read of what that left. */
function writeRow(nodes: Nodes, findings: MemoryFindings, state: SliceState, node: number, row: number): void {
  const before = state.writer[row] as number;
  if (before >= 0 && before !== node && state.overwrittenBy[before] !== node) {
    state.overwrittenBy[before] = node;
    addEdge(nodes, node, before);
  }
  for (let at = state.readers[row] as number; at >= 0; at = state.next.at(at)) {
    const reader = state.reader.at(at);
    if (state.overwrittenBy[reader] === node) continue;
    state.overwrittenBy[reader] = node;
    addEdge(nodes, node, reader);
    findings.overwrites.pushAll(node, reader);
  }
  state.readers[row] = -1;
  state.writer[row] = node;
}
