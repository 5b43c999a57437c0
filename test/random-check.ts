/**
 * The differential test of one graph: compiled and run against `evaluate` of the legal graph that it was compiled from.
 *
 * The machine keeps a chain in fp32 that the evaluator rounds after every operation, so values differ in the last bits of fp16;
 * a step (floor, sign, a comparison) may then fall to the other side. So nearly all elements must be close, not all; and where
 * fp16 between two operations is no number any more, those of the graph in fp32, before its types were narrowed, count too. The
 * linked and the literal machine must agree bit for bit, and the cycles with the prediction.
 */

import { chosenEntry } from "../src/ir/program.js";
import { readImage, writeImage } from "../src/codegen/image/image.js";
import { CompileError } from "../src/diagnostics.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { stringAttr } from "../src/ir/ops/attributes.js";
import { applyOp } from "./apply-op.js";
import type { Target } from "../src/ir/target.js";
import { isFloat, toNumbers } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { select } from "../src/passes/select/select.js";
import { loadImage } from "../src/runtime/run.js";
import { legalGraph, runOnLiteral } from "./compiled.js";

type Tensors = Readonly<Record<string, Tensor>>;

/** What the machine may honestly refuse: no room, no form of it on the chip, too many lanes. */
const REFUSALS: readonly string[] = ["LPU2001", "LPU2002", "LPU2101", "LPU2201"];
/** Of the greatest element, or of one. */
const CLOSE = 0.01;
/** Share of elements that may be on the other side of a step. */
const STRAY = 0.02;

/** "ok", "refused: ..." or what is wrong. Errors other than refusals are raised. */
export function randomGraphVerdict(graph: Graph, inputs: Tensors, target: Target): string {
  const legal = legalGraph(graph, target);
  let image: Uint8Array;
  try {
    const { plan, program } = schedule(select(legal, target), target);
    checkSchedule(chosenEntry(program), plan);
    image = writeImage(program);
  } catch (error) {
    if (error instanceof CompileError && REFUSALS.includes(error.code)) return `refused: ${error.message}`;
    throw error;
  }
  const loaded = loadImage(image).entry();
  const linked = loaded.run(inputs);
  const literal = runOnLiteral(readImage(image), inputs);
  if (linked.cycles !== loaded.predictedCycles)
    return `predicted ${loaded.predictedCycles} cycles, the machine took ${linked.cycles}`;
  if (linked.cyclesByChip.join() !== literal.cycles.join()) return "cycles of the two machines differ";
  const names = Object.keys(linked.outputs);
  const wanted = evaluate(legal, fitted(legal, inputs));
  const wide = evaluate(graph, inputs);
  for (const [index, name] of names.entries()) {
    const [got, same, want, other] = [linked.outputs[name], literal.outputs[index], wanted[index], wide[index]];
    if (got === undefined || same === undefined || want === undefined || other === undefined)
      return `output '${name}' is missing`;
    if (!got.data.every((value, at) => Object.is(value, same.data[at])))
      return `output '${name}': the two machines differ`;
    const difference = disagreement(got, want, other);
    if (difference !== "") return `output '${name}': ${difference}`;
  }
  return "ok";
}

function disagreement(got: Tensor, want: Tensor, wide: Tensor): string {
  const [a, b, c] = [toNumbers(got), toNumbers(want), toNumbers(wide)];
  if (a.length !== b.length) return `expected ${b.length} elements, got ${a.length}`;
  const bound = CLOSE * Math.max(1, ...Array.from(b, Math.abs).filter(Number.isFinite));
  const far = [...b.keys()].filter((at) => {
    const [x, y] = [a[at] ?? Number.NaN, b[at] ?? Number.NaN];
    if (Object.is(x, y) || Math.abs(x - y) <= bound) return false;
    const z = c[at] ?? Number.NaN;
    return Number.isFinite(y) || !(Math.abs(x - z) <= CLOSE * Math.max(1, Math.abs(z)));
  });
  if (far.length <= STRAY * b.length) return "";
  const [first = 0] = far;
  return `${far.length} of ${b.length} elements differ, the first is ${first}: expected ${b[first]}, got ${a[first]}`;
}

/** Inputs in the dtypes of the legal graph. */
const fitted = (graph: Graph, inputs: Tensors): Tensors =>
  Object.fromEntries(
    graph.inputs.flatMap((id) => {
      const node = graph.nodes[id];
      const name = node === undefined ? "" : stringAttr(node.attrs, "name");
      const given = inputs[name];
      if (node === undefined || given === undefined) return [];
      return [
        [
          name,
          isFloat(node.type.dtype) || given.dtype !== node.type.dtype
            ? applyOp("cast", [given], { to: node.type.dtype })
            : given,
        ],
      ];
    }),
  );
