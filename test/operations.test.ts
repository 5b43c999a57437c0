/** What each operation computes, on small cases checked by hand, and what it refuses. */

import { describe, expect, test } from "@jest/globals";
import { CompileError } from "../src/diagnostics.js";
import type { DType } from "../src/ir/dtype.js";
import { type Attrs, elementCount, type Tensor, type TensorType } from "../src/ir/graph.js";
import { applyOp } from "./apply-op.js";
import { inferType, type OpName, OPS, opRow } from "../src/ir/ops.js";
import { formatType, tensorOf, toNumbers } from "../src/ir/tensor.js";

const f32 = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("f32", shape, values);
const i32 = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("i32", shape, values);
const bool = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("bool", shape, values);
const iota = (shape: readonly number[], dtype: DType = "f32"): Tensor =>
  tensorOf(
    dtype,
    shape,
    Array.from({ length: elementCount(shape) }, (_, i) => i),
  );
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

interface Case {
  readonly op: OpName;
  readonly inputs: readonly Tensor[];
  readonly attrs?: Attrs;
  readonly type: string;
  readonly values: readonly number[];
}

/** Checked by hand; floats to six digits. */
const CASES: readonly Case[] = [
  { op: "neg", inputs: [i32([3], [1, -2, -2147483648])], type: "i32[3]", values: [-1, 2, -2147483648] },
  { op: "abs", inputs: [f32([2], [-1.5, 2])], type: "f32[2]", values: [1.5, 2] },
  { op: "exp", inputs: [f32([3], [0, 1, -inf])], type: "f32[3]", values: [1, Math.E, 0] },
  { op: "log", inputs: [f32([2], [Math.E, 0])], type: "f32[2]", values: [1, -inf] },
  { op: "sqrt", inputs: [f32([2], [9, -1])], type: "f32[2]", values: [3, nan] },
  { op: "rsqrt", inputs: [f32([1], [16])], type: "f32[1]", values: [0.25] },
  { op: "reciprocal", inputs: [f32([2], [4, -0])], type: "f32[2]", values: [0.25, -inf] },
  { op: "tanh", inputs: [f32([2], [0.5, -20])], type: "f32[2]", values: [0.462117, -1] },
  { op: "sigmoid", inputs: [f32([2], [0, 2])], type: "f32[2]", values: [0.5, 0.880797] },
  { op: "erf", inputs: [f32([3], [0.5, -2, 9])], type: "f32[3]", values: [0.5204999, -0.9953223, 1] },
  { op: "sin", inputs: [f32([2], [1, 100])], type: "f32[2]", values: [0.841471, -0.506366] },
  { op: "cos", inputs: [f32([2], [1, 100])], type: "f32[2]", values: [0.540302, 0.862319] },
  { op: "floor", inputs: [f32([2], [-1.5, 1.5])], type: "f32[2]", values: [-2, 1] },
  { op: "ceil", inputs: [f32([2], [-1.5, 1.5])], type: "f32[2]", values: [-1, 2] },
  { op: "round", inputs: [f32([4], [0.5, 1.5, 2.5, -2.5])], type: "f32[4]", values: [0, 2, 2, -2] },
  { op: "sign", inputs: [f32([3], [-3, 0, 2])], type: "f32[3]", values: [-1, 0, 1] },
  { op: "relu", inputs: [f32([3], [-3, nan, 2])], type: "f32[3]", values: [0, nan, 2] },
  { op: "not", inputs: [bool([2], [0, 1])], type: "bool[2]", values: [1, 0] },
  { op: "is_nan", inputs: [f32([2], [nan, 1])], type: "bool[2]", values: [1, 0] },
  { op: "softplus", inputs: [f32([2], [0, 100])], type: "f32[2]", values: [Math.LN2, 100] },
  {
    op: "gelu",
    inputs: [f32([2], [1, -2])],
    attrs: { approximate: "none" },
    type: "f32[2]",
    values: [0.841345, -0.0455003],
  },
  {
    op: "gelu",
    inputs: [f32([2], [1, -2])],
    attrs: { approximate: "tanh" },
    type: "f32[2]",
    values: [0.841192, -0.0454023],
  },
  { op: "silu", inputs: [f32([1], [2])], type: "f32[1]", values: [1.761594] },
  {
    op: "cast",
    inputs: [f32([5], [1.9, -1.9, nan, 300, -300])],
    attrs: { to: "i8" },
    type: "i8[5]",
    values: [1, -1, 0, 127, -128],
  },
  { op: "cast", inputs: [i32([2], [300, -1])], attrs: { to: "u8" }, type: "u8[2]", values: [44, 255] },
  { op: "cast", inputs: [f32([3], [0, 0.5, nan])], attrs: { to: "bool" }, type: "bool[3]", values: [0, 1, 1] },
  { op: "cast", inputs: [f32([2], [0.1, 1e6])], attrs: { to: "f16" }, type: "f16[2]", values: [0.0999755859375, inf] },
  { op: "cast", inputs: [f32([2], [0.3, 1e6])], attrs: { to: "f8e4m3" }, type: "f8e4m3[2]", values: [0.3125, 448] },
  {
    op: "add",
    inputs: [f32([2, 1], [1, 2]), f32([3], [10, 20, 30])],
    type: "f32[2,3]",
    values: [11, 21, 31, 12, 22, 32],
  },
  { op: "add", inputs: [f32([], [1]), f32([2], [1, 2])], type: "f32[2]", values: [2, 3] },
  { op: "add", inputs: [tensorOf("f16", [1], [2048]), tensorOf("f16", [1], [1])], type: "f16[1]", values: [2048] },
  { op: "add", inputs: [tensorOf("u8", [1], [250]), tensorOf("u8", [1], [10])], type: "u8[1]", values: [4] },
  { op: "sub", inputs: [f32([2], [1, 2]), f32([], [5])], type: "f32[2]", values: [-4, -3] },
  { op: "mul", inputs: [i32([1], [65537]), i32([1], [65537])], type: "i32[1]", values: [131073] },
  { op: "div", inputs: [i32([3], [7, -7, 1]), i32([3], [2, 2, 0])], type: "i32[3]", values: [3, -3, 0] },
  { op: "div", inputs: [f32([2], [1, -1]), f32([2], [4, 0])], type: "f32[2]", values: [0.25, -inf] },
  { op: "pow", inputs: [f32([4], [2, 9, 1, 3]), f32([4], [-1, 0.5, nan, 3])], type: "f32[4]", values: [0.5, 3, 1, 27] },
  { op: "pow", inputs: [i32([3], [3, -1, 2]), i32([3], [4, -3, -1])], type: "i32[3]", values: [81, -1, 0] },
  { op: "max", inputs: [f32([2], [1, nan]), f32([2], [2, 0])], type: "f32[2]", values: [2, nan] },
  { op: "min", inputs: [i32([2], [1, 5]), i32([1], [2])], type: "i32[2]", values: [1, 2] },
  { op: "mod", inputs: [i32([3], [7, -7, 7]), i32([3], [3, 3, -3])], type: "i32[3]", values: [1, 2, -2] },
  { op: "mod", inputs: [f32([2], [-7, 7.5]), f32([2], [3, -2])], type: "f32[2]", values: [-1, 1.5] },
  { op: "eq", inputs: [bool([2], [1, 0]), bool([2], [1, 1])], type: "bool[2]", values: [1, 0] },
  { op: "lt", inputs: [f32([3], [1, 2, nan]), f32([], [2])], type: "bool[3]", values: [1, 0, 0] },
  { op: "le", inputs: [f32([3], [1, 2, nan]), f32([], [2])], type: "bool[3]", values: [1, 1, 0] },
  { op: "gt", inputs: [i32([2], [1, 3]), i32([], [2])], type: "bool[2]", values: [0, 1] },
  { op: "ge", inputs: [i32([2], [1, 2]), i32([], [2])], type: "bool[2]", values: [0, 1] },
  { op: "and", inputs: [bool([2], [1, 1]), bool([2], [0, 1])], type: "bool[2]", values: [0, 1] },
  { op: "or", inputs: [bool([2], [0, 1]), bool([2], [0, 1])], type: "bool[2]", values: [0, 1] },
  { op: "xor", inputs: [bool([2], [0, 1]), bool([2], [1, 1])], type: "bool[2]", values: [1, 0] },
  { op: "bit_and", inputs: [i32([2], [12, -1]), i32([2], [10, 7])], type: "i32[2]", values: [8, 7] },
  { op: "bit_or", inputs: [i32([2], [12, -8]), i32([2], [10, 7])], type: "i32[2]", values: [14, -1] },
  {
    op: "bit_xor",
    inputs: [tensorOf("u8", [2], [12, 255]), tensorOf("u8", [2], [10, 7])],
    type: "u8[2]",
    values: [6, 248],
  },
  {
    op: "shift_left",
    inputs: [i32([3], [3, 1, 1]), i32([3], [4, 31, 33])],
    type: "i32[3]",
    values: [48, -(2 ** 31), 2],
  },
  { op: "shift_left", inputs: [tensorOf("u8", [1], [200]), tensorOf("u8", [1], [1])], type: "u8[1]", values: [144] },
  { op: "shift_right", inputs: [i32([2], [48, -5]), i32([2], [4, 1])], type: "i32[2]", values: [3, -3] },
  {
    op: "shift_right",
    inputs: [tensorOf("u32", [1], [2 ** 32 - 1]), tensorOf("u32", [1], [4])],
    type: "u32[1]",
    values: [2 ** 28 - 1],
  },
  {
    op: "select",
    inputs: [bool([2, 1], [1, 0]), tensorOf("f16", [2], [1, 2]), tensorOf("f16", [], [9])],
    type: "f16[2,2]",
    values: [1, 2, 9, 9],
  },
  {
    op: "matmul",
    inputs: [iota([2, 3]), iota([3, 5])],
    type: "f32[2,5]",
    values: [25, 28, 31, 34, 37, 70, 82, 94, 106, 118],
  },
  { op: "matmul", inputs: [iota([2, 1, 1, 2]), iota([2, 2, 1])], type: "f32[2,2,1,1]", values: [1, 3, 3, 13] },
  {
    op: "matmul",
    inputs: [tensorOf("u8", [1, 2], [200, 200]), tensorOf("i8", [2, 1], [-100, 3])],
    type: "i32[1,1]",
    values: [-19400],
  },
  { op: "reduce_sum", inputs: [iota([2, 3])], attrs: { axes: [1], keepdims: true }, type: "f32[2,1]", values: [3, 12] },
  {
    op: "reduce_sum",
    inputs: [iota([2, 3])],
    attrs: { axes: [0], keepdims: false },
    type: "f32[3]",
    values: [3, 5, 7],
  },
  {
    op: "reduce_sum",
    inputs: [iota([2, 3, 2])],
    attrs: { axes: [0, 2], keepdims: false },
    type: "f32[3]",
    values: [14, 22, 30],
  },
  {
    op: "reduce_mean",
    inputs: [i32([3], [-1, -1, 0])],
    attrs: { axes: [0], keepdims: false },
    type: "i32[]",
    values: [0],
  },
  {
    op: "reduce_max",
    inputs: [f32([2, 2], [1, nan, 3, 2])],
    attrs: { axes: [1], keepdims: false },
    type: "f32[2]",
    values: [nan, 3],
  },
  { op: "reduce_min", inputs: [iota([2, 3])], attrs: { axes: [0, 1], keepdims: false }, type: "f32[]", values: [0] },
  {
    op: "reduce_prod",
    inputs: [i32([3], [65537, 65537, 2])],
    attrs: { axes: [0], keepdims: true },
    type: "i32[1]",
    values: [262146],
  },
  {
    op: "argmax",
    inputs: [f32([2, 3], [1, 5, 5, 7, 2, 7])],
    attrs: { axis: 1, keepdims: false },
    type: "i32[2]",
    values: [1, 0],
  },
  {
    op: "argmax",
    inputs: [f32([2, 2], [1, 5, 3, 2])],
    attrs: { axis: 0, keepdims: true },
    type: "i32[1,2]",
    values: [1, 0],
  },
  {
    op: "cumsum",
    inputs: [iota([2, 3])],
    attrs: { axis: 1, exclusive: false, reverse: false },
    type: "f32[2,3]",
    values: [0, 1, 3, 3, 7, 12],
  },
  {
    op: "cumsum",
    inputs: [iota([3])],
    attrs: { axis: 0, exclusive: true, reverse: true },
    type: "f32[3]",
    values: [3, 2, 0],
  },
  { op: "reshape", inputs: [iota([2, 3])], attrs: { shape: [3, 2] }, type: "f32[3,2]", values: [0, 1, 2, 3, 4, 5] },
  {
    op: "transpose",
    inputs: [iota([1, 2, 3])],
    attrs: { perm: [2, 0, 1] },
    type: "f32[3,1,2]",
    values: [0, 3, 1, 4, 2, 5],
  },
  {
    op: "slice",
    inputs: [iota([3, 4])],
    attrs: { starts: [2, 0], sizes: [2, 2], strides: [-1, 3] },
    type: "f32[2,2]",
    values: [8, 11, 4, 7],
  },
  {
    op: "slice",
    inputs: [iota([3, 4])],
    attrs: { starts: [9, 0], sizes: [0, 4], strides: [1, 1] },
    type: "f32[0,4]",
    values: [],
  },
  {
    op: "concat",
    inputs: [iota([2, 1]), iota([2, 2])],
    attrs: { axis: 1 },
    type: "f32[2,3]",
    values: [0, 0, 1, 1, 2, 3],
  },
  {
    op: "expand",
    inputs: [iota([2, 1])],
    attrs: { shape: [2, 2, 2] },
    type: "f32[2,2,2]",
    values: [0, 0, 1, 1, 0, 0, 1, 1],
  },
  {
    op: "pad",
    inputs: [iota([1, 2])],
    attrs: { before: [1, 0], after: [0, 1], value: 7, mode: "constant" },
    type: "f32[2,3]",
    values: [7, 7, 7, 0, 1, 7],
  },
  {
    op: "pad",
    inputs: [iota([3])],
    attrs: { before: [2], after: [1], value: 0, mode: "reflect" },
    type: "f32[6]",
    values: [2, 1, 0, 1, 2, 1],
  },
  {
    op: "pad",
    inputs: [iota([2])],
    attrs: { before: [2], after: [3], value: 0, mode: "edge" },
    type: "f32[7]",
    values: [0, 0, 0, 1, 1, 1, 1],
  },
  {
    op: "gather",
    inputs: [iota([2, 3]), i32([2, 1], [-1, 0])],
    attrs: { axis: 1 },
    type: "f32[2,2,1]",
    values: [2, 0, 5, 3],
  },
  { op: "gather", inputs: [iota([3, 2]), i32([], [1])], attrs: { axis: 0 }, type: "f32[2]", values: [2, 3] },
  {
    op: "gather_nd",
    inputs: [iota([2, 2, 2]), i32([2, 2], [0, 1, 1, -1])],
    attrs: { batchDims: 0 },
    type: "f32[2,2]",
    values: [2, 3, 6, 7],
  },
  {
    op: "gather_nd",
    inputs: [iota([2, 2, 2]), i32([2, 1], [1, 0])],
    attrs: { batchDims: 1 },
    type: "f32[2,2]",
    values: [2, 3, 4, 5],
  },
  {
    op: "gather_elements",
    inputs: [iota([2, 3]), i32([2, 2], [0, -1, 1, 1])],
    attrs: { axis: 1 },
    type: "f32[2,2]",
    values: [0, 2, 4, 4],
  },
  {
    op: "gather_elements",
    inputs: [iota([2, 3]), i32([1, 3], [1, 0, 1])],
    attrs: { axis: 0 },
    type: "f32[1,3]",
    values: [3, 1, 5],
  },
  {
    op: "one_hot",
    inputs: [i32([3], [1, -1, 9])],
    attrs: { depth: 3 },
    type: "bool[3,3]",
    values: [0, 1, 0, 0, 0, 1, 0, 0, 0],
  },
  {
    op: "trilu",
    inputs: [iota([3, 3])],
    attrs: { upper: false, k: 0 },
    type: "f32[3,3]",
    values: [0, 0, 0, 3, 4, 0, 6, 7, 8],
  },
  { op: "trilu", inputs: [iota([2, 3])], attrs: { upper: true, k: 1 }, type: "f32[2,3]", values: [0, 1, 2, 0, 0, 5] },
  {
    op: "softmax",
    inputs: [f32([2, 2], [0, 0, 1000, -inf])],
    attrs: { axis: 1 },
    type: "f32[2,2]",
    values: [0.5, 0.5, 1, 0],
  },
  {
    op: "softmax",
    inputs: [f32([2, 1], [0, Math.log(3)])],
    attrs: { axis: 0 },
    type: "f32[2,1]",
    values: [0.25, 0.75],
  },
  {
    op: "log_softmax",
    inputs: [f32([2], [0, Math.log(3)])],
    attrs: { axis: 0 },
    type: "f32[2]",
    values: [Math.log(0.25), Math.log(0.75)],
  },
  {
    op: "layer_norm",
    inputs: [f32([1, 2], [1, 3]), f32([2], [2, 1]), f32([], [10])],
    attrs: { axis: 1, epsilon: 0 },
    type: "f32[1,2]",
    values: [8, 11],
  },
  {
    op: "rms_norm",
    inputs: [f32([2], [3, 4]), f32([2], [1, 2])],
    attrs: { axis: 0, epsilon: 0 },
    type: "f32[2]",
    values: [0.848528, 2.262742],
  },
  {
    op: "conv",
    inputs: [iota([1, 1, 4]), f32([2, 1, 2], [1, 1, 1, -1]), f32([2], [0, 100])],
    attrs: { strides: [1], pads: [1, 0], dilations: [1], group: 1 },
    type: "f32[1,2,4]",
    values: [0, 1, 3, 5, 100, 99, 99, 99],
  },
  {
    op: "conv",
    inputs: [iota([1, 2, 3, 3]), f32([2, 1, 2, 2], [1, 0, 0, 1, 0, 1, 0, 0])],
    attrs: { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [2, 2], group: 2 },
    type: "f32[1,2,1,1]",
    values: [8, 11],
  },
  {
    op: "conv",
    inputs: [iota([1, 1, 3, 3]), f32([1, 1, 2, 2], [1, 1, 1, 1])],
    attrs: { strides: [2, 2], pads: [0, 0, 1, 1], dilations: [1, 1], group: 1 },
    type: "f32[1,1,2,2]",
    values: [8, 7, 13, 8],
  },
  {
    op: "attention",
    inputs: [f32([1, 2, 2, 1], [0, 0, 0, 0]), f32([1, 1, 2, 1], [1, 2]), f32([1, 1, 2, 1], [2, 4])],
    attrs: { scale: 1, causal: true, softcap: 0 },
    type: "f32[1,2,2,1]",
    values: [2, 3, 2, 3],
  },
  {
    op: "attention",
    inputs: [
      f32([1, 1, 1, 1], [1]),
      f32([1, 1, 3, 1], [Math.log(2), 0, 5]),
      f32([1, 1, 3, 1], [3, 6, 9]),
      bool([3], [1, 1, 0]),
    ],
    attrs: { scale: 1, causal: false, softcap: 0 },
    type: "f32[1,1,1,1]",
    values: [4],
  },
];

const rounded = (values: ArrayLike<number>): number[] =>
  Array.from(values, (value) => (value === 0 ? 0 : Number(value.toPrecision(6))));

describe("operations", () => {
  test.each(
    CASES.map((each, place): [string, Case] => [
      `${place} ${each.op}(${each.inputs.map(formatType).join(", ")})`,
      each,
    ]),
  )("%s", (_, { op, inputs, attrs = {}, type, values }) => {
    const result = applyOp(op, inputs, attrs);
    expect(formatType(result)).toBe(type);
    expect(rounded(toNumbers(result))).toEqual(rounded(values));
  });

  test("every operation of one chip has a case, and every one a doc that is a sentence", () => {
    const tested = new Set<string>(CASES.map(({ op }) => op));
    const alone = Object.keys(OPS).filter((op) => opRow(op).group === undefined);
    expect(alone.filter((op) => !tested.has(op))).toEqual(["input", "constant"]);
    expect(Object.entries(OPS).filter(([, row]) => !row.doc.endsWith("."))).toEqual([]);
  });

  test("a matmul is a float64 chain in ascending k, rounded once", () => {
    const [a, b] = [iota([5, 7]), iota([7, 6])].map((tensor) => applyOp("sin", [tensor]));
    if (a === undefined || b === undefined) return;
    const expected = Array.from({ length: 30 }, (_, at) => {
      let sum = 0;
      for (let k = 0; k < 7; k += 1) sum += (a.data[Math.floor(at / 6) * 7 + k] ?? 0) * (b.data[k * 6 + (at % 6)] ?? 0);
      return Math.fround(sum);
    });
    expect(Array.from(applyOp("matmul", [a, b]).data)).toEqual(expected);
  });
});

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof CompileError) return error.message;
    throw error;
  }
  return "no error";
};

test.each<[OpName, readonly TensorType[], Attrs, string]>([
  ["add", [iota([2]), iota([3])], {}, "LPU2010: add: a and b: expected shapes that broadcast, got [2] and [3]"],
  [
    "add",
    [iota([2]), iota([2], "i32")],
    {},
    "LPU2010: add: a and b: expected operands of one element type, got f32[2] and i32[2]",
  ],
  ["add", [iota([2])], {}, "LPU2010: add: expected 2 operands (a, b), got 1"],
  ["exp", [iota([2], "i32")], {}, "LPU2010: exp: x: expected a float type, got i32[2]"],
  ["softmax", [iota([2])], {}, "LPU2011: softmax: expected attribute 'axis', an integer"],
  ["softmax", [iota([2])], { axis: 1 }, "LPU2011: softmax: expected 'axis' from 0 to 0, got 1"],
  ["softmax", [iota([2])], { axis: 0, k: 1 }, "LPU2011: softmax: unknown attribute 'k'"],
  [
    "gelu",
    [iota([2])],
    { approximate: "erf" },
    "LPU2011: gelu: expected attribute 'approximate' to be one of 'none', 'tanh', got \"erf\"",
  ],
  [
    "reduce_sum",
    [iota([2, 2])],
    { axes: [1, 0], keepdims: false },
    "LPU2011: reduce_sum: expected 'axes' to ascend from 0 to at most 1, got [1,0]",
  ],
  [
    "slice",
    [iota([2])],
    { starts: [1], sizes: [2], strides: [1] },
    "LPU2011: slice: expected the slice of axis 0 within 0 to 1, got 1 to 2",
  ],
  [
    "matmul",
    [iota([2, 3]), iota([2, 3])],
    {},
    "LPU2010: matmul: a and b: expected as many columns in a as rows in b, got f32[2,3] and f32[2,3]",
  ],
  ["concat", [iota([2, 3]), iota([3, 3])], { axis: 1 }, "LPU2010: concat: parts: expected shape [2,3], got f32[3,3]"],
])("%s refuses what it does not take", (op, types, attrs, message) => {
  expect(codeOf(() => inferType(op, types, attrs))).toBe(message);
});

test("a gather out of range is an error", () => {
  expect(codeOf(() => applyOp("gather", [iota([2]), i32([1], [2])], { axis: 0 }))).toBe(
    "LPU2013: expected an index from -2 to 1, got 2",
  );
});
