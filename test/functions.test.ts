/** The ALU functions: measured errors, special values, and that the tables agree with the instruction set. */

import { describe, expect, test } from "@jest/globals";
import { aluBinary, aluTernary, aluUnary, FUNCTION_ERRORS, roundEven } from "../src/ir/functions.js";
import { ALU_FUNCTIONS } from "../src/ir/isa.js";

const SAMPLES = 20_000;

/** Reference values in float64, good to about 1e-15. */
const REFERENCES: { readonly [F in keyof typeof FUNCTION_ERRORS]: (x: number) => number } = {
  exp: Math.exp,
  tanh: Math.tanh,
  rsqrt: (x) => 1 / Math.sqrt(x),
  erf: erf64,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  log: Math.log,
  sin: Math.sin,
  cos: Math.cos,
};

/** Series near zero, continued fraction of erfc further out. */
function erf64(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 80; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = a;
  for (let k = 60; k > 0; k--) fraction = a + k / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (fraction * Math.sqrt(Math.PI)));
}

/** Seeded fp32 numbers: any bit pattern, the middle range, and (for sin and cos) neighbours of multiples of pi / 2. */
function* samples(seed: number): Generator<number> {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state ^ (state >>> 15)) >>> 0;
  };
  const word = new Uint32Array(1);
  const float = new Float32Array(word.buffer);
  for (let i = 0; i < SAMPLES; i++) {
    word[0] = next();
    yield float[0] ?? 0;
    yield Math.fround((next() / 2 ** 32 - 0.5) * 40);
    yield Math.fround((next() / 2 ** 32 - 0.5) * 2);
    yield Math.fround((i * Math.PI) / 2);
  }
}

const unit = (value: number): number => 2 ** (Math.floor(Math.log2(Math.max(Math.abs(value), 2 ** -126))) - 23);

describe("measured errors", () => {
  for (const [name, { ulp }] of Object.entries(FUNCTION_ERRORS)) {
    test(`${name} stays within ${ulp} units in the last place`, () => {
      const compute = aluUnary[name as keyof typeof FUNCTION_ERRORS];
      const reference = REFERENCES[name as keyof typeof FUNCTION_ERRORS];
      let worst = 0;
      let at = 0;
      for (const x of samples(7)) {
        const exact = reference(x);
        if (!Number.isFinite(x) || !(Math.abs(exact) < 3.4e38)) continue;
        const result = compute(x);
        const error = Math.abs(result - exact) / unit(exact);
        if (!(error <= worst)) {
          worst = error;
          at = x;
        }
      }
      expect({ worst, at, within: worst <= ulp }).toEqual({ worst, at, within: true });
    });
  }
});

describe("special values", () => {
  const cases: readonly (readonly [keyof typeof aluUnary, number, number])[] = [
    ["exp", -Infinity, 0],
    ["exp", Infinity, Infinity],
    ["exp", 89, Infinity],
    ["exp", -104, 0],
    ["exp", 0, 1],
    ["exp", NaN, NaN],
    ["tanh", Infinity, 1],
    ["tanh", -Infinity, -1],
    ["tanh", 0, 0],
    ["tanh", NaN, NaN],
    ["rsqrt", 0, Infinity],
    ["rsqrt", Infinity, 0],
    ["rsqrt", -1, NaN],
    ["rsqrt", 4, 0.5],
    ["erf", Infinity, 1],
    ["erf", -Infinity, -1],
    ["erf", 0, 0],
    ["erf", NaN, NaN],
    ["sigmoid", -Infinity, 0],
    ["sigmoid", Infinity, 1],
    ["sigmoid", 0, 0.5],
    ["sigmoid", NaN, NaN],
    ["log", 0, -Infinity],
    ["log", -0, -Infinity],
    ["log", -1, NaN],
    ["log", Infinity, Infinity],
    ["log", 1, 0],
    ["log", NaN, NaN],
    ["sin", Infinity, NaN],
    ["sin", 0, 0],
    ["cos", 0, 1],
    ["cos", NaN, NaN],
    ["relu", -2, 0],
    ["relu", 2, 2],
    ["relu", NaN, NaN],
    ["floor", -0.5, -1],
    ["round", 0.5, 0],
    ["round", 1.5, 2],
    ["round", 2.5, 2],
    ["round", -0.5, -0],
    ["round", 2 ** 30, 2 ** 30],
    ["round", Infinity, Infinity],
    ["sign", -3, -1],
    ["sign", 0, 0],
    ["sign", NaN, NaN],
    ["not", 0, 1],
    ["not", 2, 0],
    ["not", NaN, 0],
  ];
  test.each(cases)("%s(%p) is %p", (name, x, expected) => {
    expect(aluUnary[name](x)).toBe(expected);
  });

  test("comparisons, maximum and minimum see NaN", () => {
    expect(aluBinary.max(NaN, 1)).toBeNaN();
    expect(aluBinary.min(1, NaN)).toBeNaN();
    expect([aluBinary.lt(NaN, 1), aluBinary.le(NaN, NaN), aluBinary.eq(NaN, NaN)]).toEqual([0, 0, 0]);
    expect([aluBinary.and(NaN, 1), aluBinary.or(0, 0), aluTernary.select(NaN, 5, 6)]).toEqual([1, 0, 5]);
  });

  test("integers wrap, or saturate where the name says so", () => {
    expect(aluBinary.addInt(0x7fffffff, 1)).toBe(-0x80000000);
    expect(aluBinary.subInt(-0x80000000, 1)).toBe(0x7fffffff);
    expect(aluBinary.mulInt(0x10000, 0x10001)).toBe(0x10000);
    expect([aluBinary.addSat(0x7fffffff, 1), aluBinary.addSat(-0x80000000, -1)]).toEqual([0x7fffffff, -0x80000000]);
    expect([aluBinary.shiftLeft(1, 33), aluBinary.shiftRight(-8, 1), aluBinary.andBits(12, 10)]).toEqual([2, -4, 8]);
    expect([aluUnary.absInt, aluUnary.negInt].map((fn) => fn(-0x80000000))).toEqual([-0x80000000, -0x80000000]);
    expect([-5, 0, 7].map(aluUnary.signInt)).toEqual([-1, 0, 1]);
    expect([aluBinary.divInt(-7, 2), aluBinary.divInt(7, 0), aluBinary.divInt(-0x80000000, -1)]).toEqual([
      -3, 0, -0x80000000,
    ]);
    expect([aluBinary.modInt(-7, 3), aluBinary.modInt(7, -3), aluBinary.modInt(7, 0)]).toEqual([2, -2, 0]);
    expect([aluBinary.eqInt(50256, 50257), aluBinary.ltInt(-1, 0), aluBinary.leInt(16777217, 16777216)]).toEqual([
      0, 1, 0,
    ]);
    expect(aluTernary.selectInt(1, 16777217, 0)).toBe(16777217);
  });

  test("division rounds once, to nearest even", () => {
    expect(aluBinary.div(1, 3)).toBe(Math.fround(1 / 3));
    expect(aluBinary.add(16777216, 1)).toBe(16777216);
  });
});

test("every ALU function has exactly one definition, with its number of operands", () => {
  const defined = { 1: aluUnary, 2: aluBinary, 3: aluTernary };
  for (const [name, { operands }] of Object.entries(ALU_FUNCTIONS)) {
    expect([1, 2, 3].filter((n) => Object.hasOwn(defined[n as 1 | 2 | 3], name))).toEqual([operands]);
  }
});

test("roundEven: halves go to the even neighbour, zero keeps its sign, large numbers stay", () => {
  for (let n = -21; n <= 21; n += 2) expect(Math.abs(roundEven(n / 2) % 2)).toBe(0);
  for (const x of [-2.6, -2.4, 0.4, 0.6, 7, 2 ** 23 + 1]) expect(roundEven(x)).toBe(Math.round(x));
  expect(Object.is(roundEven(-0.25), -0)).toBe(true);
});
