/**
 * Decoder: program text of one queue becomes timed instructions again, with absolute cycles.
 *
 * It accepts exactly what the encoder writes, and answers anything else with LPU3024, the offset and the reason: it is the
 * only way in which text reaches the machine. `decodeQueue(encodeQueue(q))` equals q.
 */

import { at, fail } from "../../diagnostics.js";
import { mayIssue } from "../../ir/bursts.js";
import type { Mnemonic, UnitKind } from "../../ir/isa.js";
import { type FieldValue, type QueueNumber, queueName, type TimedInstruction, unitOfQueue } from "../../ir/program.js";
import { COUNT_MAX } from "../../ir/operands.js";
import type { Target } from "../../ir/target.js";
import { BitReader } from "./bits.js";
import { type InstructionLayout, type IsaLayout, layoutOf, nextDispatch, OPCODE_BITS, refuseLast } from "./layout.js";
import { OPERAND_CODECS } from "./operands.js";

/** Prefixes of the address generator in the order in which they must stand: one for each number of a burst. */
const PREFIXES: readonly Mnemonic[] = ["iterations", "countdown", "step"];

/** Count, interval and step of one execution. */
type Burst = readonly [count: number, interval: number, step: number];
const ONCE: Burst = [1, 1, 0];

export interface DecodedQueue {
  readonly instructions: TimedInstruction[];
  /** The queue releases the barrier; the others wait for it. */
  readonly notifies: boolean;
}

/** `origins`: the origin id of each instruction, 0 where it has none. */
export function decodeQueue(
  target: Target,
  queue: QueueNumber,
  text: Uint8Array,
  origins: Int32Array = new Int32Array(0),
): DecodedQueue {
  const instructions: TimedInstruction[] = [];
  const input = new TextReader(target, queue, text);
  if (input.bits.atEnd) return { instructions, notifies: false };
  const { op: starter } = input.opcode();
  if (starter !== "sync" && starter !== "notify") input.refuse(`expected sync or notify, got '${starter}'`);
  let clock = target.timing.barrier;
  while (!input.bits.atEnd) {
    clock += input.gap();
    const start = input.bits.offset;
    const { layout, burst: generated } = input.prefixes();
    const { fields, tap } = input.operands(layout);
    const bytes = input.bits.offset - start;
    if (bytes > target.dispatchBytes) input.refuse(`expected at most ${target.dispatchBytes} bytes, got ${bytes}`);
    const [count, interval, step] = layout.generator ? generated : input.repeat(layout);
    const origin = origins[instructions.length] ?? 0;
    const instruction = { cycle: clock, op: layout.op, fields, count, interval, step, tap, origin };
    for (const field of layout.fields) {
      const expected = refuseLast(instruction, field);
      if (expected !== undefined) input.refuse(`operand '${field.name}' of ${layout.op}: expected ${expected}`);
    }
    instructions.push(instruction);
    clock = nextDispatch(layout, clock, count, interval);
  }
  return { instructions, notifies: starter === "notify" };
}

/** The text of one queue and the place in it of the instruction that is being read. */
class TextReader {
  readonly bits: BitReader;
  private readonly text: Uint8Array;
  private readonly target: Target;
  private readonly queue: QueueNumber;
  private readonly unit: UnitKind;
  private readonly layouts: IsaLayout;
  private readonly nop: number | undefined;
  private readonly repeater: number | undefined;
  private start = 0;

  constructor(target: Target, queue: QueueNumber, text: Uint8Array) {
    this.target = target;
    this.queue = queue;
    this.text = text;
    this.bits = new BitReader(text);
    this.unit = unitOfQueue(target, queue);
    this.layouts = layoutOf(target);
    this.nop = this.layouts.byName.get("nop")?.row.opcode;
    this.repeater = this.layouts.byName.get("repeat")?.row.opcode;
  }

  refuse(message: string): never {
    return fail("LPU3024", { message, at: `${queueName(this.target, this.queue)} offset ${this.start}` });
  }

  opcode(): InstructionLayout {
    this.start = this.bits.offset;
    const layout = this.layouts.byOpcode[this.bits.get(OPCODE_BITS)];
    if (layout === undefined) return this.refuse(`expected an opcode, got ${this.text[this.start] ?? "the end"}`);
    if (mayIssue(layout.row, this.unit)) return layout;
    return this.refuse(`expected an instruction of unit '${this.unit}', got '${layout.op}'`);
  }

  /** Operands of the encoder's own instructions: numbers that fill whole bytes. */
  private numbers({ op, fields }: InstructionLayout): readonly number[] {
    const values = fields.map((field) => Number(OPERAND_CODECS[field.row.kind].read(this.bits, field)));
    if (this.bits.overrun) this.refuse(`expected the rest of ${op}, got the end of the text`);
    return values;
  }

  /** Cycles of the nops before an instruction: all but the last are as long as they can be. */
  gap(): number {
    let cycles = 0;
    let last = COUNT_MAX;
    while (this.bits.peek() === this.nop) {
      if (last !== COUNT_MAX) this.refuse("expected as few nops as the gap needs");
      last = at(this.numbers(this.opcode()), 0, "operand");
      if (last === 0) this.refuse("expected a nop of 1 cycle or more");
      cycles += last;
    }
    return cycles;
  }

  /** The instruction that the prefixes belong to, and its count, interval and step as they say. */
  prefixes(): { readonly layout: InstructionLayout; readonly burst: Burst } {
    const burst: [number, number, number] = [...ONCE];
    let layout = this.opcode();
    for (let index = 0; layout.own && index < PREFIXES.length; index++) {
      const { op } = layout;
      if (op !== PREFIXES[index]) continue;
      const [value = 0] = this.numbers(layout);
      if (value === ONCE[index] || (value === 0 && op !== "step"))
        this.refuse(`expected ${op} only if it says something`);
      burst[index] = value;
      layout = this.opcode();
    }
    const [count, interval, step] = burst;
    const fits = count > 1 ? layout.generator && (step === 0 || layout.steps) : interval === 1 && step === 0;
    if (layout.own || !fits) this.refuse(`expected an instruction that fits what is before it, got '${layout.op}'`);
    return { layout, burst };
  }

  operands({ op, fields: layouts }: InstructionLayout): { fields: Record<string, FieldValue>; tap: number } {
    const fields: Record<string, FieldValue> = {};
    let tap = 0;
    for (const field of layouts) {
      const codec = OPERAND_CODECS[field.row.kind];
      const value = codec.read(this.bits, field);
      if (value === undefined || (typeof value === "string" && codec.refuse(value, field) !== undefined)) {
        return this.refuse(`operand '${field.name}' of ${op} is out of range`);
      }
      fields[field.name] = value;
      if (field.tapBit >= 0) tap |= this.bits.get(1) << field.tapBit;
    }
    this.bits.align();
    if (this.bits.overrun) this.refuse(`expected the rest of ${op}, got the end of the text`);
    if (!this.bits.padded) this.refuse(`expected zero bits after the operands of ${op}`);
    return { fields, tap };
  }

  /** Count and interval of a burst that is not a loop of the address generator. */
  repeat({ op }: InstructionLayout): Burst {
    if (op === "deskew" || this.bits.peek() !== this.repeater) return ONCE;
    const [more = 0, interval = 0] = this.numbers(this.opcode());
    if (more === 0 || interval === 0) this.refuse("expected repeat with a count and an interval above 0");
    return [more + 1, interval, 0];
  }
}

/** Origin ids as `encodeOrigins` writes them; undefined if the bytes are not ids below `origins`. */
export function decodeOrigins(bytes: Uint8Array, origins: number): Int32Array | undefined {
  const ids = new Int32Array(bytes.reduce((count, byte) => (byte < 128 ? count + 1 : count), 0));
  let position = 0;
  let previous = 0;
  for (let index = 0; index < ids.length; index++) {
    let value = 0;
    let scale = 1;
    let byte = 128;
    while (byte >= 128) {
      const next = bytes[position++];
      if (next === undefined || scale > 2 ** 35) return undefined;
      byte = next;
      value += (byte & 127) * scale;
      scale *= 128;
    }
    if (byte === 0 && scale > 128) return undefined;
    previous += value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    if (previous < 0 || previous >= origins) return undefined;
    ids[index] = previous;
  }
  return position === bytes.length ? ids : undefined;
}
