/**
 * The compiler on one screen: ONNX bytes in, a Program and its image out. Each step takes what the one before returned.
 *
 *   importModel     ONNX -> Graph          every unsupported node reported at once
 *   runPasses       Graph -> Graph, legal  only operations the machine has, in its types
 *   select          Graph -> Plan          bursts through units, storages; no addresses, no time
 *   shard           Graph -> Graph         that chips share, where products are shared
 *   cutPlan         Plan -> Plans          one for each chip, where they work one behind the other
 *   schedule        Plan -> Program        addresses, units, streams, cycles
 *   checkSchedule   an independent proof that it is legal and computes what the plan says, in production too
 *   imageChunks     Program -> image       the only thing that the runtime is ever given
 */

import { encodeProgram } from "./codegen/text/encode.js";
import { imageChunks } from "./codegen/image/image.js";
import { measureText } from "./codegen/text/measure.js";
import { at, CompileError, invariant, isUnsupported, sure } from "./diagnostics.js";
import type { FixedValue } from "./frontend/fix.js";
import { fewBitWeights } from "./frontend/few-bits.js";
import { importModel } from "./frontend/import.js";
import type { GraphRecord, ModelSource } from "./frontend/source.js";
import { expectShared, type StateOption, type WithStates, withStates } from "./frontend/states.js";
import { placedGraphs, sharedPlan } from "./group.js";
import type { FewBits, Kept, Sharding } from "./ir/facts.js";
import type { Graph, Shape } from "./ir/graph.js";
import { chipsOf } from "./ir/group.js";
import type { Plan, PlanState } from "./ir/plan.js";
import { behind, inBoth, withSharedStates } from "./ir/plan/behind.js";
import { verifyPlan } from "./ir/plan/verify.js";
import { entryPrograms, type Program } from "./ir/program.js";
import type { SystemName } from "./ir/system.js";
import { sramBytes, type Target, TARGETS, type TargetName } from "./ir/target.js";
import { checkSchedule } from "./passes/check/check.js";
import { checkProperties, type PassOptions, type PassRecord, runPasses } from "./passes/graph/pass.js";
import { NARROW, OPTIMIZE, PLACE } from "./passes/graph/pipeline.js";
import { weightFacts } from "./passes/graph/weights.js";
import { type WeightFormatName, weightOptions } from "./ir/weights.js";
import { sramNeed } from "./passes/schedule/place/room.js";
import { select } from "./passes/select/select.js";
import {
  firstWithRoom,
  type NamedPlan,
  peersOf,
  type Pipeline,
  pipelinesOf,
  pipelineProgram,
  type Stages,
} from "./pipeline.js";
import { type BuildReport, reportProgram } from "./report/report.js";
import type { OnStage, StageEvent, StageName } from "./stages.js";

/** What a model leaves open. */
export interface EntryOptions {
  /** Sizes of named dimensions. */
  readonly bind?: Readonly<Record<string, number>> | undefined;
  /** Shapes of inputs, by name, from which named dimensions follow. */
  readonly shapes?: Readonly<Record<string, Shape>> | undefined;
  /** Inputs whose values are known when the program is compiled: they become constants, and are inputs no more. */
  readonly fix?: Readonly<Record<string, FixedValue>> | undefined;
}

export interface CompileOptions extends EntryOptions {
  /**
   * The model more than once, on one chip: for each entry what is other than in the options for all. Entries share weights and
   * states; the report is that of the first. One entry, "main", if not given.
   */
  readonly entries?: Readonly<Record<string, EntryOptions>> | undefined;
  /**
   * Inputs that stay on the chip, each with the output that takes its place, or whose end does, for the next run: neither is the
   * host's any more. "auto": all that exporters' conventions pair by name, like past_key_values.0.key and present.0.key.
   */
  readonly state?: StateOption | undefined;
  readonly target?: TargetName | undefined;
  /** Chips, and what joins them; the smallest with as many chips as there are stages if not given. */
  readonly system?: SystemName | undefined;
  /** Chips that work one behind the other, or "auto": as few as hold the model; as many as the system has if not given. */
  readonly stages?: Stages | undefined;
  /** Chips of a node that share each product, with pieces of its weights, in each stage. One does the work where more would not be faster. */
  readonly tensor?: number | undefined;
  /** What constant weights of products lie as; fp16 if not given. */
  readonly weights?: WeightFormatName | undefined;
  /** Names of ONNX nodes, or of their weights, that stay fp16. */
  readonly keep?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly onStage?: OnStage | undefined;
  /** Called with the graph after every pass. */
  readonly onPass?: ((record: PassRecord, graph: Graph) => void) | undefined;
  /** Called with the plan, before it is scheduled; of several chips with that of each. */
  readonly onPlan?: ((plan: Plan, stage?: number) => void) | undefined;
  /** Milliseconds, for the times of passes. */
  readonly clock?: (() => number) | undefined;
  /** Verify the graph after every pass, and the plan. */
  readonly verify?: boolean | undefined;
}

export interface Compiled {
  readonly program: Program;
  readonly report: BuildReport;
  readonly image: () => Iterable<Uint8Array>;
}

export const compile = (source: ModelSource, options: CompileOptions = {}): Compiled => {
  const target = TARGETS[options.target ?? "lpu-v1"];
  const pipelines = pipelinesOf(options, target);
  let nodes = 0;
  const supported = (problems: number): string => `${Math.max(0, nodes - problems)} of ${nodes} nodes`;
  const stage = announcer(options.onStage, { check: supported });
  const passes = {
    verify: options.verify ?? false,
    ...(options.clock && { clock: options.clock }),
    ...(options.onPass && { onPass: options.onPass }),
  };
  let fewBits: readonly FewBits[] = [];
  const onModel = (graph: GraphRecord): void => {
    nodes = graph.nodes.length;
    fewBits = fewBitWeights(graph);
  };
  const bindings = entriesOf(options).map(([, { bind = {}, shapes, fix }]) => ({ bind, shapes, fix, onModel }));
  const imported = stage("receive", () => bindings.map((bind) => importModel(source, bind)));
  const entries: WithStates[] = [];
  for (const graph of imported) entries.push(withStates(graph, options.state ?? {}, entries));
  expectShared(entries);
  const primitive = stage("optimize", () => entries.map(({ graph }) => runPasses(graph, OPTIMIZE, { target }, passes)));
  stage("check", () => {
    for (const graph of primitive) checkProperties(graph, ["legal-ops"]);
  });
  const weights = weightOptions(options);
  const kept: (readonly Kept[])[] = [];
  const context = { target, weights, onKept: (all: readonly Kept[]): void => void kept.push(all) };
  let sharding: Sharding | undefined;
  const onSharded = (facts: Sharding): void => {
    sharding = facts;
  };
  const narrow = (graph: Graph): Graph => runPasses(graph, NARROW, context, passes);
  const legal = stage("precision", () => primitive.map(narrow));
  const statesOf = (index: number) => at(entries, index, "entry").states;
  const program = stage("compile", () => {
    const programOf = (graphs: readonly Graph[], tried: readonly Pipeline[]): Program => {
      const plansOn = layoutsOf(graphs, statesOf, target, isAlone(options, tried));
      return firstWithRoom(tried, (pipeline) => compilePipeline(plansOn(pipeline), pipeline, options));
    };
    const { graphs, tried } = sharedOut(legal, statesOf, pipelines, options, { ...passes, onSharded });
    if (!isShared(graphs)) return programOf(graphs, tried);
    const single = pipelinesOf({ stages: options.stages }, target);
    const chosen = fasterOf(programOf(graphs, tried), () => programOf(legal, single), sure(sharding, "sharding"));
    sharding = chosen.sharding;
    return chosen.program;
  });
  const texts = stage("assemble", () => encodeProgram(program));
  const [main] = entryPrograms(program);
  const [graph] = legal;
  invariant(main !== undefined && graph !== undefined, "a program has an entry");
  const size = measureText(main.entry, texts[0] ?? []);
  const made = reportProgram(main, size, kept[0], weightFacts(graph, weights, fewBits), program.entries);
  const report = { ...made, sharding: sharding ?? null };
  return { program, report, image: () => imageChunks(program, texts) };
};

/** Whether chips share the work of an entry. */
export const isShared = (graphs: readonly Graph[]): boolean => graphs.some((graph) => chipsOf(graph) > 1);

/** By entry: its states, and the outputs that take their place. */
type StatesOf = (index: number) => ReadonlyMap<string, string>;

/** Legal graphs of entries as the chips of a node share them, and what they are tried on; as they are, where nothing is to be shared. */
export const sharedOut = (
  legal: readonly Graph[],
  statesOf: StatesOf,
  pipelines: readonly Pipeline[],
  options: Pick<CompileOptions, "target" | "stages" | "tensor">,
  { onSharded, ...passes }: PassOptions & { readonly onSharded?: (facts: Sharding) => void } = {},
): { readonly graphs: readonly Graph[]; readonly tried: readonly Pipeline[] } => {
  const { tensor: chips, stages } = options;
  if (chips === undefined) return { graphs: legal, tried: pipelines };
  const target = TARGETS[options.target ?? "lpu-v1"];
  const graphs = placedGraphs(legal.length, (index, before, wholeStates) => {
    const context = { target, chips, states: statesOf(index), before, wholeStates };
    const told = index === 0 && onSharded !== undefined ? { onSharded } : {};
    return runPasses(at(legal, index, "entry"), PLACE, { ...context, ...told }, passes);
  });
  return { graphs, tried: isShared(graphs) ? pipelines : pipelinesOf({ stages }, target) };
};

/** What lays out the graphs of entries for the chips of a pipeline, each around the states of those before it. */
export const layoutsOf = (
  graphs: readonly Graph[],
  statesOf: StatesOf,
  target: Target,
  alone: boolean,
): ((pipeline: Pipeline) => readonly Plan[]) => {
  const made = new Map<string, readonly Plan[]>();
  return (pipeline) => {
    const peers = peersOf(pipeline);
    const known = made.get(JSON.stringify(peers));
    if (known !== undefined) return known;
    const lying: PlanState[] = [];
    const plans = graphs.map((graph, index) => {
      const layOut = (own: Graph, states: ReadonlyMap<string, string>): Plan =>
        fittingPlan(own, target, states, lying, alone, peers);
      const shared = sharedPlan(graph, target, statesOf(index), layOut);
      lying.push(...shared.lying);
      return shared.plan;
    });
    made.set(JSON.stringify(peers), plans);
    return plans;
  };
};

/** Where more of SRAM is taken from the first cycle on than this, weights take fewer rows, and more cycles. */
const FULL = 0.9;

/** Where less of it is taken, states lie in both hemispheres, so that either array takes them: faster, and twice as many bytes. */
const ROOMY = 0.75;

/** Whether a program may be one entry on one chip: entries share weights, and so lay them alike, and chips have room for all. */
export const isAlone = (options: CompileOptions, pipelines: readonly Pipeline[]): boolean =>
  entriesOf(options).length === 1 && pipelines.some(({ hops }) => hops.length === 0);

/** What `select` gives, its states where there is room for them; of a program that may be `alone`, so that it fits on one chip, if it can. */
export const fittingPlan = (
  graph: Graph,
  target: Target,
  states: ReadonlyMap<string, string> | undefined,
  lying: readonly PlanState[],
  alone: boolean,
  peers?: readonly (readonly number[])[],
): Plan => {
  const residentOf = (plan: Plan): number => {
    const { constants, states: kept, inputs, outputs } = sramNeed(plan, target);
    return constants + kept + inputs + outputs;
  };
  const plan = select(graph, target, states, lying, peers);
  const spread = inBoth(plan, () => true);
  if (residentOf(spread) <= ROOMY * sramBytes(target)) return spread;
  if (!alone || residentOf(plan) <= FULL * sramBytes(target)) return plan;
  const tight = select(graph, target, states, lying, peers, true);
  return residentOf(tight) < Math.min(residentOf(plan), sramBytes(target)) ? tight : plan;
};

/** Entries by name, each with what is said for all and for it alone. */
export const entriesOf = ({
  entries,
  bind,
  shapes,
  fix,
}: CompileOptions): readonly (readonly [string, EntryOptions])[] => {
  const named = Object.entries(entries ?? {});
  if (named.length === 0) return [["main", { bind, shapes, fix }]];
  return named.map(([name, own]) => [
    name,
    { bind: { ...bind, ...own.bind }, shapes: { ...shapes, ...own.shapes }, fix: { ...fix, ...own.fix } },
  ]);
};

/**
 * Entries, each around what those before it have placed, over chips that work one behind the other, or on one; each chip is
 * proved to be its part of each, against the memory of all.
 */
const compilePipeline = (plans: readonly Plan[], pipeline: Pipeline, options: CompileOptions): Program => {
  const wholes: NamedPlan[] = [];
  const sharing = withSharedStates(plans);
  for (const [index, [name]] of entriesOf(options).entries()) {
    const shared = at(sharing, index, "entry");
    const before = wholes.at(-1)?.plan;
    wholes.push({ name, plan: before === undefined ? shared : behind(shared, before) });
  }
  const made = pipelineProgram(wholes, pipeline, (stage, chip) => {
    if (options.verify === true) verifyPlan(stage, pipeline.target);
    options.onPlan?.(stage, pipeline.hops.length === 0 ? undefined : chip);
  });
  for (const [index, entry] of entryPrograms(made.program).entries())
    checkSchedule(entry, ...at(made.plans, index, "entry"));
  return named(made.program, options);
};

/** What chips share is compared by schedules, not by estimates, with what one chip does in each stage, where that has room. */
const fasterOf = (
  program: Program,
  makeOne: () => Program,
  sharding: Sharding,
): { readonly program: Program; readonly sharding: Sharding } => {
  const one = ifRoom(makeOne);
  if (one === undefined) return { program, sharding };
  const shared = { chips: sharding.chips, cycles: cyclesOf(program) };
  const by = { ...sharding, by: "schedule" } as const;
  const bytes = { shared: sharding.constantBytes, one: sharding.runnerUp.constantBytes };
  const alone = { chips: 1, cycles: cyclesOf(one) };
  if (shared.cycles < alone.cycles)
    return { program, sharding: { ...by, ...shared, runnerUp: { ...alone, constantBytes: bytes.one } } };
  const runnerUp = { ...shared, constantBytes: bytes.shared };
  return { program: one, sharding: { ...by, ...alone, constantBytes: bytes.one, exchanges: [], runnerUp } };
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

type Details = Readonly<Partial<Record<StageName, (problems: number) => string>>>;

/** Runs a step between `start` and `done`, or `failed`. `details`: words behind a stage's title, by how many problems it found. */
const announcer =
  (onStage: OnStage | undefined, details: Details) =>
  <T>(stage: StageName, run: () => T): T => {
    const announce = (of: StageName, status: StageEvent["status"], problems?: number): void => {
      const detail = problems === undefined ? undefined : details[of]?.(problems);
      onStage?.({ stage: of, status, ...(detail === undefined ? {} : { detail }) });
    };
    announce(stage, "start");
    try {
      const result = run();
      announce(stage, "done", 0);
      return result;
    } catch (error) {
      const failed = stageOf(error, stage);
      if (failed !== stage) {
        announce(stage, "done", 0);
        announce(failed, "start");
      }
      announce(failed, "failed", error instanceof CompileError ? 1 + error.others.length : 1);
      throw error;
    }
  };

/** The stage that an error belongs to: nodes that cannot be imported are a matter of checking them, not of receiving the file. */
const stageOf = (error: unknown, stage: StageName): StageName =>
  stage === "receive" && error instanceof CompileError && (isUnsupported(error.code) || error.code === "LPU1012")
    ? "check"
    : stage;
