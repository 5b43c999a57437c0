/**
 * Part of the proof that a Program is its Plan: which products and weights every accumulation is made of.
 *
 * In fp16 both planes of a hemisphere work as one, driven by the queues of plane 0. That weights are ready, and that
 * accumulations and products meet, is proved in mxm.ts.
 */

import { at } from "../../diagnostics.js";
import { ARRAYS, arrayOf, modeOf } from "../../ir/isa.js";
import { mxmQueue } from "../../ir/program.js";
import type { Hemisphere } from "../../ir/target.js";
import type { Burst, CheckedChip } from "./burst.js";

/** Bursts that loaded what one IW installed, in order. */
export interface Installed {
  readonly loads: readonly Burst[];
}

/** What an ACC burst adds up. */
export interface Accumulation {
  /** The accumulation to whose sums it adds, row by row. */
  readonly before: Burst | undefined;
  readonly product: Burst;
  readonly weights: Installed;
}

/** By number of an ACC burst; of none whose products or sums are not those of one whole burst, in one set of weights. */
export type Accumulations = readonly (Accumulation | undefined)[];

export const accumulationsOf = (chip: CheckedChip): Accumulations => {
  const accumulations: (Accumulation | undefined)[] = new Array(chip.bursts);
  for (const hemisphere of ["W", "E"] as const) addHemisphere(chip, hemisphere, accumulations);
  return accumulations;
};

const addHemisphere = (
  chip: CheckedChip,
  hemisphere: Hemisphere,
  accumulations: (Accumulation | undefined)[],
): void => {
  const { target, queues } = chip;
  const queue = (part: 0 | 1 | 2): readonly Burst[] => at(queues, mxmQueue(target, hemisphere, 0, part), "queue");
  const products = productsOf(chip, queue(0), queue(1));
  /** The burst that set or added to each accumulator row last. */
  const rows: Burst[] = [];
  for (const burst of queue(2)) {
    const { cycle, count, interval } = burst.instruction;
    const row = rowOf(burst);
    const made = products.get(cycle - target.timing.mxmMultiply);
    const before = modeOf(burst.instruction) === "add" ? rows[row] : undefined;
    let whole = made?.product.instruction.count === count && made.product.instruction.interval === interval;
    if (before !== undefined) {
      whole &&= before.instruction.count === count && rowOf(before) === row;
      for (let i = 0; i < count; i++) whole &&= rows[row + i] === before;
    }
    if (made !== undefined && whole) accumulations[burst.number] = { before, ...made };
    for (let i = 0; i < count; i++) rows[row + i] = burst;
  }
};

const rowOf = ({ instruction }: Burst): number => Number(instruction.fields["row"]);

/** ABC bursts by cycle, with the weights that all of their vectors meet. */
const productsOf = (
  { target }: CheckedChip,
  loading: readonly Burst[],
  multiplying: readonly Burst[],
): Map<number, { readonly product: Burst; readonly weights: Installed }> => {
  const installs = installsOf(loading, target.timing.mxmInstall);
  const products = new Map<number, { product: Burst; weights: Installed }>();
  let next = 0;
  for (const product of multiplying) {
    const { cycle } = product.instruction;
    while ((installs[next]?.from ?? Number.POSITIVE_INFINITY) <= cycle) next++;
    const weights = installs[next - 1];
    const changed = (installs[next]?.from ?? Number.POSITIVE_INFINITY) <= product.last;
    if (weights !== undefined && !changed && ARRAYS[arrayOf(product.instruction)].joined)
      products.set(cycle, { product, weights });
  }
  return products;
};

const installsOf = (loading: readonly Burst[], delay: number): (Installed & { readonly from: number })[] => {
  const installs: (Installed & { readonly from: number })[] = [];
  let loads: Burst[] = [];
  for (const burst of loading) {
    const { op, cycle } = burst.instruction;
    if (op === "lw") loads.push(burst);
    if (op !== "iw") continue;
    installs.push({ loads, from: cycle + delay });
    loads = [];
  }
  return installs;
};
