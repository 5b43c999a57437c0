/**
 * Where a plan is cut into stages: after which tasks, so that the longest stage is as short as can be.
 *
 * Work is counted in cycles of the arrays and the ALUs, as if nothing else took time; what crosses a cut in cycles of its
 * links, at the stage that sends. The places where it is narrow are what is chosen among: one in each of many shares
 * of equal work. What a stage holds in SRAM is bounded too. States stay on one chip: no cut is between the tasks that read one.
 */

import { at, sure } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import { isWeightless, workOf } from "./again.js";
import { nodesOf, type Plan, readsOf, type Storage, type StorageId, type Task, TILE_TYPES } from "../../ir/plan.js";
import { tilesNamed } from "../../ir/plan/names.js";
import { sramBytes, type Target } from "../../ir/target.js";

/** Where a plan is cut. */
export interface Cuts {
  /** By task: its stage. No task reads what a later stage writes. */
  readonly stageOf: Int32Array;
}

/** Into how many stages a plan is to be cut, and what is given. */
export interface Division {
  /** What crosses no cut. */
  readonly again: ReadonlySet<StorageId>;
  readonly stages: number;
  /** Links from a stage to the next. */
  readonly links: number;
  /** Stages of states, by name, as far as an earlier entry of the program has them somewhere. */
  readonly homes: ReadonlyMap<string, number>;
  /** Stages of ONNX nodes, by name, as far as the model says them. */
  readonly stageOf: ReadonlyMap<string, number>;
}

/** Shares of equal work for each stage, in each of which one place to cut is looked at. */
const SHARES = 64;
/** What constants and edges of a stage may take of SRAM; results need the rest. */
export const MOST_RESIDENT = 0.94;

/** Undefined if there are not enough places. */
export const cutsOf = (plan: Plan, target: Target, division: Division): Cuts | undefined => {
  const places = placesOf(plan, target, division);
  const capacity = MOST_RESIDENT * sramBytes(target);
  // What fits nowhere is cut as evenly as it can be: then the stage that is too large says by how much.
  const chosen =
    shortest(places, division.stages, capacity) ?? shortest(places, division.stages, Number.POSITIVE_INFINITY);
  if (chosen === undefined) return undefined;
  const stageOf = new Int32Array(plan.tasks.length);
  for (const index of stageOf.keys()) stageOf[index] = chosen.filter((cut) => cut <= index).length;
  settle(plan, stageOf, division.homes);
  return isWhole(plan, stageOf) ? { stageOf } : undefined;
};

/** Whether each output is written on one chip, and each state taken where it is read. */
const isWhole = (plan: Plan, stageOf: Int32Array): boolean => {
  const writers = outputWriters(plan);
  const readers = stateReaders(plan);
  const together = [
    ...writers.values(),
    ...plan.states.map(({ storage, next }) => [...(readers.get(storage) ?? []), ...(writers.get(next) ?? [])]),
  ];
  return together.every((tasks) => tasks.every((task) => stageOf[task] === stageOf[at(tasks, 0, "task")]));
};

/** A place to cut, before a task; the last one is the end of the plan. */
interface Place {
  readonly task: number;
  /** Cycles of work before it. */
  readonly work: number;
  /** Cycles of links that what crosses it takes. */
  readonly wire: number;
  /** Bytes that what comes before it needs from the first cycle on. */
  readonly resident: number;
  /** The first and the last cut that it may be, by the stages in which states are. */
  readonly least: number;
  readonly most: number;
}

const placesOf = (plan: Plan, target: Target, { stages, links, again, homes, stageOf }: Division): Place[] => {
  const { tasks } = plan;
  const { least, most } = cutsAround(plan, { homes, stageOf, stages });
  const crossing = crossingVectors(plan, again);
  const held = heldAcross(plan);
  const bytes = residentAt(plan, target);
  const works = tasks.map((task) => workOf(task, target));
  const total = works.reduce((sum, work) => sum + work, 0);
  const best = new Map<string, Place>();
  let [work, resident] = [0, 0];
  for (let task = 0; task < tasks.length; task++) {
    const wire = (at(crossing, task, "task") * target.timing.linkInterval) / links;
    const share = Math.floor((work * stages * SHARES) / Math.max(1, total));
    const cuts = { least: at(least, task, "task"), most: at(most, task, "task") };
    const key = `${share} ${cuts.least} ${cuts.most}`;
    const known = best.get(key);
    if (task > 0 && held[task] === 0 && cuts.least <= cuts.most && (known === undefined || wire < known.wire))
      best.set(key, { ...cuts, task, work, wire, resident });
    work += at(works, task, "task");
    resident += at(bytes, task, "task");
  }
  return [...best.values(), { task: tasks.length, work, wire: 0, resident, least: 0, most: stages }];
};

/**
 * By task: which cuts may be before it, so that tasks that read states are in the stages where these are, and others where they
 * must be.
 */
const cutsAround = (plan: Plan, { homes, stageOf, stages }: Pick<Division, "homes" | "stageOf" | "stages">) => {
  const readers = stateReaders(plan);
  const last = lastTasks(plan);
  const least = new Int32Array(plan.tasks.length).fill(1);
  const most = new Int32Array(plan.tasks.length).fill(stages - 1);
  for (const { name, storage, next } of plan.states) {
    const home = homes.get(name);
    const [first] = sure(readers.get(storage), "state").filter((index) => !last.has(index));
    if (home === undefined) continue;
    // What nothing reads is only moved on: what makes its next value is in no later stage.
    const until = first ?? lastMaker(plan, last, next);
    for (const index of least.keys())
      if (index <= until) most[index] = Math.min(at(most, index, "task"), home);
      else if (first !== undefined) least[index] = Math.max(at(least, index, "task"), home + 1);
  }
  const fixed = plan.tasks.map((task, index) => (last.has(index) ? undefined : fixedStage(plan, task, stageOf)));
  for (let index = 1, stage = 0; index < fixed.length; index++) {
    const before = fixed[index - 1];
    if (before !== undefined) stage = Math.max(stage, before + 1);
    least[index] = Math.max(at(least, index, "task"), stage);
  }
  for (let index = fixed.length - 1, stage = stages; index >= 0; index--) {
    stage = Math.min(stage, fixed[index] ?? stages);
    most[index] = Math.min(at(most, index, "task"), stage);
  }
  return { least, most };
};

/** The last of the stages that ONNX nodes have that a task was made from. */
const fixedStage = (plan: Plan, task: Task, stageOf: Division["stageOf"]): number | undefined => {
  if (stageOf.size === 0) return undefined;
  const said = nodesOf(plan, task).flatMap((name) => stageOf.get(name) ?? []);
  return said.length === 0 ? undefined : Math.max(...said);
};

/** The tasks before which the plan is cut into so many stages, none with more than `capacity` bytes; undefined if that cannot be. */
const shortest = (places: readonly Place[], stages: number, capacity: number): number[] | undefined => {
  /** For each place: the longest stage up to it, and the place of the cut before. */
  let lengths = places.map(({ work, wire, resident }) =>
    resident <= capacity ? work + wire : Number.POSITIVE_INFINITY,
  );
  const before: Int32Array[] = [];
  for (let stage = 1; stage < stages; stage++) {
    const from = new Int32Array(places.length).fill(-1);
    const next = places.map((place, index) => {
      let best = Number.POSITIVE_INFINITY;
      for (let cut = 0; cut < index; cut++) {
        const start = places[cut];
        if (start === undefined || place.resident - start.resident > capacity) continue;
        if (stage < start.least || stage > start.most) continue;
        const longest = Math.max(at(lengths, cut, "place"), place.work - start.work + place.wire);
        if (longest >= best) continue;
        best = longest;
        from[index] = cut;
      }
      return best;
    });
    before.push(from);
    lengths = next;
  }
  let last = places.length - 1;
  if (lengths[last] === Number.POSITIVE_INFINITY) return undefined;
  const cuts: number[] = [];
  for (const from of before.reverse()) {
    last = at(from, last, "place");
    cuts.unshift(at(places, last, "place").task);
  }
  return cuts;
};

/* ---------- what lies where ---------- */

/** By task: vectors that are written before it and not made again, and read by it or behind it. */
const crossingVectors = ({ storages, tasks }: Plan, again: ReadonlySet<StorageId>): Float64Array => {
  const last = new Map<StorageId, number>();
  for (const [index, task] of tasks.entries()) for (const id of readsOf(task)) last.set(id, index);
  const changes = new Float64Array(tasks.length + 1);
  for (const [index, { outputs, rows }] of tasks.entries())
    for (const { storage } of outputs) {
      const end = last.get(storage) ?? index;
      if (end <= index || again.has(storage)) continue;
      const vectors = rows * DTYPES[at(storages, storage, "storage").dtype].bytes;
      between(changes, index, end, vectors);
    }
  return summedUp(changes);
};

/** By task: whether a cut before it would part what must be on one chip: readers of a state, and writers of what the host reads. */
const heldAcross = (plan: Plan): Float64Array => {
  const changes = new Float64Array(plan.tasks.length + 1);
  const free = lastTasks(plan);
  for (const tasks of [...stateReaders(plan).values(), ...outputWriters(plan).values()]) {
    const fixed = tasks.filter((index) => !free.has(index));
    const [first, last] = [fixed[0], fixed.at(-1)];
    if (first === undefined || last === undefined) continue;
    between(changes, first, last, 1);
  }
  return summedUp(changes);
};

const stateReaders = ({ states, tasks }: Plan): Map<StorageId, number[]> => {
  const readers = new Map(states.map(({ storage }): [StorageId, number[]] => [storage, []]));
  for (const [index, task] of tasks.entries()) for (const id of readsOf(task)) readers.get(id)?.push(index);
  return readers;
};

const outputWriters = ({ storages, tasks }: Plan): Map<StorageId, number[]> => {
  const writers = new Map(storages.flatMap(({ id, output }): [StorageId, number[]][] => (output ? [[id, []]] : [])));
  for (const [index, { outputs }] of tasks.entries())
    for (const { storage } of outputs) writers.get(storage)?.push(index);
  return writers;
};

/** Counts something behind a task and up to another. */
const between = (changes: Float64Array, first: number, last: number, amount: number): void => {
  changes[first + 1] = at(changes, first + 1, "task") + amount;
  changes[last + 1] = at(changes, last + 1, "task") - amount;
};

const summedUp = (changes: Float64Array): Float64Array => {
  let sum = 0;
  return changes.map((change) => {
    sum += change;
    return sum;
  });
};

/** By task: bytes of SRAM that it is the first to need: weights, and rows of constants and of what the host reads or writes. */
const residentAt = ({ storages, tasks, states }: Plan, { lanes }: Target): number[] => {
  // What takes the place of a state lies in its rows.
  const known = new Set<StorageId | string>(states.map(({ next }) => next));
  const sizeOf = ({ dtype, rows, panels, bothHemispheres }: Storage): number =>
    rows * panels * DTYPES[dtype].bytes * lanes * (bothHemispheres ? 2 : 1);
  return tasks.map((task) => {
    let bytes = 0;
    for (const { key, columns, dtype } of tilesNamed(task))
      if (!known.has(key)) {
        known.add(key);
        bytes += Math.ceil(columns / 2) * TILE_TYPES[dtype].bytes * lanes;
      }
    for (const id of [...readsOf(task), ...task.outputs.map(({ storage }) => storage)]) {
      const storage = storages[id];
      if (storage === undefined || known.has(id) || (storage.kind === "temp" && !storage.output)) continue;
      known.add(id);
      bytes += sizeOf(storage);
    }
    return bytes;
  });
};

/** By task that only moves rows on: the outputs that it is for. */
type Movers = ReadonlyMap<number, ReadonlySet<StorageId>>;

const moversOf = (last: Movers, output: StorageId): number[] =>
  [...last].filter(([, goals]) => goals.has(output)).map(([index]) => index);

/** The last task that makes what is moved on to an output; -1 if none does. */
const lastMaker = ({ tasks }: Plan, last: Movers, output: StorageId): number => {
  const moved = new Set(moversOf(last, output).flatMap((index) => [...readsOf(at(tasks, index, "task"))]));
  const makes = ({ outputs }: Task, index: number): boolean =>
    !last.has(index) && outputs.some(({ storage }) => moved.has(storage));
  return Math.max(-1, ...tasks.flatMap((task, index) => (makes(task, index) ? [index] : [])));
};

/**
 * Tasks that only move rows to where the host or the next run reads them, and no other task does: by task, the outputs that
 * they are for. What takes the place of a state may go there over rows that nothing else reads.
 */
const lastTasks = ({ storages, tasks, states }: Plan): Movers => {
  const nexts = new Set(states.map(({ next }) => next));
  const found = new Map<number, ReadonlySet<StorageId>>();
  /** By storage: the one state's output that all of its readers are for, or what else says that there is none. */
  const goals = new Map<StorageId, StorageId | "several">();
  const goalsOf = ({ id, kind, output }: Storage): StorageId[] => {
    const goal = goals.get(id);
    if (output) return goal === undefined ? [id] : [];
    return kind === "temp" && goal !== undefined && goal !== "several" ? [goal] : [];
  };
  // What reads a storage stands behind what writes it.
  for (const [index, task] of [...tasks.entries()].reverse()) {
    const outputs = task.outputs.map(({ storage }) => goalsOf(at(storages, storage, "storage")));
    const isLast = outputs.length > 0 && isWeightless(task) && outputs.every(({ length }) => length > 0);
    if (isLast) found.set(index, new Set(outputs.flat()));
    const [goal, ...others] = isLast ? new Set(outputs.flat()) : [];
    const only = goal !== undefined && others.length === 0 && nexts.has(goal) ? goal : "several";
    for (const id of readsOf(task)) goals.set(id, (goals.get(id) ?? only) === only ? only : "several");
  }
  return found;
};

/**
 * Results that nothing reads any more go to the first stage that has what they are made of: copies to outputs and states
 * stand at the end of a plan, and would bring along what they copy. All that is written to one output is written on one chip.
 */
const settle = (plan: Plan, stageOf: Int32Array, homes: Division["homes"]): void => {
  const { tasks, states } = plan;
  const last = lastTasks(plan);
  const readers = stateReaders(plan);
  const written = new Map<StorageId, number>();
  for (const [index, { outputs }] of tasks.entries())
    for (const { storage } of outputs)
      if (!last.has(index)) written.set(storage, Math.max(written.get(storage) ?? 0, at(stageOf, index, "task")));
  const nameOf = new Map(states.map(({ storage, name }) => [storage, name]));
  const homeOfState = (id: StorageId): number =>
    homes.get(nameOf.get(id) ?? "") ??
    Math.max(
      0,
      ...(readers.get(id) ?? []).filter((index) => !last.has(index)).map((index) => at(stageOf, index, "task")),
    );
  const stateOf = new Map(states.map(({ storage, next }) => [next, storage]));
  for (const [storage, writers] of outputWriters(plan)) {
    if (writers.length === 0 || !writers.every((index) => last.has(index))) continue;
    const movers = moversOf(last, storage);
    const needed = movers.flatMap((index) =>
      [...readsOf(at(tasks, index, "task"))].map((id) => written.get(id) ?? homeOfState(id)),
    );
    const home = Math.max(0, ...needed, homeOfState(stateOf.get(storage) ?? -1));
    for (const index of movers) stageOf[index] = home;
  }
};
