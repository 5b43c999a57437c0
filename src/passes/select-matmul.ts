/**
 * The matmul rule: where the result of [.., M, K] x [.., K, N] lies, and the chain that it flows through.
 *
 * Rows of the result are rows of the activations, N lies on columns. Batch dims that the activations have on columns
 * (attention heads) become blocks of columns, side by side in one panel, so that heads share passes; all other batch dims
 * are rows. A chain that starts on the result takes it straight from the MXM, if it has a layout; else it is stored first.
 */

import { invariant } from "../diagnostics.js";
import type { Node, NodeId, Shape } from "../ir/graph.js";
import type { StorageId } from "../ir/plan.js";
import { halfLanes, type Target } from "../ir/target.js";
import { type Fusion, isElementwise } from "./fuse.js";
import type { Located } from "./operand.js";
import { chainLayouts, chainOf, storeChain, viewAtRoot } from "./select-chain.js";
import { asHalf, relayout } from "./select-move.js";
import { emitProduct } from "./select-product.js";
import { activations, locate } from "./select-value.js";
import type { Weights } from "./select-weights.js";
import {
  addTemp,
  type Chain,
  COPY,
  literalOf,
  nodeAt,
  operandAt,
  operandId,
  originOf,
  type Selection,
  type Space,
  spaceOf,
  storedType,
} from "./selection.js";
import { expandView, type Factor, reshapeView } from "./view.js";

/** A matmul whose result is stored as it is. */
export const lowerMatmul = (s: Selection, node: Node): void => {
  const space = resultSpace(s, node);
  const storage = addTemp(s, node, storedType(node), space);
  emitMatmul(s, node, space, storage, COPY, originOf(s, node));
  s.located.set(node.id, { storage, shape: node.type.shape, view: space.view });
};

/** A chain that starts on the result of a matmul. */
export const lowerMatmulChain = (s: Selection, fusion: Fusion, main: Node): void => {
  const root = nodeAt(s, fusion.root);
  const space = resultSpace(s, main);
  const view = viewAtRoot(s, fusion, main.id, space.view);
  const layouts = view === undefined ? undefined : chainLayouts(s, fusion, view);
  if (view === undefined || layouts === undefined) {
    lowerMatmul(s, main);
    storeChain(s, fusion);
    return;
  }
  const chain = chainOf(s, fusion, layouts);
  const storage = addTemp(s, root, storedType(root), space);
  emitMatmul(s, main, space, storage, chain, originOf(s, root));
  s.located.set(root.id, { storage, shape: root.type.shape, view });
};

const emitMatmul = (s: Selection, node: Node, space: Space, storage: StorageId, chain: Chain, origin: number): void => {
  const a = activationsOf(s, node);
  const weights = weightsOf(s, operandId(node, 1));
  emitProduct(s, { a, weights, space, storage, chain, origin, name: node.origin[0] ?? "matmul", fill: false });
};

const activationsOf = (s: Selection, node: Node): Located => {
  const id = operandId(node, 0);
  return activations(s, id, locate(s, id));
};

const weightsOf = (s: Selection, id: NodeId): Weights => {
  const literal = literalOf(nodeAt(s, id));
  if (literal !== undefined)
    return { kind: "constant", key: literal.key, read: () => s.reader.halfs(literal), shape: literal.shape };
  return {
    kind: "stored",
    value: asHalf(s, id, locate(s, id)),
    move: (wanted) => relayout(s, id, locate(s, id), wanted),
  };
};

/* ---------- the layout of the result ---------- */

const resultSpace = (s: Selection, node: Node): Space => {
  const { shape } = node.type;
  const n = shape[shape.length - 1] ?? 1;
  const columns = columnBlocks(s, node, activationsOf(s, node));
  const dims = stackDims(shape, columns, n > 1 ? [{ extent: n, row: 0, column: 1 }] : []);
  return spaceOf(s.target, { view: { dims, row: 0, column: 0 }, shape });
};

/** For every batch dim of the result, the blocks of columns that it makes: of those dims that the activations have on columns. */
const columnBlocks = (s: Selection, node: Node, a: Located): readonly (readonly Factor[])[] => {
  const { shape } = node.type;
  const batch = shape.slice(0, -2);
  const n = shape[shape.length - 1] ?? 1;
  const batchOfA = expandView({ ...a.view, dims: a.view.dims.slice(0, -2) }, batch);
  const extents = batch.map((extent, axis) => ((batchOfA.dims[axis] ?? []).some((f) => f.column !== 0) ? extent : 1));
  const groups = extents.reduce((product, extent) => product * extent, 1);
  const computed = operandAt(s, node, 1).op !== "constant";
  const aligned = groups > 1 && computed && feedsActivations(s, node.id);
  const { perHalf, stride } = aligned ? alignedBlocks(s.target, groups, n) : { perHalf: 1, stride: n };
  const blocks: Factor[] = [
    { extent: groups / perHalf, row: 0, column: stride },
    { extent: perHalf, row: 0, column: n },
  ];
  const view = reshapeView({ dims: [blocks], row: 0, column: 0 }, extents);
  invariant(view !== undefined, "column blocks divide the batch dims");
  return view.dims;
};

/**
 * Blocks of n columns that will be activations again: as many as divide the groups share a half-vector, and none leaves its
 * half, so that each is one piece of one pass.
 */
const alignedBlocks = (target: Target, groups: number, n: number): { perHalf: number; stride: number } => {
  const half = halfLanes(target);
  return n <= half
    ? { perHalf: largestDivisor(groups, Math.max(1, Math.floor(half / n))), stride: half }
    : { perHalf: 1, stride: Math.ceil(n / half) * half };
};

const largestDivisor = (n: number, limit: number): number => {
  let divisor = Math.min(n, limit);
  while (n % divisor !== 0) divisor--;
  return divisor;
};

/** Whether a result flows, through chains alone, into the activations of a matmul of two computed tensors. */
const feedsActivations = (s: Selection, id: NodeId): boolean =>
  (s.consumers[id] ?? []).some((next) => {
    const node = nodeAt(s, next);
    if (node.op === "matmul") return operandId(node, 0) === id && operandAt(s, node, 1).op !== "constant";
    return isElementwise(node) && feedsActivations(s, next);
  });

/** Dims of a stack of matrices: M on rows, then outward, densely, the batch dims that have no `columns`; `last` as given. */
export const stackDims = (
  shape: Shape,
  columns: readonly (readonly Factor[])[],
  last: readonly Factor[],
): (readonly Factor[])[] => {
  let row = 1;
  const dims: (readonly Factor[])[] = shape.map(() => []);
  dims[shape.length - 1] = last;
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    const own = columns[axis] ?? [];
    if (own.length > 0) dims[axis] = own;
    else if (extent > 1) {
      dims[axis] = [{ extent, row, column: 0 }];
      row *= extent;
    }
  }
  return dims;
};
