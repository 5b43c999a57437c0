import { describe, expect, test } from "@jest/globals";
import { narrowFloat, narrowFloats, widenFloat } from "../src/ir/numerics.js";
import { CANDIDATES, type Loops, plainLoops, STRIP } from "../src/passes/graph/fp8-loops.js";
import { simdLoops } from "../src/passes/graph/fp8-simd.js";

/** The loops of FP8: both kinds give the same bits, and those that numerics gives. */

const FORMATS = ["f8e4m3", "f8e5m2"] as const;
const BOTH: readonly Loops[] = [plainLoops, simdLoops() ?? plainLoops];

/** Numbers by their bits. */
const anyNumbers = (count: number, seed: number): Float32Array =>
  new Float32Array(Uint32Array.from({ length: count }, (_, i) => Math.imul(i + seed, 0x9e3779b1)).buffer);
/** Numbers of weights, a few of them great, small or zero. */
const numbers = (count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => {
    const value = Math.sin(i * 1.7) * Math.sin(i * 0.37 + 1);
    return i % 11 === 0 ? value * 2 ** -14 : i % 97 === 0 ? value * 9 : i % 131 === 0 ? -0 : value;
  });

const [ROWS, COLUMNS, FIRST, WIDTH] = [9, 103, 2, 99];
const scales = Float32Array.from({ length: 2 * COLUMNS }, (_, i) => (1 + (i % 16) / 16) * 2 ** -((i % 5) + 8));
const strip = (values: Float32Array): Parameters<Loops["narrow"]>[1] => ({
  values,
  data: new Uint8Array(values.length),
  from: FIRST,
  stride: COLUMNS,
  rows: ROWS,
  width: WIDTH,
  scales,
  place: (row) => (row < 4 ? 0 : COLUMNS) + FIRST,
});

test("this host has vectors", () => expect(simdLoops()).toBeDefined());

describe.each(FORMATS)("%s", (format) => {
  test("patterns are those of numerics, and so is what is beyond the format", () => {
    for (const seed of [0, 5000, 70_000]) {
      const values = anyNumbers(ROWS * COLUMNS, seed);
      const expected = new Uint8Array(values.length);
      let beyond = 0;
      for (let row = 0; row < ROWS; row++) {
        const from = row * COLUMNS + FIRST;
        const place = strip(values).place(row);
        const parts = values.slice(from, from + WIDTH).map((value, i) => value / (scales[place + i] ?? 1));
        beyond += narrowFloats(format, parts, expected.subarray(from, from + WIDTH)).beyond;
      }
      for (const loops of BOTH) {
        const given = strip(values);
        expect(loops.narrow(format, given).saturated).toBe(beyond);
        expect(Buffer.compare(given.data, expected)).toBe(0);
      }
    }
  });

  test("what is lost is the same, bit for bit", () => {
    const [plain, simd] = BOTH.map((loops) => loops.narrow(format, strip(numbers(ROWS * COLUMNS))));
    expect(simd).toEqual(plain);
    const lost = numbers(ROWS * COLUMNS).map((value) => {
      const [part, scale] = [value / 2 ** -9, 2 ** -9];
      return Math.abs(value - widenFloat(format, narrowFloat(format, part)) * scale);
    });
    const even = { ...strip(numbers(ROWS * COLUMNS)), scales: scales.map(() => 2 ** -9), from: 0, width: COLUMNS };
    for (const loops of BOTH)
      expect(Math.fround(loops.narrow(format, { ...even, place: () => 0 }).greatest)).toBe(Math.max(...lost));
  });

  test("squares that are lost of samples, also of those that go in several parts", () => {
    const values = Float32Array.of(...numbers(2 * STRIP + 77), ...anyNumbers(50, 3).filter((x) => Math.abs(x) < 1e9));
    const tried = Float32Array.from({ length: CANDIDATES }, (_, i) => (1 + i / 16) * 2 ** -9);
    for (const [from, to] of [
      [0, 0],
      [3, 4],
      [7, 300],
      [1, values.length],
    ] as const) {
      const [plain, simd] = BOTH.map((loops) => {
        const sums = new Float64Array(CANDIDATES);
        loops.squaresLost(format, { values, from, to, weight: 3.3 }, 1.2, tried, sums);
        return sums;
      });
      expect(simd).toEqual(plain);
    }
    const sums = new Float64Array(CANDIDATES);
    for (const bits of [0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f800001]) {
      const none = new Float32Array(Uint32Array.of(bits).buffer);
      for (const loops of BOTH) {
        loops.squaresLost(format, { values: none, from: 0, to: 1, weight: 1 }, 0, tried, sums);
        expect([...sums].every((sum) => Number.isNaN(sum))).toBe(true);
      }
    }
  });
});

test("the greatest of each column is a number", () => {
  const values = anyNumbers(ROWS * COLUMNS, 11);
  for (let i = 0; i < values.length; i += 7) values[i] = Number.NaN;
  const [plain, simd] = BOTH.map((loops) => loops.greatest({ ...strip(values) }));
  expect(simd).toEqual(plain);
  const column = [...values].filter((_, i) => i % COLUMNS === FIRST).filter((value) => !Number.isNaN(value));
  expect(plain?.[0]).toBe(Math.max(...column.map(Math.abs)));
});
