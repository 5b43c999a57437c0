/**
 * Bodies: stretches of a graph that are equal but for their weights, as the layers of a model are. Graph -> a graph with a few.
 *
 * A node of a body is like the one of the next: the same operation on the same operands (within its body, of the body before, or
 * from before all of them), or a constant of which selection asks the same. So a few of them are selected, and their plan says
 * that of the others (plan.ts). Each position of a body has one range, which holds in all.
 */

import { at, sure } from "../../../diagnostics.js";
import { elementCount, type Graph, type Literal, type Node, type NodeId } from "../../../ir/graph.js";
import { isLaneMap } from "../../../ir/literals.js";
import { literalIn } from "../../../ir/ops/attributes.js";
import { type Range, rangesOf, union } from "../../../ir/ranges.js";
import { nodeKey } from "../../../ir/rewrite.js";
import { formatType } from "../../../ir/tensor.js";
import { isOfHalfs } from "../constants.js";

/** `count` bodies of `length` nodes each, from node `first` on. */
export interface Bodies {
  readonly first: NodeId;
  readonly length: number;
  readonly count: number;
}

export interface BodyNodes {
  readonly own: readonly Node[];
  readonly before: readonly Node[];
}

/** A graph without some of its bodies, and what was known of it with all. */
export interface Shortened {
  readonly graph: Graph;
  readonly ranges: readonly Range[];
  /** First nodes of the body before the model, of the model, of the next one, and of what is behind that. */
  readonly starts: readonly NodeId[];
  /** Nodes of the body that stands for others, and of the one before it, from which its chains may come. */
  readonly model: BodyNodes;
  /** Of the next one that is kept, as it comes behind the model. */
  readonly next: BodyNodes;
  /** Of each that is left out. */
  readonly omitted: readonly BodyNodes[];
}

/** Bodies at the beginning, of which the last stands for those left out, and at the end. */
const KEPT_FIRST = 3;
const KEPT_LAST = 2;

/** The graph with a few of its bodies; undefined if there are no more. */
export const shortened = (graph: Graph): Shortened | undefined => {
  const bodies = bodiesOf(graph);
  if (bodies === undefined || bodies.count <= KEPT_FIRST + KEPT_LAST) return undefined;
  const { first, length, count } = bodies;
  const startOf = (body: number): NodeId => first + body * length;
  const [cut, end] = [startOf(KEPT_FIRST), startOf(count - KEPT_LAST)];
  const nodesOf = (body: number): readonly Node[] => graph.nodes.slice(startOf(body), startOf(body + 1));
  const bodyAt = (body: number): BodyNodes => ({ own: nodesOf(body), before: nodesOf(body - 1) });
  const moved = (id: NodeId): NodeId => (id < cut ? id : id - (end - cut));
  // Behind the cut, what is of the last body left out is of the one that stands for it.
  const operand = (id: NodeId): NodeId => (id < first ? id : id - (end - cut));
  const nodes = graph.nodes.slice(0, cut);
  for (const node of graph.nodes.slice(end))
    nodes.push({ ...node, id: moved(node.id), inputs: node.inputs.map(operand) });
  const outputs = graph.outputs.map((output) => ({ ...output, node: moved(output.node) }));
  const ranges = jointRanges(graph, bodies);
  return {
    graph: { ...graph, nodes, inputs: graph.inputs.map(moved), outputs },
    ranges: [...ranges.slice(0, cut), ...ranges.slice(end)],
    starts: [startOf(KEPT_FIRST - 2), startOf(KEPT_FIRST - 1), cut, startOf(KEPT_FIRST + 1)],
    model: bodyAt(KEPT_FIRST - 1),
    next: { own: nodesOf(count - KEPT_LAST), before: nodesOf(KEPT_FIRST - 1) },
    omitted: Array.from({ length: count - KEPT_FIRST - KEPT_LAST }, (_, index) => bodyAt(KEPT_FIRST + index)),
  };
};

/** The range of every node; in bodies that of its position in all of them. */
const jointRanges = (graph: Graph, { first, length, count }: Bodies): readonly Range[] => {
  const ranges = [...rangesOf(graph)];
  for (let place = first; place < first + length; place++) {
    const each = Array.from({ length: count }, (_, body) => place + body * length);
    const joint = each.map((id) => at(ranges, id, "range")).reduce(union);
    for (const id of each) ranges[id] = joint;
  }
  return ranges;
};

/* ---------- what is equal ---------- */

const bodiesOf = (graph: Graph): Bodies | undefined => {
  const kinds = kindsOf(graph);
  const length = distanceIn(kinds);
  if (length === undefined) return undefined;
  // The longest stretch in which every node is like the one so far behind it.
  let [first, alike] = [0, 0];
  for (let start = 0; start + length < graph.nodes.length; ) {
    let end = start;
    while (end + length < graph.nodes.length && isLikeNext(graph, kinds, end, length)) end++;
    if (end - start > alike) [first, alike] = [start, end - start];
    start = end + 1;
  }
  const by = boundaryIn(graph.nodes.slice(first, first + 3 * length), length);
  if (by === undefined) return undefined;
  const bodies = { first: first + by, length, count: 1 + Math.floor((alike - by) / length) };
  return areApart(graph, bodies) ? bodies : undefined;
};

/** Where a body ends, of three: no ONNX node has some of its nodes before it and others behind it, but for what belongs to all. */
const boundaryIn = (nodes: readonly Node[], length: number): number | undefined => {
  const [firsts, lasts] = [new Map<string, number>(), new Map<string, number>()];
  for (const [place, { origin }] of nodes.entries())
    for (const name of origin) {
      if (!firsts.has(name)) firsts.set(name, place);
      lasts.set(name, place);
    }
  const isCut = new Uint8Array(nodes.length + 1);
  for (const [name, from] of firsts) {
    const to = sure(lasts.get(name), "place");
    if (to - from < length) isCut.fill(1, from + 1, to + 1);
  }
  const boundary = isCut.indexOf(0, length);
  return boundary < 0 || boundary >= 2 * length ? undefined : boundary - length;
};

/** Numbers that are equal for nodes that are the same but for their operands, and for what weights they are. */
const kindsOf = ({ nodes }: Graph): readonly number[] => {
  const numbers = new Map<string, number>();
  return nodes.map((node) => {
    const literal = literalIn(node);
    const text = literal === undefined ? nodeKey(node.op, [], node.attrs, node.type) : literalKind(literal);
    const known = numbers.get(text) ?? numbers.size;
    numbers.set(text, known);
    return known;
  });
};

/** Of a constant: all that selection asks of it; the numbers themselves where there is one, or where it moves lanes. */
const literalKind = (literal: Literal): string =>
  elementCount(literal.shape) === 1 || isLaneMap(literal)
    ? `constant ${literal.key}`
    : `constant ${formatType(literal)} ${literal.shares !== undefined} ${literal.dtype === "f32" && isOfHalfs(literal)}`;

/** How far apart nodes of the rarest kind that comes often enough mostly are. */
const distanceIn = (kinds: readonly number[]): number | undefined => {
  const places: NodeId[][] = [];
  for (const [id, kind] of kinds.entries()) {
    const known = places[kind];
    if (known === undefined) places[kind] = [id];
    else known.push(id);
  }
  const often = places.filter((ids) => ids.length > KEPT_FIRST + KEPT_LAST).sort((a, b) => a.length - b.length);
  const [rarest = []] = often;
  const counts = new Map<number, number>();
  for (const [i, id] of rarest.slice(1).entries()) {
    const distance = id - at(rarest, i, "node");
    counts.set(distance, (counts.get(distance) ?? 0) + 1);
  }
  return [...counts].sort(([a, times], [b, others]) => others - times || a - b)[0]?.[0];
};

const isLikeNext = ({ nodes }: Graph, kinds: readonly number[], id: NodeId, length: number): boolean => {
  if (kinds[id] !== kinds[id + length]) return false;
  const [from, to] = [at(nodes, id, "node").inputs, at(nodes, id + length, "node").inputs];
  return from.length === to.length && from.every((input, i) => to[i] === input || to[i] === input + length);
};

/**
 * Whether bodies hang together as layers do: each takes what is of itself, of the one before, or the same from before all of them;
 * and all else takes only what is of the last.
 */
const areApart = ({ nodes, outputs }: Graph, { first, length, count }: Bodies): boolean => {
  const last = first + (count - 1) * length;
  return (
    outputs.every(({ node }) => node < first || node >= last) &&
    nodes.slice(first + length).every(({ id, inputs }) => {
      const body = Math.min(count, Math.floor((id - first) / length));
      const before = body === count ? undefined : at(nodes, id - length, "node").inputs;
      const earliest = first + (body - 1) * length;
      return inputs.every((input, i) =>
        input < first ? before === undefined || before[i] === input : input >= earliest && before?.[i] !== input,
      );
    })
  );
};
