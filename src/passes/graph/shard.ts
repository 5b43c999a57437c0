/**
 * Sharding: one graph that each chip of a group runs, with weights of its own; where chips need what others have, they exchange.
 *
 * `shard/search.ts` chooses where every value lies, by the rules of ir/ops/placement.ts and the costs of `shard/costs.ts`; none
 * of them knows what a model is. Here the graph is written accordingly. All chips doing all of it is always a candidate:
 * where nothing is faster, the graph stays as it is. It runs last: what other passes read of constants, they read of whole ones.
 */

import { at, fail, invariant } from "../../diagnostics.js";
import type { Sharding } from "../../ir/facts.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import type { Placement } from "../../ir/ops/placement.js";
import { sramBytes, type Target } from "../../ir/target.js";
import type { GraphPass } from "./pass.js";
import { Rewriter } from "./rewriter.js";
import { costsOf } from "./shard/costs.js";
import {
  type Cost,
  isShareable,
  type Move,
  type Placed,
  type Problem,
  search,
  type Step,
  wholeCost,
} from "./shard/search.js";

export const shard: GraphPass = {
  name: "shard",
  doc: "Shares a graph out among the chips of a group, where that is asked for: pieces of weights, and exchanges where values meet.",
  run: (graph, { target, chips = 1, onSharded }) => {
    if (chips === 1) return graph;
    if (!isShareable({ graph, chips })) return refuse(graph, chips);
    const problem: Problem = { graph, chips, costs: costsOf(target, chips), price: 0 };
    const [whole, placed] = [wholeCost(problem), fitting(problem, target)];
    const pays = placed.cycles < whole.cycles || (isTooMuch(target, whole) && placed.bytes < whole.bytes);
    const result = pays ? shared(problem, placed) : graph;
    onSharded?.(factsOf({ result, chips, placed, whole, pays }));
    return result;
  },
};

/** Degrees that are named where one does not fit. */
const DEGREES: readonly number[] = [2, 3, 4, 5, 6, 8, 12, 16];

const refuse = (graph: Graph, chips: number): never => {
  const fits = DEGREES.filter((degree) => isShareable({ graph, chips: degree }));
  return fail("LPU2106", {
    message: `no product of the model has an axis that ${chips} chips divide`,
    hint: fits.length === 0 ? "build it for one chip" : `degrees that divide one: ${fits.join(", ")}`,
  });
};

/* ---------- what SRAM holds ---------- */

/** The part of SRAM that constants may fill; results need the rest. */
const SHARE = 0.9;
const isTooMuch = (target: Target, { bytes }: Cost): boolean => bytes > SHARE * sramBytes(target);

/** Prices of a byte that are tried where constants do not fit: from what its reading costs, a half more each time. */
const PRICES = 24;

/** The cheapest placements with which the constants fit, or the least of them. */
const fitting = (problem: Problem, target: Target): Placed => {
  let best = search(problem);
  let price = 1 / (2 * target.streams * target.lanes);
  for (let tries = 0; tries < PRICES && isTooMuch(target, best); tries += 1, price *= 1.5) {
    const next = search({ ...problem, price });
    if (next.bytes < best.bytes) best = next;
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
export const shared = ({ graph, chips }: Pick<Problem, "graph" | "chips">, placed: Placed): Graph =>
  new Sharded(graph, chips, placed).graph;

class Sharded {
  readonly graph: Graph;
  private readonly g = new Rewriter([], false);
  private readonly source: Graph;
  private readonly chips: number;
  /** Nodes of one chip's graph, by the value and where it lies. */
  private readonly made: Map<Placement, NodeId>[];

  constructor(source: Graph, chips: number, { steps }: Placed) {
    this.source = source;
    this.chips = chips;
    this.made = source.nodes.map(() => new Map());
    const stepOf = new Map(steps.map((step) => [step.node, step]));
    for (const node of source.nodes) {
      const step = stepOf.get(node.id);
      if (step === undefined)
        this.put(
          node.id,
          "whole",
          this.g.copy(node, () => 0),
        );
      else this.take(node, step);
    }
    this.graph = this.g.finish(source, (id) => this.left(id));
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
    const isGiven = node?.op === "constant" || node?.op === "input";
    invariant(isGiven && typeof placement === "number", `%${value} lies as the search says`);
    const whole = this.at(value, "whole");
    const id = this.g.from(node, () => this.g.emit("piece", [whole], { axis: placement, chips: this.chips }));
    this.put(value, placement, id);
    return id;
  }

  /** An output as the host takes it. */
  private left(value: NodeId): NodeId {
    const whole = this.placed(value).get("whole");
    if (whole !== undefined) return whole;
    const pieces = [...this.placed(value)].find(([placement]) => typeof placement === "number");
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

const factsOf = ({ result, chips, placed, whole, pays }: Choice): Sharding => {
  const exchanges = result.nodes.flatMap(({ op }) => (EXCHANGES.includes(op) ? [op] : []));
  const [chosen, other] = pays ? [placed, whole] : [whole, placed];
  return {
    chips: pays ? chips : 1,
    asked: chips,
    cycles: Math.round(chosen.cycles),
    constantBytes: chosen.bytes,
    exchanges: EXCHANGES.flatMap((op) => {
      const count = exchanges.filter((other) => other === op).length;
      return count === 0 ? [] : [{ op, count }];
    }),
    runnerUp: { chips: pays ? 1 : chips, cycles: Math.round(other.cycles), constantBytes: other.bytes },
  };
};
const EXCHANGES: readonly string[] = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"];
