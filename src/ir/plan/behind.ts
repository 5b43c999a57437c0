/**
 * Plans of several entries: what they number together. Lane maps and origins of a program are one list for all its entries, so
 * a later plan counts its own behind those of the plans before it.
 */

import type { Argument, Plan, Task } from "../plan.js";

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

/** The same plan, with states in both hemispheres: where each of several entries may want them. */
export const withSharedStates = (plan: Plan): Plan => {
  const shared = new Set(plan.states.flatMap(({ storage, next }) => [storage, next]));
  const storages = plan.storages.map((storage) =>
    shared.has(storage.id) ? { ...storage, bothHemispheres: true } : storage,
  );
  return { ...plan, storages };
};
