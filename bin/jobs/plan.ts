/** The work of `lpu plan`: what a model would do on a system, from shapes alone. */

import { openModel } from "../../src/host/files.js";
import { plan, type PlanOptions, type SystemPlan } from "../../src/plan.js";
import type { FixText } from "../arguments.js";
import { readFixes } from "../fix.js";
import { clock } from "../show/terminal.js";
import type { JobContext } from "./job.js";

export interface PlanRequest extends Omit<PlanOptions, "fix" | "onPart"> {
  readonly model: string;
  readonly fix: Readonly<Record<string, FixText>>;
}

export interface PlanResult {
  readonly plan: SystemPlan;
  /** That it took, on this computer. */
  readonly seconds: number;
}

export function planJob(
  { model: path, fix, ...options }: PlanRequest,
  context: Pick<JobContext<never>, "task">,
): PlanResult {
  const start = clock();
  const model = openModel(path);
  let title = "Reading shapes";
  const next = (name: string | undefined): void => {
    context.task({ title, status: "done", at: clock() });
    if (name === undefined) return;
    title = name;
    context.task({ title, status: "start", at: clock() });
  };
  context.task({ title, status: "start", at: clock() });
  try {
    const onPart = (name: string): void => next(`Scheduling ${name}`);
    const made = plan(model.source, { ...options, fix: readFixes(fix), onPart });
    next(undefined);
    return { plan: made, seconds: (clock() - start) / 1000 };
  } catch (error) {
    context.task({ title, status: "failed", at: clock() });
    throw error;
  } finally {
    model.close();
  }
}
