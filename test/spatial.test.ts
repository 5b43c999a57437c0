/** Operators over images and signals against ONNX Runtime; what ONNX Runtime does not have, against its definition. */

import { describe, expect, test } from "@jest/globals";
import { evaluate } from "../src/ir/evaluate.js";
import { tensorOf, toFloats } from "../src/ir/tensor.js";
import {
  constant,
  expectAgreement,
  float,
  importNode,
  type NodeCase,
  node,
  type Operand,
  refusalOf,
  varied,
  whole,
} from "./agreement.js";

const ints = (...values: number[]): Operand => constant(whole([values.length], values));
const number = (value: number): Operand => constant(whole([], [value]));

describe("fused convolution", () => {
  const of = (attributes: NodeCase["attributes"], ...more: readonly (Operand | undefined)[]): NodeCase => ({
    op: "FusedConv",
    domain: "com.microsoft",
    attributes: { pads: [1, 0, 1, 0], strides: [2, 1], ...attributes },
    operands: [varied(1, 6, 9, 8), constant(varied(8, 3, 3, 2)), ...more],
  });
  const parameters = (...floats: number[]): NodeCase["attributes"] => ({ activation_params: { floats } });
  test.each([
    {},
    { activation: "Relu" },
    { activation: "Tanh" },
    { activation: "Sigmoid" },
    { activation: "LeakyRelu", ...parameters(0.3) },
    { activation: "Clip", ...parameters(-50, 75) },
    { activation: "HardSigmoid", ...parameters(0.01, 0.4) },
  ])("%j", async (attributes) => {
    await expectAgreement(of({ group: 2, ...attributes }, constant(varied(8)), varied(1, 8, 5, 7)));
  });
  test("activations and parameters that are none are refused", () => {
    expect(refusalOf(of({ group: 2, activation: "Mish" }))).toContain("activation 'Mish' is not supported");
    expect(refusalOf(of({ group: 2, activation: "Clip" }))).toContain("expected 2 activation_params for 'Clip', got 0");
  });
});

test("a bias and another tensor are added, which ONNX Runtime does on a GPU only", () => {
  const operands = [
    float([1, 2, 2], [1, 2, 3, 4]),
    constant(float([2], [10, 20])),
    constant(float([1, 2, 2], [100, 200, 300, 400])),
  ];
  const graph = importNode({ op: "BiasAdd", domain: "com.microsoft", operands });
  const [sum] = evaluate(graph, { x0: tensorOf("f32", [1, 2, 2], [1, 2, 3, 4]) });
  expect(Array.from(toFloats(sum ?? tensorOf("f32", [0], [])))).toEqual([111, 222, 313, 424]);
});

describe("transposed convolution", () => {
  const of = (attributes: NodeCase["attributes"], x = varied(1, 4, 3, 4), w = varied(4, 2, 3, 2)): NodeCase => ({
    op: "ConvTranspose",
    attributes: attributes ?? {},
    operands: [x, constant(w)],
  });
  test.each([
    {},
    { strides: [2, 3] },
    { strides: [2, 2], pads: [1, 0, 2, 1] },
    { strides: [3, 2], output_padding: [2, 1] },
    { dilations: [2, 3], strides: [1, 2] },
    { strides: [2, 2], auto_pad: "SAME_UPPER" },
    { strides: [2, 2], auto_pad: "SAME_LOWER" },
    { strides: [2, 2], auto_pad: "VALID" },
    { strides: [3, 2], output_shape: [9, 8] },
    { pads: [2, 1, 2, 1] },
    { pads: [3, 2, 0, 0], strides: [2, 2] },
  ])("%j", (attributes) => expectAgreement(of(attributes), { machine: false }));
  test("on the machine", () => expectAgreement(of({ strides: [2, 2], pads: [1, 0, 2, 1] })));
  test("groups, a bias, one and three spatial axes", async () => {
    await expectAgreement(of({ group: 2, strides: [2, 1] }), { machine: false });
    const biased = of({ strides: [2, 2] });
    await expectAgreement({ ...biased, operands: [...biased.operands, varied(2)] }, { machine: false });
    await expectAgreement(of({ strides: [2] }, varied(2, 4, 5), varied(4, 3, 3)));
    await expectAgreement(of({ strides: [2, 1, 2] }, varied(1, 2, 2, 3, 2), varied(2, 1, 2, 2, 3)), { machine: false });
  });
});

test("columns put back to their places", async () => {
  const of = (attributes: NodeCase["attributes"], image: Operand, block: Operand, x: Operand): NodeCase => ({
    op: "Col2Im",
    attributes: attributes ?? {},
    operands: [x, image, block],
  });
  await expectAgreement(of({}, ints(5, 5), ints(1, 5), varied(1, 5, 5)));
  await expectAgreement(of({ pads: [1, 0, 1, 2] }, ints(5, 4), ints(2, 3), varied(2, 12, 24)));
  await expectAgreement(of({ strides: [2, 2], dilations: [1, 2] }, ints(6, 7), ints(3, 2), varied(1, 12, 6)));
  expect(refusalOf(of({}, ints(5, 5), ints(1, 5), varied(1, 5, 6)))).toMatch(/^LPU1012: expected 5 x C columns of 5/);
});

test("a grid of places", async () => {
  for (const align_corners of [0, 1]) {
    const of = (theta: Operand, size: Operand): NodeCase => ({
      op: "AffineGrid",
      opset: 20,
      attributes: { align_corners },
      operands: [theta, size],
    });
    await expectAgreement(of(varied(2, 2, 3), ints(2, 1, 4, 3)));
    await expectAgreement(of(varied(1, 3, 4), ints(1, 2, 2, 3, 4)));
  }
});

test("the middle of each axis", async () => {
  for (const [shape, axes] of [
    [[2, 8], undefined],
    [[7, 3], undefined],
    [[4], [1]],
  ] as const)
    await expectAgreement({
      op: "CenterCropPad",
      attributes: axes === undefined ? {} : { axes },
      operands: [varied(5, 5), ints(...shape)],
    });
});

test("sequences in reverse order, of constant and of computed lengths", async () => {
  for (const lengths of [ints(4, 1, 2), whole([3], [2, 4, 3])]) {
    await expectAgreement({ op: "ReverseSequence", operands: [varied(4, 3, 2), lengths] });
    await expectAgreement({
      op: "ReverseSequence",
      attributes: { time_axis: 1, batch_axis: 0 },
      operands: [varied(3, 4), lengths],
    });
  }
});

test.each(["HannWindow", "HammingWindow", "BlackmanWindow"])("%s", async (op) => {
  for (const periodic of [0, 1])
    await expectAgreement({ op, attributes: { periodic }, operands: [number(9)] }, { machine: false });
});

test("weights of mel filters", async () => {
  const edges = [constant(float([], [40])), constant(float([], [3800]))];
  await expectAgreement(
    { op: "MelWeightMatrix", operands: [number(8), number(64), number(8000), ...edges] },
    { machine: false },
  );
});

test("roots of sums of powers", async () => {
  for (const p of [1, 2, 3]) {
    const attributes = { p, kernel_shape: [2, 3], strides: [1, 2], pads: [1, 0, 0, 1] };
    await expectAgreement({ op: "LpPool", attributes, operands: [varied(1, 2, 5, 6)] });
    await expectAgreement({ op: "GlobalLpPool", attributes: { p }, operands: [varied(1, 2, 5, 6)] });
  }
});

test("axes that go on from their other end", () => {
  // Not against ONNX Runtime, which reads beyond the tensor here.
  const wrapped = (...values: number[]): number[] => {
    const given: NodeCase = {
      op: "Pad",
      opset: 19,
      attributes: { mode: "wrap" },
      operands: [constant(float([2, 3], [1, 2, 3, 4, 5, 6])), ints(...values)],
    };
    return evaluate(importNode(given), {}).flatMap((tensor) => [...toFloats(tensor)]);
  };
  expect(wrapped(0, 2, 0, 1)).toEqual([2, 3, 1, 2, 3, 1, 5, 6, 4, 5, 6, 4]);
  expect(wrapped(1, 0, 2, 0)).toEqual([4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
  expect(wrapped(0, 4, 0, -1)).toEqual([1, 2, 1, 2, 1, 2, 4, 5, 4, 5, 4, 5]);
});

test("products of many numbers", async () => {
  for (const axes of [[0], [1], [0, 2], []])
    for (const keepdims of [0, 1])
      await expectAgreement({
        op: "ReduceProd",
        attributes: { keepdims },
        operands: [varied(3, 5, 2), constant(whole([axes.length], axes))],
      });
  // Beyond fp16, and of integers.
  await expectAgreement({ op: "ReduceProd", operands: [float([9], [1, 2, 3, 4, 5, 6, 7, 8, 9])] });
  await expectAgreement({
    op: "ReduceProd",
    operands: [whole([5], [3, -7, 11, 13, 1000], "int32")],
    results: ["int32"],
  });
});

test("no reduction over no axes, whatever is said of the axes", () => {
  const given: NodeCase = {
    op: "ReduceSum",
    attributes: { noop_with_empty_axes: 1, keepdims: 1 },
    operands: [constant(varied(2, 3)), constant(whole([0], []))],
  };
  expect([
    ...toFloats(evaluate(importNode(given), {})[0] ?? { dtype: "f32", shape: [], data: new Float32Array() }),
  ]).toEqual(varied(2, 3).values);
});

/** A slice of SRAM gives one row a cycle: two views of one tensor in one chain need two slices. */
describe("views of one tensor at different rows, in one chain", () => {
  const few = (nodes: NonNullable<NodeCase["nodes"]>, ...operands: Operand[]): NodeCase => ({
    op: "few",
    opset: 17,
    nodes,
    operands,
  });
  const halves = (x: string) => [
    node("Slice", [x, "x1", "x2"], ["a"]),
    node("Slice", [x, "x2", "x3"], ["b"]),
    node("Sigmoid", ["b"], ["gate"]),
    node("Mul", ["a", "gate"], ["y0"]),
  ];
  test("a gate by the other half", async () => {
    await expectAgreement(few(halves("x0"), varied(8, 16), ints(0), ints(4), ints(8)));
    const small = float(
      [16, 16],
      varied(16, 16).values.map((value) => value / 64),
    );
    const product = node("MatMul", ["x0", "x4"], ["p"]);
    await expectAgreement(few([product, ...halves("p")], varied(8, 16), ints(0), ints(4), ints(8), constant(small)));
  });
  test("a convolution of groups of channels", () =>
    expectAgreement({
      op: "Conv",
      attributes: { group: 2, pads: [1, 1, 1, 1] },
      operands: [varied(1, 4, 5, 5), constant(varied(6, 2, 3, 3)), constant(varied(6))],
    }));
  test.each([
    { name: "along one axis", x: [2, 1, 40], w: [5, 1, 12], attributes: { strides: [4], pads: [3, 2] } },
    { name: "along two, one of which is whole", x: [1, 3, 9, 8], w: [4, 3, 3, 4], attributes: { strides: [1, 2] } },
    { name: "along two", x: [1, 3, 8, 8], w: [4, 3, 4, 4], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
    {
      name: "a border of a panel inside",
      x: [1, 1, 500],
      w: [6, 1, 320],
      attributes: { strides: [160], pads: [160, 160] },
    },
  ])("a convolution whose kernel is whole strides: $name", ({ x, w, attributes }) =>
    expectAgreement({ op: "Conv", attributes, operands: [varied(...x), constant(varied(...w))] }),
  );
  test("a convolution of each channel by itself", () =>
    expectAgreement({
      op: "Conv",
      attributes: { group: 8, pads: [1, 1, 1, 1] },
      operands: [varied(1, 8, 6, 6), constant(varied(8, 1, 3, 3))],
    }));
});
