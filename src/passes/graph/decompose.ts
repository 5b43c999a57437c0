/**
 * Decomposition: composites, and operations that the machine does not have, end as the operations of `legal.ts`.
 *
 * Canonical rules run along, so that what the rules make is in normal form at once; short axes are joined before they are
 * reduced. Operations for which there is no rule stay as they are: `legal.ts` reports them all together.
 */

import { ATTENTION_RULES } from "./decompose/attention.js";
import { CONV_RULES } from "./decompose/conv.js";
import { GATHER_RULES } from "./decompose/gather.js";
import { INDEX_RULES } from "./decompose/index.js";
import { INTEGER_RULES } from "./decompose/integers.js";
import { EIGHT_RULES } from "./decompose/eights.js";
import { MATH_RULES } from "./decompose/math.js";
import { REDUCE_RULES } from "./decompose/reduce.js";
import type { GraphPass } from "./pass.js";
import { rewriteGraph, type Rule } from "./rewriter.js";
import { ARITHMETIC_RULES } from "./rules/arithmetic.js";
import { NARROW_RULES } from "./rules/narrow.js";
import { VIEW_RULES } from "./rules/views.js";

export const DECOMPOSE_RULES: readonly Rule[] = [
  ...EIGHT_RULES,
  ...MATH_RULES,
  ...REDUCE_RULES,
  ...ATTENTION_RULES,
  ...CONV_RULES,
  ...GATHER_RULES,
  ...INDEX_RULES,
  ...INTEGER_RULES,
];

export const decompose: GraphPass = {
  name: "decompose",
  doc: "Writes composites, reductions, convolutions and gathers in terms of the operations that the machine has.",
  run: (graph) => rewriteGraph(graph, [...NARROW_RULES, ...DECOMPOSE_RULES, ...ARITHMETIC_RULES, ...VIEW_RULES]),
  ensures: ["no-composites"],
};
