/**
 * Part of the schedule checker: the MXM. Weights are loaded, installed and met in order, and every product finds its sum.
 *
 * The six queues of a hemisphere are replayed together, execution by execution, with what the planes hold: a weight buffer
 * and when its last load was, the installs of the array and from when activations meet each, products on their way, and the
 * rows of partial sums. In fp16 the planes are one pair, driven by the queues of plane 0. Sums that are never given and weights
 * that are never installed are refused, although the machine would do it: two accumulations were given one row, or an
 * install is missing.
 */

import { ARRAYS, type ArrayKind, arrayOf, modeOf } from "../../ir/isa.js";
import { at, invariant } from "../../diagnostics.js";
import { mxmQueue } from "../../ir/program.js";
import type { Hemisphere, Target } from "../../ir/target.js";
import { brief, type Burst, type CheckedChip, raise } from "./burst.js";

/** Weights in a buffer or an array; which ones they are is all that matters. */
interface HeldWeights {
  readonly kind: ArrayKind;
  readonly loadedBy: Burst;
  lastLoad: number;
}

interface Plane {
  buffer: HeldWeights | undefined;
  /** Weights and from when activations meet them, in order. */
  installs: { readonly from: number; readonly weights: HeldWeights }[];
  /** Bursts past the buffer, and when each changes the array. */
  changes: { readonly weights: HeldWeights; readonly from: number; readonly until: number }[];
  /** Products on their way, in order: when each arrives, and what made it. There is one for every cycle of work. */
  readonly arrivals: number[];
  readonly makers: Burst[];
  /** Products that were taken. */
  taken: number;
}

/** A row of partial sums. */
interface OpenSums {
  readonly kind: ArrayKind;
  /** The accumulation that set it and has not given it yet. */
  readonly open: Burst | undefined;
}

interface Replay {
  readonly chip: CheckedChip;
  readonly target: Target;
  readonly planes: readonly Plane[];
  readonly rows: (OpenSums | undefined)[];
}

interface Cursor {
  readonly bursts: readonly Burst[];
  next: number;
  index: number;
  cycle: number;
}

export const checkMxm = (chip: CheckedChip, hemisphere: Hemisphere): void => {
  const { target } = chip;
  const replay: Replay = {
    chip,
    target,
    planes: Array.from({ length: target.planes }, () => ({
      buffer: undefined,
      installs: [],
      changes: [],
      arrivals: [],
      makers: [],
      taken: 0,
    })),
    rows: Array.from({ length: target.planes * target.accumulatorRows }, () => undefined),
  };
  const cursors = ([0, 1, 2] as const).flatMap((part) =>
    replay.planes.map((_, plane): Cursor => {
      const bursts = at(chip.queues, mxmQueue(target, hemisphere, plane, part), "queue").filter(({ instruction }) =>
        Object.hasOwn(STEPS, instruction.op),
      );
      return { bursts, next: 0, index: 0, cycle: bursts[0]?.instruction.cycle ?? Number.POSITIVE_INFINITY };
    }),
  );
  for (;;) {
    let first: Cursor | undefined;
    let second = Number.POSITIVE_INFINITY;
    for (const cursor of cursors)
      if (cursor.cycle < (first?.cycle ?? Number.POSITIVE_INFINITY)) {
        second = first?.cycle ?? second;
        first = cursor;
      } else second = Math.min(second, cursor.cycle);
    if (first === undefined) break;
    // Until another queue is as early.
    do {
      const burst = first.bursts[first.next];
      invariant(burst !== undefined, "a cursor is on a burst");
      STEPS[burst.instruction.op]?.(replay, burst, first.cycle, first.index);
      advance(first, burst);
    } while (first.cycle < second);
  }
  for (const plane of replay.planes) checkLost(replay, plane, Number.POSITIVE_INFINITY);
  checkEnd(replay);
};

const advance = (cursor: Cursor, { instruction: { count, interval } }: Burst): void => {
  cursor.index++;
  cursor.cycle += interval;
  if (cursor.index < count) return;
  cursor.next++;
  cursor.index = 0;
  cursor.cycle = cursor.bursts[cursor.next]?.instruction.cycle ?? Number.POSITIVE_INFINITY;
};

type Step = (replay: Replay, burst: Burst, cycle: number, index: number) => void;

const kindOf = ({ instruction }: Burst): ArrayKind => arrayOf(instruction);
const planeOf = ({ planes }: Replay, { place }: Burst): Plane => {
  const plane = planes[place.index];
  invariant(plane !== undefined, `plane ${place.index} exists`);
  return plane;
};
/** Planes that work together on a kind. */
const planesOf = (replay: Replay, burst: Burst, kind: ArrayKind): readonly Plane[] =>
  ARRAYS[kind].joined ? replay.planes : [planeOf(replay, burst)];

const loadBuffer: Step = (replay, burst, cycle, index) => {
  const kind = kindOf(burst);
  const planes = planesOf(replay, burst, kind);
  const [first] = planes;
  for (const { buffer } of planes)
    if (buffer !== first?.buffer || (buffer !== undefined && buffer.kind !== kind))
      raise(
        replay.chip,
        "LPU2218",
        burst,
        cycle,
        `expected a weight buffer for ${kind}, found one that holds other weights`,
      );
  if (first?.buffer !== undefined && index === 0 && Number(burst.instruction.fields["clear"]) === 1)
    raise(
      replay.chip,
      "LPU2223",
      burst,
      cycle,
      `expected an empty buffer, found weights that are never installed: ${brief(replay.chip, first.buffer.loadedBy)}`,
    );
  const buffer = first?.buffer ?? { kind, loadedBy: burst, lastLoad: cycle };
  for (const plane of planes) plane.buffer = buffer;
  buffer.lastLoad = cycle;
};

const installBuffer: Step = (replay, burst, cycle) => {
  const { chip, target } = replay;
  const { buffer } = planeOf(replay, burst);
  if (buffer === undefined) raise(chip, "LPU2218", burst, cycle, "expected weights in the buffer, found it empty");
  if (ARRAYS[buffer.kind].joined && burst.place.index !== 0)
    raise(chip, "LPU2218", burst, cycle, "expected weights of this plane, found fp16 ones, which plane 0 installs");
  const ready = buffer.lastLoad + target.timing.mxmLoad;
  if (cycle < ready)
    raise(chip, "LPU2218", burst, cycle, `expected a buffer that is loaded, found it ready at cycle ${ready}`);
  const from = cycle + target.timing.mxmInstall;
  for (const plane of planesOf(replay, burst, buffer.kind)) {
    refuseChange(
      chip,
      burst,
      cycle,
      plane.changes.find(({ until }) => until > from),
    );
    plane.buffer = undefined;
    plane.installs.push({ from, weights: buffer });
  }
};

/** A burst that follows before the one before it is usable goes on with the same weights. */
const loadArray: Step = (replay, burst, cycle, index) => {
  if (index > 0) return;
  const { mxmWeightSkew, mxmInstall } = replay.target.timing;
  const kind = kindOf(burst);
  const planes = planesOf(replay, burst, kind);
  const from = cycle + mxmWeightSkew;
  const until = from + (burst.last - cycle) + mxmInstall;
  const latest = planes[0]?.installs.at(-1)?.weights;
  for (const plane of planes) {
    plane.changes = plane.changes.filter((change) => change.until > cycle);
    refuseChange(
      replay.chip,
      burst,
      cycle,
      plane.changes.find((change) => change.until > from && change.weights.kind !== kind),
    );
  }
  const goesOn = planes.every(({ changes }) => changes.some((c) => c.until > from && c.weights === latest));
  const weights = goesOn && latest !== undefined ? latest : { kind, loadedBy: burst, lastLoad: cycle };
  for (const plane of planes) {
    if (goesOn) plane.installs.pop();
    plane.changes.push({ weights, from, until });
    plane.installs.push({ from: until, weights });
  }
};

const refuseChange = (
  chip: CheckedChip,
  burst: Burst,
  cycle: number,
  change: { readonly until: number } | undefined,
): void => {
  if (change !== undefined)
    raise(
      chip,
      "LPU2218",
      burst,
      cycle,
      `expected an array that is not being changed, found that weights arrive until cycle ${change.until}`,
    );
};

const multiply: Step = (replay, burst, cycle) => {
  const { chip, target } = replay;
  const kind = kindOf(burst);
  let met: HeldWeights | undefined;
  const planes = planesOf(replay, burst, kind);
  for (let at = 0; at < planes.length; at++) {
    const { changes, installs } = planes[at] as Plane;
    if (changes.length > 0)
      refuseChange(
        chip,
        burst,
        cycle,
        changes.find(({ from, until }) => cycle >= from && cycle < until),
      );
    while (installs.length > 1 && (installs[1]?.from as number) <= cycle) installs.shift();
    const first = installs[0];
    const weights = first !== undefined && first.from <= cycle ? first.weights : undefined;
    if (weights?.kind !== kind || (at > 0 && weights !== met))
      raise(
        chip,
        "LPU2218",
        burst,
        cycle,
        `expected ${kind} weights in the array, found ${weights === undefined ? firstInstall(first) : "others"}`,
      );
    met = weights;
  }
  const { arrivals, makers } = planeOf(replay, burst);
  arrivals.push(cycle + target.timing.mxmMultiply);
  makers.push(burst);
};

const firstInstall = (install: { readonly from: number } | undefined): string =>
  install === undefined ? "none" : `some that it meets from cycle ${install.from} on`;

const accumulate: Step = (replay, burst, cycle, index) => {
  const { chip, target, rows } = replay;
  const plane = planeOf(replay, burst);
  checkLost(replay, plane, cycle);
  const arrival = plane.arrivals[plane.taken];
  const maker = plane.makers[plane.taken];
  if (maker === undefined || arrival !== cycle)
    raise(
      chip,
      "LPU2219",
      burst,
      cycle,
      `expected a product in this cycle, found ${arrival === undefined ? "none" : `the next one at cycle ${arrival}`}`,
    );
  plane.taken++;
  const kind = kindOf(maker);
  const { fields } = burst.instruction;
  const row = Number(fields["row"]) + index;
  const { joined } = ARRAYS[kind];
  const limit = target.accumulatorRows * (joined ? target.planes : 1);
  if (row >= limit) raise(chip, "LPU2211", burst, cycle, `expected an accumulator row below ${limit}, found ${row}`);
  const place = joined ? row : burst.place.index * target.accumulatorRows + row;
  const before = rows[place];
  if (modeOf(burst.instruction) === "add") {
    if (before?.kind !== kind)
      raise(
        chip,
        "LPU2220",
        burst,
        cycle,
        `expected sums of ${kind} in row ${row}, found ${before === undefined ? "that it was never set" : "others"}`,
      );
  } else if (before?.open !== undefined)
    raise(
      chip,
      "LPU2223",
      burst,
      cycle,
      `expected row ${row} to be free, found sums that are never given: ${brief(chip, before.open)}`,
    );
  const open = Number(fields["give"]) >= 0 ? undefined : (before?.open ?? burst);
  if (before?.kind !== kind || before.open !== open) rows[place] = { kind, open };
};

const STEPS: Readonly<Partial<Record<string, Step>>> = {
  lw: loadBuffer,
  iw: installBuffer,
  iwStream: loadArray,
  abc: multiply,
  acc: accumulate,
};

/** A product that arrived before this cycle should have been taken. */
const checkLost = ({ chip, target }: Replay, { arrivals, makers, taken }: Plane, cycle: number): void => {
  const arrival = arrivals[taken];
  const maker = makers[taken];
  if (arrival === undefined || maker === undefined || arrival >= cycle) return;
  const dispatched = arrival - target.timing.mxmMultiply;
  raise(chip, "LPU2219", maker, dispatched, `expected an acc at cycle ${arrival}, found none for this product`);
};

/** Nothing is left over when the program has ended. */
const checkEnd = ({ chip, planes, rows }: Replay): void => {
  for (const { buffer } of planes)
    if (buffer !== undefined)
      raise(chip, "LPU2223", buffer.loadedBy, buffer.lastLoad, "expected an install of these weights, found none");
  for (const sums of rows)
    if (sums?.open !== undefined)
      raise(chip, "LPU2223", sums.open, sums.open.last, "expected sums to be given, found that they never are");
};
