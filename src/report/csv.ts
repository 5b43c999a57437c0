/** The activity as tables of comma-separated values, one file each: header, then rows, in an order that never changes. */

import { at } from "../diagnostics.js";
import { type TimedInstruction, queueName } from "../ir/program.js";
import { watts } from "./energy.js";
import type { Activity } from "./activity.js";
import type { Analysis } from "./analysis.js";
import { BOUND_NAMES, type Stretches } from "./bounds.js";
import type { PathStep } from "./critical.js";
import { type Account, accountsByLayer, accountsByNode } from "./nodes.js";
import { binCycles, POWER_ROWS, type Power } from "./power.js";

/** How an instruction is written, as in a listing. */
export type Describe = (instruction: TimedInstruction) => string;

/** Files by name; lines are made while they are written. */
export const csvFiles = (
  { activity, stretches, power, path }: Analysis,
  describe: Describe,
): Readonly<Record<string, () => Iterable<string>>> => ({
  "bursts.csv": () => burstLines(activity, describe),
  "flights.csv": () => flightLines(activity),
  "bounds.csv": () => stretchLines(activity, stretches),
  "critical.csv": () => stepLines(activity, path),
  "layers.csv": () => accountLines(accountsByLayer(activity, stretches)),
  "nodes.csv": () => accountLines(accountsByNode(activity, stretches)),
  "power.csv": () => powerLines(activity, power),
  "sram.csv": () => sramLines(activity),
});

function* burstLines({ program, bursts }: Activity, describe: Describe): Generator<string> {
  yield "burst,chip,queue,cycle,last,count,interval,vectors taken,vectors given,operations,femtojoules,node,instruction";
  for (const [burst, instruction] of bursts.instructions.entries()) {
    const { chip, queue, cycle, last, count, interval, taken, given, operations, energy, origin } = bursts;
    yield line(
      burst,
      chip[burst],
      queueName(program.target, queue[burst] as number),
      ...[cycle, last, count, interval, taken, given, operations, energy].map((column) => column[burst]),
      program.origins[origin[burst] as number],
      describe(instruction),
    );
  }
}

function* flightLines({ flights }: Activity): Generator<string> {
  yield "from burst,to burst,stream,vectors,hops,shared";
  const { from, to, stream, vectors, hops, tap } = flights;
  for (let flight = 0; flight < flights.size; flight++)
    yield line(...[from, to, stream, vectors, hops, tap].map((column) => column[flight]));
}

function* stretchLines({ program, bursts }: Activity, stretches: Stretches): Generator<string> {
  yield "chip,from,to,bound,burst,node";
  for (let stretch = 0; stretch < stretches.size; stretch++) {
    const { chip, from, to, bound, burst } = stretches;
    const of = burst[stretch] as number;
    const node = program.origins[at(bursts.origin, of, "origin")];
    yield line(chip[stretch], from[stretch], to[stretch], BOUND_NAMES[bound[stretch] as number], of, node);
  }
}

function* stepLines({ program, bursts }: Activity, path: readonly PathStep[]): Generator<string> {
  yield "from,to,waited for,slack,burst,node";
  for (const { from, to, wait, slack, burst } of path)
    yield line(from, to, wait, slack, burst, program.origins[bursts.origin[burst] as number]);
}

function* accountLines(accounts: readonly Account[]): Generator<string> {
  yield line(
    ...["name", "layer", "bursts", "first", "end", "cycles", ...BOUND_NAMES],
    ...["macs", "lane operations", "sram bytes", "femtojoules"],
  );
  for (const account of accounts) {
    const { name, layer, bursts, first, end, cycles, bounds, macs, laneOperations, sramBytes, energy } = account;
    const byBound = BOUND_NAMES.map((bound) => bounds[bound]);
    yield line(name, layer, bursts, first, end, cycles, ...byBound, macs, laneOperations, sramBytes, energy);
  }
}

/** A model, calibrated to the published envelope, not measured. */
function* powerLines({ program, cycles }: Activity, { grid, bins, energy }: Power): Generator<string> {
  yield line("from", "cycles", ...POWER_ROWS.map((row) => `${row} femtojoules`), "model watts");
  for (let bin = 0; bin < bins; bin++) {
    const own = POWER_ROWS.map((row) => energy[row][bin] as number);
    const length = binCycles(cycles, grid, bin);
    const total = own.reduce((sum, value) => sum + value, 0);
    yield line(bin * grid, length, ...own, watts(program.target, total, length));
  }
}

function* sramLines({ memory }: Activity): Generator<string> {
  yield "cycle,live rows beside constants,rows of constants";
  const { cycle, value } = memory.live;
  for (let step = 0; step < cycle.length; step++) yield line(cycle[step], value[step], memory.constants);
}

const line = (...cells: readonly (string | number | undefined)[]): string => cells.map(cell).join(",");
const cell = (value: string | number | undefined): string => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
