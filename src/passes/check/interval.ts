/**
 * Part of the schedule checker: the interval at which inferences may follow one another on chips that work one behind the
 * other.
 *
 * Each chip begins the next run so many cycles after the present one, before it is done with it, if nothing that both take is
 * taken twice: queues, ports and banks of slices, and streams between their edges and the VXM, cycle by cycle; arrays,
 * links and rows of SRAM from the first use to the last, so that weights, sums and rows of one run never meet those of another. The
 * host gives inputs when a run begins and takes outputs when it ends, chip by chip: until then their rows are held. All chips
 * have the same interval, so what was there in time for one run is for every other. Where a program keeps states, or has
 * instructions of which more is to be known than that, a chip is done with a run before it begins the next.
 */

import { at } from "../../diagnostics.js";
import { completionCycles, type Mnemonic } from "../../ir/isa.js";
import { operandStreams } from "../../ir/operands.js";
import { type EntryProgram, isWestward, memQueue } from "../../ir/program.js";
import { type Burst, type CheckedChip, checkedChip, specOfOp, streamOf } from "./burst.js";
import { eachSpan } from "./memory.js";
import { checkStreams, type Flow, piecesOf, type Taken } from "./streams.js";

/** Instructions that leave nothing behind on their unit but on streams, in rows and, of the MXM, in arrays. */
const PLAIN: ReadonlySet<Mnemonic> = new Set([
  ...(["read", "write", "unary", "binary", "ternary", "lw", "iw", "iwStream", "abc", "acc"] as const),
  ...(["shift", "select", "permute", "distribute", "rotate", "send", "receive"] as const),
]);

/** The cycles in which a chip is at work for one run: the barrier before its first instruction, and all up to the last effect. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** Cycles from one inference to the next: the least that there may be. `taken`: what each chip takes from its streams. */
export const leastInterval = (
  program: EntryProgram,
  chips: readonly CheckedChip[],
  taken: readonly Taken[],
): number => {
  const [alone, ...others] = chips;
  // One chip begins with the program.
  if (alone !== undefined && others.length === 0) return alone.cycles;
  const spans = chips.map(spanOf);
  const longest = Math.max(...spans.map(({ start, end }) => end - start));
  const least = leastHeld(program, chips, spans);
  if (least >= longest) return longest;
  const meetings = chips.map((chip, i) => meetingOf(chip, at(taken, i, "chip"), at(spans, i, "chip"), least));
  for (let interval = least; interval < longest; ) {
    const next = Math.max(...meetings.map((meeting) => freeFrom(meeting, interval)));
    if (next === interval) return interval;
    interval = next;
  }
  return longest;
};

/** Whether a run may follow another after so many cycles. */
export const mayFollow = (program: EntryProgram, interval: number): boolean => {
  const chips = program.chips.map((_, index) => checkedChip(program, index));
  const spans = chips.map(spanOf);
  if (leastHeld(program, chips, spans) > interval) return false;
  return chips.every(
    (chip, i) => freeFrom(meetingOf(chip, checkStreams(chip), at(spans, i, "chip"), interval), interval) === interval,
  );
};

const spanOf = ({ queues, cycles, target }: CheckedChip): Span => {
  const first = Math.min(
    cycles,
    ...queues.flatMap(([burst]) => (burst === undefined ? [] : [burst.instruction.cycle])),
  );
  return { start: Math.max(0, first - target.timing.barrier), end: cycles };
};

const isPlain = ({ queues }: CheckedChip): boolean =>
  queues.every((queue) => queue.every(({ instruction }) => PLAIN.has(instruction.op)));

/* ---------- what is held from its first use to its last ---------- */

/** The least interval in which chips give up what they hold, and only a run and the next meet; never, where more is to be known. */
const leastHeld = (program: EntryProgram, chips: readonly CheckedChip[], spans: readonly Span[]): number => {
  if (program.states.length > 0 || !chips.every(isPlain)) return Number.POSITIVE_INFINITY;
  const longest = Math.max(...spans.map(({ start, end }) => end - start));
  return Math.max(Math.ceil(longest / 2), ...chips.map((chip, i) => leastOf(chip, at(spans, i, "chip"))));
};

/** The least interval in which arrays, links and rows of a chip are given up by one run before the next takes them. */
const leastOf = (chip: CheckedChip, span: Span): number => Math.max(0, ...usesHeld(chip), rowsHeld(chip, span));

/** Cycles for which each hemisphere's array, and each link, is in use. */
const usesHeld = ({ queues, target }: CheckedChip): number[] => {
  const held = new Map<string, Span>();
  const hold = (what: string, start: number, end: number): void => {
    const known = held.get(what);
    held.set(what, { start: Math.min(start, known?.start ?? start), end: Math.max(end, known?.end ?? end) });
  };
  for (const { place, instruction, last } of queues.flat()) {
    const { op, cycle, fields } = instruction;
    if (place.unit.startsWith("mxm"))
      hold(`array ${place.hemisphere}`, cycle, last + completionCycles(target, instruction));
    if (op === "send") hold(`send ${fields["link"]}`, cycle, last + target.timing.linkInterval);
    if (op === "receive") hold(`receive ${fields["link"]}`, cycle, last + 1);
  }
  return [...held.values()].map(({ start, end }) => end - start);
};

/** Cycles for which some row is held at most: from the first write, or for the host, to the last use. */
const rowsHeld = (chip: CheckedChip, { start, end }: Span): number => {
  const { program, target, index } = chip;
  const rows = 2 * target.rowsPerBank;
  const given = new Int32Array(2 * target.slices * rows).fill(end);
  const used = new Int32Array(given.length);
  for (const queue of chip.queues.slice(0, 2 * target.slices))
    for (const { queue: slice, instruction } of queue) {
      const { op, cycle, count, interval, step, fields } = instruction;
      for (let i = 0, row = slice * rows + Number(fields["address"]); i < count; i++, row += step) {
        const then = cycle + i * interval;
        if (op === "write") given[row] = Math.min(given[row] as number, then);
        used[row] = Math.max(used[row] as number, then + 1);
      }
    }
  for (const input of program.entry.inputs)
    eachSpan(input, index, ({ hemisphere, slice, row }, count) => {
      const first = memQueue(target, hemisphere, slice) * rows + row;
      given.fill(start, first, first + count);
    });
  for (const output of program.entry.outputs)
    eachSpan(output, index, ({ hemisphere, slice, row }, count) => {
      const first = memQueue(target, hemisphere, slice) * rows + row;
      used.fill(end, first, first + count);
    });
  return used.reduce((most, until, row) => Math.max(most, until - (given[row] as number)), 0);
};

/* ---------- what is taken cycle by cycle ---------- */

/** What two runs of a chip may both want: each line is a queue, a port, a bank that is read or written, or a stretch of a stream. */
interface Meeting {
  /** By line: 1 for each cycle, from the first on, in which the end of a run takes it. */
  readonly end: ReadonlyMap<number, Uint8Array>;
  readonly first: number;
  /** What the begin of a run takes: the line that may not be taken then, and the cycle. */
  readonly lines: readonly number[];
  readonly cycles: readonly number[];
}

/** The interval if nothing is wanted twice; else the first in which that is free which is. */
const freeFrom = ({ end, first, lines, cycles }: Meeting, interval: number): number => {
  for (const [i, line] of lines.entries()) {
    const taken = end.get(line);
    let next = interval;
    const from = (cycles[i] as number) - first;
    while (taken?.[from + next] === 1) next++;
    if (next > interval) return next;
  }
  return interval;
};

/** Parts of a stream: each is taken as a whole. */
const STRETCHES = 3;
/** Of the lines of slices: ports, and banks that are read and written. */
const PORTS = { read: 0, write: 1 } as const;
const BANKS = { read: 2, write: 4 } as const;
const SLICE_LINES = 6;

const meetingOf = (chip: CheckedChip, taken: Taken, { start, end }: Span, least: number): Meeting => {
  const { target, queues } = chip;
  const reach = 2 * target.mxm + Math.max(...Object.values(target.timing));
  const first = start + least - reach;
  const length = end + 2 * reach - first;
  const meeting = { end: new Map<number, Uint8Array>(), first, lines: [] as number[], cycles: [] as number[] };
  const take = (line: number, cycle: number, asked = line): void => {
    if (cycle >= first && cycle < first + length) {
      const known = meeting.end.get(line) ?? new Uint8Array(length);
      meeting.end.set(line, known);
      known[cycle - first] = 1;
    }
    if (cycle + least > end + reach) return;
    meeting.lines.push(asked);
    meeting.cycles.push(cycle);
  };
  const isNear = ({ instruction: { cycle }, last }: Burst): boolean =>
    cycle + least <= end + reach || last + reach >= first;
  const near = queues.flatMap((queue) => queue.filter(isNear));
  for (const burst of near) takeUnit(chip, burst, take);
  const ends = flightEnds(taken, new Set(near.map(({ number }) => number)));
  for (const burst of near) takeStreams(chip, burst, ends, take);
  return meeting;
};

/** Takes a line in a cycle; `asked`: the line that may not be taken by another run then, where it is another one. */
type Take = (line: number, cycle: number, asked?: number) => void;

/** The queue of a burst, and the ports and the bank of a slice. */
const takeUnit = ({ target, queues, specs }: CheckedChip, burst: Burst, take: Take): void => {
  const { queue, instruction, last } = burst;
  const { op, cycle, count, interval, step, fields } = instruction;
  if (!specOfOp(specs, op).generator) {
    for (let then = cycle; then <= last; then++) take(queue, then);
    return;
  }
  take(queue, cycle);
  const port = op === "read" ? "read" : "write";
  const lines = queues.length + queue * SLICE_LINES;
  for (let then = cycle; then <= last; then++) take(lines + PORTS[port], then);
  for (let i = 0; i < count; i++) {
    const bank = Number(fields["address"]) + i * step < target.rowsPerBank ? 0 : 1;
    const other = port === "read" ? "write" : "read";
    take(lines + BANKS[port] + bank, cycle + i * interval, lines + BANKS[other] + bank);
  }
};

/** The stretches of streams over which what a burst gives flies: to where the last takes it, or on to the edge. */
const takeStreams = (chip: CheckedChip, burst: Burst, ends: FlightEnds, take: Take): void => {
  const { target, specs, queues } = chip;
  const { instruction, position } = burst;
  const { op, cycle, count, interval, fields } = instruction;
  const lines = queues.length + 2 * target.slices * SLICE_LINES;
  for (const { field, offset } of specOfOp(specs, op).gives) {
    const given = streamOf(fields[field]);
    if (given < 0) continue;
    for (let i = 0; i < operandStreams(target, instruction, field); i++) {
      const stream = given + i;
      const ahead = isWestward(target, stream) ? -1 : 1;
      const flown = ends.get(flightName(burst.number, field, i));
      const until = flown?.taken === count ? flown.position : ahead * target.mxm;
      for (let stretch = 0; stretch < STRETCHES; stretch++) {
        // West of the VXM, at it, and east of it.
        const side = stretch - 1;
        if (ahead * side < ahead * Math.sign(position) || ahead * side > ahead * Math.sign(until)) continue;
        const line = lines + stream * STRETCHES + stretch;
        for (let n = 0; n < count; n++) take(line, cycle + offset + n * interval - ahead * position);
      }
    }
  }
};

/** By stream that a burst gives: where the last of its vectors is taken, and how many leave the stream there or before. */
type FlightEnds = ReadonlyMap<string, { readonly position: number; readonly taken: number }>;

const flightName = (burst: number, field: string, stream: number): string => `${burst} ${field} ${stream}`;

/** Of some bursts. */
const flightEnds = (taken: Taken, bursts: ReadonlySet<number>): FlightEnds => {
  const ends = new Map<string, { position: number; taken: number }>();
  const follow = (flow: Flow, index: number): void => {
    for (const { giver, count } of piecesOf(taken, flow, index)) {
      if (!bursts.has(giver.burst.number)) continue;
      const name = flightName(giver.burst.number, giver.field, flow.stream + index - giver.stream);
      const { position, taken: before } = ends.get(name) ?? { position: giver.burst.position, taken: 0 };
      const far = Math.abs(flow.burst.position - giver.burst.position) > Math.abs(position - giver.burst.position);
      ends.set(name, {
        position: far ? flow.burst.position : position,
        taken: before + (flow.tap ? 0 : count),
      });
    }
  };
  for (const flow of taken.flows) for (let index = 0; index < flow.width; index++) follow(flow, index);
  return ends;
};
