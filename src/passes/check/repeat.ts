/**
 * What repeats itself in a program, so that it need not be proved more than once: layers that are alike are scheduled alike.
 *
 * In a stretch, every burst is the one a period before it, some cycles later: all its operands are the same but the row at
 * which a read starts, and then both read nothing but rows of constants, in the same bank. This is compared here, burst by
 * burst; nobody is believed. A program from whose stretch whole periods are left out is legal if and only if the program is:
 * what a rule asks of an execution are the last events on a unit, register, row or array before it. In the stretch these are
 * at most two periods back, or before it and then the same for all periods; and what is kept at both ends of what is left
 * out is no shorter than that. Rows that were written stay so. So every execution that was left out finds what the one some periods
 * before it finds. Where constants lie in several places one after the other, a program has several stretches. They do not
 * overlap, so what is said of one holds of a program from which periods of another were left out. layers.ts says what else
 * must hold for the values to be those of the plan.
 */

import { at } from "../../diagnostics.js";
import {
  type ChipProgram,
  type EntryProgram,
  type FieldValue,
  memQueue,
  mxmQueue,
  type Queues,
  type TimedInstruction,
} from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { haveSameForm } from "./burst.js";

/** In [from + period, to) every burst has its like a period before it, and in [from, to - period) one a period after it. */
export interface Stretch {
  readonly period: number;
  /** By so many cycles at most two executions are apart of which one finds what the other leaves on a unit or a stream. */
  readonly reach: number;
  readonly from: number;
  readonly to: number;
}

/** Periods of a stretch that are left out. */
export interface Cut {
  readonly stretch: Stretch;
  /** The first cycle that is left out; the first one after that takes its place. */
  readonly cycle: number;
  /** How many periods are left out. */
  readonly periods: number;
  /** Cycles that are left out before it: by so many its place in the shortened program is earlier. */
  readonly earlier: number;
}

/** A program without some periods of its stretches: what came after them comes so much earlier. */
export interface Shortened {
  readonly program: EntryProgram;
  /** In order of cycles; at least one. */
  readonly cuts: readonly Cut[];
}

/** Periods of a stretch that are kept before those that are left out, of some of which values are compared; and after them. */
export const KEPT = 5;
const KEPT_AFTER = 2;
/** Fewer are not worth it. */
const FEWEST_PERIODS = 4;
/** Places, evenly over a queue's bursts, around which a stretch is sought. */
const ANCHORS = 12;

/** Undefined if a program does not repeat itself often enough. Of one chip alone: what goes over links has times of its own. */
export const shortened = (program: EntryProgram): Shortened | undefined => {
  const { target, chips, links } = program;
  const [chip] = chips;
  if (chip === undefined || chips.length > 1 || links.length > 0) return undefined;
  const cuts: Cut[] = [];
  let earlier = 0;
  for (const stretch of stretchesOf(target, chip)) {
    const periods = periodsOf(stretch);
    cuts.push({ stretch, cycle: stretch.from + KEPT * stretch.period, periods, earlier });
    earlier += periods * stretch.period;
  }
  if (cuts.length === 0) return undefined;
  const queues = chip.queues.map((queue) => leftOf(queue, cuts));
  return { program: { ...program, chips: [{ ...chip, queues }] }, cuts };
};

/** Cycles that are left out. */
export const cyclesLeftOut = ({ cuts }: Shortened): number =>
  cuts.reduce((sum, { periods, stretch }) => sum + periods * stretch.period, 0);

const leftOf = (queue: readonly TimedInstruction[], cuts: readonly Cut[]): readonly TimedInstruction[] => {
  const left: TimedInstruction[] = [];
  let [first, by] = [0, 0];
  const keepTo = (end: number): void => {
    for (const instruction of queue.slice(first, end))
      left.push(by === 0 ? instruction : { ...instruction, cycle: instruction.cycle - by });
  };
  for (const { cycle, periods, stretch, earlier } of cuts) {
    keepTo(firstFrom(queue, cycle));
    const cycles = periods * stretch.period;
    [first, by] = [firstFrom(queue, cycle + cycles), earlier + cycles];
  }
  keepTo(queue.length);
  return left;
};

/** That of a stretch, for all of some queues. */
const reachOf = ({ mxm, timing, chainDepth }: Target, queues: Queues): number => {
  let longest = 0;
  for (const queue of queues)
    for (const { count, interval } of queue) longest = Math.max(longest, (count - 1) * interval);
  return longest + 4 * (mxm + chainDepth + Math.max(...Object.values(timing)));
};

/** Index of the first of some bursts that is not before a cycle. */
export const firstFrom = (queue: readonly { readonly cycle: number }[], cycle: number): number => {
  let [low, high] = [0, queue.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(queue, middle, "burst").cycle < cycle) low = middle + 1;
    else high = middle;
  }
  return low;
};

/* ---------- the period ---------- */

interface Anchor {
  readonly cycle: number;
  readonly period: number;
}

/** Products of the array that multiplies most often. */
const productsIn = (target: Target, queues: Queues): readonly TimedInstruction[] => {
  const [west, east] = (["W", "E"] as const).map((side) => at(queues, mxmQueue(target, side, 0, 1), "queue")) as [
    Queues[number],
    Queues[number],
  ];
  return west.length > east.length ? west : east;
};

/** What most likely is the period: the distance at which products around one of them repeat themselves for longest. */
const anchorAt = (queue: readonly TimedInstruction[], gaps: readonly number[], anchor: number): Anchor | undefined => {
  const isLike = (i: number, j: number): boolean => gaps[i] === gaps[j] && queue[i]?.count === queue[j]?.count;
  let best = { lag: 0, length: 0 };
  for (let lag = 1; lag <= anchor / KEPT; lag++) {
    let [from, to] = [anchor, anchor];
    while (to < queue.length && isLike(to, to - lag)) to++;
    while (to > anchor && from > lag && isLike(from - 1, from - 1 - lag)) from--;
    if (to - from > best.length) best = { lag, length: to - from };
  }
  if (best.length === 0) return undefined;
  const { cycle } = at(queue, anchor, "burst");
  return { cycle, period: cycle - at(queue, anchor - best.lag, "burst").cycle };
};

/* ---------- the stretch ---------- */

/** Those of which periods can be left out, in order of cycles; none overlaps another. */
const stretchesOf = (target: Target, chip: ChipProgram): Stretch[] => {
  const constants = constantRows(target, chip);
  const products = productsIn(target, chip.queues);
  const gaps = products.map(({ cycle }, i) => cycle - (products[i - 1]?.cycle ?? 0));
  const reach = reachOf(target, chip.queues);
  const stretches: Stretch[] = [];
  let end = 0;
  /** The last that was too short, which need not be sought again from another of its places. */
  let short: Stretch | undefined;
  for (let place = 1; place < ANCHORS; place++) {
    const index = Math.floor((products.length * place) / ANCHORS);
    if (index >= products.length || at(products, index, "burst").cycle < end) continue;
    const anchor = anchorAt(products, gaps, index);
    if (anchor === undefined || reach > anchor.period) continue;
    if (anchor.period === short?.period && anchor.cycle < short.to) continue;
    const around = stretchAround(target, chip, constants, anchor);
    const stretch = { ...around, reach, from: Math.max(around.from, end) };
    if (periodsOf(stretch) < FEWEST_PERIODS) short = stretch;
    else {
      stretches.push(stretch);
      end = stretch.to;
    }
  }
  return stretches;
};

/** How many periods can be left out. */
const periodsOf = ({ from, to, period }: Stretch): number => Math.floor((to - from) / period) - KEPT - KEPT_AFTER;

/** As far as all queues repeat themselves, before a cycle and after it. */
const stretchAround = (
  target: Target,
  chip: ChipProgram,
  constants: Uint8Array,
  { cycle, period }: Anchor,
): Omit<Stretch, "reach"> => {
  let [from, to] = [0, Number.POSITIVE_INFINITY];
  for (const [number, queue] of chip.queues.entries()) {
    const rows = constants.subarray(number * 2 * target.rowsPerBank, (number + 1) * 2 * target.rowsPerBank);
    const isLater = (before: TimedInstruction | undefined, after: TimedInstruction | undefined): boolean =>
      before !== undefined &&
      after !== undefined &&
      after.cycle === before.cycle + period &&
      isSame(target, rows, before, after);
    const [before, after] = [firstFrom(queue, cycle - period), firstFrom(queue, cycle)];
    // No further than others do.
    let ahead = 0;
    while ((queue[after + ahead]?.cycle ?? to) < to && isLater(queue[before + ahead], queue[after + ahead])) ahead++;
    to = Math.min(to, (queue[before + ahead]?.cycle ?? to) + period, queue[after + ahead]?.cycle ?? to);
    let back = 1;
    while ((queue[before - back]?.cycle ?? -1) >= from && isLater(queue[before - back], queue[after - back])) back++;
    from = Math.max(from, (queue[before - back]?.cycle ?? -1) + 1, (queue[after - back]?.cycle ?? -1) + 1 - period);
  }
  return { from, to, period };
};

/** By queue of a slice and row: 1 if it is one of a constant. */
const constantRows = (target: Target, { constants }: ChipProgram): Uint8Array => {
  const depth = 2 * target.rowsPerBank;
  const known = new Uint8Array(2 * target.slices * depth);
  for (const { hemisphere, slice, row, rows } of constants) {
    const first = memQueue(target, hemisphere, slice) * depth + row;
    known.fill(1, first, first + rows);
  }
  return known;
};

/** Whether two bursts differ in nothing but time, origin and rows of constants that are read. What waits for an epoch never does. */
const isSame = (target: Target, constants: Uint8Array, a: TimedInstruction, b: TimedInstruction): boolean => {
  if (!haveSameForm(a, b) || a.op === "deskew") return false;
  if (a.fields === b.fields) return true;
  const names = Object.keys(a.fields);
  if (names.length !== Object.keys(b.fields).length) return false;
  return names.every((name) => {
    const [one, other] = [a.fields[name], b.fields[name]];
    if (isSameValue(one, other)) return true;
    return a.op === "read" && name === "address" && areConstants(target, constants, a, b);
  });
};

const isSameValue = (a: FieldValue | undefined, b: FieldValue | undefined): boolean =>
  typeof a === "object" && typeof b === "object" ? isSameRecord(a, b) : Object.is(a, b);

/** Whether all fields but some are the same words and numbers. */
export const isSameRecord = <T extends object>(a: T, b: T, without: readonly (keyof T)[] = []): boolean => {
  const names = Object.keys(a) as (keyof T)[];
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => name in b && (without.includes(name) || Object.is(a[name], b[name])))
  );
};

const areConstants = (
  { rowsPerBank }: Target,
  constants: Uint8Array,
  a: TimedInstruction,
  b: TimedInstruction,
): boolean => {
  const { count, step } = a;
  const [first, other] = [Number(a.fields["address"]), Number(b.fields["address"])];
  const bank = Math.floor(first / rowsPerBank);
  for (let i = 0, row = first, later = other; i < count; i++, row += step, later += step) {
    if (constants[row] !== 1 || constants[later] !== 1) return false;
    if (Math.floor(row / rowsPerBank) !== bank || Math.floor(later / rowsPerBank) !== bank) return false;
  }
  return true;
};
