/**
 * Small constants: those of which fp16 would keep little, since nearly all of their numbers lie below its normal ones.
 *
 * What products multiply is kept times a power of two, which the sums are divided by in fp32, exactly; what ALUs take is kept in
 * fp32; and so are results, which are as small. Of a large constant some numbers are looked at, and all only where these are small.
 */

import { type Graph, type Literal, type NodeId, type Tensor, elementCount } from "../../ir/graph.js";
import { deriveLiteral, isFilled, isLaneMap } from "../../ir/literals.js";
import { roundToF16 } from "../../ir/numerics.js";
import { literalIn } from "../../ir/ops/attributes.js";
import { isFloat, makeTensor, toFloats } from "../../ir/tensor.js";

/** The least normal number of fp16. */
export const LEAST_NORMAL = 2 ** -14;
/** What rounding may lose of a constant, relative L2: twice of what it loses of one whose numbers are all normal, at the most. */
const MOST_LOST = 2 ** -10;

/** By node of a small constant: the power of two that brings its greatest number to between 1 and 2. */
export const smallConstants = (graph: Graph): ReadonlyMap<NodeId, number> => {
  const found = new Map<NodeId, number>();
  for (const node of graph.nodes) {
    const literal = literalIn(node);
    const scale = literal === undefined || !isFloat(literal.dtype) ? undefined : scaleOf(literal);
    if (scale !== undefined) found.set(node.id, scale);
  }
  return found;
};

const scaleOf = (literal: Literal): number | undefined => {
  // FP8 has scales of its own, and fp16 is as it is.
  if (literal.dtype !== "f32" && literal.dtype !== "bf16") return undefined;
  if (isLaneMap(literal) || isFilled(literal) || elementCount(literal.shape) < 2) return undefined;
  if (literal.few !== undefined && !isSmall(literal.few())) return undefined;
  const all = literal.load();
  return isSmall(all) ? 2 ** -Math.floor(Math.log2(greatestOf(all))) : undefined;
};

/** Whether rounding to fp16 loses more of numbers than of normal ones; of zeros it loses nothing, nor of infinities. */
const isSmall = (tensor: Tensor): boolean => {
  const values = toFloats(tensor);
  let [normal, below] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (Math.abs(value) >= LEAST_NORMAL) normal++;
    else if (value !== 0) below++;
  }
  // As many normal numbers outweigh what is lost of the others.
  if (below <= normal) return false;
  let [lost, all] = [0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    lost += (value - roundToF16(value)) ** 2;
    all += value ** 2;
  }
  return lost > MOST_LOST ** 2 * all;
};

const greatestOf = (tensor: Tensor): number =>
  toFloats(tensor).reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);

/** A constant times a power of two, exactly as fp32. */
export const timesPower = (literal: Literal, power: number): Literal => {
  const { shape } = literal;
  return deriveLiteral([literal], `times ${power}`, { dtype: "f32", shape }, () =>
    makeTensor(
      "f32",
      shape,
      toFloats(literal.load()).map((value) => value * power),
    ),
  );
};
