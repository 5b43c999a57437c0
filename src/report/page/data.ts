/**
 * What the page of a report holds: figures as they are in the overview, and the activity as columns in base64.
 *
 * A burst's instruction is a text of `texts` in which `@` stands for its address, so that the texts are few.
 */

import { queueName, type TimedInstruction } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import type { Activity } from "../activity.js";
import type { Analysis } from "../analysis.js";
import { BOUND_NAMES } from "../bounds.js";
import { unitOf } from "../bursts.js";
import { type Comparison, compareOverviews } from "../compare.js";
import { watts } from "../energy.js";
import { Int32Rows } from "../columns.js";
import { LINK } from "../flights.js";
import { HOST } from "../memory.js";
import { layerOf } from "../nodes.js";
import type { Overview } from "../overview.js";
import { binCycles, POWER_ROWS } from "../power.js";
import { givenByBin } from "../trace.js";

export interface Column {
  readonly type: string;
  readonly base64: string;
}

export interface PageRow {
  readonly name: string;
  /** Rows of one unit stand together. */
  readonly unit: string;
  /** Its bursts: `first` to `end`, not included. */
  readonly first: number;
  readonly end: number;
}

/** What bounds every cycle of a chip: stretches `first` to `end`, not included. */
export interface PageStrip {
  readonly name: string;
  readonly first: number;
  readonly end: number;
}

export interface PageData {
  readonly overview: Omit<Overview, "nodes">;
  /** With another program: layers of both, and no nodes. */
  readonly comparison: Omit<Comparison, "nodes"> | null;
  /** Of the longer program, if there are two. */
  readonly cycles: number;
  readonly lanes: number;
  readonly bounds: readonly string[];
  readonly strips: readonly PageStrip[];
  readonly powerRows: readonly string[];
  /** Queues that do anything, in the order of the page. */
  readonly rows: readonly PageRow[];
  readonly nodes: readonly string[];
  /** By node: index into `layers`. */
  readonly layerOfNode: readonly number[];
  readonly layers: readonly string[];
  readonly ops: readonly string[];
  readonly texts: readonly string[];
  /** Streams that vectors ride from one burst to another, as lists; empty where none is between. */
  readonly streams: readonly string[];
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
  | "flightStreams"
  | "stretchFrom"
  | "stretchBound"
  | "path"
  | "sramCycle"
  | "sramRows"
  | "heldBin"
  | "heldNode"
  | "heldRows"
  | "given"
  | "sent"
  | "watts";

/** How an instruction is written, as in a listing. */
export type DescribeOn = (target: Target, instruction: TimedInstruction) => string;

/** With another program its bursts are further rows below, on the same axis, and nodes of one name are one. */
export function pageData(own: Analysis, other: Analysis | undefined, describe: DescribeOn): PageData {
  const { power, overview } = own;
  const { program, memory } = own.activity;
  const sides = other === undefined ? [own] : [own, other];
  const [nodes, layers, texts, ops, streams] = [new Index(), new Index(), new Index(), new Index(), new Index()];
  const columns = {
    ...burstColumns(sides, { nodes, texts, ops }, describe),
    ...flightColumns(sides, streams),
    ...stretchColumns(sides),
    path: column(Int32Array.from(own.path, ({ burst }) => burst)),
    sramCycle: column(memory.live.cycle),
    sramRows: column(memory.live.value),
    ...heldColumns(own, (origin) => nodes.of(program.origins[origin] as string)),
    ...binColumns(own),
  };
  return {
    overview: withoutNodes(overview),
    comparison: other === undefined ? null : withoutNodes(compareOverviews(overview, other.overview)),
    cycles: Math.max(...sides.map(({ activity }) => activity.cycles)),
    lanes: program.target.lanes,
    bounds: BOUND_NAMES,
    strips: stripsOf(sides),
    powerRows: POWER_ROWS,
    rows: sides.flatMap(({ activity }, side) =>
      rowsOf(activity, side === 0 ? 0 : own.activity.bursts.size, side === 0 ? "" : "other "),
    ),
    nodes: nodes.texts,
    layerOfNode: nodes.texts.map((name) => layers.of(layerOf(name))),
    layers: layers.texts,
    ops: ops.texts,
    texts: texts.texts,
    streams: streams.texts,
    grid: power.grid,
    constants: memory.constants,
    columns,
  };
}

/** What each burst is, those of the second program behind those of the first. */
function burstColumns(
  sides: readonly Analysis[],
  { nodes, texts, ops }: Readonly<Record<"nodes" | "texts" | "ops", Index>>,
  describe: DescribeOn,
) {
  const size = sides.reduce((sum, { activity }) => sum + activity.bursts.size, 0);
  const [text, op, address] = [new Int32Array(size), new Uint16Array(size), new Int32Array(size)];
  const [cycle, last, node] = [new Int32Array(size), new Int32Array(size), new Int32Array(size)];
  const energy = new Float64Array(size);
  let before = 0;
  for (const { activity } of sides) {
    const { bursts, program } = activity;
    const numbers = program.origins.map((name) => nodes.of(name));
    for (const [burst, instruction] of bursts.instructions.entries()) {
      const written = describe(program.target, instruction);
      text[before + burst] = texts.of(written.replace(/\baddress=\d+/, "address=@"));
      op[before + burst] = ops.of(instruction.op);
      address[before + burst] = Number(instruction.fields["address"] ?? -1);
      node[before + burst] = numbers[bursts.origin[burst] as number] as number;
    }
    cycle.set(bursts.cycle, before);
    last.set(bursts.last, before);
    energy.set(bursts.energy, before);
    before += bursts.size;
  }
  return {
    cycle: column(cycle),
    last: column(last),
    node: column(node),
    op: column(op),
    text: column(text),
    address: column(address),
    energy: column(energy),
  };
}

/** Curves over bins: vectors that are sent and given, and power. */
function binColumns(own: Analysis) {
  const { activity, power } = own;
  const { grid, bins } = power;
  const wattsOf = (spent: number, bin: number): number =>
    watts(activity.program.target, spent, binCycles(activity.cycles, grid, bin));
  const sent = givenByBin(activity, grid, bins, ({ op, count }) => (op === "send" ? count : 0));
  return {
    sent: column(perCycle(sent, own)),
    given: column(perCycle(givenByBin(activity, grid, bins), own)),
    watts: column(Float64Array.from(POWER_ROWS.flatMap((row) => Array.from(power.energy[row], wattsOf)))),
  };
}

/** What happens in each bin, a cycle. */
const perCycle = (byBin: Float64Array, { activity, power }: Analysis): Float64Array =>
  byBin.map((vectors, bin) => vectors / binCycles(activity.cycles, power.grid, bin));

/** A row for each queue that does anything. */
function rowsOf({ program, bursts }: Activity, before: number, prefix: string): readonly PageRow[] {
  const rows: PageRow[] = [];
  for (let first = 0; first < bursts.size; ) {
    const [chip, queue] = [bursts.chip[first] as number, bursts.queue[first] as number];
    const [, end] = bursts.ofQueue(chip, queue);
    const name = `${program.chips.length === 1 ? "" : `${chip}:`}${queueName(program.target, queue)}`;
    const unit = `${prefix}${chip}:${unitOf(program.target, queue)}`;
    rows.push({ name: prefix + name, unit, first: before + first, end: before + end });
    first = end;
  }
  return rows;
}

/** Of all chips, one after another, and those of the other program behind them. */
function stretchColumns(sides: readonly Analysis[]): { readonly [Name in "stretchFrom" | "stretchBound"]: Column } {
  const all = (of: "from" | "bound"): Column =>
    column(Int32Array.from(sides.flatMap(({ stretches }) => Array.from(stretches[of]))));
  return { stretchFrom: all("from"), stretchBound: all("bound") };
}

/** A strip for each chip, of the other program too. */
function stripsOf(sides: readonly Analysis[]): readonly PageStrip[] {
  const strips: PageStrip[] = [];
  for (const [side, { activity, stretches }] of sides.entries()) {
    const chips = activity.program.chips.length;
    for (let chip = 0; chip < chips; chip++) {
      const first = strips.at(-1)?.end ?? 0;
      const end = first + stretches.chip.filter((of) => of === chip).length;
      strips.push({ name: `${side === 0 ? "" : "other "}${chips === 1 ? "" : `${chip}:`}bound`, first, end });
    }
  }
  return strips;
}

/** Live rows by the node that wrote them at the start of every bin of the grid, where there are any; node -1 is the host. */
function heldColumns(
  { activity: { bursts, memory }, power: { grid, bins } }: Analysis,
  nodeOf: (origin: number) => number,
): { readonly [Name in "heldBin" | "heldNode" | "heldRows"]: Column } {
  const { born, until, owner } = memory.lives;
  const changes = new Map<number, Int32Array>();
  for (let live = 0; live < born.length; live++) {
    const writer = owner[live] as number;
    const node = writer === HOST ? -1 : nodeOf(bursts.origin[writer] as number);
    const change = changes.get(node) ?? new Int32Array(bins + 1);
    changes.set(node, change);
    const [from, to] = [Math.ceil((born[live] as number) / grid), Math.ceil((until[live] as number) / grid)];
    change[from] = (change[from] as number) + 1;
    change[to] = (change[to] as number) - 1;
  }
  const rows = new Int32Rows(3);
  for (const [node, change] of [...changes].sort(([a], [b]) => a - b)) {
    let held = 0;
    for (let bin = 0; bin < bins; bin++) {
      held += change[bin] as number;
      if (held > 0) rows.push(bin, node, held);
    }
  }
  return { heldBin: column(rows.column(0)), heldNode: column(rows.column(1)), heldRows: column(rows.column(2)) };
}

const withoutNodes = <Of extends { readonly nodes: unknown }>({ nodes: _, ...rest }: Of): Omit<Of, "nodes"> => rest;

/** Which burst takes what another gives: pairs, each once, with the vectors between them and the streams that they ride. */
function flightColumns(
  sides: readonly Analysis[],
  streamTexts: Index,
): { readonly [Name in "flightFrom" | "flightTo" | "flightVectors" | "flightStreams"]: Column } {
  const pairs = new Map<number, { vectors: number; streams: number }>();
  let before = 0;
  for (const { activity } of sides) {
    const { size, from, to, vectors, stream } = activity.flights;
    const { streams } = activity.program.target;
    for (let flight = 0; flight < size; flight++) {
      const taker = to[flight] as number;
      if (taker < 0) continue;
      const pair = (before + (from[flight] as number)) * 2 ** 26 + before + taker;
      const known = pairs.get(pair) ?? { vectors: 0, streams: streamTexts.of("") };
      const own = stream[flight] as number;
      const name = own === LINK ? "a link" : own < 0 ? "" : `${own < streams ? "e" : "w"}${own % streams}`;
      const said = streamTexts.texts[known.streams] as string;
      const add = name !== "" && !said.split(", ").includes(name);
      pairs.set(pair, {
        vectors: known.vectors + (vectors[flight] as number),
        streams: add ? streamTexts.of(said === "" ? name : `${said}, ${name}`) : known.streams,
      });
    }
    before += activity.bursts.size;
  }
  const [keys, values] = [Array.from(pairs.keys()), Array.from(pairs.values())];
  return {
    flightFrom: column(Int32Array.from(keys, (pair) => Math.floor(pair / 2 ** 26))),
    flightTo: column(Int32Array.from(keys, (pair) => pair % 2 ** 26)),
    flightVectors: column(Int32Array.from(values, ({ vectors }) => vectors)),
    flightStreams: column(Int32Array.from(values, ({ streams }) => streams)),
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
