/**
 * Vectors on streams and numbers in ALUs: the conversions between them, lane by lane, as the definition.
 *
 * A vector of a g-byte type is g byte vectors (one a stream), little-endian. A float function computes on fp32 numbers, an
 * `int` function on int32 ones; operands convert on the way in, results on the way out. Into fp32: exact, or rounded to
 * nearest even (int32). fp32 into integers: nearest even, saturating, NaN gives 0. int32 into narrower integers: modulo.
 * Truth values: any byte but 0 is 1; any number but 0 (NaN too) gives 1. Floats are given with canonical NaNs.
 */

import { at } from "../diagnostics.js";
import { roundEven } from "../ir/functions.js";
import { STREAM_TYPES, type StreamType } from "../ir/isa.js";
import { bitsToF32, f16ToF32, f32ToBits, f32ToF16 } from "../ir/numerics.js";

/** The results of one ALU execution, one number a lane. */
export interface LaneValues {
  readonly int: boolean;
  readonly values: Float64Array;
}

/** How an element of a stream type is read from its bits (an unsigned number), and made from a number. */
interface Conversion {
  readonly read: (bits: number) => number;
  readonly fromFloat: (value: number) => number;
  readonly fromInt: (value: number) => number;
}

const saturating =
  (least: number, greatest: number) =>
  (value: number): number =>
    // Adding 0 makes 0 of -0, which no integer is.
    Number.isNaN(value) ? 0 : Math.min(Math.max(roundEven(value), least), greatest) + 0;
const modulo = (value: number): number => value;
const truth = (value: number): number => (value === 0 ? 0 : 1);

const TYPES: { readonly [T in StreamType]: Conversion } = {
  f16: { read: f16ToF32, fromFloat: f32ToF16, fromInt: (value) => f32ToF16(Math.fround(value)) },
  f32: { read: bitsToF32, fromFloat: f32ToBits, fromInt: (value) => f32ToBits(Math.fround(value)) },
  i32: { read: (bits) => bits | 0, fromFloat: saturating(-0x80000000, 0x7fffffff), fromInt: modulo },
  i16: { read: (bits) => (bits << 16) >> 16, fromFloat: saturating(-0x8000, 0x7fff), fromInt: modulo },
  u16: { read: (bits) => bits, fromFloat: saturating(0, 0xffff), fromInt: modulo },
  i8: { read: (bits) => (bits << 24) >> 24, fromFloat: saturating(-0x80, 0x7f), fromInt: modulo },
  u8: { read: (bits) => bits, fromFloat: saturating(0, 0xff), fromInt: modulo },
  bool: { read: truth, fromFloat: truth, fromInt: truth },
};

/** fp32 (or a constant) as an int function takes it. */
export const floatToInt = saturating(-0x80000000, 0x7fffffff);

/** Numbers of a vector of a type, as an int or a float function takes them. */
export function readLanes(type: StreamType, streams: readonly Uint8Array[], int: boolean): Float64Array {
  const row = TYPES[type];
  const lanes = at(streams, 0, "stream").length;
  const values = new Float64Array(lanes);
  for (let lane = 0; lane < lanes; lane++) {
    let bits = 0;
    streams.forEach((stream, byte) => {
      bits |= (stream[lane] as number) << (8 * byte);
    });
    values[lane] = row.read(bits >>> 0);
  }
  return convertLanes({ int: STREAM_TYPES[type].lane === "int", values }, int);
}

/** A result as an int or a float function takes it. */
export function convertLanes({ int, values }: LaneValues, toInt: boolean): Float64Array {
  if (int === toInt) return values;
  return values.map(toInt ? floatToInt : Math.fround);
}

/** Byte vectors of a result as a type; lanes at and beyond `length` are zero. */
export function writeLanes(type: StreamType, { int, values }: LaneValues, length: number): Uint8Array[] {
  const row = TYPES[type];
  const streams = Array.from({ length: STREAM_TYPES[type].bytes }, () => new Uint8Array(values.length));
  for (let lane = 0; lane < length; lane++) {
    const bits = (int ? row.fromInt : row.fromFloat)(values[lane] as number);
    streams.forEach((stream, byte) => {
      stream[lane] = bits >> (8 * byte);
    });
  }
  return streams;
}
