/**
 * A graph in types of the machine, once it is known which of its values are wide (precision.ts): casts where a value is read in
 * another type than it is stored in, integers that wrap or saturate, and constants in the type of what takes them.
 */

import { at, fail, sure } from "../../diagnostics.js";
import { type DType, integerLimits, isFp8, type Limits, type TensorData } from "../../ir/dtype.js";
import {
  consumersOf,
  elementCount,
  type Graph,
  isConstant,
  type Literal,
  type Node,
  type NodeId,
  type Tensor,
} from "../../ir/graph.js";
import { deriveLiteral, filledLiteral, isFilled, isLaneMap, laneMapLiteral } from "../../ir/literals.js";
import { LARGEST_F16, LARGEST_F32, narrowFloats, roundToF16 } from "../../ir/numerics.js";
import { isElementwise } from "../../ir/ops.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { equalShapes, isFloat, literalOf, makeTensor, tensorOf, toFloats, toNumbers } from "../../ir/tensor.js";
import { isScaling } from "./angles.js";
import { exactProduct, isMove } from "./exponents.js";
import { bothHalves, sumOfHalves } from "./few-rows.js";
import { narrowHalves } from "./halves-simd.js";
import { heldScores, heldSum, type MaskedSum } from "./masks.js";
import { Rewriter } from "./rewriter.js";
import { timesPower } from "./small.js";

/** What is wide in a graph, and what is done so that the rest need not be. */
export interface WideNodes {
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

/* ---------- the graph in types of the machine ---------- */

/** Nodes whose integers the host looks up: indices of gathers, back to the inputs. */
export function indexNodes(graph: Graph): Uint8Array {
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

/** Reasons of sums whose scale is still to come, of angles, of gates and of small divisors: what reads them reads fp32. */
const READ_WIDE: readonly string[] = ["exact", "weights", "blocks", "angle", "gate", "floor"];

/** The graph in types of the machine, of which `wide` are fp32. */
export const inMachineTypes = (graph: Graph, wide: WideNodes): Graph => {
  const { g, map } = new Typed(graph, wide);
  return g.finish(graph, map);
};

/** The graph in the making; `map` leads from nodes of the given one to its own. */
class Typed {
  readonly g = new Rewriter([]);
  readonly map = (id: NodeId): NodeId => at(this.made, id, "node");
  private readonly made: NodeId[] = [];
  private readonly graph: Graph;
  private readonly consumers: readonly (readonly NodeId[])[];
  private readonly indices: Uint8Array;
  private readonly reasons: readonly (string | undefined)[];
  private readonly held: ReadonlySet<NodeId>;
  private readonly maskedSums: WideNodes["maskedSums"];
  private readonly emptyRows: ReadonlySet<NodeId>;
  private readonly scaled: ReadonlySet<NodeId>;
  private readonly small: WideNodes["small"];
  private readonly halves = new Map<NodeId, NodeId>();

  constructor(graph: Graph, { reasons, held, maskedSums, emptyRows, scaled, small }: WideNodes) {
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
    // What reads sums of products of integers, as their scales do, angles, gates or small divisors reads them in fp32, whatever becomes of its result.
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
    const computed = inputs.flatMap((id) => (isConstant(this.graph, id) ? [] : [this.typeOf(id)]));
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
      const made = g.emit(op, [this.as(inputs[0], dtype)], attrs);
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

/* ---------- constants ---------- */

/** Constants of at most so many elements are converted at once. */
const SMALL = 4096;

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
    if (data instanceof Float32Array && narrowHalves(data, memory)) yield memory.subarray(0, data.length);
    else yield toF16({ dtype, shape: [data.length], data }, memory).data;
  }
}
