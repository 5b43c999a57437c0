/**
 * Chips that share each product: a graph for a group becomes one plan and one schedule, which every chip runs with rows, links
 * and constants of its own.
 */

import { at, fail } from "./diagnostics.js";
import type { Graph } from "./ir/graph.js";
import { planOnChip, withPieces } from "./ir/plan/group.js";
import type { Plan } from "./ir/plan.js";
import type { Link, Program } from "./ir/program.js";
import { isSystem, linksBetween, type SystemName, systemOf } from "./ir/system.js";
import type { Target } from "./ir/target.js";
import { chipGraph } from "./passes/graph/shard/chip.js";
import { joinGroup } from "./passes/group/join.js";
import { schedule } from "./passes/schedule/schedule.js";
import { select } from "./passes/select/select.js";

export interface GroupProgram {
  readonly program: Program;
  /** The plan of each chip, as it was scheduled. */
  readonly plans: readonly Plan[];
}

/** Chips that are joined each to each. */
export interface Group {
  readonly target: Target;
  readonly chips: number;
  readonly links: readonly Link[];
}

interface GroupOptions {
  readonly tensor?: number | undefined;
  readonly system?: SystemName | undefined;
  readonly stages?: number | "auto" | undefined;
  readonly entries?: Readonly<Record<string, unknown>> | undefined;
  /** Inputs that stay on the chip. */
  readonly state?: "auto" | Readonly<Record<string, string>> | undefined;
}

/** The group that options ask for; undefined for one chip. LPU2007 if no node has so many chips, LPU2106 for what cannot be shared so far. */
export const groupOf = (options: GroupOptions, target: Target): Group | undefined => {
  const { tensor: chips = 1, system, stages = 1, entries = {}, state = {} } = options;
  if (chips === 1) return undefined;
  const node = `node${chips}`;
  if (!isSystem(node) || (system !== undefined && system !== node))
    return fail("LPU2007", {
      message: `expected 2, 4 or 8 chips of a node to share products, got ${chips}${system === undefined ? "" : ` on system '${system}'`}`,
    });
  const several = [
    ...(stages !== 1 ? [`${stages} stages`] : []),
    ...(Object.keys(entries).length > 1 ? ["several entries"] : []),
    ...(state === "auto" || Object.keys(state).length > 0 ? ["states"] : []),
  ];
  if (several.length > 0)
    fail("LPU2106", {
      message: `chips that share products have no ${several.join(", ")} so far`,
      hint: "build it without --tensor, or as one entry without --state and --stages",
    });
  return { target, chips, links: systemOf(node, target).links };
};

/** `onPlan`: called with the plan of the first chip before it is scheduled. */
export const groupProgram = (
  shared: Graph,
  { target, chips, links }: Group,
  onPlan: (plan: Plan) => void = () => undefined,
): GroupProgram => {
  const all = Array.from({ length: chips }, (_, chip) => chip);
  const to = (from: number, by: number): readonly number[] =>
    linksBetween({ links }, from, (from + by) % chips).map(({ fromLink }) => fromLink);
  const peers = all.map((by) => to(0, by));
  const { graph, inputs, outputs } = chipGraph(shared);
  const selected = select(graph, target, new Map(), [], peers);
  const planned = withPieces(selected, target.lanes, chips, inputs, outputs);
  onPlan(planned);
  const first = schedule(planned, target);
  const own = all.map((chip) => new Map(all.flatMap((by) => pairs(to(0, by), to(chip, by)))));
  const plans = all.map((chip) => planOnChip(first.plan, chip, at(own, chip, "chip")));
  return { program: joinGroup(first, plans, own, links), plans };
};

const pairs = (from: readonly number[], to: readonly number[]): [number, number][] =>
  from.map((link, index): [number, number] => [link, at(to, index, "link")]);
