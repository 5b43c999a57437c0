/**
 * Weights of a pass: tiles of a constant matrix, or rows of a computed tensor loaded as columns.
 *
 * A pass multiplies K values on the lanes of one half, so its weights must have the same K on the same lanes, N along
 * columns. Tiles of constants are made so while the image is written. A computed tensor [.., K, N] serves as it lies if its
 * rows run along N and K lies on just the lanes on which the activations have it; otherwise it is moved.
 */

import { at, invariant } from "../../diagnostics.js";
import type { Literal, Shape } from "../../ir/graph.js";
import {
  type BitsType,
  isTileDType,
  type PackedTile,
  type Pass,
  type StorageId,
  TILE_COLUMNS,
  TILE_TYPES,
  type TileDType,
  type WeightLoad,
} from "../../ir/plan.js";
import { halfLanes, type Target } from "../../ir/target.js";
import { type Matrix, type TileBlock, tileKey, type TileRecipe } from "../../ir/recipe.js";
import type { Block } from "./layout/arrangement.js";
import type { Fit, Located } from "./layout/operand.js";
import { halfAt } from "./layout/passes.js";
import type { Chain, Part, Selection, Space } from "./selection.js";
import {
  elementView,
  expandView,
  extents,
  type Factor,
  type Layout,
  normalize,
  offsetAt,
  shapeOf,
  sliceView,
} from "./layout/view.js";

/** Second operand [.., K, N] of a product. */
export type SecondOperand = StoredWeights | ConstantWeights;

/** A computed tensor, whole or as several that follow one another along K or along N. */
export interface StoredWeights {
  readonly kind: "stored";
  readonly shape: Shape;
  readonly along: "k" | "n";
  readonly parts: readonly StoredPart[];
}

/** Elements `from` .. `from + count - 1` along the axis of the parts. */
export interface StoredPart {
  readonly from: number;
  readonly count: number;
  /** Where it lies; undefined of what lies nowhere yet, and comes to lie where it is first wanted. */
  readonly value: () => Located | undefined;
  /** A copy in another layout. */
  readonly move: (wanted: Layout) => Located;
  /** How a joined part is read along with the result, [.., M, N], laid out as told. */
  readonly beside?: (result: Layout) => { readonly value: Located; readonly fit: Fit };
}

/** A constant [.., K, N], of which tiles are made while the image is written. */
export interface ConstantWeights {
  readonly kind: "constant";
  readonly matrix: Matrix;
  readonly dtype: TileDType;
  readonly shape: Shape;
}

/** What is to be multiplied, by what, and where the results go through which chain. */
export interface Product {
  /** [.., M, K], as activations. */
  readonly a: Located;
  /** What is multiplied, lying as `a` does: `a` itself, or numbers that it is the sum of. More than one only by constants. */
  readonly parts: readonly Part[];
  readonly weights: SecondOperand;
  /** Further K values of both, where those of several batch indices share half-vectors; see rules/rests.ts. */
  readonly rests?: { readonly a: Located; readonly weights: StoredWeights } | undefined;
  /** Layout of the result [.., M, N]. */
  readonly space: Space;
  readonly storage: StorageId;
  readonly chain: Chain;
  /** Results are bits. */
  readonly as?: BitsType | undefined;
  readonly origin: number;
  /** Of the passes, if they were made from another node than the result. */
  readonly passOrigin?: number;
  readonly name: string;
  /** Fill columns that no block uses with copies of the panel's first block, so that no lane of the result is empty. */
  readonly fill: boolean;
  /**
   * Further columns, one for each block of `n` columns of a panel from this column on: sums of the block's activations. Of
   * stored weights only.
   */
  readonly sums?: { readonly column: number; readonly n: number; readonly ones: StorageId } | undefined;
}

/** Weights lie as FP8 where their literal is that, and as fp16 otherwise. */
export const constantWeights = (s: Selection, literal: Literal): ConstantWeights => {
  const { key, dtype, shape } = literal;
  s.literals.set(key, literal);
  return { kind: "constant", matrix: { literal: key, scale: 1 }, dtype: isTileDType(dtype) ? dtype : "f16", shape };
};

/** The batch index of the weights for a batch index of the result. */
export const weightBatch = (weights: SecondOperand, batchShape: Shape): ((batch: number) => number) => {
  const own = expandView(elementView(weights.shape.slice(0, -2)), batchShape);
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
  if (weights.kind === "constant") return tileOf(target, product, weights, scale, blocks);
  invariant(scale === 1, "computed weights are as they are");
  const loads = weights.parts.flatMap((part) => {
    const own = blocks.flatMap((block) => blockWithin(weights.along, part, block));
    if (own.length === 0) return [];
    const value = part.value();
    const asItLies = value && loadsFrom(target, product, value, own, 1);
    const found = asItLies ?? loadsFrom(target, product, movedWeights(target, product, weights, part), own);
    invariant(found !== undefined, `weights of ${name} lie as the activations need them`);
    return found;
  });
  return [...loads, ...sumLoads(product, blocks)];
};

/** What a part has of a block, counted from the part's first element; a block has K values of one part alone (`cutsOfK`). */
const blockWithin = (along: StoredWeights["along"], { from, count }: StoredPart, block: Block): readonly Block[] => {
  const [first, length] = along === "k" ? [block.k, block.count] : [block.n, block.columns];
  const [low, high] = [Math.max(first, from), Math.min(first + length, from + count)];
  if (low >= high) return [];
  if (along === "k") return [{ ...block, k: block.k - from }];
  return [{ ...block, n: low - from, columns: high - low, column: block.column + low - block.n }];
};

/** K values before which a pass ends, since a column is loaded whole and two parts would meet in it. */
export const cutsOfK = (weights: SecondOperand): readonly number[] =>
  weights.kind === "stored" && weights.along === "k" ? weights.parts.slice(1).map(({ from }) => from) : [];

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

/** What constants give to a pass, made of blocks. */
export const tileOfBlocks = (target: Target, product: Product, scale: number, blocks: readonly Block[]): PackedTile => {
  const { weights, name } = product;
  invariant(weights.kind === "constant", `weights of ${name} are constant`);
  return tileOf(target, product, weights, scale, blocks);
};

const tileOf = (
  target: Target,
  { space }: Product,
  weights: ConstantWeights,
  scale: number,
  blocks: readonly Block[],
): PackedTile => {
  const [k = 1, n = 1] = weights.shape.slice(-2);
  const batchOf = weightBatch(weights, space.shape.slice(0, -2));
  // Columns before the first that has weights do not load, as many as load in a cycle or a multiple of it.
  const atOnce = (TILE_COLUMNS * target.streams) / TILE_TYPES[weights.dtype].bytes;
  const before = Math.min(...blocks.map(({ column }) => column - (column % atOnce)));
  const recipe: TileRecipe = {
    kind: "blocks",
    matrix: scaled(weights.matrix, scale),
    width: n,
    blocks: blocks.map(
      ({ batch, ...block }): TileBlock => ({
        ...block,
        // Of ones all parts are alike, and so one tile.
        ...("ones" in weights.matrix ? { k: 0, n: 0, offset: 0 } : { offset: batchOf(batch) * k * n }),
        column: block.column - before,
      }),
    ),
  };
  const columns = Math.max(...recipe.blocks.map((block) => block.column + block.columns));
  return { key: tileKey(recipe), dtype: weights.dtype, columns, column: before, recipe };
};

/* ---------- computed tensors ---------- */

/**
 * Loads of a stored second operand, if its rows are columns of weights with K on just the lanes that the blocks name. One load
 * takes rows that are equally far apart: as many as the last digit of a column's number has. `digits`: the most of them.
 */
const loadsFrom = (
  target: Target,
  { space }: Product,
  value: Located,
  blocks: readonly Block[],
  digits = Number.POSITIVE_INFINITY,
): WeightLoad[] | undefined => {
  const half = halfLanes(target);
  const batchShape = space.shape.slice(0, -2);
  const [kExtent = 1, n = 1] = value.shape.slice(-2);
  const { dims } = expandView(value.view, [...batchShape, kExtent, n]);
  const batchDims = dims.slice(0, -2);
  const kDim = at(dims, dims.length - 2, "dim");
  const nDim = normalize(at(dims, dims.length - 1, "dim"));
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

/** Moves a part so that K lies on the lanes on which the activations have it; rows: batch dims not on columns, then N. */
export const movedWeights = (
  target: Target,
  { a, space }: Product,
  { shape, along }: StoredWeights,
  { from, count, move }: StoredPart,
): Located => {
  const [k = 1, n = 1] = shape.slice(-2);
  const own = shape.slice(0, -2);
  const outBatch = space.shape.slice(0, -2);
  const missing = outBatch.length - own.length;
  const full = [...outBatch, at(a.shape, a.shape.length - 2, "extent"), k];
  const [first, length, rows] = along === "k" ? [from, count, n] : [0, k, count];
  const starts = full.map((_, axis) => (axis === full.length - 1 ? first : 0));
  const sizes = full.map((extent, axis) => (axis === full.length - 1 ? length : extent));
  const of = sliceView(
    expandView(a.view, full),
    starts,
    sizes,
    full.map(() => 1),
  );
  invariant(of !== undefined, "K is joined where the activations have it as one digit");
  const onColumns = (axis: number): Factor[] =>
    at(of.dims, axis, "dim")
      .map((f) => ({ ...f, row: 0 }))
      .filter(hasColumns);
  let row = rows;
  // Behind a past of several panels each batch index has panels of its own, as it has where these are one.
  const kEnd = extents({ ...of, dims: [at(of.dims, outBatch.length + 1, "dim")] }).columns;
  const onPanels = along === "k" && kEnd > target.lanes && outBatch.every((_, axis) => onColumns(axis).length === 0);
  let column = Math.ceil(kEnd / target.lanes) * target.lanes;
  const batchDims: Factor[][] = outBatch.map(() => []);
  const onOthers = (extent: number): Factor => {
    const factor = onPanels ? { extent, row: 0, column } : { extent, row, column: 0 };
    if (onPanels) column *= extent;
    else row *= extent;
    return factor;
  };
  for (let axis = outBatch.length - 1; axis >= 0; axis--) {
    const extent = own[axis - missing] ?? 1;
    const columns = onColumns(axis);
    // What columns do not tell apart is on rows, or on panels of its own.
    if (columns.length === 0) batchDims[axis] = extent > 1 ? [onOthers(extent)] : [];
    else if (extent === 1) batchDims[axis] = columns;
    else
      batchDims[axis] = normalize(at(of.dims, axis, "dim"))
        .reverse()
        .map((f) => (hasColumns(f) ? { ...f, row: 0 } : onOthers(f.extent)))
        .reverse();
  }
  const kDim = at(of.dims, outBatch.length + 1, "dim").map((f) => ({ ...f, row: 0 }));
  const nDim = rows > 1 ? [{ extent: rows, row: 1, column: 0 }] : [];
  const view = { dims: [...batchDims, kDim, nDim], row: 0, column: of.column };
  return move({ view, shape: shapeOf(view) });
};

const hasColumns = (f: Factor): boolean => f.column !== 0;
