/**
 * The model families as one table: which sizes each takes, what it takes when none is given, and how it is built.
 *
 * A family lists the sizes that it knows with their defaults, so the command line, its help and its checks derive from
 * this table. `buildModel` is the one entry: family, sizes -> model.
 */

import { fail } from "../src/diagnostics.js";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";
import { llama } from "./llama.js";
import { matmul } from "./matmul.js";
import type { OnnxModel } from "./onnx-writer.js";
import { isSizeName, NO_SIZES, SIZES, type SizeName, type Sizes } from "./sizes.js";
import { vit } from "./vit.js";

interface Family {
  readonly doc: string;
  readonly defaults: Readonly<Partial<Record<SizeName, number>>>;
  readonly opset: number;
  readonly build: (sizes: Sizes, opset: number, seed: number, past: boolean) => OnnxModel;
  /** Whether it can be a decoder with a past. */
  readonly past?: true;
}

export const FAMILIES = {
  bert: {
    doc: "Encoder with token, type and position embeddings and an attention mask; GELU by Erf. input_ids, attention_mask -> last_hidden_state, or logits with --classes.",
    defaults: {
      layers: 12,
      hidden: 768,
      heads: 12,
      intermediate: 3072,
      vocab: 30522,
      positions: 512,
      seq: 128,
      batch: 1,
      classes: 0,
    },
    opset: 14,
    build: bert,
  },
  gpt2: {
    doc: "Causal decoder; fused QKV by Gemm, causal mask by Where, GELU by Tanh, LM head tied to the token embedding. input_ids -> logits; with --past a decoder.",
    defaults: {
      layers: 12,
      hidden: 768,
      heads: 12,
      intermediate: 3072,
      vocab: 50257,
      positions: 1024,
      seq: 128,
      batch: 1,
    },
    opset: 14,
    build: gpt2,
    past: true,
  },
  llama: {
    doc: "Causal decoder; RMS normalization, rotary positions, grouped heads, SiLU gate. input_ids -> logits; with --past a decoder.",
    defaults: {
      layers: 30,
      hidden: 576,
      heads: 9,
      "kv-heads": 3,
      "head-size": 0,
      intermediate: 1536,
      vocab: 49152,
      "tied-head": 1,
      "rotary-base": 10000,
      seq: 128,
      batch: 1,
    },
    opset: 18,
    build: llama,
    past: true,
  },
  mixtral: {
    doc: "Llama whose feed-forward parts are experts, of which a router chooses a few for each token: all are computed. input_ids -> logits; with --past a decoder.",
    defaults: {
      layers: 32,
      hidden: 4096,
      heads: 32,
      "kv-heads": 8,
      "head-size": 0,
      experts: 8,
      "experts-used": 2,
      intermediate: 14336,
      vocab: 32000,
      "tied-head": 0,
      "rotary-base": 1000000,
      seq: 128,
      batch: 1,
    },
    opset: 18,
    build: llama,
    past: true,
  },
  vit: {
    doc: "Image encoder; patches by Conv, class token, GELU by Erf. pixel_values -> logits, or last_hidden_state with --classes 0.",
    defaults: {
      layers: 12,
      hidden: 768,
      heads: 12,
      intermediate: 3072,
      image: 224,
      patch: 16,
      channels: 3,
      batch: 1,
      classes: 1000,
    },
    opset: 17,
    build: vit,
  },
  matmul: {
    doc: "One [M, K] x [K, N] product with a constant second operand. x -> y.",
    defaults: { m: 2304, k: 4096, n: 2048 },
    opset: 14,
    build: matmul,
  },
} as const satisfies Record<string, Family>;
export type FamilyName = keyof typeof FAMILIES;

interface Preset {
  readonly family: FamilyName;
  readonly doc: string;
  readonly sizes: Readonly<Partial<Record<SizeName, number>>>;
}

/** Well-known sizes. */
export const PRESETS = {
  "bert-tiny": {
    family: "bert",
    doc: "2 layers of 128, 2 heads.",
    sizes: { layers: 2, hidden: 128, heads: 2, intermediate: 512 },
  },
  "bert-base": { family: "bert", doc: "12 layers of 768, 12 heads, vocabulary 30,522.", sizes: {} },
  "smollm2-135m": { family: "llama", doc: "30 layers of 576, 9 heads over 3, vocabulary 49,152.", sizes: {} },
  "tinyllama-1.1b": {
    family: "llama",
    doc: "22 layers of 2,048, 32 heads over 4, vocabulary 32,000.",
    sizes: { layers: 22, hidden: 2048, heads: 32, "kv-heads": 4, intermediate: 5632, vocab: 32000, "tied-head": 0 },
  },
  "llama-7b": {
    family: "llama",
    doc: "32 layers of 4,096, 32 heads, vocabulary 32,000.",
    sizes: { layers: 32, hidden: 4096, heads: 32, "kv-heads": 32, intermediate: 11008, vocab: 32000, "tied-head": 0 },
  },
  "llama3-8b": {
    family: "llama",
    doc: "32 layers of 4,096, 32 heads over 8, vocabulary 128,256.",
    sizes: {
      ...{ layers: 32, hidden: 4096, heads: 32, "kv-heads": 8, intermediate: 14336 },
      ...{ vocab: 128256, "tied-head": 0, "rotary-base": 500000 },
    },
  },
  "llama-2-70b": {
    family: "llama",
    doc: "80 layers of 8,192, 64 heads over 8, vocabulary 32,000.",
    sizes: { layers: 80, hidden: 8192, heads: 64, "kv-heads": 8, intermediate: 28672, vocab: 32000, "tied-head": 0 },
  },
  "mixtral-8x7b": {
    family: "mixtral",
    doc: "32 layers of 4,096, 32 heads over 8, 8 experts of 14,336, of which 2 are taken, vocabulary 32,000.",
    sizes: {},
  },
} as const satisfies Record<string, Preset>;

export interface SmallModel extends Preset {
  readonly opset: number;
}

/** The models that are committed under models/small, each under 150 KB and each with something the others lack. */
export const SMALL_MODELS = {
  bert: {
    family: "bert",
    doc: "Normalization as primitives, attention mask.",
    opset: 14,
    sizes: { layers: 2, hidden: 32, heads: 2, intermediate: 64, vocab: 64, positions: 16, seq: 16 },
  },
  gpt2: {
    family: "gpt2",
    doc: "Gemm, Split, Where mask, a vocabulary that is not a multiple of 16.",
    opset: 14,
    sizes: { layers: 2, hidden: 32, heads: 4, intermediate: 128, vocab: 65, positions: 16, seq: 12 },
  },
  llama: {
    family: "llama",
    doc: "Grouped heads wider than hidden / heads, rotary positions.",
    opset: 18,
    sizes: { layers: 2, hidden: 40, heads: 3, "kv-heads": 1, "head-size": 16, intermediate: 64, vocab: 64, seq: 16 },
  },
  vit: {
    family: "vit",
    doc: "Conv patches, LayerNormalization as one operator, an odd sequence of 17.",
    opset: 17,
    sizes: { layers: 2, hidden: 40, heads: 5, intermediate: 80, image: 16, patch: 4, channels: 3, classes: 10 },
  },
} as const satisfies Record<string, SmallModel>;

export interface BuildOptions {
  readonly opset?: number;
  readonly seed?: number;
  /** A decoder that keys and values of earlier tokens are given to. */
  readonly past?: boolean;
}

/** The smallest and largest opset whose operator forms the builder writes. */
export const OPSETS = { least: 13, most: 22 } as const;

export function buildModel(
  name: FamilyName,
  given: Readonly<Partial<Record<SizeName, number>>>,
  options: BuildOptions = {},
): OnnxModel {
  const family: Family = FAMILIES[name];
  const opset = options.opset ?? family.opset;
  if (!Number.isInteger(opset) || opset < OPSETS.least || opset > OPSETS.most) {
    fail("LPU5101", { message: `opset must be ${OPSETS.least} to ${OPSETS.most}, is ${opset}` });
  }
  const seed = options.seed ?? 1;
  if (!Number.isInteger(seed)) fail("LPU5101", { message: `seed must be a whole number, is ${seed}` });
  const past = options.past ?? false;
  if (past && family.past !== true) fail("LPU5101", { message: `family '${name}' has no past` });
  return family.build(resolveSizes(name, family, given, past), opset, seed, past);
}

export function buildSmallModel(name: keyof typeof SMALL_MODELS): OnnxModel {
  const { family, sizes, opset } = SMALL_MODELS[name];
  return buildModel(family, sizes, { opset });
}

function resolveSizes(
  name: FamilyName,
  family: Family,
  given: Readonly<Partial<Record<SizeName, number>>>,
  past: boolean,
): Sizes {
  const sizes: Record<SizeName, number> = { ...NO_SIZES };
  for (const [key, fallback] of Object.entries(family.defaults)) {
    if (isSizeName(key)) sizes[key] = given[key] ?? fallback;
  }
  for (const [key, value] of Object.entries(given)) {
    if (!isSizeName(key)) continue;
    if (family.defaults[key] === undefined) {
      fail("LPU5101", {
        message: `family '${name}' has no size '${key}'`,
        hint: `it takes ${Object.keys(family.defaults).join(", ")}`,
      });
    }
    if (!Number.isInteger(value) || value < SIZES[key].least) {
      fail("LPU5101", { message: `${key} must be a whole number of at least ${SIZES[key].least}, is ${value}` });
    }
  }
  if (given.hidden !== undefined && given.intermediate === undefined && family.defaults.intermediate !== undefined)
    sizes.intermediate = 0;
  if (sizes.intermediate === 0) sizes.intermediate = 4 * sizes.hidden;
  if (sizes.positions === 0) sizes.positions = sizes.seq;
  if (sizes["head-size"] === 0) sizes["head-size"] = sizes.hidden / Math.max(1, sizes.heads);
  checkTogether(family, sizes, past);
  return sizes;
}

/** What must hold between sizes; with a past, the lengths are left open. */
function checkTogether(family: Family, sizes: Sizes, past: boolean): void {
  const knows = (key: SizeName): boolean => family.defaults[key] !== undefined;
  const need = (condition: boolean, message: string): void => {
    if (!condition) fail("LPU5101", { message });
  };
  if (knows("heads")) {
    need(
      Number.isInteger(sizes["head-size"]),
      `hidden must be a multiple of heads, ${sizes.hidden} is not of ${sizes.heads}`,
    );
  }
  if (knows("kv-heads")) {
    need(
      sizes.heads % sizes["kv-heads"] === 0,
      `heads must be a multiple of kv-heads, ${sizes.heads} is not of ${sizes["kv-heads"]}`,
    );
    need(sizes["head-size"] % 2 === 0, `rotary positions need an even head size, it is ${sizes["head-size"]}`);
  }
  if (knows("experts")) {
    const [used, all] = [sizes["experts-used"], sizes.experts];
    need(used <= all, `experts-used must be at most experts (${all}), is ${used}`);
  }
  if (knows("tied-head")) need(sizes["tied-head"] <= 1, `tied-head must be 0 or 1, is ${sizes["tied-head"]}`);
  if (knows("positions") && !past)
    need(sizes.seq <= sizes.positions, `seq must be at most positions (${sizes.positions}), is ${sizes.seq}`);
  if (knows("patch"))
    need(sizes.image % sizes.patch === 0, `image must be a multiple of patch, ${sizes.image} is not of ${sizes.patch}`);
}
