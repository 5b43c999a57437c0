/**
 * Heads together: few queries of several heads meet keys that load once for all of them. The result is that of the graph, whatever
 * the size of a head leaves of half-vectors and panels, and the same bits come out where each head has its own product.
 */

import { describe, expect, test } from "@jest/globals";
import { at, sure } from "../src/diagnostics.js";
import { writeImage } from "../src/codegen/image/image.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { chosenEntry } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { loadImage } from "../src/runtime/run.js";
import { distance, planOf, runOnLiteral } from "./compiled.js";

const target = TARGETS["lpu-v1"];
const HIDDEN = 48;

interface Sizes {
  readonly heads: number;
  readonly m: number;
  readonly size: number;
  /** Keys of the past, and of what is new. */
  readonly past: number;
  readonly recent: number;
}

/** Attention of m queries a head over keys and values of a past and what is new behind them, lying as a cache has them. */
const attention = ({ heads, m, size, past, recent }: Sizes): Graph => {
  const b = new GraphBuilder("main");
  const input = (name: string, ...shape: number[]): number => b.input(name, { dtype: "f32", shape });
  const weights = b.constant(literalOf(numbers([HIDDEN, heads * size], 1 / 4, 6)), ["q"]);
  const projected = b.add("matmul", [input("x", m, HIDDEN), weights], {}, ["q"]);
  const rows = b.add("reshape", [projected], { shape: [1, m, heads, size] }, ["q"]);
  const q = b.add("transpose", [rows], { perm: [0, 2, 1, 3] }, ["q"]);
  const byHeads = (id: number): number => b.add("transpose", [id], { perm: [0, 2, 1, 3] }, ["k"]);
  const keys = [input("pastK", 1, past, heads, size), input("newK", 1, recent, heads, size)].map(byHeads);
  const values = b.add("transpose", [input("v", 1, heads, size, past + recent)], { perm: [0, 1, 3, 2] }, ["v"]);
  const k = b.add("concat", keys, { axis: 2 }, ["k"]);
  const kT = b.add("transpose", [k], { perm: [0, 1, 3, 2] }, ["kT"]);
  const scores = b.add("matmul", [q, kT], {}, ["scores"]);
  const greatest = b.add("reduce_max", [scores], { axes: [3], keepdims: true }, ["softmax"]);
  const powers = b.add("exp", [b.add("sub", [scores, greatest], {}, ["softmax"])], {}, ["softmax"]);
  const total = b.add("reduce_sum", [powers], { axes: [3], keepdims: true }, ["softmax"]);
  const shares = b.add("div", [powers, total], {}, ["softmax"]);
  b.output("y", b.add("matmul", [shares, values], {}, ["mixed"]));
  return b.finish();
};

/** Numbers of many magnitudes, the greatest of them `most`, in an order that repeats after no size of a head. */
const numbers = (shape: readonly number[], most: number, seed: number): Tensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const number = (i: number): number =>
    ((((i + seed) * 7919) % 1009) / 504.5 - 1) * most * 2 ** -(((i + seed) * 31) % 11);
  return tensorOf(
    "f32",
    shape,
    Float32Array.from({ length: count }, (_, i) => number(i)),
  );
};

const inputsOf = ({ heads, m, size, past, recent }: Sizes): Readonly<Record<string, Tensor>> => ({
  x: numbers([m, HIDDEN], 2, 1),
  pastK: numbers([1, past, heads, size], 1, 2),
  newK: numbers([1, recent, heads, size], 1, 3),
  v: numbers([1, heads, size, past + recent], 8, 4),
});

const runOf = (sizes: Sizes): { isTogether: boolean; y: Tensor; expected: Tensor } => {
  const graph = attention(sizes);
  const { program, plan } = schedule(planOf(graph, target), target);
  checkSchedule(chosenEntry(program), plan);
  const inputs = inputsOf(sizes);
  const { outputs } = loadImage(writeImage(program)).entry().run(inputs);
  return {
    isTogether: plan.storages.some(({ name }) => name === "lanes of heads"),
    y: sure(outputs["y"], "output"),
    expected: at(evaluate(graph, inputs), 0, "output"),
  };
};

const CASES: readonly (readonly [together: boolean, sizes: Sizes])[] = [
  // Five heads to a panel, and some that are left; the new key beside a panel's border.
  [true, { heads: 12, m: 1, size: 64, past: 639, recent: 1 }],
  [true, { heads: 7, m: 1, size: 64, past: 640, recent: 1 }],
  [true, { heads: 5, m: 2, size: 64, past: 958, recent: 3 }],
  // Heads across half-vectors and panels, with several queries each.
  [true, { heads: 8, m: 4, size: 128, past: 1023, recent: 1 }],
  [true, { heads: 6, m: 1, size: 128, past: 1280, recent: 1 }],
  [true, { heads: 6, m: 1, size: 64, past: 1279, recent: 1 }],
  [true, { heads: 10, m: 1, size: 96, past: 641, recent: 2 }],
  [true, { heads: 16, m: 1, size: 40, past: 481, recent: 1 }],
  [true, { heads: 24, m: 1, size: 32, past: 400, recent: 1 }],
  // A head that is whole half-vectors, many queries, and few keys have products of their own.
  [false, { heads: 4, m: 1, size: 160, past: 639, recent: 1 }],
  [false, { heads: 5, m: 64, size: 64, past: 639, recent: 1 }],
  [false, { heads: 12, m: 1, size: 64, past: 127, recent: 1 }],
];

describe("queries of several heads", () => {
  test.each(CASES)("meet keys together (%s): %j", (together, sizes) => {
    const { isTogether, y, expected } = runOf(sizes);
    expect(isTogether).toBe(together);
    expect(distance(y, expected)).toBeLessThan(2e-3);
  });

  test("come out as on the literal machine", () => {
    const sizes = { heads: 5, m: 1, size: 64, past: 960, recent: 1 };
    const { program, plan } = schedule(planOf(attention(sizes), target), target);
    expect(plan.storages.some(({ name }) => name === "lanes of heads")).toBe(true);
    const inputs = inputsOf(sizes);
    const { outputs, cycles } = loadImage(writeImage(program)).entry().run(inputs);
    const literal = runOnLiteral(program, inputs);
    expect(literal.outputs).toEqual([outputs["y"]]);
    expect(literal.cycles).toEqual([cycles]);
  });
});
