/**
 * Where rows go: which pairs of slices may take them, in which order they are asked, and what is said if none has room.
 *
 * Panels that one burst reads together (rivals) are kept in different pairs as far as there are enough: a pair has one read
 * port. Apart from that places are taken in turn, so that work spreads over the slices.
 */

import type { Storage } from "../ir/plan.js";
import { findUnused, holdRows, type PairMemory } from "./memory.js";
import { type Half, memoriesOf, type PairGroup } from "./schedule-machine.js";
import { type PanelRef, panelKey } from "./schedule-plan.js";
import { chunksOf, type Copy, type Scheduler, sliceRowsOf, widthOf } from "./schedule-state.js";
import { noRoom } from "./schedule-room.js";

/** Places that follow one another in a choice are so many apart, if all are reached like that. */
const STRIDE = 5;

/** Pairs of one hemisphere that hold a rival of a panel. */
export const rivalPairs = (s: Scheduler, panel: PanelRef, half: Half): Set<number> => {
  const pairs = new Set<number>();
  for (const rival of s.rivals.get(panelKey(panel))?.values() ?? [])
    for (const pair of pairsOf(s, rival, half)) pairs.add(pair);
  return pairs;
};

/** Pairs of one hemisphere in which rows of a panel lie. */
export const pairsOf = (s: Scheduler, panel: PanelRef, half: Half): number[] =>
  chunksOf(s, panel).flatMap((chunk) => chunk.copies.flatMap((copy) => (copy.side === half.side ? copy.pairs : [])));

/** Pairs (f16) or couples of pairs (f32), in rotation so that work spreads over the slices; those that hold a rival last. */
export const pairChoices = (s: Scheduler, half: Half, storage: Storage, rivals: ReadonlySet<number>): PairGroup[] => {
  const places = widthOf(storage) === 1 ? half.singles : half.couples;
  const stride = places.length % STRIDE === 0 ? 1 : STRIDE;
  s.cursor = (s.cursor + 1) % half.pairs.length;
  const choices: PairGroup[] = [];
  const last: PairGroup[] = [];
  for (let i = 0; i < places.length; i++) {
    const place = places[(s.cursor + i * stride) % places.length] ?? [];
    // With many constants in one burst there may be no others left.
    if (rivals.size > 0 && place.some((pair) => rivals.has(pair))) last.push(place);
    else choices.push(place);
  }
  return last.length === 0 ? choices : [...choices, ...last];
};

/** Holds rows for as long as the trial lasts, and from then on if it is booked. */
export const hold = (s: Scheduler, memories: readonly PairMemory[], address: number, rows: number): void => {
  const before = memories.map((memory) => ({
    memory,
    freeAt: memory.freeAt.slice(address, address + rows),
    touched: memory.touched,
  }));
  holdRows(memories, address, rows);
  s.onAbort.push(() => {
    for (const { memory, freeAt, touched } of before) {
      memory.freeAt.set(freeAt, address);
      memory.touched = touched;
    }
  });
};

/** A place for all rows of a panel, that nothing else ever takes. */
export const lastingCopy = (s: Scheduler, storage: Storage, panel: number, half: Half): Copy => {
  const rivals = rivalPairs(s, { storage: storage.id, panel }, half);
  for (const pairs of pairChoices(s, half, storage, rivals)) {
    const memories = memoriesOf(half, pairs);
    const [address] = findUnused(s.target, memories, storage.rows, 1);
    if (address === undefined) continue;
    holdRows(memories, address, storage.rows);
    return { side: half.side, pairs, ways: 1, address, lastRead: 0 };
  }
  return noRoom(s, storage.name, sliceRowsOf(storage, storage.rows));
};
