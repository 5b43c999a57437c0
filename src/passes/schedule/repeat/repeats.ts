/**
 * Repeats: a stretch of a plan's tasks that is the same again and again, as the layers of a transformer are.
 *
 * Two tasks are the same if they differ in nothing but which storages they read and write and which tiles they multiply by,
 * and these are numbered so that each is either shared or as much further in every instance. Selection lowers nodes in
 * order, so equal layers become equal stretches; nothing here knows about layers.
 */

import { at } from "../../../diagnostics.js";
import {
  type Argument,
  isTile,
  type Pass,
  type Plan,
  type Run,
  type StorageId,
  type Task,
  type WeightLoad,
} from "../../../ir/plan.js";
import { storagesNamed, tilesNamed } from "../../../ir/plan/names.js";
import type { Dependencies } from "../dependencies.js";

/** Fewer instances are not worth the trouble: some are scheduled one by one before a schedule repeats itself. */
const FEWEST_INSTANCES = 6;
/** Distances between equal tasks that are tried as the length of an instance. */
const CANDIDATES = 4;
/** Of a kind that an instance has several of, tasks so many further on are of the next instance. */
const NEIGHBOURS = 4;

export interface Repeat {
  /** First task of instance 0. Instance k follows instance k - 1 without a gap. */
  readonly first: number;
  /** Tasks of an instance. */
  readonly tasks: number;
  readonly count: number;
  /** By how much the number of a storage grows from an instance to the next, if it is not shared. */
  readonly storages: number;
  /** The lowest number of one that is not shared. */
  readonly firstStorage: StorageId;
  /** Storages that all instances read. */
  readonly shared: ReadonlySet<StorageId>;
}

/** Position of a task in a repeat: its instance, and its number there. */
interface Position {
  readonly instance: number;
  readonly slot: number;
}

export const positionIn = (repeat: Repeat | undefined, task: number): Position | undefined => {
  if (repeat === undefined) return undefined;
  const offset = task - repeat.first;
  if (offset < 0 || offset >= repeat.tasks * repeat.count) return undefined;
  return { instance: Math.floor(offset / repeat.tasks), slot: offset % repeat.tasks };
};

/** The number of a storage, the same for its counterparts in all instances. */
export const storageSlot = (repeat: Repeat | undefined, id: StorageId): number =>
  repeat === undefined || id < repeat.firstStorage
    ? id
    : repeat.firstStorage + ((id - repeat.firstStorage) % repeat.storages);

/** The longest repeat of a plan, if there is one. */
export const findRepeat = (plan: Plan, { consumers }: Dependencies): Repeat | undefined => {
  const tasks = identify(plan, consumers);
  let best: Repeat | undefined;
  for (const length of lengthsOf(tasks)) {
    const found = longestRun(tasks, length);
    if (found !== undefined && found.count >= FEWEST_INSTANCES && sizeOf(found) > sizeOf(best)) best = found;
  }
  return best;
};

const sizeOf = (repeat: Repeat | undefined): number => (repeat === undefined ? 0 : repeat.tasks * repeat.count);

/** A task in numbers: what it is like, and what it refers to. */
interface Identified {
  readonly kind: number;
  readonly storages: readonly StorageId[];
  readonly tiles: readonly number[];
}

const identify = (plan: Plan, consumers: Dependencies["consumers"]): Identified[] => {
  const shapeOf = shapes();
  const kinds = numbering<string>();
  const tiles = numbering<string>();
  const storageKinds = numbering<string>();
  const storages = plan.storages.map(({ dtype, rows, panels, kind, bothHemispheres, output }, id) =>
    // What the host or the next run reads has a place of its own.
    storageKinds([dtype, rows, panels, kind, bothHemispheres, output || kind === "state" ? id : ""].join()),
  );
  return plan.tasks.map((task, index) => {
    const ids = storagesNamed(task);
    // What goes over links keeps its order, and is placed one by one.
    const shape = task.wire === undefined ? shapeOf(task) : `wire ${index}`;
    return {
      kind: kinds(`${consumers[index]?.length} ${shape} ${ids.map((id) => storages[id]).join(" ")}`),
      storages: ids,
      tiles: tilesNamed(task).map(({ key }) => tiles(key)),
    };
  });
};

/** Numbers keys in the order in which they first come. */
const numbering = <K>(): ((key: K) => number) => {
  const numbers = new Map<K, number>();
  return (key) => {
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, numbers.size);
    return numbers.size - 1;
  };
};

/** A task without the names of what it refers to, as text. Instances share runs and operands, which are not written out more than once. */
const shapes = (): ((task: Task) => string) => {
  const runsText = writtenOnce((runs: readonly Run[]) => runs.map(runText).join());
  const argsText = writtenOnce((args: readonly Argument[]) => args.map(argumentText).join(" "));
  const loadText = ({ panel, run, half, first, lanes, column }: WeightLoad): string =>
    `${panel},${runText(run)},${half},${first},${lanes},${column}`;
  const weightsText = (weights: Pass["weights"]): string =>
    isTile(weights) ? `${weights.columns} ${weights.column}` : weights.map(loadText).join(" ");
  return ({ rows, passes, ops, leaves, outputs }) =>
    [
      rows,
      ...passes.map(({ panel, half, runs, weights }) => `${panel} ${half} ${runsText(runs)} ${weightsText(weights)}`),
      ops.map(({ fn, args }) => `${fn} ${argsText(args)}`).join(),
      ...leaves.map(({ panel, runs, map }) => `${panel} ${runsText(runs)} ${map}`),
      ...outputs.map(({ op, panel, row, step, as }) => `${op} ${panel} ${row} ${step} ${as}`),
    ].join(";");
};

const runText = ({ row, step, count }: Run): string => `${row}+${step}*${count}`;

/** Not as JSON has it, where numbers that are not finite are all the same, and zeros too. */
const argumentText = (argument: Argument): string =>
  "constant" in argument && Object.is(argument.constant, -0)
    ? "constant -0"
    : Object.entries(argument)
        .map(([name, value]) => `${name} ${value}`)
        .join();

const writtenOnce = <T extends object>(textOf: (one: T) => string): ((one: T) => string) => {
  const known = new Map<T, string>();
  return (one) => {
    const text = known.get(one) ?? textOf(one);
    known.set(one, text);
    return text;
  };
};

/** The most frequent distances between tasks of the rarest kind that comes often enough. */
const lengthsOf = (tasks: readonly Identified[]): number[] => {
  const places = new Map<number, number[]>();
  for (const [index, { kind }] of tasks.entries()) {
    const known = places.get(kind);
    if (known === undefined) places.set(kind, [index]);
    else known.push(index);
  }
  let rarest: number[] = [];
  for (const list of places.values())
    if (list.length >= FEWEST_INSTANCES && (rarest.length === 0 || list.length < rarest.length)) rarest = list;
  const counts = new Map<number, number>();
  for (const [i, from] of rarest.entries())
    for (const to of rarest.slice(i + 1, i + 1 + NEIGHBOURS)) counts.set(to - from, (counts.get(to - from) ?? 0) + 1);
  const distances = [...counts].sort(([a, often], [b, oftener]) => oftener - often || a - b);
  return distances.slice(0, CANDIDATES).map(([distance]) => distance);
};

/** The longest stretch in which every task is the same as the one `length` tasks later. */
const longestRun = (tasks: readonly Identified[], length: number): Repeat | undefined => {
  let best: Repeat | undefined;
  for (let first = 0; first + length < tasks.length; ) {
    if (tasks[first]?.kind !== tasks[first + length]?.kind) {
      first++;
      continue;
    }
    const run = runFrom(tasks, length, first);
    if (run.count > 1 && sizeOf(run) > sizeOf(best)) best = run;
    first += Math.max(1, (run.count - 1) * run.tasks);
  }
  return best;
};

const runFrom = (tasks: readonly Identified[], length: number, first: number): Repeat => {
  const storages = newStep();
  const tiles = newStep();
  let same = 0;
  for (; first + same + length < tasks.length; same++) {
    const task = at(tasks, first + same, "task");
    const next = at(tasks, first + same + length, "task");
    if (task.kind !== next.kind) break;
    if (!isStep(storages, task.storages, next.storages) || !isStep(tiles, task.tiles, next.tiles)) break;
  }
  const count = same < length ? 1 : Math.floor(same / length) + 1;
  return {
    first,
    tasks: length,
    count,
    storages: storages.by,
    firstStorage: Math.min(...storages.owned),
    shared: storages.shared,
  };
};

/** How numbers change from an instance to the next: those of shared things not at all, all others by the same amount. */
interface Step {
  by: number;
  readonly shared: Set<number>;
  readonly owned: Set<number>;
}

const newStep = (): Step => ({ by: 0, shared: new Set(), owned: new Set() });

const isStep = (step: Step, before: readonly number[], after: readonly number[]): boolean =>
  before.every((from, i) => {
    const by = at(after, i, "task") - from;
    if (by !== 0 && step.by === 0) step.by = by;
    (by === 0 ? step.shared : step.owned).add(from);
    return (by === 0 || by === step.by) && !(step.shared.has(from) && step.owned.has(from));
  });
