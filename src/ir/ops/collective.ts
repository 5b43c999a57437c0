/**
 * Operations of a group: the chips that run one graph, each with weights of its own, exchange values at these.
 *
 * A split tensor lies in equal consecutive pieces along one axis, piece i on chip i. A partial tensor has its shape on every chip,
 * and its value is the sum over them: in ascending order of chips, in fp32 (integers wrap), rounded once, so that every chip
 * and every way over the wires gives the same bits.
 */

import { fail } from "../../diagnostics.js";
import type { DType } from "../dtype.js";
import { type Attrs, elementCount, type Shape, type Tensor, type TensorType } from "../graph.js";
import { formatType, fromNumbers, newNumbers, toNumbers } from "../tensor.js";
import { numberAttr } from "./attributes.js";
import { type Infer, operand } from "./infer.js";
import { concat, slice } from "./movement.js";

/** Values of an operand by chip, to values of the result by chip. */
export type OnGroup = (values: readonly Tensor[], attrs: Attrs, type: TensorType) => readonly Tensor[];

const wrong = (message: string): never => fail("LPU2011", { message });

const chipsIn = (attrs: Attrs): number => {
  const chips = numberAttr(attrs, "chips");
  return chips >= 2 ? chips : wrong(`expected 'chips' of at least 2, got ${chips}`);
};

/** The shape of one of `chips` pieces along the axis that an attribute names. */
const pieceShape = ({ dtype, shape }: TensorType, attrs: Attrs, name: string): Shape => {
  const [axis, chips] = [numberAttr(attrs, name), chipsIn(attrs)];
  const extent = shape[axis];
  if (extent === undefined) return wrong(`expected '${name}' from 0 to ${shape.length - 1}, got ${axis}`);
  if (extent % chips !== 0 || extent === 0)
    return fail("LPU2010", {
      message: `x: expected an axis ${axis} that ${chips} divides, got ${formatType({ dtype, shape })}`,
    });
  return shape.map((other, at) => (at === axis ? other / chips : other));
};

const wholeShape = ({ shape }: TensorType, attrs: Attrs, name: string): Shape => {
  const [axis, chips] = [numberAttr(attrs, name), chipsIn(attrs)];
  if (shape[axis] === undefined) return wrong(`expected '${name}' from 0 to ${shape.length - 1}, got ${axis}`);
  return shape.map((extent, at) => (at === axis ? extent * chips : extent));
};

const summable = (dtype: DType): boolean => dtype === "f32" || dtype === "f16" || dtype === "i32";
const wantSummable = (type: TensorType): TensorType =>
  summable(type.dtype) ? type : fail("LPU2010", { message: `x: expected f16, f32 or i32, got ${formatType(type)}` });

export const inferPiece: Infer = (types, attrs) => {
  const x = operand(types, 0);
  return { dtype: x.dtype, shape: pieceShape(x, attrs, "axis") };
};
export const inferJoined: Infer = (types, attrs) => {
  const x = operand(types, 0);
  return { dtype: x.dtype, shape: wholeShape(x, attrs, "axis") };
};
export const inferReduced: Infer = (types, attrs) => {
  chipsIn(attrs);
  return wantSummable(operand(types, 0));
};
export const inferScattered: Infer = (types, attrs) => {
  const x = wantSummable(operand(types, 0));
  return { dtype: x.dtype, shape: pieceShape(x, attrs, "axis") };
};
export const inferExchanged: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const whole = { dtype: x.dtype, shape: wholeShape(x, attrs, "from") };
  return { dtype: x.dtype, shape: pieceShape(whole, attrs, "to") };
};

/** The piece along an axis that a chip has of a tensor. */
export const pieceOf = (whole: Tensor, axis: number, chip: number, type: TensorType): Tensor => {
  const starts = type.shape.map((extent, at) => (at === axis ? chip * extent : 0));
  return slice(whole, { starts, sizes: type.shape, strides: type.shape.map(() => 1) }, type);
};

const joinedOf = (pieces: readonly Tensor[], axis: number): Tensor => {
  const { dtype, shape } = operand(pieces, 0);
  const whole = shape.map((extent, at) => (at === axis ? extent * pieces.length : extent));
  return concat(pieces, { axis }, { dtype, shape: whole });
};

const sumOf = (parts: readonly Tensor[]): Tensor => {
  const { dtype, shape } = operand(parts, 0);
  const sum = newNumbers(dtype, elementCount(shape));
  for (const [chip, part] of parts.map(toNumbers).entries())
    if (chip === 0) sum.set(part);
    // Storing rounds to fp32, or wraps.
    else for (let at = 0; at < sum.length; at += 1) sum[at] = (sum[at] as number) + (part[at] as number);
  return fromNumbers(dtype, shape, sum);
};

export const piece: OnGroup = (values, attrs, type) =>
  values.map((whole, chip) => pieceOf(whole, numberAttr(attrs, "axis"), chip, type));

export const join: OnGroup = (values, attrs) => {
  const whole = joinedOf(values, numberAttr(attrs, "axis"));
  return values.map(() => whole);
};

export const allReduce: OnGroup = (values) => {
  const sum = sumOf(values);
  return values.map(() => sum);
};

export const reduceScatter: OnGroup = (values, attrs, type) => {
  const sum = sumOf(values);
  return values.map((_, chip) => pieceOf(sum, numberAttr(attrs, "axis"), chip, type));
};

export const allToAll: OnGroup = (values, attrs, type) => {
  const whole = joinedOf(values, numberAttr(attrs, "from"));
  return values.map((_, chip) => pieceOf(whole, numberAttr(attrs, "to"), chip, type));
};
