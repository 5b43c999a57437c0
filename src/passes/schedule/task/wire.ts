/**
 * Wires: rows on their way to another chip, or from one.
 *
 * What is sent flies outward from its slices to the SXM and over links; what is received flies inward from the SXM past the
 * slices of its hemisphere, and on past the VXM into the other one, if both keep it. Which vector goes over which link and how
 * long after the first is a rule of the plan (ir/plan/wires.ts); what is found here is when the first one goes. A link takes vectors in
 * the order of the plan, and what the other chip has sent is received when it has arrived or later.
 */

import { DTYPES } from "../../../ir/dtype.js";
import { at as entryAt, invariant } from "../../../diagnostics.js";
import {
  type Leaf,
  LOAD_WAYS,
  type Run,
  type Storage,
  type Task,
  type TaskOutput,
  type Wire,
} from "../../../ir/plan.js";
import { type Dealing, dealingOf, linkOf, planeCycle, rowCycle, wireKey, wireSpan } from "../../../ir/plan/wires.js";
import { sxmQueue } from "../../../ir/program.js";
import { linkDelay } from "../../../ir/target.js";
import type { Copy } from "../place/chunk.js";
import { findRows } from "../chip/memory.js";
import { type Half, lineAt, memoriesOf, type PairGroup, positionsOf } from "../chip/machine.js";
import { apart, bookWrite, burstsOf, type Flight, type PairBurst, type ReadPiece } from "../chip/ports.js";
import { endOf, NEVER, type Timeline } from "../chip/resources.js";
import { sliceRowsOf, widthOf } from "../figures.js";
import { noRoom } from "../place/room.js";
import { hold, pairChoices, rivalPairs, waysOf } from "../place/rows.js";
import { chunksOf, homesOf, otherHalf, type Scheduler, storageOf } from "../state.js";
import { pickLine, sidesWith } from "./chain.js";
import { piecesOf, tryRead, waitFor } from "./read.js";
import { emit, markOf, pickStreams, rollback, slide } from "./trial.js";
import { WAIT_FOR_ROOM, writeCycle, writeDelay } from "./write.js";

/** Places a task that sends or receives; `late`: cycles that it waits at least. */
export const placeWire = (s: Scheduler, task: Task, wire: Wire, late: number): void => {
  const first = Math.max(s.target.timing.barrier, arrivalOf(s, task, wire)) + late;
  const [leaf] = task.leaves;
  const [output] = task.outputs;
  const place = leaf ?? output;
  invariant(place !== undefined, "a task sends or receives rows of a storage");
  const storage = storageOf(s, place.storage);
  const { bytes } = DTYPES[storage.dtype];
  const dealing = dealingOf(s.target, wire.links.length, bytes);
  const span = wireSpan(dealing, wire, task.rows, bytes);
  const transfer: Transfer = { task, wire, storage, bytes, dealing, span };
  if (leaf === undefined)
    slide(s, task, first, (at) => (output === undefined ? NEVER : tryReceive(s, transfer, output, at)));
  else {
    const at = slide(s, task, first, (start) => trySend(s, transfer, leaf, start));
    s.sent.set(wireKey(task), at);
  }
};

/** The first cycle in which what a task receives can be there. */
const arrivalOf = (s: Scheduler, task: Task, { kind, twin }: Wire): number => {
  if (twin !== true) return s.arrivals.get(wireKey(task)) ?? 0;
  const sent = s.sent.get(wireKey(task));
  return kind === "receive" && sent !== undefined ? sent + linkDelay(s.target) : 0;
};

interface Transfer {
  readonly task: Task;
  readonly wire: Wire;
  readonly storage: Storage;
  readonly bytes: number;
  readonly dealing: Dealing;
  /** Cycles from the first vector to the last, both counted. */
  readonly span: number;
}

/** Cycles that each plane is behind the first of its row. */
const behindOf = ({ dealing, bytes }: Transfer): number[] =>
  Array.from({ length: bytes }, (_, byte) => planeCycle(dealing, byte));

/* ---------- links ---------- */

/**
 * Takes the links of a transfer whose first vector goes at `at`, each for as long as its vectors take it up: `interval` cycles.
 * Returns 0 or a delay.
 */
const tryLinks = (
  s: Scheduler,
  transfer: Transfer,
  lines: readonly Timeline[],
  at: number,
  interval: number,
): number => {
  const { wire, task, bytes, dealing } = transfer;
  const uses = new Map<number, { start: number; end: number }>();
  for (let row = 0; row < task.rows; row++)
    for (let byte = 0; byte < bytes; byte++) {
      const cycle = at + rowCycle(dealing, wire, row) + planeCycle(dealing, byte);
      const link = linkOf(dealing, wire, row, byte);
      const { start, end } = uses.get(link) ?? { start: cycle, end: cycle };
      uses.set(link, { start: Math.min(start, cycle), end: Math.max(end, cycle) });
    }
  let delay = 0;
  for (const [index, { start }] of uses) delay = Math.max(delay, endOf(linkLine(wire, lines, index)) - start);
  if (delay > 0) return delay;
  for (const [index, { start, end }] of uses)
    s.trial.figure.add(linkLine(wire, lines, index), start, end - start + interval);
  return 0;
};

const linkLine = ({ links }: Wire, lines: readonly Timeline[], index: number): Timeline =>
  lineAt(lines, entryAt(links, index, "link"));

/** A queue of the SXM for each of the planes that go side by side; added to `units`. Returns 0 or a delay. */
const tryQueues = (s: Scheduler, { dealing, span }: Transfer, half: Half, at: number, units: number[]): number => {
  for (let group = 0; group < dealing.groups; group++) {
    const unit = pickLine(s, half.sxm, at, span);
    if (unit < 0) return -unit;
    units.push(unit);
  }
  return 0;
};

/** Dispatches a Send or Receive for each vector; `stream` is the first of the element's streams. */
const emitVectors = (
  s: Scheduler,
  { task, wire, bytes, dealing }: Transfer,
  half: Half,
  units: readonly number[],
  at: number,
  stream: number,
): void => {
  for (let row = 0; row < task.rows; row++)
    for (let byte = 0; byte < bytes; byte++) {
      const link = entryAt(wire.links, linkOf(dealing, wire, row, byte), "link");
      const cycle = at + rowCycle(dealing, wire, row) + planeCycle(dealing, byte);
      const queue = sxmQueue(s.target, half.hemisphere, entryAt(units, byte % dealing.groups, "queue"));
      emit(s, queue, cycle, { op: wire.kind, fields: { stream: stream + byte, link }, origin: task.origin });
    }
};

/** Rows of a task that go one after another without a gap. */
const trainsOf = ({ task, wire, dealing }: Transfer): Run[] => {
  const trains: Run[] = [];
  for (let row = 0; row < task.rows; ) {
    const count = Math.min(task.rows - row, dealing.size - ((wire.first + row) % dealing.size));
    trains.push({ row, step: 1, count });
    row += count;
  }
  return trains;
};

/* ---------- sending ---------- */

/** Sends rows, the first of them dispatched to its link at `at`. Returns 0 or a delay. */
const trySend = (s: Scheduler, transfer: Transfer, leaf: Leaf, at: number): number => {
  const { task, storage, span } = transfer;
  const pieces = departing(transfer, piecesOf(s, leaf, leaf.runs));
  const diagonal = at - s.target.sxm;
  const late = waitFor(s, pieces, diagonal);
  if (late > 0) return late;
  const busy = tryLinks(s, transfer, s.links.send, at, s.target.timing.linkInterval);
  if (busy > 0) return busy;
  let best = NEVER;
  for (const side of sidesWith(s, storage, pieces)) {
    const half = s.halves[side];
    const mark = markOf(s);
    const units: number[] = [];
    const stream = pickStreams(s, { half, use: "outward", width: widthOf(storage), diagonal, length: span });
    const flight: Flight = { half, inward: false, diagonal, stream, origin: task.origin, behind: behindOf(transfer) };
    const delay = stream < 0 ? -stream : tryQueues(s, transfer, half, at, units) || tryRead(s, leaf, pieces, flight);
    if (delay === 0) {
      emitVectors(s, transfer, half, units, at, stream);
      return 0;
    }
    best = Math.min(best, delay);
    rollback(s, mark);
  }
  return best;
};

/** Pieces of a send, cut where its trains are and with the cycles in which their rows go. */
const departing = (transfer: Transfer, pieces: readonly ReadPiece[]): ReadPiece[] =>
  trainsOf(transfer).flatMap((train) =>
    pieces.flatMap((piece) => {
      const from = Math.max(train.row, piece.offset);
      const count = Math.min(train.row + train.count, piece.offset + piece.count) - from;
      if (count <= 0) return [];
      const row = piece.row + (from - piece.offset) * piece.step;
      return [{ ...piece, row, count, offset: rowCycle(transfer.dealing, transfer.wire, from) }];
    }),
  );

/* ---------- receiving ---------- */

/** Receives rows, the first of them dispatched from its link at `at`. Returns 0 or a delay. */
const tryReceive = (s: Scheduler, transfer: Transfer, output: TaskOutput, at: number): number => {
  const { task, storage, span } = transfer;
  const { timing, sxm } = s.target;
  const busy = tryLinks(s, transfer, s.links.receive, at, 1);
  if (busy > 0) return busy;
  const homes = homesOf(s, storage, output.panel);
  const half = s.halves[homes.length === 1 ? entryAt(homes, 0, "hemisphere") : s.trial.cursor % 2 === 0 ? 0 : 1];
  const diagonal = at + timing.c2cReceive + sxm;
  const units: number[] = [];
  const queues = tryQueues(s, transfer, half, at, units);
  if (queues > 0) return queues;
  const use = homes.length === 1 ? "inward" : "through";
  const stream = pickStreams(s, { half, use, width: widthOf(storage), diagonal, length: span });
  if (stream < 0) return -stream;
  const flight: Flight = { half, inward: true, diagonal, stream, origin: task.origin, behind: behindOf(transfer) };
  const copies: Copy[] = [];
  for (const [index, own] of [half, otherHalf(s, half)].slice(0, homes.length).entries()) {
    const tap = index < homes.length - 1 ? 1 : 0;
    const copy = tryKeep(s, transfer, output, { ...flight, half: own, inward: index === 0 }, tap);
    if (typeof copy === "number") return copy;
    copies.push(copy);
  }
  const outermost = Math.max(...copies.map((copy) => copy.lastRead));
  // A row is ready when its last plane is; the rows of later trains are further behind.
  const ready = outermost - task.rows + timing.memWrite;
  const chunk = { row: output.row, rows: task.rows, ready, copies };
  s.trial.wants.push({ kind: "chunk", panel: output, chunk, given: diagonal });
  emitVectors(s, transfer, half, units, at, stream);
  return 0;
};

/** Writes what is received in one hemisphere, as it flies past. Returns the copy, or a delay. */
const tryKeep = (s: Scheduler, transfer: Transfer, output: TaskOutput, flight: Flight, tap: 0 | 1): Copy | number => {
  const { task, storage, span } = transfer;
  const { half, inward, diagonal } = flight;
  const own = storage.output ? chunksOf(s, output)[0]?.copies.find((copy) => copy.side === half.side) : undefined;
  if (own !== undefined) return tryOwn(s, transfer, { ...own, before: output.row }, flight, tap);
  const ways = s.interleaved.has(storage.id) && task.rows >= LOAD_WAYS ? LOAD_WAYS : 1;
  const rows = Math.ceil(task.rows / ways);
  const choices = waysOf(pairChoices(s, half, storage, rivalPairs(s, output, half)), ways);
  let best = NEVER;
  for (const pairs of choices) {
    const positions = positionsOf(half, pairs).map((position) => (inward ? -position : position));
    const cycle = diagonal + Math.min(...positions);
    for (const bank of [0, 1] as const) {
      const address = findRows(s.target, memoriesOf(half, pairs), rows, cycle, { bank, ceiling: s.ceiling });
      if (address < 0) continue;
      const addresses = pairs.map(() => address);
      const bursts = arriving(transfer, { pairs, ways, addresses, before: 0 }, flight);
      const delay = writeDelay(s, bursts, flight);
      if (delay > 0) {
        best = Math.min(best, delay);
        continue;
      }
      hold(s, memoriesOf(half, pairs), address, rows);
      for (const burst of bursts) bookWrite(s, burst, writeCycle(burst, flight), flight, tap);
      const lastRead = diagonal + Math.max(...positions) + span;
      return { side: half.side, pairs, ways, addresses, before: 0, lastRead };
    }
  }
  if (best < NEVER) return best;
  if (!isRoomAhead(s, half, choices, rows)) noRoom(s, storage.name, sliceRowsOf(storage, task.rows));
  s.trial.starved = storage;
  return WAIT_FOR_ROOM;
};

/** Writes what is received to rows that are its own from the start. */
const tryOwn = (s: Scheduler, transfer: Transfer, place: Copy, flight: Flight, tap: 0 | 1): Copy | number => {
  const { half, inward, diagonal } = flight;
  const bursts = arriving(transfer, place, flight);
  const delay = writeDelay(s, bursts, flight);
  if (delay > 0) return delay;
  for (const burst of bursts) bookWrite(s, burst, writeCycle(burst, flight), flight, tap);
  const positions = positionsOf(half, place.pairs).map((position) => (inward ? -position : position));
  return { ...place, lastRead: diagonal + Math.max(...positions) + transfer.span };
};

/** Whether some of the places will have room at some time, by what is known now. */
const isRoomAhead = (s: Scheduler, half: Half, choices: readonly PairGroup[], rows: number): boolean =>
  choices.some((pairs) =>
    ([0, 1] as const).some(
      (bank) => findRows(s.target, memoriesOf(half, pairs), rows, NEVER, { bank, ceiling: s.ceiling }) >= 0,
    ),
  );

/** The bursts that write what is received, train by train. */
const arriving = (
  transfer: Transfer,
  place: Pick<Copy, "pairs" | "ways" | "addresses" | "before">,
  flight: Flight,
): PairBurst[] =>
  trainsOf(transfer).flatMap((train) => {
    const cycle = rowCycle(transfer.dealing, transfer.wire, train.row);
    return apart(burstsOf(place, train), flight).map((burst) => ({ ...burst, delay: burst.delay + cycle }));
  });
