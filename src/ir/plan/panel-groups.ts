/**
 * Groups of panels: of a state, panels that the passes of a task take together. Each array takes states from its own hemisphere,
 * so a group lies in one, and groups may lie apart, that both arrays load at once.
 */

import { at } from "../../diagnostics.js";
import { panelsOf, type Storage, type StorageId, type Task } from "../plan.js";

/** By panel, the lowest panel of its group. */
export type PanelGroups = readonly number[];

/** Groups of every state. */
export const panelGroupsOf = (
  storages: readonly Pick<Storage, "id" | "kind" | "panels">[],
  tasks: readonly Task[],
): ReadonlyMap<StorageId, PanelGroups> => {
  const groups = new Map<StorageId, PanelGroups>(
    storages.filter(({ kind }) => kind === "state").map(({ id, panels }) => [id, Array.from(Array(panels).keys())]),
  );
  for (const { passes } of tasks)
    for (const [id, panels] of panelsTogether(passes.flatMap(panelsOf))) {
      const known = groups.get(id);
      if (known !== undefined && panels.length > 1)
        groups.set(
          id,
          panels.reduce((all, panel) => united(all, panel, at(panels, 0, "panel")), known),
        );
    }
  return groups;
};

const panelsTogether = (taken: ReturnType<typeof panelsOf>): ReadonlyMap<StorageId, readonly number[]> => {
  const found = new Map<StorageId, number[]>();
  for (const { storage, panel } of taken) {
    const known = found.get(storage);
    if (known === undefined) found.set(storage, [panel]);
    else if (!known.includes(panel)) known.push(panel);
  }
  return found;
};

/** The finest groups that keep together what either of two does. */
export const joinedPanelGroups = (some: PanelGroups, others: PanelGroups): PanelGroups =>
  others.reduce((all, group, panel) => united(all, panel, group), some);

/** The same groups, but for those of two panels, which are one. */
const united = (groups: PanelGroups, a: number, b: number): PanelGroups => {
  const [one, other] = [at(groups, a, "panel"), at(groups, b, "panel")];
  const [low, high] = [Math.min(one, other), Math.max(one, other)];
  return low === high ? groups : groups.map((group) => (group === high ? low : group));
};
