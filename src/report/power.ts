/**
 * Energy over time by unit: a model (energy.ts), calibrated to the published envelope, not measured.
 *
 * Time is cut into bins of equal cycles, the last one as long as is left. A burst spends its energy evenly over its
 * executions; femtojoules are whole, and what is cut falls to the later bin, so that bins add up to the energy of the program
 * exactly.
 */

import type { Activity } from "./activity.js";
import { UNITS, type Unit, unitOf } from "./bursts.js";
import { staticEnergy, watts } from "./energy.js";

export const POWER_ROWS = ["static", ...UNITS] as const;
export type PowerRow = "static" | Unit;

export interface Power {
  /** Cycles of a bin. */
  readonly grid: number;
  readonly bins: number;
  /** Femtojoules by bin; what a unit's results need to fly is with the unit. */
  readonly energy: Readonly<Record<PowerRow, Float64Array>>;
  /** Femtojoules of all bins and rows: the energy of the program. */
  readonly total: number;
  readonly averageWatts: number;
  /** Of the bin that takes the most; depends on the grid. */
  readonly peakWatts: number;
}

/** A grid that divides a program into about a thousand bins, and no finer than 16 cycles. */
const defaultGrid = (cycles: number): number => Math.max(16, Math.ceil(cycles / 1000));

export function powerOf(activity: Activity, grid: number = defaultGrid(activity.cycles)): Power {
  const { program, bursts, cycles } = activity;
  const { target } = program;
  const bins = Math.ceil(cycles / grid);
  const energy = Object.fromEntries(POWER_ROWS.map((row) => [row, new Float64Array(bins)])) as Record<
    PowerRow,
    Float64Array
  >;
  for (let bin = 0; bin < bins; bin++)
    energy.static[bin] = staticEnergy(target) * program.chips.length * binCycles(cycles, grid, bin);
  for (let burst = 0; burst < bursts.size; burst++) {
    const row = energy[unitOf(target, bursts.queue[burst] as number)];
    const [cycle, last] = [bursts.cycle[burst] as number, bursts.last[burst] as number];
    const [count, interval] = [bursts.count[burst] as number, bursts.interval[burst] as number];
    const whole = bursts.energy[burst] as number;
    let spent = 0;
    for (let bin = Math.floor(cycle / grid); bin <= Math.floor(last / grid); bin++) {
      const executed = Math.min(count, Math.ceil(((bin + 1) * grid - cycle) / interval));
      const until = Math.floor((whole * executed) / count);
      (row[bin] as number) += until - spent;
      spent = until;
    }
  }
  let [total, peakWatts] = [0, 0];
  for (let bin = 0; bin < bins; bin++) {
    const own = POWER_ROWS.reduce((sum, row) => sum + (energy[row][bin] as number), 0);
    total += own;
    peakWatts = Math.max(peakWatts, watts(target, own, binCycles(cycles, grid, bin)));
  }
  return { grid, bins, energy, total, averageWatts: watts(target, total, cycles), peakWatts };
}

export const binCycles = (cycles: number, grid: number, bin: number): number =>
  Math.min(cycles, (bin + 1) * grid) - bin * grid;
