/**
 * Kernels of the MXM: fp16 byte planes to float64 operands, the matrix product, and int8.
 *
 * The sum is normative: for each output one float64 chain from +0 over ascending k, one rounding to fp32, then one fp32
 * addition to the accumulator. The kernels run 4 rows by 4 columns at once and never split a chain. Products of fp16 values are exact in
 * float64, so fused and separate multiply-add give the same bits. Weights lie in panels of four columns, [panel][k][4] of
 * float64; activations in rows of halfLanes float64. Both ranges of k and of columns may be cut to what was loaded: a
 * product with an unloaded (zero) weight is +-0, which changes no sum of finite values that began at +0.
 */

import { f16ToF32, f32ToF16, widenFloat } from "../../ir/numerics.js";
import { kernel } from "./table.js";
import {
  HIGH_PAIRS,
  HIGH_TWICE,
  INTERLEAVE_LOW,
  LOW_PAIRS,
  splat,
  WORDS_HIGH,
  WORDS_LOW,
} from "../../wasm/shuffles.js";
import type { FunctionBody, Local } from "../../wasm/emitter.js";

export const PANEL = 4;
const ROWS = 4;
const { fround } = Math;

/** Upper bytes of the fp16 values 0, 1, .. 7 times 2^-9, the subnormals of E4M3FN. */
const SUBNORMAL_E4M3 = Uint8Array.from({ length: 16 }, (_, step) => (step < 8 ? f32ToF16(step * 2 ** -9) >> 8 : 0));

/**
 * fp16 bits, sign-extended in 32-bit lanes in `bits`, to fp32 on the stack. Normal numbers move to the wider exponent; infinity and
 * NaN move once more; a subnormal gets a leading one that a subtraction takes off again, so no slow subnormal arithmetic occurs.
 */
export function emitHalfToFloat(f: FunctionBody, bits: Local, magnitude: Local): FunctionBody {
  f.get(bits).i32(13).op("i32x4.shl").constantI32(0x0fffe000).op("v128.and").set(magnitude);
  f.get(magnitude)
    .constantI32(0x38800000)
    .op("i32x4.add")
    .constantF32(2 ** -14)
    .op("f32x4.sub");
  f.get(magnitude).constantI32(0x38000000).op("i32x4.add");
  f.get(magnitude).constantI32(0x0f7fffff).op("i32x4.gt_s").constantI32(0x38000000).ops("v128.and", "i32x4.add");
  f.get(magnitude).constantI32(0x00800000).ops("i32x4.lt_s", "v128.bitselect");
  return f.get(bits).constantI32(-0x80000000).ops("v128.and", "v128.or");
}

export const MATRIX_KERNELS = {
  widenRows: kernel(["dst", "lo", "loStride", "hi", "hiStride", "rows", "flags"], {
    doc: "Activations: halfLanes fp16 values of each row from two byte planes to float64; a byte of `flags` for each row says that one is not finite, and the byte before `flags` that any row is.",
    reference: (m, a, { halfLanes }) => {
      m.u8[a.flags - 1] = 0;
      for (let row = 0; row < a.rows; row++) {
        let nonFinite = 0;
        for (let k = 0; k < halfLanes; k++) {
          const value = halfAt(m.u8, a.lo + row * a.loStride + k, a.hi + row * a.hiStride + k);
          if (value - value !== 0) nonFinite = 1;
          m.f64[a.dst / 8 + row * halfLanes + k] = value;
        }
        m.u8[a.flags + row] = nonFinite;
        m.u8[a.flags - 1] = (m.u8[a.flags - 1] as number) | nonFinite;
      }
    },
    emit: (f, a, { halfLanes }) => {
      const counter = f.local("i32");
      const [half, bits, magnitude, value, bad] = [
        f.local("v128"),
        f.local("v128"),
        f.local("v128"),
        f.local("v128"),
        f.local("v128"),
      ];
      const flag = f.local("i32");
      f.get(a.loStride).i32(halfLanes).op("i32.sub").set(a.loStride);
      f.get(a.hiStride).i32(halfLanes).op("i32.sub").set(a.hiStride);
      const any = f.local("i32");
      f.get(a.flags).i32(1).op("i32.sub").tee(any).i32(0).memory("i32.store8");
      f.countdown(a.rows, 1, () => {
        f.constantI32(0).set(bad).i32(halfLanes).set(counter);
        f.countdown(counter, 8, () => {
          f.get(a.lo).memory("v128.load64_zero").get(a.hi).memory("v128.load64_zero").shuffle(INTERLEAVE_LOW).set(half);
          f.get(half)
            .constantI32(0x7fff7fff)
            .op("v128.and")
            .constantI32(0x7bff7bff)
            .op("i16x8.gt_u")
            .get(bad)
            .op("v128.or")
            .set(bad);
          for (const [part, extend] of [
            [0, "i32x4.extend_low_i16x8_s"],
            [1, "i32x4.extend_high_i16x8_s"],
          ] as const) {
            f.get(half).op(extend).set(bits);
            emitHalfToFloat(f, bits, magnitude).set(value);
            f.get(a.dst)
              .get(value)
              .op("f64x2.promote_low_f32x4")
              .memory("v128.store", part * 32);
            f.get(a.dst)
              .get(value)
              .get(value)
              .shuffle(HIGH_TWICE)
              .op("f64x2.promote_low_f32x4")
              .memory("v128.store", part * 32 + 16);
          }
          f.advance(a.lo, 8).advance(a.hi, 8).advance(a.dst, 64);
        });
        f.get(bad).op("v128.any_true").set(flag).get(a.flags).get(flag).memory("i32.store8");
        f.get(any).get(any).memory("i32.load8_u").get(flag).op("i32.or").memory("i32.store8");
        f.advance(a.flags, 1).advanceBy(a.lo, a.loStride).advanceBy(a.hi, a.hiStride);
      });
    },
  }),

  loadPanels: kernel(
    [
      "dst",
      "dstStep",
      "executions",
      "lanes",
      "lo0",
      "lo1",
      "lo2",
      "lo3",
      "loStride0",
      "loStride1",
      "loStride2",
      "loStride3",
      "hi0",
      "hi1",
      "hi2",
      "hi3",
      "hiStride0",
      "hiStride1",
      "hiStride2",
      "hiStride3",
    ],
    {
      doc: "Weights: four fp16 columns (`lanes` values, a multiple of 8, along lanes of byte planes) become one panel, for each execution.",
      reference: (m, a) => {
        const columns = [
          [a.lo0, a.loStride0, a.hi0, a.hiStride0],
          [a.lo1, a.loStride1, a.hi1, a.hiStride1],
          [a.lo2, a.loStride2, a.hi2, a.hiStride2],
          [a.lo3, a.loStride3, a.hi3, a.hiStride3],
        ] as const;
        for (let execution = 0; execution < a.executions; execution++) {
          columns.forEach(([lo, loStride, hi, hiStride], column) => {
            for (let k = 0; k < a.lanes; k++) {
              m.f64[(a.dst + execution * a.dstStep) / 8 + k * PANEL + column] = halfAt(
                m.u8,
                lo + execution * loStride + k,
                hi + execution * hiStride + k,
              );
            }
          });
        }
      },
      emit: (f, a) => {
        const [counter, to] = [f.local("i32"), f.local("i32")];
        const columns = [
          {
            lo: a.lo0,
            loStride: a.loStride0,
            hi: a.hi0,
            hiStride: a.hiStride0,
            half: f.local("v128"),
            value: f.local("v128"),
          },
          {
            lo: a.lo1,
            loStride: a.loStride1,
            hi: a.hi1,
            hiStride: a.hiStride1,
            half: f.local("v128"),
            value: f.local("v128"),
          },
          {
            lo: a.lo2,
            loStride: a.loStride2,
            hi: a.hi2,
            hiStride: a.hiStride2,
            half: f.local("v128"),
            value: f.local("v128"),
          },
          {
            lo: a.lo3,
            loStride: a.loStride3,
            hi: a.hi3,
            hiStride: a.hiStride3,
            half: f.local("v128"),
            value: f.local("v128"),
          },
        ] as const;
        const [bits, magnitude, pair] = [f.local("v128"), f.local("v128"), f.local("v128")];
        for (const { loStride, hiStride } of columns) {
          f.get(loStride).get(a.lanes).op("i32.sub").set(loStride);
          f.get(hiStride).get(a.lanes).op("i32.sub").set(hiStride);
        }
        f.countdown(a.executions, 1, () => {
          f.get(a.dst).set(to).get(a.lanes).set(counter);
          f.countdown(counter, 8, () => {
            for (const { lo, hi, half } of columns) {
              f.get(lo).memory("v128.load64_zero").get(hi).memory("v128.load64_zero").shuffle(INTERLEAVE_LOW).set(half);
              f.advance(lo, 8).advance(hi, 8);
            }
            for (const [part, extend] of [
              [0, "i32x4.extend_low_i16x8_s"],
              [1, "i32x4.extend_high_i16x8_s"],
            ] as const) {
              for (const { half, value } of columns) {
                f.get(half).op(extend).set(bits);
                emitHalfToFloat(f, bits, magnitude).set(value);
              }
              for (const [left, right, at] of [
                [columns[0], columns[1], 0],
                [columns[2], columns[3], 16],
              ] as const) {
                for (const [words, k] of [
                  [WORDS_LOW, 0],
                  [WORDS_HIGH, 2],
                ] as const) {
                  f.get(left.value).get(right.value).shuffle(words).set(pair);
                  f.get(to)
                    .get(pair)
                    .op("f64x2.promote_low_f32x4")
                    .memory("v128.store", (part * 4 + k) * 32 + at);
                  f.get(to)
                    .get(pair)
                    .get(pair)
                    .shuffle(HIGH_TWICE)
                    .op("f64x2.promote_low_f32x4")
                    .memory("v128.store", (part * 4 + k + 1) * 32 + at);
                }
              }
            }
            f.advance(to, 256);
          });
          for (const { lo, loStride, hi, hiStride } of columns) f.advanceBy(lo, loStride).advanceBy(hi, hiStride);
          f.advanceBy(a.dst, a.dstStep);
        });
      },
    },
  ),

  widenE4m3: kernel(["lo", "hi", "src", "srcStride", "rows", "lanes"], {
    doc: "FP8 E4M3FN rows to the two byte planes of fp16, exactly; NaN 0x7e00.",
    reference: (m, a) => {
      for (let row = 0, to = 0; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++, to++) {
          const half = f32ToF16(widenFloat("f8e4m3", m.u8[a.src + row * a.srcStride + lane] as number));
          m.u8[a.lo + to] = half;
          m.u8[a.hi + to] = half >> 8;
        }
      }
    },
    emit: (f, a) => {
      const left = f.local("i32");
      const [bits, magnitude] = [f.local("v128"), f.local("v128")];
      f.get(a.srcStride).get(a.lanes).op("i32.sub").set(a.srcStride);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 16, () => {
          f.get(a.src).memory("v128.load").set(bits);
          f.get(bits).constant(splat(0x7f)).op("v128.and").set(magnitude);
          // The lowest mantissa bit is the highest of the lower byte; no subnormal and no NaN has one there.
          f.get(a.lo).get(magnitude).i32(7).op("i8x16.shl");
          f.get(magnitude).constant(splat(7)).op("i8x16.gt_s");
          f.get(magnitude).constant(splat(0x7f)).op("i8x16.ne").op("v128.and").op("v128.and").memory("v128.store");
          // Normal values: the exponent's bias grows by 8. Subnormals are normal in fp16: by table.
          f.get(a.hi).get(magnitude).i32(1).op("i8x16.shr_u").constant(splat(0x20)).op("i8x16.add");
          f.constant(SUBNORMAL_E4M3).get(magnitude).op("i8x16.swizzle");
          f.get(magnitude).constant(splat(7)).op("i8x16.gt_s").op("v128.bitselect");
          f.constant(splat(0x7e)).get(magnitude).constant(splat(0x7f)).op("i8x16.ne").op("v128.bitselect");
          f.get(bits).constant(splat(0x80)).op("v128.and");
          f.get(magnitude).constant(splat(0x7f)).op("i8x16.ne").op("v128.and").op("v128.or").memory("v128.store");
          f.advance(a.src, 16).advance(a.lo, 16).advance(a.hi, 16);
        });
        f.advanceBy(a.src, a.srcStride);
      });
    },
  }),

  loadColumns: kernel(
    [
      "dst",
      "panelStep",
      "column",
      "columnStep",
      "executions",
      "lo",
      "loStride",
      "hi",
      "hiStride",
      "first",
      "lanes",
      "from",
      "to",
    ],
    {
      doc: "Weights, the general case: one fp16 column an execution, any window of lanes; zero from `from` to `to` outside the window.",
      reference: (m, a) => {
        for (let execution = 0; execution < a.executions; execution++) {
          const column = a.column + execution * a.columnStep;
          const base = (a.dst + Math.floor(column / PANEL) * a.panelStep) / 8 + (column % PANEL);
          for (let k = a.from; k < a.to; k++) {
            const kept = k >= a.first && k < a.first + a.lanes;
            m.f64[base + k * PANEL] = kept
              ? halfAt(m.u8, a.lo + execution * a.loStride + k, a.hi + execution * a.hiStride + k)
              : 0;
          }
        }
      },
    },
  ),

  multiply: kernel(["a", "w", "c", "rows", "panels", "count", "panelStep", "cStride", "add"], {
    doc: "Product of activation rows and weight panels over `count` values of k, set into or added to fp32 rows.",
    reference: (m, a, { halfLanes }) => {
      for (let panel = 0; panel < a.panels; panel++) {
        for (let row = 0; row < a.rows; row++) {
          for (let column = 0; column < PANEL; column++) {
            let sum = 0;
            for (let k = 0; k < a.count; k++) {
              sum +=
                (m.f64[a.a / 8 + row * halfLanes + k] as number) *
                (m.f64[(a.w + panel * a.panelStep) / 8 + k * PANEL + column] as number);
            }
            const at = (a.c + row * a.cStride) / 4 + panel * PANEL + column;
            m.f32[at] = a.add === 0 ? sum : (m.f32[at] as number) + fround(sum);
          }
        }
      }
    },
    emit: (f, a, { fma, halfLanes }) => {
      const rowBytes = halfLanes * 8;
      const [from, to, row, weights, end, left] = [
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
      ];
      const sums = Array.from({ length: ROWS }, () => [f.local("v128"), f.local("v128")] as const);
      const [w0, w1, value] = [f.local("v128"), f.local("v128"), f.local("v128")];
      const block = (rows: number): void => {
        for (const [low, high] of sums.slice(0, rows)) f.constantI32(0).set(low).constantI32(0).set(high);
        f.get(row).set(from).get(a.w).set(weights).get(a.count).set(end);
        // One k a turn: unrolled further, V8 runs out of registers and the loop takes twice as long.
        f.countdown(end, 1, () => {
          f.get(weights).memory("v128.load").set(w0).get(weights).memory("v128.load", 16).set(w1);
          sums.slice(0, rows).forEach(([low, high], index) => {
            f.get(from)
              .memory("v128.load64_splat", index * rowBytes)
              .set(value);
            if (fma) {
              f.get(value).get(w0).get(low).op("f64x2.relaxed_madd").set(low);
              f.get(value).get(w1).get(high).op("f64x2.relaxed_madd").set(high);
            } else {
              f.get(value).get(w0).op("f64x2.mul").get(low).op("f64x2.add").set(low);
              f.get(value).get(w1).op("f64x2.mul").get(high).op("f64x2.add").set(high);
            }
          });
          f.advance(from, 8).advance(weights, 32);
        });
        for (const [low, high] of sums.slice(0, rows)) {
          f.get(low)
            .op("f32x4.demote_f64x2_zero")
            .get(high)
            .op("f32x4.demote_f64x2_zero")
            .shuffle(LOW_PAIRS)
            .set(value);
          f.get(a.add).when(() => f.get(to).memory("v128.load").get(value).op("f32x4.add").set(value));
          f.get(to).get(value).memory("v128.store").advanceBy(to, a.cStride);
        }
        f.advance(row, rows * rowBytes);
      };
      f.countdown(a.panels, 1, () => {
        f.get(a.a).set(row).get(a.c).set(to).get(a.rows).set(left);
        f.whileAtLeast(left, ROWS, () => {
          block(ROWS);
          f.advance(left, -ROWS);
        });
        f.whileAtLeast(left, 1, () => {
          block(1);
          f.advance(left, -1);
        });
        f.advanceBy(a.w, a.panelStep).advance(a.c, PANEL * 4);
      });
    },
  }),

  spreadNonFinite: kernel(["flags", "a", "rows", "c", "cStride", "lanes", "fromK", "toK", "fromColumn", "toColumn"], {
    doc: "After a product that left out zero weights: rows with an infinity or NaN make NaN of the columns where it met a zero.",
    reference: (m, a, { halfLanes }) => {
      if (m.u8[a.flags - 1] === 0) return;
      for (let row = 0; row < a.rows; row++) {
        if (m.u8[a.flags + row] === 0) continue;
        const base = a.a / 8 + row * halfLanes;
        let outside = false;
        for (let k = 0; k < halfLanes; k++) {
          const value = m.f64[base + k] as number;
          if ((k < a.fromK || k >= a.toK) && value - value !== 0) outside = true;
        }
        const to = (a.c + row * a.cStride) / 4;
        for (let column = 0; column < a.lanes; column++) {
          if (outside || column < a.fromColumn || column >= a.toColumn) m.f32[to + column] = Number.NaN;
        }
      }
    },
  }),

  loadBytes: kernel(["dst", "column", "columnStep", "executions", "src", "srcStride", "first", "lanes", "width"], {
    doc: "int8 weights: one column an execution, widened to 16 bits, [column][lane]; zero outside the window.",
    reference: (m, a) => {
      for (let execution = 0; execution < a.executions; execution++) {
        const base = a.dst / 2 + (a.column + execution * a.columnStep) * a.width;
        for (let k = 0; k < a.width; k++) {
          m.i16[base + k] =
            k >= a.first && k < a.first + a.lanes ? (m.i8[a.src + execution * a.srcStride + k] as number) : 0;
        }
      }
    },
  }),

  multiplyBytes: kernel(["a", "aStride", "w", "c", "rows", "columns", "width", "cStride", "add"], {
    doc: "int8 product: `columns` (a multiple of 4) sums over `width` (a multiple of 16) lanes, exact in int32.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) {
        for (let column = 0; column < a.columns; column++) {
          let sum = 0;
          for (let k = 0; k < a.width; k++)
            sum += (m.i8[a.a + row * a.aStride + k] as number) * (m.i16[a.w / 2 + column * a.width + k] as number);
          const at = (a.c + row * a.cStride) / 4 + column;
          m.i32[at] = a.add === 0 ? sum : (m.i32[at] as number) + sum;
        }
      }
    },
    emit: (f, a) => {
      const [from, to, weights, left, next] = [
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
        f.local("i32"),
      ];
      const [counter, rowBytes] = [f.local("i32"), f.local("i32")];
      const sums = Array.from({ length: PANEL }, () => f.local("v128"));
      const [bytes, low, high] = [f.local("v128"), f.local("v128"), f.local("v128")];
      f.get(a.width).i32(2).op("i32.mul").set(rowBytes);
      f.countdown(a.rows, 1, () => {
        f.get(a.c).set(to).get(a.w).set(weights).get(a.columns).set(left);
        f.countdown(left, PANEL, () => {
          for (const sum of sums) f.constantI32(0).set(sum);
          f.get(a.a).set(from).get(a.width).set(counter);
          f.countdown(counter, 16, () => {
            f.get(from).memory("v128.load").set(bytes);
            f.get(bytes).op("i16x8.extend_low_i8x16_s").set(low).get(bytes).op("i16x8.extend_high_i8x16_s").set(high);
            f.get(weights).set(next);
            for (const sum of sums) {
              f.get(next).memory("v128.load").get(low).op("i32x4.dot_i16x8_s");
              f.get(next)
                .memory("v128.load", 16)
                .get(high)
                .op("i32x4.dot_i16x8_s")
                .op("i32x4.add")
                .get(sum)
                .op("i32x4.add")
                .set(sum);
              f.advanceBy(next, rowBytes);
            }
            f.advance(from, 16).advance(weights, 32);
          });
          const [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = sums;
          for (const [left, right, into] of [
            [s0, s1, low],
            [s2, s3, high],
          ] as const) {
            f.get(left)
              .get(right)
              .shuffle(WORDS_LOW)
              .get(left)
              .get(right)
              .shuffle(WORDS_HIGH)
              .op("i32x4.add")
              .set(into);
          }
          f.get(low).get(high).shuffle(LOW_PAIRS).get(low).get(high).shuffle(HIGH_PAIRS).op("i32x4.add").set(bytes);
          f.get(a.add).when(() => f.get(to).memory("v128.load").get(bytes).op("i32x4.add").set(bytes));
          f.get(to).get(bytes).memory("v128.store").advance(to, 16);
          f.get(weights)
            .get(rowBytes)
            .i32(PANEL - 1)
            .ops("i32.mul", "i32.add")
            .set(weights);
        });
        f.advanceBy(a.a, a.aStride).advanceBy(a.c, a.cStride);
      });
    },
  }),
};

const halfAt = (bytes: Uint8Array, lo: number, hi: number): number =>
  f16ToF32((bytes[lo] as number) | ((bytes[hi] as number) << 8));
