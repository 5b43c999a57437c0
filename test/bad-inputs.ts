/**
 * Bad input of every kind as one table: a sentence that says what is wrong, and what a user does with it. Each must end in
 * a coded error; test/golden/errors.txt holds what is said. Models are as small as they can be and the machine is tiny.
 */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import protobuf from "protobufjs/minimal.js";
import { parseBinds, parseSystem } from "../bin/arguments.js";
import { findCases } from "../bin/jobs/cases.js";
import { type Problem, problemsOf } from "../bin/show/problems.js";
import { type Initializer, modelBytes, type OnnxModel, type OnnxNode, writeModel } from "../models/onnx-writer.js";
import { floatTensor, int64Tensor } from "../models/weights.js";
import { joinChunks } from "../src/host/build.js";
import { assemble } from "../src/codegen/listing/assemble.js";
import { compile } from "../src/compile.js";
import type { CompileOptions } from "../src/options.js";
import { bindInputs, type InputValue } from "../src/host/edge.js";
import { apartFrom, openModel, readTensorFile, readWhole } from "../src/host/files.js";
import { openFolder } from "../src/host/folder.js";
import { bytesSource, type ModelSource, readModel } from "../src/frontend/source.js";
import { parseGraph } from "../src/ir/parse.js";
import { tensorOf } from "../src/ir/tensor.js";
import { noTemplate } from "../src/language/chat.js";
import { decoderShapes } from "../src/language/decoder.js";
import { settingsOf } from "../src/language/settings.js";
import { expectFits, noTokenizer } from "../src/language/text.js";
import { readRequest } from "../src/serve/request.js";
import { selectPasses } from "../src/passes/graph/pipeline.js";
import { type PlanOptions, plan } from "../src/plan.js";
import { loadImage } from "../src/runtime/run.js";

let folder: string | undefined;
/** A path in a folder that lasts as long as the tests. */
const temporary = (name: string): string => {
  folder ??= mkdtempSync(join(tmpdir(), "metronome-bad-"));
  return join(folder, name);
};
export const removeBadFiles = (): void => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  folder = undefined;
};

/** What a user is told, without the name of the temporary folder. */
export function problemsOfBadInput(name: string): readonly Problem[] {
  try {
    BAD_INPUTS[name]?.();
    return [];
  } catch (error) {
    const text = JSON.stringify(problemsOf(error)).replaceAll(folder ?? "\0", "folder");
    // The boundary: these are the records that were just written.
    return JSON.parse(text) as Problem[];
  }
}

const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: OnnxNode["attributes"] = {},
): OnnxNode => ({ op, name: `/${op}`, inputs, outputs, attributes });
const floats = (name: string, ...dims: number[]) => ({ name, type: "float32" as const, dims });
const model = (parts: Partial<OnnxModel>): OnnxModel => ({
  name: "m",
  opset: 18,
  nodes: [],
  inputs: [floats("x", 2, 8)],
  outputs: [floats("y", 2, 8)],
  initializers: [],
  ...parts,
});
const weights = (name: string, ...dims: number[]): Initializer => ({
  ...floatTensor(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(0.5)),
  weight: true,
});

const layer = model({
  nodes: [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])],
  initializers: [weights("w", 8, 8), weights("b", 8)],
});
const cell = model({
  nodes: [node("Add", ["x", "h"], ["y"]), node("MatMul", ["y", "w"], ["next"]), node("Not", ["flags"], ["flipped"])],
  inputs: [floats("x", 2, 8), floats("h", 2, 8), { name: "flags", type: "bool", dims: [2] }],
  outputs: [floats("y", 2, 8), floats("next", 2, 8), { name: "flipped", type: "bool", dims: [2] }],
  initializers: [weights("w", 8, 8)],
});
const embedding = model({
  nodes: [node("Gather", ["table", "ids"], ["e"]), node("MatMul", ["e", "w"], ["y"])],
  inputs: [{ name: "ids", type: "int64", dims: [2] }],
  initializers: [weights("table", 5, 8), weights("w", 8, 8)],
});

const build = (bytes: Uint8Array, options: CompileOptions = {}): Uint8Array =>
  joinChunks(compile(bytesSource("m", bytes), { target: "tiny", ...options }).image());
const buildModel = (parts: OnnxModel, options: CompileOptions = {}): Uint8Array => build(modelBytes(parts), options);
const planModel = (parts: OnnxModel, options: PlanOptions): unknown =>
  plan(bytesSource("m", modelBytes(parts)), { target: "tiny", ...options });
const buildFile = (path: string): Uint8Array => joinChunks(compile(openModel(path).source, { target: "tiny" }).image());
const run = (image: Uint8Array, inputs: Readonly<Record<string, InputValue>>): unknown => {
  const loaded = loadImage(image).entry();
  return loaded.run(bindInputs(loaded.inputs, inputs));
};
const x = tensorOf("f32", [2, 8], new Float32Array(16).fill(1));

/** The layer with its weights in a file beside it; the name of the file is then replaced by one of the same length. */
function externalModel(name: string, location = "layer.onnx.data"): string {
  mkdirSync(temporary(name), { recursive: true });
  const path = temporary(join(name, "layer.onnx"));
  writeModel(layer, path, { largestInline: 0 });
  const bytes = Buffer.from(readWhole(path, "model"));
  for (let at = bytes.indexOf("layer.onnx.data"); at >= 0; at = bytes.indexOf("layer.onnx.data", at + 1))
    bytes.write(location, at, "latin1");
  writeFileSync(path, bytes);
  return path;
}

/** Protobuf by hand: a message of length-delimited fields, for what our writer refuses to write. */
const message = (...fields: (readonly [number: number, contents: Uint8Array | string])[]): Uint8Array =>
  fields
    .reduce(
      (writer, [number, contents]) =>
        writer.uint32(number * 8 + 2).bytes(typeof contents === "string" ? Buffer.from(contents) : contents),
      new protobuf.Writer(),
    )
    .finish();
const GRAPH = 7;

/** A graph in an attribute of a node of a graph in an attribute ... */
function nestedModel(depth: number): Uint8Array {
  let graph = message([2, "inner"]);
  for (let level = 0; level < depth; level++)
    graph = message([1, message([4, "If"], [5, message([1, "then_branch"], [6, graph])])]);
  return message([GRAPH, graph]);
}

/** A model whose one tensor says that it has `dims`. */
function tensorModel(dims: readonly number[]): Uint8Array {
  const tensor = new protobuf.Writer();
  for (const extent of dims) tensor.uint32(8).int64(extent);
  tensor.uint32(16).int32(1).uint32(66).string("w").uint32(74).bytes(new Uint8Array(64));
  const opset = new protobuf.Writer().uint32(16).int64(18).finish();
  const abs = message([1, "w"], [2, "y"], [4, "Abs"]);
  return message([GRAPH, message([1, abs], [5, tensor.finish()], [12, message([1, "y"])])], [8, opset]);
}

/** A model that takes a tensor of strings. */
function stringModel(): Uint8Array {
  const shape = message([1, new protobuf.Writer().uint32(8).int64(4).finish()]);
  const type = new protobuf.Writer().uint32(8).int32(8).uint32(18).bytes(shape).finish();
  const opset = new protobuf.Writer().uint32(16).int64(18).finish();
  const identity = message([1, "s"], [2, "y"], [4, "Identity"]);
  const input = message([1, "s"], [2, message([1, type])]);
  return message([GRAPH, message([1, identity], [11, input], [12, message([1, "y"])])], [8, opset]);
}

const lengthened = (bytes: Uint8Array): Uint8Array => {
  const copy = bytes.slice();
  copy[Buffer.from(copy).indexOf("\u0006MatMul")] = 127;
  return copy;
};

/** Two vectors on their way from one slice to another, in fp16: a program that no scheduler decides about. */
const place = (hemisphere: string): string =>
  JSON.stringify([
    {
      dtype: "f16",
      factors: [
        { dim: 0, divide: 1, extent: 2, row: 1, column: 0 },
        { dim: 1, divide: 1, extent: 8, row: 0, column: 1 },
      ],
      rows: 2,
      columns: 16,
      ways: 1,
      panels: [{ planes: [0, 1].map((slice) => ({ chip: 0, hemisphere, slice, row: 0 })) }],
    },
  ]);
const COPY = `.program "copy"
.target tiny
.origin "copy (Identity)"
.entry "main"
.input "x" f32 [2,8] ${place("W")}
.output "y" f32 [2,8] ${place("E")}
.constant mem.w3 row=0 rows=1 fill 7
mem.w0:
  40 read address=0 stream=e0 x2 +1 from "copy (Identity)"
mem.w1:
  40 read address=0 stream=e1 x2 +1 from "copy (Identity)"
mem.e0:
  43 write address=0 stream=e0 x2 +1 from "copy (Identity)"
mem.e1:
  43 write address=0 stream=e1 x2 +1 from "copy (Identity)"
`;

/** With some text replaced; assembled, so all checksums are right. */
const copyImage = (pattern: RegExp | string = "", replacement = ""): Uint8Array =>
  assemble(COPY.replace(pattern, replacement), "copy.lst");
const changedByte = (offset: number): Uint8Array => {
  const bytes = copyImage();
  const at = offset < 0 ? bytes.length + offset : offset;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
};

const listingOf =
  (...lines: string[]) =>
  (): unknown =>
    assemble(['.program "p"', ".target tiny", ...lines].join("\n"), "p.lst");

let folders = 0;
/** A folder of its own with these files. */
function folderOf(files: Readonly<Record<string, string>>): string {
  folders += 1;
  const path = temporary(`model-${folders}`);
  mkdirSync(path, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

export const BAD_INPUTS: Readonly<Record<string, () => unknown>> = {
  // Models
  "a model that is an empty file": () => build(new Uint8Array(0)),
  "a model that is text": () => build(new TextEncoder().encode("import torch\n")),
  "an opened model in the place of its source": () => {
    const opened = openModel("models/small/gpt2.onnx");
    try {
      // The boundary: of callers whose types nobody checked.
      compile(opened as unknown as ModelSource);
    } finally {
      opened.close();
    }
  },
  "the path of a model in the place of its bytes": () =>
    bytesSource("m", "models/small/gpt2.onnx" as unknown as Uint8Array),
  "a model cut in the middle": () => build(modelBytes(layer).subarray(0, 200)),
  "a length that goes beyond its message": () => build(lengthened(modelBytes(layer))),
  "graphs nested a thousand deep": () => build(nestedModel(1000)),
  "a tensor that claims 2^40 elements": () => build(tensorModel([2 ** 20, 2 ** 20])),
  "a tensor with more elements than a number can count": () => build(tensorModel([2 ** 50, 2 ** 50, 2 ** 50])),
  "a tensor with a negative extent": () => build(tensorModel([-4, -4])),
  "a tensor of strings": () => build(stringModel()),
  "an operator set that is too old": () => buildModel({ ...layer, opset: 6 }),
  "an operator set that is too new": () => buildModel({ ...layer, opset: 99 }),
  "operators that do not exist": () =>
    buildModel(
      model({
        nodes: [node("Matmul", ["x", "x"], ["a"]), node("Frobnicate", ["x"], ["b"]), node("Add", ["a", "b"], ["y"])],
      }),
    ),
  "a form of an operator that is not supported": () =>
    buildModel(model({ nodes: [node("Pad", ["x"], ["y"], { mode: "symmetric", pads: [0, 0, 0, 0] })] })),
  "operands that do not fit": () =>
    buildModel(model({ nodes: [node("MatMul", ["x", "w"], ["y"])], initializers: [weights("w", 4, 8)] })),
  // Chips
  "a system that does not exist": () => parseSystem("node3"),
  "a configuration of devices that the model does not have": () => buildModel(layer, { configuration: "pair" }),
  "devices in an order that no group has": () =>
    buildModel({
      ...layer,
      configurations: { pair: 2 },
      nodes: layer.nodes.map((node) => ({
        ...node,
        devices: [
          {
            configuration: "pair",
            specs: [{ tensor: node.outputs[0] ?? "", devices: [1, 0], cuts: [{ axis: 1, shards: [2] }] }],
          },
        ],
      })),
    }),
  "a system for which a chip has too few links": () => buildModel(layer, { system: "rack" }),
  "products shared among chips that are not joined each to each": () => buildModel(layer, { tensor: 8 }),
  "more stages than a system has chips": () => buildModel(layer, { system: "node2", stages: 3 }),
  "products shared among chips that no node has": () => buildModel(layer, { tensor: 9 }),
  "more groups of chips than a node has": () => buildModel(layer, { tensor: 4, stages: 3 }),
  "more chips that share products than a system has": () => buildModel(layer, { tensor: 4, system: "node2" }),
  "products shared among chips that divide none": () => buildModel(layer, { tensor: 3 }),
  "products shared among chips that divide none, where nodes are larger": () =>
    buildModel(layer, { tensor: 3, target: "lpu-v1" }),
  "a plan for chips that do not hold one product": () =>
    planModel(
      model({
        nodes: [node("MatMul", ["x", "w"], ["y"])],
        inputs: [floats("x", 2, 1024)],
        initializers: [weights("w", 1024, 2048)],
      }),
      { system: "node2", tensor: 1 },
    ),
  "a plan for chips that do not divide a node": () => planModel(layer, { system: "node2", tensor: 3 }),
  "a plan for more sequences than the file has": () => planModel(layer, { system: "card", batch: 3 }),
  "more stages than there is work for": () => buildModel(model({ nodes: [node("Abs", ["x"], ["y"])] }), { stages: 2 }),

  "an attribute that is missing": () => buildModel(model({ nodes: [node("Cast", ["x"], ["y"])] })),
  "a value that is never made": () => buildModel(model({ nodes: [node("Add", ["x", "nothing"], ["y"])] })),
  "a value that is made of itself": () =>
    buildModel(
      model({ nodes: [node("Add", ["x", "b"], ["a"]), node("Abs", ["a"], ["b"]), node("Abs", ["b"], ["y"])] }),
    ),
  "a value that is made twice": () =>
    buildModel(model({ nodes: [node("Abs", ["x"], ["y"]), node("Neg", ["x"], ["y"])] })),
  "a shape that depends on data": () =>
    buildModel(
      model({
        nodes: [node("Reshape", ["x", "s"], ["y"])],
        inputs: [floats("x", 2, 8), { name: "s", type: "int64", dims: [2] }],
      }),
    ),
  "an integer that 32 bits do not hold": () =>
    buildModel(
      model({
        nodes: [node("Add", ["i", "c"], ["y"])],
        inputs: [{ name: "i", type: "int64", dims: [1] }],
        initializers: [int64Tensor("c", [1], [2n ** 40n])],
      }),
    ),

  // Bindings
  "dimensions left unbound": () => buildFile("models/storyteller/model.onnx"),
  "a binding of a dimension that the model does not have": () => buildModel(layer, { bind: { batch: 2 } }),
  "a shape that contradicts the model": () => buildModel(layer, { shapes: { x: [2, 9] } }),
  "a shape for an input that the model does not have": () => buildModel(layer, { shapes: { z: [2, 8] } }),
  "bindings that are no bindings": () => parseBinds(["seq", "batch=0", "a=1,b=x"]),

  "sizes that a model takes in one entry and not in another": () =>
    buildModel(
      {
        ...model({ nodes: [node("Add", ["x", "b"], ["y"])], initializers: [weights("b", 2, 8)] }),
        inputs: [{ ...floats("x", 2, 8), open: { 0: "rows" } }],
        outputs: [{ ...floats("y", 2, 8), open: { 0: "rows" } }],
      },
      { entries: { two: { bind: { rows: 2 } }, three: { bind: { rows: 3 } } } },
    ),

  // Files
  "a model that is not there": () => buildFile(temporary("none.onnx")),
  "a model that is a folder": () => {
    mkdirSync(temporary("folder.onnx"), { recursive: true });
    buildFile(temporary("folder.onnx"));
  },
  "external data that is not there": () => {
    const path = externalModel("missing");
    rmSync(`${path}.data`);
    buildFile(path);
  },
  "external data that is too short": () => {
    const path = externalModel("short");
    writeFileSync(`${path}.data`, new Uint8Array(100));
    buildFile(path);
  },
  "external data above the model's folder": () => buildFile(externalModel("above", "../../etc/hosts")),
  "external data at an absolute path": () => buildFile(externalModel("absolute", "/etc/ssh/secret")),
  "external data that is a link out of the model's folder": () => {
    const path = externalModel("link");
    rmSync(`${path}.data`);
    writeFileSync(temporary("elsewhere"), new Uint8Array(4096));
    symlinkSync(temporary("elsewhere"), `${path}.data`);
    buildFile(path);
  },
  "a tensor file that is not one": () => {
    writeFileSync(temporary("x.npy"), "0 1 2 3");
    readTensorFile(temporary("x.npy"));
  },
  "a result in the place of what it is made of": () => apartFrom("./out.lpu", [undefined, "out.lpu"]),
  "a tensor file of an unknown kind": () => readTensorFile(temporary("x.csv")),
  "a folder without cases": () => {
    mkdirSync(temporary("cases/one"), { recursive: true });
    findCases([temporary("cases")]);
  },

  // States
  "a state that is no input": () => buildModel(cell, { state: { g: "next", h: "next" } }),
  "a state whose output is not there, and one that takes another's": () =>
    buildModel(cell, { state: { h: "following", x: "y", flags: "y" } }),
  "states by name, of which there are none": () => buildModel(cell, { state: "auto" }),
  "a state of other numbers than its output": () => buildModel(cell, { state: { h: "flipped", flags: "flipped" } }),

  "the last row of an output that is not there": () => buildModel(cell, { last: ["nxt"] }),

  // What the chip cannot do
  "a model that does not fit in SRAM": () =>
    buildModel(
      model({
        nodes: [node("MatMul", ["x", "w"], ["y"])],
        inputs: [floats("x", 2, 1200)],
        outputs: [floats("y", 2, 1200)],
        initializers: [weights("w", 1200, 1200)],
      }),
      { chips: 1 },
    ),
  "a weight that FP8 would ruin": () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => (i % 8 === 3 ? 1e-5 : 20));
    const uneven = model({
      nodes: [node("MatMul", ["x", "w"], ["y"])],
      initializers: [floatTensor("w", [8, 8], values)],
    });
    buildModel(uneven, { weights: "fp8-e4m3:tensor" });
  },
  "a weight to keep that is not there": () => buildModel(layer, { weights: "fp8-e4m3", keep: ["w", "v"] }),
  "a pass that is not in the pipeline": () => selectPasses({ skip: ["optimise"] }),
  "a graph text that does not parse": () =>
    parseGraph("graph @main(%0: f32[2]) {\n  %1 = neg(%0 : f32[2]\n}\n", { file: "g.tir" }),
  "a graph text with a wrong type": () =>
    parseGraph("graph @main(%0: f32[2]) {\n  %1 = neg(%0) : f32[3]\n  return %1\n}\n", { file: "g.tir" }),

  // Inputs of a run
  "inputs with wrong names": () => run(copyImage(), { X: x }),
  "an input of a wrong shape": () => run(copyImage(), { x: tensorOf("f32", [8, 2], x.data) }),
  "an input of a wrong dtype": () => run(copyImage(), { x: tensorOf("i32", [2, 8], new Int32Array(16)) }),
  "an input with too few numbers": () => run(copyImage(), { x: [1, 2, 3] }),
  "an index outside of its table": () => run(buildModel(embedding), { ids: [0, 5] }),
  "an integer that does not fit the machine": () =>
    run(buildModel(embedding), { ids: BigInt64Array.of(0n, 2n ** 40n) }),

  // Models that write text, and what lies beside them
  "a folder without a model": () => openFolder(folderOf({ "config.json": "{}" })),
  "a folder with several models": () => openFolder(folderOf({ "a.onnx": "", "b.onnx": "" })),
  "a model that has no past to write with": () =>
    decoderShapes(readModel(bytesSource("m", modelBytes(layer))).graph, 16, 1),
  "a tokenizer that is no JSON": () => openFolder(folderOf({ "model.onnx": "", "tokenizer.json": "<html>" })),
  "a tokenizer that is not there": () => openFolder(folderOf({ "model.onnx": "" }), "elsewhere/tokenizer.json"),
  "a tokenizer of another model": () => expectFits({ model: { vocab: { a: 0, b: 50256 } } }, 512),
  "text for a model without a tokenizer": () => noTokenizer(),
  "messages for a model without a chat template": () => noTemplate(),
  "a setting beside a model that makes no sense": () =>
    settingsOf([{ file: "generation_config.json", content: { do_sample: true, temperature: "hot" } }]),

  // Requests to a server
  "a request that is no JSON": () => readRequest("chat", '{"model": "m", "messages": ['),
  "a request without a model": () => readRequest("text", '{"prompt": "a"}'),
  "a field that the API does not have": () => readRequest("text", '{"model": "m", "prompt": "a", "max_token": 5}'),
  "a field that is not supported": () => readRequest("text", '{"model": "m", "prompt": "a", "logprobs": 3}'),
  "a prompt in lists within lists": () =>
    readRequest("text", `{"model": "m", "prompt": ${"[".repeat(100_000)}${"]".repeat(100_000)}}`),
  "a message without a role": () => readRequest("chat", '{"model": "m", "messages": [{"content": "a"}]}'),
  "a message of pictures": () =>
    readRequest("chat", '{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}'),

  // Images
  "an image that is something else": () =>
    loadImage(new TextEncoder().encode("PK\u0003\u0004 and so on, for long enough to have a header")),
  "an image that is empty": () => loadImage(new Uint8Array(0)),
  "an image cut in the middle": () => loadImage(copyImage().subarray(0, 2000)),
  "an image with a changed header": () => loadImage(changedByte(13)),
  "an image with a changed target": () => loadImage(changedByte(80)),
  "an image with a changed constant": () => loadImage(changedByte(4096)),
  "an image with a changed section table": () => loadImage(changedByte(-16)),
  "an image of another version": () => loadImage(changedByte(8)),
  "an entry that the image does not have": () => loadImage(copyImage()).entry("decode"),
  "an image of several entries, none of which is named": () =>
    loadImage(copyImage(/$/, '.entry "decode"\n.entry "prefill"\n')).entry(),
  "a stage that the image does not have": () => loadImage(copyImage(), { stage: 1 }),
  "a wire that is used twice": listingOf(".link 0.0 1.0", ".link 0.0 1.1", ".chip 0", ".chip 1"),
  "stages whose edges do not meet": () =>
    run(copyImage(/$/, 'sxm.e0:\n  50 receive link=0 stream=w0 from "copy (Identity)"\n'), { x }),
  "an image of two entries with one name": () => copyImage(/$/, '.entry "main"\n'),
  "an image that never writes its output": () => run(copyImage(/mem\.e[\s\S]*$/), { x }),
  "an image with one instruction less": () => run(copyImage(/mem\.w0[\s\S]*?x2 \+1.*\n/), { x }),
  "an image with one instruction a cycle later": () => run(copyImage("43 write", "44 write"), { x }),
  "an image that reads a row that nobody wrote": () => run(copyImage("read address=0", "read address=1"), { x }),

  // Listings
  "a listing without a target": () => assemble('.program "p"\nmem.w0:\n  35 read address=0 stream=e0\n', "p.lst"),
  "a listing for an unknown machine": () => assemble(".target lpu-v9\n", "p.lst"),
  "a directive that does not exist": listingOf(".frequency 900"),
  "a queue that does not exist": listingOf("mem.w99:", "  35 read address=0 stream=e0"),
  "an instruction that does not exist": listingOf("mem.w0:", "  35 reed address=0 stream=e0"),
  "an instruction of another unit": listingOf("mem.w0:", "  35 abc stream=e0 mode=low"),
  "an operand that is missing": listingOf("mem.w0:", "  35 read address=0"),
  "an operand too many": listingOf("mem.w0:", "  35 read address=0 stream=e0 stream=e1"),
  "an address outside of the slice": listingOf("mem.w0:", "  35 read address=4096 stream=e0"),
  "a stream that does not exist": listingOf("mem.w0:", "  35 read address=0 stream=e32"),
  "a cycle before the barrier": listingOf("mem.w0:", "  3 read address=0 stream=e0"),
  "instructions out of order": listingOf("mem.w0:", "  40 read address=0 stream=e0", "  39 read address=1 stream=e0"),
  "an instruction in no queue": listingOf("  35 read address=0 stream=e0"),
  "a line that is no instruction": listingOf("mem.w0:", "  read address=0 stream=e0"),
  "a string that does not end": listingOf('.origin "fc (MatMul)'),
  "a constant of the wrong length": listingOf(".constant mem.w0 row=0 rows=2 base64 AAAA"),
};
