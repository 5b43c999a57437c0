/**
 * ONNX Runtime as a witness: runs a model's bytes on one thread and gives each float output's values; and seeded inputs
 * that suit a built model (token ids within the vocabulary, a mask that hides the tail, normal-like floats).
 */

import { InferenceSession, Tensor } from "onnxruntime-node";
import type { OnnxModel } from "../models/onnx-writer.js";
import { seededIntegers, seededNormals } from "../models/weights.js";

export interface ReferenceInput {
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

export async function runReference(
  model: Uint8Array,
  inputs: ReadonlyMap<string, ReferenceInput>,
): Promise<Map<string, Float32Array>> {
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const feeds: Record<string, Tensor> = {};
  for (const [name, { dims, data }] of inputs) {
    feeds[name] = data instanceof BigInt64Array ? new Tensor("int64", data, dims) : new Tensor("float32", data, dims);
  }
  const results = await session.run(feeds);
  await session.release();
  const values = new Map<string, Float32Array>();
  for (const name of session.outputNames) {
    const data = results[name]?.data;
    if (data instanceof Float32Array) values.set(name, data);
  }
  return values;
}

export function modelInputs(model: OnnxModel, seed = 1): Map<string, ReferenceInput> {
  const inputs = new Map<string, ReferenceInput>();
  for (const { name, type, dims } of model.inputs) {
    const count = dims.reduce((product, extent) => product * extent, 1);
    if (type === "float32") inputs.set(name, { dims, data: seededNormals(name, seed, count) });
    else if (name === "attention_mask")
      inputs.set(name, { dims, data: BigInt64Array.from({ length: count }, (_, i) => visible(i, dims)) });
    else
      inputs.set(name, {
        dims,
        data: BigInt64Array.from(seededIntegers(name, seed, count, vocabulary(model)), BigInt),
      });
  }
  return inputs;
}

/** The last quarter of each row is padding. */
const visible = (index: number, [, seq = 1]: readonly number[]): bigint =>
  index % seq < Math.ceil((seq * 3) / 4) ? 1n : 0n;

/** Rows of the token embedding: the first table that a Gather reads with ids. */
const vocabulary = (model: OnnxModel): number => {
  const gather = model.nodes.find((node) => node.op === "Gather" && node.inputs[1] === "input_ids");
  return model.initializers.find((each) => each.name === gather?.inputs[0])?.dims[0] ?? 1;
};
