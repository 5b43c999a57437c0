/**
 * Integers beyond 32 bits, which exporters write as "to the end" and as fillers of masks: constants, and what is made of them
 * by moving and choosing.
 *
 * The IR has no such integers. A wide value is what stands for them where it is exact: its elements held to the limits of
 * int32, and where they had to be held. Each row of an operator says by `wide` what it can make of that; an operator without
 * it refuses the value by name. Compared with integers of 32 bits, clamped, or cast to floats, the values are exact.
 */

import { at, type CompileError, sure } from "../diagnostics.js";
import { constantValue, type Made, type RuleContext, type UseWide, type Wide, type WideUse } from "./rule.js";
import { DTYPES } from "../ir/dtype.js";
import { elementCount, type NodeId } from "../ir/graph.js";
import type { Appender } from "./builder.js";

const PARTS = ["held", "above", "below", "number"] as const;
type Part = (typeof PARTS)[number];
const { lo: LEAST, hi: MOST } = DTYPES.i32;

/** The wide value of pairs of 32-bit words, low first. */
export function wideOf(
  graph: Appender,
  shape: readonly number[],
  words: Int32Array,
  unsigned: boolean,
  problem: CompileError,
): Wide {
  const pairs = new DataView(words.buffer, words.byteOffset, words.byteLength);
  const values = Array.from({ length: elementCount(shape) }, (_, i) =>
    unsigned ? pairs.getBigUint64(8 * i, true) : pairs.getBigInt64(8 * i, true),
  ).map(Number);
  const part = (of: (value: number) => number): number[] => values.map(of);
  return {
    held: graph.numbers(
      "i32",
      shape,
      part((value) => Math.min(Math.max(value, LEAST), MOST)),
    ),
    above: graph.numbers(
      "bool",
      shape,
      part((value) => (value > MOST ? 1 : 0)),
    ),
    below: graph.numbers(
      "bool",
      shape,
      part((value) => (value < LEAST ? 1 : 0)),
    ),
    number: graph.numbers("f32", shape, values),
    problem,
  };
}

const isNowhere = (use: WideUse, mask: NodeId): boolean =>
  constantValue(use.context, mask)?.data.every((value) => value === 0) ?? false;

/** What stands for an operand in one part of the result. */
function partOf({ context: { graph }, operands, wide }: WideUse, index: number, part: Part): NodeId | undefined {
  const [own, id] = [wide[index], operands[index]];
  if (own !== undefined) return own[part];
  if (id === undefined || part === "held") return id;
  return part === "number"
    ? graph.add("cast", [id], { to: "f32" })
    : graph.add("expand", [graph.numbers("bool", [], [0])], { shape: graph.type(id).shape });
}

/** The operands by number, or all of them, are moved: so each part of the result is made of the parts of the operands. */
export const moves =
  (...data: readonly number[]): UseWide =>
  (use) => {
    const { operands, wide, build } = use;
    const isData = (index: number): boolean => data.length === 0 || data.includes(index);
    const problem = wide.find((value, index) => value !== undefined && isData(index))?.problem;
    if (problem === undefined || wide.some((value, index) => value !== undefined && !isData(index))) return undefined;
    const results = PARTS.map((part) =>
      build(operands.map((id, index) => (isData(index) ? partOf(use, index, part) : id))),
    );
    return at(results, 0, "result").map((_, index): Made => {
      const [held, above, below, number] = results.map((made) => made[index]);
      if (typeof held !== "number" || typeof above !== "number" || typeof below !== "number")
        return sure(held, "result");
      if (typeof number !== "number" || (isNowhere(use, above) && isNowhere(use, below))) return held;
      return { held, above, below, number, problem };
    });
  };

/** The operands by number are bounds that the operator clamps to what there is. */
export const clamps =
  (...bounds: readonly number[]): UseWide =>
  (use) =>
    use.wide.some((value, index) => value !== undefined && !bounds.includes(index))
      ? undefined
      : use.build(use.operands);

/** The first of two uses that is exact. */
export const either =
  (...uses: readonly UseWide[]): UseWide =>
  (use) => {
    for (const attempt of uses) {
      const made = attempt(use);
      if (made !== undefined) return made;
    }
    return undefined;
  };

/** Of min, what is above bounds nothing; of max, what is below. There is an operand that is not wide. */
export const bounds =
  (which: "min" | "max"): UseWide =>
  (use) =>
    use.wide.some((value) => value === undefined) &&
    use.wide.every((value) => value === undefined || holds(use, value, which))
      ? use.build(use.operands)
      : undefined;

const holds = (use: WideUse, value: Wide, which: "min" | "max"): boolean =>
  isNowhere(use, which === "min" ? value.below : value.above);

/** Lower bound, then upper bound. */
export const clips: UseWide = (use) => {
  const [x, low, high] = use.wide;
  const fits = (low === undefined || holds(use, low, "max")) && (high === undefined || holds(use, high, "min"));
  return x === undefined && fits ? use.build(use.operands) : undefined;
};

/**
 * A comparison with integers of 32 bits. `greater` is the truth where the left is the greater for being wide; of the other
 * order it is the opposite, or for an equality (`false`) the same.
 */
export const compares =
  (greater: boolean, otherwise: boolean): UseWide =>
  (use) => {
    const [left, right] = use.wide;
    const wide = left ?? right;
    const [made] = use.build(use.operands);
    if (wide === undefined || typeof made !== "number" || (left !== undefined && right !== undefined)) return undefined;
    const { graph } = use.context;
    const truth = (value: boolean): NodeId => graph.numbers("bool", [], [value ? 1 : 0]);
    const [above, below] = left === undefined ? [otherwise, greater] : [greater, otherwise];
    const overAbove = graph.add("select", [wide.above, truth(above), made]);
    return [graph.add("select", [wide.below, truth(below), overAbove])];
  };

/** What a node casts to. */
export interface CastType {
  readonly kind: "float" | "int" | "bool";
  readonly is64: boolean;
}

/** To floats from the exact numbers, to truth values from any; 64-bit integers stay what they are. */
export const casts =
  (typeOf: (context: RuleContext) => CastType): UseWide =>
  (use) => {
    const { kind, is64 } = typeOf(use.context);
    const [x] = use.wide;
    if (x === undefined) return undefined;
    if (kind === "int") return is64 ? [x] : undefined;
    return use.build([kind === "float" ? x.number : x.held, ...use.operands.slice(1)]);
  };
