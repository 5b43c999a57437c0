/** Readers of texts: a decoder step by step, or one without a past that takes a whole stretch in each run. */

import { sure } from "../diagnostics.js";
import { toFloats } from "../ir/tensor.js";
import type { LanguageModel } from "./model.js";
import type { Reader } from "./score.js";
import { type Entry, NO_COST } from "./runs.js";
import { noTokenizer, type Tokenizer } from "./text.js";

/** One token a run, as when it writes. */
export const stepReader = (model: LanguageModel): Reader => ({
  stretch: model.capacity,
  encode: model.encode,
  read: async function* (tokens) {
    model.reset();
    for (const token of tokens) yield await model.step(token);
  },
});

/** What a program with the shapes of `plainShapes` is. */
export interface Plain {
  readonly entry: Entry & { readonly inputs: readonly { readonly name: string }[] };
  readonly tokens: number;
  readonly logits: { readonly name: string; readonly vocabulary: number };
}

/** Tokens stand at the left and padding at the right: attention is causal, so what comes after changes nothing before. */
export const plainReader = ({ entry, tokens: stretch, logits }: Plain, tokenizer: Tokenizer | undefined): Reader => ({
  stretch,
  encode: (text) => (tokenizer === undefined ? noTokenizer() : tokenizer.encode(text)),
  read: async function* (tokens) {
    const positions = Array.from({ length: stretch }, (_, index) => index);
    const values: Readonly<Record<string, readonly number[]>> = {
      input_ids: [...tokens, ...Array<number>(stretch - tokens.length).fill(0)],
      attention_mask: positions.map((index) => (index < tokens.length ? 1 : 0)),
      position_ids: positions,
    };
    const { outputs, cycles } = await entry.run(
      Object.fromEntries(entry.inputs.map(({ name }) => [name, sure(values[name], "input")])),
    );
    const made = outputs[logits.name];
    const rows = made === undefined ? new Float32Array() : toFloats(made);
    const { vocabulary } = logits;
    for (const index of tokens.keys()) {
      const cost = index === 0 ? { cycles, predictedCycles: entry.cycles, runs: 1 } : NO_COST;
      yield { ...cost, logits: rows.subarray(index * vocabulary, (index + 1) * vocabulary) };
    }
  },
});
