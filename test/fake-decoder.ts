/** A decoder without a machine, for tests of what is around one: each character is a token, and the next follows from all before. */

import type { ChatTemplate } from "../src/language/chat.js";
import { type LanguageModel, languageModel } from "../src/language/model.js";
import type { Decoder } from "../src/language/runs.js";
import { makeTensor } from "../src/ir/tensor.js";

const FIRST = 32;
export const END = 95;
const VOCABULARY = 96;

export const CYCLES = { decode: 9000, prefill: 18000 } as const;

const tokenizer = {
  encode: (text: string): readonly number[] => Array.from(text, (character) => character.charCodeAt(0) - FIRST),
  decode: (tokens: readonly number[]): string => tokens.map((token) => String.fromCharCode(token + FIRST)).join(""),
};

const template: ChatTemplate = (messages) => messages.map(({ role, content }) => `${role}:${content};`).join("");

interface Options {
  readonly context?: number;
  /** Tokens of blocks of the prompt, the longest first; none if not given. */
  readonly prefill?: readonly number[];
  /** Called at every run, with how many tokens it takes. */
  readonly onRun?: (tokens: number) => void;
  /** Called when the machine is given back. */
  readonly onClose?: () => void;
}

/** `start` with 900 MHz: 9,000 cycles are 10 us. */
export function fakeModel({
  context = 60,
  prefill = [],
  onRun = () => undefined,
  onClose = () => undefined,
}: Options = {}): LanguageModel {
  let past: readonly number[] = [];
  const entry = (cycles: number): Decoder<readonly number[]>["whole"]["decode"] => ({
    cycles,
    run: async (inputs) => {
      const tokens = inputs["input_ids"] ?? [];
      past = [...past, ...tokens];
      onRun(tokens.length);
      const logits = new Float32Array(VOCABULARY);
      // Letters only, so that a text has no end of its own.
      logits[65 + (past.reduce((sum, token, at) => sum + token * (at + 3), 0) % 26)] = 8;
      return { outputs: { logits: makeTensor("f32", [1, 1, VOCABULARY], logits) }, cycles };
    },
  });
  return languageModel(
    {
      ...{ sequences: 1, context, past: "window", given: ["input_ids"] },
      clockMHz: 900,
      whole: {
        rows: context,
        decode: entry(CYCLES.decode),
        blocks: prefill.map((tokens) => ({ tokens, entry: entry(CYCLES.prefill), first: undefined })),
      },
      shorter: [],
      logits: { name: "logits", vocabulary: VOCABULARY },
      room: { bytes: 1, free: 0, sequences: 1 },
      reset: () => {
        past = [];
      },
      snapshot: () => past,
      restore: (state) => {
        past = state;
      },
      close: onClose,
    },
    { name: "fake", tokenizer, template, ends: [END], sampling: { temperature: 0 } },
  );
}
