/**
 * Values of attention lie with their positions on lanes, heads side by side, and move on over the lanes when something is joined to
 * them. What is new lies where the entry that brings it has its activations, which may be where another head's past comes from.
 */

import { describe, expect, test } from "@jest/globals";
import { modelBytes, type OnnxModel } from "../models/onnx-writer.js";
import { compile } from "../src/compile.js";
import { at, sure } from "../src/diagnostics.js";
import { bytesSource } from "../src/frontend/source.js";
import { joinChunks } from "../src/host/build.js";
import type { Tensor } from "../src/ir/graph.js";
import { tensorOf, toNumbers } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";

interface Sizes {
  readonly heads: number;
  readonly size: number;
  readonly past: number;
  /** Tokens of the entry that runs; the state lies as an entry of one token has it. */
  readonly tokens: number;
}

const HIDDEN = 16;

const bytesOf = (values: Float32Array | BigInt64Array): Uint8Array => new Uint8Array(values.buffer);
const whole = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => ((i * 37 + seed * 11) % 5) - 2);

/** Queries of several heads over keys that are given, and the values of a past and what is new: y, and the values as state. */
const model = ({ heads, size }: Sizes): OnnxModel => {
  const shape = [0, 0, heads, size];
  return {
    ...{ name: "values", opset: 18 },
    nodes: [
      { op: "MatMul", name: "/project", inputs: ["x", "w"], outputs: ["projected"], attributes: {} },
      { op: "Reshape", name: "/split", inputs: ["projected", "shape"], outputs: ["split"], attributes: {} },
      { op: "Transpose", name: "/turn", inputs: ["split"], outputs: ["q"], attributes: { perm: [0, 2, 1, 3] } },
      { op: "MatMul", name: "/meet", inputs: ["q", "keys"], outputs: ["p"], attributes: {} },
      {
        ...{ op: "Concat", name: "/join", inputs: ["past_3", "new"], outputs: ["present_3"] },
        attributes: { axis: 2 },
      },
      { op: "MatMul", name: "/weigh", inputs: ["p", "present_3"], outputs: ["y"], attributes: {} },
    ],
    inputs: [
      { name: "x", type: "float32", dims: [1, 1, HIDDEN], open: { 1: "n" } },
      { name: "keys", type: "float32", dims: [1, heads, size, 1], open: { 3: "all" } },
      { name: "new", type: "float32", dims: [1, heads, 1, size], open: { 2: "n" } },
      { name: "past_3", type: "float32", dims: [1, heads, 1, size], open: { 2: "past" } },
    ],
    outputs: [
      { name: "present_3", type: "float32", dims: [1, heads, 1, size], open: { 2: "all" } },
      { name: "y", type: "float32", dims: [1, heads, 1, size], open: { 2: "n" } },
    ],
    initializers: [
      {
        name: "w",
        type: "float32",
        dims: [HIDDEN, heads * size],
        chunks: () => [bytesOf(whole(HIDDEN * heads * size, 1))],
      },
      { name: "shape", type: "int64", dims: [4], chunks: () => [bytesOf(BigInt64Array.from(shape, BigInt))] },
    ],
  };
};

/** Of [1, heads, count, size] the last positions. */
const lastOf = (values: readonly number[], { heads, size, past }: Sizes): readonly number[] => {
  const each = values.length / heads;
  return Array.from({ length: heads }, (_, head) =>
    values.slice((head + 1) * each - past * size, (head + 1) * each),
  ).flat();
};

const joined = (past: Tensor, recent: Tensor, { heads }: Sizes): readonly number[] => {
  const headOf = (tensor: Tensor, head: number): readonly number[] => {
    const each = tensor.data.length / heads;
    return [...toNumbers(tensor)].slice(head * each, (head + 1) * each);
  };
  return Array.from({ length: heads }, (_, head) => [...headOf(past, head), ...headOf(recent, head)]).flat();
};

describe("values that move on over lanes", () => {
  test.each<Sizes>([
    { heads: 4, size: 8, past: 12, tokens: 4 },
    { heads: 6, size: 16, past: 40, tokens: 7 },
    { heads: 8, size: 8, past: 12, tokens: 5 },
    { heads: 12, size: 8, past: 12, tokens: 11 },
    { heads: 8, size: 8, past: 60, tokens: 17 },
  ])("are those of the past and what is new: %j", (sizes) => {
    const { heads, size, past, tokens } = sizes;
    const entries = {
      one: { bind: { n: 1, past, all: past + 1 } },
      block: { bind: { n: tokens, past, all: past + tokens } },
    };
    const source = bytesSource("values", modelBytes(model(sizes)));
    const loaded = loadImage(joinChunks(compile(source, { state: "auto", entries }).image()));
    const before = tensorOf("f32", [1, heads, past, size], whole(heads * past * size, 2));
    const recent = tensorOf("f32", [1, heads, tokens, size], whole(heads * tokens * size, 3));
    loaded.restore({ past_3: before });
    const block = sure(
      loaded.entries.find(({ name }) => name === "block"),
      "entry",
    );
    block.run({
      x: tensorOf("f32", [1, tokens, HIDDEN], whole(tokens * HIDDEN, 4)),
      keys: tensorOf("f32", [1, heads, size, past + tokens], whole(heads * size * (past + tokens), 5)),
      new: recent,
    });
    const left = at(Object.values(loaded.snapshot()), 0, "state");
    expect([...toNumbers(left)]).toEqual(lastOf(joined(before, recent, sizes), sizes));
  });
});
