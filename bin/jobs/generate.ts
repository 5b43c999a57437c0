/**
 * The work of `lpu generate`: a decoder to a program that takes one token a step, and text that grows from a prompt.
 */

import type { GenerateOptions, LanguageModel, Piece } from "../../src/language/model.js";
import type { Cost } from "../../src/language/runs.js";
import { clock } from "../show/terminal.js";
import { type DecoderRequest, openDecoder } from "./decoder.js";
import type { JobContext } from "./job.js";

export interface GenerateRequest extends DecoderRequest {
  /** Texts of their own, side by side as far as the model takes several sequences. */
  readonly prompts: readonly string[];
  readonly options: GenerateOptions;
}

/** `cycles`, `predictedCycles` and `runs` are of all texts: a run may be of several. */
export interface GenerateResult extends Cost {
  readonly texts: readonly Written[];
  readonly batch: number;
  /** Of a run that takes one token of each sequence, and of one that takes a block of a prompt. */
  readonly cyclesOf: LanguageModel["cycles"];
  readonly room: LanguageModel["room"];
  readonly clockMHz: number;
  /** On this computer, after the build. */
  readonly seconds: number;
}

/** A text that was written behind a prompt. */
export interface Written {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finish: "stop" | "length";
  readonly promptTokens: number;
  /** Those of the prompt that were on the chip before. */
  readonly keptTokens: number;
  /** Runs of the program: one a token, and fewer for a prompt that is taken in blocks. */
  readonly runs: number;
  /** Of all runs: what the machine counted, and what the compiler said before. */
  readonly cycles: number;
  readonly predictedCycles: number;
  /** On the chip, by its clock, without PCIe. */
  readonly promptSeconds: number;
  readonly completionSeconds: number;
}

export async function generateJob(request: GenerateRequest, context: JobContext<Piece>): Promise<GenerateResult> {
  const { prompts, options } = request;
  const longest = prompts.reduce((one, other) => (other.length > one.length ? other : one));
  const model = await openDecoder(request, context, longest);
  const start = clock();
  const shown = prompts.length === 1 ? context : { part: () => undefined };
  const texts: Promise<Written>[] = [];
  for (const prompt of prompts) {
    const text = write(model, model.encode(prompt), options, shown);
    texts.push(text);
    if (model.batch === 1) await text;
  }
  return {
    texts: await Promise.all(texts),
    ...model.spent(),
    batch: model.batch,
    cyclesOf: model.cycles,
    room: model.room,
    clockMHz: model.clockMHz,
    seconds: (clock() - start) / 1000,
  };
}

/** Writes on from a prompt, and tells of each piece. */
export async function write(
  model: LanguageModel,
  prompt: readonly number[],
  options: GenerateOptions,
  context: Pick<JobContext<Piece>, "part">,
): Promise<Written> {
  const pieces: Piece[] = [];
  for await (const piece of model.generate(prompt, options)) {
    pieces.push(piece);
    context.part(piece);
  }
  const sum = (of: readonly Piece[], figure: "cycles" | "predictedCycles" | "runs"): number =>
    of.reduce((total, piece) => total + piece[figure], 0);
  const hertz = model.clockMHz * 1e6;
  return {
    text: pieces.map(({ text }) => text).join(""),
    tokens: pieces.map(({ token }) => token),
    finish: pieces.at(-1)?.finish ?? "length",
    promptTokens: prompt.length,
    keptTokens: pieces[0]?.kept ?? 0,
    runs: sum(pieces, "runs"),
    cycles: sum(pieces, "cycles"),
    predictedCycles: sum(pieces, "predictedCycles"),
    promptSeconds: sum(pieces.slice(0, 1), "cycles") / hertz,
    completionSeconds: sum(pieces.slice(1), "cycles") / hertz,
  };
}
