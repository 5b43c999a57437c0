/**
 * Writing: a result leaves the VXM on one stream for each hemisphere that keeps it, and slices that it flies past take it.
 *
 * What passes read is kept twice in a hemisphere, by slices one behind the other, so that passes have a choice. Rows of
 * weights to be are interleaved. All blocks of rows of a panel go to one pair, in turn to its two banks: one is written while
 * another is read.
 */

import { type Copy, rowsOfCopy } from "../place/chunk.js";
import type { Storage, Task, TaskOutput } from "../../../ir/plan.js";
import { findRows } from "../chip/memory.js";
import { NEVER } from "../chip/resources.js";
import { bankOf, type Half, memoriesOf, type PairGroup, pairAt, positionsOf } from "../chip/machine.js";
import { hold, pairChoices, rivalPairs, waysOf } from "../place/rows.js";
import { bookWrite, burstsOf, type Flight, type PairBurst, spanOf } from "../chip/ports.js";
import { sliceRowsOf, widthOf } from "../figures.js";
import { noRoom } from "../place/room.js";
import { chunksOf, homesOf, type Scheduler, storageOf } from "../state.js";
import { markOf, pickStreams, rollback } from "./trial.js";

/** Second copies are made as long as results take no more than this share of what they may. */
const PLENTY = 0.5;
/** Columns of computed weights that load in one cycle. */
const LOAD_WAYS = 4;
/** Cycles after which rows may have become free. */
const WAIT_FOR_ROOM = 64;

/** Stores a result that leaves the VXM at `given`. Returns one stream for each hemisphere that keeps it, or a delay. */
export const tryWrite = (s: Scheduler, task: Task, output: TaskOutput, given: number): number[] | number => {
  const storage = storageOf(s, output.storage);
  const chunks = chunksOf(s, output);
  const streams: number[] = [];
  const copies: Written[] = [];
  let best = NEVER;
  for (const side of homesOf(s, storage)) {
    const half = s.halves[side];
    const written = tryWriteHalf(s, { task, output, storage, half, given });
    if (typeof written === "number") {
      best = Math.min(best, written);
      continue;
    }
    streams.push(written.stream);
    copies.push(...written.copies);
  }
  if (streams.length < homesOf(s, storage).length) return best;
  const outermost = Math.max(...copies.flatMap(({ positions }) => positions));
  const ready = given + outermost + s.target.timing.memWrite;
  s.onCommit.push(() => {
    for (const { copy } of copies) if (!storage.output) s.wanted[copy.side] += rowsOfCopy(copy, task.rows);
    const chunk = { row: output.row, rows: task.rows, ready, copies: copies.map(({ copy }) => copy) };
    chunks.push(chunk);
    s.placed.chunks.push({ panel: output, chunk, given });
  });
  return streams;
};

/** A result on its way into one hemisphere. */
interface Result {
  readonly task: Task;
  readonly output: TaskOutput;
  readonly storage: Storage;
  readonly half: Half;
  /** Cycle in which its first vector stands on the VXM's stream registers. */
  readonly given: number;
}

/** A copy that is being written: for each of its slice pairs the position, and whether vectors fly on behind it. */
interface Written {
  readonly copy: Copy;
  readonly positions: readonly number[];
  taps: readonly (0 | 1)[];
}

const tryWriteHalf = (s: Scheduler, result: Result): { stream: number; copies: Written[] } | number => {
  const { task, storage, half, given } = result;
  const mark = markOf(s);
  const request = { half, use: "result", width: widthOf(storage), diagonal: given, length: task.rows } as const;
  const stream = pickStreams(s, request);
  if (stream < 0) return -stream;
  const flight: Flight = { half, inward: false, diagonal: given, stream, origin: task.origin };
  const first = tryCopy(s, result, flight, undefined);
  if (typeof first === "number") {
    rollback(s, mark);
    return first;
  }
  // The vector flies past all slices of the hemisphere: a second one may keep it too.
  const second =
    s.feeders.has(storage.id) && hasPlenty(s, half, first, task.rows) ? tryCopy(s, result, flight, first) : 0;
  const copies = typeof second === "number" ? [first] : [first, second];
  // Each vector flies on behind a slice if the other copy's slice for it lies further out.
  for (const written of copies)
    written.taps = written.positions.map((position, way) =>
      copies.some(({ positions }) => (positions[way] ?? 0) > position) ? 1 : 0,
    );
  return { stream, copies };
};

/** Whether results leave half of what they may take in a hemisphere, with two more copies there. */
const hasPlenty = (
  { target, ceiling, wanted }: Scheduler,
  { side, pairs }: Half,
  { copy }: Written,
  rows: number,
): boolean =>
  wanted[side] + 2 * rowsOfCopy(copy, rows) <= PLENTY * 2 * pairs.length * Math.min(ceiling, target.rowsPerBank);

/** Writes one copy. `other`: a copy of the same rows in this hemisphere, which must lie in other slices. */
const tryCopy = (s: Scheduler, result: Result, flight: Flight, other: Written | undefined): Written | number => {
  const model = modelCopy(s, result, other);
  if (model !== undefined) {
    const written = tryPlaces(s, result, flight, {
      groups: [model.pairs],
      banks: [bankOf(s.target, model.address)],
      ways: model.ways,
    });
    if (written !== NEVER) return written;
  }
  const places = placesFor(s, result, other);
  const written = tryPlaces(s, result, flight, places);
  if (written === NEVER) {
    if (other !== undefined) return WAIT_FOR_ROOM;
    // Rows may become free, but not those of what has readers without a place.
    if (!areRoomsAhead(s, result, places))
      noRoom(s, result.storage.name, sliceRowsOf(result.storage, result.task.rows));
    s.starved = result.storage;
    return WAIT_FOR_ROOM;
  }
  return written;
};

/** The copy that the model made in the place of this one. */
const modelCopy = (
  s: Scheduler,
  { task, output, half, storage }: Result,
  other: Written | undefined,
): Copy | undefined => {
  if (storage.output) return undefined;
  const written = s.model?.chunks[task.outputs.indexOf(output)]?.chunk.copies ?? [];
  const copy = written.filter(({ side }) => side === half.side)[other === undefined ? 0 : 1];
  if (copy === undefined) return undefined;
  const rivals = rivalPairs(s, output, half);
  return copy.pairs.some((pair) => rivals.has(pair) || other?.copy.pairs.includes(pair)) ? undefined : copy;
};

/** Writes a copy to the first of some places that can take it. Returns a delay if none can, NEVER if none has room. */
const tryPlaces = (s: Scheduler, result: Result, flight: Flight, places: Places): Written | number => {
  const { task, output, half, given } = result;
  const { groups, banks, ways, own } = places;
  const { ceiling } = s;
  let best = NEVER;
  for (const pairs of groups) {
    const positions = positionsOf(half, pairs);
    for (const bank of banks) {
      // Rows must be free from the first cycle in which any of the slices is written.
      const cycle = given + Math.min(...positions);
      const address =
        own?.address ??
        findRows(s.target, memoriesOf(half, pairs), Math.ceil(task.rows / ways), cycle, { bank, ceiling });
      if (address < 0) continue;
      const before = own === undefined ? 0 : output.row;
      const bursts = burstsOf({ pairs, ways, address, before }, { row: 0, step: 1, count: task.rows });
      // Rows of a state are taken once nothing reads them any more.
      const taken = own !== undefined && s.nexts.has(output.storage) ? own.lastRead - cycle : 0;
      const delay = Math.max(taken, writeDelay(s, bursts, flight));
      if (delay > 0) {
        best = Math.min(best, delay);
        continue;
      }
      if (own === undefined) hold(s, memoriesOf(half, pairs), address, Math.ceil(task.rows / ways));
      const lastRead = given + Math.max(...positions) + task.rows;
      const written: Written = {
        copy: { side: half.side, pairs, ways, address, before, lastRead },
        positions,
        taps: [],
      };
      for (const burst of bursts)
        bookWrite(s, burst, writeCycle(burst, flight), flight, () => written.taps[pairs.indexOf(burst.pair)] ?? 0);
      return written;
    }
  }
  return best;
};

/** Whether some of the places will have room at some time, by what is known now. */
const areRoomsAhead = (s: Scheduler, { task, half }: Result, { groups, banks, ways }: Places): boolean =>
  groups.some((pairs) =>
    banks.some(
      (bank) =>
        findRows(s.target, memoriesOf(half, pairs), Math.ceil(task.rows / ways), NEVER, { bank, ceiling: s.ceiling }) >=
        0,
    ),
  );

interface Places {
  /** Pairs, and the two halves of their rows, in the order in which they are tried. */
  readonly groups: readonly PairGroup[];
  readonly banks: readonly (0 | 1)[];
  readonly ways: number;
  /** Where an output lies. */
  readonly own?: Copy | undefined;
}

const placesFor = (s: Scheduler, result: Result, other: Written | undefined): Places => {
  const { task, output, storage, half } = result;
  // What the host reads has its place already.
  const own = storage.output ? chunksOf(s, output)[0]?.copies.find((copy) => copy.side === half.side) : undefined;
  const ways = s.interleaved.has(storage.id) && task.rows >= LOAD_WAYS ? LOAD_WAYS : 1;
  const places =
    own === undefined
      ? newPlaces(s, result, ways, other)
      : { groups: [own.pairs], banks: [bankOf(s.target, own.address)], ways: own.ways, own };
  if (other === undefined) return places;
  return { ...places, groups: places.groups.filter((pairs) => !other.copy.pairs.some((pair) => pairs.includes(pair))) };
};

const newPlaces = (
  s: Scheduler,
  { output, storage, half }: Result,
  ways: number,
  other: Written | undefined,
): Places => {
  const rivals = rivalPairs(s, output, half);
  const choices = pairChoices(s, half, storage, rivals);
  if (ways > 1) return { groups: waysOf(choices, ways), banks: [0, 1], ways };
  const earlier = chunksOf(s, output);
  const copies = earlier.at(-1)?.copies.filter((copy) => copy.side === half.side && copy.ways === ways) ?? [];
  const last = copies[other === undefined ? 0 : 1]?.pairs;
  const banks = earlier.length % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
  const groups = last === undefined || last.some((pair) => rivals.has(pair)) ? choices : [last, ...choices];
  return { groups, banks, ways };
};

const writeCycle = (burst: PairBurst, { half, diagonal }: Flight): number =>
  diagonal + pairAt(half, burst.pair).position + burst.delay;

/** 0 if the write ports are free for all bursts, or a delay. */
const writeDelay = (s: Scheduler, bursts: readonly PairBurst[], flight: Flight): number => {
  let delay = 0;
  for (const burst of bursts) {
    const pair = pairAt(flight.half, burst.pair);
    const cycle = writeCycle(burst, flight);
    const span = spanOf(burst);
    const conflict = s.figure.fit(pair.readBank[bankOf(s.target, burst.address)], cycle, span) - cycle;
    const issue = s.figure.free(pair.issue, cycle, 1) ? 0 : 1;
    delay = Math.max(delay, s.figure.fit(pair.write, cycle, span) - cycle, conflict, issue);
  }
  return delay;
};
