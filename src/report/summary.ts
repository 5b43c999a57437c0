/**
 * The summary that stands under a finished build: one fact a line, labels and figures in two columns.
 * Everything comes from the BuildReport; where the image went is the caller's to add as further rows.
 */

import { type Kept, LEAST_GAIN, type Sharding, type Taken, type Weight } from "../ir/facts.js";
import { stateRoomText } from "./capacity.js";
import type { BuildReport } from "./report.js";
import { estimatePerformance } from "./report.js";
import { formatBytes, formatCount, formatScaled, formatSeconds, formatShare } from "./units.js";

/** Label and text of every line. */
export function summaryRows(report: BuildReport): readonly (readonly [string, string])[] {
  const performance = estimatePerformance(report);
  const { sram, streams, pcie } = report;
  return [
    [
      "cycles",
      `${formatCount(report.cycles)}  (${formatSeconds(report.microseconds / 1e6)} at ${report.clockMHz} MHz, ${report.target})`,
    ],
    ...chipRows(report),
    ...(report.entries.length === 1
      ? []
      : [
          [
            "entries",
            report.entries.map(({ name, cycles }) => `${name} ${formatCount(cycles)} cycles`).join(", "),
          ] as const,
        ]),
    [
      "inferences/s",
      `${formatCount(report.inferencesPerSecond)}  (${formatCount(performance.totalInferencesPerSecond)} with PCIe)`,
    ],
    [
      "MXM utilization",
      `${formatShare(report.mxmUtilization)}  (${formatScaled(report.macs)}MAC; array busy ${formatShare(report.mxmBusy.W)} west, ${formatShare(report.mxmBusy.E)} east)`,
    ],
    [
      "SRAM",
      `${formatBytes(sram.bytes)} of ${formatBytes(sram.capacity)}  (constants ${formatBytes(sram.constants)}, ${sram.states === 0 ? "" : `states ${formatBytes(sram.states)}, `}inputs ${formatBytes(sram.inputs)}, results ${formatBytes(sram.scratch)})`,
    ],
    ...(report.stateRoom === null ? [] : [["states", stateRoomText(report.stateRoom)] as const]),
    ["streams", `${streams.used} of ${streams.available}  (${streams.vectorsPerCycle.toFixed(1)} vectors a cycle)`],
    ["program text", `${formatBytes(report.textBytes)}  (${formatCount(report.instructions)} instructions)`],
    [
      "PCIe estimate",
      `${formatSeconds(pcie.microseconds / 1e6)}  (${formatBytes(pcie.inputBytes)} in, ${formatBytes(pcie.outputBytes)} out)`,
    ],
    [
      "host work",
      report.hostWork.length === 0
        ? "none"
        : report.hostWork.map(({ input, origin }) => `${origin} (rows chosen by ${input})`).join(", "),
    ],
    ...weightRows(report),
    ...report.kept.map((row, index): readonly [string, string] => [
      index === 0 ? "wider than fp16" : "",
      keptText(row),
    ]),
  ];
}

/** Which cycles each of several chips works in, and what goes between them. */
const chipRows = ({
  chips,
  busy,
  interval,
  idle,
  linkBytes,
  sharding,
}: BuildReport): readonly (readonly [string, string])[] => {
  const count = idle === 0 ? `${chips}` : `${chips} of ${chips + idle}, more would have nothing to do`;
  const isPipeline = chips > 1 && (sharding?.chips ?? 1) === 1;
  if (sharding !== null && !isPipeline) {
    const each = chips === 1 ? "" : `, alike, ${formatBytes(linkBytes)} over links`;
    return [["chips", `${count}${each}  (${shardingText(sharding)})`], ...annotatedRows(sharding)];
  }
  if (chips === 1) return idle === 0 ? [] : [["chips", count]];
  const spans = busy.map(({ start, end }) => `${formatCount(start)} to ${formatCount(end)}`);
  return [
    ["chips", `${count}  (at work in cycles ${spans.join(", ")})`],
    ["pipeline", `an inference every ${formatCount(interval)} cycles, ${formatBytes(linkBytes)} of each over links`],
    ...(sharding === null ? [] : [["products", shardingText(sharding)] as const]),
  ];
};

/** What the model says of where results lie, as far as they are values of the graph. */
const annotatedRows = ({ annotated: { held, open } }: Sharding): readonly (readonly [string, string])[] => {
  if (held + open.length === 0) return [];
  const missing = open.length === 0 ? "" : `; no values of their own, so left to the search: ${open.join(", ")}`;
  return [["annotations", `${formatCount(held)} results lie as the model says${missing}`]];
};

/** Weights of which the loss is listed. */
const LISTED = 5;

const weightRows = ({ weights }: BuildReport): readonly (readonly [string, string])[] => {
  if (weights === null) return [];
  const { narrowed, given, kept, widened } = weights;
  const values = (list: readonly Weight[]): number =>
    list.reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0);
  const part = (list: readonly Weight[], text: string): readonly string[] =>
    list.length === 0 ? [] : [`${formatCount(values(list))} values ${text}`];
  const parts = [
    ...part(narrowed, `narrowed to ${narrowed[0]?.dtype}`),
    ...part(given, "as the model has them"),
    ...part(kept, "stay fp16"),
  ];
  const few = widened.map(({ dtype, values: count }) => `${formatCount(count)} values of ${dtype}`).join(", ");
  return [
    ...(parts.length === 0 ? [] : [["weights in FP8", parts.join(", ")] as const]),
    ...(few === ""
      ? []
      : [
          [
            "few bits",
            `${few} in the model lie as fp16${narrowed.length === 0 ? "" : ", or are narrowed again"}`,
          ] as const,
        ]),
    ...narrowed
      .slice(0, LISTED)
      .map(({ name, decibels, greatest, saturated }, index): readonly [string, string] => [
        index === 0 ? "lost most" : "",
        `${decibels === null ? "nothing" : `${decibels.toFixed(1)} dB`}  ${name}  (off by ${greatest.toPrecision(2)} at most, ${formatCount(saturated)} saturated)`,
      ]),
  ];
};

const keptText = ({ dtype, reason, doc, tensors, values }: Kept): string =>
  `${dtype} for '${reason}': ${formatCount(values)} values in ${formatCount(tensors)} ${tensors === 1 ? "tensor" : "tensors"}  (${doc})`;

/** Rows as lines, labels padded to one width. */
export function alignRows(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

export const summaryLines = (report: BuildReport): string[] => alignRows(summaryRows(report));

/** How a graph is shared out among chips, in one line. */
export const shardingText = (sharding: Sharding): string => {
  const { chips, asked, by, cycles, exchanges, runnerUp } = sharding;
  const figure = ({ chips: count, stages, cycles: taken }: Taken): string =>
    `${formatCount(taken)} on ${stages > 1 ? `${stages} ${count > 1 ? `times ${count}` : "one behind the other"}` : count === 1 ? "one" : count}`;
  const title = by === "estimate" ? "estimated cycles" : "cycles";
  const over = exchanges.map(({ op, count }) => `${formatCount(count)} ${op}`).join(", ");
  const shared =
    chips === 1 ? `not shared among ${asked} chips` : `shared among ${chips} chips, ${over || "no exchange"}`;
  const isClose = by === "schedule" && chips === 1 && runnerUp.cycles < cycles;
  const gain = isClose ? `, which would be less than ${formatShare(LEAST_GAIN)} faster` : "";
  return `${shared}${gain}; ${title}: ${figure(sharding)}, ${figure(runnerUp)}`;
};
