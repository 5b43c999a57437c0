/** `lpu generate`: text from a prompt, or a chat. */

import { fail } from "../../src/diagnostics.js";
import { alignRows } from "../../src/report/summary.js";
import { given, parseNumbers } from "../arguments.js";
import type { ChatRequest } from "../jobs/chat.js";
import { runJob } from "../jobs/jobs.js";
import { chatRows, generateRows } from "../show/generate.js";
import { EXIT, openQuestions, QUESTION, type Terminal } from "../show/terminal.js";
import { command } from "./command.js";
import { DECODER, DECODER_OPTIONS, decoderRequest } from "./decoder.js";
import { OPTIONS } from "./options.js";

export const generate = command({
  command: "generate <model>",
  doc: "Writes on from a prompt: a decoder with past and present, one token a step.",
  options: (argv) =>
    argv.positional("model", DECODER).options({
      prompt: {
        alias: "p",
        type: "string",
        array: true,
        default: [] as string[],
        describe:
          "how the text begins, or what the user says first; several are texts of their own, side by side with --batch",
      },
      chat: {
        type: "boolean",
        default: false,
        describe: "answers lines of stdin in turn, by the model's chat template; the past stays on the chip",
      },
      system: { type: "string", describe: "with --chat: what the model is told before" },
      "max-tokens": { type: "number", describe: "at most so many tokens after the prompt" },
      temperature: {
        type: "number",
        describe: "0 takes the likeliest token; larger is more even; what is not given is as the folder says, or 0",
      },
      "top-k": { type: "number", describe: "only the likeliest so many tokens; 0 for all" },
      "top-p": { type: "number", describe: "only the likeliest tokens that together have this share" },
      "repetition-penalty": { type: "number", describe: "makes tokens that were there less likely; 1 does not" },
      seed: { type: "number", default: 0, describe: "the same seed gives the same text" },
      stop: {
        type: "string",
        array: true,
        default: [] as string[],
        describe: "text at which writing ends; may be repeated",
      },
      ...DECODER_OPTIONS,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { prompt: prompts, system, chat, stop } = args;
    const [prompt] = prompts;
    if (!chat && prompt === undefined) fail("LPU5008", { message: "expected --prompt, or --chat" });
    if (chat && (prompts.length > 1 || (args.batch ?? 1) > 1))
      fail("LPU5008", { message: "--chat: is one text, and takes one --prompt and no --batch" });
    if (!chat && system !== undefined) fail("LPU5008", { message: "--system: expected --chat with it" });
    const decoder = decoderRequest(args);
    const numbers = parseNumbers({
      "--max-tokens": { value: args["max-tokens"], least: 1, whole: true },
      "--temperature": { value: args.temperature, least: 0, whole: false },
      "--top-k": { value: args["top-k"], least: 0, whole: true },
      "--top-p": { value: args["top-p"], least: 0, most: 1, whole: false },
      "--repetition-penalty": { value: args["repetition-penalty"], least: 0, isAbove: true, whole: false },
      "--seed": { value: args.seed, least: 0, whole: true },
    });
    const options = given({
      maxTokens: numbers["--max-tokens"],
      temperature: numbers["--temperature"],
      topK: numbers["--top-k"],
      topP: numbers["--top-p"],
      repetitionPenalty: numbers["--repetition-penalty"],
      seed: numbers["--seed"],
    });
    const request = { ...decoder, options: { ...options, stop } };
    if (chat) return chatInTurns({ ...request, prompt, system }, terminal);
    const part = beginning(`\n${prompt}`, terminal);
    const result = await runJob("generate", { ...request, prompts }, { tasks: terminal.tasks, part });
    const { texts, ...costs } = result;
    terminal.result(texts.length === 1 ? { ...texts[0], ...costs } : result);
    if (texts.length > 1)
      for (const [index, { text }] of texts.entries()) terminal.text(`\n${prompts[index]}${text}\n`);
    terminal.print("\n");
    for (const line of alignRows(generateRows(result))) terminal.print(line);
    return result.cycles === result.predictedCycles ? EXIT.ok : EXIT.internal;
  },
});

/** Shows pieces of a text as they come, the first behind what it begins with. */
function beginning(start: string, terminal: Terminal): (piece: { readonly text: string }) => void {
  let begun = false;
  return ({ text }) => {
    terminal.text(`${begun ? "" : start}${text}`);
    begun = true;
  };
}

async function chatInTurns(request: ChatRequest, terminal: Terminal): Promise<number> {
  const questions = openQuestions(terminal);
  const answer = async (): Promise<string | undefined> => {
    terminal.print("\n");
    return questions.next();
  };
  const part = beginning(request.prompt === undefined ? "" : `\n${QUESTION}${request.prompt}\n`, terminal);
  try {
    const result = await runJob("chat", request, { tasks: terminal.tasks, part, answer });
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(chatRows(result))) terminal.print(line);
    const isExact = result.turns.every(({ cycles, predictedCycles }) => cycles === predictedCycles);
    return isExact ? EXIT.ok : EXIT.internal;
  } finally {
    questions.close();
  }
}
