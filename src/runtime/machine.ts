/**
 * The machine: executes a linked program on one WebAssembly memory that holds SRAM and everything else.
 *
 * All decisions were made by `link`; a run is a loop over kernel calls and allocates nothing. Constants are placed once; before
 * each run the rows and flags that a run changes are put back, so that every run of a program starts from the same state and the same
 * inputs give the same bits. That no row is read before it is written was proved by linking, so the rest of SRAM may hold
 * whatever the last run has left there.
 */

import type { Engine } from "./kernels/kernels.js";
import { bestEngine, bindKernels } from "./kernels/kernels.js";
import { createMemory } from "./kernels/table.js";
import { type LinkedProgram, link } from "./link/link.js";
import { placeConstants, Sram, sramSize } from "./sram.js";
import type { Counters, MachineProgram } from "./state.js";
import { halfLanes } from "../ir/target.js";

export interface RunResult {
  /** Of each chip: one past the last cycle in which any instruction has an effect, counted from what is executed. */
  readonly cycles: readonly number[];
  readonly counters: readonly Counters[];
}

export interface Machine {
  readonly linked: LinkedProgram;
  readonly sram: Sram;
  /** Puts SRAM into the state before a run; inputs are placed after it. */
  readonly reset: () => void;
  /** Runs the program on what lies in `sram`. */
  readonly execute: () => RunResult;
}

export interface MachineOptions {
  readonly engine?: Engine;
  /** Marks rows that will hold inputs when a run starts, beside the constants. */
  readonly placeInputs?: (sram: Sram) => void;
}

export function createMachine(
  program: MachineProgram,
  { engine = bestEngine(), placeInputs }: MachineOptions = {},
): Machine {
  const { target, chips } = program;
  const initial = initialRows(program, placeInputs);
  const linked = link(program, initial);
  const memory = createMemory(linked.bytes);
  const kernels = bindKernels(memory, engine, halfLanes(target));
  const sram = new Sram(target, chips.length, memory.wasm.buffer);
  placeConstants(sram, chips);
  memory.i32.set(linked.words, linked.wordsAddress / 4);
  const fixed = [...linked.data, ...overwrittenConstants(sram, linked)];
  const put = (all: boolean): void => {
    for (const { address, bytes, changes } of fixed) if (all || changes) memory.u8.set(bytes, address);
  };
  put(true);

  const reset = (): void => {
    put(false);
    sram.written.set(initial);
  };
  reset();
  const { kernels: numbers, pointers, checks } = linked;
  const functions = Array.from(numbers, (kernel) => kernels[kernel] ?? (() => undefined));
  const execute = (): RunResult => {
    memory.i32.fill(0, linked.faultAddress / 4, linked.faultAddress / 4 + 4);
    let call = 0;
    for (const check of checks) {
      for (; call < check; call++) (functions[call] as (pointer: number) => void)(pointers[call] as number);
      linked.raiseNoted(memory);
    }
    for (; call < functions.length; call++) (functions[call] as (pointer: number) => void)(pointers[call] as number);
    sram.written.set(linked.written);
    return { cycles: linked.cycles, counters: linked.counters };
  };
  return { linked, sram, reset, execute };
}

/** Rows that hold constants or inputs when a run starts. */
function initialRows({ target, chips }: MachineProgram, placeInputs: MachineOptions["placeInputs"]): Uint8Array {
  // Only the marks are wanted, so this one has no bytes of its own to speak of.
  const marks = new Sram(target, chips.length, new ArrayBuffer(sramSize(target, chips.length)));
  chips.forEach(({ constants }, chip) => {
    for (const { hemisphere, slice, row, rows } of constants) marks.markWritten(chip, hemisphere, slice, row, rows);
  });
  placeInputs?.(marks);
  return marks.written;
}

/** Constant rows that a run overwrites, to be put back before the next. */
function overwrittenConstants(sram: Sram, { changed }: LinkedProgram): LinkedProgram["data"] {
  const { lanes } = sram.target;
  const rows: { address: number; bytes: Uint8Array; changes: boolean }[] = [];
  for (let row = 0; row < changed.length; row++) {
    if (changed[row] === 0 || sram.written[row] === 0) continue;
    rows.push({ address: row * lanes, bytes: sram.bytes.slice(row * lanes, (row + 1) * lanes), changes: true });
  }
  return rows;
}
