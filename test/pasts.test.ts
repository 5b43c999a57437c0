/** Decoders as people have them: steps with the past on the chip give, to the bit, what the host gets that gives it again. */

import { expect, test } from "@jest/globals";
import { existsSync } from "node:fs";
import { buildModel, type FamilyName } from "../models/families.js";
import { modelBytes, type OnnxModel } from "../models/onnx-writer.js";
import { readModel, bytesSource } from "../src/frontend/source.js";
import { compile, lpuit, type LpuitOptions, openModel, type Tensor } from "../src/index.js";
import { blockInputs, decoderShapes, type PastKind } from "../src/language/decoder.js";
import { makeTensor } from "../src/ir/tensor.js";
import { verdict } from "./compiled.js";

const CONTEXT = 9;
const STEPS = 3;

interface Case {
  readonly model: string | Uint8Array;
  readonly context?: number;
  readonly tokens?: number;
  readonly batch?: number;
}

const fixture = (name: string): string => `../shared/fixtures/transformers/${name}/model.onnx`;

/** A decoder of both ways, as optimum merges them: a condition chooses, and branches read what is outside. */
function merged({ outputs, nodes, ...model }: OnnxModel): OnnxModel {
  const inner = (name: string): string => (outputs.some((output) => output.name === name) ? `${name} inside` : name);
  const branch = {
    name: "branch",
    nodes: nodes.map((node) => ({ ...node, inputs: node.inputs.map(inner), outputs: node.outputs.map(inner) })),
    outputs: outputs.map((output) => ({ ...output, name: inner(output.name) })),
  };
  const attributes = { then_branch: { graph: branch }, else_branch: { graph: branch } };
  const names = { inputs: ["use_cache_branch"], outputs: outputs.map(({ name }) => name) };
  return {
    ...{ ...model, outputs },
    inputs: [...model.inputs, { name: "use_cache_branch", type: "bool", dims: [1] }],
    nodes: [{ op: "If", name: "/choice", ...names, attributes }],
  };
}

const SIZES = { layers: 2, hidden: 32, heads: 4, intermediate: 48, vocab: 50, seq: 8 } as const;
const built = (family: FamilyName, batch = 1): OnnxModel =>
  buildModel(
    family,
    { ...SIZES, batch, ...(family !== "gpt2" && { "kv-heads": 2 }), ...(family === "mixtral" && { experts: 4 }) },
    { past: true },
  );

const CASES: Readonly<Record<string, Case>> = {
  "hf-gpt2-past": { model: fixture("hf-gpt2-past"), context: 12 },
  "hf-llama-past": { model: fixture("hf-llama-past"), context: 12 },
  "tiny-random-gpt2-fp32-past": { model: fixture("tiny-random-gpt2-fp32-past") },
  "tiny-random-llama-fp16": { model: fixture("tiny-random-llama-fp16") },
  "webgpu-tiny-gqa": { model: fixture("webgpu-tiny-gqa") },
  "webgpu-tiny-gqa, two tokens at once": { model: fixture("webgpu-tiny-gqa"), tokens: 2 },
  "static-cache-decoder-opset24": { model: fixture("static-cache-decoder-opset24"), context: 16 },
  "gpt2 of the builders": { model: modelBytes(built("gpt2")) },
  "llama of the builders, two tokens at once": { model: modelBytes(built("llama")), tokens: 2 },
  "gpt2 of the builders, three sequences with pasts of odd length": {
    model: modelBytes(built("gpt2", 3)),
    context: 37,
    batch: 3,
  },
  "webgpu-tiny-gqa, three sequences": { model: fixture("webgpu-tiny-gqa"), batch: 3 },
  "mixtral of the builders": { model: modelBytes(built("mixtral")) },
  "a merged decoder": { model: modelBytes(merged(built("gpt2"))) },
};

const drawn = (name: string, shape: readonly number[], step: number): Tensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * 7 + step * 3 + name.length) / 8);
  return makeTensor("f32", shape, values);
};

test.each(Object.entries(CASES))(
  "%s",
  async (_, { model, context = CONTEXT, tokens = 1, batch = 1 }) => {
    if (typeof model === "string" && !existsSync(model)) {
      console.log("skipped: fixtures not present");
      return;
    }
    const { options, past } = shapesOf(model, context, tokens, batch);
    const resident = await lpuit(model, { ...options, state: "auto", cacheDir: false });
    const stateless = await lpuit(model, { ...options, cacheDir: false });
    const states = resident.states.map(({ name }) => name);
    expect(states.length).toBeGreaterThan(0);
    let left = resident.snapshot();
    for (let step = 0; step < STEPS; step++) {
      const position = step * tokens;
      const blocks = Array.from({ length: batch }, (_, sequence) => ({
        ...{ past, context, position },
        tokens: Array.from({ length: tokens }, (_, i) => ((position + i) * 7 + sequence * 5 + 3) % 40),
      }));
      const names = resident.inputs.map(({ name }) => name);
      const given = {
        ...Object.fromEntries(resident.inputs.map(({ name, shape }) => [name, drawn(name, shape, step)])),
        ...blockInputs(names, blocks),
      };
      const { outputs, cycles, predictedCycles } = await resident.run(given);
      expect(cycles).toBe(predictedCycles);
      const wanted = await stateless.run({ ...given, ...left });
      for (const [name, tensor] of Object.entries(outputs)) expect(tensor).toEqual(wanted.outputs[name]);
      left = resident.snapshot();
      for (const name of states) {
        const present =
          wanted.outputs[name.replace(/^past(_key_values)?/, "present").replace(/^(key|value)_cache/, "updated_$&")];
        expect(left[name]).toEqual(endOf(present as Tensor, (left[name] as Tensor).shape));
      }
    }
  },
  240_000,
);

test("rows that are placed by their number are no window, which would lose the first", () => {
  const model = fixture("webgpu-tiny-gqa");
  if (!existsSync(model)) return;
  const { source, close } = openModel(model);
  const bind = { batch_size: 1, sequence_length: 1, past_sequence_length: 8, total_sequence_length: 9 };
  expect(verdict(() => compile(source, { bind, state: "auto" }))).toBe(
    "LPU1014: state 'past_key_values.0.key': expected 'present.0.key', which is f16[1,2,9,32], to be the input with something behind it",
  );
  close();
});

const shapesOf = (
  model: string | Uint8Array,
  context: number,
  tokens: number,
  batch: number,
): { readonly options: LpuitOptions; readonly past: PastKind } => {
  const opened = typeof model === "string" ? openModel(model) : undefined;
  const { graph } = readModel(opened?.source ?? bytesSource("m", model as Uint8Array));
  opened?.close();
  const { past, shapes, fix } = decoderShapes(graph, context, tokens, batch);
  return { options: { shapes, fix }, past };
};

/** The last rows along the axis that is longer. */
const endOf = ({ dtype, data, shape }: Tensor, wanted: readonly number[]): Tensor => {
  const axis = shape.findIndex((extent, i) => extent !== wanted[i]);
  if (axis < 0) return { dtype, data, shape };
  const inner = shape.slice(axis + 1).reduce((product, extent) => product * extent, 1);
  const [whole, kept] = [(shape[axis] ?? 1) * inner, (wanted[axis] ?? 1) * inner];
  return makeTensor(dtype, wanted, data.filter((_, i) => i % whole >= whole - kept) as Float32Array);
};
