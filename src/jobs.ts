/**
 * Stages as jobs: a graph that an engine of workflows can take, which starts what it likes where it likes.
 *
 * A job has an image, files in and files out, and a command; it shares nothing with others. Of an image everything is known; a plan
 * from shapes alone says which stages there would be and who waits for whom, for what crosses between them is decided by a build.
 */

import { at, sure } from "./diagnostics.js";
import { fileNames } from "./host/files.js";
import type { EdgeDType } from "./ir/dtype.js";
import type { Shape } from "./ir/graph.js";
import { type EntryPoint, entryNamed, type Program, type StateBinding } from "./ir/program.js";
import { type Stage, stagesOf } from "./ir/stage.js";
import type { SystemPlan } from "./planner/system-plan.js";

/** A tensor in a .npy file. */
export interface JobFile {
  readonly name: string;
  readonly dtype: EdgeDType;
  readonly shape: Shape;
  readonly file: string;
}

export interface Job {
  readonly name: string;
  readonly stage: number;
  /** Numbers of its chips. */
  readonly chips: readonly number[];
  /** Of the chip that takes longest, from cycle 0 of the whole; null if it is not built. */
  readonly cycles: number | null;
  /** Jobs that must have ended before. */
  readonly needs: readonly string[];
  /** Where the files of each input come from: a job, or null for who starts all of them. Null if it is not built. */
  readonly inputs: readonly (JobFile & { readonly from: string | null })[] | null;
  /** Where they go to: jobs, or nowhere for an output of the whole. */
  readonly outputs: readonly (JobFile & { readonly to: readonly string[] })[] | null;
  readonly command: readonly string[] | null;
}

export interface JobGraph {
  /** Null if there is none yet. */
  readonly image: string | null;
  readonly entry: string | null;
  readonly jobs: readonly Job[];
}

const jobName = (stage: number): string => `stage-${stage}`;

/** The jobs of an image at a path. Each leaves its outputs in a folder of its name. LPU4034 for the entry. */
export const jobsOf = (program: Program, image: string, wanted?: string): JobGraph => {
  const entry = entryNamed(program.entries, wanted);
  const index = program.entries.indexOf(entry);
  const edges = stagesOf(program).map((stage) => edgesOf(stage, index));
  const given = fileNames(entry.inputs.map(({ name }) => name));
  const made = edges.map(({ outputs }, stage) => {
    const files = fileNames(outputs.map(({ name }) => name));
    return outputs.map((output, place) => ({ ...output, file: `${jobName(stage)}/${at(files, place, "name")}` }));
  });
  const sources = new Map<string, { readonly file: string; readonly from: string | null }>([
    ...made.flatMap((outputs, stage) =>
      outputs.map(({ name, file }) => [name, { file, from: jobName(stage) }] as const),
    ),
    ...entry.inputs.map(({ name }, place) => [name, { file: at(given, place, "name"), from: null }] as const),
  ]);
  const jobs = edges.map(({ inputs: own, chips, cycles }, stage): Job => {
    const inputs = own.map((input) => ({ ...input, ...sure(sources.get(input.name), "source") }));
    const readers = (name: string): string[] =>
      edges.flatMap((other, reader) => (other.inputs.some((input) => input.name === name) ? [jobName(reader)] : []));
    return {
      ...{ name: jobName(stage), stage, chips, cycles },
      needs: [...new Set(inputs.flatMap(({ from }) => from ?? []))],
      inputs,
      outputs: at(made, stage, "stage").map((output) => ({ ...output, to: readers(output.name) })),
      command: [
        ...["lpu", "run", image, "--stage", String(stage)],
        ...(program.entries.length > 1 ? ["--entry", entry.name] : []),
        ...inputs.flatMap(({ name, file }) => ["--input", `${name}=${file}`]),
        ...["--output-dir", jobName(stage)],
      ],
    };
  });
  return { image, entry: entry.name, jobs };
};

/** The jobs that a plan would have, each behind the one before it. */
export const plannedJobs = ({ stages }: SystemPlan): JobGraph => ({
  image: null,
  entry: null,
  jobs: stages.map(({ chips }, stage) => ({
    ...{ name: jobName(stage), stage, chips, cycles: null, inputs: null, outputs: null, command: null },
    needs: stage === 0 ? [] : [jobName(stage - 1)],
  })),
});

interface Edges extends Pick<Stage, "chips"> {
  readonly cycles: number;
  readonly inputs: readonly Omit<JobFile, "file">[];
  readonly outputs: readonly Omit<JobFile, "file">[];
}

/** What a stage takes and gives in an entry. */
const edgesOf = ({ chips, program, outer }: Stage, index: number): Edges => {
  const { inputs, outputs, cycles }: EntryPoint = at(program.entries, index, "entry");
  const spec = ({ name, declared, shape }: StateBinding) => ({ name, dtype: declared, shape });
  const wires = (wanted: "send" | "receive") =>
    at(outer, index, "entry")
      .filter(({ kind }) => kind === wanted)
      .map(({ name, vectors }) => ({ name, dtype: "u8" as const, shape: [vectors.length, program.target.lanes] }));
  return {
    chips,
    cycles: Math.max(...cycles),
    inputs: [...inputs.map(spec), ...wires("receive")],
    outputs: [...outputs.map(spec), ...wires("send")],
  };
};
