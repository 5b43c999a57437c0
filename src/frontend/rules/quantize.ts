/**
 * Import rules of quantization: conversions between numbers and integers with a scale and a zero point, products and layers of
 * quantized operands, and weights of few bits in blocks.
 *
 * A quantized value q stands for (q - zero point) * scale. Products are made of the differences, in i32, so their sums are
 * exact; a result is quantized again as round(x) + zero point within the limits of its type. Numbers
 * of constants are known and stay apart from their integers and scales until products have seen these (passes/graph/quantized.ts).
 */

import { at } from "../../diagnostics.js";
import { type DType, isFp8 } from "../../ir/dtype.js";
import type { NodeId } from "../../ir/graph.js";
import { isFloat, isInteger } from "../../ir/tensor.js";
import {
  add,
  axisIn,
  cast,
  concat,
  count,
  dtypeOf,
  expand,
  extent,
  flag,
  float,
  has,
  int,
  iota,
  mul,
  numbersOf,
  op,
  operand,
  optional,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  scale,
  select,
  shapeOf,
  sliceAxis,
  sub,
  swapLast,
  transpose,
  unsupported,
} from "../rule.js";
import { elementType } from "../tensors.js";
import { matmul } from "./matmul.js";
import { averagePool, convolution } from "./nn.js";
import { softmaxFrom } from "./reduce.js";

/* ---------- scales and zero points ---------- */

/** Which elements of a tensor share a scale: all of an index of `axis`, or runs of `block` along it. */
interface Granularity {
  readonly axis: number;
  /** 0: one scale for each index. */
  readonly block: number;
}

const granularity = (c: RuleContext): Granularity => ({ axis: int(c, "axis", 1), block: int(c, "block_size", 0) });

/** A scale or zero point of one element, of one axis, or of blocks, in a shape that broadcasts to x. */
function spread(c: RuleContext, x: NodeId, parameter: NodeId, { axis, block }: Granularity): NodeId {
  const [extents, own] = [shapeOf(c, x), shapeOf(c, parameter)];
  if (block === 0 && count(own) === 1 && own.length <= 1) return reshape(c, parameter, []);
  const along = axisIn(c, axis, extents.length);
  if (block === 0) {
    if (own.length !== 1 || own[0] !== extents[along])
      reject(c, "LPU1012", `expected one scale, or one for each of ${extents[along]}, got [${own.join(",")}]`);
    return reshape(
      c,
      parameter,
      extents.map((_, i) => (i === along ? at(own, 0, "extent") : 1)),
    );
  }
  const blocks = extents.map((size, i) => (i === along ? Math.ceil(size / block) : size));
  if (own.length !== blocks.length || own.some((size, i) => size !== blocks[i]))
    reject(c, "LPU1012", `expected scales [${blocks.join(",")}] for blocks of ${block}, got [${own.join(",")}]`);
  return repeated(c, parameter, along, block, at(extents, along, "extent"));
}

/** Every element of an axis `times` times, and of all these the first `size`. */
function repeated(c: RuleContext, x: NodeId, axis: number, times: number, size: number): NodeId {
  const shape = shapeOf(c, x);
  const apart = reshape(c, x, [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)]);
  const filled = expand(c, apart, [...shape.slice(0, axis + 1), times, ...shape.slice(axis + 1)]);
  const joined = reshape(
    c,
    filled,
    shape.map((own, i) => (i === axis ? own * times : own)),
  );
  return sliceAxis(c, joined, axis, 0, size);
}

/** q - zero point, in i32, which holds every difference of narrower integers. */
function centered(c: RuleContext, q: NodeId, zero: NodeId | undefined): NodeId {
  const whole = cast(c, q, "i32");
  return zero === undefined ? whole : sub(c, whole, cast(c, zero, "i32"));
}

/** (q - zero point) * scale in fp32; both broadcast to q. */
function dequantized(c: RuleContext, q: NodeId, factor: NodeId, zero: NodeId | undefined): NodeId {
  const value = isInteger(dtypeOf(c, q)) ? cast(c, centered(c, q, zero), "f32") : cast(c, q, "f32");
  return mul(c, value, cast(c, factor, "f32"));
}

/** round(x) + zero point, within the limits of the result's type. */
function quantized(c: RuleContext, x: NodeId, zero: NodeId | undefined, dtype: DType): NodeId {
  const steps = op(c, "round", [x]);
  return cast(c, zero === undefined ? steps : add(c, steps, cast(c, zero, "f32")), dtype);
}

/* ---------- QuantizeLinear and its kin ---------- */

function quantizeLinear(c: RuleContext): NodeId {
  const [x, factor] = [operand(c, 0), operand(c, 1)];
  const shares = granularity(c);
  const zero = optional(c, 2);
  const named = int(c, "output_dtype", 0);
  const dtype =
    zero !== undefined ? dtypeOf(c, zero) : named === 0 ? "u8" : elementType(named, `the result of ${c.label}`).dtype;
  if (!isInteger(dtype) && !isFp8(dtype)) unsupported(c, `expected integers or FP8 as the result, got ${dtype}`);
  const saturates = flag(c, "saturate", true);
  if (isFp8(dtype) && !saturates)
    unsupported(c, "saturate = 0 is not supported", "values beyond the range of FP8 saturate");
  const exact = int(c, "precision", 0);
  const within = exact === 0 ? "f32" : elementType(exact, `the quotient of ${c.label}`).dtype;
  const quotient = op(c, "div", [cast(c, x, within), cast(c, spread(c, x, factor, shares), within)]);
  if (isFp8(dtype)) {
    const isZero = zero === undefined || numbersOf(c, zero, "y_zero_point").every((point) => point === 0);
    if (!isZero) unsupported(c, "expected zero as the zero point of FP8");
    return cast(c, cast(c, quotient, "f32"), dtype);
  }
  return quantized(c, cast(c, quotient, "f32"), zero === undefined ? zero : spread(c, x, zero, shares), dtype);
}

function dequantizeLinear(c: RuleContext): NodeId {
  const [x, factor] = [operand(c, 0), operand(c, 1)];
  const shares = granularity(c);
  const named = int(c, "output_dtype", 0);
  const dtype = named === 0 ? dtypeOf(c, factor) : elementType(named, `the result of ${c.label}`).dtype;
  if (!isFloat(dtype)) unsupported(c, `expected floats as the result, got ${dtype}`);
  const zero = has(c, 2) ? spread(c, x, operand(c, 2), shares) : undefined;
  const scales = spread(c, x, factor, shares);
  return cast(
    c,
    c.graph.unfolded(() => dequantized(c, x, scales, zero)),
    dtype,
  );
}

/** The operators of TensorRT have E4M3, one scale, and no zero point. */
const trtQuantize = (c: RuleContext): NodeId =>
  cast(c, op(c, "div", [cast(c, operand(c, 0), "f32"), cast(c, trtScale(c), "f32")]), "f8e4m3");

function trtDequantize(c: RuleContext): NodeId {
  const [x, factor] = [operand(c, 0), trtScale(c)];
  if (!isFp8(dtypeOf(c, x))) unsupported(c, `expected FP8, got ${dtypeOf(c, x)}`);
  return cast(
    c,
    c.graph.unfolded(() => dequantized(c, x, factor, undefined)),
    dtypeOf(c, factor),
  );
}

const trtScale = (c: RuleContext): NodeId => spread(c, operand(c, 0), operand(c, 1), { axis: 0, block: 0 });

interface Quantized {
  readonly q: NodeId;
  readonly factor: NodeId;
  readonly zero: NodeId;
}

/** In 256 steps from the least to the greatest element, with a step at 0; a tensor of zeros has the scale 1. */
function quantizedByRange(c: RuleContext, x: NodeId): Quantized {
  const axes = iota(rankOf(c, x));
  const zero = scalar(c, "f32", 0);
  const least = op(c, "min", [reduce(c, "min", x, axes, false), zero]);
  const most = op(c, "max", [reduce(c, "max", x, axes, false), zero]);
  const isEmpty = op(c, "eq", [least, most]);
  const step = op(c, "div", [sub(c, most, least), scalar(c, "f32", 255)]);
  const factor = select(c, isEmpty, scalar(c, "f32", 1), step);
  const point = quantized(c, op(c, "div", [op(c, "neg", [least]), factor]), undefined, "u8");
  return { q: quantized(c, op(c, "div", [x, factor]), point, "u8"), factor, zero: point };
}

function dynamicQuantizeLinear(c: RuleContext): readonly NodeId[] {
  const { q, factor, zero } = quantizedByRange(c, operand(c, 0));
  return [q, factor, zero];
}

/* ---------- products ---------- */

/** A parameter of rows ([M], or in the rank of the operand) or of columns ([N]). */
const ofRows = (c: RuleContext, parameter: NodeId | undefined): NodeId | undefined =>
  parameter !== undefined && rankOf(c, parameter) === 1 && extent(c, parameter, 0) > 1
    ? reshape(c, parameter, [extent(c, parameter, 0), 1])
    : parameter;
/** One element without axes, so that a product keeps its own rank. */
const unit = (c: RuleContext, parameter: NodeId): NodeId =>
  count(shapeOf(c, parameter)) === 1 ? reshape(c, parameter, []) : parameter;
const unitOf = (c: RuleContext, index: number): NodeId => unit(c, operand(c, index));
const optionalUnit = (c: RuleContext, index: number): NodeId | undefined =>
  has(c, index) ? unitOf(c, index) : undefined;

/** Sums of (a - its zero point) * (b - its zero point), in i32. */
const integerProduct = (
  c: RuleContext,
  [a, zeroA]: readonly [NodeId, NodeId | undefined],
  [b, zeroB]: readonly [NodeId, NodeId | undefined],
): NodeId => matmul(c, centered(c, a, ofRows(c, zeroA)), centered(c, b, zeroB));

const matmulInteger = (c: RuleContext): NodeId =>
  integerProduct(c, [operand(c, 0), optionalUnit(c, 2)], [operand(c, 1), optionalUnit(c, 3)]);

/** Sums times `factor`, quantized for the result. */
const requantized = (c: RuleContext, sums: NodeId, factor: NodeId, zero: NodeId): NodeId =>
  quantized(c, mul(c, cast(c, sums, "f32"), cast(c, factor, "f32")), zero, dtypeOf(c, zero));

function qlinearMatmul(c: RuleContext): NodeId {
  const sums = integerProduct(c, [operand(c, 0), unitOf(c, 2)], [operand(c, 3), unitOf(c, 5)]);
  const scaleOfA = ofRows(c, unitOf(c, 1)) ?? unitOf(c, 1);
  const factor = op(c, "div", [mul(c, scaleOfA, unitOf(c, 4)), unitOf(c, 6)]);
  return requantized(c, sums, factor, unitOf(c, 7));
}

function matmulIntegerToFloat(c: RuleContext): NodeId {
  const sums = integerProduct(c, [operand(c, 0), optionalUnit(c, 4)], [operand(c, 1), optionalUnit(c, 5)]);
  return scaledSums(c, sums, mul(c, unitOf(c, 2), unitOf(c, 3)), optional(c, 6));
}

function dynamicQuantizeMatmul(c: RuleContext): NodeId {
  const a = quantizedByRange(c, operand(c, 0));
  const sums = integerProduct(c, [a.q, a.zero], [operand(c, 1), optionalUnit(c, 3)]);
  return scaledSums(c, sums, mul(c, a.factor, unitOf(c, 2)), optional(c, 4));
}

function scaledSums(c: RuleContext, sums: NodeId, factor: NodeId, bias: NodeId | undefined): NodeId {
  const product = cast(c, mul(c, cast(c, sums, "f32"), cast(c, factor, "f32")), dtypeOf(c, factor));
  return bias === undefined ? product : add(c, product, bias);
}

/** Without a scale of the result it is fp32. */
function qgemm(c: RuleContext): NodeId {
  const [a, b] = [centered(c, operand(c, 0), unitOf(c, 2)), centered(c, operand(c, 3), unitOf(c, 5))];
  const product = matmul(c, flag(c, "transA") ? swapLast(c, a) : a, flag(c, "transB") ? swapLast(c, b) : b);
  const sums = has(c, 6) ? add(c, product, operand(c, 6)) : product;
  const factor = scale(c, mul(c, unitOf(c, 1), unitOf(c, 4)), float(c, "alpha", 1));
  if (!has(c, 7)) return mul(c, cast(c, sums, "f32"), factor);
  return requantized(c, sums, op(c, "div", [factor, unitOf(c, 7)]), unitOf(c, 8));
}

/* ---------- convolutions ---------- */

/** A parameter of the filters, in the rank of the result; `axis`: where filters are. */
function ofFilters(c: RuleContext, parameter: NodeId, rank: number, axis: number): NodeId {
  const size = count(shapeOf(c, parameter));
  if (size === 1) return reshape(c, parameter, []);
  return reshape(
    c,
    parameter,
    iota(rank).map((i) => (i === axis ? size : 1)),
  );
}

/** Places outside of x hold its zero point, so that they add nothing. */
function convInteger(c: RuleContext): NodeId {
  const [x, w] = [operand(c, 0), operand(c, 1)];
  const zero = has(c, 3) ? ofFilters(c, operand(c, 3), rankOf(c, w), 0) : undefined;
  return convolution(c, centered(c, x, optionalUnit(c, 2)), centered(c, w, zero), undefined);
}

function qlinearConv(c: RuleContext): NodeId {
  const [x, w] = [operand(c, 0), operand(c, 3)];
  const zero = ofFilters(c, operand(c, 5), rankOf(c, w), 0);
  const sums = convolution(c, centered(c, x, unitOf(c, 2)), centered(c, w, zero), optional(c, 8));
  const factor = op(c, "div", [mul(c, unitOf(c, 1), ofFilters(c, operand(c, 4), rankOf(c, x), 1)), unitOf(c, 6)]);
  return requantized(c, sums, factor, unitOf(c, 7));
}

/* ---------- layers of quantized operands ---------- */

/** The operand at `index`, followed by its scale and zero point. */
const numbersAt = (c: RuleContext, index: number): NodeId =>
  dequantized(c, operand(c, index), unitOf(c, index + 1), optionalUnit(c, index + 2));
/** In the scale at `index`, and the zero point after it; without one it is 0, of the type of operand `like`. */
function quantizedAs(c: RuleContext, x: NodeId, index: number, like: number): NodeId {
  const zero = optionalUnit(c, index + 1);
  const dtype = dtypeOf(c, zero ?? operand(c, like));
  return quantized(c, op(c, "div", [x, unitOf(c, index)]), zero, dtype);
}

const withoutFlag = (c: RuleContext, name: string, x: NodeId): NodeId =>
  flag(c, name) ? unsupported(c, `attribute '${name}' is not supported`) : x;

/** What is computed of the numbers that one quantized operand stands for. */
const OF_ONE: Readonly<Record<string, (c: RuleContext, x: NodeId) => NodeId>> = {
  QLinearSigmoid: (c, x) => op(c, "sigmoid", [x]),
  QLinearLeakyRelu: (c, x) => select(c, op(c, "lt", [x, scalar(c, "f32", 0)]), scale(c, x, float(c, "alpha", 0.01)), x),
  QLinearSoftmax: (c, x) => softmaxFrom(c, x, int(c, "opset") >= 13),
  QLinearGlobalAveragePool: (c, x) => reduce(c, "mean", x, iota(rankOf(c, x)).slice(2), true),
  QLinearAveragePool: averagePool,
};
/** The same of two. */
const OF_TWO: Readonly<Record<string, (c: RuleContext, a: NodeId, b: NodeId) => NodeId>> = {
  QLinearAdd: add,
  QLinearMul: mul,
};

function qlinearConcat(c: RuleContext): NodeId {
  const parts = iota((c.operands.length - 2) / 3).map((i) => numbersAt(c, 3 * i + 2));
  const [first] = parts;
  if (first === undefined) return reject(c, "LPU1008", "expected one operand or more");
  return quantizedAs(c, concat(c, parts, axisIn(c, int(c, "axis"), rankOf(c, first))), 0, 2);
}

/* ---------- weights of few bits ---------- */

/** The integers of `bits` that lie in bytes, the first in the lowest bits, along the last axis: its first `size`. */
function unpacked(c: RuleContext, bytes: NodeId, bits: number, size: number): NodeId {
  const last = rankOf(c, bytes) - 1;
  const shape = shapeOf(c, bytes);
  const [perByte, values] = [8 / bits, scalar(c, "i32", 2 ** bits)];
  const whole = reshape(c, cast(c, bytes, "i32"), [...shape, 1]);
  const digits = iota(perByte).map((i) =>
    op(c, "mod", [i === 0 ? whole : op(c, "div", [whole, scalar(c, "i32", 2 ** (bits * i))]), values]),
  );
  const joined = reshape(c, concat(c, digits, last + 1), [...shape.slice(0, -1), at(shape, last, "extent") * perByte]);
  return sliceAxis(c, joined, last, 0, size);
}

const WEIGHT_BITS: readonly number[] = [2, 4, 8];
function weightBits(c: RuleContext): number {
  const bits = int(c, "bits", 4);
  return WEIGHT_BITS.includes(bits)
    ? bits
    : unsupported(c, `weights of ${bits} bits are not supported`, `supported are ${WEIGHT_BITS.join(", ")} bits`);
}

/** The zero points of blocks [N, blocks]: packed, one float for each, or the middle of the range. */
function zeroPoints(c: RuleContext, given: NodeId | undefined, bits: number, shape: readonly number[]): NodeId {
  if (given === undefined) return scalar(c, "f32", 2 ** (bits - 1));
  if (isFloat(dtypeOf(c, given))) return reshape(c, cast(c, given, "f32"), shape);
  const [rows = 1, blocks = 1] = shape;
  const bytes = reshape(c, given, [rows, Math.ceil((blocks * bits) / 8)]);
  return cast(c, unpacked(c, bytes, bits, blocks), "f32");
}

/**
 * a [.., K] by weights [N, blocks, bytes of a block], whose blocks along K have a scale and a zero point each; operand 4 says
 * for each place along K which of these are its own, where weights were put in another order than that of the blocks.
 */
function matmulNBits(c: RuleContext): NodeId {
  const [a, packed] = [operand(c, 0), operand(c, 1)];
  const [inner, columns, block, bits] = [int(c, "K"), int(c, "N"), int(c, "block_size"), weightBits(c)];
  const blocks = Math.ceil(inner / block);
  const weights = unpacked(c, reshape(c, packed, [columns, blocks, (block * bits) / 8]), bits, block);
  const groups = has(c, 4) ? sliceAxis(c, cast(c, operand(c, 4), "i32"), 0, 0, inner) : undefined;
  const flat = (x: NodeId): NodeId => sliceAxis(c, reshape(c, x, [columns, blocks * block]), 1, 0, inner);
  const own = (figures: NodeId): NodeId =>
    groups === undefined
      ? reshape(c, figures, [columns, blocks, 1])
      : op(c, "gather", [reshape(c, figures, [columns, blocks]), groups], { axis: 1 });
  const zero = zeroPoints(c, optional(c, 3), bits, [columns, blocks]);
  const numbers = cast(c, groups === undefined ? weights : flat(weights), "f32");
  const shifted = sub(c, numbers, rankOf(c, zero) === 0 ? zero : own(zero));
  const scaled = mul(c, shifted, own(cast(c, operand(c, 2), "f32")));
  const rows = groups === undefined ? flat(scaled) : scaled;
  const product = matmul(c, a, transpose(c, cast(c, rows, dtypeOf(c, a)), [1, 0]));
  return has(c, 5) ? add(c, product, operand(c, 5)) : product;
}

/** Slices of a quantized table: bytes may hold several elements along the last axis. */
function gatherBlockQuantized(c: RuleContext): NodeId {
  const [given, indices, factor] = [operand(c, 0), operand(c, 1), operand(c, 2)];
  const bits = weightBits(c);
  const rank = rankOf(c, given);
  const axis = axisIn(c, int(c, "quantize_axis", 1), rank);
  const [isBytes, last] = [dtypeOf(c, given) === "u8", rank - 1];
  const packs = isBytes && bits < 8;
  if (packs && axis !== last) unsupported(c, "bytes of several elements are supported along the last axis only");
  const whole = (x: NodeId, size: number): NodeId => (packs ? unpacked(c, x, bits, size) : x);
  const data = whole(given, (extent(c, given, last) * 8) / bits);
  const shares: Granularity = { axis, block: int(c, "block_size", 128) };
  const middle = isBytes ? scalar(c, "i32", 2 ** (bits - 1)) : undefined;
  const zero = has(c, 3) ? spread(c, data, whole(operand(c, 3), extent(c, factor, last)), shares) : middle;
  const table = cast(c, dequantized(c, data, spread(c, data, factor, shares), zero), dtypeOf(c, factor));
  return op(c, "gather", [table, cast(c, indices, "i32")], { axis: axisIn(c, int(c, "gather_axis", 0), rank) });
}

const NO_FLOATS = "Products of the integers less their zero points, in i32";

const standard: readonly Rule[] = [
  {
    op: "QuantizeLinear",
    doc: "Division by the scale, rounding, the zero point, and the limits of the integer type; scales of tensors, axes and blocks.",
    refuses: "Results in FP8 that do not saturate, and in float4e2m1.",
    build: quantizeLinear,
  },
  {
    op: "DequantizeLinear",
    doc: "The difference from the zero point times the scale, of tensors, axes and blocks; on constants it folds, but FP8 weights of a product stay FP8 where their scale does not vary within a sum.",
    refuses: "Results that are no floats.",
    build: dequantizeLinear,
  },
];

export const QUANTIZE: readonly Rule[] = [
  ...standard,
  ...standard.map((row) => ({ ...row, domain: "com.microsoft" })),
  {
    op: "DynamicQuantizeLinear",
    doc: "Least and greatest element, the scale and zero point between them, and the conversion to uint8.",
    build: dynamicQuantizeLinear,
  },
  {
    op: "TRT_FP8QuantizeLinear",
    domain: "trt",
    doc: "Division by the scale and rounding to E4M3, within its limits.",
    build: trtQuantize,
  },
  { op: "TRT_FP8DequantizeLinear", domain: "trt", doc: "Numbers of E4M3 times the scale.", build: trtDequantize },
  { op: "MatMulInteger", doc: `${NO_FLOATS}.`, build: matmulInteger },
  {
    op: "ConvInteger",
    doc: `${NO_FLOATS}.`,
    ignores: { kernel_shape: "the shape of the weights says it" },
    build: convInteger,
  },
  { op: "QLinearMatMul", doc: `${NO_FLOATS}, scaled and quantized again.`, build: qlinearMatmul },
  {
    op: "QLinearConv",
    doc: `${NO_FLOATS}, scaled and quantized again.`,
    ignores: { kernel_shape: "the shape of the weights says it" },
    build: qlinearConv,
  },
  ...[
    { op: "QLinearConcat", doc: "A join of what the operands stand for, quantized again.", build: qlinearConcat },
    { op: "MatMulIntegerToFloat", doc: `${NO_FLOATS}, scaled.`, build: matmulIntegerToFloat },
    {
      op: "DynamicQuantizeMatMul",
      doc: `The first operand quantized by its range; ${NO_FLOATS.toLowerCase()}, scaled.`,
      build: dynamicQuantizeMatmul,
    },
    { op: "QGemm", doc: `${NO_FLOATS}, scaled, and quantized where the result has a scale.`, build: qgemm },
    ...Object.entries(OF_ONE).map(([name, compute]) => ({
      op: name,
      doc: "Computed of the numbers that the operand stands for, and quantized again.",
      build: (c: RuleContext): NodeId =>
        quantizedAs(c, compute(c, withoutFlag(c, "channels_last", numbersAt(c, 0))), 3, 0),
    })),
    ...Object.entries(OF_TWO).map(([name, compute]) => ({
      op: name,
      doc: "Computed of the numbers that the operands stand for, and quantized again.",
      build: (c: RuleContext): NodeId => quantizedAs(c, compute(c, numbersAt(c, 0), numbersAt(c, 3)), 6, 0),
    })),
    {
      op: "MatMulNBits",
      doc: "A product with weights of 2, 4 or 8 bits in blocks, which fold to fp32.",
      refuses: "Weights of other than 2, 4 and 8 bits.",
      ignores: { accuracy_level: "products are of fp16 numbers in any case" },
      defaults: { weight_prepacked: 0 },
      build: matmulNBits,
    },
    {
      op: "GatherBlockQuantized",
      doc: "A gather from a quantized table, which folds to fp32.",
      refuses: "Bytes of several elements along an axis that is not the last.",
      build: gatherBlockQuantized,
    },
  ].map((row) => ({ ...row, domain: "com.microsoft" })),
];
