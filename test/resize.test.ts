/** Resize and Upsample against ONNX Runtime: every mode, every transformation of coordinates, and what is refused. */

import { describe, expect, test } from "@jest/globals";
import type { AttributeValue } from "../models/onnx-writer.js";
import { constant, expectAgreement, float, type NodeCase, refusalOf, varied, whole } from "./agreement.js";

type Attributes = Readonly<Record<string, AttributeValue>>;

const empty = constant(float([0], []));
const bySizes = (sizes: readonly number[], attributes: Attributes, x = varied(1, 2, 5, 7)): NodeCase => ({
  op: "Resize",
  opset: 19,
  attributes,
  operands: [x, undefined, undefined, constant(whole([sizes.length], sizes))],
});
const byScales = (scales: readonly number[], attributes: Attributes, x = varied(1, 2, 5, 7)): NodeCase => ({
  op: "Resize",
  opset: 19,
  attributes,
  operands: [x, undefined, constant(float([scales.length], scales))],
});

const COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
const NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
const SIZES: readonly (readonly number[])[] = [
  [1, 2, 10, 14],
  [1, 2, 9, 4],
  [1, 2, 1, 1],
];

describe.each(COORDINATES)("%s", (coordinate_transformation_mode) => {
  test.each(NEAREST)("nearest, %s", async (nearest_mode) => {
    for (const sizes of SIZES)
      await expectAgreement(bySizes(sizes, { coordinate_transformation_mode, nearest_mode, mode: "nearest" }));
  });
  test("linear", async () => {
    for (const sizes of SIZES)
      await expectAgreement(bySizes(sizes, { coordinate_transformation_mode, mode: "linear" }));
  });
  test("cubic", async () => {
    const attributes = { coordinate_transformation_mode, mode: "cubic" };
    for (const sizes of SIZES) await expectAgreement(bySizes(sizes, attributes), { machine: false });
    await expectAgreement(bySizes([1, 2, 9, 4], { ...attributes, cubic_coeff_a: { float: -0.5 }, exclude_outside: 1 }));
  });
});

test("scales that give no whole number of elements", async () => {
  for (const mode of ["nearest", "linear", "cubic"]) {
    for (const coordinate_transformation_mode of ["half_pixel", "asymmetric", "half_pixel_symmetric"])
      await expectAgreement(byScales([1, 1, 2.3, 0.6], { mode, coordinate_transformation_mode }), { machine: false });
  }
});

test("antialiasing widens the kernel where an axis shrinks", async () => {
  for (const mode of ["linear", "cubic"]) {
    for (const exclude_outside of mode === "cubic" ? [0, 1] : [0])
      await expectAgreement(bySizes([1, 2, 3, 14], { mode, antialias: 1, exclude_outside }), { evaluated: 1e-4 });
  }
});

test("some axes, and one ratio for all of them", async () => {
  await expectAgreement(bySizes([3, 9], { mode: "linear", axes: [3, 2] }));
  for (const keep_aspect_ratio_policy of ["not_larger", "not_smaller"]) {
    await expectAgreement(bySizes([7, 8], { mode: "nearest", axes: [2, 3], keep_aspect_ratio_policy }));
    await expectAgreement(bySizes([7, 8], { mode: "linear", axes: [2, 3], keep_aspect_ratio_policy }));
  }
});

test("a crop, and a value for what lies outside of the operand", async () => {
  const roi = constant(float([8], [0, 0, 0.4, -0.2, 1, 1, 0.6, 1.1]));
  const attributes = { coordinate_transformation_mode: "tf_crop_and_resize", extrapolation_value: { float: 10 } };
  for (const mode of ["linear", "nearest"])
    await expectAgreement({
      op: "Resize",
      opset: 13,
      attributes: { ...attributes, mode },
      operands: [varied(1, 1, 5, 7), roi, empty, constant(whole([4], [1, 1, 3, 4]))],
    });
});

test("tf_half_pixel_for_nn", async () => {
  await expectAgreement({
    op: "Resize",
    opset: 11,
    attributes: { mode: "nearest", coordinate_transformation_mode: "tf_half_pixel_for_nn", nearest_mode: "floor" },
    operands: [varied(1, 1, 5, 7), empty, empty, constant(whole([4], [1, 1, 8, 3]))],
  });
});

test("operators of old operator sets", async () => {
  const scales = [1, 1, 1.7, 0.6];
  for (const mode of ["nearest", "linear"]) {
    await expectAgreement({
      op: "Resize",
      opset: 10,
      attributes: { mode },
      operands: [varied(1, 2, 5, 7), constant(float([4], scales))],
    });
    const up = [1, 1, 2, 3];
    await expectAgreement({
      op: "Upsample",
      opset: 9,
      attributes: { mode },
      operands: [varied(1, 2, 5, 7), constant(float([4], up))],
    });
    await expectAgreement({
      op: "Upsample",
      opset: 7,
      attributes: { mode, scales: { floats: up } },
      operands: [varied(1, 2, 5, 7)],
    });
  }
});

test("integers are moved, and interpolated where they are constant", async () => {
  const x = whole([1, 1, 2, 3], [1, 200, 30, 4, 50, 60], "uint8");
  const moved = bySizes([1, 1, 4, 5], { mode: "nearest" }, x);
  await expectAgreement({ ...moved, results: ["uint8"] });
  const mixed = bySizes([1, 1, 4, 5], { mode: "linear" }, constant(x));
  await expectAgreement({ ...mixed, results: ["uint8"] }, { machine: false });
  expect(refusalOf({ ...bySizes([1, 1, 4, 5], { mode: "linear" }, x), results: ["uint8"] })).toMatch(
    /LPU1003: interpolation of u8 is not supported/,
  );
});

test("what is refused is named", () => {
  expect(
    refusalOf(byScales([1, 1, 2.3, 1], { coordinate_transformation_mode: "align_corners", mode: "linear" })),
  ).toMatch(/LPU1003: 'align_corners' with scales that do not give a whole number of elements/);
  expect(refusalOf(bySizes([1, 2, 3, 4], { mode: "nearest", antialias: 1 }))).toMatch(/LPU1003: antialiasing/);
  expect(refusalOf(bySizes([1, 2, 3, 4], { mode: "area" }))).toMatch(/LPU1003: mode 'area'/);
  expect(refusalOf({ ...bySizes([1, 2, 3], {}), opset: 13 })).toMatch(/LPU1012: expected 4 scales or sizes, got 3/);
});
