/**
 * What follows from a Plan alone and is asked again and again while it is scheduled: who reads what, which panels meet in
 * one burst, which rows become weights. No time and no addresses: the same for every strategy.
 */

import { at, invariant } from "../../diagnostics.js";
import { STREAM_TYPES } from "../../ir/isa.js";
import type { Target } from "../../ir/target.js";
import {
  isRepeated,
  isTile,
  loadedBy,
  type PackedTile,
  type PanelRef,
  type Plan,
  readsOf,
  type Storage,
  type StorageId,
  type Task,
  TILE_TYPES,
  type Turn,
  turnOf,
} from "../../ir/plan.js";
import type { Side } from "./chip/machine.js";
import { type Dependencies, dependenciesOf } from "./dependencies.js";
import { findRepeat, type Repeat, storageSlot } from "./repeat/repeats.js";

/** Pairs of slices in which weights lie, and pairs of streams on which they load, where arrays compute for longer than that takes. */
const FEW_PAIRS = 4;
/** Twice as many: where arrays wait for their weights. */
const MANY_PAIRS = 8;
/** Cycles of loading for one of computing from which on arrays wait. */
const MUCH_LOADING = 2;
/** And from which on they do little else: weights take all outward streams, and activations fly between two loads. */
const ALL_LOADING = 8;

/** Weight vectors that a tile in so many pairs loads in one cycle: of fp16 one from each, of FP8 two. */
export const tileWays = ({ dtype }: PackedTile, pairs: number): number => (2 * pairs) / TILE_TYPES[dtype].bytes;

/** Constants are placed in pieces of at most so many rows, so that their reads spread over slices. */
export const CONSTANT_ROWS = 256;

/** What the scheduler asks of a plan again and again. */
export interface PlanFacts extends Dependencies {
  /** How lanes are rearranged, by lane map. */
  readonly turns: readonly Turn[];
  /** Panels that some task reads in the same burst: in one pair of slices they could never be read together. */
  readonly rivals: ReadonlyMap<string, ReadonlyMap<string, PanelRef>>;
  /**
   * Temporaries whose rows are activations or weights of some pass, or a row that chains read again and again: two copies in
   * each hemisphere.
   */
  readonly feeders: ReadonlySet<StorageId>;
  /** By panel: tiles that load while rows of it pass through an array, of the passes behind these; none where no tile has a place yet. */
  readonly tilesMeanwhile: ReadonlyMap<string, ReadonlySet<string>>;
  /** The state whose rows a storage takes. */
  readonly nexts: ReadonlyMap<StorageId, StorageId>;
  /** Temporaries that are read by nothing but what leaves a state to the next run: no burst reads across their blocks of rows. */
  readonly passing: ReadonlySet<StorageId>;
  /** By slot of a state (those of instances of a repeat have one) and by panel, the hemisphere in which it lies. */
  readonly stateSides: ReadonlyMap<number, readonly Side[]>;
  /** Storages whose rows are weights of some pass, and so lie interleaved. */
  readonly interleaved: ReadonlySet<StorageId>;
  /** Tasks that are the same again and again. */
  readonly repeat: Repeat | undefined;
  /** Instances of these whose constants are placed together. */
  readonly together: number;
  /** Pairs of slices in which a constant tile lies, and pairs of streams on which it loads. */
  readonly tilePairs: number;
  /** The most of them, where few rows meet a tile: those in which tiles lie of entries before this one. */
  readonly mostPairs: number;
  /** Rows of slice pairs that one copy of each weight tile takes. */
  readonly tileRows: number;
  /** Cycles in which a tile loads, on the average. */
  readonly tileCycles: number;
}

/** `earlierPairs`: pairs in which tiles lie of entries before this one. */
export const planFacts = (plan: Plan, target: Target, earlierPairs = 0): PlanFacts => {
  const dependencies = dependenciesOf(plan);
  const tilePairs = tilePairsOf(plan, target);
  const repeat = findRepeat(plan, dependencies);
  const nexts = new Map(plan.states.map(({ storage, next }) => [next, storage]));
  const tiles = [...distinctTiles(plan).values()];
  const tileRows = tiles.reduce((sum, { tile }) => sum + rowsOfTile(tile, tilePairs), 0);
  return {
    ...dependencies,
    turns: plan.maps.map((map) => turnOf(map, target)),
    rivals: rivalsOf(plan, nexts),
    feeders: feedersOf(plan),
    tilesMeanwhile: earlierPairs === 0 ? new Map() : tilesMeanwhileIn(plan),
    passing: passingIn(plan),
    nexts,
    stateSides: stateSidesOf(plan, repeat),
    interleaved: interleavedIn(plan),
    repeat,
    together: repeat === undefined ? 1 : togetherIn(plan, target, repeat, { tilePairs, tileRows }),
    tilePairs,
    mostPairs: Math.max(tilePairs, earlierPairs),
    tileRows,
    tileCycles: Math.ceil(tileRows / (tilePairs * Math.max(1, tiles.length))),
  };
};

/**
 * Of how many instances, all as many, constants can be placed together: the longest one's rows take no more of a bank than tiles leave
 * of all banks, since what such a stretch does not fill at a bank's end is lost to the next.
 */
const togetherIn = (
  plan: Plan,
  target: Target,
  { first, tasks, count, shared }: Repeat,
  tiles: Pick<PlanFacts, "tilePairs" | "tileRows">,
): number => {
  let rows = 1;
  for (const { passes, leaves } of plan.tasks.slice(first, first + tasks)) {
    for (const { weights } of passes)
      if (isTile(weights)) rows = Math.max(rows, executionsOf(weights, tiles.tilePairs));
    for (const { storage: id } of [...leaves, ...passes]) {
      const { kind, rows: own } = at(plan.storages, id, "storage");
      if (kind === "constant" && !shared.has(id)) rows = Math.max(rows, Math.min(own, CONSTANT_ROWS));
    }
  }
  const left = target.rowsPerBank - tiles.tileRows / (4 * Math.floor(target.slices / 2));
  const most = Math.max(1, Math.floor(left / rows));
  return Math.ceil(count / Math.ceil(count / most));
};

export const panelKey = ({ storage, panel }: PanelRef): string => `${storage}/${panel}`;

/** Cycles in which a tile is loaded, and rows that it takes in each of its pairs: two columns are one vector. */
export const executionsOf = (tile: PackedTile, pairs: number): number =>
  Math.ceil(Math.ceil(tile.columns / 2) / tileWays(tile, pairs));

/** Rows of slice pairs that a copy of a tile takes. */
export const rowsOfTile = (tile: PackedTile, pairs: number): number => executionsOf(tile, pairs) * pairs;

/** Pairs in which tiles of a plan lie. */
export const tilePairsOf = ({ tasks }: Plan, { slices, streams }: Target): number => {
  let loading = 0;
  let computing = 0;
  for (const { passes, rows } of tasks)
    for (const { weights } of passes)
      if (isTile(weights)) {
        loading += executionsOf(weights, FEW_PAIRS);
        computing += rows;
      }
  // Half of the streams, and of the pairs of a hemisphere, are left for all else.
  const isRoom = MANY_PAIRS <= streams / 4 && MANY_PAIRS <= slices / 4;
  if (!isRoom || loading <= MUCH_LOADING * computing) return FEW_PAIRS;
  const all = streams / 2;
  return loading > ALL_LOADING * computing && all + FEW_PAIRS <= slices / 2 ? all : MANY_PAIRS;
};

export const taskAt = ({ tasks }: Plan, index: number): Task => {
  const task = tasks[index];
  invariant(task !== undefined, "a task exists");
  return task;
};

/** The tiles of a plan by key, each with the origin of the first task that multiplies by it. */
export const distinctTiles = (plan: Plan): Map<string, { readonly tile: PackedTile; readonly origin: number }> => {
  const tiles = new Map<string, { tile: PackedTile; origin: number }>();
  for (const { passes, origin } of plan.tasks)
    for (const { weights } of passes)
      if (isTile(weights) && !tiles.has(weights.key)) tiles.set(weights.key, { tile: weights, origin });
  return tiles;
};

/** Pairs (of slices, of streams) that a vector of this storage takes: one slice, one stream for each byte of an element. */
export const widthOf = ({ dtype }: Pick<Storage, "dtype">): number => STREAM_TYPES[dtype].bytes / 2;

/** Rows of slices, each as many bytes as there are lanes, that some rows of one panel of a storage take. */
export const sliceRowsOf = (storage: Pick<Storage, "dtype">, rows: number): number => 2 * widthOf(storage) * rows;

const rivalsOf = (plan: Plan, nexts: PlanFacts["nexts"]): Map<string, Map<string, PanelRef>> => {
  const rivals = new Map<string, Map<string, PanelRef>>();
  for (const task of plan.tasks) {
    const panels = panelsTogether(plan, nexts, task).map((panel) => ({ key: panelKey(panel), panel }));
    for (const { key } of panels)
      for (const other of panels) {
        if (key === other.key) continue;
        const known = rivals.get(key);
        if (known === undefined) rivals.set(key, new Map([[other.key, other.panel]]));
        else known.set(other.key, other.panel);
      }
  }
  return rivals;
};

/** Panels that a task reads or writes at the same time; `nexts`: by what takes the place of a state, the state. */
const panelsTogether = (plan: Plan, nexts: PlanFacts["nexts"], task: Task): PanelRef[] => {
  const last = task.passes.at(-1);
  return [
    ...task.leaves,
    ...(last === undefined ? [] : [last]),
    // What has its place from the start is written while the operands are still read.
    ...task.outputs.flatMap(({ storage, panel }) => {
      const state = nexts.get(storage);
      if (state !== undefined) return [{ storage: state, panel }];
      return plan.storages[storage]?.output ? [{ storage, panel }] : [];
    }),
  ].map(({ storage, panel }) => ({ storage, panel }));
};

/** Groups of panels take turns, so that both arrays load at once, and states of a layer begin in turn. */
const stateSidesOf = (plan: Plan, repeat: Repeat | undefined): Map<number, readonly Side[]> => {
  const sides = new Map<number, readonly Side[]>();
  for (const { storage } of plan.states) {
    const slot = storageSlot(repeat, storage);
    if (sides.has(slot)) continue;
    const { panels, groups = new Array<number>(panels).fill(0) } = at(plan.storages, storage, "storage");
    const order = [...new Set(groups)];
    const turn = sides.size;
    sides.set(
      slot,
      groups.map((group) => ((turn + order.indexOf(group)) % 2 === 0 ? 0 : 1)),
    );
  }
  return sides;
};

const tilesMeanwhileIn = ({ tasks }: Plan): Map<string, Set<string>> => {
  const found = new Map<string, Set<string>>();
  for (const { passes } of tasks)
    for (const [index, pass] of passes.entries()) {
      const next = passes[index + 1]?.weights;
      if (next === undefined || !isTile(next)) continue;
      const key = panelKey(pass);
      const tiles = found.get(key) ?? new Set();
      found.set(key, tiles.add(next.key));
    }
  return found;
};

const feedersOf = (plan: Plan): Set<StorageId> => {
  const passes = plan.tasks.flatMap((task) => task.passes);
  const repeated = plan.tasks.flatMap(({ leaves }) => leaves.filter(isRepeated).map(({ storage }) => storage));
  const feeders = new Set([...passes.flatMap((pass) => [pass.storage, ...loadedBy(pass)]), ...repeated]);
  for (const storage of plan.storages) if (storage.kind !== "temp" || storage.output) feeders.delete(storage.id);
  return feeders;
};

const passingIn = (plan: Plan): Set<StorageId> => {
  const nexts = new Set(plan.states.map(({ next }) => next));
  const leavesState = ({ passes, outputs }: Task): boolean =>
    passes.length === 0 && outputs.every(({ storage }) => nexts.has(storage));
  const [left, kept] = [new Set<StorageId>(), new Set<StorageId>()];
  for (const task of plan.tasks) for (const id of readsOf(task)) (leavesState(task) ? left : kept).add(id);
  return new Set([...left].filter((id) => plan.storages[id]?.kind === "temp" && !kept.has(id)));
};

const interleavedIn = (plan: Plan): Set<StorageId> => {
  const loaded = plan.tasks.flatMap((task) => task.passes.flatMap(loadedBy));
  return new Set(loaded.filter((id) => !plan.storages[id]?.output));
};
