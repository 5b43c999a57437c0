/**
 * Appends operations to the graph under construction and folds at once whatever depends on constants only.
 *
 * Folding is what makes exporters' shape arithmetic vanish: an operation on constants becomes a constant. Small results,
 * and results made of small constants, are computed now and held; anything made from large weights becomes a literal that
 * is computed whenever it is loaded, so weights never sit in memory. Operations that change nothing are not added.
 * `finish` keeps only what the outputs need, and all inputs.
 */

import { fail, invariant } from "../diagnostics.js";
import { GraphBuilder } from "../ir/builder.js";
import type { DType, EdgeDType } from "../ir/dtype.js";
import {
  type Attrs,
  elementCount,
  type Graph,
  type GraphOutput,
  type Literal,
  type NodeId,
  type Tensor,
  type TensorType,
} from "../ir/graph.js";
import { keepsNumbers, likeIts } from "../ir/literals.js";
import { intsAttr, literalIn, stringAttr } from "../ir/ops/attributes.js";
import { evaluateNode, inferType, VIEWS } from "../ir/ops.js";
import { contentKey, equalShapes, formatType, newData, tensorOf } from "../ir/tensor.js";

/** Results up to this many elements are held even when they are made from a large weight. */
const SMALL_RESULT = 1 << 16;
/** Largest result that is held, and the most that may be held in all (in elements). */
const LARGEST_HELD = 1 << 22;
const HELD_BUDGET = 1 << 26;
/** Beyond this a tensor is a mistake in the model, or malice. */
const LARGEST_TENSOR = 2 ** 32;

export interface Appender {
  /** Names of the ONNX nodes that what is added next computes. */
  origin: readonly string[];
  readonly add: (op: string, inputs: readonly NodeId[], attrs?: Attrs) => NodeId;
  /**
   * What `make` adds stays in the graph, and so do views of it, for passes that look at how constants are made; `constant`
   * knows its value none the less.
   */
  readonly unfolded: (make: () => NodeId) => NodeId;
  readonly input: (name: string, type: TensorType, declared: EdgeDType) => NodeId;
  readonly literal: (literal: Literal) => NodeId;
  readonly tensor: (tensor: Tensor) => NodeId;
  readonly numbers: (dtype: DType, shape: readonly number[], values: ArrayLike<number>) => NodeId;
  readonly type: (id: NodeId) => TensorType;
  /** The constant that a node is, if it is one. */
  readonly constant: (id: NodeId) => Literal | undefined;
  /** Names of the inputs that a node depends on. */
  readonly inputsOf: (id: NodeId) => readonly string[];
  readonly finish: (outputs: readonly GraphOutput[]) => Graph;
}

/** A literal computed from others; `compute` shares what one load computes on the way. */
interface Derived extends Literal {
  readonly compute: (known: Map<string, Tensor>) => Tensor;
}
const isDerived = (literal: Literal): literal is Derived => "compute" in literal;
const computed = (literal: Literal, known: Map<string, Tensor>): Tensor =>
  isDerived(literal) ? literal.compute(known) : literal.load();

function derive(op: string, attrs: Attrs, type: TensorType, inputs: readonly Literal[]): Derived {
  const words = JSON.stringify(attrs, (_, value: unknown) => (typeof value === "number" ? String(value) : value));
  const key = contentKey(textBytes(`${op}${words}(${inputs.map((input) => input.key).join(",")})`));
  const compute = (known: Map<string, Tensor>): Tensor => {
    const before = known.get(key);
    if (before !== undefined) return before;
    const result = evaluateNode(
      op,
      inputs.map((input) => computed(input, known)),
      attrs,
      type,
    );
    known.set(key, result);
    return result;
  };
  const { dtype, shape } = type;
  const [base] = inputs;
  const derived: Derived = { dtype, shape, key: `derived ${key}`, compute, load: () => compute(new Map()) };
  return base !== undefined && keepsNumbers(op) ? likeIts(base, derived) : derived;
}

function textBytes(text: string): Tensor {
  const data = new TextEncoder().encode(text);
  return { dtype: "u8", shape: [data.length], data };
}

/** When an operation gives its first operand unchanged. */
const CHANGES_NOTHING: Readonly<
  Record<string, (x: TensorType, result: TensorType, attrs: Attrs, operands: number) => boolean>
> = {
  reshape: () => true,
  expand: () => true,
  transpose: (_x, _result, attrs) => intsAttr(attrs, "perm").every((from, to) => from === to),
  slice: (_x, _result, attrs) =>
    intsAttr(attrs, "strides").every((stride, axis) => stride === 1 || intsAttr(attrs, "sizes")[axis] === 1),
  concat: (_x, _result, _attrs, operands) => operands === 1,
  pad: () => true,
  cast: () => true,
};

/** What appends to a new graph; see above for what it folds, and when. */
export function appender(name: string): Appender {
  const graph = new GraphBuilder(name);
  const byKey = new Map<string, NodeId>();
  const held = new Set<NodeId>();
  /** Small results of what is not held, by what makes them: every layer asks the same of a table, which is read once. */
  const parts = new Map<string, NodeId>();
  /** Nodes of constants that are not folded, and what they would be. */
  const kept = new Map<NodeId, Literal>();
  let keeps = false;
  let budget = HELD_BUDGET;

  const constantOf = (id: NodeId): Literal | undefined => literalIn(graph.node(id)) ?? kept.get(id);
  const literal = (value: Literal): NodeId => {
    const known = byKey.get(value.key);
    if (known !== undefined) return known;
    const id = graph.constant(value, self.origin);
    byKey.set(value.key, id);
    return id;
  };
  const tensor = (value: Tensor): NodeId => {
    const id = literal({ dtype: value.dtype, shape: value.shape, key: contentKey(value), load: () => value });
    held.add(id);
    return id;
  };
  const isHeld = (id: NodeId): boolean => held.has(id) || elementCount(graph.type(id).shape) <= SMALL_RESULT;

  const fold = (op: string, inputs: readonly NodeId[], attrs: Attrs, type: TensorType): NodeId | undefined => {
    const count = elementCount(type.shape);
    if (count > LARGEST_TENSOR)
      fail("LPU1012", { message: `expected at most ${LARGEST_TENSOR} elements, got ${formatType(type)}` });
    if (count === 0) return tensor({ ...type, data: newData(type.dtype, 0) });
    const constants = inputs.map(constantOf).filter((value) => value !== undefined);
    if (constants.length < inputs.length || inputs.length === 0) return undefined;
    if (keeps || (VIEWS.includes(op) && inputs.some((id) => kept.has(id)))) {
      const id = graph.add(op, inputs, attrs, self.origin);
      kept.set(id, derive(op, attrs, type, constants));
      return id;
    }
    const hold = count <= SMALL_RESULT || (count <= LARGEST_HELD && count <= budget && inputs.every(isHeld));
    if (hold && inputs.every(isHeld)) {
      if (count > SMALL_RESULT) budget -= count;
      const known = new Map<string, Tensor>();
      return tensor(
        evaluateNode(
          op,
          constants.map((value) => computed(value, known)),
          attrs,
          type,
        ),
      );
    }
    const derived = derive(op, attrs, type, constants);
    if (!hold) return literal(derived);
    const made = parts.get(derived.key) ?? tensor(derived.load());
    parts.set(derived.key, made);
    return made;
  };

  const add = (op: string, operands: readonly NodeId[], attrs: Attrs = {}): NodeId => {
    const inputs = op === "concat" ? withoutEmpty(operands, graph) : operands;
    const [first] = inputs;
    const type = inferType(
      op,
      inputs.map((id) => graph.type(id)),
      attrs,
      self.origin,
    );
    if (first !== undefined) {
      const x = graph.type(first);
      const unchanged = CHANGES_NOTHING[op]?.(x, type, attrs, inputs.length) ?? false;
      if (unchanged && x.dtype === type.dtype && equalShapes(x.shape, type.shape)) return first;
    }
    return fold(op, inputs, attrs, type) ?? graph.add(op, inputs, attrs, self.origin);
  };

  const self: Appender = {
    origin: [name],
    add,
    input: (inputName, type, declared) => graph.input(inputName, type, declared),
    literal,
    tensor,
    numbers: (dtype, shape, values) => tensor(tensorOf(dtype, shape, values)),
    type: (id) => graph.type(id),
    unfolded: (make) => {
      keeps = true;
      try {
        return make();
      } finally {
        keeps = false;
      }
    },
    constant: constantOf,
    inputsOf: (id) => inputsOf(graph, id),
    finish: (outputs) => pruned(name, graph.finish(), outputs),
  };
  return self;
}

/** In the order in which they are reached. */
function inputsOf(graph: GraphBuilder, from: NodeId): readonly string[] {
  const reached = new Set([from]);
  for (const id of reached) for (const input of graph.node(id).inputs) reached.add(input);
  return [...reached].flatMap((id) => {
    const { op, attrs } = graph.node(id);
    return op === "input" ? [stringAttr(attrs, "name")] : [];
  });
}

/** Operands of a concat that hold something; one at least. */
function withoutEmpty(operands: readonly NodeId[], graph: GraphBuilder): readonly NodeId[] {
  const full = operands.filter((id) => elementCount(graph.type(id).shape) > 0);
  return full.length > 0 ? full : operands.slice(0, 1);
}

/** The nodes that outputs need, and all inputs, under new dense ids. */
function pruned(name: string, all: Graph, outputs: readonly GraphOutput[]): Graph {
  const needed = new Set<NodeId>(all.inputs);
  for (const { node } of outputs) needed.add(node);
  for (const node of [...all.nodes].reverse()) {
    if (needed.has(node.id)) for (const input of node.inputs) needed.add(input);
  }
  const result = new GraphBuilder(name);
  const ids = new Map<NodeId, NodeId>();
  for (const node of all.nodes) {
    if (!needed.has(node.id)) continue;
    const inputs = node.inputs.map((id) => {
      const mapped = ids.get(id);
      invariant(mapped !== undefined, "operands come before the nodes that use them");
      return mapped;
    });
    ids.set(node.id, result.copy(node, inputs));
  }
  for (const output of outputs) {
    const id = ids.get(output.node);
    invariant(id !== undefined, "outputs are needed");
    result.output(output.name, id, output.declared);
  }
  return result.finish();
}
