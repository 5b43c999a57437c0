/**
 * Where every vector flies: which burst gave it, which takes it, on which stream and how far.
 *
 * A vector on a stream is named by its diagonal (cycle minus position eastward, plus westward), which stays the same along its
 * flight. Streams are replayed one after another, and on each the positions in the order in which a vector passes them. What
 * is never taken leaves the chip at its edge. Time is linear in vectors; what is kept is linear in pairs of bursts.
 */

import type { Mnemonic } from "../ir/isa.js";
import type { EntryProgram } from "../ir/program.js";
import { isWestward, type QueueNumber, queueCount, sxmQueue, vxmQueue } from "../ir/program.js";
import type { Target } from "../ir/target.js";
import type { Bursts } from "./bursts.js";
import { Int32Rows, sortByBin } from "./columns.js";
import { operandsOf, queuePosition } from "./operands.js";

/** Vectors of one burst that another takes in the same way. Columns of equal length, in no particular order. */
export interface Flights {
  readonly size: number;
  /** Burst that gives. */
  readonly from: Int32Array;
  /** Burst that takes; -1 if nothing does. */
  readonly to: Int32Array;
  /** Stream of the chip; -1 where none is between: ALU to ALU, array to accumulator, weight buffer to array; LINK from chip to chip. */
  readonly stream: Int32Array;
  /** Byte vectors. */
  readonly vectors: Int32Array;
  /** Hops of each on its way from giver to taker, or to the edge of the chip. */
  readonly hops: Int32Array;
  /** 1 if another flight of the giver has the vector's way: it is only tapped and flies on, or two take it at the same place. */
  readonly tap: Int32Array;
}

/** In place of a stream: vectors go over a link. */
export const LINK = -2;

const ENTRY = { burst: 0, stream: 1, position: 2, diagonal: 3, tap: 4 } as const;
const ENTRY_WIDTH = 5;
const FLIGHT_WIDTH = 6;

/** Operands of bursts on streams, as columns. */
interface Entries {
  readonly burst: Int32Array;
  readonly position: Int32Array;
  readonly diagonal: Int32Array;
  readonly tap: Int32Array;
  /** Entries by stream and by position in the order of flight. */
  readonly order: Int32Array;
  readonly start: Int32Array;
}

export function flightsOf(program: EntryProgram, bursts: Bursts): Flights {
  const { target } = program;
  const operands = operandsOf(target);
  const [gives, takes] = [new Int32Rows(ENTRY_WIDTH), new Int32Rows(ENTRY_WIDTH)];
  const flights = new Int32Rows(FLIGHT_WIDTH);
  for (let burst = 0; burst < bursts.size; burst++) {
    const instruction = bursts.instructions[burst];
    if (instruction === undefined) continue;
    const chipStreams = (bursts.chip[burst] as number) * 2 * target.streams;
    const position = queuePosition(target, bursts.queue[burst] as number);
    const cycle = instruction.cycle;
    operands.gives(instruction, ({ stream, streams, offset }) => {
      const diagonal = cycle + offset + (isWestward(target, stream) ? position : -position);
      for (let byte = 0; byte < streams; byte++) gives.push(burst, chipStreams + stream + byte, position, diagonal, 0);
    });
    operands.takes(instruction, ({ stream, streams, offset, tap }) => {
      const diagonal = cycle + offset + (isWestward(target, stream) ? position : -position);
      for (let byte = 0; byte < streams; byte++)
        takes.push(burst, chipStreams + stream + byte, position, diagonal, tap ? 1 : 0);
    });
    operands.chains(instruction, ({ alu, before }) =>
      innerFlights(bursts, burst, vxmQueue(target, alu), before, flights),
    );
    if (instruction.op === "acc")
      innerFlights(bursts, burst, (bursts.queue[burst] as number) - 1, target.timing.mxmMultiply, flights);
    if (instruction.op === "abc") weightFlights(bursts, burst, target, flights);
  }
  linkFlights(program, bursts, flights);
  const streams = program.chips.length * 2 * target.streams;
  const all = { target, bursts, gives: sorted(gives, streams, target), takes: sorted(takes, streams, target), flights };
  const scratch = new Scratch();
  for (let stream = 0; stream < streams; stream++) replayStream(all, stream, scratch);
  const [from, to, stream, vectors, hops, tap] = Array.from({ length: FLIGHT_WIDTH }, (_, column) =>
    flights.column(column),
  ) as [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];
  return { size: flights.rows, from, to, stream, vectors, hops, tap };
}

const positionsOf = (target: Target): number => 2 * target.mxm + 1;

function sorted(rows: Int32Rows, streams: number, target: Target): Entries {
  const position = rows.column(ENTRY.position);
  const stream = rows.column(ENTRY.stream);
  const bins = stream.map((of, entry) => {
    const along = position[entry] as number;
    const westward = isWestward(target, of % (2 * target.streams));
    return of * positionsOf(target) + target.mxm + (westward ? -along : along);
  });
  return {
    burst: rows.column(ENTRY.burst),
    diagonal: rows.column(ENTRY.diagonal),
    tap: rows.column(ENTRY.tap),
    position,
    ...sortByBin(bins, streams * positionsOf(target)),
  };
}

/** What a replay of one stream after another works on. */
interface Replay {
  readonly target: Target;
  readonly bursts: Bursts;
  readonly gives: Entries;
  readonly takes: Entries;
  readonly flights: Int32Rows;
}

/** `live` holds for each diagonal the give whose vector flies there, or -1. */
function replayStream({ target, bursts, gives, takes, flights }: Replay, stream: number, scratch: Scratch): void {
  const positions = positionsOf(target);
  const [first, last] = [stream * positions, (stream + 1) * positions];
  if (gives.start[first] === gives.start[last]) return;
  const own = stream % (2 * target.streams);
  const [low, high] = extentOf(bursts, [gives, takes], first, last);
  const live = scratch.cleared(high - low);
  for (let bin = first; bin < last; bin++) {
    for (let k = gives.start[bin] as number; k < (gives.start[bin + 1] as number); k++) {
      const entry = gives.order[k] as number;
      mark(live, bursts, gives, entry, low, entry);
    }
    const [from, to] = [takes.start[bin] as number, takes.start[bin + 1] as number];
    for (let k = from; k < to; k++) {
      const entry = takes.order[k] as number;
      const burst = takes.burst[entry] as number;
      const interval = bursts.interval[burst] as number;
      let at = (takes.diagonal[entry] as number) - low;
      const tap = takes.tap[entry] === 1;
      for (let rest = bursts.count[burst] as number; rest > 0; ) {
        const found = live[at] as number;
        const left = tap || found < 0 ? found : taken(found);
        let vectors = 0;
        for (; rest > 0 && live[at] === found; rest--, at += interval) {
          vectors++;
          live[at] = left;
        }
        if (found === -1) continue;
        const give = found < 0 ? taken(found) : found;
        const hops = Math.abs((takes.position[entry] as number) - (gives.position[give] as number));
        flights.push(gives.burst[give] as number, burst, own, vectors, hops, tap || found < 0 ? 1 : 0);
      }
    }
    for (let k = from; k < to; k++) {
      const entry = takes.order[k] as number;
      if (takes.tap[entry] === 0) mark(live, bursts, takes, entry, low, -1);
    }
  }
  const edge = isWestward(target, own) ? -target.mxm : target.mxm;
  for (let at = 0; at < high - low; ) {
    const give = live[at] as number;
    let vectors = 0;
    for (; at < high - low && live[at] === give; at++) vectors++;
    if (give >= 0)
      flights.push(gives.burst[give] as number, -1, own, vectors, Math.abs(edge - (gives.position[give] as number)), 0);
  }
}

/** How a give stands on its diagonal while others take the same vector at the same place, and back again: -2 and below. */
const taken = (give: number): number => -2 - give;

/** Writes `value` on all diagonals of an entry. */
function mark(live: Int32Array, bursts: Bursts, entries: Entries, entry: number, low: number, value: number): void {
  const burst = entries.burst[entry] as number;
  const interval = bursts.interval[burst] as number;
  const count = bursts.count[burst] as number;
  const start = (entries.diagonal[entry] as number) - low;
  for (let execution = 0, at = start; execution < count; execution++, at += interval) live[at] = value;
}

/** Diagonals from the lowest that anything on a stream has, to one past the highest. */
function extentOf(
  bursts: Bursts,
  both: readonly Entries[],
  first: number,
  last: number,
): readonly [low: number, high: number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const { order, start, burst, diagonal } of both) {
    for (let k = start[first] as number; k < (start[last] as number); k++) {
      const entry = order[k] as number;
      const of = burst[entry] as number;
      const own = diagonal[entry] as number;
      low = Math.min(low, own);
      high = Math.max(high, own + (bursts.last[of] as number) - (bursts.cycle[of] as number) + 1);
    }
  }
  return [low, high];
}

/** One array that is used again and again. */
class Scratch {
  #values = new Int32Array(0);

  cleared(size: number): Int32Array {
    if (size > this.#values.length) this.#values = new Int32Array(2 * size);
    return this.#values.fill(-1, 0, size);
  }
}

/** What a burst takes from another queue: what was executed there `before` cycles before each of its executions. */
function innerFlights(bursts: Bursts, burst: number, queue: QueueNumber, before: number, flights: Int32Rows): void {
  const chip = bursts.chip[burst] as number;
  const count = bursts.count[burst] as number;
  const interval = bursts.interval[burst] as number;
  const start = (bursts.cycle[burst] as number) - before;
  for (let execution = 0; execution < count; ) {
    const from = bursts.lastStarted(chip, queue, start + execution * interval);
    let vectors = 0;
    while (execution < count && start + execution * interval <= (bursts.last[from] ?? -1)) {
      vectors++;
      execution++;
    }
    if (vectors === 0) return;
    flights.push(from, burst, -1, vectors, 0, 1);
  }
}

/** What goes over links: the n-th vector that a link takes is the n-th that comes out of it. */
function linkFlights({ target, chips, links }: EntryProgram, bursts: Bursts, flights: Int32Rows): void {
  const passages = new Map<string, { readonly burst: number; readonly cycle: number }[]>();
  for (let chip = 0; chip < chips.length; chip++)
    for (let queue = sxmQueue(target, "W", 0); queue < queueCount(target); queue++) {
      const [first, last] = bursts.ofQueue(chip, queue);
      for (let burst = first; burst < last; burst++) {
        const instruction = bursts.instructions[burst];
        if (instruction?.op !== "send" && instruction?.op !== "receive") continue;
        const end = `${instruction.op} ${chip}:${instruction.fields["link"]}`;
        const list = passages.get(end) ?? [];
        passages.set(end, list);
        for (let execution = 0; execution < instruction.count; execution++)
          list.push({ burst, cycle: instruction.cycle + execution * instruction.interval });
      }
    }
  for (const list of passages.values()) list.sort((a, b) => a.cycle - b.cycle);
  for (const { fromChip, fromLink, toChip, toLink } of links) {
    const sent = passages.get(`send ${fromChip}:${fromLink}`) ?? [];
    const received = passages.get(`receive ${toChip}:${toLink}`) ?? [];
    for (let first = 0; first < Math.min(sent.length, received.length); ) {
      const [from, to] = [sent[first]?.burst, received[first]?.burst];
      let vectors = 0;
      while (from !== undefined && sent[first + vectors]?.burst === from && received[first + vectors]?.burst === to)
        vectors++;
      flights.push(from as number, to as number, LINK, vectors, 0, 1);
      first += vectors;
    }
  }
}

/** The loads whose weights activations meet: those of the buffer that was installed last before the first of them. */
function weightFlights(bursts: Bursts, burst: number, { timing }: Target, flights: Int32Rows): void {
  const [chip, queue] = [bursts.chip[burst] as number, (bursts.queue[burst] as number) - 1];
  const [first] = bursts.ofQueue(chip, queue);
  const opOf = (at: number): Mnemonic | undefined => bursts.instructions[at]?.op;
  let at = bursts.lastStarted(chip, queue, (bursts.cycle[burst] as number) - timing.mxmInstall);
  while (at >= first && opOf(at) !== "iw") at--;
  for (at--; at >= first && opOf(at) !== "iw"; at--)
    if (opOf(at) === "lw") flights.push(at, burst, -1, bursts.taken[at] as number, 0, 1);
}
