/**
 * Part of the schedule checker: links. What goes out on one is there when it is received at its other end, and is what the
 * plans of both chips say it is.
 */

import { at, fail } from "../../diagnostics.js";
import type { Plan } from "../../ir/plan.js";
import { calledRow, wiredRows, wireVectors } from "../../ir/plan/wires.js";
import type { EntryProgram } from "../../ir/program.js";
import { linkDelay, type Target } from "../../ir/target.js";
import { type Burst, type CheckedChip, raise } from "./burst.js";

/** Vectors go out on a link with its interval, arrive in the order in which they were sent, and are there when they are received. */
export const checkLinks = ({ links }: EntryProgram, chips: readonly CheckedChip[]): void => {
  const sent = chips.map((chip) => linkUses(chip, "send"));
  const received = chips.map((chip) => linkUses(chip, "receive"));
  for (const [index, chip] of chips.entries()) {
    for (const [link, uses] of at(sent, index, "chip")) {
      const connected = links.some(({ fromChip, fromLink }) => fromChip === index && fromLink === link);
      for (const [at, { burst, cycle }] of uses.entries()) {
        if (!connected) raise(chip, "LPU2221", burst, cycle, `expected a link that is connected, found link ${link}`);
        const free = (uses[at - 1]?.cycle ?? Number.NEGATIVE_INFINITY) + chip.target.timing.linkInterval;
        if (cycle < free)
          raise(chip, "LPU2221", burst, cycle, `expected link ${link} to be free, found that it is at cycle ${free}`);
      }
    }
    for (const [link, uses] of at(received, index, "chip")) {
      const wire = links.find(({ toChip, toLink }) => toChip === index && toLink === link);
      const vectors = wire === undefined ? [] : (sent[wire.fromChip]?.get(wire.fromLink) ?? []);
      for (const [at, { burst, cycle }] of uses.entries()) {
        const vector = vectors[at];
        const arrival = vector === undefined ? undefined : vector.cycle + linkDelay(chip.target);
        if (arrival === undefined || arrival > cycle)
          raise(
            chip,
            "LPU2221",
            burst,
            cycle,
            `expected a vector on link ${link}, found ${arrival === undefined ? "none sent" : `that it arrives at cycle ${arrival}`}`,
          );
      }
    }
  }
};

/** One execution of a Send or Receive. */
export interface LinkUse {
  readonly burst: Burst;
  readonly execution: number;
  readonly cycle: number;
}

/** By link, in order of cycles. */
export const linkUses = ({ queues }: CheckedChip, op: "send" | "receive"): ReadonlyMap<number, readonly LinkUse[]> => {
  const uses = new Map<number, LinkUse[]>();
  for (const queue of queues.filter(([burst]) => burst?.place.unit === "sxm"))
    for (const burst of queue) {
      const { instruction } = burst;
      if (instruction.op !== op) continue;
      const link = Number(instruction.fields["link"]);
      const own = uses.get(link) ?? [];
      uses.set(link, own);
      for (let i = 0; i < instruction.count; i++)
        own.push({ burst, execution: i, cycle: instruction.cycle + i * instruction.interval });
    }
  for (const own of uses.values()) own.sort((a, b) => a.cycle - b.cycle);
  return uses;
};

/* ---------- plans ---------- */

/** A vector that a plan brings to a link, or takes from one. */
export interface PlannedVector {
  /** What the panel is called at both ends. */
  readonly name: string;
  readonly storage: number;
  readonly panel: number;
  readonly row: number;
  /** What the row is called at both ends. */
  readonly called: number;
  readonly byte: number;
}

/** By link: what a plan sends or receives, in order. */
export const plannedVectors = (
  plan: Plan,
  target: Target,
  kind: "send" | "receive",
): ReadonlyMap<number, readonly PlannedVector[]> => {
  const vectors = new Map<number, PlannedVector[]>();
  for (const task of plan.tasks) {
    if (task.wire?.kind !== kind) continue;
    const { storage, panel } = wiredRows(task);
    for (const { link, row, byte } of wireVectors(plan, target, task)) {
      const called = calledRow(plan, task, storage, row);
      const own = vectors.get(link) ?? [];
      vectors.set(link, own);
      own.push({ name: task.wire.name, storage, panel, row, called, byte });
    }
  }
  return vectors;
};

/** What a chip is to receive from a link is what another sends on it, vector by vector, by the names of both plans. */
export const checkWires = (plans: readonly Plan[], { links, target }: EntryProgram): void => {
  const sent = plans.map((plan) => plannedVectors(plan, target, "send"));
  const received = plans.map((plan) => plannedVectors(plan, target, "receive"));
  for (const { fromChip, fromLink, toChip, toLink } of links) {
    const given = (sent[fromChip]?.get(fromLink) ?? []).map(wordsOf);
    const taken = (received[toChip]?.get(toLink) ?? []).map(wordsOf);
    const at = Math.max(given.length, taken.length);
    const wrong = Array.from({ length: at }, (_, i) => i).find((i) => given[i] !== taken[i]);
    if (wrong === undefined) continue;
    fail("LPU2224", {
      message: `link ${toLink} of chip ${toChip}: expected ${taken[wrong] ?? "nothing more"}, found that chip ${fromChip} sends ${given[wrong] ?? "nothing more"}`,
    });
  }
};

const wordsOf = ({ name, called, byte }: PlannedVector): string => `byte ${byte} of row ${called} of '${name}'`;
