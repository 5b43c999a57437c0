/** Graphs shared out among the chips of a group: what exchanges give, that any placement keeps the values, what the search chooses. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { buildModel, type FamilyName } from "../models/families.js";
import { modelBytes } from "../models/onnx-writer.js";
import type { SizeName } from "../models/sizes.js";
import { CompileError, sure } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource, type ModelSource } from "../src/frontend/source.js";
import { decodeTensorProto } from "../src/frontend/tensors.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate, evaluateGroup } from "../src/ir/evaluate.js";
import type { Sharding } from "../src/ir/facts.js";
import { type Attrs, elementCount, type Graph, type Shape, type Tensor } from "../src/ir/graph.js";
import { chipsOf } from "../src/ir/group.js";
import { OPS, opRow } from "../src/ir/ops.js";
import { stringAttr } from "../src/ir/ops/attributes.js";
import { cast } from "../src/ir/ops/elementwise.js";
import { parseGraph } from "../src/ir/parse.js";
import { TARGETS } from "../src/ir/target.js";
import { formatType, isFloat, tensorOf, toFloats, toNumbers } from "../src/ir/tensor.js";
import { graphProblems, verifyGraph } from "../src/ir/verify.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { OPTIMIZE, PLACE } from "../src/passes/graph/pipeline.js";
import { search } from "../src/passes/graph/shard/search.js";
import { shared } from "../src/passes/graph/shard.js";
import { drawnCosts, relativeError } from "./drawn.js";
import { FIXTURES } from "./exports.js";
import { RandomGraph } from "./random-graph.js";

type Inputs = Readonly<Record<string, Tensor>>;
const target = TARGETS["lpu-v1"];

describe("operations of a group", () => {
  interface Case {
    readonly op: string;
    readonly attrs: Attrs;
    readonly shape: Shape;
    /** Values of the operand by chip. */
    readonly given: readonly (readonly number[])[];
    readonly type: string;
    readonly wanted: readonly (readonly number[])[];
  }
  const CASES: readonly Case[] = [
    {
      op: "piece",
      attrs: { axis: 1 },
      shape: [2, 2],
      given: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
      ],
      type: "f32[2,1]",
      wanted: [
        [1, 3],
        [2, 4],
      ],
    },
    {
      op: "join",
      attrs: { axis: 1 },
      shape: [2, 1],
      given: [
        [1, 3],
        [2, 4],
      ],
      type: "f32[2,2]",
      wanted: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
      ],
    },
    {
      op: "all_gather",
      attrs: { axis: 0 },
      shape: [1, 2],
      given: [
        [1, 2],
        [3, 4],
      ],
      type: "f32[2,2]",
      wanted: [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
      ],
    },
    {
      op: "all_reduce",
      attrs: {},
      shape: [2],
      given: [
        [1, 2],
        [3, 4],
      ],
      type: "f32[2]",
      wanted: [
        [4, 6],
        [4, 6],
      ],
    },
    // In ascending order of chips, each sum rounded to fp32: the one is lost beside 1e8, and not beside their difference.
    {
      op: "all_reduce",
      attrs: {},
      shape: [2],
      given: [
        [1e8, 1],
        [1, 1e8],
        [-1e8, -1e8],
      ],
      type: "f32[2]",
      wanted: [
        [0, 0],
        [0, 0],
        [0, 0],
      ],
    },
    { op: "all_reduce", attrs: {}, shape: [1], given: [[1e8], [-1e8], [1]], type: "f32[1]", wanted: [[1], [1], [1]] },
    {
      op: "reduce_scatter",
      attrs: { axis: 0 },
      shape: [2],
      given: [
        [1, 2],
        [3, 4],
      ],
      type: "f32[1]",
      wanted: [[4], [6]],
    },
    {
      op: "all_to_all",
      attrs: { from: 0, to: 1 },
      shape: [1, 2],
      given: [
        [1, 2],
        [3, 4],
      ],
      type: "f32[2,1]",
      wanted: [
        [1, 3],
        [2, 4],
      ],
    },
  ];

  test.each(CASES.map((each, place): [string, Case] => [`${place} ${each.op}`, each]))(
    "%s",
    (_, { op, attrs, shape, given, type, wanted }) => {
      const row = opRow(op);
      const values = given.map((numbers) => tensorOf("f32", shape, numbers));
      const all = { ...attrs, chips: given.length };
      const result = row.infer(values.slice(0, 1), all);
      expect(formatType(result)).toBe(type);
      expect(row.group?.(values, all, result).map((value) => [...toNumbers(value)])).toEqual(wanted);
    },
  );

  test("each has a case, and none has a value on one chip", () => {
    const group = Object.keys(OPS).filter((op) => opRow(op).group !== undefined);
    expect(group.filter((op) => !CASES.some((each) => each.op === op))).toEqual([]);
    const x = tensorOf("f32", [2], [1, 2]);
    for (const op of group) expect(() => opRow(op).evaluate([x], { chips: 2 }, x)).toThrow(CompileError);
  });

  test("pieces are equal, sums are of numbers, and a graph has one number of chips", () => {
    const of = (text: string): string => {
      try {
        verifyGraph(parseGraph(text));
        return "fine";
      } catch (error) {
        return error instanceof CompileError ? error.details.message : String(error);
      }
    };
    expect(of('graph @g(%0 "x": f32[3]) { %1 = piece(%0) {axis=0, chips=2} : f32[1] return %1 }')).toMatch(
      /that 2 divides/,
    );
    expect(of('graph @g(%0 "x": f32[2]) { %1 = piece(%0) {axis=1, chips=2} : f32[1] return %1 }')).toMatch(
      /from 0 to 0/,
    );
    expect(of('graph @g(%0 "x": f32[2]) { %1 = piece(%0) {axis=0, chips=1} : f32[2] return %1 }')).toMatch(
      /at least 2/,
    );
    expect(of('graph @g(%0 "x": bool[2]) { %1 = all_reduce(%0) {chips=2} : bool[2] return %1 }')).toMatch(
      /f16, f32 or i32/,
    );
    const two = "%1 = piece(%0) {axis=0, chips=2} : f32[2] %2 = all_reduce(%1) {chips=4} : f32[2]";
    expect(of(`graph @g(%0 "x": f32[4]) { ${two} return %2 }`)).toMatch(/one number of chips/);
  });

  test("a graph of one chip is its own group", () => {
    const builder = new GraphBuilder("g");
    const x = builder.input("x", { dtype: "f32", shape: [2] });
    builder.output("y", builder.add("neg", [x], {}, ["n"]));
    expect(chipsOf(builder.finish())).toBe(1);
  });
});

/* ---------- any placement keeps the values ---------- */

/** The greatest error of an output of a shared graph; every chip must have the same bits. */
const errorOf = (graph: Graph, inputs: Inputs, wanted: readonly Tensor[]): number => {
  const outputs = evaluateGroup(graph, inputs);
  const errors = outputs.map((values, at) => {
    for (const value of values) expect(value.data).toEqual(values[0]?.data);
    const [first, other] = [values[0], wanted[at]];
    return first === undefined || other === undefined ? Infinity : relativeError(toFloats(first), toFloats(other));
  });
  return Math.max(...errors);
};

const drawnGraph = (graph: Graph, chips: number, seed: number): Graph => {
  const placed = sure(search({ graph, chips, costs: drawnCosts(seed), price: 0 }), "placements");
  const result = shared({ graph, chips }, placed);
  expect(graphProblems(result)).toEqual([]);
  return result;
};

/** Inputs as the host would give them: integers and truth values become numbers where the graph says so. */
const fitted = (graph: Graph, inputs: Inputs): Inputs =>
  Object.fromEntries(
    graph.inputs.flatMap((id) => {
      const node = graph.nodes[id];
      const name = node === undefined ? "" : stringAttr(node.attrs, "name");
      const given = inputs[name];
      return node === undefined || given === undefined
        ? []
        : [[name, cast(given, { ...node.type, shape: given.shape })]];
    }),
  );

const seeded = (graph: Graph): Inputs =>
  Object.fromEntries(
    graph.inputs.flatMap((id) => {
      const node = graph.nodes[id];
      if (node === undefined) return [];
      const { dtype, shape } = node.type;
      const value = (i: number): number => (isFloat(dtype) ? Math.sin(i) : (i * 7 + 1) % 2);
      return [
        [
          stringAttr(node.attrs, "name"),
          tensorOf(
            dtype,
            shape,
            Array.from({ length: elementCount(shape) }, (_, i) => value(i)),
          ),
        ],
      ];
    }),
  );

interface Model {
  readonly name: string;
  readonly graph: () => Graph;
  readonly inputs?: () => Inputs;
}

const imported = (source: ModelSource, inputs?: Inputs): Graph => {
  const shapes = Object.fromEntries(Object.entries(inputs ?? {}).map(([name, { shape }]) => [name, shape]));
  return importModel(source, { bind: {}, shapes });
};
const built = (family: FamilyName, sizes: Readonly<Partial<Record<SizeName, number>>>): Model => ({
  name: `${family} of ${sizes.layers} layers`,
  graph: () => imported(bytesSource(family, modelBytes(buildModel(family, sizes)))),
});
const exported = (name: string): Model => {
  const folder = new URL(`${name}/test_data_set_0/`, FIXTURES);
  const inputs = (): Inputs =>
    Object.fromEntries(
      readdirSync(folder)
        .filter((file) => file.startsWith("input_"))
        .map((file) => decodeTensorProto(readFileSync(new URL(file, folder))))
        .map((named) => [named.name, named.tensor]),
    );
  const graph = (): Graph =>
    imported(bytesSource(name, readFileSync(new URL(`${name}/model.onnx`, FIXTURES))), inputs());
  return { name, graph, inputs };
};

const SMALL = new URL("../../models/small/", import.meta.url);
const small = (name: string): Model => ({
  name,
  graph: () => imported(bytesSource(name, readFileSync(new URL(`${name}.onnx`, SMALL)))),
});

const present = existsSync(FIXTURES);
if (!present) console.log("skipped: fixtures not present");
const MODELS: readonly Model[] = [
  ...["bert", "gpt2", "llama", "vit"].map(small),
  ...(present ? ["hf-mixtral-past", "hf-llama-past", "hf-gpt2-past"].map(exported) : []),
];

describe("any placement keeps the values", () => {
  test.each(MODELS.map((model): [string, Model] => [model.name, model]))("of %s", (_, model) => {
    const graph = runPasses(model.graph(), OPTIMIZE, { target });
    const inputs = fitted(graph, model.inputs?.() ?? seeded(graph));
    const wanted = evaluate(graph, inputs);
    for (const chips of [2, 4, 8])
      for (const seed of [1, 2]) {
        const error = errorOf(drawnGraph(graph, chips, seed), inputs, wanted);
        expect({ chips, seed, error, fine: error <= 1e-5 }).toEqual({ chips, seed, error, fine: true });
      }
  });

  test("of random graphs", () => {
    const choices = fc.array(fc.nat(10_000), { minLength: 400, maxLength: 400 });
    const exchanges = new Set<string>();
    fc.assert(
      fc.property(choices, fc.integer({ min: 1, max: 8 }), fc.nat(1000), (list, steps, seed) => {
        let next = 0;
        const made = new RandomGraph((below) => (list[next++ % list.length] ?? 0) % Math.max(1, below), steps);
        const graph = runPasses(made.builder.finish(), OPTIMIZE, { target });
        const result = drawnGraph(graph, 2, seed);
        for (const { op } of result.nodes) if (opRow(op).group !== undefined) exchanges.add(op);
        expect(errorOf(result, made.inputs, evaluate(graph, made.inputs))).toBeLessThan(1e-4);
      }),
      { numRuns: 200, seed: 11 },
    );
    expect([...exchanges].sort()).toEqual(
      Object.keys(OPS)
        .filter((op) => opRow(op).group !== undefined)
        .sort(),
    );
  });
});

/* ---------- what is chosen ---------- */

/** Chips, exchanges of a layer, and the model: all of them large enough for wires to pay. */
const LARGE: readonly (readonly [Model, number, readonly string[]])[] = [
  // Many tokens: each chip has its own, and gathers what makes keys and values.
  [built("bert", { layers: 1, vocab: 64, seq: 64 }), 2, ["all_gather"]],
  [built("bert", { layers: 1, vocab: 64, seq: 64 }), 8, ["all_gather"]],
  [built("gpt2", { layers: 1, vocab: 512, seq: 64 }), 4, ["all_gather"]],
  // One token: heads over chips, columns then rows, a sum after each; the head's columns go out as they are.
  [
    built("llama", { layers: 2, hidden: 1024, heads: 16, "kv-heads": 8, intermediate: 4096, vocab: 512, seq: 1 }),
    4,
    ["all_reduce"],
  ],
  [
    built("llama", { layers: 2, hidden: 1024, heads: 16, "kv-heads": 8, intermediate: 4096, vocab: 512, seq: 1 }),
    8,
    ["all_reduce"],
  ],
];

describe("what is chosen", () => {
  test.each(
    LARGE.map(([model, chips, exchanges]): [string, number, readonly string[], Model] => [
      model.name,
      chips,
      exchanges,
      model,
    ]),
  )("for %s on %i chips is faster, exchanges by %s, and is right", (_, chips, exchanges, model) => {
    const graph = runPasses(model.graph(), OPTIMIZE, { target });
    let facts: Sharding | undefined;
    const onSharded = (found: Sharding): void => {
      facts = found;
    };
    const result = runPasses(graph, PLACE, { target, chips, onSharded }, { verify: true });
    expect(facts?.chips).toBe(chips);
    expect(facts?.cycles).toBeLessThan(facts?.runnerUp.cycles ?? 0);
    expect(facts?.exchanges.map(({ op }) => op)).toEqual(exchanges);
    const inputs = seeded(graph);
    expect(errorOf(result, inputs, evaluate(graph, inputs))).toBeLessThan(1e-5);
  });

  test("for what fits beside its weights is fast, and for what the host gives and gets too, has room", () => {
    const bytesOf = (edge: string, sum: string, left: string): number => {
      const graph = parseGraph(`graph @main(%0 "x": f16[16,656]${edge}) {
  %2 = constant() {value=dense<splat(0.5)>} : f16[656,656] from "w"
  %3 = matmul(%0, %2) : f16[16,656] from "wide (MatMul)"
  %4 = constant() {value=dense<splat(0.25)>} : f16[656,656] from "v"
  %5 = matmul(%3, %4) : f16[16,656] from "next (MatMul)"
${sum}  return %5 "y"${left}
}`);
      let bytes = 0;
      const onSharded = ({ constantBytes }: Sharding): void => {
        bytes = constantBytes;
      };
      runPasses(graph, PLACE, { target: TARGETS.tiny, chips: 2, onSharded });
      return bytes;
    };
    const weights = 2 * 2 * 656 * 656;
    expect(bytesOf("", "", "")).toBe(weights);
    const sum = '  %6 = add(%1, %1) : f16[2400,16] from "sum (Add)"\n';
    expect(bytesOf(', %1 "past": f16[2400,16]', sum, ', %6 "sum"')).toBeLessThan(0.6 * weights);
  });
});
