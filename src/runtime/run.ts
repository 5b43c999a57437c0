/**
 * An image in use: bytes in, tensors in and out. All that the runtime is ever given is the image.
 *
 * Loading decodes the image, links it and places its constants; a run places the inputs, executes and fetches the outputs, and
 * can be repeated. `predictedCycles` is what the compiler wrote into the image; `cycles` is counted by the machine from the
 * instructions of the program. A run in which the two differ is an error (LPU4032).
 */

import { readImage } from "../codegen/image/image.js";
import { fail } from "../diagnostics.js";
import type { EdgeDType } from "../ir/dtype.js";
import type { Shape, Tensor } from "../ir/graph.js";
import type { Binding, Program } from "../ir/program.js";
import type { Target } from "../ir/target.js";
import { fetchOutput, markInput, placeInput } from "./binding.js";
import { createMachine, type MachineOptions } from "./machine.js";
import type { Counters } from "./state.js";

/** An input or output as the user sees it. */
export interface BoundSpec {
  readonly name: string;
  readonly dtype: EdgeDType;
  readonly shape: Shape;
}

export interface ModelRun {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Of the chip that takes longest. */
  readonly cycles: number;
  readonly cyclesByChip: readonly number[];
  readonly counters: readonly Counters[];
}

export interface LoadedModel {
  readonly name: string;
  readonly target: Target;
  readonly inputs: readonly BoundSpec[];
  readonly outputs: readonly BoundSpec[];
  readonly predictedCycles: number;
  /** Inputs are tensors of the declared dtypes, narrowed: int64 as int32, fp64 as fp32. */
  readonly run: (inputs: Readonly<Record<string, Tensor>>) => ModelRun;
}

export type LoadOptions = Pick<MachineOptions, "engine">;

/** `bytes` must stay as they are: constants and lookup tables are views of them. */
export const loadImage = (bytes: Uint8Array, options: LoadOptions = {}): LoadedModel =>
  loadProgram(readImage(bytes), options);

export function loadProgram(program: Program, options: LoadOptions = {}): LoadedModel {
  const [entry] = program.entries;
  if (entry === undefined)
    fail("LPU3035", { message: "expected an entry point, found none", hint: "add an .entry to the listing" });
  const machine = createMachine(program, {
    ...options,
    placeInputs: (marks) => {
      for (const binding of entry.inputs) markInput(binding, marks);
    },
  });
  const run: LoadedModel["run"] = (given) => {
    machine.reset();
    for (const binding of entry.inputs) {
      const tensor = given[binding.name];
      if (tensor === undefined) fail("LPU4031", { message: `input '${binding.name}' is missing` });
      placeInput(binding, tensor, machine.sram);
    }
    const { cycles, counters } = machine.execute();
    for (const [chip, predicted] of entry.cycles.entries())
      if (cycles[chip] !== predicted)
        fail("LPU4032", {
          message: `expected ${predicted} cycles on chip ${chip}, ran ${cycles[chip]}`,
          hint: "build the image again; if it stays so, report it",
        });
    const outputs = Object.fromEntries(
      entry.outputs.map((binding) => [binding.name, fetchOutput(binding, machine.sram)]),
    );
    return { outputs, cycles: Math.max(0, ...cycles), cyclesByChip: cycles, counters };
  };
  return {
    name: program.name,
    target: program.target,
    inputs: entry.inputs.map(specOf),
    outputs: entry.outputs.map(specOf),
    predictedCycles: Math.max(0, ...entry.cycles),
    run,
  };
}

const specOf = ({ name, declared, shape }: Binding): BoundSpec => ({ name, dtype: declared, shape });
