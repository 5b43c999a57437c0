/**
 * The one driver of rewrite rules: rebuilds a graph node by node, and tries the rules at each node before it is made.
 *
 * What a rule emits is rewritten in the same way, so operands are always in normal form when a rule looks at them. Equal
 * nodes are made once; operations on constants are folded. Order is that of the graph and of the rule list, hence
 * deterministic; rules that feed each other without end are found by depth (LPU2014). A node
 * that a rule makes carries the origins of the node that it replaces and of every node that the rule looked through.
 */

import { literalIn } from "../../ir/ops/attributes.js";
import { at, fail, invariant } from "../../diagnostics.js";
import type { DType } from "../../ir/dtype.js";
import type { Attrs, Graph, Literal, Node, NodeId, Shape, TensorType } from "../../ir/graph.js";
import { inferType, opRow } from "../../ir/ops.js";
import { eliminateDeadNodes, mergeOrigins, nodeKey } from "../../ir/rewrite.js";
import { equalTypes, formatType, toNumbers } from "../../ir/tensor.js";
import { foldOp, numberLiteral, smallValues } from "../../ir/literals.js";

/** A node that is about to be made. */
export type Candidate = Omit<Node, "id">;

/** An equation that makes graphs cheaper, or brings them to what the machine has. */
export interface Rule {
  readonly name: string;
  /** The equation, as text. */
  readonly law: string;
  /** Operations at which the rule is tried. */
  readonly ops: readonly string[];
  /** The node that takes the candidate's place, or undefined if the rule does not apply. */
  readonly rewrite: (g: Rewriter, node: Candidate) => NodeId | undefined;
}

const MAX_DEPTH = 100;

export class Rewriter {
  private readonly nodes: Node[] = [];
  private readonly inputs: NodeId[] = [];
  /** Nodes by key, and what rules gave for candidates that were never made. */
  private readonly made = new Map<string, NodeId>();
  private readonly replaced = new Map<string, NodeId>();
  private readonly rules = new Map<string, Rule[]>();
  private origin: readonly string[] = [];
  private depth = 0;

  private readonly folds: boolean;

  /** `folds`: whether operations on constants become constants. */
  constructor(rules: readonly Rule[], folds = true) {
    this.folds = folds;
    for (const rule of rules) for (const op of rule.ops) this.rules.set(op, [...(this.rules.get(op) ?? []), rule]);
  }

  node(id: NodeId): Node {
    return at(this.nodes, id, "node");
  }

  type(id: NodeId): TensorType {
    return this.node(id).type;
  }

  shape(id: NodeId): Shape {
    return this.node(id).type.shape;
  }

  /** The node, if it is one of `op`; its origins go to what the current rule makes next. */
  through(id: NodeId, op: string): Node | undefined {
    const node = this.node(id);
    if (node.op !== op) return undefined;
    if (node.op !== "constant") this.origin = mergeOrigins(this.origin, node.origin);
    return node;
  }

  literal(id: NodeId): Literal | undefined {
    return literalIn(this.node(id));
  }

  /** The value of a small constant whose elements are all the same. */
  uniform(id: NodeId): number | undefined {
    const literal = this.literal(id);
    const tensor = literal === undefined ? undefined : smallValues(literal);
    if (tensor === undefined || tensor.data.length === 0) return undefined;
    const numbers = toNumbers(tensor);
    const first = numbers[0];
    return first !== undefined && numbers.every((value) => Object.is(value, first)) ? first : undefined;
  }

  /** The value of a constant of one element. */
  scalar(id: NodeId): number | undefined {
    return this.shape(id).every((extent) => extent === 1) ? this.uniform(id) : undefined;
  }

  constant(literal: Literal): NodeId {
    const [attrs, type] = [{ value: literal }, { dtype: literal.dtype, shape: literal.shape }];
    const key = nodeKey("constant", [], attrs, type);
    return this.made.get(key) ?? this.add(key, "constant", [], attrs, type);
  }

  number(value: number, dtype: DType): NodeId {
    return this.constant(numberLiteral(dtype, value));
  }

  emit(op: string, inputs: readonly NodeId[], attrs: Attrs = {}): NodeId {
    const type = inferType(
      op,
      inputs.map((id) => this.type(id)),
      attrs,
      this.origin,
    );
    return this.make(op, inputs, attrs, type);
  }

  private make(op: string, inputs: readonly NodeId[], attrs: Attrs, type: TensorType): NodeId {
    const isFolded = this.folds && inputs.length > 0 && opRow(op).group === undefined;
    if (isFolded && inputs.every((id) => this.node(id).op === "constant")) {
      const literals = inputs.flatMap((id) => this.literal(id) ?? []);
      return this.constant(foldOp(op, attrs, literals, type));
    }
    const key = nodeKey(op, inputs, attrs, type);
    const known = this.made.get(key);
    if (known !== undefined) return this.shared(known);
    const result = this.replaced.get(key) ?? this.rewritten({ op, inputs, attrs, type, origin: this.origin });
    if (result === undefined) return this.add(key, op, inputs, attrs, type);
    this.replaced.set(key, result);
    return result;
  }

  input(node: Node, type: TensorType): NodeId {
    const id = this.push("input", [], node.attrs, type, node.origin);
    this.inputs.push(id);
    return id;
  }

  /** A node of the old graph on new operands, rewritten. These have the types of the old ones, and so it keeps its own. */
  copy(node: Node, map: (old: NodeId) => NodeId): NodeId {
    if (node.op === "input") return this.input(node, node.type);
    const constant = literalIn(node);
    return this.from(node, () =>
      constant === undefined
        ? this.make(node.op, node.inputs.map(map), node.attrs, node.type)
        : this.constant(constant),
    );
  }

  /** What `make` emits carries the origin of this node. */
  from(node: { readonly origin: readonly string[] }, make: () => NodeId): NodeId {
    const { origin } = this;
    this.origin = node.origin;
    const made = make();
    this.origin = origin;
    return made;
  }

  finish(graph: Graph, map: (old: NodeId) => NodeId): Graph {
    const outputs = graph.outputs.map((output) => Object.freeze({ ...output, node: map(output.node) }));
    return eliminateDeadNodes(Object.freeze({ name: graph.name, nodes: this.nodes, inputs: this.inputs, outputs }));
  }

  private rewritten(candidate: Candidate): NodeId | undefined {
    if (this.depth > MAX_DEPTH) {
      fail("LPU2014", { message: `rewriting of '${candidate.op}' does not end`, node: candidate.origin.join(", ") });
    }
    this.depth += 1;
    try {
      for (const rule of this.rules.get(candidate.op) ?? []) {
        this.origin = candidate.origin;
        const result = rule.rewrite(this, candidate);
        if (result === undefined) continue;
        const given = this.type(result);
        invariant(
          equalTypes(given, candidate.type),
          `rule ${rule.name} gives ${formatType(candidate.type)} at ${candidate.op}, not ${formatType(given)}`,
        );
        return result;
      }
      return undefined;
    } finally {
      this.origin = candidate.origin;
      this.depth -= 1;
    }
  }

  private add(key: string, op: string, inputs: readonly NodeId[], attrs: Attrs, type: TensorType): NodeId {
    const id = this.push(op, inputs, attrs, type, this.origin);
    this.made.set(key, id);
    return id;
  }

  /** A node asked for again also comes from the present origin; constants keep the first. */
  private shared(id: NodeId): NodeId {
    const node = this.node(id);
    if (node.op !== "constant" && node.op !== "input") {
      this.nodes[id] = Object.freeze({ ...node, origin: mergeOrigins(node.origin, this.origin) });
    }
    return id;
  }

  private push(
    op: string,
    inputs: readonly NodeId[],
    attrs: Attrs,
    type: TensorType,
    origin: readonly string[],
  ): NodeId {
    const id = this.nodes.length;
    this.nodes.push(Object.freeze({ id, op, inputs: [...inputs], attrs, type, origin }));
    return id;
  }
}

/** Whether a graph cuts or joins tensors at all. */
export const hasPieces = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === "slice" || op === "concat");

/**
 * The graph with the rules applied wherever they apply. One sweep is enough: what a rule looks at has been rewritten before,
 * and what it makes is rewritten at once.
 */
export const rewriteGraph = (graph: Graph, rules: readonly Rule[]): Graph => rewrite(graph, new Rewriter(rules));
/** The same, for rules that look at how constants are made: no operation is folded. */
export const rewriteUnfolded = (graph: Graph, rules: readonly Rule[]): Graph =>
  rewrite(graph, new Rewriter(rules, false));

function rewrite(graph: Graph, g: Rewriter): Graph {
  const made: NodeId[] = [];
  const map = (id: NodeId): NodeId => at(made, id, "node");
  for (const node of graph.nodes) made.push(g.copy(node, map));
  return g.finish(graph, map);
}
