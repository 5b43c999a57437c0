/**
 * Fifth step of linking: edges along streams, and the order of block operations.
 *
 * Nodes are visited from the earliest on, each after all that it depends on (Tarjan's algorithm, without recursion), which
 * puts them in an order that respects every edge and stays close to time. Where nodes depend on each other in a circle (two
 * bursts that feed each other vector by vector), blocks do not exist: their executions run one by one in the order of their keys.
 */

import { at } from "../../diagnostics.js";
import { MNEMONICS } from "../../ir/isa.js";
import { SEGMENT, SEGMENT_SIZE, type Matches } from "./streams.js";
import { addBurstEdges, addBurstNode, addEdge, addNode, NODE_KINDS, type Nodes } from "./nodes.js";
import type { MxmFindings } from "./mxm.js";
import { ENTRY, ENTRY_SIZE, IntList, NO_STREAM, type Tables } from "./tables.js";

/** Executions to run, in order: node, first execution within the node, and how many. */
export interface ExecutionOrder {
  readonly node: IntList;
  readonly first: IntList;
  readonly count: IntList;
}

/** Instructions that only act through others: an ABC through the product, an IW through the version, ICU ones on time. */
const WITHOUT_NODE: ReadonlySet<string> = new Set([
  "nop",
  "sync",
  "notify",
  "config",
  "repeat",
  "countdown",
  "step",
  "iterations",
  "ifetch",
  "iw",
  "abc",
  "acc",
  "deskew",
]);

/** Nodes of all bursts but those of products, which `linkMxm` makes. */
export function addBurstNodes(tables: Tables, nodes: Nodes): void {
  const { mxmWeightSkew } = tables.target.timing;
  for (let burst = 0; burst < tables.instructions.length; burst++) {
    const op = at(MNEMONICS, tables.op.at(burst), "mnemonic");
    if (WITHOUT_NODE.has(op)) continue;
    const key = tables.cycle.at(burst) + (op === "lw" || op === "iwStream" ? mxmWeightSkew : 0);
    addBurstNode(nodes, NODE_KINDS.burst, burst, 0, tables.count.at(burst), key, 0);
  }
}

/** An operand that is one segment of one give is used where it lies; any other is first copied together. */
export function isWhole(tables: Tables, matches: Matches, entry: number): boolean {
  const burst = tables.takes.at(entry * ENTRY_SIZE);
  const at = (matches.first[entry] as number) * SEGMENT_SIZE;
  return matches.count[entry] === 1 && matches.segments.at(at + SEGMENT.count) === tables.count.at(burst);
}

/** Makes consumers depend on the bursts whose values they take, and adds the copies that put operands together. */
export function linkOperands(tables: Tables, nodes: Nodes, matches: Matches, mxm: MxmFindings): void {
  const { segments } = matches;
  const products = new Map<number, number[]>();
  for (let node = 0; node < nodes.kind.length; node++) {
    if (nodes.kind.at(node) !== NODE_KINDS.product) continue;
    const abc = at(mxm.pieces, nodes.detail.at(node), "piece").abc;
    const known = products.get(abc);
    if (known === undefined) products.set(abc, [node]);
    else known.push(node);
  }
  for (let entry = 0; entry < tables.takes.length / ENTRY_SIZE; entry++) {
    const at = entry * ENTRY_SIZE;
    const burst = tables.takes.at(at);
    const own = nodes.ofBurst[burst] as number;
    const consumers = own >= 0 ? [own] : (products.get(burst) ?? []);
    if (consumers.length === 0) continue;
    const whole = isWhole(tables, matches, entry);
    const first = matches.first[entry] as number;
    for (let segment = first; segment < first + (matches.count[entry] as number); segment++) {
      const give = segments.at(segment * SEGMENT_SIZE + SEGMENT.give);
      const producer = tables.gives.at(give * ENTRY_SIZE);
      if (whole) {
        for (const consumer of consumers) addBurstEdges(nodes, consumer, producer);
        continue;
      }
      const index = segments.at(segment * SEGMENT_SIZE + SEGMENT.index);
      const count = segments.at(segment * SEGMENT_SIZE + SEGMENT.count);
      // A chained operand is named by the cycle of the dispatch that makes it, so it is there one cycle later.
      const chained = tables.takes.at(at + ENTRY.stream) === NO_STREAM ? 1 : 0;
      const key = tables.takes.at(at + ENTRY.cycle) + chained + index * tables.interval.at(burst);
      const copy = addNode(nodes, NODE_KINDS.copy, burst, index, count, key, segment);
      addBurstEdges(nodes, copy, producer);
      for (const consumer of consumers) addEdge(nodes, consumer, copy);
    }
  }
}

export function orderNodes(tables: Tables, nodes: Nodes): ExecutionOrder {
  const total = nodes.kind.length;
  const { start, targets } = compress(nodes);
  const order: ExecutionOrder = { node: new IntList(), first: new IntList(), count: new IntList() };
  const index = new Int32Array(total);
  const low = new Int32Array(total);
  const onStack = new Uint8Array(total);
  const next = start.slice(0, total);
  const stack = new IntList();
  const path = new IntList();
  let visited = 0;
  const enter = (node: number): void => {
    index[node] = ++visited;
    low[node] = visited;
    onStack[node] = 1;
    stack.push(node);
    path.push(node);
  };
  for (const root of byKey(nodes)) {
    if (index[root] !== 0) continue;
    enter(root);
    while (path.length > 0) {
      const node = path.at(path.length - 1);
      const edge = next[node] as number;
      if (edge < (start[node + 1] as number)) {
        next[node] = edge + 1;
        const other = targets[edge] as number;
        if (index[other] === 0) enter(other);
        else if (onStack[other] === 1) low[node] = Math.min(low[node] as number, index[other] as number);
        continue;
      }
      path.length--;
      if (path.length > 0) {
        const parent = path.at(path.length - 1);
        low[parent] = Math.min(low[parent] as number, low[node] as number);
      }
      if (low[node] !== index[node]) continue;
      let bottom = stack.length;
      do {
        bottom--;
        onStack[stack.at(bottom)] = 0;
      } while (stack.at(bottom) !== node);
      emit(tables, nodes, order, stack.data.slice(bottom, stack.length), start, targets);
      stack.length = bottom;
    }
  }
  return order;
}

/** Edges in rows: what node n depends on is `targets[start[n] .. start[n + 1]]`. */
function compress(nodes: Nodes): { readonly start: Int32Array; readonly targets: Int32Array } {
  const total = nodes.kind.length;
  const start = new Int32Array(total + 1);
  const { from, to } = nodes;
  for (let edge = 0; edge < from.length; edge++) start[from.at(edge) + 1] = (start[from.at(edge) + 1] as number) + 1;
  for (let node = 0; node < total; node++) start[node + 1] = (start[node + 1] as number) + (start[node] as number);
  const next = start.slice();
  const targets = new Int32Array(from.length);
  for (let edge = 0; edge < from.length; edge++) {
    const node = from.at(edge);
    targets[next[node] as number] = to.at(edge);
    next[node] = (next[node] as number) + 1;
  }
  return { start, targets };
}

/** Nodes from the earliest key on. */
function byKey(nodes: Nodes): Int32Array {
  const total = nodes.kind.length;
  const keys = new Float64Array(total);
  for (let node = 0; node < total; node++) keys[node] = nodes.key.at(node) * 2 ** 24 + node;
  keys.sort();
  return Int32Array.from(keys, (key) => key - Math.floor(key / 2 ** 24) * 2 ** 24);
}

function emit(
  tables: Tables,
  nodes: Nodes,
  order: ExecutionOrder,
  members: Int32Array,
  start: Int32Array,
  targets: Int32Array,
): void {
  const [only = 0] = members;
  if (members.length === 1 && !dependsOnItself(only, start, targets)) {
    push(order, only, 0, nodes.count.at(only));
    return;
  }
  const executions: { node: number; index: number; key: number; late: number }[] = [];
  for (const node of members) {
    const interval = tables.interval.at(nodes.burst.at(node));
    const kind = nodes.kind.at(node);
    const late = kind === NODE_KINDS.copy || kind === NODE_KINDS.prepare ? 0 : 1;
    for (let k = 0; k < nodes.count.at(node); k++)
      executions.push({ node, index: k, key: nodes.key.at(node) + k * interval, late });
  }
  executions.sort((a, b) => a.key - b.key || a.late - b.late || a.node - b.node);
  for (const { node, index } of executions) push(order, node, index, 1);
}

/** An ALU burst may chain its own earlier results. */
function dependsOnItself(node: number, start: Int32Array, targets: Int32Array): boolean {
  for (let edge = start[node] as number; edge < (start[node + 1] as number); edge++)
    if (targets[edge] === node) return true;
  return false;
}

function push(order: ExecutionOrder, node: number, first: number, count: number): void {
  order.node.push(node);
  order.first.push(first);
  order.count.push(count);
}
