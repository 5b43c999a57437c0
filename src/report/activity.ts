/**
 * What every unit of every chip does at every time, from the Program alone: the model of which the report, the trace and the
 * power over time are views.
 *
 * All is kept by burst, in columns, and nothing by cycle. Energy is a model (energy.ts); all else is exact, since a static
 * schedule leaves nothing open.
 */

import type { EntryProgram } from "../ir/program.js";
import { type Bursts, burstsOf, programCycles } from "./bursts.js";
import { ENERGY_CLASSES, type EnergyClass, hopEnergy, staticEnergy } from "./energy.js";
import { type Flights, flightsOf } from "./flights.js";
import { type Memory, memoryOf } from "./memory.js";

export interface Activity {
  readonly program: EntryProgram;
  /** Of the chip that works longest. */
  readonly cycles: number;
  readonly bursts: Bursts;
  readonly flights: Flights;
  readonly memory: Memory;
  /** Femtojoules of the whole program by class. */
  readonly energy: Readonly<Record<EnergyClass, number>>;
}

export function activityOf(program: EntryProgram): Activity {
  const { target } = program;
  const cycles = programCycles(program);
  const energy = Object.fromEntries(ENERGY_CLASSES.map((kind) => [kind, 0])) as Record<EnergyClass, number>;
  const bursts = burstsOf(program, energy);
  const flights = flightsOf(program, bursts);
  const hop = hopEnergy(target);
  for (let flight = 0; flight < flights.size; flight++) {
    if (flights.tap[flight] === 1) continue;
    const from = flights.from[flight] as number;
    const flown = (flights.vectors[flight] as number) * (flights.hops[flight] as number) * hop;
    bursts.energy[from] = (bursts.energy[from] as number) + flown;
    energy.flight += flown;
  }
  energy.static = staticEnergy(target) * cycles * program.chips.length;
  return { program, cycles, bursts, flights, memory: memoryOf(program, bursts, cycles), energy };
}
