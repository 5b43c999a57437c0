/**
 * The edge to the host and to the next run: where inputs, outputs and states lie. Each lies at rows that nothing else ever
 * takes, in one piece or interleaved, and is placed before any task; a Binding tells the host where. What takes the place of a
 * state lies in its rows.
 */

import type { Contents } from "../../../ir/contents.js";
import type { Chunk, Copy } from "./chunk.js";
import { at, invariant } from "../../../diagnostics.js";
import type { PlanBinding, PlanState, Storage } from "../../../ir/plan.js";
import type { Binding, HostLookup, PanelPlace, Placement, StateBinding } from "../../../ir/program.js";
import type { Half } from "../chip/machine.js";
import { earlierCopies } from "./earlier.js";
import { lastingCopy } from "./rows.js";
import { chunksOf, homesOf, type Scheduler, storageOf } from "../state.js";

export const placeEdge = (s: Scheduler, storage: Storage): void => {
  for (const [panel, chunks] of at(s.chunks, storage.id, "storage").entries()) {
    s.trial.cursor = storage.id + panel;
    const state = s.nexts.get(storage.id);
    const copies =
      state === undefined
        ? (earlierCopies(s.earlier, storage, panel) ??
          homesOf(s, storage, panel).map((side) => lastingCopy(s, storage, panel, s.halves[side])))
        : (chunksOf(s, { storage: state, panel })[0]?.copies ?? []);
    // An output has no rows yet, only a place for them.
    if (storage.output) chunks.push({ row: -1, rows: 0, ready: 0, copies });
    else chunks[0]?.copies.push(...copies);
  }
};

export const bindState = (
  s: Scheduler,
  { name, declared, shape, storage, factors, firstRow }: PlanState,
): StateBinding => ({
  ...{ name, declared, shape },
  placements: placementsOf(s, { storage, factors, firstRow }),
});

export const bind = (s: Scheduler, contents: Contents, binding: PlanBinding): Binding => {
  const { storage: id, lookup, name, declared, shape } = binding;
  const rest = { name, declared, shape, ...(lookup === undefined ? {} : { lookup: tableOf(contents, lookup) }) };
  // What no one reads has no place.
  if (id < 0) return { ...rest, placements: [] };
  return { ...rest, placements: placementsOf(s, binding) };
};

const placementsOf = (
  s: Scheduler,
  { storage: id, factors, firstRow }: Pick<PlanBinding, "storage" | "factors" | "firstRow">,
): Placement[] => {
  const storage = storageOf(s, id);
  const panels = at(s.chunks, id, "storage");
  return wholes(s, storage, panels).map(
    (copies): Placement => ({
      dtype: storage.dtype,
      factors,
      rows: storage.rows - firstRow,
      columns: storage.panels * s.target.lanes,
      ways: copies[0]?.ways ?? 1,
      panels: copies.map((copy) => panelPlace(copy, s.halves[copy.side], firstRow)),
    }),
  );
};

/** Copies of all panels: one of each, wherever it lies, or where some panel has two, all panels in each hemisphere. */
const wholes = (s: Scheduler, storage: Storage, panels: readonly (readonly Chunk[])[]): (readonly Copy[])[] => {
  const single = panels.flatMap((chunks) => (chunks[0]?.copies.length === 1 ? chunks[0].copies : []));
  if (single.length === panels.length) return [single];
  const used = s.halves.filter((half) => panels.some((chunks) => copyIn(chunks, half) !== undefined));
  return (used.length > 0 ? used : s.halves.slice(0, 1)).map((half) =>
    panels.map((chunks, panel) => copyIn(chunks, half) ?? lastingCopy(s, storage, panel, half)),
  );
};

const tableOf = (contents: Contents, lookup: NonNullable<PlanBinding["lookup"]>): HostLookup => ({
  ...lookup,
  bytes: () => contents.table(lookup.literal, lookup.dtype),
});

/** The place of a panel in one hemisphere; what lies in one piece has it in its first chunk. */
const copyIn = (chunks: readonly Chunk[], { side }: Half): Copy | undefined =>
  chunks[0]?.copies.find((copy) => copy.side === side);

/** Rows from `firstRow` on: the first of them lies in the first way. */
const panelPlace = ({ pairs, ways, addresses }: Copy, { hemisphere }: Half, firstRow: number): PanelPlace => {
  const width = pairs.length / ways;
  return {
    planes: pairs.flatMap((_, index) => {
      const row = firstRow + Math.floor(index / width);
      const at = (row % ways) * width + (index % width);
      const [pair, address] = [pairs[at], addresses[at]];
      invariant(pair !== undefined && address !== undefined, "each way has its pairs");
      return [0, 1].map((byte) => ({
        chip: 0,
        hemisphere,
        slice: 2 * pair + byte,
        row: address + Math.floor(row / ways),
      }));
    }),
  };
};
