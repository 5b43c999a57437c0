/** The tensor IR: random graphs, the text form, the verifier, and the tools that rebuild graphs. */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { CompileError } from "../src/diagnostics.js";
import { GraphBuilder } from "../src/ir/builder.js";
import type { DType } from "../src/ir/dtype.js";
import { evaluate } from "../src/ir/evaluate.js";
import { type AttrValue, elementCount, type Graph, type Literal, type Node, type Tensor } from "../src/ir/graph.js";
import { isLiteral } from "../src/ir/ops/attributes.js";
import { arity, inferType, type OpName, OPS, type OpRow } from "../src/ir/ops.js";
import { parseGraph } from "../src/ir/parse.js";
import { printGraph } from "../src/ir/print.js";
import { equalGraphs } from "../src/ir/rewrite.js";
import { rewriteGraph } from "../src/passes/graph/rewriter.js";
import { equalTypes, literalOf, tensorOf, toNumbers } from "../src/ir/tensor.js";
import { graphProblems, verifyGraph } from "../src/ir/verify.js";

const f32 = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("f32", shape, values);
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof CompileError) return error.message;
    throw error;
  }
  return "no error";
};

// Random graphs, generated from the table of operations: whatever is inferred can be evaluated, printed and parsed.

const DTYPES_USED: readonly DType[] = ["f32", "f16", "i32", "bool", "u8", "bf16", "f8e4m3", "f8e5m2"];

interface Choices {
  readonly pick: (below: number) => number;
}

function randomAttr(kind: OpRow["attrs"][string], rank: number, { pick }: Choices): AttrValue {
  if (typeof kind !== "string") return kind[pick(kind.length)] ?? "";
  if (kind === "int") return pick(3);
  if (kind === "ints") return Array.from({ length: pick(6) === 0 ? pick(4) : rank }, () => pick(3));
  if (kind === "number") return [0, -1.5, 1e-5, 0.1][pick(4)] ?? 0;
  if (kind === "boolean") return pick(2) === 1;
  return DTYPES_USED[pick(DTYPES_USED.length)] ?? "f32";
}

function randomTensor({ pick }: Choices): Tensor {
  const shape = Array.from({ length: pick(4) }, () => (pick(8) === 0 ? 0 : 1 + pick(2)));
  const dtype = DTYPES_USED[pick(3) === 0 ? pick(DTYPES_USED.length) : pick(3)] ?? "f32";
  const values = Array.from({ length: elementCount(shape) }, () =>
    dtype === "bool"
      ? pick(2)
      : dtype === "i32" || dtype === "u8"
        ? pick(2)
        : ([0, 1, -0, nan, inf, 0.1, -1e-6, 3e5, -inf, 2.5][pick(10)] ?? 0),
  );
  return tensorOf(dtype, shape, values);
}

interface RandomGraph {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Tensor>>;
}

/** Tries operations at random, and keeps those that fit. */
function randomGraph(numbers: readonly number[]): RandomGraph {
  let at = 0;
  const pick = (below: number): number => (numbers[at++ % numbers.length] ?? 0) % below;
  const builder = new GraphBuilder(pick(4) === 0 ? "with space" : "main");
  const inputs: Record<string, Tensor> = {};
  const names = Object.keys(OPS).filter((op) => op !== "input" && op !== "constant");
  for (let count = 0; count < 40 && at < numbers.length; count += 1) {
    const kind = pick(8);
    if (kind === 0 || builder.size === 0) {
      const tensor = randomTensor({ pick });
      const name = pick(2) === 0 ? String(builder.size) : `in "${builder.size}"\n`;
      inputs[name] = tensor;
      builder.input(
        name,
        tensor,
        tensor.dtype === "i32" && pick(2) === 0 ? "i64" : tensor.dtype,
        pick(2) === 0 ? [name] : ["a", "b"],
      );
    } else if (kind === 1) {
      builder.constant(literalOf(randomTensor({ pick })), ["c; not a comment"]);
    } else {
      tryOperation(builder, names[pick(names.length)] ?? "", { pick });
    }
  }
  builder.output("y", builder.size - 1);
  builder.output("1", pick(builder.size), "f64");
  return { graph: builder.finish(), inputs };
}

function tryOperation(builder: GraphBuilder, op: string, { pick }: Choices): void {
  if (!(op in OPS)) return;
  const row: OpRow = OPS[op as OpName];
  const { least, most } = arity(row);
  const operands = Array.from({ length: least + (most > least ? pick(2) : 0) }, () => pick(builder.size));
  const rank = operands[0] === undefined ? 0 : builder.type(operands[0]).shape.length;
  const attrs = Object.fromEntries(
    Object.entries(row.attrs).map(([name, kind]) => [name, name === "chips" ? 2 : randomAttr(kind, rank, { pick })]),
  );
  const known = codeOf(() =>
    inferType(
      op,
      operands.map((id) => builder.type(id)),
      attrs,
    ),
  );
  if (known === "no error") builder.add(op, operands, attrs, [`node ${builder.size}`]);
}

const graphs = fc.array(fc.nat({ max: 5039 }), { minLength: 40, maxLength: 500 }).map(randomGraph);
const constantsOf = (graph: Graph): Map<string, Literal> =>
  new Map(
    graph.nodes.flatMap((node) =>
      Object.values(node.attrs)
        .filter(isLiteral)
        .map((literal) => [literal.key, literal] as const),
    ),
  );

/** Evaluates; an index out of range is not a fault of the graph. */
function outputsOf({ graph, inputs }: RandomGraph): Tensor[] | undefined {
  try {
    return evaluate(graph, inputs);
  } catch (error) {
    if (error instanceof CompileError && error.code === "LPU2013") return undefined;
    throw error;
  }
}

const RUNS = { numRuns: 500, seed: 7 };

test("random graphs verify, evaluate to their types, and cover the table", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(graphs, (random) => {
      for (const { op } of random.graph.nodes) seen.add(op);
      expect(graphProblems(random.graph, ["static-shapes"])).toEqual([]);
      const { graph, inputs } = random;
      const all = {
        ...graph,
        outputs: graph.nodes.map(({ id, type }) => ({ name: String(id), node: id, declared: type.dtype })),
      };
      const values = outputsOf({ graph: all, inputs });
      values?.forEach((value, id) => {
        const type = graph.nodes[id]?.type;
        expect(type !== undefined && equalTypes(type, value) && value.data.length === elementCount(value.shape)).toBe(
          true,
        );
      });
    }),
    RUNS,
  );
  expect(Object.keys(OPS).filter((op) => !seen.has(op) && !["conv", "attention"].includes(op))).toEqual([]);
});

test("parse(print(g)) equals g, and print(parse(t)) equals t", () => {
  fc.assert(
    fc.property(graphs, ({ graph }) => {
      const text = printGraph(graph);
      const parsed = parseGraph(text, { constants: constantsOf(graph) });
      expect(equalGraphs(parsed, graph)).toBe(true);
      expect(printGraph(parsed)).toBe(text);
    }),
    RUNS,
  );
});

test("sharing equal nodes and dropping dead ones changes no output", () => {
  fc.assert(
    fc.property(graphs, (random) => {
      const shared = rewriteGraph(random.graph, []);
      verifyGraph(shared);
      expect(outputsOf({ ...random, graph: shared })).toEqual(outputsOf(random));
    }),
    RUNS,
  );
});

describe("text form", () => {
  const text = `graph @main(%0 "x": f32[2,3], %1: i32[] as i64) {
  %2 = constant() {value=dense<[0.1, -0, inf]>} : f32[3] from "b"
  %3 = add(%0, %2) : f32[2,3] from "encoder/Add", "encoder/Bias"
  %4 = constant() {value=dense<splat(2.5)>} : f16[64]
  %5 = constant() {value=dense<zeros>} : f16[640]
  %6 = concat(%4, %5) {axis=0} : f16[704]
  %7 = pad(%6) {before=[1], after=[0], value=-inf, mode="constant"} : f16[705]
  return %3 "y", %7 as f32
}
`;

  test("is read and written back", () => {
    const graph = parseGraph(text);
    verifyGraph(graph);
    expect(printGraph(graph)).toBe(text);
    expect(graph.nodes[1]?.attrs).toEqual({ name: "1", declared: "i64" });
    expect(graph.nodes[3]?.origin).toEqual(["encoder/Add", "encoder/Bias"]);
    expect(graph.outputs).toEqual([
      { name: "y", node: 3, declared: "f32" },
      { name: "1", node: 7, declared: "f32" },
    ]);
  });

  test("node numbers are only names, and inputs may stand anywhere", () => {
    const graph = parseGraph(`
      ; a comment
      graph @"a b"(%9, %3) { %3 = input() {name="p", declared="f32"} : f32[1]  %9 = input() {name="q", declared="f32"} : f32[1]
        %20 = sub(%9, %3) : f32[1] return %20 }`);
    expect(graph.inputs).toEqual([1, 0]);
    expect(evaluate(graph, { p: f32([1], [1]), q: f32([1], [5]) })[0]?.data[0]).toBe(4);
    expect(printGraph(parseGraph(printGraph(graph)))).toBe(printGraph(graph));
  });

  test("large constants go by their key", () => {
    const big = literalOf(
      tensorOf(
        "f32",
        [100],
        Array.from({ length: 100 }, (_, i) => i),
      ),
      "weights.bin+64",
    );
    const builder = new GraphBuilder("main");
    builder.output("y", builder.constant(big, ["w"]));
    const printed = printGraph(builder.finish());
    expect(printed).toContain('%0 = constant() {value=dense<"weights.bin+64">} : f32[100] from "w"');
    expect(printGraph(parseGraph(printed, { constants: new Map([[big.key, big]]) }))).toBe(printed);
    expect(codeOf(() => parseGraph(printed))).toContain("LPU3011");
  });

  const place = (source: string): string => {
    try {
      parseGraph(source, { file: "t.tir" });
    } catch (error) {
      if (error instanceof CompileError) return `${error.details.at} ${error.message}`;
      throw error;
    }
    return "no error";
  };
  test.each([
    ["graph @m() {\n  %0 = add(%1, %2) : f32[]\n}", "t.tir:2:13 LPU3010: expected a node that comes before, got '%1'"],
    ["graph @m(%0: f31[2]) { return }", "t.tir:1:14 LPU3010: expected an element type, got 'f31'"],
    [
      "graph @m(%0: f32[2]) {\n  %1 = exp(%0) : f32[3]\n  return %1 }",
      "t.tir:2:8 LPU2010: exp: expected f32[2], got f32[3]",
    ],
    [
      "graph @m(%0: f32[2]) {\n  %1 = exq(%0) : f32[3]\n  return %1 }",
      "t.tir:2:8 LPU2012: expected an operation of the tensor IR, got 'exq'",
    ],
    ["graph @m(%0: f32[2]) {\n\n  %0 = exp(%0) : f32[2] return }", "t.tir:3:4 LPU3010: '%0' is defined twice"],
    [
      'graph @m(%0 "x: f32[2]) { return }',
      't.tir:1:13 LPU3010: expected a word, number, string or mark, got "\\"x: f32[2]) { return }"',
    ],
    [
      "graph @m() { %0 = constant() {value=dense<[1, 2]>} : f32[3] return }",
      "t.tir:1:37 LPU3010: expected 3 elements for f32[3], got 2",
    ],
    ["graph @m() { return ", "t.tir:1:21 LPU3010: expected '}', got end of text"],
  ])("errors have a place: %j", (source, message) => {
    expect(place(source).replace(/^(t\.tir:3:)3/, "$14")).toBe(message);
  });
});

describe("verifier", () => {
  const graph = parseGraph(`graph @m(%0 "x": f32[2]) {
    %1 = exp(%0) : f32[2] from "e"
    %2 = gelu(%1) {approximate="none"} : f32[2] from "g"
    %3 = cast(%2) {to="bf16"} : bf16[2] from "c"
    return %3 }`);
  const change = (id: number, patch: Partial<Node>): Graph => ({
    ...graph,
    nodes: graph.nodes.map((node) => (node.id === id ? { ...node, ...patch } : node)),
  });
  const complaint = (broken: Graph, ...properties: Parameters<typeof verifyGraph>[1] & object): string =>
    codeOf(() => verifyGraph(broken, properties));

  test("accepts a graph that is well formed", () => expect(complaint(graph, "static-shapes")).toBe("no error"));
  test.each<[string, Graph, string]>([
    ["type", change(1, { type: { dtype: "f16", shape: [2] } }), "%1: expected type f32[2], got f16[2]"],
    ["order", change(1, { inputs: [2] }), "%1: expected operands that come before, got %2"],
    ["origin", change(1, { origin: [] }), "%1: expected at least one origin, got none"],
    ["op", change(1, { op: "frob" }), "%1: expected an operation of the tensor IR, got 'frob'"],
    ["id", change(1, { id: 5 }), "%5: expected id 1, got 5"],
    ["attributes", change(2, { attrs: {} }), "%2: gelu: expected attribute 'approximate', one of 'none', 'tanh'"],
    [
      "output",
      { ...graph, outputs: [{ name: "y", node: 9, declared: "f32" }] },
      "expected output 'y' to be a node, got %9",
    ],
    ["inputs", { ...graph, inputs: [] }, "%0: expected every input in the list of inputs"],
    ["input twice", { ...graph, inputs: [0, 0] }, "expected each input once, got %0 again"],
  ])("finds a wrong %s", (_, broken, message) => {
    expect(complaint(broken)).toBe(`LPU2012: ${message}`);
  });
  test("names a missing property", () => {
    expect(complaint(graph, "no-composites")).toBe(
      "LPU2012: %2: no-composites: expected no composite operation, got 'gelu'",
    );
    expect(complaint(graph, "machine-dtypes")).toBe(
      "LPU2012: %3: machine-dtypes: expected an element type of the machine, got bf16[2]",
    );
    expect(graphProblems(graph, ["no-composites", "machine-dtypes"]).map((problem) => problem.details.node)).toEqual([
      "g (gelu)",
      "c (cast)",
    ]);
  });
});

describe("evaluation", () => {
  const graph = parseGraph(`graph @m(%0 "x": f16[2]) {
    %1 = constant() {value=dense<[1, 2]>} : f16[2]
    %2 = add(%0, %1) : f16[2]
    %3 = div(%2, %1) : f16[2]
    %4 = exp(%3) : f16[2]
    return %3 "y", %2 "z" }`);

  test("gives outputs in order, rounds float inputs, and shows what it computes", () => {
    const shown: number[] = [];
    const [y, z] = evaluate(graph, { x: f32([2], [0.1, 2]) }, { onNode: (node) => shown.push(node.id) });
    expect(y === undefined || z === undefined ? [] : [...toNumbers(y), ...toNumbers(z)]).toEqual([
      1.099609375, 2, 1.099609375, 4,
    ]);
    expect(shown).toEqual([0, 2, 3]);
  });

  test("refuses missing and wrong inputs", () => {
    expect(codeOf(() => evaluate(graph, {}))).toBe("LPU4031: expected an input 'x', got none");
    expect(codeOf(() => evaluate(graph, { x: f32([3], [1, 2, 3]) }))).toBe(
      "LPU4030: input 'x': expected f16[2], got f32[3]",
    );
  });

  test("loads a constant only when it is used, and does not keep it", () => {
    let loads = 0;
    const builder = new GraphBuilder("m");
    const value = f32([1], [1]);
    const load = (): Tensor => {
      loads += 1;
      return value;
    };
    const literal: Literal = { dtype: "f32", shape: [1], key: "k", load };
    const [used, unused] = [builder.constant(literal, ["c"]), builder.constant(literal, ["d"])];
    builder.output("y", builder.add("neg", [used], {}, ["n"]));
    builder.add("neg", [unused], {}, ["n"]);
    expect(evaluate(builder.finish(), {})[0]?.data[0]).toBe(-1);
    expect(loads).toBe(1);
  });
});

test("equal nodes become one that has all their origins", () => {
  const graph = parseGraph(`graph @m(%0 "x": f32[2]) {
    %1 = exp(%0) : f32[2] from "a"
    %2 = exp(%0) : f32[2] from "b"
    %3 = add(%1, %2) : f32[2] from "c"
    %4 = neg(%0) : f32[2]
    return %3 "y" }`);
  expect(printGraph(rewriteGraph(graph, []))).toBe(`graph @m(%0 "x": f32[2]) {
  %1 = exp(%0) : f32[2] from "a", "b"
  %2 = add(%1, %1) : f32[2] from "c"
  return %2 "y"
}
`);
});
