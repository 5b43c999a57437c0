/**
 * Small machine programs as text, for tests: one instruction a line, `queue cycle mnemonic operands burst`, in any order,
 * and access to SRAM by name. Lines are parsed one by one, so that a program may also break the rules of queues. A queue of
 * another chip is written `1:mem.w0`.
 */

import { parseAssembly } from "../src/codegen/listing/assemble.js";
import { f16ToF32, f32ToF16 } from "../src/ir/numerics.js";
import {
  chipCycles,
  type ChipProgram,
  type Link,
  parseQueueName,
  type Program,
  queueCount,
  type TimedInstruction,
} from "../src/ir/program.js";
import { TARGETS, type Target } from "../src/ir/target.js";
import { type LiteralResult, runLiteral } from "../src/runtime/literal/literal.js";
import { createMachine, type LoadedProgram, type MachineOptions } from "../src/runtime/machine.js";
import { Sram } from "../src/runtime/sram.js";
import type { MachineProgram } from "../src/runtime/program.js";

export interface ProgramOptions {
  readonly target?: Target;
  readonly maps?: readonly (readonly number[])[];
  readonly links?: readonly Link[];
  readonly chips?: number;
}

export function programOf(
  lines: string,
  { target = TARGETS.tiny, maps = [], links = [], chips = 1 }: ProgramOptions = {},
): MachineProgram {
  const queues = Array.from({ length: chips }, () =>
    Array.from({ length: queueCount(target) }, (): TimedInstruction[] => []),
  );
  for (const line of lines.split("\n")) {
    const [, chip = "0", queue, rest] = /^\s*(?:(\d+):)?(\S+)\s+(.*)$/.exec(line) ?? [];
    if (queue === undefined) continue;
    const number = parseQueueName(target, queue) ?? -1;
    const parsed =
      parseAssembly(`.program "test"\n.target ${JSON.stringify(target)}\n${queue}:\n${rest}`).entries[0]?.queues[0]?.[
        number
      ] ?? [];
    queues[Number(chip)]?.[number]?.push(...parsed);
  }
  const built = queues.map(
    (own): ChipProgram => ({
      queues: own.map((queue) => queue.sort((a, b) => a.cycle - b.cycle)),
      constants: [],
      maps: maps.map((map) => Int16Array.from(map)),
    }),
  );
  return { target, chips: built, links, origins: ["test"] };
}

/** A whole program of one entry, "main", that has no inputs and outputs. */
export const wholeProgram = ({ target, chips, links, origins }: MachineProgram, name = "test"): Program => {
  const queues = chips.map((chip) => chip.queues);
  const cycles = queues.map((own) => chipCycles(target, own));
  return {
    ...{ target, name, links, origins, states: [] },
    chips: chips.map(({ constants, maps }) => ({ constants, maps })),
    entries: [{ name: "main", inputs: [], outputs: [], queues, cycles, macs: 0 }],
  };
};

/** A machine that runs one program. */
export function machineOf(program: MachineProgram, options: MachineOptions = {}): LoadedProgram & { sram: Sram } {
  const { sram, programs } = createMachine([program], options);
  const [only] = programs;
  if (only === undefined) throw new RangeError("no program");
  return { ...only, sram };
}

/** A row of SRAM: `w3:17`, on chip 1 `1:w3:17`. */
function place(name: string): readonly [chip: number, hemisphere: "W" | "E", slice: number, row: number] {
  const [, chip = "0", side, slice, row] = /^(?:(\d+):)?([we])(\d+):(\d+)$/.exec(name) ?? [];
  return [Number(chip), side === "w" ? "W" : "E", Number(slice), Number(row)];
}

export function setRow(sram: Sram, name: string, bytes: ArrayLike<number>): void {
  const [chip, hemisphere, slice, row] = place(name);
  sram.span(chip, hemisphere, slice, row, 1).set(bytes);
  sram.markWritten(chip, hemisphere, slice, row, 1);
}

export function getRow(sram: Sram, name: string): number[] {
  const [chip, hemisphere, slice, row] = place(name);
  return [...sram.span(chip, hemisphere, slice, row, 1)];
}

/** Numbers of g bytes, byte b on slice `first + b`. */
export function setWords(sram: Sram, name: string, bytes: number, words: ArrayLike<number>): void {
  const [chip, hemisphere, slice, row] = place(name);
  for (let byte = 0; byte < bytes; byte++) {
    setRow(
      sram,
      `${chip}:${hemisphere.toLowerCase()}${slice + byte}:${row}`,
      Array.from(words, (word) => (word >> (8 * byte)) & 255),
    );
  }
}

export function getWords(sram: Sram, name: string, bytes: number): number[] {
  const [chip, hemisphere, slice, row] = place(name);
  const planes = Array.from({ length: bytes }, (_, byte) =>
    getRow(sram, `${chip}:${hemisphere.toLowerCase()}${slice + byte}:${row}`),
  );
  return (planes[0] ?? []).map((_, lane) =>
    planes.reduce((word, plane, byte) => word | ((plane[lane] ?? 0) << (8 * byte)), 0),
  );
}

export const setF16 = (sram: Sram, name: string, values: readonly number[]): void =>
  setWords(sram, name, 2, values.map(f32ToF16));
export const getF16 = (sram: Sram, name: string): number[] => getWords(sram, name, 2).map(f16ToF32);
export const getF32 = (sram: Sram, name: string): number[] => [
  ...new Float32Array(Int32Array.from(getWords(sram, name, 4)).buffer),
];
export function setF32(sram: Sram, name: string, values: readonly number[]): void {
  setWords(sram, name, 4, new Int32Array(Float32Array.from(values).buffer));
}

/** Runs a program on the literal machine, after `prepare` has filled SRAM. */
export function runText(
  lines: string,
  prepare: (sram: Sram) => void = () => undefined,
  options: ProgramOptions = {},
): LiteralResult {
  const program = programOf(lines, options);
  const sram = new Sram(program.target, program.chips.length);
  prepare(sram);
  return runLiteral(program, sram);
}
