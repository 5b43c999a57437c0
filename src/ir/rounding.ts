/**
 * Rounding of many numbers to FP8 by arithmetic of fp64: to the bit what `numerics` makes by integers, several times faster.
 *
 * A part y of a scale is a number of fp32, of which FP8 keeps the first bits. Of y * (2^k + 1) fp64 keeps y * 2^k and, of y, as much as
 * FP8 does, ties to even since the last bit that is kept is far below all of y * 2^k; taking y * 2^k away is exact. What is
 * below the normal numbers is added to a number whose last bit is the least step of FP8, which rounds it likewise.
 *
 * A quotient of two numbers of fp32 is never halfway between two such, and at least 2^-49 of it away from there: so it is, in fp32, the
 * value times the inverse of the scale in fp64, which is off by 2^-52 at most. Below the normal numbers of fp32 it may be another,
 * which is zero in FP8 all the same.
 */

import { at } from "../diagnostics.js";
import { NARROW_FORMATS, narrowFloat, widenFloat } from "./numerics.js";
import type { Fp8 } from "./weights.js";

/** What rounding to a format takes. */
interface Rounding {
  readonly leastNormal: number;
  readonly largest: number;
  /** 2^k, and one more. */
  readonly power: number;
  readonly more: number;
  /** Its last bit in fp64 is the least step of the format. */
  readonly steps: number;
}

const roundingTo = (format: Fp8): Rounding => {
  const { drop, largest } = NARROW_FORMATS[format];
  const power = 2 ** (29 + drop);
  return {
    leastNormal: widenFloat(format, 1 << (23 - drop)),
    largest: widenFloat(format, largest),
    power,
    more: power + 1,
    steps: 1.5 * 2 ** 52 * widenFloat(format, 1),
  };
};

const ROUNDINGS: Readonly<Record<Fp8, Rounding>> = { f8e4m3: roundingTo("f8e4m3"), f8e5m2: roundingTo("f8e5m2") };

/** The number of a format that is nearest to a part, of which the magnitude is given. */
const nearest = (part: number, magnitude: number, rounding: Rounding): number =>
  magnitude < rounding.leastNormal || magnitude > rounding.largest
    ? nearestRare(part, magnitude, rounding)
    : part * rounding.more - part * rounding.power;

/** The same of what becomes no normal number, or is beyond the format. A zero keeps its sign. */
const nearestRare = (part: number, magnitude: number, { largest, steps }: Rounding): number => {
  const rounded = magnitude > largest ? largest : magnitude + steps - steps;
  return part < 0 || 1 / part < 0 ? -rounded : rounded;
};

/** What is lost of a value. A function of its own is merged into loops, as one within a function is not. */
const lostOf = (value: number, scale: number, inverse: number, rounding: Rounding): number => {
  const part = Math.fround(value * inverse);
  return value - nearest(part, Math.abs(part), rounding) * scale;
};

/** Numbers that are looked at, `rows` of them for each. */
export interface Sample {
  readonly values: Float32Array;
  readonly from: number;
  readonly to: number;
  readonly weight: number;
}

/**
 * The sums, in their order, of squares of what is lost of a sample where it lies in a format as parts of a scale: of four scales from a
 * place on, into the same place of `sums`.
 */
export const squaresLostByFour = (
  format: Fp8,
  { values, from, to, weight }: Sample,
  scales: Float32Array,
  place: number,
  sums: Float64Array,
): void => {
  const rounding = ROUNDINGS[format];
  const a = at(scales, place, "scale");
  const b = at(scales, place + 1, "scale");
  const c = at(scales, place + 2, "scale");
  const d = at(scales, place + 3, "scale");
  const [inverseA, inverseB, inverseC, inverseD] = [1 / a, 1 / b, 1 / c, 1 / d];
  let [sumA, sumB, sumC, sumD] = [0, 0, 0, 0];
  for (let i = from; i < to; i++) {
    const value = values[i] as number;
    const lostA = lostOf(value, a, inverseA, rounding);
    const lostB = lostOf(value, b, inverseB, rounding);
    const lostC = lostOf(value, c, inverseC, rounding);
    const lostD = lostOf(value, d, inverseD, rounding);
    sumA += weight * lostA * lostA;
    sumB += weight * lostB * lostB;
    sumC += weight * lostC * lostC;
    sumD += weight * lostD * lostD;
  }
  sums[place] = sumA;
  sums[place + 1] = sumB;
  sums[place + 2] = sumC;
  sums[place + 3] = sumD;
};

/** Whether squares of what is lost of numbers, each as part of a scale, come to less than `enough`. */
export const losesLess = (
  format: Fp8,
  { values, from, to }: Omit<Sample, "weight">,
  scale: number,
  enough: number,
): boolean => {
  const rounding = ROUNDINGS[format];
  const inverse = 1 / scale;
  let sum = 0;
  for (let i = from; i < to; i++) {
    const lost = lostOf(values[i] as number, scale, inverse, rounding);
    sum += lost * lost;
    if (sum >= enough) return false;
  }
  return sum < enough;
};

/** Whether a finite number would round to one beyond the format. */
const isBeyond = (magnitude: number, { largest, power, more }: Rounding): boolean =>
  magnitude < Number.POSITIVE_INFINITY && magnitude * more - magnitude * power > largest;

/**
 * Values from a place on over scales, whose inverses are given, as the nearest numbers of a format; as many as `near` has room for. Comes
 * with how many finite ones are beyond the format.
 */
export const nearestParts = (
  format: Fp8,
  values: Float32Array,
  from: number,
  inverses: Float64Array,
  place: number,
  near: Float32Array,
): number => {
  const rounding = ROUNDINGS[format];
  let beyond = 0;
  for (let i = 0; i < near.length; i++) {
    const part = Math.fround((values[from + i] as number) * (inverses[place + i] as number));
    const magnitude = Math.abs(part);
    near[i] = nearest(part, magnitude, rounding);
    if (magnitude > rounding.largest && isBeyond(magnitude, rounding)) beyond++;
  }
  return beyond;
};

/** Bit patterns of numbers that are in a format, into memory from a place on. */
export const patternsOf = (format: Fp8, near: Float32Array, out: Uint8Array, place: number): void => {
  const { drop, rebias, leastNormal, sign } = NARROW_FORMATS[format];
  const words = new Uint32Array(near.buffer, near.byteOffset, near.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const magnitude = word & 0x7fffffff;
    out[place + i] =
      magnitude >= leastNormal && magnitude < 0x7f800000
        ? ((magnitude - rebias) >>> drop) | ((word >>> 24) & sign)
        : narrowFloat(format, near[i] as number);
  }
};
