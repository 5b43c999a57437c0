/**
 * Tail tiles: where SRAM is short, what few rows meet of the last K values of a matrix of FP8 shares its tiles.
 *
 * What is left of K behind the last whole half fills only some lanes of a tile, and so for each panel of columns. These tails lie one
 * behind the other on the lanes of as few tiles as they fill, cut where a tile ends. A pass by such a tile takes a copy of its
 * activations, turned to the lanes on which the panel's weights lie and zero on those of other panels.
 */

import { elementCount } from "../../ir/graph.js";
import { at } from "../../diagnostics.js";
import { type Leaf, type Pass, type StorageId, TILE_TYPES } from "../../ir/plan.js";
import type { Place, PointsRecipe, TileBlock } from "../../ir/recipe.js";
import { halfLanes, type Target } from "../../ir/target.js";
import type { Block, DeepPass } from "./layout/arrangement.js";
import { naturalLayout } from "./layout/view.js";
import { addStorage, constantOnce, mapId, pushTask, rowRun, type Selection, storageAt } from "./selection.js";
import { type Product, tileOfBlocks } from "./weights.js";

/** The share of a half's lanes that a tail fills at the most, if its tiles are to be shared. */
const FILLED = 3 / 4;
/** Copies of activations are worth no more rows than this. */
const MOST_ROWS = 4;

/** K values `from` .. `from + count - 1` of a tail on lanes from `lane` of tile number `tile`. */
interface Piece {
  readonly tile: number;
  readonly from: number;
  readonly count: number;
  readonly lane: number;
}

/** The passes that meet a tail in tiles that panels share; undefined where each has its own. */
export const tailPasses = (
  s: Selection,
  product: Product,
  pass: DeepPass,
  part: { readonly storage: StorageId; readonly scale: number },
  runs: Pass["runs"],
): readonly Pass[] | undefined => {
  const [block] = pass.parts;
  if (block === undefined || !sharesTiles(s, product, pass.parts, part)) return undefined;
  const { lanes } = s.target;
  const pieces = piecesOf(s.target, block.n / lanes, block.count);
  const all = shapesOf(s.target, block.count);
  return pieces.map((piece): Pass => {
    const shape = all.findIndex(({ from, lane }) => from === piece.from && lane === piece.lane);
    const storage = turned(s, product, { storage: part.storage, panel: pass.panel, half: pass.half, block }, all);
    const weights = tileOfBlocks(s.target, product, part.scale, blocksOf(s.target, product, block, piece.tile));
    return { storage, panel: Math.floor(shape / 2), half: shape % 2 === 0 ? 0 : 1, runs, weights };
  });
};

const sharesTiles = (
  s: Selection,
  { weights, space, parts, fill }: Product,
  blocks: readonly Block[],
  { storage, scale }: { readonly storage: StorageId; readonly scale: number },
): boolean => {
  const [block, ...others] = blocks;
  if (s.room !== "least" || weights.kind !== "constant" || TILE_TYPES[weights.dtype].bytes > 1) return false;
  const { lanes } = s.target;
  const isMatrix = elementCount(weights.shape.slice(0, -2)) === 1 && parts.length === 1 && scale === 1 && !fill;
  const isFew = storageAt(s, storage).rows <= MOST_ROWS;
  if (block === undefined || others.length > 0 || !isMatrix || !isFew) return false;
  const liesAsItIs = block.n % lanes === 0 && block.column === 0;
  const isLess = Math.ceil((space.panels * block.count) / halfLanes(s.target)) < space.panels;
  return liesAsItIs && isLess && block.count <= FILLED * halfLanes(s.target);
};

/** Where the tail of a panel of columns lies. */
const piecesOf = (target: Target, panel: number, count: number): readonly Piece[] => {
  const half = halfLanes(target);
  const first = panel * count;
  const tile = Math.floor(first / half);
  const lane = first % half;
  const here = Math.min(count, half - lane);
  const piece = { tile, from: 0, count: here, lane };
  return here === count ? [piece] : [piece, { tile: tile + 1, from: here, count: count - here, lane: 0 }];
};

/** All ways in which pieces lie on lanes: as many panels later they lie so again. */
const shapesOf = (target: Target, count: number): readonly Piece[] => {
  const half = halfLanes(target);
  const shapes: Piece[] = [];
  for (let panel = 0; panel === 0 || (panel * count) % half !== 0; panel++)
    shapes.push(...piecesOf(target, panel, count));
  return shapes;
};

/** What a tile has of the panels' tails. */
const blocksOf = (target: Target, { weights }: Product, { k, count, batch }: Block, tile: number): readonly Block[] => {
  const n = at(weights.shape, weights.shape.length - 1, "extent");
  const { lanes } = target;
  return Array.from({ length: Math.ceil(n / lanes) }, (_, panel) => panel).flatMap((panel) =>
    piecesOf(target, panel, count)
      .filter((piece) => piece.tile === tile)
      .map((piece): Omit<TileBlock, "offset"> & { readonly batch: number } => ({
        ...{ batch, k: k + piece.from, count: piece.count, lane: piece.lane },
        ...{ n: panel * lanes, columns: Math.min(lanes, n - panel * lanes), column: 0 },
      })),
  );
};

/** K values of activations, and where they lie: behind `lane` of a half. */
interface Activations {
  readonly storage: StorageId;
  readonly panel: number;
  readonly half: 0 | 1;
  readonly block: Block;
}

/** Copies of the activations as all pieces want them, two to a panel, zero on all other lanes. */
const turned = (
  s: Selection,
  { name, origin }: Product,
  { storage, panel, half, block }: Activations,
  shapes: readonly Piece[],
): StorageId => {
  const key = `turned ${storage}/${panel} ${half} ${JSON.stringify([block.lane, block.count])}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const { lanes } = s.target;
  const { rows } = storageAt(s, storage);
  const panels = Math.ceil(shapes.length / 2);
  const copy = addStorage(s, { name, dtype: "f16", rows, panels, kind: "temp" });
  s.copies.set(key, { storage: copy, ...naturalLayout([rows, panels * lanes]) });
  for (let to = 0; to < panels; to++) {
    const sources = sourcesOf(s.target, shapes.slice(2 * to, 2 * to + 2), half * halfLanes(s.target) + block.lane);
    const map = mapId(
      s,
      Int16Array.from(sources, (source, lane) => source ?? lane),
    );
    const places = sources.flatMap((source, lane): Place[] => (source === undefined ? [] : [[0, lane]]));
    const recipe: PointsRecipe = { kind: "points", vectors: 1, value: 1, places };
    const mask = constantOnce(s, { name: "lanes of tails", rows: 1, panels: 1, recipe });
    const leaves: readonly Leaf[] = [
      { storage, panel, runs: [rowRun(0, rows)], map },
      { storage: mask, panel: 0, runs: [{ row: 0, step: 0, count: rows }] },
    ];
    const ops = [{ fn: "select", args: [{ leaf: 1 }, { leaf: 0 }, { constant: 0 }] }] as const;
    pushTask(s, { rows, ops, leaves, storage: copy, panel: to, row: 0, origin });
  }
  return copy;
};

/** By lane the one from which it comes, of those from `first` on. */
const sourcesOf = (target: Target, shapes: readonly Piece[], first: number): readonly (number | undefined)[] => {
  const half = halfLanes(target);
  return Array.from({ length: target.lanes }, (_, to) => {
    const shape = shapes[Math.floor(to / half)];
    const index = shape === undefined ? -1 : (to % half) - shape.lane;
    return shape !== undefined && index >= 0 && index < shape.count ? first + shape.from + index : undefined;
  });
};
