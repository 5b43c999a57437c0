/**
 * What a client asks for, in the form of OpenAI's API: a body of JSON to a record. A field that changes nothing here is let
 * be, one that is not supported is refused by its name, and so is one that the API does not have.
 */

import { CompileError, fail } from "../diagnostics.js";
import type { Message } from "../language/chat.js";
import type { GenerateOptions } from "../language/model.js";

/** One of the two kinds of completions. */
export type Kind = "chat" | "text";

export interface CompletionRequest {
  readonly model: string;
  /** Text or tokens to write on from, or a chat to answer. */
  readonly prompt: { readonly text: string | readonly number[] } | { readonly messages: readonly Message[] };
  readonly options: GenerateOptions;
  /** Pieces as they are written, and what they cost at the end if that is asked for. */
  readonly stream: false | { readonly usage: boolean };
}

type Fields = Readonly<Record<string, unknown>>;

interface Field {
  readonly kinds: readonly Kind[];
  /** What it must be, for the message. */
  readonly expected: string;
  readonly holds: (value: unknown) => boolean;
}

const BOTH: readonly Kind[] = ["chat", "text"];
const isNumber = (least: number, most: number) => (value: unknown) =>
  typeof value === "number" && value >= least && value <= most;
const isCount = (least: number) => (value: unknown) => Number.isSafeInteger(value) && Number(value) >= least;
const isText = (value: unknown): value is string => typeof value === "string";
const isTokens = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every((token) => typeof token === "number");
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);
const isRecord = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isEmpty = (value: unknown): boolean =>
  Object.keys(isRecord(value) || Array.isArray(value) ? value : { value }).length === 0;
const anything = (): boolean => true;

const number = (least: number, most: number): Field => ({
  kinds: BOTH,
  expected: `a number from ${least} to ${most}`,
  holds: isNumber(least, most),
});
const count = (least: number, kinds = BOTH): Field => ({
  kinds,
  expected: `a whole number of at least ${least}`,
  holds: isCount(least),
});
/** A field of which only one value is supported. */
const only = (value: boolean | number | string, kinds = BOTH): Field => ({
  kinds,
  expected: `${JSON.stringify(value)}, the only one that is supported`,
  holds: (given) => given === value,
});
const nothing = (kinds: readonly Kind[]): Field => ({
  kinds,
  expected: "nothing: it is not supported",
  holds: isEmpty,
});
/** A field that changes nothing of what is written here. */
const ignored = (kinds = BOTH): Field => ({ kinds, expected: "anything", holds: anything });

/** `null` is as good as nothing in each of them. */
const FIELDS: Readonly<Record<string, Field>> = {
  model: { kinds: BOTH, expected: "the name of a model", holds: isText },
  messages: { kinds: ["chat"], expected: "a list of messages, each with a role and a text", holds: Array.isArray },
  prompt: { kinds: ["text"], expected: "a text or a list of tokens", holds: anything },
  max_tokens: count(1),
  max_completion_tokens: count(1, ["chat"]),
  temperature: number(0, 2),
  top_p: number(0, 1),
  top_k: count(0),
  repetition_penalty: {
    kinds: BOTH,
    expected: "a number above 0",
    holds: (value) => typeof value === "number" && value > 0 && Number.isFinite(value),
  },
  presence_penalty: number(-2, 2),
  frequency_penalty: number(-2, 2),
  seed: { kinds: BOTH, expected: "a whole number", holds: Number.isSafeInteger },
  stop: {
    kinds: BOTH,
    expected: "a text or a list of texts",
    holds: (value) => isText(value) || isTexts(value),
  },
  stream: { kinds: BOTH, expected: "true or false", holds: (value) => typeof value === "boolean" },
  stream_options: { kinds: BOTH, expected: "a record", holds: isRecord },
  n: only(1),
  best_of: only(1, ["text"]),
  echo: only(false, ["text"]),
  suffix: nothing(["text"]),
  logprobs: { ...only(false), holds: (value) => value === false || value === 0 },
  top_logprobs: only(0, ["chat"]),
  logit_bias: nothing(BOTH),
  tools: nothing(["chat"]),
  tool_choice: { ...only("none", ["chat"]), holds: (value) => value === "none" || value === "auto" },
  functions: nothing(["chat"]),
  function_call: only("none", ["chat"]),
  response_format: {
    kinds: ["chat"],
    expected: '{ "type": "text" }, the only one that is supported',
    holds: (value) => isRecord(value) && value["type"] === "text",
  },
  modalities: {
    kinds: ["chat"],
    expected: '["text"], the only one that is supported',
    holds: (value) => Array.isArray(value) && value.every((one) => one === "text"),
  },
  audio: nothing(["chat"]),
  prediction: ignored(["chat"]),
  web_search_options: nothing(["chat"]),
  reasoning_effort: only("none", ["chat"]),
  verbosity: only("medium", ["chat"]),
  parallel_tool_calls: ignored(["chat"]),
  user: ignored(),
  metadata: ignored(["chat"]),
  store: only(false, ["chat"]),
  service_tier: ignored(["chat"]),
  safety_identifier: ignored(["chat"]),
  prompt_cache_key: ignored(["chat"]),
  prompt_cache_retention: ignored(["chat"]),
};

/**
 * @throws LPU5201 for a body that is not JSON, and for the first field that is not understood or not supported.
 */
export function readRequest(kind: Kind, body: string): CompletionRequest {
  const given = parsed(body);
  const fields = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  for (const [name, value] of Object.entries(fields)) {
    const field = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
    if (field === undefined || !field.kinds.includes(kind)) refuse(name, `unrecognized request argument: ${name}`);
    else if (!field.holds(value)) refuse(name, `${name}: expected ${field.expected}`);
  }
  const { model, stream, stream_options: streamed } = fields;
  if (!isText(model)) return refuse("model", "model: expected the name of a model, found nothing");
  return {
    model,
    prompt: kind === "chat" ? { messages: messagesOf(fields["messages"]) } : { text: promptOf(fields["prompt"]) },
    options: optionsOf(fields),
    stream: stream === true && { usage: isRecord(streamed) && streamed["include_usage"] === true },
  };
}

function parsed(body: string): Fields {
  try {
    const value: unknown = JSON.parse(body);
    if (isRecord(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return fail("LPU5201", { message: `the body is not JSON: ${error.message}` });
  }
  return fail("LPU5201", { message: "the body is JSON, but not an object" });
}

/** Of fields that hold what they must. What is not given stays as the model's files say, or as the API says. */
function optionsOf(fields: Fields): GenerateOptions {
  const numbers: readonly (readonly [keyof GenerateOptions, unknown])[] = [
    ["maxTokens", fields["max_completion_tokens"] ?? fields["max_tokens"]],
    ["temperature", fields["temperature"]],
    ["topP", fields["top_p"]],
    ["topK", fields["top_k"]],
    ["repetitionPenalty", fields["repetition_penalty"]],
    ["presencePenalty", fields["presence_penalty"]],
    ["frequencyPenalty", fields["frequency_penalty"]],
    ["seed", fields["seed"]],
  ];
  const { stop = [] } = fields;
  // The table has looked at each.
  return {
    ...Object.fromEntries(numbers.filter(([, value]) => value !== undefined)),
    stop: (isText(stop) ? [stop] : (stop as readonly string[])).filter((text) => text !== ""),
  };
}

/** A text, tokens, or a list that holds one of these. */
function promptOf(prompt: unknown): string | readonly number[] {
  const [only, ...others]: readonly unknown[] = Array.isArray(prompt) ? prompt : [prompt];
  const given = others.length === 0 && (isText(only) || Array.isArray(only)) ? only : prompt;
  if (isText(given) || isTokens(given)) return given;
  return refuse(
    "prompt",
    "prompt: expected a text or a list of tokens; several prompts in one request are not supported",
  );
}

function messagesOf(messages: unknown): readonly Message[] {
  const given: readonly unknown[] = Array.isArray(messages) ? messages : [];
  if (given.length === 0) refuse("messages", "messages: expected at least one message");
  return given.map((message, index) => {
    const place = `messages[${index}]`;
    if (!isRecord(message) || !isText(message["role"])) return refuse(place, `${place}: expected a role and a content`);
    return { role: message["role"], content: contentOf(message["content"], place) };
  });
}

/** A text, or parts of a text. */
function contentOf(content: unknown, place: string): string {
  if (isText(content)) return content;
  if (content === null || content === undefined) return "";
  const parts: readonly unknown[] = Array.isArray(content) ? content : [content];
  return parts
    .map((part) =>
      isRecord(part) && part["type"] === "text" && isText(part["text"])
        ? part["text"]
        : refuse(place, `${place}: expected a content of text alone`),
    )
    .join("");
}

/** `at` is the name of the field. */
const refuse = (at: string, message: string): never => {
  throw new CompileError("LPU5201", { message, at });
};
