/**
 * Chains: elementwise operations (fuse.ts) as ALU operations that a burst flows through.
 *
 * The layout of the root's result decides where every node of a chain is computed, back through reshapes and transposes.
 * A layout is chosen so that the largest operands are read as they lie; what does not fit is moved into place. If no one
 * layout suits all paths from an operand to the root, the chain is refused and its nodes are stored one by one.
 */

import type { Place, PointsRecipe } from "../../../ir/recipe.js";
import { aluFunction } from "../../../ir/ops/alu.js";
import { at, invariant } from "../../../diagnostics.js";
import { elementCount, type Node, type NodeId, type Shape } from "../../../ir/graph.js";
import { intsAttr, literalIn } from "../../../ir/ops/attributes.js";
import type { AluOp, Argument, StorageType } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { immediateOf } from "../constants.js";
import { type Fusion, isTransparent, stripCasts } from "../fuse.js";
import { type Fit, fitOperand, leafOf, type Located } from "../layout/operand.js";
import { mayDiverge, refine } from "../padding.js";
import { relayout } from "../layout/move.js";
import { fitted, locate } from "../value.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  constantOnce,
  nodeAt,
  operandAt,
  originOf,
  pushChain,
  type Selection,
  spaceOf,
  storageAt,
  rootType,
} from "../selection.js";
import {
  columnsFrom,
  type Factor,
  type Layout,
  naturalLayout,
  naturalView,
  reshapeView,
  transposeView,
  type View,
} from "../layout/view.js";

/** For each node of a chain, the layout in which it is computed: that of a shape to which its own shape broadcasts. */
export type ChainLayouts = ReadonlyMap<NodeId, Layout>;

/** A chain that reads and writes memory. */
export const storeChain = (s: Selection, { root: rootId, nodes }: Fusion): void => {
  const root = nodeAt(s, rootId);
  const { shape } = root.type;
  const fusion: Fusion = { root: rootId, nodes };
  const view = viewOfChain(s, fusion);
  const layouts = chainLayouts(s, fusion, view);
  if (layouts === undefined) {
    s.refused.push(...nodes.filter((id) => id !== rootId));
    // Selection starts anew, but what is at work on a reader of the chain goes on until then.
    const natural = naturalLayout(shape);
    s.located.set(rootId, { storage: addTemp(s, root, rootType(s, root), spaceOf(s.target, natural)), ...natural });
    return;
  }
  const space = spaceOf(s.target, { view, shape });
  const chain = chainOf(s, fusion, layouts);
  const storage = addTemp(s, root, rootType(s, root), space);
  pushChain(s, space, chain, storage, originOf(s, root));
  refine(s, storage, rootId);
  s.located.set(rootId, { storage, shape, view });
};

/* ---------- layouts ---------- */

/** Layouts of every node of a chain, from the root backwards; undefined where a reshape does not divide, or paths disagree. */
export const chainLayouts = (s: Selection, fusion: Fusion, rootView: View): ChainLayouts | undefined => {
  const { shape } = nodeAt(s, fusion.root).type;
  const layouts = new Map<NodeId, Layout>([[fusion.root, { view: rootView, shape }]]);
  const visit = (id: NodeId, layout: Layout): boolean => {
    const known = layouts.get(id);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(layout)) return false;
    layouts.set(id, layout);
    const node = nodeAt(s, id);
    if (!isTransparent(s.graph, node) || !leadsInside(s, id, fusion)) return true;
    const source = operandAt(s, node, 0);
    const back = layoutBehind(node, source.type.shape, layout);
    return back !== undefined && visit(source.id, back);
  };
  for (const id of [...fusion.nodes].reverse()) {
    const layout = layouts.get(id);
    if (layout === undefined) return undefined;
    for (const input of nodeAt(s, id).inputs)
      if (leadsInside(s, input, fusion) && !visit(input, layout)) return undefined;
  }
  return layouts;
};

/** The layout of the operand (of this shape) of a reshape or transpose, given that of its result. */
const layoutBehind = (node: Node, shape: Shape, layout: Layout): Layout | undefined => {
  const result = node.type.shape;
  if (node.op === "cast") return layout;
  if (elementCount(layout.shape) === elementCount(result)) {
    const own = reshapeView(layout.view, result);
    if (own === undefined) return undefined;
    const view =
      node.op === "reshape" ? reshapeView(own, shape) : transposeView(own, inverse(intsAttr(node.attrs, "perm")));
    return view === undefined ? undefined : { view, shape };
  }
  // A broadcast value: only dims of extent 1 may come and go in front.
  return node.op === "reshape" && withoutLeadingOnes(shape) === withoutLeadingOnes(result) ? layout : undefined;
};

const withoutLeadingOnes = (shape: Shape): string =>
  shape
    .slice(
      Math.max(
        0,
        shape.findIndex((n) => n !== 1),
      ),
    )
    .join();

const inverse = (perm: readonly number[]): number[] => {
  const result: number[] = [];
  for (const [to, from] of perm.entries()) result[from] = to;
  return result;
};

/** Whether a node is computed by a chain, its main included, or is a view of what is. */
const leadsInside = (s: Selection, id: NodeId, { nodes, main }: Fusion): boolean => {
  let node = nodeAt(s, id);
  while (isTransparent(s.graph, node)) node = operandAt(s, node, 0);
  return node.id === main || nodes.includes(node.id);
};

/** Carries the view of a node along to the root of the chain that reads it; undefined if it does not lead there whole. */
export const viewAtRoot = (s: Selection, fusion: Fusion, from: NodeId, view: View): View | undefined => {
  let id = from;
  let current: View | undefined = view;
  while (id !== fusion.root && current !== undefined) {
    const next = at(s.consumers, id, "list of readers").find((reader) => reaches(s, reader, fusion));
    if (next === undefined) return undefined;
    const node = nodeAt(s, next);
    const { shape } = node.type;
    if (elementCount(shape) !== elementCount(nodeAt(s, id).type.shape)) return undefined;
    current =
      node.op === "transpose" ? transposeView(current, intsAttr(node.attrs, "perm")) : reshapeView(current, shape);
    id = next;
  }
  return current;
};

/** Whether a node belongs to a chain, or leads into it through views. */
const reaches = (s: Selection, id: NodeId, fusion: Fusion): boolean =>
  fusion.nodes.includes(id) ||
  (isTransparent(s.graph, nodeAt(s, id)) &&
    at(s.consumers, id, "list of readers").some((next) => reaches(s, next, fusion)));

/** View of the root of a chain that reads memory: that of its first stored operand that allows it, rows made dense; else row-major. */
export const viewOfChain = (s: Selection, fusion: Fusion): View => {
  const { shape } = nodeAt(s, fusion.root).type;
  for (const id of fusion.nodes)
    for (const input of nodeAt(s, id).inputs) {
      const view = viewByOperand(s, fusion, id, input);
      if (view !== undefined) return view;
    }
  return naturalView(shape);
};

/** View of the root for which this operand of this node is read as it lies. */
const viewByOperand = (s: Selection, fusion: Fusion, id: NodeId, input: NodeId): View | undefined => {
  const count = elementCount(nodeAt(s, fusion.root).type.shape);
  const source = stripCasts(s.graph, input);
  const { shape } = nodeAt(s, id).type;
  // Constants and sums lie as their reader wants them.
  if (source.op === "constant" || source.op === "reduce_sum" || leadsInside(s, input, fusion)) return undefined;
  if (elementCount(source.type.shape) !== count || elementCount(shape) !== count) return undefined;
  const dense = denseRows(s.target, locate(s, input), "refused");
  const at = dense === undefined ? undefined : reshapeView(dense, shape);
  const view = at === undefined ? undefined : viewAtRoot(s, fusion, id, at);
  return view !== undefined && chainLayouts(s, fusion, view) !== undefined ? view : undefined;
};

/**
 * The same columns, rows renumbered densely in row-major order. Undefined if lanes hold copies, if the value does not start
 * at a panel, or, with `expanded` refused, if elements share a place.
 */
export const denseRows = (target: Target, value: Located, expanded: "refused" | "kept"): View | undefined => {
  if (value.repeated !== undefined || value.view.column % target.lanes !== 0) return undefined;
  const flat = value.view.dims.flat().filter((f) => f.extent > 1);
  if (expanded === "refused" && flat.some((f) => f.row === 0 && f.column === 0)) return undefined;
  let stride = 1;
  const strides = new Map<Factor, number>();
  for (const f of [...flat].reverse())
    if (f.row !== 0) {
      strides.set(f, stride);
      stride *= f.extent;
    }
  const dims = value.view.dims.map((factors) =>
    factors.filter((f) => f.extent > 1).map((f) => ({ ...f, row: strides.get(f) ?? 0 })),
  );
  return { dims, row: 0, column: 0 };
};

/* ---------- operations ---------- */

/** An operand of a chain: each becomes one leaf. */
export interface Operand {
  readonly value: Located;
  readonly fit: Fit;
}

/** A node whose values the MXM gives on other lanes of the chain's main, and the SXM permutation that brings them into place. */
export interface Turned {
  readonly node: NodeId;
  /** Index into Plan.maps. */
  readonly map: number;
}

/** Integers are read with all their bits; what lies in two storages is added up, once for all that take it. */
const leafArgument = (
  s: Selection,
  { value, fit }: Operand,
  leafFor: (operand: Operand) => number,
  ops: AluOp[],
  sums: Map<number, number>,
): Argument => {
  const leaf = leafFor({ value, fit });
  if (value.plus === undefined) return storageAt(s, value.storage).dtype === "i32" ? { leaf, as: "i32" } : { leaf };
  const known = sums.get(leaf) ?? ops.length;
  if (known === ops.length)
    ops.push({ fn: "add", args: [{ leaf }, { leaf: leafFor({ value: { ...value, storage: value.plus }, fit }) }] });
  sums.set(leaf, known);
  return { op: known };
};

/** Builds, once for all panels and rows, the ALU operations of a chain; operands are moved into place if they must be. */
export const chainOf = (s: Selection, fusion: Fusion, layouts: ChainLayouts, turned?: Turned): Chain => {
  const ops: AluOp[] = [];
  const opIndex = new Map<NodeId, number>();
  const operands: Operand[] = [];
  const sums = new Map<number, number>();
  const leafIndex = new Map<string, number>();
  const leafFor = (operand: Operand): number => {
    const key = JSON.stringify([operand.value.storage, operand.fit]);
    const known = leafIndex.get(key);
    if (known !== undefined) return known;
    leafIndex.set(key, operands.length);
    operands.push(operand);
    return operands.length - 1;
  };
  const argument = (consumer: NodeId, input: NodeId): Argument => {
    if (stripCasts(s.graph, input).id === turned?.node) return { mxm: true, map: turned.map };
    let source = nodeAt(s, input);
    while (isTransparent(s.graph, source) && leadsInside(s, source.id, fusion)) source = operandAt(s, source, 0);
    const op = opIndex.get(source.id);
    if (op !== undefined) return { op };
    if (source.id === fusion.main) return { mxm: true };
    const literal = literalIn(source);
    if (literal !== undefined && elementCount(literal.shape) === 1) return { constant: immediateOf(literal) };
    const layout = layouts.get(consumer);
    invariant(layout !== undefined, "every node of a chain has a layout");
    return leafArgument(s, apart(s, input, layout, operands), leafFor, ops, sums);
  };
  for (const id of fusion.nodes) {
    const node = nodeAt(s, id);
    const fn = aluFunction(
      node.op,
      node.inputs.map((input) => nodeAt(s, input).type.dtype),
    );
    invariant(fn !== undefined, "a chain has ALU operations only");
    const args = node.inputs.map((input) => argument(id, input));
    opIndex.set(id, ops.length);
    ops.push(id === fusion.root ? { fn, args } : { fn, args, origin: originOf(s, node) });
  }
  const leaves: Chain = (panel, row, rows) => ({
    ops,
    leaves: operands.map(({ value, fit }) => leafOf(value, fit, panel, row, rows)),
  });
  const layout = layouts.get(fusion.root);
  const type = rootType(s, nodeAt(s, fusion.root));
  return layout !== undefined && mayDiverge(s, leaves(0, 0, 1), type)
    ? withoutPadding(s, leaves, layout, type)
    : leaves;
};

/** The same chain, with zeros on the lanes that no column of the layout uses. */
export const withoutPadding = (s: Selection, chain: Chain, { view, shape }: Layout, layoutType: StorageType): Chain => {
  const { lanes } = s.target;
  const { panels } = spaceOf(s.target, { view, shape });
  const columns = columnsOf(view);
  if (columns.length === panels * lanes) return chain;
  const places = columns.map((column): Place => [Math.floor(column / lanes), column % lanes]);
  const recipe: PointsRecipe = { kind: "points", vectors: 1, value: 1, places };
  const mask = constantOnce(s, { name: "mask", rows: 1, panels, recipe });
  // One array of operations for all bursts that have the same: their timing is worked out once.
  const known = new Map<readonly AluOp[], readonly AluOp[]>();
  const maskedOps = ({ ops, leaves }: ReturnType<Chain>): readonly AluOp[] => {
    const fn = layoutType === "i32" ? "selectInt" : "select";
    const last: AluOp = { fn, args: [{ leaf: leaves.length }, { op: ops.length - 1 }, { constant: 0 }] };
    const masked = known.get(ops) ?? [...ops, last];
    known.set(ops, masked);
    return masked;
  };
  return (panel, row, rows) => {
    const own = chain(panel, row, rows);
    const zeros = { storage: mask, panel, runs: [{ row: 0, step: 0, count: rows }] };
    return { ops: maskedOps(own), leaves: [...own.leaves, zeros] };
  };
};

/** Physical columns that a view uses, in order. */
export const columnsOf = ({ dims, column }: View): number[] =>
  columnsFrom(
    dims.flat().filter((f) => f.column !== 0 && f.extent > 1),
    column,
  ).sort((a, b) => a - b);

/**
 * The value of a node as a chain reads it that reads `others` already. A slice of SRAM gives one row a cycle: where the chain
 * reads other rows of the same panels, this value is read from a copy.
 */
const apart = (s: Selection, id: NodeId, full: Layout, others: readonly Operand[]): Operand => {
  const operand = chainOperand(s, id, full, "inChain");
  const { value, fit } = operand;
  const collides = others.some(
    (other) => other.value.storage === value.storage && samePanels(other.fit, fit) && !sameRows(other.fit, fit),
  );
  if (!collides || value.plus !== undefined || storageAt(s, value.storage).kind === "constant") return operand;
  const copy = copiedRows(s, id, operand, full) ?? relayout(s, id, value, full);
  const copyFit = fitOperand(s.target, full.view, full.shape, copy);
  return copyFit === undefined ? operand : { value: copy, fit: copyFit };
};

/** A copy of an operand on the lanes and rows of a result of its own shape, through an ALU; undefined where it is repeated. */
const copiedRows = (s: Selection, id: NodeId, { value, fit }: Operand, full: Layout): Located | undefined => {
  const { view, rows, panels } = spaceOf(s.target, full);
  if (view.row !== 0 || view.column !== 0 || elementCount(full.shape) !== elementCount(value.shape)) return undefined;
  const key = `copy ${value.storage} ${JSON.stringify(value.view)} ${JSON.stringify(view)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const node = stripCasts(s.graph, id);
  const { dtype } = storageAt(s, value.storage);
  const storage = addTemp(s, node, dtype, { rows, panels });
  const chain: Chain = (panel, row, count) => ({
    ops: [copyOfLeaf(dtype, 0)],
    leaves: [leafOf(value, fit, panel, row, count)],
  });
  pushChain(s, { rows, panels }, chain, storage, originOf(s, node));
  const copy = { storage, ...full };
  s.copies.set(key, copy);
  return copy;
};

const samePanels = (a: Fit, b: Fit): boolean =>
  a.fixedPanel === b.fixedPanel && a.panelOffset === b.panelOffset && a.cycle === b.cycle;
const sameRows = (a: Fit, b: Fit): boolean => a.row === b.row && JSON.stringify(a.digits) === JSON.stringify(b.digits);

/** The value of a node, with how it is read along with a result laid out as told. */
export const chainOperand = (s: Selection, id: NodeId, full: Layout, use: "inChain" | "alone" = "alone"): Operand => {
  const value = fitted(s, id, full, use);
  const fit = fitOperand(s.target, full.view, full.shape, value);
  invariant(fit !== undefined, `operand ${nodeAt(s, id).origin.join(" + ")} fits after it was moved`);
  return { value, fit };
};
