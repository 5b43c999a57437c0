/**
 * Numbers as FP8 times scales: which scale loses least, and what is lost.
 *
 * A matrix [.., K, N] has one scale for each column, or one for all. Scales are numbers of four bits after the leading one, which fp16
 * holds exactly; of those that bring the greatest magnitude about to the greatest of the format, the one with the least squared
 * error over a sample of rows is taken. What matters is where numbers fall between the steps of the format, so an octave
 * of scales is tried, and a little below it, where the greatest numbers saturate and all others are finer. Numbers that were in
 * the format before, as weights of a model that has such, have the scale that they had.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Literal, type Shape } from "../../ir/graph.js";
import type { NarrowingError } from "../../ir/facts.js";
import { f32ToBits, NARROW_FORMATS, narrowFloats, squaresLost, widenFloat, widenFloats } from "../../ir/numerics.js";
import type { Fp8, Sharing } from "../../ir/weights.js";

/** A constant that was narrowed, or rows of it, with what was lost of all. */
export interface NarrowedLiteral extends Literal {
  readonly error: NarrowingError;
  readonly whole: Literal;
}

/** A weight in FP8 and the scales that make it what it was. */
export interface ScaledWeight {
  readonly values: NarrowedLiteral;
  /** Rows of it, [.., 1, count, N] of several matrices and [count, N] of one. */
  readonly rows: (start: number, count: number) => NarrowedLiteral;
  /** So many scales from a place on, in the order of their shape. */
  readonly scales: (from: number, count: number) => Float32Array;
  /** Of the scales: [.., blocks, N], or so that they broadcast to the product where there are no blocks along K. */
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

/** All matrices of a tensor, cut into blocks of rows, of which the last of each may be shorter. */
const matricesOf = (values: Float32Array, shape: Shape, block: number): readonly Matrix[] => {
  const [k = 1, columns = 1] = shape.slice(-2);
  return Array.from({ length: elementCount(shape.slice(0, -2)) * Math.ceil(k / block) }, (_, i) => {
    const blocks = Math.ceil(k / block);
    const [matrix, first] = [Math.floor(i / blocks), (i % blocks) * block];
    const rows = Math.min(block, k - first);
    const from = (matrix * k + first) * columns;
    return { values: values.subarray(from, from + rows * columns), rows, columns };
  });
};

/** Rows of a weight that share scales. */
const blockOf = (shape: Shape, sharing: Sharing): number =>
  typeof sharing === "number" ? sharing : (shape.at(-2) ?? 1);

/** Blocks that are all of K are channels. */
export const sharingIn = ({ shape }: Literal, sharing: Sharing): Sharing =>
  typeof sharing === "number" && sharing >= (shape.at(-2) ?? 1) ? "channel" : sharing;

/** Of the scales of a weight: [.., blocks, N], or so that they broadcast to the product where there are no blocks along K. */
export const scalesShape = (shape: Shape, sharing: Sharing): Shape => {
  if (sharing === "tensor") return [];
  const batch = shape.slice(0, -2);
  const [k = 1, n = 1] = shape.slice(-2);
  const blocks = Math.ceil(k / blockOf(shape, sharing));
  return blocks === 1 && batch.every((extent) => extent === 1) ? [n] : [...batch, blocks, n];
};

/** Scales [.., blocks, N] of a matrix [.., K, N], one block where all of a column shares a scale; or one for all. */
export const scalesOf = (values: Float32Array, shape: Shape, format: Fp8, sharing: Sharing): Float32Array => {
  const matrices = matricesOf(values, shape, blockOf(shape, sharing));
  if (sharing === "tensor") return Float32Array.of(bestOfAll(matrices, format));
  const [, columns = 1] = shape.slice(-2);
  const all = new Float32Array(matrices.length * columns);
  for (const [i, matrix] of matrices.entries()) all.set(bestScales(matrix, format), i * columns);
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

/** Scales that are tried for numbers of at most this magnitude. */
const candidatesFor = (magnitude: number, format: Fp8): readonly number[] => {
  if (magnitude === 0) return [];
  const first = firstScale(magnitude, widenFloat(format, NARROW_FORMATS[format].largest));
  return Array.from({ length: CANDIDATES }, (_, candidate) => Math.fround(scaleAt(first + candidate)));
};

/** Of how many of its greatest numbers one may be the greatest of what was in a format before: three octaves of E4M3. */
const GREATEST_NUMBERS = 24;
/** Fewer numbers may be exact by chance, under a scale that fp16 does not hold. */
const LEAST_EXACT = 8;
/** Squares that roundings of fp32 may lose, of that of the greatest number. */
const ROUNDINGS = 2 ** -40;

/**
 * The scale of numbers that were in the format before, under which they lose no more than roundings of fp32; undefined of others,
 * and where no more is `lost` anyway.
 */
const exactScale = (magnitude: number, sample: Float32Array, format: Fp8, lost: number): number | undefined => {
  const enough = ROUNDINGS * magnitude ** 2;
  if (sample.length < LEAST_EXACT || lost < enough) return undefined;
  const { largest } = NARROW_FORMATS[format];
  for (let bits = largest; bits > largest - GREATEST_NUMBERS; bits--) {
    const scale = Math.fround(magnitude / widenFloat(format, bits));
    if (squaresLost(format, sample, scale, 1, enough) < enough) return scale;
  }
  return undefined;
};

/** Magnitude of the greatest number of each column. */
const greatestOf = ({ values, rows, columns }: Matrix): Float32Array => {
  const greatest = new Float32Array(columns);
  for (let row = 0, at = 0; row < rows; row++)
    for (let n = 0; n < columns; n++, at++) {
      const magnitude = Math.abs(values[at] as number);
      if (magnitude > (greatest[n] as number)) greatest[n] = magnitude;
    }
  return greatest;
};

const bestScales = (matrix: Matrix, format: Fp8): Float32Array => {
  const greatest = greatestOf(matrix);
  const best = new Float32Array(greatest.length).fill(1);
  eachSample([matrix], (n, sample, weight) => {
    const greatestAlone = greatest.subarray(n, n + 1);
    let least = Number.POSITIVE_INFINITY;
    for (const scale of candidatesFor(greatest[n] as number, format)) {
      // The greatest may not be in the sample, and is the one that saturates.
      const lost = squaresLost(format, sample, scale, weight, least) + squaresLost(format, greatestAlone, scale);
      if (lost < least) [least, best[n]] = [lost, scale];
    }
    best[n] = exactScale(greatest[n] as number, sample, format, least) ?? (best[n] as number);
  });
  return best;
};

const bestOfAll = (matrices: readonly Matrix[], format: Fp8): number => {
  const greatest = Float32Array.of(
    matrices.flatMap((matrix) => [...greatestOf(matrix)]).reduce((a, b) => Math.max(a, b), 0),
  );
  const candidates = candidatesFor(at(greatest, 0, "magnitude"), format);
  const lost = candidates.map(() => 0);
  eachSample(matrices, (_, sample, weight) => {
    for (const [i, scale] of candidates.entries()) {
      const own = squaresLost(format, sample, scale, weight) + squaresLost(format, greatest, scale);
      lost[i] = at(lost, i, "sum") + own;
    }
  });
  const least = lost.filter((sum) => !Number.isNaN(sum)).reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return least < Number.POSITIVE_INFINITY ? at(candidates, lost.indexOf(least), "scale") : 1;
};

/** Columns whose samples are taken together: what lies side by side in a row. */
const TOGETHER = 64;

/** Calls with a sample of each column, of all matrices, and how many rows there are for each of it. */
const eachSample = (
  matrices: readonly Matrix[],
  visit: (column: number, sample: Float32Array, weight: number) => void,
): void => {
  const { rows, columns } = at(matrices, 0, "matrix");
  const count = Math.min(rows, SAMPLE);
  const size = matrices.length * count;
  const samples = new Float32Array(TOGETHER * size);
  for (let first = 0; first < columns; first += TOGETHER) {
    const taken = Math.min(TOGETHER, columns - first);
    for (const [m, { values }] of matrices.entries())
      for (let i = 0; i < count; i++) {
        const from = Math.floor((i * rows) / count) * columns + first;
        for (let n = 0; n < taken; n++) samples[n * size + m * count + i] = values[from + n] as number;
      }
    for (let n = 0; n < taken; n++) visit(first + n, samples.subarray(n * size, (n + 1) * size), rows / count);
  }
};

/** Numbers as FP8, and what was lost. */
export interface Narrowing {
  readonly data: Uint8Array;
  readonly error: NarrowingError;
}

/** The numbers over their scales, as FP8. */
export const narrowed = (
  values: Float32Array,
  shape: Shape,
  format: Fp8,
  scales: Float32Array,
  sharing: Sharing,
): Narrowing => {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const block = blockOf(shape, sharing);
  const blocks = Math.ceil(rows / block);
  const data = new Uint8Array(values.length);
  const [scaled, near] = [new Float32Array(columns), new Float32Array(columns)];
  const one = sharing === "tensor" ? new Float32Array(columns).fill(at(scales, 0, "scale")) : undefined;
  const [signals, noises] = [new Float64Array(columns), new Float64Array(columns)];
  let [kept, both, greatest, saturated] = [0, 0, 0, 0];
  for (let row = 0, from = 0; from < values.length; row++, from += columns) {
    const index = Math.floor(row / rows) * blocks + Math.floor((row % rows) / block);
    const own = one ?? scales.subarray(index * columns, (index + 1) * columns);
    for (let n = 0; n < columns; n++) scaled[n] = (values[from + n] as number) / (own[n] as number);
    const bits = data.subarray(from, from + columns);
    saturated += narrowFloats(format, scaled, bits).beyond;
    widenFloats(format, bits, near);
    for (let n = 0; n < columns; n++) {
      const value = values[from + n] as number;
      const now = (near[n] as number) * (own[n] as number);
      const difference = value - now;
      signals[n] = (signals[n] as number) + value * value;
      noises[n] = (noises[n] as number) + difference * difference;
      kept += now * now;
      both += value * now;
      if (!(Math.abs(difference) <= greatest)) greatest = Math.abs(difference);
    }
  }
  const error = errorOf(signals, noises, { kept, both, greatest, saturated });
  return { data, error };
};

/** `kept`: the squares of what is there now; `both`: its products with what was there. */
interface Sums {
  readonly kept: number;
  readonly both: number;
  readonly greatest: number;
  readonly saturated: number;
}

const errorOf = (
  signals: Float64Array,
  noises: Float64Array,
  { kept, both, greatest, saturated }: Sums,
): NarrowingError => {
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
