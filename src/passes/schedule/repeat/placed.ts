/**
 * What placing one task changed, as data, so that it can be done again for the same task of a later instance
 * of a repeat (repeats.ts), some cycles later and with its own constants.
 */

import type { Chunk } from "../place/chunk.js";
import type { PanelRef, Run, StorageId } from "../../../ir/plan.js";
import type { TimedInstruction } from "../../../ir/program.js";
import type { Timeline } from "../chip/resources.js";
import type { Half, Side } from "../chip/machine.js";

/** Where rows that were read lie: in a copy of a chunk of a storage. */
export interface RowsSource {
  readonly storage: StorageId;
  readonly panel: number;
  readonly chunk: number;
  readonly copy: number;
}

/** In one of the pairs of a tile by which a pass of the task multiplies. */
export interface TileSource {
  readonly side: Side;
  readonly pass: number;
  readonly way: number;
}

export type ReadSource = RowsSource | TileSource;

export interface Dispatched {
  readonly queue: number;
  readonly instruction: TimedInstruction;
  /** What a Read reads. */
  readonly source: ReadSource | undefined;
}

export interface Placed {
  readonly task: number;
  /** Intervals that were booked. */
  readonly lines: Timeline[];
  readonly starts: number[];
  readonly ends: number[];
  readonly dispatched: Dispatched[];
  /** Chunks that were written, by a result that left the VXM at `given`. */
  readonly chunks: { readonly panel: PanelRef; readonly chunk: Chunk; readonly given: number }[];
  /** Rows of copies that were read before cycle `until`. */
  readonly reads: { readonly source: RowsSource; readonly rows: Run; readonly until: number }[];
  /** Whose array its passes took. */
  half: Half | undefined;
}

export const newPlaced = (task: number): Placed => ({
  task,
  lines: [],
  starts: [],
  ends: [],
  dispatched: [],
  chunks: [],
  reads: [],
  half: undefined,
});
