/**
 * The compiler on one screen: ONNX bytes in, a Program and its image out. Each step takes what the one before returned.
 *
 *   importModel     ONNX -> Graph          every unsupported node reported at once
 *   runPasses       Graph -> Graph, legal  only operations the machine has, in its types
 *   select          Graph -> Plan          bursts through units, storages; no addresses, no time
 *   schedule        Plan -> Program        addresses, units, streams, cycles
 *   checkSchedule   an independent proof that it is legal and computes what the plan says, in production too
 *   imageChunks     Program -> image       the only thing that the runtime is ever given
 */

import { encodeProgram } from "./codegen/text/encode.js";
import { imageChunks } from "./codegen/image/image.js";
import { measureText } from "./codegen/text/measure.js";
import { CompileError, isUnsupported } from "./diagnostics.js";
import type { FixedValue } from "./frontend/fix.js";
import { importModel } from "./frontend/import.js";
import type { ModelSource } from "./frontend/source.js";
import { type StateOption, withStates } from "./frontend/states.js";
import type { Graph, Shape } from "./ir/graph.js";
import type { Plan } from "./ir/plan.js";
import { verifyPlan } from "./ir/plan/verify.js";
import { chosenEntry, entryPrograms, type Program } from "./ir/program.js";
import { TARGETS, type TargetName } from "./ir/target.js";
import { checkSchedule } from "./passes/check/check.js";
import { checkProperties, type PassRecord, runPasses } from "./passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "./passes/graph/pipeline.js";
import { keptWide } from "./passes/graph/precision.js";
import { weightFacts } from "./passes/graph/weights.js";
import { type WeightFormatName, weightOptions } from "./ir/weights.js";
import { schedule } from "./passes/schedule/schedule.js";
import { select } from "./passes/select/select.js";
import { type BuildReport, reportProgram } from "./report/report.js";
import type { OnStage, StageName } from "./stages.js";

export interface CompileOptions {
  /** Sizes of named dimensions. */
  readonly bind?: Readonly<Record<string, number>> | undefined;
  /** Shapes of inputs, by name, from which named dimensions follow. */
  readonly shapes?: Readonly<Record<string, Shape>> | undefined;
  /** Inputs whose values are known when the program is compiled: they become constants, and are inputs no more. */
  readonly fix?: Readonly<Record<string, FixedValue>> | undefined;
  /**
   * Inputs that stay on the chip, each with the output that takes its place, or whose end does, for the next run: neither is the
   * host's any more. "auto": all that exporters' conventions pair by name, like past_key_values.0.key and present.0.key.
   */
  readonly state?: StateOption | undefined;
  readonly target?: TargetName | undefined;
  /** What constant weights of products lie as; fp16 if not given. */
  readonly weights?: WeightFormatName | undefined;
  /** Names of ONNX nodes, or of their weights, that stay fp16. */
  readonly keep?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly onStage?: OnStage | undefined;
  /** Called with the graph after every pass. */
  readonly onPass?: ((record: PassRecord, graph: Graph) => void) | undefined;
  /** Called with the plan, before it is scheduled. */
  readonly onPlan?: ((plan: Plan) => void) | undefined;
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
  const stage = announcer(options.onStage);
  const passes = {
    verify: options.verify ?? false,
    ...(options.clock && { clock: options.clock }),
    ...(options.onPass && { onPass: options.onPass }),
  };
  let nodes = 0;
  const onNodes = (count: number): void => {
    nodes = count;
  };
  const bind = { bind: options.bind ?? {}, shapes: options.shapes, fix: options.fix, onNodes };
  const received = stage("receive", () => attempt(() => importModel(source, bind)));
  const supported = (problems: number): string => `${Math.max(0, nodes - problems)} of ${nodes} nodes`;
  const imported = "graph" in received ? received.graph : stage("check", () => raise(received.error), supported);
  const { graph, states } = withStates(imported, options.state ?? {});
  const primitive = stage("optimize", () => runPasses(graph, OPTIMIZE, { target }, passes));
  stage("check", () => checkProperties(primitive, ["legal-ops"]), supported);
  const weights = weightOptions(options);
  const legal = stage("precision", () => runPasses(primitive, NARROW, { target, weights }, passes));
  const program = stage("compile", () => compilePlan(select(legal, target, states), options));
  const texts = stage("assemble", () => encodeProgram(program));
  const main = chosenEntry(program);
  const report = reportProgram(
    main,
    measureText(main.entry, texts.flat()),
    keptWide(primitive),
    weightFacts(legal, weights),
  );
  return { program, report, image: () => imageChunks(program, texts) };
};

/** Nodes that the frontend cannot import are a matter of the stage that checks them, not of receiving the file. */
const attempt = (run: () => Graph): { readonly graph: Graph } | { readonly error: CompileError } => {
  try {
    return { graph: run() };
  } catch (error) {
    if (error instanceof CompileError && (isUnsupported(error.code) || error.code === "LPU1012")) return { error };
    throw error;
  }
};

const raise = (error: CompileError): never => {
  throw error;
};

const compilePlan = (plan: Plan, options: CompileOptions): Program => {
  const target = TARGETS[options.target ?? "lpu-v1"];
  if (options.verify === true) verifyPlan(plan, target);
  options.onPlan?.(plan);
  const { plan: scheduled, program } = schedule(plan, target);
  for (const entry of entryPrograms(program)) checkSchedule(entry, scheduled);
  return options.name === undefined ? program : { ...program, name: options.name };
};

/** Runs a step between `start` and `done`, or `failed`. */
const announcer =
  (onStage: OnStage | undefined) =>
  <T>(stage: StageName, run: () => T, detail?: (problems: number) => string): T => {
    onStage?.({ stage, status: "start" });
    try {
      const result = run();
      onStage?.({ stage, status: "done", ...(detail === undefined ? {} : { detail: detail(0) }) });
      return result;
    } catch (error) {
      const problems = error instanceof CompileError ? 1 + error.others.length : 1;
      onStage?.({ stage, status: "failed", ...(detail === undefined ? {} : { detail: detail(problems) }) });
      throw error;
    }
  };
