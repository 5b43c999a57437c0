/** How the result of `lpu run` looks to a person. */

import type { NonFinite } from "../../src/ir/nonfinite.js";
import { alignRows } from "../../src/report/summary.js";
import { formatCount, formatSeconds } from "../../src/report/units.js";
import type { RunReport } from "../jobs/run.js";
import { printable } from "./problems.js";
import type { Terminal } from "./terminal.js";

export function printRun(result: RunReport, terminal: Terminal): void {
  const rows = result.outputs.map(
    ({ name, dtype, shape, file, nonFinite }) =>
      [
        name,
        `${dtype}[${shape.join(",")}]  ${file}${nonFinite === undefined ? "" : nonFiniteText(nonFinite)}`,
      ] as const,
  );
  const cycles = `${formatCount(result.cycles)}  (predicted ${formatCount(result.predictedCycles)}; ${formatSeconds(result.seconds)} on this computer)`;
  const replays = result.replays.map((reason) => ["done again", reason] as const);
  for (const line of alignRows([["cycles", cycles], ...replays, ...rows])) terminal.print(printable(line));
}

const nonFiniteText = ({ element, value, count }: NonFinite): string =>
  `  (element ${element} is ${value}${count > 1 ? `, and ${count - 1} more are not finite` : ""}; lpu verify names the node that made it)`;
