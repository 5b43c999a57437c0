/**
 * A language model behind OpenAI's API: chats and completions, whole or as server-sent events, as many at a time as it takes
 * sequences side by side.
 *
 * The machine and the server share a thread: between two runs everyone has a turn. A client that goes away ends its request
 * there, one that is slow to read is not waited for, and one that is slow to write is sent away by the server's own limits.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { CompileError, fail, invariant } from "../diagnostics.js";
import type { LanguageModel, Piece } from "../language/model.js";
import { type KeptPasts, keptPasts } from "../language/pasts.js";
import {
  completion,
  completionPiece,
  errorAnswer,
  type Head,
  modelFields,
  modelList,
  type Usage,
  usagePiece,
} from "./answer.js";
import { type CompletionRequest, type Kind, readRequest } from "./request.js";
import { type Turns, turns } from "./turns.js";

export interface ServeOptions {
  /** What clients call the model. */
  readonly name: string;
  /** 127.0.0.1 if not given, which only this computer can reach. */
  readonly host?: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Pasts that are kept for prompts which begin like one before, each as large as the states. */
  readonly pasts?: number;
  /** Requests that may wait. */
  readonly waiting?: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told of each completion when it ends, however it ends. */
  readonly onAnswer?: (answer: Answer) => void;
}

/** What became of a request. */
export interface Answer {
  readonly path: string;
  /** Of HTTP; 499 for a client that went away. */
  readonly status: number;
  readonly usage: Usage | undefined;
  readonly cycles: number;
  readonly predictedCycles: number;
  readonly runs: number;
  /** What is wrong, if it is not the client's fault. */
  readonly error?: unknown;
}

export interface Server {
  readonly url: string;
  /** Ends what runs, answers what waits that it is too late, and closes all connections. */
  readonly close: () => Promise<void>;
}

/** Starts to listen. LPU5207 if it cannot. */
export async function serve(model: LanguageModel, options: ServeOptions): Promise<Server> {
  const { name, host = "127.0.0.1", port, now, onAnswer = () => undefined } = options;
  const stopping = new AbortController();
  let count = 0;
  const service: Service = {
    model,
    name,
    pasts: keptPasts(options.pasts ?? PASTS),
    queue: turns(options.waiting ?? WAITING, model.batch),
    stopping: stopping.signal,
    chip: { cycles: model.spent().cycles },
    onAnswer,
    seconds: () => Math.floor(now() / 1000),
    started: Math.floor(now() / 1000),
    nextId: () => {
      count += 1;
      return count;
    },
  };
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 30_000 }, (request, response) => {
    void handle(service, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, host, resolve);
  }).catch((error: Error) => fail("LPU5207", { message: `cannot listen on ${host}:${port}: ${error.message}` }));
  // An address of a network: a path is not listened on.
  const { port: own } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${own}/v1`,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      stopping.abort();
      // All that were asked before are answered when the last in the queue is.
      await service.queue.done();
      server.closeAllConnections();
      await closed;
    },
  };
}

const WAITING = 64;
const PASTS = 4;

interface Service extends Required<Pick<ServeOptions, "name" | "onAnswer">> {
  readonly model: LanguageModel;
  readonly pasts: KeptPasts;
  readonly queue: Turns;
  readonly stopping: AbortSignal;
  /** Its clock when the last piece was written. */
  readonly chip: { cycles: number };
  /** Since the epoch. */
  readonly seconds: () => number;
  readonly started: number;
  readonly nextId: () => number;
}

const COMPLETIONS: Readonly<Record<string, Kind>> = { "/v1/chat/completions": "chat", "/v1/completions": "text" };
const MODELS = "/v1/models";

async function handle(service: Service, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = "/"] = (request.url ?? "/").split("?");
  const { name, started } = service;
  try {
    const kind = Object.hasOwn(COMPLETIONS, path) ? COMPLETIONS[path] : undefined;
    if (request.method === "POST" && kind !== undefined) await complete(service, kind, path, request, response);
    else if (request.method === "GET" && path === MODELS) sendJson(response, 200, modelList(name, started));
    else if (request.method === "GET" && path.startsWith(`${MODELS}/`)) {
      const asked = path.slice(MODELS.length + 1);
      expectModel(asked === encodeURIComponent(name) ? name : asked, name);
      sendJson(response, 200, modelFields(name, started));
    } else fail("LPU5203", { message: `unknown request: ${request.method} ${path}` });
  } catch (error) {
    sendError(response, error);
  }
}

/** Answers one request for a completion, and tells what became of it. */
async function complete(
  service: Service,
  kind: Kind,
  path: string,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { model, queue, chip, stopping, onAnswer } = service;
  // Ends the request between two runs, for one of two reasons.
  const ended = new AbortController();
  const end = (): void => ended.abort();
  let gone = false;
  response.once("close", () => {
    gone = true;
    end();
  });
  if (stopping.aborted) end();
  stopping.addEventListener("abort", end);
  const cost: Cost = { cycles: 0, predictedCycles: 0, runs: 0, usage: undefined };
  const tell = (status: number, error?: unknown): void =>
    onAnswer({ path, status, ...cost, ...(error !== undefined && { error }) });
  try {
    const request = readRequest(kind, await bodyOf(incoming));
    expectModel(request.model, service.name);
    const { prompt } = request;
    const tokens =
      "messages" in prompt
        ? model.encodeChat(prompt.messages)
        : typeof prompt.text === "string"
          ? model.encode(prompt.text)
          : prompt.text;
    const asked = chip.cycles;
    const { signal } = ended;
    await queue.next(async () => {
      signal.throwIfAborted();
      await write(service, { kind, request, tokens, signal, asked }, response, cost);
    });
    tell(200);
  } catch (error) {
    if (gone) return tell(GONE);
    const told = stopping.aborted ? new CompileError("LPU5206", { message: "the server is stopping" }) : error;
    const status = sendError(response, told);
    tell(status, status === 500 ? error : undefined);
  } finally {
    stopping.removeEventListener("abort", end);
  }
}

/** What nginx calls a client that went away. */
const GONE = 499;

interface Work {
  readonly kind: Kind;
  readonly request: CompletionRequest;
  readonly tokens: readonly number[];
  readonly signal: AbortSignal;
  /** Cycles of the chip when the request came. */
  readonly asked: number;
}

/** What a request has cost so far. */
interface Cost {
  cycles: number;
  predictedCycles: number;
  runs: number;
  usage: Usage | undefined;
}

/** Writes an answer, whole or piece by piece, while it is the request's turn. */
async function write(
  { model, name, pasts, chip, seconds, nextId }: Service,
  { kind, request, tokens, signal, asked }: Work,
  response: ServerResponse,
  cost: Cost,
): Promise<void> {
  const { stream } = request;
  const head: Head = { id: `${ID[kind]}-${nextId()}`, created: seconds(), model: name };
  const hertz = model.clockMHz * 1e6;
  const begin = model.spent().cycles;
  const queueSeconds = (begin - asked) / hertz;
  let promptCycles = 0;
  const options = { ...USUAL, ...model.sampling, ...request.options, pasts, signal };
  const pieces: Piece[] = [];
  for await (const piece of model.generate(tokens, options)) {
    const isFirst = pieces.length === 0;
    pieces.push(piece);
    cost.cycles += piece.cycles;
    cost.predictedCycles += piece.predictedCycles;
    cost.runs += piece.runs;
    chip.cycles = model.spent().cycles;
    const cycles = chip.cycles - begin;
    if (isFirst) promptCycles = cycles;
    cost.usage = {
      promptTokens: tokens.length,
      keptTokens: pieces[0]?.kept ?? 0,
      completionTokens: pieces.length,
      queueSeconds,
      promptSeconds: promptCycles / hertz,
      completionSeconds: (cycles - promptCycles) / hertz,
      totalSeconds: cycles / hertz,
    };
    const written = { text: piece.text, finish: piece.finish };
    if (stream && (isFirst || piece.text !== "" || piece.finish !== undefined))
      sendEvent(response, completionPiece(kind, head, written, isFirst));
  }
  const { usage } = cost;
  invariant(usage !== undefined, "a text has a piece");
  const whole = { text: pieces.map(({ text }) => text).join(""), finish: pieces.at(-1)?.finish };
  if (stream === false) sendJson(response, 200, completion(kind, head, whole, usage));
  else {
    if (stream.usage) sendEvent(response, usagePiece(kind, head, usage));
    response.end("data: [DONE]\n\n");
  }
}

const ID: Readonly<Record<Kind, string>> = { chat: "chatcmpl", text: "cmpl" };

/** What the API does where neither a request nor the model's files say it. */
const USUAL = { temperature: 1 } as const;

function expectModel(asked: string, name: string): void {
  if (asked !== name) fail("LPU5202", { message: `the model '${asked}' does not exist; there is '${name}'` });
}

async function bodyOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    // A stream of bytes, since no encoding is set.
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > MAX_BODY) fail("LPU5204", { message: `expected a body of at most ${MAX_BODY} bytes` });
  }
  return Buffer.concat(chunks).toString("utf8");
}
const MAX_BODY = 1 << 22;

function sendJson(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function sendEvent(response: ServerResponse, value: object): void {
  if (!response.headersSent)
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.write(`data: ${JSON.stringify(value)}\n\n`);
}

/** As an answer, or as the last event of one that has begun; gives its status. */
function sendError(response: ServerResponse, error: unknown): number {
  const { status, body } = errorAnswer(error);
  if (response.destroyed || response.writableEnded) return status;
  if (response.headersSent) response.end(`data: ${JSON.stringify(body)}\n\n`);
  else {
    // What is left of a body that was not read would be taken for the next request.
    if (!response.req.complete) response.setHeader("connection", "close");
    sendJson(response, status, body);
  }
  return status;
}
