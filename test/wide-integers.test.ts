/** Integers beyond 32 bits: exact where they are clamped, moved, chosen, compared or cast to floats, and refused elsewhere. */

import { expect, test } from "@jest/globals";
import { constant, expectAgreement, type NodeCase, node, refusalOf, varied, whole } from "./agreement.js";

const FAR = 2 ** 62;
const LEAST = -(2 ** 63);
const MOST32 = 2 ** 31 - 1;

const fromNodes = (nodes: NonNullable<NodeCase["nodes"]>, rest: Omit<NodeCase, "op" | "nodes">): NodeCase => ({
  op: "few",
  opset: 17,
  nodes,
  ...rest,
});

test("bounds of a slice, also through other operators", async () => {
  const bounds = (start: number, end: number, step: number) =>
    [[start], [end], [1], [step]].map((values) => constant(whole([1], values)));
  await expectAgreement({ op: "Slice", operands: [varied(3, 5), ...bounds(1, FAR, 1)] });
  await expectAgreement({ op: "Slice", operands: [varied(3, 5), ...bounds(-1, LEAST, -2)] });
  await expectAgreement(
    fromNodes(
      [
        node("Unsqueeze", ["x1", "x2"], ["one"]),
        node("Concat", ["one", "x3"], ["ends"], { axis: 0 }),
        node("Cast", ["ends"], ["same"], { to: 7 }),
        node("Slice", ["x0", "x4", "same"], ["y0"]),
      ],
      {
        operands: [
          varied(3, 5),
          constant(whole([], [FAR])),
          constant(whole([1], [0])),
          constant(whole([1], [2])),
          constant(whole([2], [1, 0])),
        ],
      },
    ),
  );
});

test("a filler that is compared, on either side, also at the limits of int32", async () => {
  const ids = whole([4], [5, MOST32, -MOST32 - 1, -7]);
  const condition = whole([4], [1, 1, 0, 0], "bool");
  for (const filler of [1e18, LEAST, 2 ** 31]) {
    for (const op of ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]) {
      for (const order of [
        ["x0", "w"],
        ["w", "x0"],
      ])
        await expectAgreement(
          fromNodes([node("Where", ["x1", "x2", "x3"], ["w"]), node(op, order, ["y0"])], {
            operands: [ids, condition, constant(whole([], [filler])), constant(whole([], [MOST32]))],
            results: ["bool"],
          }),
          { machine: op === "Less" },
        );
    }
  }
});

test("a bound that bounds nothing", async () => {
  const ids = whole([4], [5, MOST32, -3, -7]);
  const [far, least] = [constant(whole([], [FAR])), constant(whole([], [LEAST]))];
  await expectAgreement({ op: "Min", operands: [ids, far], results: ["int64"] });
  await expectAgreement({ op: "Max", operands: [ids, least], results: ["int64"] });
  await expectAgreement({ op: "Clip", operands: [ids, constant(whole([], [0])), far], results: ["int64"] });
  expect(refusalOf({ op: "Max", operands: [ids, far], results: ["int64"] })).toMatch(
    /^LPU2003: .* is 4611686018427387904/,
  );
  expect(refusalOf({ op: "Clip", operands: [ids, far], results: ["int64"] })).toMatch(/^LPU2003/);
});

test("cast to floats and truth values", async () => {
  const fillers = constant(whole([3], [1e18, LEAST, 7]));
  await expectAgreement({ op: "Cast", attributes: { to: 1 }, operands: [fillers] }, { machine: false });
  await expectAgreement(
    { op: "Cast", attributes: { to: 9 }, operands: [fillers], results: ["bool"] },
    { machine: false },
  );
  expect(refusalOf({ op: "Cast", attributes: { to: 6 }, operands: [fillers], results: ["int32"] })).toMatch(/^LPU2003/);
});

test("an element that fits is one like all others", async () => {
  const table = constant(whole([3], [1e18, 4, 7]));
  await expectAgreement(
    fromNodes([node("Gather", ["x1", "x2"], ["g"]), node("Add", ["g", "x0"], ["y0"])], {
      operands: [whole([2], [1, 2]), table, constant(whole([2], [2, 1]))],
      results: ["int64"],
    }),
  );
});

test("anything else is refused by name, and nobody minds what is not used", () => {
  const ids = whole([2], [1, 2]);
  const far = constant(whole([], [FAR]));
  expect(refusalOf({ op: "Add", operands: [ids, far], results: ["int64"] })).toMatch(
    /^LPU2003: expected an integer of 32 bits, element 0 is 4611686018427387904$/,
  );
  expect(
    refusalOf(fromNodes([node("Identity", ["x1"], ["y0"])], { operands: [ids, far], results: ["int64"] })),
  ).toMatch(/^LPU2003/);
  expect(refusalOf({ op: "Constant", attributes: { value_int: 2 ** 40 }, operands: [], results: ["int64"] })).toMatch(
    /^LPU2003: .* is 1099511627776/,
  );
  expect(refusalOf(fromNodes([node("Neg", ["x0"], ["y0"])], { operands: [ids, far], results: ["int64"] }))).toBe(
    "none",
  );
});
