/**
 * The machine: executes linked programs on one WebAssembly memory that holds their SRAM and everything else, on one thread or more.
 *
 * All decisions were made by `link`; a run is a loop over kernel calls and allocates nothing. The programs share constants and
 * SRAM, and each has data and call arguments of its own. Constants are placed once; before each run the rows and flags that
 * runs change are put back, so that the same inputs give the same bits whatever ran before. That no row is read before it is
 * written was proved by linking, so the rest of SRAM may hold whatever the last run has left there.
 */

import { at, invariant } from "../diagnostics.js";
import { halfLanes } from "../ir/target.js";
import { startCrew } from "./crew/crew.js";
import { functionsOf, runShare, sharesOf } from "./crew/share.js";
import type { Engine } from "./kernels/kernels.js";
import { bestEngine, bindKernels, compileKernels } from "./kernels/kernels.js";
import type { FixedBytes } from "./emit/layout.js";
import { createMemory } from "./kernels/table.js";
import { type LinkedProgram, link } from "./link/link.js";
import { placeConstants, Sram, sramSize } from "./sram.js";
import type { Counters, MachineProgram, OuterVectors } from "./program.js";

export interface RunResult {
  /** Of each chip: one past the last cycle in which any instruction has an effect, counted from what is executed. */
  readonly cycles: readonly number[];
  readonly counters: readonly Counters[];
}

export interface Machine {
  readonly sram: Sram;
  /** In the order in which they were given. */
  readonly programs: readonly LoadedProgram[];
  /** Ends the threads that it has beside this one; it cannot run any more. */
  readonly close: () => void;
}

/** A program that the machine can run. */
export interface LoadedProgram {
  readonly linked: LinkedProgram;
  /** Puts SRAM into the state before a run; inputs are placed after it. */
  readonly reset: () => void;
  /** Runs the program on what lies in `sram`. */
  readonly execute: () => RunResult;
  /** Vectors of outer wires, where they lie: those that come in are put there before `execute`. */
  readonly outer: OuterVectors;
}

export interface MachineOptions {
  readonly engine?: Engine;
  /** Threads that chips are run on, at most one for each; 1 if not given. How many there are changes no bit. */
  readonly threads?: number | undefined;
  /** Marks rows that will hold inputs when a run of a program starts, beside the constants. */
  readonly placeInputs?: (sram: Sram, program: number) => void;
}

/** `programs` run on the same chips: their constants are those of the first. */
export function createMachine(
  programs: readonly MachineProgram[],
  { engine = bestEngine(), threads: most = 1, placeInputs = () => undefined }: MachineOptions = {},
): Machine {
  const [first] = programs;
  invariant(first !== undefined, "a machine has at least one program");
  const { target, chips } = first;
  let end = sramSize(target, chips.length);
  const prepared = programs.map((program, index) => {
    const initial = initialRows(program, (marks) => placeInputs(marks, index));
    const linked = link(program, initial, end);
    end = linked.end;
    return { initial, linked };
  });
  const threads = Math.min(most, chips.length);
  const memory = createMemory(end, threads > 1);
  const code = compileKernels(engine, halfLanes(target), threads > 1);
  const kernels = bindKernels(memory, code);
  const shares = prepared.map(({ linked }) => sharesOf(linked, threads));
  const crew = threads > 1 ? startCrew({ memory: memory.wasm, code, shares }, threads) : undefined;
  const sram = new Sram(target, chips.length, memory.wasm.buffer);
  placeConstants(sram, chips);
  const overwritten = overwrittenConstants(
    sram,
    prepared.map(({ linked }) => linked),
  );
  const put = (all: readonly FixedBytes[]): void => {
    for (const { address, bytes } of all) memory.u8.set(bytes, address);
  };

  const load = ({ linked, initial }: (typeof prepared)[number], index: number): LoadedProgram => {
    memory.i32.set(linked.words, linked.wordsAddress / 4);
    put(linked.data);
    const changing = [...linked.data.filter(({ changes }) => changes), ...overwritten];
    const reset = (): void => {
      put(changing);
      sram.written.set(initial);
    };
    const share = at(at(shares, index, "program"), 0, "share");
    const functions = functionsOf(share, kernels);
    const execute = (): RunResult => {
      linked.clearNoted(memory);
      if (crew === undefined) runShare(share, functions, NO_PROGRESS);
      else crew.run(index, (progress) => runShare(share, functions, progress));
      linked.raiseNoted(memory);
      sram.written.set(linked.written);
      return { cycles: linked.cycles, counters: linked.counters };
    };
    const outer = Object.fromEntries(
      (programs[index]?.outer ?? []).map(({ name }, wire) => [
        name,
        at(linked.outer, wire, "wire").map((address) => memory.u8.subarray(address, address + target.lanes)),
      ]),
    );
    return { linked, reset, execute, outer };
  };
  return { sram, programs: prepared.map(load), close: () => crew?.dismiss() };
}

/** A single thread has none to tell. */
const NO_PROGRESS = new Int32Array(0);

/** Rows that hold constants or inputs when a run starts. */
function initialRows({ target, chips }: MachineProgram, placeInputs: (marks: Sram) => void): Uint8Array {
  // Only the marks are wanted, so this one has no bytes of its own to speak of.
  const marks = new Sram(target, chips.length, new ArrayBuffer(sramSize(target, chips.length)));
  chips.forEach(({ constants }, chip) => {
    for (const { hemisphere, slice, row, rows } of constants) marks.markWritten(chip, hemisphere, slice, row, rows);
  });
  placeInputs(marks);
  return marks.written;
}

/** Constant rows that any of the programs overwrites, to be put back before each run. */
function overwrittenConstants(sram: Sram, programs: readonly LinkedProgram[]): readonly FixedBytes[] {
  const { lanes } = sram.target;
  const rows: FixedBytes[] = [];
  for (let row = 0; row < sram.written.length; row++) {
    if (sram.written[row] === 0 || programs.every(({ changed }) => changed[row] === 0)) continue;
    rows.push({ address: row * lanes, bytes: sram.bytes.slice(row * lanes, (row + 1) * lanes), changes: true });
  }
  return rows;
}
