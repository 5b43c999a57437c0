/**
 * Plans of several entries: what they have together. Lane maps and origins of a program are one list for all its entries, so
 * a later plan counts its own behind those of the plans before it; and a state lies as all entries ask of it.
 */

import { at } from "../../diagnostics.js";
import type { Argument, Plan, Storage, Task } from "../plan.js";
import { joinedPanelGroups } from "./panel-groups.js";

/** The same plan, with the maps and origins of another before its own. */
export const behind = (plan: Plan, before: Plan): Plan => {
  const [maps, origins] = [before.maps.length, before.origins.length];
  const mapped = <T extends { readonly map?: number }>(part: T): T =>
    part.map === undefined ? part : { ...part, map: part.map + maps };
  const counted = <T extends { readonly origin?: number }>(part: T): T =>
    part.origin === undefined ? part : { ...part, origin: part.origin + origins };
  const argument = (arg: Argument): Argument => ("mxm" in arg ? mapped(arg) : arg);
  // Tasks that share their operations go on sharing them.
  const chains = new Map<Task["ops"], Task["ops"]>();
  const opsOf = (ops: Task["ops"]): Task["ops"] => {
    const known = chains.get(ops) ?? ops.map((op) => counted({ ...op, args: op.args.map(argument) }));
    chains.set(ops, known);
    return known;
  };
  const sums = [...(plan.turnedSums ?? [])].map(([map, range]) => [map + maps, range] as const);
  return {
    ...plan,
    maps: [...before.maps, ...plan.maps],
    turnedSums: new Map([...(before.turnedSums ?? []), ...sums]),
    origins: [...before.origins, ...plan.origins],
    tasks: plan.tasks.map((task) => ({
      ...task,
      ops: opsOf(task.ops),
      leaves: task.leaves.map(mapped),
      origin: task.origin + origins,
      ...(task.passOrigin === undefined ? {} : { passOrigin: task.passOrigin + origins }),
    })),
  };
};

/** What the entries of a program ask together of their states, which all have in the order of the first. */
export const withSharedStates = (plans: readonly Plan[]): readonly Plan[] => {
  const known = new Map<string, StatePlace>();
  for (const { states, storages } of plans)
    for (const { name, storage } of states) {
      const { bothHemispheres, groups } = at(storages, storage, "storage");
      known.set(name, joinedPlace(known.get(name), { bothHemispheres, groups }));
    }
  const order = [...known.keys()];
  return plans.map((plan) => ({
    ...withStatePlaces(plan, (name) => known.get(name)),
    states: [...plan.states].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name)),
  }));
};

/** Where a state lies, as all entries have it. */
type StatePlace = Pick<Storage, "bothHemispheres"> & { readonly groups: Storage["groups"] };

/** In both hemispheres where one of two wants that, and of the groups those that keep together what either does. */
const joinedPlace = (some: StatePlace | undefined, other: StatePlace): StatePlace => ({
  bothHemispheres: other.bothHemispheres || some?.bothHemispheres === true,
  groups:
    some === undefined || other.groups === undefined || some.groups === undefined
      ? (some ?? other).groups && other.groups
      : joinedPanelGroups(some.groups, other.groups),
});

/** The same plan, with some of its states, and what takes their places, in both hemispheres. */
export const inBoth = (plan: Plan, isWanted: (state: string) => boolean): Plan =>
  withStatePlaces(plan, (name) => (isWanted(name) ? { bothHemispheres: true, groups: undefined } : undefined));

/** The same plan, with states, and what takes their places, as told by name. */
const withStatePlaces = (plan: Plan, placeOf: (state: string) => StatePlace | undefined): Plan => {
  const places = new Map(
    plan.states.flatMap(({ name, storage, next }) => {
      const place = placeOf(name);
      return place === undefined ? [] : [storage, next].map((id) => [id, place] as const);
    }),
  );
  const placed = ({ groups: _, ...storage }: Storage, { bothHemispheres, groups }: StatePlace): Storage => ({
    ...storage,
    bothHemispheres,
    ...(bothHemispheres || groups === undefined ? {} : { groups }),
  });
  return {
    ...plan,
    storages: plan.storages.map((storage) => {
      const place = places.get(storage.id);
      return place === undefined ? storage : placed(storage, place);
    }),
  };
};
