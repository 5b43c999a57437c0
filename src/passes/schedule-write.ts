/**
 * Writing: a result leaves the VXM on one stream for each hemisphere that keeps it, and slices that it flies past take it.
 *
 * What passes read is kept twice in a hemisphere, by slices one behind the other, so that passes have a choice. Rows of
 * weights to be are interleaved. All blocks of rows of a panel go to one pair, in turn to its two banks: one is written while
 * another is read.
 */

import type { Storage, Task, TaskOutput } from "../ir/plan.js";
import { findRows } from "./memory.js";
import { NEVER } from "./resources.js";
import { bankOf, type Half, memoriesOf, type PairGroup, pairAt } from "./schedule-machine.js";
import { hold, pairChoices, rivalPairs } from "./schedule-place.js";
import { bookWrite, burstsOf, type Flight, type PairBurst, spanOf } from "./schedule-ports.js";
import { chunksOf, type Copy, homesOf, type Scheduler, storageOf, widthOf } from "./schedule-state.js";
import { markOf, pickStreams, rollback } from "./schedule-trial.js";

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
  for (const side of homesOf(storage)) {
    const half = s.halves[side];
    const written = tryWriteHalf(s, { task, output, storage, half, given });
    if (typeof written === "number") {
      best = Math.min(best, written);
      continue;
    }
    streams.push(written.stream);
    copies.push(...written.copies);
  }
  if (streams.length < homesOf(storage).length) return best;
  const outermost = Math.max(...copies.flatMap(({ positions }) => positions));
  const ready = given + outermost + s.target.timing.memWrite;
  s.onCommit.push(() => {
    // Rows of one piece (outputs) have as many chunks as blocks of rows were written, all in one place.
    const shift = storage.output ? output.row : 0;
    const placed = copies.map(({ copy }) => (shift === 0 ? copy : { ...copy, address: copy.address + shift }));
    chunks.push({ row: output.row, rows: task.rows, ready, copies: placed });
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
  const second = s.feeders.has(storage.id) ? tryCopy(s, result, flight, first) : 0;
  const copies = typeof second === "number" ? [first] : [first, second];
  // Each vector flies on behind a slice if the other copy's slice for it lies further out.
  for (const written of copies)
    written.taps = written.positions.map((position, way) =>
      copies.some(({ positions }) => (positions[way] ?? 0) > position) ? 1 : 0,
    );
  return { stream, copies };
};

/** Writes one copy. `other`: a copy of the same rows in this hemisphere, which must lie in other slices. */
const tryCopy = (s: Scheduler, result: Result, flight: Flight, other: Written | undefined): Written | number => {
  const { task, output, storage, half, given } = result;
  // What the host reads has its place already.
  const own = storage.output ? chunksOf(s, output)[0]?.copies.find((copy) => copy.side === half.side) : undefined;
  const ways = s.interleaved.has(storage.id) && task.rows >= LOAD_WAYS ? LOAD_WAYS : 1;
  const { groups, banks } = own === undefined ? groupsFor(s, result, ways, other) : ownGroup(own);
  let best = NEVER;
  let room = false;
  for (const pairs of groups) {
    if (other?.copy.pairs.some((pair) => pairs.includes(pair))) continue;
    const positions = pairs.map((index) => pairAt(half, index).position);
    for (const bank of banks) {
      // Rows must be free from the first cycle in which any of the slices is written.
      const cycle = given + Math.min(...positions);
      const address =
        own?.address ?? findRows(s.target, memoriesOf(half, pairs), Math.ceil(task.rows / ways), cycle, bank);
      if (address < 0) continue;
      room = true;
      const first = storage.output ? address + output.row : address;
      const bursts = burstsOf({ pairs, ways, address: first }, { row: 0, step: 1, count: task.rows });
      const delay = writeDelay(s, bursts, flight);
      if (delay > 0) {
        best = Math.min(best, delay);
        continue;
      }
      if (own === undefined) hold(s, memoriesOf(half, pairs), address, Math.ceil(task.rows / ways));
      const lastRead = given + Math.max(...positions) + task.rows;
      const written: Written = { copy: { side: half.side, pairs, ways, address, lastRead }, positions, taps: [] };
      for (const burst of bursts)
        bookWrite(s, burst, writeCycle(burst, flight), flight, () => written.taps[pairs.indexOf(burst.pair)] ?? 0);
      return written;
    }
  }
  if (room) return best;
  if (other === undefined) s.starved = storage;
  return WAIT_FOR_ROOM;
};

interface Groups {
  /** Pairs, and the two halves of their rows, in the order in which they are tried. */
  readonly groups: readonly PairGroup[];
  readonly banks: readonly (0 | 1)[];
}

const ownGroup = ({ pairs }: Copy): Groups => ({ groups: [pairs], banks: [0, 1] });

const groupsFor = (
  s: Scheduler,
  { output, storage, half }: Result,
  ways: number,
  other: Written | undefined,
): Groups => {
  const rivals = rivalPairs(s, output, half);
  const choices = pairChoices(s, half, storage, rivals);
  if (ways > 1) return { groups: waysOf(half, choices, ways), banks: [0, 1] };
  const earlier = chunksOf(s, output);
  const copies = earlier.at(-1)?.copies.filter((copy) => copy.side === half.side && copy.ways === ways) ?? [];
  const last = copies[other === undefined ? 0 : 1]?.pairs;
  const banks = earlier.length % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
  return { groups: last === undefined || last.some((pair) => rivals.has(pair)) ? choices : [last, ...choices], banks };
};

/** Groups of `ways` different pairs, in the order of the choices. */
const waysOf = (half: Half, choices: readonly PairGroup[], ways: number): PairGroup[] => {
  if (half.pairs.length < ways) return [];
  const flat = choices.flat();
  const groups: PairGroup[] = [];
  for (let i = 0; i < flat.length; i += 2)
    groups.push(Array.from({ length: ways }, (_, way) => flat[(i + way) % flat.length] ?? 0));
  return groups;
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
