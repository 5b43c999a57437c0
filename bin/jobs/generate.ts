/**
 * The work of `lpu generate`: a decoder to a program that takes one token a step, and text that grows from a prompt.
 */

import { openFolder } from "../../src/host/folder.js";
import { openLanguageModel, type Piece } from "../../src/index.js";
import type { GenerateOptions } from "../../src/language/model.js";
import { noTokenizer } from "../../src/language/text.js";
import { type TargetName, TARGETS } from "../../src/ir/target.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import { STAGES } from "../../src/stages.js";
import { clock } from "../show/terminal.js";
import type { JobContext } from "./job.js";

export interface GenerateRequest {
  readonly model: string;
  readonly tokenizer: string | undefined;
  readonly prompt: string;
  readonly context: number;
  readonly target: TargetName;
  readonly bind: Readonly<Record<string, number>>;
  readonly weights: WeightFormatName;
  readonly keep: readonly string[];
  readonly options: GenerateOptions;
  readonly cacheFolder: string | undefined;
}

export interface GenerateResult {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finish: "stop" | "length";
  readonly promptTokens: number;
  readonly steps: number;
  /** Of one step; the compiler's figure, and what the machine counted over all steps. */
  readonly predictedCycles: number;
  readonly cycles: number;
  /** On the chip, by its clock, without PCIe. */
  readonly promptSeconds: number;
  readonly completionSeconds: number;
  /** On this computer, after the build. */
  readonly seconds: number;
}

export async function generateJob(request: GenerateRequest, context: JobContext<Piece>): Promise<GenerateResult> {
  const { target, bind, weights, keep } = request;
  // Before the build, which takes its time.
  if (openFolder(request.model, request.tokenizer).tokenizer === undefined) noTokenizer();
  const model = await openLanguageModel(request.model, {
    target,
    bind,
    weights,
    keep,
    context: request.context,
    tokenizer: request.tokenizer,
    cacheDir: request.cacheFolder ?? false,
    onStage: ({ stage, ...event }) => context.task({ ...event, title: STAGES[stage].title, at: clock() }),
  });
  const start = clock();
  const pieces: Piece[] = [];
  for await (const piece of model.generate(request.prompt, request.options)) {
    pieces.push(piece);
    context.part(piece);
  }
  const sum = (of: readonly Piece[], figure: "cycles" | "steps"): number =>
    of.reduce((total, piece) => total + piece[figure], 0);
  const hertz = TARGETS[target].clock * 1e6;
  return {
    text: pieces.map(({ text }) => text).join(""),
    tokens: pieces.map(({ token }) => token),
    finish: pieces.at(-1)?.finish ?? "length",
    promptTokens: sum(pieces.slice(0, 1), "steps"),
    steps: sum(pieces, "steps"),
    predictedCycles: model.cycles,
    cycles: sum(pieces, "cycles"),
    promptSeconds: sum(pieces.slice(0, 1), "cycles") / hertz,
    completionSeconds: sum(pieces.slice(1), "cycles") / hertz,
    seconds: (clock() - start) / 1000,
  };
}
