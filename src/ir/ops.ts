/**
 * The operations of the tensor IR, one row each: operands, attributes, the type of the result, its value, and a sentence.
 *
 * This table is the meaning of a Graph. The evaluator, the verifier, folding, the text form and docs/OPS.md derive from it.
 * Every operation has one result. Operands of one operation have one element type unless the sentence says otherwise, and
 * the result has it too; narrow floats compute in fp32 or better and round once. Composite operations are those that a pass
 * writes in terms of the others before code is made.
 */

import { CompileError, fail, invariant } from "../diagnostics.js";
import type { DType } from "./dtype.js";
import type { Attrs, Tensor, TensorType } from "./graph.js";
import { type AttributeKind, checkAttributes, literalAttr, stringAttr } from "./ops/attributes.js";
import * as group from "./ops/collective.js";
import { attend, convolve, matmul } from "./ops/contract.js";
import { BINARY, cast, mapBinary, mapUnary, select, UNARY, type Unary } from "./ops/elementwise.js";
import * as rule from "./ops/infer.js";
import * as move from "./ops/movement.js";
import { argmax, cumsum, normalize, type Reduction, reduce, softmax } from "./ops/reduce.js";

export interface OpRow {
  /** Names in order; `name?` may be left out, `name...` stands for one or more. */
  readonly operands: readonly string[];
  readonly attrs: Readonly<Record<string, AttributeKind>>;
  /** Type of the result; called through `inferType`, which checks operands and attributes first. */
  readonly infer: rule.Infer;
  readonly evaluate: (inputs: readonly Tensor[], attrs: Attrs, type: TensorType) => Tensor;
  /** Its values on all chips of a group, for an operation at which they exchange; such a one has none on a chip alone. */
  readonly group?: group.OnGroup;
  /** The result at a place depends on the operands at that place only (after broadcasting). */
  readonly elementwise?: true;
  readonly composite?: true;
  readonly doc: string;
}

const unary = (fn: Unary, kind: rule.DTypeClass, doc: string, result?: DType): OpRow => ({
  operands: ["x"],
  attrs: {},
  infer: rule.inferUnary(kind, result),
  evaluate: ([x], _, type) => mapUnary(fn, given(x), type),
  elementwise: true,
  doc,
});

const binary = (form: keyof typeof BINARY, kind: rule.DTypeClass, doc: string, result?: DType): OpRow => ({
  operands: ["a", "b"],
  attrs: {},
  infer: rule.inferBinary(kind, result),
  evaluate: ([a, b], _, type) => mapBinary(BINARY[form], given(a), given(b), type),
  elementwise: true,
  doc,
});

const reduction = (kind: Reduction, doc: string): OpRow => ({
  operands: ["x"],
  attrs: { axes: "ints", keepdims: "boolean" },
  infer: rule.inferReduce("number"),
  evaluate: ([x], attrs, type) => reduce(kind, given(x), attrs, type),
  doc,
});

const ofGroup = (row: Pick<OpRow, "attrs" | "infer" | "doc"> & { readonly group: group.OnGroup }): OpRow => ({
  operands: ["x"],
  ...row,
  attrs: { ...row.attrs, chips: "int" },
  evaluate: () =>
    fail("LPU2011", { message: "an operation of a group has a value on all of its chips, and none on one alone" }),
});

function given(tensor: Tensor | undefined): Tensor {
  invariant(tensor !== undefined, "operand exists");
  return tensor;
}

const composite = (row: OpRow): OpRow => ({ ...row, composite: true });

export const OPS = {
  input: {
    operands: [],
    attrs: { name: "string", declared: "edgeDtype" },
    infer: () => fail("LPU2011", { message: "input: an input has the type that is given to it" }),
    evaluate: () => fail("LPU2011", { message: "input: an input has the value that is given to it" }),
    doc: "A tensor that is given at each run.",
  },
  constant: {
    operands: [],
    attrs: { value: "literal" },
    infer: rule.inferConstant,
    evaluate: (_, attrs) => literalAttr(attrs, "value").load(),
    doc: "A tensor that is part of the model.",
  },

  neg: unary(UNARY.neg, "number", "-x; the least integer stays itself."),
  abs: unary(UNARY.abs, "number", "|x|; the least integer stays itself."),
  exp: unary(UNARY.exp, "float", "e to the power x."),
  log: unary(UNARY.log, "float", "Natural logarithm."),
  sqrt: unary(UNARY.sqrt, "float", "Square root, correctly rounded."),
  rsqrt: unary(UNARY.rsqrt, "float", "1 / sqrt(x)."),
  reciprocal: unary(UNARY.reciprocal, "float", "1 / x, correctly rounded."),
  tanh: unary(UNARY.tanh, "float", "Hyperbolic tangent."),
  sigmoid: unary(UNARY.sigmoid, "float", "1 / (1 + e^-x)."),
  erf: unary(UNARY.erf, "float", "Error function."),
  sin: unary(UNARY.sin, "float", "Sine of an angle in radians."),
  cos: unary(UNARY.cos, "float", "Cosine of an angle in radians."),
  floor: unary(UNARY.floor, "float", "Greatest whole number not above x."),
  ceil: unary(UNARY.ceil, "float", "Least whole number not below x."),
  round: unary(UNARY.round, "float", "Nearest whole number, ties to even."),
  sign: unary(UNARY.sign, "number", "-1, 0 or 1; zeros keep their sign and NaN stays."),
  relu: unary(UNARY.relu, "number", "max(x, 0)."),
  not: unary(UNARY.not, "bool", "Logical not."),
  is_nan: unary(UNARY.isNan, "float", "True where x is not a number.", "bool"),
  softplus: composite(unary(UNARY.softplus, "float", "log(1 + e^x).")),
  gelu: {
    ...unary(
      UNARY.geluErf,
      "float",
      "x times the normal distribution function: by erf, or by tanh(sqrt(2/pi) (x + 0.044715 x^3)).",
    ),
    attrs: { approximate: ["none", "tanh"] },
    evaluate: ([x], attrs, type) =>
      mapUnary(stringAttr(attrs, "approximate") === "tanh" ? UNARY.geluTanh : UNARY.geluErf, given(x), type),
    composite: true,
  },
  silu: composite(unary(UNARY.silu, "float", "x * sigmoid(x).")),
  cast: {
    operands: ["x"],
    attrs: { to: "dtype" },
    infer: rule.inferCast,
    evaluate: ([x], _, type) => cast(given(x), type),
    elementwise: true,
    doc: "Converts: to floats by rounding (FP8 saturates), from floats to integers toward zero and to the nearest limit (NaN to 0), between integers modulo, to bool as x != 0.",
  },

  add: binary("add", "number", "a + b; integers wrap."),
  sub: binary("sub", "number", "a - b; integers wrap."),
  mul: binary("mul", "number", "a * b; integers wrap."),
  div: binary("div", "number", "a / b, correctly rounded; integers toward zero, and by zero to 0."),
  pow: binary("pow", "number", "a to the power b; integers wrap."),
  max: binary("max", "number", "The greater; NaN if either is."),
  min: binary("min", "number", "The lesser; NaN if either is."),
  mod: binary(
    "mod",
    "number",
    "Remainder: of floats with the sign of a, of integers with the sign of b and by zero 0.",
  ),
  eq: binary("eq", "any", "a == b, as bool.", "bool"),
  lt: binary("lt", "number", "a < b, as bool.", "bool"),
  le: binary("le", "number", "a <= b, as bool.", "bool"),
  gt: binary("gt", "number", "a > b, as bool.", "bool"),
  ge: binary("ge", "number", "a >= b, as bool.", "bool"),
  and: binary("and", "bool", "Logical and."),
  or: binary("or", "bool", "Logical or."),
  xor: binary("xor", "bool", "Logical exclusive or."),
  bit_and: binary("bitAnd", "int", "Bits that are set in both."),
  bit_or: binary("bitOr", "int", "Bits that are set in either."),
  bit_xor: binary("bitXor", "int", "Bits that are set in one only."),
  shift_left: binary("shiftLeft", "int", "a times 2^(b modulo 32); integers wrap."),
  shift_right: binary("shiftRight", "int", "a divided by 2^(b modulo 32), toward minus infinity."),
  select: {
    operands: ["condition", "a", "b"],
    attrs: {},
    infer: rule.inferSelect,
    evaluate: ([condition, a, b], _, type) => select(given(condition), given(a), given(b), type),
    elementwise: true,
    doc: "a where the bool condition holds, else b.",
  },

  matmul: {
    operands: ["a", "b"],
    attrs: {},
    infer: rule.inferMatmul,
    evaluate: ([a, b], _, type) => matmul(given(a), given(b), type),
    doc: "Matrix product over the last two axes, broadcasting the others; products of 8-bit integers, signed or not, are summed in i32. FP8 as the second operand widens exactly.",
  },

  reduce_sum: reduction("sum", "Sum over axes."),
  reduce_mean: reduction("mean", "Mean over axes; of integers toward zero."),
  reduce_max: reduction("max", "Maximum over axes; NaN if any element is."),
  reduce_min: reduction("min", "Minimum over axes; NaN if any element is."),
  reduce_prod: reduction("prod", "Product over axes."),
  argmax: {
    operands: ["x"],
    attrs: { axis: "int", keepdims: "boolean" },
    infer: rule.inferArgmax,
    evaluate: ([x], attrs, type) => argmax(given(x), attrs, type),
    doc: "Index (i32) of the first maximum along an axis.",
  },
  cumsum: {
    operands: ["x"],
    attrs: { axis: "int", exclusive: "boolean", reverse: "boolean" },
    infer: rule.inferAlongAxis("number"),
    evaluate: ([x], attrs, type) => cumsum(given(x), attrs, type),
    doc: "Running sum along an axis; exclusive leaves out the element itself, reverse sums from the end.",
  },

  reshape: {
    operands: ["x"],
    attrs: { shape: "ints" },
    infer: rule.inferReshape,
    evaluate: ([x], _, type) => move.reshape(given(x), type),
    doc: "The same elements in row-major order in another shape.",
  },
  transpose: {
    operands: ["x"],
    attrs: { perm: "ints" },
    infer: rule.inferTranspose,
    evaluate: ([x], attrs, type) => move.transpose(given(x), attrs, type),
    doc: "Reorders axes; result axis i is operand axis perm[i].",
  },
  slice: {
    operands: ["x"],
    attrs: { starts: "ints", sizes: "ints", strides: "ints" },
    infer: rule.inferSlice,
    evaluate: ([x], attrs, type) => move.slice(given(x), attrs, type),
    doc: "Along each axis the elements start + i * stride for i < size; strides may be negative.",
  },
  concat: {
    operands: ["parts..."],
    attrs: { axis: "int" },
    infer: rule.inferConcat,
    evaluate: (parts, attrs, type) => move.concat(parts, attrs, type),
    doc: "Joins tensors along an axis.",
  },
  expand: {
    operands: ["x"],
    attrs: { shape: "ints" },
    infer: rule.inferExpand,
    evaluate: ([x], _, type) => move.expand(given(x), type),
    doc: "Repeats axes of extent 1, and adds leading ones, to make the shape.",
  },
  pad: {
    operands: ["x"],
    attrs: { before: "ints", after: "ints", value: "number", mode: move.PAD_MODES },
    infer: rule.inferPad,
    evaluate: ([x], attrs, type) => move.pad(given(x), attrs, type),
    doc: "Adds elements before and after along each axis: a value, the elements mirrored at the edge, or the edge repeated.",
  },
  gather: {
    operands: ["data", "indices"],
    attrs: { axis: "int" },
    infer: rule.inferGather,
    evaluate: ([data, indices], attrs, type) => move.gather(given(data), given(indices), attrs, type),
    doc: "Slices of data along an axis chosen by i32 indices, whose shape replaces that axis; negative indices count from the end.",
  },
  gather_nd: {
    operands: ["data", "indices"],
    attrs: { batchDims: "int" },
    infer: rule.inferGatherNd,
    evaluate: ([data, indices], attrs, type) => move.gatherNd(given(data), given(indices), attrs, type),
    doc: "Slices of data chosen by the rows of i32 indices, which index the axes after the batch axes.",
  },
  gather_elements: {
    operands: ["data", "indices"],
    attrs: { axis: "int" },
    infer: rule.inferGatherElements,
    evaluate: ([data, indices], attrs, type) => move.gatherElements(given(data), given(indices), attrs, type),
    doc: "For each place of the i32 indices the element of data at that place with its axis replaced by the index.",
  },
  one_hot: {
    operands: ["indices"],
    attrs: { depth: "int" },
    infer: rule.inferOneHot,
    evaluate: ([indices], attrs, type) => move.oneHot(given(indices), attrs, type),
    doc: "A new last axis of bool, true where its place is the i32 index; negative indices count from the end, others out of range give no true.",
  },
  trilu: {
    operands: ["x"],
    attrs: { upper: "boolean", k: "int" },
    infer: rule.inferTrilu,
    evaluate: ([x], attrs, type) => move.trilu(given(x), attrs, type),
    doc: "Keeps the triangle of the last two axes on and above (upper) or below diagonal k, zero elsewhere.",
  },

  piece: ofGroup({
    attrs: { axis: "int" },
    infer: group.inferPiece,
    group: group.piece,
    doc: "The chip's own of equal pieces along an axis, piece i on chip i; x is the same on all chips.",
  }),
  join: ofGroup({
    attrs: { axis: "int" },
    infer: group.inferJoined,
    group: group.join,
    doc: "All pieces along an axis, put together by the host: only outputs take it.",
  }),
  all_gather: ofGroup({
    attrs: { axis: "int" },
    infer: group.inferJoined,
    group: group.join,
    doc: "All pieces along an axis, on every chip.",
  }),
  all_reduce: ofGroup({
    attrs: {},
    infer: group.inferReduced,
    group: group.allReduce,
    doc: "The sum of what the chips have, on every chip: in ascending order of chips, in fp32, rounded once.",
  }),
  reduce_scatter: ofGroup({
    attrs: { axis: "int" },
    infer: group.inferScattered,
    group: group.reduceScatter,
    doc: "The chip's own piece along an axis of the sum that all_reduce makes.",
  }),
  all_to_all: ofGroup({
    attrs: { from: "int", to: "int" },
    infer: group.inferExchanged,
    group: group.allToAll,
    doc: "Pieces along axis `from` become pieces along axis `to`.",
  }),

  softmax: {
    operands: ["x"],
    attrs: { axis: "int" },
    infer: rule.inferAlongAxis("float"),
    evaluate: ([x], attrs, type) => softmax(given(x), attrs, type, false),
    composite: true,
    doc: "e^(x - max) / sum of the same along an axis.",
  },
  log_softmax: {
    operands: ["x"],
    attrs: { axis: "int" },
    infer: rule.inferAlongAxis("float"),
    evaluate: ([x], attrs, type) => softmax(given(x), attrs, type, true),
    composite: true,
    doc: "Logarithm of softmax along an axis.",
  },
  layer_norm: {
    operands: ["x", "scale", "bias"],
    attrs: { axis: "int", epsilon: "number" },
    infer: rule.inferNorm,
    evaluate: ([x, scale, bias], attrs, type) =>
      normalize({ x: given(x), scale: given(scale), bias: given(bias) }, attrs, type, true),
    composite: true,
    doc: "(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from axis on.",
  },
  rms_norm: {
    operands: ["x", "scale"],
    attrs: { axis: "int", epsilon: "number" },
    infer: rule.inferNorm,
    evaluate: ([x, scale], attrs, type) => normalize({ x: given(x), scale: given(scale) }, attrs, type, false),
    composite: true,
    doc: "x / sqrt(mean of squares + epsilon) * scale over the axes from axis on.",
  },
  conv: {
    operands: ["x", "w", "bias?"],
    attrs: { strides: "ints", pads: "ints", dilations: "ints", group: "int" },
    infer: rule.inferConv,
    evaluate: ([x, w, bias], attrs, type) =>
      convolve({ x: given(x), w: given(w), ...(bias === undefined ? {} : { bias }) }, attrs, type),
    composite: true,
    doc: "Convolution of x [N, C, ...] with w [M, C / group, ...]; pads are all begins, then all ends; 8-bit integers are summed in i32.",
  },
  attention: {
    operands: ["q", "k", "v", "mask?"],
    attrs: { scale: "number", causal: "boolean", softcap: "number" },
    infer: rule.inferAttention,
    evaluate: ([q, k, v, mask], attrs, type) =>
      attend({ q: given(q), k: given(k), v: given(v), ...(mask === undefined ? {} : { mask }) }, attrs, type),
    composite: true,
    doc: "softmax(q k^T scale + mask) v for q [B, H, S, D], k [B, G, T, D], v [B, G, T, E], G dividing H; a softcap c other than 0 makes scores c tanh(score / c) before the mask (bool, true keeps; or added); causal: query s sees keys up to s + T - S.",
  },
} as const satisfies Record<string, OpRow>;

export type OpName = keyof typeof OPS;

/** Operations that give elements of their operand as they are. */
export const VIEWS: readonly string[] = ["reshape", "transpose", "slice", "expand"];

export const isOp = (op: string): op is OpName => Object.hasOwn(OPS, op);

/** The row of an op by name; an unknown name is an error. */
export function opRow(op: string): OpRow {
  return isOp(op) ? OPS[op] : fail("LPU2012", { message: `expected an operation of the tensor IR, got '${op}'` });
}

/** Fewest and most operands of a row. */
export function arity(row: OpRow): { readonly least: number; readonly most: number } {
  const variadic = row.operands.some((name) => name.endsWith("..."));
  const least = row.operands.filter((name) => !name.endsWith("?")).length;
  return { least, most: variadic ? Number.POSITIVE_INFINITY : row.operands.length };
}

/** Type of an operation's result; checks the number of operands, their types and the attributes. Errors carry the origin as their node. */
export function inferType(
  op: string,
  types: readonly TensorType[],
  attrs: Attrs,
  origin: readonly string[] = [],
): TensorType {
  const row = opRow(op);
  const { least, most } = arity(row);
  try {
    if (types.length < least || types.length > most) {
      fail("LPU2010", {
        message: `expected ${least === most ? least : `${least} to ${most}`} operands (${row.operands.join(", ")}), got ${types.length}`,
      });
    }
    checkAttributes(op, row.attrs, attrs);
    return row.infer(types, attrs);
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    throw new CompileError(error.code, {
      ...error.details,
      message: error.details.message.startsWith(`${op}: `) ? error.details.message : `${op}: ${error.details.message}`,
      ...(origin.length === 0 ? {} : { node: `${origin.join(", ")} (${op})` }),
    });
  }
}

/** The value of an operation whose type is known. */
export const evaluateNode = (op: string, inputs: readonly Tensor[], attrs: Attrs, type: TensorType): Tensor =>
  opRow(op).evaluate(inputs, attrs, type);

/** Whether an operation works place by place, as its row says. */
export const isElementwise = (op: string): boolean => opRow(op).elementwise === true;
