/** The work of `lpu serve`: a decoder behind OpenAI's API, until there is an interrupt. */

import type { LanguageModel } from "../../src/language/model.js";
import { type Answer, serve } from "../../src/serve/server.js";
import { problemsOf, type Problem } from "../show/problems.js";
import { clock } from "../show/terminal.js";
import { type DecoderRequest, openDecoder } from "./decoder.js";
import type { JobContext } from "./job.js";

export interface ServeRequest extends DecoderRequest {
  readonly host: string;
  readonly port: number;
  /** What clients call the model; as its folder or file is called, if not given. */
  readonly name: string | undefined;
  readonly pasts: number;
}

/** What is told meanwhile: where it listens, and what became of each request. */
export type ServePart =
  | {
      readonly url: string;
      readonly name: string;
      readonly context: number;
      readonly batch: number;
      readonly cyclesOf: LanguageModel["cycles"];
    }
  | { readonly answer: Omit<Answer, "error">; readonly clockMHz: number; readonly problems: readonly Problem[] };

export interface ServeResult {
  readonly requests: number;
  readonly runs: number;
  readonly cycles: number;
  readonly predictedCycles: number;
}

export async function serveJob(request: ServeRequest, context: JobContext<ServePart>): Promise<ServeResult> {
  const model = await openDecoder(request, context);
  const name = request.name ?? model.name;
  let requests = 0;
  const onAnswer = ({ error, ...answer }: Answer): void => {
    requests += 1;
    context.part({ answer, clockMHz: model.clockMHz, problems: error === undefined ? [] : problemsOf(error) });
  };
  const { host, port, pasts } = request;
  const server = await serve(model, { name, host, port, pasts, now: clock, onAnswer });
  context.part({ url: server.url, name, context: model.context, batch: model.batch, cyclesOf: model.cycles });
  await context.ask();
  await server.close();
  const { runs, cycles, predictedCycles } = model.spent();
  return { requests, runs, cycles, predictedCycles };
}
