/**
 * Space-time scheduling: gives every burst of a Plan its units, streams, rows and cycle. Plan -> Program.
 *
 * List scheduling in order of decreasing height (cycles to the end of the program), ties by task number, so the result
 * depends on the plan and the target alone. A task is a rigid figure that slides along time to the first place where all it
 * needs is free: it may fall into a hole that earlier decisions left. Weights of a pass are loaded as late as they may be,
 * while the array still computes the pass before. Legality is not argued here: passes/check derives it anew.
 *
 *   place/room             whether SRAM suffices        order         which task is next (dependencies)
 *   figures                facts of the plan alone      task/pass     a task's place: its passes,
 *   chip/                  what can be busy             task/weights    (loads, stretches) their weights,
 *   state                  what lies and goes where     task/chain      its chain (chain-timing), or task/wire
 *   task/trial, task/want  sliding; what a trial wants  task/write      and what it writes
 *   place/rows             rows for a panel             task/read     rows onto streams, by
 *   place/edge             inputs, outputs, states      chip/ports      bursts of slice pairs
 *   place/constants        constants, packed
 *   place/earlier          entries before this one      repeat/       instances that are alike, what placing
 *   place/constant-blocks  bytes of constants                           a task changed (placed), constants
 *   divide                 what fits in no cycle        overlap       how a run meets the next
 */

import { type Contents, contentsOf } from "../../ir/contents.js";
import { type Copy, rowsOfCopy } from "./place/chunk.js";
import { at, CompileError, invariant } from "../../diagnostics.js";
import type { Plan } from "../../ir/plan.js";
import type { BlockPlace } from "../../ir/plan/group.js";
import { chipCycles, type ConstantBlock, type Program } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { constantBlocks } from "./place/constant-blocks.js";
import { releaseRows } from "./chip/memory.js";
import { NEVER } from "./chip/resources.js";
import { bind, bindState, placeEdge } from "./place/edge.js";
import { memoriesOf } from "./chip/machine.js";
import { placeConstants } from "./place/constants.js";
import { dividedPlan } from "./divide.js";
import { type Agenda, isNext, markPlaced, newAgenda, nextTask, type Order, orderOf } from "./order.js";
import type { Repeat } from "./repeat/repeats.js";
import type { Placed } from "./repeat/placed.js";
import { placeTask } from "./task/pass.js";
import { distinctTiles, executionsOf, taskAt, tileWays } from "./figures.js";
import {
  type Instance,
  instanceOf,
  instancesBeside,
  isModelDone,
  laterTask,
  placeAgain,
  repeatedOf,
} from "./repeat/instances.js";
import { placeConstantsAgain } from "./repeat/constants.js";
import type { Earlier, EarlierState } from "./place/earlier.js";
import { checkRoom } from "./place/room.js";
import {
  chunksOf,
  isPacked,
  knownOf,
  newScheduler,
  noPromise,
  type Scheduler,
  type Strategy,
  storageOf,
  type Surroundings,
  type WireCycles,
} from "./state.js";

const STRATEGIES: readonly Strategy[] = [
  { stagger: 0, nearWeights: 0, duplicates: 0.92, constants: "apart", model: 1, thrift: "some" },
  { stagger: 250, nearWeights: 500, duplicates: 0.9, constants: "anywhere", model: 1, thrift: "none" },
  { stagger: 0, nearWeights: 0, duplicates: 0.9, constants: "apart", model: 1, thrift: "none" },
  { stagger: 1000, nearWeights: 2000, duplicates: 0.84, constants: "anywhere", model: 1, thrift: "none" },
  { stagger: 0, nearWeights: 0, duplicates: 0.84, constants: "anywhere", model: 0, thrift: "none" },
];
/**
 * When nothing else fits, one after the other: no constant is in both hemispheres, and results are read soon after they are made;
 * then constants lie packed, too, and first results are read soon only as far as the arrays need not wait for that.
 */
const FRUGAL: readonly Strategy[] = (
  [
    ["anywhere", "all"],
    ["first", "some"],
    ["first", "all"],
  ] as const
).map(([constants, thrift]) => ({ stagger: 0, nearWeights: 0, duplicates: 0, model: NEVER, constants, thrift }));
/**
 * Strategies are tried until about so many tasks were placed, or so many places of one tried, also for schedules that came to no end:
 * long programs are scheduled fewer times. One is always brought to its end.
 */
const ENOUGH: Search = { tasks: 3_500, trials: 80_000 };

/** What schedules have cost so far. */
interface Search {
  readonly tasks: number;
  readonly trials: number;
}

/** A program, and the plan that its last entry is: the given one, or one with tasks divided that fitted in no cycle. */
export interface Scheduled extends Earlier {
  readonly plan: Plan;
  readonly sent: WireCycles;
  /** Where storages of several blocks lie. */
  readonly blocks: readonly BlockPlace[];
  /** The constants of a chip that runs the same program, by what its literals are. */
  readonly constantsBy: (literals: Plan["literals"]) => readonly ConstantBlock[];
}

/** The entry that a plan becomes. */
export interface PlanEntry extends Surroundings {
  readonly name: string;
  /** The program that it is an entry of, if it is not the first: `plan` counts maps and origins behind those of that one. */
  readonly earlier?: Earlier | undefined;
}

const MAIN: PlanEntry = { name: "main" };

export const schedule = (plan: Plan, target: Target, entry = MAIN): Scheduled => {
  checkRoom(plan, target);
  return scheduleBest(plan, target, entry, STRATEGIES);
};

/** By the best of some strategies, or by FRUGAL where none fits; what fits in no cycle is divided, and goes on from there. */
const scheduleBest = (
  plan: Plan,
  target: Target,
  entry: PlanEntry,
  strategies: readonly Strategy[],
  before: Search = { tasks: 0, trials: 0 },
): Scheduled => {
  const known = knownOf(plan, target, entry.earlier);
  const order = orderOf(plan, target, known);
  const started = (strategy: Strategy): Scheduler => newScheduler(plan, target, known, strategy, entry);
  const begun: Begun[] = [];
  let search = before;
  let isShort = false;
  for (const [index, strategy] of strategies.entries()) {
    const s = started(strategy);
    const next = attempt(() => begin(s, order));
    search = { tasks: search.tasks + s.searched, trials: search.trials + s.tried };
    if (next instanceof CompileError) {
      isShort ||= next.code === "LPU2001";
      // What another strategy has a cycle for is not divided; where room is short, that may be one of the frugal.
      const divided = begun.length === 0 && !isShort ? dividedFor(s, next) : undefined;
      if (divided !== undefined) return scheduleBest(divided, target, entry, strategies.slice(index), search);
    } else begun.push(next);
    const isLast = index === strategies.length - 1;
    if (!isLast && search.tasks < ENOUGH.tasks && search.trials < ENOUGH.trials) continue;
    for (const one of begun.splice(0).sort((a, b) => a.cycles - b.cycles)) {
      const done = attempt(() => complete(one));
      if (!(done instanceof CompileError)) return scheduled(done, entry);
      isShort ||= done.code === "LPU2001";
    }
  }
  let refusal: CompileError | undefined;
  for (const strategy of FRUGAL) {
    const s = started(strategy);
    const done = attempt(() => complete(begin(s, order)));
    if (!(done instanceof CompileError)) return scheduled(done, entry);
    // What needs more room than there is is not divided for that.
    const divided = strategy.thrift === "all" ? dividedFor(s, done) : undefined;
    if (divided !== undefined) return scheduleBest(divided, target, entry, []);
    refusal ??= done;
  }
  invariant(refusal !== undefined, "some strategy is tried");
  throw refusal;
};

/** As one strategy has it: a plan that fits, in one try. */
export const scheduleBy = (plan: Plan, target: Target, strategy: Strategy): Program => {
  const known = knownOf(plan, target);
  const order = orderOf(plan, target, known);
  return programOf(complete(begin(newScheduler(plan, target, known, strategy), order)), MAIN);
};

/** What to schedule instead, where the task at hand fits in no cycle; undefined if that is not the cause, or it cannot be divided. */
const dividedFor = (s: Scheduler, { code }: CompileError): Plan | undefined =>
  code === "LPU2002" ? dividedPlan(s.plan, s.placed.task) : undefined;

/** Raises what is known before anything has its time: constants and edges that SRAM does not hold, edges that no piece of it does. */
export const checkPlaces = (plan: Plan, target: Target): void => {
  checkRoom(plan, target);
  for (const strategy of FRUGAL.slice(0, 1)) placeEdges(newScheduler(plan, target, knownOf(plan, target), strategy));
};

const placeEdges = (s: Scheduler): void => {
  const edges = s.plan.storages.filter(({ kind, output }) => output || kind === "input" || kind === "state");
  // What takes the rows of a state finds them placed.
  for (const storage of edges) if (!s.nexts.has(storage.id)) placeEdge(s, storage);
  for (const storage of edges) if (s.nexts.has(storage.id)) placeEdge(s, storage);
};

/** What a step makes, or for what a strategy leaves no room or no cycle. */
const attempt = <T>(step: () => T): T | CompileError => {
  try {
    return step();
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
};

/** A schedule as far as places must be searched; complete, if there is no repeat. */
interface Begun {
  readonly s: Scheduler;
  readonly agenda: Agenda;
  /** An instance that later ones can copy, each as many cycles after the one before. */
  readonly instance: Instance | undefined;
  /** Of the program in the end, though the last layers may take some more or less. */
  readonly cycles: number;
}

const begin = (s: Scheduler, order: Order): Begun => {
  const { repeat, strategy } = s;
  placeEdges(s);
  if (isPacked(s)) placeConstants(s);
  const agenda = newAgenda(s, order);
  // What is placed of the model, and early of the instances after it.
  const placed: Placed[] = [];
  for (let next = nextTask(s, agenda); next !== undefined; next = nextTask(s, agenda)) {
    const task = place(s, agenda, next);
    if (instanceOf(s, next) < strategy.model) continue;
    placed.push(task);
    const instance = isModelDone(s, placed) ? repeatModel(s, agenda, ...modelOf(s, placed)) : undefined;
    if (repeat === undefined || instance === undefined) continue;
    const left = instancesLeft(s, repeat, at(instance.placed, 0, "task").task);
    return { s, agenda, instance, cycles: chipCycles(s.target, s.queues) + left * instance.cycles };
  }
  return { s, agenda, instance: undefined, cycles: chipCycles(s.target, s.queues) };
};

/** Instances behind that of a task, and what follows the last as the part of one that it most likely is. */
const instancesLeft = ({ plan }: Scheduler, { first, tasks }: Repeat, task: number): number => {
  const done = 1 + Math.floor((task - first) / tasks);
  return (plan.tasks.length - first) / tasks - done;
};

const complete = ({ s, agenda, instance }: Begun): Scheduler => {
  for (let last = instance; last !== undefined; ) {
    const copies = placeCopies(s, agenda, last);
    s.promised = noPromise();
    // Those whose constants are read otherwise repeat what one of them is that makes the same choices again.
    const next = copies === undefined ? undefined : placeAlike(s, agenda, last.placed, copies + 1);
    last = next && repeatModel(s, agenda, next);
  }
  for (let next = nextTask(s, agenda); next !== undefined; next = nextTask(s, agenda)) place(s, agenda, next);
  invariant(
    agenda.waiting.every((left) => left < 0),
    "tasks form no cycle",
  );
  return s;
};

/** Searches a place for a task; by the choices of the model, if there is one. */
const place = (s: Scheduler, agenda: Agenda, index: number, model?: Placed): Placed => {
  placeTask(s, index, model);
  settle(s, agenda, index);
  return s.placed;
};

const settle = (s: Scheduler, agenda: Agenda, index: number): void => {
  release(s, index);
  markPlaced(s, agenda, index);
};

/** Of tasks of some instances those of the model; and by task those of later ones, which had their place before its last one. */
const modelOf = (s: Scheduler, placed: readonly Placed[]): [readonly Placed[], ReadonlyMap<number, Placed>] => {
  const isOfModel = ({ task }: Placed): boolean => instanceOf(s, task) === s.strategy.model;
  return [placed.filter(isOfModel), new Map(placed.map((one) => [one.task, one]))];
};

/** Places instances behind the model by its choices, until they do not differ in anything but time; undefined if they always do. */
const repeatModel = (
  s: Scheduler,
  agenda: Agenda,
  model: readonly Placed[],
  early: ReadonlyMap<number, Placed> = new Map(),
): Instance | undefined => {
  for (let models = model; ; ) {
    const placed = placeAlike(s, agenda, models, 1, early);
    if (placed === undefined) return undefined;
    const instance = repeatedOf(s, models, placed);
    if (instance !== undefined) return instance;
    models = placed;
  }
};

/** Places the instance so many behind a model by its choices; undefined if there is none, or the order of its tasks is another. */
const placeAlike = (
  s: Scheduler,
  agenda: Agenda,
  models: readonly Placed[],
  later: number,
  early: ReadonlyMap<number, Placed> = new Map(),
): readonly Placed[] | undefined => {
  const placed: Placed[] = [];
  for (const model of models) {
    const index = laterTask(s, model.task, later);
    if (index === undefined) return undefined;
    const known = early.get(index);
    if (known === undefined && !isNext(agenda, index)) return undefined;
    placed.push(known ?? place(s, agenda, index, model));
  }
  return placed;
};

/**
 * Places one instance after another as the one before: how many, up to the last whose constants can be read as its own are;
 * undefined if not all of these fit.
 */
const placeCopies = (s: Scheduler, agenda: Agenda, instance: Instance): number | undefined => {
  const { task: first } = at(instance.placed, 0, "task");
  let placed = instancesBeside(s, first);
  for (let later = 1; laterTask(s, first, later) !== undefined; later++) {
    if (later === placed) {
      const beside = placeConstantsAgain(s, instance, later);
      if (beside === 0) return later - 1;
      placed += beside;
    }
    for (const model of instance.placed) {
      const index = laterTask(s, model.task, later);
      if (index === undefined || !isNext(agenda, index) || !placeAgain(s, instance, model, later)) return undefined;
      settle(s, agenda, index);
    }
  }
  return s.plan.tasks.length;
};

/** Rows that no later task reads are free after their last read, but for those that the next run writes before this one ends. */
const release = (s: Scheduler, index: number): void => {
  for (const producer of at(s.producers, index, "task")) {
    const left = at(s.readersLeft, producer, "storage") - 1;
    s.readersLeft[producer] = left;
    if (left > 0) continue;
    const { outputs, rows } = taskAt(s.plan, producer);
    for (const output of outputs) {
      if (storageOf(s, output.storage).output) continue;
      for (const chunk of chunksOf(s, output))
        if (chunk.row >= output.row && chunk.row < output.row + rows && chunk.ready >= (s.overlap?.head ?? 0))
          for (const copy of chunk.copies) releaseCopy(s, copy, chunk.rows);
    }
  }
};

const releaseCopy = (s: Scheduler, copy: Copy, rows: number): void => {
  const { side, pairs, ways, addresses, lastRead } = copy;
  s.wanted[side] -= rowsOfCopy(copy, rows);
  const from = lastRead + s.target.timing.memWrite;
  for (const [i, memory] of memoriesOf(s.halves[side], pairs).entries())
    releaseRows([memory], at(addresses, i, "address"), Math.ceil(rows / ways), from);
};

const scheduled = (s: Scheduler, entry: PlanEntry): Scheduled => {
  const states = s.plan.states.map(({ storage: id }): [string, EarlierState] => {
    const storage = storageOf(s, id);
    return [storage.name, { storage, panels: at(s.chunks, id, "storage").map((chunks) => chunks[0]?.copies ?? []) }];
  });
  return {
    plan: s.plan,
    program: programOf(s, entry),
    blocks: blockPlaces(s),
    constantsBy: (literals) => constantsOf(s, contentsOf(s.target, literals), entry.name),
    tiles: s.tiles,
    sent: s.sent,
    states: new Map([...(entry.earlier?.states ?? []), ...states]),
  };
};

const blockPlaces = (s: Scheduler): readonly BlockPlace[] =>
  s.plan.storages.flatMap(({ id, rows, blocks, dealt = false }) =>
    blocks === undefined
      ? []
      : at(s.chunks, id, "storage").flatMap((chunks) =>
          at(chunks, 0, "place").copies.flatMap(({ side, pairs, ways, addresses }) =>
            pairs.flatMap((pair, index) =>
              [0, 1].map((byte): BlockPlace => {
                const { hemisphere } = s.halves[side];
                const address = at(addresses, index, "address");
                return { hemisphere, slice: 2 * pair + byte, address, rows: rows / ways, blocks, dealt };
              }),
            ),
          ),
        ),
  );

const programOf = (s: Scheduler, { name, earlier }: PlanEntry): Program => {
  const { plan, target } = s;
  const contents = contentsOf(target, plan.literals);
  const inputs = plan.inputs.map((binding) => bind(s, contents, binding));
  const outputs = plan.outputs.map((binding) => bind(s, contents, binding));
  const queues = s.queues.map((queue) => [...queue].sort((a, b) => a.cycle - b.cycle));
  const before = earlier?.program;
  const constants = [...(before?.chips[0]?.constants ?? []), ...constantsOf(s, contents, name)];
  const known = before?.states ?? [];
  const states = plan.states.filter((state) => !known.some((other) => other.name === state.name));
  return {
    target,
    name: before?.name ?? plan.name,
    chips: [{ constants, maps: plan.maps }],
    links: [],
    states: [...known, ...states.map((state) => bindState(s, state))],
    entries: [
      ...(before?.entries ?? []),
      { name, inputs, outputs, queues: [queues], cycles: [chipCycles(target, queues)], macs: plan.macs },
    ],
    origins: plan.origins,
  };
};

/** What an entry adds to what lies in SRAM before cycle 0: every copy of every tile, and of the rows of constants that are read. */
const constantsOf = (s: Scheduler, contents: Contents, entry: string): ConstantBlock[] => {
  const blocks = constantBlocks(s.target, contents, entry);
  const tiles = distinctTiles(s.plan);
  for (const { side, hemisphere } of s.halves)
    for (const [key, place] of s.tiles[side]) {
      if (s.earlier?.tiles[side].has(key) === true) continue;
      const tile = tiles.get(key)?.tile;
      invariant(tile !== undefined, "a tile that has a place is in the plan");
      blocks.addTile(
        tile,
        hemisphere,
        place,
        executionsOf(tile, place.pairs.length),
        tileWays(tile, place.pairs.length),
      );
    }
  for (const storage of s.plan.storages)
    if (storage.kind === "constant")
      for (const [panel, chunks] of at(s.chunks, storage.id, "storage").entries())
        for (const chunk of chunks)
          if (chunk.rows > 0)
            for (const copy of chunk.copies)
              blocks.addRows(storage, panel, chunk, s.halves[copy.side].hemisphere, copy);
  return blocks.finish();
};
