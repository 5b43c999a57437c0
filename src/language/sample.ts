/**
 * The choice of the next token from logits: greedy, or by chance from a seed.
 *
 * The same logits, options, seed and step give the same token everywhere: exponentials are our own (ir/functions.ts), sums
 * are in fp64 in the order of the vocabulary's likeliest, and chance is a hash of seed and step, without state.
 */

import { aluUnary } from "../ir/functions.js";

export interface Sampling {
  /** 0 takes the likeliest token; larger is more even. */
  readonly temperature: number;
  /** Only the likeliest so many; 0 for all. */
  readonly topK: number;
  /** Only the likeliest that together have this share. */
  readonly topP: number;
  readonly seed: number;
  /** What logits of tokens of the prompt and of the text are divided by, or multiplied if they are negative; 1 for nothing. */
  readonly repetitionPenalty: number;
  /** What is taken from the logit of each token that was written, once. */
  readonly presencePenalty: number;
  /** What is taken from it for each time that it was written. */
  readonly frequencyPenalty: number;
}

export const GREEDY: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** Logits after the penalties for tokens that were given and written before. */
export function penalised(
  logits: Float32Array,
  { repetitionPenalty, presencePenalty, frequencyPenalty }: Sampling,
  given: readonly number[],
  written: readonly number[],
): Float32Array {
  if (repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0) return logits;
  const changed = logits.slice();
  for (const token of new Set([...given, ...written])) {
    const logit = changed[token] ?? 0;
    changed[token] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  }
  for (const token of new Set(written)) changed[token] = (changed[token] ?? 0) - presencePenalty;
  for (const token of written) changed[token] = (changed[token] ?? 0) - frequencyPenalty;
  return changed;
}

/** The token that is chosen at a step; of equal logits the lowest token is first. */
export function chooseToken(logits: ArrayLike<number>, sampling: Sampling, step: number): number {
  if (sampling.temperature === 0 || sampling.topK === 1) return likeliest(logits);
  const count = sampling.topK === 0 ? logits.length : Math.min(sampling.topK, logits.length);
  const order = Array.from(logits, (logit, token) => ({ logit, token }))
    .sort((a, b) => b.logit - a.logit || a.token - b.token)
    .slice(0, count);
  const [first] = order;
  if (first === undefined) return 0;
  const weights = order.map(({ logit }) => aluUnary.exp(Math.fround((logit - first.logit) / sampling.temperature)));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  let share = 0;
  // The likeliest is always kept; then as many as reach the share.
  for (const weight of weights) {
    if (kept > 0 && share >= sampling.topP * all) break;
    share += weight;
    kept += 1;
  }
  let left = chance(sampling.seed, step) * share;
  for (const [i, { token }] of order.slice(0, kept).entries()) {
    left -= weights[i] ?? 0;
    if (left < 0) return token;
  }
  return order[kept - 1]?.token ?? first.token;
}

function likeliest(logits: ArrayLike<number>): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (Number(logits[token]) > Number(logits[best])) best = token;
  return best;
}

/** A number in [0, 1) of 32 bits: murmur3's finalizer over seed and step (public domain, Appleby). */
function chance(seed: number, step: number): number {
  let bits = Math.imul(seed ^ Math.imul(step + 1, 0x9e3779b9), 0x85ebca6b);
  for (const [shift, factor] of [
    [16, 0x85ebca6b],
    [13, 0xc2b2ae35],
    [16, 1],
  ] as const)
    bits = Math.imul(bits ^ (bits >>> shift), factor);
  return (bits >>> 0) / 2 ** 32;
}
