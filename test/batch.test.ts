/** Several sequences side by side: each text is as if it were alone, in fewer runs than all have alone. */

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildModel } from "../models/families.js";
import { modelBytes } from "../models/onnx-writer.js";
import { CompileError } from "../src/diagnostics.js";
import { type LanguageModel, openLanguageModel } from "../src/index.js";
import { nextRun } from "../src/language/side-by-side.js";
import { serve } from "../src/serve/server.js";

const BATCH = 3;
const folder = mkdtempSync(join(tmpdir(), "lpu-batch-"));
const path = join(folder, "model.onnx");
const SIZES = { layers: 2, hidden: 32, heads: 2, intermediate: 48, vocab: 96, batch: BATCH } as const;

let model: LanguageModel;

beforeAll(async () => {
  writeFileSync(path, modelBytes(buildModel("gpt2", SIZES, { past: true })));
  model = await openLanguageModel(path, { batch: BATCH, context: 39, prefill: 8, cacheDir: false });
}, 120_000);

const closers: (() => Promise<void>)[] = [];

afterAll(async () => {
  for (const close of closers) await close();
  model.close();
  rmSync(folder, { recursive: true });
});

const prompt = (length: number, seed: number): readonly number[] =>
  Array.from({ length }, (_, i) => (i * 7 + seed * 13) % 96);

const written = async (of: readonly number[], maxTokens = 6, signal?: AbortSignal): Promise<readonly number[]> => {
  const tokens: number[] = [];
  for await (const { token } of model.generate(of, { maxTokens, ...(signal && { signal }) })) tokens.push(token);
  return tokens;
};

const PROMPTS = [prompt(5, 1), prompt(30, 2), prompt(17, 3), prompt(1, 4), prompt(8, 5)];

const runsOf = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
  const before = model.spent().runs;
  const result = await work();
  return [result, model.spent().runs - before];
};

const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "none",
    (error: unknown) => (error instanceof CompileError ? error.code : String(error)),
  );

describe("the next run", () => {
  const asking = (...left: readonly (readonly [number, boolean])[]) =>
    left.map(([count, isBegun]) => ({ left: count, isBegun }));
  test.each([
    ["one token of each, where one that has begun has no more", asking([40, true], [1, true]), 1, [true, true]],
    ["a block of all who have begun", asking([40, true], [16, true]), 16, [true, true]],
    ["a shorter prompt waits for a longer one", asking([40, false], [20, false]), 16, [true, false]],
    ["until both have as many blocks", asking([24, true], [20, false]), 16, [true, true]],
    ["a longer prompt begins beside a shorter one", asking([20, true], [60, false]), 16, [true, true]],
    ["the longest block that fits", asking([200, false]), 128, [true]],
  ])("%s", (_, given, count, takes) => {
    expect(nextRun(given, [128, 16])).toEqual({ count, takes });
  });
});

test("texts side by side are those that each is alone, in fewer runs", async () => {
  const [alone, apart] = await runsOf(async () => {
    const texts = [];
    for (const of of PROMPTS) texts.push(await written(of));
    return texts;
  });
  const [together, beside] = await runsOf(() => Promise.all(PROMPTS.map((of) => written(of))));
  expect(together).toEqual(alone);
  expect(new Set(alone.map(String)).size).toBeGreaterThan(1);
  expect(beside).toBeLessThan(0.7 * apart);
  const { cycles, predictedCycles } = model.spent();
  expect(cycles).toBe(predictedCycles);
}, 120_000);

test("a text that begins later changes nothing of those that are there", async () => {
  const alone = await written(prompt(9, 7), 12);
  const pieces = model.generate(prompt(9, 7), { maxTokens: 12 });
  const tokens: number[] = [];
  let other: Promise<readonly number[]> | undefined;
  for await (const { token } of pieces) {
    tokens.push(token);
    if (tokens.length === 4) other = written(prompt(20, 8));
  }
  expect(tokens).toEqual(alone);
  expect(await other).toEqual(await written(prompt(20, 8)));
}, 120_000);

test("a text that ends early gives its sequence back, and others go on", async () => {
  const stopping = new AbortController();
  const [text] = await Promise.all([
    written(prompt(4, 9), 10),
    written(prompt(4, 2), 30, stopping.signal).catch(() => undefined),
    (async () => {
      for await (const _ of model.generate(prompt(3, 3))) break;
      stopping.abort();
    })(),
  ]);
  expect(text).toEqual(await written(prompt(4, 9), 10));
}, 120_000);

test("what only one sequence has is refused by name", async () => {
  expect(model.batch).toBe(BATCH);
  expect(await codeOf(model.step(1))).toBe("LPU5111");
  expect(() => model.snapshot()).toThrow("the model takes 3 sequences side by side");
  expect(await codeOf(written(prompt(41, 1)))).toBe("LPU5105");
  expect(await codeOf(written([96]))).toBe("LPU5106");
});

test("a batch that the model does not have is refused before the build", async () => {
  const open = (batch: number) => codeOf(openLanguageModel(path, { batch, context: 16, cacheDir: false }));
  expect(await open(2)).toBe("LPU5104");
  expect(await open(0)).toBe("LPU5104");
  expect(await open(1.5)).toBe("LPU5104");
});

test("requests to a server share runs, and its clock is the chip's", async () => {
  const server = await serve(model, { name: "m", port: 0, now: () => 5000 });
  closers.push(server.close);
  const ask = async (of: readonly number[]): Promise<Usage> => {
    const body = JSON.stringify({ model: "m", prompt: of, max_tokens: 8, temperature: 0 });
    const response = await fetch(`${server.url}/completions`, { method: "POST", body });
    expect(response.status).toBe(200);
    return ((await response.json()) as { readonly usage: Usage }).usage;
  };
  const before = model.spent().cycles;
  const [usages, runs] = await runsOf(() => Promise.all([1, 2, 3, 4, 5, 6].map((seed) => ask(prompt(6, seed)))));
  expect(runs).toBeLessThan(6 * 13);
  const seconds = (model.spent().cycles - before) / (model.clockMHz * 1e6);
  for (const usage of usages) {
    expect(usage.total_time).toBeCloseTo(usage.prompt_time + usage.completion_time, 9);
    expect(usage.queue_time + usage.total_time).toBeLessThanOrEqual(seconds + 1e-12);
  }
  expect(usages.some(({ queue_time: waited }) => waited > 0)).toBe(true);
}, 120_000);

interface Usage {
  readonly prompt_time: number;
  readonly completion_time: number;
  readonly queue_time: number;
  readonly total_time: number;
}
