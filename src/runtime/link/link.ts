/**
 * Linking: a program becomes an ordered list of block operations, and is proved free of hazards on the way.
 *
 * A program has no control that depends on data, so all of its time can be replayed before any data is there. The steps are
 * the calls below: tables, streams, SRAM, MXM, links, order, and emission of kernel calls. What comes out is flat (kernel numbers and
 * their int32 arguments) and can be executed any number of times. A broken rule is a MachineFault, the earliest there is;
 * only addresses that are data (Gather, Scatter) are left to check when the program runs. The result depends on the
 * program alone.
 */

import { DIAGNOSTICS } from "../../diagnostics.js";
import { flippedSend } from "../disturb.js";
import type { MachineMemory } from "../kernels/table.js";
import { expandFetches } from "./fetch.js";
import { type FixedBytes, BufferLayout, FAULT_BYTES, type Findings } from "../emit/layout.js";
import { linkMemory, type MemoryFindings } from "./memory.js";
import { linkMxm } from "./mxm.js";
import { createNodes } from "./nodes.js";
import { addBurstNodes, linkOperands, orderNodes } from "./order.js";
import { matchStreams } from "./streams.js";
import { buildTables, raiseAt, type Tables } from "./tables.js";
import { checkMaps, emitItem, wirePlace } from "../emit/units.js";
import { linkWires } from "./wires.js";
import type { Counters, MachineProgram } from "../program.js";

export interface LinkedProgram {
  /** Kernel of each call, by number in KERNEL_NAMES, the address of its arguments, and its chip. */
  readonly kernels: Int32Array;
  readonly pointers: Int32Array;
  readonly chips: Int32Array;
  /** Pairs: a call that takes what came from another chip, and how many calls there are once it is there. */
  readonly crossings: Int32Array;
  /** All arguments, to be put at `wordsAddress`. */
  readonly words: Int32Array;
  readonly wordsAddress: number;
  readonly data: readonly FixedBytes[];
  /** One past the last byte of memory that a run needs. */
  readonly end: number;
  /** Of each chip: one past the last cycle in which any instruction has an effect. */
  readonly cycles: readonly number[];
  readonly counters: readonly Counters[];
  /** By row of SRAM: written when the program has ended, and written by the program. */
  readonly written: MemoryFindings["written"];
  readonly changed: MemoryFindings["changed"];
  /** By outer wire: addresses of its vectors. */
  readonly outer: readonly (readonly number[])[];
  /** Empties the fault words. */
  readonly clearNoted: (memory: MachineMemory) => void;
  /** Raises the earliest fault that the fault words describe, if they describe one. */
  readonly raiseNoted: (memory: MachineMemory) => void;
  /** How many block operations and how many bursts there are. */
  readonly operations: number;
  readonly bursts: number;
}

/**
 * `initial`: by row of SRAM, 1 where constants or inputs lie when the program starts. `start`: where memory is free beyond
 * SRAM, behind it and the programs that were linked before.
 */
export function link(program: MachineProgram, initial: Uint8Array, start: number): LinkedProgram {
  const { tables, matches } = expandFetches(program, (current) => {
    const tables = buildTables(current);
    return { tables, matches: matchStreams(tables) };
  });
  const nodes = createNodes(tables);
  addBurstNodes(tables, nodes);
  const memory = linkMemory(tables, nodes, initial);
  const wires = linkWires(tables, nodes);
  const mxm = linkMxm(tables, nodes);
  checkMaps(tables);
  tables.faults.raiseEarliest(tables);
  linkOperands(tables, nodes, matches, mxm);
  const order = orderNodes(tables, nodes);
  const { flip } = program.disturbed ?? {};
  const flipped = flip && flippedSend(program, flip);
  const findings: Findings = { tables, nodes, matches, memory, mxm, wires: wires.segments, initial, flipped };
  const layout = new BufferLayout(findings, start);
  const outer = wires.outer.map((vectors) =>
    vectors.map(({ burst, index }) => wirePlace(layout, burst, index).address),
  );
  const emitAll = (): void => {
    for (let item = 0; item < order.node.length; item++) {
      const node = order.node.at(item);
      layout.nextItem(item, nodes.burst.at(node));
      emitItem(layout, node, order.first.at(item), order.count.at(item));
    }
  };
  emitAll();
  layout.place(order);
  emitAll();
  const wordsAddress = layout.wordsAddress();
  return {
    kernels: layout.kernels.view(),
    pointers: layout.starts.view().map((start) => wordsAddress + start * 4),
    words: layout.words.view(),
    wordsAddress,
    chips: layout.chips.view(),
    crossings: layout.crossings.view(),
    data: layout.data,
    end: wordsAddress + layout.words.length * 4 + 64,
    cycles: tables.cycles,
    counters: tables.counters,
    written: memory.written,
    changed: memory.changed,
    outer,
    clearNoted: ({ u8 }) => void u8.fill(0, layout.dataStart, layout.dataStart + program.chips.length * FAULT_BYTES),
    raiseNoted: (machine) => raiseNoted(tables, machine, layout.dataStart),
    operations: order.node.length,
    bursts: tables.instructions.length,
  };
}

function raiseNoted(tables: Tables, { i32 }: MachineMemory, start: number): void {
  const noted = tables.program.chips.flatMap((_, chip) => {
    const words = (start + chip * FAULT_BYTES) / 4;
    const [kind = 0, burst = 0, execution = 0, address = 0] = i32.subarray(words, words + 4);
    const cycle = tables.cycle.at(burst) + execution * tables.interval.at(burst);
    return kind === 0 ? [] : [{ kind, burst, cycle, address }];
  });
  const [first] = noted.sort((a, b) => a.cycle - b.cycle);
  if (first === undefined) return;
  const { kind, burst, cycle, address } = first;
  const limit = 2 * tables.target.rowsPerBank;
  if (kind === 3) raiseAt(tables, "LPU4018", burst, cycle, DIAGNOSTICS.LPU4018.title);
  if (kind === 1) raiseAt(tables, "LPU4014", burst, cycle, `expected a row below ${limit}, got ${address}`);
  raiseAt(tables, "LPU4005", burst, cycle, `row ${address} was never written`);
}
