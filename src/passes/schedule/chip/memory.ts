/**
 * SRAM of one chip while a program is scheduled: which rows of which slice pair are free, and from which cycle on.
 *
 * Slices are used in pairs of the same position (both bytes of an fp16 vector at the same rows), fp32 in two neighbouring
 * pairs. Constants and inputs lie there before cycle 0, so they take rows that no one has used; temporaries take rows again
 * after their last read. Constants fill from the top row down, temporaries from row 0 up. No block of rows crosses a bank.
 */

import { at, invariant } from "../../../diagnostics.js";
import type { Target } from "../../../ir/target.js";

const HELD = 0x7fffffff;
/** Free before anything is dispatched. */
const TOUCHED = 1;

export type Bank = 0 | 1;

export interface PairMemory {
  /** Cycle from which each row is free; 0: never used. */
  readonly freeAt: Int32Array;
  /** Rows that have ever been held. */
  touched: number;
  /** By bank: the row from which on nothing will ever be free; for temporaries, which need not look there. */
  readonly ends: [number, number];
}

export const pairMemory = (target: Target): PairMemory => ({
  freeAt: new Int32Array(2 * target.rowsPerBank),
  touched: 0,
  ends: [target.rowsPerBank, 2 * target.rowsPerBank],
});

/** To be said when all that lasts has its place: what lies behind the last row that is free now. */
export const closeBanks = ({ rowsPerBank }: Target, { freeAt, ends }: PairMemory): void => {
  for (const bank of [0, 1] as const) {
    const start = bank * rowsPerBank;
    let end = start + rowsPerBank;
    while (end > start && freeAt[end - 1] === HELD) end--;
    ends[bank] = end;
  }
};

/** Where temporaries may lie: in the first rows of a bank, as many as `ceiling`. */
export interface TempSpace {
  readonly bank: Bank;
  readonly ceiling: number;
}

/** For temporaries: the lowest rows of a space that are free in all the given pairs from cycle `by` on; the first of them, or -1. */
export const findRows = (
  { rowsPerBank }: Target,
  pairs: readonly PairMemory[],
  rows: number,
  by: number,
  { bank, ceiling }: TempSpace,
): number => {
  const start = bank * rowsPerBank;
  let end = start + ceiling;
  for (const { ends } of pairs) end = Math.min(end, ends[bank]);
  for (let row = start; row + rows <= end; ) {
    const blocker = lastBlocker(pairs, row, rows, by, false);
    if (blocker < 0) return row;
    row = blocker + 1;
  }
  return -1;
};

/**
 * For what is there from cycle 0 on: the highest rows that nothing ever used, `blocks` blocks of them in one bank; the first of
 * each, or none; of `banks` the first that has them. The first `spared` rows of each bank are not asked. What is no longer
 * there when another entry has run may take rows that those before use: `mayBeTouched`.
 */
export const findUnused = (
  target: Target,
  pairs: readonly PairMemory[],
  rows: number,
  blocks: number,
  { spared = 0, mayBeTouched = false, banks = [1, 0] as readonly Bank[] } = {},
): number[] => {
  const by = mayBeTouched ? TOUCHED : 0;
  for (const bank of banks) {
    const start = bank * target.rowsPerBank;
    const found: number[] = [];
    for (let row = start + target.rowsPerBank - rows; row >= start + spared; ) {
      const blocker = lastBlocker(pairs, row, rows, by, true);
      if (blocker < 0) found.push(row);
      if (found.length === blocks) return found;
      row = (blocker < 0 ? row : blocker) - rows;
    }
  }
  return [];
};

/** A row that is not free; the one that lets the search skip furthest. */
const lastBlocker = (pairs: readonly PairMemory[], row: number, rows: number, by: number, fromTop: boolean): number => {
  for (const { freeAt } of pairs)
    if (fromTop) {
      for (let r = row; r < row + rows; r++) if ((freeAt[r] as number) > by) return r;
    } else for (let r = row + rows - 1; r >= row; r--) if ((freeAt[r] as number) > by) return r;
  return -1;
};

export const isFreeBy = (pair: PairMemory, row: number, rows: number, by: number): boolean =>
  lastBlocker([pair], row, rows, by, false) < 0;

/** Rows that are free, but that something has used. */
export const touchRows = (pairs: readonly PairMemory[], row: number, rows: number): void => {
  for (const { freeAt } of pairs)
    for (let r = row; r < row + rows; r++) freeAt[r] = Math.max(freeAt[r] as number, TOUCHED);
};

export const holdRows = (pairs: readonly PairMemory[], row: number, rows: number): void => {
  for (const pair of pairs) {
    for (let r = row; r < row + rows; r++) if (pair.freeAt[r] === 0) pair.touched++;
    pair.freeAt.fill(HELD, row, row + rows);
  }
};

/** Rows in which something lies. */
export const heldIn = ({ freeAt }: PairMemory): number =>
  freeAt.reduce((count, free) => count + Number(free === HELD), 0);

/** Rows that something has used. */
export const takenIn = ({ freeAt }: PairMemory): number => freeAt.reduce((count, free) => count + Number(free > 0), 0);

/** Whether something lies in the row at an address of each of some pairs. */
export const isHeld = (pairs: readonly PairMemory[], addresses: readonly number[]): boolean =>
  pairs.some(({ freeAt }, i) => freeAt[at(addresses, i, "address")] === HELD);

export const releaseRows = (pairs: readonly PairMemory[], row: number, rows: number, at: number): void => {
  invariant(
    pairs.every(({ freeAt }) => freeAt[row] === HELD && freeAt[row + rows - 1] === HELD),
    "rows that are released were held",
  );
  for (const pair of pairs) pair.freeAt.fill(at, row, row + rows);
};
