/**
 * The passes over graphs, in order: the one list. What leaves it is legal (`legal.ts`) and goes to selection.
 */

import { fail } from "../../diagnostics.js";
import { canonicalize } from "./canonicalize.js";
import { centre } from "./centre.js";
import { decompose } from "./decompose.js";
import { laneMaps } from "./lane-maps.js";
import type { GraphPass } from "./pass.js";
import { precision } from "./precision.js";
import { quantized } from "./quantized.js";
import { shard } from "./shard.js";
import { splitMatmuls } from "./split-matmuls.js";
import { trim } from "./trim.js";
import { weights } from "./weights.js";

/** What brings a graph to operations of the machine. */
export const OPTIMIZE: readonly GraphPass[] = [
  // First: it looks at how constants are made, and the next pass folds them.
  quantized,
  // Before what looks at values: shape arithmetic folds, so that what follows sees constants and looks at fewer nodes.
  canonicalize,
  decompose,
  // After decompose, which writes norms out; before split-matmuls, which cuts the weights that are centred.
  centre,
  // After decompose, which makes the slices; before lane-maps, which would pay for slices of products with lanes.
  splitMatmuls,
  // After split-matmuls: of what is one product before it, some parts are read whole and some are not.
  trim,
  laneMaps,
];

/** What gives it types of the machine; after all others, whose rules keep one element type. */
export const NARROW: readonly GraphPass[] = [weights, precision];

/** What gives it places on chips; last, since all others look at constants, which are others on each chip then. */
export const PLACE: readonly GraphPass[] = [shard];

export const PIPELINE: readonly GraphPass[] = [...OPTIMIZE, ...NARROW, ...PLACE];

/** The pipeline without some passes, or only some, or up to one; names as in the list. */
export function selectPasses(edit: {
  readonly skip?: readonly string[];
  readonly only?: readonly string[];
  readonly stopAfter?: string;
}): readonly GraphPass[] {
  const names = PIPELINE.map(({ name }) => name);
  for (const name of [
    ...(edit.skip ?? []),
    ...(edit.only ?? []),
    ...(edit.stopAfter === undefined ? [] : [edit.stopAfter]),
  ]) {
    if (!names.includes(name))
      fail("LPU2102", { message: `unknown pass '${name}'`, hint: `passes are ${names.join(", ")}` });
  }
  const end = edit.stopAfter === undefined ? names.length : names.indexOf(edit.stopAfter) + 1;
  return PIPELINE.slice(0, end).filter(
    ({ name }) => !(edit.skip ?? []).includes(name) && (edit.only === undefined || edit.only.includes(name)),
  );
}
