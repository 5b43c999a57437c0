/**
 * Part of the proof that a Program is its Plan: which write each read of SRAM finds.
 *
 * Of every slice, the writes of each row are kept in order of cycles; a read finds the last one that is done, that is,
 * dispatched `memWrite` cycles before it or earlier, or else what lay in the row before cycle 0. That a row holds anything at
 * all is proved in memory.ts.
 */

import { at } from "../../diagnostics.js";
import type { Target } from "../../ir/target.js";
import type { Burst, CheckedChip } from "./burst.js";

/** `count` rows that were read one after another: executions `from`, `from + step` and so on of one write. */
export interface Found {
  /** If nothing wrote the rows: undefined, and `from` is the row of the slice. */
  readonly write: Burst | undefined;
  readonly from: number;
  step: number;
  count: number;
}

/** Rows of the slice of a queue, read in the cycles `cycle`, `cycle + interval` and so on. */
interface Reading {
  readonly row: number;
  readonly step: number;
  readonly count: number;
  readonly cycle: number;
  readonly interval: number;
}

/** Which writes reads find. */
export interface RowsFound {
  readonly read: (burst: Burst) => readonly Found[];
  /** Consecutive rows of the slice of a queue when the program has ended. */
  readonly atEnd: (queue: number, row: number, count: number) => readonly Found[];
}

export const findRows = ({ target, queues }: CheckedChip): RowsFound => {
  const histories: (History | undefined)[] = [];
  const history = (queue: number): History => {
    histories[queue] ??= historyOf(target, at(queues, queue, "queue"));
    return histories[queue];
  };
  return {
    read: ({ queue, instruction: { fields, step, count, cycle, interval } }) =>
      found(history(queue), { row: Number(fields["address"]), step, count, cycle, interval }),
    atEnd: (queue, row, count) =>
      found(history(queue), { row, step: 1, count, cycle: Number.POSITIVE_INFINITY, interval: 0 }),
  };
};

/** All writes of a slice by row; those of row r are [starts[r], starts[r + 1]), in order of cycles. */
interface History {
  readonly writes: readonly Burst[];
  readonly starts: Int32Array;
  /** From when on a read finds each, its burst among `writes`, and its execution. */
  readonly ready: Int32Array;
  readonly numbers: Int32Array;
  readonly executions: Int32Array;
  /** By row: where the last read found its write, for reads come about in order. */
  readonly hints: Int32Array;
}

const historyOf = ({ rowsPerBank, timing }: Target, bursts: readonly Burst[]): History => {
  const writes = bursts.filter(({ instruction }) => instruction.op === "write");
  const starts = new Int32Array(2 * rowsPerBank + 1);
  for (const { instruction } of writes) {
    const { fields, step, count } = instruction;
    for (let i = 0, row = Number(fields["address"]); i < count; i++, row += step)
      starts[row + 1] = (starts[row + 1] as number) + 1;
  }
  for (let row = 0; row < 2 * rowsPerBank; row++)
    starts[row + 1] = (starts[row + 1] as number) + (starts[row] as number);
  const total = at(starts, starts.length - 1, "row");
  const history = {
    writes,
    starts,
    ready: new Int32Array(total),
    numbers: new Int32Array(total),
    executions: new Int32Array(total),
    hints: starts.slice(),
  };
  const ends = history.hints;
  for (const [number, { instruction }] of writes.entries()) {
    const { fields, step, count, cycle, interval } = instruction;
    for (let i = 0, row = Number(fields["address"]), at = cycle; i < count; i++, row += step, at += interval) {
      insert(history, starts[row] as number, ends[row] as number, at + timing.memWrite, number, i);
      ends[row] = (ends[row] as number) + 1;
    }
  }
  history.hints.set(starts);
  return history;
};

/** Bursts overlap, so a write may come before one that is there already. */
const insert = (
  { ready, numbers, executions }: History,
  from: number,
  end: number,
  cycle: number,
  number: number,
  execution: number,
): void => {
  let at = end;
  for (; at > from && (ready[at - 1] as number) > cycle; at--) {
    ready[at] = ready[at - 1] as number;
    numbers[at] = numbers[at - 1] as number;
    executions[at] = executions[at - 1] as number;
  }
  ready[at] = cycle;
  numbers[at] = number;
  executions[at] = execution;
};

const found = (history: History, { row: first, step, count, cycle, interval }: Reading): Found[] => {
  const { writes, starts, numbers, executions } = history;
  const [low, high] = step < 0 ? [first + (count - 1) * step, first] : [first, first + (count - 1) * step];
  if (starts[low] === starts[high + 1]) return [{ write: undefined, from: first, step: count === 1 ? 0 : step, count }];
  const pieces: Found[] = [];
  let piece: Found | undefined;
  for (let i = 0, row = first, time = cycle; i < count; i++, row += step, time += interval) {
    const at = lastBefore(history, row, time);
    const write = at < 0 ? undefined : writes[numbers[at] as number];
    const from = at < 0 ? row : (executions[at] as number);
    if (piece?.write === write && piece !== undefined) {
      if (piece.count === 1) piece.step = from - piece.from;
      if (from === piece.from + piece.count * piece.step) {
        piece.count++;
        continue;
      }
    }
    piece = { write, from, step: 0, count: 1 };
    pieces.push(piece);
  }
  return pieces;
};

/** Where the last write of a row is that a read in a cycle finds; -1 if there is none. */
const lastBefore = ({ starts, ready, hints }: History, row: number, cycle: number): number => {
  const start = starts[row] as number;
  const end = starts[row + 1] as number;
  if (start === end) return -1;
  let at = hints[row] as number;
  while (at + 1 < end && (ready[at + 1] as number) <= cycle) at++;
  while (at >= start && (ready[at] as number) > cycle) at--;
  hints[row] = Math.max(at, start);
  return at < start ? -1 : at;
};
