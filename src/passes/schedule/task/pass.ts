/**
 * Placing a task: its MXM passes one after another in one array, and its chain with the last of them.
 *
 * The hemisphere, and the accumulator rows in which the passes add up, are chosen before; then each pass slides along time
 * on its own. The last one and the chain are one rigid figure, because the sums leave the accumulator as they are made.
 */

import { at, invariant, sure } from "../../../diagnostics.js";
import { isTile, panelsOf, type Pass, type Task } from "../../../ir/plan.js";
import { mxmQueue } from "../../../ir/program.js";
import { positionIn } from "../repeat/repeats.js";
import { endOf, NEVER, type Timeline } from "../chip/resources.js";
import { tryChain } from "./chain.js";
import { ACCUMULATOR_BLOCK, type Half } from "../chip/machine.js";
import { newPlaced, type Placed } from "../repeat/placed.js";
import { rowsOfTile, taskAt } from "../figures.js";
import type { Flight, ReadPiece } from "../chip/ports.js";
import { piecesOf, tryRead, waitFor } from "./read.js";
import { tilesAhead } from "../repeat/instances.js";
import { homesOf, lastingRoom, otherHalf, type Scheduler, storageOf } from "../state.js";
import { emit, pickStreams, slide } from "./trial.js";
import { placeWire } from "./wire.js";
import { installLead, tryWeights } from "./weights.js";

/** Places where choices may begin, and cycles that a task may wait, if they are drawn. */
const TURNS = 64;
const LATE = 200;

/** `model`: a placement of the same task in an earlier instance of a repeat, whose choices are made again. */
export const placeTask = (s: Scheduler, index: number, model: Placed | undefined): void => {
  const task = taskAt(s.plan, index);
  const { timing } = s.target;
  s.placed = newPlaced(index);
  s.searched++;
  s.model = model;
  s.turn = s.strategy.draw?.(TURNS) ?? positionIn(s.repeat, index)?.slot ?? index;
  const late = s.strategy.draw?.(LATE) ?? 0;
  if (task.wire !== undefined) {
    placeWire(s, task, task.wire, late);
    return;
  }
  if (task.passes.length === 0) {
    slide(s, task, timing.barrier + late, (at) => tryChain(s, task, at, undefined));
    return;
  }
  const half = chooseHalf(s, task);
  s.placed.half = half;
  const runs = accumulatorRuns(half, task);
  const chosen = isBrief(task) ? undefined : chooseAccumulators(runs);
  let first: number | undefined;
  const earliest = Math.max(timing.barrier, s.overlap?.from ?? 0);
  let at = Math.max(earliest + timing.mxmInstall, (chosen?.free ?? 0) - timing.mxmMultiply) + late;
  for (const [index, pass] of task.passes.entries()) {
    const pieces = piecesOf(s, pass, pass.runs);
    const placed: PlacedPass = {
      task,
      pass,
      pieces,
      half,
      runs,
      block: chosen?.block,
      mode: index === 0 ? 0 : 1,
      behind: index > 0 && isSameTile(task, index) ? at : undefined,
    };
    const last = index === task.passes.length - 1;
    at = slide(s, task, at, (start) =>
      last ? tryLastPass(s, placed, start, first ?? start) : tryPass(s, placed, start, chosen?.block ?? 0, -1),
    );
    first ??= at;
    at += task.rows;
  }
};

/**
 * The hemisphere in which a state lies that the task takes; else that whose array is free first, weighed against loading weights
 * into a second one, for which there must be room.
 */
const chooseHalf = (s: Scheduler, task: Task): Half => {
  const [west, east] = s.halves;
  const [home, ...others] = new Set(
    task.passes.flatMap(panelsOf).flatMap(({ storage: id, panel }) => {
      const storage = storageOf(s, id);
      const homes = storage.kind === "state" ? homesOf(s, storage, panel) : [];
      return homes.length === 1 ? homes : [];
    }),
  );
  invariant(others.length === 0, "panels of states that a task takes together lie in one hemisphere, or in both");
  if (home !== undefined) return s.halves[home];
  const model = s.model?.half;
  if (model !== undefined && costOf(s, task, model) < NEVER) return model;
  const possible = [west, east].filter((half) => costOf(s, task, half) < NEVER);
  const drawn = possible.length > 0 ? s.strategy.draw?.(possible.length) : undefined;
  if (drawn !== undefined) return at(possible, drawn, "slot");
  return costOf(s, task, east) < costOf(s, task, west) ? east : west;
};

/**
 * Cycles: when a task could start in a hemisphere, and half of the time that the other one would have its weights sooner.
 * NEVER if these find no room in it.
 */
const costOf = (s: Scheduler, task: Task, half: Half): number => {
  const other = s.tiles[otherHalf(s, half).side];
  let rows = 0;
  let copied = 0;
  let missing = 0;
  for (const [pass, { weights }] of task.passes.entries()) {
    if (!isTile(weights) || s.tiles[half.side].has(weights.key)) continue;
    const needed = rowsOfTile(weights, s.tilePairs) * tilesAhead(s, weights, pass).length;
    rows += needed;
    if (!other.has(weights.key)) continue;
    copied += needed;
    missing++;
  }
  if (copied > 0 && copied > s.spareRows - s.promised.copies) return NEVER;
  if (rows > 0 && rows > lastingRoom(s, half)) return NEVER;
  return endOf(half.array) + (missing * task.rows) / 2;
};

/**
 * Whether a task takes accumulators only while one pass gives its sums, and so any that are free just then: one pass by weights
 * that are computed, as scores of attention are made. There are many of them, which their chains hold back; others find what lies between.
 */
const isBrief = ({ passes }: Task): boolean => passes.length === 1 && passes.every(({ weights }) => !isTile(weights));

/** Runs of neighbouring accumulator blocks, each enough for the rows of a task: by the first block. */
type AccumulatorRuns = readonly (readonly Timeline[])[];

const accumulatorRuns = ({ accumulators }: Half, { rows }: Task): AccumulatorRuns => {
  const blocks = Math.ceil(rows / ACCUMULATOR_BLOCK);
  invariant(blocks <= accumulators.length, "a task's rows fit in the accumulator");
  return Array.from({ length: accumulators.length - blocks + 1 }, (_, block) =>
    accumulators.slice(block, block + blocks),
  );
};

/**
 * Where the sums of a task add up, whose passes may lie far apart: the run that is free for good first, the last of these, since
 * brief tasks take the first.
 */
const chooseAccumulators = (runs: AccumulatorRuns): { readonly block: number; readonly free: number } => {
  let best = { block: 0, free: NEVER };
  for (const [block, run] of runs.entries()) {
    const free = Math.max(...run.map(endOf));
    if (free <= best.free) best = { block, free };
  }
  return best;
};

/** The first run that is free while a brief task gives its sums, or minus a delay. */
const pickAccumulators = (s: Scheduler, { runs, task: { rows } }: PlacedPass, cycle: number): number => {
  let best = NEVER;
  for (const [block, run] of runs.entries()) {
    const free = Math.max(...run.map((line) => s.trial.figure.fit(line, cycle, rows)));
    if (free === cycle) return block;
    best = Math.min(best, free - cycle);
  }
  return -best;
};

/** Whether a pass of a task meets the tile that the one before it met. */
const isSameTile = ({ passes }: Task, index: number): boolean => {
  const [before, own] = [at(passes, index - 1, "pass").weights, at(passes, index, "pass").weights];
  return isTile(before) && isTile(own) && before.key === own.key && before.column === own.column;
};

interface PlacedPass {
  readonly task: Task;
  readonly pass: Pass;
  readonly pieces: readonly ReadPiece[];
  readonly half: Half;
  readonly runs: AccumulatorRuns;
  /** First block of accumulator rows; undefined of a brief task, which takes what is free. */
  readonly block: number | undefined;
  /** 0 sets partial sums, 1 adds to them. */
  readonly mode: 0 | 1;
  /** If the pass before it meets the same tile: the cycle in which that ends. */
  readonly behind: number | undefined;
}

/** A pass whose sums flow into the task's chain. `first`: the cycle of the first ABC of the task. */
const tryLastPass = (s: Scheduler, placed: PlacedPass, at: number, first: number): number => {
  const { timing, mxm } = s.target;
  const { task, half, runs } = placed;
  const from = first + timing.mxmMultiply;
  const block = placed.block ?? pickAccumulators(s, placed, from);
  if (block < 0) return -block;
  for (const line of sure(runs[block], "run of accumulators")) s.trial.figure.add(line, from, at + task.rows - first);
  const arrival = at + timing.mxmMultiply + timing.mxmAccumulate + mxm;
  const stream = pickStreams(s, { half, use: "inward", width: 2, diagonal: arrival, length: task.rows });
  if (stream < 0) return -stream;
  const delay = tryPass(s, placed, at, block, stream);
  return delay !== 0 ? delay : tryChain(s, task, arrival, { half, stream });
};

/** A pass whose first ABC is dispatched at `at`. `give`: stream on which the sums leave, or -1. Returns 0 or a delay. */
const tryPass = (s: Scheduler, placed: PlacedPass, at: number, block: number, give: number): number => {
  const { timing, mxm } = s.target;
  const { task, pass, pieces, half } = placed;
  const { rows } = task;
  const origin = originOfPasses(task);
  // The tile stays in the array if nothing comes between.
  const { behind } = placed;
  const stays = behind !== undefined && s.trial.figure.free(half.array, behind, at + rows - behind);
  const install = at - installLead(s, task, pass, half);
  const from = stays ? behind : install + timing.mxmInstall;
  const busy = s.trial.figure.fit(half.array, from, at + rows - from) - from;
  if (busy > 0) return busy;
  const diagonal = at + timing.mxmActivationSkew - mxm;
  const late = waitFor(s, pieces, diagonal);
  if (late > 0) return late;
  s.trial.figure.add(half.array, from, at + rows - from);
  const stream = pickStreams(s, { half, use: "outward", width: 1, diagonal, length: rows });
  if (stream < 0) return -stream;
  const flight: Flight = { half, inward: false, diagonal, stream, origin };
  const read = tryRead(s, pass, pieces, flight);
  if (read !== 0) return read;
  const weights = stays ? 0 : tryWeights(s, task, pass, { half, install, origin });
  if (weights !== 0) return weights;
  emitPass(s, placed, at, block, stream, give);
  return 0;
};

const originOfPasses = ({ origin, passOrigin = origin }: Task): number => passOrigin;

const emitPass = (
  s: Scheduler,
  { task, pass, half, mode }: PlacedPass,
  at: number,
  block: number,
  stream: number,
  give: number,
): void => {
  const { rows: count } = task;
  const origin = originOfPasses(task);
  const queue = (part: 1 | 2): number => mxmQueue(s.target, half.hemisphere, 0, part);
  emit(s, queue(1), at, { op: "abc", fields: { stream, mode: pass.half }, origin, count });
  emit(s, queue(2), at + s.target.timing.mxmMultiply, {
    op: "acc",
    fields: { row: block * ACCUMULATOR_BLOCK, mode, give },
    origin,
    count,
  });
};
