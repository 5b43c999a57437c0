/** Sequences of static structure against ONNX Runtime, and sparse constants. */

import { expect, test } from "@jest/globals";
import protobuf from "protobufjs/minimal.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { evaluate } from "../src/ir/evaluate.js";
import { tensorOf } from "../src/ir/tensor.js";
import { constant, expectAgreement, type NodeCase, node, type Operand, refusalOf, varied, whole } from "./agreement.js";

const sequences = (
  nodes: NonNullable<NodeCase["nodes"]>,
  operands: readonly Operand[],
  results?: NodeCase["results"],
) => ({ op: "few", opset: 17, nodes, operands, ...(results === undefined ? {} : { results }) }) satisfies NodeCase;
const number = (value: number): Operand => constant(whole([], [value]));

test("parts of an even length with a shorter last one, of given lengths, and of one place each", async () => {
  const last = (inputs: string[], attributes = {}) => [
    node("SplitToSequence", inputs, ["s"], { axis: 1, ...attributes }),
    node("SequenceAt", ["s", "x2"], ["y0"]),
    node("SequenceLength", ["s"], ["y1"]),
  ];
  const results = ["float32", "int64"] as const;
  await expectAgreement(sequences(last(["x0", "x1"]), [varied(2, 7), number(3), number(-1)], results));
  const lengths = constant(whole([3], [1, 4, 2]));
  await expectAgreement(sequences(last(["x0", "x1"]), [varied(2, 7), lengths, number(1)], results));
  for (const keepdims of [0, 1])
    await expectAgreement(sequences(last(["x0"], { keepdims }), [varied(2, 7), number(0), number(2)], results));
});

test("lists are built, changed and joined", async () => {
  const built = [
    node("SequenceConstruct", ["x0", "x1", "x0"], ["a"]),
    node("Identity", ["a"], ["same"]),
    node("SequenceInsert", ["same", "x2", "x3"], ["b"]),
    node("SequenceErase", ["b", "x4"], ["c"]),
    node("SequenceInsert", ["c", "x1"], ["d"]),
  ];
  const operands = [varied(2, 3), varied(2, 3), constant(varied(2, 3)), number(1), number(-1)];
  await expectAgreement(sequences([...built, node("ConcatFromSequence", ["d"], ["y0"], { axis: 1 })], operands));
  await expectAgreement(
    sequences([...built, node("ConcatFromSequence", ["d"], ["y0"], { axis: -1, new_axis: 1 })], operands),
  );
});

test("what no list can be is refused", () => {
  const split = node("SplitToSequence", ["x0", "x1"], ["s"], {});
  const of = (...rest: NonNullable<NodeCase["nodes"]>) =>
    refusalOf(sequences([split, ...rest], [varied(4), number(2)]));
  expect(of(node("Relu", ["s"], ["y0"]))).toMatch(/^LPU1009: operand 0 is a sequence/);
  expect(of(node("Identity", ["s"], ["y0"]))).toMatch(/^LPU1009: output 'y0' is a sequence/);
  expect(of(node("SequenceAt", ["s", "x1"], ["y0"]))).toMatch(/^LPU1012: expected a position from -2 to 1, got 2/);
});

// A sparse initializer, written by hand: the writer of the models has none.

const int64s = (values: readonly number[]) => new Uint8Array(BigInt64Array.from(values, BigInt).buffer);

function tensorProto(type: number, dims: readonly number[], raw: Uint8Array, name: string): Uint8Array {
  const writer = new protobuf.Writer();
  for (const extent of dims) writer.uint32(8).int64(extent);
  return writer.uint32(16).int32(type).uint32(66).string(name).uint32(74).bytes(raw).finish();
}

function sparseModel(indexDims: readonly number[], indices: readonly number[]): Uint8Array {
  const values = tensorProto(1, [2], new Uint8Array(Float32Array.of(5, -3).buffer), "w");
  const places = tensorProto(7, indexDims, int64s(indices), "");
  const sparse = new protobuf.Writer().uint32(10).bytes(values).uint32(18).bytes(places);
  for (const extent of [2, 3]) sparse.uint32(24).int64(extent);
  const relu = new protobuf.Writer().uint32(10).string("w").uint32(18).string("y").uint32(34).string("Neg").finish();
  const output = new protobuf.Writer().uint32(10).string("y").finish();
  const graph = new protobuf.Writer().uint32(10).bytes(relu).uint32(18).string("g").uint32(98).bytes(output);
  graph.uint32(122).bytes(sparse.finish());
  const opset = new protobuf.Writer().uint32(16).int64(17).finish();
  return new protobuf.Writer().uint32(8).int64(8).uint32(58).bytes(graph.finish()).uint32(66).bytes(opset).finish();
}

test("a sparse constant has its zeros", () => {
  const run = (bytes: Uint8Array) => evaluate(importModel(bytesSource("m", bytes), { bind: {} }), {});
  const dense = tensorOf("f32", [2, 3], [-0, -5, -0, -0, -0, 3]);
  expect(run(sparseModel([2], [1, 5]))).toEqual([dense]);
  expect(run(sparseModel([2, 2], [0, 1, 1, 2]))).toEqual([dense]);
  expect(() => run(sparseModel([2], [1, 6]))).toThrow(/LPU1008: sparse tensor 'w' has a value at place 6 of 6/);
  expect(() => run(sparseModel([1], [1]))).toThrow(/LPU1008: sparse tensor 'w' has 2 values and indices \[1\]/);
});
