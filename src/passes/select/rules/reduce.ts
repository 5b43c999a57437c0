/**
 * The rule of sums over chips: each chip adds up its part of the vectors, and where all are to have the sum, gathers the others'.
 *
 * Vectors are dealt out in as many lots as there are chips, of equal size: rows of each panel, if there are enough of them, else
 * whole panels, of which the last are dealt again where they do not divide. Each chip sends every lot but its own to the chip
 * that adds it up, so that a link carries twice a chip's part of all in place of all of it. A sum is made in ascending order of
 * chips, in fp32, and rounded once.
 */

import type { Node } from "../../../ir/graph.js";
import { numberAttr } from "../../../ir/ops/attributes.js";
import type { AluOp, Leaf, StorageId } from "../../../ir/plan.js";
import { leafOf } from "../layout/operand.js";
import { naturalLayout } from "../layout/view.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  operandAt,
  operandId,
  originOf,
  pushChain,
  pushTask,
  rowBlock,
  rowBlocks,
  rowRun,
  type Selection,
  type Space,
  spaceOf,
  storageAt,
} from "../selection.js";
import { chainOperand } from "./chain.js";
import { addBlocks, exchanges } from "./exchange.js";

export const lowerReduce = (s: Selection, node: Node): void => {
  const chips = s.peers.length;
  const space = spaceOf(s.target, naturalLayout(operandAt(s, node, 0).type.shape));
  const isByRows =
    node.op === "all_reduce" ? space.rows % chips === 0 : numberAttr(node.attrs, "axis") < node.type.shape.length - 1;
  const lot = isByRows
    ? { rows: space.rows / chips, panels: space.panels }
    : { rows: space.rows, panels: Math.ceil(space.panels / chips) };
  /** Where the first row of a panel of a lot lies in the whole. */
  const placeOf = (chip: number, panel: number): { readonly panel: number; readonly row: number } =>
    isByRows
      ? { panel, row: chip * lot.rows }
      : { panel: Math.min(chip * lot.panels + panel, space.panels - 1), row: 0 };
  const storage = summed(s, node, lot, dealt(s, node, space, lot, placeOf));
  if (node.op === "reduce_scatter") {
    s.located.set(node.id, { storage, ...naturalLayout(node.type.shape) });
    return;
  }
  const all = everywhere(s, node, lot, storage);
  s.located.set(node.id, { storage: isByRows ? all : inPlace(s, node, space, lot, all), ...space });
};

type Lot = Pick<Space, "rows" | "panels">;
type PlaceOf = (chip: number, panel: number) => { readonly panel: number; readonly row: number };

const stored = (storage: StorageId, panel: number, row: number, count: number): Leaf => ({
  storage,
  panel,
  runs: [{ ...rowRun(row, count), step: 1 }],
});

/** Rows of each panel of a lot, cut as other tasks are. */
const parts = (s: Selection, { rows, panels }: Lot): readonly { panel: number; row: number; rows: number }[] =>
  Array.from({ length: panels }, (_, panel) =>
    rowBlocks(rows, rowBlock(s.target, rows)).map((block) => ({ panel, ...block })),
  ).flat();

/** What this chip has, by lots: all but its own is sent away, and what comes in of its own lies in the order of chips. */
const dealt = (s: Selection, node: Node, space: Space, lot: Lot, placeOf: PlaceOf): StorageId => {
  const { value, fit } = chainOperand(s, operandId(node, 0), space);
  const { dtype } = storageAt(s, value.storage);
  const out = addBlocks(s, node, dtype, lot, { dealt: true });
  const origin = originOf(s, node);
  const own = parts(s, lot);
  for (const { panel, row, rows } of own)
    for (const chip of s.peers.keys()) {
      const from = placeOf(chip, panel);
      const leaf = leafOf(value, fit, from.panel, from.row + row, rows);
      const to = { storage: out, panel, row: chip * lot.rows + row };
      pushTask(s, { rows, ops: [copyOfLeaf(dtype, 0)], leaves: [leaf], ...to, origin });
    }
  const storage = addBlocks(s, node, dtype, lot);
  const exchange = exchanges(s, node);
  for (const { panel, row, rows } of own)
    exchange({ storage, panel, row, rows, leafFor: (peer) => stored(out, panel, peer * lot.rows + row, rows) });
  return storage;
};

/**
 * The sum of all blocks. They lie in the same slices, which give a row a cycle: a burst is so short that each block is read while the
 * ones before it are added up.
 */
const summed = (s: Selection, node: Node, lot: Lot, from: StorageId): StorageId => {
  const chips = [...s.peers.keys()];
  const { dtype } = storageAt(s, from);
  const storage = addTemp(s, node, dtype, lot);
  const ops = chips.map(
    (chip): AluOp => (chip === 0 ? copyOfLeaf(dtype, 0) : { fn: "add", args: [{ op: chip - 1 }, { leaf: chip }] }),
  );
  const origin = originOf(s, node);
  for (let panel = 0; panel < lot.panels; panel++)
    for (const { row, rows } of rowBlocks(lot.rows, s.target.timing.vxmAlu)) {
      const leaves = chips.map((chip) => stored(from, panel, chip * lot.rows + row, rows));
      pushTask(s, { rows, ops, leaves, storage, panel, row, origin });
    }
  return storage;
};

const everywhere = (s: Selection, node: Node, lot: Lot, from: StorageId): StorageId => {
  const storage = addBlocks(s, node, storageAt(s, from).dtype, lot);
  const exchange = exchanges(s, node);
  for (const { panel, row, rows } of parts(s, lot))
    exchange({ storage, panel, row, rows, leafFor: () => stored(from, panel, row, rows) });
  return storage;
};

/** Panels that were dealt out, one beside the other again. */
const inPlace = (s: Selection, node: Node, space: Space, lot: Lot, from: StorageId): StorageId => {
  const { dtype } = storageAt(s, from);
  const storage = addTemp(s, node, dtype, space);
  const chain: Chain = (panel, row, rows) => {
    const chip = Math.floor(panel / lot.panels);
    const leaf = stored(from, panel % lot.panels, chip * lot.rows + row, rows);
    return { ops: [copyOfLeaf(dtype, 0)], leaves: [leaf] };
  };
  pushChain(s, space, chain, storage, originOf(s, node));
  return storage;
};
