/**
 * What is there already when a further entry of a program is scheduled: constants and states, which stay where they are.
 *
 * Weights that an earlier entry has placed are read where they lie, and states are the same rows for all. A row that an earlier
 * entry writes, or that its host writes, is no place for a constant, but results may take it: only one entry runs at a time.
 */

import { at, fail, invariant } from "../../../diagnostics.js";
import type { Plan, Storage } from "../../../ir/plan.js";
import { memQueue, type Placement, type Program, rowsOfPlane } from "../../../ir/program.js";
import type { Target } from "../../../ir/target.js";
import { holdRows, touchRows } from "../chip/memory.js";
import type { Half, Side } from "../chip/machine.js";
import { distinctTiles, rowsOfTile, tilePairsOf } from "../figures.js";
import type { Copy, TilePlace } from "./chunk.js";
import { constantRowsIn, resultsIn } from "./resident.js";

/** What the entries so far have placed. */
export interface Earlier {
  readonly program: Program;
  /** Weight tiles by hemisphere and key. */
  readonly tiles: readonly [ReadonlyMap<string, TilePlace>, ReadonlyMap<string, TilePlace>];
  /** States by the names of their storages, by panel. */
  readonly states: ReadonlyMap<string, EarlierState>;
}

export interface EarlierState {
  readonly storage: Storage;
  readonly panels: readonly (readonly Copy[])[];
}

/** Pairs in which tiles of an entry lie; 0 if it has none. */
export const earlierPairs = (earlier: Earlier | undefined): number =>
  Math.max(0, ...(earlier?.tiles ?? []).flatMap((tiles) => [...tiles.values()].map(({ pairs }) => pairs.length)));

/** Takes the rows of a new chip that are taken already. */
export const holdEarlier = (target: Target, halves: readonly [Half, Half], { program }: Earlier): void => {
  const memoryAt = (queue: number) => {
    const side: Side = queue < target.slices ? 0 : 1;
    return halves[side].pairs[Math.floor((queue % target.slices) / 2)]?.memory;
  };
  const each = (queue: number, row: number, rows: number, take: typeof holdRows): void => {
    const memory = memoryAt(queue);
    if (memory !== undefined) take([memory], row, rows);
  };
  const placed = (placements: readonly Placement[], take: typeof holdRows): void => {
    for (const placement of placements)
      for (const { planes } of placement.panels)
        for (const [at, { hemisphere, slice, row }] of planes.entries())
          each(memQueue(target, hemisphere, slice), row, rowsOfPlane(placement, at), take);
  };
  for (const { inputs, outputs, queues } of program.entries) {
    for (const { placements } of [...inputs, ...outputs]) placed(placements, touchRows);
    for (const [queue, instructions] of at(queues, 0, "queue")
      .slice(0, 2 * target.slices)
      .entries())
      for (const { op, fields, count, step } of instructions)
        if (op === "write")
          for (let i = 0; i < count; i++) each(queue, Number(fields["address"]) + i * step, 1, touchRows);
  }
  for (const { placements } of program.states) placed(placements, holdRows);
  for (const { hemisphere, slice, row, rows } of program.chips[0]?.constants ?? [])
    each(memQueue(target, hemisphere, slice), row, rows, holdRows);
};

/** Rows of slice pairs that constants of later entries take, at least, which neither this one has nor those before it. */
export const rowsForLater = (
  plan: Plan,
  later: readonly Plan[],
  target: Target,
  earlier: Earlier | undefined,
): number => {
  const known = new Set(distinctTiles(plan).keys());
  let rows = 0;
  for (const other of later) {
    const pairs = tilePairsOf(other, target);
    for (const [key, { tile }] of distinctTiles(other)) {
      if (known.has(key) || earlier?.tiles.some((own) => own.has(key)) === true) continue;
      known.add(key);
      rows += rowsOfTile(tile, pairs);
    }
    // Many lie in both hemispheres.
    rows += 2 * constantRowsIn(other);
  }
  return rows;
};

/** Rows of slice pairs that results of later entries take beyond those of this one: an estimate. */
export const resultRowsForLater = (plan: Plan, later: readonly Plan[], target: Target): number => {
  const own = resultsIn(plan, target);
  return Math.max(0, ...later.map((other) => resultsIn(other, target) - own)) / (2 * target.lanes);
};

/** Where a state lies, if an earlier entry has it too: as this one wants it. */
export const earlierCopies = (
  earlier: Earlier | undefined,
  { name, kind, dtype, rows, panels, bothHemispheres }: Storage,
  panel: number,
): Copy[] | undefined => {
  const known = kind === "state" ? earlier?.states.get(name) : undefined;
  if (known === undefined) return undefined;
  const { storage } = known;
  if (storage.dtype !== dtype || storage.rows !== rows || storage.panels !== panels)
    fail("LPU2004", {
      message: `state '${name}' is ${dtype} in ${panels} panels of ${rows} rows, in an entry before ${storage.dtype} in ${storage.panels} of ${storage.rows}`,
      hint: "bind its dimensions to the same sizes in all entries",
    });
  invariant(storage.bothHemispheres === bothHemispheres, "states that entries share lie in as many hemispheres");
  return known.panels[panel]?.map((copy) => ({ ...copy, lastRead: 0, lastReadOf: new Int32Array(rows) }));
};
