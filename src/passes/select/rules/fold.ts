/**
 * Folding: what a sum over lanes sends through the MXM, as fp16 numbers times powers of two.
 *
 * The panels of a value that is wider than a vector are added into one before its lanes are summed: one pass through the MXM
 * instead of one for each panel. What computes the value runs in the same chain, once for each panel, and is never stored, if
 * nothing else reads it and the ALUs suffice. Lanes beyond the last column hold anything, so the last panel is masked.
 *
 * Sums of fp16 values are folded at a scale at which no total overflows. Values of fp32 (squares, above all) have a range that
 * fp16 has not: they go through two windows, each value through one of them, so that what reaches the sum has at least eight
 * bits from 2^-28 to 2^34, and is lost below 2^-37.
 */

import { at, invariant } from "../../../diagnostics.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import { STREAM_TYPES } from "../../../ir/isa.js";
import { type AluOp, type Argument, alusOf, type Leaf, type StorageType } from "../../../ir/plan.js";
import { type Fusion, isFloatCast, stripCasts } from "../fuse.js";
import { fitOperand, leafOf } from "../layout/operand.js";
import { chainLayouts, chainOf, denseRows, storeChain, viewOfChain } from "./chain.js";
import { factsOf, factsOfChain, SUMS } from "../padding.js";
import { activations, locate } from "../value.js";
import {
  addTemp,
  type Chain,
  mapId,
  nodeAt,
  operandId,
  originOf,
  type Part,
  pushChain,
  rowOfOnes,
  rowRun,
  type Selection,
  spaceOf,
  storageAt,
  type Summands,
} from "../selection.js";
import { halfLanes } from "../../../ir/target.js";
import { isZero } from "../../../ir/ranges.js";
import { lastExtentOf } from "../../../ir/tensor.js";
import { normalize, type View } from "../layout/view.js";

/** Values of a magnitude below BORDER, or from there on, go through a window at a scale; weights undo it, but for FACTOR. */
interface Window {
  readonly keeps: "less" | "greater";
  readonly scale: number;
  readonly weight: number;
}

const BORDER = 8;
export const WINDOWS: readonly Window[] = [
  { keeps: "greater", scale: 2 ** -18, weight: 2 ** 15 },
  { keeps: "less", scale: 2 ** 12, weight: 2 ** -15 },
];
/** scale * weight * FACTOR is 1 in each window. */
export const FACTOR = 2 ** 3;

/** Whether a chain is computed only where its root is folded: one sum is all that reads it, and it has panels or windows to fold. */
export const isFolded = (s: Selection, fusion: Fusion): boolean => {
  const [reader, ...others] = readersOf(s, fusion.root);
  return (
    fusion.main === undefined &&
    reader !== undefined &&
    others.length === 0 &&
    nodeAt(s, reader).op === "reduce_sum" &&
    (rowLength(s, fusion.root) > s.target.lanes || isWideRange(s, fusion.root)) &&
    !isCount(s, fusion.root) &&
    !s.graph.outputs.some((output) => output.node === fusion.root)
  );
};

/** Nodes that read a value, through casts between float types. */
export const readersOf = (s: Selection, id: NodeId): NodeId[] =>
  at(s.consumers, id, "list of readers").flatMap((next) =>
    isFloatCast(s.graph, nodeAt(s, next)) ? readersOf(s, next) : [next],
  );

const rowLength = (s: Selection, id: NodeId): number => lastExtentOf(nodeAt(s, id).type.shape);

export const isWideRange = (s: Selection, id: NodeId): boolean => nodeAt(s, id).type.dtype === "f32";

/** Integers in fp16 are summed one by one: their totals would be rounded. */
const isCount = (s: Selection, id: NodeId): boolean => {
  const { op, inputs } = nodeAt(s, id);
  return op === "cast" && inputs[0] !== undefined && nodeAt(s, inputs[0]).type.dtype === "i32";
};

/** The operand of a sum as products take it. */
export const summandsOf = (s: Selection, sum: Node): Summands => {
  const { id } = stripCasts(s.graph, operandId(sum, 0));
  const known = s.summands.get(id);
  if (known !== undefined) return known;
  const made = foldPanels(s, sum, id) ?? unfolded(s, sum, id);
  s.summands.set(id, made);
  return made;
};

/** The operand as it is stored; fp32 in two windows. */
const unfolded = (s: Selection, sum: Node, id: NodeId): Summands => {
  const a = activations(s, id, locate(s, id));
  if (!isWideRange(s, id)) return { a, parts: [{ storage: a.storage, scale: 1 }], factor: 1 };
  const space = storageAt(s, a.storage);
  const parts = WINDOWS.map((window): Part => {
    const storage = addTemp(s, sum, "f16", space);
    const ops: AluOp[] = [];
    throughWindow(window)(ops, { leaf: 0 });
    const leaves = (panel: number, row: number, rows: number): Leaf[] => [
      { storage: a.storage, panel, runs: [rowRun(row, rows)] },
    ];
    pushChain(s, space, (panel, row, rows) => ({ ops, leaves: leaves(panel, row, rows) }), storage, originOf(s, sum));
    return { storage, scale: window.weight };
  });
  return { a, parts, factor: FACTOR };
};

/** The operand of a sum with its panels added into one; undefined if it has one, or if it must be stored as it is. */
const foldPanels = (s: Selection, sum: Node, id: NodeId): Summands | undefined => {
  if (isCount(s, id)) return undefined;
  const fusion = s.fusions.get(id);
  const computed = fusion !== undefined && isFolded(s, fusion) ? fusion : undefined;
  const folded = computed === undefined ? undefined : foldChain(s, sum, computed);
  if (folded !== undefined) return folded;
  // What could not be folded is stored after all.
  if (computed !== undefined && !s.located.has(id)) storeChain(s, computed);
  return rowLength(s, id) > s.target.lanes && s.refused.length === 0 ? foldStored(s, sum, id) : undefined;
};

const foldStored = (s: Selection, sum: Node, id: NodeId): Summands | undefined => {
  const value = locate(s, id);
  const view = denseRows(s.target, value, "refused");
  if (view === undefined || !isWide(view)) return undefined;
  const fit = fitOperand(s.target, view, value.shape, value);
  if (fit === undefined) return undefined;
  const chain: Chain = (panel, row, rows) => ({ ops: [], leaves: [leafOf(value, fit, panel, row, rows)] });
  return storeFolded(s, sum, id, view, chain);
};

const foldChain = (s: Selection, sum: Node, fusion: Fusion): Summands | undefined => {
  const view = viewOfChain(s, fusion);
  const layouts = isWide(view) ? chainLayouts(s, fusion, view) : undefined;
  return layouts === undefined ? undefined : storeFolded(s, sum, fusion.root, view, chainOf(s, fusion, layouts));
};

/** Whether the last dim has all columns to itself, in order. */
const isWide = ({ dims }: View): boolean => {
  const [last, ...others] = normalize(at(dims, dims.length - 1, "dim"));
  const columnsElsewhere = dims
    .slice(0, -1)
    .flat()
    .some((f) => f.column !== 0);
  return last?.column === 1 && others.length === 0 && !columnsElsewhere;
};

/* ---------- panels into one ---------- */

/** Operations that make what is stored of a total. */
type Finish = (ops: AluOp[], total: Argument) => void;

const asItIs: Finish = (ops, total) => {
  if (!("op" in total)) ops.push({ fn: "copy", args: [total] });
};

const times =
  (factor: number): Finish =>
  (ops, total) => {
    if (factor === 1) asItIs(ops, total);
    else ops.push({ fn: "mul", args: [total, { constant: factor }] });
  };

/** The total at the window's scale if its magnitude is one of the window's, else zero. */
export const throughWindow =
  ({ keeps, scale }: Window): Finish =>
  (ops, total) => {
    const zero: Argument = { constant: 0 };
    const first = ops.length;
    const [isLess, scaled]: readonly Argument[] = [{ op: first + 1 }, { op: first + 2 }] as const;
    ops.push(
      { fn: "abs", args: [total] },
      { fn: "lt", args: [{ op: first }, { constant: BORDER }] },
      { fn: "mul", args: [total, { constant: scale }] },
      { fn: "select", args: keeps === "less" ? [isLess, scaled, zero] : [isLess, zero, scaled] },
    );
  };

/** Pairs of streams on which the operands of one chain come in at once: more leave the scheduler no place. */
const MOST_STREAMS = 8;

/** One stored total, as a chain of one panel. */
type Total = (row: number, rows: number) => ReturnType<Chain>;

/** Stores the total of the panels that a chain computes, in as many steps as the ALUs ask for; undefined if one panel is too much. */
const storeFolded = (s: Selection, sum: Node, id: NodeId, view: View, chain: Chain): Summands | undefined => {
  const { lanes } = s.target;
  const { shape } = nodeAt(s, id).type;
  const n = at(shape, shape.length - 1, "extent");
  const { rows, panels } = spaceOf(s.target, { view, shape });
  const wide = isWideRange(s, id);
  const whole: Folding = { chain, panels, beyond: n % lanes };
  const inHalves = halvesOf(s, whole, n, rows);
  // A total of n panels at 1 / n of the scale is no greater than the greatest of its values.
  const shrink = 2 ** -Math.ceil(Math.log2((inHalves ?? whole).panels));
  const finishes = wide
    ? WINDOWS.map((window) => ({ scale: window.weight, finish: throughWindow(window) }))
    : [{ scale: 1 / shrink, finish: times(shrink) }];
  let from = inHalves ?? whole;
  const { chain: computed } = from;
  for (;;) {
    const folding = from;
    const totals = finishes.flatMap(({ finish }) => totalOf(s, folding, 0, folding.panels, finish) ?? []);
    if (totals.length === finishes.length) {
      const parts = totals.map((total, index): Part => {
        const storage = storeTotals(s, sum, "f16", rows, [total]);
        return { storage, scale: at(finishes, index, "finish").scale };
      });
      const extent = inHalves === undefined ? lanes : halfLanes(s.target);
      const dims = [...view.dims.slice(0, -1), [{ extent, row: 0, column: 1 }]];
      const layout = { shape: [...shape.slice(0, -1), extent], view: { dims, row: 0, column: 0 } };
      return { a: { storage: at(parts, 0, "part").storage, ...layout }, parts, factor: wide ? FACTOR : 1 };
    }
    const size = groupSize(s, folding);
    if (size < 1 || (size === 1 && folding.chain !== computed)) return undefined;
    const groups = Array.from({ length: Math.ceil(folding.panels / size) }, (_, group) => group * size).flatMap(
      (first) => totalOf(s, folding, first, Math.min(folding.panels, first + size), asItIs) ?? [],
    );
    const storage = storeTotals(s, sum, "f32", rows, groups);
    from = {
      chain: (panel, row, n) => ({ ops: [], leaves: [{ storage, panel, runs: [rowRun(row, n)] }] }),
      panels: groups.length,
      beyond: 0,
    };
  }
};

/** Panels that are still to be added; lanes of the last one from `beyond` on are not to be counted, unless it is 0. */
interface Folding {
  readonly chain: Chain;
  readonly panels: number;
  readonly beyond: number;
}

/**
 * The same by half-vectors, each on the lanes of the first half, so that what goes through the MXM is one half: the second half passes
 * the SXM on its way. Undefined where the MXM would not save more than that takes, as where several halves pass the SXM.
 */
const halvesOf = (s: Selection, { chain, panels }: Folding, n: number, rows: number): Folding | undefined => {
  const { lanes, timing } = s.target;
  const half = halfLanes(s.target);
  const [first, last] = [chain(0, 0, 1).leaves, chain(panels - 1, 0, 1).leaves];
  const isTurned = last.some(({ map }) => map !== undefined);
  const halves = Math.ceil(n / half);
  if (halves < 2 || halves > 3 || first.length > 1 || isTurned || timing.sxmPermute > rows / 2) return undefined;
  const second = mapId(
    s,
    Int16Array.from({ length: lanes }, (_, lane) => (lane + half) % lanes),
  );
  return {
    chain: (index, row, count) => {
      const { ops, leaves } = chain(Math.floor(index / 2), row, count);
      return { ops, leaves: index % 2 === 0 ? leaves : leaves.map((leaf) => ({ ...leaf, map: second })) };
    },
    panels: halves,
    beyond: n % half,
  };
};

/** As many panels as one chain can add, the masked last one among them. */
const groupSize = (s: Selection, from: Folding): number => {
  let size = 0;
  while (size < from.panels && totalOf(s, from, from.panels - size - 1, from.panels, asItIs) !== undefined) size++;
  return size;
};

const storeTotals = (
  s: Selection,
  sum: Node,
  dtype: StorageType,
  rows: number,
  totals: readonly Total[],
): Part["storage"] => {
  const space = { rows, panels: totals.length };
  const storage = addTemp(s, sum, dtype, space);
  const chain: Chain = (panel, row, count) => {
    const total = totals[panel];
    invariant(total !== undefined, "every panel has a total");
    return total(row, count);
  };
  pushChain(s, space, chain, storage, originOf(s, sum));
  return storage;
};

/** Whether a chain gives zeros on the lanes that no column uses. */
const hasZeros = (s: Selection, { ops, leaves }: ReturnType<Chain>): boolean => {
  const [leaf] = leaves;
  const isStored = ops.length === 0 && leaf !== undefined;
  const { padding } = isStored ? factsOf(s, leaf.storage) : factsOfChain(s, ops, leaves, SUMS);
  return isZero(padding);
};

/** One chain that computes panels `first` .. `end` - 1 and adds them; undefined if it needs more ALUs than there are. */
const totalOf = (
  s: Selection,
  { chain, panels, beyond }: Folding,
  first: number,
  end: number,
  finish: Finish,
): Total | undefined => {
  const { ops, results, leaves: origins } = unrolled(chain, first, end);
  const masked = beyond !== 0 && end === panels && !hasZeros(s, chain(panels - 1, 0, 1));
  const terms = masked ? maskLast(ops, results, origins.length) : results;
  const total = terms.reduce((sum, term): Argument => {
    ops.push({ fn: "add", args: [sum, term] });
    return { op: ops.length - 1 };
  });
  finish(ops, total);
  const width = origins.reduce((sum, { panel, leaf }) => {
    const { storage } = at(chain(panel, 0, 1).leaves, leaf, "leaf");
    return sum + STREAM_TYPES[storageAt(s, storage).dtype].bytes / 2;
  }, 0);
  if (alusOf(ops) > s.target.alus || width > MOST_STREAMS) return undefined;
  const mask = masked ? rowOfOnes(s, beyond) : undefined;
  return (row, rows) => {
    const byPanel = Array.from({ length: end - first }, (_, index) => chain(first + index, row, rows).leaves);
    const leaves = origins.map(({ panel, leaf }) => at(at(byPanel, panel - first, "panel"), leaf, "leaf"));
    if (mask !== undefined) leaves.push({ storage: mask, panel: 0, runs: [{ row: 0, step: 0, count: rows }] });
    return { ops, leaves };
  };
};

/** Which leaf of which panel's chain a leaf is. */
interface LeafOrigin {
  readonly panel: number;
  readonly leaf: number;
}

interface Unrolled {
  readonly ops: AluOp[];
  /** The result of each panel. */
  readonly results: readonly Argument[];
  readonly leaves: readonly LeafOrigin[];
}

/** The operations of a chain for some panels, one after another; leaves that are the same for several panels are read once. */
const unrolled = (chain: Chain, first: number, end: number): Unrolled => {
  const ops: AluOp[] = [];
  const results: Argument[] = [];
  const origins: LeafOrigin[] = [];
  const known = new Map<string, number>();
  const made = new Map<string, number>();
  const leafNumber = (panel: number, leaf: number, { storage, panel: from, map }: Leaf): number => {
    const key = `${storage}/${from}/${map}`;
    const number = known.get(key) ?? origins.length;
    if (number === origins.length) origins.push({ panel, leaf });
    known.set(key, number);
    return number;
  };
  for (let panel = first; panel < end; panel++) {
    const single = chain(panel, 0, 1);
    const numbers = single.leaves.map((leaf, index) => leafNumber(panel, index, leaf));
    // What does not depend on the panel is computed once.
    const places: number[] = [];
    for (const own of single.ops) {
      const op: AluOp = { ...own, args: own.args.map((arg) => shifted(arg, places, numbers)) };
      const key = JSON.stringify([op.fn, op.args]);
      const place = made.get(key) ?? ops.length;
      if (place === ops.length) ops.push(op);
      made.set(key, place);
      places.push(place);
    }
    results.push(
      single.ops.length === 0 ? { leaf: at(numbers, 0, "number") } : { op: at(places, places.length - 1, "place") },
    );
  }
  return { ops, results, leaves: origins };
};

const shifted = (argument: Argument, places: readonly number[], leaves: readonly number[]): Argument => {
  if ("op" in argument) return { op: at(places, argument.op, "place") };
  return "leaf" in argument ? { ...argument, leaf: at(leaves, argument.leaf, "leaf") } : argument;
};

/** The results, the last one zero on lanes beyond the last column; `mask`: number of the leaf that says which. */
const maskLast = (ops: AluOp[], results: readonly Argument[], mask: number): readonly Argument[] => {
  const last = results.slice(-1);
  ops.push({ fn: "select", args: [{ leaf: mask }, ...last, { constant: 0 }] });
  return [...results.slice(0, -1), { op: ops.length - 1 }];
};
