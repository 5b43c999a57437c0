/**
 * Where the cycles go: every cycle of every chip belongs to one stretch, and every stretch to one row of BOUNDS and to one burst.
 *
 * A cycle goes to the first row that holds in it: what is above matters more, since the arrays are what a program is built
 * around, and what happens beside a working array costs no time. Within a row it goes to the burst that covers it first, and
 * of two arrays to the western one. A burst works from its first execution to its last, also where they are apart. Stretches
 * of a chip are disjoint and cover all of its cycles, so that shares of bounds, nodes and layers each sum to one.
 */

import { completionCycles, type Mnemonic } from "../ir/isa.js";
import { type EntryProgram, queuePlace } from "../ir/program.js";
import type { Hemisphere } from "../ir/target.js";
import type { Activity } from "./activity.js";
import type { Bursts } from "./bursts.js";
import { Int32Rows } from "./columns.js";

/** What a stretch of time is spent on, in order of precedence. */
export const BOUNDS = {
  arrays: { doc: "activations enter the arrays of both hemispheres" },
  array: { doc: "activations enter the array of one hemisphere only" },
  weights: { doc: "no array works; weights stream into its buffers" },
  links: { doc: "neither; vectors go out on a link or come in" },
  sxm: { doc: "none of these; vectors are on their way through the SXM" },
  vxm: { doc: "none of these; ALUs compute" },
  ports: { doc: "none of these; rows are read or written" },
  latency: { doc: "nothing is dispatched: vectors fly and pipelines drain, and what is next waits for them" },
  barrier: { doc: "the chip has not begun: queues wait for the barrier, or for what comes over links" },
  idle: { doc: "the chip has finished, and others work on" },
} as const satisfies Record<string, { readonly doc: string }>;
export type Bound = keyof typeof BOUNDS;
export const BOUND_NAMES = Object.keys(BOUNDS) as readonly Bound[];

/** Stretches by chip and time, as columns: cycles `from` to `to` (not included), number of the bound, burst that has them. */
export interface Stretches {
  readonly size: number;
  readonly chip: Int32Array;
  readonly from: Int32Array;
  readonly to: Int32Array;
  /** Index into BOUND_NAMES. */
  readonly bound: Int32Array;
  /**
   * The burst that works; of `latency` and `barrier` the next to start, at the end and when `idle` the last to finish. -1 if a
   * chip has none.
   */
  readonly burst: Int32Array;
}

const BOUND_OF: Readonly<Partial<Record<Mnemonic, Bound>>> = {
  abc: "array",
  lw: "weights",
  iwStream: "weights",
  send: "links",
  receive: "links",
  shift: "sxm",
  select: "sxm",
  permute: "sxm",
  distribute: "sxm",
  rotate: "sxm",
  transpose: "sxm",
  unary: "vxm",
  binary: "vxm",
  ternary: "vxm",
  read: "ports",
  write: "ports",
  gather: "ports",
  scatter: "ports",
};

/** Disjoint stretches in order of time. */
interface Span {
  readonly from: number;
  readonly to: number;
  readonly burst: number;
}

export function stretchesOf({ program, bursts, cycles }: Pick<Activity, "program" | "bursts" | "cycles">): Stretches {
  const rows = new Int32Rows(5);
  for (let chip = 0; chip < program.chips.length; chip++) {
    for (const [bound, { from, to, burst }] of chipStretches(program, bursts, chip, cycles))
      rows.push(chip, from, to, BOUND_NAMES.indexOf(bound), burst);
  }
  const [chip, from, to, bound, burst] = [0, 1, 2, 3, 4].map((column) => rows.column(column)) as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  return { size: rows.rows, chip, from, to, bound, burst };
}

function chipStretches(
  program: EntryProgram,
  bursts: Bursts,
  chip: number,
  cycles: number,
): (readonly [Bound, Span])[] {
  const order = startOrder(bursts, chip);
  const byBound = new Map<Bound, Span[]>(BOUND_NAMES.map((bound) => [bound, []]));
  const arrays: Readonly<Record<Hemisphere, Span[]>> = { W: [], E: [] };
  let finished = -1;
  let end = 0;
  for (const burst of order) {
    const instruction = bursts.instructions[burst];
    if (instruction === undefined) continue;
    const bound = BOUND_OF[instruction.op];
    const from = bursts.cycle[burst] as number;
    const inside = bound === "sxm" ? completionCycles(program.target, instruction) : 1;
    const to = Math.min(cycles, (bursts.last[burst] as number) + inside);
    if (bound !== undefined) cover(byBound.get(bound) ?? [], { from, to, burst });
    if (bound === "array") {
      const { hemisphere = "W" } = queuePlace(program.target, bursts.queue[burst] as number);
      cover(arrays[hemisphere], { from, to, burst });
    }
    const done = (bursts.last[burst] as number) + completionCycles(program.target, instruction);
    if (done > end) [end, finished] = [done, burst];
  }
  byBound.set("arrays", divide(arrays.W, arrays.E).inside);
  let open: Span[] = cycles === 0 ? [] : [{ from: 0, to: cycles, burst: -1 }];
  const found: (readonly [Bound, Span])[] = [];
  for (const [bound, spans] of byBound) {
    const { inside, outside } = divide(open, spans);
    for (const span of inside) found.push([bound, span]);
    open = outside;
  }
  let next = 0;
  for (const { from, to } of open) {
    while (next < order.length && (bursts.cycle[order[next] as number] as number) < to) next++;
    const burst = order[next] ?? finished;
    const drained = next < order.length ? to : Math.min(to, Math.max(from, end));
    if (drained > from) found.push([from === 0 ? "barrier" : "latency", { from, to: drained, burst }]);
    if (to > drained) found.push(["idle", { from: drained, to, burst }]);
  }
  return found.sort(([, a], [, b]) => a.from - b.from);
}

/** Adds what nothing before it covers; spans come in order of their start. */
function cover(spans: Span[], { from, to, burst }: Span): void {
  const covered = spans.at(-1)?.to ?? 0;
  if (to > covered) spans.push({ from: Math.max(from, covered), to, burst });
}

/** Bursts of a chip in order of their start, then of their queue. */
function startOrder(bursts: Bursts, chip: number): Int32Array {
  const own: number[] = [];
  for (let burst = 0; burst < bursts.size; burst++) if (bursts.chip[burst] === chip) own.push(burst);
  return Int32Array.from(own).sort((a, b) => (bursts.cycle[a] as number) - (bursts.cycle[b] as number) || a - b);
}

/**
 * Splits `open` into what `spans` cover and what they do not. Both are disjoint and in order; what is covered has the lesser
 * burst of the two, or that of `spans` where `open` has none.
 */
function divide(open: readonly Span[], spans: readonly Span[]): { inside: Span[]; outside: Span[] } {
  const inside: Span[] = [];
  const outside: Span[] = [];
  let next = 0;
  for (const { from, to, burst } of open) {
    let at = from;
    while (next < spans.length && (spans[next] as Span).to <= from) next++;
    for (let k = next; k < spans.length && (spans[k] as Span).from < to; k++) {
      const span = spans[k] as Span;
      const start = Math.max(at, span.from);
      const end = Math.min(to, span.to);
      if (start > at) outside.push({ from: at, to: start, burst });
      if (end > start)
        inside.push({ from: start, to: end, burst: burst < 0 ? span.burst : Math.min(burst, span.burst) });
      at = Math.max(at, end);
    }
    if (at < to) outside.push({ from: at, to, burst });
  }
  return { inside, outside };
}
