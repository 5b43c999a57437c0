/**
 * What lies in SRAM from the first cycle on, by the plan alone: weight tiles, rows of constants that are read, and the edges to
 * the host. A lower bound: some of it will be in both hemispheres.
 */

import { at } from "../../../diagnostics.js";
import { isTile, type Plan, readsOf, type Run, type Storage, type StorageId } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { CONSTANT_ROWS, distinctTiles, rowsOfTile, sliceRowsOf, tilePairsOf } from "../figures.js";

/** Rows of all panels, in every hemisphere that needs them. */
export const rowsOf = ({ rows, panels, bothHemispheres }: Storage): number => rows * panels * (bothHemispheres ? 2 : 1);

/** Bytes of SRAM that are taken from the first cycle on. */
export const residentIn = (plan: Plan, target: Target): number => {
  let sum = 0;
  for (const bytes of residentBytes(plan, target).values()) sum += bytes;
  return sum;
};

/** Bytes of SRAM that are taken from the first cycle on, by the ONNX node or tensor for which they are. */
export const residentBytes = (plan: Plan, target: Target): Map<string, number> => {
  const parts = new Map<string, number>();
  const add = (name: string, sliceRows: number): void => {
    if (sliceRows > 0) parts.set(name, (parts.get(name) ?? 0) + sliceRows * target.lanes);
  };
  const pairs = tilePairsOf(plan, target);
  for (const { tile, origin } of distinctTiles(plan).values())
    add(at(at(plan.origins, origin, "origin").split(" + "), 0, "name"), 2 * rowsOfTile(tile, pairs));
  const constants = constantRows(plan);
  const isNext = new Set(plan.states.map(({ next }) => next));
  for (const storage of plan.storages) {
    // What takes the rows of a state takes no others.
    if (isNext.has(storage.id)) continue;
    const edge = storage.kind === "input" || storage.kind === "state" || storage.output;
    const rows = edge ? rowsOf(storage) : (constants.get(storage.id) ?? 0);
    add(nameOf(plan, storage), sliceRowsOf(storage, rows));
  }
  return parts;
};

/** Bytes that intermediate results take at the fullest moment, if tasks ran in the order of the plan: an estimate. */
export const resultsIn = (plan: Plan, target: Target): number => {
  const last = new Map<number, number>();
  const first = new Map<number, number>();
  for (const [index, task] of plan.tasks.entries()) {
    for (const storage of readsOf(task)) last.set(storage, index);
    for (const { storage } of task.outputs) if (!first.has(storage)) first.set(storage, index);
  }
  const changes = new Array<number>(plan.tasks.length + 1).fill(0);
  for (const storage of plan.storages) {
    const begin = first.get(storage.id);
    if (begin === undefined || storage.kind !== "temp" || storage.output) continue;
    const end = 1 + (last.get(storage.id) ?? begin);
    const bytes = sliceRowsOf(storage, rowsOf(storage)) * target.lanes;
    changes[begin] = at(changes, begin, "change") + bytes;
    changes[end] = at(changes, end, "change") - bytes;
  }
  let [alive, most] = [0, 0];
  for (const change of changes) {
    alive += change;
    most = Math.max(most, alive);
  }
  return most;
};

/** What the user calls a storage: the binding's name, if it is the host's. */
const nameOf = ({ inputs, outputs, states }: Plan, { id, name }: Storage): string =>
  [...inputs, ...outputs, ...states].find(({ storage }) => storage === id)?.name ?? name;

/** Rows of slice pairs that constants which are read row by row take, once. */
export const constantRowsIn = (plan: Plan): number => {
  let sum = 0;
  for (const [id, rows] of constantRows(plan)) sum += sliceRowsOf(at(plan.storages, id, "storage"), rows) / 2;
  return sum;
};

/** Rows of each constant that are placed. */
const constantRows = (plan: Plan): Map<number, number> =>
  new Map(
    [...constantPieces(plan)].map(([id, found]) => [id, rowsOfPieces(at(plan.storages, id, "storage").rows, found)]),
  );

/** Of the pieces in which constants are placed, panel after panel, the numbers of those that something reads. */
export const constantPieces = (plan: Plan): Map<StorageId, Set<number>> => {
  const pieces = new Map<StorageId, Set<number>>();
  const read = (id: number, panel: number, runs: readonly Run[]): void => {
    const storage = plan.storages[id];
    if (storage?.kind !== "constant" || storage.output) return;
    const perPanel = Math.ceil(storage.rows / CONSTANT_ROWS);
    const found = pieces.get(id) ?? new Set();
    for (const run of runs) for (const piece of piecesOfRun(run)) found.add(panel * perPanel + piece);
    pieces.set(id, found);
  };
  for (const { leaves, passes } of plan.tasks) {
    for (const { storage, panel, runs } of leaves) read(storage, panel, runs);
    for (const { storage, panel, runs } of passes) read(storage, panel, runs);
    for (const { weights } of passes)
      if (!isTile(weights)) for (const { storage, panel, run } of weights) read(storage, panel, [run]);
  }
  return pieces;
};

const piecesOfRun = ({ row, step, count }: Run): number[] => {
  const last = Math.floor((row + step * (count - 1)) / CONSTANT_ROWS);
  const first = Math.floor(row / CONSTANT_ROWS);
  if (Math.abs(step) > CONSTANT_ROWS)
    return Array.from({ length: count }, (_, i) => Math.floor((row + i * step) / CONSTANT_ROWS));
  return Array.from({ length: Math.abs(last - first) + 1 }, (_, i) => Math.min(first, last) + i);
};

/** All pieces of a panel have CONSTANT_ROWS rows but the last one. */
const rowsOfPieces = (rows: number, pieces: ReadonlySet<number>): number => {
  const perPanel = Math.ceil(rows / CONSTANT_ROWS);
  let sum = 0;
  for (const piece of pieces) sum += Math.min(CONSTANT_ROWS, rows - (piece % perPanel) * CONSTANT_ROWS);
  return sum;
};
