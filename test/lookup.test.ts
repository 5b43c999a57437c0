/** Rows of a constant table that an input chooses, which the host looks up, against ONNX Runtime. */

import { test } from "@jest/globals";
import type { OnnxNode } from "../models/onnx-writer.js";
import { constant, expectAgreement, node, varied, whole } from "./agreement.js";

test("numbers of a table are looked up in a type that holds them", async () => {
  const ids = whole([5], [0, -1, 3, -4, 2]);
  for (const [type, values] of [
    ["int64", [4001, 4002, 4003, 4005, -4007, 1]],
    ["int32", [1000001, -(2 ** 31), 2 ** 31 - 1, 16777217, 0, -1]],
    ["bool", [1, 0, 0, 1, 1, 0]],
  ] as const) {
    const table = constant(whole([6, 2], [...values, ...values], type));
    await expectAgreement({ op: "Gather", operands: [table, ids], results: [type] });
  }
});

test("tables of any rank, along any axis, by an input in any shape", async () => {
  const axes: readonly (readonly [shape: readonly number[], axis: number])[] = [
    [[9], 0],
    [[9, 2, 3], 0],
    [[2, 9, 3], 1],
    [[2, 3, 9], -1],
  ];
  for (const [shape, axis] of axes)
    await expectAgreement({
      op: "Gather",
      operands: [constant(varied(...shape)), whole([2, 2], [0, -9, 8, 3])],
      attributes: { axis },
    });
  const views: readonly (readonly OnnxNode[])[] = [
    [node("Transpose", ["x1"], ["ids"], { perm: [1, 0] })],
    [node("Slice", ["x1", "x2", "x3"], ["ids"])],
    [node("Expand", ["x1", "x4"], ["ids"])],
    [node("Cast", ["x1"], ["bytes"], { to: 2 }), node("Cast", ["bytes"], ["ids"], { to: 6 })],
  ];
  const constants = [whole([2], [0, 1]), whole([2], [2, 3]), whole([3], [2, 2, 3])].map(constant);
  for (const view of views)
    await expectAgreement({
      op: "Gather",
      nodes: [...view, node("Gather", ["x0", "ids"], ["y0"])],
      operands: [constant(varied(9, 7)), whole([2, 3], [0, 8, 3, 1, 5, 7]), ...constants],
    });
});
