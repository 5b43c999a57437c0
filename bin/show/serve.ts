/** What a server tells while it runs, as lines, and at the end, as rows. */

import type { LanguageModel } from "../../src/index.js";
import { formatCount, formatSeconds } from "../../src/report/units.js";
import type { ServePart, ServeResult } from "../jobs/serve.js";

export function serveLine(part: ServePart): string {
  if ("url" in part)
    return `serving ${part.name} on ${part.url}  (context ${part.context}, ${tokenText(part.cyclesOf)}${part.batch === 1 ? "" : ` of each of ${part.batch} requests`}; Ctrl-C stops)`;
  const { path, status, usage, cycles } = part.answer;
  const { clockMHz } = part;
  const request = `${status} ${path}`;
  if (usage === undefined) return request;
  const kept = usage.keptTokens === 0 ? "" : ` (${usage.keptTokens} of them on the chip before)`;
  return `${request}  ${usage.promptTokens} tokens given${kept}, ${usage.completionTokens} written, ${formatSeconds(cycles / (clockMHz * 1e6))} on the chip`;
}

/** Cycles of a token, and what they are while fewer positions are taken. */
const tokenText = ({ decode, shorter }: LanguageModel["cycles"]): string =>
  [
    `${formatCount(decode)} cycles a token`,
    ...[...shorter].reverse().map((one) => `${formatCount(one.decode)} behind up to ${one.context}`),
  ].join(", ");

export const serveRows = ({ requests, runs, cycles, predictedCycles }: ServeResult): [string, string][] => [
  ["requests", String(requests)],
  ["cycles", formatCount(cycles)],
  ["predicted == executed", cycles === predictedCycles ? `yes, in ${runs} runs` : "NO"],
];
