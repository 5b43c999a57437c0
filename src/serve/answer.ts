/** What a client gets, in the form of OpenAI's API: completions, their pieces, what they cost, models, and errors. */

import { CompileError, type DiagnosticCode } from "../diagnostics.js";
import type { Kind } from "./request.js";

/** What a request cost. Times are seconds of the chip's clock. */
export interface Usage {
  readonly promptTokens: number;
  /** Those of the prompt that were on the chip before. */
  readonly keptTokens: number;
  readonly completionTokens: number;
  /** For the requests before it. */
  readonly queueSeconds: number;
  readonly promptSeconds: number;
  readonly completionSeconds: number;
  /** For both. */
  readonly totalSeconds: number;
}

/** What all answers to one request have in common. */
export interface Head {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: string;
}

export interface Written {
  readonly text: string;
  readonly finish: "stop" | "length" | undefined;
}

const NAMES = {
  chat: { whole: "chat.completion", piece: "chat.completion.chunk" },
  text: { whole: "text_completion", piece: "text_completion" },
} as const;

export const completion = (kind: Kind, head: Head, { text, finish }: Written, usage: Usage): object => ({
  ...head,
  object: NAMES[kind].whole,
  choices: [
    {
      index: 0,
      ...(kind === "chat" ? { message: { role: "assistant", content: text, refusal: null } } : { text }),
      logprobs: null,
      finish_reason: finish ?? null,
    },
  ],
  usage: usageFields(usage),
});

/** A piece of a stream; the first says who speaks. */
export const completionPiece = (kind: Kind, head: Head, { text, finish }: Written, isFirst: boolean): object => ({
  ...head,
  object: NAMES[kind].piece,
  choices: [
    {
      index: 0,
      ...(kind === "chat"
        ? { delta: { ...(isFirst && { role: "assistant" }), ...((isFirst || text !== "") && { content: text }) } }
        : { text }),
      logprobs: null,
      finish_reason: finish ?? null,
    },
  ],
});

/** The end of a stream that was asked what it cost. */
export const usagePiece = (kind: Kind, head: Head, usage: Usage): object => ({
  ...head,
  object: NAMES[kind].piece,
  choices: [],
  usage: usageFields(usage),
});

const usageFields = (usage: Usage): object => ({
  prompt_tokens: usage.promptTokens,
  completion_tokens: usage.completionTokens,
  total_tokens: usage.promptTokens + usage.completionTokens,
  prompt_tokens_details: { cached_tokens: usage.keptTokens },
  queue_time: usage.queueSeconds,
  prompt_time: usage.promptSeconds,
  completion_time: usage.completionSeconds,
  total_time: usage.totalSeconds,
});

export const modelFields = (id: string, created: number): object => ({
  id,
  object: "model",
  created,
  owned_by: "metronome",
});

export const modelList = (id: string, created: number): object => ({
  object: "list",
  data: [modelFields(id, created)],
});

interface ErrorKind {
  readonly status: number;
  readonly type: string;
  readonly code: string | null;
}

const BAD: ErrorKind = { status: 400, type: "invalid_request_error", code: null };

/** Errors that a client can cause; any other is the server's own. */
const ERRORS: Partial<Record<DiagnosticCode, ErrorKind>> = {
  LPU5105: { ...BAD, code: "context_length_exceeded" },
  LPU5106: BAD,
  LPU5109: BAD,
  LPU5201: BAD,
  LPU5202: { ...BAD, status: 404, code: "model_not_found" },
  LPU5203: { ...BAD, status: 404, code: "unknown_url" },
  LPU5204: { ...BAD, status: 413, code: "request_too_large" },
  LPU5205: { status: 429, type: "rate_limit_error", code: "queue_full" },
  LPU5206: { status: 503, type: "server_error", code: "stopping" },
};

/** Any error as status and body. What is not the client's business stays here. */
export function errorAnswer(error: unknown): { readonly status: number; readonly body: object } {
  const known = error instanceof CompileError ? ERRORS[error.code] : undefined;
  if (!(error instanceof CompileError) || known === undefined)
    return {
      status: 500,
      body: { error: { message: "the server failed", type: "server_error", param: null, code: null } },
    };
  const { status, type, code } = known;
  return { status, body: { error: { message: error.details.message, type, param: error.details.at ?? null, code } } };
}
