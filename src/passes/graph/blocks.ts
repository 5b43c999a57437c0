/**
 * Products by FP8 weights [.., K, N] with a scale for each column and each block of consecutive numbers along K.
 *
 * What a pass sums over K has one scale, but a pass of few rows costs little more than loading its weights. So the weights of a
 * pass stay one tile, and meet each row of the activations once for each block of theirs, zero but on the lanes of that block:
 *
 *   matmul(x, W) == sum over passes p, and blocks b of p, of matmul(x[p] where b, Q[p]) * s[b]
 *
 * Blocks need not begin where passes do: one that two passes share has the same scale in both. Blocks of whole passes need no
 * zeros. All sums are fp32 (precision.ts, "blocks"), and rounded once, when the last is stored.
 */

import { at } from "../../diagnostics.js";
import { isFp8 } from "../../ir/dtype.js";
import { elementCount, type Graph, type Node, type NodeId, type Shape, type Tensor } from "../../ir/graph.js";
import { deriveLiteral } from "../../ir/literals.js";
import { VIEWS } from "../../ir/ops.js";
import { literalOf, tensorOf } from "../../ir/tensor.js";
import { sliceAxis } from "./decompose/gather.js";
import type { ScaledWeight } from "./fp8.js";
import type { Rewriter } from "./rewriter.js";

/** Numbers along K from `start` on that one product takes, and the blocks among them, in order. */
interface Part {
  readonly start: number;
  readonly count: number;
  readonly blocks: readonly number[];
}

/** K cut into passes of `half` lanes, or into blocks that are whole passes. */
const partsOf = (k: number, block: number, half: number): readonly Part[] => {
  const length = block % half === 0 ? block : half;
  return Array.from({ length: Math.ceil(k / length) }, (_, part) => {
    const start = part * length;
    const count = Math.min(length, k - start);
    const first = Math.floor(start / block);
    const last = Math.floor((start + count - 1) / block);
    return { start, count, blocks: Array.from({ length: last - first + 1 }, (__, i) => first + i) };
  });
};

/** The product of x, [.., M, K], and a weight with scales of `block` numbers along K; `half`: lanes of a pass. */
export const blockProduct = (
  g: Rewriter,
  x: NodeId,
  { values, rows, scales, shape }: ScaledWeight,
  block: number,
  half: number,
): NodeId => {
  const [k = 1, n = 1] = values.shape.slice(-2);
  const parts = partsOf(k, block, half);
  const copies = Math.max(...parts.map(({ blocks }) => blocks.length));
  const [blocks = 1] = shape.slice(-2);
  const ofScales = [...shape.slice(0, -2), copies, 1, n];
  const apart = copiesOf(g, x, parts, copies, block);
  const axis = g.shape(apart).length - 3;
  const sum = sumOf(
    g,
    parts.map((part) => {
      const own = sliceAxis(g, apart, axis + 2, part.start, part.count);
      const product = g.emit("matmul", [own, g.constant(rows(part.start, part.count))]);
      const { dtype } = g.type(product);
      const load = (): Tensor => tensorOf(dtype, ofScales, scalesAt(scales, ofScales, blocks, part.blocks));
      const how = `scales ${part.blocks.join(" ")} of ${blocks} for ${copies}`;
      const scale = deriveLiteral([values], how, { dtype, shape: ofScales }, load);
      return g.emit("mul", [product, g.constant(scale)]);
    }),
  );
  const whole = g.shape(sum).filter((_, i) => i !== axis);
  return sumOf(
    g,
    Array.from({ length: copies }, (_, i) =>
      g.emit("reshape", [copies === 1 ? sum : sliceAxis(g, sum, axis, i, 1)], { shape: whole }),
    ),
  );
};

/** The sum of neighbours that are sums of as many. */
const sumOf = (g: Rewriter, terms: readonly NodeId[]): NodeId => {
  const middle = Math.ceil(terms.length / 2);
  if (middle === terms.length) return at(terms, 0, "term");
  return g.emit("add", [sumOf(g, terms.slice(0, middle)), sumOf(g, terms.slice(middle))]);
};

/** [.., M, K] -> [.., copies, M, K]: copy i has the numbers of the i-th block of each part, and zeros. */
const copiesOf = (g: Rewriter, x: NodeId, parts: readonly Part[], copies: number, block: number): NodeId => {
  const shape = g.shape(x);
  const [m = 1, k = 1] = shape.slice(-2);
  const once = g.emit("reshape", [x], { shape: [...shape.slice(0, -2), 1, m, k] });
  if (copies === 1) return once;
  const mask = new Float32Array(copies * k);
  for (const { start, count, blocks } of parts)
    for (let i = start; i < start + count; i++) mask[blocks.indexOf(Math.floor(i / block)) * k + i] = 1;
  return g.emit("mul", [once, g.constant(literalOf(tensorOf(g.type(x).dtype, [copies, 1, k], mask)))]);
};

/** Scales [.., copies, 1, N] of `own` of so many blocks; a copy that has none of them is all zeros, whatever its scale. */
const scalesAt = (
  scales: ScaledWeight["scales"],
  shape: Shape,
  blocks: number,
  own: readonly number[],
): Float32Array => {
  const [copies = 1, , n = 1] = shape.slice(-3);
  const all = new Float32Array(elementCount(shape)).fill(1);
  for (let batch = 0; batch * copies * n < all.length; batch++)
    for (const [copy, block] of own.entries())
      all.set(scales((batch * blocks + block) * n, n), (batch * copies + copy) * n);
  return all;
};

/** Whether a node is a product by weights in FP8. */
export const isOfFp8 = (graph: Graph, { op, inputs }: Node): boolean =>
  op === "matmul" && isFp8(at(graph.nodes, at(inputs, 1, "input"), "node").type.dtype);

/** Products by FP8 weights times scales, sums of such, and views of these: what is to be added up before it is rounded. */
export const scaledProducts = (graph: Graph): ReadonlySet<NodeId> => {
  const found = new Set<NodeId>();
  for (const { id, op, inputs } of graph.nodes) {
    const [a, b] = inputs.map((input) => at(graph.nodes, input, "node"));
    const isScaled = op === "mul" && a !== undefined && b?.op === "constant" && (isOfFp8(graph, a) || found.has(a.id));
    const isSum = (op === "add" || VIEWS.includes(op)) && inputs.every((input) => found.has(input));
    if (isScaled || isSum) found.add(id);
  }
  return found;
};
