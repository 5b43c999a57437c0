/**
 * Tensors at the edge: .npy files there and back, narrowing, and what is said about inputs that do not fit.
 */

import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { CompileError, type DiagnosticCode } from "../src/diagnostics.js";
import { bindInputs, fileFromTensor, type InputValue, type TensorSpec, wideFromFile } from "../src/host/edge.js";
import {
  makeFolder,
  openModel,
  readTensorFile,
  removeUnfinished,
  writeAtomically,
  writeTensorFile,
} from "../src/host/files.js";
import type { EdgeDType } from "../src/ir/dtype.js";
import { narrowTensor, tensorOf, toNumbers } from "../src/ir/tensor.js";
import { decodeNpy, encodeNpy } from "../src/host/npy.js";

const folder = mkdtempSync(join(tmpdir(), "metronome-edge-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** All codes of what `work` raises, in order. */
function codesOf(work: () => unknown): DiagnosticCode[] {
  try {
    work();
  } catch (error) {
    if (error instanceof CompileError) return [error.code, ...error.others.map((other) => other.code)];
    throw error;
  }
  return [];
}

const narrowed = (...file: Parameters<typeof wideFromFile>) => narrowTensor(wideFromFile(...file));

const bytes = (...parts: (string | number[])[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...Buffer.from(part, "latin1")] : part)));

function npy(header: string, data: number[], version = 1): Uint8Array {
  const length =
    version === 1 ? [header.length & 255, header.length >> 8] : [header.length & 255, header.length >> 8, 0, 0];
  return bytes("\x93NUMPY", [version, 0], length, header, data);
}

describe(".npy", () => {
  test("what is written is read again, for every dtype that a file can hold", () => {
    const widths: Partial<Record<EdgeDType, number>> = {
      f32: 4,
      f64: 8,
      f16: 2,
      i64: 8,
      u64: 8,
      i32: 4,
      u32: 4,
      i16: 2,
      u16: 2,
      i8: 1,
      u8: 1,
      bool: 1,
    };
    const dtypes = Object.keys(widths) as EdgeDType[];
    fc.assert(
      fc.property(
        fc.constantFrom(...dtypes),
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
        (dtype, shape, source) => {
          const size = shape.reduce((product, extent) => product * extent, 1) * (widths[dtype] ?? 0);
          const tensor = { dtype, shape, bytes: Uint8Array.from(source.take(size)) };
          const file = encodeNpy(tensor);
          expect((file.length - size) % 64).toBe(0);
          expect(decodeNpy(file, "t.npy")).toEqual(tensor);
        },
      ),
    );
  });

  test("column-major and big-endian files become row-major and little-endian", () => {
    const file = npy(
      "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n",
      [0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6],
    );
    const { dtype, shape, bytes: data } = decodeNpy(file, "t.npy");
    expect([dtype, shape, [...new Int16Array(data.slice().buffer)]]).toEqual(["i16", [2, 3], [1, 2, 3, 4, 5, 6]]);
  });

  test("a scalar and a version 2 header are read", () => {
    expect(decodeNpy(npy("{'descr': '|u1', 'fortran_order': False, 'shape': ()}", [7], 2), "t.npy")).toEqual({
      dtype: "u8",
      shape: [],
      bytes: Uint8Array.of(7),
    });
  });

  test.each([
    ["nothing", bytes()],
    ["other bytes", bytes("PK\x03\x04 and so on")],
    ["a cut header", bytes("\x93NUMPY", [1, 0, 200, 0], "{'descr'")],
    ["a header without shape", npy("{'descr': '<f4', 'fortran_order': False}", [])],
    ["a structured type", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", [0, 0, 0, 0])],
    ["an object type", npy("{'descr': '|O8', 'fortran_order': False, 'shape': (1,)}", [0, 0, 0, 0, 0, 0, 0, 0])],
    ["too few elements", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", [0, 0, 0, 0])],
    ["an absurd shape", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999, 4)}", [0])],
    ["a version of the future", npy("{}", [], 9)],
  ])("%s is refused", (_, file) => {
    expect(codesOf(() => decodeNpy(file, "t.npy"))).toEqual(["LPU5002"]);
  });
});

describe("files", () => {
  test("a tensor is written in the dtype that the model declares", () => {
    const path = join(folder, "ids.npy");
    const ids = tensorOf("i32", [3], [1, -2, 2147483647]);
    writeTensorFile(path, ids, "i64");
    expect(readTensorFile(path)).toEqual(ids);
  });

  test("narrow floats without a type in files are written as fp32", () => {
    const file = fileFromTensor(tensorOf("bf16", [2], [1.5, -3]), "bf16");
    expect([file.dtype, [...toNumbers(narrowed(file, "t"))]]).toEqual(["f32", [1.5, -3]]);
  });

  test.each([2n ** 40n, 2n ** 31n, 2n ** 63n - 1n, -(2n ** 63n)])("int64 that does not fit is refused: %s", (value) => {
    const file = { dtype: "i64", shape: [2], bytes: new Uint8Array(new BigInt64Array([0n, value]).buffer) } as const;
    expect(() => narrowed(file, "'t.npy'")).toThrow(`LPU2003: expected an integer of 32 bits, element 1 is ${value}`);
  });

  test("fp64 beyond fp32 is refused, and its infinities are none the less", () => {
    const file = (...values: number[]) =>
      ({ dtype: "f64", shape: [values.length], bytes: new Uint8Array(new Float64Array(values).buffer) }) as const;
    expect(() => narrowed(file(1, -1e39), "t")).toThrow("LPU2003: expected a number within fp32, element 1 is -1e+39");
    const fine = [Number.POSITIVE_INFINITY, Number.NaN, 1e-50, 3e38];
    expect(Array.from(toNumbers(narrowed(file(...fine), "t")))).toEqual([...fine.slice(0, 2), 0, Math.fround(3e38)]);
  });

  test("a write that breaks leaves neither the file nor a part of it", () => {
    function* broken(): Generator<Uint8Array> {
      yield Uint8Array.of(1, 2, 3);
      throw new CompileError("LPU2001", { message: "in the middle" });
    }
    const place = mkdtempSync(join(folder, "write-"));
    expect(codesOf(() => writeAtomically(join(place, "image.lpu"), broken()))).toEqual(["LPU2001"]);
    expect(readdirSync(place)).toEqual([]);
    expect(codesOf(() => writeAtomically(join(place, "no", "such", "folder"), []))).toEqual(["LPU5003"]);
  });

  test("a folder is made with those above it; where there is a file, or no room for one, that is said at once", () => {
    const place = mkdtempSync(join(folder, "made-"));
    makeFolder(join(place, "a", "b"));
    makeFolder(join(place, "a", "b"));
    expect(readdirSync(join(place, "a"))).toEqual(["b"]);
    writeFileSync(join(place, "file"), "");
    for (const path of ["file", join("file", "under")])
      expect(codesOf(() => makeFolder(join(place, path)))).toEqual(["LPU5003"]);
    // Node's own way of making folders above never comes back from there.
    if (existsSync("/proc/self")) expect(codesOf(() => makeFolder("/proc/none/under"))).toEqual(["LPU5003"]);
  });

  test("external data is found beside the model only, also through links", () => {
    const place = mkdtempSync(join(folder, "external-"));
    writeFileSync(join(folder, "secret.bin"), "secret");
    writeFileSync(join(place, "model.onnx"), "");
    writeFileSync(join(place, "weights.bin"), "weights");
    symlinkSync(join("..", "secret.bin"), join(place, "link.bin"));
    const model = openModel(join(place, "model.onnx"));
    const size = (location: string): number | undefined => model.source.external?.size(location);
    expect(size("weights.bin")).toBe(7);
    expect(size("none.bin")).toBeUndefined();
    for (const location of ["../secret.bin", join(folder, "secret.bin"), "link.bin", "a/../../secret.bin"]) {
      expect([location, codesOf(() => size(location))]).toEqual([location, ["LPU1006"]]);
    }
    expect(new TextDecoder().decode(model.source.external?.read("weights.bin", 2, 3))).toBe("igh");
    model.close();
  });

  test("a folder, a missing file and a file of another kind are refused", () => {
    expect(codesOf(() => openModel(folder))).toEqual(["LPU5001"]);
    expect(codesOf(() => readTensorFile(join(folder, "none.npy")))).toEqual(["LPU5001"]);
    expect(codesOf(() => readTensorFile(join(folder, "table.csv")))).toEqual(["LPU5002"]);
  });

  test("what an interrupt leaves is removed, in a folder that may not be there yet", () => {
    const own = `.image.lpu.${process.pid}-1.tmp`;
    const other = `.image.lpu.${process.pid + 1}-1.tmp`;
    for (const name of [own, other, "image.lpu"]) writeFileSync(join(folder, name), "");
    removeUnfinished(folder);
    const left = readdirSync(folder);
    expect(left).not.toContain(own);
    expect(left).toEqual(expect.arrayContaining([other, "image.lpu"]));
    expect(() => removeUnfinished(join(folder, "absent"))).not.toThrow();
  });
});

describe("inputs", () => {
  const specs: readonly TensorSpec[] = [
    { name: "ids", dtype: "i64", shape: [1, 3] },
    { name: "mask", dtype: "bool", shape: [3] },
    { name: "x", dtype: "f32", shape: [2] },
  ];
  const good: Record<string, InputValue> = {
    ids: [1, 2, 3],
    mask: Uint8Array.of(1, 0, 1),
    x: tensorOf("f32", [2], [0.5, 1]),
  };

  test("arrays take the declared shape and dtype", () => {
    const { ids, mask, x } = bindInputs(specs, {
      ...good,
      ids: BigInt64Array.of(1n, 2n, -3n),
      x: Float64Array.of(0.5, 1),
    });
    expect(ids).toEqual(tensorOf("i32", [1, 3], [1, 2, -3]));
    expect(mask).toEqual(tensorOf("bool", [3], [1, 0, 1]));
    expect(x).toEqual(tensorOf("f32", [2], [0.5, 1]));
  });

  test.each<[string, Record<string, InputValue>, DiagnosticCode[]]>([
    ["nothing wrong", {}, []],
    ["an unknown name", { idz: [1] }, ["LPU5004"]],
    ["another shape", { ids: tensorOf("i32", [3], [1, 2, 3]) }, ["LPU5006"]],
    ["another length", { x: [1, 2, 3] }, ["LPU5006"]],
    ["another dtype", { ids: tensorOf("f32", [1, 3], [1, 2, 3]) }, ["LPU5007"]],
    ["another array type", { x: Int32Array.of(1, 2) }, ["LPU5007"]],
    ["a greater integer", { ids: BigInt64Array.of(1n, 2n ** 63n - 1n, 0n) }, ["LPU2003"]],
    ["the least one of 64 bits", { ids: BigInt64Array.of(1n, -(2n ** 63n), 0n) }, ["LPU2003"]],
    ["a greater integer, as a number", { ids: [1, 2 ** 63, 3] }, ["LPU5007"]],
    ["a number beyond fp32", { x: [1, 1e39] }, ["LPU5007"]],
    ["infinities", { x: [Number.NEGATIVE_INFINITY, Number.NaN] }, []],
    ["a fraction for an integer", { ids: [1, 2.5, 3] }, ["LPU5007"]],
    ["everything at once", { idz: [1], ids: [1], x: Int32Array.of(1, 2) }, ["LPU5004", "LPU5006", "LPU5007"]],
  ])("%s", (_, change, codes) => {
    expect(codesOf(() => bindInputs(specs, { ...good, ...change }))).toEqual(codes);
  });

  test("missing inputs are named with what they should be", () => {
    try {
      bindInputs(specs, { constructor: [1] });
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      const problems = [error, ...error.others];
      expect(problems.map((problem) => problem.code)).toEqual(["LPU5004", "LPU5005", "LPU5005", "LPU5005"]);
      expect(problems.map((problem) => problem.details.hint)).toEqual([
        "the program takes 'ids' i64[1,3], 'mask' bool[3], 'x' f32[2]",
        "expected 'ids' i64[1,3]",
        "expected 'mask' bool[3]",
        "expected 'x' f32[2]",
      ]);
      return;
    }
    throw new Error("nothing was raised");
  });
});
