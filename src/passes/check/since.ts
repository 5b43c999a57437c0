/**
 * Part of the proof that a Program is its Plan: since when what a burst gives is in the making.
 *
 * That is the first of the cycles in which a burst that it is made from begins, back to what is read from SRAM: along streams
 * and chains of ALUs, through the array to the products that were added up, and to the weights that were installed for them.
 */

import { at, sure } from "../../diagnostics.js";
import type { Accumulations } from "./arrays.js";
import type { Burst, CheckedChip } from "./burst.js";
import type { Taken } from "./streams.js";

interface Made {
  readonly chip: CheckedChip;
  readonly taken: Taken;
  /** Bursts of each ALU by their first cycle. */
  readonly alus: readonly ReadonlyMap<number, Burst>[];
  readonly accumulations: Accumulations;
}

/** By a burst whose values have been followed: the cycle. */
export const beginnings = (made: Made): ((burst: Burst) => number) => {
  const known = new Map<number, number>();
  const since = (burst: Burst): number => {
    const { number, instruction } = burst;
    const first = known.get(number) ?? Math.min(instruction.cycle, ...giversOf(made, burst).map(since));
    known.set(number, first);
    return first;
  };
  return since;
};

/** Bursts from which one takes what it works on. */
const giversOf = ({ chip, taken, alus, accumulations }: Made, { number, instruction }: Burst): Burst[] => {
  const givers = new Set<Burst>();
  const { flows, first, starts, lengths } = taken;
  for (let i = at(first, number, "burst"); i < (first[number + 1] ?? flows.length); i++) {
    const { before, width } = at(flows, i, "flow");
    for (let stream = before; stream < before + width; stream++) {
      const start = at(starts, stream, "stream");
      for (let piece = start; piece < start + at(lengths, stream, "stream"); piece++)
        givers.add(at(taken.givers, piece, "piece").burst);
    }
  }
  for (const operand of Object.values(instruction.fields))
    if (typeof operand === "object" && "alu" in operand) {
      const cycle = instruction.cycle - chip.target.timing.vxmAlu - operand.age;
      givers.add(sure(at(alus, operand.alu, "ALU").get(cycle), "operand"));
    }
  const sums = accumulations[number];
  for (const burst of sums === undefined ? [] : [sums.before, sums.product, ...sums.weights.loads])
    if (burst !== undefined) givers.add(burst);
  return [...givers];
};
