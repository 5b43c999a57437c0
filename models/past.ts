/**
 * The past of a decoder as transformers and optimum name it: inputs past_key_values.N.key and .value, outputs present.N.key
 * and .value, which have the new positions behind, and what says where the new positions are: attention_mask and position_ids.
 *
 * Sizes of the past and of what is new are left open in the file; the batch is not.
 */

import type { GraphBuilder, Value } from "./graph-builder.js";
import type { Sizes } from "./sizes.js";

/** Names of the dimensions that are left open. */
const OPEN = { seq: "sequence_length", past: "past_sequence_length", total: "total_sequence_length" } as const;

/** What a decoder with a past knows of its new positions. */
export interface Places {
  /** How many positions came before: int64 [batch, seq]. */
  readonly positions: Value;
  /** Which keys a query sees: bool [batch, 1, seq, total]. */
  readonly visible: Value;
}

/** Keys or values of a layer, [batch, heads, seq, size], behind those of the past. */
export type JoinPast = (kind: "key" | "value", value: Value) => Value;

/** `seq` of a shape as Reshape takes it: what is left open follows from the rest. */
export const OPEN_LENGTH = -1;

export const tokenInput = (b: GraphBuilder, { batch, seq }: Sizes, past: boolean): Value =>
  b.input("input_ids", "int64", [batch, seq], past ? { 1: OPEN.seq } : {});

export const logitsOutput = (b: GraphBuilder, logits: Value, { batch, seq, vocab }: Sizes, past: boolean): void =>
  b.output("logits", logits, [batch, seq, vocab], past ? { 1: OPEN.seq } : {});

/** The inputs of places; a key is seen if it is filled and does not come after the query, which stands at the end. */
export function placesOf(b: GraphBuilder, { batch, seq }: Sizes): Places {
  const mask = b.input("attention_mask", "int64", [batch, 2 * seq], { 1: OPEN.total });
  const positions = b.input("position_ids", "int64", [batch, seq], { 1: OPEN.seq });
  const length = (of: Value): Value => b.node("Gather", [b.node("Shape", [of]), b.integers([1], [])], { axis: 0 });
  const visible = b.within("mask", () => {
    const [total, one] = [length(mask), b.integers([1], [])];
    const keys = b.node("Range", [b.integers([0], []), total, one]);
    const queries = b.node("Range", [b.node("Sub", [total, length(positions)]), total, one]);
    const before = b.node("LessOrEqual", [keys, b.unsqueeze(queries, 1)]);
    const filled = b.node("Cast", [mask], { to: BOOL });
    return b.node("And", [b.unsqueeze(b.unsqueeze(filled, 1), 1), before]);
  });
  return { positions, visible };
}

/** Declares the past of a layer, with heads of `size` elements, and gives what joins the new behind it. */
export const joinPast =
  (b: GraphBuilder, layer: number, heads: number, size: number, { batch, seq }: Sizes): JoinPast =>
  (kind, value) => {
    const past = b.input(`past_key_values.${layer}.${kind}`, "float32", [batch, heads, seq, size], { 2: OPEN.past });
    const joined = b.node("Concat", [past, value], { axis: 2 });
    b.output(`present.${layer}.${kind}`, joined, [batch, heads, 2 * seq, size], { 2: OPEN.total });
    return joined;
  };

/** Number of bool in TensorProto. */
const BOOL = 9;
