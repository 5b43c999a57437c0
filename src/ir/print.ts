/**
 * The text form of a Graph, which `parse.ts` reads back to an equal graph.
 *
 *     graph @main(%0 "x": f32[2,3] as f32 from "x") {
 *       %1 = constant() {value=dense<[1, 2, 3]>} : f32[3] from "b"
 *       %2 = add(%0, %1) : f32[2,3] from "encoder/Add"
 *       return %2 "y"
 *     }
 *
 * What follows from the rest is left out: an input or output name that is its node's or place's number, a declared dtype
 * that is the tensor's own, an origin that is the input's name or only the node itself. A constant is written out if it is
 * small, as `splat` if all its elements are equal, and by its key otherwise.
 */

import { sure } from "../diagnostics.js";
import type { Attrs, AttrValue, Graph, GraphOutput, Literal, Node, Tensor } from "./graph.js";
import { elementCount } from "./graph.js";
import { isNarrowFloat, narrowFloat } from "./numerics.js";
import { isLiteral, stringAttr } from "./ops/attributes.js";
import { isOp, OPS } from "./ops.js";
import { formatType, isFloat, toNumbers } from "./tensor.js";
import { formatName, formatNumber } from "./text.js";

/** Constants of at most this many elements are written out. */
const INLINE_ELEMENTS = 16;
/** Constants of at most this many elements are looked at for being all equal. */
const SPLAT_ELEMENTS = 4096;

export function printGraph(graph: Graph): string {
  const declared = inputsComeFirst(graph);
  const parameters = graph.inputs.map((id) => (declared ? printParameter(graph.nodes[id], id) : `%${id}`));
  const body = graph.nodes.slice(declared ? graph.inputs.length : 0).map((node) => `  ${printNode(node)}\n`);
  const results = graph.outputs.map((output, place) => printResult(graph, output, place));
  return `graph @${formatName(graph.name)}(${parameters.join(", ")}) {\n${body.join("")}  return${results.length === 0 ? "" : " "}${results.join(", ")}\n}\n`;
}

/** Whether the inputs are the first nodes, in order; only then are they written as parameters. */
const inputsComeFirst = (graph: Graph): boolean =>
  graph.inputs.every((id, place) => id === place && graph.nodes[id]?.op === "input") &&
  graph.nodes.every((node, id) => node.op !== "input" || id < graph.inputs.length);

function printParameter(node: Node | undefined, id: number): string {
  if (node === undefined) return `%${id}`;
  const name = stringAttr(node.attrs, "name");
  const declared = stringAttr(node.attrs, "declared");
  const shownName = name === String(id) ? "" : ` ${JSON.stringify(name)}`;
  const shownDeclared = declared === node.type.dtype ? "" : ` as ${declared}`;
  return `%${id}${shownName}: ${formatType(node.type)}${shownDeclared}${printOrigin(node.origin, name)}`;
}

/** One node as it stands in a graph, without indentation. */
export function printNode(node: Node): string {
  const operands = node.inputs.map((id) => `%${id}`).join(", ");
  return `%${node.id} = ${node.op}(${operands})${printAttrs(node.op, node.attrs)} : ${formatType(node.type)}${printOrigin(node.origin, `%${node.id}`)}`;
}

const printOrigin = (origin: readonly string[], implied: string): string =>
  origin.length === 1 && origin[0] === implied ? "" : ` from ${origin.map((name) => JSON.stringify(name)).join(", ")}`;

function printResult(graph: Graph, output: GraphOutput, place: number): string {
  const name = output.name === String(place) ? "" : ` ${JSON.stringify(output.name)}`;
  return `%${output.node}${name}${output.declared === graph.nodes[output.node]?.type.dtype ? "" : ` as ${output.declared}`}`;
}

/** Attributes in the order of the op's row. */
function printAttrs(op: string, attrs: Attrs): string {
  const order = isOp(op) ? Object.keys(OPS[op].attrs) : [];
  const names = [
    ...order.filter((name) => Object.hasOwn(attrs, name)),
    ...Object.keys(attrs).filter((name) => !order.includes(name)),
  ];
  if (names.length === 0) return "";
  return ` {${names.map((name) => `${name}=${printValue(sure(attrs[name], "attribute"))}`).join(", ")}}`;
}

function printValue(value: AttrValue): string {
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean") return String(value);
  return isLiteral(value) ? `dense<${printLiteral(value)}>` : `[${value.map(formatNumber).join(",")}]`;
}

function printLiteral(literal: Literal): string {
  const count = elementCount(literal.shape);
  if (count > SPLAT_ELEMENTS) return JSON.stringify(literal.key);
  const tensor = literal.load();
  const first = tensor.data[0];
  if (count > 1 && first !== undefined && sameBits(tensor, first))
    return first === 0 && !isNegativeZero(tensor) ? "zeros" : `splat(${printElement(tensor, 0)})`;
  if (count > INLINE_ELEMENTS) return JSON.stringify(literal.key);
  return `[${Array.from({ length: count }, (_, i) => printElement(tensor, i)).join(", ")}]`;
}

const sameBits = (tensor: Tensor, first: number): boolean => tensor.data.every((value) => Object.is(value, first));
const isNegativeZero = (tensor: Tensor): boolean => Object.is(toNumbers(tensor)[0], -0);

/** The shortest decimal that rounds to the element. */
function printElement(tensor: Tensor, index: number): string {
  const value = toNumbers({ dtype: tensor.dtype, shape: [1], data: tensor.data.slice(index, index + 1) })[0] as number;
  if (!isFloat(tensor.dtype) || !Number.isFinite(value) || value === 0) return formatNumber(value);
  const { dtype } = tensor;
  const rounds = (guess: number): boolean =>
    isNarrowFloat(dtype) ? narrowFloat(dtype, Math.fround(guess)) === tensor.data[index] : Math.fround(guess) === value;
  for (let digits = 1; digits <= 9; digits += 1) {
    const guess = Number(value.toPrecision(digits));
    if (rounds(guess)) return formatNumber(guess);
  }
  return formatNumber(value);
}
