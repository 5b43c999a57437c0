/**
 * What every change to a Graph needs: dropping dead nodes, sharing equal ones, comparing, and joining origins.
 *
 * Nodes are compared by key: operation, operands, type and attributes, constants by the key of their literal. Inputs stay
 * even if nothing uses them, since they are the program's signature. Order is kept, so the result is deterministic.
 */

import { at, invariant, sure } from "../diagnostics.js";
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
  if (live.every((flag) => flag === 1)) return graph;
  return renumber(graph, (node, _inputs, nodes) => (live[node.id] === 1 ? nodes.length : NOTHING));
}

/** Each computation once; the first of equal nodes takes the origins of the others. */
export function eliminateCommonSubexpressions(graph: Graph): Graph {
  const made = new Map<string, NodeId>();
  const shared = renumber(graph, (node, inputs, nodes) => {
    const key = node.op === "input" ? `input %${node.id}` : nodeKey(node.op, inputs, node.attrs, node.type);
    const first = made.get(key);
    if (first === undefined) {
      made.set(key, nodes.length);
      return nodes.length;
    }
    const kept = nodes[first];
    invariant(kept !== undefined, `node %${first} was made`);
    nodes[first] = Object.freeze({ ...kept, origin: mergeOrigins(kept.origin, node.origin) });
    return first;
  });
  return shared.nodes.length === graph.nodes.length ? graph : shared;
}

const NOTHING = -1;

/** Rebuilds a graph: `place` says which new node stands for an old one; the next free number makes a copy. */
function renumber(graph: Graph, place: (node: Node, inputs: readonly NodeId[], nodes: Node[]) => NodeId): Graph {
  const map = new Int32Array(graph.nodes.length).fill(NOTHING);
  const moved = (id: NodeId): NodeId => {
    const target = at(map, id, "node");
    invariant(target !== NOTHING, "what is read is still there");
    return target;
  };
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const id = place(
      node,
      node.inputs.map((input) => at(map, input, "node")),
      nodes,
    );
    map[node.id] = id;
    if (id === nodes.length) nodes.push(Object.freeze({ ...node, id, inputs: node.inputs.map(moved) }));
  }
  const outputs = graph.outputs.map((output) => Object.freeze({ ...output, node: moved(output.node) }));
  return Object.freeze({ name: graph.name, nodes, inputs: graph.inputs.map(moved), outputs });
}
