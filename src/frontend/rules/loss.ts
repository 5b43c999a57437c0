/**
 * Import rules of losses: what belongs to each target is chosen by comparison of the targets with all classes, so that a
 * target that is out of range, or is to be ignored, chooses nothing.
 */

import type { NodeId } from "../../ir/graph.js";
import {
  cast,
  dtypeOf,
  extent,
  hasAttribute,
  int,
  iota,
  mul,
  not,
  op,
  operand,
  optional,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  scalarLike,
  select,
  shapeOf,
  text,
  wants,
} from "../rule.js";

/** -sum(weight of the target x score of the target), of log probabilities [N, C, ...] and targets [N, ...]. */
function negativeLogLikelihood(c: RuleContext, scores: NodeId, targets: NodeId, weights: NodeId | undefined): NodeId {
  const [batch = 1, classes = 1, ...places] = shapeOf(c, scores);
  const index = cast(c, targets, "i32");
  const all = c.graph.numbers("i32", [1, classes, ...places.map(() => 1)], iota(classes));
  const hits = op(c, "eq", [reshape(c, index, [batch, 1, ...places]), all]);
  const counted = hasAttribute(c, "ignore_index")
    ? not(c, op(c, "eq", [index, scalar(c, "i32", int(c, "ignore_index"))]))
    : undefined;
  const zero = scalarLike(c, scores, 0);
  const chosen = (of: NodeId): NodeId => reduce(c, "sum", select(c, hits, of, zero), [1], false);
  const weightOf = (): NodeId | undefined => {
    if (weights === undefined) return counted === undefined ? undefined : cast(c, counted, dtypeOf(c, scores));
    const own = chosen(reshape(c, weights, [1, classes, ...places.map(() => 1)]));
    return counted === undefined ? own : select(c, counted, own, zero);
  };
  const weight = weightOf();
  const score = op(c, "neg", [chosen(scores)]);
  const loss = weight === undefined ? score : mul(c, weight, score);
  const axes = iota(rankOf(c, loss));
  const how = text(c, "reduction", "mean");
  if (how === "none") return loss;
  if (how === "sum") return reduce(c, "sum", loss, axes, false);
  if (how !== "mean") return reject(c, "LPU1008", `expected a reduction none, sum or mean, got '${how}'`);
  if (weight === undefined) return reduce(c, "mean", loss, axes, false);
  return op(c, "div", [reduce(c, "sum", loss, axes, false), reduce(c, "sum", weight, axes, false)]);
}

function softmaxCrossEntropy(c: RuleContext): readonly NodeId[] {
  const scores = operand(c, 0);
  extent(c, scores, 1);
  const logarithms = op(c, "log_softmax", [scores], { axis: 1 });
  const loss = negativeLogLikelihood(c, logarithms, operand(c, 1), optional(c, 2));
  return wants(c, 1) ? [loss, logarithms] : [loss];
}

export const LOSS: readonly Rule[] = [
  {
    op: "NegativeLogLikelihoodLoss",
    doc: "Scores and weights chosen by comparison of the targets with all classes, and their sum.",
    build: (c) => negativeLogLikelihood(c, operand(c, 0), operand(c, 1), optional(c, 2)),
  },
  {
    op: "SoftmaxCrossEntropyLoss",
    doc: "The operation log_softmax, then as NegativeLogLikelihoodLoss.",
    build: softmaxCrossEntropy,
  },
];
