/**
 * Precision: every tensor becomes fp16, the type in which the machine stores and multiplies.
 *
 * Constants convert when they are loaded, to nearest, with all values beyond +-65504, infinities too, becoming +-65504: an
 * infinite mask must not make NaN of 0 * inf or of inf - inf. Constants of one element that meet a tensor are immediates of
 * the ALU; they stay f32 and are held within the same limits. Integers and truth values that are not indices for the host
 * become numbers: they are stored as fp16, exact up to 2048, and casts to floats vanish. Comparisons still give bool.
 */

import type { DType, TensorData } from "../ir/dtype.js";
import { elementCount, type Graph, type Literal, type Node, type NodeId, type Tensor } from "../ir/graph.js";
import { narrowFloats } from "../ir/numerics.js";
import { isFloat, literalOf, makeTensor, toFloats } from "../ir/tensor.js";
import { deriveLiteral, isLaneMap, laneMapLiteral, numberLiteral, smallValues } from "./literals.js";
import type { Pass } from "./pass.js";
import { Rewriter } from "./rewriter.js";
import { isElementwise } from "./rules-arithmetic.js";

export const LARGEST_F16 = 65504;
/** Constants of at most so many elements are converted at once. */
const SMALL = 4096;

/** Narrows a tensor of numbers to fp16 with saturation; `memory` may be given for the result. */
export function toF16(tensor: Tensor, memory?: Uint16Array): { readonly tensor: Tensor; readonly saturated: number } {
  const values = toFloats(tensor);
  const out = memory?.subarray(0, values.length) ?? new Uint16Array(values.length);
  const { data, saturated } = narrowFloats("f16", values, out, true);
  return { tensor: makeTensor("f16", tensor.shape, data), saturated };
}

/** How many finite values of a constant are beyond fp16. */
export const saturatedValues = (literal: Literal): number =>
  isFloat(literal.dtype) ? toF16(literal.load()).saturated : 0;

function halfLiteral(literal: Literal): Literal {
  if (isLaneMap(literal)) return laneMapLiteral(literal.shape[0] ?? 0, literal.shape[1] ?? 0, literal.laneMap, "f16");
  const load = (): Tensor => toF16(literal.load()).tensor;
  if (elementCount(literal.shape) <= SMALL) return literalOf(load());
  const derived = deriveLiteral([literal], "f16", { dtype: "f16", shape: literal.shape }, load);
  const { dtype, pieces } = literal;
  return pieces === undefined ? derived : { ...derived, pieces: () => halfPieces(dtype, pieces()) };
}

function* halfPieces(dtype: DType, pieces: Iterable<TensorData>): Generator<TensorData> {
  let memory: Uint16Array | undefined;
  for (const data of pieces) {
    if (memory === undefined || memory.length < data.length) memory = new Uint16Array(data.length);
    yield toF16({ dtype, shape: [data.length], data }, memory).tensor.data;
  }
}

const VIEWS: readonly string[] = ["reshape", "transpose", "slice", "expand"];
const LOGIC: readonly string[] = ["and", "or", "not"];

/** Nodes whose integers the host looks up: indices of gathers, back to the inputs. */
function indexNodes(graph: Graph): Uint8Array {
  const marked = new Uint8Array(graph.nodes.length);
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    const node = graph.nodes[id];
    if (node?.op === "gather") marked[node.inputs[1] ?? 0] = 1;
    else if (node !== undefined && marked[id] === 1) for (const operand of node.inputs) marked[operand] = 1;
  }
  return marked;
}

class Narrowing {
  readonly g = new Rewriter([]);
  readonly map = (id: NodeId): NodeId => this.made[id] ?? 0;
  private readonly made: NodeId[] = [];
  private readonly graph: Graph;
  private readonly indices: Uint8Array;

  constructor(graph: Graph) {
    this.graph = graph;
    this.indices = indexNodes(graph);
    for (const node of graph.nodes)
      this.made.push(node.op === "input" ? this.input(node) : this.g.from(node, () => this.convert(node)));
  }

  private input(node: Node): NodeId {
    const dtype: DType = this.indices[node.id] === 1 ? node.type.dtype : "f16";
    return this.g.input(node, { dtype, shape: node.type.shape });
  }

  private convert(node: Node): NodeId {
    const { g } = this;
    if (node.op === "constant") return g.constant(this.constantOf(node));
    if (node.op === "gather")
      return g.emit("gather", [this.number(node.inputs[0] ?? 0), this.map(node.inputs[1] ?? 0)], node.attrs);
    if (this.indices[node.id] === 1) return g.emit(node.op, node.inputs.map(this.map), node.attrs);
    if (node.op === "cast")
      return node.type.dtype === "bool" ? this.truth(node.inputs[0] ?? 0) : this.number(node.inputs[0] ?? 0);
    const [first] = node.inputs;
    if (VIEWS.includes(node.op) && first !== undefined)
      return g.emit(node.op, [this.isTruth(first) ? this.map(first) : this.number(first)], node.attrs);
    const immediates = isElementwise(node.op) && node.op !== "select";
    return g.emit(
      node.op,
      node.inputs.map((id) => this.operand(node, id, immediates)),
      node.attrs,
    );
  }

  private operand(node: Node, id: NodeId, immediates: boolean): NodeId {
    if (LOGIC.includes(node.op) || this.isTruth(id)) return this.truth(id);
    const literal = this.g.literal(this.map(id));
    if (immediates && literal !== undefined && elementCount(literal.shape) === 1)
      return this.g.constant(this.immediate(id));
    return this.number(id);
  }

  private isTruth(id: NodeId): boolean {
    return this.graph.nodes[id]?.type.dtype === "bool";
  }

  /** The node as numbers: f16. Truth values of the host are 0 and 1 already. */
  private number(id: NodeId): NodeId {
    const made = this.map(id);
    const { dtype } = this.g.type(made);
    const literal = this.g.literal(made);
    if (dtype === "f16") return made;
    if (literal !== undefined) return this.g.constant(halfLiteral(literal));
    if (dtype === "bool") return this.g.emit("select", [made, this.g.number(1, "f16"), this.g.number(0, "f16")]);
    return this.g.emit("cast", [made], { to: "f16" });
  }

  /** The node as truth values: bool. */
  private truth(id: NodeId): NodeId {
    const made = this.map(id);
    if (this.g.type(made).dtype === "bool") return made;
    return this.g.emit("lt", [this.g.number(0.5, "f32"), this.number(id)]);
  }

  /** Constants keep integers and truth values until it is known what takes them. */
  private constantOf(node: Node): Literal {
    const literal = this.graphLiteral(node);
    return isFloat(literal.dtype) ? halfLiteral(literal) : literal;
  }

  private graphLiteral(node: Node): Literal {
    const value = node.attrs["value"];
    return typeof value === "object" && "load" in value ? value : numberLiteral("f32", 0);
  }

  private immediate(id: NodeId): Literal {
    const node = this.graph.nodes[id];
    const literal = node === undefined ? numberLiteral("f32", 0) : this.graphLiteral(node);
    const value = toFloats(smallValues(literal) ?? literal.load())[0] ?? 0;
    const held = Number.isNaN(value) ? value : Math.max(-LARGEST_F16, Math.min(LARGEST_F16, value));
    return literalOf(makeTensor("f32", literal.shape, Float32Array.of(held)));
  }
}

export const precision: Pass = {
  name: "precision",
  doc: "Makes every tensor fp16, with saturating constants; immediates stay fp32 and indices for the host i32.",
  run: (graph) => {
    const narrowing = new Narrowing(graph);
    return narrowing.g.finish(graph, narrowing.map);
  },
  requires: ["legal-ops"],
  ensures: ["legal"],
};
