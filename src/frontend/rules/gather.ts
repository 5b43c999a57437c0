/**
 * Import rules of gathering, and of caches that are written row by row. Constant indices that step evenly (which is what
 * exporters make of slices, broadcasts and masks) become slices and expands, so that only gathers that depend on data, or jump
 * about, remain.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type NodeId, type Shape } from "../../ir/graph.js";
import { formatShape, stridesOf } from "../../ir/tensor.js";
import {
  axisIn,
  cast,
  dtypeOf,
  expand,
  extent,
  int,
  iota,
  numbersOf,
  op,
  operand,
  optional,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  select,
  shapeOf,
  sliceAxis,
  sub,
  text,
  unsupported,
  constantValue,
} from "../rule.js";
import { moves } from "../wide.js";

/** Constant indices of at most this many elements are looked at for a pattern. */
export const LOOKED_AT = 1 << 22;

export function constantIndices(c: RuleContext, id: NodeId): readonly number[] | undefined {
  return elementCount(shapeOf(c, id)) <= LOOKED_AT && constantValue(c, id) !== undefined
    ? numbersOf(c, id, "indices")
    : undefined;
}

interface Steps {
  readonly start: number;
  /** Step along each axis of the indices; 0 where the index repeats. */
  readonly steps: readonly number[];
}

/** Indices as start + sum of step x place, if they are that. */
function evenSteps(values: readonly number[], shape: Shape): Steps | undefined {
  const start = values[0];
  if (start === undefined) return undefined;
  const strides = stridesOf(shape);
  const steps = shape.map((size, axis) => (size > 1 ? at(values, at(strides, axis, "stride"), "value") - start : 0));
  const place = shape.map(() => 0);
  let expected = start;
  for (const value of values) {
    if (value !== expected) return undefined;
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      const [next, step] = [at(place, axis, "place") + 1, at(steps, axis, "step")];
      const wraps = next === shape[axis];
      place[axis] = wraps ? 0 : next;
      expected += wraps ? step * (1 - next) : step;
      if (!wraps) break;
    }
  }
  return { start, steps };
}

/** The operand along one axis at constant indices as slice, reshape and expand, where indices step evenly. */
function steppedView(
  c: RuleContext,
  x: NodeId,
  axis: number,
  values: readonly number[],
  indexShape: Shape,
): NodeId | undefined {
  const found = evenSteps(values, indexShape);
  if (found === undefined) return undefined;
  const moving = iota(indexShape.length).filter((i) => found.steps[i] !== 0);
  const size = moving.reduce((product, i) => product * at(indexShape, i, "extent"), 1);
  // Indices that are all one do not step.
  const step = moving.map((axis) => at(found.steps, axis, "step")).at(-1) ?? 1;
  let expected = step;
  for (const i of [...moving].reverse()) {
    if (found.steps[i] !== expected) return undefined;
    expected *= at(indexShape, i, "extent");
  }
  const shape = shapeOf(c, x);
  const around = (middle: Shape): Shape => [...shape.slice(0, axis), ...middle, ...shape.slice(axis + 1)];
  const part = sliceAxis(c, x, axis, found.start, size, step);
  const apart = reshape(c, part, around(indexShape.map((own, i) => (found.steps[i] === 0 ? 1 : own))));
  return expand(c, apart, around(indexShape));
}

export function gatherAt(
  c: RuleContext,
  x: NodeId,
  axis: number,
  values: readonly number[],
  indexShape: Shape,
): NodeId {
  const size = extent(c, x, axis);
  const wrapped = values.map((value) => (value < 0 ? value + size : value));
  const wrong = wrapped.find((value) => value < 0 || value >= size);
  if (wrong !== undefined) reject(c, "LPU1012", `expected indices from ${-size} to ${size - 1}, got ${wrong}`);
  return (
    steppedView(c, x, axis, wrapped, indexShape) ??
    op(c, "gather", [x, c.graph.numbers("i32", indexShape, wrapped)], { axis })
  );
}

export const asIndex = (c: RuleContext, id: NodeId): NodeId => cast(c, id, "i32");

function gather(c: RuleContext): NodeId {
  const [x, indices] = [operand(c, 0), operand(c, 1)];
  const axis = axisIn(c, int(c, "axis", 0), rankOf(c, x));
  const values = constantIndices(c, indices);
  if (values !== undefined) return gatherAt(c, x, axis, values, shapeOf(c, indices));
  return op(c, "gather", [x, asIndex(c, indices)], { axis });
}

/** Rows of indices into the leading axes; constant ones are indices into those axes taken as one. */
function gatherNd(c: RuleContext): NodeId {
  const [x, indices] = [operand(c, 0), operand(c, 1)];
  const batchDims = int(c, "batch_dims", 0);
  const values = constantIndices(c, indices);
  const indexShape = shapeOf(c, indices);
  const depth = at(indexShape, indexShape.length - 1, "extent");
  const most = rankOf(c, x) - batchDims;
  if (depth > most) reject(c, "LPU1012", `expected indices of at most ${most} axes, got ${depth}`);
  if (values === undefined || batchDims !== 0 || depth === 0)
    return op(c, "gather_nd", [x, asIndex(c, indices)], { batchDims });
  const shape = shapeOf(c, x);
  const flat = reshape(c, x, [elementCount(shape.slice(0, depth)), ...shape.slice(depth)]);
  return gatherAt(c, flat, 0, flatPlaces(c, values, shape.slice(0, depth)), indexShape.slice(0, -1));
}

/** Rows of indices as row-major places. */
export function flatPlaces(c: RuleContext, values: readonly number[], extents: Shape): number[] {
  const strides = stridesOf(extents);
  const depth = extents.length;
  return iota(values.length / depth).map((row) =>
    extents.reduce((place, size, i) => {
      const value = at(values, row * depth + i, "value");
      if (value < -size || value >= size)
        reject(c, "LPU1012", `expected indices within ${formatShape(extents)}, got ${value} for axis ${i}`);
      return place + (value < 0 ? value + size : value) * at(strides, i, "stride");
    }, 0),
  );
}

function gatherElements(c: RuleContext): NodeId {
  const [x, indices] = [operand(c, 0), operand(c, 1)];
  return op(c, "gather_elements", [x, asIndex(c, indices)], { axis: axisIn(c, int(c, "axis", 0), rankOf(c, x)) });
}

/** i32 [B,1,T,1]: how many rows each place of a past is behind place start[B]. */
const distanceFrom = (c: RuleContext, past: NodeId, start: NodeId): NodeId => {
  const [batch, t] = [extent(c, past, 0), extent(c, past, 2)];
  return sub(c, c.graph.numbers("i32", [1, 1, t, 1], iota(t)), reshape(c, asIndex(c, start), [batch, 1, 1, 1]));
};

/** Rows at their distances; zeros where there is no row for one. A matrix of zeros and ones moves them exactly: every sum has one term. */
function rowsAt(c: RuleContext, update: NodeId, distance: NodeId): NodeId {
  const s = extent(c, update, 2);
  const hit = op(c, "eq", [distance, c.graph.numbers("i32", [1, 1, 1, s], iota(s))]);
  return op(c, "matmul", [cast(c, hit, dtypeOf(c, update)), update]);
}

/** Rows [B,H,S,D] written over rows [B,H,T,D] from place start[B] on, which may depend on data. */
function placeRows(c: RuleContext, past: NodeId, update: NodeId, start: NodeId, circular: boolean): NodeId {
  const [t, s] = [extent(c, past, 2), extent(c, update, 2)];
  const distance = distanceFrom(c, past, start);
  const wrapped = circular ? op(c, "mod", [distance, scalar(c, "i32", t)]) : distance;
  const written = op(c, "and", [
    op(c, "ge", [wrapped, scalar(c, "i32", 0)]),
    op(c, "lt", [wrapped, scalar(c, "i32", s)]),
  ]);
  return select(c, written, rowsAt(c, update, wrapped), past);
}

/** The rows of a past before place start[B], new ones from there on, and zeros behind them. */
export function continueRows(c: RuleContext, past: NodeId, update: NodeId, start: NodeId): NodeId {
  const distance = distanceFrom(c, past, start);
  return select(c, op(c, "lt", [distance, scalar(c, "i32", 0)]), past, rowsAt(c, update, distance));
}

/** A cache is updated in place: as rows along the sequence axis. */
function tensorScatter(c: RuleContext): NodeId {
  const [past, update] = [operand(c, 0), operand(c, 1)];
  const shape = shapeOf(c, past);
  const axis = axisIn(c, int(c, "axis", -2), shape.length);
  const [batch, t, s] = [extent(c, past, 0), extent(c, past, axis), extent(c, update, axis)];
  const start =
    optional(c, 2) ??
    c.graph.numbers(
      "i32",
      [batch],
      iota(batch).map(() => 0),
    );
  if (axis === 0) return unsupported(c, "the axis of the sequence may not be that of the batch");
  const outer = elementCount(shape.slice(1, axis));
  const inner = elementCount(shape.slice(axis + 1));
  const as4 = (id: NodeId, length: number): NodeId => reshape(c, id, [batch, outer, length, inner]);
  return reshape(c, placeRows(c, as4(past, t), as4(update, s), start, text(c, "mode", "linear") === "circular"), shape);
}

export const GATHER: readonly Rule[] = [
  {
    op: "Gather",
    doc: "The operation gather; a slice where constant indices step evenly.",
    wide: moves(0),
    build: gather,
  },
  {
    op: "GatherND",
    doc: "The operation gather_nd; for constant indices a gather or slice of the flattened operand.",
    wide: moves(0),
    build: gatherNd,
  },
  { op: "GatherElements", doc: "The operation gather_elements.", wide: moves(0), build: gatherElements },
  { op: "TensorScatter", doc: "A matmul that moves the rows to their places, and a selection.", build: tensorScatter },
];
