import { expect, test } from "@jest/globals";
import { f32ToF16, narrowFloats } from "../src/ir/numerics.js";
import { narrowHalves } from "../src/passes/graph/halves-simd.js";

/** Narrowing to fp16 on vectors gives the bits of numerics, or says that it cannot. */

test("numbers within fp16 are narrowed alike", () => {
  // All signs, exponents and upper bits of a mantissa, with all kinds of bits behind these.
  const words = Uint32Array.from({ length: 2 ** 20 }, (_, i) => (i << 12) | ([0, 1, 0x7ff, 0x800, 0xfff][i % 5] ?? 0));
  const values = new Float32Array(words.buffer).filter((value) => Math.abs(value) <= 65504);
  for (let from = 0; from < values.length; from += 30_001) {
    const some = values.subarray(from, from + 30_001);
    const out = new Uint16Array(some.length + 1);
    expect(narrowHalves(some, out)).toBe(true);
    expect(
      Buffer.compare(Buffer.from(out.buffer, 0, 2 * some.length), Buffer.from(narrowFloats("f16", some).data.buffer)),
    ).toBe(0);
  }
});

test.each([65504.01, 65520, -65536, Number.NaN, Infinity, -Infinity])("%p is left to others", (value) => {
  const given = new Float32Array(77).fill(1);
  const out = new Uint16Array(77);
  expect([narrowHalves(given, out), out[76]]).toEqual([true, f32ToF16(1)]);
  given[76] = value;
  expect(narrowHalves(given, out)).toBe(value === Math.fround(65504));
  expect(narrowHalves(new Float32Array(40_000), new Uint16Array(40_000))).toBe(false);
});
