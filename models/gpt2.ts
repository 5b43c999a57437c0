/**
 * GPT-2 as PyTorch's exporter writes it: pre-normalization layers, one Gemm for query, key and value, the causal mask a
 * constant that Where selects by, GELU by Tanh written out. The LM head is the token embedding transposed: one weight.
 */

import { causal, GraphBuilder, LOWEST, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-5;

export function gpt2(sizes: Sizes, opset: number, seed: number): OnnxModel {
  const { layers, hidden, vocab, positions, batch, seq } = sizes;
  const b = new GraphBuilder(opset, seed);
  const ids = b.input("input_ids", "int64", [batch, seq]);

  // With a spread of 2 / sqrt(hidden) the tied head gives logits with a spread of about 2.
  const table = b.within("transformer", () => b.weight("wte.weight", [vocab, hidden], 2 / Math.sqrt(hidden)));
  let x = b.within("transformer", () => {
    const words = b.within("wte", () => b.node("Gather", [table, ids], { axis: 0 }));
    const order = b.indexTable(
      "position_ids",
      [1, seq],
      Array.from({ length: seq }, (_, index) => index),
    );
    const places = b.within("wpe", () =>
      b.node("Gather", [b.weight("weight", [positions, hidden], 1 / Math.sqrt(hidden)), order], { axis: 0 }),
    );
    return b.node("Add", [words, places]);
  });
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    x = b.within("transformer", () => b.within(`h.${layer}`, () => block(b, input, sizes)));
  }
  const last = b.within("transformer", () => b.layerNorm("ln_f", x, hidden, EPSILON));
  const logits = b.within("lm_head", () => b.node("MatMul", [last, b.transpose(table, [1, 0])]));
  b.output("logits", logits, [batch, seq, vocab]);
  return b.finish("gpt2");
}

function block(b: GraphBuilder, x: Value, sizes: Sizes): Value {
  const { layers, hidden, intermediate, batch, seq } = sizes;
  const rows = [batch, seq];
  // Residual branches shrink with depth, as GPT-2 initializes them, so that the sum stays about one.
  const shrink = 1 / Math.sqrt(2 * layers);
  const attended = b.within("attn", () => attention(b, b.layerNorm("ln_1", x, hidden, EPSILON), sizes, shrink));
  const middle = b.node("Add", [attended, x]);
  const inner = b.within("mlp", () => {
    const wide = b.gemm("c_fc", b.layerNorm("ln_2", middle, hidden, EPSILON), rows, hidden, intermediate);
    return b.gemm("c_proj", b.geluTanh(wide), rows, intermediate, hidden, shrink / Math.sqrt(intermediate));
  });
  return b.node("Add", [middle, inner]);
}

function attention(b: GraphBuilder, x: Value, { hidden, heads, batch, seq }: Sizes, shrink: number): Value {
  const size = hidden / heads;
  const joint = b.gemm("c_attn", x, [batch, seq], hidden, 3 * hidden);
  const [q = "", k = "", v = ""] = b.nodeWithOutputs(
    "Split",
    [joint, b.integers([hidden, hidden, hidden])],
    { axis: 2 },
    3,
  );
  const query = b.splitHeads(q, batch, seq, heads, size);
  const key = b.transpose(b.reshape(k, [batch, seq, heads, size]), [0, 2, 3, 1]);
  const value = b.splitHeads(v, batch, seq, heads, size);
  const scores = b.node("Div", [b.node("MatMul", [query, key]), b.scalar(Math.sqrt(size))]);
  const visible = b.truths("causal_mask", [1, 1, seq, seq], causal(seq, true, false));
  const probabilities = b.node("Softmax", [b.node("Where", [visible, scores, b.scalar(LOWEST)])], { axis: -1 });
  const context = b.joinHeads(b.node("MatMul", [probabilities, value]), batch, seq, hidden);
  return b.gemm("c_proj", context, [batch, seq], hidden, hidden, shrink / Math.sqrt(hidden));
}
