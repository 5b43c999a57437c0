/**
 * The parts of a graph: stretches between places where one value goes on, like the residual between layers. Parts that are the
 * same but for their weights are of one kind, so that a kind is costed once; nothing here knows of layers.
 *
 * What follows from inputs without a product by weights, like a mask or an embedded token, is made again by each part that reads
 * it, and crosses no cut.
 */

import { DTYPES } from "../ir/dtype.js";
import { at, sure } from "../diagnostics.js";
import { type Attrs, elementCount, type Graph, type GraphOutput, type Node, type NodeId } from "../ir/graph.js";
import { isLaneMap } from "../ir/literals.js";
import { literalIn } from "../ir/ops/attributes.js";
import { formatType } from "../ir/tensor.js";

/** Names of the values that come into a part and go out of it, among its inputs and outputs. */
export const COMES = "from the part before";
export const GOES = "to the part behind";

/** A stretch of a graph between two places where one value goes on. */
export interface Part {
  readonly graph: Graph;
  /** Index into the kinds. */
  readonly kind: number;
  /** The first and the last ONNX node in it. */
  readonly first: string;
  readonly last: string;
}

/** All parts in their order; those of one kind differ in nothing but their weights. */
export interface Parts {
  readonly parts: readonly Part[];
  /** One part of each kind. */
  readonly kinds: readonly Graph[];
}

export const partsOf = (graph: Graph): Parts => {
  const weighty = isWeighty(graph);
  const heavy = heavyNodes(graph);
  const order = graph.nodes.filter(({ id }) => heavy.has(id));
  const crossing = crossingsIn(graph, order);
  const cuts = cutsIn(graph, order, crossing);
  const cutAt = (cut: number | undefined): NodeId | undefined =>
    cut === undefined ? undefined : at(at(crossing, cut, "place"), 0, "value");
  const kinds: Graph[] = [];
  const kindOf = new Map<string, number>();
  const parts = [0, ...cuts].map((start, index): Part => {
    const own = order.slice(start, cuts[index]);
    const part = partGraph(graph, heavy, own, cutAt(cuts[index - 1]), cutAt(cuts[index]));
    const text = signatureOf(part);
    const kind = kindOf.get(text) ?? kinds.push(part) - 1;
    kindOf.set(text, kind);
    const origins = own.filter(weighty).flatMap(({ origin }) => origin);
    return { graph: part, kind, first: origins[0] ?? graph.name, last: origins.at(-1) ?? graph.name };
  });
  return { parts, kinds };
};

/** Whether a node multiplies by weights of the model, which adds up over more than one: angles of positions do not. */
const isWeighty =
  ({ nodes }: Graph) =>
  ({ op, inputs: [a, b] }: Node): boolean => {
    if (op !== "matmul" || a === undefined || b === undefined) return false;
    const weight = literalIn(at(nodes, b, "node"));
    return weight !== undefined && !isLaneMap(weight) && at(weight.shape, weight.shape.length - 2, "rows") > 1;
  };

/** Nodes that depend on a product by weights, and what neither does nor is read by one that does. */
const heavyNodes = (graph: Graph): ReadonlySet<NodeId> => {
  const heavy = new Set<NodeId>();
  const weighty = isWeighty(graph);
  for (const node of graph.nodes) if (weighty(node) || node.inputs.some((id) => heavy.has(id))) heavy.add(node.id);
  return heavy;
};

/**
 * A value that is made again counts as crossing too, unless it is read over more of the order than this: the first part has it
 * for itself.
 */
const EVERYWHERE = 0.5;

/** Places in the order at which one value crosses; between any two there is a product by weights, and the value is narrow. */
const cutsIn = (graph: Graph, order: readonly Node[], crossing: readonly (readonly NodeId[])[]): readonly number[] => {
  const weighty = isWeighty(graph);
  const cuts: number[] = [];
  let best: { readonly place: number; readonly bytes: number } | undefined;
  let products = 0;
  for (const [place, node] of order.entries()) {
    const [only] = at(crossing, place, "place");
    if (products > 0 && only !== undefined && at(crossing, place, "place").length === 1) {
      const bytes = valueBytes(at(graph.nodes, only, "node"));
      if (best === undefined || bytes < best.bytes) best = { place, bytes };
    }
    if (!weighty(node)) continue;
    if (best !== undefined) {
      cuts.push(best.place);
      products = 0;
    }
    best = undefined;
    products += 1;
  }
  return cuts;
};

/** Places in the order between which a value is open: made, or read for the first time, and still to be read. */
interface Reach {
  readonly from: number;
  readonly to: number;
}

/** By place in the order: the values that cross it. */
const crossingsIn = (graph: Graph, order: readonly Node[]): readonly (readonly NodeId[])[] => {
  const made = new Map(order.map(({ id }, place) => [id, place]));
  const reach = new Map<NodeId, Reach>();
  const extend = (id: NodeId, { from, to }: Reach): void => {
    const known = reach.get(id) ?? { from, to };
    reach.set(id, { from: made.get(id) ?? Math.min(known.from, from), to: Math.max(known.to, to) });
  };
  for (const { id, inputs } of [...graph.nodes].reverse()) {
    const place = made.get(id);
    const own = place === undefined ? reach.get(id) : { from: place, to: place };
    if (own !== undefined) for (const input of inputs) extend(input, own);
  }
  const crossing: NodeId[][] = order.map(() => []);
  for (const [id, { from, to }] of reach) {
    const isOpen =
      made.has(id) || (at(graph.nodes, id, "node").op !== "constant" && to - from <= EVERYWHERE * order.length);
    if (isOpen) for (let place = from + 1; place <= to; place += 1) at(crossing, place, "place").push(id);
  }
  return crossing;
};

const valueBytes = ({ type }: Node): number => elementCount(type.shape) * DTYPES[type.dtype].bytes;

/**
 * The graph of a part: its nodes, what they are made of, and the values that come and go as inputs and outputs. What leaves the
 * graph without any product is made by the first part.
 */
const partGraph = (
  graph: Graph,
  heavy: ReadonlySet<NodeId>,
  own: readonly Node[],
  before: NodeId | undefined,
  after: NodeId | undefined,
): Graph => {
  const mine = new Set(own.map(({ id }) => id));
  const isLight = (id: NodeId): boolean => before === undefined && !heavy.has(id);
  const outputs: GraphOutput[] = graph.outputs.filter(({ node }) => mine.has(node) || isLight(node));
  const wanted = new Set<NodeId>([...mine, ...outputs.map(({ node }) => node)]);
  for (const { id, inputs } of [...graph.nodes].reverse())
    if (wanted.has(id) && id !== before) for (const input of inputs) wanted.add(input);
  const made = new Map<NodeId, NodeId>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    if (!wanted.has(node.id)) continue;
    const id = made.set(node.id, nodes.length).size - 1;
    const { dtype } = node.type;
    if (node.id === before)
      nodes.push({ ...node, id, op: "input", inputs: [], attrs: { name: COMES, declared: dtype } });
    else nodes.push({ ...node, id, inputs: node.inputs.map((input) => sure(made.get(input), "operand")) });
  }
  const goes =
    after === undefined ? [] : [{ name: GOES, node: after, declared: at(graph.nodes, after, "node").type.dtype }];
  return {
    name: graph.name,
    nodes,
    inputs: nodes.filter(({ op }) => op === "input").map(({ id }) => id),
    outputs: [...outputs, ...goes].map((output) => ({ ...output, node: sure(made.get(output.node), "output") })),
  };
};

/** What two parts that are alike have in common: all but the values of weights, the names of edges, and the order of nodes. */
const signatureOf = ({ nodes, outputs }: Graph): string => {
  const numbers = new Map<NodeId, number>();
  const lines: string[] = [];
  const visit = (id: NodeId): number => {
    const known = numbers.get(id);
    if (known !== undefined) return known;
    const { op, inputs, attrs, type } = at(nodes, id, "node");
    const operands = inputs.map(visit);
    lines.push(`${op} ${formatType(type)} ${operands.join(",")} ${attrsText(attrs)}`);
    numbers.set(id, numbers.size);
    return numbers.size - 1;
  };
  const ends = outputs.map(({ node }) => visit(node));
  return [...lines, ends.join(",")].join("\n");
};

const attrsText = (attrs: Attrs): string =>
  Object.entries(attrs)
    .map(([name, value]) => {
      if (name === "name") return value === COMES ? COMES : "";
      if (typeof value !== "object" || !("key" in value)) return `${name}=${String(value)}`;
      return `${name}=${isLaneMap(value) || elementCount(value.shape) === 1 ? value.key : ""}`;
    })
    .join(" ");
