/**
 * How the results of `lpu verify` look to a person: one line a case as it ends, what is wrong below it, and the totals.
 */

import { formatCount, formatError, formatShare } from "../src/report/units.js";
import { type CaseResult, STATUSES, type VerifyResult } from "./cases.js";
import { printable } from "./problems.js";
import type { Terminal } from "./terminal.js";

/** `width` is that of the longest folder. */
export function printCase(result: CaseResult, width: number, terminal: Terminal): void {
  const { green, red, yellow, dim } = terminal.colors;
  const paint = { passed: green, failed: red, unsupported: yellow, error: red }[result.status];
  const worst = result.outputs.reduce((most, { relL2 }) => Math.max(most, relL2), 0);
  const cells = [
    paint(result.status === "passed" ? "✔" : "✖"),
    printable(result.folder.padEnd(width)),
    paint(result.status.padEnd("unsupported".length)),
    `${result.cycles === null ? "-" : formatCount(result.cycles)} cycles`.padStart(18),
    `rel. L2 ${result.outputs.length === 0 ? "-" : formatError(worst)}`.padEnd(16),
    result.mxmUtilization === null ? "" : `MXM ${formatShare(result.mxmUtilization)}`,
  ];
  terminal.print(cells.join("  ").trimEnd());
  if (result.reason !== "") terminal.print(dim(`    ${printable(result.reason)}`));
  for (const work of result.hostWork) terminal.print(dim(`    host work: ${printable(work)}`));
}

export function printTotals({ cases, totals }: VerifyResult, terminal: Terminal): void {
  const parts = STATUSES.filter((status) => totals[status] > 0).map((status) => `${totals[status]} ${status}`);
  terminal.print(`${cases.length} cases: ${parts.join(", ")}`);
}
