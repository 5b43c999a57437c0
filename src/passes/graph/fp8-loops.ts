/**
 * The two loops over numbers of a weight that is to lie in FP8: what is lost of samples under scales, and narrowing.
 *
 * They are here in plain TypeScript, which is their definition, and in `fp8-simd` for the host's vector unit, with the same bits.
 */

import { at } from "../../diagnostics.js";
import { nearestParts, patternsOf, type Sample, squaresLostByFour } from "../../ir/rounding.js";
import type { Fp8 } from "../../ir/weights.js";

/** Columns of a matrix, side by side, in each of so many rows. */
export interface Columns {
  readonly values: Float32Array;
  /** The first of its numbers, and elements from one row to the next. */
  readonly from: number;
  readonly stride: number;
  readonly rows: number;
  readonly width: number;
}

/** The same with what they become, which lies as they do. */
export interface Strip extends Columns {
  readonly data: Uint8Array;
  readonly scales: Float32Array;
  /** Where the scales of a row lie. */
  readonly place: (row: number) => number;
}

/** What became of numbers. */
export interface Lost {
  /** Of each column the squares of its numbers, and of what is lost of them. */
  readonly signals: Float64Array;
  readonly noises: Float64Array;
  /** Of all numbers the squares of what they are now, and its products with what they were. */
  readonly kept: number;
  readonly both: number;
  /** The most that is lost of one. */
  readonly greatest: number;
  readonly saturated: number;
}

export interface Loops {
  /** Sums of squares that are lost of a sample, and of one number more, under CANDIDATES scales. */
  readonly squaresLost: (format: Fp8, sample: Sample, more: number, scales: Float32Array, sums: Float64Array) => void;
  /** Narrows a strip of at most STRIP columns. */
  readonly narrow: (format: Fp8, strip: Strip) => Lost;
  /** The greatest magnitude of each of at most STRIP columns, of what is a number. */
  readonly greatest: (columns: Columns) => Float32Array;
}

/** Scales that are tried for numbers that share one. */
export const CANDIDATES = 20;

/** Columns that are narrowed together: what a cache holds of a row and of sums. */
export const STRIP = 2048;

export const plainLoops: Loops = {
  squaresLost: (format, sample, more, scales, sums) => {
    const one = { values: Float32Array.of(more), from: 0, to: 1, weight: 1 };
    const lostOfOne = new Float64Array(CANDIDATES);
    for (let i = 0; i < CANDIDATES; i += 4) {
      squaresLostByFour(format, sample, scales, i, sums);
      squaresLostByFour(format, one, scales, i, lostOfOne);
    }
    for (const [i, lost] of lostOfOne.entries()) sums[i] = at(sums, i, "sum") + lost;
  },
  narrow: (format, strip) => {
    const { values, data, from, stride, rows, width, scales, place } = strip;
    const inverses = Float64Array.from(scales, (scale) => 1 / scale);
    const near = new Float32Array(width);
    const [signals, noises, all] = [new Float64Array(width), new Float64Array(width), new Float64Array(3)];
    let saturated = 0;
    for (let row = 0, start = from; row < rows; row++, start += stride) {
      const own = place(row);
      saturated += nearestParts(format, values, start, inverses, own, near);
      patternsOf(format, near, data, start);
      addLost({ values, from: start, near, scales, place: own }, signals, noises, all);
    }
    const [kept = 0, both = 0, greatest = 0] = all;
    return { signals, noises, kept, both, greatest, saturated };
  },
  greatest: ({ values, from, stride, rows, width }) => {
    const greatest = new Float32Array(width);
    for (let row = 0, start = from; row < rows; row++, start += stride)
      for (let n = 0; n < width; n++) {
        const magnitude = Math.abs(values[start + n] as number);
        if (magnitude > (greatest[n] as number)) greatest[n] = magnitude;
      }
    return greatest;
  },
};

interface Narrowed {
  readonly values: Float32Array;
  readonly from: number;
  /** Numbers of the format, parts of scales from a place on. */
  readonly near: Float32Array;
  readonly scales: Float32Array;
  readonly place: number;
}

/** Adds a row to what was lost; `all`: what is kept of all, both, and the greatest. */
const addLost = (
  { values, from, near, scales, place }: Narrowed,
  signals: Float64Array,
  noises: Float64Array,
  all: Float64Array,
): void => {
  let [kept = 0, both = 0, greatest = 0] = all;
  for (let i = 0; i < near.length; i++) {
    const value = values[from + i] as number;
    const now = (near[i] as number) * (scales[place + i] as number);
    const difference = value - now;
    signals[i] = (signals[i] as number) + value * value;
    noises[i] = (noises[i] as number) + difference * difference;
    kept += now * now;
    both += value * now;
    if (Math.abs(difference) > greatest) greatest = Math.abs(difference);
  }
  all.set([kept, both, greatest]);
};
