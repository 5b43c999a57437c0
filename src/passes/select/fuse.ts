/**
 * Fusion: which elementwise operations run as one chain through the VXM.
 *
 * A root is an elementwise node whose value must be stored; every other elementwise node belongs to a root's chain (a cheap
 * one to several) and never touches memory. Reshapes and transposes inside a chain are transparent: they rename elements but
 * do not move them. A chain may start on the result of one matmul (its `main`), straight from the MXM.
 */

import { ALU_OF_OP } from "../../ir/ops/alu.js";
import { at, sure } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import { consumersOf, elementCount } from "../../ir/graph.js";
import { isFloat } from "../../ir/tensor.js";

/** One chain: the nodes that it computes, of which only the root is stored. */
export interface Fusion {
  readonly root: NodeId;
  /** Elementwise nodes of the chain, in topological order; the root is last. */
  readonly nodes: readonly NodeId[];
  /** The matmul whose result enters the chain straight from the MXM. */
  readonly main?: NodeId;
}

const nodeAt = (graph: Graph, id: NodeId | undefined): Node => at(graph.nodes, sure(id, "operand"), "node");

/** Whether a node only renames elements: a reshape, a transpose, or a cast between float types, since an ALU takes any. */
export const isTransparent = (graph: Graph, node: Node): boolean =>
  node.op === "reshape" || node.op === "transpose" || isFloatCast(graph, node);

/** A cast from one float type to another is a matter of who stores and who reads. */
export const isFloatCast = (graph: Graph, { op, type, inputs }: Node): boolean =>
  op === "cast" && isFloat(type.dtype) && isFloat(nodeAt(graph, inputs[0]).type.dtype);

/** The node that casts between float types start from. */
export const stripCasts = (graph: Graph, id: NodeId): Node => {
  let node = nodeAt(graph, id);
  while (isFloatCast(graph, node)) node = nodeAt(graph, node.inputs[0]);
  return node;
};

export const isChainable = (graph: Graph, node: Node): boolean =>
  ALU_OF_OP[node.op] !== undefined && !isFloatCast(graph, node);

/** The node that a chain of reshapes and transposes starts from. */
const strip = (graph: Graph, id: NodeId): Node => {
  let node = nodeAt(graph, id);
  while (isTransparent(graph, node)) node = nodeAt(graph, node.inputs[0]);
  return node;
};

/** `stored`: nodes that must be roots, because no chain could hold them. */
export const fuse = (
  graph: Graph,
  limit: number,
  stored: ReadonlySet<NodeId> = new Set(),
): ReadonlyMap<NodeId, Fusion> => {
  const readers = readersOf(graph);
  const forced = new Set<NodeId>([...stored, ...repeatedFactors(graph), ...earlyAddends(graph, readers, stored)]);
  for (;;) {
    const fusions = fuseOnce(graph, readers, forced);
    const cut = [...fusions.values()].flatMap((fusion) => cutTooLong(graph, fusion, limit));
    if (cut.length === 0) {
      const assigned = assignMains(graph, readers, fusions);
      const narrowed = [...assigned.values()].flatMap((fusion) => narrowedProducts(graph, fusion));
      if (narrowed.length === 0) return assigned;
      cut.push(...narrowed);
    }
    for (const id of cut) forced.add(id);
  }
};

/** The matmul whose fp32 result a node takes: it must come from the MXM, since what is stored of a matmul is fp16. */
const wideProduct = (graph: Graph, id: NodeId): NodeId | undefined => {
  const [input] = nodeAt(graph, id).inputs;
  const widening = input === undefined ? undefined : nodeAt(graph, input);
  if (widening?.op !== "cast" || widening.type.dtype !== "f32") return undefined;
  const source = strip(graph, widening.id);
  return source.op === "matmul" ? source.id : undefined;
};

/** Nodes of a chain that take a product in fp32 which does not come from the MXM: they need a chain of their own. */
const narrowedProducts = (graph: Graph, { root, nodes, main }: Fusion): NodeId[] =>
  nodes.filter((id) => {
    const product = id === root ? undefined : wideProduct(graph, id);
    return product !== undefined && product !== main;
  });

/**
 * What is made of sums over rows, and meets a product: it is known earlier, and stored, so that the product does not wait for
 * streams of all that it is made of.
 */
const earlyAddends = (graph: Graph, readers: Readers, stored: ReadonlySet<NodeId>): NodeId[] => {
  const { isRoot } = usesOfNodes(graph, readers, stored);
  // What the chain of a node computes of products, and of sums.
  const fromProduct: boolean[] = [];
  const fromSum: boolean[] = [];
  const early: NodeId[] = [];
  for (const node of graph.nodes) {
    if (!isChainable(graph, node)) continue;
    const sources = node.inputs.map((input) => strip(graph, input));
    const inChain = sources.filter(({ id }) => !isRoot[id]);
    fromProduct[node.id] = inChain.some(({ id, op }) => op === "matmul" || fromProduct[id] === true);
    fromSum[node.id] = inChain.some(({ id, op }) => op === "reduce_sum" || fromSum[id] === true);
    if (!fromProduct[node.id]) continue;
    const count = elementCount(node.type.shape);
    for (const { id, type } of inChain)
      if (fromSum[id] && !fromProduct[id] && elementCount(type.shape) === count) early.push(id);
  }
  return early;
};

/** What a constant has several rows for, each of which takes all of it, as zeros that part blocks do: it is computed once, and stored. */
const repeatedFactors = (graph: Graph): NodeId[] =>
  graph.nodes.flatMap(({ op, type, inputs }) => {
    const [x, factor] = inputs.map((id) => nodeAt(graph, id));
    if (op !== "mul" || x === undefined || factor?.op !== "constant") return [];
    const { id } = strip(graph, x.id);
    const isRepeated =
      elementCount(x.type.shape) < elementCount(type.shape) && x.type.shape.at(-1) === type.shape.at(-1);
    return isRepeated && isChainable(graph, nodeAt(graph, id)) ? [id] : [];
  });

/**
 * Nodes that cost so little that every chain that needs them computes them anew: that saves a store, a read and their
 * latency. Nothing that starts on a matmul's result is among them.
 */
const RECOMPUTED_OPERATIONS = 3;

const cheapNodes = (
  graph: Graph,
  outside: readonly boolean[],
  consumers: readonly (readonly NodeId[])[],
): boolean[] => {
  const cost: number[] = [];
  for (const node of graph.nodes) {
    if (!isChainable(graph, node)) continue;
    let sum = 1;
    for (const input of node.inputs) {
      const source = strip(graph, input);
      if (source.op === "matmul") sum = Number.POSITIVE_INFINITY;
      else if (isChainable(graph, source) && !outside[source.id]) sum += at(cost, source.id, "cost");
    }
    cost[node.id] = sum;
  }
  // A value that is broadcast would have to be moved for every chain: it is stored once instead. But what is made of sums
  // alone stands on all lanes already.
  const onAllLanes = (id: NodeId): boolean => {
    const node = strip(graph, id);
    if (node.op === "constant") return size(node.id) === 1;
    return node.op === "reduce_sum" || (isChainable(graph, node) && !outside[node.id] && node.inputs.every(onAllLanes));
  };
  const size = (id: NodeId): number => elementCount(nodeAt(graph, id).type.shape);
  const wholeUses = (id: NodeId): boolean =>
    at(consumers, id, "list of readers").every(
      (next) => size(next) === size(id) && (!isTransparent(graph, nodeAt(graph, next)) || wholeUses(next)),
    );
  return graph.nodes.map(
    (node) =>
      (cost[node.id] ?? Number.POSITIVE_INFINITY) <= RECOMPUTED_OPERATIONS &&
      (wholeUses(node.id) || onAllLanes(node.id)),
  );
};

/** Where the value of a node goes: to chains (their roots), or out of the VXM. */
interface Uses {
  readonly roots: ReadonlySet<NodeId>;
  readonly outside: boolean;
}

/** What reads the values of a graph, wherever its chains are cut. */
interface Readers {
  readonly consumers: readonly (readonly NodeId[])[];
  /** By node: whether its value leaves the VXM. */
  readonly outside: readonly boolean[];
  readonly cheap: readonly boolean[];
}

const readersOf = (graph: Graph): Readers => {
  const consumers = consumersOf(graph);
  const outside: boolean[] = graph.nodes.map(() => false);
  for (const output of graph.outputs) outside[output.node] = true;
  for (const node of [...graph.nodes].reverse())
    for (const id of at(consumers, node.id, "list of readers")) {
      const consumer = nodeAt(graph, id);
      if (!isChainable(graph, consumer) && (!isTransparent(graph, consumer) || outside[id])) outside[node.id] = true;
    }
  return { consumers, outside, cheap: cheapNodes(graph, outside, consumers) };
};

const usesOfNodes = (
  graph: Graph,
  { consumers, outside, cheap }: Readers,
  forced: ReadonlySet<NodeId>,
): { uses: Uses[]; isRoot: boolean[] } => {
  const uses: Uses[] = [];
  const isRoot: boolean[] = [];
  for (const node of [...graph.nodes].reverse()) {
    const roots = new Set<NodeId>();
    for (const id of at(consumers, node.id, "list of readers"))
      for (const root of isRoot[id] ? [id] : at(uses, id, "use").roots) roots.add(root);
    uses[node.id] = { roots, outside: outside[node.id] === true };
    isRoot[node.id] =
      isChainable(graph, node) &&
      (outside[node.id] === true || roots.size === 0 || (roots.size > 1 && !cheap[node.id]) || forced.has(node.id));
  }
  return { uses, isRoot };
};

const fuseOnce = (
  graph: Graph,
  readers: Readers,
  forced: ReadonlySet<NodeId>,
): Map<NodeId, { root: NodeId; nodes: NodeId[] }> => {
  const { uses, isRoot } = usesOfNodes(graph, readers, forced);
  const fusions = new Map<NodeId, { root: NodeId; nodes: NodeId[] }>();
  for (const node of graph.nodes) if (isRoot[node.id]) fusions.set(node.id, { root: node.id, nodes: [] });
  for (const node of graph.nodes) {
    if (!isChainable(graph, node)) continue;
    for (const root of isRoot[node.id] ? [node.id] : at(uses, node.id, "use").roots)
      fusions.get(root)?.nodes.push(node.id);
  }
  return fusions;
};

/** A chain longer than the VXM has ALUs is cut at the node whose part is nearest to half of it. */
const cutTooLong = (graph: Graph, fusion: Fusion, limit: number): NodeId[] => {
  if (fusion.nodes.length <= limit) return [];
  const inside = new Set(fusion.nodes);
  const size = new Map<NodeId, number>();
  for (const id of fusion.nodes) {
    const reached = new Set<NodeId>([id]);
    const stack = [id];
    for (let at = stack.pop(); at !== undefined; at = stack.pop())
      for (const input of nodeAt(graph, at).inputs) {
        const source = strip(graph, input).id;
        if (inside.has(source) && !reached.has(source)) {
          reached.add(source);
          stack.push(source);
        }
      }
    size.set(id, reached.size);
  }
  const half = fusion.nodes.length / 2;
  const candidates = fusion.nodes.filter((id) => id !== fusion.root);
  candidates.sort(
    (a, b) =>
      Math.abs(sure(size.get(a), "size of a chain") - half) - Math.abs(sure(size.get(b), "size of a chain") - half) ||
      a - b,
  );
  return candidates.slice(0, 1);
};

const assignMains = (
  graph: Graph,
  readers: Readers,
  fusions: ReadonlyMap<NodeId, { root: NodeId; nodes: readonly NodeId[] }>,
): Map<NodeId, Fusion> => {
  const { uses } = usesOfNodes(graph, readers, new Set());
  const { consumers } = readers;
  const result = new Map<NodeId, Fusion>();
  for (const [root, fusion] of fusions) {
    const count = elementCount(nodeAt(graph, root).type.shape);
    const inside = new Set(fusion.nodes);
    const mains = new Set<NodeId>();
    for (const id of fusion.nodes)
      for (const input of nodeAt(graph, id).inputs) {
        const source = strip(graph, input);
        const all = at(uses, source.id, "use");
        if (source.op !== "matmul" || all.outside || elementCount(source.type.shape) !== count) continue;
        if (consumersInside(graph, consumers, source.id, inside)) mains.add(source.id);
      }
    const main = [...mains].sort((a, b) => b - a)[0];
    result.set(root, main === undefined ? fusion : { ...fusion, main });
  }
  return result;
};

/** Whether all that takes a value, through views, belongs to one chain. */
const consumersInside = (
  graph: Graph,
  consumers: readonly (readonly NodeId[])[],
  id: NodeId,
  inside: ReadonlySet<NodeId>,
): boolean =>
  at(consumers, id, "list of readers").every(
    (next) =>
      inside.has(next) ||
      (isTransparent(graph, nodeAt(graph, next)) && consumersInside(graph, consumers, next, inside)),
  );
