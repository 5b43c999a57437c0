/**
 * An image in use: bytes in, tensors in and out. All that the runtime is ever given is the image.
 *
 * Loading decodes the image, links all its entries for one machine and places its constants; a run of an entry places the
 * inputs, executes and fetches the outputs, and can be repeated. `predictedCycles` is what the compiler wrote into the image;
 * `cycles` is counted by the machine from the instructions of the program. A run in which the two differ is an error (LPU4032).
 * States stay in SRAM between runs, of whichever entry; a run whose inputs are refused leaves them as they were.
 */

import { readImage } from "../codegen/image/image.js";
import { at, fail, MachineFault, sure } from "../diagnostics.js";
import type { EdgeDType } from "../ir/dtype.js";
import type { Shape, Tensor } from "../ir/graph.js";
import { type EntryPoint, entryNamed, entryPrograms, type Program, type StateBinding } from "../ir/program.js";
import { type OuterWire, type Stage, stageOf } from "../ir/stage.js";
import type { Target } from "../ir/target.js";
import { clearState, fetchOutput, markInput, placeInput, preparedInput } from "./binding.js";
import { type Disturbance, flippedSend, type WireFlip } from "./disturb.js";
import { createMachine, type LoadedProgram, type MachineOptions } from "./machine.js";
import type { Sram } from "./sram.js";
import type { Counters, MachineProgram } from "./program.js";

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
  /** Why the run was done again, where that was needed: once for each time. */
  readonly replays: readonly string[];
}

/** A program on the machine. */
export interface LoadedModel {
  readonly name: string;
  readonly target: Target;
  readonly states: readonly BoundSpec[];
  /** Fills all states with zeros, as they are when the image is loaded. */
  readonly reset: () => void;
  /** All states as they are, by name. */
  readonly snapshot: () => Snapshot;
  /** Puts states back; those that are not named stay. LPU4030 for one that does not fit, LPU4031 for one that is not there. */
  readonly restore: (snapshot: Snapshot) => void;
  /** Ends the threads that the machine has beside this one, where it was given any; it cannot run any more. */
  readonly close: () => void;
  readonly entries: readonly LoadedEntry[];
  /** The entry of that name, or the only one; else LPU4034. */
  readonly entry: (name?: string) => LoadedEntry;
}

/** States by name, of the declared dtypes, narrowed. */
export type Snapshot = Readonly<Record<string, Tensor>>;

export interface LoadedEntry {
  readonly name: string;
  readonly inputs: readonly BoundSpec[];
  readonly outputs: readonly BoundSpec[];
  readonly predictedCycles: number;
  /** Inputs are tensors of the declared dtypes, narrowed: int64 as int32, fp64 as fp32. */
  readonly run: (inputs: Readonly<Record<string, Tensor>>) => ModelRun;
}

export type LoadOptions = Pick<MachineOptions, "engine" | "threads"> &
  Disturbance & {
    /** Only this stage, on its chips: its wires are inputs and outputs, u8[vectors, lanes]. LPU4035 if there is none. */
    readonly stage?: number | undefined;
  };

/** `bytes` must stay as they are: constants and lookup tables are views of them. */
export const loadImage = (bytes: Uint8Array, options: LoadOptions = {}): LoadedModel =>
  loadProgram(readImage(bytes), options);

export function loadProgram(whole: Program, { stage, jitter, flip, ...options }: LoadOptions = {}): LoadedModel {
  const { program, outer }: Pick<Stage, "program"> & Partial<Stage> =
    stage === undefined ? { program: whole } : stageOf(whole, stage);
  const { name, target, states } = program;
  const parts = entryPrograms(program).map((part, entry) => ({
    ...part,
    ...(outer && { outer: at(outer, entry, "entry") }),
    disturbed: { jitter, flip },
  }));
  const machine = createMachine(parts, {
    ...options,
    placeInputs: (marks, entry) => {
      for (const binding of program.entries[entry]?.inputs ?? []) markInput(binding, marks);
      for (const state of states) markInput(state, marks);
    },
  });
  const { sram } = machine;
  const snapshot = (): Snapshot => Object.fromEntries(states.map((state) => [state.name, fetchOutput(state, sram)]));
  const restore = (kept: Snapshot): void => {
    const given = Object.entries(kept).map(([wanted, tensor]) => {
      const state = states.find((one) => one.name === wanted);
      if (state === undefined) return fail("LPU4031", { message: `expected a state of the program, got '${wanted}'` });
      return { state, tensor, place: preparedInput(state, tensor) };
    });
    for (const { place } of given) place(sram);
  };
  const entries = machine.programs.flatMap((loaded, index) => {
    const entry = program.entries[index];
    if (entry === undefined) return [];
    const own = loadEntry(entry, loaded, sram, outer?.[index]);
    return [
      flip === undefined
        ? own
        : { ...own, run: replayed(own.run, at(parts, index, "entry"), flip, { snapshot, restore }) },
    ];
  });
  const reset = (): void => {
    for (const state of states) clearState(state, sram);
  };
  reset();
  return {
    ...{ name, target, states: states.map(specOf), entries },
    entry: (wanted) => entryNamed(entries, wanted),
    ...{ reset, snapshot, restore, close: machine.close },
  };
}

/** Runs that are done again, on the states that they found, where a vector fails its check. */
function replayed(
  run: LoadedEntry["run"],
  program: MachineProgram,
  flip: WireFlip,
  { snapshot, restore }: Pick<LoadedModel, "snapshot" | "restore">,
): LoadedEntry["run"] {
  const bits = program.target.lanes * 8;
  return (given) => {
    if (flip.bit >= bits)
      fail("LPU4037", {
        message: `expected a bit of a vector, 0 to ${bits - 1}, got ${flip.bit}`,
        hint: "give a bit that a vector has, or none for the first",
      });
    if (flippedSend(program, flip) === undefined)
      fail("LPU4037", { message: `expected a vector on a wire in cycle ${flip.cycle} or later, there is none` });
    const before = snapshot();
    try {
      return run(given);
    } catch (error) {
      if (!(error instanceof MachineFault) || error.code !== "LPU4018") throw error;
      restore(before);
      return { ...run(given), replays: [error.message] };
    }
  };
}

function loadEntry(
  { name, inputs, outputs, cycles: predicted }: EntryPoint,
  loaded: LoadedProgram,
  sram: Sram,
  wires: readonly OuterWire[] = [],
): LoadedEntry {
  const wiresThat = (kind: OuterWire["kind"]): readonly Wired[] =>
    wires.filter((wire) => wire.kind === kind).map(({ name: wire }) => wiredAs(wire, loaded, sram.target));
  const [received, sent] = [wiresThat("receive"), wiresThat("send")];
  const run: LoadedEntry["run"] = (given) => {
    loaded.reset();
    for (const binding of inputs) {
      const tensor = given[binding.name];
      if (tensor === undefined) fail("LPU4031", { message: `input '${binding.name}' is missing` });
      placeInput(binding, tensor, sram);
    }
    for (const { spec, vectors } of received) placeVectors(spec, given[spec.name], vectors);
    const { cycles, counters } = loaded.execute();
    for (const [chip, expected] of predicted.entries())
      if (cycles[chip] !== expected)
        fail("LPU4032", {
          message: `expected ${expected} cycles on chip ${chip}, ran ${cycles[chip]}`,
          hint: "build the image again; if it stays so, report it",
        });
    const fetched = outputs.map((binding) => [binding.name, fetchOutput(binding, sram)]);
    return {
      outputs: Object.fromEntries([...fetched, ...sent.map(({ spec, vectors }) => [spec.name, joined(spec, vectors)])]),
      cycles: Math.max(0, ...cycles),
      cyclesByChip: cycles,
      counters,
      replays: [],
    };
  };
  return {
    name,
    inputs: [...inputs.map(specOf), ...received.map(({ spec }) => spec)],
    outputs: [...outputs.map(specOf), ...sent.map(({ spec }) => spec)],
    predictedCycles: Math.max(0, ...predicted),
    run,
  };
}

const specOf = ({ name, declared, shape }: StateBinding): BoundSpec => ({ name, dtype: declared, shape });

/* ---------- wires of a stage ---------- */

/** An outer wire as the user sees it, and where its vectors lie. */
interface Wired {
  readonly spec: BoundSpec;
  readonly vectors: readonly Uint8Array[];
}

const wiredAs = (name: string, { outer }: LoadedProgram, { lanes }: Target): Wired => {
  const vectors = sure(outer[name], "wire");
  return { spec: { name, dtype: "u8", shape: [vectors.length, lanes] }, vectors };
};

const placeVectors = ({ name, shape }: BoundSpec, tensor: Tensor | undefined, vectors: readonly Uint8Array[]): void => {
  if (tensor === undefined) fail("LPU4031", { message: `input '${name}' is missing` });
  const { data, dtype } = tensor;
  const bytes = shape.reduce((product, extent) => product * extent, 1);
  if (!(data instanceof Uint8Array) || dtype !== "u8" || data.length !== bytes)
    fail("LPU4030", { message: `input '${name}': expected ${bytes} elements of u8, got ${data.length} of ${dtype}` });
  let from = 0;
  for (const vector of vectors) {
    vector.set(data.subarray(from, from + vector.length));
    from += vector.length;
  }
};

const joined = ({ shape }: BoundSpec, vectors: readonly Uint8Array[]): Tensor => ({
  dtype: "u8",
  shape,
  data: Uint8Array.from(Buffer.concat(vectors)),
});
