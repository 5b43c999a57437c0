/**
 * Space-time scheduling: gives every burst of a Plan its units, streams, rows and cycle. Plan -> Program.
 *
 * List scheduling in order of decreasing height (cycles to the end of the program), ties by task number, so the result
 * depends on the plan and the target alone. A task is a rigid figure that slides along time to the first place where all it
 * needs is free: it may fall into a hole that earlier decisions left. Weights of a pass are loaded as late as they may be,
 * while the array still computes the pass before. Legality is not argued here: check-schedule.ts derives it anew.
 *
 *   schedule-room     whether SRAM suffices         schedule-order   which task is next
 *   schedule-plan     facts of the plan alone       schedule-pass    a task's place: its passes,
 *   schedule-machine  what can be busy              schedule-weights   (loads) their weights,
 *   schedule-state    what lies and goes where      schedule-chain   its chain (timing, operands),
 *   schedule-trial    sliding, streams, dispatch    schedule-write   and what it writes
 *   schedule-place    rows for a panel              schedule-read    rows onto streams, by
 *   schedule-edge     inputs and outputs            schedule-ports   bursts of slice pairs
 *   resources, memory interval sets, rows of SRAM
 */

import { CompileError, invariant } from "../diagnostics.js";
import type { Plan, Task } from "../ir/plan.js";
import { chipCycles, type Program } from "../ir/program.js";
import type { Target } from "../ir/target.js";
import { releaseRows } from "./memory.js";
import { bind, placeEdge } from "./schedule-edge.js";
import { memoriesOf } from "./schedule-machine.js";
import { orderTasks, readyCycle, takeEarliest, takeHighest, type Waiting } from "./schedule-order.js";
import { placeTask } from "./schedule-pass.js";
import { readsOf } from "./schedule-plan.js";
import { checkRoom } from "./schedule-room.js";
import { type Copy, newScheduler, type Scheduler, type Strategy, storageOf } from "./schedule-state.js";

const STRATEGIES: readonly Strategy[] = [
  { stagger: 2000, nearWeights: 2000, duplicates: 0.88 },
  { stagger: 1000, nearWeights: 3000, duplicates: 0.88 },
  { stagger: 0, nearWeights: 0, duplicates: 0.88 },
  // When nothing else fits: no constant is in both hemispheres.
  { stagger: 0, nearWeights: 0, duplicates: 0 },
];
/** Long programs are scheduled fewer times: about so many tasks are placed in all. */
const TASKS_IN_ALL = 4_000;

export const schedule = (plan: Plan, target: Target): Program => {
  checkRoom(plan, target);
  const lastResort = STRATEGIES.length - 1;
  const wanted = Math.max(1, Math.min(lastResort, Math.floor(TASKS_IN_ALL / plan.tasks.length)));
  const programs: Program[] = [];
  const refusals: CompileError[] = [];
  for (const [index, strategy] of STRATEGIES.entries()) {
    if (programs.length === wanted || (index === lastResort && programs.length > 0)) break;
    const result = attempt(plan, target, strategy);
    if (result instanceof CompileError) refusals.push(result);
    else programs.push(result);
  }
  const [first, ...others] = programs;
  if (first !== undefined) return others.reduce((best, next) => (cyclesOf(next) < cyclesOf(best) ? next : best), first);
  // The last refusal is that of the most frugal strategy.
  const last = refusals[refusals.length - 1];
  invariant(last !== undefined, "a plan has a program, or a reason why not");
  throw last;
};

const cyclesOf = (program: Program): number => program.entries[0]?.cycles[0] ?? 0;

/** One schedule, or why there is none by this strategy. */
const attempt = (plan: Plan, target: Target, strategy: Strategy): Program | CompileError => {
  try {
    return scheduleBy(plan, target, strategy);
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
};

const scheduleBy = (plan: Plan, target: Target, strategy: Strategy): Program => {
  const s = newScheduler(plan, target, strategy);
  for (const storage of plan.storages) if (storage.output || storage.kind === "input") placeEdge(s, storage);
  const { heights, consumers, waiting } = orderTasks(plan, target, strategy);
  // Tasks whose producers are placed: those without an MXM pass go to their place at once, the others compete for the arrays.
  const chains: number[] = [];
  const passes: Waiting[] = [];
  const ready = (index: number, task: Task): void => {
    if (task.passes.length === 0) chains.push(index);
    else passes.push({ index, height: heights[index] ?? 0, ready: readyCycle(s, task) });
  };
  for (const [index, task] of plan.tasks.entries()) if (waiting[index] === 0) ready(index, task);
  for (let placed = 0; placed < plan.tasks.length; placed++) {
    const index = takeHighest(chains, heights) ?? takeEarliest(s, passes);
    invariant(index !== undefined, "tasks form no cycle");
    const task = taskAt(plan, index);
    placeTask(s, task);
    release(s, task);
    for (const next of consumers[index] ?? []) {
      const left = (waiting[next] ?? 0) - 1;
      waiting[next] = left;
      if (left === 0) ready(next, taskAt(plan, next));
    }
  }
  return finish(s);
};

const taskAt = (plan: Plan, index: number): Task => {
  const task = plan.tasks[index];
  invariant(task !== undefined, "a task exists");
  return task;
};

/** Rows that no later task reads are free after their last read. */
const release = (s: Scheduler, task: Task): void => {
  for (const id of readsOf(task)) {
    const left = (s.readers[id] ?? 0) - 1;
    s.readers[id] = left;
    const { kind, output } = storageOf(s, id);
    if (left !== 0 || kind !== "temp" || output) continue;
    for (const chunks of s.chunks[id] ?? [])
      for (const { rows, copies } of chunks) for (const copy of copies) releaseCopy(s, copy, rows);
  }
};

const releaseCopy = (s: Scheduler, { side, pairs, ways, address, lastRead }: Copy, rows: number): void => {
  const from = lastRead + s.target.timing.memWrite;
  releaseRows(memoriesOf(s.halves[side], pairs), address, Math.ceil(rows / ways), from);
};

const finish = (s: Scheduler): Program => {
  const { plan, target } = s;
  const inputs = plan.inputs.map((binding) => bind(s, binding));
  const outputs = plan.outputs.map((binding) => bind(s, binding));
  const queues = s.queues.map((queue) => [...queue].sort((a, b) => a.cycle - b.cycle));
  return {
    target,
    name: plan.name,
    chips: [{ queues, constants: s.constants.finish(), maps: plan.maps }],
    links: [],
    entries: [{ name: "main", inputs, outputs, cycles: [chipCycles(target, queues)] }],
    origins: plan.origins,
    macs: plan.macs,
  };
};
