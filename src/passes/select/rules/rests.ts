/**
 * Rests: what K leaves behind its last whole half-vector, of several batch indices side by side.
 *
 * Activations whose K is a little more than some half-vectors, as keys of attention are, would send a half-vector of few values
 * through the array for each head. Permutations bring the rests of several heads to lanes of their own, selections join them, and
 * one pass multiplies them all: each block of weights has its K values where the rest of its head lies.
 */

import { at, sure } from "../../../diagnostics.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import type { Leaf, Run } from "../../../ir/plan.js";
import { halfLanes } from "../../../ir/target.js";
import { stripCasts } from "../fuse.js";
import { asHalf } from "../layout/bits.js";
import { largestDivisor } from "../layout/digits.js";
import { moved } from "../layout/move.js";
import { type Located, runsOf } from "../layout/operand.js";
import { type Factor, type Layout, normalize, offsetAt, partOf } from "../layout/view.js";
import { mayDiverge } from "../padding.js";
import {
  addTemp,
  type Chain,
  mapId,
  operandId,
  originOf,
  pushTask,
  rowBlock,
  rowBlocks,
  rowRun,
  type Selection,
  spaceOf,
} from "../selection.js";
import { locate } from "../value.js";
import type { Product, StoredWeights } from "../weights.js";
import { withoutPadding } from "./chain.js";
import { overlaid } from "./concat.js";

/** Rows from which on the passes that are saved take longer than the way through the VXM. */
const SLOW_ROWS = 64;
/** Rests that one chain joins. */
const MOST_JOINED = 5;

/** What is left of K, and how many batch indices along the last of their axes share a half-vector for it. */
interface Rests {
  readonly from: number;
  readonly count: number;
  readonly together: number;
}

/** The product with the rests of its activations side by side; as it is, where that saves no pass. */
export const withRests = (s: Selection, node: Node, product: Product): Product => {
  const rests = restsOf(s, node, product);
  if (rests === undefined) return product;
  const { from, count } = rests;
  const id = operandId(node, 1);
  return {
    ...product,
    a: partOfK(product.a, 0, from),
    weights: weightsOf(s, id, 0, from),
    rests: { a: joined(s, node, product.a, rests), weights: weightsOf(s, id, from, count) },
  };
};

const restsOf = (s: Selection, node: Node, { a, space, weights }: Product): Rests | undefined => {
  const half = halfLanes(s.target);
  const { shape } = a;
  const axis = shape.length - 3;
  const [heads = 1, m = 1, k = 1] = shape.slice(-3);
  const count = k % half;
  if (
    s.room !== "ample" ||
    weights.kind !== "stored" ||
    weights.parts.length > 1 ||
    k < half ||
    count === 0 ||
    m < SLOW_ROWS
  )
    return undefined;
  if (isInput(s, operandId(node, 1)) || a.repeated !== undefined || a.cycle !== undefined) return undefined;
  const together = largestDivisor(heads, Math.min(Math.floor(half / count), MOST_JOINED));
  // Each of them has columns of its own in the same rows of the result, and whole half-vectors of the activations.
  const sharesRows = at(space.view.dims, axis, "dim").every(({ row }) => row === 0);
  const isWhole = shape.slice(0, -1).join() === space.shape.slice(0, -1).join();
  const batch = a.view.dims.slice(0, -2).flat();
  const isAtHalf = [a.view, ...batch].every(({ column }) => column % half === 0);
  const [ofM = [], ofK = []] = a.view.dims.slice(-2).map(normalize);
  const isPlain = ofM.length <= 1 && ofK.length === 1 && ofK[0]?.column === 1;
  return together > 1 && sharesRows && isWhole && isAtHalf && isPlain
    ? { from: k - count, count, together }
    : undefined;
};

/** The host lays an input out as its first reader wants it, and a state stays where it is. */
const isInput = (s: Selection, id: NodeId): boolean => stripCasts(s.graph, id).op === "input";

/* ---------- parts along K ---------- */

const within = (layout: Layout, axis: number, from: number, count: number): Layout =>
  sure(partOf(layout, axis, from, count), "part of an axis of one digit");

const partOfK = (a: Located, from: number, count: number): Located => ({
  ...a,
  ...within(a, a.shape.length - 1, from, count),
});

/** K values `from` .. `from + count - 1` of a second operand [.., K, N]. */
const weightsOf = (s: Selection, id: NodeId, from: number, count: number): StoredWeights => {
  const whole = asHalf(s, id, locate(s, id));
  const value = { ...whole, ...within(whole, whole.shape.length - 2, from, count) };
  const part = {
    from: 0,
    count: at(value.shape, value.shape.length - 1, "extent"),
    value: () => value,
    move: (wanted: Layout) => moved(s, id, value, wanted),
  };
  return { kind: "stored", shape: value.shape, along: "n", parts: [part] };
};

/* ---------- side by side ---------- */

/** [.., heads, M, K] -> [.., heads, M, count]: rests of as many heads as go together, on the lanes of one row. */
const joined = (s: Selection, node: Node, a: Located, { from, count, together }: Rests): Located => {
  const key = `rests ${a.storage} ${JSON.stringify(a.view)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const layout = layoutOf(a, count, together);
  const space = spaceOf(s.target, layout);
  const storage = addTemp(s, node, "f16", space);
  const chain = joiningChain(s, a, { from, count, together });
  const safe = mayDiverge(s, chain(0, 0, 1), "f16") ? withoutPadding(s, chain, layout, "f16") : chain;
  const [m = 1] = a.shape.slice(-2);
  for (const group of rowBlocks(space.rows, m))
    for (const { row, rows } of rowBlocks(m, rowBlock(s.target, m), group.row))
      pushTask(s, { rows, ...safe(0, row, rows), storage, panel: 0, row, origin: originOf(s, node) });
  const value = { storage, ...layout };
  s.copies.set(key, value);
  return value;
};

const layoutOf = (a: Located, count: number, together: number): Layout => {
  const shape = [...a.shape.slice(0, -1), count];
  const heads = shape.length - 3;
  let row = 1;
  const dims: (readonly Factor[])[] = shape.map(() => []);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    const beside = axis === heads ? together : 1;
    const extent = at(shape, axis, "extent") / beside;
    dims[axis] = [
      { extent, row, column: 0 },
      { extent: beside, row: 0, column: count },
    ];
    row *= extent;
  }
  dims[shape.length - 1] = [{ extent: count, row: 0, column: 1 }];
  return { view: { dims, row: 0, column: 0 }, shape };
};

/** Rows of joined rests: row by row of M, of one group of heads after another. */
const joiningChain = (s: Selection, a: Located, { from, count, together }: Rests): Chain => {
  const { lanes } = s.target;
  const [batchShape, batchDims] = [a.shape.slice(0, -2), a.view.dims.slice(0, -2)];
  const [m = 1] = a.shape.slice(-2);
  const [ofM] = normalize(at(a.view.dims, a.view.dims.length - 2, "dim"));
  const digits = [{ extent: m, out: 1, row: ofM?.row ?? 0 }];
  const placeOf = (batch: number): { readonly panel: number; readonly lane: number; readonly row: number } => {
    const column = a.view.column + offsetAt(batchDims, batchShape, batch, "column") + from;
    const row = a.view.row + offsetAt(batchDims, batchShape, batch, "row");
    return { panel: Math.floor(column / lanes), lane: column % lanes, row };
  };
  const restOf = (group: number, index: number, row: number, rows: number): Leaf => {
    const { panel, lane, row: first } = placeOf(group * together + index);
    const map = shifted(lanes, { from: lane, to: index * count, count });
    return { storage: a.storage, panel, runs: runsOf({ digits, row: first }, row, rows), map: mapId(s, map) };
  };
  const layers = Array.from({ length: together }, (_, index) => ({
    leaf: ({ row, count: rows }: Run) => restOf(Math.floor(row / m), index, row % m, rows),
    lanes: Array.from({ length: count }, (_unused, lane) => index * count + lane),
  }));
  // One array of operations for all bursts: their timing is worked out once.
  const made = overlaid(s, "f16", layers);
  return (_, row, rows) => made(rowRun(row, rows));
};

/** Lanes `from` .. to lanes `to` ..; all others take the first of them, which is some value. */
const shifted = (lanes: number, { from, to, count }: { from: number; to: number; count: number }): Int16Array =>
  Int16Array.from({ length: lanes }, (_, lane) => (lane >= to && lane < to + count ? from + lane - to : from));
