/**
 * Chunks: where rows of a storage lie, in one or several copies; and where a weight tile does.
 */

import { at } from "../../../diagnostics.js";
import type { Run } from "../../../ir/plan.js";
import type { PairGroup, Side } from "../chip/machine.js";

/**
 * Where rows of a storage lie in one hemisphere: in one pair of slices (f16) or two (f32), from an address of each on. What is
 * loaded as weights, and what one bank does not hold, is interleaved: row i of the place in way i % ways at row
 * floor(i / ways), so that several columns load at once. The pairs of one way stand together in `pairs`.
 */
export interface Copy {
  readonly side: Side;
  readonly pairs: PairGroup;
  readonly ways: number;
  /** The first row in each of the pairs. */
  readonly addresses: readonly number[];
  /** Rows of the place before the first of the block: blocks of an output are written into one place. */
  readonly before: number;
  /** One past the last cycle in which it is read (or written). */
  lastRead: number;
  /** Of a state, whose rows are taken one by one: the same for each of its rows. */
  readonly lastReadOf?: Int32Array;
}

/** Notes that some rows, counted from the start of the block, are read before cycle `until`. */
export const noteRead = (copy: Copy, { row, step, count }: Run, until: number): void => {
  copy.lastRead = Math.max(copy.lastRead, until);
  const { lastReadOf } = copy;
  if (lastReadOf === undefined) return;
  for (let i = 0; i < count; i++) {
    const own = row + i * step;
    lastReadOf[own] = Math.max(at(lastReadOf, own, "row"), until);
  }
};

/** One past the last cycle in which any of some rows is read; of what is no state, of all. */
export const lastReadIn = ({ lastRead, lastReadOf }: Copy, { row, step, count }: Run): number =>
  lastReadOf === undefined
    ? lastRead
    : Array.from({ length: count }, (_, i) => at(lastReadOf, row + i * step, "row")).reduce(
        (a, b) => Math.max(a, b),
        0,
      );

/** Rows of slice pairs that a copy of so many vectors takes. */
export const rowsOfCopy = ({ pairs, ways }: Pick<Copy, "pairs" | "ways">, rows: number): number =>
  pairs.length * Math.ceil(rows / ways);

/** Rows [row, row + rows) of a panel, written by one burst. */
export interface Chunk {
  readonly row: number;
  readonly rows: number;
  /**
   * First cycle in which a Read of `row` may be dispatched; row + i is ready i cycles later. 0: there before the program. Of blocks
   * of several chips the last: which of them a chip writes itself, and which it receives, is other on each chip.
   */
  ready: number;
  readonly copies: Copy[];
}

/** Where a weight tile lies: one address in each of its pairs. */
export interface TilePlace {
  readonly pairs: PairGroup;
  readonly addresses: readonly number[];
}
