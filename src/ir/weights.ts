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

export const WEIGHT_FORMATS = {
  fp16: { doc: "as they are multiplied" },
  "fp8-e4m3": { fp8: { format: "f8e4m3", sharing: "channel" }, doc: "E4M3FN, a scale for each output channel" },
  "fp8-e4m3:tensor": { fp8: { format: "f8e4m3", sharing: "tensor" }, doc: "E4M3FN, one scale for each weight" },
  "fp8-e4m3:block32": {
    fp8: { format: "f8e4m3", sharing: 32 },
    doc: "E4M3FN, a scale for each 32 numbers of an output channel",
  },
  "fp8-e4m3:block64": {
    fp8: { format: "f8e4m3", sharing: 64 },
    doc: "E4M3FN, a scale for each 64 numbers of an output channel",
  },
  "fp8-e4m3:block128": {
    fp8: { format: "f8e4m3", sharing: 128 },
    doc: "E4M3FN, a scale for each 128 numbers of an output channel",
  },
  "fp8-e4m3:block160": {
    fp8: { format: "f8e4m3", sharing: 160 },
    doc: "E4M3FN, a scale for each 160 numbers of an output channel",
  },
  "fp8-e5m2": { fp8: { format: "f8e5m2", sharing: "channel" }, doc: "E5M2, a scale for each output channel" },
  "fp8-e5m2:tensor": { fp8: { format: "f8e5m2", sharing: "tensor" }, doc: "E5M2, one scale for each weight" },
  "fp8-e5m2:block32": {
    fp8: { format: "f8e5m2", sharing: 32 },
    doc: "E5M2, a scale for each 32 numbers of an output channel",
  },
  "fp8-e5m2:block64": {
    fp8: { format: "f8e5m2", sharing: 64 },
    doc: "E5M2, a scale for each 64 numbers of an output channel",
  },
  "fp8-e5m2:block128": {
    fp8: { format: "f8e5m2", sharing: 128 },
    doc: "E5M2, a scale for each 128 numbers of an output channel",
  },
  "fp8-e5m2:block160": {
    fp8: { format: "f8e5m2", sharing: 160 },
    doc: "E5M2, a scale for each 160 numbers of an output channel",
  },
} as const satisfies Record<string, WeightFormat>;
export type WeightFormatName = keyof typeof WEIGHT_FORMATS;
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
}): WeightOptions => ({ format: weightFormat(words.weights ?? "fp16"), keep: words.keep ?? [] });
