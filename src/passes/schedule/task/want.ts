/**
 * What a trial wants, as data: intervals of lines, and what is written down if it is booked. A trial is booked as a whole, or
 * dropped and leaves nothing behind (trial.ts).
 */

import type { PackedTile, PanelRef, Run, Storage } from "../../../ir/plan.js";
import type { TimedInstruction } from "../../../ir/program.js";
import type { Side } from "../chip/machine.js";
import type { PairMemory } from "../chip/memory.js";
import { Figure } from "../chip/resources.js";
import type { Chunk, Copy, TilePlace } from "../place/chunk.js";
import type { Placed, ReadSource, RowsSource } from "../repeat/placed.js";

/** One row for each thing that a trial may want. Rows of SRAM, and copies of constants, it has while it lasts: what follows sees them. */
export type Want =
  | {
      readonly kind: "dispatch";
      readonly queue: number;
      readonly instruction: TimedInstruction;
      readonly source: ReadSource | undefined;
    }
  /** Rows of a memory, from an address on, and what was known of them before. */
  | {
      readonly kind: "rows";
      readonly memory: PairMemory;
      readonly address: number;
      readonly freeAt: PairMemory["freeAt"];
      readonly touched: number;
    }
  /** A further copy of so many rows of a constant, among those that it has. */
  | { readonly kind: "copy"; readonly copies: Copy[]; readonly copy: Copy; readonly rows: number }
  | { readonly kind: "tile"; readonly tile: PackedTile; readonly side: Side; readonly place: TilePlace }
  /** So many more instances are to have a tile where one has this; a negative number, where they have it now. */
  | { readonly kind: "promise"; readonly tile: PackedTile; readonly side: Side; readonly instances: number }
  /** Rows of a copy are read before cycle `until`. */
  | {
      readonly kind: "read";
      readonly source: RowsSource;
      readonly copy: Copy;
      readonly rows: Run;
      readonly until: number;
    }
  /** Rows that a result becomes, which left the VXM at `given`. */
  | { readonly kind: "chunk"; readonly panel: PanelRef; readonly chunk: Chunk; readonly given: number };

/** How a task is tried. */
interface Manner {
  /** Whether it has not been tried often yet. */
  readonly patient: boolean;
  /** Whether nothing that was booked before is at work any more: what it waits for does not change. */
  readonly cornered: boolean;
  /** Placed of the same task in an earlier instance, whose choices are made again. */
  readonly model: Placed | undefined;
}

/** What a task wants at a cycle at which it is tried. */
export interface Trial extends Manner {
  readonly figure: Figure;
  /** In the order in which they came. */
  readonly wants: Want[];
  /** Where choices begin, so that work spreads over slices and hemispheres: it turns with every choice. */
  cursor: number;
  /** The storage for whose rows it found no room, if it did not. */
  starved: Storage | undefined;
}

export const newTrial = (cursor: number, manner: Manner = AT_EASE): Trial => ({
  ...manner,
  figure: new Figure(),
  wants: [],
  cursor,
  starved: undefined,
});

/** The trial after one that was booked or taken back, in the memory of that one: a schedule makes millions. */
export const nextTrial = ({ figure, wants }: Trial, cursor: number, { patient, cornered, model }: Manner): Trial => ({
  patient,
  cornered,
  model,
  figure,
  wants,
  cursor,
  starved: undefined,
});

const AT_EASE: Manner = { patient: true, cornered: false, model: undefined };
