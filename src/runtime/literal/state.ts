/**
 * What the literal machine remembers: for each chip its stream registers, units, accumulators and links, plus the agenda.
 *
 * Everything here is plain mutable data that `literal.ts` advances and the handlers of `semantics.ts` change. The registers
 * are literal: `registers[stream][position + mxm]` is the byte vector that stands there in this cycle, or undefined.
 */

import { at, DIAGNOSTICS, type DiagnosticCode } from "../../diagnostics.js";
import { type ArrayKind, arrayDepth } from "../../ir/isa.js";
import { type ChipProgram, type QueuePlace, queueCount } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import type { SendPlace } from "../disturb.js";
import { type FaultPlace, raise } from "../fault.js";
import type { LaneValues } from "../lanes.js";
import type { Counters, MachineProgram, Vector } from "../program.js";
import type { Sram } from "../sram.js";

/** What has been sent on a link and not received yet. */
export type Inbox = { readonly arrival: number; readonly vector: Vector; readonly check: number }[];

/** Weights of a plane (i8: lanes x lanes) or of a pair (f16: lanes x halfLanes), column by column. */
export interface LoadedWeights {
  readonly kind: ArrayKind;
  readonly depth: number;
  readonly values: Float64Array;
  lastLoad: number;
}

export interface Plane {
  buffer: LoadedWeights | undefined;
  /** In the order in which they were dispatched; weights meet ABCs dispatched at `from` or later. */
  installs: { readonly from: number; readonly weights: LoadedWeights }[];
  /** Bursts past the buffer, and when they change the array for ABCs by their dispatch. */
  changes: { readonly weights: LoadedWeights; readonly from: number; readonly until: number }[];
  readonly accumulators: ({ readonly kind: LoadedWeights["kind"]; readonly sums: Float64Array } | undefined)[];
  products: {
    readonly cycle: number;
    readonly kind: LoadedWeights["kind"];
    readonly sums: Float64Array;
    readonly execution: Execution;
  }[];
}

/** The ports of a slice: cycle and bank (-1: both) of the last read and write, and until when an address generator runs. */
export interface Port {
  cycle: number;
  bank: number;
  generatorUntil: number;
}

export interface Slice {
  readonly read: Port;
  readonly write: Port;
  lastScatter: number;
}

export interface ChipState {
  readonly index: number;
  readonly program: ChipProgram;
  readonly registers: (Vector | undefined)[][];
  readonly slices: readonly Slice[];
  /** Cycle of the last write to a row, by row index. */
  readonly writes: Map<number, number>;
  /** Results of each ALU by dispatch cycle. */
  readonly results: readonly Map<number, LaneValues>[];
  /** Vector length of the unit of each queue. */
  readonly lengths: number[];
  /** By hemisphere (W first) and plane. */
  readonly planes: readonly (readonly Plane[])[];
  readonly inbox: Inbox[];
  readonly sentAt: number[];
  /** First cycle at which the queue may dispatch again. */
  readonly free: number[];
  /** The same after all text that the queue has. */
  readonly ends: number[];
  notified: number;
  /** From here on everything stands that has changed so far: rows, registers, weights, products, sums, queues. */
  cycles: number;
  readonly counters: Counters;
}

/** Notes a change that stands, or may be used, from a cycle on. */
export const changed = (state: ChipState, cycle: number): void => {
  state.cycles = Math.max(state.cycles, cycle);
};

/** One execution of an instruction: `cycle` is that of its own dispatch, `index` its place in the burst. */
export interface Execution extends FaultPlace {
  readonly machine: LiteralMachine;
  readonly state: ChipState;
  readonly place: QueuePlace;
  readonly position: number;
  readonly index: number;
  /** Byte vectors that were taken, by stream field. */
  readonly operands: Map<string, readonly Vector[]>;
}

/** What an instruction does at dispatch; what it returns is done once its operands have been taken. */
export type Handler = (execution: Execution) => (() => void) | undefined;

export interface LiteralMachine {
  readonly program: MachineProgram;
  readonly target: Target;
  readonly sram: Sram;
  readonly chips: readonly ChipState[];
  now: number;
  /** What sends the vector of which a bit flips. */
  readonly flipped: SendPlace | undefined;
  readonly give: (execution: Execution, field: string, vectors: readonly Vector[]) => void;
  /** Where a link leads; nowhere if it is not connected. */
  readonly inboxOf: (chip: number, link: number) => Inbox | undefined;
  /** Adds fetched text to the queue of this execution. */
  readonly fetch: (execution: Execution, text: Uint8Array) => void;
}

export function createChip(program: MachineProgram, index: number): ChipState {
  const { target } = program;
  const queues = queueCount(target);
  const never = (): Port => ({ cycle: Number.NEGATIVE_INFINITY, bank: 0, generatorUntil: Number.NEGATIVE_INFINITY });
  const plane = (): Plane => ({
    buffer: undefined,
    installs: [],
    changes: [],
    accumulators: Array.from({ length: target.accumulatorRows }, () => undefined),
    products: [],
  });
  return {
    index,
    program: at(program.chips, index, "chip"),
    registers: Array.from({ length: 2 * target.streams }, () =>
      Array.from({ length: 2 * target.mxm + 1 }, () => undefined),
    ),
    slices: Array.from({ length: 2 * target.slices }, () => ({
      read: never(),
      write: never(),
      lastScatter: Number.NEGATIVE_INFINITY,
    })),
    writes: new Map(),
    results: Array.from({ length: target.alus }, () => new Map()),
    lengths: Array.from({ length: queues }, () => target.lanes),
    planes: [0, 1].map(() => Array.from({ length: target.planes }, plane)),
    inbox: Array.from({ length: target.links }, () => []),
    sentAt: Array.from({ length: target.links }, () => Number.NEGATIVE_INFINITY),
    free: Array.from({ length: queues }, () => 0),
    ends: Array.from({ length: queues }, () => 0),
    notified: Number.NaN,
    cycles: 0,
    counters: { executions: {}, macs: 0 },
  };
}

export function createWeights(target: Target, kind: LoadedWeights["kind"]): LoadedWeights {
  const depth = arrayDepth(target, kind);
  return { kind, depth, values: new Float64Array(target.lanes * depth), lastLoad: Number.NEGATIVE_INFINITY };
}

/** Raises a fault of this execution, at this cycle. */
export function broken(execution: Execution, code: DiagnosticCode, message: string = DIAGNOSTICS[code].title): never {
  return raise(code, { ...execution, cycle: execution.machine.now }, message);
}

export const hemisphereIndex = ({ hemisphere }: QueuePlace): number => (hemisphere === "E" ? 1 : 0);
