import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ALU_FUNCTIONS } from "../src/ir/isa.js";
import { f16ToF32, widenFloat } from "../src/ir/numerics.js";
import { sure } from "../src/diagnostics.js";
import { DIRECT_KERNELS, DIRECT_STEP, DIRECT_VECTORS } from "../src/runtime/kernels/direct.js";
import { createMemory, type MachineMemory } from "../src/runtime/kernels/table.js";
import {
  bestEngine,
  bindKernels,
  compileKernels,
  ENGINES,
  KERNEL_NAMES,
  KERNELS,
} from "../src/runtime/kernels/kernels.js";

/**
 * Every emitted kernel gives the bits of its reference, over boundary values and random bits; only payloads of NaNs that are
 * still inside of a unit may differ.
 */

const HALF = 16;
const LANES = 2 * HALF;
const SIZE = 1 << 18;
const DATA = 0x8000;
/** Beyond the numbers of half64. */
const BITS = 0x18000;
const OUT = 0x20000;
const engines = ENGINES.slice(ENGINES.indexOf(bestEngine())).filter((engine) => engine !== "plain");

type Content = "bytes" | "f32" | "half64" | "i16";
interface Case {
  /** What the data area holds. */
  readonly content: Content;
  /** Element type of the result, for comparing NaNs. */
  readonly result: "bytes" | "f32" | "f64";
  readonly values: Readonly<Record<string, number>>;
}

/** Kernels of weights as they lie, what a weight's bits are, and their bytes. */
const WIDENED: readonly (readonly [string, (bits: number) => number, number])[] = [
  ["multiplyE4m3", (bits) => widenFloat("f8e4m3", bits), 1],
  ["multiplyF16", f16ToF32, 2],
];

const ROW = DATA + 8 * HALF;
/** Planes of weights anywhere among the bits, strides of either sign. */
function directCase(name: string, count: number, add: number): Case {
  const planes = sure(KERNELS[name], name).arguments.filter((argument) => argument.startsWith("src"));
  const numbers = planes.flatMap((_, index) => [
    [`src${index}`, BITS + 0x800 + index * 0x703],
    [`stride${index}`, [LANES, 3 * LANES, -LANES, 0][index % 4]],
  ]);
  const row = { a: ROW, scaled: DATA, c: OUT, cStep: 8 * DIRECT_VECTORS, count, executions: 3, add };
  return { content: "half64", result: "f32", values: { ...row, ...Object.fromEntries(numbers) } };
}

const rowsOf = { rows: 5, lanes: LANES };
const CASES: Readonly<Record<string, readonly Case[]>> = {
  widenRows: [
    {
      content: "bytes",
      result: "f64",
      values: {
        dst: OUT,
        lo: DATA,
        loStride: LANES,
        hi: DATA + 0x1000,
        hiStride: 3 * LANES,
        rows: 5,
        flags: OUT + 0x8001,
      },
    },
  ],
  loadPanels: [8, HALF].map((lanes) => ({
    content: "bytes",
    result: "f64",
    values: {
      dst: OUT,
      dstStep: HALF * 32,
      executions: 3,
      lanes,
      lo0: DATA,
      lo1: DATA + HALF,
      lo2: DATA + 512,
      lo3: DATA + 700,
      loStride0: LANES,
      loStride1: LANES,
      loStride2: 0,
      loStride3: -LANES,
      hi0: DATA + 999,
      hi1: DATA + 1024,
      hi2: DATA + 2048,
      hi3: DATA + 3000,
      hiStride0: LANES,
      hiStride1: 64,
      hiStride2: LANES,
      hiStride3: LANES,
    },
  })),
  widenE4m3: [
    {
      content: "bytes",
      result: "bytes",
      values: { lo: OUT, hi: OUT + 0x1000, src: DATA, srcStride: LANES + 5, ...rowsOf },
    },
  ],
  multiply: [0, 1].flatMap((add) =>
    [1, 3, 4, 9].map((rows) => ({
      content: "half64",
      result: "f32",
      values: {
        a: DATA,
        w: DATA + 0x4000,
        c: OUT,
        rows,
        panels: 3,
        count: HALF - 4,
        panelStep: HALF * 32,
        cStride: LANES * 4,
        add,
      },
    })),
  ),
  ...Object.fromEntries(
    Object.keys(DIRECT_KERNELS).map((name) => [
      name,
      [0, 1].flatMap((add) => [8, HALF].map((count): Case => directCase(name, count, add))),
    ]),
  ),
  multiplyBytes: [0, 1].map((add) => ({
    content: "i16",
    result: "bytes",
    values: { a: DATA, aStride: 48, w: DATA + 0x4000, c: OUT, rows: 3, columns: 8, width: LANES, cStride: 64, add },
  })),
  copyRows: [
    {
      content: "bytes",
      result: "bytes",
      values: { dst: OUT, dstStride: 40, src: DATA, srcStride: -32, rows: 4, bytes: 32 },
    },
  ],
  fillRows: [{ content: "bytes", result: "bytes", values: { dst: OUT, stride: 40, rows: 4, bytes: 32 } }],
  extractPlane: [2, 4].flatMap((laneStride) =>
    [0, 1, 3]
      .filter((byte) => byte < laneStride)
      .map((byte) => ({
        content: "bytes",
        result: "bytes",
        values: { dst: OUT, dstStride: LANES, src: DATA + byte, srcStride: LANES * laneStride, laneStride, ...rowsOf },
      })),
  ),
  loadHalfPlanes: [
    {
      content: "bytes",
      result: "f32",
      values: { dst: OUT, lo: DATA, loStride: LANES, hi: DATA + 777, hiStride: 2 * LANES, ...rowsOf },
    },
  ],
  loadHalf: [{ content: "bytes", result: "f32", values: { dst: OUT, src: DATA, srcStride: 4 * LANES, ...rowsOf } }],
  loadWordPlanes: [
    {
      content: "bytes",
      result: "bytes",
      values: {
        dst: OUT,
        b0: DATA,
        b0Stride: LANES,
        b1: DATA + 512,
        b1Stride: 64,
        b2: DATA + 1000,
        b2Stride: 0,
        b3: DATA + 3000,
        b3Stride: -32,
        ...rowsOf,
      },
    },
  ],
  intToFloat: [{ content: "bytes", result: "f32", values: { dst: OUT, src: DATA, srcStride: 8 * LANES, ...rowsOf } }],
  storeHalf: [{ content: "f32", result: "bytes", values: { dst: OUT, src: DATA, count: 1024 } }],
  storeFloat: [{ content: "f32", result: "bytes", values: { dst: OUT, src: DATA, count: 1024 } }],
};

const ALU_INTS = Object.entries(ALU_FUNCTIONS).flatMap(([name, { int }]) => (int ? [`alu.${name}`] : []));

function caseOf(name: string): readonly Case[] {
  const known = CASES[name];
  if (known !== undefined) return known;
  const int = ALU_INTS.includes(name);
  const values = {
    dst: OUT,
    a: DATA,
    aStride: LANES * 4,
    b: DATA + 0x2000,
    bStride: 0,
    c: DATA + 0x1ff0,
    cStride: 256,
    ...rowsOf,
  };
  return [{ content: int ? "bytes" : "f32", result: int ? "bytes" : "f32", values }];
}

const HARD = [
  0,
  1,
  0.5,
  2,
  65504,
  65519.9,
  65520,
  6e-5,
  2 ** -14,
  2 ** -24,
  2 ** -25,
  2 ** -25 * 1.0001,
  3e38,
  1e-45,
  88.7,
  103.9,
  110,
  9.02,
  3.92,
  2049,
  2051,
].flatMap((x) => [x, -x]);

function fill(memory: MachineMemory, content: Content, bits: readonly number[]): void {
  const words = new Uint32Array(memory.wasm.buffer);
  words.fill(0xa5a5a5a5);
  const next = (i: number): number => Math.imul((bits[i % bits.length] ?? 0) + i * 0x9e3779b1, 0x85ebca6b) >>> 0;
  for (let i = 0; i < (OUT - DATA) / 4; i++) {
    const random = next(i) ^ (next(i + 1) >>> 15);
    words[DATA / 4 + i] = random;
    if (content === "f32" && i % 3 !== 0)
      memory.f32[DATA / 4 + i] =
        i % 3 === 1 ? (HARD[(random >>> 3) % HARD.length] ?? 0) : ((random >>> 8) / 2 ** 24 - 0.5) * 2 ** (random % 12);
  }
  if (content === "half64") {
    // Mostly finite, so that the order of the sum shows.
    for (let i = 0; i < (BITS - DATA) / 8; i++)
      memory.f64[DATA / 8 + i] = f16ToF32(next(i) % (i % 61 === 0 ? 0x10000 : 0x7c00));
    for (let i = 0; i < 1024; i++) memory.f32[OUT / 4 + i] = ((next(i) >>> 8) / 2 ** 24) * 100;
  }
}

/** The result area, with every NaN the same. */
function result(memory: MachineMemory, type: Case["result"]): Uint8Array {
  const bytes = new Uint8Array(memory.wasm.buffer.slice(OUT));
  if (type === "bytes") return bytes;
  const numbers = type === "f32" ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
  for (let i = 0; i < numbers.length; i++) if (Number.isNaN(numbers[i])) numbers[i] = Number.NaN;
  return bytes;
}

describe("kernels", () => {
  const plain = createMemory(SIZE);
  const reference = bindKernels(plain, compileKernels("plain", HALF));
  for (const engine of engines) {
    const memory = createMemory(SIZE);
    const emitted = bindKernels(memory, compileKernels(engine, HALF));
    KERNEL_NAMES.forEach((name, index) => {
      const row = KERNELS[name];
      if (row?.emit === undefined) return;
      test(`${name} on '${engine}' equals its reference`, () => {
        fc.assert(
          fc.property(fc.array(fc.integer(), { minLength: 4, maxLength: 40 }), (bits) => {
            for (const { content, result: type, values } of caseOf(name)) {
              for (const [m, bound] of [
                [plain, reference[index]],
                [memory, emitted[index]],
              ] as const) {
                fill(m, content, bits);
                row.arguments.forEach((argument, at) => {
                  m.i32[16 + at] = values[argument] ?? Number.NaN;
                });
                bound?.(64);
              }
              expect(Buffer.compare(result(plain, type), result(memory, type))).toBe(0);
            }
          }),
          { numRuns: 6 },
        );
      });
    });
  }

  // Weights k = 0 of all columns go through every number there is; the others meet zeros.
  for (const engine of engines) {
    for (const activation of [1, -65504, 2 ** -24]) {
      test(`all FP8 and fp16 weights times ${activation} on '${engine}'`, () => {
        const memory = createMemory(SIZE);
        const emitted = bindKernels(memory, compileKernels(engine, HALF));
        for (const [name, widen, bytes] of WIDENED) {
          const index = KERNEL_NAMES.indexOf(name);
          const { values } = directCase(name, DIRECT_STEP, 0);
          const wrong: number[] = [];
          for (let from = 0; from < 256 ** bytes; from += 2 * DIRECT_VECTORS) {
            memory.f64.fill(0, ROW / 8, ROW / 8 + DIRECT_STEP).fill(activation, ROW / 8, ROW / 8 + 1);
            memory.u8.fill(0, BITS, OUT);
            KERNELS[name]?.arguments.forEach((argument, at) => {
              const number = /^(src|stride)(\d+)$/.exec(argument);
              if (number?.[1] === "src") {
                const plane = Number(number[2]);
                for (const half of [0, 1])
                  memory.u8[BITS + plane * LANES + half * HALF] =
                    (from + Math.floor(plane / bytes) * 2 + half) >> (8 * (plane % bytes));
              }
              const fixed = { ...values, executions: 1 }[argument] ?? Number.NaN;
              memory.i32[16 + at] = number?.[1] === "src" ? BITS + Number(number[2]) * LANES : fixed;
            });
            emitted[index]?.(64);
            for (let column = 0; column < 2 * DIRECT_VECTORS; column++) {
              const [found, expected] = [
                memory.f32[OUT / 4 + column],
                Math.fround(widen(from + column) * activation) + 0,
              ];
              if (!Object.is(found, expected)) wrong.push(from + column);
            }
          }
          expect(wrong).toEqual([]);
        }
      });
    }
  }

  test("every kernel's document is a sentence", () => {
    for (const { doc } of Object.values(KERNELS)) expect(doc).toMatch(/\.$/);
  });
});
