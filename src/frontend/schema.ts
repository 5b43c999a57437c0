/**
 * The ONNX messages that are read, as a protobuf schema of our own and as types, and the one place that decodes them.
 *
 * The schema covers IR versions up to 13; what the compiler has no use for (documentation, training, quantization notes) is
 * left out and skipped by the decoder. `bytes` fields are views of the input, never copies. Whatever the decoder says about
 * bytes that are no such message becomes LPU1001; nothing else leaves this file.
 */

import protobuf from "protobufjs";
import { fail } from "../diagnostics.js";

const SCHEMA = `
syntax = "proto3";
package onnx;
message AttributeProto {
  string name = 1; float f = 2; int64 i = 3; bytes s = 4; TensorProto t = 5; GraphProto g = 6;
  repeated float floats = 7; repeated int64 ints = 8; repeated bytes strings = 9;
  repeated TensorProto tensors = 10; repeated GraphProto graphs = 11;
  int32 type = 20; string ref_attr_name = 21; SparseTensorProto sparse_tensor = 22;
}
message ValueInfoProto { string name = 1; TypeProto type = 2; }
message NodeProto {
  repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4;
  repeated AttributeProto attribute = 5; string domain = 7; string overload = 8;
  repeated NodeDeviceConfigurationProto device_configurations = 10;
}
message NodeDeviceConfigurationProto {
  string configuration_id = 1; repeated ShardingSpecProto sharding_spec = 2; optional int32 pipeline_stage = 3;
}
message ShardingSpecProto {
  string tensor_name = 1; repeated int64 device = 2; repeated IntIntListEntryProto index_to_device_group_map = 3;
  repeated ShardedDimProto sharded_dim = 4;
}
message IntIntListEntryProto { int64 key = 1; repeated int64 value = 2; }
message ShardedDimProto { int64 axis = 1; repeated SimpleShardedDimProto simple_sharding = 2; }
message SimpleShardedDimProto { oneof dim { int64 dim_value = 1; string dim_param = 2; } int64 num_shards = 3; }
message DeviceConfigurationProto { string name = 1; int32 num_devices = 2; }
message ModelProto {
  int64 ir_version = 1; string producer_name = 2; GraphProto graph = 7;
  repeated OperatorSetIdProto opset_import = 8; repeated FunctionProto functions = 25;
  repeated DeviceConfigurationProto configuration = 26;
}
message StringStringEntryProto { string key = 1; string value = 2; }
message GraphProto {
  repeated NodeProto node = 1; string name = 2; repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
  repeated SparseTensorProto sparse_initializer = 15;
}
message TensorProto {
  repeated int64 dims = 1; int32 data_type = 2;
  repeated float float_data = 4 [packed = true]; repeated int32 int32_data = 5 [packed = true];
  repeated bytes string_data = 6; repeated int64 int64_data = 7 [packed = true];
  string name = 8; bytes raw_data = 9;
  repeated double double_data = 10 [packed = true]; repeated uint64 uint64_data = 11 [packed = true];
  repeated StringStringEntryProto external_data = 13; int32 data_location = 14;
}
message SparseTensorProto { TensorProto values = 1; TensorProto indices = 2; repeated int64 dims = 3; }
message TensorShapeProto {
  message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
  repeated Dimension dim = 1;
}
message TypeProto {
  message Tensor { int32 elem_type = 1; TensorShapeProto shape = 2; }
  message Other { }
  oneof value {
    Tensor tensor_type = 1; Other sequence_type = 4; Other map_type = 5; Other opaque_type = 7;
    Other sparse_tensor_type = 8; Other optional_type = 9;
  }
}
message OperatorSetIdProto { string domain = 1; int64 version = 2; }
message FunctionProto {
  string name = 1; repeated string input = 4; repeated string output = 5; repeated string attribute = 6;
  repeated NodeProto node = 7; repeated OperatorSetIdProto opset_import = 9; string domain = 10;
  repeated AttributeProto attribute_proto = 11; string overload = 13;
}
`;

/** int64 as the decoder gives it: two signed 32-bit words, or a number where the two are one. */
export type Int64 = number | { readonly low: number; readonly high: number };

export interface AttributeProto {
  readonly name: string;
  readonly f: number;
  readonly i: Int64;
  readonly s: Uint8Array;
  readonly t: TensorProto | null;
  readonly g: GraphProto | null;
  readonly floats: readonly number[];
  readonly ints: readonly Int64[];
  readonly strings: readonly Uint8Array[];
  readonly type: number;
  readonly refAttrName: string;
  readonly sparseTensor: SparseTensorProto | null;
}
export interface Dimension {
  readonly dimValue: Int64;
  readonly dimParam: string;
  /** Which of the two is there. */
  readonly value?: "dimValue" | "dimParam";
}
export interface TypeProto {
  readonly tensorType: {
    readonly elemType: number;
    readonly shape: { readonly dim: readonly Dimension[] } | null;
  } | null;
}
export interface ValueInfoProto {
  readonly name: string;
  readonly type: TypeProto | null;
}
export interface NodeProto {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly opType: string;
  readonly attribute: readonly AttributeProto[];
  readonly domain: string;
  readonly overload: string;
  readonly deviceConfigurations: readonly NodeDeviceConfigurationProto[];
}
/** How a node takes part in a configuration of devices. */
export interface NodeDeviceConfigurationProto {
  readonly configurationId: string;
  readonly shardingSpec: readonly ShardingSpecProto[];
  /** An own property if it is given. */
  readonly pipelineStage: number;
}
/** Devices of each piece in turn: numbers of devices, or keys of groups of them. */
export interface ShardingSpecProto {
  readonly tensorName: string;
  readonly device: readonly Int64[];
  readonly indexToDeviceGroupMap: readonly { readonly key: Int64; readonly value: readonly Int64[] }[];
  readonly shardedDim: readonly { readonly axis: Int64; readonly simpleSharding: readonly SimpleShardedDimProto[] }[];
}
export interface SimpleShardedDimProto {
  readonly dim?: "dimValue" | "dimParam";
  readonly dimValue: Int64;
  readonly numShards: Int64;
}
export interface DeviceConfigurationProto {
  readonly name: string;
  readonly numDevices: number;
}
export interface OperatorSetIdProto {
  readonly domain: string;
  readonly version: Int64;
}
export interface TensorProto {
  readonly dims: readonly Int64[];
  readonly dataType: number;
  readonly floatData: readonly number[];
  readonly int32Data: readonly number[];
  readonly stringData: readonly Uint8Array[];
  readonly int64Data: readonly Int64[];
  readonly name: string;
  readonly rawData: Uint8Array;
  readonly doubleData: readonly number[];
  readonly uint64Data: readonly Int64[];
  readonly externalData: readonly { readonly key: string; readonly value: string }[];
  readonly dataLocation: number;
}
/** Elements other than zero, and their places: row-major ones, or rows of indices. The name is that of the values. */
export interface SparseTensorProto {
  readonly values: TensorProto | null;
  readonly indices: TensorProto | null;
  readonly dims: readonly Int64[];
}
export interface GraphProto {
  readonly node: readonly NodeProto[];
  readonly name: string;
  readonly initializer: readonly TensorProto[];
  readonly input: readonly ValueInfoProto[];
  readonly output: readonly ValueInfoProto[];
  readonly sparseInitializer: readonly SparseTensorProto[];
}
export interface FunctionProto {
  readonly name: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly node: readonly NodeProto[];
  readonly opsetImport: readonly OperatorSetIdProto[];
  readonly domain: string;
  readonly attributeProto: readonly AttributeProto[];
  readonly overload: string;
}
export interface ModelProto {
  readonly irVersion: Int64;
  readonly graph: GraphProto | null;
  readonly opsetImport: readonly OperatorSetIdProto[];
  readonly functions: readonly FunctionProto[];
  readonly configuration: readonly DeviceConfigurationProto[];
}

interface Messages {
  readonly ModelProto: ModelProto;
  readonly GraphProto: GraphProto;
  readonly NodeProto: NodeProto;
  readonly TensorProto: TensorProto;
}

const root = protobuf.parse(SCHEMA).root;

/** Decodes one message. `at` says where in the file it is, for the error. */
export function decodeMessage<M extends keyof Messages>(message: M, bytes: Uint8Array, at: string): Messages[M] {
  try {
    // The boundary: the interfaces above say what the schema makes the decoder give.
    return root.lookupType(`onnx.${message}`).decode(bytes) as unknown as Messages[M];
  } catch (error) {
    return notOnnx(reasonOf(error, message), at);
  }
}

/** Encodes the fields of a message that are given. */
export const encodeMessage = (message: "ModelProto" | "NodeProto", fields: object): Uint8Array => {
  const type = root.lookupType(`onnx.${message}`);
  return type.encode(type.fromObject(fields)).finish();
};

function reasonOf(error: unknown, message: string): string {
  const text = error instanceof Error ? error.message : String(error);
  if (/depth|recursion|call stack/i.test(text))
    return "graphs, attributes or types are nested too deeply to be decoded";
  if (/out of range/i.test(text)) return `${message} ends in the middle of a field`;
  return `${message} has a field that is not valid: ${text.toLowerCase()}`;
}

/** A LPU1001 about the bytes at a place. */
export function notOnnx(message: string, at: string): never {
  return fail("LPU1001", {
    message,
    at,
    hint: "the file may be truncated, damaged, or not an ONNX model; export or download it again",
  });
}

/** An int64 as a number: exact up to 2^53, nearest beyond. */
export function int64ToNumber(value: Int64): number {
  return typeof value === "number" ? value : value.high * 2 ** 32 + (value.low >>> 0);
}

/** Pairs of 32-bit words, low first, as int64 is in raw data. */
export function int64Words(values: readonly Int64[]): Int32Array {
  const words = new Int32Array(values.length * 2);
  values.forEach((value, i) => {
    words[2 * i] = typeof value === "number" ? value : value.low;
    words[2 * i + 1] = typeof value === "number" ? Math.floor(value / 2 ** 32) : value.high;
  });
  return words;
}

const utf8 = new TextDecoder();
/** Of a field that is not there, which is an empty list, nothing. */
export const decodeText = (bytes: Uint8Array): string => (bytes.length === 0 ? "" : utf8.decode(bytes));
