/**
 * Llama as PyTorch's exporter writes it: RMS normalization, rotary positions by Slice, Neg and Concat with constant
 * cosines and sines, key and value heads repeated by Expand, an additive causal mask, a SiLU gate, a tied LM head.
 */

import { causal, GraphBuilder, LOWEST, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-5;
const ROTARY_BASE = 10000;
/** "To the end" of a Slice. */
const MAX_INT64 = 2n ** 63n - 1n;

export function llama(sizes: Sizes, opset: number, seed: number): OnnxModel {
  const { layers, hidden, vocab, batch, seq } = sizes;
  const b = new GraphBuilder(opset, seed);
  const ids = b.input("input_ids", "int64", [batch, seq]);

  const table = b.within("model", () => b.weight("embed_tokens.weight", [vocab, hidden], 2 / Math.sqrt(hidden)));
  let x = b.within("model", () => b.within("embed_tokens", () => b.node("Gather", [table, ids], { axis: 0 })));
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    x = b.within("model", () => b.within(`layers.${layer}`, () => decoderLayer(b, input, sizes)));
  }
  const last = b.within("model", () => b.rmsNorm("norm", x, hidden, EPSILON));
  const logits = b.within("lm_head", () => b.node("MatMul", [last, b.transpose(table, [1, 0])]));
  b.output("logits", logits, [batch, seq, vocab]);
  return b.finish("llama");
}

function decoderLayer(b: GraphBuilder, x: Value, sizes: Sizes): Value {
  const { layers, hidden, intermediate } = sizes;
  const shrink = 1 / Math.sqrt(2 * layers);
  const normal = b.rmsNorm("input_layernorm", x, hidden, EPSILON);
  const middle = b.node("Add", [x, b.within("self_attn", () => attention(b, normal, sizes, shrink))]);
  const inner = b.within("mlp", () => {
    const input = b.rmsNorm("post_attention_layernorm", middle, hidden, EPSILON);
    const gate = b.linear("gate_proj", input, hidden, intermediate, false);
    const silu = b.within("act_fn", () => b.node("Mul", [gate, b.node("Sigmoid", [gate])]));
    const up = b.linear("up_proj", input, hidden, intermediate, false);
    // silu(gate) * up has a spread of about 0.6: the factor makes the branch as strong as the attention's.
    return b.linear(
      "down_proj",
      b.node("Mul", [silu, up]),
      intermediate,
      hidden,
      false,
      (1.6 * shrink) / Math.sqrt(intermediate),
    );
  });
  return b.node("Add", [middle, inner]);
}

function attention(b: GraphBuilder, x: Value, sizes: Sizes, shrink: number): Value {
  const { hidden, heads, batch, seq } = sizes;
  const size = sizes["head-size"];
  const kvHeads = sizes["kv-heads"];
  const query = b.splitHeads(b.linear("q_proj", x, hidden, heads * size, false), batch, seq, heads, size);
  const key = b.splitHeads(b.linear("k_proj", x, hidden, kvHeads * size, false), batch, seq, kvHeads, size);
  const value = b.splitHeads(b.linear("v_proj", x, hidden, kvHeads * size, false), batch, seq, kvHeads, size);
  const keys = repeatHeads(b, rotate(b, key, seq, size), sizes);
  const product = b.node("MatMul", [rotate(b, query, seq, size), b.transpose(keys, [0, 1, 3, 2])]);
  const scores = b.node("Mul", [product, b.scalar(1 / Math.sqrt(size))]);
  const mask = b.constant("causal_mask", [1, 1, seq, seq], causal(seq, 0, LOWEST));
  const probabilities = b.node("Softmax", [b.node("Add", [scores, mask])], { axis: -1 });
  const context = b.joinHeads(
    b.node("MatMul", [probabilities, repeatHeads(b, value, sizes)]),
    batch,
    seq,
    heads * size,
  );
  return b.linear("o_proj", context, heads * size, hidden, false, shrink / Math.sqrt(heads * size));
}

/** x cos + (-x2, x1) sin, with x1 and x2 the halves of the head. */
function rotate(b: GraphBuilder, x: Value, seq: number, size: number): Value {
  const angle = (index: number): number =>
    Math.floor(index / size) * ROTARY_BASE ** (-(2 * (index % (size / 2))) / size);
  const angles = Array.from({ length: seq * size }, (_, index) => angle(index));
  const cos = b.constant("rotary_cos", [1, 1, seq, size], angles.map(Math.cos));
  const sin = b.constant("rotary_sin", [1, 1, seq, size], angles.map(Math.sin));
  const low = b.slice(x, 3, 0, size / 2);
  const high = b.slice(x, 3, size / 2, MAX_INT64);
  const turned = b.node("Concat", [b.node("Neg", [high]), low], { axis: -1 });
  return b.node("Add", [b.node("Mul", [x, cos]), b.node("Mul", [turned, sin])]);
}

/** [batch, kv, seq, size] -> [batch, heads, seq, size], each head repeated for its group of queries. */
function repeatHeads(b: GraphBuilder, x: Value, sizes: Sizes): Value {
  const { heads, batch, seq } = sizes;
  const kvHeads = sizes["kv-heads"];
  const size = sizes["head-size"];
  if (kvHeads === heads) return x;
  const wide = b.node("Expand", [b.unsqueeze(x, 2), b.integers([batch, kvHeads, heads / kvHeads, seq, size])]);
  return b.reshape(wide, [batch, heads, seq, size]);
}
