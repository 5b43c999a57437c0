/**
 * Numbers as FP8 times scales: which scale loses least, and what is lost.
 *
 * A matrix [.., K, N] has one scale for each column, or one for all. Scales are numbers of four bits after the leading one, which fp16
 * holds exactly; of those that bring the greatest magnitude about to the greatest of the format, the one with the least squared
 * error over a sample of rows is taken. What matters is where numbers fall between the steps of the format, so an octave
 * of scales is tried, and a little below it, where the greatest numbers saturate and all others are finer.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Literal, type Shape } from "../../ir/graph.js";
import type { NarrowingError } from "../../ir/facts.js";
import { f32ToBits, NARROW_FORMATS, narrowFloats, roundFloats, widenFloat } from "../../ir/numerics.js";
import type { Fp8, Sharing } from "../../ir/weights.js";

/** A constant that was narrowed, with what was lost. */
export interface NarrowedLiteral extends Literal {
  readonly error: NarrowingError;
}

/** A weight in FP8 and the scales that make it what it was. */
export interface ScaledWeight {
  readonly values: NarrowedLiteral;
  readonly scales: Float32Array;
  /** Of the scales, so that they broadcast to the product. */
  readonly shape: Shape;
}

/** Steps of scales in an octave. */
const STEPS = 16;
/** Scales that are tried: an octave, and some below it. */
const BELOW = 4;
const CANDIDATES = STEPS + BELOW;
/** Rows that are looked at for each scale. */
const SAMPLE = 256;
/** The least scale whose steps fp16 holds. */
const LEAST = -20 * STEPS;
/** Scales are not above this: 2^15. */
const GREATEST = 15 * STEPS;

/** Scale number i: numbers with four bits after the leading one, in order; number 0 is 1. */
const scaleAt = (index: number): number => {
  const exponent = Math.floor(index / STEPS);
  return (1 + (index - exponent * STEPS) / STEPS) * 2 ** exponent;
};

/** Number of the least scale that is not below a positive number of fp32. */
const firstFrom = (value: number): number => {
  const bits = f32ToBits(value);
  return ((bits >>> 23) - 127) * STEPS + Math.ceil((bits & 0x7fffff) / 2 ** 19);
};

interface Matrix {
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
}

const matricesOf = (values: Float32Array, shape: Shape): readonly Matrix[] => {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const size = rows * columns;
  return Array.from({ length: elementCount(shape.slice(0, -2)) }, (_, i) => ({
    values: values.subarray(i * size, (i + 1) * size),
    rows,
    columns,
  }));
};

/** Scales [.., 1, N] of a matrix [.., K, N], or one for all. */
export const scalesOf = (values: Float32Array, shape: Shape, format: Fp8, sharing: Sharing): Float32Array => {
  const matrices = matricesOf(values, shape);
  const scales = matrices.map((matrix) => bestScales(matrix, format, sharing === "tensor" ? matrices : undefined));
  if (sharing === "tensor") return Float32Array.of(scales[0]?.[0] ?? 1);
  const [, columns = 1] = shape.slice(-2);
  const all = new Float32Array(scales.length * columns);
  for (const [i, own] of scales.entries()) all.set(own, i * columns);
  return all;
};

/**
 * Number of the first scale that is tried. Where fp16 would not hold it, the least that fp16 holds is taken, under which even small
 * numbers keep enough bits; a column of less than that has a scale of fp32.
 */
const firstScale = (magnitude: number, largest: number): number => {
  const first = Math.min(GREATEST, firstFrom(magnitude / largest) - BELOW);
  return magnitude < scaleAt(LEAST) ? first : Math.max(LEAST, first);
};

const bestScales = (matrix: Matrix, format: Fp8, together: readonly Matrix[] | undefined): Float32Array => {
  const { columns } = matrix;
  const all = together ?? [matrix];
  const greatest = new Float32Array(columns);
  for (const { values, rows } of all)
    for (let row = 0, at = 0; row < rows; row++)
      for (let n = 0; n < columns; n++, at++) {
        const magnitude = Math.abs(values[at] as number);
        if (magnitude > (greatest[n] as number)) greatest[n] = magnitude;
      }
  if (together !== undefined) greatest.fill(greatest.reduce((a, b) => Math.max(a, b), 0));
  const largest = widenFloat(format, NARROW_FORMATS[format].largest);
  const first = Int32Array.from(greatest, (magnitude) => (magnitude > 0 ? firstScale(magnitude, largest) : 0));
  const best = new Float32Array(columns).fill(1);
  const least = new Float64Array(columns).fill(Number.POSITIVE_INFINITY);
  for (let candidate = 0; candidate < CANDIDATES; candidate++) {
    const scales = Float32Array.from(first, (index) => scaleAt(index + candidate));
    const errors = squaredErrors(all, format, scales);
    addErrors(errors, greatest, format, scales);
    if (together !== undefined) errors.fill(errors.reduce((a, b) => a + b, 0));
    for (let n = 0; n < columns; n++)
      if ((greatest[n] as number) > 0 && (errors[n] as number) < (least[n] as number)) {
        least[n] = errors[n] as number;
        best[n] = scales[n] as number;
      }
  }
  return best;
};

/** Adds those of one number for each column: the greatest may not be in the sample, and is the one that saturates. */
const addErrors = (errors: Float64Array, row: Float32Array, format: Fp8, scales: Float32Array): void => {
  const scaled = row.map((value, n) => value / (scales[n] as number));
  roundFloats(format, scaled);
  for (let n = 0; n < errors.length; n++) {
    const difference = (row[n] as number) - (scaled[n] as number) * (scales[n] as number);
    errors[n] = (errors[n] as number) + difference * difference;
  }
};

/** By column, over a sample of rows, and so many times as there are rows for each of it. */
const squaredErrors = (matrices: readonly Matrix[], format: Fp8, scales: Float32Array): Float64Array => {
  const columns = scales.length;
  const errors = new Float64Array(columns);
  const scaled = new Float32Array(columns);
  for (const { values, rows } of matrices) {
    const count = Math.min(rows, SAMPLE);
    const weight = rows / count;
    for (let i = 0; i < count; i++) {
      const from = Math.floor((i * rows) / count) * columns;
      for (let n = 0; n < columns; n++) scaled[n] = (values[from + n] as number) / (scales[n] as number);
      roundFloats(format, scaled);
      for (let n = 0; n < columns; n++) {
        const difference = (values[from + n] as number) - (scaled[n] as number) * (scales[n] as number);
        errors[n] = (errors[n] as number) + weight * difference * difference;
      }
    }
  }
  return errors;
};

/** The numbers over their scales, as FP8. */
export const narrowed = (values: Float32Array, shape: Shape, format: Fp8, scales: Float32Array): Uint8Array => {
  const data = new Uint8Array(values.length);
  eachScaledRow(values, shape, scales, (from, scaled) => {
    narrowFloats(format, scaled, data.subarray(from, from + scaled.length));
  });
  return data;
};

/** Calls with each row over its scales: where it begins, and what `visit` may change. */
const eachScaledRow = (
  values: Float32Array,
  shape: Shape,
  scales: Float32Array,
  visit: (from: number, scaled: Float32Array, scales: Float32Array) => void,
): void => {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const scaled = new Float32Array(columns);
  const one = scales.length === 1 ? new Float32Array(columns).fill(at(scales, 0, "scale")) : undefined;
  for (let row = 0, from = 0; from < values.length; row++, from += columns) {
    const matrix = Math.floor(row / rows);
    const own = one ?? scales.subarray(matrix * columns, (matrix + 1) * columns);
    for (let n = 0; n < columns; n++) scaled[n] = (values[from + n] as number) / (own[n] as number);
    visit(from, scaled, own);
  }
};

/** What is lost when numbers become FP8 times scales. */
export const narrowingError = (
  values: Float32Array,
  shape: Shape,
  format: Fp8,
  scales: Float32Array,
): NarrowingError => {
  const columns = shape.at(-1) ?? 1;
  const [signals, noises] = [new Float64Array(columns), new Float64Array(columns)];
  let [kept, both, greatest, saturated] = [0, 0, 0, 0];
  eachScaledRow(values, shape, scales, (from, scaled, ofRow) => {
    saturated += roundFloats(format, scaled);
    for (let n = 0; n < columns; n++) {
      const value = values[from + n] as number;
      const near = (scaled[n] as number) * (ofRow[n] as number);
      const difference = value - near;
      signals[n] = (signals[n] as number) + value * value;
      noises[n] = (noises[n] as number) + difference * difference;
      kept += near * near;
      both += value * near;
      if (!(Math.abs(difference) <= greatest)) greatest = Math.abs(difference);
    }
  });
  const signal = signals.reduce((a, b) => a + b, 0);
  const ofColumns = Array.from(
    noises,
    (noise, n) => decibelsOf(signals[n] as number, noise) ?? Number.POSITIVE_INFINITY,
  );
  const weakest = ofColumns.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return {
    decibels: decibelsOf(
      signal,
      noises.reduce((a, b) => a + b, 0),
    ),
    weakest: weakest === Number.POSITIVE_INFINITY ? null : weakest,
    cosine: signal * kept === 0 ? 1 : rounded(both / Math.sqrt(signal * kept), 6),
    greatest: Math.fround(greatest),
    saturated,
  };
};

const decibelsOf = (signal: number, noise: number): number | null =>
  noise === 0 ? null : rounded(10 * Math.log10(signal / noise), 2);

const rounded = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;
