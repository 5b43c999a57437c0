/**
 * The .npy format of NumPy, read and written: magic, a header that is a Python dictionary, then the elements.
 *
 * Reading accepts versions 1 to 3, both byte orders and both memory orders, and gives row-major little-endian elements in
 * the dtype that the file has; narrowing to what the machine knows is the caller's. Writing gives version 1, little-endian,
 * row-major, with the data aligned to 64 bytes as NumPy does. Reference: numpy.lib.format.
 */

import { at, fail } from "../diagnostics.js";
import type { EdgeDType } from "../ir/dtype.js";
import { elementCount, type Shape } from "../ir/graph.js";

/** A tensor as a file holds it. */
export interface FileTensor {
  readonly dtype: EdgeDType;
  readonly shape: Shape;
  /** Little-endian elements, row-major. */
  readonly bytes: Uint8Array;
}

/** NumPy's type codes, without the byte order. */
const TYPE_CODES: Readonly<Record<string, { readonly dtype: EdgeDType; readonly bytes: number }>> = {
  f2: { dtype: "f16", bytes: 2 },
  f4: { dtype: "f32", bytes: 4 },
  f8: { dtype: "f64", bytes: 8 },
  i1: { dtype: "i8", bytes: 1 },
  i2: { dtype: "i16", bytes: 2 },
  i4: { dtype: "i32", bytes: 4 },
  i8: { dtype: "i64", bytes: 8 },
  u1: { dtype: "u8", bytes: 1 },
  u2: { dtype: "u16", bytes: 2 },
  u4: { dtype: "u32", bytes: 4 },
  u8: { dtype: "u64", bytes: 8 },
  b1: { dtype: "bool", bytes: 1 },
};

const MAGIC = "\x93NUMPY";
const ALIGNMENT = 64;
const MAX_HEADER = 65535;

/** `file` names the file in errors. */
export function decodeNpy(bytes: Uint8Array, file: string): FileTensor {
  const bad = (message: string): never =>
    fail("LPU5002", { message: `'${file}': ${message}`, hint: "save it with numpy.save" });
  if (latin1(bytes.subarray(0, MAGIC.length)) !== MAGIC) bad("expected the .npy signature, found something else");
  const major = bytes[6] ?? 0;
  if (major < 1 || major > 3) bad(`expected version 1 to 3, found ${major}`);
  const lengthBytes = major === 1 ? 2 : 4;
  const headerStart = 8 + lengthBytes;
  if (bytes.length < headerStart) bad(`expected a header, found the end of the file at byte ${bytes.length}`);
  const headerLength = littleEndian(bytes.subarray(8, headerStart));
  const dataStart = headerStart + headerLength;
  if (headerLength > MAX_HEADER) bad(`expected a header of at most ${MAX_HEADER} bytes, found ${headerLength}`);
  if (dataStart > bytes.length) bad(`expected a header of ${headerLength} bytes, found ${bytes.length - headerStart}`);
  const header = parseHeader(latin1(bytes.subarray(headerStart, dataStart)));
  if (header === undefined) return bad("expected a header with 'descr', 'fortran_order' and 'shape'");
  const type = TYPE_CODES[header.code];
  if (type === undefined)
    return bad(`expected one of the types ${Object.keys(TYPE_CODES).join(", ")}, found '${header.code}'`);
  const length = elementCount(header.shape) * type.bytes;
  const data = bytes.slice(dataStart, dataStart + length);
  if (data.length !== length)
    bad(`expected ${length} bytes for shape [${header.shape.join(", ")}], found ${data.length}`);
  if (header.bigEndian) swapBytes(data, type.bytes);
  const rowMajor = header.fortranOrder ? fromColumnMajor(data, header.shape, type.bytes) : data;
  return { dtype: type.dtype, shape: header.shape, bytes: rowMajor };
}

/** Types without a NumPy code (bf16 and the FP8 formats) must be converted before. */
export function encodeNpy({ dtype, shape, bytes }: FileTensor): Uint8Array {
  const code = Object.keys(TYPE_CODES).find((key) => TYPE_CODES[key]?.dtype === dtype);
  if (code === undefined) return fail("LPU5002", { message: `.npy has no type for ${dtype}` });
  const order = TYPE_CODES[code]?.bytes === 1 ? "|" : "<";
  const extents = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dictionary = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${extents}), }`;
  const start = Math.ceil((MAGIC.length + 4 + dictionary.length + 1) / ALIGNMENT) * ALIGNMENT;
  const headerLength = start - MAGIC.length - 4;
  const text = `${MAGIC}\x01\x00${String.fromCharCode(headerLength & 255, headerLength >> 8)}${dictionary.padEnd(headerLength - 1)}\n`;
  const file = new Uint8Array(start + bytes.length);
  for (let index = 0; index < start; index++) file[index] = text.charCodeAt(index);
  file.set(bytes, start);
  return file;
}

interface NpyHeader {
  readonly code: string;
  readonly bigEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: Shape;
}

function parseHeader(text: string): NpyHeader | undefined {
  const description = /['"]descr['"]\s*:\s*['"]([<>|=]?)([a-zA-Z]\d+)['"]/.exec(text);
  const order = /['"]fortran_order['"]\s*:\s*(True|False)/.exec(text);
  const extents = /['"]shape['"]\s*:\s*\(([\d\s,L]*)\)/.exec(text);
  if (description === null || order === null || extents === null) return undefined;
  const shape = (extents[1] ?? "")
    .split(",")
    .map((extent) => extent.trim().replace(/L$/, ""))
    .filter((extent) => extent !== "")
    .map(Number);
  if (!shape.every(Number.isSafeInteger)) return undefined;
  return { code: description[2] ?? "", bigEndian: description[1] === ">", fortranOrder: order[1] === "True", shape };
}

function swapBytes(data: Uint8Array, size: number): void {
  for (let start = 0; start < data.length; start += size) data.subarray(start, start + size).reverse();
}

/** Column-major is row-major of the reversed shape; this puts the axes back. */
function fromColumnMajor(data: Uint8Array, shape: Shape, size: number): Uint8Array {
  const result = new Uint8Array(data.length);
  const index = shape.map(() => 0);
  for (let target = 0; target < data.length; target += size) {
    let source = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--)
      source = source * at(shape, axis, "extent") + at(index, axis, "axis");
    result.set(data.subarray(source * size, source * size + size), target);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = at(index, axis, "axis") + 1;
      if (at(index, axis, "axis") < at(shape, axis, "extent")) break;
      index[axis] = 0;
    }
  }
  return result;
}

const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const littleEndian = (bytes: Uint8Array): number => bytes.reduceRight((value, byte) => value * 256 + byte, 0);
