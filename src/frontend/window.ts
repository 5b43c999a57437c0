/**
 * Whether an output is an input with something behind it, as a present is its past and what is new: only then may a state be
 * its end. A cache whose new rows are placed by their number begins with its past too, but for these rows, and is none: there
 * a selection takes either what was at a place or what is new.
 */

import { at } from "../diagnostics.js";
import type { Node, NodeId, Shape } from "../ir/graph.js";
import { intsAttr, numberAttr } from "../ir/ops/attributes.js";
import { equalShapes } from "../ir/tensor.js";

interface Element {
  readonly id: NodeId;
  readonly place: readonly number[];
}

/** Where an element of a node that only moves elements comes from; undefined for any other node. */
const SOURCES: Readonly<Record<string, (node: Node, place: readonly number[], nodes: readonly Node[]) => Element>> = {
  concat: ({ inputs, attrs }, place, nodes) => {
    const axis = numberAttr(attrs, "axis");
    let rest = at(place, axis, "place");
    for (const id of inputs) {
      const extent = at(shapeOf(nodes, id), axis, "extent");
      if (rest < extent) return { id, place: place.map((own, i) => (i === axis ? rest : own)) };
      rest -= extent;
    }
    return { id: at(inputs, inputs.length - 1, "part"), place };
  },
  slice: ({ inputs, attrs }, place) => {
    const [starts, strides] = [intsAttr(attrs, "starts"), intsAttr(attrs, "strides")];
    const from = place.map((own, i) => at(starts, i, "start") + own * at(strides, i, "stride"));
    return { id: at(inputs, 0, "operand"), place: from };
  },
  transpose: ({ inputs, attrs }, place) => {
    const perm = intsAttr(attrs, "perm");
    return { id: at(inputs, 0, "operand"), place: place.map((_, i) => at(place, perm.indexOf(i), "place")) };
  },
  reshape: ({ inputs, type }, place, nodes) => {
    const id = at(inputs, 0, "operand");
    return { id, place: placeOf(numberOf(place, type.shape), shapeOf(nodes, id)) };
  },
};

/** Whether the first and the last element of an input stand in a node where they stand in the input, and are nothing else. */
export const beginsWith = (nodes: readonly Node[], output: NodeId, input: NodeId): boolean =>
  ends(shapeOf(nodes, input)).every((place) => stands(nodes, { id: output, place }, { id: input, place }, () => []));

/** Whether the first and the last element of an input stay where they are, unless a selection puts something else in their place. */
export const isPlaced = (nodes: readonly Node[], output: NodeId, input: NodeId): boolean =>
  ends(shapeOf(nodes, input)).every((place) =>
    stands(nodes, { id: output, place }, { id: input, place }, ({ op, inputs }) =>
      op === "select" ? inputs.slice(1) : [],
    ),
  );

const ends = (shape: Shape): readonly Shape[] => [shape.map(() => 0), shape.map((extent) => extent - 1)];

/** Whether an element is one of an input; `either`: from which operands of a node that moves nothing it may come. */
const stands = (
  nodes: readonly Node[],
  { id, place }: Element,
  input: Element,
  either: (node: Node) => readonly NodeId[],
): boolean => {
  if (id === input.id) return place.every((own, axis) => own === input.place[axis]);
  const node = at(nodes, id, "node");
  const from = SOURCES[node.op]?.(node, place, nodes);
  if (from !== undefined) return stands(nodes, from, input, either);
  return either(node).some(
    (operand) =>
      equalShapes(shapeOf(nodes, operand), node.type.shape) && stands(nodes, { id: operand, place }, input, either),
  );
};

const shapeOf = (nodes: readonly Node[], id: NodeId): Shape => at(nodes, id, "node").type.shape;

/** The number of an element in row-major order. */
const numberOf = (place: readonly number[], shape: Shape): number =>
  shape.reduce((sum, extent, axis) => sum * extent + at(place, axis, "place"), 0);

const placeOf = (number: number, shape: Shape): readonly number[] => {
  let rest = number;
  return shape
    .map((_, axis) => at(shape, shape.length - 1 - axis, "extent"))
    .map((extent) => {
      const own = rest % extent;
      rest = Math.floor(rest / extent);
      return own;
    })
    .reverse();
};
