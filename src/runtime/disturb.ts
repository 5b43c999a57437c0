/**
 * What goes other than planned on wires, when it is asked for: when vectors arrive, and a bit that flips.
 *
 * A schedule counts on the latest cycle at which a vector can be there (`linkDelay`). It may be there earlier, and then waits in
 * the link: by the jitter of the link, and by how far the clocks of both ends have come apart, which the hardware keeps within
 * bounds (Deskew, RuntimeDeskew). Together these make up to EARLIEST cycles, which is the spread of latencies that was measured
 * (C: 209 to 228). A legal program notices nothing of it, in bits or cycles.
 *
 * Each vector carries a check, as links have it (C: errors that cannot be corrected are flagged, and the job is done again).
 */

import { crc32 } from "node:zlib";
import type { Queues } from "../ir/program.js";
import type { OuterWire } from "../ir/stage.js";
import { EPOCH, linkDelay, type Target } from "../ir/target.js";

export interface Disturbance {
  /** Seed of how much earlier vectors arrive; all arrive at the latest cycle if not given. */
  readonly jitter?: number | undefined;
  /** A bit that flips on a wire, once. */
  readonly flip?: WireFlip | undefined;
}

export interface WireFlip {
  /** The first vector that is sent in this cycle of a run or later: of several the one of the lowest chip and queue. */
  readonly cycle: number;
  /** Which of its bits, in the order of its bytes; LPU4037 if a vector has none such. */
  readonly bit: number;
}

/** The two parts of EARLIEST (A), in cycles: from vector to vector, and slowly, by one in an epoch. */
const JITTER = 12;
const DRIFT = 7;
export const EARLIEST = JITTER + DRIFT;

/** From which cycle on a vector that is sent in a cycle, over a link of a chip, can be received. */
export function arrivalOf(target: Target, seed: number | undefined, chip: number, link: number, cycle: number): number {
  const latest = cycle + linkDelay(target);
  if (seed === undefined) return latest;
  const phase = mixed(seed, chip, link) % (2 * DRIFT);
  const drift = Math.abs(((Math.floor(cycle / EPOCH) + phase) % (2 * DRIFT)) - DRIFT);
  const jitter = mixed(seed, chip, link, cycle) % (JITTER + 1);
  return latest - Math.min(drift + jitter, target.timing.linkLatency - 1);
}

/** Numbers as one that looks drawn (the finalizer of MurmurHash3 after each). */
function mixed(...numbers: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const number of numbers) {
    hash = Math.imul(hash ^ number, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}

/** One execution of Send. */
export interface SendPlace {
  readonly chip: number;
  readonly queue: number;
  readonly cycle: number;
}

/** Wires whose vectors are checked here, where they are received: what goes out on an outer one is checked by who takes it. */
interface Wired {
  readonly chips: readonly { readonly queues: Queues }[];
  readonly outer?: readonly OuterWire[];
}

/** What sends the vector of which a bit flips; undefined where none is sent so late. */
export function flippedSend({ chips, outer = [] }: Wired, { cycle: from }: WireFlip): SendPlace | undefined {
  const leaving = new Set(
    outer.flatMap(({ kind, vectors }) => vectors.map(({ chip, link }) => `${kind} ${chip}:${link}`)),
  );
  let found: SendPlace | undefined;
  for (const [chip, { queues }] of chips.entries())
    for (const [queue, instructions] of queues.entries())
      for (const { op, cycle, count, interval, fields } of instructions) {
        if (op !== "send" || leaving.has(`send ${chip}:${String(fields["link"])}`)) continue;
        const index = Math.max(0, Math.ceil((from - cycle) / interval));
        const own = cycle + index * interval;
        if (index < count && (found === undefined || own < found.cycle)) found = { chip, queue, cycle: own };
      }
  return found;
}

/** Flips a bit of a vector in its place. */
export function flipBit(vector: Uint8Array, bit: number): void {
  const place = bit >> 3;
  vector[place] = (vector[place] as number) ^ (1 << (bit & 7));
}

/** What goes with a vector over a wire. */
export const wireCheck = (vector: Uint8Array): number => crc32(vector.slice()) | 0;
