/** What jobs that compile are asked for alike, and what the compiler takes of it. */

import type { CompileOptions } from "../../src/options.js";
import { fail } from "../../src/diagnostics.js";
import { readModel } from "../../src/frontend/source.js";
import { type OpenModel, openModel } from "../../src/host/files.js";
import { openFolder } from "../../src/host/folder.js";
import { decoderEntries, sourceHasPast } from "../../src/language/decoder.js";
import type { StateOption } from "../../src/frontend/states.js";
import type { SystemName } from "../../src/ir/system.js";
import { type TargetName, TARGETS } from "../../src/ir/target.js";
import type { WeightFormatName } from "../../src/ir/weights.js";
import type { Stages } from "../../src/pipeline.js";
import type { FixText } from "../arguments.js";
import { readFixes } from "../fix.js";

/** For which chips, and how weights lie on them. */
export interface ChipRequest {
  readonly target: TargetName;
  readonly system: SystemName | undefined;
  readonly chips: number | undefined;
  readonly dead: readonly number[];
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
  readonly configuration: CompileOptions["configuration"];
}

/** Also which model; of a decoder, whose entries and states follow from them, what `context` a token looks back upon. */
export interface OpenRequest extends ModelRequest {
  readonly model: string;
  readonly context: readonly number[] | undefined;
  readonly prefill: readonly number[] | undefined;
  /** Sequences side by side; 1 if not given. */
  readonly batch: number | undefined;
}

/** Opens the model that is asked for, and reads all that follows from it. */
export function openAsked(request: OpenRequest) {
  const { model: path, context, prefill, batch } = request;
  const without = Object.entries({ "--prefill": prefill, "--batch": batch }).find(([, given]) => given !== undefined);
  if (context === undefined && without !== undefined)
    fail("LPU5008", { message: `${without[0]}: expected --context with it` });
  const asked = modelOptions(request);
  const model = openModel(context === undefined ? path : openFolder(path, undefined, sourceHasPast).model);
  try {
    return { model, options: { ...asked, ...(context !== undefined && decoderBuild(model, request, context)) } };
  } catch (error) {
    model.close();
    throw error;
  }
}

/** A decoder that takes one token a step, and blocks of a prompt, with its past as states. */
function decoderBuild(
  { source }: OpenModel,
  { prefill = [], batch = 1, state, entries, shapes, target }: OpenRequest,
  contexts: readonly number[],
): Pick<ModelRequest, "state" | "entries"> {
  const said = { "--entry": entries, "--shape": shapes, "--state": state === "auto" ? {} : state };
  const twice = Object.entries(said).find(([, given]) => Object.keys(given).length > 0)?.[0];
  if (twice !== undefined)
    fail("LPU5008", { message: `${twice}: follows from --context, and may not be given with it` });
  const buckets = { contexts, prefill, batch };
  return { state: "auto", entries: decoderEntries(readModel(source).graph, buckets, TARGETS[target]) };
}

export const chipOptions = ({
  target,
  system,
  chips,
  dead,
  stages,
  tensor,
  weights,
  keep,
}: ChipRequest): ChipRequest => {
  return { target, system, chips, dead, stages, tensor, weights, keep };
};

/** Reads the files of fixed inputs. */
const modelOptions = (request: ModelRequest) => {
  const { bind, shapes, fix, state, entries, configuration } = request;
  return { ...chipOptions(request), bind, shapes, fix: readFixes(fix), state, entries, configuration };
};
