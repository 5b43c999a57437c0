/**
 * Import rules of element by element operators. Operators without a counterpart in the tensor IR are written in terms of
 * those that have one; constants take the element type of the operand.
 */

import { invariant } from "../../diagnostics.js";
import { type DType, isFp8 } from "../../ir/dtype.js";
import type { NodeId } from "../../ir/graph.js";
import { isFloat, isInteger } from "../../ir/tensor.js";
import {
  add,
  cast,
  dtypeOf,
  expand,
  flag,
  float,
  has,
  hasAttribute,
  int,
  type Made,
  mul,
  not,
  numberOf,
  numbersOf,
  op,
  operand,
  optional,
  optionalFloat,
  type Rule,
  type RuleContext,
  reject,
  scalar,
  scalarLike,
  scale,
  select,
  shapeOf,
  sub,
  tensorAttribute,
  text,
  unsupported,
  wants,
  type UseWide,
} from "../rule.js";
import { elementType } from "../tensors.js";
import { bounds, type CastType, casts, clips, compares, moves } from "../wide.js";

type Build = (c: RuleContext, x: NodeId) => NodeId;

/** Operators of one operand that the tensor IR has. */
const UNARY: Readonly<Record<string, string>> = {
  Abs: "abs",
  Exp: "exp",
  Log: "log",
  Sqrt: "sqrt",
  Reciprocal: "reciprocal",
  Tanh: "tanh",
  Sigmoid: "sigmoid",
  Erf: "erf",
  Sin: "sin",
  Cos: "cos",
  Floor: "floor",
  Ceil: "ceil",
  Round: "round",
  Sign: "sign",
  Not: "not",
  Neg: "neg",
  IsNaN: "is_nan",
  Softplus: "softplus",
};

const max = (c: RuleContext, x: NodeId, bound: number): NodeId => op(c, "max", [x, scalarLike(c, x, bound)]);
const min = (c: RuleContext, x: NodeId, bound: number): NodeId => op(c, "min", [x, scalarLike(c, x, bound)]);
const exp = (c: RuleContext, x: NodeId): NodeId => op(c, "exp", [x]);
const log = (c: RuleContext, x: NodeId): NodeId => op(c, "log", [x]);
const offset = (c: RuleContext, x: NodeId, by: number): NodeId => add(c, x, scalarLike(c, x, by));
const below = (c: RuleContext, x: NodeId, bound: number): NodeId => op(c, "lt", [x, scalarLike(c, x, bound)]);
const above = (c: RuleContext, x: NodeId, bound: number): NodeId => op(c, "gt", [x, scalarLike(c, x, bound)]);
/** e^x - 1 where x < 0; the operand is held below 0 so that what is not selected stays finite. */
const grownBelow: Build = (c, x) => offset(c, exp(c, min(c, x, 0)), -1);
/** scale * (x below 0 ? slope(x) : x) */
const kinked = (c: RuleContext, x: NodeId, slope: NodeId): NodeId => select(c, below(c, x, 0), slope, x);
const squareRoot = (c: RuleContext, x: NodeId): NodeId => op(c, "sqrt", [x]);

export const hardSigmoid = (c: RuleContext, x: NodeId, alpha: number, beta: number): NodeId =>
  max(c, min(c, offset(c, scale(c, x, alpha), beta), 1), 0);

/** Squares of numbers up to this one are exact enough beside 1, and do not overflow. */
const SQUARABLE = 1e8;

/** log(1 + y) without cancellation: the error of u = 1 + y is in log(u) and in u - 1 alike. */
function logOfOnePlus(c: RuleContext, y: NodeId): NodeId {
  const u = offset(c, y, 1);
  const grown = offset(c, u, -1);
  const isSmall = op(c, "eq", [grown, scalarLike(c, y, 0)]);
  const ratio = op(c, "div", [mul(c, y, log(c, u)), select(c, isSmall, scalarLike(c, y, 1), grown)]);
  const isInfinite = op(c, "eq", [y, scalarLike(c, y, Number.POSITIVE_INFINITY)]);
  return select(c, isInfinite, y, select(c, isSmall, y, ratio));
}

/** 1 - x^2 as (1 - x) (1 + x). */
const oneLessSquare: Build = (c, x) => mul(c, sub(c, scalarLike(c, x, 1), x), offset(c, x, 1));

/** atan(r) = r p(r^2) for 0 <= r <= 1: least maximum error, 2e-6 (Hastings, Approximations for Digital Computers, 1955). */
const ARC_TANGENT = [0.99997726, -0.33262347, 0.19354346, -0.11643287, 0.05265332, -0.0117212];

/** Of |x| > 1 it is pi / 2 less that of 1 / |x|. */
function arcTangent(c: RuleContext, x: NodeId): NodeId {
  const size = op(c, "abs", [x]);
  const isGreat = above(c, size, 1);
  const inverse = op(c, "div", [scalarLike(c, x, 1), max(c, size, 1)]);
  const r = select(c, isGreat, inverse, size);
  const square = mul(c, r, r);
  const sum = ARC_TANGENT.reduceRight<NodeId | undefined>(
    (rest, coefficient) =>
      rest === undefined ? scalarLike(c, x, coefficient) : offset(c, mul(c, rest, square), coefficient),
    undefined,
  );
  const inner = mul(c, r, sum ?? r);
  return mul(c, op(c, "sign", [x]), select(c, isGreat, sub(c, scalarLike(c, x, Math.PI / 2), inner), inner));
}

/** Operators of one operand in terms of others. */
const COMPOSED: Readonly<Record<string, Build>> = {
  Relu: (c, x) => (isInteger(dtypeOf(c, x)) ? max(c, x, 0) : op(c, "relu", [x])),
  Mish: (c, x) => mul(c, x, op(c, "tanh", [op(c, "softplus", [x])])),
  Gelu: (c, x) => op(c, "gelu", [x], { approximate: text(c, "approximate", "none") }),
  Swish: (c, x) =>
    float(c, "alpha", 1) === 1 ? op(c, "silu", [x]) : mul(c, x, op(c, "sigmoid", [scale(c, x, float(c, "alpha", 1))])),
  Softsign: (c, x) => op(c, "div", [x, offset(c, op(c, "abs", [x]), 1)]),
  HardSigmoid: (c, x) => hardSigmoid(c, x, float(c, "alpha", 0.2), float(c, "beta", 0.5)),
  HardSwish: (c, x) => mul(c, x, hardSigmoid(c, x, 1 / 6, 0.5)),
  Elu: (c, x) => kinked(c, x, scale(c, grownBelow(c, x), float(c, "alpha", 1))),
  Selu: (c, x) =>
    scale(
      c,
      kinked(c, x, scale(c, grownBelow(c, x), float(c, "alpha", 1.6732632423543772))),
      float(c, "gamma", 1.0507009873554805),
    ),
  Celu: (c, x) => {
    const alpha = float(c, "alpha", 1);
    return kinked(c, x, scale(c, grownBelow(c, scale(c, x, 1 / alpha)), alpha));
  },
  LeakyRelu: (c, x) => kinked(c, x, scale(c, x, float(c, "alpha", 0.01))),
  ThresholdedRelu: (c, x) => select(c, above(c, x, float(c, "alpha", 1)), x, scalarLike(c, x, 0)),
  Shrink: (c, x) => {
    const [lambda, bias] = [float(c, "lambd", 0.5), float(c, "bias", 0)];
    const high = select(c, above(c, x, lambda), offset(c, x, -bias), scalarLike(c, x, 0));
    return select(c, below(c, x, -lambda), offset(c, x, bias), high);
  },
  Tan: (c, x) => op(c, "div", [op(c, "sin", [x]), op(c, "cos", [x])]),
  // Of a small argument the difference would cancel: sinh(x) is 2 t / (1 - t^2) for t = tanh(x / 2).
  Sinh: (c, x) => {
    const half = op(c, "tanh", [scale(c, x, 0.5)]);
    const small = op(c, "div", [scale(c, half, 2), sub(c, scalarLike(c, x, 1), mul(c, half, half))]);
    const great = scale(c, sub(c, exp(c, x), exp(c, op(c, "neg", [x]))), 0.5);
    return select(c, below(c, op(c, "abs", [x]), 1), small, great);
  },
  Cosh: (c, x) => scale(c, add(c, exp(c, x), exp(c, op(c, "neg", [x]))), 0.5),
  // log(|x| + sqrt(x^2 + 1)) as log(1 + y), which does not cancel; a square that overflows adds nothing to 2 |x|.
  Asinh: (c, x) => {
    const size = op(c, "abs", [x]);
    const held = min(c, size, SQUARABLE);
    const square = mul(c, held, held);
    const tail = op(c, "div", [square, offset(c, squareRoot(c, offset(c, square, 1)), 1)]);
    const great = offset(c, log(c, size), Math.LN2);
    const area = select(c, below(c, size, SQUARABLE), logOfOnePlus(c, add(c, held, tail)), great);
    return mul(c, op(c, "sign", [x]), area);
  },
  // log(x + sqrt(x^2 - 1)) as log(1 + y), for y = t + sqrt(t (t + 2)) and t = x - 1.
  Acosh: (c, x) => {
    const held = offset(c, min(c, x, SQUARABLE), -1);
    const root = squareRoot(c, mul(c, held, offset(c, held, 2)));
    return select(c, below(c, x, SQUARABLE), logOfOnePlus(c, add(c, held, root)), offset(c, log(c, x), Math.LN2));
  },
  Atanh: (c, x) => scale(c, logOfOnePlus(c, op(c, "div", [scale(c, x, 2), sub(c, scalarLike(c, x, 1), x)])), 0.5),
  Atan: arcTangent,
  // 2 atan(x / (1 + sqrt(1 - x^2))), and 2 atan(sqrt((1 - x) / (1 + x))): neither cancels.
  Asin: (c, x) => scale(c, arcTangent(c, op(c, "div", [x, offset(c, squareRoot(c, oneLessSquare(c, x)), 1)])), 2),
  Acos: (c, x) => {
    const ratio = op(c, "div", [sub(c, scalarLike(c, x, 1), x), offset(c, x, 1)]);
    return scale(c, arcTangent(c, squareRoot(c, ratio)), 2);
  },
  BitwiseNot: (c, x) => op(c, "bit_xor", [x, scalarLike(c, x, -1)]),
  IsInf: (c, x) => {
    const infinity = (value: number): NodeId => op(c, "eq", [x, scalarLike(c, x, value)]);
    const [high, low] = [flag(c, "detect_positive", true), flag(c, "detect_negative", true)];
    if (high && low) return op(c, "eq", [op(c, "abs", [x]), scalarLike(c, x, Number.POSITIVE_INFINITY)]);
    if (!high && !low) return expand(c, scalar(c, "bool", 0), shapeOf(c, x));
    return infinity(high ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY);
  },
};

/** Operators of two operands that the tensor IR has. */
const BINARY: Readonly<Record<string, string>> = {
  Add: "add",
  Sub: "sub",
  Mul: "mul",
  Div: "div",
  And: "and",
  BitwiseAnd: "bit_and",
  BitwiseOr: "bit_or",
  BitwiseXor: "bit_xor",
  Or: "or",
  Xor: "xor",
  Less: "lt",
  LessOrEqual: "le",
  Greater: "gt",
  GreaterOrEqual: "ge",
};

/** Operators of any number of operands, by the operation that joins two. */
const VARIADIC: Readonly<Record<string, string>> = { Max: "max", Min: "min", Sum: "add" };

function fold(c: RuleContext, operation: string): NodeId {
  const operands = c.operands.filter((id) => id !== undefined);
  return operands.slice(1).reduce((total, next) => op(c, operation, [total, next]), operand(c, 0));
}

function equal(c: RuleContext): NodeId {
  const [a, b] = [operand(c, 0), operand(c, 1)];
  return dtypeOf(c, a) === "bool" ? not(c, op(c, "xor", [a, b])) : op(c, "eq", [a, b]);
}

function mod(c: RuleContext): NodeId {
  const [a, b] = [operand(c, 0), operand(c, 1)];
  if (isFloat(dtypeOf(c, a)) || !flag(c, "fmod")) return op(c, "mod", [a, b]);
  // Integer division truncates, so this is the remainder with the sign of the dividend.
  return sub(c, a, mul(c, b, op(c, "div", [a, b])));
}

function bitShift(c: RuleContext): NodeId {
  const direction = text(c, "direction");
  const operation = { LEFT: "shift_left", RIGHT: "shift_right" }[direction];
  if (operation === undefined) return reject(c, "LPU1008", `expected a direction LEFT or RIGHT, got '${direction}'`);
  return op(c, operation, [operand(c, 0), operand(c, 1)]);
}

function pow(c: RuleContext): NodeId {
  const [base, exponent] = [operand(c, 0), operand(c, 1)];
  const dtype = dtypeOf(c, base);
  if (dtypeOf(c, exponent) === dtype) return op(c, "pow", [base, exponent]);
  if (isFloat(dtype)) return op(c, "pow", [base, cast(c, exponent, dtype)]);
  return cast(c, op(c, "pow", [cast(c, base, "f32"), cast(c, exponent, "f32")]), dtype);
}

/** Bounds are attributes before version 11; the same bound may be the largest finite number, which bounds nothing. */
function clip(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const low = clipBound(c, x, 1, "min");
  const high = clipBound(c, x, 2, "max");
  const raised = low === undefined ? x : op(c, "max", [x, low]);
  return high === undefined ? raised : op(c, "min", [raised, high]);
}

function clipBound(c: RuleContext, x: NodeId, index: number, name: "min" | "max"): NodeId | undefined {
  const given = optional(c, index);
  if (given !== undefined) return given;
  const value = optionalFloat(c, name);
  return value === undefined || Math.abs(value) > 3.4028e38 ? undefined : scalarLike(c, x, value);
}

function castTo(c: RuleContext, dtype: DType): NodeId {
  if (dtype.startsWith("f8") && !flag(c, "saturate", true))
    unsupported(c, "saturate = 0 is not supported", "values beyond the range of FP8 saturate");
  const x = operand(c, 0);
  // FP8 weights are not folded: products take them as they are.
  return isFp8(dtypeOf(c, x)) ? c.graph.unfolded(() => cast(c, x, dtype)) : cast(c, x, dtype);
}

function castType(c: RuleContext): CastType {
  const { dtype, edge } = elementType(int(c, "to"), c.label);
  return { kind: dtype === "bool" ? "bool" : isFloat(dtype) ? "float" : "int", is64: edge === "i64" };
}

const identity = (c: RuleContext): Made => c.sequences.get(0) ?? operand(c, 0);

function dropout(c: RuleContext): readonly NodeId[] {
  const x = operand(c, 0);
  if (
    has(c, 2) &&
    numberOf(c, operand(c, 2), "training_mode") !== 0 &&
    (!has(c, 1) || numberOf(c, operand(c, 1), "ratio") !== 0)
  ) {
    unsupported(c, "training mode is not supported", "export the model for inference");
  }
  return wants(c, 1) ? [x, expand(c, scalar(c, "bool", 1), shapeOf(c, x))] : [x];
}

function prelu(c: RuleContext): NodeId {
  const [x, slope] = [operand(c, 0), operand(c, 1)];
  return kinked(c, x, mul(c, x, slope));
}

const rows = (
  table: Readonly<Record<string, unknown>>,
  build: (name: string) => Rule["build"],
  doc: (name: string) => string,
): Rule[] =>
  Object.keys(table).map((name) => {
    const wide = WIDE_USES[name];
    return { op: name, doc: doc(name), build: build(name), ...(wide === undefined ? {} : { wide }) };
  });

/** Operators of the tables that can take integers beyond 32 bits. */
const WIDE_USES: Readonly<Record<string, UseWide>> = {
  Less: compares(false, true),
  LessOrEqual: compares(false, true),
  Greater: compares(true, false),
  GreaterOrEqual: compares(true, false),
  Max: bounds("max"),
  Min: bounds("min"),
};

function named<T>(table: Readonly<Record<string, T>>, name: string): T {
  const found = table[name];
  invariant(found !== undefined, `'${name}' is a key of its table`);
  return found;
}

const FP8_OF_COMPUTED =
  "FP8 results with saturate = 0; and of what is computed any, since no unit of the machine rounds to FP8: only constants are rounded.";
const ONLY_FP8 = {
  saturate: "read where the result is FP8",
  round_mode: "it is of results in float8e8m0, and these are refused",
};

export const ELEMENTWISE: readonly Rule[] = [
  ...rows(
    UNARY,
    (name) => (c) => op(c, named(UNARY, name), [operand(c, 0)]),
    (name) => `The operation ${UNARY[name]}.`,
  ),
  ...rows(
    COMPOSED,
    (name) => (c) => named(COMPOSED, name)(c, operand(c, 0)),
    () => "Element by element, in terms of simpler operations.",
  ),
  ...rows(
    BINARY,
    (name) => (c) => op(c, named(BINARY, name), [operand(c, 0), operand(c, 1)]),
    (name) => `The operation ${BINARY[name]}.`,
  ),
  ...rows(
    VARIADIC,
    (name) => (c) => fold(c, named(VARIADIC, name)),
    (name) => `The operation ${VARIADIC[name]}, operand by operand.`,
  ),
  {
    op: "Mean",
    doc: "The sum of the operands divided by their number.",
    build: (c) => scale(c, fold(c, "add"), 1 / c.operands.length),
  },
  { op: "Identity", doc: "Its operand.", wide: moves(0), sequences: true, build: identity },
  {
    op: "Equal",
    doc: "The operation eq; for truth values the negation of xor.",
    wide: compares(false, false),
    build: equal,
  },
  {
    op: "Mod",
    doc: "The operation mod; with fmod on integers the remainder of a truncating division.",
    ignores: { fmod: "of floats the remainder has the sign of the dividend in any case" },
    build: mod,
  },
  { op: "BitShift", doc: "The operation shift_left or shift_right.", build: bitShift },
  { op: "Pow", doc: "The operation pow; the exponent takes the element type of the base.", build: pow },
  { op: "Clip", doc: "The operations max and min, with bounds from operands or attributes.", wide: clips, build: clip },
  {
    op: "Where",
    doc: "The operation select.",
    wide: moves(1, 2),
    build: (c) => select(c, operand(c, 0), operand(c, 1), operand(c, 2)),
  },
  {
    op: "Cast",
    doc: "The operation cast; 64-bit types become those of 32 bits.",
    refuses: FP8_OF_COMPUTED,
    ignores: ONLY_FP8,
    wide: casts(castType),
    build: (c) => castTo(c, elementType(int(c, "to"), c.label).dtype),
  },
  {
    op: "CastLike",
    doc: "The operation cast to the element type of the second operand.",
    refuses: FP8_OF_COMPUTED,
    ignores: ONLY_FP8,
    build: (c) => castTo(c, dtypeOf(c, operand(c, 1))),
  },
  {
    op: "Dropout",
    doc: "Its operand: programs are for inference.",
    refuses: "Training mode.",
    ignores: { "1": "nothing is dropped", "2": "programs are for inference", ratio: "nothing is dropped" },
    build: dropout,
  },
  { op: "PRelu", doc: "A slope for negative elements.", build: prelu },
  { op: "ConstantOfShape", doc: "A constant of the given shape.", build: constantOfShape },
];

function constantOfShape(c: RuleContext): NodeId {
  const value = hasAttribute(c, "value") ? c.literal(tensorAttribute(c, "value")) : scalar(c, "f32", 0);
  return expand(c, op(c, "reshape", [value], { shape: [] }), numbersOf(c, operand(c, 0), "shape"));
}
