/**
 * Text and tokens: a tokenizer.json of Hugging Face, read by their own package, which is optional.
 */

import { fail } from "../diagnostics.js";
import { optionalPackage } from "./packages.js";

export interface Tokenizer {
  /** With the tokens that the tokenizer's own rules add, a beginning of text say; `bare`, without them. */
  readonly encode: (text: string, bare?: boolean) => readonly number[];
  /** Without special tokens. */
  readonly decode: (tokens: readonly number[]) => string;
}

/**
 * `definition` and `config` are the contents of tokenizer.json and of tokenizer_config.json.
 *
 * @throws LPU5102 without the package, LPU5107 for a definition that it does not take.
 */
export async function openTokenizer(definition: object, config: object): Promise<Tokenizer> {
  // The boundary to the package, of which this is needed.
  interface Loaded {
    readonly encode: (
      text: string,
      options: { readonly add_special_tokens: boolean },
    ) => { readonly ids: readonly number[] };
    readonly decode: (tokens: readonly number[], options: { readonly skip_special_tokens: boolean }) => string;
  }
  const module = (await optionalPackage("@huggingface/tokenizers")) as {
    readonly Tokenizer: new (definition: object, config: object) => Loaded;
  };
  const loaded = made(() => new module.Tokenizer(definition, config));
  return {
    encode: (text, bare = false) => loaded.encode(text, { add_special_tokens: !bare }).ids,
    decode: (tokens) => (tokens.length === 0 ? "" : loaded.decode(tokens, { skip_special_tokens: true })),
  };
}

/** What the package refuses it says in errors of its own. */
function made<Value>(make: () => Value): Value {
  try {
    return make();
  } catch (error) {
    return fail("LPU5107", {
      message: `tokenizer.json cannot be used: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}

/** For text where there is no tokenizer: LPU5106. */
export const noTokenizer = (): never =>
  fail("LPU5106", {
    message: "expected a tokenizer.json, found none beside the model",
  });

/**
 * Holds the vocabulary of a tokenizer.json against that of a model. A model may have more tokens than the tokenizer, since
 * vocabularies are padded, and a tokenizer may add tokens of its own behind them, which are refused where they are used.
 *
 * @throws LPU5108 if the tokenizer's own vocabulary is larger.
 */
export function expectFits(definition: object, vocabulary: number): void {
  const largest = largestToken(definition);
  if (largest < vocabulary) return;
  fail("LPU5108", {
    message: `the tokenizer has tokens up to ${largest}, the model has ${vocabulary}: 0 to ${vocabulary - 1}`,
  });
}

/** A vocabulary is names with their tokens, or a list in the tokens' order. */
function largestToken(definition: object): number {
  const model: unknown = "model" in definition ? definition.model : undefined;
  const vocabulary: unknown = typeof model === "object" && model !== null && "vocab" in model ? model.vocab : undefined;
  if (Array.isArray(vocabulary)) return vocabulary.length - 1;
  const tokens = typeof vocabulary === "object" && vocabulary !== null ? Object.values(vocabulary) : [];
  return tokens.reduce((largest: number, token: unknown) => Math.max(largest, Number(token)), -1);
}

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
