/**
 * Tensors in memory: making them, reading and rounding their elements, strides and broadcasting of shapes.
 *
 * Narrow floats are kept as bit patterns; `toNumbers` gives their values and `fromNumbers` rounds values back, so that an
 * evaluation kernel only ever sees plain numbers. A literal made here is a constant that is already in memory.
 */

import { createHash } from "node:crypto";
import { at, type CompileError, fail, invariant } from "../diagnostics.js";
import { type DType, DTYPES, integerLimits, type TensorData } from "./dtype.js";
import { elementCount, type Literal, type Shape, type Tensor, type TensorType } from "./graph.js";
import { firstOverflow, isNarrowFloat, narrowFloats, widenFloats } from "./numerics.js";

/** Data whose elements are their values. */
export type Numbers = Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

export const isFloat = (dtype: DType): boolean => DTYPES[dtype].kind === "float";
export const isInteger = (dtype: DType): boolean => DTYPES[dtype].kind === "int";

export const newData = (dtype: DType, length: number): TensorData => new DTYPES[dtype].array(length);
/** Memory for the values of a dtype: as its data, but fp32 for the narrow floats. */
export const newNumbers = (dtype: DType, length: number): Numbers =>
  isNarrowFloat(dtype) ? new Float32Array(length) : newData(dtype, length);

export function makeTensor(dtype: DType, shape: Shape, data: TensorData): Tensor {
  invariant(
    data.length === elementCount(shape),
    `${elementCount(shape)} elements expected for ${formatType({ dtype, shape })}, ${data.length} given`,
  );
  return { dtype, shape, data };
}

/** Element values; the tensor's own data where that is what they are, so not to be written to. */
export function toNumbers(tensor: Tensor): Numbers {
  const { dtype, data } = tensor;
  if (!isNarrowFloat(dtype)) return data;
  invariant(data instanceof Uint16Array || data instanceof Uint8Array, `${dtype} is kept as bit patterns`);
  return widenFloats(dtype, data);
}

/** Element values as fp32. */
export function toFloats(tensor: Tensor): Float32Array {
  const numbers = toNumbers(tensor);
  return numbers instanceof Float32Array ? numbers : Float32Array.from(numbers);
}

/** A tensor of values as `newNumbers` gives: rounds them to a narrow float if dtype is one. */
export function fromNumbers(dtype: DType, shape: Shape, values: Numbers): Tensor {
  if (!isNarrowFloat(dtype)) return makeTensor(dtype, shape, values);
  invariant(values instanceof Float32Array, `values of ${dtype} are fp32`);
  return makeTensor(dtype, shape, narrowFloats(dtype, values).data);
}

/** A tensor from plain numbers, rounded to the dtype. */
export function tensorOf(dtype: DType, shape: Shape, values: ArrayLike<number>): Tensor {
  const numbers = newNumbers(dtype, values.length);
  numbers.set(values);
  return fromNumbers(dtype, shape, numbers);
}

/** Where the first value is that a dtype does not hold: floats round, and hold what is finite after it. */
export function firstUnheld(dtype: DType, values: ArrayLike<number>): number | undefined {
  if (isFloat(dtype)) return firstOverflow(values, toNumbers(tensorOf(dtype, [values.length], values)));
  const { lo, hi } = integerLimits(dtype) ?? { lo: 0, hi: 1 };
  const isHeld = (value: number): boolean => Number.isInteger(value) && value >= lo && value <= hi;
  const index = Array.from(values).findIndex((value) => !isHeld(value));
  return index < 0 ? undefined : index;
}

export const scalarOf = (dtype: DType, value: number): Tensor => tensorOf(dtype, [], [value]);

/** Names contents: two tensors of one type have equal keys when, and only when, their data are equal. */
export function contentKey(tensor: Tensor): string {
  const { data } = tensor;
  if (data.length <= 4 && tensor.dtype !== "f32") return `${formatType(tensor)}=${data.join(",")}`;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return `${formatType(tensor)}#${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}`;
}

export function literalOf(tensor: Tensor, key: string = contentKey(tensor)): Literal {
  return { dtype: tensor.dtype, shape: tensor.shape, key, load: () => tensor };
}

export const formatShape = (shape: Shape): string => `[${shape.join(",")}]`;
/** As in the text form: `f16[128,64]`. */
export const formatType = (type: TensorType): string => `${type.dtype}${formatShape(type.shape)}`;

export const equalShapes = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((extent, axis) => extent === b[axis]);
export const equalTypes = (a: TensorType, b: TensorType): boolean =>
  a.dtype === b.dtype && equalShapes(a.shape, b.shape);

/** The extent of the last axis, of a shape that has one. */
export const lastExtentOf = (shape: Shape): number => at(shape, shape.length - 1, "extent");

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    strides[axis] = stride;
    stride *= at(shape, axis, "extent");
  }
  return strides;
}

/** Strides that read an operand as if it had the broadcast shape: 0 along the axes that repeat. */
export function broadcastStrides(operand: Shape, result: Shape): number[] {
  const own = stridesOf(operand);
  const lead = result.length - operand.length;
  return result.map((_, axis) => (axis < lead || operand[axis - lead] === 1 ? 0 : at(own, axis - lead, "extent")));
}

/** The common shape of operands under numpy's broadcasting, or a CompileError that names them. */
export function broadcastShapes(shapes: readonly Shape[], what: string): Shape {
  const [first = []] = shapes;
  if (shapes.every((shape) => equalShapes(shape, first))) return first;
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const common = new Array<number>(rank).fill(1);
  for (const shape of shapes)
    for (let axis = 0; axis < shape.length; axis++) {
      const own = shape[axis] as number;
      const at = axis + rank - shape.length;
      if (own === 1 || own === common[at]) continue;
      if (common[at] !== 1)
        fail("LPU2010", {
          message: `${what}: expected shapes that broadcast, got ${shapes.map(formatShape).join(" and ")}`,
        });
      common[at] = own;
    }
  return common;
}

/** Integers of 64 bits, some of which 32 bits do not hold: a value for inputs that are fixed, and for no others. */
export interface WideTensor {
  readonly shape: Shape;
  /** Pairs of 32-bit words, low first. */
  readonly words: Int32Array;
  readonly unsigned: boolean;
  /** What is said where they are used as integers of 32 bits. */
  readonly problem: CompileError;
}
export const isWideTensor = (value: object): value is WideTensor => "words" in value;

/** A tensor for where integers beyond 32 bits are of no use: their problem is raised. */
export function narrowTensor(tensor: Tensor | WideTensor): Tensor {
  if (isWideTensor(tensor)) throw tensor.problem;
  return tensor;
}
