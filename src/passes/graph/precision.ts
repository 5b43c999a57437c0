/**
 * Precision: every tensor gets the type in which the machine stores it: f16, f32, i32, or truth values.
 *
 * fp16 is what the MXM multiplies, and the default. ALUs compute in fp32 whatever is stored, and fp32 storages cost twice
 * the streams: WIDE lists what is kept in fp32, and why. Integers of all widths are i32; narrower ones wrap, or saturate, where
 * ONNX says so. Constants of one element that meet a tensor are immediates of the ALU, and exact. Infinities stay infinities.
 * Casts between float types are no operations of the machine: they say in which type a value is read.
 */

import type { Kept } from "../../ir/facts.js";
import { VIEWS, isElementwise } from "../../ir/ops.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { at, fail, sure } from "../../diagnostics.js";
import { type DType, integerLimits, isFp8, type Limits, type TensorData } from "../../ir/dtype.js";
import {
  elementCount,
  type Graph,
  type Literal,
  type Node,
  type NodeId,
  type Tensor,
  consumersOf,
} from "../../ir/graph.js";
import { LARGEST_F16, LARGEST_F32, narrowFloats, roundToF16 } from "../../ir/numerics.js";
import { equalShapes, isFloat, literalOf, makeTensor, tensorOf, toFloats, toNumbers } from "../../ir/tensor.js";
import { angleNodes, isScaling } from "./angles.js";
import { exactProduct, exponentNodes, isMove } from "./exponents.js";
import { deriveLiteral, filledLiteral, isFilled, isLaneMap, laneMapLiteral } from "../../ir/literals.js";
import { scaledProducts } from "./blocks.js";
import { scaledRows } from "./figures.js";
import { bothHalves, isOfFewRows, sumOfHalves } from "./few-rows.js";
import { type LongSums, longSums } from "./long-sums.js";
import {
  heldScores,
  heldSum,
  isMaximumOf,
  magnitude,
  type Mask,
  type MaskedSum,
  maskedSum,
  maskOf,
  scoreNodes,
} from "./masks.js";
import type { GraphPass } from "./pass.js";
import { type Range, rangesOf } from "../../ir/ranges.js";
import { Rewriter } from "./rewriter.js";
import { LEAST_NORMAL, smallConstants, timesPower } from "./small.js";

/** Constants of at most so many elements are converted at once. */
const SMALL = 4096;

/* ---------- which values are wide ---------- */

/** A graph before its types are chosen. */
interface Context {
  readonly graph: Graph;
  readonly ranges: readonly Range[];
  /** Nodes among whose values are numbers beyond fp16. */
  readonly beyond: readonly boolean[];
  /** Nodes whose numbers become integers, and what decides which. */
  readonly whole: ReadonlySet<NodeId>;
  /** What scores are made of where nothing is known of their magnitude. */
  readonly exponents: ReadonlySet<NodeId>;
  /** What is compared with other numbers than zero or made whole, and maxima of which that is a maximum. */
  readonly compared: ReadonlySet<NodeId>;
  /** What sin and cos turn, and what that is made of. */
  readonly angles: ReadonlySet<NodeId>;
  /** Sums of many terms that are added one after another. */
  readonly longSums: LongSums;
  /** Products by FP8 weights times scales, and sums of such. */
  readonly scaledProducts: ReadonlySet<NodeId>;
  /** Constants of which fp16 would keep little, by powers of two that bring them within its normal numbers. */
  readonly small: ReadonlyMap<NodeId, number>;
  readonly consumers: readonly (readonly NodeId[])[];
}

/** A reason to keep a float value in fp32. */
export interface WideRow {
  readonly name: string;
  readonly doc: string;
  readonly holds: (context: Context, node: Node) => boolean;
}

const nodeAt = ({ graph }: Context, id: NodeId | undefined): Node | undefined =>
  id === undefined ? undefined : graph.nodes[id];
const readers = ({ graph, consumers }: Context, { id }: Node): readonly Node[] =>
  at(consumers, id, "list of readers").map((next) => at(graph.nodes, next, "node"));

/** Operations that leave a great number great; of a constant only those that do not choose. */
const KEEPS_GREAT: readonly string[] = ["add", "sub", "mul", "neg", "concat", ...VIEWS];
const CHOOSES: readonly string[] = ["max", "min", "select"];

/** Nodes among whose values are numbers beyond a magnitude, by the constants that they are made of; not what is `held`. */
const greatNodes = (graph: Graph, ranges: readonly Range[], beyond: number, held: ReadonlySet<NodeId>): boolean[] => {
  const great: boolean[] = [];
  for (const { id, op, inputs, type } of graph.nodes) {
    const range = ranges[id];
    const most = range === undefined ? Number.POSITIVE_INFINITY : magnitude(range);
    const made =
      (KEEPS_GREAT.includes(op) && inputs.some((input) => great[input] === true)) ||
      (CHOOSES.includes(op) && inputs.some((input) => great[input] === true && !isConstant(graph, input)));
    const isGreat = op === "constant" ? Number.isFinite(most) && most > beyond : made && most > beyond;
    great[id] = isFloat(type.dtype) && isGreat && !held.has(id);
  }
  return great;
};

const isConstant = (graph: Graph, id: NodeId): boolean => graph.nodes[id]?.op === "constant";

const COMPARISONS: readonly string[] = ["eq", "lt", "le"];
const ROUNDINGS: readonly string[] = ["floor", "round"];

/** What a number is on its way to an integer: whole already, about to be rounded, an operand of what is, or part of a share. */
type Stage = "whole" | "rounded" | "operand" | "share";

/**
 * Numbers that become integers: back from casts to the roundings, the quotients that they round, and the operands of these. Of
 * figures of a whole tensor, such as scales, and of shares of a sum, also what they are made of.
 */
const wholeNodes = (graph: Graph): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const visit = (id: NodeId, stage: Stage): void => {
    const node = graph.nodes[id];
    if (node === undefined || !isFloat(node.type.dtype) || node.op === "constant" || found.has(id)) return;
    found.add(id);
    const next = isShare(graph, node) ? "share" : nextStage(node, stage);
    if (next !== undefined) for (const input of node.inputs) visit(input, next);
  };
  for (const { op, type, inputs } of graph.nodes)
    if (op === "cast" && !isFloat(type.dtype) && type.dtype !== "bool") visit(at(inputs, 0, "input"), "whole");
  return found;
};

/** A quotient by a sum, as softmax makes: it is as exact as what it divides. */
const isShare = (graph: Graph, { op, inputs }: Node): boolean =>
  op === "div" && graph.nodes[at(inputs, 1, "input")]?.op === "reduce_sum";

const nextStage = ({ op, type }: Node, stage: Stage): Stage | undefined => {
  if (VIEWS.includes(op) || op === "concat" || op === "cast") return stage;
  if (stage === "share") return isElementwise(op) || op === "reduce_max" ? stage : undefined;
  if (stage === "whole") return ROUNDINGS.includes(op) ? "rounded" : isElementwise(op) ? "whole" : undefined;
  if (op === "reduce_max") return "operand";
  const isFigure = elementCount(type.shape) === 1;
  return isElementwise(op) && (stage === "rounded" || isFigure) ? "operand" : undefined;
};

export const WIDE: readonly WideRow[] = [
  {
    name: "square",
    doc: "products that are only summed: squares have twice the range of their numbers",
    holds: (c, node) =>
      node.op === "mul" && node.inputs.every((id) => nodeAt(c, id)?.op !== "constant") && isOnlySummed(c, node),
  },
  {
    name: "sum",
    doc: "sums over many values, which come out of the MXM in fp32, or are added slice by slice",
    holds: ({ graph }, node) => node.op === "reduce_sum" || isSumOfSlices(graph, node),
  },
  {
    name: "product",
    doc: "products of many values, by halves: each halving doubles the range",
    holds: (c, node) => {
      const source = halved(c, node);
      if (source === undefined) return false;
      const others = [source, ...readers(c, node).flatMap((next) => (next.op === "slice" ? readers(c, next) : []))];
      return others.some((other) => halved(c, other) !== undefined);
    },
  },
  {
    name: "beyond",
    doc: "values known to be finite and beyond fp16",
    holds: (c, { id, op, inputs }) =>
      c.beyond[id] === true ||
      (op === "select" && inputs.slice(1).some((input) => c.beyond[input])) ||
      (isElementwise(op) && inputs.some((input) => c.beyond[input] === true && isVector(c.graph, input))),
  },
  {
    name: "small",
    doc: "products by constants below the normal numbers of fp16, and what is looked up in such",
    holds: (c, { op, inputs }) =>
      (["matmul", "mul", "div", "gather"].includes(op) && inputs.some((input) => c.small.has(input))) ||
      (op === "mul" && inputs.some((input, index) => isSmallNumber(c, input) && !isGreatBy(c, inputs[1 - index]))),
  },
  {
    name: "compared",
    doc: "numbers that are compared with others or made whole: a rounding before would choose another",
    holds: ({ compared }, { id }) => compared.has(id),
  },
  {
    name: "scaled",
    doc: "integers times scales, as of quantization, whose bounds are known and beyond fp16",
    holds: ({ graph, ranges }, node) => {
      const most = magnitude(at(ranges, node.id, "range"));
      return most > LARGEST_F16 && Number.isFinite(most) && isOfIntegers(graph, node);
    },
  },
  {
    name: "weights",
    doc: "sums of products by FP8 weights: their scale follows, in fp32",
    holds: ({ graph }, { op, inputs }) =>
      op === "matmul" && isFp8(at(graph.nodes, at(inputs, 1, "input"), "node").type.dtype),
  },
  {
    name: "blocks",
    doc: "parts of sums of products by FP8 weights whose scales vary along K: all is rounded once",
    holds: (c, node) => c.scaledProducts.has(node.id) && isSummedOn(c, node),
  },
  {
    name: "exact",
    doc: "sums of products of integers, as of quantized numbers: fp32 holds them, and a scale follows",
    holds: ({ graph }, node) => isSumOfWhole(graph, node),
  },
  {
    name: "exponent",
    doc: "scores of a softmax that are products of inputs alone: nothing bounds them, and an exponent makes a difference of theirs a factor",
    holds: ({ exponents }, { id }) => exponents.has(id),
  },
  {
    name: "angle",
    doc: "what sin and cos turn: an error of an angle is one of its sine, however great the angle is",
    holds: ({ angles }, { id }) => angles.has(id),
  },
  {
    name: "long sum",
    doc: "sums of terms that are added one after another, as those of many layers: each rounding stays to the end",
    holds: (c, { id }) => c.longSums.sums.has(id),
  },
  {
    name: "first term",
    doc: "products of few rows at the beginning of a long sum, of both halves of their numbers: all that comes later reads them",
    holds: (c, node) =>
      isFirstTerm(c, node) || readers(c, node).some((next) => isFirstTerm(c, next) && next.inputs[0] === node.id),
  },
  {
    name: "gate",
    doc: "products that meet functions of theirs, as gates do, between long sums: both take the same numbers",
    holds: (c, node) => c.longSums.sums.size > 0 && isGate(c, node),
  },
  {
    name: "whole",
    doc: "numbers that become integers, with the scales and operands that decide which",
    holds: ({ whole }, { id }) => whole.has(id),
  },
  {
    name: "input",
    doc: "inputs that take part in sums and differences, where rounding may cancel what matters",
    holds: (c, node) => node.op === "input" && node.type.dtype !== "f16" && readAsNumbers(c, node),
  },
];

/** Whether sums of scaled products, through views, are all that reads a value. */
const isSummedOn = (c: Context, node: Node): boolean => {
  const all = readers(c, node);
  return (
    all.length > 0 &&
    all.every((next) =>
      VIEWS.includes(next.op) ? isSummedOn(c, next) : next.op === "add" && c.scaledProducts.has(next.id),
    )
  );
};

const isFirstTerm = ({ graph, longSums }: Context, node: Node): boolean =>
  longSums.firstTerms.has(node.id) && isOfFewRows(graph, node);

/** Whether a node is a product that several operations of ALUs read, and nothing else. */
const isGate = (c: Context, node: Node): boolean => {
  const all = readers(c, node);
  return node.op === "matmul" && all.length > 1 && all.every(({ op }) => isElementwise(op) && op !== "cast");
};

/** Whether a node is one number below the normal ones of fp16. */
const isSmallNumber = ({ graph, ranges }: Context, id: NodeId): boolean => {
  const most = isConstant(graph, id) && !isVector(graph, id) ? magnitude(at(ranges, id, "range")) : 0;
  return most > 0 && most < LEAST_NORMAL;
};

/** Whether a value may be as great as a scale is small: sums of products of integers, and integers themselves. */
const isGreatBy = ({ graph }: Context, id: NodeId | undefined): boolean => {
  const node = id === undefined ? undefined : graph.nodes[id];
  return node !== undefined && (isSumOfWhole(graph, node) || isOfIntegers(graph, node));
};

/** Whether a value is made of integers and constants alone, by operations that leave a great number great. */
const isOfIntegers = (graph: Graph, { op, inputs }: Node): boolean =>
  inputs.length > 0 &&
  inputs.every((id) => {
    const from = graph.nodes[id];
    if (from === undefined || from.op === "constant") return true;
    return op === "cast" && !isFloat(from.type.dtype) ? true : KEEPS_GREAT.includes(op) && isOfIntegers(graph, from);
  });

/** Whether a value is a matmul of integers in float form, or a sum of such. */
export const isSumOfWhole = (graph: Graph, { op, inputs, type }: Node): boolean => {
  if (!isFloat(type.dtype)) return false;
  const from = inputs.map((id) => at(graph.nodes, id, "node"));
  if (op === "matmul")
    return from.every((node, index) => isWhole(graph, node) || (index === 1 && node.op === "constant" && !moves(node)));
  return (op === "add" || op === "concat" || VIEWS.includes(op)) && from.every((node) => isSumOfWhole(graph, node));
};

/** Whether a value is an integer in float form, also after it was moved. */
const isWhole = (graph: Graph, { op, inputs }: Node): boolean => {
  const from = inputs.map((id) => at(graph.nodes, id, "node"));
  const [x, map] = from;
  if (op === "matmul") return x !== undefined && map !== undefined && moves(map) && isWhole(graph, x);
  if (op === "concat" || VIEWS.includes(op))
    return from.every((node) => isWhole(graph, node) || node.op === "constant");
  if (op !== "cast" || x === undefined) return false;
  return isFloat(x.type.dtype) ? isWhole(graph, x) : x.type.dtype !== "bool";
};

const moves = (node: Node): boolean => isLaneMap(literalIn(node));

/** The value of which a node multiplies two parts. */
const halved = (c: Context, { op, inputs }: Node): Node | undefined => {
  const [a, b] = inputs.map((id) => nodeAt(c, id));
  if (op !== "mul" || a?.op !== "slice" || b?.op !== "slice" || a === b) return undefined;
  return a.inputs[0] === b.inputs[0] ? nodeAt(c, a.inputs[0]) : undefined;
};

/** A constant that is stored, and no immediate. */
const isVector = (graph: Graph, id: NodeId): boolean =>
  isConstant(graph, id) && elementCount(at(graph.nodes, id, "node").type.shape) > 1;

/** Whether sums are all that reads a value, through views. */
const isOnlySummed = (c: Context, node: Node): boolean => {
  const all = readers(c, node);
  return (
    all.length > 0 &&
    all.every(
      (next) =>
        next.op === "reduce_sum" || isSumOfSlices(c.graph, next) || (VIEWS.includes(next.op) && isOnlySummed(c, next)),
    )
  );
};

/** Whether a value is a sum of slices of one value, as of a short axis. */
const isSumOfSlices = (graph: Graph, node: Node): boolean => node.op === "add" && slicedBy(graph, node) !== undefined;

/** The value of which a node is a slice, or a sum of slices. */
const slicedBy = (graph: Graph, { op, inputs }: Node): NodeId | undefined => {
  if (op === "slice") return inputs[0];
  if (op !== "add") return undefined;
  const [a, b] = inputs.map((id) => slicedBy(graph, at(graph.nodes, id, "node")));
  return a === b ? a : undefined;
};

/** Nodes that are compared or made whole; of a maximum that is, also what it is the greatest of. */
const comparedNodes = (
  graph: Graph,
  ranges: readonly Range[],
  consumers: readonly (readonly NodeId[])[],
): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const isZero = (id: NodeId): boolean => {
    const range = ranges[id];
    return isConstant(graph, id) && range !== undefined && range.lo === 0 && range.hi === 0;
  };
  for (const { id, op: own } of [...graph.nodes].reverse()) {
    const readers = at(consumers, id, "list of readers").map((next) => at(graph.nodes, next, "node"));
    // Compared with its own maximum.
    const isChosen = readers.some(({ op }) => COMPARISONS.includes(op));
    const isCompared = readers.some(
      ({ id: next, op, inputs }) =>
        ROUNDINGS.includes(op) ||
        (op === "reduce_max" && isChosen) ||
        (COMPARISONS.includes(op) && inputs[0] !== inputs[1] && !inputs.some(isZero)) ||
        (found.has(next) && (op === "max" || (own === "max" && (op === "reduce_max" || VIEWS.includes(op))))),
    );
    if (isCompared) found.add(id);
  }
  return found;
};

/** Whether an input, seen through views, is an operand of arithmetic. */
const readAsNumbers = (c: Context, node: Node): boolean =>
  readers(c, node).some(
    (next) =>
      (isElementwise(next.op) && next.op !== "cast") ||
      next.op === "reduce_sum" ||
      next.op === "reduce_max" ||
      (VIEWS.includes(next.op) && readAsNumbers(c, next)),
  );

/** Operations through which a wide value stays wide. */
const STICKY: readonly string[] = [
  "add",
  "sub",
  "mul",
  "neg",
  "max",
  "min",
  "select",
  "concat",
  "reduce_max",
  ...VIEWS,
];

/** What is wide in a graph, and what is done so that the rest need not be. */
interface Wide {
  /** By node: why it is wide; undefined for those that are not. */
  readonly reasons: readonly (string | undefined)[];
  /** Scores that are brought into the range of fp16. */
  readonly held: ReadonlySet<NodeId>;
  /** Of these, sums of scores and a mask. */
  readonly maskedSums: ReadonlyMap<NodeId, MaskedSum>;
  /** Differences from a maximum that may be minus infinity. */
  readonly emptyRows: ReadonlySet<NodeId>;
  /** Rows that are computed in fp32 and then rounded, since figures of theirs scale them. */
  readonly scaled: ReadonlySet<NodeId>;
  /** Powers of two by which small constants are kept where products multiply them. */
  readonly small: ReadonlyMap<NodeId, number>;
}

const wideOf = (graph: Graph): Wide => {
  const ranges = rangesOf(graph);
  const masks = new Map([...scoreNodes(graph)].map((id): [NodeId, Mask] => [id, maskOf(graph, ranges, id)]));
  const exponents = exponentNodes(graph, [...masks.keys()]);
  const held = new Set([...masks].flatMap(([id, mask]) => (mask === "absorbing" && !exponents.has(id) ? [id] : [])));
  const beyond = greatNodes(graph, ranges, LARGEST_F16, held);
  const consumers = consumersOf(graph);
  const small = smallConstants(graph);
  const context: Context = {
    graph,
    ranges,
    beyond,
    whole: wholeNodes(graph),
    exponents,
    compared: comparedNodes(graph, ranges, consumers),
    angles: angleNodes(graph),
    longSums: longSums(graph),
    scaledProducts: scaledProducts(graph),
    small,
    consumers,
  };
  const reasons: (string | undefined)[] = [];
  for (const node of graph.nodes) {
    if (!isFloat(node.type.dtype) || node.op === "constant" || held.has(node.id)) continue;
    if (masks.get(node.id) === "bits") {
      reasons[node.id] = "masked";
      continue;
    }
    const own = WIDE.find(({ holds }) => holds(context, node))?.name;
    const countOf = (id: NodeId): number => elementCount(at(graph.nodes, id, "node").type.shape);
    reasons[node.id] = own ?? inherited(node, reasons, countOf) ?? (isGreatRoot(ranges, node) ? "beyond" : undefined);
  }
  const emptyRows = new Set(
    graph.nodes.flatMap(({ id, op, inputs: [x = -1, m = -1] }) =>
      op === "sub" && masks.has(x) && isMaximumOf(graph, m, x) && ranges[x]?.mayBeInfinite === true ? [id] : [],
    ),
  );
  const maskedSums = new Map(
    [...held].flatMap((id): [NodeId, MaskedSum][] => {
      const sum = maskedSum(graph, ranges, at(graph.nodes, id, "node"));
      return sum === undefined ? [] : [[id, sum]];
    }),
  );
  const scaled: ReadonlySet<NodeId> =
    context.longSums.sums.size === 0 ? new Set() : scaledRows(graph, (id) => reasons[id] === "sum");
  return { reasons, held, maskedSums, emptyRows, scaled, small };
};

/** Whether a node is an inverse root that is bounded, as by the epsilon of a norm, beyond fp16. */
const isGreatRoot = (ranges: readonly Range[], { id, op }: Node): boolean => {
  const most = magnitude(at(ranges, id, "range"));
  return op === "rsqrt" && Number.isFinite(most) && most > LARGEST_F16;
};

const inherited = (
  { op, inputs, type }: Node,
  reasons: readonly (string | undefined)[],
  countOf: (id: NodeId) => number,
): string | undefined => {
  const from = inputs.flatMap((id) => reasons[id] ?? []);
  const masked = from.find((reason) => ["masked", "product", "beyond", "exponent", "small"].includes(reason));
  if (masked !== undefined && STICKY.includes(op)) return masked;
  if (VIEWS.includes(op) || op === "reduce_max") return from[0];
  // Figures of whole rows, such as means and variances, before they meet the rows.
  const isFigure = inputs.some((id) => reasons[id] === "sum" && countOf(id) === elementCount(type.shape));
  return isFigure && isElementwise(op) ? "sum" : undefined;
};

/* ---------- what is kept in four bytes, for the report ---------- */

const MASKED = "scores that meet a mask which does not make them vanish in fp16, so that both keep their bits";
const INTEGER = "integers that the chip reads or computes";
const ORIGINS = 3;

/** Everything that `precision` keeps in four bytes of a graph that goes into it, by reason; the most values first. */
const keptWide = (graph: Graph, { reasons }: Wide): readonly Kept[] => {
  const indices = indexNodes(graph);
  const docs = new Map([
    ...WIDE.map(({ name, doc }) => [name, doc] as const),
    ["masked", MASKED],
    ["integer", INTEGER],
  ]);
  const groups = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    if (node.op === "constant" || VIEWS.includes(node.op) || indices[node.id] === 1) continue;
    const { dtype } = node.type;
    const reason = isFloat(dtype) || dtype === "bool" ? reasons[node.id] : "integer";
    if (reason !== undefined) groups.set(reason, [...(groups.get(reason) ?? []), node]);
  }
  const kept = [...groups].map(
    ([reason, nodes]): Kept => ({
      dtype: reason === "integer" ? "i32" : "f32",
      reason,
      doc: docs.get(reason) ?? reason,
      tensors: nodes.length,
      values: nodes.reduce((sum, { type }) => sum + elementCount(type.shape), 0),
      origins: [...new Set(nodes.map(({ origin }) => origin.join(" + ")))].slice(0, ORIGINS),
    }),
  );
  return kept.sort((a, b) => b.values - a.values);
};

/* ---------- constants ---------- */

const isBeyondF16 = (value: number): boolean => Number.isFinite(value) && !Number.isFinite(roundToF16(value));

/** Narrows a tensor of numbers to fp16; `memory` may be given for the result. Finite values stay finite, or are refused. */
function toF16(tensor: Tensor, memory?: Uint16Array): Tensor {
  const values = toFloats(tensor);
  const out = memory?.subarray(0, values.length) ?? new Uint16Array(values.length);
  const { data, beyond } = narrowFloats("f16", values, out, false);
  if (beyond > 0)
    fail("LPU2103", {
      message: `expected numbers within fp16 (up to 65504) in a constant that is kept in fp16, to be multiplied or looked up, found ${values.find(isBeyondF16)}`,
      hint: "scale weights of the layer before this one, or clamp a table to what its reader tells apart",
    });
  return makeTensor("f16", tensor.shape, data);
}

/** A constant of numbers in a type of the machine. */
function literalAs(literal: Literal, dtype: DType): Literal {
  if (literal.dtype === dtype) return literal;
  if (isLaneMap(literal))
    return laneMapLiteral(at(literal.shape, 0, "extent"), at(literal.shape, 1, "extent"), literal.laneMap, dtype);
  const converted = (tensor: Tensor): Tensor => {
    if (dtype === "f16") return toF16(tensor);
    const data = dtype === "f32" ? toFloats(tensor) : Int32Array.from(toNumbers(tensor));
    return makeTensor(dtype, tensor.shape, data);
  };
  if (isFilled(literal)) {
    const [filled] = toNumbers(converted(tensorOf(literal.dtype, [1], [literal.filled])));
    return filledLiteral({ dtype, shape: literal.shape }, sure(filled, "number"));
  }
  const load = (): Tensor => converted(literal.load());
  if (elementCount(literal.shape) <= SMALL) return literalOf(load());
  const derived = deriveLiteral([literal], dtype, { dtype, shape: literal.shape }, load);
  const { dtype: from, pieces } = literal;
  return pieces === undefined || dtype !== "f16" ? derived : { ...derived, pieces: () => halfPieces(from, pieces()) };
}

function* halfPieces(dtype: DType, pieces: Iterable<TensorData>): Generator<TensorData> {
  let memory: Uint16Array | undefined;
  for (const data of pieces) {
    if (memory === undefined || memory.length < data.length) memory = new Uint16Array(data.length);
    yield toF16({ dtype, shape: [data.length], data }, memory).data;
  }
}

/* ---------- the graph in types of the machine ---------- */

/** Nodes whose integers the host looks up: indices of gathers, back to the inputs. */
function indexNodes(graph: Graph): Uint8Array {
  const marked = new Uint8Array(graph.nodes.length);
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    const node = graph.nodes[id];
    if (node?.op === "gather") marked[at(node.inputs, 1, "input")] = 1;
    else if (node !== undefined && marked[id] === 1) for (const operand of node.inputs) marked[operand] = 1;
  }
  return marked;
}

/** Limits of integers that are narrower than i32. */
const narrowLimits = (dtype: DType): Limits | undefined =>
  dtype === "i32" || dtype === "u32" ? undefined : integerLimits(dtype);
/** Integer operations whose results may leave the range of their type. */
const WRAPPING: readonly string[] = ["add", "sub", "mul", "neg", "abs", "div", "reduce_sum", "shift_left"];

/** Reasons of sums whose scale is still to come, of angles and of gates: what reads them reads fp32. */
const READ_WIDE: readonly string[] = ["exact", "weights", "blocks", "angle", "gate"];

class Narrowing {
  readonly g = new Rewriter([]);
  readonly map = (id: NodeId): NodeId => at(this.made, id, "node");
  private readonly made: NodeId[] = [];
  private readonly graph: Graph;
  private readonly consumers: readonly (readonly NodeId[])[];
  private readonly indices: Uint8Array;
  private readonly reasons: readonly (string | undefined)[];
  private readonly held: ReadonlySet<NodeId>;
  private readonly maskedSums: Wide["maskedSums"];
  private readonly emptyRows: ReadonlySet<NodeId>;
  private readonly scaled: ReadonlySet<NodeId>;
  private readonly small: Wide["small"];
  private readonly halves = new Map<NodeId, NodeId>();

  constructor(graph: Graph, { reasons, held, maskedSums, emptyRows, scaled, small }: Wide) {
    this.graph = graph;
    this.consumers = consumersOf(graph);
    this.indices = indexNodes(graph);
    this.reasons = reasons;
    this.held = held;
    this.maskedSums = maskedSums;
    this.emptyRows = emptyRows;
    this.scaled = scaled;
    this.small = small;
    for (const node of graph.nodes)
      this.made.push(node.op === "input" ? this.input(node) : this.g.from(node, () => this.stored(node)));
  }

  /** Whether what reads a node is one ALU that takes it first, so that it may come from the MXM as it is. */
  private meetsAlus({ id, type }: Node): boolean {
    const readers = at(this.consumers, id, "list of readers");
    if (this.graph.outputs.some(({ node }) => node === id) || readers.length !== 1) return false;
    return readers.every((reader) => {
      const next = this.graph.nodes[reader];
      return (
        next !== undefined &&
        isElementwise(next.op) &&
        next.op !== "cast" &&
        next.inputs.indexOf(id) === 0 &&
        next.inputs.lastIndexOf(id) === 0 &&
        equalShapes(next.type.shape, type.shape)
      );
    });
  }

  /** The type in which a node is stored. */
  private typeOf(id: NodeId): DType {
    const dtype = at(this.graph.nodes, id, "node").type.dtype;
    if (dtype === "bool") return "bool";
    if (!isFloat(dtype)) return "i32";
    return this.reasons[id] === undefined ? "f16" : "f32";
  }

  private input(node: Node): NodeId {
    return this.g.input(node, { dtype: this.typeOf(node.id), shape: node.type.shape });
  }

  private stored(node: Node): NodeId {
    const dtype = this.typeOf(node.id);
    // What reads sums of products of integers, as their scales do, angles or gates reads them in fp32, whatever becomes of its result.
    const readsWide =
      this.scaled.has(node.id) ||
      (isElementwise(node.op) && node.inputs.some((id) => READ_WIDE.includes(this.reasons[id] ?? "")));
    if (dtype === "f16" && readsWide) return this.g.emit("cast", [this.convert(node, "f32")], { to: "f16" });
    if (!this.held.has(node.id)) return this.convert(node, dtype);
    return this.g.emit("cast", [this.heldBy(node)], { to: "f16" });
  }

  private heldBy(node: Node): NodeId {
    const { g } = this;
    const sum = this.maskedSums.get(node.id);
    if (sum === undefined) return heldScores(g, this.convert(node, "f32"));
    return heldSum(g, this.as(sum.scores, "f32"), this.as(sum.mask, "f32"));
  }

  private convert(node: Node, dtype: DType): NodeId {
    const { g } = this;
    const { op, attrs, inputs } = node;
    // Constants keep their type until it is known what takes them.
    const literal = literalIn(node);
    if (literal !== undefined) return g.constant(literal);
    if (op === "gather") return g.emit("gather", [this.as(inputs[0], dtype), this.as(inputs[1], "i32")], attrs);
    if (op === "cast") return this.cast(node, at(inputs, 0, "input"), dtype);
    if (op === "matmul" || op === "reduce_sum" || op === "reduce_max") return this.contract(node, dtype);
    if (this.indices[node.id] === 1 || !isElementwise(op))
      return g.emit(
        op,
        inputs.map((id) => this.as(id, dtype)),
        attrs,
      );
    if (this.emptyRows.has(node.id)) {
      // The maximum of a row of minus infinities: what is subtracted stays finite, and e^x is 0.
      const least = g.number(dtype === "f32" ? -LARGEST_F32 : -LARGEST_F16, "f32");
      return g.emit("sub", [this.as(inputs[0], dtype), g.emit("max", [this.as(inputs[1], dtype), least])]);
    }
    const operands = node.type.dtype !== "bool" ? dtype : this.comparedAs(inputs);
    const made = g.emit(
      op,
      inputs.map((id, index) => (op === "select" && index === 0 ? this.map(id) : this.operand(op, id, operands))),
      attrs,
    );
    return WRAPPING.includes(op) ? this.wrapped(made, node.type.dtype) : made;
  }

  /** The type in which operands of a comparison meet. */
  private comparedAs(inputs: readonly NodeId[]): DType {
    const types = inputs.map((id) => this.typeOf(id));
    const computed = inputs.flatMap((id) => (this.graph.nodes[id]?.op === "constant" ? [] : [this.typeOf(id)]));
    return computed.includes("f32") || types.every((dtype) => dtype === "f32")
      ? "f32"
      : (computed[0] ?? at(types, 0, "type"));
  }

  /** An operand in a type; a single number that meets floats is an immediate, and exact. */
  private operand(op: string, id: NodeId, dtype: DType): NodeId {
    const literal = this.g.literal(this.map(id));
    const immediate = literal !== undefined && elementCount(literal.shape) === 1 && op !== "select";
    return this.as(id, immediate && isFloat(dtype) ? "f32" : dtype);
  }

  /** Products of fp16 numbers; sums and maxima of any. A wide product is one that flows through an ALU. */
  private contract(node: Node, dtype: DType): NodeId {
    const { g } = this;
    const { op, attrs, inputs } = node;
    if (op !== "matmul") {
      const [x = 0] = inputs;
      const made = g.emit(op, [this.as(x, dtype)], attrs);
      return WRAPPING.includes(op) ? this.wrapped(made, node.type.dtype) : made;
    }
    const map = isMove(this.graph, op, inputs[1]);
    if (!isFloat(node.type.dtype) || map)
      return g.emit(
        op,
        inputs.map((id) => this.as(id, map ? this.typeOf(at(inputs, 0, "input")) : dtype)),
        attrs,
      );
    if (this.reasons[node.id] === "angle" && isScaling(this.graph, node))
      return g.emit(
        "mul",
        inputs.map((id) => this.as(id, "f32")),
      );
    if (this.reasons[node.id] === "exponent" && inputs.every((id) => this.reasons[id] !== undefined))
      return exactProduct(
        g,
        node,
        inputs.map((id) => this.as(id, "f32")),
      );
    if (this.reasons[node.id] === "first term")
      return sumOfHalves(
        g,
        g.emit(op, [this.halvesOf(at(inputs, 0, "input")), this.multiplied(at(inputs, 1, "input"))], attrs),
      );
    const product = g.emit(
      op,
      inputs.map((id) => this.multiplied(id)),
      attrs,
    );
    if (dtype !== "f32") return product;
    const wide = g.emit("cast", [product], { to: "f32" });
    const power = inputs.reduce((all, id) => all * (this.small.get(id) ?? 1), 1);
    if (power !== 1) return g.emit("mul", [wide, g.number(1 / power, "f32")]);
    return this.meetsAlus(node) ? wide : g.emit("mul", [wide, g.number(1, "f32")]);
  }

  /** Both halves of rows that are multiplied, for all products that take them. */
  private halvesOf(x: NodeId): NodeId {
    const known = this.halves.get(x) ?? bothHalves(this.g, this.as(x, "f32"));
    this.halves.set(x, known);
    return known;
  }

  /** An operand of a product: FP8, or fp16, of which small constants are kept times a power of two. */
  private multiplied(id: NodeId): NodeId {
    const power = this.small.get(id);
    const literal = this.g.literal(this.map(id));
    if (power !== undefined && literal !== undefined)
      return this.g.constant(literalAs(timesPower(literal, power), "f16"));
    return isFp8(at(this.graph.nodes, id, "node").type.dtype) ? this.map(id) : this.as(id, "f16");
  }

  private cast(node: Node, x: NodeId, dtype: DType): NodeId {
    const { g } = this;
    const from = this.typeOf(x);
    if (dtype === "bool" || from === "bool" || dtype !== "i32" || from === "i32") {
      const made = this.as(x, dtype);
      return dtype === "i32" ? this.wrapped(made, node.type.dtype, this.graph.nodes[x]?.type.dtype) : made;
    }
    // Floats become whole numbers before they are cast (decompose/math.ts), and are held within narrow types.
    const limits = narrowLimits(node.type.dtype);
    const value = this.as(x, "f32");
    const held =
      limits === undefined
        ? value
        : g.emit("max", [g.emit("min", [value, g.number(limits.hi, "f32")]), g.number(limits.lo, "f32")]);
    return g.emit("cast", [held], { to: "i32" });
  }

  /** Integers as a narrower type holds them: modulo the number of its values. */
  private wrapped(x: NodeId, dtype: DType, from: DType = "i32"): NodeId {
    const { g } = this;
    const limits = narrowLimits(dtype);
    const fits = narrowLimits(from);
    if (limits === undefined || (fits !== undefined && fits.lo >= limits.lo && fits.hi <= limits.hi)) return x;
    const count = g.number(limits.hi - limits.lo + 1, "i32");
    if (limits.lo === 0) return g.emit("mod", [x, count]);
    const offset = g.number(-limits.lo, "i32");
    return g.emit("sub", [g.emit("mod", [g.emit("add", [x, offset]), count]), offset]);
  }

  /** A node in a type of the machine. */
  private as(id: NodeId | undefined, dtype: DType): NodeId {
    const { g } = this;
    const made = this.map(sure(id, "node"));
    const from = g.type(made).dtype;
    if (from === dtype) return made;
    const literal = g.literal(made);
    if (literal !== undefined && dtype !== "bool") return g.constant(literalAs(literal, dtype));
    if (dtype === "bool") return g.emit("not", [g.emit("eq", [made, g.number(0, from)])]);
    if (from === "bool") return g.emit("select", [made, g.number(1, dtype), g.number(0, dtype)]);
    return g.emit("cast", [made], { to: dtype });
  }
}

export const precision: GraphPass = {
  name: "precision",
  doc: "Gives every tensor the type in which it is stored: f16, f32 where its range or its bits ask for it, i32 for integers.",
  run: (graph, { onKept }) => {
    const wide = wideOf(graph);
    onKept?.(keptWide(graph, wide));
    const narrowing = new Narrowing(graph, wide);
    return narrowing.g.finish(graph, narrowing.map);
  },
  requires: ["legal-ops"],
  ensures: ["legal"],
};
