/**
 * The real exports that must pass, by the names of their folders beside the repository; tests skip where these are absent.
 */

export const FIXTURES = new URL("../../../shared/fixtures/transformers/", import.meta.url);
export const EXPORTS = [
  "hf-bert",
  "hf-bert-ts",
  "hf-gpt2-ts",
  "hf-gpt2-dynamo",
  "hf-llama-prefill",
  "stories260K-prefill",
  "bert-toy-optimized",
  "hf-vit",
  "hf-whisper-encoder",
];
