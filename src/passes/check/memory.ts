/**
 * Part of the schedule checker: SRAM. Ports, banks and address generators of every slice, and that every row is there when
 * it is read.
 *
 * Constants, states and inputs lie in rows of their own before cycle 0. Each slice is replayed cycle by cycle with the row that it
 * reads and the row that it writes: one of each, never of one bank together; a row that is read was written, and no write to
 * it is on its way; rows of constants are never written; rows of outputs are written in the end. Addresses of Gather and
 * Scatter are data: of these only the ports are checked here, and the machine checks the rest.
 */

import { at, fail } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import { type PanelPlace, type Placement, rowsOfPlane, type StateBinding } from "../../ir/program.js";
import type { Hemisphere, Target } from "../../ir/target.js";
import { brief, type Burst, type CheckedChip, raise } from "./burst.js";

/** What is known of a row. */
const ROW = { empty: 0, constant: 1, placed: 2, written: 3 } as const;
/** Stands for both banks and no known row. */
const BY_DATA = -1;
const NEVER = -(2 ** 30);

export const checkMemory = (chip: CheckedChip): void => {
  const { target } = chip;
  const rows = 2 * target.rowsPerBank;
  const known = placedRows(chip);
  const slice = new SliceReplay(chip.cycles, rows);
  for (let queue = 0; queue < 2 * target.slices; queue++) {
    const bursts = at(chip.queues, queue, "queue");
    if (bursts.length > 0) slice.run(chip, bursts, known.subarray(queue * rows, (queue + 1) * rows));
  }
  checkOutputs(chip, known);
};

const sliceIndex = ({ slices }: Target, hemisphere: Hemisphere, slice: number): number =>
  (hemisphere === "W" ? 0 : slices) + slice;

/** Rows of constants, states and inputs; each belongs to one of them. */
const placedRows = ({ program, target, index, chip }: CheckedChip): Uint8Array => {
  const rows = 2 * target.rowsPerBank;
  const known = new Uint8Array(2 * target.slices * rows);
  for (const { hemisphere, slice, row, rows: count } of chip.constants)
    claim(target, known, ROW.constant, "constant", { chip: index, hemisphere, slice, row }, count);
  for (const state of program.states)
    eachSpan(state, index, (place, count) => claim(target, known, ROW.placed, `state '${state.name}'`, place, count));
  for (const input of program.entry.inputs)
    eachSpan(input, index, (place, count) => claim(target, known, ROW.placed, `input '${input.name}'`, place, count));
  return known;
};

const claim = (target: Target, rows: Uint8Array, kind: number, name: string, place: RowPlace, count: number): void => {
  const { chip, hemisphere, slice, row } = place;
  const depth = 2 * target.rowsPerBank;
  const where = `slice ${hemisphere.toLowerCase()}${slice} of chip ${chip}`;
  if (row < 0 || count < 0 || row + count > depth || slice < 0 || slice >= target.slices)
    fail("LPU2214", {
      message: `${name}: expected rows below ${depth} in ${where}, found ${row} to ${row + count - 1}`,
    });
  const first = sliceIndex(target, hemisphere, slice) * depth + row;
  const taken = rows.subarray(first, first + count).findIndex((state) => state !== ROW.empty);
  if (taken >= 0)
    fail("LPU2214", { message: `${name}: expected rows of its own, found row ${row + taken} of ${where} taken` });
  rows.fill(kind, first, first + count);
};

type RowPlace = PanelPlace["planes"][number];

/** Spans of rows that the placements of a binding have on a chip. */
export const eachSpan = (binding: StateBinding, chip: number, visit: (place: RowPlace, rows: number) => void): void => {
  for (const placement of binding.placements)
    for (const { planes } of placement.panels)
      for (const [at, place] of planes.entries()) if (place.chip === chip) visit(place, rowsOfPlane(placement, at));
};

/** One slice at a time: the row read and the row written in every cycle, plus one; 0 is none. */
class SliceReplay {
  private readonly reads: Int32Array;
  private readonly writes: Int32Array;
  private readonly lastWrite: Int32Array;

  constructor(cycles: number, rows: number) {
    this.reads = new Int32Array(cycles + 1);
    this.writes = new Int32Array(cycles + 1);
    this.lastWrite = new Int32Array(rows);
  }

  run(chip: CheckedChip, bursts: readonly Burst[], known: Uint8Array): void {
    const { reads, writes, lastWrite } = this;
    const { rowsPerBank, timing } = chip.target;
    const { from, to } = this.mark(chip, bursts);
    lastWrite.fill(NEVER);
    let lastPort = NEVER;
    let lastScatter = NEVER;
    for (let cycle = from; cycle <= to; cycle++) {
      const read = reads[cycle] as number;
      const write = writes[cycle] as number;
      if (read !== 0 && write !== 0 && (read < 0 || write < 0 || read > rowsPerBank === write > rowsPerBank))
        conflict(chip, bursts, cycle);
      if (read > 0) {
        const row = read - 1;
        const ready = Math.max(lastWrite[row] as number, lastScatter) + timing.memWrite;
        if (known[row] === ROW.empty) {
          missing(chip, bursts, cycle, row, "found one that was never written");
        } else if (cycle < ready) missing(chip, bursts, cycle, row, `found a write that is done at cycle ${ready}`);
      } else if (read === BY_DATA && cycle < lastPort + timing.memWrite) {
        missing(chip, bursts, cycle, -1, `found a write that is done at cycle ${lastPort + timing.memWrite}`);
      }
      if (write === 0) continue;
      lastPort = cycle;
      if (write === BY_DATA) {
        lastScatter = cycle;
        continue;
      }
      const row = write - 1;
      if (known[row] === ROW.constant) overwritten(chip, bursts, cycle, row);
      known[row] = ROW.written;
      lastWrite[row] = cycle;
    }
    reads.fill(0, from, to + 1);
    writes.fill(0, from, to + 1);
  }

  /** Notes the row of every read and write in its cycle; returns the first and the last cycle. */
  private mark(chip: CheckedChip, bursts: readonly Burst[]): { from: number; to: number } {
    const running: { read: Burst | undefined; write: Burst | undefined } = { read: undefined, write: undefined };
    let from = Number.POSITIVE_INFINITY;
    let to = -1;
    for (const burst of bursts) {
      const { op, cycle, count, interval, step, fields } = burst.instruction;
      const port = portOf(burst);
      if (port === undefined) continue;
      const rows = port === "read" ? this.reads : this.writes;
      const busy = running[port];
      if (count > 1) {
        if (busy !== undefined && busy.last >= cycle)
          raise(
            chip,
            "LPU2212",
            burst,
            cycle,
            `expected the ${port} address generator free, found ${brief(chip, busy)} until cycle ${busy.last}`,
          );
        running[port] = burst;
      }
      let value = op === "read" || op === "write" ? Number(fields["address"]) + 1 : BY_DATA;
      for (let i = 0, at = cycle; i < count; i++, at += interval, value += step) {
        if ((rows[at] as number) !== 0)
          raise(
            chip,
            "LPU2212",
            burst,
            at,
            `expected one ${port} of the slice in a cycle, found also ${other(chip, bursts, burst, at)}`,
          );
        rows[at] = value;
      }
      from = Math.min(from, cycle);
      to = Math.max(to, burst.last);
    }
    return { from, to };
  }
}

const portOf = ({ instruction: { op } }: Burst): "read" | "write" | undefined => {
  if (op === "read" || op === "gather") return "read";
  return op === "write" || op === "scatter" ? "write" : undefined;
};

const executes = ({ instruction, last }: Burst, cycle: number): boolean =>
  cycle >= instruction.cycle && cycle <= last && (cycle - instruction.cycle) % instruction.interval === 0;

/** The burst that uses a port in a cycle. */
const user = (bursts: readonly Burst[], port: "read" | "write", cycle: number): Burst | undefined =>
  bursts.find((burst) => portOf(burst) === port && executes(burst, cycle));

const other = (chip: CheckedChip, bursts: readonly Burst[], burst: Burst, cycle: number): string => {
  const found = bursts.find((one) => one !== burst && portOf(one) === portOf(burst) && executes(one, cycle));
  return found === undefined ? "another" : brief(chip, found);
};

const conflict = (chip: CheckedChip, bursts: readonly Burst[], cycle: number): void => {
  const [read, write] = [user(bursts, "read", cycle), user(bursts, "write", cycle)];
  if (read !== undefined && write !== undefined)
    raise(
      chip,
      "LPU2212",
      read,
      cycle,
      `expected no write of the same bank in the cycle of a read, found ${brief(chip, write)}`,
    );
};

const missing = (chip: CheckedChip, bursts: readonly Burst[], cycle: number, row: number, found: string): void => {
  const read = user(bursts, "read", cycle);
  const what = row < 0 ? "all rows" : `row ${row}`;
  if (read !== undefined) raise(chip, "LPU2213", read, cycle, `expected ${what} to hold a value, ${found}`);
};

const overwritten = (chip: CheckedChip, bursts: readonly Burst[], cycle: number, row: number): void => {
  const write = user(bursts, "write", cycle);
  if (write !== undefined)
    raise(chip, "LPU2214", write, cycle, `expected a row that is free, found row ${row} of a constant`);
};

/** Every element of an output lies in a row that holds something when the program has ended. */
const checkOutputs = ({ program, target, index }: CheckedChip, known: Uint8Array): void => {
  const rows = 2 * target.rowsPerBank;
  for (const { name, shape, placements } of program.entry.outputs)
    for (const placement of placements)
      for (const { hemisphere, slice, row, chip } of outputRows(placement, shape, target)) {
        if (chip !== index) continue;
        const at = sliceIndex(target, hemisphere, slice) * rows + row;
        if (!(row < rows && known[at] !== ROW.empty))
          fail("LPU2214", {
            message: `output '${name}': expected row ${row} of slice ${hemisphere.toLowerCase()}${slice} of chip ${index} to be written, found that it never is`,
          });
      }
};

/** Rows of slices in which elements of a tensor lie. */
const outputRows = (placement: Placement, shape: readonly number[], { lanes }: Target): RowPlace[] => {
  const { dtype, factors, ways, panels } = placement;
  const { bytes } = DTYPES[dtype];
  // Rows and columns are sums over dims: dims that move along columns only are kept apart, so that the sets stay small.
  let columns = new Set([0]);
  let cells = new Map<number, Set<number>>([[0, new Set([0])]]);
  for (const [dim, extent] of shape.entries()) {
    const own = factors.filter((factor) => factor.dim === dim);
    const moves = Array.from({ length: extent }, (_, i) => ({
      row: own.reduce((sum, f) => sum + (Math.floor(i / f.divide) % f.extent) * f.row, 0),
      column: own.reduce((sum, f) => sum + (Math.floor(i / f.divide) % f.extent) * f.column, 0),
    }));
    if (moves.every(({ row }) => row === 0)) {
      columns = new Set([...columns].flatMap((column) => moves.map((move) => column + move.column)));
      continue;
    }
    const next = new Map<number, Set<number>>();
    for (const [column, rows] of cells)
      for (const move of moves) {
        const reached = next.get(column + move.column) ?? new Set<number>();
        for (const row of rows) reached.add(row + move.row);
        next.set(column + move.column, reached);
      }
    cells = next;
  }
  const places: RowPlace[] = [];
  for (const [offset, rows] of cells)
    for (const panel of new Set([...columns].map((column) => Math.floor((column + offset) / lanes))))
      for (const row of rows)
        for (let byte = 0; byte < bytes; byte++) {
          const plane = panels[panel]?.planes[(row % ways) * bytes + byte];
          if (plane !== undefined) places.push({ ...plane, row: plane.row + Math.floor(row / ways) });
        }
  return places;
};
