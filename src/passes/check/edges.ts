/**
 * Part of the proof that a Program is its Plan: which rows of SRAM hold which bytes of inputs, constants and outputs.
 *
 * Inputs, states and outputs lie where their placements say, constants where their blocks say; what a binding says of names, types
 * and factors is the plan's.
 */

import { at, fail, sure } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import type { Plan, PlanBinding, Run } from "../../ir/plan.js";
import { tilesNamed } from "../../ir/plan/names.js";
import { type Binding, memQueue, type Placement, rowsOfPlane, type StateBinding } from "../../ir/program.js";
import type { CheckedChip } from "./burst.js";
import { type PlanValues, vectorsOf } from "./plan.js";
import { append, PLANES, UNKNOWN, ZEROS } from "./values.js";

/** Consecutive rows of the slice of a queue that hold one byte of the elements of rows `way`, `way + ways` and so on of a panel. */
interface ByteRows {
  readonly queue: number;
  readonly row: number;
  readonly count: number;
  readonly panel: number;
  readonly way: number;
  readonly ways: number;
  readonly byte: number;
}

/** On this chip. */
export const byteRows = ({ target, index }: CheckedChip, { placements }: StateBinding): ByteRows[] =>
  placementsOn(placements, index).flatMap((placement) =>
    placement.panels.flatMap(({ planes }, panel) =>
      planes.map(({ hemisphere, slice, row }, at) => {
        const { dtype, ways } = placement;
        const way = Math.floor(at / DTYPES[dtype].bytes);
        const count = rowsOfPlane(placement, at);
        return {
          queue: memQueue(target, hemisphere, slice),
          row,
          count,
          panel,
          way,
          ways,
          byte: at % DTYPES[dtype].bytes,
        };
      }),
    ),
  );

/** Placements as a chip has them: of tensors of which several chips have a piece each, the panels of its own. */
const placementsOn = (placements: readonly Placement[], chip: number): readonly Placement[] =>
  placements.flatMap((placement) => {
    const panels = placement.panels.filter(({ planes }) => planes.some((plane) => plane.chip === chip));
    return panels.length === 0 ? [] : [{ ...placement, panels }];
  });

/** What is bound on a chip; what has no place, since no one reads it, is by the plan of the first. */
export const boundOn = <One extends StateBinding>(bindings: readonly One[], { index }: CheckedChip): One[] =>
  bindings.filter(({ placements }) =>
    placements.length === 0 ? index === 0 : placementsOn(placements, index).length > 0,
  );

/** What lies in the rows of slices before cycle 0: each row is one of a span of planes that are evenly apart. */
export interface RowsBefore {
  /** By queue and row: index into `spans`, counted from 1; 0 if nothing lies there. */
  readonly spanAt: Int32Array;
  readonly spans: readonly RowSpan[];
}

export interface RowSpan {
  /** Where its first row is in `spanAt`. */
  readonly at: number;
  readonly count: number;
  readonly plane: number;
  readonly step: number;
  readonly of: HeldRows;
  /** Of the plane of the first row, among those of the tile or the panel. */
  readonly offset: number;
}

/** A tile by its key, a panel of a storage, or zeros. */
export type HeldRows = { readonly tile: string } | { readonly storage: number; readonly panel: number } | undefined;

export const rowsBefore = (plan: Plan, { values }: PlanValues, chip: CheckedChip): RowsBefore => {
  const { target, program } = chip;
  const depth = 2 * target.rowsPerBank;
  const states = boundOn(program.states, chip);
  const inputs = boundOn(program.entry.inputs, chip);
  const outputs = boundOn(program.entry.outputs, chip);
  checkBindings(chip, plan, "input", plan.inputs, inputs);
  checkBindings(chip, plan, "output", plan.outputs, outputs);
  checkBindings(chip, plan, "state", plan.states, states);
  const spanAt = new Int32Array(2 * target.slices * depth);
  const spans: RowSpan[] = [];
  const add = (
    queue: number,
    row: number,
    count: number,
    of: HeldRows,
    { base, first, step, byte }: VectorBytes,
  ): void => {
    const at = queue * depth + row;
    const offset = PLANES * first + byte;
    spans.push({ at, count, plane: base + offset, step: PLANES * step, of, offset });
    spanAt.fill(spans.length, at, at + count);
  };
  const addBound = (bindings: readonly StateBinding[], bound: readonly Omit<PlanBinding, "lookup">[]): void => {
    for (const [at, binding] of bindings.entries()) {
      const { storage: id = -1, firstRow = 0 } = bound[at] ?? {};
      const storage = plan.storages[id];
      if (storage !== undefined)
        for (const { queue, row, count, panel, way, ways, byte } of byteRows(chip, binding))
          add(
            queue,
            row,
            count,
            { storage: id, panel },
            { base: values.panel(storage, panel), first: firstRow + way, step: ways, byte },
          );
    }
  };
  addBound(inputs, plan.inputs);
  addBound(states, plan.states);
  const tiles = new Map(plan.tasks.flatMap(tilesNamed).map((tile) => [tile.key, tile]));
  for (const { hemisphere, slice, row, rows, holds } of chip.chip.constants) {
    if (holds === undefined)
      fail("LPU2224", { message: "expected constant blocks that say what they hold, found one that does not" });
    const { of, first, step, byte } = holds;
    // What only other entries read says nothing of this plan.
    if ("tile" in of ? !tiles.has(of.tile) : of.entry !== program.entry.name) continue;
    const queue = memQueue(target, hemisphere, slice);
    const storage = "tile" in of ? undefined : plan.storages[of.storage];
    const length = "tile" in of ? vectorsOf(sure(tiles.get(of.tile), "tile")) : (storage?.rows ?? 0);
    const base =
      "tile" in of ? values.tile(of.tile, length) : storage === undefined ? UNKNOWN : values.panel(storage, of.panel);
    // A tile is filled up with zeros.
    const own = Math.min(rows, Math.ceil((length - first) / step));
    add(queue, row, own, of, { base, first, step, byte });
    add(queue, row + own, rows - own, undefined, { base: ZEROS, first: 0, step: 0, byte });
  }
  return { spanAt, spans };
};

/** Byte `byte` of vectors `first`, `first + step` and so on of those that are numbered from `base` on. */
interface VectorBytes {
  readonly base: number;
  readonly first: number;
  readonly step: number;
  readonly byte: number;
}

/** The planes in `count` rows from a row of the slice of a queue on, `step` apart, before cycle 0. */
export const planesIn = ({ spanAt, spans }: RowsBefore, first: number, step: number, count: number): Run[] => {
  const planes: Run[] = [];
  for (let i = 0; i < count; ) {
    const row = first + i * step;
    const span = spans[at(spanAt, row, "row") - 1];
    const last = first + (count - 1) * step;
    const inside = span === undefined ? 1 : last >= span.at && last < span.at + span.count ? count - i : 1;
    const plane = span === undefined ? UNKNOWN : span.plane + (row - span.at) * span.step;
    append(planes, { row: plane, step: inside === 1 ? 0 : step * (span?.step ?? 0), count: inside });
    i += inside;
  }
  return planes;
};

const checkBindings = (
  { index }: CheckedChip,
  { storages }: Plan,
  kind: "input" | "output" | "state",
  expected: readonly PlanBinding[],
  found: readonly Binding[],
): void => {
  const refuse = (name: string, what: string): never =>
    fail("LPU2224", { message: `${kind} '${name}': expected ${what} of the plan, found others` });
  if (expected.length !== found.length) refuse("", `the ${kind}s`);
  for (const [at, { storage: id, name, declared, shape, factors, firstRow, lookup }] of expected.entries()) {
    const binding = found[at];
    if (binding?.name !== name) refuse(name, "the name");
    if (binding?.declared !== declared || binding.shape.join() !== shape.join()) refuse(name, "the type");
    const table = binding?.lookup;
    if (table?.literal !== lookup?.literal || table?.dtype !== lookup?.dtype) refuse(name, "the table");
    const storage = storages[id];
    const placements = placementsOn(binding?.placements ?? [], index);
    if ((storage === undefined) !== (placements.length === 0)) refuse(name, "the place");
    for (const { dtype, rows, panels, factors: own } of placements) {
      if (dtype !== storage?.dtype || JSON.stringify(own) !== JSON.stringify(factors))
        refuse(name, "the element type and factors");
      if (rows !== (storage?.rows ?? 0) - firstRow || panels.length !== storage?.panels)
        refuse(name, "rows and panels");
    }
  }
};
