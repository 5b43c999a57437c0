/**
 * Weights of a pass: tiles of a constant matrix, or rows of a computed tensor loaded as columns.
 *
 * A pass multiplies K values on the lanes of one half, so its weights must have the same K on the same lanes, N along
 * columns. Tiles of constants are made so while the image is written. A computed tensor [.., K, N] serves as it lies if its
 * rows run along N and K lies on just the lanes on which the activations have it; otherwise it is moved.
 */

import { invariant } from "../../diagnostics.js";
import type { Shape } from "../../ir/graph.js";
import type { BitsType, PackedTile, Pass, StorageId, TileDType, WeightLoad } from "../../ir/plan.js";
import { halfLanes, type Target } from "../../ir/target.js";
import { type Matrix, type TileBlock, tileKey, type TileRecipe } from "../../ir/recipe.js";
import type { Located } from "./layout/operand.js";
import { halfAt } from "./layout/passes.js";
import type { Chain, Part, Space } from "./selection.js";
import { elementView, expandView, type Factor, type Layout, normalize, offsetAt, shapeOf } from "./layout/view.js";

/** Second operand [.., K, N] of a product. */
export type Weights = StoredWeights | ConstantWeights;

export interface StoredWeights {
  readonly kind: "stored";
  readonly value: Located;
  /** A copy in another layout. */
  readonly move: (wanted: Layout) => Located;
}

export interface ConstantWeights {
  readonly kind: "constant";
  readonly matrix: Matrix;
  readonly dtype: TileDType;
  readonly shape: Shape;
}

export interface Product {
  /** [.., M, K], as activations. */
  readonly a: Located;
  /** What is multiplied, lying as `a` does: `a` itself, or numbers that it is the sum of. More than one only by constants. */
  readonly parts: readonly Part[];
  readonly weights: Weights;
  /** Layout of the result [.., M, N]. */
  readonly space: Space;
  readonly storage: StorageId;
  readonly chain: Chain;
  /** Results are bits. */
  readonly as?: BitsType | undefined;
  readonly origin: number;
  readonly name: string;
  /** Fill columns that no block uses with copies of the panel's first block, so that no lane of the result is empty. */
  readonly fill: boolean;
  /** Further columns, one for each block of `n` columns of a panel from this column on: sums of the block's activations. Of stored weights only. */
  readonly sums?: { readonly column: number; readonly n: number; readonly ones: StorageId } | undefined;
}

/** A block of weights within one pass: K values k .. k + count - 1 on lanes from `lane` of the half; columns from `column`. */
export interface Block extends Omit<TileBlock, "offset"> {
  readonly batch: number;
}

/** The batch index of the weights for a batch index of the result. */
export const weightBatch = (weights: Weights, batchShape: Shape): ((batch: number) => number) => {
  const shape = weights.kind === "stored" ? weights.value.shape : weights.shape;
  const own = expandView(elementView(shape.slice(0, -2)), batchShape);
  return (batch) => offsetAt(own.dims, batchShape, batch, "row");
};

/** What a pass multiplies by, made of blocks. */
export const passWeights = (
  target: Target,
  product: Product,
  blocks: readonly Block[],
  scale: number,
): Pass["weights"] => {
  const { weights, name } = product;
  if (weights.kind === "constant") return tileOf(product, weights, scale, blocks);
  invariant(scale === 1, "computed weights are as they are");
  const loads =
    loadsFrom(target, product, weights.value, blocks, 1) ??
    loadsFrom(target, product, movedWeights(product, weights), blocks);
  invariant(loads !== undefined, `weights of ${name} lie as the activations need them`);
  return [...loads, ...sumLoads(product, blocks)];
};

/** Columns of ones that meet the activations of each block. */
const sumLoads = ({ sums }: Product, blocks: readonly Block[]): WeightLoad[] =>
  sums === undefined
    ? []
    : blocks.map(({ column, lane, count }) => ({
        storage: sums.ones,
        panel: 0,
        run: { row: 0, step: 0, count: 1 },
        half: 0,
        first: lane,
        lanes: count,
        column: sums.column + column / sums.n,
      }));

/* ---------- constants ---------- */

/** A matrix times a power of two. */
const scaled = (matrix: Matrix, scale: number): Matrix => ({ ...matrix, scale: matrix.scale * scale });

const tileOf = ({ space }: Product, weights: ConstantWeights, scale: number, blocks: readonly Block[]): PackedTile => {
  const [k = 1, n = 1] = weights.shape.slice(-2);
  const batchOf = weightBatch(weights, space.shape.slice(0, -2));
  const recipe: TileRecipe = {
    kind: "blocks",
    matrix: scaled(weights.matrix, scale),
    width: n,
    blocks: blocks.map((block): TileBlock => ({ ...block, offset: batchOf(block.batch) * k * n })),
  };
  const columns = Math.max(...blocks.map((block) => block.column + block.columns));
  return { key: tileKey(recipe), dtype: weights.dtype, columns, recipe };
};

/* ---------- computed tensors ---------- */

/**
 * Loads of a stored second operand, if its rows are columns of weights with K on just the lanes that the blocks name. One load
 * takes rows that are equally far apart: as many as the last digit of a column's number has. `digits`: the most of them.
 */
const loadsFrom = (
  target: Target,
  { a, space }: Product,
  value: Located,
  blocks: readonly Block[],
  digits = Number.POSITIVE_INFINITY,
): WeightLoad[] | undefined => {
  const half = halfLanes(target);
  const batchShape = space.shape.slice(0, -2);
  const n = space.shape[space.shape.length - 1] ?? 1;
  const kExtent = a.shape[a.shape.length - 1] ?? 1;
  const { dims } = expandView(value.view, [...batchShape, kExtent, n]);
  const batchDims = dims.slice(0, -2);
  const kDim = dims[dims.length - 2] ?? [];
  const nDim = normalize(dims[dims.length - 1] ?? []);
  if (kDim.some((f) => f.row !== 0) || nDim.some((f) => f.column !== 0) || nDim.length > digits) return undefined;
  const step = nDim.at(-1)?.row ?? 0;
  const most = nDim.length > 1 ? (nDim.at(-1)?.extent ?? 1) : n;
  const loads: WeightLoad[] = [];
  for (const block of blocks) {
    const base = value.view.column + offsetAt(batchDims, batchShape, block.batch, "column");
    const columnOf = (k: number): number => base + offsetAt([kDim], [kExtent], k, "column");
    const first = columnOf(block.k);
    const last = first + block.count - 1;
    const inOneHalf = Math.floor(first / half) === Math.floor(last / half);
    if (first % half !== block.lane || columnOf(block.k + block.count - 1) !== last || !inOneHalf) return undefined;
    const row = value.view.row + offsetAt(batchDims, batchShape, block.batch, "row");
    for (let done = 0; done < block.columns; ) {
      const from = block.n + done;
      const count = Math.min(most - (from % most), block.columns - done);
      loads.push({
        storage: value.storage,
        panel: Math.floor(first / target.lanes),
        run: { row: row + offsetAt([nDim], [n], from, "row"), step, count },
        half: halfAt(Math.floor(first / half)).half,
        first: block.lane,
        lanes: block.count,
        column: block.column + done,
      });
      done += count;
    }
  }
  return loads;
};

/** Moves a second operand so that K lies on the lanes on which the activations have it; rows: batch dims not on columns, then N. */
const movedWeights = ({ a, space }: Product, { value, move }: StoredWeights): Located => {
  const [k = 1, n = 1] = value.shape.slice(-2);
  const own = value.shape.slice(0, -2);
  const outBatch = space.shape.slice(0, -2);
  const missing = outBatch.length - own.length;
  const { dims: dimsOfA } = expandView(a.view, [...outBatch, a.shape[a.shape.length - 2] ?? 1, k]);
  const onColumns = (axis: number): Factor[] => (dimsOfA[axis] ?? []).map((f) => ({ ...f, row: 0 })).filter(hasColumns);
  let row = n;
  const batchDims: Factor[][] = outBatch.map(() => []);
  for (let axis = outBatch.length - 1; axis >= 0; axis--) {
    const extent = own[axis - missing] ?? 1;
    batchDims[axis] = onColumns(axis);
    if (batchDims[axis]?.length !== 0 || extent === 1) continue;
    batchDims[axis] = [{ extent, row, column: 0 }];
    row *= extent;
  }
  const kDim = (dimsOfA[outBatch.length + 1] ?? []).map((f) => ({ ...f, row: 0 }));
  const nDim = n > 1 ? [{ extent: n, row: 1, column: 0 }] : [];
  const view = { dims: [...batchDims, kDim, nDim], row: 0, column: a.view.column };
  return move({ view, shape: shapeOf(view) });
};

const hasColumns = (f: Factor): boolean => f.column !== 0;
