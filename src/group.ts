/**
 * Chips that share each product: graphs of entries are shared out, and each becomes the plan of the first chip, which every chip
 * runs with rows, links and constants of its own.
 */

import { CompileError } from "./diagnostics.js";
import type { Graph } from "./ir/graph.js";
import { chipsOf } from "./ir/group.js";
import { type TensorInPieces, withPieces } from "./ir/plan/group.js";
import type { Plan, PlanState } from "./ir/plan.js";
import type { Target } from "./ir/target.js";
import { type ChipGraph, chipGraph } from "./passes/graph/shard/chip.js";

/** Shares a graph out around those before it; `wholeStates`: all chips have all of what stays. */
export type PlaceGraph = (index: number, before: readonly Graph[], wholeStates: boolean) => Graph;

/** So many graphs, one around another; where a later one cannot have states as an earlier one has them, all chips have all of these. */
export const placedGraphs = (count: number, place: PlaceGraph): readonly Graph[] => {
  const all = (wholeStates: boolean): readonly Graph[] => {
    const placed: Graph[] = [];
    for (let index = 0; index < count; index++) placed.push(place(index, placed, wholeStates));
    return placed;
  };
  try {
    return all(false);
  } catch (error) {
    if (count === 1 || !(error instanceof CompileError) || error.code !== "LPU2106") throw error;
    return all(true);
  }
};

/** Lays out the graph of one chip, with the names of its states and their outputs. */
type LayOut = (graph: Graph, states: ReadonlyMap<string, string>) => Plan;

export interface SharedPlan {
  readonly plan: Plan;
  /** States as they lie on one chip. */
  readonly lying: readonly PlanState[];
}

/** The plan of the first of the chips that share a graph. */
export const sharedPlan = (
  shared: Graph,
  target: Target,
  states: ReadonlyMap<string, string>,
  layOut: LayOut,
): SharedPlan => {
  const chips = chipsOf(shared);
  if (chips === 1) {
    const plan = layOut(shared, states);
    return { plan, lying: plan.states };
  }
  const { graph, inputs, outputs }: ChipGraph = chipGraph(shared, target, states);
  const plan = layOut(graph, new Map([...states].map(([name, next]) => [ownName(inputs, name), next])));
  return { plan: withPieces(plan, target.lanes, chips, inputs, outputs), lying: plan.states };
};

/** What a state is called in the graph of one chip: it is whole, or in pieces, and never both. */
const ownName = (inputs: ReadonlyMap<string, TensorInPieces>, name: string): string =>
  [...inputs].find(([, share]) => share.name === name)?.[0] ?? name;
