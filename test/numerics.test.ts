/** Number formats: every bit pattern of the narrow ones, rounding at every midpoint, and int64 at its edges. */

import { describe, expect, test } from "@jest/globals";
import { CompileError } from "../src/diagnostics.js";
import {
  bitsToF32,
  encodeF16,
  f32ToBits,
  f32ToF16,
  NARROW_FORMATS,
  type NarrowFloat,
  narrowFloat,
  narrowFloats,
  narrowInt64,
  roundToF16,
  widenFloat,
  widenFloats,
} from "../src/ir/numerics.js";

const FORMATS: readonly NarrowFloat[] = ["f16", "bf16", "f8e4m3", "f8e5m2"];
const patterns = (format: NarrowFloat): number[] =>
  Array.from({ length: NARROW_FORMATS[format].sign * 2 }, (_, bits) => bits);

describe.each(FORMATS)("%s", (format) => {
  const row = NARROW_FORMATS[format];

  test("every pattern widens and narrows back to itself, every NaN to the canonical one", () => {
    const wrong = patterns(format).filter((bits) => {
      const value = widenFloat(format, bits);
      const finite = (bits & ~row.sign) <= row.largest;
      const back = narrowFloat(format, value, false);
      if (Number.isNaN(value)) return back !== row.nan;
      return back !== bits || finite !== Number.isFinite(value);
    });
    expect(wrong).toEqual([]);
  });

  test("rounds to the nearest of two neighbours, and at the midpoint to the even one", () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < row.largest; bits += 1) {
      const [below, above] = [widenFloat(format, bits), widenFloat(format, bits + 1)];
      const middle = (below + above) / 2;
      const word = f32ToBits(middle);
      const even = bits % 2 === 0 ? bits : bits + 1;
      const found = [bitsToF32(word - 1), middle, bitsToF32(word + 1)].map((value) => narrowFloat(format, value));
      const mirrored = [bitsToF32(word - 1), middle, bitsToF32(word + 1)].map(
        (value) => narrowFloat(format, -value) - row.sign,
      );
      if (found.join() !== [bits, even, bits + 1].join() || mirrored.join() !== found.join()) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  test("bulk conversion equals the scalar one", () => {
    const values = new Float32Array(100_000);
    const words = new Uint32Array(values.buffer);
    for (let i = 0; i < words.length; i += 1) words[i] = Math.imul(i, 0x9e3779b1);
    for (const saturate of [false, true]) {
      const { data, beyond } = narrowFloats(format, values, undefined, saturate);
      expect(Array.from(data)).toEqual(Array.from(values, (value) => narrowFloat(format, value, saturate)));
      const overflows = values.filter(
        (value) =>
          Number.isFinite(value) && !Number.isNaN(value) && narrowFloat(format, Math.abs(value), false) > row.largest,
      ).length;
      expect(beyond).toBe(overflows);
    }
    const bits = row.sign === 0x80 ? Uint8Array.from(patterns(format)) : Uint16Array.from(patterns(format));
    expect(Array.from(widenFloats(format, bits))).toEqual(
      patterns(format).map((pattern) => widenFloat(format, pattern)),
    );
  });
});

test("landmarks of each format", () => {
  expect([65504, 65519.996, 65520, Number.POSITIVE_INFINITY].map(f32ToF16)).toEqual([0x7bff, 0x7bff, 0x7c00, 0x7c00]);
  expect([2 ** -24, 2 ** -25, 2 ** -25 * 1.0001, 2 ** -149].map((x) => f32ToF16(Math.fround(x)))).toEqual([1, 0, 1, 0]);
  expect([1, -2, -0, 0.5].map(f32ToF16)).toEqual([0x3c00, 0xc000, 0x8000, 0x3800]);
  expect(f32ToF16(Number.NaN)).toBe(0x7e00);
  expect(roundToF16(Math.fround(0.1))).toBe(0.0999755859375);
  const e4m3 = (x: number, saturate?: boolean): number => narrowFloat("f8e4m3", x, saturate);
  expect([448, 464, 465, 1e9, Number.POSITIVE_INFINITY, -1e9].map((x) => e4m3(x))).toEqual([
    0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0xfe,
  ]);
  expect([448, 464, 465, Number.POSITIVE_INFINITY, Number.NaN].map((x) => e4m3(x, false))).toEqual([
    0x7e, 0x7e, 0x7f, 0x7f, 0x7f,
  ]);
  expect([2 ** -9, 2 ** -10, 2 ** -6, 1].map((x) => e4m3(x))).toEqual([1, 0, 8, 0x38]);
  const e5m2 = (x: number, saturate?: boolean): number => narrowFloat("f8e5m2", x, saturate);
  expect([57344, 1e9, Number.POSITIVE_INFINITY, 2 ** -16, 1].map((x) => e5m2(x))).toEqual([0x7b, 0x7b, 0x7b, 1, 0x3c]);
  expect([61439, 61440, Number.POSITIVE_INFINITY, Number.NaN].map((x) => e5m2(x, false))).toEqual([
    0x7b, 0x7c, 0x7c, 0x7e,
  ]);
  expect(widenFloat("bf16", 0x3f80)).toBe(1);
  expect(narrowFloat("bf16", Math.fround(3.4e38))).toBe(0x7f80);
});

test("fp16 in bulk may fill part of a buffer, from a view that does not start at 0", () => {
  const values = new Float32Array([9, 1, -2]).subarray(1);
  const out = new Uint16Array(4);
  encodeF16(values, out.subarray(1, 3));
  expect(Array.from(out)).toEqual([0, 0x3c00, 0xc000, 0]);
  expect(Array.from(widenFloats("f16", out))).toEqual([0, 1, -2, 0]);
});

describe("int64", () => {
  const words = (...values: bigint[]): Int32Array => new Int32Array(BigInt64Array.from(values).buffer);

  test("narrows what fits", () => {
    const values = [0n, -1n, 2n ** 31n - 1n, -(2n ** 31n)];
    expect(Array.from(narrowInt64(words(...values), { node: "x" }))).toEqual([0, -1, 2147483647, -2147483648]);
    expect(Array.from(narrowInt64(words(7n), { node: "x", unsigned: true }))).toEqual([7]);
  });

  test.each([
    [2n ** 31n, false],
    [-(2n ** 31n) - 1n, false],
    [2n ** 32n, false],
    [2n ** 31n, true],
    [2n ** 63n - 1n, false],
    [-(2n ** 63n), false],
    [2n ** 63n - 2n, false],
  ])("%s (unsigned %s) is out of range", (value, unsigned) => {
    const narrow = (): unknown => narrowInt64(words(1n, value), { node: "ids (Constant)", unsigned });
    expect(narrow).toThrow(CompileError);
    expect(narrow).toThrow(`LPU2003: expected an integer of 32 bits, element 1 is ${value}`);
  });
});
