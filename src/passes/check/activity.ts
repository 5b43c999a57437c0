/**
 * When the arrays of a program work, and what they wait for: the facts that the checker returns of a program that it has proved.
 *
 * An array works in a cycle in which an ABC is dispatched for it. The planes of int8 may work in the same cycle.
 */

import { at } from "../../diagnostics.js";
import type { ArrayFacts, Gap } from "../../ir/facts.js";
import { type EntryProgram, mxmQueue, type TimedInstruction } from "../../ir/program.js";
import type { Hemisphere } from "../../ir/target.js";

/** Classes of gaps by length, and how many gaps and nodes are listed. */
const GAP_CLASSES = [1, 4, 16, 64, 256] as const;
const LISTED = 10;
const NEVER = Number.MAX_SAFE_INTEGER;

/** A gap with the index of the origin of the pass that ends it; -1 after the last one. */
interface OpenGap extends Omit<Gap, "origin"> {
  readonly origin: number;
}

/** `cycles`: of the chip. */
export const arrayFacts = (
  { origins, target, chips }: EntryProgram,
  chip: number,
  hemisphere: Hemisphere,
  cycles: number,
): ArrayFacts => {
  const { queues } = at(chips, chip, "chip");
  const planes = Array.from({ length: target.planes }, (_, plane) =>
    at(queues, mxmQueue(target, hemisphere, plane, 1), "queue").filter(({ op }) => op === "abc"),
  );
  const open: OpenGap[] = [];
  let busy = 0;
  let next = target.timing.barrier;
  const note = (cycle: number, origin: number): void => {
    if (cycle < next) return;
    if (cycle > next) open.push({ from: next, cycles: cycle - next, origin });
    busy++;
    next = cycle + 1;
  };
  eachExecution(planes, note);
  if (cycles > next) open.push({ from: next, cycles: cycles - next, origin: -1 });
  const gaps = open.map((gap): Gap => ({ ...gap, origin: origins[gap.origin] ?? "" }));
  const waits = new Map<string, { gaps: number; cycles: number }>();
  for (const { origin, cycles: length } of gaps) {
    const wait = waits.get(origin) ?? { gaps: 0, cycles: 0 };
    waits.set(origin, { gaps: wait.gaps + 1, cycles: wait.cycles + length });
  }
  return {
    chip,
    hemisphere,
    busy,
    idle: gaps.reduce((sum, gap) => sum + gap.cycles, 0),
    classes: GAP_CLASSES.map((atLeast, index) => {
      const end = GAP_CLASSES[index + 1] ?? Number.POSITIVE_INFINITY;
      const own = gaps.filter((gap) => gap.cycles >= atLeast && gap.cycles < end);
      return { atLeast, gaps: own.length, cycles: own.reduce((sum, gap) => sum + gap.cycles, 0) };
    }),
    longest: longestFirst(gaps),
    waits: longestFirst([...waits].map(([origin, wait]) => ({ origin, ...wait }))),
  };
};

const longestFirst = <T extends { readonly cycles: number }>(list: readonly T[]): T[] =>
  [...list].sort((a, b) => b.cycles - a.cycles).slice(0, LISTED);

/** Executions of the queues of all planes in order of cycles. A queue's own are in order: it is busy until its last one. */
const eachExecution = (
  planes: readonly (readonly TimedInstruction[])[],
  visit: (cycle: number, origin: number) => void,
): void => {
  const cursors = planes.map((bursts, plane) => ({
    plane,
    bursts,
    next: 0,
    index: 0,
    cycle: bursts[0]?.cycle ?? NEVER,
  }));
  for (;;) {
    const [first, ...others] = cursors.sort((a, b) => a.cycle - b.cycle || a.plane - b.plane);
    const burst = first?.bursts[first.next];
    if (first === undefined || burst === undefined) return;
    const until = Math.min(NEVER, ...others.map(({ cycle }) => cycle));
    // Until another plane is as early.
    do {
      visit(first.cycle, burst.origin);
      first.index++;
      first.cycle += burst.interval;
    } while (first.index < burst.count && first.cycle < until);
    if (first.index < burst.count) continue;
    first.next++;
    first.index = 0;
    first.cycle = first.bursts[first.next]?.cycle ?? NEVER;
  }
};
