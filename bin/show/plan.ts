/** How a plan of a system looks to a person: its figures, what they are made of, and what they rest on. */

import { at } from "../../src/diagnostics.js";
import type { Kind, SystemPlan } from "../../src/planner/system-plan.js";
import { alignRows } from "../../src/report/summary.js";
import { formatBytes, formatCount, formatEnergy, formatSeconds, formatShare } from "../../src/report/units.js";
import type { PlanResult } from "../jobs/plan.js";
import { printable } from "./problems.js";
import { table, type Terminal } from "./terminal.js";

export function printPlan({ plan, seconds }: PlanResult, terminal: Terminal): void {
  const show = (line: string): void => terminal.print(`  ${printable(line)}`);
  terminal.print("");
  for (const line of alignRows(planRows(plan))) show(line);
  terminal.print("");
  for (const line of table([KIND_COLUMNS, ...plan.kinds.map(kindCells)], [0, 1, 2, 4, 5, 6, 7])) show(line);
  terminal.print("");
  for (const assumption of plan.assumptions) show(`- ${assumption}`);
  show(`- planned in ${formatSeconds(seconds)} on this computer`);
}

const planRows = (plan: SystemPlan): readonly (readonly [string, string])[] => {
  const { cycles, microseconds, rate, users, sram, power, cost, unit } = plan;
  const time = (micro: number): string => formatSeconds(micro / 1e6);
  const fullest = at(plan.stages, sram.stage, "stage");
  return [
    [
      "chips",
      `${formatCount(plan.chips)} of ${formatCount(plan.systemChips)} of ${plan.system}${plan.dead.length === 0 ? "" : ` without ${plan.dead.join(", ")}`}  (${stagesText(plan)})`,
    ],
    [
      unit,
      `${time(microseconds.chips)}, ${time(microseconds.withHost)} with the host  (${formatCount(cycles.total)} cycles at ${plan.clockMHz} MHz: stages ${formatCount(cycles.stages)}, wires between them ${formatCount(cycles.hops)}; weights alone would take ${formatCount(cycles.floor)})`,
    ],
    [
      `${unit}s/s a user`,
      `${formatCount(rate.user)}, ${formatCount(rate.userWithHost)} with the host${plan.context === null ? "" : `  (context ${formatCount(plan.context)}, batch ${plan.batch})`}`,
    ],
    [
      `${unit}s/s in all`,
      `${formatCount(rate.system)}  (a run of ${plan.batch} every ${formatCount(cycles.interval)} cycles at most)`,
    ],
    ...(plan.firstTokenMicroseconds === null
      ? []
      : [
          [
            "first token",
            `${time(plan.firstTokenMicroseconds)} after a prompt of ${formatCount(plan.context ?? 0)}`,
          ] as const,
        ]),
    ...(users === null
      ? []
      : [
          [
            "users",
            `${formatCount(users.fit)} of context ${formatCount(plan.context ?? 0)} fit, or one with ${formatCount(users.fit)} times the context  (${formatCount(users.busy)} would keep all stages at work)`,
          ] as const,
        ]),
    [
      "SRAM",
      `${formatBytes(sram.constants + sram.states + sram.results)} of ${formatBytes(sram.capacity)} in the fullest chips, ${fullest.from} to ${fullest.to}  (weights ${formatBytes(sram.constants)}, states ${formatBytes(sram.states)}, results and edges ${formatBytes(sram.results)})`,
    ],
    ...linkRows(plan),
    [
      "power",
      `${formatCount(power.watts)} W, ${formatCount(power.wattsOfChip)} W a chip; ${formatEnergy(power.joules * 1e15)} a ${unit}${withoutModelled(plan)}`,
    ],
    ...(cost === null
      ? []
      : [
          [
            `a million ${unit}s`,
            `${cost.total.toFixed(2)}  (chips ${cost.chips.toFixed(2)}, energy ${cost.energy.toFixed(2)}, in the currency of the prices)`,
          ] as const,
        ]),
  ];
};

/** How many stages of how many chips, and how many parts they are made of where these are more. */
const stagesText = ({ stages }: SystemPlan): string => {
  const chips = rangeText(
    stages.map((stage) => stage.chips.length),
    "chip",
  );
  const parts = stages.map(({ first, end }) => end - first);
  const made = parts.every((count) => count === 1)
    ? ""
    : `, ${rangeText(parts, "part")}${stages.length === 1 ? "" : " in each"}`;
  return `${rangeText([stages.length], "stage")} of ${chips}${made}`;
};

const rangeText = (counts: readonly number[], what: string): string => {
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return `${least === most ? "" : `${formatCount(least)} to `}${formatCount(most)} ${what}${most === 1 ? "" : "s"}`;
};

/** Where a part was only modelled, nothing is known of what it adds to a figure. */
const withoutModelled = ({ kinds }: SystemPlan): string =>
  kinds.some(({ source }) => source === "modelled") ? "  (without modelled parts)" : "";

/** Shares of time, as far as there are links at work. */
const linkRows = (plan: SystemPlan): readonly (readonly [string, string])[] => {
  const { stages, links, kinds } = plan;
  const shares = [
    ...(stages.length > 1 ? [`${formatShare(links.between)} of the time between groups`] : []),
    ...(kinds.some(({ chips }) => chips > 1) ? [`${formatShare(links.within)} within one`] : []),
  ];
  return shares.length === 0 ? [] : [["busiest links", `${shares.join(", ")}${withoutModelled(plan)}`]];
};

const KIND_COLUMNS = ["parts", "chips", "cycles", "", "floor", "weights", "states", "results", "from", "to"] as const;

const kindCells = (kind: Kind): readonly string[] => [
  formatCount(kind.count),
  formatCount(kind.chips),
  formatCount(kind.cycles),
  kind.source,
  formatCount(kind.floor),
  formatBytes(kind.constants),
  formatBytes(kind.states),
  formatBytes(kind.results),
  kind.first,
  kind.last,
];
