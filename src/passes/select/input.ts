/**
 * Inputs: which element of a host tensor lies where.
 *
 * The host writes an input in whatever layout we like, so reshapes and transposes of an input cost nothing: the binding
 * describes them. What a reader cannot take as it lies, the host writes once more, as that reader wants it. The same holds for
 * rows of a constant table that an input chooses (a token embedding): the host looks them up. Invariant: a binding's factors
 * give every element of the tensor exactly one place.
 */

import { at, invariant } from "../../diagnostics.js";
import type { Literal, Node, Shape } from "../../ir/graph.js";
import { edgeDtypeAttr, intsAttr, stringAttr, literalIn } from "../../ir/ops/attributes.js";
import type { PlanBinding, Storage, StorageType } from "../../ir/plan.js";
import { equalShapes } from "../../ir/tensor.js";
import { isFloatCast, isTransparent } from "./fuse.js";
import { factorPairs, type Located } from "./layout/operand.js";
import { ZERO } from "../../ir/ranges.js";
import { withinType } from "./padding.js";
import { addStorage, nodeAt, operandAt, originText, type Selection, spaceOf, storedType } from "./selection.js";
import {
  elementView,
  expandView,
  type Factor,
  type Layout,
  naturalLayout,
  reshapeView,
  restrictTo,
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

/** The value of a node that is there from the start: a state, an input, or one seen through views or a table; undefined for all others. */
export const boundInput = (s: Selection, node: Node): Located | undefined => {
  if (isState(s, node)) return bindState(s, node, stateLayout(s, node) ?? naturalLayout(node.type.shape));
  // What reads an input in another float type reads the input.
  const path = isFloatCast(s.graph, node) ? undefined : inputPath(s, node);
  if (path === undefined) return undefined;
  return bindPath(s, node, path, naturalLayout(node.type.shape), storedType(node));
};

/**
 * The value of a node that the host can write, lying on the lanes of `wanted`, to which its shape broadcasts; undefined for all
 * others, and where the host would have to write an element to several lanes. Rows are packed densely.
 */
export const boundAs = (s: Selection, node: Node, wanted: Layout, dtype: StorageType): Located | undefined => {
  const { shape } = node.type;
  const path = inputPath(s, node);
  // A table would be looked up twice.
  if (path === undefined || path.table !== undefined) return undefined;
  const view = ownPlaces(shape, wanted);
  if (view === undefined) return undefined;
  const key = `input ${stringAttr(path.input.attrs, "name")} ${dtype} ${JSON.stringify([path.elements, shape, view])}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const value = bindPath(s, node, path, { view, shape }, dtype);
  if (value !== undefined) s.copies.set(key, value);
  return value;
};

/** Places on the lanes of `wanted`, one for each element of a shape that broadcasts to it; undefined where an element has several. */
const ownPlaces = (shape: Shape, wanted: Layout): View | undefined => {
  const onlyOwn = wanted.view.dims.every((factors, axis) => {
    const extent = shape[axis - wanted.shape.length + shape.length] ?? 1;
    return extent > 1 || factors.every(({ column }) => column === 0);
  });
  if (!onlyOwn || wanted.view.column !== 0) return undefined;
  const { dims } = restrictTo(wanted, shape);
  return dims.flat().every(isPlace) ? { dims: denseRows(dims), row: 0, column: 0 } : undefined;
};

/** Whether a digit moves forwards, along rows or along columns. */
const isPlace = ({ row, column }: Factor): boolean => row >= 0 && column >= 0 && (row === 0) !== (column === 0);

/** Factors whose rows have strides without gaps, in the same order. */
const denseRows = (dims: View["dims"]): Factor[][] => {
  const strides = new Map<Factor, number>();
  let stride = 1;
  for (const factor of dims.flat().sort((a, b) => a.row - b.row)) {
    if (factor.row === 0) continue;
    strides.set(factor, stride);
    stride *= factor.extent;
  }
  return dims.map((factors) => factors.map((factor) => ({ ...factor, row: strides.get(factor) ?? 0 })));
};

const isState = (s: Selection, { op, attrs }: Node): boolean =>
  op === "input" && s.stateOutputs.has(stringAttr(attrs, "name"));

/** Whether a node is a state of fp16 that lies nowhere yet: it comes to lie as the array wants it that takes it first. */
export const stateIsFree = (s: Selection, node: Node): boolean =>
  isState(s, node) && storedType(node) === "f16" && !s.located.has(node.id) && stateLayout(s, node) === undefined;

/** Where a state lies in an entry before this one; a state of another shape is none. */
const stateLayout = (s: Selection, { attrs, type }: Node): Layout | undefined => {
  const known = s.stateLayouts.get(stringAttr(attrs, "name"));
  return known !== undefined && equalShapes(known.shape, type.shape) ? known : undefined;
};

/** A state on the lanes of `wanted`; undefined where an element would lie on several. */
export const stateAs = (s: Selection, node: Node, wanted: Layout): Located | undefined => {
  if (!stateIsFree(s, node)) return undefined;
  const { shape } = node.type;
  const view = ownPlaces(shape, wanted);
  if (view === undefined || bindingFactors(shape, elementView(shape), shape, view) === undefined) return undefined;
  const value = bindState(s, node, { view, shape });
  s.located.set(node.id, value);
  return value;
};

/** A state lies once, as what takes its place is written, and with zeros on unused lanes (state.ts). */
const bindState = (s: Selection, node: Node, layout: Layout): Located => {
  const { shape } = node.type;
  const factors = bindingFactors(shape, elementView(shape), shape, layout.view);
  invariant(factors !== undefined, "element strides and storage strides of one shape meet");
  const name = stringAttr(node.attrs, "name");
  const dtype = storedType(node);
  const { rows, panels } = spaceOf(s.target, layout);
  const storage = addStorage(s, { name, dtype, rows, panels, kind: "state" });
  const declared = edgeDtypeAttr(node.attrs, "declared");
  s.states.push({ name, declared, shape, storage, firstRow: 0, factors });
  const range = s.ranges[node.id];
  if (range !== undefined) s.facts[storage] = { values: withinType(range, dtype), padding: ZERO };
  return { storage, ...layout };
};

const bindPath = (
  s: Selection,
  node: Node,
  { input, table, elements }: InputPath,
  layout: Layout,
  dtype: StorageType,
): Located | undefined => {
  const { rows, panels } = spaceOf(s.target, layout);
  const name = stringAttr(input.attrs, "name");
  const hostShape = table === undefined ? input.type.shape : [...input.type.shape, at(table.shape, 1, "extent")];
  const factors = bindingFactors(hostShape, elements, layout.shape, layout.view);
  if (factors === undefined) return undefined;
  const storage = addStorage(s, {
    name,
    dtype,
    rows,
    panels,
    kind: "input",
  });
  s.inputs.push({
    name,
    declared: edgeDtypeAttr(input.attrs, "declared"),
    shape: input.type.shape,
    storage,
    firstRow: 0,
    factors,
    ...(table === undefined ? {} : { lookup: lookupIn(s, node, table, dtype) }),
  });
  const range = s.ranges[node.id];
  if (range !== undefined) s.facts[storage] = { values: withinType(range, dtype), padding: ZERO };
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
  if (isState(s, node)) return undefined;
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
  return { input, table, elements: elementView([...indices.type.shape, at(table.shape, 1, "extent")]) };
};

const lookupIn = (s: Selection, node: Node, table: Literal, dtype: StorageType): NonNullable<PlanBinding["lookup"]> => {
  s.literals.set(table.key, table);
  return {
    origin: originText(node),
    dtype,
    rows: at(table.shape, 0, "extent"),
    width: at(table.shape, 1, "extent"),
    literal: table.key,
  };
};

/**
 * Binding factors over the host tensor's dims, from the host's element numbers and the storage's strides of one shape; undefined
 * where the two do not meet, or an extent does not divide the host's dims and so is no loop over them.
 */
export const bindingFactors = (
  hostShape: Shape,
  elements: View,
  shape: Shape,
  stored: View,
): PlanBinding["factors"] | undefined => {
  const pairs = factorPairs(elements, shape, stored);
  if (pairs === undefined) return undefined;
  const factors: { dim: number; divide: number; extent: number; row: number; column: number }[] = [];
  for (const [host, place] of pairs) {
    // A merged factor may span several host dims: cut it at their boundaries.
    let stride = 1;
    for (let dim = hostShape.length - 1; dim >= 0; dim--) {
      const size = at(hostShape, dim, "extent");
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
  return factors.every(({ divide, extent }) => Number.isInteger(divide) && Number.isInteger(extent))
    ? factors
    : undefined;
};

/** The layout that binding factors tell. */
export const boundLayout = ({ shape, factors }: Pick<PlanBinding, "shape" | "factors">): Layout => {
  const dims = shape.map((_, axis) =>
    factors
      .filter(({ dim }) => dim === axis)
      .sort((a, b) => b.divide - a.divide)
      .map(({ extent, row, column }): Factor => ({ extent, row, column })),
  );
  return { view: { dims, row: 0, column: 0 }, shape };
};

/** Inputs in the graph's order; those that nothing on the chip reads are still accepted, and bound to nothing. */
export const allInputs = (s: Selection, storages: readonly Storage[]): readonly PlanBinding[] => {
  const given = s.graph.inputs.filter((id) => !isState(s, nodeAt(s, id)));
  const names = given.map((id) => stringAttr(nodeAt(s, id).attrs, "name"));
  const bound = s.inputs.filter(({ storage }) => at(storages, storage, "storage").panels > 0);
  const unused = given.flatMap((id, index): PlanBinding[] => {
    const { attrs, type } = nodeAt(s, id);
    const name = at(names, index, "name");
    if (bound.some((binding) => binding.name === name)) return [];
    return [
      { name, declared: edgeDtypeAttr(attrs, "declared"), shape: type.shape, storage: -1, firstRow: 0, factors: [] },
    ];
  });
  return [...bound, ...unused].sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
};
