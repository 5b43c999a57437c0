/**
 * Weights in parts: what is joined along K or along N is loaded from where each part lies, and never copied together.
 *
 * Keys and values of past positions and the new ones behind them are the case that matters. A part that lies nowhere yet, as
 * a state, comes to lie as the array wants it.
 */

import { at } from "../../../diagnostics.js";
import { numberAttr, intsAttr } from "../../../ir/ops/attributes.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import { isFloatCast, stripCasts } from "../fuse.js";
import { stateAs, stateIsFree } from "../input.js";
import { asHalf } from "../layout/bits.js";
import { relayout } from "../layout/move.js";
import type { Located } from "../layout/operand.js";
import { type Layout, normalize, transposeView } from "../layout/view.js";
import { nodeAt, operandId, type Selection } from "../selection.js";
import { locate } from "../value.js";
import { chainOperand } from "./chain.js";
import type { StoredPart, StoredWeights } from "../weights.js";

/** A join as a second operand of a matmul sees it. */
interface Join {
  readonly concat: Node;
  /** The transposition on the way, if there is one. */
  readonly perm: readonly number[] | undefined;
  readonly along: "k" | "n";
}

/** The second operand of a matmul, if it is joined along K or N of just its dims, and nothing needs it in one piece. */
export const joinedWeights = (s: Selection, matmul: Node, a: Located): StoredWeights | undefined => {
  const join = joinAt(s, operandId(matmul, 1));
  if (join === undefined || !isJoinOf(join, matmul) || s.located.has(join.concat.id)) return undefined;
  const { concat, perm, along } = join;
  // K is cut between parts only where it is one digit.
  if (along === "k" && normalize(at(a.view.dims, a.view.dims.length - 1, "dim")).length > 1) return undefined;
  const axis = numberAttr(concat.attrs, "axis");
  const parts: StoredPart[] = [];
  let from = 0;
  for (const id of concat.inputs) {
    const count = at(nodeAt(s, id).type.shape, axis, "extent");
    parts.push({ from, count, ...partOf(s, id, perm) });
    from += count;
  }
  return { kind: "stored", shape: nodeAt(s, operandId(matmul, 1)).type.shape, along, parts };
};

/** Whether all that reads a concat takes it in parts, so that it is never stored. */
export const isTakenInParts = (s: Selection, concat: Node): boolean => {
  const taken = (id: NodeId): boolean =>
    at(s.consumers, id, "list of readers").every((next) => {
      const node = nodeAt(s, next);
      if (isFloatCast(s.graph, node) || node.op === "transpose") return taken(next);
      if (node.op !== "matmul" || operandId(node, 1) !== id || operandId(node, 0) === id) return false;
      const join = joinAt(s, id);
      return join?.concat === concat && isJoinOf(join, node);
    });
  return at(s.consumers, concat.id, "list of readers").length > 0 && taken(concat.id);
};

const joinAt = (s: Selection, id: NodeId): Join | undefined => {
  const outer = stripCasts(s.graph, id);
  const perm = outer.op === "transpose" ? intsAttr(outer.attrs, "perm") : undefined;
  const concat = perm === undefined ? outer : stripCasts(s.graph, operandId(outer, 0));
  if (concat.op !== "concat") return undefined;
  const own = numberAttr(concat.attrs, "axis");
  const axis = perm === undefined ? own : perm.indexOf(own);
  const rank = concat.type.shape.length;
  if (axis < rank - 2) return undefined;
  return { concat, perm, along: axis === rank - 1 ? "n" : "k" };
};

const isJoinOf = ({ concat }: Join, matmul: Node): boolean => concat.type.shape.length === matmul.type.shape.length;

const partOf = (
  s: Selection,
  id: NodeId,
  perm: readonly number[] | undefined,
): Pick<StoredPart, "value" | "move" | "beside"> => {
  const turned = (value: Located): Located => (perm === undefined ? value : { ...value, ...turn(value, perm) });
  const wantedBy = (wanted: Layout): Layout => (perm === undefined ? wanted : turn(wanted, inverse(perm)));
  const node = stripCasts(s.graph, id);
  const asOne = (): Located => asHalf(s, id, locate(s, id));
  return {
    value: () => (stateIsFree(s, node) ? undefined : turned(asOne())),
    move: (wanted) => {
      const own = wantedBy(wanted);
      const moved = stateAs(s, node, own) ?? relayout(s, id, asOne(), own);
      s.loaded.set(node.id, moved);
      return turned(moved);
    },
    beside: (result) => chainOperand(s, id, wantedBy(result)),
  };
};

const turn = ({ view, shape }: Layout, perm: readonly number[]): Layout => ({
  view: transposeView(view, perm),
  shape: perm.map((axis) => at(shape, axis, "extent")),
});

const inverse = (perm: readonly number[]): number[] => perm.map((_, axis) => perm.indexOf(axis));
