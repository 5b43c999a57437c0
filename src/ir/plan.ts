/**
 * Plan: WHERE. Storages (tensors as panels of rows x lanes) and tasks (bursts through units); no addresses, no time.
 *
 * A storage is `rows` vectors in each of `panels` column panels. A task is a rigid figure: a sequence of MXM passes that
 * accumulate into one block of rows (or none), and a chain of ALU operations that the result, and vectors read from
 * storages, flow through, ending in writes. Tasks are in topological order; data dependencies follow from storage rows.
 */

import type { AluFunction } from "./isa.js";
import type { Binding } from "./program.js";

export type StorageId = number;

export interface Storage {
  readonly id: StorageId;
  readonly name: string;
  readonly dtype: "f16" | "f32";
  readonly rows: number;
  readonly panels: number;
  /** temp: written by tasks. constant, input: there before cycle 0. */
  readonly kind: "temp" | "constant" | "input";
  /** Taken by an MXM or SXM, so that each hemisphere needs its own copy of what it takes. */
  readonly bothHemispheres: boolean;
  /** Constants: element bit patterns of one panel, rows x lanes, f16 or f32 bits. */
  readonly content?: (panel: number) => Uint16Array | Uint32Array;
  /** True if read by the host after the run. */
  readonly output: boolean;
}

/** `count` rows from `row` on, `step` apart; 0 repeats the same row. */
export interface Run {
  readonly row: number;
  readonly step: number;
  readonly count: number;
}

/** A constant weight tile: `columns` columns of halfLanes fp16 values; packed two columns a vector. */
export interface PackedTile {
  readonly key: string;
  readonly columns: number;
  /** [columns][halfLanes] fp16 bits. */
  readonly content: () => Uint16Array;
}

/** Weight columns loaded from rows of a storage: one row is one column, from one half of its lanes. */
export interface WeightLoad {
  readonly storage: StorageId;
  readonly panel: number;
  readonly run: Run;
  readonly half: 0 | 1;
  readonly first: number;
  readonly lanes: number;
  readonly column: number;
}

export interface Pass {
  readonly storage: StorageId;
  readonly panel: number;
  readonly half: 0 | 1;
  readonly runs: readonly Run[];
  readonly weights: PackedTile | readonly WeightLoad[];
}

export const isTile = (weights: Pass["weights"]): weights is PackedTile => "key" in weights;

export interface Leaf {
  readonly storage: StorageId;
  readonly panel: number;
  readonly runs: readonly Run[];
  /** Goes through an SXM permutation on the way: index into Plan.maps. */
  readonly map?: number;
}

export type Argument =
  | { readonly op: number }
  | { readonly leaf: number }
  /** The sums of the passes; with `map`, their lanes rearranged by an SXM permutation on the way: index into Plan.maps. */
  | { readonly mxm: true; readonly map?: number }
  | { readonly constant: number };

export interface AluOp {
  readonly fn: AluFunction;
  readonly args: readonly Argument[];
}

export interface TaskOutput {
  readonly op: number;
  readonly storage: StorageId;
  readonly panel: number;
  /** Rows [row, row + task.rows) are written in order. */
  readonly row: number;
}

export interface Task {
  readonly rows: number;
  readonly passes: readonly Pass[];
  readonly ops: readonly AluOp[];
  readonly leaves: readonly Leaf[];
  readonly outputs: readonly TaskOutput[];
  /** Index into Plan.origins. */
  readonly origin: number;
}

/** A host-visible tensor bound to a storage; placements are filled in when the storage has addresses. */
export interface PlanBinding extends Omit<Binding, "placements"> {
  readonly storage: StorageId;
  readonly factors: Binding["placements"][number]["factors"];
  readonly firstRow: number;
}

export interface Plan {
  readonly name: string;
  readonly storages: readonly Storage[];
  readonly tasks: readonly Task[];
  readonly maps: readonly Int16Array[];
  readonly inputs: readonly PlanBinding[];
  readonly outputs: readonly PlanBinding[];
  readonly origins: readonly string[];
  readonly macs: number;
}
