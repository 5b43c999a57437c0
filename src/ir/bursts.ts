/** What holds of bursts by their instruction alone: who writes it into a queue, which units issue it, how often it executes. */

import { ISA, type InstructionRow, type Mnemonic, type UnitKind } from "./isa.js";
import { COUNT_MAX } from "./operands.js";

/** What the encoder writes for itself (time, barrier, bursts): never in an instruction record. */
export const ENCODER_OWN: ReadonlySet<Mnemonic> = new Set([
  "nop",
  "sync",
  "notify",
  "repeat",
  "countdown",
  "step",
  "iterations",
]);

export const mayIssue = ({ units }: InstructionRow, unit: UnitKind): boolean => units === "all" || units.includes(unit);

/** Whether its bursts are loops of a slice's address generator, and leave the queue free; all others are `repeat`. */
export const isGenerated = (op: Mnemonic): boolean => {
  const row: InstructionRow = ISA[op];
  return !ENCODER_OWN.has(op) && row.units !== "all" && mayIssue(row, "mem");
};

/** The most executions of a burst: `iterations` of an address generator counts them, `repeat` those behind the first. */
export const mostExecutions = (op: Mnemonic): number => {
  if (op === "deskew") return 1;
  return isGenerated(op) ? COUNT_MAX : COUNT_MAX + 1;
};
