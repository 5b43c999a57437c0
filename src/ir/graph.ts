/**
 * Graph: WHAT is computed. SSA tensor operations with static shapes; every node knows which ONNX nodes it came from.
 *
 * A Graph is plain frozen records. Node ids are dense: `nodes[i].id === i`, and inputs of a node come before it. The
 * meaning of every op is its row in `ops.ts`; nothing here knows any op but `input` and `constant`.
 */

import type { DType, EdgeDType, TensorData } from "./dtype.js";

export type Shape = readonly number[];
export type NodeId = number;

export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A tensor in memory, row-major. */
export interface Tensor extends TensorType {
  readonly data: TensorData;
}

/**
 * A constant that is read when it is needed. `load` may read a file and is not cached: a 500 MB model must not sit in
 * memory twice. Two literals with equal `key` have equal contents (offset in the file, or a hash, or a derivation of keys).
 */
export interface Literal extends TensorType {
  readonly key: string;
  readonly load: () => Tensor;
  /** The data of `load` in order, for those who need not have it whole; a piece is good until the next one. */
  readonly pieces?: () => Iterable<TensorData>;
  /** Some of the numbers of a large one, from all over it: what they are like, without reading it whole. */
  readonly few?: () => Tensor;
  /**
   * Of a constant of which each chip has a piece of its own, all by this key: the whole, unless it was made of pieces, and the piece
   * of a chip. It is itself that of the first.
   */
  readonly shares?: { readonly whole?: Literal; readonly on: (chip: number) => Literal };
}

export type AttrValue = number | string | boolean | readonly number[] | Literal;
export type Attrs = Readonly<Record<string, AttrValue>>;

export interface Node {
  readonly id: NodeId;
  /** A key of OPS in ops.ts. */
  readonly op: string;
  readonly inputs: readonly NodeId[];
  readonly attrs: Attrs;
  readonly type: TensorType;
  /** Names of the ONNX nodes (or values, for inputs and constants) that this node computes part of; never empty. */
  readonly origin: readonly string[];
}

export interface GraphOutput {
  readonly name: string;
  readonly node: NodeId;
  /** The dtype that the ONNX file declares; results are converted back to it at the edge. */
  readonly declared: EdgeDType;
}

/** Inputs are nodes of op `input` with attrs `{ name, declared }`, in the file's order. */
export interface Graph {
  readonly name: string;
  readonly nodes: readonly Node[];
  readonly inputs: readonly NodeId[];
  readonly outputs: readonly GraphOutput[];
}

/** The node of a number, where there is one: what is left out, or beyond the graph, has none. */
export const nodeIf = ({ nodes }: Pick<Graph, "nodes">, id: NodeId | undefined): Node | undefined =>
  id === undefined ? undefined : nodes[id];
export const isConstant = (graph: Pick<Graph, "nodes">, id: NodeId | undefined): boolean =>
  nodeIf(graph, id)?.op === "constant";

export const elementCount = (shape: Shape): number => shape.reduce((product, extent) => product * extent, 1);

/** For each node, those that take its value. */
export const consumersOf = (graph: Graph): NodeId[][] => {
  const consumers: NodeId[][] = graph.nodes.map(() => []);
  for (const node of graph.nodes) for (const input of node.inputs) consumers[input]?.push(node.id);
  return consumers;
};
