/**
 * The work of `lpu check`: what `lpu build` would say of a model, without scheduling anything.
 */

import { type CheckReport, checkModel, type SramNeed } from "../../src/host/check.js";
import { type StateRoom, stateRoom } from "../../src/report/capacity.js";
import { openModel } from "../../src/host/files.js";
import type { CompileOptions } from "../../src/compile.js";
import type { StateOption } from "../../src/frontend/states.js";
import type { SystemName } from "../../src/ir/system.js";
import type { Stages } from "../../src/pipeline.js";
import type { TargetName } from "../../src/ir/target.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import type { FixText } from "../arguments.js";
import { readFixes } from "../fix.js";
import { type Problem, problemsOf } from "../show/problems.js";

export interface CheckRequest {
  readonly model: string;
  readonly target: TargetName;
  readonly system: SystemName | undefined;
  readonly stages: Stages | undefined;
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly fix: Readonly<Record<string, FixText>>;
  readonly state: StateOption;
  readonly entries: NonNullable<CompileOptions["entries"]>;
  readonly weights: WeightFormatName;
  readonly keep: readonly string[];
}

export interface CheckResult extends Pick<CheckReport, "nodes" | "operators" | "unbound" | "open"> {
  readonly model: string;
  readonly target: TargetName;
  /** Nothing that was looked at stands in the way. */
  readonly supported: boolean;
  readonly supportedNodes: number;
  readonly problems: readonly Problem[];
  /** Bytes; null where the model did not come as far. */
  readonly sram: SramNeed | null;
  /** Users times context that SRAM would hold; null without states. */
  readonly stateRoom: StateRoom | null;
}

export function checkJob({
  model: path,
  target,
  system,
  stages,
  bind,
  shapes,
  fix,
  state,
  entries,
  weights,
  keep,
}: CheckRequest): CheckResult {
  const fixed = readFixes(fix);
  const model = openModel(path);
  try {
    const report = checkModel(model.source, {
      target,
      system,
      stages,
      bind,
      shapes,
      fix: fixed,
      state,
      entries,
      weights,
      keep,
    });
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
      stateRoom:
        report.sram === undefined ? null : stateRoom(report.sram.states, report.sram.peak, report.sram.capacity),
      open: report.open,
    };
  } finally {
    model.close();
  }
}
