/**
 * Heads together: keys of several heads load once, and rows that hold the queries of one head each meet them.
 *
 * Keys of all heads lie side by side on the lanes of their rows, and so share half-vectors: 160 lanes are two heads of 64 and a half.
 * A product for each head loads every column of its half-vectors for itself, with the lanes of other heads as zeros. Where few queries
 * meet many keys, as in a decode step, that takes most of its time. So the queries of each head come to lie on a row of their own, with
 * zeros on the lanes of others, and what loads is whole half-vectors. Heads whose lanes begin and end with panels go together.
 */

import { at } from "../../../diagnostics.js";
import type { Node } from "../../../ir/graph.js";
import type { AluOp, Leaf, Run } from "../../../ir/plan.js";
import type { Place, PointsRecipe } from "../../../ir/recipe.js";
import { halfLanes, type Target } from "../../../ir/target.js";
import type { Located } from "../layout/operand.js";
import { type Factor, type Layout, normalize, type View } from "../layout/view.js";
import { mayDiverge } from "../padding.js";
import { addTemp, constantOnce, originOf, pushTask, type Selection } from "../selection.js";
import { movedWeights, type Product, type StoredPart, type StoredWeights } from "../weights.js";

/** Queries of heads that lie side by side: [.., heads, m, size] x [.., heads, size, n]. */
interface Heads {
  readonly heads: number;
  readonly m: number;
  readonly size: number;
  readonly n: number;
  /** First panel of the queries. */
  readonly panel: number;
  /** First row, and from one query of a head to the next. */
  readonly row: number;
  readonly step: number;
}

/** Columns of weights that load in a cycle, where rows lie in as many ways as there are pairs of streams. */
const columnsACycle = ({ streams }: Target): number => streams / 2;
/**
 * Keys of heads go together where that saves so many cycles of the arrays: queries take another way through the VXM first, and the
 * softmax of one head does not begin while keys of the next load.
 */
const WORTH = 300;

/** The heads of activations whose keys are to load once for several of them; undefined where each has its own product. */
const headsTogether = (target: Target, a: Located, n: number): Heads | undefined => {
  const heads = sideBySide(target, a, n);
  if (heads === undefined) return undefined;
  const { m, size } = heads;
  const half = halfLanes(target);
  const load = Math.ceil(Math.min(n, target.lanes) / columnsACycle(target)) + 1;
  const cyclesOf = (first: number, count: number): number => {
    const halves = Math.ceil(((first + count) * size) / half) - Math.floor((first * size) / half);
    return Math.ceil(n / target.lanes) * halves * Math.max(load, count * m);
  };
  const groups = groupsOf(target, heads).reduce((sum, { first, count }) => sum + cyclesOf(first, count), 0);
  let alone = 0;
  for (let head = 0; head < heads.heads; head++) alone += cyclesOf(head, 1);
  return alone - groups >= WORTH ? heads : undefined;
};

const sideBySide = (target: Target, a: Located, n: number): Heads | undefined => {
  const { shape, view } = a;
  const [heads = 1, m = 1, size = 1] = shape.slice(-3);
  const outer = shape.slice(0, -3);
  const [ofHeads = [], ofM = [], ofSize = []] = view.dims.slice(-3).map(normalize);
  const isDense =
    isColumns(ofHeads, size) && isColumns(ofSize, 1) && ofM.length <= 1 && ofM.every((f) => f.column === 0);
  if (shape.length < 3 || heads === 1 || outer.some((extent) => extent > 1) || !isDense) return undefined;
  if (view.column % target.lanes !== 0 || a.repeated !== undefined || a.cycle !== undefined) return undefined;
  return { heads, m, size, n, panel: view.column / target.lanes, row: view.row, step: ofM[0]?.row ?? 0 };
};

/** Whether a dim is one digit on columns that are so far apart. */
const isColumns = (factors: readonly Factor[], apart: number): boolean =>
  factors.length === 1 && factors.every(({ row, column }) => row === 0 && column === apart);

/** Heads that go together. */
interface Group {
  readonly first: number;
  readonly count: number;
}

/** As few heads as end with a panel, again and again, and those that are left. */
const groupsOf = ({ lanes }: Target, { heads, size }: Heads): readonly Group[] => {
  let most = 1;
  while ((most * size) % lanes !== 0 && most < heads) most++;
  return Array.from({ length: Math.ceil(heads / most) }, (_, group) => {
    const first = group * most;
    return { first, count: Math.min(most, heads - first) };
  });
};

/** A product for each group of heads; undefined where keys do not lie side by side. Rows of the result: of one head after another. */
export const byGroups = (s: Selection, node: Node, product: Product): readonly Product[] | undefined => {
  const { a, weights, space, parts } = product;
  if (weights.kind !== "stored" || weights.along !== "n" || parts.length > 1 || product.sums !== undefined)
    return undefined;
  const n = at(weights.shape, weights.shape.length - 1, "extent");
  const heads = headsTogether(s.target, a, n);
  if (heads === undefined || weights.shape.at(-3) !== heads.heads || !isByHeads(space, heads)) return undefined;
  const keys = weights.parts.map((part) => keysOf(s, product, weights, part, heads));
  const storage = maskedQueries(s, node, a, heads);
  if (storage === undefined || keys.some((key) => key === undefined)) return undefined;
  return groupsOf(s.target, heads).map(({ first, count }): Product => {
    const [rows, k] = [count * heads.m, count * heads.size];
    const ones = space.shape.slice(0, -2).map(() => 1);
    const empty = ones.map((): Factor[] => []);
    const rowsDim = [{ extent: rows, row: 1, column: 0 }];
    const kDim = [{ extent: k, row: 0, column: 1 }];
    const nDims = space.view.dims.slice(-1);
    return {
      ...product,
      // Rows of the queries are those of the result, which a digit tells, but of one row.
      a: {
        storage,
        shape: [...ones, rows, k],
        view: { dims: [...empty, rowsDim, kDim], row: rows === 1 ? first : 0, column: 0 },
      },
      parts: [{ storage, scale: 1 }],
      weights: {
        kind: "stored",
        along: "n",
        shape: [...ones, k, n],
        parts: weights.parts.flatMap(({ from, count: columns }, index): StoredPart[] => {
          const whole = keys[index];
          if (whole === undefined) return [];
          const view = { ...whole.view, column: whole.view.column + first * heads.size };
          const dims = [...empty, kDim, at(view.dims, view.dims.length - 1, "dim")];
          const value = { ...whole, shape: [...ones, k, columns], view: { ...view, dims } };
          return [{ from, count: columns, value: () => value, move: () => value }];
        }),
      },
      space: {
        ...space,
        shape: [...ones, rows, n],
        view: { dims: [...empty, rowsDim, ...nDims], row: first * heads.m, column: space.view.column },
      },
    };
  });
};

/** Whether rows of a result are those of one head after another. */
const isByHeads = ({ shape, view }: Layout, { heads, m }: Heads): boolean => {
  const [ofHeads = [], ofM = []] = view.dims.slice(-3, -1).map(normalize);
  const outer = shape.slice(0, -3);
  const isRows = (factors: readonly Factor[], apart: number): boolean =>
    factors.length === 1 && factors.every(({ row, column }) => row === apart && column === 0);
  return (
    shape.at(-3) === heads &&
    outer.every((extent) => extent === 1) &&
    view.row === 0 &&
    isRows(ofHeads, m) &&
    (m === 1 || isRows(ofM, 1))
  );
};

/** Keys of all heads on the lanes of the queries, moved there if need be; undefined where they do not come to lie so. */
const keysOf = (
  s: Selection,
  product: Product,
  weights: StoredWeights,
  part: StoredPart,
  heads: Heads,
): Located | undefined => {
  const value = part.value();
  if (value !== undefined && areKeys(value.view, heads)) return value;
  const moved = movedWeights(s.target, product, weights, part);
  return areKeys(moved.view, heads) ? moved : undefined;
};

const areKeys = ({ dims, column }: View, { size }: Heads): boolean => {
  const [ofHeads = [], ofSize = [], ofN = []] = dims.slice(-3).map(normalize);
  return column === 0 && isColumns(ofHeads, size) && isColumns(ofSize, 1) && ofN.every((f) => f.column === 0);
};

const KEEP_OWN: readonly AluOp[] = [{ fn: "select", args: [{ leaf: 1 }, { leaf: 0 }, { constant: 0 }] }];

/** Queries of each head on rows of their own, on the panels of the head's group, with zeros on lanes of other heads. */
const maskedQueries = (s: Selection, node: Node, a: Located, heads: Heads): number | undefined => {
  const { lanes } = s.target;
  const { m, size, row, step } = heads;
  const key = `queries by heads ${a.storage} ${JSON.stringify(a.view)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const groups = groupsOf(s.target, heads);
  const { count: most } = at(groups, 0, "group");
  const panels = Math.ceil((most * size) / lanes);
  const places = Array.from({ length: most * size }, (_, k): Place => {
    const vector = Math.floor(k / lanes) * most + Math.floor(k / size);
    return [vector, k % lanes];
  });
  const recipe: PointsRecipe = { kind: "points", vectors: most, value: 1, places };
  const mask = constantOnce(s, { name: "lanes of heads", rows: most, panels, recipe });
  const queries: Run = { row, step: m === 1 ? 0 : step, count: m };
  const leavesOf = ({ first, count }: Group, panel: number): readonly Leaf[] => {
    const each = Array.from({ length: count }, (_, head) => head);
    const own = Math.floor((first * size) / lanes) + heads.panel + panel;
    const runs = m === 1 ? [{ row, step: 0, count }] : each.map(() => queries);
    const maskRuns = m === 1 ? [{ row: 0, step: 1, count }] : each.map((head) => ({ row: head, step: 0, count: m }));
    return [
      { storage: a.storage, panel: own, runs },
      { storage: mask, panel, runs: maskRuns },
    ];
  };
  if (mayDiverge(s, { ops: KEEP_OWN, leaves: leavesOf(at(groups, 0, "group"), 0) }, "f16")) return undefined;
  const rows = heads.heads * m;
  const storage = addTemp(s, node, "f16", { rows, panels });
  for (const group of groups)
    for (let panel = 0; panel * lanes < group.count * size; panel++)
      pushTask(s, {
        rows: group.count * m,
        ops: KEEP_OWN,
        leaves: leavesOf(group, panel),
        storage,
        panel,
        row: group.first * m,
        origin: originOf(s, node),
      });
  const shape = [rows, panels * lanes];
  const dims = [[{ extent: rows, row: 1, column: 0 }], [{ extent: panels * lanes, row: 0, column: 1 }]];
  s.copies.set(key, { storage, shape, view: { dims, row: 0, column: 0 } });
  return storage;
};
