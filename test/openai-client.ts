/**
 * The official client of OpenAI's API, as far as tests use it. It is asked for by name when a test runs, so that all else is
 * built and tested without it.
 */

export interface Sent {
  readonly role: string;
  readonly content: string | readonly { readonly type: "text"; readonly text: string }[];
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly queue_time: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** A completion, or a piece of one. */
export interface Answered {
  readonly id: string;
  readonly choices: readonly {
    readonly text: string;
    readonly message: { readonly content: string };
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
  }[];
  readonly usage: Usage;
}

export interface APIError extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly param: string | null;
  readonly type: string;
}

type Fields = Readonly<Record<string, unknown>>;

interface Create {
  (fields: Fields & { readonly stream: true }): Promise<AsyncIterable<Answered>>;
  (fields: Fields, options?: { readonly signal: AbortSignal }): Promise<Answered>;
}

export interface Client {
  readonly models: {
    readonly list: () => Promise<{ readonly data: readonly object[] }>;
    readonly retrieve: (id: string) => Promise<{ readonly id: string }>;
  };
  readonly chat: { readonly completions: { readonly create: Create } };
  readonly completions: { readonly create: Create };
}

const PACKAGE: string = "openai";

export async function openClient(baseURL: string): Promise<Client> {
  const { default: OpenAI } = (await import(PACKAGE)) as { readonly default: new (options: object) => Client };
  return new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
}
