/**
 * NaNs and infinities are named: the output, the element, and the first node that made one on the way.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "@jest/globals";
import { modelBytes, type OnnxNode, type ValueInfo } from "../models/onnx-writer.js";
import { culpritOf, findNonFinite } from "../src/ir/nonfinite.js";
import { parseGraph } from "../src/ir/parse.js";
import { tensorOf } from "../src/ir/tensor.js";
import { encodeNpy } from "../src/host/npy.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "metronome-nonfinite-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("where and by whom", () => {
  test("the first element, and how many", () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    expect(findNonFinite(tensorOf("f16", [4], [1, inf, nan, -inf]))).toEqual({
      element: 1,
      value: "Infinity",
      count: 3,
    });
    expect(findNonFinite(tensorOf("f32", [2], [1, -2]))).toBeUndefined();
    expect(findNonFinite(tensorOf("i32", [2], [1, -2]))).toBeUndefined();
  });

  const graph = parseGraph(
    [
      "graph @main(%0: f16[2]) {",
      '  %1 = mul(%0, %0) : f16[2] from "square"',
      '  %2 = sub(%1, %1) : f16[2] from "difference"',
      '  %3 = neg(%2) : f16[2] from "sign"',
      '  %4 = exp(%0) : f16[2] from "other"',
      "  return %3, %4",
      "}",
      "",
    ].join("\n"),
  );
  const [bad = "", good = ""] = graph.outputs.map(({ name }) => name);
  const [input = ""] = graph.inputs.map((id) => String(graph.nodes[id]?.attrs["name"]));

  test("a NaN is made by the node whose operands have none, of an infinity that fp16 made", () => {
    const culprit = culpritOf(graph, { [input]: tensorOf("f32", [2], [1, 300]) }, bad, "NaN");
    expect(culprit).toEqual({ node: "difference (sub)", infinityBy: "square (mul)" });
  });

  test("only nodes on the way to the output count, and finite values blame nobody", () => {
    expect(culpritOf(graph, { [input]: tensorOf("f32", [2], [1, 300]) }, good, "Infinity")).toEqual({
      node: "other (exp)",
    });
    expect(culpritOf(graph, { [input]: tensorOf("f32", [2], [1, 2]) }, bad, "NaN")).toBeUndefined();
  });
});

describe("on the command line", () => {
  const floats = (name: string, ...dims: number[]): ValueInfo => ({ name, type: "float32", dims });
  const node = (op: string, inputs: string[], output: string): OnnxNode => ({
    op,
    name: `the_${output}`,
    inputs,
    outputs: [output],
    attributes: {},
  });
  const data = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
  /** A TensorProto: dims, FLOAT, raw data. */
  const proto = (dims: readonly number[], values: readonly number[]): Uint8Array => {
    const raw = data(values);
    return Uint8Array.from([...dims.flatMap((dim) => [0x08, dim]), 0x10, 1, 0x4a, raw.length, ...raw]);
  };
  // Products of fp16 numbers whose sums do not fit in fp16, and what becomes of their infinity.
  const model = modelBytes({
    name: "m",
    opset: 18,
    nodes: [node("MatMul", ["x", "w"], "a"), node("MatMul", ["a", "v"], "y"), node("Exp", ["x"], "z")],
    inputs: [floats("x", 1, 4)],
    outputs: [floats("y", 1, 2), floats("z", 1, 4)],
    initializers: [
      { ...floats("w", 4, 4), chunks: () => [data(new Array<number>(16).fill(200))] },
      { ...floats("v", 4, 2), chunks: () => [data([1, 1, -1, 1, 0.5, 1, 1, 1])] },
    ],
  });
  const place = join(folder, "case");
  const set = join(place, "test_data_set_0");
  mkdirSync(set, { recursive: true });
  writeFileSync(join(place, "model.onnx"), model);
  writeFileSync(join(set, "input_0.pb"), proto([1, 4], [300, 300, 300, 300]));
  writeFileSync(join(set, "output_0.pb"), proto([1, 2], [360000, 960000]));
  const lpu = (...args: string[]) =>
    spawnSync(process.execPath, [join(ROOT, "dist/bin/lpu.js"), ...args], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache") },
    });

  test("verify names output, element and node, and no figure is null", () => {
    const ran = lpu("verify", "case", "--json");
    const [result] = JSON.parse(ran.stdout).cases;
    expect([ran.status, result.status]).toEqual([1, "failed"]);
    expect(result.reason).toMatch(/output 'y': element 0: expected 360000, found (NaN|Infinity).* is made by the_/);
    expect(result.nonFinite).toMatchObject([
      {
        output: "y",
        element: 0,
        value: expect.stringMatching(/NaN|Infinity/),
        madeBy: expect.stringMatching(/^the_[ay] /),
      },
    ]);
    expect(JSON.stringify([result.outputs, result.nonFinite])).not.toContain("null");
  });

  test("run names output and element", () => {
    expect(lpu("build", join("case", "model.onnx"), "-o", "m.lpu").status).toBe(0);
    writeFileSync(join(folder, "x.npy"), encodeNpy({ dtype: "f32", shape: [1, 4], bytes: data([300, 300, 300, 300]) }));
    const [y, z] = JSON.parse(lpu("run", "m.lpu", "-i", "x=x.npy", "--json").stdout).outputs;
    expect([y.nonFinite.element, z.nonFinite]).toEqual([0, { element: 0, value: "Infinity", count: 4 }]);
    expect(lpu("run", "m.lpu", "-i", "x=x.npy").stdout).toMatch(
      /z +f32\[1,4\].*element 0 is Infinity, and 3 more are not finite/,
    );
  });
});
