/**
 * The concat rule: along an axis that lies on rows, each part is copied to its rows.
 *
 * Concatenation along the lanes has become a sum of matmuls before selection (lane-maps.ts), so the result is row-major here
 * and every part is a view of it.
 */

import { invariant } from "../../../diagnostics.js";
import type { Node } from "../../../ir/graph.js";
import { numberAttr } from "../../../ir/ops/attributes.js";
import { leafOf } from "../layout/operand.js";
import { operandOf } from "./chain.js";
import {
  addTemp,
  copyOfLeaf,
  nodeAt,
  originOf,
  pushTask,
  rowBlock,
  rowBlocks,
  type Selection,
  spaceOf,
  storageAt,
  storedType,
} from "../selection.js";
import { naturalLayout, normalize, sliceView, type View } from "../layout/view.js";

export const lowerConcat = (s: Selection, node: Node): void => {
  const axis = numberAttr(node.attrs, "axis");
  const layout = naturalLayout(node.type.shape);
  const { shape } = layout;
  invariant(axis !== shape.length - 1, "concat on lanes has become a matmul");
  const space = spaceOf(s.target, layout);
  const storage = addTemp(s, node, storedType(node), space);
  let at = 0;
  for (const input of node.inputs) {
    const part = nodeAt(s, input).type.shape;
    const starts = shape.map((_, dim) => (dim === axis ? at : 0));
    const steps = shape.map(() => 1);
    const view = sliceView(layout.view, starts, part, steps);
    invariant(view !== undefined, "a part of a row-major tensor is a view");
    const { value, fit } = operandOf(s, input, { view, shape: part });
    for (const range of rowRanges(view))
      for (const { row, rows } of rowBlocks(range.rows, rowBlock(s.target, range.rows), range.row))
        for (let panel = 0; panel < space.panels; panel++)
          pushTask(s, {
            rows,
            ops: [copyOfLeaf(storageAt(s, value.storage).dtype, 0)],
            // The operand's rows are those of its own part.
            leaves: [leafOf(value, fit, panel, row - view.row, rows)],
            storage,
            panel,
            row,
            origin: originOf(s, node),
          });
    at += part[axis] ?? 0;
  }
  s.located.set(node.id, { storage, ...layout });
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
