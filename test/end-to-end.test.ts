/**
 * The whole path on real exports and on the committed models: compile, image, load, run, compare with the golden outputs;
 * predicted cycles equal executed cycles; both machines agree; the same build gives the same bytes; the runtime sees the
 * image alone, so that a changed instruction must fault or change what comes out.
 */

import { existsSync, readdirSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { joinChunks } from "../src/host/build.js";
import { readImage, writeImage } from "../src/codegen/image/image.js";
import { type Compiled, compile } from "../src/compile.js";
import type { CompileOptions } from "../src/options.js";
import { CompileError, MachineFault } from "../src/diagnostics.js";
import { hashOf, openModel, readTensorProto } from "../src/host/files.js";
import type { ModelSource } from "../src/frontend/source.js";
import type { Tensor } from "../src/ir/graph.js";
import { parseGraph } from "../src/ir/parse.js";
import { type Program, queueName, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { tensorOf } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";
import { EXPORTS, FIXTURES } from "./exports.js";
import { COMMITTED, compileCommitted } from "./committed.js";
import { distance, programOf, runOnLiteral } from "./compiled.js";
import { randomGraphVerdict } from "./random-check.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

/** Of the machine's fp16 program to the exporter's fp32 outputs. */
const TOLERANCE = 5e-3;
/** Those that also run on the literal machine, which takes seconds for each. */
const ON_BOTH = ["hf-vit", "hf-gpt2-dynamo"];

type Tensors = Readonly<Record<string, Tensor>>;

function readTensors(name: string, kind: "input" | "output", names: readonly string[]): Tensors {
  const folder = new URL(`${name}/test_data_set_0/`, FIXTURES);
  const files = readdirSync(folder).filter((file) => file.startsWith(kind));
  return Object.fromEntries(
    files.map((file) => {
      const tensor = readTensorProto(new URL(file, folder).pathname);
      return [tensor.name === "" ? (names[Number(/\d+/.exec(file)?.[0])] ?? "") : tensor.name, tensor.tensor];
    }),
  );
}

interface Built {
  readonly compiled: Compiled;
  readonly bytes: Uint8Array;
}
const build = (source: ModelSource, options: CompileOptions): Built => {
  const compiled = compile(source, options);
  return { compiled, bytes: joinChunks(compiled.image()) };
};

/** Runs on both machines from the image alone; bits and cycles must be the same. */
function expectMachinesAgree(bytes: Uint8Array, inputs: Tensors): void {
  const loaded = loadImage(bytes).entry();
  const linked = loaded.run(inputs);
  const literal = runOnLiteral(readImage(bytes), inputs);
  expect(linked.cyclesByChip).toEqual(literal.cycles);
  expect(linked.cycles).toBe(loaded.predictedCycles);
  expect(Object.values(linked.outputs)).toEqual(literal.outputs);
}

const present = existsSync(FIXTURES);
if (!present) console.log("skipped: fixtures not present");

(present ? describe : describe.skip)("real exports", () => {
  test.each(EXPORTS)("%s", (name) => {
    const model = openModel(new URL(`${name}/model.onnx`, FIXTURES).pathname);
    try {
      const inputs = readTensors(name, "input", []);
      const shapes = Object.fromEntries(Object.entries(inputs).map(([input, { shape }]) => [input, shape]));
      const { compiled, bytes } = build(model.source, { shapes });

      const loaded = loadImage(bytes).entry();
      const { outputs, cycles } = loaded.run(inputs);
      expect([cycles, compiled.report.cycles]).toEqual([loaded.predictedCycles, loaded.predictedCycles]);

      const wanted = readTensors(
        name,
        "output",
        loaded.outputs.map((spec) => spec.name),
      );
      expect(Object.keys(wanted).length).toBeGreaterThan(0);
      for (const [output, tensor] of Object.entries(wanted)) {
        const error = distance(outputs[output], tensor);
        expect({ output, error, fine: error <= TOLERANCE }).toEqual({ output, error, fine: true });
      }

      const integers = loaded.inputs.filter(({ dtype }) => dtype === "i64" || dtype === "i32").map((spec) => spec.name);
      expect(compiled.report.hostWork.filter(({ input }) => !integers.includes(input))).toEqual([]);
      if (ON_BOTH.includes(name)) expectMachinesAgree(bytes, inputs);
    } finally {
      model.close();
    }
  });
});

describe("committed models", () => {
  test.each(COMMITTED)("$name: both machines agree", (model) => {
    expectMachinesAgree(joinChunks(compileCommitted(model, "lpu-v1").image()), model.inputs());
  });

  test("the same build gives the same bytes, whatever was built before", () => {
    const hashes = (models: typeof COMMITTED): string[] =>
      models.map((model) => hashOf([joinChunks(compileCommitted(model, "unit-latency").image())]));
    expect(hashes([...COMMITTED].reverse()).reverse()).toEqual(hashes(COMMITTED));
  });

  test("a second run gives the same bits", () => {
    for (const model of COMMITTED.slice(0, 2)) {
      const loaded = loadImage(joinChunks(compileCommitted(model, "lpu-v1").image())).entry();
      const [first, second] = [loaded.run(model.inputs()), loaded.run(model.inputs())];
      expect([second.outputs, second.cycles]).toEqual([first.outputs, first.cycles]);
    }
  });
});

/** Some change of one instruction; undefined where the kind of change does not apply. */
const CHANGES: Readonly<Record<string, (instruction: TimedInstruction) => TimedInstruction | undefined>> = {
  "another row": ({ fields, ...rest }) =>
    typeof fields["address"] === "number"
      ? { ...rest, fields: { ...fields, address: fields["address"] ^ 1 } }
      : undefined,
  "another stream": ({ fields, ...rest }) =>
    typeof fields["stream"] === "number" ? { ...rest, fields: { ...fields, stream: fields["stream"] ^ 4 } } : undefined,
  "another function": ({ fields, ...rest }) =>
    fields["function"] === "add" ? { ...rest, fields: { ...fields, function: "sub" } } : undefined,
  "one execution less": ({ count, ...rest }) => (count > 2 ? { ...rest, count: count - 1 } : undefined),
};

const LAYER = `graph @layer(%0 "x": f32[3,4]) {
  %1 = constant() {value=dense<[-0.71, 0.63, -0.57, 0.41, -0.33, 0.29, -0.11, 0.13, -0.27, 0.31, -0.47, 0.53, -0.61, 0.73, -0.83, 0.87]>} : f32[4,4]
  %2 = matmul(%0, %1) : f32[3,4]
  %3 = tanh(%2) : f32[3,4]
  %4 = constant() {value=dense<[0.51, -1.03, 2.07, -3.11]>} : f32[4]
  %5 = add(%3, %4) : f32[3,4]
  return %5 "y"
}`;

describe("a changed instruction", () => {
  const program = programOf(parseGraph(LAYER), TARGETS.tiny);
  const inputs = {
    x: tensorOf(
      "f32",
      [3, 4],
      Array.from({ length: 12 }, (_, i) => (i - 5) / 8),
    ),
  };
  const outcome = (changed: Program): string => {
    try {
      return JSON.stringify(Object.values(loadImage(writeImage(changed)).entry().run(inputs).outputs));
    } catch (error) {
      if (error instanceof MachineFault || error instanceof CompileError) return error.code;
      throw error;
    }
  };
  const right = outcome(program);

  test.each(Object.entries(CHANGES))("%s: the run faults or gives something else", (_, change) => {
    let changes = 0;
    const unseen: string[] = [];
    const [entry] = program.entries;
    const all = entry?.queues[0] ?? [];
    for (const [number, queue] of all.entries()) {
      for (const [index, instruction] of queue.entries()) {
        const changed = change(instruction);
        if (entry === undefined || changed === undefined) continue;
        changes++;
        const queues = all.map((own, at) =>
          at === number ? own.map((each, place) => (place === index ? changed : each)) : own,
        );
        if (outcome({ ...program, entries: [{ ...entry, queues: [queues] }] }) === right)
          unseen.push(`${queueName(program.target, number)}: ${JSON.stringify(instruction)}`);
      }
    }
    expect(changes).toBeGreaterThan(0);
    expect(unseen).toEqual([]);
  });
});

describe("random graphs", () => {
  const SEEDS = Array.from({ length: 40 }, (_, seed) => seed);

  test.each(SEEDS)("seed %i: both machines give what evaluation of the legal graph gives", (seed) => {
    const random = seeded(seed);
    const { builder, inputs } = new RandomGraph((below) => random(Math.max(1, below)), 1 + random(4));
    expect(randomGraphVerdict(builder.finish(), inputs, TARGETS.tiny)).toMatch(/^(ok|refused)/);
  });
});
