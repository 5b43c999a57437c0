/**
 * Numbers for values, by which a Program is compared with its Plan: equal computations have equal numbers.
 *
 * Every vector has a number: a row of a constant or an input has its own; what a computation gives has ones in a row, by
 * the text of the computation, which names the numbers of what it takes. So a number stands for a whole history, and two
 * rows with one number hold the same values. Vectors that are taken one after another are written as runs of numbers, in one
 * form however they were cut. The plan is learned first (plan.ts); after that nothing is added, and a computation that
 * the plan does not have is UNKNOWN.
 */

import { ALU_FUNCTIONS, type AluFunction, STREAM_TYPES, type StreamType, type WeightType } from "../../ir/isa.js";
import type { Run, Storage } from "../../ir/plan.js";

/** No value of the plan. */
export const UNKNOWN = 0;
/** Vectors are numbered so far apart, and byte b of vector v has the number v + b. */
export const PLANES = 4;
/** The vector of zeros with which weight tiles are filled up. */
export const ZEROS = PLANES;

/** Weight columns that were loaded one after another from vectors: from half of each one, or two from a whole one. */
export interface Columns {
  /** As which the vectors' elements are taken. */
  readonly type: WeightType;
  readonly column: number;
  readonly half: 0 | 1 | "both";
  readonly first: number;
  readonly lanes: number;
  readonly vectors: readonly Run[];
}

export class Values {
  private readonly computations = new Map<string, number>();
  /** By computation: whether it gives integers. */
  private readonly integers: boolean[] = [false];
  private readonly vectors = new Map<string, number>();
  private readonly spans: { readonly first: number; readonly name: string }[] = [];
  private readonly labels = new Map<number, () => string>();
  private nextVector = ZEROS + PLANES;
  private learning = true;
  private readonly zero = this.as(true, this.constant(0));

  /** What was not learned so far is UNKNOWN from now on. */
  seal(): void {
    this.learning = false;
  }

  /** First of `count` consecutive vectors that go by a name. */
  private named(name: string, count: number): number {
    const known = this.vectors.get(name);
    if (known !== undefined) return known;
    if (!this.learning) return UNKNOWN;
    const first = this.nextVector;
    this.nextVector += PLANES * count;
    this.vectors.set(name, first);
    this.spans.push({ first, name });
    return first;
  }

  /** First of the vectors that a computation gives as a type. */
  results(computation: number, type: StreamType, count: number): number {
    return computation === UNKNOWN ? UNKNOWN : this.named(`${type} of ${computation} x${count}`, count);
  }

  /** First of the vectors that an operation of a task gives as a type, whatever it computes. */
  made(task: number, op: number, type: StreamType, count: number): number {
    return this.named(`${type} of operation ${op} of task ${task}`, count);
  }

  /** First of the rows of a panel of a constant or an input. */
  panel({ id, rows }: Storage, panel: number): number {
    return this.named(`panel ${panel} of storage ${id}`, rows);
  }

  /** First of the vectors of a weight tile. */
  tile(key: string, count: number): number {
    return this.named(`tile ${key}`, count);
  }

  constant(value: number): number {
    return this.number(Object.is(value, -0) ? "-0" : String(value), false);
  }

  /** Vectors taken from streams as a type. */
  taken(type: StreamType, vectors: readonly Run[]): number {
    return this.number(`${type} ${textOf(vectors)}`, isInteger(type));
  }

  /** An ALU function. A copy is what it copies, as a number; so is an integer to which zero is or-ed, as an integer. */
  applied(fn: AluFunction, args: readonly number[]): number {
    const { int } = ALU_FUNCTIONS[fn];
    const [a = UNKNOWN, ...others] = args.map((arg) => this.as(int, arg));
    if (fn === "copy" || (fn === "orBits" && others[0] === this.zero)) return a;
    return this.number(`${fn} ${[a, ...others].join(" ")}`, int);
  }

  permuted(map: number, type: StreamType, vectors: readonly Run[]): number {
    return this.number(`map ${map} ${type} ${textOf(vectors)}`, isInteger(type));
  }

  weights(columns: readonly Columns[]): number {
    const parts = columns.map(
      ({ type, column, half, first, lanes, vectors }) =>
        `${type} ${column} ${half} ${first} ${lanes} ${textOf(vectors)}`,
    );
    return this.number(`weights ${parts.join(";")}`, false);
  }

  product(weights: number, half: number, vectors: readonly Run[]): number {
    return this.number(`product ${weights} ${half} ${textOf(vectors)}`, false);
  }

  /** Sums begin with a product if `before` is undefined. */
  sum(before: number | undefined, product: number): number {
    return this.number(`sum ${before ?? "of"} ${product}`, false);
  }

  /** Says where vectors lie, for messages. */
  label(first: number, where: () => string): void {
    if (!this.labels.has(first)) this.labels.set(first, where);
  }

  /** Vectors in words. */
  describe(runs: readonly Run[]): string {
    const shown = runs.slice(0, 3).map(({ row, step, count }) => {
      const span = this.spans.filter(({ first }) => first <= row).at(-1);
      const name =
        span === undefined || row === UNKNOWN ? "unknown vectors" : (this.labels.get(span.first)?.() ?? span.name);
      const from = (row - (span?.first ?? 0)) / PLANES;
      return `${count} of ${name} from ${from} on${step === PLANES || count === 1 ? "" : `, ${step / PLANES} apart`}`;
    });
    return [...shown, ...(runs.length > 3 ? [`${runs.length - 3} more runs`] : [])].join(" and ");
  }

  private as(int: boolean, computation: number): number {
    return this.integers[computation] === int ? computation : this.number(`${int ? "int" : "num"} ${computation}`, int);
  }

  private number(text: string, int: boolean): number {
    const known = this.computations.get(text);
    if (known !== undefined) return known;
    if (!this.learning) return UNKNOWN;
    const next = this.integers.push(int) - 1;
    this.computations.set(text, next);
    return next;
  }
}

const isInteger = (type: StreamType): boolean => STREAM_TYPES[type].lane === "int";

/** `count` vectors from `first` on. */
export const consecutive = (first: number, count: number): Run[] => [
  { row: first, step: count === 1 ? 0 : PLANES, count },
];

/** Continues runs by another one. The form depends on the vectors alone, and not on how they were cut. */
export const append = (runs: Run[], { row, step, count }: Run): void => {
  const last = runs.at(-1);
  if (count === 0) return;
  const apart = last === undefined ? 0 : last.count === 1 ? row - last.row : last.step;
  if (last === undefined || row !== last.row + last.count * apart)
    runs.push({ row, step: count === 1 ? 0 : step, count });
  else if (count === 1 || step === apart)
    runs[runs.length - 1] = { row: last.row, step: apart, count: last.count + count };
  else {
    runs[runs.length - 1] = { row: last.row, step: apart, count: last.count + 1 };
    append(runs, { row: row + step, step, count: count - 1 });
  }
};

/** Runs one after another, as one list. */
export const joined = (lists: readonly (readonly Run[])[]): readonly Run[] => {
  const [first = []] = lists;
  if (lists.length === 1) return first;
  const runs: Run[] = [];
  for (const list of lists) for (const run of list) append(runs, run);
  return runs;
};

/** Vectors `from`, `from + step` and so on of runs. */
export const partOf = (runs: readonly Run[], from: number, step: number, count: number): readonly Run[] => {
  const [only] = runs;
  if (only !== undefined && runs.length === 1)
    return from === 0 && step === 1 && only.count === count
      ? runs
      : [{ row: only.row + from * only.step, step: count === 1 ? 0 : step * only.step, count }];
  const all = runs.flatMap((run) => Array.from({ length: run.count }, (_, i) => run.row + i * run.step));
  const part: Run[] = [];
  for (let i = 0; i < count; i++) append(part, { row: all[from + i * step] ?? UNKNOWN, step: 0, count: 1 });
  return part;
};

const textOf = (runs: readonly Run[]): string => {
  let text = "";
  for (const { row, step, count } of runs) text += `${row}+${step}x${count},`;
  return text;
};
