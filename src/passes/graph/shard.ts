/**
 * Sharding: one graph that each chip of a group runs, with weights of its own; where chips need what others have, they exchange.
 *
 * `shard/search.ts` chooses where every value lies, by the rules of ir/ops/placement.ts and the costs of `shard/costs.ts`; none
 * of them knows what a model is. Here the graph is written accordingly. All chips doing all of it is always a candidate:
 * where nothing is faster, the graph stays as it is. It runs last: what other passes read of constants, they read of whole ones.
 */

import { at, fail, invariant } from "../../diagnostics.js";
import type { PlacedResult, PlacementOf, Sharding } from "../../ir/facts.js";
import type { Graph, Node, NodeId, Shape } from "../../ir/graph.js";
import { literalIn, numberAttr, stringAttr } from "../../ir/ops/attributes.js";
import { localShape, type Placement } from "../../ir/ops/placement.js";
import { sharingChips } from "../../ir/system.js";
import { sramBytes, streamBytes, type Target } from "../../ir/target.js";
import type { GraphPass } from "./pass.js";
import { Rewriter } from "./rewriter.js";
import { constantBytes, costsOf, rowBytes } from "./shard/costs.js";
import {
  type Cost,
  isGiven,
  isShareable,
  leavesAs,
  type Move,
  pieceKey,
  type Placed,
  type Problem,
  search,
  type Stay,
  type Step,
  wholeCost,
} from "./shard/search.js";

export const shard: GraphPass = {
  name: "shard",
  doc: "Shares a graph out among the chips of a group, where that is asked for: pieces of weights, and exchanges where values meet.",
  run: (
    graph,
    {
      target,
      chips = 1,
      states = new Map(),
      before = [],
      wholeStates = false,
      whole: everywhere,
      isCompared = false,
      placed: said = [],
      onPlaced,
      onSharded,
    },
  ) => {
    if (chips === 1) return graph;
    if (!isShareable({ graph, chips, everywhere })) return refuse(graph, chips, target);
    const stays = staysOf(graph, states, before, wholeStates);
    const { lying, bytes } = lyingIn(before);
    const takenBy = (steps: readonly Step[]): number =>
      bytes + EDGE_COPIES * edgeBytes(graph, target, chips, stays, steps);
    const { wanted, open } = wantedIn(graph, said);
    const problem: Problem = {
      graph,
      chips,
      costs: costsOf(target, chips),
      price: 0,
      everywhere,
      stays,
      lying,
      wanted,
    };
    expectWays(problem, said);
    const whole = wholeCost(problem);
    const cheapest = fitting(problem, target, takenBy);
    const other = isCompared && cheapest.bytes >= whole.bytes ? leaner(problem, target, whole) : undefined;
    const placed = other ?? cheapest;
    const isBound = stays.some(({ home = "whole" }) => home !== "whole");
    const pays =
      isBound ||
      wanted.size > 0 ||
      other !== undefined ||
      placed.cycles < whole.cycles ||
      (isTooMuch(target, whole, takenBy([])) && placed.bytes < whole.bytes);
    const result = pays ? shared(problem, placed) : graph;
    if (pays) onPlaced?.(placementsIn(graph, placed));
    onSharded?.({
      ...factsOf({ result, chips, placed, whole, pays }),
      annotated: { held: said.length - open.length, open },
    });
    return result;
  },
};

const refuse = (graph: Graph, chips: number, target: Target): never => {
  const fits = sharingChips(target).filter((degree) => isShareable({ graph, chips: degree }));
  return fail("LPU2106", {
    message: `no product of the model has an axis that ${chips} chips divide`,
    hint: fits.length === 0 ? "build it for one chip" : `degrees that divide one: ${fits.join(", ")}`,
  });
};

/* ---------- what the model says ---------- */

interface Wanted {
  readonly wanted: ReadonlyMap<NodeId, Placement>;
  /** Tensors that are no value of the graph. */
  readonly open: readonly string[];
}

/** The value that is the result of an ONNX node of a shape: what was made last from it alone, or from it and others. */
const valuesIn = ({ nodes }: Graph): ((name: string, shape: Shape) => Node | undefined) => {
  const made = new Map<string, Node[]>();
  for (const node of nodes.filter(({ op }) => op !== "constant"))
    for (const name of node.origin) made.set(name, [...(made.get(name) ?? []), node]);
  return (name, shape) => {
    const alike = (made.get(name) ?? []).filter(({ type }) => type.shape.join() === shape.join());
    return alike.filter(({ origin }) => origin.length === 1).at(-1) ?? alike.at(-1);
  };
};

const wantedIn = (graph: Graph, said: readonly PlacedResult[]): Wanted => {
  const wanted = new Map<NodeId, Placement>();
  const open: string[] = [];
  const resultOf = valuesIn(graph);
  for (const { node, tensor, shape, placement } of said) {
    const value = resultOf(node, shape);
    if (value === undefined) open.push(tensor);
    else {
      const place = typeof placement === "number" && placement < 0 ? placement + shape.length : placement;
      if ((wanted.get(value.id) ?? place) !== place)
        fail("LPU1015", {
          message: `tensor '${tensor}' and another that is the same value are to lie otherwise`,
          node,
        });
      wanted.set(value.id, place);
    }
  }
  return { wanted, open };
};

/** Where values lie when they are made, and sums when they are. */
const placementsIn = (graph: Graph, { steps }: Placed): PlacementOf => {
  const made = new Map(steps.map(({ node, way }) => [node, way.result]));
  for (const { value, from, to } of steps.flatMap(({ before, after }) => [...before, ...after]))
    if (from === "partial" && made.get(value) === "partial") made.set(value, to);
  const resultOf = valuesIn(graph);
  return (name, shape) => {
    const placement = made.get(resultOf(name, shape)?.id ?? -1);
    return placement === "partial" ? undefined : placement;
  };
};

/** LPU1015 where no way to do a node, alone or with the others, leaves its result as the model says. */
const expectWays = (problem: Problem, said: readonly PlacedResult[]): void => {
  for (const [value, placement] of problem.wanted ?? []) {
    if (leavesAs(problem, value, placement)) continue;
    const { origin, type } = at(problem.graph.nodes, value, "node");
    fail("LPU1015", {
      message: `a result of shape [${type.shape.join(", ")}] cannot be ${placement === "whole" ? "whole" : `in pieces along axis ${placement}`} on ${problem.chips} chips`,
      node: origin.join(" + "),
    });
  }
  if (said.length > 0 && search(problem) === undefined)
    fail("LPU1015", {
      message: `${said.length} results cannot all lie on ${problem.chips} chips as the model says: what is whole is not put in pieces again`,
    });
};

/* ---------- what entries share ---------- */

/**
 * What stays on the chips: as in entries before this one, if they have it, and whole where it is itself what takes a place or is
 * nothing but another input.
 */
export const staysOf = (
  graph: Graph,
  states: ReadonlyMap<string, string>,
  before: readonly Graph[] = [],
  wholeStates = false,
): readonly Stay[] => {
  const nexts = new Map(graph.outputs.map(({ name, node }) => [name, at(graph.nodes, node, "node")]));
  const given = new Set([...nexts.values()].filter(isGiven).map(({ id }) => id));
  return graph.inputs.flatMap((input): readonly Stay[] => {
    const name = inputName(graph, input);
    const next = nexts.get(states.get(name) ?? "");
    if (next === undefined) return [];
    const known = before.map((other) => homeIn(other, name, states)).find((home) => home !== undefined);
    const isWhole = wholeStates || given.has(next.id) || given.has(input);
    if (isWhole && (known ?? "whole") !== "whole") return elsewhere(name);
    return [{ input, next: next.id, home: isWhole ? "whole" : known }];
  });
};

const elsewhere = (name: string): never =>
  fail("LPU2106", {
    message: `state '${name}' cannot lie in pieces in all entries`,
    hint: "build an entry by itself, or without --tensor",
  });

const inputName = (graph: Graph, id: NodeId): string => stringAttr(at(graph.nodes, id, "node").attrs, "name");

/** Where a state lies in a graph that is shared out: as what takes its place; undefined if the graph has none of this name. */
const homeIn = (graph: Graph, name: string, states: ReadonlyMap<string, string>): Placement | undefined => {
  const has = graph.inputs.some((id) => inputName(graph, id) === name);
  const next = graph.outputs.find((output) => output.name === states.get(name));
  if (!has || next === undefined) return undefined;
  const { op, attrs } = at(graph.nodes, next.node, "node");
  return op === "join" ? numberAttr(attrs, "axis") : "whole";
};

/** Constants as graphs have them that are shared out, and what they take of a chip. */
const lyingIn = (graphs: readonly Graph[]): { readonly lying: ReadonlySet<string>; readonly bytes: number } => {
  const lying = new Map<string, number>();
  for (const { nodes } of graphs)
    for (const node of nodes)
      for (const [place, id] of node.inputs.entries()) {
        const source = at(nodes, id, "node");
        const literal = literalIn(source);
        // The table of a lookup is the host's.
        if (literal === undefined || (node.op === "gather" && place === 0)) continue;
        const placement = node.op === "piece" ? numberAttr(node.attrs, "axis") : "whole";
        lying.set(pieceKey(literal.key, placement), constantBytes(node.op === "piece" ? node.type : source.type));
      }
  return { lying: new Set(lying.keys()), bytes: [...lying.values()].reduce((sum, bytes) => sum + bytes, 0) };
};

/* ---------- what SRAM holds ---------- */

/** The part of SRAM that constants and edges may fill; results need the rest. */
const SHARE = 0.9;
/** Inputs lie once for each layout in which they are read, and outputs beside what they are made of: each about twice. */
const EDGE_COPIES = 2;

/** What the host gives, as steps read it, and what it gets, whole; but for what stays. */
const edgeBytes = (
  { nodes, inputs, outputs }: Graph,
  target: Target,
  chips: number,
  stays: readonly Stay[],
  steps: readonly Step[],
): number => {
  const staying = new Set(stays.flatMap(({ input, next }) => [input, next]));
  const read = new Map(inputs.map((id) => [id, new Set<Placement>()]));
  for (const { node, way } of steps)
    for (const [place, id] of at(nodes, node, "node").inputs.entries())
      read.get(id)?.add(at(way.operands, place, "placement"));
  const bytesOf = (id: NodeId, placement: Placement): number => {
    const { type } = at(nodes, id, "node");
    return rowBytes(target, { ...type, shape: localShape(type.shape, placement, chips) });
  };
  const edges = [...inputs, ...outputs.map(({ node }) => node)].filter((id) => !staying.has(id));
  return edges
    .flatMap((id) => {
      const pieces = [...(read.get(id) ?? [])];
      const isInPieces = pieces.length > 0 && !pieces.includes("whole");
      return isInPieces ? pieces.map((axis) => bytesOf(id, axis)) : [bytesOf(id, "whole")];
    })
    .reduce((sum, bytes) => sum + bytes, 0);
};

const isTooMuch = (target: Target, { bytes }: Cost, taken: number): boolean =>
  taken + bytes > SHARE * sramBytes(target);

/** Prices of a byte that are tried where constants do not fit: from what its reading costs, a half more each time. */
const PRICES = 24;

/** The cheapest placements with which the constants fit beside what is taken already, or the least of them. */
const fitting = (problem: Problem, target: Target, takenBy: (steps: readonly Step[]) => number): Placed => {
  const placed = (price: number): Placed =>
    search({ ...problem, price }) ?? elsewhere(inputName(problem.graph, at(problem.stays ?? [], 0, "state").input));
  let best = placed(problem.price);
  let price = 1 / streamBytes(target);
  for (let tries = 0; tries < PRICES && isTooMuch(target, best, takenBy(best.steps)); tries += 1, price *= 1.5) {
    const next = placed(price);
    if (next.bytes < best.bytes) best = next;
  }
  return best;
};

/** How much dearer than one chip sharing may be by estimates where schedules decide: what each chip waits for is not in them. */
const DEARER = 1.5;

/** Prices of a byte that are tried for it, each three times the one before. */
const DEAR_PRICES = 9;

/** The placements of fewest bytes that are not too dear; undefined if there are none of fewer bytes than one chip has. */
const leaner = (problem: Problem, target: Target, whole: Cost): Placed | undefined => {
  let best: Placed | undefined;
  let price = 1 / streamBytes(target);
  for (let tries = 0; tries < DEAR_PRICES; tries += 1, price *= 3) {
    const next = search({ ...problem, price });
    if (next === undefined || next.cycles > DEARER * whole.cycles) break;
    if (next.bytes < (best ?? whole).bytes) best = next;
  }
  return best;
};

/* ---------- the graph of one chip ---------- */

/** The operation that moves a value, by where it lies and where it is wanted. */
const moveOf = ({ from, to }: Move, chips: number): readonly [op: string, attrs: Readonly<Record<string, number>>] => {
  if (from === "partial")
    return typeof to === "number" ? ["reduce_scatter", { axis: to, chips }] : ["all_reduce", { chips }];
  invariant(typeof from === "number", "what is moved is split or partial");
  return typeof to === "number" ? ["all_to_all", { from, to, chips }] : ["all_gather", { axis: from, chips }];
};

/** The graph of one chip, in which values lie where a search has put them. */
export const shared = (problem: Shareable, placed: Placed): Graph => new Sharded(problem, placed).graph;

type Shareable = Pick<Problem, "graph" | "chips" | "stays">;

class Sharded {
  readonly graph: Graph;
  private readonly g = new Rewriter([], false);
  private readonly source: Graph;
  private readonly chips: number;
  /** Nodes of one chip's graph, by the value and where it lies. */
  private readonly made: Map<Placement, NodeId>[];
  /** Where values must lie that take the places of inputs. */
  private readonly next: ReadonlyMap<NodeId, Placement>;

  constructor({ graph: source, chips, stays = [] }: Shareable, { steps, homes }: Placed) {
    this.source = source;
    this.chips = chips;
    this.made = source.nodes.map(() => new Map());
    this.next = new Map(stays.map(({ input, next }) => [next, homes.get(input) ?? "whole"]));
    const stepOf = new Map(steps.map((step) => [step.node, step]));
    for (const node of source.nodes) {
      const step = stepOf.get(node.id);
      if (step === undefined) this.give(node, homes.get(node.id) ?? "whole");
      else this.take(node, step);
    }
    this.graph = this.g.finish(source, (id) => this.left(id));
  }

  /** A constant or an input; one that stays is where its home is, and only there. */
  private give(node: Node, home: Placement): void {
    const whole = this.g.copy(node, () => 0);
    if (typeof home === "number")
      this.put(
        node.id,
        home,
        this.g.from(node, () => this.g.emit("piece", [whole], { axis: home, chips: this.chips })),
      );
    else this.put(node.id, "whole", whole);
  }

  private take(node: Node, { way, before, after }: Step): void {
    for (const move of before) this.move(move);
    const inputs = node.inputs.map((id, place) => this.at(id, at(way.operands, place, "placement")));
    this.put(
      node.id,
      way.result,
      this.g.from(node, () => this.g.emit(node.op, inputs, way.attrs ?? node.attrs)),
    );
    for (const move of after) this.move(move);
  }

  private move(move: Move): void {
    const [op, attrs] = moveOf(move, this.chips);
    const from = this.at(move.value, move.from);
    this.put(
      move.value,
      move.to,
      this.g.from(this.g.node(from), () => this.g.emit(op, [from], attrs)),
    );
  }

  private put(value: NodeId, placement: Placement, id: NodeId): void {
    this.placed(value).set(placement, id);
  }

  private placed(value: NodeId): Map<Placement, NodeId> {
    return at(this.made, value, "value");
  }

  /** A value in a placement that it is in; constants and inputs are in any. */
  private at(value: NodeId, placement: Placement): NodeId {
    const known = this.placed(value).get(placement);
    if (known !== undefined) return known;
    const node = this.source.nodes[value];
    invariant(
      node !== undefined && isGiven(node) && typeof placement === "number",
      `%${value} lies as the search says`,
    );
    const whole = this.at(value, "whole");
    const id = this.g.from(node, () => this.g.emit("piece", [whole], { axis: placement, chips: this.chips }));
    this.put(value, placement, id);
    return id;
  }

  /** An output as the host takes it. */
  private left(value: NodeId): NodeId {
    const wanted = this.next.get(value) ?? "whole";
    const whole = this.placed(value).get("whole");
    if (whole !== undefined && wanted === "whole") return whole;
    const pieces = [...this.placed(value)].find(([placement]) =>
      wanted === "whole" ? typeof placement === "number" : placement === wanted,
    );
    invariant(pieces !== undefined, `output %${value} is whole or in pieces`);
    const [axis, id] = pieces;
    return this.g.from(this.g.node(id), () => this.g.emit("join", [id], { axis, chips: this.chips }));
  }
}

/* ---------- what was chosen ---------- */

interface Choice {
  readonly result: Graph;
  readonly chips: number;
  readonly placed: Placed;
  readonly whole: Cost;
  readonly pays: boolean;
}

const factsOf = ({ result, chips, placed, whole, pays }: Choice): Omit<Sharding, "annotated"> => {
  const exchanges = result.nodes.flatMap(({ op }) => (EXCHANGES.includes(op) ? [op] : []));
  const [chosen, other] = pays ? [placed, whole] : [whole, placed];
  return {
    chips: pays ? chips : 1,
    stages: 1,
    asked: chips,
    by: "estimate",
    cycles: Math.round(chosen.cycles),
    constantBytes: chosen.bytes,
    exchanges: EXCHANGES.flatMap((op) => {
      const count = exchanges.filter((other) => other === op).length;
      return count === 0 ? [] : [{ op, count }];
    }),
    runnerUp: { chips: pays ? 1 : chips, stages: 1, cycles: Math.round(other.cycles), constantBytes: other.bytes },
  };
};
const EXCHANGES: readonly string[] = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"];
