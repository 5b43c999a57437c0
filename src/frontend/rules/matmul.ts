/**
 * Import rules of products: MatMul, Gemm and Einsum, all as the operation matmul.
 */

import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import {
  add,
  extent,
  flag,
  float,
  iota,
  op,
  operand,
  optional,
  rankOf,
  reduce,
  reject,
  reshape,
  type Rule,
  type RuleContext,
  scale,
  shapeOf,
  sliceAxis,
  swapLast,
  text,
  transpose,
  unsupported,
} from "../rule.js";

/** numpy's matmul: a vector on the left is a row, on the right a column; the extra axis goes away. */
export function matmul(c: RuleContext, a: NodeId, b: NodeId): NodeId {
  const row = rankOf(c, a) === 1;
  const column = rankOf(c, b) === 1;
  const left = row ? reshape(c, a, [1, ...shapeOf(c, a)]) : a;
  const right = column ? reshape(c, b, [...shapeOf(c, b), 1]) : b;
  const product = op(c, "matmul", [left, right]);
  if (!row && !column) return product;
  const rank = rankOf(c, product);
  return reshape(
    c,
    product,
    shapeOf(c, product).filter((_, axis) => !(row && axis === rank - 2) && !(column && axis === rank - 1)),
  );
}

function gemm(c: RuleContext): NodeId {
  const a = flag(c, "transA") ? swapLast(c, operand(c, 0)) : operand(c, 0);
  const b = flag(c, "transB") ? swapLast(c, operand(c, 1)) : operand(c, 1);
  const product = scale(c, op(c, "matmul", [a, b]), float(c, "alpha", 1));
  const bias = optional(c, 2);
  const beta = float(c, "beta", 1);
  return bias === undefined || beta === 0 ? product : add(c, product, scale(c, bias, beta));
}

/** An operand of an einsum: each axis has a letter. */
interface Term {
  readonly id: NodeId;
  readonly labels: readonly string[];
}

function einsum(c: RuleContext): NodeId {
  const operands = c.operands.map((_, i) => operand(c, i));
  const [inputs = "", output] = text(c, "equation").replaceAll(/\s/g, "").split("->");
  const specs = inputs.split(",");
  if (specs.length !== operands.length)
    return reject(c, "LPU1008", `expected ${specs.length} operands for the equation, got ${operands.length}`);
  const given = operands.map((id, i): Term => ({ id, labels: labelsOf(c, at(specs, i, "spec"), rankOf(c, id)) }));
  const labels = given.flatMap((term) => term.labels);
  const once = (label: string): boolean => labels.filter((other) => other === label).length === 1;
  const dots = [...new Set(labels)]
    .filter((label) => label.length > 1)
    .sort()
    .reverse();
  const implicit = [...dots, ...[...new Set(labels)].filter((label) => label.length === 1 && once(label)).sort()];
  const wanted = output === undefined ? implicit : withDots(output, dots);
  const [first, ...others] = broadcasting(
    c,
    given.map((term) => diagonals(c, term)),
  );
  if (first === undefined) return reject(c, "LPU1008", "expected one operand or more");
  const joined = others.reduce((left, right, i) => {
    const later = new Set([...wanted, ...others.slice(i + 1).flatMap((term) => term.labels)]);
    return contract(c, left, right, later);
  }, first);
  return arrange(c, summed(c, joined, new Set(wanted)), wanted);
}

const withDots = (spec: string, dots: readonly string[]): string[] => {
  const [before = "", after] = spec.split("...");
  return after === undefined ? [...before] : [...before, ...dots, ...after];
};

/** Letters of the axes; those of an ellipsis are counted from the last: `.2`, `.1`. */
function labelsOf(c: RuleContext, spec: string, rank: number): string[] {
  const letters = spec.replace("...", "").length;
  const labels = withDots(
    spec,
    iota(Math.max(0, rank - letters)).map((i) => `.${rank - letters - i}`),
  );
  if (labels.length !== rank) reject(c, "LPU1012", `expected rank ${labels.length} for '${spec}', got ${rank}`);
  return labels;
}

/** A letter that occurs twice in one operand stands for the diagonal of its two axes: every (n + 1)th of n x n elements. */
function diagonals(c: RuleContext, term: Term): Term {
  const { id, labels } = term;
  const second = labels.findIndex((label, axis) => labels.indexOf(label) < axis);
  if (second === -1) return term;
  const label = at(labels, second, "label");
  const first = labels.indexOf(label);
  const [size, other] = [extent(c, id, first), extent(c, id, second)];
  if (size !== other) reject(c, "LPU1012", `expected one extent for '${label}', got ${size} and ${other}`);
  const rest = iota(labels.length).filter((axis) => axis !== first && axis !== second);
  const shape = rest.map((axis) => extent(c, id, axis));
  const flat = reshape(c, transpose(c, id, [...rest, first, second]), [...shape, size * size]);
  const diagonal = sliceAxis(c, flat, rest.length, 0, size, size + 1);
  return diagonals(c, { id: diagonal, labels: [...rest.map((axis) => at(labels, axis, "label")), label] });
}

/** An axis of one element that is longer in another operand has that element everywhere: it goes away. */
function broadcasting(c: RuleContext, terms: readonly Term[]): readonly Term[] {
  const longest = new Map<string, number>();
  for (const { id, labels } of terms)
    for (const [axis, label] of labels.entries())
      longest.set(label, Math.max(longest.get(label) ?? 1, extent(c, id, axis)));
  return terms.map(({ id, labels }) => {
    const kept = labels.filter((label, axis) => extent(c, id, axis) !== 1 || longest.get(label) === 1);
    const shape = kept.map((label) => extent(c, id, labels.indexOf(label)));
    return { id: reshape(c, id, shape), labels: kept };
  });
}

/** Sums the axes that nobody needs. */
function summed(c: RuleContext, term: Term, needed: ReadonlySet<string>): Term {
  const axes = iota(term.labels.length).filter((axis) => !needed.has(at(term.labels, axis, "label")));
  return { id: reduce(c, "sum", term.id, axes, false), labels: term.labels.filter((label) => needed.has(label)) };
}

function arrange(c: RuleContext, term: Term, labels: readonly string[]): NodeId {
  const missing = labels.find((label) => !term.labels.includes(label));
  if (missing !== undefined)
    return reject(c, "LPU1008", `the equation's result has '${missing}', which no operand has`);
  return transpose(
    c,
    term.id,
    labels.map((label) => term.labels.indexOf(label)),
  );
}

/** Joins two operands as one batched matmul. `later` are the letters that are still needed. */
function contract(c: RuleContext, a: Term, b: Term, later: ReadonlySet<string>): Term {
  const left = summed(c, a, new Set([...later, ...b.labels]));
  const right = summed(c, b, new Set([...later, ...a.labels]));
  const shared = left.labels.filter((label) => right.labels.includes(label));
  const batch = shared.filter((label) => later.has(label));
  const inner = shared.filter((label) => !later.has(label));
  const rows = left.labels.filter((label) => !shared.includes(label));
  const columns = right.labels.filter((label) => !shared.includes(label));
  const size = (label: string): number => {
    const own = left.labels.includes(label)
      ? extent(c, left.id, left.labels.indexOf(label))
      : extent(c, right.id, right.labels.indexOf(label));
    if (shared.includes(label) && extent(c, right.id, right.labels.indexOf(label)) !== own)
      reject(c, "LPU1012", `expected one extent for '${label}', or 1, got ${own} and another`);
    return own;
  };
  const total = (labels: readonly string[]): number => labels.reduce((product, label) => product * size(label), 1);
  const outer = batch.map(size);
  const x = reshape(c, arrange(c, left, [...batch, ...rows, ...inner]), [...outer, total(rows), total(inner)]);
  const y = reshape(c, arrange(c, right, [...batch, ...inner, ...columns]), [...outer, total(inner), total(columns)]);
  const product = op(c, "matmul", [x, y]);
  const labels = [...batch, ...rows, ...columns];
  return { id: reshape(c, product, labels.map(size)), labels };
}

/** com.microsoft: MatMul with a factor and transposed operands. */
function fusedMatmul(c: RuleContext): NodeId {
  if (flag(c, "transBatchA") || flag(c, "transBatchB")) unsupported(c, "transposed batches are not supported");
  const a = flag(c, "transA") ? swapLast(c, operand(c, 0)) : operand(c, 0);
  const b = flag(c, "transB") ? swapLast(c, operand(c, 1)) : operand(c, 1);
  return scale(c, matmul(c, a, b), float(c, "alpha", 1));
}

export const MATMUL: readonly Rule[] = [
  {
    op: "MatMul",
    doc: "The operation matmul; vectors become rows or columns.",
    build: (c) => matmul(c, operand(c, 0), operand(c, 1)),
  },
  { op: "Gemm", doc: "A matmul, a factor and an addition.", build: gemm },
  { op: "Einsum", doc: "Transposes, sums and one matmul for each further operand.", build: einsum },
  {
    op: "FusedMatMul",
    domain: "com.microsoft",
    doc: "A matmul with transposed operands and a factor.",
    refuses: "Transposed batches.",
    build: fusedMatmul,
  },
];
