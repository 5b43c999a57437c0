/**
 * What both machines run, what they count, and how they read the fields of an instruction.
 */

import { DTYPES } from "../ir/dtype.js";
import {
  ISA,
  type InstructionRow,
  isStreamType,
  type Mnemonic,
  mxmModeOf,
  STREAM_TYPES,
  type StreamType,
  weightColumns,
} from "../ir/isa.js";
import type { EntryProgram, TimedInstruction } from "../ir/program.js";
import type { OuterWire } from "../ir/stage.js";
import type { Target } from "../ir/target.js";
import type { Disturbance } from "./disturb.js";

export interface MachineProgram extends Pick<EntryProgram, "target" | "chips" | "links" | "origins"> {
  /** What comes from, and goes to, chips that are not here. */
  readonly outer?: readonly OuterWire[];
  /** What goes other than planned on wires. */
  readonly disturbed?: Disturbance;
}
export type Vector = Uint8Array;

/** Vectors of outer wires, by name. */
export type OuterVectors = Readonly<Record<string, readonly Vector[]>>;

export interface Counters {
  /** Executions by instruction. */
  readonly executions: Partial<Record<Mnemonic, number>>;
  /** Multiply-accumulates of the MXM, padding included. */
  macs: number;
}

/** A numeric field at the execution of a burst that is number `index`. */
export function numberField(
  { instruction, index }: { readonly instruction: TimedInstruction; readonly index: number },
  name: string,
): number {
  const row: InstructionRow = ISA[instruction.op];
  const advances = row.fields[name]?.advances ?? 0;
  return (
    Number(instruction.fields[name]) +
    index * (typeof advances === "number" ? advances : advance(instruction, advances))
  );
}

function advance({ fields, step, op }: TimedInstruction, by: "step" | "ways"): number {
  if (by === "step") return step;
  return weightColumns({ op, fields });
}

export function typeField({ fields }: Pick<TimedInstruction, "fields">, name: string): StreamType {
  const type = String(fields[name]);
  return isStreamType(type) ? type : "u8";
}

/** How many streams a stream operand takes or gives: groups of `unit` neighbours, each aligned to `unit`. */
export interface StreamGroup {
  readonly unit: number;
  readonly groups: number;
}

export function streamGroup(
  target: Target,
  instruction: Pick<TimedInstruction, "op" | "fields">,
  name: string,
): StreamGroup {
  const one = (unit: number): StreamGroup => ({ unit, groups: 1 });
  const { op } = instruction;
  switch (op) {
    case "gather":
    case "scatter":
      return one(name === "map" ? 2 : 1);
    case "ifetch":
      return one(2);
    case "unary":
      return one(STREAM_TYPES[typeField(instruction, name === "a" ? "type" : "as")].bytes);
    case "binary":
    case "ternary":
      return one(
        STREAM_TYPES[typeField(instruction, name.startsWith("give") ? "as" : `type${name.toUpperCase()}`)].bytes,
      );
    case "lw":
    case "iwStream":
      return { unit: modeBytes(instruction), groups: Number(instruction.fields["ways"]) };
    case "abc":
      return one(modeBytes(instruction));
    case "acc":
      return one(4);
    case "shift":
    case "select":
    case "permute":
    case "distribute":
    case "rotate":
      return one(STREAM_TYPES[typeField(instruction, "type")].bytes);
    case "transpose":
      return one(target.superlane);
    default:
      return one(1);
  }
}

/** Bytes of an element that an instruction of the MXM takes. */
function modeBytes(instruction: Pick<TimedInstruction, "op" | "fields">): number {
  const mode = mxmModeOf(instruction);
  return mode === undefined ? 1 : DTYPES[mode.type].bytes;
}
