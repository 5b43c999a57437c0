/**
 * From the legal graphs of entries to one Program, proved: on the fewest chips that have room for it, or that are asked for, by chips
 * that share products or by one in each stage, whichever is faster.
 */

import type { Deployment } from "./deployments.js";
import { at, CompileError, sure } from "./diagnostics.js";
import { LEAST_GAIN, type PlacementOf, type Sharding, type Taken } from "./ir/facts.js";
import type { Graph } from "./ir/graph.js";
import { behind, withSharedStates } from "./ir/plan/behind.js";
import { verifyPlan } from "./ir/plan/verify.js";
import type { Plan } from "./ir/plan.js";
import { entryPrograms, type Program } from "./ir/program.js";
import { type Around, firstLaidOut, type Deployed, deployedBy } from "./layouts.js";
import { type CompileOptions, entriesOf } from "./options.js";
import { checkSchedule } from "./passes/check/check.js";
import { mayFollow } from "./passes/check/interval.js";
import type { PassOptions } from "./passes/graph/pass.js";
import { type NamedPlan, type Pipeline, pipelineProgram } from "./pipeline.js";

/** The program that is the fastest, and how it came to be. */
export interface Built {
  readonly program: Program;
  /** By entry: the plan of each chip. */
  readonly plans: readonly (readonly Plan[])[];
  /** Further chips that were asked for, and would have nothing to do. */
  readonly idle: number;
  /** Of the first entry: cycles from the begin of an inference to that of the next. */
  readonly interval: number;
  /** How chips share products, if they were to. */
  readonly sharding?: Sharding | undefined;
  /** Where results of ONNX nodes lie, if they do. */
  readonly placementOf?: PlacementOf | undefined;
}

type Made = Pick<Built, "program" | "plans" | "idle" | "interval">;

/** Of the first set of deployments that has room the fastest. */
export const buildProgram = (
  legal: readonly Graph[],
  around: Around,
  sets: readonly (readonly Deployment[])[],
  options: CompileOptions,
  passes: PassOptions,
): Built => {
  const make = (way: Deployed): Made =>
    firstLaidOut(way, around, options, (plans, pipeline) => compilePipeline(plans, pipeline, options));
  return firstOf(sets, (set) => {
    const { ways, left } = deployedBy(legal, around, set, options, passes);
    return { ...fastestOf(ways, make), ...(left !== undefined && { sharding: left }) };
  });
};

/**
 * Entries, each around what those before it have placed, over chips that work one behind the other, or on one; each chip is
 * proved to be its part of each, against the memory of all.
 */
const compilePipeline = (plans: readonly Plan[], pipeline: Pipeline, options: CompileOptions): Made => {
  const wholes: NamedPlan[] = [];
  const sharing = withSharedStates(plans);
  for (const [index, [name]] of entriesOf(options).entries()) {
    const shared = at(sharing, index, "entry");
    const before = wholes.at(-1)?.plan;
    wholes.push({ name, plan: before === undefined ? shared : behind(shared, before) });
  }
  const onPlan = (stage: Plan, chip: number): void => {
    if (options.verify === true) verifyPlan(stage, pipeline.target);
    options.onPlan?.(stage, pipeline.hops.length === 0 ? undefined : chip);
  };
  const made = pipelineProgram(wholes, pipeline, onPlan, mayFollow);
  const proved = entryPrograms(made.program).map((entry, index) =>
    checkSchedule(entry, ...at(made.plans, index, "entry")),
  );
  const idle = (pipeline.hops.length + 1) * pipeline.members - made.program.chips.length;
  return { program: named(made.program, options), plans: made.plans, idle, interval: at(proved, 0, "entry").interval };
};

/** A way, and the program that it leads to. */
interface Tried extends Made {
  readonly way: Deployed;
  readonly taken: Taken;
}

/** A second way to share is scheduled where its estimate is within this part of the best. */
const CLOSE = 1.25;

/**
 * Ways are compared by schedules, not by estimates: the two most promising ones in which chips share products, and one chip, as far as
 * they have room. More chips have to be faster by `LEAST_GAIN`.
 */
const fastestOf = (ways: readonly Deployed[], make: (way: Deployed) => Made): Built => {
  const tried: Tried[] = [];
  const [{ sharding: first } = {}] = ways;
  const isWorthIt = ({ sharding }: Deployed): boolean =>
    tried.length === 0 ||
    sharding === undefined ||
    (tried.length < 2 && sharding.cycles <= CLOSE * sure(first, "sharding").cycles);
  let refused: CompileError | undefined;
  for (const way of ways) {
    if (!isWorthIt(way)) continue;
    try {
      tried.push(triedAs(way, make(way), first));
    } catch (error) {
      if (!isNoRoom(error)) throw error;
      refused ??= error;
    }
  }
  if (tried.length === 0) throw sure(refused, "way");
  const byChips = [...tried].sort((a, b) => chipsIn(a) - chipsIn(b));
  const best = byChips.reduce((a, b) => (b.taken.cycles <= (1 - LEAST_GAIN) * a.taken.cycles ? b : a));
  const { way, taken, ...made } = best;
  const others = tried.filter((one) => one !== best).sort((a, b) => a.taken.cycles - b.taken.cycles);
  const facts = way.sharding ?? first;
  const [runnerUp] = others.map((other) => other.taken);
  if (facts === undefined || (runnerUp === undefined && way.sharding === undefined)) return made;
  const asked = Math.max(...ways.map(({ deployment }) => deployment.members));
  const exchanges = way.sharding === undefined ? [] : facts.exchanges;
  const { stages } = taken;
  const by = runnerUp === undefined ? { stages } : { ...taken, by: "schedule" as const, runnerUp };
  return { ...made, placementOf: way.placementOf, sharding: { ...facts, asked, exchanges, ...by } };
};

/** `first`: what the search says of chips that share, where some do. */
const triedAs = (way: Deployed, made: Made, first: Sharding | undefined): Tried => {
  const { members } = way.deployment;
  const stages = made.program.chips.length / members;
  const constantBytes = way.sharding?.constantBytes ?? first?.runnerUp.constantBytes ?? 0;
  return { ...made, way, taken: { chips: members, stages, cycles: cyclesOf(made.program), constantBytes } };
};

const chipsIn = ({ taken }: Tried): number => taken.chips * taken.stages;

/** Cycles of all entries, each to the end of its last chip. */
const cyclesOf = (program: Program): number =>
  entryPrograms(program).reduce((sum, { entry }) => sum + Math.max(...entry.cycles), 0);

/** What a step makes of the first that has room; where none has, what was in the way of the first. */
export const firstOf = <Item, T>(items: readonly Item[], step: (item: Item) => T): T => {
  let refused: CompileError | undefined;
  for (const item of items)
    try {
      return step(item);
    } catch (error) {
      if (!isNoRoom(error)) throw error;
      refused ??= error;
    }
  throw sure(refused, "something to try");
};

const isNoRoom = (error: unknown): error is CompileError =>
  error instanceof CompileError && NO_ROOM.includes(error.code);
const NO_ROOM: readonly string[] = ["LPU2001", "LPU2002", "LPU2006"];

const named = (program: Program, { name }: CompileOptions): Program =>
  name === undefined ? program : { ...program, name };
