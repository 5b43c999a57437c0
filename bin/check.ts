/**
 * The work of `lpu check`: which operations of a model the compiler supports, without compiling anything.
 */

import { openModel } from "../src/files.js";
import { checkSupport } from "../src/frontend/import.js";
import type { FixText } from "./arguments.js";
import { readFixes } from "./fix.js";
import { type Problem, problemsOf } from "./problems.js";

export interface CheckRequest {
  readonly model: string;
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly fix: Readonly<Record<string, FixText>>;
}

export interface CheckResult {
  readonly model: string;
  readonly supported: boolean;
  readonly nodes: number;
  readonly supportedNodes: number;
  readonly operators: readonly { readonly op: string; readonly count: number; readonly supported: number }[];
  readonly problems: readonly Problem[];
  /** Dimensions without a size; while there are any, only the names of operators are checked. */
  readonly unbound: readonly string[];
}

export function checkJob(request: CheckRequest): CheckResult {
  const { bind, shapes } = request;
  const fix = readFixes(request.fix);
  const model = openModel(request.model);
  try {
    const report = checkSupport(model.source, { bind, shapes, fix });
    return {
      model: request.model,
      supported: report.problems.length === 0,
      nodes: report.total,
      supportedNodes: report.supported,
      operators: report.operators,
      problems: report.problems.flatMap(problemsOf),
      unbound: report.unbound,
    };
  } finally {
    model.close();
  }
}
