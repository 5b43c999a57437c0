/**
 * SRAM of one chip while a program is scheduled: which rows of which slice pair are free, and from which cycle on.
 *
 * Slices are used in pairs of the same position (both bytes of an fp16 vector at the same rows), fp32 in two neighbouring
 * pairs. Constants and inputs lie there before cycle 0, so they take rows that no one has used; temporaries take rows again
 * after their last read. Constants fill from the top row down, temporaries from row 0 up. No block of rows crosses a bank.
 */

import { invariant } from "../diagnostics.js";
import type { Target } from "../ir/target.js";

const HELD = 0x7fffffff;

export interface PairMemory {
  /** Cycle from which each row is free; 0: never used. */
  readonly freeAt: Int32Array;
  /** Rows that have ever been held. */
  touched: number;
}

export const pairMemory = (target: Target): PairMemory => ({
  freeAt: new Int32Array(2 * target.rowsPerBank),
  touched: 0,
});

/** Where a block of rows is looked for: constants from the top row down; temporaries from row 0 of a bank up. */
export type Region = "top" | 0 | 1;

/** First row of a block that is free in all the given pairs from cycle `by` on, or -1. */
export const findRows = (
  target: Target,
  pairs: readonly PairMemory[],
  rows: number,
  by: number,
  region: Region,
): number => {
  const bank = target.rowsPerBank;
  if (rows > bank) return -1;
  if (region === "top") {
    const high = findDown(pairs, rows, by, bank, 2 * bank);
    return high >= 0 ? high : findDown(pairs, rows, by, 0, bank);
  }
  const end = (region + 1) * bank;
  for (let row = region * bank; row + rows <= end; ) {
    const blocker = lastBlocker(pairs, row, rows, by, false);
    if (blocker < 0) return row;
    row = blocker + 1;
  }
  return -1;
};

const findDown = (pairs: readonly PairMemory[], rows: number, by: number, start: number, end: number): number => {
  for (let row = end - rows; row >= start; ) {
    const blocker = lastBlocker(pairs, row, rows, by, true);
    if (blocker < 0) return row;
    row = blocker - rows;
  }
  return -1;
};

/** A row that is not free; the one that lets the search skip furthest. */
const lastBlocker = (pairs: readonly PairMemory[], row: number, rows: number, by: number, fromTop: boolean): number => {
  for (const { freeAt } of pairs)
    if (fromTop) {
      for (let r = row; r < row + rows; r++) if ((freeAt[r] as number) > by) return r;
    } else for (let r = row + rows - 1; r >= row; r--) if ((freeAt[r] as number) > by) return r;
  return -1;
};

export const holdRows = (pairs: readonly PairMemory[], row: number, rows: number): void => {
  for (const pair of pairs) {
    for (let r = row; r < row + rows; r++) if (pair.freeAt[r] === 0) pair.touched++;
    pair.freeAt.fill(HELD, row, row + rows);
  }
};

export const releaseRows = (pairs: readonly PairMemory[], row: number, rows: number, at: number): void => {
  invariant(
    pairs.every(({ freeAt }) => freeAt[row] === HELD && freeAt[row + rows - 1] === HELD),
    "rows that are released were held",
  );
  for (const pair of pairs) pair.freeAt.fill(at, row, row + rows);
};
