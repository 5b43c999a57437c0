/**
 * Reductions, softmax and normalizations as sums and maxima over the last axis, kept as an axis of extent 1.
 *
 * Other axes are brought to the end by a transpose and joined by a reshape. Softmax that feeds a matmul divides after it:
 * the quotient of a row is the same for all its products, and there are fewer of them.
 */

import { elementCount, type NodeId, type Shape } from "../ir/graph.js";
import { booleanAttr, intsAttr, numberAttr } from "../ir/ops/attributes.js";
import { broadcastShapes, equalShapes, isFloat } from "../ir/tensor.js";
import type { Rewriter, Rule } from "./rewriter.js";
import { operandOf } from "./rules-arithmetic.js";

const LAST = { keepdims: true } as const;
export const reduceLast = (g: Rewriter, op: "reduce_sum" | "reduce_max", x: NodeId): NodeId =>
  g.emit(op, [x], { ...LAST, axes: [g.shape(x).length - 1] });
const scaled = (g: Rewriter, x: NodeId, value: number): NodeId =>
  g.emit("mul", [x, g.number(Math.fround(value), g.type(x).dtype)]);

const lastAxisOnly: Rule = {
  name: "reduce-last-axis",
  law: "reduce(x, axes) == reshape(reduce(reshape(transpose(x)), last))",
  ops: ["reduce_sum", "reduce_max"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const shape = g.shape(x);
    const given = intsAttr(node.attrs, "axes");
    const axes = given.filter((axis) => shape[axis] !== 1);
    if (axes.length === 0) return g.emit("reshape", [x], { shape: node.type.shape });
    if (given.length === 1 && given[0] === shape.length - 1 && booleanAttr(node.attrs, "keepdims")) return undefined;
    if (elementCount(shape) === 0) return undefined;
    const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const sorted = g.emit("transpose", [x], { perm: [...kept, ...axes] });
    const extents = (list: readonly number[]): number[] => list.map((axis) => shape[axis] ?? 1);
    const joined = g.emit("reshape", [sorted], { shape: [...extents(kept), elementCount(extents(axes))] });
    const reduced = g.emit(node.op, [joined], { ...LAST, axes: [kept.length] });
    return g.emit("reshape", [reduced], { shape: node.type.shape });
  },
};

const meanAsSum: Rule = {
  name: "mean-as-sum",
  law: "mean(x) == sum(x) * (1 / n)",
  ops: ["reduce_mean"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    if (!isFloat(node.type.dtype)) return undefined;
    const count = intsAttr(node.attrs, "axes").reduce((n, axis) => n * (g.shape(x)[axis] ?? 1), 1);
    return scaled(g, g.emit("reduce_sum", [x], node.attrs), 1 / count);
  },
};

const minAsMax: Rule = {
  name: "min-as-max",
  law: "min(x) == -max(-x)",
  ops: ["reduce_min"],
  rewrite: (g, node) => g.emit("neg", [g.emit("reduce_max", [g.emit("neg", [operandOf(node, 0)])], node.attrs)]),
};

/** Exchanges an axis with the last one. */
const exchange = (shape: Shape, axis: number): number[] =>
  shape.map((_, i) => (i === axis ? shape.length - 1 : i === shape.length - 1 ? axis : i));

/** Applies `make` with an axis brought to the end. */
function onLastAxis(g: Rewriter, x: NodeId, axis: number, make: (x: NodeId) => NodeId): NodeId {
  if (axis === g.shape(x).length - 1) return make(x);
  const perm = exchange(g.shape(x), axis);
  return g.emit("transpose", [make(g.emit("transpose", [x], { perm }))], { perm });
}

const softmax: Rule = {
  name: "softmax",
  law: "softmax(x) == e / sum(e), log_softmax(x) == x - max(x) - log(sum(e)), where e = exp(x - max(x))",
  ops: ["softmax", "log_softmax"],
  rewrite: (g, node) =>
    onLastAxis(g, operandOf(node, 0), numberAttr(node.attrs, "axis"), (x) => {
      const shifted = g.emit("sub", [x, reduceLast(g, "reduce_max", x)]);
      const e = g.emit("exp", [shifted]);
      const sum = reduceLast(g, "reduce_sum", e);
      return node.op === "softmax" ? g.emit("div", [e, sum]) : g.emit("sub", [shifted, g.emit("log", [sum])]);
    }),
};

const divideAfter: Rule = {
  name: "divide-after-matmul",
  law: "matmul(exp(x) / s, v) == matmul(exp(x), v) / s where s has one element a row",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const quotient = g.node(operandOf(node, 0));
    if (quotient.op !== "div") return undefined;
    const [e, s] = [operandOf(quotient, 0), operandOf(quotient, 1)];
    const row = g.shape(s);
    if (g.node(e).op !== "exp" || row[row.length - 1] !== 1 || row.length > g.shape(e).length) return undefined;
    if (!equalShapes(broadcastShapes([node.type.shape, row], "div"), node.type.shape)) return undefined;
    g.through(quotient.id, "div");
    return g.emit("div", [g.emit("matmul", [e, operandOf(node, 1)]), s]);
  },
};

const norms: Rule = {
  name: "norms",
  law: "layer_norm(x) == d * rsqrt(mean(d * d) + epsilon) * scale + bias with d = x - mean(x); rms_norm(x) has d = x and no bias",
  ops: ["layer_norm", "rms_norm"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const { shape } = node.type;
    const axes = shape.map((_, axis) => axis).slice(numberAttr(node.attrs, "axis"));
    const mean = (y: NodeId): NodeId => g.emit("reduce_mean", [y], { axes, keepdims: true });
    const d = node.op === "layer_norm" ? g.emit("sub", [x, mean(x)]) : x;
    const epsilon = g.number(Math.fround(numberAttr(node.attrs, "epsilon")), node.type.dtype);
    const factor = g.emit("rsqrt", [g.emit("add", [mean(g.emit("mul", [d, d])), epsilon])]);
    const scaledX = g.emit("mul", [g.emit("mul", [d, factor]), operandOf(node, 1)]);
    return node.op === "layer_norm" ? g.emit("add", [scaledX, operandOf(node, 2)]) : scaledX;
  },
};

export const REDUCE_RULES: readonly Rule[] = [lastAxisOnly, meanAsSum, minAsMax, softmax, divideAfter, norms];
