/**
 * Verifies a Graph: that it is well formed, and that it has the properties which a pass requires.
 *
 * Well formed means: ids are dense, operands come before their users, every type is what the op row infers, every node has
 * an origin, and inputs and outputs name existing nodes, each once. The checks share no code with the builder.
 */

import { CompileError } from "../diagnostics.js";
import { type DType, isFp8 } from "./dtype.js";
import type { Graph, Node } from "./graph.js";
import { strangerOf } from "./group.js";
import { inferType, isOp, opRow } from "./ops.js";
import { printNode } from "./print.js";
import { equalTypes, formatType } from "./tensor.js";

/** Element types that may be on a stream. */
const MACHINE_DTYPES: ReadonlySet<DType> = new Set<DType>(["f16", "f32", "i32", "i16", "i8", "u8", "bool"]);

/** Properties beyond well-formedness: what is wrong with a node, or undefined. */
const PROPERTIES = {
  "static-shapes": {
    doc: "Every extent is a non-negative integer.",
    broken: (node: Node) =>
      node.type.shape.every((extent) => Number.isInteger(extent) && extent >= 0)
        ? undefined
        : `expected static extents, got ${formatType(node.type)}`,
  },
  "no-composites": {
    doc: "No operation is one that a pass must decompose.",
    broken: (node: Node) =>
      opRow(node.op).composite === true ? `expected no composite operation, got '${node.op}'` : undefined,
  },
  "machine-dtypes": {
    doc: "Every element type is one that streams carry, or FP8 of a constant, which widens on install.",
    broken: (node: Node) =>
      MACHINE_DTYPES.has(node.type.dtype) || (node.op === "constant" && isFp8(node.type.dtype))
        ? undefined
        : `expected an element type of the machine, got ${formatType(node.type)}`,
  },
} as const satisfies Record<string, { readonly doc: string; readonly broken: (node: Node) => string | undefined }>;
export type Property = keyof typeof PROPERTIES;

/** Raises LPU2012 about the first broken rule; the others are in `others`. */
export function verifyGraph(graph: Graph, properties: readonly Property[] = []): void {
  const [first, ...others] = graphProblems(graph, properties);
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
}

export function graphProblems(graph: Graph, properties: readonly Property[] = []): CompileError[] {
  const problems: CompileError[] = [];
  graph.nodes.forEach((node, place) => {
    const message = nodeProblem(graph, node, place) ?? firstBroken(node, properties);
    if (message !== undefined) problems.push(problem(message, node));
  });
  for (const message of edgeProblems(graph)) problems.push(problem(message));
  const stranger = problems.length > 0 ? undefined : strangerOf(graph);
  if (stranger !== undefined) problems.push(problem("expected one number of chips in a graph, got another", stranger));
  return problems;
}

function problem(message: string, node?: Node): CompileError {
  if (node === undefined) return new CompileError("LPU2012", { message });
  return new CompileError("LPU2012", {
    message: `%${node.id}: ${message}`,
    node: `${node.origin.join(", ")} (${node.op})`,
    notes: [printNode(withoutConstant(node))],
  });
}

/** A node whose constant is not looked at, since the node may be anything. */
const withoutConstant = (node: Node): Node => (node.op === "constant" ? { ...node, attrs: {} } : node);

function firstBroken(node: Node, properties: readonly Property[]): string | undefined {
  for (const name of properties) {
    const broken = PROPERTIES[name].broken(node);
    if (broken !== undefined) return `${name}: ${broken}`;
  }
  return undefined;
}

function nodeProblem(graph: Graph, node: Node, place: number): string | undefined {
  if (node.id !== place) return `expected id ${place}, got ${node.id}`;
  if (!isOp(node.op)) return `expected an operation of the tensor IR, got '${node.op}'`;
  if (node.origin.length === 0) return "expected at least one origin, got none";
  const early = node.inputs.find((id) => !(Number.isInteger(id) && id >= 0 && id < place));
  if (early !== undefined) return `expected operands that come before, got %${early}`;
  if (node.op === "input") return inputProblem(graph, node);
  try {
    const type = inferType(
      node.op,
      node.inputs.flatMap((id) => graph.nodes[id]?.type ?? []),
      node.attrs,
    );
    return equalTypes(type, node.type) ? undefined : `expected type ${formatType(type)}, got ${formatType(node.type)}`;
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    return error.details.message;
  }
}

function inputProblem(graph: Graph, node: Node): string | undefined {
  if (typeof node.attrs["name"] !== "string" || typeof node.attrs["declared"] !== "string")
    return "expected an input with a name and a declared element type";
  if (node.inputs.length > 0) return "expected an input without operands";
  return graph.inputs.includes(node.id) ? undefined : "expected every input in the list of inputs";
}

function edgeProblems(graph: Graph): string[] {
  const inputNames = graph.inputs.map((id) => graph.nodes[id]?.attrs["name"]);
  return [
    ...graph.inputs
      .filter((id) => graph.nodes[id]?.op !== "input")
      .map((id) => `expected inputs to be input nodes, got %${id}`),
    ...repeated(graph.inputs).map((id) => `expected each input once, got %${id} again`),
    ...repeated(inputNames).map((name) => `expected one input of each name, got '${name}' again`),
    ...graph.outputs
      .filter(({ node }) => graph.nodes[node] === undefined)
      .map(({ name, node }) => `expected output '${name}' to be a node, got %${node}`),
    ...repeated(graph.outputs.map(({ name }) => name)).map(
      (name) => `expected one output of each name, got '${name}' again`,
    ),
  ];
}

const repeated = <Item>(items: readonly Item[]): Item[] => items.filter((item, place) => items.indexOf(item) !== place);
