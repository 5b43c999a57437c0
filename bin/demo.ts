#!/usr/bin/env node
/**
 * The demo: compiles the storyteller, writes a story with it on the machine, and says what that cost.
 *
 * The program has a fixed sequence and runs once for each token: the text so far stands at the left, padding at the right
 * (attention is causal, so padding changes nothing before it), and the most likely token after the last real one is
 * taken. Afterwards the finished sequence is evaluated in fp32 and compared with what the FP16 program gave for it.
 */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import colors from "picocolors";
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { fail } from "../src/diagnostics.js";
import { bytesSource, evaluate, importModel, type LpuModel, lpuit, STAGES, type Tensor } from "../src/index.js";
import { chooseToken, GREEDY } from "../src/language/sample.js";
import { openTokenizer, textStream, type Tokenizer } from "../src/language/text.js";
import { makeTensor, toFloats } from "../src/ir/tensor.js";
import { alignRows } from "../src/report/summary.js";
import { formatCount, formatError, formatScaled, formatSeconds, formatShare } from "../src/report/units.js";
import { problemsOf, renderProblems } from "./show/problems.js";
import { taskReporter } from "./show/stages.js";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models", "storyteller");
/** The sequence dimension's name in the file. */
const SEQUENCE = "s70";
const END = 1;
const LINE = 100;

interface Arguments {
  readonly prompt: string;
  readonly seq: number;
}

interface Story {
  readonly tokens: readonly number[];
  readonly runs: number;
  /** Of all runs together. */
  readonly seconds: number;
  /** Every run took exactly the predicted cycles. */
  readonly exact: boolean;
}

async function main(): Promise<void> {
  const { prompt, seq } = readArguments();
  const definition: unknown = JSON.parse(readFileSync(join(FOLDER, "tokenizer.json"), "utf8"));
  const tokenizer = await openTokenizer(definition as object, {});
  const bytes = new Uint8Array(readFileSync(join(FOLDER, "model.onnx")));
  const start = tokenizer.encode(prompt);
  if (start.length >= seq)
    fail("LPU5008", { message: `the prompt has ${start.length} tokens, --seq ${seq} leaves no room for a story` });
  const model = await build(bytes, seq);
  console.log(`\nWriting, one run of the program for each token (sequence ${seq}):\n`);
  const story = await write(model, tokenizer, start, seq);
  console.log("");
  for (const line of alignRows(await facts(model, bytes, story, start.length, seq))) console.log(line);
}

function readArguments(): Arguments {
  return yargs(hideBin(process.argv))
    .scriptName("demo")
    .usage("$0 [options]\n\nCompiles the storyteller and writes a story with it on the machine.")
    .version(false)
    .strict()
    .option("prompt", {
      type: "string",
      default: "Once upon a time, there was a little girl named Zoe.",
      describe: "How the story begins.",
    })
    .option("seq", {
      type: "number",
      default: 128,
      describe: "Longest story, in tokens: the sequence that the program is compiled for.",
    })
    .check(({ seq }) =>
      Number.isInteger(seq) && seq >= 2 && seq <= 512 ? true : "--seq must be a whole number from 2 to 512",
    )
    .fail((message: string, error: unknown) => {
      if (error instanceof Error) throw error;
      fail("LPU5008", { message, hint: "`npm run demo -- --help` lists the options" });
    })
    .parseSync();
}

async function build(bytes: Uint8Array, seq: number): Promise<LpuModel> {
  const reporter = taskReporter(process.stderr, colors, () => performance.now());
  try {
    return await lpuit(bytes, {
      name: "storyteller",
      bind: { [SEQUENCE]: seq },
      onStage: ({ stage, ...event }) => reporter.event({ title: STAGES[stage].title, at: performance.now(), ...event }),
    });
  } finally {
    reporter.close();
  }
}

async function write(model: LpuModel, tokenizer: Tokenizer, start: readonly number[], seq: number): Promise<Story> {
  const tokens = [...start];
  const page = storyPage(tokenizer.decode(start));
  const grow = textStream(tokenizer, start);
  let runs = 0;
  let seconds = 0;
  let exact = true;
  while (tokens.length < seq) {
    const before = performance.now();
    const { outputs, cycles, predictedCycles } = await model.run(inputsOf(model, tokens, seq));
    seconds += (performance.now() - before) / 1000;
    runs++;
    exact &&= cycles === predictedCycles;
    const next = mostLikely(logitsOf(Object.values(outputs)), tokens.length - 1, seq);
    if (next === END) break;
    tokens.push(next);
    page.add(grow(next));
  }
  page.finish();
  return { tokens, runs, seconds, exact };
}

/** Text as it grows on a terminal; whole, in lines, in a pipe. */
function storyPage(start: string): { add: (text: string) => void; finish: () => void } {
  let story = start;
  let shown = 0;
  const write = (): void => {
    const text = wrap(story);
    process.stdout.write(text.slice(shown));
    shown = text.length;
  };
  const live = process.stdout.isTTY === true;
  if (live) write();
  return {
    add: (text) => {
      story += text;
      if (live) write();
    },
    finish: () => {
      write();
      process.stdout.write("\n");
    },
  };
}

/** Breaks lines after whole words only: what stands before the last word never changes when the text grows. */
function wrap(text: string): string {
  let column = 0;
  return text.replace(/ ?[^ ]+/g, (word) => {
    const breaks = word.startsWith(" ") && column + LONGEST_WORD > LINE;
    column = breaks ? word.length - 1 : column + word.length;
    return breaks ? `\n${word.slice(1)}` : word;
  });
}
/** A line ends where a word of this length might not fit, whatever its length turns out to be. */
const LONGEST_WORD = 12;

async function facts(
  model: LpuModel,
  bytes: Uint8Array,
  story: Story,
  given: number,
  seq: number,
): Promise<[string, string][]> {
  const { report } = model;
  const { microseconds, totalInferencesPerSecond, inferencesPerSecond, mxmUtilization } = model.estimatePerformance();
  const here = story.runs / story.seconds;
  const { error, agreeing } = await compareWithFp32(model, bytes, story.tokens, seq);
  const count = story.tokens.length;
  return [
    ["tokens", `${given} given, ${count - given} written, ${story.runs} runs`],
    [
      "cycles per run",
      `${formatCount(model.cycles)}  (${formatSeconds(microseconds / 1e6)} at ${report.clockMHz} MHz, ${report.target})`,
    ],
    ["predicted == executed", story.exact ? `yes, in each of ${story.runs} runs` : "NO"],
    ["MXM utilization", `${formatShare(mxmUtilization)}  (${formatScaled(report.macs)}MAC a run)`],
    [
      "tokens/s on the chip",
      `${formatCount(inferencesPerSecond)}  (${formatCount(totalInferencesPerSecond)} with PCIe both ways; the whole sequence is computed for each token)`,
    ],
    [
      "tokens/s here",
      `${here.toFixed(1)}  (${formatSeconds(story.seconds / story.runs)} a run, ${formatScaled(report.macs * here)}MAC/s)`,
    ],
    [
      "error against fp32",
      `${formatError(error)} relative L2 of the logits of all ${count} tokens; same choice at ${agreeing} of ${count}`,
    ],
  ];
}

/** The program's logits for the finished text beside the fp32 evaluation of the graph. */
async function compareWithFp32(
  model: LpuModel,
  bytes: Uint8Array,
  tokens: readonly number[],
  seq: number,
): Promise<{ error: number; agreeing: number }> {
  const inputs = inputsOf(model, tokens, seq);
  const got = logitsOf(Object.values((await model.run(inputs)).outputs));
  const graph = importModel(bytesSource("storyteller", bytes), { bind: { [SEQUENCE]: seq } });
  const want = logitsOf(evaluate(graph, inputs));
  const used = (want.length / seq) * tokens.length;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < used; i++) {
    difference += ((got[i] ?? Number.NaN) - (want[i] ?? 0)) ** 2;
    norm += (want[i] ?? 0) ** 2;
  }
  const agreeing = tokens.filter(
    (_, position) => mostLikely(got, position, seq) === mostLikely(want, position, seq),
  ).length;
  return { error: Math.sqrt(difference / norm), agreeing };
}

/** The model has one input: the tokens, padded at the right. */
function inputsOf(model: LpuModel, tokens: readonly number[], seq: number): Record<string, Tensor> {
  const ids = new Int32Array(seq).fill(END);
  ids.set(tokens.slice(0, seq));
  return Object.fromEntries(model.inputs.map(({ name }) => [name, makeTensor("i32", [1, seq], ids)]));
}

function logitsOf([logits]: readonly Tensor[]): Float32Array {
  return logits === undefined ? new Float32Array() : toFloats(logits);
}

/** The token that is chosen at a position; logits are rows of the vocabulary's width, one a position. */
function mostLikely(logits: Float32Array, position: number, seq: number): number {
  const width = logits.length / seq;
  return chooseToken(logits.subarray(position * width, (position + 1) * width), GREEDY, position);
}

try {
  await main();
} catch (error) {
  console.error(renderProblems(problemsOf(error), colors));
  process.exitCode = 1;
}
