/**
 * Canonicalisation: constants fold, equal nodes become one, and the algebra of elementwise operations and views applies.
 *
 * It improves and never enables: later passes are correct without it. Constants of a large model are not read; what is
 * computed from them stays a recipe until the image is written.
 */

import type { GraphPass } from "./pass.js";
import { rewriteGraph, type Rule } from "./rewriter.js";
import { ARITHMETIC_RULES } from "./rules/arithmetic.js";
import { NARROW_RULES } from "./rules/narrow.js";
import { VIEW_RULES } from "./rules/views.js";

export const CANONICAL_RULES: readonly Rule[] = [...ARITHMETIC_RULES, ...NARROW_RULES, ...VIEW_RULES];

export const canonicalize: GraphPass = {
  name: "canonicalize",
  doc: "Folds constants, joins equal nodes and simplifies arithmetic and views by rules.",
  run: (graph) => rewriteGraph(graph, CANONICAL_RULES),
};
