/**
 * Tensors where the user's world meets the machine's: files and arrays with wide dtypes outside, narrow ones inside.
 *
 * int64 narrows to int32 and fp64 to fp32, with a range check; outputs widen back to the dtype that the model declares.
 * What a user gives for inputs is checked as a whole: every unknown name, missing input, wrong shape and wrong dtype is
 * found before anything runs, and all of them are one error.
 */

import { CompileError, didYouMean, fail } from "../diagnostics.js";
import { bytesOf, type DType, DTYPES, type EdgeDType, isSubByte, type TensorData } from "../ir/dtype.js";
import { elementCount, type Shape, type Tensor } from "../ir/graph.js";
import { isNarrowFloat, narrowDoubles, narrowInt64 } from "../ir/numerics.js";
import {
  equalShapes,
  firstUnheld,
  formatShape,
  makeTensor,
  tensorOf,
  toFloats,
  type WideTensor,
} from "../ir/tensor.js";
import type { FileTensor } from "./npy.js";

/** An input or output as the user sees it. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: EdgeDType;
  readonly shape: Shape;
}

/** Data without a shape takes the shape that the model has; its element type must be one that the declared dtype is kept in. */
export type InputValue = Tensor | TensorData | BigInt64Array | BigUint64Array | Float64Array | readonly number[];

/** What the machine keeps a dtype of a file in. */
export function narrowDtype(dtype: EdgeDType): DType {
  switch (dtype) {
    case "i64":
    case "u64":
      return "i32";
    case "f64":
      return "f32";
    default:
      return dtype;
  }
}

export const edgeBytes = (dtype: EdgeDType): number =>
  dtype === "i64" || dtype === "u64" || dtype === "f64" ? 8 : DTYPES[dtype].bytes;

/** With integers beyond 32 bits, where they may be of use. `what` names the tensor in errors. */
export function wideFromFile({ dtype, shape, bytes }: FileTensor, what: string): Tensor | WideTensor {
  // A copy, because typed arrays must be aligned and bytes of a file need not be.
  const aligned = bytes.slice();
  const buffer = aligned.buffer;
  const length = elementCount(shape);
  switch (dtype) {
    case "i64":
    case "u64": {
      const [words, unsigned] = [new Int32Array(buffer), dtype === "u64"];
      try {
        return makeTensor("i32", shape, narrowInt64(words, { node: what, unsigned }));
      } catch (error) {
        if (!(error instanceof CompileError)) throw error;
        return { shape, words, unsigned, problem: error };
      }
    }
    case "f64":
      return makeTensor("f32", shape, narrowDoubles(new Float64Array(buffer), what));
    default:
      return makeTensor(dtype, shape, new DTYPES[dtype].array(buffer, 0, length));
  }
}

/** The type of a byte that integers of fewer bits are kept in, in memory and in files. */
const byteDtype = (dtype: DType): "i8" | "u8" => (DTYPES[dtype].array === Int8Array ? "i8" : "u8");

/** For writing: widened to the declared dtype; narrow floats for which files have no type are written as fp32, which holds them exactly. */
export function fileFromTensor(tensor: Tensor, declared: EdgeDType): FileTensor {
  const { dtype, shape, data } = tensor;
  if (isNarrowFloat(dtype) && dtype !== "f16") return { dtype: "f32", shape, bytes: bytesOf(toFloats(tensor)) };
  if (isSubByte(dtype)) return { dtype: byteDtype(dtype), shape, bytes: bytesOf(data) };
  switch (declared) {
    case "i64":
    case "u64":
      return { dtype: declared, shape, bytes: bytesOf(BigInt64Array.from(data, BigInt)) };
    case "f64":
      return { dtype: "f64", shape, bytes: bytesOf(Float64Array.from(data)) };
    default:
      return { dtype, shape, bytes: bytesOf(data) };
  }
}

/** Tensors for all inputs in the order of `specs`, or one error that says everything that is wrong. */
export function bindInputs(
  specs: readonly TensorSpec[],
  given: Readonly<Record<string, InputValue>>,
): Record<string, Tensor> {
  const known = specs.map((spec) => spec.name);
  const problems: CompileError[] = [];
  const bound: Record<string, Tensor> = {};
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    problems.push(
      new CompileError("LPU5004", {
        message: `unknown input '${name}'`,
        hint: `${didYouMean(name, known)}the program takes ${listSpecs(specs)}`,
      }),
    );
  }
  for (const spec of specs) {
    const value = Object.hasOwn(given, spec.name) ? given[spec.name] : undefined;
    if (value === undefined) {
      problems.push(
        new CompileError("LPU5005", {
          message: `input '${spec.name}' is missing`,
          hint: `expected ${describeSpec(spec)}`,
        }),
      );
      continue;
    }
    try {
      bound[spec.name] = bindInput(spec, value);
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      problems.push(error);
    }
  }
  throwTogether(problems);
  return bound;
}

/** One error that holds them all, the first in front; nothing when there are none. */
export function throwTogether(problems: readonly CompileError[]): void {
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, [...first.others, ...others]);
}

const describeSpec = (spec: TensorSpec): string => `'${spec.name}' ${spec.dtype}${formatShape(spec.shape)}`;
const listSpecs = (specs: readonly TensorSpec[]): string =>
  specs.length === 0 ? "no inputs" : specs.map(describeSpec).join(", ");

function bindInput(spec: TensorSpec, value: InputValue): Tensor {
  const tensor = isTensor(value) ? value : tensorOfData(spec, value);
  if (!equalShapes(tensor.shape, spec.shape)) {
    fail("LPU5006", {
      message: `input '${spec.name}': expected shape ${formatShape(spec.shape)}, found ${formatShape(tensor.shape)}`,
      hint: "give a tensor of this shape, or build again with other dimensions (--bind)",
    });
  }
  const dtype = narrowDtype(spec.dtype);
  const isUnpacked = isSubByte(dtype) && tensor.dtype === byteDtype(dtype);
  if (tensor.dtype !== dtype && !isUnpacked) {
    fail("LPU5007", {
      message: `input '${spec.name}': expected dtype ${spec.dtype}, found ${tensor.dtype}`,
      hint: `convert the tensor to ${spec.dtype}`,
    });
  }
  // Bytes that stand for integers of fewer bits must be such.
  if (isSubByte(dtype)) wantHeld(spec, dtype, tensor.data);
  return { ...tensor, dtype };
}

const isTensor = (value: InputValue): value is Tensor => "dtype" in value;

function tensorOfData(spec: TensorSpec, value: Exclude<InputValue, Tensor>): Tensor {
  const dtype = narrowDtype(spec.dtype);
  const expected = elementCount(spec.shape);
  if (value.length !== expected) {
    fail("LPU5006", {
      message: `input '${spec.name}': expected ${expected} elements for shape ${formatShape(spec.shape)}, found ${value.length}`,
      hint: "give every element in row-major order, or build again with other dimensions (--bind)",
    });
  }
  if (value instanceof BigInt64Array || value instanceof BigUint64Array) {
    if (dtype !== "i32")
      fail("LPU5007", {
        message: `input '${spec.name}': expected dtype ${spec.dtype}, found 64-bit integers`,
        hint: `convert the data to ${spec.dtype}`,
      });
    const words = new Int32Array(value.buffer, value.byteOffset, 2 * value.length);
    return makeTensor(
      "i32",
      spec.shape,
      narrowInt64(words, { node: `input '${spec.name}'`, unsigned: value instanceof BigUint64Array }),
    );
  }
  if (value instanceof Float64Array || Array.isArray(value)) return tensorOfNumbers(spec, dtype, value);
  const data: TensorData = typedData(value);
  if (!(data instanceof DTYPES[dtype].array)) {
    fail("LPU5007", {
      message: `input '${spec.name}': expected dtype ${spec.dtype} in ${DTYPES[dtype].array.name}, found ${data.constructor.name}`,
      hint: `give the data as ${DTYPES[dtype].array.name}, or as plain numbers`,
    });
  }
  return makeTensor(dtype, spec.shape, data);
}

/** `Array.isArray` does not narrow readonly arrays away, so this says it once. */
function typedData(value: TensorData | readonly number[]): TensorData {
  return ArrayBuffer.isView(value) ? value : Float32Array.from(value);
}

function wantHeld(spec: TensorSpec, dtype: DType, values: ArrayLike<number>): void {
  const unheld = firstUnheld(dtype, values);
  if (unheld !== undefined)
    fail("LPU5007", {
      message: `input '${spec.name}': expected elements of ${spec.dtype}, element ${unheld} is ${values[unheld]}`,
      hint: `give numbers that ${spec.dtype} holds; 64-bit integers are kept in 32 bits`,
    });
}

/** Plain numbers take the declared dtype; for integers they must be integers that it holds. */
function tensorOfNumbers(spec: TensorSpec, dtype: DType, values: ArrayLike<number>): Tensor {
  wantHeld(spec, dtype, values);
  return tensorOf(dtype, spec.shape, values);
}
