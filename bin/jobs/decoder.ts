/** Opens a decoder for the jobs that write text with it: what they are asked for, and the stages of its build. */

import { type LanguageModel, openLanguageModel } from "../../src/index.js";
import type { Stages } from "../../src/pipeline.js";
import type { TargetName } from "../../src/ir/target.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import { STAGES } from "../../src/stages.js";
import { clock } from "../show/terminal.js";
import type { JobContext } from "./job.js";

export interface DecoderRequest {
  readonly model: string;
  readonly tokenizer: string | undefined;
  readonly context: number | undefined;
  readonly prefill: number | undefined;
  readonly target: TargetName;
  readonly stages: Stages | undefined;
  readonly tensor: number | undefined;
  readonly bind: Readonly<Record<string, number>>;
  readonly weights: WeightFormatName;
  readonly keep: readonly string[];
  readonly cacheFolder: string | undefined;
  readonly rebuild: boolean;
}

export const openDecoder = (
  request: DecoderRequest,
  context: Pick<JobContext<never>, "task">,
): Promise<LanguageModel> => {
  const { model, cacheFolder, ...options } = request;
  return openLanguageModel(model, {
    ...options,
    text: true,
    cacheDir: cacheFolder ?? false,
    onStage: ({ stage, ...event }) => context.task({ ...event, title: STAGES[stage].title, at: clock() }),
  });
};
