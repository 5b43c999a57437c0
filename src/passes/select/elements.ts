/**
 * Which columns of a storage its elements use, from all the views through which it is read: what a Plan says of its lanes.
 */

import { at } from "../../diagnostics.js";
import type { Lanes, Run } from "../../ir/plan.js";
import type { Located } from "./layout/operand.js";
import { factsOf } from "./padding.js";
import type { DraftStorage, Selection } from "./selection.js";

/** Lanes of every storage, by number. */
export const lanesOf = (s: Selection, storages: readonly DraftStorage[]): Lanes[] => {
  const columns: (Uint8Array | undefined)[] = [];
  const use = (storage: number, { view, repeated = [] }: Located): void => {
    const used = columns[storage] ?? new Uint8Array(at(storages, storage, "storage").panels * s.target.lanes);
    columns[storage] = used;
    if (repeated === "all") used.fill(1);
    else mark(used, [...view.dims.flat(), ...repeated].filter(isMoving), view.column);
  };
  const summands = [...s.summands.values()];
  for (const located of [...s.located.values(), ...s.copies.values(), ...summands.map(({ a }) => a)]) {
    // Digits of values are found by name alone, and use what the values use.
    if (located.view.dims.length !== located.shape.length) continue;
    use(located.storage, located);
    if (located.plus !== undefined) use(located.plus, located);
  }
  for (const { a, parts } of summands) for (const { storage } of parts) use(storage, a);
  return storages.map(({ id }) => {
    const used = columns[id];
    const { values } = factsOf(s, id);
    return used === undefined ? { values } : { values, columns: runsOf(used) };
  });
};

interface Digit {
  readonly extent: number;
  readonly column: number;
}

const isMoving = ({ column, extent }: Digit): boolean => column !== 0 && extent > 1;

/** Marks the columns that digits, from one on, lead to from a first one. */
const mark = (used: Uint8Array, digits: readonly Digit[], first: number, from = 0): void => {
  const digit = digits[from];
  if (digit === undefined) used[first] = 1;
  else if (from === digits.length - 1 && digit.column === 1) used.fill(1, first, first + digit.extent);
  else for (let i = 0; i < digit.extent; i++) mark(used, digits, first + i * digit.column, from + 1);
};

/** Columns that are used, as runs of neighbours. */
const runsOf = (used: Uint8Array): Run[] => {
  const runs: Run[] = [];
  for (let column = used.indexOf(1); column >= 0; ) {
    const end = used.indexOf(0, column);
    const count = (end < 0 ? used.length : end) - column;
    runs.push({ row: column, step: 1, count });
    column = used.indexOf(1, column + count);
  }
  return runs;
};
