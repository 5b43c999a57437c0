/**
 * What every two chips of a group send each other: a block of rows of a storage for each, in the order of chips.
 *
 * All chips run this plan, which is written as that of the first: its own rows are block 0, those of the chip that is so many
 * behind it the block of that number. A chip sends to the one r behind it while it receives from the one r before it.
 */

import { at } from "../../../diagnostics.js";
import { DTYPES } from "../../../ir/dtype.js";
import { type Leaf, RECEIVED, type StorageId, type StorageType } from "../../../ir/plan.js";
import { dealingOf } from "../../../ir/plan/wires.js";
import type { Node } from "../../../ir/graph.js";
import { addTemp, copyOfLeaf, originOf, pushTask, type Selection, type Space, storageAt } from "../selection.js";

/** A storage of so many panels, each of a block of `rows` rows for every chip. */
export const addBlocks = (
  s: Selection,
  node: Node,
  dtype: StorageType,
  { rows, panels }: Pick<Space, "rows" | "panels">,
  use: { readonly dealt?: true } = {},
): StorageId => {
  const blocks = s.peers.length;
  return addTemp(s, node, dtype, { rows: rows * blocks, panels }, { blocks, ...use });
};

/** Rows of a panel that go over the wires: within each block from `row` on. */
export interface Exchanged {
  readonly storage: StorageId;
  readonly panel: number;
  readonly row: number;
  readonly rows: number;
  /** What the chip so many behind this one is to have, and for 0 this one. */
  readonly leafFor: (peer: number) => Leaf;
}

/** Exchanges of a node, one after the other: their rows take the links in turns. */
export const exchanges = (s: Selection, node: Node): ((exchanged: Exchanged) => void) => {
  const origin = originOf(s, node);
  let sent = 0;
  return ({ storage, panel, row, rows, leafFor }) => {
    const { dtype, rows: all, blocks = 1 } = storageAt(s, storage);
    pushTask(s, { rows, ops: [copyOfLeaf(dtype, 0)], leaves: [leafFor(0)], storage, panel, row, origin });
    const none = { rows, passes: [], ops: [], origin };
    for (const [peer, links] of s.peers.entries()) {
      if (peer === 0) continue;
      const behind = s.peers.length - peer;
      const first = sent % dealingOf(s.target, links.length, DTYPES[dtype].bytes).size;
      const wire = { name: `${storage}/${panel} from ${row} by ${peer}`, first, twin: true } as const;
      s.tasks.push({ ...none, leaves: [leafFor(peer)], outputs: [], wire: { ...wire, kind: "send", links } });
      const block = { op: RECEIVED, storage, panel, row: (behind * all) / blocks + row };
      const before = at(s.peers, behind, "peer");
      s.tasks.push({ ...none, leaves: [], outputs: [block], wire: { ...wire, kind: "receive", links: before } });
    }
    sent += rows;
  };
};
