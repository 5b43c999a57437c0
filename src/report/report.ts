/**
 * What one run of an entry will cost, from the Program alone: nothing is executed, because in a static schedule nothing
 * needs to be. Cycles are the compiler's prediction, which the machine must meet exactly.
 *
 * Utilisation is useful work over peak work: `macs` counts the model's multiply-accumulates without padding, so lanes and
 * columns that are filled with zeros count as idle. `mxmBusy` counts cycles in which an activation enters the array, useful
 * or not; the distance between the two is padding, the distance of `mxmBusy` from 1 is what the schedule leaves idle.
 */

import type { Kept, Sharding, WeightFacts } from "../ir/facts.js";
import { at } from "../diagnostics.js";
import { DTYPES } from "../ir/dtype.js";
import { elementCount } from "../ir/graph.js";
import type { Binding, EntryPoint, Placement, EntryProgram, TimedInstruction } from "../ir/program.js";
import { memQueue, mxmQueue, rowsOfPlane } from "../ir/program.js";
import { type Hemisphere, peakMacs, sramBytes, type Target } from "../ir/target.js";
import { programCycles } from "./bursts.js";
import { type StateRoom, stateRoom } from "./capacity.js";
import { operandsOf } from "./operands.js";

export interface BuildReport {
  readonly name: string;
  readonly target: string;
  readonly clockMHz: number;
  readonly chips: number;
  /** What each chip has of the cycles: it waits before `start`, and is done at `end`. */
  readonly busy: readonly { readonly start: number; readonly end: number }[];
  /** Cycles from the begin of an inference to that of the next, which may begin before a chip is done with the one before. */
  readonly interval: number;
  /** Bytes that go over links. */
  readonly linkBytes: number;
  readonly cycles: number;
  readonly microseconds: number;
  /** Where chips work one behind the other, as soon as each is done a further inference follows. */
  readonly inferencesPerSecond: number;
  readonly macs: number;
  /** Useful share of the peak, 0 to 1. */
  readonly mxmUtilization: number;
  /** Share of cycles in which an activation enters the array, 0 to 1. */
  readonly mxmBusy: Readonly<Record<Hemisphere, number>>;
  readonly sram: SramUse;
  /** Users times context that SRAM would hold; null without states. */
  readonly stateRoom: StateRoom | null;
  readonly streams: { readonly used: number; readonly available: number; readonly vectorsPerCycle: number };
  readonly instructions: number;
  readonly textBytes: number;
  /** Inputs for which the host does work before the program starts, and the ONNX node that it does. */
  readonly hostWork: readonly { readonly input: string; readonly origin: string }[];
  readonly pcie: { readonly inputBytes: number; readonly outputBytes: number; readonly microseconds: number };
  /** What is not in fp16 but in four bytes, by reason. A program alone does not know: then it is empty. */
  readonly kept: readonly Kept[];
  /** Weights in FP8; null where there are none, and none were asked for. */
  readonly weights: WeightFacts | null;
  /** How products are shared among chips; null where that was not asked for. A program alone does not know. */
  readonly sharding: Sharding | null;
  /** Further chips that were asked for, and would have nothing to do. A program alone does not know. */
  readonly idle: number;
  /** All entries of the program; everything else here is of the first. */
  readonly entries: readonly { readonly name: string; readonly cycles: number }[];
}

/** Bytes of whole rows. Every row of SRAM that the program ever holds something in is counted once. */
export interface SramUse {
  readonly bytes: number;
  readonly constants: number;
  /** What stays from run to run. */
  readonly states: number;
  readonly inputs: number;
  /** Rows that are neither constants nor states nor inputs: intermediate results and outputs. */
  readonly scratch: number;
  readonly capacity: number;
}

export interface Performance {
  readonly cycles: number;
  readonly microseconds: number;
  readonly inferencesPerSecond: number;
  readonly pcieMicroseconds: number;
  readonly totalMicroseconds: number;
  readonly totalInferencesPerSecond: number;
  readonly mxmUtilization: number;
}

/** `text` comes from the encoder: how many instructions the queues hold after compression, and their bytes. */
export function reportProgram(
  program: EntryProgram,
  text: { readonly instructions: number; readonly bytes: number },
  kept: readonly Kept[] = [],
  weights?: WeightFacts,
  entries: readonly EntryPoint[] = [program.entry],
  interval = longestOf(busyOf(program)),
): BuildReport {
  const { target, entry } = program;
  const cycles = programCycles(program);
  const microseconds = cycles / target.clock;
  const busy = busyOf(program);
  const sram = sramUse(program);
  return {
    name: program.name,
    target: target.name,
    clockMHz: target.clock,
    chips: program.chips.length,
    busy,
    interval,
    linkBytes: linkBytes(program),
    cycles,
    microseconds,
    inferencesPerSecond: perSecond(interval / target.clock),
    macs: entry.macs,
    mxmUtilization: ratio(entry.macs, cycles * peakMacs(target) * program.chips.length),
    mxmBusy: { W: mxmBusy(program, "W", cycles), E: mxmBusy(program, "E", cycles) },
    sram,
    stateRoom: stateRoom(sram.states, sram.bytes, sram.capacity),
    streams: streamUse(program, cycles),
    instructions: text.instructions,
    textBytes: text.bytes,
    hostWork: entry.inputs.flatMap(({ name, lookup }) =>
      lookup === undefined ? [] : [{ input: name, origin: lookup.origin }],
    ),
    pcie: pcie(target, sum(entry.inputs.map(placedBytes)), sum(entry.outputs.map(placedBytes))),
    kept,
    weights: weights ?? null,
    sharding: null,
    idle: 0,
    entries: entries.map(({ name, cycles: own }) => ({ name, cycles: Math.max(0, ...own) })),
  };
}

/** From the first instruction, and the barrier before it, to the last effect. A chip alone begins with the program. */
function busyOf({ chips, target, entry }: EntryProgram): BuildReport["busy"] {
  return chips.map(({ queues }, chip) => {
    const end = at(entry.cycles, chip, "chip");
    const first = Math.min(end, ...queues.flatMap((queue) => queue.slice(0, 1).map(({ cycle }) => cycle)));
    return { start: chips.length === 1 ? 0 : Math.max(0, first - target.timing.barrier), end };
  });
}

/** Of the chip that is at work for longest: what follows begins when it is done. */
const longestOf = (busy: BuildReport["busy"]): number => Math.max(...busy.map(({ start, end }) => end - start));

function linkBytes({ chips, target }: EntryProgram): number {
  let vectors = 0;
  for (const { queues } of chips)
    for (const queue of queues) for (const { op, count } of queue) if (op === "send") vectors += count;
  return vectors * target.lanes;
}

/** Device time, and device time with the transfers at its two ends. */
export function estimatePerformance(report: BuildReport): Performance {
  const totalMicroseconds = report.microseconds + report.pcie.microseconds;
  return {
    cycles: report.cycles,
    microseconds: report.microseconds,
    inferencesPerSecond: report.inferencesPerSecond,
    pcieMicroseconds: report.pcie.microseconds,
    totalMicroseconds,
    totalInferencesPerSecond: perSecond(totalMicroseconds),
    mxmUtilization: report.mxmUtilization,
  };
}

/** The makers' own formula: bytes over the bandwidth, plus a fixed time, each way. GB/s is bytes per nanosecond. */
export function pcie(target: Target, inputBytes: number, outputBytes: number): BuildReport["pcie"] {
  const oneWay = (bytes: number): number => bytes / (target.pcieGBs * 1000) + target.pcieMicroseconds;
  return { inputBytes, outputBytes, microseconds: oneWay(inputBytes) + oneWay(outputBytes) };
}

/** Bytes that cross the link for a binding: its elements in the dtype that the chip holds, once however many copies there are. */
function placedBytes(binding: Binding): number {
  const placement = binding.placements[0];
  if (placement === undefined) return 0;
  const elements = elementCount(binding.shape) * (binding.lookup?.width ?? 1);
  return elements * DTYPES[placement.dtype].bytes;
}

/** The planes of a hemisphere work as one in fp16, so a cycle counts once however many of them take an activation in it. */
function mxmBusy(program: EntryProgram, hemisphere: Hemisphere, cycles: number): number {
  let busy = 0;
  for (const chip of program.chips) {
    const entered = new Uint8Array(cycles);
    for (let plane = 0; plane < program.target.planes; plane++) {
      for (const instruction of at(chip.queues, mxmQueue(program.target, hemisphere, plane, 1), "queue")) {
        if (instruction.op === "abc") markCycles(entered, instruction);
      }
    }
    for (let cycle = 0; cycle < cycles; cycle++) busy += entered[cycle] as number;
  }
  return ratio(busy, cycles * program.chips.length);
}

function markCycles(entered: Uint8Array, { cycle, count, interval }: TimedInstruction): void {
  for (let execution = 0; execution < count; execution++) entered[cycle + execution * interval] = 1;
}

const CONSTANT = 1;
const INPUT = 2;
const SCRATCH = 3;
const STATE = 4;

/** How many sequences SRAM would hold; null for a program without states. */
export function roomOf(program: EntryProgram): StateRoom | null {
  const { states, bytes, capacity } = sramUse(program);
  return stateRoom(states, bytes, capacity);
}

function sramUse(program: EntryProgram): SramUse {
  const { target } = program;
  const counts = [0, 0, 0, 0, 0];
  for (const [chip, { queues, constants }] of program.chips.entries()) {
    const rows = new Uint8Array(2 * target.slices * 2 * target.rowsPerBank);
    for (let slice = 0; slice < 2 * target.slices; slice++) {
      for (const instruction of at(queues, slice, "queue")) markWritten(rows, target, slice, instruction);
    }
    for (const { placements } of program.entry.inputs)
      for (const placement of placements) markPlaced(rows, INPUT, target, chip, placement);
    for (const { placements } of program.states)
      for (const placement of placements) markPlaced(rows, STATE, target, chip, placement);
    for (const { hemisphere, slice, row, rows: extent } of constants) {
      const first = rowIndex(target, hemisphere, slice, row);
      rows.fill(CONSTANT, first, first + extent);
    }
    for (let row = 0; row < rows.length; row++) {
      const holder = rows[row] as number;
      counts[holder] = (counts[holder] as number) + 1;
    }
  }
  const bytes = (holder: number): number => at(counts, holder, "count") * target.lanes;
  const constants = bytes(CONSTANT);
  const inputs = bytes(INPUT);
  const scratch = bytes(SCRATCH);
  const states = bytes(STATE);
  return {
    bytes: constants + states + inputs + scratch,
    constants,
    states,
    inputs,
    scratch,
    capacity: sramBytes(target) * program.chips.length,
  };
}

const rowIndex = (target: Target, hemisphere: Hemisphere, slice: number, row: number): number =>
  memQueue(target, hemisphere, slice) * 2 * target.rowsPerBank + row;

function markWritten(rows: Uint8Array, target: Target, slice: number, instruction: TimedInstruction): void {
  const { address } = instruction.fields;
  if (instruction.op !== "write" || typeof address !== "number") return;
  const first = slice * 2 * target.rowsPerBank + address;
  for (let execution = 0; execution < instruction.count; execution++)
    rows[first + execution * instruction.step] = SCRATCH;
}

function markPlaced(rows: Uint8Array, holder: number, target: Target, chip: number, placement: Placement): void {
  for (const { planes } of placement.panels) {
    for (const [index, plane] of planes.entries()) {
      if (plane.chip !== chip) continue;
      const first = rowIndex(target, plane.hemisphere, plane.slice, plane.row);
      rows.fill(holder, first, first + rowsOfPlane(placement, index));
    }
  }
}

/** How many of the streams are ever given a vector, and how many vectors of bytes are given in an average cycle. */
function streamUse({ target, chips }: EntryProgram, cycles: number): BuildReport["streams"] {
  const used = new Set<number>();
  let vectors = 0;
  const operands = operandsOf(target);
  for (const { queues } of chips) {
    for (const queue of queues)
      for (const instruction of queue)
        operands.gives(instruction, ({ stream, streams }) => {
          for (let byte = 0; byte < streams; byte++) used.add(stream + byte);
          vectors += streams * instruction.count;
        });
  }
  return { used: used.size, available: 2 * target.streams, vectorsPerCycle: ratio(vectors, cycles * chips.length) };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
const perSecond = (microseconds: number): number => (microseconds === 0 ? 0 : 1e6 / microseconds);
