/**
 * The critical path: what waited for what, from the burst that finishes last back to the start.
 *
 * In a static schedule what flows together is tight: a burst takes its vectors in the very cycle in which they pass, so that
 * all bursts that are joined by flights, without SRAM between, are one figure and could only have come earlier together. A
 * figure waits either for data, a row that one of its reads needs or a vector from another chip, or for a unit, whose burst
 * before had to end. Where neither ended just before it, the schedule has slack. Of all chains of such waits from the end to
 * the start the path is one with the least slack in all. Its steps cover every cycle of the program once.
 */

import { completionCycles } from "../ir/isa.js";
import type { Activity } from "./activity.js";
import { type Bins, sortByBin } from "./columns.js";
import { linkDelay } from "../ir/target.js";
import { LINK } from "./flights.js";
import { type Bursts, type Unit, UNITS, unitOf } from "./bursts.js";

/**
 * What a step waited for: rows that were not written before, vectors from another chip, a unit that worked on something else,
 * or the start.
 */
export const WAITS = ["data", "links", ...UNITS, "start"] as const satisfies readonly (
  | "data"
  | "links"
  | "start"
  | Unit
)[];
export type Wait = (typeof WAITS)[number];

/** Cycles `from` to `to` (not included) of the path. */
export interface PathStep {
  readonly from: number;
  readonly to: number;
  /** The burst at the end of the figure, which what comes after waited for. */
  readonly burst: number;
  readonly wait: Wait;
  /** Cycles of the step in which the figure could have begun and did not: what it waited for was there. */
  readonly slack: number;
}

/**
 * Steps in order of time: the first begins at cycle 0 and the last ends with the program. Time is linear in the bursts of the
 * path's figures.
 */
export function criticalPath(activity: Activity): readonly PathStep[] {
  const { program, bursts, cycles } = activity;
  const { barrier } = program.target.timing;
  const { figureOf, waitsOf, doneAfter } = waitingIn(activity);
  // A search by total slack, over figures: `open[s]` are the ends of chains of slack s; of these data goes before units.
  const open: Awaited[][] = [];
  const push = (total: number, awaited: Awaited): void => {
    const ends = open[total] ?? [];
    open[total] = ends;
    ends.push(awaited);
  };
  push(0, { burst: lastToFinish(bursts.size, (one) => (bursts.last[one] as number) + doneAfter(one)) });
  const settled = new Uint8Array(bursts.size);
  for (let total = 0; total < open.length; total++) {
    for (let end = open[total]?.pop(); end !== undefined; end = open[total]?.pop()) {
      if (end.burst === START) return stepsOf(end, bursts, cycles);
      if (settled[end.burst] === 1) continue;
      const figure = figureOf(end.burst);
      for (const [burst, slack] of figure) if (slack === 0) settled[burst] = 1;
      const late = Math.min(
        ...Array.from(figure, ([burst, slack]) => slack + (bursts.cycle[burst] as number) - barrier),
      );
      push(total + Math.max(0, late), { burst: START, after: end, wait: "start", slack: Math.max(0, late) });
      const waits = [...waitsOf(figure)].filter(({ burst }) => settled[burst] === 0);
      for (const data of [false, true])
        for (const { burst, wait, slack } of waits)
          if ((wait === "data") === data) push(total + slack, { burst, after: end, wait, slack });
    }
  }
  return [];
}

const START = -1;

/** A burst that the one after it waited for. */
interface Awaited extends Partial<Waited> {
  readonly burst: number;
  readonly after?: Awaited;
}

/** The steps of a chain that leads from the start to the end. */
function stepsOf(first: Awaited, { cycle }: Bursts, cycles: number): readonly PathStep[] {
  const steps: PathStep[] = [];
  let from = 0;
  for (let end = first; end.after !== undefined; end = end.after) {
    const { burst } = end.after;
    // What was waited for may have begun after the burst did, beside another of its figure.
    const to = end.after.after === undefined ? cycles : Math.max(from, cycle[burst] as number);
    if (to > from)
      steps.push({ from, to, burst, wait: end.wait ?? "start", slack: Math.min(to - from, end.slack ?? 0) });
    from = to;
  }
  return steps;
}

/** Bursts that could only have come earlier together, by burst, each with the cycles by which it could have come later. */
type BurstFigure = ReadonlyMap<number, number>;

interface Waiting {
  /** Bursts that are joined with one by flights; loads of weights may come later. */
  readonly figureOf: (burst: number) => BurstFigure;
  /** All that a figure waited for. */
  readonly waitsOf: (figure: BurstFigure) => Iterable<Waited>;
  /** Cycles from a burst's last dispatch to its last effect. */
  readonly doneAfter: (burst: number) => number;
}

function waitingIn({ program: { target }, bursts, flights, memory }: Activity): Waiting {
  const takers = sortByBin(
    flights.to.map((to) => (to < 0 ? bursts.size : to)),
    bursts.size + 1,
  );
  const givers = sortByBin(flights.from, bursts.size);
  const at = (burst: number): number => bursts.cycle[burst] as number;
  const doneAfter = (burst: number): number => {
    const instruction = bursts.instructions[burst];
    return instruction === undefined ? 0 : completionCycles(target, instruction);
  };

  const figureOf = (end: number): BurstFigure => {
    const slackOf = new Map([[end, 0]]);
    const add = (burst: number, slack: number): void =>
      void slackOf.set(burst, Math.min(slackOf.get(burst) ?? Number.POSITIVE_INFINITY, slack));
    for (const [burst, slack] of slackOf) {
      const op = bursts.instructions[burst]?.op;
      if (op === "abc") {
        const install = installBefore(burst);
        if (install >= 0) add(install, slack + at(burst) - at(install) - target.timing.mxmInstall);
      }
      if (op === "iw") {
        const [first] = bursts.ofQueue(bursts.chip[burst] as number, bursts.queue[burst] as number);
        for (let load = burst - 1; load >= first && bursts.instructions[load]?.op === "lw"; load--)
          add(load, slack + at(burst) - (bursts.last[load] as number) - 1);
      }
      for (const flight of flightsAt(takers, burst)) {
        const from = flights.from[flight] as number;
        if (bursts.instructions[from]?.op !== "lw" && flights.stream[flight] !== LINK) add(from, slack);
      }
      if (op === "lw" || op === "iw") continue;
      for (const flight of flightsAt(givers, burst)) {
        const to = flights.to[flight] as number;
        if (to >= 0 && flights.stream[flight] !== LINK) add(to, slack);
      }
    }
    return slackOf;
  };

  /** The install whose weights the activations of a burst meet, or -1. */
  const installBefore = (burst: number): number => {
    const [chip, queue] = [bursts.chip[burst] as number, (bursts.queue[burst] as number) - 1];
    const [first] = bursts.ofQueue(chip, queue);
    let install = bursts.lastStarted(chip, queue, at(burst) - target.timing.mxmInstall);
    while (install >= first && bursts.instructions[install]?.op === "lw") install--;
    return install >= first ? install : -1;
  };

  function* waitsOf(figure: BurstFigure): Generator<Waited> {
    for (const [burst, slack] of figure) {
      const [chip, queue] = [bursts.chip[burst] as number, bursts.queue[burst] as number];
      const [first] = bursts.ofQueue(chip, queue);
      const previous = burst > first ? burst - 1 : -1;
      const gap = at(burst) - (bursts.last[previous] ?? Number.NEGATIVE_INFINITY) - 1;
      const writer = memory.writer[burst] as number;
      const rest = Math.max(0, (memory.rested[burst] as number) - doneAfter(writer));
      // Bursts with intervals may run through each other: then neither waits for the queue.
      if (previous === writer && writer >= 0)
        yield { burst: writer, wait: "data", slack: slack + (gap >= 0 ? Math.min(rest, gap) : rest) };
      else {
        if (previous >= 0 && gap >= 0) yield { burst: previous, wait: unitOf(target, queue), slack: slack + gap };
        if (writer >= 0) yield { burst: writer, wait: "data", slack: slack + rest };
      }
      for (const flight of flightsAt(takers, burst)) {
        const from = flights.from[flight] as number;
        const arrived = at(burst) - at(from) - linkDelay(target);
        if (flights.stream[flight] === LINK) yield { burst: from, wait: "links", slack: slack + Math.max(0, arrived) };
      }
      if (bursts.instructions[burst]?.op !== "iw") continue;
      const used = bursts.lastStarted(chip, queue + 1, at(burst) - 1);
      const free = at(burst) - (bursts.last[used] ?? Number.NEGATIVE_INFINITY) - 1;
      if (free >= 0 && used >= 0) yield { burst: used, wait: "mxm", slack: slack + free };
    }
  }

  return { figureOf, waitsOf, doneAfter };
}

function* flightsAt({ order, start }: Bins, burst: number): Generator<number> {
  for (let k = start[burst] as number; k < (start[burst + 1] as number); k++) yield order[k] as number;
}

interface Waited {
  readonly burst: number;
  readonly wait: Wait;
  readonly slack: number;
}

function lastToFinish(size: number, end: (burst: number) => number): number {
  let last = -1;
  for (let burst = 0; burst < size; burst++) if (last < 0 || end(burst) > end(last)) last = burst;
  return last;
}

/** Steps of nodes that have the same name but for its numbers and waited for the same, in the order of their cycles, the most first. */
export interface CriticalSum {
  readonly wait: Wait;
  /** Names of nodes, their numbers as `*`. */
  readonly nodes: string;
  readonly steps: number;
  readonly cycles: number;
  readonly slack: number;
}

export interface CriticalSummary {
  readonly steps: number;
  /** Cycles of the path by what its steps waited for; they sum to those of the program. */
  readonly waits: Readonly<Record<Wait, number>>;
  /** Cycles in all steps in which nothing held them back. */
  readonly slack: number;
  readonly sums: readonly CriticalSum[];
}

export function criticalSummary({ program, bursts }: Activity, steps: readonly PathStep[]): CriticalSummary {
  const waits = Object.fromEntries(WAITS.map((wait) => [wait, 0])) as Record<Wait, number>;
  const sums = new Map<string, { -readonly [Key in keyof CriticalSum]: CriticalSum[Key] }>();
  for (const { from, to, burst, wait, slack } of steps) {
    waits[wait] += to - from;
    const nodes = (program.origins[bursts.origin[burst] as number] as string).replace(/\d+/g, "*");
    const sum = sums.get(`${wait} ${nodes}`) ?? { wait, nodes, steps: 0, cycles: 0, slack: 0 };
    sum.steps++;
    sum.cycles += to - from;
    sum.slack += slack;
    sums.set(`${wait} ${nodes}`, sum);
  }
  return {
    steps: steps.length,
    waits,
    slack: steps.reduce((total, { slack }) => total + slack, 0),
    sums: [...sums.values()].sort((a, b) => b.cycles - a.cycles || (a.nodes < b.nodes ? -1 : 1)),
  };
}
