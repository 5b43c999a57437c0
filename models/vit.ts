/**
 * A vision transformer as PyTorch's exporter writes it: patches by a strided Conv, a class token put in front, position
 * embeddings added, pre-normalization layers with GELU by Erf, and a classifier on the class token.
 */

import { GraphBuilder, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-12;

export function vit(sizes: Sizes, opset: number, seed: number): OnnxModel {
  const { layers, hidden, image, patch, channels, batch, classes } = sizes;
  const seq = (image / patch) ** 2 + 1;
  const b = new GraphBuilder(opset, seed);
  const pixels = b.input("pixel_values", "float32", [batch, channels, image, image]);
  let x = b.within("vit", () => b.within("embeddings", () => embeddings(b, pixels, sizes, seq)));
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    x = b.within("vit", () =>
      b.within("encoder", () => b.within(`layer.${layer}`, () => encoderLayer(b, input, sizes, seq))),
    );
  }
  const last = b.within("vit", () => b.layerNorm("layernorm", x, hidden, EPSILON));
  if (classes === 0) b.output("last_hidden_state", last, [batch, seq, hidden]);
  else {
    const first = b.node("Gather", [last, b.integers([0], [])], { axis: 1 });
    b.output("logits", b.linear("classifier", first, hidden, classes), [batch, classes]);
  }
  return b.finish("vit");
}

function embeddings(
  b: GraphBuilder,
  pixels: Value,
  { hidden, image, patch, channels, batch }: Sizes,
  seq: number,
): Value {
  const side = image / patch;
  const weight = b.weight(
    "patch_embeddings.weight",
    [hidden, channels, patch, patch],
    1 / Math.sqrt(channels * patch * patch),
  );
  const patches = b.node("Conv", [pixels, weight, b.weight("patch_embeddings.bias", [hidden], 0.02)], {
    kernel_shape: [patch, patch],
    strides: [patch, patch],
    pads: [0, 0, 0, 0],
    dilations: [1, 1],
    group: 1,
  });
  const rows = b.transpose(b.reshape(patches, [batch, hidden, side * side]), [0, 2, 1]);
  const token = b.node("Expand", [b.weight("cls_token", [1, 1, hidden], 0.5), b.integers([batch, 1, hidden])]);
  const joined = b.node("Concat", [token, rows], { axis: 1 });
  return b.node("Add", [joined, b.weight("position_embeddings", [1, seq, hidden], 0.3)]);
}

function encoderLayer(b: GraphBuilder, x: Value, sizes: Sizes, seq: number): Value {
  const { layers, hidden, intermediate } = sizes;
  const shrink = 1 / Math.sqrt(2 * layers);
  const normal = b.layerNorm("layernorm_before", x, hidden, EPSILON);
  const context = b.within("attention", () => selfAttention(b, normal, sizes, seq));
  const projected = b.within("attention", () =>
    b.linear("output.dense", context, hidden, hidden, true, shrink / Math.sqrt(hidden)),
  );
  const middle = b.node("Add", [projected, x]);
  const wide = b.linear(
    "intermediate.dense",
    b.layerNorm("layernorm_after", middle, hidden, EPSILON),
    hidden,
    intermediate,
  );
  const inner = b.within("intermediate", () => b.geluErf(wide));
  return b.node("Add", [
    b.linear("output.dense", inner, intermediate, hidden, true, shrink / Math.sqrt(intermediate)),
    middle,
  ]);
}

/** The scale is split over query and key, as scaled_dot_product_attention is exported. */
function selfAttention(b: GraphBuilder, x: Value, { hidden, heads, batch }: Sizes, seq: number): Value {
  const size = hidden / heads;
  const half = b.scalar(size ** -0.25);
  const query = b.splitHeads(b.linear("query", x, hidden, hidden), batch, seq, heads, size);
  const key = b.transpose(b.splitHeads(b.linear("key", x, hidden, hidden), batch, seq, heads, size), [0, 1, 3, 2]);
  const value = b.splitHeads(b.linear("value", x, hidden, hidden), batch, seq, heads, size);
  const scores = b.node("MatMul", [b.node("Mul", [query, half]), b.node("Mul", [key, half])]);
  const probabilities = b.node("Softmax", [scores], { axis: -1 });
  return b.joinHeads(b.node("MatMul", [probabilities, value]), batch, seq, hidden);
}
