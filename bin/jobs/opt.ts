/** What a graph or a plan becomes, as texts: reproducers of passes are run by it. */

import { parseGraph } from "../../src/ir/parse.js";
import { parsePlan } from "../../src/ir/plan/parse.js";
import { printPlan } from "../../src/ir/plan/print.js";
import { verifyPlan } from "../../src/ir/plan/verify.js";
import { printGraph } from "../../src/ir/print.js";
import { TARGETS, type TargetName } from "../../src/ir/target.js";
import { runPasses } from "../../src/passes/graph/pass.js";
import { selectPasses } from "../../src/passes/graph/pipeline.js";
import type { WeightOptions } from "../../src/ir/weights.js";
import { select } from "../../src/passes/select/select.js";

export interface OptOptions {
  readonly target: TargetName;
  readonly weights?: WeightOptions;
  /** Names of passes; all if undefined. */
  readonly only: readonly string[] | undefined;
  /** Whether the plan is wanted. */
  readonly plan: boolean;
}

/** The text of a graph after passes, or of its plan; the text of a plan is verified and comes out as it is printed. */
export function optimize(text: string, file: string, { target: name, weights, only, plan }: OptOptions): string {
  const target = TARGETS[name];
  if (/^\s*(?:;[^\n]*\s*)*plan\b/.test(text)) {
    const read = parsePlan(text, { file });
    verifyPlan(read, target);
    return printPlan(read);
  }
  const passes = selectPasses(only === undefined ? {} : { only });
  const graph = runPasses(parseGraph(text, { file }), passes, { target, weights }, { verify: true });
  if (!plan) return printGraph(graph);
  const selected = select(graph, target);
  verifyPlan(selected, target);
  return printPlan(selected);
}
