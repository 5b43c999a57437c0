/**
 * Infinities and NaNs beside products with 0 and 1: 0 * inf is no number, so a product that picks or adds up elements would
 * lose the neighbours of what is not finite. Where a value may be so, the finite numbers have a product, and what kind of
 * number each of the others is has one of its own.
 */

import { sure } from "../../../diagnostics.js";
import type { NodeId } from "../../../ir/graph.js";
import { isSpecial, rangeIn } from "../../../ir/ranges.js";
import type { Rewriter } from "../rewriter.js";

const INFINITE = Number.POSITIVE_INFINITY;

/** What stands for each kind of number: 0 for finite ones, the sign of an infinity, and this. */
const NAN_KIND = 2;

/** The finite numbers of x, others as 0. */
const finiteOf = (g: Rewriter, x: NodeId): NodeId => {
  const { dtype } = g.type(x);
  return g.emit("select", [isFiniteIn(g, x), x, g.number(0, dtype)]);
};

const isFiniteIn = (g: Rewriter, x: NodeId): NodeId =>
  g.emit("lt", [g.emit("abs", [x]), g.number(INFINITE, g.type(x).dtype)]);

/** `move(x)` for floats, where `move` is linear and gives for each element one of x, or zero. */
export function moved(g: Rewriter, x: NodeId, move: (x: NodeId) => NodeId): NodeId {
  if (!isSpecial(rangeIn(g, x))) return move(x);
  const number = (value: number): NodeId => g.number(value, g.type(x).dtype);
  const is = (value: NodeId, other: number): NodeId => g.emit("eq", [value, number(other)]);
  const sign = g.emit("select", [
    is(x, INFINITE),
    number(1),
    g.emit("select", [is(x, -INFINITE), number(-1), number(NAN_KIND)]),
  ]);
  const kind = move(g.emit("select", [isFiniteIn(g, x), number(0), sign]));
  const special = g.emit("select", [is(kind, NAN_KIND), number(Number.NaN), g.emit("mul", [kind, number(INFINITE)])]);
  return g.emit("select", [is(kind, 0), move(finiteOf(g, x)), special]);
}

/** `sum(x)` for floats, where `sum` gives for each element the sum of some of x. */
export function summed(g: Rewriter, x: NodeId, sum: (x: NodeId) => NodeId): NodeId {
  if (!isSpecial(rangeIn(g, x))) return sum(x);
  const number = (value: number): NodeId => g.number(value, g.type(x).dtype);
  // No number counts as both: their sum is none either.
  const isUp = g.emit("select", [g.emit("lt", [x, number(INFINITE)]), number(0), number(1)]);
  const isDown = g.emit("select", [g.emit("lt", [number(-INFINITE), x]), number(0), number(1)]);
  const [hasUp, hasDown] = [isUp, isDown].map((each) => g.emit("lt", [number(0), sum(each)]));
  const down = (otherwise: NodeId, value: number): NodeId =>
    g.emit("select", [sure(hasDown, "sum of what is below all"), number(value), otherwise]);
  return g.emit("select", [
    sure(hasUp, "sum of what is above all"),
    down(number(INFINITE), Number.NaN),
    down(sum(finiteOf(g, x)), -INFINITE),
  ]);
}
