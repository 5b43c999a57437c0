/**
 * Import rules of operators over images that are written in terms of others: transposed convolutions, the columns of one put
 * back to their places, sampling grids, and what is cut or padded around the middle.
 */

import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import {
  add,
  axisIn,
  count,
  dtypeOf,
  extent,
  flag,
  int,
  ints,
  iota,
  numbersOf,
  op,
  operand,
  optional,
  intsFor,
  stepsFor,
  optionalInts,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalarLike,
  shapeOf,
  swapLast,
  text,
  transpose,
  unsupported,
} from "../rule.js";

/** How the places of the operand are spread over those of the result; by spatial axis. */
interface Spread {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Elements of the result that are left out before and after. */
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly group: number;
}

const ones = (list: readonly number[]): number[] => list.map(() => 1);

/** Zeros between the elements of the spatial axes, `strides` - 1 of them. */
function spreadOut(c: RuleContext, x: NodeId, strides: readonly number[]): NodeId {
  const spread = strides.map((stride, i) => (extent(c, x, i + 2) - 1) * stride + 1);
  const own = shapeOf(c, x);
  const [lead, spatial] = [own.slice(0, 2), own.slice(2)];
  const apart = reshape(c, x, [...lead, ...spatial.flatMap((size) => [size, 1])]);
  const zeros = (list: readonly number[]): number[] => [0, 0, ...list.flatMap((amount) => [0, amount])];
  const padded = op(c, "pad", [apart], {
    before: zeros(strides.map(() => 0)),
    after: zeros(strides.map((stride) => stride - 1)),
    value: 0,
    mode: "constant",
  });
  const joined = reshape(c, padded, [...lead, ...spatial.map((size, i) => size * at(strides, i, "stride"))]);
  return op(c, "slice", [joined], {
    starts: own.map(() => 0),
    sizes: [...lead, ...spread],
    strides: ones(own),
  });
}

/** The convolution of spread operands with the turned kernel: w [C, M / group, ...]. */
function transposedConvolution(c: RuleContext, x: NodeId, w: NodeId, s: Spread, bias?: NodeId): NodeId {
  const [channels = 1, filters = 1] = shapeOf(c, w);
  const grouped = reshape(c, w, [s.group, channels / s.group, filters, ...s.kernel]);
  const swapped = transpose(c, grouped, [0, 2, 1, ...s.kernel.map((_, i) => i + 3)]);
  const exchanged = reshape(c, swapped, [s.group * filters, channels / s.group, ...s.kernel]);
  const turned = op(c, "slice", [exchanged], {
    starts: [0, 0, ...s.kernel.map((size) => size - 1)],
    sizes: shapeOf(c, exchanged),
    strides: [1, 1, ...s.kernel.map(() => -1)],
  });
  const wide = spreadOut(c, x, s.strides);
  const reach = s.kernel.map((size, i) => (size - 1) * at(s.dilations, i, "dilation"));
  const room = (sides: readonly number[]): number[] => reach.map((own, i) => own - at(sides, i, "pad"));
  const [before, after] = [room(s.before), room(s.after)];
  const cut = op(c, "slice", [wide], {
    starts: [0, 0, ...before.map((amount) => Math.max(0, -amount))],
    sizes: shapeOf(c, wide).map((own, i) =>
      i < 2 ? own : own + Math.min(0, at(before, i - 2, "pad")) + Math.min(0, at(after, i - 2, "pad")),
    ),
    strides: ones(shapeOf(c, wide)),
  });
  return op(c, "conv", bias === undefined ? [cut, turned] : [cut, turned, bias], {
    strides: ones(s.kernel),
    pads: [...before, ...after].map((amount) => Math.max(0, amount)),
    dilations: s.dilations,
    group: s.group,
  });
}

function convTranspose(c: RuleContext): NodeId {
  const [x, w] = [operand(c, 0), operand(c, 1)];
  const kernel = shapeOf(c, w).slice(2);
  if (rankOf(c, x) !== rankOf(c, w) || kernel.length === 0)
    reject(c, "LPU1012", `expected operands of one rank of 3 or more, got ${rankOf(c, x)} and ${rankOf(c, w)}`);
  const strides = stepsFor(c, "strides", kernel.length);
  const dilations = stepsFor(c, "dilations", kernel.length);
  const more = intsFor(c, "output_padding", kernel.length, 0);
  const natural = kernel.map(
    (size, i) => at(strides, i, "stride") * (extent(c, x, i + 2) - 1) + (size - 1) * at(dilations, i, "dilation") + 1,
  );
  const { before, after } = leftOut(c, x, natural, strides, more);
  return transposedConvolution(
    c,
    x,
    w,
    { kernel, strides, dilations, before, after, group: int(c, "group", 1) },
    optional(c, 2),
  );
}

/** Pads, from which `output_padding` takes at the end; given, or what makes the length that is asked for. */
function leftOut(
  c: RuleContext,
  x: NodeId,
  natural: readonly number[],
  strides: readonly number[],
  more: readonly number[],
): { readonly before: readonly number[]; readonly after: readonly number[] } {
  const auto = text(c, "auto_pad", "NOTSET");
  const isSame = auto === "SAME_UPPER" || auto === "SAME_LOWER";
  const asked = optionalInts(c, "output_shape")?.slice(-natural.length);
  const wanted = asked ?? (isSame ? strides.map((stride, i) => stride * extent(c, x, i + 2)) : undefined);
  const pads = intsFor(c, "pads", 2 * natural.length, 0);
  if (wanted === undefined) {
    const given = auto === "VALID" ? natural.flatMap(() => [0, 0]) : pads;
    return {
      before: natural.map((_, i) => at(given, i, "pad")),
      after: natural.map((_, i) => at(given, i + natural.length, "pad") - at(more, i, "pad")),
    };
  }
  const total = natural.map((size, i) => Math.max(0, size + at(more, i, "pad") - at(wanted, i, "extent")));
  const before = total.map((sum) => (auto === "SAME_UPPER" ? Math.floor(sum / 2) : Math.ceil(sum / 2)));
  return { before, after: natural.map((size, i) => size - at(wanted, i, "extent") - at(before, i, "pad")) };
}

/** Columns [N, C x places of the kernel, L] added up at their places: a transposed convolution by ones. */
function col2Im(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const image = numbersOf(c, operand(c, 1), "image_shape");
  const kernel = numbersOf(c, operand(c, 2), "block_shape");
  const strides = stepsFor(c, "strides", kernel.length);
  const dilations = stepsFor(c, "dilations", kernel.length);
  const pads = intsFor(c, "pads", 2 * kernel.length, 0);
  const [batch = 1, columns = 1, length = 1] = shapeOf(c, x);
  const taps = count(kernel);
  const reach = kernel.map((size, i) => (size - 1) * at(dilations, i, "dilation") + 1);
  const padded = image.map((size, i) => size + at(pads, i, "pad") + at(pads, i + kernel.length, "pad"));
  const places = padded.map((size, i) => Math.floor((size - at(reach, i, "reach")) / at(strides, i, "stride")) + 1);
  if (columns % taps !== 0 || count(places) !== length)
    reject(c, "LPU1012", `expected ${taps} x C columns of ${count(places)} blocks, got ${columns} of ${length}`);
  const blocks = reshape(c, x, [batch, columns, ...places]);
  const hot = iota(columns * taps).map((i) => (Math.floor(i / taps) % taps === i % taps ? 1 : 0));
  const w = c.graph.numbers(dtypeOf(c, x), [columns, 1, ...kernel], hot);
  const natural = places.map((own, i) => (own - 1) * at(strides, i, "stride") + at(reach, i, "reach"));
  const before = kernel.map((_, i) => at(pads, i, "pad"));
  const after = natural.map((size, i) => size - at(image, i, "extent") - at(before, i, "pad"));
  // Columns of one channel are one group.
  const group = columns / taps;
  return transposedConvolution(c, blocks, w, { kernel, strides, dilations, before, after, group });
}

/** Coordinates from -1 to 1, at the ends of the axis or at the middles of its elements. */
const coordinates = (size: number, atEnds: boolean): number[] =>
  iota(size).map((i) => (atEnds ? -1 + (2 * i) / (size - 1) : (2 * i + 1) / size - 1));

/** The product of the places of a grid, the last axis first, with each matrix. */
function affineGrid(c: RuleContext): NodeId {
  const theta = operand(c, 0);
  const [batch = 1, , ...space] = numbersOf(c, operand(c, 1), "size");
  const atEnds = flag(c, "align_corners");
  if (atEnds && space.includes(1)) unsupported(c, "'align_corners' of an axis of one element is not supported");
  const along = space.map((size) => coordinates(size, atEnds));
  const width = space.length + 1;
  const places = count(space);
  const strides = space.map((_, axis) => count(space.slice(axis + 1)));
  const grid = iota(places * width).map((i) => {
    const [place, column] = [Math.floor(i / width), i % width];
    const axis = space.length - 1 - column;
    if (axis < 0) return 1;
    const element = Math.floor(place / at(strides, axis, "stride")) % at(space, axis, "extent");
    return at(at(along, axis, "axis"), element, "coordinate");
  });
  const base = c.graph.numbers(dtypeOf(c, theta), [1, places, width], grid);
  return reshape(c, op(c, "matmul", [base, swapLast(c, theta)]), [batch, ...space, space.length]);
}

/** Each axis is cut to its middle, or padded with zeros around it. */
function centerCropPad(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const own = shapeOf(c, x);
  const wanted = numbersOf(c, operand(c, 1), "shape");
  const axes = ints(c, "axes", iota(own.length)).map((axis) => axisIn(c, axis, own.length));
  if (axes.length !== wanted.length) reject(c, "LPU1012", `expected ${axes.length} extents, got ${wanted.length}`);
  const shape = own.map((size, axis) => (axes.includes(axis) ? at(wanted, axes.indexOf(axis), "extent") : size));
  const cut = op(c, "slice", [x], {
    starts: own.map((size, axis) => Math.max(0, Math.floor((size - at(shape, axis, "extent")) / 2))),
    sizes: own.map((size, axis) => Math.min(size, at(shape, axis, "extent"))),
    strides: ones(own),
  });
  const missing = own.map((size, axis) => Math.max(0, at(shape, axis, "extent") - size));
  const before = missing.map((amount) => Math.floor(amount / 2));
  return op(c, "pad", [cut], {
    before,
    after: missing.map((amount, axis) => amount - at(before, axis, "pad")),
    value: 0,
    mode: "constant",
  });
}

/** Each batch's first elements along the time axis in reverse order; how many is a number of its own. */
function reverseSequence(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const [time, batch] = [int(c, "time_axis", 0), int(c, "batch_axis", 1)];
  if (time + batch !== 1 || time * batch !== 0)
    return reject(c, "LPU1008", `expected the axes 0 and 1, got ${time} and ${batch}`);
  const perm = iota(rankOf(c, x)).map((axis) => (axis < 2 && time === 0 ? 1 - axis : axis));
  const rows = transpose(c, x, perm);
  const [batches, length] = [extent(c, rows, 0), extent(c, rows, 1)];
  const lengths = reshape(c, op(c, "cast", [operand(c, 1)], { to: "i32" }), [batches, 1]);
  const places = c.graph.numbers("i32", [1, length], iota(length));
  const reversed = op(c, "sub", [add(c, lengths, scalarLike(c, lengths, -1)), places]);
  const from = op(c, "select", [op(c, "lt", [places, lengths]), reversed, places]);
  const taken = op(c, "gather_nd", [rows, reshape(c, from, [batches, length, 1])], { batchDims: 1 });
  return transpose(c, taken, perm);
}

export const SPATIAL: readonly Rule[] = [
  {
    op: "ConvTranspose",
    doc: "The operation conv of the operand with zeros between its elements, by the turned kernel.",
    ignores: {
      kernel_shape: "the shape of the weights says it",
      pads: "read where no length is asked for",
      output_padding: "read with the pads",
    },
    build: convTranspose,
  },
  { op: "Col2Im", doc: "As ConvTranspose, by kernels with a single one.", build: col2Im },
  {
    op: "AffineGrid",
    doc: "A matmul with a constant grid.",
    refuses: "Corners aligned along an axis of one element.",
    build: affineGrid,
  },
  { op: "CenterCropPad", doc: "A slice and a pad.", build: centerCropPad },
  { op: "ReverseSequence", doc: "The operation gather_nd.", build: reverseSequence },
];
