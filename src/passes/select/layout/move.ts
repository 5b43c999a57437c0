/**
 * Moving: a copy of a tensor in another layout.
 *
 * The digits of an index (factorPairs) each lie on rows or on lanes, before and after. Rows that stay rows are only
 * addresses. Lanes that stay lanes, or become rows, move by a matmul with a selection matrix as weights (here); rows that
 * become lanes by one for each of them, if they are few, or by a matmul of the identity with the tensor itself as weights
 * (transpose.ts). Lanes over which the
 * wanted layout broadcasts are filled with copies, and the result says so (`repeated`). The wanted columns are kept exactly;
 * rows are packed densely, since any row is as good as another.
 */

import { LOAD_WAYS, type PackedTile, type Pass } from "../../../ir/plan.js";
import { type Place, tileKey, type TileRecipe } from "../../../ir/recipe.js";
import { at, fail, invariant } from "../../../diagnostics.js";
import type { Node, NodeId, Shape } from "../../../ir/graph.js";
import { halfLanes, type Target } from "../../../ir/target.js";
import { type FactorPair, factorPairs, type Located, type RowDigit, runsOf, sharesPanels } from "./operand.js";
import { stripCasts } from "../fuse.js";
import { asHalf, emitParts, movable } from "./bits.js";
import { combinations, type Move, productOfExtents } from "./digits.js";
import { addToPass, type Passes, passesInOrder } from "./passes.js";
import { emitTranspose } from "./transpose.js";
import { boundAs } from "../input.js";
import { factsOf } from "../padding.js";
import { union } from "../../../ir/ranges.js";
import {
  originOf,
  originText,
  pushTask,
  rowBlock,
  rowBlocks,
  type Selection,
  spaceOf,
  storageAt,
  storedType,
} from "../selection.js";
import { type Factor, type Layout, restrictTo, type View } from "./view.js";

/** A node's value with its elements on the lanes of `wanted`, to which its shape broadcasts: written so by the host, or moved. */
export const relayout = (s: Selection, id: NodeId, stored: Located, wanted: Layout): Located => {
  const node = stripCasts(s.graph, id);
  const { dtype } = storageAt(s, stored.storage);
  return boundAs(s, node, wanted, dtype === "f16" ? dtype : storedType(node)) ?? moved(s, id, stored, wanted);
};

/** A copy of a node's value whose elements lie on the lanes of `wanted`, to which its shape broadcasts. */
export const moved = (s: Selection, id: NodeId, stored: Located, wanted: Layout): Located => {
  // Casts between float types are the reader's: what is moved is the value itself.
  const node = stripCasts(s.graph, id);
  const value = asHalf(s, node.id, stored);
  const pairs = factorPairs(wanted.view, wanted.shape, value.view);
  if (pairs === undefined) return movedThroughPlain(s, node, value, wanted);
  const key = moveKey(value, wanted.view);
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const copy = move(s, node, value, wanted, pairs);
  s.copies.set(key, copy);
  return copy;
};

const moveKey = (value: Located, wanted: View): string =>
  `move ${value.storage} ${JSON.stringify(value.view)} ${JSON.stringify(wanted)}`;

/** Radices that do not meet may both meet those of the plain layout. */
const movedThroughPlain = (s: Selection, node: Node, value: Located, wanted: Layout): Located => {
  const plain = plainLayout(wanted);
  const isPlain = JSON.stringify(plain.view) === JSON.stringify(wanted.view);
  if (isPlain || factorPairs(plain.view, plain.shape, value.view) === undefined)
    fail("LPU2201", {
      message: `cannot move [${value.shape.join(",")}] into the layout of [${wanted.shape.join(",")}]`,
      node: originText(node),
      hint: "elements would have to change lanes in a way that is not supported yet: write the rearrangement as several Reshape and Transpose nodes, or use sizes that are multiples of the lanes",
    });
  return moved(s, node.id, moved(s, node.id, value, plain), wanted);
};

/** The same dims on lanes and on rows, each as one factor, packed densely. */
const plainLayout = ({ view, shape }: Layout): Layout => {
  let row = 1;
  let column = 1;
  const dims: Factor[][] = shape.map(() => []);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = at(shape, axis, "extent");
    if (extent === 1) continue;
    if (at(view.dims, axis, "dim").some((f) => f.column !== 0)) {
      dims[axis] = [{ extent, row: 0, column }];
      column *= extent;
    } else {
      dims[axis] = [{ extent, row, column: 0 }];
      row *= extent;
    }
  }
  return { view: { dims, row: 0, column: 0 }, shape };
};

const move = (
  s: Selection,
  node: Node,
  value: Located,
  { view: wanted, shape }: Layout,
  pairs: readonly FactorPair[],
): Located => {
  // Rows along which the value is only repeated are not written: the same row is read again and again.
  const kept = pairs.filter(([f, g]) => !(g.row === 0 && g.column === 0 && f.column === 0));
  const digits = {
    rowToRow: kept.filter(([f, g]) => f.row !== 0 && g.column === 0),
    laneToRow: kept.filter(([f, g]) => f.row !== 0 && g.column !== 0),
    rowToLane: kept.filter(([f, g]) => f.column !== 0 && g.row !== 0),
    laneToLane: kept.filter(([f, g]) => f.column !== 0 && g.row === 0),
  };
  const transposes = digits.rowToLane.length > 0 ? !isSelected(digits) : isSooner(s.target, digits);
  const first = transposes ? rowsFirst(s.target, digits, wanted.column) : [];
  if (first.length > 0) {
    const strides = denseStrides(first);
    const [inner] = digits.laneToRow.slice(-1);
    const dims = dimsOf(wanted, shape, pairs, (pair) => ({
      ...{ extent: pair[0].extent, row: strides.get(pair) ?? 0 },
      column: pair === inner ? 1 : 0,
    }));
    const onRows = moved(s, node.id, value, { view: { dims, row: 0, column: 0 }, shape });
    return moved(s, node.id, onRows, { view: wanted, shape });
  }
  // One task writes neighbouring rows: those of the contracted lanes when rows become lanes, else those that were rows.
  const inner = transposes ? digits.laneToRow : digits.rowToRow;
  const outer = transposes ? digits.rowToRow : digits.laneToRow;
  const strides = denseStrides([...outer, ...inner]);
  const view: View = { dims: movedDims(wanted, shape, pairs, strides), row: 0, column: wanted.column };
  const rows = productOfExtents(kept.filter(([f]) => f.row !== 0));
  const { panels: all } = spaceOf(s.target, { view, shape });
  const repeated = repeatedIn({ view, shape }, value.shape);
  const cycle = sharesPanels(pairs) ? cycleOf(s.target, wanted, kept, repeated) : Number.POSITIVE_INFINITY;
  const panels = Math.min(all, cycle);
  const task = { value, panels, column: wanted.column, ...digits, strides, origin: originOf(s, node) };
  const emitMove = transposes ? emitTranspose : emitSelection;
  const storage = emitParts(s, node, movable(s, node.id, value), { rows, panels }, (parts, to, chain, as) =>
    emitMove(s, { ...task, parts, storage: to, chain, as }),
  );
  const own = ownPart({ view, shape }, value.shape, storage);
  if (panels === all) return own;
  // Lanes behind the last copy find one more.
  const { values, padding } = factsOf(s, storage);
  s.facts[storage] = { values, padding: union(values, padding) };
  return { ...own, cycle };
};

/** Panels after which copies that fill a broadcast layout, one behind the other without gaps, lie on the same lanes again. */
const cycleOf = (
  { lanes }: Target,
  { column }: View,
  pairs: readonly FactorPair[],
  repeated: readonly Factor[],
): number => {
  const onColumns = pairs.filter(([f]) => f.column !== 0 && f.extent > 1);
  const copies = onColumns.filter(([, g]) => g.column === 0 && g.row === 0).map(([f]) => f);
  const own = onColumns.filter(([, g]) => g.column !== 0 || g.row !== 0);
  const [inner, ...outer] = copies.sort((a, b) => a.column - b.column);
  const span = own.reduce((sum, [f]) => sum + (f.extent - 1) * f.column, 1);
  // What is expanded is no copy: its readers know where all of it lies.
  const isCopy = (f: Factor): boolean => repeated.some((one) => one.column === f.column && one.extent === f.extent);
  if (inner === undefined || !copies.every(isCopy) || column !== 0 || span > inner.column)
    return Number.POSITIVE_INFINITY;
  let end = inner.column * inner.extent;
  for (const f of outer) {
    if (f.column !== end) return Number.POSITIVE_INFINITY;
    end *= f.extent;
  }
  return leastCommonMultiple(inner.column, lanes) / lanes;
};

const leastCommonMultiple = (a: number, b: number): number => {
  let multiple = a;
  while (multiple % b !== 0) multiple += a;
  return multiple;
};

/** Half-vectors through which all rows go while a tile loads. */
const FEW_HALVES = 40;

/**
 * Whether lanes that become rows do so sooner by a product with the identity, which loads a column for each lane that stays
 * one and sends all rows through every half-vector, than in tasks, one for each.
 */
const isSooner = (
  target: Target,
  { rowToRow, laneToRow, laneToLane }: Pick<Move, "rowToRow" | "laneToRow" | "laneToLane">,
): boolean => {
  const [kept, rows, lanes] = [rowToRow, laneToRow, laneToLane].map(productOfExtents) as [number, number, number];
  return kept * lanes < rows && kept * Math.ceil((rows * lanes) / halfLanes(target)) < FEW_HALVES;
};

/** Cycles that a pass of one row takes of an array, by a tile that brings a few lanes to theirs. */
const SELECTION_CYCLES = 12;

/**
 * Of lanes of one row, of which the innermost digit becomes rows, the other digits, if it turns sooner with these on rows: then one
 * pass by one identity turns what lies on many half-vectors, each of which takes a pass and an identity of its own.
 */
const rowsFirst = (
  target: Target,
  { rowToRow, laneToRow, rowToLane, laneToLane }: Pick<Move, "rowToRow" | "laneToRow" | "rowToLane" | "laneToLane">,
  column: number,
): readonly FactorPair[] => {
  const half = halfLanes(target);
  // Copies are made in the end.
  const first = [...laneToRow.slice(0, -1), ...laneToLane].filter(([, g]) => g.column !== 0);
  const [depth, lanes, others] = [laneToRow, laneToLane, first].map(productOfExtents) as [number, number, number];
  const columns = combinations(laneToLane, "column", "column").map(({ to }) => column + to);
  const panels = new Set(columns.map((at) => Math.floor(at / target.lanes)));
  if (rowToRow.length > 0 || rowToLane.length > 0 || others === 1 || panels.size > 1) return [];
  // The way there is to be a selection, and no turn of its own.
  if (isSooner(target, { rowToRow, laneToRow: first, laneToLane: laneToRow.slice(-1) })) return [];
  const passes = lanes > 1 ? Math.ceil((depth * lanes) / half) : 1;
  const isShorter = others * SELECTION_CYCLES + depth * Math.ceil((depth * lanes) / others / half) < depth * passes;
  return isShorter || depth > target.lanes ? first : [];
};

/** Tiles of selections that one move may take, each as large as any tile of weights. */
const FEW_SELECTIONS = 32;
/** Cycles in which a tile of constant weights loads. */
const TILE_CYCLES = 40;

/**
 * Whether rows that become lanes do so sooner by selections, one for each of them, through which all rows that stay rows go: a
 * product with the identity loads a column for each lane of each row that stays one.
 */
const isSelected = ({
  rowToRow,
  laneToRow,
  rowToLane,
  laneToLane,
}: Pick<Move, "rowToRow" | "laneToRow" | "rowToLane" | "laneToLane">): boolean => {
  const [kept, rows, joined, lanes] = [rowToRow, laneToRow, rowToLane, laneToLane].map(productOfExtents) as [
    number,
    number,
    number,
    number,
  ];
  const selections = rows * joined;
  const loading = Math.max(TILE_CYCLES, (joined * lanes) / LOAD_WAYS);
  return selections <= FEW_SELECTIONS && selections * (kept + TILE_CYCLES) < kept * (loading + rows);
};

/** Row strides that pack digits densely, the last one innermost. */
const denseStrides = (digits: readonly FactorPair[]): Map<FactorPair, number> => {
  const strides = new Map<FactorPair, number>();
  let row = 1;
  for (const pair of [...digits].reverse()) {
    strides.set(pair, row);
    row *= pair[0].extent;
  }
  return strides;
};

/** The wanted dims with the row strides of the copy; rows along which the value is only repeated do not move. */
const movedDims = (
  wanted: View,
  shape: Shape,
  pairs: readonly FactorPair[],
  strides: ReadonlyMap<FactorPair, number>,
): Factor[][] =>
  dimsOf(wanted, shape, pairs, (pair) => {
    const [{ extent, row, column }] = pair;
    return { extent, row: row === 0 ? 0 : (strides.get(pair) ?? 0), column };
  });

/** Dims whose digits, in the order of those of `wanted`, lie where they are told to. */
const dimsOf = (
  wanted: View,
  shape: Shape,
  pairs: readonly FactorPair[],
  placed: (pair: FactorPair) => Factor,
): Factor[][] => {
  const queue = [...pairs];
  return shape.map((_, axis) => {
    const dim: Factor[] = [];
    let left = at(wanted.dims, axis, "dim").reduce((product, f) => product * f.extent, 1);
    while (left > 1) {
      const pair = queue.shift();
      invariant(pair !== undefined, "digits cover every dim");
      left /= pair[0].extent;
      dim.push(placed(pair));
    }
    return dim;
  });
};

/** The value within a copy that fills a broadcast layout: its own dims, and the columns along which it is repeated. */
const ownPart = (full: Layout, shape: Shape, storage: number): Located => {
  const repeated = repeatedIn(full, shape);
  return { storage, shape, view: restrictTo(full, shape), ...(repeated.length === 0 ? {} : { repeated }) };
};

const repeatedIn = (full: Layout, shape: Shape): readonly Factor[] => {
  const missing = full.shape.length - shape.length;
  return full.view.dims.flatMap((factors, axis) =>
    (shape[axis - missing] ?? 1) === 1 ? factors.filter((f) => f.column !== 0 && f.extent > 1) : [],
  );
};

/* ---------- by selection ---------- */

/**
 * Passes of selection matrices: for each place of the lanes that become rows, all rows that were rows; what further rows bring
 * to lanes of these is added up.
 */
const emitSelection = (s: Selection, task: Move): void => {
  const { value, storage, rowToRow, laneToRow, rowToLane, strides, origin } = task;
  const joined = combinations(rowToLane, "column", "row");
  const count = productOfExtents(rowToRow);
  const digits = rowToRow.map(
    (pair): RowDigit => ({ extent: pair[0].extent, out: strides.get(pair) ?? 1, row: pair[1].row }),
  );
  for (const lane of combinations(laneToRow, "row", "column", strides))
    for (let panel = 0; panel < task.panels; panel++) {
      const selections = joined.flatMap(({ to, from }) =>
        passesInOrder(selectedLanes(s.target, task, lane.from, panel, to)).map((pass) => ({ ...pass, from })),
      );
      if (selections.length === 0) continue;
      for (const { row, rows } of rowBlocks(count, rowBlock(s.target, count))) {
        const list = selections.flatMap(({ panel: from, half, parts: ones, from: further }) => {
          const runs = runsOf({ digits, row: value.view.row + further }, row, rows);
          return task.parts.map(
            ({ storage: source, scale }): Pass => ({
              storage: source,
              panel: from,
              half,
              runs,
              weights: selectionTile(ones, scale),
            }),
          );
        });
        const at = lane.to + row;
        pushTask(s, {
          rows,
          passes: list,
          ...task.chain(panel, at, rows),
          storage,
          panel,
          row: at,
          origin,
          as: task.as,
        });
      }
    }
};

/**
 * The lanes that columns of a panel come from, by half-vector; `lane`: offset of the lanes that become the row at hand,
 * `further`: of the columns to which its row comes.
 */
const selectedLanes = (
  target: Target,
  { value, column, laneToLane }: Move,
  lane: number,
  panel: number,
  further: number,
): Passes<Place> => {
  const { lanes } = target;
  const half = halfLanes(target);
  const passes: Passes<Place> = new Map();
  for (const { to, from } of combinations(laneToLane, "column", "column")) {
    const at = column + further + to;
    if (Math.floor(at / lanes) !== panel) continue;
    const place = value.view.column + lane + from;
    addToPass(passes, Math.floor(place / half), [at % lanes, place % half]);
  }
  return passes;
};

/** A tile that brings lanes to columns. */
const selectionTile = (places: readonly Place[], value: number): PackedTile => {
  const columns = Math.max(...places.map(([column]) => column)) + 1;
  const recipe: TileRecipe = { kind: "points", vectors: columns, value, places };
  return { key: tileKey(recipe), dtype: "f16", columns, column: 0, recipe };
};
