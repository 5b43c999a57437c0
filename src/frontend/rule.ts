/**
 * What an import rule is, and what it is given: the ONNX node with typed access to its attributes, the operands as nodes of
 * the graph, and short ways to append operations.
 *
 * Access that finds nothing usable raises a coded error with the node's name; the importer collects these, so that one
 * import reports every unsupported node.
 */

import { at, type CompileError, type DiagnosticCode, fail } from "../diagnostics.js";
import type { DType } from "../ir/dtype.js";
import { type Attrs, elementCount, type NodeId, type Shape, type Tensor, type TensorType } from "../ir/graph.js";
import { formatType, isFloat, toNumbers } from "../ir/tensor.js";
import type { Appender } from "./builder.js";
import {
  type AttributeProto,
  decodeText,
  type GraphProto,
  type Int64,
  int64ToNumber,
  type SparseTensorProto,
  type TensorProto,
} from "./schema.js";
import type { Excused } from "./witness.js";

export interface Rule extends Excused {
  readonly op: string;
  /** Empty (the default) is ONNX itself. */
  readonly domain?: string;
  /** First version of the operator set in which this row is the meaning of the operator. */
  readonly since?: number;
  /** One sentence, for the list of supported operators. */
  readonly doc: string;
  /** One sentence: what of the operator is refused, beyond what all operators refuse. */
  readonly refuses?: string;
  /** What becomes of integers beyond 32 bits; without it they are refused. */
  readonly wide?: UseWide;
  /** Whether the operator takes sequences of tensors. */
  readonly sequences?: true;
  readonly build: (context: RuleContext) => Made | readonly Made[];
}

/** One integer tensor, of which `held` (i32), `above` and `below` (bool) and `number` (f32) are nodes of its shape. */
export interface Wide {
  readonly held: NodeId;
  /** Where the element is greater than int32 holds. */
  readonly above: NodeId;
  /** Where it is less. */
  readonly below: NodeId;
  /** The elements rounded to fp32. */
  readonly number: NodeId;
  /** What is said where the value is used and cannot be. */
  readonly problem: CompileError;
}

/** A node's operands with the wide ones apart, and a way to build the node on operands that stand for them. */
export interface WideUse {
  readonly context: RuleContext;
  readonly operands: readonly (NodeId | undefined)[];
  readonly wide: readonly (Wide | undefined)[];
  readonly build: (operands: readonly (NodeId | undefined)[]) => readonly Made[];
}
/** The results of a node with wide operands; undefined where they would not be exact. */
export type UseWide = (use: WideUse) => readonly Made[] | undefined;

/** Tensors of a static number, in order: a value of the importer and never of a program. */
export interface Sequence {
  readonly items: readonly NodeId[];
}
/** What a rule makes. */
export type Made = NodeId | Wide | Sequence;

export interface RuleContext {
  readonly opType: string;
  /** As in messages: `name (OpType)`. */
  readonly label: string;
  readonly opset: number;
  readonly attributes: ReadonlyMap<string, AttributeProto>;
  readonly operands: readonly (NodeId | undefined)[];
  /** Operands that are sequences, by number. */
  readonly sequences: ReadonlyMap<number, Sequence>;
  /** Names of the results; empty where a result is not wanted. */
  readonly results: readonly string[];
  /** The shape that the file says an output of the model has, as far as it is known. */
  readonly declared: (result: number) => readonly (number | undefined)[] | undefined;
  readonly graph: Appender;
  /** Outputs of a subgraph, imported in place. */
  readonly branch: (graph: GraphProto) => readonly NodeId[];
  /** A constant tensor of an attribute; where integers may be beyond 32 bits, as `constant` gives it. */
  readonly literal: (tensor: TensorProto) => NodeId;
  readonly constant: (tensor: TensorProto) => NodeId | Wide;
  readonly dense: (tensor: SparseTensorProto) => Tensor;
}

export function reject(c: RuleContext, code: DiagnosticCode, message: string, hint?: string): never {
  return fail(code, { message, node: c.label, ...(hint === undefined ? {} : { hint }) });
}
/** The operator is known, this form of it is not supported. */
export const unsupported = (c: RuleContext, message: string, hint?: string): never =>
  reject(c, "LPU1003", message, hint);
const malformed = (c: RuleContext, message: string): never =>
  reject(c, "LPU1008", message, "the model breaks a rule of ONNX; export it again");

// Operands

export const has = (c: RuleContext, index: number): boolean => c.operands[index] !== undefined;
export const sequenceAt = (c: RuleContext, index: number): readonly NodeId[] =>
  c.sequences.get(index)?.items ?? malformed(c, `expected a sequence as operand ${index}`);
export const optional = (c: RuleContext, index: number): NodeId | undefined => c.operands[index];
export const operand = (c: RuleContext, index: number): NodeId =>
  c.operands[index] ?? malformed(c, `expected an operand ${index}, got ${c.operands.length} operands`);
export const wants = (c: RuleContext, result: number): boolean => (c.results[result] ?? "") !== "";

export const typeOf = (c: RuleContext, id: NodeId): TensorType => c.graph.type(id);
export const shapeOf = (c: RuleContext, id: NodeId): Shape => c.graph.type(id).shape;
export const rankOf = (c: RuleContext, id: NodeId): number => c.graph.type(id).shape.length;
export const dtypeOf = (c: RuleContext, id: NodeId): DType => c.graph.type(id).dtype;
export const extent = (c: RuleContext, id: NodeId, axis: number): number => {
  const shape = shapeOf(c, id);
  return (
    shape[axis < 0 ? axis + shape.length : axis] ??
    reject(c, "LPU1012", `expected an axis ${axis}, got ${formatType(typeOf(c, id))}`)
  );
};

/** The value of a constant node, where it is one. */
export const constantValue = (c: RuleContext, id: NodeId): Tensor | undefined => c.graph.constant(id)?.load();

/** Elements of a constant operand as numbers; an error where it is computed from inputs. */
export function numbersOf(c: RuleContext, id: NodeId, what: string): readonly number[] {
  const value = elementCount(shapeOf(c, id)) <= LONGEST ? constantValue(c, id) : undefined;
  if (value !== undefined) return Array.from(toNumbers(value));
  const inputs = c.graph.inputsOf(id);
  return fail("LPU1011", {
    message: `'${what}' is computed from ${inputs.length === 1 ? "input" : "inputs"} ${inputs.map((name) => `'${name}'`).join(", ")}`,
    node: c.label,
    hint: `programs are static: fix it when the program is built (${inputs.map((name) => `--fix ${name}=VALUE`).join(" ")}), or export the model with a constant there`,
    inputs,
  });
}
export const numberOf = (c: RuleContext, id: NodeId, what: string): number => {
  const values = numbersOf(c, id, what);
  return values.length === 1
    ? at(values, 0, "value")
    : malformed(c, `expected one element in '${what}', got ${values.length}`);
};

/** Integers from an operand or, in older operator sets, an attribute of the same name. */
export function intsFrom(c: RuleContext, index: number, name: string): readonly number[] | undefined {
  const given = c.operands[index];
  return given === undefined ? optionalInts(c, name) : numbersOf(c, given, name);
}

export function axisIn(c: RuleContext, axis: number, rank: number): number {
  const wrapped = axis < 0 ? axis + rank : axis;
  if (Number.isInteger(wrapped) && wrapped >= 0 && wrapped < rank) return wrapped;
  return reject(c, "LPU1012", `expected an axis from ${-rank} to ${rank - 1}, got ${axis}`);
}
/** Distinct axes in ascending order. */
export const axesIn = (c: RuleContext, axes: readonly number[], rank: number): number[] =>
  [...new Set(axes.map((axis) => axisIn(c, axis, rank)))].sort((a, b) => a - b);

// Attributes

/** Types of attributes by their numbers in a file; 0 where a file says none, as the oldest do. */
const TYPES: readonly string[] = [
  "untyped",
  "float",
  "int",
  "string",
  "tensor",
  "graph",
  "floats",
  "ints",
  "strings",
  "tensors",
  "graphs",
  "sparse tensor",
];
type AttributeType = "float" | "int" | "string" | "tensor" | "graph" | "floats" | "ints" | "sparse tensor";

/** An attribute that is one of some types: in another its value lies where nobody looks. */
function attribute(c: RuleContext, name: string, ...types: readonly AttributeType[]): AttributeProto | undefined {
  const found = c.attributes.get(name);
  if (found === undefined || found.type === 0) return found;
  const type = TYPES[found.type] ?? `type ${found.type}`;
  if (types.some((own) => own === type)) return found;
  return malformed(c, `attribute '${name}': expected ${types.join(" or ")}, got ${type}`);
}
const isOf = ({ type }: AttributeProto, name: AttributeType): boolean => TYPES[type] === name;
const needed = <T>(c: RuleContext, name: string, value: T | undefined): T =>
  value ?? malformed(c, `expected an attribute '${name}'`);

export const hasAttribute = (c: RuleContext, name: string): boolean => c.attributes.has(name);
export const optionalInt = (c: RuleContext, name: string): number | undefined => {
  const found = attribute(c, name, "int", "float");
  if (found === undefined) return undefined;
  if (!isOf(found, "float")) return int64ToNumber(found.i);
  return Number.isInteger(found.f) ? found.f : malformed(c, `attribute '${name}': expected an integer, got ${found.f}`);
};
export const int = (c: RuleContext, name: string, otherwise?: number): number =>
  optionalInt(c, name) ?? needed(c, name, otherwise);
export const flag = (c: RuleContext, name: string, otherwise = false): boolean => int(c, name, otherwise ? 1 : 0) !== 0;
export const optionalFloat = (c: RuleContext, name: string): number | undefined => {
  const found = attribute(c, name, "float", "int");
  return found !== undefined && isOf(found, "int") ? int64ToNumber(found.i) : found?.f;
};
/** An fp32 number; what stands for it where there is none is one as well. */
export const float = (c: RuleContext, name: string, otherwise?: number): number =>
  optionalFloat(c, name) ?? Math.fround(needed(c, name, otherwise));
export const optionalInts = (c: RuleContext, name: string): readonly number[] | undefined =>
  attribute(c, name, "ints")?.ints.map(int64ToNumber);
export const ints = (c: RuleContext, name: string, otherwise?: readonly number[]): readonly number[] =>
  optionalInts(c, name) ?? needed(c, name, otherwise);
/** As many integers as `count` says, all `otherwise` where none are given; an empty list is none, as exporters write it. */
export function intsFor(c: RuleContext, name: string, count: number, otherwise: number): readonly number[] {
  const given = optionalInts(c, name) ?? [];
  if (given.length === 0) return Array.from({ length: count }, () => otherwise);
  return given.length === count ? given : malformed(c, `expected ${count} integers in '${name}', got ${given.length}`);
}
/** The same of distances between places, which are at least 1. */
export function stepsFor(c: RuleContext, name: string, count: number): readonly number[] {
  const steps = intsFor(c, name, count, 1);
  const wrong = steps.find((step) => step < 1);
  return wrong === undefined ? steps : malformed(c, `expected ${name} of at least 1, got ${wrong}`);
}
export const floats = (c: RuleContext, name: string): readonly number[] =>
  needed(c, name, attribute(c, name, "floats")?.floats);
/** 64-bit integers as the file has them. */
export const longs = (c: RuleContext, name: string): readonly Int64[] =>
  needed(c, name, attribute(c, name, "ints")?.ints);
export const long = (c: RuleContext, name: string): Int64 => needed(c, name, attribute(c, name, "int")?.i);
export const text = (c: RuleContext, name: string, otherwise?: string): string => {
  const found = attribute(c, name, "string");
  return found === undefined ? needed(c, name, otherwise) : decodeText(found.s);
};
export const subgraph = (c: RuleContext, name: string): GraphProto =>
  needed(c, name, attribute(c, name, "graph")?.g ?? undefined);
export const tensorAttribute = (c: RuleContext, name: string): TensorProto =>
  needed(c, name, attribute(c, name, "tensor")?.t ?? undefined);

export const sparseAttribute = (c: RuleContext, name: string): SparseTensorProto =>
  needed(c, name, attribute(c, name, "sparse tensor")?.sparseTensor ?? undefined);

// Appending

export const op = (c: RuleContext, name: string, inputs: readonly NodeId[], attrs: Attrs = {}): NodeId =>
  c.graph.add(name, inputs, attrs);
export const scalar = (c: RuleContext, dtype: DType, value: number): NodeId => c.graph.numbers(dtype, [], [value]);
/** A scalar of the element type of `like`. */
export const scalarLike = (c: RuleContext, like: NodeId, value: number): NodeId => scalar(c, dtypeOf(c, like), value);
export const list = (c: RuleContext, values: readonly number[]): NodeId =>
  c.graph.numbers("i32", [values.length], values);
export const cast = (c: RuleContext, x: NodeId, to: DType): NodeId => op(c, "cast", [x], { to });
export const reshape = (c: RuleContext, x: NodeId, shape: Shape): NodeId => op(c, "reshape", [x], { shape });
export const transpose = (c: RuleContext, x: NodeId, perm: readonly number[]): NodeId =>
  op(c, "transpose", [x], { perm });
export const expand = (c: RuleContext, x: NodeId, shape: Shape): NodeId => op(c, "expand", [x], { shape });
export const concat = (c: RuleContext, parts: readonly NodeId[], axis: number): NodeId =>
  op(c, "concat", parts, { axis });
export const reduce = (
  c: RuleContext,
  name: "sum" | "mean" | "max" | "min" | "prod",
  x: NodeId,
  axes: readonly number[],
  keepdims: boolean,
): NodeId => (axes.length === 0 ? x : op(c, `reduce_${name}`, [x], { axes, keepdims }));
export const add = (c: RuleContext, a: NodeId, b: NodeId): NodeId => op(c, "add", [a, b]);
export const sub = (c: RuleContext, a: NodeId, b: NodeId): NodeId => op(c, "sub", [a, b]);
export const mul = (c: RuleContext, a: NodeId, b: NodeId): NodeId => op(c, "mul", [a, b]);
/** Multiplies by a number; by 1 is nothing. */
export const scale = (c: RuleContext, x: NodeId, factor: number): NodeId =>
  factor === 1 ? x : mul(c, x, scalarLike(c, x, factor));
export const not = (c: RuleContext, x: NodeId): NodeId => op(c, "not", [x]);
export const select = (c: RuleContext, condition: NodeId, a: NodeId, b: NodeId): NodeId =>
  op(c, "select", [condition, a, b]);

/** Part of one axis: `size` elements from `start`, `stride` apart. */
export function sliceAxis(c: RuleContext, x: NodeId, axis: number, start: number, size: number, stride = 1): NodeId {
  const shape = shapeOf(c, x);
  return op(c, "slice", [x], {
    starts: shape.map((_, i) => (i === axis ? start : 0)),
    sizes: shape.map((own, i) => (i === axis ? size : own)),
    strides: shape.map((_, i) => (i === axis ? stride : 1)),
  });
}

/** Swaps the last two axes. */
export function swapLast(c: RuleContext, x: NodeId): NodeId {
  const rank = rankOf(c, x);
  const perm = Array.from({ length: rank }, (_, axis) => axis);
  return transpose(c, x, [...perm.slice(0, -2), rank - 1, rank - 2]);
}

/** The most elements of a table that a rule makes: what is beyond it is a mistake in the model, or malice. */
const LONGEST = 1 << 24;

/** 0, 1, 2, ... */
export function iota(count: number): number[] {
  if (!(count <= LONGEST)) fail("LPU1012", { message: `expected a list of at most ${LONGEST} elements, got ${count}` });
  return Array.from({ length: Math.max(0, count) }, (_, i) => i);
}
export const count = elementCount;

export function wantFloat(c: RuleContext, x: NodeId): void {
  if (!isFloat(dtypeOf(c, x))) unsupported(c, `expected a float operand, got ${formatType(typeOf(c, x))}`);
}
