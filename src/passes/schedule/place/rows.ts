/**
 * Where rows go: which pairs of slices may take them, in which order they are asked, and what is said if none has room.
 *
 * Panels that one burst reads together (rivals) are kept in different pairs as far as there are enough: a pair has one read
 * port. Apart from that places are taken in turn, so that work spreads over the slices.
 */

import { at } from "../../../diagnostics.js";
import type { Copy } from "./chunk.js";
import { LOAD_WAYS, type PanelRef, type Storage } from "../../../ir/plan.js";
import { findUnused, holdRows, isHeld, type PairMemory } from "../chip/memory.js";
import { type Half, memoriesOf, type PairGroup } from "../chip/machine.js";
import { panelKey, sliceRowsOf, widthOf } from "../figures.js";
import { chunksOf, isPacked, type Scheduler } from "../state.js";
import type { KeptPairs } from "../overlap.js";
import { noRoom } from "./room.js";

/** Places that follow one another in a choice are so many apart, if all are reached like that. */
const STRIDE = 5;
/** Groups of choices that follow one another begin so many choices apart. */
const WAYS_STRIDE = 2;

/** Pairs of one hemisphere that hold a rival of a panel, or once did, unless constants are packed and all others are needed. */
export const rivalPairs = (s: Scheduler, panel: PanelRef, half: Half): Set<number> => {
  const pairs = new Set<number>();
  for (const rival of s.rivals.get(panelKey(panel))?.values() ?? [])
    for (const pair of isPacked(s) ? heldPairsOf(s, rival, half) : pairsOf(s, rival, half)) pairs.add(pair);
  return pairs;
};

/** As `pairsOf`, but for rows that are free again. */
const heldPairsOf = (s: Scheduler, panel: PanelRef, half: Half): number[] =>
  chunksOf(s, panel)
    .flatMap(({ copies }) => copies)
    .filter(({ side, pairs, addresses }) => side === half.side && isHeld(memoriesOf(half, pairs), addresses))
    .flatMap(({ pairs }) => pairs);

/** Pairs of one hemisphere in which rows of a panel lie. */
export const pairsOf = (s: Scheduler, panel: PanelRef, half: Half): number[] => {
  const found: number[] = [];
  for (const { copies } of chunksOf(s, panel))
    for (const { side, pairs } of copies) if (side === half.side) found.push(...pairs);
  return found;
};

/**
 * Pairs (f16) or couples of pairs (f32), in rotation so that work spreads over the slices; those that hold a rival last, and what goes
 * over wires apart from all else, where pairs are kept for it.
 */
export const pairChoices = (s: Scheduler, half: Half, storage: Storage, rivals: ReadonlySet<number>): PairGroup[] => {
  const all = widthOf(storage) === 1 ? half.singles : half.couples;
  const places = s.kept === undefined ? all : all.filter(isFor(s.kept, storage));
  const stride = places.length % STRIDE === 0 ? 1 : STRIDE;
  s.trial.cursor = (s.trial.cursor + 1) % half.pairs.length;
  const choices: PairGroup[] = [];
  const last: PairGroup[] = [];
  for (let i = 0; i < places.length; i++) {
    const place = at(places, (s.trial.cursor + i * stride) % places.length, "place");
    // With many constants in one burst there may be no others left.
    if (rivals.size > 0 && place.some((pair) => rivals.has(pair))) last.push(place);
    else choices.push(place);
  }
  return last.length === 0 ? choices : [...choices, ...last];
};

const isFor =
  ({ storages, pairs }: KeptPairs, { id }: Storage) =>
  (place: PairGroup): boolean =>
    place.every((pair) => pairs[pair] === storages.get(id));

/** Holds rows for as long as the trial lasts, and from then on if it is booked. */
export const hold = (s: Scheduler, memories: readonly PairMemory[], address: number, rows: number): void => {
  for (const memory of memories) {
    const freeAt = memory.freeAt.slice(address, address + rows);
    s.trial.wants.push({ kind: "rows", memory, address, freeAt, touched: memory.touched });
  }
  holdRows(memories, address, rows);
};

/** Groups of so many of the choices, all different, one behind the other: where rows lie interleaved. */
export const waysOf = (choices: readonly PairGroup[], ways: number): PairGroup[] => {
  if (choices.length < ways) return [];
  const groups: PairGroup[] = [];
  for (let i = 0; i < choices.length; i += ways === 1 ? 1 : WAYS_STRIDE)
    groups.push(Array.from({ length: ways }, (_, way) => at(choices, (i + way) % choices.length, "choice")).flat());
  return groups;
};

/** Rows of a way from which on more ways are worth their pairs: loads are short then, and copies of a state still read neighbours. */
const LONG = 4;

/**
 * In how many ways rows lie that nothing else ever takes: one if they fit in a bank, or as few as they need, a power of two; and
 * as many as load at once, if they are weights.
 */
const lastingWays = ({ target, interleaved, tilePairs }: Scheduler, { id, rows }: Storage): number => {
  const needed = 2 ** Math.ceil(Math.log2(Math.max(1, rows / target.rowsPerBank)));
  if (!interleaved.has(id) || rows < LOAD_WAYS) return needed;
  let ways = tilePairs;
  while (ways > LOAD_WAYS && rows < LONG * ways) ways /= 2;
  return Math.max(needed, ways);
};

/** Whether pairs would have rows of a panel where a rival in as many ways has the same rows, so that no burst could read both. */
const meetingRival = (s: Scheduler, panel: PanelRef, half: Half, ways: number): ((pairs: PairGroup) => boolean) => {
  const rivals = [...(s.rivals.get(panelKey(panel))?.values() ?? [])]
    .flatMap((rival) => chunksOf(s, rival).flatMap(({ copies }) => copies))
    .filter((copy) => copy.side === half.side && copy.ways === ways);
  return (pairs) => rivals.some((rival) => rival.pairs.some((pair, index) => pair === pairs[index]));
};

/**
 * A place for all rows of a panel, that nothing else of the entry ever takes, and of a state nothing of any; all panels of a
 * storage lie in as many ways.
 */
export const lastingCopy = (s: Scheduler, storage: Storage, panel: number, half: Half): Copy => {
  const ways = lastingWays(s, storage);
  const rows = Math.ceil(storage.rows / ways);
  const own = { storage: storage.id, panel };
  const groups = waysOf(pairChoices(s, half, storage, rivalPairs(s, own, half)), ways);
  const meets = meetingRival(s, own, half, ways);
  const [apart, others] = [groups.filter((pairs) => !meets(pairs)), groups.filter(meets)];
  for (const pairs of [...apart, ...others]) {
    const memories = memoriesOf(half, pairs);
    const [address] = findUnused(s.target, memories, rows, 1, { mayBeTouched: storage.kind !== "state" });
    if (address === undefined) continue;
    holdRows(memories, address, rows);
    s.lasting[half.side] += rows * pairs.length;
    const place = { side: half.side, pairs, ways, addresses: pairs.map(() => address), before: 0, lastRead: 0 };
    return storage.kind === "state" ? { ...place, lastReadOf: new Int32Array(storage.rows) } : place;
  }
  return noRoom(s, storage.name, sliceRowsOf(storage, storage.rows));
};
