/** Attention of every number of heads that models use, at lengths around the borders of panels and of blocks of heads. */

import { test } from "@jest/globals";
import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph, NodeId, Tensor } from "../src/ir/graph.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { expectAsEvaluated } from "./as-evaluated.js";
import { seeded } from "./random-program.js";

const numbers = (shape: readonly number[], magnitude: number, seed: number): Tensor => {
  const pick = seeded(seed);
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tensorOf(
    "f32",
    shape,
    Array.from({ length: count }, () => ((pick(4001) - 2000) / 2000) * magnitude),
  );
};

/** x [tokens, heads * size], projected to queries, keys and values, each head by itself, and joined. */
function attention(heads: number, size: number, tokens: number): Graph {
  const g = new GraphBuilder("attention");
  const width = heads * size;
  const x = g.input("x", { dtype: "f32", shape: [tokens, width] });
  const add = (op: string, inputs: readonly NodeId[], attrs = {}): NodeId => g.add(op, inputs, attrs, [op]);
  const projected = (seed: number, perm: readonly number[]): NodeId => {
    const weights = g.constant(literalOf(numbers([width, width], 2 / Math.sqrt(width), seed)), ["w"]);
    const split = add("reshape", [add("matmul", [x, weights])], { shape: [1, tokens, heads, size] });
    return add("transpose", [split], { perm });
  };
  const scores = add("matmul", [projected(1, [0, 2, 1, 3]), projected(2, [0, 2, 3, 1])]);
  const sum = add("matmul", [add("softmax", [scores], { axis: 3 }), projected(3, [0, 2, 1, 3])]);
  const joined = add("transpose", [sum], { perm: [0, 2, 1, 3] });
  g.output("y", add("reshape", [joined], { shape: [tokens, width] }));
  return g.finish();
}

test.each([
  [6, 64, 53],
  [9, 64, 35],
  [12, 64, 16],
  [12, 64, 50],
  [12, 32, 27],
  [14, 64, 23],
  [16, 64, 31],
  [25, 64, 13],
  [12, 80, 21],
  [8, 96, 40],
  [12, 64, 321],
  [6, 64, 330],
  [3, 96, 641],
])("%d heads of %d over %d tokens", (heads, size, tokens) => {
  const graph = attention(heads, size, tokens);
  const x = numbers([tokens, heads * size], 2, 4);
  expectAsEvaluated(graph, x, "lpu-v1");
});
