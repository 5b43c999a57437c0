/** The options that several commands have, and what they say together. A command's own options are in its row. */

import type { InferredOptionTypes } from "yargs";
import { defaultCacheFolder } from "../../src/host/cache.js";
import { SYSTEMS } from "../../src/ir/system.js";
import { DEFAULT_TARGET, TARGETS } from "../../src/ir/target.js";
import { DEFAULT_WEIGHTS, weightFormat } from "../../src/ir/weights.js";
import {
  parseBinds,
  parseConfiguration,
  parseContexts,
  parseDevices,
  parseEntries,
  parseFixes,
  parseNumbers,
  parsePrefill,
  parseShapes,
  parseStates,
  parseTarget,
  WEIGHT_WORDS,
} from "../arguments.js";
import type { OpenRequest } from "../jobs/options.js";

/** What commands are about, behind their names. */
export const POSITIONAL = {
  model: { type: "string", demandOption: true, describe: "ONNX file" },
  image: { type: "string", demandOption: true, describe: "image, as build writes it" },
} as const;

export const OPTIONS = {
  json: { type: "boolean", default: false, describe: "one JSON object on stdout, all else on stderr" },
  bind: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "size of a named dimension, like batch=1; may be repeated",
  },
  shape: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "shape of an input, like input_ids=1x128; may be repeated",
  },
  fix: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "value of an input that is no input then, like k=5, axes=1,2, flag=true or mask=mask.npy; may be repeated",
  },
  state: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "input that stays on the chip, and the output that takes its place for the next run, like past.0.key=present.0.key; may be repeated; auto finds past_key_values and their like by name",
  },
  entries: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "entry with sizes of dimensions of its own, like decode:seq=1,past=255; may be repeated: all share weights and states",
  },
  entry: { type: "string", describe: "which entry of the image; may be left out where there is one" },
  context: {
    type: "string",
    describe:
      "of a decoder: past positions that a token can look back upon; where text is written, 256 if not given; several, like 256,1024, are entries that see more of one past, each taken while it sees all",
  },
  prefill: {
    type: "string",
    describe:
      "of a decoder: tokens of the prompt that are taken at once, by an entry of its own; several, like 16,128, are an entry each",
  },
  batch: {
    type: "number",
    describe: "of a decoder: sequences that are taken side by side, each with a past of its own; 1 if not given",
  },
  weights: {
    type: "string",
    default: DEFAULT_WEIGHTS as string,
    describe: `what constant weights lie as: ${WEIGHT_WORDS.join(", ")}`,
  },
  keep: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "ONNX node, or its weight, that stays fp16; may be repeated",
  },
  cache: { type: "boolean", default: true, describe: "keeps the build in the cache; --no-cache does not" },
  "cache-dir": { type: "string", describe: "folder of the cache" },
  rebuild: { type: "boolean", default: false, describe: "builds even if the same build is in the cache" },
  target: {
    type: "string",
    default: DEFAULT_TARGET as string,
    describe: `machine: ${Object.keys(TARGETS).join(", ")}`,
  },
  system: {
    type: "string",
    describe: `chips, and what joins them: ${Object.keys(SYSTEMS).join(", ")}; the smallest with as many chips as are taken if not given`,
  },
  chips: {
    type: "number",
    describe:
      "chips that may be taken; where neither they nor a system, stages or tensor are given, the fewest that hold the model",
  },
  dead: {
    type: "string",
    describe: "chips of the system that do not work, like 3,9: others are taken, and no way goes through them",
  },
  stages: {
    type: "string",
    describe:
      "chips that work one behind the other, or auto: as few as hold the model; chosen with --tensor if neither is given",
  },
  configuration: {
    type: "string",
    describe:
      "which of the model's configurations of devices, whose annotations place its nodes; none for none; the only one if not given",
  },
  tensor: {
    type: "number",
    describe:
      "chips of a node that share each product, with pieces of its weights, in each stage; fewer work where more are not faster",
  },
  threads: {
    type: "number",
    describe: "threads that chips run on, at most one for each; as many as this computer has cores if not given",
  },
} as const;

/** Which chips a program is for. */
export const DEVICES = {
  system: OPTIONS.system,
  chips: OPTIONS.chips,
  dead: OPTIONS.dead,
  stages: OPTIONS.stages,
  tensor: OPTIONS.tensor,
} as const;

/** What a model is built with, and checked with. */
export const BUILT_WITH = {
  bind: OPTIONS.bind,
  shape: OPTIONS.shape,
  fix: OPTIONS.fix,
  state: OPTIONS.state,
  entry: OPTIONS.entries,
  context: OPTIONS.context,
  prefill: OPTIONS.prefill,
  batch: OPTIONS.batch,
  target: OPTIONS.target,
  ...DEVICES,
  configuration: OPTIONS.configuration,
  weights: OPTIONS.weights,
  keep: OPTIONS.keep,
} as const;

export const openRequest = (
  args: InferredOptionTypes<typeof BUILT_WITH> & { readonly model: string },
): OpenRequest => ({
  model: args.model,
  bind: parseBinds(args.bind),
  shapes: parseShapes(args.shape),
  fix: parseFixes(args.fix),
  state: parseStates(args.state),
  entries: parseEntries(args.entry),
  ...parseContext(args),
  weights: weightFormat(args.weights),
  keep: args.keep,
  ...parseDevices(args),
  configuration: parseConfiguration(args.configuration),
  target: parseTarget(args.target),
});

/** What a decoder takes at once, and sees of its past. */
export const parseContext = (args: {
  readonly context: string | undefined;
  readonly prefill: string | undefined;
  readonly batch: number | undefined;
}): Pick<OpenRequest, "context" | "prefill" | "batch"> => {
  const context = parseContexts(args.context);
  const { "--batch": batch } = parseNumbers({ "--batch": { value: args.batch, least: 1, whole: true } });
  return { context, prefill: parsePrefill(args.prefill, context && Math.max(...context)), batch };
};

/** Where builds are kept; undefined if they are not. */
export const cacheFolderOf = (args: {
  readonly cache: boolean;
  readonly "cache-dir": string | undefined;
}): string | undefined => (args.cache ? (args["cache-dir"] ?? defaultCacheFolder()) : undefined);
