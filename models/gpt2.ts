/**
 * GPT-2 as PyTorch's exporter writes it: pre-normalization layers, one Gemm for query, key and value, the causal mask a
 * constant that Where selects by, GELU by Tanh written out. The LM head is the token embedding transposed: one weight.
 * With a past the mask and the positions are inputs.
 */

import { causal, GraphBuilder, LOWEST, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import { type JoinPast, joinPast, logitsOutput, OPEN_LENGTH, type Places, placesOf, tokenInput } from "./past.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-5;

export function gpt2(sizes: Sizes, opset: number, seed: number, past: boolean): OnnxModel {
  const { layers, hidden, heads, vocab, positions, seq } = sizes;
  const b = new GraphBuilder(opset, seed);
  const ids = tokenInput(b, sizes, past);
  const given = past ? placesOf(b, sizes) : undefined;

  // With a spread of 2 / sqrt(hidden) the tied head gives logits with a spread of about 2.
  const table = b.within("transformer", () => b.weight("wte.weight", [vocab, hidden], 2 / Math.sqrt(hidden)));
  let x = b.within("transformer", () => {
    const words = b.within("wte", () => b.node("Gather", [table, ids], { axis: 0 }));
    const counted = (): Value =>
      b.indexTable(
        "position_ids",
        [1, seq],
        Array.from({ length: seq }, (_, index) => index),
      );
    const order = given?.positions ?? counted();
    const places = b.within("wpe", () =>
      b.node("Gather", [b.weight("weight", [positions, hidden], 1 / Math.sqrt(hidden)), order], { axis: 0 }),
    );
    return b.node("Add", [words, places]);
  });
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    const behind = given && { ...given, join: joinPast(b, layer, heads, hidden / heads, sizes) };
    x = b.within("transformer", () => b.within(`h.${layer}`, () => block(b, input, sizes, behind)));
  }
  const last = b.within("transformer", () => b.layerNorm("ln_f", x, hidden, EPSILON));
  const logits = b.within("lm_head", () => b.node("MatMul", [last, b.transpose(table, [1, 0])]));
  logitsOutput(b, logits, sizes, past);
  return b.finish("gpt2");
}

/** The places of a decoder with a past, and its keys and values behind it. */
type Behind = Places & { readonly join: JoinPast };

function block(b: GraphBuilder, x: Value, sizes: Sizes, behind: Behind | undefined): Value {
  const { layers, hidden, intermediate, batch } = sizes;
  const rows = [batch, behind ? OPEN_LENGTH : sizes.seq];
  // Residual branches shrink with depth, as GPT-2 initializes them, so that the sum stays about one.
  const shrink = 1 / Math.sqrt(2 * layers);
  const attended = b.within("attn", () => attention(b, b.layerNorm("ln_1", x, hidden, EPSILON), sizes, shrink, behind));
  const middle = b.node("Add", [attended, x]);
  const inner = b.within("mlp", () => {
    const wide = b.gemm("c_fc", b.layerNorm("ln_2", middle, hidden, EPSILON), rows, hidden, intermediate);
    return b.gemm("c_proj", b.geluTanh(wide), rows, intermediate, hidden, shrink / Math.sqrt(intermediate));
  });
  return b.node("Add", [middle, inner]);
}

function attention(b: GraphBuilder, x: Value, sizes: Sizes, shrink: number, behind: Behind | undefined): Value {
  const { hidden, heads, batch } = sizes;
  const size = hidden / heads;
  const seq = behind ? OPEN_LENGTH : sizes.seq;
  const joint = b.gemm("c_attn", x, [batch, seq], hidden, 3 * hidden);
  const [q = "", k = "", v = ""] = b.nodeWithOutputs(
    "Split",
    [joint, b.integers([hidden, hidden, hidden])],
    { axis: 2 },
    3,
  );
  const query = b.splitHeads(q, batch, seq, heads, size);
  const key = behind
    ? b.transpose(behind.join("key", b.splitHeads(k, batch, seq, heads, size)), [0, 1, 3, 2])
    : b.transpose(b.reshape(k, [batch, seq, heads, size]), [0, 2, 3, 1]);
  const own = b.splitHeads(v, batch, seq, heads, size);
  const value = behind?.join("value", own) ?? own;
  const scores = b.node("Div", [b.node("MatMul", [query, key]), b.scalar(Math.sqrt(size))]);
  const visible = behind?.visible ?? b.truths("causal_mask", [1, 1, seq, seq], causal(seq, true, false));
  const probabilities = b.node("Softmax", [b.node("Where", [visible, scores, b.scalar(LOWEST)])], { axis: -1 });
  const context = b.joinHeads(b.node("MatMul", [probabilities, value]), batch, seq, hidden);
  return b.gemm("c_proj", context, [batch, seq], hidden, hidden, shrink / Math.sqrt(hidden));
}
