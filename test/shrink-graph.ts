/**
 * Makes a graph that fails smaller, as long as it still fails: outputs are dropped, and nodes are replaced by inputs of their
 * type, so that what they are made of goes away. Greedy and deterministic.
 */

import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph, NodeId } from "../src/ir/graph.js";

export function shrinkGraph(graph: Graph, fails: (graph: Graph) => boolean): Graph {
  let best = graph;
  for (let again = true; again; ) {
    again = false;
    for (const smaller of candidates(best)) {
      if (smaller.nodes.length >= best.nodes.length && smaller.outputs.length >= best.outputs.length) continue;
      if (!fails(smaller)) continue;
      best = smaller;
      again = true;
      break;
    }
  }
  return best;
}

function* candidates(graph: Graph): Generator<Graph> {
  for (const kept of graph.outputs) yield rebuild(graph, [kept.node], undefined);
  for (const node of graph.nodes)
    if (node.op !== "input" && node.op !== "constant")
      yield rebuild(
        graph,
        graph.outputs.map((output) => output.node),
        node.id,
      );
}

/** What the outputs need, and nothing else; `cut` becomes an input. */
function rebuild(graph: Graph, outputs: readonly NodeId[], cut: NodeId | undefined): Graph {
  const needed = new Set(outputs);
  for (const node of [...graph.nodes].reverse())
    if (needed.has(node.id) && node.id !== cut) for (const input of node.inputs) needed.add(input);
  const builder = new GraphBuilder(graph.name);
  const made = new Map<NodeId, NodeId>();
  for (const node of graph.nodes) {
    if (!needed.has(node.id)) continue;
    const operands = node.inputs.map((input) => made.get(input) ?? 0);
    made.set(node.id, node.id === cut ? builder.input(`cut${node.id}`, node.type) : builder.copy(node, operands));
  }
  for (const [place, node] of outputs.entries()) builder.output(`y${place}`, made.get(node) ?? 0);
  return builder.finish();
}
