/**
 * Inputs that are fixed: values given for inputs when a program is compiled, as tensors that take the inputs' places.
 *
 * A list of numbers is written by hand and takes its element type and shape from what the model declares; a tensor must be of
 * both already. Nothing is rounded or repeated to fit: a value that the element type does not hold is an error.
 */

import { CompileError, sure } from "../diagnostics.js";
import { elementCount, type Shape, type Tensor } from "../ir/graph.js";
import {
  equalShapes,
  firstUnheld,
  formatShape,
  formatType,
  isWideTensor,
  tensorOf,
  type WideTensor,
} from "../ir/tensor.js";
import type { ValueInfoProto } from "./schema.js";
import { elementType } from "./tensors.js";

/** A tensor, also of integers beyond 32 bits, or the elements of one in row-major order. */
export type FixedValue = Tensor | WideTensor | readonly (number | boolean)[];

const isList = (value: FixedValue): value is readonly (number | boolean)[] => Array.isArray(value);

/** The shape that a value asks for: that of a tensor, or of a list for an input with less than two dimensions. */
export function shapeOfFixed(value: FixedValue, input: ValueInfoProto | undefined): Shape | undefined {
  if (!isList(value)) return value.shape;
  const rank = input?.type?.tensorType?.shape?.dim.length;
  if (rank === 0) return [];
  return rank === 1 ? [value.length] : undefined;
}

/** The constants for inputs that are fixed; `shapes` are those of all inputs. Everything that does not fit is one error (LPU1005). */
export function fixedTensors(
  inputs: readonly ValueInfoProto[],
  shapes: ReadonlyMap<string, Shape>,
  fix: Readonly<Record<string, FixedValue>>,
): ReadonlyMap<string, Tensor | WideTensor> {
  const problems: CompileError[] = [];
  const tensors = new Map<string, Tensor | WideTensor>();
  for (const input of inputs) {
    const value = Object.hasOwn(fix, input.name) ? fix[input.name] : undefined;
    if (value === undefined) continue;
    const made = fixedTensor(input, sure(shapes.get(input.name), "shape"), value);
    if (made instanceof CompileError) problems.push(made);
    else tensors.set(input.name, made);
  }
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return tensors;
}

function fixedTensor(
  { name, type }: ValueInfoProto,
  shape: Shape,
  value: FixedValue,
): Tensor | WideTensor | CompileError {
  const { dtype, edge } = elementType(type?.tensorType?.elemType ?? 0, `input '${name}'`);
  const refuse = (expected: string, found: string, hint: string): CompileError =>
    new CompileError("LPU1005", { message: `input '${name}' expects ${expected}, got ${found}`, hint });
  const declared = `${edge}${formatShape(shape)}`;
  if (!isList(value) && isWideTensor(value))
    return edge === (value.unsigned ? "u64" : "i64") && equalShapes(value.shape, shape)
      ? value
      : refuse(declared, `64-bit integers of ${formatShape(value.shape)}`, value.problem.details.message);
  if (!isList(value))
    return value.dtype === dtype && equalShapes(value.shape, shape)
      ? value
      : refuse(
          declared,
          `a constant of ${formatType(value)}`,
          "give the tensor in the element type and shape that the model declares",
        );
  const elements = elementCount(shape);
  if (value.length !== elements)
    return refuse(
      `${elements} elements for ${declared}`,
      `${value.length}`,
      "list every element in row-major order, or give a .npy file",
    );
  if (edge !== "bool" && value.some((element) => typeof element === "boolean"))
    return refuse(`numbers for ${declared}`, "true or false", "only inputs of truth values take true and false");
  const numbers = value.map(Number);
  const unheld = firstUnheld(dtype, numbers);
  return unheld === undefined
    ? tensorOf(dtype, shape, numbers)
    : refuse(
        `elements of ${edge}`,
        `${numbers[unheld]} at element ${unheld}`,
        HELD[edge] ?? `${edge} does not hold it`,
      );
}

/** What is kept in a narrower type than it is declared in. */
const HELD: Readonly<Record<string, string>> = {
  i64: "64-bit integers are kept in 32 bits: give whole numbers from -2147483648 to 2147483647",
  u64: "64-bit integers are kept in 32 bits: give whole numbers from 0 to 2147483647",
  bool: "truth values are true and false, or 1 and 0",
};
