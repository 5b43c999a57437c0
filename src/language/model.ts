/**
 * A language model on the machine: keys and values on the chip, text and chats in, text out.
 */

import { type ChatTemplate, type Message, noTemplate } from "./chat.js";
import type { KeptPasts, Saved } from "./pasts.js";
import { chooseToken, GREEDY, penalised, type Sampling } from "./sample.js";
import type { Settings } from "./settings.js";
import type { Cost, Decoder, Room, Step } from "./runs.js";
import { type Sequence, stepsOf } from "./steps.js";
import { noTokenizer, textStream, type Tokenizer } from "./text.js";

/** What is not given of the sampling is as the files beside the model say, or greedy. */
export interface GenerateOptions extends Partial<Sampling> {
  /** At most so many tokens after the prompt; as many as the context holds, if not given. */
  readonly maxTokens?: number;
  /** Texts at which generation ends; they are not part of what is given. */
  readonly stop?: readonly string[];
  /** Where pasts are kept: the prompt goes on from one of them if it begins with it, and adds its own; of a batch none is. */
  readonly pasts?: KeptPasts;
  /** Ends writing between two runs: what it was aborted with is thrown. */
  readonly signal?: AbortSignal;
}

/** What is written at once: its cost is that of all runs since the piece before; the first has that of the prompt. */
export interface Piece extends Cost {
  /** What is new of the text; empty while a character is not whole. */
  readonly text: string;
  readonly token: number;
  /** Tokens of the prompt that a kept past had, at the first piece. */
  readonly kept?: number;
  /** Set at the last piece: an end token or a text of `stop`, or no room left. */
  readonly finish?: "stop" | "length";
}

/** Cycles of a run that takes so many tokens behind others, and of one that has no past to look back upon. */
export interface BlockCycles {
  readonly tokens: number;
  readonly cycles: number;
  readonly first?: number;
}

/** Cycles of runs behind so many positions of the past. */
export interface ContextCycles {
  readonly context: number;
  readonly decode: number;
  readonly blocks: readonly BlockCycles[];
}

export interface LanguageModel {
  /** What its folder, or its file, is called. */
  readonly name: string;
  /** Rows of the past. */
  readonly context: number;
  /** How many tokens can be taken: as many, and one behind a window. */
  readonly capacity: number;
  readonly vocabulary: number;
  readonly clockMHz: number;
  /** What the files beside the model say of the choice of tokens. */
  readonly sampling: Partial<Sampling>;
  /**
   * Of a run that takes one token, at any position, and of those that take blocks of a prompt, the longest first; `shorter`: of runs
   * that see less of the past, from those that see least, each as long as that is all there is.
   */
  readonly cycles: ContextCycles & { readonly shorter: readonly ContextCycles[] };
  /** Users times context that SRAM would hold. */
  readonly room: Room;
  /** Sequences that are taken side by side: so many texts can be written at once. */
  readonly batch: number;
  /** What all runs have cost so far. */
  readonly spent: () => Cost;
  /** Tokens taken since the last reset. */
  readonly position: () => number;
  /**
   * Takes tokens, in blocks as long as there are enough; the logits are those after the last. LPU5105 if they do not fit, LPU5106 for
   * no token, LPU5111 where several sequences are taken side by side, or while a step has not ended.
   */
  readonly step: (tokens: number | readonly number[]) => Promise<Step>;
  /**
   * Writes on from a prompt, from an empty past. Of a batch each text has a sequence of its own, and waits for one where there are
   * more texts; those that are being written go on together, a token of each in a run, so that each has to be read on.
   */
  readonly generate: (prompt: string | readonly number[], options?: GenerateOptions) => AsyncGenerator<Piece>;
  readonly encode: (text: string) => readonly number[];
  /** The prompt of a chat, which ends where the assistant answers. LPU5109 without a template, or if it refuses the messages. */
  readonly encodeChat: (messages: readonly Message[]) => readonly number[];
  readonly reset: () => void;
  readonly snapshot: () => Saved;
  readonly restore: (saved: Saved) => void;
  /**
   * Gives back what the model holds of the machine: threads and memory. What is being written ends before its next run, and all that
   * asks for the machine or its past raises LPU5110; `encode` and `encodeChat` do not. Closing again does nothing.
   */
  readonly close: () => void;
  /** As `close`, for `using`. */
  readonly [Symbol.dispose]: () => void;
}

export interface Text extends Settings {
  readonly name: string;
  readonly tokenizer: Tokenizer | undefined;
  readonly template: ChatTemplate | undefined;
}

/** Tokens of a text, or of a chat: what begins a text is in the template. */
export function encoded(
  { tokenizer = noTokenizer(), template }: Pick<Text, "tokenizer" | "template">,
  said: string | readonly Message[],
): readonly number[] {
  return typeof said === "string" ? tokenizer.encode(said) : tokenizer.encode((template ?? noTemplate())(said), true);
}

export function languageModel<State>(
  decoder: Decoder<State>,
  { name, tokenizer, template, ends, sampling: usual }: Text,
): LanguageModel {
  const { context, clockMHz, whole, shorter, sequences } = decoder;
  const { vocabulary } = decoder.logits;
  const { capacity, position, step, hold, spent, reset, snapshot, restore, close } = stepsOf(decoder);
  const hasBlocks = whole.blocks.length > 0;

  const encode = (text: string): readonly number[] => encoded({ tokenizer, template }, text);
  const encodeChat = (messages: readonly Message[]): readonly number[] => encoded({ tokenizer, template }, messages);

  async function* generate(prompt: string | readonly number[], options: GenerateOptions = {}): AsyncGenerator<Piece> {
    const sequence = await hold();
    try {
      yield* writeOn(sequence, prompt, options);
    } finally {
      sequence.release();
    }
  }

  async function* writeOn(
    { take, step, position }: Sequence,
    prompt: string | readonly number[],
    options: GenerateOptions,
  ): AsyncGenerator<Piece> {
    const sampling: Sampling = { ...GREEDY, ...usual, ...options };
    const given = typeof prompt === "string" ? encode(prompt) : prompt;
    const stops = options.stop ?? [];
    const prompted = await take(given, options.pasts, options.signal);
    let last: Step = prompted;
    const grow = tokenizer === undefined ? () => "" : textStream(tokenizer, given);
    // Text that may be the beginning of a stop is held back until it is known not to be.
    let held = "";
    const written: number[] = [];
    for (let count = 1; ; count += 1) {
      const token = chooseToken(penalised(last.logits, sampling, given, written), sampling, count);
      written.push(token);
      const grown = ends.includes(token) ? "" : grow(token);
      const { text, rest, stopped } = cutAtStop(held + grown, stops);
      held = rest;
      const isStop = stopped || ends.includes(token);
      const isLong = count === options.maxTokens || position() === capacity;
      const finish = isStop ? "stop" : isLong ? "length" : undefined;
      const shown = finish === undefined || stopped ? text : text + held;
      const { cycles, predictedCycles, runs } = last;
      const { kept } = prompted;
      yield {
        text: shown,
        token,
        cycles,
        predictedCycles,
        runs,
        ...(count === 1 && { kept }),
        ...(finish && { finish }),
      };
      if (finish !== undefined) break;
      last = await step(token, options.signal);
    }
    if (!hasBlocks && sequences === 1) options.pasts?.keep(snapshot());
  }

  return {
    name,
    context,
    capacity,
    vocabulary,
    clockMHz,
    sampling: usual,
    cycles: { ...cyclesOf(whole), shorter: shorter.map(cyclesOf) },
    room: decoder.room,
    batch: sequences,
    spent,
    position,
    step,
    generate,
    encode,
    encodeChat,
    reset,
    snapshot,
    restore,
    close,
    [Symbol.dispose]: close,
  };
}

const cyclesOf = ({ rows, decode, blocks }: Decoder<unknown>["whole"]): ContextCycles => ({
  context: rows,
  decode: decode.cycles,
  blocks: blocks.map(({ tokens, entry, first }) => ({
    ...{ tokens, cycles: entry.cycles },
    ...(first && { first: first.cycles }),
  })),
});

/** What of a text comes before a stop, and what may be the beginning of one. */
export function cutAtStop(
  text: string,
  stops: readonly string[],
): { readonly text: string; readonly rest: string; readonly stopped: boolean } {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  if (found.length > 0) return { text: text.slice(0, Math.min(...found)), rest: "", stopped: true };
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1));
  for (let length = Math.min(longest, text.length); length > 0; length -= 1) {
    const end = text.slice(text.length - length);
    if (stops.some((stop) => stop.startsWith(end)))
      return { text: text.slice(0, text.length - length), rest: end, stopped: false };
  }
  return { text, rest: "", stopped: false };
}
