/**
 * Weights in FP8, where the user asks for it: half the SRAM and half the streams of fp16, which the arrays widen exactly.
 *
 * matmul(x, W) becomes matmul(x, Q) * s: Q in FP8, s a scale for each column, or one, that meets the fp32 sums in the chain
 * through which they flow anyway. Activations stay fp16. It runs after all that computes with weights, and before types are
 * given. Integers of a quantized model, whose products are exact, stay as they are. A weight of which little would be left is an
 * error that names it.
 */

import { at, CompileError, fail } from "../../diagnostics.js";
import { isFp8 } from "../../ir/dtype.js";
import type { FewBits, NarrowingError, Weight, WeightFacts } from "../../ir/facts.js";
import { elementCount, type Graph, type Literal, type Node, type NodeId } from "../../ir/graph.js";
import { deriveLiteral, isLaneMap } from "../../ir/literals.js";
import { literalIn } from "../../ir/ops/attributes.js";
import {
  type ScaledFormat,
  type Sharing,
  WEIGHT_FORMATS,
  type WeightFormat,
  type WeightOptions,
} from "../../ir/weights.js";
import { isFloat, literalOf, makeTensor, tensorOf, toFloats } from "../../ir/tensor.js";
import { halfLanes, type Target } from "../../ir/target.js";
import { blockProduct } from "./blocks.js";
import { narrowed, type NarrowedLiteral, type ScaledWeight, scalesOf, scalesShape, sharingIn } from "./fp8.js";
import type { GraphPass } from "./pass.js";
import { isSumOfWhole } from "./precision.js";
import { Rewriter } from "./rewriter.js";

const isNarrowed = (literal: Literal): literal is NarrowedLiteral => "error" in literal;

/**
 * Signal over noise, in dB, below which FP8 would ruin a column of a weight. A number of E5M2 that is not too small for it is off
 * by an eighth at most, which leaves 18 dB: less is left only where nearly all of a column is too small.
 */
const RUINED = 15;

/** Names under which a user knows the weight of a product. */
const namesOf = (graph: Graph, node: Node): readonly string[] => [
  ...node.origin.map((origin) => origin.replace(/ \([^()]*\)$/, "")),
  ...at(graph.nodes, at(node.inputs, 1, "input"), "node").origin,
];

const labelOf = ({ origin }: Node): string => origin.join(" + ");

/** The constant weight of a product of numbers. */
const weightOf = (graph: Graph, node: Node): Literal | undefined => {
  const source = node.op === "matmul" ? graph.nodes[at(node.inputs, 1, "input")] : undefined;
  const literal = source === undefined ? undefined : literalIn(source);
  if (literal === undefined || isLaneMap(literal) || !isFloat(literal.dtype)) return undefined;
  return literal;
};

/** Weights in FP8 of a program that are kept from the search of their scales until they are written: somewhat more than a chip's. */
const KEPT_BYTES = 2 ** 28;

const narrowedGraph = (
  graph: Graph,
  target: Target,
  fp8: ScaledFormat,
  keep: readonly string[],
  narrow: (literal: Literal, fp8: ScaledFormat, keeps: boolean) => ScaledWeight,
  known: Map<string, ScaledWeight>,
): Graph => {
  const unknown = new Set(keep);
  let bytes = [...known.values()].reduce((sum, { values }) => sum + elementCount(values.shape), 0);
  const g = new Rewriter([]);
  const made: NodeId[] = [];
  const map = (id: NodeId): NodeId => at(made, id, "node");
  const ruined: CompileError[] = [];
  for (const node of graph.nodes) {
    const literal = weightOf(graph, node);
    const names = literal === undefined ? [] : namesOf(graph, node);
    for (const name of names) unknown.delete(name);
    const stays = literal === undefined || isFp8(literal.dtype) || isSumOfWhole(graph, node);
    if (stays || names.some((name) => keep.includes(name))) {
      made.push(g.copy(node, map));
      continue;
    }
    const sharing = sharingIn(literal, fp8.sharing);
    let weight = known.get(literal.key);
    if (weight === undefined) {
      bytes += elementCount(literal.shape);
      weight = narrow(literal, { ...fp8, sharing }, bytes <= KEPT_BYTES);
      known.set(literal.key, weight);
    }
    const { weakest } = weight.values.error;
    if (weakest !== null && !(weakest >= RUINED)) ruined.push(ruinedError(node, names, weakest));
    made.push(g.from(node, () => scaledProduct(g, map(at(node.inputs, 0, "input")), weight, sharing, target)));
  }
  if (unknown.size > 0)
    fail("LPU2105", { message: `no product has a constant weight by the name of ${[...unknown].join(", ")}` });
  const [first, ...others] = ruined;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return g.finish(graph, map);
};

const scaledProduct = (g: Rewriter, x: NodeId, weight: ScaledWeight, sharing: Sharing, target: Target): NodeId => {
  const { values, scales, shape } = weight;
  if (typeof sharing === "number") return blockProduct(g, x, weight, sharing, halfLanes(target));
  const product = g.emit("matmul", [x, g.constant(values)]);
  const ofAll = tensorOf(g.type(product).dtype, shape, scales(0, elementCount(shape)));
  return g.emit("mul", [product, g.constant(literalOf(ofAll))]);
};

/** `keeps`: what it is in FP8 is kept until it is written, and not made anew from the weight then. */
const scaledWeight = (literal: Literal, { format, sharing }: ScaledFormat, keeps: boolean): ScaledWeight => {
  const { shape } = literal;
  const values = toFloats(literal.load());
  const scales = scalesOf(values, shape, format, sharing);
  const { data, error } = narrowed(values, shape, format, scales, sharing);
  const kept = keeps ? data : undefined;
  const all = (): Uint8Array => kept ?? narrowed(toFloats(literal.load()), shape, format, scales, sharing).data;
  const some = (from: number, count: number): Float32Array => scales.subarray(from, from + count);
  return weightFrom(literal, { format, sharing }, { all, scales: some, error });
};

/** The same without a look at the weight: scales that are not alike, and nothing that is known of what is lost. */
const scaledShape = (literal: Literal, fp8: ScaledFormat): ScaledWeight => {
  const count = elementCount(literal.shape);
  return weightFrom(literal, fp8, {
    all: () => new Uint8Array(count),
    scales: (from, length) => new Float32Array(length).map((_, i) => 2 ** -6 + (from + i) * 2 ** -20),
    error: { decibels: null, weakest: null, cosine: 1, greatest: 0, saturated: 0 },
  });
};

/** What a weight is made of: all its numbers in FP8, so many of its scales from a place on, and what was lost. */
interface Contents extends Pick<ScaledWeight, "scales"> {
  readonly all: () => Uint8Array;
  readonly error: NarrowingError;
}

const weightFrom = (
  literal: Literal,
  { format, sharing }: ScaledFormat,
  { all, scales, error }: Contents,
): ScaledWeight => {
  const { shape } = literal;
  const how = `${format} by ${typeof sharing === "number" ? `blocks of ${sharing}` : sharing}`;
  const part = (own: string, of: readonly number[], load: () => Uint8Array): NarrowedLiteral => {
    const made = deriveLiteral([literal], own, { dtype: format, shape: of }, () => makeTensor(format, of, load()));
    return { ...made, error, whole: literal };
  };
  const rows = (start: number, count: number): NarrowedLiteral => {
    const batch = shape.slice(0, -2);
    const of = [...batch, ...batch.slice(0, 1).map(() => 1), count, ...shape.slice(-1)];
    return part(`${how}, rows ${start} ${count}`, of, () => rowsOf(all(), shape, start, count));
  };
  return { values: part(how, shape, all), rows, scales, shape: scalesShape(shape, sharing) };
};

/** Rows of each matrix. */
const rowsOf = (values: Uint8Array, shape: readonly number[], start: number, count: number): Uint8Array => {
  const [k = 1, n = 1] = shape.slice(-2);
  const matrices = values.length / (k * n);
  const rows = new Uint8Array(matrices * count * n);
  for (let matrix = 0; matrix < matrices; matrix++) {
    const from = (matrix * k + start) * n;
    rows.set(values.subarray(from, from + count * n), matrix * count * n);
  }
  return rows;
};

const ruinedError = (node: Node, names: readonly string[], weakest: number): CompileError =>
  new CompileError("LPU2104", {
    message: Number.isFinite(weakest)
      ? `expected ${RUINED} dB of signal over noise in every column of a weight in FP8, found one of ${weakest} dB`
      : "expected finite numbers in a weight that is to lie in FP8, found others",
    node: labelOf(node),
    hint: `keep it in fp16: --keep ${at(names, 0, "name")}`,
  });

/** What a graph has in FP8, what stayed as it was, and what of `fewBits`, those of its file, did not; undefined where nothing is to be told. */
export const weightFacts = (
  graph: Graph,
  { format }: WeightOptions,
  fewBits: readonly FewBits[] = [],
): WeightFacts | undefined => {
  const asked = format !== "fp16";
  const stayed = new Map<string, number>();
  const seen = new Set<string>();
  const facts = { narrowed: [] as (Weight & NarrowingError)[], given: [] as Weight[], kept: [] as Weight[] };
  for (const node of graph.nodes) {
    const literal = weightOf(graph, node);
    if (literal === undefined) continue;
    const { shape, dtype } = literal;
    const weight: Weight = { name: labelOf(node), shape, dtype };
    if (isNarrowed(literal)) {
      const { whole, error } = literal;
      const key = `${weight.name} ${whole.key}`;
      if (!seen.has(key)) facts.narrowed.push({ ...weight, shape: whole.shape, ...error });
      seen.add(key);
    } else if (isFp8(dtype)) {
      facts.given.push(weight);
      if (!seen.has(literal.key)) stayed.set(dtype, (stayed.get(dtype) ?? 0) + elementCount(shape));
      seen.add(literal.key);
    } else if (asked) facts.kept.push(weight);
  }
  const widened = fewBits
    .map(({ dtype, values }) => ({ dtype, values: values - (stayed.get(dtype) ?? 0) }))
    .filter(({ values }) => values > 0);
  if (!asked && facts.given.length === 0 && widened.length === 0) return undefined;
  const exactLast = ({ decibels }: NarrowingError): number => decibels ?? Number.POSITIVE_INFINITY;
  facts.narrowed.sort((a, b) => exactLast(a) - exactLast(b) || (a.name < b.name ? -1 : 1));
  return { ...facts, widened };
};

export const weights: GraphPass = {
  name: "weights",
  doc: "Narrows constant weights of products to FP8, with scales that their sums meet, where that is asked for.",
  run: (graph, { target, weights: options, shapesOnly = false, narrowed: known = new Map() }) => {
    if (options === undefined) return graph;
    const { fp8 }: WeightFormat = WEIGHT_FORMATS[options.format];
    const narrow = shapesOnly ? scaledShape : scaledWeight;
    return fp8 === undefined ? graph : narrowedGraph(graph, target, fp8, options.keep, narrow, known);
  },
  requires: ["legal-ops"],
};
