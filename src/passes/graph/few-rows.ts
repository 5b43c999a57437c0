/**
 * Few rows, as of a decode step: what they take in the array is loading its weights, and a second row is nearly free.
 *
 * So products at the beginning of a long sum (long-sums.ts), whose errors all layers behind them keep, multiply their rows as sums
 * of two fp16 numbers: one row of each, by the same weights, added in fp32. That is 22 bits of the activations for 11; weights are
 * as they are.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Graph, type Node, type NodeId } from "../../ir/graph.js";
import { isFp8 } from "../../ir/dtype.js";
import { sliceAxis } from "./decompose/gather.js";
import { isMove, halvesOf } from "./exponents.js";
import type { Rewriter } from "./rewriter.js";

/** Up to so many rows are few. */
const FEW = 4;

/** Whether a node multiplies few rows by constant weights in fp16. */
export const isOfFewRows = (graph: Graph, { op, inputs }: Node): boolean => {
  if (op !== "matmul" || isMove(graph, op, inputs[1])) return false;
  const [x, weights] = inputs.map((id) => at(graph.nodes, id, "node"));
  if (x === undefined || weights === undefined || weights.op !== "constant" || isFp8(weights.type.dtype)) return false;
  const { shape } = weights.type;
  return shape.length === 2 && x.type.shape.length > 1 && elementCount(x.type.shape) <= FEW * at(shape, 0, "extent");
};

/** [.., M, K] in fp32 -> [.., 2 M, K] in fp16: rows, and behind them what fp16 leaves of them. */
export const bothHalves = (g: Rewriter, x: NodeId): NodeId => {
  const { whole, rest } = halvesOf(g, x);
  return g.emit("concat", [whole, rest], { axis: g.shape(whole).length - 2 });
};

/** [.., 2 M, N] -> [.., M, N] in fp32: products of both halves of rows, added. */
export const sumOfHalves = (g: Rewriter, product: NodeId): NodeId => {
  // What is sliced is stored, and of a product that is fp16; an ALU in between leaves it fp32.
  const wide = g.emit("mul", [g.emit("cast", [product], { to: "f32" }), g.number(1, "f32")]);
  const axis = g.shape(wide).length - 2;
  const rows = at(g.shape(wide), axis, "extent") / 2;
  return g.emit("add", [sliceAxis(g, wide, axis, 0, rows), sliceAxis(g, wide, axis, rows, rows)]);
};
