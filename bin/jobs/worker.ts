/**
 * The thread that does the work of a command: takes one job, answers, and ends. It loads only what its job needs.
 */

import type { JobContext } from "./job.js";
import { parentPort, workerData } from "node:worker_threads";
import { invariant } from "../../src/diagnostics.js";
import type { JobMessage, JobName, JobTable } from "./jobs.js";
import { problemsOf } from "../show/problems.js";

type Job<Name extends JobName> = (
  request: JobTable[Name]["request"],
  context: JobContext<JobTable[Name]["part"]>,
) => JobTable[Name]["result"] | Promise<JobTable[Name]["result"]>;

const JOBS: { readonly [Name in JobName]: () => Promise<Job<Name>> } = {
  build: async () => (await import("./build.js")).buildJob,
  run: async () => (await import("./run.js")).runImageJob,
  generate: async () => (await import("./generate.js")).generateJob,
  chat: async () => (await import("./chat.js")).chatJob,
  serve: async () => (await import("./serve.js")).serveJob,
  score: async () => (await import("./score.js")).scoreJob,
  report: async () => (await import("./report.js")).reportJob,
  trace: async () => (await import("./trace.js")).traceJob,
  check: async () => (await import("./check.js")).checkJob,
  plan: async () => (await import("./plan.js")).planJob,
  verify: async () => (await import("./verify.js")).verifyJob,
};

async function work<Name extends JobName>(name: Name, request: JobTable[Name]["request"]): Promise<void> {
  const port = parentPort;
  invariant(port !== null, "this file is a worker");
  const send = (message: JobMessage): void => port.postMessage(message);
  try {
    const job = await JOBS[name]();
    const result = await job(request, {
      task: (event) => send({ kind: "task", event }),
      note: (text) => send({ kind: "note", text }),
      part: (part) => send({ kind: "part", part }),
      ask: () =>
        new Promise((resolve) => {
          port.once("message", resolve);
          send({ kind: "ask" });
        }),
    });
    send({ kind: "done", result });
  } catch (error) {
    send({ kind: "failed", problems: problemsOf(error) });
  }
}

// The boundary between the threads: jobs.ts starts this file with a name and the request that belongs to it.
const { name, request } = workerData as { readonly name: JobName; readonly request: JobTable[JobName]["request"] };
await work(name, request);
