/**
 * From the legal graphs of entries to their plans: shared out to chips, and laid out so that they fit, states in both hemispheres
 * where there is room, weights in fewer rows where there is little.
 */

import { type Deployment, firstWithRoom } from "./deployments.js";
import { at, CompileError, sure } from "./diagnostics.js";
import { placedGraphs, sharedPlan } from "./group.js";
import type { PlacedResult, PlacementOf, Sharding } from "./ir/facts.js";
import type { Graph } from "./ir/graph.js";
import { chipsOf } from "./ir/group.js";
import { inBoth } from "./ir/plan/behind.js";
import type { Plan, PlanState } from "./ir/plan.js";
import { sramBytes, type Target, targetOf } from "./ir/target.js";
import { type CompileOptions, entriesOf } from "./options.js";
import { type PassContext, type PassOptions, runPasses } from "./passes/graph/pass.js";
import { PLACE } from "./passes/graph/pipeline.js";
import { constantBytes } from "./passes/graph/shard/costs.js";
import { residentIn, resultsIn } from "./passes/schedule/place/resident.js";
import { select } from "./passes/select/select.js";
import { peersOf, type Pipeline } from "./pipeline.js";

/** Whether chips share the work of an entry. */
const isShared = (graphs: readonly Graph[]): boolean => graphs.some((graph) => chipsOf(graph) > 1);

/** By entry: its states, and the outputs that take their place. */
export type StatesOf = (index: number) => ReadonlyMap<string, string>;

/** What is known of entries beside their graphs. */
export interface Around {
  readonly statesOf: StatesOf;
  /** Where the model says that results of its nodes lie. */
  readonly placedOf: (index: number) => readonly PlacedResult[];
}

/** Graphs of entries for a deployment: as its chips share them, or whole. */
export interface Deployed {
  readonly deployment: Deployment;
  readonly graphs: readonly Graph[];
  /** What the search says of it, where chips are to share products. */
  readonly sharding?: Sharding | undefined;
  /** Where results of ONNX nodes lie, if they do. */
  readonly placementOf?: PlacementOf | undefined;
}

/**
 * The ways of a set of deployments, in the order in which they are worth a try: those in which chips share products by what they take by
 * estimates, then one chip. Only those that the model asks for, where it says how results lie. `left`: what the search says of chips
 * that have nothing to share.
 */
export const deployedBy = (
  legal: readonly Graph[],
  around: Around,
  deployments: readonly Deployment[],
  options: CompileOptions,
  passes: PassOptions = {},
): { readonly ways: readonly Deployed[]; readonly left: Sharding | undefined } => {
  const all = deployments.flatMap((deployment): readonly Deployed[] => {
    if (deployment.members === 1) return [{ deployment, graphs: legal }];
    try {
      return [sharedOut(legal, around, deployment, options, passes)];
    } catch (error) {
      // Nothing has an axis that so many divide.
      if (options.tensor === undefined && error instanceof CompileError && error.code === "LPU2106") return [];
      throw error;
    }
  });
  const shared = all.filter(({ graphs }) => isShared(graphs)).sort((a, b) => estimateOf(a) - estimateOf(b));
  const isSaid = shared.some(({ sharding }) => (sharding?.annotated.held ?? 0) > 0);
  const alone = all.filter(({ deployment }) => deployment.members === 1);
  const left = shared.length === 0 ? all.flatMap(({ sharding }) => sharding ?? []).at(-1) : undefined;
  return { ways: isSaid ? shared : [...shared, ...alone], left };
};

/** Legal graphs of entries as the chips of a node share them; whole, where nothing is to be shared. */
const sharedOut = (
  legal: readonly Graph[],
  { statesOf, placedOf }: Around,
  deployment: Deployment,
  options: CompileOptions,
  passes: PassOptions,
): Deployed => {
  const target = targetOf(options.target);
  let found: Pick<Deployed, "sharding" | "placementOf"> = {};
  const graphs = placedGraphs(legal.length, (index, before, wholeStates) => {
    const context = {
      target,
      chips: deployment.members,
      states: statesOf(index),
      placed: placedOf(index),
      isCompared: true,
      before,
      wholeStates,
    };
    const told: Pick<PassContext, "onSharded" | "onPlaced"> =
      index > 0
        ? {}
        : {
            onSharded: (sharding) => {
              found = { ...found, sharding };
            },
            onPlaced: (placementOf) => {
              found = { ...found, placementOf };
            },
          };
    return runPasses(at(legal, index, "entry"), PLACE, { ...context, ...told }, passes);
  });
  return { deployment, graphs, ...found };
};

const estimateOf = ({ sharding }: Deployed): number => sure(sharding, "sharding").cycles;

/** What a step makes of the plans of a way, with the first number of its stages that has room. */
export const firstLaidOut = <T>(
  { deployment, graphs }: Deployed,
  { statesOf }: Around,
  options: CompileOptions,
  step: (plans: readonly Plan[], pipeline: Pipeline) => T,
): T => {
  const target = targetOf(options.target);
  const plansOn = layoutsOf(graphs, statesOf, target, isAlone(options, deployment));
  return firstWithRoom(deployment, (pipeline) => step(plansOn(pipeline), pipeline));
};

/** What lays out the graphs of entries for the chips of a pipeline, each around the states of those before it. */
const layoutsOf = (
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

/** And where what is computed takes it beyond this, no lanes of them are left empty that could be filled. */
const BURSTING = 0.98;

/** Where constants take no more of it than this, what is computed may take rows that save cycles. */
const AMPLE = 0.7;

/** Where less of it is taken, states lie in both hemispheres, so that either array takes them: faster, and twice as many bytes. */
const ROOMY = 0.75;

/** Whether a program may be one entry on one chip: entries share weights, and so lay them alike, and chips have room for all. */
const isAlone = (options: CompileOptions, { stages }: Deployment): boolean =>
  entriesOf(options).length === 1 && stages.includes(1);

/** Bytes of the constants of a graph on a chip; the host looks up rows of tables, and none of these lies there. */
const constantsIn = ({ nodes }: Graph): number => {
  const taken = new Set(nodes.flatMap(({ op, inputs }) => (op === "gather" ? [] : inputs)));
  return nodes.reduce(
    (sum, { id, op, type }) => (op === "constant" && taken.has(id) ? sum + constantBytes(type) : sum),
    0,
  );
};

/**
 * What `select` gives, its states where there is room for them; of a program that may be `alone`, so that it fits on one chip,
 * if it can.
 */
export const fittingPlan = (
  graph: Graph,
  target: Target,
  states: ReadonlyMap<string, string> | undefined,
  lying: readonly PlanState[],
  alone: boolean,
  peers?: readonly (readonly number[])[],
): Plan => {
  const residentOf = (plan: Plan): number => residentIn(plan, target);
  const keepsStates = (states?.size ?? 0) > 0;
  const isAmple = !keepsStates && constantsIn(graph) <= AMPLE * sramBytes(target);
  const plan = select(graph, target, states, lying, peers, isAmple ? "ample" : "some");
  const spread = inBoth(plan, () => true);
  if (residentOf(spread) <= ROOMY * sramBytes(target)) return spread;
  if (!alone || residentOf(plan) <= FULL * sramBytes(target)) return plan;
  const little = select(graph, target, states, lying, peers, "little");
  const isBursting = residentOf(little) + resultsIn(little, target) > BURSTING * sramBytes(target);
  const tight = isBursting ? select(graph, target, states, lying, peers, "least") : little;
  return residentOf(tight) < Math.min(residentOf(plan), sramBytes(target)) ? tight : plan;
};
