/** How well texts are foretold: against sums by hand, the evaluator, and the logits of a trained model's makers. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { problemsOf } from "../bin/show/problems.js";
import { bytesSource, evaluate, importModel, openReader, readTensorFile } from "../src/index.js";
import { stepReader } from "../src/language/read.js";
import { type Reader, scoreTexts, surpriseOf } from "../src/language/score.js";
import { tensorOf, toFloats } from "../src/ir/tensor.js";
import { CYCLES, fakeModel } from "./fake-decoder.js";

const STORYTELLER = new URL("../../models/storyteller/", import.meta.url).pathname;
const STORY = "Once upon a time, there was a little girl named Zoe. Zoe had a big book.";

/** e to the mean surprise, from logits as rows of a vocabulary. */
function perplexityOf(logits: Float32Array, tokens: readonly number[]): number {
  const width = logits.length / tokens.length;
  const surprises = tokens.slice(1).map((token, at) => {
    const row = Array.from(logits.subarray(at * width, (at + 1) * width), Number);
    return -Math.log(Math.exp(row[token] ?? 0) / row.reduce((sum, logit) => sum + Math.exp(logit), 0));
  });
  return Math.exp(surprises.reduce((a, b) => a + b, 0) / surprises.length);
}

describe("a score", () => {
  test("surprise is -ln of a share, at any magnitude", () => {
    expect(surpriseOf(Float32Array.from([1, 1, 1, 1]), 2)).toBeCloseTo(Math.log(4), 12);
    expect(surpriseOf(Float32Array.from([1000, 0]), 0)).toBe(0);
    expect(surpriseOf(Float32Array.from([1000, 0]), 1)).toBe(1000);
  });

  test("counts what is foretold, text by text and stretch by stretch", async () => {
    const reader = stepReader(fakeModel({ context: 3 }));
    const { score } = await scoreTexts(reader, ["abcdef", "", "a", "xy"]);
    // abcd, ef and xy: three, one and one are foretold.
    expect(score).toMatchObject({ tokens: 5, runs: 8, cycles: 8 * CYCLES.decode, predictedCycles: 8 * CYCLES.decode });
    let surprise = 0;
    for (const text of ["abcd", "ef", "xy"]) {
      const part = await scoreTexts(reader, [text]);
      surprise += part.score.tokens * Math.log(part.score.perplexity);
    }
    expect(score.perplexity).toBeCloseTo(Math.exp(surprise / 5), 9);
    const nothing = await scoreTexts(reader, ["a", ""]).catch((error: unknown) => problemsOf(error)[0]?.code);
    expect(nothing).toBe("LPU5106");
  });

  test("two models are held against each other where a token is known", async () => {
    const constant = (rows: readonly (readonly number[])[]): Reader => ({
      stretch: 9,
      encode: (text) => Array.from(text, Number),
      read: async function* (tokens) {
        for (const at of tokens.keys())
          yield { logits: Float32Array.from(rows[at] ?? []), cycles: 1, predictedCycles: 1, runs: 1 };
      },
    });
    const one = constant([
      [3, 4],
      [1, 0],
      [9, 9],
    ]);
    const other = constant([
      [0, 4],
      [0, 3],
      [1, 1],
    ]);
    const { other: beside } = await scoreTexts(one, ["010"], other);
    // Differences of 3, 1 and 3 against 4 and 3.
    expect(beside?.distance).toEqual({ relativeL2: Math.sqrt(19 / 25), sameChoice: 1 });
  });
});

describe("on the machine", () => {
  test("the storyteller, without a past, foretells as the evaluator does, and in FP8 nearly so", async () => {
    const options = { context: 32, cacheDir: false, text: true } as const;
    const whole = await openReader(STORYTELLER, options);
    const { score } = await scoreTexts(whole, [STORY]);
    const tokens = whole.encode(STORY);
    expect([score.tokens, score.runs]).toEqual([tokens.length - 1, 1]);
    expect(score.cycles).toBe(score.predictedCycles);
    const bytes = new Uint8Array(readFileSync(join(STORYTELLER, "model.onnx")));
    const graph = importModel(bytesSource("storyteller", bytes), { bind: { s70: tokens.length } });
    const ids = tensorOf("i32", [1, tokens.length], Float32Array.from(tokens));
    const [logits] = Object.values(evaluate(graph, { input_ids: ids }));
    expect(score.perplexity).toBeCloseTo(
      perplexityOf(logits === undefined ? new Float32Array() : toFloats(logits), tokens),
      3,
    );

    const eight = await openReader(STORYTELLER, { ...options, weights: "fp8-e4m3" });
    const { other } = await scoreTexts(eight, [STORY], whole);
    expect(other?.score).toEqual(score);
    expect(other?.distance.relativeL2).toBeLessThan(3e-2);
    expect(other?.distance.relativeL2).toBeGreaterThan(1e-3);
  });

  test("a trained decoder with a past foretells as its makers' own logits do", async () => {
    const stories = "../shared/fixtures/stories260K";
    const decoder = "../shared/fixtures/transformers/stories260K-past/model.onnx";
    if (!existsSync(decoder) || !existsSync(stories)) {
      console.log("skipped: fixtures not present");
      return;
    }
    const { tokens }: { readonly tokens: readonly number[] } = JSON.parse(
      readFileSync(join(stories, "golden_greedy.json"), "utf8"),
    );
    const count = 24;
    const logits = toFloats(readTensorFile(join(stories, "golden_logits_64x512.npy")));
    const wanted = perplexityOf(logits.subarray(0, count * 512), tokens.slice(0, count));
    const reader = await openReader(decoder, {
      context: count - 1,
      tokenizer: join(stories, "tokenizer.json"),
      cacheDir: false,
    });
    const { score } = await scoreTexts({ ...reader, encode: () => tokens.slice(0, count) }, ["the story"]);
    expect([score.tokens, score.runs]).toEqual([count - 1, count]);
    expect(score.perplexity / wanted).toBeCloseTo(1, 3);
  });
});
