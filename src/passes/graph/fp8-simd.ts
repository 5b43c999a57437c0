/**
 * The loops of FP8 in WebAssembly SIMD, emitted at run time: four numbers, or one number under four scales, at a time.
 *
 * A number is divided by its scale in fp32, rounded on its bits, and below the normal numbers of the format by adding a number whose last
 * bit is the least step; sums are of fp64, in the order of `fp8-loops`, of which this gives every bit. A function takes how many
 * numbers there are; where they lie in memory is written in its code.
 */

import { sure } from "../../diagnostics.js";
import { NARROW_FORMATS, widenFloat } from "../../ir/numerics.js";
import type { Fp8 } from "../../ir/weights.js";
import { FunctionBody, type Local } from "../../wasm/emitter.js";
import { instanceOf, type Kernel } from "../../wasm/instance.js";
import { HIGH_PAIRS, HIGH_TWICE, LOW_PAIRS } from "../../wasm/shuffles.js";
import { CANDIDATES, type Columns, type Loops, type Lost, STRIP, type Strip } from "./fp8-loops.js";

/** Where things lie, in bytes. */
const SUMS = 0;
const WEIGHT = 192;
const TOTALS = 208;
const GREATEST = 224;
const BEYOND = 240;
const TRIED = 256;
const VALUES = 512;
const SCALES = VALUES + 4 * STRIP;
const CODES = SCALES + 4 * STRIP;
const SIGNALS = CODES + STRIP;
const NOISES = SIGNALS + 8 * STRIP;
const PAGES = Math.ceil((NOISES + 8 * STRIP) / 65536);

/** Lower and upper two of four numbers, in fp64. */
type Pair = readonly [Local, Local];
const pairOf = (f: FunctionBody): Pair => [f.local("v128"), f.local("v128")];

const widen = (f: FunctionBody, four: Local, [low, high]: Pair): void => {
  f.get(four).op("f64x2.promote_low_f32x4").set(low);
  f.get(four).get(four).shuffle(HIGH_TWICE).op("f64x2.promote_low_f32x4").set(high);
};

/** A number of fp32 whose last bit is the least step of a format. */
const stepsOf = (format: Fp8): number => 1.5 * 2 ** 23 * widenFloat(format, 1);
const leastOf = (format: Fp8): number => widenFloat(format, 1 << (23 - NARROW_FORMATS[format].drop));

/** Puts on the stack whether numbers are below the normal ones of a format. */
const isSmall = (f: FunctionBody, x: Local, format: Fp8): FunctionBody =>
  f.get(x).op("f32x4.abs").constantF32(leastOf(format)).op("f32x4.lt");

/** The numbers of a format that are nearest to parts. The sign of a zero is lost. */
const emitNearest = (f: FunctionBody, part: Local, near: Local, format: Fp8): void => {
  const { drop, largest } = NARROW_FORMATS[format];
  const [last, steps] = [widenFloat(format, largest), stepsOf(format)];
  f.get(part).constantF32(last).op("f32x4.pmin").constantF32(-last).op("f32x4.pmax").set(near);
  f.get(near).constantF32(steps).op("f32x4.add").constantF32(steps).op("f32x4.sub");
  f.get(near).get(near).i32(drop).op("i32x4.shr_u").constantI32(1).ops("v128.and", "i32x4.add");
  f.constantI32((1 << (drop - 1)) - 1)
    .op("i32x4.add")
    .constantI32(-(1 << drop))
    .op("v128.and");
  isSmall(f, near, format).op("v128.bitselect").set(near);
  // Bits of what is not a number might become those of one.
  f.get(part).get(near).get(part).get(part).ops("f32x4.ne", "v128.bitselect").set(near);
};

/** Adds squares of what is lost of so many values under CANDIDATES scales. */
const emitSquaresLost = (format: Fp8): FunctionBody => {
  const f = new FunctionBody();
  const [at, left] = [f.local("i32"), f.local("i32")];
  const vector = (): Local => f.local("v128");
  const [value, scale, part, near] = [vector(), vector(), vector(), vector()];
  const [weight, wide, lost] = [vector(), vector(), vector()];
  const [scales, nears, sums] = [pairOf(f), pairOf(f), pairOf(f)];
  f.i32(0).memory("v128.load64_splat", WEIGHT).set(weight);
  for (let first = 0; first < CANDIDATES; first += 4) {
    f.i32(0)
      .memory("v128.load", TRIED + 4 * first)
      .set(scale);
    widen(f, scale, scales);
    for (const [half, sum] of sums.entries())
      f.i32(0)
        .memory("v128.load", SUMS + 8 * first + 16 * half)
        .set(sum);
    f.i32(0).set(at).get(0).set(left);
    f.countdown(left, 1, () => {
      f.get(at).memory("v128.load32_splat", VALUES).tee(value).get(scale).op("f32x4.div").set(part);
      emitNearest(f, part, near, format);
      widen(f, near, nears);
      f.get(value).op("f64x2.promote_low_f32x4").set(wide);
      for (const [half, sum] of sums.entries()) {
        f.get(wide)
          .get(sure(nears[half], "half"))
          .get(sure(scales[half], "half"))
          .ops("f64x2.mul", "f64x2.sub")
          .set(lost);
        f.get(sum).get(weight).get(lost).op("f64x2.mul").get(lost).ops("f64x2.mul", "f64x2.add").set(sum);
      }
      f.advance(at, 4);
    });
    for (const [half, sum] of sums.entries())
      f.i32(0)
        .get(sum)
        .memory("v128.store", SUMS + 8 * first + 16 * half);
  }
  return f;
};

/** Stores the patterns of numbers of a format, with the signs of parts. */
const emitCodes = (
  f: FunctionBody,
  at: Local,
  { part, near, size }: Record<"part" | "near" | "size", Local>,
  format: Fp8,
): void => {
  const { drop, rebias, nan } = NARROW_FORMATS[format];
  const steps = stepsOf(format);
  f.get(near).op("f32x4.abs").set(size);
  f.get(at).constantI32(nan);
  f.get(size).constantF32(steps).op("f32x4.add").constantF32(steps).op("i32x4.sub");
  f.get(size).constantI32(rebias).op("i32x4.sub").i32(drop).op("i32x4.shr_u");
  isSmall(f, near, format).op("v128.bitselect");
  f.get(part).i32(24).op("i32x4.shr_u").constantI32(0x80).ops("v128.and", "v128.or");
  f.get(near).get(near).ops("f32x4.ne", "v128.bitselect").set(size);
  f.get(size).get(size).op("i16x8.narrow_i32x4_u").set(size);
  f.get(size).get(size).op("i8x16.narrow_i16x8_u").storeLane("v128.store32_lane", 0, CODES);
};

/** Counts finite parts that would round to a number beyond the format. */
const emitBeyond = (f: FunctionBody, part: Local, beyond: Local, size: Local, format: Fp8): void => {
  const { drop, rebias, largest } = NARROW_FORMATS[format];
  f.get(part).op("f32x4.abs").tee(size).constantF32(widenFloat(format, largest)).ops("f32x4.gt", "v128.any_true");
  f.when(() => {
    f.get(beyond);
    f.get(size)
      .constantI32(rebias)
      .op("i32x4.sub")
      .constantI32((1 << (drop - 1)) - 1)
      .op("i32x4.add");
    f.get(size).i32(drop).op("i32x4.shr_u").constantI32(1).ops("v128.and", "i32x4.add").i32(drop).op("i32x4.shr_s");
    f.constantI32(largest).op("i32x4.gt_s").get(size).constantF32(Number.POSITIVE_INFINITY).ops("f32x4.lt", "v128.and");
    f.op("i32x4.sub").set(beyond);
  });
};

/** Narrows so many numbers of a row, a multiple of four, and adds what is lost. */
const emitNarrow = (format: Fp8): FunctionBody => {
  const f = new FunctionBody();
  const [at, wideAt, codeAt] = [f.local("i32"), f.local("i32"), f.local("i32")];
  const vector = (): Local => f.local("v128");
  const [value, scale, part, near, size] = [vector(), vector(), vector(), vector(), vector()];
  const [totals, greatest, beyond] = [vector(), vector(), vector()];
  const [now, lost, square, product] = [vector(), vector(), vector(), vector()];
  const [values, scales, nears] = [pairOf(f), pairOf(f), pairOf(f)];
  const kept = [
    [totals, TOTALS],
    [greatest, GREATEST],
    [beyond, BEYOND],
  ] as const;
  for (const [local, place] of kept) f.i32(0).memory("v128.load", place).set(local);
  const add = (place: number, x: Local): FunctionBody =>
    f
      .get(wideAt)
      .get(wideAt)
      .memory("v128.load", place)
      .get(x)
      .get(x)
      .ops("f64x2.mul", "f64x2.add")
      .memory("v128.store", place);
  f.countdown(0, 4, () => {
    f.get(at)
      .memory("v128.load", VALUES)
      .tee(value)
      .get(at)
      .memory("v128.load", SCALES)
      .tee(scale)
      .op("f32x4.div")
      .set(part);
    emitNearest(f, part, near, format);
    emitBeyond(f, part, beyond, size, format);
    emitCodes(f, codeAt, { part, near, size }, format);
    widen(f, value, values);
    widen(f, scale, scales);
    widen(f, near, nears);
    for (const [half, own] of values.entries()) {
      f.get(sure(nears[half], "half")).get(sure(scales[half], "half")).op("f64x2.mul").set(now);
      f.get(own).get(now).op("f64x2.sub").set(lost);
      add(SIGNALS + 16 * half, own);
      add(NOISES + 16 * half, lost);
      f.get(greatest).get(lost).ops("f64x2.abs", "f64x2.pmax").set(greatest);
      f.get(now).get(now).op("f64x2.mul").set(square);
      f.get(own).get(now).op("f64x2.mul").set(product);
      // What is kept and what is common, each in its order.
      f.get(totals).get(square).get(product).shuffle(LOW_PAIRS).op("f64x2.add");
      f.get(square).get(product).shuffle(HIGH_PAIRS).op("f64x2.add").set(totals);
    }
    f.advance(at, 16).advance(wideAt, 32).advance(codeAt, 4);
  });
  for (const [local, place] of kept) f.i32(0).get(local).memory("v128.store", place);
  return f;
};

/** Raises greatest magnitudes, which lie in the place of SIGNALS, to those of so many numbers, a multiple of four. */
const emitGreatest = (): FunctionBody => {
  const f = new FunctionBody();
  const at = f.local("i32");
  return f.countdown(0, 4, () => {
    f.get(at).get(at).memory("v128.load", SIGNALS).get(at).memory("v128.load", VALUES).ops("f32x4.abs", "f32x4.pmax");
    f.memory("v128.store", SIGNALS).advance(at, 16);
  });
};

/** The same loops on vectors; undefined where the host has none. */
export const simdLoops = (): Loops | undefined => {
  const functions = [
    { name: "greatest", body: emitGreatest() },
    ...FORMATS.map((format) => ({ name: `squaresLost ${format}`, body: emitSquaresLost(format) })),
    ...FORMATS.map((format) => ({ name: `narrow ${format}`, body: emitNarrow(format) })),
  ];
  const instance = instanceOf(functions, PAGES);
  if (instance === undefined) return undefined;
  const { buffer, kernels } = instance;
  const byFormat = (name: string): Readonly<Record<Fp8, Kernel>> => {
    const own = (format: Fp8): Kernel => sure(kernels[`${name} ${format}`], "kernel");
    return { f8e4m3: own("f8e4m3"), f8e5m2: own("f8e5m2") };
  };
  const [lost, narrow, greatest] = [byFormat("squaresLost"), byFormat("narrow"), sure(kernels["greatest"], "kernel")];
  const [floats, doubles] = [new Float32Array(buffer), new Float64Array(buffer)];
  const found = new Float64Array(buffer, SUMS, CANDIDATES);
  return {
    squaresLost: (format, { values, from, to, weight }, more, scales, sums) => {
      const kernel = lost[format];
      floats.set(scales, TRIED / 4);
      doubles[WEIGHT / 8] = weight;
      found.fill(0);
      for (let first = from; first < to; first += STRIP) {
        const end = Math.min(to, first + STRIP);
        floats.set(values.subarray(first, end), VALUES / 4);
        kernel(end - first);
      }
      floats[VALUES / 4] = more;
      doubles[WEIGHT / 8] = 1;
      kernel(1);
      sums.set(found);
    },
    narrow: (format, strip) => narrowStrip(narrow[format], buffer, strip),
    greatest: (columns) => greatestOf(greatest, buffer, columns),
  };
};

const FORMATS: readonly Fp8[] = ["f8e4m3", "f8e5m2"];

const greatestOf = (
  kernel: Kernel,
  buffer: ArrayBufferLike,
  { values, from, stride, rows, width }: Columns,
): Float32Array => {
  const [floats, greatest] = [new Float32Array(buffer, VALUES, STRIP), new Float32Array(buffer, SIGNALS, width)];
  greatest.fill(0);
  for (let row = 0, start = from; row < rows; row++, start += stride) {
    floats.set(values.subarray(start, start + width));
    kernel(4 * Math.ceil(width / 4));
  }
  return greatest.slice();
};

const narrowStrip = (kernel: Kernel, buffer: ArrayBufferLike, strip: Strip): Lost => {
  const { values, data, from, stride, rows, width, scales, place } = strip;
  const [floats, doubles] = [new Float32Array(buffer), new Float64Array(buffer)];
  const codes = new Uint8Array(buffer, CODES, width);
  const count = 4 * Math.ceil(width / 4);
  doubles.fill(0, TOTALS / 8, TRIED / 8);
  doubles.fill(0, SIGNALS / 8, NOISES / 8 + STRIP);
  floats.fill(0, VALUES / 4, SCALES / 4);
  floats.fill(1, SCALES / 4, CODES / 4);
  let known = -1;
  for (let row = 0, start = from; row < rows; row++, start += stride) {
    const own = place(row);
    if (own !== known) floats.set(scales.subarray(own, own + width), SCALES / 4);
    known = own;
    floats.set(values.subarray(start, start + width), VALUES / 4);
    kernel(count);
    data.set(codes, start);
  }
  const sums = (at: number): Float64Array => doubles.slice(at / 8, at / 8 + width);
  const [kept = 0, both = 0, one = 0, other = 0] = doubles.subarray(TOTALS / 8);
  const saturated = new Int32Array(buffer, BEYOND, 4).reduce((sum, lane) => sum + lane, 0);
  return { signals: sums(SIGNALS), noises: sums(NOISES), kept, both, greatest: Math.max(one, other), saturated };
};
