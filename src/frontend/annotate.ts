/**
 * Writes what a program has chosen back into its model, as annotations for devices (ONNX, IR 11). All else stays as it is, byte for
 * byte, and weights go by in pieces: only nodes are changed, the lengths around them, the IR version and the list of configurations.
 */

import { decodeMessage, encodeMessage, int64ToNumber } from "./schema.js";
import type { Devices } from "./devices.js";
import { nameOfNode } from "./order.js";
import { type Cursor, cursorOver, FIELD, type Field, fieldsOf, type ModelSource, type ByteRange } from "./source.js";

/** The first that has annotations for devices. */
const IR_VERSION = 11;
const PIECE = 1 << 20;

/** The bytes of the model in order, with a configuration of this name in place of one that it may have. */
export function* annotatedModel(source: ModelSource, devices: Devices): Generator<Uint8Array> {
  const cursor = cursorOver(source);
  const { configuration: name, stages, members } = devices;
  yield encodeMessage("ModelProto", { irVersion: IR_VERSION });
  for (const field of fieldsOf(cursor, { offset: 0, length: source.size }, "ModelProto")) {
    if (field.number === FIELD.model.irVersion) {
      const { irVersion } = decodeMessage("ModelProto", cursor.bytes(field.whole), "offset 0");
      if (int64ToNumber(irVersion) > IR_VERSION) yield cursor.bytes(field.whole);
    } else if (field.number === FIELD.model.graph) yield* annotatedGraph(source, cursor, field, devices);
    else if (field.number !== FIELD.model.configuration || nameIn("DeviceConfigurationProto", cursor, field) !== name)
      yield* piecesOf(source, field.whole);
  }
  yield encodeMessage("ModelProto", { configuration: [{ name, numDevices: stages * members }] });
}

/** A graph with its length in front, which is known before it is written. */
function* annotatedGraph(source: ModelSource, cursor: Cursor, graph: Field, devices: Devices): Generator<Uint8Array> {
  const results = new Map<string, Devices["results"]>();
  for (const result of devices.results) results.set(result.node, [...(results.get(result.node) ?? []), result]);
  const nodes = [...fieldsOf(cursor, graph.body, "GraphProto")].map((field) =>
    field.number === FIELD.graph.node ? annotatedNode(cursor, field, devices, results) : field.whole,
  );
  const length = nodes.reduce((sum, part) => sum + part.length, 0);
  yield delimited(FIELD.model.graph, length);
  for (const part of nodes)
    if (part instanceof Uint8Array) yield part;
    else yield* piecesOf(source, part);
}

type Results = ReadonlyMap<string, Devices["results"]>;

const annotatedNode = (cursor: Cursor, field: Field, devices: Devices, results: Results): Uint8Array => {
  const node = decodeMessage("NodeProto", cursor.bytes(field.body), `offset ${field.body.offset}`);
  const name = nameOfNode(node);
  const kept = [...fieldsOf(cursor, field.body, "NodeProto")].filter(
    (part) =>
      part.number !== FIELD.node.devices ||
      nameIn("NodeDeviceConfigurationProto", cursor, part) !== devices.configuration,
  );
  const body = Buffer.concat([
    ...kept.map((part) => cursor.bytes(part.whole).slice()),
    annotation(devices, devices.stageOf.get(name), results.get(name) ?? []),
  ]);
  return Buffer.concat([delimited(FIELD.graph.node, body.length), body]);
};

/** Nothing of a node of which nothing is known. */
const annotation = (
  { configuration, members, stages }: Devices,
  stage: number | undefined,
  results: Devices["results"],
): Uint8Array => {
  if (stage === undefined && results.length === 0) return new Uint8Array(0);
  const isKnown = stage !== undefined || stages === 1;
  const device = isKnown ? Array.from({ length: members }, (_, member) => (stage ?? 0) * members + member) : [];
  const shardingSpec = results.map(({ tensor, placement }) => ({
    ...{ tensorName: tensor, device },
    shardedDim: placement === "whole" ? [] : [{ axis: placement, simpleSharding: [{ numShards: members }] }],
  }));
  return encodeMessage("NodeProto", {
    deviceConfigurations: [
      { configurationId: configuration, shardingSpec, ...(stage !== undefined && { pipelineStage: stage }) },
    ],
  });
};

/** What a configuration is called, or belongs to: the first field of both messages. */
const nameIn = (
  message: "DeviceConfigurationProto" | "NodeDeviceConfigurationProto",
  cursor: Cursor,
  { body }: Field,
): string => {
  const name = [...fieldsOf(cursor, body, message)].filter(({ number }) => number === 1).at(-1);
  return name === undefined ? "" : Buffer.from(cursor.bytes(name.body)).toString("utf8");
};

function* piecesOf(source: ModelSource, { offset, length }: ByteRange): Generator<Uint8Array> {
  for (let done = 0; done < length; done += PIECE)
    yield source.read(offset + done, Math.min(PIECE, length - done)).slice();
}

/** Tag and length of a field that has bytes. */
const delimited = (number: number, length: number): Uint8Array =>
  Uint8Array.from([...varint(number * 8 + 2), ...varint(length)]);

const varint = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return [...bytes, rest];
};
