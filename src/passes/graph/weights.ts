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
import { type ScaledFormat, WEIGHT_FORMATS, type WeightFormat, type WeightOptions } from "../../ir/weights.js";
import { isFloat, literalOf, makeTensor, newData, tensorOf, toFloats } from "../../ir/tensor.js";
import { narrowed, type NarrowedLiteral, type ScaledWeight, scalesOf } from "./fp8.js";
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
    let weight = known.get(literal.key);
    if (weight === undefined) {
      bytes += elementCount(literal.shape);
      weight = narrow(literal, fp8, bytes <= KEPT_BYTES);
      known.set(literal.key, weight);
    }
    const { weakest } = weight.values.error;
    if (weakest !== null && !(weakest >= RUINED)) ruined.push(ruinedError(node, names, weakest));
    made.push(
      g.from(node, () => {
        const product = g.emit("matmul", [map(at(node.inputs, 0, "input")), g.constant(weight.values)]);
        return g.emit("mul", [product, g.constant(literalOf(tensorOf(node.type.dtype, weight.shape, weight.scales)))]);
      }),
    );
  }
  if (unknown.size > 0)
    fail("LPU2105", { message: `no product has a constant weight by the name of ${[...unknown].join(", ")}` });
  const [first, ...others] = ruined;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return g.finish(graph, map);
};

/** `keeps`: what it is in FP8 is kept until it is written, and not made anew from the weight then. */
const scaledWeight = (literal: Literal, { format, sharing }: ScaledFormat, keeps: boolean): ScaledWeight => {
  const { shape } = literal;
  const values = toFloats(literal.load());
  const scales = scalesOf(values, shape, format, sharing);
  const { data, error } = narrowed(values, shape, format, scales);
  const kept = keeps ? data : undefined;
  const load = () => makeTensor(format, shape, kept ?? narrowed(toFloats(literal.load()), shape, format, scales).data);
  const derived = deriveLiteral([literal], `${format} by ${sharing}`, { dtype: format, shape }, load);
  return { values: { ...derived, error }, scales, shape: sharing === "tensor" ? [] : columnsOf(shape) };
};

/** A number for each column of a weight, so that they broadcast to the product. */
const columnsOf = (shape: readonly number[]): readonly number[] => {
  const batch = shape.slice(0, -2);
  return batch.every((extent) => extent === 1) ? shape.slice(-1) : [...batch, 1, ...shape.slice(-1)];
};

/** The same without a look at the weight: scales that are not alike, and nothing that is known of what is lost. */
const scaledShape = (literal: Literal, { format, sharing }: ScaledFormat): ScaledWeight => {
  const { shape } = literal;
  const ofColumns = sharing === "tensor" ? [] : columnsOf(shape);
  const scales = new Float32Array(elementCount(ofColumns)).map((_, column) => 2 ** -6 + column * 2 ** -20);
  const load = () => makeTensor(format, shape, newData(format, elementCount(shape)));
  const derived = deriveLiteral([literal], `${format} by ${sharing}`, { dtype: format, shape }, load);
  const error = { decibels: null, weakest: null, cosine: 1, greatest: 0, saturated: 0 };
  return { values: { ...derived, error }, scales, shape: ofColumns };
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
      facts.narrowed.push({ ...weight, ...literal.error });
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
  run: (graph, { weights: options, shapesOnly = false, narrowed: known = new Map() }) => {
    if (options === undefined) return graph;
    const { fp8 }: WeightFormat = WEIGHT_FORMATS[options.format];
    const narrow = shapesOnly ? scaledShape : scaledWeight;
    return fp8 === undefined ? graph : narrowedGraph(graph, fp8, options.keep, narrow, known);
  },
  requires: ["legal-ops"],
};
