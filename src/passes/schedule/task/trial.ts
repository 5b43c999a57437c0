/**
 * Trials: a task is tried at a cycle, then later and later, until all that it needs is free at once.
 *
 * A trial books into the figure and leaves what it would do in `onCommit`, what it must undo in `onAbort`. It answers 0, or
 * by how many cycles to move at least; functions that choose a stream answer its number, or minus that delay. Nothing that
 * a failed trial did may be left: `rollback` takes it back to a mark, all of it or a part.
 */

import { at, fail } from "../../../diagnostics.js";
import type { Task } from "../../../ir/plan.js";
import type { TimedInstruction } from "../../../ir/program.js";
import { endOf, NEVER, type Timeline } from "../chip/resources.js";
import { type Half, lineAt, streamNumber } from "../chip/machine.js";
import type { ReadSource } from "../repeat/placed.js";
import { noRoom } from "../place/room.js";
import { sliceRowsOf } from "../figures.js";
import { otherHalf, type Scheduler } from "../state.js";

/** A task that fits nowhere in so many trials never will: what it waits for does not change any more. */
const TRIES = 20_000;
/** As many as are enough once nothing that was booked before is at work: then all choices of places have had their turn. */
const TRIES_WHEN_IDLE = 1_500;
/** Trials after which it is asked when that is. */
const TRIES_WHEN_BUSY = 500;
/**
 * For so many trials the choices of a task are those of the model, or of any instance: then all that follows can do the same.
 * After that anything is tried, and constants may have further copies.
 */
const PATIENCE = 64;

/** Repeats a trial, later and later, until it fits, and books it there. */
export const slide = (s: Scheduler, task: Task, from: number, trial: (at: number) => number): number => {
  let at = from;
  let idle = NEVER;
  let left = TRIES_WHEN_IDLE;
  for (let tries = 0; tries < TRIES && left > 0 && at < NEVER; tries++) {
    if (tries === TRIES_WHEN_BUSY) idle = idleFrom(s);
    s.cornered = at >= idle;
    if (s.cornered) left--;
    s.starved = undefined;
    s.patient = tries < PATIENCE;
    s.cursor = s.turn + Math.floor(tries / PATIENCE);
    if (!s.patient) s.model = undefined;
    s.tried++;
    const delay = trial(at);
    if (delay === 0) {
      commit(s);
      return at;
    }
    rollback(s, START);
    at += delay;
  }
  if (s.starved !== undefined) return noRoom(s, s.starved.name, sliceRowsOf(s.starved, task.rows));
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

export interface Mark {
  readonly figure: number;
  readonly commits: number;
  readonly aborts: number;
}
const START: Mark = { figure: 0, commits: 0, aborts: 0 };

export const markOf = ({ figure, onCommit, onAbort }: Scheduler): Mark => ({
  figure: figure.size,
  commits: onCommit.length,
  aborts: onAbort.length,
});

/** Takes back what was tried since the mark, the last first. */
export const rollback = ({ figure, onCommit, onAbort }: Scheduler, mark: Mark): void => {
  for (let i = onAbort.length - 1; i >= mark.aborts; i--) onAbort[i]?.();
  onAbort.length = mark.aborts;
  onCommit.length = mark.commits;
  figure.truncate(mark.figure);
};

const commit = ({ figure, onCommit, onAbort, placed }: Scheduler): void => {
  figure.commit(placed);
  for (const action of onCommit) action();
  onCommit.length = 0;
  onAbort.length = 0;
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

export const emit = (s: Scheduler, queue: number, cycle: number, dispatch: Dispatch, source?: ReadSource): void => {
  const { op, fields, origin, count = 1, step = 0, interval = 1, tap = 0 } = dispatch;
  const burst = count === 1 ? { interval: 1, step: 0 } : { interval, step };
  const instruction = { cycle, op, fields, count, ...burst, tap, origin };
  s.queues[queue]?.push(instruction);
  s.placed.dispatched.push({ queue, instruction, source });
};

/**
 * What streams are for. inward: to the VXM, and on in its own registers. outward: from slices to the SXM or MXM. result:
 * from the VXM's registers of the other direction to the slices. weights: as outward, but the top of the streams belongs to
 * them alone, unless they take all: chains that all become ready at once would otherwise fill the streams and starve the arrays. through: as inward,
 * and on outward in the other hemisphere.
 */
type StreamUse = "inward" | "outward" | "result" | "weights" | "through";

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
  const ways = [lines, crossing, beyond].filter((way) => way !== undefined);
  const kept = s.tilePairs < lines.length ? s.tilePairs : 0;
  const shared = lines.length - kept;
  const groups = Math.floor((use === "inward" || use === "weights" ? lines.length : shared) / width);
  let best = NEVER;
  for (let group = use === "weights" && kept > 0 ? Math.floor(shared / width) : 0; group < groups; group++) {
    const base = group * width;
    const at = streamsFit(s, ways, base, width, diagonal, length);
    if (at === diagonal) {
      for (let i = base; i < base + width; i++) for (const way of ways) s.figure.add(lineAt(way, i), diagonal, length);
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
      const at = s.figure.fit(lineAt(way, i), diagonal, length);
      if (at !== diagonal) return at;
    }
  return diagonal;
};
