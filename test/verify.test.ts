/** `lpu verify` on models with states: what a data set gives for them is found by the run, and what stays in them is compared. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { CaseResult } from "../bin/jobs/cases.js";
import { verifyJob, type VerifyRequest } from "../bin/jobs/verify.js";
import { modelBytes } from "../models/onnx-writer.js";

const folder = mkdtempSync(join(tmpdir(), "metronome-verify-"));
beforeAll(() => {
  writeCase("right", {});
  writeCase("another past", { past: [...PAST.slice(0, 11), 9] });
  writeCase("another present", { present: [...PAST, 1, 2, 3, 5] });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Three rows, and one that is new: y = x . rows. */
const PAST = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0];
const X = [1, 2, 3, 4];
const PRODUCTS = [1, 2, 3, 30];

const decoder = modelBytes({
  name: "m",
  opset: 18,
  nodes: [
    { op: "Concat", name: "join", inputs: ["past_0", "x"], outputs: ["present_0"], attributes: { axis: 1 } },
    { op: "Transpose", name: "turn", inputs: ["present_0"], outputs: ["t"], attributes: { perm: [0, 2, 1] } },
    { op: "MatMul", name: "scores", inputs: ["x", "t"], outputs: ["y"], attributes: {} },
  ],
  inputs: [
    { name: "x", type: "float32", dims: [1, 1, 4] },
    { name: "past_0", type: "float32", dims: [1, 0, 4], open: { 1: "past" } },
  ],
  outputs: [
    { name: "y", type: "float32", dims: [1, 1, 0], open: { 2: "all" } },
    { name: "present_0", type: "float32", dims: [1, 0, 4], open: { 1: "all" } },
  ],
  initializers: [],
});

/** A TensorProto: dims, FLOAT, raw data. */
const proto = (dims: readonly number[], values: readonly number[]): Uint8Array => {
  const raw = new Uint8Array(Float32Array.from(values).buffer);
  return Uint8Array.from([...dims.flatMap((dim) => [0x08, dim]), 0x10, 1, 0x4a, raw.length, ...raw]);
};

/** A case whose first data set has an empty past, and its second three rows. */
function writeCase(name: string, { past = PAST, present = [...past, ...X] }: { past?: number[]; present?: number[] }) {
  const sets = [
    { rows: 0, past: [], products: [30], present: X },
    { rows: 3, past, products: PRODUCTS, present },
  ];
  for (const [index, set] of sets.entries()) {
    const place = join(folder, name, `test_data_set_${index}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "input_0.pb"), proto([1, 1, 4], X));
    writeFileSync(join(place, "input_1.pb"), proto([1, set.rows, 4], set.past));
    writeFileSync(join(place, "output_0.pb"), proto([1, 1, set.rows + 1], set.products));
    writeFileSync(join(place, "output_1.pb"), proto([1, set.rows + 1, 4], set.present));
  }
  writeFileSync(join(folder, name, "model.onnx"), decoder);
}

const CHIPS = {
  system: undefined,
  chips: undefined,
  dead: [],
  stages: undefined,
  tensor: undefined,
  weights: "fp16",
  keep: [],
} as const;

async function verified(name: string, asked: Partial<VerifyRequest> = {}): Promise<CaseResult | undefined> {
  const request: VerifyRequest = {
    ...{ cases: [join(folder, name)], target: "tiny", tolerance: 5e-3, state: "auto" },
    ...{ ...CHIPS, ...asked },
  };
  const nothing = (): void => undefined;
  const { cases } = await verifyJob(request, {
    task: nothing,
    note: nothing,
    part: nothing,
    ask: async () => undefined,
  });
  return cases[0];
}

test("data sets of all lengths are entries of one program, on one chip and on two", async () => {
  for (const chips of [{}, { stages: 2 }, { tensor: 2 }] as const) {
    const result = await verified("right", chips);
    expect([result?.reason, result?.status]).toEqual(["", "passed"]);
    expect(result?.outputs.map(({ name, relL2 }) => [name, relL2])).toEqual([
      ["y", 0],
      ["present_0", 0],
    ]);
    expect(result?.cycles).toBe(result?.predictedCycles);
  }
});

test("a run reads the past that is given, and the rows that it leaves are compared", async () => {
  expect((await verified("another past"))?.reason).toMatch(/^test_data_set_1: output 'y': expected relative L2 error/);
  expect((await verified("another present"))?.reason).toMatch(
    /^test_data_set_1: output 'present_0': expected relative/,
  );
});

test("a state that the model does not have is refused", async () => {
  expect((await verified("right", { state: { h: "y" } }))?.reason).toMatch(/^LPU1014: state 'h'/);
});
