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
import { f32ToBits, NARROW_FORMATS, widenFloat } from "../../ir/numerics.js";
import { losesLess, type Sample } from "../../ir/rounding.js";
import type { Fp8, Sharing } from "../../ir/weights.js";
import { CANDIDATES, type Loops, type Lost, plainLoops, STRIP } from "./fp8-loops.js";
import { simdLoops } from "./fp8-simd.js";

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
/** Scales that are tried below the octave. */
const BELOW = CANDIDATES - STEPS;
/** Rows that are looked at for each scale. */
const SAMPLE = 256;
/** The least scale whose steps fp16 holds. */
const LEAST = -20 * STEPS;
/** Scales are not above this: 2^15. */
const GREATEST = 15 * STEPS;

/** Number of a scale below all that are tried. */
const FEWEST = -128 * STEPS;

/** The fastest loops that the host has, from the first time on that they are wanted. */
const loops = ((made?: Loops) => () => {
  made ??= simdLoops() ?? plainLoops;
  return made;
})();

/** Scale number i: numbers with four bits after the leading one, in order; number 0 is 1. */
const scaleAt = (index: number): number => {
  const exponent = Math.floor(index / STEPS);
  return (1 + (index - exponent * STEPS) / STEPS) * 2 ** exponent;
};

const LEAST_SCALE = scaleAt(LEAST);

/** All scales, from number FEWEST on. */
const SCALES = Float32Array.from({ length: GREATEST + CANDIDATES - FEWEST }, (_, i) => scaleAt(FEWEST + i));

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
  return magnitude < LEAST_SCALE ? first : Math.max(LEAST, first);
};

/** Scales that are tried for numbers of at most this magnitude, which is not zero. */
const candidatesFor = (magnitude: number, format: Fp8): Float32Array => {
  const first = firstScale(magnitude, widenFloat(format, NARROW_FORMATS[format].largest)) - FEWEST;
  return SCALES.subarray(first, first + CANDIDATES);
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
const exactScale = (magnitude: number, sample: Sample, format: Fp8, lost: number): number | undefined => {
  const enough = ROUNDINGS * magnitude ** 2;
  if (sample.to - sample.from < LEAST_EXACT || lost < enough) return undefined;
  const { largest } = NARROW_FORMATS[format];
  for (let bits = largest; bits > largest - GREATEST_NUMBERS; bits--) {
    const scale = Math.fround(magnitude / widenFloat(format, bits));
    if (losesLess(format, sample, scale, enough)) return scale;
  }
  return undefined;
};

/** Columns of a matrix as strips: where each begins, and how many it has. */
const stripsOf = (columns: number): readonly { readonly first: number; readonly width: number }[] =>
  Array.from({ length: Math.ceil(columns / STRIP) }, (_, i) => ({
    first: i * STRIP,
    width: Math.min(STRIP, columns - i * STRIP),
  }));

/** Magnitude of the greatest number of each column. */
const greatestOf = ({ values, rows, columns }: Matrix): Float32Array => {
  const greatest = new Float32Array(columns);
  for (const { first, width } of stripsOf(columns))
    greatest.set(loops().greatest({ values, from: first, stride: columns, rows, width }), first);
  return greatest;
};

const bestScales = (matrix: Matrix, format: Fp8): Float32Array => {
  const greatest = greatestOf(matrix);
  const best = new Float32Array(greatest.length).fill(1);
  const lost = new Float64Array(CANDIDATES);
  eachSample([matrix], (n, sample) => {
    const magnitude = greatest[n] as number;
    if (magnitude === 0) return;
    const candidates = candidatesFor(magnitude, format);
    // The greatest may not be in the sample, and is the one that saturates.
    loops().squaresLost(format, sample, magnitude, candidates, lost);
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < CANDIDATES; i++) {
      const sum = lost[i] as number;
      if (sum < least) [least, best[n]] = [sum, candidates[i] as number];
    }
    best[n] = exactScale(magnitude, sample, format, least) ?? (best[n] as number);
  });
  return best;
};

const bestOfAll = (matrices: readonly Matrix[], format: Fp8): number => {
  const magnitude = matrices.flatMap((matrix) => [...greatestOf(matrix)]).reduce((a, b) => Math.max(a, b), 0);
  if (magnitude === 0) return 1;
  const candidates = candidatesFor(magnitude, format);
  const [own, lost] = [new Float64Array(CANDIDATES), new Float64Array(CANDIDATES)];
  eachSample(matrices, (_, sample) => {
    loops().squaresLost(format, sample, magnitude, candidates, own);
    for (const [i, sum] of own.entries()) lost[i] = at(lost, i, "sum") + sum;
  });
  const least = lost.filter((sum) => !Number.isNaN(sum)).reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return least < Number.POSITIVE_INFINITY ? at(candidates, lost.indexOf(least), "scale") : 1;
};

/** Columns whose samples are taken together: what lies side by side in a row. */
const TOGETHER = 64;

/** Calls with a sample of each column, of all matrices. */
const eachSample = (matrices: readonly Matrix[], visit: (column: number, sample: Sample) => void): void => {
  const { rows, columns } = at(matrices, 0, "matrix");
  const count = Math.min(rows, SAMPLE);
  const weight = rows / count;
  const size = matrices.length * count;
  const samples = new Float32Array(TOGETHER * size);
  for (let first = 0; first < columns; first += TOGETHER) {
    const taken = Math.min(TOGETHER, columns - first);
    for (const [m, { values }] of matrices.entries())
      for (let i = 0; i < count; i++) {
        const from = Math.floor((i * rows) / count) * columns + first;
        for (let n = 0; n < taken; n++) samples[n * size + m * count + i] = values[from + n] as number;
      }
    for (let n = 0; n < taken; n++) visit(first + n, { values: samples, from: n * size, to: (n + 1) * size, weight });
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
  const own = sharing === "tensor" ? new Float32Array(columns).fill(at(scales, 0, "scale")) : scales;
  const blockAt = (row: number): number =>
    sharing === "tensor" ? 0 : Math.floor(row / rows) * blocks + Math.floor((row % rows) / block);
  const strips = stripsOf(columns).map(({ first, width }) =>
    loops().narrow(format, {
      values,
      data,
      from: first,
      stride: columns,
      rows: values.length / columns,
      width,
      scales: own,
      place: (row) => blockAt(row) * columns + first,
    }),
  );
  return { data, error: errorOf(strips) };
};

const errorOf = (strips: readonly Lost[]): NarrowingError => {
  const sum = (own: (strip: Lost) => number): number => strips.reduce((all, strip) => all + own(strip), 0);
  const [kept, both] = [sum((strip) => strip.kept), sum((strip) => strip.both)];
  const signals = strips.flatMap((strip) => [...strip.signals]);
  const noises = strips.flatMap((strip) => [...strip.noises]);
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
    greatest: Math.fround(strips.reduce((most, { greatest }) => Math.max(most, greatest), 0)),
    saturated: sum(({ saturated }) => saturated),
  };
};

const decibelsOf = (signal: number, noise: number): number | null =>
  noise === 0 ? null : rounded(10 * Math.log10(signal / noise), 2);

const rounded = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;
