/**
 * Operands of instructions, by the tables of the ISA: the numbers that each may be, and of those on streams where and when each
 * is taken or given, and how many neighbouring streams it has.
 */

import { DTYPES } from "./dtype.js";
import {
  type FieldRow,
  ISA,
  type InstructionRow,
  isStreamType,
  type Mnemonic,
  mxmModeOf,
  type OperandKind,
  STREAM_TYPES,
} from "./isa.js";
import type { TimedInstruction } from "./program.js";
import type { Target } from "./target.js";

/** Operands that are words, or sources, which have parts of their own; all others are whole numbers. */
type WordKind = "type" | "function" | "source";
export type NumberKind = Exclude<OperandKind, WordKind>;
export type NumberRange = readonly [least: number, greatest: number];

/** The most that the 16 bits of a count hold. */
export const COUNT_MAX = 65535;

/** What the 16 bits of an offset hold: the step of a burst, too. */
export const OFFSETS: NumberRange = [-32768, 32767];

/** By kind, on a target. */
export const NUMBER_RANGES: Readonly<Record<NumberKind, (target: Target, row: FieldRow) => NumberRange>> = {
  stream: ({ streams }) => [0, 2 * streams - 1],
  optionalStream: ({ streams }) => [-1, 2 * streams - 1],
  address: ({ rowsPerBank }) => [0, 2 * rowsPerBank - 1],
  count: () => [0, COUNT_MAX],
  offset: () => OFFSETS,
  lane: ({ lanes }) => [0, lanes],
  column: ({ lanes }) => [0, lanes - 1],
  bit: () => [0, 1],
  accumulatorRow: ({ planes, accumulatorRows }) => [0, planes * accumulatorRows - 1],
  map: () => [0, COUNT_MAX],
  link: ({ links }) => [0, links - 1],
  mode: (_, { words = [] }) => [0, words.length - 1],
};

export const isNumberKind = (kind: OperandKind): kind is NumberKind => Object.hasOwn(NUMBER_RANGES, kind);

/** A stream operand in a field of an instruction; `slot` is its place among those that are taken, or given. */
export interface OperandSpec {
  readonly field: string;
  readonly slot: number;
  /** Cycles from the dispatch of an execution until its vector is on the unit's stream register. */
  readonly offset: number;
}

/** What an instruction takes from streams and gives to them. */
export interface OperandSpecs {
  readonly takes: readonly OperandSpec[];
  readonly gives: readonly OperandSpec[];
}

export const operandSpecs = (target: Target, op: Mnemonic): OperandSpecs => {
  const row: InstructionRow = ISA[op];
  return {
    takes: Object.entries(row.takes).map(([field, { skew, sign = 1 }], slot) => ({
      field,
      slot,
      offset: sign * (skew === 0 ? 0 : target.timing[skew]),
    })),
    gives: Object.entries(row.gives).map(([field, latency], slot) => ({ field, slot, offset: target.timing[latency] })),
  };
};

/** How many streams an operand has: a number, the name of the type field that says it, or a rule. */
const WIDTHS: Readonly<Partial<Record<Mnemonic, Readonly<Record<string, number | string>>>>> = {
  gather: { map: 2 },
  scatter: { map: 2 },
  ifetch: { source: 2 },
  unary: { a: "type", give: "as", give2: "as" },
  binary: { a: "typeA", b: "typeB", give: "as", give2: "as" },
  ternary: { a: "typeA", b: "typeB", c: "typeC", give: "as", give2: "as" },
  lw: { stream: "mode" },
  iwStream: { stream: "mode" },
  abc: { stream: "mode" },
  acc: { give: 4 },
  shift: { source: "type", give: "type" },
  select: { a: "type", b: "type", give: "type" },
  permute: { source: "type", give: "type" },
  distribute: { source: "type", give: "type" },
  rotate: { source: "type", give: "type" },
  transpose: { source: "superlane", give: "superlane" },
};

/** Neighbouring streams of one element, to which an operand is aligned. */
export const elementStreams = (target: Target, instruction: TimedInstruction, field: string): number => {
  const rule = WIDTHS[instruction.op]?.[field] ?? 1;
  if (typeof rule === "number") return rule;
  if (rule === "superlane") return target.superlane;
  const mode = rule === "mode" ? mxmModeOf(instruction) : undefined;
  if (mode !== undefined) return DTYPES[mode.type].bytes;
  const type = instruction.fields[rule];
  return typeof type === "string" && isStreamType(type) ? STREAM_TYPES[type].bytes : 1;
};

/** Streams of a whole operand. */
export const operandStreams = (target: Target, instruction: TimedInstruction, field: string): number =>
  elementStreams(target, instruction, field) * ("ways" in instruction.fields ? Number(instruction.fields["ways"]) : 1);
