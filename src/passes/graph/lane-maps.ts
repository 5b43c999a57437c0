/**
 * Lane maps: what moves data along the last axis becomes a matmul by a constant matrix of 0, 1 and -1.
 *
 * The last axis lies on lanes, where a slice or a join is not address arithmetic. The matrix unit moves lanes for the price
 * of a small product, exactly in fp16. Maps compose and add, so a chain of slices, negations and joins of one tensor (the
 * half rotation of rotary embeddings) ends as one product.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Literal, type NodeId, type Tensor } from "../../ir/graph.js";
import { intsAttr, numberAttr } from "../../ir/ops/attributes.js";
import { isFloat, literalOf, tensorOf, toNumbers } from "../../ir/tensor.js";
import { CANONICAL_RULES } from "./canonicalize.js";
import {
  addLaneMaps,
  composeLaneMaps,
  deriveLiteral,
  likeIts,
  EAGER_ELEMENTS,
  isLaneMap,
  type LaneEntry,
  laneMapLiteral,
  type LaneMapLiteral,
  negateLaneMap,
} from "../../ir/literals.js";
import type { GraphPass } from "./pass.js";
import { hasPieces, type Rewriter, rewriteGraph, type Rule } from "./rewriter.js";
import { operandOf } from "./rules/arithmetic.js";

interface Mapped {
  readonly x: NodeId;
  readonly map: LaneMapLiteral;
}

/** A node as a lane map of another, if it is one. */
function asMapped(g: Rewriter, id: NodeId): Mapped | undefined {
  const node = g.node(id);
  const map = node.op === "matmul" ? g.literal(operandOf(node, 1)) : undefined;
  return isLaneMap(map) ? { x: operandOf(node, 0), map } : undefined;
}

const resultColumns = (map: LaneMapLiteral): number => at(map.shape, 1, "extent");

/** matmul(x, map) for x of any rank and dtype. */
function applyMap(g: Rewriter, x: NodeId, columns: number, entries: readonly LaneEntry[]): NodeId {
  const shape = g.shape(x);
  const { dtype } = g.type(x);
  const rows = at(shape, shape.length - 1, "extent");
  if (dtype === "bool") {
    const numbers = g.emit("select", [x, g.number(1, "f32"), g.number(0, "f32")]);
    return g.emit("lt", [g.number(0.5, "f32"), applyMap(g, numbers, columns, entries)]);
  }
  const literal = g.literal(x);
  if (literal !== undefined) return g.constant(movedLiteral(literal, columns, entries));
  if (dtype !== "i32" && !isFloat(dtype)) {
    // Products of narrow integers would be of another type.
    return g.emit("cast", [applyMap(g, g.emit("cast", [x], { to: "i32" }), columns, entries)], { to: dtype });
  }
  const map = g.constant(laneMapLiteral(rows, columns, entries, dtype));
  if (shape.length > 1) return g.emit("matmul", [x, map]);
  return g.emit("reshape", [g.emit("matmul", [g.emit("reshape", [x], { shape: [1, rows] }), map])], {
    shape: [columns],
  });
}

/** A constant with its lanes moved, whatever they hold: zero times an infinity would not be zero. */
function movedLiteral(literal: Literal, columns: number, entries: readonly LaneEntry[]): Literal {
  const shape = [...literal.shape.slice(0, -1), columns];
  const width = at(literal.shape, literal.shape.length - 1, "extent");
  const load = (): Tensor => {
    const values = toNumbers(literal.load());
    const out = new Float64Array(elementCount(shape));
    for (let row = 0; row < out.length / columns; row += 1)
      for (const { from, to, sign } of entries) {
        const value = values[row * width + from] as number;
        (out[row * columns + to] as number) += sign < 0 ? -value : value;
      }
    return tensorOf(literal.dtype, shape, out);
  };
  if (elementCount(shape) <= EAGER_ELEMENTS) return literalOf(load());
  const { key } = laneMapLiteral(width, columns, entries, literal.dtype);
  return likeIts(literal, deriveLiteral([literal], `moved ${key}`, { dtype: literal.dtype, shape }, load));
}

const sliceAsMap: Rule = {
  name: "slice-as-lane-map",
  law: "slice of the last axis of x == matmul(x, S)",
  ops: ["slice"],
  rewrite: (g, node) => {
    const x = operandOf(node, 0);
    const shape = g.shape(x);
    const last = shape.length - 1;
    const [starts, sizes, strides] = [
      intsAttr(node.attrs, "starts"),
      intsAttr(node.attrs, "sizes"),
      intsAttr(node.attrs, "strides"),
    ];
    const [start, size, stride] = [at(starts, last, "start"), at(sizes, last, "size"), at(strides, last, "stride")];
    if (last < 0 || elementCount(node.type.shape) === 0 || (size === shape[last] && (stride === 1 || size === 1)))
      return undefined;
    const whole = (list: readonly number[], value: number): number[] =>
      list.map((old, axis) => (axis === last ? value : old));
    const rows = g.emit("slice", [x], {
      starts: whole(starts, 0),
      sizes: whole(sizes, at(shape, last, "extent")),
      strides: whole(strides, 1),
    });
    return applyMap(
      g,
      rows,
      size,
      Array.from({ length: size }, (_, to) => ({ from: start + to * stride, to, sign: 1 })),
    );
  },
};

const concatAsMap: Rule = {
  name: "concat-as-lane-map",
  law: "concat(x, y) along the last axis == matmul(x, E) + matmul(y, F)",
  ops: ["concat"],
  rewrite: (g, node) => {
    const last = node.type.shape.length - 1;
    if (numberAttr(node.attrs, "axis") !== last || elementCount(node.type.shape) === 0) return undefined;
    const columns = at(node.type.shape, last, "extent");
    let offset = 0;
    const sums: NodeId[] = [];
    for (const part of node.inputs) {
      const count = at(g.shape(part), last, "extent");
      const first = offset;
      sums.push(
        applyMap(
          g,
          part,
          columns,
          Array.from({ length: count }, (_, from) => ({ from, to: first + from, sign: 1 })),
        ),
      );
      offset += count;
    }
    return sumOfMaps(g, sums, node.type.dtype === "bool" ? "or" : "add");
  },
};

/** Adds parts, those that are maps of one tensor first. */
function sumOfMaps(g: Rewriter, parts: readonly NodeId[], op: "add" | "or"): NodeId {
  const source = (id: NodeId): NodeId => asMapped(g, id)?.x ?? id;
  const sources = [...new Set(parts.map(source))];
  return sources.flatMap((x) => parts.filter((id) => source(id) === x)).reduce((sum, part) => g.emit(op, [sum, part]));
}

const composeMaps: Rule = {
  name: "compose-lane-maps",
  law: "matmul(matmul(x, A), B) == matmul(x, A B) for lane maps A and B; matmul(x, I) == x",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const map = g.literal(operandOf(node, 1));
    if (!isLaneMap(map)) return undefined;
    const identity =
      map.laneMap.length === resultColumns(map) &&
      map.shape[0] === resultColumns(map) &&
      map.laneMap.every(({ from, to, sign }) => from === to && sign === 1);
    if (identity) return operandOf(node, 0);
    const inner = asMapped(g, operandOf(node, 0));
    if (inner === undefined) return undefined;
    g.through(operandOf(node, 0), "matmul");
    return g.emit("matmul", [inner.x, g.constant(composeLaneMaps(inner.map, map))]);
  },
};

const negateMap: Rule = {
  name: "negate-lane-map",
  law: "-matmul(x, A) == matmul(x, -A); matmul(-x, A) == matmul(x, -A)",
  ops: ["neg", "matmul"],
  rewrite: (g, node) => {
    if (node.op === "neg") {
      const inner = asMapped(g, operandOf(node, 0));
      if (inner === undefined) return undefined;
      g.through(operandOf(node, 0), "matmul");
      return g.emit("matmul", [inner.x, g.constant(negateLaneMap(inner.map))]);
    }
    const map = g.literal(operandOf(node, 1));
    if (!isLaneMap(map)) return undefined;
    const inner = g.through(operandOf(node, 0), "neg");
    return inner === undefined ? undefined : g.emit("matmul", [operandOf(inner, 0), g.constant(negateLaneMap(map))]);
  },
};

const addMaps: Rule = {
  name: "add-lane-maps",
  law: "matmul(x, A) + matmul(x, B) == matmul(x, A + B); matmul(x, A) - matmul(x, B) == matmul(x, A - B)",
  ops: ["add", "sub"],
  rewrite: (g, node) => {
    const [a, b] = [asMapped(g, operandOf(node, 0)), asMapped(g, operandOf(node, 1))];
    if (a === undefined || b === undefined || a.x !== b.x || resultColumns(a.map) !== resultColumns(b.map))
      return undefined;
    for (const id of node.inputs) g.through(id, "matmul");
    return g.emit("matmul", [a.x, g.constant(addLaneMaps(a.map, node.op === "add" ? b.map : negateLaneMap(b.map)))]);
  },
};

export const LANE_MAP_RULES: readonly Rule[] = [sliceAsMap, concatAsMap, composeMaps, negateMap, addMaps];

export const laneMaps: GraphPass = {
  name: "lane-maps",
  doc: "Writes slices and joins of the last axis as products with constant matrices of 0, 1 and -1.",
  run: (graph) => (hasPieces(graph) ? rewriteGraph(graph, [...LANE_MAP_RULES, ...CANONICAL_RULES]) : graph),
};
