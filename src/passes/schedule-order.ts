/**
 * Order: who waits for whom, how far each task is from the end of the program, and which of those that may go is next.
 *
 * Tasks without an MXM pass go to their place as soon as their producers have one, the highest first. The others compete
 * for the arrays: an array must not idle for the sake of a task that is not ready, however high.
 */

import type { Plan, Run, Task } from "../ir/plan.js";
import type { Target } from "../ir/target.js";
import { endOf, NEVER } from "./resources.js";
import { interleavedIn, isTile, type PanelRef } from "./schedule-plan.js";
import { readyOf } from "./schedule-ports.js";
import { piecesOf } from "./schedule-read.js";
import type { Scheduler, Strategy } from "./schedule-state.js";

/** Cycles for which an array may wait for a task with a longer way to go. */
const READY_SLACK = 16;
/** Columns of computed weights that, most likely, load in one cycle. */
const LOADED_TOGETHER = 4;
/** ALU operations of a chain, one after another, as heights count them. */
const CHAIN_LENGTH = 8;

export interface Order {
  /** By task: cycles, at the least, from its start to the end of the program; less what it is to stay behind. */
  readonly heights: Float64Array;
  /** By task: those that read what it writes. */
  readonly consumers: readonly (readonly number[])[];
  /** By task: producers that have no place yet. */
  readonly waiting: number[];
}

export const orderTasks = (plan: Plan, target: Target, strategy: Strategy): Order => {
  const producers = producersOf(plan);
  const consumers: number[][] = plan.tasks.map(() => []);
  for (const [index, list] of producers.entries()) for (const from of list) consumers[from]?.push(index);
  const lengths = heightsOf(plan, target, consumers);
  const heights = staggered(plan, strategy, lengths, distancesToWeights(plan, consumers, lengths));
  return { heights, consumers, waiting: producers.map((list) => list.length) };
};

/* ---------- dependencies ---------- */

/** Rows [row, end) of a panel that a task writes. */
interface Produced {
  readonly row: number;
  readonly end: number;
  readonly task: number;
}

/** For each task those that write rows which it reads. */
const producersOf = (plan: Plan): number[][] => {
  const produced: Produced[][][] = plan.storages.map(({ panels }) => Array.from({ length: panels }, () => []));
  for (const [task, { outputs, rows }] of plan.tasks.entries())
    for (const { storage, panel, row } of outputs) produced[storage]?.[panel]?.push({ row, end: row + rows, task });
  return plan.tasks.map((task) => {
    const found = new Set<number>();
    forEachRun(task, ({ storage, panel }, { row, step, count }) => {
      const last = row + step * (count - 1);
      const [low, high] = [Math.min(row, last), Math.max(row, last)];
      for (const producer of produced[storage]?.[panel] ?? [])
        if (producer.row <= high && producer.end > low) found.add(producer.task);
    });
    return [...found];
  });
};

/** Every run of rows that a task reads. */
const forEachRun = (task: Task, visit: (panel: PanelRef, run: Run) => void): void => {
  for (const leaf of task.leaves) for (const run of leaf.runs) visit(leaf, run);
  for (const pass of task.passes) {
    for (const run of pass.runs) visit(pass, run);
    if (!isTile(pass.weights)) for (const load of pass.weights) visit(load, load.run);
  }
};

/* ---------- heights ---------- */

const heightsOf = ({ tasks }: Plan, target: Target, consumers: Order["consumers"]): Float64Array => {
  const { timing, mxm } = target;
  const latency = 2 * mxm + timing.mxmMultiply + timing.mxmAccumulate + CHAIN_LENGTH * timing.vxmAlu;
  const heights = new Float64Array(tasks.length);
  for (const [index, { passes, rows }] of [...tasks.entries()].reverse()) {
    const length = passes.length === 0 ? latency / 2 + rows / 2 : latency + passes.length * rows;
    let after = 0;
    for (const next of consumers[index] ?? []) after = Math.max(after, heights[next] ?? 0);
    heights[index] = after + length;
  }
  return heights;
};

/** Cycles, at the least, from the start of each task until something that follows from it is loaded as weights. */
const distancesToWeights = (plan: Plan, consumers: Order["consumers"], heights: Float64Array): Float64Array => {
  const loaded = interleavedIn(plan);
  const distances = new Float64Array(plan.tasks.length).fill(NEVER);
  for (const [index, { outputs }] of [...plan.tasks.entries()].reverse()) {
    let distance = outputs.some(({ storage }) => loaded.has(storage)) ? 0 : NEVER;
    for (const next of consumers[index] ?? [])
      distance = Math.min(distance, (distances[next] ?? 0) + (heights[index] ?? 0) - (heights[next] ?? 0));
    distances[index] = distance;
  }
  return distances;
};

/**
 * Later blocks of rows stay behind on purpose, so that their work fills the latencies of the blocks before them; but not
 * what all blocks will soon wait for: rows that become weights.
 */
const staggered = (plan: Plan, strategy: Strategy, heights: Float64Array, toWeights: Float64Array): Float64Array =>
  heights.map((height, index) => {
    const output = plan.tasks[index]?.outputs[0];
    if (output === undefined || (toWeights[index] ?? 0) <= strategy.nearWeights) return height;
    return height - (strategy.stagger * output.row) / (plan.storages[output.storage]?.rows ?? 1);
  });

/* ---------- the next task ---------- */

/** A task with passes whose producers have their places. */
export interface Waiting {
  readonly index: number;
  readonly height: number;
  /** First cycle in which its first pass could start, by its operands. */
  readonly ready: number;
}

/** Takes the highest of some tasks out of the list; by number if there are several. */
export const takeHighest = (tasks: number[], heights: Float64Array): number | undefined => {
  let best = 0;
  for (let i = 1; i < tasks.length; i++) if (isHigher(heights, tasks[i] ?? 0, tasks[best] ?? 0)) best = i;
  return tasks.splice(best, 1)[0];
};

const isHigher = (heights: Float64Array, a: number, b: number): boolean => {
  const [high, low] = [heights[a] ?? 0, heights[b] ?? 0];
  return high > low || (high === low && a < b);
};

/** Takes the highest of the tasks that could start about as early as any. */
export const takeEarliest = (s: Scheduler, tasks: Waiting[]): number | undefined => {
  const free = Math.min(endOf(s.halves[0].array), endOf(s.halves[1].array));
  let first = NEVER;
  for (const { ready } of tasks) first = Math.min(first, Math.max(ready, free));
  let best = -1;
  for (const [i, task] of tasks.entries()) {
    if (Math.max(task.ready, free) > first + READY_SLACK) continue;
    const other = tasks[best];
    if (other === undefined || task.height > other.height || (task.height === other.height && task.index < other.index))
      best = i;
  }
  return best < 0 ? undefined : tasks.splice(best, 1)[0]?.index;
};

/** First cycle in which the first pass of a task could start: its activations, computed weights and chain operands are there. */
export const readyCycle = (s: Scheduler, task: Task): number => {
  const { timing, mxm } = s.target;
  let cycle = timing.barrier;
  /** `lead`: cycles from the dispatch of the first row, at position 0, to the start of the first pass. */
  const need = (panel: PanelRef, runs: readonly Run[], lead: number): void => {
    for (const piece of piecesOf(s, panel, runs)) cycle = Math.max(cycle, readyOf(piece) - piece.offset + lead);
  };
  for (const [index, pass] of task.passes.entries()) {
    const before = index * task.rows;
    need(pass, pass.runs, mxm - timing.mxmActivationSkew - before);
    if (isTile(pass.weights)) continue;
    let loaded = 0;
    for (const load of [...pass.weights].reverse()) {
      loaded += load.run.count / LOADED_TOGETHER;
      need(load, [load.run], mxm - timing.mxmWeightSkew + timing.mxmInstall + loaded - before);
    }
  }
  const arrival = timing.mxmMultiply + timing.mxmAccumulate + mxm;
  for (const leaf of task.leaves) need(leaf, leaf.runs, -arrival - (task.passes.length - 1) * task.rows);
  return cycle;
};
