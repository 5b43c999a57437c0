/**
 * The activity of a program in figures, as `lpu report --json` gives it: where the cycles go, what energy they take, and what
 * each layer and node has of both. Everything in it is plain data.
 */

import type { Mnemonic } from "../ir/isa.js";
import { sramBytes } from "../ir/target.js";
import type { Activity } from "./activity.js";
import { type Advice, adviceOf } from "./advice.js";
import { BOUNDS, BOUND_NAMES, type Bound, type Stretches } from "./bounds.js";
import { ENERGY_CLASSES, type EnergyClass, watts } from "./energy.js";
import { type Unit, UNITS, unitOf } from "./bursts.js";
import { type CriticalSummary, criticalSummary, type PathStep } from "./critical.js";
import { type Account, accountsByLayer, accountsByNode, cyclesByBound } from "./nodes.js";
import type { Power } from "./power.js";

/** Stands wherever a figure of energy or power is shown. */
const POWER_NOTE = "a model, calibrated to the published envelope, not measured";

export interface Overview {
  readonly name: string;
  readonly target: string;
  readonly clockMHz: number;
  readonly chips: number;
  readonly cycles: number;
  readonly microseconds: number;
  readonly bursts: number;
  /** Executions by instruction: the machine's own counters. */
  readonly executions: Readonly<Partial<Record<Mnemonic, number>>>;
  /** Of all cycles of all chips; shares sum to one. */
  readonly bounds: readonly {
    readonly name: Bound;
    readonly doc: string;
    readonly cycles: number;
    readonly share: number;
  }[];
  readonly energy: {
    readonly note: string;
    readonly femtojoules: number;
    readonly byClass: Readonly<Record<EnergyClass, number>>;
    readonly averageWatts: number;
    readonly wattsByClass: Readonly<Record<EnergyClass, number>>;
    /** Of the bin of `gridCycles` cycles that takes the most. */
    readonly peakWatts: number;
    readonly gridCycles: number;
  };
  /** Bytes. `peak` is the fullest moment, constants included. */
  readonly sram: { readonly constants: number; readonly peak: number; readonly capacity: number };
  readonly units: Readonly<Record<Unit, UnitFigures>>;
  readonly layers: readonly Account[];
  readonly nodes: readonly Account[];
  readonly advice: readonly Advice[];
  /** What waited for what, from the start to the end. */
  readonly critical: CriticalSummary;
}

/** Of the queues of one kind of unit, on all chips. */
export interface UnitFigures {
  readonly bursts: number;
  readonly executions: number;
  /** Byte vectors that they take from streams and give to them. */
  readonly vectors: number;
  /** Femtojoules, by the model. */
  readonly energy: number;
}

function unitsOf({ program, bursts }: Activity): Readonly<Record<Unit, UnitFigures>> {
  const sums = Object.fromEntries(
    UNITS.map((unit) => [unit, { bursts: 0, executions: 0, vectors: 0, energy: 0 }]),
  ) as Record<Unit, { -readonly [Key in keyof UnitFigures]: number }>;
  for (let burst = 0; burst < bursts.size; burst++) {
    const sum = sums[unitOf(program.target, bursts.queue[burst] as number)];
    sum.bursts++;
    sum.executions += bursts.count[burst] as number;
    sum.vectors += (bursts.taken[burst] as number) + (bursts.given[burst] as number);
    sum.energy += bursts.energy[burst] as number;
  }
  return sums;
}

export function overviewOf(
  activity: Activity,
  stretches: Stretches,
  power: Power,
  path: readonly PathStep[],
): Overview {
  const { program, cycles, bursts, memory, energy } = activity;
  const { target } = program;
  const all = cycles * program.chips.length;
  const byBound = cyclesByBound(stretches);
  const executions: Partial<Record<Mnemonic, number>> = {};
  for (const { op, count } of bursts.instructions) executions[op] = (executions[op] ?? 0) + count;
  return {
    name: program.name,
    target: target.name,
    clockMHz: target.clock,
    chips: program.chips.length,
    cycles,
    microseconds: cycles / target.clock,
    bursts: bursts.size,
    executions,
    bounds: BOUND_NAMES.map((name) => ({
      name,
      doc: BOUNDS[name].doc,
      cycles: byBound[name],
      share: all === 0 ? 0 : byBound[name] / all,
    })),
    energy: {
      note: POWER_NOTE,
      femtojoules: power.total,
      byClass: energy,
      averageWatts: power.averageWatts,
      wattsByClass: Object.fromEntries(
        ENERGY_CLASSES.map((kind) => [kind, watts(target, energy[kind], cycles)]),
      ) as Record<EnergyClass, number>,
      peakWatts: power.peakWatts,
      gridCycles: power.grid,
    },
    sram: {
      constants: memory.constants * target.lanes,
      peak: memory.peak * target.lanes,
      capacity: sramBytes(target) * program.chips.length,
    },
    units: unitsOf(activity),
    layers: accountsByLayer(activity, stretches),
    nodes: accountsByNode(activity, stretches),
    advice: adviceOf(activity, stretches),
    critical: criticalSummary(activity, path),
  };
}
