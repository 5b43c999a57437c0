/**
 * Keeps sums of squares within the range of fp16.
 *
 * The operand of a sum is stored in fp16, whose largest number is 65504, so the square of anything above 255 would overflow.
 * Squares are therefore formed of numbers scaled by SCALE, a power of two, so that only what underflows is lost: |x| up to
 * 4095 is safe, and squares keep ten bits down to |x| = 0.13. The factor goes to the sum, where it meets the 1 / n of a mean.
 */

import type { NodeId } from "../ir/graph.js";
import { isFloat } from "../ir/tensor.js";
import { CANONICAL_RULES } from "./canonicalize.js";
import type { Pass } from "./pass.js";
import { type Rewriter, type Rule, rewriteGraph } from "./rewriter.js";
import { operandOf } from "./rules-arithmetic.js";

export const SCALE = 2 ** -4;

const scaleSquares: Rule = {
  name: "scale-squares",
  law: "sum(x * x) == sum((k x) * (k x)) * (1 / k^2) for k a power of two",
  ops: ["reduce_sum"],
  rewrite: (g, node) => {
    const square = g.node(operandOf(node, 0));
    const x = operandOf(square, 0);
    if (square.op !== "mul" || x !== operandOf(square, 1) || !isFloat(node.type.dtype) || isScaled(g, x))
      return undefined;
    g.through(square.id, "mul");
    const number = (value: number): NodeId => g.number(value, node.type.dtype);
    const small = g.emit("mul", [x, number(SCALE)]);
    return g.emit("mul", [g.emit("reduce_sum", [g.emit("mul", [small, small])], node.attrs), number(SCALE ** -2)]);
  },
};

/** Whether x is already a product with a number of at most SCALE. */
function isScaled(g: Rewriter, x: NodeId): boolean {
  const product = g.node(x);
  const factor = product.op === "mul" ? g.scalar(operandOf(product, 1)) : undefined;
  return factor !== undefined && Math.abs(factor) <= SCALE;
}

export const scaleSquaresPass: Pass = {
  name: "scale-squares",
  doc: "Forms sums of squares at a reduced scale, so that squares do not overflow fp16.",
  run: (graph) => rewriteGraph(graph, [scaleSquares, ...CANONICAL_RULES]),
};
