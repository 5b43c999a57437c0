/**
 * The element types, one row each. int64 is not here: it narrows to i32 on import with a range check (numerics).
 * f16, bf16 and the two FP8 formats are kept as bit patterns; `numerics.ts` owns their conversions.
 */

export const DTYPES = {
  f32: { bytes: 4, kind: "float", array: Float32Array, doc: "IEEE binary32." },
  f16: { bytes: 2, kind: "float", array: Uint16Array, doc: "IEEE binary16, as bit patterns." },
  bf16: { bytes: 2, kind: "float", array: Uint16Array, doc: "bfloat16, as bit patterns; on input only." },
  f8e4m3: { bytes: 1, kind: "float", array: Uint8Array, doc: "OCP FP8 E4M3FN, as bit patterns." },
  f8e5m2: { bytes: 1, kind: "float", array: Uint8Array, doc: "OCP FP8 E5M2, as bit patterns." },
  i32: { bytes: 4, kind: "int", array: Int32Array, doc: "Signed 32-bit integer." },
  u32: { bytes: 4, kind: "int", array: Uint32Array, doc: "Unsigned 32-bit integer." },
  i16: { bytes: 2, kind: "int", array: Int16Array, doc: "Signed 16-bit integer." },
  u16: { bytes: 2, kind: "int", array: Uint16Array, doc: "Unsigned 16-bit integer." },
  i8: { bytes: 1, kind: "int", array: Int8Array, doc: "Signed 8-bit integer." },
  u8: { bytes: 1, kind: "int", array: Uint8Array, doc: "Unsigned 8-bit integer." },
  bool: { bytes: 1, kind: "bool", array: Uint8Array, doc: "Truth value, 0 or 1 in a byte." },
} as const;

export type DType = keyof typeof DTYPES;
export type TensorData = Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

/** Element types as files spell them: those of DTYPES, and the wide ones that narrow at the edge. */
export type EdgeDType = DType | "i64" | "u64" | "f64";
