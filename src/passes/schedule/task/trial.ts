/**
 * Trials: a task is tried at a cycle, then later and later, until all that it needs is free at once.
 *
 * A trial gathers what it wants (want.ts). It answers 0, or by how many cycles to move at least; functions that choose a stream
 * answer its number, or minus that delay. Nothing that a failed trial did may be left: `rollback` takes it back to a mark, all
 * of it or a part.
 */

import { at, fail, sure } from "../../../diagnostics.js";
import type { Task } from "../../../ir/plan.js";
import type { TimedInstruction } from "../../../ir/program.js";
import { endOf, NEVER, type Timeline } from "../chip/resources.js";
import { type Half, lineAt, streamNumber } from "../chip/machine.js";
import type { ReadSource } from "../repeat/placed.js";
import { noRoom } from "../place/room.js";
import { noteRead, rowsOfCopy } from "../place/chunk.js";
import { rowsOfTile, sliceRowsOf } from "../figures.js";
import { addChunk, otherHalf, type Scheduler, storageOf } from "../state.js";
import { nextTrial, type Want } from "./want.js";

/** A task that fits nowhere in so many trials never will: what it waits for does not change any more. */
const TRIES = 20_000;
/** So many choices of places are tried once nothing that was booked before is at work: then all have had their turn. */
const TURNS_WHEN_IDLE = 24;
/**
 * For so many trials the choices of a task are those of the model, or of any instance: then all that follows can do the same.
 * After that anything is tried, constants may have further copies, and it is asked from when on nothing is at work.
 */
const PATIENCE = 64;
/** Cycles after the end of all that is booked from which on a trial meets none of it, wherever its bursts begin and end. */
const CLEAR = 256;

/** Repeats a trial, later and later, until it fits, and books it there. */
export const slide = (s: Scheduler, task: Task, from: number, trial: (at: number) => number): number => {
  let at = from;
  let idle = NEVER;
  let turn = 0;
  let left = TURNS_WHEN_IDLE;
  for (let tries = 0, since = 0; tries < TRIES && left > 0 && at < NEVER; tries++, since++) {
    if (tries === PATIENCE) {
      idle = idleFrom(s);
      // What was wanted of other tasks while they were at work is no reason to go further than where they are not.
      at = Math.max(from, Math.min(at, idle));
    }
    const cornered = at >= idle;
    const isClear = at >= idle + CLEAR;
    // Where nothing is met, what does not fit now will not fit later: one trial a turn is enough.
    if (since >= (isClear ? 1 : PATIENCE)) {
      turn++;
      since = 0;
      if (cornered) left--;
    }
    // Once patience has ended, the later passes of the task do without its model, too.
    const patient = tries < PATIENCE;
    if (!patient) s.model = undefined;
    s.trial = nextTrial(s.trial, s.turn + turn, { patient, cornered, model: s.model });
    s.tried++;
    const delay = trial(at);
    if (delay === 0) {
      commit(s);
      return at;
    }
    rollback(s, START);
    if (!isClear) at += delay;
  }
  const { starved } = s.trial;
  if (starved !== undefined) return noRoom(s, starved.name, sliceRowsOf(starved, task.rows));
  return noPlaceInTime(s, task);
};

/** The cycle, or diagonal, from which on nothing is booked. */
const idleFrom = ({ halves, alus }: Scheduler): number => {
  const lines = halves.flatMap(({ pairs, inward, outward, crossing, array, buffer, sxm }) => [
    ...pairs.flatMap(({ read, write, readBank, writeBank, issue }) => [read, write, ...readBank, ...writeBank, issue]),
    ...[inward, outward, crossing, sxm].flat(),
    array,
    buffer,
  ]);
  return Math.max(...[...lines, ...alus].map(endOf));
};

const noPlaceInTime = (s: Scheduler, task: Task): never =>
  fail("LPU2002", {
    message: `no cycle in which all that an operation needs is free: ${task.leaves.length + task.passes.length} operands of ${task.rows} rows on target '${s.target.name}'`,
    node: at(s.plan.origins, task.origin, "origin"),
    notes: ["SRAM suffices; ports of its slices, streams or units conflict at every cycle"],
    hint: "choose a target with more slices and streams",
  });

/** How far a trial had come: what was wanted behind it can be taken back. */
export interface Mark {
  readonly figure: number;
  readonly wants: number;
}
export const START: Mark = { figure: 0, wants: 0 };

export const markOf = ({ trial: { figure, wants } }: Scheduler): Mark => ({
  figure: figure.size,
  wants: wants.length,
});

/** Takes back what was tried since the mark, the last first. */
export const rollback = ({ trial: { figure, wants } }: Scheduler, mark: Mark): void => {
  while (wants.length > mark.wants) giveBack(sure(wants.pop(), "want"));
  figure.truncate(mark.figure);
};

/** What a trial has while it lasts is as it was before. */
const giveBack = (want: Want): void => {
  if (want.kind === "rows") {
    want.memory.freeAt.set(want.freeAt, want.address);
    want.memory.touched = want.touched;
  } else if (want.kind === "copy") want.copies.splice(want.copies.indexOf(want.copy), 1);
};

export const commit = (s: Scheduler): void => {
  s.trial.figure.commit(s.placed);
  const { wants } = s.trial;
  for (const want of wants) take(s, want);
  wants.length = 0;
};

/** What is wanted is so from now on. */
const take = (s: Scheduler, want: Want): void => {
  switch (want.kind) {
    case "rows":
      break;
    case "dispatch":
      s.queues[want.queue]?.push(want.instruction);
      s.placed.dispatched.push(want);
      break;
    case "copy":
      s.lasting[want.copy.side] += want.rows * want.copy.pairs.length;
      break;
    case "tile": {
      const { tile, side, place } = want;
      const rows = rowsOfTile(tile, s.tilePairs);
      if (s.tiles[side === 0 ? 1 : 0].has(tile.key)) s.spareRows -= rows;
      s.tiles[side].set(tile.key, place);
      s.lasting[side] += rows;
      break;
    }
    case "promise": {
      const rows = want.instances * rowsOfTile(want.tile, s.tilePairs);
      s.promised.rows[want.side] += rows;
      if (s.tiles[want.side === 0 ? 1 : 0].has(want.tile.key)) s.promised.copies += rows;
      break;
    }
    case "read":
      noteRead(want.copy, want.rows, want.until);
      s.placed.reads.push(want);
      break;
    case "chunk": {
      const { panel, chunk } = want;
      if (!storageOf(s, panel.storage).output)
        for (const copy of chunk.copies) s.wanted[copy.side] += rowsOfCopy(copy, chunk.rows);
      addChunk(s, panel, chunk);
      s.placed.chunks.push(want);
      break;
    }
  }
};

/** What a queue dispatches: once, or `count` times every `interval` cycles. */
export interface Dispatch {
  readonly op: TimedInstruction["op"];
  readonly fields: TimedInstruction["fields"];
  /** Index into Plan.origins. */
  readonly origin: number;
  readonly count?: number;
  /** Rows added to the address each time. */
  readonly step?: number;
  readonly interval?: number;
  /** Stream operands that fly on, as a bit mask. */
  readonly tap?: number;
}

/** Wants that a queue dispatches an instruction at a cycle. */
export const emit = (s: Scheduler, queue: number, cycle: number, dispatch: Dispatch, source?: ReadSource): void => {
  const { op, fields, origin, count = 1, step = 0, interval = 1, tap = 0 } = dispatch;
  const burst = count === 1 ? { interval: 1, step: 0 } : { interval, step };
  const instruction = { cycle, op, fields, count, ...burst, tap, origin };
  s.trial.wants.push({ kind: "dispatch", queue, instruction, source });
};

/**
 * What streams are for. inward: to the VXM, and on in its own registers. outward: from slices to the SXM or MXM. result: from
 * the VXM's registers of the other direction to the slices. weights: as outward, but the top of the streams belongs to them
 * alone, unless they take all: chains that all become ready at once would otherwise fill the streams and starve the arrays.
 * through: as inward, and on outward in the other hemisphere.
 */
type StreamUse = "inward" | "outward" | "result" | "weights" | "through";

/** Streams that are wanted for vectors one after another. */
export interface StreamRequest {
  readonly half: Half;
  readonly use: StreamUse;
  /** Stream pairs side by side; the first is a multiple of this. */
  readonly width: number;
  /** Cycle in which the first vector passes the VXM's position. */
  readonly diagonal: number;
  /** Vectors. */
  readonly length: number;
}

/** First number of the lowest free streams, or minus the delay until some are free. */
export const pickStreams = (s: Scheduler, { half, use, width, diagonal, length }: StreamRequest): number => {
  const inward = use === "inward" || use === "through";
  const lines = inward ? half.inward : half.outward;
  const crossing = inward ? half.crossing : use === "result" ? otherHalf(s, half).crossing : undefined;
  const beyond = use === "through" ? otherHalf(s, half).outward : undefined;
  const ways = crossing === undefined ? [lines] : beyond === undefined ? [lines, crossing] : [lines, crossing, beyond];
  const kept = s.tilePairs < lines.length ? s.tilePairs : 0;
  const shared = lines.length - kept;
  const groups = Math.floor((use === "inward" || use === "weights" ? lines.length : shared) / width);
  let best = NEVER;
  for (let group = use === "weights" && kept > 0 ? Math.floor(shared / width) : 0; group < groups; group++) {
    const base = group * width;
    const at = streamsFit(s, ways, base, width, diagonal, length);
    if (at === diagonal) {
      for (let i = base; i < base + width; i++)
        for (const way of ways) s.trial.figure.add(lineAt(way, i), diagonal, length);
      return streamNumber(s.target, half, inward, base);
    }
    best = Math.min(best, at - diagonal);
  }
  return -best;
};

/** Where the first of some streams that is not free at a diagonal is free again; the diagonal if all are free, all their way. */
const streamsFit = (
  s: Scheduler,
  ways: readonly (readonly Timeline[])[],
  base: number,
  width: number,
  diagonal: number,
  length: number,
): number => {
  for (let i = base; i < base + width; i++)
    for (const way of ways) {
      const at = s.trial.figure.fit(lineAt(way, i), diagonal, length);
      if (at !== diagonal) return at;
    }
  return diagonal;
};
