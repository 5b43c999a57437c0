/** Sampling at computed coordinates against ONNX Runtime: modes, ways beyond the edges, two and three axes. */

import { describe, expect, test } from "@jest/globals";
import { elementCount } from "../src/ir/graph.js";
import { expectAgreement, float, type NodeCase, type Operand, refusalOf, varied, whole } from "./agreement.js";

/** Coordinates from -`most` to `most`, none of them halfway between places. */
const coordinates = (most: number, ...dims: readonly number[]): Operand =>
  float(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => (((Math.imul(i + 3, 40503) >>> 4) % 9973) / 4986 - 1) * most),
  );

const sample = (
  [x, grid]: readonly [Operand, Operand],
  attributes: Readonly<Record<string, string | number>>,
): NodeCase => ({ op: "GridSample", opset: 20, attributes, operands: [x, grid] });

const PLANE = [varied(2, 3, 5, 7), coordinates(2.6, 2, 4, 5, 2)] as const;
const SPACE = [varied(1, 3, 3, 4, 5), coordinates(1.7, 1, 2, 2, 3, 3)] as const;

describe.each(["linear", "nearest", "cubic"])("%s", (mode) => {
  test.each(["zeros", "border", "reflection"])("%s", async (padding_mode) => {
    for (const align_corners of [0, 1])
      await expectAgreement(sample(PLANE, { mode, padding_mode, align_corners }), {
        machine: align_corners === 0,
        evaluated: 1e-4,
      });
  });
});

test("of three axes", async () => {
  for (const mode of ["linear", "nearest"])
    await expectAgreement(sample(SPACE, { mode, padding_mode: "border" }), { evaluated: 1e-4 });
});

test("what does not fit or is no mode is refused by name", () => {
  const [x, grid] = PLANE;
  expect(refusalOf(sample([x, coordinates(1, 2, 4, 5, 3)], {}))).toContain("expected a grid [2, .., 2] of 4 axes");
  expect(refusalOf(sample([x, grid], { mode: "lanczos" }))).toContain("expected a known mode");
  expect(
    refusalOf(sample([whole([2, 1, 4, 4], Array(32).fill(1), "int32"), coordinates(1, 2, 3, 3, 2)], {})),
  ).toContain("expected a float operand");
  expect(refusalOf(sample([varied(2, 1, 300, 300), coordinates(1, 2, 30, 30, 2)], {}))).toContain(
    "1800 samples of 90000 elements",
  );
});
