/**
 * What goes from a group of chips to the next in a system, in cycles: a model from the table of systems, and no schedule.
 *
 * Rows leave over all wires between the two groups at once, and each goes on to the others of the group as soon as it is in
 * SRAM of the chip at the end of its wire, while the next ones come. Where no wire joins two groups, rows go over the chips
 * between, one after the other.
 */

import { at, fail } from "../diagnostics.js";
import type { System } from "../ir/system.js";
import { hopCycles, type Target } from "../ir/target.js";
import { hopsFrom } from "../system/routes.js";

/** What goes from a group of chips to the next takes this. */
export interface PlannedHop {
  /** Wires that join the two groups; none where others lie between. */
  readonly wires: number;
  /** Until all chips of the next group have everything. */
  readonly cycles: number;
  /** Cycles in which the wire that carries most is taken. */
  readonly busy: number;
}

/** Chips of each group, in their order. */
export type ChipGroups = readonly (readonly number[])[];

/** `vectors`: for each hop those, a byte of each lane, that every chip of a group has and every chip of the next is to have. */
export const hopsAlong = (
  system: System,
  target: Target,
  groups: ChipGroups,
  vectors: readonly number[],
): readonly PlannedHop[] => {
  const groupOf = new Map(groups.flatMap((chips, group) => chips.map((chip) => [chip, group] as const)));
  /** By group: how many wires lead into each chip of the next. */
  const ends = groups.map(() => new Map<number, number>());
  const inside = groups.map(() => 0);
  for (const { fromChip, toChip } of system.links) {
    const [from, to] = [groupOf.get(fromChip), groupOf.get(toChip)];
    if (from === undefined || to === undefined) continue;
    if (to === from) inside[from] = at(inside, from, "group") + 1;
    if (to === from + 1) at(ends, from, "group").set(toChip, 1 + (at(ends, from, "group").get(toChip) ?? 0));
  }
  const { linkInterval } = target.timing;
  return groups.slice(1).map((next, index): PlannedHop => {
    const own = at(groups, index, "group");
    const into = at(ends, index, "group");
    const wires = [...into.values()].reduce((sum, count) => sum + count, 0);
    const far = wires > 0 ? 1 : distance(system, own, next);
    const count = at(vectors, index, "hop");
    const across = linkInterval * Math.ceil(count / Math.max(1, wires));
    const arrived = Math.max(1, into.size);
    // Each two chips of a group are joined by as many wires.
    const joints = Math.max(1, at(inside, index + 1, "group") / Math.max(1, next.length * (next.length - 1)));
    const isSpread = next.length > 1 && count > 0;
    const spread = isSpread ? linkInterval * Math.ceil(Math.ceil(count / arrived) / joints) : 0;
    const hops = far + (isSpread ? 1 : 0);
    return { wires, cycles: Math.max(across, spread) + hops * hopCycles(target), busy: across };
  });
};

/** LPU2007 if no wires lead from one to the other. */
const distance = (system: System, from: readonly number[], to: readonly number[]): number => {
  const hops = from.map((chip) => {
    const all = hopsFrom(system, chip);
    return Math.min(...to.map((other) => at(all, other, "chip")));
  });
  const least = Math.min(...hops);
  if (least < Number.POSITIVE_INFINITY) return least;
  return fail("LPU2007", {
    message: `expected a way from chips ${from.join(", ")} of system '${system.name}' to chips ${to.join(", ")}, found none`,
    hint: "plan for a system in which fewer chips between them are dead",
  });
};
