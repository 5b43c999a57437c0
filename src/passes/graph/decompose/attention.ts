/**
 * The attention composite as matmuls, a softmax and an additive mask.
 *
 * Where a key may not be seen, MASKED takes the place of the score: the most negative fp16 number, after which exp gives 0 as it
 * does after minus infinity, but a row in which nothing may be seen has no NaN. Heads that share keys and values see them
 * through an expand, which costs nothing on the machine.
 */

import { at } from "../../../diagnostics.js";
import { LARGEST_F16 } from "../../../ir/numerics.js";
import { elementCount, type NodeId, type Tensor } from "../../../ir/graph.js";
import { booleanAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { literalOf, tensorOf } from "../../../ir/tensor.js";
import { deriveLiteral, EAGER_ELEMENTS } from "../../../ir/literals.js";
import type { Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";

export const MASKED = -LARGEST_F16;

/** bool [queries, keys]: true where key <= query + keys - queries. */
function causalMask(g: Rewriter, queries: number, keys: number): NodeId {
  const load = (): Tensor => {
    const values = new Float32Array(queries * keys);
    for (let s = 0; s < queries; s += 1) values.fill(1, s * keys, s * keys + Math.max(0, s + keys - queries + 1));
    return tensorOf("bool", [queries, keys], values);
  };
  const type = { dtype: "bool", shape: [queries, keys] } as const;
  return g.constant(
    elementCount(type.shape) <= EAGER_ELEMENTS
      ? literalOf(load())
      : deriveLiteral([], `causal ${queries} ${keys}`, type, load),
  );
}

/** [B, G, T, D] to [B, H, T, D]: each head of k or v serves H / G neighbours. */
function spreadHeads(g: Rewriter, x: NodeId, heads: number): NodeId {
  const [batch = 1, groups = 1, keys = 1, width = 1] = g.shape(x);
  if (groups === heads) return x;
  const apart = g.emit("reshape", [x], { shape: [batch, groups, 1, keys, width] });
  const spread = g.emit("expand", [apart], { shape: [batch, groups, heads / groups, keys, width] });
  return g.emit("reshape", [spread], { shape: [batch, heads, keys, width] });
}

const attention: Rule = {
  name: "attention",
  law: "attention(q, k, v, mask) == matmul(softmax(matmul(q * scale, transpose(k)) + mask), v)",
  ops: ["attention"],
  rewrite: (g, node) => {
    const [q, v, mask] = [operandOf(node, 0), operandOf(node, 2), node.inputs[3]];
    const { dtype } = node.type;
    const [, heads = 1, queries = 1] = g.shape(q);
    const k = spreadHeads(g, operandOf(node, 1), heads);
    const number = (value: number): NodeId => g.number(Math.fround(value), dtype);
    const scores = g.emit("matmul", [
      g.emit("mul", [q, number(numberAttr(node.attrs, "scale"))]),
      g.emit("transpose", [k], { perm: [0, 1, 3, 2] }),
    ]);
    const cap = numberAttr(node.attrs, "softcap");
    let x =
      cap === 0 ? scores : g.emit("mul", [g.emit("tanh", [g.emit("mul", [scores, number(1 / cap)])]), number(cap)]);
    const isKept = mask !== undefined && g.type(mask).dtype === "bool";
    if (mask !== undefined && !isKept) x = g.emit("add", [x, mask]);
    const kept = [
      ...(isKept ? [mask] : []),
      ...(booleanAttr(node.attrs, "causal") ? [causalMask(g, queries, at(g.shape(k), 2, "extent"))] : []),
    ];
    if (kept.length > 0) x = g.emit("select", [kept.reduce((a, b) => g.emit("and", [a, b])), x, number(MASKED)]);
    return g.emit("matmul", [g.emit("softmax", [x], { axis: 3 }), spreadHeads(g, v, heads)]);
  },
};

export const ATTENTION_RULES: readonly Rule[] = [attention];
