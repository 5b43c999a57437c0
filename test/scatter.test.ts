/** ScatterND and ScatterElements against ONNX Runtime: constant and computed places, every reduction, places that occur again. */

import { describe, expect, test } from "@jest/globals";
import { constant, expectAgreement, type NodeCase, refusalOf, type Operand, varied, whole } from "./agreement.js";

const REDUCTIONS = ["none", "add", "mul", "max", "min"];
const PLACES: readonly [string, (operand: Operand) => Operand][] = [
  ["constant", constant],
  ["computed", (operand) => operand],
];

const scatter = (op: string, attributes: NodeCase["attributes"], ...operands: readonly Operand[]): NodeCase => ({
  op,
  opset: 18,
  attributes: attributes ?? {},
  operands,
});

describe.each(PLACES)("%s places", (_, given) => {
  test.each(REDUCTIONS)("rows, reduction %s", async (reduction) => {
    // Without a reduction no place may occur twice.
    const rows = reduction === "none" ? [3, -5, 1] : [3, -2, 3];
    const places = given(whole([3, 1], rows));
    await expectAgreement(scatter("ScatterND", { reduction }, varied(5, 4), places, varied(3, 4)));
    const pairs = given(whole([2, 2, 2], [0, 1, 2, -1, 1, 0, ...(reduction === "none" ? [2, 0] : [0, 1])]));
    await expectAgreement(scatter("ScatterND", { reduction }, varied(3, 2, 3), pairs, varied(2, 2, 3)));
  });

  test.each(REDUCTIONS)("elements, reduction %s", async (reduction) => {
    const index = reduction === "none" ? [0, -1, 2, 1, 2, 0] : [0, 0, -3, 1, 1, 1];
    const lines = given(whole([2, 3], index));
    for (const data of [varied(2, 3), varied(4, 3)])
      await expectAgreement(scatter("ScatterElements", { axis: 1, reduction }, data, lines, varied(2, 3)));
    const columns = given(whole([2, 2], reduction === "none" ? [0, 3, 2, 1] : [3, 3, 3, -1]));
    await expectAgreement(scatter("ScatterElements", { axis: 0, reduction }, varied(4, 3), columns, varied(2, 2)));
  });

  test.each(["int8", "uint8"] as const)("greatest and least of %s", async (type) => {
    const places = given(whole([3, 1], [3, 0, 3]));
    const sign = type === "int8" ? -1 : 1;
    const data = whole(
      [4, 2],
      [100, 120, 90, 4, 5, 6, 7, 8].map((value) => sign * value),
      type,
    );
    const updates = whole(
      [3, 2],
      [110, 9, 60, 50, 7, 127].map((value) => sign * value),
      type,
    );
    for (const reduction of ["max", "min"])
      await expectAgreement({ ...scatter("ScatterND", { reduction }, data, places, updates), results: [type] });
  });

  test("integers and truth values", async () => {
    const places = given(whole([3, 1], [3, 0, 3]));
    const data = whole([4, 2], [1, 2, 3, 4, 100_000, 6, 2 ** 30, 8], "int32");
    const updates = whole([3, 2], [9, 16_777_217, -5, 7, 3, -(2 ** 30)], "int32");
    for (const reduction of ["add", "mul", "max", "min"])
      await expectAgreement({
        ...scatter("ScatterND", { reduction }, data, places, updates),
        results: ["int32"],
      });
    const unique = given(whole([2, 1], [3, 0]));
    const few = whole([2, 2], [9, 16_777_217, -5, 7], "int32");
    await expectAgreement({ ...scatter("ScatterND", {}, data, unique, few), results: ["int32"] });
    const truths = (dims: readonly number[], values: readonly number[]): Operand => whole(dims, values, "bool");
    await expectAgreement({
      ...scatter("ScatterND", {}, truths([4, 2], [1, 0, 1, 0, 1, 1, 0, 0]), unique, truths([2, 2], [1, 0, 0, 1])),
      results: ["bool"],
    });
  });
});

test("the last of several updates of one place counts", async () => {
  for (const given of [constant, (operand: Operand) => operand]) {
    const places = given(whole([4, 1], [1, 2, 1, 1]));
    await expectAgreement(scatter("ScatterND", {}, varied(4, 3), places, varied(4, 3)));
  }
});

test("many elements that are not hit stay as they are", async () => {
  const places = constant(whole([2, 1], [3, 3]));
  for (const reduction of ["min", "max", "add", "mul"])
    await expectAgreement(scatter("ScatterND", { reduction }, varied(20, 160), places, varied(2, 160)));
});

test("what is refused is named", () => {
  const places = constant(whole([1, 1], [7]));
  expect(refusalOf(scatter("ScatterND", {}, varied(4, 3), places, varied(1, 3)))).toMatch(/^LPU1012: expected indices/);
  const line = constant(whole([1, 1], [7]));
  expect(refusalOf(scatter("ScatterElements", { axis: 0 }, varied(4, 3), line, varied(1, 1)))).toMatch(
    /^LPU1012: expected indices from -4 to 3, got 7/,
  );
  const rows = whole([1, 1], [1]);
  expect(refusalOf(scatter("ScatterND", { reduction: "avg" }, varied(4, 3), rows, varied(1, 3)))).toMatch(
    /^LPU1003: reduction 'avg' is not supported/,
  );
});
