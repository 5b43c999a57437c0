/** Attention as a graph of any number of heads, head size and length: for tests of its values, and for the bench of its cycles. */

import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph, NodeId, Tensor } from "../src/ir/graph.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { seeded } from "./random-program.js";

/** f32 numbers up to a magnitude. */
export const numbers = (shape: readonly number[], magnitude: number, seed: number): Tensor => {
  const pick = seeded(seed);
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tensorOf(
    "f32",
    shape,
    Array.from({ length: count }, () => ((pick(4001) - 2000) / 2000) * magnitude),
  );
};

/** x [tokens, heads * size], projected to queries, keys and values, each head by itself, and joined. */
export function attention(heads: number, size: number, tokens: number): Graph {
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
