/**
 * Reading: brings rows of a panel onto streams, from whichever copy in a hemisphere is free at that time.
 *
 * A burst's rows may have been written by several tasks; it is cut into pieces at their chunks, and each piece is read from
 * its own copy. Constants (and inputs) get their place in a hemisphere at their first use there: where the ports are free
 * just then.
 */

import type { Copy } from "../place/chunk.js";
import { at, invariant } from "../../../diagnostics.js";
import type { Run, Storage, StorageId, PanelRef } from "../../../ir/plan.js";
import { findUnused } from "../chip/memory.js";
import { NEVER } from "../chip/resources.js";
import { memoriesOf } from "../chip/machine.js";
import { hold, pairChoices, rivalPairs } from "../place/rows.js";
import { sliceRowsOf } from "../figures.js";
import { apart, bookCopy, burstsOf, type Flight, later, type ReadPiece, readyOf, tryPorts } from "../chip/ports.js";
import { storagesAlike } from "../repeat/instances.js";
import { noRoom } from "../place/room.js";
import { chunksOf, isPacked, type Scheduler, storageOf } from "../state.js";

/** A constant of at most so many rows may have so many copies in a hemisphere. */
const SPARE_COPY_ROWS = 8;
const SPARE_COPIES = 6;

/** Cuts runs of rows of a panel at the chunks that hold them. */
export const piecesOf = (s: Scheduler, panel: PanelRef, runs: readonly Run[]): ReadPiece[] => {
  const chunks = chunksOf(s, panel);
  const pieces: ReadPiece[] = [];
  let offset = 0;
  for (const run of runs)
    for (let i = 0; i < run.count; ) {
      const row = run.row + i * run.step;
      const chunk = chunks.find((c) => c.row <= row && row < c.row + c.rows);
      invariant(chunk !== undefined, `row ${row} of ${storageOf(s, panel.storage).name} has been written`);
      const left = run.count - i;
      const end = chunk.row + chunk.rows;
      const count =
        run.step === 0
          ? left
          : Math.min(
              left,
              run.step > 0 ? Math.ceil((end - row) / run.step) : 1 + Math.floor((row - chunk.row) / -run.step),
            );
      pieces.push({ chunk, offset, row, step: count === 1 ? 0 : run.step, count });
      offset += count;
      i += count;
    }
  return pieces;
};

/** Delay that the readiness of the rows asks for, if the first vector passes the VXM's position at `diagonal`. */
export const waitFor = (s: Scheduler, pieces: readonly ReadPiece[], diagonal: number): number => {
  let worst = 0;
  // Slices lie at position 1 or further out, so this is on the safe side for what flies outward.
  for (const piece of pieces)
    worst = Math.max(worst, readyOf(piece) - (diagonal + 1 + piece.offset - s.target.timing.memRead));
  return worst;
};

/** Reads pieces of a panel, vector i on diagonal + i. Returns 0 or a delay. */
export const tryRead = (s: Scheduler, panel: PanelRef, pieces: readonly ReadPiece[], flight: Flight): number => {
  for (const piece of pieces) {
    const delay = tryPiece(s, panel, piece, later(flight, piece.offset));
    if (delay !== 0) return delay;
  }
  return 0;
};

/** As `tryRead`, of one piece; its first vector is the first of the flight. */
export const tryPiece = (s: Scheduler, panel: PanelRef, piece: ReadPiece, flight: Flight): number => {
  const { chunk } = piece;
  const run = { row: piece.row - chunk.row, step: piece.step, count: piece.count };
  let best = NEVER;
  let copies = 0;
  for (const copy of inTurn(s, chunk.copies)) {
    if (copy.side !== flight.half.side) continue;
    copies++;
    const bursts = apart(burstsOf(copy, run), flight);
    const delay = tryPorts(s, bursts, piece, flight);
    if (delay === 0) {
      bookCopy(s, panel, piece, copy, bursts, flight);
      return 0;
    }
    best = Math.min(best, delay);
  }
  const storage = storageOf(s, panel.storage);
  return mayHaveCopies(s, storage, copies) ? tryNewCopy(s, panel, piece, flight, best) : best;
};

/** Copies in the order in which they are asked: once waiting does not help, each is the first in its turn. */
const inTurn = ({ trial: { cornered, cursor } }: Scheduler, copies: readonly Copy[]): readonly Copy[] => {
  const first = cornered && copies.length > 0 ? cursor % copies.length : 0;
  return first === 0 ? copies : [...copies.slice(first), ...copies.slice(0, first)];
};

/**
 * Whether rows may be placed once more. A short constant may have several copies: bursts that read the same slices then still
 * run together. Others have one, unless the task that reads them would find no place.
 */
const mayHaveCopies = (s: Scheduler, { kind, rows }: Storage, copies: number): boolean => {
  if (kind === "temp" || kind === "state") return false;
  const inNeed = isPacked(s) ? s.trial.cornered : !s.trial.patient;
  return copies === 0 || (kind === "constant" && (rows <= SPARE_COPY_ROWS || inNeed) && copies < SPARE_COPIES);
};

/** `known`: the delay that the copies ask for, NEVER if there are none. */
const tryNewCopy = (s: Scheduler, panel: PanelRef, piece: ReadPiece, flight: Flight, known: number): number => {
  const { half } = flight;
  const { chunk } = piece;
  const storage = storageOf(s, panel.storage);
  const run = { row: piece.row - chunk.row, step: piece.step, count: piece.count };
  const alike = storagesAlike(s, storage.id);
  let best = NEVER;
  let room = false;
  for (const pairs of pairChoices(s, half, storage, rivalPairs(s, panel, half))) {
    const blocks = findUnused(s.target, memoriesOf(half, pairs), chunk.rows, alike.length);
    if (blocks.length === 0) continue;
    room = true;
    const copies = blocks.map((address): Copy => {
      const addresses = pairs.map(() => address);
      return { side: half.side, pairs, ways: 1, addresses, before: 0, lastRead: 0 };
    });
    const [copy] = copies;
    invariant(copy !== undefined, "each block is for a copy");
    const bursts = apart(burstsOf(copy, run), flight);
    const delay = tryPorts(s, bursts, piece, flight);
    if (delay === 0) {
      addCopies(s, panel, piece, alike, copies);
      bookCopy(s, panel, piece, copy, bursts, flight);
      return 0;
    }
    best = Math.min(best, delay);
  }
  if (room) return best;
  return known < NEVER ? known : noRoom(s, storage.name, sliceRowsOf(storage, chunk.rows));
};

/** Places rows of a constant, and those of its counterparts right behind them. */
const addCopies = (
  s: Scheduler,
  { panel, storage: own }: PanelRef,
  { chunk }: ReadPiece,
  alike: readonly StorageId[],
  places: readonly Copy[],
): void => {
  const { row, rows } = chunk;
  for (const [later, id] of alike.entries()) {
    const storage = storageOf(s, id);
    const place = places[later];
    const copies = chunksOf(s, { storage: id, panel }).find((other) => other.row === row)?.copies;
    invariant(place !== undefined && copies !== undefined, "counterparts have the same chunks");
    invariant(id === own || storage.rows >= row + rows, "counterparts have as many rows");
    hold(s, memoriesOf(s.halves[place.side], place.pairs), at(place.addresses, 0, "address"), rows);
    copies.push(place);
    s.trial.wants.push({ kind: "copy", copies, copy: place, rows });
  }
};
