/**
 * What `build` would say of a model, without scheduling it: every step up to the Plan, and whether the Plan finds room.
 *
 * Each step reports all that stands in the way, and later steps look at what is left: where nodes cannot be imported, the others
 * are still held against the machine. What was not looked at, and why, is said as well. No step is another than that of
 * compile.ts, so a model in which nothing stands in the way only fails to build if no schedule is found.
 */

import { type Deployment, deploymentsOf } from "../deployments.js";
import { at, CompileError } from "../diagnostics.js";
import { placedResults } from "../frontend/devices.js";
import { checkSupport } from "../frontend/import.js";
import { type ModelRecord, type ModelSource, readModel } from "../frontend/source.js";
import { expectShared, type StateOption, type WithStates, withStates } from "../frontend/states.js";
import type { Graph, Shape } from "../ir/graph.js";
import { type Around, firstLaidOut, type Deployed, deployedBy } from "../layouts.js";
import { type CompileOptions, entriesOf, type OptionsWithDevices, withDevices } from "../options.js";
import { targetOf } from "../ir/target.js";
import { legalErrors } from "../passes/graph/legal.js";
import { type PassContext, runPasses } from "../passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "../passes/graph/pipeline.js";
import { cutEntries } from "../pipeline.js";
import { firstOf } from "../programs.js";
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
  /** Chips that it was looked at for; undefined where the model did not come as far. */
  readonly chips: number | undefined;
  /** What was not looked at, and why. */
  readonly open: readonly string[];
}

export function checkModel(source: ModelSource, asked: CompileOptions = {}): CheckReport {
  const model = readModel(source);
  const options = withDevices(model, asked);
  const deployments = deploymentsOf(options, targetOf(options.target));
  const entries: CheckedEntry[] = [];
  const narrowed: PassContext["narrowed"] = new Map();
  for (const [, entry] of entriesOf(options)) {
    const before = entries.flatMap(({ resident }) => resident ?? []);
    entries.push(checkEntry(source, model, { ...options, ...entry }, before, narrowed));
  }
  const resident = entries.flatMap((entry) => entry.resident ?? []);
  const shared = entries.length > 1 ? attempt(() => expectShared(resident)) : { value: undefined };
  const ready = entries.flatMap(({ ready: found }) => found ?? []);
  const isReady = ready.length === entries.length && !("errors" in shared);
  const placed: Placed = isReady ? checkPlaced(ready, options, deployments) : NOT_PLACED;
  const problems = [
    ...entries.flatMap((entry) => entry.problems),
    ...("errors" in shared ? shared.errors : []),
    ...placed.problems,
  ];
  const operators = entries.map((entry) => operatorsOf(entry.nodes, [...entry.problems, ...placed.problems]));
  const open = entries.flatMap((entry) => entry.open);
  const { sram, chips } = placed;
  return {
    nodes: at(entries, 0, "entry").nodes.length,
    supported: Math.min(...operators.map(supportedIn)),
    operators: at(operators, 0, "entry"),
    problems: entries.length === 1 ? problems : unlike(problems),
    unbound: [...new Set(entries.flatMap(({ unbound }) => unbound))],
    sram,
    chips,
    open: [
      ...new Set([
        ...open,
        ...(isReady || open.length > 0 ? placed.open : [STOPPED]),
        ...(entries.length > 1 ? [SHARED] : []),
      ]),
    ],
  };
}

/** Problems of entries are often the same. */
const unlike = (problems: readonly CompileError[]): readonly CompileError[] => [
  ...new Map(problems.map((problem) => [problem.message + (problem.details.node ?? ""), problem])).values(),
];

/** What entries need together: each its own edges, all the same weights and states, and results one after the other. */
const sharedNeed = (a: SramNeed, b: SramNeed): SramNeed => {
  const most = (part: "constants" | "states" | "results"): number => Math.max(a[part], b[part]);
  const [constants, states, results] = [most("constants"), most("states"), most("results")];
  const [inputs, outputs] = [a.inputs + b.inputs, a.outputs + b.outputs];
  return { ...a, constants, states, inputs, outputs, results, peak: constants + states + inputs + outputs + results };
};

interface CheckedEntry extends Pick<CheckReport, "problems" | "unbound" | "open"> {
  /** Nodes of the main graph. */
  readonly nodes: ReturnType<typeof checkSupport>["nodes"];
  /** The graph with its states, as far as these fit. */
  readonly resident?: WithStates | undefined;
  /** The graph of legal operations, if nothing stands in its way. */
  readonly ready?: Ready | undefined;
}

interface Ready {
  readonly graph: Graph;
  readonly states: WithStates["states"];
  /** Of results of nodes. */
  readonly shapes: ReadonlyMap<string, Shape>;
}

/** `before`: entries before this one, with their states. */
function checkEntry(
  source: ModelSource,
  model: ModelRecord,
  options: CompileOptions,
  before: readonly WithStates[],
  narrowed: PassContext["narrowed"],
): CheckedEntry {
  const target = targetOf(options.target);
  const { bind = {}, shapes, fix, last, state = {} } = options;
  const made = new Map<string, Shape>();
  const binding = { bind, shapes, fix, last, onValue: (name: string, shape: Shape) => made.set(name, shape) };
  const { nodes, unbound, graph, problems: refused } = checkSupport(source, binding, model);
  const found: Found =
    graph === undefined
      ? { problems: [], open: [unboundText(unbound)] }
      : checkGraph(
          graph,
          { target, weights: weightOptions(options), narrowed },
          { partial: refused.length > 0, state, before, shapes: made },
        );
  const problems: readonly CompileError[] = [...refused.flatMap(apart), ...found.problems];
  return { ...found, nodes, problems, unbound };
}

/** How often each operator occurs among nodes, and in how many of them no problem is. */
const operatorsOf = (nodes: CheckedEntry["nodes"], problems: readonly CompileError[]): CheckReport["operators"] => {
  const named = new Set(problems.flatMap(namesOf));
  const counts = new Map<string, { count: number; supported: number }>();
  for (const { name, op } of nodes) {
    const { count, supported } = counts.get(op) ?? { count: 0, supported: 0 };
    counts.set(op, { count: count + 1, supported: supported + (named.has(name) ? 0 : 1) });
  }
  return [...counts].map(([op, row]) => ({ op, ...row })).sort((a, b) => (a.op < b.op ? -1 : 1));
};

const supportedIn = (operators: CheckReport["operators"]): number =>
  operators.reduce((sum, { supported }) => sum + supported, 0);

type Found = Pick<CheckedEntry, "problems" | "open" | "resident" | "ready">;

/** `partial`: some nodes could not be imported, and are missing. */
function checkGraph(
  graph: Graph,
  context: PassContext,
  {
    partial,
    state,
    before,
    shapes,
  }: {
    readonly partial: boolean;
    readonly state: StateOption;
    readonly before: readonly WithStates[];
    readonly shapes: Ready["shapes"];
  },
): Found {
  const stopped = (problems: readonly CompileError[]): Found => ({ problems, open: [STOPPED] });
  // Outputs may be among the nodes that are missing.
  const paired = attempt(() => withStates(graph, partial ? {} : state, before));
  const optimized = attempt(() => runPasses("errors" in paired ? graph : paired.value.graph, OPTIMIZE, context));
  const wrong = "errors" in paired ? paired.errors : [];
  if ("errors" in optimized) return stopped([...wrong, ...optimized.errors]);
  const illegal = [...wrong, ...legalErrors(optimized.value, false)];
  if (partial || illegal.length > 0 || "errors" in paired) return stopped(illegal);
  const legal = attempt(() => runPasses(optimized.value, NARROW, context));
  if ("errors" in legal) return stopped(legal.errors);
  const resident = paired.value;
  return { problems: [], open: [], resident, ready: { graph: legal.value, states: resident.states, shapes } };
}

type Placed = Pick<CheckReport, "problems" | "sram" | "chips" | "open">;

const NOT_PLACED: Placed = { problems: [], sram: undefined, chips: undefined, open: [] };

/** What was looked at: of the chip that holds most of it, and how many others there are. */
interface Looked {
  readonly sram: SramNeed;
  readonly chips: number;
}

/** Whether the plans of all entries find room, on the first chips on which a build would. */
function checkPlaced(
  entries: readonly Ready[],
  options: OptionsWithDevices,
  sets: readonly (readonly Deployment[])[],
): Placed {
  const around: Around = {
    statesOf: (index) => at(entries, index, "entry").states,
    placedOf: (index) => placedResults(options.devices, at(entries, index, "entry").shapes),
  };
  const legal = entries.map(({ graph }) => graph);
  let first: Looked | undefined;
  const onLooked = (looked: Looked): void => {
    first ??= looked;
  };
  const placed = attempt(() =>
    firstOf(sets, (set) => {
      const { ways } = deployedBy(legal, around, set, options);
      const looked = firstOf(ways, (way) => lookAt(way, around, options, onLooked));
      return { ...looked, others: ways.length - 1 };
    }),
  );
  if ("errors" in placed) {
    const { sram, chips } = first ?? NOT_PLACED;
    return { problems: placed.errors, sram, chips, open: first === undefined ? [STOPPED] : [] };
  }
  const { sram, chips, others } = placed.value;
  const full = sram.peak > ALMOST * sram.capacity ? [FULL] : [];
  return { problems: [], sram, chips, open: [...full, SCHEDULE, ...(others > 0 ? [FASTER] : [])] };
}

/** LPU2001 where there is no room for it. */
const lookAt = (
  way: Deployed,
  around: Around,
  options: OptionsWithDevices,
  onLooked: (looked: Looked) => void,
): Looked => {
  const target = targetOf(options.target);
  return firstLaidOut(way, around, options, (plans, asked) => {
    const { pipeline, cuts: stages } = cutEntries(plans, asked);
    // By entry the chip that holds most.
    const needs = stages.map((own) => own.map((stage) => sramNeed(stage, target)).reduce(fullerOf));
    const looked = { sram: needs.reduce(sharedNeed), chips: pipeline.members * (pipeline.hops.length + 1) };
    onLooked(looked);
    for (const stage of stages.flat()) checkPlaces(stage, target);
    return looked;
  });
};

const fullerOf = (a: SramNeed, b: SramNeed): SramNeed => (a.peak >= b.peak ? a : b);

/** What a build may lose at the ends of banks and by keeping results longer than the plan needs them. */
const ALMOST = 0.9;

const STOPPED = "layout and SRAM were not looked at: that takes a model in whose way nothing else stands";
const FULL =
  "SRAM is almost full at the fullest moment by this estimate: whether there is room then, only a build can tell";
const SCHEDULE =
  "the schedule was not made: that every operation finds ports, streams and rows in time, only a build can tell";

const FASTER =
  "whether chips that share products are faster than one, which does their work if they are not, was not looked at: only a build can tell";

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
