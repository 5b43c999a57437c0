/**
 * Exponents: scores of a softmax that are products of inputs alone. Nothing is known of their magnitude, and a difference of
 * 0.01 between two scores is 1 % between their weights; where fp16 rounds queries and keys of a magnitude of 20, scores are off
 * by as much. So both factors are taken as sums of two fp16 numbers, and the scores stay in fp32 up to the exponential.
 */

import { at } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import { LARGEST_F16 } from "../../ir/numerics.js";
import { VIEWS, isElementwise } from "../../ir/ops.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { isFloat } from "../../ir/tensor.js";
import { isLaneMap, onlyMoves } from "../../ir/literals.js";
import type { Rewriter } from "./rewriter.js";

/** Splits the 24 bits of an fp32 number after the eleventh (Dekker, A floating-point technique for extending the precision, 1971). */
const SPLITTER = 2 ** 13 + 1;

/** Whether an operation is a product that only moves lanes. */
export const isMove = (graph: Graph, op: string, weights: NodeId | undefined): boolean => {
  const from = op === "matmul" && weights !== undefined ? graph.nodes[weights] : undefined;
  const literal = from === undefined ? undefined : literalIn(from);
  return isLaneMap(literal) && onlyMoves(literal);
};

/**
 * Scores that hold a product of which both factors are made of inputs alone, by views, elementwise operations and such
 * products, with all that they are made of. A product with weights, or of what was normed, is none: its magnitude is the model's.
 */
export const exponentNodes = (graph: Graph, scores: readonly NodeId[]): ReadonlySet<NodeId> => {
  const raw: boolean[] = [];
  const carries: boolean[] = [];
  for (const { id, op, type, inputs } of graph.nodes) {
    const floats = inputs.filter((input) => isFloat(at(graph.nodes, input, "node").type.dtype));
    const computed = floats.filter((input) => graph.nodes[input]?.op !== "constant");
    const passes = isElementwise(op) || op === "concat" || VIEWS.includes(op) || isMove(graph, op, inputs[1]);
    const isProduct = op === "matmul" && computed.length === 2;
    const made = (passes || isProduct) && computed.length > 0 && computed.every((input) => raw[input] === true);
    raw[id] = isFloat(type.dtype) && (op === "input" ? type.dtype !== "f16" : made);
    carries[id] =
      isFloat(type.dtype) && (isProduct ? made : passes && computed.some((input) => carries[input] === true));
  }
  const found = new Set<NodeId>();
  const stack = scores.filter((id) => carries[id] === true);
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const node = graph.nodes[id];
    if (node === undefined || found.has(id)) continue;
    found.add(id);
    stack.push(...node.inputs.filter((input) => carries[input] === true || raw[input] === true));
  }
  return found;
};

/**
 * The product of two fp32 values, each as the sum of two fp16 numbers: h h' + h l' + l h', with 22 bits of each value. What is
 * beyond fp16 meets the rests of the other as the greatest fp16 number: infinity times a rest of 0 would be no number.
 */
export const exactProduct = (g: Rewriter, { op, attrs }: Node, factors: readonly NodeId[]): NodeId => {
  const a = halvesOf(g, at(factors, 0, "factor"));
  const b = halvesOf(g, at(factors, 1, "factor"));
  const product = (x: NodeId, y: NodeId): NodeId => g.emit("cast", [g.emit(op, [x, y], attrs)], { to: "f32" });
  const rests = g.emit("add", [product(a.within, b.rest), product(a.rest, b.within)]);
  return g.emit("add", [product(a.whole, b.whole), rests]);
};

/** An fp32 value in two fp16 numbers, a whole one and what that leaves. */
interface Halves {
  /** As fp16 has it: beyond its numbers are infinities. */
  readonly whole: NodeId;
  /** The same, within its numbers. */
  readonly within: NodeId;
  /** What is left of it. */
  readonly rest: NodeId;
}

export const halvesOf = (g: Rewriter, x: NodeId): Halves => {
  const limited = g.emit("min", [x, g.number(LARGEST_F16, "f32")]);
  const held = g.emit("max", [limited, g.number(-LARGEST_F16, "f32")]);
  // Eleven bits, as fp16 has them, by the rounding of fp32 sums.
  const great = g.emit("mul", [held, g.number(SPLITTER, "f32")]);
  const half = g.emit("sub", [great, g.emit("sub", [great, held])]);
  const stored = (value: NodeId): NodeId => g.emit("cast", [value], { to: "f16" });
  return { whole: stored(x), within: stored(half), rest: stored(g.emit("sub", [held, half])) };
};
