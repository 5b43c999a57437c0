/**
 * Selection: from tensor operations to stream operations. Graph (legal) -> Plan.
 *
 * There are no kernels here, just five rules. Features lie on lanes, everything else along rows, and views are free
 * (view.ts). A matmul is passes of half-vectors through installed weights, whatever its batch dims are: those on lanes
 * share a pass by blocks of columns, those on rows have passes of their own. A sum over lanes is a matmul by ones. A lane
 * movement is a matmul by a selection, and rows become lanes by a matmul of the identity with the tensor as weights. A
 * maximum over lanes is rotate-and-max through the SXM. All else is chains of ALU operations (fuse.ts) on the way.
 */

import { CompileError, fail, invariant } from "../diagnostics.js";
import type { Graph, Literal, Node, NodeId, Shape } from "../ir/graph.js";
import { elementCount } from "../ir/graph.js";
import type {
  AluOp,
  Argument,
  Leaf,
  Pass,
  Plan,
  PlanBinding,
  Storage,
  StorageId,
  Task,
  WeightLoad,
} from "../ir/plan.js";
import { halfLanes, type Target } from "../ir/target.js";
import {
  constantContent,
  type LiteralReader,
  literalReader,
  scalarOf,
  tileContent,
  type TileBlock,
} from "./constants.js";
import { ALU_OF_OP, fuse, type Fusion, isElementwise, isTransparent } from "./fuse.js";
import { factorPairs, fitOperand, type Located, type RowDigit, runsOf } from "./operand.js";
import {
  expandView,
  extents,
  type Factor,
  naturalView,
  normalize,
  reshapeView,
  shapeOf,
  sliceView,
  transposeView,
  type View,
} from "./view.js";

/** Where a matmul's result goes: a result space, and the chain that each panel and row block flows through. */
interface Space {
  readonly view: View;
  readonly shape: Shape;
  readonly rows: number;
  readonly panels: number;
}

type Chain = (panel: number, row: number, rows: number) => { ops: AluOp[]; leaves: Leaf[] };

interface Selection {
  readonly graph: Graph;
  readonly target: Target;
  readonly reader: LiteralReader;
  readonly fusions: ReadonlyMap<NodeId, Fusion>;
  readonly mains: ReadonlySet<NodeId>;
  readonly consumers: readonly (readonly NodeId[])[];
  readonly storages: Storage[];
  readonly tasks: Task[];
  readonly maps: Int16Array[];
  readonly mapIds: Map<string, number>;
  readonly inputs: PlanBinding[];
  readonly origins: string[];
  readonly originIds: Map<string, number>;
  readonly located: Map<NodeId, Located>;
  /** Copies of a tensor in other layouts, by node and layout. */
  readonly copies: Map<string, Located>;
  /** Nodes that must be stored for their chain to have a layout. */
  readonly refused: NodeId[];
}

export const select = (graph: Graph, target: Target): Plan => {
  // A chain whose parts want different layouts is cut, and selection starts anew.
  for (const stored = new Set<NodeId>(); ; ) {
    const result = selectWith(graph, target, stored);
    if ("plan" in result) return result.plan;
    invariant(
      result.refused.some((id) => !stored.has(id)),
      "a refused chain is cut further each time",
    );
    for (const id of result.refused) stored.add(id);
  }
};

const selectWith = (
  graph: Graph,
  target: Target,
  stored: ReadonlySet<NodeId>,
): { readonly plan: Plan } | { readonly refused: readonly NodeId[] } => {
  const consumers: NodeId[][] = graph.nodes.map(() => []);
  for (const node of graph.nodes) for (const input of node.inputs) consumers[input]?.push(node.id);
  const fusions = fuse(graph, target.alus - 3, stored);
  const s: Selection = {
    graph,
    target,
    reader: literalReader(),
    fusions,
    mains: new Set([...fusions.values()].flatMap((fusion) => (fusion.main === undefined ? [] : [fusion.main]))),
    consumers,
    storages: [],
    tasks: [],
    maps: [],
    mapIds: new Map(),
    inputs: [],
    origins: [],
    originIds: new Map(),
    located: new Map(),
    copies: new Map(),
    refused: [],
  };
  for (const node of graph.nodes) {
    if (node.op === "matmul" && !s.mains.has(node.id)) lowerMatmulAlone(s, node);
    else if (isElementwise(node) && fusions.has(node.id)) lowerFusion(s, fusions.get(node.id) as Fusion);
    else if (node.op === "concat") lowerConcat(s, node);
    if (s.refused.length > 0) return { refused: s.refused };
  }
  const outputs = graph.outputs.map((output): PlanBinding => bindOutput(s, output.name, output.declared, output.node));
  bindUnusedInputs(s);
  const { storages, tasks, maps, inputs, origins } = s;
  return { plan: { name: graph.name, storages, tasks, maps, inputs, outputs, origins, macs: usefulMacs(graph) } };
};

/* ---------- storages, origins, values ---------- */

const addStorage = (s: Selection, storage: Omit<Storage, "id">): StorageId => {
  s.storages.push({ ...storage, id: s.storages.length });
  return s.storages.length - 1;
};

const temp = (s: Selection, node: Node, dtype: "f16" | "f32", space: Space): StorageId =>
  addStorage(s, {
    name: node.origin[node.origin.length - 1] ?? node.op,
    dtype,
    rows: space.rows,
    panels: space.panels,
    kind: "temp",
    bothHemispheres: false,
    output: false,
  });

const originOf = (s: Selection, node: Node): number => {
  const name = node.origin.join(" + ");
  const known = s.originIds.get(name);
  if (known !== undefined) return known;
  s.originIds.set(name, s.origins.length);
  s.origins.push(name);
  return s.origins.length - 1;
};

const nodeAt = (s: Selection, id: NodeId): Node => {
  const node = s.graph.nodes[id];
  invariant(node !== undefined, `node ${id} is in the graph`);
  return node;
};

const literalOf = (node: Node): Literal | undefined => {
  const value = node.attrs["value"];
  return node.op === "constant" && typeof value === "object" && "load" in value ? value : undefined;
};

const storedType = (node: Node): "f16" | "f32" =>
  node.type.dtype === "f16" || node.type.dtype === "bool" ? "f16" : "f32";

const spaceOf = (target: Target, view: View, shape: Shape): Space => {
  const { rows, columns } = extents(view);
  return { view, shape, rows, panels: Math.ceil(columns / target.lanes) };
};

/** The value of a node as it lies in some storage. Constants have none of their own. */
const locate = (s: Selection, id: NodeId): Located => {
  const known = s.located.get(id);
  if (known !== undefined) return known;
  const node = nodeAt(s, id);
  const value = locateNew(s, node);
  s.located.set(id, value);
  return value;
};

const locateNew = (s: Selection, node: Node): Located => {
  const shape = node.type.shape;
  const input = boundInput(s, node);
  if (input !== undefined) return input;
  if (node.op === "reduce_max") return lowerMax(s, node);
  if (node.op === "reduce_sum") {
    const space = spaceOf(s.target, naturalView([...shape.slice(0, -1), s.target.lanes]), [
      ...shape.slice(0, -1),
      s.target.lanes,
    ]);
    return lowerSum(s, node, space.view, space.shape);
  }
  const source = node.inputs[0];
  if (node.op === "constant") return storeConstant(s, node, naturalView(shape), shape);
  invariant(
    source !== undefined && ["reshape", "transpose", "slice", "expand"].includes(node.op),
    `${node.op} has been lowered before its use`,
  );
  const from = locate(s, source);
  const view = viewThrough(node, from.view);
  if (view !== undefined) return { ...from, view, shape };
  // The view cannot be told as strides: bring the source into row-major order first.
  const dense = relayout(s, source, from, naturalView(from.shape), from.shape);
  const again = viewThrough(node, dense.view);
  if (again === undefined)
    fail("LPU2201", {
      message: `cannot lay out ${node.op} [${from.shape.join(",")}] -> [${shape.join(",")}]`,
      node: node.origin.join(" + "),
      hint: "a reshape that mixes lanes and rows in this way is not supported yet",
    });
  return { ...dense, view: again, shape };
};

const ints = (node: Node, name: string): readonly number[] => {
  const value = node.attrs[name];
  invariant(Array.isArray(value), `${node.op} has ${name}`);
  return value as readonly number[];
};

const viewThrough = (node: Node, view: View): View | undefined => {
  if (node.op === "reshape") return reshapeView(view, node.type.shape);
  if (node.op === "transpose") return transposeView(view, ints(node, "perm"));
  if (node.op === "slice") return sliceView(view, ints(node, "starts"), ints(node, "sizes"), ints(node, "strides"));
  return expandView(view, node.type.shape);
};

/* ---------- the host's edge ---------- */

/** An input, seen through reshapes and transposes, or rows of a table that an input chooses: the host lays it out as we like. */
const boundInput = (s: Selection, node: Node): Located | undefined => {
  const shape = node.type.shape;
  const path = inputPath(s, node);
  if (path === undefined) return undefined;
  const [input, elements] = path;
  const view = naturalView(shape);
  const space = spaceOf(s.target, view, shape);
  const dtype = storedType(node);
  const name = String(input.attrs["name"]);
  const storage = addStorage(s, {
    name,
    dtype,
    rows: space.rows,
    panels: space.panels,
    kind: "input",
    bothHemispheres: false,
    output: false,
  });
  const table = node.op === "gather" ? literalOf(nodeAt(s, node.inputs[0] as number)) : undefined;
  const hostShape = table === undefined ? input.type.shape : [...input.type.shape, table.shape[1] ?? 1];
  const binding: PlanBinding = {
    name,
    declared: input.attrs["declared"] as PlanBinding["declared"],
    shape: input.type.shape,
    storage,
    firstRow: 0,
    factors: bindingFactors(hostShape, elements, shape, view),
    ...(table === undefined
      ? {}
      : {
          lookup: {
            origin: node.origin.join(" + "),
            dtype: "f16" as const,
            rows: table.shape[0] ?? 0,
            width: table.shape[1] ?? 0,
            bytes: () => bytesOf(s.reader.halfs(table)),
          },
        }),
  };
  s.inputs.push(binding);
  return { storage, shape, view };
};

/** The input under a chain of reshapes and transposes (or a gather on one), and the node's elements as strides of it. */
const inputPath = (s: Selection, node: Node): [Node, View] | undefined => {
  if (node.op === "input") return [node, elementView(node.type.shape)];
  if (node.op === "gather") {
    const table = nodeAt(s, node.inputs[0] as number);
    let ids = nodeAt(s, node.inputs[1] as number);
    while (ids.op === "reshape" || ids.op === "cast") ids = nodeAt(s, ids.inputs[0] as number);
    if (table.op !== "constant" || ids.op !== "input" || table.type.shape.length !== 2) return undefined;
    return [ids, elementView([...nodeAt(s, node.inputs[1] as number).type.shape, table.type.shape[1] ?? 1])];
  }
  if (!isTransparent(node)) return undefined;
  const path = inputPath(s, nodeAt(s, node.inputs[0] as number));
  if (path === undefined) return undefined;
  const view = viewThrough(node, path[1]);
  return view === undefined ? undefined : [path[0], view];
};

/** Row-major element strides, in the `row` field. */
const elementView = (shape: Shape): View => {
  let stride = 1;
  const dims: Factor[][] = shape.map(() => []);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    dims[axis] = extent > 1 ? [{ extent, row: stride, column: 0 }] : [];
    stride *= extent;
  }
  return { dims, row: 0, column: 0 };
};

/** Binding factors over the host tensor's dims, given both the host element strides and the storage strides of a shape. */
const bindingFactors = (hostShape: Shape, elements: View, shape: Shape, stored: View): PlanBinding["factors"] => {
  const pairs = factorPairs(elements, shape, stored);
  invariant(pairs !== undefined, "element strides and storage strides of one shape meet");
  const factors: { dim: number; divide: number; extent: number; row: number; column: number }[] = [];
  for (const [host, place] of pairs) {
    // A merged factor may span several host dims: cut it at their boundaries.
    let stride = 1;
    for (let dim = hostShape.length - 1; dim >= 0; dim--) {
      const size = hostShape[dim] ?? 1;
      const low = Math.max(stride, host.row);
      const high = Math.min(stride * size, host.row * host.extent);
      if (high > low) {
        const scale = low / host.row;
        factors.push({
          dim,
          divide: low / stride,
          extent: high / low,
          row: place.row * scale,
          column: place.column * scale,
        });
      }
      stride *= size;
    }
  }
  return factors;
};

const bindOutput = (s: Selection, name: string, declared: PlanBinding["declared"], id: NodeId): PlanBinding => {
  const shape = nodeAt(s, id).type.shape;
  let value = locate(s, id);
  const storage = s.storages[value.storage] as Storage;
  if (value.view.column !== 0 || storage.kind !== "temp") value = relayout(s, id, value, naturalView(shape), shape);
  s.storages[value.storage] = { ...(s.storages[value.storage] as Storage), output: true };
  return {
    name,
    declared,
    shape,
    storage: value.storage,
    firstRow: value.view.row,
    factors: bindingFactors(shape, elementView(shape), shape, value.view),
  };
};

/** Inputs that nothing on the chip reads are still accepted: they are bound to nothing. */
const bindUnusedInputs = (s: Selection): void => {
  for (const id of s.graph.inputs) {
    const node = nodeAt(s, id);
    const name = String(node.attrs["name"]);
    if (s.inputs.some((binding) => binding.name === name)) continue;
    s.inputs.push({
      name,
      declared: node.attrs["declared"] as PlanBinding["declared"],
      shape: node.type.shape,
      storage: -1,
      firstRow: 0,
      factors: [],
    });
  }
  const order = new Map(s.graph.inputs.map((id, index) => [String(nodeAt(s, id).attrs["name"]), index]));
  s.inputs.sort((a, b) => (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0));
};

/* ---------- constants as operands ---------- */

const storeConstant = (s: Selection, node: Node, full: View, fullShape: Shape): Located => {
  const literal = literalOf(node);
  invariant(literal !== undefined, "a constant has a value");
  const dtype = storedType(node);
  const layout = constantContent(s.target, s.reader, literal, dtype, full, fullShape);
  const key = `constant ${literal.key} ${dtype} ${layout.key}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const { rows, panels, content, view, repeated } = layout;
  const storage = addStorage(s, {
    name: node.origin[0] ?? "constant",
    dtype,
    rows,
    panels,
    kind: "constant",
    bothHemispheres: false,
    content,
    output: false,
  });
  const value: Located = { storage, shape: literal.shape, view, ...(repeated === undefined ? {} : { repeated }) };
  s.copies.set(key, value);
  return value;
};

/** A value, lying so that it can be read along with a result laid out as `full`; moved if need be. */
const fitted = (s: Selection, id: NodeId, full: View, fullShape: Shape): Located => {
  const node = nodeAt(s, id);
  if (node.op === "constant") return storeConstant(s, node, full, fullShape);
  const value = node.op === "reduce_sum" && !s.located.has(id) ? lowerSum(s, node, full, fullShape) : locate(s, id);
  return fitOperand(s.target, full, fullShape, value) !== undefined ? value : relayout(s, id, value, full, fullShape);
};

/* ---------- chains ---------- */

/** Where a node of a chain is computed: for every element of `shape`, to which its own shape broadcasts, at `view`. */
interface Point {
  readonly view: View;
  readonly shape: Shape;
}

/** Places of every node of a fusion in its result space, from the root backwards; undefined where a reshape does not divide. */
const chainViews = (s: Selection, fusion: Fusion, rootView: View): Map<NodeId, Point> | undefined => {
  const inside = new Set(fusion.nodes);
  const points = new Map<NodeId, Point>([[fusion.root, { view: rootView, shape: nodeAt(s, fusion.root).type.shape }]]);
  const visit = (id: NodeId, point: Point): boolean => {
    const node = nodeAt(s, id);
    const known = points.get(id);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(point)) return false;
    points.set(id, point);
    if (!isTransparent(node) || !leadsInside(s, id, inside, fusion.main)) return true;
    const source = nodeAt(s, node.inputs[0] as number);
    const back = pointBehind(node, source.type.shape, point);
    return back !== undefined && visit(source.id, back);
  };
  for (const id of [...fusion.nodes].reverse()) {
    const point = points.get(id);
    if (point === undefined) return undefined;
    for (const input of nodeAt(s, id).inputs)
      if (leadsInside(s, input, inside, fusion.main) && !visit(input, point)) return undefined;
  }
  return points;
};

/** The place of the operand of a reshape or transpose, given the place of its result. */
const pointBehind = (node: Node, shape: Shape, { view, shape: full }: Point): Point | undefined => {
  if (elementCount(full) === elementCount(node.type.shape)) {
    const exact = reshapeView(view, node.type.shape);
    const back =
      exact === undefined ? undefined : node.op === "reshape" ? reshapeView(exact, shape) : transposeView(exact, inverse(ints(node, "perm")));
    return back === undefined ? undefined : { view: back, shape };
  }
  // A broadcast value: only dims of extent 1 may come and go in front.
  const bare = (extents: Shape): string => extents.slice(Math.max(0, extents.findIndex((extent) => extent !== 1))).join();
  return node.op === "reshape" && bare(shape) === bare(node.type.shape) ? { view, shape: full } : undefined;
};

const leadsInside = (s: Selection, id: NodeId, inside: ReadonlySet<NodeId>, main: NodeId | undefined): boolean => {
  let node = nodeAt(s, id);
  while (isTransparent(node)) node = nodeAt(s, node.inputs[0] as number);
  return inside.has(node.id) || node.id === main;
};

const bytesOf = (halfs: Uint16Array): Uint8Array => new Uint8Array(halfs.buffer, halfs.byteOffset, halfs.byteLength);

const inverse = (perm: readonly number[]): number[] => {
  const result: number[] = [];
  for (const [to, from] of perm.entries()) result[from] = to;
  return result;
};

const lowerFusion = (s: Selection, fusion: Fusion): void => {
  const root = nodeAt(s, fusion.root);
  if (isFolded(s, fusion)) return;
  if (fusion.main !== undefined) {
    const main = nodeAt(s, fusion.main);
    const space = matmulSpace(s, main);
    const rootView = viewForward(s, fusion, fusion.main, space.view);
    const views = rootView === undefined ? undefined : chainViews(s, fusion, rootView);
    if (rootView !== undefined && views !== undefined) {
      const chain = chainOf(s, fusion, views);
      const storage = temp(s, root, storedType(root), space);
      lowerMatmul(s, main, space, storage, chain, originOf(s, root));
      s.located.set(root.id, { storage, shape: root.type.shape, view: rootView });
      return;
    }
    lowerMatmulAlone(s, main);
  }
  storeChain(s, fusion);
};

/** A chain that reads and writes memory. */
const storeChain = (s: Selection, fusion: Fusion): void => {
  const root = nodeAt(s, fusion.root);
  const alone: Fusion = { root: fusion.root, nodes: fusion.nodes };
  const rootView = spaceOfChain(s, alone);
  const points = chainViews(s, alone, rootView);
  if (points === undefined) {
    s.refused.push(...fusion.nodes.filter((id) => id !== fusion.root));
    return;
  }
  const space = spaceOf(s.target, rootView, root.type.shape);
  const chain = chainOf(s, alone, points);
  const storage = temp(s, root, storedType(root), space);
  const block = rowBlock(space.rows);
  for (let row = 0; row < space.rows; row += block)
    for (let panel = 0; panel < space.panels; panel++) {
      const rows = Math.min(block, space.rows - row);
      pushTask(s, { rows, passes: [], ...chain(panel, row, rows), storage, panel, row, origin: originOf(s, root) });
    }
  s.located.set(root.id, { storage, shape: root.type.shape, view: rootView });
};

/** Carries the view of a chain's main input along to its root. */
const viewForward = (s: Selection, fusion: Fusion, from: NodeId, view: View): View | undefined => {
  const inside = new Set(fusion.nodes);
  let at = from;
  let current: View | undefined = view;
  while (at !== fusion.root && current !== undefined) {
    const next = (s.consumers[at] ?? []).find(
      (id) => inside.has(id) || (isTransparent(nodeAt(s, id)) && reaches(s, id, inside)),
    );
    if (next === undefined) return undefined;
    const node = nodeAt(s, next);
    const to = node.type.shape;
    if (elementCount(to) !== elementCount(nodeAt(s, at).type.shape)) return undefined;
    current = node.op === "transpose" ? transposeView(current, ints(node, "perm")) : reshapeView(current, to);
    at = next;
  }
  return current;
};

const reaches = (s: Selection, id: NodeId, inside: ReadonlySet<NodeId>): boolean =>
  (s.consumers[id] ?? []).some(
    (next) => inside.has(next) || (isTransparent(nodeAt(s, next)) && reaches(s, next, inside)),
  );

/** Layout of a chain that does not start in the MXM: that of its largest stored operand, rows made dense; else row-major. */
const spaceOfChain = (s: Selection, fusion: Fusion): View => {
  const root = nodeAt(s, fusion.root);
  const inside = new Set(fusion.nodes);
  const count = elementCount(root.type.shape);
  for (const id of fusion.nodes)
    for (const input of nodeAt(s, id).inputs) {
      const node = nodeAt(s, input);
      if (leadsInside(s, input, inside, undefined) || node.op === "constant" || node.op === "reduce_sum") continue;
      if (elementCount(node.type.shape) !== count || elementCount(nodeAt(s, id).type.shape) !== count) continue;
      const value = locate(s, input);
      const dense = denseRows(s.target, value);
      if (dense === undefined) continue;
      const at = reshapeView(dense, nodeAt(s, id).type.shape);
      const rootView = at === undefined ? undefined : id === fusion.root ? at : viewForward(s, fusion, id, at);
      if (rootView !== undefined && chainViews(s, fusion, rootView) !== undefined) return rootView;
    }
  return naturalView(root.type.shape);
};

/** The same columns, rows renumbered densely in row-major order; undefined if elements share a place. */
const denseRows = (target: Target, value: Located, expanded: "refused" | "kept" = "refused"): View | undefined => {
  if (value.repeated !== undefined || value.view.column % target.lanes !== 0) return undefined;
  const flat = value.view.dims.flat().filter((f) => f.extent > 1);
  if (expanded === "refused" && flat.some((f) => f.row === 0 && f.column === 0)) return undefined;
  let stride = 1;
  const strides = new Map<Factor, number>();
  for (const f of [...flat].reverse())
    if (f.row !== 0) {
      strides.set(f, stride);
      stride *= f.extent;
    }
  const dims = value.view.dims.map((factors) =>
    factors.filter((f) => f.extent > 1).map((f) => ({ ...f, row: strides.get(f) ?? 0 })),
  );
  return { dims, row: 0, column: 0 };
};

/** Builds, once for all panels and rows, the ALU operations of a chain; operands are moved into place if they must be. */
const chainOf = (s: Selection, fusion: Fusion, points: ReadonlyMap<NodeId, Point>): Chain => {
  const inside = new Set(fusion.nodes);
  const opIndex = new Map<NodeId, number>();
  const operands: { value: Located; fit: NonNullable<ReturnType<typeof fitOperand>> }[] = [];
  const operandIndex = new Map<string, number>();
  const ops: AluOp[] = [];
  const argument = (consumer: Node, input: NodeId): Argument => {
    let source = nodeAt(s, input);
    while (isTransparent(source) && leadsInside(s, source.id, inside, fusion.main))
      source = nodeAt(s, source.inputs[0] as number);
    const op = opIndex.get(source.id);
    if (op !== undefined) return { op };
    if (source.id === fusion.main) return { mxm: true };
    const literal = literalOf(source);
    if (literal !== undefined && elementCount(literal.shape) === 1) return { constant: scalarOf(s.reader, literal) };
    const point = points.get(consumer.id);
    invariant(point !== undefined, "every node of a chain has a place");
    const value = fitted(s, input, point.view, point.shape);
    const fit = fitOperand(s.target, point.view, point.shape, value);
    invariant(fit !== undefined, `operand ${source.origin.join(" + ")} fits after it was moved`);
    const key = JSON.stringify([value.storage, fit]);
    const known = operandIndex.get(key);
    if (known !== undefined) return { leaf: known };
    operandIndex.set(key, operands.length);
    operands.push({ value, fit });
    return { leaf: operands.length - 1 };
  };
  for (const id of fusion.nodes) {
    const node = nodeAt(s, id);
    const fn = ALU_OF_OP[node.op];
    invariant(fn !== undefined, "a chain has ALU operations only");
    opIndex.set(id, ops.length);
    ops.push({ fn, args: node.inputs.map((input) => argument(node, input)) });
  }
  return (panel, row, rows) => ({
    ops,
    leaves: operands.map(
      ({ value, fit }): Leaf => ({
        storage: value.storage,
        panel: fit.fixedPanel ? fit.panelOffset : panel + fit.panelOffset,
        runs: runsOf(fit, row, rows),
      }),
    ),
  });
};

const COPY: Chain = () => ({ ops: [{ fn: "copy", args: [{ mxm: true }] }], leaves: [] });

interface NewTask {
  readonly rows: number;
  readonly passes: readonly Pass[];
  readonly ops: readonly AluOp[];
  readonly leaves: readonly Leaf[];
  readonly storage: StorageId;
  readonly panel: number;
  readonly row: number;
  readonly origin: number;
}

const pushTask = (s: Selection, task: NewTask): void => {
  const { rows, passes, ops, leaves, storage, panel, row, origin } = task;
  for (const pass of passes) {
    markBoth(s, pass.storage);
    if (!("key" in pass.weights)) for (const load of pass.weights) markBoth(s, load.storage);
  }
  for (const leaf of leaves) if (leaf.map !== undefined) markBoth(s, leaf.storage);
  s.tasks.push({ rows, passes, ops, leaves, outputs: [{ op: ops.length - 1, storage, panel, row }], origin });
};

const markBoth = (s: Selection, id: StorageId): void => {
  s.storages[id] = { ...(s.storages[id] as Storage), bothHemispheres: true };
};

/** Rows of one burst: two blocks overlap one another through a layer's latencies; accumulators bound it from above. */
const rowBlock = (rows: number): number =>
  rows <= 64 ? rows : rows <= 512 ? Math.ceil(rows / Math.ceil(rows / 64)) : 256;

/** The same tensor in fp16, as the MXM takes it: sums are stored in fp32. */
const asHalf = (s: Selection, id: NodeId, value: Located): Located => {
  const storage = s.storages[value.storage] as Storage;
  if (storage.dtype === "f16") return value;
  const key = `half ${value.storage}`;
  const known = s.copies.get(key);
  if (known !== undefined) return { ...value, storage: known.storage };
  const node = nodeAt(s, id);
  const copy = temp(s, node, "f16", { view: value.view, shape: value.shape, rows: storage.rows, panels: storage.panels });
  s.copies.set(key, { ...value, storage: copy });
  const block = rowBlock(storage.rows);
  for (let row = 0; row < storage.rows; row += block)
    for (let panel = 0; panel < storage.panels; panel++) {
      const rows = Math.min(block, storage.rows - row);
      const leaf: Leaf = { storage: value.storage, panel, runs: [{ row, step: rows > 1 ? 1 : 0, count: rows }] };
      const ops: AluOp[] = [{ fn: "copy", args: [{ leaf: 0 }] }];
      pushTask(s, { rows, passes: [], ops, leaves: [leaf], storage: copy, panel, row, origin: originOf(s, node) });
    }
  return { ...value, storage: copy };
};

/* ---------- matmul ---------- */

const lowerMatmulAlone = (s: Selection, node: Node): void => {
  const space = matmulSpace(s, node);
  const storage = temp(s, node, storedType(node), space);
  lowerMatmul(s, node, space, storage, COPY, originOf(s, node));
  s.located.set(node.id, { storage, shape: node.type.shape, view: space.view });
};

/** Operand A of a matmul: contracted dim on columns, rows on rows, batch dims on either. */
const activations = (s: Selection, node: Node): Located => {
  const id = node.inputs[0] as number;
  const source = nodeAt(s, id);
  const value =
    source.op === "constant"
      ? storeConstant(s, source, naturalView(source.type.shape), source.type.shape)
      : asHalf(s, id, locate(s, id));
  const rank = value.shape.length;
  const k = value.view.dims[rank - 1] ?? [];
  const m = value.view.dims[rank - 2] ?? [];
  const pure = value.view.dims.every((factors) => factors.every((f) => f.row === 0 || f.column === 0));
  if (pure && k.every((f) => f.column !== 0) && m.every((f) => f.column === 0)) return value;
  return relayout(s, id, value, naturalView(value.shape), value.shape);
};

/** Layout of a matmul's result: batch dims that A has on columns become blocks of columns, all else rows. */
const matmulSpace = (s: Selection, node: Node): Space => {
  const a = activations(s, node);
  const shape = node.type.shape;
  const rank = shape.length;
  const n = shape[rank - 1] ?? 1;
  const batchA = expandView({ ...a.view, dims: a.view.dims.slice(0, -2) }, shape.slice(0, -2));
  const onColumns = batchA.dims.map((factors) => factors.some((f) => f.column !== 0));
  const groups = shape.slice(0, -2).reduce((product, extent, axis) => product * (onColumns[axis] ? extent : 1), 1);
  const half = halfLanes(s.target);
  const bNode = nodeAt(s, node.inputs[1] as number);
  const aligned = groups > 1 && bNode.op !== "constant" && feedsActivations(s, node.id);
  const perHalf = aligned && n <= half ? largestDivisor(groups, Math.max(1, Math.floor(half / n))) : 1;
  const stride = aligned ? (n <= half ? half : Math.ceil(n / half) * half) : n;
  // Blocks of columns in order of the batch index: `perHalf` of them share a half vector.
  let blocks: View | undefined = {
    dims: [
      [
        { extent: groups / perHalf, row: 0, column: stride },
        { extent: perHalf, row: 0, column: n },
      ],
    ],
    row: 0,
    column: 0,
  };
  blocks = reshapeView(
    blocks,
    shape.slice(0, -2).map((extent, axis) => (onColumns[axis] ? extent : 1)),
  );
  invariant(blocks !== undefined, "column blocks divide the batch dims");
  let row = shape[rank - 2] ?? 1;
  const dims: Factor[][] = shape.map((_, axis) => [...(blocks?.dims[axis] ?? [])]);
  dims[rank - 2] = row > 1 ? [{ extent: row, row: 1, column: 0 }] : [];
  dims[rank - 1] = n > 1 ? [{ extent: n, row: 0, column: 1 }] : [];
  for (let axis = rank - 3; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    if (onColumns[axis] || extent === 1) continue;
    dims[axis] = [{ extent, row, column: 0 }];
    row *= extent;
  }
  return spaceOf(s.target, { dims, row: 0, column: 0 }, shape);
};

/** Whether a result flows, through chains alone, into the activations of a matmul of two computed tensors. */
const feedsActivations = (s: Selection, id: NodeId): boolean =>
  (s.consumers[id] ?? []).some((next) => {
    const node = nodeAt(s, next);
    if (node.op === "matmul") return node.inputs[0] === id && nodeAt(s, node.inputs[1] as number).op !== "constant";
    return isElementwise(node) && feedsActivations(s, next);
  });

const largestDivisor = (n: number, limit: number): number => {
  let d = Math.min(n, limit);
  while (n % d !== 0) d--;
  return d;
};

const lowerMatmul = (
  s: Selection,
  node: Node,
  space: Space,
  storage: StorageId,
  chain: Chain,
  origin: number,
): void => {
  const a = activations(s, node);
  const id = node.inputs[1] as number;
  const literal = literalOf(nodeAt(s, id));
  const weights: Weights =
    literal === undefined
      ? { kind: "stored", value: asHalf(s, id, locate(s, id)), move: (full, shape) => relayout(s, id, locate(s, id), full, shape) }
      : { kind: "constant", key: literal.key, read: () => s.reader.halfs(literal), shape: literal.shape };
  emitMatmul(s, { a, weights, space, storage, chain, origin, name: node.origin[0] ?? "matmul", fill: false });
};

/** Second operand [.., K, N] of a matmul. */
type Weights =
  | { readonly kind: "stored"; readonly value: Located; readonly move: (full: View, shape: Shape) => Located }
  | { readonly kind: "constant"; readonly key: string; readonly shape: Shape; readonly read: () => Uint16Array };

interface MatmulJob {
  /** [.., M, K] */
  readonly a: Located;
  readonly weights: Weights;
  /** Result space of [.., M, N]. */
  readonly space: Space;
  readonly storage: StorageId;
  readonly chain: Chain;
  readonly origin: number;
  readonly name: string;
  /** Fill columns that no block uses with copies of the panel's first block, so that no lane of the result is empty. */
  readonly fill: boolean;
}

/** A block of weights within one pass: K values k .. k + count - 1 on lanes from `lane` of the half; columns from `column`. */
interface Block {
  readonly batch: number;
  readonly k: number;
  readonly count: number;
  readonly lane: number;
  readonly n: number;
  readonly columns: number;
  readonly column: number;
}

const emitMatmul = (s: Selection, job: MatmulJob): void => {
  const { a, space } = job;
  const { lanes } = s.target;
  const half = halfLanes(s.target);
  const rank = space.shape.length;
  const batchShape = space.shape.slice(0, -2);
  const n = space.shape[rank - 1] ?? 1;
  const m = space.shape[rank - 2] ?? 1;
  const kExtent = a.shape[a.shape.length - 1] ?? 1;
  const aFull = expandView(a.view, [...batchShape, m, kExtent]);
  const batchCount = elementCount(batchShape);

  // Every batch index is a block of columns (of some rows); batch indices that share rows and columns do not exist.
  const columnsOfK = (batch: number): number[] => {
    const base = a.view.column + offsetOf(aFull.dims.slice(0, -2), batchShape, batch, "column");
    return Array.from(
      { length: kExtent },
      (_, k) => base + offsetOf([aFull.dims[rank - 1] ?? []], [kExtent], k, "column"),
    );
  };
  // Batch dims on rows whose weights differ have passes of their own: rows are cut into segments by them.
  const rowKey = (batch: number): number => offsetOf(space.view.dims.slice(0, -2), batchShape, batch, "row");
  const weightKey = weightBatch(job.weights, batchShape);
  const segments = new Map<number, number[]>();
  for (let batch = 0; batch < batchCount; batch++) {
    const key = rowKey(batch);
    segments.set(key, [...(segments.get(key) ?? []), batch]);
  }
  // Neighbouring segments with the same weights are one.
  const merged: { row: number; rows: number; batches: number[]; signature: string }[] = [];
  for (const [row, batches] of [...segments].sort((x, y) => x[0] - y[0])) {
    const signature = JSON.stringify(
      batches.map((batch) => [
        weightKey(batch),
        columnsOfK(batch)[0],
        offsetOf(space.view.dims.slice(0, -2), batchShape, batch, "column"),
      ]),
    );
    const last = merged[merged.length - 1];
    if (last !== undefined && last.signature === signature && last.row + last.rows === row) last.rows += m;
    else merged.push({ row, rows: m, batches, signature });
  }
  const digits = rowDigits(space.view, aFull, [...batchShape, m]);

  for (const segment of merged) {
    const tiles: { panel: number; passes: Map<number, Block[]> }[] = [];
    for (let panel = 0; panel < space.panels; panel++) {
      const passes = new Map<number, Block[]>();
      const used: Block[] = [];
      for (const batch of segment.batches) {
        const first = space.view.column + offsetOf(space.view.dims.slice(0, -2), batchShape, batch, "column");
        const from = Math.max(first, panel * lanes);
        const to = Math.min(first + n, (panel + 1) * lanes);
        if (from >= to) continue;
        const columns = columnsOfK(batch);
        for (let k = 0; k < kExtent; ) {
          const at = columns[k] as number;
          const room = half - (at % half);
          let count = 1;
          while (count < room && k + count < kExtent && columns[k + count] === at + count) count++;
          const block: Block = {
            batch,
            k,
            count,
            lane: at % half,
            n: from - first,
            columns: to - from,
            column: from - panel * lanes,
          };
          const key = passKey(passes, Math.floor(at / half), (other) => job.weights.kind === "stored" && other.column === block.column);
          passes.set(key, [...(passes.get(key) ?? []), block]);
          used.push(block);
          k += count;
        }
      }
      if (passes.size === 0) continue;
      if (job.fill) fillColumns(passes, used, lanes);
      tiles.push({ panel, passes });
    }
    const block = blockOf(s, job, segment.rows);
    for (let row = segment.row; row < segment.row + segment.rows; row += block) {
      const rows = Math.min(block, segment.row + segment.rows - row);
      for (const tile of tiles) {
        const passes = [...tile.passes]
          .sort((x, y) => x[0] - y[0])
          .map(
            ([key, blocks]): Pass => ({
              storage: a.storage,
              ...halfOf(key),
              runs: runsOf({ digits, row: a.view.row }, row, rows),
              weights: passWeights(s, job, blocks, batchShape, n, `${segment.row}/${tile.panel}/${key}`),
            }),
          );
        pushTask(s, {
          rows,
          passes,
          ...job.chain(tile.panel, row, rows),
          storage: job.storage,
          panel: tile.panel,
          row,
          origin: job.origin,
        });
      }
    }
  }
};

/**
 * Rows of a pass. Computed weights load four columns a cycle at the most: where that takes longer than a short block of rows
 * computes, blocks are as long as the accumulators allow.
 */
const blockOf = (s: Selection, job: MatmulJob, rows: number): number => {
  const block = rowBlock(rows);
  if (job.weights.kind === "constant" || rows > 256) return block;
  const columns = Math.min(s.target.lanes, job.space.shape[job.space.shape.length - 1] ?? 1) * (job.space.panels > 1 ? 2 : 1);
  return columns / 4 > block / 2 ? rows : block;
};

/**
 * Key of the pass of a half-vector: its number, and a turn. Loading a column of computed weights replaces it whole, so two
 * blocks of one column need two turns.
 */
const TURNS = 1024;
const passKey = <T>(passes: ReadonlyMap<number, readonly T[]>, half: number, clashes: (block: T) => boolean): number => {
  let key = half * TURNS;
  while (passes.get(key)?.some(clashes)) key++;
  return key;
};
const halfOf = (key: number): { panel: number; half: 0 | 1 } => {
  const half = Math.floor(key / TURNS);
  return { panel: Math.floor(half / 2), half: half % 2 === 0 ? 0 : 1 };
};

/** Offset that an index (row-major over `shape`) makes along the rows or columns of some dims. */
const offsetOf = (
  dims: readonly (readonly Factor[])[],
  shape: Shape,
  index: number,
  along: "row" | "column",
): number => {
  let rest = index;
  let offset = 0;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    let i = rest % (shape[axis] ?? 1);
    rest = Math.floor(rest / (shape[axis] ?? 1));
    for (const f of [...(dims[axis] ?? [])].reverse()) {
      offset += (i % f.extent) * f[along];
      i = Math.floor(i / f.extent);
    }
  }
  return offset;
};

/** Rows of the operand for the rows of the result. */
const rowDigits = (space: View, a: View, shape: Shape): RowDigit[] => {
  const pairs = factorPairs({ ...space, dims: space.dims.slice(0, -1) }, shape, { ...a, dims: a.dims.slice(0, -1) });
  invariant(pairs !== undefined, "rows of a matmul and of its result meet");
  return pairs.filter(([f]) => f.row !== 0).map(([f, g]) => ({ extent: f.extent, out: f.row, row: g.row }));
};

/** The batch index of the weights for a batch index of the result. */
const weightBatch = (weights: Weights, batchShape: Shape): ((batch: number) => number) => {
  const shape = weights.kind === "stored" ? weights.value.shape : weights.shape;
  const own = expandView({ ...elementView(shape.slice(0, -2)) }, batchShape);
  return (batch) => offsetOf(own.dims, batchShape, batch, "row");
};

const fillColumns = (passes: Map<number, Block[]>, used: readonly Block[], lanes: number): void => {
  const columns = used.map((block) => block.column);
  const first = Math.min(...columns);
  const end = Math.max(...used.map((block) => block.column + block.columns));
  for (const blocks of passes.values())
    for (const block of blocks.filter((candidate) => candidate.column === first))
      for (let column = end; column < lanes; column += block.columns)
        blocks.push({ ...block, column, columns: Math.min(block.columns, lanes - column) });
};

const passWeights = (
  s: Selection,
  job: MatmulJob,
  blocks: readonly Block[],
  batchShape: Shape,
  n: number,
  place: string,
): Pass["weights"] => {
  const { weights } = job;
  const batchOf = weightBatch(weights, batchShape);
  if (weights.kind === "constant") {
    const k = weights.shape[weights.shape.length - 2] ?? 1;
    const tile = blocks.map((block): TileBlock => ({ ...block, offset: batchOf(block.batch) * k * n }));
    return {
      key: `${weights.key} ${JSON.stringify(tile.map(({ offset, k: at, count, lane, n: first, columns, column }) => [offset, at, count, lane, first, columns, column]))}`,
      columns: Math.max(...blocks.map((block) => block.column + block.columns)),
      content: () => tileContent(s.target, weights.read(), n, tile),
    };
  }
  const kExtent = job.a.shape[job.a.shape.length - 1] ?? 1;
  const loads = loadsFrom(s, weights.value, blocks, batchShape, n, kExtent);
  if (loads !== undefined) return loads;
  const moved = movedWeights(s, job, weights);
  const again = loadsFrom(s, moved, blocks, batchShape, n, kExtent);
  invariant(again !== undefined, `weights of ${job.name} at ${place} lie as the activations need them`);
  return again;
};

/** Loads of a stored second operand, if its rows are columns of weights with K on just the lanes that the blocks name. */
const loadsFrom = (
  s: Selection,
  value: Located,
  blocks: readonly Block[],
  batchShape: Shape,
  n: number,
  kExtent: number,
): WeightLoad[] | undefined => {
  const half = halfLanes(s.target);
  const full = expandView(value.view, [...batchShape, kExtent, n]);
  const rank = batchShape.length + 2;
  const kDim = full.dims[rank - 2] ?? [];
  const nDim = normalize(full.dims[rank - 1] ?? []);
  if (kDim.some((f) => f.row !== 0) || nDim.some((f) => f.column !== 0) || nDim.length > 1) return undefined;
  const step = nDim[0]?.row ?? 0;
  const loads: WeightLoad[] = [];
  for (const block of blocks) {
    const base = value.view.column + offsetOf(full.dims.slice(0, -2), batchShape, block.batch, "column");
    const at = (k: number): number => base + offsetOf([kDim], [kExtent], k, "column");
    const first = at(block.k);
    if (first % half !== block.lane || at(block.k + block.count - 1) !== first + block.count - 1) return undefined;
    if (Math.floor(first / half) !== Math.floor((first + block.count - 1) / half)) return undefined;
    const row = value.view.row + offsetOf(full.dims.slice(0, -2), batchShape, block.batch, "row") + block.n * step;
    loads.push({
      storage: value.storage,
      panel: Math.floor(first / s.target.lanes),
      run: { row, step, count: block.columns },
      half: (Math.floor(first / half) % 2) as 0 | 1,
      first: block.lane,
      lanes: block.count,
      column: block.column,
    });
  }
  return loads;
};

/** Moves a stored second operand [.., K, N] so that K lies on the lanes on which the activations have it, N along rows. */
const movedWeights = (s: Selection, job: MatmulJob, weights: Extract<Weights, { kind: "stored" }>): Located => {
  const shape = weights.value.shape;
  const rank = shape.length;
  const batch = shape.slice(0, -2);
  const k = shape[rank - 2] ?? 1;
  const n = shape[rank - 1] ?? 1;
  const outBatch = job.space.shape.slice(0, -2);
  const aFull = expandView(job.a.view, [...outBatch, job.a.shape[job.a.shape.length - 2] ?? 1, k]);
  // Columns as in A; rows: batch dims that are not on columns, then N.
  let row = n;
  const dims: Factor[][] = [];
  const missing = outBatch.length - batch.length;
  const wide = outBatch.map((extent, axis) => (axis < missing ? 1 : extent));
  for (let axis = outBatch.length - 1; axis >= 0; axis--) {
    const columns = (aFull.dims[axis] ?? []).filter((f) => f.column !== 0);
    const extent = wide[axis] ?? 1;
    if (columns.length > 0) dims.unshift(columns.map((f) => ({ ...f, row: 0 })));
    else {
      const own = axis < missing ? 1 : (batch[axis - missing] ?? 1);
      dims.unshift(own > 1 ? [{ extent: own, row, column: 0 }] : []);
      if (own > 1) row *= extent;
    }
  }
  const full: View = {
    dims: [
      ...dims,
      (aFull.dims[outBatch.length + 1] ?? []).map((f) => ({ ...f, row: 0 })),
      n > 1 ? [{ extent: n, row: 1, column: 0 }] : [],
    ],
    row: 0,
    column: job.a.view.column,
  };
  return weights.move(full, shapeOf(full));
};

/* ---------- reductions over lanes ---------- */

/** A chain whose only reader is a sum over more lanes than a vector has: it is computed panel by panel while these are added. */
const isFolded = (s: Selection, fusion: Fusion): boolean => {
  const readers = s.consumers[fusion.root] ?? [];
  const root = nodeAt(s, fusion.root);
  const width = root.type.shape[root.type.shape.length - 1] ?? 1;
  return (
    fusion.main === undefined &&
    readers.length === 1 &&
    nodeAt(s, readers[0] as number).op === "reduce_sum" &&
    width > s.target.lanes &&
    !s.graph.outputs.some((output) => output.node === fusion.root)
  );
};

/**
 * The operand of a sum over more lanes than a vector has, its panels added into one. What computes the operand runs in the
 * same chain if the ALUs suffice; lanes beyond the last column count as zero.
 */
const foldedPanels = (s: Selection, node: Node): Located | undefined => {
  const { lanes } = s.target;
  const id = node.inputs[0] as number;
  const shape = nodeAt(s, id).type.shape;
  const width = shape[shape.length - 1] ?? 1;
  if (width <= lanes) return undefined;
  const fusion = s.fusions.get(id);
  const folds = fusion !== undefined && isFolded(s, fusion);
  const view = folds ? spaceOfChain(s, fusion) : denseRows(s.target, locate(s, id));
  const last = normalize(view?.dims[shape.length - 1] ?? []);
  const whole = view !== undefined && last.length === 1 && last[0]?.column === 1 && view.dims.slice(0, -1).flat().every((f) => f.column === 0);
  if (!whole) return folds ? materialise(s, fusion) : undefined;
  const views = folds ? chainViews(s, fusion, view) : undefined;
  const value = folds ? undefined : locate(s, id);
  const space = spaceOf(s.target, view, shape);
  const fit = value === undefined ? undefined : fitOperand(s.target, view, shape, value);
  const chain: Chain | undefined =
    folds && views !== undefined
      ? chainOf(s, fusion, views)
      : value !== undefined && fit !== undefined
        ? (panel, row, rows) => ({
            ops: [],
            leaves: [{ storage: value.storage, panel: panel + fit.panelOffset, runs: runsOf(fit, row, rows) }],
          })
        : undefined;
  const sum = chain === undefined ? undefined : panelSum(s, chain, space.panels, width);
  if (sum === undefined) return folds && fusion !== undefined ? materialise(s, fusion) : undefined;
  const folded: Space = { ...space, panels: 1 };
  const storage = temp(s, node, "f16", folded);
  const block = rowBlock(space.rows);
  for (let row = 0; row < space.rows; row += block) {
    const rows = Math.min(block, space.rows - row);
    pushTask(s, { rows, passes: [], ...sum(0, row, rows), storage, panel: 0, row, origin: originOf(s, node) });
  }
  const dims = [...view.dims.slice(0, -1), [{ extent: lanes, row: 0, column: 1 }]];
  return { storage, shape: [...shape.slice(0, -1), lanes], view: { dims, row: 0, column: 0 } };
};

/** One chain that computes all panels and adds them; undefined if it needs more ALUs than there are. */
const panelSum = (s: Selection, chain: Chain, panels: number, width: number): Chain | undefined => {
  const { lanes } = s.target;
  const single = chain(0, 0, 1);
  const masked = width % lanes !== 0;
  const shared = single.leaves.length > 1 ? 1 : 0;
  if (panels * single.ops.length + panels - 1 + (masked ? 1 : 0) + shared > s.target.alus) return undefined;
  const mask = masked ? maskStorage(s, width % lanes) : -1;
  const ops: AluOp[] = [];
  const results: Argument[] = [];
  const order: { panel: number; leaf: number }[] = [];
  const keys = new Map<string, number>();
  for (let panel = 0; panel < panels; panel++) {
    const { ops: own, leaves } = chain(panel, 0, 1);
    const at = leaves.map((leaf, index) => {
      const key = JSON.stringify([leaf.storage, leaf.panel]);
      const known = keys.get(key);
      if (known !== undefined) return known;
      keys.set(key, order.length);
      order.push({ panel, leaf: index });
      return order.length - 1;
    });
    const base = ops.length;
    for (const op of own)
      ops.push({
        fn: op.fn,
        args: op.args.map((argument): Argument =>
          "op" in argument ? { op: argument.op + base } : "leaf" in argument ? { leaf: at[argument.leaf] as number } : argument,
        ),
      });
    results.push(own.length === 0 ? { leaf: at[0] as number } : { op: ops.length - 1 });
  }
  if (masked) {
    const value = results[panels - 1] as Argument;
    results[panels - 1] = { op: ops.length };
    ops.push({ fn: "select", args: [{ leaf: order.length }, value, { constant: 0 }] });
  }
  for (const [panel, result] of results.entries())
    if (panel > 0) ops.push({ fn: "add", args: [panel === 1 ? (results[0] as Argument) : { op: ops.length - 1 }, result] });
  return (_, row, rows) => {
    const byPanel = Array.from({ length: panels }, (__, panel) => chain(panel, row, rows).leaves);
    const leaves = order.map(({ panel, leaf }) => byPanel[panel]?.[leaf] as Leaf);
    if (masked) leaves.push({ storage: mask, panel: 0, runs: [{ row: 0, step: 0, count: rows }] });
    return { ops, leaves };
  };
};

/** A constant row: one on the first lanes, zero on the others. */
const maskStorage = (s: Selection, count: number): StorageId => {
  const { lanes } = s.target;
  const key = `mask ${count}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const content = (): Uint16Array => new Uint16Array(lanes).fill(0x3c00, 0, count);
  const storage = addStorage(s, { name: "mask", dtype: "f16", rows: 1, panels: 1, kind: "constant", bothHemispheres: false, content, output: false });
  s.copies.set(key, { storage, shape: [1, lanes], view: naturalView([1, lanes]) });
  return storage;
};

/** Stores the root of a chain after all, when it cannot be folded. */
const materialise = (s: Selection, fusion: Fusion): undefined => {
  if (!s.located.has(fusion.root)) storeChain(s, fusion);
};

/** Sum over the last axis as a matmul by ones: every sum stands on all the lanes on which `full` wants to read it. */
const lowerSum = (s: Selection, node: Node, full: View, fullShape: Shape): Located => {
  const id = node.inputs[0] as number;
  const shape = node.type.shape;
  const folded = s.copies.get(`folded ${id}`) ?? foldedPanels(s, node);
  if (folded !== undefined) s.copies.set(`folded ${id}`, folded);
  const a = folded ?? activationsOf(s, id, locate(s, id));
  if (shape.length === 1) {
    // A vector is a matrix of one row.
    const lifted = { ...a, shape: [1, ...a.shape], view: { ...a.view, dims: [[], ...a.view.dims] } };
    const sum = sumOver(s, node, lifted, [1, 1], full, fullShape);
    return { ...sum, shape, view: { ...sum.view, dims: sum.view.dims.slice(1) } };
  }
  return sumOver(s, node, a, shape, full, fullShape);
};

/** `shape` is that of the result; the last axis of `a` is summed. */
const sumOver = (s: Selection, node: Node, a: Located, shape: Shape, full: View, fullShape: Shape): Located => {
  const rank = shape.length;
  const aligned = expandView(restrictTo(full, fullShape, shape), shape);
  const onColumns = a.view.dims.slice(0, -2).some((factors) => factors.some((f) => f.column !== 0));
  const wantsColumns = aligned.dims.slice(0, -2).some((factors) => factors.some((f) => f.column !== 0));
  const repeat = onColumns && wantsColumns ? lastColumns(full) : undefined;
  const width = repeat?.extent ?? s.target.lanes;
  const key = `sum ${node.id} ${repeat === undefined ? "all" : JSON.stringify(aligned.dims.map((factors) => factors.map((f) => [f.extent, f.column])))}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  // Rows as the source has them, columns as the reader wants them.
  let row = shape[rank - 2] ?? 1;
  const dims: Factor[][] = shape.map(() => []);
  dims[rank - 2] = row > 1 ? [{ extent: row, row: 1, column: 0 }] : [];
  for (let axis = rank - 3; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    const columns = repeat === undefined ? [] : (aligned.dims[axis] ?? []).filter((f) => f.column !== 0);
    if (columns.length > 0) dims[axis] = columns.map((f) => ({ ...f, row: 0 }));
    else if (extent > 1) {
      dims[axis] = [{ extent, row, column: 0 }];
      row *= extent;
    }
  }
  const column = repeat === undefined ? 0 : full.column;
  const wideShape = [...shape.slice(0, -1), width];
  const view: View = { dims: [...dims.slice(0, -1), [{ extent: width, row: 0, column: 1 }]], row: 0, column };
  const space = spaceOf(s.target, view, wideShape);
  const k = a.shape[a.shape.length - 1] ?? 1;
  const ones: Weights = {
    kind: "constant",
    key: `ones ${k}x${width}`,
    shape: [k, width],
    read: () => new Uint16Array(k * width).fill(0x3c00),
  };
  const storage = temp(s, node, "f32", space);
  emitMatmul(s, {
    a,
    weights: ones,
    space,
    storage,
    chain: COPY,
    origin: originOf(s, node),
    name: node.op,
    fill: true,
  });
  const value: Located = {
    storage,
    shape,
    view: { dims: [...dims.slice(0, -1), []], row: 0, column },
    repeated: repeat === undefined ? "all" : [{ extent: width, column: 1 }],
  };
  s.copies.set(key, value);
  return value;
};

/** The part of a broadcast view that belongs to an operand of a smaller shape. */
const restrictTo = (full: View, fullShape: Shape, shape: Shape): View => {
  const missing = fullShape.length - shape.length;
  return { ...full, dims: shape.map((extent, axis) => (extent === 1 ? [] : (full.dims[axis + missing] ?? []))) };
};

const lastColumns = (full: View): Factor | undefined => {
  const factors = normalize(full.dims[full.dims.length - 1] ?? []);
  const only = factors[0];
  return factors.length === 1 && only !== undefined && only.column === 1 ? only : undefined;
};

const activationsOf = (s: Selection, id: NodeId, stored: Located): Located => {
  const value = asHalf(s, id, stored);
  const rank = value.shape.length;
  const k = value.view.dims[rank - 1] ?? [];
  const pure = value.view.dims.every((factors) => factors.every((f) => f.row === 0 || f.column === 0));
  const rowsOnly = (value.view.dims[rank - 2] ?? []).every((f) => f.column === 0);
  if (pure && rowsOnly && k.every((f) => f.column !== 0)) return value;
  return relayout(s, id, value, naturalView(value.shape), value.shape);
};

/** Maximum over the last axis by rotate-and-max within each block of lanes, in the layout of the operand. */
const lowerMax = (s: Selection, node: Node): Located => {
  const { lanes } = s.target;
  const id = node.inputs[0] as number;
  let value = locate(s, id);
  const n = value.shape[value.shape.length - 1] ?? 1;
  const contiguous = (v: Located): boolean => {
    const last = normalize(v.view.dims[v.view.dims.length - 1] ?? []);
    return n === 1 || (last.length === 1 && last[0]?.column === 1);
  };
  if (!contiguous(value) || denseRows(s.target, value, "kept") === undefined)
    value = relayout(s, id, value, naturalView(value.shape), value.shape);
  if (n > lanes)
    fail("LPU2202", {
      message: `maximum over ${n} lanes, at most ${lanes} are supported`,
      node: node.origin.join(" + "),
      hint: "bind a shorter sequence",
    });
  const dense = denseRows(s.target, value, "kept");
  invariant(dense !== undefined, "the operand of a maximum starts at a panel");
  const space = spaceOf(s.target, dense, value.shape);
  const starts = blockStarts(dense, value.shape);
  const dtype = (s.storages[value.storage] as Storage).dtype;
  const maps = (panel: number, shift: number): number => {
    const map = Int16Array.from({ length: lanes }, (_, lane) => lane);
    for (const start of starts) {
      if (Math.floor(start / lanes) !== panel) continue;
      if ((start % lanes) + n > lanes)
        fail("LPU2202", { message: `maximum over ${n} lanes that cross a panel`, node: node.origin.join(" + ") });
      for (let i = 0; i < n; i++) map[(start % lanes) + i] = (start % lanes) + ((i + shift) % n);
    }
    return mapId(s, map);
  };
  let from: Located = value;
  for (let window = 1; window < n; window *= 2) {
    const shift = Math.min(window, n - window);
    const fit = fitOperand(s.target, dense, value.shape, from);
    invariant(fit !== undefined, "steps of a maximum share a layout");
    const storage = temp(s, node, dtype, space);
    const block = rowBlock(space.rows);
    for (let row = 0; row < space.rows; row += block)
      for (let panel = 0; panel < space.panels; panel++) {
        const rows = Math.min(block, space.rows - row);
        const leaf: Leaf = {
          storage: from.storage,
          panel: fit.fixedPanel ? fit.panelOffset : panel + fit.panelOffset,
          runs: runsOf(fit, row, rows),
        };
        const ops: AluOp[] = [{ fn: "max", args: [{ leaf: 0 }, { leaf: 1 }] }];
        pushTask(s, {
          rows,
          passes: [],
          ops,
          leaves: [leaf, { ...leaf, map: maps(panel, shift) }],
          storage,
          panel,
          row,
          origin: originOf(s, node),
        });
      }
    from = { storage, shape: value.shape, view: dense };
  }
  return {
    storage: from.storage,
    shape: node.type.shape,
    view: { ...from.view, dims: [...from.view.dims.slice(0, -1), []] },
    repeated: [{ extent: n, column: 1 }],
  };
};

/** First physical column of every block of lanes that a view's last axis makes. */
const blockStarts = (view: View, shape: Shape): number[] => {
  let starts = [view.column];
  for (const f of view.dims.slice(0, shape.length - 1).flat())
    if (f.column !== 0)
      starts = starts.flatMap((start) => Array.from({ length: f.extent }, (_, i) => start + i * f.column));
  return starts;
};

const mapId = (s: Selection, map: Int16Array): number => {
  const key = map.join();
  const known = s.mapIds.get(key);
  if (known !== undefined) return known;
  s.mapIds.set(key, s.maps.length);
  s.maps.push(map);
  return s.maps.length - 1;
};

/* ---------- moving ---------- */

/**
 * A copy of a tensor in another layout. Lanes that stay lanes move by a selection matrix; rows that become lanes by a
 * matmul of the identity with the tensor as weights. Broadcast lanes are filled.
 */
const relayout = (s: Selection, id: NodeId, stored: Located, full: View, fullShape: Shape): Located => {
  const node = nodeAt(s, id);
  const value = asHalf(s, id, stored);
  const pairs = factorPairs(full, fullShape, value.view);
  const plain = plainView(full, fullShape);
  // Radices that do not meet may both meet those of the plain layout.
  if (pairs === undefined && JSON.stringify(plain) !== JSON.stringify(full) && factorPairs(plain, fullShape, value.view) !== undefined)
    return relayout(s, id, relayout(s, id, value, plain, fullShape), full, fullShape);
  if (pairs === undefined)
    fail("LPU2201", {
      message: `cannot move [${value.shape.join(",")}] into the layout of [${fullShape.join(",")}]`,
      node: node.origin.join(" + "),
    });
  const key = `move ${value.storage} ${JSON.stringify(value.view)} ${JSON.stringify(full)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known;
  const plan = movePlan(s, node, value, full, fullShape, pairs);
  s.copies.set(key, plan);
  return plan;
};

/** The same dims on lanes and on rows, each as one factor, packed densely. */
const plainView = (full: View, shape: Shape): View => {
  let row = 1;
  let column = 1;
  const dims: Factor[][] = shape.map(() => []);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] ?? 1;
    if (extent === 1) continue;
    if ((full.dims[axis] ?? []).some((f) => f.column !== 0)) {
      dims[axis] = [{ extent, row: 0, column }];
      column *= extent;
    } else {
      dims[axis] = [{ extent, row, column: 0 }];
      row *= extent;
    }
  }
  return { dims, row: 0, column: 0 };
};

const movePlan = (
  s: Selection,
  node: Node,
  value: Located,
  full: View,
  fullShape: Shape,
  pairs: readonly (readonly [Factor, Factor])[],
): Located => {
  // Digits by kind: [extent, place in the target, place in the source].
  const kept = pairs.filter(([f, g]) => !(g.row === 0 && g.column === 0 && f.column === 0));
  const rowRow = kept.filter(([f, g]) => f.row !== 0 && g.column === 0);
  const laneRow = kept.filter(([f, g]) => f.row !== 0 && g.column !== 0);
  const rowLane = kept.filter(([f, g]) => f.column !== 0 && g.row !== 0);
  const laneLane = kept.filter(([f, g]) => f.column !== 0 && g.row === 0);
  // Target rows: moved lanes outside, own rows inside, densely; so that each value of the moved lanes is one run of rows.
  const strides = new Map<readonly [Factor, Factor], number>();
  let row = 1;
  const transposes = rowLane.length > 0;
  for (const pair of transposes ? [...rowRow, ...laneRow].reverse() : [...laneRow, ...rowRow].reverse()) {
    strides.set(pair, row);
    row *= pair[0].extent;
  }
  const rows = row;
  const dims = rebuildDims(full, fullShape, pairs, strides);
  const view: View = { dims, row: 0, column: full.column };
  const space = spaceOf(s.target, view, fullShape);
  const storage = temp(s, node, (s.storages[value.storage] as Storage).dtype, { ...space, rows });
  const origin = originOf(s, node);
  if (transposes)
    emitTranspose(
      s,
      value,
      { storage, panels: space.panels, column: full.column },
      rowRow,
      laneRow,
      rowLane,
      laneLane,
      strides,
      origin,
    );
  else
    emitSelection(
      s,
      value,
      { storage, panels: space.panels, column: full.column },
      rowRow,
      laneRow,
      laneLane,
      strides,
      origin,
    );
  const own = restrictTo(view, fullShape, value.shape);
  const missing = fullShape.length - value.shape.length;
  const repeated = view.dims.flatMap((factors, axis) =>
    (value.shape[axis - missing] ?? 1) === 1 ? factors.filter((f) => f.column !== 0 && f.extent > 1) : [],
  );
  return { storage, shape: value.shape, view: own, ...(repeated.length === 0 ? {} : { repeated }) };
};

/** The target's dims with new row strides; broadcast rows are dropped. */
const rebuildDims = (
  full: View,
  fullShape: Shape,
  pairs: readonly (readonly [Factor, Factor])[],
  strides: ReadonlyMap<readonly [Factor, Factor], number>,
): Factor[][] => {
  let next = 0;
  return fullShape.map((extent, axis) => {
    const result: Factor[] = [];
    let left = (full.dims[axis] ?? []).reduce((product, f) => product * f.extent, 1);
    while (left > 1) {
      const pair = pairs[next++];
      invariant(pair !== undefined, `factors cover the extent ${extent}`);
      const [f] = pair;
      left /= f.extent;
      result.push({ extent: f.extent, row: f.row === 0 ? 0 : (strides.get(pair) ?? 0), column: f.column });
    }
    return result;
  });
};

type Pairs = readonly (readonly [Factor, Factor])[];
interface Destination {
  readonly storage: StorageId;
  readonly panels: number;
  readonly column: number;
}

/** All index combinations of digits: places in target and source. */
const combinations = (
  pairs: Pairs,
  target: "row" | "column",
  source: "row" | "column",
  strides?: ReadonlyMap<readonly [Factor, Factor], number>,
): { to: number; from: number }[] => {
  let all = [{ to: 0, from: 0 }];
  for (const pair of pairs) {
    const [f, g] = pair;
    const stride = strides?.get(pair) ?? f[target];
    all = all.flatMap(({ to, from }) =>
      Array.from({ length: f.extent }, (_, i) => ({ to: to + i * stride, from: from + i * g[source] })),
    );
  }
  return all;
};

const emitSelection = (
  s: Selection,
  value: Located,
  to: Destination,
  rowRow: Pairs,
  laneRow: Pairs,
  laneLane: Pairs,
  strides: ReadonlyMap<readonly [Factor, Factor], number>,
  origin: number,
): void => {
  const { lanes } = s.target;
  const half = halfLanes(s.target);
  const columns = combinations(laneLane, "column", "column");
  const count = rowRow.reduce((product, [f]) => product * f.extent, 1);
  const digits = rowRow.map(
    (pair): RowDigit => ({ extent: pair[0].extent, out: strides.get(pair) ?? 1, row: pair[1].row }),
  );
  for (const lane of combinations(laneRow, "row", "column", strides))
    for (let panel = 0; panel < to.panels; panel++) {
      const passes = new Map<number, [number, number][]>();
      for (const { to: column, from } of columns) {
        const at = to.column + column;
        if (Math.floor(at / lanes) !== panel) continue;
        const place = value.view.column + lane.from + from;
        const key = Math.floor(place / half) * TURNS;
        passes.set(key, [...(passes.get(key) ?? []), [at % lanes, place % half]]);
      }
      if (passes.size === 0) continue;
      const block = rowBlock(count);
      for (let row = 0; row < count; row += block) {
        const rows = Math.min(block, count - row);
        const runs = runsOf({ digits, row: value.view.row }, row, rows);
        const list = [...passes]
          .sort((x, y) => x[0] - y[0])
          .map(
            ([key, ones]): Pass => ({
              storage: value.storage,
              ...halfOf(key),
              runs,
              weights: {
                key: `select ${JSON.stringify(ones)}`,
                columns: Math.max(...ones.map(([column]) => column)) + 1,
                content: () => selectionContent(s.target, ones),
              },
            }),
          );
        pushTask(s, {
          rows,
          passes: list,
          ...COPY(panel, row, rows),
          storage: to.storage,
          panel,
          row: lane.to + row,
          origin,
        });
      }
    }
};

const selectionContent = (target: Target, ones: readonly (readonly [number, number])[]): Uint16Array => {
  const half = halfLanes(target);
  const columns = Math.max(...ones.map(([column]) => column)) + 1;
  const tile = new Uint16Array(columns * half);
  for (const [column, lane] of ones) tile[column * half + lane] = 0x3c00;
  return tile;
};

const emitTranspose = (
  s: Selection,
  value: Located,
  to: Destination,
  rowRow: Pairs,
  laneRow: Pairs,
  rowLane: Pairs,
  laneLane: Pairs,
  strides: ReadonlyMap<readonly [Factor, Factor], number>,
  origin: number,
): void => {
  const { lanes } = s.target;
  const half = halfLanes(s.target);
  const groups = combinations(laneLane, "column", "column");
  const contracted = combinations(laneRow, "row", "column", strides).sort((x, y) => x.to - y.to);
  const depth = contracted.length;
  const spread = combinations(rowLane, "column", "row");
  for (const outer of combinations(rowRow, "row", "row", strides))
    for (let panel = 0; panel < to.panels; panel++) {
      const passes = new Map<number, { loads: WeightLoad[]; identity: [number, number][] }>();
      for (const group of groups) {
        // Lanes of this group's contracted values, cut where they leave a half.
        const places = contracted.map(({ from }) => value.view.column + group.from + from);
        for (let i = 0; i < depth; ) {
          const at = places[i] as number;
          let count = 1;
          while (i + count < depth && places[i + count] === at + count && (at + count) % half !== 0) count++;
          const number = Math.floor(at / half);
          const runs = columnRuns(spread, to.column + group.to, panel, lanes);
          let key = number * TURNS;
          while (passes.get(key)?.loads.some((load) => runs.some((run) => run.column === load.column))) key++;
          const pass = passes.get(key) ?? { loads: [], identity: [] };
          let any = false;
          for (const load of runs) {
            any = true;
            pass.loads.push({
              storage: value.storage,
              panel: Math.floor(at / lanes),
              run: { row: value.view.row + outer.from + load.row, step: load.step, count: load.count },
              half: number % 2 === 0 ? 0 : 1,
              first: at % half,
              lanes: count,
              column: load.column,
            });
          }
          if (any) {
            for (let j = 0; j < count; j++) pass.identity.push([i + j, at + j]);
            passes.set(key, pass);
          }
          i += count;
        }
      }
      if (passes.size === 0) continue;
      const list = [...passes]
        .sort((x, y) => x[0] - y[0])
        .map(
          ([key, pass]): Pass => ({
            storage: identityStorage(s, depth, halfOf(key).half, pass.identity),
            panel: 0,
            half: halfOf(key).half,
            runs: [{ row: 0, step: depth > 1 ? 1 : 0, count: depth }],
            weights: pass.loads,
          }),
        );
      pushTask(s, {
        rows: depth,
        passes: list,
        ...COPY(panel, 0, depth),
        storage: to.storage,
        panel,
        row: outer.to,
        origin,
      });
    }
};

/** Runs of source rows that fill neighbouring columns of a panel. */
const columnRuns = (
  spread: readonly { to: number; from: number }[],
  base: number,
  panel: number,
  lanes: number,
): { column: number; row: number; step: number; count: number }[] => {
  const runs: { column: number; row: number; step: number; count: number }[] = [];
  for (const { to, from } of [...spread].sort((x, y) => x.to - y.to)) {
    const column = base + to - panel * lanes;
    if (column < 0 || column >= lanes) continue;
    const last = runs[runs.length - 1];
    if (
      last !== undefined &&
      column === last.column + last.count &&
      (last.count === 1 || from === last.row + last.step * last.count)
    ) {
      if (last.count === 1) last.step = from - last.row;
      last.count++;
    } else runs.push({ column, row: from, step: 0, count: 1 });
  }
  return runs;
};

/** A constant whose row i is one on the given lanes of a half and zero elsewhere. */
const identityStorage = (
  s: Selection,
  rows: number,
  half: number,
  ones: readonly (readonly [number, number])[],
): StorageId => {
  const { lanes } = s.target;
  const key = `identity ${rows} ${half} ${JSON.stringify(ones.map(([row, column]) => [row, column % lanes]))}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const content = (): Uint16Array => {
    const panel = new Uint16Array(rows * lanes);
    for (const [row, column] of ones) panel[row * lanes + (column % lanes)] = 0x3c00;
    return panel;
  };
  const storage = addStorage(s, {
    name: "identity",
    dtype: "f16",
    rows,
    panels: 1,
    kind: "constant",
    bothHemispheres: true,
    content,
    output: false,
  });
  s.copies.set(key, { storage, shape: [rows, lanes], view: naturalView([rows, lanes]) });
  return storage;
};

/* ---------- concat ---------- */

/** Concatenation along an axis that lies on rows: each part is copied to its rows. */
const lowerConcat = (s: Selection, node: Node): void => {
  const shape = node.type.shape;
  const axis = Number(node.attrs["axis"]);
  const view = naturalView(shape);
  const space = spaceOf(s.target, view, shape);
  invariant(axis !== shape.length - 1, "concat on lanes has become a matmul");
  const storage = temp(s, node, storedType(node), space);
  let at = 0;
  for (const input of node.inputs) {
    const partShape = nodeAt(s, input).type.shape;
    const starts = shape.map((_, dim) => (dim === axis ? at : 0));
    const part = sliceView(
      view,
      starts,
      partShape,
      shape.map(() => 1),
    );
    invariant(part !== undefined, "a part of a row-major tensor is a view");
    const value = fitted(s, input, part, partShape);
    const fit = fitOperand(s.target, part, partShape, value);
    invariant(fit !== undefined, "a part fits after it was moved");
    for (const { row, rows } of rowRanges(part)) {
      const block = rowBlock(rows);
      for (let offset = 0; offset < rows; offset += block)
        for (let panel = 0; panel < space.panels; panel++) {
          const count = Math.min(block, rows - offset);
          const leaf: Leaf = {
            storage: value.storage,
            panel: fit.fixedPanel ? fit.panelOffset : panel + fit.panelOffset,
            runs: runsOf(fit, row - part.row + offset, count),
          };
          pushTask(s, {
            rows: count,
            passes: [],
            ops: [{ fn: "copy", args: [{ leaf: 0 }] }],
            leaves: [leaf],
            storage,
            panel,
            row: row + offset,
            origin: originOf(s, node),
          });
        }
    }
    at += partShape[axis] ?? 0;
  }
  s.located.set(node.id, { storage, shape, view });
};

/** Contiguous ranges of rows that a view covers. */
const rowRanges = (view: View): { row: number; rows: number }[] => {
  const factors = normalize(view.dims.flat().filter((f) => f.row !== 0)).sort((x, y) => y.row - x.row);
  const inner = factors[factors.length - 1];
  let ranges = [view.row];
  for (const f of inner?.row === 1 ? factors.slice(0, -1) : factors)
    ranges = ranges.flatMap((start) => Array.from({ length: f.extent }, (_, i) => start + i * f.row));
  return ranges.map((row) => ({ row, rows: inner?.row === 1 ? inner.extent : 1 }));
};

/* ---------- accounting ---------- */

/** Multiply-accumulates that the model asks for: products of its matmuls, without padding, sums or moves. */
const usefulMacs = (graph: Graph): number =>
  graph.nodes.reduce((sum, node) => {
    if (node.op !== "matmul") return sum;
    const a = graph.nodes[node.inputs[0] as number] as Node;
    return sum + elementCount(node.type.shape) * (a.type.shape[a.type.shape.length - 1] ?? 1);
  }, 0);
