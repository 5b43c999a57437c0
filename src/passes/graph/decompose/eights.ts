/**
 * Numbers that are cast to FP8 and back, in arithmetic of fp32, which the ALUs have: there is no unit that rounds to FP8.
 *
 * With C = 2^(24 - p) + 1, x C - (x C - x) in fp32 is x rounded to p significant bits, ties to even (Veltkamp's splitting). Below
 * the least normal number all steps are equal, and numbers beyond the largest become it.
 */

import { isFp8 } from "../../../ir/dtype.js";
import type { NodeId } from "../../../ir/graph.js";
import { sure } from "../../../diagnostics.js";
import { isFloat } from "../../../ir/tensor.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";

interface Eight {
  /** With the one before the point. */
  readonly significantBits: number;
  readonly leastNormal: number;
  readonly largest: number;
}

const EIGHTS: Readonly<Record<string, Eight>> = {
  f8e4m3: { significantBits: 4, leastNormal: 2 ** -6, largest: 448 },
  f8e5m2: { significantBits: 3, leastNormal: 2 ** -14, largest: 57344 },
};

/** Bits of the significand of fp32. */
const SIGNIFICAND = 24;

function rounded(g: Rewriter, given: NodeId, { significantBits, leastNormal, largest }: Eight): NodeId {
  const number = (value: number): NodeId => g.number(value, "f32");
  const x = g.emit("min", [g.emit("max", [given, number(-largest)]), number(largest)]);
  const split = g.emit("mul", [x, number(2 ** (SIGNIFICAND - significantBits) + 1)]);
  const normal = g.emit("sub", [split, g.emit("sub", [split, x])]);
  const step = leastNormal * 2 ** (1 - significantBits);
  const small = g.emit("mul", [g.emit("round", [g.emit("mul", [x, number(1 / step)])]), number(step)]);
  return g.emit("select", [g.emit("lt", [g.emit("abs", [x]), number(leastNormal)]), small, normal]);
}

export const EIGHT_RULES: readonly Rule[] = [
  {
    name: "fp8-there-and-back",
    law: "cast(cast(x, FP8), t) == x C - (x C - x) for C == 2^(24 - significant bits) + 1, in equal steps below the least normal number",
    ops: ["cast"],
    rewrite: (g, node) => {
      const eight = g.node(operandOf(node, 0));
      if (eight.op !== "cast" || !isFp8(eight.type.dtype) || !isFloat(node.type.dtype)) return undefined;
      const x = operandOf(eight, 0);
      if (!isFloat(g.type(x).dtype) || g.literal(x) !== undefined) return undefined;
      g.through(operandOf(node, 0), "cast");
      const made = rounded(g, g.emit("cast", [x], { to: "f32" }), sure(EIGHTS[eight.type.dtype], "format"));
      return g.emit("cast", [made], { to: node.type.dtype });
    },
  },
];
