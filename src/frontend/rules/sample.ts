/**
 * Import rules of sampling: elements of a tensor at coordinates that are computed.
 *
 * Along each axis a sample is a weighted sum of a few neighbours. Their weights, at the places of a row that is zero elsewhere,
 * are made by comparing each neighbour's place with all places; the rows of all axes multiply to one row of weights over
 * all elements, and samples are a product with them. Coordinates are computed in fp32, in the order of the definition. Beyond
 * the edges it is the neighbours that are brought back, as ONNX Runtime and PyTorch have it, not the coordinates.
 */

import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import {
  add,
  cast,
  count,
  dtypeOf,
  extent,
  flag,
  iota,
  mul,
  op,
  operand,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalarLike,
  select,
  shapeOf,
  sliceAxis,
  sub,
  swapLast,
  text,
  transpose,
  unsupported,
  wantFloat,
} from "../rule.js";

/** A neighbour of a sample along an axis: where it is, and its weight. */
interface Tap {
  readonly place: NodeId;
  readonly weight: NodeId;
}

/** Places of an axis of `length` elements, and what becomes of those beyond its ends at `lo` and `hi`. */
interface Axis {
  readonly length: number;
  readonly lo: number;
  readonly hi: number;
}

/** A place that an axis has, in the place of one that it may not have. */
type Padding = (c: RuleContext, place: NodeId, axis: Axis) => NodeId;

const number = (c: RuleContext, like: NodeId, value: number): NodeId => scalarLike(c, like, value);
const plus = (c: RuleContext, x: NodeId, value: number): NodeId => (value === 0 ? x : add(c, x, number(c, x, value)));
const times = (c: RuleContext, x: NodeId, value: number): NodeId => mul(c, x, number(c, x, value));

/** There and back between the ends: hi - |(x - lo) mod 2r - r|, where r is their distance. */
const reflected: Padding = (c, x, { lo, hi }) => {
  const reach = hi - lo;
  if (reach === 0) return number(c, x, lo);
  const from = plus(c, x, -lo);
  const turns = op(c, "floor", [op(c, "div", [from, number(c, x, 2 * reach)])]);
  const within = sub(c, from, times(c, turns, 2 * reach));
  return sub(c, number(c, x, hi), op(c, "abs", [plus(c, within, -reach)]));
};

const PADDINGS: Readonly<Record<string, Padding>> = {
  // A place that is none meets no element.
  zeros: (_, x) => x,
  border: (c, x, { length }) => op(c, "min", [op(c, "max", [x, number(c, x, 0)]), number(c, x, length - 1)]),
  reflection: reflected,
};

/** Coefficients of Keys' cubic convolution with a = -3/4, by the powers of a sample's distance f from the place before it. */
const CUBIC: readonly (readonly number[])[] = [
  [0, -0.75, 1.5, -0.75],
  [1, 0, -2.25, 1.25],
  [0, 0.75, 1.5, -1.25],
  [0, 0, -0.75, 0.75],
];
const LINEAR: readonly (readonly number[])[] = [
  [1, -1],
  [0, 1],
];

const polynomial = (c: RuleContext, f: NodeId, powers: readonly number[]): NodeId =>
  powers
    .slice(0, -1)
    .reduceRight((sum, power) => plus(c, mul(c, sum, f), power), number(c, f, at(powers, powers.length - 1, "factor")));

type Mode = (c: RuleContext, x: NodeId, axis: Axis, padding: Padding) => readonly Tap[];

/** Neighbours from `first` places after the one before the sample, with a polynomial of its distance each. */
const interpolated =
  (first: number, weights: readonly (readonly number[])[]): Mode =>
  (c, x, axis, padding) => {
    const before = op(c, "floor", [x]);
    const f = sub(c, x, before);
    return weights.map((powers, i) => ({
      place: padding(c, plus(c, before, first + i), axis),
      weight: polynomial(c, f, powers),
    }));
  };

const MODES: Readonly<Record<string, Mode>> = {
  nearest: (c, x, axis, padding) => [{ place: padding(c, op(c, "round", [x]), axis), weight: number(c, x, 1) }],
  linear: interpolated(0, LINEAR),
  cubic: interpolated(-1, CUBIC),
};

/** The most weights of all samples. */
const LARGEST = 2 ** 24;

/** x [N, C, ..] at the coordinates [N, .., axes], from -1 to 1, the last axis first. */
function gridSample(c: RuleContext): NodeId {
  const [x, grid] = [operand(c, 0), operand(c, 1)];
  wantFloat(c, x);
  const [batch = 1, channels = 1, ...lengths] = shapeOf(c, x);
  const out = shapeOf(c, grid).slice(1, -1);
  const axes = lengths.length;
  if (axes === 0) reject(c, "LPU1012", `expected axes to sample, got [${shapeOf(c, x).join(",")}]`);
  if (rankOf(c, grid) !== axes + 2 || extent(c, grid, -1) !== axes || extent(c, grid, 0) !== batch)
    reject(
      c,
      "LPU1012",
      `expected a grid [${batch}, .., ${axes}] of ${axes + 2} axes, got [${shapeOf(c, grid).join(",")}]`,
    );
  const mode = text(c, "mode", "linear").replace("bilinear", "linear").replace("bicubic", "cubic");
  const [taps, padding] = [MODES[mode], PADDINGS[text(c, "padding_mode", "zeros")]];
  if (taps === undefined || padding === undefined)
    return reject(c, "LPU1008", "expected a known mode and padding_mode");
  const [samples, elements] = [count(out), count(lengths)];
  if (batch * samples * elements > LARGEST)
    unsupported(
      c,
      `${batch * samples} samples of ${elements} elements are not supported`,
      `their product is at most ${LARGEST}`,
    );
  const corners = flag(c, "align_corners");
  // Axes come first, so that coordinates lie apart and no move rounds them.
  const flat = transpose(c, reshape(c, cast(c, grid, "f32"), [batch, samples, axes]), [2, 0, 1]);
  const rows = lengths.map((length, i) => {
    const moved = plus(c, reshape(c, sliceAxis(c, flat, 0, axes - 1 - i, 1), [batch, samples, 1]), 1);
    const coordinate = corners
      ? times(c, times(c, moved, 0.5), length - 1)
      : times(c, plus(c, times(c, moved, length), -1), 0.5);
    const axis = corners ? { length, lo: 0, hi: length - 1 } : { length, lo: -0.5, hi: length - 0.5 };
    const places = c.graph.numbers("f32", [1, 1, length], iota(length));
    const sum = taps(c, coordinate, axis, padding)
      .map(({ place, weight }) => select(c, op(c, "eq", [place, places]), weight, number(c, coordinate, 0)))
      .reduce((total, part) => add(c, total, part));
    return reshape(c, sum, [batch, samples, ...lengths.map((own, j) => (j === i ? own : 1))]);
  });
  const weights = rows.reduce((product, row) => mul(c, product, row));
  const product = op(c, "matmul", [
    reshape(c, x, [batch, channels, elements]),
    swapLast(c, cast(c, reshape(c, weights, [batch, samples, elements]), dtypeOf(c, x))),
  ]);
  return reshape(c, product, [batch, channels, ...out]);
}

const row: Rule = {
  op: "GridSample",
  doc: "A product with weights that are made by comparing the places of neighbours with all places; elements are finite.",
  refuses: "Integers, and more than 2^24 weights, of which each sample has one for each element.",
  build: gridSample,
};

export const SAMPLE: readonly Rule[] = [row, { ...row, domain: "com.microsoft" }];
