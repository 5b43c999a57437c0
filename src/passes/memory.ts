/**
 * SRAM of one chip while a program is scheduled: which rows of which slice pair are free, and from which cycle on.
 *
 * Slices are used in pairs of the same position (both bytes of an fp16 vector at the same rows), fp32 in two neighbouring
 * pairs. Constants and inputs lie there before cycle 0, so they take rows that no one has used; temporaries take rows again
 * after their last read. Constants fill from the top row down, temporaries from row 0 up. No block of rows crosses a bank.
 */

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

/** First row of a block that is free in all the given pairs from cycle `by` on, or -1. */
export const findRows = (
  target: Target,
  pairs: readonly PairMemory[],
  rows: number,
  by: number,
  fromTop: boolean,
): number => {
  const total = 2 * target.rowsPerBank;
  const bank = target.rowsPerBank;
  if (rows > bank) return -1;
  let row = fromTop ? total - rows : 0;
  while (row >= 0 && row + rows <= total) {
    if (Math.floor(row / bank) !== Math.floor((row + rows - 1) / bank)) {
      row = fromTop ? bank - rows : bank;
      continue;
    }
    const blocker = lastBlocker(pairs, row, rows, by, fromTop);
    if (blocker < 0) return row;
    row = fromTop ? blocker - rows : blocker + 1;
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
  for (const pair of pairs) pair.freeAt.fill(at, row, row + rows);
};
