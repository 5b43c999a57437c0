/**
 * Random graphs of float operations on values of moderate size: for tests that compare a graph before and after something.
 *
 * With `lanes` they fill a machine of so many: last dims of one to three panels, and one more or less, numbers of other
 * magnitudes, rows that are masked, also by infinities, integers and truth values.
 */

import { GraphBuilder } from "../src/ir/builder.js";
import { elementCount, type NodeId, type Shape, type Tensor } from "../src/ir/graph.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";

const UNARY = [
  "neg",
  "abs",
  "tanh",
  "sigmoid",
  "erf",
  "sin",
  "cos",
  "relu",
  "silu",
  "softplus",
  "floor",
  "round",
  "sign",
  "ceil",
];
const BINARY = ["add", "sub", "mul", "max", "min"];
/** Numbers at whose neighbours something changes: exponentials end, squares leave fp16. Greater ones overflow in sums, which is loud. */
const MAGNITUDES = [0, 1, 50, 1e3];
/** Of numbers of 6e4 these are noise, by the last bit of fp16. */
const NOISY = ["sin", "cos"];
const MASKED = [-6e4, -65504, Number.NEGATIVE_INFINITY];

export class RandomGraph {
  readonly builder = new GraphBuilder("random");
  readonly inputs: Record<string, Tensor> = {};
  private readonly nodes: NodeId[] = [];
  private readonly pick: (below: number) => number;
  private readonly lanes: number | undefined;

  constructor(pick: (below: number) => number, steps: number, lanes?: number) {
    this.pick = pick;
    this.lanes = lanes;
    const width = lanes === undefined ? 4 : lanes * (1 + pick(3)) + pick(3) - 1;
    for (const [i, shape] of [
      [2, 3, width],
      [3, width],
      [2, 1, width],
    ].entries()) {
      this.inputs[`x${i}`] = this.tensor(shape);
      this.nodes.push(this.builder.input(`x${i}`, { dtype: "f32", shape }));
    }
    for (let step = 0; step < steps; step += 1) {
      const made = this.step(`n${step}`);
      if (elementCount(this.shape(made)) <= 4096) this.nodes.push(made);
    }
    for (const [i, id] of this.nodes.slice(-3).entries()) this.builder.output(`y${i}`, id);
  }

  private tensor(shape: Shape): Tensor {
    return tensorOf(
      "f32",
      shape,
      Array.from({ length: elementCount(shape) }, () => this.value()),
    );
  }

  private value(): number {
    const value = (this.pick(65) - 32) / 16;
    if (this.lanes === undefined || this.pick(4) > 0) return value;
    return (MAGNITUDES[this.pick(MAGNITUDES.length)] ?? 0) * (this.pick(2) === 0 ? 1 : -1);
  }

  private shape(id: NodeId): Shape {
    return this.builder.type(id).shape;
  }

  private any(): NodeId {
    return this.nodes[this.pick(this.nodes.length)] ?? 0;
  }

  private constant(shape: Shape, origin: string): NodeId {
    return this.builder.constant(literalOf(this.tensor(shape)), [origin]);
  }

  private step(origin: string): NodeId {
    const { builder, pick } = this;
    const x = this.any();
    const shape = this.shape(x);
    const rank = shape.length;
    const axis = pick(rank);
    const add = (op: string, inputs: readonly NodeId[], attrs = {}): NodeId => builder.add(op, inputs, attrs, [origin]);
    const kinds: readonly (() => NodeId)[] = [
      () => {
        const op = UNARY[pick(UNARY.length)] ?? "neg";
        return add(this.lanes !== undefined && NOISY.includes(op) ? "abs" : op, [x]);
      },
      () => add("gelu", [x], { approximate: pick(2) === 0 ? "none" : "tanh" }),
      () => add(BINARY[pick(BINARY.length)] ?? "add", [x, this.constant(pick(2) === 0 ? [] : shape, origin)]),
      () => add(BINARY[pick(BINARY.length)] ?? "add", [this.constant(shape.slice(-1), origin), x]),
      () => {
        const y = this.nodes.find((id) => id !== x && this.shape(id).join() === shape.join()) ?? x;
        return add(BINARY[pick(BINARY.length)] ?? "add", [x, y]);
      },
      () => add("select", [add("lt", [x, this.constant([], origin)]), x, this.constant([], origin)]),
      () => add("transpose", [x], { perm: this.permutation(rank) }),
      () => add("reshape", [x], { shape: this.regrouped(shape) }),
      () => {
        const start = pick(shape[axis] ?? 1);
        const size = 1 + pick((shape[axis] ?? 1) - start);
        const reverse = pick(3) === 0;
        const along = (value: number, other: (extent: number) => number): number[] =>
          shape.map((extent, i) => (i === axis ? value : other(extent)));
        return add("slice", [x], {
          starts: along(reverse ? start + size - 1 : start, () => 0),
          sizes: along(size, (extent) => extent),
          strides: along(reverse ? -1 : 1, () => 1),
        });
      },
      () => add("concat", pick(2) === 0 ? [x, x] : [x, this.constant(shape, origin), x], { axis }),
      () => add("expand", [x], { shape: [2, ...shape] }),
      () =>
        add("pad", [x], {
          before: shape.map(() => pick(2)),
          after: shape.map(() => pick(2)),
          value: 0.5,
          mode: "constant",
        }),
      () =>
        add(["reduce_sum", "reduce_mean", "reduce_max", "reduce_min"][pick(4)] ?? "reduce_sum", [x], {
          axes: shape.map((_, i) => i).filter(() => pick(2) === 0),
          keepdims: pick(2) === 0,
        }),
      () => add("softmax", [x], { axis }),
      () => add("cumsum", [x], { axis, exclusive: pick(2) === 0, reverse: pick(2) === 0 }),
      () => {
        const inner = shape.slice(-1);
        return add("layer_norm", [x, this.constant(inner, origin), this.constant(inner, origin)], {
          axis: rank - 1,
          epsilon: 0.5,
        });
      },
      () =>
        rank < 2
          ? add("neg", [x])
          : add("matmul", [add("tanh", [x]), this.constant([shape[rank - 1] ?? 1, 4], origin)]),
      () => (rank < 2 ? add("neg", [x]) : add("trilu", [x], { upper: pick(2) === 0, k: pick(3) - 1 })),
      () => {
        const indices = tensorOf(
          "i32",
          [3],
          [0, 1, 2].map(() => pick(shape[axis] ?? 1)),
        );
        return add("gather", [x, builder.constant(literalOf(indices), [origin])], { axis });
      },
      () =>
        rank < 3
          ? add("neg", [x])
          : add("conv", [x, this.constant([2, shape[1] ?? 1, ...shape.slice(2).map(() => 1)], origin)], {
              strides: shape.slice(2).map(() => 1),
              pads: shape.slice(2).flatMap(() => [1, 0]),
              dilations: shape.slice(2).map(() => 1),
              group: 1,
            }),
    ];
    const filling: readonly (() => NodeId)[] = [
      // Some rows keep nothing, some everything.
      () => {
        const rows = [...shape.slice(0, -1), 1];
        const kept = tensorOf(
          "f32",
          rows,
          Array.from({ length: elementCount(rows) }, () => pick(3)),
        );
        const mask = add("lt", [builder.constant(literalOf(kept), [origin]), this.constant(shape.slice(-1), origin)]);
        const masked = builder.constant(literalOf(tensorOf("f32", [1], [MASKED[pick(MASKED.length)] ?? 0])), [origin]);
        return add("softmax", [add("select", [mask, x, masked])], { axis: rank - 1 });
      },
      () => {
        const whole = add("cast", [add("min", [x, this.constant([], origin)])], { to: "i32" });
        const other = builder.constant(literalOf(tensorOf("i32", [1], [pick(7) - 3])), [origin]);
        return add("cast", [add(["add", "sub", "mul", "max"][pick(4)] ?? "add", [whole, other])], { to: "f32" });
      },
      () => {
        const [a, b] = [
          add("lt", [x, this.constant([], origin)]),
          add("eq", [x, add("max", [x, this.constant([], origin)])]),
        ];
        return add("cast", [add(pick(2) === 0 ? "and" : "or", [a, b])], { to: "f32" });
      },
    ];
    const all = this.lanes === undefined ? kinds : [...kinds, ...filling];
    const made = all[pick(all.length)]?.() ?? x;
    return this.shape(made).length === 0 ? add("reshape", [made], { shape: [1] }) : made;
  }

  private permutation(rank: number): number[] {
    const left = Array.from({ length: rank }, (_, i) => i);
    return left.map(() => -1).map(() => left.splice(this.pick(left.length), 1)[0] ?? 0);
  }

  /** Joins two neighbouring axes, or splits one. */
  private regrouped(shape: Shape): Shape {
    const axis = this.pick(shape.length);
    const extent = shape[axis] ?? 1;
    if (this.pick(2) === 0 && axis + 1 < shape.length)
      return [...shape.slice(0, axis), extent * (shape[axis + 1] ?? 1), ...shape.slice(axis + 2)];
    return shape.length > 5
      ? shape
      : [...shape.slice(0, axis), ...(extent % 2 === 0 ? [2, extent / 2] : [1, extent]), ...shape.slice(axis + 1)];
  }
}
