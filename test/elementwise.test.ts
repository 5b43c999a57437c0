/** Operators of single elements against ONNX Runtime: inverse and hyperbolic functions over their whole range, bits. */

import { describe, expect, test } from "@jest/globals";
import { constant, expectAgreement, float, type Operand, refusalOf, varied, whole } from "./agreement.js";

/** Numbers of either sign, from the least to the greatest magnitude, within limits. */
const spread = (least: number, most: number, low = -8, high = 37): number[] => {
  const sizes = Array.from({ length: 2 * (high - low) }, (_, i) => 10 ** (low + i / 2));
  return [0, ...sizes, ...sizes.map((size) => -size)].filter((value) => value >= least && value <= most);
};
const within = Array.from({ length: 41 }, (_, i) => (i - 20) / 20);
const vector = (values: readonly number[]) => float([values.length], values);

const FUNCTIONS: Readonly<Record<string, readonly number[]>> = {
  Asin: [...within, ...spread(-1, 1)],
  Acos: [...within, ...spread(-1, 1)],
  Atan: [...within, ...spread(-1e38, 1e38)],
  Asinh: [...within, ...spread(-1e38, 1e38)],
  Acosh: [1, 1.0001, 1.01, 1.5, 3, ...spread(1, 1e38)],
  Atanh: [...within.slice(1, -1), ...spread(-0.9, 0.9)],
  Sinh: [...within, ...spread(-80, 80)],
  Cosh: [...within, ...spread(-80, 80)],
  Tan: [...within, 10, -30.5],
};

test.each(Object.entries(FUNCTIONS))("%s of any number of its range", async (op, values) => {
  // Each number alone: the greatest must not hide the others.
  for (const value of values)
    await expectAgreement({ op, operands: [vector([value])] }, { machine: false, evaluated: 1e-4 });
  const held = values.filter((value) => Math.abs(value) < 10 && (value === 0 || Math.abs(value) > 1e-3));
  await expectAgreement({ op, operands: [vector(held)] }, { evaluated: 1e-4 });
});

test("what lies beside the range", async () => {
  const edges: Readonly<Record<string, readonly number[]>> = {
    Asin: [1, -1, 1.5, Number.NaN],
    Acos: [1, -1, -1.5],
    Atan: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
    Asinh: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    Acosh: [Number.POSITIVE_INFINITY, 0.5],
    Atanh: [1, -1, 1.5],
    Sinh: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  };
  for (const [op, values] of Object.entries(edges))
    for (const value of values)
      await expectAgreement({ op, operands: [constant(vector([value]))] }, { machine: false, evaluated: 1e-4 });
});

describe("bits", () => {
  const a = [0, 1, 12, 200, 255];
  const b = [7, 255, 10, 3, 128];
  const signed = [0, -1, 2 ** 30, -(2 ** 31), 77];
  test.each(["BitwiseAnd", "BitwiseOr", "BitwiseXor"])("%s", async (op) => {
    for (const type of ["uint8", "int32", "int64"] as const)
      await expectAgreement({ op, operands: [whole([5], a, type), whole([5], b, type)], results: [type] });
    await expectAgreement({
      op,
      operands: [whole([5], signed, "int32"), whole([1], [-3], "int32")],
      results: ["int32"],
    });
  });
  test("BitwiseNot", async () => {
    await expectAgreement({ op: "BitwiseNot", operands: [whole([5], a, "uint8")], results: ["uint8"] });
    await expectAgreement({ op: "BitwiseNot", operands: [whole([5], signed, "int32")], results: ["int32"] });
  });
  test("BitShift", async () => {
    const by = [0, 7, 1, 3, 2];
    for (const direction of ["LEFT", "RIGHT"])
      await expectAgreement({
        op: "BitShift",
        attributes: { direction },
        operands: [whole([5], a, "uint8"), whole([5], by, "uint8")],
        results: ["uint8"],
      });
    const words = [whole([5], [0, 1, 2 ** 29, 2 ** 27 - 1, 5], "uint32"), whole([5], by, "uint32")];
    await expectAgreement({ op: "BitShift", attributes: { direction: "LEFT" }, operands: words, results: ["uint32"] });
    expect(refusalOf({ op: "BitShift", attributes: { direction: "UP" }, operands: words, results: ["uint32"] })).toBe(
      "LPU1008: expected a direction LEFT or RIGHT, got 'UP'",
    );
  });
});

test("products along an axis, forth and back, with and without the element itself", async () => {
  const near = (...dims: readonly number[]): Operand => {
    const x = varied(...dims);
    return { ...x, values: x.values.map((value, i) => (i % 11 === 0 ? -1 : 1) * (1 + value / 60)) };
  };
  for (const [exclusive, reverse] of [
    [0, 0],
    [1, 0],
    [0, 1],
    [1, 1],
  ] as const)
    for (const axis of [1, -1])
      await expectAgreement({
        op: "CumProd",
        opset: 26,
        attributes: { exclusive, reverse },
        operands: [near(2, 7, 13), constant(whole([], [axis]))],
      });
});
