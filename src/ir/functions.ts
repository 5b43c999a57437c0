/**
 * The ALU functions, bit for bit: what each row of ALU_FUNCTIONS computes on fp32 numbers (or int32 ones).
 *
 * The host's Math.exp and its like differ between engines, so the transcendental functions are written here from IEEE
 * operations alone (+ - * / sqrt floor, and the exponent field of a double). Each is straight-line float64 arithmetic, in a
 * written order, on the constants of FUNCTION_CONSTANTS, rounded once to fp32: the SIMD kernels repeat it operation by
 * operation and get the same bits. Invariant: operands and results of float functions are fp32 values (`fround`-ed numbers),
 * of `int` functions int32 values. NaNs are made canonical where a result is given on a stream (lanes.ts), not here.
 */

import type { ALU_FUNCTIONS, AluFunction } from "./isa.js";

type FunctionsOf<N extends 1 | 2 | 3> = {
  [F in AluFunction]: (typeof ALU_FUNCTIONS)[F]["operands"] extends N ? F : never;
}[AluFunction];

/** Polynomials are in ascending powers, and are evaluated by Horner's rule from the last. */
export const FUNCTION_CONSTANTS = {
  /** Arguments of exp and sigmoid are held in +-this: beyond it fp32 has only 0 and infinity. */
  expLimit: 110,
  /** tanh(x) is 1 in fp32 for x >= 9.02. */
  tanhLimit: 10,
  // biome-ignore lint/suspicious/noApproximativeNumericConstant: the digits are the definition.
  log2e: 1.4426950408889634,
  // biome-ignore lint/suspicious/noApproximativeNumericConstant: the digits are the definition.
  ln2: 0.6931471805599453,
  /** (e^r - 1) / r on |r| <= ln2 / 2, Taylor: the first term left out is below 3e-10 of the result. */
  expm1: [1, 0.5, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320],
  /** erf(x) is 1 in fp32 for x >= 3.92. */
  erfLimit: 4,
  /** erf(x) = x * numerator(x^2) / denominator(x^2) on |x| <= 4: least maximum error, 2.6e-9 of the result. */
  erfNumerator: [
    1.128379169957446, 0.18505351494423128, 0.05436939242076349, 0.003853090832696855, 0.0003826560427030342,
    4.768405015905665e-6, -1.3618908219519484e-8,
  ],
  erfDenominator: [
    1, 0.4973328389768632, 0.11396060979042784, 0.015479382526760807, 0.0013124131455538532, 6.390792800575855e-5,
  ],
  /** High word of sqrt(1/2): log takes the mantissa m from [sqrt(1/2), sqrt(2)). */
  logOffset: 0x3fe6a09e,
  /** ln(m) = s * log(s^2), s = (m - 1) / (m + 1). */
  log: [2, 2 / 3, 2 / 5, 2 / 7, 2 / 9, 2 / 11],
  /** 2 / pi in pieces of 24 bits: each product with an fp32 number is exact in float64. */
  twoOverPi: [
    0xa2f983 * 2 ** -24,
    0x6e4e44 * 2 ** -48,
    0x1529fc * 2 ** -72,
    0x2757d1 * 2 ** -96,
    0xf534dd * 2 ** -120,
    0xc0db62 * 2 ** -144,
    0x95993c * 2 ** -168,
    0x439041 * 2 ** -192,
    0xfe5163 * 2 ** -216,
  ],
  halfPi: 1.5707963267948966,
  /** sin(r) / r and cos(r) in r^2 on |r| <= pi / 4, Taylor. */
  sin: [1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800],
  cos: [1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800],
} as const;

/** Greatest error found against exact values, in units in the last place of fp32 (0.5 is correct rounding); tested by sampling. */
export const FUNCTION_ERRORS = {
  exp: { ulp: 0.505, doc: "2^n * (1 + r * p(r)), r = x - n ln 2." },
  tanh: { ulp: 0.51, doc: "(e^2x - 1) / (e^2x + 1), with e^2x - 1 computed without cancellation." },
  rsqrt: { ulp: 0.501, doc: "1 / sqrt(x) in float64." },
  erf: { ulp: 0.545, doc: "x times a rational function of x^2." },
  sigmoid: { ulp: 0.505, doc: "1 / (1 + e^-x)." },
  log: { ulp: 0.505, doc: "n ln 2 + the series of ln in s = (m - 1) / (m + 1)." },
  sin: { ulp: 0.505, doc: "Quadrants by exact multiplication with 2 / pi, for every fp32 number, then a polynomial." },
  cos: { ulp: 0.505, doc: "As sin, one quadrant on." },
} as const satisfies Partial<Record<AluFunction, { readonly ulp: number; readonly doc: string }>>;

export const aluUnary = {
  copy: (x) => x,
  neg: (x) => -x,
  abs: Math.abs,
  relu: (x) => Math.max(x, 0),
  exp: (x) => fround(exp64(x)),
  tanh: (x) => {
    const grown = expm164(2 * clamp(x, C.tanhLimit));
    return fround(grown / (grown + 2));
  },
  rsqrt: (x) => fround(1 / Math.sqrt(x)),
  erf: (x) => {
    const held = clamp(x, C.erfLimit);
    const square = held * held;
    return fround((held * horner(C.erfNumerator, square)) / horner(C.erfDenominator, square));
  },
  sigmoid: (x) => fround(1 / (1 + exp64(-x))),
  log: log,
  sin: (x) => quarterWave(x, 0),
  cos: (x) => quarterWave(x, 1),
  floor: Math.floor,
  round: (x) => roundEven(x),
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : x),
  not: (x) => (x === 0 ? 1 : 0),
  absInt: (x) => Math.abs(x) | 0,
  negInt: (x) => -x | 0,
  signInt: (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
} satisfies Record<FunctionsOf<1>, (x: number) => number>;

export const aluBinary = {
  add: (a, b) => fround(a + b),
  sub: (a, b) => fround(a - b),
  mul: (a, b) => fround(a * b),
  div: (a, b) => fround(a / b),
  max: (a, b) => Math.max(a, b),
  min: (a, b) => Math.min(a, b),
  lt: (a, b) => (a < b ? 1 : 0),
  le: (a, b) => (a <= b ? 1 : 0),
  eq: (a, b) => (a === b ? 1 : 0),
  and: (a, b) => (a !== 0 && b !== 0 ? 1 : 0),
  or: (a, b) => (a !== 0 || b !== 0 ? 1 : 0),
  addInt: (a, b) => (a + b) | 0,
  subInt: (a, b) => (a - b) | 0,
  mulInt: Math.imul,
  addSat: (a, b) => Math.min(Math.max(a + b, -0x80000000), 0x7fffffff),
  maxInt: (a, b) => (a > b ? a : b),
  minInt: (a, b) => (a < b ? a : b),
  andBits: (a, b) => a & b,
  shiftLeft: (a, b) => a << (b & 31),
  shiftRight: (a, b) => a >> (b & 31),
  orBits: (a, b) => a | b,
  xorBits: (a, b) => a ^ b,
  divInt: (a, b) => (b === 0 ? 0 : (a / b) | 0),
  modInt: (a, b) => (b === 0 ? 0 : (a - b * Math.floor(a / b)) | 0),
  eqInt: (a, b) => (a === b ? 1 : 0),
  ltInt: (a, b) => (a < b ? 1 : 0),
  leInt: (a, b) => (a <= b ? 1 : 0),
} satisfies Record<FunctionsOf<2>, (a: number, b: number) => number>;

export const aluTernary = {
  select: (a, b, c) => (a !== 0 ? b : c),
  selectInt: (a, b, c) => (a !== 0 ? b : c),
} satisfies Record<FunctionsOf<3>, (a: number, b: number, c: number) => number>;

/** Nearest integer, ties to even, sign of zero kept; for |x| < 2^51 adding and taking 1.5 * 2^52 leaves the integer. */
export function roundEven(x: number): number {
  if (!(Math.abs(x) < 2 ** 51)) return x;
  const rounded = x + ROUNDING - ROUNDING;
  return rounded === 0 ? x * 0 : rounded;
}

const { fround } = Math;
const C = FUNCTION_CONSTANTS;
const ROUNDING = 1.5 * 2 ** 52;

/** A double and its two words, low word first. */
const double = new Float64Array(1);
const words = new Int32Array(double.buffer);

/** NaN stays NaN. */
function clamp(x: number, limit: number): number {
  return Math.min(Math.max(x, -limit), limit);
}

function horner(coefficients: readonly number[], x: number): number {
  let sum = 0;
  for (let i = coefficients.length - 1; i >= 0; i--) sum = sum * x + (coefficients[i] as number);
  return sum;
}

/** 2^n for -1022 <= n <= 1023; n of NaN counts as 0. */
function power2(n: number): number {
  words[0] = 0;
  words[1] = ((n | 0) + 1023) << 20;
  return double[0] as number;
}

function exp64(x: number): number {
  const held = clamp(x, C.expLimit);
  const n = Math.floor(held * C.log2e + 0.5);
  const r = held - n * C.ln2;
  return (1 + r * horner(C.expm1, r)) * power2(n);
}

/** e^x - 1. For |x| < ln2 / 2 the scale is 1 and nothing cancels. */
function expm164(x: number): number {
  const n = Math.floor(x * C.log2e + 0.5);
  const r = x - n * C.ln2;
  const scale = power2(n);
  return r * horner(C.expm1, r) * scale + (scale - 1);
}

function log(x: number): number {
  double[0] = x;
  const high = words[1] as number;
  const n = (high - C.logOffset) >> 20;
  words[1] = high - (n << 20);
  const m = double[0] as number;
  const s = (m - 1) / (m + 1);
  const y = fround(n * C.ln2 + s * horner(C.log, s * s));
  return x > 0 ? (x < Infinity ? y : x) : x === 0 ? -Infinity : NaN;
}

/**
 * sin(x + quadrant * pi / 2). Each product of x with a piece of 2 / pi is exact; its nearest integer counts quadrants, what
 * is left adds up from the greatest piece to the least, so that near a multiple of pi / 2 the leading parts cancel exactly.
 */
function quarterWave(x: number, quadrant: number): number {
  let quadrants = quadrant;
  let rest = 0;
  for (const piece of C.twoOverPi) {
    const product = x * piece;
    const whole = Math.floor(product + 0.5);
    const sum = rest + (product - whole);
    const carry = Math.floor(sum + 0.5);
    rest = sum - carry;
    quadrants += whole - 4 * Math.floor(whole * 0.25) + carry;
  }
  const r = rest * C.halfPi;
  const square = r * r;
  const sine = r * horner(C.sin, square);
  const cosine = horner(C.cos, square);
  const turn = quadrants - 4 * Math.floor(quadrants * 0.25);
  const value = turn === 1 || turn === 3 ? cosine : sine;
  return fround(turn >= 2 ? -value : value);
}
