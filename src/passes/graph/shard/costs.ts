/**
 * What a placement costs, in cycles, from the tables of the target: arrays and the streams that feed them, ALUs, wires.
 *
 * It is an estimate by which ways are compared, and no schedule: nothing overlaps, and a chain costs what its operations do.
 */

import { at } from "../../../diagnostics.js";
import { DTYPES } from "../../../ir/dtype.js";
import { elementCount, type TensorType } from "../../../ir/graph.js";
import { divides, type Operation, type Placement } from "../../../ir/ops/placement.js";
import { LOCAL_LINKS } from "../../../ir/system.js";
import { halfLanes, hopCycles, type Target } from "../../../ir/target.js";

/** By what ways are compared, in cycles. */
export interface Costs {
  /** An operation, on what one chip has. */
  readonly compute: (operation: Operation) => number;
  /** A tensor, given whole, that is to lie otherwise; undefined if that is not done. */
  readonly move: (type: TensorType, from: Placement, to: Placement) => number | undefined;
}

export const costsOf = (target: Target, chips: number): Costs => ({
  compute: (operation) => computeCycles(target, operation),
  move: (type, from, to) => moveCycles(target, chips, type, from, to),
});

/** Both hemispheres work at once. */
const HEMISPHERES = 2;

/** Bytes of an element where it is stored: numbers of one byte lie on the chip as fp16, but for FP8 of weights. */
const storedBytes = ({ dtype }: TensorType): number => (DTYPES[dtype].bytes === 4 ? 4 : 2);

/** Vectors of a tensor, features on lanes; each byte of an element is a vector of its own. */
const vectorsOf = ({ lanes }: Target, { shape }: TensorType): number => {
  const last = shape.at(-1) ?? 1;
  return last === 0 ? 0 : (elementCount(shape) / last) * Math.ceil(last / lanes);
};
const byteVectorsOf = (target: Target, type: TensorType): number => vectorsOf(target, type) * storedBytes(type);

const computeCycles = (target: Target, { op, operands, type }: Operation): number => {
  const [a, b] = operands;
  if (op === "matmul" && a !== undefined && b !== undefined) return productCycles(target, a, b, type);
  const [read, written] = [a === undefined ? 0 : vectorsOf(target, a), vectorsOf(target, type)];
  if (op === "reduce_sum") return read;
  if (op === "reduce_max") {
    const rotations = 3 * Math.ceil(Math.log2(a?.shape.at(-1) ?? 1) / 2);
    return (read * Math.ceil(rotations / target.sxmQueues)) / HEMISPHERES;
  }
  if (op === "concat") return written / HEMISPHERES;
  return FREE.includes(op) ? 0 : written / target.alus;
};
/** Operations that only rewrite a view, or are the host's. */
const FREE: readonly string[] = ["input", "constant", "reshape", "transpose", "slice", "expand", "gather"];

/** Passes through installed weights: each takes as long as its rows, or as long as weights take to arrive. */
const productCycles = (target: Target, a: TensorType, b: TensorType, type: TensorType): number => {
  const [k, n] = [a.shape.at(-1) ?? 1, type.shape.at(-1) ?? 1];
  const batches = elementCount(b.shape.slice(0, -2));
  const rows = elementCount(type.shape) / Math.max(1, n * batches);
  const passes = Math.ceil(k / halfLanes(target)) * Math.ceil((batches * n) / target.lanes);
  const arrival = (halfLanes(target) * Math.min(2, DTYPES[b.dtype].bytes)) / target.streams;
  return (passes * Math.max(rows, arrival)) / HEMISPHERES;
};

/** Links that join every two chips of a group within a node. */
const linksOfPair = (target: Target, chips: number): number =>
  Math.max(1, Math.floor(Math.min(LOCAL_LINKS, target.links) / (chips - 1)));

/** Cycles until byte vectors that one chip sends to each of the others are in their SRAM. */
const wireCycles = (target: Target, chips: number, vectors: number): number => {
  return hopCycles(target) + target.timing.linkInterval * Math.ceil(vectors / linksOfPair(target, chips));
};

/**
 * What is in pieces becomes whole: each chip sends what it has to all others. A sum that is to be made becomes whole too, or lies in
 * pieces that are whole vectors. All else is not laid out by selection so far.
 */
const moveCycles = (
  target: Target,
  chips: number,
  type: TensorType,
  from: Placement,
  to: Placement,
): number | undefined => {
  if (from === "partial") {
    const { direct, dealt, piece } = sumCycles(target, chips, type);
    if (to === "whole") return Math.min(direct, dealt);
    return typeof to === "number" && isInLots(target, chips, type, to) ? piece : undefined;
  }
  if (from === "whole" || to !== "whole") return undefined;
  const vectors = Math.ceil(byteVectorsOf(target, type) / chips);
  return wireCycles(target, chips, vectors) + joinCycles(target, chips, type, from);
};

/** Whether pieces along an axis are whole vectors, those of a chip one after another: rows of all panels, or whole panels. */
const isInLots = ({ lanes }: Target, chips: number, { shape }: TensorType, axis: number): boolean => {
  const extent = at(shape, axis, "extent");
  if (!divides(chips, extent)) return false;
  return axis === shape.length - 1 ? (extent / chips) % lanes === 0 : elementCount(shape.slice(0, axis)) === 1;
};

/** What a sum over chips takes. */
export interface SumCycles {
  /** Each sends all others what it has. */
  readonly direct: number;
  /** Each has a lot of all vectors, adds it up and sends it to the others. */
  readonly dealt: number;
  /** As far as that each has its lot. */
  readonly piece: number;
}

export const sumCycles = (target: Target, chips: number, type: TensorType): SumCycles => {
  const vectors = vectorsOf(target, type);
  const bytes = storedBytes(type);
  const panels = Math.ceil((type.shape.at(-1) ?? 1) / target.lanes);
  const rows = vectors / Math.max(1, panels);
  const lot = rows % chips === 0 ? vectors / chips : rows * Math.ceil(panels / chips);
  const direct = wireCycles(target, chips, bytes * vectors) + (bytes * vectors * chips) / target.alus;
  const piece = wireCycles(target, chips, bytes * lot) + vectors + (bytes * lot * chips) / target.alus;
  return { direct, dealt: piece + wireCycles(target, chips, bytes * lot) + vectors, piece };
};

/**
 * Pieces along features lie on lanes from the first on; where they fill no whole panels, all that does not come to lie at once
 * goes through the arrays, an element a column.
 */
const joinCycles = ({ lanes }: Target, chips: number, { shape }: TensorType, axis: number): number => {
  const last = at(shape, shape.length - 1, "extent");
  return axis < shape.length - 1 || (last / chips) % lanes === 0 ? 0 : last / HEMISPHERES;
};

/** Bytes of the rows in which a tensor lies, features on lanes. */
export const rowBytes = (target: Target, type: TensorType): number => byteVectorsOf(target, type) * target.lanes;

/** Bytes of SRAM that a constant takes on a chip. */
export const constantBytes = (type: TensorType): number =>
  elementCount(type.shape) * Math.min(2, DTYPES[type.dtype].bytes);
