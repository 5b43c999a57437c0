/**
 * What the threads of a machine tell each other, as int32 words that they share: nobody polls, whoever waits is woken.
 *
 * `start` counts runs, and is END once there will be none; `program` is the one to run; `broken` is 1 once a thread has ended. Behind
 * these each thread has a word: how many calls of the run it has made, ALL when it is done, LEFT when it will make no more.
 */

import { fail } from "../../diagnostics.js";

export const WORD = { start: 0, program: 1, broken: 2, threads: 3 } as const;
export const END = -1;
export const ALL = 2 ** 31 - 1;
const LEFT = -1;

export const progressWords = (threads: number): Int32Array =>
  new Int32Array(new SharedArrayBuffer((WORD.threads + threads) * 4));

export function tellCalls(progress: Int32Array, thread: number, calls: number): void {
  Atomics.store(progress, WORD.threads + thread, calls);
  Atomics.notify(progress, WORD.threads + thread);
}

export const tellLeft = (progress: Int32Array, thread: number): void => tellCalls(progress, thread, LEFT);

/** A thread has ended, and takes part in no run any more. */
export function tellEnded(progress: Int32Array, thread: number): void {
  Atomics.store(progress, WORD.broken, 1);
  tellLeft(progress, thread);
}

export const refuseRun = (): never => fail("LPU4036", { message: "a thread of the machine has ended" });

/** Waits until a thread has made so many calls of the run. LPU4036 if it will not. */
export function awaitCalls(progress: Int32Array, thread: number, calls: number): void {
  const made = awaitWord(progress, WORD.threads + thread, (word) => word >= calls || word === LEFT);
  if (made === LEFT) refuseRun();
}

/** Waits until a thread does nothing for the run any more. */
export const awaitEnd = (progress: Int32Array, thread: number): number =>
  awaitWord(progress, WORD.threads + thread, (word) => word === ALL || word === LEFT);

/** Waits until a word is as wanted. */
export function awaitWord(progress: Int32Array, at: number, isWanted: (word: number) => boolean): number {
  for (;;) {
    const word = Atomics.load(progress, at);
    if (isWanted(word)) return word;
    Atomics.wait(progress, at, word);
  }
}
