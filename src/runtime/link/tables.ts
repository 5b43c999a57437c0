/**
 * First step of linking: the instructions of all queues as flat tables of bursts, and of what they take from and give to streams.
 *
 * A burst here is an instruction record, or a part of one where the vector length of its queue changes while it runs. TAKE
 * and GIVE tables have one entry for each byte stream of each operand. Operands that chain ALUs are entries too, with no
 * stream: every ALU burst gives its `raw` results, and a chained operand takes them. Queue rules and operand shapes are
 * checked here; everything about time is checked by the steps that follow. Faults are collected, and the earliest is raised.
 */

import { at } from "../../diagnostics.js";
import { layoutOf, nextDispatch } from "../../codegen/text/layout.js";
import { mayIssue } from "../../ir/bursts.js";
import type { DiagnosticCode } from "../../diagnostics.js";
import {
  completionCycles,
  ISA,
  type InstructionRow,
  MNEMONICS,
  type Mnemonic,
  type Source,
  type StreamType,
} from "../../ir/isa.js";
import { isWestward, queuePlace, type TimedInstruction, positionOf } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { raise } from "../fault.js";
import { type Counters, type MachineProgram, numberField, streamGroup, typeField } from "../program.js";

/** A growing array of int32. */
export class IntList {
  data = new Int32Array(1024);
  length = 0;

  push(value: number): number {
    if (this.length === this.data.length) this.grow();
    this.data[this.length] = value;
    return this.length++;
  }
  at(index: number): number {
    return this.data[index] as number;
  }
  pushAll(...values: readonly number[]): void {
    for (const value of values) this.push(value);
  }
  view(): Int32Array {
    return this.data.subarray(0, this.length);
  }
  private grow(): void {
    const larger = new Int32Array(this.data.length * 2);
    larger.set(this.data);
    this.data = larger;
  }
}

/** Columns of a TAKE or GIVE entry. `slot`: operand number in the row; `byte`: stream within the operand. */
export const ENTRY = { burst: 0, slot: 1, byte: 2, stream: 3, cycle: 4, position: 5, tap: 6 } as const;
export const ENTRY_SIZE = 7;
/** Slot of the results of an ALU for chaining. */
export const RAW_SLOT = 9;
/** Streams of chained operands. */
export const NO_STREAM = -1;

export interface Tables {
  readonly program: MachineProgram;
  readonly target: Target;
  readonly faults: FaultLog;
  readonly instructions: TimedInstruction[];
  /** One entry a burst: number in MNEMONICS, chip, queue, cycle of its first execution, executions, interval. */
  readonly op: IntList;
  readonly chip: IntList;
  readonly queue: IntList;
  readonly cycle: IntList;
  readonly count: IntList;
  readonly interval: IntList;
  /** Index of the burst's first execution in its instruction. */
  readonly base: IntList;
  /** Vector length. */
  readonly length: IntList;
  readonly takes: IntList;
  readonly gives: IntList;
  /** First entry of each burst, and one past the last. */
  readonly takeFirst: IntList;
  readonly giveFirst: IntList;
  /** Bursts of each queue of each chip, in order. */
  readonly byQueue: readonly (readonly number[][])[];
  readonly cycles: number[];
  readonly counters: Counters[];
}

export const instructionOf = ({ instructions }: Tables, burst: number): TimedInstruction =>
  at(instructions, burst, "instruction");
/** The cycle of a burst's last execution. */
export const lastCycle = ({ cycle, count, interval }: Tables, burst: number): number =>
  cycle.at(burst) + (count.at(burst) - 1) * interval.at(burst);

const OP_NUMBERS: Readonly<Record<Mnemonic, number>> = Object.fromEntries(
  MNEMONICS.map((name, index) => [name, index]),
) as Record<Mnemonic, number>;

/** Order in which the literal machine would meet faults of one cycle; all others come after these. */
const RANKS: Partial<Record<DiagnosticCode, number>> = { LPU4001: 1, LPU4002: 2 };
/** Faults of a record itself, which a machine meets when it looks ahead for operands, `vxmEntry` cycles before dispatch. */
const RECORD = 0;

export class FaultLog {
  private readonly lookAhead: number;
  private earliest:
    | { code: DiagnosticCode; burst: number; cycle: number; message: string; met: number; rank: number }
    | undefined;

  constructor({ timing }: Target) {
    this.lookAhead = timing.vxmEntry;
  }

  report(code: DiagnosticCode, burst: number, cycle: number, message: string, rank: number = RANKS[code] ?? 3): void {
    const met = rank === RECORD ? cycle - this.lookAhead : cycle;
    const known = this.earliest;
    if (known !== undefined && (known.met < met || (known.met === met && known.rank <= rank))) return;
    this.earliest = { code, burst, cycle, message, met, rank };
  }

  /** A fault of the instruction record of a burst. */
  reportRecord(code: DiagnosticCode, burst: number, cycle: number, message: string): void {
    this.report(code, burst, cycle, message, RECORD);
  }

  raiseEarliest(tables: Tables): void {
    if (this.earliest === undefined) return;
    const { code, burst, cycle, message } = this.earliest;
    raiseAt(tables, code, burst, cycle, message);
  }
}

export function raiseAt(tables: Tables, code: DiagnosticCode, burst: number, cycle: number, message: string): never {
  const { target, program } = tables;
  const instruction = tables.instructions[burst] as TimedInstruction;
  return raise(
    code,
    {
      target,
      chip: tables.chip.at(burst),
      queue: tables.queue.at(burst),
      instruction,
      cycle,
      origins: program.origins,
    },
    message,
  );
}

interface TakeSpec {
  readonly field: string;
  readonly skew: number;
  readonly slot: number;
}
interface OpSpec {
  readonly row: InstructionRow;
  readonly takes: readonly TakeSpec[];
  readonly gives: readonly { readonly field: string; readonly latency: number; readonly slot: number }[];
  readonly alu: boolean;
}

export function buildTables(program: MachineProgram): Tables {
  const { target } = program;
  const specs = new Map<Mnemonic, OpSpec>(MNEMONICS.map((op) => [op, specOf(target, op)]));
  const list = (): IntList => new IntList();
  const tables: Tables = {
    program,
    target,
    faults: new FaultLog(target),
    instructions: [],
    op: list(),
    chip: list(),
    queue: list(),
    cycle: list(),
    count: list(),
    interval: list(),
    base: list(),
    length: list(),
    takes: list(),
    gives: list(),
    takeFirst: list(),
    giveFirst: list(),
    byQueue: program.chips.map(({ queues }) => queues.map(() => [])),
    cycles: program.chips.map(() => 0),
    counters: program.chips.map(() => ({ executions: {}, macs: 0 })),
  };
  program.chips.forEach(({ queues }, chip) => {
    const notified = notifyCycle(queues);
    for (const [queue, instructions] of queues.entries()) addQueue(tables, specs, chip, queue, instructions, notified);
  });
  tables.takeFirst.push(tables.takes.length / ENTRY_SIZE);
  tables.giveFirst.push(tables.gives.length / ENTRY_SIZE);
  return tables;
}

function specOf(target: Target, op: Mnemonic): OpSpec {
  const row: InstructionRow = ISA[op];
  return {
    row,
    takes: Object.entries(row.takes).map(([field, { skew, sign = 1 }], slot) => ({
      field,
      slot,
      skew: sign * (skew === 0 ? 0 : target.timing[skew]),
    })),
    gives: Object.entries(row.gives).map(([field, latency], slot) => ({
      field,
      slot,
      latency: target.timing[latency],
    })),
    alu: op === "unary" || op === "binary" || op === "ternary",
  };
}

function notifyCycle(queues: readonly (readonly TimedInstruction[])[]): number {
  let first = Number.NaN;
  for (const queue of queues) {
    for (const { op, cycle } of queue) if (op === "notify" && !(first <= cycle)) first = cycle;
  }
  return first;
}

function addQueue(
  tables: Tables,
  specs: ReadonlyMap<Mnemonic, OpSpec>,
  chip: number,
  queue: number,
  instructions: readonly TimedInstruction[],
  notified: number,
): void {
  if (instructions.length === 0) return;
  const { target, faults } = tables;
  const place = queuePlace(target, queue);
  const position = positionOf(target, place);
  const layouts = layoutOf(target).byName;
  const { executions } = at(tables.counters, chip, "counters of a chip");
  const lengths = instructions
    .filter(({ op }) => op === "config")
    .map(({ cycle, fields }) => ({ cycle, length: Number(fields["length"]) }));
  const own = at(at(tables.byQueue, chip, "chip"), queue, "queue");
  let free = 0;
  let length = target.lanes;
  for (const instruction of instructions) {
    const { op, cycle, count, interval } = instruction;
    const spec = specs.get(op);
    const layout = layouts.get(op);
    if (spec === undefined || layout === undefined) continue;
    if (op === "config") length = Number(instruction.fields["length"]);
    const outOfStep = op === "config" && length % target.superlane !== 0;
    const add = (base: number, executed: number, vectorLength: number): void => {
      own.push(addBurst(tables, spec, chip, queue, position, instruction, base, executed, vectorLength));
    };
    const inside =
      layout.generator && count > 1
        ? lengths.filter((change) => change.cycle > cycle && change.cycle <= cycle + (count - 1) * interval)
        : [];
    let base = 0;
    for (const change of inside) {
      const until = Math.ceil((change.cycle - cycle) / interval);
      if (until > base) add(base, until - base, length);
      base = until;
      length = change.length;
    }
    if (base < count) add(base, count - base, length);
    const burst = tables.instructions.length - 1;
    if (!mayIssue(spec.row, place.unit))
      faults.reportRecord("LPU4008", burst, cycle, `unit '${place.unit}' has no '${op}'`);
    if (op === "lw" || op === "iwStream") {
      const last = numberField({ instruction, index: count - 1 }, "column");
      if (last >= target.lanes)
        faults.reportRecord("LPU4008", burst, cycle, `operand 'column': the last of the burst is ${last}`);
    }
    if (layout.own && op !== "nop" && op !== "sync" && op !== "notify")
      faults.report("LPU4008", burst, cycle, `'${op}' is part of a burst and cannot stand alone`);
    if (outOfStep)
      faults.report("LPU4008", burst, cycle, `expected a multiple of ${target.superlane} lanes, got ${length}`);
    if (cycle < free) faults.reportRecord("LPU4007", burst, cycle, `the queue may dispatch again at cycle ${free}`);
    if (op === "notify" && cycle !== notified) faults.report("LPU4016", burst, cycle, "the chip has notified before");
    if (op === "sync" && !(cycle <= notified + target.timing.barrier))
      faults.report("LPU4016", burst, cycle, "no notify releases this sync");
    free =
      op === "nop"
        ? cycle + Math.max(Number(instruction.fields["cycles"]), 1)
        : op === "sync" || op === "notify"
          ? Math.max(cycle + 1, notified + target.timing.barrier || 0)
          : nextDispatch(layout, cycle, count, interval);
    executions[op] = (executions[op] ?? 0) + count;
    const end = cycle + (count - 1) * interval + completionCycles(target, instruction);
    tables.cycles[chip] = Math.max(at(tables.cycles, chip, "cycle"), end);
    if (inside.length > 0)
      length = [...lengths].reverse().find((change) => change.cycle <= cycle)?.length ?? target.lanes;
  }
}

function addBurst(
  tables: Tables,
  spec: OpSpec,
  chip: number,
  queue: number,
  position: number,
  instruction: TimedInstruction,
  base: number,
  count: number,
  length: number,
): number {
  const { target, takes, gives } = tables;
  const { op, fields, interval, tap } = instruction;
  const burst = tables.instructions.length;
  const cycle = instruction.cycle + base * interval;
  tables.instructions.push(instruction);
  tables.op.push(OP_NUMBERS[op]);
  tables.chip.push(chip);
  tables.queue.push(queue);
  tables.cycle.push(cycle);
  tables.count.push(count);
  tables.interval.push(interval);
  tables.base.push(base);
  tables.length.push(length);
  tables.takeFirst.push(takes.length / ENTRY_SIZE);
  tables.giveFirst.push(gives.length / ENTRY_SIZE);
  const streams = chip * 2 * target.streams;
  for (const { field, skew, slot } of spec.takes) {
    const value = fields[field];
    let stream = Number(value);
    let tapped = (tap >> slot) & 1;
    if (typeof value === "object") {
      if ("constant" in value) continue;
      if ("alu" in value) {
        takes.pushAll(burst, slot, 0, NO_STREAM, cycle - target.timing.vxmAlu - value.age, value.alu, 0);
        continue;
      }
      stream = value.stream;
      tapped = value.tap ? 1 : 0;
    }
    const bytes = checkStreams(tables, burst, instruction, field, stream);
    for (let byte = 0; byte < bytes; byte++)
      takes.pushAll(burst, slot, byte, streams + stream + byte, cycle + skew, position, tapped);
  }
  for (const { field, latency, slot } of spec.gives) {
    const stream = Number(fields[field]);
    if (stream < 0) continue;
    const bytes = checkStreams(tables, burst, instruction, field, stream);
    for (let byte = 0; byte < bytes; byte++)
      gives.pushAll(burst, slot, byte, streams + stream + byte, cycle + latency, position, 0);
  }
  if (spec.alu) {
    gives.pushAll(burst, RAW_SLOT, 0, NO_STREAM, cycle, 0, 0);
    const [give, give2] = [Number(fields["give"]), Number(fields["give2"])];
    if (give >= 0 && give2 >= 0 && isWestward(target, give) === isWestward(target, give2)) {
      tables.faults.reportRecord(
        "LPU4008",
        burst,
        instruction.cycle,
        "operand 'give2': expected a stream of the other direction",
      );
    }
  }
  return burst;
}

/** Streams of an operand, after checking that they are neighbours within one direction. */
function checkStreams(
  tables: Tables,
  burst: number,
  instruction: TimedInstruction,
  field: string,
  stream: number,
): number {
  if (instruction.op === "read" || instruction.op === "write") return 1;
  const { target } = tables;
  const { unit, groups } = streamGroup(target, instruction, field);
  const start = stream % target.streams;
  if (start % unit !== 0 || start + unit * groups > target.streams) {
    const message = `operand '${field}': expected ${groups * unit} neighbouring streams, aligned to ${unit}`;
    tables.faults.reportRecord("LPU4008", burst, instruction.cycle, message);
    return 0;
  }
  return unit * groups;
}

/** The source of an ALU operand. */
export function sourceOf(instruction: TimedInstruction, field: string): Source {
  const value = instruction.fields[field];
  return typeof value === "object" ? value : { constant: 0 };
}

export const elementType = (instruction: TimedInstruction, field: string): StreamType => typeField(instruction, field);
