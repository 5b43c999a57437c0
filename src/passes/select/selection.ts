/**
 * The nouns of selection: the plan in the making, and the few ways in which rules add to it.
 *
 * Every rule (rules/) takes the Selection and appends storages, tasks and maps to it in an order that follows from the
 * graph alone, so that the same graph gives the same plan to the byte. Nothing is ever taken back: a chain that has no
 * layout is put on `refused`, and the driver (select.ts) starts anew. What uses ask of storages is told
 * once all tasks are known (uses.ts).
 */

import type { Literal } from "../../ir/graph.js";
import type { PanelRecipe } from "../../ir/recipe.js";
import { at, invariant } from "../../diagnostics.js";
import type { Graph, Node, NodeId } from "../../ir/graph.js";
import {
  type AluOp,
  isMultiplied,
  type Leaf,
  loadedBy,
  type Pass,
  type PlanBinding,
  type PlanState,
  type Run,
  type Storage,
  type StorageId,
  type StorageType,
  type Task,
  type TaskOutput,
} from "../../ir/plan.js";
import type { Target } from "../../ir/target.js";
import { type Fusion, isFloatCast } from "./fuse.js";
import type { Arrangement } from "./layout/arrangement.js";
import type { Located } from "./layout/operand.js";
import { type Range, union } from "../../ir/ranges.js";
import { type Facts, factsOfOps, storedFacts, SUMS } from "./padding.js";
import { extents, type Layout, naturalLayout, type View } from "./layout/view.js";

/** A layout with the storage that it asks for: `panels` panels of `rows` vectors. */
export interface Space extends Layout {
  readonly rows: number;
  readonly panels: number;
}

/** What rows `row` .. `row + rows - 1` of a panel flow through on their way to a storage; the last operation's result is stored. */
export type Chain = (
  panel: number,
  row: number,
  rows: number,
) => {
  readonly ops: readonly AluOp[];
  readonly leaves: readonly Leaf[];
  /** What follows from that, and is stored beside it. */
  readonly beside?: Beside;
};

/** Operations behind those of a chain, and which of all of them are stored where, at the same place as the chain's own result. */
export interface Beside {
  readonly ops: readonly AluOp[];
  readonly results: readonly { readonly op: number; readonly storage: StorageId }[];
}

/** A storage of fp16 numbers that a product takes `scale` times, a power of two that fp16 holds. */
export interface Part {
  readonly storage: StorageId;
  readonly scale: number;
}

/** What is summed: `a` says how it lies; the sum of a row is `factor` times that of all parts, each times its scale. */
export interface Summands {
  readonly a: Located;
  readonly parts: readonly Part[];
  readonly factor: number;
}

/** Lowers a reduction over the last axis, for a reader that wants the result to lie as told; a chain also takes it in two storages. */
export type LowerReduction = (s: Selection, node: Node, wanted: Layout, use: "inChain" | "alone") => Located;

/** A storage, without what follows from its uses. */
export type DraftStorage = Omit<Storage, "bothHemispheres" | "output" | "lanes">;

/**
 * What constants leave of SRAM: where it is ample, rows may be taken that save cycles (rules/rests.ts); where it is little, tails of
 * weights lie packed (tails.ts), which takes cycles; where it is least, those of FP8 too (tail-tiles.ts).
 */
export type Room = "ample" | "some" | "little" | "least";

export const isTight = (room: Room): boolean => room === "little" || room === "least";

/** A plan in the making, with all that is known of the graph and of what was made by now. */
export interface Selection {
  readonly graph: Graph;
  readonly target: Target;
  readonly room: Room;
  /** The literals that recipes name, by their keys. */
  readonly literals: Map<string, Literal>;
  /** Chains by their roots. */
  readonly fusions: ReadonlyMap<NodeId, Fusion>;
  readonly consumers: readonly (readonly NodeId[])[];
  /** Reductions are made of values, and values of reductions: this table is where the circle of imports is cut. */
  readonly reductions: Readonly<Record<"reduce_sum" | "reduce_max", LowerReduction>>;
  /** Stores what a concat joins, for the same reason. */
  readonly join: (s: Selection, node: Node) => Located;
  readonly storages: DraftStorage[];
  readonly tasks: Task[];
  /** SXM permutations, each with its number by content. */
  readonly maps: Int16Array[];
  readonly mapIds: Map<string, number>;
  readonly inputs: PlanBinding[];
  /** Inputs that stay in SRAM, by name, with the outputs that take their places. */
  readonly stateOutputs: ReadonlyMap<string, string>;
  /** Where states lie that an entry before this one has, too. */
  readonly stateLayouts: ReadonlyMap<string, Layout>;
  /** Those that have a storage already; what takes their rows is made last. */
  readonly states: Omit<PlanState, "next">[];
  readonly origins: string[];
  readonly originIds: Map<string, number>;
  /** Links to the chip so many behind this one, of chips that run one plan; none for this one, or if there is no other. */
  readonly peers: readonly (readonly number[])[];
  /** Where the value of a node lies first. */
  readonly located: Map<NodeId, Located>;
  /** Where parts of joined weights lie that were moved for it. */
  readonly loaded: Map<NodeId, Located>;
  /** What has been made of values besides: copies in other layouts or types, sums, constants; by a key that says what it is. */
  readonly copies: Map<string, Located>;
  /** How products are made, by how their operands and results lie. */
  readonly arrangements: Map<string, Arrangement>;
  /** Facts of storages, by number; see padding.ts. */
  readonly facts: Facts[];
  /** Ranges of the sums that a permutation brings to all lanes: by number of the map. */
  readonly sumRanges: Map<number, Range>;
  /** The range of each node of the graph. */
  readonly ranges: readonly Range[];
  /** What sums over lanes take, by the node that is summed. */
  readonly summands: Map<NodeId, Summands>;
  /** Nodes that must be stored for their chain to have a layout. */
  readonly refused: NodeId[];
}

/* ---------- nodes ---------- */

export const nodeAt = (s: Selection, id: NodeId): Node => at(s.graph.nodes, id, "node");

export const operandId = (node: Node, index: number): NodeId => at(node.inputs, index, "operand");

export const operandAt = (s: Selection, node: Node, index: number): Node => nodeAt(s, operandId(node, index));

/** Truth values are stored as zeros and ones. */
export const storedType = ({ type: { dtype } }: Node): StorageType =>
  dtype === "f32" || dtype === "i32" ? dtype : "f16";

/** The type in which a chain stores its root: fp16 already where all that reads it takes it as that. */
export const rootType = (s: Selection, node: Node): StorageType => {
  const readers = at(s.consumers, node.id, "list of readers");
  const isOutput = s.graph.outputs.some((output) => output.node === node.id);
  const asHalf = (id: NodeId): boolean => isFloatCast(s.graph, nodeAt(s, id)) && nodeAt(s, id).type.dtype === "f16";
  return !isOutput && readers.length > 0 && readers.every(asHalf) ? "f16" : storedType(node);
};

/** ONNX nodes that a node comes from, for messages. */
export const originText = (node: Node): string => node.origin.join(" + ");

/** Number of a node's origin in the plan. */
export const originOf = (s: Selection, node: Node): number => {
  const name = originText(node);
  const known = s.originIds.get(name);
  if (known !== undefined) return known;
  s.originIds.set(name, s.origins.length);
  s.origins.push(name);
  return s.origins.length - 1;
};

/* ---------- storages ---------- */

export const addStorage = (s: Selection, storage: Omit<DraftStorage, "id">): StorageId => {
  s.storages.push({ ...storage, id: s.storages.length });
  return s.storages.length - 1;
};

export const storageAt = (s: Selection, id: StorageId): DraftStorage => at(s.storages, id, "storage");

/** Rows of fp16 numbers that selection itself needs, made once for each recipe. */
export const constantOnce = (
  s: Selection,
  constant: Pick<Storage, "name" | "rows" | "panels"> & { readonly recipe: PanelRecipe },
): StorageId => {
  const key = `${constant.panels} panels ${JSON.stringify(constant.recipe)}`;
  const known = s.copies.get(key);
  if (known !== undefined) return known.storage;
  const storage = addStorage(s, { ...constant, dtype: "f16", kind: "constant" });
  s.copies.set(key, { storage, ...naturalLayout([constant.rows, s.target.lanes]) });
  return storage;
};

/** A row that is one on its first `count` lanes and zero on the others. */
export const rowOfOnes = (s: Selection, count: number): StorageId =>
  constantOnce(s, {
    name: "ones",
    rows: 1,
    panels: 1,
    recipe: { kind: "points", vectors: 1, value: 1, places: Array.from({ length: count }, (_, lane) => [0, lane]) },
  });

/** A storage for what tasks compute. */
export const addTemp = (
  s: Selection,
  node: Node,
  dtype: StorageType,
  { rows, panels }: Pick<Space, "rows" | "panels">,
  blocks: Pick<DraftStorage, "blocks" | "dealt"> = {},
): StorageId =>
  addStorage(s, {
    name: at(node.origin, node.origin.length - 1, "origin"),
    dtype,
    rows,
    panels,
    kind: "temp",
    ...blocks,
  });

export const spaceOf = (target: Target, { view, shape }: Layout): Space => {
  const { rows, columns } = extents(view);
  return { view, shape, rows, panels: Math.ceil(columns / target.lanes) };
};

/* ---------- tasks ---------- */

interface NewTask {
  readonly rows: number;
  readonly passes?: readonly Pass[];
  readonly ops: readonly AluOp[];
  readonly leaves: readonly Leaf[];
  readonly beside?: Beside | undefined;
  readonly storage: StorageId;
  readonly panel: number;
  readonly row: number;
  /** How far rows are apart, if not neighbours. */
  readonly step?: number;
  readonly origin: number;
  readonly passOrigin?: number | undefined;
  readonly as?: TaskOutput["as"] | undefined;
  /** What the passes give, if not SUMS. */
  readonly sums?: Facts | undefined;
}

/** Adds a task whose last operation, but for those beside it, writes `rows` rows of a panel, from `row` on. */
export const pushTask = (s: Selection, task: NewTask): void => {
  const { rows, passes = [], leaves, panel, row, step = 1, origin, passOrigin, sums = SUMS } = task;
  for (const pass of passes) {
    for (const id of [pass.storage, ...loadedBy(pass)])
      invariant(isMultiplied(storageAt(s, id).dtype), `the MXM takes storage ${id} as numbers of fp16`);
  }
  const ops = task.beside === undefined ? task.ops : [...task.ops, ...task.beside.ops];
  const results = [{ op: task.ops.length - 1, storage: task.storage }, ...(task.beside?.results ?? [])];
  const outputs = results.map(
    ({ op, storage }, index): TaskOutput => ({
      ...{ op, storage, panel, row },
      ...(step === 1 || rows === 1 ? {} : { step }),
      ...(task.as === undefined || index > 0 ? {} : { as: task.as }),
    }),
  );
  const product = passOrigin === undefined || passOrigin === origin ? {} : { passOrigin };
  s.tasks.push({ rows, passes, ops, leaves, outputs, origin, ...product });
  const facts = factsOfOps(s, ops, leaves, sums);
  for (const { op, storage } of results) {
    const made = storedFacts(at(facts, op, "operation"), storageAt(s, storage).dtype);
    const known = s.facts[storage];
    s.facts[storage] =
      known === undefined
        ? made
        : { values: union(known.values, made.values), padding: union(known.padding, made.padding) };
  }
};

/** Stores what a chain computes without the MXM: every panel of every block of rows. */
export const pushChain = (
  s: Selection,
  { rows, panels, view }: Pick<Space, "rows" | "panels"> & { readonly view?: View },
  chain: Chain,
  storage: StorageId,
  origin: number,
): void => {
  for (const block of chainBlocks(s.target, rows, view))
    for (let panel = 0; panel < panels; panel++)
      pushTask(s, { rows: block.rows, ...chain(panel, block.row, block.rows), storage, panel, row: block.row, origin });
};

/**
 * Blocks of rows of a chain: where rows of one head after another are long, none has rows of two, since products read them head
 * by head.
 */
const chainBlocks = (target: Target, rows: number, view: View | undefined): ReturnType<typeof rowBlocks> => {
  const most = longBlock(target);
  const strides = (view?.dims ?? []).flat().flatMap(({ row, extent }) => (extent > 1 && row >= most ? [row] : []));
  const stretch = Math.min(...strides);
  if (stretch >= rows || stretch % most === 0) return rowBlocks(rows, rowBlock(target, rows));
  const block = Math.ceil(stretch / Math.ceil(stretch / most));
  return rowBlocks(rows, stretch).flatMap(({ row, rows: own }) => rowBlocks(own, block, row));
};

/** Rows `row` .. `row + count - 1` as a run. */
export const rowRun = (row: number, count: number): Run => ({ row, step: count > 1 ? 1 : 0, count });

/** A leaf as it is: numbers as numbers, integers with all their bits. */
export const copyOfLeaf = (dtype: StorageType, leaf: number): AluOp =>
  dtype === "i32" ? { fn: "orBits", args: [{ leaf, as: "i32" }, { constant: 0 }] } : { fn: "copy", args: [{ leaf }] };

/** Stores what comes out of the MXM as it is. */
export const COPY: Chain = () => ({ ops: [{ fn: "copy", args: [{ mxm: true }] }], leaves: [] });

/**
 * Rows of one burst: short, so that blocks overlap one another through a layer's latencies, but not so short that they are
 * many: a fourth of all, as far as that is neither less than SHORT_BLOCK nor more than the accumulators take.
 */
export const rowBlock = (target: Target, rows: number): number => {
  if (rows > MANY_ROWS) return longBlock(target);
  const quarter = Math.min(Math.ceil(rows / FEW_BLOCKS), longBlock(target));
  return Math.ceil(rows / Math.ceil(rows / Math.max(SHORT_BLOCK, quarter)));
};
const SHORT_BLOCK = 64;
const FEW_BLOCKS = 4;
/** More rows are so much work that latencies no longer matter: blocks are as long as they can be. */
const MANY_ROWS = 512;

/** Rows of the longest burst: half of what a pair of planes accumulates, so that two can be under way. */
export const longBlock = (target: Target): number => (target.planes * target.accumulatorRows) / 2;

/** Rows `first` .. `first + count - 1`, cut into blocks of at most `block`. */
export const rowBlocks = (
  count: number,
  block: number,
  first = 0,
): readonly { readonly row: number; readonly rows: number }[] =>
  Array.from({ length: Math.ceil(count / block) }, (_, index) => ({
    row: first + index * block,
    rows: Math.min(block, count - index * block),
  }));

/* ---------- maps ---------- */

/** Number of an SXM permutation: lane i of the result comes from lane `map[i]`. */
export const mapId = (s: Selection, map: Int16Array): number => {
  const key = map.join();
  const known = s.mapIds.get(key);
  if (known !== undefined) return known;
  s.mapIds.set(key, s.maps.length);
  s.maps.push(map);
  return s.maps.length - 1;
};
