/** The passes over graphs: goldens for every rule, values before and after every pass, real exports. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { decodeTensorProto } from "../src/frontend/tensors.js";
import { GraphBuilder } from "../src/ir/builder.js";
import type { TensorData } from "../src/ir/dtype.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Sharding } from "../src/ir/facts.js";
import { elementCount, type Graph, type Tensor } from "../src/ir/graph.js";
import { literalAttr, stringAttr } from "../src/ir/ops/attributes.js";
import { parseGraph } from "../src/ir/parse.js";
import { printGraph } from "../src/ir/print.js";
import { equalGraphs } from "../src/ir/rewrite.js";
import { TARGETS } from "../src/ir/target.js";
import { isWeightFormat } from "../src/ir/weights.js";
import { applyOp } from "./apply-op.js";
import { isFloat, literalOf, tensorOf, toFloats } from "../src/ir/tensor.js";
import { CANONICAL_RULES } from "../src/passes/graph/canonicalize.js";
import { DECOMPOSE_RULES } from "../src/passes/graph/decompose.js";
import { LANE_MAP_RULES } from "../src/passes/graph/lane-maps.js";
import { legalProblems } from "../src/passes/graph/legal.js";
import { PassError, passBanner, runPasses } from "../src/passes/graph/pass.js";
import { PIPELINE, selectPasses } from "../src/passes/graph/pipeline.js";
import { QUANTIZED_RULES } from "../src/passes/graph/quantized.js";
import { rewriteGraph } from "../src/passes/graph/rewriter.js";
import { shardingText } from "../src/report/summary.js";
import { EXPORTS, FIXTURES } from "./exports.js";
import { check, goldenFiles } from "./golden.js";
import { RandomGraph } from "./random-graph.js";

const context = { target: TARGETS.tiny };
const all = { verify: true };

function errorText(error: unknown): string {
  if (!(error instanceof CompileError)) throw error;
  return [error, ...error.others]
    .map(
      ({ code, details }) =>
        `error ${code}: ${details.message}${details.node === undefined ? "" : ` at ${details.node}`}`,
    )
    .join("\n");
}

function optimize(command: string, input: string): string {
  const words = (option: string): readonly string[] =>
    new RegExp(`--${option}=(\\S+)`).exec(command)?.[1]?.split(",") ?? [];
  const format = words("weights").find(isWeightFormat);
  const weights = format && { format, keep: words("keep") };
  try {
    const passes = selectPasses({ only: words("passes") });
    const [chips = 1] = words("tensor").map(Number);
    let sharding = "";
    const onSharded = (facts: Sharding): void => {
      sharding = `; ${shardingText(facts)}\n`;
    };
    const target = words("target").includes("lpu-v1") ? TARGETS["lpu-v1"] : context.target;
    const graph = runPasses(parseGraph(input), passes, { target, weights, chips, onSharded }, all);
    return `${sharding}${printGraph(graph)}`;
  } catch (error) {
    return errorText(error);
  }
}

describe("goldens", () => {
  const files = goldenFiles("passes", ".tir");
  test.each(files)("%s", (path) => check(path, optimize));

  test("every pass has a folder, every rule a file", () => {
    const missing = (pass: string, names: readonly string[]): string[] =>
      names.map((name) => `passes/${pass}/${name}.tir`).filter((path) => !files.includes(path));
    expect(PIPELINE.filter(({ name }) => !files.some((path) => path.startsWith(`passes/${name}/`)))).toEqual([]);
    expect(
      missing(
        "quantized",
        QUANTIZED_RULES.map(({ name }) => name),
      ),
    ).toEqual([]);
    expect(
      missing(
        "canonicalize",
        CANONICAL_RULES.map(({ name }) => name),
      ),
    ).toEqual([]);
    expect(
      missing(
        "decompose",
        DECOMPOSE_RULES.map(({ name }) => name),
      ),
    ).toEqual([]);
    expect(
      missing(
        "lane-maps",
        LANE_MAP_RULES.map(({ name }) => name),
      ),
    ).toEqual([]);
  });
});

const relativeError = (actual: Float32Array, wanted: Float32Array): number => {
  let [difference, size] = [0, 0];
  for (const [i, value] of wanted.entries()) {
    difference += (value - (actual[i] ?? 0)) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / Math.max(size, 1e-12));
};

type Inputs = Readonly<Record<string, Tensor>>;

/** Inputs as the host would give them: integers and truth values become numbers where the graph says so. */
const fitted = (graph: Graph, inputs: Inputs): Inputs =>
  Object.fromEntries(
    graph.inputs.map((id) => {
      const node = graph.nodes[id];
      const name = node === undefined ? "" : stringAttr(node.attrs, "name");
      const given = inputs[name];
      if (node === undefined || given === undefined) throw new Error(`no input ${name}`);
      return [name, applyOp("cast", [given], { to: node.type.dtype })];
    }),
  );

const outputsOf = (graph: Graph, inputs: Inputs): Float32Array[] =>
  evaluate(graph, fitted(graph, inputs)).map(toFloats);

/** The greatest error of an output after each pass. */
function errorsByPass(
  graph: Graph,
  inputs: Inputs,
  skip: readonly string[] = [],
): { readonly errors: Record<string, number>; readonly result: Graph } {
  const wanted = outputsOf(graph, inputs);
  const errors: Record<string, number> = {};
  const result = runPasses(graph, selectPasses({ skip }), context, {
    ...all,
    onPass: ({ pass }, after) => {
      errors[pass.name] = Math.max(
        0,
        ...outputsOf(after, inputs).map((actual, i) => relativeError(actual, wanted[i] ?? actual)),
      );
    },
  });
  return { errors, result };
}

/** Passes after which numbers are fp16. */
const HALF: readonly string[] = ["precision", "shard"];

function expectSmall(errors: Readonly<Record<string, number>>, exact: number, half: number): void {
  for (const [pass, error] of Object.entries(errors))
    expect({ pass, error, fine: error <= (HALF.includes(pass) ? half : exact) }).toEqual({ pass, error, fine: true });
}

describe("random graphs", () => {
  const choices = fc.array(fc.nat(10_000), { minLength: 400, maxLength: 400 });
  const graphOf = (list: readonly number[], steps: number): { readonly graph: Graph; readonly inputs: Inputs } => {
    let next = 0;
    const made = new RandomGraph((below) => (list[next++ % list.length] ?? 0) % Math.max(1, below), steps);
    return { graph: made.builder.finish(), inputs: made.inputs };
  };

  test("keep their values through every pass and become legal", () => {
    fc.assert(
      fc.property(choices, fc.integer({ min: 1, max: 8 }), (list, steps) => {
        const { graph, inputs } = graphOf(list, steps);
        const { errors, result } = errorsByPass(graph, inputs);
        expect(legalProblems(result, true)).toEqual([]);
        const exact = Object.fromEntries(Object.entries(errors).filter(([pass]) => !HALF.includes(pass)));
        expectSmall(exact, 1e-4, 0);
      }),
      { numRuns: 150 },
    );
  });

  test("are rewritten in one sweep: a second one finds nothing to do", () => {
    fc.assert(
      fc.property(choices, fc.integer({ min: 1, max: 8 }), (list, steps) => {
        const { graph } = graphOf(list, steps);
        for (const rules of [CANONICAL_RULES, [...DECOMPOSE_RULES, ...CANONICAL_RULES]]) {
          const once = rewriteGraph(graph, rules);
          expect(printGraph(rewriteGraph(once, rules))).toBe(printGraph(once));
        }
      }),
      { numRuns: 300 },
    );
  });

  test("do not need canonicalization to become legal", () => {
    fc.assert(
      fc.property(choices, (list) => {
        const { graph } = graphOf(list, 4);
        expect(legalProblems(runPasses(graph, selectPasses({ skip: ["canonicalize"] }), context, all), true)).toEqual(
          [],
        );
      }),
      { numRuns: 30 },
    );
  });

  test("give the same text when compiled twice", () => {
    fc.assert(
      fc.property(choices, (list) => {
        const [a, b] = [graphOf(list, 6), graphOf(list, 6)].map(({ graph }) => runPasses(graph, PIPELINE, context));
        expect(a !== undefined && b !== undefined && equalGraphs(a, b)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });
});

const STORYTELLER = ["../../models/storyteller/model.onnx", "../../../shared/models/storyteller/model.onnx"]
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(url));

function caseInputs(folder: URL): Inputs {
  const files = readdirSync(folder).filter((name) => name.startsWith("input_"));
  return Object.fromEntries(
    files
      .map((file) => decodeTensorProto(readFileSync(new URL(file, folder))))
      .map(({ name, tensor }) => [name, tensor]),
  );
}

const present = existsSync(FIXTURES);
if (!present) console.log("skipped: fixtures not present");

(present ? describe : describe.skip)("real exports", () => {
  test.each(EXPORTS)("%s becomes legal and keeps its values", (name) => {
    const inputs = caseInputs(new URL(`${name}/test_data_set_0/`, FIXTURES));
    const shapes = Object.fromEntries(Object.entries(inputs).map(([input, { shape }]) => [input, shape]));
    const graph = importModel(bytesSource(name, readFileSync(new URL(`${name}/model.onnx`, FIXTURES))), {
      bind: {},
      shapes,
    });
    const { errors, result } = errorsByPass(graph, inputs);
    expect(legalProblems(result, true)).toEqual([]);
    expectSmall(errors, 1e-5, 3e-3);
  });

  test("rotary embeddings move lanes once for q and once for k", () => {
    const graph = importModel(bytesSource("llama", readFileSync(new URL("hf-llama-prefill/model.onnx", FIXTURES))), {
      bind: {},
    });
    const legal = runPasses(graph, PIPELINE, context);
    const maps = legal.nodes.filter(
      ({ op, inputs }) => op === "matmul" && JSON.stringify(legal.nodes[inputs[1] ?? 0]?.attrs).includes("lanes "),
    );
    expect(maps.length).toBe(6);
    expect(legal.nodes.filter(({ op }) => op === "slice" || op === "concat" || op === "neg")).toEqual([]);
  });
});

(STORYTELLER === undefined ? test.skip : test)("the storyteller becomes legal and keeps its values", () => {
  const graph = importModel(bytesSource("storyteller", readFileSync(STORYTELLER ?? "")), { bind: { s70: 32 } });
  const inputs = {
    input_ids: tensorOf(
      "i32",
      [1, 32],
      Array.from({ length: 32 }, (_, i) => (i * 37 + 5) % 512),
    ),
  };
  const { errors, result } = errorsByPass(graph, inputs);
  expect(legalProblems(result, true)).toEqual([]);
  expectSmall(errors, 1e-5, 3e-3);
});

const SMALL = new URL("../../models/small/", import.meta.url);

test.each(existsSync(SMALL) ? readdirSync(SMALL).filter((name) => name.endsWith(".onnx")) : [])(
  "the small model %s becomes legal and keeps its values",
  (name) => {
    const graph = importModel(bytesSource(name, readFileSync(new URL(name, SMALL))), { bind: {} });
    const inputs = Object.fromEntries(
      graph.inputs.flatMap((id) => {
        const node = graph.nodes[id];
        if (node === undefined) return [];
        const { dtype, shape } = node.type;
        const value = (i: number): number => (isFloat(dtype) ? Math.sin(i) : (i * 7 + 1) % 2);
        const values = Array.from({ length: elementCount(shape) }, (_, i) => value(i));
        return [[stringAttr(node.attrs, "name"), tensorOf(dtype, shape, values)]];
      }),
    );
    const { errors, result } = errorsByPass(graph, inputs);
    expect(legalProblems(result, true)).toEqual([]);
    expectSmall(errors, 1e-5, 3e-3);
  },
);

test("a large weight without its means, in pieces that end anywhere, is the whole of it", () => {
  const [rows, extent] = [300, 250];
  const weight = tensorOf(
    "f32",
    [rows, extent],
    Array.from({ length: rows * extent }, (_, i) => (i % 977) / 7 - 40),
  );
  const pieces = function* (): Generator<TensorData> {
    for (let from = 0; from < weight.data.length; from += 7_777) yield weight.data.subarray(from, from + 7_777);
  };
  const g = new GraphBuilder("norm");
  const x = g.add(
    "matmul",
    [g.input("x", { dtype: "f32", shape: [2, rows] }), g.constant({ ...literalOf(weight), pieces }, ["w"])],
    {},
    ["product"],
  );
  const sum = g.add("reduce_sum", [x], { axes: [1], keepdims: true }, ["sum"]);
  const mean = g.add("mul", [sum, g.constant(literalOf(tensorOf("f32", [], [1 / extent])), ["n"])], {}, ["mean"]);
  g.output("y", g.add("sub", [x, mean], {}, ["y"]));
  const { nodes } = runPasses(g.finish(), selectPasses({ only: ["centre"] }), context, all);
  const centred = nodes.flatMap(({ attrs }) => (attrs["value"] === undefined ? [] : [literalAttr(attrs, "value")]));
  expect(centred.map(({ shape }) => shape)).toEqual([[rows, extent]]);
  const [literal] = centred;
  const joined: number[] = [];
  for (const piece of literal?.pieces?.() ?? []) joined.push(...piece);
  expect(Float32Array.from(joined)).toEqual(literal?.load().data);
  const sums = applyOp("reduce_sum", [weight], { axes: [1], keepdims: true });
  const means = applyOp("mul", [sums, tensorOf("f32", [], [1 / extent])]);
  expect(literal?.load().data).toEqual(applyOp("sub", [weight, means]).data);
});

describe("the runner", () => {
  const graph = parseGraph(`graph @main(%0: f32[2]) {
    %1 = neg(%0) : f32[2]
    %2 = neg(%1) : f32[2]
    return %2
  }`);
  const illegal = parseGraph(`graph @main(%0: f32[2,3]) {
    %1 = reduce_prod(%0) {axes=[1], keepdims=false} : f32[2]
    return %1
  }`);

  test("tells what each pass did, and stops at a limit", () => {
    let time = 0;
    const banners: string[] = [];
    const options = {
      ...all,
      clock: () => ++time,
      onPass: (...[record]: Parameters<NonNullable<Parameters<typeof runPasses>[3]>["onPass"] & {}>) =>
        void banners.push(passBanner(record)),
      limit: 2,
    };
    const after = runPasses(graph, PIPELINE, context, options);
    expect(banners).toEqual([
      "; ---- after quantized (pass 1/10, unchanged, 1.0 ms) ----",
      "; ---- after canonicalize (pass 2/10, changed, 1.0 ms) ----",
    ]);
    expect(after.nodes.length).toBe(1);
  });

  test("a failure carries what makes it happen again", () => {
    const broken = {
      name: "broken",
      doc: "Fails.",
      run: () => runPasses(illegal, selectPasses({ only: ["decompose"] }), context, { limit: -1 }),
      ensures: ["legal" as const],
    };
    try {
      runPasses(illegal, [broken], context);
      throw new Error("no error");
    } catch (error) {
      if (!(error instanceof PassError)) throw error;
      expect(error.pass).toBe("broken");
      expect(error.code).toBe("LPU2101");
      expect(error.reproducer).toBe(`; run: opt --passes=broken --target=tiny\n${printGraph(illegal)}`);
    }
  });

  test("a number that fp16 cannot hold is refused where the MXM would multiply it", () => {
    const graph = parseGraph(`graph @main(%0: f32[1,2]) {
      %1 = constant() {value=dense<[70000, 1]>} : f32[2,1]
      %2 = matmul(%0, %1) : f32[1,1]
      return %2
    }`);
    expect(() => runPasses(graph, PIPELINE, context)).toThrow("LPU2103");
  });

  test.each(["f8e4m3", "f8e5m2"])("computed numbers are not passed on as if they had been rounded to %s", (type) => {
    const graph = parseGraph(`graph @main(%0: f32[4]) {
      %1 = cast(%0) {to="${type}"} : ${type}[4]
      %2 = transpose(%1) {perm=[0]} : ${type}[4]
      return %2
    }`);
    expect(() => runPasses(graph, PIPELINE, context)).toThrow("LPU2101");
  });

  test("a name that is no pass is an error", () => {
    expect(() => selectPasses({ skip: ["nothing"] })).toThrow("LPU2102: unknown pass 'nothing'");
  });
});
