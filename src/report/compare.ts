/**
 * Two programs beside each other, by their overviews: bounds, layers and nodes of the same name are one row. What only one of
 * them has counts as nothing in the other. Every cycle belongs to one row, so that differences sum to that of the programs.
 */

import { BOUND_NAMES, type Bound } from "./bounds.js";
import type { Account } from "./nodes.js";
import { type Unit, UNITS } from "./bursts.js";
import type { Overview, UnitFigures } from "./overview.js";

/** Figures of this program minus those of the other. Cycles are of all chips. */
export interface Difference {
  readonly name: string;
  readonly in: "both" | "this" | "other";
  readonly cycles: number;
  readonly otherCycles: number;
  readonly difference: number;
  /** Of cycles by bound. */
  readonly bounds: Readonly<Record<Bound, number>>;
  /** Femtojoules of its bursts, by the model. */
  readonly energyDifference: number;
}

export interface Comparison {
  readonly other: string;
  readonly otherTarget: string;
  readonly otherCycles: number;
  /** Of the cycles of the longest chip. */
  readonly difference: number;
  /** Femtojoules of the whole program, by the model. */
  readonly energyDifference: number;
  readonly bounds: Readonly<Record<Bound, number>>;
  readonly units: Readonly<Record<Unit, UnitFigures>>;
  /** Those that differ most come first. */
  readonly layers: readonly Difference[];
  readonly nodes: readonly Difference[];
}

export function compareOverviews(own: Overview, other: Overview): Comparison {
  const cyclesOf = ({ bounds }: Overview, bound: Bound): number =>
    bounds.find(({ name }) => name === bound)?.cycles ?? 0;
  return {
    other: other.name,
    otherTarget: other.target,
    otherCycles: other.cycles,
    difference: own.cycles - other.cycles,
    energyDifference: own.energy.femtojoules - other.energy.femtojoules,
    bounds: byBound((bound) => cyclesOf(own, bound) - cyclesOf(other, bound)),
    units: byUnit((unit) => ({
      bursts: own.units[unit].bursts - other.units[unit].bursts,
      executions: own.units[unit].executions - other.units[unit].executions,
      vectors: own.units[unit].vectors - other.units[unit].vectors,
      energy: own.units[unit].energy - other.units[unit].energy,
    })),
    layers: differences(own.layers, other.layers),
    nodes: differences(own.nodes, other.nodes),
  };
}

const byUnit = (value: (unit: Unit) => UnitFigures): Readonly<Record<Unit, UnitFigures>> =>
  Object.fromEntries(UNITS.map((unit) => [unit, value(unit)])) as Record<Unit, UnitFigures>;

const byBound = (value: (bound: Bound) => number): Readonly<Record<Bound, number>> =>
  Object.fromEntries(BOUND_NAMES.map((bound) => [bound, value(bound)])) as Record<Bound, number>;

function differences(own: readonly Account[], others: readonly Account[]): readonly Difference[] {
  const [ownByName, otherByName] = [own, others].map(
    (accounts) => new Map(accounts.map((account) => [account.name, account])),
  ) as [Map<string, Account>, Map<string, Account>];
  return [...new Set([...ownByName.keys(), ...otherByName.keys()])]
    .map((name): Difference => {
      const [here, there] = [ownByName.get(name), otherByName.get(name)];
      const [cycles, otherCycles] = [here?.cycles ?? 0, there?.cycles ?? 0];
      return {
        name,
        in: here === undefined ? "other" : there === undefined ? "this" : "both",
        cycles,
        otherCycles,
        difference: cycles - otherCycles,
        bounds: byBound((bound) => (here?.bounds[bound] ?? 0) - (there?.bounds[bound] ?? 0)),
        energyDifference: (here?.energy ?? 0) - (there?.energy ?? 0),
      };
    })
    .sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
}
