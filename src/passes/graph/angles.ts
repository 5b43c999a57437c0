/**
 * Angles: what sin and cos turn. An error of an angle is one of its sine, however great the angle is: fp16, which has the
 * numbers 2048, 2050, 2052, would give a rotary position of 2049 the sine of another one. So angles are fp32, with all that
 * they are made of by movement, by elementwise operations and by products of one number with each of a row.
 */

import { at } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import { isElementwise, VIEWS } from "../../ir/ops.js";
import { isFloat } from "../../ir/tensor.js";
import { isMove } from "./exponents.js";

const TURNS: readonly string[] = ["sin", "cos"];

export const angleNodes = (graph: Graph): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const stack = graph.nodes.flatMap(({ op, inputs }) => (TURNS.includes(op) ? inputs : []));
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const node = at(graph.nodes, id, "node");
    if (!isFloat(node.type.dtype) || node.op === "constant" || found.has(id)) continue;
    found.add(id);
    const { op, inputs } = node;
    const passes = op === "concat" || VIEWS.includes(op) || isMove(graph, op, inputs[1]) || isScaling(graph, node);
    if (passes || (isElementwise(op) && !TURNS.includes(op))) stack.push(...inputs);
  }
  return found;
};

/** Whether a product has one number to sum for each of its own, so that it is elementwise. */
export const isScaling = (graph: Graph, { op, inputs: [x = -1] }: Node): boolean => {
  const operand = graph.nodes[x];
  return op === "matmul" && operand !== undefined && operand.type.shape.at(-1) === 1;
};
