/**
 * The foreman of a crew: starts its threads, and tells those who wait when one of them ends.
 */

import { Worker, workerData } from "node:worker_threads";
import type { ForemanData } from "./crew.js";
import { tellEnded } from "./progress.js";

// The boundary between the threads: crew.ts starts this file with this record.
const data = workerData as ForemanData;
for (let thread = 1; thread < data.threads; thread++) {
  const worker = new Worker(new URL(data.script), { workerData: { data, thread } });
  // What went wrong is followed by the end, of which those who wait are told.
  worker.on("error", () => undefined);
  worker.on("exit", () => tellEnded(data.progress, thread));
}
