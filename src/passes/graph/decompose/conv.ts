/**
 * Convolutions as matmuls on rows of channels.
 *
 * The operand is brought to channels last. If a kernel is whole strides, blocks of a stride are cut out by a reshape, and each
 * block of the kernel meets its weights in one matmul: a patch that does not overlap with the next is one block. Otherwise rows
 * of zeros are joined on, and for every tap of the kernel a strided slice of rows meets the weights of that tap. The products
 * are summed. Depthwise taps are elementwise. The same steps serve any number of spatial axes; other groupings are not rewritten.
 */

import { at } from "../../../diagnostics.js";
import { elementCount, type NodeId } from "../../../ir/graph.js";
import { intsAttr, numberAttr } from "../../../ir/ops/attributes.js";
import { sliceAxis } from "./gather.js";
import type { Candidate, Rewriter, Rule } from "../rewriter.js";
import { operandOf } from "../rules/arithmetic.js";

interface Geometry {
  readonly x: NodeId;
  readonly w: NodeId;
  readonly batch: number;
  readonly channels: number;
  readonly filters: number;
  readonly spatial: readonly number[];
  readonly kernel: readonly number[];
  readonly places: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly group: number;
}

function geometryOf(g: Rewriter, node: Candidate): Geometry {
  const [x, w] = [operandOf(node, 0), operandOf(node, 1)];
  const [batch = 1, channels = 1, ...spatial] = g.shape(x);
  const [filters = 1, , ...kernel] = g.shape(w);
  const ints = (name: string): readonly number[] => intsAttr(node.attrs, name);
  const [strides, dilations, pads] = [ints("strides"), ints("dilations"), ints("pads")];
  return {
    x,
    w,
    batch,
    channels,
    filters,
    spatial,
    kernel,
    places: node.type.shape.slice(2),
    strides,
    dilations,
    pads,
    group: numberAttr(node.attrs, "group"),
  };
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/**
 * Patches of whole strides: x as [N, blocks..., C * stride...] meets the weights of each block of the kernel,
 * [C * stride..., M]. No value meets weights that it has no part in.
 */
function patches(g: Rewriter, c: Geometry): NodeId {
  const rank = c.spatial.length;
  const axes = range(rank);
  const ones = range(rank + 2).map(() => 1);
  const reach = c.kernel.map((extent, i) => extent / at(c.strides, i, "stride"));
  const blocks = c.places.map((count, i) => count - 1 + at(reach, i, "reach"));
  const blocked = (counts: readonly number[]): number[] =>
    counts.flatMap((count, i) => [count, at(c.strides, i, "stride")]);
  const whole = g.emit("slice", [padded(g, c.x, c, 2)], {
    starts: range(rank + 2).map(() => 0),
    sizes: [c.batch, c.channels, ...blocks.map((count, i) => count * at(c.strides, i, "stride"))],
    strides: ones,
  });
  const cut = g.emit("reshape", [whole], { shape: [c.batch, c.channels, ...blocked(blocks)] });
  const sorted = g.emit("transpose", [cut], {
    perm: [0, ...axes.map((i) => 2 + 2 * i), 1, ...axes.map((i) => 3 + 2 * i)],
  });
  const size = c.channels * elementCount(c.strides);
  const rows = g.emit("reshape", [sorted], { shape: [c.batch, ...blocks, size] });
  const products = range(elementCount(reach)).map((block) => {
    const place = placeIn(reach, block);
    const own = g.emit("slice", [rows], {
      starts: [0, ...place, 0],
      sizes: [c.batch, ...c.places, size],
      strides: ones,
    });
    const taps = g.emit("slice", [c.w], {
      starts: [0, 0, ...place.map((index, i) => index * at(c.strides, i, "stride"))],
      sizes: [c.filters, c.channels, ...c.strides],
      strides: ones,
    });
    const weights = g.emit("transpose", [g.emit("reshape", [taps], { shape: [c.filters, size] })], { perm: [1, 0] });
    return g.emit("matmul", [own, weights]);
  });
  return products.reduce((sum, product) => g.emit("add", [sum, product]));
}

/** Whether a kernel is whole strides without gaps, and they take fewer products than its taps do, or there is but one. */
const isWhole = ({ kernel, strides, dilations }: Geometry): boolean =>
  (elementCount(strides) > 1 || elementCount(kernel) === 1) &&
  dilations.every((step) => step === 1) &&
  kernel.every((extent, i) => extent % at(strides, i, "stride") === 0);

/** Where the index-th of a kernel's parts is, the last axis fastest. */
const placeIn = (extents: readonly number[], index: number): number[] =>
  extents.map((extent, i) => Math.floor(index / elementCount(extents.slice(i + 1))) % extent);

/** Joins zeros around the spatial axes of x, the first of which is `first`: [N, C, spatial...] or [N, spatial..., C]. */
function padded(g: Rewriter, x: NodeId, c: Geometry, first: 1 | 2): NodeId {
  const rank = c.spatial.length;
  const around = (list: readonly number[]): number[] => (first === 1 ? [0, ...list, 0] : [0, 0, ...list]);
  return g.emit("pad", [x], {
    before: around(c.pads.slice(0, rank)),
    after: around(c.pads.slice(rank)),
    value: 0,
    mode: "constant",
  });
}

function taps(g: Rewriter, c: Geometry): NodeId {
  const rank = c.spatial.length;
  const axes = range(rank);
  const x = padded(g, g.emit("transpose", [c.x], { perm: [0, ...axes.map((i) => i + 2), 1] }), c, 1);
  const products = range(elementCount(c.kernel)).map((tap) => {
    const place = placeIn(c.kernel, tap);
    const starts = [0, ...axes.map((i) => at(place, i, "place") * at(c.dilations, i, "dilation")), 0];
    const rows = g.emit("slice", [x], {
      starts,
      sizes: [c.batch, ...c.places, c.channels],
      strides: [1, ...c.strides, 1],
    });
    const inner = c.channels / c.group;
    const one = g.emit("slice", [c.w], {
      starts: [0, 0, ...place],
      sizes: [c.filters, inner, ...axes.map(() => 1)],
      strides: axes.map(() => 1).concat(1, 1),
    });
    if (c.group > 1) return g.emit("mul", [rows, g.emit("reshape", [one], { shape: [c.channels] })]);
    return g.emit("matmul", [
      rows,
      g.emit("transpose", [g.emit("reshape", [one], { shape: [c.filters, inner] })], { perm: [1, 0] }),
    ]);
  });
  return products.reduce((sum, product) => g.emit("add", [sum, product]));
}

/** Groups of channels by themselves, side by side. */
function groups(g: Rewriter, c: Geometry, node: Candidate): NodeId {
  const [inner, outer] = [c.channels / c.group, c.filters / c.group];
  const bias = node.inputs[2];
  const parts = range(c.group).map((i) => {
    const x = sliceAxis(g, c.x, 1, i * inner, inner);
    const w = sliceAxis(g, c.w, 0, i * outer, outer);
    const own = bias === undefined ? [x, w] : [x, w, sliceAxis(g, bias, 0, i * outer, outer)];
    return g.emit("conv", own, { ...node.attrs, group: 1 });
  });
  return g.emit("concat", parts, { axis: 1 });
}

const convolution: Rule = {
  name: "conv",
  law: "conv(x, w) == sum over taps, or blocks of a stride, of matmul(rows of x, w) there, channels last; groups of several channels one by one",
  ops: ["conv"],
  rewrite: (g, node) => {
    const c = geometryOf(g, node);
    const depthwise = c.group === c.channels && c.filters === c.channels;
    if (elementCount(node.type.shape) === 0) return undefined;
    if (c.group !== 1 && !depthwise) return groups(g, c, node);
    const rows = c.group === 1 && isWhole(c) ? patches(g, c) : taps(g, c);
    const bias = node.inputs[2];
    const sum = bias === undefined ? rows : g.emit("add", [rows, bias]);
    const rank = c.spatial.length;
    return g.emit("transpose", [sum], { perm: [0, rank + 1, ...range(rank).map((i) => i + 1)] });
  },
};

export const CONV_RULES: readonly Rule[] = [convolution];
