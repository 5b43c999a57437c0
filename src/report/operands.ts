/**
 * What each burst takes from streams and gives to them, from the table of instructions: stream, position, the cycle in which
 * its first vector stands there, and whether it is only tapped. A burst then meets the vectors of equal diagonals.
 */

import {
  ISA,
  type InstructionRow,
  isStreamType,
  MNEMONICS,
  type Mnemonic,
  STREAM_TYPES,
  type StreamNumber,
} from "../ir/isa.js";
import { type QueueNumber, queuePlace, type TimedInstruction } from "../ir/program.js";
import { mxmPosition, slicePosition, sxmPosition, type Target } from "../ir/target.js";

/** A stream operand of one instruction, all of its neighbouring streams together. */
export interface StreamOperand {
  readonly stream: StreamNumber;
  readonly streams: number;
  /** Cycles from the dispatch of an execution until its vector is on the unit's stream register. */
  readonly offset: number;
  readonly tap: boolean;
}

/** An operand that is the result of another ALU: the burst that executed there `before` cycles before this one. */
export interface ChainOperand {
  readonly alu: number;
  readonly before: number;
}

interface FieldSpec {
  readonly field: string;
  readonly slot: number;
  readonly offset: number;
}

interface OperandSpec {
  readonly takes: readonly FieldSpec[];
  readonly gives: readonly FieldSpec[];
}

/** Operands of the instructions of one target. */
export interface Operands {
  readonly takes: (instruction: TimedInstruction, visit: (operand: StreamOperand) => void) => void;
  readonly gives: (instruction: TimedInstruction, visit: (operand: StreamOperand) => void) => void;
  readonly chains: (instruction: TimedInstruction, visit: (operand: ChainOperand) => void) => void;
}

export function operandsOf(target: Target): Operands {
  const specs = new Map(MNEMONICS.map((op) => [op, specOf(target, op)]));
  return {
    takes: (instruction, visit) => {
      for (const { field, slot, offset } of specs.get(instruction.op)?.takes ?? []) {
        const value = instruction.fields[field];
        const streams = operandStreams(target, instruction, field);
        if (typeof value === "number") {
          visit({ stream: value, streams, offset, tap: ((instruction.tap >> slot) & 1) === 1 });
        } else if (typeof value === "object" && "stream" in value) {
          visit({ stream: value.stream, streams, offset, tap: value.tap });
        }
      }
    },
    gives: (instruction, visit) => {
      for (const { field, offset } of specs.get(instruction.op)?.gives ?? []) {
        const value = instruction.fields[field];
        if (typeof value !== "number" || value < 0) continue;
        visit({ stream: value, streams: operandStreams(target, instruction, field), offset, tap: false });
      }
    },
    chains: (instruction, visit) => {
      for (const { field } of specs.get(instruction.op)?.takes ?? []) {
        const value = instruction.fields[field];
        if (typeof value === "object" && "alu" in value)
          visit({ alu: value.alu, before: target.timing.vxmAlu + value.age });
      }
    },
  };
}

function specOf(target: Target, op: Mnemonic): OperandSpec {
  const row: InstructionRow = ISA[op];
  return {
    takes: Object.entries(row.takes).map(([field, { skew, sign = 1 }], slot) => ({
      field,
      slot,
      offset: sign * (skew === 0 ? 0 : target.timing[skew]),
    })),
    gives: Object.entries(row.gives).map(([field, latency], slot) => ({
      field,
      slot,
      offset: target.timing[latency],
    })),
  };
}

/** The field that holds the type of a stream operand; results have `as`, where there is one. */
const TYPE_FIELDS: Readonly<Record<string, readonly string[]>> = {
  a: ["typeA", "type"],
  b: ["typeB", "type"],
  c: ["typeC"],
  source: ["type"],
  give: ["as", "type"],
  give2: ["as"],
};

/** Neighbouring streams of an operand: the bytes of its type, and the groups that a weight load takes at once. */
export function operandStreams(target: Target, instruction: TimedInstruction, field: string): number {
  const { op, fields } = instruction;
  if (op === "read" || op === "write") return 1;
  if (op === "transpose") return target.superlane;
  if (op === "acc") return STREAM_TYPES.f32;
  if (field === "map" || op === "ifetch") return 2;
  if (op === "abc" || op === "lw" || op === "iwStream")
    return (isInt8(instruction) ? STREAM_TYPES.i8 : STREAM_TYPES.f16) * (op === "abc" ? 1 : Number(fields["ways"]));
  for (const name of TYPE_FIELDS[field] ?? []) {
    const type = fields[name];
    if (typeof type === "string" && isStreamType(type)) return STREAM_TYPES[type];
  }
  return 1;
}

/** Weights or activations of int8 (mode `full`); all others are fp16. */
export function isInt8({ op, fields }: TimedInstruction): boolean {
  const row: InstructionRow = ISA[op];
  return row.fields["mode"]?.words?.[Number(fields["mode"])] === "full";
}

/** Where a queue's unit stands, in hops from the VXM, west negative. */
export function queuePosition(target: Target, queue: QueueNumber): number {
  const { unit, hemisphere = "W", index } = queuePlace(target, queue);
  if (unit === "vxm") return 0;
  if (unit === "mem") return slicePosition(target, hemisphere, index);
  return unit === "sxm" ? sxmPosition(target, hemisphere) : mxmPosition(target, hemisphere);
}
