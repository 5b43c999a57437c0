/** What commands that write or read text with a decoder have alike. */

import type { InferredOptionTypes } from "yargs";
import { weightFormat } from "../../src/ir/weights.js";
import { parseBinds, parseDevices, parseTarget, parseThreads } from "../arguments.js";
import type { DecoderRequest } from "../jobs/decoder.js";
import { cacheFolderOf, OPTIONS, parseContext } from "./options.js";

export const DECODER = {
  type: "string",
  demandOption: true,
  describe: "ONNX file, a folder of Hugging Face or onnxruntime-genai, or an image that build --context made",
} as const;

/** What a decoder is built with. */
export const DECODER_OPTIONS = {
  context: OPTIONS.context,
  prefill: OPTIONS.prefill,
  batch: OPTIONS.batch,
  tokenizer: { type: "string", describe: "tokenizer.json, if it is not beside the model" },
  bind: OPTIONS.bind,
  target: OPTIONS.target,
  chips: OPTIONS.chips,
  stages: OPTIONS.stages,
  tensor: OPTIONS.tensor,
  weights: OPTIONS.weights,
  keep: OPTIONS.keep,
  rebuild: OPTIONS.rebuild,
  cache: OPTIONS.cache,
  "cache-dir": OPTIONS["cache-dir"],
  threads: OPTIONS.threads,
} as const;

type DecoderArguments = InferredOptionTypes<typeof DECODER_OPTIONS> & { readonly model: string };

export const decoderRequest = (args: DecoderArguments): DecoderRequest => ({
  model: args.model,
  tokenizer: args.tokenizer,
  ...parseContext(args),
  target: parseTarget(args.target),
  // Of `--system` text is written: it is what the model is told first.
  ...parseDevices({ chips: args.chips, stages: args.stages, tensor: args.tensor }),
  bind: parseBinds(args.bind),
  weights: weightFormat(args.weights),
  keep: args.keep,
  cacheFolder: cacheFolderOf(args),
  rebuild: args.rebuild,
  threads: parseThreads(args.threads),
});
