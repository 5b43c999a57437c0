/**
 * Narrowing of weights to fp16 on the host's vectors, eight numbers at a time: the bits that `narrowFloats` gives.
 *
 * Normal numbers are rounded on their bits. Those below are added to a number whose last bit is the least step of fp16, which leaves
 * the count of steps in the bits of the sum. Whatever fp16 does not hold, finite or not, is left to the caller.
 */

import { sure } from "../../diagnostics.js";
import { FunctionBody, type Local } from "../../wasm/emitter.js";
import { instanceOf } from "../../wasm/instance.js";

/** Numbers that are narrowed at once: those of a piece of a weight, and some that the one before has left. */
const ROOM = 32_768;
/** Where things lie, in bytes. */
const VALUES = 0;
const HALVES = VALUES + 4 * ROOM;
const BEYOND = HALVES + 2 * ROOM;
const PAGES = BEYOND / 65_536 + 1;

const LEAST_NORMAL = 2 ** -14;
/** Its last bit is the least step of fp16, 2^-24. */
const STEPS = 1.5 * 2 ** -1;
/** Bits of 65504, and of the rebias less just under half a unit. */
const LAST = 0x477fe000;
const REBIAS = 0x38000000 - 0xfff;

/** Four numbers, `offset` bytes behind a place, as fp16 in words; `beyond` collects whether one is too great. */
const emitFour = (f: FunctionBody, at: Local, offset: number, x: Local, size: Local, beyond: Local): void => {
  f.get(at)
    .memory("v128.load", VALUES + offset)
    .tee(x)
    .op("f32x4.abs")
    .tee(size);
  f.constantI32(LAST).op("i32x4.gt_s").get(beyond).op("v128.or").set(beyond);
  f.get(size).constantF32(STEPS).op("f32x4.add").constantF32(STEPS).op("i32x4.sub");
  f.get(size).constantI32(REBIAS).op("i32x4.sub").get(size).i32(13).op("i32x4.shr_u").constantI32(1);
  f.ops("v128.and", "i32x4.add").i32(13).op("i32x4.shr_u");
  f.get(size).constantF32(LEAST_NORMAL).ops("f32x4.lt", "v128.bitselect");
  f.get(x).i32(16).op("i32x4.shr_u").constantI32(0x8000).ops("v128.and", "v128.or");
};

const emitHalves = (): FunctionBody => {
  const f = new FunctionBody();
  const [at, to] = [f.local("i32"), f.local("i32")];
  const [x, size, beyond] = [f.local("v128"), f.local("v128"), f.local("v128")];
  f.countdown(0, 8, () => {
    f.get(to);
    emitFour(f, at, 0, x, size, beyond);
    emitFour(f, at, 16, x, size, beyond);
    f.op("i16x8.narrow_i32x4_u").memory("v128.store", HALVES);
    f.advance(at, 32).advance(to, 16);
  });
  return f.i32(0).get(beyond).memory("v128.store", BEYOND);
};

/** Whether numbers are all within fp16, and are now in `out`, which is at least as long. False too where the host cannot tell. */
type Narrow = (values: Float32Array, out: Uint16Array) => boolean;

const simdNarrow = (): Narrow => {
  const instance = instanceOf([{ name: "halves", body: emitHalves() }], PAGES);
  if (instance === undefined) return () => false;
  const { buffer, kernels } = instance;
  const kernel = sure(kernels["halves"], "kernel");
  const floats = new Float32Array(buffer, VALUES, ROOM);
  const halves = new Uint16Array(buffer, HALVES, ROOM);
  const beyond = new Uint32Array(buffer, BEYOND, 4);
  return (values, out) => {
    const { length } = values;
    if (length > ROOM) return false;
    const count = 8 * Math.ceil(length / 8);
    floats.fill(0, length, count);
    floats.set(values);
    kernel(count);
    if (beyond.some((lane) => lane !== 0)) return false;
    out.set(halves.subarray(0, length));
    return true;
  };
};

/** From the first time on that it is wanted. */
export const narrowHalves: Narrow = ((made?: Narrow): Narrow => {
  return (values, out) => {
    made ??= simdNarrow();
    return made(values, out);
  };
})();
