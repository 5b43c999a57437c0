/**
 * What `build` would say of a model, without scheduling it: every step up to the Plan, and whether the Plan finds room.
 *
 * Each step reports all that stands in the way, and later steps look at what is left: where nodes cannot be imported, the others
 * are still held against the machine. What was not looked at, and why, is said as well. No step is another than that of
 * compile.ts, so a model in which nothing stands in the way only fails to build if no schedule is found.
 */

import { CompileError, invariant } from "../diagnostics.js";
import { type CompileOptions, entriesOf, fittingPlan, isAlone } from "../compile.js";
import { checkSupport } from "../frontend/import.js";
import type { ModelSource } from "../frontend/source.js";
import { expectShared, type StateOption, type WithStates, withStates } from "../frontend/states.js";
import type { Graph } from "../ir/graph.js";
import type { Plan, PlanState } from "../ir/plan.js";
import { TARGETS } from "../ir/target.js";
import { legalErrors } from "../passes/graph/legal.js";
import { type PassContext, runPasses } from "../passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "../passes/graph/pipeline.js";
import { firstWithRoom, type Pipeline, pipelinesOf } from "../pipeline.js";
import { cutPlan } from "../passes/stages/cut.js";
import { checkPlaces } from "../passes/schedule/schedule.js";
import { type SramNeed, sramNeed } from "../passes/schedule/place/room.js";
import { weightOptions } from "../ir/weights.js";

export type { SramNeed } from "../passes/schedule/place/room.js";

export interface CheckReport {
  /** Nodes of the main graph. */
  readonly nodes: number;
  /** Those of them in whose way nothing stands. */
  readonly supported: number;
  /** How often each operator occurs in the main graph, and how many of these are supported; by name. */
  readonly operators: readonly { readonly op: string; readonly count: number; readonly supported: number }[];
  /** All that stands in the way, each with its node. */
  readonly problems: readonly CompileError[];
  /** Dimensions without a size. */
  readonly unbound: readonly string[];
  /** Of several chips that of the one that needs most; undefined where the model did not come as far. */
  readonly sram: SramNeed | undefined;
  /** What was not looked at, and why. */
  readonly open: readonly string[];
}

export function checkModel(source: ModelSource, options: CompileOptions = {}): CheckReport {
  const pipelines = pipelinesOf(options, TARGETS[options.target ?? "lpu-v1"]);
  const entries: CheckedEntry[] = [];
  for (const [, entry] of entriesOf(options)) {
    const lying = entries.flatMap(({ states }) => states);
    entries.push(
      checkEntry(
        source,
        { ...options, ...entry },
        {
          ...{ lying, pipelines, alone: isAlone(options, pipelines) },
          before: entries.flatMap(({ resident }) => resident ?? []),
        },
      ),
    );
  }
  const reports = entries.map(({ report }) => report);
  const [first, ...others] = reports;
  invariant(first !== undefined, "a program has an entry");
  if (others.length === 0) return first;
  const shared = attempt(() => expectShared(entries.flatMap(({ resident }) => resident ?? [])));
  const problems = [...reports.flatMap((report) => report.problems), ...("errors" in shared ? shared.errors : [])];
  return {
    ...first,
    supported: Math.min(...reports.map(({ supported }) => supported)),
    problems: [
      ...new Map(problems.map((problem) => [problem.message + (problem.details.node ?? ""), problem])).values(),
    ],
    unbound: [...new Set(reports.flatMap(({ unbound }) => unbound))],
    sram: reports.map(({ sram }) => sram).reduce(sharedNeed),
    open: [...new Set([...reports.flatMap(({ open }) => open), SHARED])],
  };
}

/** What entries need together: each its own edges, all the same weights and states, and results one after the other. */
const sharedNeed = (a: SramNeed | undefined, b: SramNeed | undefined): SramNeed | undefined => {
  if (a === undefined || b === undefined) return undefined;
  const most = (part: "constants" | "states" | "results"): number => Math.max(a[part], b[part]);
  const [constants, states, results] = [most("constants"), most("states"), most("results")];
  const [inputs, outputs] = [a.inputs + b.inputs, a.outputs + b.outputs];
  return { ...a, constants, states, inputs, outputs, results, peak: constants + states + inputs + outputs + results };
};

interface CheckedEntry extends Pick<Found, "resident" | "states"> {
  readonly report: CheckReport;
}

/** What an entry finds. */
interface Surroundings {
  /** States of entries before it. */
  readonly lying: readonly PlanState[];
  /** Those entries with their states. */
  readonly before: readonly WithStates[];
  /** Chips for which it is looked at, until there is room. */
  readonly pipelines: readonly Pipeline[];
  /** Whether it may be all of a program, on one chip. */
  readonly alone: boolean;
}

function checkEntry(source: ModelSource, options: CompileOptions, found: Surroundings): CheckedEntry {
  const target = TARGETS[options.target ?? "lpu-v1"];
  const { bind = {}, shapes, fix, state = {} } = options;
  const { nodes, unbound, graph, problems: refused } = checkSupport(source, { bind, shapes, fix });
  const { problems, sram, open, resident, states }: Found =
    graph === undefined
      ? { problems: [], sram: undefined, states: [], open: [unboundText(unbound)] }
      : checkGraph(
          graph,
          { target, weights: weightOptions(options) },
          { partial: refused.length > 0, state, ...found },
        );
  const all: readonly CompileError[] = [...refused.flatMap(apart), ...problems];
  const named = new Set(all.flatMap(namesOf));
  const counts = new Map<string, { count: number; supported: number }>();
  for (const { name, op } of nodes) {
    const { count, supported } = counts.get(op) ?? { count: 0, supported: 0 };
    counts.set(op, { count: count + 1, supported: supported + (named.has(name) ? 0 : 1) });
  }
  const operators = [...counts].map(([op, row]) => ({ op, ...row })).sort((a, b) => (a.op < b.op ? -1 : 1));
  const supported = operators.reduce((sum, row) => sum + row.supported, 0);
  const report = { nodes: nodes.length, supported, operators, problems: all, unbound, sram, open };
  return { report, resident, states };
}

interface Found extends Pick<CheckReport, "problems" | "sram" | "open"> {
  /** The graph with its states, as far as these fit. */
  readonly resident?: WithStates | undefined;
  /** Where states lie, as far as there is a plan. */
  readonly states: readonly PlanState[];
}

/** `partial`: some nodes could not be imported, and are missing. */
function checkGraph(
  graph: Graph,
  context: PassContext,
  {
    partial,
    state,
    lying,
    before,
    pipelines,
    alone,
  }: Surroundings & { readonly partial: boolean; readonly state: StateOption },
): Found {
  const { target } = context;
  const stopped = (problems: readonly CompileError[]): Found => ({
    problems,
    sram: undefined,
    states: [],
    open: [STOPPED],
  });
  // Outputs may be among the nodes that are missing.
  const paired = attempt(() => withStates(graph, partial ? {} : state, before));
  const optimized = attempt(() => runPasses("errors" in paired ? graph : paired.value.graph, OPTIMIZE, context));
  const wrong = "errors" in paired ? paired.errors : [];
  if ("errors" in optimized) return stopped([...wrong, ...optimized.errors]);
  const illegal = [...wrong, ...legalErrors(optimized.value, false)];
  if (partial || illegal.length > 0 || "errors" in paired) return stopped(illegal);
  const planned = attempt(
    (): Plan => fittingPlan(runPasses(optimized.value, NARROW, context), target, paired.value.states, lying, alone),
  );
  if ("errors" in planned) return stopped(planned.errors);
  let stages: readonly Plan[] = [planned.value];
  const placed = attempt(() =>
    firstWithRoom(pipelines, ({ hops }) => {
      stages = cutPlan(planned.value, target, hops);
      for (const stage of stages) checkPlaces(stage, target);
    }),
  );
  // The chip that holds most.
  const sram = stages.map((stage) => sramNeed(stage, target)).reduce((a, b) => (a.peak >= b.peak ? a : b));
  const resident = paired.value;
  const { states } = planned.value;
  if ("errors" in placed) return { problems: placed.errors, sram, open: [], resident, states };
  return {
    problems: [],
    sram,
    resident,
    states,
    open: sram.peak > ALMOST * sram.capacity ? [FULL, SCHEDULE] : [SCHEDULE],
  };
}

/** What a build may lose at the ends of banks and by keeping results longer than the plan needs them. */
const ALMOST = 0.9;

const STOPPED = "layout and SRAM were not looked at: that takes a model in whose way nothing else stands";
const FULL =
  "SRAM is almost full at the fullest moment by this estimate: whether there is room then, only a build can tell";
const SCHEDULE =
  "the schedule was not made: that every operation finds ports, streams and rows in time, only a build can tell";

const SHARED = "whether all entries find room beside one another was not looked at: only a build can tell";

const unboundText = (unbound: readonly string[]): string =>
  `only names of operators were looked at, and not their forms, shapes, layout or SRAM: ${unbound.length === 1 ? "dimension" : "dimensions"} ${unbound.map((name) => `'${name}'`).join(", ")} ${unbound.length === 1 ? "has" : "have"} no size (--bind name=N)`;

type Attempted<T> = { readonly value: T } | { readonly errors: readonly CompileError[] };

function attempt<T>(step: () => T): Attempted<T> {
  try {
    return { value: step() };
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    return { errors: apart(error) };
  }
}

/** An error and the others that it holds. */
const apart = ({ code, details, others }: CompileError): readonly CompileError[] => [
  new CompileError(code, details),
  ...others.flatMap(apart),
];

/** Names of the ONNX nodes that an error is about: alone, with the operator, or several that became one. */
const namesOf = ({ details }: CompileError): readonly string[] =>
  (details.node ?? "").replace(/ \([^()]*\)$/, "").split(/, | \+ /);
