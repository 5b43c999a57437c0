/**
 * The SRAM of all chips as one block of bytes, and which of its rows were ever written.
 *
 * Both machines and the host edge work on this: rows of `lanes` bytes, ordered by chip, hemisphere (W first), slice and row
 * address (bank * rowsPerBank + row). The bytes may lie inside a larger buffer (a WebAssembly memory) at `offset`.
 * Invariant: a row whose `written` byte is 0 has no defined contents (poison), and reading it is a fault. Whole-row writes
 * set it; a Scatter, which writes parts of rows chosen by data, does not.
 */

import type { ChipMemory } from "../ir/program.js";
import type { Hemisphere, Target } from "../ir/target.js";

export class Sram {
  readonly target: Target;
  readonly chips: number;
  /** Rows of one slice, both banks. */
  readonly rows: number;
  readonly bytes: Uint8Array;
  /** One byte for each row of every slice: 1 once the whole row was written. */
  readonly written: Uint8Array;

  constructor(target: Target, chips: number, buffer?: ArrayBufferLike, offset = 0) {
    const size = sramSize(target, chips);
    this.target = target;
    this.chips = chips;
    this.rows = 2 * target.rowsPerBank;
    this.bytes = new Uint8Array(buffer ?? new ArrayBuffer(size), offset, size);
    this.written = new Uint8Array(size / target.lanes);
  }

  /** Index of a row among all rows: `written[index]`; its bytes start at index * lanes. */
  rowIndex(chip: number, hemisphere: Hemisphere, slice: number, row: number): number {
    return ((chip * 2 + (hemisphere === "W" ? 0 : 1)) * this.target.slices + slice) * this.rows + row;
  }

  /** The bytes of consecutive rows of one slice. */
  span(chip: number, hemisphere: Hemisphere, slice: number, row: number, rows: number): Uint8Array {
    const start = this.rowIndex(chip, hemisphere, slice, row) * this.target.lanes;
    return this.bytes.subarray(start, start + rows * this.target.lanes);
  }

  markWritten(chip: number, hemisphere: Hemisphere, slice: number, row: number, rows: number): void {
    const start = this.rowIndex(chip, hemisphere, slice, row);
    this.written.fill(1, start, start + rows);
  }

  isWritten(chip: number, hemisphere: Hemisphere, slice: number, row: number): boolean {
    return this.written[this.rowIndex(chip, hemisphere, slice, row)] === 1;
  }
}

/** Bytes of SRAM of so many chips. */
export const sramSize = (target: Target, chips: number): number =>
  chips * 4 * target.slices * target.rowsPerBank * target.lanes;

/** Puts the constant blocks of all chips in their places. */
export function placeConstants(sram: Sram, chips: readonly Pick<ChipMemory, "constants">[]): void {
  chips.forEach(({ constants }, chip) => {
    for (const { hemisphere, slice, row, rows, bytes } of constants) {
      sram.span(chip, hemisphere, slice, row, rows).set(bytes());
      sram.markWritten(chip, hemisphere, slice, row, rows);
    }
  });
}
