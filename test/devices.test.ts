/**
 * Annotations for devices: a model that says where its nodes work and its results lie is built so, what it does not say is left to the
 * search, and what contradicts itself or the model is refused.
 */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { modelBytes, type NodeDevices, type OnnxNode } from "../models/onnx-writer.js";
import { compile } from "../src/compile.js";
import type { CompileOptions } from "../src/options.js";
import { plan, type PlanOptions } from "../src/plan.js";
import { sure } from "../src/diagnostics.js";
import { annotatedModel } from "../src/frontend/annotate.js";
import { bytesSource } from "../src/frontend/source.js";
import { checkModel } from "../src/host/check.js";
import { joinChunks } from "../src/host/build.js";
import { stagesOf } from "../src/ir/stage.js";
import { tensorOf } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";
import { verdict } from "./compiled.js";

type Notes = Readonly<Record<string, readonly NodeDevices[]>>;

/** y = relu(relu(x * w1) * w2) * w3, with annotations by node. */
const source = (notes: Notes, configurations: Readonly<Record<string, number>> = { pair: 2 }) => {
  const node = (op: string, name: string, inputs: string[], output: string): OnnxNode => ({
    ...{ op, name, inputs, outputs: [output], attributes: {} },
    ...(notes[name] && { devices: notes[name] }),
  });
  const weight = (name: string, rows: number, columns: number) => {
    const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i + name.length) / 4);
    return { name, type: "float32" as const, dims: [rows, columns], chunks: () => [new Uint8Array(values.buffer)] };
  };
  return bytesSource(
    "mlp",
    modelBytes({
      ...{ name: "mlp", opset: 18, configurations },
      nodes: [
        node("MatMul", "up", ["x", "w1"], "a"),
        node("Relu", "act", ["a"], "b"),
        node("MatMul", "down", ["b", "w22"], "c"),
        node("Relu", "act2", ["c"], "d"),
        node("MatMul", "last", ["d", "w333"], "y"),
      ],
      inputs: [{ name: "x", type: "float32", dims: [4, 16] }],
      outputs: [{ name: "y", type: "float32", dims: [4, 8] }],
      initializers: [weight("w1", 16, 64), weight("w22", 64, 16), weight("w333", 16, 8)],
    }),
  );
};

const cut = (tensor: string, axis: number, devices: readonly number[] = [0, 1], shards = [2]) => ({
  ...{ tensor, devices },
  cuts: [{ axis, shards }],
});
const pair = (...specs: NonNullable<NodeDevices["specs"]>): readonly NodeDevices[] => [
  { configuration: "pair", specs },
];
const inStage = (stage: number): readonly NodeDevices[] => [{ configuration: "pair", stage }];

const x = tensorOf(
  "f32",
  [4, 16],
  Array.from({ length: 64 }, (_, i) => Math.cos(i)),
);
const built = (notes: Notes, options: CompileOptions = {}) => {
  const { program, report, image } = compile(source(notes), { target: "tiny", ...options });
  const run = loadImage(joinChunks(image())).entry().run({ x });
  expect(run.cyclesByChip).toEqual(program.entries[0]?.cycles);
  return { program, report, y: sure(run.outputs["y"], "y") };
};

describe("annotations for devices", () => {
  test("a plan has the chips and the stages that the model says, and says what it leaves open", () => {
    const planned = (notes: Notes, options: PlanOptions = {}) => plan(source(notes), { target: "tiny", ...options });
    const stages = { up: inStage(0), down: inStage(1), last: inStage(1) };
    const parts = planned(stages).stages.map(({ from, to }) => [from, to]);
    expect(parts).toEqual([
      ["up", "up"],
      ["down", "last"],
    ]);
    expect(planned(stages, { configuration: false }).stages.length).toBe(1);
    expect(planned(stages).assumptions.join()).toMatch(/stages that configuration 'pair'/);
    const shared = planned({ up: pair(cut("a", 1)) });
    expect([shared.tensor, shared.stages.length]).toEqual([2, 1]);
    expect(shared.assumptions.join()).toMatch(/left to the search, though it says so of 1/);
    expect(verdict(() => planned(stages, { stages: 3 }))).toMatch(/^LPU1015/);
    expect(verdict(() => planned(stages, { system: "card" }))).toMatch(/^LPU200[78]/);
    const between = source({ up: inStage(0), act: inStage(1), down: inStage(2) }, { pair: 3 });
    expect(verdict(() => plan(between, { target: "tiny" }))).toMatch(/^LPU2006/);
  });

  test("results lie as the model says, on as many chips, and what it leaves open is completed", () => {
    const alone = built({}, { configuration: false });
    expect(alone.program.chips.length).toBe(1);
    const columns = built({ up: pair(cut("a", 1)), down: pair({ tensor: "c", devices: [0, 1] }) });
    expect(columns.program.chips.length).toBe(2);
    expect(columns.report.sharding).toMatchObject({
      chips: 2,
      exchanges: [{ op: "all_reduce" }],
      annotated: { held: 2, open: [] },
    });
    const rows = built({ up: pair(cut("a", 0)), last: pair(cut("y", 0)) });
    expect(rows.report.sharding).toMatchObject({ chips: 2, exchanges: [], annotated: { held: 2, open: [] } });
    const error = (y: typeof x): number =>
      Math.max(...Array.from(y.data, (value, i) => Math.abs(value - Number(alone.y.data[i]))));
    expect(error(rows.y)).toBe(0);
    expect(error(columns.y)).toBeLessThan(1e-2);
  });

  test("nodes are in the stages that the model says", () => {
    for (const second of ["down", "last"]) {
      const nodes = ["up", "act", "down", "act2", "last"];
      const stageOf = (node: string): number => (nodes.indexOf(node) < nodes.indexOf(second) ? 0 : 1);
      const { program } = built(Object.fromEntries(nodes.map((node) => [node, inStage(stageOf(node))])));
      const origins = stagesOf(program).map(({ program: { entries } }) =>
        entries.flatMap(({ queues }) => queues.flat(2)).filter(({ op }) => op === "abc"),
      );
      const names = origins.map((all) => new Set(all.map(({ origin }) => program.origins[origin])));
      expect(names).toEqual(
        [0, 1].map((stage) => new Set(["up", "down", "last"].filter((node) => stageOf(node) === stage))),
      );
    }
  });

  test("what was chosen is written into the model, which is built from it again", () => {
    const model = bytesSource("gpt2", readFileSync(new URL("../../models/small/gpt2.onnx", import.meta.url)));
    const options: CompileOptions = { target: "unit-latency", tensor: 2, stages: 2 };
    const made = compile(model, options);
    const devices = made.devices();
    expect([devices.stages, devices.members, new Set(devices.stageOf.values()).size]).toEqual([2, 2, 2]);
    const written = bytesSource("gpt2", joinChunks(annotatedModel(model, devices)));
    const { sharding, cycles, chips } = made.report;
    const again = compile(written, { target: "unit-latency" });
    expect(again.report).toMatchObject({ cycles, chips });
    expect(again.report.sharding).toMatchObject({
      exchanges: sharding?.exchanges,
      annotated: { held: devices.results.length, open: [] },
    });
    expect(joinChunks(annotatedModel(written, again.devices()))).toEqual(joinChunks(annotatedModel(model, devices)));
  });

  test.each<[string, RegExp, Notes, CompileOptions?, Record<string, number>?]>([
    ["a configuration that is not there", /^LPU1015.*'pare'/, {}, { configuration: "pare" }],
    ["several, none of which is named", /^LPU1015.*has 2/, {}, {}, { pair: 2, four: 4 }],
    ["other numbers of chips", /^LPU1015.*2 chips/, { up: pair(cut("a", 1)) }, { tensor: 4 }],
    ["a configuration that a node alone has", /^LPU1015.*'pear'/, { up: [{ configuration: "pear", stage: 0 }] }],
    ["a node that is said twice", /^LPU1015.*2 annotations/, { up: [...inStage(0), ...inStage(1)] }],
    ["a tensor of another node", /^LPU1015.*'d' is neither/, { up: pair(cut("d", 1)) }],
    ["a tensor that is said twice", /^LPU1015.*'a' is said twice/, { up: pair(cut("a", 1), cut("a", 0)) }],
    ["a stage without nodes", /^LPU1015.*number 0 has no node/, { up: inStage(1) }],
    ["more devices than there are", /^LPU1015.*more than the 2/, { up: pair(cut("a", 1, [0, 1, 2, 3], [4])) }],
    ["more pieces than devices", /^LPU1015.*4 pieces for 2/, { up: pair(cut("a", 1, [0, 1], [4])) }],
    ["an axis that cannot be cut", /^LPU1015.*axis 3/, { up: pair(cut("a", 3)) }],
    [
      "results that do not meet",
      /^LPU1015.*cannot all lie/,
      { up: pair({ tensor: "a", devices: [0, 1] }), act: pair(cut("b", 1)) },
    ],
    ["stages that part what one task does", /^LPU2006/, { up: inStage(0), act: inStage(1) }],
    ["stages against the order of nodes", /^LPU2006.*where the model has them/, { up: inStage(1), last: inStage(0) }],
    [
      "pieces along two axes",
      /^LPU1016.*2 axes/,
      {
        up: pair({
          tensor: "a",
          cuts: [
            { axis: 0, shards: [2] },
            { axis: 1, shards: [2] },
          ],
        }),
      },
    ],
    ["devices in another order", /^LPU1016.*1, 0/, { up: pair(cut("a", 1, [1, 0])) }],
    [
      "pieces that several have",
      /^LPU1016.*several/,
      { up: pair({ ...cut("a", 1, [-1, -2]), groups: { [-1]: [0, 1], [-2]: [0, 1] } }) },
      {},
      { pair: 4 },
    ],
  ])("%s: refused", (_, wanted, notes, options = {}, configurations = { pair: 2 }) => {
    const model = source(notes, configurations);
    expect(verdict(() => compile(model, { target: "tiny", ...options }))).toMatch(wanted);
    expect(
      verdict(() => {
        const [problem] = checkModel(model, { target: "tiny", ...options }).problems;
        if (problem !== undefined) throw problem;
      }),
    ).toMatch(wanted);
  });
});
