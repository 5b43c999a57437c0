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
import type { Hemisphere } from "../../ir/target.js";
import { type CheckedChip, checkedChip } from "./burst.js";
import { checkLinks, checkWires } from "./links.js";
import { checkMeaning } from "./meaning.js";
import { checkMemory } from "./memory.js";
import { checkMxm } from "./mxm.js";
import { checkOperands } from "./operands.js";
import { checkPadding } from "./padding.js";
import { checkChains, checkStreams } from "./streams.js";

const HEMISPHERES: readonly Hemisphere[] = ["W", "E"];

/** With the plans from which the program was made, one for each chip: also that each computes what its plan says. */
export const checkSchedule = (program: EntryProgram, ...plans: readonly Plan[]): ScheduleFacts => {
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
  if (plans.length > 0) {
    checkPadding(plans, program.target);
    checkWires(plans, program);
    checkMeaning(plans, chips, taken);
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
