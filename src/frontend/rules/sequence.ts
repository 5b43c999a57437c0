/**
 * Import rules of sequences whose structure is static: they are lists of values of the importer, and no program has any.
 */

import type { NodeId } from "../../ir/graph.js";
import {
  axisIn,
  concat,
  extent,
  flag,
  has,
  int,
  iota,
  type Made,
  numberOf,
  numbersOf,
  operand,
  rankOf,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalar,
  sequenceAt,
  shapeOf,
  sliceAxis,
} from "../rule.js";

/** Lengths of the parts: given, even with a shorter last one, or 1. */
function partSizes(c: RuleContext, total: number): readonly number[] {
  if (!has(c, 1)) return iota(total).map(() => 1);
  if (rankOf(c, operand(c, 1)) > 0) return numbersOf(c, operand(c, 1), "split");
  const size = numberOf(c, operand(c, 1), "split");
  if (!(size > 0)) reject(c, "LPU1008", `expected parts of at least 1, got ${size}`);
  return iota(Math.ceil(total / size)).map((part) => Math.min(size, total - part * size));
}

function splitToSequence(c: RuleContext): Made {
  const x = operand(c, 0);
  const axis = axisIn(c, int(c, "axis", 0), rankOf(c, x));
  const total = extent(c, x, axis);
  const sizes = partSizes(c, total);
  if (sizes.reduce((sum, size) => sum + size, 0) !== total)
    reject(c, "LPU1012", `expected parts that add up to ${total}, got [${sizes.join(",")}]`);
  const keeps = flag(c, "keepdims", true) || has(c, 1);
  let start = 0;
  const items = sizes.map((size) => {
    const part = sliceAxis(c, x, axis, start, size);
    start += size;
    const without = shapeOf(c, part).filter((_, i) => i !== axis);
    return keeps ? part : reshape(c, part, without);
  });
  return { items };
}

/** A place in a sequence; one below 0 counts from the end. `room` is how many places there are. */
function placeIn(c: RuleContext, index: number, room: number, otherwise: number): number {
  if (!has(c, index)) return otherwise;
  const given = numberOf(c, operand(c, index), "position");
  const place = given < 0 ? given + room : given;
  if (!(place >= 0 && place < room))
    reject(c, "LPU1012", `expected a position from ${-room} to ${room - 1}, got ${given}`);
  return place;
}

const at = (c: RuleContext): NodeId => {
  const items = sequenceAt(c, 0);
  return items[placeIn(c, 1, items.length, 0)] ?? reject(c, "LPU1012", "expected a sequence that is not empty");
};

function insert(c: RuleContext): Made {
  const items = sequenceAt(c, 0);
  const given = operand(c, 1);
  const place = has(c, 2) ? insertionPlace(c, items.length) : items.length;
  return { items: [...items.slice(0, place), given, ...items.slice(place)] };
}

function insertionPlace(c: RuleContext, count: number): number {
  const given = numberOf(c, operand(c, 2), "position");
  const place = given < 0 ? given + count : given;
  if (!(place >= 0 && place <= count))
    reject(c, "LPU1012", `expected a position from ${-count} to ${count}, got ${given}`);
  return place;
}

function erase(c: RuleContext): Made {
  const items = sequenceAt(c, 0);
  const place = placeIn(c, 1, items.length, items.length - 1);
  return { items: items.filter((_, i) => i !== place) };
}

function concatFromSequence(c: RuleContext): NodeId {
  const items = sequenceAt(c, 0);
  const [first] = items;
  if (first === undefined) return reject(c, "LPU1012", "expected a sequence that is not empty");
  const isNew = flag(c, "new_axis");
  const axis = axisIn(c, int(c, "axis"), rankOf(c, first) + (isNew ? 1 : 0));
  const shape = shapeOf(c, first);
  const withAxis = [...shape.slice(0, axis), 1, ...shape.slice(axis)];
  return concat(c, isNew ? items.map((item) => reshape(c, item, withAxis)) : items, axis);
}

const STATIC = "a list of values of the importer";

export const SEQUENCE: readonly Rule[] = [
  { op: "SplitToSequence", doc: `One slice for each part, as ${STATIC}.`, build: splitToSequence },
  {
    op: "SequenceConstruct",
    doc: `Its operands, as ${STATIC}.`,
    build: (c): Made => ({ items: c.operands.map((_, i) => operand(c, i)) }),
  },
  {
    op: "SequenceEmpty",
    doc: `Nothing, as ${STATIC}.`,
    ignores: { dtype: "there are no elements" },
    build: (): Made => ({ items: [] }),
  },
  { op: "SequenceAt", doc: "The value at a constant position.", sequences: true, build: at },
  {
    op: "SequenceLength",
    doc: "A constant: sequences are static.",
    sequences: true,
    build: (c) => scalar(c, "i32", sequenceAt(c, 0).length),
  },
  { op: "SequenceInsert", doc: "The list with a value more.", sequences: true, build: insert },
  { op: "SequenceErase", doc: "The list with a value less.", sequences: true, build: erase },
  { op: "ConcatFromSequence", doc: "The operation concat.", sequences: true, build: concatFromSequence },
];
