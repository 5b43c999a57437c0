/**
 * Values of which only a part is read are computed only there: logits of the last token, a class token behind the last layer.
 *
 * Backward, each node is asked for the least block of its elements that all its readers want, by a row of a table for each
 * operation; forward, nodes are made again with these. The last axis stays whole, which lies on lanes; so does a value of
 * which more than half is read, since a block of it may lie worse than all.
 */

import { at, invariant } from "../../diagnostics.js";
import { type Attrs, elementCount, type Graph, type Node, type NodeId, type Shape } from "../../ir/graph.js";
import { isElementwise } from "../../ir/ops.js";
import { booleanAttr, intsAttr, numberAttr } from "../../ir/ops/attributes.js";
import { CANONICAL_RULES } from "./canonicalize.js";
import type { GraphPass } from "./pass.js";
import { hasPieces, Rewriter } from "./rewriter.js";

/** Elements `start` to `end` along an axis, the second not among them. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** A block of a value: a span of each axis. */
type Block = readonly Span[];

/** How a part of a result is made of parts of its operands. */
interface Part {
  /** Axes of the result along which it can be made in parts. */
  readonly axes: (node: Node, shapes: readonly Shape[]) => readonly number[];
  /** What a block of the result is made of: a block of each operand; of those that are not read nothing. */
  readonly reads: (node: Node, block: Block, shapes: readonly Shape[]) => readonly (Block | undefined)[];
  /** Attributes of the operation on these, if they are others. */
  readonly attrs?: (node: Node, block: Block) => Attrs;
}

const whole = (shape: Shape): Block => shape.map((end) => ({ start: 0, end }));
const sizesOf = (block: Block): Shape => block.map(({ start, end }) => end - start);
const isWhole = (block: Block, shape: Shape): boolean => elementCount(sizesOf(block)) === elementCount(shape);
const allAxes = ({ type }: Node): number[] => type.shape.map((_, axis) => axis);

/** A block of a result, of an operand that is repeated to it. */
const broadcastBlock = (block: Block, shape: Shape): Block =>
  shape.map((extent, axis) =>
    extent === 1 ? { start: 0, end: 1 } : at(block, axis + block.length - shape.length, "span"),
  );

/** Of each axis of a shape the axis of another that is the same, in extent and in what follows it. */
const sameAxes = (shape: Shape, other: Shape): readonly (number | undefined)[] => {
  const keys = (of: Shape): string[] => of.map((extent, axis) => `${extent} ${elementCount(of.slice(axis + 1))}`);
  const others = keys(other);
  return keys(shape).map((key, axis) => {
    const found = others.indexOf(key);
    return shape[axis] === 1 || found < 0 ? undefined : found;
  });
};

const elementwise: Part = {
  axes: allAxes,
  reads: (_, block, shapes) => shapes.map((shape) => broadcastBlock(block, shape)),
};

/** Axes of the operand that a reduction leaves, in the order of those of the result. */
const keptAxes = ({ attrs }: Node, shape: Shape): readonly number[] => {
  const axes = intsAttr(attrs, "axes");
  return shape.flatMap((_, axis) => (booleanAttr(attrs, "keepdims") || !axes.includes(axis) ? [axis] : []));
};

const reduction: Part = {
  axes: (node, [shape = []]) => {
    const reduced = intsAttr(node.attrs, "axes");
    return keptAxes(node, shape).flatMap((axis, own) =>
      reduced.includes(axis) || axis === shape.length - 1 ? [] : [own],
    );
  },
  reads: (node, block, [shape = []]) => {
    const kept = keptAxes(node, shape);
    const reduced = intsAttr(node.attrs, "axes");
    return [
      shape.map((end, axis) => (reduced.includes(axis) ? { start: 0, end } : at(block, kept.indexOf(axis), "span"))),
    ];
  },
};

const PARTS: Readonly<Record<string, Part>> = {
  matmul: {
    axes: allAxes,
    reads: (_, block, [a = [], b = []]) => {
      const rows = a.length - 1;
      const left = broadcastBlock(block, [...a.slice(0, rows), 1]);
      const right = broadcastBlock(block, [...b.slice(0, -2), 1, at(b, b.length - 1, "extent")]);
      const inner: Span = { start: 0, end: at(a, rows, "extent") };
      return [
        [...left.slice(0, rows), inner],
        [...right.slice(0, -2), inner, ...right.slice(-1)],
      ];
    },
  },
  reduce_sum: reduction,
  reduce_max: reduction,
  transpose: {
    axes: ({ attrs }, [shape = []]) =>
      intsAttr(attrs, "perm").flatMap((from, axis) => (from === shape.length - 1 ? [] : [axis])),
    reads: ({ attrs }, block, [shape = []]) => {
      const perm = intsAttr(attrs, "perm");
      return [shape.map((_, axis) => at(block, perm.indexOf(axis), "span"))];
    },
  },
  reshape: {
    axes: ({ type }, [shape = []]) =>
      sameAxes(type.shape, shape).flatMap((from, axis) =>
        from === undefined || from === shape.length - 1 ? [] : [axis],
      ),
    reads: ({ type }, block, [shape = []]) => [
      sameAxes(shape, type.shape).map((from, axis) =>
        from === undefined ? { start: 0, end: at(shape, axis, "extent") } : at(block, from, "span"),
      ),
    ],
    attrs: (_, block) => ({ shape: sizesOf(block) }),
  },
  expand: {
    axes: allAxes,
    reads: (_, block, [shape = []]) => [broadcastBlock(block, shape)],
    attrs: (_, block) => ({ shape: sizesOf(block) }),
  },
  slice: {
    axes: allAxes,
    reads: ({ attrs }, block) => {
      const [starts, strides] = [intsAttr(attrs, "starts"), intsAttr(attrs, "strides")];
      return [
        block.map(({ start, end }, axis) => {
          const ends = [start, end - 1].map((i) => at(starts, axis, "start") + i * at(strides, axis, "stride"));
          return { start: Math.min(...ends), end: 1 + Math.max(...ends) };
        }),
      ];
    },
    attrs: ({ attrs }, block) => {
      const strides = intsAttr(attrs, "strides");
      const sizes = sizesOf(block);
      const starts = strides.map((stride, axis) => (stride > 0 ? 0 : (at(sizes, axis, "size") - 1) * -stride));
      return { starts, sizes, strides };
    },
  },
  concat: {
    axes: allAxes,
    reads: ({ attrs }, block, shapes) => {
      const axis = numberAttr(attrs, "axis");
      const { start, end } = at(block, axis, "span");
      let offset = 0;
      return shapes.map((shape) => {
        const [before, extent] = [offset, at(shape, axis, "extent")];
        offset += extent;
        const own = { start: Math.max(0, start - before), end: Math.min(extent, end - before) };
        return own.start < own.end ? block.map((span, i) => (i === axis ? own : span)) : undefined;
      });
    },
  },
};

const partOf = ({ op }: Node): Part | undefined => PARTS[op] ?? (isElementwise(op) ? elementwise : undefined);

/** The least block around two. */
const around = (a: Block | undefined, b: Block): Block =>
  a?.map(({ start, end }, axis) => {
    const other = at(b, axis, "span");
    return { start: Math.min(start, other.start), end: Math.max(end, other.end) };
  }) ?? b;

/** Of a value of which more than one of so many elements is read all are made. */
const LEAST_PARTS = 2;

/** What is made of a node of which a block is wanted: along some axes all. */
function madeBlock(node: Node, wanted: Block, shapes: readonly Shape[]): Block {
  const { shape } = node.type;
  const axes = partOf(node)?.axes(node, shapes) ?? [];
  const made = wanted.map((span, axis) =>
    axes.includes(axis) && axis < shape.length - 1 ? span : { start: 0, end: at(shape, axis, "extent") },
  );
  return LEAST_PARTS * elementCount(sizesOf(made)) <= elementCount(shape) ? made : whole(shape);
}

/** What is made of each node; undefined of what nothing reads. */
function blocksOf(graph: Graph): readonly (Block | undefined)[] {
  const blocks: (Block | undefined)[] = graph.nodes.map(() => undefined);
  for (const { node } of graph.outputs) blocks[node] = whole(at(graph.nodes, node, "node").type.shape);
  for (let id = graph.nodes.length - 1; id >= 0; id -= 1) {
    const node = at(graph.nodes, id, "node");
    const wanted = blocks[id];
    if (wanted === undefined) continue;
    const shapes = shapesOf(graph, node);
    const block = madeBlock(node, wanted, shapes);
    blocks[id] = block;
    for (const [index, read] of readsOf(node, block, shapes).entries()) {
      const operand = at(node.inputs, index, "operand");
      if (read !== undefined) blocks[operand] = around(blocks[operand], read);
    }
  }
  return blocks;
}

const shapesOf = (graph: Graph, { inputs }: Node): readonly Shape[] =>
  inputs.map((id) => at(graph.nodes, id, "node").type.shape);

const readsOf = (node: Node, block: Block, shapes: readonly Shape[]): readonly (Block | undefined)[] =>
  elementCount(node.type.shape) === 0
    ? shapes.map(whole)
    : (partOf(node)?.reads(node, block, shapes) ?? shapes.map(whole));

const trimmed = (graph: Graph): Graph => {
  if (!hasPieces(graph)) return graph;
  const blocks = blocksOf(graph);
  const isTrimmed = ({ id, op, type }: Node): boolean => {
    const block = blocks[id];
    return !SOURCES.includes(op) && block !== undefined && !isWhole(block, type.shape);
  };
  if (!graph.nodes.some(isTrimmed)) return graph;
  const g = new Rewriter(CANONICAL_RULES);
  const made: (NodeId | undefined)[] = [];
  const madeOf = (id: NodeId): NodeId => {
    const found = made[id];
    invariant(found !== undefined, `%${id} is read`);
    return found;
  };
  for (const node of graph.nodes) {
    const block = blocks[node.id];
    if (SOURCES.includes(node.op)) made.push(g.copy(node, madeOf));
    else if (block === undefined) made.push(undefined);
    else made.push(g.from(node, () => makePart(g, graph, node, block, blocks, madeOf)));
  }
  return g.finish(graph, madeOf);
};

/** What is there whole, whatever is read of it. */
const SOURCES: readonly string[] = ["input", "constant"];

/** A block of a node, from those that are made of its operands. */
function makePart(
  g: Rewriter,
  graph: Graph,
  node: Node,
  block: Block,
  blocks: readonly (Block | undefined)[],
  madeOf: (id: NodeId) => NodeId,
): NodeId {
  const shapes = shapesOf(graph, node);
  const reads = readsOf(node, block, shapes);
  const isSame = (read: Block | undefined, index: number): boolean =>
    read !== undefined && isWhole(read, at(shapes, index, "shape"));
  if (isWhole(block, node.type.shape) && reads.every(isSame)) return g.copy(node, madeOf);
  const inputs = node.inputs.flatMap((id, index) => {
    const read = reads[index];
    if (read === undefined) return [];
    const source = at(graph.nodes, id, "node");
    const has = SOURCES.includes(source.op) ? whole(source.type.shape) : (blocks[id] ?? read);
    return [cut(g, madeOf(id), has, read)];
  });
  return g.emit(node.op, inputs, partOf(node)?.attrs?.(node, block) ?? node.attrs);
}

/** A block of a value of which another is there; the value itself if that is all, since a slice of a constant is another constant. */
const cut = (g: Rewriter, id: NodeId, has: Block, read: Block): NodeId => {
  if (isWhole(read, sizesOf(has))) return id;
  const starts = read.map(({ start }, axis) => start - at(has, axis, "span").start);
  return g.emit("slice", [id], { starts, sizes: sizesOf(read), strides: read.map(() => 1) });
};

export const trim: GraphPass = {
  name: "trim",
  doc: "Computes of values that are read in part only that part.",
  run: trimmed,
};
