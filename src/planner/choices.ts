/** On which systems a plan is tried, and how many chips share products there. */

import { deadOf, chipsIn, DEGREES, groupsIn, isJoinable, NODES, type System, systemOf } from "../ir/system.js";
import type { Target } from "../ir/target.js";
import { fail } from "../diagnostics.js";
import type { PlanOptions } from "./options.js";

export interface Choice {
  readonly system: System;
  /** Chips of a group. */
  readonly tensor: number;
  /** Whether it may be a line of such nodes. */
  readonly grows: boolean;
}

/** The system that is asked for, or all of one node that could be, the smallest first; the last of these grows to a line. */
export const choicesOf = (target: Target, options: PlanOptions): readonly Choice[] => {
  const { system, tensor, stages = 1 } = options;
  const dead = deadOf(options);
  if (system !== undefined) {
    const given = systemOf(system, target, dead);
    return [{ system: given, tensor: tensorOf(given, tensor), grows: false }];
  }
  const largest = systemOf("node8", target);
  const nodes = NODES.filter((name) => isJoinable(name, target) && chipsIn(name) % (tensor ?? 1) === 0);
  const choices = nodes.flatMap((name): readonly Choice[] => {
    const node = systemOf(name, target);
    const grows = name === largest.name;
    // What as many chips do not hold that share products, they may hold one behind the other.
    const degrees = tensor !== undefined || grows ? [tensorOf(node, tensor)] : degreesOf(node).reverse();
    return degrees.map((own) => ({ system: node, tensor: own, grows }));
  });
  const wide = choices.filter(({ system: { chips }, tensor: own, grows }) => grows || chips >= stages * own);
  return wide.length > 0 ? wide : [{ system: largest, tensor: tensorOf(largest, tensor), grows: true }];
};

/** Chips that can share products, the fewest first. */
const degreesOf = (system: System): number[] =>
  DEGREES.filter((chips) => system.nodeChips % chips === 0 && groupsIn(system, chips).length > 0);

/** Chips of a group; groups do not reach beyond a node, and are of chips that work. */
const tensorOf = (system: System, asked: number | undefined): number => {
  const { name, nodeChips } = system;
  const possible = degreesOf(system);
  const tensor = asked ?? Math.max(...possible);
  const hint = `--tensor may be ${possible.join(", ")}`;
  if (nodeChips % tensor !== 0)
    return fail("LPU2007", {
      message: `expected a number of chips that divides the ${nodeChips} of a node of system '${name}' to share products, got ${tensor}`,
      hint,
    });
  if (groupsIn(system, tensor).length > 0) return tensor;
  return fail("LPU2007", {
    message: `expected a node of system '${name}' with ${tensor} chips that work, found none`,
    hint,
  });
};
