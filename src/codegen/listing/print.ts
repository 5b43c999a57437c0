/**
 * The text of one instruction, as in listings and messages: `read address=12 stream=e4 x128 /2 +1`.
 *
 * Operands are `name=value` in the row's order, printed by kind; a burst of more than one execution ends in its count, its
 * interval if not 1, and its address step if not 0.
 */

import { sure } from "../../diagnostics.js";
import type { TimedInstruction } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { layoutOf } from "../text/layout.js";
import { OPERAND_CODECS } from "../text/operands.js";

/** `width`: the mnemonic is padded to this. */
export function printInstruction(
  target: Target,
  { op, fields, count, interval, step, tap }: TimedInstruction,
  width = 0,
): string {
  let text = op.padEnd(width);
  for (const field of sure(layoutOf(target).byName.get(op), "layout of an instruction").fields) {
    const value = fields[field.name];
    const printed = value === undefined ? "?" : OPERAND_CODECS[field.row.kind].print(value, field);
    const tapped = field.tapBit >= 0 && ((tap >> field.tapBit) & 1) === 1;
    text += ` ${field.name}=${printed}${tapped ? "~" : ""}`;
  }
  if (count === 1) return text.trimEnd();
  text += ` x${count}`;
  if (interval !== 1) text += ` /${interval}`;
  if (step !== 0) text += step > 0 ? ` +${step}` : ` ${step}`;
  return text;
}
