/**
 * Kernels that move vectors and convert them: byte planes and whole elements to 32-bit lanes and back, and the SXM.
 *
 * A stream carries one byte of each lane. Vectors lie in memory either as byte planes (one row of bytes a stream, as SRAM has
 * them) or whole (elements of 2 or 4 bytes side by side, as ALUs and accumulators make them). ALU operands are rows of fp32
 * or int32. Conversions are those of `lanes.ts`: nearest even, saturating from fp32 to integers, modulo between integers,
 * canonical NaNs.
 */

import { at } from "../../diagnostics.js";
import { roundEven } from "../../ir/functions.js";
import type { StreamType } from "../../ir/isa.js";
import { F32_NAN_BITS, f16ToF32, f32ToF16 } from "../../ir/numerics.js";
import { flipBit, wireCheck } from "../disturb.js";
import { kernel, type MachineMemory } from "./table.js";
import { emitHalfToFloat } from "./matrix.js";
import {
  EVEN_BYTES,
  FOURTH_BYTES,
  HALVES_HIGH,
  HALVES_LOW,
  INTERLEAVE_HIGH,
  INTERLEAVE_LOW,
  LOW_PAIRS,
} from "../../wasm/shuffles.js";
import type { FunctionBody, Local } from "../../wasm/emitter.js";

/** Stream types by number, as kernels are given them. */
export const TYPE_NUMBERS: Readonly<Record<StreamType, number>> = {
  f16: 0,
  f32: 1,
  i32: 2,
  i16: 3,
  u16: 4,
  i8: 5,
  u8: 6,
  bool: 7,
};

const HALVES = [
  [0, "i32x4.extend_low_i16x8_s"],
  [1, "i32x4.extend_high_i16x8_s"],
] as const;

/** fp32 lanes in `value` to fp16 bits in 32-bit lanes on the stack: nearest even, infinity above 65519, NaN 0x7e00. */
function emitFloatToHalf(f: FunctionBody, value: Local, magnitude: Local): FunctionBody {
  f.get(value).constantI32(0x7fffffff).op("v128.and").set(magnitude);
  f.constantI32(0x7e00);
  // Subnormals: adding 0.5 rounds to the fp16 grid. Normals: half a unit less one, plus the lowest kept bit, then shift.
  f.get(magnitude).constantF32(0.5).op("f32x4.add").constantI32(0x3f000000).op("i32x4.sub");
  f.get(magnitude)
    .constantI32(0x38000000 - 0xfff)
    .op("i32x4.sub")
    .get(magnitude)
    .i32(13)
    .op("i32x4.shr_u")
    .constantI32(1)
    .op("v128.and");
  f.op("i32x4.add").i32(13).op("i32x4.shr_s").constantI32(0x7c00).op("i32x4.min_s");
  f.get(magnitude).constantI32(0x38800000).ops("i32x4.lt_s", "v128.bitselect");
  f.get(value).i32(16).op("i32x4.shr_u").constantI32(0x8000).ops("v128.and", "v128.or");
  return f.get(magnitude).constantI32(0x7f800000).ops("i32x4.gt_s", "v128.bitselect");
}

/** Stores eight fp16 elements in `half` as fp32, and advances `dst`. */
function storeHalves(f: FunctionBody, dst: Local, half: Local, bits: Local, magnitude: Local): void {
  for (const [part, extend] of HALVES) {
    f.get(half).op(extend).set(bits).get(dst);
    emitHalfToFloat(f, bits, magnitude).memory("v128.store", part * 16);
  }
  f.advance(dst, 32);
}

function lessLanes(f: FunctionBody, stride: Local, lanes: Local, bytes: 1 | 2 | 4): void {
  f.get(stride).get(lanes).i32(Math.log2(bytes)).ops("i32.shl", "i32.sub").set(stride);
}

const PLANES = ["b0", "b0Stride", "b1", "b1Stride", "b2", "b2Stride", "b3", "b3Stride"] as const;

const readHalf = (bits: number): number => f16ToF32(bits & 0xffff);

export const STREAM_KERNELS = {
  copyRows: kernel(["dst", "dstStride", "src", "srcStride", "rows", "bytes"], {
    doc: "Copies rows of bytes.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) {
        const src = a.src + row * a.srcStride;
        m.u8.copyWithin(a.dst + row * a.dstStride, src, src + a.bytes);
      }
    },
    emit: (f, a) => {
      f.countdown(a.rows, 1, () => {
        f.get(a.dst).get(a.src).get(a.bytes).copyBytes();
        f.advanceBy(a.dst, a.dstStride).advanceBy(a.src, a.srcStride);
      });
    },
  }),

  fillRows: kernel(["dst", "stride", "rows", "bytes"], {
    doc: "Makes rows of bytes zero.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) m.u8.fill(0, a.dst + row * a.stride, a.dst + row * a.stride + a.bytes);
    },
    emit: (f, a) => {
      f.countdown(a.rows, 1, () => {
        f.get(a.dst).i32(0).get(a.bytes).fillBytes();
        f.advanceBy(a.dst, a.stride);
      });
    },
  }),

  extractPlane: kernel(["dst", "dstStride", "src", "srcStride", "laneStride", "rows", "lanes"], {
    doc: "One byte of each element of 2 or 4 bytes: a byte plane from whole elements. `src` points at that byte of lane 0.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++) {
          m.u8[a.dst + row * a.dstStride + lane] = m.u8[a.src + row * a.srcStride + lane * a.laneStride] as number;
        }
      }
    },
    emit: (f, a) => {
      const [left, from, to, joined] = [f.local("i32"), f.local("i32"), f.local("i32"), f.local("v128")];
      f.countdown(a.rows, 1, () => {
        f.get(a.src).set(from).get(a.dst).set(to).get(a.lanes).set(left);
        f.countdown(left, 16, () => {
          f.get(a.laneStride)
            .i32(2)
            .op("i32.gt_s")
            .when(
              () => {
                f.get(from).memory("v128.load").get(from).memory("v128.load", 16).shuffle(FOURTH_BYTES);
                f.get(from).memory("v128.load", 32).get(from).memory("v128.load", 48).shuffle(FOURTH_BYTES);
                f.shuffle(LOW_PAIRS).set(joined).advance(from, 64);
              },
              () => {
                f.get(from).memory("v128.load").get(from).memory("v128.load", 16).shuffle(EVEN_BYTES).set(joined);
                f.advance(from, 32);
              },
            );
          f.get(to).get(joined).memory("v128.store").advance(to, 16);
        });
        f.advanceBy(a.dst, a.dstStride).advanceBy(a.src, a.srcStride);
      });
    },
  }),

  loadHalfPlanes: kernel(["dst", "lo", "loStride", "hi", "hiStride", "rows", "lanes"], {
    doc: "fp16 from two byte planes to fp32.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++) {
          m.f32[to++] = readHalf(
            (m.u8[a.lo + row * a.loStride + lane] as number) | ((m.u8[a.hi + row * a.hiStride + lane] as number) << 8),
          );
        }
      }
    },
    emit: (f, a) => {
      const [left, low, high] = [f.local("i32"), f.local("v128"), f.local("v128")];
      const [half, bits, magnitude] = [f.local("v128"), f.local("v128"), f.local("v128")];
      lessLanes(f, a.loStride, a.lanes, 1);
      lessLanes(f, a.hiStride, a.lanes, 1);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 16, () => {
          f.get(a.lo).memory("v128.load").set(low).get(a.hi).memory("v128.load").set(high);
          for (const pattern of [INTERLEAVE_LOW, INTERLEAVE_HIGH]) {
            f.get(low).get(high).shuffle(pattern).set(half);
            storeHalves(f, a.dst, half, bits, magnitude);
          }
          f.advance(a.lo, 16).advance(a.hi, 16);
        });
        f.advanceBy(a.lo, a.loStride).advanceBy(a.hi, a.hiStride);
      });
    },
  }),

  loadHalf: kernel(["dst", "src", "srcStride", "rows", "lanes"], {
    doc: "Whole fp16 elements to fp32.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++)
          m.f32[to++] = readHalf(m.u16[(a.src + row * a.srcStride) / 2 + lane] as number);
      }
    },
    emit: (f, a) => {
      const [left, half, bits, magnitude] = [f.local("i32"), f.local("v128"), f.local("v128"), f.local("v128")];
      lessLanes(f, a.srcStride, a.lanes, 2);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 8, () => {
          f.get(a.src).memory("v128.load").set(half);
          storeHalves(f, a.dst, half, bits, magnitude);
          f.advance(a.src, 16);
        });
        f.advanceBy(a.src, a.srcStride);
      });
    },
  }),

  loadWordPlanes: kernel(["dst", ...PLANES, "rows", "lanes"], {
    doc: "Elements of 32 bits from four byte planes.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++) {
          const at = (plane: number, stride: number): number => m.u8[plane + row * stride + lane] as number;
          m.i32[to++] =
            at(a.b0, a.b0Stride) |
            (at(a.b1, a.b1Stride) << 8) |
            (at(a.b2, a.b2Stride) << 16) |
            (at(a.b3, a.b3Stride) << 24);
        }
      }
    },
    emit: (f, a) => {
      const planes = [
        [a.b0, a.b0Stride],
        [a.b1, a.b1Stride],
        [a.b2, a.b2Stride],
        [a.b3, a.b3Stride],
      ] as const;
      const values = planes.map(() => f.local("v128"));
      const [left, low, high] = [f.local("i32"), f.local("v128"), f.local("v128")];
      for (const [, stride] of planes) lessLanes(f, stride, a.lanes, 1);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 16, () => {
          planes.forEach(([plane], index) => {
            f.get(plane)
              .memory("v128.load")
              .set(values[index] ?? 0)
              .advance(plane, 16);
          });
          const [v0 = 0, v1 = 0, v2 = 0, v3 = 0] = values;
          [INTERLEAVE_LOW, INTERLEAVE_HIGH].forEach((pattern, part) => {
            f.get(v0).get(v1).shuffle(pattern).set(low).get(v2).get(v3).shuffle(pattern).set(high);
            f.get(a.dst)
              .get(low)
              .get(high)
              .shuffle(HALVES_LOW)
              .memory("v128.store", part * 32);
            f.get(a.dst)
              .get(low)
              .get(high)
              .shuffle(HALVES_HIGH)
              .memory("v128.store", part * 32 + 16);
          });
          f.advance(a.dst, 64);
        });
        for (const [plane, stride] of planes) f.advanceBy(plane, stride);
      });
    },
  }),

  joinPairs: kernel(["dst", "lo", "loStride", "hi", "hiStride", "rows", "lanes"], {
    doc: "Whole elements of 16 bits from two byte planes.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 2; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++) {
          m.u16[to++] =
            (m.u8[a.lo + row * a.loStride + lane] as number) | ((m.u8[a.hi + row * a.hiStride + lane] as number) << 8);
        }
      }
    },
    emit: (f, a) => {
      const [left, low, high] = [f.local("i32"), f.local("v128"), f.local("v128")];
      lessLanes(f, a.loStride, a.lanes, 1);
      lessLanes(f, a.hiStride, a.lanes, 1);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 16, () => {
          f.get(a.lo).memory("v128.load").set(low).get(a.hi).memory("v128.load").set(high);
          f.get(a.dst).get(low).get(high).shuffle(INTERLEAVE_LOW).memory("v128.store");
          f.get(a.dst).get(low).get(high).shuffle(INTERLEAVE_HIGH).memory("v128.store", 16);
          f.advance(a.lo, 16).advance(a.hi, 16).advance(a.dst, 32);
        });
        f.advanceBy(a.lo, a.loStride).advanceBy(a.hi, a.hiStride);
      });
    },
  }),

  loadAny: kernel(["dst", "type", "rows", "lanes", "laneStride", ...PLANES], {
    doc: "Elements of any type, byte by byte, lanes `laneStride` apart: floats become fp32, all others int32.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++, to++) {
          const at = (plane: number, stride: number): number =>
            m.u8[plane + row * stride + lane * a.laneStride] as number;
          const low = at(a.b0, a.b0Stride);
          const pair = a.type < 5 ? low | (at(a.b1, a.b1Stride) << 8) : low;
          const word =
            a.type === 1 || a.type === 2 ? pair | (at(a.b2, a.b2Stride) << 16) | (at(a.b3, a.b3Stride) << 24) : pair;
          if (a.type === 0) m.f32[to] = readHalf(word);
          else if (a.type === 3) m.i32[to] = (word << 16) >> 16;
          else if (a.type === 5) m.i32[to] = (word << 24) >> 24;
          else if (a.type === 7) m.i32[to] = word === 0 ? 0 : 1;
          else m.i32[to] = word;
        }
      }
    },
  }),

  intToFloat: kernel(["dst", "src", "srcStride", "rows", "lanes"], {
    doc: "int32 rows to fp32, nearest even.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++)
          m.f32[to++] = m.i32[(a.src + row * a.srcStride) / 4 + lane] as number;
      }
    },
    emit: (f, a) => {
      const left = f.local("i32");
      lessLanes(f, a.srcStride, a.lanes, 4);
      f.countdown(a.rows, 1, () => {
        f.get(a.lanes).set(left);
        f.countdown(left, 4, () => {
          f.get(a.dst).get(a.src).memory("v128.load").op("f32x4.convert_i32x4_s").memory("v128.store");
          f.advance(a.dst, 16).advance(a.src, 16);
        });
        f.advanceBy(a.src, a.srcStride);
      });
    },
  }),

  floatToInt: kernel(["dst", "src", "srcStride", "rows", "lanes"], {
    doc: "fp32 rows to int32: nearest even, saturating, NaN gives 0.",
    reference: (m, a) => {
      for (let row = 0, to = a.dst / 4; row < a.rows; row++) {
        for (let lane = 0; lane < a.lanes; lane++)
          m.i32[to++] = saturate(m.f32[(a.src + row * a.srcStride) / 4 + lane] as number, -0x80000000, 0x7fffffff);
      }
    },
  }),

  storeHalf: kernel(["dst", "src", "count"], {
    doc: "fp32 lanes (a multiple of 8 of them) to whole fp16 elements.",
    reference: (m, a) => {
      for (let i = 0; i < a.count; i++) m.u16[a.dst / 2 + i] = f32ToF16(m.f32[a.src / 4 + i] as number);
    },
    emit: (f, a) => {
      const [value, magnitude] = [f.local("v128"), f.local("v128")];
      f.countdown(a.count, 8, () => {
        f.get(a.dst);
        for (const at of [0, 16]) {
          f.get(a.src).memory("v128.load", at).set(value);
          emitFloatToHalf(f, value, magnitude);
        }
        f.op("i16x8.narrow_i32x4_u").memory("v128.store").advance(a.dst, 16).advance(a.src, 32);
      });
    },
  }),

  storeFloat: kernel(["dst", "src", "count"], {
    doc: "fp32 lanes with canonical NaNs.",
    reference: (m, a) => {
      for (let i = 0; i < a.count; i++) {
        const value = m.f32[a.src / 4 + i] as number;
        m.i32[a.dst / 4 + i] = Number.isNaN(value) ? F32_NAN_BITS : (m.i32[a.src / 4 + i] as number);
      }
    },
    emit: (f, a) => {
      const value = f.local("v128");
      f.countdown(a.count, 4, () => {
        f.get(a.src).memory("v128.load").set(value).get(a.dst).constantI32(F32_NAN_BITS).get(value);
        f.get(value)
          .get(value)
          .ops("f32x4.ne", "v128.bitselect")
          .memory("v128.store")
          .advance(a.dst, 16)
          .advance(a.src, 16);
      });
    },
  }),

  storeAny: kernel(["dst", "src", "count", "type", "int"], {
    doc: "fp32 (or, if `int`, int32) lanes to whole elements of an integer type.",
    reference: (m, a) => {
      const bytes = at(TYPE_BYTES, a.type, "type");
      const [least, greatest] = at(RANGES, a.type, "type");
      for (let i = 0; i < a.count; i++) {
        const float = m.f32[a.src / 4 + i] as number;
        const word = m.i32[a.src / 4 + i] as number;
        const truth = a.int === 0 ? float !== 0 : word !== 0;
        const value = a.type === 7 ? Number(truth) : a.int === 0 ? saturate(float, least, greatest) : word;
        if (bytes === 4) m.i32[a.dst / 4 + i] = value;
        else if (bytes === 2) m.u16[a.dst / 2 + i] = value;
        else m.u8[a.dst + i] = value;
      }
    },
  }),

  rearrange: kernel(["dst", "src", "srcStride", "rows", "lanes", "width", "map"], {
    doc: "SXM: lane i becomes lane map[i] (int32) of the vector, or zero if that is negative; elements of `width` bytes.",
    reference: (m, a) => {
      const map = m.i32.subarray(a.map / 4, a.map / 4 + a.lanes);
      const data = a.width === 4 ? m.i32 : a.width === 2 ? m.u16 : m.u8;
      for (let row = 0, to = a.dst / a.width; row < a.rows; row++) {
        const from = (a.src + row * a.srcStride) / a.width;
        for (let lane = 0; lane < a.lanes; lane++) {
          const source = map[lane] as number;
          data[to++] = source < 0 ? 0 : (data[from + source] as number);
        }
      }
    },
  }),

  choose: kernel(["dst", "a", "aStride", "b", "bStride", "rows", "lanes", "width", "map"], {
    doc: "SXM select: lane i of `a` where map[i] (int32) is 0, else of `b`.",
    reference: (m, x) => {
      const map = m.i32.subarray(x.map / 4, x.map / 4 + x.lanes);
      for (let row = 0, to = x.dst; row < x.rows; row++) {
        for (let lane = 0; lane < x.lanes; lane++) {
          const from = (map[lane] === 0 ? x.a + row * x.aStride : x.b + row * x.bStride) + lane * x.width;
          for (let byte = 0; byte < x.width; byte++) m.u8[to++] = m.u8[from + byte] as number;
        }
      }
    },
  }),

  markRows: kernel(["flags", "step", "rows"], {
    doc: "Notes that rows are written, one byte a row.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) m.u8[a.flags + row * a.step] = 1;
    },
  }),

  gatherRows: kernel(
    [
      "dst",
      "slice",
      "lo",
      "loStride",
      "hi",
      "hiStride",
      "rows",
      "lanes",
      "superlane",
      "limit",
      "flags",
      "fault",
      "burst",
      "first",
    ],
    {
      doc: "MEM gather: for every superlane its own row. An address at or above `limit`, or a row without flag, goes to `fault`.",
      reference: (m, a) => {
        for (let row = 0; row < a.rows; row++) {
          for (let lane = 0; lane < a.lanes; lane += a.superlane) {
            const address = addressAt(m, a, row, lane);
            const kind = address >= a.limit ? 1 : m.u8[a.flags + address] === 0 ? 2 : 0;
            if (kind !== 0) {
              reportAddress(m, a.fault, kind, a.burst, a.first + row, address);
              return;
            }
            const from = a.slice + address * a.lanes + lane;
            m.u8.copyWithin(a.dst + row * a.lanes + lane, from, from + a.superlane);
          }
        }
      },
    },
  ),

  scatterRows: kernel(
    [
      "slice",
      "src",
      "srcStride",
      "lo",
      "loStride",
      "hi",
      "hiStride",
      "rows",
      "lanes",
      "superlane",
      "limit",
      "fault",
      "burst",
      "first",
    ],
    {
      doc: "MEM scatter: every superlane to its own row. An address at or above `limit` goes to `fault`.",
      reference: (m, a) => {
        for (let row = 0; row < a.rows; row++) {
          for (let lane = 0; lane < a.lanes; lane += a.superlane) {
            const address = addressAt(m, a, row, lane);
            if (address >= a.limit) {
              reportAddress(m, a.fault, 1, a.burst, a.first + row, address);
              return;
            }
            const from = a.src + row * a.srcStride + lane;
            m.u8.copyWithin(a.slice + address * a.lanes + lane, from, from + a.superlane);
          }
        }
      },
    },
  ),

  sealRows: kernel(["src", "rows", "lanes", "checks"], {
    doc: "Wire: the check of each vector that is sent.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) m.i32[a.checks / 4 + row] = checkAt(m, a, row);
    },
  }),

  checkRows: kernel(["src", "rows", "lanes", "checks", "fault", "burst", "first"], {
    doc: "Wire: a vector whose check is not that with which it was sent goes to `fault`.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++)
        if (m.i32[a.checks / 4 + row] !== checkAt(m, a, row)) reportAddress(m, a.fault, 3, a.burst, a.first + row, 0);
    },
  }),

  flipBit: kernel(["vector", "lanes", "bit", "armed"], {
    doc: "Wire: flips a bit of a vector while the word `armed` is not 0, and makes it 0.",
    reference: (m, a) => {
      if (m.i32[a.armed / 4] === 0) return;
      m.i32[a.armed / 4] = 0;
      flipBit(m.u8.subarray(a.vector, a.vector + a.lanes), a.bit);
    },
  }),

  transpose: kernel(["dst", "src", "rows", "lanes", "superlane"], {
    doc: "SXM: in each superlane stream j, lane i becomes stream i, lane j; a row is `superlane` byte vectors one after another.",
    reference: (m, a) => {
      for (let row = 0; row < a.rows; row++) {
        const base = row * a.lanes * a.superlane;
        for (let stream = 0; stream < a.superlane; stream++) {
          for (let lane = 0; lane < a.lanes; lane++) {
            const within = lane % a.superlane;
            m.u8[a.dst + base + stream * a.lanes + lane] = m.u8[
              a.src + base + within * a.lanes + lane - within + stream
            ] as number;
          }
        }
      }
    },
  }),
};

/** The address in two byte planes, low and high, of a lane's superlane. */
const addressAt = (
  { u8 }: MachineMemory,
  { lo, loStride, hi, hiStride }: Readonly<Record<"lo" | "loStride" | "hi" | "hiStride", number>>,
  row: number,
  lane: number,
): number => (u8[lo + row * loStride + lane] as number) | ((u8[hi + row * hiStride + lane] as number) << 8);

const checkAt = ({ u8 }: MachineMemory, { src, lanes }: Readonly<Record<"src" | "lanes", number>>, row: number) =>
  wireCheck(u8.subarray(src + row * lanes, src + (row + 1) * lanes));

/**
 * Words of a fault: 1 for an address out of range, 2 for an unwritten row or 3 for a vector that fails its check; burst,
 * execution, address.
 */
function reportAddress(
  m: MachineMemory,
  fault: number,
  kind: number,
  burst: number,
  execution: number,
  address: number,
): void {
  if (m.i32[fault / 4] !== 0) return;
  m.i32.set([kind, burst, execution, address], fault / 4);
}

/** Bytes of an element, and its least and greatest value where it is whole, by type number. */
const TYPE_BYTES = [2, 4, 4, 2, 2, 1, 1, 1];
const RANGES: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 0],
  [-0x80000000, 0x7fffffff],
  [-0x8000, 0x7fff],
  [0, 0xffff],
  [-0x80, 0x7f],
  [0, 0xff],
  [0, 1],
];

function saturate(value: number, least: number, greatest: number): number {
  return Number.isNaN(value) ? 0 : Math.min(Math.max(roundEven(value), least), greatest);
}
