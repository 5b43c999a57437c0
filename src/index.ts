/**
 * The public API. `lpuit` takes a model all the way to something that runs; the parts are here too, for those who want them.
 *
 * `compile`, `loadImage`, `importModel` and `evaluate` are pure: bytes in, values out. `lpuit` and `openImage` read files
 * and keep builds in the cache.
 */

import { performance } from "node:perf_hooks";
import { fail, invariant, sure } from "./diagnostics.js";
import { buildModel, joinChunks } from "./host/build.js";
import { defaultCacheFolder } from "./host/cache.js";
import { type Compiled, compile as compileSource } from "./compile.js";
import type { CompileOptions } from "./options.js";
import { bindInputs, type InputValue, type TensorSpec } from "./host/edge.js";
import { memoryModel, openModel, readWhole } from "./host/files.js";
import { openFolder } from "./host/folder.js";
import { bytesSource, type GraphRecord, type ModelSource, readModel } from "./frontend/source.js";
import { type ChatTemplate, type Message, openTemplate } from "./language/chat.js";
import {
  capacityOf,
  declaredVocabulary,
  decoderEntries,
  decoderIn,
  decoderShapes,
  hasPast,
  logitsOf,
  mostOf,
  plainShapes,
  sourceHasPast,
} from "./language/decoder.js";
import { encoded, type LanguageModel, languageModel } from "./language/model.js";
import { plainReader, stepReader } from "./language/read.js";
import type { Reader } from "./language/score.js";
import { type Settings, settingsOf } from "./language/settings.js";
import type { Decoder } from "./language/runs.js";
import { expectRoom } from "./language/steps.js";
import { expectFits, noTokenizer, openTokenizer, type Tokenizer } from "./language/text.js";
import type { Tensor } from "./ir/graph.js";
import { type Analysis, analysisOf } from "./report/analysis.js";
import { pageData } from "./report/page/data.js";
import { htmlLines } from "./report/page/html.js";
import { traceChunks } from "./report/trace.js";
import { type BuildReport, estimatePerformance, type Performance, roomOf } from "./report/report.js";
import { type JobGraph, jobsOf } from "./jobs.js";
import { type PlanOptions, plan as planSource, type SystemPlan } from "./plan.js";
import { readImage } from "./codegen/image/image.js";
import { printInstruction } from "./codegen/listing/print.js";
import { chosenEntry, entryNamed, type Program } from "./ir/program.js";
import { DEFAULT_TARGET, targetOf } from "./ir/target.js";
import { DEFAULT_WEIGHTS } from "./ir/weights.js";
import type { Disturbance } from "./runtime/disturb.js";
import { type LoadedEntry, type LoadedModel, loadImage, type Snapshot } from "./runtime/run.js";

export { type CheckReport, checkModel } from "./host/check.js";
export type { Compiled } from "./compile.js";
export type { CompileOptions } from "./options.js";
export { CompileError, DIAGNOSTICS, type DiagnosticCode, MachineFault } from "./diagnostics.js";
export type { InputValue, TensorSpec } from "./host/edge.js";
export { openModel, readTensorFile, writeTensorFile } from "./host/files.js";
export type { FixedValue } from "./frontend/fix.js";
export { annotatedModel } from "./frontend/annotate.js";
export type { Devices } from "./frontend/devices.js";
export { type ImportOptions, importModel } from "./frontend/import.js";
export { bytesSource, type ModelSource } from "./frontend/source.js";
export type { DType, EdgeDType, TensorData } from "./ir/dtype.js";
export { evaluate } from "./ir/evaluate.js";
export type { Graph, Shape, Tensor } from "./ir/graph.js";
export type { Program } from "./ir/program.js";
export { type SystemName, SYSTEMS } from "./ir/system.js";
export { TARGETS, type Target, type TargetName } from "./ir/target.js";
export { type FileTensor, decodeNpy, encodeNpy } from "./host/npy.js";
export type { Message } from "./language/chat.js";
export type { GenerateOptions, LanguageModel, Piece } from "./language/model.js";
export { type KeptPasts, keptPasts, type Saved } from "./language/pasts.js";
export { type Distance, type Reader, type Score, type ScoredText, scoreTexts } from "./language/score.js";
export type { Step } from "./language/runs.js";
export { type Answer, type ServeOptions, type Server, serve } from "./serve/server.js";
export type { Stages } from "./pipeline.js";
export { type Job, type JobFile, type JobGraph, plannedJobs } from "./jobs.js";
export type { PlanOptions, SystemPlan } from "./plan.js";
export { type BuildReport, type Performance, reportProgram } from "./report/report.js";
export type { Activity } from "./report/activity.js";
export type { Analysis } from "./report/analysis.js";
export { BOUNDS, type Stretches } from "./report/bounds.js";
export { type Comparison, compareOverviews } from "./report/compare.js";
export type { PathStep } from "./report/critical.js";
export type { Overview } from "./report/overview.js";
export type { Power } from "./report/power.js";
export { summaryLines } from "./report/summary.js";
export type { Disturbance, WireFlip } from "./runtime/disturb.js";
export { type LoadedEntry, type LoadedModel, loadImage, type Snapshot } from "./runtime/run.js";
export { type OnStage, STAGES, type StageEvent, type StageName } from "./stages.js";

export interface LpuitOptions extends CompileOptions {
  /** Where builds are kept; false for nowhere. */
  readonly cacheDir?: string | false;
  /** Builds even if the same build is in the cache. */
  readonly rebuild?: boolean;
  /** Threads that chips run on, at most one for each, until `close`; 1 if not given. How many there are changes no bit. */
  readonly threads?: number | undefined;
}

export interface RunResult {
  /** By name, row-major, in the declared dtypes, narrowed: int64 as i32, fp64 as f32. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** What the machine counted. `predictedCycles` is the compiler's figure from the image; every compiled program has both equal. */
  readonly cycles: number;
  readonly predictedCycles: number;
  /** Why the run was done again, where that was needed: once for each time. */
  readonly replays: readonly string[];
}

/** What a program can be asked to run. */
export interface RunnableEntry {
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** The compiler's prediction. */
  readonly cycles: number;
  readonly run: (inputs: Readonly<Record<string, InputValue>>) => Promise<RunResult>;
}

/** A program on the machine, as the entry that was opened. */
export interface RunnableImage extends RunnableEntry, Pick<LoadedModel, "reset" | "snapshot" | "restore" | "close"> {
  readonly image: Uint8Array;
  /** All entries, this one too: they share the machine. */
  readonly entries: readonly RunnableEntry[];
  /** What stays on the chip from one run to the next. */
  readonly states: readonly TensorSpec[];
}

/** A program on the machine that was built here, and so has a report. */
export interface LpuModel extends RunnableImage {
  readonly report: BuildReport;
  readonly estimatePerformance: () => Performance;
}

/** A model in memory, or one that is read by position, to a program and its image. */
export const compile = (model: Uint8Array | ModelSource, options: CompileOptions = {}): Compiled =>
  compileSource(model instanceof Uint8Array ? bytesSource(options.name ?? "model", model) : model, options);

/** What a model would do on a system of chips, from its shapes; `model` is a path, bytes or a source, and its weights may be absent. */
export function plan(model: string | Uint8Array | ModelSource, options: PlanOptions = {}): SystemPlan {
  if (typeof model !== "string")
    return planSource(model instanceof Uint8Array ? bytesSource("model", model) : model, options);
  const opened = openModel(model);
  try {
    return planSource(opened.source, options);
  } finally {
    opened.close();
  }
}

/** The stages of an image at a path as jobs, which an engine of workflows can run. LPU4034 if the entry is not one of its entries. */
export const jobs = (image: string, { entry }: Pick<OpenOptions, "entry"> = {}): JobGraph =>
  jobsOf(readImage(readWhole(image, "image")), image, entry);

/** `model` is a path, or the bytes of a model without external data. */
export async function lpuit(model: string | Uint8Array, options: LpuitOptions = {}): Promise<LpuModel> {
  const { bytes, report } = builtImage(model, options);
  const entry = report.entries[0]?.name;
  const opened = await openImage(bytes, { entry, threads: options.threads });
  return { ...opened, report, estimatePerformance: () => estimatePerformance(report) };
}

function builtImage(
  model: string | Uint8Array,
  options: LpuitOptions,
): { readonly bytes: Uint8Array; readonly report: BuildReport } {
  const { cacheDir = defaultCacheFolder(), rebuild, threads: _, ...compileOptions } = options;
  const opened = typeof model === "string" ? openModel(model) : memoryModel(options.name ?? "model", model);
  try {
    const context = { cacheFolder: cacheDir === false ? undefined : cacheDir, rebuild, now: () => performance.now() };
    const build = buildModel(opened, compileOptions, context);
    return { bytes: joinChunks(build.image()), report: build.report };
  } finally {
    opened.close();
  }
}

export interface ReportOptions {
  /** The entry to describe; needed where there are several. */
  readonly entry?: string | undefined;
  /** Cycles of a bin of power over time; about a thousandth of the program if not given. */
  readonly grid?: number | undefined;
}

/** What every unit does at every time, where the cycles and the energy go and what waited for what, from an image alone. */
export const report = (image: Uint8Array, { entry, grid }: ReportOptions = {}): Analysis =>
  analysisOf(chosenEntry(readImage(image), entry), grid);

/** The page of `lpu report`, in pieces; with `other`, both programs one below the other. */
export const renderHtml = (analysis: Analysis, other?: Analysis): Iterable<string> =>
  htmlLines(pageData(analysis, other, printInstruction));

/** The trace of `lpu trace` for Perfetto, in pieces. */
export const writeTrace = ({ activity, power }: Analysis): Iterable<Uint8Array> =>
  traceChunks(activity, power, printInstruction.bind(undefined, activity.program.target));

/** `jitter` and `flip` disturb wires, which changes no output: see docs/CHIPS.md. */
export interface OpenOptions extends Pick<LpuitOptions, "threads">, Disturbance {
  /** The entry to run; needed where there are several. */
  readonly entry?: string | undefined;
  /** Only this stage of it: what comes over wires from other stages is an input, what goes to them an output, u8[vectors, lanes]. */
  readonly stage?: number | undefined;
}

/** An image that was built before: a path or bytes. LPU4034 if the entry is not one of its entries, LPU4035 for the stage. */
export async function openImage(image: string | Uint8Array, options: OpenOptions = {}): Promise<RunnableImage> {
  const bytes = typeof image === "string" ? readWhole(image, "image") : image;
  const { entries: loaded, states, ...machine } = loadImage(bytes, options);
  const { reset, snapshot, restore, close } = machine;
  const entries = loaded.map(runnable);
  return { ...entryNamed(entries, options.entry), image: bytes, entries, states, reset, snapshot, restore, close };
}

export interface LanguageModelOptions extends Omit<LpuitOptions, "state" | "shapes" | "entries"> {
  /**
   * Past positions that a token can look back upon; 256 if not given. Of several the most; entries for the others see less of the
   * past, and take less time while that is all there is.
   */
  readonly context?: number | readonly number[] | undefined;
  /**
   * Tokens of a prompt that an entry of its own takes at once, as long as there are so many; of several the longest first. Without
   * such an entry if not given.
   */
  readonly prefill?: number | readonly number[] | undefined;
  /** Sequences that are taken side by side, each with a past of its own; 1 if not given. */
  readonly batch?: number | undefined;
  /** A tokenizer.json that does not lie beside the model. */
  readonly tokenizer?: string | undefined;
  /** That text is wanted, so that LPU5106 says before the build that there is no tokenizer. */
  readonly text?: boolean;
  /** What text is to be written on from, or answered, so that LPU5105 says before the build that the context does not hold it. */
  readonly prompt?: string | readonly Message[] | undefined;
}

/** What a build is asked for, and an image has behind it. */
const BUILT = [
  "context",
  "prefill",
  "batch",
  "bind",
  "fix",
  "target",
  "system",
  "chips",
  "dead",
  "stages",
  "tensor",
  "configuration",
  "weights",
  "keep",
  "rebuild",
] as const;
/** Values that ask for nothing. */
const UNSAID: Readonly<Record<string, unknown>> = { target: DEFAULT_TARGET, weights: DEFAULT_WEIGHTS, rebuild: false };
const isSaid = (name: string, value: unknown): boolean =>
  value !== undefined && value !== UNSAID[name] && (typeof value !== "object" || Object.keys(value ?? {}).length > 0);

/**
 * A decoder with past and present, as a program that takes one token a step and keeps the past on the chip; `path` is a model,
 * a folder as Hugging Face or onnxruntime-genai have them, or an image (.lpu) of such a program, which has its context already.
 *
 * @throws LPU5104 for a model that is no such decoder, LPU5107 and LPU5108 for files beside it that are not what they should
 * be, all before the build, and all that `lpuit` throws.
 */
export async function openLanguageModel(path: string, options: LanguageModelOptions = {}): Promise<LanguageModel> {
  const { context = DEFAULT_CONTEXT, prefill = [], batch = 1, tokenizer, text, prompt, ...rest } = options;
  const isBuilt = path.endsWith(".lpu");
  const late = isBuilt ? BUILT.filter((name) => isSaid(name, options[name])) : [];
  if (late.length > 0)
    fail("LPU5104", {
      message: `image '${path}' is built already, with its own ${late.join(", ")}`,
      hint: "leave them out, or give the model",
    });
  const found = await openWords(path, { tokenizer, text, past: true }, (graph) => {
    const buckets = { contexts: [context].flat(), prefill: [prefill].flat(), batch };
    const most = mostOf(buckets.contexts);
    const entries = decoderEntries(graph, buckets, targetOf(options.target));
    return { capacity: capacityOf(decoderShapes(graph, most, 1, batch).past, most), entries };
  });
  const build = (): Uint8Array => {
    const { capacity, entries } = sure(found.asked, "graph");
    if (prompt !== undefined) expectRoom(capacity, 0, encoded(found, prompt).length);
    return builtImage(found.model, { ...rest, entries, state: "auto" }).bytes;
  };
  const bytes = isBuilt ? readWhole(path, "image") : build();
  const loaded = loadImage(bytes, { threads: options.threads });
  try {
    const { name, tokenizer: words, template, settings } = found;
    const decoder = loadedDecoder(readImage(bytes), loaded, found.expectFits);
    return languageModel(decoder, { ...settings, name, tokenizer: words, template });
  } catch (error) {
    loaded.close();
    throw error;
  }
}

/** The decoder that a loaded program is. LPU5104 if it is none, and what `expectVocabulary` says of its vocabulary. */
function loadedDecoder(
  program: Program,
  { entries, states, reset, snapshot, restore, close }: LoadedModel,
  expectVocabulary: (vocabulary: number) => void,
): Decoder<Snapshot> {
  const decoder = decoderIn(entries.map(runnable), states);
  const logits = logitsOf(decoder.whole.decode.outputs);
  expectVocabulary(logits.vocabulary);
  const room = roomOf(chosenEntry(program, decoder.whole.decode.name));
  invariant(room !== null, "a decoder has states");
  return { ...decoder, clockMHz: program.target.clock, logits, room, reset, snapshot, restore, close };
}

/**
 * A decoder that reads: with a past as `openLanguageModel` has it, or without one, in runs of `context` tokens.
 *
 * @throws as `openLanguageModel`.
 */
export async function openReader(
  path: string,
  options: Omit<LanguageModelOptions, "prefill" | "batch" | "prompt"> = {},
): Promise<Reader> {
  const { context = DEFAULT_CONTEXT, tokenizer, text, ...rest } = options;
  const tokens = mostOf([context].flat());
  const found = await openWords(path, { tokenizer, text, past: false }, (graph) =>
    hasPast(graph) ? void decoderShapes(graph, tokens, 1) : plainShapes(graph, tokens),
  );
  if (found.asked === undefined) return stepReader(await openLanguageModel(path, options));
  const entry = await lpuit(found.model, { ...rest, shapes: found.asked });
  const logits = logitsOf(entry.outputs);
  found.expectFits(logits.vocabulary);
  return plainReader({ entry, tokens, logits }, found.tokenizer);
}

const DEFAULT_CONTEXT = 256;

/** A model and what lies beside it, read and held against each other before anything is built. */
interface Words<Asked> {
  readonly model: string;
  readonly name: string;
  /** What is asked of the model's graph; nothing of an image. */
  readonly asked: Asked | undefined;
  readonly tokenizer: Tokenizer | undefined;
  readonly template: ChatTemplate | undefined;
  readonly settings: Settings;
  /** Holds the tokenizer against the vocabulary. */
  readonly expectFits: (vocabulary: number) => void;
}

interface Wanted {
  readonly tokenizer: string | undefined;
  readonly text: boolean | undefined;
  /** Of several models in a folder the first with a past. */
  readonly past: boolean;
}

/** `ask` refuses graphs of models that are not what is wanted, before anything else is looked at. */
async function openWords<Asked>(
  path: string,
  { tokenizer: file, text = false, past }: Wanted,
  ask: (graph: GraphRecord) => Asked,
): Promise<Words<Asked>> {
  const { model, name, tokenizer, settings } = openFolder(path, file, past ? sourceHasPast : undefined);
  const opened = model.endsWith(".lpu") ? undefined : openModel(model);
  try {
    const graph = opened && readModel(opened.source).graph;
    const asked = graph && ask(graph);
    if (text && tokenizer === undefined) noTokenizer();
    const expectText = (vocabulary: number): void => {
      if (tokenizer !== undefined) expectFits(tokenizer.definition, vocabulary);
    };
    const words = tokenizer && (await openTokenizer(tokenizer.definition, tokenizer.config));
    const template = tokenizer && (await openTemplate(tokenizer.template, tokenizer.config));
    const declared = graph && declaredVocabulary(graph);
    if (declared !== undefined) expectText(declared);
    const parts = { tokenizer: words, template, settings: settingsOf(settings) };
    return { model, name, asked, ...parts, expectFits: expectText };
  } finally {
    opened?.close();
  }
}

const runnable = ({ name, inputs: specs, outputs: results, predictedCycles, run }: LoadedEntry): RunnableEntry => ({
  name,
  inputs: specs,
  outputs: results,
  cycles: predictedCycles,
  run: async (inputs) => {
    const { outputs, cycles, replays } = run(bindInputs(specs, inputs));
    return { outputs, cycles, predictedCycles, replays };
  },
});
