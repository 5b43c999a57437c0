/**
 * What the page of a report holds: figures as they are in the overview, and the activity as columns in base64.
 *
 * A burst's instruction is a text of `texts` in which `@` stands for its address, so that the texts are few.
 */

import { queueName, type TimedInstruction } from "../../ir/program.js";
import type { Activity } from "../activity.js";
import { BOUND_NAMES, type Stretches } from "../bounds.js";
import { unitOf } from "../bursts.js";
import type { Comparison } from "../compare.js";
import { watts } from "../energy.js";
import { layerOf } from "../nodes.js";
import type { Overview } from "../overview.js";
import { binCycles, POWER_ROWS, type Power } from "../power.js";
import { givenByBin } from "../trace.js";

export interface Column {
  readonly type: string;
  readonly base64: string;
}

export interface PageRow {
  readonly name: string;
  readonly unit: string;
  /** Its bursts: `first` to `end`, not included. */
  readonly first: number;
  readonly end: number;
}

export interface PageData {
  readonly overview: Omit<Overview, "nodes">;
  /** With another program: layers of both, and no nodes. */
  readonly comparison: Omit<Comparison, "nodes"> | null;
  readonly lanes: number;
  readonly bounds: readonly string[];
  readonly powerRows: readonly string[];
  /** Queues that do anything, in the order of the page. */
  readonly rows: readonly PageRow[];
  readonly nodes: readonly string[];
  /** By node: index into `layers`. */
  readonly layerOfNode: readonly number[];
  readonly layers: readonly string[];
  readonly ops: readonly string[];
  readonly texts: readonly string[];
  readonly grid: number;
  readonly constants: number;
  readonly columns: Readonly<Record<ColumnName, Column>>;
}

export type ColumnName =
  | "cycle"
  | "last"
  | "node"
  | "op"
  | "text"
  | "address"
  | "energy"
  | "flightFrom"
  | "flightTo"
  | "flightVectors"
  | "stretchFrom"
  | "stretchBound"
  | "stretchBurst"
  | "sramCycle"
  | "sramRows"
  | "given"
  | "watts";

export function pageData(
  activity: Activity,
  stretches: Stretches,
  power: Power,
  { nodes: _, comparison = null, ...overview }: Overview & { readonly comparison?: Comparison | null },
  describe: (instruction: TimedInstruction) => string,
): PageData {
  const { program, bursts, flights, memory, cycles } = activity;
  const { target } = program;
  const rows: PageRow[] = [];
  for (let burst = 0; burst < bursts.size; ) {
    const [chip, queue] = [bursts.chip[burst] as number, bursts.queue[burst] as number];
    const [first, end] = bursts.ofQueue(chip, queue);
    const name = queueName(target, queue);
    rows.push({ name: program.chips.length === 1 ? name : `${chip}:${name}`, unit: unitOf(target, queue), first, end });
    burst = end;
  }
  const texts = new Index();
  const ops = new Index();
  const layers = new Index();
  const [text, op, address] = [new Int32Array(bursts.size), new Uint16Array(bursts.size), new Int32Array(bursts.size)];
  for (const [burst, instruction] of bursts.instructions.entries()) {
    text[burst] = texts.of(describe(instruction).replace(/\baddress=\d+/, "address=@"));
    op[burst] = ops.of(instruction.op);
    address[burst] = Number(instruction.fields["address"] ?? -1);
  }
  const perBin = givenByBin(activity, power.grid, power.bins);
  const own = (_: unknown, stretch: number): boolean => stretches.chip[stretch] === 0;
  return {
    overview,
    comparison: comparison === null ? null : withoutNodes(comparison),
    lanes: target.lanes,
    bounds: BOUND_NAMES,
    powerRows: POWER_ROWS,
    rows,
    nodes: program.origins,
    layerOfNode: program.origins.map((name) => layers.of(layerOf(name))),
    layers: layers.texts,
    ops: ops.texts,
    texts: texts.texts,
    grid: power.grid,
    constants: memory.constants,
    columns: {
      cycle: column(bursts.cycle),
      last: column(bursts.last),
      node: column(bursts.origin),
      op: column(op),
      text: column(text),
      address: column(address),
      energy: column(bursts.energy),
      ...flightColumns(flights),
      stretchFrom: column(stretches.from.filter(own)),
      stretchBound: column(stretches.bound.filter(own)),
      stretchBurst: column(stretches.burst.filter(own)),
      sramCycle: column(memory.live.cycle),
      sramRows: column(memory.live.value),
      given: column(perBin.map((vectors, bin) => vectors / binCycles(cycles, power.grid, bin))),
      watts: column(
        Float64Array.from(
          POWER_ROWS.flatMap((row) =>
            Array.from(power.energy[row], (energy, bin) => watts(target, energy, binCycles(cycles, power.grid, bin))),
          ),
        ),
      ),
    },
  };
}

const withoutNodes = ({ nodes: _, ...rest }: Comparison): Omit<Comparison, "nodes"> => rest;

/** Which burst takes what another gives: pairs, each once, with the vectors between them. */
function flightColumns({ size, from, to, vectors }: Activity["flights"]): {
  readonly [Name in "flightFrom" | "flightTo" | "flightVectors"]: Column;
} {
  const pairs = new Map<number, number>();
  for (let flight = 0; flight < size; flight++) {
    const taker = to[flight] as number;
    if (taker < 0) continue;
    const pair = (from[flight] as number) * 2 ** 26 + taker;
    pairs.set(pair, (pairs.get(pair) ?? 0) + (vectors[flight] as number));
  }
  const keys = Array.from(pairs.keys());
  return {
    flightFrom: column(Int32Array.from(keys, (pair) => Math.floor(pair / 2 ** 26))),
    flightTo: column(Int32Array.from(keys, (pair) => pair % 2 ** 26)),
    flightVectors: column(Int32Array.from(pairs.values())),
  };
}

const column = (values: Int32Array | Uint16Array | Float64Array): Column => ({
  type: values.constructor.name,
  base64: Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64"),
});

/** Texts and their numbers, in the order in which they come. */
class Index {
  readonly texts: string[] = [];
  readonly #numbers = new Map<string, number>();

  of(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.texts.length);
    return this.texts.push(text) - 1;
  }
}
