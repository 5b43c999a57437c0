/**
 * Resources of one chip over time: interval sets, and trial figures laid over them.
 *
 * A timeline is a set of disjoint busy intervals [start, end) in cycles (or, for streams, in diagonals: chip/machine.ts). A
 * figure collects the intervals that one rigid group of bursts would take; nothing is booked until it fits as a whole.
 */

/** Busy intervals of one thing, disjoint and in order. */
export interface Timeline {
  readonly starts: number[];
  readonly ends: number[];
  /** Undefined where runs do not meet. */
  readonly next: NextRun | undefined;
  /** Of the figure that is laid over lines at present: its last interval on this one; -1 for none. */
  tried: number;
}

/** The next run of the program begins `period` cycles after this one, whose end meets no more than its first `head` cycles. */
export interface NextRun {
  readonly period: number;
  readonly head: number;
}

/** A cycle that no program reaches, and a delay that no trial survives. */
export const NEVER = 1 << 28;

export const timeline = (next?: NextRun): Timeline => ({ starts: [], ends: [], next, tried: -1 });

export const timelines = (count: number, next?: NextRun): Timeline[] =>
  Array.from({ length: count }, () => timeline(next));

/** Index of the first interval that ends after `at`. */
const after = (line: Timeline, at: number): number => {
  const { ends } = line;
  let low = 0;
  let high = ends.length;
  // Most questions are about the end of the line.
  if (high === 0 || (ends[high - 1] as number) <= at) return high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] as number) <= at) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** Earliest start >= at with [start, start + length) free. */
export const fitFrom = (line: Timeline, at: number, length: number): number => {
  const { starts, ends } = line;
  let start = at;
  for (let i = after(line, at); i < starts.length && (starts[i] as number) < start + length; i++)
    start = ends[i] as number;
  return start;
};

/** Latest start <= at with [start, start + length) free; may be below zero. */
export const fitBefore = (line: Timeline, at: number, length: number): number => {
  const { starts, ends } = line;
  let start = at;
  for (let i = after(line, at + length - 1); i >= 0; i--) {
    const s = starts[i];
    const e = ends[i];
    if (s === undefined || e === undefined || s >= start + length) continue;
    if (e <= start) break;
    start = s - length;
  }
  return start;
};

/** End of the last interval that begins before `at`; the interval may go on beyond it. */
export const lastEndBefore = (line: Timeline, at: number): number => {
  const i = after(line, at);
  const s = line.starts[i];
  if (s !== undefined && s < at) return line.ends[i] as number;
  return i === 0 ? 0 : (line.ends[i - 1] as number);
};

export const endOf = (line: Timeline): number => line.ends[line.ends.length - 1] ?? 0;

/** Books an interval that is free, in this run and in those beside it. */
export const book = (line: Timeline, start: number, end: number): void => {
  bookOnce(line, start, end);
  if (line.next === undefined) return;
  const { period, head } = line.next;
  if (start < head) bookOnce(line, start + period, end + period);
  if (end > period) bookOnce(line, start - period, end - period);
};

/** Neighbours that touch merge. */
const bookOnce = (line: Timeline, start: number, end: number): void => {
  const { starts, ends } = line;
  const i = after(line, start);
  const touchesLeft = i > 0 && ends[i - 1] === start;
  const touchesRight = i < starts.length && starts[i] === end;
  if (touchesLeft && touchesRight) {
    ends[i - 1] = ends[i] as number;
    starts.splice(i, 1);
    ends.splice(i, 1);
  } else if (touchesLeft) ends[i - 1] = end;
  else if (touchesRight) starts[i] = start;
  else if (i === starts.length) {
    starts.push(start);
    ends.push(end);
  } else {
    starts.splice(i, 0, start);
    ends.splice(i, 0, end);
  }
};

/**
 * Intervals tried together, of one figure at a time. Reused for every trial: what it has taken back stays in its arrays, behind
 * `size`, until it is written over.
 */
export class Figure {
  size = 0;
  private readonly lines: Timeline[] = [];
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];
  /** For each interval the one before it on its line; -1 for none. */
  private readonly before: number[] = [];

  clear(): void {
    this.truncate(0);
  }

  truncate(size: number): void {
    for (let i = this.size - 1; i >= size; i--) (this.lines[i] as Timeline).tried = this.before[i] as number;
    this.size = size;
  }

  /** As `fitFrom`, also against what the figure holds already. */
  fit(line: Timeline, at: number, length: number): number {
    let start = fitFrom(line, at, length);
    for (let i = line.tried; i >= 0; )
      if ((this.starts[i] as number) < start + length && (this.ends[i] as number) > start) {
        start = fitFrom(line, this.ends[i] as number, length);
        i = line.tried;
      } else i = this.before[i] as number;
    return start;
  }

  free(line: Timeline, at: number, length: number): boolean {
    return this.fit(line, at, length) === at;
  }

  add(line: Timeline, start: number, length: number): void {
    this.before[this.size] = line.tried;
    line.tried = this.size;
    this.lines[this.size] = line;
    this.starts[this.size] = start;
    this.ends[this.size] = start + length;
    this.size++;
  }

  /** Books all intervals, and adds them to a list of what was booked. */
  commit(booked: { readonly lines: Timeline[]; readonly starts: number[]; readonly ends: number[] }): void {
    for (let i = 0; i < this.size; i++) {
      const [line, start, end] = [this.lines[i] as Timeline, this.starts[i] as number, this.ends[i] as number];
      book(line, start, end);
      booked.lines.push(line);
      booked.starts.push(start);
      booked.ends.push(end);
    }
    this.clear();
  }
}
