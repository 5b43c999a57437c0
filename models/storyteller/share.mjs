/**
 * Takes the weights that model.onnx has too out of a model-past.onnx that export.py made: they become external data at the
 * place where they lie in model.onnx. `node share.mjs model.onnx whole-past.onnx model-past.onnx`
 *
 * Works on the wire format of protobuf, by field numbers of ModelProto, GraphProto, NodeProto and TensorProto. What only
 * people and debuggers read (documentation, metadata, shapes of inner values) goes as well.
 */

import { readFileSync, writeFileSync } from "node:fs";
import protobuf from "protobufjs/minimal.js";

const MODEL = { graph: 7, metadata: 14 };
const GRAPH = { node: 1, initializer: 5, documentation: 10, valueInfo: 13, metadata: 16 };
const NODE = { documentation: 6, metadata: 9 };
const TENSOR = { raw: 9, external: 13, location: 14 };
/** Shorter ones are not worth a reference. */
const LEAST = 256;

const [whole, past] = process.argv.slice(2, 4).map((file) => readFileSync(file));

/** Fields of a message in order; of those that are not length-delimited only their bytes. */
function fieldsOf(bytes) {
  const reader = protobuf.Reader.create(bytes);
  const fields = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    const body = (tag & 7) === 2 ? Buffer.from(reader.bytes()) : undefined;
    if (body === undefined) reader.skipType(tag & 7);
    fields.push({ number: tag >>> 3, body, all: bytes.subarray(start, reader.pos) });
  }
  return fields;
}

const messageOf = (fields) =>
  Buffer.concat(
    fields.map(({ number, body, all }) =>
      body === undefined ? all : new protobuf.Writer().uint32((number << 3) | 2).bytes(body).finish(),
    ),
  );

/** A message without some fields, and with others changed. */
const changed = (bytes, without, change = {}) =>
  messageOf(
    fieldsOf(bytes)
      .filter(({ number }) => !without.includes(number))
      .map((field) => ({ ...field, body: change[field.number]?.(field.body) ?? field.body })),
  );

function tensor(bytes) {
  const raw = fieldsOf(bytes).find(({ number }) => number === TENSOR.raw)?.body;
  const at = raw === undefined || raw.length < LEAST ? -1 : whole.indexOf(raw);
  if (at < 0) return bytes;
  const writer = new protobuf.Writer();
  const entries = { location: "model.onnx", offset: `${at}`, length: `${raw.length}` };
  for (const [key, value] of Object.entries(entries))
    writer.uint32((TENSOR.external << 3) | 2).fork().uint32(10).string(key).uint32(18).string(value).ldelim();
  writer.uint32(TENSOR.location << 3).int32(1);
  return Buffer.concat([changed(bytes, [TENSOR.raw]), writer.finish()]);
}

const node = (bytes) => changed(bytes, Object.values(NODE));
const graph = (bytes) =>
  changed(bytes, [GRAPH.documentation, GRAPH.valueInfo, GRAPH.metadata], {
    [GRAPH.node]: node,
    [GRAPH.initializer]: tensor,
  });

writeFileSync(process.argv[4], changed(past, [MODEL.metadata], { [MODEL.graph]: graph }));
