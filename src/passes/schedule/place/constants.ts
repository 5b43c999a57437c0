/**
 * Constants packed before anything has a time, where SRAM is short: what is left are whole stretches of rows.
 *
 * Where constants get their places as they are first used, results have taken rows between them by then, which no constant can
 * lie in any more. Here each constant lies once, from the top row of a bank down, and all banks keep as many rows for results
 * at their start; when the others are full, bank after bank gives up its own.
 */

import { at } from "../../../diagnostics.js";
import { type Half, memoriesOf, pairAt, type Side } from "../chip/machine.js";
import { closeBanks, findUnused, holdRows } from "../chip/memory.js";
import { isTile, type Leaf, loadedBy, type PackedTile, type Storage, type Task } from "../../../ir/plan.js";
import { CONSTANT_ROWS, executionsOf, rowsOfTile, sliceRowsOf } from "../figures.js";
import { chunksOf, type Scheduler, storageOf } from "../state.js";
import { constantPieces } from "./resident.js";
import { noRoom } from "./room.js";
import { pairChoices, rivalPairs } from "./rows.js";

export const placeConstants = (s: Scheduler): void => {
  const spared = sparedRows(s);
  // Long stretches first: what tiles leave at the ends of banks is short.
  placeRows(s, spared);
  for (const task of s.plan.tasks) placeTiles(s, task, spared);
  for (const { memory } of s.halves.flatMap(({ pairs }) => pairs)) closeBanks(s.target, memory);
};

/**
 * Rows of constants that something reads; what the VXM alone reads, though it may turn in an SXM on the way, in one hemisphere, but for
 * what goes along with rows of a state: those have no choice of places, so that this must have one.
 */
const placeRows = (s: Scheduler, spared: number): void => {
  const isState = ({ storage }: Leaf): boolean => storageOf(s, storage).kind === "state";
  const taken = new Set(
    s.plan.tasks.flatMap(({ passes, leaves }) => [
      ...passes.flatMap((pass) => [pass.storage, ...loadedBy(pass)]),
      ...(leaves.some(isState) ? leaves.map(({ storage }) => storage) : []),
    ]),
  );
  for (const [id, pieces] of constantPieces(s.plan)) {
    const storage = storageOf(s, id);
    const perPanel = Math.ceil(storage.rows / CONSTANT_ROWS);
    for (let panel = 0; panel < storage.panels; panel++) {
      const homes: readonly Side[] = taken.has(id) ? [0, 1] : [s.lasting[0] <= s.lasting[1] ? 0 : 1];
      for (const side of homes)
        for (let piece = 0; piece < perPanel; piece++)
          if (pieces.has(panel * perPanel + piece)) placePiece(s, storage, panel, piece, s.halves[side], spared);
    }
  }
};

/** Rows at the start of each bank that are kept for results as long as there are others: whole blocks of rows fit in them. */
const sparedRows = ({ target, resident }: Scheduler): number => {
  const banks = 4 * Math.floor(target.slices / 2);
  const left = target.rowsPerBank - resident / (2 * target.lanes * banks);
  return Math.max(0, Math.ceil(left / CONSTANT_ROWS)) * CONSTANT_ROWS;
};

/** Rows that are kept, in the order in which they are tried: banks give up as much as the others before one gives up more. */
const lessAndLess = (spared: number): readonly number[] =>
  spared === 0 ? [0] : [1, 3 / 4, 1 / 2, 1 / 4, 0].map((share) => Math.floor(share * spared));

/** Tiles of a task that have no place yet: all in one hemisphere, where others of it are, or where less lies. */
const placeTiles = (s: Scheduler, { passes, origin }: Task, spared: number): void => {
  const tiles = passes.flatMap(({ weights }) => (isTile(weights) ? [weights] : []));
  const missing = ({ side }: Half): PackedTile[] => tiles.filter(({ key }) => !s.tiles[side].has(key));
  const [west, east] = s.halves;
  if (missing(west).length === 0 || missing(east).length === 0) return;
  const more = missing(west).length - missing(east).length || s.lasting[0] - s.lasting[1];
  const half = more > 0 ? east : west;
  for (const tile of missing(half)) placeTile(s, tile, half, origin, spared);
};

const placeTile = (s: Scheduler, tile: PackedTile, half: Half, origin: number, spared: number): void => {
  if (s.tiles[half.side].has(tile.key)) return;
  const executions = executionsOf(tile, s.tilePairs);
  for (const kept of lessAndLess(spared)) {
    const pairs: number[] = [];
    const addresses: number[] = [];
    for (let i = 0; i < half.pairs.length && pairs.length < s.tilePairs; i++) {
      const pair = kept === 0 ? i : (s.trial.cursor + i) % half.pairs.length;
      const [address] = findUnused(s.target, [pairAt(half, pair).memory], executions, 1, { spared: kept });
      if (address === undefined) continue;
      pairs.push(pair);
      addresses.push(address);
    }
    if (pairs.length < s.tilePairs) continue;
    s.trial.cursor += s.tilePairs;
    for (const [way, pair] of pairs.entries())
      holdRows(memoriesOf(half, [pair]), at(addresses, way, "address"), executions);
    s.tiles[half.side].set(tile.key, { pairs, addresses });
    s.lasting[half.side] += rowsOfTile(tile, s.tilePairs);
    return;
  }
  noRoom(s, at(s.plan.origins, origin, "origin"), 2 * rowsOfTile(tile, s.tilePairs));
};

const placePiece = (s: Scheduler, storage: Storage, panel: number, piece: number, half: Half, spared: number): void => {
  const chunk = chunksOf(s, { storage: storage.id, panel })[piece];
  if (chunk === undefined) return;
  const choices = pairChoices(s, half, storage, rivalPairs(s, { storage: storage.id, panel }, half));
  for (const kept of lessAndLess(spared))
    for (const pairs of choices) {
      const [address] = findUnused(s.target, memoriesOf(half, pairs), chunk.rows, 1, { spared: kept });
      if (address === undefined) continue;
      holdRows(memoriesOf(half, pairs), address, chunk.rows);
      s.lasting[half.side] += chunk.rows * pairs.length;
      chunk.copies.push({
        side: half.side,
        pairs,
        ways: 1,
        addresses: pairs.map(() => address),
        before: 0,
        lastRead: 0,
      });
      return;
    }
  noRoom(s, storage.name, sliceRowsOf(storage, chunk.rows));
};
