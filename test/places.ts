/** Where elements lie, by plain index arithmetic: the definition that views and layouts are tested against. */

import type { Factor, View } from "../src/passes/select/layout/view.js";

export interface Place {
  readonly row: number;
  readonly column: number;
}

/** An index within one dim, as digits in mixed radix, major first. */
export function digitsOf(factors: readonly Factor[], index: number): Place {
  let [row, column, rest] = [0, 0, index];
  for (const factor of [...factors].reverse()) {
    row += (rest % factor.extent) * factor.row;
    column += (rest % factor.extent) * factor.column;
    rest = Math.floor(rest / factor.extent);
  }
  return { row, column };
}

export function placeOf(view: View, index: readonly number[]): Place {
  let { row, column } = view;
  for (const [axis, factors] of view.dims.entries()) {
    const moved = digitsOf(factors, index[axis] ?? 0);
    row += moved.row;
    column += moved.column;
  }
  return { row, column };
}

/** All indices of a shape in row-major order. */
export function allIndices(shape: readonly number[]): number[][] {
  let indices: number[][] = [[]];
  for (const extent of shape)
    indices = indices.flatMap((index) => Array.from({ length: extent }, (_, at) => [...index, at]));
  return indices;
}
