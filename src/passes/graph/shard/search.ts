/**
 * The search for placements: along the graph, over the placements of the values that later nodes still take.
 *
 * A state says which placements every such value is to be had in; a node adds its own result, in each way that it can be done,
 * after what its operands lack was moved over the wires. Of states that are alike the cheapest goes on, and no more than WIDTH
 * of all. Constants and inputs are to be had in any placement, since the image and the host give each chip what it needs. An
 * input that stays has one home: where the first that reads it wants it, and what takes its place for the next run must lie.
 */

import { at, invariant } from "../../../diagnostics.js";
import { elementCount, type Graph, type Node, type NodeId } from "../../../ir/graph.js";
import { isLaneMap } from "../../../ir/literals.js";
import { literalIn, stringAttr } from "../../../ir/ops/attributes.js";
import { divides, localShape, type Operation, type Placement, type Way, waysOf } from "../../../ir/ops/placement.js";
import { constantBytes, type Costs } from "./costs.js";

/** A value that goes over the wires. */
export interface Move {
  readonly value: NodeId;
  readonly from: Placement;
  readonly to: Placement;
}

/** What is done for one node: moves, the node, and the sum of a result that leaves the graph. */
export interface Step {
  readonly node: NodeId;
  readonly way: Way;
  readonly before: readonly Move[];
  readonly after: readonly Move[];
  /** Inputs that stay, whose homes are found here. */
  readonly found: readonly (readonly [input: NodeId, home: Placement])[];
}

/** By the estimates with which ways are compared. */
export interface Cost {
  readonly cycles: number;
  /** Constants and states that lie on one chip. */
  readonly bytes: number;
}

/** A way to do a whole graph, and what it takes. */
export interface Placed extends Cost {
  /** Of all nodes but constants and inputs, in order. */
  readonly steps: readonly Step[];
  /** Where inputs that stay lie. */
  readonly homes: ReadonlyMap<NodeId, Placement>;
}

/** An input that stays on its chips from run to run. */
export interface Stay {
  readonly input: NodeId;
  /** What takes its place. */
  readonly next: NodeId;
  /** Where it lies, if that is known. */
  readonly home?: Placement | undefined;
}

/** A graph, the chips that are to share it, and what is known of where values lie. */
export interface Problem {
  readonly graph: Graph;
  readonly chips: number;
  /** Names of inputs and outputs that every chip has whole. */
  readonly everywhere?: ReadonlySet<string> | undefined;
  readonly costs: Costs;
  /** Cycles that a byte of constants on a chip is worth. */
  readonly price: number;
  readonly stays?: readonly Stay[] | undefined;
  /** Constants that lie on the chips already, by `pieceKey`. */
  readonly lying?: ReadonlySet<string> | undefined;
  /** Where results must lie, if that is said. */
  readonly wanted?: ReadonlyMap<NodeId, Placement> | undefined;
}

/** What the ways of a node depend on. */
type Ways = Pick<Problem, "graph" | "chips" | "everywhere">;

/** What names a constant as it lies on chips. */
export const pieceKey = (key: string, placement: Placement): string => `${placement} ${key}`;

/** States that go on from a node. */
const WIDTH = 256;

interface State extends Cost {
  /** Cycles, and what the bytes are worth. */
  readonly cost: number;
  /** Values that are still taken, with the placements that they are to be had in, as bits. */
  readonly held: Held;
  readonly last: { readonly state: State; readonly step: Step } | undefined;
}
type Held = readonly (readonly [value: NodeId, placements: number, home: Placement])[];

const START: State = { cost: 0, cycles: 0, bytes: 0, held: [], last: undefined };

/** Whole, partial, then axes. */
const bitOf = (placement: Placement): number =>
  placement === "whole" ? 1 : placement === "partial" ? 2 : 4 << placement;

/** The cheapest placements that are found; undefined if none lets inputs that stay lie where they do. */
export const search = (problem: Problem): Placed | undefined => {
  const lastUses = lastUsesOf(problem);
  const outputs = new Map<NodeId, boolean>();
  for (const { name, node } of problem.graph.outputs)
    outputs.set(node, outputs.get(node) === true || problem.everywhere?.has(name) === true);
  let states: readonly State[] = [START];
  for (const node of problem.graph.nodes) {
    if (isGiven(node)) continue;
    const keeps = (value: NodeId): boolean => at(lastUses, value, "value") > node.id;
    states = statesAfter(problem, node, { states, keeps, leaves: outputs.get(node.id) });
  }
  const [best] = states;
  if (best === undefined) return undefined;
  const steps: Step[] = [];
  for (let { last } = best; last !== undefined; last = last.state.last) steps.push(last.step);
  const homes = new Map(steps.flatMap(({ found }) => found));
  return { cycles: best.cycles, bytes: best.bytes, steps: steps.reverse(), homes };
};

/** What a graph costs where every chip does all of it. */
export const wholeCost = (problem: Problem): Cost => {
  const costOfWhole = (node: Node): readonly Cost[] =>
    waysOfNode(problem, node)
      .slice(0, 1)
      .map((way) => costOf(problem, node, way));
  const kept = (problem.stays ?? []).map(({ input }) => ({ cycles: 0, bytes: stateBytes(problem, input, "whole") }));
  return [...problem.graph.nodes.flatMap(costOfWhole), ...kept].reduce(sumOf, { cycles: 0, bytes: 0 });
};

/** Whether a node can be done so that its result lies so, or is a sum that is then made. */
export const leavesAs = (problem: Problem, value: NodeId, placement: Placement): boolean => {
  const node = nodeAt(problem, value);
  const isAxis = typeof placement !== "number" || divides(problem.chips, node.type.shape[placement]);
  return isAxis && waysAsWanted(problem, node, placement).length > 0;
};

/** Whether some product of a graph may be shared out among so many chips. */
export const isShareable = (problem: Ways): boolean =>
  problem.graph.nodes.some((node) => node.op === "matmul" && waysOfNode(problem, node).some(isCut));

const isCut = ({ operands }: Way): boolean => operands.some((placement) => typeof placement === "number");

const sumOf = (a: Cost, b: Cost): Cost => ({ cycles: a.cycles + b.cycles, bytes: a.bytes + b.bytes });

export const isGiven = ({ op }: Node): boolean => op === "constant" || op === "input";

const lastUsesOf = ({ graph, stays = [] }: Problem): readonly number[] => {
  const last = graph.nodes.map(() => -1);
  for (const { id, inputs } of graph.nodes) for (const input of inputs) last[input] = id;
  for (const { input, next } of stays) last[input] = Math.max(at(last, input, "value"), next);
  return last;
};

/** What a state takes of a chip: it lies in both hemispheres. */
const stateBytes = ({ graph, chips }: Problem, input: NodeId, home: Placement): number => {
  const { type } = nodeAt({ graph }, input);
  return 2 * constantBytes({ ...type, shape: localShape(type.shape, home, chips) });
};

/* ---------- one node ---------- */

const nodeAt = ({ graph }: Pick<Problem, "graph">, id: NodeId): Node => {
  const node = graph.nodes[id];
  invariant(node !== undefined, `node %${id} exists`);
  return node;
};

/** The operation of a node, on whole tensors. */
const operationOf = (problem: Pick<Problem, "graph">, { op, inputs, attrs, type }: Node): Operation => ({
  op,
  attrs,
  type,
  operands: inputs.map((id) => nodeAt(problem, id).type),
});

/**
 * The ways of a node in which nothing that is given is a partial sum, and constants are cut only where a chip can have its own: a
 * table of a lookup is the host's, a lane map is known to selection, and a number alone is a field of an instruction.
 */
const waysOfNode = (problem: Ways, node: Node): readonly Way[] =>
  waysOf(operationOf(problem, node), problem.chips).filter(({ operands }) =>
    node.inputs.every((id, place) => mayLie(problem, node, nodeAt(problem, id), operands[place])),
  );

const mayLie = (
  { chips, everywhere }: Pick<Problem, "chips" | "everywhere">,
  node: Node,
  source: Node,
  placement: Placement | undefined,
): boolean => {
  if (!isGiven(source) || placement === "whole") return true;
  if (placement === "partial") return false;
  const isOwn = node.op !== "gather" && !isLaneMap(literalIn(source)) && elementCount(source.type.shape) > chips;
  return source.op === "input" ? everywhere?.has(stringAttr(source.attrs, "name")) !== true : isOwn;
};

/** The ways that leave a result where it is to lie, some after a sum is made. */
const waysAsWanted = (problem: Problem, node: Node, wanted: Placement | undefined): readonly Way[] =>
  waysOfNode(problem, node).filter(
    ({ result }) =>
      wanted === undefined ||
      result === wanted ||
      (result === "partial" && cyclesOf(problem, { value: node.id, from: result, to: wanted }) !== undefined),
  );

/** What one chip does for a node that is done in a way, and the constants that it keeps for it. */
const costOf = (problem: Problem, node: Node, way: Way): Cost => {
  const { chips, costs } = problem;
  const { operands, type, ...operation } = operationOf(problem, node);
  const local = <Type extends { readonly shape: readonly number[] }>(whole: Type, placement: Placement): Type => ({
    ...whole,
    shape: localShape(whole.shape, placement, chips),
  });
  const locals = operands.map((operand, place) => local(operand, at(way.operands, place, "placement")));
  // The table of a lookup is the host's.
  const isStored = node.inputs.map((id, place) => {
    const key = node.op === "gather" ? undefined : literalIn(nodeAt(problem, id))?.key;
    return key !== undefined && problem.lying?.has(pieceKey(key, at(way.operands, place, "placement"))) !== true;
  });
  const stored = locals.filter((_, place) => isStored[place]);
  return {
    cycles: costs.compute({ ...operation, operands: locals, type: local(type, way.result) }),
    bytes: stored.reduce((sum, constant) => sum + constantBytes(constant), 0),
  };
};

interface Moment {
  readonly states: readonly State[];
  /** Whether a value is taken after the node. */
  readonly keeps: (value: NodeId) => boolean;
  /** Of an output, whether every chip is to have it whole. */
  readonly leaves: boolean | undefined;
}

/** The states after a node, the cheapest first. */
const statesAfter = (problem: Problem, node: Node, { states, keeps, leaves }: Moment): readonly State[] => {
  const best = new Map<string, State>();
  const wanted = problem.wanted?.get(node.id);
  for (const way of waysAsWanted(problem, node, wanted)) {
    const own = costOf(problem, node, way);
    // The host puts pieces together, and adds nothing up.
    const isMoved = leaves === true ? way.result !== "whole" : leaves === false && way.result === "partial";
    const isMade = wanted !== undefined && way.result !== wanted;
    const made: readonly Move[] = isMade ? [{ value: node.id, from: way.result, to: wanted }] : [];
    const left = isMoved ? leaving(problem, node, isMade ? wanted : way.result, leaves) : [];
    if (left === undefined) continue;
    const after = [...made, ...left.filter(({ from, to }) => from !== to)];
    const placements = left.reduce((bits, { to }) => bits | bitOf(to), bitOf(isMade ? wanted : way.result));
    for (const state of states) {
      const moved = movesFor(problem, node, way, state.held);
      const taken = moved === undefined ? undefined : takenBy(problem, node, placements, moved.held);
      if (moved === undefined || taken === undefined) continue;
      const before = moved.moves;
      const behind = [...after, ...taken.moves];
      const found = [...moved.found, ...taken.found];
      const cycles = [...before, ...behind].reduce((sum, move) => sum + (cyclesOf(problem, move) ?? 0), own.cycles);
      const bytes = found.reduce((sum, [input, home]) => sum + stateBytes(problem, input, home), own.bytes);
      const cost = state.cost + cycles + bytes * problem.price;
      const kept = taken.held.filter(([value]) => keeps(value));
      const held = keeps(node.id) ? [...kept, [node.id, taken.placements, "whole"] as const] : kept;
      const key = held.join(";");
      const known = best.get(key);
      if (known !== undefined && known.cost <= cost) continue;
      const step: Step = { node: node.id, way, before, after: behind, found };
      best.set(key, { ...sumOf(state, { cycles, bytes }), cost, held, last: { state, step } });
    }
  }
  return [...best.values()].sort((a, b) => a.cost - b.cost).slice(0, WIDTH);
};

/** The cheapest move of a result that leaves the graph, whole, or as the host puts it together; undefined if there is none. */
const leaving = (
  problem: Problem,
  { id, type }: Node,
  from: Placement,
  isWhole: boolean | undefined,
): readonly Move[] | undefined => {
  const axes = [...type.shape.keys()].filter((axis) => divides(problem.chips, type.shape[axis]));
  const to: readonly Placement[] = isWhole === true ? ["whole"] : ["whole", ...axes];
  const move = cheapest(
    problem,
    to.map((placement) => ({ value: id, from, to: placement })),
  );
  return move && [move];
};

const cyclesOf = (problem: Problem, { value, from, to }: Move): number | undefined =>
  problem.costs.move(nodeAt(problem, value).type, from, to);

/** What is done about operands or a result, and where all values are then. */
interface Moved {
  readonly moves: readonly Move[];
  readonly found: Step["found"];
  readonly held: Held;
}

/** What must be moved so that a node has its operands as a way wants them; undefined if nothing does that. */
const movesFor = (problem: Problem, node: Node, way: Way, before: Held): Moved | undefined => {
  const moves: Move[] = [];
  const found: (readonly [NodeId, Placement])[] = [];
  let held = before;
  for (const [place, value] of node.inputs.entries()) {
    const to = at(way.operands, place, "placement");
    const stay = problem.stays?.find(({ input }) => input === value);
    if (stay === undefined && isGiven(nodeAt(problem, value))) continue;
    let own = held.find(([id]) => id === value);
    if (own === undefined) {
      invariant(stay !== undefined, `%${value} is held until its last use`);
      const home = stay.home ?? to;
      own = [value, bitOf(home), home];
      held = [...held, own];
      found.push([value, home]);
    }
    const [, placements] = own;
    if ((placements & bitOf(to)) !== 0) continue;
    const move = cheapestMove(problem, value, placements, to);
    if (move === undefined) return undefined;
    moves.push(move);
    held = held.map(([id, bits, home]) => [id, id === value ? bits | bitOf(to) : bits, home] as const);
  }
  return { moves, found, held };
};

/** What must be moved so that a result lies where the inputs are whose place it takes; undefined if nothing does that. */
const takenBy = (
  problem: Problem,
  node: Node,
  result: number,
  before: Held,
): (Moved & { readonly placements: number }) | undefined => {
  const moves: Move[] = [];
  const found: (readonly [NodeId, Placement])[] = [];
  let [held, placements] = [before, result];
  for (const { input, next, home: known } of problem.stays ?? []) {
    if (next !== node.id) continue;
    const own = held.find(([id]) => id === input);
    const home = own?.[2] ?? known ?? lastingIn(node, placements);
    if (own === undefined) {
      held = [...held, [input, bitOf(home), home]];
      found.push([input, home]);
    }
    if ((placements & bitOf(home)) !== 0) continue;
    const move = cheapestMove(problem, node.id, placements, home);
    if (move === undefined) return undefined;
    moves.push(move);
    placements |= bitOf(home);
  }
  return { moves, found, held, placements };
};

/** Where a value may stay: in pieces, if it lies in some, or whole. */
const lastingIn = ({ type }: Node, placements: number): Placement =>
  [...type.shape.keys()].find((axis) => (placements & bitOf(axis)) !== 0) ?? "whole";

const cheapestMove = (problem: Problem, value: NodeId, placements: number, to: Placement): Move | undefined => {
  const { shape } = nodeAt(problem, value).type;
  const from = (["partial", ...shape.keys()] as const).filter((placement) => (placements & bitOf(placement)) !== 0);
  return cheapest(
    problem,
    from.map((placement) => ({ value, from: placement, to })),
  );
};

const cheapest = (problem: Problem, moves: readonly Move[]): Move | undefined =>
  moves
    .flatMap((move) => {
      const cycles = cyclesOf(problem, move);
      return cycles === undefined ? [] : [{ move, cycles }];
    })
    .sort((a, b) => a.cycles - b.cycles)[0]?.move;
