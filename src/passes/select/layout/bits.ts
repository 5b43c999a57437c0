/**
 * Exact values for the MXM: bits in pieces.
 *
 * A product with 0 and 1 moves finite fp16 numbers exactly; an infinity or a NaN would destroy its neighbours, and integers
 * and fp32 numbers do not fit at all. So what is moved is their bits: as whole numbers of at most 11 bits, each exact in
 * fp16, which the array puts together again by powers of two as far as fp32 holds them (24 bits); of four bytes the VXM joins
 * the two halves. Pieces are numbers on every lane, whatever the bits were.
 */

import type { Leaf } from "../../../ir/plan.js";
import { isSpecial } from "../../../ir/ranges.js";
import type { Node, NodeId } from "../../../ir/graph.js";
import type { AluOp, BitsType, StorageId, StorageType } from "../../../ir/plan.js";
import type { Located } from "./operand.js";
import {
  addTemp,
  type Chain,
  COPY,
  nodeAt,
  originOf,
  type Part,
  pushChain,
  rowRun,
  type Selection,
  storageAt,
  storedType,
} from "../selection.js";

/** Products whose sums are whole numbers that fp32 holds; the last one is what the join is done on. */
export type Parts = readonly (readonly Part[])[];

/** How the pieces of an element are cut and joined. */
interface Cut {
  readonly as: BitsType;
  /** Operations that make a piece of leaf 0, and the factor with which it is added; the groups of `Parts`. */
  readonly groups: readonly (readonly {
    readonly name: string;
    readonly ops: readonly AluOp[];
    readonly scale: number;
  }[])[];
}

const BITS = 11;
const LOW = 2 ** BITS - 1;

const OF_TWO_BYTES: Cut = {
  as: "i16",
  groups: [
    [
      { name: "high", ops: [{ fn: "shiftRight", args: [{ leaf: 0, as: "i16" }, { constant: 8 }] }], scale: 2 ** 8 },
      { name: "low", ops: [{ fn: "andBits", args: [{ leaf: 0, as: "i16" }, { constant: 0xff }] }], scale: 1 },
    ],
  ],
};

const OF_FOUR_BYTES: Cut = {
  as: "i32",
  groups: [
    [
      {
        name: "high",
        ops: [{ fn: "shiftRight", args: [{ leaf: 0, as: "i32" }, { constant: 2 * BITS }] }],
        scale: 2 ** BITS,
      },
      {
        name: "middle",
        ops: [
          { fn: "shiftRight", args: [{ leaf: 0, as: "i32" }, { constant: BITS }] },
          { fn: "andBits", args: [{ op: 0 }, { constant: LOW }] },
        ],
        scale: 1,
      },
    ],
    [{ name: "low", ops: [{ fn: "andBits", args: [{ leaf: 0, as: "i32" }, { constant: LOW }] }], scale: 1 }],
  ],
};

const CUTS: Readonly<Record<StorageType, Cut>> = { f16: OF_TWO_BYTES, f32: OF_FOUR_BYTES, i32: OF_FOUR_BYTES };

/** The same tensor in fp16, as the MXM takes it: sums are stored in fp32, and so is what is cast on its way here. */
export const asHalf = (s: Selection, id: NodeId, value: Located): Located => {
  const node = nodeAt(s, id);
  if (storageAt(s, value.storage).dtype === "f16" || storedType(node) !== "f16") return value;
  const copy: readonly AluOp[] = [{ fn: "copy", args: [{ leaf: 0 }] }];
  return { ...value, storage: derivedFrom(s, node, value.storage, "half", copy) };
};

const cutOf = (s: Selection, storage: StorageId): Cut => CUTS[storageAt(s, storage).dtype];

/** Whether moving a node's value by a product of its numbers could change it. */
export const needsBits = (s: Selection, { id, type: { dtype } }: Node): boolean => {
  const range = s.ranges[id];
  return dtype === "i32" || dtype === "f32" || (range !== undefined && isSpecial(range));
};

/** A value as the products that move it take it: as one of its numbers where these are finite fp16, else in pieces. */
export const movable = (
  s: Selection,
  id: NodeId,
  stored: Located,
): { readonly value: Located; readonly parts: Parts } => {
  const node = nodeAt(s, id);
  if (!needsBits(s, node)) {
    const value = asHalf(s, id, stored);
    return { value, parts: [[{ storage: value.storage, scale: 1 }]] };
  }
  const cut = cutOf(s, stored.storage);
  const parts = cut.groups.map((group) =>
    group.map(
      ({ name, ops, scale }): Part => ({ storage: derivedFrom(s, node, stored.storage, `${name} bits`, ops), scale }),
    ),
  );
  return { value: stored, parts };
};

/** What operations make of every element of a storage, in fp16; made once for each `name`. */
const derivedFrom = (s: Selection, node: Node, from: StorageId, name: string, ops: readonly AluOp[]): StorageId => {
  const key = `${name} of ${from}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const { rows, panels } = storageAt(s, from);
  const storage = addTemp(s, node, "f16", { rows, panels });
  const leaves = (panel: number, row: number, count: number): readonly Leaf[] => [
    { storage: from, panel, runs: [rowRun(row, count)] },
  ];
  pushChain(s, { rows, panels }, (...at) => ({ ops, leaves: leaves(...at) }), storage, originOf(s, node));
  s.copies.set(key, { storage, shape: [rows], view: { dims: [], row: 0, column: 0 } });
  return storage;
};

/** A product of some parts into a storage: `as` says that its results are bits. */
export type EmitProduct = (parts: readonly Part[], storage: StorageId, chain: Chain, as: BitsType | undefined) => void;

/**
 * Emits the products that move a value, and joins what comes out. `turned`: a leaf with the bits that are turned over in
 * what is moved, which is how a number changes its sign.
 */
export const emitParts = (
  s: Selection,
  node: Node,
  { value, parts }: { readonly value: Located; readonly parts: Parts },
  space: { readonly rows: number; readonly panels: number },
  emit: EmitProduct,
  turned?: (panel: number, row: number, rows: number) => ReturnType<Chain>["leaves"][number],
): StorageId => {
  const { dtype } = storageAt(s, value.storage);
  const bits = needsBits(s, node);
  const storage = addTemp(s, node, bits ? dtype : storedType(node), space);
  const [first = [], second] = parts;
  if (!bits) {
    emit(first, storage, COPY, undefined);
    return storage;
  }
  const { as } = cutOf(s, value.storage);
  const turn = (ops: readonly AluOp[], leaf: number): readonly AluOp[] =>
    turned === undefined
      ? ops
      : [...ops, { fn: "xorBits", args: [ops.length === 0 ? { mxm: true } : { op: ops.length - 1 }, { leaf, as }] }];
  if (second === undefined) {
    const ops = turn(turned === undefined ? [{ fn: "copy", args: [{ mxm: true }] }] : [], 0);
    emit(
      first,
      storage,
      (panel, row, rows) => ({ ops, leaves: turned === undefined ? [] : [turned(panel, row, rows)] }),
      as,
    );
    return storage;
  }
  const upper = addTemp(s, node, "f32", space);
  emit(first, upper, COPY, undefined);
  const ops = turn(
    [
      { fn: "shiftLeft", args: [{ leaf: 0 }, { constant: BITS }] },
      { fn: "addInt", args: [{ op: 0 }, { mxm: true }] },
    ],
    1,
  );
  const join: Chain = (panel, row, rows) => ({
    ops,
    leaves: [
      { storage: upper, panel, runs: [rowRun(row, rows)] },
      ...(turned === undefined ? [] : [turned(panel, row, rows)]),
    ],
  });
  emit(second, storage, join, as);
  return storage;
};
