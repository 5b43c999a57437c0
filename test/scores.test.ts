/** Scores of attention that are made of inputs alone, against ONNX Runtime: nothing bounds them, and they are exponents. */

import { describe, expect, test } from "@jest/globals";
import { expectAgreement, float, importNode, node, type NodeCase, type Operand } from "./agreement.js";
import { seeded } from "./random-program.js";
import { OPTIMIZE } from "../src/passes/graph/pipeline.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { tensorOf, toNumbers } from "../src/ir/tensor.js";
import { keptOf, programOf, runOnLiteral } from "./compiled.js";
import { TARGETS } from "../src/ir/target.js";

/** Numbers with all bits of fp32, up to a magnitude. */
const numbers = (dims: readonly number[], magnitude: number, seed: number): Operand => {
  const pick = seeded(seed);
  const count = dims.reduce((product, size) => product * size, 1);
  return float(
    dims,
    Array.from({ length: count }, () => Math.fround(((pick(2 ** 24) - 2 ** 23) / 2 ** 23) * magnitude)),
  );
};

const NODES = [
  node("MatMul", ["x0", "x1"], ["scores"]),
  node("Softmax", ["scores"], ["weights"], { axis: -1 }),
  node("MatMul", ["weights", "x2"], ["y0"]),
];

const attention = (keys: number, magnitude: number): NodeCase => ({
  op: "attention",
  nodes: NODES,
  operands: [numbers([2, 5, 16], magnitude, 1), numbers([2, 16, keys], magnitude, 2), numbers([2, keys, 8], 1, 3)],
});

describe.each([1, 40])("queries and keys up to %d", (magnitude) => {
  test.each([100, 321])("%d keys", async (keys) => {
    await expectAgreement(attention(keys, magnitude));
  });
});

test("projections whose weights are inputs too", async () => {
  const nodes = [
    node("MatMul", ["x0", "x1"], ["q"]),
    node("MatMul", ["x0", "x2"], ["k"]),
    node("Transpose", ["k"], ["kt"], { perm: [1, 0] }),
    node("MatMul", ["q", "kt"], ["scores"]),
    node("Add", ["scores", "x3"], ["masked"]),
    node("Softmax", ["masked"], ["weights"], { axis: -1 }),
    node("MatMul", ["weights", "x0"], ["y0"]),
  ];
  const mask = float(
    [12, 12],
    Array.from({ length: 144 }, (_, i) => (i % 12 > Math.floor(i / 12) ? -10000 : 0)),
  );
  const operands = [numbers([12, 64], 2, 4), numbers([64, 64], 1, 5), numbers([64, 64], 1, 6), mask];
  await expectAgreement({ op: "attention", nodes, operands });
});

test("an infinite key takes no part, and the rests of others stay numbers", async () => {
  const { operands, ...rest } = attention(40, 4);
  const [q, k, v] = operands;
  const positive = float(q?.dims ?? [], q?.values.map(Math.abs) ?? []);
  const keys = float(
    k?.dims ?? [],
    k?.values.map((value, i) => (i % 40 === 3 ? Number.NEGATIVE_INFINITY : value)) ?? [],
  );
  await expectAgreement({ ...rest, operands: [positive, keys, v] });
});

test("scores that are shown say minus infinity where a key is not allowed", () => {
  const graph = importNode({
    op: "Attention",
    opset: 24,
    operands: [numbers([1, 1, 3, 4], 2, 1), numbers([1, 1, 3, 4], 2, 2), numbers([1, 1, 3, 4], 1, 3)],
    nodes: [node("Attention", ["x0", "x1", "x2"], ["y0", "", "", "y1"], { is_causal: 1, qk_matmul_output_mode: 2 })],
    results: ["float32", "float32"],
  });
  const ones = tensorOf("f32", [1, 1, 3, 4], new Array<number>(12).fill(1));
  const { outputs } = runOnLiteral(programOf(graph, TARGETS["lpu-v1"]), { x0: ones, x1: ones, x2: ones });
  const never = Number.NEGATIVE_INFINITY;
  expect([...toNumbers(outputs[1] ?? ones)]).toEqual([2, never, never, 2, 2, never, 2, 2, 2]);
});

test("a product with weights is not of inputs alone", () => {
  const target = TARGETS["lpu-v1"];
  const reasons = (given: NodeCase): readonly string[] =>
    keptOf(runPasses(importNode(given), OPTIMIZE, { target })).map(({ reason }) => reason);
  const given = attention(16, 1);
  const [q, k, v] = given.operands;
  expect(reasons(given)).toContain("exponent");
  expect(reasons({ ...given, operands: [q, k && { ...k, constant: true }, v] })).not.toContain("exponent");
});
