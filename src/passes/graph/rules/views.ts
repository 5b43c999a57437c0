/**
 * Rules for operations that only move elements: reshape, transpose, slice, expand and concat.
 *
 * Chains of reshapes and transposes are written in the fewest steps (`atoms.ts`). Transposes that move the last axis cost
 * lanes, so they sink below elementwise operations until they meet their inverse; so do reshapes that only regroup rows.
 */

import { at } from "../../../diagnostics.js";
import { elementCount, type Node, type NodeId, type Shape } from "../../../ir/graph.js";
import { booleanAttr, intsAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { equalShapes } from "../../../ir/tensor.js";
import { atomsOf, fewestSteps, isAscending, regroup } from "../atoms.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { ELEMENTWISE_OPS, operandOf } from "./arithmetic.js";

/** The permutation that exchanges an axis with the last one; it undoes itself. */
export const exchangeWithLast = (rank: number, axis: number): number[] =>
  Array.from({ length: rank }, (_, i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));

const isMove = (node: Node): boolean => node.op === "reshape" || node.op === "transpose";

const viewChain: Rule = {
  name: "view-chain",
  law: "a chain of reshapes and transposes == its permutation of atoms in the fewest steps",
  ops: ["reshape", "transpose"],
  rewrite: (g, node) => {
    const chain: { readonly op: string; readonly attrs: Node["attrs"] }[] = [node];
    const passed: NodeId[] = [];
    let base = operandOf(node, 0);
    while (isMove(g.node(base))) {
      passed.push(base);
      chain.unshift(g.node(base));
      base = operandOf(g.node(base), 0);
    }
    if (elementCount(node.type.shape) === 0) return undefined;
    const atoms = atomsOf(g.shape(base));
    for (const step of chain) {
      if (step.op === "transpose") {
        const { dims } = atoms;
        atoms.dims = intsAttr(step.attrs, "perm").map((axis) => at(dims, axis, "dim"));
      } else if (!regroup(atoms, intsAttr(step.attrs, "shape"))) return undefined;
    }
    const steps = fewestSteps(atoms, g.shape(base));
    if (steps.length >= chain.length) return undefined;
    for (const id of passed) g.through(id, g.node(id).op);
    return steps.reduce(
      (x, step) =>
        "reshape" in step
          ? g.emit("reshape", [x], { shape: step.reshape })
          : g.emit("transpose", [x], { perm: step.transpose }),
      base,
    );
  },
};

const identityView: Rule = {
  name: "identity-view",
  law: "reshape, expand, slice or concat to the same shape == x; transpose of axes of extent 1 == reshape",
  ops: ["reshape", "expand", "slice", "concat", "transpose"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    if (node.op === "transpose") {
      const perm = intsAttr(node.attrs, "perm");
      if (isAscending(perm)) return x;
      const moved = perm.filter((axis) => g.shape(x)[axis] !== 1);
      return moved.every((axis, i) => i === 0 || axis > at(moved, i - 1, "axis"))
        ? g.emit("reshape", [x], { shape: node.type.shape })
        : undefined;
    }
    if (node.inputs.length !== 1 || !equalShapes(g.shape(x), node.type.shape)) return undefined;
    return node.op === "slice" &&
      intsAttr(node.attrs, "strides").some((stride, axis) => stride !== 1 && at(node.type.shape, axis, "extent") > 1)
      ? undefined
      : x;
  },
};

const expandChain: Rule = {
  name: "expand-chain",
  law: "expand(expand(x)) == expand(x); expand that only adds axes of extent 1 == reshape",
  ops: ["expand"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    if (elementCount(node.type.shape) === elementCount(g.shape(x)))
      return g.emit("reshape", [x], { shape: node.type.shape });
    const inner = g.through(x, "expand");
    return inner === undefined ? undefined : g.emit("expand", inner.inputs, node.attrs);
  },
};

const sliceOfSlice: Rule = {
  name: "slice-slice",
  law: "slice(slice(x)) == slice(x)",
  ops: ["slice"],
  rewrite: (g, node) => {
    const inner = g.through(operandOf(node, 0), "slice");
    if (inner === undefined) return undefined;
    const [starts, strides] = [intsAttr(node.attrs, "starts"), intsAttr(node.attrs, "strides")];
    const [innerStarts, innerStrides] = [intsAttr(inner.attrs, "starts"), intsAttr(inner.attrs, "strides")];
    return g.emit("slice", inner.inputs, {
      starts: starts.map((start, axis) => at(innerStarts, axis, "start") + start * at(innerStrides, axis, "stride")),
      sizes: intsAttr(node.attrs, "sizes"),
      strides: strides.map((stride, axis) => stride * at(innerStrides, axis, "stride")),
    });
  },
};

const sliceOfConcat: Rule = {
  name: "slice-concat",
  law: "slice(concat(x, y)) == slice(x) where the slice lies within x",
  ops: ["slice"],
  rewrite: (g, node) => {
    const whole = g.node(operandOf(node, 0));
    if (whole.op !== "concat") return undefined;
    const axis = numberAttr(whole.attrs, "axis");
    const [starts, sizes, strides] = [
      intsAttr(node.attrs, "starts"),
      intsAttr(node.attrs, "sizes"),
      intsAttr(node.attrs, "strides"),
    ];
    const first = at(starts, axis, "start");
    const last = first + (at(sizes, axis, "size") - 1) * at(strides, axis, "stride");
    let offset = 0;
    for (const part of whole.inputs) {
      const extent = at(g.shape(part), axis, "extent");
      if (Math.min(first, last) >= offset && Math.max(first, last) < offset + extent) {
        const at = offset;
        g.through(whole.id, "concat");
        return g.emit("slice", [part], {
          starts: starts.map((start, i) => (i === axis ? start - at : start)),
          sizes,
          strides,
        });
      }
      offset += extent;
    }
    return undefined;
  },
};

const sliceOfExpand: Rule = {
  name: "slice-expand",
  law: "slice(expand(x)) == expand(slice(x))",
  ops: ["slice"],
  rewrite: (g, node) => {
    const inner = g.through(operandOf(node, 0), "expand");
    if (inner === undefined || elementCount(node.type.shape) === 0) return undefined;
    const x = operandOf(inner, 0);
    const lead = inner.type.shape.length - g.shape(x).length;
    const own = (name: string, repeated: number): number[] =>
      intsAttr(node.attrs, name)
        .slice(lead)
        .map((value, axis) => (g.shape(x)[axis] === 1 ? repeated : value));
    const small = g.emit("slice", [x], {
      starts: own("starts", 0),
      sizes: own("sizes", 1),
      strides: own("strides", 1),
    });
    return g.emit("expand", [small], { shape: node.type.shape });
  },
};

const flattenConcat: Rule = {
  name: "flatten-concat",
  law: "concat(concat(x, y), z) == concat(x, y, z); neighbouring constants join; empty parts vanish",
  ops: ["concat"],
  rewrite: (g, node) => {
    const axis = numberAttr(node.attrs, "axis");
    const parts: NodeId[] = [];
    for (const id of node.inputs) {
      const inner = g.node(id);
      if (inner.op === "concat" && numberAttr(inner.attrs, "axis") === axis)
        parts.push(...(g.through(id, "concat")?.inputs ?? []));
      else parts.push(id);
    }
    const joined: NodeId[] = [];
    for (const id of parts.filter((part) => g.shape(part)[axis] !== 0)) {
      const last = joined[joined.length - 1];
      if (last !== undefined && g.literal(last) !== undefined && g.literal(id) !== undefined)
        joined[joined.length - 1] = g.emit("concat", [last, id], { axis });
      else joined.push(id);
    }
    if (joined.length === 0 || (joined.length === node.inputs.length && joined.every((id, i) => id === node.inputs[i])))
      return undefined;
    return g.emit("concat", joined, { axis });
  },
};

/** Moves a constant operand to where it stands before a transposition of the result. */
function untranspose(g: Rewriter, id: NodeId, perm: readonly number[]): NodeId {
  const shape = g.shape(id);
  if (shape.length === 0) return id;
  const full = g.emit("reshape", [id], { shape: [...new Array<number>(perm.length - shape.length).fill(1), ...shape] });
  return g.emit("transpose", [full], { perm: perm.map((_, axis) => perm.indexOf(axis)) });
}

const sinkTranspose: Rule = {
  name: "sink-transpose",
  law: "op(transpose(x, p), transpose(y, p), c) == transpose(op(x, y, c'), p) where p moves the last axis",
  ops: ELEMENTWISE_OPS,
  rewrite: (g, node) => {
    const moved = node.inputs.find((id) => g.node(id).op === "transpose");
    if (moved === undefined) return undefined;
    const perm = intsAttr(g.node(moved).attrs, "perm");
    if (perm[perm.length - 1] === perm.length - 1 || perm.length !== node.type.shape.length) return undefined;
    const same = (id: NodeId): boolean =>
      g.node(id).op === "transpose" && equalShapes(intsAttr(g.node(id).attrs, "perm"), perm);
    if (!node.inputs.every((id) => same(id) || g.literal(id) !== undefined)) return undefined;
    const inputs = node.inputs.map((id) => (same(id) ? operandOf(g.node(id), 0) : untranspose(g, id, perm)));
    const inner = g.emit(node.op, inputs, node.attrs);
    return g.from(g.node(moved), () => g.emit("transpose", [inner], { perm }));
  },
};

/** Whether a node is a reshape that leaves the last axis as it is, so that it only regroups rows. */
function regroupsRows(g: Rewriter, id: NodeId): boolean {
  const node = g.node(id);
  if (node.op !== "reshape") return false;
  const from = g.shape(operandOf(node, 0));
  return (
    from.length > 1 &&
    node.type.shape.length > 1 &&
    from[from.length - 1] === node.type.shape[node.type.shape.length - 1]
  );
}

const sinkReshapeProduct: Rule = {
  name: "sink-reshape-matmul",
  law: "matmul(reshape(x), w) == reshape(matmul(x, w)) where only rows are regrouped and w is a matrix",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    if (!regroupsRows(g, a) || g.shape(b).length !== 2) return undefined;
    const product = g.emit("matmul", [operandOf(g.node(a), 0), b]);
    return g.from(g.node(a), () => g.emit("reshape", [product], { shape: node.type.shape }));
  },
};

/** What is under an expansion of an axis that is then one with the axis before it: [.., G, N, K] of [.., G * R, N, K]. */
function repeatedHeads(g: Rewriter, id: NodeId): { readonly heads: NodeId; readonly shape: Shape } | undefined {
  const merged = g.node(id);
  const expanded = merged.op === "reshape" ? g.node(operandOf(merged, 0)) : merged;
  if (merged.op !== "reshape" || expanded.op !== "expand") return undefined;
  const heads = operandOf(expanded, 0);
  const [before, after, all] = [g.shape(heads), expanded.type.shape, merged.type.shape];
  const axis = all.length - 2;
  const isRepeat =
    before.length === after.length &&
    after.length === all.length + 1 &&
    axis >= 1 &&
    after.every((extent, i) => extent === (i === axis ? after[axis] : before[i])) &&
    before[axis] === 1 &&
    equalShapes(all, [
      ...after.slice(0, axis - 1),
      at(after, axis - 1, "extent") * at(after, axis, "extent"),
      ...after.slice(axis + 1),
    ]);
  return isRepeat ? { heads, shape: before.filter((_, i) => i !== axis) } : undefined;
}

const groupHeads: Rule = {
  name: "group-heads",
  law: "matmul(a, repeated b) == reshape(matmul(reshape(a), b)) where each of the heads that share b has one row, or all have no more than b",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = [operandOf(node, 0), operandOf(node, 1)];
    const shape = g.shape(a);
    const rank = shape.length;
    const swap = exchangeWithLast(rank, rank - 2);
    const turned = g.node(b);
    const isTurned = turned.op === "transpose" && equalShapes(intsAttr(turned.attrs, "perm"), swap);
    const repeated = repeatedHeads(g, isTurned ? operandOf(turned, 0) : b);
    if (repeated === undefined || g.shape(b).length !== rank) return undefined;
    // Of more rows each product is long enough to hide that weights are loaded for each head, and heads are products of their own.
    const [queries, shared] = [at(shape, rank - 2, "extent"), at(repeated.shape, rank - 2, "extent")];
    const groups = at(repeated.shape, rank - 3, "extent");
    if (!equalShapes(shape.slice(0, -2), g.shape(b).slice(0, -2))) return undefined;
    const together = (at(shape, rank - 3, "extent") / groups) * queries;
    if (queries > 1 && together > shared) return undefined;
    const rows = g.emit("reshape", [a], { shape: [...shape.slice(0, -3), groups, together, ...shape.slice(-1)] });
    const own = g.emit("reshape", [repeated.heads], { shape: repeated.shape });
    const product = g.emit("matmul", [rows, isTurned ? g.emit("transpose", [own], { perm: swap }) : own]);
    return g.emit("reshape", [product], { shape: node.type.shape });
  },
};

/** An operand of an elementwise operation as it stands before rows were regrouped from a shape; undefined if there is no such one. */
function beforeRegrouping(g: Rewriter, id: NodeId, from: Shape, shape: Shape): NodeId | undefined {
  const own = g.shape(id);
  // Where there is one row, what is regrouped and what is the same for all rows look alike: one would turn into the other.
  const isRow = elementCount(shape.slice(0, -1)) > 1 && own.slice(0, -1).every((extent) => extent === 1);
  if (own.length <= 1 && g.literal(id) !== undefined) return id;
  if (isRow && own.length <= shape.length)
    return g.emit("reshape", [id], { shape: [...from.slice(1).map(() => 1), ...own.slice(-1)] });
  if (!regroupsRows(g, id) || !equalShapes(own.slice(0, -1), shape.slice(0, -1))) return undefined;
  const inner = operandOf(g.node(id), 0);
  return equalShapes(g.shape(inner).slice(0, -1), from.slice(0, -1)) ? inner : undefined;
}

const sinkReshape: Rule = {
  name: "sink-reshape",
  law: "op(reshape(x), reshape(y), c) == reshape(op(x, y, c)) where only rows are regrouped and c is the same for all rows",
  ops: ELEMENTWISE_OPS,
  rewrite: (g, node) => {
    const moved = node.inputs.find((id) => regroupsRows(g, id) && equalShapes(g.shape(id), node.type.shape));
    if (moved === undefined) return undefined;
    const from = g.shape(operandOf(g.node(moved), 0));
    const inputs = node.inputs.flatMap((id) => beforeRegrouping(g, id, from, node.type.shape) ?? []);
    if (inputs.length < node.inputs.length) return undefined;
    const inner = g.emit(node.op, inputs, node.attrs);
    return g.from(g.node(moved), () => g.emit("reshape", [inner], { shape: node.type.shape }));
  },
};

const sinkReshapeReduction: Rule = {
  name: "sink-reshape-reduction",
  law: "reduce(reshape(x)) == reshape(reduce(x)) over the last axis where only rows are regrouped",
  ops: ["reduce_max", "reduce_sum"],
  rewrite: (g, node) => {
    const moved = operandOf(node, 0);
    const axes = intsAttr(node.attrs, "axes");
    const isLast = axes.length === 1 && axes[0] === g.shape(moved).length - 1 && booleanAttr(node.attrs, "keepdims");
    if (!isLast || !regroupsRows(g, moved)) return undefined;
    const x = operandOf(g.node(moved), 0);
    const inner = g.emit(node.op, [x], { ...node.attrs, axes: [g.shape(x).length - 1] });
    return g.from(g.node(moved), () => g.emit("reshape", [inner], { shape: node.type.shape }));
  },
};

const sliceOfReshape: Rule = {
  name: "slice-reshape",
  law: "slice of the last axis of reshape(x) == reshape(slice of the last axis of x) where only rows are regrouped",
  ops: ["slice"],
  rewrite: (g, node) => {
    const inner = g.node(operandOf(node, 0));
    const last = node.type.shape.length - 1;
    const [starts, sizes, strides] = [
      intsAttr(node.attrs, "starts"),
      intsAttr(node.attrs, "sizes"),
      intsAttr(node.attrs, "strides"),
    ];
    if (
      !regroupsRows(g, inner.id) ||
      !sizes.every((size, axis) => axis === last || (size === inner.type.shape[axis] && strides[axis] === 1))
    )
      return undefined;
    const x = operandOf(inner, 0);
    const own = g.shape(x).length - 1;
    const along = (value: number, other: (extent: number) => number): number[] =>
      g.shape(x).map((extent, axis) => (axis === own ? value : other(extent)));
    const cut = g.emit("slice", [x], {
      starts: along(at(starts, last, "start"), () => 0),
      sizes: along(at(sizes, last, "size"), (extent) => extent),
      strides: along(at(strides, last, "stride"), () => 1),
    });
    return g.from(inner, () => g.emit("reshape", [cut], { shape: node.type.shape }));
  },
};

export const VIEW_RULES: readonly Rule[] = [
  identityView,
  viewChain,
  expandChain,
  sliceOfSlice,
  sliceOfConcat,
  sliceOfExpand,
  flattenConcat,
  sliceOfReshape,
  sinkTranspose,
  sinkReshapeProduct,
  groupHeads,
  sinkReshape,
  sinkReshapeReduction,
];
