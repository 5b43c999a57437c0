/**
 * Views: where the elements of a logical tensor lie in a storage, as linear functions.
 *
 * A storage is rows x physical columns (column = panel * lanes + lane). Every logical dim of a view is a list of factors,
 * major first: the index is decomposed in mixed radix by their extents, and each digit moves the row and the column by its
 * strides. Reshape, transpose, slice and expand only rewrite this record: they cost nothing on the machine. A function
 * returns undefined where a view cannot express the result; the caller then materialises the tensor in a new layout.
 */

import { at } from "../../../diagnostics.js";
import type { Shape } from "../../../ir/graph.js";

/** A digit of an index: its values, and how far each step of it leads along rows and columns. */
export interface Factor {
  readonly extent: number;
  readonly row: number;
  readonly column: number;
}

/** The factors of every logical dim, major first, and the row and column of element 0. */
export interface View {
  readonly dims: readonly (readonly Factor[])[];
  readonly row: number;
  readonly column: number;
}

/** Where the elements of a shape lie, or are to lie; what has a storage besides is a Located (operand.ts). */
export interface Layout {
  readonly view: View;
  readonly shape: Shape;
}

export const shapeOf = (view: View): number[] => view.dims.map((factors) => factors.reduce((n, f) => n * f.extent, 1));

/** Merges neighbours that step as one, drops extents of 1. */
export const normalize = (factors: readonly Factor[]): Factor[] => {
  const merged: Factor[] = [];
  for (const f of factors) {
    if (f.extent === 1) continue;
    const last = merged[merged.length - 1];
    if (last !== undefined && last.row === f.row * f.extent && last.column === f.column * f.extent)
      merged[merged.length - 1] = { extent: last.extent * f.extent, row: f.row, column: f.column };
    else merged.push(f);
  }
  return merged;
};

/** Splits factor lists at the boundaries that the new shape asks for. */
export const reshapeView = (view: View, shape: Shape): View | undefined => {
  const queue = normalize(view.dims.flat());
  const dims: Factor[][] = [];
  let next = 0;
  let current: Factor | undefined;
  const pull = (): Factor | undefined => {
    const f = current ?? queue[next++];
    current = undefined;
    return f;
  };
  for (const extent of shape) {
    const taken: Factor[] = [];
    let left = extent;
    while (left > 1) {
      const f = pull();
      if (f === undefined) return undefined;
      if (left % f.extent === 0) {
        taken.push(f);
        left /= f.extent;
      } else if (f.extent % left === 0) {
        const inner = f.extent / left;
        taken.push({ extent: left, row: f.row * inner, column: f.column * inner });
        current = { extent: inner, row: f.row, column: f.column };
        left = 1;
      } else return undefined;
    }
    dims.push(taken);
  }
  return current === undefined && next === queue.length ? { ...view, dims } : undefined;
};

export const transposeView = (view: View, perm: readonly number[]): View => ({
  ...view,
  dims: perm.map((axis) => at(view.dims, axis, "dim")),
});

export const sliceView = (
  view: View,
  starts: readonly number[],
  sizes: readonly number[],
  strides: readonly number[],
): View | undefined => {
  let { row, column } = view;
  const dims: Factor[][] = [];
  for (const [axis, factors] of view.dims.entries()) {
    const start = at(starts, axis, "start");
    const size = at(sizes, axis, "size");
    const stride = at(strides, axis, "stride");
    const flat = normalize(factors);
    const extent = flat.reduce((n, f) => n * f.extent, 1);
    if (start === 0 && size === extent && stride === 1) dims.push(flat);
    else if (size === 1 || flat.length <= 1) {
      let rest = start;
      for (const f of [...flat].reverse()) {
        row += (rest % f.extent) * f.row;
        column += (rest % f.extent) * f.column;
        rest = Math.floor(rest / f.extent);
      }
      const f = flat[0];
      dims.push(
        size === 1 || f === undefined ? [] : [{ extent: size, row: f.row * stride, column: f.column * stride }],
      );
    } else {
      // Whole steps of the outer factor.
      const [outer, ...inner] = flat as [Factor, ...Factor[]];
      const unit = inner.reduce((n, f) => n * f.extent, 1);
      if (stride !== 1 || start % unit !== 0 || size % unit !== 0) return undefined;
      row += (start / unit) * outer.row;
      column += (start / unit) * outer.column;
      dims.push([{ ...outer, extent: size / unit }, ...inner]);
    }
  }
  return { dims, row, column };
};

/** Right-aligned broadcast of a view to a shape: new and unit dims repeat without moving. */
export const expandView = (view: View, shape: Shape): View => {
  const missing = shape.length - view.dims.length;
  return {
    ...view,
    dims: shape.map((extent, axis) => {
      const factors = normalize(view.dims[axis - missing] ?? []);
      return factors.length === 0 && extent > 1 ? [{ extent, row: 0, column: 0 }] : factors;
    }),
  };
};

/** The part of a broadcast layout that belongs to an operand of a smaller shape. */
export const restrictTo = (full: Layout, shape: Shape): View => {
  const missing = full.shape.length - shape.length;
  return {
    ...full.view,
    dims: shape.map((extent, axis) => (extent === 1 ? [] : at(full.view.dims, axis + missing, "dim"))),
  };
};

/** Cuts two factor lists of the same total extent at common boundaries, pairwise. */
export const align = (
  a: readonly Factor[],
  b: readonly Factor[],
): readonly (readonly [Factor, Factor])[] | undefined => {
  const pairs: [Factor, Factor][] = [];
  const left = a.filter((f) => f.extent > 1).reverse();
  const right = b.filter((f) => f.extent > 1).reverse();
  while (left.length > 0 && right.length > 0) {
    const f = left.shift() as Factor;
    const g = right.shift() as Factor;
    const extent = Math.min(f.extent, g.extent);
    if (f.extent % extent !== 0 || g.extent % extent !== 0) return undefined;
    pairs.unshift([
      { ...f, extent },
      { ...g, extent },
    ]);
    if (f.extent > extent) left.unshift({ extent: f.extent / extent, row: f.row * extent, column: f.column * extent });
    if (g.extent > extent) right.unshift({ extent: g.extent / extent, row: g.row * extent, column: g.column * extent });
  }
  return left.length === 0 && right.length === 0 ? pairs : undefined;
};

/** Row-major view with the last dim on columns and all others on rows, columns at `lane stride 1`. */
export const naturalView = (shape: Shape): View => {
  let row = 1;
  const dims: Factor[][] = shape.map(() => []);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    const extent = at(shape, axis, "extent");
    dims[axis] = extent > 1 ? [{ extent, row, column: 0 }] : [];
    row *= extent;
  }
  const last = shape[shape.length - 1];
  if (last !== undefined && last > 1) dims[shape.length - 1] = [{ extent: last, row: 0, column: 1 }];
  return { dims, row: 0, column: 0 };
};

export const naturalLayout = (shape: Shape): Layout => ({ view: naturalView(shape), shape });

/** Element numbers of a row-major tensor, in the `row` field. */
export const elementView = (shape: Shape): View => {
  let stride = 1;
  const dims: Factor[][] = shape.map(() => []);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = at(shape, axis, "extent");
    dims[axis] = extent > 1 ? [{ extent, row: stride, column: 0 }] : [];
    stride *= extent;
  }
  return { dims, row: 0, column: 0 };
};

/** Elements `from` .. `from + count - 1` of an axis; undefined where they begin or end within a digit. */
export const partOf = ({ view, shape }: Layout, axis: number, from: number, count: number): Layout | undefined => {
  const starts = shape.map((_, other) => (other === axis ? from : 0));
  const own = shape.map((extent, other) => (other === axis ? count : extent));
  const steps = shape.map(() => 1);
  const part = sliceView(view, starts, own, steps);
  return part && { view: part, shape: own };
};

/** How far an index (row-major over `shape`) moves the row or the column, by the factors of some dims. */
export const offsetAt = (dims: View["dims"], shape: Shape, index: number, along: "row" | "column"): number => {
  let rest = index;
  let offset = 0;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    const extent = at(shape, axis, "extent");
    let digits = rest % extent;
    rest = Math.floor(rest / extent);
    for (const f of [...at(dims, axis, "dim")].reverse()) {
      offset += (digits % f.extent) * f[along];
      digits = Math.floor(digits / f.extent);
    }
  }
  return offset;
};

/** The column of every index of some factors, the first outermost, counted from `first`. */
export const columnsFrom = (factors: readonly Factor[], first: number): number[] =>
  offsetsOf(factors, "column").map((column) => first + column);

/** How far every index of some factors, the first outermost, lies from their beginning. */
export const offsetsOf = (factors: readonly Factor[], along: "row" | "column"): number[] => {
  let offsets = [0];
  for (const factor of factors) {
    const outer = offsets;
    offsets = [];
    for (const from of outer) for (let i = 0; i < factor.extent; i++) offsets.push(from + i * factor[along]);
  }
  return offsets;
};

/** One past the largest row and column that the view touches. */
export const extents = (view: View): { rows: number; columns: number } => {
  let rows = view.row + 1;
  let columns = view.column + 1;
  for (const f of view.dims.flat()) {
    rows += (f.extent - 1) * f.row;
    columns += (f.extent - 1) * f.column;
  }
  return { rows, columns };
};
