/**
 * Import rules of Resize and Upsample.
 *
 * Along each axis the result is a linear map of the operand that is known when the program is compiled: a gather at constant
 * places for `nearest`, else a product with a constant matrix of coefficients. Coordinates are computed in fp32, operation by
 * operation as ONNX Runtime does, because a coordinate on a tie decides which element is taken.
 */

import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import { isFloat } from "../../ir/tensor.js";
import {
  cast,
  axisIn,
  count,
  dtypeOf,
  flag,
  float,
  floats,
  hasAttribute,
  iota,
  numbersOf,
  op,
  operand,
  optional,
  optionalInts,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalarLike,
  select,
  shapeOf,
  text,
  transpose,
  unsupported,
} from "../rule.js";
import { gatherAt } from "./gather.js";

const { fround } = Math;

type Part = readonly [start: number, end: number];
const WHOLE: Part = [0, 1];

/** One axis that is resized. Lengths are in elements; `roi` is the part of the axis that is kept, from 0 to 1. */
interface Axis {
  readonly from: number;
  readonly to: number;
  /** Elements of the result for one of the operand. */
  readonly scale: number;
  readonly roi: Part;
}

/** The coordinate in the operand of a place of the result. */
type Coordinate = (place: number, axis: Axis) => number;

const halfPixel: Coordinate = (place, { scale }) => fround(fround(fround(place + 0.5) / scale) - 0.5);

const cropped: Coordinate = (place, { from, to, roi: [start, end] }) =>
  to > 1
    ? fround(fround(start * (from - 1)) + fround(fround(place * fround(end - start) * (from - 1)) / (to - 1)))
    : fround(0.5 * fround(start + end) * (from - 1));

const COORDINATES: Readonly<Record<string, Coordinate>> = {
  half_pixel: halfPixel,
  half_pixel_symmetric: (place, axis) => {
    const adjustment = fround(axis.to / fround(axis.scale * axis.from));
    const offset = fround(fround(axis.from / 2) * fround(1 - adjustment));
    return fround(fround(offset + fround(fround(place + 0.5) / axis.scale)) - 0.5);
  },
  pytorch_half_pixel: (place, axis) => (axis.to > 1 ? halfPixel(place, axis) : 0),
  align_corners: (place, { from, to }) => (to === 1 ? 0 : fround(fround(place * (from - 1)) / (to - 1))),
  asymmetric: (place, { scale }) => fround(place / scale),
  tf_half_pixel_for_nn: (place, { scale }) => fround(fround(place + 0.5) / scale),
  tf_crop_and_resize: cropped,
};
/** Modes that ask for the length of the result, which ONNX's reference takes before it is rounded and ONNX Runtime after. */
const BY_LENGTH: readonly string[] = ["align_corners", "tf_crop_and_resize"];

/** A coordinate that is on a tie but for its roundings is on the tie. */
const slack = (x: number, { from }: Axis): number => (Math.abs(x) + from) * 2 ** -23;

/** The place that a coordinate is nearest to. */
const NEAREST: Readonly<Record<string, (x: number, axis: Axis) => number>> = {
  round_prefer_floor: (x, axis) => Math.ceil(x - 0.5 - slack(x, axis)),
  round_prefer_ceil: (x, axis) => Math.floor(x + 0.5 + slack(x, axis)),
  floor: Math.floor,
  ceil: Math.ceil,
  /** What operators without the attribute do. */
  "": (x, { scale }) => (scale < 1 ? Math.ceil(x) : Math.floor(x)),
};

/** A kernel over distances in elements, and the distance from which on it is zero. */
interface Kernel {
  readonly reach: number;
  readonly weight: (distance: number) => number;
}

const LINEAR: Kernel = { reach: 1, weight: (distance) => Math.max(0, 1 - distance) };
const cubic = (a: number): Kernel => ({
  reach: 2,
  weight: (d) => (d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0),
});

interface Method {
  readonly kernel: Kernel;
  readonly antialias: boolean;
  readonly excludeOutside: boolean;
}

const clamp = (place: number, extent: number): number => Math.min(Math.max(place, 0), extent - 1);

/** The coefficients [from, to] of an axis, in row-major order. Elements beyond an edge are those at the edge, or left out. */
function coefficients(axis: Axis, coordinate: Coordinate, { kernel, antialias, excludeOutside }: Method): Float64Array {
  const { from, to } = axis;
  // When an axis shrinks, antialiasing widens the kernel by as much.
  const narrow = antialias ? Math.min(axis.scale, 1) : 1;
  const reach = kernel.reach / narrow;
  const matrix = new Float64Array(from * to);
  for (const place of iota(to)) {
    const x = coordinate(place, axis);
    const [first, last] = [Math.floor(x - reach) + 1, Math.ceil(x + reach) - 1];
    const taps = iota(last - first + 1)
      .map((i) => ({ tap: first + i, weight: kernel.weight(Math.abs(first + i - x) * narrow) }))
      .filter(({ tap }) => !excludeOutside || (tap >= 0 && tap < from));
    const total = taps.reduce((sum, { weight }) => sum + weight, 0);
    for (const { tap, weight } of taps) {
      const cell = clamp(tap, from) * to + place;
      matrix[cell] = at(matrix, cell, "cell") + weight / total;
    }
  }
  return matrix;
}

/** The product of one axis with a matrix [from, to]. */
function throughMatrix(c: RuleContext, x: NodeId, axis: number, matrix: NodeId): NodeId {
  const rank = rankOf(c, x);
  const perm = iota(rank).map((i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));
  const moved = transpose(c, x, perm);
  const rows = rank === 1 ? reshape(c, moved, [1, ...shapeOf(c, moved)]) : moved;
  const product = op(c, "matmul", [rows, matrix]);
  return transpose(c, rank === 1 ? reshape(c, product, shapeOf(c, product).slice(1)) : product, perm);
}

/** Elements of one axis at constant places; a whole number of repeats is an expand. */
function atPlaces(c: RuleContext, x: NodeId, axis: number, places: readonly number[]): NodeId {
  const own = shapeOf(c, x);
  const repeats = places.length / at(own, axis, "extent");
  const repeated = Number.isInteger(repeats) && places.every((place, i) => place === Math.floor(i / repeats));
  if (!repeated) return gatherAt(c, x, axis, places, [places.length]);
  const apart = gatherAt(c, x, axis, places, [at(own, axis, "extent"), repeats]);
  return reshape(
    c,
    apart,
    own.map((size, i) => (i === axis ? places.length : size)),
  );
}

interface Sizes {
  /** By axis of the operand; undefined where an axis stays as it is. */
  readonly axes: readonly (Axis | undefined)[];
  /** Whether a length is a number of elements only after it was rounded. */
  readonly rounded: boolean;
}

/** Lengths from sizes or scales, whichever is there; for some axes, or all. */
function resizedAxes(c: RuleContext, x: NodeId, roi: readonly number[] | undefined): Sizes {
  const shape = shapeOf(c, x);
  const picked = (optionalInts(c, "axes") ?? iota(shape.length)).map((axis) => axisIn(c, axis, shape.length));
  const given = (index: number, name: string): readonly number[] => {
    const id = optional(c, index);
    return id === undefined || count(shapeOf(c, id)) === 0 ? [] : numbersOf(c, id, name);
  };
  const [scales, sizes] = c.opset < 11 ? [given(1, "scales"), []] : [given(2, "scales"), given(3, "sizes")];
  if ((scales.length === 0) === (sizes.length === 0)) reject(c, "LPU1008", "expected either scales or sizes");
  const policy = text(c, "keep_aspect_ratio_policy", "stretch");
  if (!(policy in POLICIES)) reject(c, "LPU1008", `expected a known keep_aspect_ratio_policy, got '${policy}'`);
  return lengths(c, shape, picked, roi, scales.length > 0 ? { scales } : { sizes, policy });
}

/** One scale for all axes; `stretch` keeps each. */
const POLICIES: Readonly<Record<string, ((scales: readonly number[]) => number) | undefined>> = {
  stretch: undefined,
  not_larger: (scales) => Math.min(...scales),
  not_smaller: (scales) => Math.max(...scales),
};

function lengths(
  c: RuleContext,
  shape: readonly number[],
  picked: readonly number[],
  roi: readonly number[] | undefined,
  wanted: { readonly scales?: readonly number[]; readonly sizes?: readonly number[]; readonly policy?: string },
): Sizes {
  const values = wanted.scales ?? wanted.sizes ?? [];
  if (values.length !== picked.length)
    reject(c, "LPU1012", `expected ${picked.length} scales or sizes, got ${values.length}`);
  const ratios = values.map((value, i) =>
    wanted.scales === undefined ? value / at(shape, at(picked, i, "axis"), "extent") : value,
  );
  const common = POLICIES[wanted.policy ?? "stretch"]?.(ratios);
  const axes: (Axis | undefined)[] = shape.map(() => undefined);
  let rounded = false;
  picked.forEach((axis, i) => {
    const from = at(shape, axis, "extent");
    const ratio = fround(common ?? at(ratios, i, "ratio"));
    if (!(ratio > 0)) reject(c, "LPU1008", `expected scales above 0, got ${ratio}`);
    const exact = common === undefined ? (wanted.sizes?.[i] ?? fround(from * ratio)) : common * from;
    const to = common === undefined ? Math.floor(exact) : Math.floor(exact + 0.5);
    rounded ||= to !== exact;
    const part: Part = roi === undefined ? WHOLE : [at(roi, i, "bound"), at(roi, i + picked.length, "bound")];
    // An axis that keeps its length may still be cropped.
    if (to !== from || ratio !== 1 || part[0] !== 0 || part[1] !== 1)
      axes[axis] = { from, to, scale: ratio, roi: part };
  });
  return { axes, rounded };
}

interface Transformation {
  readonly mode: string;
  readonly coordinates: string;
  readonly nearest: string;
}

const MODES: readonly string[] = ["nearest", "linear", "cubic"];

function resizeAs(c: RuleContext, x: NodeId, { axes }: Sizes, how: Transformation): NodeId {
  const coordinate = COORDINATES[how.coordinates];
  const nearest = NEAREST[how.nearest];
  if (coordinate === undefined || nearest === undefined || !MODES.includes(how.mode))
    return unsupported(c, `mode '${how.mode}' of '${how.coordinates}' and '${how.nearest}' is not supported`);
  const resized = axes.flatMap((axis, i) => (axis === undefined ? [] : [{ ...axis, i }]));
  if (how.mode === "nearest") {
    return resized.reduce((y, axis) => {
      const places = iota(axis.to).map((place) => clamp(nearest(coordinate(place, axis), axis), axis.from));
      return atPlaces(c, y, axis.i, places);
    }, x);
  }
  const dtype = dtypeOf(c, x);
  if (!isFloat(dtype) && c.graph.constant(x) === undefined)
    return unsupported(c, `interpolation of ${dtype} is not supported`, "cast the operand to a float type");
  const method: Method = {
    kernel: how.mode === "linear" ? LINEAR : cubic(float(c, "cubic_coeff_a", -0.75)),
    antialias: flag(c, "antialias"),
    excludeOutside: flag(c, "exclude_outside"),
  };
  const number = isFloat(dtype) ? dtype : "f32";
  // From the last axis, whose product needs no transpose.
  const result = resized.reduceRight(
    (y, axis) =>
      throughMatrix(
        c,
        y,
        axis.i,
        c.graph.numbers(number, [axis.from, axis.to], coefficients(axis, coordinate, method)),
      ),
    cast(c, x, number),
  );
  return cast(c, result, dtype);
}

/** The extrapolation value where the coordinate of any axis lies outside of the operand. */
function extrapolated(c: RuleContext, x: NodeId, y: NodeId, { axes }: Sizes): NodeId {
  const rank = rankOf(c, x);
  return axes.reduce((result, axis, i) => {
    if (axis === undefined) return result;
    const inside = iota(axis.to).map((place) => {
      const found = cropped(place, axis);
      return found >= 0 && found <= axis.from - 1 ? 1 : 0;
    });
    if (inside.every((value) => value === 1)) return result;
    const mask = c.graph.numbers(
      "bool",
      iota(rank).map((k) => (k === i ? axis.to : 1)),
      inside,
    );
    return select(c, mask, result, scalarLike(c, x, float(c, "extrapolation_value", 0)));
  }, y);
}

function resize(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const coordinates = text(c, "coordinate_transformation_mode", "half_pixel");
  const crops = coordinates === "tf_crop_and_resize";
  const roi = crops ? numbersOf(c, operand(c, 1), "roi") : undefined;
  const sizes = resizedAxes(c, x, roi);
  if (sizes.rounded && BY_LENGTH.includes(coordinates)) {
    return unsupported(
      c,
      `'${coordinates}' with scales that do not give a whole number of elements is not supported`,
      "runtimes disagree about it; give sizes instead of scales",
    );
  }
  const mode = text(c, "mode", "nearest");
  if (mode === "nearest" && flag(c, "antialias")) return unsupported(c, "antialiasing of 'nearest' is not supported");
  const nearest = mode === "nearest" ? text(c, "nearest_mode", "round_prefer_floor") : "floor";
  const result = resizeAs(c, x, sizes, { mode, coordinates, nearest });
  return crops ? extrapolated(c, x, result, sizes) : result;
}

/** Upsample, and Resize before version 11: coordinates from the origin. */
function upsample(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const sizes = hasAttribute(c, "scales")
    ? lengths(c, shapeOf(c, x), iota(rankOf(c, x)), undefined, { scales: floats(c, "scales") })
    : resizedAxes(c, x, undefined);
  return resizeAs(c, x, sizes, { mode: text(c, "mode", "nearest"), coordinates: "asymmetric", nearest: "" });
}

export const RESIZE: readonly Rule[] = [
  { op: "Upsample", doc: "As Resize with coordinates from the origin.", build: upsample },
  { op: "Resize", doc: "As Upsample.", build: upsample },
  {
    op: "Resize",
    since: 11,
    doc: "For constant scales or sizes: slices and expands for 'nearest', else a product with a constant matrix for each axis.",
    refuses:
      "Antialiasing of 'nearest', interpolation of integers, scales of 'half_pixel_symmetric' and the like that give no whole number of elements, and methods that are not named here.",
    ignores: {
      1: "read where the mode is tf_crop_and_resize",
      extrapolation_value: "read where the mode is tf_crop_and_resize",
      cubic_coeff_a: "read where the mode is cubic",
      exclude_outside: "places beyond an edge have no weight in 'nearest'",
      nearest_mode: "read where the mode is nearest",
    },
    build: resize,
  },
];
