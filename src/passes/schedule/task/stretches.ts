/**
 * Stretches: where weights take all streams, a load goes on around what flies on some of them, in several bursts, and holds its
 * place in the array's queue of loads all the while.
 */

import { at } from "../../../diagnostics.js";
import type { TilePlace } from "../place/chunk.js";
import { bankOf, type Half, pairAt } from "../chip/machine.js";
import { dispatchOf } from "../chip/ports.js";
import type { Scheduler } from "../state.js";
import { pickStreams } from "./trial.js";

/** Executions of a load, one a cycle, `delay` cycles after its first, with `done` of them before. */
export interface Stretch {
  readonly delay: number;
  readonly done: number;
  readonly count: number;
}

/** A load that goes on in so many stretches, or cycles for one of loading, is not worth its bursts. */
const MOST_STRETCHES = 4;
const MOST_CYCLES = 4;

export const inOne = (count: number): readonly Stretch[] => [{ delay: 0, done: 0, count }];

/** Cycles in which a load of so many executions may go on. */
interface Window {
  readonly first: number;
  readonly last: number;
  readonly count: number;
}

interface Found {
  /** Of the first stretch, and of the last execution. */
  readonly start: number;
  readonly last: number;
  readonly stretches: readonly Stretch[];
}

/** The latest cycles of a window that are free for the executions that they are to have; undefined if these are too few, or too scattered. */
export const latestStretches = (
  { first, last, count }: Window,
  isFree: (cycle: number, execution: number) => boolean,
): Found | undefined => {
  const from = Math.max(first, last - MOST_CYCLES * count);
  const cycles: number[] = [];
  let gaps = 0;
  for (let cycle = last; cycle >= from && cycles.length < count; cycle--) {
    if (!isFree(cycle, count - 1 - cycles.length)) continue;
    if (cycles.length > 0 && cycles.at(-1) !== cycle + 1) gaps++;
    if (gaps >= MOST_STRETCHES) return undefined;
    cycles.push(cycle);
  }
  const [end, start] = [cycles[0], cycles.at(-1)];
  if (cycles.length < count || end === undefined || start === undefined) return undefined;
  const stretches: { delay: number; done: number; count: number }[] = [];
  for (const [done, cycle] of cycles.reverse().entries()) {
    const before = stretches.at(-1);
    if (before !== undefined && start + before.delay + before.count === cycle) before.count++;
    else stretches.push({ delay: cycle - start, done, count: 1 });
  }
  return { start, last: end, stretches };
};

/** Whether weights that take all streams can load in a cycle, from where they lie if they do. */
export const isLoadFree = (s: Scheduler, half: Half, cycle: number, place: TilePlace | undefined): boolean => {
  const diagonal = cycle + s.target.timing.mxmWeightSkew - s.target.mxm;
  return (
    half.outward.every((line) => s.trial.figure.free(line, diagonal, 1)) &&
    (place === undefined ||
      place.pairs.every((index, way) => {
        const pair = pairAt(half, index);
        const dispatch = dispatchOf(s, pair, { inward: false, diagonal });
        const bank = pair.writeBank[bankOf(s.target, at(place.addresses, way, "address"))];
        return s.trial.figure.free(pair.read, dispatch, 1) && s.trial.figure.free(bank, dispatch, 1);
      }))
  );
};

/** Streams for a load whose first vectors pass the VXM's position at `diagonal`; a delay, below 0, if they are not free for all stretches. */
export const pickLoadStreams = (
  s: Scheduler,
  half: Half,
  width: number,
  diagonal: number,
  stretches: readonly Stretch[],
): number => {
  let stream = 0;
  for (const { delay, count } of stretches) {
    stream = pickStreams(s, { half, use: "weights", width, diagonal: diagonal + delay, length: count });
    if (stream < 0) return stream;
  }
  return stream;
};
