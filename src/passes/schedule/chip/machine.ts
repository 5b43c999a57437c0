/**
 * The chip as the scheduler sees it: everything that can be busy, as timelines, and the rows of SRAM.
 *
 * Slices work in pairs of the same position, one for each byte of an fp16 vector, so pairs are what is booked; streams go
 * two and two for the same reason. Port, queue and array timelines are in cycles of dispatch, stream timelines in diagonals:
 * the cycle in which a vector passes the VXM, really or as if it flew on.
 */

import { invariant } from "../../../diagnostics.js";
import { type Hemisphere, slicePosition, type Target } from "../../../ir/target.js";
import { type Bank, type PairMemory, pairMemory } from "./memory.js";
import { type NextRun, type Timeline, timeline, timelines } from "./resources.js";

/** A hemisphere by number: 0 is west, 1 is east. */
export type Side = 0 | 1;

/** Accumulator rows are handed out in blocks of this many. */
export const ACCUMULATOR_BLOCK = 32;

/** Two neighbouring slices that are always read and written together. */
export interface Pair {
  /** Hops from the VXM, the same in both hemispheres. */
  readonly position: number;
  /** The read port, and the write port: cycles in which they work. */
  readonly read: Timeline;
  readonly write: Timeline;
  /** Cycles in which each bank is read, and written: a bank may not do both in one cycle. */
  readonly readBank: readonly [Timeline, Timeline];
  readonly writeBank: readonly [Timeline, Timeline];
  /** Cycles in which the queues dispatch. */
  readonly issue: Timeline;
  readonly memory: PairMemory;
}

/** Pairs that hold one block of rows together. */
export type PairGroup = readonly number[];

/** A hemisphere, with all in it that can be busy: half of the chip, but for the VXM. */
export interface Half {
  readonly side: Side;
  readonly hemisphere: Hemisphere;
  readonly pairs: readonly Pair[];
  /** Where an fp16 panel may lie, and where an fp32 one may: in two pairs of one position. */
  readonly singles: readonly PairGroup[];
  readonly couples: readonly PairGroup[];
  /** Streams, two and two: towards the VXM, and away from it. */
  readonly inward: readonly Timeline[];
  readonly outward: readonly Timeline[];
  /** The VXM's own stream registers, by direction: inward streams of this hemisphere end in them, outward ones of the other start. */
  readonly crossing: readonly Timeline[];
  /** Cycles in which activations enter the array. */
  readonly array: Timeline;
  /** Cycles in which the weight buffer is being filled, until it is installed. */
  readonly buffer: Timeline;
  /** Cycles in which each block of accumulator rows holds sums. */
  readonly accumulators: readonly Timeline[];
  readonly sxm: readonly Timeline[];
}

/** Links by number: cycles in which they take a vector of this chip, and in which one is received from them. */
export interface LinkLines {
  readonly send: readonly Timeline[];
  readonly receive: readonly Timeline[];
}

export const newLinks = ({ links }: Target): LinkLines => ({ send: timelines(links), receive: timelines(links) });

export const newHalf = (target: Target, side: Side, next?: NextRun): Half => {
  const pairs = Array.from({ length: Math.floor(target.slices / 2) }, (_, pair) => newPair(target, pair, next));
  const couples = pairs.flatMap(({ position }, pair) =>
    pair % 2 === 0 && pairs[pair + 1]?.position === position ? [[pair, pair + 1]] : [],
  );
  const blocks = Math.floor((target.planes * target.accumulatorRows) / ACCUMULATOR_BLOCK);
  return {
    side,
    hemisphere: side === 0 ? "W" : "E",
    pairs,
    singles: pairs.map((_, pair) => [pair]),
    couples,
    inward: timelines(target.streams / 2, next),
    outward: timelines(target.streams / 2, next),
    crossing: timelines(target.streams / 2, next),
    array: timeline(),
    buffer: timeline(),
    accumulators: timelines(blocks),
    sxm: timelines(target.sxmQueues, next),
  };
};

const newPair = (target: Target, pair: number, next: NextRun | undefined): Pair => ({
  position: slicePosition(target, "E", 2 * pair),
  read: timeline(next),
  write: timeline(next),
  readBank: [timeline(next), timeline(next)],
  writeBank: [timeline(next), timeline(next)],
  issue: timeline(next),
  memory: pairMemory(target),
});

export const pairAt = (half: Half, index: number): Pair => {
  const pair = half.pairs[index];
  invariant(pair !== undefined, "a pair of slices exists");
  return pair;
};

/** Hops of each of some pairs from the VXM. */
export const positionsOf = (half: Half, pairs: PairGroup): number[] =>
  pairs.map((index) => pairAt(half, index).position);

export const lineAt = (lines: readonly Timeline[], index: number): Timeline => {
  const line = lines[index];
  invariant(line !== undefined, "a timeline exists");
  return line;
};

export const memoriesOf = (half: Half, pairs: PairGroup): PairMemory[] =>
  pairs.map((index) => pairAt(half, index).memory);

export const bankOf = (target: Target, address: number): Bank => (address < target.rowsPerBank ? 0 : 1);

/** First stream of a pair of streams: eastward streams come first, and inward is eastward in the west. */
export const streamNumber = (target: Target, { side }: Half, inward: boolean, pair: number): number =>
  2 * pair + (inward === (side === 0) ? 0 : target.streams);
