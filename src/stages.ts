/**
 * The stages of a build, in order, one row each: what a person watching a build sees.
 *
 * The compiler announces stages through a callback and knows nothing of terminals or clocks; whoever listens measures the
 * time between `start` and `done`. Every stage that starts ends, with `done` or with `failed`.
 */

import { CompileError, isUnsupported } from "./diagnostics.js";

export const STAGES = {
  receive: {
    title: "Receiving ONNX model",
    doc: "The file is decoded, its weights are located and its dimensions are bound.",
  },
  optimize: { title: "Optimizing", doc: "Shape arithmetic folds away and the graph is brought to its simplest form." },
  check: {
    title: "Checking op support",
    doc: "Every operation is held against what the machine can do; all that it cannot is reported at once.",
  },
  precision: {
    title: "Converting to FP16",
    doc: "Composite operations end as primitives and values take the dtypes of the machine.",
  },
  compile: {
    title: "Compiling",
    doc: "Operations become bursts with places in SRAM and cycles, and the schedule is checked.",
  },
  assemble: { title: "Assembling", doc: "Queues are compressed and encoded, and the image is written." },
} as const satisfies Record<string, { readonly title: string; readonly doc: string }>;

export type StageName = keyof typeof STAGES;

export interface StageEvent {
  readonly stage: StageName;
  readonly status: "start" | "progress" | "done" | "failed";
  /** A few words behind the title: `412 of 412 nodes`. */
  readonly detail?: string;
  /** How much of the stage is done, 0 to 1, where it is known. */
  readonly fraction?: number;
}

export type OnStage = (event: StageEvent) => void;

type Details = Readonly<Partial<Record<StageName, (problems: number) => string>>>;

/** Runs a step between `start` and `done`, or `failed`. `details`: words behind a stage's title, by how many problems it found. */
export const announcer =
  (onStage: OnStage | undefined, details: Details) =>
  <T>(stage: StageName, run: () => T): T => {
    const announce = (of: StageName, status: StageEvent["status"], problems?: number): void => {
      const detail = problems === undefined ? undefined : details[of]?.(problems);
      onStage?.({ stage: of, status, ...(detail === undefined ? {} : { detail }) });
    };
    announce(stage, "start");
    try {
      const result = run();
      announce(stage, "done", 0);
      return result;
    } catch (error) {
      const failed = stageOf(error, stage);
      if (failed !== stage) {
        announce(stage, "done", 0);
        announce(failed, "start");
      }
      announce(failed, "failed", error instanceof CompileError ? 1 + error.others.length : 1);
      throw error;
    }
  };

/** The stage that an error belongs to: nodes that cannot be imported are a matter of checking them, not of receiving the file. */
const stageOf = (error: unknown, stage: StageName): StageName =>
  stage === "receive" && error instanceof CompileError && (isUnsupported(error.code) || error.code === "LPU1012")
    ? "check"
    : stage;
