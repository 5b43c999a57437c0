/**
 * What is wider than a vector or longer than the accumulators: maxima over many lanes, groups that cross a panel, rows that
 * become lanes by the hundred. Compiled, run on the linked machine, and compared with the evaluator.
 */

import { expect, test } from "@jest/globals";
import { writeImage } from "../src/codegen/image/image.js";
import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph, NodeId, Tensor } from "../src/ir/graph.js";
import { isTile } from "../src/ir/plan.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { tensorOf } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";
import { expectAsEvaluated } from "./as-evaluated.js";
import { planOf, programOf, runOnLiteral } from "./compiled.js";
import { seeded } from "./random-program.js";

/** Multiples of 1/16 between -2 and 0, so that a lane that holds zero would win every maximum. */
function negatives(shape: readonly number[]): Tensor {
  const pick = seeded(7);
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tensorOf(
    "f32",
    shape,
    Array.from({ length: count }, () => -(1 + pick(32)) / 16),
  );
}

type Build = (builder: GraphBuilder, x: NodeId) => NodeId;

function graphOf(shape: readonly number[], build: Build): Graph {
  const builder = new GraphBuilder("wide");
  const x = builder.input("x", { dtype: "f32", shape });
  builder.output("y", build(builder, x));
  return builder.finish();
}

const softmax = (builder: GraphBuilder, x: NodeId): NodeId =>
  builder.add("softmax", [x], { axis: builder.type(x).shape.length - 1 }, ["softmax"]);
const computed = (builder: GraphBuilder, x: NodeId): NodeId => builder.add("sin", [x], {}, ["sin"]);

test.each<[TargetName, readonly number[]]>([
  ["lpu-v1", [3, 400]],
  ["lpu-v1", [2, 640]],
  ["tiny", [3, 17]],
  ["tiny", [5, 40]],
  ["tiny", [2, 48]],
  ["tiny", [70, 20]],
  ["tiny", [2, 100]],
])("softmax on %s of %j: lanes beyond the last column never win", (name, shape) => {
  for (const of of [(_: GraphBuilder, x: NodeId) => x, computed])
    expectAsEvaluated(
      graphOf(shape, (builder, x) => softmax(builder, of(builder, x))),
      negatives(shape),
      name,
    );
});

/** Scores of attention: heads lie side by side on columns, in groups that are wider than a panel or cross one. */
test.each([12, 17, 20])("softmax on tiny over %i columns of each of three heads", (length) => {
  const shape = [length, 12];
  const scores = graphOf(shape, (builder, x) => {
    const split = (id: NodeId): NodeId => {
      const heads = builder.add("reshape", [id], { shape: [length, 3, 4] }, ["heads"]);
      return builder.add("transpose", [heads], { perm: [1, 0, 2] }, ["heads"]);
    };
    const keys = builder.add("transpose", [split(computed(builder, x))], { perm: [0, 2, 1] }, ["keys"]);
    const queries = split(builder.add("tanh", [x], {}, ["tanh"]));
    return softmax(builder, builder.add("matmul", [queries, keys], {}, ["scores"]));
  });
  expectAsEvaluated(scores, negatives(shape), "tiny");
});

test("a transposition of more rows than the accumulators hold is cut", () => {
  const shape = [5, 300];
  const graph = graphOf(shape, (builder, x) => {
    const turned = builder.add("transpose", [computed(builder, x)], { perm: [1, 0] }, ["turned"]);
    return softmax(builder, turned);
  });
  const target = TARGETS.tiny;
  const most = Math.max(
    ...planOf(graph, target)
      .tasks.filter(({ passes }) => passes.length > 0)
      .map(({ rows }) => rows),
  );
  expect(most).toBeLessThanOrEqual(target.planes * target.accumulatorRows);
  expectAsEvaluated(graph, negatives(shape), "tiny");
});

test.each<[TargetName, number, number, number]>([
  ["lpu-v1", 200, 64, 4],
  ["lpu-v1", 150, 40, 10],
  ["tiny", 90, 3, 6],
])("on %s %i rows of %i become lanes, %i to a row, by a selection for each", (name, rows, lanes, joined) => {
  const graph = graphOf([rows, lanes], (builder, x) => {
    const shape = [rows / joined, lanes * joined];
    return softmax(builder, builder.add("reshape", [computed(builder, x)], { shape }, ["joined"]));
  });
  const passes = planOf(graph, TARGETS[name]).tasks.flatMap((task) => task.passes);
  expect(passes.every(({ weights }) => isTile(weights))).toBe(true);
  expectAsEvaluated(graph, negatives([rows, lanes]), name);
});

/** Attention whose heads lie side by side on columns: [length, heads * size] in and out. */
function attention(length: number, heads: number, size: number): Graph {
  const shape = [length, heads * size];
  return graphOf(shape, (builder, x) => {
    const split = (op: string, perm: readonly number[]): NodeId => {
      const value = builder.add(op, [x], {}, [op]);
      const parts = builder.add("reshape", [value], { shape: [length, heads, size] }, [op]);
      return builder.add("transpose", [parts], { perm: [...perm] }, [op]);
    };
    const scores = builder.add("matmul", [split("tanh", [1, 0, 2]), split("sin", [1, 2, 0])], {}, ["scores"]);
    const mixed = builder.add("matmul", [softmax(builder, scores), split("cos", [1, 0, 2])], {}, ["mixed"]);
    const joined = builder.add("transpose", [mixed], { perm: [1, 0, 2] }, ["joined"]);
    return builder.add("reshape", [joined], { shape }, ["joined"]);
  });
}

const turnsSums = (graph: Graph, name: TargetName): boolean =>
  planOf(graph, TARGETS[name]).tasks.some(({ ops }) =>
    ops.some(({ args }) => args.some((argument) => "mxm" in argument && argument.map !== undefined)),
  );

test.each<[TargetName, number, number, number]>([
  // Four heads and their sums in a panel, three panels; K in one half-vector, in three, and not at its start.
  ["lpu-v1", 128, 12, 64],
  ["lpu-v1", 400, 2, 40],
  ["lpu-v1", 200, 5, 64],
  ["unit-latency", 60, 12, 16],
  ["tiny", 40, 6, 3],
])(
  "on %s attention over %i rows with %i heads of %i gets its sums from the same passes",
  (name, length, heads, size) => {
    const graph = attention(length, heads, size);
    expect(turnsSums(graph, name)).toBe(true);
    expectAsEvaluated(graph, negatives([length, heads * size]), name);
  },
);

test("sums that save less than their permutation takes have passes of their own", () => {
  const graph = attention(16, 4, 16);
  expect(turnsSums(graph, "lpu-v1")).toBe(false);
  expectAsEvaluated(graph, negatives([16, 64]), "lpu-v1");
});

test("both machines agree on sums that turn in the SXM", () => {
  const graph = attention(40, 6, 3);
  const x = negatives([40, 18]);
  const program = programOf(graph, TARGETS.tiny);
  const linked = loadImage(writeImage(program)).entry().run({ x });
  const literal = runOnLiteral(program, { x });
  expect(linked.cyclesByChip).toEqual(literal.cycles);
  expect(Object.values(linked.outputs)).toEqual(literal.outputs);
});
