/** The work of `lpu score`: how well a decoder foretells a text on the machine, and with weights in FP8 beside fp16. */

import { readText } from "../../src/host/files.js";
import { openReader } from "../../src/index.js";
import { type Reader, type ScoredText, scoreTexts } from "../../src/language/score.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import { STAGES } from "../../src/stages.js";
import { clock } from "../show/terminal.js";
import type { DecoderRequest } from "./decoder.js";
import { type JobContext, timed } from "./job.js";

export interface ScoreRequest extends Omit<DecoderRequest, "prefill" | "batch"> {
  /** The file of the text. */
  readonly text: string;
  /** Each line is a text of its own. */
  readonly lines: boolean;
}

export interface ScoreResult extends ScoredText {
  readonly weights: WeightFormatName;
  readonly stretch: number;
}

export async function scoreJob(request: ScoreRequest, context: JobContext<never>): Promise<ScoreResult> {
  const { model, text, lines, cacheFolder, ...options } = request;
  const { weights } = options;
  const words = readText(text, "text");
  const open = (format: WeightFormatName): Promise<Reader> =>
    openReader(model, {
      ...options,
      weights: format,
      keep: format === weights ? options.keep : [],
      text: true,
      cacheDir: cacheFolder ?? false,
      onStage: ({ stage, ...event }) =>
        context.task({ ...event, title: `${STAGES[stage].title} (${format})`, at: clock() }),
    });
  const reader = await open(weights);
  const other = weights === "fp16" ? undefined : await open("fp16");
  const title = "Reading";
  const { value } = await timed(context, title, () =>
    scoreTexts(reader, lines ? words.split("\n") : [words], other, (done, all) =>
      context.task({ title, status: "progress", fraction: done / all, at: clock() }),
    ),
  );
  return { ...value, weights, stretch: reader.stretch };
}
