/**
 * `check` says what `build` will do: for models of all kinds both find the same, all at once, each with its node and a hint; and
 * what was not looked at is said.
 */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { buildSmallModel } from "../models/families.js";
import { modelBytes, type OnnxModel, type OnnxNode, type ValueInfo } from "../models/onnx-writer.js";
import { type CheckReport, checkModel } from "../src/host/check.js";
import { compile } from "../src/compile.js";
import type { CompileOptions } from "../src/options.js";
import { CompileError } from "../src/diagnostics.js";
import { openModel, readTensorProto } from "../src/host/files.js";
import { bytesSource, type ModelSource, readModel } from "../src/frontend/source.js";
import type { Shape } from "../src/ir/graph.js";
import { sramBytes, TARGETS } from "../src/ir/target.js";
import type { OnStage } from "../src/stages.js";

const PATTERNS = new URL("../../../shared/fixtures/patterns/", import.meta.url).pathname;
/** Refused for a reason of every kind, when this was written; and some that pass. */
const CASES = [
  "const-int64-1e18-where",
  "convtranspose",
  "gatherblockquant",
  "matmul-nbits",
  "merged-decoder-if-shapes",
  "scatternd-add",
  "split-to-sequence",
  "lpu5000-decode-12heads-chunk8-past16",
  "argmax-logits",
];

const floats = (name: string, ...dims: number[]): ValueInfo => ({ name, type: "float32", dims });
const unsigned = (name: string, ...dims: number[]): ValueInfo => ({ name, type: "uint32", dims });
const node = (op: string, inputs: string[], outputs: string[]): OnnxNode => ({
  op,
  name: `the_${outputs[0]}`,
  inputs,
  outputs,
  attributes: {},
});
const sourceOf = (parts: Partial<OnnxModel>): ModelSource =>
  bytesSource(
    "m",
    modelBytes({ name: "m", opset: 18, nodes: [], inputs: [], outputs: [], initializers: [], ...parts }),
  );

const textOf = ({ code, details }: CompileError): string => `${code} ${details.node ?? ""}: ${details.message}`;

/** What stops a build, each cause by itself. */
function problemsOfBuild(source: ModelSource, options: CompileOptions): string[] {
  try {
    compile(source, options);
    return [];
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    return (error.code === "LPU1013" ? error.others : [error, ...error.others]).map(textOf);
  }
}

/** What check finds, after it was compared with what build does. */
function agreed(source: ModelSource, options: CompileOptions = {}): CheckReport {
  const report = checkModel(source, options);
  expect(report.problems.map(textOf)).toEqual(problemsOfBuild(source, options));
  expect(report.problems.filter(({ details }) => details.hint === undefined).map(textOf)).toEqual([]);
  return report;
}

const namesIn = ({ problems }: CheckReport): string[] => problems.map(({ code, details }) => `${code} ${details.node}`);

describe("check and build agree", () => {
  const withFixtures = existsSync(PATTERNS) ? test : test.skip;
  withFixtures.each(CASES.filter((name) => existsSync(join(PATTERNS, name))))("on %s", (name) => {
    const folder = join(PATTERNS, name);
    const model = openModel(join(folder, "model.onnx"));
    try {
      agreed(model.source, { shapes: shapesOf(folder, model.source) });
    } finally {
      model.close();
    }
  });

  test("on a model that builds, and SRAM suffices", () => {
    const report = agreed(bytesSource("bert", modelBytes(buildSmallModel("bert"))));
    expect([report.supported, report.open.length]).toEqual([report.nodes, 1]);
    const { constants = 0, inputs = 0, outputs = 0, results = 0, peak = 0, capacity = 0 } = report.sram ?? {};
    expect([constants, inputs, outputs, results].every((bytes) => bytes > 0)).toBe(true);
    expect([constants + inputs + outputs + results, peak <= capacity]).toEqual([peak, true]);
  });

  test("on every reshape that cannot be laid out, and not on what reads one", () => {
    const shape = { name: "shape", type: "int64" as const, dims: [2] };
    const report = agreed(
      sourceOf({
        nodes: [
          node("Abs", ["x"], ["a"]),
          node("Reshape", ["a", "shape"], ["b"]),
          node("Neg", ["b"], ["y"]),
          node("Exp", ["b"], ["v"]),
          node("Exp", ["x"], ["c"]),
          node("Reshape", ["c", "shape"], ["d"]),
          node("Neg", ["d"], ["z"]),
        ],
        inputs: [floats("x", 2, 3)],
        outputs: [floats("y", 3, 2), floats("v", 3, 2), floats("z", 3, 2)],
        initializers: [{ ...shape, chunks: () => [new Uint8Array(new BigInt64Array([3n, 2n]).buffer)] }],
      }),
    );
    expect(namesIn(report)).toEqual(["LPU2201 the_b", "LPU2201 the_d"]);
    expect([report.supported, report.nodes, report.sram]).toEqual([5, 7, undefined]);
  });

  test("on constants that SRAM does not hold", () => {
    const columns = Math.ceil(sramBytes(TARGETS.tiny) / 2 / 64) + 1;
    const weight = { name: "w", type: "float32" as const, dims: [64, columns] };
    const report = agreed(
      sourceOf({
        nodes: [node("MatMul", ["x", "w"], ["y"])],
        inputs: [floats("x", 1, 64)],
        outputs: [floats("y", 1, columns)],
        initializers: [{ ...weight, chunks: () => [new Uint8Array(new Float32Array(64 * columns).fill(0.5).buffer)] }],
      }),
      { target: "tiny", chips: 1 },
    );
    expect(report.problems.map(({ code }) => code)).toEqual(["LPU2001"]);
    expect((report.sram?.constants ?? 0) > (report.sram?.capacity ?? 0)).toBe(true);
  });

  test("on chips that share products, by what each of them holds", () => {
    const columns = Math.ceil((1.4 * sramBytes(TARGETS.tiny)) / 2 / 64);
    const bytes = new Uint8Array(new Float32Array(64 * columns).fill(0.5).buffer);
    const source = sourceOf({
      nodes: [node("MatMul", ["x", "w"], ["y"])],
      inputs: [floats("x", 1, 64)],
      outputs: [floats("y", 1, columns)],
      initializers: [{ name: "w", type: "float32", dims: [64, columns], chunks: () => [bytes] }],
    });
    const alone = agreed(source, { target: "tiny", chips: 1 });
    expect([alone.chips, alone.problems.map(({ code }) => code)]).toEqual([1, ["LPU2001"]]);
    const shared = checkModel(source, { target: "tiny", tensor: 2 });
    expect([shared.chips, shared.problems, shared.open.length]).toEqual([2, [], 2]);
    expect(shared.sram?.constants).toBeLessThan(0.6 * (alone.sram?.constants ?? 0));
    for (const report of [checkModel, compile])
      expect(() => report(source, { target: "tiny", tensor: 4 })).toThrow(/^LPU2007/);
  });

  test("on an input of more rows than slices that are read in turn", () => {
    const rows = 8 * TARGETS["lpu-v1"].rowsPerBank + 1;
    const report = agreed(
      sourceOf({
        nodes: [node("Abs", ["x"], ["y"])],
        inputs: [floats("x", rows, 8)],
        outputs: [floats("y", rows, 8)],
      }),
    );
    expect(report.problems.map(({ code }) => code)).toEqual(["LPU2001"]);
  });
});

describe("what check says beyond", () => {
  const mixed: Partial<OnnxModel> = {
    nodes: [
      node("Div", ["u", "u"], ["a"]),
      node("NonZero", ["a"], ["b"]),
      node("Cast", ["b"], ["y"]),
      node("Max", ["u", "v"], ["z"]),
    ],
    inputs: [unsigned("u", 2, 8), unsigned("v", 2, 8)],
    outputs: [floats("y", 2, 2), unsigned("z", 2, 8)],
  };

  test("nodes that cannot be imported hide none that the chip does not have", () => {
    const report = checkModel(sourceOf(mixed));
    expect(namesIn(report)).toEqual(["LPU1002 the_b (NonZero)", "LPU2101 the_a (div)", "LPU2101 the_z (max)"]);
    expect([report.supported, report.nodes]).toEqual([1, 4]);
    expect(report.operators.filter((row) => row.supported === 0).map(({ op }) => op)).toEqual([
      "Div",
      "Max",
      "NonZero",
    ]);
    expect(report.open).toEqual([expect.stringMatching(/^layout and SRAM were not looked at/)]);
  });

  test("a build says so in the stage that checks, once the file is received", () => {
    const events: string[] = [];
    const onStage: OnStage = ({ stage, status, detail = "" }) => events.push(`${stage} ${status} ${detail}`.trim());
    expect(() => compile(sourceOf(mixed), { onStage })).toThrow("LPU1002");
    expect(events).toEqual(["receive start", "receive done", "check start", "check failed 3 of 4 nodes"]);
    events.length = 0;
    expect(() => compile(sourceOf({ ...mixed, inputs: [unsigned("u", -1, 8)] }), { onStage })).toThrow();
    expect(events).toEqual(["receive start", "receive failed"]);
  });

  test("without sizes it says which dimensions are open, and what was not looked at", () => {
    const report = checkModel(sourceOf({ ...mixed, inputs: [unsigned("u", -1, 8), unsigned("v", 2, 8)] }));
    expect(namesIn(report)).toEqual(["LPU1002 the_b (NonZero)"]);
    expect([report.unbound, report.sram]).toEqual([["u.0"], undefined]);
    expect(report.open).toEqual([expect.stringMatching(/only names of operators.*shapes, layout or SRAM.*'u\.0'/)]);
  });
});

function shapesOf(folder: string, source: ModelSource): Record<string, Shape> {
  const { graph } = readModel(source);
  const initialized = new Set(graph.initializers.map(({ proto }) => proto.name));
  const inputs = graph.inputs.map((input) => input.name).filter((name) => !initialized.has(name));
  const place = join(folder, "test_data_set_0");
  const files = readdirSync(place).filter((file) => file.startsWith("input_"));
  return Object.fromEntries(
    files.map((file) => {
      const { name, tensor } = readTensorProto(join(place, file));
      return [inputs.includes(name) ? name : (inputs[Number(/\d+/.exec(file)?.[0])] ?? ""), tensor.shape];
    }),
  );
}
