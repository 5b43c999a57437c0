/** What jobs that compile are asked for alike, and what the compiler takes of it. */

import type { CompileOptions } from "../../src/compile.js";
import type { StateOption } from "../../src/frontend/states.js";
import type { SystemName } from "../../src/ir/system.js";
import type { TargetName } from "../../src/ir/target.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import type { Stages } from "../../src/pipeline.js";
import type { FixText } from "../arguments.js";
import { readFixes } from "../fix.js";

/** For which chips, and how weights lie on them. */
export interface ChipRequest {
  readonly target: TargetName;
  readonly system: SystemName | undefined;
  readonly stages: Stages | undefined;
  readonly tensor: number | undefined;
  readonly weights: WeightFormatName;
  readonly keep: readonly string[];
}

/** Also what the model leaves open. */
export interface ModelRequest extends ChipRequest {
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly fix: Readonly<Record<string, FixText>>;
  readonly state: StateOption;
  readonly entries: NonNullable<CompileOptions["entries"]>;
}

export const chipOptions = ({ target, system, stages, tensor, weights, keep }: ChipRequest): ChipRequest => {
  return { target, system, stages, tensor, weights, keep };
};

/** Reads the files of fixed inputs. */
export const modelOptions = (request: ModelRequest) => {
  const { bind, shapes, fix, state, entries } = request;
  return { ...chipOptions(request), bind, shapes, fix: readFixes(fix), state, entries };
};
