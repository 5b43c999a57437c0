/** The server as clients meet it: OpenAI's own, and those that send what they should not. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import { CompileError, type DiagnosticCode } from "../src/diagnostics.js";
import type { LanguageModel } from "../src/language/model.js";
import { errorAnswer } from "../src/serve/answer.js";
import { type Answer, type ServeOptions, type Server, serve } from "../src/serve/server.js";
import { CYCLES, fakeModel } from "./fake-decoder.js";
import { type APIError, type Answered, type Client, openClient, type Sent } from "./openai-client.js";

const MESSAGES = [{ role: "user", content: "Once upon" }] as const;
const GREEDY = { model: "fake", temperature: 0 } as const;

const open: Server[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function served(
  model: LanguageModel,
  options: Partial<ServeOptions> = {},
): Promise<{ readonly url: string; readonly client: Client; readonly answers: readonly Answer[] }> {
  const answers: Answer[] = [];
  const onAnswer = (answer: Answer): void => void answers.push(answer);
  const server = await serve(model, { name: "fake", port: 0, now: () => 5000, onAnswer, ...options });
  open.push(server);
  return { url: server.url, client: await openClient(server.url), answers };
}

/** What the model writes without a server. */
async function written(prompt: string, maxTokens: number): Promise<string> {
  let text = "";
  for await (const piece of fakeModel().generate(prompt, { maxTokens })) text += piece.text;
  return text;
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((done) => setTimeout(done, 2));
};

describe("the official client", () => {
  test("finds the model, chats and completes", async () => {
    const { client } = await served(fakeModel());
    expect((await client.models.list()).data).toEqual([
      { id: "fake", object: "model", created: 5, owned_by: "metronome" },
    ]);
    expect((await client.models.retrieve("fake")).id).toBe("fake");
    const chat = await client.chat.completions.create({ ...GREEDY, messages: [...MESSAGES], max_tokens: 7 });
    expect(chat.choices).toEqual([
      {
        index: 0,
        message: { role: "assistant", content: await written("user:Once upon;", 7), refusal: null },
        logprobs: null,
        finish_reason: "length",
      },
    ]);
    const text = await client.completions.create({ ...GREEDY, prompt: "Once upon", max_tokens: 5 });
    expect(text.choices[0]?.text).toBe(await written("Once upon", 5));
    const tokens = await client.completions.create({ ...GREEDY, prompt: [47, 78, 67, 69], max_tokens: 5 });
    expect(tokens.choices[0]?.text).toBe(await written("Once", 5));
    const parts = [{ role: "user" as const, content: [{ type: "text" as const, text: "Once upon" }] }];
    const same = await client.chat.completions.create({ ...GREEDY, messages: parts, max_completion_tokens: 7 });
    expect(same.choices).toEqual(chat.choices);
  });

  test("streams the same text, and what it cost at the end", async () => {
    const { client } = await served(fakeModel());
    const stream = await client.chat.completions.create({
      ...GREEDY,
      messages: [...MESSAGES],
      max_tokens: 7,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toBe(await written("user:Once upon;", 7));
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason ?? undefined).filter(Boolean)).toEqual(["length"]);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    // 15 tokens of the prompt, and a run for each token but the last.
    expect(chunks.at(-1)?.usage).toMatchObject({
      prompt_tokens: 15,
      completion_tokens: 7,
      total_tokens: 22,
      queue_time: 0,
      prompt_time: (15 * CYCLES.decode) / 900e6,
      completion_time: (6 * CYCLES.decode) / 900e6,
      total_time: (21 * CYCLES.decode) / 900e6,
    });
  });

  test("stops at a text, at the end of the context, and chooses by its seed", async () => {
    const { client } = await served(fakeModel({ context: 20 }));
    const whole = await written("Once", 8);
    const stop = whole.slice(3, 5);
    const stopped = await client.completions.create({ ...GREEDY, prompt: "Once", stop, max_tokens: 8 });
    expect(stopped.choices[0]).toMatchObject({ text: whole.slice(0, whole.indexOf(stop)), finish_reason: "stop" });
    const full = await client.completions.create({ ...GREEDY, prompt: "Once" });
    expect(full.usage?.total_tokens).toBe(22);
    expect(full.choices[0]?.finish_reason).toBe("length");
    const drawn = async (seed: number): Promise<string | undefined> =>
      (await client.completions.create({ model: "fake", prompt: "Once", temperature: 2, seed, max_tokens: 9 }))
        .choices[0]?.text;
    expect(await drawn(4)).toBe(await drawn(4));
    expect(await drawn(4)).not.toBe(await drawn(5));
  });

  test("waits for those before it, on the chip's clock", async () => {
    const { client } = await served(fakeModel());
    const ask = (): Promise<Answered> => client.completions.create({ ...GREEDY, prompt: "Once upon", max_tokens: 5 });
    const times = (await Promise.all([ask(), ask(), ask()])).map(({ usage }) => Number(Object(usage)["queue_time"]));
    const [first = Number.NaN, second = Number.NaN, third = Number.NaN] = times.sort((a, b) => a - b);
    // 9 tokens and 4 runs; for the same prompt again, one token and 4 runs.
    expect(first).toBe(0);
    expect(second).toBeCloseTo((13 * CYCLES.decode) / 900e6, 12);
    expect(third).toBeCloseTo((18 * CYCLES.decode) / 900e6, 12);
  });

  test("goes on from what is on the chip, with the same text", async () => {
    const { client, answers } = await served(fakeModel({ context: 200 }));
    const messages: Sent[] = [...MESSAGES];
    for (const next of ["And then", "And at last"]) {
      const { choices } = await client.chat.completions.create({ ...GREEDY, messages, max_tokens: 4 });
      messages.push({ role: "assistant", content: choices[0]?.message.content ?? "" });
      messages.push({ role: "user", content: next });
    }
    const fresh = await (await served(fakeModel({ context: 200 }))).client.chat.completions.create({
      ...GREEDY,
      messages,
      max_tokens: 4,
    });
    const kept = await client.chat.completions.create({ ...GREEDY, messages, max_tokens: 4 });
    expect(kept.choices).toEqual(fresh.choices);
    expect(fresh.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    // All but the last token of the prompt before: what follows has a role before what was written.
    expect(answers.map(({ usage }) => usage?.keptTokens)).toEqual([0, 14, 43]);
  });

  test("is told what is wrong in the API's own words", async () => {
    const { client } = await served(fakeModel());
    const refused = async (body: object): Promise<unknown> => {
      try {
        await client.chat.completions.create({ ...GREEDY, messages: [...MESSAGES], ...body } as never);
      } catch (error) {
        const { status, code, param, type, message } = error as APIError;
        return [status, type, code, param, message];
      }
      return undefined;
    };
    const bad = [400, "invalid_request_error", null] as const;
    expect(await refused({ model: "other" })).toEqual([
      404,
      "invalid_request_error",
      "model_not_found",
      null,
      "404 the model 'other' does not exist; there is 'fake'",
    ]);
    for (const [body, param, message] of [
      [{ temperature: 3 }, "temperature", "temperature: expected a number from 0 to 2"],
      [{ tempreature: 1 }, "tempreature", "unrecognized request argument: tempreature"],
      [{ prompt: "a" }, "prompt", "unrecognized request argument: prompt"],
      [{ n: 2 }, "n", "n: expected 1, the only one that is supported"],
      [{ tools: [{}] }, "tools", "tools: expected nothing: it is not supported"],
      [{ messages: [] }, "messages", "messages: expected at least one message"],
      [
        { messages: [{ role: "user", content: [{ type: "image_url" }] }] },
        "messages[0]",
        "messages[0]: expected a content of text alone",
      ],
      [{ messages: "a" }, "messages", "messages: expected a list of messages, each with a role and a text"],
      [{ stop: [1] }, "stop", "stop: expected a text or a list of texts"],
    ] as const)
      expect(await refused(body)).toEqual([...bad, param, `400 ${message}`]);
    expect(await refused({ messages: [{ role: "user", content: "a".repeat(80) }] })).toEqual([
      400,
      "invalid_request_error",
      "context_length_exceeded",
      null,
      "400 the context holds 61 tokens; 0 are taken, 86 do not fit",
    ]);
    // What changes nothing is let be.
    expect(await refused({ user: "u", n: 1, tools: [], response_format: { type: "text" }, top_p: null })).toBe(
      undefined,
    );
  });
});

describe("a client that misbehaves", () => {
  const post = async (url: string, body: string): Promise<readonly [number, unknown]> => {
    const answer = await fetch(url, { method: "POST", body });
    return [answer.status, await answer.json()];
  };
  const wrong = (message: unknown, code: string | null = null): object => ({
    error: { message, type: "invalid_request_error", param: null, code },
  });

  test("sends no JSON, too much of it, or asks for what there is not", async () => {
    const { url } = await served(fakeModel());
    const chat = `${url}/chat/completions`;
    expect(await post(chat, "{bad")).toEqual([400, wrong(expect.stringMatching(/^the body is not JSON: /))]);
    expect(await post(chat, "[]")).toEqual([400, wrong("the body is JSON, but not an object")]);
    expect(await post(chat, "x".repeat(5 << 20))).toEqual([
      413,
      wrong("expected a body of at most 4194304 bytes", "request_too_large"),
    ]);
    expect(await post(`${url}/embeddings`, "{}")).toEqual([
      404,
      wrong("unknown request: POST /v1/embeddings", "unknown_url"),
    ]);
    for (const place of [chat, `${url}/models/other`, `${url}/models/%`])
      expect([place, (await fetch(place)).status]).toEqual([place, 404]);
  });

  test("goes away in mid-stream: its request ends, and the next is answered as if it had not been", async () => {
    const runs: number[] = [];
    const { client, answers } = await served(fakeModel({ context: 4000, onRun: (tokens) => void runs.push(tokens) }));
    const stream = await client.completions.create({ ...GREEDY, prompt: "Once", stream: true });
    for await (const _ of stream) break;
    await until(() => answers.length === 1);
    expect(answers[0]?.status).toBe(499);
    expect(runs.length).toBeLessThan(2000);
    const next = await client.completions.create({ ...GREEDY, prompt: "Once upon", max_tokens: 5 });
    expect(next.choices[0]?.text).toBe(await written("Once upon", 5));
  });

  test("goes away while it waits: nothing is run for it", async () => {
    let runs = 0;
    const onRun = (): void => {
      runs += 1;
    };
    const { client, url, answers } = await served(fakeModel({ context: 4000, onRun }));
    const first = client.completions.create({ ...GREEDY, prompt: "Once", max_tokens: 300 });
    await until(() => runs > 0);
    const second = request(`${url}/completions`, { method: "POST" });
    second.on("error", () => undefined);
    await new Promise<void>((sent) => second.end(JSON.stringify({ ...GREEDY, prompt: "Gone" }), sent));
    // The server has heard what came before this.
    await client.models.list();
    second.destroy();
    expect((await first).usage.completion_tokens).toBe(300);
    await until(() => answers.length === 2);
    expect(answers.map(({ status, runs }) => [status, runs])).toEqual([
      [200, 303],
      [499, 0],
    ]);
  });

  test("begins a request and does not end it: others are answered", async () => {
    const { url, client } = await served(fakeModel());
    const slow = request(`${url}/completions`, { method: "POST", headers: { "content-length": "100" } });
    slow.on("error", () => undefined);
    slow.write('{"model"');
    const answer = await client.completions.create({ ...GREEDY, prompt: "Once", max_tokens: 3 });
    expect(answer.choices[0]?.text).toBe(await written("Once", 3));
    slow.destroy();
  });

  test("is one too many", async () => {
    const { client, answers } = await served(fakeModel({ context: 4000 }), { waiting: 1 });
    const ask = (): Promise<unknown> => client.completions.create({ ...GREEDY, prompt: "Once", max_tokens: 100 });
    const settled = await Promise.allSettled([ask(), ask(), ask()]);
    const refused = settled.flatMap((one) => (one.status === "rejected" ? [one.reason as APIError] : []));
    expect(refused.map(({ status, code }) => [status, code])).toEqual([[429, "queue_full"]]);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(2);
  });
});

describe("the server", () => {
  test("stops while it writes: what has begun ends with an error, and no connection stays", async () => {
    const { client } = await served(fakeModel({ context: 100_000 }));
    const stream = await client.completions.create({ ...GREEDY, prompt: "Once", stream: true });
    const read = async (): Promise<void> => {
      for await (const _ of stream) if (open.length > 0) void open.pop()?.close();
    };
    await expect(read()).rejects.toThrow("the server is stopping");
  });

  test("says that a port is taken", async () => {
    const { url } = await served(fakeModel());
    await expect(serve(fakeModel(), { name: "fake", port: Number(new URL(url).port), now: () => 0 })).rejects.toThrow(
      /cannot listen on 127.0.0.1:\d+: .*EADDRINUSE/,
    );
  });

  test("has a status for each error of a client, and keeps what is its own fault to itself", () => {
    const answered = (code: DiagnosticCode): readonly unknown[] => {
      const { status, body } = errorAnswer(new CompileError(code, { message: "row 7" }));
      const { message, type } = Object(body).error;
      return [status, type, message];
    };
    const bad = "invalid_request_error";
    expect(
      (["LPU5201", "LPU5202", "LPU5203", "LPU5204", "LPU5205", "LPU5206", "LPU5207", "LPU4005"] as const).map(answered),
    ).toEqual([
      [400, bad, "row 7"],
      [404, bad, "row 7"],
      [404, bad, "row 7"],
      [413, bad, "row 7"],
      [429, "rate_limit_error", "row 7"],
      [503, "server_error", "row 7"],
      [500, "server_error", "the server failed"],
      [500, "server_error", "the server failed"],
    ]);
  });
});

describe("a chat of a trained model on the command line", () => {
  const folder = mkdtempSync(join(tmpdir(), "metronome-serve-"));
  const decoder = resolve("../shared/fixtures/transformers/stories260K-past/model.onnx");
  const tokenizer = resolve("../shared/fixtures/stories260K/tokenizer.json");
  const lpu = fileURLToPath(new URL("../bin/lpu.js", import.meta.url));
  let child: ChildProcess | undefined;
  afterAll(() => {
    child?.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  /** Starts a command on a folder with the model; the build of the first is in the cache for the next. */
  const started = (command: string, ...options: readonly string[]): ChildProcess | undefined => {
    if (!existsSync(decoder) || !existsSync(tokenizer)) {
      console.log("skipped: fixtures not present");
      return undefined;
    }
    if (!existsSync(join(folder, "model.onnx"))) {
      symlinkSync(decoder, join(folder, "model.onnx"));
      symlinkSync(tokenizer, join(folder, "tokenizer.json"));
      const template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
      writeFileSync(join(folder, "chat_template.jinja"), template);
      writeFileSync(join(folder, "tokenizer_config.json"), '{"bos_token":{"content":"<s>"}}');
    }
    const args = [lpu, command, folder, "--context", "24", "--cache-dir", join(folder, "cache"), ...options];
    child = spawn(process.execPath, args);
    return child;
  };

  /** All that a process says, as it comes. */
  const heard = ({ stdout, stderr }: ChildProcess): (() => string) => {
    let said = "";
    const hear = (text: Buffer): void => {
      said += text.toString();
    };
    stdout?.on("data", hear);
    stderr?.on("data", hear);
    return () => said;
  };
  const ended = (running: ChildProcess): Promise<number | null> =>
    new Promise((done) => running.once("close", (code) => done(code)));

  test("`lpu serve` answers the official client, and stops at an interrupt", async () => {
    const running = started("serve", "--port", "0", "--name", "stories");
    if (running === undefined) return;
    const said = heard(running);
    await until(() => /serving stories on \S+/.test(said()) || running.exitCode !== null);
    const client = await openClient(/serving stories on (\S+)/.exec(said())?.[1] ?? said());
    const { choices, usage } = await client.chat.completions.create({
      model: "stories",
      messages: [{ role: "user", content: "Once upon a time" }],
      temperature: 0,
      max_tokens: 4,
    });
    expect(choices[0]?.message.content).toBe(", there was a");
    expect(usage?.prompt_tokens).toBe(5);
    const end = ended(running);
    running.kill("SIGINT");
    expect(await end).toBe(0);
    expect(said()).toMatch(/requests +1\n/);
    expect(said()).toMatch(/predicted == executed +yes, in 8 runs/);
  });

  test("`lpu generate --chat` answers lines in turn, with the past on the chip", async () => {
    const running = started("generate", "--chat", "--max-tokens", "4");
    if (running === undefined) return;
    const said = heard(running);
    const end = ended(running);
    running.stdin?.end("Once upon a time\n little\n");
    expect(await end).toBe(0);
    expect(said()).toContain("> Once upon a time\n, there was a\n");
    expect(said()).toContain(">  little\n girl named\n");
    // Eight tokens of the first turn, of which the last that was written is taken with the second.
    expect(said()).toMatch(/tokens +15 given \(8 of them on the chip before\), 8 written, 13 runs/);
  });

  test("an interrupt while it waits for a line ends it gently", async () => {
    const running = started("generate", "--chat", "--prompt", "Once", "--max-tokens", "4");
    if (running === undefined) return;
    const said = heard(running);
    const end = ended(running);
    // The answer, and the place of the next line.
    await until(() => /> Once\n[^\n]+\n\n/.test(said()) || running.exitCode !== null);
    running.kill("SIGINT");
    expect(await end).toBe(0);
    expect(said()).toMatch(/predicted == executed +yes, in \d+ runs/);
  });
});
