/**
 * The work of `lpu generate --chat`: turns of a user and of a model, whose past stays on the chip from turn to turn.
 */

import type { Message } from "../../src/language/chat.js";
import type { GenerateOptions, LanguageModel, Piece } from "../../src/language/model.js";
import { keptPasts } from "../../src/language/pasts.js";
import { clock } from "../show/terminal.js";
import { type DecoderRequest, openDecoder } from "./decoder.js";
import { write, type Written } from "./generate.js";
import type { JobContext } from "./job.js";

export interface ChatRequest extends DecoderRequest {
  /** What the user says first; what follows is asked for. */
  readonly prompt: string | undefined;
  /** What the model is told before. */
  readonly system: string | undefined;
  readonly options: GenerateOptions;
}

export interface ChatResult {
  readonly messages: readonly Message[];
  /** One for each answer. */
  readonly turns: readonly Written[];
  readonly cyclesOf: LanguageModel["cycles"];
  readonly room: LanguageModel["room"];
  readonly clockMHz: number;
  /** On this computer, while the model wrote. */
  readonly seconds: number;
}

/** What a turn adds to comes from the chip as it was: two pasts are enough for a prompt and where it parts from the last. */
const PASTS = 2;

export async function chatJob(request: ChatRequest, context: JobContext<Piece>): Promise<ChatResult> {
  const { system, prompt } = request;
  const messages: Message[] = system === undefined ? [] : [{ role: "system", content: system }];
  const first = prompt?.trim() ? [...messages, { role: "user", content: prompt }] : undefined;
  const model = await openDecoder(request, context, first);
  const pasts = keptPasts(PASTS);
  const turns: Written[] = [];
  let milliseconds = 0;
  for (let said = prompt ?? (await context.ask()); said !== undefined; said = await context.ask()) {
    if (said.trim() === "") continue;
    messages.push({ role: "user", content: said });
    const start = clock();
    const turn = await write(model, model.encodeChat(messages), { ...request.options, pasts }, context);
    milliseconds += clock() - start;
    messages.push({ role: "assistant", content: turn.text });
    turns.push(turn);
  }
  return {
    messages,
    turns,
    cyclesOf: model.cycles,
    room: model.room,
    clockMHz: model.clockMHz,
    seconds: milliseconds / 1000,
  };
}
