/**
 * Tensors of the file: element types as one table, and data (raw, in typed fields, or in external files) as lazy literals.
 *
 * Types that the tensor IR does not have narrow here and nowhere else: int64 and uint64 to i32 with a range check, double to
 * f32; integers of 4 and 2 bits are unpacked, one to a byte. Lengths and external ranges are checked when the literal is made,
 * so that loading it later cannot fail for a reason that was in the file. Raw data that is aligned is a view of the source's
 * bytes; else it is copied.
 */

import { at, CompileError, fail, invariant } from "../diagnostics.js";
import { type DType, DTYPES, type EdgeDType, integerLimits, isSubByte, type TensorData } from "../ir/dtype.js";
import { elementCount, type Literal, type Shape, type Tensor } from "../ir/graph.js";
import { narrowDoubles, narrowInt64 } from "../ir/numerics.js";
import {
  contentKey,
  formatShape,
  isFloat,
  isInteger,
  narrowTensor,
  newData,
  stridesOf,
  tensorOf,
  type WideTensor,
} from "../ir/tensor.js";
import { decodeMessage, int64ToNumber, int64Words, type SparseTensorProto, type TensorProto } from "./schema.js";
import type { ModelSource, TensorRecord } from "./source.js";

export interface ElementType {
  readonly name: string;
  readonly dtype: DType;
  readonly edge: EdgeDType;
  /** Bits of an element in raw data. */
  readonly bits: 2 | 4 | 8 | 16 | 32 | 64;
  /** Typed field that holds the data where it is not raw. */
  readonly field: "floatData" | "int32Data" | "int64Data" | "doubleData" | "uint64Data";
}

/** By the number that ONNX gives each type (TensorProto.DataType). */
export const ELEMENT_TYPES: Readonly<Record<number, ElementType>> = {
  1: { name: "float", dtype: "f32", edge: "f32", bits: 32, field: "floatData" },
  2: { name: "uint8", dtype: "u8", edge: "u8", bits: 8, field: "int32Data" },
  3: { name: "int8", dtype: "i8", edge: "i8", bits: 8, field: "int32Data" },
  4: { name: "uint16", dtype: "u16", edge: "u16", bits: 16, field: "int32Data" },
  5: { name: "int16", dtype: "i16", edge: "i16", bits: 16, field: "int32Data" },
  6: { name: "int32", dtype: "i32", edge: "i32", bits: 32, field: "int32Data" },
  7: { name: "int64", dtype: "i32", edge: "i64", bits: 64, field: "int64Data" },
  9: { name: "bool", dtype: "bool", edge: "bool", bits: 8, field: "int32Data" },
  10: { name: "float16", dtype: "f16", edge: "f16", bits: 16, field: "int32Data" },
  11: { name: "double", dtype: "f32", edge: "f64", bits: 64, field: "doubleData" },
  12: { name: "uint32", dtype: "u32", edge: "u32", bits: 32, field: "uint64Data" },
  13: { name: "uint64", dtype: "i32", edge: "u64", bits: 64, field: "uint64Data" },
  16: { name: "bfloat16", dtype: "bf16", edge: "bf16", bits: 16, field: "int32Data" },
  17: { name: "float8e4m3fn", dtype: "f8e4m3", edge: "f8e4m3", bits: 8, field: "int32Data" },
  19: { name: "float8e5m2", dtype: "f8e5m2", edge: "f8e5m2", bits: 8, field: "int32Data" },
  21: { name: "uint4", dtype: "u4", edge: "u4", bits: 4, field: "int32Data" },
  22: { name: "int4", dtype: "i4", edge: "i4", bits: 4, field: "int32Data" },
  25: { name: "uint2", dtype: "u2", edge: "u2", bits: 2, field: "int32Data" },
  26: { name: "int2", dtype: "i2", edge: "i2", bits: 2, field: "int32Data" },
};

/** Types that are refused. */
export const OTHER_TYPES: Readonly<Record<number, { readonly name: string; readonly why: string }>> = {
  0: { name: "undefined", why: "no element type is said" },
  8: { name: "string", why: "the machine computes with numbers" },
  14: { name: "complex64", why: "the machine computes with real numbers: write the two parts apart" },
  15: { name: "complex128", why: "the machine computes with real numbers: write the two parts apart" },
  18: { name: "float8e4m3fnuz", why: "it has another bias than the FP8 of OCP, which float8e4m3fn is: use that" },
  20: { name: "float8e5m2fnuz", why: "it has another bias than the FP8 of OCP, which float8e5m2 is: use that" },
  23: {
    name: "float4e2m1",
    why: "its 16 numbers are exact in float16, and twice them in int8: use one of these",
  },
  24: { name: "float8e8m0", why: "it holds scales, which are powers of two and exact in float: use that" },
};

export function elementType(code: number, what: string): ElementType {
  const type = ELEMENT_TYPES[code];
  if (type !== undefined) return type;
  const other = OTHER_TYPES[code];
  return fail("LPU1009", {
    message: `${what} has element type '${other?.name ?? `number ${code}`}', which is not supported`,
    notes: other === undefined ? [] : [other.why],
    hint: `supported are ${Object.values(ELEMENT_TYPES)
      .map((row) => row.name)
      .join(", ")}`,
  });
}

/** Literals of at most this many elements are held in memory and known by their contents. */
export const SMALL = 4096;
const EXTERNAL = 1;

interface Description {
  readonly what: string;
  readonly type: ElementType;
  readonly shape: Shape;
  readonly count: number;
  readonly bytes: number;
  /** What becomes of 64-bit integers, given as pairs of words. */
  readonly narrow: (words: Int32Array) => Int32Array;
}

function describe(proto: TensorProto): Description {
  const what = `tensor '${proto.name}'`;
  const type = elementType(proto.dataType, what);
  const shape = proto.dims.map(int64ToNumber);
  const count = elementCount(shape);
  if (shape.some((extent) => extent < 0) || count > 2 ** 40) {
    malformed(`${what} has the impossible shape ${formatShape(shape)}`);
  }
  const narrow = (words: Int32Array): Int32Array => narrowInt64(words, { node: what, unsigned: type.edge === "u64" });
  return { what, type, shape, count, bytes: Math.ceil((count * type.bits) / 8), narrow };
}

const malformed = (message: string): never =>
  fail("LPU1008", { message, hint: "the file may be damaged; export the model again" });

function wantBytes({ what, shape, type, bytes }: Description, given: number): void {
  if (given !== bytes)
    malformed(`${what} of ${type.name}${formatShape(shape)} expects ${bytes} bytes of data, has ${given}`);
}

interface Words {
  readonly words: Int32Array;
  readonly unsigned: boolean;
}

/** The words of a tensor of 64-bit integers, low first. */
export const wordsOfRecord = (record: TensorRecord, source: ModelSource): Words =>
  wordsOf(describe(record.proto), (description) => locate(record, source, description).load());

function wordsOf(description: Description, load: (description: Description) => unknown): Words {
  let words = new Int32Array(0);
  const keep = (all: Int32Array): Int32Array => {
    words = Int32Array.from(all);
    return words;
  };
  load({ ...description, narrow: keep });
  return { words, unsigned: description.type.edge === "u64" };
}

/** The most elements of a sparse tensor, with its zeros. */
const LARGEST_DENSE = 2 ** 28;

/** A sparse tensor with its zeros. */
export function denseTensor(sparse: SparseTensorProto, source: ModelSource): Tensor {
  if (!sparse.values || !sparse.indices) return malformed("a sparse tensor has no values or no indices");
  const what = `sparse tensor '${sparse.values.name}'`;
  const shape = sparse.dims.map(int64ToNumber);
  const total = elementCount(shape);
  if (!shape.every((extent) => extent >= 0) || total > LARGEST_DENSE)
    malformed(`${what} has the impossible shape ${formatShape(shape)}`);
  const values = literalOfRecord({ proto: sparse.values }, source).load();
  const indices = literalOfRecord({ proto: sparse.indices }, source).load();
  const strides = indices.shape.length === 2 ? stridesOf(shape) : [1];
  if (indices.data.length !== values.data.length * strides.length)
    malformed(`${what} has ${values.data.length} values and indices ${formatShape(indices.shape)}`);
  const data = newData(values.dtype, total);
  values.data.forEach((value, i) => {
    const place = strides.reduce(
      (sum, stride, k) => sum + stride * at(indices.data, i * strides.length + k, "element"),
      0,
    );
    if (!(place >= 0 && place < total)) malformed(`${what} has a value at place ${place} of ${total}`);
    data[place] = value;
  });
  return { dtype: values.dtype, shape, data };
}

/** A constant of the file: lazily if large. */
export function literalOfRecord(record: TensorRecord, source: ModelSource): Literal {
  const description = describe(record.proto);
  const { type, shape, count } = description;
  const { place, load, read: readPart, few } = locate(record, source, description);
  const read = (): Tensor => ({ dtype: type.dtype, shape, data: load() });
  if (count > SMALL && place !== undefined) {
    // Typed fields cannot be measured without decoding them.
    if (record.whole !== undefined) load();
    const key = `${place}:${type.name}${formatShape(shape)}`;
    const literal = { dtype: type.dtype, shape, key, load: read, ...(few === undefined ? {} : { few }) };
    return readPart === undefined || type.edge !== type.dtype || type.bits < 8 || type.dtype === "bool"
      ? literal
      : {
          ...literal,
          pieces: () => piecesOf(description, readPart),
          few: () => fewOf(description, readPart),
        };
  }
  const tensor = read();
  return { dtype: type.dtype, shape, key: contentKey(tensor), load: () => tensor };
}

/** Part of the raw data of a tensor, by offset and length in it. */
type ReadPart = (offset: number, length: number, into?: Uint8Array) => Uint8Array;

interface RawData {
  /** Undefined: already in memory. */
  readonly place?: string;
  readonly load: () => TensorData;
  readonly read?: ReadPart;
  /** Numbers like those that `load` gives, where these are not read. */
  readonly few?: () => Tensor;
}

const rawAt = (place: string, description: Description, read: ReadPart): RawData => ({
  place,
  load: () => fromRaw(read(0, description.bytes), description),
  read,
});

/** Where the data is and how to load it. */
function locate({ proto, raw, whole }: TensorRecord, source: ModelSource, description: Description): RawData {
  if (proto.dataLocation === EXTERNAL) return locateExternal(proto, source, description);
  if (raw !== undefined) {
    wantBytes(description, raw.length);
    return rawAt(`file@${raw.offset}`, description, (offset, length, into) =>
      source.read(raw.offset + offset, length, into),
    );
  }
  if (whole !== undefined) {
    const decode = (): TensorProto =>
      decodeMessage("TensorProto", source.read(whole.offset, whole.length), `offset ${whole.offset}`);
    return { place: `file@${whole.offset}`, load: () => fromFields(decode(), description) };
  }
  return { load: () => fromProto(proto, description) };
}

function fromProto(proto: TensorProto, description: Description): TensorData {
  if (proto.rawData.length === 0) return fromFields(proto, description);
  wantBytes(description, proto.rawData.length);
  return fromRaw(proto.rawData, description);
}

function locateExternal(proto: TensorProto, source: ModelSource, description: Description): RawData {
  const { what, bytes } = description;
  const entry = (key: string): string | undefined => proto.externalData.find((pair) => pair.key === key)?.value;
  const location = safeLocation(entry("location") ?? "", what);
  const offset = wholeNumber(entry("offset") ?? "0", what);
  wantBytes(description, wholeNumber(entry("length") ?? String(bytes), what));
  const { external } = source;
  const size = external?.size(location);
  if (external === undefined || size === undefined) {
    const place = `${location}@${offset}`;
    if (source.standIns === true && isWeight(description)) {
      const few = { ...description, count: FEW };
      return {
        place,
        load: () => standIn(place, description),
        few: () => ({ dtype: description.type.dtype, shape: [FEW], data: standIn(place, few) }),
      };
    }
    return fail("LPU1007", {
      message: `${what} is kept in '${location}', which is not there`,
      hint: "put the model's data files beside the model, under the names that it was exported with",
    });
  }
  if (offset + bytes > size) {
    fail("LPU1007", {
      message: `${what} needs bytes ${offset} to ${offset + bytes} of '${location}', which has ${size}`,
      hint: "the data file may be truncated, or of another model",
    });
  }
  return rawAt(`${location}@${offset}`, description, (from, length, into) =>
    external.read(location, offset + from, length, into),
  );
}

/** Integers of more than eight bits say where and how much, and nothing stands in for them. */
const isWeight = ({ type }: Description): boolean => isFloat(type.dtype) || (isInteger(type.dtype) && type.bits <= 8);

/** Values as a weight may have them: none that a pass would fold, others for each place, again and again so many. */
const STAND_INS = 4093;
const standIn = (place: string, { type, count }: Description): TensorData => {
  let state = count;
  for (let i = 0; i < place.length; i += 1) state = (Math.imul(state, 31) + place.charCodeAt(i)) | 0;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
  const limits = integerLimits(type.dtype);
  const value = limits ? () => Math.floor(limits.lo + next() * (limits.hi - limits.lo)) : () => (next() - 0.5) / 16;
  const length = Math.min(count, STAND_INS);
  const few = tensorOf(type.dtype, [length], Float64Array.from({ length }, value)).data;
  const data = newData(type.dtype, count);
  data.set(few);
  for (let filled = length; filled < count; filled *= 2) data.copyWithin(filled, 0, filled);
  return data;
};

function wholeNumber(text: string, what: string): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isNaN(value)
    ? malformed(`${what} has external data at '${text}', which is not a number of bytes`)
    : value;
}

/** A relative path that stays in the folder. Both kinds of separator count, on every system. */
function safeLocation(location: string, what: string): string {
  const parts = location.split(/[\\/]/);
  const escapes = parts.includes("..") || parts[0] === "" || /^[a-z]:/i.test(location) || location.includes("\0");
  if (!escapes) return location;
  return fail("LPU1006", {
    message:
      location === ""
        ? `${what} names no file for its external data`
        : `${what} is kept in '${location}', which may lie outside of the model's folder`,
    hint: "external data must be named by a relative path without '..'",
  });
}

/** Small enough to stay in a processor's cache until it is used. */
const PIECE = 1 << 16;

function* piecesOf(description: Description, read: ReadPart): Generator<TensorData> {
  const memory = new Uint8Array(Math.min(PIECE, description.bytes));
  for (let offset = 0; offset < description.bytes; offset += PIECE) {
    const bytes = Math.min(PIECE, description.bytes - offset);
    yield fromRaw(read(offset, bytes, memory), { ...description, bytes, count: (8 * bytes) / description.type.bits });
  }
}

/** Runs of elements that are looked at in place of all of them, and how many each has. */
const RUNS = 16;
const RUN = 256;
const FEW = RUNS * RUN;

/** Runs of elements that are equally far apart. */
const fewOf = (description: Description, read: ReadPart): Tensor => {
  const { type, count } = description;
  const data = newData(type.dtype, FEW);
  const part = { ...description, count: RUN, bytes: (RUN * type.bits) / 8 };
  const memory = new Uint8Array(part.bytes);
  for (let run = 0; run < RUNS; run++) {
    const first = Math.floor((run * (count - RUN)) / (RUNS - 1));
    data.set(fromRaw(read((first * type.bits) / 8, part.bytes, memory), part), run * RUN);
  }
  return { dtype: type.dtype, shape: [FEW], data };
};

/** Bytes as elements: a view where they are aligned, else a copy. */
function fromRaw(bytes: Uint8Array, description: Description): TensorData {
  const { type, count, what } = description;
  invariant(bytes.length === description.bytes, "a source gives as many bytes as it is asked for");
  if (isSubByte(type.dtype)) return unpacked(bytes, count, type);
  if (type.edge === "i64" || type.edge === "u64") return description.narrow(viewOf(Int32Array, bytes, count * 2));
  if (type.edge === "f64") return narrowDoubles(viewOf(Float64Array, bytes, count), what);
  if (type.dtype === "bool") return normalizedBools(bytes);
  const data = viewOf<TensorData>(DTYPES[type.dtype].array, bytes, count);
  invariant(data.length === count, `${what} has its elements`);
  return data;
}

interface ArrayType<A> {
  new (buffer: ArrayBufferLike, offset: number, length: number): A;
  readonly BYTES_PER_ELEMENT: number;
}

function viewOf<A>(array: ArrayType<A>, bytes: Uint8Array, length: number): A {
  const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new array(aligned.buffer, aligned.byteOffset, length);
}

const normalizedBools = (bytes: Uint8Array): Uint8Array =>
  bytes.some((byte) => byte > 1) ? bytes.map((byte) => (byte === 0 ? 0 : 1)) : bytes;

/** Several elements in a byte, the first in its lowest bits. */
function unpacked(bytes: Uint8Array, count: number, { dtype, bits }: ElementType): TensorData {
  const out = new DTYPES[dtype].array(count);
  const [perByte, values] = [8 / bits, 2 ** bits];
  const { hi = values } = integerLimits(dtype) ?? {};
  for (let i = 0; i < count; i += 1) {
    const value = (at(bytes, Math.floor(i / perByte), "byte") >> (bits * (i % perByte))) & (values - 1);
    out[i] = value > hi ? value - values : value;
  }
  return out;
}

function fromFields(proto: TensorProto, description: Description): TensorData {
  const { type, count, what, shape } = description;
  const values = proto[type.field];
  // Of packed elements the field holds bytes.
  if (values.length !== (isSubByte(type.dtype) ? Math.ceil((count * type.bits) / 8) : count)) {
    malformed(`${what} of ${type.name}${formatShape(shape)} expects ${count} elements, has ${values.length}`);
  }
  if (type.field === "int64Data") return description.narrow(int64Words(proto.int64Data));
  if (type.edge === "u64") return description.narrow(int64Words(proto.uint64Data));
  if (type.field === "uint64Data")
    return Uint32Array.from(proto.uint64Data, (value) => (typeof value === "number" ? value : value.low));
  if (isSubByte(type.dtype)) return unpacked(Uint8Array.from(proto.int32Data), count, type);
  if (type.dtype === "bool") return Uint8Array.from(proto.int32Data, (value) => (value === 0 ? 0 : 1));
  if (type.edge === "f64") return narrowDoubles(Float64Array.from(proto.doubleData), what);
  const data = new DTYPES[type.dtype].array(count);
  data.set(proto[type.field as "floatData" | "int32Data"]);
  return data;
}

export interface NamedTensor<T = Tensor> {
  readonly name: string;
  readonly tensor: T;
  readonly declared: EdgeDType;
}

/** A TensorProto file, as the ONNX backend tests keep their inputs and outputs. */
export function decodeTensorProto(bytes: Uint8Array): NamedTensor {
  const named = decodeWide(bytes);
  return { ...named, tensor: narrowTensor(named.tensor) };
}

/** The same, where integers beyond 32 bits may be of use. */
export function decodeWide(bytes: Uint8Array): NamedTensor<Tensor | WideTensor> {
  const proto = decodeMessage("TensorProto", bytes, "offset 0");
  const description = describe(proto);
  if (proto.dataLocation === EXTERNAL)
    malformed(`${description.what} keeps its data in another file, which a tensor file may not`);
  const { type, shape } = description;
  const named = { name: proto.name, declared: type.edge };
  try {
    return { ...named, tensor: { dtype: type.dtype, shape, data: fromProto(proto, description) } };
  } catch (error) {
    if (!(error instanceof CompileError) || error.code !== "LPU2003") throw error;
    const load = (own: Description): unknown => fromProto(proto, own);
    return { ...named, tensor: { shape, ...wordsOf(description, load), problem: error } };
  }
}
