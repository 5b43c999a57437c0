/**
 * Order: how far each task is from the end of the program, when results ask for it, and which of those that may go is next.
 *
 * Tasks without an MXM pass go to their place as soon as their producers have one, the highest first. The others compete
 * for the arrays: an array must not idle for the sake of a task that is not ready, however high. What only the next run needs
 * comes last, and fills what is left, but for what would fill SRAM until then.
 */

import { at } from "../../diagnostics.js";
import { spanOfWired } from "../../ir/plan/wires.js";
import { isTile, LOAD_WAYS, type PanelRef, type Plan, type Run, type Task } from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";
import { endOf, NEVER } from "./chip/resources.js";
import type { Dependencies } from "./dependencies.js";
import { type PlanFacts, taskAt } from "./figures.js";
import { readyOf } from "./chip/ports.js";
import { piecesOf } from "./task/read.js";
import { resultRoom, type Scheduler, type Strategy } from "./state.js";

/** Share of what results may take. */
const CROWDED = 1 / 4;
/** Cycles for which a pass that only the next run needs leaves the arrays to what is not ready yet: that is of the same layer. */
const PATIENCE = 300;
/** Cycles for which an array may wait for a task with a longer way to go. */
const READY_SLACK = 16;
/** ALU operations of a chain, one after another, as heights count them. */
const CHAIN_LENGTH = 8;

/** What follows from a plan alone about the order of its tasks. */
export interface Order {
  /** By task: cycles, at the least, from its start to the end of the program. */
  readonly lengths: Float64Array;
  /** By task: cycles, at the least, from its start until something that follows from it is loaded as weights. */
  readonly toWeights: Float64Array;
  /** By task: its number in an order in which few results wait for their readers at once. */
  readonly demanded: Float64Array;
  /** Tasks that only the next run needs. */
  readonly forNextRun: ReadonlySet<number>;
}

export const orderOf = (plan: Plan, target: Target, { producers, consumers, interleaved }: PlanFacts): Order => {
  const lengths = lengthsOf(plan, target, consumers);
  const toWeights = distancesToWeights(plan, consumers, lengths, interleaved);
  const forNextRun = tasksForNextRun(plan, consumers);
  return { lengths, toWeights, demanded: demandOf(producers, consumers), forNextRun };
};

/** Tasks that have no place yet. */
export interface Agenda {
  /** By task: how far it is from the end of the program, in cycles, less what it is to stay behind; or how soon results want it. */
  readonly heights: Float64Array;
  /** By task: producers that have no place yet; PLACED if it has one itself. */
  readonly waiting: number[];
  /** Tasks that wait for no one: those without a pass, those with, and those without that only the next run needs. */
  readonly chains: number[];
  readonly passes: Waiting[];
  readonly last: number[];
  readonly forNextRun: ReadonlySet<number>;
}

/** A task with passes whose producers have their places. */
interface Waiting {
  readonly index: number;
  /** First cycle in which its first pass could start, by its operands. */
  readonly ready: number;
}

const PLACED = -1;
const UNNUMBERED = -1;

export const newAgenda = (s: Scheduler, order: Order): Agenda => {
  const { plan, strategy } = s;
  const waiting = s.producers.map((list) => list.length);
  const heights =
    strategy.thrift === "none" ? staggered(plan, strategy, order) : order.demanded.map((number) => -number);
  const agenda: Agenda = { heights, waiting, chains: [], passes: [], last: [], forNextRun: order.forNextRun };
  for (const index of plan.tasks.keys()) if (waiting[index] === 0) addReady(s, agenda, index);
  return agenda;
};

const addReady = (s: Scheduler, { chains, passes, last, forNextRun }: Agenda, index: number): void => {
  const task = taskAt(s.plan, index);
  const isLast = forNextRun.has(index);
  if (task.passes.length > 0) passes.push({ index, ready: readyCycle(s, task) + (isLast ? PATIENCE : 0) });
  else if (isLast) last.push(index);
  else chains.push(index);
};

/** Whether all that a task reads has its place, and it has none itself. */
export const isNext = ({ waiting }: Agenda, index: number): boolean => waiting[index] === 0;

/** Takes a task that has its place off the agenda; those that waited for it alone are next. */
export const markPlaced = (s: Scheduler, agenda: Agenda, index: number): void => {
  const { passes, waiting } = agenda;
  for (const list of [agenda.chains, agenda.last]) if (list.includes(index)) list.splice(list.indexOf(index), 1);
  const pass = passes.findIndex((task) => task.index === index);
  if (pass >= 0) passes.splice(pass, 1);
  waiting[index] = PLACED;
  for (const next of at(s.consumers, index, "task")) {
    const left = at(waiting, next, "task") - 1;
    waiting[next] = left;
    if (left === 0) addReady(s, agenda, next);
  }
};

/** The task that goes to its place next; undefined if all have theirs. */
export const nextTask = (s: Scheduler, agenda: Agenda): number | undefined => {
  const { draw } = s.strategy;
  if (draw !== undefined) {
    const all = allReady(agenda);
    return all[all.length > 0 ? draw(all.length) : 0];
  }
  if (s.strategy.thrift === "all") return highest(agenda, allReady(agenda));
  const relief = isCrowded(s) ? highest(agenda, agenda.last) : undefined;
  return highest(agenda, agenda.chains) ?? relief ?? earliest(s, agenda) ?? highest(agenda, agenda.last);
};

/** Whether results that wait for readers take so much of what they may that those are not to wait which only the next run needs. */
const isCrowded = (s: Scheduler): boolean =>
  s.halves.some((half) => s.wanted[half.side] > CROWDED * resultRoom(s, half));

const allReady = ({ chains, passes, last }: Agenda): readonly number[] => [
  ...chains,
  ...passes.map(({ index }) => index),
  ...last,
];

/** What leaves a state to the next run: what this one waits for takes arrays, ports and streams before that. */
const tasksForNextRun = (plan: Plan, consumers: Dependencies["consumers"]): ReadonlySet<number> => {
  const nexts = new Set(plan.states.map(({ next }) => next));
  const found = new Set<number>();
  for (const [index, { outputs }] of [...plan.tasks.entries()].reverse()) {
    const after = at(consumers, index, "list of readers");
    // What is sent has no outputs, and the next chip waits for it.
    const isNextState = outputs.length > 0 && outputs.every(({ storage }) => nexts.has(storage));
    if ((isNextState || after.length > 0) && after.every((next) => found.has(next))) found.add(index);
  }
  return found;
};

/* ---------- heights ---------- */

const lengthsOf = (plan: Plan, target: Target, consumers: Dependencies["consumers"]): Float64Array => {
  const { timing, mxm } = target;
  const latency = 2 * mxm + timing.mxmMultiply + timing.mxmAccumulate + CHAIN_LENGTH * timing.vxmAlu;
  const heights = new Float64Array(plan.tasks.length);
  for (const [index, task] of [...plan.tasks.entries()].reverse()) {
    const { passes, rows, wire } = task;
    // What is behind it on its links waits until it is over.
    const flow = wire === undefined ? rows / 2 : spanOfWired(plan, target, task);
    const length = passes.length === 0 ? latency / 2 + flow : latency + passes.length * rows;
    let after = 0;
    for (const next of at(consumers, index, "task")) after = Math.max(after, at(heights, next, "task"));
    heights[index] = after + length;
  }
  return heights;
};

const distancesToWeights = (
  plan: Plan,
  consumers: Dependencies["consumers"],
  heights: Float64Array,
  interleaved: PlanFacts["interleaved"],
): Float64Array => {
  const distances = new Float64Array(plan.tasks.length).fill(NEVER);
  for (const [index, { outputs }] of [...plan.tasks.entries()].reverse()) {
    let distance = outputs.some(({ storage }) => interleaved.has(storage)) ? 0 : NEVER;
    for (const next of at(consumers, index, "task"))
      distance = Math.min(
        distance,
        at(distances, next, "task") + at(heights, index, "task") - at(heights, next, "task"),
      );
    distances[index] = distance;
  }
  return distances;
};

/**
 * Later blocks of rows stay behind on purpose, so that their work fills the latencies of the blocks before them; but not
 * what all blocks will soon wait for: rows that become weights.
 */
const staggered = (plan: Plan, strategy: Strategy, { lengths, toWeights }: Order): Float64Array =>
  lengths.map((height, index) => {
    const output = plan.tasks[index]?.outputs[0];
    if (output === undefined || at(toWeights, index, "task") <= strategy.nearWeights) return height;
    return height - (strategy.stagger * output.row) / at(plan.storages, output.storage, "storage").rows;
  });

/* ---------- demand ---------- */

/**
 * Tasks in the order in which results ask for them: a task comes right behind the last of what it reads, and what that
 * reads right before. Of an attention, a block of queries comes to its end before the scores of the next are made.
 */
const demandOf = (producers: Dependencies["producers"], consumers: Dependencies["consumers"]): Float64Array => {
  const numbers = new Float64Array(producers.length).fill(UNNUMBERED);
  let next = 0;
  for (const [result, readers] of consumers.entries()) {
    if (readers.length > 0) continue;
    const path = [{ task: result, asked: 0 }];
    for (let last = path.at(-1); last !== undefined; last = path.at(-1)) {
      const asked = producers[last.task]?.[last.asked++];
      if (asked === undefined) {
        numbers[last.task] = next++;
        path.pop();
      } else if (numbers[asked] === UNNUMBERED) path.push({ task: asked, asked: 0 });
    }
  }
  return numbers;
};

/* ---------- the next task ---------- */

const highest = (agenda: Agenda, tasks: readonly number[]): number | undefined => {
  let best: number | undefined;
  for (const task of tasks) if (best === undefined || isHigher(agenda, task, best)) best = task;
  return best;
};

/** By number if two are as high. */
const isHigher = ({ heights }: Agenda, a: number, b: number): boolean => {
  const [high, low] = [at(heights, a, "task"), at(heights, b, "task")];
  return high > low || (high === low && a < b);
};

/** The highest of the tasks with passes that could start about as early as any. */
const earliest = (s: Scheduler, agenda: Agenda): number | undefined => {
  const free = Math.min(endOf(s.halves[0].array), endOf(s.halves[1].array));
  let first = NEVER;
  for (const { ready } of agenda.passes) first = Math.min(first, Math.max(ready, free));
  let best: number | undefined;
  for (const { index, ready } of agenda.passes)
    if (Math.max(ready, free) <= first + READY_SLACK && (best === undefined || isHigher(agenda, index, best)))
      best = index;
  return best;
};

/** First cycle in which the first pass of a task could start: its activations, computed weights and chain operands are there. */
const readyCycle = (s: Scheduler, task: Task): number => {
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
      loaded += load.run.count / LOAD_WAYS;
      need(load, [load.run], mxm - timing.mxmWeightSkew + timing.mxmInstall + loaded - before);
    }
  }
  const arrival = timing.mxmMultiply + timing.mxmAccumulate + mxm;
  for (const leaf of task.leaves) need(leaf, leaf.runs, -arrival - (task.passes.length - 1) * task.rows);
  return cycle;
};
