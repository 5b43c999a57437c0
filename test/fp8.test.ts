import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";
import { compile } from "../src/compile.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { joinChunks } from "../src/host/build.js";
import { narrowed, scalesOf } from "../src/passes/graph/fp8.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { PIPELINE } from "../src/passes/graph/pipeline.js";
import { isTile } from "../src/ir/plan.js";
import { printGraph } from "../src/ir/print.js";
import { select } from "../src/passes/select/select.js";
import { writeImage } from "../src/codegen/image/image.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { narrowFloat, widenFloat } from "../src/ir/numerics.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { parseGraph } from "../src/ir/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { verifyPlan } from "../src/ir/plan/verify.js";
import { chosenEntry, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { literalOf, makeTensor, tensorOf, toFloats, toNumbers } from "../src/ir/tensor.js";
import { weightFormat, type WeightFormatName, weightOptions } from "../src/ir/weights.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { sramNeed } from "../src/passes/schedule/place/room.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { reportProgram } from "../src/report/report.js";
import { loadImage, loadProgram } from "../src/runtime/run.js";
import { withQueues } from "./changed.js";
import { distance, legalGraph, planOf, programOf, runOnLiteral, verdict } from "./compiled.js";

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
    // So few rows that the linked machine multiplies most weights as they lie.
    ["lpu-v1", [1, 200, 330]],
    ["lpu-v1", [2, 152, 640]],
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

  // Tails of 4, 6, 3 and 5 of the 8 lanes of a half: two to a tile, four in three, in a tile and a part of the next, and 8 in 5.
  test.each([
    [1, 20, 64],
    [1, 14, 70],
    [2, 19, 100],
    [1, 13, 128],
  ])("where room is least, tails of [%i, %i] by %i columns share tiles", (m, k, n) => {
    const target = TARGETS.tiny;
    const graph = scaledProduct(dtype, [m, k, n]);
    const legal = legalGraph(graph, target);
    const [loose, packed] = (["little", "least"] as const).map((room) => {
      const plan = select(legal, target, new Map(), [], [], room);
      verifyPlan(plan, target);
      const { program, plan: scheduled } = schedule(plan, target);
      checkSchedule(chosenEntry(program), scheduled);
      return { rows: sramNeed(plan, target).constants, outputs: runOnLiteral(program, { x: numbers([m, k]) }).outputs };
    });
    expect(packed?.rows).toBeLessThan(loose?.rows ?? 0);
    // Sums of what is cut in two are added up in fp32.
    expect(distance(packed?.outputs[0], loose?.outputs[0] as Tensor)).toBeLessThan(1e-3);
    expect(distance(packed?.outputs[0], evaluate(graph, { x: numbers([m, k]) })[0] as Tensor)).toBeLessThan(1e-3);
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
    // One row of the scales beside them, which fp16 holds.
    expect(rows(eight)).toBe(320 + 2);
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

describe("scales", () => {
  const random = (seed: number): (() => number) => {
    let x = seed;
    return () => {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      return (x >>> 8) / 2 ** 24;
    };
  };
  /** Columns of about normal numbers, each of another magnitude. */
  const matrix = (rows: number, columns: number, seed: number): Float32Array => {
    const next = random(seed);
    const values = new Float32Array(rows * columns);
    for (let i = 0; i < values.length; i++) {
      const normal = next() + next() + next() + next() - 2;
      values[i] = normal * 10 ** ((8 * (i % columns)) / columns - 4);
    }
    return values;
  };

  test.each(FORMATS)("numbers that are %s times a scale stay as they are", (format) => {
    const [rows, columns] = [200, 40];
    const bits = finitePatterns(format, rows * columns);
    const scale = (n: number): number => (1 + (n % 16) / 16) * 2 ** ((n % 9) - 6);
    const values = Float32Array.from(bits, (byte, i) => widenFloat(format, byte) * scale(i % columns));
    const scales = scalesOf(values, [rows, columns], format, "channel");
    expect(narrowed(values, [rows, columns], format, scales, "channel").error.decibels).toBeNull();
  });

  test.each([
    ["f8e4m3", 30],
    ["f8e5m2", 25],
  ] as const)(
    "%s keeps %d dB of columns of any magnitude, and loses less than with the greatest as the greatest",
    (format, least) => {
      const shape = [200, 64];
      const values = matrix(200, 64, 7);
      const scales = scalesOf(values, shape, format, "channel");
      // fp16 holds every scale.
      expect(scales.map((scale) => widenFloat("f16", narrowFloat("f16", scale)))).toEqual(scales);
      const { decibels, weakest, saturated } = narrowed(values, shape, format, scales, "channel").error;
      expect(weakest).toBeGreaterThan(least);
      expect(saturated).toBeLessThan(values.length / 50);
      const largest = widenFloat(format, format === "f8e4m3" ? 0x7e : 0x7b);
      const plain = Float32Array.from({ length: 64 }, (_, n) => {
        let greatest = 0;
        for (let row = 0; row < 200; row++) greatest = Math.max(greatest, Math.abs(values[row * 64 + n] ?? 0));
        return greatest / largest;
      });
      const without = narrowed(values, shape, format, plain, "channel").error;
      expect(decibels ?? 0).toBeGreaterThan(without.decibels ?? 0);
    },
  );

  test.each(FORMATS)(
    "%s: a number that outweighs all others of a long column keeps what the format has for it",
    (format) => {
      const shape = [1000, 8];
      const values = matrix(1000, 8, 3).map((value, i) =>
        Math.floor(i / 8) === 501 ? value + 30 * 10 ** (i % 4) : value,
      );
      const { weakest } = narrowed(values, shape, format, scalesOf(values, shape, format, "channel"), "channel").error;
      expect(weakest).toBeGreaterThan(format === "f8e4m3" ? 24 : 18);
    },
  );

  test("columns of hardly anything have scales of fp32", () => {
    const values = matrix(100, 4, 9).map((value, i) => (i % 4 === 1 ? value * 1e-9 : value));
    const scales = scalesOf(values, [100, 4], "f8e4m3", "channel");
    expect(narrowed(values, [100, 4], "f8e4m3", scales, "channel").error.weakest).toBeGreaterThan(29);
  });

  test("batches of matrices have scales of their own, or all one", () => {
    const shape = [2, 50, 6];
    const values = new Float32Array(600);
    values.set(matrix(50, 6, 1));
    values.set(
      matrix(50, 6, 2).map((value) => value * 64),
      300,
    );
    const own = scalesOf(values, shape, "f8e4m3", "channel");
    expect(own.subarray(6)).toEqual(scalesOf(values.subarray(300), [50, 6], "f8e4m3", "channel"));
    expect(scalesOf(values, shape, "f8e4m3", "tensor")).toHaveLength(1);
  });
});

describe("a model in FP8", () => {
  const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models", "storyteller");
  const source = bytesSource("storyteller", readFileSync(join(folder, "model.onnx")));
  const length = 32;
  const shapes = { input_ids: [1, length] };

  test.each([
    ["fp8-e4m3", 5e-3, 3e-2, 0.75],
    ["fp8-e4m3:block128", 5e-3, 2.5e-2, 0.75],
  ] as const)(
    "%s tells the same story: between %d and %d off fp32, and the machine computes just what the narrowed graph says",
    (weights, least, most, share) => {
      const { tokens } = JSON.parse(readFileSync(join(folder, "golden_greedy.json"), "utf8"));
      const x = { input_ids: makeTensor("i32", [1, length], Int32Array.from(tokens.slice(0, length))) };
      let narrow: Graph | undefined;
      const { report, image } = compile(source, {
        shapes,
        weights,
        onPass: ({ pass }, graph) => {
          if (pass.name === "weights") narrow = graph;
        },
      });
      const half = compile(source, { shapes });
      const loaded = loadImage(joinChunks(image())).entry();
      const { outputs, cycles } = loaded.run(x);
      expect(cycles).toBe(loaded.predictedCycles);
      expect(narrow).toBeDefined();
      const [said] = narrow === undefined ? [] : evaluate(narrow, x);
      const [exact] = evaluate(importModel(source, { bind: {}, shapes }), x);
      const [got] = Object.values(outputs);
      if (said === undefined || exact === undefined) throw new Error("a graph has results");
      expect(distance(got, said)).toBeLessThan(1e-3);
      expect(distance(got, exact)).toBeLessThan(most);
      expect(distance(got, exact)).toBeGreaterThan(least);
      expect(report.macs).toBe(half.report.macs);
      expect(report.sram.constants).toBeLessThan(share * half.report.sram.constants);
      const { narrowed = [], given = [], kept = [] } = report.weights ?? {};
      expect([narrowed.length, given.length, kept.length]).toEqual([29, 0, 0]);
      expect(narrowed.map(({ decibels }) => decibels ?? 0)).toEqual(
        narrowed.map(({ decibels }) => decibels ?? 0).sort((a, b) => a - b),
      );
      expect(half.report.weights).toBeNull();
    },
  );

  test("what is to be kept stays fp16, and is listed; a name that no weight has is refused", () => {
    const { report } = compile(source, { shapes, weights: "fp8-e5m2:tensor", keep: ["node_linear_6"] });
    expect(report.weights?.kept.map(({ name, dtype }) => [name, dtype])).toEqual([["node_linear_6", "f16"]]);
    expect(verdict(() => compile(source, { shapes, weights: "fp8-e4m3", keep: ["node_linear_6", "head"] }))).toContain(
      "LPU2105",
    );
  });
});

describe("numbers that are cast to FP8 and back", () => {
  test.each(["f8e4m3", "f8e5m2"] as const)(
    "every number of fp16 is rounded to %s on the machine as it is defined",
    (format) => {
      const side = 256;
      const graph = parseGraph(`graph @main(%0 "x": f32[${side},${side}]) {
  %1 = cast(%0) {to="${format}"} : ${format}[${side},${side}]
  %2 = cast(%1) {to="f32"} : f32[${side},${side}]
  return %2 "y"
}
`);
      const halfs = makeTensor(
        "f16",
        [side, side],
        Uint16Array.from({ length: side * side }, (_, bits) => bits),
      );
      const x = tensorOf("f32", [side, side], toFloats(halfs));
      const entry = loadProgram(programOf(graph, TARGETS["lpu-v1"])).entry();
      const given = Object.fromEntries(entry.inputs.map(({ name }) => [name, x]));
      const [wanted] = Object.values(evaluate(graph, given));
      const [got] = Object.values(entry.run(given).outputs);
      expect(got).toEqual(wanted);
    },
  );
});

describe("scales of blocks along K", () => {
  const random = (seed: number): (() => number) => {
    let x = seed;
    return () => {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      return (x >>> 8) / 2 ** 24 - 0.5;
    };
  };
  /** Numbers whose magnitude changes along K, from block to block, and from column to column. */
  const uneven = ([k, n]: readonly [number, number], seed: number): Float32Array => {
    const next = random(seed);
    return Float32Array.from({ length: k * n }, (_, i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      return next() * 2 ** (((Math.floor(row / 16) * 5 + column) % 13) - 8);
    });
  };
  const product = (m: number, shape: readonly number[], values: Float32Array, dtype: "f16" | "f32" = "f32"): Graph => {
    const b = new GraphBuilder("main");
    const [k = 1] = shape.slice(-2);
    const x = b.input("x", { dtype, shape: [...shape.slice(0, -2), m, k] });
    b.output("y", b.add("matmul", [x, b.constant(literalOf(tensorOf(dtype, shape, values)), AT)], {}, AT));
    return b.finish();
  };
  const legal = (graph: Graph, target: (typeof TARGETS)["tiny"], format: WeightFormatName): Graph =>
    runPasses(graph, PIPELINE, { target, weights: weightOptions({ weights: format }) });
  const halfs = (shape: readonly number[], seed: number): Tensor => {
    const next = random(seed);
    const count = shape.reduce((all, extent) => all * extent, 1);
    return tensorOf(
      "f32",
      shape,
      Float32Array.from({ length: count }, () => widenFloat("f16", narrowFloat("f16", next()))),
    );
  };
  /** The product by what the weights are in FP8, in float64. */
  const expected = (
    x: Tensor,
    [k, n]: readonly [number, number],
    values: Float32Array,
    format: Fp8,
    block: number,
  ): Tensor => {
    const scales = scalesOf(values, [k, n], format, block);
    const { data } = narrowed(values, [k, n], format, scales, block);
    const rows = toNumbers(x);
    const out = new Float32Array((rows.length / k) * n);
    for (let i = 0; i < out.length; i++) {
      const [row, column] = [Math.floor(i / n), i % n];
      let sum = 0;
      for (let at = 0; at < k; at++) {
        const weight = widenFloat(format, data[at * n + column] ?? 0);
        sum += (rows[row * k + at] ?? 0) * weight * (scales[Math.floor(at / block) * n + column] ?? 0);
      }
      out[i] = sum;
    }
    return tensorOf("f32", [...x.shape.slice(0, -1), n], out);
  };

  test.each([
    // K is no multiple of blocks, nor these of what a pass takes, or the other way round.
    ["lpu-v1", "fp8-e4m3:block32", 32, 0, [1, 200, 330]],
    ["lpu-v1", "fp8-e5m2:block32", 32, -14, [3, 352, 40]],
    ["lpu-v1", "fp8-e4m3:block64", 64, 8, [2, 330, 330]],
    ["lpu-v1", "fp8-e4m3:block128", 128, 0, [1, 700, 24]],
    ["lpu-v1", "fp8-e5m2:block128", 128, 6, [70, 300, 20]],
    ["lpu-v1", "fp8-e4m3:block160", 160, -8, [5, 500, 330]],
    ["tiny", "fp8-e4m3:block32", 32, 8, [3, 75, 21]],
    ["tiny", "fp8-e4m3:block128", 128, -10, [2, 130, 5]],
  ] as const)(
    "on %s in %s, blocks of %d, times 2^%d, of [M, K, N] %j: both machines give what FP8 and scales say",
    (name, format, block, power, sizes) => {
      const [m, k, n] = sizes;
      const dtype = format.startsWith("fp8-e4m3") ? "f8e4m3" : "f8e5m2";
      const values = uneven([k, n], k + n).map((value) => value * 2 ** power);
      const target = TARGETS[name];
      const graph = product(m, [k, n], values);
      const plan = select(legal(graph, target, format), target);
      const { program, plan: scheduled } = schedule(plan, target);
      checkSchedule(chosenEntry(program), scheduled);
      const x = halfs([m, k], m);
      const loaded = loadImage(writeImage(program)).entry();
      const { outputs, cycles } = loaded.run({ x });
      expect(cycles).toBe(loaded.predictedCycles);
      const literal = runOnLiteral(program, { x });
      expect(literal.cycles).toEqual(program.entries[0]?.cycles);
      const [got] = Object.values(outputs);
      if (got === undefined) throw new Error("a program has results");
      expect(distance(literal.outputs[0], got)).toBe(0);
      const want = expected(x, [k, n], values, dtype, block);
      // The sum is rounded to fp16 once.
      const limits = toNumbers(want).map((value) => Math.max(Math.abs(value) * 2 ** -11, 2 ** -25));
      const sums = toNumbers(want).map((value, i) => Math.abs(value - (toNumbers(got)[i] ?? Number.NaN)));
      const greatest = Math.max(...toNumbers(want).map(Math.abs));
      sums.forEach((difference, i) => {
        expect(difference).toBeLessThan((limits[i] ?? 0) * 1.01 + greatest * 1e-6);
      });
      const [exact] = evaluate(graph, { x });
      if (exact === undefined) throw new Error("a graph has results");
      const byChannel = narrowed(values, [k, n], dtype, scalesOf(values, [k, n], dtype, "channel"), "channel").error;
      const byBlock = narrowed(values, [k, n], dtype, scalesOf(values, [k, n], dtype, block), block).error;
      expect(byBlock.decibels ?? 0).toBeGreaterThanOrEqual(byChannel.decibels ?? 0);
      expect(distance(got, exact)).toBeLessThan(dtype === "f8e4m3" ? 4e-2 : 8e-2);
    },
  );

  test("weights of several matrices have blocks of their own", () => {
    const target = TARGETS["lpu-v1"];
    const shape = [2, 200, 24];
    const [first, second] = [uneven([200, 24], 1), uneven([200, 24], 2).map((value) => value * 64)];
    const values = Float32Array.from([first, second].flatMap((own) => [...own]));
    const x = halfs([2, 3, 200], 5);
    const program = schedule(
      select(legal(product(3, shape, values), target, "fp8-e4m3:block32"), target),
      target,
    ).program;
    const [got] = Object.values(loadProgram(program).entry().run({ x }).outputs);
    const numbers = toNumbers(x);
    const want = [first, second].flatMap((own, i) => {
      const rows = tensorOf("f32", [3, 200], Float32Array.from(numbers.slice(i * 600, (i + 1) * 600)));
      return [...toNumbers(expected(rows, [200, 24], own, "f8e4m3", 32))];
    });
    expect(distance(got, tensorOf("f32", [2, 3, 24], Float32Array.from(want)))).toBeLessThan(5e-4);
  });

  test.each(FORMATS)(
    "numbers that were %s before, in blocks with any scales, are so again but for roundings of fp32",
    (format) => {
      const [k, n] = [200, 24];
      const next = random(8);
      const scales = Float32Array.from({ length: 7 * n }, () => (next() + 0.6) * 2 ** -9);
      const most = widenFloat(format, format === "f8e4m3" ? 0x7e : 0x7b);
      // The greatest of a block need not be the greatest of the format.
      const before = finitePatterns(format, k * n).map((byte, i) =>
        Math.abs(widenFloat(format, byte)) > most / (1 + (i % 3)) ? 0x20 : byte,
      );
      const scaleAt = (i: number): number => scales[Math.floor(i / n / 32) * n + (i % n)] ?? 0;
      const values = Float32Array.from(before, (byte, i) => widenFloat(format, byte) * scaleAt(i));
      const found = scalesOf(values, [k, n], format, 32);
      const { data, error } = narrowed(values, [k, n], format, found, 32);
      expect(error.decibels ?? 200).toBeGreaterThan(120);
      values.forEach((value, i) => {
        const now = widenFloat(format, data[i] ?? 0) * (found[Math.floor(i / n / 32) * n + (i % n)] ?? 0);
        expect(Math.abs(now - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -22);
      });
    },
  );

  test("products of a model in fp16 are as exact", () => {
    const target = TARGETS["lpu-v1"];
    const values = uneven([200, 24], 6).map((value) => widenFloat("f16", narrowFloat("f16", value)));
    const graph = product(3, [200, 24], values, "f16");
    const program = schedule(select(legal(graph, target, "fp8-e4m3:block32"), target), target).program;
    const x = halfs([3, 200], 7);
    const [got] = Object.values(
      loadProgram(program)
        .entry()
        .run({ x: tensorOf("f16", x.shape, toFloats(x)) }).outputs,
    );
    expect(distance(got, expected(x, [200, 24], values, "f8e4m3", 32))).toBeLessThan(5e-4);
  });

  test("a block that is all of K is a channel", () => {
    const graph = product(2, [128, 8], uneven([128, 8], 3));
    const text = (format: WeightFormatName): string => printGraph(legal(graph, TARGETS["lpu-v1"], format));
    expect(text("fp8-e4m3:block128")).toBe(text("fp8-e4m3"));
    expect(text("fp8-e4m3:block160")).toBe(text("fp8-e4m3"));
    expect(text("fp8-e4m3:block64")).not.toBe(text("fp8-e4m3"));
  });

  test("tiles of a weight are as many as by channel, whatever the rows: entries share them", () => {
    const target = TARGETS["lpu-v1"];
    const tilesOf = (m: number, format: WeightFormatName): readonly string[] => {
      const { tasks } = select(legal(product(m, [480, 330], uneven([480, 330], 4)), target, format), target);
      const all = tasks.flatMap(({ passes }) =>
        passes.flatMap(({ weights }) => (isTile(weights) ? [weights.key] : [])),
      );
      return [...new Set(all)].sort();
    };
    expect(tilesOf(1, "fp8-e4m3:block32")).toHaveLength(tilesOf(1, "fp8-e4m3").length);
    expect(tilesOf(80, "fp8-e4m3:block32")).toEqual(tilesOf(1, "fp8-e4m3:block32"));
  });
});

test("formats of weights that there are not are refused, also sizes of blocks", () => {
  expect(weightFormat("fp8-e5m2:tensor")).toBe("fp8-e5m2:tensor");
  expect(weightFormat("fp8-e4m3:block32")).toBe("fp8-e4m3:block32");
  expect(verdict(() => weightFormat("fp9"))).toBe("LPU5008: unknown format of weights 'fp9'");
  // From code without types.
  const weights = "fp8-e4m3:block48" as "fp8-e4m3";
  expect(verdict(() => weightOptions({ weights }))).toBe(
    "LPU5008: expected blocks of 32, 64, 128 or 160 numbers along K, found '48' in 'fp8-e4m3:block48'",
  );
});
