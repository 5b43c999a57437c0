/**
 * Dependencies: which tasks of a plan write the rows that a task reads. Rows count, not storages: a block of rows can go on
 * its way while others of the same storage wait, and is free again when its own readers are done.
 */

import { at, sure } from "../../diagnostics.js";
import { isTile, type PanelRef, type Plan, type Run, type StorageId, type Task, writtenBy } from "../../ir/plan.js";

/** Who waits for whom, by numbers of tasks. */
export interface Dependencies {
  /** By task: those that write what it reads. */
  readonly producers: readonly (readonly number[])[];
  /** By task: those that read what it writes. */
  readonly consumers: readonly (readonly number[])[];
}

export const dependenciesOf = (plan: Plan): Dependencies => {
  const producers = producersOf(plan);
  const consumers: number[][] = plan.tasks.map(() => []);
  for (const [index, list] of producers.entries()) for (const from of list) consumers[from]?.push(index);
  return { producers, consumers };
};

/** Rows [row, end) of a panel that a task writes. */
interface Produced {
  readonly row: number;
  readonly end: number;
  readonly task: number;
}

/**
 * For each task those that write rows which it reads, those that read the state whose rows it writes, and the one that uses
 * links before it: what goes over links keeps the order of the plan.
 */
const producersOf = (plan: Plan): number[][] => {
  const before = readsOfStates(plan);
  const wired = new Map<string, number>();
  const twins = new Map<string, number>();
  const produced: Produced[][][] = plan.storages.map(({ panels }) => Array.from({ length: panels }, () => []));
  for (const [task, { outputs, rows }] of plan.tasks.entries())
    for (const output of outputs) {
      const { row, step, count } = writtenBy({ rows }, output);
      produced[output.storage]?.[output.panel]?.push({ row, end: row + (count - 1) * step + 1, task });
    }
  return plan.tasks.map((task, index) => {
    const found = new Set<number>(task.outputs.flatMap((output) => readersOf(before, output, writtenBy(task, output))));
    for (const link of task.wire?.links ?? []) {
      const use = `${task.wire?.kind} ${link}`;
      const earlier = wired.get(use);
      if (earlier !== undefined) found.add(earlier);
      wired.set(use, index);
    }
    const { name, kind, twin } = task.wire ?? {};
    if (twin === true && name !== undefined && kind === "send") twins.set(name, index);
    const sent = twin === true && name !== undefined && kind === "receive" ? twins.get(name) : undefined;
    if (sent !== undefined) found.add(sent);
    forEachRun(task, ({ storage, panel }, { row, step, count }) => {
      const [low, high] = endsOf({ row, step, count });
      // Which block a chip writes itself, and which it receives, is other on each chip.
      const isAnyBlock = plan.storages[storage]?.blocks !== undefined;
      for (const producer of produced[storage]?.[panel] ?? [])
        if (isAnyBlock || (producer.row <= high && producer.end > low)) found.add(producer.task);
    });
    return [...found];
  });
};

/** Rows of a panel that a task reads. */
interface Read {
  readonly run: Run;
  readonly task: number;
}

/** By the storage that takes the rows of a state, and by panel: who reads which rows of the state. */
const readsOfStates = ({ states, storages, tasks }: Plan): ReadonlyMap<StorageId, readonly Read[][]> => {
  const read = new Map(
    states.map(({ storage }) => [
      storage,
      Array.from({ length: at(storages, storage, "storage").panels }, (): Read[] => []),
    ]),
  );
  for (const [task, own] of tasks.entries())
    forEachRun(own, ({ storage, panel }, run) => read.get(storage)?.[panel]?.push({ run, task }));
  return new Map(states.map(({ storage, next }) => [next, sure(read.get(storage), "state")]));
};

/** Tasks that read what lies in some rows of a panel before these are written; none of storages that take no state's rows. */
const readersOf = (reads: ReturnType<typeof readsOfStates>, { storage, panel }: PanelRef, rows: Run): number[] => {
  const panels = reads.get(storage);
  if (panels === undefined) return [];
  const own = at(panels, panel, "panel");
  return own.filter(({ run }) => mayMeet(run, rows)).map(({ task }) => task);
};

/** Whether two runs may have a row together: one lies among those of the other, as far as their steps allow it. */
const mayMeet = (a: Run, b: Run): boolean => {
  const [[low, high], [from, to]] = [endsOf(a), endsOf(b)];
  const step = commonDivisor(Math.abs(a.step), Math.abs(b.step));
  return low <= to && from <= high && (step === 0 || (a.row - b.row) % step === 0);
};

const endsOf = ({ row, step, count }: Run): readonly [number, number] => {
  const last = row + step * (count - 1);
  return [Math.min(row, last), Math.max(row, last)];
};

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/** Every run of rows that a task reads. */
const forEachRun = (task: Task, visit: (panel: PanelRef, run: Run) => void): void => {
  for (const leaf of task.leaves) for (const run of leaf.runs) visit(leaf, run);
  for (const pass of task.passes) {
    for (const run of pass.runs) visit(pass, run);
    if (!isTile(pass.weights)) for (const load of pass.weights) visit(load, load.run);
  }
};
