/** Opens a decoder for the jobs that write text with it: what they are asked for, and the stages of its build. */

import { type LanguageModel, type Message, openLanguageModel } from "../../src/index.js";
import { STAGES } from "../../src/stages.js";
import { clock } from "../show/terminal.js";
import type { JobContext } from "./job.js";
import { type ChipRequest, chipOptions } from "./options.js";

export interface DecoderRequest extends Omit<ChipRequest, "system" | "dead"> {
  readonly model: string;
  readonly tokenizer: string | undefined;
  readonly context: readonly number[] | undefined;
  readonly prefill: readonly number[] | undefined;
  readonly batch: number | undefined;
  readonly bind: Readonly<Record<string, number>>;
  readonly cacheFolder: string | undefined;
  readonly rebuild: boolean;
  /** Of this computer, that chips run on. */
  readonly threads: number;
}

/** `prompt`: what is written on from, or answered, first, as far as that is known. */
export const openDecoder = (
  request: DecoderRequest,
  context: Pick<JobContext<never>, "task">,
  prompt?: string | readonly Message[],
): Promise<LanguageModel> => {
  const { tokenizer, context: positions, prefill, batch, bind, rebuild } = request;
  return openLanguageModel(request.model, {
    ...{
      ...chipOptions({ ...request, system: undefined, dead: [] }),
      tokenizer,
      context: positions,
      prefill,
      batch,
      bind,
      rebuild,
      prompt,
    },
    threads: request.threads,
    text: true,
    cacheDir: request.cacheFolder ?? false,
    onStage: ({ stage, ...event }) => context.task({ ...event, title: STAGES[stage].title, at: clock() }),
  });
};
