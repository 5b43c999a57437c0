/**
 * Shares: what each of several threads does of a program, and what of each other they wait for.
 *
 * Chip c is on thread c mod threads. A thread makes the calls of its chips in the order of the program, and stops only where a
 * vector comes from a chip of another thread: that is known when the program is linked. Since the order of the program respects
 * every dependency, some thread can always go on. Which thread does what changes no bit.
 */

import { at } from "../../diagnostics.js";
import { IntList } from "../link/tables.js";
import type { LinkedProgram } from "../link/link.js";
import type { BoundKernel } from "../kernels/kernels.js";
import { awaitCalls, tellCalls } from "./progress.js";

export interface Share {
  readonly thread: number;
  readonly kernels: Int32Array;
  readonly pointers: Int32Array;
  /** Triples: before which call, a thread, and a number of calls: waits until another has made so many, or says that it has. */
  readonly stops: Int32Array;
}

export type SharedProgram = Pick<LinkedProgram, "kernels" | "pointers" | "chips" | "crossings">;

export function sharesOf({ kernels, pointers, chips, crossings }: SharedProgram, threads: number): readonly Share[] {
  const ownerOf = (call: number): number => (chips[call] as number) % threads;
  const own = Array.from({ length: threads }, () => ({ kernels: new IntList(), pointers: new IntList() }));
  /** By call: how many its thread has made once it is done. */
  const made = Int32Array.from(kernels, (kernel, call) => {
    const share = at(own, ownerOf(call), "thread");
    share.pointers.push(pointers[call] as number);
    return share.kernels.push(kernel) + 1;
  });
  const waits = own.map((): Stop[] => []);
  const tells = own.map(() => new Set<number>());
  const known = own.map(() => new Int32Array(threads));
  for (let pair = 0; pair < crossings.length; pair += 2) {
    const [taker, sender] = [crossings[pair] as number, (crossings[pair + 1] as number) - 1];
    const [waiter, other, calls] = [ownerOf(taker), ownerOf(sender), made[sender] as number];
    const seen = at(known, waiter, "thread");
    if (waiter === other || calls <= (seen[other] as number)) continue;
    seen[other] = calls;
    at(waits, waiter, "thread").push([(made[taker] as number) - 1, other, calls]);
    at(tells, other, "thread").add(calls);
  }
  return own.map((lists, thread) => {
    const told = Array.from(at(tells, thread, "thread"), (calls): Stop => [calls, thread, calls]);
    // A thread says what it has done before it waits.
    const stops = [...told, ...at(waits, thread, "thread")].sort((a, b) => a[0] - b[0]);
    return {
      thread,
      kernels: lists.kernels.view().slice(),
      pointers: lists.pointers.view().slice(),
      stops: Int32Array.from(stops.flat()),
    };
  });
}

type Stop = readonly [call: number, thread: number, calls: number];

/** The functions of a share's calls. */
export const functionsOf = ({ kernels }: Share, bound: readonly BoundKernel[]): readonly BoundKernel[] =>
  Array.from(kernels, (kernel) => at(bound, kernel, "kernel"));

/** Makes all calls of a share. `progress` may be missing where it never stops. LPU4036 if another thread has ended. */
export function runShare(
  { thread, pointers, stops }: Share,
  functions: readonly BoundKernel[],
  progress: Int32Array,
): void {
  let call = 0;
  const runUntil = (end: number): void => {
    for (; call < end; call++) (functions[call] as BoundKernel)(pointers[call] as number);
  };
  for (let stop = 0; stop < stops.length; stop += 3) {
    runUntil(stops[stop] as number);
    const [other, calls] = [stops[stop + 1] as number, stops[stop + 2] as number];
    if (other === thread) tellCalls(progress, thread, calls);
    else awaitCalls(progress, other, calls);
  }
  runUntil(functions.length);
}
