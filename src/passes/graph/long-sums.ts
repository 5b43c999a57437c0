/**
 * Long sums: terms that are added one after another, as layers add to what goes past them. Each sum that is stored is rounded, and
 * whatever comes later keeps that error: n roundings make about the square root of n times the error of one.
 *
 * What such a sum begins with, and its first terms, count for more than others: the sum is small yet, so that an error is a greater
 * part of it, and all layers behind them read it.
 */

import { at } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import { VIEWS } from "../../ir/ops.js";
import { scaledProducts } from "./blocks.js";
import { isFloat } from "../../ir/tensor.js";

/** From so many additions on a sum is long; a layer makes two. */
const LONG = 32;
/** So many additions are its first: those of a layer. */
const FIRST = 2;
const ADDS: readonly string[] = ["add", "sub"];

/** Sums of many terms, and what they begin with. */
export interface LongSums {
  /** Sums of which a long one is made, with itself, and rows of a table with which it begins. */
  readonly sums: ReadonlySet<NodeId>;
  /** Of what its first terms are made, back to sums before them. */
  readonly firstTerms: ReadonlySet<NodeId>;
}

export const longSums = (graph: Graph): LongSums => {
  const sums = new Set<NodeId>();
  const depths: number[] = [];
  const before: (NodeId | undefined)[] = [];
  const depthOf = (id: NodeId): number => at(depths, id, "depth");
  const scaled = scaledProducts(graph);
  for (const { id, op, inputs, type } of graph.nodes) {
    const adds = ADDS.includes(op) && isFloat(type.dtype) && !scaled.has(id);
    const passes = adds || op === "cast" || VIEWS.includes(op);
    const most = passes ? Math.max(...inputs.map(depthOf)) : 0;
    before[id] = most > 0 ? inputs.find((input) => depthOf(input) === most) : undefined;
    depths[id] = adds ? most + 1 : most;
    if (depthOf(id) < LONG) continue;
    for (let sum: NodeId | undefined = id; sum !== undefined && !sums.has(sum); sum = before[sum]) sums.add(sum);
  }
  const first = [...sums].filter((id) => depthOf(id) <= FIRST).map((id) => at(graph.nodes, id, "node"));
  const firstTerms = madeFor(graph, first, sums);
  for (const { inputs } of first)
    for (const input of inputs) if (at(graph.nodes, input, "node").op === "gather") sums.add(input);
  return { sums, firstTerms };
};

/** Nodes of which terms are made, back to sums. */
const madeFor = (graph: Graph, adds: readonly Node[], sums: ReadonlySet<NodeId>): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const stack = adds.flatMap(({ inputs }) => inputs);
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    if (sums.has(id) || found.has(id)) continue;
    found.add(id);
    stack.push(...at(graph.nodes, id, "node").inputs);
  }
  return found;
};
