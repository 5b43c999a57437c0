/**
 * What is kept in fp32 since fp16 would lose it, on the machine. Angles: rotary positions far beyond what fp16 counts, as exporters
 * write them, computed on the chip from positions that are data. Long sums: what many layers add to, and what they add.
 */

import { expect, test } from "@jest/globals";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph } from "../src/ir/graph.js";
import { roundToF16 } from "../src/ir/numerics.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { literalOf, makeTensor, tensorOf, toFloats } from "../src/ir/tensor.js";
import { expectAgreement, float, node } from "./agreement.js";
import { expectAsEvaluated } from "./as-evaluated.js";
import { distance, programOf, runOnLiteral } from "./compiled.js";
import { seeded } from "./random-program.js";

const BASE = 10000;
/** fp16 has no 2049, 4099 or 131071. */
const POSITIONS = [0, 1, 127, 2049, 4099, 131071];

const frequencies = (size: number): Float32Array => Float32Array.from({ length: size }, (_, i) => BASE ** (-i / size));

/** Cosines and sines [count, 2 size] of positions [count]: by a product with K = 1, or elementwise. */
const rotary = (count: number, size: number, by: "matmul" | "mul"): Graph => {
  const builder = new GraphBuilder("rotary");
  const add = (op: string, inputs: readonly number[], attrs = {}): number => builder.add(op, inputs, attrs, [op]);
  const positions = add("cast", [builder.input("positions", { dtype: "i32", shape: [count] })], { to: "f32" });
  const values = [...frequencies(size)];
  const constant = (shape: readonly number[]): number =>
    builder.constant(literalOf(tensorOf("f32", shape, values)), ["inv_freq"]);
  const product = (): number => {
    if (by === "mul") return add("mul", [add("reshape", [positions], { shape: [count, 1] }), constant([1, size])]);
    const column = add("matmul", [constant([1, size, 1]), add("reshape", [positions], { shape: [1, 1, count] })]);
    return add("reshape", [add("transpose", [column], { perm: [0, 2, 1] })], { shape: [count, size] });
  };
  const half = product();
  const angles = add("concat", [half, half], { axis: 1 });
  for (const op of ["cos", "sin"]) builder.output(op, add(op, [angles]));
  return builder.finish();
};

test.each<[TargetName, number, number, "matmul" | "mul"]>([
  ["tiny", 6, 4, "matmul"],
  ["tiny", 6, 4, "mul"],
  ["tiny", 1, 8, "matmul"],
  ["tiny", 20, 12, "mul"],
  ["lpu-v1", 1, 32, "matmul"],
  ["lpu-v1", 6, 32, "mul"],
])("on %s %i positions turn %i pairs by %s", (name, count, size, by) => {
  const positions = Array.from({ length: count }, (_, i) => POSITIONS[(i + 3) % POSITIONS.length] ?? 0);
  const inputs = { positions: makeTensor("i32", [count], Int32Array.from(positions)) };
  const { outputs } = runOnLiteral(programOf(rotary(count, size, by), TARGETS[name]), inputs);
  for (const [index, turn] of [Math.cos, Math.sin].entries()) {
    const found = toFloats(outputs[index] ?? tensorOf("f32", [0], []));
    const want = positions.flatMap((position) =>
      Array.from({ length: 2 * size }, (_, i) => turn(Math.fround(position * (frequencies(size)[i % size] ?? 0)))),
    );
    expect(found.length).toBe(want.length);
    expect(Math.max(...want.map((value, i) => Math.abs(value - (found[i] ?? Number.NaN))))).toBeLessThan(2 ** -11);
  }
});

/** Each layer adds a hundredth of what it is given, by a product and a bias. */
const layers = (count: number): Graph => {
  const pick = seeded(5);
  const builder = new GraphBuilder("layers");
  const shape = [6, 24];
  const numbers = (dims: readonly number[], scale: number): number => {
    const values = Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (scale * (pick(2001) - 1000)) / 1000);
    return builder.constant(literalOf(tensorOf("f32", dims, values)), ["weights"]);
  };
  let x = builder.input("x", { dtype: "f32", shape });
  for (let layer = 0; layer < count; layer++) {
    const product = builder.add("matmul", [x, numbers([24, 24], 0.003)], {}, ["product"]);
    const branch = builder.add("tanh", [builder.add("add", [product, numbers([24], 0.01)], {}, ["bias"])], {}, [
      "tanh",
    ]);
    x = builder.add("add", [x, branch], {}, ["sum"]);
  }
  builder.output("y", x);
  return builder.finish();
};

/** Half of the last place of fp16, as relative L2 error of rounded numbers: what one rounding makes. */
const ONE_ROUNDING = 3e-4;

test.each<[TargetName, number]>([
  ["tiny", 40],
  ["lpu-v1", 32],
])("on %s a sum over %i layers is as exact as one rounding", (name, count) => {
  const pick = seeded(3);
  const x = tensorOf(
    "f32",
    [6, 24],
    Array.from({ length: 144 }, () => (pick(20001) - 10000) / 1000),
  );
  expectAsEvaluated(layers(count), x, name, ONE_ROUNDING);
});

/**
 * A token goes through layers as language models have them: what each adds is a product of a gate and another product, of rows that
 * were normed. What the sum begins with is small beside what layers add to it. Weights of products may be given rounded.
 */
const gatedLayers = (count: number, rows: number, width: number, rounded = (weight: number) => weight): Graph => {
  const pick = seeded(11);
  const builder = new GraphBuilder("gated");
  const add = (op: string, inputs: readonly number[], attrs = {}): number => builder.add(op, inputs, attrs, [op]);
  const numbers = (dims: readonly number[], scale: number, offset = 0): number => {
    const values = Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => {
      const value = Math.fround(offset + (scale * (pick(20001) - 10000)) / 10000);
      return dims[0] === width && dims.length === 2 ? rounded(value) : value;
    });
    return builder.constant(literalOf(tensorOf("f32", dims, values)), ["weights"]);
  };
  const number = (value: number): number => builder.constant(literalOf(tensorOf("f32", [], [value])), ["number"]);
  let x = add("gather", [numbers([50, width], 0.1), builder.input("x", { dtype: "i32", shape: [rows] })], { axis: 0 });
  for (let layer = 0; layer < 2 * count; layer++) {
    const squares = add("reduce_sum", [add("mul", [x, x])], { axes: [1], keepdims: true });
    const figure = add("rsqrt", [add("add", [add("mul", [squares, number(1 / width)]), number(1e-6)])]);
    const normed = add("mul", [add("mul", [x, figure]), numbers([width], 0.4, 1)]);
    const [gate, up] = [0, 1].map(() => add("matmul", [normed, numbers([width, width], 2.5 / Math.sqrt(width))]));
    const met = add("mul", [add("mul", [gate ?? 0, add("sigmoid", [gate ?? 0])]), up ?? 0]);
    x = add("add", [x, add("matmul", [met, numbers([width, width], 1.2 / Math.sqrt(width))])]);
  }
  builder.output("y", x);
  return builder.finish();
};

test.each<[TargetName, number, number, number]>([
  ["lpu-v1", 1, 96, 1.25],
  ["lpu-v1", 4, 96, 1.25],
  ["lpu-v1", 1, 168, 1.25],
  ["tiny", 2, 20, 1.25],
  // Rows of more than a few are rounded to fp16 before each product, once.
  ["lpu-v1", 5, 96, 1.9],
])("on %s %i rows of %i leave gated layers about as exact as fp16 leaves weights", (name, rows, width, most) => {
  const x = makeTensor(
    "i32",
    [rows],
    Int32Array.from({ length: rows }, (_, i) => i * 7 + 3),
  );
  const { outputs } = runOnLiteral(programOf(gatedLayers(16, rows, width), TARGETS[name]), { x });
  const [exact = x] = evaluate(gatedLayers(16, rows, width), { x });
  const [byWeights = x] = evaluate(gatedLayers(16, rows, width, roundToF16), { x });
  const least = distance(byWeights, exact);
  expect(least).toBeGreaterThan(1e-3);
  expect(distance(outputs[0], exact)).toBeLessThan(most * least);
});

test("the place of the greatest of numbers that fp16 does not tell apart", async () => {
  for (const extent of [5, 12, 16]) {
    const values = Array.from({ length: 3 * extent }, (_, i) => 1 + ((i * 7) % (3 * extent)) / 2 ** 20);
    const x = float([extent, 3], values);
    for (const op of ["ArgMax", "ArgMin"])
      await expectAgreement({ op, attributes: { axis: 0 }, operands: [x], results: ["int64"] });
    const nodes = [node("ReduceMax", ["x0"], ["most"], { axes: [1, 2] }), node("Equal", ["x0", "most"], ["y0"])];
    const parts = float([1, extent, 3], values);
    await expectAgreement({ op: "Equal", opset: 13, nodes, operands: [parts], results: ["bool"] });
  }
});

test.each<TargetName>(["tiny", "lpu-v1"])(
  "on %s the inverse deviation of one element is what epsilon leaves",
  (name) => {
    const builder = new GraphBuilder("deviation");
    const add = (op: string, inputs: readonly number[]): number => builder.add(op, inputs, {}, [op]);
    const x = builder.input("x", { dtype: "f32", shape: [4, 1] });
    const epsilon = builder.constant(literalOf(tensorOf("f32", [], [1e-12])), ["epsilon"]);
    builder.output("y", add("rsqrt", [add("add", [add("mul", [x, x]), epsilon])]));
    expectAsEvaluated(builder.finish(), tensorOf("f32", [4, 1], [0, 0, 0, 0]), name, 1e-5);
  },
);
