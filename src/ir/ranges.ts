/**
 * Ranges: what is known of the values of every node, from constants and types alone.
 *
 * An interval of the finite values (unbounded where nothing is known), and whether infinities and NaNs may be among them.
 * Inputs may hold anything; products of unknown numbers are taken to be finite, since a result that overflows is loud, not
 * wrong in silence. Large constants are not read, nor what only products take as their weights: they are finite and unknown.
 */

import { at } from "../diagnostics.js";
import { LARGEST_F32 } from "./numerics.js";
import { integerLimits } from "./dtype.js";
import { elementCount, type Graph, type Node, type NodeId } from "./graph.js";
import type { AluFunction } from "./isa.js";
import { literalIn, numberAttr } from "./ops/attributes.js";
import { isFloat, toNumbers } from "./tensor.js";
import { smallValues } from "./literals.js";

export interface Range {
  /** Bounds of the finite values; infinite where there are none. */
  readonly lo: number;
  readonly hi: number;
  readonly mayBeInfinite: boolean;
  readonly mayBeNan: boolean;
}

export const bounded = (lo: number, hi: number): Range => ({ lo, hi, mayBeInfinite: false, mayBeNan: false });
export const ZERO: Range = bounded(0, 0);
const UNKNOWN: Range = bounded(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
const ANYTHING: Range = { ...UNKNOWN, mayBeInfinite: true, mayBeNan: true };

export const isSpecial = ({ mayBeInfinite, mayBeNan }: Range): boolean => mayBeInfinite || mayBeNan;

/** Whether all numbers of a range are zero. */
export const isZero = (range: Range): boolean => range.lo === 0 && range.hi === 0 && !isSpecial(range);

const with_ = (lo: number, hi: number, ...from: readonly Range[]): Range => ({
  lo: Number.isNaN(lo) ? Number.NEGATIVE_INFINITY : lo,
  hi: Number.isNaN(hi) ? Number.POSITIVE_INFINITY : hi,
  mayBeInfinite: from.some(({ mayBeInfinite }) => mayBeInfinite),
  mayBeNan: from.some(({ mayBeNan }) => mayBeNan),
});

export const union = (a: Range, b: Range): Range => with_(Math.min(a.lo, b.lo), Math.max(a.hi, b.hi), a, b);
const monotone = (x: Range, fn: (value: number) => number): Range => with_(fn(x.lo), fn(x.hi), x);

/** inf - inf and 0 * inf are no numbers. */
const mayCancel = (a: Range, b: Range): boolean => a.mayBeInfinite && b.mayBeInfinite;
const products = (a: Range, b: Range): number[] => [a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi];
const holdsZero = ({ lo, hi }: Range): boolean => lo <= 0 && hi >= 0;
const beyond = (lo: number, hi: number, ...from: readonly Range[]): Range => {
  const range = with_(lo, hi, ...from);
  const overflows = (Number.isFinite(lo) && lo < -LARGEST_F32) || (Number.isFinite(hi) && hi > LARGEST_F32);
  return overflows ? { ...range, mayBeInfinite: true } : range;
};

/** All values of the node's type; the widest integers, which stand for those of 64 bits as well, are not known to be less. */
const typeRange = ({ type }: Pick<Node, "type">): Range => {
  const limits = integerLimits(type.dtype);
  if (limits === undefined) return ANYTHING;
  return type.dtype === "i32" || type.dtype === "u32" ? UNKNOWN : bounded(limits.lo, limits.hi);
};

type Transfer = (node: Node, inputs: readonly Range[]) => Range;

const of = (inputs: readonly Range[], index: number): Range => at(inputs, index, "input");
const same: Transfer = (_, inputs) => of(inputs, 0);
const within =
  (lo: number, hi: number): Transfer =>
  (_, inputs) => ({ ...bounded(lo, hi), mayBeNan: of(inputs, 0).mayBeNan });

const TRANSFERS: Readonly<Record<string, Transfer>> = {
  reshape: same,
  transpose: same,
  slice: same,
  expand: same,
  reduce_max: same,
  reduce_min: same,
  gather: same,
  gather_nd: same,
  gather_elements: same,
  relu: (_, [x = ANYTHING]) => with_(Math.max(0, x.lo), Math.max(0, x.hi), x),
  neg: (_, [x = ANYTHING]) => with_(-x.hi, -x.lo, x),
  abs: (_, [x = ANYTHING]) =>
    with_(holdsZero(x) ? 0 : Math.min(Math.abs(x.lo), Math.abs(x.hi)), Math.max(Math.abs(x.lo), Math.abs(x.hi)), x),
  floor: (_, [x = ANYTHING]) => monotone(x, Math.floor),
  ceil: (_, [x = ANYTHING]) => monotone(x, Math.ceil),
  round: (_, [x = ANYTHING]) => with_(Math.floor(x.lo), Math.ceil(x.hi), x),
  tanh: within(-1, 1),
  erf: within(-1, 1),
  sin: (_, [x = ANYTHING]) => ({ ...bounded(-1, 1), mayBeNan: isSpecial(x) }),
  cos: (_, [x = ANYTHING]) => ({ ...bounded(-1, 1), mayBeNan: isSpecial(x) }),
  sign: within(-1, 1),
  sigmoid: within(0, 1),
  exp: (_, [x = ANYTHING]) =>
    with_(Math.exp(x.lo), Math.exp(x.hi), { ...x, mayBeInfinite: x.mayBeInfinite && x.hi > 0 }),
  log: (_, [x = ANYTHING]) => ({
    ...with_(Math.log(Math.max(0, x.lo)), Math.log(Math.max(0, x.hi)), x),
    mayBeInfinite: x.mayBeInfinite || x.lo <= 0,
    mayBeNan: x.mayBeNan || x.lo < 0,
  }),
  rsqrt: (_, [x = ANYTHING]) => ({
    ...with_(0, x.lo > 0 ? 1 / Math.sqrt(x.lo) : Number.POSITIVE_INFINITY, x),
    mayBeInfinite: x.lo <= 0,
    mayBeNan: x.mayBeNan || x.lo < 0,
  }),
  sqrt: (_, [x = ANYTHING]) => ({
    ...with_(Math.sqrt(Math.max(0, x.lo)), Math.sqrt(Math.max(0, x.hi)), x),
    mayBeNan: x.mayBeNan || x.lo < 0,
  }),
  softmax: (_, [x = ANYTHING]) => ({ ...bounded(0, 1), mayBeNan: isSpecial(x) }),
  add: (_, [a = ANYTHING, b = ANYTHING]) => {
    const sum = beyond(a.lo + b.lo, a.hi + b.hi, a, b);
    return { ...sum, mayBeNan: sum.mayBeNan || mayCancel(a, b) };
  },
  sub: (_, [a = ANYTHING, b = ANYTHING]) => {
    const difference = beyond(a.lo - b.hi, a.hi - b.lo, a, b);
    return { ...difference, mayBeNan: difference.mayBeNan || mayCancel(a, b) };
  },
  mul: (node, [a = ANYTHING, b = ANYTHING]) => {
    const all = products(a, b).map((value) => (Number.isNaN(value) ? 0 : value));
    const square = node.inputs[0] === node.inputs[1];
    const product = beyond(square ? 0 : Math.min(...all), Math.max(...all), a, b);
    const isNan = (x: Range, y: Range): boolean => x.mayBeInfinite && holdsZero(y);
    return { ...product, mayBeNan: product.mayBeNan || isNan(a, b) || isNan(b, a) };
  },
  div: (_, [a = ANYTHING, b = ANYTHING]) => {
    if (holdsZero(b))
      return {
        ...UNKNOWN,
        mayBeInfinite: true,
        mayBeNan: a.mayBeNan || b.mayBeNan || holdsZero(a) || mayCancel(a, b),
      };
    const inverse = bounded(1 / b.hi, 1 / b.lo);
    const all = products(a, inverse).map((value) => (Number.isNaN(value) ? 0 : value));
    const quotient = beyond(Math.min(...all), Math.max(...all), a);
    return { ...quotient, mayBeNan: quotient.mayBeNan || b.mayBeNan || mayCancel(a, b) };
  },
  max: (_, [a = ANYTHING, b = ANYTHING]) => with_(Math.max(a.lo, b.lo), Math.max(a.hi, b.hi), a, b),
  min: (_, [a = ANYTHING, b = ANYTHING]) => with_(Math.min(a.lo, b.lo), Math.min(a.hi, b.hi), a, b),
  select: (_, [condition = ANYTHING, a = ANYTHING, b = ANYTHING]) => {
    if (condition.lo === 0 && condition.hi === 0) return b;
    return condition.lo > 0 ? a : union(a, b);
  },
  concat: (_, inputs) => inputs.reduce(union),
  one_hot: () => bounded(0, 1),
  // Integers hold what fits; what does not saturates or wraps, but stays within the limits of the type.
  cast: (node, [x = ANYTHING]) => {
    if (isFloat(node.type.dtype)) return x;
    const all = typeRange(node);
    return isSpecial(x) || x.lo < all.lo || x.hi > all.hi ? all : monotone(x, Math.trunc);
  },
  pad: (node, [x = ANYTHING]) => union(x, bounded(numberAttr(node.attrs, "value"), numberAttr(node.attrs, "value"))),
};

/** Composites whose values are as finite as a product's. */
const FINITE: readonly string[] = ["matmul", "conv", "attention", "layer_norm", "rms_norm"];

/** Whether each node is anything but the weights of products: of those no range follows. */
const readNodes = (graph: Graph): Uint8Array => {
  const read = new Uint8Array(graph.nodes.length);
  for (const { node } of graph.outputs) read[node] = 1;
  for (const { op, inputs } of graph.nodes)
    for (const [index, id] of inputs.entries()) if (op !== "matmul" || index !== 1) read[id] = 1;
  return read;
};

const ofConstant = (node: Node): Range => {
  const literal = literalIn(node);
  const tensor = literal === undefined ? undefined : smallValues(literal);
  if (tensor === undefined) return UNKNOWN;
  let [lo, hi] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  let [mayBeInfinite, mayBeNan] = [false, false];
  const numbers = toNumbers(tensor);
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] as number;
    if (Number.isFinite(number)) {
      lo = Math.min(lo, number);
      hi = Math.max(hi, number);
    } else if (Number.isNaN(number)) mayBeNan = true;
    else mayBeInfinite = true;
  }
  return lo > hi ? { lo: 0, hi: 0, mayBeInfinite, mayBeNan } : { lo, hi, mayBeInfinite, mayBeNan };
};

/** `elements`: how many of the operand there are for one of the result. */
const ofNode = (node: Node, inputs: readonly Range[], elements: number): Range => {
  const { dtype } = node.type;
  if (node.op === "constant") return ofConstant(node);
  if (dtype === "bool") return bounded(0, 1);
  if (!isFloat(dtype) && node.op === "input") return typeRange(node);
  const transfer = TRANSFERS[node.op];
  if (transfer !== undefined) return transfer(node, inputs);
  if (FINITE.includes(node.op)) return UNKNOWN;
  // Sums of what may be infinite may be; anything else is not known.
  if (node.op === "reduce_sum" || node.op === "reduce_mean") {
    const x = of(inputs, 0);
    const count = node.op === "reduce_sum" ? elements : 1;
    return {
      ...with_(Math.min(0, x.lo * count), Math.max(0, x.hi * count)),
      ...specials(x),
      ...(x.lo >= 0 ? { lo: 0 } : {}),
    };
  }
  return isFloat(dtype) ? ANYTHING : UNKNOWN;
};

const specials = (x: Range): Pick<Range, "mayBeInfinite" | "mayBeNan"> => ({
  mayBeInfinite: x.mayBeInfinite,
  mayBeNan: isSpecial(x),
});

const sourceOf = (graph: Graph, id: NodeId | undefined): Node | undefined => {
  const node = id === undefined ? undefined : graph.nodes[id];
  return node?.op === "cast" ? sourceOf(graph, node.inputs[0]) : node;
};

/** A sum of e^(x - max(x)) where x is finite somewhere: one of the terms is 1. */
const isSoftmaxSum = (graph: Graph, ranges: readonly Range[], { op, inputs }: Node): boolean => {
  const exp = op === "reduce_sum" ? sourceOf(graph, inputs[0]) : undefined;
  const shifted = exp?.op === "exp" ? sourceOf(graph, exp.inputs[0]) : undefined;
  if (shifted?.op !== "sub") return false;
  const [x, maximum] = shifted.inputs.map((id) => sourceOf(graph, id));
  if (x === undefined || maximum?.op !== "reduce_max" || sourceOf(graph, maximum.inputs[0]) !== x) return false;
  const range = ranges[x.id];
  return range !== undefined && !range.mayBeInfinite;
};

/** The range of every node, by its number. */
export const rangesOf = (graph: Graph): readonly Range[] => {
  const read = readNodes(graph);
  const ranges: Range[] = [];
  const rangeOf = (node: Node): Range => {
    if (node.op === "constant" && read[node.id] === 0) return UNKNOWN;
    if (isSoftmaxSum(graph, ranges, node)) return { ...UNKNOWN, lo: 0.5 };
    const inputs = node.inputs.map((id) => at(ranges, id, "range"));
    const elements = elementCount(graph.nodes[node.inputs[0] ?? -1]?.type.shape ?? []);
    return ofNode(node, inputs, elements / Math.max(1, elementCount(node.type.shape)));
  };
  for (const node of graph.nodes) ranges[node.id] = rangeOf(node);
  return ranges;
};

const knownRanges = new WeakMap<object, Range[]>();

/** The range of a node of a graph that is being made: nodes stay as they are once they are made, operands before what reads them. */
export const rangeIn = (source: { node(id: NodeId): Node }, id: NodeId): Range => {
  const known = knownRanges.get(source) ?? [];
  knownRanges.set(source, known);
  for (let next = known.length; next <= id; next++) {
    const node = source.node(next);
    const [first] = node.inputs;
    const elements = first === undefined ? 1 : elementCount(source.node(first).type.shape);
    const inputs = node.inputs.map((input) => at(known, input, "range"));
    known.push(ofNode(node, inputs, elements / Math.max(1, elementCount(node.type.shape))));
  }
  return at(known, id, "range");
};

/** The range of an integer node, from the integers that it is made of alone: the same while a graph is being made. */
export const integerRange = (source: { node(id: NodeId): Node }, id: NodeId): Range => {
  const node = source.node(id);
  if (isFloat(node.type.dtype)) return ANYTHING;
  const isKnown = node.op === "constant" || node.op === "input" || TRANSFERS[node.op] !== undefined;
  if (!isKnown) return typeRange(node);
  const range = ofNode(
    node,
    node.inputs.map((input) => integerRange(source, input)),
    1,
  );
  const all = typeRange(node);
  return range.lo >= all.lo && range.hi <= all.hi ? range : all;
};

/* ---------- functions of an ALU ---------- */

type AluRange = (inputs: readonly Range[], isSquare: boolean) => Range;

const NODE = { inputs: [0, 1] as readonly NodeId[] };
const SQUARE = { inputs: [0, 0] as readonly NodeId[] };
/** As the operation of the same name. */
const asOp =
  (op: string): AluRange =>
  (inputs, isSquare) =>
    TRANSFERS[op]?.((isSquare ? SQUARE : NODE) as Node, inputs) ?? ANYTHING;
const truth: AluRange = () => bounded(0, 1);
const INT32: AluRange = () => bounded(-(2 ** 31), 2 ** 31);
/** Functions of bits: of zeros they are zero, and otherwise any number. */
const bits: AluRange = (inputs) => (inputs.every(({ lo, hi }) => lo === 0 && hi === 0) ? ZERO : INT32(inputs, false));
/** Zero times anything finite is zero. */
const product: AluRange = (inputs) => (inputs.some(({ lo, hi }) => lo === 0 && hi === 0) ? ZERO : INT32(inputs, false));
/** An operand without a sign bounds what is left of the other. */
const masked: AluRange = (inputs) => {
  const bounds = inputs.filter(({ lo }) => lo >= 0).map(({ hi }) => hi);
  return bounds.length > 0 ? bounded(0, Math.min(...bounds)) : INT32(inputs, false);
};
/** By a known number of bits. */
const shiftedRight: AluRange = ([a = ANYTHING, b = ANYTHING]) => {
  const by = 2 ** (b.lo & 31);
  if (b.lo !== b.hi || !Number.isFinite(a.lo) || !Number.isFinite(a.hi)) return ofZero([a, b], false);
  return bounded(Math.floor(a.lo / by), Math.floor(a.hi / by));
};
/** Of zero they are zero, whatever the other operand. */
const ofZero: AluRange = (inputs) => {
  const [a = ANYTHING] = inputs;
  return a.lo === 0 && a.hi === 0 ? ZERO : INT32(inputs, false);
};

/** What each ALU function makes of ranges. */
export const ALU_RANGES: Readonly<Record<AluFunction, AluRange>> = {
  copy: ([x = ANYTHING]) => x,
  neg: asOp("neg"),
  abs: asOp("abs"),
  relu: asOp("relu"),
  exp: ([x = ANYTHING], isSquare) => {
    const range = asOp("exp")([x], isSquare);
    return range.hi === Number.POSITIVE_INFINITY ? { ...range, mayBeInfinite: true } : range;
  },
  tanh: asOp("tanh"),
  rsqrt: asOp("rsqrt"),
  erf: asOp("erf"),
  sigmoid: asOp("sigmoid"),
  log: asOp("log"),
  sin: asOp("sin"),
  cos: asOp("cos"),
  floor: asOp("floor"),
  round: asOp("round"),
  sign: asOp("sign"),
  not: truth,
  absInt: bits,
  negInt: bits,
  signInt: () => bounded(-1, 1),
  add: asOp("add"),
  sub: asOp("sub"),
  mul: asOp("mul"),
  div: ([a = ANYTHING, b = ANYTHING], isSquare) =>
    isSquare && !holdsZero(a) && !isSpecial(a) ? bounded(1, 1) : asOp("div")([a, b], isSquare),
  max: asOp("max"),
  min: asOp("min"),
  lt: truth,
  le: truth,
  eq: truth,
  and: truth,
  or: truth,
  addInt: bits,
  subInt: bits,
  mulInt: product,
  addSat: bits,
  maxInt: bits,
  minInt: bits,
  andBits: masked,
  shiftLeft: ofZero,
  shiftRight: shiftedRight,
  orBits: bits,
  xorBits: bits,
  divInt: ofZero,
  modInt: ofZero,
  eqInt: truth,
  ltInt: truth,
  leInt: truth,
  select: asOp("select"),
  selectInt: asOp("select"),
};
