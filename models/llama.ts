/**
 * Llama and Mixtral as PyTorch's exporter writes them: RMS normalization, rotary positions by Slice, Neg and Concat with
 * constant cosines and sines, key and value heads repeated by Expand, an additive causal mask, a SiLU gate.
 *
 * With a past the mask is made of an input, and cosines and sines of the positions. Where there are experts, all are
 * computed, and each is weighted by what the router gives it: zero, but for the few that it chooses.
 */

import { causal, GraphBuilder, LOWEST, type Value } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import { type JoinPast, joinPast, logitsOutput, OPEN_LENGTH, placesOf, tokenInput } from "./past.js";
import type { Sizes } from "./sizes.js";

const EPSILON = 1e-5;
/** "To the end" of a Slice. */
const MAX_INT64 = 2n ** 63n - 1n;

export function llama(sizes: Sizes, opset: number, seed: number, past: boolean): OnnxModel {
  const { layers, hidden, vocab } = sizes;
  const b = new GraphBuilder(opset, seed);
  const ids = tokenInput(b, sizes, past);
  const behind = past ? b.within("model", () => angles(b, sizes)) : undefined;

  const table = b.within("model", () => b.weight("embed_tokens.weight", [vocab, hidden], 2 / Math.sqrt(hidden)));
  let x = b.within("model", () => b.within("embed_tokens", () => b.node("Gather", [table, ids], { axis: 0 })));
  for (let layer = 0; layer < layers; layer++) {
    const input = x;
    const join = joinPast(b, layer, sizes["kv-heads"], sizes["head-size"], sizes);
    const own = behind && { ...behind, join };
    x = b.within("model", () => b.within(`layers.${layer}`, () => decoderLayer(b, input, sizes, own)));
  }
  const last = b.within("model", () => b.rmsNorm("norm", x, hidden, EPSILON));
  const logits = sizes["tied-head"]
    ? b.within("lm_head", () => b.node("MatMul", [last, b.transpose(table, [1, 0])]))
    : b.linear("lm_head", last, hidden, vocab, false, 2 / Math.sqrt(hidden));
  logitsOutput(b, logits, sizes, past);
  return b.finish("llama");
}

/** Of a decoder with a past: cosines and sines [batch, 1, seq, size], what is added to scores [batch, 1, seq, total]. */
interface Angles {
  readonly cos: Value;
  readonly sin: Value;
  readonly mask: Value;
}

type Behind = Angles & { readonly join: JoinPast };

function angles(b: GraphBuilder, sizes: Sizes): Angles {
  const { positions, visible } = placesOf(b, sizes);
  const mask = b.node("Where", [visible, b.scalar(0), b.scalar(LOWEST)]);
  return b.within("rotary_emb", () => {
    const half = sizes["head-size"] / 2;
    const waves = Array.from({ length: half }, (_, index) => wave(index, sizes));
    const places = b.node("Cast", [b.unsqueeze(positions, 1)], { to: FLOAT });
    // As a matmul, which is how exporters have it: [1, half, 1] [batch, 1, seq].
    const turned = b.node("MatMul", [b.constant("inv_freq", [1, half, 1], waves), places]);
    const halves = b.transpose(turned, [0, 2, 1]);
    const both = b.unsqueeze(b.node("Concat", [halves, halves], { axis: -1 }), 1);
    return { cos: b.node("Cos", [both]), sin: b.node("Sin", [both]), mask };
  });
}

/** Number of float32 in TensorProto. */
const FLOAT = 1;

/** How far a position turns a pair of elements of a head. */
const wave = (index: number, sizes: Sizes): number =>
  sizes["rotary-base"] ** (-(2 * (index % (sizes["head-size"] / 2))) / sizes["head-size"]);

function decoderLayer(b: GraphBuilder, x: Value, sizes: Sizes, behind: Behind | undefined): Value {
  const { layers, hidden, experts } = sizes;
  const shrink = 1 / Math.sqrt(2 * layers);
  const normal = b.rmsNorm("input_layernorm", x, hidden, EPSILON);
  const middle = b.node("Add", [x, b.within("self_attn", () => attention(b, normal, sizes, shrink, behind))]);
  const inner = b.within("mlp", () => {
    const input = b.rmsNorm("post_attention_layernorm", middle, hidden, EPSILON);
    return experts > 0 ? mixture(b, input, sizes, shrink) : feedForward(b, input, sizes, shrink);
  });
  return b.node("Add", [middle, inner]);
}

function feedForward(b: GraphBuilder, x: Value, { hidden, intermediate }: Sizes, shrink: number): Value {
  const gate = b.linear("gate_proj", x, hidden, intermediate, false);
  const silu = b.within("act_fn", () => b.node("Mul", [gate, b.node("Sigmoid", [gate])]));
  const up = b.linear("up_proj", x, hidden, intermediate, false);
  // silu(gate) * up has a spread of about 0.6: the factor makes the branch as strong as the attention's.
  return b.linear(
    "down_proj",
    b.node("Mul", [silu, up]),
    intermediate,
    hidden,
    false,
    (1.6 * shrink) / Math.sqrt(intermediate),
  );
}

/** The few experts of each token that a router likes best, weighted by its probabilities, which are made to sum to one. */
function mixture(b: GraphBuilder, x: Value, sizes: Sizes, shrink: number): Value {
  const { hidden, experts } = sizes;
  const liked = b.node("Softmax", [b.linear("gate", x, hidden, experts, false)], { axis: -1 });
  const most = b.integers([sizes["experts-used"]]);
  const [best = "", places = ""] = b.nodeWithOutputs("TopK", [liked, most], { axis: -1 }, 2);
  const weights = b.node("Div", [best, b.reduceSum(best)]);
  return Array.from({ length: experts }, (_, expert) =>
    b.within(`experts.${expert}`, () => {
      const chosen = b.node("Equal", [places, b.integers([expert], [])]);
      const weight = b.reduceSum(b.node("Where", [chosen, weights, b.scalar(0)]));
      return b.node("Mul", [feedForward(b, x, sizes, shrink), weight]);
    }),
  ).reduce((sum, part) => b.node("Add", [sum, part]));
}

function attention(b: GraphBuilder, x: Value, sizes: Sizes, shrink: number, behind: Behind | undefined): Value {
  const { hidden, heads, batch } = sizes;
  const seq = behind ? OPEN_LENGTH : sizes.seq;
  const size = sizes["head-size"];
  const kvHeads = sizes["kv-heads"];
  const query = b.splitHeads(b.linear("q_proj", x, hidden, heads * size, false), batch, seq, heads, size);
  const key = b.splitHeads(b.linear("k_proj", x, hidden, kvHeads * size, false), batch, seq, kvHeads, size);
  const value = b.splitHeads(b.linear("v_proj", x, hidden, kvHeads * size, false), batch, seq, kvHeads, size);
  const turned = rotate(b, key, sizes, behind);
  const keys = repeatHeads(b, behind?.join("key", turned) ?? turned, sizes, seq);
  const product = b.node("MatMul", [rotate(b, query, sizes, behind), b.transpose(keys, [0, 1, 3, 2])]);
  const scores = b.node("Mul", [product, b.scalar(1 / Math.sqrt(size))]);
  const mask = behind?.mask ?? b.constant("causal_mask", [1, 1, seq, seq], causal(seq, 0, LOWEST));
  const probabilities = b.node("Softmax", [b.node("Add", [scores, mask])], { axis: -1 });
  const values = repeatHeads(b, behind?.join("value", value) ?? value, sizes, seq);
  const context = b.joinHeads(b.node("MatMul", [probabilities, values]), batch, seq, heads * size);
  return b.linear("o_proj", context, heads * size, hidden, false, shrink / Math.sqrt(heads * size));
}

/** x cos + (-x2, x1) sin, with x1 and x2 the halves of the head. */
function rotate(b: GraphBuilder, x: Value, sizes: Sizes, behind: Behind | undefined): Value {
  const { seq } = sizes;
  const size = sizes["head-size"];
  const table = (name: string, of: (angle: number) => number): Value => {
    const angle = (index: number): number => Math.floor(index / size) * wave(index % size, sizes);
    return b.constant(
      name,
      [1, 1, seq, size],
      Array.from({ length: seq * size }, (_, index) => of(angle(index))),
    );
  };
  const cos = behind?.cos ?? table("rotary_cos", Math.cos);
  const sin = behind?.sin ?? table("rotary_sin", Math.sin);
  const low = b.slice(x, 3, 0, size / 2);
  const high = b.slice(x, 3, size / 2, MAX_INT64);
  const turned = b.node("Concat", [b.node("Neg", [high]), low], { axis: -1 });
  return b.node("Add", [b.node("Mul", [x, cos]), b.node("Mul", [turned, sin])]);
}

/** [batch, kv, seq, size] -> [batch, heads, seq, size], each head repeated for its group of queries. */
function repeatHeads(b: GraphBuilder, x: Value, sizes: Sizes, seq: number): Value {
  const { heads, batch } = sizes;
  const kvHeads = sizes["kv-heads"];
  const size = sizes["head-size"];
  if (kvHeads === heads) return x;
  const wide = b.node("Expand", [
    b.unsqueeze(x, 2),
    b.integers([batch, kvHeads, heads / kvHeads, Math.max(seq, 1), size]),
  ]);
  return b.reshape(wide, [batch, heads, seq, size]);
}
