/**
 * A thread of a crew: does its share of every run until there are no more.
 */

import { workerData } from "node:worker_threads";
import { at } from "../../diagnostics.js";
import { bindKernels } from "../kernels/kernels.js";
import { memoryOf } from "../kernels/table.js";
import type { CrewData } from "./crew.js";
import { ALL, awaitWord, END, tellCalls, tellLeft, WORD } from "./progress.js";
import { functionsOf, runShare } from "./share.js";

// The boundary between the threads: foreman.ts starts this file with this record.
const { data, thread } = workerData as { readonly data: CrewData; readonly thread: number };
const { progress } = data;
const bound = bindKernels(memoryOf(data.memory), data.code);
const programs = data.shares.map((shares) => {
  const share = at(shares, thread, "share");
  return { share, functions: functionsOf(share, bound) };
});
for (let runs = 0; ; ) {
  runs = awaitWord(progress, WORD.start, (word) => word !== runs);
  if (runs === END) break;
  try {
    const { share, functions } = at(programs, Atomics.load(progress, WORD.program), "program");
    runShare(share, functions, progress);
    tellCalls(progress, thread, ALL);
  } catch {
    tellLeft(progress, thread);
  }
}
