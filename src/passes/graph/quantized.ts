/**
 * Products of quantized numbers are made of their integers, or FP8 weights, and scales come after: (s q)(t r) == (s t)(q r).
 *
 * A quantized number is an integer, less its zero point, times a scale. fp16 holds the integer and not the number, so products
 * of the integers have no error before their sum, which the MXM makes in fp32; scales are fp32 and follow in the VXM. This is
 * the first pass: once constants are folded, integers of weights are not known any more. FP8 weights stay FP8, which the
 * arrays widen exactly. Scales that vary within a sum, as those of blocks, stay with their numbers.
 */

import { at } from "../../diagnostics.js";
import type { NodeId, Shape } from "../../ir/graph.js";
import { isFp8 } from "../../ir/dtype.js";
import { isFloat } from "../../ir/tensor.js";
import { EXACT_F16 } from "./decompose/integers.js";
import { magnitude } from "./masks.js";
import type { GraphPass } from "./pass.js";
import { integerRange } from "../../ir/ranges.js";
import { rewriteUnfolded, type Rewriter, type Rule } from "./rewriter.js";
import { operandOf } from "./rules/arithmetic.js";

/** A tensor that is `whole` times `factor`: numbers that the MXM takes exactly, and a scale that broadcasts to them. */
interface Scaled {
  readonly whole: NodeId;
  readonly factor: NodeId;
}

/** The numbers that a node is in another type, if the MXM takes them exactly. */
type Exact = (g: Rewriter, id: NodeId) => NodeId | undefined;

/** Integers that fp16 holds, in a float type. */
const wholeAt: Exact = (g, id) => {
  const { op, inputs } = g.node(id);
  const [x = 0] = inputs;
  return op === "cast" && !isFloat(g.type(x).dtype) && magnitude(integerRange(g, x)) <= EXACT_F16 ? id : undefined;
};

/** A constant of FP8. */
const eightAt: Exact = (g, id) => {
  const { op, inputs, type } = g.node(id);
  const [x = 0] = inputs;
  return op === "cast" && isFloat(type.dtype) && isFp8(g.type(x).dtype) && g.literal(x) !== undefined ? x : undefined;
};

const isOne = (shape: Shape): boolean => shape.every((extent) => extent === 1);

/** Views that leave a single scale as it is, and so does padding with zeros. */
const KEEPS_SCALE: readonly string[] = ["reshape", "slice", "expand"];

/** A number taken apart, also behind views. */
const scaledAt = (g: Rewriter, id: NodeId, exactAt: Exact): Scaled | undefined => {
  const { op, inputs, attrs } = g.node(id);
  const [x = 0, y = 0] = inputs;
  if (op === "mul") {
    g.through(id, op);
    for (const [numbers, factor] of [
      [x, y],
      [y, x],
    ] as const) {
      const whole = exactAt(g, numbers);
      if (whole !== undefined && g.shape(whole).length === g.shape(id).length) return { whole, factor };
    }
    return undefined;
  }
  const isPad = op === "pad" && attrs["mode"] === "constant" && attrs["value"] === 0;
  const isCast = op === "cast" && isFloat(g.type(x).dtype) && isFloat(g.type(id).dtype);
  if (!isPad && !isCast && op !== "transpose" && !KEEPS_SCALE.includes(op)) return undefined;
  const inner = scaledAt(g, x, exactAt);
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
    const [a, b] = node.inputs.map((id) => scaledAt(g, id, wholeAt));
    if (a === undefined || b === undefined) return undefined;
    if ((g.shape(a.factor).at(-1) ?? 1) !== 1 || (g.shape(b.factor).at(-2) ?? 1) !== 1) return undefined;
    const sums = g.emit("matmul", [a.whole, b.whole]);
    const scaled = g.emit("mul", [sums, g.emit("mul", [a.factor, b.factor])]);
    return g.emit("cast", [scaled], { to: node.type.dtype });
  },
};

/** FP8 weights, also without a scale, and behind views. */
const eightsAt = (g: Rewriter, id: NodeId): Scaled | undefined => {
  const scaled = scaledAt(g, id, eightAt);
  if (scaled !== undefined) return scaled;
  const { op, inputs, attrs } = g.node(id);
  const bare = eightAt(g, id);
  if (bare !== undefined) return { whole: bare, factor: g.number(1, "f32") };
  const inner = op === "transpose" || KEEPS_SCALE.includes(op) ? eightAt(g, at(inputs, 0, "input")) : undefined;
  if (inner === undefined) return undefined;
  g.through(id, op);
  return { whole: g.emit(op, [inner], attrs), factor: g.number(1, "f32") };
};

const weights: Rule = {
  name: "fp8-product",
  law: "matmul(x, t * w) == t * matmul(x, w) for FP8 weights w, and scales that do not vary along K",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [x, y] = [operandOf(node, 0), operandOf(node, 1)];
    const b = isFp8(g.type(y).dtype) ? undefined : eightsAt(g, y);
    if (b === undefined || (g.shape(b.factor).at(-2) ?? 1) !== 1) return undefined;
    const sums = g.emit("matmul", [g.emit("cast", [x], { to: "f32" }), b.whole]);
    const scaled = g.emit("mul", [sums, g.emit("cast", [b.factor], { to: "f32" })]);
    return g.emit("cast", [scaled], { to: node.type.dtype });
  },
};

const convolution: Rule = {
  name: "quantized-convolution",
  law: "conv(s * x, t * w, b) == (s * t) * conv(x, w) + b for integers x, w, one scale s, and scales t of filters",
  ops: ["conv"],
  rewrite: (g, node) => {
    const [x, w] = [scaledAt(g, operandOf(node, 0), wholeAt), scaledAt(g, operandOf(node, 1), wholeAt)];
    if (x === undefined || w === undefined) return undefined;
    const { whole, factor } = w;
    const perFilter = g.shape(ranked(g, factor, g.shape(whole)));
    if (!isOne(g.shape(x.factor)) || !isOne(perFilter.slice(1))) return undefined;
    // [M, 1, ..] of the result [batch, M, ..].
    const filters = (id: NodeId): NodeId =>
      g.emit("reshape", [id], { shape: [at(g.shape(id), 0, "extent"), ...node.type.shape.slice(2).map(() => 1)] });
    const one = g.emit("reshape", [x.factor], { shape: [] });
    const sums = g.emit("conv", [x.whole, whole], node.attrs);
    const scaled = g.emit("mul", [sums, g.emit("mul", [one, isOne(perFilter) ? factor : filters(factor)])]);
    const result = g.emit("cast", [scaled], { to: node.type.dtype });
    const bias = node.inputs[2];
    return bias === undefined ? result : g.emit("add", [result, filters(bias)]);
  },
};

export const QUANTIZED_RULES: readonly Rule[] = [product, weights, convolution];

export const quantized: GraphPass = {
  name: "quantized",
  doc: "Makes products of quantized numbers of their integers or FP8 weights, which are exact, and scales the sums.",
  run: (graph) => rewriteUnfolded(graph, QUANTIZED_RULES),
};
