/**
 * Encoder: the timed instructions of one queue become program text, in which time is implicit.
 *
 * A queue starts with `sync` (one queue of a chip: `notify`) at cycle 0 and goes on at `timing.barrier`; `nop` fills every
 * gap. A burst of a MEM instruction is `iterations`, `countdown`, `step` before it (each only where it says something) and
 * one dispatch; any other burst is the instruction and `repeat`, during which the queue is busy. There is exactly one text
 * for a list of instructions, and `decodeQueue` gives the list back (interval 1 and step 0 where the count is 1). Origins are
 * not in the text: `encodeOrigins`.
 */

import { at, type DiagnosticCode, fail } from "../../diagnostics.js";
import { mayIssue, mostExecutions } from "../../ir/bursts.js";
import type { Mnemonic } from "../../ir/isa.js";
import { COUNT_MAX, OFFSETS } from "../../ir/operands.js";
import {
  type Program,
  type QueueNumber,
  type Queues,
  queueName,
  type TimedInstruction,
  unitOfQueue,
} from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { BitWriter } from "./bits.js";
import { type InstructionLayout, layoutOf, nextDispatch, OPCODE_BITS, refuseLast } from "./layout.js";
import { OPERAND_CODECS } from "./operands.js";

export interface EncodeOptions {
  /** This queue releases the barrier. */
  readonly notify: boolean;
  /** Where the instruction with this index was written, for messages. */
  readonly locate?: (index: number) => string;
}

export function encodeQueue(
  target: Target,
  queue: QueueNumber,
  instructions: readonly TimedInstruction[],
  options: EncodeOptions,
): Uint8Array {
  const bits = new BitWriter();
  if (instructions.length === 0) return bits.finish();
  const q: Encoding = { target, queue, instructions, options };
  const unit = unitOfQueue(target, queue);
  const { byName } = layoutOf(target);
  const encoded = new Map<TimedInstruction["fields"], Encoded>();
  const nops = new Map<number, Uint8Array>();
  bits.append(ownText(target, options.notify ? "notify" : "sync", []));
  let clock = target.timing.barrier;
  for (let index = 0; index < instructions.length; index++) {
    const instruction = at(instructions, index, "instruction");
    const { op, cycle, count, interval, fields } = instruction;
    const layout = byName.get(op);
    if (layout === undefined || layout.own || !mayIssue(layout.row, unit)) {
      return refuse(q, index, "LPU3023", `expected an instruction of unit '${unit}', got '${op}'`);
    }
    if (!Number.isSafeInteger(cycle) || cycle < clock) {
      refuse(q, index, "LPU3020", `expected a dispatch at cycle ${clock} or later, got ${cycle}`);
    }
    let known = encoded.get(fields);
    if (known === undefined || !hasText(known, instruction)) {
      known = { instruction, text: encodeInstruction(q, index, layout) };
      encoded.set(fields, known);
    }
    for (let gap = cycle - clock; gap > 0; gap -= COUNT_MAX) {
      const cycles = Math.min(gap, COUNT_MAX);
      const text = nops.get(cycles) ?? ownText(target, "nop", [cycles]);
      nops.set(cycles, text);
      bits.append(text);
    }
    bits.append(known.text);
    clock = nextDispatch(layout, cycle, count, interval);
  }
  return bits.finish();
}

/** What is encoded. */
interface Encoding {
  readonly target: Target;
  readonly queue: QueueNumber;
  readonly instructions: readonly TimedInstruction[];
  readonly options: EncodeOptions;
}

const refuse = (
  { target, queue, instructions, options }: Encoding,
  index: number,
  code: DiagnosticCode,
  message: string,
): never => {
  const { op, cycle } = at(instructions, index, "instruction");
  return fail(code, { message, at: options.locate?.(index) ?? `${queueName(target, queue)} cycle ${cycle} (${op})` });
};

/** An instruction, and its text. Layers that are alike share fields. */
interface Encoded {
  readonly instruction: TimedInstruction;
  readonly text: Uint8Array;
}

/** Whether the text is also that of another instruction with the same fields, at another time. */
const hasText = ({ instruction: one }: Encoded, other: TimedInstruction): boolean =>
  one.op === other.op &&
  one.count === other.count &&
  one.interval === other.interval &&
  one.step === other.step &&
  one.tap === other.tap;

/** The texts of all queues of a chip. */
export type ChipTexts = readonly Uint8Array[];

/** By entry and chip. */
export type ProgramTexts = readonly (readonly ChipTexts[])[];

export const encodeProgram = ({ target, entries }: Program): ProgramTexts =>
  entries.map(({ queues }) => queues.map((own) => encodeChip(target, own)));

/** The first queue that has instructions releases the barrier. */
export function encodeChip(target: Target, queues: Queues): ChipTexts {
  const first = notifier(queues);
  return queues.map((instructions, queue) => encodeQueue(target, queue, instructions, { notify: queue === first }));
}

export const notifier = (queues: Queues): QueueNumber => queues.findIndex(({ length }) => length > 0);

/** The text of an instruction with what makes it a burst. */
function encodeInstruction(q: Encoding, index: number, layout: InstructionLayout): Uint8Array {
  const { target } = q;
  const instruction = at(q.instructions, index, "instruction");
  const refused = refuseBurst(instruction, layout) ?? refuseFields(instruction, layout);
  if (refused !== undefined) refuse(q, index, "LPU3021", refused);
  const { fields, count, interval, step, tap } = instruction;
  const bits = new BitWriter();
  if (layout.generator && count > 1) {
    writeOwn(bits, target, "iterations", [count]);
    if (interval !== 1) writeOwn(bits, target, "countdown", [interval]);
    if (step !== 0) writeOwn(bits, target, "step", [step]);
  }
  bits.put(layout.row.opcode, OPCODE_BITS);
  for (const field of layout.fields) {
    const value = fields[field.name];
    if (value !== undefined) OPERAND_CODECS[field.row.kind].write(bits, value, field);
    if (field.tapBit >= 0) bits.put((tap >> field.tapBit) & 1, 1);
  }
  bits.align();
  if (bits.length > target.dispatchBytes) {
    refuse(
      q,
      index,
      "LPU3022",
      `needs ${bits.length} bytes, target '${target.name}' dispatches ${target.dispatchBytes}`,
    );
  }
  if (count > 1 && !layout.generator) writeOwn(bits, target, "repeat", [count - 1, interval]);
  return bits.finish();
}

/** The text of one of the encoder's own instructions; its operands are numbers in the row's order. */
function ownText(target: Target, op: Mnemonic, operands: readonly number[]): Uint8Array {
  const bits = new BitWriter();
  writeOwn(bits, target, op, operands);
  return bits.finish();
}

/** One of the encoder's own instructions; its operands are numbers in the row's order. */
function writeOwn(bits: BitWriter, target: Target, op: Mnemonic, operands: readonly number[]): void {
  const layout = layoutOf(target).byName.get(op);
  if (layout === undefined) return;
  bits.put(layout.row.opcode, OPCODE_BITS);
  layout.fields.forEach((field, index) => {
    OPERAND_CODECS[field.row.kind].write(bits, at(operands, index, "operand"), field);
  });
  bits.align();
}

function refuseBurst(
  { op, count, interval, step, tap }: TimedInstruction,
  { steps, tapMask }: InstructionLayout,
): string | undefined {
  const most = mostExecutions(op);
  if (!Number.isInteger(count) || count < 1 || count > most) return `expected a count from 1 to ${most}, got ${count}`;
  if (count === 1) return refuseTap(tap, tapMask);
  if (!Number.isInteger(interval) || interval < 1 || interval > COUNT_MAX) {
    return `expected an interval from 1 to ${COUNT_MAX}, got ${interval}`;
  }
  if (!Number.isInteger(step) || (step !== 0 && !steps)) return `expected step 0 for ${op}, got ${step}`;
  const [back, ahead] = OFFSETS;
  if (step < back || step > ahead) return `expected a step from ${back} to ${ahead}, got ${step}`;
  return refuseTap(tap, tapMask);
}

const refuseTap = (tap: number, mask: number): string | undefined =>
  (tap & ~mask) === 0 ? undefined : `expected taps within mask ${mask}, got ${tap}`;

function refuseFields(instruction: TimedInstruction, { fields, op }: InstructionLayout): string | undefined {
  for (const field of fields) {
    const value = instruction.fields[field.name];
    const expected = OPERAND_CODECS[field.row.kind].refuse(value, field) ?? refuseLast(instruction, field);
    if (expected !== undefined) return `operand '${field.name}' of ${op}: expected ${expected}, got ${show(value)}`;
  }
  return undefined;
}

const show = (value: unknown): string => (value === undefined ? "nothing" : JSON.stringify(value));

/** Origin ids of the instructions of one queue, as variable-length zigzag differences. */
export function encodeOrigins(instructions: readonly TimedInstruction[]): Uint8Array {
  const bits = new BitWriter();
  let previous = 0;
  for (const { origin } of instructions) {
    const difference = origin - previous;
    let rest = difference < 0 ? -2 * difference - 1 : 2 * difference;
    while (rest > 127) {
      bits.put((rest % 128) + 128, 8);
      rest = Math.floor(rest / 128);
    }
    bits.put(rest, 8);
    bits.align();
    previous = origin;
  }
  return bits.finish();
}
