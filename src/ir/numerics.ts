/**
 * Number formats, bit for bit: fp16, bfloat16 and the two OCP FP8 formats to and from fp32, and int64 narrowed to int32.
 *
 * Rounding is to nearest, ties to even; subnormals are kept; a NaN becomes the one canonical NaN of its format. Overflow
 * gives infinity in f16 and bf16; FP8 saturates to its largest finite value unless asked not to (ONNX Cast), in which case
 * E4M3FN gives NaN and E5M2 infinity. Widening is exact, by tables over every bit pattern. Narrowing works on the bits of
 * fp32 with one rule for all formats: rebias, add just under half a unit plus the lowest kept bit, shift. A carry out of
 * the mantissa lands in the exponent, which is what rounding up to the next binade means. Everybody imports this file:
 * frontend, folding, machine and host.
 */

import { fail } from "../diagnostics.js";

/** A format narrower than fp32, by the figures that narrowing needs. */
interface NarrowFormat {
  /** fp32 mantissa bits that are dropped. */
  readonly drop: number;
  /** Difference of the exponent biases, in the place of the fp32 exponent. */
  readonly rebias: number;
  /** fp32 bits of the smallest normal value. */
  readonly leastNormal: number;
  /** A subnormal is the 24-bit mantissa shifted right by this minus the biased fp32 exponent. */
  readonly subnormal: number;
  /** Largest finite magnitude as a bit pattern. */
  readonly largest: number;
  /** Result above `largest` when not saturating. */
  readonly overflow: number;
  /** Canonical NaN. */
  readonly nan: number;
  readonly sign: number;
  readonly saturates: boolean;
  readonly doc: string;
}

export const NARROW_FORMATS = {
  f16: {
    drop: 13,
    rebias: 0x38000000,
    leastNormal: 0x38800000,
    subnormal: 126,
    largest: 0x7bff,
    overflow: 0x7c00,
    nan: 0x7e00,
    sign: 0x8000,
    saturates: false,
    doc: "IEEE binary16: 5 exponent bits, 10 mantissa bits, largest 65504.",
  },
  bf16: {
    drop: 16,
    rebias: 0,
    leastNormal: 0x00000000,
    subnormal: 0,
    largest: 0x7f7f,
    overflow: 0x7f80,
    nan: 0x7fc0,
    sign: 0x8000,
    saturates: false,
    doc: "bfloat16: the upper half of binary32.",
  },
  f8e4m3: {
    drop: 20,
    rebias: 0x3c000000,
    leastNormal: 0x3c800000,
    subnormal: 141,
    largest: 0x7e,
    overflow: 0x7f,
    nan: 0x7f,
    sign: 0x80,
    saturates: true,
    doc: "OCP FP8 E4M3FN: no infinity, one NaN pattern, largest 448.",
  },
  f8e5m2: {
    drop: 21,
    rebias: 0x38000000,
    leastNormal: 0x38800000,
    subnormal: 134,
    largest: 0x7b,
    overflow: 0x7c,
    nan: 0x7e,
    sign: 0x80,
    saturates: true,
    doc: "OCP FP8 E5M2: as IEEE, largest 57344.",
  },
} as const satisfies Record<string, NarrowFormat>;
export type NarrowFloat = keyof typeof NARROW_FORMATS;
export const isNarrowFloat = (dtype: string): dtype is NarrowFloat => Object.hasOwn(NARROW_FORMATS, dtype);

export const F32_NAN_BITS = 0x7fc00000;

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

export function f32ToBits(value: number): number {
  scratch[0] = value;
  return Number.isNaN(value) ? F32_NAN_BITS : (scratchBits[0] as number);
}

export function bitsToF32(bits: number): number {
  scratchBits[0] = bits;
  return scratch[0] as number;
}

/** Magnitude bits of fp32 to magnitude bits of the format, before overflow is looked at. `magnitude` is not a NaN. */
function roundMagnitude(
  magnitude: number,
  drop: number,
  rebias: number,
  leastNormal: number,
  subnormal: number,
): number {
  if (magnitude >= leastNormal) {
    const rebiased = magnitude - rebias;
    return (rebiased + ((1 << (drop - 1)) - 1) + ((rebiased >>> drop) & 1)) >>> drop;
  }
  const shift = subnormal - (magnitude >>> 23);
  if (shift > 24) return 0;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  return (mantissa + ((1 << (shift - 1)) - 1) + ((mantissa >>> shift) & 1)) >>> shift;
}

/** Narrows one fp32 value (a number that is exact in fp32) to the bits of a format. */
export function narrowFloat(
  format: NarrowFloat,
  value: number,
  saturate: boolean = NARROW_FORMATS[format].saturates,
): number {
  return narrowBits(NARROW_FORMATS[format], f32ToBits(value), saturate);
}

function narrowBits(row: NarrowFormat, bits: number, saturate: boolean): number {
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return row.nan;
  const sign = bits >>> 31 === 1 ? row.sign : 0;
  const rounded = roundMagnitude(magnitude, row.drop, row.rebias, row.leastNormal, row.subnormal);
  if (rounded <= row.largest) return rounded | sign;
  if (saturate) return row.largest | sign;
  return row.overflow === row.nan ? row.nan : row.overflow | sign;
}

/** Exact value of each bit pattern: by definition from sign, exponent and mantissa fields, NaN and infinity by the format's rule. */
function wideningTable(format: NarrowFloat): Float32Array {
  const row: NarrowFormat = NARROW_FORMATS[format];
  const table = new Float32Array(row.sign * 2);
  const mantissaBits = 23 - row.drop;
  const bias = 127 - (row.rebias >>> 23);
  for (let magnitude = 0; magnitude < row.sign; magnitude += 1) {
    const exponent = magnitude >>> mantissaBits;
    const mantissa = magnitude & ((1 << mantissaBits) - 1);
    const finite =
      exponent === 0
        ? mantissa * 2 ** (1 - bias - mantissaBits)
        : (mantissa + (1 << mantissaBits)) * 2 ** (exponent - bias - mantissaBits);
    const value =
      magnitude <= row.largest
        ? finite
        : magnitude === row.overflow && row.overflow !== row.nan
          ? Number.POSITIVE_INFINITY
          : Number.NaN;
    table[magnitude] = value;
    table[magnitude + row.sign] = -value;
  }
  return table;
}

const WIDE: Readonly<Record<NarrowFloat, Float32Array>> = {
  f16: wideningTable("f16"),
  bf16: wideningTable("bf16"),
  f8e4m3: wideningTable("f8e4m3"),
  f8e5m2: wideningTable("f8e5m2"),
};

export const widenFloat = (format: NarrowFloat, bits: number): number => WIDE[format][bits] as number;

export const f32ToF16 = (value: number): number => narrowFloat("f16", value);
export const f16ToF32 = (bits: number): number => WIDE.f16[bits] as number;
/** The f16 value nearest to an fp32 value. */
export const roundToF16 = (value: number): number => f16ToF32(f32ToF16(value));

export type NarrowData = Uint16Array | Uint8Array;
export interface Narrowed<Data extends NarrowData = NarrowData> {
  readonly data: Data;
  /** How many finite values are beyond the format, and became its largest finite value, or its overflow. */
  readonly beyond: number;
}

/** Narrows fp32 values in bulk. `out` may be given to fill a part of a larger buffer. */
export function narrowFloats(
  format: NarrowFloat,
  values: Float32Array,
  out: NarrowData = newNarrow(format, values.length),
  saturate: boolean = NARROW_FORMATS[format].saturates,
): Narrowed {
  const { drop, rebias, leastNormal, subnormal, largest, overflow, nan, sign }: NarrowFormat = NARROW_FORMATS[format];
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (format === "f16") return { data: out, beyond: narrowHalfs(words, out, saturate) };
  const signShift = sign === 0x8000 ? 16 : 24;
  const half = (1 << (drop - 1)) - 1;
  let beyond = 0;
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] as number;
    const magnitude = word & 0x7fffffff;
    const signBit = (word >>> signShift) & sign;
    // The common case is written out; the rest of the work is behind one comparison each.
    const rebiased = magnitude - rebias;
    let rounded =
      magnitude >= leastNormal
        ? (rebiased + half + ((rebiased >>> drop) & 1)) >>> drop
        : roundMagnitude(magnitude, drop, rebias, leastNormal, subnormal);
    if (rounded > largest) {
      if (magnitude > 0x7f800000) {
        out[i] = nan;
        continue;
      }
      beyond += magnitude < 0x7f800000 ? 1 : 0;
      if (saturate) rounded = largest;
      else {
        rounded = overflow;
        if (overflow === nan) {
          out[i] = nan;
          continue;
        }
      }
    }
    out[i] = rounded | signBit;
  }
  return { data: out, beyond };
}

/** `narrowFloats` for the format that weights come in by the hundred million: its figures as constants are twice as fast. */
function narrowHalfs(words: Uint32Array, out: NarrowData, saturate: boolean): number {
  let beyond = 0;
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] as number;
    const magnitude = word & 0x7fffffff;
    // Normal, and below 65504: rebias, round and shift.
    if (magnitude >= 0x38800000 && magnitude < 0x477fe000) {
      out[i] = ((magnitude - 0x37fff001 + ((word >>> 13) & 1)) >>> 13) | ((word >>> 16) & 0x8000);
    } else {
      out[i] = narrowBits(NARROW_FORMATS.f16, word, saturate);
      // From halfway between 65504 and 65536 on.
      if (magnitude >= 0x477ff000 && magnitude < 0x7f800000) beyond += 1;
    }
  }
  return beyond;
}

const newNarrow = (format: NarrowFloat, length: number): NarrowData =>
  NARROW_FORMATS[format].sign === 0x8000 ? new Uint16Array(length) : new Uint8Array(length);

/** Widens bit patterns in bulk, exactly. */
export function widenFloats(
  format: NarrowFloat,
  bits: NarrowData,
  out: Float32Array = new Float32Array(bits.length),
): Float32Array {
  const table = WIDE[format];
  for (let i = 0; i < bits.length; i += 1) out[i] = table[bits[i] as number] as number;
  return out;
}

export function encodeF16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  narrowFloats("f16", values, out);
  return out;
}

/** The greatest finite numbers of binary16 and binary32. */
export const LARGEST_F16 = 65504;
export const LARGEST_F32 = 3.4028234663852886e38;

export interface NarrowedTensor {
  /** As in messages. */
  readonly node: string;
  readonly unsigned?: boolean;
}

/** Narrows int64, given as little-endian pairs of 32-bit words, to int32; a value out of range is an error. */
export function narrowInt64(words: Int32Array, what: NarrowedTensor): Int32Array {
  const out = new Int32Array(words.length >>> 1);
  for (let i = 0; i < out.length; i += 1) {
    const low = words[2 * i] as number;
    const high = words[2 * i + 1] as number;
    if (high !== low >> 31 || (what.unsigned === true && high < 0)) return failBeyond(low, high, i, what);
    out[i] = low;
  }
  return out;
}

function failBeyond(low: number, high: number, index: number, { node, unsigned = false }: NarrowedTensor): never {
  const value = (BigInt(unsigned ? high >>> 0 : high) << 32n) | BigInt(low >>> 0);
  return fail("LPU2003", {
    message: `expected an integer of 32 bits, element ${index} is ${value}`,
    node,
    hint: "64-bit integers narrow to 32 bits; larger values are not supported",
  });
}

/** Place of the first finite number that is none any more where it is kept. */
export function firstOverflow(values: ArrayLike<number>, kept: ArrayLike<number>): number | undefined {
  for (let i = 0; i < kept.length; i += 1) if (!Number.isFinite(kept[i]) && Number.isFinite(values[i])) return i;
  return undefined;
}

/** Rounds fp64 to fp32; a finite value beyond the range of fp32 is an error. */
export function narrowDoubles(values: Float64Array, node: string): Float32Array {
  const out = Float32Array.from(values);
  const index = firstOverflow(values, out);
  if (index === undefined) return out;
  return fail("LPU2003", {
    message: `expected a number within fp32, element ${index} is ${values[index]}`,
    node,
    hint: "fp64 rounds to fp32, which ends at 3.4e38: use an infinity if that is what is meant",
  });
}
