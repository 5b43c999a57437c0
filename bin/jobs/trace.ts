/**
 * The work of `lpu trace`: an image in, the activity of its program as a trace for Perfetto out.
 */

import { readImage } from "../../src/codegen/image/image.js";
import { printInstruction } from "../../src/codegen/listing/print.js";
import { chosenEntry } from "../../src/ir/program.js";
import { readWhole, writeAtomically } from "../../src/host/files.js";
import { activityOf } from "../../src/report/activity.js";
import { powerOf } from "../../src/report/power.js";
import { traceChunks } from "../../src/report/trace.js";
import { type JobContext, timed } from "./job.js";

export interface TraceRequest {
  readonly image: string;
  /** The entry to follow; the only one if undefined. */
  readonly entry: string | undefined;
  readonly output: string;
}

export interface TraceResult {
  readonly trace: string;
  readonly bytes: number;
  readonly cycles: number;
  readonly bursts: number;
}

export async function traceJob(
  { image, entry, output }: TraceRequest,
  context: JobContext<never>,
): Promise<TraceResult> {
  const { value: program } = await timed(context, "Loading image", () =>
    chosenEntry(readImage(readWhole(image, "image")), entry),
  );
  const { value: activity } = await timed(context, "Following vectors", () => activityOf(program));
  const { value: written } = await timed(context, "Writing trace", () =>
    writeAtomically(
      output,
      traceChunks(activity, powerOf(activity), (instruction) => printInstruction(program.target, instruction)),
    ),
  );
  return { trace: output, bytes: written.bytes, cycles: activity.cycles, bursts: activity.bursts.size };
}
