/**
 * The bursts of a program in columns, with what each moves, computes and costs by itself.
 */

import { at } from "../diagnostics.js";
import type { UnitKind } from "../ir/isa.js";
import { type EntryProgram, type QueueNumber, queueCount, queuePlace, type TimedInstruction } from "../ir/program.js";
import type { Target } from "../ir/target.js";
import { dispatchEnergy, type EnergyClass, executionEnergy, laneOperationsOf, macsOf } from "./energy.js";
import { operandsOf } from "./operands.js";

/** Bursts by chip, queue and cycle. Columns of length `size`; units of a column are of the whole burst. */
export interface Bursts {
  readonly size: number;
  readonly instructions: readonly TimedInstruction[];
  readonly chip: Int32Array;
  readonly queue: Int32Array;
  /** Dispatch of the first execution, and of the last. */
  readonly cycle: Int32Array;
  readonly last: Int32Array;
  readonly count: Int32Array;
  readonly interval: Int32Array;
  /** Index into Program.origins. */
  readonly origin: Int32Array;
  /** Byte vectors that it takes from streams, and gives to them. */
  readonly taken: Float64Array;
  readonly given: Float64Array;
  /** Multiply-accumulates of the MXM with padding, or lane operations of an ALU. */
  readonly operations: Float64Array;
  /** Femtojoules, dispatch and the flights of what it gives included. */
  readonly energy: Float64Array;
  /** First burst of a queue, and one past its last. */
  readonly ofQueue: (chip: number, queue: QueueNumber) => readonly [number, number];
  /** The last burst of a queue that starts at or before a cycle, or -1. */
  readonly lastStarted: (chip: number, queue: QueueNumber, cycle: number) => number;
}

/** Cycles that an entry takes: those of its longest chip. */
export const programCycles = ({ entry }: EntryProgram): number => Math.max(0, ...entry.cycles);

/**
 * The bursts of a program. Their femtojoules, which lack those of flights until these are known, are added to `totals` by class;
 * what flows at any time is no burst's.
 */
export function burstsOf(program: EntryProgram, totals: Record<EnergyClass, number>): Bursts {
  const { target, chips } = program;
  const instructions = chips.flatMap(({ queues }) => queues.flat());
  const size = instructions.length;
  const column = (): Int32Array => new Int32Array(size);
  const [chip, queue, cycle, last, count, interval, origin] = Array.from({ length: 7 }, column) as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const [taken, given, operations, energy] = Array.from({ length: 4 }, () => new Float64Array(size)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const queues = queueCount(target);
  const first = new Int32Array(chips.length * queues + 1);
  const operands = operandsOf(target);
  let burst = 0;
  for (const [chipIndex, { queues: own }] of chips.entries()) {
    for (let queueIndex = 0; queueIndex < queues; queueIndex++) {
      for (const instruction of at(own, queueIndex, "queue")) {
        const [takes, gives] = vectorsOf(operands, instruction);
        const execution = executionEnergy(target, instruction, takes, gives);
        const n = instruction.count;
        chip[burst] = chipIndex;
        queue[burst] = queueIndex;
        cycle[burst] = instruction.cycle;
        last[burst] = instruction.cycle + (n - 1) * instruction.interval;
        count[burst] = n;
        interval[burst] = instruction.interval;
        origin[burst] = instruction.origin;
        taken[burst] = takes * n;
        given[burst] = gives * n;
        operations[burst] = (macsOf(target, instruction) + laneOperationsOf(target, instruction)) * n;
        energy[burst] = (execution.femtojoules + dispatchEnergy()) * n;
        totals[execution.kind] += execution.femtojoules * n;
        totals.dispatch += dispatchEnergy() * n;
        burst++;
      }
      first[chipIndex * queues + queueIndex + 1] = burst;
    }
  }
  const ofQueue = (chip: number, queue: QueueNumber): readonly [number, number] => [
    first[chip * queues + queue] as number,
    first[chip * queues + queue + 1] as number,
  ];
  return {
    ...{ size, instructions, chip, queue, cycle, last, count, interval, origin, taken, given, operations, energy },
    ofQueue,
    lastStarted: (chip, queue, at) => {
      const [from, to] = ofQueue(chip, queue);
      let [low, high] = [from, to];
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((cycle[middle] as number) <= at) low = middle + 1;
        else high = middle;
      }
      return low === from ? -1 : low - 1;
    },
  };
}

function vectorsOf(operands: ReturnType<typeof operandsOf>, instruction: TimedInstruction): [number, number] {
  let takes = 0;
  let gives = 0;
  operands.takes(instruction, ({ streams }) => {
    takes += streams;
  });
  operands.gives(instruction, ({ streams }) => {
    gives += streams;
  });
  return [takes, gives];
}

/** Units as people name them: the three queues of an MXM plane are one. */
export const UNITS = ["mem", "vxm", "mxm", "sxm"] as const;
export type Unit = (typeof UNITS)[number];

const UNIT_OF: Readonly<Record<UnitKind, Unit>> = {
  mem: "mem",
  vxm: "vxm",
  mxmWeights: "mxm",
  mxmActivations: "mxm",
  mxmAccumulate: "mxm",
  sxm: "sxm",
};

export const unitOf = (target: Target, queue: QueueNumber): Unit => UNIT_OF[queuePlace(target, queue).unit];
