/**
 * Builds a Graph node by node. Types are inferred from the op rows, ids are dense, and operands exist before they are used,
 * so what `finish` gives is well formed by construction. Passes rebuild a graph by walking the old one with a map of ids.
 */

import { at, fail } from "../diagnostics.js";
import type { EdgeDType } from "./dtype.js";
import type { Attrs, Graph, GraphOutput, Literal, Node, NodeId, TensorType } from "./graph.js";
import { inferType } from "./ops.js";

export class GraphBuilder {
  private readonly nodes: Node[] = [];
  private readonly inputs: NodeId[] = [];
  private readonly outputs: GraphOutput[] = [];
  private readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** `declared` is the dtype in the file; without it, the tensor's own. */
  input(name: string, type: TensorType, declared: EdgeDType = type.dtype, origin: readonly string[] = [name]): NodeId {
    const id = this.push("input", [], { name, declared }, { dtype: type.dtype, shape: type.shape }, origin);
    this.inputs.push(id);
    return id;
  }

  constant(value: Literal, origin: readonly string[]): NodeId {
    return this.add("constant", [], { value }, origin);
  }

  /** Adds an operation; a type error is raised with the origin as its node. */
  add(op: string, inputs: readonly NodeId[], attrs: Attrs, origin: readonly string[]): NodeId {
    const type = inferType(
      op,
      inputs.map((id) => this.type(id)),
      attrs,
      origin,
    );
    return this.push(op, inputs, attrs, type, origin);
  }

  /** Adds a copy of a node of another graph on new operands. Inputs keep their type; the types of all else are inferred anew. */
  copy(node: Node, inputs: readonly NodeId[]): NodeId {
    if (node.op !== "input") return this.add(node.op, inputs, node.attrs, node.origin);
    const id = this.push("input", [], node.attrs, node.type, node.origin);
    this.inputs.push(id);
    return id;
  }

  output(name: string, node: NodeId, declared: EdgeDType = this.type(node).dtype): void {
    this.outputs.push(Object.freeze({ name, node, declared }));
  }

  node(id: NodeId): Node {
    return at(this.nodes, id, "node");
  }

  type(id: NodeId): TensorType {
    return this.node(id).type;
  }

  get size(): number {
    return this.nodes.length;
  }

  /** `inputOrder` gives the order of the inputs where it is not that of building. */
  finish(inputOrder: readonly NodeId[] = this.inputs): Graph {
    return Object.freeze({
      name: this.name,
      nodes: [...this.nodes],
      inputs: [...inputOrder],
      outputs: [...this.outputs],
    });
  }

  private push(
    op: string,
    inputs: readonly NodeId[],
    attrs: Attrs,
    type: TensorType,
    origin: readonly string[],
  ): NodeId {
    if (origin.length === 0) fail("LPU2012", { message: `expected an origin for node %${this.nodes.length} (${op})` });
    const id = this.nodes.length;
    this.nodes.push(Object.freeze({ id, op, inputs: [...inputs], attrs, type, origin: [...origin] }));
    return id;
  }
}
