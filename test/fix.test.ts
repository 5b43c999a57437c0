/**
 * Inputs that are fixed: `--fix` and the API give the same program, an input that is fixed is none of the program, and what does
 * not fit is a coded error with a way forward.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "@jest/globals";
import { parseFixes } from "../bin/arguments.js";
import { modelBytes, type OnnxNode, type ValueInfo } from "../models/onnx-writer.js";
import { CompileError, didYouMean, nearestNames } from "../src/diagnostics.js";
import { type FixedValue, importModel } from "../src/index.js";
import { bytesSource } from "../src/frontend/source.js";
import { readTensorFile, readWideFile } from "../src/host/files.js";
import { tensorOf } from "../src/ir/tensor.js";
import { encodeNpy } from "../src/host/npy.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "metronome-fix-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const input = (name: string, type: ValueInfo["type"], ...dims: number[]): ValueInfo => ({ name, type, dims });
const node = (op: string, inputs: string[], outputs: string[]): OnnxNode => ({
  op,
  name: `the_${op.toLowerCase()}`,
  inputs,
  outputs,
  attributes: {},
});
/** Reshapes `x` to `shape`, and keeps it where `keep` is true. */
const bytes = modelBytes({
  name: "m",
  opset: 18,
  nodes: [node("Reshape", ["x", "shape"], ["a"]), node("Where", ["keep", "a", "zero"], ["y"])],
  inputs: [
    input("x", "float32", 2, 1, 3),
    input("shape", "int64", 2),
    input("keep", "bool"),
    input("zero", "float32", 1, 1),
  ],
  outputs: [input("y", "float32", 2, 3)],
  initializers: [],
});
const graphOf = (fix: Record<string, FixedValue>) => importModel(bytesSource("m", bytes), { bind: {}, fix });
const errorOf = (fix: Record<string, FixedValue>): CompileError => {
  try {
    graphOf(fix);
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
  throw new CompileError("LPU5000", { message: "expected an error" });
};

describe("values of inputs", () => {
  test("lists and tensors are the same constants, and their inputs are gone", () => {
    const listed = graphOf({ shape: [2, -1], keep: [true], zero: [0.5] });
    const given = graphOf({
      shape: tensorOf("i32", [2], [2, -1]),
      keep: tensorOf("bool", [], [1]),
      zero: tensorOf("f32", [1, 1], [0.5]),
    });
    expect(listed.inputs.map((id) => listed.nodes[id]?.attrs["name"])).toEqual(["x"]);
    expect(listed.nodes.map(({ op, type }) => [op, type])).toEqual(given.nodes.map(({ op, type }) => [op, type]));
    expect(listed.nodes[listed.outputs[0]?.node ?? 0]?.type.shape).toEqual([2, 3]);
  });

  test.each<[string, Record<string, FixedValue>, RegExp, RegExp]>([
    ["a name that is nearly right", { shap: [3, 2] }, /no input 'shap'/, /did you mean 'shape'\? its inputs are 'x', /],
    ["a name like none", { q: [3, 2] }, /no input 'q'/, /^its inputs are 'x', 'shape', 'keep', 'zero'$/],
    ["a fraction for integers", { shape: [1.5, 2] }, /expects elements of i64, got 1.5 at element 0/, /whole numbers/],
    ["an integer beyond 32 bits", { shape: [3, 2 ** 40] }, /expects elements of i64, got 1099511627776/, /32 bits/],
    ["2 as a truth value", { shape: [2, 3], keep: [2] }, /expects elements of bool, got 2/, /true and false/],
    ["true as a number", { shape: [true, true] }, /expects numbers for i64\[2\]/, /truth values/],
    ["too many elements", { shape: [2, 3], zero: [1, 2] }, /expects 1 elements for f32\[1,1\], got 2/, /row-major/],
    [
      "too many elements for a scalar",
      { shape: [2, 3], keep: [true, true] },
      /expects 1 elements for bool\[\]/,
      /row-major/,
    ],
    ["another shape", { shape: tensorOf("i32", [1, 2], [3, 2]) }, /expects 1 dimensions/, /declares/],
    [
      "another type",
      { shape: tensorOf("f32", [2], [3, 2]) },
      /expects i64\[2\], got a constant of f32\[2\]/,
      /element type/,
    ],
  ])("%s is LPU1005", (_, fix, message, hint) => {
    const { code, details } = errorOf(fix);
    expect([code, details.message, details.hint ?? ""]).toEqual([
      "LPU1005",
      expect.stringMatching(message),
      expect.stringMatching(hint),
    ]);
  });

  test("all names that are wrong are said at once", () => {
    expect(errorOf({ p: [1], q: [1] }).others).toHaveLength(1);
  });
});

describe("integers beyond 32 bits in a file", () => {
  const path = join(folder, "ends.npy");
  const words = new BigInt64Array([2n ** 63n - 1n]);
  writeFileSync(path, encodeNpy({ dtype: "i64", shape: [1], bytes: new Uint8Array(words.buffer) }));
  const model = (op: OnnxNode["op"], inputs: string[]): Uint8Array =>
    modelBytes({
      name: "m",
      opset: 18,
      nodes: [node(op, inputs, ["y"])],
      inputs: [input("x", "float32", 5), input("starts", "int64", 1), input("ends", "int64", 1)],
      outputs: [input("y", op === "Slice" ? "float32" : "int64")],
      initializers: [],
    });
  const fix = { starts: [2], ends: readWideFile(path) };

  test("mean the end where a slice ends there", () => {
    const graph = importModel(bytesSource("m", model("Slice", ["x", "starts", "ends"])), { bind: {}, fix });
    expect(graph.nodes[graph.outputs[0]?.node ?? 0]?.type.shape).toEqual([3]);
  });

  test("are refused where they are numbers, and where they are given when the program runs", () => {
    const sum = (): unknown => importModel(bytesSource("m", model("Add", ["starts", "ends"])), { bind: {}, fix });
    expect(sum).toThrow("LPU2003: expected an integer of 32 bits, element 0 is 9223372036854775807");
    expect(() => readTensorFile(path)).toThrow(
      "LPU2003: expected an integer of 32 bits, element 0 is 9223372036854775807",
    );
  });
});

describe("on the command line", () => {
  const lpu = (command: string, ...args: string[]) =>
    spawnSync(process.execPath, [join(ROOT, `dist/bin/${command}.js`), ...args], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache") },
    });
  writeFileSync(join(folder, "m.onnx"), bytes);
  const words = new BigInt64Array([2n, 3n]);
  writeFileSync(
    join(folder, "shape.npy"),
    encodeNpy({ dtype: "i64", shape: [2], bytes: new Uint8Array(words.buffer) }),
  );

  test("elements", () => {
    expect(parseFixes(["k=5", "axes=1,-2,3", "flag=true", "x=-1.5e3,inf,NaN", "m=a=b.npy", "p=x.PB"])).toEqual({
      k: [5],
      axes: [1, -2, 3],
      flag: [true],
      x: [-1500, Number.POSITIVE_INFINITY, Number.NaN],
      m: "a=b.npy",
      p: "x.PB",
    });
  });

  test("a file and a list build the same image, other values another", () => {
    const build = (...fixes: string[]) => {
      const ran = lpu("lpuit", "m.onnx", "--json", ...fixes.flatMap((fix) => ["--fix", fix]));
      expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      return JSON.parse(ran.stdout);
    };
    const listed = build("shape=2,3", "keep=true");
    expect([listed.fixed, listed.cached]).toEqual([["shape", "keep"], false]);
    expect(build("shape=shape.npy", "keep=true").sha256).toBe(listed.sha256);
    expect(build("shape=2,3", "keep=true").cached).toBe(true);
    expect(build("shape=2,3", "keep=false")).toMatchObject({
      cached: false,
      sha256: expect.not.stringContaining(listed.sha256),
    });
  });

  test("check takes them too", () => {
    const unfixed = JSON.parse(lpu("lpu", "check", "m.onnx", "--json").stdout);
    expect(unfixed.problems).toMatchObject([{ code: "LPU1011", hint: expect.stringContaining("--fix") }]);
    const fixed = JSON.parse(lpu("lpu", "check", "m.onnx", "--fix", "shape=2,3", "--json").stdout);
    expect(fixed).toMatchObject({ supported: true, problems: [] });
  });

  test.each([
    ["k", "LPU5008", 2],
    ["k=one", "LPU5008", 2],
    ["k=", "LPU5008", 2],
    ["shape=none.npy", "LPU5001", 1],
    ["shape=m.npy", "LPU5002", 1],
    ["k=5", "LPU1005", 1],
  ])("--fix %s is %s", (fix, code, status) => {
    writeFileSync(join(folder, "m.npy"), "not an array");
    const ran = lpu("lpu", "build", "m.onnx", "--fix", fix);
    expect([ran.status, ran.stderr]).toEqual([status, expect.stringContaining(`error ${code}: `)]);
  });
});

describe("names that are near", () => {
  test("few letters differ, and what is only alike is not near", () => {
    const known = ["Size", "Reshape", "Transpose", "MatMul", "Softmax"];
    expect(nearestNames("SoftMax", known)).toEqual(["Softmax"]);
    expect(nearestNames("MatMull", known)).toEqual(["MatMul"]);
    expect(nearestNames("Resize", known)).toEqual([]);
    expect(nearestNames("ConvTranspose", known)).toEqual([]);
    expect(nearestNames("Scan", ["Sin", "Tan"])).toEqual([]);
    expect(didYouMean("input_idz", ["input_ids", "input_ix"])).toBe("did you mean 'input_ids' or 'input_ix'? ");
  });
});
