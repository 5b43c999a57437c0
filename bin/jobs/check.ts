/**
 * The work of `lpu check`: what `lpu build` would say of a model, without scheduling anything.
 */

import { type CheckReport, checkModel, type SramNeed } from "../../src/host/check.js";
import { type StateRoom, stateRoom } from "../../src/report/capacity.js";
import type { TargetName } from "../../src/ir/target.js";
import { type Problem, problemsOf } from "../show/problems.js";
import { openAsked, type OpenRequest } from "./options.js";

export interface CheckRequest extends OpenRequest {}

export interface CheckResult extends Pick<CheckReport, "nodes" | "operators" | "unbound" | "open"> {
  readonly model: string;
  readonly target: TargetName;
  /** Nothing that was looked at stands in the way. */
  readonly supported: boolean;
  readonly supportedNodes: number;
  readonly problems: readonly Problem[];
  /** Bytes; null where the model did not come as far. */
  readonly sram: SramNeed | null;
  /** For which SRAM was looked at; null where the model did not come as far. */
  readonly chips: number | null;
  /** Users times context that SRAM would hold; null without states. */
  readonly stateRoom: StateRoom | null;
}

export function checkJob(request: CheckRequest): CheckResult {
  const { model: path, target } = request;
  const { model, options } = openAsked(request);
  try {
    const report = checkModel(model.source, options);
    return {
      model: path,
      target,
      supported: report.problems.length === 0,
      nodes: report.nodes,
      supportedNodes: report.supported,
      operators: report.operators,
      problems: report.problems.flatMap(problemsOf),
      unbound: report.unbound,
      sram: report.sram ?? null,
      chips: report.chips ?? null,
      stateRoom:
        report.sram === undefined ? null : stateRoom(report.sram.states, report.sram.peak, report.sram.capacity),
      open: report.open,
    };
  } finally {
    model.close();
  }
}
