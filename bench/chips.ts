/** What many chips do: sums over eight of them as programs that are proved and run, and plans of systems from shapes alone. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildModel } from "../models/families.js";
import { encodeModel } from "../models/onnx-writer.js";
import { writeImage } from "../src/codegen/image/image.js";
import { compile } from "../src/compile.js";
import { invariant } from "../src/diagnostics.js";
import { bytesSource } from "../src/frontend/source.js";
import type { CompileOptions } from "../src/options.js";
import { TARGETS } from "../src/ir/target.js";
import { chosenEntry } from "../src/ir/program.js";
import { checkSchedule } from "../src/passes/check/check.js";
import type { BuildReport } from "../src/report/report.js";
import { loadImage } from "../src/runtime/run.js";
import { CACHE, makeShapes, type PlannedSystem, planModel } from "./processes.js";
import { sumOverChips } from "./sums.js";

/** Cycles of a sum over chips, proved and run. */
const sumCycles = (chips: number, columns: number): number => {
  const { program, plans, inputs } = sumOverChips(chips, 1, columns);
  checkSchedule(chosenEntry(program), ...plans);
  const cycles = program.entries[0]?.cycles[0] ?? 0;
  const ran = loadImage(writeImage(program)).entry().run(inputs);
  invariant(
    ran.cyclesByChip.every((one) => one === cycles),
    "every chip takes the predicted cycles",
  );
  return cycles;
};

const { clock, lanes, timing } = TARGETS["lpu-v1"];

export interface Sums {
  /** Numbers of fp16 on each of eight chips, cycles, and the share of them in which a link is taken at least. */
  readonly sums: readonly { readonly columns: number; readonly cycles: number; readonly share: number }[];
  /** A vector over all nodes of dragonfly-264, or 32 of them: in each, between them and in each again, in nanoseconds. */
  readonly vectorNanoseconds: number;
}

export const measureSums = (): Sums => {
  const [chips, bytes] = [8, 2];
  const sums = [8192, 40960].map((columns) => {
    const cycles = sumCycles(chips, columns);
    const vectors = (bytes * columns) / lanes;
    return { columns, cycles, share: (2 * vectors * timing.linkInterval) / chips / cycles };
  });
  // Each chip of a node is joined to one of four other nodes: a sum over five.
  const [inNode, between] = [sumCycles(chips, lanes / bytes), sumCycles(5, lanes / bytes)];
  return { sums, vectorNanoseconds: ((2 * inNode + between) * 1000) / clock };
};

export interface Latency {
  readonly cycles: number;
  readonly microseconds: { readonly chips: number; readonly withHost: number };
}

export interface Pipelined extends Latency {
  /** The same on as many chips that share each product. */
  readonly shared: Latency;
  /** Cycles from an inference to the next, of all stages and of one chip with as many layers as each has. */
  readonly interval: number;
  readonly alone: number;
}

/** BERT-Large on four chips, one behind the other and sharing products: scheduled and proved as a build is, with numbers in place of weights. */
export const measurePipeline = (): Pipelined => {
  const [layers, stages] = [24, 4];
  const made = (count: number, options: Pick<CompileOptions, "stages" | "tensor">): BuildReport => {
    const model = buildModel("bert", { layers: count, hidden: 1024, heads: 16, intermediate: 4096 });
    const bytes = new Uint8Array(Buffer.concat([...encodeModel(model, "nowhere.data")]));
    return compile({ ...bytesSource("bert-large", bytes), standIns: true }, options).report;
  };
  const timed = ({ cycles, microseconds, pcie }: BuildReport): Latency => ({
    cycles,
    microseconds: { chips: microseconds, withHost: microseconds + pcie.microseconds },
  });
  const report = made(layers, { stages });
  return {
    ...timed(report),
    shared: timed(made(layers, { tensor: stages })),
    interval: report.interval,
    alone: made(layers / stages, {}).interval,
  };
};

export interface PlannedModel {
  readonly what: string;
  /** Words of the builder of models, or a file of the fixtures. */
  readonly model: readonly string[] | string;
  readonly system: readonly string[];
  readonly reach: string;
  readonly aim: string;
}

/** Models whose weights are not there, with the systems for which they are planned. */
export const PLANS: readonly PlannedModel[] = [
  {
    what: "GEMM [800x32576]x[32576x8192], fp16",
    model: ["matmul", "--m", "800", "--k", "32576", "--n", "8192"],
    system: ["--system", "node8"],
    reach: "330 us",
    aim: "300 us",
  },
  {
    what: "BERT-Large, 128 tokens, fp16",
    model: ["bert", "--layers", "24", "--hidden", "1024", "--heads", "16", "--intermediate", "4096"],
    system: ["--system", "node4", "--tensor", "1"],
    reach: "700 us",
    aim: "550 us",
  },
  {
    what: "llama3-8b decode, FP8, context 4,096",
    model: ["llama3-8b", "--past"],
    system: ["--system", "line-8", "--weights", "fp8-e4m3", "--context", "4096"],
    reach: "2,500 tokens/s",
    aim: "5,000 tokens/s",
  },
  {
    what: "Llama-2-70B decode, FP8, context 4,096",
    model: ["llama-2-70b", "--past"],
    system: ["--system", "line-72", "--weights", "fp8-e4m3", "--context", "4096"],
    reach: "600 tokens/s, 60 s / 2 GB",
    aim: "1,000 tokens/s, 20 s / 1 GB",
  },
  {
    what: "gemma3-4b decode, FP8, context 1,024",
    model: fileURLToPath(
      new URL("../../../shared/fixtures/graph-only/gemma3-4b/decoder_model_merged.onnx", import.meta.url),
    ),
    system: ["--weights", "fp8-e4m3", "--context", "1024", "--fix", "num_logits_to_keep=1"],
    reach: "60 s",
    aim: "20 s",
  },
];

/** The plan of one, in a process of its own; undefined where its file is not there. */
export const measurePlan = ({ model, system }: PlannedModel): PlannedSystem | undefined => {
  if (typeof model === "string") return existsSync(model) ? planModel(model, system) : undefined;
  const file = join(CACHE, "planned.onnx");
  makeShapes(model, file);
  return planModel(file, system);
};
