/**
 * Attention over lengths: whether every one of a spread builds, and whether its cycles grow as its work does.
 *
 * One attention by itself, of all numbers of heads and of all head sizes that models use, at lengths around the borders of
 * half-vectors and of panels.
 */

import { CompileError } from "../src/diagnostics.js";
import { TARGETS } from "../src/ir/target.js";
import { attention } from "../test/attention.js";
import { programOf } from "../test/compiled.js";

export const HEADS: readonly (readonly [heads: number, size: number])[] = [
  ...[6, 9, 12, 14, 16, 25, 32].map((heads) => [heads, 64] as const),
  ...[32, 80, 96, 128].map((size) => [12, size] as const),
];
const LENGTHS = [1, 2, 16, 64, 128, 159, 160, 161, 197, 256, 319, 320, 321, 384, 512, 639, 640, 641, 1023, 1024];
/** Below so many tokens latencies are most of the time. */
const SHORT = 128;

export interface Sweep {
  readonly built: number;
  readonly of: number;
  /** Codes of the refused, with their lengths. */
  readonly refused: readonly string[];
  /** Cycles at the longest length. */
  readonly cycles: number;
  /** By how much more than the number of tokens cycles grow from one length to the next, at the most, and at which. */
  readonly growth: number;
  readonly border: number;
}

/** Cycles of an attention at all lengths. */
export function sweepLengths(heads: number, size: number): Sweep {
  const made: { readonly tokens: number; readonly cycles: number }[] = [];
  const refused: string[] = [];
  for (const tokens of LENGTHS) {
    try {
      const [entry] = programOf(attention(heads, size, tokens), TARGETS["lpu-v1"]).entries;
      made.push({ tokens, cycles: entry?.cycles[0] ?? 0 });
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      refused.push(`${error.code} at ${tokens}`);
    }
  }
  const steps = made.slice(1).map(({ tokens, cycles }, index) => {
    const before = made[index] ?? { tokens, cycles };
    return { tokens, growth: before.tokens < SHORT ? 1 : (cycles * before.tokens) / (before.cycles * tokens) };
  });
  const worst = steps.reduce((most, step) => (step.growth > most.growth ? step : most), { tokens: 0, growth: 1 });
  const cycles = made.at(-1)?.cycles ?? 0;
  return { built: made.length, of: LENGTHS.length, refused, cycles, growth: worst.growth, border: worst.tokens };
}
