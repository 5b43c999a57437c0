/**
 * Selection: from tensor operations to stream operations. Graph (legal) -> Plan.
 *
 * There are no kernels here, just five rules. Features lie on lanes, everything else along rows, and views are free
 * (layout/view.ts). A matmul is passes of half-vectors through installed weights (rules/matmul.ts). A sum over lanes is a matmul
 * by ones (rules/sum.ts), a maximum is rotate-and-max through the SXM (rules/max.ts). What does not lie where it is needed
 * is moved by a matmul with a selection or with the identity (layout/move.ts). All else is chains of ALU operations on the
 * way (fuse.ts, rules/chain.ts). The nouns are in selection.ts.
 */

import { at, CompileError, invariant } from "../../diagnostics.js";
import { elementCount, type Graph, type Node, type NodeId, consumersOf } from "../../ir/graph.js";
import type { Plan, PlanState } from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";
import { fuse, type Fusion } from "./fuse.js";
import { storeChain } from "./rules/chain.js";
import { lowerConcat } from "./rules/concat.js";
import { lowerGather } from "./rules/gather.js";
import { lowerReduce } from "./rules/reduce.js";
import { allInputs, boundLayout, dropUnread } from "./input.js";
import { bindOutput } from "./output.js";
import { isNext, storeStates } from "./state.js";
import { isTakenInParts } from "./rules/join.js";
import { isFolded } from "./rules/fold.js";
import { lowerMatmul, lowerMatmulChain } from "./rules/matmul.js";
import { lowerMax } from "./rules/max.js";
import { lowerSum } from "./rules/sum.js";
import { rangesOf } from "../../ir/ranges.js";
import { locate } from "./value.js";
import { lanesOf } from "./elements.js";
import { SUMS } from "./padding.js";
import { nodeAt, operandAt, originText, type LowerReduction, type Selection } from "./selection.js";

const REDUCTIONS: Readonly<Record<"reduce_sum" | "reduce_max", LowerReduction>> = {
  reduce_sum: lowerSum,
  reduce_max: lowerMax,
};

/** ALUs that a chain leaves free, for copies that the scheduler may need. */
const SPARE_ALUS = 3;

/**
 * `states`: names of inputs that stay in SRAM, each with the output of its type that takes its place for the next run. `lying`:
 * those of entries before this one, which lie as they do there. `tight`: weights take as few rows as they can, and more cycles.
 */
export const select = (
  graph: Graph,
  target: Target,
  states: ReadonlyMap<string, string> = new Map(),
  lying: readonly PlanState[] = [],
  peers: readonly (readonly number[])[] = [],
  tight = false,
): Plan => {
  // A chain whose parts want different layouts is cut, and selection starts anew.
  for (const stored = new Set<NodeId>(); ; ) {
    const s = newSelection(graph, target, stored, states, lying, peers, tight);
    const problems = lowerNodes(s);
    if (s.refused.length === 0) return planOf(s, problems);
    invariant(
      s.refused.some((id) => !stored.has(id)),
      "a refused chain is cut further each time",
    );
    for (const id of s.refused) stored.add(id);
  }
};

const newSelection = (
  graph: Graph,
  target: Target,
  stored: ReadonlySet<NodeId>,
  stateOutputs: ReadonlyMap<string, string>,
  lying: readonly PlanState[],
  peers: readonly (readonly number[])[],
  tight: boolean,
): Selection => {
  const ranges = rangesOf(graph);
  return {
    graph,
    target,
    tight,
    literals: new Map(),
    fusions: fuse(graph, target.alus - SPARE_ALUS, stored),
    consumers: consumersOf(graph),
    reductions: REDUCTIONS,
    join: lowerConcat,
    storages: [],
    tasks: [],
    maps: [],
    mapIds: new Map(),
    inputs: [],
    stateOutputs,
    stateLayouts: new Map(lying.map((state) => [state.name, boundLayout(state)])),
    states: [],
    origins: [],
    originIds: new Map(),
    located: new Map(),
    loaded: new Map(),
    copies: new Map(),
    arrangements: new Map(),
    summands: new Map(),
    facts: [],
    sumRanges: new Map(),
    peers,
    ranges,
    refused: [],
  };
};

/**
 * Lowers what computes something, in topological order, until a chain is refused; the rest follows on demand. What cannot be
 * laid out is noted and what depends on it passed over, so that all causes are found and no consequence.
 */
const lowerNodes = (s: Selection): Problems => {
  const mains = new Set([...s.fusions.values()].flatMap(({ main }) => (main === undefined ? [] : [main])));
  const problems = new Problems();
  for (const node of s.graph.nodes) {
    problems.guard(node, () => {
      const fusion = s.fusions.get(node.id);
      if (fusion !== undefined) lowerFusion(s, fusion);
      else if (node.op === "matmul" && !mains.has(node.id)) lowerMatmul(s, node);
      else if (node.op === "concat" && !isTakenInParts(s, node) && !isNext(s, node)) lowerConcat(s, node);
      else if (node.op === "all_gather") lowerGather(s, node);
      else if (node.op === "all_reduce" || node.op === "reduce_scatter") lowerReduce(s, node);
      // Before a chain that reads its operand, too, since the operand may have to be moved.
      else if (node.op === "reduce_max") locate(s, node.id);
    });
    if (s.refused.length > 0) break;
  }
  return problems;
};

/** What could not be laid out. */
class Problems {
  private readonly found = new Map<string, CompileError>();
  /** Nodes that could not be lowered, and those that depend on them. */
  private readonly lost = new Set<NodeId>();

  guard(node: Node, lower: () => void): void {
    if (node.inputs.some((id) => this.lost.has(id))) this.lost.add(node.id);
    else if (this.attempt(node, lower) === undefined) this.lost.add(node.id);
  }

  /** The result of a step for a node, with what is wrong noted; undefined if something is. */
  attempt<T>(node: Node, step: () => T): { readonly value: T } | undefined {
    if (this.lost.has(node.id)) return undefined;
    try {
      return { value: step() };
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      const details = { node: originText(node), ...error.details };
      // A view that cannot be told is found by each of its readers.
      const key = `${error.code} ${details.node} ${details.message}`;
      if (!this.found.has(key)) this.found.set(key, new CompileError(error.code, details, error.others));
      return undefined;
    }
  }

  /** Raises one error that holds them all. */
  raise(): void {
    const [first, ...others] = this.found.values();
    if (first !== undefined) throw new CompileError(first.code, first.details, others);
  }
}

const lowerFusion = (s: Selection, fusion: Fusion): void => {
  if (isFolded(s, fusion)) return;
  if (fusion.main === undefined) storeChain(s, fusion);
  else lowerMatmulChain(s, fusion, nodeAt(s, fusion.main));
};

const planOf = (s: Selection, problems: Problems): Plan => {
  const isNext = new Set(s.stateOutputs.values());
  const bound = s.graph.outputs
    .filter(({ name }) => !isNext.has(name))
    .map((output) => problems.attempt(nodeAt(s, output.node), () => bindOutput(s, output, locate(s, output.node))));
  const states = storeStates(s, (node, step) => problems.attempt(node, step)?.value);
  problems.raise();
  const outputs = bound.flatMap((made) => (made === undefined ? [] : [made.value]));
  dropUnread(s);
  const inputs = allInputs(s);
  const { tasks, maps, sumRanges: turnedSums, origins, literals } = s;
  const lanes = lanesOf(s);
  const storages = s.storages.map((storage, id) => ({ ...storage, lanes: lanes[id] ?? { values: SUMS.values } }));
  const { name } = s.graph;
  return { name, storages, tasks, maps, turnedSums, inputs, outputs, states, origins, literals, macs: usefulMacs(s) };
};

/** Multiply-accumulates that the model asks for: products of its matmuls, without padding, sums or moves. */
const usefulMacs = (s: Selection): number => {
  const macs = (node: Node): number => {
    const { shape } = operandAt(s, node, 0).type;
    return elementCount(node.type.shape) * at(shape, shape.length - 1, "extent");
  };
  return s.graph.nodes.reduce((sum, node) => sum + (node.op === "matmul" ? macs(node) : 0), 0);
};
