/**
 * Puts a model together node by node, as an exporter does: plain operators, path-like names, weights by module name.
 *
 * `GraphBuilder` hands out value names and keeps everything in order of creation; it knows which form an operator has at
 * the chosen opset (axes as attribute or input, LayerNormalization or its primitives), so the families do not. Values
 * are plain strings; nothing here infers shapes. Names depend only on the model, never on a global counter.
 */

import type { AttributeValue, ElementType, Initializer, OnnxModel, OnnxNode, ValueInfo } from "./onnx-writer.js";
import { boolTensor, floatTensor, int64Tensor, normalTensor } from "./weights.js";

/** The name of a value. */
export type Value = string;

/** Spread of bias, normalization scale (about 1) and normalization bias: about what training leaves behind. */
const BIAS_STD = 0.02;
const SCALE_STD = 0.05;

export class GraphBuilder {
  readonly opset: number;
  readonly seed: number;
  private readonly nodes: OnnxNode[] = [];
  private readonly initializers = new Map<string, Initializer>();
  private readonly inputs: ValueInfo[] = [];
  private readonly outputs: ValueInfo[] = [];
  private readonly names = new Map<string, number>();
  private scope: readonly string[] = [];

  constructor(opset: number, seed: number) {
    this.opset = opset;
    this.seed = seed;
  }

  finish(name: string): OnnxModel {
    return {
      name,
      opset: this.opset,
      nodes: this.nodes,
      inputs: this.inputs,
      outputs: this.outputs,
      initializers: [...this.initializers.values()],
    };
  }

  /** Runs `body` with module `name` appended to the path of everything it makes. */
  within<T>(name: string, body: () => T): T {
    const outer = this.scope;
    this.scope = [...outer, name];
    try {
      return body();
    } finally {
      this.scope = outer;
    }
  }

  input(name: string, type: ElementType, dims: readonly number[], open: ValueInfo["open"] = {}): Value {
    this.inputs.push({ name, type, dims, open });
    return name;
  }

  /** Names `value` as an output: an Identity at the end, which exporters leave too and every compiler must see through. */
  output(name: string, value: Value, dims: readonly number[], open: ValueInfo["open"] = {}): void {
    this.nodes.push({ op: "Identity", name: `/${name}/Identity`, inputs: [value], outputs: [name], attributes: {} });
    this.outputs.push({ name, type: "float32", dims, open });
  }

  node(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, AttributeValue>> = {}): Value {
    return this.nodeWithOutputs(op, inputs, attributes, 1)[0] ?? "";
  }

  nodeWithOutputs(
    op: string,
    inputs: readonly Value[],
    attributes: Readonly<Record<string, AttributeValue>>,
    count: number,
  ): Value[] {
    const name = this.unique(`/${[...this.scope, op].join("/")}`);
    const outputs = Array.from({ length: count }, (_, index) => `${name}_output_${index}`);
    this.nodes.push({ op, name, inputs, outputs, attributes });
    return outputs;
  }

  /** A seeded weight, `<path>.<name>`. */
  weight(name: string, dims: readonly number[], std: number, mean = 0): Value {
    const path = [...this.scope, name].join(".");
    return this.initializer(normalTensor(path, dims, this.seed, std, mean));
  }

  /** A constant shared by all who ask for the same contents. */
  constant(name: string, dims: readonly number[], values: ArrayLike<number>): Value {
    return this.initializer(floatTensor(name, dims, values));
  }

  scalar(value: number): Value {
    return this.constant(`constant_${value}`, [], [value]);
  }

  integers(values: readonly (number | bigint)[], dims: readonly number[] = [values.length]): Value {
    return this.initializer(int64Tensor(`ints_${dims.join("x")}_${values.join("_")}`, dims, values));
  }

  /** Like `integers`, for long lists: named by what they are. */
  indexTable(name: string, dims: readonly number[], values: readonly number[]): Value {
    return this.initializer(int64Tensor(name, dims, values));
  }

  truths(name: string, dims: readonly number[], values: readonly boolean[]): Value {
    return this.initializer(boolTensor(name, dims, values));
  }

  /** x W + b with W as [in, out]: MatMul and Add, as exporters write torch.nn.Linear. */
  linear(name: string, x: Value, inputs: number, outputs: number, bias = true, std = 1 / Math.sqrt(inputs)): Value {
    return this.within(name, () => {
      const product = this.node("MatMul", [x, this.weight("weight", [inputs, outputs], std)]);
      return bias ? this.node("Add", [this.weight("bias", [outputs], BIAS_STD), product]) : product;
    });
  }

  /** x W + b by Gemm over flattened rows, as exporters write GPT-2's Conv1D. */
  gemm(
    name: string,
    x: Value,
    rows: readonly number[],
    inputs: number,
    outputs: number,
    std = 1 / Math.sqrt(inputs),
  ): Value {
    return this.within(name, () => {
      const flat = this.reshape(x, [-1, inputs]);
      const weight = this.weight("weight", [inputs, outputs], std);
      const result = this.node("Gemm", [flat, weight, this.weight("bias", [outputs], BIAS_STD)]);
      return this.reshape(result, [...rows, outputs]);
    });
  }

  /** Layer normalization over the last axis: one operator from opset 17 on, its primitives before that. */
  layerNorm(name: string, x: Value, width: number, epsilon: number): Value {
    return this.within(name, () => {
      const scale = this.weight("weight", [width], SCALE_STD, 1);
      const bias = this.weight("bias", [width], BIAS_STD);
      if (this.opset >= 17)
        return this.node("LayerNormalization", [x, scale, bias], { axis: -1, epsilon: { float: epsilon } });
      const centred = this.node("Sub", [x, this.reduceMean(x)]);
      const variance = this.reduceMean(this.node("Pow", [centred, this.scalar(2)]));
      const deviation = this.node("Sqrt", [this.node("Add", [variance, this.scalar(epsilon)])]);
      return this.node("Add", [this.node("Mul", [this.node("Div", [centred, deviation]), scale]), bias]);
    });
  }

  /** Root-mean-square normalization as Llama's code spells it. */
  rmsNorm(name: string, x: Value, width: number, epsilon: number): Value {
    return this.within(name, () => {
      const square = this.reduceMean(this.node("Pow", [x, this.scalar(2)]));
      const deviation = this.node("Sqrt", [this.node("Add", [square, this.scalar(epsilon)])]);
      const normal = this.node("Mul", [x, this.node("Div", [this.scalar(1), deviation])]);
      return this.node("Mul", [this.weight("weight", [width], SCALE_STD, 1), normal]);
    });
  }

  /** x/2 (1 + erf(x / sqrt 2)). */
  geluErf(x: Value): Value {
    const erf = this.node("Erf", [this.node("Div", [x, this.scalar(Math.SQRT2)])]);
    return this.node("Mul", [this.node("Mul", [x, this.node("Add", [erf, this.scalar(1)])]), this.scalar(0.5)]);
  }

  /** x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
  geluTanh(x: Value): Value {
    const cubic = this.node("Mul", [this.node("Pow", [x, this.scalar(3)]), this.scalar(0.044715)]);
    const inner = this.node("Mul", [this.node("Add", [x, cubic]), this.scalar(0.7978845608028654)]);
    const gate = this.node("Add", [this.node("Tanh", [inner]), this.scalar(1)]);
    return this.node("Mul", [this.node("Mul", [x, this.scalar(0.5)]), gate]);
  }

  reduceMean(x: Value): Value {
    return this.opset >= 18
      ? this.node("ReduceMean", [x, this.integers([-1])], { keepdims: 1 })
      : this.node("ReduceMean", [x], { axes: [-1], keepdims: 1 });
  }

  /** Over the last axis, which stays. */
  reduceSum(x: Value): Value {
    return this.node("ReduceSum", [x, this.integers([-1])], { keepdims: 1 });
  }

  reshape(x: Value, dims: readonly number[]): Value {
    return this.node("Reshape", [x, this.integers(dims)]);
  }

  transpose(x: Value, perm: readonly number[]): Value {
    return this.node("Transpose", [x], { perm });
  }

  unsqueeze(x: Value, axis: number): Value {
    return this.node("Unsqueeze", [x, this.integers([axis])]);
  }

  slice(x: Value, axis: number, start: number, end: number | bigint): Value {
    return this.node("Slice", [
      x,
      this.integers([start]),
      this.integers([end]),
      this.integers([axis]),
      this.integers([1]),
    ]);
  }

  /** [batch, seq, heads * size] -> [batch, heads, seq, size]. */
  splitHeads(x: Value, batch: number, seq: number, heads: number, size: number): Value {
    return this.transpose(this.reshape(x, [batch, seq, heads, size]), [0, 2, 1, 3]);
  }

  /** [batch, heads, seq, size] -> [batch, seq, heads * size]. */
  joinHeads(x: Value, batch: number, seq: number, width: number): Value {
    return this.reshape(this.transpose(x, [0, 2, 1, 3]), [batch, seq, width]);
  }

  private initializer(initializer: Initializer): Value {
    if (!this.initializers.has(initializer.name)) this.initializers.set(initializer.name, initializer);
    return initializer.name;
  }

  private unique(name: string): string {
    const seen = this.names.get(name) ?? 0;
    this.names.set(name, seen + 1);
    return seen === 0 ? name : `${name}_${seen}`;
  }
}

/** Where query i may see key j: not beyond itself. Row-major [seq, seq]. */
export const causal = <T>(seq: number, visible: T, hidden: T): T[] =>
  Array.from({ length: seq * seq }, (_, index) => (index % seq <= Math.floor(index / seq) ? visible : hidden));

/** Most negative float32, which exporters add or select where attention may not look. */
export const LOWEST = -3.4028234663852886e38;
