/**
 * Second step of linking: which value every operand takes, and proof that no two values meet on a stream register.
 *
 * A value on a stream is named by its diagonal (cycle minus position eastward, plus westward), which never changes along its
 * flight. So the streams are replayed one by one, and on each the positions in the order in which a value passes them: gives
 * claim the diagonals of their values, takes look them up, and what was not only tapped leaves. One table of diagonals is all
 * the state. What an operand takes comes out as segments: executions i.. of the consumer have vectors j.. of one give.
 */

import { at } from "../../diagnostics.js";
import type { Target } from "../../ir/target.js";
import { ENTRY, ENTRY_SIZE, IntList, NO_STREAM, type Tables } from "./tables.js";

/** Columns of a segment: first execution of the consumer, how many, GIVE entry, first vector of it, and step. */
export const SEGMENT = { index: 0, count: 1, give: 2, vector: 3, step: 4 } as const;
export const SEGMENT_SIZE = 5;

export interface Matches {
  readonly segments: IntList;
  /** Of each TAKE entry its first segment and how many it has. */
  readonly first: Int32Array;
  readonly count: Int32Array;
}

export function matchStreams(tables: Tables): Matches {
  const entries = tables.takes.length / ENTRY_SIZE;
  const matches: Matches = { segments: new IntList(), first: new Int32Array(entries), count: new Int32Array(entries) };
  const { target } = tables;
  const streams = tables.program.chips.length * 2 * target.streams;
  const gives = sortEntries(tables.gives, streams, target);
  const takes = sortEntries(tables.takes, streams, target);
  const table = new Diagonals();
  for (let stream = 0; stream < streams; stream++) replayStream(tables, matches, table, stream, gives, takes);
  matchChains(tables, matches);
  return matches;
}

/** Entries by stream and by position in the order of flight: `order[start[bin] .. start[bin + 1]]`. */
interface Sorted {
  readonly order: Int32Array;
  readonly start: Int32Array;
}

const positionsOf = (target: Target): number => 2 * target.mxm + 1;
const westward = (target: Target, stream: number): boolean => stream % (2 * target.streams) >= target.streams;

function sortEntries(entries: IntList, streams: number, target: Target): Sorted {
  const positions = positionsOf(target);
  const { data } = entries;
  const binOf = (at: number): number => {
    const stream = data[at + ENTRY.stream] as number;
    const position = data[at + ENTRY.position] as number;
    return stream * positions + target.mxm + (westward(target, stream) ? -position : position);
  };
  const start = new Int32Array(streams * positions + 1);
  for (let at = 0; at < entries.length; at += ENTRY_SIZE) {
    if ((data[at + ENTRY.stream] as number) !== NO_STREAM) start[binOf(at) + 1] = (start[binOf(at) + 1] as number) + 1;
  }
  for (let bin = 0; bin + 1 < start.length; bin++) start[bin + 1] = (start[bin + 1] as number) + (start[bin] as number);
  const next = start.slice();
  const order = new Int32Array(start[start.length - 1] as number);
  for (let at = 0; at < entries.length; at += ENTRY_SIZE) {
    if ((data[at + ENTRY.stream] as number) === NO_STREAM) continue;
    const bin = binOf(at);
    order[next[bin] as number] = at / ENTRY_SIZE;
    next[bin] = (next[bin] as number) + 1;
  }
  return { order, start };
}

/** The live value of each diagonal of one stream: GIVE entry and vector of it. */
class Diagonals {
  give = new Int32Array(0);
  vector = new Int32Array(0);
  clear(size: number): void {
    if (size > this.give.length) {
      this.give = new Int32Array(size);
      this.vector = new Int32Array(size);
    }
    this.give.fill(-1, 0, size);
  }
}

function replayStream(
  tables: Tables,
  matches: Matches,
  table: Diagonals,
  stream: number,
  gives: Sorted,
  takes: Sorted,
): void {
  const { target, count, interval, faults } = tables;
  const positions = positionsOf(target);
  const bins = stream * positions;
  const first = { gives: gives.start[bins] as number, takes: takes.start[bins] as number };
  const last = { gives: gives.start[bins + positions] as number, takes: takes.start[bins + positions] as number };
  if (first.gives === last.gives && first.takes === last.takes) return;
  const sign = westward(target, stream) ? 1 : -1;
  const diagonalOf = (entries: IntList, entry: number): number =>
    entries.at(entry * ENTRY_SIZE + ENTRY.cycle) + sign * entries.at(entry * ENTRY_SIZE + ENTRY.position);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  const bound = (entries: IntList, { order }: Sorted, from: number, to: number): void => {
    for (let k = from; k < to; k++) {
      const entry = order[k] as number;
      const burst = entries.at(entry * ENTRY_SIZE);
      const diagonal = diagonalOf(entries, entry);
      low = Math.min(low, diagonal);
      high = Math.max(high, diagonal + (count.at(burst) - 1) * interval.at(burst));
    }
  };
  bound(tables.gives, gives, first.gives, last.gives);
  bound(tables.takes, takes, first.takes, last.takes);
  table.clear(high - low + 1);
  const { give, vector } = table;
  const name = streamName(target, stream);

  for (let bin = bins; bin < bins + positions; bin++) {
    for (let k = gives.start[bin] as number; k < (gives.start[bin + 1] as number); k++) {
      const entry = gives.order[k] as number;
      const burst = tables.gives.at(entry * ENTRY_SIZE);
      const step = interval.at(burst);
      const total = count.at(burst);
      let at = diagonalOf(tables.gives, entry) - low;
      for (let j = 0; j < total; j++, at += step) {
        if ((give[at] as number) >= 0) {
          const cycle = tables.gives.at(entry * ENTRY_SIZE + ENTRY.cycle) + j * step;
          faults.report(
            "LPU4001",
            burst,
            cycle,
            `${name} already carries a value at position ${tables.gives.at(entry * ENTRY_SIZE + ENTRY.position)}`,
          );
        }
        give[at] = entry;
        vector[at] = j;
      }
    }
    const [from, to] = [takes.start[bin] as number, takes.start[bin + 1] as number];
    for (let k = from; k < to; k++) {
      const entry = takes.order[k] as number;
      takeBurst(tables, matches, table, entry, diagonalOf(tables.takes, entry) - low, name);
    }
    for (let k = from; k < to; k++) {
      const entry = takes.order[k] as number;
      if (tables.takes.at(entry * ENTRY_SIZE + ENTRY.tap) === 1) continue;
      const burst = tables.takes.at(entry * ENTRY_SIZE);
      const step = interval.at(burst);
      const total = count.at(burst);
      for (let i = 0, at = diagonalOf(tables.takes, entry) - low; i < total; i++, at += step) give[at] = -1;
    }
  }
}

/** Splits what a TAKE entry finds on its diagonals into segments. */
function takeBurst(
  tables: Tables,
  matches: Matches,
  { give, vector }: Diagonals,
  entry: number,
  start: number,
  name: string,
): void {
  const burst = tables.takes.at(entry * ENTRY_SIZE);
  const total = tables.count.at(burst);
  const pace = tables.interval.at(burst);
  const { segments } = matches;
  const firstSegment = segments.length / SEGMENT_SIZE;
  for (let i = 0; i < total; ) {
    let at = start + i * pace;
    const from = give[at] as number;
    if (from < 0) {
      const cycle = tables.takes.at(entry * ENTRY_SIZE + ENTRY.cycle) + i * pace;
      tables.faults.report(
        "LPU4002",
        burst,
        cycle,
        `no value on ${name} at position ${tables.takes.at(entry * ENTRY_SIZE + ENTRY.position)}`,
      );
      i++;
      continue;
    }
    const base = vector[at] as number;
    let n = 1;
    let step = 1;
    if (i + 1 < total && (give[at + pace] as number) === from) step = (vector[at + pace] as number) - base;
    at += pace;
    while (i + n < total && (give[at] as number) === from && (vector[at] as number) === base + n * step) {
      n++;
      at += pace;
    }
    segments.pushAll(i, n, from, base, step);
    i += n;
  }
  matches.first[entry] = firstSegment;
  matches.count[entry] = segments.length / SEGMENT_SIZE - firstSegment;
}

/** Operands that chain: the burst of the named ALU that executed at the cycle that the age says. */
function matchChains(tables: Tables, matches: Matches): void {
  const { takes, target } = tables;
  for (let entry = 0; entry < takes.length / ENTRY_SIZE; entry++) {
    const first = entry * ENTRY_SIZE;
    if (takes.at(first + ENTRY.stream) !== NO_STREAM) continue;
    const burst = takes.at(first);
    const alu = takes.at(first + ENTRY.position);
    const producers = at(at(tables.byQueue, tables.chip.at(burst), "chip"), 2 * target.slices + alu, "queue");
    matchChain(tables, matches, entry, burst, alu, producers);
  }
}

function matchChain(
  tables: Tables,
  matches: Matches,
  entry: number,
  burst: number,
  alu: number,
  producers: readonly number[],
): void {
  const { segments } = matches;
  const firstSegment = segments.length / SEGMENT_SIZE;
  const start = tables.takes.at(entry * ENTRY_SIZE + ENTRY.cycle);
  const total = tables.count.at(burst);
  const pace = tables.interval.at(burst);
  for (let i = 0; i < total; ) {
    const cycle = start + i * pace;
    const producer = lastStarted(tables, producers, cycle);
    const distance = producer < 0 ? -1 : cycle - tables.cycle.at(producer);
    const step = producer < 0 ? 1 : tables.interval.at(producer);
    const vector = distance / step;
    const raw = producer < 0 ? -1 : rawGive(tables, producer);
    if (raw < 0 || !Number.isInteger(vector) || vector >= tables.count.at(producer)) {
      tables.faults.report(
        "LPU4009",
        burst,
        tables.cycle.at(burst) + i * pace,
        `alu ${alu} executed nothing at cycle ${cycle}`,
      );
      i++;
      continue;
    }
    const stride = pace / step;
    const n = Number.isInteger(stride)
      ? Math.min(total - i, Math.floor((tables.count.at(producer) - 1 - vector) / stride) + 1)
      : 1;
    segments.pushAll(i, n, raw, vector, Number.isInteger(stride) ? stride : 1);
    i += n;
  }
  matches.first[entry] = firstSegment;
  matches.count[entry] = segments.length / SEGMENT_SIZE - firstSegment;
}

/** The last burst of a queue that starts at or before a cycle, or -1. */
function lastStarted(tables: Tables, bursts: readonly number[], cycle: number): number {
  let low = 0;
  let high = bursts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tables.cycle.at(bursts[middle] as number) <= cycle) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? -1 : (bursts[low - 1] as number);
}

/** GIVE entry of an ALU burst's results: its last one. */
function rawGive(tables: Tables, burst: number): number {
  const entry = tables.giveFirst.at(burst + 1) - 1;
  return entry >= 0 &&
    tables.gives.at(entry * ENTRY_SIZE) === burst &&
    tables.gives.at(entry * ENTRY_SIZE + ENTRY.stream) === NO_STREAM
    ? entry
    : -1;
}

function streamName(target: Target, stream: number): string {
  const number = stream % (2 * target.streams);
  return number < target.streams ? `e${number}` : `w${number - target.streams}`;
}
