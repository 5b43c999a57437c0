/**
 * Plans of several entries: what they number together. Lane maps and origins of a program are one list for all its entries, so
 * a later plan counts its own behind those of the plans before it.
 */

import { at } from "../../diagnostics.js";
import type { Argument, Plan, Storage, Task } from "../plan.js";

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

/** Plans of entries, whose states lie in both hemispheres where one of them wants that. */
export const withSharedStates = (plans: readonly Plan[]): readonly Plan[] => {
  const both = new Set(
    plans.flatMap(({ states, storages }) =>
      states.flatMap(({ name, storage }) => (at(storages, storage, "storage").bothHemispheres ? [name] : [])),
    ),
  );
  return plans.map((plan) => inBoth(plan, (name) => both.has(name)));
};

/** The same plan, with some of its states, and what takes their places, in both hemispheres. */
export const inBoth = (plan: Plan, isWanted: (state: string) => boolean): Plan => {
  const wanted = plan.states.filter(({ name }) => isWanted(name)).flatMap(({ storage, next }) => [storage, next]);
  const shared = new Set(wanted);
  const lasting = (storage: Storage): Storage => ({ ...storage, bothHemispheres: true });
  return { ...plan, storages: plan.storages.map((storage) => (shared.has(storage.id) ? lasting(storage) : storage)) };
};
