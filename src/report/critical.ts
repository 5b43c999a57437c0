/**
 * The critical path: what waited for what, from the burst that finishes last back to the start.
 *
 * In a static schedule what flows together is tight: a burst takes its vectors in the very cycle in which they pass, so that all
 * bursts that are joined by flights, without SRAM between, are one figure and could only have come earlier together. A figure
 * waits either for data, a row that one of its reads needs or a vector from another chip, or for a unit, whose burst before had to end. Where neither ended
 * just before it, the schedule has slack. Of all chains of such waits from the end to the start the path is one with the least
 * slack in all. Its steps cover every cycle of the program once.
 */

import { completionCycles } from "../ir/isa.js";
import type { Activity } from "./activity.js";
import { type Bins, sortByBin } from "./columns.js";
import { linkDelay } from "../ir/target.js";
import { LINK } from "./flights.js";
import { type Bursts, type Unit, UNITS, unitOf } from "./bursts.js";

/** What a step waited for: rows that were not written before, vectors from another chip, a unit that worked on something else, or the start. */
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

/** Steps in order of time: the first begins at cycle 0 and the last ends with the program. Time is linear in the bursts of the path's figures. */
export function criticalPath({ program, bursts, flights, memory, cycles }: Activity): readonly PathStep[] {
  const { target } = program;
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

  /** Bursts that are joined with `end` by flights, each with the cycles by which it could have come later: loads of weights may. */
  const figureOf = (end: number): ReadonlyMap<number, number> => {
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

  /** All that a figure waited for. */
  function* waitsOf(figure: ReadonlyMap<number, number>): Generator<Waited> {
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

  // A search by total slack, over figures: `open[s]` are links that end chains of slack s; of these data goes before units.
  const open: Link[][] = [];
  const push = (total: number, link: Link): void => {
    const links = open[total] ?? [];
    open[total] = links;
    links.push(link);
  };
  push(0, { burst: lastToFinish(bursts.size, (one) => (bursts.last[one] as number) + doneAfter(one)) });
  const settled = new Uint8Array(bursts.size);
  for (let total = 0; total < open.length; total++) {
    for (let link = open[total]?.pop(); link !== undefined; link = open[total]?.pop()) {
      if (link.burst === START) return stepsOf(link, bursts, cycles);
      if (settled[link.burst] === 1) continue;
      const figure = figureOf(link.burst);
      for (const [burst, slack] of figure) if (slack === 0) settled[burst] = 1;
      const late = Math.min(...Array.from(figure, ([burst, slack]) => slack + at(burst) - target.timing.barrier));
      push(total + Math.max(0, late), { burst: START, after: link, wait: "start", slack: Math.max(0, late) });
      const waits = [...waitsOf(figure)].filter(({ burst }) => settled[burst] === 0);
      for (const data of [false, true])
        for (const { burst, wait, slack } of waits)
          if ((wait === "data") === data) push(total + slack, { burst, after: link, wait, slack });
    }
  }
  return [];
}

const START = -1;

/** A burst that the one after it waited for. */
interface Link extends Partial<Waited> {
  readonly burst: number;
  readonly after?: Link;
}

/** The steps of a chain that leads from the start to the end. */
function stepsOf(first: Link, { cycle }: Bursts, cycles: number): readonly PathStep[] {
  const steps: PathStep[] = [];
  let from = 0;
  for (let link = first; link.after !== undefined; link = link.after) {
    const { burst } = link.after;
    // What was waited for may have begun after the burst did, beside another of its figure.
    const to = link.after.after === undefined ? cycles : Math.max(from, cycle[burst] as number);
    if (to > from)
      steps.push({ from, to, burst, wait: link.wait ?? "start", slack: Math.min(to - from, link.slack ?? 0) });
    from = to;
  }
  return steps;
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
