/**
 * The work of `lpu report`: an image in, the activity of its program out: figures for the terminal, and files.
 */

import { join } from "node:path";
import { readImage } from "../../src/codegen/image/image.js";
import { printInstruction } from "../../src/codegen/listing/print.js";
import { makeFolder, readWhole, textChunks, writeAtomically } from "../../src/host/files.js";
import { type Activity, activityOf } from "../../src/report/activity.js";
import { stretchesOf, type Stretches } from "../../src/report/bounds.js";
import { type Comparison, compareOverviews } from "../../src/report/compare.js";
import { csvFiles } from "../../src/report/csv.js";
import { chosenEntry, type TimedInstruction } from "../../src/ir/program.js";
import { pageData } from "../../src/report/page/data.js";
import { htmlLines } from "../../src/report/page/html.js";
import { type Overview, overviewOf } from "../../src/report/overview.js";
import { defaultGrid, type Power, powerOf } from "../../src/report/power.js";
import { type JobContext, timed } from "./job.js";

export interface ReportRequest {
  readonly image: string;
  /** The entry to describe, of the other image too; the only one if undefined. */
  readonly entry: string | undefined;
  /** Where the page goes; none is made without. */
  readonly page: string | undefined;
  readonly csvFolder: string | undefined;
  /** Image that the program is compared with. */
  readonly compare: string | undefined;
  /** Cycles of a bin of power over time; about a thousandth of the program if not given. */
  readonly grid: number | undefined;
}

export interface ReportResult extends Overview {
  /** With the other image, if one was given. */
  readonly comparison: Comparison | null;
  readonly files: readonly { readonly file: string; readonly bytes: number }[];
}

export async function reportJob(request: ReportRequest, context: JobContext<never>): Promise<ReportResult> {
  const model = await modelOf(request.image, request, context);
  const { activity, stretches, power, overview } = model;
  const { program } = activity;
  const comparison =
    request.compare === undefined
      ? null
      : compareOverviews(overview, (await modelOf(request.compare, request, context)).overview);
  const files: { file: string; bytes: number }[] = [];
  const { page, csvFolder } = request;
  const describe = (instruction: TimedInstruction): string => printInstruction(program.target, instruction);
  if (page !== undefined) {
    const { value } = await timed(context, "Writing page", () =>
      writeAtomically(
        page,
        textChunks(htmlLines(pageData(activity, stretches, power, { ...overview, comparison }, describe))),
      ),
    );
    files.push({ file: page, bytes: value.bytes });
  }
  if (csvFolder !== undefined) {
    makeFolder(csvFolder);
    for (const [name, lines] of Object.entries(csvFiles(activity, stretches, power, describe))) {
      const file = join(csvFolder, name);
      files.push({ file, bytes: writeAtomically(file, textChunks(lines())).bytes });
    }
  }
  return { ...overview, comparison, files };
}

interface Model {
  readonly activity: Activity;
  readonly stretches: Stretches;
  readonly power: Power;
  readonly overview: Overview;
}

async function modelOf(
  image: string,
  { entry, grid }: Pick<ReportRequest, "entry" | "grid">,
  context: JobContext<never>,
): Promise<Model> {
  const { value: program } = await timed(context, "Loading image", () =>
    chosenEntry(readImage(readWhole(image, "image")), entry),
  );
  const { value: model } = await timed(context, "Following vectors", (): Model => {
    const activity = activityOf(program);
    const stretches = stretchesOf(activity);
    const power = powerOf(activity, grid ?? defaultGrid(activity.cycles));
    return { activity, stretches, power, overview: overviewOf(activity, stretches, power) };
  });
  return model;
}
