/**
 * Products of integers, which the MXM makes of fp16 numbers and sums in fp32, and both without an error.
 *
 * fp16 holds integers up to 2,048, fp32 up to 2^24. Where a sum could leave that, one operand is written in digits, each of
 * which has a product of its own: their sums are small enough, and are joined in i32. Weights are read once, for the greatest
 * sum of a column: nearly always it is far below what their type allows. What cannot be made exact is left as it is, and refused.
 */

import type { Literal, NodeId } from "../../../ir/graph.js";
import { isFloat, toNumbers } from "../../../ir/tensor.js";
import { isLaneMap } from "../../../ir/literals.js";
import { magnitude } from "../masks.js";
import { integerRange } from "../../../ir/ranges.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";

/** The greatest integers up to which fp16 and fp32 hold all. */
export const EXACT_F16 = 2 ** 11;
export const EXACT_F32 = 2 ** 24;
const MOST_DIGITS = 8;

interface Magnitudes {
  /** Of an element. */
  readonly most: number;
  /** Of the sum of the magnitudes of a column. */
  readonly sum: number;
}

const measured = new WeakMap<Literal, Magnitudes>();

/** Of a constant [.., K, N], by its values. */
function magnitudesOf(literal: Literal): Magnitudes {
  const known = measured.get(literal);
  if (known !== undefined) return known;
  const [inner = 1, columns = 1] = literal.shape.slice(-2);
  const values = toNumbers(literal.load());
  const sums = new Float64Array(columns);
  let [most, sum] = [0, 0];
  for (let start = 0; start < values.length; start += inner * columns) {
    sums.fill(0);
    for (let i = 0; i < inner * columns; i += 1) {
      const size = Math.abs(values[start + i] as number);
      const column = i % columns;
      sums[column] = (sums[column] as number) + size;
      if (size > most) most = size;
    }
    sum = sums.reduce((a, b) => Math.max(a, b), sum);
  }
  measured.set(literal, { most, sum });
  return { most, sum };
}

function magnitudesAt(g: Rewriter, id: NodeId): Magnitudes {
  const literal = g.literal(id);
  if (literal !== undefined) return magnitudesOf(literal);
  const most = magnitude(integerRange(g, id));
  return { most, sum: most * (g.shape(id).at(-2) ?? 1) };
}

/** How many digits b needs for exact sums of products with a, and their base; undefined where there are none. */
function digitsFor(
  mostOfA: number,
  b: Magnitudes,
  inner: number,
): { readonly count: number; readonly base: number } | undefined {
  if (mostOfA > EXACT_F16) return undefined;
  if (b.most <= EXACT_F16 && mostOfA * b.sum <= EXACT_F32) return { count: 1, base: 1 };
  for (let count = 2; count <= MOST_DIGITS; count += 1) {
    // Digits of an even base from -base / 2 to base / 2.
    const base = 2 * Math.ceil((2 * b.most + 1) ** (1 / count) / 2);
    if (base / 2 <= EXACT_F16 && mostOfA * (base / 2) * inner <= EXACT_F32) return { count, base };
  }
  return undefined;
}

/** The digits of x, the lowest first, each from -base / 2 to base / 2. */
function digitsOf(g: Rewriter, x: NodeId, base: number, count: number): NodeId[] {
  if (count === 1) return [x];
  const [half, whole] = [g.number(base / 2, "i32"), g.number(base, "i32")];
  const low = g.emit("sub", [g.emit("mod", [g.emit("add", [x, half]), whole]), half]);
  return [low, ...digitsOf(g, g.emit("div", [g.emit("sub", [x, low]), whole]), base, count - 1)];
}

/** An exact contraction of integers: as fp32 numbers through the MXM, and back. */
const exactly = (g: Rewriter, x: NodeId, contract: Contraction): NodeId => {
  const made = contract(g.emit("cast", [x], { to: "f32" }));
  return g.emit("cast", [g.emit("round", [made])], { to: g.type(x).dtype });
};

/** What the MXM makes of fp32 numbers. */
type Contraction = (x: NodeId) => NodeId;

/**
 * A linear contraction of integers of any size, in three parts of eleven bits, which fp16 holds: x is (h * 2048 + m) * 2048 + l.
 * The contraction of a part is at most 2^24, for fp32 to hold it.
 */
export function contractByParts(g: Rewriter, x: NodeId, contract: Contraction): NodeId {
  const base = g.number(EXACT_F16, g.type(x).dtype);
  const low = (y: NodeId): NodeId => g.emit("mod", [y, base]);
  const rest = (y: NodeId): NodeId => g.emit("div", [g.emit("sub", [y, low(y)]), base]);
  const shifted = (y: NodeId): NodeId => g.emit("mul", [y, base]);
  const part = (y: NodeId): NodeId => exactly(g, y, contract);
  const upper = rest(x);
  const joined = g.emit("add", [shifted(part(rest(upper))), part(low(upper))]);
  return g.emit("add", [shifted(joined), part(low(x))]);
}

const integerProduct: Rule = {
  name: "integer-product",
  law: "matmul(a, b) of integers == sum over digits b' of b of base^i round(matmul(a, b')) in fp32, where each sum is at most 2^24",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    if (isFloat(node.type.dtype) || node.type.dtype !== "i32" || isLaneMap(g.literal(b))) return undefined;
    const inner = g.shape(a).at(-1) ?? 1;
    const digits = digitsFor(magnitudesAt(g, a).most, magnitudesAt(g, b), inner);
    if (digits === undefined) return undefined;
    const left = g.emit("cast", [a], { to: "f32" });
    return digitsOf(g, g.emit("cast", [b], { to: "i32" }), digits.base, digits.count)
      .map((digit, place) => {
        const sums = exactly(g, digit, (numbers) => g.emit("matmul", [left, numbers]));
        return place === 0 ? sums : g.emit("mul", [sums, g.number(digits.base ** place, "i32")]);
      })
      .reduce((sum, part) => g.emit("add", [sum, part]));
  },
};

export const INTEGER_RULES: readonly Rule[] = [integerProduct];
