#!/usr/bin/env node
/**
 * The demo: compiles the storyteller, writes a story with it on the machine, and says what that cost.
 *
 * Keys and values of the text so far stay on the chip: the prompt goes in by blocks of tokens, and then each run takes one
 * token and gives what follows it. Afterwards the finished story is evaluated at once in fp32, by a graph that knows of no
 * past, and compared with what the runs gave.
 */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { fail } from "../src/diagnostics.js";
import { bytesSource, evaluate, importModel, type LanguageModel, openLanguageModel, STAGES } from "../src/index.js";
import { chooseToken, GREEDY } from "../src/language/sample.js";
import { textStream, type Tokenizer, openTokenizer } from "../src/language/text.js";
import { makeTensor, toFloats } from "../src/ir/tensor.js";
import { alignRows } from "../src/report/summary.js";
import { stateRoomText } from "../src/report/capacity.js";
import { formatCount, formatError, formatSeconds } from "../src/report/units.js";
import { problemsOf, renderProblems } from "./show/problems.js";
import { taskReporter } from "./show/stages.js";
import { colorsOf } from "./show/terminal.js";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models", "storyteller");
/** The name of the one open dimension of the model without a past. */
const SEQUENCE = "s70";
/** Tokens of the prompt that one run takes. */
const BLOCK = 4;
const END = 1;
const LINE = 100;

interface Arguments {
  readonly prompt: string;
  readonly context: number;
}

interface Story {
  readonly tokens: readonly number[];
  /** What was given after each token from the prompt's last on. */
  readonly logits: readonly Float32Array[];
  readonly runs: number;
  readonly promptCycles: number;
  /** Of all runs together. */
  readonly seconds: number;
  /** Every run took exactly the predicted cycles. */
  readonly exact: boolean;
}

async function main(): Promise<void> {
  const { prompt, context } = readArguments();
  const definition: unknown = JSON.parse(readFileSync(join(FOLDER, "tokenizer.json"), "utf8"));
  const tokenizer = await openTokenizer(definition as object, {});
  const start = tokenizer.encode(prompt);
  if (start.length > context)
    fail("LPU5008", {
      message: `the prompt has ${start.length} tokens, --context ${context} leaves no room for a story`,
    });
  const model = await build(context);
  console.log(`\nWriting, one run of the program for each token (up to ${context} before it stay on the chip):\n`);
  const story = await write(model, tokenizer, start);
  console.log("");
  for (const line of alignRows(facts(model, story, start.length))) console.log(line);
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
    .option("context", {
      type: "number",
      default: 255,
      describe: "Tokens that one can look back upon: the longest story has one more.",
    })
    .check(({ context }) =>
      Number.isInteger(context) && context >= BLOCK && context < 512
        ? true
        : `--context must be a whole number from ${BLOCK} to 511`,
    )
    .fail((message: string, error: unknown) => {
      if (error instanceof Error) throw error;
      fail("LPU5008", { message, hint: "`npm run demo -- --help` lists the options" });
    })
    .parseSync();
}

async function build(context: number): Promise<LanguageModel> {
  const reporter = taskReporter(process.stderr, colorsOf(process.stderr), () => performance.now());
  try {
    return await openLanguageModel(join(FOLDER, "model-past.onnx"), {
      name: "storyteller",
      context,
      prefill: BLOCK,
      onStage: ({ stage, ...event }) => reporter.event({ title: STAGES[stage].title, at: performance.now(), ...event }),
    });
  } finally {
    reporter.close();
  }
}

async function write(model: LanguageModel, tokenizer: Tokenizer, start: readonly number[]): Promise<Story> {
  const tokens = [...start];
  const page = storyPage(tokenizer.decode(start));
  const grow = textStream(tokenizer, start);
  const before = performance.now();
  let last = await model.step(start);
  const story = { logits: [last.logits], promptCycles: last.cycles, runs: last.runs };
  let exact = last.cycles === last.predictedCycles;
  for (;;) {
    const next = chooseToken(last.logits, GREEDY, tokens.length - 1);
    if (next === END) break;
    tokens.push(next);
    page.add(grow(next));
    if (model.position() === model.capacity) break;
    last = await model.step(next);
    story.logits.push(last.logits);
    story.runs += last.runs;
    exact &&= last.cycles === last.predictedCycles;
  }
  page.finish();
  return { ...story, tokens, exact, seconds: (performance.now() - before) / 1000 };
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

function facts(model: LanguageModel, story: Story, given: number): [string, string][] {
  const { clockMHz, cycles, room } = model;
  const timed = (count: number): string =>
    `${formatCount(count)}  (${formatSeconds(count / (clockMHz * 1e6))} at ${clockMHz} MHz)`;
  const { error, agreeing } = compareWithFp32(story, given - 1);
  const count = story.tokens.length;
  return [
    ["tokens", `${given} given, ${count - given} written, ${story.runs} runs`],
    ["cycles a token", timed(cycles.decode)],
    ["cycles of the prompt", `${timed(story.promptCycles)}, in blocks of ${BLOCK}`],
    ["predicted == executed", story.exact ? `yes, in each of ${story.runs} runs` : "NO"],
    ["states", stateRoomText(room)],
    [
      "tokens/s on the chip",
      `${formatCount(Math.floor((clockMHz * 1e6) / cycles.decode))}  (without PCIe; only the token's own work is done)`,
    ],
    ["tokens/s here", (story.runs / story.seconds).toFixed(1)],
    [
      "error against fp32",
      `${formatError(error)} relative L2 of the logits of ${story.logits.length} tokens; same choice at ${agreeing} of ${story.logits.length}`,
    ],
  ];
}

/** What the runs gave after the tokens from `first` on, beside the fp32 evaluation of the whole story by the graph without a past. */
function compareWithFp32({ tokens, logits }: Story, first: number): { error: number; agreeing: number } {
  const bytes = new Uint8Array(readFileSync(join(FOLDER, "model.onnx")));
  const graph = importModel(bytesSource("storyteller", bytes), { bind: { [SEQUENCE]: tokens.length } });
  const [made] = evaluate(graph, { input_ids: makeTensor("i32", [1, tokens.length], Int32Array.from(tokens)) });
  const whole = made === undefined ? new Float32Array() : toFloats(made);
  const width = whole.length / tokens.length;
  let [difference, norm, agreeing] = [0, 0, 0];
  for (const [index, got] of logits.entries()) {
    const want = whole.subarray((first + index) * width, (first + index + 1) * width);
    for (const [i, value] of want.entries()) {
      difference += ((got[i] ?? Number.NaN) - value) ** 2;
      norm += value ** 2;
    }
    if (chooseToken(got, GREEDY, 0) === chooseToken(want, GREEDY, 0)) agreeing++;
  }
  return { error: Math.sqrt(difference / norm), agreeing };
}

try {
  await main();
} catch (error) {
  console.error(renderProblems(problemsOf(error), colorsOf(process.stderr)));
  process.exitCode = 1;
}
