/**
 * Gathers with constant indices, padding, triangles and running sums as views, joins, masks and lane maps.
 *
 * Indices that are an affine function of their place are slices; along an axis that repeats, an expand. Any others are cut
 * into runs. A gather of rows of a constant table by an input stays: the host looks it up at the edge of the program. So it is
 * brought to that: other axes go first, tables of other ranks become rows, and views of the input become views of what it chose.
 */

import { at } from "../../../diagnostics.js";
import { type Attrs, elementCount, type NodeId, type Shape } from "../../../ir/graph.js";
import { booleanAttr, intsAttr, numberAttr, stringAttr } from "../../../ir/ops/attributes.js";
import { isFloat, literalOf, stridesOf, tensorOf } from "../../../ir/tensor.js";
import { filledLiteral, laneMapLiteral, smallValues } from "../../../ir/literals.js";
import { areHostIndices, isHostView } from "../legal.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";
import { exchangeWithLast } from "../rules/views.js";
import { summed } from "./special.js";

/** More pieces than this are not worth a join. */
const MAX_RUNS = 256;

const unit = (count: number): number[] => new Array<number>(count).fill(1);

/** Slice of one axis, the others whole. */
export function sliceAxis(g: Rewriter, x: NodeId, axis: number, start: number, size: number, stride = 1): NodeId {
  const shape = g.shape(x);
  const along = (value: number, other: (extent: number) => number): number[] =>
    shape.map((extent, i) => (i === axis ? value : other(extent)));
  return g.emit("slice", [x], {
    starts: along(start, () => 0),
    sizes: along(size, (extent) => extent),
    strides: along(stride, () => 1),
  });
}

/** What indices choose along an axis, by `take`, which takes it of the operand with that axis in front. */
export function takenInFront(
  g: Rewriter,
  x: NodeId,
  ids: NodeId,
  axis: number,
  take: (moved: NodeId) => NodeId,
): NodeId {
  const others = g.shape(x).flatMap((_, i) => (i === axis ? [] : [i]));
  const taken = take(g.emit("transpose", [x], { perm: [axis, ...others] }));
  const chosen = g.shape(ids).map((_, i) => i);
  const rest = others.map((_, i) => chosen.length + i);
  return g.emit("transpose", [taken], { perm: [...rest.slice(0, axis), ...chosen, ...rest.slice(axis)] });
}

/** How an integer function of a place steps along each axis of a shape, if it does so evenly. */
function affineSteps(
  values: ArrayLike<number>,
  shape: Shape,
): { readonly start: number; readonly steps: readonly number[] } | undefined {
  const strides = stridesOf(shape);
  const start = at(values, 0, "value");
  const steps = shape.map((extent, axis) =>
    extent > 1 ? at(values, at(strides, axis, "stride"), "value") - start : 0,
  );
  for (let place = 0; place < values.length; place += 1) {
    let expected = start;
    for (const [axis, step] of steps.entries())
      expected += step * (Math.floor(place / at(strides, axis, "stride")) % at(shape, axis, "extent"));
    if (expected !== values[place]) return undefined;
  }
  return { start, steps };
}

/** Elements of one axis by a list of indices: one slice, or a join of runs that step evenly. */
function takeRuns(g: Rewriter, x: NodeId, axis: number, indices: ArrayLike<number>): NodeId | undefined {
  const parts: NodeId[] = [];
  for (let done = 0; done < indices.length; ) {
    const first = at(indices, done, "index");
    const step = done + 1 < indices.length ? at(indices, done + 1, "index") - first : 1;
    let count = 1;
    while (step !== 0 && done + count < indices.length && indices[done + count] === first + count * step) count += 1;
    parts.push(sliceAxis(g, x, axis, first, count, count === 1 ? 1 : step));
    if (parts.length > MAX_RUNS) return undefined;
    done += count;
  }
  return g.emit("concat", parts, { axis });
}

const wrapped = (value: number, extent: number): number => (value < 0 ? value + extent : value);

/** Small constant indices, counted from the start. */
function constantIndices(g: Rewriter, id: NodeId, extents: readonly number[]): Int32Array | undefined {
  const literal = g.literal(id);
  const tensor = literal === undefined ? undefined : smallValues(literal);
  return tensor === undefined
    ? undefined
    : Int32Array.from(tensor.data, (value, i) => wrapped(value, at(extents, i % extents.length, "extent")));
}

const gather: Rule = {
  name: "gather-constant-indices",
  law: "gather(x, constant) == slices of x, joined",
  ops: ["gather"],
  rewrite: (g, node) => {
    const [x, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const axis = numberAttr(node.attrs, "axis");
    const shape = g.shape(x);
    const indices = constantIndices(g, ids, [at(shape, axis, "extent")]);
    if (indices === undefined || indices.length === 0) return undefined;
    const own = g.shape(ids);
    const even = affineSteps(indices, own);
    const moving = even?.steps.flatMap((step, i) => (step === 0 ? [] : [i])) ?? [];
    const [only] = moving;
    if (even === undefined || moving.length > 1) {
      const taken = takeRuns(g, x, axis, indices);
      return taken === undefined ? undefined : g.emit("reshape", [taken], { shape: node.type.shape });
    }
    const sliced = sliceAxis(
      g,
      x,
      axis,
      even.start,
      only === undefined ? 1 : at(own, only, "extent"),
      only === undefined ? 1 : at(even.steps, only, "step"),
    );
    const places = own.map((extent, i) => (i === only ? extent : 1));
    const apart = g.emit("reshape", [sliced], {
      shape: [...shape.slice(0, axis), ...places, ...shape.slice(axis + 1)],
    });
    return g.emit("expand", [apart], { shape: node.type.shape });
  },
};

const gatherTable: Rule = {
  name: "gather-table-axis",
  law: "gather(table, ids, axis) == transpose(gather(transpose(table), ids, 0))",
  ops: ["gather"],
  rewrite: (g, node) => {
    const [table, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const axis = numberAttr(node.attrs, "axis");
    if (axis === 0 || g.literal(table) === undefined) return undefined;
    return takenInFront(g, table, ids, axis, (moved) => g.emit("gather", [moved, ids], { axis: 0 }));
  },
};

const gatherRows: Rule = {
  name: "gather-table-rows",
  law: "gather(table, ids, 0) == reshape(gather(reshape(table, [rows, numbers of a row]), ids, 0))",
  ops: ["gather"],
  rewrite: (g, node) => {
    const [table, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const [rows, ...rest] = g.shape(table);
    const isLookup = g.literal(table) !== undefined && areHostIndices(g, ids);
    if (!isLookup || rows === undefined || rest.length === 1 || numberAttr(node.attrs, "axis") !== 0) return undefined;
    const matrix = g.emit("reshape", [table], { shape: [rows, elementCount(rest)] });
    return g.emit("reshape", [g.emit("gather", [matrix, ids], { axis: 0 })], { shape: node.type.shape });
  },
};

const gatherView: Rule = {
  name: "gather-table-view",
  law: "gather(table, view(ids), 0) == view(gather(table, ids, 0)), where ids are an input",
  ops: ["gather"],
  rewrite: (g, node) => {
    const [table, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const isLookup = g.literal(table) !== undefined && isHostView(g, ids) && numberAttr(node.attrs, "axis") === 0;
    if (!isLookup || areHostIndices(g, ids)) return undefined;
    const { op, attrs, inputs } = g.node(ids);
    const rest = g.shape(table).slice(1);
    const seen = viewOfRows(op, attrs, g.shape(ids), rest);
    if (seen === undefined || g.through(ids, op) === undefined) return undefined;
    return g.emit(op, [g.emit("gather", [table, at(inputs, 0, "input")], { axis: 0 })], seen);
  },
};

/** Attributes of a view of numbers, for one of rows of shape `rest` in their places; undefined for what is no view. */
function viewOfRows(op: string, attrs: Attrs, shape: Shape, rest: Shape): Attrs | undefined {
  if (op === "reshape" || op === "expand") return { shape: [...shape, ...rest] };
  if (op === "transpose") return { perm: [...intsAttr(attrs, "perm"), ...rest.map((_, i) => shape.length + i)] };
  if (op !== "slice") return undefined;
  return {
    starts: [...intsAttr(attrs, "starts"), ...rest.map(() => 0)],
    sizes: [...intsAttr(attrs, "sizes"), ...rest],
    strides: [...intsAttr(attrs, "strides"), ...rest.map(() => 1)],
  };
}

const gatherNd: Rule = {
  name: "gather-nd-constant-indices",
  law: "gather_nd(x, constant) == expand(reshape(transpose(slice(x)))) where every index steps evenly along at most one axis",
  ops: ["gather_nd"],
  rewrite: (g, node) => {
    const [x, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const shape = g.shape(x);
    const own = g.shape(ids);
    const depth = at(own, own.length - 1, "extent");
    const places = own.slice(0, -1);
    const indices =
      numberAttr(node.attrs, "batchDims") === 0 ? constantIndices(g, ids, shape.slice(0, depth)) : undefined;
    if (indices === undefined || indices.length === 0) return undefined;
    const owner = places.map(() => -1);
    let sliced = x;
    for (let axis = 0; axis < depth; axis += 1) {
      const even = affineSteps(
        indices.filter((_, i) => i % depth === axis),
        places,
      );
      const moving = even?.steps.flatMap((step, i) => (step === 0 ? [] : [i])) ?? [];
      const [only] = moving;
      if (even === undefined || moving.length > 1 || (only !== undefined && owner[only] !== -1)) return undefined;
      if (only !== undefined) owner[only] = axis;
      sliced = sliceAxis(
        g,
        sliced,
        axis,
        even.start,
        only === undefined ? 1 : at(places, only, "place"),
        only === undefined ? 1 : at(even.steps, only, "step"),
      );
    }
    const moved = owner.filter((axis) => axis >= 0);
    const still = shape.map((_, axis) => axis).filter((axis) => !moved.includes(axis));
    const sorted = g.emit("transpose", [sliced], { perm: [...moved, ...still] });
    const apart = g.emit("reshape", [sorted], {
      shape: [...places.map((extent, i) => (owner[i] === -1 ? 1 : extent)), ...shape.slice(depth)],
    });
    return g.emit("expand", [apart], { shape: node.type.shape });
  },
};

const padding: Rule = {
  name: "pad-as-concat",
  law: "pad(x) == concat(before, x, after) axis by axis",
  ops: ["pad"],
  rewrite: (g, node) => {
    const [before, after, mode] = [
      intsAttr(node.attrs, "before"),
      intsAttr(node.attrs, "after"),
      stringAttr(node.attrs, "mode"),
    ];
    let x = operandOf(node, 0);
    for (const axis of node.type.shape.keys()) {
      const extent = at(g.shape(x), axis, "extent");
      const [low, high] = [at(before, axis, "pad"), at(after, axis, "pad")];
      const filled = (count: number): NodeId =>
        g.constant(
          filledLiteral(
            { dtype: node.type.dtype, shape: g.shape(x).map((own, i) => (i === axis ? count : own)) },
            numberAttr(node.attrs, "value"),
          ),
        );
      const edge = (count: number, at: number): NodeId[] =>
        Array.from({ length: count }, () => sliceAxis(g, x, axis, at, 1));
      const parts = (count: number, end: boolean): NodeId[] => {
        if (count === 0) return [];
        if (mode === "constant") return [filled(count)];
        if (mode === "edge") return edge(count, end ? extent - 1 : 0);
        return [sliceAxis(g, x, axis, end ? extent - 2 : count, count, -1)];
      };
      if (low + high > 0) x = g.emit("concat", [...parts(low, false), x, ...parts(high, true)], { axis });
    }
    return x;
  },
};

const triangle: Rule = {
  name: "triangle-as-mask",
  law: "trilu(x) == select(triangle of true, x, 0)",
  ops: ["trilu"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const square = node.type.shape.slice(-2);
    const ones = g.constant(literalOf(tensorOf("i32", square, unit(elementCount(square)))));
    const mask = g.emit("cast", [g.emit("trilu", [ones], node.attrs)], { to: "bool" });
    return g.emit("select", [mask, x, g.number(0, node.type.dtype)]);
  },
};

/** The longest axis along which one matmul makes running sums. */
const LONGEST_SUMS = 1024;
/** How long parts of a longer one are: as long as a vector has lanes. */
const PART = 320;

/** Running sums of parts of an axis, each with what the parts before it, or in reverse those behind it, sum up to. */
function runningParts(g: Rewriter, x: NodeId, attrs: Attrs): NodeId {
  const axis = numberAttr(attrs, "axis");
  const count = at(g.shape(x), axis, "extent");
  const starts = Array.from({ length: Math.ceil(count / PART) }, (_, i) => i * PART);
  const parts = starts.map((start) => sliceAxis(g, x, axis, start, Math.min(PART, count - start)));
  const ordered = booleanAttr(attrs, "reverse") ? [...parts].reverse() : parts;
  let total: NodeId | undefined;
  const made = new Map<NodeId, NodeId>();
  for (const part of ordered) {
    const sums = g.emit("cumsum", [part], attrs);
    made.set(part, total === undefined ? sums : g.emit("add", [sums, total]));
    const own = g.emit("reduce_sum", [part], { axes: [axis], keepdims: true });
    total = total === undefined ? own : g.emit("add", [total, own]);
  }
  return g.emit(
    "concat",
    parts.flatMap((part) => made.get(part) ?? []),
    { axis },
  );
}

const runningSum: Rule = {
  name: "cumsum-as-matmul",
  law: "cumsum(x) == matmul(x, triangle of ones); of a long axis part by part",
  ops: ["cumsum"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const axis = numberAttr(node.attrs, "axis");
    const [exclusive, reverse] = [booleanAttr(node.attrs, "exclusive"), booleanAttr(node.attrs, "reverse")];
    const { shape, dtype } = node.type;
    const count = at(shape, axis, "extent");
    if (count > LONGEST_SUMS) return runningParts(g, x, node.attrs);
    const last = shape.length - 1;
    const perm = exchangeWithLast(shape.length, axis);
    const places = Array.from({ length: count }, (_, i) => i);
    const counts = (from: number, to: number): boolean => (from === to ? !exclusive : reverse ? from > to : from < to);
    const entries = places.flatMap((from) =>
      places.filter((to) => counts(from, to)).map((to) => ({ from, to, sign: 1 })),
    );
    const moved = g.emit("transpose", [x], { perm });
    const rows = g.emit("reshape", [moved], { shape: last === 0 ? [1, count] : g.shape(moved) });
    const map = g.constant(laneMapLiteral(count, count, entries, dtype));
    const sum = (of: NodeId): NodeId => g.emit("matmul", [of, map]);
    const sums = isFloat(dtype) ? summed(g, rows, sum) : sum(rows);
    return g.emit("transpose", [g.emit("reshape", [sums], { shape: g.shape(moved) })], { perm });
  },
};

export const GATHER_RULES: readonly Rule[] = [
  gather,
  gatherTable,
  gatherView,
  gatherRows,
  gatherNd,
  padding,
  triangle,
  runningSum,
];
