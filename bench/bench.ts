#!/usr/bin/env node
/**
 * `npm run bench`: every figure of the README's table, measured in one run, each with how it was measured.
 *
 * PARTS is the table: a part builds its models (seeded, into .cache/bench), measures in fresh processes, says what it did
 * and gives rows. The same models are timed in ONNX Runtime beside ours, so that a slow or busy machine shows in both.
 */

import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import colors from "picocolors";
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { problemsOf, renderProblems } from "../bin/show/problems.js";
import { type BuildOptions, buildModel, type FamilyName, PRESETS } from "../models/families.js";
import { writeModel } from "../models/onnx-writer.js";
import type { SizeName } from "../models/sizes.js";
import { fail } from "../src/diagnostics.js";
import {
  formatBytes,
  formatCount,
  formatError,
  formatScaled,
  formatSeconds,
  formatShare,
} from "../src/report/units.js";
import { streamBytes, TARGETS } from "../src/ir/target.js";
import { measurePipeline, measurePlan, measureSums, type Latency, PLANS } from "./chips.js";
import { HEADS, sweepLengths } from "./lengths.js";
import { buildImage, type Built, CACHE, materialize, measure, type Timed, verifyCase } from "./processes.js";

/** A row of the README's table. */
interface Row {
  readonly what: string;
  readonly reach: string;
  readonly aim: string;
  readonly measured: string;
}

interface Part {
  readonly doc: string;
  readonly run: () => Row[];
}

/** Beside the project, where there are fixtures. */
const MATERIALIZE = fileURLToPath(new URL("../../../shared/fixtures/real-size/materialize.mjs", import.meta.url));

const PARTS = {
  bert: { doc: "bert-base at length 128: cycles, build, run, and the same model in ONNX Runtime", run: bert },
  matmul: {
    doc: "[2304x4096]x[4096x2048] in FP16: share of peak, speed of the linked machine, and ONNX Runtime",
    run: matmul,
  },
  gemv: { doc: "[1x4096]x[4096x11008]: share of what the streams carry, weights in FP16 and in FP8", run: gemv },
  decode: {
    doc: "steps of gpt2 124M, SmolLM2-135M and a layer of Llama 7B in FP8 behind a past: cycles, tokens/s beside ONNX Runtime, and a build with prefill",
    run: decode,
  },
  scaling: { doc: "compile time of 12 and of 48 identical layers", run: scaling },
  storyteller: { doc: "the storyteller at length 128: cycles, run, and ONNX Runtime", run: storyteller },
  lengths: {
    doc: "attention of many heads and sizes at lengths from 1 to 1,024: what builds, and how cycles grow",
    run: lengths,
  },
  "real-size": {
    doc: "exporters' graphs at full size, from the fixtures: whether each passes, cycles, wall and peak memory",
    run: realSize,
  },
  sums: { doc: "sums over chips as programs that are proved and run, and their share of what links carry", run: sums },
  pipeline: {
    doc: "BERT-Large on four chips, one behind the other and sharing products, scheduled and proved",
    run: pipeline,
  },
  threads: { doc: "a decode step of a model like tinyllama on 8 chips, on one thread and on all cores", run: threads },
  plans: {
    doc: "models on systems of chips, from shapes alone: figures, wall and peak memory of planning",
    run: plans,
  },
} as const satisfies Record<string, Part>;
type PartName = keyof typeof PARTS;
const isPart = (name: string): name is PartName => name in PARTS;

function main(): void {
  const chosen = chosenParts();
  mkdirSync(CACHE, { recursive: true });
  say(
    `node ${process.version}, ${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} cores, ${formatBytes(totalmem())}`,
  );
  const rows = chosen.flatMap((name) => {
    say(`\n${name}: ${PARTS[name].doc}`);
    return PARTS[name].run();
  });
  say("\n| | reach | aim | measured |\n|---|---|---|---|");
  for (const { what, reach, aim, measured } of rows) say(`| ${what} | ${reach} | ${aim} | ${measured} |`);
}

function chosenParts(): PartName[] {
  const parts = Object.keys(PARTS).filter(isPart);
  const { only } = yargs(hideBin(process.argv))
    .scriptName("bench")
    .usage(
      `$0 [--only part...]\n\nMeasures the figures of the README's table. Parts:\n${parts.map((name) => `  ${name.padEnd(12)} ${PARTS[name].doc}`).join("\n")}`,
    )
    .version(false)
    .strict()
    .option("only", { type: "string", array: true, choices: parts, describe: "Parts to run; all when none is named." })
    .fail((message: string, error: unknown) => {
      if (error instanceof Error) throw error;
      fail("LPU5008", { message, hint: "`npm run bench -- --help` lists the parts" });
    })
    .parseSync();
  return only === undefined ? parts : parts.filter((name) => only.includes(name));
}

function bert(): Row[] {
  const model = makeModel("bert", {}, "bert-base");
  const image = join(CACHE, "bert-base.lpu");
  const built = build(model, image);
  const runs = compare(model, image, built);
  return [
    {
      what: "bert-base (12 layers, 768, sequence 128, batch 1): cycles on lpu-v1, FP16",
      reach: "220,000",
      aim: "160,000",
      measured: formatCount(built.cycles),
    },
    {
      what: "same: `lpu build` wall / peak memory",
      reach: "60 s / 3 GB",
      aim: "10 s / 1.5 GB",
      measured: `${formatSeconds(built.wallSeconds)} / ${formatBytes(built.peakBytes)}`,
    },
    {
      what: "same: `lpu run` wall after load, value- and cycle-exact",
      reach: "10 s",
      aim: "1.5 s",
      measured: formatSeconds(median(runs.lpu.runSeconds)),
    },
    ...peerRows("bert-base", runs),
  ];
}

/** A row for each number of heads and head size. */
function lengths(): Row[] {
  return HEADS.map(([heads, size]): Row => {
    const { built, of, refused, cycles, growth, border } = sweepLengths(heads, size);
    const row = {
      what: `attention of ${heads} heads of ${size}, lengths 1 to 1,024`,
      reach: "all build",
      aim: "no length 1.5 times as dear a token as the one before",
      measured: `${built} of ${of}${refused.map((one) => `, ${one}`).join("")}; ${growth.toFixed(2)} at ${formatCount(border)}; ${formatCount(cycles)} cycles at the longest`,
    };
    say(`  ${row.what}: ${row.measured}`);
    return row;
  });
}

/** Cases that have twice the time, and twice the memory. */
const LONG: ReadonlySet<string> = new Set(["gpt2-s1024"]);

/** A row for each case, made into the cache and verified in a process of its own. */
function realSize(): Row[] {
  if (!existsSync(MATERIALIZE)) {
    say("  skipped: fixtures not present");
    return [];
  }
  const cases = readdirSync(dirname(MATERIALIZE), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const folder = join(CACHE, "real-size");
  materialize(MATERIALIZE, folder);
  return cases.map(({ name }): Row => {
    const { status, reason, cycles, wallSeconds, peakBytes } = verifyCase(join(folder, name));
    const figures = `${formatSeconds(wallSeconds)} / ${formatBytes(peakBytes)}`;
    const measured =
      cycles === undefined ? `${status}, ${figures}` : `${status}, ${formatCount(cycles)} cycles, ${figures}`;
    say(`  ${name}: ${measured}${reason === "" ? "" : ` (${reason})`}`);
    const bar = LONG.has(name)
      ? { reach: "120 s / 3 GB", aim: "40 s / 1 GB" }
      : { reach: "60 s / 1.5 GB", aim: "20 s / 1 GB" };
    return { what: `${name}: \`lpu verify\` wall / peak memory`, ...bar, measured };
  });
}

function sums(): Row[] {
  const { sums, vectorNanoseconds } = measureSums();
  const bars = [
    { reach: "1,100 cycles", aim: "950 cycles" },
    { reach: "70 % of link peak", aim: "90 %" },
  ];
  return [
    ...sums.map(({ columns, cycles, share }, index) => ({
      what: `sum of [1, ${columns}] in fp16 over 8 chips: cycles, share of link peak`,
      reach: bars[index]?.reach ?? "",
      aim: bars[index]?.aim ?? "",
      measured: `${formatCount(cycles)}, ${formatShare(share)}`,
    })),
    {
      what: "one vector over 256 chips, 32 nodes of dragonfly-264: sums in nodes, between them and in nodes again",
      reach: "2,166 ns",
      aim: "1,900 ns",
      measured: `${formatCount(Math.round(vectorNanoseconds))} ns`,
    },
  ];
}

function pipeline(): Row[] {
  const { shared, interval, alone, ...behind } = measurePipeline();
  const us = (value: number): string => `${Math.round(value)} us`;
  const latency = ({ cycles, microseconds }: Latency): string =>
    `${formatCount(cycles)} cycles, ${us(microseconds.chips)}, ${us(microseconds.withHost)}`;
  return [
    {
      what: "BERT-Large, 128 tokens, fp16, 4 chips one behind the other: latency, with the host",
      reach: "700 us",
      aim: "550 us",
      measured: latency(behind),
    },
    {
      what: "the same on 4 chips that share products",
      reach: "700 us",
      aim: "550 us",
      measured: latency(shared),
    },
    {
      what: "throughput per chip of the first, against one chip with 6 layers",
      reach: "97 %",
      aim: "99 %",
      measured: `${formatShare(alone / interval)}: an inference every ${formatCount(interval)} cycles, ${formatCount(alone)} alone`,
    },
  ];
}

function plans(): Row[] {
  return PLANS.map((planned): Row => {
    const made = measurePlan(planned);
    const { what, reach, aim } = planned;
    if (made === undefined) return { what, reach, aim, measured: "skipped: fixtures not present" };
    const { chips, unit, microseconds, rate, wallSeconds, peakBytes } = made;
    const figure = unit === "token" ? `${formatCount(Math.round(rate))} tokens/s` : formatSeconds(microseconds / 1e6);
    const measured = `${figure} on ${chips} chips, planned in ${formatSeconds(wallSeconds)} / ${formatBytes(peakBytes)}`;
    say(`  ${what}: ${measured}`);
    return { what: `plan: ${what} (${planned.system.join(" ")})`, reach, aim, measured };
  });
}

/** Layers of the model: each step is as many times longer, and one is enough to share. */
const LAYERS = 4;

function threads(): Row[] {
  const sizes = { ...PRESETS["tinyllama-1.1b"].sizes, layers: LAYERS };
  const { file } = writeModel(buildModel("llama", sizes, { past: true }), join(CACHE, "tinyllama.onnx"));
  const image = join(CACHE, "tinyllama.lpu");
  build(file, image, ["--tensor", "8", "--weights", "fp8-e4m3", "--context", "128"]);
  const [one, all] = (["lpu", "lpu-threads"] as const).map((engine) => median(measure(engine, image, 20).runSeconds));
  const [alone = 0, shared = 0] = [one, all];
  return [
    {
      what: `8-chip decode step of ${LAYERS} layers like tinyllama's: seconds on one thread / on ${availableParallelism()}`,
      reach: "1.6x",
      aim: "1.9x",
      measured: `${(alone / shared).toFixed(2)}x (${formatSeconds(alone)} -> ${formatSeconds(shared)})`,
    },
  ];
}

function matmul(): Row[] {
  const model = makeModel("matmul", { m: 2304, k: 4096, n: 2048 }, "matmul");
  const image = join(CACHE, "matmul.lpu");
  const built = build(model, image);
  const runs = compare(model, image, built);
  const speed = built.macs / median(runs.lpu.runSeconds);
  say(`  speed of the machine: multiply-accumulates of the model over the median run, inputs and outputs included`);
  return [
    {
      what: "linked machine on large matmul bursts, one core",
      reach: "4 GMAC/s",
      aim: "10 GMAC/s",
      measured: `${formatScaled(speed)}MAC/s`,
    },
    {
      what: "[2304x4096]x[4096x2048] FP16 matmul, share of 102,400 MAC/cycle",
      reach: "70 %",
      aim: "88 %",
      measured: `${formatShare(built.mxmUtilization)} (${formatCount(built.cycles)} cycles)`,
    },
    ...peerRows("matmul", runs),
  ];
}

function gemv(): Row[] {
  const [k, n] = [4096, 11008];
  const carried = streamBytes(TARGETS["lpu-v1"]);
  const model = makeModel("matmul", { m: 1, k, n }, "gemv");
  return (["fp16", "fp8-e4m3"] as const).map((weights) => {
    const { cycles } = build(model, join(CACHE, `gemv-${weights}.lpu`), ["--weights", weights]);
    const bytes = (weights === "fp16" ? 2 : 1) * k * n;
    return {
      what: `decode GEMV, [1x${k}]x[${k}x${n}], weights in ${weights}: share of ${formatCount(carried)} B/cycle`,
      reach: "75 %",
      aim: "92 %",
      measured: `${formatShare(bytes / carried / cycles)} (${formatCount(cycles)} cycles)`,
    };
  });
}

/** A layer of Llama 7B, with a vocabulary that takes no time. */
const LLAMA_LAYER: Partial<Record<SizeName, number>> = {
  layers: 1,
  hidden: 4096,
  heads: 32,
  "kv-heads": 32,
  intermediate: 11008,
  vocab: 320,
};

function decode(): Row[] {
  const past = { past: true } as const;
  const fp8 = ["--weights", "fp8-e4m3"];
  const gpt2 = makeModel("gpt2", {}, "gpt2-past", past);
  const smollm2 = makeModel("llama", {}, "smollm2-past", past);
  const image = join(CACHE, "decode.lpu");
  const prefilled = build(gpt2, image, [...fp8, "--context", "256", "--prefill", "16"]);
  const longer = build(gpt2, image, [...fp8, "--context", "1024"]);
  const other = build(smollm2, image, [...fp8, "--context", "256"]);
  const layer = build(makeModel("llama", LLAMA_LAYER, "llama-7b-layer", past), image, [...fp8, "--context", "1024"]);
  const binds = ["sequence_length=1", "past_sequence_length=255", "total_sequence_length=256"];
  const step = build(gpt2, image, [...fp8, "--state", "auto", ...binds.flatMap((bind) => ["--bind", bind])]);
  const ours = 1 / median(measure("lpu", image, 5).runSeconds);
  const theirs = 1 / median(measure("ort-node", gpt2, 2, binds).runSeconds);
  const what = "gpt2 124M with its LM head, one decode step on one chip, FP8 weights";
  const bars = { reach: "60,000", aim: "37,000" };
  return [
    { what: `${what}, context 256 in states: cycles`, ...bars, measured: formatCount(step.cycles) },
    { what: `${what}, context 1,024: cycles`, reach: "", aim: "", measured: formatCount(longer.cycles) },
    {
      what: "the first: decoded tokens/s here / onnxruntime-node (fp32, one thread, past as inputs)",
      reach: "0.5x",
      aim: "1x",
      measured: `${ours.toFixed(1)} / ${theirs.toFixed(1)} = ${(ours / theirs).toFixed(2)}x`,
    },
    {
      what: "gpt2 124M, `--context 256 --prefill 16`, three entries: `lpu build` wall / peak memory",
      reach: "40 s",
      aim: "15 s",
      measured: `${formatSeconds(prefilled.wallSeconds)} / ${formatBytes(prefilled.peakBytes)}`,
    },
    {
      what: "SmolLM2-135M, one decode step on one chip, FP8 weights, context 256: cycles",
      reach: "110,000",
      aim: "66,000",
      measured: formatCount(other.cycles),
    },
    {
      what: "a layer of Llama 7B, one decode step on one chip, FP8 weights, context 1,024: cycles",
      reach: "13,500",
      aim: "11,500",
      measured: formatCount(layer.cycles),
    },
  ];
}

function scaling(): Row[] {
  const sizes = { hidden: 256, heads: 4, intermediate: 1024, vocab: 1000, seq: 64 };
  const builds = [12, 48].map((layers) => {
    const model = makeModel("bert", { ...sizes, layers }, `bert-${layers}-layers`);
    const image = join(CACHE, "scaling.lpu");
    const twice = [build(model, image), build(model, image)];
    const least = (of: (built: Built) => number): number => Math.min(...twice.map(of));
    return { stages: least(compileSeconds), wall: least(({ wallSeconds }) => wallSeconds) };
  });
  const ratio = (of: "stages" | "wall"): string => {
    const [short = 0, long = 0] = builds.map((each) => each[of]);
    return `${(long / short).toFixed(2)}x (${formatSeconds(short)} -> ${formatSeconds(long)})`;
  };
  say(
    "  stages: the sum of those of `lpu build --json`; wall: from start to end of its process; the better of two runs",
  );
  return [
    {
      what: "compile time, 12 -> 48 identical layers (hidden 256, sequence 64)",
      reach: "2x",
      aim: "1.3x",
      measured: `stages ${ratio("stages")}, wall ${ratio("wall")}`,
    },
  ];
}

const compileSeconds = (built: Built): number => Object.values(built.seconds).reduce((sum, each) => sum + each, 0);

function storyteller(): Row[] {
  const model = fileURLToPath(new URL("../../models/storyteller/model.onnx", import.meta.url));
  const image = join(CACHE, "storyteller.lpu");
  const binds = ["s70=128"];
  const built = build(model, image, binds);
  const runs = compare(model, image, built, binds);
  return [
    { what: "storyteller, sequence 128: cycles", reach: "", aim: "", measured: formatCount(built.cycles) },
    ...peerRows("storyteller", runs),
  ];
}

function makeModel(
  family: FamilyName,
  sizes: Partial<Record<SizeName, number>>,
  name: string,
  options: BuildOptions = {},
): string {
  const { file, bytes } = writeModel(buildModel(family, sizes, options), join(CACHE, `${name}.onnx`));
  say(`  model: ${name}.onnx, ${formatBytes(bytes)}`);
  return file;
}

function build(model: string, image: string, options: readonly string[] = []): Built {
  const built = buildImage(model, image, options);
  const stages = Object.entries(built.seconds).map(([stage, seconds]) => `${stage} ${formatSeconds(seconds)}`);
  say(
    `  build: \`lpu build --rebuild\` in a fresh process, wall ${formatSeconds(built.wallSeconds)}, peak resident ${formatBytes(built.peakBytes)} (${stages.join(", ")})`,
  );
  say(
    `    ${formatCount(built.cycles)} cycles, ${formatScaled(built.macs)}MAC, MXM ${formatShare(built.mxmUtilization)}, ${formatCount(built.instructions)} instructions, SRAM ${formatBytes(built.sramBytes)}`,
  );
  return built;
}

type Runs = Readonly<Record<"lpu" | "ort-node" | "ort-web", Timed>>;

/** The three engines on the same inputs, one after another, one thread each. */
function compare(model: string, image: string, built: Built, binds: readonly string[] = []): Runs {
  const runs = {
    lpu: measure("lpu", image, 10),
    "ort-node": measure("ort-node", model, 3, binds),
    "ort-web": measure("ort-web", model, 6, binds),
  };
  for (const [engine, timed] of Object.entries(runs)) {
    const { loadSeconds, runSeconds, peakBytes } = timed;
    const speed = built.macs / median(runSeconds);
    say(
      `  run: ${engine.padEnd(8)} ${formatSeconds(median(runSeconds))} median of ${runSeconds.length} (first ${formatSeconds(runSeconds[0] ?? 0)}), ${formatScaled(speed)}MAC/s, load ${formatSeconds(loadSeconds)}, peak resident ${formatBytes(peakBytes)}`,
    );
  }
  say(
    `  error: relative L2 against onnxruntime-node in fp32 ${formatError(relativeL2(runs.lpu.output, runs["ort-node"].output))}; every run took the predicted cycles`,
  );
  return runs;
}

function peerRows(name: string, runs: Runs): Row[] {
  const ours = median(runs.lpu.runSeconds);
  return (["ort-node", "ort-web"] as const).map((engine) => {
    const theirs = median(runs[engine].runSeconds);
    return {
      what: `${name}: ours / ${engine === "ort-node" ? "onnxruntime-node" : "onnxruntime-web"} (fp32, one thread)`,
      reach: "",
      aim: "",
      measured: `${formatSeconds(ours)} / ${formatSeconds(theirs)} = ${(ours / theirs).toFixed(2)}x`,
    };
  });
}

function relativeL2(got: Float32Array, want: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    difference += ((got[i] ?? Number.NaN) - (want[i] ?? 0)) ** 2;
    norm += (want[i] ?? 0) ** 2;
  }
  return Math.sqrt(difference / norm);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

const say = (line: string): void => console.log(line);

try {
  main();
} catch (error) {
  console.error(renderProblems(problemsOf(error), colors));
  process.exitCode = 1;
}
