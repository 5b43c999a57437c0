/**
 * From the legal graphs of entries to one Program, proved: on the first pipeline that has room for it, by chips that share products
 * or by one, whichever is faster.
 */

import { at, CompileError, sure } from "./diagnostics.js";
import { LEAST_GAIN, type PlacementOf, type Sharding } from "./ir/facts.js";
import type { Graph } from "./ir/graph.js";
import { behind, withSharedStates } from "./ir/plan/behind.js";
import { verifyPlan } from "./ir/plan/verify.js";
import type { Plan } from "./ir/plan.js";
import { entryPrograms, type Program } from "./ir/program.js";
import { TARGETS } from "./ir/target.js";
import { type Around, isAlone, isShared, layoutsOf, sharedOut } from "./layouts.js";
import { type CompileOptions, entriesOf } from "./options.js";
import { checkSchedule } from "./passes/check/check.js";
import { mayFollow } from "./passes/check/interval.js";
import type { PassOptions } from "./passes/graph/pass.js";
import { firstWithRoom, type NamedPlan, type Pipeline, pipelineProgram, pipelinesOf } from "./pipeline.js";

export interface Built {
  readonly program: Program;
  /** By entry: the plan of each chip. */
  readonly plans: readonly (readonly Plan[])[];
  /** Further chips that were asked for, and would have nothing to do. */
  readonly idle: number;
  /** Of the first entry: cycles from the begin of an inference to that of the next. */
  readonly interval: number;
  /** How chips share products, if they were asked to. */
  readonly sharding?: Sharding | undefined;
  /** Where results of ONNX nodes lie, if they do. */
  readonly placementOf?: PlacementOf | undefined;
}

type Made = Pick<Built, "program" | "plans" | "idle" | "interval">;

/** `pipelines` are tried one after the other. */
export const buildProgram = (
  legal: readonly Graph[],
  around: Around,
  pipelines: readonly Pipeline[],
  options: CompileOptions,
  passes: PassOptions,
): Built => {
  const target = TARGETS[options.target ?? "lpu-v1"];
  const programOf = (graphs: readonly Graph[], tried: readonly Pipeline[]): Made => {
    const plansOn = layoutsOf(graphs, around.statesOf, target, isAlone(options, tried));
    return firstWithRoom(tried, (pipeline) => compilePipeline(plansOn(pipeline), pipeline, options));
  };
  let sharding: Sharding | undefined;
  let placementOf: PlacementOf | undefined;
  const { graphs, tried } = sharedOut(legal, around, pipelines, options, {
    ...passes,
    onSharded: (facts) => {
      sharding = facts;
    },
    onPlaced: (found) => {
      placementOf = found;
    },
  });
  const made = { ...programOf(graphs, tried), placementOf };
  // Where the model says how results lie, nothing else is asked for.
  if (!isShared(graphs) || (sharding?.annotated.held ?? 0) > 0) return { ...made, sharding };
  const single = pipelinesOf({ stages: options.stages }, target);
  return fasterOf(made, () => programOf(legal, single), sure(sharding, "sharding"));
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

/**
 * What chips share is compared by schedules, not by estimates, with what one chip does in each stage, where that has room. More
 * chips have to be faster by `LEAST_GAIN`.
 */
const fasterOf = (made: Built, makeOne: () => Made, sharding: Sharding): Built => {
  const one = ifRoom(makeOne);
  if (one === undefined) return { ...made, sharding };
  const shared = { chips: sharding.chips, cycles: cyclesOf(made.program) };
  const by = { ...sharding, by: "schedule" } as const;
  const bytes = { shared: sharding.constantBytes, one: sharding.runnerUp.constantBytes };
  const alone = { chips: 1, cycles: cyclesOf(one.program) };
  if (shared.cycles <= (1 - LEAST_GAIN) * alone.cycles)
    return { ...made, sharding: { ...by, ...shared, runnerUp: { ...alone, constantBytes: bytes.one } } };
  const runnerUp = { ...shared, constantBytes: bytes.shared };
  return { ...one, sharding: { ...by, ...alone, constantBytes: bytes.one, exchanges: [], runnerUp } };
};

/** Cycles of all entries, each to the end of its last chip. */
const cyclesOf = (program: Program): number =>
  entryPrograms(program).reduce((sum, { entry }) => sum + Math.max(...entry.cycles), 0);

/** What fits; undefined if a schedule finds no room for it. */
const ifRoom = <T>(make: () => T): T | undefined => {
  try {
    return make();
  } catch (error) {
    if (error instanceof CompileError && NO_ROOM.includes(error.code)) return undefined;
    throw error;
  }
};
const NO_ROOM: readonly string[] = ["LPU2001", "LPU2002", "LPU2006"];

const named = (program: Program, { name }: CompileOptions): Program =>
  name === undefined ? program : { ...program, name };
