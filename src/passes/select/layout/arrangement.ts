/**
 * What a product is made of, but for names: which rows and half-vectors of its activations meet which blocks of weights. It depends on
 * nothing but how operands and result lie, and so is the same in all layers that are alike.
 */

import type { TileBlock } from "../../../ir/recipe.js";
import type { RowDigit } from "./operand.js";
import type { HalfPass } from "./passes.js";

/** A block of weights within one pass: K values k .. k + count - 1 on lanes from `lane` of the half; columns from `column`. */
export interface Block extends Omit<TileBlock, "offset"> {
  readonly batch: number;
}

/** Rows of the result that the same weights make. */
export interface Segment {
  readonly row: number;
  readonly rows: number;
  readonly batches: readonly number[];
}

/** A pass over rows of the activations that lie so far down. */
export interface DeepPass extends HalfPass<Block> {
  readonly depth: number;
}

/** The passes that make one panel of a segment. */
export interface PanelPasses {
  readonly panel: number;
  readonly passes: readonly DeepPass[];
}

/** Rows of the activations for those of the result, and the passes of each segment. */
export interface Arrangement {
  readonly digits: readonly RowDigit[];
  readonly segments: readonly { readonly segment: Segment; readonly panels: readonly PanelPasses[] }[];
}
