/** What writing a text cost, as rows. */

import { formatCount, formatSeconds } from "../../src/report/units.js";
import type { GenerateResult } from "../jobs/generate.js";

export function generateRows(result: GenerateResult, clockMHz: number): [string, string][] {
  const { steps, cycles, predictedCycles, tokens, promptTokens, seconds } = result;
  const exact = cycles === steps * predictedCycles;
  const stepSeconds = predictedCycles / (clockMHz * 1e6);
  return [
    ["tokens", `${promptTokens} given, ${tokens.length} written (${result.finish}), ${steps} steps`],
    ["cycles a step", `${formatCount(predictedCycles)}  (${formatSeconds(stepSeconds)} at ${clockMHz} MHz)`],
    ["predicted == executed", exact ? `yes, in each of ${steps} steps` : "NO"],
    [
      "on the chip",
      `${formatCount(Math.floor(1 / stepSeconds))} tokens/s  (${formatSeconds(result.promptSeconds)} for the prompt, ${formatSeconds(result.completionSeconds)} for the rest; without PCIe)`,
    ],
    ["here", `${(steps / seconds).toFixed(1)} steps/s`],
  ];
}
