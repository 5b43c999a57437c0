/**
 * Evaluation of element by element operations with numpy's broadcasting.
 *
 * A scalar function takes and gives plain numbers; storing its result in an array of the result's type rounds it to fp32 or
 * wraps it to the integer width, and narrow floats are rounded once more. Loops: equal shapes, one operand a scalar, and the
 * general case, in which the innermost axis is a strided loop. Transcendental functions are those of `functions.ts`, so
 * that folding a constant gives the same bits on every host.
 */

import { at } from "../../diagnostics.js";
import { elementCount, type Shape, type Tensor, type TensorType } from "../graph.js";
import { aluUnary, roundEven } from "../functions.js";
import { integerLimits, isSubByte, type Limits } from "../dtype.js";
import { broadcastStrides, fromNumbers, isFloat, isInteger, newData, newNumbers, toNumbers } from "../tensor.js";

export type Unary = (x: number) => number;
export type Binary = (a: number, b: number) => number;

export const UNARY = {
  neg: (x) => -x,
  abs: Math.abs,
  exp: aluUnary.exp,
  log: aluUnary.log,
  sqrt: Math.sqrt,
  rsqrt: aluUnary.rsqrt,
  reciprocal: (x) => 1 / x,
  tanh: aluUnary.tanh,
  sigmoid: aluUnary.sigmoid,
  erf: aluUnary.erf,
  sin: aluUnary.sin,
  cos: aluUnary.cos,
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundEven,
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : x),
  relu: (x) => Math.max(x, 0),
  not: (x) => (x === 0 ? 1 : 0),
  isNan: (x) => (Number.isNaN(x) ? 1 : 0),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  geluErf: (x) => 0.5 * x * (1 + aluUnary.erf(x * Math.SQRT1_2)),
  geluTanh: (x) => 0.5 * x * (1 + aluUnary.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  silu: (x) => x * aluUnary.sigmoid(x),
} satisfies Record<string, Unary>;

/** An operation on `count` fp32 elements: results from `start` on, operands `a.by` and `b.by` elements apart. */
type FloatRow = (out: Float32Array, start: number, count: number, a: RowOperand, b: RowOperand) => void;

interface RowOperand {
  readonly from: Float32Array;
  readonly at: number;
  readonly by: number;
}

interface BinaryForm {
  readonly float: Binary;
  readonly int?: Binary;
  /** The float form with a loop of its own, for what weights go through by the million: calls by element take ten times as long. */
  readonly row?: FloatRow;
}

const addRow: FloatRow = (out, start, count, { from: a, at: i, by: di }, { from: b, at: j, by: dj }) => {
  for (let n = 0; n < count; n += 1) out[start + n] = (a[i + n * di] as number) + (b[j + n * dj] as number);
};
const subRow: FloatRow = (out, start, count, { from: a, at: i, by: di }, { from: b, at: j, by: dj }) => {
  for (let n = 0; n < count; n += 1) out[start + n] = (a[i + n * di] as number) - (b[j + n * dj] as number);
};
const mulRow: FloatRow = (out, start, count, { from: a, at: i, by: di }, { from: b, at: j, by: dj }) => {
  for (let n = 0; n < count; n += 1) out[start + n] = (a[i + n * di] as number) * (b[j + n * dj] as number);
};

/** Float and integer forms where they differ; an integer division by zero gives zero. */
export const BINARY = {
  add: { float: (a, b) => a + b, row: addRow },
  sub: { float: (a, b) => a - b, row: subRow },
  mul: { float: (a, b) => a * b, int: Math.imul, row: mulRow },
  div: { float: (a, b) => a / b, int: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)) },
  pow: { float: power, int: integerPower },
  max: { float: Math.max },
  min: { float: Math.min },
  mod: { float: (a, b) => a % b, int: (a, b) => (b === 0 ? 0 : a - b * Math.floor(a / b)) },
  eq: { float: (a, b) => (a === b ? 1 : 0) },
  lt: { float: (a, b) => (a < b ? 1 : 0) },
  le: { float: (a, b) => (a <= b ? 1 : 0) },
  gt: { float: (a, b) => (a > b ? 1 : 0) },
  ge: { float: (a, b) => (a >= b ? 1 : 0) },
  and: { float: (a, b) => a & b },
  or: { float: (a, b) => a | b },
  xor: { float: (a, b) => a ^ b },
  bitAnd: { float: (a, b) => a & b },
  bitOr: { float: (a, b) => a | b },
  bitXor: { float: (a, b) => a ^ b },
  shiftLeft: { float: (a, b) => a << (b & 31) },
  shiftRight: { float: (a, b) => Math.floor(a / 2 ** (b & 31)) },
} satisfies Record<string, BinaryForm>;

/** As IEEE 754 (and not as Math.pow): 1 to any power, and -1 to an infinite one, are 1. Small whole exponents are products. */
function power(a: number, b: number): number {
  if (a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY)) return 1;
  if (b === 2) return a * a;
  if (b === 3) return a * a * a;
  if (b === 0.5) return Math.sqrt(a);
  return a ** b;
}

function integerPower(a: number, b: number): number {
  if (b < 0) return a === 1 ? 1 : a === -1 ? (b % 2 === 0 ? 1 : -1) : 0;
  let [product, square] = [1, a | 0];
  for (let rest = b; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) product = Math.imul(product, square);
    square = Math.imul(square, square);
  }
  return product;
}

export function mapUnary(fn: Unary, x: Tensor, type: TensorType): Tensor {
  const source = toNumbers(x);
  const out = newNumbers(type.dtype, source.length);
  for (let i = 0; i < out.length; i += 1) out[i] = fn(source[i] as number);
  return fromNumbers(type.dtype, type.shape, out);
}

export function mapBinary(form: BinaryForm, a: Tensor, b: Tensor, type: TensorType): Tensor {
  const [left, right] = [toNumbers(a), toNumbers(b)];
  const out = newNumbers(type.dtype, elementCount(type.shape));
  const fn = isInteger(a.dtype) ? (form.int ?? form.float) : form.float;
  const { row } = form;
  const isFp32 = left instanceof Float32Array && right instanceof Float32Array && out instanceof Float32Array;
  const visit =
    row !== undefined && isFp32
      ? (start: number, count: number, i: number, di: number, j: number, dj: number): void =>
          row(out, start, count, { from: left, at: i, by: di }, { from: right, at: j, by: dj })
      : (start: number, count: number, i: number, di: number, j: number, dj: number): void => {
          for (let n = 0; n < count; n += 1)
            out[start + n] = fn(left[i + n * di] as number, right[j + n * dj] as number);
        };
  if (left.length === out.length && right.length === out.length) visit(0, out.length, 0, 1, 0, 1);
  else if (right.length === 1) visit(0, out.length, 0, 1, 0, 0);
  else
    forEachRow(
      type.shape,
      [broadcastStrides(a.shape, type.shape), broadcastStrides(b.shape, type.shape)],
      (start, count, [i = 0, j = 0], [di = 0, dj = 0]) => visit(start, count, i, di, j, dj),
    );
  return fromNumbers(type.dtype, type.shape, out);
}

/**
 * Walks a row-major shape by its innermost rows: `start` in the result, its length, and for each operand the offset and the
 * inner stride. Inner axes along which every operand is contiguous, or repeats, are merged into one row first.
 */
export function forEachRow(
  shape: Shape,
  strides: readonly (readonly number[])[],
  visit: (start: number, count: number, offsets: readonly number[], inner: readonly number[]) => void,
): void {
  const total = elementCount(shape);
  if (total === 0) return;
  let outer = Math.max(0, shape.length - 1);
  let count = shape.length === 0 ? 1 : at(shape, outer, "extent");
  const inner = strides.map((own) => own[outer] ?? 0);
  while (outer > 0 && strides.every((own, k) => own[outer - 1] === at(inner, k, "extent") * count)) {
    outer -= 1;
    count *= at(shape, outer, "extent");
  }
  const index = new Array<number>(outer).fill(0);
  const offsets = strides.map(() => 0);
  for (let start = 0; start < total; start += count) {
    visit(start, count, offsets, inner);
    for (let axis = outer - 1; axis >= 0; axis -= 1) {
      const next = at(index, axis, "axis") + 1;
      const wraps = next === shape[axis];
      index[axis] = wraps ? 0 : next;
      strides.forEach((own, k) => {
        offsets[k] = at(offsets, k, "offset") + at(own, axis, "extent") * (wraps ? 1 - next : 1);
      });
      if (!wraps) break;
    }
  }
}

export function select(condition: Tensor, a: Tensor, b: Tensor, type: TensorType): Tensor {
  // Only moves elements, so bit patterns do as well as values.
  const { shape } = type;
  const [chosen, left, right] = [condition.data, a.data, b.data];
  const out = newData(type.dtype, elementCount(shape));
  forEachRow(
    shape,
    [condition, a, b].map((tensor) => broadcastStrides(tensor.shape, shape)),
    (start, count, [h = 0, i = 0, j = 0], [dh = 0, di = 0, dj = 0]) => {
      for (let n = 0; n < count; n += 1)
        out[start + n] = (chosen[h + n * dh] !== 0 ? left[i + n * di] : right[j + n * dj]) as number;
    },
  );
  return { dtype: type.dtype, shape, data: out };
}

export function cast(x: Tensor, type: TensorType): Tensor {
  const { dtype } = type;
  if (x.dtype === dtype) return x;
  if (dtype === "bool") return mapUnary((value) => (value === 0 ? 0 : 1), x, type);
  const limits = integerLimits(dtype);
  if (limits === undefined) return mapUnary((value) => value, x, type);
  if (isFloat(x.dtype)) return mapUnary(towardZero(limits), x, type);
  return mapUnary(isSubByte(dtype) ? modulo(limits) : (value) => value, x, type);
}

/** Float to integer: toward zero, NaN to 0, and to the nearest limit out of range. */
const towardZero =
  ({ lo, hi }: Limits): Unary =>
  (value) =>
    Number.isNaN(value) ? 0 : Math.min(Math.max(Math.trunc(value), lo), hi);

/** Between integers: what the lowest bits say. The arrays of whole bytes do so by themselves. */
const modulo = ({ lo, hi }: Limits): Unary => {
  const count = hi - lo + 1;
  return (value) => value - count * Math.floor((value - lo) / count);
};
