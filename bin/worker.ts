/**
 * The thread that does the work of a command: takes one job, answers, and ends.
 */

import { parentPort, workerData } from "node:worker_threads";
import { invariant } from "../src/diagnostics.js";
import { buildJob } from "./build.js";
import { checkJob } from "./check.js";
import type { JobContext, JobMessage, JobName, JobTable } from "./jobs.js";
import { problemsOf } from "./problems.js";
import { runImageJob } from "./run.js";
import { verifyJob } from "./verify.js";

type Job<Name extends JobName> = (
  request: JobTable[Name]["request"],
  context: JobContext<JobTable[Name]["part"]>,
) => JobTable[Name]["result"] | Promise<JobTable[Name]["result"]>;

const JOBS: { readonly [Name in JobName]: Job<Name> } = {
  build: buildJob,
  run: runImageJob,
  check: checkJob,
  verify: verifyJob,
};

async function work<Name extends JobName>(name: Name, request: JobTable[Name]["request"]): Promise<void> {
  const port = parentPort;
  invariant(port !== null, "this file is a worker");
  const send = (message: JobMessage): void => port.postMessage(message);
  try {
    const result = await JOBS[name](request, {
      task: (event) => send({ kind: "task", event }),
      part: (part) => send({ kind: "part", part }),
    });
    send({ kind: "done", result });
  } catch (error) {
    send({ kind: "failed", problems: problemsOf(error) });
  }
}

// The boundary between the threads: jobs.ts starts this file with a name and the request that belongs to it.
const { name, request } = workerData as { readonly name: JobName; readonly request: JobTable[JobName]["request"] };
await work(name, request);
