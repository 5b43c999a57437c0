/**
 * Weights that a file has in eight bits or fewer with scales, by type: what they become is the compiler's choice, and is told.
 *
 * Only the structure of the file is read.
 */

import type { FewBits } from "../ir/facts.js";
import { elementCount } from "../ir/graph.js";
import { int64ToNumber, type NodeProto } from "./schema.js";
import type { GraphRecord } from "./source.js";
import { ELEMENT_TYPES } from "./tensors.js";

/** Which input of an operator is a weight with scales, and where bits say how many elements a byte has. */
const WEIGHTS: Readonly<Record<string, { readonly input: number; readonly packs: boolean }>> = {
  DequantizeLinear: { input: 0, packs: false },
  MatMulNBits: { input: 1, packs: true },
  GatherBlockQuantized: { input: 0, packs: true },
};

/** Types in the order of their names. */
export function fewBitWeights({ nodes, initializers }: GraphRecord): readonly FewBits[] {
  const protos = new Map(initializers.map(({ proto }) => [proto.name, proto]));
  const values = new Map<string, number>();
  const counted = new Set<string>();
  for (const node of nodes) {
    const row = Object.hasOwn(WEIGHTS, node.opType) ? WEIGHTS[node.opType] : undefined;
    const name = row === undefined ? undefined : node.input[row.input];
    const proto = name === undefined || counted.has(name) ? undefined : protos.get(name);
    const type = proto && ELEMENT_TYPES[proto.dataType];
    if (row === undefined || proto === undefined || type === undefined || type.bits > 8) continue;
    counted.add(proto.name);
    const bits = row.packs && type.dtype === "u8" ? bitsOf(node) : type.bits;
    const dtype = bits === type.bits ? type.dtype : `u${bits}`;
    const elements = elementCount(proto.dims.map(int64ToNumber)) * (type.bits / bits);
    values.set(dtype, (values.get(dtype) ?? 0) + elements);
  }
  return [...values].map(([dtype, count]) => ({ dtype, values: count })).sort((a, b) => (a.dtype < b.dtype ? -1 : 1));
}

/** 4, as the operators have it, where nothing is said. */
const bitsOf = ({ attribute }: NodeProto): number => {
  const bits = attribute.find(({ name }) => name === "bits");
  return bits === undefined ? 4 : int64ToNumber(bits.i);
};
