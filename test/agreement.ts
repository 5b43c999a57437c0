/**
 * One ONNX node, or a few, against ONNX Runtime: the imported graph, evaluated, gives what ONNX Runtime gives; and so does the compiled
 * program on the machine, within the tolerance of fp16.
 */

import { expect } from "@jest/globals";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import {
  type AttributeValue,
  type ElementType,
  modelBytes,
  type OnnxModel,
  type OnnxNode,
} from "../models/onnx-writer.js";
import { joinChunks } from "../src/host/build.js";
import { compile } from "../src/compile.js";
import { CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import type { DType } from "../src/ir/dtype.js";
import { evaluate } from "../src/ir/evaluate.js";
import { elementCount, type Graph, type Tensor } from "../src/ir/graph.js";
import { narrowFloat } from "../src/ir/numerics.js";
import { isFloat, makeTensor, tensorOf } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";
import { distance } from "./compiled.js";

export interface Operand {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly values: readonly number[];
  /** Part of the model, and no input. */
  readonly constant?: boolean;
}

export interface NodeCase {
  readonly op: string;
  /** In place of the one node: from the operands `x0`, `x1`, .. to the results `y0`, `y1`, .. */
  readonly nodes?: readonly OnnxNode[];
  readonly domain?: string;
  readonly opset?: number;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  /** Undefined where an optional operand is left out. */
  readonly operands: readonly (Operand | undefined)[];
  /** Element types of the results; one float by default. */
  readonly results?: readonly ElementType[];
}

const ARRAYS = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: Uint16Array,
  uint32: Uint32Array,
  float8e4m3fn: Uint8Array,
  float8e5m2: Uint8Array,
  uint4: Uint8Array,
  int4: Int8Array,
} as const;
const DTYPE: Readonly<Record<ElementType, DType>> = {
  float32: "f32",
  uint8: "u8",
  int8: "i8",
  uint16: "u16",
  int16: "i16",
  int32: "i32",
  int64: "i32",
  bool: "bool",
  float16: "f16",
  uint32: "u32",
  float8e4m3fn: "f8e4m3",
  float8e5m2: "f8e5m2",
  uint4: "u4",
  int4: "i4",
};

const arrayOf = ({ type, values }: Operand) => {
  if (type === "int64") return BigInt64Array.from(values, BigInt);
  if (type === "float16") return Uint16Array.from(values, (value) => narrowFloat("f16", value));
  if (type === "float8e4m3fn") return Uint8Array.from(values, (value) => narrowFloat("f8e4m3", value));
  if (type === "float8e5m2") return Uint8Array.from(values, (value) => narrowFloat("f8e5m2", value));
  if (type !== "uint4" && type !== "int4") return ARRAYS[type].from(values);
  const nibble = (index: number): number => (values[index] ?? 0) & 15;
  return Uint8Array.from({ length: Math.ceil(values.length / 2) }, (_, i) => nibble(2 * i) | (nibble(2 * i + 1) << 4));
};
const bytesOf = (operand: Operand): Uint8Array => new Uint8Array(arrayOf(operand).buffer);

export const float = (dims: readonly number[], values: readonly number[]): Operand => ({
  type: "float32",
  dims,
  values,
});
export const whole = (dims: readonly number[], values: readonly number[], type: ElementType = "int64"): Operand => ({
  type,
  dims,
  values,
});
export const constant = (operand: Operand): Operand => ({ ...operand, constant: true });
/** Numbers that differ, of either sign, in steps of 1/8. */
export const varied = (...dims: readonly number[]): Operand =>
  float(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => (((i * 37) % 101) - 50) / 8),
  );

export const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: OnnxNode["attributes"] = {},
): OnnxNode => ({ op, name: `${op}-${outputs[0] ?? ""}`, inputs, outputs, attributes });

const named = (operands: NodeCase["operands"], isConstant: boolean) =>
  operands.flatMap((operand, i) =>
    operand !== undefined && (operand.constant ?? false) === isConstant ? [{ ...operand, name: `x${i}` }] : [],
  );

/** A model of the one node; `shapes` are those of its results. */
export function modelOf(given: NodeCase, shapes: readonly (readonly number[])[] = []): OnnxModel {
  const results = given.results ?? ["float32"];
  return {
    name: given.op,
    opset: given.opset ?? 18,
    nodes: given.nodes ?? [
      {
        op: given.op,
        ...(given.domain === undefined ? {} : { domain: given.domain }),
        name: "node",
        inputs: given.operands.map((operand, i) => (operand === undefined ? "" : `x${i}`)),
        outputs: results.map((_, i) => `y${i}`),
        attributes: given.attributes ?? {},
      },
    ],
    inputs: named(given.operands, false).map(({ name, type, dims }) => ({ name, type, dims })),
    outputs: results.map((type, i) => ({ name: `y${i}`, type, dims: shapes[i] ?? [] })),
    initializers: named(given.operands, true).map((operand) => ({
      name: operand.name,
      type: operand.type,
      dims: operand.dims,
      chunks: () => [bytesOf(operand)],
    })),
  };
}

const inputsOf = (given: NodeCase): Record<string, Tensor> =>
  Object.fromEntries(
    named(given.operands, false).map(({ name, type, dims, values }) => [name, tensorOf(DTYPE[type], dims, values)]),
  );

export const importNode = (given: NodeCase): Graph =>
  importModel(bytesSource("node", modelBytes(modelOf(given))), { bind: {} });

/** What the import of a node is refused with; "none" if it is not. */
export function refusalOf(given: NodeCase): string {
  try {
    importNode(given);
  } catch (error) {
    if (error instanceof CompileError) return error.message;
    throw error;
  }
  return "none";
}

/** ONNX Runtime's own name of a type; it takes FP8 as constants only. */
function runtimeType(type: ElementType): Exclude<ElementType, "float8e4m3fn" | "float8e5m2"> {
  if (type === "float8e4m3fn" || type === "float8e5m2") throw new Error("FP8 inputs are not tested");
  return type;
}

/** What ONNX Runtime makes of a model; its optimizations may quantize what is not quantized. */
async function runtimeResults(model: OnnxModel, given: NodeCase, optimized: boolean): Promise<Tensor[]> {
  const session = await InferenceSession.create(modelBytes(model), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    graphOptimizationLevel: optimized ? "all" : "disabled",
    // Without it, its products of uint8 and int8 saturate at 16 bits on processors that lack VNNI.
    extra: { session: { x64quantprecision: "1" } },
  });
  const feeds = Object.fromEntries(
    named(given.operands, false).map((operand) => [
      operand.name,
      new OrtTensor(runtimeType(operand.type), arrayOf(operand), operand.dims),
    ]),
  );
  const results = await session.run(feeds);
  await session.release();
  return model.outputs.map(({ name, type }) => {
    const result = results[name];
    const data = result?.data ?? [];
    if (type === "float16") return makeTensor("f16", result?.dims ?? [], Uint16Array.from(data as ArrayLike<number>));
    return tensorOf(DTYPE[type], result?.dims ?? [], Array.from(data as ArrayLike<number | bigint>, Number));
  });
}

/** Of the evaluator's fp32 to ONNX Runtime's, and of the machine's fp16. */
const EVALUATED = 1e-5;
const COMPUTED = 5e-3;

/** Fails unless evaluator and, with `machine`, the compiled program agree with ONNX Runtime. */
export async function expectAgreement(
  given: NodeCase,
  { machine = true, evaluated = EVALUATED, optimized = true } = {},
): Promise<void> {
  const graph = importNode(given);
  const inputs = inputsOf(given);
  const actual = evaluate(graph, inputs);
  const model = modelOf(
    given,
    actual.map(({ shape }) => shape),
  );
  const wanted = await runtimeResults(model, given, optimized);
  expectClose("evaluated", actual, wanted, evaluated);
  if (!machine) return;
  const loaded = loadImage(joinChunks(compile(bytesSource("node", modelBytes(model)), {}).image())).entry();
  const { outputs } = loaded.run(inputs);
  expectClose(
    "computed",
    model.outputs.map(({ name }) => outputs[name]),
    wanted,
    COMPUTED,
  );
}

function expectClose(
  who: string,
  actual: readonly (Tensor | undefined)[],
  wanted: readonly Tensor[],
  bound: number,
): void {
  wanted.forEach((tensor, i) => {
    const error = distance(actual[i], tensor);
    const most = isFloat(tensor.dtype) ? bound : 0;
    expect({ who, result: i, got: error <= most ? tensor : actual[i], error: error <= most }).toEqual({
      who,
      result: i,
      got: tensor,
      error: true,
    });
  });
}
