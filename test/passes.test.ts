/** The passes over graphs: goldens for every rule, values before and after every pass, real exports. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { decodeTensorProto } from "../src/frontend/tensors.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import { elementCount, type Graph, type NodeId, type Shape, type Tensor } from "../src/ir/graph.js";
import { stringAttr } from "../src/ir/ops/attributes.js";
import { parseGraph } from "../src/ir/parse.js";
import { printGraph } from "../src/ir/print.js";
import { equalGraphs } from "../src/ir/rewrite.js";
import { TARGETS } from "../src/ir/target.js";
import { applyOp } from "../src/ir/ops.js";
import { isFloat, literalOf, tensorOf, toFloats } from "../src/ir/tensor.js";
import { CANONICAL_RULES } from "../src/passes/canonicalize.js";
import { DECOMPOSE_RULES } from "../src/passes/decompose.js";
import { LANE_MAP_RULES } from "../src/passes/lane-maps.js";
import { legalProblems } from "../src/passes/legal.js";
import { PassError, passBanner, runPasses } from "../src/passes/pass.js";
import { PIPELINE, selectPasses } from "../src/passes/pipeline.js";
import { saturatedValues } from "../src/passes/precision.js";
import { check, goldenFiles } from "./golden.js";

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
  const only = /^opt --passes=(\S+)$/.exec(command)?.[1]?.split(",") ?? [];
  try {
    return printGraph(runPasses(parseGraph(input), selectPasses({ only }), context, all));
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

function expectSmall(errors: Readonly<Record<string, number>>, exact: number, half: number): void {
  for (const [pass, error] of Object.entries(errors))
    expect({ pass, error, fine: error <= (pass === "precision" ? half : exact) }).toEqual({ pass, error, fine: true });
}

// Random graphs of float operations, of moderate values, that end in a few outputs.

const UNARY = [
  "neg",
  "abs",
  "tanh",
  "sigmoid",
  "erf",
  "sin",
  "cos",
  "relu",
  "silu",
  "softplus",
  "floor",
  "round",
  "sign",
  "ceil",
];
const BINARY = ["add", "sub", "mul", "max", "min"];

class RandomGraph {
  readonly builder = new GraphBuilder("random");
  readonly inputs: Record<string, Tensor> = {};
  private readonly nodes: NodeId[] = [];
  private readonly pick: (below: number) => number;

  constructor(pick: (below: number) => number, steps: number) {
    this.pick = pick;
    for (const [i, shape] of [
      [2, 3, 4],
      [3, 4],
      [2, 1, 4],
    ].entries()) {
      this.inputs[`x${i}`] = this.tensor(shape);
      this.nodes.push(this.builder.input(`x${i}`, { dtype: "f32", shape }));
    }
    for (let step = 0; step < steps; step += 1) {
      const made = this.step(`n${step}`);
      if (elementCount(this.shape(made)) <= 4096) this.nodes.push(made);
    }
    for (const [i, id] of this.nodes.slice(-3).entries()) this.builder.output(`y${i}`, id);
  }

  private tensor(shape: Shape): Tensor {
    return tensorOf(
      "f32",
      shape,
      Array.from({ length: elementCount(shape) }, () => (this.pick(65) - 32) / 16),
    );
  }

  private shape(id: NodeId): Shape {
    return this.builder.type(id).shape;
  }

  private any(): NodeId {
    return this.nodes[this.pick(this.nodes.length)] ?? 0;
  }

  private constant(shape: Shape, origin: string): NodeId {
    return this.builder.constant(literalOf(this.tensor(shape)), [origin]);
  }

  private step(origin: string): NodeId {
    const { builder, pick } = this;
    const x = this.any();
    const shape = this.shape(x);
    const rank = shape.length;
    const axis = pick(rank);
    const add = (op: string, inputs: readonly NodeId[], attrs = {}): NodeId => builder.add(op, inputs, attrs, [origin]);
    const kinds: readonly (() => NodeId)[] = [
      () => add(UNARY[pick(UNARY.length)] ?? "neg", [x]),
      () => add("gelu", [x], { approximate: pick(2) === 0 ? "none" : "tanh" }),
      () => add(BINARY[pick(BINARY.length)] ?? "add", [x, this.constant(pick(2) === 0 ? [] : shape, origin)]),
      () => add(BINARY[pick(BINARY.length)] ?? "add", [this.constant(shape.slice(-1), origin), x]),
      () => {
        const y = this.nodes.find((id) => id !== x && this.shape(id).join() === shape.join()) ?? x;
        return add(BINARY[pick(BINARY.length)] ?? "add", [x, y]);
      },
      () => add("select", [add("lt", [x, this.constant([], origin)]), x, this.constant([], origin)]),
      () => add("transpose", [x], { perm: this.permutation(rank) }),
      () => add("reshape", [x], { shape: this.regrouped(shape) }),
      () => {
        const start = pick(shape[axis] ?? 1);
        const size = 1 + pick((shape[axis] ?? 1) - start);
        const reverse = pick(3) === 0;
        const along = (value: number, other: (extent: number) => number): number[] =>
          shape.map((extent, i) => (i === axis ? value : other(extent)));
        return add("slice", [x], {
          starts: along(reverse ? start + size - 1 : start, () => 0),
          sizes: along(size, (extent) => extent),
          strides: along(reverse ? -1 : 1, () => 1),
        });
      },
      () => add("concat", pick(2) === 0 ? [x, x] : [x, this.constant(shape, origin), x], { axis }),
      () => add("expand", [x], { shape: [2, ...shape] }),
      () =>
        add("pad", [x], {
          before: shape.map(() => pick(2)),
          after: shape.map(() => pick(2)),
          value: 0.5,
          mode: "constant",
        }),
      () =>
        add(["reduce_sum", "reduce_mean", "reduce_max", "reduce_min"][pick(4)] ?? "reduce_sum", [x], {
          axes: shape.map((_, i) => i).filter(() => pick(2) === 0),
          keepdims: pick(2) === 0,
        }),
      () => add("softmax", [x], { axis }),
      () => add("cumsum", [x], { axis, exclusive: pick(2) === 0, reverse: pick(2) === 0 }),
      () => {
        const inner = shape.slice(-1);
        return add("layer_norm", [x, this.constant(inner, origin), this.constant(inner, origin)], {
          axis: rank - 1,
          epsilon: 0.5,
        });
      },
      () =>
        rank < 2
          ? add("neg", [x])
          : add("matmul", [add("tanh", [x]), this.constant([shape[rank - 1] ?? 1, 4], origin)]),
      () => (rank < 2 ? add("neg", [x]) : add("trilu", [x], { upper: pick(2) === 0, k: pick(3) - 1 })),
      () => {
        const indices = tensorOf(
          "i32",
          [3],
          [0, 1, 2].map(() => pick(shape[axis] ?? 1)),
        );
        return add("gather", [x, builder.constant(literalOf(indices), [origin])], { axis });
      },
      () =>
        rank < 3
          ? add("neg", [x])
          : add("conv", [x, this.constant([2, shape[1] ?? 1, ...shape.slice(2).map(() => 1)], origin)], {
              strides: shape.slice(2).map(() => 1),
              pads: shape.slice(2).flatMap(() => [1, 0]),
              dilations: shape.slice(2).map(() => 1),
              group: 1,
            }),
    ];
    const made = kinds[pick(kinds.length)]?.() ?? x;
    return this.shape(made).length === 0 ? add("reshape", [made], { shape: [1] }) : made;
  }

  private permutation(rank: number): number[] {
    const left = Array.from({ length: rank }, (_, i) => i);
    return left.map(() => -1).map(() => left.splice(this.pick(left.length), 1)[0] ?? 0);
  }

  /** Joins two neighbouring axes, or splits one. */
  private regrouped(shape: Shape): Shape {
    const axis = this.pick(shape.length);
    const extent = shape[axis] ?? 1;
    if (this.pick(2) === 0 && axis + 1 < shape.length)
      return [...shape.slice(0, axis), extent * (shape[axis + 1] ?? 1), ...shape.slice(axis + 2)];
    return shape.length > 5
      ? shape
      : [...shape.slice(0, axis), ...(extent % 2 === 0 ? [2, extent / 2] : [1, extent]), ...shape.slice(axis + 1)];
  }
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
        const { precision: _, ...exact } = errors;
        expectSmall(exact, 1e-4, 0);
      }),
      { numRuns: 150 },
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

const FIXTURES = new URL("../../../shared/fixtures/transformers/", import.meta.url);
const STORYTELLER = ["../../models/storyteller/model.onnx", "../../../shared/models/storyteller/model.onnx"]
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(url));
const EXPORTS = [
  "hf-bert",
  "hf-bert-ts",
  "hf-gpt2-ts",
  "hf-gpt2-dynamo",
  "hf-llama-prefill",
  "stories260K-prefill",
  "bert-toy-optimized",
  "hf-vit",
  "hf-whisper-encoder",
];

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
      ({ op, inputs }) =>
        op === "matmul" && JSON.stringify(legal.nodes[inputs[1] ?? 0]?.attrs["value"]).includes("lanes "),
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

describe("the runner", () => {
  const graph = parseGraph(`graph @main(%0: f32[2]) {
    %1 = neg(%0) : f32[2]
    %2 = neg(%1) : f32[2]
    return %2
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
      "; ---- after canonicalize (pass 1/6, changed, 1.0 ms) ----",
      "; ---- after decompose (pass 2/6, unchanged, 1.0 ms) ----",
    ]);
    expect(after.nodes.length).toBe(1);
  });

  test("a failure carries what makes it happen again", () => {
    const broken = {
      name: "broken",
      doc: "Fails.",
      run: () => runPasses(graph, selectPasses({ only: ["decompose"] }), context, { limit: -1 }),
      ensures: ["legal" as const],
    };
    try {
      runPasses(graph, [broken], context);
      throw new Error("no error");
    } catch (error) {
      if (!(error instanceof PassError)) throw error;
      expect(error.pass).toBe("broken");
      expect(error.code).toBe("LPU2101");
      expect(error.reproducer).toBe(`; run: opt --passes=broken --target=tiny\n${printGraph(graph)}`);
    }
  });

  test("a name that is no pass is an error", () => {
    expect(() => selectPasses({ skip: ["nothing"] })).toThrow("LPU2102: unknown pass 'nothing'");
  });

  test("saturated values are counted", () => {
    expect(saturatedValues(literalOf(tensorOf("f32", [4], [1, 1e6, -1e9, Number.NEGATIVE_INFINITY])))).toBe(2);
    expect(isFloat("f16")).toBe(true);
  });
});
