/**
 * Import rules of the fused operators that ONNX Runtime's optimizer and model builders write (domain com.microsoft).
 *
 * Each is written out in the operations that it stands for. A mask is the bias that ONNX Runtime adds: 0 where a key is
 * seen, mask_filter_value where it is not.
 */

import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import { LARGEST_F16, LARGEST_F32 } from "../../ir/numerics.js";
import {
  add,
  cast,
  concat,
  constantValue,
  dtypeOf,
  expand,
  extent,
  flag,
  float,
  floats,
  has,
  hasAttribute,
  int,
  iota,
  list,
  mul,
  op,
  operand,
  optional,
  optionalFloat,
  optionalInts,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  scalarLike,
  shapeOf,
  sliceAxis,
  sub,
  text,
  unsupported,
  wants,
} from "../rule.js";
import { anglesAt, attend, both, causal, joinHeads, type Mask, rotate, splitHeads } from "./attention.js";
import { hardSigmoid } from "./elementwise.js";
import { continueRows } from "./gather.js";
import { matmul } from "./matmul.js";
import { convolution, zerosLike } from "./nn.js";

const sumOf = (c: RuleContext, parts: readonly (NodeId | undefined)[], first: NodeId): NodeId =>
  parts.filter((part) => part !== undefined).reduce((total, part) => add(c, total, part), first);

const lastAxis = (c: RuleContext, x: NodeId): number => rankOf(c, x) - 1;

/** Results 0 and 3: the normalized sum, and the sum. */
function skipLayerNorm(c: RuleContext): readonly NodeId[] {
  const sum = sumOf(c, [operand(c, 1), optional(c, 4)], operand(c, 0));
  const bias = optional(c, 3) ?? zerosLike(c, operand(c, 2));
  const normal = op(c, "layer_norm", [sum, operand(c, 2), bias], {
    axis: lastAxis(c, sum),
    epsilon: float(c, "epsilon", 1e-12),
  });
  return onlyEnds(c, normal, sum);
}

function skipRmsNorm(c: RuleContext): readonly NodeId[] {
  const sum = sumOf(c, [operand(c, 1), optional(c, 3)], operand(c, 0));
  const normal = op(c, "rms_norm", [sum, operand(c, 2)], {
    axis: lastAxis(c, sum),
    epsilon: float(c, "epsilon", 1e-12),
  });
  return onlyEnds(c, normal, sum);
}

function onlyEnds(c: RuleContext, normal: NodeId, sum: NodeId): readonly NodeId[] {
  if (wants(c, 1) || wants(c, 2)) unsupported(c, "mean and inverse deviation are not supported as results");
  return [normal, sum, sum, sum];
}

/** Word, position and segment embeddings, added and normalized. */
function embedLayerNorm(c: RuleContext): readonly NodeId[] {
  const ids = operand(c, 0);
  const length = extent(c, ids, 1);
  const rows = (table: number, indices: NodeId): NodeId => op(c, "gather", [operand(c, table), indices], { axis: 0 });
  const positions = optional(c, 8) ?? list(c, iota(length));
  const segments = has(c, 1) && has(c, 4) ? rows(4, operand(c, 1)) : undefined;
  const sum = sumOf(c, [rows(3, positions), segments], rows(2, ids));
  const normal = op(c, "layer_norm", [sum, operand(c, 5), operand(c, 6)], {
    axis: 2,
    epsilon: float(c, "epsilon", 1e-12),
  });
  const mask = has(c, 7)
    ? op(c, "reduce_sum", [operand(c, 7)], { axes: [1], keepdims: false })
    : c.graph.numbers(
        "i32",
        [extent(c, ids, 0)],
        iota(extent(c, ids, 0)).map(() => 0),
      );
  return [normal, mask, sum];
}

const gelu = (c: RuleContext, approximate: "none" | "tanh"): NodeId => {
  const x = sumOf(c, [optional(c, 1)], operand(c, 0));
  return op(c, "gelu", [x], { approximate });
};

/** 0 where seen, the filter value where not. */
function filtered(c: RuleContext, seen: NodeId, like: NodeId): NodeId {
  const filter = scalarLike(c, like, float(c, "mask_filter_value", -10000));
  return op(c, "select", [seen, scalarLike(c, like, 0), filter]);
}

/** A mask operand of any of its forms, as a bias that broadcasts to [B,H,S,T]. */
function paddingBias(c: RuleContext, mask: NodeId, q: NodeId, keys: number): NodeId {
  const [batch = 1, , queries = 1] = shapeOf(c, q);
  const shape = shapeOf(c, mask);
  const places = c.graph.numbers("i32", [1, 1, 1, keys], iota(keys));
  const whole = cast(c, mask, "i32");
  if (shape.length === 1 && (shape[0] === batch || shape[0] === 2 * batch)) {
    const ends = op(c, "lt", [places, reshape(c, sliceAxis(c, whole, 0, 0, batch), [batch, 1, 1, 1])]);
    if (shape[0] === batch) return filtered(c, ends, q);
    const starts = op(c, "ge", [places, reshape(c, sliceAxis(c, whole, 0, batch, batch), [batch, 1, 1, 1])]);
    return filtered(c, op(c, "and", [ends, starts]), q);
  }
  const seen = op(c, "gt", [whole, scalar(c, "i32", 0)]);
  if (shape.length === 2)
    return filtered(c, reshape(c, seen, [at(shape, 0, "extent"), 1, 1, at(shape, 1, "extent")]), q);
  if (shape.length === 3) return filtered(c, reshape(c, seen, [at(shape, 0, "extent"), 1, queries, keys]), q);
  return unsupported(
    c,
    `a mask of ${shape.length} axes and ${shape[0]} rows is not supported`,
    "supported are masks [B], [2B], [B,T] and [B,S,T]",
  );
}

const LARGEST = { f16: LARGEST_F16, f32: LARGEST_F32 };
/** Filter values above it stay far from what stands for minus infinity. */
const HALF_OF_F16 = 32768;

function maskOf(c: RuleContext, q: NodeId, keys: number, padding: NodeId | undefined, bias: NodeId | undefined): Mask {
  const padded = padding === undefined ? undefined : paddingBias(c, padding, q, keys);
  const whole = padded === undefined ? bias : bias === undefined ? padded : add(c, padded, bias);
  const queries = extent(c, q, 2);
  const allowed = flag(c, "unidirectional") ? causal(c, queries, keys, keys - queries) : undefined;
  const isBounded = bias === undefined && float(c, "mask_filter_value", -10000) > -HALF_OF_F16;
  if (allowed === undefined || whole === undefined || isBounded) return { bias: whole, allowed, isBounded };
  // ONNX Runtime adds the least finite number: beside others as great it says how often a key is masked.
  const later = op(c, "select", [
    allowed,
    scalarLike(c, q, 0),
    scalarLike(c, q, -LARGEST[dtypeOf(c, q) === "f16" ? "f16" : "f32"]),
  ]);
  return { bias: add(c, whole, later) };
}

/** com.microsoft.Attention: one matmul makes queries, keys and values. */
function packedAttention(c: RuleContext): readonly NodeId[] {
  const heads = int(c, "num_heads");
  if (flag(c, "do_rotary") || flag(c, "past_present_share_buffer"))
    unsupported(c, "rotary embedding and shared buffers are not supported here");
  const product = matmul(c, operand(c, 0), operand(c, 1));
  const packed = has(c, 2) ? add(c, product, operand(c, 2)) : product;
  const width = extent(c, packed, 2);
  const sizes = optionalInts(c, "qkv_hidden_sizes") ?? [width / 3, width / 3, width / 3];
  const [q, k, v] = sizes.map((size, i) =>
    splitHeads(
      c,
      sliceAxis(
        c,
        packed,
        2,
        sizes.slice(0, i).reduce((sum, own) => sum + own, 0),
        size,
      ),
      heads,
    ),
  );
  if (q === undefined || k === undefined || v === undefined) return reject(c, "LPU1008", "expected three hidden sizes");
  const past = optional(c, 4);
  const before = (index: number): NodeId[] =>
    past === undefined ? [] : [reshape(c, sliceAxis(c, past, 0, index, 1), shapeOf(c, past).slice(1))];
  const [keys, values] = [concat(c, [...before(0), k], 2), concat(c, [...before(1), v], 2)];
  const mask = maskOf(c, q, extent(c, keys, 2), optional(c, 3), optional(c, 5));
  const done = attend(c, q, keys, values, optionalFloat(c, "scale") || 1 / Math.sqrt(extent(c, q, 3)), 0, mask);
  if (!wants(c, 1)) return [joinHeads(c, done.output)];
  const stacked = [keys, values].map((part) => reshape(c, part, [1, ...shapeOf(c, part)]));
  return [joinHeads(c, done.output), concat(c, stacked, 0)];
}

/** Queries, keys and values of MultiHeadAttention as [B,H,S,D], with their biases. */
function multiHeads(c: RuleContext, heads: number): readonly [NodeId, NodeId, NodeId] {
  const bias = optional(c, 3);
  const query = operand(c, 0);
  if (rankOf(c, query) === 5) {
    // [B,S,H,3,D]
    const [batch = 1, length = 1, , , width = 1] = shapeOf(c, query);
    const part = (i: number): NodeId =>
      op(c, "transpose", [reshape(c, sliceAxis(c, query, 3, i, 1), [batch, length, heads, width])], {
        perm: [0, 2, 1, 3],
      });
    if (bias !== undefined) unsupported(c, "a bias on packed queries, keys and values is not supported");
    return [part(0), part(1), part(2)];
  }
  const width = extent(c, query, 2);
  const biased = (x: NodeId, start: number): NodeId =>
    bias === undefined ? x : add(c, x, sliceAxis(c, bias, 0, start, extent(c, x, 2)));
  const q = splitHeads(c, biased(query, 0), heads);
  if (!has(c, 2) && has(c, 1)) {
    const key = operand(c, 1);
    if (rankOf(c, key) !== 5) return unsupported(c, "expected values, or keys and values packed in 5 axes");
    const [batch = 1, length = 1, , , own = 1] = shapeOf(c, key);
    const part = (i: number): NodeId =>
      op(c, "transpose", [reshape(c, sliceAxis(c, key, 3, i, 1), [batch, length, heads, own])], { perm: [0, 2, 1, 3] });
    return [q, part(0), part(1)];
  }
  const [key, value] = [operand(c, 1), operand(c, 2)];
  // Keys and values of four axes come from an encoder and are projected already.
  if (rankOf(c, key) === 4) return [q, key, value];
  return [q, splitHeads(c, biased(key, width), heads), splitHeads(c, biased(value, 2 * width), heads)];
}

function multiHeadAttention(c: RuleContext): readonly NodeId[] {
  if (has(c, 6) && !wants(c, 1))
    unsupported(c, "a past without present keys and values as results is not supported: ONNX Runtime does not read it");
  const [q, k, v] = multiHeads(c, int(c, "num_heads"));
  const joined = (past: NodeId | undefined, own: NodeId): NodeId =>
    past === undefined ? own : concat(c, [past, own], 2);
  const [keys, values] = [joined(optional(c, 6), k), joined(optional(c, 7), v)];
  const mask = maskOf(c, q, extent(c, keys, 2), optional(c, 4), optional(c, 5));
  const done = attend(c, q, keys, values, optionalFloat(c, "scale") || 1 / Math.sqrt(extent(c, q, 3)), 0, mask);
  return [joinHeads(c, done.output), keys, values];
}

/**
 * com.microsoft.GroupQueryAttention: seqlens_k[b] is the place of the last key, so new keys go to the places from
 * seqlens_k[b] + 1 - S on, which is also where rotary positions start; all of it may depend on data. Sequences of several
 * lengths begin together, at place 0, and are filled up at their ends, which no query sees.
 */
function groupQueryAttention(c: RuleContext): readonly NodeId[] {
  const [heads, groups] = [int(c, "num_heads"), int(c, "kv_num_heads")];
  const window = int(c, "local_window_size", -1);
  const packed = !has(c, 1);
  const whole = operand(c, 0);
  const width = extent(c, whole, 2) / (packed ? heads + 2 * groups : heads);
  const part = (index: number, start: number, count: number): NodeId =>
    splitHeads(c, packed ? sliceAxis(c, whole, 2, start * width, count * width) : operand(c, index), count);
  const [q, k, v] = [part(0, 0, heads), part(1, heads, groups), part(2, heads + groups, groups)];
  const [batch = 1, , length = 1] = shapeOf(c, q);
  const last = reshape(c, cast(c, operand(c, 5), "i32"), [batch, 1]);
  const start = sub(c, last, scalar(c, "i32", length - 1));
  const held = has(c, 3) ? extent(c, operand(c, 3), 2) : 0;
  const begins = held === 0 || (batch > 1 && length > 1);
  const first = begins ? mul(c, start, scalar(c, "i32", 0)) : start;
  const counted = (): NodeId => add(c, first, c.graph.numbers("i32", [1, length], iota(length)));
  const places = has(c, 9) ? cast(c, operand(c, 9), "i32") : undefined;
  const turned = (x: NodeId): NodeId => (flag(c, "do_rotary") ? turnedAt(c, x, places ?? counted()) : x);
  // A buffer that past and present share has no more rows than the past.
  const total = constantValue(c, operand(c, 6))?.data[0];
  const least = total === undefined ? held + length : Math.max(held, total);
  const rows = (wants(c, 1) ? c.declared(1)?.[2] : undefined) ?? least;
  if (rows < held) reject(c, "LPU1012", `expected a present of at least ${held} rows, as its past has, got ${rows}`);
  const grown = (past: number, own: NodeId): NodeId => {
    if (held === 0) return own;
    const [batches = 1, count = 1, , size = 1] = shapeOf(c, own);
    const more = expand(c, scalarLike(c, own, 0), [batches, count, rows - held, size]);
    return continueRows(c, rows === held ? operand(c, past) : concat(c, [operand(c, past), more], 2), own, first);
  };
  const [keys, values] = [grown(3, turned(k)), grown(4, v)];
  const [count, offset] = [extent(c, keys, 2), reshape(c, first, [batch, 1, 1, 1])];
  const upTo = (place: NodeId): NodeId => causal(c, length, count, place, true);
  const gone = window > 0 ? upTo(sub(c, offset, scalar(c, "i32", window))) : undefined;
  const real = begins && length > 1 ? notBehind(c, reshape(c, last, [batch, 1, 1, 1]), count) : undefined;
  const allowed = both(c, both(c, upTo(offset), real), gone === undefined ? undefined : op(c, "not", [gone]));
  const factor = optionalFloat(c, "scale") || 1 / Math.sqrt(width);
  const mask = { allowed, bias: optional(c, 10), mayBeEmpty: real !== undefined && gone !== undefined };
  const done = attend(c, turned(q), keys, values, factor, float(c, "softcap", 0), mask, sinkOf(c, q));
  return [joinHeads(c, done.output), keys, values];
}

/** Keys up to place last[B,1,1,1]. */
const notBehind = (c: RuleContext, last: NodeId, keys: number): NodeId =>
  op(c, "le", [c.graph.numbers("i32", [1, 1, 1, keys], iota(keys)), last]);

/** A score of each head, or 0 for a smooth softmax. */
function sinkOf(c: RuleContext, q: NodeId): NodeId | undefined {
  const isSmooth = int(c, "smooth_softmax", -1) > 0;
  const given = optional(c, 11);
  if (given !== undefined) return reshape(c, cast(c, given, dtypeOf(c, q)), [1, extent(c, q, 1), 1, 1]);
  return isSmooth ? scalarLike(c, q, 0) : undefined;
}

function turnedAt(c: RuleContext, x: NodeId, positions: NodeId): NodeId {
  const [cos, sin] = [anglesAt(c, operand(c, 7), positions), anglesAt(c, operand(c, 8), positions)];
  return rotate(c, x, cos, sin, flag(c, "rotary_interleaved"), 2 * extent(c, cos, 3));
}

/** Positions are [B,S], or one number from which they count. */
function rotaryEmbedding(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const flat = rankOf(c, x) === 3;
  const half = extent(c, operand(c, 2), 1);
  const named = int(c, "rotary_embedding_dim", 0);
  const heads = int(c, "num_heads", 0) || (flat ? extent(c, x, 2) / (2 * half) : extent(c, x, 1));
  const apart = flat ? splitHeads(c, x, heads) : x;
  const [batch = 1, , length = 1] = shapeOf(c, apart);
  const given = cast(c, operand(c, 1), "i32");
  const counted =
    rankOf(c, given) < 2 ? add(c, reshape(c, given, [1, 1]), c.graph.numbers("i32", [1, length], iota(length))) : given;
  const positions = op(c, "expand", [counted], { shape: [batch, length] });
  const [cos, sin] = [anglesAt(c, operand(c, 2), positions), anglesAt(c, operand(c, 3), positions)];
  const turned = rotate(c, apart, cos, sin, flag(c, "interleaved"), named > 0 ? named : 2 * half);
  return flat ? joinHeads(c, turned) : turned;
}

interface Activation {
  /** How many parameters it has. */
  readonly parameters: number;
  readonly of: (c: RuleContext, x: NodeId, a: number, b: number) => NodeId;
}

/** What FusedConv applies to its sums. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  Relu: { parameters: 0, of: (c, x) => op(c, "relu", [x]) },
  Tanh: { parameters: 0, of: (c, x) => op(c, "tanh", [x]) },
  Sigmoid: { parameters: 0, of: (c, x) => op(c, "sigmoid", [x]) },
  LeakyRelu: {
    parameters: 1,
    of: (c, x, slope) =>
      op(c, "select", [op(c, "lt", [x, scalarLike(c, x, 0)]), mul(c, x, scalarLike(c, x, slope)), x]),
  },
  Clip: {
    parameters: 2,
    of: (c, x, lo, hi) => op(c, "min", [op(c, "max", [x, scalarLike(c, x, lo)]), scalarLike(c, x, hi)]),
  },
  HardSigmoid: { parameters: 2, of: hardSigmoid },
};

/** A convolution with a bias, another sum that is added, and an activation. */
function fusedConv(c: RuleContext): NodeId {
  const sums = sumOf(c, [optional(c, 3)], convolution(c, operand(c, 0), operand(c, 1), optional(c, 2)));
  const name = text(c, "activation", "");
  const given = hasAttribute(c, "activation_params") ? floats(c, "activation_params") : [];
  if (name === "") return sums;
  const { parameters, of } = ACTIVATIONS[name] ?? unsupported(c, `activation '${name}' is not supported`);
  const [a = 0, b = 0] = given;
  if (given.length !== parameters)
    return reject(c, "LPU1008", `expected ${parameters} activation_params for '${name}', got ${given.length}`);
  return of(c, sums, a, b);
}

const rows: readonly Omit<Rule, "domain">[] = [
  {
    op: "FusedConv",
    doc: "The operation conv, additions and an activation.",
    refuses: `Activations other than ${Object.keys(ACTIVATIONS).join(", ")}.`,
    ignores: { kernel_shape: "the shape of the weights says it" },
    build: fusedConv,
  },
  {
    op: "BiasAdd",
    doc: "Two additions.",
    build: (c) => add(c, add(c, operand(c, 0), operand(c, 1)), operand(c, 2)),
  },
  {
    op: "SkipLayerNormalization",
    doc: "An addition and the operation layer_norm.",
    refuses: "Mean and inverse deviation as results.",
    build: skipLayerNorm,
  },
  {
    op: "SkipSimplifiedLayerNormalization",
    doc: "An addition and the operation rms_norm.",
    refuses: "Mean and inverse deviation as results.",
    build: skipRmsNorm,
  },
  {
    op: "EmbedLayerNormalization",
    doc: "Gathers, additions and the operation layer_norm.",
    defaults: { mask_index_type: 0 },
    build: embedLayerNorm,
  },
  { op: "Gelu", doc: "The operation gelu.", build: (c) => gelu(c, "none") },
  { op: "BiasGelu", doc: "An addition and the operation gelu.", build: (c) => gelu(c, "none") },
  { op: "FastGelu", doc: "An addition and the operation gelu by tanh.", build: (c) => gelu(c, "tanh") },
  {
    op: "QuickGelu",
    doc: "x sigmoid(alpha x).",
    build: (c) =>
      mul(
        c,
        operand(c, 0),
        op(c, "sigmoid", [mul(c, operand(c, 0), scalar(c, dtypeOf(c, operand(c, 0)), float(c, "alpha", 1.702)))]),
      ),
  },
  {
    op: "Attention",
    doc: "One matmul for queries, keys and values, then attention written out.",
    refuses: "Rotary embedding, shared buffers, and masks other than [B], [2B], [B,T] and [B,S,T].",
    build: packedAttention,
  },
  {
    op: "MultiHeadAttention",
    doc: "Attention written out, with biases and past keys.",
    refuses: "A bias on packed queries, keys and values, and masks other than [B], [2B], [B,T] and [B,S,T].",
    build: multiHeadAttention,
  },
  {
    op: "GroupQueryAttention",
    doc: "Attention written out; new keys are placed by length, positions may be rotary.",
    ignores: {
      "4": "an empty past has no values either",
      "6": "the greatest length follows from the shapes",
      "7": "without rotary positions no angles are taken",
      "8": "without rotary positions no angles are taken",
      rotary_interleaved: "without rotary positions nothing is turned",
      qk_norm_epsilon: "it is of norms whose weights are operands 14 and 15, and these are refused",
    },
    defaults: {
      causal: 1,
      qk_output: 0,
      sliding_window_cache: 0,
      k_quant_type: "NONE",
      v_quant_type: "NONE",
    },
    build: groupQueryAttention,
  },
  {
    op: "RotaryEmbedding",
    doc: "Products with tables of cosines and sines, gathered by position.",
    defaults: { scale: 1 },
    build: rotaryEmbedding,
  },
];

export const MICROSOFT: readonly Rule[] = rows.map((row) => ({ ...row, domain: "com.microsoft" }));
