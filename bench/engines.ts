/**
 * The engines that are timed side by side, one row each: open a file, run the same feeds, give fp32 outputs.
 *
 * All of them use one thread, but for the one that says so. Ours opens an image and runs the program value- and cycle-exact; the two others open the ONNX
 * model itself. Feeds depend only on names, types and shapes, so that every engine computes the same thing.
 */

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import * as ortNode from "onnxruntime-node";
import { seededIntegers, seededNormals } from "../models/weights.js";
import { fail } from "../src/diagnostics.js";
import { openImage } from "../src/index.js";
import { toFloats } from "../src/ir/tensor.js";

export interface Spec {
  readonly name: string;
  readonly integer: boolean;
  readonly shape: readonly number[];
}

export type Feeds = ReadonlyMap<string, Float32Array | BigInt64Array>;

export interface Opened {
  readonly inputs: readonly Spec[];
  readonly run: (feeds: Feeds) => Promise<Map<string, Float32Array>>;
}

export type Binds = Readonly<Record<string, number>>;

export const ENGINES = {
  lpu: { doc: "the linked machine of this project", open: (file: string) => openLpu(file, 1) },
  "lpu-threads": {
    doc: "the same, its chips on as many threads as there are cores",
    open: (file: string) => openLpu(file, availableParallelism()),
  },
  "ort-node": { doc: "onnxruntime-node, one thread", open: openOrtNode },
  "ort-web": { doc: "onnxruntime-web (WebAssembly), one thread", open: openOrtWeb },
} as const satisfies Record<
  string,
  { readonly doc: string; readonly open: (file: string, binds: Binds) => Promise<Opened> }
>;
export type EngineName = keyof typeof ENGINES;
export const isEngine = (name: string): name is EngineName => name in ENGINES;

/** Token ids below 50, masks of ones, normal-like floats. */
export function feedsFor(inputs: readonly Spec[]): Feeds {
  return new Map(
    inputs.map(({ name, integer, shape }): [string, Float32Array | BigInt64Array] => {
      const count = shape.reduce((product, extent) => product * extent, 1);
      if (!integer) return [name, seededNormals(name, 1, count)];
      const values = name.includes("mask") ? new Array<number>(count).fill(1) : seededIntegers(name, 1, count, 50);
      return [name, BigInt64Array.from(values, BigInt)];
    }),
  );
}

async function openLpu(file: string, threads: number): Promise<Opened> {
  const image = await openImage(file, { threads });
  const inputs = image.inputs.map(({ name, dtype, shape }) => ({
    name,
    integer: dtype === "i64" || dtype === "i32",
    shape,
  }));
  return {
    inputs,
    run: async (feeds) => {
      const { outputs, cycles, predictedCycles } = await image.run(Object.fromEntries(feeds));
      if (cycles !== predictedCycles)
        fail("LPU5103", { message: `predicted ${predictedCycles} cycles, the machine counted ${cycles}` });
      return new Map(Object.entries(outputs).map(([name, tensor]) => [name, toFloats(tensor)]));
    },
  };
}

async function openOrtNode(file: string, binds: Binds): Promise<Opened> {
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential" } as const;
  return openSession(await ortNode.InferenceSession.create(file, options), ortNode.Tensor, binds);
}

async function openOrtWeb(file: string, binds: Binds): Promise<Opened> {
  const ortWeb = await import("onnxruntime-web");
  ortWeb.env.wasm.numThreads = 1;
  const session = await ortWeb.InferenceSession.create(new Uint8Array(readFileSync(file)), {
    executionProviders: ["wasm"],
  });
  return openSession(session, ortWeb.Tensor, binds);
}

/** Both packages share these interfaces (onnxruntime-common). */
function openSession(session: ortNode.InferenceSession, tensor: ortNode.TensorConstructor, binds: Binds): Opened {
  const inputs = session.inputMetadata.map((input) => {
    if (!input.isTensor) return fail("LPU5103", { message: `input '${input.name}' is not a tensor` });
    const shape = input.shape.map((extent) => (typeof extent === "number" ? extent : (binds[extent] ?? 1)));
    return { name: input.name, integer: input.type === "int64", shape };
  });
  return {
    inputs,
    run: async (feeds) => {
      const given: Record<string, ortNode.Tensor> = {};
      for (const { name, shape } of inputs) {
        const data = feeds.get(name);
        if (data instanceof BigInt64Array) given[name] = new tensor("int64", data, shape);
        else if (data !== undefined) given[name] = new tensor("float32", data, shape);
      }
      const results = new Map<string, Float32Array>();
      for (const [name, { data }] of Object.entries(await session.run(given))) {
        if (data instanceof Float32Array) results.set(name, data);
      }
      return results;
    },
  };
}
