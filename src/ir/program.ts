/**
 * Program: WHEN. What stays in the memory of each chip, and the entries that run on it: for each, timed instructions per chip
 * and queue, bindings of inputs and outputs, and cycles. All entries share constants, lane maps and state; only one runs at a
 * time.
 *
 * An instruction record is a burst: `count` executions, `interval` cycles apart, the address moving by `step` rows (MEM).
 * Cycles are absolute: the barrier (one Notify, Sync everywhere else) is at cycle 0 and work starts at `timing.barrier`.
 */

import { at, fail, invariant } from "../diagnostics.js";
import { type DType, DTYPES, type EdgeDType } from "./dtype.js";
import type { Shape } from "./graph.js";
import {
  completionCycles,
  longestCompletion,
  type Mnemonic,
  type Source,
  type StreamNumber,
  type UnitKind,
} from "./isa.js";
import { type Hemisphere, mxmPosition, slicePosition, sxmPosition, type Target } from "./target.js";

/**
 * Queue numbers of one chip: `mem` W 0..43 then E 0..43, `vxm` 0..15, then for each hemisphere and plane weights,
 * activations, accumulate, then `sxm` W 0..13 and E 0..13. `queueName(target, q)`: mem.w12, vxm.3, mxm.e0.weights, sxm.w2.
 */
export type QueueNumber = number;

/**
 * Values of an instruction's fields, by the names in ISA: kind `function` and `type` are their key ("add", "f16"), `source`
 * is a Source, `mode` is the index of its word in the row's list, `optionalStream` is -1 for none; all others are numbers.
 */
export type FieldValue = number | string | Source;

/** A burst, and the cycle in which its first execution is dispatched. */
export interface TimedInstruction {
  readonly cycle: number;
  readonly op: Mnemonic;
  readonly fields: Readonly<Record<string, FieldValue>>;
  readonly count: number;
  /** 1 if `count` is 1: the image keeps neither interval nor step of a single execution. */
  readonly interval: number;
  /** Rows added to `address` at each execution; 0 for all but read and write, and if `count` is 1. */
  readonly step: number;
  /** Taps, as a bit mask over the stream fields in the order of the row's `takes`, for operands of kind `stream`. */
  readonly tap: number;
  /** Index into Program.origins. */
  readonly origin: number;
}

/** Constant bytes that lie in SRAM before cycle 0: consecutive rows of one slice. `bytes` is rows * lanes long. */
export interface ConstantBlock {
  readonly hemisphere: Hemisphere;
  readonly slice: number;
  readonly row: number;
  readonly rows: number;
  /** Called once, while the image is written. */
  readonly bytes: () => Uint8Array;
  /** The block of an earlier chip in the same place that holds the same bytes: an image has them once. */
  readonly like?: ConstantBlock;
  /** What the rows are, as long as the program has a plan with which it can be compared; no part of the image. */
  readonly holds?: ConstantBytes;
}

/** A panel of a constant in the plan of an entry; tiles are the same in the plans of all. */
interface OfStorage {
  readonly entry: string;
  readonly storage: number;
  readonly panel: number;
}

/** Byte `byte` of the elements of vectors `first`, `first + step` and so on: rows of a panel, or pairs of columns of a tile. */
export interface ConstantBytes {
  readonly of: OfStorage | { readonly tile: string };
  readonly first: number;
  readonly step: number;
  readonly byte: number;
  /** The literal that they are made of, if they are. */
  readonly literal: string | undefined;
}

/** By chip and block: the earlier chip whose block it is like, if that is among the chips. */
export const likesOf = (chips: readonly ChipMemory[]): readonly (readonly (number | undefined)[])[] => {
  const owners = new Map<ConstantBlock, number>();
  return chips.map(({ constants }, chip) => {
    for (const block of constants) owners.set(block, chip);
    return constants.map(({ like }) => (like === undefined ? undefined : owners.get(like)));
  });
};

type ConstantPlace = Pick<ConstantBlock, "hemisphere" | "slice" | "row" | "rows">;

/** Finds the first block of a chip in a place whose bytes are its own. */
export const blockFinder = (
  chips: readonly Pick<ChipMemory, "constants">[],
): ((chip: number, place: ConstantPlace) => ConstantBlock | undefined) => {
  const keyOf = ({ hemisphere, slice, row, rows }: ConstantPlace): string => `${hemisphere}${slice} ${row} ${rows}`;
  const known = new Map<number, ReadonlyMap<string, ConstantBlock>>();
  const blocksIn = (chip: number): ReadonlyMap<string, ConstantBlock> => {
    const own = (chips[chip]?.constants ?? []).filter(({ like }) => like === undefined);
    return new Map([...own].reverse().map((block) => [keyOf(block), block]));
  };
  return (chip, place) => {
    const blocks = known.get(chip) ?? blocksIn(chip);
    known.set(chip, blocks);
    return blocks.get(keyOf(place));
  };
};

/** Instructions of one chip, indexed by queue number, in order of cycle. */
export type Queues = readonly (readonly TimedInstruction[])[];

/** What stays on a chip, whichever entry runs. */
export interface ChipMemory {
  readonly constants: readonly ConstantBlock[];
  /** Lane maps of SXM instructions. */
  readonly maps: readonly Int16Array[];
}

/** What a chip does in one entry, and the memory that it does it on. */
export interface ChipProgram extends ChipMemory {
  readonly queues: Queues;
}

/**
 * Where the elements of a bound tensor live. Element with multi-index i (row-major in `shape`) is at column c and row r:
 * both are sums over `factors` of ((i_dim / divide) mod extent) * stride. Column c lies in panel floor(c / lanes), lane c % lanes.
 * Byte b of the element is in `panels[panel].planes[b]`, at row `first + r`, each plane one slice.
 */
export interface Placement {
  readonly dtype: DType;
  readonly factors: readonly {
    readonly dim: number;
    readonly divide: number;
    readonly extent: number;
    readonly row: number;
    readonly column: number;
  }[];
  readonly rows: number;
  readonly columns: number;
  /** Interleaving: row r is in way r % ways, at row first + floor(r / ways). */
  readonly ways: number;
  readonly panels: readonly PanelPlace[];
}

/** One column panel: for each way and each byte of the element a place. `planes[way * bytes + b]`. */
export interface PanelPlace {
  readonly planes: readonly {
    readonly chip: number;
    readonly hemisphere: Hemisphere;
    readonly slice: number;
    readonly row: number;
  }[];
}

/** The same places so many chips further on. */
export const placedBehind = (placement: Placement, chips: number): Placement => ({
  ...placement,
  panels: placement.panels.map(({ planes }) => ({
    planes: planes.map((plane) => ({ ...plane, chip: plane.chip + chips })),
  })),
});

/** Rows of a placement that lie in one of a panel's planes. */
export const rowsOfPlane = ({ dtype, rows, ways }: Pick<Placement, "dtype" | "rows" | "ways">, plane: number): number =>
  Math.max(0, Math.ceil((rows - Math.floor(plane / DTYPES[dtype].bytes)) / ways));

/** An input or output, and where its elements live. */
export interface Binding {
  readonly name: string;
  /** dtype and shape that the user gives or gets. */
  readonly declared: EdgeDType;
  readonly shape: Shape;
  /** Every copy of an input; one for an output. Unused lanes and rows of an input's panels are filled with zero. */
  readonly placements: readonly Placement[];
  /** Where the host does work at the edge: rows of this table, chosen by the input, are what is placed. */
  readonly lookup?: HostLookup;
}

/** A token embedding done by the host: input ids choose rows of `table` [rows, width], in the type in which they are placed. */
export interface HostLookup {
  readonly origin: string;
  readonly dtype: DType;
  readonly rows: number;
  readonly width: number;
  readonly bytes: () => Uint8Array;
  /** The literal of the plan that the table is, by its key; not in an image. */
  readonly literal?: string;
}

/** A tensor that stays in SRAM from one run to the next: a run finds in these rows what the one before has left there. */
export interface StateBinding {
  readonly name: string;
  /** dtype and shape that a snapshot has. */
  readonly declared: EdgeDType;
  readonly shape: Shape;
  /** Every copy; a run leaves the same in all of them. Before the first run all rows hold zeros. */
  readonly placements: readonly Placement[];
}

/** A wire in one direction: what goes out on a link of one chip comes in on a link of another. */
export interface Link {
  readonly fromChip: number;
  readonly fromLink: number;
  readonly toChip: number;
  readonly toLink: number;
}

/** Something that a program can be asked to run. */
export interface EntryPoint {
  readonly name: string;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  /** Of each chip. */
  readonly queues: readonly Queues[];
  /** Predicted cycles of each chip: one past the last cycle in which any instruction has an effect. */
  readonly cycles: readonly number[];
  /** Useful multiply-accumulates of the model, without padding. */
  readonly macs: number;
}

/** What is written as an image. */
export interface Program {
  readonly target: Target;
  readonly name: string;
  readonly chips: readonly ChipMemory[];
  readonly links: readonly Link[];
  readonly states: readonly StateBinding[];
  /** At least one; each has a name of its own. */
  readonly entries: readonly EntryPoint[];
  /** Names that instructions of all entries refer to. */
  readonly origins: readonly string[];
}

/** One entry with all that it runs on: what a machine executes, the checker proves and a report describes. */
export interface EntryProgram extends Omit<Program, "chips" | "entries"> {
  readonly entry: EntryPoint;
  readonly chips: readonly ChipProgram[];
}

/** A program as one of its entries sees it. */
export function entryProgram({ entries: _, chips, ...rest }: Program, entry: EntryPoint): EntryProgram {
  return { ...rest, entry, chips: chips.map((memory, chip) => ({ ...memory, queues: queuesOf(entry, chip) })) };
}

/** The entry of that name, or the only one; else LPU4034. */
export const chosenEntry = (program: Program, name?: string): EntryProgram =>
  entryProgram(program, entryNamed(program.entries, name));

function queuesOf({ name, queues }: EntryPoint, chip: number): Queues {
  const own = queues[chip];
  invariant(own !== undefined, `entry '${name}' has queues of chip ${chip}`);
  return own;
}

/** All entries, each with what it runs on. */
export const entryPrograms = (program: Program): readonly EntryProgram[] =>
  program.entries.map((entry) => entryProgram(program, entry));

/**
 * The entry of that name, or the only one if none is given. LPU4034 with the names there are: no such entry, or several
 * and none chosen.
 */
export function entryNamed<Entry extends { readonly name: string }>(
  entries: readonly Entry[],
  name: string | undefined,
): Entry {
  const found = name === undefined ? entries : entries.filter((entry) => entry.name === name);
  const [entry] = found;
  if (entry !== undefined && found.length === 1) return entry;
  const names = entries.map((one) => `'${one.name}'`).join(", ");
  return fail("LPU4034", {
    message:
      name === undefined
        ? `expected the name of an entry, for there are ${entries.length}`
        : `expected an entry of the program, got '${name}'`,
    hint: `name one of ${names}`,
  });
}

export const queueCount = (target: Target): number =>
  2 * target.slices + target.alus + 2 * target.planes * 3 + 2 * target.sxmQueues;
const half = (hemisphere: Hemisphere): number => (hemisphere === "W" ? 0 : 1);
export const memQueue = (target: Target, hemisphere: Hemisphere, slice: number): QueueNumber =>
  half(hemisphere) * target.slices + slice;
export const vxmQueue = (target: Target, alu: number): QueueNumber => 2 * target.slices + alu;
/** part 0 weights, 1 activations, 2 accumulate. */
export const mxmQueue = (target: Target, hemisphere: Hemisphere, plane: number, part: 0 | 1 | 2): QueueNumber =>
  2 * target.slices + target.alus + (half(hemisphere) * target.planes + plane) * 3 + part;
export const sxmQueue = (target: Target, hemisphere: Hemisphere, index: number): QueueNumber =>
  2 * target.slices + target.alus + 2 * target.planes * 3 + half(hemisphere) * target.sxmQueues + index;

export const isWestward = (target: Target, stream: StreamNumber): boolean => stream >= target.streams;

const MXM_PARTS: readonly (string | undefined)[] = ["weights", "activations", "accumulate"];
const MXM_UNITS = ["mxmWeights", "mxmActivations", "mxmAccumulate"] as const satisfies readonly UnitKind[];

/** Where a queue number lies: its unit and the numbers that its name is made of. */
export interface QueuePlace {
  readonly unit: UnitKind;
  /** VXM queues have none; they are at the centre. */
  readonly hemisphere: Hemisphere | undefined;
  /** Slice, ALU, MXM plane or SXM queue. */
  readonly index: number;
}

export function queuePlace(target: Target, queue: QueueNumber): QueuePlace {
  invariant(queue >= 0 && queue < queueCount(target), `queue ${queue} of ${queueCount(target)}`);
  let rest = queue;
  if (rest < 2 * target.slices) return place("mem", rest, target.slices);
  rest -= 2 * target.slices;
  if (rest < target.alus) return { unit: "vxm", hemisphere: undefined, index: rest };
  rest -= target.alus;
  if (rest < 2 * target.planes * 3) return place(at(MXM_UNITS, rest % 3, "unit"), Math.floor(rest / 3), target.planes);
  return place("sxm", rest - 2 * target.planes * 3, target.sxmQueues);
}

const place = (unit: UnitKind, index: number, half: number): QueuePlace => ({
  unit,
  hemisphere: index < half ? "W" : "E",
  index: index % half,
});

/** Where a unit stands, in hops from the VXM, west negative. */
export function positionOf(target: Target, { unit, hemisphere = "W", index }: QueuePlace): number {
  if (unit === "vxm") return 0;
  if (unit === "mem") return slicePosition(target, hemisphere, index);
  return unit === "sxm" ? sxmPosition(target, hemisphere) : mxmPosition(target, hemisphere);
}

export const unitOfQueue = (target: Target, queue: QueueNumber): UnitKind => queuePlace(target, queue).unit;

export function queueName(target: Target, queue: QueueNumber): string {
  const { unit, hemisphere, index } = queuePlace(target, queue);
  const side = hemisphere?.toLowerCase() ?? "";
  if (unit === "mem" || unit === "sxm" || unit === "vxm") return `${unit}.${side}${index}`;
  return `mxm.${side}${index}.${MXM_PARTS[MXM_UNITS.indexOf(unit)]}`;
}

export function parseQueueName(target: Target, name: string): QueueNumber | undefined {
  const match = /^(mem|vxm|mxm|sxm)\.([we]?)(\d{1,4})(?:\.(weights|activations|accumulate))?$/.exec(name);
  if (match === null) return undefined;
  const [, unit, side, digits, word] = match;
  const index = Number(digits);
  const hemisphere: Hemisphere = side === "w" ? "W" : "E";
  const part = MXM_PARTS.indexOf(word);
  if (unit === "vxm") return side === "" && part < 0 && index < target.alus ? vxmQueue(target, index) : undefined;
  if (side === "") return undefined;
  if (unit === "mem") return part < 0 && index < target.slices ? memQueue(target, hemisphere, index) : undefined;
  if (unit === "sxm") return part < 0 && index < target.sxmQueues ? sxmQueue(target, hemisphere, index) : undefined;
  if (part !== 0 && part !== 1 && part !== 2) return undefined;
  return index < target.planes ? mxmQueue(target, hemisphere, index, part) : undefined;
}

/** One past the last cycle in which any instruction of a chip has an effect: the chip's cycle count. */
export function chipCycles(target: Target, queues: Queues): number {
  const longest = longestCompletion(target);
  let cycles = 0;
  for (const queue of queues) {
    for (const instruction of queue) {
      const { cycle, count, interval } = instruction;
      const last = cycle + (count - 1) * interval;
      // Most are done long before the end.
      if (last + longest > cycles) cycles = Math.max(cycles, last + completionCycles(target, instruction));
    }
  }
  return cycles;
}
