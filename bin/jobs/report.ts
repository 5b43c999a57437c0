/**
 * The work of `lpu report`: an image in, the activity of its program out: figures for the terminal, and files.
 */

import { join } from "node:path";
import { readImage } from "../../src/codegen/image/image.js";
import { printInstruction } from "../../src/codegen/listing/print.js";
import { makeFolder, readWhole, textChunks, writeAtomically } from "../../src/host/files.js";
import { type Analysis, analysisOf } from "../../src/report/analysis.js";
import { type Comparison, compareOverviews } from "../../src/report/compare.js";
import { csvFiles } from "../../src/report/csv.js";
import { chosenEntry } from "../../src/ir/program.js";
import { pageData } from "../../src/report/page/data.js";
import { htmlLines } from "../../src/report/page/html.js";
import type { Overview } from "../../src/report/overview.js";
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
  const { page, csvFolder } = request;
  const own = await analysisOfImage(request.image, request, context);
  const other = request.compare === undefined ? undefined : await analysisOfImage(request.compare, request, context);
  const files: { file: string; bytes: number }[] = [];
  const describe = printInstruction.bind(undefined, own.activity.program.target);
  if (page !== undefined) {
    const { value } = await timed(context, "Writing page", () =>
      writeAtomically(page, textChunks(htmlLines(pageData(own, other, printInstruction)))),
    );
    files.push({ file: page, bytes: value.bytes });
  }
  if (csvFolder !== undefined) {
    makeFolder(csvFolder);
    for (const [name, lines] of Object.entries(csvFiles(own, describe))) {
      const file = join(csvFolder, name);
      files.push({ file, bytes: writeAtomically(file, textChunks(lines())).bytes });
    }
  }
  const comparison = other === undefined ? null : compareOverviews(own.overview, other.overview);
  return { ...own.overview, comparison, files };
}

async function analysisOfImage(
  image: string,
  { entry, grid }: Pick<ReportRequest, "entry" | "grid">,
  context: JobContext<never>,
): Promise<Analysis> {
  const { value: program } = await timed(context, "Loading image", () =>
    chosenEntry(readImage(readWhole(image, "image")), entry),
  );
  const { value: analysis } = await timed(context, "Following vectors", () => analysisOf(program, grid));
  return analysis;
}
