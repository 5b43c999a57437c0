/**
 * Evaluation of operations that move elements and compute nothing: they work on the data as it is kept, bit patterns included.
 *
 * A strided view (an offset and one stride an axis) covers transpose, slice and expand; padding reads through a list of
 * places for each axis; gathers copy blocks.
 */

import { at, fail } from "../../diagnostics.js";
import type { TensorData } from "../dtype.js";
import { type Attrs, elementCount, type Shape, type Tensor, type TensorType } from "../graph.js";
import { broadcastStrides, newData, scalarOf, stridesOf } from "../tensor.js";
import { booleanAttr, intsAttr, numberAttr, stringAttr } from "./attributes.js";
import { forEachRow } from "./elementwise.js";

const extentOf = (shape: Shape, axis: number): number => at(shape, axis, "extent");

/** Numbers of a row that are written before those of the next rows, where columns become rows: a cache holds what is read of all. */
const TOGETHER = 64;

function copyView(source: TensorData, offset: number, strides: readonly number[], type: TensorType): Tensor {
  const { shape, dtype } = type;
  const out = newData(dtype, elementCount(shape));
  const [down, right = 0] = strides.slice(-2);
  if (down === 1 && right > 1) copyTurned(source, offset, strides, { shape, out });
  else copyRows(source, offset, strides, { shape, out });
  return { dtype, shape, data: out };
}

interface Copied {
  readonly shape: Shape;
  readonly out: TensorData;
}

/** Matrices whose columns lie as rows do. */
function copyTurned(source: TensorData, offset: number, strides: readonly number[], { shape, out }: Copied): void {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const right = at(strides, strides.length - 1, "stride");
  forEachRow(shape.slice(0, -2), [strides.slice(0, -2)], (matrix, count, [from = 0], [step = 0]) => {
    for (let m = 0; m < count; m += 1) {
      const [first, start] = [offset + from + m * step, (matrix + m) * rows * columns];
      for (let n = 0; n < columns; n += TOGETHER) {
        const turn: Turn = { source, out, right, columns, count: Math.min(TOGETHER, columns - n) };
        const [read, written] = [first + n * right, start + n];
        let row = 0;
        for (; row + 4 <= rows; row += 4) turnFour(turn, read + row, written + row * columns);
        for (; row < rows; row += 1) turnOne(turn, read + row, written + row * columns);
      }
    }
  });
}

/** So many elements of a row, each `right` behind the one before in what is read. */
interface Turn {
  readonly source: TensorData;
  readonly out: TensorData;
  readonly right: number;
  readonly columns: number;
  readonly count: number;
}

function turnOne({ source, out, right, count }: Turn, read: number, written: number): void {
  for (let n = 0, from = read; n < count; n += 1, from += right) out[written + n] = source[from] as number;
}

/** Four rows, which lie side by side in what is read. */
function turnFour({ source, out, right, columns, count }: Turn, read: number, written: number): void {
  const [second, third, fourth] = [written + columns, written + 2 * columns, written + 3 * columns];
  for (let n = 0, from = read; n < count; n += 1, from += right) {
    out[written + n] = source[from] as number;
    out[second + n] = source[from + 1] as number;
    out[third + n] = source[from + 2] as number;
    out[fourth + n] = source[from + 3] as number;
  }
}

function copyRows(source: TensorData, offset: number, strides: readonly number[], { shape, out }: Copied): void {
  forEachRow(shape, [strides], (start, count, [from = 0], [step = 0]) => {
    const first = offset + from;
    if (step === 1) out.set(source.subarray(first, first + count), start);
    else if (step === 0) out.fill(source[first] as number, start, start + count);
    else for (let n = 0; n < count; n += 1) out[start + n] = source[first + n * step] as number;
  });
}

export const reshape = (x: Tensor, type: TensorType): Tensor => ({ dtype: x.dtype, shape: type.shape, data: x.data });

export function transpose(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const strides = stridesOf(x.shape);
  return copyView(
    x.data,
    0,
    intsAttr(attrs, "perm").map((axis) => at(strides, axis, "stride")),
    type,
  );
}

export function slice(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const [starts, steps, strides] = [intsAttr(attrs, "starts"), intsAttr(attrs, "strides"), stridesOf(x.shape)];
  const offset = starts.reduce((sum, start, axis) => sum + start * at(strides, axis, "stride"), 0);
  return copyView(
    x.data,
    offset,
    strides.map((stride, axis) => stride * at(steps, axis, "step")),
    type,
  );
}

export const expand = (x: Tensor, type: TensorType): Tensor =>
  copyView(x.data, 0, broadcastStrides(x.shape, type.shape), type);

export function concat(parts: readonly Tensor[], attrs: Attrs, type: TensorType): Tensor {
  const axis = numberAttr(attrs, "axis");
  const out = newData(type.dtype, elementCount(type.shape));
  const row = elementCount(type.shape.slice(axis));
  let at = 0;
  for (const part of parts) {
    const width = elementCount(part.shape.slice(axis));
    for (let from = 0, to = at; from < part.data.length; from += width, to += row)
      out.set(part.data.subarray(from, from + width), to);
    at += width;
  }
  return { dtype: type.dtype, shape: type.shape, data: out };
}

/** Where along an axis the padded place reads; -1 for the padding value. */
const PAD_PLACES = {
  constant: (place: number, extent: number): number => (place >= 0 && place < extent ? place : -1),
  reflect: (place: number, extent: number): number =>
    place < 0 ? -place : place < extent ? place : 2 * (extent - 1) - place,
  edge: (place: number, extent: number): number => Math.min(Math.max(place, 0), extent - 1),
} as const;
export const PAD_MODES = Object.keys(PAD_PLACES);

export function pad(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const before = intsAttr(attrs, "before");
  const mode = stringAttr(attrs, "mode");
  const place = PAD_PLACES[mode === "reflect" || mode === "edge" ? mode : "constant"];
  const strides = stridesOf(x.shape);
  const fill = scalarOf(type.dtype, numberAttr(attrs, "value")).data[0] as number;
  // Offsets along each axis; a padded place of any axis makes the sum negative.
  const places = type.shape.map((extent, axis) =>
    Float64Array.from({ length: extent }, (_, i) => {
      const from = place(i - at(before, axis, "pad"), extentOf(x.shape, axis));
      return from < 0 ? Number.NEGATIVE_INFINITY : from * at(strides, axis, "stride");
    }),
  );
  const out = newData(type.dtype, elementCount(type.shape));
  let next = 0;
  const walk = (axis: number, offset: number): void => {
    if (axis === places.length) {
      out[next++] = offset < 0 ? fill : (x.data[offset] as number);
      return;
    }
    for (const step of at(places, axis, "place")) walk(axis + 1, offset + step);
  };
  walk(0, 0);
  return { dtype: type.dtype, shape: type.shape, data: out };
}

/** An index into an axis; negative ones count from the end. */
function wrapIndex(index: number, extent: number): number {
  const wrapped = index < 0 ? index + extent : index;
  if (wrapped < 0 || wrapped >= extent)
    fail("LPU2013", { message: `expected an index from ${-extent} to ${extent - 1}, got ${index}` });
  return wrapped;
}

export function gather(data: Tensor, indices: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const axis = numberAttr(attrs, "axis");
  const [outer, extent, inner] = [
    elementCount(data.shape.slice(0, axis)),
    extentOf(data.shape, axis),
    elementCount(data.shape.slice(axis + 1)),
  ];
  const out = newData(type.dtype, elementCount(type.shape));
  let at = 0;
  for (let o = 0; o < outer; o += 1) {
    for (const index of indices.data) {
      const from = (o * extent + wrapIndex(index, extent)) * inner;
      if (inner === 1) out[at] = data.data[from] as number;
      else out.set(data.data.subarray(from, from + inner), at);
      at += inner;
    }
  }
  return { dtype: type.dtype, shape: type.shape, data: out };
}

export function gatherNd(data: Tensor, indices: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const batch = numberAttr(attrs, "batchDims");
  const depth = at(indices.shape, indices.shape.length - 1, "extent");
  const strides = stridesOf(data.shape);
  const inner = elementCount(data.shape.slice(batch + depth));
  const batchSize = elementCount(data.shape.slice(batch));
  const batches = elementCount(data.shape.slice(0, batch));
  const out = newData(type.dtype, elementCount(type.shape));
  const perBatch = batches === 0 || inner === 0 ? 0 : out.length / inner / batches;
  for (let row = 0; row < perBatch * batches; row += 1) {
    let from = Math.floor(row / perBatch) * batchSize;
    for (let d = 0; d < depth; d += 1) {
      from +=
        wrapIndex(indices.data[row * depth + d] as number, extentOf(data.shape, batch + d)) *
        at(strides, batch + d, "stride");
    }
    out.set(data.data.subarray(from, from + inner), row * inner);
  }
  return { dtype: type.dtype, shape: type.shape, data: out };
}

export function gatherElements(data: Tensor, indices: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const axis = numberAttr(attrs, "axis");
  const strides = stridesOf(data.shape);
  const along = at(strides, axis, "stride");
  const extent = extentOf(data.shape, axis);
  const out = newData(type.dtype, elementCount(type.shape));
  const off = strides.map((stride, i) => (i === axis ? 0 : stride));
  forEachRow(type.shape, [off], (start, count, [from = 0], [step = 0]) => {
    for (let n = 0; n < count; n += 1)
      out[start + n] = data.data[
        from + n * step + wrapIndex(indices.data[start + n] as number, extent) * along
      ] as number;
  });
  return { dtype: type.dtype, shape: type.shape, data: out };
}

export function oneHot(indices: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const depth = numberAttr(attrs, "depth");
  const out = newData(type.dtype, elementCount(type.shape));
  indices.data.forEach((index: number, row: number) => {
    const at = index < 0 ? index + depth : index;
    if (at >= 0 && at < depth) out[row * depth + at] = 1;
  });
  return { dtype: type.dtype, shape: type.shape, data: out };
}

export function trilu(x: Tensor, attrs: Attrs, type: TensorType): Tensor {
  const [upper, k] = [booleanAttr(attrs, "upper"), numberAttr(attrs, "k")];
  const [rows, columns] = [extentOf(x.shape, x.shape.length - 2), extentOf(x.shape, x.shape.length - 1)];
  const data = x.data.slice();
  for (let start = 0; start < data.length; start += columns) {
    const diagonal = Math.min(Math.max(((start / columns) % rows) + k + (upper ? 0 : 1), 0), columns);
    if (upper) data.fill(0, start, start + diagonal);
    else data.fill(0, start + diagonal, start + columns);
  }
  return { dtype: type.dtype, shape: type.shape, data };
}
