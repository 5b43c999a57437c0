/**
 * What a stage makes again: results that follow from constants and inputs without weights and take less work than wire, like a
 * mask that all layers read. Every chip that reads one makes it, and nothing of it crosses a cut.
 */

import { at, sure } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import { isTile, type Plan, readsOf, type StorageId, type Task } from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";

/** Cycles of a task: rows through one of two arrays, or through ALUs. */
export const workOf = ({ rows, passes, ops }: Task, { alus }: Target): number =>
  Math.max((rows * passes.length) / 2, (rows * ops.length) / alus);

/** Whether a task multiplies by none of the model's weights, which would have to lie on every chip that does it. */
export const isWeightless = ({ passes }: Task): boolean =>
  passes.every(
    ({ weights }) => !isTile(weights) || weights.recipe.kind === "points" || "ones" in weights.recipe.matrix,
  );

/** Storages that are made again behind a cut, where so many links join the chips. */
export const madeAgain = (plan: Plan, target: Target, links: number): ReadonlySet<StorageId> => {
  const writers = writersOf(plan);
  const again = plan.storages.filter(({ id, kind, rows, panels, dtype, output }) => {
    const wire = (rows * panels * DTYPES[dtype].bytes * target.timing.linkInterval) / links;
    return kind === "temp" && !output && isMadeWithin(plan, target, writers, id, wire);
  });
  return new Set(again.map(({ id }) => id));
};

const writersOf = ({ storages, tasks }: Plan): ReadonlyMap<StorageId, readonly Task[]> => {
  const writers = new Map(storages.map(({ id }): [StorageId, Task[]] => [id, []]));
  for (const task of tasks) for (const { storage } of task.outputs) writers.get(storage)?.push(task);
  return writers;
};

/** Whether a storage is made from what is there at the start in so many cycles of work; never where a state is read for it. */
const isMadeWithin = (
  { storages }: Plan,
  target: Target,
  writers: ReadonlyMap<StorageId, readonly Task[]>,
  id: StorageId,
  most: number,
): boolean => {
  const known = new Set<StorageId>([id]);
  let work = 0;
  for (const made of known) {
    if (at(storages, made, "storage").kind === "state") return false;
    for (const task of sure(writers.get(made), "storage")) {
      work += task.rows + workOf(task, target);
      // What makes several things may make one that comes over a wire.
      if (work >= most || task.outputs.length > 1 || task.wire !== undefined || !isWeightless(task)) return false;
      for (const read of readsOf(task)) known.add(read);
    }
  }
  return true;
};

/** Whether a task makes nothing but what is made again where it is read. */
export const isAgain = ({ outputs }: Task, again: ReadonlySet<StorageId>): boolean =>
  outputs.length > 0 && outputs.every(({ storage }) => again.has(storage));

/** The tasks that make what some tasks read of what is made again, from the start on, or from what comes over a wire for others. */
export const makersFor = (
  plan: Plan,
  again: ReadonlySet<StorageId>,
  readers: readonly Task[],
  received: ReadonlySet<StorageId>,
): ReadonlySet<number> => {
  const wanted = new Set<StorageId>();
  for (const task of readers) for (const id of readsOf(task)) if (again.has(id)) wanted.add(id);
  const makers = new Set<number>();
  // What a task reads is written before it.
  for (const [index, task] of [...plan.tasks.entries()].reverse()) {
    if (!task.outputs.some(({ storage }) => wanted.has(storage))) continue;
    makers.add(index);
    for (const id of readsOf(task)) if (!received.has(id)) wanted.add(id);
  }
  return makers;
};
