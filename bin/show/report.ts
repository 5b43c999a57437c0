/**
 * How the result of `lpu report` looks to a person: where the cycles go, in total and by layer, what energy they take, and
 * where time could be won.
 */

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
  const { cycles, chips, energy, sram, bounds, layers, advice, critical, comparison, files } = result;
  const all = cycles * chips;
  const share = (part: number): string => formatShare(all === 0 ? 0 : part / all);
  const print = (lines: readonly string[]): void => {
    for (const line of lines) terminal.print(`  ${printable(line)}`);
  };
  const place = chips === 1 ? result.target : `${chips} chips of ${result.target}`;
  terminal.print("");
  print(
    alignRows([
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
    ]),
  );
  terminal.print(`\n${bold("Where the cycles go")}`);
  print(
    table(
      bounds.map((row) => [row.name, formatCount(row.cycles), share(row.cycles), row.doc]),
      [1, 2],
    ),
  );
  terminal.print(`\n${bold("Layers")}`);
  print(table([LAYER_HEAD, ...layers.map((layer) => layerRow(layer, share))], [1, 2, 3, 4, 5]));
  terminal.print(`\n${bold("Critical path")}`);
  const waits = WAITS.filter((wait) => critical.waits[wait] > 0);
  print([
    `${formatCount(critical.steps)} steps, each of which waited for the one before: ${waits
      .map((wait) => `${formatShare(critical.waits[wait] / cycles)} ${wait}`)
      .join(", ")}; nothing held them back for ${formatCount(critical.slack)} cycles`,
  ]);
  const sums = critical.sums.slice(0, MOST_SUMS);
  print(
    table(
      [
        CRITICAL_HEAD,
        ...sums.map(({ wait, nodes, steps, cycles: own, slack }) => [
          wait,
          formatCount(own),
          formatShare(own / cycles),
          formatCount(steps),
          formatCount(slack),
          nodes,
        ]),
      ],
      [1, 2, 3, 4],
    ),
  );
  if (advice.length > 0) {
    terminal.print(`\n${bold("Where time could be won")}`);
    print(advice.map(({ text }) => text));
  }
  if (comparison !== null) {
    const { other, otherTarget, otherCycles, difference, nodes } = comparison;
    terminal.print(`\n${bold(printable(`Compared with ${other} on ${otherTarget}`))}`);
    print([`${formatCount(cycles)} cycles here, ${formatCount(otherCycles)} there: ${formatDifference(difference)}`]);
    const changed = bounds.filter(({ name }) => comparison.bounds[name] !== 0);
    print(
      table(
        changed.map(({ name }) => [name, formatDifference(comparison.bounds[name])]),
        [1],
      ),
    );
    print(
      table(
        [
          ["unit", "bursts", "executions", "byte vectors"],
          ...UNITS.map((unit) => {
            const { bursts, executions, vectors } = comparison.units[unit];
            return [unit, ...[bursts, executions, vectors].map(formatDifference)];
          }),
        ],
        [1, 2, 3],
      ),
    );
    const most = nodes.filter((node) => node.difference !== 0).slice(0, MOST);
    if (most.length > 0) print(table([NODE_HEAD, ...most.map(nodeRow)], [1, 2, 3]));
  }
  if (files.length > 0) terminal.print("");
  for (const { file, bytes } of files) print([`${file}  (${formatBytes(bytes)})`]);
}

/** Nodes of a comparison that are shown; all are in the JSON. */
const MOST = 20;
/** Rows of the critical path that are shown; all steps are in the CSV. */
const MOST_SUMS = 8;
const CRITICAL_HEAD: readonly string[] = ["waits for", "cycles", "share", "steps", "slack", "node"];
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
