/**
 * Import rules of reductions, of softmax and its like, and of what looks along one axis: argmax, top-k, cumulative sums.
 *
 * Axes are an attribute in older operator sets and an operand in newer ones; the rules take whichever is there.
 */

import type { NodeId } from "../../ir/graph.js";
import { isInteger } from "../../ir/tensor.js";
import {
  add,
  axesIn,
  axisIn,
  cast,
  concat,
  dtypeOf,
  expand,
  extent,
  flag,
  has,
  int,
  intsFrom,
  iota,
  list,
  mul,
  numberOf,
  op,
  operand,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalarLike,
  select,
  shapeOf,
  sliceAxis,
  sub,
  unsupported,
  wants,
} from "../rule.js";

type Reduce = (c: RuleContext, x: NodeId, axes: readonly number[], keepdims: boolean) => NodeId;

const square = (c: RuleContext, x: NodeId): NodeId => mul(c, x, x);
const sum: Reduce = (c, x, axes, keepdims) => reduce(c, "sum", x, axes, keepdims);

const REDUCTIONS: Readonly<Record<string, Reduce>> = {
  ReduceSum: sum,
  ReduceMean: (c, x, axes, keepdims) => reduce(c, "mean", x, axes, keepdims),
  ReduceMax: (c, x, axes, keepdims) => extreme(c, "max", x, axes, keepdims),
  ReduceMin: (c, x, axes, keepdims) => extreme(c, "min", x, axes, keepdims),
  ReduceProd: (c, x, axes, keepdims) => reduce(c, "prod", x, axes, keepdims),
  ReduceL1: (c, x, axes, keepdims) => sum(c, op(c, "abs", [x]), axes, keepdims),
  ReduceL2: (c, x, axes, keepdims) => op(c, "sqrt", [sum(c, square(c, x), axes, keepdims)]),
  ReduceSumSquare: (c, x, axes, keepdims) => sum(c, square(c, x), axes, keepdims),
  ReduceLogSum: (c, x, axes, keepdims) => op(c, "log", [sum(c, x, axes, keepdims)]),
  ReduceLogSumExp: (c, x, axes, keepdims) => {
    // exp of the differences from the maximum cannot overflow.
    const most = reduce(c, "max", x, axes, true);
    const total = op(c, "log", [sum(c, op(c, "exp", [sub(c, x, most)]), axes, true)]);
    const result = add(c, total, most);
    return keepdims
      ? result
      : reshape(
          c,
          result,
          shapeOf(c, result).filter((_, axis) => !axes.includes(axis)),
        );
  },
};

/** Truth values are compared as integers. */
function extreme(c: RuleContext, which: "max" | "min", x: NodeId, axes: readonly number[], keepdims: boolean): NodeId {
  if (dtypeOf(c, x) !== "bool") return reduce(c, which, x, axes, keepdims);
  return cast(c, reduce(c, which, cast(c, x, "i32"), axes, keepdims), "bool");
}

function reduction(c: RuleContext, apply: Reduce): NodeId {
  const x = operand(c, 0);
  const rank = rankOf(c, x);
  const given = intsFrom(c, 1, "axes");
  if ((given === undefined || given.length === 0) && flag(c, "noop_with_empty_axes")) return apply(c, x, [], true);
  const axes = given === undefined || given.length === 0 ? iota(rank) : axesIn(c, given, rank);
  return apply(c, x, axes, flag(c, "keepdims", true));
}

/** Before version 13 all axes from `axis` on count as one. */
const softmax = (c: RuleContext, operation: "softmax" | "log_softmax"): NodeId =>
  softmaxFrom(c, operand(c, 0), c.opset >= 13, operation);

/** Along the axis, or (before version 13) over all axes from it on. */
export function softmaxFrom(
  c: RuleContext,
  x: NodeId,
  modern: boolean,
  operation: "softmax" | "log_softmax" = "softmax",
): NodeId {
  const shape = shapeOf(c, x);
  const axis = axisIn(c, int(c, "axis", modern ? -1 : 1), Math.max(1, shape.length));
  if (shape.length === 0) return reshape(c, op(c, operation, [reshape(c, x, [1])], { axis: 0 }), []);
  if (modern || axis === shape.length - 1) return op(c, operation, [x], { axis });
  const inner = shape.slice(axis).reduce((product, own) => product * own, 1);
  return reshape(c, op(c, operation, [reshape(c, x, [...shape.slice(0, axis), inner])], { axis }), shape);
}

/** One along the axis where the first maximum is. */
function hardmax(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const rank = rankOf(c, x);
  const axis = axisIn(c, int(c, "axis", c.opset >= 13 ? -1 : 1), rank);
  if (c.opset < 13 && axis !== rank - 1) unsupported(c, "an axis other than the last is not supported before opset 13");
  const place = op(c, "argmax", [x], { axis, keepdims: true });
  const along = list(c, iota(extent(c, x, axis)));
  const shape = shapeOf(c, x).map((_, i) => (i === axis ? extent(c, x, axis) : 1));
  return cast(c, op(c, "eq", [place, reshape(c, along, shape)]), dtypeOf(c, x));
}

function argExtreme(c: RuleContext, least: boolean): NodeId {
  const x = operand(c, 0);
  const axis = axisIn(c, int(c, "axis", 0), rankOf(c, x));
  const attrs = { axis, keepdims: flag(c, "keepdims", true) };
  const keyed = least ? op(c, "neg", [isInteger(dtypeOf(c, x)) ? cast(c, x, "i32") : x]) : x;
  if (!flag(c, "select_last_index")) return op(c, "argmax", [keyed], attrs);
  const size = extent(c, x, axis);
  const place = op(c, "argmax", [sliceAxis(c, keyed, axis, size - 1, size, -1)], attrs);
  return sub(c, scalarLike(c, place, size - 1), place);
}

function cumsum(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const axis = axisIn(c, numberOf(c, operand(c, 1), "axis"), rankOf(c, x));
  return op(c, "cumsum", [x], { axis, exclusive: flag(c, "exclusive"), reverse: flag(c, "reverse") });
}

/** By doubling: each step multiplies products of n elements by those that end n elements before. */
function cumprod(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const axis = axisIn(c, numberOf(c, operand(c, 1), "axis"), rankOf(c, x));
  const size = extent(c, x, axis);
  const turned = (y: NodeId): NodeId => (flag(c, "reverse") ? sliceAxis(c, y, axis, size - 1, size, -1) : y);
  /** Elements `by` places later, after ones. */
  const later = (y: NodeId, by: number): NodeId => {
    const ones = expand(
      c,
      scalarLike(c, y, 1),
      shapeOf(c, y).map((own, i) => (i === axis ? by : own)),
    );
    return by === size ? ones : concat(c, [ones, sliceAxis(c, y, axis, 0, size - by)], axis);
  };
  const given = flag(c, "exclusive") ? later(turned(x), 1) : turned(x);
  const doublings = iota(Math.ceil(Math.log2(Math.max(1, size)))).map((step) => 2 ** step);
  return turned(doublings.reduce((products, by) => mul(c, products, later(products, by)), given));
}

const MOST_TAKEN = 64;

/** The k greatest (or least), one after another: take the extreme, then put it out of the running. */
function topK(c: RuleContext): readonly NodeId[] {
  const x = operand(c, 0);
  const dtype = dtypeOf(c, x);
  const axis = axisIn(c, int(c, "axis", -1), rankOf(c, x));
  const k = has(c, 1) ? numberOf(c, operand(c, 1), "K") : int(c, "k");
  if (k < 1 || k > MOST_TAKEN) unsupported(c, `k = ${k} is not supported`, `k may be from 1 to ${MOST_TAKEN}`);
  if (k > extent(c, x, axis)) reject(c, "LPU1012", `expected k of at most ${extent(c, x, axis)}, got ${k}`);
  if (isInteger(dtype) && dtype !== "i32")
    unsupported(c, `top-k of ${dtype} is not supported`, "cast the operand to int32 or float");
  const least = !flag(c, "largest", true);
  const places = reshape(
    c,
    list(c, iota(extent(c, x, axis))),
    shapeOf(c, x).map((own, i) => (i === axis ? own : 1)),
  );
  const out = scalarLike(c, x, isInteger(dtype) ? -(2 ** 31) : Number.NEGATIVE_INFINITY);
  let rest = least ? op(c, "neg", [x]) : x;
  const values: NodeId[] = [];
  const indices: NodeId[] = [];
  for (let taken = 0; taken < k; taken += 1) {
    const place = op(c, "argmax", [rest], { axis, keepdims: true });
    values.push(reduce(c, "max", rest, [axis], true));
    indices.push(place);
    if (taken < k - 1) rest = select(c, op(c, "eq", [place, places]), out, rest);
  }
  const sorted = concat(c, values, axis);
  return [least ? op(c, "neg", [sorted]) : sorted, ...(wants(c, 1) ? [concat(c, indices, axis)] : [])];
}

export const REDUCE: readonly Rule[] = [
  ...Object.entries(REDUCTIONS).map(([name, apply]) => ({
    op: name,
    doc: "A reduction over the given axes, or all.",
    ignores: {
      noop_with_empty_axes: "read where there are no axes",
      keepdims: "read where there are axes",
    },
    build: (c: RuleContext) => reduction(c, apply),
  })),
  {
    op: "Softmax",
    doc: "The operation softmax; before version 13 over all axes from the given one on.",
    build: (c) => softmax(c, "softmax"),
  },
  {
    op: "LogSoftmax",
    doc: "The operation log_softmax; before version 13 over all axes from the given one on.",
    build: (c) => softmax(c, "log_softmax"),
  },
  {
    op: "Hardmax",
    doc: "One at the first maximum, zero elsewhere.",
    refuses: "Before opset 13, an axis other than the last.",
    build: hardmax,
  },
  { op: "ArgMax", doc: "The operation argmax.", build: (c) => argExtreme(c, false) },
  { op: "ArgMin", doc: "The operation argmax of the negated operand.", build: (c) => argExtreme(c, true) },
  { op: "CumSum", doc: "The operation cumsum along a constant axis.", build: cumsum },
  { op: "CumProd", doc: "Products of twice as many elements in each step, along a constant axis.", build: cumprod },
  {
    op: "TopK",
    doc: "For k up to 64: maxima and their places, one after another.",
    refuses: "k beyond 64, and integers other than int32 and int64.",
    ignores: { sorted: "the results are always sorted" },
    build: topK,
  },
];
