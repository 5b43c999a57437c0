/**
 * The element types, one row each. int64 is not here: it narrows to i32 on import with a range check (numerics).
 * f16, bf16 and the two FP8 formats are kept as bit patterns; `numerics.ts` owns their conversions.
 */

/** Integers have the least and greatest value that they hold; those narrower than a byte lie in one each. */
export const DTYPES = {
  f32: { bytes: 4, kind: "float", array: Float32Array, doc: "IEEE binary32." },
  f16: { bytes: 2, kind: "float", array: Uint16Array, doc: "IEEE binary16, as bit patterns." },
  bf16: { bytes: 2, kind: "float", array: Uint16Array, doc: "bfloat16, as bit patterns; on input only." },
  f8e4m3: { bytes: 1, kind: "float", array: Uint8Array, doc: "OCP FP8 E4M3FN, as bit patterns." },
  f8e5m2: { bytes: 1, kind: "float", array: Uint8Array, doc: "OCP FP8 E5M2, as bit patterns." },
  i32: { bytes: 4, kind: "int", array: Int32Array, lo: -(2 ** 31), hi: 2 ** 31 - 1, doc: "Signed 32-bit integer." },
  u32: { bytes: 4, kind: "int", array: Uint32Array, lo: 0, hi: 2 ** 32 - 1, doc: "Unsigned 32-bit integer." },
  i16: { bytes: 2, kind: "int", array: Int16Array, lo: -32768, hi: 32767, doc: "Signed 16-bit integer." },
  u16: { bytes: 2, kind: "int", array: Uint16Array, lo: 0, hi: 65535, doc: "Unsigned 16-bit integer." },
  i8: { bytes: 1, kind: "int", array: Int8Array, lo: -128, hi: 127, doc: "Signed 8-bit integer." },
  u8: { bytes: 1, kind: "int", array: Uint8Array, lo: 0, hi: 255, doc: "Unsigned 8-bit integer." },
  i4: { bytes: 1, kind: "int", array: Int8Array, lo: -8, hi: 7, doc: "Signed 4-bit integer, which is converted only." },
  u4: {
    bytes: 1,
    kind: "int",
    array: Uint8Array,
    lo: 0,
    hi: 15,
    doc: "Unsigned 4-bit integer, which is converted only.",
  },
  i2: { bytes: 1, kind: "int", array: Int8Array, lo: -2, hi: 1, doc: "Signed 2-bit integer, which is converted only." },
  u2: {
    bytes: 1,
    kind: "int",
    array: Uint8Array,
    lo: 0,
    hi: 3,
    doc: "Unsigned 2-bit integer, which is converted only.",
  },
  bool: { bytes: 1, kind: "bool", array: Uint8Array, doc: "Truth value, 0 or 1 in a byte." },
} as const;

export type DType = keyof typeof DTYPES;
export type TensorData = Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

/** The bytes of numbers, where they lie. */
export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Element types as files spell them: those of DTYPES, and the wide ones that narrow at the edge. */
export type EdgeDType = DType | "i64" | "u64" | "f64";

export interface Limits {
  readonly lo: number;
  readonly hi: number;
}
/** Least and greatest value of an integer type; undefined of others. */
export function integerLimits(dtype: DType): Limits | undefined {
  const row = DTYPES[dtype];
  return row.kind === "int" ? row : undefined;
}

/** FP8: weights of the MXM, which widens them exactly; nothing else of the machine takes or makes them. */
export const isFp8 = (dtype: DType): dtype is "f8e4m3" | "f8e5m2" =>
  DTYPES[dtype].kind === "float" && DTYPES[dtype].bytes === 1;

/** Whether values of a type are narrower than the byte that holds each: files pack several in one. */
export const isSubByte = (dtype: DType): boolean => {
  const row = DTYPES[dtype];
  return row.kind === "int" && row.hi - row.lo + 1 < 2 ** (8 * row.bytes);
};
