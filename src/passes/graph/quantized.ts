/**
 * Products of quantized numbers are made of their integers, and scales come after: (s q)(t r) == (s t)(q r).
 *
 * A quantized number is an integer, less its zero point, times a scale. fp16 holds the integer and not the number, so products
 * of the integers have no error before their sum, which the MXM makes in fp32; scales are fp32 and follow in the VXM. This is
 * the first pass: once constants are folded, integers of weights are not known any more. Scales that vary within a sum, as
 * those of blocks, stay with their numbers.
 */

import type { NodeId, Shape } from "../../ir/graph.js";
import { isFloat } from "../../ir/tensor.js";
import { EXACT_F16 } from "./decompose/integers.js";
import { magnitude } from "./masks.js";
import type { Pass } from "./pass.js";
import { integerRange } from "../../ir/ranges.js";
import { rewriteUnfolded, type Rewriter, type Rule } from "./rewriter.js";
import { operandOf } from "./rules/arithmetic.js";

/** A tensor that is `whole` times `factor`: integers that fp16 holds, in a float type, and a scale that broadcasts to them. */
interface Scaled {
  readonly whole: NodeId;
  readonly factor: NodeId;
}

const isWhole = (g: Rewriter, id: NodeId): boolean => {
  const { op, inputs } = g.node(id);
  const [x = 0] = inputs;
  return op === "cast" && !isFloat(g.type(x).dtype) && magnitude(integerRange(g, x)) <= EXACT_F16;
};

const isOne = (shape: Shape): boolean => shape.every((extent) => extent === 1);

/** Views that leave a single scale as it is, and so does padding with zeros. */
const KEEPS_SCALE: readonly string[] = ["reshape", "slice", "expand"];

/** A number taken apart, also behind views. */
const scaledAt = (g: Rewriter, id: NodeId): Scaled | undefined => {
  const { op, inputs, attrs } = g.node(id);
  const [x = 0, y = 0] = inputs;
  if (op === "mul") {
    const order = [
      { whole: x, factor: y },
      { whole: y, factor: x },
    ];
    g.through(id, op);
    return order.find(({ whole }) => isWhole(g, whole) && g.shape(whole).length === g.shape(id).length);
  }
  const isPad = op === "pad" && attrs["mode"] === "constant" && attrs["value"] === 0;
  const isCast = op === "cast" && isFloat(g.type(x).dtype) && isFloat(g.type(id).dtype);
  if (!isPad && !isCast && op !== "transpose" && !KEEPS_SCALE.includes(op)) return undefined;
  const inner = scaledAt(g, x);
  if (inner === undefined) return undefined;
  g.through(id, op);
  if (isCast) return inner;
  const { whole, factor } = inner;
  const viewed = g.emit(op, [whole], attrs);
  if (isOne(g.shape(factor))) return { whole: viewed, factor: g.emit("reshape", [factor], { shape: [] }) };
  return op === "transpose" ? { whole: viewed, factor: g.emit(op, [ranked(g, factor, g.shape(x))], attrs) } : undefined;
};

/** A factor with as many axes as what it broadcasts to. */
const ranked = (g: Rewriter, factor: NodeId, { length }: Shape): NodeId => {
  const shape = g.shape(factor);
  return g.emit("reshape", [factor], { shape: [...Array<number>(length - shape.length).fill(1), ...shape] });
};

const product: Rule = {
  name: "quantized-product",
  law: "matmul(s * q, t * r) == (s * t) * matmul(q, r) for integers q, r, and scales that do not vary along K",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = node.inputs.map((id) => scaledAt(g, id));
    if (a === undefined || b === undefined) return undefined;
    if ((g.shape(a.factor).at(-1) ?? 1) !== 1 || (g.shape(b.factor).at(-2) ?? 1) !== 1) return undefined;
    const sums = g.emit("matmul", [a.whole, b.whole]);
    const scaled = g.emit("mul", [sums, g.emit("mul", [a.factor, b.factor])]);
    return g.emit("cast", [scaled], { to: node.type.dtype });
  },
};

const convolution: Rule = {
  name: "quantized-convolution",
  law: "conv(s * x, t * w, b) == (s * t) * conv(x, w) + b for integers x, w, one scale s, and scales t of filters",
  ops: ["conv"],
  rewrite: (g, node) => {
    const [x, w] = [scaledAt(g, operandOf(node, 0)), scaledAt(g, operandOf(node, 1))];
    if (x === undefined || w === undefined) return undefined;
    const { whole, factor } = w;
    const perFilter = g.shape(ranked(g, factor, g.shape(whole)));
    if (!isOne(g.shape(x.factor)) || !isOne(perFilter.slice(1))) return undefined;
    // [M, 1, ..] of the result [batch, M, ..].
    const filters = (id: NodeId): NodeId =>
      g.emit("reshape", [id], { shape: [g.shape(id)[0] ?? 1, ...node.type.shape.slice(2).map(() => 1)] });
    const one = g.emit("reshape", [x.factor], { shape: [] });
    const sums = g.emit("conv", [x.whole, whole], node.attrs);
    const scaled = g.emit("mul", [sums, g.emit("mul", [one, isOne(perFilter) ? factor : filters(factor)])]);
    const result = g.emit("cast", [scaled], { to: node.type.dtype });
    const bias = node.inputs[2];
    return bias === undefined ? result : g.emit("add", [result, filters(bias)]);
  },
};

export const QUANTIZED_RULES: readonly Rule[] = [product, convolution];

export const quantized: Pass = {
  name: "quantized",
  doc: "Makes products of quantized numbers of their integers, which are exact, and scales the sums.",
  run: (graph) => rewriteUnfolded(graph, QUANTIZED_RULES),
};
