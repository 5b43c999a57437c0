/**
 * Elementwise operations that the VXM does not have, in terms of those that it has.
 *
 * Powers with a constant small whole exponent are products; any other power is exp(b log a), which holds for positive bases.
 * Truth values stay of dtype bool; numbers become truth values by comparison and the other way round by selection.
 */

import { type DType, DTYPES } from "../../../ir/dtype.js";
import type { NodeId } from "../../../ir/graph.js";
import { VIEWS } from "../../../ir/ops.js";
import { stringAttr } from "../../../ir/ops/attributes.js";
import { isFloat, toNumbers } from "../../../ir/tensor.js";
import { isHostView } from "../legal.js";
import { smallValues } from "../../../ir/literals.js";
import type { Candidate, Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";

/** A rule that replaces one operation wherever it stands, by its operands; y is x where there is one operand. */
const replaces = (
  op: string,
  law: string,
  build: (g: Rewriter, x: NodeId, y: NodeId, node: Candidate) => NodeId | undefined,
): Rule => ({
  name: `decompose-${op}`,
  law,
  ops: [op],
  rewrite: (g, node) => build(g, operandOf(node, 0), operandOf(node, Math.min(1, node.inputs.length - 1)), node),
});

const numberLike = (g: Rewriter, x: NodeId, value: number): NodeId => g.number(value, g.type(x).dtype);

/** x * x * ... by squaring; the count is a whole number of at least 1. */
function wholePower(g: Rewriter, x: NodeId, count: number): NodeId {
  if (count === 1) return x;
  const half = wholePower(g, x, Math.floor(count / 2));
  const square = g.emit("mul", [half, half]);
  return count % 2 === 0 ? square : g.emit("mul", [square, x]);
}

const LARGEST_PRODUCT = 16;

function power(g: Rewriter, x: NodeId, y: NodeId, node: Candidate): NodeId | undefined {
  const exponent = g.uniform(y);
  const sameShape = g.shape(x).length >= g.shape(y).length;
  if (exponent !== undefined && sameShape) {
    if (Number.isInteger(exponent) && exponent >= 1 && exponent <= LARGEST_PRODUCT) return wholePower(g, x, exponent);
    if (!isFloat(node.type.dtype)) return undefined;
    if (exponent === 0.5) return g.emit("sqrt", [x]);
    if (exponent === -0.5) return g.emit("rsqrt", [x]);
    if (Number.isInteger(exponent) && exponent < 0 && exponent >= -LARGEST_PRODUCT)
      return g.emit("div", [numberLike(g, x, 1), wholePower(g, x, -exponent)]);
  }
  return isFloat(node.type.dtype) ? anyPower(g, x, y) : undefined;
}

/**
 * a^b for any numbers: |a|^b by exp and log, negative where a is and b is odd, no number where a is negative and b not whole;
 * a^0 and 1^b are 1.
 */
function anyPower(g: Rewriter, a: NodeId, b: NodeId): NodeId {
  const [zero, one] = [numberLike(g, a, 0), numberLike(g, a, 1)];
  const size = g.emit("exp", [g.emit("mul", [g.emit("log", [g.emit("abs", [a])]), b])]);
  const half = g.emit("mul", [b, numberLike(g, b, 0.5)]);
  const isWhole = g.emit("eq", [g.emit("floor", [b]), b]);
  const isEven = g.emit("eq", [g.emit("floor", [half]), half]);
  const signed = g.emit("select", [isEven, size, g.emit("neg", [size])]);
  const ofNegative = g.emit("select", [isWhole, signed, numberLike(g, a, Number.NaN)]);
  const power = g.emit("select", [g.emit("lt", [a, zero]), ofNegative, size]);
  const isOne = g.emit("or", [g.emit("eq", [b, numberLike(g, b, 0)]), g.emit("eq", [a, one])]);
  return g.emit("select", [isOne, one, power]);
}

/** Toward zero. */
const truncated = (g: Rewriter, x: NodeId): NodeId =>
  g.emit("mul", [g.emit("sign", [x]), g.emit("floor", [g.emit("abs", [x])])]);
/** Operations that give whole numbers of whole numbers; how many of them one after the other are looked through. */
const KEEPS_WHOLE: readonly string[] = [
  ...["add", "sub", "mul", "max", "min", "neg", "abs", "cast"],
  ...[...VIEWS, "concat"],
];
const LOOKS_THROUGH = 6;
function isWhole(g: Rewriter, x: NodeId, depth = LOOKS_THROUGH): boolean {
  const { op, inputs, type } = g.node(x);
  if (!isFloat(type.dtype) || op === "floor" || op === "round" || op === "sign") return true;
  const literal = g.literal(x);
  const values = literal === undefined ? undefined : smallValues(literal);
  if (values !== undefined) return toNumbers(values).every(Number.isInteger);
  return depth > 0 && KEEPS_WHOLE.includes(op) && inputs.every((id) => isWhole(g, id, depth - 1));
}

function convert(g: Rewriter, x: NodeId, node: Candidate): NodeId | undefined {
  const [from, to]: readonly [DType, DType] = [g.type(x).dtype, node.type.dtype];
  if (to === "bool") return g.emit("not", [g.emit("eq", [x, g.number(0, from)])]);
  if (from === "bool" && !isHostView(g, x)) return g.emit("select", [x, g.number(1, to), g.number(0, to)]);
  if (isFloat(from) && DTYPES[to].kind === "int" && !isWhole(g, x)) return g.emit("cast", [truncated(g, x)], { to });
  return undefined;
}

const GELU = Math.sqrt(2 / Math.PI);

export const MATH_RULES: readonly Rule[] = [
  replaces(
    "pow",
    "x^2 == x * x and so on; x^0.5 == sqrt(x); a^b == exp(b log |a|), with the sign that a whole b gives",
    power,
  ),
  replaces("sqrt", "sqrt(x) == 1 / rsqrt(x)", (g, x) => g.emit("div", [numberLike(g, x, 1), g.emit("rsqrt", [x])])),
  replaces("reciprocal", "reciprocal(x) == 1 / x", (g, x) => g.emit("div", [numberLike(g, x, 1), x])),
  replaces("gt", "a > b == b < a", (g, x, y) => g.emit("lt", [y, x])),
  replaces("ge", "a >= b == b <= a", (g, x, y) => g.emit("le", [y, x])),
  replaces("xor", "a xor b == (a or b) and not (a and b)", (g, x, y) =>
    g.emit("and", [g.emit("or", [x, y]), g.emit("not", [g.emit("and", [x, y])])]),
  ),
  replaces("ceil", "ceil(x) == -floor(-x)", (g, x) => g.emit("neg", [g.emit("floor", [g.emit("neg", [x])])])),
  replaces("is_nan", "is_nan(x) == not (x == x)", (g, x) => g.emit("not", [g.emit("eq", [x, x])])),
  replaces("silu", "silu(x) == x sigmoid(x)", (g, x) => g.emit("mul", [x, g.emit("sigmoid", [x])])),
  replaces("softplus", "softplus(x) == relu(x) + log(1 + exp(-|x|))", (g, x) => {
    const tail = g.emit("exp", [g.emit("neg", [g.emit("abs", [x])])]);
    return g.emit("add", [g.emit("relu", [x]), g.emit("log", [g.emit("add", [tail, numberLike(g, x, 1)])])]);
  }),
  replaces(
    "gelu",
    "gelu(x) == x / 2 (1 + erf(x / sqrt 2)), or x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))",
    (g, x, _, node) => {
      const times = (a: NodeId, value: number): NodeId => g.emit("mul", [a, numberLike(g, x, Math.fround(value))]);
      const cubic = (): NodeId => g.emit("add", [x, times(wholePower(g, x, 3), 0.044715)]);
      const s =
        stringAttr(node.attrs, "approximate") === "tanh"
          ? g.emit("tanh", [times(cubic(), GELU)])
          : g.emit("erf", [times(x, Math.SQRT1_2)]);
      return g.emit("mul", [times(x, 0.5), g.emit("add", [s, numberLike(g, x, 1)])]);
    },
  ),
  replaces("mod", "mod(a, b) == a - b trunc(a / b) for floats", (g, x, y, node) =>
    isFloat(node.type.dtype) ? g.emit("sub", [x, g.emit("mul", [y, truncated(g, g.emit("div", [x, y]))])]) : undefined,
  ),
  replaces(
    "cast",
    "cast(x, bool) == not (x == 0); cast(b: bool, t) == select(b, 1, 0); integers by truncation",
    (g, x, _, node) => convert(g, x, node),
  ),
];
