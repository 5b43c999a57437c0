/**
 * How the result of `lpu report` looks to a person: where the cycles go, in total and by layer, what energy they take, and
 * where time could be won.
 */

import { BOUND_NAMES } from "../../src/report/bounds.js";
import { UNITS } from "../../src/report/bursts.js";
import { WAITS } from "../../src/report/critical.js";
import type { Difference } from "../../src/report/compare.js";
import type { Account } from "../../src/report/nodes.js";
import { alignRows } from "../../src/report/summary.js";
import {
  formatBytes,
  formatCount,
  formatDifference,
  formatEnergy,
  formatScaled,
  formatSeconds,
  formatShare,
} from "../../src/report/units.js";
import type { ReportResult } from "../jobs/report.js";
import { printable } from "./problems.js";
import { table, type Terminal } from "./terminal.js";

export function printReport(result: ReportResult, terminal: Terminal): void {
  const { bold } = terminal.colors;
  const title = (text: string): void => terminal.print(`\n${bold(printable(text))}`);
  const print = (lines: readonly string[]): void => {
    for (const line of lines) terminal.print(`  ${printable(line)}`);
  };
  const { cycles, chips, bounds, layers, advice, critical, comparison, files } = result;
  const all = cycles * chips;
  const share = (part: number): string => formatShare(all === 0 ? 0 : part / all);
  terminal.print("");
  print(alignRows(figureRows(result)));
  title("Where the cycles go");
  const boundRows = bounds.map((row) => [row.name, formatCount(row.cycles), share(row.cycles), row.doc]);
  print(table(boundRows, [1, 2]));
  title("Layers");
  print(table([LAYER_HEAD, ...layers.map((layer) => layerRow(layer, share))], [1, 2, 3, 4, 5]));
  title("Critical path");
  print(criticalLines(critical, cycles));
  if (advice.length > 0) {
    title("Where time could be won");
    print(advice.map(({ text }) => text));
  }
  if (comparison !== null) {
    title(`Compared with ${comparison.other} on ${comparison.otherTarget}`);
    print(comparisonLines(comparison, cycles));
  }
  if (files.length > 0) terminal.print("");
  print(files.map(({ file, bytes }) => `${file}  (${formatBytes(bytes)})`));
}

const figureRows = (result: ReportResult): readonly (readonly [string, string])[] => {
  const { cycles, chips, energy, sram } = result;
  const place = chips === 1 ? result.target : `${chips} chips of ${result.target}`;
  return [
    [
      "cycles",
      `${formatCount(cycles)}  (${formatSeconds(result.microseconds / 1e6)} at ${result.clockMHz} MHz, ${place})`,
    ],
    [
      "energy",
      `${formatEnergy(energy.femtojoules)}, ${formatCount(energy.averageWatts)} W on average, ${formatCount(energy.peakWatts)} W at most over ${formatCount(energy.gridCycles)} cycles  (${energy.note})`,
    ],
    [
      "SRAM",
      `${formatBytes(sram.peak)} of ${formatBytes(sram.capacity)} at the fullest moment  (constants ${formatBytes(sram.constants)})`,
    ],
    ["bursts", formatCount(result.bursts)],
  ];
};

const criticalLines = ({ waits, steps, slack, sums }: ReportResult["critical"], cycles: number): readonly string[] => {
  const shares = WAITS.filter((wait) => waits[wait] > 0).map((wait) => `${formatShare(waits[wait] / cycles)} ${wait}`);
  const rows = sums
    .slice(0, MOST_SUMS)
    .map((sum) => [
      sum.wait,
      formatCount(sum.cycles),
      formatShare(sum.cycles / cycles),
      formatCount(sum.steps),
      formatCount(sum.slack),
      sum.nodes,
    ]);
  return [
    `${formatCount(steps)} steps, each of which waited for the one before: ${shares.join(", ")}; nothing held them back for ${formatCount(slack)} cycles`,
    ...table([CRITICAL_HEAD, ...rows], [1, 2, 3, 4]),
  ];
};

const comparisonLines = (
  { otherCycles, difference, nodes, bounds, units }: NonNullable<ReportResult["comparison"]>,
  cycles: number,
): readonly string[] => {
  const changed = BOUND_NAMES.filter((name) => bounds[name] !== 0);
  const most = nodes.filter((node) => node.difference !== 0).slice(0, MOST);
  const unitRows = UNITS.map((unit) => {
    const { bursts, executions, vectors } = units[unit];
    return [unit, ...[bursts, executions, vectors].map(formatDifference)];
  });
  return [
    `${formatCount(cycles)} cycles here, ${formatCount(otherCycles)} there: ${formatDifference(difference)}`,
    ...table(
      changed.map((name) => [name, formatDifference(bounds[name])]),
      [1],
    ),
    ...table([UNIT_HEAD, ...unitRows], [1, 2, 3]),
    ...(most.length > 0 ? table([NODE_HEAD, ...most.map(nodeRow)], [1, 2, 3]) : []),
  ];
};

/** Nodes of a comparison that are shown; all are in the JSON. */
const MOST = 20;
/** Rows of the critical path that are shown; all steps are in the CSV. */
const MOST_SUMS = 8;
const CRITICAL_HEAD: readonly string[] = ["waits for", "cycles", "share", "steps", "slack", "node"];
const UNIT_HEAD: readonly string[] = ["unit", "bursts", "executions", "byte vectors"];
const NODE_HEAD: readonly string[] = ["node", "here", "there", "difference", ""];

const nodeRow = ({ name, cycles, otherCycles, difference, in: place }: Difference): string[] => [
  name,
  ...[formatCount(cycles), formatCount(otherCycles), formatDifference(difference)],
  place === "both" ? "" : `only ${place === "this" ? "here" : "there"}`,
];

const LAYER_HEAD: readonly string[] = ["", "cycles", "share", "both arrays", "MACs", "energy"];

const layerRow = ({ name, cycles, bounds, macs, energy }: Account, share: (part: number) => string): string[] => [
  name,
  formatCount(cycles),
  share(cycles),
  formatShare(cycles === 0 ? 0 : bounds.arrays / cycles),
  formatScaled(macs).trimEnd(),
  formatEnergy(energy),
];
