/**
 * Text and tokens: a tokenizer.json of Hugging Face, read by their own package, which is optional.
 */

import { fail } from "../diagnostics.js";

export interface Tokenizer {
  /** With the tokens that the tokenizer's own rules add, a beginning of text say. */
  readonly encode: (text: string) => readonly number[];
  /** Without special tokens. */
  readonly decode: (tokens: readonly number[]) => string;
}

/** `definition` and `config` are the contents of tokenizer.json and of tokenizer_config.json. LPU5102 without the package. */
export async function openTokenizer(definition: object, config: object): Promise<Tokenizer> {
  // The package's declarations do not resolve under this compiler: the boundary is typed here.
  interface Loaded {
    readonly encode: (text: string) => { readonly ids: readonly number[] };
    readonly decode: (tokens: readonly number[], options: { readonly skip_special_tokens: boolean }) => string;
  }
  const module = await import("@huggingface/tokenizers").catch(() =>
    fail("LPU5102", {
      message: "the optional package @huggingface/tokenizers is not installed",
      hint: "`npm install --no-save @huggingface/tokenizers@0.2.0`, then run it again",
    }),
  );
  const loaded = new module.Tokenizer(definition, config) as unknown as Loaded; // boundary: see above
  return {
    encode: (text) => loaded.encode(text).ids,
    decode: (tokens) => (tokens.length === 0 ? "" : loaded.decode(tokens, { skip_special_tokens: true })),
  };
}

/** For text where there is no tokenizer: LPU5106. */
export const noTokenizer = (): never =>
  fail("LPU5106", {
    message: "expected a tokenizer.json, found none beside the model",
    hint: "name one with --tokenizer, or give tokens",
  });

/** Text that grows by tokens: what is new of it. A character whose bytes are not all there yet waits. */
export function textStream(tokenizer: Tokenizer, given: readonly number[]): (token: number) => string {
  const tokens = [...given];
  const complete = (): string => tokenizer.decode(tokens).replace(/\ufffd+$/, "");
  let shown = complete().length;
  return (token) => {
    tokens.push(token);
    const text = complete();
    const grown = text.slice(shown);
    shown = Math.max(shown, text.length);
    return grown;
  };
}
