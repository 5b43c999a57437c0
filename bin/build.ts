/**
 * The work of `lpu build` and `lpuit`: a model file to an image file, with the stages announced on the way.
 */

import type { TargetName } from "../src/ir/target.js";
import { buildModel } from "../src/build.js";
import { openModel } from "../src/files.js";
import type { BuildReport } from "../src/report/report.js";
import { STAGES, type StageEvent } from "../src/stages.js";
import type { JobContext } from "./jobs.js";
import { clock } from "./terminal.js";
import type { TaskEvent } from "./stages.js";

export interface BuildRequest {
  readonly model: string;
  readonly image: string;
  readonly target: TargetName;
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly cacheFolder: string | undefined;
  readonly rebuild: boolean;
  readonly shown: ShownPasses;
}

/** What the pass runner is asked to show of its work. */
export interface ShownPasses {
  readonly printAfter: readonly string[];
  readonly dumpFolder: string | undefined;
  readonly time: boolean;
  readonly verify: boolean;
}

export interface BuildResult {
  readonly image: string;
  readonly sha256: string;
  readonly imageBytes: number;
  readonly cached: boolean;
  readonly seconds: Readonly<Record<string, number>>;
  readonly report: BuildReport;
}

export function buildJob(request: BuildRequest, context: JobContext<never>): BuildResult {
  const model = openModel(request.model);
  try {
    const options = {
      target: request.target,
      bind: request.bind,
      shapes: request.shapes,
      onStage: stageTasks(context),
    };
    const build = buildModel(model, options, {
      cacheFolder: request.cacheFolder,
      rebuild: request.rebuild,
      now: clock,
    });
    const { bytes, sha256 } = build.writeImage(request.image);
    return {
      image: request.image,
      sha256,
      imageBytes: bytes,
      cached: build.cached,
      seconds: build.seconds,
      report: build.report,
    };
  } finally {
    model.close();
  }
}

/** Stages as tasks; `prefix` goes before the title. */
export function stageTasks(
  context: { readonly task: (event: TaskEvent) => void },
  prefix = "",
): (event: StageEvent) => void {
  return ({ stage, ...event }) => context.task({ ...event, title: `${prefix}${STAGES[stage].title}`, at: clock() });
}
