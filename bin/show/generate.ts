/** What writing a text cost, as rows. */

import { formatCount, formatSeconds } from "../../src/report/units.js";
import type { GenerateResult } from "../jobs/generate.js";

export function generateRows(result: GenerateResult, clockMHz: number): [string, string][] {
  const { runs, cycles, predictedCycles, cyclesOf, tokens, promptTokens, seconds } = result;
  const timed = (count: number): string =>
    `${formatCount(count)}  (${formatSeconds(count / (clockMHz * 1e6))} at ${clockMHz} MHz)`;
  return [
    ["tokens", `${promptTokens} given, ${tokens.length} written (${result.finish}), ${runs} runs`],
    ["cycles a token", timed(cyclesOf.decode)],
    ...(cyclesOf.prefill === undefined ? [] : [["cycles a block", timed(cyclesOf.prefill)] as [string, string]]),
    ["predicted == executed", cycles === predictedCycles ? `yes, in ${runs} runs` : "NO"],
    [
      "on the chip",
      `${formatCount(Math.floor((clockMHz * 1e6) / cyclesOf.decode))} tokens/s  (${formatSeconds(result.promptSeconds)} for the prompt, ${formatSeconds(result.completionSeconds)} for the rest; without PCIe)`,
    ],
    ["here", `${(runs / seconds).toFixed(1)} runs/s`],
  ];
}
