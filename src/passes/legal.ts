/**
 * What the machine can do: the graph that the layout, selection and scheduling passes take, as a property to verify.
 *
 * A legal graph has only operations of LEGAL_OPS, in the forms that their rows describe. What cannot be written in them is
 * an error that lists every such node at once; a token embedding (a gather from a constant table by an input) is legal, since
 * the host does it at the edge of the program.
 */

import { CompileError, fail } from "../diagnostics.js";
import type { Graph, Literal, Node, NodeId } from "../ir/graph.js";
import type { DType } from "../ir/dtype.js";
import { booleanAttr, intsAttr, isLiteral, numberAttr } from "../ir/ops/attributes.js";
import { formatType, isFloat } from "../ir/tensor.js";
import { ALU_OF_OP, aluFunction } from "./fuse.js";
import { isLaneMap, onlyMoves } from "./literals.js";

interface NodeSource {
  node(id: NodeId): Node;
}

/** The value of a constant. */
const literalOf = ({ op, attrs }: Node): Literal | undefined => {
  const value = attrs["value"];
  return op === "constant" && value !== undefined && isLiteral(value) ? value : undefined;
};

const VIEWS = ["reshape", "transpose", "slice", "expand"];

/** Whether a node is an input, or moves elements of one: the host can make such a tensor before the program runs. */
export function isHostView(source: NodeSource, id: NodeId): boolean {
  const node = source.node(id);
  if (node.op === "input") return true;
  const [operand] = node.inputs;
  return operand !== undefined && (VIEWS.includes(node.op) || node.op === "cast") && isHostView(source, operand);
}

const alwaysLegal = (): undefined => undefined;

/** Operations in which an unsigned 32-bit integer is not what its bits are as a signed one. */
const SIGNED: readonly string[] = ["div", "mod", "lt", "le", "max", "min", "cast", "reduce_max"];
/** Elementwise operations are those of an ALU for the class of their operands. */
const alu = (node: Node, source: NodeSource): string | undefined => {
  const types = node.inputs.map((id) => source.node(id).type.dtype);
  if (aluFunction(node.op, types) === undefined) return `the ALUs have no '${node.op}' of ${types[0]}`;
  return types.includes("u32") && SIGNED.includes(node.op) && !isHostView(source, node.id)
    ? `the ALUs have no '${node.op}' of unsigned 32-bit integers`
    : undefined;
};
const lastAxisKept = (node: Node): string | undefined => {
  const axes = intsAttr(node.attrs, "axes");
  return axes.length === 1 && axes[0] === node.type.shape.length - 1 && booleanAttr(node.attrs, "keepdims")
    ? undefined
    : "expected a reduction over the last axis, kept";
};
const lastAxisWhole = (node: Node, source: NodeSource): string | undefined => {
  const [x] = node.inputs;
  const last = node.type.shape.length - 1;
  const same =
    x === undefined ||
    (source.node(x).type.shape[last] === node.type.shape[last] &&
      (node.type.shape[last] === 1 || intsAttr(node.attrs, "strides")[last] === 1));
  return same ? undefined : "expected the last axis whole";
};

/** Operations of a legal graph, with what is wrong about a node of theirs. */
export const LEGAL_OPS: Readonly<Record<string, (node: Node, source: NodeSource) => string | undefined>> = {
  input: alwaysLegal,
  constant: alwaysLegal,
  ...Object.fromEntries(Object.keys(ALU_OF_OP).map((op) => [op, alu])),
  matmul: (node, source) => {
    const [a, b] = node.inputs.map((id) => source.node(id));
    return isFloat(node.type.dtype) || (b !== undefined && isLaneMap(literalOf(b)))
      ? undefined
      : `the MXM multiplies fp16 numbers, got ${a === undefined ? "nothing" : formatType(a.type)}`;
  },
  reduce_sum: lastAxisKept,
  reduce_max: lastAxisKept,
  reshape: alwaysLegal,
  transpose: alwaysLegal,
  expand: alwaysLegal,
  slice: lastAxisWhole,
  concat: (node) =>
    numberAttr(node.attrs, "axis") === node.type.shape.length - 1 ? "expected an axis other than the last" : undefined,
  gather: (node, source) => {
    const [data, indices] = node.inputs;
    if (data === undefined || source.node(data).op !== "constant")
      return "expected a constant table: data that is computed cannot be indexed on the chip";
    if (indices === undefined || !isHostView(source, indices))
      return "expected indices that are an input: they are looked up by the host";
    return numberAttr(node.attrs, "axis") === 0 ? undefined : "expected axis 0";
  },
};

/** Element types that a tensor of a graph after `precision` may have. */
const MACHINE_TYPES: readonly DType[] = ["f16", "f32", "i32", "bool"];
/** Operations whose sums are made by the MXM: of fp16 numbers, but for lane maps. */
const machineType = (node: Node, source: NodeSource): string | undefined => {
  if (!MACHINE_TYPES.includes(node.type.dtype)) return `expected a type of the machine, got ${formatType(node.type)}`;
  const [a, b] = node.inputs.map((id) => source.node(id));
  const map = b === undefined ? undefined : literalOf(b);
  const multiplies = node.op === "matmul" && !(isLaneMap(map) && (node.type.dtype === "i32" || onlyMoves(map)));
  return multiplies && a?.type.dtype !== "f16"
    ? `expected a product of f16, got ${a === undefined ? "none" : formatType(a.type)}`
    : undefined;
};

export interface LegalProblem {
  readonly node: Node;
  readonly reason: string;
}

/** Everything in a graph that the machine cannot do; with `types`, also tensors that are not of a machine type. */
export function legalProblems(graph: Graph, types: boolean): LegalProblem[] {
  const source: NodeSource = {
    node: (id) => graph.nodes[id] ?? fail("LPU2012", { message: `node %${id} does not exist` }),
  };
  return graph.nodes.flatMap((node) => {
    const row = LEGAL_OPS[node.op];
    const reason =
      row === undefined
        ? `the chip has no '${node.op}' of computed operands`
        : (row(node, source) ?? (types ? machineType(node, source) : undefined));
    return reason === undefined ? [] : [{ node, reason }];
  });
}

/** Raises one error that holds every problem. */
export function requireLegal(graph: Graph, types = true): void {
  const errors = legalProblems(graph, types).map(
    ({ node, reason }) =>
      new CompileError("LPU2101", {
        message: `not supported on the chip: ${reason}`,
        node: `${node.origin.join(", ")} (${node.op})`,
      }),
  );
  const [first, ...others] = errors;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
}
