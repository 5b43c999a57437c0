/**
 * What the page shows that does not change while someone looks at it: the columns of its data, sums and greatest values of its
 * curves, and where each row and plot stands. Runs in the browser.
 */

import type { ColumnName, PageData, PageRow } from "./data.js";
import { readColumn, type Row, rowOf } from "./view.js";

/** In pixels: how wide names are; how high the axis, strips of bounds, rows and plots are; and what is between them. */
export const SIZES = { label: 116, axis: 20, strip: 16, line: 10, gap: 6, plot: 70 } as const;

/** Plots below the rows; the last where links are at work. */
export const PLOTS = [
  "power, W (model)",
  "vectors given, a cycle",
  "live SRAM, beside constants",
  "links, vectors a cycle",
] as const;
export const SRAM_PLOT = 2;

export type Contents = ReturnType<typeof contentsOf>;

export function contentsOf(data: PageData) {
  // A column of fractions is read like one of whole numbers.
  const columns = Object.fromEntries(
    Object.entries(data.columns).map(([name, { type, base64 }]) => [name, readColumn(type, base64)]),
  ) as Record<ColumnName, Int32Array>;
  const { cycle, last, given, sent, sramRows, watts, stretchFrom, stretchBound } = columns;
  const lines: readonly Row[] = data.rows.map(({ first, end }) =>
    rowOf(cycle.subarray(first, end), last.subarray(first, end)),
  );
  const bins = given.length;
  const power = sumsOf(watts, data.powerRows.length, bins);
  const most = {
    watts: greatest(power.at(-1) ?? []),
    given: greatest(given),
    live: greatest(sramRows),
    sent: greatest(sent),
  };
  const strips = data.strips.map(({ name, first, end }) => ({
    name,
    from: stretchFrom.subarray(first, end),
    bound: stretchBound.subarray(first, end),
  }));
  const { tops, below } = placesOf(data.rows, SIZES.axis + strips.length * SIZES.strip + SIZES.gap);
  const plots = (most.sent > 0 ? PLOTS : PLOTS.slice(0, -1)).map((title, index) => ({
    title,
    top: below + (index + 1) * SIZES.gap + index * SIZES.plot,
  }));
  const height = below + (plots.length + 1) * SIZES.gap + plots.length * SIZES.plot;
  const starts = Int32Array.from({ length: bins }, (_, bin) => bin * data.grid);
  return { data, columns, lines, bins, starts, power, most, strips, tops, plots, height };
}

/** By row, what all rows up to it come to in each bin. */
export function sumsOf(values: ArrayLike<number>, rows: number, bins: number): readonly Float64Array[] {
  const sums = new Float64Array(bins);
  return Array.from({ length: rows }, (_, row) => {
    for (let bin = 0; bin < bins; bin++) sums[bin] = (sums[bin] as number) + (values[row * bins + bin] as number);
    return sums.slice();
  });
}

export function greatest(values: ArrayLike<number>): number {
  let most = 0;
  for (let at = 0; at < values.length; at++) most = Math.max(most, values[at] as number);
  return most;
}

/** Where each row begins, with a gap between units, and where the last ends. */
export function placesOf(rows: readonly PageRow[], top: number): { readonly tops: number[]; readonly below: number } {
  const tops: number[] = [];
  let below = top;
  for (const [index, row] of rows.entries()) {
    if (index > 0 && rows[index - 1]?.unit !== row.unit) below += SIZES.gap;
    tops.push(below);
    below += SIZES.line;
  }
  return { tops, below };
}

export function topOfBurst(page: Contents, burst: number): number {
  return page.tops[rowOfBurst(page, burst)] ?? 0;
}

export function rowOfBurst({ data }: Contents, burst: number): number {
  return data.rows.findIndex(({ first, end }) => burst >= first && burst < end);
}
