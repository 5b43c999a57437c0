/**
 * Constants as operands: which rows and lanes of storages their elements take, as recipes.
 */

import { at, invariant } from "../../diagnostics.js";
import type { Literal, Shape } from "../../ir/graph.js";
import { isFilled, smallValues } from "../../ir/literals.js";
import { roundToF16 } from "../../ir/numerics.js";
import type { SpreadRecipe } from "../../ir/recipe.js";
import type { Target } from "../../ir/target.js";
import { toFloats } from "../../ir/tensor.js";
import type { Located } from "./layout/operand.js";
import type { Factor, View } from "./layout/view.js";

/** The value of a constant of one element, as an ALU's immediate. */
export const immediateOf = (literal: Literal): number => {
  const tensor = literal.load();
  const [value] = literal.dtype === "i32" ? Int32Array.from(tensor.data) : toFloats(tensor);
  invariant(value !== undefined, "a constant of one element has one");
  return value;
};

/** Whether fp16 holds every number of a small constant, so that it lies in half the rows and flies on half the streams. */
export const isOfHalfs = (literal: Literal): boolean => {
  const values = smallValues(literal);
  return values !== undefined && toFloats(values).every((value) => Object.is(roundToF16(value), value));
};

export interface ConstantLayout {
  readonly key: string;
  readonly rows: number;
  readonly panels: number;
  readonly recipe: SpreadRecipe;
  readonly view: View;
  readonly repeated?: Located["repeated"];
}

/**
 * Lays a constant out to be read along with a result of the given space: rows only for the row dims along which it varies;
 * lanes as the space has them, repeated along the lane dims that it broadcasts over. A constant that does not vary along
 * lanes at all fills every lane of one panel.
 */
export const constantContent = (target: Target, literal: Literal, full: View, fullShape: Shape): ConstantLayout => {
  const { lanes } = target;
  const missing = fullShape.length - literal.shape.length;
  const strides = stridesAlong(literal, fullShape);
  const digits = fullShape.flatMap((_, axis) => digitsOf(at(full.dims, axis, "dim"), at(strides, axis, "stride")));
  const varies = digits.some((d) => d.column !== 0 && d.element !== 0);
  let rowStride = 1;
  const rowDigits = digits
    .filter((d) => d.row !== 0 && d.element !== 0)
    .reverse()
    .map((d) => {
      const placed = { ...d, to: rowStride };
      rowStride *= d.extent;
      return placed;
    });
  const rows = rowStride;
  const laneDigits = digits
    .filter((d) => d.column !== 0)
    .map((d) => ({ extent: d.extent, to: d.column, element: d.element }));
  const columns = 1 + (varies ? full.column + laneDigits.reduce((sum, d) => sum + (d.extent - 1) * d.to, 0) : 0);
  const panels = varies ? Math.ceil(columns / lanes) : 1;
  const recipe: SpreadRecipe = {
    kind: "spread",
    literal: literal.key,
    rows: rowDigits.map(({ extent, to, element }) => ({ extent, to, element })),
    ...(varies ? { columns: laneDigits } : {}),
    column: varies ? full.column : 0,
  };
  const place = new Map(rowDigits.map((d) => [d.factor, d.to]));
  const isOwn = (axis: number): boolean => axis >= missing && at(literal.shape, axis - missing, "extent") > 1;
  const dims = fullShape.map((extent, axis): Factor[] =>
    extent > 1 && !isOwn(axis)
      ? []
      : at(full.dims, axis, "dim").map((f) => ({
          extent: f.extent,
          row: place.get(f) ?? 0,
          column: varies ? f.column : 0,
        })),
  );
  const view: View = { dims: dims.slice(Math.max(0, missing)), row: 0, column: varies ? full.column : 0 };
  const silent = laneDigits.filter((d) => d.element === 0 && d.extent > 1);
  const repeated = !varies
    ? ("all" as const)
    : silent.length > 0
      ? silent.map((d) => ({ extent: d.extent, column: d.to }))
      : undefined;
  return {
    key: JSON.stringify([
      rowDigits.map((d) => [d.extent, d.element]),
      varies ? [full.column, laneDigits.map((d) => [d.extent, d.to, d.element])] : "all",
    ]),
    rows,
    panels,
    recipe,
    view,
    ...(repeated === undefined ? {} : { repeated }),
  };
};

/** Element strides of a literal along the dims of a space; 0 where it does not vary. */
const stridesAlong = (literal: Literal, fullShape: Shape): readonly number[] => {
  const missing = fullShape.length - literal.shape.length;
  const strides: number[] = fullShape.map(() => 0);
  let stride = 1;
  for (let axis = literal.shape.length - 1; axis >= 0; axis--) {
    const extent = at(literal.shape, axis, "extent");
    if (extent > 1 && !isFilled(literal)) strides[axis + missing] = stride;
    stride *= extent;
  }
  return strides;
};

/** A factor of the space, with the stride that the literal's elements have along it. */
interface Digit {
  readonly factor: Factor;
  readonly extent: number;
  readonly row: number;
  readonly column: number;
  readonly element: number;
}

const digitsOf = (factors: readonly Factor[], stride: number): Digit[] => {
  const digits: Digit[] = [];
  let element = stride;
  for (const factor of [...factors].reverse()) {
    if (factor.extent > 1)
      digits.unshift({ factor, extent: factor.extent, row: factor.row, column: factor.column, element });
    element *= factor.extent;
  }
  return digits;
};
