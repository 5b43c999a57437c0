import { describe, expect, test } from "@jest/globals";
import { writeImage } from "../src/codegen/image/image.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { narrowFloat, widenFloat } from "../src/ir/numerics.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { chosenEntry, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { literalOf, makeTensor, tensorOf, toNumbers } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { reportProgram } from "../src/report/report.js";
import { loadImage } from "../src/runtime/run.js";
import { withQueues } from "./changed.js";
import { distance, planOf, programOf, runOnLiteral, verdict } from "./compiled.js";

/** FP8 weights: what lies in SRAM, what the machines make of it, and what the checker proves of it. */

type Fp8 = "f8e4m3" | "f8e5m2";
const FORMATS: readonly Fp8[] = ["f8e4m3", "f8e5m2"];

/** Every finite bit pattern, in an order that mixes them. */
const finitePatterns = (dtype: Fp8, count: number): Uint8Array => {
  const finite = Array.from({ length: 256 }, (_, bits) => bits).filter((bits) =>
    Number.isFinite(widenFloat(dtype, bits)),
  );
  return Uint8Array.from(
    { length: count },
    (_, i) => finite[(i * 97 + Math.floor(i / finite.length)) % finite.length] ?? 0,
  );
};

const AT: readonly string[] = ["fc"];

const scaledProduct = (dtype: Fp8, [m, k, n]: readonly [number, number, number]): Graph => {
  const b = new GraphBuilder("main");
  const x = b.input("x", { dtype: "f32", shape: [m, k] });
  const w = b.constant(literalOf(makeTensor(dtype, [k, n], finitePatterns(dtype, k * n))), AT);
  // Scales that bring sums of the greatest weights into the range of fp16.
  const values = Float32Array.from({ length: n }, (_, i) => (1 + (i % 7) / 8) * 2 ** -20);
  const scales = b.constant(literalOf(tensorOf("f32", [n], values)), AT);
  b.output("y", b.add("mul", [b.add("matmul", [x, w], {}, AT), scales], {}, AT));
  return b.finish();
};

const halfProduct = (m: number, k: number, n: number): Graph => {
  const b = new GraphBuilder("main");
  const x = b.input("x", { dtype: "f32", shape: [m, k] });
  b.output("y", b.add("matmul", [x, b.constant(literalOf(numbers([k, n])), AT)], {}, AT));
  return b.finish();
};

const numbers = (shape: readonly number[]): Tensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tensorOf(
    "f32",
    shape,
    Float32Array.from({ length: count }, (_, i) => (((i * 37) % 101) - 50) / 64),
  );
};

describe.each(FORMATS)("%s", (dtype) => {
  test.each([
    ["tiny", [3, 20, 21]],
    ["tiny", [4, 7, 5]],
    ["lpu-v1", [5, 200, 330]],
  ] as const)("a product on %s of %j is that of the widened weights, on both machines", (name, sizes) => {
    const target = TARGETS[name];
    const graph = scaledProduct(dtype, sizes);
    const plan = planOf(graph, target);
    expect(printPlan(parsePlan(printPlan(plan)))).toBe(printPlan(plan));
    const { program, plan: scheduled } = schedule(plan, target);
    checkSchedule(chosenEntry(program), scheduled);
    const x = numbers([sizes[0], sizes[1]]);
    const loaded = loadImage(writeImage(program)).entry();
    const { outputs, cycles } = loaded.run({ x });
    expect(cycles).toBe(loaded.predictedCycles);
    const literal = runOnLiteral(program, { x });
    expect(literal.cycles).toEqual(program.entries[0]?.cycles);
    const [want] = evaluate(graph, { x });
    const [got] = Object.values(outputs);
    expect(want).toBeDefined();
    if (want === undefined || got === undefined) return;
    expect(distance(literal.outputs[0], got)).toBe(0);
    // One fp32 addition joins two passes, and what is stored rounds to fp16.
    expect(distance(got, want)).toBeLessThan(5e-4);
    if (sizes[1] > target.lanes / 2) return;
    const expected = toNumbers(want);
    toNumbers(got).forEach((value, i) => {
      expect(value).toBe(widenFloat("f16", narrowFloat("f16", expected[i] ?? 0)));
    });
  });

  test("weights take half the rows and half the cycles of fp16", () => {
    const target = TARGETS["lpu-v1"];
    const sizes = [64, 320, 320] as const;
    const eight = programOf(scaledProduct(dtype, sizes), target);
    const sixteen = programOf(halfProduct(...sizes), target);
    const loads = (program: typeof eight): TimedInstruction[] =>
      program.entries[0]?.queues[0]?.flat().filter(({ op }) => op === "lw") ?? [];
    expect(loads(eight).map(({ count }) => count)).toEqual([20, 20]);
    expect(loads(sixteen).map(({ count }) => count)).toEqual([40, 40]);
    const text = { instructions: 0, bytes: 0 };
    const rows = (program: typeof eight): number =>
      reportProgram(chosenEntry(program), text).sram.constants / target.lanes;
    expect(rows(sixteen)).toBe(640);
    // One row of the scales in fp32 beside them.
    expect(rows(eight)).toBe(320 + 4);
  });

  test("the checker tells the formats apart", () => {
    const target = TARGETS.tiny;
    const plan = planOf(scaledProduct(dtype, [3, 8, 8]), target);
    const { program, plan: scheduled } = schedule(plan, target);
    const changed = withQueues(
      program,
      (program.entries[0]?.queues[0] ?? []).map((queue) =>
        queue.map((instruction) =>
          instruction.op === "lw"
            ? { ...instruction, fields: { ...instruction.fields, mode: 9 - Number(instruction.fields["mode"]) } }
            : instruction,
        ),
      ),
    );
    expect(verdict(() => checkSchedule(chosenEntry(program), scheduled))).toBe("ok");
    expect(verdict(() => checkSchedule(chosenEntry(changed), scheduled))).toContain("LPU2224");
  });
});
