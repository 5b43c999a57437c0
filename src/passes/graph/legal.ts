/**
 * What the machine can do: the graph that selection takes, as a property to verify.
 *
 * A legal graph has only operations of LEGAL_OPS, in the forms that their rows describe. What cannot be written in them is
 * an error that lists every such node at once; a token embedding (a gather from a constant table by an input) is legal, since
 * the host does it at the edge of the program.
 */

import { ALU_OF_OP, aluFunction } from "../../ir/ops/alu.js";
import { CompileError, fail } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import { type DType, isFp8 } from "../../ir/dtype.js";
import { VIEWS } from "../../ir/ops.js";
import { booleanAttr, intsAttr, literalIn, numberAttr } from "../../ir/ops/attributes.js";
import { formatType, isFloat, isInteger } from "../../ir/tensor.js";
import { isLaneMap, onlyMoves } from "../../ir/literals.js";

interface NodeSource {
  node(id: NodeId): Node;
}

/** Whether a node is an input, or moves elements of one: the host can make such a tensor before the program runs. */
export function isHostView(source: NodeSource, id: NodeId): boolean {
  const node = source.node(id);
  if (node.op === "input") return true;
  const [operand] = node.inputs;
  return operand !== undefined && (VIEWS.includes(node.op) || node.op === "cast") && isHostView(source, operand);
}

/** Whether integers are an input's as they are, in any shape: the host looks up rows by them. */
export function areHostIndices(source: NodeSource, id: NodeId): boolean {
  const node = source.node(id);
  if (!isInteger(node.type.dtype)) return false;
  if (node.op === "input") return true;
  const [operand] = node.inputs;
  const keeps = node.op === "reshape" || (node.op === "cast" && node.type.dtype === "i32");
  return operand !== undefined && keeps && areHostIndices(source, operand);
}

/** Why a node is not legal, and what a user can do about it. */
interface Refusal {
  readonly reason: string;
  readonly hint: string;
}
type LegalRow = (node: Node, source: NodeSource) => Refusal | undefined;

const alwaysLegal = (): undefined => undefined;

/** What helps where a form should have been rewritten, and the rules did not reach it. */
const OTHER_AXIS = "move the axis to the end with a Transpose before the operator, and back after it";

/** Operations in which an unsigned 32-bit integer is not what its bits are as a signed one. */
const SIGNED: readonly string[] = ["div", "mod", "lt", "le", "max", "min", "cast", "reduce_max", "shift_right"];

/** Elementwise operations are those of an ALU for the class of their operands. */
const alu: LegalRow = (node, source) => {
  if (node.op === "cast" && isFp8(node.type.dtype))
    return {
      reason: `the ALUs do not round to FP8 (${node.type.dtype})`,
      hint: "leave activations in float16 or float32, and quantize constants only",
    };
  const types = node.inputs.map((id) => source.node(id).type.dtype);
  if (aluFunction(node.op, types) === undefined)
    return {
      reason: `the ALUs have no '${node.op}' of ${types[0]}`,
      hint: "cast the operands to float32 before the operator, and the result back, where fp32 holds the values",
    };
  return types.includes("u32") && SIGNED.includes(node.op) && !isHostView(source, node.id)
    ? {
        reason: `the ALUs have no '${node.op}' of unsigned 32-bit integers`,
        hint: "cast to int32 before the operator, where the values are below 2147483648",
      }
    : undefined;
};
const lastAxisKept: LegalRow = (node) => {
  const axes = intsAttr(node.attrs, "axes");
  return axes.length === 1 && axes[0] === node.type.shape.length - 1 && booleanAttr(node.attrs, "keepdims")
    ? undefined
    : { reason: "expected a reduction over the last axis, kept", hint: OTHER_AXIS };
};
/** What lies side by side: activations of a product may be a part of what is on lanes, and any other part is moved. */
const lastAxisInOrder: LegalRow = ({ type, attrs }) => {
  const last = type.shape.length - 1;
  return type.shape[last] === 1 || intsAttr(attrs, "strides")[last] === 1
    ? undefined
    : { reason: "expected a slice of the last axis without steps", hint: OTHER_AXIS };
};

/** Operations of a legal graph, with what is wrong about a node of theirs. */
const LEGAL_OPS: Readonly<Record<string, LegalRow>> = {
  input: alwaysLegal,
  constant: alwaysLegal,
  ...Object.fromEntries(Object.keys(ALU_OF_OP).map((op) => [op, alu])),
  matmul: (node, source) => {
    const [a, b] = node.inputs.map((id) => source.node(id));
    if (b !== undefined && isFp8(b.type.dtype) && b.op !== "constant")
      return {
        reason: "products by computed FP8 numbers do not exist",
        hint: "cast them to float16 before the product",
      };
    return isFloat(node.type.dtype) || (b !== undefined && isLaneMap(literalIn(b)))
      ? undefined
      : {
          reason: `products of integers are exact of operands within 2,048, got ${a === undefined ? "nothing" : formatType(a.type)}`,
          hint: "make the operands of 8-bit integers, or cast both to float32 where products need not be exact",
        };
  },
  reduce_sum: lastAxisKept,
  reduce_max: lastAxisKept,
  reshape: alwaysLegal,
  transpose: alwaysLegal,
  expand: alwaysLegal,
  slice: lastAxisInOrder,
  concat: (node) =>
    numberAttr(node.attrs, "axis") === node.type.shape.length - 1
      ? { reason: "expected an axis other than the last", hint: OTHER_AXIS }
      : undefined,
  gather: (node, source) => {
    const [data, indices] = node.inputs;
    const table = data === undefined ? undefined : source.node(data);
    if (table?.op !== "constant" || table.type.shape.length !== 2)
      return {
        reason: "expected a constant table of rows: data that is computed cannot be indexed on the chip",
        hint: "make the data an initializer of the model, or choose the rows before the program runs",
      };
    if (indices === undefined || !areHostIndices(source, indices))
      return {
        reason: "expected indices that are an input: they are looked up by the host",
        hint: "compute the indices before the program runs and make them an input",
      };
    return numberAttr(node.attrs, "axis") === 0
      ? undefined
      : { reason: "expected axis 0", hint: "transpose the table, so that its rows are what is looked up" };
  },
};

/** Element types that a tensor of a graph after `precision` may have. */
const MACHINE_TYPES: readonly DType[] = ["f16", "f32", "i32", "bool"];
/** Operations whose sums are made by the MXM: of fp16 numbers, but for lane maps. */
const machineType: LegalRow = (node, source) => {
  const isWeights = node.op === "constant" && isFp8(node.type.dtype);
  if (!MACHINE_TYPES.includes(node.type.dtype) && !isWeights)
    return { reason: `expected a type of the machine, got ${formatType(node.type)}`, hint: WITHIN };
  const [a, b] = node.inputs.map((id) => source.node(id));
  const map = b === undefined ? undefined : literalIn(b);
  const multiplies = node.op === "matmul" && !(isLaneMap(map) && (node.type.dtype === "i32" || onlyMoves(map)));
  return multiplies && a?.type.dtype !== "f16"
    ? { reason: `expected a product of f16, got ${a === undefined ? "none" : formatType(a.type)}`, hint: WITHIN }
    : undefined;
};
/** Types are chosen by the precision pass: what it leaves is a fault of ours. */
const WITHIN = "this is a fault of the compiler: please report it with the model";

export interface LegalProblem extends Refusal {
  readonly node: Node;
}

/** Everything in a graph that the machine cannot do; with `types`, also tensors that are not of a machine type. */
export function legalProblems(graph: Graph, types: boolean): LegalProblem[] {
  const source: NodeSource = {
    node: (id) => graph.nodes[id] ?? fail("LPU2012", { message: `node %${id} does not exist` }),
  };
  return graph.nodes.flatMap((node) => {
    const row = LEGAL_OPS[node.op] ?? unknown;
    const refusal = row(node, source) ?? (types ? machineType(node, source) : undefined);
    return refusal === undefined ? [] : [{ node, ...refusal }];
  });
}

const unknown: LegalRow = ({ op }) => ({
  reason: `the chip has no '${op}' of computed operands`,
  hint: "make what it takes a constant or a fixed input (--fix name=value), or let the host compute it before the program runs",
});

/** One error for each node that is not legal. */
export const legalErrors = (graph: Graph, types: boolean): CompileError[] =>
  legalProblems(graph, types).map(
    ({ node, reason, hint }) =>
      new CompileError("LPU2101", {
        message: `not supported on the chip: ${reason}`,
        node: `${node.origin.join(", ")} (${node.op})`,
        hint,
      }),
  );

/** Raises one error that holds every problem. */
export function requireLegal(graph: Graph, types = true): void {
  const [first, ...others] = legalErrors(graph, types);
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
}
