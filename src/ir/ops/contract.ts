/**
 * Evaluation of contractions: matmul, convolution (as a matmul of gathered patches) and attention.
 *
 * An output is one float64 chain over the contracted elements in ascending order from +0, rounded once to fp32 and then to
 * the result's type; integers are exact modulo 2^32. The inner kernel makes a tile of 2 x 4 outputs from rows of a and
 * columns of b that were packed side by side, which keeps eight chains in registers.
 */

import { at } from "../../diagnostics.js";
import { type Attrs, elementCount, type Shape, type Tensor, type TensorType } from "../graph.js";
import { broadcastStrides, fromNumbers, type Numbers, newNumbers, stridesOf, toNumbers } from "../tensor.js";
import { booleanAttr, intsAttr, numberAttr } from "./attributes.js";
import { forEachRow } from "./elementwise.js";
import { softmaxLine } from "./reduce.js";

interface Product {
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

/** out[m, n] at `to`, zero so far, from a[m, k] at `fromA` and b[k, n] at `fromB`; storing an integer sum wraps it. */
function multiply(
  a: Numbers,
  fromA: number,
  b: Numbers,
  fromB: number,
  out: Numbers,
  to: number,
  { m, k, n }: Product,
): void {
  if (out instanceof Float32Array) {
    multiplyFloats(a, fromA, b, fromB, out, to, { m, k, n });
    return;
  }
  for (let i = 0; i < m; i += 1) {
    const row = to + i * n;
    for (let x = 0; x < k; x += 1) {
      const factor = a[fromA + i * k + x] as number;
      const from = fromB + x * n;
      for (let j = 0; j < n; j += 1) {
        out[row + j] = (out[row + j] as number) + Math.imul(factor, b[from + j] as number);
      }
    }
  }
}

function multiplyFloats(
  a: Numbers,
  fromA: number,
  b: Numbers,
  fromB: number,
  out: Float32Array,
  to: number,
  { m, k, n }: Product,
): void {
  const height = m + (m & 1);
  const rows = new Float64Array(height * k);
  rows.set(a.subarray(fromA, fromA + m * k));
  const panel = new Float64Array(4 * k);
  const sums = new Float64Array(height * 4);
  for (let j = 0; j < n; j += 4) {
    const width = Math.min(4, n - j);
    for (let x = 0; x < k; x += 1) {
      for (let c = 0; c < width; c += 1) panel[4 * x + c] = b[fromB + x * n + j + c] as number;
    }
    multiplyPanel(rows, panel, sums, k);
    for (let i = 0; i < m; i += 1) {
      for (let c = 0; c < width; c += 1) out[to + i * n + j + c] = sums[4 * i + c] as number;
    }
  }
}

/** All rows, in pairs, times four columns. */
function multiplyPanel(rows: Float64Array, panel: Float64Array, sums: Float64Array, k: number): void {
  for (let i = 0; i < sums.length >> 2; i += 2) {
    let [s00, s01, s02, s03, s10, s11, s12, s13] = [0, 0, 0, 0, 0, 0, 0, 0];
    const first = i * k;
    const second = first + k;
    for (let x = 0, p = 0; x < k; x += 1, p += 4) {
      const a0 = rows[first + x] as number;
      const a1 = rows[second + x] as number;
      const b0 = panel[p] as number;
      const b1 = panel[p + 1] as number;
      const b2 = panel[p + 2] as number;
      const b3 = panel[p + 3] as number;
      s00 += a0 * b0;
      s01 += a0 * b1;
      s02 += a0 * b2;
      s03 += a0 * b3;
      s10 += a1 * b0;
      s11 += a1 * b1;
      s12 += a1 * b2;
      s13 += a1 * b3;
    }
    const at = 4 * i;
    sums[at] = s00;
    sums[at + 1] = s01;
    sums[at + 2] = s02;
    sums[at + 3] = s03;
    sums[at + 4] = s10;
    sums[at + 5] = s11;
    sums[at + 6] = s12;
    sums[at + 7] = s13;
  }
}

export function matmul(a: Tensor, b: Tensor, type: TensorType): Tensor {
  const [m = 1, k = 1] = a.shape.slice(-2);
  const n = at(b.shape, b.shape.length - 1, "extent");
  const batch = type.shape.slice(0, -2);
  const [left, right] = [toNumbers(a), toNumbers(b)];
  const out = newNumbers(type.dtype, elementCount(type.shape));
  const strides = [a, b].map((tensor) => broadcastStrides(tensor.shape.slice(0, -2), batch));
  // Batches that share b are one taller product.
  if (elementCount(b.shape.slice(0, -2)) === 1 && left.length * n === out.length * k) {
    multiply(left, 0, right, 0, out, 0, { m: elementCount(batch) * m, k, n });
  } else {
    forEachRow(batch, strides, (start, count, [i = 0, j = 0], [di = 0, dj = 0]) => {
      for (let x = 0; x < count; x += 1)
        multiply(left, (i + x * di) * m * k, right, (j + x * dj) * k * n, out, (start + x) * m * n, { m, k, n });
    });
  }
  return fromNumbers(type.dtype, type.shape, out);
}

/** Convolution: for each image and group, w[filters, patch] times the gathered patches [patch, places]. */
export function convolve(
  inputs: { readonly x: Tensor; readonly w: Tensor; readonly bias?: Tensor },
  attrs: Attrs,
  type: TensorType,
): Tensor {
  const { x, w } = inputs;
  const group = numberAttr(attrs, "group");
  const [images = 1, channels = 1, ...extents] = x.shape;
  const [filters = 1, depth = 1, ...window] = w.shape;
  const outExtents = type.shape.slice(2);
  const places = elementCount(outExtents);
  const area = elementCount(window);
  const [source, weights] = [toNumbers(x), toNumbers(w)];
  const bias = inputs.bias === undefined ? undefined : toNumbers(inputs.bias);
  const reads = patchOffsets(extents, window, outExtents, attrs);
  const plane = elementCount(extents);
  const patches = newNumbers(x.dtype, depth * area * places);
  const out = newNumbers(type.dtype, elementCount(type.shape));
  const perGroup = filters / group;
  for (let image = 0; image < images; image += 1) {
    for (let g = 0; g < group; g += 1) {
      for (let c = 0; c < depth; c += 1) {
        const from = (image * channels + g * depth + c) * plane;
        const to = c * area * places;
        for (let i = 0; i < reads.length; i += 1) {
          const offset = reads[i] as number;
          patches[to + i] = offset < 0 ? 0 : (source[from + offset] as number);
        }
      }
      const to = (image * filters + g * perGroup) * places;
      multiply(weights, g * perGroup * depth * area, patches, 0, out, to, { m: perGroup, k: depth * area, n: places });
    }
  }
  if (bias !== undefined)
    for (let i = 0; i < out.length; i += 1)
      out[i] = (out[i] as number) + (bias[Math.floor(i / places) % filters] as number);
  return fromNumbers(type.dtype, type.shape, out);
}

/** For each place of the window and each place of the result: the offset read within a channel, or -1 in the padding. */
function patchOffsets(extents: Shape, window: Shape, outExtents: Shape, attrs: Attrs): Int32Array {
  const [strides, pads, dilations] = [
    intsAttr(attrs, "strides"),
    intsAttr(attrs, "pads"),
    intsAttr(attrs, "dilations"),
  ];
  const grid = [...window, ...outExtents];
  const rank = extents.length;
  const steps = stridesOf(extents);
  return Int32Array.from({ length: elementCount(grid) }, (_, flat) => {
    let rest = flat;
    const index = new Array<number>(grid.length);
    for (let axis = grid.length - 1; axis >= 0; axis -= 1) {
      const extent = at(grid, axis, "extent");
      index[axis] = rest % extent;
      rest = Math.floor(rest / extent);
    }
    let offset = 0;
    for (let axis = 0; axis < rank; axis += 1) {
      const place =
        at(index, rank + axis, "place") * at(strides, axis, "stride") +
        at(index, axis, "place") * at(dilations, axis, "dilation") -
        at(pads, axis, "pad");
      if (place < 0 || place >= at(extents, axis, "extent")) return -1;
      offset += place * at(steps, axis, "step");
    }
    return offset;
  });
}

export interface AttentionInputs {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly mask?: Tensor;
}

/** softmax(cap(q k^T scale) + mask) v, one query at a time. */
export function attend(inputs: AttentionInputs, attrs: Attrs, type: TensorType): Tensor {
  const [q, k, v] = [toNumbers(inputs.q), toNumbers(inputs.k), toNumbers(inputs.v)];
  const [batch = 1, heads = 1, queries = 1, width = 1] = inputs.q.shape;
  const [, groups = 1, keys = 1] = inputs.k.shape;
  const depth = at(inputs.v.shape, 3, "extent");
  const [scale, causal, softcap] = [
    numberAttr(attrs, "scale"),
    booleanAttr(attrs, "causal"),
    numberAttr(attrs, "softcap"),
  ];
  const allowed = maskReader(inputs.mask, [batch, heads, queries, keys]);
  const out = newNumbers(type.dtype, elementCount(type.shape));
  const scores = new Float64Array(keys);
  const sums = new Float64Array(depth);
  for (let row = 0; row < batch * heads * queries; row += 1) {
    const query = row % queries;
    const head = Math.floor(row / queries) % heads;
    const group = Math.floor(row / (queries * heads)) * groups + Math.floor(head / (heads / groups));
    for (let key = 0; key < keys; key += 1) {
      let sum = 0;
      const from = (group * keys + key) * width;
      for (let d = 0; d < width; d += 1) sum += (q[row * width + d] as number) * (k[from + d] as number);
      const scaled = sum * scale;
      const capped = softcap === 0 ? scaled : softcap * Math.tanh(scaled / softcap);
      scores[key] =
        causal && key > query + keys - queries ? Number.NEGATIVE_INFINITY : capped + allowed(row * keys + key);
    }
    softmaxLine(scores, false);
    sums.fill(0);
    for (let key = 0; key < keys; key += 1) {
      const weight = scores[key] as number;
      const from = (group * keys + key) * depth;
      for (let d = 0; d < depth; d += 1) sums[d] = (sums[d] as number) + weight * (v[from + d] as number);
    }
    for (let d = 0; d < depth; d += 1) out[row * depth + d] = sums[d] as number;
  }
  return fromNumbers(type.dtype, type.shape, out);
}

/** What the mask adds to a score, by flat index: its value, or for a bool mask nothing (true) or minus infinity. */
function maskReader(mask: Tensor | undefined, shape: Shape): (flat: number) => number {
  if (mask === undefined) return () => 0;
  const values = toNumbers(mask);
  const spread = new Float32Array(elementCount(shape));
  forEachRow(shape, [broadcastStrides(mask.shape, shape)], (start, count, [from = 0], [step = 0]) => {
    for (let n = 0; n < count; n += 1) {
      const value = values[from + n * step] as number;
      spread[start + n] = mask.dtype !== "bool" ? value : value !== 0 ? 0 : Number.NEGATIVE_INFINITY;
    }
  });
  return (flat) => spread[flat] as number;
}
