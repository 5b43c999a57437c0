/**
 * What every change to a Graph needs: dropping dead nodes, comparing nodes and graphs, and joining origins.
 *
 * Nodes are compared by key: operation, operands, type and attributes, constants by the key of their literal. Inputs stay
 * even if nothing uses them, since they are the program's signature. Order is kept, so the result is deterministic.
 */

import { at, sure } from "../diagnostics.js";
import type { Attrs, AttrValue, Graph, Node, NodeId } from "./graph.js";
import { isLiteral } from "./ops/attributes.js";
import { formatType } from "./tensor.js";
import { formatNumber } from "./text.js";

/** Equal for equal attributes, whatever their order. */
export const attrsKey = (attrs: Attrs): string =>
  Object.keys(attrs)
    .sort()
    .map((name) => `${name}=${valueKey(sure(attrs[name], "attribute"))}`)
    .join(",");

function valueKey(value: AttrValue): string {
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean") return String(value);
  return isLiteral(value)
    ? `${formatType(value)}<${JSON.stringify(value.key)}>`
    : `[${value.map(formatNumber).join(",")}]`;
}

/** Equal for nodes that compute the same; origins do not count. */
export const nodeKey = (op: string, inputs: readonly NodeId[], attrs: Attrs, type: Node["type"]): string =>
  `${op}(${inputs.join(",")}){${attrsKey(attrs)}}${formatType(type)}`;

/** Names of both, each once, in order. */
export function mergeOrigins(a: readonly string[], b: readonly string[]): readonly string[] {
  const missing = b.filter((name) => !a.includes(name));
  return missing.length === 0 ? a : [...a, ...missing];
}

/** Origins kept apart, and constants compared by their keys. */
export function equalGraphs(a: Graph, b: Graph): boolean {
  const nodeText = (node: Node): string =>
    `${nodeKey(node.op, node.inputs, node.attrs, node.type)} ${JSON.stringify(node.origin)}`;
  const text = (graph: Graph): string =>
    JSON.stringify([graph.name, graph.nodes.map(nodeText), graph.inputs, graph.outputs]);
  return text(a) === text(b);
}

/** Only the inputs, and what the outputs need. */
export function eliminateDeadNodes(graph: Graph): Graph {
  const live = new Uint8Array(graph.nodes.length);
  for (const id of graph.inputs) live[id] = 1;
  for (const { node } of graph.outputs) live[node] = 1;
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    if (live[id] === 1) for (const operand of at(graph.nodes, id, "node").inputs) live[operand] = 1;
  }
  return live.every((flag) => flag === 1) ? graph : kept(graph, live);
}

/** A graph of those of its nodes that are marked: all that these read are among them. */
function kept(graph: Graph, marks: Uint8Array): Graph {
  const ids = new Int32Array(graph.nodes.length);
  const moved = (id: NodeId): NodeId => at(ids, id, "node");
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    if (marks[node.id] !== 1) continue;
    ids[node.id] = nodes.length;
    nodes.push(Object.freeze({ ...node, id: nodes.length, inputs: node.inputs.map(moved) }));
  }
  const outputs = graph.outputs.map((output) => Object.freeze({ ...output, node: moved(output.node) }));
  return Object.freeze({ name: graph.name, nodes, inputs: graph.inputs.map(moved), outputs });
}
