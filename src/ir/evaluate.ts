/**
 * Evaluates a Graph: the definition of what a program must compute, and the oracle of tests and reports.
 *
 * Nodes run in order. A value is dropped after its last use, and a constant is loaded anew by each node that takes it, so
 * memory follows what is live and not the size of the model. Nodes that no output needs are not evaluated.
 */

import { at, fail, invariant } from "../diagnostics.js";
import type { Graph, Node, NodeId, Tensor } from "./graph.js";
import { chipsOf } from "./group.js";
import { stringAttr } from "./ops/attributes.js";
import { cast } from "./ops/elementwise.js";
import { evaluateNode, opRow } from "./ops.js";
import { equalTypes, formatType, isFloat } from "./tensor.js";

export interface EvaluateOptions {
  /** Called with each node, constants aside, and its value, in order: for finding the first node that differs. */
  readonly onNode?: (node: Node, value: Tensor) => void;
}

type Inputs = Readonly<Record<string, Tensor>>;

/** Values of the outputs, in their order; of a graph for a group, those on its first chip. */
export const evaluate = (graph: Graph, inputs: Inputs, options: EvaluateOptions = {}): Tensor[] =>
  evaluateGroup(graph, inputs, options).map((chips) => valueOn(chips, 0));

/**
 * Values of the outputs on every chip of the group that runs a graph: [output][chip]. The chips go in step, and exchange at the
 * operations of a group. `inputs` are by name, the same for all; a float input is rounded to the float type of its node.
 */
export function evaluateGroup(graph: Graph, inputs: Inputs, options: EvaluateOptions = {}): (readonly Tensor[])[] {
  const chips = Array.from({ length: chipsOf(graph) }, (_, chip) => chip);
  const lastUse = lastUses(graph);
  const values = new Map<NodeId, readonly Tensor[]>();
  const held = (id: NodeId): readonly Tensor[] => {
    const node = graph.nodes[id];
    invariant(node !== undefined, `node %${id} exists`);
    if (node.op === "constant") return onAll(chips, evaluateNode(node.op, [], node.attrs, node.type));
    const value = values.get(id);
    invariant(value !== undefined, `value of %${id} is kept until its last use`);
    return value;
  };
  for (const node of graph.nodes) {
    if (lastUse[node.id] === UNUSED || node.op === "constant") continue;
    const value =
      node.op === "input" ? onAll(chips, givenInput(node, inputs)) : valuesOf(node, node.inputs.map(held), chips);
    for (const own of new Set(value))
      invariant(
        equalTypes(own, node.type),
        `%${node.id} (${node.op}) is ${formatType(node.type)}, evaluated to ${formatType(own)}`,
      );
    options.onNode?.(node, valueOn(value, 0));
    values.set(node.id, value);
    for (const id of node.inputs) if (lastUse[id] === node.id) values.delete(id);
  }
  return graph.outputs.map((output) => held(output.node));
}

const onAll = (chips: readonly number[], value: Tensor): readonly Tensor[] => chips.map(() => value);

const valueOn = (values: readonly Tensor[], chip: number): Tensor => {
  const value = values[chip];
  invariant(value !== undefined, `chip ${chip} has a value`);
  return value;
};

/** Values of a node by chip; what is the same on all is computed once. */
function valuesOf(
  { op, attrs, type }: Node,
  operands: readonly (readonly Tensor[])[],
  chips: readonly number[],
): readonly Tensor[] {
  const { group } = opRow(op);
  const [x] = operands;
  if (group !== undefined && x !== undefined) return group(x, attrs, type);
  const on = (chip: number): readonly Tensor[] => operands.map((values) => valueOn(values, chip));
  const alike = operands.every((values) => values.every((value) => value === values[0]));
  if (alike) return onAll(chips, evaluateNode(op, on(0), attrs, type));
  return chips.map((chip) => evaluateNode(op, on(chip), attrs, type));
}

const UNUSED = -1;

/** For each node the last node that takes it, one past all nodes for outputs, UNUSED where no output depends on it. */
function lastUses(graph: Graph): Int32Array {
  const last = new Int32Array(graph.nodes.length).fill(UNUSED);
  for (const output of graph.outputs) last[output.node] = graph.nodes.length;
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    if (last[id] === UNUSED) continue;
    for (const operand of at(graph.nodes, id, "node").inputs) if (last[operand] === UNUSED) last[operand] = id;
  }
  return last;
}

function givenInput(node: Node, inputs: Inputs): Tensor {
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
