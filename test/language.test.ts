/** Writing text: the choice of tokens, text that grows, what a decoder is, and a trained model with its past on the chip. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import { parseNumbers } from "../bin/arguments.js";
import { problemsOf } from "../bin/show/problems.js";
import { buildModel } from "../models/families.js";
import { modelBytes, writeModel } from "../models/onnx-writer.js";
import { readImage } from "../src/codegen/image/image.js";
import { sure } from "../src/diagnostics.js";
import { bytesSource, type GraphRecord, readModel } from "../src/frontend/source.js";
import { openFolder } from "../src/host/folder.js";
import { type LanguageModel, lpuit, openLanguageModel, openModel } from "../src/index.js";
import { blockInputs, decoderEntries, decoderShapes, logitsOf, sourceHasPast } from "../src/language/decoder.js";
import { type TargetName, TARGETS } from "../src/ir/target.js";
import { openTemplate } from "../src/language/chat.js";
import { cutAtStop, type Piece } from "../src/language/model.js";
import { keptPasts, type Saved } from "../src/language/pasts.js";
import type { Step } from "../src/language/runs.js";
import { chooseToken, GREEDY, penalised } from "../src/language/sample.js";
import { type Settings, settingsOf } from "../src/language/settings.js";
import { expectFits, textStream } from "../src/language/text.js";
import { relativeError } from "./drawn.js";
import { fakeModel } from "./fake-decoder.js";

const folder = mkdtempSync(join(tmpdir(), "metronome-language-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const saidBy = async (work: () => unknown): Promise<readonly string[]> => {
  try {
    await work();
    return [];
  } catch (error) {
    return problemsOf(error).map(({ code, message }) => `${code}: ${message}`.replaceAll(folder, "folder"));
  }
};

describe("the choice of a token", () => {
  const logits = [1, 3, 3, -2, 2.5];
  const tokensOf = (sampling: Partial<typeof GREEDY>): readonly number[] =>
    Array.from({ length: 4000 }, (_, step) => chooseToken(logits, { ...GREEDY, ...sampling }, step));

  test("greedy takes the lowest of the likeliest, and so does top-k 1", () => {
    expect(chooseToken(logits, GREEDY, 0)).toBe(1);
    expect(new Set(tokensOf({ temperature: 2, topK: 1, seed: 9 }))).toEqual(new Set([1]));
    expect(chooseToken([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, -5], GREEDY, 0)).toBe(2);
  });

  test("shares follow the softmax at a temperature", () => {
    for (const temperature of [0.5, 1, 3]) {
      const weights = logits.map((logit) => Math.exp(logit / temperature));
      const sum = weights.reduce((a, b) => a + b, 0);
      const chosen = tokensOf({ temperature, seed: 5 });
      for (const [token, weight] of weights.entries()) {
        const share = weight / sum;
        const found = chosen.filter((one) => one === token).length / chosen.length;
        // Four standard deviations of a share among so many draws.
        expect(Math.abs(found - share)).toBeLessThan(4 * Math.sqrt((share * (1 - share)) / chosen.length) + 1e-9);
      }
    }
  });

  test("top-k and top-p leave out the tail, and the likeliest stays whatever they say", () => {
    expect(new Set(tokensOf({ temperature: 5, topK: 3 }))).toEqual(new Set([1, 2, 4]));
    expect(new Set(tokensOf({ temperature: 1, topP: 0.5 }))).toEqual(new Set([1, 2]));
    expect(new Set(tokensOf({ temperature: 1, topP: 0 }))).toEqual(new Set([1]));
  });

  test("penalties change what was there before, by how it was there", () => {
    const scores = Float32Array.from([2, -2, 1, 1]);
    const changed = (sampling: Partial<typeof GREEDY>): readonly number[] => [
      ...penalised(scores, { ...GREEDY, ...sampling }, [0, 1], [2, 2]),
    ];
    expect(changed({})).toEqual([2, -2, 1, 1]);
    expect(changed({ repetitionPenalty: 2 })).toEqual([1, -4, 0.5, 1]);
    expect(changed({ presencePenalty: 0.5 })).toEqual([2, -2, 0.5, 1]);
    expect(changed({ frequencyPenalty: 0.5 })).toEqual([2, -2, 0, 1]);
    expect([...scores]).toEqual([2, -2, 1, 1]);
  });

  test("the seed decides, and nothing else", () => {
    expect(tokensOf({ temperature: 1, seed: 7 })).toEqual(tokensOf({ temperature: 1, seed: 7 }));
    expect(tokensOf({ temperature: 1, seed: 7 })).not.toEqual(tokensOf({ temperature: 1, seed: 8 }));
  });
});

describe("text", () => {
  test("is cut at a stop, and what may begin one waits", () => {
    expect(cutAtStop("and then. The end", ["The", "end"])).toEqual({ text: "and then. ", rest: "", stopped: true });
    expect(cutAtStop("and T", ["The"])).toEqual({ text: "and ", rest: "T", stopped: false });
    expect(cutAtStop("and Ta", ["The"])).toEqual({ text: "and Ta", rest: "", stopped: false });
  });

  test("grows by whole characters", () => {
    const bytes = new TextEncoder().encode("aé€😀b");
    const decode = (tokens: readonly number[]): string => new TextDecoder().decode(Uint8Array.from(tokens));
    const grow = textStream({ encode: () => [], decode }, []);
    const parts = [...bytes].map((byte) => grow(byte));
    expect(parts.join("")).toBe("aé€😀b");
    expect(parts.filter((part) => part !== "")).toEqual(["a", "é", "€", "😀", "b"]);
  });
});

describe("a decoder", () => {
  const tensor = (name: string, ...dims: (number | string)[]): GraphRecord["inputs"][number] => ({
    name,
    type: {
      tensorType: {
        elemType: 1,
        shape: {
          dim: dims.map((extent) =>
            typeof extent === "number"
              ? { dimValue: extent, dimParam: "", value: "dimValue" }
              : { dimValue: 0, dimParam: extent, value: "dimParam" },
          ),
        },
      },
    },
  });
  const graphOf = (inputs: GraphRecord["inputs"], outputs: readonly string[]): GraphRecord => ({
    name: "m",
    nodes: [],
    inputs,
    outputs: outputs.map((name) => tensor(name, 1)),
    initializers: [],
    sparse: [],
  });

  test("takes one token and a window of past positions", () => {
    const graph = graphOf(
      [
        tensor("input_ids", "batch", "seq"),
        tensor("attention_mask", "batch", "total"),
        tensor("position_ids", "batch", "seq"),
        tensor("past_key_values.0.key", "batch", 2, "past", 16),
        tensor("past_0", 2, "batch", 4, "past", 8),
      ],
      ["logits", "present.0.key", "present_0"],
    );
    expect(decoderShapes(graph, 7, 1).shapes).toEqual({
      input_ids: [1, 1],
      attention_mask: [1, 8],
      position_ids: [1, 1],
      "past_key_values.0.key": [1, 2, 7, 16],
      past_0: [2, 1, 4, 7, 8],
    });
    expect(decoderShapes(graph, 7, 3).shapes).toMatchObject({
      input_ids: [1, 3],
      attention_mask: [1, 10],
      position_ids: [1, 3],
    });
    // Of sizes that no chip holds, which no list of values would either.
    expect(decoderShapes(graph, 1e12, 1e12).shapes["attention_mask"]).toEqual([1, 2e12]);
  });

  test("with a cache is told which rows are filled, and where the new ones go", async () => {
    const cache = [tensor("key_cache.0", "batch", 16, 32), tensor("write_indices", "batch")];
    const graph = graphOf(
      [tensor("input_ids", "batch", "seq"), ...cache, tensor("nonpad_kv_seqlen", "batch")],
      ["logits", "updated_key_cache.0"],
    );
    const { nodes } = readModel(
      bytesSource(
        "m",
        modelBytes({
          ...{ name: "m", opset: 24, inputs: [], outputs: [], initializers: [] },
          nodes: [{ op: "TensorScatter", name: "", inputs: [], outputs: [], attributes: {} }],
        }),
      ),
    ).graph;
    expect(decoderShapes({ ...graph, nodes }, 16, 3)).toEqual({
      past: "cache",
      shapes: { input_ids: [1, 3], "key_cache.0": [1, 16, 32], write_indices: [1], nonpad_kv_seqlen: [1] },
      fix: {},
    });
    const given = ["input_ids", "write_indices", "nonpad_kv_seqlen", "attention_mask"];
    expect(blockInputs(given, [{ past: "cache", context: 5, tokens: [7, 8], position: 2 }])).toEqual({
      input_ids: [7, 8],
      write_indices: [2],
      nonpad_kv_seqlen: [4],
      attention_mask: [1, 1, 1, 1, 0],
    });
    const untold = graphOf([tensor("input_ids", "batch", "seq"), ...cache], ["logits", "updated_key_cache.0"]);
    expect(await saidBy(() => decoderShapes({ ...untold, nodes }, 16, 1))).toEqual([
      "LPU5104: there is no input 'attention_mask' (1 for each position that is filled, the token's own too)",
    ]);
  });

  test("whose past has a size in the file takes that context and no other", async () => {
    const inputs = [tensor("input_ids", 1, 1), tensor("attention_mask", 1, 17), tensor("position_ids", 1, 1)];
    const graph = graphOf([...inputs, tensor("past.0", 1, 2, 16, 8)], ["logits", "present.0"]);
    expect(decoderShapes(graph, 16, 1).shapes["past.0"]).toEqual([1, 2, 16, 8]);
    expect(await saidBy(() => decoderShapes(graph, 32, 1))).toEqual([
      "LPU5104: input 'past.0': the model has 16 past positions and no other number",
    ]);
    const unknown = graphOf([...inputs, tensor("past.0", 1, 2, "past", "width")], ["logits", "present.0"]);
    expect(await saidBy(() => decoderShapes(unknown, 32, 1))).toEqual([
      "LPU5104: input 'past.0': expected the sizes of all but the batch and the past in the file",
    ]);
  });

  test("is told all that it lacks at once", async () => {
    const graph = graphOf([tensor("input_ids", 1, 4), tensor("pixel_values", 1, 3, 8, 8)], ["y"]);
    expect(await saidBy(() => decoderShapes(graph, 4, 1))).toEqual([
      "LPU5104: no input and output are a past and a present: past_key_values.N and present.N",
      "LPU5104: input 'pixel_values' is none of input_ids, attention_mask, position_ids, write_indices, nonpad_kv_seqlen and has no output that follows it",
      "LPU5104: there is no input 'attention_mask' (1 for each position that is filled, the token's own too)",
      "LPU5104: there is no input 'position_ids' (how many tokens came before)",
    ]);
    expect(
      await saidBy(() =>
        logitsOf([
          { name: "a", shape: [1] },
          { name: "b", shape: [1] },
        ]),
      ),
    ).toEqual(["LPU5104: expected an output 'logits', found 'a', 'b'"]);
  });

  test("in a folder is found with what lies beside it", async () => {
    const inner = join(folder, "onnx");
    mkdirSync(inner);
    writeFileSync(join(inner, "model.onnx"), "");
    writeFileSync(join(folder, "tokenizer.json"), '{"model":{}}');
    writeFileSync(join(folder, "config.json"), '{"eos_token_id":3}');
    const config = { file: join(folder, "config.json"), content: { eos_token_id: 3 } };
    expect(openFolder(folder)).toEqual({
      model: join(inner, "model.onnx"),
      name: basename(folder),
      tokenizer: { definition: { model: {} }, config: {}, template: undefined },
      settings: [config],
    });
    writeFileSync(join(folder, "generation_config.json"), '{"eos_token_id":[5,6]}');
    const generation = { file: join(folder, "generation_config.json"), content: { eos_token_id: [5, 6] } };
    expect(openFolder(join(inner, "model.onnx")).settings).toEqual([generation, config]);
    writeFileSync(join(folder, "genai_config.json"), '{"model":{"decoder":{"filename":"decoder.onnx"}}}');
    writeFileSync(join(folder, "decoder.onnx"), "");
    expect(openFolder(folder).model).toBe(join(folder, "decoder.onnx"));
    writeFileSync(join(folder, "tokenizer.json"), "{");
    expect(await saidBy(() => openFolder(folder))).toEqual([
      "LPU5107: file 'folder/tokenizer.json': expected an object in JSON",
    ]);
    const empty = join(folder, "empty");
    mkdirSync(empty);
    expect(await saidBy(() => openFolder(empty))).toEqual([
      "LPU5001: folder 'folder/empty': expected a model, found no .onnx file",
    ]);
    expect(await saidBy(() => openFolder(join(folder, "absent")))).toEqual([
      "LPU5001: model 'folder/absent' cannot be read: no such file or folder",
    ]);
  });
});

test("of several models in a folder, one with a past writes; of one without it that is said before all else", async () => {
  const both = join(folder, "both");
  mkdirSync(both);
  const sizes = { layers: 1, hidden: 32, heads: 2, vocab: 50, seq: 8 };
  writeModel(buildModel("gpt2", sizes), join(both, "model.onnx"));
  expect((await saidBy(() => openLanguageModel(both, { text: true })))[0]).toBe(
    "LPU5104: no input and output are a past and a present: past_key_values.N and present.N",
  );
  writeModel(buildModel("gpt2", sizes, { past: true }), join(both, "model-past.onnx"));
  expect(openFolder(both).model).toBe(join(both, "model.onnx"));
  expect(openFolder(both, undefined, sourceHasPast).model).toBe(join(both, "model-past.onnx"));
  expect(await saidBy(() => openLanguageModel(both, { text: true }))).toEqual([
    "LPU5106: expected a tokenizer.json, found none beside the model",
  ]);
});

describe("files beside a model", () => {
  const settingsIn = (...contents: readonly object[]): Settings =>
    settingsOf(contents.map((content, index) => ({ file: `${index}.json`, content })));

  test("say what ends a text and how a token is chosen, the first that says it", () => {
    const sampled = { eos_token_id: [2, 7], do_sample: true, temperature: 0.6, top_k: 40, top_p: 0.9 };
    expect(settingsIn(sampled, { eos_token_id: 3 })).toEqual({
      ends: [2, 7],
      sampling: { temperature: 0.6, topK: 40, topP: 0.9 },
    });
    const genai = { model: { eos_token_id: 9 }, search: { do_sample: true, top_p: 0.5 } };
    expect(settingsIn({}, genai)).toEqual({ ends: [9], sampling: { temperature: 1, topP: 0.5 } });
    expect(settingsIn({ temperature: 0.6, top_k: 40, repetition_penalty: 1.2, eos_token_id: null })).toEqual({
      ends: [],
      sampling: { repetitionPenalty: 1.2 },
    });
  });

  test("are refused by file and name where they make no sense", async () => {
    expect(await saidBy(() => settingsIn({ top_p: 3 }))).toEqual([
      "LPU5107: file '0.json': top_p: expected a number from 0 to 1",
    ]);
    expect(await saidBy(() => settingsIn({ eos_token_id: ["</s>"] }))).toEqual([
      "LPU5107: file '0.json': eos_token_id: expected tokens",
    ]);
  });

  test("fit the model's vocabulary, which may be larger", async () => {
    for (const vocab of [{ a: 0, b: 3 }, [["a", 0] as const, ["b", 0], ["c", 0], ["d", 0]]]) {
      expectFits({ model: { vocab } }, 4);
      expect(await saidBy(() => expectFits({ model: { vocab } }, 3))).toEqual([
        "LPU5108: the tokenizer has tokens up to 3, the model has 3: 0 to 2",
      ]);
    }
  });
});

test("numbers of options are refused together", async () => {
  expect(
    await saidBy(() =>
      parseNumbers({
        "--top-p": { value: 1.5, least: 0, most: 1, whole: false },
        "--context": { value: Number.NaN, least: 1, whole: true },
        "--seed": { value: 0, least: 0, whole: true },
        "--repetition-penalty": { value: 0, least: 0, isAbove: true, whole: false },
      }),
    ),
  ).toEqual([
    "LPU5008: --top-p: expected a number from 0 to 1",
    "LPU5008: --context: expected a whole number of at least 1",
    "LPU5008: --repetition-penalty: expected a number above 0",
  ]);
});

test("a trained model writes on from a prompt with its past on the chip", async () => {
  const decoder = "../shared/fixtures/transformers/stories260K-past/model.onnx";
  const stories = "../shared/fixtures/stories260K";
  if (!existsSync(decoder) || !existsSync(stories)) {
    console.log("skipped: fixtures not present");
    return;
  }
  // Told before the build, which would take seconds.
  const large = join(folder, "large-tokenizer.json");
  const parts = { decoder: null, normalizer: null, pre_tokenizer: null, post_processor: null, added_tokens: [] };
  writeFileSync(large, JSON.stringify({ ...parts, model: { type: "BPE", vocab: { a: 0, b: 900 }, merges: [] } }));
  const stages: string[] = [];
  const onStage = ({ stage }: { readonly stage: string }): void => void stages.push(stage);
  expect(await saidBy(() => openLanguageModel(decoder, { tokenizer: large, onStage }))).toEqual([
    "LPU5108: the tokenizer has tokens up to 900, the model has 512: 0 to 511",
  ]);
  expect(await saidBy(() => openLanguageModel(decoder, { text: true, onStage }))).toEqual([
    "LPU5106: expected a tokenizer.json, found none beside the model",
  ]);
  const tokenizer = join(stories, "tokenizer.json");
  expect(
    await saidBy(() =>
      openLanguageModel(decoder, { tokenizer, context: 4, prompt: "Once upon a time there", onStage }),
    ),
  ).toEqual(["LPU5105: the context holds 5 tokens; 0 are taken, 6 do not fit"]);
  writeFileSync(large, "{}");
  expect(await saidBy(() => openLanguageModel(decoder, { tokenizer: large, onStage }))).toEqual([
    expect.stringMatching(/^LPU5107: tokenizer.json cannot be used: ./),
  ]);
  expect(stages).toEqual([]);

  const golden: { readonly tokens: readonly number[] } = JSON.parse(
    readFileSync(join(stories, "golden_greedy.json"), "utf8"),
  );
  const model = await openLanguageModel(decoder, {
    context: 12,
    prefill: [2, 4],
    tokenizer,
    cacheDir: false,
  });
  expect([model.context, model.vocabulary, model.position()]).toEqual([12, 512, 0]);
  const given = golden.tokens.slice(0, 5);
  expect(model.encode("Once upon a time")).toEqual(given);

  const pieces = [];
  for await (const piece of model.generate("Once upon a time")) pieces.push(piece);
  expect(pieces.map(({ token }) => token)).toEqual(golden.tokens.slice(5, 14));
  expect(pieces.map(({ text }) => text).join("")).toBe(", there was a little girl named");
  expect(pieces.at(-1)?.finish).toBe("length");
  // Four tokens of the prompt at once, which look back upon nothing, and one by itself, and then one a piece.
  const { decode, blocks } = model.cycles;
  expect(blocks.map(({ tokens }) => tokens)).toEqual([4, 2]);
  const [{ cycles: four = 0, first: begin = 0 } = {}, { cycles: two = 0 } = {}] = blocks;
  expect(begin).toBeLessThan(four);
  expect(pieces.map(({ cycles }) => cycles)).toEqual([begin + decode, ...pieces.slice(1).map(() => decode)]);
  expect(pieces.map(({ predictedCycles }) => predictedCycles)).toEqual(pieces.map(({ cycles }) => cycles));
  expect(pieces.map(({ runs }) => runs)).toEqual([2, ...pieces.slice(1).map(() => 1)]);

  // The context is full: 13 tokens are taken, and the state is as it was after what is refused.
  expect(model.position()).toBe(13);
  expect(await saidBy(() => model.step(1))).toEqual([
    "LPU5105: the context holds 13 tokens; 13 are taken, 1 do not fit",
  ]);
  model.reset();
  expect(await saidBy(() => model.step([1, 512]))).toEqual(["LPU5106: expected tokens from 0 to 511, got 512"]);
  expect(model.position()).toBe(0);
  await model.step(given.slice(0, 3));
  // Blocks behind others, the longest first: four, two, and one.
  const many = golden.tokens.slice(3, 10);
  expect(await model.step(many)).toMatchObject({ cycles: four + two + decode, runs: 3 });
  model.reset();
  for (const token of golden.tokens.slice(0, 10)) await model.step(token);
  const next = (await model.step(golden.tokens[10] ?? 0)).logits;
  model.reset();
  const { logits } = await model.step(golden.tokens.slice(0, 11));
  expect(relativeError(logits, next)).toBeLessThan(5e-3);
  model.reset();
  await model.step(given.slice(0, 3));
  const saved = model.snapshot();
  const first = await model.step(given.slice(3));
  model.restore(saved);
  expect(model.position()).toBe(3);
  expect(await model.step(given.slice(3))).toEqual(first);

  const stopped = [];
  for await (const piece of model.generate("Once upon a time", { stop: ["was"] })) stopped.push(piece);
  expect(stopped.map(({ text }) => text).join("")).toBe(", there ");
  expect(stopped.at(-1)?.finish).toBe("stop");
}, 240_000);

test("an image of a decoder writes what its model writes, with its own context", async () => {
  const sizes = { layers: 1, hidden: 32, heads: 2, vocab: 50, seq: 8 };
  // Nothing that other tests leave in the folder lies beside it.
  const own = join(folder, "image", "model");
  mkdirSync(own, { recursive: true });
  const path = join(own, "gpt2.onnx");
  writeModel(buildModel("gpt2", sizes, { past: true }), path);
  const cacheDir = join(own, "cache");
  const model = await openLanguageModel(path, { context: 5, prefill: 2, cacheDir });
  const { source, close } = openModel(path);
  const { graph } = readModel(source);
  const entries = decoderEntries(graph, { contexts: [5], prefill: [2], batch: 1 }, TARGETS["lpu-v1"]);
  const image = join(own, "gpt2.lpu");
  writeFileSync(image, (await lpuit(path, { entries, state: "auto", cacheDir })).image);
  close();
  // Entries look up the same two tables: of tokens, and of positions.
  const tables = readImage(readFileSync(image)).entries.map(({ inputs }) =>
    inputs.flatMap(({ lookup }) => (lookup === undefined ? [] : [lookup.bytes])),
  );
  expect([tables.length, new Set(tables.flat()).size]).toEqual([3, 2]);
  // Of a block the logits behind its last token alone.
  const shapes = readImage(readFileSync(image)).entries.map(({ outputs }) => outputs.map(({ shape }) => shape));
  expect(shapes).toEqual(Array(3).fill([[1, 1, 50]]));
  const built = await openLanguageModel(image);
  expect([built.name, built.context, built.capacity, built.cycles]).toEqual(["gpt2", 5, 6, model.cycles]);
  expect([built.vocabulary, built.clockMHz, built.room]).toEqual([model.vocabulary, model.clockMHz, model.room]);
  for (const tokens of [[3, 9, 4], 7, 1]) expect(await built.step(tokens)).toEqual(await model.step(tokens));
  model.close();
  expect(await saidBy(() => model.step(1))).toEqual(["LPU5110: the language model is closed"]);
  expect(await saidBy(() => built.step([1, 2]))).toEqual([
    "LPU5105: the context holds 6 tokens; 5 are taken, 2 do not fit",
  ]);
  const late = { context: 9, weights: "fp8-e4m3", tensor: 2, keep: [], target: "lpu-v1", rebuild: false } as const;
  expect(await saidBy(() => openLanguageModel(image, late))).toEqual([
    "LPU5104: image 'folder/image/model/gpt2.lpu' is built already, with its own context, tensor, weights",
  ]);
  writeFileSync(image, (await lpuit(path, { shapes: decoderShapes(graph, 5, 1).shapes, cacheDir })).image);
  expect(await saidBy(() => openLanguageModel(image))).toEqual([
    "LPU5104: expected an entry that takes one token (input_ids) and states, found 'main' and 0 states",
  ]);
});

describe("several contexts", () => {
  const sizes = { layers: 1, hidden: 32, heads: 2, vocab: 50, seq: 512 };
  const tokens = Array.from({ length: 20 }, (_, i) => (i * 7 + 3) % 50);

  /** A model in a folder in which no other test leaves anything. */
  const written = (name: string): string => {
    const own = join(folder, "contexts", name);
    mkdirSync(own, { recursive: true });
    const path = join(own, "gpt2.onnx");
    writeModel(buildModel("gpt2", sizes, { past: true }), path);
    return path;
  };

  /** Of each step its logits and its cycles. */
  const stepsOf = async (model: LanguageModel, counts: readonly number[]): Promise<readonly Step[]> => {
    const steps: Step[] = [];
    for (const count of counts) {
      const at = model.position();
      const step = await model.step(tokens.slice(at, at + count));
      expect(step.cycles).toBe(step.predictedCycles);
      steps.push(step);
    }
    return steps;
  };
  const ones = (count: number): readonly number[] => Array<number>(count).fill(1);
  const open = (path: string, context: number | readonly number[], target: TargetName, prefill = 3) =>
    openLanguageModel(path, { context, prefill, target, cacheDir: false });

  test("each step sees the least of a window that is all there is, and gives what each context gives alone", async () => {
    const path = written("several");
    const [many, whole, few] = await Promise.all([[9, 330], 330, 10].map((context) => open(path, context, "lpu-v1")));
    // What is seen begins where a half-vector does.
    expect(many?.cycles.shorter.map(({ context }) => context)).toEqual([10]);
    if (many === undefined || whole === undefined || few === undefined) return;
    const { decode: least } = sure(many.cycles.shorter[0], "context");
    expect(least).toBeLessThan(many.cycles.decode);
    const alone = await stepsOf(whole, ones(19));
    const made = await stepsOf(many, ones(19));
    expect(made.map(({ logits }) => logits)).toEqual(alone.map(({ logits }) => logits));
    expect(made.map(({ cycles }) => cycles)).toEqual(ones(19).map((_, at) => (at <= 10 ? least : many.cycles.decode)));
    expect((await stepsOf(few, ones(11))).map(({ logits }) => logits)).toEqual(
      made.slice(0, 11).map(({ logits }) => logits),
    );
    expect(many.snapshot()).toEqual(whole.snapshot());
    // Blocks, the first of which begins anew a past that is longer than a panel, give what steps give, over the border too.
    for (const model of [many, whole]) model.reset();
    const counts = [3, 3, 3, 3, 3, 1, 3];
    const blocks = await stepsOf(many, counts);
    expect(blocks.map(({ logits }) => logits)).toEqual((await stepsOf(whole, counts)).map(({ logits }) => logits));
    const ends = counts.map((_, index) => counts.slice(0, index + 1).reduce((sum, count) => sum + count, 0));
    for (const [index, end] of ends.entries())
      expect(relativeError(sure(blocks[index], "block").logits, sure(made[end - 1], "step").logits)).toBeLessThan(5e-3);
    for (const model of [many, whole, few]) model.close();
  }, 240_000);

  test("each step sees the beginning of a cache", async () => {
    const path = "../shared/fixtures/transformers/webgpu-tiny-gqa/model.onnx";
    if (!existsSync(path)) return;
    const [many, whole] = await Promise.all([[4, 8, 16], 16].map((context) => open(path, context, "lpu-v1", 2)));
    if (many === undefined || whole === undefined) return;
    expect(many.cycles.shorter.map(({ context }) => context)).toEqual([4, 8]);
    const counts = [2, 1, 1, 2, 1, 2, 2, 1, 2, 2];
    const made = await stepsOf(many, counts);
    expect(made.map(({ logits }) => logits)).toEqual((await stepsOf(whole, counts)).map(({ logits }) => logits));
    const { cycles, position } = many;
    expect(position()).toBe(16);
    const [least, middle] = cycles.shorter.map(({ blocks }) => blocks[0]?.cycles);
    expect([made[0]?.cycles, made[3]?.cycles, made[5]?.cycles]).toEqual([least, middle, cycles.blocks[0]?.cycles]);
    many.close();
    whole.close();
  }, 240_000);

  test("that a decoder does not tell apart, or that are none, are refused before the build", async () => {
    const said = (path: string, context: readonly number[]) => saidBy(() => open(path, context, "tiny"));
    const path = written("refused");
    expect(await said(path, [])).toEqual(["LPU5104: expected contexts of at least 1, got none"]);
    expect(await said(path, [8, 0.5])).toEqual(["LPU5104: expected contexts of at least 1, got 8, 0.5"]);
    expect(await said(path, [8, 12])).toEqual([
      "LPU5104: context 8: of a window of 12 positions all but a multiple of 8 is seen, which is all of them",
    ]);
    const fixed = "../shared/fixtures/transformers/hf-gpt2-past/model.onnx";
    if (existsSync(fixed))
      expect(await said(fixed, [4, 12])).toContain(
        "LPU5104: input 'past_key_values.0.key': the model has 12 past positions and no other number",
      );
    const untold = "../shared/fixtures/transformers/static-cache-decoder-opset24/model.onnx";
    if (existsSync(untold))
      expect(await said(untold, [8, 16])).toEqual([
        "LPU5104: contexts 8, 16: there is no input 'attention_mask', whose length says how much of the past an entry sees",
      ]);
  });
});

describe("a closed model", () => {
  const CLOSED = "LPU5110: the language model is closed";

  test("refuses all that needs its machine, and still makes tokens of text", async () => {
    let closed = 0;
    const model = fakeModel({ onClose: () => (closed += 1) });
    await model.step([1, 2]);
    const saved = model.snapshot();
    model.close();
    model.close();
    expect(closed).toBe(1);
    const asked = [
      () => model.step(1),
      () => model.step([]),
      () => model.generate("A").next(),
      async () => model.position(),
      async () => model.reset(),
      async () => model.snapshot(),
      async () => model.restore(saved),
    ];
    for (const ask of asked) expect(await saidBy(ask)).toEqual([CLOSED]);
    expect(model.encode("A")).toEqual([33]);
  });

  test("ends what it was writing before the next run, and a prompt between two blocks", async () => {
    const runs: number[] = [];
    const model = fakeModel({ prefill: [4], onRun: (tokens) => runs.push(tokens) });
    const writing = model.generate("Once");
    expect((await writing.next()).value).toMatchObject({ runs: 1 });
    model.close();
    expect(await saidBy(() => writing.next())).toEqual([CLOSED]);
    const other = fakeModel({
      prefill: [4],
      onRun: (tokens) => {
        runs.push(tokens);
        other.close();
      },
    });
    expect(await saidBy(() => other.step([1, 2, 3, 4, 5, 6, 7, 8]))).toEqual([CLOSED]);
    expect(runs).toEqual([4, 4]);
  });

  test("is what `using` leaves behind", async () => {
    let closed = 0;
    {
      using model = fakeModel({ onClose: () => (closed += 1) });
      await model.step(1);
      expect(closed).toBe(0);
    }
    expect(closed).toBe(1);
  });
});

describe("pasts that are kept", () => {
  const saved = (...tokens: readonly number[]): Saved => ({ tokens, states: tokens });

  test("are found by what they begin with, the longest that leaves a token", () => {
    const pasts = keptPasts(3);
    for (const one of [saved(1), saved(1, 2, 3), saved(1, 5)]) pasts.keep(one);
    expect(pasts.longest([1, 2, 3, 4])).toEqual(saved(1, 2, 3));
    expect(pasts.longest([1, 2, 3])).toEqual(saved(1));
    expect(pasts.longest([2, 1])).toBe(undefined);
    expect(pasts.shared([1, 2, 9])).toBe(2);
    expect(pasts.shared([3])).toBe(0);
    // [1, 5] was of no use for the longest time.
    pasts.keep(saved(7));
    expect(pasts.longest([1, 5, 6])).toEqual(saved(1));
    expect(keptPasts(0).longest([1])).toBe(undefined);
  });

  test("change nothing of the text, and spare runs", async () => {
    for (const [prefill, expected] of [
      [[], [0, 15, 0, 12, 0]],
      [[4], [0, 12, 12, 12, 0]],
      [
        [8, 3],
        [0, 8, 8, 8, 0],
      ],
    ] as const) {
      const prompts = ["Once upon a time", "Once upon a time there", "Once upon a hill", "Once upon a hall", "Twice"];
      const pasts = keptPasts(4);
      const taken: number[][] = [];
      const model = fakeModel({ prefill, onRun: (tokens) => void taken.at(-1)?.push(tokens) });
      const kept = [];
      for (const prompt of prompts) {
        const written = async (options: object): Promise<readonly Piece[]> => {
          taken.push([]);
          const pieces = [];
          for await (const piece of model.generate(prompt, { maxTokens: 6, ...options })) pieces.push(piece);
          return pieces;
        };
        const fresh = await written({});
        const behind = await written({ pasts });
        expect(behind.map(({ token }) => token)).toEqual(fresh.map(({ token }) => token));
        const spared = behind[0]?.kept ?? 0;
        kept.push(spared);
        // The runs that were spared are the first of those that the whole prompt has.
        const [all = [], own = []] = taken.slice(-2);
        expect(own).toEqual(all.slice(spared / (prefill[0] ?? 1)));
      }
      expect(kept).toEqual(expected);
    }
  });

  test("can be put down between two runs", async () => {
    const abort = new AbortController();
    const model = fakeModel({ onRun: () => model.position() === 3 && abort.abort() });
    const reading = (async () => {
      for await (const _ of model.generate("Once upon a time", { signal: abort.signal }));
    })();
    await expect(reading).rejects.toThrow(/abort/i);
    expect(model.position()).toBe(4);
  });
});

describe("a chat template", () => {
  const messages = [
    { role: "user", content: "Hello" },
    { role: "assistant", content: "Hi" },
  ];
  const source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}";
  const config = { bos_token: { content: "<s>" }, eos_token: "</s>", model_max_length: 5 };

  test("is rendered with the special tokens and the place of the answer", async () => {
    const text = "<s>[user] Hello</s>[assistant] Hi</s>";
    expect((await openTemplate(source, config))?.(messages)).toBe(text);
    expect((await openTemplate(undefined, { ...config, chat_template: source }))?.(messages)).toBe(text);
    const several = [
      { name: "tool_use", template: "no" },
      { name: "default", template: `${source}{% if add_generation_prompt %}[assistant]{% endif %}` },
    ];
    expect((await openTemplate(undefined, { ...config, chat_template: several }))?.(messages)).toBe(
      `${text}[assistant]`,
    );
    expect(await openTemplate(undefined, config)).toBe(undefined);
  });

  test("that cannot be read, or refuses, says why", async () => {
    expect(await saidBy(() => openTemplate("{% for %}", {}))).toEqual([
      expect.stringMatching(/^LPU5109: the chat template cannot be read: ./),
    ]);
    const strict = await openTemplate("{{ raise_exception('roles must alternate') }}", {});
    expect(await saidBy(() => strict?.(messages))).toEqual([
      "LPU5109: the chat template refuses the messages: roles must alternate",
    ]);
  });
});
