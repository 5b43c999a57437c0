/**
 * Moving rows onto lanes: a matmul of the identity with the tensor itself as weights.
 *
 * A row of the source becomes a column of weights, and row i of the identity picks what the lane that becomes row i holds:
 * the product is the transpose. Lanes that become rows are the contracted dim. Invariant: every pass loads a column at most
 * once, and each row of the result gets exactly one non-zero product for each of its columns.
 */

import { at } from "../../../diagnostics.js";
import type { Place, PointsRecipe } from "../../../ir/recipe.js";
import { LOAD_WAYS, type Pass, type StorageId, type WeightLoad } from "../../../ir/plan.js";
import { halfLanes, type Target } from "../../../ir/target.js";
import { combinations, type Move } from "./digits.js";
import { addToPass, halfAt, neighbours, type Passes, passesInOrder } from "./passes.js";
import { constantOnce, longBlock, type Part, pushTask, rowBlocks, rowRun, type Selection } from "../selection.js";

/** Where the identity is one: its row, and the physical column of the source that the row picks. */
type One = readonly [row: number, column: number];

/** Weights that neighbouring lanes of a half make, and the rows of the identity that pick them. */
interface Group {
  readonly loads: readonly Omit<WeightLoad, "storage">[];
  readonly identity: readonly One[];
}

/** Source rows `row`, `row + step`, .. that fill `count` columns of a panel from `column` on. */
interface ColumnRun {
  readonly column: number;
  readonly row: number;
  step: number;
  count: number;
}

/** A pass of one panel, for the first of the rows that stay rows: the others load rows further on. */
interface Picking {
  readonly half: 0 | 1;
  readonly loads: readonly Omit<WeightLoad, "storage">[];
  readonly ones: readonly One[];
  /** Rows with which a group of neighbouring lanes begins. */
  readonly firsts: readonly number[];
}

/** All passes of a panel, and the blocks of rows that they go by. */
interface Picked {
  readonly pickings: readonly Picking[];
  readonly blocks: readonly Block[];
}

interface Block {
  readonly row: number;
  readonly rows: number;
}

export const emitTranspose = (s: Selection, task: Move): void => {
  const { storage, origin } = task;
  const contracted = combinations(task.laneToRow, "row", "column", task.strides).sort((x, y) => x.to - y.to);
  const lanesIn = contracted.map(({ from }) => from);
  const depth = lanesIn.length;
  const panels = Array.from({ length: task.panels }, (_, panel): Picked => {
    const pickings = passesInOrder(transposedParts(s.target, task, lanesIn, panel)).map(
      ({ half, parts }): Picking => ({
        half,
        loads: parts.flatMap(({ loads }) => loads),
        ones: parts.flatMap(({ identity }) => identity),
        firsts: parts.flatMap(({ identity }) => identity.slice(0, 1).map(([row]) => row)),
      }),
    );
    return { pickings, blocks: blocksOf(s.target, pickings, depth) };
  });
  const identities = new Map<string, StorageId>();
  /** The identity of a pass, times a scale; made when it is first asked for. */
  const identityOf = (panel: number, index: number, ones: readonly One[], scale: number): StorageId => {
    const key = `${panel} ${index} ${scale}`;
    const made = identities.get(key) ?? identityStorage(s, depth, ones, scale);
    identities.set(key, made);
    return made;
  };
  for (const outer of combinations(task.rowToRow, "row", "row", task.strides))
    for (const [panel, { pickings, blocks }] of panels.entries()) {
      if (pickings.length === 0) continue;
      const weights = pickings.map(({ loads }) => task.parts.map((part) => loadsFurther(loads, outer.from, part)));
      for (const { row, rows } of blocks)
        pushTask(s, {
          rows,
          passes: pickings.flatMap(({ half, ones }, index) =>
            // None, if all that these rows pick lies in other halves.
            picksFor({ row, rows }, ones)
              ? task.parts.map(({ scale }, part): Pass => {
                  const runs = [rowRun(row, rows)];
                  const identity = identityOf(panel, index, ones, scale);
                  return {
                    storage: identity,
                    panel: 0,
                    half,
                    runs,
                    weights: at(at(weights, index, "pass"), part, "part"),
                  };
                })
              : [],
          ),
          ...task.chain(panel, outer.to + row, rows),
          storage,
          panel,
          row: outer.to + row,
          origin,
          as: task.as,
        });
    }
};

/** Whether a pass picks lanes for some row of a block. */
const picksFor = ({ row, rows }: Block, ones: readonly One[]): boolean =>
  ones.some(([at]) => at >= row && at < row + rows);

/**
 * Blocks of the rows of a panel. The tensor is loaded as weights anew for every block and every half-vector that it picks from,
 * and all rows of a block pass through all of these: blocks are as long as the accumulators allow, and end where a half does,
 * if that makes none short and takes no longer. Where much is loaded, as for a prompt, fewer and longer passes may be shorter.
 */
const blocksOf = (target: Target, pickings: readonly Picking[], depth: number): readonly Block[] => {
  const long = longBlock(target);
  const evenly = (count: number, first: number): readonly Block[] =>
    rowBlocks(count, Math.ceil(count / Math.ceil(count / long)), first);
  const starts = [...new Set(pickings.flatMap(({ firsts }) => firsts))].sort((a, b) => a - b);
  const runs = starts.map((index, run) => ({ index, count: (starts[run + 1] ?? depth) - index }));
  const whole = evenly(depth, 0);
  if (runs.some(({ count }) => count < SHORT_RUN)) return whole;
  const byHalves = runs.flatMap(({ count, index }) => evenly(count, index));
  return cyclesOf(byHalves, pickings) <= cyclesOf(whole, pickings) ? byHalves : whole;
};
/** Rows fewer than which make a block short. */
const SHORT_RUN = 32;

/** Cycles of an array for a panel: a pass takes as long as its rows, or as the weights of the next, which load meanwhile. */
const cyclesOf = (blocks: readonly Block[], pickings: readonly Picking[]): number =>
  sumOf(
    pickings.map(({ ones, loads }) => {
      const load = sumOf(loads.map(({ run }) => run.count)) / LOAD_WAYS;
      return sumOf(blocks.map((block) => (picksFor(block, ones) ? Math.max(block.rows, load) : 0)));
    }),
  );

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0);

const loadsFurther = (loads: Picking["loads"], row: number, { storage }: Part): WeightLoad[] =>
  loads.map(({ panel, run, half, first, lanes, column }) => ({
    panel,
    run: { row: run.row + row, step: run.step, count: run.count },
    half,
    first,
    lanes,
    column,
    storage,
  }));

/** Parts by half-vector, for one panel of the destination and the first of the rows that stay rows. */
const transposedParts = (
  target: Target,
  { value, column, rowToLane, laneToLane }: Move,
  lanesIn: readonly number[],
  panel: number,
): Passes<Group> => {
  const { lanes } = target;
  const half = halfLanes(target);
  const spread = combinations(rowToLane, "column", "row");
  const passes: Passes<Group> = new Map();
  for (const group of combinations(laneToLane, "column", "column")) {
    const runs = columnRuns(spread, column + group.to - panel * lanes, lanes);
    if (runs.length === 0) continue;
    const places = lanesIn.map((from) => value.view.column + group.from + from);
    for (const { index, at, count } of neighbours(places, half)) {
      const loads = runs.map(
        (run): Omit<WeightLoad, "storage"> => ({
          panel: Math.floor(at / lanes),
          run: { row: value.view.row + run.row, step: run.step, count: run.count },
          half: halfAt(Math.floor(at / half)).half,
          first: at % half,
          lanes: count,
          column: run.column,
        }),
      );
      const identity = Array.from({ length: count }, (_, i): One => [index + i, at + i]);
      addToPass(passes, Math.floor(at / half), { loads, identity }, (other) =>
        other.loads.some((load) => runs.some((run) => run.column === load.column)),
      );
    }
  }
  return passes;
};

/** Runs of source rows that fill neighbouring columns; `base`: column of the panel at which the spread starts. */
const columnRuns = (
  spread: readonly { readonly to: number; readonly from: number }[],
  base: number,
  lanes: number,
): readonly ColumnRun[] => {
  const runs: ColumnRun[] = [];
  for (const { to, from } of [...spread].sort((x, y) => x.to - y.to)) {
    const column = base + to;
    if (column < 0 || column >= lanes) continue;
    const last = runs[runs.length - 1];
    const follows = last !== undefined && column === last.column + last.count;
    if (follows && (last.count === 1 || from === last.row + last.step * last.count)) {
      if (last.count === 1) last.step = from - last.row;
      last.count++;
    } else runs.push({ column, row: from, step: 0, count: 1 });
  }
  return runs;
};

/** A constant of `rows` rows that are `scale` at the given places and zero elsewhere. */
const identityStorage = (s: Selection, rows: number, ones: readonly One[], scale: number): StorageId => {
  const places = ones.map(([row, column]): Place => [row, column % s.target.lanes]);
  const recipe: PointsRecipe = { kind: "points", vectors: rows, value: scale, places };
  return constantOnce(s, { name: "identity", rows, panels: 1, recipe });
};
