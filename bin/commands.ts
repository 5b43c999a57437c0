/**
 * The commands of `lpu`, one row each: how it is written, what it does in a sentence, its options, and what runs.
 *
 * A command returns its exit status; everything that goes wrong is thrown and rendered in one place (main.ts). Modules that
 * load the compiler are imported by the commands that need them, so that `lpu --help` does not.
 */

import { dirname, resolve } from "node:path";
import type { Argv, CommandModule, InferredOptionTypes } from "yargs";
import { defaultCacheFolder } from "../src/host/cache.js";
import { CompileError, fail } from "../src/diagnostics.js";
import {
  apartFrom,
  fileBeside,
  imageBeside,
  readText,
  readWhole,
  textChunks,
  writeAtomically,
} from "../src/host/files.js";
import type { JobGraph } from "../src/jobs.js";
import type { NonFinite } from "../src/ir/nonfinite.js";
import { SYSTEMS } from "../src/ir/system.js";
import { TARGETS } from "../src/ir/target.js";
import { weightFormat } from "../src/ir/weights.js";
import { alignRows, summaryRows } from "../src/report/summary.js";
import { formatBytes, formatCount, formatSeconds } from "../src/report/units.js";
import {
  given,
  parseBinds,
  parseEntries,
  parseFixes,
  parseInputs,
  parseNumbers,
  parseShapes,
  parseDevices,
  parseDead,
  parseFault,
  parseConfiguration,
  parseContexts,
  parsePrefill,
  parseThreads,
  parseWhole,
  parseStates,
  parseSystem,
  parseTarget,
  WEIGHT_WORDS,
} from "./arguments.js";
import type { BuildResult } from "./jobs/build.js";
import type { ChatRequest } from "./jobs/chat.js";
import type { DecoderRequest } from "./jobs/decoder.js";
import { findCases } from "./jobs/cases.js";
import { printCheck } from "./show/check.js";
import { runJob } from "./jobs/jobs.js";
import { printable, renderProblems } from "./show/problems.js";
import { chatRows, generateRows } from "./show/generate.js";
import { printPlan } from "./show/plan.js";
import { printReport } from "./show/report.js";
import { scoreRows } from "./show/score.js";
import { serveLine, serveRows } from "./show/serve.js";
import type { TaskReporter } from "./show/stages.js";
import { EXIT, openQuestions, QUESTION, type Terminal } from "./show/terminal.js";
import { caseLabels, printCase, printTotals } from "./show/verify.js";

/** Runs a command's work with a terminal and keeps its exit status; main.ts has the one there is. */
export type Execute = (json: boolean, work: (terminal: Terminal) => Promise<number>) => Promise<void>;

interface Command<Args> {
  readonly command: string | readonly string[];
  readonly doc: string;
  readonly options: (argv: Argv) => Argv<Args>;
  readonly run: (args: Args, terminal: Terminal) => Promise<number>;
}

const OPTIONS = {
  json: { type: "boolean", default: false, describe: "one JSON object on stdout, all else on stderr" },
  bind: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "size of a named dimension, like batch=1; may be repeated",
  },
  shape: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "shape of an input, like input_ids=1x128; may be repeated",
  },
  fix: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "value of an input that is no input then, like k=5, axes=1,2, flag=true or mask=mask.npy; may be repeated",
  },
  state: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "input that stays on the chip, and the output that takes its place for the next run, like past.0.key=present.0.key; may be repeated; auto finds past_key_values and their like by name",
  },
  entries: {
    type: "string",
    array: true,
    default: [] as string[],
    describe:
      "entry with sizes of dimensions of its own, like decode:seq=1,past=255; may be repeated: all share weights and states",
  },
  entry: { type: "string", describe: "which entry of the image; may be left out where there is one" },
  context: {
    type: "string",
    describe:
      "of a decoder: past positions that a token can look back upon; where text is written, 256 if not given; several, like 256,1024, are entries that see more of one past, each taken while it sees all",
  },
  prefill: {
    type: "string",
    describe:
      "of a decoder: tokens of the prompt that are taken at once, by an entry of its own; several, like 16,128, are an entry each",
  },
  batch: {
    type: "number",
    describe: "of a decoder: sequences that are taken side by side, each with a past of its own; 1 if not given",
  },
  weights: {
    type: "string",
    default: "fp16",
    describe: `what constant weights lie as: ${WEIGHT_WORDS.join(", ")}`,
  },
  keep: {
    type: "string",
    array: true,
    default: [] as string[],
    describe: "ONNX node, or its weight, that stays fp16; may be repeated",
  },
  cache: { type: "boolean", default: true, describe: "keeps the build in the cache; --no-cache does not" },
  "cache-dir": { type: "string", describe: "folder of the cache" },
  rebuild: { type: "boolean", default: false, describe: "builds even if the same build is in the cache" },
  target: { type: "string", default: "lpu-v1", describe: `machine: ${Object.keys(TARGETS).join(", ")}` },
  system: {
    type: "string",
    describe: `chips, and what joins them: ${Object.keys(SYSTEMS).join(", ")}; the smallest with as many chips as are taken if not given`,
  },
  chips: {
    type: "number",
    describe:
      "chips that may be taken; where neither they nor a system, stages or tensor are given, the fewest that hold the model",
  },
  dead: {
    type: "string",
    describe: "chips of the system that do not work, like 3,9: others are taken, and no way goes through them",
  },
  stages: {
    type: "string",
    describe:
      "chips that work one behind the other, or auto: as few as hold the model; chosen with --tensor if neither is given",
  },
  configuration: {
    type: "string",
    describe:
      "which of the model's configurations of devices, whose annotations place its nodes; none for none; the only one if not given",
  },
  tensor: {
    type: "number",
    describe:
      "chips of a node that share each product, with pieces of its weights, in each stage; fewer work where more are not faster",
  },
} as const;

/** Which chips a program is for. */
const DEVICES = {
  system: OPTIONS.system,
  chips: OPTIONS.chips,
  dead: OPTIONS.dead,
  stages: OPTIONS.stages,
  tensor: OPTIONS.tensor,
} as const;

const threads = {
  type: "number",
  describe: "threads that chips run on, at most one for each; as many as this computer has cores if not given",
} as const;
const model = { type: "string", demandOption: true, describe: "ONNX file" } as const;
const image = { type: "string", demandOption: true, describe: "image, as build writes it" } as const;

const buildOptions = (argv: Argv) =>
  argv.positional("model", model).options({
    output: { alias: "o", type: "string", describe: "where the image goes; beside the model if not given" },
    bind: OPTIONS.bind,
    shape: OPTIONS.shape,
    fix: OPTIONS.fix,
    state: OPTIONS.state,
    entry: OPTIONS.entries,
    context: OPTIONS.context,
    prefill: OPTIONS.prefill,
    batch: OPTIONS.batch,
    target: OPTIONS.target,
    ...DEVICES,
    configuration: OPTIONS.configuration,
    weights: OPTIONS.weights,
    keep: OPTIONS.keep,
    annotate: {
      type: "string",
      describe: "where the model goes with what was chosen, as annotations for devices (ONNX, IR 11)",
    },
    report: { type: "string", describe: "where a page goes that shows the schedule, as lpu report writes it" },
    rebuild: OPTIONS.rebuild,
    cache: OPTIONS.cache,
    "cache-dir": OPTIONS["cache-dir"],
    "print-after": {
      type: "string",
      array: true,
      default: [] as string[],
      describe: "prints the text form after this pass, on stderr",
    },
    "dump-dir": { type: "string", describe: "writes the text form after every pass, and the plan, to this folder" },
    time: { type: "boolean", default: false, describe: "prints the time of every pass, on stderr" },
    verify: { type: "boolean", default: false, describe: "verifies the graph after every pass, and the plan" },
    json: OPTIONS.json,
  });

const buildCommand = row({
  command: "build <model>",
  doc: "Compiles a model to an image.",
  options: buildOptions,
  run: async (args, terminal) => {
    const { model, target, rebuild, verify, time } = args;
    const image = apartFrom(args.output ?? imageBeside(model), [model]);
    const shown = { printAfter: args["print-after"], dumpFolder: args["dump-dir"], time, verify };
    const binds = {
      bind: parseBinds(args.bind),
      shapes: parseShapes(args.shape),
      fix: parseFixes(args.fix),
      state: parseStates(args.state),
      entries: parseEntries(args.entry),
      ...parseContext(args),
      weights: weightFormat(args.weights),
      keep: args.keep,
      ...parseDevices(args),
      configuration: parseConfiguration(args.configuration),
    };
    const cacheFolder = args.cache ? (args["cache-dir"] ?? defaultCacheFolder()) : undefined;
    const annotated = args.annotate === undefined ? undefined : apartFrom(args.annotate, [model, image]);
    const page = args.report === undefined ? undefined : apartFrom(args.report, [model, image, annotated]);
    const request = { model, image, annotated, target: parseTarget(target), ...binds, cacheFolder, rebuild, shown };
    const result = await runJob("build", request, {
      tasks: terminal.tasks,
      writes: [image, ...(annotated === undefined ? [] : [annotated])]
        .map((path) => dirname(resolve(path)))
        .concat(cacheFolder ?? []),
    });
    if (result.cached) terminal.note("- found in the cache (--rebuild builds again)");
    if (page !== undefined) {
      await runJob(
        "report",
        {
          image,
          entry: result.report.entries[0]?.name,
          page,
          csvFolder: undefined,
          compare: undefined,
          grid: undefined,
        },
        { tasks: terminal.tasks, writes: [dirname(resolve(page))] },
      );
    }
    printBuild(result, page, terminal);
    return EXIT.ok;
  },
});
const build = command(buildCommand);

const run = command({
  command: "run <image>",
  doc: "Runs an image on the reference machine.",
  options: (argv) =>
    argv.positional("image", image).options({
      input: {
        alias: "i",
        type: "string",
        array: true,
        default: [] as string[],
        describe: "tensor for an input, like input_ids=ids.npy (.npy or .pb); may be repeated",
      },
      entry: OPTIONS.entry,
      stage: {
        type: "string",
        describe:
          "only this stage of chips that work one behind the other, from 0: its wires from other stages are inputs, those to others outputs",
      },
      threads,
      jitter: {
        type: "string",
        describe:
          "seed: vectors on wires come up to 19 cycles before the schedule counts on them, which changes nothing",
      },
      fault: {
        type: "string",
        describe:
          "wire:CYCLE flips a bit, once, of the first vector that is sent over a wire in that cycle or later: it is found, and the run done again",
      },
      "output-dir": { type: "string", default: ".", describe: "folder for the outputs, as .npy files" },
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const outputFolder = args["output-dir"];
    const result = await runJob(
      "run",
      {
        ...{ image: args.image, entry: args.entry, inputs: parseInputs(args.input), outputFolder },
        ...{ stage: parseWhole("--stage", args.stage), threads: parseThreads(args.threads) },
        ...{ jitter: parseWhole("--jitter", args.jitter), flip: parseFault(args.fault) },
      },
      { tasks: terminal.tasks, writes: [outputFolder] },
    );
    terminal.result(result);
    const rows = result.outputs.map(
      ({ name, dtype, shape, file, nonFinite }) =>
        [
          name,
          `${dtype}[${shape.join(",")}]  ${file}${nonFinite === undefined ? "" : nonFiniteText(nonFinite)}`,
        ] as const,
    );
    const cycles = `${formatCount(result.cycles)}  (predicted ${formatCount(result.predictedCycles)}; ${formatSeconds(result.seconds)} on this computer)`;
    const replays = result.replays.map((reason) => ["done again", reason] as const);
    for (const line of alignRows([["cycles", cycles], ...replays, ...rows])) terminal.print(printable(line));
    return EXIT.ok;
  },
});

/** What a decoder is built with: the same for all that write text. */
const decoderOptions = {
  context: OPTIONS.context,
  prefill: OPTIONS.prefill,
  batch: OPTIONS.batch,
  tokenizer: { type: "string", describe: "tokenizer.json, if it is not beside the model" },
  bind: OPTIONS.bind,
  target: OPTIONS.target,
  chips: OPTIONS.chips,
  stages: OPTIONS.stages,
  tensor: OPTIONS.tensor,
  weights: OPTIONS.weights,
  keep: OPTIONS.keep,
  rebuild: OPTIONS.rebuild,
  cache: OPTIONS.cache,
  "cache-dir": OPTIONS["cache-dir"],
  threads,
} as const;

const decoderFolder = {
  type: "string",
  demandOption: true,
  describe: "ONNX file, a folder of Hugging Face or onnxruntime-genai, or an image that build --context made",
} as const;

const parseContext = (args: {
  readonly context: string | undefined;
  readonly prefill: string | undefined;
  readonly batch: number | undefined;
}): Pick<DecoderRequest, "context" | "prefill" | "batch"> => {
  const context = parseContexts(args.context);
  const { "--batch": batch } = parseNumbers({ "--batch": { value: args.batch, least: 1, whole: true } });
  return { context, prefill: parsePrefill(args.prefill, context && Math.max(...context)), batch };
};

type DecoderArguments = InferredOptionTypes<typeof decoderOptions> & { readonly model: string };

const decoderRequest = (args: DecoderArguments): DecoderRequest => {
  return {
    model: args.model,
    tokenizer: args.tokenizer,
    ...parseContext(args),
    target: parseTarget(args.target),
    // Of `--system` text is written: it is what the model is told first.
    ...parseDevices({ chips: args.chips, stages: args.stages, tensor: args.tensor }),
    bind: parseBinds(args.bind),
    weights: weightFormat(args.weights),
    keep: args.keep,
    cacheFolder: args.cache ? (args["cache-dir"] ?? defaultCacheFolder()) : undefined,
    rebuild: args.rebuild,
    threads: parseThreads(args.threads),
  };
};

const generate = command({
  command: "generate <model>",
  doc: "Writes on from a prompt: a decoder with past and present, one token a step.",
  options: (argv) =>
    argv.positional("model", decoderFolder).options({
      prompt: {
        alias: "p",
        type: "string",
        array: true,
        default: [] as string[],
        describe:
          "how the text begins, or what the user says first; several are texts of their own, side by side with --batch",
      },
      chat: {
        type: "boolean",
        default: false,
        describe: "answers lines of stdin in turn, by the model's chat template; the past stays on the chip",
      },
      system: { type: "string", describe: "with --chat: what the model is told before" },
      "max-tokens": { type: "number", describe: "at most so many tokens after the prompt" },
      temperature: {
        type: "number",
        describe: "0 takes the likeliest token; larger is more even; what is not given is as the folder says, or 0",
      },
      "top-k": { type: "number", describe: "only the likeliest so many tokens; 0 for all" },
      "top-p": { type: "number", describe: "only the likeliest tokens that together have this share" },
      "repetition-penalty": { type: "number", describe: "makes tokens that were there less likely; 1 does not" },
      seed: { type: "number", default: 0, describe: "the same seed gives the same text" },
      stop: {
        type: "string",
        array: true,
        default: [] as string[],
        describe: "text at which writing ends; may be repeated",
      },
      ...decoderOptions,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { prompt: prompts, system, chat, stop } = args;
    const [prompt] = prompts;
    if (!chat && prompt === undefined) fail("LPU5008", { message: "expected --prompt, or --chat" });
    if (chat && (prompts.length > 1 || (args.batch ?? 1) > 1))
      fail("LPU5008", { message: "--chat: is one text, and takes one --prompt and no --batch" });
    if (!chat && system !== undefined) fail("LPU5008", { message: "--system: expected --chat with it" });
    const decoder = decoderRequest(args);
    const numbers = parseNumbers({
      "--max-tokens": { value: args["max-tokens"], least: 1, whole: true },
      "--temperature": { value: args.temperature, least: 0, whole: false },
      "--top-k": { value: args["top-k"], least: 0, whole: true },
      "--top-p": { value: args["top-p"], least: 0, most: 1, whole: false },
      "--repetition-penalty": { value: args["repetition-penalty"], least: 0, isAbove: true, whole: false },
      "--seed": { value: args.seed, least: 0, whole: true },
    });
    const options = given({
      maxTokens: numbers["--max-tokens"],
      temperature: numbers["--temperature"],
      topK: numbers["--top-k"],
      topP: numbers["--top-p"],
      repetitionPenalty: numbers["--repetition-penalty"],
      seed: numbers["--seed"],
    });
    const request = { ...decoder, options: { ...options, stop } };
    if (chat) return chatInTurns({ ...request, prompt, system }, terminal);
    const part = beginning(`\n${prompt}`, terminal);
    const result = await runJob("generate", { ...request, prompts }, { tasks: terminal.tasks, part });
    const { texts, ...costs } = result;
    terminal.result(texts.length === 1 ? { ...texts[0], ...costs } : result);
    if (texts.length > 1)
      for (const [index, { text }] of texts.entries()) terminal.text(`\n${prompts[index]}${text}\n`);
    terminal.print("\n");
    for (const line of alignRows(generateRows(result))) terminal.print(line);
    return result.cycles === result.predictedCycles ? EXIT.ok : EXIT.internal;
  },
});

const serve = command({
  command: "serve <model>",
  doc: "Serves a decoder with past and present by OpenAI's API, until it is interrupted.",
  options: (argv) =>
    argv.positional("model", decoderFolder).options({
      port: { type: "number", default: 8080, describe: "0 takes any that is free" },
      host: {
        type: "string",
        default: "127.0.0.1",
        describe: "address to listen on; the usual one is for this computer alone",
      },
      name: { type: "string", describe: "what clients call the model; as its folder is called, if not given" },
      pasts: {
        type: "number",
        default: 4,
        describe: "pasts that are kept for prompts which begin like one before, each as large as the states",
      },
      ...decoderOptions,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { host, name } = args;
    const decoder = decoderRequest(args);
    const { "--port": port, "--pasts": pasts } = parseNumbers({
      "--port": { value: args.port, least: 0, most: 65535, whole: true },
      "--pasts": { value: args.pasts, least: 0, whole: true },
    });
    const result = await runJob(
      "serve",
      { ...decoder, host, port, name, pasts },
      {
        tasks: terminal.tasks,
        part: (part) => {
          terminal.note(printable(serveLine(part)));
          if ("problems" in part && part.problems.length > 0)
            terminal.note(renderProblems(part.problems, terminal.colors));
        },
      },
    );
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(serveRows(result))) terminal.print(line);
    return result.cycles === result.predictedCycles ? EXIT.ok : EXIT.internal;
  },
});

const { prefill: _, batch: __, ...readerOptions } = decoderOptions;

const score = command({
  command: "score <model>",
  doc: "Says how well a decoder foretells a text: perplexity, with weights in FP8 beside fp16.",
  options: (argv) =>
    argv.positional("model", decoderFolder).options({
      text: { type: "string", demandOption: true, describe: "file of the text" },
      lines: { type: "boolean", default: false, describe: "each line of the file is a text of its own" },
      ...readerOptions,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { prefill: _, batch: __, ...decoder } = decoderRequest({ ...args, prefill: undefined, batch: undefined });
    const result = await runJob("score", { ...decoder, text: args.text, lines: args.lines }, { tasks: terminal.tasks });
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(scoreRows(result))) terminal.print(line);
    const scores = [result.score, ...(result.other === undefined ? [] : [result.other.score])];
    return scores.every(({ cycles, predictedCycles }) => cycles === predictedCycles) ? EXIT.ok : EXIT.internal;
  },
});

/** Shows pieces of a text as they come, the first behind what it begins with. */
function beginning(start: string, terminal: Terminal): (piece: { readonly text: string }) => void {
  let begun = false;
  return ({ text }) => {
    terminal.text(`${begun ? "" : start}${text}`);
    begun = true;
  };
}

async function chatInTurns(request: ChatRequest, terminal: Terminal): Promise<number> {
  const questions = openQuestions(terminal);
  const answer = async (): Promise<string | undefined> => {
    terminal.print("\n");
    return questions.next();
  };
  const part = beginning(request.prompt === undefined ? "" : `\n${QUESTION}${request.prompt}\n`, terminal);
  try {
    const result = await runJob("chat", request, { tasks: terminal.tasks, part, answer });
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(chatRows(result))) terminal.print(line);
    const isExact = result.turns.every(({ cycles, predictedCycles }) => cycles === predictedCycles);
    return isExact ? EXIT.ok : EXIT.internal;
  } finally {
    questions.close();
  }
}

const verify = command({
  command: "verify <cases..>",
  doc: "Builds, runs and compares cases in the layout of the ONNX backend tests.",
  options: (argv) =>
    argv
      .positional("cases", {
        type: "string",
        array: true,
        demandOption: true,
        describe: "folders that are cases or hold them",
      })
      .options({
        state: OPTIONS.state,
        target: OPTIONS.target,
        ...DEVICES,
        weights: OPTIONS.weights,
        keep: OPTIONS.keep,
        tolerance: { type: "number", default: 5e-3, describe: "largest relative L2 error of an output" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    const { tolerance } = args;
    if (!(tolerance >= 0))
      throw new CompileError("LPU5008", { message: "--tolerance: expected a number of at least 0" });
    const cases = findCases(args.cases);
    const label = caseLabels(cases);
    const weights = { weights: weightFormat(args.weights), keep: args.keep };
    const state = parseStates(args.state);
    const request = { cases, state, target: parseTarget(args.target), ...parseDevices(args), ...weights, tolerance };
    const result = await runJob("verify", request, {
      tasks: terminal.tasks,
      part: (part) => printCase(part, label(part.folder), terminal),
    });
    printTotals(result, terminal);
    terminal.result(result);
    return result.totals.passed === result.cases.length ? EXIT.ok : EXIT.problem;
  },
});

const check = command({
  command: "check <model>",
  doc: "Says what build will do: all that stands in the way, and whether SRAM suffices.",
  options: (argv) =>
    argv.positional("model", model).options({
      bind: OPTIONS.bind,
      shape: OPTIONS.shape,
      fix: OPTIONS.fix,
      state: OPTIONS.state,
      entry: OPTIONS.entries,
      context: OPTIONS.context,
      prefill: OPTIONS.prefill,
      batch: OPTIONS.batch,
      target: OPTIONS.target,
      ...DEVICES,
      configuration: OPTIONS.configuration,
      weights: OPTIONS.weights,
      keep: OPTIONS.keep,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const request = {
      model: args.model,
      target: parseTarget(args.target),
      ...parseDevices(args),
      configuration: parseConfiguration(args.configuration),
      bind: parseBinds(args.bind),
      shapes: parseShapes(args.shape),
      fix: parseFixes(args.fix),
      state: parseStates(args.state),
      entries: parseEntries(args.entry),
      ...parseContext(args),
      weights: weightFormat(args.weights),
      keep: args.keep,
    };
    const result = await runJob("check", request, { tasks: terminal.tasks });
    printCheck(result, terminal);
    terminal.result(result);
    return result.supported ? EXIT.ok : EXIT.problem;
  },
});

const planCommand = command({
  command: "plan <model>",
  doc: "Says what a model would do on a system of chips, from shapes alone: its weights may be absent. With --jobs, its stages, or those of an image, as jobs.",
  options: (argv) =>
    argv
      .positional("model", { ...model, describe: "ONNX file; with --jobs also an image, as build writes it" })
      .options({
        jobs: {
          type: "boolean",
          default: false,
          describe:
            "JSON for an engine of workflows: for each stage its command, files in and out, and which others it needs",
        },
        entry: {
          ...OPTIONS.entry,
          describe: "with --jobs: which entry of the image; may be left out where there is one",
        },
        system: {
          type: "string",
          describe: `chips, and what joins them: ${Object.keys(SYSTEMS).join(", ")}; the smallest that holds the model if not given`,
        },
        dead: OPTIONS.dead,
        tensor: { type: "number", describe: "chips that share each product; those of a node if not given" },
        stages: {
          type: "number",
          describe: "groups of such chips, one behind the other; as many as help if not given",
        },
        configuration: OPTIONS.configuration,
        context: {
          type: "number",
          describe: "positions that a token looks back upon, where the model leaves that open; 4096 if not given",
        },
        batch: { type: "number", describe: "sequences at once, where the model leaves that open; 1 if not given" },
        bind: OPTIONS.bind,
        shape: OPTIONS.shape,
        fix: OPTIONS.fix,
        target: OPTIONS.target,
        weights: OPTIONS.weights,
        keep: OPTIONS.keep,
        "price-chip": {
          type: "number",
          describe: "what a chip is bought for: with --price-kwh, the cost of a million tokens",
        },
        "price-kwh": { type: "number", describe: "what a kilowatt-hour costs" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    if (args.model.endsWith(".lpu")) {
      expectOnly(args);
      const { jobs } = await import("../src/index.js");
      return printJobs(jobs(args.model, args), terminal);
    }
    if (args.entry !== undefined) fail("LPU5008", { message: "--entry: expected an image and --jobs" });
    const numbers = parseNumbers({
      "--tensor": { value: args.tensor, least: 1, whole: true },
      "--stages": { value: args.stages, least: 1, whole: true },
      "--context": { value: args.context, least: 1, whole: true },
      "--batch": { value: args.batch, least: 1, whole: true },
      "--price-chip": { value: args["price-chip"], least: 0, whole: false },
      "--price-kwh": { value: args["price-kwh"], least: 0, whole: false },
    });
    const [chip, kwh] = [numbers["--price-chip"], numbers["--price-kwh"]];
    if ((chip === undefined) !== (kwh === undefined))
      fail("LPU5008", { message: "expected both --price-chip and --price-kwh, or neither" });
    const result = await runJob(
      "plan",
      {
        model: args.model,
        system: parseSystem(args.system),
        dead: parseDead(args.dead),
        target: parseTarget(args.target),
        tensor: numbers["--tensor"],
        stages: numbers["--stages"],
        configuration: parseConfiguration(args.configuration),
        context: numbers["--context"],
        batch: numbers["--batch"],
        bind: parseBinds(args.bind),
        shapes: parseShapes(args.shape),
        fix: parseFixes(args.fix),
        weights: weightFormat(args.weights),
        keep: args.keep,
        prices: chip === undefined || kwh === undefined ? undefined : { chip, kwh },
      },
      { tasks: args.jobs ? NO_TASKS : terminal.tasks },
    );
    if (args.jobs) {
      const { plannedJobs } = await import("../src/index.js");
      return printJobs(plannedJobs(result.plan), terminal);
    }
    terminal.result(result);
    printPlan(result, terminal);
    return EXIT.ok;
  },
});

const report = command({
  command: "report <image>",
  doc: "Says where the cycles and the energy of a program go; nothing is run.",
  options: (argv) =>
    argv.positional("image", image).options({
      output: { alias: "o", type: "string", describe: "where the page goes that shows all of it, one HTML file" },
      entry: OPTIONS.entry,
      compare: { type: "string", describe: "another image: what differs, by bound, layer and node" },
      csv: { type: "string", describe: "folder for all of it as .csv files" },
      grid: {
        type: "number",
        describe: "cycles of a bin of power over time; a thousandth of the program if not given",
      },
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { grid, csv, output, compare } = args;
    if (output !== undefined) apartFrom(output, [args.image, compare]);
    if (grid !== undefined && !(Number.isInteger(grid) && grid > 0))
      throw new CompileError("LPU5008", { message: "--grid: expected a whole number of at least 1" });
    const result = await runJob(
      "report",
      { image: args.image, entry: args.entry, page: output, csvFolder: csv, compare, grid },
      {
        tasks: terminal.tasks,
        writes: [...(csv === undefined ? [] : [csv]), ...(output === undefined ? [] : [dirname(resolve(output))])],
      },
    );
    terminal.result(result);
    printReport(result, terminal);
    return EXIT.ok;
  },
});

const trace = command({
  command: "trace <image>",
  doc: "Writes what every queue does as a trace for Perfetto (ui.perfetto.dev); nothing is run.",
  options: (argv) =>
    argv.positional("image", image).options({
      output: { alias: "o", type: "string", describe: "where the trace goes; beside the image if not given" },
      entry: OPTIONS.entry,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const output = apartFrom(args.output ?? fileBeside(args.image, ".pftrace"), [args.image]);
    const result = await runJob(
      "trace",
      { image: args.image, entry: args.entry, output },
      { tasks: terminal.tasks, writes: [dirname(resolve(output))] },
    );
    terminal.result(result);
    terminal.print(
      `${printable(result.trace)}  (${formatBytes(result.bytes)}, ${formatCount(result.bursts)} bursts in ${formatCount(result.cycles)} cycles)`,
    );
    return EXIT.ok;
  },
});

const disasm = command({
  command: "disasm <image>",
  doc: "Prints an image as a listing that asm can read.",
  options: (argv) =>
    argv.positional("image", image).options({
      output: { alias: "o", type: "string", describe: "file for the listing; stdout if not given" },
      data: {
        type: "boolean",
        default: true,
        describe: "with constants and tables; --no-data leaves them out, and asm cannot read the listing",
      },
      json: { ...OPTIONS.json, hidden: true },
    }),
  run: async (args) => {
    const { listing } = await import("../src/codegen/listing/disassemble.js");
    const { readImage } = await import("../src/codegen/image/image.js");
    const lines = listing(readImage(readWhole(args.image, "image")), { data: args.data });
    if (args.output === undefined) for (const chunk of textChunks(lines)) process.stdout.write(chunk);
    else writeAtomically(apartFrom(args.output, [args.image]), textChunks(lines));
    return EXIT.ok;
  },
});

const asm = command({
  command: "asm <listing>",
  doc: "Assembles a listing to an image.",
  options: (argv) =>
    argv
      .positional("listing", { type: "string", demandOption: true, describe: "listing, as disasm prints it" })
      .options({
        output: { alias: "o", type: "string", describe: "where the image goes; beside the listing if not given" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    const { assemble } = await import("../src/codegen/listing/assemble.js");
    const bytes = assemble(readText(args.listing, "listing"), args.listing);
    const image = apartFrom(args.output ?? imageBeside(args.listing), [args.listing]);
    const written = writeAtomically(image, [bytes]);
    terminal.result({ image, sha256: written.sha256, imageBytes: written.bytes });
    terminal.print(`${printable(image)}  (${formatBytes(written.bytes)}, sha256 ${written.sha256.slice(0, 12)})`);
    return EXIT.ok;
  },
});

const opt = command({
  command: "opt <text>",
  doc: "Runs passes over a graph in its text form, as --dump-dir writes it, and prints the graph, or its plan.",
  options: (argv) =>
    argv.positional("text", { type: "string", demandOption: true, describe: "text of a graph, or of a plan" }).options({
      passes: { type: "string", describe: "the only passes that run, separated by commas; all if not given" },
      target: OPTIONS.target,
      weights: OPTIONS.weights,
      keep: OPTIONS.keep,
      tensor: OPTIONS.tensor,
      plan: { type: "boolean", default: false, describe: "selects, and prints the plan" },
      json: { ...OPTIONS.json, hidden: true },
    }),
  run: async (args) => {
    const { optimize } = await import("./jobs/opt.js");
    const text = readText(args.text, "text of a graph or a plan");
    const only = args.passes?.split(",");
    const { "--tensor": chips = 1 } = parseNumbers({ "--tensor": { value: args.tensor, least: 1, whole: true } });
    if (args.plan && chips > 1)
      throw new CompileError("LPU5008", {
        message: "--plan: a plan of several chips that exchange cannot be made yet",
      });
    process.stdout.write(
      optimize(text, args.text, {
        target: parseTarget(args.target),
        weights: { format: weightFormat(args.weights), keep: args.keep },
        chips,
        plan: args.plan,
        only,
      }),
    );
    return EXIT.ok;
  },
});

interface Table {
  readonly text: string;
  readonly data: object;
}

/** A command that prints one of the tables from which everything derives. */
const tableCommand = (name: string, doc: string, load: () => Promise<Table>): CommandFor =>
  command({
    command: name,
    doc,
    options: (argv) => argv.options({ json: { ...OPTIONS.json, describe: "the table as one JSON object" } }),
    run: async (_, terminal) => {
      const { text, data } = await load();
      terminal.print(text.trimEnd());
      terminal.result(data);
      return EXIT.ok;
    },
  });

const isa = tableCommand("isa", "Prints the instruction set.", async () => {
  const [{ ISA }, { fieldBits }, { isaText }] = await Promise.all([
    import("../src/ir/isa.js"),
    import("../src/codegen/text/layout.js"),
    import("../src/report/tables.js"),
  ]);
  return { text: isaText((op) => fieldBits(TARGETS["lpu-v1"], op)), data: ISA };
});

const ops = tableCommand("ops", "Prints the operators: what is supported, what is refused and why.", async () => {
  const [{ OPERATORS }, { OPS }, { opsText }] = await Promise.all([
    import("../src/frontend/operators.js"),
    import("../src/ir/ops.js"),
    import("../src/report/tables.js"),
  ]);
  return { text: opsText(OPERATORS), data: { ...OPERATORS, operations: OPS } };
});

const passes = tableCommand("passes", "Prints the passes over graphs, in order.", async () => {
  const [{ PIPELINE }, { passesText }] = await Promise.all([
    import("../src/passes/graph/pipeline.js"),
    import("../src/report/tables.js"),
  ]);
  return { text: passesText(PIPELINE), data: { passes: PIPELINE } };
});

const targets = tableCommand("targets", "Prints the machines that programs are built for.", async () => {
  const { targetsText } = await import("../src/report/tables.js");
  return { text: targetsText(), data: TARGETS };
});

const systems = tableCommand("systems", "Prints the systems of several chips, and what joins them.", async () => {
  const [{ systemsText }, { hopsFrom }] = await Promise.all([
    import("../src/report/tables.js"),
    import("../src/system/routes.js"),
  ]);
  const data = Object.fromEntries(Object.entries(SYSTEMS).map(([name, { doc }]) => [name, { doc }]));
  return { text: systemsText((system) => Math.max(...hopsFrom(system, 0))), data };
});

const nonFiniteText = ({ element, value, count }: NonFinite): string =>
  `  (element ${element} is ${value}${count > 1 ? `, and ${count - 1} more are not finite` : ""}; lpu verify names the node that made it)`;

/** An image is planned already: nothing is asked of it but its jobs. */
function expectOnly({ model: path, jobs, ...args }: Readonly<Record<string, unknown>>): void {
  const unsaid: Readonly<Record<string, unknown>> = { target: "lpu-v1", weights: "fp16" };
  const late = ["system", "tensor", "stages", "context", "batch", "bind", "shape", "fix", "target", "weights", "keep"]
    .filter((name) => ![undefined, unsaid[name]].includes(args[name]) && String(args[name]) !== "")
    .map((name) => `--${name}`);
  if (jobs !== true || late.length > 0)
    fail("LPU5008", {
      message: `'${String(path)}' is an image, and planned already: expected --jobs${late.length > 0 ? ` without ${late.join(", ")}` : ""}`,
      hint: "lpu report says what it does; give the model to plan it anew",
    });
}

/** Where stdout is for a program. */
const NO_TASKS: TaskReporter = { event: () => undefined, close: () => undefined };

/** JSON in any case: it is for a program. */
function printJobs(graph: JobGraph, terminal: Terminal): number {
  const data = { ...graph, exitStatus: EXIT };
  terminal.print(JSON.stringify(data, null, 2));
  terminal.result(data);
  return EXIT.ok;
}

/** The result for the person, and for `--json`. */
function printBuild(result: BuildResult, page: string | undefined, terminal: Terminal): void {
  const { report, seconds, image, annotated, sha256, imageBytes, cached, fixed } = result;
  const written = { ...(page !== undefined && { page }), ...(annotated !== undefined && { annotated }) };
  terminal.result({
    image,
    ...written,
    sha256,
    imageBytes,
    cached,
    fixed,
    ...report,
    sramBytes: report.sram.bytes,
    seconds,
  });
  const rows = [
    ...summaryRows(report),
    ...(fixed.length === 0 ? [] : [["fixed inputs", fixed.join(", ")] as const]),
    ["image", `${image}  (${formatBytes(imageBytes)}, sha256 ${sha256.slice(0, 12)})`] as const,
    ...(annotated === undefined ? [] : [["annotated", annotated] as const]),
    ...(page === undefined ? [] : [["report", page] as const]),
  ];
  terminal.print("");
  for (const line of alignRows(rows)) terminal.print(`  ${printable(line)}`);
}

/** Lets the options of a row give its arguments their type. */
function row<Args>(fields: Command<Args & { json: boolean }>): Command<Args & { json: boolean }> {
  return fields;
}

export type CommandFor = (execute: Execute) => CommandModule;

/** Hides the type of a command's arguments, so that commands of all types fit in one list. */
function command<Args>(row: Command<Args & { json: boolean }>): CommandFor {
  return (execute) => {
    const module = {
      command: row.command,
      describe: row.doc,
      builder: (argv: Argv) => row.options(argv),
      // The boundary where parsed arguments get their type: they are those that the builder declares.
      handler: (args: Args & { json: boolean }) => execute(args.json, (terminal) => row.run(args, terminal)),
    };
    return module as unknown as CommandModule;
  };
}

export const COMMANDS: readonly CommandFor[] = [
  build,
  run,
  generate,
  serve,
  score,
  verify,
  check,
  planCommand,
  report,
  trace,
  disasm,
  asm,
  opt,
  isa,
  ops,
  passes,
  targets,
  systems,
];

/** The commands of `lpuit`: the one there is. */
export const ONE_SHOT: readonly CommandFor[] = [command({ ...buildCommand, command: "$0 <model>" })];
