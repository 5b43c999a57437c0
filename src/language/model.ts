/**
 * A language model on the machine: one token a step, keys and values on the chip, text in and text out.
 */

import { fail } from "../diagnostics.js";
import type { Tensor } from "../ir/graph.js";
import { toFloats } from "../ir/tensor.js";
import { ROLES } from "./decoder.js";
import { chooseToken, GREEDY, type Sampling } from "./sample.js";
import { noTokenizer, textStream, type Tokenizer } from "./text.js";

/** What of a program on the machine is needed. */
export interface Decoder<Saved> {
  readonly inputs: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly cycles: number;
  readonly run: (
    inputs: Readonly<Record<string, readonly number[]>>,
  ) => Promise<{ readonly outputs: Readonly<Record<string, Tensor>>; readonly cycles: number }>;
  readonly reset: () => void;
  readonly snapshot: () => Saved;
  readonly restore: (saved: Saved) => void;
}

export interface Step {
  /** One number for each token of the vocabulary. */
  readonly logits: Float32Array;
  /** What the machine counted; the compiler's figure is the model's `cycles`. */
  readonly cycles: number;
}

export interface GenerateOptions extends Partial<Sampling> {
  /** At most so many tokens after the prompt; as many as the context holds, if not given. */
  readonly maxTokens?: number;
  /** Texts at which generation ends; they are not part of what is given. */
  readonly stop?: readonly string[];
}

export interface Piece {
  /** What is new of the text; empty while a character is not whole. */
  readonly text: string;
  readonly token: number;
  /** Of all steps since the piece before: the first piece has those of the whole prompt. */
  readonly cycles: number;
  readonly steps: number;
  /** Set at the last piece: an end token or a text of `stop`, or no room left. */
  readonly finish?: "stop" | "length";
}

export interface LanguageModel {
  /** Positions that a token can look back upon, its own not counted. */
  readonly context: number;
  readonly vocabulary: number;
  /** Of every step, at any position. */
  readonly cycles: number;
  /** Tokens taken since the last reset. */
  readonly position: () => number;
  /** Takes tokens, one step each; the logits are those after the last. LPU5105 if they do not fit, LPU5106 for no token. */
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

export interface Text {
  readonly tokenizer: Tokenizer | undefined;
  /** Tokens that end a text. */
  readonly ends: readonly number[];
}

/** A decoder that was built with the shapes of `decoderShapes` and all its past as states. */
export function languageModel<State>(
  decoder: Decoder<State>,
  output: { readonly name: string; readonly vocabulary: number },
  { tokenizer, ends }: Text,
): LanguageModel {
  const mask = decoder.inputs.find(({ name }) => name === ROLES.mask.name)?.shape.at(-1) ?? 1;
  const context = mask - 1;
  const { vocabulary } = output;
  let position = 0;

  const stepOne = async (token: number): Promise<Step> => {
    const { outputs, cycles } = await decoder.run({
      [ROLES.ids.name]: [token],
      [ROLES.mask.name]: Array.from({ length: mask }, (_, place) => (place >= context - position ? 1 : 0)),
      [ROLES.positions.name]: [position],
    });
    position += 1;
    const logits = outputs[output.name];
    return { logits: logits === undefined ? new Float32Array() : Float32Array.from(toFloats(logits)), cycles };
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
    let cycles = 0;
    let last: Step = { logits: new Float32Array(), cycles: 0 };
    for (const token of tokens) {
      last = await stepOne(token);
      cycles += last.cycles;
    }
    return { logits: last.logits, cycles };
  };

  const reset = (): void => {
    decoder.reset();
    position = 0;
  };

  const encode = (text: string): readonly number[] =>
    tokenizer === undefined ? noTokenizer() : tokenizer.encode(text);

  async function* generate(prompt: string | readonly number[], options: GenerateOptions = {}): AsyncGenerator<Piece> {
    const sampling: Sampling = { ...GREEDY, ...options };
    const given = typeof prompt === "string" ? encode(prompt) : prompt;
    const stops = options.stop ?? [];
    reset();
    let last = await step(given);
    let steps = given.length;
    const grow = tokenizer === undefined ? () => "" : textStream(tokenizer, given);
    // Text that may be the beginning of a stop is held back until it is known not to be.
    let held = "";
    for (let count = 1; ; count += 1) {
      const token = chooseToken(last.logits, sampling, count);
      const grown = ends.includes(token) ? "" : grow(token);
      const { text, rest, stopped } = cutAtStop(held + grown, stops);
      held = rest;
      const isStop = stopped || ends.includes(token);
      const isLong = count === options.maxTokens || position > context;
      const finish = isStop ? "stop" : isLong ? "length" : undefined;
      const shown = finish === undefined || stopped ? text : text + held;
      yield { text: shown, token, cycles: last.cycles, steps, ...(finish && { finish }) };
      if (finish !== undefined) return;
      last = await step(token);
      steps = 1;
    }
  }

  return {
    context,
    vocabulary,
    cycles: decoder.cycles,
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
