/** How the result of `lpu build` looks to a person. */

import { alignRows, summaryRows } from "../../src/report/summary.js";
import { formatBytes } from "../../src/report/units.js";
import type { BuildResult } from "../jobs/build.js";
import { printable } from "./problems.js";
import type { Terminal } from "./terminal.js";

/** The result for the person, and for `--json`. */
export function printBuild(result: BuildResult, page: string | undefined, terminal: Terminal): void {
  const { report, seconds, image, annotated, sha256, imageBytes, cached, fixed } = result;
  const written = { ...(page !== undefined && { page }), ...(annotated !== undefined && { annotated }) };
  terminal.result({
    image,
    ...written,
    sha256,
    imageBytes,
    cached,
    fixed,
    ...report,
    sramBytes: report.sram.bytes,
    seconds,
  });
  const rows = [
    ...summaryRows(report),
    ...(fixed.length === 0 ? [] : [["fixed inputs", fixed.join(", ")] as const]),
    ["image", `${image}  (${formatBytes(imageBytes)}, sha256 ${sha256.slice(0, 12)})`] as const,
    ...(annotated === undefined ? [] : [["annotated", annotated] as const]),
    ...(page === undefined ? [] : [["report", page] as const]),
  ];
  terminal.print("");
  for (const line of alignRows(rows)) terminal.print(`  ${printable(line)}`);
}
