/**
 * Precision: every tensor gets the type in which the machine stores it: f16, f32, i32, or truth values.
 *
 * fp16 is what the MXM multiplies, and the default. ALUs compute in fp32 whatever is stored, and fp32 storages cost twice
 * the streams: WIDE lists what is kept in fp32, and why. Integers of all widths are i32; narrower ones wrap, or saturate, where
 * ONNX says so. Constants of one element that meet a tensor are immediates of the ALU, and exact. Infinities stay infinities.
 * Casts between float types are no operations of the machine: they say in which type a value is read.
 */

import { at } from "../../diagnostics.js";
import type { Kept } from "../../ir/facts.js";
import { consumersOf, elementCount, type Graph, isConstant, type Node, type NodeId, nodeIf } from "../../ir/graph.js";
import { isLaneMap } from "../../ir/literals.js";
import { LARGEST_F16 } from "../../ir/numerics.js";
import { isElementwise, VIEWS } from "../../ir/ops.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { type Range, rangesOf } from "../../ir/ranges.js";
import { isFloat } from "../../ir/tensor.js";
import { angleNodes } from "./angles.js";
import { isOfFp8, scaledProducts } from "./blocks.js";
import { exponentNodes } from "./exponents.js";
import { isOfFewRows } from "./few-rows.js";
import { isStored, scaledRows } from "./scaled-rows.js";
import { type LongSums, longSums } from "./long-sums.js";
import { indexNodes, inMachineTypes, type WideNodes } from "./machine-types.js";
import {
  isMaximumOf,
  magnitude,
  type Mask,
  type MaskedSum,
  maskedNodes,
  maskedSum,
  maskOf,
  scoreNodes,
} from "./masks.js";
import type { GraphPass } from "./pass.js";
import { LEAST_NORMAL, smallConstants } from "./small.js";

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

/** Operations by which a small constant keeps a number from zero. */
const FLOORS: readonly string[] = ["max", "add"];

const COMPARISONS: readonly string[] = ["eq", "lt", "le"];
const ROUNDINGS: readonly string[] = ["floor", "round"];

/** What a number is on its way to an integer: whole already, about to be rounded, an operand of what is, or part of a share. */
type WholeStage = "whole" | "rounded" | "operand" | "share";

/**
 * Numbers that become integers: back from casts to the roundings, the quotients that they round, and the operands of these. Of
 * figures of a whole tensor, such as scales, and of shares of a sum, also what they are made of.
 */
const wholeNodes = (graph: Graph): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  const visit = (id: NodeId, stage: WholeStage): void => {
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

const nextStage = ({ op, type }: Node, stage: WholeStage): WholeStage | undefined => {
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
      node.op === "mul" && node.inputs.every((id) => !isConstant(c.graph, id)) && isOnlySummed(c, node),
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
      (isElementwise(op) && inputs.some((input) => c.beyond[input] === true && isStored(c.graph, input))),
  },
  {
    name: "small",
    doc: "products by constants below the normal numbers of fp16, and what is looked up in such",
    holds: (c, { op, inputs }) =>
      (["matmul", "mul", "div", "gather"].includes(op) && inputs.some((input) => c.small.has(input))) ||
      (op === "mul" && inputs.some((input, index) => isSmallNumber(c, input) && !isGreatBy(c, inputs[1 - index]))),
  },
  {
    name: "floor",
    doc: "divisors that a constant below the normal ones of fp16 keeps from zero, and their roots",
    holds: (c, node) =>
      FLOORS.includes(node.op) && node.inputs.some((input) => isSmallNumber(c, input)) && isDividedBy(c, node),
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
    holds: ({ graph }, node) => isOfFp8(graph, node),
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

/** Whether others are divided by a value, by its root or by what is seen of it, or its logarithm is taken. */
const isDividedBy = (c: Context, node: Node): boolean =>
  readers(c, node).some(
    (next) =>
      next.op === "log" ||
      (next.op === "div" && next.inputs[1] === node.id) ||
      ((VIEWS.includes(next.op) || next.op === "sqrt") && isDividedBy(c, next)),
  );

/** Whether a node is one number below the normal ones of fp16. */
const isSmallNumber = ({ graph, ranges }: Context, id: NodeId): boolean => {
  const most = isConstant(graph, id) && !isStored(graph, id) ? magnitude(at(ranges, id, "range")) : 0;
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
  const [a, b] = inputs.map((id) => nodeIf(c.graph, id));
  if (op !== "mul" || a?.op !== "slice" || b?.op !== "slice" || a === b) return undefined;
  return a.inputs[0] === b.inputs[0] ? nodeIf(c.graph, a.inputs[0]) : undefined;
};

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

/** Whether an input, seen through views and as other floats than fp16, is an operand of arithmetic. */
const readAsNumbers = (c: Context, node: Node): boolean =>
  readers(c, node).some((next) => {
    if (next.op === "cast") return isFloat(next.type.dtype) && next.type.dtype !== "f16" && readAsNumbers(c, next);
    if (VIEWS.includes(next.op)) return readAsNumbers(c, next);
    return isElementwise(next.op) || next.op === "reduce_sum" || next.op === "reduce_max";
  });

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

const wideOf = (graph: Graph): WideNodes => {
  const ranges = rangesOf(graph);
  const masks = new Map([...scoreNodes(graph)].map((id): [NodeId, Mask] => [id, maskOf(graph, ranges, id)]));
  const masked = maskedNodes(
    graph,
    ranges,
    [...masks].flatMap(([id, mask]) => (mask === "bits" ? [id] : [])),
  );
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
    if (masks.get(node.id) === "bits" || masked.has(node.id)) {
      reasons[node.id] = "masked";
      continue;
    }
    const own = WIDE.find(({ holds }) => holds(context, node))?.name;
    const countOf = (id: NodeId): number => elementCount(at(graph.nodes, id, "node").type.shape);
    reasons[node.id] =
      own ??
      (isSmallByFloor(ranges, node, reasons) ? "floor" : undefined) ??
      inherited(node, reasons, countOf) ??
      (isGreatRoot(ranges, node) ? "beyond" : undefined);
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

/** Whether numbers that are kept from zero are still as small, as the root of their squares is. */
const isSmallByFloor = (
  ranges: readonly Range[],
  { id, op, inputs }: Node,
  reasons: readonly (string | undefined)[],
): boolean => {
  const { lo } = at(ranges, id, "range");
  return isElementwise(op) && lo > 0 && lo < LEAST_NORMAL && inputs.some((input) => reasons[input] === "floor");
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
const keptWide = (graph: Graph, { reasons }: WideNodes): readonly Kept[] => {
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
    if (reason === undefined) continue;
    const group = groups.get(reason) ?? [];
    groups.set(reason, group);
    group.push(node);
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

export const precision: GraphPass = {
  name: "precision",
  doc: "Gives every tensor the type in which it is stored: f16, f32 where its range or its bits ask for it, i32 for integers.",
  run: (graph, { onKept }) => {
    const wide = wideOf(graph);
    onKept?.(keptWide(graph, wide));
    return inMachineTypes(graph, wide);
  },
  requires: ["legal-ops"],
  ensures: ["legal"],
};
