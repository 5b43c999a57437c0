/**
 * What is fuzzed, as one table: how a case is made from a seed, and what a user would do with it.
 *
 * A case is a set of files. Running it gives a word, or raises: a CompileError or a MachineFault about bad input is what should
 * happen; everything else that is raised is a finding. `blames` says which coded errors are findings too, for what
 * the compiler made of a model that it accepted must pass every check that comes after.
 */

import { buildModel } from "../models/families.js";
import { modelBytes, type OnnxModel } from "../models/onnx-writer.js";
import { int64Tensor, normalTensor } from "../models/weights.js";
import { joinChunks } from "../src/host/build.js";
import { assemble } from "../src/codegen/listing/assemble.js";
import { disassemble } from "../src/codegen/listing/disassemble.js";
import { writeImage } from "../src/codegen/image/image.js";
import { compile } from "../src/compile.js";
import { CompileError, MachineFault } from "../src/diagnostics.js";
import { narrowDtype } from "../src/host/edge.js";
import { bytesSource } from "../src/frontend/source.js";
import { elementCount, type Graph, type Literal, type Tensor } from "../src/ir/graph.js";
import { isLiteral, stringAttr } from "../src/ir/ops/attributes.js";
import { parseGraph } from "../src/ir/parse.js";
import { printGraph } from "../src/ir/print.js";
import { TARGETS } from "../src/ir/target.js";
import { isFloat, tensorOf } from "../src/ir/tensor.js";
import { loadImage } from "../src/runtime/run.js";
import { mutateBytes, mutateImage, mutateModel, mutateText, oneOf } from "./mutate.js";
import { randomGraphVerdict } from "./random-check.js";
import { RandomGraph } from "./random-graph.js";
import { randomProgram, seeded } from "./random-program.js";
import { shrinkGraph } from "./shrink-graph.js";

export type Files = Readonly<Record<string, Uint8Array>>;

interface FuzzKind {
  readonly doc: string;
  readonly make: (seed: number) => Files;
  /** What happened, in a word or two. */
  readonly run: (files: Files, seed: number) => string;
  /** Whether a coded error is a finding. */
  readonly blames: (error: CompileError | MachineFault) => boolean;
  /** Smaller files that fail in the same way. */
  readonly shrink?: (seed: number) => Files;
}

/** Larger models only take longer. */
const LARGEST_CASE = 1 << 24;

/** Schedules, instructions and images that the compiler made and that something after it refuses. */
const isOurs = ({ code }: CompileError | MachineFault): boolean =>
  /^LPU(22[1-9]\d|2012|2014|2102|3\d{3}|40[0-2]\d|5000)$/.test(code);
const never = (): boolean => false;

const models: readonly (() => OnnxModel)[] = [
  () => buildModel("bert", { layers: 1, hidden: 16, heads: 2, vocab: 20, seq: 4, intermediate: 16, positions: 4 }),
  () => buildModel("gpt2", { layers: 1, hidden: 16, heads: 2, vocab: 20, seq: 4, intermediate: 16, positions: 4 }),
  () => buildModel("llama", { layers: 1, hidden: 16, heads: 2, "kv-heads": 1, vocab: 20, seq: 4, intermediate: 16 }),
  () => buildModel("vit", { layers: 1, hidden: 16, heads: 2, image: 8, patch: 4, classes: 0, intermediate: 16 }),
  () => buildModel("matmul", { m: 5, k: 16, n: 7 }),
  rearranging,
];

/** Operators that transformers built here do not use. */
function rearranging(): OnnxModel {
  const node = (
    op: string,
    inputs: string[],
    output: string,
    attributes: OnnxModel["nodes"][number]["attributes"] = {},
  ) => ({ op, name: `/${op}`, inputs, outputs: [output], attributes });
  return {
    name: "rearranging",
    opset: 18,
    inputs: [
      { name: "x", type: "float32", dims: [2, 3, 4] },
      { name: "i", type: "int64", dims: [3] },
    ],
    outputs: [
      { name: "y", type: "float32", dims: [1] },
      { name: "z", type: "float32", dims: [1] },
    ],
    initializers: [
      normalTensor("w", [4, 6], 1, 1),
      int64Tensor("s", [2], [6, 4]),
      int64Tensor("a", [1], [1]),
      int64Tensor("p", [4], [0, 1, 0, 1]),
      int64Tensor("k", [1], [3]),
    ],
    nodes: [
      node("Transpose", ["x"], "t", { perm: [1, 0, 2] }),
      node("Reshape", ["t", "s"], "r"),
      node("MatMul", ["r", "w"], "m"),
      node("Pad", ["m", "p"], "pd"),
      node("ReduceMax", ["pd", "a"], "mx", { keepdims: 1 }),
      node("Sub", ["pd", "mx"], "d"),
      node("CumSum", ["d", "a"], "c"),
      node("Clip", ["c"], "cl"),
      node("Slice", ["cl", "a", "k", "a"], "sl"),
      node("Concat", ["sl", "d"], "y", { axis: 1 }),
      node("Gather", ["r", "i"], "g", { axis: 0 }),
      node("LogSoftmax", ["g"], "z", { axis: 1 }),
    ],
  };
}

/** Inputs of ones, where all that is wanted is that it runs. */
function runOnOnes(image: Uint8Array): string {
  const loaded = loadImage(image).entry();
  if (loaded.inputs.reduce((sum, { shape }) => sum + elementCount(shape), 0) > LARGEST_CASE) return "large";
  const ones = ([name, dtype, shape]: readonly [string, Parameters<typeof narrowDtype>[0], readonly number[]]): [
    string,
    Tensor,
  ] => [
    name,
    tensorOf(
      narrowDtype(dtype),
      shape,
      Array.from({ length: elementCount(shape) }, () => 1),
    ),
  ];
  const { cycles } = loaded.run(
    Object.fromEntries(loaded.inputs.map(({ name, dtype, shape }) => ones([name, dtype, shape]))),
  );
  return cycles === loaded.predictedCycles ? "runs" : "runs, predicted otherwise";
}

const compileTiny = (bytes: Uint8Array): Uint8Array =>
  joinChunks(compile(bytesSource("model", bytes), { target: "tiny", verify: true }).image());

/** Images by what they are made of, each made once. */
const images = new Map<number, Uint8Array>();
function baseImage(choice: number): Uint8Array {
  const known = images.get(choice);
  if (known !== undefined) return known;
  const made =
    choice < 2 ? compileTiny(modelBytes((models[choice === 0 ? 4 : 0] ?? rearranging)())) : randomImage(choice);
  images.set(choice, made);
  return made;
}
const BASES = 8;

const randomImage = (seed: number): Uint8Array => writeImage(randomProgram(seed));

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);
const encoded = (content: string): Uint8Array => new TextEncoder().encode(content);

const KINDS = {
  model: {
    doc: "Damaged models are compiled; what compiles is run, in exactly the predicted cycles.",
    make: (seed) => {
      const random = seeded(seed);
      const model = oneOf(random, models, rearranging)();
      return { "model.onnx": random(4) === 0 ? mutateBytes(random, modelBytes(model)) : mutateModel(random, model) };
    },
    run: (files) => {
      const image = compileTiny(files["model.onnx"] ?? new Uint8Array(0));
      const outcome = runOnOnes(image);
      if (outcome === "runs, predicted otherwise")
        throw new Error("a compiled program takes other cycles than predicted");
      return outcome;
    },
    blames: isOurs,
  },
  image: {
    doc: "Damaged images, mostly with right checksums, are loaded and run.",
    make: (seed) => {
      const random = seeded(seed);
      return { "image.lpu": mutateImage(random, baseImage(random(BASES))) };
    },
    run: (files) => runOnOnes(files["image.lpu"] ?? new Uint8Array(0)),
    blames: never,
  },
  listing: {
    doc: "Damaged listings are assembled; what assembles disassembles and assembles to the same bytes, and is run.",
    make: (seed) => {
      const random = seeded(seed);
      return { "listing.txt": encoded(mutateText(random, disassemble(baseImage(random(BASES))))) };
    },
    run: (files) => {
      const image = assemble(text(files["listing.txt"]));
      if (!Buffer.from(assemble(disassemble(image))).equals(Buffer.from(image)))
        throw new Error("a listing of the image assembles to other bytes");
      return runOnOnes(image);
    },
    blames: never,
  },
  graph: {
    doc: "Random graphs are compiled and run on both machines against evaluation.",
    make: (seed) => ({ "graph.tir": encoded(printGraph(randomGraphOf(seed))) }),
    run: (files, seed) => {
      const constants = constantsOf(randomGraphOf(seed));
      const verdict = verdictOf(parseGraph(text(files["graph.tir"]), { constants }));
      if (verdict !== "ok" && !verdict.startsWith("refused")) throw new Error(verdict);
      return verdict;
    },
    blames: () => true,
    shrink: (seed) => {
      const given = messageOf(seed, randomGraphOf(seed));
      return {
        "shrunk.tir": encoded(
          printGraph(shrinkGraph(randomGraphOf(seed), (graph) => messageOf(seed, graph) === given)),
        ),
      };
    },
  },
} as const satisfies Record<string, FuzzKind>;

export type FuzzKindName = keyof typeof KINDS;
export const FUZZ_KINDS: Readonly<Record<FuzzKindName, FuzzKind>> = KINDS;

const LONGEST_GRAPH = 6;
function randomGraphOf(seed: number): Graph {
  const random = seeded(seed);
  return new RandomGraph((below) => (below < 1 ? 0 : random(below)), 1 + random(LONGEST_GRAPH)).builder.finish();
}

const verdictOf = (graph: Graph): string => randomGraphVerdict(graph, inputsFor(graph), TARGETS.tiny);

/** Multiples of a sixteenth from -2 to 2 for every input. */
function inputsFor(graph: Graph): Record<string, Tensor> {
  const inputs = graph.inputs.flatMap((id) => graph.nodes[id] ?? []);
  return Object.fromEntries(
    inputs.map(({ attrs, type }, place): [string, Tensor] => {
      const random = seeded(place);
      const values = Array.from({ length: elementCount(type.shape) }, () =>
        isFloat(type.dtype) ? (random(65) - 32) / 16 : random(2),
      );
      return [stringAttr(attrs, "name"), tensorOf(type.dtype, type.shape, values)];
    }),
  );
}

/** Literals by their keys: large ones are not written out in the text of a graph. */
const constantsOf = (graph: Graph): Map<string, Literal> =>
  new Map(
    graph.nodes.flatMap(({ op, attrs }): [string, Literal][] => {
      const value = op === "constant" ? attrs["value"] : undefined;
      return value !== undefined && isLiteral(value) ? [[value.key, value]] : [];
    }),
  );

/** What is wrong with a graph, without its numbers; empty if nothing is. */
function messageOf(seed: number, graph: Graph): string {
  const { finding, text } = runCase("graph", seed, { "graph.tir": encoded(printGraph(graph)) });
  return finding ? (text.split("\n", 1)[0] ?? "").replace(/'[^']*'|-?\d+(\.\d+)?(e[+-]?\d+)?/g, "") : "";
}

/** What a case comes to: whether it is a finding, and what to say. */
export interface Outcome {
  readonly finding: boolean;
  readonly text: string;
}

export function runCase(kind: FuzzKindName, seed: number, files: Files = FUZZ_KINDS[kind].make(seed)): Outcome {
  try {
    return { finding: false, text: FUZZ_KINDS[kind].run(files, seed) };
  } catch (error) {
    if (error instanceof CompileError || error instanceof MachineFault)
      return {
        finding: FUZZ_KINDS[kind].blames(error),
        text: FUZZ_KINDS[kind].blames(error) ? traceOf(error) : error.code,
      };
    return { finding: true, text: traceOf(error) };
  }
}

const traceOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));
