/**
 * Indices that are data: gathers at computed places and places of maxima, by comparison with all places.
 *
 * A place compared with 0, 1, 2, .. is a row of truth values with one true; its product with the data picks a row, exactly,
 * since all other terms are zero (special.ts: also where there are infinities). Integers are picked in parts of eleven bits. An
 * index below zero counts from the end; one that is out of range picks zero. A gather from a constant table by an input is not
 * one of these: the host looks it up.
 */

import { at } from "../../../diagnostics.js";
import { elementCount, type NodeId } from "../../../ir/graph.js";
import { booleanAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { isFloat, literalOf, tensorOf } from "../../../ir/tensor.js";
import { sliceAxis, takenInFront } from "./gather.js";
import { contractByParts } from "./integers.js";
import { LONG_AXIS, MOST_SLICES } from "./reduce.js";
import { areHostIndices } from "../legal.js";
import { moved } from "./special.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";
import { exchangeWithLast } from "../rules/views.js";

/** 0, 1, 2, .. along the last axis of a shape of extents 1. */
const places = (g: Rewriter, count: number): NodeId =>
  g.constant(
    literalOf(
      tensorOf(
        "i32",
        [count],
        Float64Array.from({ length: count }, (_, i) => i),
      ),
    ),
  );

/** Indices from the start, as i32. */
const fromStart = (g: Rewriter, ids: NodeId, extent: number): NodeId =>
  g.emit("select", [g.emit("lt", [ids, g.number(0, "i32")]), g.emit("add", [ids, g.number(extent, "i32")]), ids]);

/** bool [.., extent]: true at the index. */
const oneHot = (g: Rewriter, ids: NodeId, extent: number): NodeId =>
  g.emit("eq", [g.emit("reshape", [fromStart(g, ids, extent)], { shape: [...g.shape(ids), 1] }), places(g, extent)]);

/** matmul(chosen, data) for bool rows with at most one true; data [.., K, N] of any type. */
function pick(g: Rewriter, chosen: NodeId, data: NodeId): NodeId {
  const { dtype } = g.type(data);
  const rows = g.emit("cast", [chosen], { to: isFloat(dtype) ? dtype : "f32" });
  const product = (x: NodeId): NodeId => g.emit("matmul", [rows, x]);
  if (isFloat(dtype)) return moved(g, data, product);
  if (dtype === "bool") return g.emit("lt", [g.number(0.5, "f32"), product(g.emit("cast", [data], { to: "f32" }))]);
  return contractByParts(g, data, product);
}

const gather: Rule = {
  name: "gather-computed",
  law: "gather(x, ids) == matmul(ids == places, x); of few numbers sum(select(ids == places, x, 0))",
  ops: ["gather"],
  rewrite: (g, node) => {
    const [x, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const axis = numberAttr(node.attrs, "axis");
    const shape = g.shape(x);
    const extent = at(shape, axis, "extent");
    const isLookup = g.literal(x) !== undefined && areHostIndices(g, ids);
    if (isLookup || g.type(ids).dtype !== "i32" || elementCount(node.type.shape) === 0) return undefined;
    const own = g.shape(ids);
    if (shape.length === 1 && isFloat(node.type.dtype) && extent <= MOST_SLICES && elementCount(own) > LONG_AXIS) {
      // Numbers that are chosen from a few keep the lanes of their indices.
      const ones = own.map(() => 1);
      const along = g.emit("reshape", [places(g, extent)], { shape: [extent, ...ones] });
      const number = g.emit("reshape", [x], { shape: [extent, ...ones] });
      const wanted = g.emit("reshape", [fromStart(g, ids, extent)], { shape: [1, ...own] });
      const only = g.emit("select", [g.emit("eq", [wanted, along]), number, g.number(0, node.type.dtype)]);
      return g.emit("reduce_sum", [only], { axes: [0], keepdims: false });
    }
    return takenInFront(g, x, ids, axis, (moved) => {
      const rest = g.shape(moved).slice(1);
      const rows = g.emit("reshape", [moved], { shape: [extent, elementCount(rest)] });
      const flat = g.emit("reshape", [ids], { shape: [elementCount(own)] });
      return g.emit("reshape", [pick(g, oneHot(g, flat, extent), rows)], { shape: [...own, ...rest] });
    });
  },
};

const gatherNd: Rule = {
  name: "gather-nd-computed",
  law: "gather_nd(x, ids) == gather(x, places of ids in row-major order)",
  ops: ["gather_nd"],
  rewrite: (g, node) => {
    const [x, ids] = [operandOf(node, 0), operandOf(node, 1)];
    const batchDims = numberAttr(node.attrs, "batchDims");
    const [shape, own] = [g.shape(x), g.shape(ids)];
    const depth = at(own, own.length - 1, "extent");
    if (g.type(ids).dtype !== "i32" || elementCount(node.type.shape) === 0 || depth === 0) return undefined;
    const extents = shape.slice(batchDims, batchDims + depth);
    const batch = shape.slice(0, batchDims);
    const rest = shape.slice(batchDims + depth);
    const component = (i: number): NodeId =>
      g.emit("reshape", [sliceAxis(g, ids, own.length - 1, i, 1)], { shape: own.slice(0, -1) });
    // A table that the host looks up keeps its indices as they are.
    if (depth === 1 && batchDims === 0) return g.emit("gather", [x, component(0)], { axis: 0 });
    let place = fromStart(g, component(0), at(extents, 0, "extent"));
    for (let i = 1; i < depth; i += 1) {
      const step = g.number(at(extents, i, "extent"), "i32");
      place = g.emit("add", [g.emit("mul", [place, step]), fromStart(g, component(i), at(extents, i, "extent"))]);
    }
    const total = elementCount(extents);
    const rows = g.emit("reshape", [x], { shape: [...batch, total, elementCount(rest)] });
    if (batchDims === 0) {
      const taken = g.emit("gather", [rows, place], { axis: 0 });
      return g.emit("reshape", [taken], { shape: node.type.shape });
    }
    const count = elementCount(own.slice(batchDims, -1));
    const flat = g.emit("reshape", [place], { shape: [...batch, count] });
    return g.emit("reshape", [pick(g, oneHot(g, flat, total), rows)], { shape: node.type.shape });
  },
};

const gatherElements: Rule = {
  name: "gather-elements-computed",
  law: "gather_elements(x, ids) == sum(select(ids == places, x, 0)) along the axis",
  ops: ["gather_elements"],
  rewrite: (g, node) => {
    const ids = operandOf(node, 1);
    const axis = numberAttr(node.attrs, "axis");
    const { shape } = node.type;
    let x = operandOf(node, 0);
    const { dtype } = g.type(x);
    if (g.type(ids).dtype !== "i32" || elementCount(shape) === 0) return undefined;
    for (const [i, size] of shape.entries()) if (i !== axis) x = sliceAxis(g, x, i, 0, size);
    const extent = at(g.shape(x), axis, "extent");
    if (dtype === "bool") return undefined;
    if (shape[axis] === 1) {
      // One element of each line: places stand along the axis itself, and nothing moves.
      const along = g.emit("reshape", [places(g, extent)], { shape: shape.map((_, i) => (i === axis ? extent : 1)) });
      const only = g.emit("select", [g.emit("eq", [fromStart(g, ids, extent), along]), x, g.number(0, dtype)]);
      return g.emit("reduce_sum", [only], { axes: [axis], keepdims: true });
    }
    const last = shape.length - 1;
    const perm = exchangeWithLast(shape.length, axis);
    const moved = (y: NodeId): NodeId => g.emit("transpose", [y], { perm });
    const [rows, wanted] = [moved(x), moved(ids)];
    const outer = g.shape(rows).slice(0, -1);
    const chosen = oneHot(g, wanted, extent);
    const spread = g.emit("reshape", [rows], { shape: [...outer, 1, extent] });
    const only = g.emit("select", [chosen, spread, g.number(0, dtype)]);
    const sum = g.emit("reduce_sum", [only], { axes: [last + 1], keepdims: false });
    return moved(sum);
  },
};

const argmax: Rule = {
  name: "argmax-as-minimum",
  law: "argmax(x) == min(select(x == max(x), places, beyond)) along the axis",
  ops: ["argmax"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const axis = numberAttr(node.attrs, "axis");
    const shape = g.shape(x);
    const extent = at(shape, axis, "extent");
    const own = g.emit("reshape", [places(g, extent)], { shape: shape.map((_, i) => (i === axis ? extent : 1)) });
    const greatest = g.emit("reduce_max", [x], { axes: [axis], keepdims: true });
    const candidates = g.emit("select", [g.emit("eq", [x, greatest]), own, g.number(extent - 1, "i32")]);
    return g.emit("reduce_min", [candidates], { axes: [axis], keepdims: booleanAttr(node.attrs, "keepdims") });
  },
};

export const INDEX_RULES: readonly Rule[] = [gather, gatherNd, gatherElements, argmax];
