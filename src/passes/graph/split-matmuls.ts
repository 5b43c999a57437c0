/**
 * Splitting of matmuls with constant weights, so that lanes need not move.
 *
 * Slices of the last axis of a product are products with slices of the weights (a fused projection of q, k and v), if nothing
 * else takes the product; they pass elementwise operations with constants on the way. The product of a concatenation of
 * features is the sum of the products of its parts with rows of the weights. Weights are cut lazily.
 */

import { at } from "../../diagnostics.js";
import { isElementwise } from "../../ir/ops.js";
import { type Graph, isConstant, type Node, type NodeId } from "../../ir/graph.js";
import { intsAttr, numberAttr } from "../../ir/ops/attributes.js";
import { mergeOrigins } from "../../ir/rewrite.js";
import { CANONICAL_RULES } from "./canonicalize.js";
import { sliceAxis } from "./decompose/gather.js";
import type { GraphPass } from "./pass.js";
import { hasPieces, Rewriter, type Rule } from "./rewriter.js";
import { operandOf } from "./rules/arithmetic.js";

interface Cut {
  readonly start: number;
  readonly size: number;
  readonly stride: number;
}

const lastOf = (node: Node): number => node.type.shape.length - 1;

const cutsLastAxis = (graph: Graph, node: Node): boolean => {
  const [x] = node.inputs;
  return (
    node.op === "slice" &&
    x !== undefined &&
    intsAttr(node.attrs, "sizes")[lastOf(node)] !== graph.nodes[x]?.type.shape[lastOf(node)]
  );
};

/** The one operand of an elementwise node that is computed. */
function computedOperand(graph: Graph, node: Node): NodeId | undefined {
  const computed = node.inputs.filter((id) => !isConstant(graph, id));
  return isElementwise(node.op) && computed.length === 1 ? computed[0] : undefined;
}

/** Nodes of which only slices of the last axis are taken, and that come from a matmul with constant weights. */
function splittable(graph: Graph): Uint8Array {
  const full = new Uint8Array(graph.nodes.length);
  for (const { node } of graph.outputs) full[node] = 1;
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    const node = graph.nodes[id];
    if (node === undefined || cutsLastAxis(graph, node)) continue;
    const passes = full[id] === 0 && computedOperand(graph, node) !== undefined;
    if (!passes) for (const operand of node.inputs) full[operand] = 1;
  }
  const result = new Uint8Array(graph.nodes.length);
  for (const node of graph.nodes) {
    const operand = computedOperand(graph, node);
    const source =
      node.op === "matmul"
        ? isConstant(graph, operandOf(node, 1))
        : operand !== undefined && result[operand] === 1 && lastOf(node) === lastOf(at(graph.nodes, operand, "node"));
    result[node.id] = source && full[node.id] === 0 ? 1 : 0;
  }
  return result;
}

const splitProducts = (graph: Graph): Graph => {
  if (!hasPieces(graph)) return graph;
  const g = new Rewriter([concatProduct, ...CANONICAL_RULES]);
  const split = splittable(graph);
  const made: NodeId[] = [];
  const map = (id: NodeId): NodeId => at(made, id, "node");
  for (const node of graph.nodes) {
    const source = node.inputs.map((id) => at(graph.nodes, id, "node"))[0];
    const cuts = source !== undefined && cutsLastAxis(graph, node) && split[source.id] === 1;
    made.push(cuts ? splitSlice(g, graph, node, source, map) : g.copy(node, map));
  }
  return g.finish(graph, map);
};

/** The slice of the last axis goes to the weights, what it takes of the other axes stays. */
function splitSlice(g: Rewriter, graph: Graph, slice: Node, source: Node, map: (id: NodeId) => NodeId): NodeId {
  const last = lastOf(slice);
  const whole = (name: string, value: number): readonly number[] =>
    intsAttr(slice.attrs, name).map((old, axis) => (axis === last ? value : old));
  const own = (name: string): number => at(intsAttr(slice.attrs, name), last, "entry");
  const part: Cut = { start: own("starts"), size: own("sizes"), stride: own("strides") };
  const narrow = cutNode(g, graph, source, part, slice.origin, map);
  const attrs = { starts: whole("starts", 0), sizes: slice.type.shape, strides: whole("strides", 1) };
  return g.from(slice, () => g.emit("slice", [narrow], attrs));
}

/** Columns of a product, or of what is computed from it and constants. */
function cutNode(
  g: Rewriter,
  graph: Graph,
  node: Node,
  part: Cut,
  origin: readonly string[],
  map: (id: NodeId) => NodeId,
): NodeId {
  const cut = (id: NodeId): NodeId => {
    const last = g.shape(id).length - 1;
    return last < 0 || g.shape(id)[last] === 1 ? id : sliceAxis(g, id, last, part.start, part.size, part.stride);
  };
  const both = { origin: mergeOrigins(node.origin, origin) };
  if (node.op === "matmul") {
    return g.from(both, () => g.emit("matmul", [map(operandOf(node, 0)), cut(map(operandOf(node, 1)))]));
  }
  const inputs = node.inputs.map((id) => {
    const source = graph.nodes[id];
    return source === undefined || source.op === "constant"
      ? g.from(both, () => cut(map(id)))
      : cutNode(g, graph, source, part, origin, map);
  });
  return g.from(both, () => g.emit(node.op, inputs, node.attrs));
}

const concatProduct: Rule = {
  name: "concat-product",
  law: "matmul(concat(x, y), [A; B]) == matmul(x, A) + matmul(y, B)",
  ops: ["matmul"],
  rewrite: (g, node) => {
    const [a, b] = [g.node(operandOf(node, 0)), operandOf(node, 1)];
    if (a.op !== "concat" || numberAttr(a.attrs, "axis") !== a.type.shape.length - 1 || g.literal(b) === undefined)
      return undefined;
    const rows = g.shape(b).length - 2;
    g.through(a.id, "concat");
    let offset = 0;
    const products = a.inputs.map((part) => {
      const count = at(g.shape(part), a.type.shape.length - 1, "extent");
      offset += count;
      return g.emit("matmul", [part, sliceAxis(g, b, rows, offset - count, count)]);
    });
    return products.reduce((sum, product) => g.emit("add", [sum, product]));
  },
};

export const splitMatmuls: GraphPass = {
  name: "split-matmuls",
  doc: "Turns slices and joins of features at matmuls with constant weights into slices of the weights.",
  run: splitProducts,
};
