/**
 * How the machines say what went wrong: the instruction as text, its queue by name, its cycle and its ONNX node.
 */

import { printInstruction } from "../codegen/listing/print.js";
import { type DiagnosticCode, MachineFault } from "../diagnostics.js";
import { type QueueNumber, queueName, type TimedInstruction } from "../ir/program.js";
import type { Target } from "../ir/target.js";

/** One instruction of one queue, at one cycle. */
export interface FaultPlace {
  readonly target: Target;
  readonly chip: number;
  readonly queue: QueueNumber;
  readonly instruction: TimedInstruction;
  readonly cycle: number;
  readonly origins: readonly string[];
}

export function raise(code: DiagnosticCode, place: FaultPlace, message: string): never {
  const { target, chip, queue, instruction, cycle, origins } = place;
  const unit = `${chip === 0 ? "" : `chip ${chip} `}${queueName(target, queue)}`;
  const origin = origins[instruction.origin] ?? "";
  throw new MachineFault(code, { cycle, unit, instruction: printInstruction(target, instruction), origin }, message);
}
