/**
 * What the uses of storages ask of them, once all tasks are known: where they lie, what is read of them, and by whom.
 */

import { at } from "../../diagnostics.js";
import {
  isRepeated,
  loadedBy,
  type PanelRef,
  type PlanBinding,
  type PlanState,
  readsOf,
  type Storage,
  type StorageId,
  statesOf,
} from "../../ir/plan.js";
import { panelGroupsOf } from "../../ir/plan/panel-groups.js";
import { lanesOf } from "./elements.js";
import type { DraftStorage, Selection } from "./selection.js";

/** All storages, with their uses. */
export const usedStorages = (
  s: Selection,
  outputs: readonly PlanBinding[],
  states: readonly PlanState[],
): readonly Storage[] => {
  const read = new Set(s.tasks.flatMap((task) => [...readsOf(task)]));
  const taken = takenByUnits(s, new Set(states.map(({ next }) => next)));
  const lasting = new Set([...outputs.map(({ storage }) => storage), ...states.map(({ next }) => next)]);
  const together = statesTogether(s);
  for (const { storage, next } of states)
    for (const id of [storage, next])
      if (together.has(storage)) taken.add(id);
      else taken.delete(id);
  // What no reader of an input wants as it lies there has no panels.
  const isUnread = ({ id, kind }: DraftStorage): boolean => kind === "input" && !read.has(id);
  const storages = s.storages.map((storage) => (isUnread(storage) ? { ...storage, panels: 0 } : storage));
  const lanes = lanesOf(s, storages);
  const nexts = new Map(states.map(({ storage, next }) => [next, storage]));
  const groups = panelGroupsOf(s.storages, s.tasks);
  return storages.map((storage): Storage => {
    const { id, blocks } = storage;
    const output = lasting.has(id) || blocks !== undefined;
    const bothHemispheres = taken.has(id);
    const apart = bothHemispheres ? undefined : groups.get(nexts.get(id) ?? id);
    return {
      ...{ ...storage, bothHemispheres, output, lanes: at(lanes, id, "storage") },
      ...(apart?.some((group) => group > 0) === true ? { groups: apart } : {}),
    };
  });
};

/**
 * Storages of which an MXM or an SXM takes rows, or several chains of one operation the same row again and again, as long scores take
 * a mask: from one place no two of them could do so at once, and only constants have further copies where they are wanted; or chains
 * along with several panels of a state, which may lie in all slices of a hemisphere. What turns on
 * its way into a state waits for all that reads the state, in every layer, and nothing waits for it: it turns in the hemisphere in
 * which it lies.
 */
const takenByUnits = ({ tasks, storages }: Selection, nexts: ReadonlySet<StorageId>): Set<StorageId> => {
  const taken = new Set<StorageId>();
  const repeated = new Set<string>();
  const kindOf = (id: StorageId): Storage["kind"] => at(storages, id, "storage").kind;
  const beside = new Map<string, string>();
  for (const { passes, leaves, outputs, wire, origin } of tasks) {
    if (wire !== undefined) continue;
    for (const pass of passes) for (const id of [pass.storage, ...loadedBy(pass)]) taken.add(id);
    if (outputs.every(({ storage }) => nexts.has(storage))) continue;
    const state = leaves.find(({ storage }) => kindOf(storage) === "state");
    for (const leaf of leaves) {
      if (state !== undefined && kindOf(leaf.storage) === "temp") {
        const [key, panel] = [panelText(leaf), panelText(state)];
        if (beside.has(key) && beside.get(key) !== panel) taken.add(leaf.storage);
        beside.set(key, panel);
      }
      if (leaf.map !== undefined) taken.add(leaf.storage);
      if (!isRepeated(leaf)) continue;
      const row = `${panelText(leaf)}/${origin}`;
      if (repeated.has(row) && kindOf(leaf.storage) === "temp") taken.add(leaf.storage);
      repeated.add(row);
    }
  }
  return taken;
};

const panelText = ({ storage, panel }: PanelRef): string => `${storage}/${panel}`;

/** States of which the passes of one task take several: only those lie in both hemispheres, the others where their passes go. */
const statesTogether = (s: Selection): ReadonlySet<StorageId> =>
  new Set(
    s.tasks.flatMap((task) => {
      const states = statesOf(s.storages, task);
      return states.length > 1 ? states : [];
    }),
  );
