/**
 * Operand codecs, one row for each kind in OPERAND_KINDS: range, width in bits, bits to value and back, text to value and back.
 *
 * Encoder, decoder, assembler and disassembler go through this table and know no instruction by name. Every value has one
 * bit pattern and one canonical text; a pattern that the writer would not have made is refused, so that images and listings
 * convert without loss. Widths follow from the target (a smaller machine has narrower fields).
 */

import { sure } from "../../diagnostics.js";
import {
  ALU_FUNCTIONS,
  type FieldRow,
  isAluFunction,
  type OperandKind,
  type Source,
  STREAM_TYPES,
} from "../../ir/isa.js";
import { NUMBER_RANGES, type NumberKind } from "../../ir/operands.js";
import type { FieldValue } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import type { BitReader, BitWriter } from "./bits.js";

/** One field of one instruction on one target. */
export interface FieldLayout {
  readonly name: string;
  readonly row: FieldRow;
  readonly target: Target;
  /** Least and greatest value of a number, or code of a word. */
  readonly min: number;
  readonly max: number;
  /** Bits in program text, without the tap bit; of a `source` the most it can take. */
  readonly width: number;
  /** `source` fields in the same instruction: what an ALU function must have as operands. */
  readonly sources: number;
  /** Bit in TimedInstruction.tap, or -1 where a tap makes no sense. */
  readonly tapBit: number;
}

export interface OperandCodec {
  readonly range: (target: Target, row: FieldRow) => readonly [min: number, max: number];
  /** What was expected, if the value is not one. */
  readonly refuse: (value: FieldValue | undefined, field: FieldLayout) => string | undefined;
  readonly write: (bits: BitWriter, value: FieldValue, field: FieldLayout) => void;
  /** Undefined if the bits are not what `write` makes of any value. */
  readonly read: (bits: BitReader, field: FieldLayout) => FieldValue | undefined;
  readonly print: (value: FieldValue, field: FieldLayout) => string;
  readonly parse: (text: string, field: FieldLayout) => FieldValue | undefined;
}

export const OPERAND_CODECS: { readonly [K in OperandKind]: OperandCodec } = {
  stream: integer("stream", printStream, parseStream),
  optionalStream: integer("optionalStream", printStream, parseStream),
  address: integer("address"),
  count: integer("count"),
  offset: integer("offset"),
  source: source(),
  type: words(Object.keys(STREAM_TYPES)),
  function: words(functionNames()),
  lane: integer("lane"),
  column: integer("column"),
  bit: integer("bit"),
  accumulatorRow: integer("accumulatorRow"),
  map: integer("map"),
  link: integer("link"),
  mode: integer("mode", printMode, parseMode),
};

export function fieldLayout(
  target: Target,
  name: string,
  row: FieldRow,
  place: { readonly sources: number; readonly tapBit: number },
): FieldLayout {
  const [min, max] = OPERAND_CODECS[row.kind].range(target, row);
  const width = row.kind === "source" ? SOURCE_TAG_BITS + 32 : bitsFor(max - min);
  return Object.freeze({ name, row, target, min, max, width, ...place });
}

/** Bits that hold 0 .. greatest. */
const bitsFor = (greatest: number): number => 32 - Math.clz32(greatest);

/** A whole number, kept as its distance from the least one. */
function integer(
  kind: NumberKind,
  print: (value: number, field: FieldLayout) => string = String,
  parse: (text: string, field: FieldLayout) => number | undefined = parseInteger,
): OperandCodec {
  return {
    range: NUMBER_RANGES[kind],
    refuse: (value, { min, max }) =>
      typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
        ? undefined
        : `a whole number from ${min} to ${max}`,
    write: (bits, value, { min, width }) => {
      if (typeof value === "number") bits.put(value - min, width);
    },
    read: (bits, { min, max, width }) => {
      const value = bits.get(width) + min;
      return value <= max ? value : undefined;
    },
    print: (value, field) => (typeof value === "number" ? print(value, field) : ""),
    parse,
  };
}

/** A word out of a list with holes; the code is its place in the list. */
function words(names: readonly (string | undefined)[]): OperandCodec {
  const codes = new Map(names.map((name, code) => [name, code]));
  return {
    range: () => [0, names.length - 1],
    refuse: (value, field) => {
      if (typeof value !== "string" || !codes.has(value)) return `one of ${names.filter(Boolean).join(", ")}`;
      return refuseFunction(value, field);
    },
    write: (bits, value, { width }) => {
      if (typeof value === "string") bits.put(sure(codes.get(value), "code of a word"), width);
    },
    read: (bits, { width }) => names[bits.get(width)],
    print: (value) => String(value),
    parse: (text) => (codes.has(text) ? text : undefined),
  };
}

function functionNames(): (string | undefined)[] {
  const names: (string | undefined)[] = [];
  for (const [name, { code }] of Object.entries(ALU_FUNCTIONS)) names[code] = name;
  return Array.from(names);
}

function refuseFunction(name: string, { row, sources }: FieldLayout): string | undefined {
  if (row.kind !== "function" || !isAluFunction(name)) return undefined;
  const { operands } = ALU_FUNCTIONS[name];
  return operands === sources ? undefined : `a function of ${sources} operands (${name} has ${operands})`;
}

function parseInteger(text: string): number | undefined {
  return /^-?\d{1,10}$/.test(text) ? Number(text) : undefined;
}

function printMode(value: number, { row }: FieldLayout): string {
  return row.words?.[value] ?? String(value);
}

function parseMode(text: string, { row }: FieldLayout): number | undefined {
  const index = row.words?.indexOf(text) ?? -1;
  return index < 0 ? undefined : index;
}

function printStream(value: number, { target }: FieldLayout): string {
  if (value < 0) return "-";
  return value < target.streams ? `e${value}` : `w${value - target.streams}`;
}

function parseStream(text: string, { target }: FieldLayout): number | undefined {
  if (text === "-") return -1;
  const match = /^([ew])(\d{1,4})$/.exec(text);
  const index = Number(match?.[2]);
  if (match === null || index >= target.streams) return undefined;
  return match[1] === "e" ? index : target.streams + index;
}

/** Tags of a source: what follows it. */
const SOURCE_TAG_BITS = 2;
const TAG_STREAM = 0;
const TAG_ALU = 1;
const TAG_FLOAT = 2;
const TAG_INT = 3;

/** A stream with its tap, an ALU result with its age, or a constant: fp32, or an int32 that fp32 cannot hold. */
function source(): OperandCodec {
  return {
    range: () => [0, 0],
    refuse: refuseSource,
    write: (bits, value, { target }) => {
      if (typeof value !== "object") return;
      if ("stream" in value) {
        bits.put(TAG_STREAM, SOURCE_TAG_BITS);
        bits.put(value.stream, bitsFor(2 * target.streams - 1));
        bits.put(value.tap ? 1 : 0, 1);
      } else if ("alu" in value) {
        bits.put(TAG_ALU, SOURCE_TAG_BITS);
        bits.put(value.alu, bitsFor(target.alus - 1));
        bits.put(value.age, bitsFor(target.chainDepth));
      } else if (isFloat(value.constant)) {
        bits.put(TAG_FLOAT, SOURCE_TAG_BITS);
        bits.put(floatBits(value.constant), 32);
      } else {
        bits.put(TAG_INT, SOURCE_TAG_BITS);
        bits.put(value.constant, 32);
      }
    },
    read: readSource,
    print: (value, field) => {
      if (typeof value !== "object") return "";
      if ("stream" in value) return `${printStream(value.stream, field)}${value.tap ? "~" : ""}`;
      return "alu" in value ? `alu${value.alu}@${value.age}` : printConstant(value.constant);
    },
    parse: parseSource,
  };
}

function refuseSource(value: FieldValue | undefined, { target }: FieldLayout): string | undefined {
  if (typeof value !== "object") return "a stream, an ALU result or a constant";
  if ("stream" in value) {
    return within(value.stream, 2 * target.streams - 1) ? undefined : `a stream from 0 to ${2 * target.streams - 1}`;
  }
  if ("alu" in value) {
    if (!within(value.alu, target.alus - 1)) return `an ALU from 0 to ${target.alus - 1}`;
    return within(value.age, target.chainDepth) ? undefined : `an age from 0 to ${target.chainDepth}`;
  }
  return isFloat(value.constant) || isInt(value.constant) ? undefined : "a constant that fp32 or int32 holds exactly";
}

function readSource(bits: BitReader, { target }: FieldLayout): Source | undefined {
  const tag = bits.get(SOURCE_TAG_BITS);
  if (tag === TAG_STREAM) {
    const stream = bits.get(bitsFor(2 * target.streams - 1));
    const tap = bits.get(1) === 1;
    return stream < 2 * target.streams ? { stream, tap } : undefined;
  }
  if (tag === TAG_ALU) {
    const alu = bits.get(bitsFor(target.alus - 1));
    const age = bits.get(bitsFor(target.chainDepth));
    return alu < target.alus && age <= target.chainDepth ? { alu, age } : undefined;
  }
  const pattern = bits.get(32);
  if (tag === TAG_FLOAT) {
    const constant = floatOf(pattern);
    return floatBits(constant) === pattern ? { constant } : undefined;
  }
  return isFloat(pattern | 0) ? undefined : { constant: pattern | 0 };
}

function parseSource(text: string, field: FieldLayout): Source | undefined {
  const chained = /^alu(\d{1,3})@(\d{1,5})$/.exec(text);
  if (chained !== null) return { alu: Number(chained[1]), age: Number(chained[2]) };
  const tap = text.endsWith("~");
  const stream = text === "-" ? undefined : parseStream(tap ? text.slice(0, -1) : text, field);
  if (stream !== undefined) return { stream, tap };
  const constant = parseConstant(text);
  return constant === undefined ? undefined : { constant };
}

const within = (value: number, max: number): boolean => Number.isInteger(value) && value >= 0 && value <= max;
const isFloat = (value: number): boolean => Object.is(Math.fround(value), value);
const isInt = (value: number): boolean => (value | 0) === value;

const FLOAT = new Float32Array(1);
const PATTERN = new Uint32Array(FLOAT.buffer);
const CANONICAL_NAN = 0x7fc00000;

function floatBits(value: number): number {
  if (Number.isNaN(value)) return CANONICAL_NAN;
  FLOAT[0] = value;
  return PATTERN[0] ?? 0;
}

function floatOf(pattern: number): number {
  PATTERN[0] = pattern;
  return FLOAT[0] ?? 0;
}

/** The shortest decimal that reads back as this constant. */
function printConstant(value: number): string {
  if (Object.is(value, -0)) return "-0";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  for (let digits = 1; digits <= 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (parseConstant(text) === value) return text;
  }
  return String(value);
}

/** Rounds to fp32, except an int32 that fp32 cannot hold. */
function parseConstant(text: string): number | undefined {
  if (text === "inf") return Number.POSITIVE_INFINITY;
  if (text === "-inf") return Number.NEGATIVE_INFINITY;
  if (text === "nan") return Number.NaN;
  if (!/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return undefined;
  const value = Number(text);
  return isInt(value) ? value : Math.fround(value);
}
