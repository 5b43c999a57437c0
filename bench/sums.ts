/** The program of a sum over chips alone: each has a tensor, and all are to have the sum, or each a piece of it. */

import { sure } from "../src/diagnostics.js";
import { sharedPlan } from "../src/group.js";
import { evaluateGroup } from "../src/ir/evaluate.js";
import type { Tensor } from "../src/ir/graph.js";
import { parseGraph } from "../src/ir/parse.js";
import type { Plan } from "../src/ir/plan.js";
import type { Program } from "../src/ir/program.js";
import { type TargetName, TARGETS } from "../src/ir/target.js";
import { tensorOf } from "../src/ir/tensor.js";
import { select } from "../src/passes/select/select.js";
import { peersOf, pipelineOf, pipelineProgram } from "../src/pipeline.js";

export interface SumProgram {
  readonly program: Program;
  /** Of each chip. */
  readonly plans: readonly Plan[];
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** By the meaning of the operations. */
  readonly wanted: readonly Tensor[];
}

/** Of fp16 numbers [rows, columns] on each chip; `axis`: along which pieces are to be had, all of it if not given. */
export const sumOverChips = (
  chips: number,
  rows: number,
  columns: number,
  { target = "lpu-v1", axis }: { readonly target?: TargetName; readonly axis?: number | undefined } = {},
): SumProgram => {
  const whole = `f16[${rows},${columns}]`;
  const [op, attrs] = axis === undefined ? ["all_reduce", ""] : ["reduce_scatter", `axis=${axis}, `];
  const shape = [rows, columns].map((extent, index) => (index === axis ? extent / chips : extent));
  const left = axis === undefined ? "" : `  %3 = join(%2) {axis=${axis}, chips=${chips}} : ${whole}\n`;
  const graph = parseGraph(`graph @main(%0 "x": f16[${chips * rows},${columns}]) {
  %1 = piece(%0) {axis=0, chips=${chips}} : ${whole}
  %2 = ${op}(%1) {${attrs}chips=${chips}} : f16[${shape.join()}] from "sum (Sum)"
${left}  return %${axis === undefined ? 2 : 3} "y"
}`);
  const pipeline = pipelineOf({ tensor: chips }, TARGETS[target]);
  const { plan } = sharedPlan(graph, TARGETS[target], new Map(), (own) =>
    select(own, TARGETS[target], new Map(), [], peersOf(pipeline)),
  );
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipeline);
  const values = Array.from({ length: chips * rows * columns }, (_, i) => Math.sin(i));
  const inputs = { x: tensorOf("f16", [chips * rows, columns], values) };
  const wanted = evaluateGroup(graph, inputs).map((all) => sure(all[0], "value"));
  return { program, plans: plans.flat(), inputs, wanted };
};
