/**
 * Products: passes of half-vectors through weights, for every panel and block of rows of a result.
 *
 * Every batch index of the result is a block of columns of some rows. Rows whose batch indices need other weights have
 * passes of their own (segments); within a segment, the K values of every block are cut where they leave a half-vector, and
 * what lies in one half shares a pass. Invariant: over the passes of a task, every column of every block meets each of its K
 * values exactly once.
 */

import { at, fail } from "../../../diagnostics.js";
import { elementCount, type Shape } from "../../../ir/graph.js";
import { isLaneMap } from "../../../ir/literals.js";
import { type AluOp, alusOf, type Argument, type Leaf, type Pass, type StorageId } from "../../../ir/plan.js";
import { halfLanes, type Target } from "../../../ir/target.js";
import type { Arrangement, Block, DeepPass, PanelPasses, Segment } from "../layout/arrangement.js";
import { factorPairs, type RowDigit, runsOf } from "../layout/operand.js";
import { FILLED_SUMS } from "../padding.js";
import { addToPass, neighbours, type Passes, passesInOrder } from "../layout/passes.js";
import { tailPasses } from "../tail-tiles.js";
import { tailLoads } from "../tails.js";
import { cutsOfK, passWeights, type Product, type SecondOperand, weightBatch } from "../weights.js";
import {
  addStorage,
  type Chain,
  COPY,
  isTight,
  longBlock,
  pushTask,
  rowBlock,
  rowBlocks,
  rowRun,
  type Selection,
} from "../selection.js";
import { expandView, type Factor, offsetAt, offsetsOf, type View } from "../layout/view.js";

export const emitProduct = (s: Selection, product: Product): void => {
  const arrangement = arrangementOf(s, product);
  const { space, name, storage } = product;
  const inShares = takesShares(product, arrangement)
    ? addStorage(s, { name, dtype: "f32", rows: space.rows, panels: space.panels, kind: "temp" })
    : undefined;
  for (const { segment, panels: all } of arrangement.segments) {
    const panels = all.map(({ panel, passes }) => ({ panel, passes: passesThatMove(s, product, passes) }));
    for (const { row, rows } of rowBlocks(segment.rows, blockOf(s, product, segment.rows), segment.row))
      for (const { panel, passes } of panels) {
        const place = { panel, row, rows };
        const emit = (list: readonly DeepPass[], chain: ReturnType<Chain>, to: StorageId): void =>
          emitPasses(s, product, arrangement, { ...place, passes: list, chain, to });
        const chain = product.chain(panel, row, rows);
        const [own, other] = sharesOf(passes);
        const joined =
          inShares === undefined
            ? undefined
            : withShare(s, chain, { storage: inShares, panel, runs: [rowRun(row, rows)] });
        if (inShares === undefined || joined === undefined || other.length === 0) emit(passes, chain, storage);
        else {
          emit(other, COPY(panel, row, rows), inShares);
          emit(own, joined, storage);
        }
      }
  }
};

/** Passes whose sums go through a chain to rows of a panel. */
interface SummedPasses {
  readonly panel: number;
  readonly row: number;
  readonly rows: number;
  readonly passes: readonly DeepPass[];
  readonly chain: ReturnType<Chain>;
  readonly to: StorageId;
}

const emitPasses = (s: Selection, product: Product, arrangement: Arrangement, sums: SummedPasses): void =>
  pushTask(s, {
    rows: sums.rows,
    passes: [...passesOf(s, product, arrangement, sums), ...passesOfRests(s, product, sums)],
    ...sums.chain,
    storage: sums.to,
    panel: sums.panel,
    row: sums.row,
    origin: product.origin,
    passOrigin: product.passOrigin,
    as: sums.to === product.storage ? product.as : undefined,
    sums: product.fill ? FILLED_SUMS : undefined,
  });

const passesOf = (
  s: Selection,
  product: Product,
  { digits }: Arrangement,
  { row, rows, passes }: Pick<SummedPasses, "row" | "rows" | "passes">,
): readonly Pass[] =>
  passes.flatMap((pass) => {
    const { panel: from, half, depth, parts: blocks } = pass;
    const runs = runsOf({ digits, row: product.a.view.row + depth }, row, rows);
    return product.parts.flatMap((part): readonly Pass[] => {
      const { storage, scale } = part;
      const shared = tailPasses(s, product, pass, part, runs);
      if (shared !== undefined) return shared;
      const weights = tailLoads(s, product, blocks, scale) ?? passWeights(s.target, product, blocks, scale);
      return [{ storage, panel: from, half, runs, weights }];
    });
  });

/** Passes over what K leaves, for the same columns: a product of its own, but for its sums. */
const passesOfRests = (s: Selection, product: Product, { panel, row, rows }: SummedPasses): readonly Pass[] => {
  const { rests, ...rest } = product;
  if (rests === undefined) return [];
  const own: Product = { ...rest, ...rests, parts: [{ storage: rests.a.storage, scale: 1 }] };
  const arrangement = arrangementOf(s, own);
  return arrangement.segments
    .filter(({ segment }) => segment.row <= row && row < segment.row + segment.rows)
    .flatMap(({ panels }) => panels.filter((one) => one.panel === panel))
    .flatMap(({ passes }) => passesOf(s, own, arrangement, { row, rows, passes }));
};

/* ---------- shares ---------- */

/**
 * Whether sums over more than a panel of K are made in two shares, one for each array: those over a past and what is new. Few rows
 * meet many columns of weights there, and a past that lies in both hemispheres loads into both arrays at once.
 */
const takesShares = ({ weights, sums }: Product, { segments }: Arrangement): boolean =>
  weights.kind === "stored" &&
  weights.along === "k" &&
  sums === undefined &&
  segments.every(({ panels }) => panels.every(({ passes }) => new Set(passes.map(({ panel }) => panel)).size > 1));

/** Passes over the first half of the panels of activations, and those over the others. */
const sharesOf = (passes: readonly DeepPass[]): readonly [readonly DeepPass[], readonly DeepPass[]] => {
  const panels = [...new Set(passes.map(({ panel }) => panel))].sort((a, b) => a - b);
  const first = new Set(panels.slice(0, Math.ceil(panels.length / 2)));
  return [passes.filter(({ panel }) => first.has(panel)), passes.filter(({ panel }) => !first.has(panel))];
};

/** A chain that adds a share to the sums before all else; undefined if it would take more ALUs than there are, or turns them. */
export const withShare = (
  { target }: Selection,
  { ops, leaves }: ReturnType<Chain>,
  share: Leaf,
): ReturnType<Chain> | undefined => {
  const sums: Argument = { op: 0 };
  const moved = (argument: Argument): Argument => {
    if ("mxm" in argument) return sums;
    return "op" in argument ? { op: argument.op + 1 } : argument;
  };
  const added: AluOp = { fn: "add", args: [{ mxm: true }, { leaf: leaves.length }] };
  const joined = [added, ...ops.map((op) => ({ ...op, args: op.args.map(moved) }))];
  const turns = ops.some(({ args }) => args.some((argument) => "mxm" in argument && argument.map !== undefined));
  return turns || alusOf(joined) > target.alus ? undefined : { ops: joined, leaves: [...leaves, share] };
};

/** Of passes by a lane map those that move a lane: the others add zeros. One is left where none does, which makes the zeros. */
const passesThatMove = (s: Selection, { weights }: Product, passes: readonly DeepPass[]): readonly DeepPass[] => {
  const matrix = weights.kind === "constant" ? weights.matrix : undefined;
  const map = matrix !== undefined && "literal" in matrix ? s.literals.get(matrix.literal) : undefined;
  if (!isLaneMap(map)) return passes;
  const moving = passes.filter(({ parts }) =>
    parts.some(({ k, count, n, columns }) =>
      map.laneMap.some(({ from, to }) => from >= k && from < k + count && to >= n && to < n + columns),
    ),
  );
  return moving.length > 0 ? moving : passes.slice(0, 1);
};

/** It depends on how operands and result lie alone, and is made once for all products of a kind. */
const arrangementOf = (s: Selection, product: Product): Arrangement => {
  const { a, space, weights, fill } = product;
  const parts = weights.kind === "stored" ? [weights.along, weights.parts.map(({ from, count }) => [from, count])] : [];
  const { view, shape, panels } = space;
  const key = JSON.stringify([a.view, a.shape, view, shape, panels, fill, weights.kind, weights.shape, parts]);
  const known = s.arrangements.get(key);
  if (known !== undefined) return known;
  const places = placesOf(s.target, product);
  const digits = rowDigits(space.view, places.a, [...places.batchShape, places.m]);
  const segments = segmentsOf(product, places).map((segment) => ({
    segment,
    panels: panelsOf(s.target, product, places, segment),
  }));
  const arrangement = { digits, segments };
  s.arrangements.set(key, arrangement);
  return arrangement;
};

/* ---------- places ---------- */

/** Extents of a product, and where its operands and its result lie for each batch index. */
interface Places {
  readonly batchShape: Shape;
  readonly m: number;
  readonly n: number;
  /** The activations, broadcast to the batch dims of the result. */
  readonly a: View;
  /** First row and first column of the result for a batch index. */
  readonly rowOf: (batch: number) => number;
  readonly columnOf: (batch: number) => number;
  /** How far down the activations' rows lie for a batch index, beyond what the row of the result says. */
  readonly depthOf: (batch: number) => number;
  /** Column of the activations' first K value for a batch index. */
  readonly firstOfK: (batch: number) => number;
  /** Columns of their K values, cut where they leave a half-vector or a row, and where other weights begin. */
  readonly partsOfK: (batch: number) => readonly PartOfK[];
}

/** K values `index` .. `index + count - 1` on columns from `at` of a row so far down. */
interface PartOfK {
  readonly index: number;
  readonly at: number;
  readonly count: number;
  readonly depth: number;
}

/** K values of one row of the activations, ascending, and their columns; `cuts`: positions among them before which a part ends. */
interface RowOfK {
  readonly depth: number;
  readonly numbers: readonly number[];
  readonly columns: readonly number[];
  readonly cuts: ReadonlySet<number>;
}

const rowsOfK = (dim: readonly Factor[], weights: SecondOperand): readonly RowOfK[] => {
  const cuts = new Set(cutsOfK(weights));
  const columns = offsetsOf(dim, "column");
  const byRow = new Map<number, number[]>();
  for (const [k, row] of offsetsOf(dim, "row").entries()) {
    const known = byRow.get(row);
    if (known === undefined) byRow.set(row, [k]);
    else known.push(k);
  }
  return [...byRow].map(([depth, numbers]) => ({
    depth,
    numbers,
    columns: numbers.map((k) => at(columns, k, "column")),
    cuts: new Set(
      numbers.flatMap((k, i) => (i > 0 && (cuts.has(k) || at(numbers, i - 1, "K value") !== k - 1) ? [i] : [])),
    ),
  }));
};

const placesOf = (target: Target, { a, space, weights }: Product): Places => {
  const batchShape = space.shape.slice(0, -2);
  const [m = 1, n = 1] = space.shape.slice(-2);
  const k = at(a.shape, a.shape.length - 1, "extent");
  const wide = expandView(a.view, [...batchShape, m, k]);
  const kDim = at(wide.dims, batchShape.length + 1, "dim");
  const kRows = rowsOfK(kDim, weights);
  const batchDims = space.view.dims.slice(0, -2);
  const firstOfK = (batch: number): number =>
    a.view.column + offsetAt(wide.dims.slice(0, -2), batchShape, batch, "column");
  const parts = new Map<number, readonly PartOfK[]>();
  const besides = batchShape.map((_, axis) => (onRows(space.view, axis) ? [] : at(wide.dims, axis, "dim")));
  return {
    batchShape,
    m,
    n,
    a: wide,
    rowOf: (batch) => space.view.row + offsetAt(batchDims, batchShape, batch, "row"),
    columnOf: (batch) => space.view.column + offsetAt(batchDims, batchShape, batch, "column"),
    depthOf: (batch) => offsetAt(besides, batchShape, batch, "row"),
    firstOfK,
    partsOfK: (batch) => {
      const first = firstOfK(batch);
      const known = parts.get(first);
      if (known !== undefined) return known;
      const cut = kRows.flatMap(({ depth, numbers, columns, cuts }) => {
        const places = columns.map((column) => first + column);
        return neighbours(places, halfLanes(target), cuts).map((part) => ({
          ...part,
          index: at(numbers, part.index, "K value"),
          depth,
        }));
      });
      parts.set(first, cut);
      return cut;
    },
  };
};

/** Whether a dim lies on rows, at least in part. */
const onRows = (view: View, axis: number): boolean => at(view.dims, axis, "dim").some(({ row }) => row !== 0);

/** Rows of the operand for the rows of the result. */
const rowDigits = (space: View, a: View, shape: Shape): RowDigit[] => {
  const axes = shape.flatMap((_, axis) => (onRows(space, axis) ? [axis] : []));
  const dimsOf = (view: View): View => ({ ...view, dims: axes.map((axis) => at(view.dims, axis, "dim")) });
  const extents = axes.map((axis) => at(shape, axis, "extent"));
  const pairs = factorPairs(dimsOf(space), extents, dimsOf(a));
  if (pairs === undefined)
    fail("LPU2201", {
      message: `cannot lay out the rows of a product of [${shape.join(",")}]`,
      hint: "a number of tokens that neither divides nor is divided by what lies on lanes is not supported here yet",
    });
  return pairs.filter(([f]) => f.row !== 0).map(([f, g]) => ({ extent: f.extent, out: f.row, row: g.row }));
};

/* ---------- segments ---------- */

const segmentsOf = ({ weights }: Product, places: Places): Segment[] => {
  const weightOf = weightBatch(weights, places.batchShape);
  const byRow = new Map<number, number[]>();
  for (let batch = 0; batch < elementCount(places.batchShape); batch++) {
    const row = places.rowOf(batch);
    byRow.set(row, [...(byRow.get(row) ?? []), batch]);
  }
  // Neighbouring rows with the same weights, activations' columns and result's columns are one segment.
  const segments: { row: number; rows: number; batches: number[]; sameness: string }[] = [];
  for (const [row, batches] of [...byRow].sort((x, y) => x[0] - y[0])) {
    const sameness = JSON.stringify(
      batches.map((batch) => [weightOf(batch), places.depthOf(batch), places.firstOfK(batch), places.columnOf(batch)]),
    );
    const last = segments[segments.length - 1];
    if (last !== undefined && last.sameness === sameness && last.row + last.rows === row) last.rows += places.m;
    else segments.push({ row, rows: places.m, batches, sameness });
  }
  return segments;
};

/**
 * Rows of a burst. Computed weights load four columns a cycle at the most: where that takes longer than a short block of
 * rows computes, blocks are as long as the accumulators allow; also where tails are unpacked, which stay until the last block.
 */
const blockOf = ({ target, room }: Selection, { weights, space }: Product, rows: number): number => {
  const block = rowBlock(target, rows);
  if (rows > longBlock(target)) return block;
  if (weights.kind === "constant") return isTight(room) ? rows : block;
  const n = at(space.shape, space.shape.length - 1, "extent");
  const columns = Math.min(target.lanes, n) * (space.panels > 1 ? 2 : 1);
  return columns / 4 > block / 2 ? rows : block;
};

/* ---------- passes ---------- */

/** K values of one row that a batch index multiplies. */
interface DeepBlock {
  readonly batch: number;
  readonly part: PartOfK;
}

const panelsOf = (target: Target, product: Product, places: Places, segment: Segment): PanelPasses[] => {
  const byDepth = new Map<number, DeepBlock[]>();
  for (const batch of segment.batches)
    for (const part of places.partsOfK(batch)) {
      const depth = places.depthOf(batch) + part.depth;
      const known = byDepth.get(depth);
      if (known === undefined) byDepth.set(depth, [{ batch, part }]);
      else known.push({ batch, part });
    }
  return Array.from({ length: product.space.panels }, (_, panel): PanelPasses => {
    const deep = [...byDepth].map(([depth, blocks]) => ({
      depth,
      made: passesOver(target, product, places, blocks, panel),
    }));
    const all = deep.flatMap(({ made }) => [...made.values()]);
    if (product.fill && all.length > 0) fillColumns(all, target.lanes);
    const passes = deep.flatMap(({ depth, made }) => passesInOrder(made).map((pass) => ({ ...pass, depth })));
    return { panel, passes };
  }).filter(({ passes }) => passes.length > 0);
};

/** The passes that make the columns of some batch indices on a panel, of what one row has. */
const passesOver = (
  target: Target,
  { weights }: Product,
  places: Places,
  deep: readonly DeepBlock[],
  panel: number,
): Passes<Block> => {
  const blocks = deep.flatMap((one) => blockOn(target, places, one, panel));
  const passes: Passes<Block> = new Map();
  for (const { half, block } of blocks)
    addToPass(passes, half, block, (other) => weights.kind === "stored" && other.column === block.column);
  return passes;
};

/** The block of weights that makes those columns of a batch index which lie on a panel, with the half-vector that it multiplies. */
const blockOn = (
  target: Target,
  places: Places,
  { batch, part: { index, at: place, count } }: DeepBlock,
  panel: number,
): readonly { readonly half: number; readonly block: Block }[] => {
  const { lanes } = target;
  const half = halfLanes(target);
  const first = places.columnOf(batch);
  const from = Math.max(first, panel * lanes);
  const to = Math.min(first + places.n, (panel + 1) * lanes);
  if (from >= to) return [];
  const own = { n: from - first, columns: to - from, column: from - panel * lanes };
  return [{ half: Math.floor(place / half), block: { batch, k: index, count, lane: place % half, ...own } }];
};

const fillColumns = (passes: readonly Block[][], lanes: number): void => {
  const used = passes.flat();
  const first = Math.min(...used.map((block) => block.column));
  const end = Math.max(...used.map((block) => block.column + block.columns));
  for (const blocks of passes)
    for (const block of blocks.filter((candidate) => candidate.column === first))
      for (let column = end; column < lanes; column += block.columns)
        blocks.push({ ...block, column, columns: Math.min(block.columns, lanes - column) });
};
