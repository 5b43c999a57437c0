/**
 * Operands: can a stored tensor be read, as it lies, lane by lane with a result that is laid out in another space?
 *
 * A result space is described by a View of the consumer's full (broadcast) shape. An operand fits if each of its elements
 * lies on the lane on which the result needs it; rows may be mapped in any way, since they are only addresses.
 */

import { at } from "../../../diagnostics.js";
import type { Shape } from "../../../ir/graph.js";
import type { Leaf, Run, StorageId } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { align, expandView, type Factor, type Layout, type View } from "./view.js";

/** A tensor that has a storage: `view` says where each element lies. */
export interface Located extends Layout {
  readonly storage: StorageId;
  /** Lanes on which a value is repeated beyond its own: on all of them, or along these columns. */
  readonly repeated?: "all" | readonly { readonly extent: number; readonly column: number }[];
  /** Panels after which those that follow are the same again, and not stored. */
  readonly cycle?: number;
  /** A second storage, lying as the first one does: the value is the sum of both. Chains take it so; see rules/sum.ts. */
  readonly plus?: StorageId;
}

/** Digits of the result's rows, with the operand's row stride for each. */
export interface RowDigit {
  readonly extent: number;
  readonly out: number;
  readonly row: number;
}

/** How rows and panels of an operand follow from those of the result that it is read along with. */
export interface Fit {
  readonly digits: readonly RowDigit[];
  readonly row: number;
  /** Panel of the operand = panel of the result + this; or always this panel where it is repeated on all lanes. */
  readonly panelOffset: number;
  readonly fixedPanel: boolean;
  /** Panels of the result after which those of the operand are taken from the first on again. */
  readonly cycle?: number;
}

/** One digit of an index: the strides that it has in two layouts, first the result's. */
export type FactorPair = readonly [Factor, Factor];

/** Digits of a result's index, dim by dim, with the strides that an operand has for them; undefined where radices do not meet. */
export const factorPairs = (full: View, fullShape: Shape, operand: View): readonly FactorPair[] | undefined => {
  const expanded = expandView(operand, fullShape);
  const pairs: FactorPair[] = [];
  for (const [axis, factors] of full.dims.entries()) {
    const other = at(expanded.dims, axis, "dim");
    const zero = other.length === 1 && other[0]?.row === 0 && other[0]?.column === 0;
    const aligned = zero
      ? factors.map((f): [Factor, Factor] => [f, { extent: f.extent, row: 0, column: 0 }])
      : align(factors, other);
    if (aligned === undefined) return undefined;
    pairs.push(...aligned);
  }
  return pairs;
};

/** How an operand is read along with a result laid out as `full`; undefined if it does not lie on the result's lanes. */
export const fitOperand = (target: Target, full: View, fullShape: Shape, operand: Located): Fit | undefined => {
  const pairs = factorPairs(full, fullShape, operand.view);
  if (pairs === undefined) return undefined;
  const digits: RowDigit[] = [];
  let anyLane = false;
  const cycle = operand.cycle ?? (operand.repeated === undefined ? panelCycle(target, full, pairs) : undefined);
  for (const [f, g] of pairs) {
    if (f.row !== 0) {
      if (g.column !== 0) return undefined;
      digits.push({ extent: f.extent, out: f.row, row: g.row });
      continue;
    }
    if (g.row !== 0) return undefined;
    if (g.column === f.column) {
      anyLane ||= f.column !== 0;
      continue;
    }
    if (g.column !== 0) return undefined;
    if (operand.repeated === "all") continue;
    if (operand.repeated === undefined) {
      if (cycle === undefined) return undefined;
      continue;
    }
    if (!operand.repeated.some(({ extent, column }) => column === f.column && extent >= f.extent)) return undefined;
    anyLane = true;
  }
  const splat = operand.repeated === "all" && !anyLane;
  const offset = operand.view.column - full.column;
  if (!splat && offset % target.lanes !== 0) return undefined;
  if (cycle !== undefined && offset !== 0) return undefined;
  return {
    digits,
    row: operand.view.row,
    panelOffset: splat ? Math.floor(operand.view.column / target.lanes) : offset / target.lanes,
    fixedPanel: splat,
    ...(cycle === undefined ? {} : { cycle }),
  };
};

/** Rows of a result up to which all its panels may read one panel of an operand: bursts of more would wait for its port. */
const SHARING_ROWS = 8;

/** Whether a result has so few rows that panels of an operand are read for several of its own. */
export const sharesPanels = (pairs: readonly FactorPair[]): boolean =>
  pairs.reduce((rows, [{ row, extent }]) => (row === 0 ? rows : rows * extent), 1) <= SHARING_ROWS;

/**
 * Panels after which the lanes of an operand are wanted again, if all that it is broadcast along on columns are whole panels around
 * all others; undefined if not.
 */
const panelCycle = ({ lanes }: Target, full: View, pairs: readonly FactorPair[]): number | undefined => {
  const onColumns = pairs.filter(([f]) => f.column !== 0 && f.extent > 1);
  const broadcast = onColumns.filter(([, g]) => g.column === 0 && g.row === 0).map(([f]) => f.column);
  if (broadcast.length === 0 || full.column !== 0 || !sharesPanels(pairs)) return undefined;
  const stride = Math.min(...broadcast);
  const own = onColumns.filter(([, g]) => g.column !== 0).reduce((sum, [f]) => sum + (f.extent - 1) * f.column, 1);
  return own <= stride && broadcast.every((column) => column % stride === 0) && stride % lanes === 0
    ? stride / lanes
    : undefined;
};

/** Vectors of an operand for `rows` rows of one panel of the result, from `row` on. */
export const leafOf = (value: Located, fit: Fit, panel: number, row: number, rows: number, step = 1): Leaf => ({
  storage: value.storage,
  panel: panelOf(fit, panel),
  runs: runsOf(fit, row, rows, step),
});

const panelOf = ({ fixedPanel, panelOffset, cycle }: Fit, panel: number): number => {
  if (fixedPanel) return panelOffset;
  return cycle === undefined ? panel + panelOffset : panel % cycle;
};

/** Rows of the operand for `count` rows of the result, from `first` on, as runs. */
export const runsOf = (
  fit: { readonly digits: readonly RowDigit[]; readonly row: number },
  first: number,
  count: number,
  step = 1,
): Run[] => {
  const digits = [...fit.digits].sort((a, b) => b.out - a.out);
  const rows = Array.from({ length: count }, (_, i) => {
    let row = fit.row;
    let rest = first + i * step;
    for (const digit of digits) {
      const index = Math.floor(rest / digit.out);
      rest -= index * digit.out;
      row += index * digit.row;
    }
    return row;
  });
  return runsThrough(rows);
};

/** Rows, in this order, as runs. */
export const runsThrough = (rows: readonly number[]): Run[] => {
  const runs: { row: number; step: number; count: number }[] = [];
  for (const row of rows) {
    const last = runs[runs.length - 1];
    if (last === undefined) runs.push({ row, step: 0, count: 1 });
    else if (last.count === 1) {
      last.step = row - last.row;
      last.count = 2;
    } else if (row === last.row + last.step * last.count) last.count++;
    else runs.push({ row, step: 0, count: 1 });
  }
  return runs;
};
