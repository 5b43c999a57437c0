/**
 * Which rows of a state an entry reads, and what it leaves in all of them.
 *
 * A state lies once, with the rows of the first entry that has some. An entry with fewer reads its part: of a window the last
 * rows, which are the newest, of a cache the first ones, since each has its number's place. A window moves on whole, whatever of
 * it was read, and a cache keeps the rows that were not: so every entry leaves what the longest would leave. An entry that reads
 * no rows begins a window anew.
 */

import { at } from "../diagnostics.js";
import { elementCount, type Graph, type Node, type NodeId, type Shape } from "../ir/graph.js";
import { filledLiteral } from "../ir/literals.js";
import { numberAttr, stringAttr } from "../ir/ops/attributes.js";

/** A state as the first entry has it that reads rows of it. */
export interface Resident {
  readonly shape: Shape;
  /** `window`: what is new stands behind it; `cache`: rows are placed by number; `value`: neither, it is read whole. */
  readonly kind: "window" | "cache" | "value";
}

/** The only axis along which a shape is shorter than another, which is like it otherwise; undefined if there is none. */
const shorterAxis = (shape: Shape, whole: Shape): number | undefined => {
  const unlike = shape.flatMap((extent, axis) => (extent === whole[axis] ? [] : [axis]));
  const [axis] = unlike;
  if (axis === undefined || unlike.length > 1 || shape.length !== whole.length) return undefined;
  return at(shape, axis, "extent") < at(whole, axis, "extent") ? axis : undefined;
};

/** A state of an entry: the input that has all its rows, and those of them that the entry reads. */
export interface Read {
  readonly resident: NodeId;
  readonly own: Shape;
}

/** The graph with inputs that have all rows of their states, of which it reads its own, by name. */
export function withWholeStates(
  graph: Graph,
  known: ReadonlyMap<string, Resident>,
): { readonly graph: Graph; readonly reads: ReadonlyMap<string, Read> } {
  const reads = new Map<string, Read>();
  const nodes: Node[] = [];
  const moved: NodeId[] = [];
  for (const { inputs, ...node } of graph.nodes) {
    const same = { ...node, inputs: inputs.map((id) => at(moved, id, "node")) };
    const name = node.op === "input" ? stringAttr(node.attrs, "name") : "";
    const state = known.get(name);
    if (state === undefined) moved.push(add(nodes, same));
    else {
      const own = node.type.shape;
      const axis = state.kind === "value" ? undefined : shorterAxis(own, state.shape);
      const shape = axis === undefined ? own : state.shape;
      const resident = add(nodes, { ...same, type: { ...node.type, shape } });
      reads.set(name, { resident, own });
      moved.push(axis === undefined ? resident : readRows(nodes, resident, own, axis, state.kind));
    }
  }
  const inputs = graph.inputs.map((id) => {
    const read = reads.get(stringAttr(at(graph.nodes, id, "node").attrs, "name"));
    return read?.resident ?? at(moved, id, "node");
  });
  const outputs = graph.outputs.map((output) => ({ ...output, node: at(moved, output.node, "node") }));
  return { graph: { ...graph, nodes, inputs, outputs }, reads };
}

const readRows = (nodes: Node[], resident: NodeId, own: Shape, axis: number, kind: Resident["kind"]): NodeId => {
  const { type, origin } = at(nodes, resident, "node");
  if (elementCount(own) === 0) return zeros(nodes, { type: { ...type, shape: own }, origin });
  const count = at(own, axis, "extent");
  return sliced(nodes, resident, axis, kind === "window" ? at(type.shape, axis, "extent") - count : 0, count);
};

/** What an entry leaves of a state, if `made` is its output that takes its place; nodes for it are added. */
export function nextOf(nodes: Node[], made: NodeId, { resident, own }: Read, kind: Resident["kind"]): NodeId {
  const { type, origin } = at(nodes, made, "node");
  const whole = at(nodes, resident, "node").type.shape;
  const axis = type.shape.findIndex((extent, index) => extent !== whole[index]);
  if (axis < 0) return made;
  const rowsIn = (shape: Shape): number => at(shape, axis, "extent");
  const [rows, all, read] = [rowsIn(type.shape), rowsIn(whole), rowsIn(own)] as const;
  if (rows > all) return endOf(nodes, made, axis, all);
  const join = (...parts: readonly NodeId[]): NodeId =>
    add(nodes, { op: "concat", inputs: parts, attrs: { axis }, type: { ...type, shape: whole }, origin });
  if (kind === "cache") return join(made, sliced(nodes, resident, axis, rows, all - rows));
  if (read === 0) return join(zeros(nodes, { type: withRows(type, axis, all - rows), origin }), made);
  const added = rows - read;
  return join(sliced(nodes, resident, axis, added, all - added), endOf(nodes, made, axis, added));
}

/** The last `count` rows of a value: of what is joined along the axis the ends of parts, so that the parts need not be joined first. */
function endOf(nodes: Node[], made: NodeId, axis: number, count: number): NodeId {
  const { op, inputs, attrs, type, origin } = at(nodes, made, "node");
  const from = at(type.shape, axis, "extent") - count;
  if (op !== "concat" || numberAttr(attrs, "axis") !== axis) return sliced(nodes, made, axis, from, count);
  let end = 0;
  const parts = inputs.flatMap((id): NodeId[] => {
    const extent = at(at(nodes, id, "node").type.shape, axis, "extent");
    end += extent;
    const kept = Math.min(extent, end - from);
    if (kept <= 0) return [];
    return [kept === extent ? id : sliced(nodes, id, axis, extent - kept, kept)];
  });
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  return add(nodes, { op, inputs: parts, attrs, type: withRows(type, axis, count), origin });
}

const add = (nodes: Node[], node: Omit<Node, "id">): NodeId => nodes.push({ ...node, id: nodes.length }) - 1;

const zeros = (nodes: Node[], { type, origin }: Pick<Node, "type" | "origin">): NodeId =>
  add(nodes, { op: "constant", inputs: [], attrs: { value: filledLiteral(type, 0) }, type, origin });

/** `count` rows of a value along an axis, from one on. */
const sliced = (nodes: Node[], source: NodeId, axis: number, from: number, count: number): NodeId => {
  const { type, origin } = at(nodes, source, "node");
  const rows = withRows(type, axis, count);
  const starts = rows.shape.map((_, index) => (index === axis ? from : 0));
  const strides = rows.shape.map(() => 1);
  return add(nodes, {
    op: "slice",
    inputs: [source],
    attrs: { starts, sizes: rows.shape, strides },
    type: rows,
    origin,
  });
};

const withRows = (type: Node["type"], axis: number, count: number): Node["type"] => ({
  ...type,
  shape: type.shape.map((extent, index) => (index === axis ? count : extent)),
});
