/**
 * The maximum rule: steps over the lanes of each group, in the layout of the operand (max-steps.ts).
 *
 * Values that fill more than a panel are folded first, panel by panel; then all lanes of one panel are the group. Lanes beyond
 * the last column hold anything and must not win: where they would, the panel is read through a permutation that puts a value
 * there.
 */

import { at, invariant } from "../../../diagnostics.js";
import type { Node } from "../../../ir/graph.js";
import type { AluOp, Argument, Leaf, StorageType } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { lastExtentOf } from "../../../ir/tensor.js";
import { fitOperand, leafOf, type Located } from "../layout/operand.js";
import { denseRows } from "./chain.js";
import { relayout } from "../layout/move.js";
import { refine } from "../padding.js";
import { locate } from "../value.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  mapId,
  operandId,
  originOf,
  pushChain,
  rowRun,
  type Selection,
  spaceOf,
  storageAt,
} from "../selection.js";
import { type LaneSource, stepsOf } from "./max-steps.js";
import { columnsFrom, naturalLayout, normalize, type View } from "../layout/view.js";

/** The greater of two: results of operations, or leaves of a storage of this type. */
const maxOf = (dtype: StorageType, ...args: Argument[]): AluOp =>
  dtype === "i32"
    ? { fn: "maxInt", args: args.map((argument) => ("leaf" in argument ? { ...argument, as: dtype } : argument)) }
    : { fn: "max", args };

/** The maximum of so many leaves, by twos; the first leaf comes last, since others arrive together. */
const maximumOf = (dtype: StorageType, leaves: number): AluOp[] => {
  if (leaves === 1) return [copyOfLeaf(dtype, 0)];
  const ops: AluOp[] = [];
  let open = Array.from({ length: leaves }, (_, i): Argument => ({ leaf: (i + 1) % leaves }));
  while (open.length > 1) {
    const next: Argument[] = [];
    for (let i = 0; i + 1 < open.length; i += 2)
      next.push({ op: ops.push(maxOf(dtype, at(open, i, "operand"), at(open, i + 1, "operand"))) - 1 });
    open = open.length % 2 === 0 ? next : [...next, at(open, open.length - 1, "operand")];
  }
  return ops;
};

/** Panels that one task folds into one. */
const FOLDED_PANELS = 4;

export const lowerMax = (s: Selection, node: Node): Located => {
  const value = candidates(s, node);
  const { shape } = node.type;
  const n = lastExtentOf(value.shape);
  if (n <= s.target.lanes) {
    const view = denseView(s, value);
    const { storage } = maxOfLanes(s, node, value, view, n);
    refine(s, storage, node.id);
    return { storage, shape, view: withoutLast(view), repeated: [{ extent: n, column: 1 }] };
  }
  const folded = foldPanels(s, node, value);
  const { storage } = maxOfLanes(s, node, folded, folded.view, s.target.lanes);
  refine(s, storage, node.id, true);
  return { storage, shape, view: withoutLast(folded.view), repeated: "all" };
};

const withoutLast = (view: View): View => ({ ...view, dims: [...view.dims.slice(0, -1), []] });

/**
 * The operand, with the values of each maximum on neighbouring lanes of one panel, or on panels of their own. If it has to be
 * moved for that, whoever reads it along with the maximum is better off with the copy, too.
 */
const candidates = (s: Selection, node: Node): Located => {
  const id = operandId(node, 0);
  const value = locate(s, id);
  if (staysOnPanels(s.target, value)) return value;
  const moved = relayout(s, id, value, naturalLayout(value.shape));
  s.located.set(id, moved);
  return moved;
};

const staysOnPanels = (target: Target, value: Located): boolean => {
  const view = denseRows(target, value, "kept");
  if (view === undefined) return false;
  const n = lastExtentOf(value.shape);
  const last = normalize(at(view.dims, view.dims.length - 1, "dim"));
  if (n > 1 && (last.length !== 1 || last[0]?.column !== 1)) return false;
  const starts = groupStarts(view);
  return n > target.lanes ? starts.length === 1 : starts.every((start) => (start % target.lanes) + n <= target.lanes);
};

const denseView = (s: Selection, value: Located): View => {
  const view = denseRows(s.target, value, "kept");
  invariant(view !== undefined, "the operand of a maximum starts at a panel");
  return view;
};

/** First physical column of every group of lanes that a view's last dim makes. */
const groupStarts = ({ dims, column }: View): number[] =>
  columnsFrom(
    dims
      .slice(0, -1)
      .flat()
      .filter((f) => f.column !== 0),
    column,
  );

/* ---------- within a panel ---------- */

/** The maximum of every group of n lanes, on all of them; rows as `view` has them. */
const maxOfLanes = (s: Selection, node: Node, value: Located, view: View, n: number): Located => {
  const space = spaceOf(s.target, { view, shape: value.shape });
  const { dtype } = storageAt(s, value.storage);
  const starts = groupStarts(view);
  let from: Located = value;
  for (const { keeps, sources } of stepsOf(s.target, dtype, { starts, n, vectors: space.rows * space.panels })) {
    const fit = fitOperand(s.target, view, value.shape, from);
    invariant(fit !== undefined, "steps of a maximum share a layout");
    const storage = addTemp(s, node, dtype, space);
    const source = from;
    const ops = maximumOf(dtype, sources.length + (keeps ? 1 : 0));
    const maps = Array.from({ length: space.panels }, (_, panel) =>
      sources.map((each) => mapId(s, laneMap(s.target, starts, panel, each))),
    );
    const step: Chain = (panel, row, rows) => {
      const leaf = leafOf(source, fit, panel, row, rows);
      const moved = at(maps, panel, "map").map((map) => ({ ...leaf, map }));
      return { ops, leaves: keeps ? [leaf, ...moved] : moved };
    };
    pushChain(s, space, step, storage, originOf(s, node));
    from = { storage, shape: value.shape, view };
  }
  return from;
};

/** The map of a panel by which lanes take those of their group, or of the panel's first where they belong to none. */
export const laneMap = (
  { lanes }: Target,
  starts: readonly number[],
  panel: number,
  source: LaneSource,
): Int16Array => {
  const here = starts.filter((column) => Math.floor(column / lanes) === panel).map((column) => column % lanes);
  const [first = 0] = here;
  return Int16Array.from({ length: lanes }, (_, lane) =>
    source(
      lane,
      here.reduce((found, start) => (start <= lane ? start : found), first),
    ),
  );
};

/* ---------- across panels ---------- */

/** Elementwise maximum of the panels of a value, on one panel of which every lane counts; [.., N] becomes [.., lanes]. */
const foldPanels = (s: Selection, node: Node, value: Located): Located => {
  const { lanes } = s.target;
  const view = denseView(s, value);
  const panels = Math.ceil(lastExtentOf(value.shape) / lanes);
  const { rows } = spaceOf(s.target, { view, shape: value.shape });
  const { dtype } = storageAt(s, value.storage);
  let from: Panels = { panels, leaf: candidateLeaves(s, value, view, panels) };
  for (;;) {
    // Of one size, or nearly: no task is left with a single panel if it can be helped.
    const space = { rows, panels: Math.ceil(from.panels / FOLDED_PANELS), view };
    const storage = addTemp(s, node, dtype, space);
    pushChain(s, space, maxOfPanels(dtype, from, Math.ceil(from.panels / space.panels)), storage, originOf(s, node));
    if (space.panels === 1) {
      const dims = [...view.dims.slice(0, -1), [{ extent: lanes, row: 0, column: 1 }]];
      return { storage, shape: [...value.shape.slice(0, -1), lanes], view: { dims, row: 0, column: 0 } };
    }
    from = { panels: space.panels, leaf: (panel, row, count) => ({ storage, panel, runs: [rowRun(row, count)] }) };
  }
};

/** Panels that are still to be folded. */
interface Panels {
  readonly panels: number;
  readonly leaf: (panel: number, row: number, rows: number) => Leaf;
}

/** Panels of the operand, without the lanes of the last one that no value has. */
const candidateLeaves = (s: Selection, value: Located, view: View, panels: number): Panels["leaf"] => {
  const beyond = lastExtentOf(value.shape) % s.target.lanes;
  const fit = fitOperand(s.target, view, value.shape, value);
  invariant(fit !== undefined, "rows of a maximum may be renumbered");
  return (panel, row, rows) => {
    const leaf = leafOf(value, fit, panel, row, rows);
    if (beyond === 0 || panel < panels - 1) return leaf;
    // Lanes from `beyond` on repeat the last value.
    const map = Int16Array.from({ length: s.target.lanes }, (_, lane) => Math.min(lane, beyond - 1));
    return { ...leaf, map: mapId(s, map) };
  };
};

/** A chain whose panel i is the maximum of panels i * size .. (i + 1) * size - 1. */
const maxOfPanels =
  (dtype: StorageType, { panels, leaf }: Panels, size: number): Chain =>
  (group, row, rows) => {
    const members = Array.from({ length: Math.min(size, panels - group * size) }, (_, i) => group * size + i);
    const leaves = members.map((panel) => leaf(panel, row, rows));
    if (leaves.length === 1) return { ops: [copyOfLeaf(dtype, 0)], leaves };
    const ops = members
      .slice(1)
      .map((_, i): AluOp => maxOf(dtype, i === 0 ? { leaf: 0 } : { op: i - 1 }, { leaf: i + 1 }));
    return { ops, leaves };
  };
