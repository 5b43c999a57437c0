/** Room for a model on a system, before anything of it is scheduled. */

import { at, CompileError } from "../diagnostics.js";
import type { Node } from "../ir/graph.js";
import { chipsIn, NODES, type SystemName, systemOf, systemWith } from "../ir/system.js";
import { sramBytes, type Target } from "../ir/target.js";
import { constantBytes } from "../passes/graph/shard/costs.js";
import { MOST_RESIDENT } from "../passes/stages/balance.js";
import { laidOut, type Peers, peersIn, placedOn, roomOf } from "./costs.js";
import { isOneOf, type Model } from "./model.js";
import type { PlanOptions } from "./options.js";
import { fewestStages, type PartCost } from "./stages.js";

/** Bytes of a chip that parts may fill; the ends of banks need the rest. */
export const capacityOf = (target: Target): number => MOST_RESIDENT * sramBytes(target);

/** What parts need of each of `tensor` chips at least: weights of products and states, as if they were shared out evenly. */
export const leastCosts = ({ parts, kinds, pasts }: Model, tensor: number): readonly PartCost[] => {
  const least = kinds.map(({ nodes }): PartCost => {
    const weights = new Set(nodes.filter(({ op }) => op === "matmul").map(({ inputs }) => at(inputs, 1, "operand")));
    const bytes = (own: readonly Node[]): number =>
      own.reduce((sum, { type }) => sum + constantBytes(type), 0) / tensor;
    const constants = bytes(nodes.filter(({ id, op }) => op === "constant" && weights.has(id)));
    const states = bytes(nodes.filter((node) => isOneOf(pasts, node)));
    return { cycles: 0, constants, states, results: 0 };
  });
  return parts.map(({ kind }) => at(least, kind, "kind"));
};

/**
 * The smallest system that has room for what parts need as they are laid out, which is more than the least, since rows are filled
 * up; undefined where no node has for one of them, or one cannot be laid out.
 */
export const smallestFor = (model: Model, target: Target, { tensor }: PlanOptions): SystemName | undefined => {
  const capacity = capacityOf(target);
  const isRoom = (name: SystemName, own: number, groups: number | undefined): groups is number =>
    groups !== undefined && (groups * own <= chipsIn(name) || name === NODES.at(-1));
  for (const name of NODES) {
    const own = tensor ?? chipsIn(name);
    if (!isRoom(name, own, fewestStages(leastCosts(model, own), capacity))) continue;
    const costs = laidOutCosts(model, target, peersIn(systemOf(name, target), own));
    const groups = costs === undefined ? undefined : fewestStages(costs, capacity);
    if (isRoom(name, own, groups)) return systemWith(groups * own);
  }
  return undefined;
};

/** What parts need of each chip by the plans that would be scheduled. */
export const laidOutCosts = (
  { parts, kinds, pasts }: Model,
  target: Target,
  peers: Peers,
): readonly PartCost[] | undefined => {
  try {
    const costs = kinds.map((kind): PartCost => {
      const { plan, kept } = laidOut(placedOn(kind, target, peers.length), target, peers, pasts);
      return { cycles: 0, ...roomOf(plan, target, pasts), states: kept.states };
    });
    return parts.map(({ kind }) => at(costs, kind, "kind"));
  } catch (error) {
    if (!(error instanceof CompileError) || error.code === "LPU5000") throw error;
    return undefined;
  }
};
