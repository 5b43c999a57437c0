/**
 * Tails: where SRAM is short, constant weights of few K values lie packed, and are unpacked before the passes that load them.
 *
 * A vector of a tile holds two columns, one in each half. What is left of K behind the last whole half fills only some lanes of
 * that: where columns fill vectors better side by side, or some vectors as if these were one, they lie so. Permutations in the
 * SXM bring two of them at a time to the lanes on which the activations have their K values, and where these come from two
 * vectors, a selection joins them; from there they load as computed weights do.
 */

import { elementCount } from "../../ir/graph.js";
import { invariant, sure } from "../../diagnostics.js";
import { foldOp } from "../../ir/literals.js";
import { type AluOp, type Leaf, LOAD_WAYS, type StorageId, TILE_COLUMNS, type WeightLoad } from "../../ir/plan.js";
import type { Place, PointsRecipe, SpreadRecipe } from "../../ir/recipe.js";
import { halfLanes, type Target } from "../../ir/target.js";
import {
  addStorage,
  constantOnce,
  copyOfLeaf,
  isTight,
  longBlock,
  mapId,
  pushTask,
  rowBlocks,
  rowRun,
  type Selection,
} from "./selection.js";
import { naturalLayout } from "./layout/view.js";
import type { Block } from "./layout/arrangement.js";
import type { Product } from "./weights.js";

/** The share of lanes that columns fill at least, if some way of packing is to be better than that of a tile. */
const FILLED = 7 / 8;
/** Vectors that are filled as if they were one. */
const MOST_VECTORS = 4;

/** K values `k` .. `k + count - 1` of a matrix on lanes from `lane` of a half, `slots` columns to as many vectors as `panels`. */
interface Tail {
  readonly literal: string;
  readonly k: number;
  readonly count: number;
  readonly lane: number;
  readonly n: number;
  readonly slots: number;
  readonly panels: number;
  /** Column c is in slot floor(c / rows) of row c % rows. */
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
  if (!isTight(s.room) || weights.kind !== "constant" || weights.dtype !== "f16") return undefined;
  const { matrix, shape } = weights;
  const [n = 1] = shape.slice(-1);
  const packing = packingOf(s.target, count);
  const isMatrix = elementCount(shape.slice(0, -2)) === 1 && "literal" in matrix && matrix.scale === 1;
  if (!isMatrix || packing === undefined || n < s.target.lanes / TILE_COLUMNS) return undefined;
  // Runs of computed rows begin at multiples of as many as load together.
  const rows = LOAD_WAYS * Math.ceil(n / packing.slots / LOAD_WAYS);
  return { literal: matrix.literal, k, count, lane, n, ...packing, rows };
};

/** The fewest vectors that columns of so many values fill; undefined if those of a tile are filled already. */
const packingOf = ({ lanes }: Target, count: number): Pick<Tail, "slots" | "panels"> | undefined => {
  if (TILE_COLUMNS * count >= FILLED * lanes) return undefined;
  return Array.from({ length: MOST_VECTORS }, (_, index) => index + 1)
    .map((panels) => ({ panels, slots: Math.floor((panels * lanes) / count) }))
    .find(({ panels, slots }) => slots * count >= FILLED * panels * lanes);
};

/** Where a tail lies unpacked: two columns to a row, slots 2i and 2i + 1 in the i-th part of the rows. */
const unpacked = (s: Selection, { name, origin }: Product, tail: Tail): StorageId => {
  const key = `unpacked ${JSON.stringify(tail)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const packed = constantOnce(s, { name, rows: tail.rows, panels: tail.panels, recipe: recipeOf(s, tail) });
  const parts = Math.ceil(tail.slots / TILE_COLUMNS);
  const rows = parts * tail.rows;
  const temp = { name, dtype: "f16", rows, panels: 1, kind: "temp" } as const;
  const storage = addStorage(s, temp);
  s.copies.set(key, { storage, ...naturalLayout([rows, s.target.lanes]) });
  for (let part = 0; part < parts; part++) {
    const sources = sourcesOf(s, tail, part);
    for (const { row, rows: count } of rowBlocks(tail.rows, longBlock(s.target))) {
      const run = rowRun(row, count);
      const leaves = sources.map(({ panel, map }): Leaf => ({ storage: packed, panel, runs: [run], map }));
      const task = { rows: count, ...joined(s, sources, leaves, count), origin };
      pushTask(s, { ...task, storage, panel: 0, row: part * tail.rows + row });
    }
  }
  return storage;
};

/** A panel from which a part of the rows comes, the permutation that brings it, and the lanes that it brings. */
interface Bringing {
  readonly panel: number;
  readonly map: number;
  readonly lanes: readonly number[];
}

/** Slots 2 * part and 2 * part + 1 go to the two halves; other lanes stay where they are. */
const sourcesOf = (s: Selection, { count, lane, slots, panels }: Tail, part: number): readonly Bringing[] => {
  const { lanes } = s.target;
  const half = halfLanes(s.target);
  const places = Array.from({ length: lanes }, (_, to) => {
    const slot = TILE_COLUMNS * part + Math.floor(to / half);
    const index = (to % half) - lane;
    return index >= 0 && index < count && slot < slots ? slot * count + index : undefined;
  });
  return Array.from({ length: panels }, (_, panel): Bringing => {
    const isHere = (place: number | undefined): place is number =>
      place !== undefined && Math.floor(place / lanes) === panel;
    const map = Int16Array.from(places, (place, to) => (isHere(place) ? place % lanes : to));
    return { panel, map: mapId(s, map), lanes: places.flatMap((place, to) => (isHere(place) ? [to] : [])) };
  }).filter((source) => source.lanes.length > 0);
};

/** What comes from one panel as it is; of two, the lanes that the second brings, and the first's elsewhere. */
const joined = (
  s: Selection,
  [, second, ...more]: readonly Bringing[],
  leaves: readonly Leaf[],
  count: number,
): { readonly ops: readonly AluOp[]; readonly leaves: readonly Leaf[] } => {
  if (second === undefined) return { ops: [copyOfLeaf("f16", 0)], leaves };
  invariant(more.length === 0, "two columns are no longer than a vector");
  const places = second.lanes.map((to): Place => [0, to]);
  const recipe: PointsRecipe = { kind: "points", vectors: 1, value: 1, places };
  const storage = constantOnce(s, { name: "lanes of the second vector", rows: 1, panels: 1, recipe });
  const mask: Leaf = { storage, panel: 0, runs: [{ row: 0, step: 0, count }] };
  return { ops: [{ fn: "select", args: [{ leaf: 2 }, { leaf: 1 }, { leaf: 0 }] }], leaves: [...leaves, mask] };
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
