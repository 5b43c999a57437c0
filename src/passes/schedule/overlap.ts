/**
 * Overlap: chips that work one behind the other begin the next run before they are done with the present one, so that the
 * arrays, which would wait for rows from a wire in the one, end the other meanwhile.
 *
 * The arrays begin no sooner than they can go on without waiting, and so that one run's use of them is over when the next one's
 * begins. All else that the begin of a run takes is taken of its end too (chip/resources.ts), and rows that it writes are
 * never free again. What goes over wires is sparse, a vector every few cycles for a long time: a bank in which it is read or
 * written could do hardly anything else, so there are pairs of slices for it alone. That the next run may begin then is not
 * argued here: passes/check/interval.ts derives it anew.
 */

import { at } from "../../diagnostics.js";
import type { Plan, StorageId } from "../../ir/plan.js";
import { spanOfWired, wireKey } from "../../ir/plan/wires.js";
import type { Target } from "../../ir/target.js";
import type { Half } from "./chip/machine.js";
import { touchRows } from "./chip/memory.js";
import type { NextRun } from "./chip/resources.js";
import { dependenciesOf } from "./dependencies.js";
import { widthOf } from "./figures.js";

/** Of one chip, in cycles of its own clock. */
export interface Overlap extends NextRun {
  /** The first cycle in which the arrays may work. */
  readonly from: number;
}

/**
 * The first cycle from which on the arrays need not wait for what comes over wires, if they do all else before: they are done as early
 * as if they began at once. `arrivals`: by `wireKey`, when the first vector is there.
 */
export const steadyFrom = (plan: Plan, target: Target, arrivals: ReadonlyMap<string, number>): number => {
  const { producers } = dependenciesOf(plan);
  const ready: number[] = [];
  for (const [index, task] of plan.tasks.entries()) {
    const given = arrivals.get(task.wire?.kind === "receive" ? wireKey(task) : "");
    const own = given === undefined ? 0 : given + spanOfWired(plan, target, task);
    ready.push(Math.max(own, ...at(producers, index, "task").map((before) => at(ready, before, "task"))));
  }
  const passes = plan.tasks
    .map(({ rows, passes }, index) => ({ ready: at(ready, index, "task"), work: (rows * passes.length) / 2 }))
    .filter(({ work }) => work > 0)
    .sort((a, b) => a.ready - b.ready);
  let [from, done] = [0, 0];
  for (const { ready: cycle, work } of passes) {
    from = Math.max(from, cycle - done);
    done += work;
  }
  return Math.round(from);
};

/* ---------- pairs of slices for what goes over wires ---------- */

/** What a pair of slices is for: rows that are received, in its first bank, or rows that are sent. */
export type WireUse = "received" | "sent";

/** Panels of a storage that is received, which one burst may read together, lie in so many pairs; what is sent is read a row at a time. */
const RIVALS = 4;

/** Storages whose rows go over wires, and by pair what it is kept for. */
export interface KeptPairs {
  readonly storages: ReadonlyMap<StorageId, WireUse>;
  readonly pairs: readonly (WireUse | undefined)[];
}

/** The outermost pairs, in couples: no more than half of them, or there are none. */
export const keptPairs = ({ storages, tasks }: Plan, { slices }: Target): KeptPairs | undefined => {
  const uses = new Map<StorageId, WireUse>();
  for (const { wire, leaves, outputs } of tasks) {
    if (wire === undefined) continue;
    for (const { storage } of leaves) uses.set(storage, "sent");
    for (const { storage } of outputs) uses.set(storage, "received");
  }
  const widest = (use: WireUse): number =>
    Math.max(0, ...[...uses].map(([id, own]) => (own === use ? widthOf(at(storages, id, "storage")) : 0)));
  const sent = widest("sent");
  const received = RIVALS * widest("received");
  const pairs = Math.floor(slices / 2);
  const inner = pairs - received - 2 * Math.ceil(sent / 2);
  if (2 * inner < pairs) return undefined;
  const useOf = (pair: number): WireUse | undefined => {
    if (pair >= pairs - sent) return "sent";
    return pair >= inner && pair < inner + received ? "received" : undefined;
  };
  return { storages: uses, pairs: Array.from({ length: pairs }, (_, pair) => useOf(pair)) };
};

/** Rows of a pair that constants may not have. */
const rowsKept = (use: WireUse | undefined, { rowsPerBank }: Target): number =>
  use === undefined ? 0 : use === "sent" ? 2 * rowsPerBank : rowsPerBank;

/** Rows of all pairs of a hemisphere that constants may not have. */
export const keptRows = ({ pairs }: KeptPairs, target: Target): number =>
  pairs.reduce((sum, use) => sum + rowsKept(use, target), 0);

/** Nothing that lasts finds room there. */
export const keepRows = ({ pairs }: KeptPairs, target: Target, half: Half): void => {
  for (const [pair, { memory }] of half.pairs.entries()) touchRows([memory], 0, rowsKept(pairs[pair], target));
};
