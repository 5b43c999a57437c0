/**
 * Writes ONNX files: plain records of nodes and weights in, protobuf bytes out, as a stream of chunks.
 *
 * Weights are never held: an initializer says how long it is and yields its bytes when its turn comes, so a model of
 * 500 MB is written with a few MB of memory. The length prefixes that protobuf wants in front are computed first, from
 * the headers alone. Field numbers are those of the ONNX schema (IR version 8, and 11 with configurations of devices); this file shares no code with the
 * frontend, so that reading back what it wrote tests both. A file over 2 GiB is no legal protobuf: such a model's weights
 * go to `<file>.data` as external data. The same model gives the same bytes.
 */

import { basename } from "node:path";
import protobuf from "protobufjs/minimal.js";
import { invariant } from "../src/diagnostics.js";
import { writeAtomically } from "../src/host/files.js";

/** Element types by their TensorProto number and width. */
export const ELEMENT_TYPES = {
  float32: { code: 1, bytes: 4 },
  uint8: { code: 2, bytes: 1 },
  int8: { code: 3, bytes: 1 },
  uint16: { code: 4, bytes: 2 },
  int16: { code: 5, bytes: 2 },
  int32: { code: 6, bytes: 4 },
  int64: { code: 7, bytes: 8 },
  bool: { code: 9, bytes: 1 },
  float16: { code: 10, bytes: 2 },
  uint32: { code: 12, bytes: 4 },
  float8e4m3fn: { code: 17, bytes: 1 },
  float8e5m2: { code: 19, bytes: 1 },
  // Two to a byte, the first in the lower half.
  uint4: { code: 21, bytes: 0.5 },
  int4: { code: 22, bytes: 0.5 },
} as const satisfies Record<string, { readonly code: number; readonly bytes: number }>;
export type ElementType = keyof typeof ELEMENT_TYPES;

/** A weight or a constant: `chunks` yields exactly product(dims) * width bytes (rounded up), little-endian, and may be called again. */
export interface Initializer {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly chunks: () => Iterable<Uint8Array>;
  /** Its numbers say nothing about what the model is, so it may lie in another file. */
  readonly weight?: true;
}

/** Integers are written as INT and INTS; floats are marked as such, for JavaScript cannot tell 1 from 1.0. */
export type AttributeValue =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  // A graph that has no weights of its own.
  | { readonly graph: Pick<OnnxModel, "name" | "nodes" | "outputs"> };

export interface OnnxNode {
  readonly op: string;
  /** Empty (the default) is ONNX itself; of others version 1 is meant. */
  readonly domain?: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly devices?: readonly NodeDevices[];
}

/** How a node takes part in a configuration of devices: its stage, and how tensors of it lie. */
export interface NodeDevices {
  readonly configuration: string;
  readonly stage?: number;
  readonly specs?: readonly {
    readonly tensor: string;
    readonly devices?: readonly number[];
    /** Pieces along axes, each a list of how many pieces there are of each part of the axis. */
    readonly cuts?: readonly { readonly axis: number; readonly shards: readonly number[] }[];
    /** Devices by key, which stands for all of them. */
    readonly groups?: Readonly<Record<number, readonly number[]>>;
  }[];
}

export interface ValueInfo {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  /** Names of dimensions whose sizes are left open, by axis. */
  readonly open?: Readonly<Record<number, string>>;
}

export interface OnnxModel {
  readonly name: string;
  readonly opset: number;
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly initializers: readonly Initializer[];
  /** Configurations of devices: how many each has. */
  readonly configurations?: Readonly<Record<string, number>>;
}

export interface WrittenModel {
  readonly file: string;
  readonly bytes: number;
  /** The second file, where the weights went when one file could not hold them. */
  readonly external?: { readonly file: string; readonly bytes: number };
}

/** protobuf's limit, less room for the graph itself. */
const LARGEST_INLINE = 2 ** 31 - 2 ** 26;

export interface WriteOptions {
  readonly largestInline?: number;
  /** That weights are only said to lie in another file, which is not written: a graph of any size is small so. */
  readonly absent?: boolean;
}

/** Streams the model to `file`, and its weights beside it where one file cannot hold them. An interrupted run leaves no partial model. */
export function writeModel(
  model: OnnxModel,
  file: string,
  { largestInline = LARGEST_INLINE, absent = false }: WriteOptions = {},
): WrittenModel {
  const weights = model.initializers.reduce((sum, each) => sum + byteLength(each), 0);
  if (weights <= largestInline && !absent) return { file, bytes: writeAtomically(file, encodeModel(model)).bytes };
  const outside = model.initializers.filter(({ weight }) => weight === true);
  const dataFile = `${file}.data`;
  const dataBytes = absent
    ? outside.reduce((sum, each) => sum + alignUp(byteLength(each)), 0)
    : writeAtomically(dataFile, externalChunks(outside)).bytes;
  return {
    file,
    bytes: writeAtomically(file, encodeModel(model, basename(dataFile))).bytes,
    external: { file: dataFile, bytes: dataBytes },
  };
}

/** The whole model as one array: for small models and tests. */
export function modelBytes(model: OnnxModel): Uint8Array {
  return new Uint8Array(Buffer.concat([...encodeModel(model)]));
}

/** The file's bytes in order. With `externalFile` every weight is a reference into that file, laid out by `externalChunks`. */
export function* encodeModel(model: OnnxModel, externalFile?: string): Generator<Uint8Array> {
  const isInline = ({ weight }: Initializer): boolean => externalFile === undefined || weight !== true;
  let offset = 0;
  const headers = model.initializers.map((initializer) => {
    if (externalFile === undefined || isInline(initializer)) return initializerHeader(initializer);
    const header = initializerHeader(initializer, { file: externalFile, offset });
    offset += alignUp(byteLength(initializer));
    return header;
  });
  const payload = (index: number): number => {
    const initializer = model.initializers[index];
    return initializer !== undefined && isInline(initializer) ? byteLength(initializer) : 0;
  };
  const prefixes = headers.map((header, index) => {
    // Field 5 of GraphProto, its length, the header; raw_data ends the header with its own length prefix.
    const prefix = new protobuf.Writer();
    prefix.uint32(tag(5, 2)).uint32(header.length + payload(index));
    return Buffer.concat([prefix.finish(), header]);
  });
  const before = graphBefore(model);
  const after = graphAfter(model);
  const graphLength = prefixes.reduce(
    (sum, prefix, index) => sum + prefix.length + payload(index),
    before.length + after.length,
  );

  const head = new protobuf.Writer();
  head.uint32(tag(1, 0)).int64(model.configurations === undefined ? 8 : 11);
  head.uint32(tag(2, 2)).string("metronome");
  head.uint32(tag(7, 2)).uint32(graphLength);
  yield head.finish();
  yield before;
  for (const [index, prefix] of prefixes.entries()) {
    yield prefix;
    const initializer = model.initializers[index];
    if (initializer !== undefined && isInline(initializer)) yield* checkedChunks(initializer);
  }
  yield after;
  const tail = new protobuf.Writer();
  tail.uint32(tag(8, 2)).fork();
  tail.uint32(tag(1, 2)).string("").uint32(tag(2, 0)).int64(model.opset).ldelim();
  for (const domain of new Set(model.nodes.flatMap((node) => node.domain ?? [])))
    tail.uint32(tag(8, 2)).fork().uint32(tag(1, 2)).string(domain).uint32(tag(2, 0)).int64(1).ldelim();
  for (const [name, devices] of Object.entries(model.configurations ?? {}))
    tail.uint32(tag(26, 2)).fork().uint32(tag(1, 2)).string(name).uint32(tag(2, 0)).int32(devices).ldelim();
  yield tail.finish();
}

/** The external data file: each weight padded to 4096 bytes, so that it can be mapped. */
function* externalChunks(weights: readonly Initializer[]): Generator<Uint8Array> {
  for (const initializer of weights) {
    yield* checkedChunks(initializer);
    const length = byteLength(initializer);
    yield new Uint8Array(alignUp(length) - length);
  }
}

export const byteLength = (value: Pick<Initializer, "type" | "dims">): number =>
  Math.ceil(value.dims.reduce((product, extent) => product * extent, ELEMENT_TYPES[value.type].bytes));

const alignUp = (length: number): number => Math.ceil(length / 4096) * 4096;

const tag = (field: number, wire: number): number => (field << 3) | wire;

function* checkedChunks(initializer: Initializer): Generator<Uint8Array> {
  let written = 0;
  for (const chunk of initializer.chunks()) {
    written += chunk.length;
    yield chunk;
  }
  invariant(
    written === byteLength(initializer),
    `'${initializer.name}' has ${byteLength(initializer)} bytes, its chunks ${written}`,
  );
}

function graphBefore(model: Pick<OnnxModel, "name" | "nodes">): Uint8Array {
  const writer = new protobuf.Writer();
  for (const node of model.nodes) {
    writer.uint32(tag(1, 2)).fork();
    writeNode(writer, node);
    writer.ldelim();
  }
  writer.uint32(tag(2, 2)).string(model.name);
  return writer.finish();
}

function graphAfter(model: Pick<OnnxModel, "inputs" | "outputs">): Uint8Array {
  const writer = new protobuf.Writer();
  for (const input of model.inputs) writeValueInfo(writer, 11, input);
  for (const output of model.outputs) writeValueInfo(writer, 12, output);
  return writer.finish();
}

function writeNode(writer: protobuf.Writer, node: OnnxNode): void {
  for (const input of node.inputs) writer.uint32(tag(1, 2)).string(input);
  for (const output of node.outputs) writer.uint32(tag(2, 2)).string(output);
  writer.uint32(tag(3, 2)).string(node.name);
  writer.uint32(tag(4, 2)).string(node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    writer.uint32(tag(5, 2)).fork();
    writeAttribute(writer, name, value);
    writer.ldelim();
  }
  if (node.domain !== undefined) writer.uint32(tag(7, 2)).string(node.domain);
  for (const devices of node.devices ?? []) {
    writer.uint32(tag(10, 2)).fork();
    writeDevices(writer, devices);
    writer.ldelim();
  }
}

function writeDevices(writer: protobuf.Writer, { configuration, stage, specs = [] }: NodeDevices): void {
  writer.uint32(tag(1, 2)).string(configuration);
  for (const { tensor, devices = [], cuts = [], groups = {} } of specs) {
    writer.uint32(tag(2, 2)).fork().uint32(tag(1, 2)).string(tensor);
    for (const device of devices) writer.uint32(tag(2, 0)).int64(device);
    for (const [key, members] of Object.entries(groups)) {
      writer.uint32(tag(3, 2)).fork().uint32(tag(1, 0)).int64(Number(key));
      for (const device of members) writer.uint32(tag(2, 0)).int64(device);
      writer.ldelim();
    }
    for (const { axis, shards } of cuts) {
      writer.uint32(tag(4, 2)).fork().uint32(tag(1, 0)).int64(axis);
      for (const count of shards) writer.uint32(tag(2, 2)).fork().uint32(tag(3, 0)).int64(count).ldelim();
      writer.ldelim();
    }
    writer.ldelim();
  }
  if (stage !== undefined) writer.uint32(tag(3, 0)).int32(stage);
}

function writeAttribute(writer: protobuf.Writer, name: string, value: AttributeValue): void {
  writer.uint32(tag(1, 2)).string(name);
  if (typeof value === "number") writer.uint32(tag(3, 0)).int64(value).uint32(tag(20, 0)).uint32(2);
  else if (typeof value === "string") writer.uint32(tag(4, 2)).string(value).uint32(tag(20, 0)).uint32(3);
  else if ("float" in value) writer.uint32(tag(2, 5)).float(value.float).uint32(tag(20, 0)).uint32(1);
  else if ("floats" in value) {
    for (const element of value.floats) writer.uint32(tag(7, 5)).float(element);
    writer.uint32(tag(20, 0)).uint32(6);
  } else if ("graph" in value) {
    const parts = [graphBefore(value.graph), graphAfter({ ...value.graph, inputs: [] })];
    writer.uint32(tag(6, 2)).bytes(Buffer.concat(parts)).uint32(tag(20, 0)).uint32(5);
  } else {
    for (const element of value) writer.uint32(tag(8, 0)).int64(element);
    writer.uint32(tag(20, 0)).uint32(7);
  }
}

function writeValueInfo(writer: protobuf.Writer, field: number, value: ValueInfo): void {
  writer.uint32(tag(field, 2)).fork();
  writer.uint32(tag(1, 2)).string(value.name);
  // TypeProto { tensor_type { elem_type, shape { dim { dim_value } } } }
  writer.uint32(tag(2, 2)).fork().uint32(tag(1, 2)).fork();
  writer.uint32(tag(1, 0)).int32(ELEMENT_TYPES[value.type].code);
  writer.uint32(tag(2, 2)).fork();
  for (const [axis, extent] of value.dims.entries()) {
    writer.uint32(tag(1, 2)).fork();
    const name = value.open?.[axis];
    if (name === undefined) writer.uint32(tag(1, 0)).int64(extent);
    else writer.uint32(tag(2, 2)).string(name);
    writer.ldelim();
  }
  writer.ldelim().ldelim().ldelim().ldelim();
}

/** A TensorProto up to where its raw bytes begin, or the whole of it when they lie in another file. */
function initializerHeader(initializer: Initializer, external?: { file: string; offset: number }): Uint8Array {
  const writer = new protobuf.Writer();
  for (const extent of initializer.dims) writer.uint32(tag(1, 0)).int64(extent);
  writer.uint32(tag(2, 0)).int32(ELEMENT_TYPES[initializer.type].code);
  writer.uint32(tag(8, 2)).string(initializer.name);
  if (external === undefined) return writer.uint32(tag(9, 2)).uint32(byteLength(initializer)).finish();
  const entries = { location: external.file, offset: String(external.offset), length: String(byteLength(initializer)) };
  for (const [key, value] of Object.entries(entries)) {
    writer.uint32(tag(13, 2)).fork().uint32(tag(1, 2)).string(key).uint32(tag(2, 2)).string(value).ldelim();
  }
  return writer.uint32(tag(14, 0)).int32(1).finish();
}
