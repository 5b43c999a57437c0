/**
 * Constants below the normal numbers of fp16, which would keep little or nothing of them: results are what ONNX Runtime makes, at sizes
 * of models; and constants that are not small lie as they did.
 */

import { expect, test } from "@jest/globals";
import type { OnnxNode } from "../models/onnx-writer.js";
import { seededNormals } from "../models/weights.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { smallConstants } from "../src/passes/graph/small.js";
import { constant, expectAgreement, float, node, type Operand, varied, whole } from "./agreement.js";

/** Numbers like normals of this deviation; `some` of them, in the beginning, are zero. */
const normals = (deviation: number, dims: readonly number[], zeros = 0): Operand => {
  const count = dims.reduce((product, extent) => product * extent, 1);
  const values = seededNormals("small", count, count);
  return float(
    dims,
    Array.from(values, (value, index) => (index < zeros ? 0 : value * deviation)),
  );
};

type Case = readonly [what: string, nodes: readonly OnnxNode[], operands: readonly Operand[]];

const layer = [
  node("MatMul", ["x0", "x1"], ["a"]),
  node("Add", ["a", "x2"], ["b"]),
  node("Relu", ["b"], ["c"]),
  node("Mul", ["c", "x3"], ["y0"]),
];

test.each<Case>([
  [
    "a layer of 1e-7",
    layer,
    [varied(7, 768), ...[[768, 330], [330], [330]].map((dims) => constant(normals(1e-7, dims)))],
  ],
  [
    "a layer of 1e-12, with a scale of ordinary size",
    layer,
    [varied(7, 96), constant(normals(1e-12, [96, 40])), constant(normals(1e-12, [40])), constant(varied(40))],
  ],
  [
    "weights that begin with zeros",
    layer.slice(0, 1).map((one) => ({ ...one, outputs: ["y0"] })),
    [varied(5, 400), constant(normals(3e-8, [400, 64], 9000))],
  ],
  [
    "transposed weights",
    [node("Gemm", ["x0", "x1", "x2"], ["y0"], { transB: 1 })],
    [varied(5, 320), constant(normals(2e-7, [128, 320])), constant(normals(1e-8, [128]))],
  ],
  [
    "activations that are constant",
    [node("MatMul", ["x1", "x0"], ["y0"])],
    [varied(320, 5), constant(normals(2e-7, [64, 320]))],
  ],
  [
    "a table that is looked up",
    [node("Gather", ["x1", "x0"], ["y0"])],
    [whole([6], [1, 5, 3, 0, 2, 2]), constant(normals(1e-7, [6, 700]))],
  ],
  ["one small number", [node("Mul", ["x0", "x1"], ["y0"])], [varied(4, 64), constant(float([], [1e-7]))]],
  [
    "a divisor beyond all fp16",
    [node("Div", ["x0", "x1"], ["y0"])],
    [
      varied(4, 64),
      constant(
        float(
          [64],
          Array.from({ length: 64 }, (_, i) => 1e6 + i),
        ),
      ),
    ],
  ],
])("%s", async (_, nodes, operands) => {
  await expectAgreement({ op: "small", nodes, operands });
});

test("what is not small: some numbers below, zeros, infinities, fp16 itself", () => {
  const powerOf = (values: readonly number[], dtype: "f32" | "f16" = "f32"): number | undefined => {
    const g = new GraphBuilder("constant");
    const id = g.constant(literalOf(tensorOf(dtype, [values.length], values)), ["c"]);
    g.output("y", id);
    return smallConstants(g.finish()).get(id);
  };
  const many = (value: number): number[] => new Array<number>(64).fill(value);
  expect(powerOf(many(3e-8))).toBe(2 ** 25);
  expect(powerOf([...many(3e-8).slice(1), Number.NEGATIVE_INFINITY])).toBe(2 ** 25);
  expect(powerOf([...many(3e-8).slice(1), 1])).toBe(undefined);
  expect(powerOf(many(0))).toBe(undefined);
  expect(powerOf(many(2 ** -24))).toBe(undefined);
  expect(powerOf(many(2 ** -14 + 2 ** -26))).toBe(undefined);
  expect(powerOf(many(1e-7), "f16")).toBe(undefined);
});

/** The mean of the rows that a mask keeps, of length 1, as sentence encoders make it: `least` keeps both divisors from zero. */
const pooled = (least: number): readonly OnnxNode[] => [
  node("Unsqueeze", ["x1", "x2"], ["places"]),
  node("Expand", ["places", "x3"], ["kept"]),
  node("Cast", ["kept"], ["weights"], { to: 1 }),
  node("Mul", ["x0", "weights"], ["rows"]),
  node("ReduceSum", ["rows", "x4"], ["sum"], { keepdims: 0 }),
  node("ReduceSum", ["weights", "x4"], ["count"], { keepdims: 0 }),
  node("Constant", [], ["least"], { value_float: { float: least } }),
  node("Max", ["count", "least"], ["some"]),
  node("Div", ["sum", "some"], ["mean"]),
  node("ReduceL2", ["mean"], ["length"], { axes: [1] }),
  node("Max", ["length", "least"], ["positive"]),
  node("Div", ["mean", "positive"], ["y0"]),
];

test.each([1e-12, 1e-9, 1e-6])("divisors that are at least %s, where nothing is left", async (least) => {
  await expectAgreement({
    op: "x",
    opset: 17,
    nodes: pooled(least),
    operands: [
      varied(2, 9, 64),
      whole(
        [2, 9],
        Array.from({ length: 18 }, (_, i) => Number(i < 7)),
      ),
      constant(whole([1], [-1])),
      constant(whole([3], [2, 9, 64])),
      constant(whole([1], [1])),
    ],
  });
});
