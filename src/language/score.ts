/**
 * How well a model foretells a text: perplexity, and how far its logits are from those of the same model with other weights.
 *
 * Each text is read from an empty past, and one that is longer than the context in stretches of that length; the first token
 * of a stretch is foretold by nothing and does not count.
 */

import { at, fail, invariant } from "../diagnostics.js";
import type { Cost, Step } from "./runs.js";
import { chooseToken, GREEDY } from "./sample.js";

/** Reads a text, token by token. */
export interface Reader {
  /** Tokens that are read from one empty past. */
  readonly stretch: number;
  readonly encode: (text: string) => readonly number[];
  /** At most a stretch of tokens; gives what follows each. */
  readonly read: (tokens: readonly number[]) => AsyncGenerator<Step>;
}

export interface Score extends Cost {
  /** Tokens that were foretold. */
  readonly tokens: number;
  /** e to the mean of -ln of the share that each token was given. */
  readonly perplexity: number;
}

/** Two models that read the same. */
export interface Distance {
  /** Of all logits: the norm of the difference over the norm of those of the second. */
  readonly relativeL2: number;
  /** Tokens of the text behind which both find the same token likeliest. */
  readonly sameChoice: number;
}

export interface ScoredText {
  readonly score: Score;
  readonly other?: { readonly score: Score; readonly distance: Distance };
}

/** Scores texts as one model foretells them, and beside it as another does. LPU5106 if no text has two tokens. */
export async function scoreTexts(
  reader: Reader,
  texts: readonly string[],
  other?: Reader,
  onStretch: (done: number, all: number) => void = () => undefined,
): Promise<ScoredText> {
  const stretches = texts
    .map(reader.encode)
    .flatMap((tokens) =>
      Array.from({ length: Math.ceil(tokens.length / reader.stretch) }, (_, index) =>
        tokens.slice(index * reader.stretch, (index + 1) * reader.stretch),
      ),
    )
    .filter(({ length }) => length > 1);
  if (stretches.length === 0)
    fail("LPU5106", { message: "expected a text of two tokens at least, found none", hint: "give a longer text" });
  const [own, beside] = [tally(), tally()];
  const distance = { difference: 0, norm: 0, same: 0 };
  for (const [index, stretch] of stretches.entries()) {
    const others = other?.read(stretch);
    let read = 0;
    for await (const step of reader.read(stretch)) {
      read += 1;
      const next = stretch[read];
      own.add(step, next);
      const second = (await others?.next())?.value;
      if (second === undefined) continue;
      beside.add(second, next);
      // What follows the last token is not known.
      if (next !== undefined) compare(distance, step.logits, second.logits);
    }
    onStretch(index + 1, stretches.length);
  }
  const { difference, norm, same } = distance;
  const apart: Distance = { relativeL2: Math.sqrt(difference / norm), sameChoice: same };
  return { score: own.score(), ...(other && { other: { score: beside.score(), distance: apart } }) };
}

function tally(): { readonly add: (step: Step, next: number | undefined) => void; readonly score: () => Score } {
  let [tokens, surprise, cycles, predictedCycles, runs] = [0, 0, 0, 0, 0];
  return {
    add: (step, next) => {
      cycles += step.cycles;
      predictedCycles += step.predictedCycles;
      runs += step.runs;
      if (next === undefined) return;
      tokens += 1;
      surprise += surpriseOf(step.logits, next);
    },
    score: () => ({ tokens, perplexity: Math.exp(surprise / tokens), cycles, predictedCycles, runs }),
  };
}

/** -ln of the share of a token in the softmax of logits. */
export function surpriseOf(logits: Float32Array, token: number): number {
  const own = logits[token];
  invariant(own !== undefined, "tokens are of the vocabulary");
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
  return Math.log(sum) - (own - most);
}

function compare(
  distance: { difference: number; norm: number; same: number },
  one: Float32Array,
  other: Float32Array,
): void {
  for (const [index, value] of other.entries()) {
    distance.difference += (at(one, index, "logit") - value) ** 2;
    distance.norm += value ** 2;
  }
  if (chooseToken(one, GREEDY, 0) === chooseToken(other, GREEDY, 0)) distance.same += 1;
}
