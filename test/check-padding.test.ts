/**
 * The proof that unused lanes are finite where they meet an array or a reduction: it accepts what selection makes of models
 * with infinities and masks on every side of a panel, and refuses plans whose masks were taken away.
 */

import { describe, expect, test } from "@jest/globals";
import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph } from "../src/ir/graph.js";
import type { AluOp, Plan, Task } from "../src/ir/plan.js";
import { TARGETS } from "../src/ir/target.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { checkPadding } from "../src/passes/check/padding.js";
import { planOf, verdict } from "./compiled.js";

const TARGET = TARGETS.tiny;
const ROWS = 3;

const check = (plan: Plan): string => verdict(() => checkPadding([plan], TARGET));

/** What unused lanes are for a chain: exp, 1 / x or log of zero, then a product. x [3, width] -> y [3, 4]. */
function chainGraph(width: number, grow: (builder: GraphBuilder, x: number) => number): Graph {
  const builder = new GraphBuilder("chain");
  const x = builder.input("x", { dtype: "f32", shape: [ROWS, width] });
  const weights = tensorOf(
    "f32",
    [width, 4],
    Array.from({ length: width * 4 }, (_, i) => (i % 7) / 8),
  );
  const grown = grow(builder, x);
  builder.output("y", builder.add("matmul", [grown, builder.constant(literalOf(weights), ["w"])], {}, ["product"]));
  return builder.finish();
}

const GROWN: Readonly<Record<string, (builder: GraphBuilder, x: number) => number>> = {
  "one divided by x": (builder, x) => builder.add("reciprocal", [x], {}, ["grown"]),
  logarithm: (builder, x) => builder.add("log", [x], {}, ["grown"]),
  "far exponential": (builder, x) => {
    const far = builder.constant(literalOf(tensorOf("f32", [1], [1000])), ["far"]);
    return builder.add("exp", [builder.add("add", [x, far], {}, ["moved"])], {}, ["grown"]);
  },
};

/** Of one to three panels of 16 lanes, filled, and one more or less. */
const WIDTHS = [1, 15, 16, 17, 31, 32, 33, 47, 48, 49];

/** Tasks whose chains end in a mask store what was masked instead: all of them, or the one of a number. */
const withoutMasks = (plan: Plan, only?: number): { plan: Plan; changed: number } => {
  let changed = 0;
  const tasks = plan.tasks.map((task, index): Task => {
    if (only !== undefined && index !== only) return task;
    const last = task.ops.at(-1);
    const [condition, kept] = last?.args ?? [];
    const isMask = last?.fn === "select" && condition !== undefined && "leaf" in condition;
    const mask = isMask ? plan.storages[task.leaves[condition.leaf]?.storage ?? -1] : undefined;
    if (mask?.name !== "mask" || kept === undefined) return task;
    changed++;
    const copy: AluOp = { fn: "copy", args: [kept] };
    return { ...task, ops: [...task.ops.slice(0, -1), copy] };
  });
  return { plan: { ...plan, tasks }, changed };
};

describe.each(Object.keys(GROWN))("%s", (name) => {
  const plan = (width: number): Plan => planOf(chainGraph(width, GROWN[name] ?? ((_, x) => x)), TARGET);

  test.each(WIDTHS)("over %i lanes: masked, and refused without its mask", (width) => {
    expect(check(plan(width))).toBe("ok");
    const { plan: bare, changed } = withoutMasks(plan(width));
    expect(changed > 0).toBe(width % TARGET.lanes !== 0);
    if (changed > 0)
      expect(check(bare)).toMatch(
        /^LPU2226: expected finite numbers on the unused lanes of panel \d of 'grown', which meets an array, found what may be (infinite|no number)$/,
      );
  });
});

test("of layers that are alike, one without its mask is refused, whichever it is", () => {
  const [layers, width] = [12, 12];
  const builder = new GraphBuilder("layers");
  let x = builder.input("x", { dtype: "f32", shape: [ROWS, width] });
  for (let layer = 0; layer < layers; layer++) {
    const weights = tensorOf(
      "f32",
      [width, width],
      Array.from({ length: width * width }, (_, i) => ((i + layer) % 7) / 8),
    );
    const grown = builder.add("reciprocal", [x], {}, ["grown"]);
    x = builder.add("matmul", [grown, builder.constant(literalOf(weights), [`w${layer}`])], {}, [`product${layer}`]);
  }
  builder.output("y", x);
  const plan = planOf(builder.finish(), TARGET);
  expect(check(plan)).toBe("ok");
  const found = plan.tasks.flatMap((_, index) => {
    const { plan: bare, changed } = withoutMasks(plan, index);
    return changed === 0 ? [] : [check(bare).slice(0, 7)];
  });
  expect(found.length).toBeGreaterThanOrEqual(layers);
  expect(new Set(found)).toEqual(new Set(["LPU2226"]));
});

test.each(WIDTHS)("a softmax over %i lanes that feeds a product is accepted", (width) => {
  const graph = chainGraph(width, (builder, x) => builder.add("softmax", [x], { axis: 1 }, ["grown"]));
  expect(check(planOf(graph, TARGET))).toBe("ok");
});

test("a permutation brings no infinity to a reduction", () => {
  const builder = new GraphBuilder("reduced");
  const x = builder.input("x", { dtype: "f32", shape: [ROWS, 10] });
  const grown = builder.add("log", [builder.add("mul", [x, x], {}, ["square"])], {}, ["grown"]);
  builder.output("y", builder.add("reduce_max", [grown], { axes: [1], keepdims: true }, ["greatest"]));
  const plan = planOf(builder.finish(), TARGET);
  expect(check(plan)).toBe("ok");
  const { plan: bare } = withoutMasks(plan);
  // Rotations within the ten lanes touch no other lane; one lane further, they do.
  expect(check(bare)).toBe("ok");
  const maps = bare.maps.map((map) => map.map((lane) => Math.min(lane + 1, TARGET.lanes - 1)));
  expect(check({ ...bare, maps })).toMatch(/which is brought to lane \d+, found what may be infinite$/);
});
