/**
 * What each burst takes from streams and gives to them, from the table of instructions: stream, position, the cycle in which
 * its first vector stands there, and whether it is only tapped. A burst then meets the vectors of equal diagonals.
 */

import { operandSpecs, operandStreams } from "../ir/operands.js";
import { MNEMONICS, type StreamNumber } from "../ir/isa.js";
import { type QueueNumber, queuePlace, type TimedInstruction, positionOf } from "../ir/program.js";
import type { Target } from "../ir/target.js";

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

/** Operands of the instructions of one target. */
export interface Operands {
  readonly takes: (instruction: TimedInstruction, visit: (operand: StreamOperand) => void) => void;
  readonly gives: (instruction: TimedInstruction, visit: (operand: StreamOperand) => void) => void;
  readonly chains: (instruction: TimedInstruction, visit: (operand: ChainOperand) => void) => void;
}

export function operandsOf(target: Target): Operands {
  const specs = new Map(MNEMONICS.map((op) => [op, operandSpecs(target, op)]));
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

/** Where a queue's unit stands, in hops from the VXM, west negative. */
export const queuePosition = (target: Target, queue: QueueNumber): number =>
  positionOf(target, queuePlace(target, queue));
