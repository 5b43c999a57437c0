/**
 * How full SRAM is at any time: a row is live from the write of what it holds, or the start if the host put it there, to its
 * last read. Rows of outputs stay to the end, and constants are live all the time, since the next run needs them again.
 *
 * A slice whose addresses are data (Gather, Scatter) keeps what it holds until it is written over. Time is linear in the
 * accesses of rows.
 */

import { memQueue, type Placement, type EntryProgram, rowsOfPlane } from "../ir/program.js";
import type { Bursts } from "./bursts.js";
import { Int32Rows, sortByBin } from "./columns.js";

/** A value that changes at `cycle[i]` to `value[i]` and stays; cycles rise, the first is 0. */
export interface Steps {
  readonly cycle: Int32Array;
  readonly value: Int32Array;
}

/** Columns of equal length: a row that is live from `born` to `until` (not included), and the burst that wrote it or HOST. */
export interface Lives {
  readonly born: Int32Array;
  readonly until: Int32Array;
  readonly owner: Int32Array;
}

export interface Memory {
  /** Rows of constants, live at all times. */
  readonly constants: number;
  /** Live rows of inputs, intermediate results and outputs. */
  readonly live: Steps;
  /** The same row by row, in no particular order. */
  readonly lives: Lives;
  /** The most rows that are ever live, constants included. */
  readonly peak: number;
  /** Of each burst that writes: one past the last cycle in which any row that it wrote is live; 0 for all others. */
  readonly heldUntil: Int32Array;
  /** Of each burst that reads: the burst that wrote the row for which it waited least; -1 if the host wrote all of them. */
  readonly writer: Int32Array;
  /** Cycles from that write to its read, both at dispatch. */
  readonly rested: Int32Array;
}

/** What is found for each burst. */
type OfBursts = Pick<Memory, "heldUntil" | "writer" | "rested">;

export function memoryOf(program: EntryProgram, bursts: Bursts, cycles: number): Memory {
  const { target } = program;
  const rows = 2 * target.rowsPerBank;
  const lives = new Int32Rows(3);
  const ofBursts: OfBursts = {
    heldUntil: new Int32Array(bursts.size),
    writer: new Int32Array(bursts.size).fill(-1),
    rested: new Int32Array(bursts.size),
  };
  let constants = 0;
  for (const [chip, { constants: blocks }] of program.chips.entries()) {
    const holders = new Uint8Array(2 * target.slices * rows);
    const finals = new Uint8Array(2 * target.slices * rows);
    const mark = (marks: Uint8Array, placement: Placement): void => {
      for (const { planes } of placement.panels) {
        for (const [index, plane] of planes.entries()) {
          if (plane.chip !== chip) continue;
          const first = memQueue(target, plane.hemisphere, plane.slice) * rows + plane.row;
          marks.fill(INPUT, first, first + rowsOfPlane(placement, index));
        }
      }
    };
    const { inputs, outputs } = program.entry;
    for (const { placements } of [...inputs, ...program.states])
      for (const placement of placements) mark(holders, placement);
    for (const { placements } of [...outputs, ...program.states])
      for (const placement of placements) mark(finals, placement);
    for (const { hemisphere, slice, row, rows: extent } of blocks) {
      const first = memQueue(target, hemisphere, slice) * rows + row;
      holders.fill(CONSTANT, first, first + extent);
      constants += extent;
    }
    for (let slice = 0; slice < 2 * target.slices; slice++) {
      const own = (marks: Uint8Array): Uint8Array => marks.subarray(slice * rows, (slice + 1) * rows);
      followSlice(bursts, bursts.ofQueue(chip, slice), own(holders), own(finals), cycles, lives, ofBursts);
    }
  }
  const live = stepsOf(lives.column(0).sort(), lives.column(1).sort());
  return {
    constants,
    live,
    lives: { born: lives.column(0), until: lives.column(1), owner: lives.column(2) },
    ...ofBursts,
    peak: constants + live.value.reduce((most, value) => Math.max(most, value), 0),
  };
}

const INPUT = 1;
const CONSTANT = 2;
/** Who wrote what the row holds, if no burst did. */
export const HOST = -1;
const NOBODY = -2;

/** Accesses of one slice, row by row in order of time. */
function followSlice(
  bursts: Bursts,
  [first, last]: readonly [number, number],
  holders: Uint8Array,
  finals: Uint8Array,
  cycles: number,
  lives: Int32Rows,
  { heldUntil, writer, rested }: OfBursts,
): void {
  const rows = holders.length;
  const total = accesses(bursts, first, last);
  const [row, cycle, by] = [new Int32Array(total), new Int32Array(total), new Int32Array(total)];
  let size = 0;
  let opaque = false;
  for (let burst = first; burst < last; burst++) {
    const instruction = bursts.instructions[burst];
    if (instruction?.op === "gather" || instruction?.op === "scatter") opaque = true;
    if (instruction?.op !== "read" && instruction?.op !== "write") continue;
    const address = Number(instruction.fields["address"]);
    for (let execution = 0; execution < instruction.count; execution++, size++) {
      row[size] = address + execution * instruction.step;
      cycle[size] = instruction.cycle + execution * instruction.interval;
      by[size] = burst;
    }
  }
  const { order, start } = sortByBin(row, rows);
  for (let at = 0; at < rows; at++) {
    const [from, to] = [start[at] as number, start[at + 1] as number];
    sortByCycle(order, cycle, from, to);
    let owner = holders[at] === INPUT ? HOST : NOBODY;
    let born = 0;
    let until = 0;
    const end = (): void => {
      if (owner === NOBODY) return;
      lives.push(born, until, owner);
      if (owner >= 0) heldUntil[owner] = Math.max(heldUntil[owner] as number, until);
    };
    for (let k = from; k < to; k++) {
      const access = order[k] as number;
      const now = cycle[access] as number;
      const burst = by[access] as number;
      if (bursts.instructions[burst]?.op === "read") {
        until = now + 1;
        if (owner >= 0 && (writer[burst] === -1 || now - born < (rested[burst] as number))) {
          writer[burst] = owner;
          rested[burst] = now - born;
        }
        continue;
      }
      if (opaque) until = now;
      end();
      owner = burst;
      born = now;
      until = now + 1;
    }
    if (opaque || finals[at] !== 0) until = cycles;
    end();
  }
}

function accesses(bursts: Bursts, first: number, last: number): number {
  let total = 0;
  for (let burst = first; burst < last; burst++) {
    const op = bursts.instructions[burst]?.op;
    if (op === "read" || op === "write") total += bursts.count[burst] as number;
  }
  return total;
}

/** Accesses of a row come nearly in order of time: only bursts that overlap are out of order. */
function sortByCycle(order: Int32Array, cycle: Int32Array, from: number, to: number): void {
  for (let k = from + 1; k < to; k++) {
    const access = order[k] as number;
    let at = k;
    for (; at > from && (cycle[order[at - 1] as number] as number) > (cycle[access] as number); at--)
      order[at] = order[at - 1] as number;
    order[at] = access;
  }
}

/** Sorted cycles at which one more begins and at which one ends, as the number that are there. */
function stepsOf(births: Int32Array, deaths: Int32Array): Steps {
  const cycle: number[] = [];
  const value: number[] = [];
  const step = (at: number, now: number): void => {
    if (cycle.at(-1) === at) value[value.length - 1] = now;
    else if (value.at(-1) !== now) {
      cycle.push(at);
      value.push(now);
    }
  };
  step(0, 0);
  let now = 0;
  for (let birth = 0, death = 0; death < deaths.length; ) {
    const [next, end] = [births[birth] ?? Number.POSITIVE_INFINITY, deaths[death] as number];
    if (next <= end) {
      now++;
      birth++;
    } else {
      now--;
      death++;
    }
    step(Math.min(next, end), now);
  }
  return { cycle: Int32Array.from(cycle), value: Int32Array.from(value) };
}
