/**
 * The sum rule: a sum over the last axis is a matmul by ones.
 *
 * A matmul costs nothing more for further columns, so every sum is made on all the lanes on which its reader wants it, and
 * nothing has to be broadcast afterwards. Sums are stored in fp32. Where the reader has groups of columns (attention heads)
 * and so has the operand, each group's sum stands on its group's columns; otherwise a sum stands on all lanes. Sums over
 * more than a vector are of panels that have been added first (select-fold.ts).
 */

import type { Node, Shape } from "../ir/graph.js";
import type { Located } from "./operand.js";
import { ONE_F16 } from "./select-digits.js";
import { foldPanels } from "./select-fold.js";
import { stackDims } from "./select-matmul.js";
import { restrictTo } from "./select-move.js";
import { emitProduct } from "./select-product.js";
import { activations, locate } from "./select-value.js";
import type { Weights } from "./select-weights.js";
import { addTemp, COPY, operandId, originOf, type Selection, spaceOf } from "./selection.js";
import { expandView, type Factor, type Layout, normalize, type View } from "./view.js";

export const lowerSum = (s: Selection, node: Node, wanted: Layout): Located => {
  const { shape } = node.type;
  const a = summands(s, node);
  if (shape.length > 1) return sumOver(s, node, a, shape, wanted);
  // A vector is a matrix of one row.
  const lifted = { ...a, shape: [1, ...a.shape], view: { ...a.view, dims: [[], ...a.view.dims] } };
  const sum = sumOver(s, node, lifted, [1, 1], wanted);
  return { ...sum, shape, view: { ...sum.view, dims: sum.view.dims.slice(1) } };
};

/** The operand of a sum as activations: folded to one panel if it is wider than that. */
const summands = (s: Selection, node: Node): Located => {
  const id = operandId(node, 0);
  const key = `folded ${id}`;
  const folded = s.copies.get(key) ?? foldPanels(s, node);
  if (folded === undefined) return activations(s, id, locate(s, id));
  s.copies.set(key, folded);
  return folded;
};

/** `shape`: that of the result; the last axis of `a` is summed. */
const sumOver = (s: Selection, node: Node, a: Located, shape: Shape, wanted: Layout): Located => {
  const aligned = expandView(restrictTo(wanted, shape), shape);
  const batchDims = aligned.dims.slice(0, -2);
  const grouped = hasColumns(a.view.dims.slice(0, -2)) && hasColumns(batchDims);
  const repeat = grouped ? lastColumns(wanted.view) : undefined;
  const key = sumKey(node, repeat === undefined ? undefined : aligned);
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const width = repeat?.extent ?? s.target.lanes;
  const column = repeat === undefined ? 0 : wanted.view.column;
  // Rows as the source has them, columns as the reader wants them.
  const columns = repeat === undefined ? [] : batchDims.map(columnFactors);
  const dims = stackDims(shape, columns, [{ extent: width, row: 0, column: 1 }]);
  const space = spaceOf(s.target, { view: { dims, row: 0, column }, shape: [...shape.slice(0, -1), width] });
  const storage = addTemp(s, node, "f32", space);
  const weights = ones(a.shape[a.shape.length - 1] ?? 1, width);
  const origin = originOf(s, node);
  emitProduct(s, { a, weights, space, storage, chain: COPY, origin, name: node.op, fill: true });
  const value: Located = {
    storage,
    shape,
    view: { dims: [...dims.slice(0, -1), []], row: 0, column },
    repeated: repeat === undefined ? "all" : [{ extent: width, column: 1 }],
  };
  s.copies.set(key, value);
  return value;
};

/** The same for readers that want a sum on the same columns; `aligned` undefined: on all. */
const sumKey = (node: Node, aligned: View | undefined): string => {
  const place = aligned?.dims.map((factors) => factors.map((f) => [f.extent, f.column]));
  return `sum ${node.id} ${place === undefined ? "all" : JSON.stringify(place)}`;
};

const ones = (k: number, width: number): Weights => ({
  kind: "constant",
  key: `ones ${k}x${width}`,
  shape: [k, width],
  read: () => new Uint16Array(k * width).fill(ONE_F16),
});

const hasColumns = (dims: View["dims"]): boolean => dims.some((factors) => columnFactors(factors).length > 0);

const columnFactors = (factors: readonly Factor[]): Factor[] =>
  factors.filter((f) => f.column !== 0).map((f) => ({ ...f, row: 0 }));

/** The last dim, if it lies on neighbouring columns. */
const lastColumns = (view: View): Factor | undefined => {
  const [only, ...others] = normalize(view.dims[view.dims.length - 1] ?? []);
  return others.length === 0 && only?.column === 1 ? only : undefined;
};
