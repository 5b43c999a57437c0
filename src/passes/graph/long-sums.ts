/**
 * Long sums: terms that are added one after another, as layers add to what goes past them. Each sum that is stored is rounded, and
 * whatever comes later keeps that error: n roundings make about the square root of n times the error of one.
 */

import { at } from "../../diagnostics.js";
import type { Graph, NodeId } from "../../ir/graph.js";
import { VIEWS } from "../../ir/ops.js";
import { isFloat } from "../../ir/tensor.js";

/** From so many additions on a sum is long; a layer makes two. */
const LONG = 32;
const ADDS: readonly string[] = ["add", "sub"];

/** Sums of which a long one is made, with itself. */
export const longSums = (graph: Graph): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const depths: number[] = [];
  const before: (NodeId | undefined)[] = [];
  for (const { id, op, inputs, type } of graph.nodes) {
    const adds = ADDS.includes(op) && isFloat(type.dtype);
    const passes = adds || op === "cast" || VIEWS.includes(op);
    const depthOf = (input: NodeId): number => at(depths, input, "depth");
    const most = passes ? Math.max(...inputs.map(depthOf)) : 0;
    before[id] = most > 0 ? inputs.find((input) => depthOf(input) === most) : undefined;
    depths[id] = adds ? most + 1 : most;
    if (at(depths, id, "depth") < LONG) continue;
    for (let sum: NodeId | undefined = id; sum !== undefined && !found.has(sum); sum = before[sum]) found.add(sum);
  }
  return found;
};
