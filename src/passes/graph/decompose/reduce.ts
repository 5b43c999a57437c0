/**
 * Reductions, softmax and normalizations as sums and maxima over the last axis, kept as an axis of extent 1.
 *
 * Other axes are brought to the end by a transpose and joined by a reshape. Softmax that feeds a matmul divides after it:
 * the quotient of a row is the same for all its products, and there are fewer of them.
 */

import { at } from "../../../diagnostics.js";
import { elementCount, type NodeId } from "../../../ir/graph.js";
import { booleanAttr, intsAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { VIEWS } from "../../../ir/ops.js";
import { broadcastShapes, equalShapes, isFloat } from "../../../ir/tensor.js";
import { sliceAxis } from "./gather.js";
import { contractByParts, EXACT_F16, EXACT_F32 } from "./integers.js";
import { filledLiteral } from "../../../ir/literals.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";
import { exchangeWithLast } from "../rules/views.js";

const LAST = { keepdims: true } as const;
const scaled = (g: Rewriter, x: NodeId, value: number): NodeId =>
  g.emit("mul", [x, g.number(Math.fround(value), g.type(x).dtype)]);

/** A longer axis is brought to the lanes, where its sums are products: a chain has as many ALUs. */
export const MOST_SLICES = 16;

/** Whether a reduction along `axes` takes the slices of one of them as they lie: an axis after it stays, and keeps its lanes. */
const isSliced = (g: Rewriter, x: NodeId, axes: readonly number[], axis: number): boolean => {
  const shape = g.shape(x);
  const extent = at(shape, axis, "extent");
  const staysBehind = shape.some((other, i) => i > axis && other > 1 && !axes.includes(i));
  return isFloat(g.type(x).dtype) && staysBehind && extent > 1 && extent <= MOST_SLICES;
};

const shortAxis: Rule = {
  name: "reduce-short-axis",
  law: "reduce(x, axes) == reduce(x[0] + x[1] + .., axes) along a short axis that is not the last",
  ops: ["reduce_sum", "reduce_max"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const axes = intsAttr(node.attrs, "axes");
    const short = axes.find((axis) => isSliced(g, x, axes, axis));
    if (short === undefined || elementCount(g.shape(x)) === 0) return undefined;
    // In pairs, so that as few roundings meet as there are halvings.
    let parts = Array.from({ length: at(g.shape(x), short, "extent") }, (_, i) => sliceAxis(g, x, short, i, 1));
    const op = node.op === "reduce_sum" ? "add" : "max";
    while (parts.length > 1)
      parts = parts.flatMap((part, i) => {
        const next = parts[i + 1];
        return i % 2 === 1 ? [] : [next === undefined ? part : g.emit(op, [part, next])];
      });
    const [whole = x] = parts;
    const others = axes.filter((axis) => axis !== short);
    const reduced = others.length === 0 ? whole : g.emit(node.op, [whole], { axes: others, keepdims: true });
    return g.emit("reshape", [reduced], { shape: node.type.shape });
  },
};

/** From this extent on a computed last axis is summed by itself: to join another to it would move its lanes. */
export const LONG_AXIS = 320;
/** The same of a shorter one that would become so long: what is joined is moved lane by lane. */
const LONG_JOIN = 2 * LONG_AXIS;

/** Whether a value lies as an operation gave it, but for a change of shape. */
const isComputed = (g: Rewriter, id: NodeId): boolean => {
  const node = g.node(id);
  if (node.op === "reshape") return isComputed(g, operandOf(node, 0));
  return node.op !== "input" && !VIEWS.includes(node.op);
};

const longAxis: Rule = {
  name: "reduce-long-axis",
  law: "reduce(x, axes) == reduce(reduce(x, last), the other axes) where x is computed and its axes are long",
  ops: ["reduce_sum", "reduce_max"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const shape = g.shape(x);
    const last = shape.length - 1;
    const axes = intsAttr(node.attrs, "axes");
    const others = axes.filter((axis) => axis !== last && shape[axis] !== 1);
    const joined = elementCount(axes.map((axis) => at(shape, axis, "extent")));
    const isGreat = at(shape, last, "extent") >= LONG_AXIS || joined >= LONG_JOIN;
    const isLong = isGreat && axes.includes(last) && at(shape, last, "extent") > 1 && others.length > 0;
    if (!isLong || !isFloat(node.type.dtype) || elementCount(shape) === 0 || !isComputed(g, x)) return undefined;
    const rows = g.emit(node.op, [x], { ...LAST, axes: [last] });
    return g.emit("reshape", [g.emit(node.op, [rows], { axes: others, keepdims: true })], { shape: node.type.shape });
  },
};

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
    if (elementCount(shape) === 0)
      return g.constant(filledLiteral(node.type, node.op === "reduce_sum" ? 0 : Number.NEGATIVE_INFINITY));
    if (given.length === 1 && given[0] === shape.length - 1 && booleanAttr(node.attrs, "keepdims")) return undefined;
    const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const sorted = g.emit("transpose", [x], { perm: [...kept, ...axes] });
    const extents = (list: readonly number[]): number[] => list.map((axis) => at(shape, axis, "extent"));
    const joined = g.emit("reshape", [sorted], { shape: [...extents(kept), elementCount(extents(axes))] });
    const reduced = g.emit(node.op, [joined], { ...LAST, axes: [kept.length] });
    return g.emit("reshape", [reduced], { shape: node.type.shape });
  },
};

const meanAsSum: Rule = {
  name: "mean-as-sum",
  law: "mean(x) == sum(x) * (1 / n), or sum(x) / n toward zero of integers",
  ops: ["reduce_mean"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const count = intsAttr(node.attrs, "axes").reduce((n, axis) => n * at(g.shape(x), axis, "extent"), 1);
    if (!isFloat(node.type.dtype))
      return g.emit("div", [g.emit("reduce_sum", [x], node.attrs), g.number(count, node.type.dtype)]);
    return scaled(g, g.emit("reduce_sum", [x], node.attrs), 1 / count);
  },
};

/** The most numbers that are exact in fp16 whose sum is in fp32. */
const MOST_SUMMED = EXACT_F32 / EXACT_F16;

const integerSum: Rule = {
  name: "integer-sum",
  law: "sum(x) == (sum(h) * 2048 + sum(m)) * 2048 + sum(l) for integers x == (h * 2048 + m) * 2048 + l, where each part is exact in fp16",
  ops: ["reduce_sum"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const { dtype } = node.type;
    const axes = intsAttr(node.attrs, "axes");
    const isLast = axes.length === 1 && axes[0] === g.shape(x).length - 1;
    if (isFloat(dtype) || !isLast || at(g.shape(x), g.shape(x).length - 1, "extent") > MOST_SUMMED) return undefined;
    return contractByParts(g, x, (part) => g.emit("reduce_sum", [part], node.attrs));
  },
};

const minAsMax: Rule = {
  name: "min-as-max",
  law: "min(x) == -max(-x)",
  ops: ["reduce_min"],
  rewrite: (g, node) => g.emit("neg", [g.emit("reduce_max", [g.emit("neg", [operandOf(node, 0)])], node.attrs)]),
};

/** Products by halves, so that as few roundings meet as there are halvings. */
const productByHalves: Rule = {
  name: "product-by-halves",
  law: "prod(x) == prod(first half of x * second half of x), times what is left of an odd number",
  ops: ["reduce_prod"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const shape = g.shape(x);
    const axes = intsAttr(node.attrs, "axes");
    const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const extents = (list: readonly number[]): number[] => list.map((axis) => at(shape, axis, "extent"));
    if (elementCount(shape) === 0) return g.constant(filledLiteral(node.type, 1));
    const sorted = g.emit("transpose", [x], { perm: [...axes, ...kept] });
    let rest = g.emit("reshape", [sorted], { shape: [elementCount(extents(axes)), ...extents(kept), 1] });
    const odd: NodeId[] = [];
    for (let count = at(g.shape(rest), 0, "extent"); count > 1; count = Math.floor(count / 2)) {
      const half = Math.floor(count / 2);
      if (count % 2 === 1) odd.push(sliceAxis(g, rest, 0, count - 1, 1));
      rest = g.emit("mul", [sliceAxis(g, rest, 0, 0, half), sliceAxis(g, rest, 0, half, half)]);
    }
    const product = odd.reduce((all, one) => g.emit("mul", [all, one]), rest);
    return g.emit("reshape", [product], { shape: node.type.shape });
  },
};

const softmax: Rule = {
  name: "softmax",
  law: "softmax(x) == e / sum(e), log_softmax(x) == x - max(x) - log(sum(e)), where e = exp(x - max(x))",
  ops: ["softmax", "log_softmax"],
  rewrite: (g, node) => {
    const given = operandOf(node, 0);
    const { shape } = node.type;
    const axis = numberAttr(node.attrs, "axis");
    // A long axis is brought to the end, where its sums are products.
    const stays = axis === shape.length - 1 || isSliced(g, given, [axis], axis);
    const perm = exchangeWithLast(shape.length, axis);
    const x = stays ? given : g.emit("transpose", [given], { perm });
    const reduced = (op: "reduce_sum" | "reduce_max", y: NodeId): NodeId =>
      g.emit(op, [y], { axes: [stays ? axis : shape.length - 1], keepdims: true });
    const shifted = g.emit("sub", [x, reduced("reduce_max", x)]);
    const e = g.emit("exp", [shifted]);
    const sum = reduced("reduce_sum", e);
    const result = node.op === "softmax" ? g.emit("div", [e, sum]) : g.emit("sub", [shifted, g.emit("log", [sum])]);
    return stays ? result : g.emit("transpose", [result], { perm });
  },
};

/** e / s, where e is e^x and s is one number a row, or that where s is positive and else 0. */
interface RowQuotient {
  readonly e: NodeId;
  readonly s: NodeId;
  readonly guarded: boolean;
}

const rowQuotient = (g: Rewriter, id: NodeId): RowQuotient | undefined => {
  const node = g.node(id);
  if (node.op === "select") {
    const [condition, a, b] = [operandOf(node, 0), operandOf(node, 1), operandOf(node, 2)];
    const inner = g.uniform(b) === 0 ? rowQuotient(g, a) : undefined;
    const isPositive = g.node(condition);
    const guards = inner !== undefined && isPositive.op === "lt" && operandOf(isPositive, 1) === inner.s;
    return guards && g.uniform(operandOf(isPositive, 0)) === 0 ? { ...inner, guarded: true } : undefined;
  }
  if (node.op !== "div") return undefined;
  const [e, s] = [operandOf(node, 0), operandOf(node, 1)];
  const row = g.shape(s);
  const isRow = g.node(e).op === "exp" && row[row.length - 1] === 1 && row.length <= g.shape(e).length;
  return isRow ? { e, s, guarded: false } : undefined;
};

const zeroLike = (g: Rewriter, x: NodeId): NodeId => g.number(0, g.type(x).dtype);
/** The quotient of a row, or zero for a row that has no sum. */
const whereSummed = (g: Rewriter, quotient: NodeId, s: NodeId): NodeId =>
  g.emit("select", [g.emit("lt", [zeroLike(g, s), s]), quotient, zeroLike(g, quotient)]);

const divideAfter: Rule = {
  name: "divide-after-matmul",
  law: "matmul(exp(x) / s, v) == matmul(exp(x), v) / s where s has one element a row, also where rows are regrouped between",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const a = operandOf(node, 0);
    const inner = g.node(a).op === "reshape" ? operandOf(g.node(a), 0) : a;
    const quotient = rowQuotient(g, inner);
    if (quotient === undefined) return undefined;
    const { guarded } = quotient;
    const [rows, shape] = [g.shape(inner).slice(0, -1), g.shape(a)];
    const isRegrouped = inner !== a;
    if (isRegrouped && (shape.at(-1) !== g.shape(inner).at(-1) || !equalShapes(g.shape(quotient.s).slice(0, -1), rows)))
      return undefined;
    const regrouped = (x: NodeId): NodeId =>
      isRegrouped ? g.emit("reshape", [x], { shape: [...shape.slice(0, -1), ...g.shape(x).slice(-1)] }) : x;
    const [e, s] = [regrouped(quotient.e), regrouped(quotient.s)];
    if (!equalShapes(broadcastShapes([node.type.shape, g.shape(s)], "div"), node.type.shape)) return undefined;
    if (isRegrouped) g.through(a, "reshape");
    g.through(inner, guarded ? "select" : "div");
    const divided = g.emit("div", [g.emit("matmul", [e, operandOf(node, 1)]), s]);
    return guarded ? whereSummed(g, divided, s) : divided;
  },
};

const nanGuard: Rule = {
  name: "nan-guard",
  law: "select(p == p, p, 0) == select(0 < s, p, 0) for p = exp(x) / s: a row is no number only if its sum is not positive",
  ops: ["select"],
  rewrite: (g, node) => {
    const [condition, a, b] = [operandOf(node, 0), operandOf(node, 1), operandOf(node, 2)];
    const negated = g.node(condition).op === "not";
    const [p, other] = negated ? [b, a] : [a, b];
    const equal = g.node(negated ? operandOf(g.node(condition), 0) : condition);
    if (equal.op !== "eq" || equal.inputs[0] !== p || equal.inputs[1] !== p || g.uniform(other) !== 0) return undefined;
    const quotient = rowQuotient(g, p);
    if (quotient === undefined || quotient.guarded || !equalShapes(g.shape(p), node.type.shape)) return undefined;
    g.through(condition, g.node(condition).op);
    return whereSummed(g, p, quotient.s);
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

export const REDUCE_RULES: readonly Rule[] = [
  shortAxis,
  longAxis,
  lastAxisOnly,
  meanAsSum,
  integerSum,
  minAsMax,
  productByHalves,
  softmax,
  divideAfter,
  nanGuard,
  norms,
];
