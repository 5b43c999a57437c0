/**
 * The gather rule: what each chip has is sent to all others, and lies on all of them block by block, in the order of chips.
 * The node is along a first axis of extent 1 (passes/graph/shard/chip.ts), so blocks are runs of rows.
 */

import { sure } from "../../../diagnostics.js";
import type { Node } from "../../../ir/graph.js";
import type { Leaf } from "../../../ir/plan.js";
import { fitOperand, leafOf } from "../layout/operand.js";
import { type Operand, chainOperand } from "./chain.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  operandAt,
  operandId,
  originOf,
  pushChain,
  rowBlock,
  rowBlocks,
  type Selection,
  type Space,
  spaceOf,
  storageAt,
} from "../selection.js";
import { naturalLayout } from "../layout/view.js";
import { addBlocks, exchanges } from "./exchange.js";

export const lowerGather = (s: Selection, node: Node): void => {
  const space = spaceOf(s.target, naturalLayout(operandAt(s, node, 0).type.shape));
  const { value, fit } = sendable(s, node, space);
  const storage = addBlocks(s, node, storageAt(s, value.storage).dtype, space);
  const exchange = exchanges(s, node);
  for (const { row, rows } of rowBlocks(space.rows, rowBlock(s.target, space.rows)))
    for (let panel = 0; panel < space.panels; panel++) {
      const leaf = inOrder(leafOf(value, fit, panel, row, rows));
      exchange({ storage, panel, row, rows, leafFor: () => leaf });
    }
  s.located.set(node.id, { storage, ...naturalLayout(node.type.shape) });
};

/** A leaf of one run, rows one after another, be it a single one. */
const inOrder = (leaf: Leaf): Leaf => ({ ...leaf, runs: leaf.runs.map((run) => ({ ...run, step: 1 })) });

/** A value that can be sent, rows one after another as they lie; copied if need be. */
const sendable = (s: Selection, node: Node, space: Space): Operand => {
  const operand = chainOperand(s, operandId(node, 0), space);
  const { value, fit } = operand;
  const { dtype, kind } = storageAt(s, value.storage);
  const blocks = rowBlocks(space.rows, rowBlock(s.target, space.rows));
  const isRun = ({ runs }: Leaf): boolean =>
    runs.length === 1 && runs.every(({ step, count }) => step === 1 || count === 1);
  const lies = blocks.every(({ row, rows }) => isRun(leafOf(value, fit, 0, row, rows)));
  if (lies && kind === "temp") return operand;
  const storage = addTemp(s, node, dtype, space);
  const copy = (panel: number, row: number, rows: number): ReturnType<Chain> => ({
    ops: [copyOfLeaf(dtype, 0)],
    leaves: [leafOf(value, fit, panel, row, rows)],
  });
  pushChain(s, space, copy, storage, originOf(s, node));
  const own = { storage, view: space.view, shape: space.shape };
  return { value: own, fit: sure(fitOperand(s.target, space.view, space.shape, own), "fit of a copy") };
};
