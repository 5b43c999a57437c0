/**
 * Masks: what is added to the scores of a softmax, and what that asks of their type.
 *
 * A mask of -10,000 leaves an fp16 score no fraction, which counts where a whole row is masked: such scores are stored in
 * fp32. A mask beside which no score has any weight at all (finfo.min, -1e9) says only how often a place is masked. Those
 * scores are brought into the range of fp16: above FLOOR they are what they were, below it the magnitudes of masks stay apart,
 * the least finite number stays finite and minus infinity stays what it is. So a row in which everything is masked gives what
 * ONNX says: the places that are masked least share the weight.
 */

import { LARGEST_F16, LARGEST_F32 } from "../../ir/numerics.js";
import { at } from "../../diagnostics.js";
import { elementCount, type Graph, isConstant, type Node, type NodeId } from "../../ir/graph.js";
import { VIEWS } from "../../ir/ops.js";
import { isFloat } from "../../ir/tensor.js";
import { isSpecial, type Range } from "../../ir/ranges.js";
import type { Rewriter } from "./rewriter.js";

/** Beside a number of this magnitude an fp16 score has fewer bits than a softmax should see. */
const GREAT = 512;
/** Beside a number of this magnitude a score has no weight. */
const ABSORBING = 1e7;
/** Scores above it are kept exactly as fp16 has them. */
const FLOOR = -50000;
const SLOPE = 1e-5;
const LEAST_F16 = -LARGEST_F16;

export type Mask = "none" | "absorbing" | "bits";

export const magnitude = ({ lo, hi }: Range): number => Math.max(Math.abs(lo), Math.abs(hi));

/** Operations through which scores and masks reach a softmax. */
const CARRIERS: readonly string[] = [
  "add",
  "sub",
  "mul",
  "div",
  "neg",
  "select",
  "max",
  "min",
  "concat",
  "cast",
  ...VIEWS,
];

/** Nodes that are scores: softmax subtracts their maximum from them. */
export const scoreNodes = (graph: Graph): ReadonlySet<NodeId> => {
  const scores = new Set<NodeId>();
  for (const { op, inputs } of graph.nodes) {
    const [x, m] = inputs;
    if (op === "sub" && x !== undefined && m !== undefined && isMaximumOf(graph, m, x)) scores.add(x);
  }
  return scores;
};

/** Whether a node is the maximum of another, or a lower bound of that. */
export const isMaximumOf = (graph: Graph, id: NodeId, x: NodeId): boolean => {
  const node = graph.nodes[id];
  if (node?.op === "max") return node.inputs.some((input) => isMaximumOf(graph, input, x));
  return node?.op === "reduce_max" && node.inputs[0] === x;
};

/** What kind of mask there is in the scores at a node. */
export const maskOf = (graph: Graph, ranges: readonly Range[], scores: NodeId): Mask => {
  let [least, unknown] = [Number.POSITIVE_INFINITY, false];
  const seen = new Set<NodeId>();
  const stack = [scores];
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    const node = graph.nodes[id];
    if (node === undefined || seen.has(id)) continue;
    seen.add(id);
    if (node.op === "input") unknown ||= isFloat(node.type.dtype);
    else if (node.op === "constant") {
      const great = greatnessOf(node, ranges[id]);
      if (great === undefined) unknown = true;
      else if (great > GREAT) least = Math.min(least, great);
    } else if (isFloat(node.type.dtype) && CARRIERS.includes(node.op))
      stack.push(...(node.op === "select" ? chosenFrom(graph, ranges, node) : node.inputs));
  }
  if (least === Number.POSITIVE_INFINITY) return unknown ? "bits" : "none";
  return unknown || least < ABSORBING ? "bits" : "absorbing";
};

/** Whether a value has the magnitude of a mask, and whether it says more than what is masked. */
interface Met {
  readonly great: boolean;
  readonly scores: boolean;
}

/** On the way from masks to the given scores, what is a sum of both already: it needs its bits as much as they do. */
export const maskedNodes = (graph: Graph, ranges: readonly Range[], scores: readonly NodeId[]): ReadonlySet<NodeId> => {
  const known = new Map<NodeId, Met>();
  const found = new Set<NodeId>();
  const metAt = (id: NodeId): Met => {
    const met = known.get(id) ?? metBy(graph, ranges, at(graph.nodes, id, "node"), metAt);
    known.set(id, met);
    if (met.great && met.scores) found.add(id);
    return met;
  };
  for (const id of scores) metAt(id);
  return found;
};

const metBy = (graph: Graph, ranges: readonly Range[], node: Node, metAt: (id: NodeId) => Met): Met => {
  const range = ranges[node.id];
  if (node.op === "input") return { great: isFloat(node.type.dtype), scores: false };
  if (node.op === "constant") {
    const great = (greatnessOf(node, range) ?? Number.POSITIVE_INFINITY) > GREAT;
    return { great, scores: !great && range?.lo !== range?.hi };
  }
  if (!isFloat(node.type.dtype) || !CARRIERS.includes(node.op))
    return { great: false, scores: isFloat(node.type.dtype) };
  const from = (node.op === "select" ? chosenFrom(graph, ranges, node) : node.inputs).map(metAt);
  return { great: from.some(({ great }) => great), scores: from.some((met) => met.scores) };
};

/** Scores of one masked place from which on five operations less for each are worth a chain of its own for the mask. */
const MANY = 512;

/** Scores without any mask, and the much smaller mask that is added to them. */
export interface MaskedSum {
  readonly scores: NodeId;
  readonly mask: NodeId;
}

export const maskedSum = (graph: Graph, ranges: readonly Range[], { op, inputs }: Node): MaskedSum | undefined => {
  const size = (id: NodeId): number => elementCount(at(graph.nodes, id, "node").type.shape);
  const [scores, mask] = [...inputs].sort((a, b) => size(b) - size(a));
  if (op !== "add" || scores === undefined || mask === undefined || size(scores) < MANY * size(mask)) return undefined;
  const isBare = maskOf(graph, ranges, scores) === "none" && !isSpecial(at(ranges, scores, "node"));
  return isBare ? { scores, mask } : undefined;
};

/** What a selection chooses from: a constant that takes the place of scores is none of it, but two constants are a mask. */
const chosenFrom = (graph: Graph, ranges: readonly Range[], { inputs }: Node): readonly NodeId[] => {
  const values = inputs.slice(1);
  const isMask = values.every((id) => isConstant(graph, id));
  return isMask ? values : values.filter((id) => !isReplacement(graph, ranges, id));
};

/** A number of fp16 that takes the place of a score: no bits of others are lost beside it. */
const isReplacement = (graph: Graph, ranges: readonly Range[], id: NodeId): boolean => {
  const range = ranges[id];
  return isConstant(graph, id) && range !== undefined && magnitude(range) <= LARGEST_F16;
};

/** The greatest finite magnitude in a constant; undefined if it was not looked at. */
const greatnessOf = ({ type }: Node, range: Range | undefined): number | undefined => {
  if (!isFloat(type.dtype)) return 0;
  const great = range === undefined ? Number.POSITIVE_INFINITY : magnitude(range);
  return Number.isFinite(great) ? great : undefined;
};

/** Scores with an absorbing mask, of f32, in the range of fp16; see above. */
export const heldScores = (g: Rewriter, x: NodeId): NodeId => g.emit("max", [x, lowestScores(g, x)]);

/** The same of a sum: the mask alone says below what its scores are one. It is stored, so that each score meets one number more. */
export const heldSum = (g: Rewriter, scores: NodeId, mask: NodeId): NodeId => {
  const lowest = g.emit("cast", [lowestScores(g, mask)], { to: "f16" });
  return g.emit("max", [g.emit("add", [scores, mask]), g.emit("cast", [lowest], { to: "f32" })]);
};

/** The number below which scores do not go: what is less than FLOOR is brought above the least of fp16, but for minus infinity. */
const lowestScores = (g: Rewriter, x: NodeId): NodeId => {
  const number = (value: number): NodeId => g.number(Math.fround(value), "f32");
  const below = g.emit("add", [g.emit("mul", [x, number(SLOPE)]), number(FLOOR * (1 - SLOPE))]);
  const finite = g.emit("max", [below, number(LEAST_F16)]);
  // Only minus infinity is less than this.
  return g.emit("min", [finite, g.emit("add", [x, number(LARGEST_F32)])]);
};
