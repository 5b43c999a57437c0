import { describe, expect, test } from "@jest/globals";
import { NARROW_FORMATS, narrowFloat, widenFloat } from "../src/ir/numerics.js";
import { losesLess, nearestParts, patternsOf, squaresLostByFour } from "../src/ir/rounding.js";

/** Rounding to FP8 by arithmetic, against that on bits. */

const FORMATS = ["f8e4m3", "f8e5m2"] as const;

/** All kinds of numbers, by their bits, and those about the numbers of the format and halfway between them. */
const valuesFor = (format: (typeof FORMATS)[number], scale: number): Float32Array => {
  const any = new Float32Array(Uint32Array.from({ length: 60_000 }, (_, i) => Math.imul(i, 0x9e3779b1)).buffer);
  const { largest } = NARROW_FORMATS[format];
  const near = Array.from({ length: 2 * largest }, (_, i) => {
    const [below, above] = [widenFloat(format, i >> 1), widenFloat(format, (i + 1) >> 1)];
    return Math.fround(((below + above) / 2) * scale);
  });
  const words = new Uint32Array(Float32Array.from(near).buffer);
  const about = [-2, -1, 0, 1, 2].flatMap((step) => [...words.map((word) => word + step)]);
  const beside = new Float32Array(Uint32Array.from(about).buffer);
  return Float32Array.of(...any, ...beside, ...beside.map((value) => -value), 0, -0, Number.NaN, Infinity, -Infinity);
};

const SCALES = [1, 0.75, 1.0625 * 2 ** -9, Math.fround(1 / 3), Math.fround(0.1), 2 ** -126, 2 ** -145, 3.1e38];

describe.each(FORMATS)("%s", (format) => {
  test.each(SCALES)("parts of %p are what bits say", (scale) => {
    const values = valuesFor(format, scale);
    const near = new Float32Array(values.length);
    const inverses = new Float64Array(values.length).fill(1 / scale);
    const beyond = nearestParts(format, values, 0, inverses, 0, near);
    const parts = values.map((value) => value / scale);
    const patterns = Uint8Array.from(parts, (part) => narrowFloat(format, part));
    expect([...near].map((value, i) => (Object.is(value, widenFloat(format, patterns[i] ?? 0)) ? -1 : i))).toEqual(
      [...near].map(() => -1),
    );
    const found = new Uint8Array(values.length + 3);
    patternsOf(format, near, found, 3);
    expect(Buffer.compare(found.subarray(3), patterns)).toBe(0);
    const { largest } = NARROW_FORMATS[format];
    const most = parts.filter((part) => Number.isFinite(part) && narrowFloat(format, Math.abs(part), false) > largest);
    expect(beyond).toBe(most.length);
  });

  test("squares that are lost are summed in their order", () => {
    const values = valuesFor(format, 0.75).filter((value) => Math.abs(value) < 1e30);
    const scales = Float32Array.of(9, 0.75, 1 / 3, 1.5, 0.01, 9);
    const [from, to, weight] = [100, 1100, 3.7];
    const sums = new Float64Array(6);
    squaresLostByFour(format, { values, from, to, weight }, scales, 1, sums);
    const lost = (value: number, scale: number): number =>
      value - widenFloat(format, narrowFloat(format, Math.fround(value / scale))) * scale;
    const expected = Float64Array.from(scales, (scale, i) => {
      let sum = 0;
      for (const value of values.subarray(from, to)) sum += weight * lost(value, scale) * lost(value, scale);
      return i === 0 || i === 5 ? 0 : sum;
    });
    expect(sums).toEqual(expected);
    const alone = values.subarray(from, to).reduce((sum, value) => sum + lost(value, 1.5) * lost(value, 1.5), 0);
    const least = losesLess(format, { values, from, to }, 1.5, alone * (1 + 2 ** -50));
    expect([losesLess(format, { values, from, to }, 1.5, alone), least]).toEqual([false, true]);
  });
});
