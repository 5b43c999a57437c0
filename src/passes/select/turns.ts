/**
 * Turns: rows of a state in the order in which they are copied. States lie interleaved, so that as many rows as there are streams
 * load together; rows so far apart lie in one pair of slices, and what copies them leaves the other pairs to other bursts.
 */

import { at, invariant, sure } from "../../diagnostics.js";
import type { Run, StorageId, Task } from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";
import { runsThrough } from "./layout/operand.js";
import { rowBlock, rowBlocks } from "./selection.js";

/** Rows that are copied together. */
export interface Turn {
  readonly rows: Run;
  /** Rows of the turns before. */
  readonly before: number;
}

/** Turns of fewer rows than this are not worth a burst. */
const SHORTEST = 8;

/** All rows of a state in as many turns, a power of two, as are long enough; few rows as neighbours. */
export const turnsOf = (target: Target, rows: number): readonly Turn[] => {
  let step = target.streams / 2;
  while (step > 1 && rows < SHORTEST * step) step /= 2;
  if (step === 1)
    return rowBlocks(rows, rowBlock(target, rows)).map(({ row, rows: count }) => ({
      rows: { row, step: 1, count },
      before: row,
    }));
  let before = 0;
  return Array.from({ length: step }, (_, row) => {
    const turn = { rows: { row, step, count: Math.ceil((rows - row) / step) }, before };
    before += turn.rows.count;
    return turn;
  });
};

/** A row that a task makes. */
interface MadeRow {
  readonly task: Task;
  readonly index: number;
  /** Equal for rows that one task can make. */
  readonly kind: string;
}

/** Tasks from number `first` on that fill a storage, so that its rows lie one turn behind another. */
export const rearrange = (tasks: Task[], first: number, storage: StorageId, turns: readonly Turn[]): void => {
  if (turns.every(({ rows }) => rows.step === 1)) return;
  const made = new Map<number, MadeRow[]>();
  const others: Task[] = [];
  for (const task of tasks.slice(first)) {
    const [output] = task.outputs;
    if (output?.storage !== storage) others.push(task);
    else {
      const { ops, leaves, origin, passes } = task;
      invariant(passes.length === 0, "what is joined is copied");
      const kind = JSON.stringify([ops, leaves.map((leaf) => [leaf.storage, leaf.panel, leaf.map]), origin]);
      const rows = made.get(output.panel) ?? [];
      made.set(output.panel, rows);
      for (let index = 0; index < task.rows; index++) rows[output.row + index] = { task, index, kind };
    }
  }
  const turned = [...made].flatMap(([panel, rows]) =>
    turns.flatMap(({ rows: { row, step, count }, before }) => {
      const own = Array.from({ length: count }, (_, i) => at(rows, row + i * step, "row"));
      return alike(own).map(({ from, rows: some }) => taskOf(some, { storage, panel, row: before + from }));
    }),
  );
  tasks.splice(first, tasks.length - first, ...others, ...turned);
};

/** Neighbours that one task can make. */
const alike = (rows: readonly MadeRow[]): readonly { readonly from: number; readonly rows: readonly MadeRow[] }[] => {
  const groups: { from: number; rows: MadeRow[] }[] = [];
  for (const [from, row] of rows.entries()) {
    const last = groups.at(-1);
    if (last?.rows[0]?.kind === row.kind) last.rows.push(row);
    else groups.push({ from, rows: [row] });
  }
  return groups;
};

interface Place {
  readonly storage: StorageId;
  readonly panel: number;
  readonly row: number;
}

const taskOf = (rows: readonly MadeRow[], place: Place): Task => {
  const { task } = at(rows, 0, "row");
  const [output] = task.outputs;
  return {
    ...task,
    rows: rows.length,
    leaves: task.leaves.map((leaf, i) => ({
      ...leaf,
      runs: runsThrough(rows.map((made) => rowOf(at(made.task.leaves, i, "leaf").runs, made.index))),
    })),
    outputs: [{ ...sure(output, "output"), ...place }],
  };
};

/** The row that is number `index` of some runs. */
const rowOf = (runs: readonly Run[], index: number): number => {
  let before = 0;
  const run = runs.find(({ count }) => {
    before += count;
    return index < before;
  });
  const { row, step, count } = sure(run, "run");
  return row + (index - before + count) * step;
};
