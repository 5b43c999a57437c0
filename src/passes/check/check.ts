/**
 * An independent proof that a Program is legal, made for each of its entries on every compile before anything is encoded.
 *
 * It knows the ISA table, the target and the program, and shares no code with the scheduler. Its parts replay the program,
 * each from one point of view, with plain tables indexed by cycle; they may be slow to explain a fault but are quick to find
 * none. Legality does not see meaning: a row that is overwritten too early, or a wrong operand that is there at the right
 * time. With the plan, meaning.ts proves that too. The first broken rule raises a MachineFault that names cycle, queue,
 * instruction and ONNX node.
 */

import { at, CompileError, fail, MachineFault } from "../../diagnostics.js";
import type { ScheduleFacts } from "../../ir/facts.js";
import type { Plan } from "../../ir/plan.js";
import type { EntryProgram } from "../../ir/program.js";
import type { Hemisphere } from "../../ir/target.js";
import { arrayFacts } from "./activity.js";
import { type CheckedChip, checkedChip } from "./burst.js";
import { leastInterval } from "./interval.js";
import { checkLinks, checkWires } from "./links.js";
import { checkMeaning, meansRepeatedly } from "./meaning.js";
import { checkMemory } from "./memory.js";
import { checkMxm } from "./mxm.js";
import { checkOperands } from "./operands.js";
import { checkPadding } from "./padding.js";
import { cyclesLeftOut, shortened } from "./repeat.js";
import { checkChains, checkStreams, type Taken } from "./streams.js";

const HEMISPHERES: readonly Hemisphere[] = ["W", "E"];

/** With the plans from which the program was made, one for each chip: also that each computes what its plan says. */
export const checkSchedule = (program: EntryProgram, ...plans: readonly Plan[]): ScheduleFacts => {
  const { chips, entry } = program;
  const interval = isProvedOnce(program, plans) ? at(entry.cycles, 0, "chip") : proveWhole(program, plans);
  return {
    interval,
    arrays: chips.flatMap((_, chip) =>
      HEMISPHERES.map((hemisphere) => arrayFacts(program, chip, hemisphere, at(entry.cycles, chip, "chip"))),
    ),
  };
};

/** Every burst by itself, whatever repeats itself. Returns the interval of inferences. */
export const proveWhole = (program: EntryProgram, plans: readonly Plan[]): number => {
  const chips = program.chips.map((_, index) => checkedChip(program, index));
  const taken = proveLegal(program, chips, 0);
  if (plans.length > 0) {
    checkPadding(plans, program.target);
    checkWires(plans, program);
    checkMeaning(plans, chips, taken);
  }
  return leastInterval(program, chips, taken);
};

/**
 * Whether a program is proved by fewer of its periods. What is found wrong may be the matter of a proof that does not fit:
 * the proof of the whole program says what it is.
 */
const isProvedOnce = (program: EntryProgram, [plan, ...others]: readonly Plan[]): boolean => {
  const short = shortened(program);
  if (short === undefined || others.length > 0) return false;
  const less = short.program;
  try {
    const chip = checkedChip(less, 0);
    const taken = proveLegal(less, [chip], cyclesLeftOut(short));
    if (plan === undefined) return true;
    checkPadding([plan], program.target);
    checkWires([plan], program);
    return meansRepeatedly(plan, chip, at(taken, 0, "chip"), short, at(program.chips, 0, "chip").queues);
  } catch (error) {
    if (error instanceof CompileError || error instanceof MachineFault) return false;
    throw error;
  }
};

/** `later`: by how many cycles the prediction is of a longer program. */
const proveLegal = (program: EntryProgram, chips: readonly CheckedChip[], later: number): Taken[] => {
  for (const chip of chips) checkOperands(chip);
  checkPrediction(program, chips, later);
  const taken = chips.map((chip) => {
    checkMemory(chip);
    const flows = checkStreams(chip);
    checkChains(chip);
    return flows;
  });
  checkLinks(program, chips);
  for (const chip of chips) for (const hemisphere of HEMISPHERES) checkMxm(chip, hemisphere);
  return taken;
};

const checkPrediction = (
  { entry: { name, cycles } }: EntryProgram,
  chips: readonly CheckedChip[],
  later: number,
): void => {
  for (const { index, cycles: counted } of chips)
    if (cycles[index] !== counted + later)
      fail("LPU2222", {
        message: `entry '${name}': expected ${counted + later} cycles of chip ${index}, found a prediction of ${cycles[index]}`,
      });
};
