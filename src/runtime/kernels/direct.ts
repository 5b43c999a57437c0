/**
 * Kernels of the MXM for weights that few rows meet: products of one activation row and weights as they lie.
 *
 * The sum is that of matrix.ts: one float64 chain from +0 over ascending k, one rounding to fp32, one fp32 addition. Four vectors of two
 * columns go side by side, so that their chains overlap. Widening moves bits: a weight's sign, exponent and mantissa at the top of a
 * float64 are the weight times a power of two that is far too small, subnormals too. Activations are scaled to make up for most
 * of it and sums for the rest, which rounds nothing: no product and no sum comes near the borders of float64.
 */

import { sure } from "../../diagnostics.js";
import { f16ToF32, widenFloat } from "../../ir/numerics.js";
import { kernel, type KernelRow } from "./table.js";
import {
  HALVES_HIGH,
  HALVES_LOW,
  INTERLEAVE_HIGH,
  INTERLEAVE_LOW,
  LOW_PAIRS,
  splat,
  splatWord,
} from "../../wasm/shuffles.js";
import type { FunctionBody, Local } from "../../wasm/emitter.js";

/** Vectors of weights that a kernel multiplies side by side, two columns each. */
export const DIRECT_VECTORS = 4;
/** Values of k that it takes at once. */
export const DIRECT_STEP = 8;

/** Weights of one type: how they lie, and how they become the upper bits of float64 values. */
interface DirectWeights {
  readonly doc: string;
  /** Byte planes of a vector, low bytes first. */
  readonly planes: number;
  readonly numberOf: (bytes: readonly number[]) => number;
  /** The upper bits are the weight times 2^-exponent. */
  readonly exponent: number;
  /** Bytes of the upper bits that are not zero. */
  readonly upper: number;
  /** What `widen` is given in locals, since an engine makes a constant anew wherever it stands. */
  readonly constants: readonly Uint8Array[];
  /**
   * Puts the upper bits of DIRECT_STEP values of k, of two columns in turn, into `words`, 16 bytes at a time, and calls `meet`
   * for each.
   */
  readonly widen: (f: FunctionBody, locals: WidenLocals, meet: () => void) => void;
}

interface WidenLocals {
  readonly planes: readonly Local[];
  readonly constants: readonly Local[];
  readonly spare: Local;
  readonly words: Local;
}

const E4M3: DirectWeights = {
  doc: "FP8 E4M3FN weights",
  planes: 1,
  numberOf: ([bits = 0]) => widenFloat("f8e4m3", bits),
  exponent: 1016,
  upper: 2,
  constants: [splat(0xfe), splat(0x80)],
  widen: (f, { planes: [bits = 0], constants: [nan = 0, sign = 0], spare: twice, words }, meet) => {
    f.get(bits).get(bits).op("i8x16.add").set(twice);
    // The sign in a byte of its own; of a NaN all bits, which make it one in float64.
    f.get(twice).get(nan).op("i8x16.eq").get(sign).op("v128.or");
    f.get(bits).op("v128.and").set(bits);
    for (const inTurn of [INTERLEAVE_LOW, INTERLEAVE_HIGH]) {
      f.get(twice).get(bits).shuffle(inTurn).set(words);
      meet();
    }
  },
};

const F16: DirectWeights = {
  doc: "fp16 weights",
  planes: 2,
  numberOf: ([low = 0, high = 0]) => f16ToF32(low | (high << 8)),
  exponent: 1008,
  upper: 4,
  constants: [splatWord(0x7c00), splatWord(0x7e00), splatWord(0x81ff)],
  widen: (f, { planes: [low = 0, high = 0], constants: [all = 0, more = 0, kept = 0], spare, words }, meet) => {
    // Both halves at once: the low bytes are not needed any more.
    f.get(low).get(high).shuffle(INTERLEAVE_HIGH).set(spare);
    f.get(low).get(high).shuffle(INTERLEAVE_LOW).set(low);
    for (const half of [low, spare]) {
      // The sign and nine bits, with all of float64's exponent where the number is not finite; below them the rest of the mantissa.
      f.get(half).get(all).op("v128.and").get(all).op("i16x8.eq").get(more).op("v128.and");
      f.get(half).i32(6).op("i16x8.shr_s").get(kept).ops("v128.and", "v128.or").set(high);
      f.get(half).i32(10).op("i16x8.shl").set(half);
      for (const inTurn of [HALVES_LOW, HALVES_HIGH]) {
        f.get(half).get(high).shuffle(inTurn).set(words);
        meet();
      }
    }
  },
};

/** Patterns of a swizzle that puts elements 2j and 2j + 1 of so many bytes to the top of two float64 values, zeros below. */
const topsOf = (bytes: number): readonly Uint8Array[] =>
  Array.from({ length: 8 / bytes }, (_, pair) =>
    Uint8Array.from({ length: 16 }, (_, byte) => {
      const within = (byte % 8) - (8 - bytes);
      return within < 0 ? 0x80 : (pair * 2 + (byte >> 3)) * bytes + within;
    }),
  );

/** Of 65,504 times this no exponent is too large. */
const ACTIVATION_EXPONENT = 1000;

function direct({ doc, planes, numberOf, exponent, upper, constants, widen }: DirectWeights): KernelRow {
  const count = DIRECT_VECTORS * planes;
  const named = (name: string): readonly string[] => Array.from({ length: count }, (_, index) => `${name}${index}`);
  const [sources, strides] = [named("src"), named("stride")];
  const names = ["a", "scaled", "c", "cStep", "count", "executions", "add", ...sources, ...strides] as const;
  const numbers = (values: Readonly<Record<string, number>>, of: readonly string[]): readonly number[] =>
    of.map((name) => sure(values[name], name));
  return kernel(names, {
    doc: `Product of one activation row and ${doc} as they lie, \`count\` values (a multiple of ${DIRECT_STEP}) of two columns in each of ${DIRECT_VECTORS} vectors, for each execution; \`scaled\` is room for the row. Planes of one vector are neighbours.`,
    reference: (m, all, { halfLanes }) => {
      const [src, stride] = [numbers(all, sources), numbers(all, strides)];
      const a = numbered(all);
      for (let execution = 0; execution < a.executions; execution++) {
        for (let column = 0; column < 2 * DIRECT_VECTORS; column++) {
          const first = (column >> 1) * planes;
          const from = src.slice(first, first + planes).map((address, plane) => {
            const step = sure(stride[first + plane], "stride");
            return address + execution * step + (column % 2) * halfLanes;
          });
          let sum = 0;
          for (let k = 0; k < a.count; k++)
            sum += (m.f64[a.a / 8 + k] as number) * numberOf(from.map((address) => m.u8[address + k] as number));
          const at = (a.c + execution * a.cStep) / 4 + column;
          m.f32[at] = a.add === 0 ? sum : (m.f32[at] as number) + Math.fround(sum);
        }
      }
    },
    emit: (f, all, { fma, halfLanes }) => {
      const a = numbered(all);
      const [src, stride] = [numbers(all, sources), numbers(all, strides)];
      const vectors = Array.from({ length: DIRECT_VECTORS }, (_, index) => ({
        from: src.slice(index * planes, (index + 1) * planes),
        sum: f.local("v128"),
      }));
      const bytes = Array.from({ length: planes }, () => f.local("v128"));
      const [spare, words, row, left] = [f.local("v128"), f.local("v128"), f.local("i32"), f.local("i32")];
      const held = (bytes: Uint8Array): Local => {
        const local = f.local("v128");
        f.constant(bytes).set(local);
        return local;
      };
      const tops = topsOf(upper).map(held);
      const locals = { planes: bytes, constants: constants.map(held), spare, words };
      f.get(a.scaled).set(row).get(a.count).set(left);
      f.countdown(left, 2, () => {
        f.get(row)
          .get(a.a)
          .memory("v128.load")
          .constantF64(2 ** ACTIVATION_EXPONENT);
        f.op("f64x2.mul").memory("v128.store").advance(a.a, 16).advance(row, 16);
      });
      for (const step of stride) f.get(step).get(a.count).op("i32.sub").set(step);
      f.countdown(a.executions, 1, () => {
        for (const { sum } of vectors) f.constantI32(0).set(sum);
        f.get(a.scaled).set(row).get(a.count).set(left);
        f.countdown(left, DIRECT_STEP, () => {
          for (const { from, sum } of vectors) {
            for (const [plane, address] of from.entries()) {
              f.get(address).memory("v128.load64_zero").get(address).memory("v128.load64_zero", halfLanes);
              f.shuffle(INTERLEAVE_LOW).set(sure(bytes[plane], "plane")).advance(address, DIRECT_STEP);
            }
            let k = 0;
            widen(f, locals, () => {
              for (const top of tops) {
                f.get(row)
                  .memory("v128.load64_splat", k++ * 8)
                  .get(words)
                  .get(top);
                if (fma) f.op("i8x16.relaxed_swizzle").get(sum).op("f64x2.relaxed_madd").set(sum);
                else f.ops("i8x16.swizzle", "f64x2.mul").get(sum).op("f64x2.add").set(sum);
              }
            });
          }
          f.advance(row, DIRECT_STEP * 8);
        });
        for (let first = 0; first < DIRECT_VECTORS; first += 2) {
          for (const { sum } of vectors.slice(first, first + 2))
            f.get(sum)
              .constantF64(2 ** (exponent - ACTIVATION_EXPONENT))
              .ops("f64x2.mul", "f32x4.demote_f64x2_zero");
          f.shuffle(LOW_PAIRS).set(words);
          f.get(a.add).when(() =>
            f
              .get(a.c)
              .memory("v128.load", first * 8)
              .get(words)
              .op("f32x4.add")
              .set(words),
          );
          f.get(a.c)
            .get(words)
            .memory("v128.store", first * 8);
        }
        for (const [index, address] of src.entries()) f.advanceBy(address, sure(stride[index], "stride"));
        f.advanceBy(a.c, a.cStep);
      });
    },
  });
}

/** The arguments that have names of their own. */
function numbered(all: Readonly<Record<string, number>>) {
  const of = (name: string): number => sure(all[name], name);
  return {
    ...{ a: of("a"), scaled: of("scaled"), c: of("c"), cStep: of("cStep") },
    ...{ count: of("count"), executions: of("executions"), add: of("add") },
  };
}

export const DIRECT_KERNELS = { multiplyE4m3: direct(E4M3), multiplyF16: direct(F16) };
