/** The literal machine: what every instruction does, how tight every latency is, and every fault. */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { readImage, writeImage } from "../src/codegen/image/image.js";
import { MachineFault } from "../src/diagnostics.js";
import { aluBinary, aluUnary } from "../src/ir/functions.js";
import { f16ToF32, f32ToF16 } from "../src/ir/numerics.js";
import { chosenEntry, type Program, parseQueueName, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { placeConstants, Sram } from "../src/runtime/sram.js";
import {
  getF16,
  getF32,
  getRow,
  getWords,
  type ProgramOptions,
  programOf,
  runText,
  setF16,
  setF32,
  setRow,
  setWords,
} from "./machine-text.js";
import { mutate, randomProgram } from "./random-program.js";

const { tiny } = TARGETS;
const { timing, lanes } = tiny;
const HALF = lanes / 2;
const ramp = (start: number, step = 1): number[] => Array.from({ length: lanes }, (_, lane) => start + step * lane);
const bytes = (values: readonly number[]): number[] => values.map((value) => value & 255);

/** Positions on the tiny target: slices 0-3 at 1, 4-7 at 2, ..., SXM 5, MXM 8; west negative. */
const MXM = tiny.mxm;
const SXM = tiny.sxm;

/** The code of the fault that a program raises, or "none". */
function faultOf(lines: string, prepare: (sram: Sram) => void = fill, options: ProgramOptions = {}): string {
  try {
    runText(lines, prepare, options);
    return "none";
  } catch (error) {
    if (error instanceof MachineFault) return error.code;
    throw error;
  }
}

/** Rows 0..15 and 2048..2063 of every slice have contents. */
function fill(sram: Sram): void {
  for (const hemisphere of ["W", "E"] as const) {
    for (let slice = 0; slice < tiny.slices; slice++) {
      for (const bank of [0, tiny.rowsPerBank]) {
        for (let row = bank; row < bank + 16; row++)
          sram.span(0, hemisphere, slice, row, 1).set(bytes(ramp(slice * 3 + row, 7)));
        sram.markWritten(0, hemisphere, slice, bank, 16);
      }
    }
  }
}

describe("memory", () => {
  test("a burst of reads flows east across the chip into a burst of writes", () => {
    const { sram, cycles } = runText(
      `mem.w0 40 read 3 e5 x4 /2 +2
       mem.e7 44 write 100 e5 x4 /2 +1`,
      fill,
    );
    for (let i = 0; i < 4; i++) expect(getRow(sram, `e7:${100 + i}`)).toEqual(getRow(sram, `w0:${3 + 2 * i}`));
    expect(cycles).toEqual([44 + 6 + timing.memWrite]);
  });

  test("a tap leaves the value on the stream, a take removes it", () => {
    const lines = (tap: string): string => `mem.w4 40 read 1 e0
      mem.w0 42 write 20 e0${tap}
      mem.e0 44 write 20 e0`;
    const { sram } = runText(lines("~"), fill);
    expect(getRow(sram, "e0:20")).toEqual(getRow(sram, "w4:1"));
    expect(getRow(sram, "w0:20")).toEqual(getRow(sram, "w4:1"));
    expect(faultOf(lines(""))).toBe("LPU4002");
  });

  test("gather reads a row for each superlane, scatter writes one", () => {
    const addresses = Array.from({ length: lanes }, (_, lane) => (lane % 4 === 0 ? 2048 + lane / 4 : 9999));
    const { sram } = runText(
      `mem.e4 40 read 8 w2
       mem.e5 40 read 8 w3
       mem.w0 44 gather stream=e0 map=w2
       mem.w1 46 write 30 e0`,
      (own) => {
        fill(own);
        setWords(own, "e4:8", 2, addresses);
      },
    );
    for (let lane = 0; lane < lanes; lane++)
      expect(getRow(sram, "w1:30")[lane]).toBe(getRow(sram, `w0:${2048 + Math.floor(lane / 4)}`)[lane]);

    const scattered = runText(
      `mem.e4 40 read 8 w2
       mem.e5 40 read 8 w3
       mem.e6 40 read 3 w0
       mem.w0 44 scatter w0 w2`,
      (own) => {
        fill(own);
        setWords(own, "e4:8", 2, addresses);
      },
    ).sram;
    for (let lane = 0; lane < lanes; lane++) {
      expect(getRow(scattered, `w0:${2048 + Math.floor(lane / 4)}`)[lane]).toBe(getRow(scattered, "e6:3")[lane]);
    }
    expect(getRow(scattered, "w0:2048")[5]).toBe((2048 + 7 * 5) & 255);
  });
});

describe("vector unit", () => {
  const load = (sram: Sram): void => {
    setF16(sram, "w0:0", ramp(-2, 0.25));
    setF16(sram, "w0:1", ramp(3, -0.5));
  };
  /** Both bytes of row r of w0 and w1 on e0, e1 at the VXM at `cycle`. */
  const feed = (row: number, stream: number, cycle: number): string =>
    `mem.w0 ${cycle - 2} read ${row} e${stream}
     mem.w1 ${cycle - 2} read ${row} e${stream + 1}`;

  test("unary: a stream operand is taken before dispatch, the result is given in two directions", () => {
    const { sram } = runText(
      `${feed(0, 0, 50)}
       vxm.3 54 unary tanh e0 f16 e4 w8 f32
       ${[0, 1, 2, 3].map((b) => `mem.e${b} 58 write 9 e${4 + b}`).join("\n")}
       ${[0, 1, 2, 3].map((b) => `mem.w${4 + b} 59 write 9 w${8 + b}`).join("\n")}`,
      load,
    );
    const expected = ramp(-2, 0.25).map((x) => aluUnary.tanh(x));
    expect(getF32(sram, "e0:9")).toEqual(expected);
    expect(getF32(sram, "w4:9")).toEqual(expected);
  });

  test("binary and ternary: chaining at age 0 and later, constants, taps", () => {
    const { sram } = runText(
      `${feed(0, 0, 50)}
       vxm.0 54 binary mul e0~ f16 0.5 f32 as=f32
       vxm.1 54 unary neg e0 f16 as=f32
       vxm.2 57 binary add alu0@0 f16 alu1@0 f16 as=f32
       vxm.3 60 binary lt alu2@0 f32 0 f32 as=f32
       vxm.4 63 ternary select a=alu3@0 typeA=f32 b=alu0@6 typeB=f32 c=alu2@3 typeC=f32 give=e4 as=f16
       mem.e0 67 write 9 e4
       mem.e1 67 write 9 e5`,
      load,
    );
    const expected = ramp(-2, 0.25).map((x) => (aluBinary.add(0.5 * x, -x) < 0 ? 0.5 * x : aluBinary.add(0.5 * x, -x)));
    expect(getF16(sram, "e0:9")).toEqual(expected);
  });

  test("conversions: floats saturate and round to even, integers wrap, truth is 0 or 1", () => {
    const values = [
      -300,
      -1.5,
      -0.5,
      0.5,
      1.5,
      2.5,
      300,
      70000,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      0,
      1,
      2,
      3,
      4,
      5,
    ];
    const convert = (type: string, width: number): number[] => {
      const { sram } = runText(
        `${[0, 1, 2, 3].map((b) => `mem.w${b} 48 read 2 e${b}`).join("\n")}
         vxm.0 54 unary copy e0 f32 e4 as=${type}
         ${Array.from({ length: width }, (_, b) => `mem.e${b} 58 write 9 e${4 + b}`).join("\n")}`,
        (own) => setF32(own, "w0:2", values),
      );
      return getWords(sram, "e0:9", width);
    };
    expect(
      convert("i8", 1)
        .slice(0, 10)
        .map((v) => (v << 24) >> 24),
    ).toEqual([-128, -2, 0, 0, 2, 2, 127, 127, 0, 127]);
    expect(convert("u8", 1).slice(0, 10)).toEqual([0, 0, 0, 0, 2, 2, 255, 255, 0, 255]);
    expect(
      convert("i16", 2)
        .slice(6, 10)
        .map((v) => (v << 16) >> 16),
    ).toEqual([300, 32767, 0, 32767]);
    expect(convert("i32", 4).slice(6, 10)).toEqual([300, 70000, 0, 0x7fffffff]);
    expect(convert("bool", 1).slice(6, 12)).toEqual([1, 1, 1, 1, 0, 1]);
    expect(convert("f16", 2)[8]).toBe(0x7e00);
    expect(convert("f32", 4)[8]).toBe(0x7fc00000);
  });

  test("integer functions compute modulo 2^32 and narrow modulo", () => {
    const { sram } = runText(
      `${[0, 1, 2, 3].map((b) => `mem.w${b} 48 read 2 e${b}`).join("\n")}
       vxm.0 54 binary mulInt e0 i32 65537 i32 e4 as=i32
       vxm.1 57 binary addInt alu0@0 i32 1 i32 e8 as=u8
       ${[0, 1, 2, 3].map((b) => `mem.e${b} 58 write 9 e${4 + b}`).join("\n")}
       mem.e4 62 write 9 e8`,
      (own) => setWords(own, "w0:2", 4, ramp(0x12345678, 0x01010101)),
    );
    const product = ramp(0x12345678, 0x01010101).map((v) => Math.imul(v, 65537));
    expect(getWords(sram, "e0:9", 4)).toEqual(product);
    expect(getRow(sram, "e4:9")).toEqual(product.map((v) => (v + 1) & 255));
  });

  test("config: lanes beyond the vector length are given as zero", () => {
    const { sram } = runText(
      `mem.w0 40 config 8 0
       mem.w0 41 read 1 e0
       mem.e0 44 write 9 e0`,
      fill,
    );
    expect(getRow(sram, "e0:9")).toEqual(getRow(sram, "w0:1").map((v, lane) => (lane < 8 ? v : 0)));
  });
});

describe("matrix unit", () => {
  const weight = (n: number, k: number): number => f16ToF32(f32ToF16(Math.sin(n * 17 + k * 3)));
  const activation = (m: number, k: number): number => f16ToF32(f32ToF16(Math.cos(m * 5 + k)));
  const product = (m: number, n: number, from = 0): number => {
    let sum = 0;
    for (let k = 0; k < HALF; k++) sum += activation(m, from + k) * weight(n, k);
    return Math.fround(sum);
  };
  /** Weights packed in w0, w1 (two columns a row), activations in w4, w5. */
  const load = (sram: Sram): void => {
    for (let pair = 0; pair < lanes / 2; pair++) {
      setF16(
        sram,
        `w0:${pair}`,
        Array.from({ length: lanes }, (_, lane) => weight(2 * pair + Math.floor(lane / HALF), lane % HALF)),
      );
    }
    for (let m = 0; m < 4; m++)
      setF16(
        sram,
        `w4:${m}`,
        Array.from({ length: lanes }, (_, lane) => activation(m, lane)),
      );
  };
  /** Reads dispatched at t from slice position p arrive at the western MXM at t + 1 + 8 - p. */
  const lw = 60;
  const feedWeights = `mem.w0 ${lw + timing.mxmWeightSkew - 8} read 0 w0 x8 +1
    mem.w1 ${lw + timing.mxmWeightSkew - 8} read 0 w1 x8 +1
    mxm.w0.weights ${lw} lw w0 packed 1 0 0 ${HALF} 1 x8`;
  const iw = lw + 7 + timing.mxmLoad;
  const feed = (
    abc: number,
    mode: string,
    count = 4,
  ): string => `mem.w4 ${abc + timing.mxmActivationSkew - 7} read 0 w8 x${count} +1
    mem.w5 ${abc + timing.mxmActivationSkew - 7} read 0 w9 x${count} +1
    mxm.w0.activations ${abc} abc w8 ${mode} x${count}`;
  const store = (acc: number, count = 4): string =>
    [0, 1, 2, 3]
      .map((b) => `mem.e${b} ${acc + timing.mxmAccumulate + MXM + 1} write 50 e${12 + b} x${count} +1`)
      .join("\n");

  test("fp16: load, install, multiply, accumulate", () => {
    const abc = iw + timing.mxmInstall;
    const acc = abc + timing.mxmMultiply;
    const { sram, counters } = runText(
      `${feedWeights}
       mxm.w0.weights ${iw} iw
       ${feed(abc, "low")}
       mxm.w0.accumulate ${acc} acc 0 set e12 x4
       ${store(acc)}`,
      load,
    );
    for (let m = 0; m < 4; m++) expect(getF32(sram, `e0:${50 + m}`)).toEqual(ramp(0).map((n) => product(m, n)));
    expect(counters[0]?.macs).toBe(4 * HALF * lanes);
  });

  test("fp16: passes add up in fp32, and a new array is met exactly from mxmInstall on", () => {
    const abc = iw + timing.mxmInstall;
    const acc = abc + timing.mxmMultiply;
    const { sram } = runText(
      `${feedWeights}
       mxm.w0.weights ${iw} iw
       ${feed(abc, "low")}
       ${feed(abc + 4, "high")}
       mxm.w0.accumulate ${acc} acc 0 set x4
       mxm.w0.accumulate ${acc + 4} acc 0 add e12 x4
       ${store(acc + 4)}`,
      load,
    );
    for (let m = 0; m < 4; m++) {
      expect(getF32(sram, `e0:${50 + m}`)).toEqual(
        ramp(0).map((n) => Math.fround(product(m, n) + product(m, n, HALF))),
      );
    }
  });

  test("fp16: low mode loads one column and keeps only the lanes asked for; iwStream goes past the buffer", () => {
    const abc = lw + 7 + timing.mxmWeightSkew + timing.mxmInstall;
    const acc = abc + timing.mxmMultiply;
    const lines = (at: number): string => `mem.w0 ${lw + timing.mxmWeightSkew - 8} read 0 w0 x8 +1
      mem.w1 ${lw + timing.mxmWeightSkew - 8} read 0 w1 x8 +1
      mxm.w0.weights ${lw} iwStream w0 low 1 4 2 3 1 x8
      ${feed(at, "low", 1)}
      mxm.w0.accumulate ${at + timing.mxmMultiply} acc 0 set e12
      ${store(acc, 1)}`;
    const { sram } = runText(lines(abc), load);
    const expected = ramp(0).map((n) => {
      if (n < 4 || n >= 12) return 0;
      let sum = 0;
      for (let k = 0; k < HALF; k++) sum += activation(0, k) * (k >= 2 && k < 5 ? weight(2 * (n - 4), k) : 0);
      return Math.fround(sum);
    });
    expect(getF32(sram, "e0:50")).toEqual(expected);
    expect(faultOf(lines(abc - 1), load)).toBe("LPU4011");
  });

  test("a stronger vector of ways fills several columns at once", () => {
    const abc = iw + timing.mxmInstall;
    const acc = abc + timing.mxmMultiply;
    const { sram } = runText(
      `${[0, 1, 2, 3].map((g) => `mem.w${2 * g} ${iw - 1 + timing.mxmWeightSkew - 8 + (g > 1 ? 1 : 0)} read 0 w${2 * g}\nmem.w${2 * g + 1} ${iw - 1 + timing.mxmWeightSkew - 8 + (g > 1 ? 1 : 0)} read 0 w${2 * g + 1}`).join("\n")}
       mxm.w0.weights ${iw - 1} lw w0 packed 4 0 0 ${HALF} 1
       mxm.w0.weights ${iw} iw
       mem.w8 ${abc + timing.mxmActivationSkew - 6} read 0 w8
       mem.w9 ${abc + timing.mxmActivationSkew - 6} read 0 w9
       mxm.w0.activations ${abc} abc w8 low
       mxm.w0.accumulate ${acc} acc 0 set e12
       ${store(acc, 1)}`,
      (sram) => {
        for (let g = 0; g < 4; g++) setF16(sram, `w${2 * g}:0`, ramp(g, 0.125));
        setF16(sram, "w8:0", ramp(1, 0));
      },
    );
    const column = (n: number): number =>
      ramp(Math.floor(n / 2), 0.125)
        .slice((n % 2) * HALF, (n % 2) * HALF + HALF)
        .reduce((a, b) => a + b, 0);
    expect(getF32(sram, "e0:50")).toEqual(ramp(0).map((n) => (n < 8 ? column(n) : 0)));
  });

  test("int8: each plane by itself, all lanes, sums in int32", () => {
    const abc = lw + 16 + timing.mxmInstall;
    const acc = abc + timing.mxmMultiply;
    const w = (n: number, k: number): number => ((n * 37 + k * 11) % 256) - 128;
    const a = (m: number, k: number): number => ((m * 29 + k * 53) % 256) - 128;
    const { sram } = runText(
      `mem.e0 ${lw + timing.mxmWeightSkew - 8} read 0 e0 x16 +1
       mxm.e1.weights ${lw} lw e0 full 1 0 0 ${lanes} 1 x16
       mxm.e1.weights ${lw + 16} iw
       mem.e4 ${abc + timing.mxmActivationSkew - 7} read 0 e8 x3 +1
       mxm.e1.activations ${abc} abc e8 full x3
       mxm.e1.accumulate ${acc} acc 5 set w4 x3
       ${[0, 1, 2, 3].map((b) => `mem.w${b} ${acc + timing.mxmAccumulate + MXM + 1} write 50 w${4 + b} x3 +1`).join("\n")}`,
      (own) => {
        for (let n = 0; n < lanes; n++) setRow(own, `e0:${n}`, bytes(ramp(0).map((k) => w(n, k))));
        for (let m = 0; m < 3; m++) setRow(own, `e4:${m}`, bytes(ramp(0).map((k) => a(m, k))));
      },
    );
    for (let m = 0; m < 3; m++) {
      expect(getWords(sram, `w0:${50 + m}`, 4)).toEqual(
        ramp(0).map((n) => ramp(0).reduce((sum, k) => sum + a(m, k) * w(n, k), 0)),
      );
    }
  });

  test("tightness and faults", () => {
    const run = (change: { iw?: number; abc?: number; acc?: number; more?: string; lw?: string }): string => {
      const installed = iw + (change.iw ?? 0);
      const abc = iw + timing.mxmInstall + (change.abc ?? 0);
      return faultOf(
        `${change.lw ?? feedWeights}
         mxm.w0.weights ${installed} iw
         ${feed(abc, "low", 1)}
         mxm.w0.accumulate ${abc + timing.mxmMultiply + (change.acc ?? 0)} acc 0 set e12
         ${change.more ?? ""}`,
        load,
      );
    };
    expect(run({})).toBe("none");
    expect(run({ iw: 1 })).toBe("LPU4011");
    expect(run({ abc: -1 })).toBe("LPU4011");
    expect(run({ acc: -1 })).toBe("LPU4012");
    expect(run({ acc: 1 })).toBe("LPU4012");
    expect(run({ more: `mxm.w0.weights ${iw + 1} iw` })).toBe("LPU4010");
    expect(run({ more: `${feed(200, "low", 1)}\nmxm.w0.accumulate ${200 + timing.mxmMultiply} acc 1 add` })).toBe(
      "LPU4013",
    );
    expect(run({ more: `${feed(200, "low", 1)}\nmxm.w0.accumulate ${200 + timing.mxmMultiply} acc 1 set w12` })).toBe(
      "LPU4008",
    );
    expect(run({ more: "mxm.w0.activations 300 abc w8 low" })).toBe("LPU4002");
    expect(run({ more: `${feed(300, "low", 1).replace("mxm.w0", "mxm.w1")}` })).toBe("LPU4008");
    const slow = { ...tiny, timing: { ...timing, mxmLoad: 3 } };
    const early = (at: number): string => faultOf(`${feedWeights}\nmxm.w0.weights ${at} iw`, load, { target: slow });
    expect([early(lw + 7 + 2), early(lw + 7 + 3)]).toEqual(["LPU4010", "none"]);
  });

  test("the next weights load while the array computes", () => {
    const abc = iw + timing.mxmInstall;
    const next = iw + 1;
    const { sram } = runText(
      `${feedWeights}
       mxm.w0.weights ${iw} iw
       mem.w0 ${next + timing.mxmWeightSkew - 8} read 8 w0 x8 +1
       mem.w1 ${next + timing.mxmWeightSkew - 8} read 8 w1 x8 +1
       mxm.w0.weights ${next} lw w0 packed 1 0 0 ${HALF} 1 x8
       mxm.w0.weights ${next + 8} iw
       ${feed(next + 8 + timing.mxmInstall - 1, "low", 2)}
       mxm.w0.accumulate ${next + 8 + timing.mxmInstall - 1 + timing.mxmMultiply} acc 0 set e12 x2
       ${store(next + 8 + timing.mxmInstall - 1 + timing.mxmMultiply, 2)}`,
      (own) => {
        load(own);
        for (let pair = 0; pair < 8; pair++) setF16(own, `w0:${8 + pair}`, ramp(0, 0));
      },
    );
    expect(abc).toBeLessThan(next + 8);
    expect(getF32(sram, "e0:50")).toEqual(ramp(0).map((n) => product(0, n)));
    expect(getF32(sram, "e0:51")).toEqual(ramp(0, 0));
  });
});

describe("switch unit", () => {
  const row = bytes(ramp(1, 9));
  const other = bytes(ramp(100, 3));
  /** Feeds w0:1 on w0 and w1:1 on w1 to the western SXM at cycle 50; the result on e4 is stored at e0:9. */
  const through = (instruction: string, latency: number, options: ProgramOptions = {}): number[] => {
    const { sram } = runText(
      `mem.w0 45 read 1 w0
       mem.w1 45 read 1 w1
       sxm.w0 50 ${instruction}
       mem.e0 ${50 + latency + SXM + 1} write 9 e4`,
      (own) => {
        setRow(own, "w0:1", row);
        setRow(own, "w1:1", other);
      },
      options,
    );
    return getRow(sram, "e0:9");
  };

  test("shift and rotate", () => {
    expect(through("shift w0 3 u8 e4", timing.sxmShift)).toEqual(row.map((_, lane) => row[lane - 3] ?? 0));
    expect(through("shift w0 -3 u8 e4", timing.sxmShift)).toEqual(row.map((_, lane) => row[lane + 3] ?? 0));
    expect(through("rotate w0 5 u8 e4", timing.sxmRotate)).toEqual(row.map((_, lane) => row[(lane + 11) % 16]));
    expect(through("rotate w0 -5 u8 e4", timing.sxmRotate)).toEqual(row.map((_, lane) => row[(lane + 5) % 16]));
  });

  test("permute, distribute and select by lane maps", () => {
    const reversed = ramp(15, -1);
    reversed[2] = -1;
    expect(through("permute w0 0 u8 e4", timing.sxmPermute, { maps: [reversed] })).toEqual(
      reversed.map((s) => row[s] ?? 0),
    );
    const within = [3, 3, -1, 0];
    expect(through("distribute w0 0 u8 e4", timing.sxmDistribute, { maps: [within] })).toEqual(
      row.map((_, lane) => ((within[lane % 4] ?? -1) < 0 ? 0 : row[lane - (lane % 4) + (within[lane % 4] ?? 0)])),
    );
    const flags = ramp(0).map((lane) => lane % 3);
    expect(through("select w0 w1 0 u8 e4", timing.sxmSelect, { maps: [flags] })).toEqual(
      row.map((v, lane) => (flags[lane] === 0 ? v : other[lane])),
    );
  });

  test("transpose works in every superlane on as many streams as it has lanes", () => {
    const { sram } = runText(
      `${[0, 1, 2, 3].map((s) => `mem.w${s} 45 read 1 w${s}`).join("\n")}
       sxm.w3 50 transpose w0 e4
       ${[0, 1, 2, 3].map((s) => `mem.e${s} ${50 + timing.sxmTranspose + SXM + 1} write 9 e${4 + s}`).join("\n")}`,
      fill,
    );
    for (let stream = 0; stream < 4; stream++) {
      expect(getRow(sram, `e${stream}:9`)).toEqual(
        ramp(0).map((lane) => getRow(sram, `w${lane % 4}:1`)[lane - (lane % 4) + stream]),
      );
    }
  });

  test("send and receive over a loopback link and between chips; a vector may wait", () => {
    const lines = (receive: number, to: string): string => `mem.w0 45 read 1 w0
      sxm.w0 50 send w0 1
      ${to}sxm.w1 ${receive} receive 0 e4
      ${to}mem.e0 ${receive + timing.c2cReceive + SXM + 1} write 9 e4`;
    const loop: ProgramOptions = { links: [{ fromChip: 0, fromLink: 1, toChip: 0, toLink: 0 }] };
    const across: ProgramOptions = { links: [{ fromChip: 0, fromLink: 1, toChip: 1, toLink: 0 }], chips: 2 };
    const arrival = 50 + timing.c2cSend + timing.linkLatency;
    expect(getRow(runText(lines(arrival, ""), fill, loop).sram, "e0:9")).toEqual(bytes(ramp(1, 7)));
    const { sram, cycles } = runText(lines(arrival + 9, "1:"), fill, across);
    expect(getRow(sram, "1:e0:9")).toEqual(bytes(ramp(1, 7)));
    expect(cycles[0]).toBeLessThan(cycles[1] ?? 0);
    expect(faultOf(lines(arrival - 1, ""), fill, loop)).toBe("LPU4015");
    expect(faultOf(lines(arrival, ""), fill)).toBe("LPU4015");
  });

  test("a link takes a vector every linkInterval cycles", () => {
    const lines = (next: number): string => `mem.w0 45 read 1 w0
      mem.w0 ${next - 5} read 2 w0
      sxm.w0 50 send w0 1
      sxm.w1 ${next} send w0 1`;
    const loop: ProgramOptions = { links: [{ fromChip: 0, fromLink: 1, toChip: 0, toLink: 0 }] };
    const free = 50 + timing.linkInterval;
    expect([faultOf(lines(free - 1), fill, loop), faultOf(lines(free), fill, loop)]).toEqual(["LPU4015", "none"]);
  });

  test("deskew waits for the next epoch", () => {
    const lines = (next: number): string => `sxm.w0 50 deskew
      mem.w0 ${next - 5} read 1 w0
      sxm.w0 ${next} shift w0 1 u8 e4`;
    expect([faultOf(lines(255)), faultOf(lines(256))]).toEqual(["LPU4007", "none"]);
  });
});

/** Instructions that the encoder makes itself, and queues that the encoder would refuse. */
describe("queues", () => {
  const own = (
    op: TimedInstruction["op"],
    cycle: number,
    fields: TimedInstruction["fields"] = {},
  ): TimedInstruction => ({
    cycle,
    op,
    fields,
    count: 1,
    interval: 1,
    step: 0,
    tap: 0,
    origin: 0,
  });
  const runQueues = (queues: Readonly<Record<string, readonly TimedInstruction[]>>): string => {
    const program = programOf("");
    const all = program.chips[0]?.queues.map((queue) => [...queue]) ?? [];
    for (const [name, instructions] of Object.entries(queues)) all[parseQueueName(tiny, name) ?? 0] = [...instructions];
    try {
      runLiteral({ ...program, chips: [{ queues: all, constants: [], maps: [] }] }, new Sram(tiny, 1));
      return "none";
    } catch (error) {
      if (error instanceof MachineFault) return error.code;
      throw error;
    }
  };
  const config = (cycle: number): TimedInstruction => own("config", cycle, { length: 16, power: 1 });

  test("sync waits for the one notify", () => {
    const barrier = (next: number): string =>
      runQueues({ "vxm.0": [own("notify", 0)], "vxm.1": [own("sync", 0), config(next)] });
    expect([barrier(timing.barrier - 1), barrier(timing.barrier)]).toEqual(["LPU4007", "none"]);
    expect(runQueues({ "vxm.1": [own("sync", 0)] })).toBe("LPU4016");
    expect(runQueues({ "vxm.1": [own("notify", 0)], "vxm.2": [own("notify", 50)] })).toBe("LPU4016");
  });

  test("nop keeps the queue busy", () => {
    const resumed = (next: number): string => runQueues({ "vxm.1": [own("nop", 10, { cycles: 7 }), config(next)] });
    expect([resumed(16), resumed(17)]).toEqual(["LPU4007", "none"]);
  });

  test("parts of bursts cannot stand alone", () => {
    expect(runQueues({ "vxm.1": [own("repeat", 10, { count: 1, interval: 1 })] })).toBe("LPU4008");
    expect(runQueues({ "mem.w1": [own("step", 10, { rows: 1 })] })).toBe("LPU4008");
    expect(runQueues({ "mem.w1": [own("countdown", 10, { interval: 1 })] })).toBe("LPU4008");
    expect(runQueues({ "mem.w1": [own("iterations", 10, { count: 2 })] })).toBe("LPU4008");
  });

  test("a queue repeats to its end before it goes on; address generators run beside it", () => {
    const alu = (next: number): string => `vxm.0 40 unary neg 1 f32 as=f32 x4 /3
      vxm.0 ${next} unary neg 1 f32 as=f32`;
    expect([faultOf(alu(49)), faultOf(alu(50))]).toEqual(["LPU4007", "none"]);
    expect(faultOf("mem.w0 40 read 0 e0 x4 +1\nmem.w0 40 read 4 e1")).toBe("LPU4007");
    expect(faultOf("mem.w0 40 read 0 e0 x4 +1\nmem.e0 43 write 2050 e0 x4 +1\nmem.e0 44 read 0 e1 x2 +1")).toBe("none");
  });

  test("ifetch: text from SRAM follows what the queue has", () => {
    // ifetch of vxm.0 takes e0, e1 at cycle 50; the text is config length=8 power=1.
    const text = (sram: Sram): void => {
      const config8 = Uint8Array.of(0x05, 8 | (1 << 5));
      setRow(sram, "w0:0", Uint8Array.of(config8.length, 0, ...config8, ...new Uint8Array(12)));
      setRow(sram, "w1:0", new Uint8Array(16));
    };
    const { counters, cycles } = runText("mem.w0 48 read 0 e0\nmem.w1 48 read 0 e1\nvxm.0 50 ifetch e0", text);
    expect(counters[0]?.executions).toMatchObject({ ifetch: 1, config: 1 });
    expect(cycles).toEqual([50 + timing.ifetch + 1]);
  });
});

describe("tightness: legal at t, a fault at t - 1", () => {
  const cases: Readonly<
    Record<string, { readonly at: number; readonly lines: (t: number) => string; readonly fault: string }>
  > = {
    memRead: {
      at: 40 + timing.memRead,
      fault: "LPU4002",
      lines: (t) => `mem.w0 40 read 0 e0\nmem.w1 ${t} write 20 e0`,
    },
    memWrite: {
      at: 41 + timing.memWrite,
      fault: "LPU4006",
      lines: (t) => `mem.w0 40 read 0 e0\nmem.w1 41 write 20 e0\nmem.w1 ${t} read 20 e1`,
    },
    hops: { at: 40 + 1 + 4, fault: "LPU4002", lines: (t) => `mem.w8 40 read 0 e0\nmem.e0 ${t} write 20 e0` },
    vxmEntry: {
      at: 42 + timing.vxmEntry,
      fault: "LPU4002",
      lines: (t) => `mem.w0 40 read 0 e0\nvxm.0 ${t} unary copy e0 u8 e4 as=u8`,
    },
    vxmAlu: {
      at: 50 + timing.vxmAlu,
      fault: "LPU4009",
      lines: (t) => `vxm.0 50 unary neg 1 f32 as=f32\nvxm.1 ${t} unary neg alu0@0 f32 as=f32`,
    },
    vxmExit: {
      at: 50 + timing.vxmAlu + 1,
      fault: "LPU4002",
      lines: (t) => `vxm.0 50 unary neg 1 f32 e4 as=u8\nmem.e0 ${t} write 20 e4`,
    },
    sxmSelect: {
      at: 50 + timing.sxmSelect + 2,
      fault: "LPU4002",
      lines: (t) =>
        `mem.w0 45 read 0 w0\nmem.w1 45 read 0 w1\nsxm.w0 50 select w0 w1 0 u8 e4\nmem.w12 ${t - 1} write 20 e4~\nmem.w8 ${t} write 20 e4`,
    },
  };
  for (const [name, { at, lines, fault }] of Object.entries(cases)) {
    test(name, () => {
      const options = { maps: [ramp(0, 0)] };
      expect([faultOf(lines(at - 1), fill, options), faultOf(lines(at), fill, options)]).toEqual([fault, "none"]);
    });
  }

  test("a chained result lives for chainDepth cycles", () => {
    const age = (a: number): string =>
      faultOf(`vxm.0 50 unary neg 1 f32 as=f32\nvxm.1 ${50 + timing.vxmAlu + a} unary neg alu0@${a} f32 as=f32`);
    expect([age(0), age(tiny.chainDepth)]).toEqual(["none", "none"]);
  });
});

describe("faults", () => {
  const gatherRow =
    (row: number) =>
    (sram: Sram): void => {
      fill(sram);
      setWords(sram, "e4:8", 2, ramp(row, 0));
    };
  const map = "mem.e4 40 read 8 w2\nmem.e5 40 read 8 w3";
  const cases: readonly (readonly [name: string, code: string, lines: string, prepare?: (sram: Sram) => void])[] = [
    ["two values on one register", "LPU4001", "mem.w4 40 read 0 e0\nmem.w0 41 read 0 e0"],
    [
      "a value given where one passes to be taken",
      "LPU4001",
      "mem.w4 40 read 0 e0\nmem.w0 41 read 0 e0\nmem.w1 42 write 20 e0",
    ],
    ["nothing on the stream", "LPU4002", "mem.w0 40 write 20 e0"],
    [
      "two readers of one value are no fault",
      "none",
      "mem.w4 40 read 0 e0\nmem.w0 42 write 20 e0\nmem.w1 42 write 20 e0~",
    ],
    ["two reads in one cycle", "LPU4003", "mem.w0 40 read 0 e0 x4 /2\nmem.w0 42 read 2048 e1"],
    [
      "two writes in one cycle",
      "LPU4003",
      "mem.w4 40 read 0 e0 x4\nmem.w5 40 read 0 e1 x4\nmem.w0 42 write 20 e0 x2 /2 +1\nmem.w0 44 write 2060 e1",
    ],
    ["two bursts for one generator", "LPU4003", "mem.w0 40 read 0 e0 x4 /4\nmem.w0 41 read 4 e1 x2"],
    ["a single read in a gap of a burst is no fault", "none", "mem.w0 40 read 0 e0 x4 /4\nmem.w0 41 read 4 e1"],
    ["read and write of one bank", "LPU4004", "mem.w4 40 read 0 e0\nmem.w0 41 read 0 e1 x3 +1\nmem.w0 42 write 20 e0"],
    [
      "read and write of two banks are no fault",
      "none",
      "mem.w4 40 read 0 e0\nmem.w0 41 read 0 e1 x3 +1\nmem.w0 42 write 2070 e0",
    ],
    ["an uninitialised row", "LPU4005", "mem.w0 40 read 77 e0"],
    ["gather of an uninitialised row", "LPU4005", `${map}\nmem.w0 44 gather e0 w2`, gatherRow(99)],
    ["gather out of range", "LPU4014", `${map}\nmem.w0 44 gather e0 w2`, gatherRow(4096)],
    ["scatter out of range", "LPU4014", `${map}\nmem.e6 40 read 0 w0\nmem.w0 44 scatter w0 w2`, gatherRow(4096)],
    [
      "gather while a write is on its way",
      "LPU4006",
      `${map}\nmem.e6 39 read 0 w0\nmem.w0 43 write 2060 w0\nmem.w0 44 gather e0 w2`,
      gatherRow(3),
    ],
    [
      "two vectors on one link",
      "LPU4015",
      "mem.w0 45 read 0 w0\nmem.w1 45 read 0 w1\nsxm.w0 50 send w0 0\nsxm.w1 50 send w1 0",
    ],
    ["an unaligned group", "LPU4008", "mem.w0 40 read 0 e1\nvxm.0 50 unary copy e1 f16 as=f32"],
    ["a chain to an ALU that did nothing", "LPU4009", "vxm.1 50 unary neg alu0@0 f32 as=f32"],
    ["two results of one direction", "LPU4008", "vxm.1 50 unary neg 1 f32 e0 e4 f32"],
    ["a vector length within a superlane", "LPU4008", "vxm.1 50 config 6 0"],
    ["a lane map that is not there", "LPU4008", "mem.w0 45 read 0 w0\nsxm.w0 50 permute w0 3 u8 e4"],
    [
      "weights past the end of the array",
      "LPU4008",
      "mem.w0 52 read 0 w0 x2\nmem.w1 52 read 0 w1 x2\nmxm.w0.weights 57 lw w0 packed 1 15 0 8 1",
    ],
    ["an empty weight buffer", "LPU4010", "mxm.w0.weights 57 iw"],
    ["no weights in the array", "LPU4011", "mxm.w0.activations 57 abc w0 low"],
  ];
  for (const [name, code, lines, prepare = fill] of cases) {
    test(`${name}: ${code}`, () => {
      expect(faultOf(lines, prepare, { links: [{ fromChip: 0, fromLink: 0, toChip: 0, toLink: 0 }] })).toBe(code);
    });
  }

  test("a fault names cycle, unit, instruction and origin", () => {
    expect(() => runText("mem.w3 40 read 77 e0")).toThrow(
      "LPU4005: cycle 40, mem.w3: row 77 was never written [read address=77 stream=e0] from test",
    );
  });
});

describe("random programs", () => {
  const run = (program: Program): Sram => {
    const sram = new Sram(program.target, program.chips.length);
    placeConstants(sram, program.chips);
    return runLiteral(chosenEntry(program), sram).sram;
  };
  const verdict = (program: Program): string => {
    try {
      run(program);
      return "none";
    } catch (error) {
      if (error instanceof MachineFault) return error.code;
      throw error;
    }
  };

  test("what the occupancy model calls legal, the machine accepts, and the image keeps", () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const program = randomProgram(seed);
        const sram = run(program);
        const again = run(readImage(writeImage(program)));
        expect(Buffer.compare(sram.bytes, again.bytes)).toBe(0);
        expect(Buffer.compare(sram.written, again.written)).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  test("changed programs end in a fault or run, and nothing else", () => {
    const verdicts = new Set<string>();
    for (let seed = 0; seed < 40; seed++) verdicts.add(verdict(mutate(randomProgram(seed, { figures: 12 }), seed)));
    expect(verdicts).toContain("LPU4002");
    expect(verdicts).toContain("LPU4005");
    expect(verdicts.size).toBeGreaterThan(3);
  });

  test.each(Object.values(TARGETS))("legal on $name", (target) => {
    expect(verdict(randomProgram(3, { target }))).toBe("none");
  });
});
