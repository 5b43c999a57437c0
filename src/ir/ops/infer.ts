/**
 * Type rules of the operations: operand types and attributes to the type of the result, or a CompileError that says what
 * was expected. Every rule is strict: axes are non-negative and in range, shapes are exactly those that the doc promises.
 * Rules run after `checkAttributes`, and after the number of operands was checked against the row.
 */

import { at, fail, sure } from "../../diagnostics.js";
import { type DType, isFp8, isSubByte } from "../dtype.js";
import { type Attrs, elementCount, type Shape, type TensorType } from "../graph.js";
import { isNarrowFloat } from "../numerics.js";
import { broadcastShapes, equalShapes, formatShape, formatType, isFloat, isInteger } from "../tensor.js";
import { booleanAttr, dtypeAttr, intsAttr, literalAttr, numberAttr, stringAttr } from "./attributes.js";

export type Infer = (types: readonly TensorType[], attrs: Attrs) => TensorType;

const DTYPE_CLASSES = {
  any: { doc: "any element type", accepts: (_: DType): boolean => true },
  float: { doc: "a float type", accepts: isFloat },
  number: {
    doc: "a number type of 8 bits or more",
    accepts: (dtype: DType): boolean => dtype !== "bool" && !isSubByte(dtype),
  },
  int: {
    doc: "an integer type of 8 bits or more",
    accepts: (dtype: DType): boolean => isInteger(dtype) && !isSubByte(dtype),
  },
  bool: { doc: "bool", accepts: (dtype: DType): boolean => dtype === "bool" },
  index: { doc: "i32", accepts: (dtype: DType): boolean => dtype === "i32" },
} as const;
export type DTypeClass = keyof typeof DTYPE_CLASSES;

const wrong = (message: string): never => fail("LPU2010", { message });
const outOfRange = (message: string): never => fail("LPU2011", { message });

export const operand = (types: readonly TensorType[], index: number): TensorType => at(types, index, "operand");

const want = (type: TensorType, kind: DTypeClass, what: string): void => {
  if (!DTYPE_CLASSES[kind].accepts(type.dtype))
    wrong(`${what}: expected ${DTYPE_CLASSES[kind].doc}, got ${formatType(type)}`);
};
const wantSame = (a: TensorType, b: TensorType, what: string): void => {
  if (a.dtype !== b.dtype)
    wrong(`${what}: expected operands of one element type, got ${formatType(a)} and ${formatType(b)}`);
};
const wantShape = (type: TensorType, shape: Shape, what: string): void => {
  if (!equalShapes(type.shape, shape)) wrong(`${what}: expected shape ${formatShape(shape)}, got ${formatType(type)}`);
};
const wantRank = (type: TensorType, rank: number, what: string): void => {
  if (type.shape.length !== rank) wrong(`${what}: expected rank ${rank}, got ${formatType(type)}`);
};
const wantLength = (list: readonly number[], length: number, what: string): void => {
  if (list.length !== length) outOfRange(`expected ${length} values in '${what}', got ${list.length}`);
};
const axisOf = (attrs: Attrs, name: string, rank: number): number => {
  const axis = numberAttr(attrs, name);
  if (axis < 0 || axis >= rank) outOfRange(`expected '${name}' from 0 to ${rank - 1}, got ${axis}`);
  return axis;
};
const extentOf = (shape: Shape, axis: number): number =>
  shape[axis] ?? wrong(`expected an axis ${axis}, got ${formatShape(shape)}`);
const wantExtents = (shape: Shape, what: string): void => {
  if (!shape.every((extent) => Number.isInteger(extent) && extent >= 0))
    outOfRange(`expected non-negative extents in '${what}', got ${formatShape(shape)}`);
};

export const inferUnary =
  (kind: DTypeClass, result?: DType): Infer =>
  (types) => {
    const x = operand(types, 0);
    want(x, kind, "x");
    return { dtype: result ?? x.dtype, shape: x.shape };
  };

/** The element type of both; one f32 element may meet a narrow float, as an immediate of the ALU does, which then prevails. */
const meetingType = (a: TensorType, b: TensorType): DType => {
  const immediate = (type: TensorType): boolean => type.dtype === "f32" && elementCount(type.shape) === 1;
  if (isNarrowFloat(a.dtype) && immediate(b)) return a.dtype;
  if (immediate(a) && isNarrowFloat(b.dtype)) return b.dtype;
  wantSame(a, b, "a and b");
  return a.dtype;
};

export const inferBinary =
  (kind: DTypeClass, result?: DType): Infer =>
  (types) => {
    const [a, b] = [operand(types, 0), operand(types, 1)];
    want(a, kind, "a");
    return { dtype: result ?? meetingType(a, b), shape: broadcastShapes([a.shape, b.shape], "a and b") };
  };

export const inferSelect: Infer = (types) => {
  const [condition, a, b] = [operand(types, 0), operand(types, 1), operand(types, 2)];
  want(condition, "bool", "condition");
  wantSame(a, b, "a and b");
  return { dtype: a.dtype, shape: broadcastShapes([condition.shape, a.shape, b.shape], "condition, a and b") };
};

export const inferCast: Infer = (types, attrs) => ({ dtype: dtypeAttr(attrs, "to"), shape: operand(types, 0).shape });

export const inferConstant: Infer = (_, attrs) => {
  const { dtype, shape } = literalAttr(attrs, "value");
  return { dtype, shape };
};

/** Products of 8-bit integers are summed in i32; all else keeps its type, floats also with FP8 as the second operand. */
const productType = (a: TensorType, b: TensorType): DType => {
  const small = (type: TensorType): boolean => type.dtype === "i8" || type.dtype === "u8";
  if (small(a) && small(b)) return "i32";
  want(a, "number", "operands");
  if (isFp8(b.dtype) && isFloat(a.dtype)) return a.dtype;
  wantSame(a, b, "operands");
  return a.dtype;
};

export const inferMatmul: Infer = (types) => {
  const [a, b] = [operand(types, 0), operand(types, 1)];
  const dtype = productType(a, b);
  if (a.shape.length < 2 || b.shape.length < 2)
    wrong(`a and b: expected rank 2 or more, got ${formatType(a)} and ${formatType(b)}`);
  const [m, k] = a.shape.slice(-2);
  const [rows, n] = b.shape.slice(-2);
  if (k !== rows)
    wrong(`a and b: expected as many columns in a as rows in b, got ${formatType(a)} and ${formatType(b)}`);
  const batch = broadcastShapes([a.shape.slice(0, -2), b.shape.slice(0, -2)], "batches of a and b");
  return { dtype, shape: [...batch, sure(m, "extent"), sure(n, "extent")] };
};

const reduced = (shape: Shape, axes: readonly number[], keepdims: boolean): Shape =>
  keepdims
    ? shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent))
    : shape.filter((_, axis) => !axes.includes(axis));

export const inferReduce =
  (kind: DTypeClass): Infer =>
  (types, attrs) => {
    const x = operand(types, 0);
    want(x, kind, "x");
    const axes = intsAttr(attrs, "axes");
    axes.forEach((axis, i) => {
      if (axis < 0 || axis >= x.shape.length || (i > 0 && axis <= at(axes, i - 1, "axis"))) {
        outOfRange(`expected 'axes' to ascend from 0 to at most ${x.shape.length - 1}, got ${formatShape(axes)}`);
      }
    });
    return { dtype: x.dtype, shape: reduced(x.shape, axes, booleanAttr(attrs, "keepdims")) };
  };

export const inferArgmax: Infer = (types, attrs) => {
  const x = operand(types, 0);
  want(x, "number", "x");
  const axis = axisOf(attrs, "axis", x.shape.length);
  if (extentOf(x.shape, axis) === 0) wrong(`x: expected at least one element along axis ${axis}, got ${formatType(x)}`);
  return { dtype: "i32", shape: reduced(x.shape, [axis], booleanAttr(attrs, "keepdims")) };
};

export const inferReshape: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const shape = intsAttr(attrs, "shape");
  wantExtents(shape, "shape");
  if (elementCount(shape) !== elementCount(x.shape))
    wrong(`x: expected ${elementCount(shape)} elements for shape ${formatShape(shape)}, got ${formatType(x)}`);
  return { dtype: x.dtype, shape };
};

export const inferTranspose: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const perm = intsAttr(attrs, "perm");
  const rank = x.shape.length;
  if (perm.length !== rank || new Set(perm).size !== rank || !perm.every((axis) => axis >= 0 && axis < rank)) {
    outOfRange(`expected 'perm' to name each of ${rank} axes once, got ${formatShape(perm)}`);
  }
  return { dtype: x.dtype, shape: perm.map((axis) => extentOf(x.shape, axis)) };
};

export const inferSlice: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const [starts, sizes, strides] = [intsAttr(attrs, "starts"), intsAttr(attrs, "sizes"), intsAttr(attrs, "strides")];
  wantLength(starts, x.shape.length, "starts");
  wantLength(sizes, x.shape.length, "sizes");
  wantLength(strides, x.shape.length, "strides");
  wantExtents(sizes, "sizes");
  x.shape.forEach((extent, axis) => {
    const [start, size, stride] = [at(starts, axis, "start"), at(sizes, axis, "size"), at(strides, axis, "stride")];
    if (size === 0) return;
    const last = start + (size - 1) * stride;
    if (Math.min(start, last) < 0 || Math.max(start, last) >= extent) {
      outOfRange(`expected the slice of axis ${axis} within 0 to ${extent - 1}, got ${start} to ${last}`);
    }
  });
  return { dtype: x.dtype, shape: sizes };
};

export const inferConcat: Infer = (types, attrs) => {
  const first = operand(types, 0);
  const axis = axisOf(attrs, "axis", first.shape.length);
  let extent = 0;
  for (const type of types) {
    wantSame(first, type, "parts");
    extent += extentOf(type.shape, axis);
    wantShape(
      type,
      first.shape.map((other, i) => (i === axis ? extentOf(type.shape, axis) : other)),
      "parts",
    );
  }
  return { dtype: first.dtype, shape: first.shape.map((other, i) => (i === axis ? extent : other)) };
};

export const inferExpand: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const shape = intsAttr(attrs, "shape");
  wantExtents(shape, "shape");
  if (!equalShapes(broadcastShapes([x.shape, shape], "x and 'shape'"), shape))
    wrong(`x: expected a shape that broadcasts to ${formatShape(shape)}, got ${formatType(x)}`);
  return { dtype: x.dtype, shape };
};

export const inferPad: Infer = (types, attrs) => {
  const x = operand(types, 0);
  const [before, after, mode] = [intsAttr(attrs, "before"), intsAttr(attrs, "after"), stringAttr(attrs, "mode")];
  wantLength(before, x.shape.length, "before");
  wantLength(after, x.shape.length, "after");
  wantExtents(before, "before");
  wantExtents(after, "after");
  const shape = x.shape.map((extent, axis) => {
    const [low, high] = [at(before, axis, "pad"), at(after, axis, "pad")];
    const most =
      mode === "constant" || low + high === 0
        ? Number.POSITIVE_INFINITY
        : mode === "reflect"
          ? extent - 1
          : extent > 0
            ? Number.POSITIVE_INFINITY
            : 0;
    if (Math.max(low, high) > most)
      outOfRange(`expected at most ${most} elements of ${mode} padding on axis ${axis}, got ${Math.max(low, high)}`);
    return low + extent + high;
  });
  return { dtype: x.dtype, shape };
};

export const inferGather: Infer = (types, attrs) => {
  const [data, indices] = [operand(types, 0), operand(types, 1)];
  want(indices, "index", "indices");
  const axis = axisOf(attrs, "axis", data.shape.length);
  return { dtype: data.dtype, shape: [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)] };
};

export const inferGatherNd: Infer = (types, attrs) => {
  const [data, indices] = [operand(types, 0), operand(types, 1)];
  want(indices, "index", "indices");
  const batch = numberAttr(attrs, "batchDims");
  const depth = indices.shape[indices.shape.length - 1];
  if (depth === undefined) return wrong("indices: expected rank 1 or more, got a scalar");
  if (batch < 0 || batch >= indices.shape.length || batch + depth > data.shape.length) {
    wrong(
      `expected indices of at most rank(data) - batchDims columns, got data ${formatType(data)}, indices ${formatType(indices)}, batchDims ${batch}`,
    );
  }
  wantShape(
    { dtype: data.dtype, shape: data.shape.slice(0, batch) },
    indices.shape.slice(0, batch),
    "batch axes of data",
  );
  return { dtype: data.dtype, shape: [...indices.shape.slice(0, -1), ...data.shape.slice(batch + depth)] };
};

export const inferGatherElements: Infer = (types, attrs) => {
  const [data, indices] = [operand(types, 0), operand(types, 1)];
  want(indices, "index", "indices");
  const axis = axisOf(attrs, "axis", data.shape.length);
  wantRank(indices, data.shape.length, "indices");
  data.shape.forEach((extent, i) => {
    if (i !== axis && extentOf(indices.shape, i) > extent)
      wrong(`indices: expected no more than ${formatShape(data.shape)} off axis ${axis}, got ${formatType(indices)}`);
  });
  return { dtype: data.dtype, shape: indices.shape };
};

/** Same type as x, along one axis. */
export const inferAlongAxis =
  (kind: DTypeClass): Infer =>
  (types, attrs) => {
    const x = operand(types, 0);
    want(x, kind, "x");
    axisOf(attrs, "axis", x.shape.length);
    return x;
  };

export const inferOneHot: Infer = (types, attrs) => {
  const indices = operand(types, 0);
  want(indices, "index", "indices");
  const depth = numberAttr(attrs, "depth");
  wantExtents([depth], "depth");
  return { dtype: "bool", shape: [...indices.shape, depth] };
};

export const inferTrilu: Infer = (types) => {
  const x = operand(types, 0);
  if (x.shape.length < 2) wrong(`x: expected rank 2 or more, got ${formatType(x)}`);
  return x;
};

/** Normalization over axes `axis` and later; scale (and bias) broadcast to those axes. */
export const inferNorm: Infer = (types, attrs) => {
  const x = operand(types, 0);
  want(x, "float", "x");
  const inner = x.shape.slice(axisOf(attrs, "axis", x.shape.length));
  for (const parameter of types.slice(1)) {
    wantSame(x, parameter, "x and its scale or bias");
    if (!equalShapes(broadcastShapes([parameter.shape, inner], "scale or bias"), inner))
      wrong(`scale or bias: expected a shape that broadcasts to ${formatShape(inner)}, got ${formatType(parameter)}`);
  }
  return x;
};

export const inferConv: Infer = (types, attrs) => {
  const [x, w, bias] = [operand(types, 0), operand(types, 1), types[2]];
  const dtype = productType(x, w);
  const spatial = x.shape.length - 2;
  if (spatial < 1) wrong(`x: expected rank 3 or more, got ${formatType(x)}`);
  wantRank(w, spatial + 2, "w");
  const [strides, pads, dilations, group] = [
    intsAttr(attrs, "strides"),
    intsAttr(attrs, "pads"),
    intsAttr(attrs, "dilations"),
    numberAttr(attrs, "group"),
  ];
  wantLength(strides, spatial, "strides");
  wantLength(pads, 2 * spatial, "pads");
  wantLength(dilations, spatial, "dilations");
  if (![...strides, ...dilations, group].every((value) => value >= 1))
    outOfRange("expected 'strides', 'dilations' and 'group' of at least 1");
  wantExtents(pads, "pads");
  const [batch, channels] = [extentOf(x.shape, 0), extentOf(x.shape, 1)];
  const filters = extentOf(w.shape, 0);
  if (channels !== extentOf(w.shape, 1) * group || filters % group !== 0) {
    wrong(`w: expected ${group} groups that cover ${channels} channels, got x ${formatType(x)} and w ${formatType(w)}`);
  }
  if (bias !== undefined) {
    if (bias.dtype !== dtype) wrong(`bias: expected ${dtype}, got ${formatType(bias)}`);
    wantShape(bias, [filters], "bias");
  }
  const places = strides.map((stride, i) => {
    const reach = at(dilations, i, "dilation") * (extentOf(w.shape, i + 2) - 1) + 1;
    const extent = extentOf(x.shape, i + 2) + at(pads, i, "pad") + at(pads, spatial + i, "pad");
    if (extent < reach) wrong(`x: expected at least ${reach} padded elements along spatial axis ${i}, got ${extent}`);
    return Math.floor((extent - reach) / stride) + 1;
  });
  return { dtype, shape: [batch, filters, ...places] };
};

export const inferAttention: Infer = (types) => {
  const [q, k, v, mask] = [operand(types, 0), operand(types, 1), operand(types, 2), types[3]];
  want(q, "float", "q");
  for (const [type, name] of [
    [q, "q"],
    [k, "k"],
    [v, "v"],
  ] as const) {
    wantRank(type, 4, name);
    wantSame(q, type, `q and ${name}`);
  }
  const [batch, heads, queries, width] = [
    extentOf(q.shape, 0),
    extentOf(q.shape, 1),
    extentOf(q.shape, 2),
    extentOf(q.shape, 3),
  ];
  const [groups, keys] = [extentOf(k.shape, 1), extentOf(k.shape, 2)];
  if (groups === 0 || heads % groups !== 0)
    wrong(`k: expected a number of heads that divides ${heads}, got ${formatType(k)}`);
  wantShape(k, [batch, groups, keys, width], "k");
  wantShape(v, [batch, groups, keys, extentOf(v.shape, 3)], "v");
  if (mask !== undefined) {
    if (mask.dtype !== "bool") wantSame(q, mask, "q and mask");
    const scores = [batch, heads, queries, keys];
    if (!equalShapes(broadcastShapes([mask.shape, scores], "mask"), scores))
      wrong(`mask: expected a shape that broadcasts to ${formatShape(scores)}, got ${formatType(mask)}`);
  }
  return { dtype: q.dtype, shape: [batch, heads, queries, extentOf(v.shape, 3)] };
};
