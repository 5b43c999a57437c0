/**
 * Selection: from tensor operations to stream operations. Graph (legal) -> Plan.
 *
 * There are no kernels here, just five rules. Features lie on lanes, everything else along rows, and views are free
 * (layout/view.ts). A matmul is passes of half-vectors through installed weights (rules/matmul.ts). A sum over lanes is a matmul
 * by ones (rules/sum.ts), a maximum is rotate-and-max through the SXM (rules/max.ts). What does not lie where it is needed
 * is moved by a matmul with a selection or with the identity (layout/move.ts). All else is chains of ALU operations on the
 * way (fuse.ts, rules/chain.ts). What chips of a group exchange is sent and received as it lies (rules/gather.ts,
 * rules/reduce.ts). The nouns are in selection.ts.
 */

import { at, CompileError, invariant } from "../../diagnostics.js";
import { isFp8 } from "../../ir/dtype.js";
import { elementCount, type Graph, type Node, type NodeId, consumersOf } from "../../ir/graph.js";
import type { Plan, PlanState } from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";
import { type Shortened, shortened } from "./bodies/graph.js";
import { type Made, planOfAll } from "./bodies/plan.js";
import { fuse, type Fusion } from "./fuse.js";
import { storeChain } from "./rules/chain.js";
import { lowerConcat } from "./rules/concat.js";
import { lowerGather } from "./rules/gather.js";
import { lowerReduce } from "./rules/reduce.js";
import { allInputs, boundLayout } from "./input.js";
import { bindOutput } from "./output.js";
import { isNext, storeStates } from "./state.js";
import { isTakenInParts } from "./rules/join.js";
import { isFolded } from "./rules/fold.js";
import { lowerMatmul, lowerMatmulChain } from "./rules/matmul.js";
import { lowerMax } from "./rules/max.js";
import { lowerSum } from "./rules/sum.js";
import { type Range, rangesOf } from "../../ir/ranges.js";
import { usedStorages } from "./uses.js";
import { locate } from "./value.js";
import { isTight, nodeAt, operandId, originText, type LowerReduction, type Room, type Selection } from "./selection.js";

const REDUCTIONS: Readonly<Record<"reduce_sum" | "reduce_max", LowerReduction>> = {
  reduce_sum: lowerSum,
  reduce_max: lowerMax,
};

/** ALUs that a chain leaves free, for copies that the scheduler may need. */
const SPARE_ALUS = 3;

/**
 * `states`: names of inputs that stay in SRAM, each with the output of its type that takes its place for the next run. `lying`:
 * those of entries before this one, which lie as they do there.
 */
export const select = (
  graph: Graph,
  target: Target,
  states: ReadonlyMap<string, string> = new Map(),
  lying: readonly PlanState[] = [],
  peers: readonly (readonly number[])[] = [],
  room: Room = "ample",
): Plan => {
  // What is packed tightly is made of literals that no node of the graph has.
  const less = isTight(room) ? undefined : shortened(graph);
  const options = { target, states, lying, peers, room };
  return (less && fromFew(graph, less, options)) ?? selectWhole(graph, options);
};

/** Every body by itself, whatever repeats itself. */
export const selectWhole = (graph: Graph, options: Options): Plan => selectGraph(graph, rangesOf(graph), options).plan;

interface Options {
  readonly target: Target;
  readonly states: ReadonlyMap<string, string>;
  readonly lying: readonly PlanState[];
  readonly peers: readonly (readonly number[])[];
  readonly room: Room;
}

/**
 * By a few of the graph's bodies; undefined if these do not say what all are, or if some node has no layout: all such are to be
 * named then.
 */
const fromFew = (graph: Graph, less: Shortened, options: Options): Plan | undefined => {
  try {
    const { plan, made } = selectGraph(less.graph, less.ranges, options);
    const all = planOfAll(
      plan,
      less,
      less.starts.map((id) => at(made, id, "node")),
    );
    return all && { ...all, macs: usefulMacs(graph) };
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
};

/** `made`: how much of the plan there was before each node. */
const selectGraph = (
  graph: Graph,
  ranges: readonly Range[],
  options: Options,
): { readonly plan: Plan; readonly made: readonly Made[] } => {
  // A chain whose parts want different layouts is cut, and selection starts anew.
  for (const stored = new Set<NodeId>(); ; ) {
    const s = newSelection(graph, ranges, stored, options);
    const made: Made[] = [];
    const problems = lowerNodes(s, made);
    const plan = s.refused.length === 0 ? planOf(s, problems) : undefined;
    if (plan !== undefined) return { plan, made };
    invariant(
      s.refused.some((id) => !stored.has(id)),
      "a refused chain is cut further each time",
    );
    for (const id of s.refused) stored.add(id);
  }
};

const newSelection = (
  graph: Graph,
  ranges: readonly Range[],
  stored: ReadonlySet<NodeId>,
  { target, states, lying, peers, room }: Options,
): Selection => ({
  graph,
  target,
  room,
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
  stateOutputs: states,
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
});

/**
 * Lowers what computes something, in topological order, until a chain is refused; the rest follows on demand. What cannot be
 * laid out is noted and what depends on it passed over, so that all causes are found and no consequence.
 */
const lowerNodes = (s: Selection, made: Made[]): Problems => {
  const mains = new Set([...s.fusions.values()].flatMap(({ main }) => (main === undefined ? [] : [main])));
  const problems = new Problems();
  for (const node of s.graph.nodes) {
    made.push({ tasks: s.tasks.length, storages: s.storages.length, origins: s.origins.length });
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

/** Undefined where a chain is refused that only an output asks for. */
const planOf = (s: Selection, problems: Problems): Plan | undefined => {
  const isNext = new Set(s.stateOutputs.values());
  const bound = s.graph.outputs
    .filter(({ name }) => !isNext.has(name))
    .map((output) => problems.attempt(nodeAt(s, output.node), () => bindOutput(s, output, locate(s, output.node))));
  const states = storeStates(s, (node, step) => problems.attempt(node, step)?.value);
  if (s.refused.length > 0) return undefined;
  problems.raise();
  const outputs = bound.flatMap((made) => (made === undefined ? [] : [made.value]));
  const storages = usedStorages(s, outputs, states);
  const inputs = allInputs(s, storages);
  const { tasks, maps, sumRanges: turnedSums, origins, literals } = s;
  const { name } = s.graph;
  return {
    name,
    storages,
    tasks,
    maps,
    turnedSums,
    inputs,
    outputs,
    states,
    origins,
    literals,
    macs: usefulMacs(s.graph),
  };
};

/** Multiply-accumulates that the model asks for: products of its matmuls, without padding, sums, moves or zeros between blocks. */
const usefulMacs = (graph: Graph): number => {
  const operand = (node: Node, index: number): Node => at(graph.nodes, operandId(node, index), "node");
  const macs = (node: Node): number => {
    const { shape } = operand(node, 0).type;
    const copies = isFp8(operand(node, 1).type.dtype) ? copiesOf(operand(node, 0)) : 1;
    return (elementCount(node.type.shape) * at(shape, shape.length - 1, "extent")) / copies;
  };
  /** How often rows meet weights for blocks of theirs, zero for the others (passes/graph/blocks.ts). */
  const copiesOf = (x: Node): number => {
    if (x.op === "slice" || x.op === "cast") return copiesOf(operand(x, 0));
    if (x.op !== "mul" || operand(x, 1).op !== "constant") return 1;
    const [copies = 1, rows, ...columns] = operand(x, 1).type.shape;
    return rows === 1 && columns.length === 1 ? copies : 1;
  };
  return graph.nodes.reduce((sum, node) => sum + (node.op === "matmul" ? macs(node) : 0), 0);
};
