/**
 * How the result of `lpu check` looks to a person: how often each operator occurs, and below what is not supported and why.
 */

import type { CheckResult } from "./check.js";
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
  if (result.unbound.length > 0) {
    const names = result.unbound.map((name) => `'${printable(name)}'`).join(", ");
    terminal.print(`  only names of operators were checked: dimensions ${names} have no size (--bind)`);
  }
}
