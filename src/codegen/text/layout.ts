/**
 * Instruction layouts: the rows of ISA turned into field widths for one target, computed once.
 *
 * An instruction is its opcode byte, then its fields in the row's order, then zero bits up to a whole byte. A field of kind
 * `stream` that the row takes is followed by one bit: tap. Nothing else is in the text of an instruction.
 */

import { ENCODER_OWN, isGenerated } from "../../ir/bursts.js";
import { ISA, type InstructionRow, MNEMONICS, type Mnemonic } from "../../ir/isa.js";
import type { TimedInstruction } from "../../ir/program.js";
import { EPOCH, type Target } from "../../ir/target.js";
import { type FieldLayout, fieldLayout } from "./operands.js";

export const OPCODE_BITS = 8;

export interface InstructionLayout {
  readonly op: Mnemonic;
  readonly row: InstructionRow;
  readonly fields: readonly FieldLayout[];
  /** The most bytes that it takes without prefixes. */
  readonly bytes: number;
  /** Made by the encoder (time, barrier, bursts): never in an instruction record. */
  readonly own: boolean;
  /** Its bursts are loops of the address generator; all others are `repeat`. */
  readonly generator: boolean;
  /** Its address moves by the burst's step. */
  readonly steps: boolean;
  /** All bits that `tap` may have. */
  readonly tapMask: number;
}

export interface IsaLayout {
  readonly byName: ReadonlyMap<Mnemonic, InstructionLayout>;
  readonly byOpcode: readonly (InstructionLayout | undefined)[];
}

const LAYOUTS = new WeakMap<Target, IsaLayout>();

export function layoutOf(target: Target): IsaLayout {
  const known = LAYOUTS.get(target);
  if (known !== undefined) return known;
  const byName = new Map<Mnemonic, InstructionLayout>();
  const byOpcode: (InstructionLayout | undefined)[] = Array.from({ length: 1 << OPCODE_BITS }, () => undefined);
  for (const op of MNEMONICS) {
    const layout = instructionLayout(target, op);
    byName.set(op, layout);
    byOpcode[layout.row.opcode] = layout;
  }
  const layouts = { byName, byOpcode };
  LAYOUTS.set(target, layouts);
  return layouts;
}

function instructionLayout(target: Target, op: Mnemonic): InstructionLayout {
  const row: InstructionRow = ISA[op];
  const taken = Object.keys(row.takes);
  const rows = Object.entries(row.fields);
  const sources = rows.filter(([, { kind }]) => kind === "source").length;
  const fields = rows.map(([name, fieldRow]) =>
    fieldLayout(target, name, fieldRow, {
      sources,
      tapBit: fieldRow.kind === "stream" ? taken.indexOf(name) : -1,
    }),
  );
  const bits = fields.reduce((sum, { width, tapBit }) => sum + width + (tapBit < 0 ? 0 : 1), OPCODE_BITS);
  const own = ENCODER_OWN.has(op);
  return Object.freeze({
    op,
    row,
    fields,
    bytes: Math.ceil(bits / 8),
    own,
    generator: isGenerated(op),
    steps: rows.some(([, { advances }]) => advances === "step"),
    tapMask: fields.reduce((mask, { tapBit }) => (tapBit < 0 ? mask : mask | (1 << tapBit)), 0),
  });
}

/** The first cycle at which the queue may dispatch again, after `count` executions from `cycle` on. */
export function nextDispatch(
  { op, generator }: InstructionLayout,
  cycle: number,
  count: number,
  interval: number,
): number {
  if (op === "deskew") return (Math.floor(cycle / EPOCH) + 1) * EPOCH;
  return generator ? cycle + 1 : cycle + (count - 1) * interval + 1;
}

/** A field that moves must still be in range at the last execution of the burst. */
export function refuseLast(instruction: TimedInstruction, { name, row, min, max }: FieldLayout): string | undefined {
  const { advances } = row;
  if (advances === undefined || advances === "ways" || instruction.count === 1) return undefined;
  const value = instruction.fields[name];
  const last = Number(value) + (instruction.count - 1) * (advances === "step" ? instruction.step : advances);
  return last >= min && last <= max ? undefined : `${min} to ${max} at every execution (the last has ${last})`;
}

/** Bits of each field in program text, for the manual. */
export function fieldBits(target: Target, op: Mnemonic): Readonly<Record<string, string>> {
  const { fields } = layoutOf(target).byName.get(op) ?? { fields: [] };
  return Object.fromEntries(
    fields.map(({ name, row, width, tapBit }) => {
      if (row.kind === "source") return [name, `up to ${width}`];
      return [name, tapBit < 0 ? String(width) : `${width} + tap`];
    }),
  );
}
