/**
 * Constants made by passes: folded, derived lazily from other constants, single numbers, and lane maps.
 *
 * Small constants are evaluated at once and are named by their contents; big ones keep only how they are made (operation,
 * attributes, keys of the bases), so that a pass never reads the weights of a large model. A lane map is a matrix of 0, 1
 * and -1 with at most a few entries in a column: multiplying by it moves lanes, exactly in any float format.
 */

import { createHash } from "node:crypto";
import { at, invariant } from "../diagnostics.js";
import type { DType } from "./dtype.js";
import { type Attrs, elementCount, type Literal, type Tensor, type TensorType } from "./graph.js";
import { pieceOf } from "./ops/collective.js";
import { localShape } from "./ops/placement.js";
import { evaluateNode, VIEWS } from "./ops.js";
import { attrsKey } from "./rewrite.js";
import { formatType, literalOf, scalarOf, tensorOf } from "./tensor.js";

/** Constants of at most so many elements are folded at once. */
export const EAGER_ELEMENTS = 1 << 16;

/** One entry of a lane map: lane `from` of the operand is added to lane `to` of the result, times `sign`. */
export interface LaneEntry {
  readonly from: number;
  readonly to: number;
  readonly sign: number;
}

/** A constant [lanes in, lanes out] matrix of 0, 1 and -1, with its entries at hand. */
export interface LaneMapLiteral extends Literal {
  readonly laneMap: readonly LaneEntry[];
}

export const isLaneMap = (literal: Literal | undefined): literal is LaneMapLiteral =>
  literal !== undefined && "laneMap" in literal;

/** Whether every lane of the result is one lane of the operand, or its negative, or zero: elements are moved, not summed. */
export const onlyMoves = ({ laneMap }: LaneMapLiteral): boolean =>
  new Set(laneMap.map(({ to }) => to)).size === laneMap.length;

const hash = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);

/** A constant that is computed from other constants when it is needed. */
export function deriveLiteral(bases: readonly Literal[], how: string, type: TensorType, load: () => Tensor): Literal {
  const text = `${how}(${bases.map((base) => `${formatType(base)} ${base.key}`).join(", ")})`;
  const key = text.length <= 120 ? text : `${how.split(" ")[0]}#${hash(text)}`;
  return { dtype: type.dtype, shape: type.shape, key, load };
}

/** Whether the numbers of an operation's result are those of its first operand. */
export const keepsNumbers = (op: string): boolean => VIEWS.includes(op) || op === "cast";

/** A constant whose numbers are those of its base, or much like them. */
export const likeIts = <T extends Literal>({ few }: Literal, derived: T): T =>
  few === undefined ? derived : { ...derived, few };

/** The result of an operation on constants: at once if small, otherwise when it is loaded; on each chip of what it has of them. */
export function foldOp(op: string, attrs: Attrs, bases: readonly Literal[], type: TensorType): Literal {
  const [base] = bases;
  const made = (own: readonly Literal[]): Literal => {
    const derived = deriveLiteral(own, `${op} ${attrsKey(attrs)}`, type, () =>
      evaluateNode(
        op,
        own.map((base) => base.load()),
        attrs,
        type,
      ),
    );
    return base !== undefined && keepsNumbers(op) ? likeIts(base, derived) : derived;
  };
  if (base !== undefined && isFilled(base) && VIEWS.includes(op)) return filledLiteral(type, base.filled);
  const result = made(bases);
  if (bases.some(({ shares }) => shares !== undefined))
    return { ...result, shares: { on: (chip) => made(bases.map((base) => base.shares?.on(chip) ?? base)) } };
  const elements = bases.reduce((sum, base) => sum + elementCount(base.shape), elementCount(type.shape));
  return elements <= EAGER_ELEMENTS ? literalOf(result.load()) : result;
}

export const numberLiteral = (dtype: DType, value: number): Literal => literalOf(scalarOf(dtype, value));
/** A constant of one number, however many elements it has. */
export interface FilledLiteral extends Literal {
  readonly filled: number;
}

export const isFilled = (literal: Literal): literal is FilledLiteral => "filled" in literal;

export const filledLiteral = (type: TensorType, value: number): FilledLiteral => {
  const load = (): Tensor => tensorOf(type.dtype, type.shape, new Float64Array(elementCount(type.shape)).fill(value));
  return { ...deriveLiteral([], `fill ${formatType(type)} ${value}`, type, load), filled: value };
};

export function laneMapLiteral(
  rows: number,
  columns: number,
  entries: readonly LaneEntry[],
  dtype: DType,
): LaneMapLiteral {
  const sums = new Map<number, LaneEntry>();
  for (const { from, to, sign } of entries) {
    const place = from * columns + to;
    sums.set(place, { from, to, sign: sign + (sums.get(place)?.sign ?? 0) });
  }
  const laneMap = [...sums.keys()]
    .sort((a, b) => a - b)
    .flatMap((place) => sums.get(place) ?? [])
    .filter((entry) => entry.sign !== 0);
  const type: TensorType = { dtype, shape: [rows, columns] };
  const load = (): Tensor => {
    const values = new Float32Array(rows * columns);
    for (const { from, to, sign } of laneMap) values[from * columns + to] = sign;
    return tensorOf(dtype, type.shape, values);
  };
  const text = laneMap.map(({ from, to, sign }) => `${from}>${to}${sign === 1 ? "" : `*${sign}`}`).join(" ");
  return {
    dtype,
    shape: type.shape,
    key: `lanes ${formatType(type)} ${text.length <= 80 ? text : `#${hash(text)}`}`,
    load,
    laneMap,
  };
}

/** x @ (A B) == (x @ A) @ B. */
export function composeLaneMaps(a: LaneMapLiteral, b: LaneMapLiteral): LaneMapLiteral {
  const next = new Map<number, LaneEntry[]>();
  for (const entry of b.laneMap) next.set(entry.from, [...(next.get(entry.from) ?? []), entry]);
  const entries = a.laneMap.flatMap(({ from, to, sign }) =>
    (next.get(to) ?? []).map((second) => ({ from, to: second.to, sign: sign * second.sign })),
  );
  return laneMapLiteral(at(a.shape, 0, "extent"), at(b.shape, 1, "extent"), entries, a.dtype);
}

/** x @ (A + B) == x @ A + x @ B. */
export const addLaneMaps = (a: LaneMapLiteral, b: LaneMapLiteral): LaneMapLiteral =>
  laneMapLiteral(at(a.shape, 0, "extent"), at(a.shape, 1, "extent"), [...a.laneMap, ...b.laneMap], a.dtype);

export const negateLaneMap = (a: LaneMapLiteral): LaneMapLiteral =>
  laneMapLiteral(
    at(a.shape, 0, "extent"),
    at(a.shape, 1, "extent"),
    a.laneMap.map((entry) => ({ ...entry, sign: -entry.sign })),
    a.dtype,
  );

/** The piece along an axis that each of so many chips has of a constant. */
export function sharedLiteral(whole: Literal, axis: number, chips: number): Literal {
  const attrs = { axis, chips };
  const type: TensorType = { dtype: whole.dtype, shape: localShape(whole.shape, axis, chips) };
  const on = (chip: number): Literal => {
    const load = (): Tensor => pieceOf(whole.load(), axis, chip, type);
    return deriveLiteral([whole], `piece ${attrsKey(attrs)}`, type, load);
  };
  return { ...on(0), shares: { whole, on } };
}

/** Values of a constant that is small enough to be looked at, on all chips; the same array each time. */
const seen = new WeakMap<Literal, Tensor>();
export function smallValues(literal: Literal): Tensor | undefined {
  if (literal.shares !== undefined) return literal.shares.whole && smallValues(literal.shares.whole);
  if (elementCount(literal.shape) > EAGER_ELEMENTS) return undefined;
  const known = seen.get(literal) ?? literal.load();
  invariant(
    known.data.length === elementCount(literal.shape),
    `constant '${literal.key}' has as many elements as its shape`,
  );
  seen.set(literal, known);
  return known;
}
