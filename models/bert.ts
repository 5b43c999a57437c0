/**
 * BERT as PyTorch's exporter writes it: post-normalization encoder layers, additive attention mask made from the 0/1
 * input, GELU by Erf. The type embedding is looked up with constant zeros, as in exports without token_type_ids.
 * Weights are scaled so that attention scores have a spread of about one: attention looks at something.
 */

import { GraphBuilder, LOWEST, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-12;

export function bert(sizes: Sizes, opset: number, seed: number): OnnxModel {
  const { layers, hidden, batch, seq, classes } = sizes;
  const b = new GraphBuilder(opset, seed);
  const ids = b.input("input_ids", "int64", [batch, seq]);
  const mask = b.input("attention_mask", "int64", [batch, seq]);

  const bias = b.within("bert", () => {
    const wide = b.node("Cast", [b.unsqueeze(b.unsqueeze(mask, 1), 2)], { to: 1 });
    return b.node("Mul", [b.node("Sub", [b.scalar(1), wide]), b.scalar(LOWEST)]);
  });
  let x = b.within("bert", () => b.within("embeddings", () => embeddings(b, ids, sizes)));
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    x = b.within("bert", () =>
      b.within("encoder", () => b.within(`layer.${layer}`, () => encoderLayer(b, input, bias, sizes))),
    );
  }
  if (classes === 0) b.output("last_hidden_state", x, [batch, seq, hidden]);
  else b.output("logits", classifier(b, x, sizes), [batch, classes]);
  return b.finish("bert");
}

function embeddings(b: GraphBuilder, ids: Value, { hidden, vocab, positions, batch, seq }: Sizes): Value {
  const words = b.node("Gather", [b.weight("word_embeddings.weight", [vocab, hidden], 0.05), ids], { axis: 0 });
  const zeros = b.indexTable("token_type_ids", [batch, seq], new Array<number>(batch * seq).fill(0));
  const types = b.node("Gather", [b.weight("token_type_embeddings.weight", [2, hidden], 0.02), zeros], { axis: 0 });
  const order = b.indexTable(
    "position_ids",
    [1, seq],
    Array.from({ length: seq }, (_, index) => index),
  );
  const places = b.node("Gather", [b.weight("position_embeddings.weight", [positions, hidden], 0.03), order], {
    axis: 0,
  });
  return b.layerNorm("LayerNorm", b.node("Add", [b.node("Add", [words, types]), places]), hidden, EPSILON);
}

function encoderLayer(b: GraphBuilder, x: Value, bias: Value, sizes: Sizes): Value {
  const { hidden, intermediate } = sizes;
  const attended = b.within("attention", () => {
    const context = b.within("self", () => selfAttention(b, x, bias, sizes));
    return b.within("output", () => {
      const projected = b.linear("dense", context, hidden, hidden);
      return b.layerNorm("LayerNorm", b.node("Add", [projected, x]), hidden, EPSILON);
    });
  });
  const inner = b.within("intermediate", () => b.geluErf(b.linear("dense", attended, hidden, intermediate)));
  return b.within("output", () => {
    const projected = b.linear("dense", inner, intermediate, hidden);
    return b.layerNorm("LayerNorm", b.node("Add", [projected, attended]), hidden, EPSILON);
  });
}

function selfAttention(b: GraphBuilder, x: Value, bias: Value, { hidden, heads, batch, seq }: Sizes): Value {
  const size = hidden / heads;
  const query = b.splitHeads(b.linear("query", x, hidden, hidden), batch, seq, heads, size);
  const key = b.transpose(b.reshape(b.linear("key", x, hidden, hidden), [batch, seq, heads, size]), [0, 2, 3, 1]);
  const value = b.splitHeads(b.linear("value", x, hidden, hidden), batch, seq, heads, size);
  const scores = b.node("Div", [b.node("MatMul", [query, key]), b.scalar(Math.sqrt(size))]);
  const probabilities = b.node("Softmax", [b.node("Add", [scores, bias])], { axis: -1 });
  return b.joinHeads(b.node("MatMul", [probabilities, value]), batch, seq, hidden);
}

function classifier(b: GraphBuilder, x: Value, { hidden, classes }: Sizes): Value {
  const pooled = b.within("bert", () =>
    b.within("pooler", () => {
      const first = b.node("Gather", [x, b.integers([0], [])], { axis: 1 });
      return b.node("Tanh", [b.linear("dense", first, hidden, hidden)]);
    }),
  );
  return b.linear("classifier", pooled, hidden, classes);
}
