/**
 * How the result of `lpu check` looks to a person: how often each operator occurs, and below what stands in the way, what SRAM
 * it takes, and what was not looked at.
 */

import type { SramNeed } from "../../src/host/check.js";
import { stateRoomText } from "../../src/report/capacity.js";
import { formatBytes } from "../../src/report/units.js";
import type { CheckResult } from "../jobs/check.js";
import { printable, renderProblems } from "./problems.js";
import { table, type Terminal } from "./terminal.js";

export function printCheck(result: CheckResult, terminal: Terminal): void {
  const { green, red } = terminal.colors;
  const rows = result.operators.map(({ op, count, supported }) => [
    op,
    String(count),
    supported === count ? "" : `${count - supported} not supported`,
  ]);
  for (const line of table(rows, [1])) terminal.print(`  ${line}`);
  const mark = result.supported ? green("✔") : red("✖");
  terminal.print(`${mark} ${printable(result.model)}: ${result.supportedNodes} of ${result.nodes} nodes are supported`);
  if (result.problems.length > 0) terminal.print(renderProblems(result.problems, terminal.colors));
  if (result.sram !== null)
    terminal.print(`  SRAM: ${printable(sramText(result.sram, result.target, result.chips ?? 1))}`);
  if (result.stateRoom !== null) terminal.print(`  states: ${stateRoomText(result.stateRoom)}`);
  for (const open of result.open) terminal.print(`  open: ${printable(open)}`);
}

/** What is there from the first cycle on has to fit; results need not, for a schedule may order them otherwise than the plan. */
const verdictOn = ({ results, peak, capacity }: SramNeed): string =>
  peak <= capacity ? "suffices" : peak - results <= capacity ? "may suffice" : "does not suffice";

const sramText = (need: SramNeed, target: string, chips: number): string => {
  const { constants, states, inputs, outputs, results, peak, capacity } = need;
  return `${verdictOn(need)} by an estimate, ${formatBytes(peak)} of ${formatBytes(capacity)} of ${chips === 1 ? target : `the fullest of ${chips} chips of ${target}`}  (constants ${formatBytes(constants)}, ${states === 0 ? "" : `states ${formatBytes(states)}, `}inputs ${formatBytes(inputs)}, outputs ${formatBytes(outputs)}, results at the fullest moment ${formatBytes(results)})`;
};
