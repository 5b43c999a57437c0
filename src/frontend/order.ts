/**
 * Puts nodes in an order in which every value is made before it is used. ONNX demands that order of a file, but files of
 * common optimizers break it. A list that is in order stays as it is; in a cycle the walk goes around once, and the importer
 * then reports the value that is used before it is made. No recursion: lists may be long chains.
 */

import { at } from "../diagnostics.js";
import type { GraphProto, NodeProto } from "./schema.js";

/** What a node is called: by its name, or by its first result if it has none. */
export const nameOfNode = ({ name, output, opType }: NodeProto): string =>
  name || output.find((result) => result !== "") || opType;

export function inOrder(nodes: readonly NodeProto[]): readonly NodeProto[] {
  const makers = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const name of node.output) if (name !== "" && !makers.has(name)) makers.set(name, i);
  });
  const needs = nodes.map((node, i) => {
    const used = [...namesUsed(node)]
      .map((name) => makers.get(name))
      .filter((maker) => maker !== undefined && maker !== i);
    return used.filter((maker) => maker !== undefined);
  });
  const order: number[] = [];
  const seen = new Uint8Array(nodes.length);
  for (let start = 0; start < nodes.length; start += 1) visit(start, needs, seen, order);
  return order.flatMap((i) => at(nodes, i, "node"));
}

/** The nodes of which something that is wanted is made; several may make a value of one name, which the importer refuses. */
export function neededFor(nodes: readonly NodeProto[], wanted: readonly string[]): ReadonlySet<NodeProto> {
  const makers = new Map<string, NodeProto[]>();
  for (const node of nodes)
    for (const name of node.output) if (name !== "") makers.set(name, [...(makers.get(name) ?? []), node]);
  const needed = new Set<NodeProto>();
  const stack = [...wanted];
  for (let name = stack.pop(); name !== undefined; name = stack.pop())
    for (const node of makers.get(name) ?? []) {
      if (needed.has(node)) continue;
      needed.add(node);
      stack.push(...namesUsed(node));
    }
  return needed;
}

/** What `start` needs, then itself; depth first, in the order of operands. */
function visit(start: number, needs: readonly (readonly number[])[], seen: Uint8Array, order: number[]): void {
  const stack: { readonly node: number; next: number }[] = [];
  const enter = (node: number): void => {
    if (seen[node] === 1) return;
    seen[node] = 1;
    stack.push({ node, next: 0 });
  };
  enter(start);
  for (let top = stack[stack.length - 1]; top !== undefined; top = stack[stack.length - 1]) {
    const need = needs[top.node]?.[top.next];
    top.next += 1;
    if (need !== undefined) {
      enter(need);
    } else {
      order.push(top.node);
      stack.pop();
    }
  }
}

/** Operands, and whatever the subgraphs of the node use. */
function* namesUsed(node: NodeProto): Generator<string> {
  yield* node.input;
  for (const attribute of node.attribute) if (attribute.g) yield* namesIn(attribute.g);
}

function* namesIn(graph: GraphProto): Generator<string> {
  for (const node of graph.node) yield* namesUsed(node);
  for (const output of graph.output) yield output.name;
}
