import { describe, expect, test } from "@jest/globals";
import { modelBytes } from "../models/onnx-writer.js";
import { floatTensor } from "../models/weights.js";
import { compile } from "../src/compile.js";
import { bytesSource } from "../src/frontend/source.js";
import { joinChunks } from "../src/host/build.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { DTYPES } from "../src/ir/dtype.js";
import { chosenEntry, type Program, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { literalOf, makeTensor, tensorOf, toNumbers } from "../src/ir/tensor.js";
import { writeImage } from "../src/codegen/image/image.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { loadImage, loadProgram } from "../src/runtime/run.js";
import { placeInput, fetchOutput } from "../src/runtime/binding.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { distance, loadedSram, planOf, runOnLiteral } from "./compiled.js";

/** Few rows through many weights: tiles load on all outward streams, and activations fly between two loads. */

const target = TARGETS["lpu-v1"];
type Weights = "f16" | "f8e4m3";
const AT: readonly string[] = ["fc"];

/** Numbers of every magnitude that a product of `k` of them can have in fp16. */
const numbers = (shape: readonly number[]): Tensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const magnitude = (i: number): number => 2 ** -((i * 7) % 12);
  return tensorOf(
    "f32",
    shape,
    Float32Array.from({ length: count }, (_, i) => ((((i * 37) % 101) - 50) / 64) * magnitude(i)),
  );
};

/** `beside`: columns of a further row, of which a function is given. */
const product = (type: Weights, [m, k, n]: readonly [number, number, number], beside = 0): Graph => {
  const b = new GraphBuilder("main");
  const x = b.input("x", { dtype: "f32", shape: [m, k] });
  const bits = Uint8Array.from({ length: k * n }, (_, i) => ((i * 97) % 112) | ((i % 3) << 7));
  const weights = type === "f16" ? numbers([k, n]) : makeTensor(type, [k, n], bits);
  const y = b.add("matmul", [x, b.constant(literalOf(weights), AT)], {}, AT);
  const scales = b.constant(literalOf(tensorOf("f32", [n], new Float32Array(n).fill(2 ** -8))), AT);
  b.output("y", type === "f16" ? y : b.add("mul", [y, scales], {}, AT));
  if (beside > 0) b.output("w", b.add("tanh", [b.input("v", { dtype: "f32", shape: [1, beside] })], {}, AT));
  return b.finish();
};

const dispatched = (program: Program, op: string, entry = 0): readonly TimedInstruction[] =>
  program.entries[entry]?.queues[0]?.flat().filter((instruction) => instruction.op === op) ?? [];

describe.each(["f16", "f8e4m3"] as const)("weights in %s", (type) => {
  test.each([
    [1, 159, 321],
    [1, 161, 640],
    [1, 321, 639],
    [2, 320, 319],
    [3, 330, 330],
    [1, 480, 64],
    [1, 40, 5],
  ] as const)(
    "a product of [%i, %i] by %i columns is the same on both machines, and as it is evaluated",
    (...sizes) => {
      const graph = product(type, sizes);
      const { program, plan } = schedule(planOf(graph, target), target);
      checkSchedule(chosenEntry(program), plan);
      const x = numbers([sizes[0], sizes[1]]);
      const [literal, { outputs, cycles }] = [
        runOnLiteral(program, { x }),
        loadImage(writeImage(program)).entry().run({ x }),
      ];
      expect(literal.cycles).toEqual([cycles]);
      expect(distance(literal.outputs[0], outputs["y"] as Tensor)).toBe(0);
      expect(distance(outputs["y"] as Tensor, evaluate(graph, { x })[0] as Tensor)).toBeLessThan(5e-4);
    },
  );

  test("a hemisphere loads a tile in the cycles that its streams carry it in, and one more", () => {
    const { program } = schedule(planOf(product(type, [1, 1600, 640]), target), target);
    const loads = dispatched(program, "lw");
    const perLoad = 10 / (2 / DTYPES[type].bytes);
    for (const { fields, count } of loads) expect([fields["ways"], count]).toEqual([160 / perLoad, perLoad]);
    const cycles = dispatched(program, "iw").map(({ cycle }) => cycle);
    const half = cycles.slice(0, cycles.length / 2);
    expect(half.slice(1).map((cycle, i) => cycle - (half[i] ?? 0))).toEqual(new Array(9).fill(perLoad + 1));
  });
});

describe.each(["f16", "f8e4m3"] as const)("results that fly where weights in %s load", (type) => {
  const [sizes, beside] = [[1, 320, 640], 3200] as const;
  const stretched = (program: Program): readonly TimedInstruction[] =>
    dispatched(program, "lw").filter(({ fields }) => Number(fields["column"]) > 0);

  test("a tile loads in stretches around them, on both machines as it is evaluated", () => {
    const graph = product(type, sizes, beside);
    const { program, plan } = schedule(planOf(graph, target), target);
    expect(stretched(program).length).toBeGreaterThan(0);
    for (const { fields } of stretched(program)) expect(fields["clear"]).toBe(0);
    checkSchedule(chosenEntry(program), plan);
    const inputs = { x: numbers([1, sizes[1]]), v: numbers([1, beside]) };
    const [literal, { outputs, cycles }] = [
      runOnLiteral(program, inputs),
      loadImage(writeImage(program)).entry().run(inputs),
    ];
    expect(literal.cycles).toEqual([cycles]);
    expect(distance(literal.outputs[0], outputs["y"] as Tensor)).toBe(0);
    expect(distance(outputs["y"] as Tensor, evaluate(graph, inputs)[0] as Tensor)).toBeLessThan(5e-4);
  });
});

describe("entries of one row and of many", () => {
  const value = (name: string, columns: number) => ({ name, type: "float32" as const, dims: [1, columns] });
  const [k, n] = [170, 330];
  const model = modelBytes({
    ...{ name: "step", opset: 18 },
    nodes: [{ op: "MatMul", name: "/fc", inputs: ["x", "w"], outputs: ["y"], attributes: {} }],
    inputs: [{ ...value("x", k), open: { 0: "rows" } }],
    outputs: [{ ...value("y", n), open: { 0: "rows" } }],
    initializers: [floatTensor("w", [k, n], toNumbers(numbers([k, n])))],
  });
  const [one, many] = [{ bind: { rows: 1 } }, { bind: { rows: 24 } }];

  test.each([
    ["f16", { one, many }],
    ["f8e4m3", { one, many }],
    ["f16", { many, one }],
  ] as const)("in %s each gives on both machines what it gives alone, from the same rows", (type, entries) => {
    const options = { weights: type === "f16" ? "fp16" : "fp8-e4m3" } as const;
    const source = bytesSource("step", model);
    const { program, image } = compile(source, { ...options, entries });
    const loaded = loadImage(joinChunks(image()));
    for (const [name, { bind }] of Object.entries(entries)) {
      const alone = compile(source, { ...options, bind });
      const x = numbers([bind.rows, k]);
      const { outputs, cycles } = loaded.entry(name).run({ x });
      expect(outputs).toEqual(loadProgram(alone.program).entry().run({ x }).outputs);
      const sram = loadedSram(program);
      const entry = chosenEntry(program, name);
      for (const input of entry.entry.inputs) placeInput(input, x, sram);
      expect(runLiteral(entry, sram).cycles).toEqual([cycles]);
      for (const output of entry.entry.outputs) expect(fetchOutput(output, sram)).toEqual(outputs["y"]);
    }
  });

  test.each([
    [1, 16, 1],
    [24, 8, 2],
    [60, 4, 4],
  ])(
    "%i rows load what lies for one in no more cycles than they take: %i columns a cycle, its pairs in turns",
    (rows, ways, interval) => {
      const { program } = compile(bytesSource("step", model), { entries: { one, others: { bind: { rows } } } });
      expect(new Set(dispatched(program, "lw", 0).map(({ fields }) => fields["ways"]))).toEqual(new Set([16]));
      expect(Math.max(...dispatched(program, "lw", 1).map(({ fields }) => Number(fields["ways"])))).toBe(ways);
      expect(dispatched(program, "read", 1).some((read) => read.interval === interval)).toBe(true);
    },
  );

  test("rows lie beside the tiles that load while they pass, where an entry before has placed these", () => {
    const k = 1920;
    const weights = ["w", "v"].map((name) => floatTensor(name, [k, k], toNumbers(numbers([k, k]))));
    const matmul = (name: string, ...inputs: string[]) => ({
      op: "MatMul",
      name,
      inputs,
      outputs: [name],
      attributes: {},
    });
    const source = bytesSource(
      "steps",
      modelBytes({
        ...{ name: "steps", opset: 18, initializers: weights },
        nodes: [
          matmul("a", "x", "w"),
          { op: "Relu", name: "r", inputs: ["a"], outputs: ["r"], attributes: {} },
          matmul("y", "r", "v"),
        ],
        inputs: [{ ...value("x", k), open: { 0: "rows" } }],
        outputs: [{ ...value("y", k), open: { 0: "rows" } }],
      }),
    );
    const block = { bind: { rows: 16 } };
    const cyclesOf = (entries: Record<string, typeof block>): number | undefined =>
      compile(source, { weights: "fp8-e4m3", entries }).program.entries.at(-1)?.cycles[0];
    // All over the pairs of the step's tiles it would take 0.92 times as many; its own tiles lie in half as many pairs.
    expect(cyclesOf({ one, block })).toBeLessThan(0.86 * (cyclesOf({ block }) ?? 0));
  });
});
