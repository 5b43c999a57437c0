/**
 * The work of `lpu run`: an image and tensor files in, the machine's outputs as .npy files out.
 *
 * Every tensor file and every input is looked at before anything runs, and all that is wrong is said at once.
 */

import { type JobContext, timed } from "./job.js";
import { join } from "node:path";
import { at, CompileError, fail } from "../../src/diagnostics.js";
import { bindInputs, type InputValue, type TensorSpec, throwTogether } from "../../src/host/edge.js";
import { fileNames, makeFolder, readTensorFile, readWhole, writeTensorFiles } from "../../src/host/files.js";
import type { EdgeDType } from "../../src/ir/dtype.js";
import { findNonFinite, type NonFinite } from "../../src/ir/nonfinite.js";
import type { WireFlip } from "../../src/runtime/disturb.js";
import { type LoadedEntry, loadImage } from "../../src/runtime/run.js";

export interface RunRequest {
  readonly image: string;
  /** The entry to run; the only one if undefined. */
  readonly entry: string | undefined;
  /** Only this stage; the whole if undefined. */
  readonly stage: number | undefined;
  /** Files by input name. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputFolder: string;
  /** Of this computer, that chips run on. */
  readonly threads: number;
  readonly jitter: number | undefined;
  readonly flip: WireFlip | undefined;
}

export interface RunReport {
  readonly cycles: number;
  readonly predictedCycles: number;
  /** Why the run was done again: once for each time. */
  readonly replays: readonly string[];
  /** Wall time of the run on the reference machine, after loading. */
  readonly seconds: number;
  readonly loadSeconds: number;
  readonly outputs: readonly {
    readonly name: string;
    readonly dtype: EdgeDType;
    readonly shape: readonly number[];
    readonly file: string;
    /** The first element that is NaN or infinite, where there is one. */
    readonly nonFinite?: NonFinite;
  }[];
}

export async function runImageJob(request: RunRequest, context: JobContext<never>): Promise<RunReport> {
  const { stage, threads, jitter, flip } = request;
  const load = await timed(context, "Loading image", () =>
    loadImage(readWhole(request.image, "image"), { stage, threads, jitter, flip }).entry(request.entry),
  );
  const inputs = bindFiles(load.value.inputs, request.inputs);
  const run = await timed(context, "Running", () => load.value.run(inputs));
  const { outputs, cycles, replays } = run.value;
  makeFolder(request.outputFolder);
  const names = fileNames(load.value.outputs.map((spec) => spec.name));
  const files = load.value.outputs.map((spec, index) => {
    const tensor = outputs[spec.name];
    if (tensor === undefined) return fail("LPU5000", { message: `the machine gave no output '${spec.name}'` });
    return { name: spec.name, dtype: spec.dtype, tensor, path: join(request.outputFolder, at(names, index, "name")) };
  });
  writeTensorFiles(files);
  return {
    cycles,
    replays,
    predictedCycles: load.value.predictedCycles,
    seconds: run.seconds,
    loadSeconds: load.seconds,
    outputs: files.map(({ name, dtype, tensor, path }) => {
      const nonFinite = findNonFinite(tensor);
      return { name, dtype, shape: tensor.shape, file: path, ...(nonFinite && { nonFinite }) };
    }),
  };
}

/** A file that cannot be read is one problem among the others, and not also a missing input. */
function bindFiles(
  specs: readonly TensorSpec[],
  files: Readonly<Record<string, string>>,
): Parameters<LoadedEntry["run"]>[0] {
  const problems: CompileError[] = [];
  const collect = <Value>(work: () => Value): Value | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      problems.push(error);
      return undefined;
    }
  };
  const read: Record<string, InputValue> = {};
  const unreadable = new Set<string>();
  for (const [name, file] of Object.entries(files)) {
    const tensor = collect(() => readTensorFile(file));
    if (tensor === undefined) unreadable.add(name);
    else read[name] = tensor;
  }
  const bound = collect(() =>
    bindInputs(
      specs.filter((spec) => !unreadable.has(spec.name)),
      read,
    ),
  );
  throwTogether(problems);
  return bound ?? {};
}
