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
import type { AluOp, Leaf, StorageId } from "../../../ir/plan.js";
import { leafOf, type Located } from "../layout/operand.js";
import { columnsOf, operandOf, withoutPadding } from "./chain.js";
import {
  addTemp,
  constantOnce,
  copyOfLeaf,
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
    const { value, fit } = operandOf(s, id, own);
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

const joinLanes = (
  s: Selection,
  node: Node,
  parts: readonly JoinedPart[],
  layout: Layout,
  storage: StorageId,
): void => {
  const { lanes } = s.target;
  const { dtype, rows, panels } = storageAt(s, storage);
  const operands = parts.map(({ id, own }) => ({ ...operandOf(s, id, own), columns: columnsOf(own.view) }));
  const masks = operands.map(({ columns }) => {
    const places = columns.map((column): Place => [Math.floor(column / lanes), column % lanes]);
    const recipe = { kind: "points", vectors: 1, value: 1, places } as const;
    return constantOnce(s, { name: "mask", rows: 1, panels, recipe });
  });
  const chain = (panel: number, row: number, count: number): { ops: readonly AluOp[]; leaves: readonly Leaf[] } => {
    const ops: AluOp[] = [];
    const leaves: Leaf[] = [];
    for (const [index, { value, fit, columns }] of operands.entries()) {
      if (!columns.some((column) => Math.floor(column / lanes) === panel)) continue;
      const before = ops.length - 1;
      const leaf = leaves.push(leafOf(value, fit, panel, row, count)) - 1;
      if (before < 0) ops.push(copyOfLeaf(storageAt(s, value.storage).dtype, leaf));
      else {
        const mask = leaves.push({ storage: at(masks, index, "mask"), panel, runs: [{ row: 0, step: 0, count }] }) - 1;
        ops.push({ fn: "select", args: [{ leaf: mask }, { leaf }, { op: before }] });
      }
    }
    return { ops, leaves };
  };
  pushChain(s, { rows, panels }, withoutPadding(s, chain, layout, dtype), storage, originOf(s, node));
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
