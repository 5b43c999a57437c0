/**
 * The concat rule: along an axis that lies on rows, each part is copied to its rows.
 *
 * Concatenation along the lanes has become a sum of matmuls before selection (lane-maps.ts), so a result that is read is
 * row-major and every part is a view of it. A state may lie otherwise: where the axis lies on its lanes, each part is brought
 * to its columns, and lane by lane one of them is taken.
 */

import type { Place } from "../../../ir/recipe.js";
import { at, invariant } from "../../../diagnostics.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import { numberAttr } from "../../../ir/ops/attributes.js";
import type { AluOp, Leaf, StorageId, StorageType } from "../../../ir/plan.js";
import { combinations } from "../layout/digits.js";
import { type FactorPair, factorPairs, leafOf, type Located, runsOf } from "../layout/operand.js";
import { stripCasts } from "../fuse.js";
import { columnsOf, chainOperand, withoutPadding } from "./chain.js";
import {
  addTemp,
  constantOnce,
  copyOfLeaf,
  mapId,
  nodeAt,
  originOf,
  pushChain,
  pushTask,
  rowBlock,
  rowBlocks,
  type Selection,
  spaceOf,
  storageAt,
  storedType,
} from "../selection.js";
import type { Target } from "../../../ir/target.js";
import { locate } from "../value.js";
import { type Layout, naturalLayout, normalize, sliceView, type View } from "../layout/view.js";

export const lowerConcat = (s: Selection, node: Node): Located => {
  const axis = numberAttr(node.attrs, "axis");
  const layout = naturalLayout(node.type.shape);
  invariant(axis !== layout.shape.length - 1, "concat on lanes has become a matmul");
  const storage = addTemp(s, node, storedType(node), spaceOf(s.target, layout));
  joinRows(s, node, partsOf(s, node, layout), storage);
  const value = { storage, ...layout };
  s.located.set(node.id, value);
  return value;
};

/** Writes what a concat joins to a storage that lies as told. */
export const joinInto = (s: Selection, node: Node, layout: Layout, storage: StorageId): void => {
  const parts = partsOf(s, node, layout);
  const along = at(layout.view.dims, numberAttr(node.attrs, "axis"), "dim");
  if (along.every(({ column }) => column === 0)) joinRows(s, node, parts, storage);
  else joinLanes(s, node, parts, layout, storage);
};

/** A part, and the places of the result that are its own. */
interface JoinedPart {
  readonly id: NodeId;
  readonly own: Layout;
}

const partsOf = (s: Selection, node: Node, { view, shape }: Layout): readonly JoinedPart[] => {
  const axis = numberAttr(node.attrs, "axis");
  let first = 0;
  return node.inputs.map((id) => {
    const part = nodeAt(s, id).type.shape;
    const starts = shape.map((_, dim) => (dim === axis ? first : 0));
    const own = sliceView(
      view,
      starts,
      part,
      shape.map(() => 1),
    );
    invariant(own !== undefined, "a part of an axis that is one digit is a view");
    first += at(part, axis, "extent");
    return { id, own: { view: own, shape: part } };
  });
};

const joinRows = (s: Selection, node: Node, parts: readonly JoinedPart[], storage: StorageId): void => {
  const { panels } = storageAt(s, storage);
  for (const { id, own } of parts) {
    const { value, fit } = chainOperand(s, id, own);
    for (const range of rowRanges(own.view))
      for (const { row, rows } of rowBlocks(range.rows, rowBlock(s.target, range.rows), range.row))
        for (let panel = 0; panel < panels; panel++)
          pushTask(s, {
            rows,
            ops: [copyOfLeaf(storageAt(s, value.storage).dtype, 0)],
            // The operand's rows are those of its own part.
            leaves: [leafOf(value, fit, panel, row - own.view.row, rows)],
            storage,
            panel,
            row,
            origin: originOf(s, node),
          });
  }
};

/** Lanes of a panel of the result, and where they come from. */
interface Turned {
  readonly panel: number;
  readonly from: number;
  /** By lane of the result, the lane of the source; undefined of lanes that come from elsewhere. */
  readonly lanes: ReadonlyMap<number, number>;
}

/** Lanes that a value brings to a panel, through the SXM where they turn. */
interface Brought {
  readonly panel: number;
  readonly leaf: (row: number, rows: number) => Leaf;
  readonly dtype: StorageType;
  readonly lanes: readonly number[];
}

const joinLanes = (
  s: Selection,
  node: Node,
  parts: readonly JoinedPart[],
  layout: Layout,
  storage: StorageId,
): void => {
  const { dtype, rows, panels } = storageAt(s, storage);
  const brought = parts.flatMap((part) => turnedLeaves(s, part) ?? leavesInPlace(s, part));
  const masks = brought.map((one) => {
    const places = one.lanes.map((lane): Place => [0, lane]);
    return constantOnce(s, {
      name: "mask",
      rows: 1,
      panels: 1,
      recipe: { kind: "points", vectors: 1, value: 1, places },
    });
  });
  const chain = (panel: number, row: number, count: number): { ops: readonly AluOp[]; leaves: readonly Leaf[] } => {
    const ops: AluOp[] = [];
    const leaves: Leaf[] = [];
    for (const [index, one] of brought.entries()) {
      if (one.panel !== panel) continue;
      const before = ops.length - 1;
      const leaf = leaves.push(one.leaf(row, count)) - 1;
      if (before < 0) ops.push(copyOfLeaf(one.dtype, leaf));
      else {
        const mask =
          leaves.push({ storage: at(masks, index, "mask"), panel: 0, runs: [{ row: 0, step: 0, count }] }) - 1;
        ops.push({ fn: "select", args: [{ leaf: mask }, { leaf }, { op: before }] });
      }
    }
    return { ops, leaves };
  };
  pushChain(s, { rows, panels }, withoutPadding(s, chain, layout, dtype), storage, originOf(s, node));
};

/** A part that lies on other lanes of the same rows, turned on its way. */
const turnedLeaves = (s: Selection, { id, own }: JoinedPart): readonly Brought[] | undefined => {
  const value = s.loaded.get(stripCasts(s.graph, id).id) ?? locate(s, id);
  const pairs = factorPairs(own.view, own.shape, value.view);
  const stays = pairs?.every(([to, from]) =>
    to.row === 0 ? to.column !== 0 && from.row === 0 && from.column !== 0 : from.column === 0,
  );
  if (pairs === undefined || stays !== true || value.repeated !== undefined || value.plus !== undefined)
    return undefined;
  const digits = pairs
    .filter(([to]) => to.row !== 0)
    .map(([to, from]) => ({ extent: to.extent, out: to.row, row: from.row }));
  return turnsOf(
    s.target,
    own.view.column,
    value.view.column,
    pairs.filter(([to]) => to.column !== 0),
  ).map(({ panel, from, lanes }): Brought => {
    const turns = [...lanes].some(([to, source]) => to !== source);
    const map = Int16Array.from({ length: s.target.lanes }, (_, lane) => lanes.get(lane) ?? lane);
    const turned = turns ? { map: mapId(s, map) } : {};
    return {
      panel,
      dtype: storageAt(s, value.storage).dtype,
      lanes: [...lanes.keys()],
      leaf: (row, rows) => ({
        storage: value.storage,
        panel: from,
        runs: runsOf({ digits, row: value.view.row }, row, rows),
        ...turned,
      }),
    };
  });
};

const turnsOf = (
  { lanes: width }: Target,
  first: number,
  source: number,
  pairs: readonly FactorPair[],
): readonly Turned[] => {
  const found = new Map<string, { panel: number; from: number; lanes: Map<number, number> }>();
  for (const { to, from } of combinations(pairs, "column", "column")) {
    const [panel, origin] = [Math.floor((first + to) / width), Math.floor((source + from) / width)];
    const key = `${panel} ${origin}`;
    const known = found.get(key) ?? { panel, from: origin, lanes: new Map<number, number>() };
    found.set(key, known);
    known.lanes.set((first + to) % width, (source + from) % width);
  }
  return [...found.values()];
};

/** A part moved to its lanes, if it does not lie there. */
const leavesInPlace = (s: Selection, { id, own }: JoinedPart): readonly Brought[] => {
  const { value, fit } = chainOperand(s, id, own);
  const columns = columnsOf(own.view);
  const panels = new Set(columns.map((column) => Math.floor(column / s.target.lanes)));
  return [...panels].map(
    (panel): Brought => ({
      panel,
      dtype: storageAt(s, value.storage).dtype,
      lanes: columns
        .filter((column) => Math.floor(column / s.target.lanes) === panel)
        .map((column) => column % s.target.lanes),
      leaf: (row, rows) => leafOf(value, fit, panel, row, rows),
    }),
  );
};

/** Contiguous ranges of rows that a view covers. */
const rowRanges = (view: View): readonly { readonly row: number; readonly rows: number }[] => {
  const factors = normalize(view.dims.flat().filter((f) => f.row !== 0)).sort((x, y) => y.row - x.row);
  const inner = factors[factors.length - 1];
  const rows = inner?.row === 1 ? inner.extent : 1;
  let starts = [view.row];
  for (const f of inner?.row === 1 ? factors.slice(0, -1) : factors)
    starts = starts.flatMap((start) => Array.from({ length: f.extent }, (_, i) => start + i * f.row));
  return starts.map((row) => ({ row, rows }));
};
