/**
 * Algebra of elementwise operations: constants to the right and together, neutral elements, signs, divisions.
 *
 * Only equations that hold for all finite operands, up to one rounding. Each rule makes fewer or cheaper nodes, or brings
 * a constant to where another rule finds it.
 */

import { at } from "../../../diagnostics.js";
import { DTYPES } from "../../../ir/dtype.js";
import { elementCount, type NodeId, type Shape } from "../../../ir/graph.js";
import { broadcastShapes, equalShapes, isFloat, toNumbers } from "../../../ir/tensor.js";
import { smallValues } from "../../../ir/literals.js";
import type { Candidate, Rewriter, Rule } from "../rewriter.js";

export const operandOf = (node: { readonly inputs: readonly NodeId[] }, index: number): NodeId =>
  at(node.inputs, index, "input");
const isConstant = (g: Rewriter, id: NodeId): boolean => g.literal(id) !== undefined;
/** The operand itself, if it already has the type of the node that it is to replace. */
const ifSameShape = (g: Rewriter, id: NodeId, node: Candidate): NodeId | undefined =>
  equalShapes(g.shape(id), node.type.shape) ? id : g.emit("expand", [id], { shape: node.type.shape });

const UNARY_OPS = [
  "neg",
  "abs",
  "exp",
  "log",
  "sqrt",
  "rsqrt",
  "reciprocal",
  "tanh",
  "sigmoid",
  "erf",
  "sin",
  "cos",
  "floor",
  "ceil",
  "round",
  "sign",
  "relu",
  "not",
  "is_nan",
  "softplus",
  "gelu",
  "silu",
  "cast",
];
const BINARY_OPS = [
  "add",
  "sub",
  "mul",
  "div",
  "pow",
  "max",
  "min",
  "mod",
  "eq",
  "lt",
  "le",
  "gt",
  "ge",
  "and",
  "or",
  "xor",
  "bit_and",
  "bit_or",
  "bit_xor",
  "shift_left",
  "shift_right",
];
const COMMUTATIVE = ["add", "mul", "max", "min", "eq", "and", "or", "xor", "bit_and", "bit_or", "bit_xor"];
export const ELEMENTWISE_OPS: readonly string[] = [...UNARY_OPS, ...BINARY_OPS, "select"];

/** Shape of an elementwise result if operand `index` had another shape. */
const shapeWith = (g: Rewriter, node: Candidate, index: number, shape: Shape): Shape =>
  broadcastShapes(
    node.inputs.map((id, i) => (i === index ? shape : g.shape(id))),
    node.op,
  );

const withOperand = (g: Rewriter, node: Candidate, index: number, id: NodeId): NodeId =>
  g.emit(
    node.op,
    node.inputs.map((old, i) => (i === index ? id : old)),
    node.attrs,
  );

const uniformToScalar: Rule = {
  name: "uniform-to-scalar",
  law: "op(x, [c, c, ...]) == op(x, c)",
  ops: [...BINARY_OPS, "select"],
  rewrite: (g, node) => {
    for (const [index, id] of node.inputs.entries()) {
      if (g.shape(id).length === 0 || !equalShapes(shapeWith(g, node, index, []), node.type.shape)) continue;
      const value = g.uniform(id);
      if (value !== undefined) return withOperand(g, node, index, g.number(value, g.type(id).dtype));
    }
    return undefined;
  },
};

const dropExpand: Rule = {
  name: "drop-expand",
  law: "op(expand(x), y) == op(x, y) where y broadcasts x to the same shape",
  ops: [...BINARY_OPS, "select"],
  rewrite: (g, node) => {
    for (const [index, id] of node.inputs.entries()) {
      if (g.node(id).op !== "expand") continue;
      const inner = operandOf(g.node(id), 0);
      if (!equalShapes(shapeWith(g, node, index, g.shape(inner)), node.type.shape)) continue;
      g.through(id, "expand");
      return withOperand(g, node, index, inner);
    }
    return undefined;
  },
};

const sinkExpand: Rule = {
  name: "sink-expand",
  law: "op(expand(x, s), c) == expand(op(x, c), s)",
  ops: ELEMENTWISE_OPS,
  rewrite: (g, node) => {
    const spread = node.inputs.filter((id) => g.node(id).op === "expand");
    const [first] = spread;
    if (first === undefined || !node.inputs.every((id) => id === first || g.shape(id).length === 0)) return undefined;
    const inner = operandOf(g.node(first), 0);
    if (elementCount(g.shape(inner)) >= elementCount(node.type.shape)) return undefined;
    const small = g.emit(
      node.op,
      node.inputs.map((id) => (id === first ? inner : id)),
      node.attrs,
    );
    return g.from(g.node(first), () => g.emit("expand", [small], { shape: node.type.shape }));
  },
};

const constantsLast: Rule = {
  name: "constants-last",
  law: "c + x == x + c, and so for every commutative operation",
  ops: COMMUTATIVE,
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    return isConstant(g, a) && !isConstant(g, b) ? g.emit(node.op, [b, a]) : undefined;
  },
};

/** The operand that does nothing, by operation: right side only, as constants are last. */
const NEUTRAL: Readonly<Record<string, number>> = { add: 0, sub: 0, mul: 1, div: 1, pow: 1, or: 0, and: 1, xor: 0 };
const neutral: Rule = {
  name: "neutral",
  law: "x + 0 == x - 0 == x * 1 == x / 1 == x",
  ops: Object.keys(NEUTRAL),
  rewrite: (g, node) => {
    const [x, c] = [operandOf(node, 0), operandOf(node, 1)];
    const value = g.uniform(c);
    return value !== undefined && value === NEUTRAL[node.op] ? ifSameShape(g, x, node) : undefined;
  },
};

const absorbing: Rule = {
  name: "absorbing",
  law: "x and false == false; x or true == true",
  ops: ["and", "or"],
  rewrite: (g, node) => {
    const value = g.uniform(operandOf(node, 1));
    return value === (node.op === "or" ? 1 : 0) ? ifSameShape(g, operandOf(node, 1), node) : undefined;
  },
};

const idempotent: Rule = {
  name: "idempotent",
  law: "max(x, x) == min(x, x) == x and x == x or x == x",
  ops: ["max", "min", "and", "or"],
  rewrite: (_, node) => (operandOf(node, 0) === operandOf(node, 1) ? operandOf(node, 0) : undefined),
};

const involution: Rule = {
  name: "involution",
  law: "neg(neg(x)) == not(not(x)) == x",
  ops: ["neg", "not"],
  rewrite: (g, node) => {
    const inner = g.through(operandOf(node, 0), node.op);
    return inner === undefined ? undefined : operandOf(inner, 0);
  },
};

const projection: Rule = {
  name: "projection",
  law: "f(f(x)) == f(x) for abs, relu, floor, ceil, round and sign; abs(neg(x)) == abs(x)",
  ops: ["abs", "relu", "floor", "ceil", "round", "sign"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    if (g.node(x).op === node.op) return x;
    const inner = node.op === "abs" ? g.through(x, "neg") : undefined;
    return inner === undefined ? undefined : g.emit("abs", inner.inputs);
  },
};

const subtractConstant: Rule = {
  name: "subtract-constant",
  law: "x - c == x + (-c)",
  ops: ["sub"],
  rewrite: (g, node) =>
    isConstant(g, operandOf(node, 1))
      ? g.emit("add", [operandOf(node, 0), g.emit("neg", [operandOf(node, 1)])])
      : undefined,
};

/** Whether 1 / x is exact: a power of two whose inverse is a normal number. */
const isPowerOfTwo = (x: number): boolean =>
  Number.isInteger(Math.log2(Math.abs(x))) && Math.abs(Math.log2(Math.abs(x))) <= 14;

/** Quotients that are rounded to whole numbers, as of quantization, must be those of the model to the last bit. */
const divideConstant: Rule = {
  name: "divide-constant",
  law: "x / c == x * (1 / c) for floats, where 1 / c is exact",
  ops: ["div"],
  rewrite: (g, node) => {
    const c = operandOf(node, 1);
    const literal = isFloat(node.type.dtype) ? g.literal(c) : undefined;
    const values = literal === undefined ? undefined : smallValues(literal);
    if (values === undefined || !toNumbers(values).every(isPowerOfTwo)) return undefined;
    const one = g.number(1, node.type.dtype);
    return g.emit("mul", [operandOf(node, 0), g.emit("div", [one, c])]);
  },
};

const multiplyReciprocal: Rule = {
  name: "multiply-reciprocal",
  law: "x * (1 / y) == x / y",
  ops: ["mul"],
  rewrite: (g, node) => {
    for (const [x, y] of [
      [operandOf(node, 0), operandOf(node, 1)],
      [operandOf(node, 1), operandOf(node, 0)],
    ] as const) {
      const quotient = g.node(y);
      if (quotient.op !== "div" || g.uniform(operandOf(quotient, 0)) !== 1) continue;
      if (!equalShapes(broadcastShapes([g.shape(x), g.shape(operandOf(quotient, 1))], "mul"), node.type.shape))
        continue;
      g.through(y, "div");
      return g.emit("div", [x, operandOf(quotient, 1)]);
    }
    return undefined;
  },
};

const divideQuotient: Rule = {
  name: "divide-quotient",
  law: "x / (c / y) == (x * y) * (1 / c)",
  ops: ["div"],
  rewrite: (g, node) => {
    const quotient = g.node(operandOf(node, 1));
    const c = quotient.op === "div" ? g.uniform(operandOf(quotient, 0)) : undefined;
    if (c === undefined || c === 0 || !isFloat(node.type.dtype)) return undefined;
    const [x, y] = [operandOf(node, 0), operandOf(quotient, 1)];
    if (!equalShapes(broadcastShapes([g.shape(x), g.shape(y)], "div"), node.type.shape)) return undefined;
    g.through(operandOf(node, 1), "div");
    return g.emit("mul", [g.emit("mul", [x, y]), g.number(Math.fround(1 / c), node.type.dtype)]);
  },
};

/** x, if the node is -x; its origins go to what is made next. */
function negated(g: Rewriter, id: NodeId): NodeId | undefined {
  const node = g.through(id, "neg");
  return node === undefined ? undefined : operandOf(node, 0);
}

const negateDifference: Rule = {
  name: "negate-difference",
  law: "-(x - y) == y - x for floats",
  ops: ["neg"],
  rewrite: (g, node) => {
    if (!isFloat(node.type.dtype)) return undefined;
    const inner = g.through(operandOf(node, 0), "sub");
    return inner === undefined ? undefined : g.emit("sub", [operandOf(inner, 1), operandOf(inner, 0)]);
  },
};

const negateProduct: Rule = {
  name: "negate-product",
  law: "-(x * c) == (-x) * c == x * (-c)",
  ops: ["neg", "mul"],
  rewrite: (g, node) => {
    const outer = operandOf(node, 0);
    const product = node.op === "neg" ? g.node(outer) : node;
    if (product.op !== "mul" || !isConstant(g, operandOf(product, 1))) return undefined;
    const c = g.emit("neg", [operandOf(product, 1)]);
    const x = node.op === "neg" ? operandOf(g.through(outer, "mul") ?? product, 0) : negated(g, outer);
    return x === undefined ? undefined : g.emit("mul", [x, c]);
  },
};

const addNegative: Rule = {
  name: "add-negative",
  law: "x + (-y) == (-y) + x == x - y; x - (-y) == x + y",
  ops: ["add", "sub"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    const right = negated(g, b);
    if (right !== undefined) return g.emit(node.op === "add" ? "sub" : "add", [a, right]);
    const left = node.op === "add" ? negated(g, a) : undefined;
    return left === undefined ? undefined : g.emit("sub", [b, left]);
  },
};

const multiplyNegatives: Rule = {
  name: "multiply-negatives",
  law: "(-x) * (-y) == x * y; (-x) / (-y) == x / y",
  ops: ["mul", "div"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    if (g.node(a).op !== "neg" || g.node(b).op !== "neg") return undefined;
    const operands = [a, b].flatMap((id) => negated(g, id) ?? []);
    return g.emit(node.op, operands);
  },
};

const chainConstants: Rule = {
  name: "chain-constants",
  law: "(x + c) + d == x + (c + d); (x * c) * d == x * (c * d); (c - x) + d == (c + d) - x; c - (x + d) == (c - d) - x",
  ops: ["add", "mul", "sub"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    const [outer, other] = node.op === "sub" ? [b, a] : [a, b];
    const inner = g.node(outer);
    if (
      !isConstant(g, other) ||
      (inner.op !== node.op && !(node.op === "add" && inner.op === "sub") && !(node.op === "sub" && inner.op === "add"))
    )
      return undefined;
    if (node.op === "sub" && inner.op === "sub") return undefined;
    const index = inner.op === "sub" ? 0 : 1;
    const [x, c] = [operandOf(inner, 1 - index), operandOf(inner, index)];
    if (!isConstant(g, c) || isConstant(g, x)) return undefined;
    const together = broadcastShapes([g.shape(c), g.shape(other)], node.op);
    if (elementCount(together) > Math.max(elementCount(g.shape(c)), elementCount(g.shape(other)))) return undefined;
    if (!equalShapes(broadcastShapes([g.shape(x), together], node.op), node.type.shape)) return undefined;
    g.through(outer, inner.op);
    if (node.op === "sub") return g.emit("sub", [g.emit("sub", [other, c]), x]);
    const constant = g.emit(node.op, [c, other]);
    return inner.op === "sub" ? g.emit("sub", [constant, x]) : g.emit(node.op, [x, constant]);
  },
};

const scaleSmaller: Rule = {
  name: "scale-smaller",
  law: "matmul(a, b * c) == matmul(a * c, b) where a has fewer elements, c is one number and |c| <= 1",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    const turned = g.node(b).op === "transpose" ? operandOf(g.node(b), 0) : b;
    const scaled = g.node(turned);
    if (scaled.op !== "mul" || elementCount(g.shape(a)) >= elementCount(g.shape(b))) return undefined;
    const [x, c] = [operandOf(scaled, 0), operandOf(scaled, 1)];
    const factor = g.scalar(c);
    if (factor === undefined || factor === 0 || !(Math.abs(factor) <= 1)) return undefined;
    if (!equalShapes(g.shape(x), scaled.type.shape)) return undefined;
    g.through(turned, "mul");
    const first = g.emit("mul", [a, g.number(factor, g.type(a).dtype)]);
    return g.emit("matmul", [first, turned === b ? x : g.emit("transpose", [x], g.node(b).attrs)]);
  },
};

const selectRules: Rule = {
  name: "select",
  law: "select(true, a, b) == a; select(c, a, a) == a; select(not c, a, b) == select(c, b, a)",
  ops: ["select"],
  rewrite: (g, node) => {
    const [c, a, b] = [operandOf(node, 0), operandOf(node, 1), operandOf(node, 2)];
    const value = g.uniform(c);
    if (value !== undefined) return ifSameShape(g, value === 0 ? b : a, node);
    if (a === b) return ifSameShape(g, a, node);
    const inner = g.through(c, "not");
    return inner === undefined ? undefined : g.emit("select", [operandOf(inner, 0), b, a]);
  },
};

/** Casts after which nothing of the value is lost. */
const widens = (from: keyof typeof DTYPES, to: keyof typeof DTYPES): boolean =>
  from === "bool" ||
  (isFloat(to) && from !== "f32" && DTYPES[to].bytes === 4) ||
  (!isFloat(from) && !isFloat(to) && to === "i32" && from !== "u32");

const casts: Rule = {
  name: "cast",
  law: "cast(x: t, t) == x; cast(cast(x, wider), t) == cast(x, t)",
  ops: ["cast"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    if (g.type(x).dtype === node.type.dtype) return x;
    const inner = g.node(x);
    if (inner.op !== "cast") return undefined;
    const source = operandOf(inner, 0);
    const small = DTYPES[g.type(source).dtype].bytes <= 2 || g.type(source).dtype === "bool";
    if (!widens(g.type(source).dtype, inner.type.dtype) || (!small && isFloat(inner.type.dtype))) return undefined;
    g.through(x, "cast");
    return g.emit("cast", [source], node.attrs);
  },
};

export const ARITHMETIC_RULES: readonly Rule[] = [
  uniformToScalar,
  sinkExpand,
  dropExpand,
  constantsLast,
  neutral,
  absorbing,
  idempotent,
  involution,
  projection,
  subtractConstant,
  divideConstant,
  multiplyReciprocal,
  divideQuotient,
  negateDifference,
  negateProduct,
  addNegative,
  multiplyNegatives,
  chainConstants,
  scaleSmaller,
  selectRules,
  casts,
];
