/**
 * Import rules of scattering: ScatterND and ScatterElements, with and without a reduction.
 *
 * To constant places every element of the result has one source, in the data or in the updates: a gather. A reduction takes
 * one such gather for each time that a place occurs. Computed places are compared with all places; of several updates of one
 * place the last counts, as in ONNX Runtime, or the reduction joins them.
 */

import { at } from "../../diagnostics.js";
import { type DType, integerLimits, type Limits } from "../../ir/dtype.js";
import { elementCount, type NodeId, type Shape } from "../../ir/graph.js";
import { isFloat, stridesOf } from "../../ir/tensor.js";
import {
  add,
  axisIn,
  cast,
  concat,
  dtypeOf,
  expand,
  extent,
  int,
  iota,
  list,
  mul,
  numbersOf,
  op,
  operand,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  scalarLike,
  select,
  shapeOf,
  sliceAxis,
  text,
  transpose,
  unsupported,
} from "../rule.js";
import { asIndex, constantIndices, flatPlaces, gatherAt, LOOKED_AT } from "./gather.js";

/** How updates join what is there, and what changes nothing. */
interface Joining {
  readonly join: (c: RuleContext, a: NodeId, b: NodeId) => NodeId;
  readonly neutral: (dtype: DType) => number;
  /** The reduction of the IR over an axis, where there is one on the chip. */
  readonly over?: "sum" | "max" | "min";
}

/** The least number of a type, and the greatest: what a maximum, or a minimum, does not see. */
const limitsOf = (dtype: DType): Limits =>
  integerLimits(dtype) ?? { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };

const REDUCTIONS: Readonly<Record<string, Joining>> = {
  add: { join: add, neutral: () => 0, over: "sum" },
  mul: { join: mul, neutral: () => 1 },
  max: { join: (c, a, b) => op(c, "max", [a, b]), neutral: (dtype) => limitsOf(dtype).lo, over: "max" },
  min: { join: (c, a, b) => op(c, "min", [a, b]), neutral: (dtype) => limitsOf(dtype).hi, over: "min" },
};

function reductionOf(c: RuleContext): Joining | undefined {
  const name = text(c, "reduction", "none");
  if (name === "none") return undefined;
  return REDUCTIONS[name] ?? unsupported(c, `reduction '${name}' is not supported`, "add, mul, max and min are");
}

/** Constant places that occur more often than this are no longer one gather each. */
const MOST_ROUNDS = 64;
/** Comparisons of places with updates. */
const MOST_COMPARED = 1 << 22;

/** Scattering to constant places, which are flat ones in the data, one for each element of the updates. */
function toConstantPlaces(
  c: RuleContext,
  data: NodeId,
  updates: NodeId,
  places: readonly number[],
  reduction: Joining | undefined,
): NodeId {
  const shape = shapeOf(c, data);
  const size = elementCount(shape);
  if (size > LOOKED_AT) unsupported(c, `scattering into ${size} elements is not supported`, `at most ${LOOKED_AT}`);
  const flatData = reshape(c, data, [size]);
  const flatUpdates = reshape(c, updates, [places.length]);
  if (reduction === undefined) {
    const sources = iota(size);
    places.forEach((place, i) => {
      sources[place] = size + i;
    });
    return reshape(c, gatherAt(c, concat(c, [flatData, flatUpdates], 0), 0, sources, [size]), shape);
  }
  const seen = iota(size).map(() => 0);
  const rounds: number[][] = [];
  places.forEach((place, i) => {
    const round = at(seen, place, "place");
    seen[place] = round + 1;
    rounds[round] ??= iota(size).map(() => -1);
    const sources = rounds[round];
    if (sources !== undefined) sources[place] = i;
  });
  if (rounds.length > MOST_ROUNDS)
    return unsupported(c, `${rounds.length} updates of one place are not supported`, `at most ${MOST_ROUNDS}`);
  const joined = rounds.reduce((result, sources) => {
    const taken = gatherAt(
      c,
      flatUpdates,
      0,
      sources.map((source) => Math.max(source, 0)),
      [size],
    );
    const isHit = c.graph.numbers(
      "bool",
      [size],
      sources.map((source) => Number(source >= 0)),
    );
    return select(c, isHit, reduction.join(c, result, taken), result);
  }, flatData);
  return reshape(c, joined, shape);
}

/** i32 indices from the start; what is out of range stays so. */
function fromStart(c: RuleContext, indices: NodeId, size: number): NodeId {
  const whole = asIndex(c, indices);
  const isNegative = op(c, "lt", [whole, scalar(c, "i32", 0)]);
  return select(c, isNegative, add(c, whole, scalar(c, "i32", size)), whole);
}

/** The last true of bool [.., M] along the last axis, as i32 [..]; -1 where there is none. */
const lastTrue = (c: RuleContext, hits: NodeId): NodeId =>
  reduce(
    c,
    "max",
    select(c, hits, list(c, iota(extent(c, hits, -1))), scalar(c, "i32", -1)),
    [rankOf(c, hits) - 1],
    false,
  );

/** Updates joined one after another; `update` gives that of a number, in the shape of the data. */
function oneByOne(
  c: RuleContext,
  data: NodeId,
  count: number,
  { join }: Joining,
  update: (i: number) => NodeId,
): NodeId {
  if (count > MOST_ROUNDS)
    unsupported(c, `${count} updates at computed places are not supported`, `at most ${MOST_ROUNDS}`);
  return iota(count).reduce((result, i) => join(c, result, update(i)), data);
}

/** Rows [M, R] written over or joined with rows [P, R] at places [M]. */
function scatterRows(c: RuleContext, data: NodeId, updates: NodeId, places: NodeId, reduction?: Joining): NodeId {
  const [p, m, r] = [extent(c, data, 0), extent(c, updates, 0), extent(c, data, 1)];
  const hits = op(c, "eq", [reshape(c, list(c, iota(p)), [p, 1]), reshape(c, places, [1, m])]);
  const dtype = dtypeOf(c, data);
  if (reduction === undefined) {
    const last = lastTrue(c, hits);
    const taken = op(c, "gather", [updates, op(c, "max", [last, scalar(c, "i32", 0)])], { axis: 0 });
    return select(c, reshape(c, op(c, "ge", [last, scalar(c, "i32", 0)]), [p, 1]), taken, data);
  }
  if (reduction.over === "sum" && isFloat(dtype)) return add(c, data, op(c, "matmul", [cast(c, hits, dtype), updates]));
  if (reduction.over === undefined) {
    // For each update the rows as it multiplies them: its own where it hits, else one that changes nothing.
    const row = c.graph.numbers(dtype, [1], [reduction.neutral(dtype)]);
    const all = concat(c, [updates, expand(c, reshape(c, row, [1, 1]), [1, r])], 0);
    const fromOf = (i: number): NodeId =>
      select(c, reshape(c, sliceAxis(c, hits, 1, i, 1), [p]), scalar(c, "i32", i), scalar(c, "i32", m));
    return oneByOne(c, data, m, reduction, (i) => op(c, "gather", [all, fromOf(i)], { axis: 0 }));
  }
  wantCompared(c, p * m * r);
  const neutral = scalarLike(c, data, reduction.neutral(dtype));
  const chosen = select(c, reshape(c, hits, [p, m, 1]), reshape(c, updates, [1, m, r]), neutral);
  return reduction.join(c, data, reduce(c, reduction.over, chosen, [1], false));
}

/** Lines [L, M] written over or joined with lines [L, N] at places [L, M] along each. */
function scatterLines(c: RuleContext, data: NodeId, updates: NodeId, places: NodeId, reduction?: Joining): NodeId {
  const [l, n, m] = [extent(c, data, 0), extent(c, data, 1), extent(c, updates, 1)];
  wantCompared(c, l * n * m);
  const hits = op(c, "eq", [reshape(c, places, [l, 1, m]), reshape(c, list(c, iota(n)), [1, n, 1])]);
  if (reduction === undefined) {
    const last = lastTrue(c, hits);
    const from = op(c, "max", [last, scalar(c, "i32", 0)]);
    const taken = op(c, "gather_elements", [updates, from], { axis: 1 });
    return select(c, op(c, "ge", [last, scalar(c, "i32", 0)]), taken, data);
  }
  const neutral = scalarLike(c, data, reduction.neutral(dtypeOf(c, data)));
  const chosen = select(c, hits, reshape(c, updates, [l, 1, m]), neutral);
  if (reduction.over === undefined)
    return oneByOne(c, data, m, reduction, (i) => reshape(c, sliceAxis(c, chosen, 2, i, 1), [l, n]));
  return reduction.join(c, data, reduce(c, reduction.over, chosen, [2], false));
}

function wantCompared(c: RuleContext, compared: number): void {
  if (compared > MOST_COMPARED)
    unsupported(c, `${compared} comparisons of computed places are not supported`, `at most ${MOST_COMPARED}`);
}

/** Computes on i32 what is narrower or a truth value, which keep their elements. */
function widened(c: RuleContext, x: NodeId, compute: (of: (id: NodeId) => NodeId) => NodeId): NodeId {
  const dtype = dtypeOf(c, x);
  return isFloat(dtype)
    ? compute((id) => id)
    : cast(
        c,
        compute((id) => cast(c, id, "i32")),
        dtype,
      );
}

function scatterNd(c: RuleContext): NodeId {
  const [data, indices, updates] = [operand(c, 0), operand(c, 1), operand(c, 2)];
  const reduction = reductionOf(c);
  const shape = shapeOf(c, data);
  const depth = extent(c, indices, -1);
  if (depth > shape.length) reject(c, "LPU1012", `expected indices of at most ${shape.length} axes, got ${depth}`);
  const extents = shape.slice(0, depth);
  const rest = elementCount(shape.slice(depth));
  const constant = constantIndices(c, indices);
  if (constant !== undefined) {
    const places = flatPlaces(c, constant, extents).flatMap((row) => iota(rest).map((i) => row * rest + i));
    return toConstantPlaces(c, data, updates, places, reduction);
  }
  const own = shapeOf(c, indices);
  const count = elementCount(own.slice(0, -1));
  const strides = stridesOf(extents);
  const rows = reshape(c, indices, [count, depth]);
  const places = extents
    .map((size, axis) => {
      const along = reshape(c, sliceAxis(c, rows, 1, axis, 1), [count]);
      return mul(c, fromStart(c, along, size), scalar(c, "i32", at(strides, axis, "stride")));
    })
    .reduce((sum, part) => add(c, sum, part));
  return widened(c, data, (of) =>
    reshape(
      c,
      scatterRows(
        c,
        reshape(c, of(data), [elementCount(extents), rest]),
        reshape(c, of(updates), [count, rest]),
        places,
        reduction,
      ),
      shape,
    ),
  );
}

function scatterElements(c: RuleContext): NodeId {
  const [data, indices, updates] = [operand(c, 0), operand(c, 1), operand(c, 2)];
  const reduction = reductionOf(c);
  const shape = shapeOf(c, data);
  const axis = axisIn(c, int(c, "axis", 0), shape.length);
  const indexShape = shapeOf(c, indices);
  if (indexShape.length !== shape.length)
    reject(c, "LPU1012", `expected indices of ${shape.length} axes, got ${indexShape.length}`);
  if (constantIndices(c, indices) !== undefined) {
    const places = elementPlaces(c, numbersOf(c, indices, "indices"), indexShape, shape, axis);
    return toConstantPlaces(c, data, updates, places, reduction);
  }
  // Other axes may be shorter in the indices: only that part of the data is written.
  const region = shape.map((size, i) => (i === axis ? size : at(indexShape, i, "extent")));
  const written = region.reduce((part, size, i) => sliceAxis(c, part, i, 0, size), data);
  const others = iota(shape.length).filter((i) => i !== axis);
  const perm = [...others, axis];
  const lines = others.reduce((product, i) => product * at(region, i, "extent"), 1);
  const asLines = (id: NodeId): NodeId => reshape(c, transpose(c, id, perm), [lines, extent(c, id, axis)]);
  const result = widened(c, data, (of) =>
    scatterLines(
      c,
      asLines(of(written)),
      asLines(of(updates)),
      fromStart(c, asLines(indices), at(shape, axis, "extent")),
      reduction,
    ),
  );
  const back = transpose(
    c,
    reshape(
      c,
      result,
      perm.map((i) => at(region, i, "extent")),
    ),
    iota(shape.length).map((i) => perm.indexOf(i)),
  );
  return over(c, back, data, region);
}

/** A part from the origin in place of what is there. */
function over(c: RuleContext, part: NodeId, data: NodeId, region: Shape): NodeId {
  const shape = shapeOf(c, data);
  return shape.reduceRight((inner, size, axis) => {
    const own = extent(c, inner, axis);
    if (own === size) return inner;
    // The rest of this axis, within the part of the axes before it.
    const rest = shape.reduce(
      (x, _, i) => (i < axis ? sliceAxis(c, x, i, 0, at(region, i, "extent")) : x),
      sliceAxis(c, data, axis, own, size - own),
    );
    return concat(c, [inner, rest], axis);
  }, part);
}

/** Flat places in the data of each element of the updates. */
function elementPlaces(
  c: RuleContext,
  indices: readonly number[],
  indexShape: Shape,
  shape: Shape,
  axis: number,
): readonly number[] {
  const [own, strides] = [stridesOf(indexShape), stridesOf(shape)];
  const size = at(shape, axis, "extent");
  return indices.map((value, i) => {
    if (!(value >= -size && value < size))
      reject(c, "LPU1012", `expected indices from ${-size} to ${size - 1}, got ${value}`);
    return indexShape.reduce((place, length, k) => {
      const along = k === axis ? (value < 0 ? value + size : value) : Math.floor(i / at(own, k, "extent")) % length;
      return place + along * at(strides, k, "stride");
    }, 0);
  });
}

const DOC = "For constant indices a gather from data and updates; computed ones are compared with all places.";
const LIMITS =
  "More than 64 updates of one place with a reduction, and computed places that take more than 4,194,304 comparisons.";

export const SCATTER: readonly Rule[] = [
  { op: "ScatterND", doc: DOC, refuses: LIMITS, build: scatterNd },
  { op: "ScatterElements", doc: DOC, refuses: LIMITS, build: scatterElements },
  { op: "Scatter", doc: "As ScatterElements.", refuses: LIMITS, build: scatterElements },
];
