/**
 * Long work runs on a thread of its own, so that this one can keep time, redraw, and take an interrupt.
 *
 * A job is a name and a plain record; the thread answers with task events, with parts of the result as they are done, and
 * at the end with the result or the problems. It may ask for lines meanwhile. An interrupt ends the thread and removes what
 * it was writing; while a question is open, the first interrupt only answers that there is no more.
 */

import { Worker } from "node:worker_threads";
import { DIAGNOSTICS } from "../../src/diagnostics.js";
import { removeUnfinished } from "../../src/host/files.js";
import type { BuildRequest, BuildResult } from "./build.js";
import type { CaseResult, VerifyResult } from "./cases.js";
import type { Piece } from "../../src/language/model.js";
import type { ChatRequest, ChatResult } from "./chat.js";
import type { GenerateRequest, GenerateResult } from "./generate.js";
import type { CheckRequest, CheckResult } from "./check.js";
import { type Problem, ReportedProblems } from "../show/problems.js";
import type { ScoreRequest, ScoreResult } from "./score.js";
import type { ServePart, ServeRequest, ServeResult } from "./serve.js";
import type { PlanRequest, PlanResult } from "./plan.js";
import type { ReportRequest, ReportResult } from "./report.js";
import type { RunRequest, RunReport } from "./run.js";
import type { TaskEvent, TaskReporter } from "../show/stages.js";
import type { TraceRequest, TraceResult } from "./trace.js";
import type { VerifyRequest } from "./verify.js";

export interface JobTable {
  readonly build: { readonly request: BuildRequest; readonly result: BuildResult; readonly part: never };
  readonly run: { readonly request: RunRequest; readonly result: RunReport; readonly part: never };
  readonly generate: { readonly request: GenerateRequest; readonly result: GenerateResult; readonly part: Piece };
  readonly chat: { readonly request: ChatRequest; readonly result: ChatResult; readonly part: Piece };
  readonly serve: { readonly request: ServeRequest; readonly result: ServeResult; readonly part: ServePart };
  readonly score: { readonly request: ScoreRequest; readonly result: ScoreResult; readonly part: never };
  readonly report: { readonly request: ReportRequest; readonly result: ReportResult; readonly part: never };
  readonly trace: { readonly request: TraceRequest; readonly result: TraceResult; readonly part: never };
  readonly check: { readonly request: CheckRequest; readonly result: CheckResult; readonly part: never };
  readonly plan: { readonly request: PlanRequest; readonly result: PlanResult; readonly part: never };
  readonly verify: { readonly request: VerifyRequest; readonly result: VerifyResult; readonly part: CaseResult };
}
export type JobName = keyof JobTable;

export type JobMessage =
  | { readonly kind: "task"; readonly event: TaskEvent }
  | { readonly kind: "note"; readonly text: string }
  | { readonly kind: "part"; readonly part: unknown }
  | { readonly kind: "ask" }
  | { readonly kind: "done"; readonly result: unknown }
  | { readonly kind: "failed"; readonly problems: readonly Problem[] };

export interface JobListener<Part> {
  readonly tasks: TaskReporter;
  readonly part?: (part: Part) => void;
  /** Answers what the job asks; without it, the answer comes with an interrupt. */
  readonly answer?: () => Promise<string | undefined>;
  /** Folders in which the job writes. */
  readonly writes?: readonly string[];
}

export function runJob<Name extends JobName>(
  name: Name,
  request: JobTable[Name]["request"],
  listener: JobListener<JobTable[Name]["part"]>,
): Promise<JobTable[Name]["result"]> {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: { name, request } });
  let asked = false;
  const reply = (line: string | undefined): void => {
    if (asked) worker.postMessage(line);
    asked = false;
  };
  const interrupt = (signal: NodeJS.Signals): void => {
    if (asked) {
      reply(undefined);
      return;
    }
    void worker.terminate().then(() => {
      listener.tasks.close();
      for (const folder of listener.writes ?? []) removeUnfinished(folder);
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
      process.kill(process.pid, signal);
    });
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  return new Promise<JobTable[Name]["result"]>((resolve, reject) => {
    // The boundary between the threads: worker.ts answers a job with the types that JobTable gives it.
    worker.on("message", (message: JobMessage) => {
      if (message.kind === "task") listener.tasks.event(message.event);
      else if (message.kind === "note") process.stderr.write(`${message.text}\n`);
      else if (message.kind === "part") listener.part?.(message.part as JobTable[Name]["part"]);
      else if (message.kind === "ask") {
        asked = true;
        void listener.answer?.().then(reply, reject);
      } else if (message.kind === "done") resolve(message.result as JobTable[Name]["result"]);
      else reject(new ReportedProblems(message.problems));
    });
    worker.on("error", (error) =>
      reject(
        "code" in error && error.code === "ERR_WORKER_OUT_OF_MEMORY" ? new ReportedProblems([OUT_OF_MEMORY]) : error,
      ),
    );
    worker.on("exit", () =>
      reject(
        new ReportedProblems([
          {
            code: "LPU5000",
            message: "internal error: the thread that did the work ended without an answer",
            hint: DIAGNOSTICS.LPU5000.hint,
          },
        ]),
      ),
    );
  }).finally(() => {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    listener.tasks.close();
  });
}

const OUT_OF_MEMORY: Problem = {
  code: "LPU5000",
  message: "out of memory",
  hint: "build a smaller model, or give node more memory (NODE_OPTIONS=--max-old-space-size=8192)",
};
