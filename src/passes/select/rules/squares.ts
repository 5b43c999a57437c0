/**
 * Squares beside: what a norm sums of a value is made in the chain that makes the value.
 *
 * A norm sums squares of what a product has just made. A chain of their own would wait until the value is stored, read it again and
 * add up its panels: of a few rows that takes longer than the passes that it saves. So each panel's squares leave the VXM beside the
 * value, in their windows (fold.ts), and all panels go through the array.
 */

import { at } from "../../../diagnostics.js";
import type { Node } from "../../../ir/graph.js";
import { type AluOp, alusOf, type Argument } from "../../../ir/plan.js";
import { halfLanes } from "../../../ir/target.js";
import { lastExtentOf } from "../../../ir/tensor.js";
import { isZero } from "../../../ir/ranges.js";
import type { Fusion } from "../fuse.js";
import type { Located } from "../layout/operand.js";
import { factsOfOps, SUMS } from "../padding.js";
import { addTemp, type Beside, type Chain, nodeAt, type Selection, storageAt } from "../selection.js";
import { chainLayouts, chainOf, viewOfChain } from "./chain.js";
import { FACTOR, isFolded, isWideRange, readersOf, throughWindow, WINDOWS } from "./fold.js";

/** Cycles of further passes that are worth what a value takes from the VXM to SRAM and back, to where the array waits for it. */
const SAVED = 20;

/** The chain of a value, with squares of it beside it, if sums of few rows want them; else as it is. */
export const withSquares = (s: Selection, node: Node, value: Located, chain: Chain): Chain => {
  const squares = squaresOf(s, node);
  if (squares === undefined || !isWorth(s, node, value)) return chain;
  const view = viewOfChain(s, squares);
  const layouts = chainLayouts(s, squares, view);
  if (layouts === undefined) return chain;
  const own = chainOf(s, squares, layouts);
  const { rows, panels } = storageAt(s, value.storage);
  const isBeside = Array.from({ length: panels }, (_, panel) => own(panel, 0, rows).leaves).every(
    ([leaf, ...others], panel) =>
      leaf !== undefined &&
      others.length === 0 &&
      leaf.storage === value.storage &&
      leaf.panel === panel &&
      leaf.map === undefined &&
      leaf.runs.every(({ row, step, count }) => row === 0 && count === rows && step === (rows > 1 ? 1 : 0)),
  );
  const made = chain(0, 0, rows);
  const ops = besideOps(made.ops, own(0, 0, rows).ops);
  if (!isBeside || alusOf(ops.all) > s.target.alus) return chain;
  const facts = factsOfOps(s, ops.all, made.leaves, SUMS);
  if (!ops.results.every((op) => isZero(at(facts, op, "operation").padding))) return chain;
  const results = ops.results.map((op) => ({ op, storage: addTemp(s, node, "f16", { rows, panels }) }));
  const parts = results.map(({ storage }, index) => ({ storage, scale: at(WINDOWS, index, "window").weight }));
  const { shape } = nodeAt(s, squares.root).type;
  const a = { storage: at(parts, 0, "part").storage, shape, view };
  s.summands.set(squares.root, { a, parts, factor: FACTOR });
  const beside: Beside = { ops: ops.all.slice(made.ops.length), results };
  return (panel, row, count) => ({ ...chain(panel, row, count), beside });
};

/** What a sum alone reads, and is made of a node alone. */
const squaresOf = (s: Selection, { id }: Node): Fusion | undefined =>
  readersOf(s, id)
    .flatMap((reader) => s.fusions.get(reader) ?? [])
    .find((fusion) => isFolded(s, fusion) && isWideRange(s, fusion.root));

/** Whether the passes over all panels, and not over one, take less than is saved. */
const isWorth = (s: Selection, node: Node, { storage }: Located): boolean => {
  const halves = Math.ceil(lastExtentOf(node.type.shape) / halfLanes(s.target));
  return (halves - 2) * storageAt(s, storage).rows <= SAVED;
};

interface BesideOps {
  readonly all: readonly AluOp[];
  /** Of each window, in order. */
  readonly results: readonly number[];
}

/** Operations of a value, of squares of it, and of what goes through each window. */
const besideOps = (value: readonly AluOp[], squares: readonly AluOp[]): BesideOps => {
  const all = [...value];
  const root = value.length - 1;
  const moved = (argument: Argument): Argument => {
    if ("leaf" in argument) return { op: root };
    return "op" in argument ? { op: argument.op + value.length } : argument;
  };
  for (const { fn, args } of squares) all.push({ fn, args: args.map(moved) });
  const square: Argument = { op: all.length - 1 };
  const results = WINDOWS.map((window) => {
    throughWindow(window)(all, square);
    return all.length - 1;
  });
  return { all, results };
};
