/**
 * The concat rule: along an axis that lies on rows, each part is copied to its rows.
 *
 * Concatenation along the lanes has become a sum of matmuls before selection (lane-maps.ts), so a result that is read is
 * row-major and every part is a view of it. A state may lie otherwise: where the axis lies on its lanes, each part is brought
 * to its columns, and lane by lane one of them is taken.
 */

import type { Place } from "../../../ir/recipe.js";
import { at, invariant } from "../../../diagnostics.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import { numberAttr } from "../../../ir/ops/attributes.js";
import type { AluOp, Leaf, Run, StorageId, StorageType } from "../../../ir/plan.js";
import { combinations, largestDivisor } from "../layout/digits.js";
import { type FactorPair, factorPairs, leafOf, type Located, runsOf } from "../layout/operand.js";
import { stripCasts } from "../fuse.js";
import { columnsOf, chainOperand } from "./chain.js";
import { relayout } from "../layout/move.js";
import {
  addTemp,
  constantOnce,
  copyOfLeaf,
  mapId,
  nodeAt,
  originOf,
  pushTask,
  rowBlock,
  rowBlocks,
  rowRun,
  type Selection,
  spaceOf,
  storageAt,
  storedType,
} from "../selection.js";
import type { Target } from "../../../ir/target.js";
import { locate } from "../value.js";
import { type Layout, naturalLayout, normalize, partOf, reshapeView, type View } from "../layout/view.js";

export const lowerConcat = (s: Selection, node: Node): Located => {
  const axis = numberAttr(node.attrs, "axis");
  const layout = naturalLayout(node.type.shape);
  invariant(axis !== layout.shape.length - 1, "concat on lanes has become a matmul");
  const storage = addTemp(s, node, storedType(node), spaceOf(s.target, layout));
  joinRows(s, node, partsOf(s, node, layout), storage);
  const value = { storage, ...layout };
  s.located.set(node.id, value);
  return value;
};

/** Copies rows of a panel of what is joined, once more: `made` are those that were stored, all others are read where they lie. */
export interface Joined {
  readonly copy: (
    panel: number,
    made: Run,
    rows: Run,
  ) => { readonly ops: readonly AluOp[]; readonly leaves: readonly Leaf[] };
  /** Whether there are zeros on lanes that no element uses. */
  readonly isClean: boolean;
}

/** Stores what a concat joins, that it may be copied to where it lies as told. */
export const joinInto = (s: Selection, node: Node, layout: Layout, storage: StorageId): Joined => {
  const parts = partsOf(s, node, layout);
  const along = at(layout.view.dims, numberAttr(node.attrs, "axis"), "dim");
  if (along.some(({ column }) => column !== 0)) return joinLanes(s, node, parts, storage);
  joinRows(s, node, parts, storage);
  const ops = [copyOfLeaf(storageAt(s, storage).dtype, 0)];
  return {
    copy: (panel, made) => ({ ops, leaves: [{ storage, panel, runs: [made] }] }),
    isClean: false,
  };
};

/** A part, and the places of the result that are its own. */
interface JoinedPart {
  readonly id: NodeId;
  readonly own: Layout;
}

const partsOf = (s: Selection, node: Node, full: Layout): readonly JoinedPart[] => {
  const axis = numberAttr(node.attrs, "axis");
  let first = 0;
  return node.inputs.map((id) => {
    const count = at(nodeAt(s, id).type.shape, axis, "extent");
    const own = partOf(full, axis, first, count);
    invariant(own !== undefined, "a part of an axis that is one digit is a view");
    first += count;
    return { id, own };
  });
};

const joinRows = (s: Selection, node: Node, parts: readonly JoinedPart[], storage: StorageId): void => {
  const { panels } = storageAt(s, storage);
  for (const { id, own } of parts) {
    const { value, fit } = chainOperand(s, id, own);
    for (const range of rowRanges(own.view))
      for (const { row, rows } of rowBlocks(range.rows, rowBlock(s.target, range.rows), range.row))
        for (let panel = 0; panel < panels; panel++)
          pushTask(s, {
            rows,
            ops: [copyOfLeaf(storageAt(s, value.storage).dtype, 0)],
            // The operand's rows are those of its own part.
            leaves: [leafOf(value, fit, panel, row - own.view.row, rows)],
            storage,
            panel,
            row,
            origin: originOf(s, node),
          });
  }
};

/** Lanes of a panel of the result, and where they come from. */
interface Turned {
  readonly panel: number;
  readonly from: number;
  /** By lane of the result, the lane of the source; undefined of lanes that come from elsewhere. */
  readonly lanes: ReadonlyMap<number, number>;
}

/** Lanes that a value brings to a panel of the result; `lanes` are those of the value, by lane of the result. */
interface Brought {
  readonly panel: number;
  readonly leaf: (rows: Run) => Leaf;
  readonly lanes: ReadonlyMap<number, number>;
}

/**
 * Lanes that turn are stored together where they come from, a vector for each of the result, and turn at the SXM when they are
 * copied; what lies on its lanes already, or comes from lanes that are taken, is laid over them then.
 */
const joinLanes = (s: Selection, node: Node, parts: readonly JoinedPart[], storage: StorageId): Joined => {
  const { dtype, rows, panels } = storageAt(s, storage);
  const turning = turnedParts(s, parts);
  const turned = turning.flatMap((leaves) => leaves ?? []).filter(turns);
  const isOneLeft = turning.filter((leaves) => leaves === undefined).length === 1;
  const packed = (part: JoinedPart): readonly Brought[] | undefined =>
    isOneLeft ? leavesOfPacked(s, part, freeLanes(s.target, turned, part)) : undefined;
  const brought = parts.flatMap((part, index) => turning[index] ?? packed(part) ?? leavesInPlace(s, part));
  const byPanel = Array.from({ length: panels }, (_, panel) => {
    const own = brought.filter((one) => one.panel === panel);
    const moving = own.filter(turns);
    const lanes = new Map(moving.flatMap((one) => [...one.lanes]));
    return {
      gathered: overlaid(
        s,
        dtype,
        moving.map(({ leaf, lanes }) => ({ leaf, lanes: [...lanes.values()] })),
      ),
      map: lanes.size > 0 ? mapOf(s, lanes) : undefined,
      staying: own.filter((one) => !turns(one)).map(({ leaf, lanes }) => ({ leaf, lanes: [...lanes.keys()] })),
    };
  });
  for (const { row, rows: count } of rowBlocks(rows, rowBlock(s.target, rows)))
    for (const [panel, { gathered, map }] of byPanel.entries())
      if (map !== undefined)
        pushTask(s, { rows: count, ...gathered(rowRun(row, count)), storage, panel, row, origin: originOf(s, node) });
  const copies = byPanel.map(({ map, staying }, panel) => {
    const gathered = (made: Run): Leaf => ({ storage, panel, runs: [made], ...(map === undefined ? {} : { map }) });
    return (made: Run) =>
      overlaid(s, dtype, [...(map === undefined ? [] : [{ leaf: () => gathered(made), lanes: [] }]), ...staying]);
  });
  return {
    copy: (panel, made, own) => at(copies, panel, "panel")(made)(own),
    // What turns brings zeros to all lanes but its own.
    isClean: byPanel.every(({ map }) => map !== undefined),
  };
};

const turns = ({ lanes }: Brought): boolean => [...lanes].some(([to, from]) => to !== from);

/**
 * What parts bring that lie on other lanes of the same rows. Of several that would come to a panel from the same lanes only the first is
 * stored there, states before all others, since their rows are written when they are copied: a further state has to be moved, and
 * what is none turns by itself, whenever it is read.
 */
const turnedParts = (s: Selection, parts: readonly JoinedPart[]): readonly (readonly Brought[] | undefined)[] => {
  const values = parts.map(({ id }) => s.loaded.get(stripCasts(s.graph, id).id) ?? locate(s, id));
  const isState = values.map(({ storage }) => storageAt(s, storage).kind === "state");
  const turning = parts.map((part, index) => turnedLeaves(s, part, at(values, index, "value")));
  const taken = new Set<string>();
  for (const [index, leaves] of [...turning.entries()].sort(([a], [b]) => Number(isState[b]) - Number(isState[a]))) {
    if (leaves === undefined) continue;
    const sources = leaves
      .filter(turns)
      .flatMap(({ panel, lanes }) => [...lanes.values()].map((lane) => `${panel} ${lane}`));
    if (!sources.some((source) => taken.has(source))) for (const source of sources) taken.add(source);
    else turning[index] = isState[index] === true ? undefined : leaves.map((one) => turnedAlone(s, one));
  }
  return turning;
};

/** What turns whenever it is read, and so lies on its lanes. */
const turnedAlone = (s: Selection, { panel, leaf, lanes }: Brought): Brought => {
  const map = mapOf(s, lanes);
  const own = new Map([...lanes.keys()].map((lane) => [lane, lane]));
  return { panel, leaf: (rows) => ({ ...leaf(rows), map }), lanes: own };
};

/** The permutation that brings lanes to where they are wanted, with zeros on all others. */
const mapOf = (s: Selection, lanes: ReadonlyMap<number, number>): number =>
  mapId(
    s,
    Int16Array.from({ length: s.target.lanes }, (_, lane) => lanes.get(lane) ?? -1),
  );

/** Vectors laid over one another: of each these lanes, which are no other's; all others are of the first. */
export const overlaid = (
  s: Selection,
  dtype: StorageType,
  layers: readonly { readonly leaf: (rows: Run) => Leaf; readonly lanes: readonly number[] }[],
): ((rows: Run) => { readonly ops: readonly AluOp[]; readonly leaves: readonly Leaf[] }) => {
  const named = layers.flatMap(({ lanes }) => lanes);
  invariant(new Set(named).size === named.length, "vectors that are laid over one another have lanes of their own");
  const masks = layers.slice(1).map(({ lanes }) => {
    const places = lanes.map((lane): Place => [0, lane]);
    return constantOnce(s, {
      name: "mask",
      rows: 1,
      panels: 1,
      recipe: { kind: "points", vectors: 1, value: 1, places },
    });
  });
  const select = masks.map(
    (_, index): AluOp => ({
      fn: "select",
      args: [{ leaf: layers.length + index }, { leaf: index + 1 }, index === 0 ? { leaf: 0 } : { op: index - 1 }],
    }),
  );
  const ops = select.length > 0 ? select : [copyOfLeaf(dtype, 0)];
  return (rows) => ({
    ops,
    leaves: [
      ...layers.map(({ leaf }) => leaf(rows)),
      ...masks.map((storage) => ({ storage, panel: 0, runs: [{ row: 0, step: 0, count: rows.count }] })),
    ],
  });
};

/** A part that lies on other lanes of the same rows; undefined where two lanes of a panel would come from one lane. */
const turnedLeaves = (s: Selection, { own }: JoinedPart, value: Located): readonly Brought[] | undefined => {
  const pairs = factorPairs(own.view, own.shape, value.view);
  const stays = pairs?.every(([to, from]) =>
    to.row === 0 ? to.column !== 0 && from.row === 0 && from.column !== 0 : from.column === 0,
  );
  if (pairs === undefined || stays !== true || value.repeated !== undefined || value.plus !== undefined)
    return undefined;
  const digits = pairs
    .filter(([to]) => to.row !== 0)
    .map(([to, from]) => ({ extent: to.extent, out: to.row, row: from.row }));
  const found = turnsOf(
    s.target,
    own.view.column,
    value.view.column,
    pairs.filter(([to]) => to.column !== 0),
  );
  const sources = found.flatMap(({ panel, lanes }) => [...lanes.values()].map((lane) => `${panel} ${lane}`));
  if (new Set(sources).size < sources.length) return undefined;
  return found.map(
    ({ panel, from, lanes }): Brought => ({
      panel,
      lanes,
      leaf: ({ row, step, count }) => ({
        storage: value.storage,
        panel: from,
        runs: runsOf({ digits, row: value.view.row }, row, count, step),
      }),
    }),
  );
};

const turnsOf = (
  { lanes: width }: Target,
  first: number,
  source: number,
  pairs: readonly FactorPair[],
): readonly Turned[] => {
  const found = new Map<string, { panel: number; from: number; lanes: Map<number, number> }>();
  for (const { to, from } of combinations(pairs, "column", "column")) {
    const [panel, origin] = [Math.floor((first + to) / width), Math.floor((source + from) / width)];
    const key = `${panel} ${origin}`;
    const known = found.get(key) ?? { panel, from: origin, lanes: new Map<number, number>() };
    found.set(key, known);
    known.lanes.set((first + to) % width, (source + from) % width);
  }
  return [...found.values()];
};

/** Lanes `from` .. `from + count - 1`. */
interface FreeLanes {
  readonly from: number;
  readonly count: number;
}

/** The longest run of lanes from which nothing turns to the panels of a part. */
const freeLanes = ({ lanes }: Target, turning: readonly Brought[], { own }: JoinedPart): FreeLanes => {
  const panels = new Set(columnsOf(own.view).map((column) => Math.floor(column / lanes)));
  const taken = new Set(turning.filter(({ panel }) => panels.has(panel)).flatMap((one) => [...one.lanes.values()]));
  let best = { from: 0, count: 0 };
  for (let from = 0, lane = 0; lane < lanes; lane++) {
    if (taken.has(lane)) from = lane + 1;
    else if (lane + 1 - from > best.count) best = { from, count: lane + 1 - from };
  }
  return best;
};

/**
 * A part that is to lie on other rows is brought to them side by side, in as few panels as the free lanes allow, and turns to its
 * lanes from there: a few of them in each of many panels would be a copy as large as all that it is joined with.
 */
const leavesOfPacked = (s: Selection, part: JoinedPart, free: FreeLanes): readonly Brought[] | undefined => {
  const { view, shape } = part.own;
  const onLanes = view.dims.flat().filter(({ column }) => column !== 0);
  const count = onLanes.reduce((product, { extent }) => product * extent, 1);
  const inner = largestDivisor(count, free.count);
  if (inner < 2 || count / inner >= spaceOf(s.target, part.own).panels) return undefined;
  const packed = reshapeView(
    {
      dims: [
        [
          ...(count > inner ? [{ extent: count / inner, row: 0, column: s.target.lanes }] : []),
          { extent: inner, row: 0, column: 1 },
        ],
      ],
      row: 0,
      column: 0,
    },
    onLanes.map(({ extent }) => extent),
  );
  if (packed === undefined) return undefined;
  const places = new Map(onLanes.map((factor, index) => [factor, at(packed.dims, index, "digit")]));
  const dims = view.dims.map((factors) => factors.flatMap((factor) => places.get(factor) ?? [factor]));
  const value = relayout(s, part.id, locate(s, part.id), { view: { dims, row: 0, column: free.from }, shape });
  return turnedLeaves(s, part, value);
};

/** A part moved to its lanes, if it does not lie there. */
const leavesInPlace = (s: Selection, { id, own }: JoinedPart): readonly Brought[] => {
  const { value, fit } = chainOperand(s, id, own);
  const columns = columnsOf(own.view);
  const panels = new Set(columns.map((column) => Math.floor(column / s.target.lanes)));
  return [...panels].map(
    (panel): Brought => ({
      panel,
      lanes: new Map(
        columns
          .filter((column) => Math.floor(column / s.target.lanes) === panel)
          .map((column) => [column % s.target.lanes, column % s.target.lanes]),
      ),
      leaf: ({ row, step, count }) => leafOf(value, fit, panel, row, count, step),
    }),
  );
};

/** Contiguous ranges of rows that a view covers. */
const rowRanges = (view: View): readonly { readonly row: number; readonly rows: number }[] => {
  const factors = normalize(view.dims.flat().filter((f) => f.row !== 0)).sort((x, y) => y.row - x.row);
  const inner = factors[factors.length - 1];
  const rows = inner?.row === 1 ? inner.extent : 1;
  let starts = [view.row];
  for (const f of inner?.row === 1 ? factors.slice(0, -1) : factors)
    starts = starts.flatMap((start) => Array.from({ length: f.extent }, (_, i) => start + i * f.row));
  return starts.map((row) => ({ row, rows }));
};
