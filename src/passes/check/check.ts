/**
 * An independent proof that a Program is legal, made for each of its entries on every compile before anything is encoded.
 *
 * It knows the ISA table, the target and the program, and shares no code with the scheduler. Its parts replay the program,
 * each from one point of view, with plain tables indexed by cycle; they may be slow to explain a fault but are quick to find
 * none. Legality does not see meaning: a row that is overwritten too early, or a wrong operand that is there at the right
 * time. With the plan, meaning.ts proves that too. The first broken rule raises a MachineFault that names cycle, queue,
 * instruction and ONNX node.
 */

import { fail } from "../../diagnostics.js";
import type { ScheduleFacts } from "../../ir/facts.js";
import type { Plan } from "../../ir/plan.js";
import type { EntryProgram } from "../../ir/program.js";
import { type Hemisphere, linkDelay } from "../../ir/target.js";
import { type Burst, type CheckedChip, checkedChip, raise } from "./burst.js";
import { checkMeaning } from "./meaning.js";
import { checkMemory } from "./memory.js";
import { checkMxm } from "./mxm.js";
import { checkOperands } from "./operands.js";
import { checkPadding } from "./padding.js";
import { checkChains, checkStreams } from "./streams.js";

const HEMISPHERES: readonly Hemisphere[] = ["W", "E"];

/** With the plan from which the program was made: also that it computes what the plan says. */
export const checkSchedule = (program: EntryProgram, plan?: Plan): ScheduleFacts => {
  const chips = program.chips.map((_, index) => checkedChip(program, index));
  for (const chip of chips) checkOperands(chip);
  checkPrediction(program, chips);
  const taken = chips.map((chip) => {
    checkMemory(chip);
    const flows = checkStreams(chip);
    checkChains(chip);
    return flows;
  });
  checkLinks(program, chips);
  const arrays = chips.flatMap((chip) => HEMISPHERES.map((hemisphere) => checkMxm(chip, hemisphere)));
  if (plan !== undefined) {
    checkPadding(plan, program.target);
    checkMeaning(plan, chips, taken);
  }
  return { arrays };
};

const checkPrediction = ({ entry: { name, cycles } }: EntryProgram, chips: readonly CheckedChip[]): void => {
  for (const { index, cycles: counted } of chips)
    if (cycles[index] !== counted)
      fail("LPU2222", {
        message: `entry '${name}': expected ${counted} cycles of chip ${index}, found a prediction of ${cycles[index]}`,
      });
};

/** Vectors go out on a link with its interval, arrive in the order in which they were sent, and are there when they are received. */
const checkLinks = ({ links }: EntryProgram, chips: readonly CheckedChip[]): void => {
  const sent = chips.map((chip) => linkUses(chip, "send"));
  const received = chips.map((chip) => linkUses(chip, "receive"));
  for (const [index, chip] of chips.entries()) {
    for (const [link, uses] of sent[index] ?? []) {
      const connected = links.some(({ fromChip, fromLink }) => fromChip === index && fromLink === link);
      for (const [at, { burst, cycle }] of uses.entries()) {
        if (!connected) raise(chip, "LPU2221", burst, cycle, `expected a link that is connected, found link ${link}`);
        const free = (uses[at - 1]?.cycle ?? Number.NEGATIVE_INFINITY) + chip.target.timing.linkInterval;
        if (cycle < free)
          raise(chip, "LPU2221", burst, cycle, `expected link ${link} to be free, found that it is at cycle ${free}`);
      }
    }
    for (const [link, uses] of received[index] ?? []) {
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

interface LinkUse {
  readonly burst: Burst;
  readonly cycle: number;
}

const linkUses = ({ queues }: CheckedChip, op: "send" | "receive"): ReadonlyMap<number, readonly LinkUse[]> => {
  const uses = new Map<number, LinkUse[]>();
  for (const queue of queues.filter(([burst]) => burst?.place.unit === "sxm"))
    for (const burst of queue) {
      const { instruction } = burst;
      if (instruction.op !== op) continue;
      const link = Number(instruction.fields["link"]);
      const own = uses.get(link) ?? [];
      uses.set(link, own);
      for (let i = 0; i < instruction.count; i++)
        own.push({ burst, cycle: instruction.cycle + i * instruction.interval });
    }
  for (const own of uses.values()) own.sort((a, b) => a.cycle - b.cycle);
  return uses;
};
