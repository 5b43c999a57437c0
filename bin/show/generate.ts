/** What writing a text, or a chat, cost, as rows. */

import { stateRoomText } from "../../src/report/capacity.js";
import { formatCount, formatSeconds } from "../../src/report/units.js";
import type { ChatResult } from "../jobs/chat.js";
import type { GenerateResult, Written } from "../jobs/generate.js";

export const generateRows = (result: GenerateResult): [string, string][] => writtenRows(result.texts, result);

export const chatRows = (result: ChatResult): [string, string][] => writtenRows(result.turns, { ...result, batch: 1 });

type Costs = Pick<GenerateResult, "batch" | "cyclesOf" | "room" | "clockMHz" | "seconds"> &
  Partial<Pick<GenerateResult, "runs" | "cycles" | "predictedCycles">>;

/** `costs`: of all texts, where runs are of several of them. */
function writtenRows(turns: readonly Written[], costs: Costs): [string, string][] {
  const { batch, cyclesOf, room, clockMHz, seconds } = costs;
  const sum = (of: (turn: Written) => number): number => turns.reduce((total, turn) => total + of(turn), 0);
  const timed = (count: number): string =>
    `${formatCount(count)}  (${formatSeconds(count / (clockMHz * 1e6))} at ${clockMHz} MHz)`;
  const [given, kept, written, runs] = [
    sum(({ promptTokens }) => promptTokens),
    sum(({ keptTokens }) => keptTokens),
    sum(({ tokens }) => tokens.length),
    costs.runs ?? sum((turn) => turn.runs),
  ];
  const exact =
    costs.cycles === costs.predictedCycles && turns.every(({ cycles, predictedCycles }) => cycles === predictedCycles);
  return [
    [
      "tokens",
      `${given} given${kept === 0 ? "" : ` (${kept} of them on the chip before)`}, ${written} written${turns.length === 1 ? ` (${turns[0]?.finish})` : ""}, ${runs} runs`,
    ],
    [batch === 1 ? "cycles a token" : `cycles of ${batch} tokens side by side`, timed(cyclesOf.decode)],
    ...[...cyclesOf.shorter]
      .reverse()
      .map(({ context, decode }): [string, string] => [`  behind up to ${context}`, timed(decode)]),
    ...cyclesOf.blocks.flatMap(({ tokens, cycles, first }): [string, string][] => [
      [`cycles of ${tokens} tokens${batch === 1 ? "" : ` of each`}`, timed(cycles)],
      ...(first === undefined ? [] : [[`  as the first`, timed(first)] as [string, string]]),
    ]),
    ["states", stateRoomText(room)],
    ["predicted == executed", exact ? `yes, in ${runs} runs` : "NO"],
    [
      "on the chip",
      `${formatCount(Math.floor((batch * clockMHz * 1e6) / cyclesOf.decode))} tokens/s  (${formatSeconds(sum(({ promptSeconds }) => promptSeconds))} for ${turns.length === 1 ? "the prompt" : "prompts"}, ${formatSeconds(sum(({ completionSeconds }) => completionSeconds))} for the rest; without PCIe)`,
    ],
    ["here", `${(runs / seconds).toFixed(1)} runs/s`],
  ];
}
