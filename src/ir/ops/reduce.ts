/**
 * Evaluation of reductions, running sums, softmax and normalizations.
 *
 * Sums run in float64 in ascending order of the reduced elements and are rounded once to the result's type. Softmax and the
 * normalizations compute in float64 between the operand and the one rounding of the result.
 */

import { at } from "../../diagnostics.js";
import { aluUnary } from "../functions.js";
import { type Attrs, elementCount, type Shape, type Tensor, type TensorType } from "../graph.js";
import { broadcastStrides, fromNumbers, isInteger, newNumbers, stridesOf, toNumbers } from "../tensor.js";
import { booleanAttr, intsAttr, numberAttr } from "./attributes.js";
import { forEachRow, type Binary } from "./elementwise.js";

export const REDUCTIONS = {
  sum: { start: 0, step: (sum, x) => sum + x },
  mean: { start: 0, step: (sum, x) => sum + x },
  max: { start: Number.NEGATIVE_INFINITY, step: Math.max },
  min: { start: Number.POSITIVE_INFINITY, step: Math.min },
  prod: { start: 1, step: (product, x) => product * x },
} satisfies Record<string, { readonly start: number; readonly step: Binary }>;
export type Reduction = keyof typeof REDUCTIONS;

export function reduce(kind: Reduction, x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const axes = intsAttr(attrs, "axes");
  const source = toNumbers(x);
  const kept = x.shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent));
  const wraps = kind === "prod" && isInteger(x.dtype);
  const step: Binary = wraps ? Math.imul : REDUCTIONS[kind].step;
  const sums = new Float64Array(elementCount(kept)).fill(REDUCTIONS[kind].start);
  const adds = kind === "sum" || kind === "mean";
  forEachRow(x.shape, [broadcastStrides(kept, x.shape)], (start, count, [to = 0], [advance = 0]) => {
    if (advance === 0 && adds && source instanceof Float32Array) {
      sums[to] = sumOfRow(source, start, count, sums[to] as number);
    } else if (advance === 0) {
      let sum = sums[to] as number;
      for (let n = 0; n < count; n += 1) sum = step(sum, source[start + n] as number);
      sums[to] = sum;
    } else {
      for (let n = 0; n < count; n += 1)
        sums[to + n * advance] = step(sums[to + n * advance] as number, source[start + n] as number);
    }
  });
  const size = axes.reduce((product, axis) => product * at(x.shape, axis, "extent"), 1);
  const out = newNumbers(type.dtype, sums.length);
  for (let i = 0; i < out.length; i += 1) out[i] = kind === "mean" ? (sums[i] as number) / size : (sums[i] as number);
  return fromNumbers(type.dtype, type.shape, out);
}

/** The sum with a loop of its own: rows of weights are added up by the million. */
function sumOfRow(source: Float32Array, start: number, count: number, before: number): number {
  let sum = before;
  for (let i = start; i < start + count; i += 1) sum += source[i] as number;
  return sum;
}

/** Visits the lines along an axis: offset of the first element, distance of elements. */
function forEachLine(shape: Shape, axis: number, visit: (offset: number, stride: number, line: number) => void): void {
  const stride = at(stridesOf(shape), axis, "stride");
  const extent = at(shape, axis, "extent");
  const lines = extent === 0 ? 0 : elementCount(shape) / extent;
  for (let line = 0; line < lines; line += 1) {
    const outer = Math.floor(line / stride);
    visit(outer * stride * extent + (line - outer * stride), stride, line);
  }
}

export function argmax(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const axis = numberAttr(attrs, "axis");
  const source = toNumbers(x);
  const extent = at(x.shape, axis, "extent");
  const out = newNumbers(type.dtype, elementCount(type.shape));
  forEachLine(x.shape, axis, (offset, stride, line) => {
    let best = 0;
    for (let n = 1; n < extent; n += 1)
      if ((source[offset + n * stride] as number) > (source[offset + best * stride] as number)) best = n;
    out[line] = best;
  });
  return fromNumbers(type.dtype, type.shape, out);
}

export function cumsum(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const [axis, exclusive, reverse] = [
    numberAttr(attrs, "axis"),
    booleanAttr(attrs, "exclusive"),
    booleanAttr(attrs, "reverse"),
  ];
  const source = toNumbers(x);
  const extent = at(x.shape, axis, "extent");
  const out = newNumbers(type.dtype, source.length);
  forEachLine(x.shape, axis, (offset, stride) => {
    let sum = 0;
    for (let n = 0; n < extent; n += 1) {
      const at = offset + (reverse ? extent - 1 - n : n) * stride;
      const before = sum;
      sum += source[at] as number;
      out[at] = exclusive ? before : sum;
    }
  });
  return fromNumbers(type.dtype, type.shape, out);
}

/** Softmax of one line, in place in float64; its log if `log`. */
export function softmaxLine(line: Float64Array, log: boolean): void {
  let most = Number.NEGATIVE_INFINITY;
  for (const value of line) most = Math.max(most, value);
  let sum = 0;
  for (let n = 0; n < line.length; n += 1) {
    const shifted = (line[n] as number) - most;
    const grown = aluUnary.exp(shifted);
    sum += grown;
    line[n] = log ? shifted : grown;
  }
  const total = log ? Math.log(sum) : sum;
  for (let n = 0; n < line.length; n += 1) line[n] = log ? (line[n] as number) - total : (line[n] as number) / total;
}

export function softmax(x: Tensor, attrs: Attrs, type: TensorType, log: boolean): Tensor {
  const axis = numberAttr(attrs, "axis");
  const source = toNumbers(x);
  const line = new Float64Array(at(x.shape, axis, "extent"));
  const out = newNumbers(type.dtype, source.length);
  forEachLine(x.shape, axis, (offset, stride) => {
    for (let n = 0; n < line.length; n += 1) line[n] = source[offset + n * stride] as number;
    softmaxLine(line, log);
    for (let n = 0; n < line.length; n += 1) out[offset + n * stride] = line[n] as number;
  });
  return fromNumbers(type.dtype, type.shape, out);
}

/** (x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis`; `centered` false leaves the mean out (RMS). */
export function normalize(
  inputs: { readonly x: Tensor; readonly scale: Tensor; readonly bias?: Tensor },
  attrs: Attrs,
  type: TensorType,
  centered: boolean,
): Tensor {
  const inner = inputs.x.shape.slice(numberAttr(attrs, "axis"));
  const epsilon = numberAttr(attrs, "epsilon");
  const source = toNumbers(inputs.x);
  const scale = spread(inputs.scale, inner);
  const bias = inputs.bias === undefined ? undefined : spread(inputs.bias, inner);
  const width = elementCount(inner);
  const out = newNumbers(type.dtype, source.length);
  for (let start = 0; start < source.length; start += width) {
    let mean = 0;
    for (let n = 0; centered && n < width; n += 1) mean += source[start + n] as number;
    mean /= width;
    let squares = 0;
    for (let n = 0; n < width; n += 1) squares += ((source[start + n] as number) - mean) ** 2;
    const factor = 1 / Math.sqrt(squares / width + epsilon);
    for (let n = 0; n < width; n += 1)
      out[start + n] =
        ((source[start + n] as number) - mean) * factor * (scale[n] as number) +
        (bias === undefined ? 0 : (bias[n] as number));
  }
  return fromNumbers(type.dtype, type.shape, out);
}

/** Values of a tensor, broadcast to a shape. */
function spread(tensor: Tensor, shape: Shape): Float64Array {
  const source = toNumbers(tensor);
  const out = new Float64Array(elementCount(shape));
  forEachRow(shape, [broadcastStrides(tensor.shape, shape)], (start, count, [from = 0], [step = 0]) => {
    for (let n = 0; n < count; n += 1) out[start + n] = source[from + n * step] as number;
  });
  return out;
}
