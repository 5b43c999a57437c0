/**
 * Plan: WHERE. Storages (tensors as panels of rows x lanes) and tasks (bursts through units); no addresses, no time.
 *
 * A storage is `rows` vectors in each of `panels` column panels. A task is a rigid figure: a sequence of MXM passes that
 * accumulate into one block of rows (or none), and a chain of ALU operations that the result, and vectors read from
 * storages, flow through, ending in writes. Tasks are in topological order; data dependencies follow from storage rows.
 */

import { at, sure } from "../diagnostics.js";
import { type DType, DTYPES } from "./dtype.js";
import {
  ARRAYS,
  type AluFunction,
  ISA,
  MXM_MODES,
  type MxmModeName,
  STREAM_TYPES,
  type StreamType,
  type StreamTypeRow,
} from "./isa.js";
import type { Literal } from "./graph.js";
import type { Binding, HostLookup } from "./program.js";
import type { Range } from "./ranges.js";
import type { PanelRecipe, TileRecipe } from "./recipe.js";
import type { Target } from "./target.js";

export type StorageId = number;

/** Element types of storages: numbers, integers, and truth values as the numbers 0 and 1 of f16. */
export const STORAGE_TYPES = ["f16", "f32", "i32"] as const satisfies readonly StreamType[];
export type StorageType = (typeof STORAGE_TYPES)[number];

/** Whether rows of a type are activations or weights of a pass, whose sums are fp32. */
export const isMultiplied = (dtype: StorageType): boolean => {
  const { array }: StreamTypeRow = STREAM_TYPES[dtype];
  return array !== undefined && ARRAYS[array].sums === "f32";
};

/** What is known of the lanes of a storage; passes/check/padding.ts follows what lies on those that no element uses. */
export interface Lanes {
  /** What elements may be. */
  readonly values: Range;
  /** Columns that elements use, as runs of neighbours; undefined of parts of values, which use what they are made of. */
  readonly columns?: readonly Run[];
}

/** A tensor as it lies: `rows` vectors in each of `panels` blocks of as many columns as there are lanes. */
export interface Storage {
  readonly id: StorageId;
  readonly name: string;
  readonly dtype: StorageType;
  readonly rows: number;
  readonly panels: number;
  /** temp: written by tasks. constant, input, state: there before cycle 0. */
  readonly kind: "temp" | "constant" | "input" | "state";
  /**
   * Taken by an MXM or SXM, so that each hemisphere needs its own copy of what it takes; of a state only where there is room, or
   * where the passes of one task take several: else they go to the hemisphere in which it lies.
   */
  readonly bothHemispheres: boolean;
  /**
   * Of a state in one hemisphere only, by panel: the lowest panel of those that lie in one together (plan/panel-groups.ts); 0
   * of all if not said.
   */
  readonly groups?: readonly number[];
  /** Constants: what their panels are made of. */
  readonly recipe?: PanelRecipe;
  /** True if read by the host after the run, or by the next run, or if it has blocks: it has its place before any task has a time. */
  readonly output: boolean;
  /**
   * Blocks of rows, one for each chip of those that run one plan. The plan is that of the first chip: what it writes to a block,
   * another chip writes as many blocks further on as it comes after the first, around the end (plan/group.ts).
   */
  readonly blocks?: number;
  /** Blocks that all chips write alike, since each holds what one of the chips is to have: here it is reading that goes further on. */
  readonly dealt?: true;
  readonly lanes?: Lanes;
}

/** `count` rows from `row` on, `step` apart; 0 repeats the same row. */
export interface Run {
  readonly row: number;
  readonly step: number;
  readonly count: number;
}

/** Columns that a vector of a tile holds, one in each half. */
export const TILE_COLUMNS = 2;

/**
 * How constant weights lie and load, by their element type: the mode of LW and its number, and bytes of an element. All are
 * packed, two columns to a vector, and meet fp16 activations.
 */
export const TILE_TYPES = {
  f16: tileType("packed"),
  f8e4m3: tileType("packedE4M3"),
  f8e5m2: tileType("packedE5M2"),
} as const satisfies Readonly<Partial<Record<DType, TileType>>>;
export type TileDType = keyof typeof TILE_TYPES;
export const isTileDType = (dtype: string): dtype is TileDType => Object.hasOwn(TILE_TYPES, dtype);

export interface TileType {
  /** Number of the mode in LW. */
  readonly mode: number;
  /** Slices that hold a vector, and streams on which it flies. */
  readonly bytes: 1 | 2;
}

function tileType(mode: MxmModeName): TileType {
  const bytes = DTYPES[MXM_MODES[mode].type].bytes;
  return { mode: sure(ISA.lw.fields.mode.words, "list of modes").indexOf(mode), bytes };
}

/** A constant weight tile: `columns` columns of halfLanes values; packed two columns a vector. */
export interface PackedTile {
  /** Equal for equal tiles, wherever they load: those are stored once. */
  readonly key: string;
  readonly dtype: TileDType;
  readonly columns: number;
  /** The column of the array that the first one fills, an even one; those before it are zero. */
  readonly column: number;
  readonly recipe: TileRecipe;
}

/**
 * Columns of weights that load in a cycle, of rows that tasks compute: these lie in as many pairs of slices in turn. Tiles of
 * constants lie so that more do.
 */
export const LOAD_WAYS = 4;

/** Weight columns loaded from rows of a storage: one row is one column, from one half of its lanes. */
export interface WeightLoad {
  readonly storage: StorageId;
  readonly panel: number;
  readonly run: Run;
  readonly half: 0 | 1;
  /** Lanes of the half that are kept, from `first` on; the others load as zeros. */
  readonly first: number;
  readonly lanes: number;
  /** Of the array, into which the first row is loaded; the others follow. */
  readonly column: number;
}

/** Half-vectors of rows of a panel, one after another, through one set of weights. All passes of a task add up. */
export interface Pass {
  readonly storage: StorageId;
  readonly panel: number;
  readonly half: 0 | 1;
  readonly runs: readonly Run[];
  readonly weights: PackedTile | readonly WeightLoad[];
}

export const isTile = (weights: Pass["weights"]): weights is PackedTile => "key" in weights;

/** Names of the ONNX nodes that a task was made from. */
export const nodesOf = ({ origins }: Plan, { origin, passOrigin = origin, ops }: Task): readonly string[] =>
  [...new Set([origin, passOrigin, ...ops.map((op) => op.origin ?? origin)])].flatMap((index) =>
    at(origins, index, "origin").split(" + "),
  );

/** Whether all rows of a task take one row, again and again. */
export const isRepeated = ({ runs }: Pick<Leaf, "runs">): boolean =>
  runs.some(({ step, count }) => step === 0 && count > 1);

/** One column panel of a storage. */
export interface PanelRef {
  readonly storage: StorageId;
  readonly panel: number;
}

/** Panels that a pass takes: of activations, and of what it loads as weights. */
export const panelsOf = ({ storage, panel, weights }: Pass): readonly PanelRef[] => [
  { storage, panel },
  ...(isTile(weights) ? [] : weights),
];

/** Storages whose rows a pass loads as weights. */
export const loadedBy = ({ weights }: Pass): StorageId[] =>
  isTile(weights) ? [] : weights.map(({ storage }) => storage);

/** Rows of a panel that flow into a chain, one for each of the task. */
export interface Leaf {
  readonly storage: StorageId;
  readonly panel: number;
  readonly runs: readonly Run[];
  /** Its lanes are rearranged at the SXM on the way (`turnOf`): index into Plan.maps. */
  readonly map?: number;
}

/** How an SXM rearranges lanes: the instruction, and the cycles from its dispatch until it gives the vector. */
export interface Turn {
  readonly op: "permute" | "distribute";
  readonly cycles: number;
}

/** The soonest way to rearrange lanes by a map: within superlanes, where all do alike, it takes a fraction of the time. */
export const turnOf = (map: Int16Array, { superlane, timing }: Target): Turn =>
  isAlikeInSuperlanes(map, superlane)
    ? { op: "distribute", cycles: timing.sxmDistribute }
    : { op: "permute", cycles: timing.sxmPermute };

/** Whether the first superlane's part of a map, done in every superlane, is the map. */
export const isAlikeInSuperlanes = (map: Int16Array, superlane: number): boolean =>
  map.every((source, lane) => {
    const first = at(map, lane % superlane, "lane");
    return first < superlane && source === (first < 0 ? -1 : lane - (lane % superlane) + first);
  });

/** Integers as which the bits of two and of four bytes are read and written. */
export type BitsType = Extract<StreamType, "i16" | "i32">;

/** What an operation of a chain takes. */
export type Argument =
  /** The result of an operation before it in the chain. */
  | { readonly op: number }
  /** Rows of a leaf; with `as`, their bits are taken as integers of this type. */
  | { readonly leaf: number; readonly as?: BitsType }
  /** The sums of the passes; with `map`, their lanes rearranged by an SXM permutation on the way: index into Plan.maps. */
  | { readonly mxm: true; readonly map?: number }
  | { readonly constant: number };

/** One operation of a chain: what an ALU does with every row. */
export interface AluOp {
  readonly fn: AluFunction;
  readonly args: readonly Argument[];
  /** Index into Plan.origins of what the operation was made from, where it is not that of the task. */
  readonly origin?: number;
}

/** ALUs that a chain takes: one for each operation, and one for each stream that several arguments take. */
export const alusOf = (ops: readonly AluOp[]): number => {
  const uses = new Map<string, number>();
  for (const argument of ops.flatMap(({ args }) => args))
    if ("leaf" in argument || "mxm" in argument) {
      const key = JSON.stringify(argument);
      uses.set(key, (uses.get(key) ?? 0) + 1);
    }
  return ops.length + [...uses.values()].filter((count) => count > 1).length;
};

/**
 * What a task has that carries rows between chips, in place of operations: it sends the rows of its one leaf, or writes what it
 * receives. Which vector goes over which link, and when, is in plan/wires.ts.
 */
export interface Wire {
  readonly kind: "send" | "receive";
  /** What the panel is called at both ends. */
  readonly name: string;
  /** Links of this chip; the two ends of a wire are at the same place of the lists of its two chips. */
  readonly links: readonly number[];
  /** The link, counted within those that one byte of the elements goes over, that takes the first row. */
  readonly first: number;
  /**
   * Of chips that run one plan: what this one receives has left another when what it sends itself by this name has left, and
   * no other task that sends has the name. Rows are called by their numbers within a block.
   */
  readonly twin?: true;
}

/** The operation that stands for what a task receives. */
export const RECEIVED = -1;

/** Where a result of a task is written. */
export interface TaskOutput {
  /** An operation of the task, or RECEIVED. */
  readonly op: number;
  readonly storage: StorageId;
  readonly panel: number;
  /** As many rows as the task has are written in order, from `row` on. */
  readonly row: number;
  /** How far rows are apart, if not neighbours: of what takes the rows of a state, which may lie interleaved. */
  readonly step?: number;
  /** Integer results of this type are written as bits. */
  readonly as?: BitsType;
}

/** The unit of selection and scheduling: passes that add up, then a chain that their sums and leaves flow through, then writes. */
export interface Task {
  /** Of each pass, leaf and output. */
  readonly rows: number;
  readonly passes: readonly Pass[];
  readonly ops: readonly AluOp[];
  readonly leaves: readonly Leaf[];
  readonly outputs: readonly TaskOutput[];
  /** Of tasks that send or receive. */
  readonly wire?: Wire;
  /** Index into Plan.origins: what the result was made from, and the passes and operations that name nothing else. */
  readonly origin: number;
  /** Of the passes, where it is not that of the task: the product whose sums flow through the chain. */
  readonly passOrigin?: number;
}

/** Rows of a panel that a task writes. */
export const writtenBy = ({ rows }: Pick<Task, "rows">, { row, step = 1 }: Pick<TaskOutput, "row" | "step">): Run => ({
  row,
  step,
  count: rows,
});

/** Storages that a task reads. */
export const readsOf = ({ leaves, passes }: Task): Set<StorageId> => {
  const reads = new Set<StorageId>();
  for (const { storage } of leaves) reads.add(storage);
  for (const pass of passes) {
    reads.add(pass.storage);
    if (!isTile(pass.weights)) for (const { storage } of pass.weights) reads.add(storage);
  }
  return reads;
};

/** States that the passes of a task take. */
export const statesOf = (storages: readonly Pick<Storage, "kind">[], { passes }: Task): StorageId[] => {
  const taken = passes.flatMap((pass) => [pass.storage, ...loadedBy(pass)]);
  return [...new Set(taken)].filter((id) => storages[id]?.kind === "state");
};

/** A host-visible tensor bound to a storage; placements are filled in when the storage has addresses. */
export interface PlanBinding extends Omit<Binding, "placements" | "lookup"> {
  /** A table whose rows the host looks up: a literal of the plan, by its key. */
  readonly lookup?: Omit<HostLookup, "bytes" | "literal" | "dtype"> & {
    readonly literal: string;
    readonly dtype: StorageType;
  };
  readonly storage: StorageId;
  /** Of chips that run one plan: how many have a piece of the tensor each, one after another in columns. */
  readonly pieces?: number;
  readonly factors: Binding["placements"][number]["factors"];
  readonly firstRow: number;
}

/** A tensor that stays in SRAM: tasks read `storage`, and `next`, which they write, takes its rows. */
export interface PlanState extends Omit<PlanBinding, "lookup"> {
  readonly next: StorageId;
}

export interface Plan {
  readonly name: string;
  readonly storages: readonly Storage[];
  readonly tasks: readonly Task[];
  /** Permutations of the SXM: by lane of the result the lane that it comes from, or -1 for zero. */
  readonly maps: readonly Int16Array[];
  /** What the sums may be that a permutation brings to other lanes, by number of the map; any finite number if not said. */
  readonly turnedSums?: ReadonlyMap<number, Range>;
  readonly inputs: readonly PlanBinding[];
  readonly outputs: readonly PlanBinding[];
  readonly states: readonly PlanState[];
  /** ONNX nodes, by name, that tasks and operations were made from. */
  readonly origins: readonly string[];
  /** The literals that recipes and lookups name, by their keys. */
  readonly literals: ReadonlyMap<string, Literal>;
  /** Multiply-accumulates that the model asks for, without padding. */
  readonly macs: number;
}
