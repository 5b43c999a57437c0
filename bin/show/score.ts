/** How well a text was foretold, as rows. */

import { formatCount, formatError } from "../../src/report/units.js";
import type { ScoreResult } from "../jobs/score.js";

export function scoreRows({ score, other, weights, stretch }: ScoreResult): [string, string][] {
  const { tokens, runs, cycles, predictedCycles } = score;
  const exact = cycles === predictedCycles && other?.score.cycles === other?.score.predictedCycles;
  const change = other === undefined ? 0 : score.perplexity / other.score.perplexity - 1;
  return [
    ["tokens", `${formatCount(tokens)} foretold, in stretches of ${formatCount(stretch)}`],
    ["perplexity", `${score.perplexity.toFixed(4)}  (${weights})`],
    ...(other === undefined
      ? []
      : ([
          [
            "",
            `${other.score.perplexity.toFixed(4)}  (fp16; ${change >= 0 ? "+" : ""}${(100 * change).toFixed(2)} % with ${weights})`,
          ],
          ["logits", `${formatError(other.distance.relativeL2)} relative L2 against fp16`],
          ["same choice", `at ${formatCount(other.distance.sameChoice)} of ${formatCount(tokens)} tokens`],
        ] as [string, string][])),
    ["cycles", `${formatCount(cycles)} in ${formatCount(runs)} runs`],
    ["predicted == executed", exact ? "yes" : "NO"],
  ];
}
