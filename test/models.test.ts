/**
 * The model builders: same bytes every time, accepted by ONNX Runtime, of sane magnitude, with attention that attends.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";
import { InferenceSession } from "onnxruntime-node";
import { buildModel, buildSmallModel, FAMILIES, type FamilyName, OPSETS, SMALL_MODELS } from "../models/families.js";
import { byteLength, modelBytes, type ValueInfo, writeModel } from "../models/onnx-writer.js";
import type { SizeName } from "../models/sizes.js";
import { seededNormals } from "../models/weights.js";
import { CompileError, sure } from "../src/diagnostics.js";
import { openModel } from "../src/host/files.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource, readModel } from "../src/frontend/source.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Tensor } from "../src/ir/graph.js";
import { makeTensor } from "../src/ir/tensor.js";
import { modelInputs, type ReferenceInput, runReference } from "./reference.js";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const SMALL_NAMES = ["bert", "gpt2", "llama", "vit"] as const satisfies readonly (keyof typeof SMALL_MODELS)[];
/** One layer of everything, so that each case takes milliseconds. */
const TINY_SIZES: Readonly<Record<FamilyName, Readonly<Partial<Record<SizeName, number>>>>> = {
  bert: { layers: 1, hidden: 32, heads: 2, vocab: 50, seq: 8, classes: 3, batch: 2 },
  gpt2: { layers: 1, hidden: 32, heads: 2, vocab: 50, seq: 8 },
  llama: { layers: 1, hidden: 32, heads: 4, "kv-heads": 2, vocab: 50, seq: 8 },
  mixtral: {
    ...{ layers: 1, hidden: 32, heads: 4, "kv-heads": 2, intermediate: 64, vocab: 50, seq: 8 },
    ...{ experts: 5, "experts-used": 2 },
  },
  vit: { layers: 1, hidden: 32, heads: 2, image: 8, patch: 4, classes: 0 },
  matmul: { m: 5, k: 16, n: 7 },
};

describe("small models", () => {
  test("the table and this list name the same models", () => {
    expect(Object.keys(SMALL_MODELS)).toEqual([...SMALL_NAMES]);
  });

  test.each(SMALL_NAMES)("%s: rebuilding gives the committed bytes, under 150 KB", (name) => {
    const committed = readFileSync(join(ROOT, "models", "small", `${name}.onnx`));
    expect(committed.length).toBeLessThan(150_000);
    expect(Buffer.compare(modelBytes(buildSmallModel(name)), committed)).toBe(0);
  });

  test.each(SMALL_NAMES)("%s: outputs are finite, of sane size and differ between positions", async (name) => {
    const outputs = await runReference(modelBytes(buildSmallModel(name)), modelInputs(buildSmallModel(name)));
    expect(outputs.size).toBe(1);
    for (const values of outputs.values()) {
      expect(values.every(Number.isFinite)).toBe(true);
      const spread = standardDeviation(values);
      expect(spread).toBeGreaterThan(0.3);
      expect(spread).toBeLessThan(5);
    }
  });

  test.each(SMALL_NAMES)("%s: the evaluator agrees with ONNX Runtime", async (name) => {
    const model = buildSmallModel(name);
    const bytes = modelBytes(model);
    const inputs = modelInputs(model);
    const [want = new Float32Array()] = (await runReference(bytes, inputs)).values();
    const [got] = evaluate(importModel(bytesSource(name, bytes), { bind: {} }), evaluatorInputs(inputs));
    expect(relativeError(got?.data ?? [], want)).toBeLessThan(1e-4);
  });

  test.each(SMALL_NAMES)("%s: attention is neither uniform nor a single key", async (name) => {
    const model = buildSmallModel(name);
    const { heads, seq } = extents(name);
    const softmaxes = model.nodes.filter((node) => node.op === "Softmax");
    expect(softmaxes).toHaveLength(2);
    for (const node of softmaxes) {
      const probabilities = { name: node.outputs[0] ?? "", type: "float32", dims: [1, heads, seq, seq] } as const;
      const probed = { ...model, outputs: [probabilities] };
      const [values = new Float32Array()] = (await runReference(modelBytes(probed), modelInputs(model))).values();
      const peak = lastRowPeak(values, heads, seq);
      expect(peak).toBeGreaterThan(1.5 / seq);
      expect(peak).toBeLessThan(0.9);
    }
  });
});

describe("families", () => {
  const families = Object.keys(FAMILIES).filter((name): name is FamilyName => name in FAMILIES);

  test.each(families)("%s: every opset gives the same values", async (name) => {
    const results: Float32Array[] = [];
    for (const opset of [OPSETS.least, 16, 17, 18, OPSETS.most]) {
      const model = buildModel(name, TINY_SIZES[name], { opset });
      const [values = new Float32Array()] = (await runReference(modelBytes(model), modelInputs(model))).values();
      results.push(values);
    }
    const [first = new Float32Array(), ...others] = results;
    for (const other of others) expect(relativeError(other, first)).toBeLessThan(1e-5);
  });

  test("another seed gives other weights of the same size", () => {
    const [one, two] = [1, 2].map((seed) => modelBytes(buildModel("matmul", TINY_SIZES.matmul, { seed })));
    expect(one?.length).toBe(two?.length);
    expect(Buffer.compare(one ?? new Uint8Array(), two ?? new Uint8Array())).not.toBe(0);
  });

  test.each<[FamilyName, Partial<Record<SizeName, number>>, string]>([
    ["bert", { hidden: 30, heads: 4 }, "hidden must be a multiple of heads, 30 is not of 4"],
    ["bert", { layers: 0 }, "layers must be a whole number of at least 1, is 0"],
    ["bert", { seq: 600 }, "seq must be at most positions (512), is 600"],
    ["llama", { heads: 9, "kv-heads": 2 }, "heads must be a multiple of kv-heads, 9 is not of 2"],
    ["mixtral", { experts: 2, "experts-used": 3 }, "experts-used must be at most experts (2), is 3"],
    ["llama", { "tied-head": 2 }, "tied-head must be 0 or 1, is 2"],
    ["matmul", { vocab: 3 }, "family 'matmul' has no size 'vocab'"],
    ["vit", { patch: 15 }, "image must be a multiple of patch, 224 is not of 15"],
  ])("%s with %j is refused", (name, sizes, message) => {
    expect(() => buildModel(name, sizes)).toThrow(new CompileError("LPU5101", { message }));
  });
});

test("with a past lengths are open, and seq does not count", () => {
  expect(() => buildModel("gpt2", { ...TINY_SIZES.gpt2, positions: 4, seq: 128 }, { past: true })).not.toThrow();
});

test("with a past the command line refuses a length", () => {
  const builder = fileURLToPath(new URL("../models/build.js", import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [builder, "gpt2", "--past", "--seq", "4"], {
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toMatch(/LPU5101: seq: a decoder with a past leaves open how many tokens it takes/);
});

describe("decoders with a past", () => {
  const decoders = ["gpt2", "llama", "mixtral"] as const;
  const taken = [3, 1, 1, 2, 1];

  test.each(decoders)("%s: tokens that come in pieces give what they give together", async (name) => {
    const sizes = { ...TINY_SIZES[name], layers: 2 };
    const stateless = buildModel(name, sizes);
    const whole = modelInputs(stateless);
    const ids = sure(whole.get("input_ids"), "tokens").data as BigInt64Array;
    const [want = new Float32Array()] = (await runReference(modelBytes(stateless), whole)).values();
    const model = buildModel(name, sizes, { past: true });
    const bytes = modelBytes(model);
    let left = new Map<string, Float32Array>();
    const logits: number[] = [];
    for (let at = 0, piece = 0; at < ids.length; piece++) {
      const seq = taken[piece] ?? 1;
      const given: Readonly<Record<string, BigInt64Array>> = {
        input_ids: ids.slice(at, at + seq),
        position_ids: BigInt64Array.from({ length: seq }, (_, i) => BigInt(at + i)),
        attention_mask: new BigInt64Array(at + seq).fill(1n),
      };
      const inputs = model.inputs.map((input): [string, ReferenceInput] => {
        const dims = bound(input, { sequence_length: seq, past_sequence_length: at, total_sequence_length: at + seq });
        const data = given[input.name] ?? left.get(input.name.replace("past_key_values", "present"));
        return [input.name, { dims, data: data ?? new Float32Array() }];
      });
      left = await runReference(bytes, new Map(inputs));
      logits.push(...(left.get("logits") ?? []));
      at += seq;
    }
    expect(relativeError(logits, want)).toBeLessThan(1e-5);
  });
});

test("weights are normal-like with the given spread", () => {
  const values = seededNormals("spread", 7, 200_000, 0.5);
  expect(standardDeviation(values)).toBeCloseTo(0.5, 2);
  expect(values.filter((value) => Math.abs(value) < 0.5).length / values.length).toBeCloseTo(0.6827, 1);
});

test("every weight is as long as its shape says", () => {
  for (const initializer of buildSmallModel("llama").initializers) {
    const length = [...initializer.chunks()].reduce((sum, chunk) => sum + chunk.length, 0);
    expect(length).toBe(byteLength(initializer));
  }
});

test("a model without its weights is as small as its graph, and keeps what shapes follow from", () => {
  const folder = mkdtempSync(join(tmpdir(), "metronome-models-"));
  try {
    const model = buildModel("llama", { ...TINY_SIZES.llama, hidden: 512, heads: 8 }, { past: true });
    const [whole, graph] = [
      writeModel(model, join(folder, "w.onnx")),
      writeModel(model, join(folder, "g.onnx"), { absent: true }),
    ];
    expect([graph.bytes < 40_000, whole.bytes > 10_000_000]).toEqual([true, true]);
    expect(existsSync(graph.external?.file ?? "")).toBe(false);
    const opened = openModel(graph.file);
    const { initializers, nodes } = readModel(opened.source).graph;
    expect([initializers.length, nodes.length]).toEqual([model.initializers.length, model.nodes.length]);
    const inline = initializers.filter(({ proto }) => proto.externalData.length === 0).map(({ proto }) => proto.name);
    expect(inline).toEqual(model.initializers.flatMap(({ name, weight }) => (weight === true ? [] : [name])));
    opened.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("weights too large for one file go beside it, page-aligned, and load", async () => {
  const folder = mkdtempSync(join(tmpdir(), "metronome-models-"));
  try {
    const model = buildModel("matmul", { m: 5, k: 16, n: 7 });
    const written = writeModel(model, join(folder, "m.onnx"), { largestInline: 100 });
    expect(written.external).toEqual({ file: join(folder, "m.onnx.data"), bytes: 4096 });
    expect(statSync(written.file).size).toBe(written.bytes);
    const session = await InferenceSession.create(written.file);
    expect(session.inputNames).toEqual(["x"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Extents of an input, those that are open as given. */
const bound = ({ dims, open }: ValueInfo, sizes: Readonly<Record<string, number>>): readonly number[] =>
  dims.map((extent, axis) => sizes[open?.[axis] ?? ""] ?? extent);

/** int64 narrows to int32, as on import. */
function evaluatorInputs(inputs: ReadonlyMap<string, ReferenceInput>): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [name, { dims, data }] of inputs) {
    if (data instanceof BigInt64Array) tensors[name] = makeTensor("i32", dims, Int32Array.from(data, Number));
    else tensors[name] = makeTensor("f32", dims, data);
  }
  return tensors;
}

function extents(name: (typeof SMALL_NAMES)[number]): { heads: number; seq: number } {
  const { sizes } = SMALL_MODELS[name];
  return { heads: sizes.heads, seq: "seq" in sizes ? sizes.seq : (sizes.image / sizes.patch) ** 2 + 1 };
}

/** Mean over heads of the largest probability in the last query's row; values are [1, heads, seq, seq]. */
function lastRowPeak(values: Float32Array, heads: number, seq: number): number {
  const peaks = Array.from({ length: heads }, (_, head) =>
    Math.max(...values.slice((head + 1) * seq * seq - seq, (head + 1) * seq * seq)),
  );
  return peaks.reduce((sum, peak) => sum + peak, 0) / heads;
}

function standardDeviation(values: ArrayLike<number>): number {
  const list = Array.from(values);
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  return Math.sqrt(list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / list.length);
}

function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  let error = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    error += ((got[i] ?? Number.NaN) - (want[i] ?? 0)) ** 2;
    norm += (want[i] ?? 0) ** 2;
  }
  return Math.sqrt(error / norm);
}
