/**
 * The crew of a machine: further threads that stay up from run to run, each with a share of every program.
 *
 * The thread that runs the machine does a share too, and waits for the others as they wait for each other (progress.ts). While it
 * waits it hears nothing, so the others have a foreman, a thread that does nothing but see one of them end. None of them keeps
 * the process up, and all end when the crew is dismissed.
 */

import { Worker } from "node:worker_threads";
import type { KernelCode } from "../kernels/kernels.js";
import type { WasmMemory } from "../../wasm/api.js";
import { ALL, awaitCalls, awaitEnd, END, progressWords, refuseRun, tellCalls, tellLeft, WORD } from "./progress.js";
import type { Share } from "./share.js";

/** What a thread is given. */
export interface CrewData {
  readonly memory: WasmMemory;
  readonly code: KernelCode;
  readonly progress: Int32Array;
  /** By program, then by thread; the first is that of the thread that runs the machine. */
  readonly shares: readonly (readonly Share[])[];
}

/** What the foreman is given. */
export interface ForemanData extends CrewData {
  readonly threads: number;
  /** The file that a thread runs. */
  readonly script: string;
}

export interface Crew {
  /** A run of a program, of which `own` does the first share. LPU4036 if a thread has ended or all are dismissed. */
  readonly run: (program: number, own: (progress: Int32Array) => void) => void;
  /** Ends the threads. */
  readonly dismiss: () => void;
}

const WORKER = new URL("./worker.js", import.meta.url);

/** `threads`: with the one that runs the machine; `script` is what the others run. */
export function startCrew(data: Omit<CrewData, "progress">, threads: number, script = WORKER): Crew {
  const progress = progressWords(threads);
  const workerData: ForemanData = { ...data, progress, threads, script: script.href };
  const foreman = new Worker(new URL("./foreman.js", import.meta.url), { workerData });
  foreman.unref();
  const others = Array.from({ length: threads - 1 }, (_, index) => index + 1);
  return {
    run: (program, own) => {
      for (let thread = 0; thread < threads; thread++) tellCalls(progress, thread, 0);
      // Looked at after the words are set, so that a thread that ends now is seen here or leaves its word.
      if (Atomics.load(progress, WORD.broken) !== 0) refuseRun();
      Atomics.store(progress, WORD.program, program);
      Atomics.add(progress, WORD.start, 1);
      Atomics.notify(progress, WORD.start);
      try {
        own(progress);
      } catch (error) {
        tellLeft(progress, 0);
        throw error;
      } finally {
        for (const thread of others) awaitEnd(progress, thread);
      }
      for (const thread of others) awaitCalls(progress, thread, ALL);
    },
    dismiss: () => {
      Atomics.store(progress, WORD.broken, 1);
      Atomics.store(progress, WORD.start, END);
      Atomics.notify(progress, WORD.start);
    },
  };
}
