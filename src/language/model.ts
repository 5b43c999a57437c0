/**
 * A language model on the machine: one token a step, or a block of the prompt, keys and values on the chip, text in and out.
 */

import { fail } from "../diagnostics.js";
import type { Tensor } from "../ir/graph.js";
import { toFloats } from "../ir/tensor.js";
import { ROLES } from "./decoder.js";
import { chooseToken, GREEDY, penalised, type Sampling } from "./sample.js";
import type { Settings } from "./settings.js";
import { noTokenizer, textStream, type Tokenizer } from "./text.js";

/** What of an entry of a program on the machine is needed. */
interface Entry {
  readonly cycles: number;
  readonly run: (
    inputs: Readonly<Record<string, readonly number[]>>,
  ) => Promise<{ readonly outputs: Readonly<Record<string, Tensor>>; readonly cycles: number }>;
}

/** A program with the shapes of `decoderShapes` and all its past as states. */
export interface Decoder<State> {
  readonly context: number;
  /** Takes one token. */
  readonly decode: Entry;
  /** Takes `tokens` at once. */
  readonly prefill: { readonly entry: Entry; readonly tokens: number } | undefined;
  readonly logits: { readonly name: string; readonly vocabulary: number };
  readonly reset: () => void;
  readonly snapshot: () => State;
  readonly restore: (state: State) => void;
}

export interface Cost {
  /** What the machine counted. */
  readonly cycles: number;
  /** What the compiler said before. */
  readonly predictedCycles: number;
  /** Runs of the program that these are of. */
  readonly runs: number;
}

export interface Step extends Cost {
  /** One number for each token of the vocabulary. */
  readonly logits: Float32Array;
}

/** What is not given of the sampling is as the files beside the model say, or greedy. */
export interface GenerateOptions extends Partial<Sampling> {
  /** At most so many tokens after the prompt; as many as the context holds, if not given. */
  readonly maxTokens?: number;
  /** Texts at which generation ends; they are not part of what is given. */
  readonly stop?: readonly string[];
}

/** What is written at once: its cost is that of all runs since the piece before; the first has that of the prompt. */
export interface Piece extends Cost {
  /** What is new of the text; empty while a character is not whole. */
  readonly text: string;
  readonly token: number;
  /** Set at the last piece: an end token or a text of `stop`, or no room left. */
  readonly finish?: "stop" | "length";
}

export interface LanguageModel {
  /** Positions that a token can look back upon, its own not counted. */
  readonly context: number;
  readonly vocabulary: number;
  /** Of a run that takes one token, at any position, and of one that takes a block of a prompt. */
  readonly cycles: { readonly decode: number; readonly prefill?: number };
  /** Tokens taken since the last reset. */
  readonly position: () => number;
  /** Takes tokens, in blocks as long as there are enough; the logits are those after the last. LPU5105 if they do not fit, LPU5106 for no token. */
  readonly step: (tokens: number | readonly number[]) => Promise<Step>;
  /** Writes on from a prompt, from an empty past. */
  readonly generate: (prompt: string | readonly number[], options?: GenerateOptions) => AsyncGenerator<Piece>;
  readonly encode: (text: string) => readonly number[];
  readonly reset: () => void;
  readonly snapshot: () => Saved;
  readonly restore: (saved: Saved) => void;
}

/** The past and how much of it there is. */
export interface Saved {
  readonly position: number;
  readonly states: unknown;
}

export interface Text extends Settings {
  readonly tokenizer: Tokenizer | undefined;
}

export function languageModel<State>(
  { context, decode, prefill, logits: output, ...decoder }: Decoder<State>,
  { tokenizer, ends, sampling: usual }: Text,
): LanguageModel {
  const { vocabulary } = output;
  let position = 0;

  const runBlock = async ({ run, cycles: predictedCycles }: Entry, tokens: readonly number[]): Promise<Step> => {
    const { outputs, cycles } = await run({
      [ROLES.ids.name]: tokens,
      [ROLES.mask.name]: Array.from({ length: context + tokens.length }, (_, i) => (i >= context - position ? 1 : 0)),
      [ROLES.positions.name]: tokens.map((_, i) => position + i),
    });
    position += tokens.length;
    const logits = outputs[output.name];
    const last = logits === undefined ? new Float32Array() : toFloats(logits).slice(-vocabulary);
    return { logits: last, cycles, predictedCycles, runs: 1 };
  };

  const step = async (given: number | readonly number[]): Promise<Step> => {
    const tokens = typeof given === "number" ? [given] : given;
    const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
    if (wrong !== undefined)
      return fail("LPU5106", { message: `expected tokens from 0 to ${vocabulary - 1}, got ${wrong}` });
    if (tokens.length === 0) return fail("LPU5106", { message: "expected a token, got none" });
    if (position + tokens.length > context + 1)
      return fail("LPU5105", {
        message: `the context holds ${context + 1} tokens; ${position} are taken, ${tokens.length} do not fit`,
      });
    let sum: Step = { logits: new Float32Array(), cycles: 0, predictedCycles: 0, runs: 0 };
    for (let at = 0; at < tokens.length; ) {
      const isBlock = prefill !== undefined && tokens.length - at >= prefill.tokens;
      const block = tokens.slice(at, at + (isBlock ? prefill.tokens : 1));
      const own = await runBlock(isBlock ? prefill.entry : decode, block);
      sum = { logits: own.logits, ...added(sum, own) };
      at += block.length;
    }
    return sum;
  };

  const reset = (): void => {
    decoder.reset();
    position = 0;
  };

  const encode = (text: string): readonly number[] =>
    tokenizer === undefined ? noTokenizer() : tokenizer.encode(text);

  async function* generate(prompt: string | readonly number[], options: GenerateOptions = {}): AsyncGenerator<Piece> {
    const sampling: Sampling = { ...GREEDY, ...usual, ...options };
    const given = typeof prompt === "string" ? encode(prompt) : prompt;
    const stops = options.stop ?? [];
    reset();
    let last = await step(given);
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
      const isLong = count === options.maxTokens || position > context;
      const finish = isStop ? "stop" : isLong ? "length" : undefined;
      const shown = finish === undefined || stopped ? text : text + held;
      const { cycles, predictedCycles, runs } = last;
      yield { text: shown, token, cycles, predictedCycles, runs, ...(finish && { finish }) };
      if (finish !== undefined) return;
      last = await step(token);
    }
  }

  return {
    context,
    vocabulary,
    cycles: { decode: decode.cycles, ...(prefill && { prefill: prefill.entry.cycles }) },
    position: () => position,
    step,
    generate,
    encode,
    reset,
    snapshot: () => ({ position, states: decoder.snapshot() }),
    restore: (saved) => {
      // What `snapshot` of this model gave.
      decoder.restore(saved.states as State);
      position = saved.position;
    },
  };
}

const added = (a: Cost, b: Cost): Cost => ({
  cycles: a.cycles + b.cycles,
  predictedCycles: a.predictedCycles + b.predictedCycles,
  runs: a.runs + b.runs,
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
