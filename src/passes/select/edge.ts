/**
 * Selection at the host's edge: inputs and outputs, and which element of a host tensor lies where.
 *
 * The host writes an input in whatever layout we like, so reshapes, transposes and slices of an input cost nothing: the
 * binding describes them. The same holds for rows of a constant table that an input chooses (a token embedding): the host
 * looks them up. Invariant: a binding's factors give every element of the tensor exactly one place.
 */

import { invariant } from "../../diagnostics.js";
import type { Literal, Node, Shape } from "../../ir/graph.js";
import { edgeDtypeAttr, intsAttr, stringAttr, literalIn } from "../../ir/ops/attributes.js";
import type { PlanBinding } from "../../ir/plan.js";
import { isFloatCast, isTransparent } from "./fuse.js";
import { factorPairs, type Located } from "./layout/operand.js";
import { ZERO } from "../../ir/ranges.js";
import { relayout } from "./layout/move.js";
import { withinType } from "./padding.js";
import {
  addStorage,
  nodeAt,
  operandAt,
  originText,
  type Selection,
  spaceOf,
  storageAt,
  storedType,
} from "./selection.js";
import {
  elementView,
  expandView,
  naturalLayout,
  reshapeView,
  sliceView,
  transposeView,
  type View,
} from "./layout/view.js";

/** Where the result of a reshape, transpose, slice or expand lies if its operand lies at `view`; undefined if no view tells. */
export const viewThrough = (node: Node, view: View): View | undefined => {
  const { attrs } = node;
  if (node.op === "reshape") return reshapeView(view, node.type.shape);
  if (node.op === "transpose") return transposeView(view, intsAttr(attrs, "perm"));
  if (node.op === "slice")
    return sliceView(view, intsAttr(attrs, "starts"), intsAttr(attrs, "sizes"), intsAttr(attrs, "strides"));
  return expandView(view, node.type.shape);
};

/** The value of a node that the host can write: an input, or one seen through views or a table; undefined for all others. */
export const boundInput = (s: Selection, node: Node): Located | undefined => {
  // What reads an input in another float type reads the input.
  const path = isFloatCast(s.graph, node) ? undefined : inputPath(s, node);
  if (path === undefined) return undefined;
  const { input, table, elements } = path;
  const layout = naturalLayout(node.type.shape);
  const { rows, panels } = spaceOf(s.target, layout);
  const name = stringAttr(input.attrs, "name");
  const hostShape = table === undefined ? input.type.shape : [...input.type.shape, table.shape[1] ?? 1];
  const factors = bindingFactors(hostShape, elements, layout.shape, layout.view);
  // Extents that the host's dims do not divide are no loop over them.
  if (factors.some(({ divide, extent }) => !Number.isInteger(divide) || !Number.isInteger(extent))) return undefined;
  const storage = addStorage(s, {
    name,
    dtype: storedType(node),
    rows,
    panels,
    kind: "input",
    bothHemispheres: false,
    output: false,
  });
  s.inputs.push({
    name,
    declared: edgeDtypeAttr(input.attrs, "declared"),
    shape: input.type.shape,
    storage,
    firstRow: 0,
    factors,
    ...(table === undefined ? {} : { lookup: lookupIn(s, node, table) }),
  });
  const range = s.ranges[node.id];
  if (range !== undefined) s.facts[storage] = { values: withinType(range, storedType(node)), padding: ZERO };
  return { storage, ...layout };
};

interface InputPath {
  readonly input: Node;
  /** The table whose rows the input chooses. */
  readonly table?: Literal;
  /** The node's elements as element numbers of the host tensor: that of the input, or of the rows that it chooses. */
  readonly elements: View;
}

/** The input under a chain of reshapes and transposes, or under a gather on one. */
const inputPath = (s: Selection, node: Node): InputPath | undefined => {
  if (node.op === "input") return { input: node, elements: elementView(node.type.shape) };
  if (node.op === "gather") return lookupPath(s, node);
  if (!isTransparent(s.graph, node)) return undefined;
  const path = inputPath(s, operandAt(s, node, 0));
  if (path === undefined || path.table !== undefined) return undefined;
  const elements = viewThrough(node, path.elements);
  return elements === undefined ? undefined : { ...path, elements };
};

const lookupPath = (s: Selection, node: Node): InputPath | undefined => {
  const table = literalIn(operandAt(s, node, 0));
  const indices = operandAt(s, node, 1);
  let input = indices;
  while (input.op === "reshape" || input.op === "cast") input = operandAt(s, input, 0);
  if (table === undefined || input.op !== "input" || table.shape.length !== 2) return undefined;
  return { input, table, elements: elementView([...indices.type.shape, table.shape[1] ?? 1]) };
};

const lookupIn = (s: Selection, node: Node, table: Literal): NonNullable<PlanBinding["lookup"]> => ({
  origin: originText(node),
  dtype: "f16",
  rows: table.shape[0] ?? 0,
  width: table.shape[1] ?? 0,
  bytes: () => {
    const halfs = s.reader.halfs(table);
    return new Uint8Array(halfs.buffer, halfs.byteOffset, halfs.byteLength);
  },
});

/** Binding factors over the host tensor's dims, from the host's element numbers and the storage's strides of one shape. */
const bindingFactors = (hostShape: Shape, elements: View, shape: Shape, stored: View): PlanBinding["factors"] => {
  const pairs = factorPairs(elements, shape, stored);
  invariant(pairs !== undefined, "element strides and storage strides of one shape meet");
  const factors: { dim: number; divide: number; extent: number; row: number; column: number }[] = [];
  for (const [host, place] of pairs) {
    // A merged factor may span several host dims: cut it at their boundaries.
    let stride = 1;
    for (let dim = hostShape.length - 1; dim >= 0; dim--) {
      const size = hostShape[dim] ?? 1;
      const low = Math.max(stride, host.row);
      const high = Math.min(stride * size, host.row * host.extent);
      if (high > low) {
        const scale = low / host.row;
        factors.push({
          dim,
          divide: low / stride,
          extent: high / low,
          row: place.row * scale,
          column: place.column * scale,
        });
      }
      stride *= size;
    }
  }
  return factors;
};

/** Binds an output to the storage in which its value lies, copied if that is not a computed one of its own. */
export const bindOutput = (
  s: Selection,
  output: { readonly name: string; readonly declared: PlanBinding["declared"]; readonly node: number },
  stored: Located,
): PlanBinding => {
  const { shape } = stored;
  // The host reads forwards from the first column; what is stored backwards, or elsewhere, is copied first.
  const forwards = stored.view.dims.flat().every((f) => f.row >= 0 && f.column >= 0);
  const asItLies = forwards && stored.view.column === 0 && storageAt(s, stored.storage).kind === "temp";
  const value = asItLies ? stored : relayout(s, output.node, stored, naturalLayout(shape));
  s.storages[value.storage] = { ...storageAt(s, value.storage), output: true };
  return {
    name: output.name,
    declared: output.declared,
    shape,
    storage: value.storage,
    firstRow: value.view.row,
    factors: bindingFactors(shape, elementView(shape), shape, value.view),
  };
};

/** Inputs in the graph's order; those that nothing on the chip reads are still accepted, and bound to nothing. */
export const allInputs = (s: Selection): readonly PlanBinding[] => {
  const names = s.graph.inputs.map((id) => stringAttr(nodeAt(s, id).attrs, "name"));
  const unused = s.graph.inputs.flatMap((id, index): PlanBinding[] => {
    const { attrs, type } = nodeAt(s, id);
    const name = names[index] ?? "";
    if (s.inputs.some((binding) => binding.name === name)) return [];
    return [
      { name, declared: edgeDtypeAttr(attrs, "declared"), shape: type.shape, storage: -1, firstRow: 0, factors: [] },
    ];
  });
  return [...s.inputs, ...unused].sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
};
