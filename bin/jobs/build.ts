/**
 * The work of `lpu build` and `lpuit`: a model file to an image file, with the stages announced on the way.
 */

import type { JobContext } from "./job.js";
import { join } from "node:path";
import { buildModel } from "../../src/host/build.js";
import type { CompileOptions } from "../../src/options.js";
import { sure } from "../../src/diagnostics.js";
import { annotatedModel } from "../../src/frontend/annotate.js";
import { expectBeside, makeFolder, writeAtomically } from "../../src/host/files.js";
import { printPlan } from "../../src/ir/plan/print.js";
import { printGraph } from "../../src/ir/print.js";
import { PassError, passBanner } from "../../src/passes/graph/pass.js";
import { selectPasses } from "../../src/passes/graph/pipeline.js";
import type { BuildReport } from "../../src/report/report.js";
import { formatSeconds } from "../../src/report/units.js";
import { STAGES, type StageEvent } from "../../src/stages.js";
import { clock } from "../show/terminal.js";
import { openAsked, type OpenRequest } from "./options.js";

export interface BuildRequest extends OpenRequest {
  readonly image: string;
  readonly cacheFolder: string | undefined;
  readonly rebuild: boolean;
  readonly shown: ShownPasses;
  /** Where the model goes with annotations for devices, if it is asked for. */
  readonly annotated: string | undefined;
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
  /** The model with annotations for devices, if it was asked for. */
  readonly annotated?: string;
  readonly sha256: string;
  readonly imageBytes: number;
  readonly cached: boolean;
  readonly seconds: Readonly<Record<string, number>>;
  /** Inputs that were fixed, and are inputs no more. */
  readonly fixed: readonly string[];
  readonly report: BuildReport;
}

export function buildJob(request: BuildRequest, context: JobContext<never>): BuildResult {
  const { shown } = request;
  // Refuses names of passes that do not exist.
  selectPasses({ only: shown.printAfter });
  const { model, options: asked } = openAsked(request);
  try {
    const options = {
      ...asked,
      onStage: stageTasks(context),
      ...(isShown(shown) ? passListener(shown, context) : {}),
    };
    const { annotated } = request;
    if (annotated !== undefined) expectBeside(model, annotated);
    const rebuild = request.rebuild || isShown(shown) || annotated !== undefined;
    const build = buildModel(model, options, { cacheFolder: request.cacheFolder, rebuild, now: clock });
    // The image last: where it lies, the build has succeeded.
    if (annotated !== undefined)
      writeAtomically(annotated, annotatedModel(model.source, sure(build.devices, "devices")()));
    const { bytes, sha256 } = build.writeImage(request.image);
    return {
      image: request.image,
      ...(annotated !== undefined && { annotated }),
      sha256,
      imageBytes: bytes,
      cached: build.cached,
      seconds: build.seconds,
      fixed: Object.keys(request.fix),
      report: build.report,
    };
  } catch (error) {
    if (error instanceof PassError && shown.dumpFolder !== undefined) {
      const path = join(shown.dumpFolder, "reproducer.tir");
      writeText(path, error.reproducer);
      context.note(`the graph that went into pass '${error.pass}' is in ${path}`);
    }
    throw error;
  } finally {
    model.close();
  }
}

const isShown = ({ printAfter, dumpFolder, time, verify }: ShownPasses): boolean =>
  printAfter.length > 0 || dumpFolder !== undefined || time || verify;

/** Options that print, dump and time passes as they end, and dump the plan. */
function passListener(
  shown: ShownPasses,
  context: JobContext<never>,
): Pick<CompileOptions, "onPass" | "onPlan" | "clock" | "verify"> {
  const { dumpFolder } = shown;
  if (dumpFolder !== undefined) makeFolder(dumpFolder);
  // Not the record's ordinal: the compiler runs the pipeline in two parts.
  let dumped = 0;
  return {
    clock,
    verify: shown.verify,
    onPass: (record, graph) => {
      const { pass, milliseconds } = record;
      dumped++;
      if (shown.printAfter.includes(pass.name)) context.note(`${passBanner(record)}\n${printGraph(graph)}`);
      if (shown.time) context.note(`${pass.name.padEnd(24)}${formatSeconds(milliseconds / 1000)}`);
      if (dumpFolder !== undefined) {
        const file = `${String(dumped).padStart(2, "0")}-${pass.name}.tir`;
        writeText(join(dumpFolder, file), `${passBanner(record)}\n${printGraph(graph)}`);
      }
    },
    onPlan: (plan, chip) => {
      const file = chip === undefined ? "plan.txt" : `plan-${chip}.txt`;
      if (dumpFolder !== undefined) writeText(join(dumpFolder, file), printPlan(plan));
    },
  };
}

const writeText = (path: string, text: string): void => void writeAtomically(path, [new TextEncoder().encode(text)]);

/** Stages as tasks. */
const stageTasks =
  (context: JobContext<never>) =>
  ({ stage, ...event }: StageEvent): void =>
    context.task({ ...event, title: STAGES[stage].title, at: clock() });
