/**
 * Evaluates a Graph: the definition of what a program must compute, and the oracle of tests and reports.
 *
 * Nodes run in order. A value is dropped after its last use, and a constant is loaded anew by each node that takes it, so
 * memory follows what is live and not the size of the model. Nodes that no output needs are not evaluated.
 */

import { fail, invariant } from "../diagnostics.js";
import type { Graph, Node, NodeId, Tensor } from "./graph.js";
import { stringAttr } from "./ops/attributes.js";
import { cast } from "./ops/elementwise.js";
import { evaluateNode } from "./ops.js";
import { equalTypes, formatType, isFloat } from "./tensor.js";

export interface EvaluateOptions {
  /** Called with each node, constants aside, and its value, in order: for finding the first node that differs. */
  readonly onNode?: (node: Node, value: Tensor) => void;
}

/** Values of the outputs, in their order. `inputs` are by name; a float input is rounded to the float type of its node. */
export function evaluate(
  graph: Graph,
  inputs: Readonly<Record<string, Tensor>>,
  options: EvaluateOptions = {},
): Tensor[] {
  const lastUse = lastUses(graph);
  const values = new Map<NodeId, Tensor>();
  const held = (id: NodeId): Tensor => {
    const node = graph.nodes[id];
    invariant(node !== undefined, `node %${id} exists`);
    const value = node.op === "constant" ? evaluateNode(node.op, [], node.attrs, node.type) : values.get(id);
    invariant(value !== undefined, `value of %${id} is kept until its last use`);
    return value;
  };
  for (const node of graph.nodes) {
    if (lastUse[node.id] === UNUSED || node.op === "constant") continue;
    const value =
      node.op === "input"
        ? givenInput(node, inputs)
        : evaluateNode(node.op, node.inputs.map(held), node.attrs, node.type);
    invariant(
      equalTypes(value, node.type),
      `%${node.id} (${node.op}) is ${formatType(node.type)}, evaluated to ${formatType(value)}`,
    );
    options.onNode?.(node, value);
    values.set(node.id, value);
    for (const id of node.inputs) if (lastUse[id] === node.id) values.delete(id);
  }
  return graph.outputs.map((output) => held(output.node));
}

const UNUSED = -1;

/** For each node the last node that takes it, one past all nodes for outputs, UNUSED where no output depends on it. */
function lastUses(graph: Graph): Int32Array {
  const last = new Int32Array(graph.nodes.length).fill(UNUSED);
  for (const output of graph.outputs) last[output.node] = graph.nodes.length;
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    if (last[id] === UNUSED) continue;
    for (const operand of graph.nodes[id]?.inputs ?? []) if (last[operand] === UNUSED) last[operand] = id;
  }
  return last;
}

function givenInput(node: Node, inputs: Readonly<Record<string, Tensor>>): Tensor {
  const name = stringAttr(node.attrs, "name");
  const given = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
  if (given === undefined)
    return fail("LPU4031", { message: `expected an input '${name}', got ${Object.keys(inputs).join(", ") || "none"}` });
  const fitted =
    isFloat(given.dtype) && isFloat(node.type.dtype)
      ? cast(given, { dtype: node.type.dtype, shape: given.shape })
      : given;
  if (!equalTypes(fitted, node.type))
    fail("LPU4030", { message: `input '${name}': expected ${formatType(node.type)}, got ${formatType(given)}` });
  return fitted;
}
