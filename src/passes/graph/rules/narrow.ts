/**
 * Rules for tensors of many rows whose last axis is short: as they are, a row fills a few of its 320 lanes.
 *
 * Where all operands are the host's to lay out, or are regrouped anyway, trailing axes are joined to one, so that rows are
 * long and few; the reshape back sinks to the readers, where it meets its inverse or an output, which the host regroups.
 */

import { at } from "../../../diagnostics.js";
import { elementCount, type NodeId, type Shape } from "../../../ir/graph.js";
import { intsAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { equalShapes } from "../../../ir/tensor.js";
import { isHostView } from "../legal.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { ELEMENTWISE_OPS, operandOf } from "./arithmetic.js";

/** A row of fewer elements than this fills less than a superlane. */
const SHORT = 16;
/** Fewer rows than this are not worth another shape. */
const MANY_ROWS = 256;

const aligned = (shape: Shape, rank: number): Shape => [...new Array<number>(rank - shape.length).fill(1), ...shape];

/** By ONNX's convention the first axes are the batch and the channels. */
const SPATIAL = 2;

const withoutUnits = (shape: Shape): Shape => shape.filter((extent) => extent !== 1);
/** Tensors that matmuls and norms read have at most four axes, and want them as they are. */
const MANY_AXES = 5;

const hasShortRows = (shape: Shape): boolean => {
  const last = shape[shape.length - 1] ?? SHORT;
  return last < SHORT && elementCount(shape) >= last * MANY_ROWS;
};
const isNarrow = (shape: Shape): boolean => {
  return hasShortRows(shape) && withoutUnits(shape).length >= MANY_AXES;
};

/** The last place that `holds`, or -1. */
const lastPlace = (length: number, holds: (place: number) => boolean): number => {
  let place = length - 1;
  while (place >= 0 && !holds(place)) place -= 1;
  return place;
};

/** The least number of leading axes that stay when the others are joined: along those every operand is whole, or the same. */
function leastKept(result: Shape, operands: readonly Shape[]): number {
  const last = result.length - 1;
  const joins = (shape: Shape, axis: number): boolean => (shape[axis] === 1) === (shape[last] === 1);
  const splits = (axis: number): boolean => result[axis] !== 1 && !operands.every((shape) => joins(shape, axis));
  return 1 + lastPlace(result.length, splits);
}

const joined = (shape: Shape, kept: number): Shape => [...shape.slice(0, kept), elementCount(shape.slice(kept))];

/**
 * The node as `to`, which joins its axes from `kept` on. A slice of earlier axes is one of the joined tensor, so that slices
 * of an input read one copy of it.
 */
function joinTrailing(g: Rewriter, id: NodeId, kept: number, to: Shape): NodeId {
  const node = g.node(id);
  const reshaped = (): NodeId => g.emit("reshape", [id], { shape: to });
  if (node.op !== "slice" || kept < 0 || to.length !== kept + 1) return reshaped();
  const whole = operandOf(node, 0);
  const [starts, sizes] = [intsAttr(node.attrs, "starts"), intsAttr(node.attrs, "sizes")];
  const isWhole = (axis: number): boolean =>
    axis < kept || (starts[axis] === 0 && sizes[axis] === g.shape(whole)[axis]);
  if (!sizes.every((_, axis) => isWhole(axis))) return reshaped();
  const base = joinTrailing(g, whole, kept, joined(g.shape(whole), kept));
  const along = (list: readonly number[], last: number): number[] => [...list.slice(0, kept), last];
  return g.emit("slice", [base], {
    starts: along(starts, 0),
    sizes: along(sizes, at(to, kept, "extent")),
    strides: along(intsAttr(node.attrs, "strides"), 1),
  });
}

const joinAxes: Rule = {
  name: "join-short-axes",
  law: "op(x, y, c) == reshape(op(reshape(x), reshape(y), reshape(c))) where trailing axes join to one in each operand",
  ops: ELEMENTWISE_OPS,
  rewrite: (g, node) => {
    const { shape } = node.type;
    if (!isNarrow(shape)) return undefined;
    const rank = shape.length;
    const whole = (id: NodeId, kept: number): Shape => joined(aligned(g.shape(id), rank), kept);
    const isLaidOut = (id: NodeId): boolean => g.literal(id) !== undefined || isHostView(g, id);
    const join = (id: NodeId, kept: number): NodeId =>
      g.shape(id).length === 0 ? id : joinTrailing(g, id, kept - rank + g.shape(id).length, whole(id, kept));
    const isJoined = (id: NodeId, kept: number): boolean => {
      const base = g.node(id);
      return (
        base.op === "reshape" && equalShapes(withoutUnits(g.shape(operandOf(base, 0))), withoutUnits(whole(id, kept)))
      );
    };
    // What is computed in another shape would have to move; what is one number a row only loses axes.
    const isFree = (id: NodeId, kept: number): boolean =>
      isLaidOut(id) || whole(id, kept)[kept] === 1 || isJoined(id, kept);
    const least = leastKept(
      shape,
      node.inputs.map((id) => aligned(g.shape(id), rank)),
    );
    const free = Array.from({ length: rank - 1 }, (_, i) => rank - 2 - i).filter(
      (kept) =>
        kept >= least &&
        at(joined(shape, kept), kept, "extent") >= SHORT &&
        node.inputs.every((id) => isFree(id, kept)),
    );
    // As an operand has been joined before; the host's own tensors by their spatial axes, which others of the graph share.
    const kept =
      free.find((own) => node.inputs.some((id) => !isLaidOut(id) && isJoined(id, own))) ??
      free.filter((own) => own >= SPATIAL).pop();
    if (kept === undefined) return undefined;
    const inner = g.emit(
      node.op,
      node.inputs.map((id) => join(id, kept)),
      node.attrs,
    );
    return g.emit("reshape", [inner], { shape });
  },
};

/** For each axis of `from` the axes of `to` that it is split into, or undefined if one of `to` spans two. */
function splits(from: Shape, to: Shape): readonly (readonly number[])[] | undefined {
  const groups: number[][] = [];
  let next = 0;
  for (const extent of from) {
    const group: number[] = [];
    let left = extent;
    while (left > 1 || (next < to.length && to[next] === 1)) {
      const own = to[next];
      if (own === undefined || left % own !== 0) return undefined;
      left /= own;
      group.push(next);
      next += 1;
    }
    groups.push(group);
  }
  return next === to.length ? groups : undefined;
}

const reduceReshaped: Rule = {
  name: "reduce-split-axes",
  law: "reduce(reshape(x), axes) == reshape(reduce(x, axes')) where axes of x are split, and each is reduced whole or not at all",
  ops: ["reduce_sum", "reduce_max"],
  rewrite: (g, node) => {
    const inner = g.node(operandOf(node, 0));
    if (inner.op !== "reshape" || !isNarrow(inner.type.shape)) return undefined;
    const x = operandOf(inner, 0);
    const axes = intsAttr(node.attrs, "axes");
    const groups = splits(g.shape(x), inner.type.shape);
    if (groups === undefined) return undefined;
    const long = groups.map((group) => group.filter((axis) => inner.type.shape[axis] !== 1));
    if (long.some((group) => group.some((axis) => axes.includes(axis)) && !group.every((axis) => axes.includes(axis))))
      return undefined;
    const own = long.flatMap((group, axis) => (group.some((i) => axes.includes(i)) ? [axis] : []));
    if (own.length === 0) return undefined;
    g.through(inner.id, "reshape");
    const reduced = g.emit(node.op, [x], { axes: own, keepdims: true });
    return g.emit("reshape", [reduced], { shape: node.type.shape });
  },
};

const softmaxTransposed: Rule = {
  name: "softmax-short-axis",
  law: "softmax(transpose(x, p), axis) == transpose(softmax(x, p[axis]), p) where the axis is short",
  ops: ["softmax", "log_softmax"],
  rewrite: (g, node) => {
    const inner = g.node(operandOf(node, 0));
    const axis = numberAttr(node.attrs, "axis");
    if (inner.op !== "transpose" || !hasShortRows(node.type.shape) || axis !== node.type.shape.length - 1)
      return undefined;
    const perm = intsAttr(inner.attrs, "perm");
    const own = at(perm, axis, "axis");
    if (own === axis) return undefined;
    g.through(inner.id, "transpose");
    const result = g.emit(node.op, inner.inputs, { axis: own });
    return g.emit("transpose", [result], { perm });
  },
};

export const NARROW_RULES: readonly Rule[] = [joinAxes, reduceReshaped, softmaxTransposed];
