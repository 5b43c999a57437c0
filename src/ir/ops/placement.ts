/**
 * Placements of tensors on a group of chips, and for each operation which placement of its result follows from which of its
 * operands: one row each. An operation without a row is done by every chip, on whole tensors.
 *
 * A tensor is whole on every chip, or split: piece i of equal consecutive pieces along an axis is on chip i, or partial: what
 * the chips have is still to be added up. With operands placed as a way says, every chip does the operation on what it has,
 * without the others. What is written here is what each operation means, and nothing of what it is used for.
 */

import { at } from "../../diagnostics.js";
import type { Attrs, Shape, TensorType } from "../graph.js";
import { isElementwise } from "../ops.js";
import { isFloat } from "../tensor.js";
import { intsAttr, numberAttr } from "./attributes.js";

/** Whole, a sum that is still to be made, or the axis along which it is split. */
export type Placement = "whole" | "partial" | number;

/** One way to do an operation: where its operands lie, where its result does then, and attributes that are others on a chip. */
export interface Way {
  readonly operands: readonly Placement[];
  readonly result: Placement;
  readonly attrs?: Attrs;
}

/** An operation on whole tensors. */
export interface Operation {
  readonly op: string;
  readonly operands: readonly TensorType[];
  readonly attrs: Attrs;
  readonly type: TensorType;
}

type Ways = (operation: Operation) => readonly Way[];

/** All ways to do an operation on a group, that of whole tensors first; pieces are equal. */
export const waysOf = (operation: Operation, chips: number): readonly Way[] => {
  const { op, operands, type } = operation;
  const whole: Way = { operands: operands.map(() => "whole" as const), result: "whole" };
  const rule = WAYS[op] ?? (isElementwise(op) ? byPlace : undefined);
  const fits = ({ shape }: TensorType, placement: Placement): boolean =>
    typeof placement === "string" || divides(chips, shape[placement]);
  const ways = (rule?.(operation) ?? []).filter(
    (way) =>
      fits(type, way.result) && operands.every((operand, place) => fits(operand, at(way.operands, place, "placement"))),
  );
  return [whole, ...ways.map((way) => localized(operation, way, chips))];
};

/** Whether an axis may be cut in so many pieces. */
export const divides = (chips: number, extent: number | undefined): boolean =>
  extent !== undefined && extent > 0 && extent % chips === 0;

/** Shape of what one chip has. */
export const localShape = (shape: Shape, placement: Placement, chips: number): Shape =>
  shape.map((extent, axis) => (axis === placement ? extent / chips : extent));

/** Attributes that are the shape of the result, or as long as it along each axis. */
const SHAPE_ATTRS: readonly string[] = ["shape", "sizes"];

/** The way, with the shapes among the attributes as they are on a chip. */
const localized = ({ attrs, type }: Operation, way: Way, chips: number): Way => {
  const names = typeof way.result === "number" ? SHAPE_ATTRS.filter((name) => Object.hasOwn(attrs, name)) : [];
  if (names.length === 0) return way;
  const shape = localShape(type.shape, way.result, chips);
  return { ...way, attrs: { ...attrs, ...Object.fromEntries(names.map((name) => [name, shape])) } };
};

const axesOf = ({ shape }: TensorType): readonly number[] => shape.map((_, axis) => axis);

/* ---------- place by place ---------- */

/** Operands are cut where the result is, but for those that repeat along the axis. */
const byPlace: Ways = (operation) => [
  ...axesOf(operation.type).map((axis) => ({
    operands: operation.operands.map((operand) => cutAlong(operand, operation.type, axis)),
    result: axis,
  })),
  ...(LINEAR[operation.op]?.(operation) ?? []).map((operands) => ({ operands, result: "partial" as const })),
];

/** Where an operand lies that broadcasts to a result which is split along an axis. */
const cutAlong = ({ shape }: TensorType, type: TensorType, axis: number): Placement => {
  const own = axis - (type.shape.length - shape.length);
  return own < 0 || shape[own] === 1 ? "whole" : own;
};

type Terms = (operation: Operation) => readonly (readonly Placement[])[];
const always =
  (...terms: readonly (readonly Placement[])[]): Terms =>
  () =>
    terms;

/** Elementwise operations that may be done before a sum as well as after it: which operands are sums then. */
const LINEAR: Readonly<Record<string, Terms>> = {
  neg: always(["partial"]),
  add: always(["partial", "partial"]),
  sub: always(["partial", "partial"]),
  mul: always(["partial", "whole"], ["whole", "partial"]),
  // A quotient of integers is rounded.
  div: ({ type }) => (isFloat(type.dtype) ? [["partial", "whole"]] : []),
  select: always(["whole", "partial", "partial"]),
  cast: ({ operands, type }) =>
    operands.every(({ dtype }) => isFloat(dtype)) && isFloat(type.dtype) ? [["partial"]] : [],
};

/* ---------- products and sums ---------- */

const product: Ways = ({ operands: [a, b], type }) => {
  if (a === undefined || b === undefined) return [];
  const rank = type.shape.length;
  const [ofA, ofB] = [a.shape.length - 2, b.shape.length - 2];
  const batches = axesOf(type).slice(0, rank - 2);
  return [
    ...batches.map((axis) => ({
      operands: [cutAlong(a, type, axis), cutAlong(b, type, axis)],
      result: axis,
    })),
    { operands: [ofA, "whole"], result: rank - 2 },
    { operands: ["whole", ofB + 1], result: rank - 1 },
    { operands: [ofA + 1, ofB], result: "partial" },
    { operands: ["partial", "whole"], result: "partial" },
    { operands: ["whole", "partial"], result: "partial" },
  ];
};

/** Axes that are kept, where they are in the result. */
const reduction =
  (sums: boolean): Ways =>
  ({ operands: [x], attrs, type }) => {
    if (x === undefined) return [];
    const axes = intsAttr(attrs, "axes");
    const keepsAll = type.shape.length === x.shape.length;
    const after = (axis: number): number => axis - (keepsAll ? 0 : axes.filter((other) => other < axis).length);
    const kept = axesOf(x).filter((axis) => !axes.includes(axis));
    return [
      ...kept.map((axis) => ({ operands: [axis], result: after(axis) })),
      ...(sums ? [...axes.map((axis) => ({ operands: [axis], result: "partial" as const })), PARTIAL] : []),
    ];
  };

/* ---------- movement ---------- */

const PARTIAL: Way = { operands: ["partial"], result: "partial" };

/** Axes that begin at the same place in row-major order: their first pieces are the same elements. */
const reshape: Ways = ({ operands: [x], type }) => {
  if (x === undefined) return [];
  const starts = (shape: Shape): number[] =>
    shape.map((_, axis) => shape.slice(0, axis).reduce((product, extent) => product * extent, 1));
  const after = starts(type.shape);
  const ways = starts(x.shape).flatMap((start, axis): readonly Way[] => {
    if (x.shape[axis] === 1) return [];
    const result = after.findIndex((other, own) => other === start && type.shape[own] !== 1);
    return result < 0 ? [] : [{ operands: [axis], result }];
  });
  return [...ways, PARTIAL];
};

const transpose: Ways = ({ attrs, type }) => {
  const perm = intsAttr(attrs, "perm");
  return [...axesOf(type).map((result) => ({ operands: [at(perm, result, "axis")], result })), PARTIAL];
};

/** Axes that are taken as they are. */
const slice: Ways = ({ operands: [x], attrs, type }) => {
  const strides = intsAttr(attrs, "strides");
  const taken = axesOf(type).filter((axis) => x?.shape[axis] === type.shape[axis] && strides[axis] === 1);
  return [...taken.map((axis) => ({ operands: [axis], result: axis })), PARTIAL];
};

const expand: Ways = ({ operands: [x], type }) =>
  x === undefined
    ? []
    : [...axesOf(type).map((axis) => ({ operands: [cutAlong(x, type, axis)], result: axis })), PARTIAL];

const concat: Ways = ({ operands, attrs, type }) => {
  const others = axesOf(type).filter((axis) => axis !== numberAttr(attrs, "axis"));
  const alike = (placement: Placement): Way => ({ operands: operands.map(() => placement), result: placement });
  return [...others, "partial" as const].map(alike);
};

/** Rows that are looked up: by pieces of the indices, or pieces of each row. */
const gather: Ways = ({ operands: [data, indices], attrs }) => {
  if (data === undefined || indices === undefined) return [];
  const axis = numberAttr(attrs, "axis");
  const others = axesOf(data).filter((other) => other !== axis);
  return [
    ...axesOf(indices).map((own): Way => ({ operands: ["whole", own], result: axis + own })),
    ...others.map(
      (other): Way => ({
        operands: [other, "whole"],
        result: other < axis ? other : other + indices.shape.length - 1,
      }),
    ),
  ];
};

/** Operations that are not elementwise. */
const WAYS: Readonly<Record<string, Ways>> = {
  matmul: product,
  reduce_sum: reduction(true),
  reduce_max: reduction(false),
  reshape,
  transpose,
  slice,
  expand,
  concat,
  gather,
};
