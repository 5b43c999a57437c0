/** Quantization against ONNX Runtime: every form of the conversions, products of integers, layers, and weights of few bits. */

import { describe, expect, test } from "@jest/globals";
import { type AttributeValue, type ElementType, modelBytes } from "../models/onnx-writer.js";
import { joinChunks } from "../src/host/build.js";
import { compile } from "../src/compile.js";
import { CompileError } from "../src/diagnostics.js";
import { evaluate } from "../src/ir/evaluate.js";
import { elementCount } from "../src/ir/graph.js";
import { bytesSource } from "../src/frontend/source.js";
import { tensorOf, toNumbers } from "../src/ir/tensor.js";
import { summaryLines } from "../src/report/summary.js";
import { loadImage } from "../src/runtime/run.js";
import {
  constant,
  expectAgreement,
  float,
  importNode,
  modelOf,
  node,
  type NodeCase,
  type Operand,
  varied,
  whole,
} from "./agreement.js";

type Attributes = Readonly<Record<string, AttributeValue>>;
const MICROSOFT = "com.microsoft";

/** Integers from `lo` to `hi` in no order. */
const integers = (type: ElementType, lo: number, hi: number, ...dims: readonly number[]): Operand =>
  whole(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => lo + ((i * 7919 + 13) % (hi - lo + 1))),
    type,
  );
const one = (type: ElementType, value: number): Operand => constant(whole([], [value], type));
const scale = (...values: readonly number[]): Operand =>
  constant(float(values.length === 1 ? [] : [values.length], values));

/** Least and greatest value. */
const RANGES: Readonly<Partial<Record<ElementType, readonly [number, number]>>> = {
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32768, 32767],
  uint16: [0, 65535],
};

describe.each(Object.entries(RANGES))("%s", (name, [lo, hi]) => {
  const type = name as ElementType;
  const point = Math.round(lo + (hi - lo) / 3);
  test.each([undefined, MICROSOFT])("conversions of a tensor and along axes (%s)", async (domain) => {
    const at = domain === undefined ? {} : { domain };
    const x = integers(type, lo, hi, 3, 4);
    await expectAgreement({ ...at, op: "DequantizeLinear", opset: 21, operands: [x, scale(0.02), one(type, point)] });
    await expectAgreement({
      ...at,
      op: "DequantizeLinear",
      opset: 21,
      attributes: { axis: 0 },
      operands: [x, scale(0.02, 0.5, 3), constant(integers(type, lo, hi, 3))],
    });
    // Beyond the limits at both ends, and ties.
    const numbers = float([2, 4], [0.25, -0.25, 0.75, 1e6, -1e6, 2.25, 100.1, -33.7]);
    for (const factor of [0.5, 0.1])
      await expectAgreement({
        ...at,
        op: "QuantizeLinear",
        opset: 21,
        results: [type],
        operands: [numbers, scale(factor), one(type, point)],
      });
    await expectAgreement({
      ...at,
      op: "QuantizeLinear",
      opset: 21,
      attributes: { axis: 0 },
      results: [type],
      operands: [numbers, scale(0.3, 0.007), constant(integers(type, lo, hi, 2))],
    });
  });
  test("conversions in blocks", async () => {
    const scales = constant(float([2, 3], [0.1, 0.2, 0.3, 1, 2, 3]));
    const zeros = constant(integers(type, lo, hi, 2, 3));
    const attributes = { axis: 1, block_size: 2 };
    const operands = [scales, zeros];
    await expectAgreement({
      op: "DequantizeLinear",
      opset: 21,
      attributes,
      operands: [integers(type, lo, hi, 2, 6), ...operands],
    });
    await expectAgreement({
      op: "QuantizeLinear",
      opset: 21,
      attributes,
      results: [type],
      operands: [varied(2, 6), ...operands],
    });
  });
});

test("constants of 4 bits, and int32 without a zero point", async () => {
  for (const [type, lo, hi] of [
    ["int4", -8, 7],
    ["uint4", 0, 15],
  ] as const)
    await expectAgreement({
      op: "DequantizeLinear",
      opset: 21,
      attributes: { axis: 0, block_size: 3 },
      operands: [
        constant(integers(type, lo, hi, 6, 5)),
        constant(varied(2, 5)),
        constant(integers(type, lo, hi, 2, 5)),
      ],
    });
  await expectAgreement({ op: "DequantizeLinear", operands: [integers("int32", -1e6, 1e6, 9), scale(1e-4)] });
});

test("a result of 4 bits saturates at their limits", () => {
  const numbers = [-100, -8.5, -3.5, -2.5, 0, 6.5, 7.5, 100];
  const results = (type: ElementType, point: number): number[] => {
    const graph = importNode({
      op: "QuantizeLinear",
      opset: 21,
      operands: [float([8], numbers), scale(1), one(type, point)],
      results: [type],
    });
    return Array.from(evaluate(graph, { x0: tensorOf("f32", [8], numbers) })[0]?.data ?? []);
  };
  expect(results("int4", 1)).toEqual([-8, -7, -3, -1, 1, 7, 7, 7]);
  expect(results("uint4", 3)).toEqual([0, 0, 0, 1, 3, 9, 11, 15]);
});

test("the element type of the result is honoured or refused by name", () => {
  const operands = [integers("int8", -128, 127, 4), scale(0.5)];
  const halves = importNode({ op: "DequantizeLinear", opset: 23, attributes: { output_dtype: 10 }, operands });
  expect(halves.nodes[halves.outputs[0]?.node ?? 0]?.type.dtype).toBe("f16");
  const message = (attributes: Attributes): string => {
    try {
      importNode({ op: "QuantizeLinear", opset: 23, attributes, operands: [varied(4), scale(0.5)] });
    } catch (error) {
      if (error instanceof CompileError) return error.message;
    }
    return "";
  };
  expect(message({ output_dtype: 10 })).toContain("expected integers or FP8 as the result, got f16");
  expect(message({ output_dtype: 17, saturate: 0 })).toContain("saturate = 0 is not supported");
  expect(message({ output_dtype: 17 })).toBe("");
  expect(message({ output_dtype: 23 })).toContain("float4e2m1");
});

test("a tensor quantized by its range", async () => {
  const results: readonly ElementType[] = ["uint8", "float32", "uint8"];
  for (const values of [
    [0, 2, -3, -2.5, 1.34, 0.5],
    [1, 2.1, 1.3, 2.5, 3.34, 4],
    [-1, -2.1, -1.3, -2.5, -3.34, -4],
    [0, 0, 0, 0, 0, 0],
  ])
    await expectAgreement({ op: "DynamicQuantizeLinear", results, operands: [float([2, 3], values)] });
  await expectAgreement({ op: "DynamicQuantizeLinear", results, operands: [varied(17, 330)] });
});

describe("products of integers", () => {
  const product = (a: Operand, b: Operand, ...zeros: readonly (Operand | undefined)[]): NodeCase => ({
    op: "MatMulInteger",
    results: ["int32"],
    operands: [a, b, ...zeros],
  });
  test("signed and not, computed and constant, with zero points of tensors, rows and columns", async () => {
    const [a, b] = [integers("uint8", 0, 255, 3, 40), integers("int8", -64, 63, 40, 5)];
    await expectAgreement(product(a, b));
    await expectAgreement(product(a, constant(b), one("uint8", 128), one("int8", 3)));
    await expectAgreement(product(a, b, whole([], [77], "uint8"), constant(integers("int8", -9, 9, 5))));
    await expectAgreement(product(integers("uint8", 0, 255, 2, 3, 40), b, one("uint8", 200)));
  });
  test("whose sums need more bits than fp32 has are made of digits", async () => {
    const all = (type: ElementType, value: number, ...dims: readonly number[]): Operand =>
      whole(dims, Array(elementCount(dims)).fill(value), type);
    const [a, b] = [all("uint8", 255, 2, 1000), all("uint8", 255, 1000, 3)];
    await expectAgreement(product({ ...a, values: a.values.map((_, i) => 255 - (i % 2)) }, b));
    await expectAgreement(product(a, constant({ ...b, values: b.values.map((_, i) => 255 - (i % 5)) })));
  });
  test("convolutions", async () => {
    const x = integers("uint8", 0, 255, 1, 3, 6, 5);
    const w = constant(integers("uint8", 0, 127, 4, 3, 3, 2));
    const conv = (attributes: Attributes, ...zeros: readonly Operand[]): NodeCase => ({
      op: "ConvInteger",
      results: ["int32"],
      attributes,
      operands: [x, w, ...zeros],
    });
    await expectAgreement(conv({}));
    await expectAgreement(conv({ pads: [1, 1, 1, 1], strides: [2, 1] }, one("uint8", 100), one("uint8", 30)));
  });
  test("quantized again", async () => {
    const [a, b] = [integers("uint8", 0, 255, 4, 20), constant(integers("int8", -64, 63, 20, 6))];
    await expectAgreement({
      op: "QLinearMatMul",
      results: ["uint8"],
      operands: [a, scale(0.02), one("uint8", 120), b, scale(0.01), one("int8", 2), scale(0.3), one("uint8", 90)],
    });
    await expectAgreement({
      op: "QLinearMatMul",
      results: ["uint8"],
      operands: [
        a,
        scale(0.02),
        one("uint8", 120),
        b,
        scale(0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
        constant(whole([6], [0, 0, 0, 0, 0, 0], "int8")),
        scale(0.3),
        one("uint8", 90),
      ],
    });
    const x = integers("uint8", 0, 255, 1, 2, 5, 5);
    await expectAgreement({
      op: "QLinearConv",
      results: ["uint8"],
      attributes: { pads: [1, 1, 1, 1] },
      operands: [
        x,
        scale(0.02),
        one("uint8", 128),
        constant(integers("int8", -64, 63, 3, 2, 3, 3)),
        scale(0.01, 0.02, 0.03),
        constant(whole([3], [0, 0, 0], "int8")),
        scale(0.05),
        one("uint8", 100),
        constant(whole([3], [500, -20, 7], "int32")),
      ],
    });
  });
  test("as numbers", async () => {
    const [a, b] = [integers("uint8", 0, 255, 4, 32), constant(integers("int8", -64, 63, 32, 6))];
    await expectAgreement({
      op: "MatMulIntegerToFloat",
      domain: MICROSOFT,
      operands: [a, b, scale(0.02), scale(1, 2, 3, 4, 5, 6), one("uint8", 120), undefined, constant(varied(6))],
    });
    await expectAgreement({
      op: "DynamicQuantizeMatMul",
      domain: MICROSOFT,
      operands: [varied(4, 32), b, scale(0.02), one("int8", 4), constant(varied(6))],
    });
    await expectAgreement({
      op: "QGemm",
      domain: MICROSOFT,
      attributes: { transB: 1, alpha: { float: 0.5 } },
      operands: [
        a,
        scale(0.02),
        one("uint8", 120),
        constant(integers("int8", -64, 63, 6, 32)),
        scale(0.1),
        one("int8", 0),
        constant(integers("int32", -900, 900, 6)),
      ],
    });
  });
});

/** Products of numbers that were quantized and stand for their integers again, at the sizes of layers. */
describe("products of dequantized numbers", () => {
  const numbers = (type: ElementType, lo: number, hi: number, ...dims: readonly number[]): Operand =>
    whole(
      dims,
      Array.from({ length: elementCount(dims) }, (_, i) => lo + ((Math.imul(i, 40503) >>> 7) % (hi - lo + 1))),
      type,
    );
  const STEP = 0.0171;
  const steps = (count: number, factor = 1): Operand =>
    constant(
      float(
        [count],
        Array.from({ length: count }, (_, i) => Math.fround(0.001 + 0.0003 * (i % 17)) * factor),
      ),
    );
  const x = (...dims: readonly number[]): readonly Operand[] => [
    numbers("uint8", 0, 255, ...dims),
    scale(STEP),
    one("uint8", 121),
  ];
  const weights = (columns: number, ...dims: readonly number[]): readonly Operand[] => [
    constant(numbers("int8", -127, 127, ...dims)),
    steps(columns),
    constant(whole([columns], Array(columns).fill(0), "int8")),
  ];
  const bias = (columns: number): readonly Operand[] => [
    constant(numbers("int32", -90000, 90000, columns)),
    steps(columns, STEP),
  ];
  /** `axis`: of the scales of the second operand; `biased`: whether operands 6 and 7 are a bias. */
  const layer = (
    op: string,
    operands: readonly Operand[],
    axis: number | undefined,
    attributes: Attributes = {},
    biased = false,
  ): NodeCase => ({
    op,
    nodes: [
      node("DequantizeLinear", ["x0", "x1", "x2"], ["a"]),
      node("DequantizeLinear", ["x3", "x4", "x5"], ["b"], axis === undefined ? {} : { axis }),
      ...(biased ? [node("DequantizeLinear", ["x6", "x7"], ["c"], { axis: 0 })] : []),
      node(op, biased ? ["a", "b", "c"] : ["a", "b"], ["y0"], attributes),
    ],
    operands,
  });

  /** Every element of the machine's result, not only their norm, has the bits of fp16, whatever cancels in its sum. */
  const expectExact = (given: NodeCase): void => {
    const graph = importNode(given);
    const { dims = [], values = [] } = given.operands[0] ?? {};
    const inputs = { x0: tensorOf("u8", dims, values) };
    const wanted = toNumbers(evaluate(graph, inputs)[0] ?? tensorOf("f32", [0], []));
    const loaded = loadImage(
      joinChunks(compile(bytesSource("node", modelBytes(modelOf(given, [[]]))), {}).image()),
    ).entry();
    const got = toNumbers(loaded.run(inputs).outputs["y0"] ?? tensorOf("f32", [0], []));
    // Half a step of fp16, and what the evaluator's sums of rounded numbers may be off.
    const most = Math.max(...Array.from(wanted, Math.abs));
    const off = Array.from(wanted, (value, i) => Math.abs((got[i] ?? 0) - value) - Math.abs(value) * 2 ** -11);
    expect(got.length).toBe(wanted.length);
    expect(Math.max(...off) / most).toBeLessThan(1e-6);
  };

  const matmul = layer("MatMul", [...x(1, 5, 3072), ...weights(40, 3072, 40)], 1);
  const conv = (biased: boolean): NodeCase =>
    layer(
      "Conv",
      [...x(1, 32, 9, 8), ...weights(24, 24, 32, 3, 3), ...(biased ? bias(24) : [])],
      0,
      { pads: [1, 1, 1, 1], strides: [2, 2] },
      biased,
    );
  const gemm = (biased: boolean): NodeCase =>
    layer("Gemm", [...x(3, 700), ...weights(24, 24, 700), ...(biased ? bias(24) : [])], 0, { transB: 1 }, biased);
  const scores: NodeCase = {
    op: "MatMul",
    nodes: [
      node("DequantizeLinear", ["x0", "x1", "x2"], ["a"]),
      node("DequantizeLinear", ["x0", "x3", "x2"], ["b"]),
      node("Transpose", ["b"], ["t"], { perm: [0, 1, 3, 2] }),
      node("MatMul", ["a", "t"], ["y0"]),
    ],
    operands: [...x(1, 4, 30, 64), scale(0.013)],
  };
  const reshaped: NodeCase = {
    op: "Conv",
    nodes: [
      node("DequantizeLinear", ["x0", "x1", "x2"], ["a"]),
      node("DequantizeLinear", ["x3", "x4", "x5"], ["b"], { axis: 0 }),
      node("Pad", ["a", "x6"], ["p"]),
      node("Reshape", ["p", "x7"], ["r"]),
      node("Conv", ["r", "b"], ["y0"]),
    ],
    operands: [
      ...x(1, 16, 10, 10),
      ...weights(8, 8, 16, 3),
      constant(whole([8], [0, 0, 1, 1, 0, 0, 1, 1])),
      constant(whole([3], [1, 16, 144])),
    ],
  };
  test.each([
    ["a layer of many inputs", matmul],
    ["transposed weights", gemm(false)],
    ["a convolution with padding", conv(false)],
    ["scores of attention", scores],
    ["numbers that were padded and reshaped", reshaped],
  ])("%s", async (_, given) => {
    // ONNX Runtime multiplies rounded numbers in fp32, whose sums cancel.
    await expectAgreement(given, { machine: false, evaluated: 3e-5 });
    expectExact(given);
  });
  test.each([
    ["a layer", matmul, 0.4],
    ["a layer with a bias", gemm(true), 0.3],
    ["a convolution with a bias", conv(true), 0.2],
  ])("quantized again: %s", async (_, given, step) => {
    await expectAgreement({
      ...given,
      nodes: [
        ...(given.nodes ?? []).map((made) => ({
          ...made,
          outputs: made.outputs.map((name) => name.replace("y0", "y")),
        })),
        node("QuantizeLinear", ["y", "x8", "x9"], ["y0"]),
      ],
      operands: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => given.operands[i]).concat(scale(step), one("uint8", 128)),
      results: ["uint8"],
    });
  });
});

describe("at the sizes and magnitudes of real layers", () => {
  /** Numbers of about a bell's shape around 0, most of them within `width`. */
  const bell = (width: number, ...dims: readonly number[]): Operand =>
    float(
      dims,
      Array.from({ length: elementCount(dims) }, (_, i) => {
        const at = (k: number): number => ((Math.imul(4 * i + k + 1, 2654435761) >>> 8) % 65536) / 65536 - 0.5;
        return (at(0) + at(1) + at(2) + at(3)) * width;
      }),
    );
  const bytes = (...dims: readonly number[]): Operand =>
    whole(
      dims,
      Array.from({ length: elementCount(dims) }, (_, i) => (Math.imul(i + 7, 2654435761) >>> 11) & 255),
      "uint8",
    );
  const positive = (most: number, ...dims: readonly number[]): Operand => {
    const x = bell(most, ...dims);
    return { ...x, values: x.values.map((value) => Math.abs(value) / 2 + most / 50) };
  };

  describe.each([2, 4, 8])("MatMulNBits of %s bits", (bits) => {
    const [inner, columns, block] = [768, 48, 32];
    const blocks = inner / block;
    const nbits = (zeros?: Operand, groups?: Operand): NodeCase => ({
      op: "MatMulNBits",
      domain: MICROSOFT,
      attributes: { K: inner, N: columns, block_size: block, bits },
      operands: [
        bell(4, 6, inner),
        constant(bytes(columns, blocks, (block * bits) / 8)),
        constant(positive(0.2 / 2 ** (bits - 2), columns * blocks)),
        zeros === undefined ? undefined : constant(zeros),
        groups === undefined ? undefined : constant(groups),
      ],
    });
    // Of other widths ONNX Runtime computes none, or does not read the middle of the range.
    if (bits === 4)
      test("in another order than that of their blocks", async () => {
        const order = whole(
          [inner],
          Array.from({ length: inner }, (_, i) => (i * 7) % blocks),
          "int32",
        );
        await expectAgreement(nbits(undefined, order), { evaluated: 2e-5 });
        await expectAgreement(nbits(bell(8, columns, blocks), order), { evaluated: 2e-5 });
      });

    test("the middle of the range, and packed zero points", async () => {
      await expectAgreement(nbits(), { evaluated: 2e-5 });
      await expectAgreement(nbits(bytes(columns * Math.ceil((blocks * bits) / 8))), { evaluated: 2e-5 });
    });

    test("are told of, since they lie as fp16", () => {
      const { report } = compile(bytesSource("node", modelBytes(modelOf(nbits(), [[]]))));
      expect(report.weights?.widened).toEqual([{ dtype: `u${bits}`, values: inner * columns }]);
    });
  });

  test.each([13, 12])("QLinearSoftmax of operator set %s", async (version) => {
    await expectAgreement({
      op: "QLinearSoftmax",
      domain: MICROSOFT,
      attributes: { axis: version === 13 ? -1 : 1, opset: version },
      results: ["uint8"],
      operands: [bytes(3, 5, 64), scale(0.08), one("uint8", 150), scale(1 / 256), one("uint8", 0)],
    });
  });

  test.each(["int4", "uint4", "int8"] as const)("weights of %s in blocks along the sum", async (type) => {
    const [lo, hi] = type === "int4" ? [-8, 7] : type === "uint4" ? [0, 15] : [-128, 127];
    await expectAgreement(
      {
        op: "MatMul",
        opset: 21,
        nodes: [
          node("DequantizeLinear", ["x1", "x2", "x3"], ["w"], { axis: 0, block_size: 64 }),
          node("MatMul", ["x0", "w"], ["y0"]),
        ],
        operands: [
          bell(4, 6, 768),
          constant(integers(type, lo, hi, 768, 40)),
          constant(positive(0.02, 12, 40)),
          constant(integers(type, lo, hi, 12, 40)),
        ],
      },
      { evaluated: 2e-5, optimized: false },
    );
  });

  test("a layer whose input is quantized by its range", async () => {
    await expectAgreement(
      {
        op: "MatMulInteger",
        nodes: [
          node("DynamicQuantizeLinear", ["x0"], ["q", "s", "z"]),
          node("MatMulInteger", ["q", "x1", "z", "x2"], ["i"]),
          node("Cast", ["i"], ["f"], { to: 1 }),
          node("Mul", ["s", "x3"], ["both"]),
          node("Mul", ["f", "both"], ["scaled"]),
          node("Add", ["scaled", "x4"], ["y0"]),
        ],
        operands: [
          bell(9, 1, 7, 512),
          constant(integers("int8", -127, 127, 512, 40)),
          one("int8", 0),
          constant(float([], [0.0021])),
          constant(bell(1, 40)),
        ],
      },
      { evaluated: 2e-5 },
    );
  });
});

describe("layers of quantized operands", () => {
  const x = integers("uint8", 0, 255, 2, 3, 4, 4);
  const y = integers("uint8", 0, 255, 2, 3, 4, 4);
  const layer = (op: string, operands: NodeCase["operands"], attributes: Attributes = {}): NodeCase => ({
    op,
    domain: MICROSOFT,
    results: ["uint8"],
    operands,
    attributes,
  });
  const [ofX, ofY, ofZ] = [0.03, 0.05, 0.11].map((step, i) => [scale(step), one("uint8", 100 + 7 * i)]) as [
    Operand[],
    Operand[],
    Operand[],
  ];
  test.each(["QLinearAdd", "QLinearMul"])("%s", async (op) => {
    await expectAgreement(layer(op, [x, ...ofX, y, ...ofY, ...ofZ]));
  });
  test.each([
    ["QLinearSigmoid", {}],
    ["QLinearLeakyRelu", { alpha: { float: 0.1 } }],
    ["QLinearGlobalAveragePool", {}],
    ["QLinearAveragePool", { kernel_shape: [2, 2], strides: [2, 2] }],
  ] as const)("%s", async (op, attributes) => {
    await expectAgreement(layer(op, [x, ...ofX, scale(0.017), one("uint8", 3)], attributes));
  });
  test("a join", async () => {
    await expectAgreement(layer("QLinearConcat", [...ofZ, x, ...ofX, y, ...ofY], { axis: 1 }));
  });
  test("channels at the end are refused by name", () => {
    const given = layer("QLinearGlobalAveragePool", [x, ...ofX, ...ofZ], { channels_last: 1 });
    expect(() => importNode(given)).toThrow("'channels_last'");
  });
});

describe("weights of few bits", () => {
  const nbits = (
    [inner, columns, block, bits]: readonly [number, number, number, number],
    zeros?: Operand,
    rest: readonly (Operand | undefined)[] = [],
  ): NodeCase => {
    const blocks = Math.ceil(inner / block);
    return {
      op: "MatMulNBits",
      domain: MICROSOFT,
      attributes: { K: inner, N: columns, block_size: block, bits },
      operands: [
        varied(3, inner),
        constant(integers("uint8", 0, 255, columns, blocks, (block * bits) / 8)),
        constant(
          float(
            [columns * blocks],
            varied(columns * blocks).values.map((value) => value / 50),
          ),
        ),
        zeros,
        ...rest,
      ],
    };
  };
  test("with the middle of the range, packed and float zero points, an unfinished block, a bias", async () => {
    await expectAgreement(nbits([32, 5, 16, 4]));
    await expectAgreement(nbits([48, 5, 16, 4], constant(integers("uint8", 0, 255, 5 * 2))));
    await expectAgreement(nbits([40, 6, 16, 4], constant(float([6 * 3], varied(18).values))));
    await expectAgreement(nbits([32, 4, 32, 8]));
    await expectAgreement(nbits([32, 4, 16, 8], constant(integers("uint8", 100, 160, 4 * 2))));
    await expectAgreement(nbits([32, 4, 16, 4], undefined, [undefined, constant(varied(4))]));
  });
  test("groups that there are not, and weights of other widths, are refused", () => {
    const order = constant(
      whole(
        [32],
        Array.from({ length: 32 }, (_, i) => 31 - i),
        "int32",
      ),
    );
    expect(() => importNode(nbits([32, 4, 16, 4], undefined, [order]))).toThrow(/index|range/);
    expect(() => importNode(nbits([32, 4, 16, 3]))).toThrow("weights of 3 bits");
  });

  const gather = (
    data: Operand,
    scales: readonly number[],
    zeros: Operand | undefined,
    attributes: Attributes,
  ): NodeCase => ({
    op: "GatherBlockQuantized",
    domain: MICROSOFT,
    attributes,
    operands: [
      constant(data),
      whole([2], [3, 0], "int64"),
      constant(float(scales, varied(...scales).values)),
      ...(zeros === undefined ? [] : [constant(zeros)]),
    ],
  });
  test("gathered", async () => {
    const attributes = { block_size: 16, quantize_axis: 1, gather_axis: 0 };
    await expectAgreement(gather(integers("uint4", 0, 15, 4, 32), [4, 2], undefined, attributes));
    await expectAgreement(gather(integers("int4", -8, 7, 4, 32), [4, 2], integers("int4", -8, 7, 4, 2), attributes));
    await expectAgreement(gather(integers("uint8", 0, 255, 4, 16), [4, 2], undefined, attributes));
    await expectAgreement(
      gather(integers("uint8", 0, 255, 4, 16), [4, 2], integers("uint8", 0, 255, 4, 1), attributes),
    );
    await expectAgreement(gather(integers("uint8", 0, 255, 4, 32), [4, 2], undefined, { ...attributes, bits: 8 }));
  });
});

describe("FP8 weights of a model", () => {
  const steps = (...dims: number[]): Operand =>
    constant(
      float(
        dims,
        Array.from({ length: elementCount(dims) }, (_, i) => 0.01 + (i % 9) / 700),
      ),
    );
  const eights = (type: "float8e4m3fn" | "float8e5m2", ...dims: number[]): Operand =>
    constant(
      whole(
        dims,
        Array.from({ length: elementCount(dims) }, (_, i) => (((i * 53) % 97) - 48) / 4),
        type,
      ),
    );
  const dequantized = (
    operands: readonly Operand[],
    attributes: Attributes = {},
    last: ReturnType<typeof node> = node("MatMul", ["x0", "w"], ["y0"]),
  ): NodeCase => ({
    op: "DequantizeLinear",
    opset: 21,
    nodes: [
      node(
        "DequantizeLinear",
        operands.slice(1).map((_, i) => `x${i + 1}`),
        ["w"],
        attributes,
      ),
      last,
    ],
    operands,
  });
  const gemm = node("Gemm", ["x0", "w"], ["y0"], { transB: 1 });
  const cases: Readonly<Record<string, NodeCase>> = {
    "one scale": dequantized([varied(3, 40), eights("float8e4m3fn", 40, 24), constant(float([], [0.04]))]),
    "a scale for each column": dequantized([varied(3, 40), eights("float8e5m2", 40, 24), steps(24)], { axis: 1 }),
    "transposed, with a scale for each output": dequantized(
      [varied(5, 330), eights("float8e4m3fn", 90, 330), steps(90)],
      { axis: 0 },
      gemm,
    ),
    "without a scale": {
      op: "Cast",
      opset: 19,
      nodes: [
        node("Cast", ["x1"], ["c"], { to: 1 }),
        node("Transpose", ["c"], ["w"], { perm: [1, 0] }),
        node("MatMul", ["x0", "w"], ["y0"]),
      ],
      operands: [varied(3, 40), eights("float8e4m3fn", 24, 40)],
    },
  };

  test.each(Object.entries(cases))("%s: they stay FP8, and the sums are ONNX Runtime's", async (_, given) => {
    await expectAgreement(given);
    const { report } = compile(bytesSource("node", modelBytes(modelOf(given, [[]]))));
    expect(report.weights?.given).toHaveLength(1);
    expect(report.weights?.narrowed).toEqual([]);
    expect(report.weights?.widened).toEqual([]);
  });

  // Ties, steps below the least normal number, beyond the limits, and everything between.
  const numbers = float(
    [4, 512],
    Array.from({ length: 2048 }, (_, i) => {
      if (i < 64) return (i - 32) * 2 ** -10;
      if (i < 96) return (i - 80) * 1e3 * 0.04;
      return Math.sin(i) * 2 ** (((i * 7) % 26) - 14);
    }),
  );
  const pair = (
    type: "float8e4m3fn" | "float8e5m2",
    then: ReturnType<typeof node>,
    ...more: readonly Operand[]
  ): NodeCase => ({
    op: "QuantizeLinear",
    opset: 21,
    nodes: [node("QuantizeLinear", ["x0", "x1", "x2"], ["q"]), node("DequantizeLinear", ["q", "x1"], ["d"]), then],
    operands: [numbers, constant(float([], [0.0417])), constant(whole([], [0], type)), ...more],
  });

  test.each(["float8e4m3fn", "float8e5m2"] as const)("activations are rounded to %s and back", async (type) => {
    await expectAgreement(pair(type, node("Identity", ["d"], ["y0"])));
    const weights = [eights(type, 512, 40), steps(40)];
    const product = pair(type, node("Neg", ["d"], ["a"]), ...weights);
    // ONNX Runtime would take a product of two dequantized operands for one of integers.
    await expectAgreement({
      ...product,
      nodes: [
        ...(product.nodes ?? []),
        node("DequantizeLinear", ["x3", "x4"], ["w"], { axis: 1 }),
        node("MatMul", ["a", "w"], ["y0"]),
      ],
    });
  });

  test("the operators of TensorRT are those of ONNX without a zero point", async () => {
    const given = pair("float8e4m3fn", node("Neg", ["d"], ["a"]), varied(512, 40), constant(float([], [0.02])));
    const trt = (name: string, inputs: readonly string[], output: string): ReturnType<typeof node> => ({
      ...node(name, inputs, [output]),
      domain: "trt",
    });
    const end = [node("Neg", ["d"], ["a"]), node("MatMul", ["a", "w"], ["y0"])];
    const operands = [numbers, constant(float([], [0.0417])), constant(varied(512, 40)), constant(float([], [0.02]))];
    const theirs = modelOf(
      {
        ...given,
        operands,
        nodes: [
          trt("TRT_FP8QuantizeLinear", ["x0", "x1"], "q"),
          trt("TRT_FP8DequantizeLinear", ["q", "x1"], "d"),
          trt("TRT_FP8QuantizeLinear", ["x2", "x3"], "v"),
          trt("TRT_FP8DequantizeLinear", ["v", "x3"], "w"),
          ...end,
        ],
      },
      [[]],
    );
    const zero = constant(whole([], [0], "float8e4m3fn"));
    const ours = modelOf(
      {
        ...given,
        operands: [...operands, zero],
        nodes: [
          node("QuantizeLinear", ["x0", "x1", "x4"], ["q"]),
          node("DequantizeLinear", ["q", "x1"], ["d"]),
          node("QuantizeLinear", ["x2", "x3", "x4"], ["v"]),
          node("DequantizeLinear", ["v", "x3"], ["w"]),
          ...end,
        ],
      },
      [[]],
    );
    const results = [theirs, ours].map((model) => {
      const { report, image } = compile(bytesSource("node", modelBytes(model)));
      expect(report.weights?.given).toHaveLength(1);
      const entry = loadImage(joinChunks(image())).entry();
      const x = tensorOf("f32", numbers.dims, Float32Array.from(numbers.values));
      return entry.run({ x0: x }).outputs["y0"];
    });
    expect(results[0]?.shape).toEqual([4, 40]);
    expect(results[0]).toEqual(results[1]);
  });

  test("scales that vary along K cannot follow the sums: the weights become fp16", async () => {
    const blocks = dequantized([varied(3, 40), eights("float8e4m3fn", 40, 24), steps(5, 24)], {
      axis: 0,
      block_size: 8,
    });
    await expectAgreement(blocks);
    const { report } = compile(bytesSource("node", modelBytes(modelOf(blocks, [[]]))));
    expect(report.weights).toEqual({
      narrowed: [],
      given: [],
      kept: [],
      widened: [{ dtype: "f8e4m3", values: 40 * 24 }],
    });
    expect(summaryLines(report).join("\n")).toContain("few bits         960 values of f8e4m3 in the model lie as fp16");
  });

  test("blocks of a model stay what they are in FP8 where blocks as long are asked for", async () => {
    const blocks = dequantized([varied(3, 80), eights("float8e4m3fn", 80, 24), steps(3, 24)], {
      axis: 0,
      block_size: 32,
    });
    const { report, image } = compile(bytesSource("node", modelBytes(modelOf(blocks, [[]]))), {
      weights: "fp8-e4m3:block32",
    });
    expect(report.weights?.narrowed.map(({ decibels }) => (decibels ?? 200) > 120)).toEqual([true]);
    expect(joinChunks(image()).length).toBeGreaterThan(0);
  });
});
