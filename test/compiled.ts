/** Helpers of tests that compile and run: graphs to programs, programs on the literal machine, how far results are apart. */

import { TARGETS } from "../src/ir/target.js";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSmallModel, type SMALL_MODELS } from "../models/families.js";
import { type Compiled, compile } from "../src/compile.js";
import { CompileError, MachineFault } from "../src/diagnostics.js";
import { bytesSource, type ModelSource } from "../src/frontend/source.js";
import { joinChunks } from "../src/host/build.js";
import type { Kept } from "../src/ir/facts.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import type { Plan } from "../src/ir/plan.js";
import { chosenEntry, type Program } from "../src/ir/program.js";
import { stageOf } from "../src/ir/stage.js";
import type { Target, TargetName } from "../src/ir/target.js";
import { makeTensor, toNumbers } from "../src/ir/tensor.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { NARROW, PIPELINE } from "../src/passes/graph/pipeline.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { select } from "../src/passes/select/select.js";
import { fetchOutput, placeInput } from "../src/runtime/binding.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { placeConstants, Sram } from "../src/runtime/sram.js";
import { modelInputs } from "./reference.js";

export type SmallName = keyof typeof SMALL_MODELS;

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export const smallSource = (name: SmallName): ModelSource =>
  bytesSource(name, readFileSync(join(ROOT, "models", "small", `${name}.onnx`)));

export const compileSmall = (name: SmallName, target: TargetName): Compiled => compile(smallSource(name), { target });

/** Inputs that suit a small model, as the compiler takes them: int64 narrows to int32. */
export function smallInputs(name: SmallName): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [input, { dims, data }] of modelInputs(buildSmallModel(name))) {
    if (data instanceof BigInt64Array) tensors[input] = makeTensor("i32", dims, Int32Array.from(data, Number));
    else tensors[input] = makeTensor("f32", dims, data);
  }
  return tensors;
}

export const legalGraph = (graph: Graph, target: Target): Graph => runPasses(graph, PIPELINE, { target });
/** What is kept in four bytes of a graph of legal operations. */
export const keptOf = (graph: Graph): readonly Kept[] => {
  let kept: readonly Kept[] = [];
  const onKept = (all: readonly Kept[]): void => {
    kept = all;
  };
  runPasses(graph, NARROW, { target: TARGETS["lpu-v1"], onKept });
  return kept;
};
export const planOf = (graph: Graph, target: Target): Plan => select(legalGraph(graph, target), target);
export const programOf = (graph: Graph, target: Target): Program => schedule(planOf(graph, target), target).program;

export interface MachineResult {
  readonly outputs: readonly Tensor[];
  readonly cycles: readonly number[];
}

/** Runs a program's first entry point, or one stage of it with its wires in and out, on the literal machine. */
export function runOnLiteral(whole: Program, inputs: Readonly<Record<string, Tensor>>, stage?: number): MachineResult {
  const { program, outer } = stage === undefined ? { program: whole, outer: [] } : stageOf(whole, stage);
  const [entry] = program.entries;
  const [wires = []] = outer;
  const { lanes } = program.target;
  const received = Object.fromEntries(
    wires.flatMap(({ name, vectors }) => {
      const data = inputs[name]?.data;
      return data instanceof Uint8Array
        ? [[name, vectors.map((_, row) => data.slice(row * lanes, (row + 1) * lanes))]]
        : [];
    }),
  );
  const sram = loadedSram(program);
  for (const binding of entry?.inputs ?? []) {
    const tensor = inputs[binding.name];
    if (tensor !== undefined) placeInput(binding, tensor, sram);
  }
  const { cycles, sent } = runLiteral({ ...chosenEntry(program), outer: wires }, sram, received);
  const outputs = (entry?.outputs ?? []).map((binding) => fetchOutput(binding, sram));
  const wired = Object.values(sent).map((vectors) => makeTensor("u8", [vectors.length, lanes], joinChunks(vectors)));
  return { cycles, outputs: [...outputs, ...wired] };
}

export function loadedSram(program: Program): Sram {
  const sram = new Sram(program.target, program.chips.length);
  placeConstants(sram, program.chips);
  return sram;
}

/** The code of the fault or error that something raises, with its message; "ok" if none. Anything else goes on. */
export function verdict(run: () => unknown): string {
  try {
    run();
    return "ok";
  } catch (error) {
    if (error instanceof MachineFault || error instanceof CompileError) return error.message;
    throw error;
  }
}

/** Relative distance of two tensors of the same shape in the L2 norm. */
export function distance(got: Tensor | undefined, want: Tensor): number {
  if (got === undefined || got.shape.join() !== want.shape.join()) return Number.POSITIVE_INFINITY;
  const [a, b] = [toNumbers(got), toNumbers(want)];
  let error = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    const [x = 0, y = 0] = [a[i], b[i]];
    if (Object.is(x, y)) continue;
    error += (x - y) ** 2;
    norm += y ** 2;
  }
  return error === 0 ? 0 : Math.sqrt(error / Math.max(norm, 1e-12));
}
