/** The host edge: inputs go where their placements say, outputs come back, types convert, and what does not fit is an error. */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { CompileError } from "../src/diagnostics.js";
import { type DType, DTYPES } from "../src/ir/dtype.js";
import type { Tensor } from "../src/ir/graph.js";
import { encodeF16, widenFloats } from "../src/ir/numerics.js";
import type { Binding, Placement } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { fetchOutput, placeInput } from "../src/runtime/binding.js";
import { Sram } from "../src/runtime/sram.js";

const { tiny } = TARGETS;

/** Rows by dimension 0, columns by dimension 1 in panels of 16 lanes; every plane on a slice of its own. */
function rowMajor(dtype: DType, rows: number, columns: number, ways = 1): Placement {
  const { bytes } = DTYPES[dtype];
  return {
    dtype,
    factors: [
      { dim: 0, divide: 1, extent: rows, row: 1, column: 0 },
      { dim: 1, divide: 1, extent: columns, row: 0, column: 1 },
    ],
    rows,
    columns,
    ways,
    panels: Array.from({ length: Math.ceil(columns / tiny.lanes) }, (_, panel) => ({
      planes: Array.from({ length: ways * bytes }, (_, plane) => ({
        chip: 0,
        hemisphere: "W" as const,
        slice: plane,
        row: 10 + panel * rows,
      })),
    })),
  };
}

const binding = (
  declared: Binding["declared"],
  shape: readonly number[],
  ...placements: readonly Placement[]
): Binding => ({
  name: "x",
  declared,
  shape,
  placements,
});

const codeOf = (run: () => unknown): string => {
  try {
    run();
    return "none";
  } catch (error) {
    return (error as CompileError).code;
  }
};

describe("placing and fetching", () => {
  test("what is placed comes back, for any size and interleaving", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 4 }),
        (rows, columns, ways) => {
          const sram = new Sram(tiny, 1);
          const data = Float32Array.from({ length: rows * columns }, (_, i) => Math.fround(Math.sin(i)));
          const bound = binding("f32", [rows, columns], rowMajor("f32", rows, columns, ways));
          placeInput(bound, { dtype: "f32", shape: [rows, columns], data }, sram);
          expect(fetchOutput(bound, sram)).toEqual({ dtype: "f32", shape: [rows, columns], data });
        },
      ),
      { numRuns: 40 },
    );
  });

  test("bytes lie where the placement says, and unused lanes are zero", () => {
    const sram = new Sram(tiny, 1);
    sram.bytes.fill(0xee);
    const values = Uint16Array.from({ length: 3 * 20 }, (_, i) => 0x100 * i + 255 - i);
    placeInput(binding("u16", [3, 20], rowMajor("u16", 3, 20)), { dtype: "u16", shape: [3, 20], data: values }, sram);
    const word = values[1 * 20 + 17] ?? 0;
    expect([sram.span(0, "W", 0, 14, 1)[1], sram.span(0, "W", 1, 14, 1)[1]]).toEqual([word & 255, word >> 8]);
    expect([...sram.span(0, "W", 0, 14, 1).subarray(4)]).toEqual(Array.from({ length: 12 }, () => 0));
    expect([sram.isWritten(0, "W", 0, 15), sram.isWritten(0, "W", 0, 16)]).toEqual([true, false]);
  });

  test("a dimension may be split between rows and columns (heads)", () => {
    const sram = new Sram(tiny, 1);
    const placement: Placement = {
      ...rowMajor("i8", 4, 8),
      factors: [
        { dim: 0, divide: 1, extent: 2, row: 1, column: 0 },
        { dim: 1, divide: 8, extent: 2, row: 2, column: 0 },
        { dim: 1, divide: 1, extent: 8, row: 0, column: 1 },
      ],
    };
    const data = Int8Array.from({ length: 32 }, (_, i) => i);
    placeInput(binding("i8", [2, 16], placement), { dtype: "i8", shape: [2, 16], data }, sram);
    expect([...sram.span(0, "W", 0, 13, 1).subarray(0, 8)]).toEqual([24, 25, 26, 27, 28, 29, 30, 31]);
  });

  test("element types convert at the edge", () => {
    const sram = new Sram(tiny, 1);
    const data = Float32Array.of(1 / 3, -60000, Number.NaN, 5);
    const asF16 = binding("f32", [1, 4], rowMajor("f16", 1, 4));
    placeInput(asF16, { dtype: "f32", shape: [1, 4], data }, sram);
    expect(fetchOutput(asF16, sram).data).toEqual(widenFloats("f16", encodeF16(data)));
    const ids = binding("i64", [1, 4], rowMajor("u16", 1, 4));
    placeInput(ids, { dtype: "i32", shape: [1, 4], data: Int32Array.of(0, 1, 65535, 7) }, sram);
    expect(fetchOutput(ids, sram)).toEqual({ dtype: "i32", shape: [1, 4], data: Int32Array.of(0, 1, 65535, 7) });
    const flags = binding("bool", [1, 4], rowMajor("f16", 1, 4));
    placeInput(flags, { dtype: "bool", shape: [1, 4], data: Uint8Array.of(0, 1, 1, 0) }, sram);
    expect(fetchOutput(flags, sram).data).toEqual(Uint8Array.of(0, 1, 1, 0));
  });

  test("the host looks rows of a table up, negative ids from the end", () => {
    const sram = new Sram(tiny, 1);
    const table = Uint16Array.from({ length: 5 * 6 }, (_, i) => i);
    const placement: Placement = {
      ...rowMajor("f16", 3, 6),
      factors: [
        { dim: 1, divide: 1, extent: 3, row: 1, column: 0 },
        { dim: 2, divide: 1, extent: 6, row: 0, column: 1 },
      ],
    };
    const lookup = {
      origin: "embedding",
      dtype: "f16",
      rows: 5,
      width: 6,
      bytes: () => new Uint8Array(table.buffer),
    } as const;
    const bound = { ...binding("i64", [1, 3], placement), lookup };
    const ids = (...values: number[]): Tensor => ({ dtype: "i32", shape: [1, 3], data: Int32Array.from(values) });
    placeInput(bound, ids(2, 0, -1), sram);
    const placed = fetchOutput(binding("f16", [1, 3, 6], placement), sram).data;
    expect([...placed]).toEqual([12, 0, 24].flatMap((start) => [0, 1, 2, 3, 4, 5].map((i) => start + i)));
    expect(codeOf(() => placeInput(bound, ids(2, 5, 0), sram))).toBe("LPU4031");
    expect(codeOf(() => placeInput(bound, ids(2, -6, 0), sram))).toBe("LPU4031");
  });

  test("what does not fit is refused", () => {
    const sram = new Sram(tiny, 1);
    const bound = binding("i32", [1, 2], rowMajor("i8", 1, 2));
    const place = (data: Tensor["data"], dtype: DType = "i32"): string =>
      codeOf(() => placeInput(bound, { dtype, shape: [1, 2], data }, sram));
    expect(place(Int32Array.of(1, 127))).toBe("none");
    expect(place(Int32Array.of(1, 128))).toBe("LPU4030");
    expect(place(Int32Array.of(1))).toBe("LPU4030");
    expect(place(Float32Array.of(1, 2), "f32")).toBe("LPU4030");
    expect(() => fetchOutput(binding("i32", [1, 2], rowMajor("i32", 1, 2)), new Sram(tiny, 1))).toThrow("LPU4033");
  });

  test("finite numbers stay finite in fp16, or are refused by place", () => {
    const bound = binding("f32", [1, 3], rowMajor("f16", 1, 3));
    const place = (...values: number[]): void =>
      placeInput(bound, { dtype: "f32", shape: [1, 3], data: Float32Array.from(values) }, new Sram(tiny, 1));
    place(65519, Number.NEGATIVE_INFINITY, Number.NaN);
    expect(() => place(1, 2, -65520)).toThrow("LPU4030: input 'x': element 2 is -65520, beyond f16");
  });
});
