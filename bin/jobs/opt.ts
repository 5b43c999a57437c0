/** What a graph or a plan becomes, as texts: reproducers of passes are run by it. */

import type { Sharding } from "../../src/ir/facts.js";
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
import { shardingText } from "../../src/report/summary.js";

export interface OptOptions {
  readonly target: TargetName;
  readonly weights?: WeightOptions;
  /** Names of passes; all if undefined. */
  readonly only: readonly string[] | undefined;
  /** Chips that share the graph. */
  readonly chips: number;
  /** Whether the plan is wanted. */
  readonly plan: boolean;
}

/**
 * The text of a graph after passes, above it how it is shared out, or of its plan; the text of a plan is verified and comes out
 * as it is printed.
 */
export function optimize(text: string, file: string, options: OptOptions): string {
  const { weights, chips, only, plan } = options;
  const target = TARGETS[options.target];
  if (/^\s*(?:;[^\n]*\s*)*plan\b/.test(text)) {
    const read = parsePlan(text, { file });
    verifyPlan(read, target);
    return printPlan(read);
  }
  const passes = selectPasses(only === undefined ? {} : { only });
  let sharding = "";
  const onSharded = (facts: Sharding): void => {
    sharding = `; ${shardingText(facts)}\n`;
  };
  const context = { target, weights, chips, onSharded };
  const graph = runPasses(parseGraph(text, { file }), passes, context, { verify: true });
  if (!plan) return `${sharding}${printGraph(graph)}`;
  const selected = select(graph, target);
  verifyPlan(selected, target);
  return printPlan(selected);
}
