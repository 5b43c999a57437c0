/**
 * Centring: sums that only LayerNorms read are made with rows of mean zero, so that no mean is taken of them.
 *
 * A LayerNorm takes the mean from each row, so what is the same in all of a row does not matter to it. Where all that reads
 * a value does so, its addends may be centred instead: matmuls by taking the mean of each row from their weights, tables and
 * biases likewise, all of it before the first cycle. The mean of the sum is zero then, and the norm waits for one sum over the
 * row, not two; nor does an offset that all of a row has cost the fp16 sum its bits. An addend that cannot be centred for
 * nothing, such as the value that goes around a block, has its own mean taken, which is known earlier.
 */

import { at } from "../../diagnostics.js";
import { type DType, isFp8, type TensorData } from "../../ir/dtype.js";
import {
  elementCount,
  type Graph,
  isConstant,
  type Literal,
  type Node,
  type NodeId,
  nodeIf,
  type Tensor,
  type TensorType,
  consumersOf,
} from "../../ir/graph.js";
import { deriveLiteral, likeIts, EAGER_ELEMENTS } from "../../ir/literals.js";
import { evaluateNode } from "../../ir/ops.js";
import { intsAttr, literalIn } from "../../ir/ops/attributes.js";
import { equalShapes, isFloat, newData, scalarOf, toNumbers } from "../../ir/tensor.js";
import type { GraphPass } from "./pass.js";
import { Rewriter } from "./rewriter.js";

/** What a graph says about its norms. */
interface Norms {
  readonly graph: Graph;
  /** Nodes x - mean(x), by the nodes x. */
  readonly deviations: ReadonlyMap<NodeId, readonly NodeId[]>;
  /** Nodes whose rows may be shifted: what reads them takes the mean away. */
  readonly shiftable: ReadonlySet<NodeId>;
}

/** Numbers in a row of a value; a single number is a row of its own. */
const rowLength = ({ type }: Node): number => type.shape.at(-1) ?? 1;

/** The x of a node that is its mean over the last axis. */
function meanOf(graph: Graph, node: Node | undefined): NodeId | undefined {
  if (node?.op !== "mul") return undefined;
  const [sum, factor] = node.inputs.map((id) => nodeIf(graph, id));
  const x = sum?.inputs[0];
  const source = nodeIf(graph, x);
  if (sum?.op !== "reduce_sum" || source === undefined || factor?.op !== "constant") return undefined;
  const rank = source.type.shape.length;
  const axes = intsAttr(sum.attrs, "axes");
  const overLast = axes.length === 1 && axes[0] === rank - 1 && sum.type.shape.length === rank;
  const literal = literalIn(factor);
  const share = literal === undefined || elementCount(literal.shape) > 1 ? [] : toNumbers(literal.load());
  const isShare = share.length === 1 && share[0] === Math.fround(1 / rowLength(source));
  return overLast && isShare && isFloat(source.type.dtype) ? source.id : undefined;
}

/** Whether a node only renames the rows of x. */
const isRowView = (x: Node, { op, type, attrs }: Node): boolean =>
  (op === "reshape" && type.shape.at(-1) === rowLength(x)) ||
  (op === "transpose" && intsAttr(attrs, "perm").at(-1) === type.shape.length - 1);

function deviationsOf(graph: Graph): Map<NodeId, NodeId[]> {
  const deviations = new Map<NodeId, NodeId[]>();
  for (const { id, op, inputs } of graph.nodes) {
    const [x = -1, mean] = inputs;
    if (op === "sub" && meanOf(graph, nodeIf(graph, mean)) === x) deviations.set(x, [...(deviations.get(x) ?? []), id]);
  }
  return deviations;
}

function normsOf(graph: Graph): Norms {
  const deviations = deviationsOf(graph);
  const consumers = consumersOf(graph);
  const isOutput = new Set(graph.outputs.map(({ node }) => node));
  const shiftable = new Set<NodeId>();
  /** Whether a node that takes x gives the same whatever is added to all of a row of x. */
  const forgives = (x: Node, reader: Node | undefined): boolean =>
    reader !== undefined &&
    (deviations.get(x.id)?.includes(reader.id) === true ||
      (reader.op === "reduce_sum" &&
        at(consumers, reader.id, "list of readers").every(
          (id) => meanOf(graph, nodeIf(graph, id)) === x.id && readsOnlyDeviations(x.id, id),
        )) ||
      ((reader.op === "add" || isRowView(x, reader)) && shiftable.has(reader.id)));
  const readsOnlyDeviations = (x: NodeId, mean: NodeId): boolean =>
    !isOutput.has(mean) &&
    at(consumers, mean, "list of readers").every((id) => deviations.get(x)?.includes(id) === true);
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    const node = graph.nodes[id];
    const readers = at(consumers, id, "list of readers");
    if (node === undefined || isOutput.has(id) || readers.length === 0) continue;
    if (readers.every((reader) => forgives(node, nodeIf(graph, reader)))) shiftable.add(id);
  }
  return { graph, deviations, shiftable };
}

/** How a row of mean zero comes from an addend. */
type Centring = "free" | "constant" | "paid";

/** The addends of a sum that are not one number for all of a row: those vanish where rows have the mean zero. */
const addendsOf = ({ graph }: Norms, sum: Node): readonly Node[] =>
  sum.inputs.map((id) => at(graph.nodes, id, "node")).filter((addend) => rowLength(addend) === rowLength(sum));

function centringOf({ graph, shiftable }: Norms, node: Node): Centring {
  const { op, inputs } = node;
  if (op === "constant") return "constant";
  const matrix = nodeIf(graph, inputs[1]);
  if (
    op === "matmul" &&
    shiftable.has(node.id) &&
    matrix?.op === "constant" &&
    matrix.type.shape.length === 2 &&
    !isFp8(matrix.type.dtype)
  )
    return "free";
  const isLookup = op === "gather" && isConstant(graph, inputs[0]) && shiftable.has(node.id);
  return isLookup && node.attrs["axis"] === 0 && (nodeIf(graph, inputs[0])?.type.shape.length ?? 0) > 1
    ? "free"
    : "paid";
}

/** Whether a node is a sum, or a view, of rows that may be shifted. */
const isSum = (norms: Norms, node: Node): boolean => {
  if (!norms.shiftable.has(node.id) || rowLength(node) === 1) return false;
  const [first, second] = addendsOf(norms, node);
  if (node.op !== "add") return first !== undefined && isRowView(first, node);
  return second !== undefined || (first !== undefined && equalShapes(first.type.shape, node.type.shape));
};

/** Sums that are worth centring, connected ones together: none pays for more means than it saves. */
function centredSums(norms: Norms): Set<NodeId> {
  const { graph, deviations } = norms;
  const sums = graph.nodes.filter((node) => isSum(norms, node));
  const above = new Map<NodeId, NodeId>();
  const rootOf = (id: NodeId): NodeId => {
    let root = id;
    for (let next = above.get(root); next !== undefined; next = above.get(root)) root = next;
    return root;
  };
  for (const sum of sums)
    for (const addend of addendsOf(norms, sum)) {
      const [root, own] = [rootOf(addend.id), rootOf(sum.id)];
      if (isSum(norms, addend) && root !== own) above.set(root, own);
    }
  const groups = new Map<NodeId, { free: number; saved: number; readonly paid: Set<NodeId> }>();
  for (const sum of sums) {
    const group = groups.get(rootOf(sum.id)) ?? { free: 0, saved: 0, paid: new Set<NodeId>() };
    groups.set(rootOf(sum.id), group);
    if (deviations.has(sum.id)) group.saved += 1;
    for (const addend of addendsOf(norms, sum)) {
      if (isSum(norms, addend)) continue;
      const centring = centringOf(norms, addend);
      if (centring === "free") group.free += 1;
      if (centring === "paid") group.paid.add(addend.id);
    }
  }
  const isWorth = (id: NodeId): boolean => {
    const group = groups.get(rootOf(id));
    return group !== undefined && group.free > 0 && group.paid.size <= group.saved;
  };
  return new Set(sums.flatMap(({ id }) => (isWorth(id) ? [id] : [])));
}

/** The rewritten graph: centred sums, and norms that take no mean of them. */
class Centred {
  readonly g = new Rewriter([]);
  readonly map = (id: NodeId): NodeId => at(this.made, id, "node");
  private readonly made: NodeId[] = [];
  private readonly norms: Norms;
  private readonly sums: ReadonlySet<NodeId>;

  constructor(norms: Norms, sums: ReadonlySet<NodeId>) {
    this.norms = norms;
    this.sums = sums;
    const { graph, deviations } = norms;
    const sumOf = new Map([...deviations].flatMap(([x, all]) => all.map((id): [NodeId, NodeId] => [id, x])));
    for (const node of graph.nodes) {
      const x = sumOf.get(node.id);
      if (sums.has(node.id)) this.made.push(this.g.from(node, () => this.sum(node)));
      else if (x !== undefined && this.isCentred(x)) this.made.push(this.addend(graph.nodes[x] as Node));
      else this.made.push(this.g.copy(node, this.map));
    }
  }

  private sum(node: Node): NodeId {
    const addends = addendsOf(this.norms, node).map((addend) => this.addend(addend));
    const [first = 0] = addends;
    return node.op === "add" && addends.length === 1 ? first : this.g.emit(node.op, addends, node.attrs);
  }

  /** Whether a node has rows of mean zero for nothing. */
  private isCentred(id: NodeId): boolean {
    const node = nodeIf(this.norms.graph, id);
    return this.sums.has(id) || (node !== undefined && centringOf(this.norms, node) === "free");
  }

  private addend(node: Node): NodeId {
    const { g } = this;
    if (this.sums.has(node.id)) return this.map(node.id);
    if (centringOf(this.norms, node) !== "free") return this.deviation(this.map(node.id));
    return g.from(node, () => {
      const [a = 0, b = 0] = node.inputs.map(this.map);
      const operands = node.op === "matmul" ? [a, this.deviation(b)] : [this.deviation(a), b];
      return g.emit(node.op, operands, node.attrs);
    });
  }

  /** x minus the mean of its last axis. */
  private deviation(x: NodeId): NodeId {
    const { g } = this;
    const { dtype, shape } = g.type(x);
    const last = shape.length - 1;
    const literal = g.literal(x);
    if (literal !== undefined && elementCount(shape) >= EAGER_ELEMENTS) return g.constant(deviationOf(literal));
    const sum = g.emit("reduce_sum", [x], { axes: [last], keepdims: true });
    return g.emit("sub", [x, g.emit("mul", [sum, g.number(1 / at(shape, last, "extent"), dtype)])]);
  }
}

/** The same of a constant that is large: as one step, so that it is read when it is needed, and not for its means alone. */
const deviationOf = (literal: Literal): Literal => {
  const { dtype, shape, pieces } = literal;
  const derived = deriveLiteral([literal], "deviation", { dtype, shape }, () => rowsWithoutMean(literal.load()));
  const extent = at(shape, shape.length - 1, "extent");
  return likeIts(
    literal,
    pieces === undefined ? derived : { ...derived, pieces: () => deviations(pieces(), dtype, extent) },
  );
};

/** Rows of the last axis, each minus its mean. */
const rowsWithoutMean = (x: Tensor): Tensor => {
  const { dtype, shape, data } = x;
  const last = shape.length - 1;
  const extent = at(shape, last, "extent");
  if (data instanceof Float32Array) return { dtype, shape, data: takeMeans(data.slice(), extent) };
  const means: TensorType = { dtype, shape: shape.map((own, axis) => (axis === last ? 1 : own)) };
  const sum = evaluateNode("reduce_sum", [x], { axes: [last], keepdims: true }, means);
  const mean = evaluateNode("mul", [sum, scalarOf(dtype, 1 / extent)], {}, means);
  return evaluateNode("sub", [x, mean], {}, { dtype, shape });
};

/** The same, to the bit, of fp32 where it lies: weights go through it by the million, four rows at a time, whose sums do not wait for each other. */
const takeMeans = (data: Float32Array, extent: number): Float32Array => {
  const scale = Math.fround(1 / extent);
  const meanOf = (sum: number): number => Math.fround(Math.fround(sum) * scale);
  let start = 0;
  for (; start + 4 * extent <= data.length; start += 4 * extent) {
    const [second, third, fourth] = [start + extent, start + 2 * extent, start + 3 * extent];
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < extent; i++) {
      a += data[start + i] as number;
      b += data[second + i] as number;
      c += data[third + i] as number;
      d += data[fourth + i] as number;
    }
    takeMean(data, start, second, meanOf(a));
    takeMean(data, second, third, meanOf(b));
    takeMean(data, third, fourth, meanOf(c));
    takeMean(data, fourth, fourth + extent, meanOf(d));
  }
  for (; start < data.length; start += extent) {
    let sum = 0;
    for (let i = start; i < start + extent; i++) sum += data[i] as number;
    takeMean(data, start, start + extent, meanOf(sum));
  }
  return data;
};

const takeMean = (data: Float32Array, start: number, end: number, mean: number): void => {
  for (let i = start; i < end; i++) data[i] = (data[i] as number) - mean;
};

/** The same of rows of so many numbers that come in pieces, wherever these end; in memory that the next of them take. */
function* deviations(pieces: Iterable<TensorData>, dtype: DType, extent: number): Generator<TensorData> {
  let memory: TensorData = newData(dtype, 0);
  // Numbers of a row that has not ended yet, at the start.
  let left = 0;
  for (const piece of pieces) {
    const length = left + piece.length;
    if (memory.length < length) {
      const before = memory.subarray(0, left);
      memory = newData(dtype, length);
      memory.set(before);
    }
    memory.set(piece, left);
    const end = length - (length % extent);
    const rows = memory.subarray(0, end);
    if (rows instanceof Float32Array) yield takeMeans(rows, extent);
    else if (end > 0) yield rowsWithoutMean({ dtype, shape: [end / extent, extent], data: rows }).data;
    memory.copyWithin(0, end, length);
    left = length - end;
  }
}

export const centre: GraphPass = {
  name: "centre",
  doc: "Gives sums that only LayerNorms read rows of mean zero, by the weights that make them, so that no mean is taken.",
  run: (graph) => {
    const norms = normsOf(graph);
    if (norms.deviations.size === 0) return graph;
    const centred = new Centred(norms, centredSums(norms));
    return centred.g.finish(graph, centred.map);
  },
};
