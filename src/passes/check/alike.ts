/**
 * Part of the proof that a Program is its Plan: tasks that are the same but for the storages and tiles that they name, and how many
 * a layer of such tasks has.
 */

import { at, sure } from "../../diagnostics.js";
import { isTile, type Pass, type Run, type Task } from "../../ir/plan.js";
import { isSameRecord, KEPT } from "./repeat.js";

/** Where layers are looked for: in the middle of a plan they are most alike. */
export const middleOf = (tasks: readonly Task[]): number => Math.floor(tasks.length / 2);

/** How many tasks a layer most likely has: so many are, each, like the one behind as many. */
export const layerLength = (tasks: readonly Task[]): number => {
  const middle = middleOf(tasks);
  const isShaped = (length: number): boolean => {
    for (let i = middle; i < middle + length; i++) {
      const [task, next] = [tasks[i], tasks[i + length]];
      if (task === undefined || next === undefined || !haveSameShape(task, next)) return false;
    }
    return true;
  };
  for (let length = 1; length <= middle / KEPT; length++) if (isShaped(length)) return length;
  return 0;
};

/** Whether two tasks are the same but for the storages and tiles that they name. */
export const haveSameShape = (a: Task, b: Task): boolean =>
  a.wire === undefined &&
  b.wire === undefined &&
  a.rows === b.rows &&
  allAlike(a.passes, b.passes, isSamePass) &&
  allAlike(
    a.ops,
    b.ops,
    (x, y) => x.fn === y.fn && allAlike(x.args, y.args, (one, other) => isSameRecord(one, other)),
  ) &&
  allAlike(a.leaves, b.leaves, (x, y) => x.panel === y.panel && x.map === y.map && areEqual(x.runs, y.runs)) &&
  allAlike(a.outputs, b.outputs, (x, y) => isSameRecord(x, y, ["storage"]));

export const allAlike = <T>(a: readonly T[], b: readonly T[], isLike: (x: T, y: T) => boolean): boolean =>
  a === b || (a.length === b.length && a.every((x, i) => isLike(x, at(b, i, "counterpart"))));

const isSamePass = (a: Pass, b: Pass): boolean => {
  if (a.panel !== b.panel || a.half !== b.half || !areEqual(a.runs, b.runs)) return false;
  const [one, other] = [a.weights, b.weights];
  if (isTile(one) || isTile(other)) return isTile(one) && isTile(other) && isSameRecord(one, other, ["key", "recipe"]);
  return allAlike(one, other, (x, y) => isSameRecord(x, y, ["storage", "run"]) && isSameRecord(x.run, y.run));
};

/** Whether what stands for each is the same everywhere, also where it is known already. */
export const isMap = <T>(from: readonly T[], to: readonly T[], known: ReadonlyMap<T, T> = new Map()): boolean => {
  const all = new Map<T, T>();
  return from.every((one, i) => {
    const other = sure(to[i], "counterpart");
    const before = known.get(one) ?? all.get(one) ?? other;
    all.set(one, other);
    return before === other;
  });
};

/** Whether lists of runs are the same. */
export const areEqual = (a: readonly Run[], b: readonly Run[]): boolean =>
  a === b ||
  (a.length === b.length &&
    a.every(({ row, step, count }, i) => b[i]?.row === row && b[i]?.step === step && b[i]?.count === count));
