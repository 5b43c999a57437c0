/**
 * How the maximum of groups of lanes is made in steps, in each of which every lane takes the greatest of a few.
 *
 * What passes an SXM takes a fraction of the time where lanes stay in their superlanes. So lanes of a superlane become one, a
 * permutation deals what is left out to the lanes of every superlane, and these become one again: [4] of 16, [8] of 64 and [8]
 * of 8 make one of 256 with one permutation. That wants groups that have superlanes, or a panel, for themselves. Others are
 * rotated: after a step with window w every lane holds the maximum of the w lanes from its own on, around the group.
 */

import { DTYPES } from "../../../ir/dtype.js";
import type { StorageType } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { largestDivisor } from "../layout/digits.js";

/** The lane that a lane takes, where its group begins at lane `start`. */
export type LaneSource = (lane: number, start: number) => number;

/** One step: the lanes that a lane takes beside its own, or in place of it. */
export interface MaxStep {
  readonly keeps: boolean;
  readonly sources: readonly LaneSource[];
  /** Whether no lane takes one of another superlane. */
  readonly within: boolean;
}

/** Groups of lanes, and how many vectors have them. */
export interface Groups {
  /** First columns. */
  readonly starts: readonly number[];
  /** Lanes of each. */
  readonly n: number;
  readonly vectors: number;
}

/** The steps that take the fewest cycles. */
export const stepsOf = (target: Target, dtype: StorageType, { starts, n, vectors }: Groups): MaxStep[] => {
  const most = mostLeaves(target, dtype, vectors);
  const rotated = Array.from({ length: most - 1 }, (_, i) => rotations(n, i + 2));
  const ways = [...rotated, ...dealtWays(target, most, starts, n)];
  return ways.reduce((best, way) => (cyclesOf(target, way) < cyclesOf(target, best) ? way : best));
};

/** Vectors from which on a maximum leaves streams to others: it is no longer what all wait for. */
const MANY = 2048;

/** Leaves that a step may have: all arrive at once, and leave streams and ALUs to others. */
const mostLeaves = ({ streams, sxmQueues, alus }: Target, dtype: StorageType, vectors: number): number => {
  const bytes = vectors < MANY ? DTYPES[dtype].bytes : DTYPES.f32.bytes;
  return Math.min(Math.floor((5 * streams) / 8 / bytes), sxmQueues, alus);
};

/** From reading rows to having written what a step makes of them, and as much for each. */
const cyclesOf = ({ timing, sxm }: Target, steps: readonly MaxStep[]): number =>
  steps.reduce((sum, { keeps, sources, within }) => {
    const leaves = sources.length + (keeps ? 1 : 0);
    const turn = within ? timing.sxmDistribute : timing.sxmPermute;
    const way = timing.memRead + 2 * sxm + turn + timing.vxmEntry + timing.memWrite;
    return sum + way + timing.vxmAlu * Math.max(1, Math.ceil(Math.log2(leaves)));
  }, 0);

/* ---------- around a group ---------- */

/** In each step so many windows become one. */
const rotations = (n: number, windows: number): MaxStep[] => {
  const steps: MaxStep[] = [];
  for (let window = 1; window < n; window = Math.min(n, window * windows)) {
    const width = window;
    const sources = Array.from({ length: Math.min(windows, Math.ceil(n / width)) - 1 }, (_, i) =>
      around(n, Math.min((i + 1) * width, n - width)),
    );
    steps.push({ keeps: true, sources, within: false });
  }
  return steps;
};

/** Lanes outside of the group stay. */
const around =
  (n: number, shift: number): LaneSource =>
  (lane, start) =>
    lane < start || lane >= start + n ? lane : start + ((lane - start + shift) % n);

/* ---------- by superlanes ---------- */

/** Ways with one step across superlanes, or two where groups do not begin and end with superlanes and have a panel each. */
const dealtWays = (target: Target, most: number, starts: readonly number[], n: number): MaxStep[][] => {
  const { superlane, lanes } = target;
  const whole = [n, ...starts].every((column) => column % superlane === 0);
  if (!whole && new Set(starts.map((start) => Math.floor(start / lanes))).size < starts.length) return [];
  const counts = whole ? divisorsOf(superlane) : Array.from({ length: most }, (_, i) => i + 1);
  return counts.flatMap((count) => {
    const before = whole ? joined(superlane, count, most) : folded(n, count);
    const left = Math.ceil(n / count);
    if (whole && left === 1) return [before];
    return divisorsOf(superlane)
      .filter((classes) => Math.ceil(left / classes) <= most)
      .map((classes) => [
        ...before,
        dealt(superlane, { left, apart: whole ? count : 1, classes }),
        ...joined(superlane, classes, most),
      ]);
  });
};

/** Every lane takes the greatest of `count` lanes of its superlane, from its own on: where these repeat, that of all. */
const joined = (superlane: number, count: number, most: number): MaxStep[] => {
  let window = 1;
  return radicesOf(count, most).map((radix) => {
    const width = window;
    window *= radix;
    const sources = Array.from({ length: radix - 1 }, (_, i): LaneSource => {
      const shift = (i + 1) * width;
      return (lane) => lane - (lane % superlane) + ((lane + shift) % superlane);
    });
    return { keeps: true, sources, within: true };
  });
};

/** The first lanes of a group take the others, `count` lanes each. */
const folded = (n: number, count: number): MaxStep[] => {
  const width = Math.ceil(n / count);
  const sources = Array.from({ length: count - 1 }, (_, i): LaneSource => {
    const shift = (i + 1) * width;
    return (lane, start) => start + Math.max(0, Math.min(lane - start + shift, n - 1));
  });
  return count === 1 ? [] : [{ keeps: true, sources, within: false }];
};

/** What a group comes down to: so many lanes, of which one is `apart` lanes behind the other. */
interface Left {
  readonly left: number;
  readonly apart: number;
  /** Lanes of a superlane that take others than one another. */
  readonly classes: number;
}

/** Deals what is left of a group to the lanes of every superlane. */
const dealt = (superlane: number, { left, apart, classes }: Left): MaxStep => ({
  keeps: false,
  sources: Array.from(
    { length: Math.ceil(left / classes) },
    (_, i): LaneSource =>
      (lane, start) =>
        start + apart * Math.min(((lane % superlane) % classes) + classes * i, left - 1),
  ),
  within: false,
});

const divisorsOf = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);

/** Factors of a number, each at most `most` and as alike as can be, few of them; none of 1. */
const radicesOf = (count: number, most: number): number[] => {
  const factor = largestDivisor(count, Math.floor(Math.sqrt(count)));
  if (count <= most || factor === 1) return count === 1 ? [] : [count];
  return [factor, ...radicesOf(count / factor, most)];
};
