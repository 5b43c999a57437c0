/** A model as it is planned: its graph in operations of the machine, without weights, and its past. */

import { at } from "../diagnostics.js";
import { importModel } from "../frontend/import.js";
import type { ModelRecord, ModelSource } from "../frontend/source.js";
import { pastsOf } from "../frontend/states.js";
import { DTYPES } from "../ir/dtype.js";
import { elementCount, type Graph, type Node } from "../ir/graph.js";
import { stringAttr } from "../ir/ops/attributes.js";
import type { Target } from "../ir/target.js";
import { weightOptions } from "../ir/weights.js";
import { runPasses } from "../passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "../passes/graph/pipeline.js";
import { pcie } from "../report/report.js";
import type { PlanOptions } from "./options.js";
import { partsOf, type Parts } from "./parts.js";
import { openShapes } from "./shapes.js";

export interface Model extends Parts {
  readonly graph: Graph;
  /** Names of inputs that are a past, and of outputs that take its place. */
  readonly pasts: ReadonlyMap<string, string>;
  readonly presents: ReadonlySet<string>;
  /** Whether of every present only what is new leaves the graph. */
  readonly appends: boolean;
}

export const modelOf = (source: ModelSource, record: ModelRecord, target: Target, options: PlanOptions): Model => {
  const { bind = {}, shapes = {}, fix = {} } = options;
  const model = record.graph;
  const pasts = pastsOf(model);
  const open = openShapes(model, options, { bind, shapes: { ...shapes, ...fix } });
  const graph = importModel({ ...source, standIns: true }, { bind, shapes: { ...open, ...shapes }, fix });
  const context = { target, weights: weightOptions(options), shapesOnly: true };
  const alone = withNewAlone(graph, pasts);
  const moved = alone.outputs.filter(({ node }, index) => at(graph.outputs, index, "output").node === node);
  const presents = new Set(pasts.values());
  const legal = runPasses(alone, [...OPTIMIZE, ...NARROW], context);
  return {
    graph: legal,
    ...partsOf(legal),
    pasts,
    presents,
    appends: !moved.some(({ name }) => presents.has(name)),
  };
};

/** Of what is joined behind a past only the new leaves the graph: it is written in the place of the oldest. */
const withNewAlone = (graph: Graph, pasts: ReadonlyMap<string, string>): Graph => {
  const presents = new Set(pasts.values());
  const outputs = graph.outputs.map((output) => {
    const { op, inputs } = at(graph.nodes, output.node, "node");
    const [old, fresh, ...others] = inputs.map((id) => at(graph.nodes, id, "node"));
    const isJoined = op === "concat" && old !== undefined && isOneOf(pasts, old) && others.length === 0;
    return presents.has(output.name) && isJoined && fresh !== undefined ? { ...output, node: fresh.id } : output;
  });
  return { ...graph, outputs };
};

export const isOneOf = (names: { readonly has: (name: string) => boolean }, { op, attrs }: Node): boolean =>
  op === "input" && names.has(stringAttr(attrs, "name"));

/** Microseconds of the host's two transfers: what it gives, rows of tables that it looks up among that, and what it gets. */
export const hostTime = (target: Target, { graph, pasts, presents }: Model): number => {
  const { nodes, inputs, outputs } = graph;
  const isTable = (id: number): boolean => at(nodes, id, "node").op === "constant";
  const lookups = nodes.filter(({ op, inputs: [table] }) => op === "gather" && table !== undefined && isTable(table));
  const given = inputs.map((id) => at(nodes, id, "node")).filter((node) => !isOneOf(pasts, node));
  const got = outputs.filter(({ name }) => !presents.has(name)).map(({ node }) => at(nodes, node, "node"));
  const bytes = (list: readonly Node[]): number =>
    list.reduce((sum, { type }) => sum + elementCount(type.shape) * DTYPES[type.dtype].bytes, 0);
  return pcie(target, bytes([...given, ...lookups]), bytes(got)).microseconds;
};
