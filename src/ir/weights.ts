/**
 * What constant weights of products may lie as, by the words of the user: one row each.
 *
 * FP8 takes half the SRAM and half the streams of fp16, and the arrays widen it exactly; a scale meets the fp32 sums.
 */

import { fail } from "../diagnostics.js";

export type Fp8 = "f8e4m3" | "f8e5m2";
/** What shares a scale: all of a weight, a column of it, or so many consecutive numbers along K of a column. */
export type Sharing = "tensor" | "channel" | number;

export interface ScaledFormat {
  readonly format: Fp8;
  readonly sharing: Sharing;
}

export interface WeightFormat {
  /** Undefined of fp16, which needs no scales. */
  readonly fp8?: ScaledFormat;
  readonly doc: string;
}

const FP8 = {
  "fp8-e4m3": { format: "f8e4m3", title: "E4M3FN" },
  "fp8-e5m2": { format: "f8e5m2", title: "E5M2" },
} as const satisfies Record<string, { readonly format: Fp8; readonly title: string }>;

const SHARINGS = {
  "": { sharing: "channel", doc: "a scale for each output channel" },
  ":tensor": { sharing: "tensor", doc: "one scale for each weight" },
  ":block32": { sharing: 32, doc: "a scale for each 32 numbers of an output channel" },
  ":block64": { sharing: 64, doc: "a scale for each 64 numbers of an output channel" },
  ":block128": { sharing: 128, doc: "a scale for each 128 numbers of an output channel" },
  ":block160": { sharing: 160, doc: "a scale for each 160 numbers of an output channel" },
} as const satisfies Record<string, { readonly sharing: Sharing; readonly doc: string }>;

export type WeightFormatName = "fp16" | `${keyof typeof FP8}${keyof typeof SHARINGS}`;

/** The format where none is asked for. */
export const DEFAULT_WEIGHTS: WeightFormatName = "fp16";

/** fp16, and each format of FP8 with each way to share scales. */
export const WEIGHT_FORMATS = Object.fromEntries<WeightFormat>([
  ["fp16", { doc: "as they are multiplied" }],
  ...Object.entries(FP8).flatMap(([name, { format, title }]) =>
    Object.entries(SHARINGS).map(
      ([suffix, { sharing, doc }]) =>
        [`${name}${suffix}`, { fp8: { format, sharing }, doc: `${title}, ${doc}` }] as const,
    ),
  ),
  // The names are those of the two tables.
]) as Readonly<Record<WeightFormatName, WeightFormat>>;
export const isWeightFormat = (name: string): name is WeightFormatName => Object.hasOwn(WEIGHT_FORMATS, name);

/** The format of a name. LPU5008 if there is none. */
export function weightFormat(name: string): WeightFormatName {
  if (isWeightFormat(name)) return name;
  const [, block] = /^fp8-[^:]*:block(.*)$/.exec(name) ?? [];
  return fail("LPU5008", {
    message:
      block === undefined
        ? `unknown format of weights '${name}'`
        : `expected blocks of 32, 64, 128 or 160 numbers along K, found '${block}' in '${name}'`,
    hint: `weights may be ${Object.keys(WEIGHT_FORMATS).join(", ")}`,
  });
}

/** What is asked for. */
export interface WeightOptions {
  readonly format: WeightFormatName;
  /** Names of ONNX nodes, or of initializers, whose weights stay fp16. */
  readonly keep: readonly string[];
}

/** The same, where nothing need be said. */
export const weightOptions = (words: {
  readonly weights?: WeightFormatName | undefined;
  readonly keep?: readonly string[] | undefined;
}): WeightOptions => ({ format: weightFormat(words.weights ?? DEFAULT_WEIGHTS), keep: words.keep ?? [] });
