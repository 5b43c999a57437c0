/**
 * The activity by ONNX node and by layer: what each costs, and which of the program's cycles are its own.
 *
 * A burst belongs to the node that it was made from, as the program says it: in a chain of fused operations each has its own. A cycle
 * belongs to the node of the burst that has it (bounds.ts), so that cycles of nodes sum to the cycles of the program.
 */

import type { Activity } from "./activity.js";
import { BOUND_NAMES, type Bound, type Stretches } from "./bounds.js";
import { unitOf } from "./bursts.js";

export interface Account {
  /** ONNX node, or layer. */
  readonly name: string;
  readonly layer: string;
  readonly bursts: number;
  /** First dispatch, and one past the last. */
  readonly first: number;
  readonly end: number;
  /** Cycles that are its own, by bound and in total. */
  readonly bounds: Readonly<Record<Bound, number>>;
  readonly cycles: number;
  /** Multiply-accumulates of the MXM, padding included, and lane operations of ALUs. */
  readonly macs: number;
  readonly laneOperations: number;
  /** Bytes that cross a port of SRAM. */
  readonly sramBytes: number;
  /** Femtojoules of its bursts: a model, without what flows at any time. */
  readonly energy: number;
}

/** One account for each origin of the program, in its order; origins of one name are one. */
export function accountsByNode(activity: Activity, stretches: Stretches): readonly Account[] {
  return accounts(activity, stretches, (name) => name);
}

export function accountsByLayer(activity: Activity, stretches: Stretches): readonly Account[] {
  return accounts(activity, stretches, layerOf);
}

/** Mutable while it is added up. */
type OpenAccount = { -readonly [Key in keyof Account]: Account[Key] } & { bounds: Record<Bound, number> };

function accounts(activity: Activity, stretches: Stretches, keyOf: (name: string) => string): readonly Account[] {
  const { program, bursts } = activity;
  const { target } = program;
  const byKey = new Map<string, OpenAccount>();
  const own = program.origins.map((name) => {
    const key = keyOf(name);
    const sums = byKey.get(key) ?? emptySums(key, layerOf(name));
    byKey.set(key, sums);
    return sums;
  });
  const sumsOf = (burst: number): OpenAccount | undefined => own[bursts.origin[burst] ?? -1];
  for (let burst = 0; burst < bursts.size; burst++) {
    const sums = sumsOf(burst);
    if (sums === undefined) continue;
    const unit = unitOf(target, bursts.queue[burst] as number);
    sums.bursts++;
    sums.first = Math.min(sums.first, bursts.cycle[burst] as number);
    sums.end = Math.max(sums.end, (bursts.last[burst] as number) + 1);
    sums.energy += bursts.energy[burst] as number;
    if (unit === "mxm") sums.macs += bursts.operations[burst] as number;
    if (unit === "vxm") sums.laneOperations += bursts.operations[burst] as number;
    if (unit === "mem") sums.sramBytes += (bursts.count[burst] as number) * target.lanes;
  }
  for (let stretch = 0; stretch < stretches.size; stretch++) {
    const sums = sumsOf(stretches.burst[stretch] as number);
    const bound = BOUND_NAMES[stretches.bound[stretch] as number];
    if (sums === undefined || bound === undefined) continue;
    const cycles = (stretches.to[stretch] as number) - (stretches.from[stretch] as number);
    sums.bounds[bound] += cycles;
    sums.cycles += cycles;
  }
  return [...byKey.values()].filter(({ bursts }) => bursts > 0);
}

const emptySums = (name: string, layer: string): OpenAccount => ({
  name,
  layer,
  bursts: 0,
  first: Number.POSITIVE_INFINITY,
  end: 0,
  bounds: Object.fromEntries(BOUND_NAMES.map((bound) => [bound, 0])) as Record<Bound, number>,
  cycles: 0,
  macs: 0,
  laneOperations: 0,
  sramBytes: 0,
  energy: 0,
});

/**
 * The layer of a node by its name: the folders up to the first that has a number (`/encoder/layer.3` of
 * `/encoder/layer.3/output/Add`), else all of them; names without folders are one layer, `/`.
 */
export function layerOf(name: string): string {
  const first = name.split(" + ")[0] ?? name;
  const folders = first.split("/").slice(0, -1);
  const numbered = folders.findIndex((folder) => /\d/.test(folder));
  const layer = folders.slice(0, numbered < 0 ? folders.length : numbered + 1).join("/");
  return layer === "" ? "/" : layer;
}

/** Cycles of all chips by bound. */
export function cyclesByBound(stretches: Stretches): Readonly<Record<Bound, number>> {
  const sums = Object.fromEntries(BOUND_NAMES.map((bound) => [bound, 0])) as Record<Bound, number>;
  for (let stretch = 0; stretch < stretches.size; stretch++) {
    const bound = BOUND_NAMES[stretches.bound[stretch] as number];
    if (bound !== undefined) sums[bound] += (stretches.to[stretch] as number) - (stretches.from[stretch] as number);
  }
  return sums;
}
