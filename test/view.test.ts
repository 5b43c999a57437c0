/** Views: every rewriting of a view gives each element the place that index arithmetic says. */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  align,
  expandView,
  extents,
  type Factor,
  naturalView,
  normalize,
  reshapeView,
  shapeOf,
  sliceView,
  transposeView,
  type View,
} from "../src/passes/select/layout/view.js";
import { allIndices, digitsOf, placeOf } from "./places.js";

const extent = fc.integer({ min: 1, max: 4 });
const shape = fc.array(extent, { minLength: 1, maxLength: 4 });
const stride = fc.integer({ min: 0, max: 30 });

/** A dim as one to three factors, none of which need be related. */
const dim = fc.array(fc.record({ extent, row: stride, column: stride }), { minLength: 0, maxLength: 2 });
const view: fc.Arbitrary<View> = fc.record({
  dims: fc.array(dim, { minLength: 1, maxLength: 4 }),
  row: stride,
  column: stride,
});

const places = (v: View): string[] => allIndices(shapeOf(v)).map((index) => JSON.stringify(placeOf(v, index)));

describe("views", () => {
  test("a natural view is row-major, with the last dim on columns", () => {
    fc.assert(
      fc.property(shape, (dims) => {
        const natural = naturalView(dims);
        let row = 0;
        for (const index of allIndices(dims)) {
          const last = index.at(-1) ?? 0;
          expect(placeOf(natural, index)).toEqual({ row: Math.floor(row / (dims.at(-1) ?? 1)), column: last });
          row++;
        }
      }),
    );
  });

  test("normalizing a dim moves nothing", () => {
    fc.assert(
      fc.property(view, (v) => {
        const merged: View = { ...v, dims: v.dims.map((factors) => normalize(factors)) };
        expect(places(merged)).toEqual(places(v));
        for (const factors of merged.dims) {
          expect(factors.every((f) => f.extent > 1)).toBe(true);
          expect(normalize(factors)).toEqual(factors);
        }
      }),
    );
  });

  test("reshaping keeps the elements in row-major order", () => {
    fc.assert(
      fc.property(view, fc.nat(), (v, seed) => {
        const reshaped = reshapeView(v, regrouped(shapeOf(v), seed));
        fc.pre(reshaped !== undefined);
        expect(shapeOf(reshaped)).toEqual(regrouped(shapeOf(v), seed));
        expect(places(reshaped)).toEqual(places(v));
      }),
    );
  });

  test("a natural view can be split along any dim, and joined along rows", () => {
    expect(reshapeView(naturalView([6, 8]), [2, 3, 2, 4])).toBeDefined();
    expect(reshapeView(naturalView([2, 3, 8]), [6, 8])?.dims).toEqual(naturalView([6, 8]).dims);
    expect(reshapeView(naturalView([6, 8]), [4, 12])).toBeUndefined();
  });

  test("transposing permutes the index", () => {
    fc.assert(
      fc.property(view, fc.nat(), (v, seed) => {
        const perm = permutation(v.dims.length, seed);
        const turned = transposeView(v, perm);
        for (const index of allIndices(shapeOf(turned))) {
          const source = perm.map(() => 0);
          for (const [at, axis] of perm.entries()) source[axis] = index[at] ?? 0;
          expect(placeOf(turned, index)).toEqual(placeOf(v, source));
        }
      }),
    );
  });

  test("slicing starts, strides and may run backwards", () => {
    fc.assert(
      fc.property(view, fc.array(fc.nat(), { minLength: 12, maxLength: 12 }), (v, numbers) => {
        const slices = shapeOf(v).map((size, axis) => sliceOf(size, numbers.slice(3 * axis, 3 * axis + 3)));
        const [starts, sizes, strides] = (["start", "size", "stride"] as const).map((name) =>
          slices.map((s) => s[name]),
        );
        const sliced = sliceView(v, starts ?? [], sizes ?? [], strides ?? []);
        fc.pre(sliced !== undefined);
        expect(shapeOf(sliced)).toEqual(sizes);
        for (const index of allIndices(sizes ?? [])) {
          const source = index.map((at, axis) => (starts?.[axis] ?? 0) + at * (strides?.[axis] ?? 1));
          expect(placeOf(sliced, index)).toEqual(placeOf(v, source));
        }
      }),
    );
  });

  test("expanding repeats unit and new dims", () => {
    fc.assert(
      fc.property(view, fc.array(extent, { maxLength: 2 }), fc.nat(), (v, lead, seed) => {
        const own = shapeOf(v);
        const wide = [...lead, ...own.map((size, axis) => (size === 1 ? 1 + ((seed >> axis) % 3) : size))];
        fc.pre(wide.reduce((count, size) => count * size, 1) <= 500);
        const expanded = expandView(v, wide);
        expect(shapeOf(expanded)).toEqual(wide);
        for (const index of allIndices(wide)) {
          const source = own.map((size, axis) => (size === 1 ? 0 : (index[axis + lead.length] ?? 0)));
          expect(placeOf(expanded, index)).toEqual(placeOf(v, source));
        }
      }),
    );
  });

  test("aligning two dims cuts both into the same digits", () => {
    fc.assert(
      fc.property(dim, fc.nat(), (factors, seed) => {
        const total = factors.reduce((n, f) => n * f.extent, 1);
        const other = splitOf(total, seed);
        const pairs = align(factors, other);
        fc.pre(pairs !== undefined);
        const [left, right] = [pairs.map(([f]) => f), pairs.map(([, g]) => g)];
        expect(left.map((f) => f.extent)).toEqual(right.map((g) => g.extent));
        for (let index = 0; index < total; index++) {
          expect(digitsOf(left, index)).toEqual(digitsOf(factors, index));
          expect(digitsOf(right, index)).toEqual(digitsOf(other, index));
        }
      }),
    );
  });

  test("extents hold every place, and no less", () => {
    fc.assert(
      fc.property(view, (v) => {
        const all = allIndices(shapeOf(v)).map((index) => placeOf(v, index));
        const { rows, columns } = extents(v);
        expect(rows).toBe(Math.max(...all.map((place) => place.row)) + 1);
        expect(columns).toBe(Math.max(...all.map((place) => place.column)) + 1);
      }),
    );
  });
});

/** The same number of elements in other dims: two neighbours joined, or one dim split. */
function regrouped(dims: readonly number[], seed: number): number[] {
  const axis = seed % dims.length;
  const own = dims[axis] ?? 1;
  if (seed % 3 === 0 && axis + 1 < dims.length)
    return [...dims.slice(0, axis), own * (dims[axis + 1] ?? 1), ...dims.slice(axis + 2)];
  const split = own % 2 === 0 ? [own / 2, 2] : [1, own];
  return [...dims.slice(0, axis), ...split, ...dims.slice(axis + 1)];
}

function permutation(rank: number, seed: number): number[] {
  const left = Array.from({ length: rank }, (_, axis) => axis);
  return Array.from({ length: rank }, (_, at) => left.splice((seed >> at) % left.length, 1)[0] ?? 0);
}

function sliceOf(
  size: number,
  [a = 0, b = 0, c = 0]: readonly number[],
): { start: number; size: number; stride: number } {
  if (c % 3 === 0) return { start: 0, size, stride: 1 };
  const start = a % size;
  const backwards = c % 3 === 1;
  const room = backwards ? start + 1 : size - start;
  const steps = 1 + (b % room);
  return { start, size: Math.ceil(room / steps), stride: backwards ? -steps : steps };
}

/** A dim of so many elements as factors of two and the rest. */
function splitOf(total: number, seed: number): Factor[] {
  const factors: Factor[] = [];
  let left = total;
  for (let at = 0; left > 1; at++) {
    const own = left % 2 === 0 && (seed >> at) % 2 === 0 ? 2 : left;
    factors.push({ extent: own, row: (seed + at) % 7, column: (seed * 3 + at) % 5 });
    left /= own;
  }
  return factors;
}
