/**
 * Import rules of operators about shapes and places: what they need to know (shapes, axes, bounds) must be constant by the
 * time they are reached, and mostly is, because shape arithmetic folds as it is imported.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type NodeId } from "../../ir/graph.js";
import { broadcastShapes, formatShape } from "../../ir/tensor.js";
import {
  axesIn,
  axisIn,
  cast,
  concat,
  count,
  dtypeOf,
  expand,
  extent,
  flag,
  floats,
  has,
  hasAttribute,
  int,
  long,
  longs,
  ints,
  intsFrom,
  iota,
  list,
  numberOf,
  numbersOf,
  op,
  operand,
  optional,
  optionalFloat,
  optionalInt,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  select,
  shapeOf,
  sparseAttribute,
  sliceAxis,
  subgraph,
  tensorAttribute,
  text,
  transpose,
  unsupported,
  type Wide,
} from "../rule.js";
import type { Int64, TensorProto } from "../schema.js";
import { gatherAt } from "./gather.js";
import { elementType } from "../tensors.js";
import { clamps, either, moves } from "../wide.js";

/** 0 copies the operand's extent (unless allowzero), -1 is what is left. */
function reshapeRule(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const own = shapeOf(c, x);
  const target = (has(c, 1) ? numbersOf(c, operand(c, 1), "shape") : ints(c, "shape")).map((size, axis) =>
    size === 0 && !flag(c, "allowzero")
      ? (own[axis] ?? reject(c, "LPU1012", `expected an axis ${axis} to copy, got ${formatShape(own)}`))
      : size,
  );
  const known = target.filter((size) => size !== -1).reduce((product, size) => product * size, 1);
  const rest = known === 0 ? 0 : elementCount(own) / known;
  const shape = target.map((size) => (size === -1 ? rest : size));
  if (elementCount(shape) !== elementCount(own) || shape.some((size) => !Number.isInteger(size) || size < 0)) {
    reject(
      c,
      "LPU1012",
      `expected a shape of ${elementCount(own)} elements for ${formatShape(own)}, got ${formatShape(target)}`,
    );
  }
  return reshape(c, x, shape);
}

function flatten(c: RuleContext): NodeId {
  const shape = shapeOf(c, operand(c, 0));
  const given = int(c, "axis", 1);
  const axis = given === shape.length ? given : axisIn(c, given, shape.length);
  return reshape(c, operand(c, 0), [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis))]);
}

function squeeze(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const shape = shapeOf(c, x);
  const given = intsFrom(c, 1, "axes");
  const axes =
    given === undefined ? iota(shape.length).filter((axis) => shape[axis] === 1) : axesIn(c, given, shape.length);
  if (axes.some((axis) => shape[axis] !== 1))
    reject(c, "LPU1012", `expected extents of 1 at axes ${formatShape(axes)}, got ${formatShape(shape)}`);
  return reshape(
    c,
    x,
    shape.filter((_, axis) => !axes.includes(axis)),
  );
}

function unsqueeze(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const given = intsFrom(c, 1, "axes") ?? [];
  const axes = axesIn(c, given, rankOf(c, x) + given.length);
  const shape = [...shapeOf(c, x)];
  for (const axis of axes) shape.splice(axis, 0, 1);
  return reshape(c, x, shape);
}

function split(c: RuleContext): readonly NodeId[] {
  const x = operand(c, 0);
  const axis = axisIn(c, int(c, "axis", 0), rankOf(c, x));
  const total = extent(c, x, axis);
  const parts = c.results.length;
  const even = Math.ceil(total / parts);
  const sizes = intsFrom(c, 1, "split") ?? iota(parts).map((part) => Math.max(0, Math.min(even, total - part * even)));
  if (sizes.reduce((sum, size) => sum + size, 0) !== total)
    reject(c, "LPU1012", `expected parts that add up to ${total}, got ${formatShape(sizes)}`);
  let start = 0;
  return sizes.map((size) => {
    const part = sliceAxis(c, x, axis, start, size);
    start += size;
    return part;
  });
}

function slice(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const shape = shapeOf(c, x);
  const starts = intsFrom(c, 1, "starts") ?? [];
  const ends = intsFrom(c, 2, "ends") ?? [];
  const axes = (intsFrom(c, 3, "axes") ?? iota(starts.length)).map((axis) => axisIn(c, axis, shape.length));
  const steps = has(c, 4) ? numbersOf(c, operand(c, 4), "steps") : starts.map(() => 1);
  for (const [name, given] of Object.entries({ ends, axes, steps }))
    if (given.length !== starts.length)
      reject(c, "LPU1012", `expected as many ${name} as starts, which are ${starts.length}, got ${given.length}`);
  if (new Set(axes).size !== axes.length) reject(c, "LPU1008", `expected axes that differ, got ${formatShape(axes)}`);
  const attrs = { starts: shape.map(() => 0), sizes: [...shape], strides: shape.map(() => 1) };
  axes.forEach((axis, i) => {
    const [size, step] = [at(shape, axis, "extent"), at(steps, i, "step")];
    if (step === 0) reject(c, "LPU1008", "expected steps other than 0");
    const [least, most] = step > 0 ? [0, size] : [-1, size - 1];
    const bound = (value: number): number => Math.min(Math.max(value < 0 ? value + size : value, least), most);
    // Of steps backwards only the end lies before the first element.
    const start = Math.max(bound(at(starts, i, "start")), Math.min(0, most));
    const length = Math.max(0, Math.ceil((bound(at(ends, i, "end")) - start) / step));
    attrs.starts[axis] = length === 0 ? 0 : start;
    attrs.sizes[axis] = length;
    attrs.strides[axis] = step;
  });
  return op(c, "slice", [x], attrs);
}

function expandRule(c: RuleContext): NodeId {
  const x = operand(c, 0);
  return expand(c, x, broadcastShapes([shapeOf(c, x), numbersOf(c, operand(c, 1), "shape")], "operand and shape"));
}

/** Each axis is given an axis of repeats before it, which is expanded. */
function tile(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const shape = shapeOf(c, x);
  const repeats = numbersOf(c, operand(c, 1), "repeats");
  if (repeats.length !== shape.length) reject(c, "LPU1012", `expected ${shape.length} repeats, got ${repeats.length}`);
  const apart = reshape(
    c,
    x,
    shape.flatMap((own) => [1, own]),
  );
  const repeated = expand(
    c,
    apart,
    shape.flatMap((own, axis) => [at(repeats, axis, "repeat"), own]),
  );
  return reshape(
    c,
    repeated,
    shape.map((own, axis) => own * at(repeats, axis, "repeat")),
  );
}

function shapeRule(c: RuleContext): NodeId {
  const shape = shapeOf(c, operand(c, 0));
  return list(c, shape.slice(int(c, "start", 0), optionalInt(c, "end")));
}

function range(c: RuleContext): NodeId {
  const start = operand(c, 0);
  const number = (index: number, what: string): number => numberOf(c, operand(c, index), what);
  const [from, to, step] = [number(0, "start"), number(1, "limit"), number(2, "delta")];
  const length = Math.max(0, Math.ceil((to - from) / step));
  return c.graph.numbers(
    dtypeOf(c, start),
    [length],
    iota(length).map((i) => from + i * step),
  );
}

/** A tensor of int64, as an attribute that is a list of them gives it. */
const int64Proto = (dims: readonly number[], int64Data: readonly Int64[]): TensorProto => ({
  dims,
  dataType: 7,
  floatData: [],
  int32Data: [],
  stringData: [],
  int64Data,
  name: "",
  rawData: new Uint8Array(0),
  doubleData: [],
  uint64Data: [],
  externalData: [],
  dataLocation: 0,
});

function constant(c: RuleContext): NodeId | Wide {
  if (hasAttribute(c, "value")) return c.constant(tensorAttribute(c, "value"));
  if (hasAttribute(c, "sparse_value")) return c.graph.tensor(c.dense(sparseAttribute(c, "sparse_value")));
  const number = optionalFloat(c, "value_float");
  if (number !== undefined) return scalar(c, "f32", number);
  if (hasAttribute(c, "value_int")) return c.constant(int64Proto([], [long(c, "value_int")]));
  if (hasAttribute(c, "value_ints")) {
    const values = longs(c, "value_ints");
    return c.constant(int64Proto([values.length], values));
  }
  if (hasAttribute(c, "value_floats"))
    return c.graph.numbers("f32", [floats(c, "value_floats").length], floats(c, "value_floats"));
  return unsupported(c, "a constant of strings is not supported", "only tensors and lists of numbers");
}

const PAD_MODES: readonly string[] = ["constant", "reflect", "edge", "wrap"];

/** Pads come as an attribute, then an operand; from version 18 for the given axes only. Negative pads cut. */
function pad(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const shape = shapeOf(c, x);
  const mode = text(c, "mode", "constant");
  if (!PAD_MODES.includes(mode))
    return unsupported(c, `mode '${mode}' is not supported`, `supported are ${PAD_MODES.join(", ")}`);
  const given = intsFrom(c, 1, "pads") ?? ints(c, "paddings");
  const axes = (has(c, 3) ? numbersOf(c, operand(c, 3), "axes") : iota(shape.length)).map((axis) =>
    axisIn(c, axis, shape.length),
  );
  if (given.length !== 2 * axes.length) reject(c, "LPU1012", `expected ${2 * axes.length} pads, got ${given.length}`);
  const before = shape.map(() => 0);
  const after = shape.map(() => 0);
  axes.forEach((axis, i) => {
    before[axis] = at(given, i, "pad");
    after[axis] = at(given, i + axes.length, "pad");
  });
  const cut = op(c, "slice", [x], {
    starts: before.map((amount) => Math.max(0, -amount)),
    sizes: shape.map((own, axis) => own + Math.min(0, at(before, axis, "pad")) + Math.min(0, at(after, axis, "pad"))),
    strides: shape.map(() => 1),
  });
  const grow = (amounts: readonly number[]): number[] => amounts.map((amount) => Math.max(0, amount));
  if (mode === "wrap") return wrapAround(c, cut, grow(before), grow(after));
  const filler = optional(c, 2);
  const value = filler === undefined ? (optionalFloat(c, "value") ?? 0) : numberOf(c, filler, "constant_value");
  if (dtypeOf(c, x) !== "bool") return op(c, "pad", [cut], { before: grow(before), after: grow(after), value, mode });
  return cast(
    c,
    op(c, "pad", [cast(c, cut, "i32")], { before: grow(before), after: grow(after), value, mode }),
    "bool",
  );
}

/** Each axis goes on from its other end. */
function wrapAround(c: RuleContext, x: NodeId, before: readonly number[], after: readonly number[]): NodeId {
  return before.reduce((y, low, axis) => {
    const own = extent(c, y, axis);
    const places = iota(low + own + at(after, axis, "pad")).map((place) => (((place - low) % own) + own) % own);
    return low + at(after, axis, "pad") === 0 ? y : gatherAt(c, y, axis, places, [places.length]);
  }, x);
}

function trilu(c: RuleContext): NodeId {
  const k = has(c, 1) ? numberOf(c, operand(c, 1), "k") : 0;
  return op(c, "trilu", [operand(c, 0)], { upper: flag(c, "upper", true), k });
}

/** values[1] at the index, values[0] elsewhere; an index below 0 counts from the end, one out of range is nowhere. */
function oneHot(c: RuleContext): NodeId {
  const indices = cast(c, operand(c, 0), "i32");
  const depth = numberOf(c, operand(c, 1), "depth");
  if (depth < 1) reject(c, "LPU1012", `expected a depth of at least 1, got ${depth}`);
  const values = operand(c, 2);
  const rank = rankOf(c, indices) + 1;
  const axis = axisIn(c, int(c, "axis", -1), rank);
  const wrapped = select(
    c,
    op(c, "lt", [indices, scalar(c, "i32", 0)]),
    op(c, "add", [indices, scalar(c, "i32", depth)]),
    indices,
  );
  const last = op(c, "eq", [reshape(c, wrapped, [...shapeOf(c, indices), 1]), list(c, iota(depth))]);
  const hot = transpose(
    c,
    last,
    iota(rank).map((i) => (i < axis ? i : i === axis ? rank - 1 : i - 1)),
  );
  const pick = (i: number): NodeId => reshape(c, sliceAxis(c, values, 0, i, 1), []);
  return select(c, hot, pick(1), pick(0));
}

function eyeLike(c: RuleContext): NodeId {
  const [rows = 1, columns = 1] = shapeOf(c, operand(c, 0));
  const k = int(c, "k", 0);
  const dtype = hasAttribute(c, "dtype") ? elementType(int(c, "dtype"), c.label).dtype : dtypeOf(c, operand(c, 0));
  return c.graph.numbers(
    dtype,
    [rows, columns],
    iota(rows * columns).map((i) => ((i % columns) - Math.floor(i / columns) === k ? 1 : 0)),
  );
}

/** Blocks of channels become blocks of places, or back. */
function blocks(c: RuleContext, toSpace: boolean): NodeId {
  const x = operand(c, 0);
  const [n = 1, channels = 1, h = 1, w = 1] = shapeOf(c, x);
  const b = int(c, "blocksize");
  if (rankOf(c, x) !== 4) return unsupported(c, `expected rank 4, got ${rankOf(c, x)}`);
  if (!toSpace) {
    const apart = reshape(c, x, [n, channels, h / b, b, w / b, b]);
    return reshape(c, transpose(c, apart, [0, 3, 5, 1, 2, 4]), [n, channels * b * b, h / b, w / b]);
  }
  const rest = channels / (b * b);
  const columnsFirst = text(c, "mode", "DCR") === "CRD";
  const apart = reshape(c, x, columnsFirst ? [n, rest, b, b, h, w] : [n, b, b, rest, h, w]);
  return reshape(c, transpose(c, apart, columnsFirst ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]), [
    n,
    rest,
    h * b,
    w * b,
  ]);
}

/** Both branches are static: a constant condition takes one, else results of one type are selected. */
function ifRule(c: RuleContext): readonly NodeId[] {
  const condition = operand(c, 0);
  const value = c.graph.constant(condition)?.load();
  if (value !== undefined)
    return c.branch(subgraph(c, at(value.data, 0, "element") !== 0 ? "then_branch" : "else_branch"));
  const [yes, no] = [c.branch(subgraph(c, "then_branch")), c.branch(subgraph(c, "else_branch"))];
  const chosen = reshape(c, condition, []);
  return yes.map((a, i) => {
    const b = at(no, i, "result of else_branch");
    if (formatShape(shapeOf(c, a)) !== formatShape(shapeOf(c, b))) {
      unsupported(
        c,
        "the condition is computed from the program's inputs and the branches give different shapes",
        "bind the dimensions on which the condition depends",
      );
    }
    return select(c, chosen, a, b);
  });
}

const transposeRule = (c: RuleContext): NodeId => {
  const x = operand(c, 0);
  return transpose(c, x, ints(c, "perm", iota(rankOf(c, x)).reverse()));
};

const concatRule = (c: RuleContext): NodeId => {
  const parts = c.operands.filter((id) => id !== undefined);
  return concat(c, parts, axisIn(c, int(c, "axis", 1), rankOf(c, operand(c, 0))));
};

export const SHAPE: readonly Rule[] = [
  {
    op: "Reshape",
    doc: "The operation reshape.",
    ignores: { allowzero: "read where the shape has a zero" },
    wide: moves(0),
    build: reshapeRule,
  },
  { op: "Flatten", doc: "A reshape to two axes.", wide: moves(0), build: flatten },
  { op: "Squeeze", doc: "A reshape that drops axes of extent 1.", wide: moves(0), build: squeeze },
  { op: "Unsqueeze", doc: "A reshape that adds axes of extent 1.", wide: moves(0), build: unsqueeze },
  { op: "Transpose", doc: "The operation transpose.", wide: moves(0), build: transposeRule },
  { op: "Concat", doc: "The operation concat; empty parts are dropped.", wide: moves(), build: concatRule },
  {
    op: "Split",
    doc: "One slice for each part.",
    ignores: { num_outputs: "as many as the node has results" },
    wide: moves(0),
    build: split,
  },
  {
    op: "Slice",
    doc: "The operation slice, with bounds clamped as ONNX says.",
    wide: either(clamps(1, 2), moves(0)),
    build: slice,
  },
  { op: "Expand", doc: "The operation expand.", wide: moves(0), build: expandRule },
  { op: "Tile", doc: "A reshape, an expand and a reshape.", wide: moves(0), build: tile },
  { op: "Shape", doc: "A constant: shapes are static.", build: shapeRule },
  {
    op: "Size",
    doc: "A constant: shapes are static.",
    build: (c) => scalar(c, "i32", count(shapeOf(c, operand(c, 0)))),
  },
  { op: "Range", doc: "A constant.", build: range },
  {
    op: "Constant",
    doc: "A constant, in any of the forms of its attributes.",
    refuses: "Tensors of strings.",
    build: constant,
  },
  {
    op: "Pad",
    doc: "The operation pad; negative pads are a slice; 'wrap' is a gather.",
    ignores: { "2": "read where the mode is constant" },
    build: pad,
  },
  { op: "Trilu", doc: "The operation trilu.", build: trilu },
  { op: "OneHot", doc: "A comparison with all places, and a selection of the two values.", build: oneHot },
  { op: "EyeLike", doc: "A constant with ones on a diagonal.", build: eyeLike },
  {
    op: "DepthToSpace",
    doc: "A reshape, a transpose and a reshape.",
    refuses: "Ranks other than 4.",
    build: (c) => blocks(c, true),
  },
  {
    op: "SpaceToDepth",
    doc: "A reshape, a transpose and a reshape.",
    refuses: "Ranks other than 4.",
    build: (c) => blocks(c, false),
  },
  {
    op: "If",
    doc: "The branch of a constant condition; else both, and a selection.",
    refuses: "A computed condition whose branches give different shapes.",
    ignores: { then_branch: "the condition chooses the other", else_branch: "the condition chooses the other" },
    build: ifRule,
  },
];
