/**
 * What one chip of a group does, by operations of one chip: the graph that is laid out and scheduled for all of them.
 *
 * Pieces of constants become constants of which each chip has its own, and pieces of inputs become inputs; what is joined at an
 * output stays in pieces. Of exchanges those are left that selection lays out: all_gather along a first axis, each chip's values
 * one after another in the order of chips, and sums of which each chip makes a part. Other sums over chips are those of what was
 * gathered, one after another in fp32.
 */

import { at, fail } from "../../../diagnostics.js";
import type { Graph, Node, NodeId, Shape } from "../../../ir/graph.js";
import type { TensorInPieces } from "../../../ir/plan/group.js";
import { literalIn, numberAttr, stringAttr } from "../../../ir/ops/attributes.js";
import { sharedLiteral } from "../../../ir/literals.js";
import { isFloat } from "../../../ir/tensor.js";
import type { Target } from "../../../ir/target.js";
import { Rewriter } from "../rewriter.js";
import { sumCycles } from "./costs.js";

export interface ChipGraph {
  readonly graph: Graph;
  /** By the name in the graph of one chip. */
  readonly inputs: ReadonlyMap<string, TensorInPieces>;
  readonly outputs: ReadonlyMap<string, TensorInPieces>;
}

/** `states`: the output that takes the place of an input, by the names of both; a chip has of it what it has of that. */
export const chipGraph = (group: Graph, target: Target, states: ReadonlyMap<string, string> = new Map()): ChipGraph => {
  const g = new Rewriter([], false);
  const inputs = new Map<string, TensorInPieces>();
  const made: NodeId[] = [];
  const map = (id: NodeId): NodeId => at(made, id, "node");
  for (const node of group.nodes) {
    const [first] = node.inputs;
    const source = first === undefined ? undefined : group.nodes[first];
    const lower = LOWERED[node.op];
    if (node.op === "join") made.push(map(at(node.inputs, 0, "operand")));
    else if (node.op === "piece") made.push(g.from(node, () => piece(g, node, source, inputs)));
    else if (lower === undefined || isDealt(target, node)) made.push(g.copy(node, map));
    else made.push(g.from(node, () => lower(g, map(at(node.inputs, 0, "operand")), node)));
  }
  const outputs = new Map(
    group.outputs.flatMap(({ name, node: id }): [string, TensorInPieces][] => {
      const node = at(group.nodes, id, "node");
      return node.op === "join" ? [[name, { name, shape: node.type.shape, axis: numberAttr(node.attrs, "axis") }]] : [];
    }),
  );
  const read = new Set([...inputs.values()].map(({ name }) => name));
  for (const id of group.inputs) {
    const source = at(group.nodes, id, "node");
    const name = stringAttr(source.attrs, "name");
    const left = group.outputs.find((output) => output.name === states.get(name));
    const share = left && outputs.get(left.name);
    // What is not read here stays in pieces too, where others have it so.
    if (left !== undefined && share !== undefined && !read.has(name))
      inputPiece(g, source, g.shape(map(left.node)), share.axis, inputs);
  }
  return { graph: g.finish(group, map), inputs, outputs };
};

/** The chip's own of a constant or of an input. */
const piece = (g: Rewriter, node: Node, source: Node | undefined, inputs: Map<string, TensorInPieces>): NodeId => {
  const [axis, chips] = [numberAttr(node.attrs, "axis"), numberAttr(node.attrs, "chips")];
  const literal = source === undefined ? undefined : literalIn(source);
  if (literal !== undefined) return g.constant(sharedLiteral(literal, axis, chips));
  if (source?.op !== "input") return notYet(node);
  return inputPiece(g, source, node.type.shape, axis, inputs);
};

const inputPiece = (
  g: Rewriter,
  source: Node,
  shape: Shape,
  axis: number,
  inputs: Map<string, TensorInPieces>,
): NodeId => {
  const whole = stringAttr(source.attrs, "name");
  const name = `${whole} along ${axis}`;
  inputs.set(name, { name: whole, shape: source.type.shape, axis });
  return g.input({ ...source, attrs: { ...source.attrs, name } }, { ...source.type, shape });
};

const notYet = ({ op, origin }: Node): never =>
  fail("LPU2101", {
    message: `several chips have no '${op}' of computed values yet`,
    node: `${origin.join(", ")} (${op})`,
    hint: "leave it to the compiler where values lie",
  });

/** The values of all chips, one after another along a new first axis. */
const gathered = (g: Rewriter, x: NodeId, chips: number): NodeId => {
  const one = g.emit("reshape", [x], { shape: [1, ...g.shape(x)] });
  return g.emit("all_gather", [one], { axis: 0, chips });
};

/** Sums over chips of which each makes a part: selection lays them out (select/rules/reduce.ts). */
const isDealt = (target: Target, { op, attrs, type }: Node): boolean => {
  if (op !== "all_reduce" || !isFloat(type.dtype)) return false;
  const { direct, dealt } = sumCycles(target, numberAttr(attrs, "chips"), type);
  return dealt < direct;
};

type Lower = (g: Rewriter, x: NodeId, node: Node) => NodeId;

const gather: Lower = (g, x, { attrs, type }) => {
  const axis = numberAttr(attrs, "axis");
  const all = gathered(g, x, numberAttr(attrs, "chips"));
  const axes = g.shape(all).map((_, index) => index);
  const perm = [...axes.slice(1, axis + 1), 0, ...axes.slice(axis + 1)];
  const turned = axis === 0 ? all : g.emit("transpose", [all], { perm });
  return g.emit("reshape", [turned], { shape: type.shape });
};

const reduce: Lower = (g, x, { attrs, type: { dtype, shape } }) => {
  const chips = numberAttr(attrs, "chips");
  const all = gathered(g, x, chips);
  const whole = g.shape(all);
  const wide = (id: NodeId): NodeId => (isFloat(dtype) && dtype !== "f32" ? g.emit("cast", [id], { to: "f32" }) : id);
  const parts = Array.from({ length: chips }, (_, chip) => {
    const starts = whole.map((_, axis) => (axis === 0 ? chip : 0));
    const sizes = whole.map((extent, axis) => (axis === 0 ? 1 : extent));
    const part = g.emit("slice", [all], { starts, sizes, strides: whole.map(() => 1) });
    return wide(g.emit("reshape", [part], { shape }));
  });
  const sum = parts.reduce((total, part) => g.emit("add", [total, part]));
  return dtype === g.type(sum).dtype ? sum : g.emit("cast", [sum], { to: dtype });
};

const LOWERED: Readonly<Record<string, Lower>> = {
  all_gather: gather,
  all_reduce: reduce,
  all_to_all: (_, __, node) => notYet(node),
};
