/**
 * How the results of `lpu verify` look to a person: one line a case as it ends, what is wrong below it, and the totals.
 */

import { basename } from "node:path";
import { formatCount, formatError, formatShare } from "../../src/report/units.js";
import { type CaseResult, STATUSES, type VerifyResult } from "../jobs/cases.js";
import { printable } from "./problems.js";
import type { Terminal } from "./terminal.js";

/** What cases are called in the lines: by their own folder where that tells them apart. */
export function caseLabels(folders: readonly string[]): (folder: string) => string {
  const names = folders.map((folder) => basename(folder));
  const unique = new Set(names).size === names.length;
  const width = Math.max(...(unique ? names : folders).map((label) => label.length));
  return (folder) => printable(unique ? basename(folder) : folder).padEnd(width);
}

/** With `--json` too, but then beside the stages. */
export function printCase(result: CaseResult, label: string, terminal: Terminal): void {
  const { green, red, yellow, dim } = terminal.colors;
  const paint = { passed: green, failed: red, unsupported: yellow, error: red }[result.status];
  const worst = result.outputs.reduce((most, { relL2 }) => Math.max(most, relL2), 0);
  const cells = [
    paint(result.status === "passed" ? "✔" : "✖"),
    label,
    paint(result.status.padEnd("unsupported".length)),
    `${result.cycles === null ? "-" : formatCount(result.cycles)} cycles`.padStart(18),
    `rel. L2 ${result.outputs.length === 0 ? "-" : formatError(worst)}`.padEnd(16),
    result.mxmUtilization === null ? "" : `MXM ${formatShare(result.mxmUtilization)}`,
  ];
  terminal.note(cells.join("  ").trimEnd());
  if (result.reason !== "") terminal.note(dim(`    ${printable(result.reason)}`));
  for (const work of result.hostWork) terminal.note(dim(`    host work: ${printable(work)}`));
  if (result.fixed.length > 0)
    terminal.note(dim(`    fixed to the values of the case: ${printable(result.fixed.join(", "))}`));
}

export function printTotals({ cases, totals }: VerifyResult, terminal: Terminal): void {
  const parts = STATUSES.filter((status) => totals[status] > 0).map((status) => `${totals[status]} ${status}`);
  terminal.note(`${cases.length} cases: ${parts.join(", ")}`);
}
