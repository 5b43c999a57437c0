/**
 * Rows apart: of weights that are joined along K, a part of one row is multiplied for itself.
 *
 * The value of a new token behind those of a past is the case that matters. To the array it would be a column of weights for each of
 * its elements, turned, with one lane each. Its products are those of an activation with the row as it lies: a pass spreads the
 * activation over the columns of its block, the VXM multiplies, and what comes out is a share of the sums of all other passes.
 */

import { at, invariant, sure } from "../../../diagnostics.js";
import { laneMapLiteral } from "../../../ir/literals.js";
import type { AluOp, Leaf, StorageId } from "../../../ir/plan.js";
import { leafOf, type Located } from "../layout/operand.js";
import { partOf } from "../layout/view.js";
import { mayDiverge } from "../padding.js";
import { addStorage, type Chain, rowRun, type Selection } from "../selection.js";
import { constantWeights, type Product, type StoredPart, type StoredWeights } from "../weights.js";
import { withoutPadding } from "./chain.js";
import { emitProduct, withShare } from "./product.js";

/** The product without the part of one row, whose share it takes up; as it is, if there is no such part. */
export const withoutRow = (s: Selection, product: Product): Product => {
  const { weights, chain, name, space } = product;
  const row = weights.kind === "stored" ? rowOf(product, weights) : undefined;
  const takesShare = withShare(s, chain(0, 0, 1), { storage: product.storage, panel: 0, runs: [] }) !== undefined;
  if (weights.kind !== "stored" || row === undefined || !takesShare) return product;
  const storage = addStorage(s, { name, dtype: "f32", rows: space.rows, panels: space.panels, kind: "temp" });
  emitShare(s, product, row, storage);
  return {
    ...product,
    a: withoutK(product.a, row.from),
    weights: withoutPart(weights, row),
    chain: (panel, first, rows) => {
      const share: Leaf = { storage, panel, runs: [rowRun(first, rows)] };
      return sure(withShare(s, chain(panel, first, rows), share), "chain that takes a share");
    },
  };
};

/**
 * A part of one row at an end of K. As weights its columns would pass through the array to be turned, all of them; so rows of the
 * result, which a pass spreads, are to be fewer.
 */
const rowOf = ({ a, sums }: Product, { shape, along, parts }: StoredWeights): StoredPart | undefined => {
  const [k = 1, n = 1] = shape.slice(-2);
  const m = at(a.shape, a.shape.length - 2, "extent");
  if (along !== "k" || sums !== undefined || parts.length < 2 || m >= n) return undefined;
  return parts.find(({ from, count }) => count === 1 && (from === 0 || from === k - 1));
};

/** Products of the activations of one K value with the row of weights that they meet, lying as the results do. */
const emitShare = (s: Selection, product: Product, { from, beside }: StoredPart, storage: StorageId): void => {
  const { weights, space } = product;
  const [k = 1, n = 1] = weights.shape.slice(-2);
  const entries = Array.from({ length: n }, (_, to) => ({ from, to, sign: 1 }));
  const { value, fit } = sure(beside, "way to read a joined part")(space);
  const ops: readonly AluOp[] = [{ fn: "mul", args: [{ mxm: true }, { leaf: 0 }] }];
  const chain: Chain = (panel, row, rows) => ({ ops, leaves: [leafOf(value, fit, panel, row, rows)] });
  emitProduct(s, {
    ...product,
    weights: constantWeights(s, laneMapLiteral(k, n, entries, "f16")),
    chain: mayDiverge(s, chain(0, 0, 1), "f32") ? withoutPadding(s, chain, space, "f32") : chain,
    storage,
  });
};

/** Activations without the first of their K values, or without the last. */
const withoutK = (a: Located, left: number): Located => {
  const axis = a.shape.length - 1;
  const part = partOf(a, axis, left === 0 ? 1 : 0, at(a.shape, axis, "extent") - 1);
  invariant(part !== undefined, "K is joined where the activations have it as one digit");
  return { ...a, ...part };
};

const withoutPart = (weights: StoredWeights, left: StoredPart): StoredWeights => ({
  ...weights,
  shape: weights.shape.map((extent, axis) => (axis === weights.shape.length - 2 ? extent - 1 : extent)),
  parts: weights.parts
    .filter((part) => part !== left)
    .map((part) => ({ ...part, from: part.from > left.from ? part.from - 1 : part.from })),
});
