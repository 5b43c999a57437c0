/**
 * Folding: the panels of a value that is wider than a vector, added into one before its lanes are summed.
 *
 * Sum over lanes of the sum over panels: one pass through the MXM instead of one for each panel. What computes the value
 * runs in the same chain, once for each panel, and is never stored, if nothing else reads it and the ALUs suffice. Lanes
 * beyond the last column hold anything, so the last panel is masked.
 */

import type { Node, NodeId } from "../ir/graph.js";
import type { AluOp, Argument, Leaf } from "../ir/plan.js";
import type { Fusion } from "./fuse.js";
import { fitOperand, leafOf, type Located } from "./operand.js";
import { chainLayouts, chainOf, denseRows, storeChain, viewOfChain } from "./select-chain.js";
import { locate } from "./select-value.js";
import {
  addTemp,
  type Chain,
  nodeAt,
  operandId,
  originOf,
  pushChain,
  rowOfOnes,
  type Selection,
  spaceOf,
} from "./selection.js";
import { normalize, type View } from "./view.js";

/** Whether a chain is computed only where its root is folded: a sum over more lanes than a vector has is all that reads it. */
export const isFolded = (s: Selection, fusion: Fusion): boolean => {
  const [reader, ...others] = s.consumers[fusion.root] ?? [];
  return (
    fusion.main === undefined &&
    reader !== undefined &&
    others.length === 0 &&
    nodeAt(s, reader).op === "reduce_sum" &&
    widthOf(s, fusion.root) > s.target.lanes &&
    !s.graph.outputs.some((output) => output.node === fusion.root)
  );
};

const widthOf = (s: Selection, id: NodeId): number => {
  const { shape } = nodeAt(s, id).type;
  return shape[shape.length - 1] ?? 1;
};

/** The operand of a sum with its panels added into one; undefined if it has one, or if it must be stored as it is. */
export const foldPanels = (s: Selection, sum: Node): Located | undefined => {
  const id = operandId(sum, 0);
  if (widthOf(s, id) <= s.target.lanes) return undefined;
  const fusion = s.fusions.get(id);
  const computed = fusion !== undefined && isFolded(s, fusion) ? fusion : undefined;
  const folded = computed === undefined ? foldStored(s, sum, id) : foldChain(s, sum, computed);
  // What could not be folded is stored after all.
  if (folded === undefined && computed !== undefined && !s.located.has(id)) storeChain(s, computed);
  return folded;
};

const foldStored = (s: Selection, sum: Node, id: NodeId): Located | undefined => {
  const value = locate(s, id);
  const view = denseRows(s.target, value, "refused");
  if (view === undefined || !isWide(view)) return undefined;
  const fit = fitOperand(s.target, view, value.shape, value);
  if (fit === undefined) return undefined;
  const chain: Chain = (panel, row, rows) => ({ ops: [], leaves: [leafOf(value, fit, panel, row, rows)] });
  return storeFolded(s, sum, view, chain);
};

const foldChain = (s: Selection, sum: Node, fusion: Fusion): Located | undefined => {
  const view = viewOfChain(s, fusion);
  const layouts = isWide(view) ? chainLayouts(s, fusion, view) : undefined;
  return layouts === undefined ? undefined : storeFolded(s, sum, view, chainOf(s, fusion, layouts));
};

/** Whether the last dim has all columns to itself, in order. */
const isWide = ({ dims }: View): boolean => {
  const [last, ...others] = normalize(dims[dims.length - 1] ?? []);
  const columnsElsewhere = dims
    .slice(0, -1)
    .flat()
    .some((f) => f.column !== 0);
  return last?.column === 1 && others.length === 0 && !columnsElsewhere;
};

/** Stores the sum of the panels that a chain computes, if the ALUs suffice. */
const storeFolded = (s: Selection, sum: Node, view: View, chain: Chain): Located | undefined => {
  const { lanes } = s.target;
  const { shape } = nodeAt(s, operandId(sum, 0)).type;
  const { rows, panels } = spaceOf(s.target, { view, shape });
  const folded = sumOfPanels(s, chain, panels, shape[shape.length - 1] ?? 1);
  if (folded === undefined) return undefined;
  const storage = addTemp(s, sum, "f16", { rows, panels: 1 });
  pushChain(s, { rows, panels: 1 }, folded, storage, originOf(s, sum));
  const dims = [...view.dims.slice(0, -1), [{ extent: lanes, row: 0, column: 1 }]];
  return { storage, shape: [...shape.slice(0, -1), lanes], view: { dims, row: 0, column: 0 } };
};

/* ---------- one chain for all panels ---------- */

/** Which leaf of which panel's chain a leaf is. */
interface LeafOrigin {
  readonly panel: number;
  readonly leaf: number;
}

/** One chain that computes all panels and adds them; undefined if it needs more ALUs than there are. */
const sumOfPanels = (s: Selection, chain: Chain, panels: number, width: number): Chain | undefined => {
  const beyond = width % s.target.lanes;
  const single = chain(0, 0, 1);
  const additions = panels - 1;
  const masks = beyond === 0 ? 0 : 1;
  // A value that several operations take is copied by one ALU more.
  const shared = single.leaves.length > 1 ? 1 : 0;
  if (panels * single.ops.length + additions + masks + shared > s.target.alus) return undefined;

  const mask = beyond === 0 ? undefined : rowOfOnes(s, beyond);
  const { ops, results, leaves: origins } = unrolled(chain, panels);
  const [first, ...others] = mask === undefined ? results : maskLast(ops, results, origins.length);
  if (first === undefined) return undefined;
  let total = first;
  for (const result of others) {
    ops.push({ fn: "add", args: [total, result] });
    total = { op: ops.length - 1 };
  }
  return (_, row, rows) => {
    const byPanel = Array.from({ length: panels }, (__, panel) => chain(panel, row, rows).leaves);
    const leaves = origins.flatMap(({ panel, leaf }): readonly Leaf[] => byPanel[panel]?.slice(leaf, leaf + 1) ?? []);
    if (mask !== undefined) leaves.push({ storage: mask, panel: 0, runs: [{ row: 0, step: 0, count: rows }] });
    return { ops, leaves };
  };
};

interface Unrolled {
  readonly ops: AluOp[];
  /** The result of each panel. */
  readonly results: readonly Argument[];
  readonly leaves: readonly LeafOrigin[];
}

/** The operations of a chain for every panel, one after another; leaves that are the same for several panels are read once. */
const unrolled = (chain: Chain, panels: number): Unrolled => {
  const ops: AluOp[] = [];
  const results: Argument[] = [];
  const origins: LeafOrigin[] = [];
  const known = new Map<string, number>();
  const leafNumber = (panel: number, leaf: number, { storage, panel: from }: Leaf): number => {
    const key = `${storage}/${from}`;
    const number = known.get(key) ?? origins.length;
    if (number === origins.length) origins.push({ panel, leaf });
    known.set(key, number);
    return number;
  };
  for (let panel = 0; panel < panels; panel++) {
    const single = chain(panel, 0, 1);
    const numbers = single.leaves.map((leaf, index) => leafNumber(panel, index, leaf));
    const base = ops.length;
    for (const { fn, args } of single.ops) ops.push({ fn, args: args.map((arg) => shifted(arg, base, numbers)) });
    results.push(single.ops.length === 0 ? { leaf: numbers[0] ?? 0 } : { op: ops.length - 1 });
  }
  return { ops, results, leaves: origins };
};

const shifted = (argument: Argument, base: number, leaves: readonly number[]): Argument => {
  if ("op" in argument) return { op: argument.op + base };
  return "leaf" in argument ? { leaf: leaves[argument.leaf] ?? argument.leaf } : argument;
};

/** The results, the last one zero on lanes beyond the last column; `mask`: number of the leaf that says which. */
const maskLast = (ops: AluOp[], results: readonly Argument[], mask: number): readonly Argument[] => {
  const last = results.slice(-1);
  ops.push({ fn: "select", args: [{ leaf: mask }, ...last, { constant: 0 }] });
  return [...results.slice(0, -1), { op: ops.length - 1 }];
};
