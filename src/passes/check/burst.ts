/**
 * What all parts of the schedule checker share: the bursts of one chip, what each instruction takes from and gives to
 * streams, and how a broken rule is reported.
 *
 * Everything is derived from the ISA table and the target. Invariant: a part that returns has proved its rule for every
 * execution of every burst; the first broken rule raises a MachineFault with cycle, queue, instruction and ONNX node.
 */

import { isGenerated } from "../../ir/bursts.js";
import { operandSpecs } from "../../ir/operands.js";
import { type DiagnosticCode, invariant, MachineFault, sure } from "../../diagnostics.js";
import {
  completionCycles,
  ISA,
  type InstructionRow,
  MNEMONICS,
  type Mnemonic,
  type OperandKind,
} from "../../ir/isa.js";
import {
  type ChipProgram,
  type FieldValue,
  type EntryProgram,
  type QueuePlace,
  queueName,
  queuePlace,
  type TimedInstruction,
  positionOf,
} from "../../ir/program.js";
import type { Target } from "../../ir/target.js";

/** An instruction record with its place. */
export interface Burst {
  /** Bursts of a chip are numbered from 0. */
  readonly number: number;
  readonly queue: number;
  readonly place: QueuePlace;
  readonly position: number;
  readonly instruction: TimedInstruction;
  /** Cycle of the last execution. */
  readonly last: number;
}

/** One chip of an entry, with its bursts in order and what their instructions take and give. */
export interface CheckedChip {
  readonly program: EntryProgram;
  readonly target: Target;
  readonly index: number;
  readonly chip: ChipProgram;
  readonly specs: ReadonlyMap<Mnemonic, OpSpec>;
  /** Of each queue, in order. */
  readonly queues: readonly (readonly Burst[])[];
  /** How many bursts there are. */
  readonly bursts: number;
  /** One past the last effect of any instruction. */
  readonly cycles: number;
}

/** A stream operand: `offset` cycles after dispatch its value stands on the unit's stream register. */
export interface StreamSpec {
  readonly field: string;
  readonly offset: number;
  /** Bit in `tap`. */
  readonly slot: number;
}

/** An instruction as the parts of the checker ask for it. */
export interface OpSpec {
  readonly op: Mnemonic;
  readonly row: InstructionRow;
  readonly fields: readonly { readonly name: string; readonly kind: OperandKind }[];
  readonly takes: readonly StreamSpec[];
  readonly gives: readonly StreamSpec[];
  /** Bursts are loops of the slice's address generator, and leave the queue free. */
  readonly generator: boolean;
}

const specsOf = (target: Target): ReadonlyMap<Mnemonic, OpSpec> =>
  new Map(MNEMONICS.map((op) => [op, specOf(target, op)]));

const specOf = (target: Target, op: Mnemonic): OpSpec => {
  const row: InstructionRow = ISA[op];
  return {
    op,
    row,
    fields: Object.entries(row.fields).map(([name, { kind }]) => ({ name, kind })),
    ...operandSpecs(target, op),
    generator: isGenerated(op),
  };
};

export const checkedChip = (program: EntryProgram, index: number): CheckedChip => {
  const { target } = program;
  const chip = program.chips[index];
  invariant(chip !== undefined, `chip ${index} of ${program.chips.length}`);
  const specs = specsOf(target);
  let cycles = 0;
  let bursts = 0;
  const queues = chip.queues.map((instructions, queue): Burst[] => {
    const place = queuePlace(target, queue);
    const position = positionOf(target, place);
    return instructions.map((instruction) => {
      const last = instruction.cycle + (instruction.count - 1) * instruction.interval;
      cycles = Math.max(cycles, last + completionCycles(target, instruction));
      return { number: bursts++, queue, place, position, instruction, last };
    });
  });
  return { program, target, index, chip, specs, queues, bursts, cycles };
};

export const specOfOp = (specs: ReadonlyMap<Mnemonic, OpSpec>, op: Mnemonic): OpSpec => sure(specs.get(op), "row");

/** Whether two instructions are the same but for cycle, operands and origin. */
export const haveSameForm = (a: TimedInstruction, b: TimedInstruction): boolean =>
  a.op === b.op && a.count === b.count && a.interval === b.interval && a.step === b.step && a.tap === b.tap;

/** First stream of an operand, or -1 if it names none. */
export const streamOf = (value: FieldValue | undefined): number => {
  if (typeof value === "number") return value;
  return typeof value === "object" && "stream" in value ? value.stream : -1;
};

export function raise(
  { program, target, index }: CheckedChip,
  code: DiagnosticCode,
  { queue, instruction }: Burst,
  cycle: number,
  message: string,
): never {
  const unit = `${index === 0 ? "" : `chip ${index} `}${queueName(target, queue)}`;
  const origin = program.origins[instruction.origin] ?? "";
  throw new MachineFault(code, { cycle, unit, instruction: describe(target, instruction), origin }, message);
}

/** The burst in words: `write at cycle 120 of mem.e3`. */
export const brief = ({ target }: CheckedChip, { queue, instruction }: Burst): string =>
  `${instruction.op} at cycle ${instruction.cycle} of ${queueName(target, queue)}`;

export const streamName = ({ streams }: Target, stream: number): string =>
  stream < streams ? `e${stream}` : `w${stream - streams}`;

const describe = (target: Target, { op, fields, count, interval, step, tap }: TimedInstruction): string => {
  const row: InstructionRow = ISA[op];
  const taken = Object.keys(row.takes);
  const operands = Object.entries(row.fields).map(([name, { kind, words }]) => {
    const value = fields[name];
    const tapped = kind === "stream" && ((tap >> taken.indexOf(name)) & 1) === 1 && taken.includes(name) ? "~" : "";
    return ` ${name}=${show(target, kind, value, words)}${tapped}`;
  });
  const burst = count === 1 ? "" : ` x${count}${interval === 1 ? "" : ` /${interval}`}`;
  return `${op}${operands.join("")}${burst}${step === 0 ? "" : ` ${step > 0 ? "+" : ""}${step}`}`;
};

const show = (
  target: Target,
  kind: OperandKind,
  value: FieldValue | undefined,
  words: readonly string[] | undefined,
): string => {
  if (typeof value === "object") {
    if ("alu" in value) return `alu${value.alu}@${value.age}`;
    return "stream" in value ? `${streamName(target, value.stream)}${value.tap ? "~" : ""}` : String(value.constant);
  }
  if (typeof value !== "number") return String(value);
  if (kind === "stream" || kind === "optionalStream") return value < 0 ? "-" : streamName(target, value);
  return kind === "mode" ? (words?.[value] ?? String(value)) : String(value);
};
