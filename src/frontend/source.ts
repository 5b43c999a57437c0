/**
 * Where a model's bytes come from, and a walk over the file that reads its structure without reading its weights.
 *
 * The compiler does no I/O: a caller gives positional reads. A source over a buffer returns views, one over a file reads
 * windows, so that a model of any size costs the memory of its structure. Of every initializer the walk keeps name, type,
 * dims and the place of its data. Every length is checked against the message that holds it before it is used.
 */

import { fail } from "../diagnostics.js";
import {
  type DeviceConfigurationProto,
  decodeMessage,
  type FunctionProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  notOnnx,
  type OperatorSetIdProto,
  type SparseTensorProto,
  type TensorProto,
  type ValueInfoProto,
} from "./schema.js";

export interface ExternalFiles {
  /** Bytes in the file, or undefined where there is no such file. `location` is relative to the model's folder and stays in it. */
  readonly size: (location: string) => number | undefined;
  readonly read: (location: string, offset: number, length: number, into?: Uint8Array) => Uint8Array;
}

export interface ModelSource {
  /** As in messages and as the name of a graph that has none; without folders. */
  readonly name: string;
  readonly size: number;
  /** `length` bytes from `offset`; both are within `size`. May be a view, also of `into`, which is at least as long. */
  readonly read: (offset: number, length: number, into?: Uint8Array) => Uint8Array;
  readonly external?: ExternalFiles;
  /** Numbers stand in for external data that is not there: for plans, which take shapes alone. */
  readonly standIns?: boolean;
}

/** A source over bytes in memory; nothing is copied. */
export function bytesSource(name: string, bytes: Uint8Array, external?: ExternalFiles): ModelSource {
  if (!ArrayBuffer.isView(bytes)) notSource("the bytes of a model", bytes);
  const read = (offset: number, length: number): Uint8Array => bytes.subarray(offset, offset + length);
  return { name, size: bytes.length, read, ...(external === undefined ? {} : { external }) };
}

/** For callers whose types nobody checked: a LPU1001 about what is given in the place of a source or of its bytes. */
function notSource(expected: string, given: unknown): never {
  const isObject = typeof given === "object" && given !== null;
  return fail("LPU1001", {
    message: `expected ${expected}, got ${isObject ? `an object with ${Object.keys(given).join(", ")}` : String(given)}`,
    hint: "openModel(path).source is a source, and so is bytesSource(name, bytes)",
  });
}

const isSource = (given: Partial<ModelSource> | null | undefined): boolean =>
  Number.isInteger(given?.size) && typeof given?.read === "function";

/** Part of the file. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** A tensor without its data: `raw` is where raw_data is, `whole` where all of the message is, for data in typed fields. */
export interface TensorRecord {
  readonly proto: TensorProto;
  readonly raw?: ByteRange;
  readonly whole?: ByteRange;
}

/** A graph of the file, or of an attribute (whose tensors are decoded with it). */
export interface GraphRecord {
  readonly name: string;
  readonly nodes: readonly NodeProto[];
  readonly inputs: readonly ValueInfoProto[];
  readonly outputs: readonly ValueInfoProto[];
  readonly initializers: readonly TensorRecord[];
  readonly sparse: readonly SparseTensorProto[];
}

export interface ModelRecord {
  readonly irVersion: ModelProto["irVersion"];
  readonly opsets: readonly OperatorSetIdProto[];
  readonly functions: readonly FunctionProto[];
  readonly configurations: readonly DeviceConfigurationProto[];
  readonly graph: GraphRecord;
}

/** Bytes read at once: enough for many small fields, and little to waste before the weights that are skipped. */
const WINDOW = 1 << 12;
const LENGTH_DELIMITED = 2;
export const FIELD = {
  model: { irVersion: 1, graph: 7, configuration: 26 },
  node: { devices: 10 },
  graph: { node: 1, initializer: 5, valueInfo: 13 },
  tensor: { data: new Set([4, 5, 6, 7, 10, 11]), raw: 9 },
} as const;

/** A field of a message, and where it lies. */
export interface Field {
  readonly number: number;
  readonly wire: number;
  /** The field with its tag. */
  readonly whole: ByteRange;
  /** The contents of a length-delimited field. */
  readonly body: ByteRange;
}

export interface Cursor {
  readonly byte: (position: number) => number;
  readonly bytes: (range: ByteRange) => Uint8Array;
}

export function cursorOver(source: ModelSource): Cursor {
  let base = 0;
  let window: Uint8Array = new Uint8Array(0);
  const load = (position: number): void => {
    base = position;
    window = source.read(position, Math.min(WINDOW, source.size - position));
    if (window.length === 0) notOnnx("the file ends in the middle of a field", `offset ${position}`);
  };
  return {
    byte: (position) => {
      if (position < base || position >= base + window.length) load(position);
      return window[position - base] as number;
    },
    bytes: ({ offset, length }) => {
      if (offset < base || offset + length > base + window.length) {
        if (length <= WINDOW) load(offset);
        if (length > window.length || length > WINDOW) return source.read(offset, length);
      }
      return window.subarray(offset - base, offset - base + length);
    },
  };
}

function varint(cursor: Cursor, start: number, end: number): { readonly value: number; readonly next: number } {
  let value = 0;
  let scale = 1;
  for (let position = start; position < end && position < start + 10; position += 1) {
    const byte = cursor.byte(position);
    value += (byte & 127) * scale;
    if (byte < 128) return { value, next: position + 1 };
    scale *= 128;
  }
  return notOnnx("expected a length or a tag, got an unfinished number", `offset ${start}`);
}

/** The fields of the message in `range`, in order. */
export function* fieldsOf(cursor: Cursor, range: ByteRange, what: string): Generator<Field> {
  const end = range.offset + range.length;
  for (let at = range.offset; at < end; ) {
    const tag = varint(cursor, at, end);
    const number = Math.floor(tag.value / 8);
    const wire = tag.value % 8;
    let body: ByteRange = { offset: tag.next, length: 0 };
    if (wire === LENGTH_DELIMITED) {
      const length = varint(cursor, tag.next, end);
      body = { offset: length.next, length: length.value };
    } else if (wire === 0) {
      body = { offset: tag.next, length: varint(cursor, tag.next, end).next - tag.next };
    } else if (wire === 1 || wire === 5) {
      body = { offset: tag.next, length: wire === 1 ? 8 : 4 };
    } else {
      notOnnx(`${what} has a field of wire type ${wire}, which ONNX does not use`, `offset ${at}`);
    }
    const next = body.offset + body.length;
    if (number === 0 || next > end) {
      notOnnx(
        number === 0
          ? `${what} has a field numbered 0`
          : `${what} has a field of ${body.length} bytes where ${end - body.offset} are left`,
        `offset ${at}`,
      );
    }
    yield { number, wire, whole: { offset: at, length: next - at }, body };
    at = next;
  }
}

/** Bytes of the given parts as one message. */
function join(cursor: Cursor, parts: readonly ByteRange[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(cursor.bytes(part), at);
    at += part.length;
  }
  return joined;
}

function walkTensor(cursor: Cursor, range: ByteRange): TensorRecord {
  const kept: ByteRange[] = [];
  let raw: ByteRange | undefined;
  let typed = false;
  for (const field of fieldsOf(cursor, range, "TensorProto")) {
    if (field.number === FIELD.tensor.raw && field.wire === LENGTH_DELIMITED) raw = field.body;
    else if (FIELD.tensor.data.has(field.number)) typed = true;
    else kept.push(field.whole);
  }
  const proto = decodeMessage("TensorProto", join(cursor, kept), `offset ${range.offset}`);
  if (raw !== undefined) return { proto, raw };
  return typed ? { proto, whole: range } : { proto };
}

/** The graph, given as parts because protobuf lets one message come in several. */
function walkGraph(cursor: Cursor, parts: readonly ByteRange[]): GraphRecord {
  const rest: ByteRange[] = [];
  const nodes: NodeProto[] = [];
  const initializers: TensorRecord[] = [];
  for (const part of parts) {
    for (const { number, wire, whole, body } of fieldsOf(cursor, part, "GraphProto")) {
      if (number === FIELD.graph.node && wire === LENGTH_DELIMITED) {
        nodes.push(decodeMessage("NodeProto", cursor.bytes(body), `offset ${body.offset}`));
      } else if (number === FIELD.graph.initializer && wire === LENGTH_DELIMITED) {
        initializers.push(walkTensor(cursor, body));
      } else if (number !== FIELD.graph.valueInfo) {
        rest.push(whole);
      }
    }
  }
  const graph = decodeMessage("GraphProto", join(cursor, rest), `offset ${parts[0]?.offset ?? 0}`);
  return { ...recordOf(graph), nodes, initializers };
}

/** A graph that is decoded already: of an attribute. */
export function recordOf(graph: GraphProto): GraphRecord {
  return {
    name: graph.name,
    nodes: graph.node,
    inputs: graph.input,
    outputs: graph.output,
    initializers: graph.initializer.map((proto) => ({ proto })),
    sparse: graph.sparseInitializer,
  };
}

export function readModel(source: ModelSource): ModelRecord {
  if (!isSource(source)) notSource("a ModelSource (name, size, read)", source);
  const cursor = cursorOver(source);
  const graphs: ByteRange[] = [];
  const rest: ByteRange[] = [];
  for (const { number, wire, whole, body } of fieldsOf(cursor, { offset: 0, length: source.size }, "ModelProto")) {
    if (number === FIELD.model.graph && wire === LENGTH_DELIMITED) graphs.push(body);
    else rest.push(whole);
  }
  const model = decodeMessage("ModelProto", join(cursor, rest), "offset 0");
  if (graphs.length === 0) notOnnx(source.size === 0 ? "the file is empty" : "the file holds no graph", "offset 0");
  return {
    irVersion: model.irVersion,
    opsets: model.opsetImport,
    functions: model.functions,
    configurations: model.configuration,
    graph: walkGraph(cursor, graphs),
  };
}
