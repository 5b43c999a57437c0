/**
 * Tails: where SRAM is short, constant weights of few K values lie packed, and are unpacked before the passes that load them.
 *
 * A vector of a tile holds two columns, one in each half. What is left of K behind the last whole half fills only some lanes of
 * that: where three columns or more have room in a vector, they lie side by side there. Permutations in the SXM bring two of
 * them at a time to the lanes on which the activations have their K values; from there they load as computed weights do.
 */

import { elementCount } from "../../ir/graph.js";
import { sure } from "../../diagnostics.js";
import { foldOp } from "../../ir/literals.js";
import type { StorageId, WeightLoad } from "../../ir/plan.js";
import type { SpreadRecipe } from "../../ir/recipe.js";
import { halfLanes } from "../../ir/target.js";
import {
  addStorage,
  constantOnce,
  copyOfLeaf,
  longBlock,
  mapId,
  pushTask,
  rowBlocks,
  rowRun,
  type Selection,
} from "./selection.js";
import { naturalLayout } from "./layout/view.js";
import type { Block, Product } from "./weights.js";

/** Columns that a vector of a tile holds. */
const TILE_COLUMNS = 2;
/** Rows of computed weights that load together: runs begin at multiples of as many. */
const LOADED_TOGETHER = 4;

/** K values `k` .. `k + count - 1` of a matrix on lanes from `lane` of a half, `slots` columns to a vector. */
interface Tail {
  readonly literal: string;
  readonly k: number;
  readonly count: number;
  readonly lane: number;
  readonly n: number;
  readonly slots: number;
  /** Vectors: column c is in slot floor(c / rows) of vector c % rows. */
  readonly rows: number;
}

/** What a pass loads of a tail that lies packed; undefined if it lies as a tile. */
export const tailLoads = (
  s: Selection,
  product: Product,
  blocks: readonly Block[],
  scale: number,
): readonly WeightLoad[] | undefined => {
  const [block] = blocks;
  const tail = block === undefined || blocks.length > 1 || scale !== 1 ? undefined : tailOf(s, product, block);
  if (block === undefined || tail === undefined) return undefined;
  const storage = unpacked(s, product, tail);
  const end = block.n + block.columns;
  return Array.from({ length: tail.slots }, (_, slot) => {
    const from = Math.max(block.n, slot * tail.rows);
    const count = Math.min(end, (slot + 1) * tail.rows) - from;
    const row = Math.floor(slot / TILE_COLUMNS) * tail.rows + from - slot * tail.rows;
    const place = { first: tail.lane, lanes: tail.count, column: block.column + from - block.n };
    return { storage, panel: 0, run: rowRun(row, count), half: slot % TILE_COLUMNS === 0 ? 0 : 1, ...place } as const;
  }).filter(({ run }) => run.count > 0);
};

const tailOf = (s: Selection, { weights }: Product, { k, count, lane }: Block): Tail | undefined => {
  if (!s.tight || weights.kind !== "constant" || weights.dtype !== "f16") return undefined;
  const { matrix, shape } = weights;
  const [n = 1] = shape.slice(-1);
  const slots = Math.floor(s.target.lanes / count);
  const isMatrix = elementCount(shape.slice(0, -2)) === 1 && "literal" in matrix && matrix.scale === 1;
  if (!isMatrix || slots <= TILE_COLUMNS || n < s.target.lanes / TILE_COLUMNS) return undefined;
  const rows = LOADED_TOGETHER * Math.ceil(n / slots / LOADED_TOGETHER);
  return { literal: matrix.literal, k, count, lane, n, slots, rows };
};

/** Where a tail lies unpacked: two columns to a row, slots 2i and 2i + 1 in the i-th part of the rows. */
const unpacked = (s: Selection, { name, origin }: Product, tail: Tail): StorageId => {
  const key = `unpacked ${JSON.stringify(tail)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const packed = constantOnce(s, { name, rows: tail.rows, panels: 1, recipe: recipeOf(s, tail) });
  const parts = Math.ceil(tail.slots / TILE_COLUMNS);
  const rows = parts * tail.rows;
  const temp = { name, dtype: "f16", rows, panels: 1, kind: "temp", bothHemispheres: false, output: false } as const;
  const storage = addStorage(s, temp);
  s.copies.set(key, { storage, ...naturalLayout([rows, s.target.lanes]) });
  for (let part = 0; part < parts; part++) {
    const map = mapId(s, mapOf(s, tail, part));
    for (const { row, rows: count } of rowBlocks(tail.rows, longBlock(s.target))) {
      const leaf = { storage: packed, panel: 0, runs: [rowRun(row, count)], map };
      const task = { rows: count, ops: [copyOfLeaf("f16", 0)], leaves: [leaf], origin };
      pushTask(s, { ...task, storage, panel: 0, row: part * tail.rows + row });
    }
  }
  return storage;
};

/** The last slot may go on beyond the last column: what lies there is never loaded. */
const recipeOf = (s: Selection, { literal, k, count, n, slots, rows }: Tail): SpreadRecipe => {
  const whole = sure(s.literals.get(literal), "literal of the weights");
  const before = whole.shape.slice(0, -2);
  const slice = {
    starts: [...before.map(() => 0), k, 0],
    sizes: [...before, count, n],
    strides: whole.shape.map(() => 1),
  };
  const part = foldOp("slice", slice, [whole], { dtype: whole.dtype, shape: slice.sizes });
  s.literals.set(part.key, part);
  return {
    kind: "spread",
    literal: part.key,
    rows: [{ extent: rows, to: 1, element: 1 }],
    columns: [
      { extent: slots, to: count, element: rows },
      { extent: count, to: 1, element: n },
    ],
    column: 0,
  };
};

/** Brings slots 2 * part and 2 * part + 1 to the two halves; other lanes stay where they are. */
const mapOf = ({ target }: Selection, { count, lane, slots }: Tail, part: number): Int16Array => {
  const half = halfLanes(target);
  return Int16Array.from({ length: target.lanes }, (_, to) => {
    const slot = TILE_COLUMNS * part + Math.floor(to / half);
    const at = (to % half) - lane;
    return at >= 0 && at < count && slot < slots ? slot * count + at : to;
  });
};
