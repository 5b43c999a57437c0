/** Losses against ONNX Runtime: every reduction, weights, and targets that are ignored. */

import { describe, expect, test } from "@jest/globals";
import { expectAgreement, float, type NodeCase, refusalOf, varied, whole } from "./agreement.js";

const SHAPES: readonly (readonly number[])[] = [
  [5, 4],
  [2, 4, 3, 2],
];
const weights = float([4], [0.5, 2, 1, 0.25]);

describe.each(["none", "sum", "mean"])("reduction %s", (reduction) => {
  test("of the scores of targets, and of scores that become probabilities", async () => {
    for (const [batch = 1, classes = 1, ...places] of SHAPES) {
      const scores = varied(batch, classes, ...places);
      const count = places.reduce((product, size) => product * size, batch);
      const targets = whole(
        [batch, ...places],
        Array.from({ length: count }, (_, i) => (i * 3) % classes),
      );
      for (const ignored of [{}, { ignore_index: 2 }]) {
        for (const rest of [[], [weights]]) {
          const given = { attributes: { reduction, ...ignored }, operands: [scores, targets, ...rest], opset: 13 };
          await expectAgreement({ op: "NegativeLogLikelihoodLoss", ...given });
          await expectAgreement({ op: "SoftmaxCrossEntropyLoss", ...given, results: ["float32", "float32"] });
        }
      }
    }
  });
});

test("many places with a short last axis, whose classes stay on rows", async () => {
  const shape = [2, 3, 4, 5, 6, 4];
  const targets = whole(
    [2, 4, 5, 6, 4],
    Array.from({ length: 960 }, (_, i) => (i * 5) % 3),
  );
  const given = { attributes: { reduction: "mean" }, operands: [varied(...shape), targets], opset: 13 };
  await expectAgreement({ op: "SoftmaxCrossEntropyLoss", ...given, results: ["float32", "float32"] });
});

test("a target to ignore that is no class", async () => {
  const targets = whole([5], [1, -100, 3, -100, 0]);
  const attributes = { ignore_index: -100 };
  for (const operands of [
    [varied(5, 4), targets],
    [varied(5, 4), targets, weights],
  ])
    await expectAgreement({ op: "SoftmaxCrossEntropyLoss", attributes, operands, opset: 13 });
});

test("another reduction is refused", () => {
  const given: NodeCase = {
    op: "NegativeLogLikelihoodLoss",
    attributes: { reduction: "max" },
    operands: [varied(5, 4), whole([5], [0, 1, 2, 3, 0])],
  };
  expect(refusalOf(given)).toBe("LPU1008: expected a reduction none, sum or mean, got 'max'");
});
