/**
 * The nodes of a linked program and what each must come after.
 *
 * A node is a range of executions that will be one block operation: a burst, a part of a product burst that meets one version
 * of the weights, the copying of one segment of an operand that comes in several, or the preparing of a version. An edge says
 * that a node uses, or may overwrite, what another leaves. Every execution of a node has a key, the cycle by which it has all
 * of its operands: an execution only ever depends on ones with lower keys (or on copies and
 * preparations with equal ones), so keys order what blocks cannot.
 */

import { IntList, type Tables } from "./tables.js";

export const NODE_KINDS = { burst: 0, product: 1, copy: 2, prepare: 3 } as const;

export interface Nodes {
  readonly kind: IntList;
  readonly burst: IntList;
  /** First execution of the burst, and how many. */
  readonly first: IntList;
  readonly count: IntList;
  /** Key of the first execution; the others follow at the burst's interval. */
  readonly key: IntList;
  /** Piece of a product, segment of a copy, version of a preparation. */
  readonly detail: IntList;
  /** Nodes of each burst: the first and how many (one after another). */
  readonly ofBurst: Int32Array;
  readonly countOfBurst: Int32Array;
  /** Edges: what depends, and on what. */
  readonly from: IntList;
  readonly to: IntList;
}

export function createNodes(tables: Tables): Nodes {
  const list = (): IntList => new IntList();
  const bursts = tables.instructions.length;
  return {
    kind: list(),
    burst: list(),
    first: list(),
    count: list(),
    key: list(),
    detail: list(),
    ofBurst: new Int32Array(bursts).fill(-1),
    countOfBurst: new Int32Array(bursts),
    from: list(),
    to: list(),
  };
}

export function addNode(
  nodes: Nodes,
  kind: number,
  burst: number,
  first: number,
  count: number,
  key: number,
  detail: number,
): number {
  nodes.kind.push(kind);
  nodes.burst.push(burst);
  nodes.first.push(first);
  nodes.count.push(count);
  nodes.detail.push(detail);
  return nodes.key.push(key);
}

/** A node that stands for the burst in the eyes of its consumers. */
export function addBurstNode(
  nodes: Nodes,
  kind: number,
  burst: number,
  first: number,
  count: number,
  key: number,
  detail: number,
): number {
  const node = addNode(nodes, kind, burst, first, count, key, detail);
  if (nodes.ofBurst[burst] === -1) nodes.ofBurst[burst] = node;
  nodes.countOfBurst[burst] = (nodes.countOfBurst[burst] as number) + 1;
  return node;
}

export function addEdge(nodes: Nodes, node: number, dependsOn: number): void {
  nodes.from.push(node);
  nodes.to.push(dependsOn);
}

/** The node depends on everything that a burst does. */
export function addBurstEdges(nodes: Nodes, node: number, burst: number): void {
  const first = nodes.ofBurst[burst] as number;
  const count = nodes.countOfBurst[burst] as number;
  for (let k = 0; k < count; k++) addEdge(nodes, node, first + k);
}
