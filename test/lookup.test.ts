/** Rows of a constant table that an input chooses, which the host looks up, against ONNX Runtime. */

import { test } from "@jest/globals";
import { constant, expectAgreement, whole } from "./agreement.js";

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
