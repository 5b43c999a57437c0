/** Opens a decoder for the jobs that write text with it: what they are asked for, and the stages of its build. */

import { type LanguageModel, type Message, openLanguageModel } from "../../src/index.js";
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

/** `prompt`: what is written on from, or answered, first, as far as that is known. */
export const openDecoder = (
  request: DecoderRequest,
  context: Pick<JobContext<never>, "task">,
  prompt?: string | readonly Message[],
): Promise<LanguageModel> => {
  const { tokenizer, context: positions, prefill, target, stages, tensor, bind, weights, keep, rebuild } = request;
  return openLanguageModel(request.model, {
    ...{ tokenizer, context: positions, prefill, target, stages, tensor, bind, weights, keep, rebuild, prompt },
    text: true,
    cacheDir: request.cacheFolder ?? false,
    onStage: ({ stage, ...event }) => context.task({ ...event, title: STAGES[stage].title, at: clock() }),
  });
};
