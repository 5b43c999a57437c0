/**
 * The matmul rule: where the result of [.., M, K] x [.., K, N] lies, and the chain that it flows through.
 *
 * Rows of the result are rows of the activations, N lies on columns. Batch dims that the activations have on columns
 * (attention heads) become blocks of columns, side by side in one panel, so that heads share passes; all other batch dims
 * are rows. A chain that starts on the result takes it straight from the MXM, if it has a layout; else it is stored first.
 *
 * A chain that divides the result by the sums of the same activations (softmax before a matmul) gets them from the same
 * passes: one further column of ones for each block, and a permutation in the SXM that spreads each sum over its block.
 */

import { isFp8 } from "../../../ir/dtype.js";
import { literalIn } from "../../../ir/ops/attributes.js";
import { at, invariant } from "../../../diagnostics.js";
import { elementCount, type Literal, type Node, type NodeId, type Shape } from "../../../ir/graph.js";
import type { StorageId, StorageType } from "../../../ir/plan.js";
import { lastExtentOf, literalOf } from "../../../ir/tensor.js";
import { halfLanes, type Target } from "../../../ir/target.js";
import { type Fusion, isChainable, isFloatCast, stripCasts } from "../fuse.js";
import type { Located } from "../layout/operand.js";
import { withoutRow } from "./apart.js";
import { chainLayouts, chainOf, storeChain, viewAtRoot } from "./chain.js";
import { isLaneMap, laneMapLiteral, onlyMoves } from "../../../ir/literals.js";
import { asHalf, emitParts, movable, needsBits } from "../layout/bits.js";
import { largestDivisor } from "../layout/digits.js";
import { relayout } from "../layout/move.js";
import { union } from "../../../ir/ranges.js";
import { refine, withinType } from "../padding.js";
import { joinedWeights } from "./join.js";
import { byGroups } from "./heads.js";
import { emitProduct } from "./product.js";
import { withSquares } from "./squares.js";
import { withRests } from "./rests.js";
import { activations, leavesOf, locate } from "../value.js";
import { constantWeights, type Product, type StoredPart, type SecondOperand } from "../weights.js";
import {
  addTemp,
  type Chain,
  COPY,
  mapId,
  nodeAt,
  operandAt,
  operandId,
  originOf,
  rootType,
  rowOfOnes,
  type Selection,
  type Space,
  spaceOf,
  storageAt,
  storedType,
} from "../selection.js";
import { expandView, type Factor, reshapeView } from "../layout/view.js";

/** A matmul whose result is stored as it is; sums of products by FP8 weights, whose scale is still to come, with all their range. */
export const lowerMatmul = (s: Selection, node: Node): void => {
  const space = resultSpace(s, node);
  const isMoved = movesBits(s, node);
  const type = isFp8(operandAt(s, node, 1).type.dtype) ? "f32" : storedType(node);
  const storage = isMoved ? emitLaneMap(s, node, space) : addTemp(s, node, type, space);
  if (!isMoved) emitMatmul(s, node, space, storage, COPY, originOf(s, node));
  s.located.set(node.id, { storage, shape: node.type.shape, view: space.view });
};

/* ---------- lane maps ---------- */

/** Whether a matmul is a lane map of a value whose bits have to be moved. */
const movesBits = (s: Selection, node: Node): boolean => {
  const map = literalIn(operandAt(s, node, 1));
  if (!isLaneMap(map) || !needsBits(s, operandAt(s, node, 0))) return false;
  return node.type.dtype === "i32" || onlyMoves(map);
};

/** A lane map of integers, fp32 numbers or infinities: every lane of the result is one of the operand, or its negative, or zero. */
const emitLaneMap = (s: Selection, node: Node, space: Space): StorageId => {
  const map = literalIn(operandAt(s, node, 1));
  invariant(isLaneMap(map), "a lane map is a constant");
  const { value, parts } = movable(s, operandId(node, 0), activationsOf(s, node));
  const numbers = node.type.dtype === "i32";
  // Integers are summed, with their signs; other bits are moved one by one, and signs are turned over afterwards.
  const { laneMap } = map;
  const [k = 1, n = 1] = map.shape;
  const entries = numbers ? laneMap : laneMap.map((entry) => ({ ...entry, sign: 1 }));
  const moved = laneMapLiteral(k, n, entries, "f16");
  const weights = constantWeights(s, moved);
  const negative = numbers ? [] : laneMap.flatMap(({ to, sign }) => (sign < 0 ? [to] : []));
  const full = { view: space.view, shape: node.type.shape };
  const turned =
    negative.length === 0 ? undefined : leavesOf(s, signBits(storageAt(s, value.storage).dtype, n, negative), full);
  return emitParts(
    s,
    operandAt(s, node, 0),
    { value, parts },
    space,
    (list, storage, chain, as) =>
      emitProduct(s, {
        a: value,
        parts: list,
        weights,
        space,
        storage,
        chain,
        as,
        origin: originOf(s, node),
        name: at(node.origin, 0, "origin"),
        fill: false,
      }),
    turned,
  );
};

/** [n] elements whose bits are the sign where `columns` says so. */
const signBits = (dtype: StorageType, n: number, columns: readonly number[]): Literal => {
  const half = dtype === "f16";
  const data = half ? new Uint16Array(n) : new Int32Array(n);
  for (const column of columns) data[column] = half ? 0x8000 : 0x80000000;
  return literalOf({ dtype: half ? "f16" : "i32", shape: [n], data });
};

/** A chain that starts on the result of a matmul. */
export const lowerMatmulChain = (s: Selection, fusion: Fusion, main: Node): void => {
  const root = nodeAt(s, fusion.root);
  const sums = sumsOf(s, fusion, main);
  const space = resultSpace(s, main, sums?.blocks);
  const view = movesBits(s, main) ? undefined : viewAtRoot(s, fusion, main.id, space.view);
  const layouts = view === undefined ? undefined : chainLayouts(s, fusion, view);
  if (view === undefined || layouts === undefined) {
    lowerMatmul(s, main);
    storeChain(s, fusion);
    return;
  }
  const turned = sums && { node: sums.node, map: sumsMap(s, sums) };
  if (turned !== undefined) {
    const range = withinType(at(s.ranges, turned.node, "range"), "f32");
    s.sumRanges.set(turned.map, union(range, s.sumRanges.get(turned.map) ?? range));
  }
  const chain = chainOf(s, fusion, layouts, turned);
  const storage = addTemp(s, root, rootType(s, root), space);
  const columns = sums && { column: sums.blocks * sums.n, n: sums.n, ones: rowOfOnes(s, s.target.lanes) };
  const value = { storage, shape: root.type.shape, view };
  s.located.set(root.id, value);
  const whole = literalIn(operandAt(s, main, 1)) === undefined ? chain : withSquares(s, root, value, chain);
  emitMatmul(s, main, space, storage, whole, originOf(s, root), columns);
  refine(s, storage, root.id);
};

/* ---------- sums of the activations ---------- */

/** Sums of a matmul's activations over K that its chain takes, and the blocks of `n` columns in a panel, for each of which there is one. */
interface ActivationSums {
  readonly node: NodeId;
  readonly blocks: number;
  readonly n: number;
}

const sumsOf = (s: Selection, { nodes }: Fusion, main: Node): ActivationSums | undefined => {
  const { timing, chainDepth, lanes } = s.target;
  const { shape } = main.type;
  const n = at(shape, shape.length - 1, "extent");
  const activations = stripCasts(s.graph, operandId(main, 0));
  const isSum = (id: NodeId): boolean => {
    const { op, type, inputs } = nodeAt(s, id);
    const sameOperand = inputs[0] !== undefined && stripCasts(s.graph, inputs[0]).id === activations.id;
    return op === "reduce_sum" && sameOperand && type.shape.length === shape.length;
  };
  const node = nodes
    .filter((id) => nodeAt(s, id).type.shape.join() === shape.join())
    .flatMap((id) => nodeAt(s, id).inputs.map((input) => stripCasts(s.graph, input).id))
    .find(isSum);
  if (node === undefined || operandAt(s, main, 1).op === "constant" || isAligned(s, main)) return undefined;
  // Of one row each, like those of a decode step, arrays wait for their weights, and what is new of them may be apart.
  if (shape.at(-2) === 1) return undefined;
  // The result waits in an ALU for its sums. Passes of their own would take the two arrays as long as this.
  const saved = elementCount(shape) / n / 2;
  if (timing.sxmPermute > chainDepth || timing.sxmPermute > saved || n + 1 > lanes) return undefined;
  const a = activationsOf(s, main);
  const groups = columnGroups(s, main, a).reduce((product, extent) => product * extent, 1);
  const most = largestDivisor(groups, Math.floor(lanes / (n + 1)));
  // Groups that share a half-vector of the activations are to share a panel of the result, too.
  const shareHalves = 2 * lastExtentOf(a.shape) <= halfLanes(s.target);
  return { node, blocks: shareHalves ? most : fewestHalves(s.target, groups, n, most), n };
};

/** Blocks of n columns to a panel, so that what reads all groups takes the fewest half-vectors; of those, the most blocks. */
const fewestHalves = (target: Target, groups: number, n: number, most: number): number => {
  const halvesOf = (blocks: number): number => (groups / blocks) * Math.ceil((blocks * n) / halfLanes(target));
  let best = most;
  for (let blocks = most - 1; blocks > 0; blocks--)
    if (groups % blocks === 0 && halvesOf(blocks) < halvesOf(best)) best = blocks;
  return best;
};

/** Every lane of a block takes its sum; so do the sums themselves, and no other lane is left without one to divide by. */
const sumsMap = (s: Selection, { blocks, n }: ActivationSums): number => {
  const first = blocks * n;
  const sumOf = (lane: number): number => {
    if (lane < first) return first + Math.floor(lane / n);
    return lane < first + blocks ? lane : first;
  };
  return mapId(
    s,
    Int16Array.from({ length: s.target.lanes }, (_, lane) => sumOf(lane)),
  );
};

/* ---------- products ---------- */

const emitMatmul = (
  s: Selection,
  node: Node,
  space: Space,
  storage: StorageId,
  chain: Chain,
  origin: number,
  sums?: Product["sums"],
): void => {
  const a = activationsOf(s, node);
  const parts = [{ storage: a.storage, scale: 1 }];
  const weights = weightsOf(s, node, a);
  const name = at(node.origin, 0, "origin");
  const passOrigin = originOf(s, node);
  const product: Product = { a, parts, weights, space, storage, chain, origin, passOrigin, name, fill: false, sums };
  const whole = withoutRow(s, product);
  const groups = byGroups(s, node, whole);
  if (groups === undefined) emitProduct(s, withRests(s, node, whole));
  else for (const group of groups) emitProduct(s, group);
};

const activationsOf = (s: Selection, node: Node): Located => {
  const id = operandId(node, 0);
  return activations(s, id, locate(s, id), operandAt(s, node, 1).op === "constant");
};

const weightsOf = (s: Selection, node: Node, a: Located): SecondOperand => {
  const id = operandId(node, 1);
  const literal = literalIn(nodeAt(s, id));
  if (literal !== undefined) return constantWeights(s, literal);
  return (
    joinedWeights(s, node, a) ?? {
      kind: "stored",
      shape: nodeAt(s, id).type.shape,
      along: "n",
      parts: [wholePart(s, id)],
    }
  );
};

const wholePart = (s: Selection, id: NodeId): StoredPart => {
  const value = asHalf(s, id, locate(s, id));
  const count = at(value.shape, value.shape.length - 1, "extent");
  return {
    from: 0,
    count,
    value: () => value,
    move: (wanted) => relayout(s, id, value, wanted),
  };
};

/* ---------- the layout of the result ---------- */

/** `blocks`: of columns in a panel, if not as many as fit. */
const resultSpace = (s: Selection, node: Node, blocks?: number): Space => {
  const { shape } = node.type;
  const n = at(shape, shape.length - 1, "extent");
  const columns = columnBlocks(s, node, activationsOf(s, node), blocks);
  const dims = stackDims(shape, columns, n > 1 ? [{ extent: n, row: 0, column: 1 }] : []);
  return spaceOf(s.target, { view: { dims, row: 0, column: 0 }, shape });
};

/** For every batch dim of the result, the blocks of columns that it makes: of those dims that the activations have on columns. */
const columnBlocks = (
  s: Selection,
  node: Node,
  a: Located,
  perPanel: number | undefined,
): readonly (readonly Factor[])[] => {
  const n = at(node.type.shape, node.type.shape.length - 1, "extent");
  const extents = columnGroups(s, node, a);
  const groups = extents.reduce((product, extent) => product * extent, 1);
  const aligned = groups > 1 && isAligned(s, node);
  const { inner, stride } =
    perPanel !== undefined
      ? { inner: perPanel, stride: s.target.lanes }
      : aligned
        ? alignedBlocks(s.target, groups, n)
        : { inner: 1, stride: n };
  const blocks: Factor[] = [
    { extent: groups / inner, row: 0, column: stride },
    { extent: inner, row: 0, column: n },
  ];
  const view = reshapeView({ dims: [blocks], row: 0, column: 0 }, extents);
  invariant(view !== undefined, "column blocks divide the batch dims");
  return view.dims;
};

/**
 * Extents of the batch dims that a result has on columns, 1 for the others: those that the activations have there. But what is
 * wider than a panel and will be activations again has none, since a maximum wants each group on panels of its own; and
 * what such activations make has the heads on columns again, whose passes take the rows of one head after another.
 */
const columnGroups = (s: Selection, node: Node, a: Located): number[] => {
  const { lanes } = s.target;
  const { shape } = node.type;
  const batch = shape.slice(0, -2);
  const [n = 1, k = 1] = [shape[shape.length - 1], a.shape[a.shape.length - 1]];
  if (n > lanes && isAligned(s, node)) return batch.map(() => 1);
  const batchOfA = expandView({ ...a.view, dims: a.view.dims.slice(0, -2) }, batch);
  const isComputed = operandAt(s, node, 1).op !== "constant";
  const isJoined = (axis: number): boolean => isComputed && k > lanes && n <= lanes && axis === batch.length - 1;
  return batch.map((extent, axis) =>
    isJoined(axis) || at(batchOfA.dims, axis, "dim").some((f) => f.column !== 0) ? extent : 1,
  );
};

/** Whether the columns of a product of two computed tensors will be activations of another one. */
const isAligned = (s: Selection, node: Node): boolean =>
  operandAt(s, node, 1).op !== "constant" && feedsActivations(s, node.id);

/**
 * Blocks of n columns that will be activations again: as many as divide the groups share a half-vector, and none leaves its
 * half, so that each is one piece of one pass.
 */
const alignedBlocks = (target: Target, groups: number, n: number): { inner: number; stride: number } => {
  const half = halfLanes(target);
  return n <= half
    ? { inner: largestDivisor(groups, Math.max(1, Math.floor(half / n))), stride: half }
    : { inner: 1, stride: Math.ceil(n / half) * half };
};

/** Whether a result flows, through chains alone, into the activations of a matmul of two computed tensors. */
const feedsActivations = (s: Selection, id: NodeId): boolean =>
  at(s.consumers, id, "list of readers").some((next) => {
    const node = nodeAt(s, next);
    if (node.op === "matmul") return operandId(node, 0) === id && operandAt(s, node, 1).op !== "constant";
    return (isChainable(s.graph, node) || isFloatCast(s.graph, node)) && feedsActivations(s, next);
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
    const extent = at(shape, axis, "extent");
    const own = columns[axis] ?? [];
    if (own.length > 0) dims[axis] = own;
    else if (extent > 1) {
      dims[axis] = [{ extent, row, column: 0 }];
      row *= extent;
    }
  }
  return dims;
};
