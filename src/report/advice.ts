/**
 * Where time could be won, in sentences, the most first.
 *
 * Cycles in which the arrays do not both work are summed over nodes that have the same name but for its numbers, since what is
 * true of one layer is true of all, and over what bounds them. The gain is what would be saved if none of them were left: no
 * change gains more in that place.
 */

import { at } from "../diagnostics.js";
import type { Activity } from "./activity.js";
import { BOUND_NAMES, type Bound, type Stretches } from "./bounds.js";
import { formatCount, formatShare } from "./units.js";

export interface Advice {
  readonly bound: Bound;
  /** Names of nodes, their numbers as `*`. */
  readonly nodes: string;
  /** Cycles of all chips, and their share. */
  readonly cycles: number;
  readonly share: number;
  readonly text: string;
}

/** What there is to gain from a bound: for how many cycles of it one is lost, what happens in them, and what would help. */
const GAINS: Readonly<Partial<Record<Bound, { readonly lost: number; readonly what: string; readonly help: string }>>> =
  {
    array: {
      lost: 0.5,
      what: "one array works alone",
      help: "share the work between hemispheres, or let something independent run beside it",
    },
    weights: {
      lost: 1,
      what: "weights stream while no array works",
      help: "load them while the pass before computes",
    },
    links: { lost: 1, what: "only links work", help: "send earlier, or compute something independent meanwhile" },
    sxm: {
      lost: 1,
      what: "vectors pass the SXM and no array works",
      help: "turn fewer lanes, or let a matmul overlap",
    },
    vxm: { lost: 1, what: "ALUs compute and no array works", help: "let a matmul overlap, or shorten the chain" },
    ports: { lost: 1, what: "only rows are read or written", help: "read earlier" },
    latency: {
      lost: 1,
      what: "everything waits for vectors in flight",
      help: "let something independent run beside it",
    },
  };

const MOST = 8;

export function adviceOf({ program, bursts, cycles }: Activity, stretches: Stretches): readonly Advice[] {
  const found = new Map<string, { readonly bound: Bound; readonly nodes: string; cycles: number }>();
  for (let stretch = 0; stretch < stretches.size; stretch++) {
    const bound = BOUND_NAMES[stretches.bound[stretch] as number];
    const name = program.origins[at(bursts.origin, stretches.burst[stretch] as number, "origin")];
    if (bound === undefined || name === undefined || GAINS[bound] === undefined) continue;
    const nodes = name.replace(/\d+/g, "*");
    const key = `${bound} ${nodes}`;
    const row = found.get(key) ?? { bound, nodes, cycles: 0 };
    row.cycles += (stretches.to[stretch] as number) - (stretches.from[stretch] as number);
    found.set(key, row);
  }
  const all = cycles * program.chips.length;
  return [...found.values()]
    .map((row): Advice => {
      const gain = GAINS[row.bound];
      const lost = Math.floor(row.cycles * (gain?.lost ?? 0));
      const share = row.cycles / all;
      const text = `In ${formatShare(share)} of the time ${gain?.what} for ${row.nodes}: ${gain?.help}; gains at most ${formatCount(lost)} cycles (${formatShare(lost / all)}).`;
      return { ...row, share, text };
    })
    .sort((a, b) => gained(b) - gained(a) || (a.nodes < b.nodes ? -1 : 1))
    .slice(0, MOST);
}

const gained = ({ bound, cycles }: Advice): number => cycles * (GAINS[bound]?.lost ?? 0);
