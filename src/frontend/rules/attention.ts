/**
 * Import rules of attention and rotary embedding as ONNX has them, and the pieces that other attention operators share.
 *
 * Attention is written out: scores, cap, mask, softmax, weighted sum. Query heads that share a head of keys are taken as more
 * rows of one matmul, so keys and values are never repeated. A mask is a bias that is added, truth values that select, or
 * both; a row in which nothing is allowed gives zeros.
 */

import { LARGEST_F16 } from "../../ir/numerics.js";
import { elementCount, type NodeId } from "../../ir/graph.js";
import { isFloat } from "../../ir/tensor.js";
import {
  add,
  cast,
  concat,
  dtypeOf,
  expand,
  extent,
  flag,
  float,
  has,
  int,
  iota,
  mul,
  op,
  operand,
  optional,
  optionalFloat,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  scalarLike,
  scale,
  select,
  shapeOf,
  sliceAxis,
  sub,
  swapLast,
  transpose,
  unsupported,
  constantValue,
  wants,
} from "../rule.js";

export interface Mask {
  /** Added to the scores; broadcasts to [B,H,S,T]. */
  readonly bias?: NodeId | undefined;
  /** Whether the bias is far above what stands for minus infinity, as one that the operator makes itself. */
  readonly isBounded?: boolean;
  /** Which keys a query sees; broadcasts to [B,H,S,T]. */
  readonly allowed?: NodeId | undefined;
  /** Whether a query may see no key at all, which then gives zeros. */
  readonly mayBeEmpty?: boolean;
}

/** A softmax over the last axis whose rows have a share more, which goes nowhere: that of a score `sink`, which broadcasts to them. */
function softmaxBeside(c: RuleContext, x: NodeId, sink: NodeId): NodeId {
  const most = op(c, "max", [reduce(c, "max", x, [rankOf(c, x) - 1], true), sink]);
  const share = (score: NodeId): NodeId => op(c, "exp", [sub(c, score, most)]);
  const shares = share(x);
  return op(c, "div", [shares, add(c, reduce(c, "sum", shares, [rankOf(c, x) - 1], true), share(sink))]);
}

export interface Attended {
  readonly scores: NodeId;
  readonly capped: NodeId;
  readonly biased: NodeId;
  readonly weights: NodeId;
  /** [B,H,S,Dv] */
  readonly output: NodeId;
}

/**
 * Where a key is not allowed its score is minus infinity, and for the softmax this: exp of the difference from any real score
 * is 0, also in fp16. Of scores with a bias that is given this may be one: the least finite number beside it stays more.
 */
const FORBIDDEN = -LARGEST_F16;

/** q [B,H,S,D], k [B,K,T,D], v [B,K,T,Dv], where K divides H. `sink`: scores [1,H,1,1] of which the softmax knows besides. */
export function attend(
  c: RuleContext,
  q: NodeId,
  k: NodeId,
  v: NodeId,
  factor: number,
  softcap: number,
  mask: Mask,
  sink?: NodeId,
): Attended {
  const [batch = 1, heads = 1, queries = 1, width = 1] = shapeOf(c, q);
  const [groups, keys] = [extent(c, k, 1), extent(c, k, 2)];
  if (heads % groups !== 0) reject(c, "LPU1012", `expected a number of key heads that divides ${heads}, got ${groups}`);
  const rows = (heads / groups) * queries;
  const grouped = reshape(c, scale(c, q, factor), [batch, groups, rows, width]);
  const scores = reshape(c, op(c, "matmul", [grouped, swapLast(c, k)]), [batch, heads, queries, keys]);
  const capped = softcap === 0 ? scores : scale(c, op(c, "tanh", [scale(c, scores, 1 / softcap)]), softcap);
  const added = mask.bias === undefined ? capped : add(c, capped, mask.bias);
  const forbidden = (score: number): NodeId =>
    mask.allowed === undefined ? added : select(c, mask.allowed, added, scalarLike(c, added, score));
  const biased = forbidden(Number.NEGATIVE_INFINITY);
  const seen = mask.bias === undefined || mask.isBounded === true ? forbidden(FORBIDDEN) : biased;
  const shares = sink === undefined ? op(c, "softmax", [seen], { axis: 3 }) : softmaxBeside(c, seen, sink);
  const weights = withoutEmptyRows(c, shares, mask);
  const sum = op(c, "matmul", [reshape(c, weights, [batch, groups, rows, keys]), v]);
  return { scores, capped, biased, weights, output: reshape(c, sum, [batch, heads, queries, extent(c, v, 3)]) };
}

function withoutEmptyRows(c: RuleContext, weights: NodeId, { bias, allowed, mayBeEmpty }: Mask): NodeId {
  if (mayBeEmpty !== true) return weights;
  const zero = scalarLike(c, weights, 0);
  const shown = allowed === undefined ? weights : select(c, allowed, weights, zero);
  if (bias === undefined) return shown;
  const most = reduce(c, "max", bias, [rankOf(c, bias) - 1], true);
  return select(c, op(c, "eq", [most, scalarLike(c, bias, Number.NEGATIVE_INFINITY)]), zero, shown);
}

/** [B,S,H*D] as [B,H,S,D]. */
export function splitHeads(c: RuleContext, x: NodeId, heads: number): NodeId {
  const [batch = 1, length = 1, width = 1] = shapeOf(c, x);
  if (heads < 1 || width % heads !== 0)
    reject(c, "LPU1012", `expected a width that ${heads} heads divide, got ${width}`);
  return transpose(c, reshape(c, x, [batch, length, heads, width / heads]), [0, 2, 1, 3]);
}

/** [B,H,S,D] as [B,S,H*D]. */
export function joinHeads(c: RuleContext, x: NodeId): NodeId {
  const [batch = 1, heads = 1, length = 1, width = 1] = shapeOf(c, x);
  return reshape(c, transpose(c, x, [0, 2, 1, 3]), [batch, length, heads * width]);
}

/** Keys up to each query's own place; query 0 is at place `offset`, which may be a node [B,1,1,1]. */
export function causal(
  c: RuleContext,
  queries: number,
  keys: number,
  offset: number | NodeId,
  dynamic = false,
): NodeId {
  const rows = c.graph.numbers(
    "i32",
    [queries, 1],
    iota(queries).map((i) => i + (dynamic ? 0 : offset)),
  );
  const columns = c.graph.numbers("i32", [1, keys], iota(keys));
  return op(c, "le", [columns, dynamic ? add(c, rows, offset) : rows]);
}

const shifted = (c: RuleContext, offset: NodeId, by: number): NodeId =>
  by === 0 ? offset : add(c, offset, scalar(c, "i32", by));

export const both = (c: RuleContext, a: NodeId | undefined, b: NodeId | undefined): NodeId | undefined =>
  a === undefined ? b : b === undefined ? a : op(c, "and", [a, b]);

/** A mask operand over [.., S, T'], with T' below T: the keys beyond it are not allowed. */
function paddedMask(c: RuleContext, mask: NodeId, keys: number): NodeId {
  const rank = rankOf(c, mask);
  const missing = keys - extent(c, mask, -1);
  if (missing <= 0 || extent(c, mask, -1) === 1) return mask;
  const filler = expand(
    c,
    isFloat(dtypeOf(c, mask)) ? scalarLike(c, mask, Number.NEGATIVE_INFINITY) : scalar(c, "bool", 0),
    [...shapeOf(c, mask).slice(0, -1), missing],
  );
  return concat(c, [mask, filler], rank - 1);
}

/** Whether a constant mask leaves every query a key; a mask that is not known may not. */
function leavesNothing(c: RuleContext, allowed: NodeId | undefined): boolean {
  if (allowed === undefined) return false;
  const value = elementCount(shapeOf(c, allowed)) <= 1 << 22 ? constantValue(c, allowed) : undefined;
  if (value === undefined) return true;
  const keys = value.shape.at(-1) ?? 1;
  return iota(value.data.length / keys).some((row) => !value.data.subarray(row * keys, (row + 1) * keys).includes(1));
}

function attentionMask(c: RuleContext, queries: number, keys: number, past: number, batch: number): Mask {
  const given = optional(c, 3);
  const mask = given === undefined ? undefined : paddedMask(c, given, keys);
  const isBias = mask !== undefined && isFloat(dtypeOf(c, mask));
  const filled = optional(c, 6);
  const lengths = filled === undefined ? undefined : reshape(c, cast(c, filled, "i32"), [batch, 1, 1, 1]);
  const places = c.graph.numbers("i32", [1, 1, 1, keys], iota(keys));
  const inRange = lengths === undefined ? undefined : op(c, "lt", [places, lengths]);
  const offset = lengths === undefined ? past : sub(c, lengths, scalar(c, "i32", queries));
  const isDynamic = lengths !== undefined;
  /** Keys up to `reach` places after each query's own. */
  const upTo = (reach: number): NodeId =>
    causal(c, queries, keys, typeof offset === "number" ? offset + reach : shifted(c, offset, reach), isDynamic);
  const [left, right] = [int(c, "left_window_size", -1), int(c, "right_window_size", -1)];
  const last = flag(c, "is_causal") ? 0 : right;
  const before = last < 0 ? undefined : upTo(last);
  const after = left < 0 ? undefined : op(c, "not", [upTo(-left - 1)]);
  const allowed = both(c, both(c, isBias ? undefined : mask, inRange), both(c, before, after));
  return {
    bias: isBias ? mask : undefined,
    allowed,
    mayBeEmpty: leavesNothing(c, allowed) || (isBias && constantValue(c, mask) === undefined),
  };
}

function attention(c: RuleContext): readonly NodeId[] {
  const flat = rankOf(c, operand(c, 0)) === 3;
  const [queryHeads, keyHeads] = flat ? [int(c, "q_num_heads"), int(c, "kv_num_heads")] : [0, 0];
  const q = flat ? splitHeads(c, operand(c, 0), queryHeads) : operand(c, 0);
  const part = (index: number): NodeId => (flat ? splitHeads(c, operand(c, index), keyHeads) : operand(c, index));
  const joined = (index: number, past: number): NodeId =>
    has(c, past) ? concat(c, [operand(c, past), part(index)], 2) : part(index);
  const [k, v] = [joined(1, 4), joined(2, 5)];
  const past = has(c, 4) ? extent(c, operand(c, 4), 2) : 0;
  const factor = optionalFloat(c, "scale") ?? 1 / Math.sqrt(extent(c, q, 3));
  const mask = attentionMask(c, extent(c, q, 2), extent(c, k, 2), past, extent(c, q, 0));
  const done = attend(c, q, k, v, factor, float(c, "softcap", 0), mask);
  const shown = [done.scores, done.capped, done.biased, done.weights][int(c, "qk_matmul_output_mode", 0)];
  return [
    flat ? joinHeads(c, done.output) : done.output,
    k,
    v,
    shown ?? unsupported(c, "qk_matmul_output_mode is from 0 to 3"),
  ];
}

/** Pairs (a, b) of x turned by an angle: (a cos - b sin, b cos + a sin). cos and sin broadcast to the halves [B,H,S,R/2]. */
export function rotate(
  c: RuleContext,
  x: NodeId,
  cos: NodeId,
  sin: NodeId,
  interleaved: boolean,
  rotated: number,
): NodeId {
  const [width, half] = [extent(c, x, 3), rotated / 2];
  const turned = rotated === width ? x : sliceAxis(c, x, 3, 0, rotated);
  const [a, b] = interleaved
    ? [sliceAxis(c, turned, 3, 0, half, 2), sliceAxis(c, turned, 3, 1, half, 2)]
    : [sliceAxis(c, turned, 3, 0, half), sliceAxis(c, turned, 3, half, half)];
  const first = sub(c, mul(c, a, cos), mul(c, b, sin));
  const second = add(c, mul(c, a, sin), mul(c, b, cos));
  const column = (id: NodeId): NodeId => reshape(c, id, [...shapeOf(c, id), 1]);
  const whole = interleaved
    ? reshape(c, concat(c, [column(first), column(second)], 4), shapeOf(c, turned))
    : concat(c, [first, second], 3);
  return rotated === width ? whole : concat(c, [whole, sliceAxis(c, x, 3, rotated, width - rotated)], 3);
}

/** Rows of a table of angles at the positions [B,S], as [B,1,S,R/2]. */
export function anglesAt(c: RuleContext, table: NodeId, positions: NodeId): NodeId {
  const rows = op(c, "gather", [table, cast(c, positions, "i32")], { axis: 0 });
  const [batch = 1, length = 1, half = 1] = shapeOf(c, rows);
  return reshape(c, rows, [batch, 1, length, half]);
}

function rotaryEmbedding(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const flat = rankOf(c, x) === 3;
  const heads = flat ? splitHeads(c, x, int(c, "num_heads")) : x;
  const angles = (index: number): NodeId => {
    const table = operand(c, index);
    if (has(c, 3)) return anglesAt(c, table, operand(c, 3));
    const [batch = 1, length = 1, half = 1] = shapeOf(c, table);
    return reshape(c, table, [batch, 1, length, half]);
  };
  const rotated = int(c, "rotary_embedding_dim", 0) || extent(c, heads, 3);
  const [cos, sin] = [1, 2].map((index) => {
    const table = angles(index);
    return extent(c, table, 3) > rotated / 2 ? sliceAxis(c, table, 3, 0, rotated / 2) : table;
  });
  if (cos === undefined || sin === undefined) return reject(c, "LPU1008", "expected tables of cosines and sines");
  const turned = rotate(c, heads, cos, sin, flag(c, "interleaved"), rotated);
  return flat ? joinHeads(c, turned) : turned;
}

export const ATTENTION: readonly Rule[] = [
  {
    op: "Attention",
    doc: "Matmuls, a mask and a softmax; heads of keys and values may be shared, past ones are joined on.",
    ignores: { softmax_precision: "every softmax is computed in fp32" },
    build: (c) => attention(c).filter((_, i) => i === 0 || wants(c, i) || i < c.results.length),
  },
  {
    op: "RotaryEmbedding",
    doc: "Products with tables of cosines and sines, which may be gathered by position.",
    build: rotaryEmbedding,
  },
];
