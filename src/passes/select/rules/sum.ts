/**
 * The sum rule: a sum over the last axis is a matmul by ones.
 *
 * A matmul costs nothing more for further columns, so every sum is made on all the lanes on which its reader wants it, and
 * nothing has to be broadcast afterwards. Sums are stored in fp32. Where the reader has groups of columns (attention heads)
 * and so has the operand, each group's sum stands on its group's columns; otherwise a sum stands on all lanes. Sums over
 * more than a vector are of panels that have been added first (fold.ts).
 */

import { at } from "../../../diagnostics.js";
import type { Node, Shape } from "../../../ir/graph.js";
import type { AluOp } from "../../../ir/plan.js";
import type { Located } from "../layout/operand.js";
import { summandsOf } from "./fold.js";
import { stackDims } from "./matmul.js";
import { halfLanes } from "../../../ir/target.js";
import { refine } from "../padding.js";
import { emitProduct } from "./product.js";
import type { SecondOperand } from "../weights.js";
import {
  addTemp,
  COPY,
  type Chain,
  originOf,
  type LowerReduction,
  type Selection,
  type Summands,
  spaceOf,
} from "../selection.js";
import { expandView, type Factor, type Layout, normalize, restrictTo, type View } from "../layout/view.js";

export const lowerSum: LowerReduction = (s, node, wanted, use) => {
  const { shape } = node.type;
  const summands = summandsOf(s, node);
  if (shape.length > 1) return sumOver(s, node, summands, shape, wanted, use);
  // A vector is a matrix of one row.
  const { a } = summands;
  const lifted = { ...a, shape: [1, ...a.shape], view: { ...a.view, dims: [[], ...a.view.dims] } };
  const sum = sumOver(s, node, { ...summands, a: lifted }, [1, 1], wanted, use);
  return { ...sum, shape, view: { ...sum.view, dims: sum.view.dims.slice(1) } };
};

/** `shape`: that of the result; the last axis of the summands is summed. */
const sumOver = (
  s: Selection,
  node: Node,
  summands: Summands,
  shape: Shape,
  wanted: Layout,
  use: "inChain" | "alone",
): Located => {
  const { factor } = summands;
  const aligned = expandView(restrictTo(wanted, shape), shape);
  const batchDims = aligned.dims.slice(0, -2);
  const repeat = hasColumns(batchDims) ? lastColumns(wanted.view) : undefined;
  const key = `${use} ${sumKey(node, repeat === undefined ? undefined : aligned)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const width = repeat?.extent ?? s.target.lanes;
  const column = repeat === undefined ? 0 : wanted.view.column;
  // Rows as the source has them, columns as the reader wants them.
  const columns = repeat === undefined ? [] : batchDims.map(columnFactors);
  const dims = stackDims(shape, columns, [{ extent: width, row: 0, column: 1 }]);
  const space = spaceOf(s.target, { view: { dims, row: 0, column }, shape: [...shape.slice(0, -1), width] });
  const origin = originOf(s, node);
  const chain = scaledBy(factor);
  const [storage = -1, plus] = shares(s, summands, use).map((share) => {
    const to = addTemp(s, node, "f32", space);
    const weights = ones(at(share.a.shape, share.a.shape.length - 1, "extent"), width);
    emitProduct(s, { ...share, weights, space, storage: to, chain, origin, name: node.op, fill: true });
    return to;
  });
  for (const one of [storage, ...(plus === undefined ? [] : [plus])]) refine(s, one, node.id, true);
  const value: Located = {
    storage,
    ...(plus === undefined ? {} : { plus }),
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

/** A part of a sum that is made by itself. */
type Share = Pick<Summands, "a" | "parts">;

/** A chain takes a sum in two shares, which both arrays can make at once: windows apart, or the halves of a vector. */
const shares = (s: Selection, { a, parts }: Summands, use: "inChain" | "alone"): readonly Share[] => {
  if (use === "alone") return [{ a, parts }];
  if (parts.length > 1) return parts.map((part) => ({ a: { ...a, storage: part.storage }, parts: [part] }));
  const half = halfLanes(s.target);
  const last = normalize(at(a.view.dims, a.view.dims.length - 1, "dim"));
  const isVector =
    last.length === 1 && last[0]?.column === 1 && a.view.column === 0 && last[0].extent === s.target.lanes;
  if (!isVector) return [{ a, parts }];
  return [0, half].map((column): Share => {
    const dims = [...a.view.dims.slice(0, -1), [{ extent: half, row: 0, column: 1 }]];
    return { a: { ...a, shape: [...a.shape.slice(0, -1), half], view: { ...a.view, dims, column } }, parts };
  });
};

/** What comes out of the MXM, times a factor. */
const scaledBy = (factor: number): Chain => {
  if (factor === 1) return COPY;
  const ops: AluOp[] = [{ fn: "mul", args: [{ mxm: true }, { constant: factor }] }];
  return () => ({ ops, leaves: [] });
};

const ones = (k: number, width: number): SecondOperand => ({
  kind: "constant",
  matrix: { ones: [k, width], scale: 1 },
  dtype: "f16",
  shape: [k, width],
});

const hasColumns = (dims: View["dims"]): boolean => dims.some((factors) => columnFactors(factors).length > 0);

const columnFactors = (factors: readonly Factor[]): Factor[] =>
  factors.filter((f) => f.column !== 0).map((f) => ({ ...f, row: 0 }));

/** The last dim, if it lies on neighbouring columns. */
const lastColumns = (view: View): Factor | undefined => {
  const [only, ...others] = normalize(at(view.dims, view.dims.length - 1, "dim"));
  return others.length === 0 && only?.column === 1 ? only : undefined;
};
