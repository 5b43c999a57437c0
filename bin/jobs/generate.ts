/**
 * The work of `lpu generate`: a decoder to a program that takes one token a step, and text that grows from a prompt.
 */

import type { GenerateOptions, LanguageModel, Piece } from "../../src/language/model.js";
import { clock } from "../show/terminal.js";
import { type DecoderRequest, openDecoder } from "./decoder.js";
import type { JobContext } from "./job.js";

export interface GenerateRequest extends DecoderRequest {
  readonly prompt: string;
  readonly options: GenerateOptions;
}

export interface GenerateResult extends Written {
  /** Of a run that takes one token, and of one that takes a block of a prompt. */
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
  const model = await openDecoder(request, context, request.prompt);
  const start = clock();
  const written = await write(model, model.encode(request.prompt), request.options, context);
  return {
    ...written,
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
