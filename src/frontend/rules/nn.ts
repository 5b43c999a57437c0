/**
 * Import rules of layers: convolution, pooling and normalization.
 *
 * Pooling is a fold over the places of the window: one strided slice for each, joined by max or add. Normalization over
 * trailing axes is a composite of the tensor IR; the other forms are means and differences.
 */

import { at } from "../../diagnostics.js";
import { integerLimits } from "../../ir/dtype.js";
import type { NodeId } from "../../ir/graph.js";
import {
  add,
  axesIn,
  axisIn,
  cast,
  dtypeOf,
  extent,
  flag,
  float,
  has,
  int,
  ints,
  iota,
  mul,
  op,
  operand,
  optional,
  intsFor,
  stepsFor,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scalarLike,
  scale,
  shapeOf,
  sub,
  text,
  unsupported,
  wants,
} from "../rule.js";

interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Strides, dilations and pads over the spatial axes of x, with auto_pad resolved. */
function windowOf(c: RuleContext, x: NodeId, kernel: readonly number[]): Window {
  const spatial = kernel.length;
  if (rankOf(c, x) !== spatial + 2 || spatial === 0)
    reject(c, "LPU1012", `expected rank ${spatial + 2}, got ${rankOf(c, x)}`);
  const strides = stepsFor(c, "strides", spatial);
  const dilations = stepsFor(c, "dilations", spatial);
  const auto = text(c, "auto_pad", "NOTSET");
  if (auto === "NOTSET" || auto === "VALID") {
    const pads = auto === "VALID" ? [] : intsFor(c, "pads", 2 * spatial, 0);
    const side = (from: number): number[] => kernel.map((_, i) => (auto === "VALID" ? 0 : at(pads, from + i, "pad")));
    return { kernel, strides, dilations, before: side(0), after: side(spatial) };
  }
  const total = kernel.map((size, i) => {
    const [own, stride] = [extent(c, x, i + 2), at(strides, i, "stride")];
    return Math.max(0, (Math.ceil(own / stride) - 1) * stride + (size - 1) * at(dilations, i, "dilation") + 1 - own);
  });
  const [small, large] = [total.map((sum) => Math.floor(sum / 2)), total.map((sum) => Math.ceil(sum / 2))];
  return {
    kernel,
    strides,
    dilations,
    before: auto === "SAME_LOWER" ? large : small,
    after: auto === "SAME_LOWER" ? small : large,
  };
}

/** A convolution of x [N,C,...] with w [M,C/group,...] by the node's attributes. */
export function convolution(c: RuleContext, x: NodeId, w: NodeId, bias: NodeId | undefined): NodeId {
  const { strides, dilations, before, after } = windowOf(c, x, shapeOf(c, w).slice(2));
  return op(c, "conv", bias === undefined ? [x, w] : [x, w, bias], {
    strides,
    pads: [...before, ...after],
    dilations,
    group: int(c, "group", 1),
  });
}

const LARGEST_WINDOW = 1024;

/** Joins the places of the window; `filler` stands for what is outside of x. */
function pooled(
  c: RuleContext,
  x: NodeId,
  window: Window,
  join: "max" | "add",
  filler: number,
): { readonly id: NodeId; readonly places: readonly number[] } {
  const { kernel, strides, dilations, before, after } = window;
  const taps = kernel.reduce((product, size) => product * size, 1);
  if (!(taps > 0)) reject(c, "LPU1008", `expected a window of one place or more, got [${kernel.join(",")}]`);
  if (taps > LARGEST_WINDOW) unsupported(c, `a window of ${taps} places is not supported`, `at most ${LARGEST_WINDOW}`);
  const shape = shapeOf(c, x);
  const reach = kernel.map((size, i) => (size - 1) * at(dilations, i, "dilation") + 1);
  const up = flag(c, "ceil_mode");
  const places = kernel.map((_, i) => {
    const [own, low, stride] = [at(shape, i + 2, "extent"), at(before, i, "pad"), at(strides, i, "stride")];
    const room = (own + low + at(after, i, "pad") - at(reach, i, "reach")) / stride;
    const count = (up ? Math.ceil(room) : Math.floor(room)) + 1;
    return up && (count - 1) * stride >= own + low ? count - 1 : count;
  });
  const missing = places.map((count, i) =>
    Math.max(
      0,
      (count - 1) * at(strides, i, "stride") +
        at(reach, i, "reach") -
        at(shape, i + 2, "extent") -
        at(before, i, "pad"),
    ),
  );
  const padded = op(c, "pad", [x], {
    before: [0, 0, ...before],
    after: [0, 0, ...missing],
    value: filler,
    mode: "constant",
  });
  const parts = iota(taps).map((tap) => {
    let rest = tap;
    const starts = [...kernel]
      .reverse()
      .map((size, i) => {
        const tap = rest % size;
        rest = Math.floor(rest / size);
        return tap * at(dilations, kernel.length - 1 - i, "dilation");
      })
      .reverse();
    return op(c, "slice", [padded], {
      starts: [0, 0, ...starts],
      sizes: [...shape.slice(0, 2), ...places],
      strides: [1, 1, ...strides],
    });
  });
  return { id: parts.reduce((total, part) => op(c, join, [total, part])), places };
}

function maxPool(c: RuleContext): NodeId {
  const x = operand(c, 0);
  if (wants(c, 1)) unsupported(c, "indices of maxima are not supported as a result");
  const least = integerLimits(dtypeOf(c, x))?.lo ?? Number.NEGATIVE_INFINITY;
  return pooled(c, x, windowOf(c, x, ints(c, "kernel_shape")), "max", least).id;
}

export function averagePool(c: RuleContext, x: NodeId): NodeId {
  const window = windowOf(c, x, ints(c, "kernel_shape"));
  const { id, places } = pooled(c, x, window, "add", 0);
  const include = flag(c, "count_include_pad");
  // How many places of the window count, axis by axis: their product is the divisor.
  const counts = places.map((places, i) => {
    const [own, low, high] = [extent(c, x, i + 2), at(window.before, i, "pad"), at(window.after, i, "pad")];
    const [from, to] = include ? [-low, own + high] : [0, own];
    const factor = iota(places).map((place) => {
      const start = place * at(window.strides, i, "stride") - low;
      return (
        1 /
        iota(at(window.kernel, i, "kernel extent")).filter(
          (tap) =>
            start + tap * at(window.dilations, i, "dilation") >= from &&
            start + tap * at(window.dilations, i, "dilation") < to,
        ).length
      );
    });
    return c.graph.numbers(dtypeOf(c, x), [factor.length, ...window.kernel.slice(i + 1).map(() => 1)], factor);
  });
  return counts.reduce((total, factor) => mul(c, total, factor), id);
}

/** The p-th root of the sum of p-th powers over the window. */
function lpPool(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const p = int(c, "p", 2);
  const size = op(c, "abs", [x]);
  const power = (of: NodeId, exponent: number): NodeId => op(c, "pow", [of, scalarLike(c, of, exponent)]);
  const { id } = pooled(c, p === 1 ? size : power(size, p), windowOf(c, x, ints(c, "kernel_shape")), "add", 0);
  return p === 1 ? id : power(id, 1 / p);
}

/** The p-th root of the sum of p-th powers over the spatial axes. */
function globalLpPool(c: RuleContext): NodeId {
  const p = int(c, "p", 2);
  const x = op(c, "abs", [operand(c, 0)]);
  const sum = reduce(c, "sum", op(c, "pow", [x, scalarLike(c, x, p)]), spatialAxes(c, x), true);
  return op(c, "pow", [sum, scalarLike(c, x, 1 / p)]);
}

const spatialAxes = (c: RuleContext, x: NodeId): number[] => iota(rankOf(c, x)).slice(2);

/** A parameter of the channels (axis 1), in a shape that broadcasts to x and in its element type. */
const perChannel = (c: RuleContext, x: NodeId, parameter: NodeId): NodeId =>
  reshape(c, cast(c, parameter, dtypeOf(c, x)), [...shapeOf(c, parameter), ...spatialAxes(c, x).map(() => 1)]);

/** (x - mean) / sqrt(variance + epsilon) over the given axes. */
function standardized(c: RuleContext, x: NodeId, axes: readonly number[], epsilon: number): NodeId {
  const centered = sub(c, x, reduce(c, "mean", x, axes, true));
  const variance = reduce(c, "mean", mul(c, centered, centered), axes, true);
  return mul(c, centered, op(c, "rsqrt", [add(c, variance, scalarLike(c, x, epsilon))]));
}

function batchNormalization(c: RuleContext): NodeId {
  const x = operand(c, 0);
  if (flag(c, "training_mode") || wants(c, 1))
    unsupported(c, "training mode is not supported", "export the model for inference");
  const [factor, bias, mean, variance] = [1, 2, 3, 4].map((i) => cast(c, operand(c, i), dtypeOf(c, x)));
  if (factor === undefined || bias === undefined || mean === undefined || variance === undefined)
    return reject(c, "LPU1008", "expected 5 operands");
  // One factor and one offset for each channel; they fold where the parameters are constant.
  const deviation = op(c, "sqrt", [add(c, variance, scalarLike(c, variance, float(c, "epsilon", 1e-5)))]);
  const slope = op(c, "div", [factor, deviation]);
  const offset = sub(c, bias, mul(c, mean, slope));
  return add(c, mul(c, x, perChannel(c, x, slope)), perChannel(c, x, offset));
}

function instanceNormalization(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const normal = standardized(c, x, spatialAxes(c, x), float(c, "epsilon", 1e-5));
  return add(c, mul(c, normal, perChannel(c, x, operand(c, 1))), perChannel(c, x, operand(c, 2)));
}

/** Scale and bias are of the groups before version 21, of the channels since; which is seen from their length. */
function groupNormalization(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const [n = 1, channels = 1, ...space] = shapeOf(c, x);
  const groups = int(c, "num_groups");
  const apart = reshape(c, x, [n, groups, space.reduce((product, own) => product * own, channels / groups)]);
  const normal = standardized(c, apart, [2], float(c, "epsilon", 1e-5));
  const parameter = (index: number, like: NodeId): NodeId => perChannel(c, like, operand(c, index));
  if (c.opset < 21 && extent(c, operand(c, 1), 0) === groups) {
    return reshape(c, add(c, mul(c, normal, parameter(1, normal)), parameter(2, normal)), shapeOf(c, x));
  }
  const whole = reshape(c, normal, shapeOf(c, x));
  return add(c, mul(c, whole, parameter(1, whole)), parameter(2, whole));
}

/** Zeros in the shape and type of another node. */
export const zerosLike = (c: RuleContext, id: NodeId): NodeId =>
  op(c, "expand", [scalarLike(c, id, 0)], { shape: shapeOf(c, id) });

/** A scale that varies along axes before the normalized ones is a product afterwards. */
function scaledNorm(c: RuleContext, x: NodeId, factor: NodeId, bias: NodeId, axis: number, epsilon: number): NodeId {
  const own = shapeOf(c, x).slice(axis);
  const fits = (id: NodeId): boolean => shapeOf(c, id).length <= own.length;
  if (fits(factor) && fits(bias)) return op(c, "layer_norm", [x, factor, bias], { axis, epsilon });
  const filled = (value: number): NodeId => op(c, "expand", [scalarLike(c, x, value)], { shape: own });
  const normal = op(c, "layer_norm", [x, filled(1), filled(0)], { axis, epsilon });
  return add(c, mul(c, normal, factor), bias);
}

function layerNormalization(c: RuleContext): readonly NodeId[] {
  const x = operand(c, 0);
  const axis = axisIn(c, int(c, "axis", -1), rankOf(c, x));
  const epsilon = float(c, "epsilon", 1e-5);
  const factor = cast(c, operand(c, 1), dtypeOf(c, x));
  const bias = has(c, 2) ? cast(c, operand(c, 2), dtypeOf(c, x)) : zerosLike(c, factor);
  const result = scaledNorm(c, x, factor, bias, axis, epsilon);
  if (!wants(c, 1) && !wants(c, 2)) return [result];
  const axes = iota(rankOf(c, x)).slice(axis);
  const mean = reduce(c, "mean", x, axes, true);
  const centered = sub(c, x, mean);
  const variance = reduce(c, "mean", mul(c, centered, centered), axes, true);
  return [result, mean, op(c, "rsqrt", [add(c, variance, scalarLike(c, x, epsilon))])];
}

function rmsNormalization(c: RuleContext): readonly NodeId[] {
  const x = operand(c, 0);
  const axis = axisIn(c, int(c, "axis", -1), rankOf(c, x));
  const epsilon = float(c, "epsilon", 1e-5);
  const result = op(c, "rms_norm", [x, cast(c, operand(c, 1), dtypeOf(c, x))], { axis, epsilon });
  if (!wants(c, 1)) return [result];
  const square = reduce(c, "mean", mul(c, x, x), iota(rankOf(c, x)).slice(axis), true);
  return [result, op(c, "rsqrt", [add(c, square, scalarLike(c, x, epsilon))])];
}

/** A norm of zero leaves the zeros as they are. */
function lpNormalization(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const axes = [axisIn(c, int(c, "axis", -1), rankOf(c, x))];
  const sum = (of: NodeId): NodeId => reduce(c, "sum", of, axes, true);
  const norm = int(c, "p", 2) === 1 ? sum(op(c, "abs", [x])) : op(c, "sqrt", [sum(mul(c, x, x))]);
  const isZero = op(c, "eq", [norm, scalarLike(c, norm, 0)]);
  return op(c, "div", [x, op(c, "select", [isZero, scalarLike(c, norm, 1), norm])]);
}

/** Divides by the neighbours' energy over a window of channels. */
function lrn(c: RuleContext): NodeId {
  const x = operand(c, 0);
  const size = int(c, "size");
  const channels = extent(c, x, 1);
  const low = Math.floor((size - 1) / 2);
  const pad = (amount: number): number[] => shapeOf(c, x).map((_, axis) => (axis === 1 ? amount : 0));
  const padded = op(c, "pad", [mul(c, x, x)], {
    before: pad(low),
    after: pad(size - 1 - low),
    value: 0,
    mode: "constant",
  });
  const parts = iota(size).map((start) =>
    op(c, "slice", [padded], {
      starts: pad(start),
      sizes: shapeOf(c, x).map((own, axis) => (axis === 1 ? channels : own)),
      strides: shapeOf(c, x).map(() => 1),
    }),
  );
  const [first = x, ...others] = parts;
  const energy = scale(
    c,
    others.reduce((total, part) => add(c, total, part), first),
    float(c, "alpha", 1e-4) / size,
  );
  return op(c, "div", [
    x,
    op(c, "pow", [add(c, energy, scalarLike(c, x, float(c, "bias", 1))), scalarLike(c, x, float(c, "beta", 0.75))]),
  ]);
}

const globalPool = (c: RuleContext, how: "mean" | "max"): NodeId =>
  reduce(c, how, operand(c, 0), spatialAxes(c, operand(c, 0)), true);

export const NN: readonly Rule[] = [
  {
    op: "Conv",
    doc: "The operation conv.",
    ignores: { kernel_shape: "the shape of the weights says it" },
    build: (c) => convolution(c, operand(c, 0), operand(c, 1), optional(c, 2)),
  },
  {
    op: "MaxPool",
    doc: "The maximum of one strided slice for each place of the window.",
    refuses: "Indices of maxima as a result, and windows of more than 1,024 places.",
    ignores: { storage_order: "it says how indices of maxima are counted" },
    build: maxPool,
  },
  {
    op: "AveragePool",
    doc: "The sum of one strided slice for each place of the window, times constants.",
    refuses: "Windows of more than 1,024 places.",
    build: (c) => averagePool(c, operand(c, 0)),
  },
  {
    op: "LpPool",
    doc: "Powers of one strided slice for each place of the window, added up, and the root.",
    build: lpPool,
  },
  { op: "GlobalLpPool", doc: "Powers added up over the spatial axes, and the root.", build: globalLpPool },
  { op: "GlobalAveragePool", doc: "A mean over the spatial axes.", build: (c) => globalPool(c, "mean") },
  { op: "GlobalMaxPool", doc: "A maximum over the spatial axes.", build: (c) => globalPool(c, "max") },
  {
    op: "BatchNormalization",
    doc: "A factor and an offset for each channel (inference).",
    refuses: "Training mode.",
    defaults: { spatial: 1 },
    build: batchNormalization,
  },
  { op: "InstanceNormalization", doc: "Mean and variance over the spatial axes.", build: instanceNormalization },
  { op: "GroupNormalization", doc: "Mean and variance over groups of channels.", build: groupNormalization },
  { op: "LayerNormalization", doc: "The operation layer_norm.", build: layerNormalization },
  { op: "RMSNormalization", doc: "The operation rms_norm.", build: rmsNormalization },
  { op: "SimplifiedLayerNormalization", doc: "The operation rms_norm.", build: rmsNormalization },
  { op: "LpNormalization", doc: "Division by a norm along one axis.", build: lpNormalization },
  { op: "LRN", doc: "Division by a power of a windowed sum over channels.", build: lrn },
  {
    op: "MeanVarianceNormalization",
    doc: "Mean and variance over the given axes.",
    build: (c) => standardized(c, operand(c, 0), axesIn(c, ints(c, "axes", [0, 2, 3]), rankOf(c, operand(c, 0))), 1e-9),
  },
];
