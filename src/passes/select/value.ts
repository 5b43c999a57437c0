/**
 * Values: where the result of a node lies, and how it comes to lie where a reader needs it.
 *
 * Views of a stored tensor are the same storage seen otherwise; only where strides cannot tell, the tensor is first copied
 * into row-major order. Constants have no storage of their own: each reader gets one in the layout that it needs. Nodes that
 * compute something are lowered by the driver in topological order, but reductions on demand, when the reader's layout is
 * known.
 */

import { VIEWS } from "../../ir/ops.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { at, fail, invariant } from "../../diagnostics.js";
import { elementCount, type Literal, type Node, type NodeId } from "../../ir/graph.js";
import type { Leaf, StorageType } from "../../ir/plan.js";
import { constantContent, isOfHalfs } from "./constants.js";
import { fitOperand, leafOf, type Located } from "./layout/operand.js";
import { isFloatCast, stripCasts } from "./fuse.js";
import { factsOf, withinType } from "./padding.js";
import { boundInput, viewThrough } from "./input.js";
import { type Range, union, ZERO } from "../../ir/ranges.js";
import { asHalf } from "./layout/bits.js";
import { relayout } from "./layout/move.js";
import { addStorage, nodeAt, operandId, originText, type Selection, storedType } from "./selection.js";
import { type Factor, type Layout, naturalLayout, normalize } from "./layout/view.js";

/** The value of a node as it lies in some storage. */
export const locate = (s: Selection, id: NodeId): Located => {
  const known = s.located.get(id);
  if (known !== undefined) return known;
  const value = locateNew(s, nodeAt(s, id));
  s.located.set(id, value);
  return value;
};

const locateNew = (s: Selection, node: Node): Located => {
  const input = boundInput(s, node);
  if (input !== undefined) return input;
  const { shape } = node.type;
  if (node.op === "reduce_max") return s.reductions.reduce_max(s, node, naturalLayout(shape), "alone");
  // A sum that is read by itself stands on all lanes.
  if (node.op === "reduce_sum")
    return s.reductions.reduce_sum(s, node, naturalLayout([...shape.slice(0, -1), s.target.lanes]), "alone");
  if (node.op === "constant") return storeConstant(s, node, naturalLayout(shape));
  if (node.op === "concat") return s.join(s, node);
  if (isFloatCast(s.graph, node)) return locate(s, operandId(node, 0));
  return locateView(s, node);
};

const locateView = (s: Selection, node: Node): Located => {
  invariant(VIEWS.includes(node.op), `${node.op} has been lowered before its use`);
  const { shape } = node.type;
  const source = operandId(node, 0);
  const from = locate(s, source);
  const view = viewThrough(node, from.view);
  if (view !== undefined) return { ...from, view, shape };
  // Strides cannot tell where the elements lie: bring the source into row-major order first.
  const dense = relayout(s, source, from, naturalLayout(from.shape));
  const again = viewThrough(node, dense.view);
  if (again === undefined)
    fail("LPU2201", {
      message: `cannot lay out ${node.op} [${from.shape.join(",")}] -> [${shape.join(",")}]`,
      node: originText(node),
      hint: "a reshape that mixes lanes and rows in this way is not supported yet",
    });
  return { ...dense, view: again, shape };
};

/** A constant, stored so that it can be read along with a result laid out as `full`. */
const storeConstant = (s: Selection, node: Node, full: Layout): Located => {
  const literal = literalIn(node);
  invariant(literal !== undefined, "a constant has a value");
  const type = storedType(node) === "f32" && isOfHalfs(literal) ? "f16" : storedType(node);
  return storeLiteral(s, at(node.origin, 0, "origin"), literal, type, s.ranges[node.id], full);
};

/** Vectors of a constant made by selection, read along with a result laid out as `full`. */
export const leavesOf = (
  s: Selection,
  literal: Literal,
  full: Layout,
): ((panel: number, row: number, rows: number) => Leaf) => {
  const value = storeLiteral(s, "signs", literal, literal.dtype === "i32" ? "i32" : "f16", undefined, full);
  const fit = fitOperand(s.target, full.view, full.shape, value);
  invariant(fit !== undefined, "a constant lies as its reader wants it");
  return (panel, row, rows) => leafOf(value, fit, panel, row, rows);
};

const storeLiteral = (
  s: Selection,
  name: string,
  literal: Literal,
  dtype: StorageType,
  range: Range | undefined,
  full: Layout,
): Located => {
  const layout = constantContent(s.target, literal, full.view, full.shape);
  const key = `constant ${literal.key} ${dtype} ${layout.key}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const { rows, panels, recipe, view, repeated } = layout;
  s.literals.set(literal.key, literal);
  const storage = addStorage(s, {
    name,
    dtype,
    rows,
    panels,
    kind: "constant",
    recipe,
  });
  const { values } = range === undefined ? factsOf(s, storage) : { values: withinType(range, dtype) };
  s.facts[storage] = { values, padding: repeated === undefined ? ZERO : union(values, ZERO) };
  const value: Located = { storage, shape: literal.shape, view, ...(repeated === undefined ? {} : { repeated }) };
  s.copies.set(key, value);
  return value;
};

/** A value, lying so that it can be read along with a result laid out as `full`; moved if need be. */
export const fitted = (s: Selection, id: NodeId, full: Layout, use: "inChain" | "alone"): Located => {
  const node = nodeAt(s, id);
  if (node.op === "constant") return storeConstant(s, node, full);
  const source = stripCasts(s.graph, id);
  const onDemand = source.op === "reduce_sum" && !s.located.has(source.id);
  const value = onDemand ? s.reductions.reduce_sum(s, source, full, use) : locate(s, id);
  if (fitOperand(s.target, full.view, full.shape, value) !== undefined) return value;
  return relayout(s, id, value.plus === undefined ? value : s.reductions.reduce_sum(s, source, full, "alone"), full);
};

/** Rows through which a pass goes in less time than its weights need to load. */
const LOADING_ROWS = 20;

/**
 * A value [.., M, K] as activations: fp16, K on columns, M on rows, batch dims on either. Few rows may have digits of K on
 * rows, too, for constant weights (`deep`): each is a pass over other rows.
 */
export const activations = (s: Selection, id: NodeId, stored: Located, deep = false): Located => {
  const value = asHalf(s, id, stored);
  const { dims } = value.view;
  const [k, m] = [at(dims, dims.length - 1, "dim"), dims[dims.length - 2] ?? []];
  const pure = dims.every((factors) => factors.every((f) => f.row === 0 || f.column === 0));
  const isDeep = deep && elementCount(value.shape.slice(0, -1)) <= LOADING_ROWS && k.some((f) => f.column !== 0);
  const kOnColumns = isDeep || k.every((f) => f.column !== 0);
  if (pure && kOnColumns && m.every((f) => f.column === 0)) return value;
  const mOnColumns = pure && kOnColumns && m.every((f) => f.row === 0);
  return relayout(s, id, value, mOnColumns ? rowsOffColumns(value) : naturalLayout(value.shape));
};

/** The same tensor with M on rows; what else lies on columns stays there, in the same order and without gaps. */
const rowsOffColumns = ({ view, shape }: Layout): Layout => {
  const rank = shape.length;
  const m = at(shape, rank - 2, "extent");
  const dims = view.dims.map((factors, axis) =>
    axis === rank - 2 ? [{ extent: m, row: 1, column: 0 }] : normalize(factors),
  );
  let row = m;
  let column = 1;
  const strides = new Map<Factor, number>();
  for (const f of dims
    .filter((_, axis) => axis !== rank - 2)
    .flat()
    .sort((a, b) => a.column - b.column || a.row - b.row)) {
    strides.set(f, f.row === 0 ? column : row);
    if (f.row === 0) column *= f.extent;
    else row *= f.extent;
  }
  const packed = (f: Factor): Factor => {
    const stride = strides.get(f);
    if (stride === undefined) return f;
    return f.row === 0 ? { ...f, column: stride } : { ...f, row: stride };
  };
  return { view: { dims: dims.map((factors) => factors.map(packed)), row: 0, column: 0 }, shape };
};
