/**
 * The sizes that a model may have, as one table: a number under each name, with its least value and its meaning.
 */

/** Every size that some family takes. `least` is the smallest legal value. */
export const SIZES = {
  layers: { least: 1, doc: "Number of transformer layers." },
  hidden: { least: 1, doc: "Width of the residual stream." },
  heads: { least: 1, doc: "Number of attention heads." },
  "kv-heads": { least: 1, doc: "Number of key and value heads; several query heads share one (llama, mixtral)." },
  "head-size": { least: 0, doc: "Width of a head; 0 means hidden / heads (llama, mixtral)." },
  experts: { least: 1, doc: "Number of feed-forward parts between which a router chooses (mixtral)." },
  "experts-used": { least: 1, doc: "How many of them a token takes (mixtral)." },
  intermediate: { least: 0, doc: "Inner width of the feed-forward part; 0 means 4 x hidden." },
  vocab: { least: 1, doc: "Number of rows of the token embedding." },
  "tied-head": {
    least: 0,
    doc: "1 if the LM head is the token embedding, 0 if it has weights of its own (llama, mixtral).",
  },
  "rotary-base": { least: 1, doc: "The longest wave of rotary positions is this times 2 pi long (llama, mixtral)." },
  positions: { least: 0, doc: "Rows of the position embedding; 0 means as many as the sequence (bert, gpt2)." },
  seq: { least: 1, doc: "Sequence length." },
  batch: { least: 1, doc: "Batch size." },
  classes: {
    least: 0,
    doc: "Outputs of a classifier on the first token; 0 means none: hidden states come out (bert, vit).",
  },
  image: { least: 1, doc: "Height and width of the image in pixels (vit)." },
  patch: { least: 1, doc: "Height and width of a patch in pixels (vit)." },
  channels: { least: 1, doc: "Colour channels of the image (vit)." },
  m: { least: 1, doc: "Rows of the activation (matmul)." },
  k: { least: 1, doc: "Columns of the activation and rows of the constant operand (matmul)." },
  n: { least: 1, doc: "Columns of the constant operand (matmul)." },
} as const satisfies Record<string, { readonly least: number; readonly doc: string }>;
export type SizeName = keyof typeof SIZES;

/** Resolved sizes: every name that the family lists, checked and with zeros replaced. */
export type Sizes = Readonly<Record<SizeName, number>>;

export const isSizeName = (key: string): key is SizeName => key in SIZES;

export const NO_SIZES: Readonly<Record<SizeName, number>> = Object.freeze({
  layers: 0,
  hidden: 0,
  heads: 0,
  "kv-heads": 0,
  "head-size": 0,
  experts: 0,
  "experts-used": 0,
  intermediate: 0,
  vocab: 0,
  "tied-head": 0,
  "rotary-base": 0,
  positions: 0,
  seq: 0,
  batch: 0,
  classes: 0,
  image: 0,
  patch: 0,
  channels: 0,
  m: 0,
  k: 0,
  n: 0,
});
