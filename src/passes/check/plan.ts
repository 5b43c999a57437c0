/**
 * Part of the proof that a Program is its Plan: the values of the plan, task by task, in the numbers of values.ts.
 */

import { at, invariant } from "../../diagnostics.js";
import {
  type Argument,
  isTile,
  type PackedTile,
  type Pass,
  type Plan,
  type Run,
  type Storage,
  type Task,
  type TaskOutput,
  writtenBy,
} from "../../ir/plan.js";
import type { StreamType } from "../../ir/isa.js";
import { halfLanes, type Target } from "../../ir/target.js";
import { append, type Columns, consecutive, PLANES, UNKNOWN, Values } from "./values.js";

export interface PlanValues {
  readonly values: Values;
  /** By storage and panel: the number of the vector that is in each row in the end; UNKNOWN if none. */
  readonly rows: readonly (readonly Int32Array[])[];
  /** In order of numbers: vectors that tasks make, each where it is made first. */
  readonly made: readonly Made[];
}

/** `count` vectors from number `first` on, which a task writes to a panel from a row on. */
export interface Made {
  readonly first: number;
  readonly count: number;
  readonly task: number;
  readonly storage: number;
  readonly panel: number;
  readonly row: number;
}

interface Learned extends PlanValues {
  readonly made: Made[];
}

/** Vectors of a tile: two columns are one. */
export const vectorsOf = ({ columns }: Pick<PackedTile, "columns">): number => Math.ceil(columns / 2);

/**
 * Of tasks that are not followed, since their like are, what they make has numbers of its own, which stand for it whatever it is:
 * a burst that computes it is refused.
 */
export const planValues = (
  plan: Plan,
  target: Target,
  isFollowed: (task: Task) => boolean = () => true,
): PlanValues => {
  const values = new Values();
  const rows = plan.storages.map((storage) =>
    Array.from({ length: storage.panels }, (_, panel) => {
      const numbers = new Int32Array(storage.rows);
      if (storage.kind === "temp") return numbers;
      const first = values.panel(storage, panel);
      values.label(first, () => `panel ${panel} of ${storage.kind} '${storage.name}'`);
      for (let row = 0; row < storage.rows; row++) numbers[row] = first + PLANES * row;
      return numbers;
    }),
  );
  const learned = { values, rows, made: [] };
  for (const [index, task] of plan.tasks.entries())
    if (task.wire !== undefined) learnGiven(learned, plan, task);
    else if (isFollowed(task)) learnTask(learned, plan, target, index);
    else learnMade(learned, plan, index);
  values.seal();
  return learned;
};

/** What comes over links has numbers as what the host writes has: one for each row of its panel. */
const learnGiven = ({ values, rows }: PlanValues, plan: Plan, task: Task): void => {
  for (const output of task.outputs) {
    const { storage: id, panel } = output;
    const storage = plan.storages[id];
    const numbers = rows[id]?.[panel];
    invariant(storage !== undefined && numbers !== undefined, "a panel of a storage exists");
    const first = values.panel(storage, panel);
    values.label(first, () => `panel ${panel} of what is received as '${storage.name}'`);
    const { row, step, count } = writtenBy(task, output);
    for (let i = 0; i < count; i++) numbers[row + i * step] = first + PLANES * (row + i * step);
  }
};

const learnTask = (learned: Learned, plan: Plan, target: Target, index: number): void => {
  const task = at(plan.tasks, index, "task");
  const { values } = learned;
  const typeOf = (id: number): Storage["dtype"] => at(plan.storages, id, "storage").dtype;
  const sums = sumsOf(learned, target, task);
  const argument = (arg: Argument, ops: readonly number[]): number => {
    if ("constant" in arg) return values.constant(arg.constant);
    if ("op" in arg) return at(ops, arg.op, "operation");
    if ("mxm" in arg) return values.taken("f32", arg.map === undefined ? sums : permuted(arg.map, "f32", sums));
    const leaf = task.leaves[arg.leaf];
    invariant(leaf !== undefined, "a chain takes leaves of its task");
    const type = typeOf(leaf.storage);
    const vectors = vectorsIn(learned, leaf, leaf.runs);
    return values.taken(arg.as ?? type, leaf.map === undefined ? vectors : permuted(leaf.map, type, vectors));
  };
  const permuted = (map: number, type: Storage["dtype"], vectors: readonly Run[]): Run[] =>
    consecutive(values.results(values.permuted(map, type, vectors), type, task.rows), task.rows);
  const ops: number[] = [];
  for (const { fn, args } of task.ops)
    ops.push(
      values.applied(
        fn,
        args.map((arg) => argument(arg, ops)),
      ),
    );
  noteMade(learned, plan, index, ({ op }, type) => values.results(at(ops, op, "operation"), type, task.rows));
};

const learnMade = (learned: Learned, plan: Plan, index: number): void => {
  const { values } = learned;
  const { passes, rows } = at(plan.tasks, index, "task");
  for (const { weights } of passes) if (isTile(weights)) values.tile(weights.key, vectorsOf(weights));
  noteMade(learned, plan, index, ({ op }, type) => values.made(index, op, type, rows));
};

/** Notes which vectors a task writes: `firstOf` says the first of those that an output gives as a type. */
const noteMade = (
  { values, rows, made }: Learned,
  plan: Plan,
  index: number,
  firstOf: (output: TaskOutput, type: StreamType) => number,
): void => {
  const task = at(plan.tasks, index, "task");
  for (const output of task.outputs) {
    const { storage, panel, row, step = 1, as } = output;
    const { name, dtype } = at(plan.storages, storage, "storage");
    const first = firstOf(output, as ?? dtype);
    const last = row + (task.rows - 1) * step;
    values.label(first, () => `rows ${row} to ${last} of panel ${panel} of '${name}'`);
    const numbers = rows[storage]?.[panel];
    invariant(numbers !== undefined, "a panel of a storage exists");
    for (let i = 0; i < task.rows; i++) numbers[row + i * step] = first + PLANES * i;
    if (first > (made.at(-1)?.first ?? UNKNOWN))
      made.push({ first, count: task.rows, task: index, storage, panel, row });
  }
};

/** The vectors of the sums of a task's passes. */
const sumsOf = (learned: PlanValues, target: Target, { passes, rows }: Task): Run[] => {
  const { values } = learned;
  let sum: number | undefined;
  for (const pass of passes)
    sum = values.sum(
      sum,
      values.product(
        values.weights(loadedColumns(learned, target, pass.weights)),
        pass.half,
        vectorsIn(learned, pass, pass.runs),
      ),
    );
  return sum === undefined ? [] : consecutive(values.results(sum, "f32", rows), rows);
};

const loadedColumns = (learned: PlanValues, target: Target, weights: Pass["weights"]): Columns[] => {
  const columns: Columns[] = [];
  if (isTile(weights)) {
    const count = vectorsOf(weights);
    const vectors = consecutive(learned.values.tile(weights.key, count), count);
    return [{ type: weights.dtype, column: weights.column, half: "both", first: 0, lanes: halfLanes(target), vectors }];
  }
  for (const load of weights)
    appendColumns(columns, { type: "f16", ...load, vectors: vectorsIn(learned, load, [load.run]) });
  return columns;
};

/** Continues columns by further ones. */
export const appendColumns = (columns: Columns[], { type, column, half, first, lanes, vectors }: Columns): void => {
  const last = columns.at(-1);
  const each = half === "both" ? 2 : 1;
  const next = last === undefined ? -1 : last.column + each * lengthOf(last.vectors);
  const goesOn =
    last?.type === type && next === column && last.half === half && last.first === first && last.lanes === lanes;
  if (last === undefined || !goesOn) {
    columns.push({ type, column, half, first, lanes, vectors });
    return;
  }
  const joined = [...last.vectors];
  for (const run of vectors) append(joined, run);
  columns[columns.length - 1] = { ...last, vectors: joined };
};

const lengthOf = (runs: readonly Run[]): number => runs.reduce((sum, { count }) => sum + count, 0);

const vectorsIn = (
  { rows }: PlanValues,
  { storage, panel }: { readonly storage: number; readonly panel: number },
  runs: readonly Run[],
): Run[] => {
  const numbers = rows[storage]?.[panel];
  invariant(numbers !== undefined, "a panel of a storage exists");
  const vectors: Run[] = [];
  for (const { row, step, count } of runs) {
    const at = (index: number): number => numbers[row + index * step] ?? UNKNOWN;
    for (let i = 0; i < count; ) {
      const first = i++;
      const apart = i < count ? at(i) - at(first) : 0;
      while (i < count && at(i) - at(i - 1) === apart) i++;
      append(vectors, { row: at(first), step: apart, count: i - first });
    }
  }
  return vectors;
};
