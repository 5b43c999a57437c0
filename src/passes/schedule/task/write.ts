/**
 * Writing: a result leaves the VXM on one stream for each hemisphere that keeps it, and slices that it flies past take it.
 *
 * What passes read is kept twice in a hemisphere, by slices one behind the other, so that passes have a choice. Rows of
 * weights to be are interleaved. All blocks of rows of a panel go to one pair, in turn to its two banks: one is written while
 * another is read.
 */

import { at } from "../../../diagnostics.js";
import { type Copy, lastReadIn, rowsOfCopy } from "../place/chunk.js";
import { LOAD_WAYS, type Storage, type Task, type TaskOutput, writtenBy } from "../../../ir/plan.js";
import { findRows, type PairMemory } from "../chip/memory.js";
import { NEVER } from "../chip/resources.js";
import { bankOf, type Half, memoriesOf, type PairGroup, pairAt, positionsOf } from "../chip/machine.js";
import { hold, pairChoices, rivalPairs, waysOf } from "../place/rows.js";
import { burstsOf, emitMemory, type Flight, later, type PairBurst, reserveWrite, spanOf } from "../chip/ports.js";
import { panelKey, sliceRowsOf, taskAt, widthOf } from "../figures.js";
import { noRoom } from "../place/room.js";
import { chunksOf, homesOf, isPacked, resultRoom, type Scheduler, storageOf } from "../state.js";
import { markOf, pickStreams, rollback } from "./trial.js";

/** Second copies are made as long as results take no more than this share of what they may. */
const PLENTY = 0.5;
/** Cycles after which rows may have become free. */
export const WAIT_FOR_ROOM = 64;

/** Rows of a result are divided no further. */
const SMALLEST_PART = 16;

/** Stores a result that leaves the VXM at `given`. Returns one stream for each hemisphere that keeps it, or a delay. */
export const tryWrite = (s: Scheduler, task: Task, output: TaskOutput, given: number): number[] | number => {
  const storage = storageOf(s, output.storage);
  const block: Block = { task, output, storage, row: output.row, rows: task.rows, given };
  const mark = markOf(s);
  const whole = tryBlock(s, block, undefined);
  if (whole !== NEVER) {
    if (typeof whole === "number") return whole;
    keep(s, block, whole);
    return whole.map(({ flight }) => flight.stream);
  }
  rollback(s, mark);
  const flights: Flight[] = [];
  for (const side of homesOf(s, storage, output.panel)) {
    const flight = pickFlight(s, block, s.halves[side]);
    if (typeof flight === "number") return flight;
    flights.push(flight);
  }
  const delay = tryParts(s, block, flights);
  return delay !== 0 ? delay : flights.map(({ stream }) => stream);
};

/** Rows of a result on their way: all, or those of a part. */
interface Block {
  readonly task: Task;
  readonly output: TaskOutput;
  readonly storage: Storage;
  readonly row: number;
  readonly rows: number;
  /** Cycle in which the first of them stands on the VXM's stream registers. */
  readonly given: number;
}

/** A block on its way into one hemisphere. */
interface Result extends Block {
  readonly half: Half;
}

/** A copy that is being written: by which bursts, and for each of its slice pairs the position. */
interface Written {
  readonly copy: Copy;
  readonly positions: readonly number[];
  readonly bursts: readonly PairBurst[];
}

/** What is written of a block in one hemisphere. */
interface WrittenHalf {
  readonly flight: Flight;
  readonly copies: readonly Written[];
}

/** Writes a block in one piece to each hemisphere that keeps it. Returns a delay, or NEVER if one of them will have no room for that. */
const tryBlock = (s: Scheduler, block: Block, flights: readonly Flight[] | undefined): WrittenHalf[] | number => {
  const homes = homesOf(s, block.storage, block.output.panel);
  const halves: WrittenHalf[] = [];
  let best = NEVER;
  for (const [index, side] of homes.entries()) {
    const written = tryHalf(s, { ...block, half: s.halves[side] }, flights?.[index]);
    if (written === NEVER) return NEVER;
    if (typeof written === "number") best = Math.min(best, written);
    else halves.push(written);
  }
  return halves.length < homes.length ? best : halves;
};

/** Writes a block in parts, as few as SRAM has room for. Returns 0 or a delay. */
const tryParts = (s: Scheduler, block: Block, flights: readonly Flight[]): number => {
  const { row, rows, given, storage } = block;
  if (rows <= SMALLEST_PART) return noRoom(s, storage.name, sliceRowsOf(storage, rows));
  const first = LOAD_WAYS * Math.ceil(rows / 2 / LOAD_WAYS);
  const parts = [
    { from: 0, rows: first },
    { from: first, rows: rows - first },
  ];
  for (const { from, rows: count } of parts) {
    const part: Block = { ...block, row: row + from, rows: count, given: given + from };
    const behind = flights.map((flight) => later(flight, from));
    const mark = markOf(s);
    const written = tryBlock(s, part, behind);
    if (written === NEVER) {
      rollback(s, mark);
      const delay = tryParts(s, part, behind);
      if (delay !== 0) return delay;
    } else if (typeof written === "number") return written;
    else keep(s, part, written);
  }
  return 0;
};

/** Makes a block known, if the trial is booked. */
const keep = (s: Scheduler, { output, row, rows, given }: Block, halves: readonly WrittenHalf[]): void => {
  const copies = halves.flatMap((half) => half.copies);
  const outermost = Math.max(...copies.flatMap(({ positions }) => positions));
  const ready = given + outermost + s.target.timing.memWrite;
  const chunk = { row, rows, ready, copies: copies.map(({ copy }) => copy) };
  s.trial.wants.push({ kind: "chunk", panel: output, chunk, given });
};

const pickFlight = (s: Scheduler, { task, storage, rows, given }: Block, half: Half): Flight | number => {
  const request = { half, use: "result", width: widthOf(storage), diagonal: given, length: rows } as const;
  const stream = pickStreams(s, request);
  return stream < 0 ? -stream : { half, inward: false, diagonal: given, stream, origin: task.origin };
};

const tryHalf = (s: Scheduler, result: Result, known: Flight | undefined): WrittenHalf | number => {
  const { storage, half, rows } = result;
  const mark = markOf(s);
  const flight = known ?? pickFlight(s, result, half);
  if (typeof flight === "number") return flight;
  const first = tryCopy(s, result, flight, undefined);
  if (typeof first === "number") {
    rollback(s, mark);
    return first;
  }
  // The vector flies past all slices of the hemisphere: a second one may keep it too.
  const second = s.feeders.has(storage.id) && hasPlenty(s, half, first, rows) ? tryCopy(s, result, flight, first) : 0;
  const copies = typeof second === "number" ? [first] : [first, second];
  // Each vector flies on behind a slice if the other copy's slice for it lies further out.
  for (const { positions, copy, bursts } of copies)
    for (const burst of bursts) {
      const way = copy.pairs.indexOf(burst.pair);
      const isPassed = copies.some((other) => at(other.positions, way, "position") > at(positions, way, "position"));
      emitMemory(s, "write", burst, writeCycle(burst, flight), flight, isPassed ? 1 : 0);
    }
  return { flight, copies };
};

/** Whether results leave half of what they may take in a hemisphere, with two more copies there. */
const hasPlenty = (s: Scheduler, half: Half, { copy }: Written, rows: number): boolean =>
  !isPacked(s) && s.wanted[half.side] + 2 * rowsOfCopy(copy, rows) <= PLENTY * resultRoom(s, half);

/**
 * Writes one copy. `other`: a copy of the same rows in this hemisphere, which must lie in other slices. Returns a delay, or NEVER
 * if there will be no room for all the rows together.
 */
const tryCopy = (s: Scheduler, result: Result, flight: Flight, other: Written | undefined): Written | number => {
  const model = modelCopy(s, result, other);
  if (model !== undefined) {
    const written = tryPlaces(s, result, flight, {
      groups: [model.pairs],
      banks: [bankOf(s.target, at(model.addresses, 0, "address"))],
      ways: model.ways,
      apart: false,
    });
    if (written !== NEVER) return written;
  }
  const places = placesFor(s, result, other);
  const written = tryPlaces(s, result, flight, places);
  const cornered = s.trial.cornered && isPacked(s);
  if (typeof written !== "number" || (written !== NEVER && !cornered)) return written;
  if (other !== undefined) return WAIT_FOR_ROOM;
  // Rows may become free, but not those of what has readers without a place.
  if (!cornered && isRoomBy(s, result, places, NEVER)) {
    s.trial.starved = result.storage;
    return waitForRoom(s, result, places);
  }
  if (s.strategy.thrift !== "all" && !isPacked(s))
    return noRoom(s, result.storage.name, sliceRowsOf(result.storage, result.rows));
  const inPieces = tryPlaces(s, result, flight, scattered(s, result, places));
  return cornered && typeof inPieces === "number" && result.rows > SMALLEST_PART ? NEVER : inPieces;
};

/** The copy that the model made in the place of this one. */
const modelCopy = (
  s: Scheduler,
  { task, output, half, storage, row }: Result,
  other: Written | undefined,
): Copy | undefined => {
  const { model } = s.trial;
  if (storage.output || model === undefined) return undefined;
  const alike = taskAt(s.plan, model.task).outputs[task.outputs.indexOf(output)];
  const written = model.chunks.find(({ panel, chunk }) => panel === alike && chunk.row === row)?.chunk.copies ?? [];
  const copy = written.filter(({ side }) => side === half.side)[other === undefined ? 0 : 1];
  if (copy === undefined) return undefined;
  const rivals = rivalPairs(s, output, half);
  return copy.pairs.some((pair) => rivals.has(pair) || other?.copy.pairs.includes(pair)) ? undefined : copy;
};

/** Writes a copy to the first of some places that can take it. Returns a delay if none can, NEVER if none has room. */
const tryPlaces = (s: Scheduler, result: Result, flight: Flight, places: Places): Written | number => {
  const { output, half, given } = result;
  const { groups, banks, ways, own } = places;
  const rows = Math.ceil(result.rows / ways);
  let best = NEVER;
  for (const pairs of groups) {
    const positions = positionsOf(half, pairs);
    for (const bank of banks) {
      // Rows must be free from the first cycle in which any of the slices is written.
      const cycle = given + Math.min(...positions);
      const addresses = own?.addresses ?? addressesFor(s, memoriesOf(half, pairs), rows, cycle, bank, places.apart);
      if (addresses === undefined) continue;
      const before = own === undefined ? 0 : output.row;
      const bursts = burstsOf(
        { pairs, ways, addresses, before },
        { row: 0, step: output.step ?? 1, count: result.rows },
      );
      // Rows of a state are taken once nothing reads them any more.
      const taken =
        own !== undefined && s.nexts.has(output.storage) ? lastReadIn(own, writtenBy(result, output)) - cycle : 0;
      const delay = Math.max(taken, writeDelay(s, bursts, flight));
      if (delay > 0) {
        best = Math.min(best, delay);
        continue;
      }
      if (own === undefined)
        for (const [i, memory] of memoriesOf(half, pairs).entries())
          hold(s, [memory], at(addresses, i, "address"), rows);
      const lastRead = given + Math.max(...positions) + result.rows;
      for (const burst of bursts) reserveWrite(s, burst, writeCycle(burst, flight), flight);
      return { copy: { side: half.side, pairs, ways, addresses, before, lastRead }, positions, bursts };
    }
  }
  return best;
};

/** Rows that are free from cycle `by` on: at one address in all pairs, or `apart`, in either bank of each; undefined if there are none. */
const addressesFor = (
  { target, ceiling: most }: Scheduler,
  memories: readonly PairMemory[],
  rows: number,
  by: number,
  bank: 0 | 1,
  apart: boolean,
): readonly number[] | undefined => {
  // What is longer than the rows that results keep to lies in none of these.
  const ceiling = rows > most ? target.rowsPerBank : most;
  const find = (some: readonly PairMemory[], within: 0 | 1): number =>
    findRows(target, some, rows, by, { bank: within, ceiling });
  const other = bank === 0 ? 1 : 0;
  if (!apart) {
    const address = find(memories, bank);
    return address < 0 ? undefined : memories.map(() => address);
  }
  const addresses = memories.map((memory) => Math.max(find([memory], bank), find([memory], other)));
  return addresses.every((address) => address >= 0) ? addresses : undefined;
};

/** Groups of pairs that have room each at an address of its own, for what finds one address in no group. */
const scattered = (s: Scheduler, { rows, half, given }: Result, { groups, banks, ways, own }: Places): Places => {
  const hasRoom = (pair: number): boolean => {
    const { position, memory } = pairAt(half, pair);
    return addressesFor(s, [memory], Math.ceil(rows / ways), given + position, 0, true) !== undefined;
  };
  const free = (): PairGroup[] => [...new Set(groups.flat())].filter(hasRoom).map((pair) => [pair]);
  const regrouped = ways === 1 ? groups : waysOf(free(), ways);
  return { groups: own === undefined ? regrouped : [], banks, ways, apart: true };
};

/** A delay in which none of the places gets room. Where room is short, rows may be free only long after. */
const waitForRoom = (s: Scheduler, result: Result, places: Places): number => {
  let wait = WAIT_FOR_ROOM;
  while (isPacked(s) && !isRoomBy(s, result, places, result.given + 2 * wait)) wait *= 2;
  return wait;
};

/** Whether some of the places have room from a cycle on, by what is known now. */
const isRoomBy = (s: Scheduler, { rows, half }: Result, { groups, banks, ways }: Places, by: number): boolean =>
  groups.some((pairs) =>
    banks.some(
      (bank) => addressesFor(s, memoriesOf(half, pairs), Math.ceil(rows / ways), by, bank, false) !== undefined,
    ),
  );

interface Places {
  /** Pairs, and the two halves of their rows, in the order in which they are tried. */
  readonly groups: readonly PairGroup[];
  readonly banks: readonly (0 | 1)[];
  readonly ways: number;
  /** Whether the pairs of a group may have an address each. */
  readonly apart: boolean;
  /** Where an output lies. */
  readonly own?: Copy | undefined;
}

const placesFor = (s: Scheduler, result: Result, other: Written | undefined): Places => {
  const { rows, output, storage, half } = result;
  // What the host reads has its place already.
  const own = storage.output ? chunksOf(s, output)[0]?.copies.find((copy) => copy.side === half.side) : undefined;
  const ways = s.interleaved.has(storage.id) && rows >= LOAD_WAYS ? LOAD_WAYS : 1;
  const places =
    own === undefined
      ? newPlaces(s, result, ways, other)
      : {
          groups: [own.pairs],
          banks: [bankOf(s.target, at(own.addresses, 0, "address"))],
          ways: own.ways,
          apart: false,
          own,
        };
  if (other === undefined) return places;
  return { ...places, groups: places.groups.filter((pairs) => !other.copy.pairs.some((pair) => pairs.includes(pair))) };
};

const newPlaces = (s: Scheduler, result: Result, ways: number, other: Written | undefined): Places => {
  const { output, storage, half, rows } = result;
  const rivals = rivalPairs(s, output, half);
  const all = pairChoices(s, half, storage, rivals);
  const isAlone = (pairs: PairGroup): boolean => !pairs.some((pair) => rivals.has(pair));
  const mayWait = (): boolean =>
    isRoomBy(s, result, { groups: all.filter(isAlone), banks: [0, 1], ways, apart: false }, NEVER);
  // Where room is short, a block goes in parts rather than to where it could not be read with others; what only the next run needs can wait.
  const keepsAlone = isPacked(s) ? rows > SMALLEST_PART : s.passing.has(storage.id) && mayWait();
  const choices = besideTiles(s, result, keepsAlone && rivals.size > 0 ? all.filter(isAlone) : all, isAlone);
  if (ways > 1) return { groups: waysOf(choices, ways), banks: [0, 1], ways, apart: false };
  const earlier = chunksOf(s, output);
  const copies = earlier.at(-1)?.copies.filter((copy) => copy.side === half.side && copy.ways === ways) ?? [];
  const last = s.passing.has(storage.id) ? undefined : copies[other === undefined ? 0 : 1]?.pairs;
  const banks = earlier.length % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
  const groups = last === undefined || last.some((pair) => rivals.has(pair)) ? choices : [last, ...choices];
  return { groups, banks, ways, apart: false };
};

/**
 * Choices in the order of how many tiles lie there that load while the rows pass through an array; those that hold a rival are still
 * the last. Only tiles of entries before this one have their places by then.
 */
const besideTiles = (
  s: Scheduler,
  { output, half }: Result,
  choices: readonly PairGroup[],
  isAlone: (pairs: PairGroup) => boolean,
): readonly PairGroup[] => {
  const tiles = s.tilesMeanwhile.get(panelKey(output));
  if (tiles === undefined) return choices;
  const lying = half.pairs.map(() => 0);
  for (const key of tiles)
    for (const pair of s.tiles[half.side].get(key)?.pairs ?? []) lying[pair] = at(lying, pair, "pair") + 1;
  const costOf = (pairs: PairGroup): number =>
    pairs.reduce((sum, pair) => sum + at(lying, pair, "pair"), isAlone(pairs) ? 0 : tiles.size * half.pairs.length);
  return [...choices].sort((a, b) => costOf(a) - costOf(b));
};

export const writeCycle = (burst: PairBurst, { half, inward, diagonal }: Flight): number =>
  diagonal + (inward ? -1 : 1) * pairAt(half, burst.pair).position + burst.delay;

/** 0 if the write ports are free for all bursts, or a delay. */
export const writeDelay = (s: Scheduler, bursts: readonly PairBurst[], flight: Flight): number => {
  let delay = 0;
  for (const burst of bursts) {
    const pair = pairAt(flight.half, burst.pair);
    const cycle = writeCycle(burst, flight);
    const span = spanOf(burst);
    const conflict = s.trial.figure.fit(pair.readBank[bankOf(s.target, burst.address)], cycle, span) - cycle;
    const issue = s.trial.figure.free(pair.issue, cycle, 1) ? 0 : 1;
    delay = Math.max(delay, s.trial.figure.fit(pair.write, cycle, span) - cycle, conflict, issue);
  }
  return delay;
};
