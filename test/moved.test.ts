/**
 * Movement moves bits, against ONNX Runtime: infinities and NaNs leave their neighbours alone where indices are data, and rows that
 * the host looks up are those of any table, chosen by any view of an input. Sums by slices hold what sums hold.
 */

import { describe, test } from "@jest/globals";
import { constant, expectAgreement, float, type NodeCase, node, type Operand, varied, whole } from "./agreement.js";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

/** As `varied`, with an infinity of either sign and a NaN. */
const special = (...dims: readonly number[]): Operand => {
  const { values } = varied(...dims);
  const others = new Map([
    [5, -inf],
    [9, inf],
    [12, nan],
  ]);
  return float(
    dims,
    values.map((value, i) => others.get(i) ?? value),
  );
};
const NO_PLACE = -inf;

const SPECIAL: Readonly<Record<string, NodeCase>> = {
  "rows at computed places": { op: "Gather", operands: [special(7, 3), whole([4], [0, 1, 2, -1])] },
  "rows of a constant at computed places": {
    op: "x",
    nodes: [node("Add", ["x1", "x1"], ["i"]), node("Gather", ["x0", "i"], ["y0"])],
    operands: [constant(special(7, 3)), whole([4], [0, 1, 2, 3])],
  },
  "elements at computed places": { op: "GatherND", operands: [special(7, 3), whole([2, 2], [0, 1, 2, 1])] },
  "rows written at computed places": {
    op: "ScatterND",
    operands: [special(7, 3), whole([2, 1], [0, 1]), float([2, 3], [1, inf, 2, NO_PLACE, 4, nan])],
  },
  "the greater at many constant places": {
    op: "ScatterElements",
    attributes: { axis: 1, reduction: "max" },
    operands: [
      varied(17, 17),
      constant(
        whole(
          [17, 1],
          Array.from({ length: 17 }, () => 3),
        ),
      ),
      varied(17, 1),
    ],
  },
  "running sums": {
    op: "CumSum",
    operands: [float([2, 5], [1, 2, inf, 3, 4, 1, NO_PLACE, 3, inf, 5]), constant(whole([], [1]))],
  },
  "running sums backwards": {
    op: "CumSum",
    attributes: { reverse: 1, exclusive: 1 },
    operands: [float([2, 5], [1, 2, inf, 3, 4, 1, nan, 3, NO_PLACE, 5]), constant(whole([], [1]))],
  },
  "sequences turned": {
    op: "ReverseSequence",
    attributes: { time_axis: 0, batch_axis: 1 },
    operands: [float([4, 2], [1, 2, inf, 3, 4, 1, 2, nan]), whole([2], [3, 2])],
  },
};

describe("infinities and NaNs among what is moved", () => {
  test.each(Object.entries(SPECIAL))("%s", (_, given) => expectAgreement(given));
});

const ids = whole([2, 4], [0, 1, 2, 6, 3, 4, 5, -1]);
/** Beyond what fp16 holds exactly. */
const integers = (...dims: readonly number[]): Operand =>
  whole(
    dims,
    varied(...dims).values.map((value) => value * 100_008),
  );
const byView = (op: string, operands: readonly Operand[], attributes: NodeCase["attributes"] = {}): NodeCase => ({
  op,
  nodes: [
    node(op, ["x1", ...operands.map((_, i) => `x${i + 2}`)], ["s"], attributes),
    node("Gather", ["x0", "s"], ["y0"]),
  ],
  operands: [constant(varied(7, 3)), ids, ...operands.map(constant)],
});
const list = (...values: readonly number[]): Operand => whole([values.length], values);

const LOOKUPS: Readonly<Record<string, NodeCase>> = {
  "a vector": { op: "Gather", operands: [constant(varied(7)), ids] },
  "one number of a vector": { op: "Gather", operands: [constant(varied(7)), whole([], [3])] },
  "a table of three axes": { op: "Gather", operands: [constant(varied(7, 3, 5)), ids] },
  "a table of four axes, along its second": {
    op: "Gather",
    attributes: { axis: 1 },
    operands: [constant(varied(2, 7, 3, 5)), ids],
  },
  "integers beyond fp16": { op: "Gather", operands: [constant(integers(7, 3)), ids], results: ["int64"] },
  "a vector of integers": { op: "Gather", operands: [constant(integers(7)), ids], results: ["int64"] },
  "a slice of indices": byView("Slice", [list(1), list(3), list(1)]),
  "indices transposed": byView("Transpose", [], { perm: [1, 0] }),
  "indices repeated": byView("Expand", [list(3, 1, 1)]),
};

describe("rows of a constant table", () => {
  test.each(Object.entries(LOOKUPS))("%s", (_, given) => expectAgreement(given));
});

const halves = (...dims: readonly number[]): Operand => ({ ...varied(...dims), type: "float16" });

const OF_HALVES: Readonly<Record<string, NodeCase>> = {
  "rows of a constant": {
    op: "x",
    nodes: [node("Add", ["x1", "x1"], ["i"]), node("Gather", ["x0", "i"], ["y0"])],
    operands: [constant(halves(7, 3)), whole([4], [0, 1, 2, 3])],
    results: ["float16"],
  },
  rows: { op: "Gather", operands: [halves(7, 3), whole([4], [0, 1, 2, -1])], results: ["float16"] },
  elements: { op: "GatherND", operands: [halves(7, 3), whole([2, 2], [0, 1, 2, 1])], results: ["float16"] },
};

describe("fp16 at computed places", () => {
  test.each(Object.entries(OF_HALVES))("%s", (_, given) => expectAgreement(given));
});

test.each([{}, { exclusive: 1, reverse: 1 }])("running sums of a long axis, %j", async (attributes) => {
  const along = (operand: Operand, results: NodeCase["results"]): NodeCase => ({
    op: "CumSum",
    attributes,
    operands: [operand, constant(whole([], [-1]))],
    ...(results === undefined ? {} : { results }),
  });
  await expectAgreement(along(varied(2, 1100), undefined));
  // As positions are counted from a mask.
  const mask = Array.from({ length: 1100 }, (_, i) => Number(i % 7 > 0));
  await expectAgreement(along(whole([1, 1100], mask), ["int64"]));
});

test("elements of lines longer than a vector, at computed places", () =>
  expectAgreement({
    op: "GatherElements",
    attributes: { axis: -1 },
    operands: [varied(2, 321), whole([2, 6], [0, 1, 320, -1, 160, 7, 5, 5, 319, -321, 2, 3])],
  }));

describe("sums over a short axis that is not the last", () => {
  const great = float(
    [2, 5, 100],
    varied(2, 5, 100).values.map((value) => 100 * value),
  );
  test.each(["ReduceL2", "ReduceSumSquare", "ReduceL1"])("%s beyond fp16", (op) =>
    expectAgreement({ op, opset: 13, attributes: { axes: [0, 1] }, operands: [great] }),
  );
  test("one axis of three", () =>
    expectAgreement({ op: "ReduceSumSquare", opset: 13, attributes: { axes: [1] }, operands: [great] }));
});
