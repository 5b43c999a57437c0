/**
 * Rows that figures of theirs scale, as norms and softmax do: an inverse root, or a sum, multiplies or divides the whole row.
 *
 * fp16 keeps 11 bits. A figure that is rounded moves its row one way, all elements at once, and constants that multiply or shift
 * the row next, as those of a norm, are the same for every row. Nothing later takes such an error back, so where long sums
 * collect what rows give (long-sums.ts), both meet the row in fp32, and only what comes of it is rounded.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Graph, isConstant, type Node, type NodeId } from "../../ir/graph.js";
import { equalShapes } from "../../ir/tensor.js";

/** Rows that are scaled by what `isSum` says is made of sums over them, and what constants make of these. */
export const scaledRows = (graph: Graph, isSum: (id: NodeId) => boolean): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const sourcesOf = ({ inputs }: Node): readonly Node[] => inputs.map((id) => at(graph.nodes, id, "node"));
  const isFigure = ({ id, type }: Node): boolean => isSum(id) && type.shape.at(-1) === 1;
  for (const node of graph.nodes) {
    const { op, type } = node;
    const [a, b] = sourcesOf(node);
    if (a === undefined || b === undefined || type.shape.at(-1) === 1) continue;
    const isRows = ({ type: { shape } }: Node): boolean => equalShapes(shape, type.shape);
    const isScaled =
      ((op === "mul" || op === "div") && isRows(a) && isFigure(b)) || (op === "mul" && isRows(b) && isFigure(a));
    const isOfScaled = ([x, by]: readonly [Node, Node]): boolean => found.has(x.id) && isStored(graph, by.id);
    const isNext = (op === "mul" || op === "add") && (isOfScaled([a, b]) || isOfScaled([b, a]));
    if (isScaled || isNext) found.add(node.id);
  }
  return found;
};

/** Whether a node is a constant that is stored: of more than one element, so that it is no immediate of an ALU. */
export const isStored = (graph: Graph, id: NodeId): boolean =>
  isConstant(graph, id) && elementCount(at(graph.nodes, id, "node").type.shape) > 1;
