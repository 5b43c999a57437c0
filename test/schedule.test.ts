/**
 * Scheduling: what the small models and random graphs compile to is legal, takes the cycles that were predicted, and gives
 * the evaluator's values; the interval sets and the row allocator below it do what a plain table would.
 */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { joinChunks } from "../src/host/build.js";
import { encodeProgram } from "../src/codegen/text/encode.js";
import { imageChunks, readImage } from "../src/codegen/image/image.js";
import { fittingPlan } from "../src/layouts.js";
import { at, CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { evaluate } from "../src/ir/evaluate.js";
import { elementCount, type Graph, type NodeId, type Tensor } from "../src/ir/graph.js";
import { type AluOp, loadedBy, type Plan, type Run } from "../src/ir/plan.js";
import { chosenEntry, type Program } from "../src/ir/program.js";
import { verifyPlan } from "../src/ir/plan/verify.js";
import { sramBytes, type Target, TARGETS, type TargetName } from "../src/ir/target.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { findRows, findUnused, holdRows, pairMemory, releaseRows } from "../src/passes/schedule/chip/memory.js";
import {
  book,
  endOf,
  Figure,
  fitFrom,
  fitBefore,
  lastEndBefore,
  type Timeline,
  timeline,
  timelines,
} from "../src/passes/schedule/chip/resources.js";
import { dividedPlan } from "../src/passes/schedule/divide.js";
import { newPlaced, type Placed } from "../src/passes/schedule/repeat/placed.js";
import { schedule, scheduleBy } from "../src/passes/schedule/schedule.js";
import { knownOf, newScheduler } from "../src/passes/schedule/state.js";
import { residentBytes } from "../src/passes/schedule/place/resident.js";
import { sramNeed } from "../src/passes/schedule/place/room.js";
import { select } from "../src/passes/select/select.js";
import { loadProgram } from "../src/runtime/run.js";
import {
  compileSmall,
  distance,
  legalGraph,
  planOf,
  programOf,
  runOnLiteral,
  type SmallName,
  smallInputs,
  smallSource,
} from "./compiled.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const SMALL_NAMES: readonly SmallName[] = ["bert", "gpt2", "llama", "vit"];
const TARGET_NAMES: readonly TargetName[] = ["lpu-v1", "tiny", "unit-latency"];

describe("small models", () => {
  const cases = SMALL_NAMES.flatMap((name) => TARGET_NAMES.map((target) => [name, target] as const));

  test.each(cases)("%s on %s: legal, as predicted, and the evaluator's values", (name, target) => {
    const { program } = compileSmall(name, target);
    const facts = checkSchedule(chosenEntry(program));
    expect(facts.arrays.every(({ busy }) => busy > 0)).toBe(true);
    const inputs = smallInputs(name);
    const { outputs, cycles } = runOnLiteral(program, inputs);
    expect(cycles).toEqual(program.entries[0]?.cycles);
    const want = evaluate(importModel(smallSource(name), { bind: {} }), inputs);
    expect(outputs.length).toBe(want.length);
    for (const [index, tensor] of want.entries()) expect(distance(outputs[index], tensor)).toBeLessThan(5e-3);
  });

  test("the same model gives the same program", () => {
    const [one, two] = [compileSmall("llama", "lpu-v1"), compileSmall("llama", "lpu-v1")];
    expect(Buffer.compare(joinChunks(one.image()), joinChunks(two.image()))).toBe(0);
  });
});

/** Functions with steps: a last bit of fp16 may decide on which side of one a value lies. */
const STEPPED = new Set(["floor", "ceil", "round", "sign", "lt", "select"]);

describe("random graphs", () => {
  test.each<[TargetName, number, number]>([
    ["tiny", 1, 120],
    ["lpu-v1", 201, 8],
    ["unit-latency", 301, 8],
  ])("%s: legal, as predicted, and the evaluator's values", (name, first, count) => {
    const problems: string[] = [];
    for (let seed = first; seed < first + count; seed++) {
      const problem = problemOf(seed, name);
      if (problem !== undefined) problems.push(`seed ${seed}: ${problem}`);
    }
    expect(problems).toEqual([]);
  });
});

/** What is wrong with a compiled random graph; a graph that the target refuses with a reason is fine. */
function problemOf(seed: number, name: TargetName): string | undefined {
  const random = new RandomGraph(seeded(seed), 6);
  const graph = random.builder.finish();
  try {
    const program = programOf(graph, TARGETS[name]);
    checkSchedule(chosenEntry(program));
    const { outputs, cycles } = runOnLiteral(program, random.inputs);
    if (cycles.join() !== program.entries[0]?.cycles.join())
      return `ran for ${cycles.join()} cycles, predicted ${program.entries[0]?.cycles.join()}`;
    if (graph.nodes.some(({ op }) => STEPPED.has(op))) return undefined;
    for (const [index, want] of evaluate(graph, random.inputs).entries()) {
      const apart = distance(outputs[index], want);
      if (!(apart <= 5e-3)) return `output ${index} is ${apart.toExponential(2)} off`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof CompileError && /^LPU(2001|2002|2101|2201|2202)$/.test(error.code)) return undefined;
    return error instanceof Error ? error.message : String(error);
  }
}

describe("what does not fit", () => {
  test("weights beyond SRAM are refused at once: by how much, and whose they are", () => {
    const { code, details } = refusalOf(layers([1000, 1000, 400]), TARGETS.tiny);
    expect(code).toBe("LPU2001");
    const [needed = 0, available = 0, short = 0] = mebibytes(details.message);
    expect(details.message).toMatch(/^constants, inputs and outputs need .* 'tiny' has .* too much$/);
    expect(available).toBe(sramBytes(TARGETS.tiny) / 2 ** 20);
    // Tiles are padded to the array, which costs little here.
    const values = 1000 * 1000 + 1000 * 400;
    expect(needed).toBeGreaterThanOrEqual((2 * values) / 2 ** 20 - 0.05);
    expect(short).toBeCloseTo(needed - available, 0);
    expect(details.notes?.slice(0, 2)).toEqual(["'layer0' takes 1.9 MiB", "'layer1' takes 0.8 MiB"]);
    expect(details.notes?.at(-1)).toBe("1.0 million fp16 values fit at most");
    expect(details.hint).toContain("fewer layers");
  });

  test("what is counted beforehand is never more than what a program takes", () => {
    for (const name of ["bert", "gpt2", "llama"] as const)
      for (const target of TARGET_NAMES) {
        const { report } = compileSmall(name, target);
        const plan = planOf(importModel(smallSource(name), { bind: {} }), TARGETS[target]);
        const counted = [...residentBytes(plan, TARGETS[target]).values()].reduce((sum, bytes) => sum + bytes, 0);
        expect(counted).toBeGreaterThan(0);
        expect(counted).toBeLessThanOrEqual(report.sram.bytes);
        // Most of it is the constants and inputs: the bound is of use.
        expect(counted).toBeGreaterThan(0.5 * (report.sram.constants + report.sram.inputs));
      }
  });

  test("rows that find no room later are named", () => {
    const target = { ...TARGETS.tiny, rowsPerBank: 56 };
    const { code, details } = refusalOf(importModel(smallSource("bert"), { bind: {} }), target);
    expect(code).toBe("LPU2001");
    expect(details.message).toMatch(/^no room in SRAM for .* KiB of '.*bert.*' on target 'tiny'$/);
    const [sum = "", ...largest] = details.notes ?? [];
    expect(sum).toMatch(
      /^of 56\.0 KiB constants, inputs and outputs take .* KiB, results that are still to be read .* KiB;/,
    );
    const [capacity = 0, lasting = 0, results = 0] = [...sum.matchAll(/([\d.]+) KiB/g)].map(([, size]) => Number(size));
    expect(lasting + results).toBeLessThanOrEqual(capacity);
    const sizes = largest.map((note) => Number(/^'.*' takes ([\d.]+) KiB at that moment$/.exec(note)?.[1]));
    expect(sizes.length).toBeGreaterThan(0);
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    expect(sizes.reduce((all, size) => all + size, 0)).toBeLessThanOrEqual(results + 0.2);
  });

  test("ports that conflict in every cycle are not taken for a lack of SRAM", () => {
    // Two vectors a cycle that lie in one hemisphere, whose one pair of slices reads one.
    const builder = new GraphBuilder("twice");
    const x = builder.input("x", { dtype: "f16", shape: [4, 8] });
    builder.output("y", builder.add("abs", [x], {}, ["abs"]));
    const plan = planOf(builder.finish(), TARGETS.tiny);
    const tasks = plan.tasks.map((task) => ({
      ...task,
      ops: PAIRED,
      leaves: [...task.leaves, ...task.leaves],
      rows: 1,
    }));
    const one = tasks.map((task) => ({ ...task, leaves: task.leaves.map((leaf) => ({ ...leaf, runs: ONE_ROW })) }));
    const { code, details } = refusalOfPlan({ ...plan, tasks: one }, { ...TARGETS.tiny, slices: 2 });
    expect(code).toBe("LPU2002");
    expect(details.message).toContain("2 operands of 1 rows");
    expect(details.node).toBe("abs");
  });
});

/** The sum of the same row twice, at once. */
const PAIRED: readonly AluOp[] = [{ fn: "add", args: [{ leaf: 0 }, { leaf: 1 }] }];
const ONE_ROW: readonly Run[] = [{ row: 0, step: 0, count: 1 }];

test("where not all results have room at once, each is read soon after it is made", () => {
  const builder = new GraphBuilder("branches");
  const x = builder.input("x", { dtype: "f16", shape: [64, 16] });
  const weights = builder.constant(literalOf(tensorOf("f16", [16, 16], new Float32Array(256).fill(1 / 32))), ["w"]);
  let value = x;
  for (let index = 0; index < 12; index++) {
    const offset = builder.constant(literalOf(tensorOf("f16", [], [index / 8])), [`c${index}`]);
    const branch = builder.add("abs", [builder.add("add", [x, offset], {}, [`moved${index}`])], {}, [`abs${index}`]);
    const product = builder.add("matmul", [branch, weights], {}, [`product${index}`]);
    const sum = builder.add("add", [product, value], {}, [`sum${index}`]);
    value = builder.add("matmul", [sum, weights], {}, [`value${index}`]);
  }
  builder.output("y", value);
  // Each of the twelve takes 128 of the 1,024 rows of a hemisphere's pairs until its product is made.
  agreedProgram(builder.finish(), { x: ramp([64, 16], "f16") }, { ...TARGETS.tiny, rowsPerBank: 64 });
});

test("where what lies between two products has no room as a whole, it goes by blocks of rows", () => {
  const builder = new GraphBuilder("blocks");
  const x = builder.input("x", { dtype: "f16", shape: [512, 16] });
  const matrix = (rows: number, columns: number): NodeId =>
    builder.constant(literalOf(ramp([rows, columns], "f16")), [`w${rows}`]);
  const scores = builder.add("abs", [builder.add("matmul", [x, matrix(16, 64)], {}, ["scores"])], {}, ["abs"]);
  builder.output("y", builder.add("matmul", [scores, matrix(64, 16)], {}, ["weighted"]));
  const target = { ...TARGETS.tiny, rowsPerBank: 128 };
  const graph = builder.finish();
  // All four panels in both hemispheres are as many rows as these have, and x and y lie there too.
  const { results, capacity } = sramNeed(planOf(graph, target), target);
  expect(results).toBe(capacity);
  agreedProgram(graph, { x: ramp([512, 16], "f16") }, target);
});

describe("where free rows lie in pieces, constants are packed and results go in parts", () => {
  // With a block at one address or not at all, they take banks of 72, 96 and 120 rows.
  test.each([
    ["bert", 68],
    ["gpt2", 84],
    ["llama", 100],
  ] as const)("%s in banks of %i rows", (name, rowsPerBank) => {
    const plan = planOf(importModel(smallSource(name), { bind: {} }), TARGETS.tiny);
    const want = runOnLiteral(schedule(plan, TARGETS.tiny).program, smallInputs(name));
    const small = schedule(plan, { ...TARGETS.tiny, rowsPerBank });
    checkSchedule(chosenEntry(small.program), small.plan);
    const { outputs, cycles } = runOnLiteral(small.program, smallInputs(name));
    expect(outputs).toEqual(want.outputs);
    // As far as the arrays need not wait, tasks wait for room alone: else it is twice as many cycles.
    expect(at(cycles, 0, "cycles")).toBeLessThan(1.6 * at(want.cycles, 0, "cycles"));
  });
});

test("a result that is longer than the rows that constants leave in each bank lies beyond them", () => {
  const builder = new GraphBuilder("long");
  const matrix = (rows: number, columns: number): NodeId =>
    builder.constant(literalOf(ramp([rows, columns], "f16")), [`w${rows}`]);
  const x = builder.input("x", { dtype: "f16", shape: [64, 16] });
  const v = builder.input("v", { dtype: "f16", shape: [1, 80] });
  const between = builder.add("abs", [builder.add("matmul", [x, matrix(16, 16)], {}, ["before"])], {}, ["abs"]);
  builder.output("y", builder.add("matmul", [between, matrix(16, 16)], {}, ["behind"]));
  builder.output("z", builder.add("matmul", [v, matrix(80, 320)], {}, ["much"]));
  const target = { ...TARGETS.tiny, rowsPerBank: 96 };
  const plan = planOf(builder.finish(), target);
  const strategy = {
    stagger: 0,
    nearWeights: 0,
    duplicates: 0.5,
    constants: "apart",
    model: 1,
    thrift: "none",
  } as const;
  const { ceiling } = newScheduler(plan, target, knownOf(plan, target), strategy);
  expect(ceiling).toBeGreaterThan(0);
  expect(ceiling).toBeLessThan(64);
  const program = scheduleBy(plan, target, strategy);
  checkSchedule(chosenEntry(program), plan);
  const inputs = { x: ramp([64, 16], "f16"), v: ramp([1, 80], "f16") };
  const roomy = schedule(plan, TARGETS.tiny).program;
  expect(runOnLiteral(program, inputs).outputs).toEqual(runOnLiteral(roomy, inputs).outputs);
});

describe("tails of weights, packed where SRAM is short", () => {
  const product = (k: number, n: number): Graph => {
    const builder = new GraphBuilder("product");
    const x = builder.input("x", { dtype: "f16", shape: [6, k] });
    const w = builder.constant(literalOf(ramp([k, n], "f16")), ["w"]);
    const sum = builder.add("matmul", [x, w], {}, ["product"]);
    builder.output("y", builder.add("abs", [sum], {}, ["abs"]));
    return legalGraph(builder.finish(), TARGETS.tiny);
  };
  const constantsOf = (plan: Plan): number => sramNeed(plan, TARGETS.tiny).constants;

  // Half a vector is 8 lanes: tails of 2, 3 and 5 of them, 8, 5 and 3 columns to a vector, over one panel and over several; and
  // tails of 6, of which two vectors hold 5.
  test.each([
    [10, 16],
    [10, 70],
    [11, 41],
    [21, 40],
    [2, 100],
    [6, 33],
    [14, 40],
    [22, 70],
  ])("[6, %i] x [%i] takes fewer rows and gives the same bits", (k, n) => {
    const plans = (["some", "little"] as const).map((room) =>
      select(product(k, n), TARGETS.tiny, new Map(), [], [], room),
    );
    const [loose = 0, packed = 0] = plans.map(constantsOf);
    expect(packed).toBeLessThan(loose);
    const [want, got] = plans.map((plan) => {
      verifyPlan(plan, TARGETS.tiny);
      const { program } = schedule(plan, TARGETS.tiny);
      checkSchedule(chosenEntry(program), plan);
      return runOnLiteral(program, { x: ramp([6, k], "f16") }).outputs;
    });
    expect(got).toEqual(want);
  });

  // Products of models: by what share whole rows of tiles are more than the weights, as tiles and packed, in tenths of a percent.
  test.each([
    [384, 1536, 250, 0],
    [512, 2048, 250, 1],
    [576, 192, 111, 19],
    [576, 1536, 111, 19],
    [768, 2304, 42, 1],
    [768, 3072, 42, 1],
    [1024, 4096, 94, 0],
    [1152, 768, 111, 1],
    [1536, 576, 42, 7],
    [1536, 8960, 42, 7],
    [2048, 8192, 16, 0],
    [2560, 10240, 0, 0],
    [3072, 8192, 42, 0],
    [4096, 11008, 16, 3],
    [11008, 4096, 3, 0],
  ])("weights [%i, %i]", (k, n, loose, packed) => {
    const builder = new GraphBuilder("product");
    const x = builder.input("x", { dtype: "f16", shape: [1, k] });
    const unread = (): Tensor => {
      throw new Error("a plan reads no weights");
    };
    const w = builder.constant({ key: "w", dtype: "f16", shape: [k, n], load: unread }, ["w"]);
    builder.output("y", builder.add("matmul", [x, w], {}, ["product"]));
    const target = TARGETS["lpu-v1"];
    const padding = (["some", "little"] as const).map((room) => {
      const { constants } = sramNeed(
        select(legalGraph(builder.finish(), target), target, new Map(), [], [], room),
        target,
      );
      return Math.round(1000 * (constants / (2 * k * n) - 1));
    });
    expect(padding).toEqual([loose, packed]);
  });

  test("they lie so if constants and edges take nearly all", () => {
    const graph = product(10, 70);
    const tight = constantsOf(select(graph, TARGETS.tiny, new Map(), [], [], "little"));
    const within = (rowsPerBank: number): number =>
      constantsOf(fittingPlan(graph, { ...TARGETS.tiny, rowsPerBank }, undefined, [], true));
    const rows = Array.from({ length: 40 }, (_, index) => index + 1);
    expect(rows.filter((count) => within(count) === tight).length).toBeGreaterThan(0);
    expect(within(TARGETS.tiny.rowsPerBank)).toBeGreaterThan(tight);
  });
});

describe("what fits in no cycle is divided", () => {
  test.each([10, 14, 18])("the sum of %i tensors of fp32 that are computed, and outputs too", (count) => {
    const graph = sumOf(count, "f32", [64, 8], "abs");
    const inputs = Object.fromEntries(Array.from({ length: count }, (_, index) => [`x${index}`, ramp([64, 8])]));
    const { plan } = schedule(planOf(graph, TARGETS.tiny), TARGETS.tiny);
    expect(plan.tasks.length).toBeGreaterThan(planOf(graph, TARGETS.tiny).tasks.length);
    agreedProgram(graph, inputs, TARGETS.tiny);
  });

  test("any task of a model can be, and the outputs are the same to the bit", () => {
    const graph = importModel(smallSource("bert"), { bind: {} });
    const inputs = smallInputs("bert");
    const target = TARGETS["lpu-v1"];
    const whole = planOf(graph, target);
    const want = runOnLiteral(schedule(whole, target).program, inputs).outputs;
    let cuts = 0;
    for (const index of [0, 7, 19, 31, whole.tasks.length - 1]) {
      const divided = dividedPlan(whole, index);
      if (divided === undefined) continue;
      cuts += divided.storages.length > whole.storages.length ? 1 : 0;
      verifyPlan(divided, target);
      const { plan, program } = schedule(divided, target);
      checkSchedule(chosenEntry(program), plan);
      expect(runOnLiteral(program, inputs).outputs).toEqual(want);
    }
    expect(cuts).toBeGreaterThan(0);
  });
});

describe("inputs and outputs of more rows than a bank has", () => {
  /** 8 pairs of slices a hemisphere, 4 couples of them: up to 4 ways of 64 rows. */
  const target: Target = { ...TARGETS.tiny, rowsPerBank: 64 };
  /** Ways in which inputs and outputs lie. */
  const waysOf = (graph: Graph, inputs: Readonly<Record<string, Tensor>>): number[] => {
    const { inputs: taken = [], outputs = [] } = agreedProgram(graph, inputs, target).entries[0] ?? {};
    return [...taken, ...outputs].flatMap(({ placements }) => placements.map(({ ways }) => ways));
  };

  test.each<[dtype: "f16" | "f32", rows: number, ways: number]>([
    ["f32", 64, 1],
    ["f32", 65, 2],
    ["f32", 250, 4],
    ["f16", 300, 8],
  ])("%s of %i rows lie interleaved in %i ways, read and written by chains", (dtype, rows, ways) => {
    const builder = new GraphBuilder("chain");
    const x = builder.input("x", { dtype, shape: [rows, 5] });
    builder.output("y", builder.add("abs", [x], {}, ["abs"]));
    expect(waysOf(builder.finish(), { x: ramp([rows, 5], dtype) })).toEqual([ways, ways]);
  });

  test("an output that is also read, and outputs that are parts of one storage, from any row on", () => {
    const builder = new GraphBuilder("parts");
    const x = builder.input("x", { dtype: "f32", shape: [200, 5] });
    const y = builder.add("abs", [x], {}, ["abs"]);
    builder.output("y", builder.add("slice", [y], { starts: [3, 0], sizes: [150, 5], strides: [1, 1] }, ["part"]));
    builder.output("z", builder.add("slice", [y], { starts: [50, 0], sizes: [75, 5], strides: [2, 1] }, ["other"]));
    builder.output("w", builder.add("neg", [y], {}, ["neg"]));
    const ways = waysOf(builder.finish(), { x: ramp([200, 5]) });
    expect(ways).toEqual([4, 4, 4, 4]);
  });

  test("steps that no way divides: every third row, and rows backwards", () => {
    const builder = new GraphBuilder("steps");
    const x = builder.input("x", { dtype: "f16", shape: [150, 5] });
    const y = builder.add("abs", [x], {}, ["abs"]);
    builder.output("y", y);
    const third = builder.add("slice", [y], { starts: [1, 0], sizes: [50, 5], strides: [3, 1] }, ["third"]);
    const back = builder.add("slice", [y], { starts: [149, 0], sizes: [50, 5], strides: [-1, 1] }, ["back"]);
    builder.output("third", builder.add("neg", [third], {}, ["neg"]));
    builder.output("sum", builder.add("add", [third, back], {}, ["add"]));
    expect(waysOf(builder.finish(), { x: ramp([150, 5], "f16") })).toEqual([4, 4, 1, 1]);
  });

  test("rows that become weights, as many columns a cycle as there are ways", () => {
    const builder = new GraphBuilder("weights");
    const q = builder.input("q", { dtype: "f16", shape: [12, 2, 8] });
    const k = builder.input("k", { dtype: "f16", shape: [12, 16, 8] });
    const turned = builder.add("transpose", [k], { perm: [0, 2, 1] }, ["turned"]);
    builder.output("y", builder.add("matmul", [q, turned], {}, ["scores"]));
    waysOf(builder.finish(), { q: ramp([12, 2, 8], "f16"), k: ramp([12, 16, 8], "f16") });
  });

  test("more ways than there are slices are refused", () => {
    const builder = new GraphBuilder("many");
    const x = builder.input("x", { dtype: "f16", shape: [513, 5] });
    builder.output("y", builder.add("abs", [x], {}, ["abs"]));
    expect(refusalOf(builder.finish(), target).code).toBe("LPU2001");
  });
});

describe("inputs that no reader takes as they lie", () => {
  const target = TARGETS.tiny;

  test("keys and values of a cache are written by the host as the products want them", () => {
    const builder = new GraphBuilder("attention");
    const input = (name: string, shape: readonly number[]) => builder.input(name, { dtype: "f16", shape });
    // Heads of 8 features lie side by side on lanes, as a projection makes them; those of the cache are asked to lie as they do.
    const query = builder.add("abs", [input("x", [3, 16])], {}, ["query"]);
    const heads = builder.add("reshape", [query], { shape: [3, 2, 8] }, ["split"]);
    const q = builder.add("transpose", [heads], { perm: [1, 0, 2] }, ["heads"]);
    const keys = builder.add("transpose", [input("k", [2, 20, 8])], { perm: [0, 2, 1] }, ["turned"]);
    const scores = builder.add("matmul", [q, keys], {}, ["scores"]);
    builder.output("y", builder.add("matmul", [scores, input("v", [2, 20, 8])], {}, ["context"]));
    const graph = builder.finish();
    const plan = planOf(graph, target);
    const loaded = plan.tasks.flatMap(({ passes }) => passes.flatMap(loadedBy)).map((id) => plan.storages[id]);
    expect(new Set(loaded.map((storage) => `${storage?.kind} ${storage?.name}`))).toEqual(
      new Set(["input k", "input v"]),
    );
    expect(plan.inputs.map(({ name }) => name)).toEqual(["x", "k", "v"]);
    const tensors = { x: ramp([3, 16], "f16"), k: ramp([2, 20, 8], "f16"), v: ramp([2, 20, 8], "f16") };
    agreedProgram(graph, tensors, target);
  });

  test("one that has readers of both kinds is written twice; as an output it is computed", () => {
    const builder = new GraphBuilder("twice");
    const x = builder.input("x", { dtype: "f16", shape: [6, 40] });
    const w = builder.input("w", { dtype: "f16", shape: [40, 9] });
    builder.output("product", builder.add("matmul", [x, w], {}, ["product"]));
    builder.output("sum", builder.add("add", [w, w], {}, ["sum"]));
    builder.output("same", w);
    const graph = builder.finish();
    const plan = planOf(graph, target);
    expect(plan.inputs.map(({ name }) => name)).toEqual(["x", "w", "w"]);
    const program = agreedProgram(graph, { x: ramp([6, 40], "f16"), w: ramp([40, 9], "f16") }, target);
    expect(program.entries[0]?.inputs.map(({ name }) => name)).toEqual(["x", "w", "w"]);
  });
});

/** Values from -3 to 3.25 in steps of a sixteenth. */
function ramp(shape: readonly number[], dtype: "f32" | "f16" = "f32"): Tensor {
  const values = Float32Array.from({ length: elementCount(shape) }, (_, i) => ((i * 37) % 101) / 16 - 3);
  return tensorOf(dtype, shape, values);
}

/** The program of a graph, once both machines and the evaluator agree on its values, and the checker on its legality. */
function agreedProgram(graph: Graph, inputs: Readonly<Record<string, Tensor>>, target: Target): Program {
  const { plan, program } = schedule(planOf(graph, target), target);
  checkSchedule(chosenEntry(program), plan);
  const literal = runOnLiteral(program, inputs);
  expect(literal.cycles).toEqual(program.entries[0]?.cycles);
  const image = readImage(joinChunks(imageChunks(program, encodeProgram(program))));
  const linked = loadProgram(image).entry().run(inputs);
  const names = graph.outputs.map(({ name }) => name);
  for (const [index, want] of evaluate(graph, inputs).entries()) {
    expect(distance(literal.outputs[index], want)).toBeLessThan(1e-3);
    expect(linked.outputs[names[index] ?? ""]?.data).toEqual(literal.outputs[index]?.data);
  }
  return program;
}

/** Matrices of constants one after another. */
function layers([first = 1, ...widths]: readonly number[]): Graph {
  const builder = new GraphBuilder("layers");
  let value = builder.input("x", { dtype: "f32", shape: [2, first] });
  let height = first;
  for (const [index, width] of widths.entries()) {
    const tensor = tensorOf("f32", [height, width], new Float32Array(height * width).fill(index + 1));
    const weights = builder.constant(literalOf(tensor), [`w${index}`]);
    value = builder.add("matmul", [value, weights], {}, [`layer${index}`]);
    height = width;
  }
  builder.output("y", value);
  return builder.finish();
}

/** The sum of what a function makes of some inputs, all outputs, each read in the same cycles as the others. */
function sumOf(count: number, dtype: "f16" | "f32", shape: readonly number[], op: string): Graph {
  const builder = new GraphBuilder("sum");
  const summed = Array.from({ length: count }, (_, index) => {
    const x = builder.input(`x${index}`, { dtype, shape });
    const made = builder.add(op, [x], {}, [`made${index}`]);
    builder.output(`made${index}`, made);
    return made;
  });
  builder.output(
    "y",
    summed.reduce((a, b, index) => builder.add("add", [a, b], {}, [`sum${index}`])),
  );
  return builder.finish();
}

function refusalOf(graph: Graph, target: Target): CompileError {
  return refusalOfPlan(planOf(graph, target), target);
}

function refusalOfPlan(plan: Plan, target: Target): CompileError {
  try {
    schedule(plan, target);
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
  throw new Error("expected a refusal");
}

const mebibytes = (message: string): number[] => [...message.matchAll(/([\d.]+) MiB/g)].map(([, size]) => Number(size));

/** The same timeline as a table of cycles, for cycles from 0 to 99. */
const SPAN = 100;
const bookings = fc.array(fc.tuple(fc.nat(SPAN - 12), fc.integer({ min: 1, max: 12 })), { maxLength: 20 });

function booked(list: readonly (readonly [number, number])[]): { line: Timeline; busy: boolean[] } {
  const line = timeline();
  const busy = Array.from({ length: SPAN }, () => false);
  for (const [start, length] of list) {
    if (busy.slice(start, start + length).includes(true)) continue;
    book(line, start, start + length);
    busy.fill(true, start, start + length);
  }
  return { line, busy };
}

const isFree = (busy: readonly boolean[], start: number, length: number): boolean =>
  !busy.slice(Math.max(start, 0), Math.max(start + length, 0)).includes(true);

describe("resources", () => {
  const request = fc.tuple(fc.nat(SPAN - 1), fc.integer({ min: 1, max: 15 }));

  test("a timeline keeps disjoint intervals in order, and neighbours that touch are one", () => {
    fc.assert(
      fc.property(bookings, (list) => {
        const { line, busy } = booked(list);
        const edges = line.starts.flatMap((start, index) => [start, line.ends[index] ?? start]);
        expect(edges).toEqual([...new Set(edges)].sort((a, b) => a - b));
        const own = busy.map((_, cycle) =>
          line.starts.some((start, i) => cycle >= start && cycle < (line.ends[i] ?? 0)),
        );
        expect(own).toEqual(busy);
        expect(endOf(line)).toBe(busy.lastIndexOf(true) + 1);
      }),
    );
  });

  test("what is booked in one run is taken in the next one and in the one before, where they meet", () => {
    const [period, head] = [60, 30];
    fc.assert(
      fc.property(bookings, (list) => {
        const line = timeline({ period, head });
        const wanted = new Set<number>();
        for (const [start, length] of list) {
          if (start + length > period + head || fitFrom(line, start, length) !== start) continue;
          book(line, start, start + length);
          for (let cycle = start; cycle < start + length; cycle++) wanted.add(cycle);
        }
        // No cycle of a run is one of the run that begins a period later.
        expect([...wanted].filter((cycle) => wanted.has(cycle + period))).toEqual([]);
        expect(line.starts).toEqual([...line.starts].sort((a, b) => a - b));
      }),
    );
  });

  test("fit is the earliest start from a cycle on", () => {
    fc.assert(
      fc.property(bookings, request, (list, [at, length]) => {
        const { line, busy } = booked(list);
        let want = at;
        while (!isFree(busy, want, length)) want++;
        expect(fitFrom(line, at, length)).toBe(want);
      }),
    );
  });

  test("fitBefore is the latest start up to a cycle", () => {
    fc.assert(
      fc.property(bookings, request, (list, [at, length]) => {
        const { line, busy } = booked(list);
        let want = at;
        while (!isFree(busy, want, length)) want--;
        expect(fitBefore(line, at, length)).toBe(want);
      }),
    );
  });

  test("lastEndBefore is where the last interval that begins before a cycle ends", () => {
    fc.assert(
      fc.property(bookings, fc.nat(SPAN), (list, at) => {
        const { line } = booked(list);
        const begun = line.ends.filter((_, index) => (line.starts[index] ?? at) < at);
        expect(lastEndBefore(line, at)).toBe(begun.at(-1) ?? 0);
      }),
    );
  });

  test("a figure fits around what it holds itself, and books it as a whole", () => {
    fc.assert(
      fc.property(bookings, fc.array(request, { minLength: 1, maxLength: 8 }), (list, requests) => {
        const { line, busy } = booked(list);
        const [wide, other] = [[...busy, ...busy.map(() => false), ...busy.map(() => false)], timeline()];
        const figure = new Figure();
        for (const [at, length] of requests) {
          let want = at;
          while (!isFree(wide, want, length)) want++;
          expect(figure.fit(line, at, length)).toBe(want);
          expect(figure.free(line, at, length)).toBe(want === at);
          expect(figure.fit(other, at, length)).toBe(at);
          figure.add(line, want, length);
          wide.fill(true, want, want + length);
        }
        const { lines } = bookedBy(figure);
        expect(lines.length).toBe(requests.length);
        expect(figure.size).toBe(0);
        const own = wide.map((_, cycle) =>
          line.starts.some((start, i) => cycle >= start && cycle < (line.ends[i] ?? 0)),
        );
        expect(own).toEqual(wide);
        expect(other.starts).toEqual([]);
      }),
    );
  });
});

/** What a figure books, in its order. */
const bookedBy = (figure: Figure): Pick<Placed, "lines" | "starts" | "ends"> => {
  const log = newPlaced(0);
  figure.commit(log);
  return log;
};

test("a figure that was taken back to a mark is as it was there", () => {
  const requests = fc.array(fc.tuple(fc.nat(2), fc.nat(40), fc.integer({ min: 1, max: 9 })), { maxLength: 20 });
  fc.assert(
    fc.property(requests, requests, requests, (kept, undone, asked) => {
      const put = (to: Figure, lines: readonly Timeline[], list: typeof kept): void => {
        for (const [index, at, length] of list) {
          const line = lines[index];
          if (line !== undefined) to.add(line, to.fit(line, at, length), length);
        }
      };
      const [mine, others] = [timelines(3), timelines(3)];
      const [figure, fresh] = [new Figure(), new Figure()];
      put(fresh, others, kept);
      put(figure, mine, kept);
      put(figure, mine, undone);
      figure.truncate(kept.length);
      put(figure, mine, asked);
      put(fresh, others, asked);
      const [{ starts, ends }, expected] = [bookedBy(figure), bookedBy(fresh)];
      expect([starts, ends]).toEqual([expected.starts, expected.ends]);
      expect(mine).toEqual(others);
    }),
  );
});

describe("rows of SRAM", () => {
  const target = { ...TARGETS.tiny, rowsPerBank: 12 };
  const step = fc.record({
    rows: fc.integer({ min: 1, max: 13 }),
    blocks: fc.integer({ min: 1, max: 3 }),
    by: fc.nat(30),
    bank: fc.constantFrom(0 as const, 1 as const, undefined),
    release: fc.boolean(),
    at: fc.nat(30),
  });

  /** Starts of blocks of rows that are free in one bank of 12 rows from cycle `by` on. */
  const startsIn = (bank: number, rows: number, by: number, freeAt: readonly number[]): number[] =>
    Array.from({ length: 13 - rows }, (_, row) => 12 * bank + row).filter((row) =>
      freeAt.slice(row, row + rows).every((cycle) => cycle <= by),
    );

  /** Blocks that do not overlap, from the top row of a bank down. */
  const highest = (bank: number, rows: number, blocks: number, freeAt: readonly number[]): number[] => {
    const found: number[] = [];
    for (const start of startsIn(bank, rows, 0, freeAt).reverse())
      if (found.length < blocks && start + rows <= (found.at(-1) ?? 24)) found.push(start);
    return found.length === blocks ? found : [];
  };

  test("temporaries take the lowest free rows of a bank, constants the highest unused ones of one bank", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const pairs = [pairMemory(target), pairMemory(target)];
        const freeAt = Array.from({ length: 24 }, () => 0);
        for (const { rows, blocks, by, bank, release, at } of steps) {
          const low =
            bank === undefined ? -1 : findRows(target, pairs, rows, by, { bank, ceiling: target.rowsPerBank });
          const found = bank === undefined ? findUnused(target, pairs, rows, blocks) : [low].filter((row) => row >= 0);
          if (bank !== undefined) expect(low).toBe(startsIn(bank, rows, by, freeAt)[0] ?? -1);
          else {
            const upper = highest(1, rows, blocks, freeAt);
            expect(found).toEqual(upper.length > 0 ? upper : highest(0, rows, blocks, freeAt));
          }
          for (const row of found) {
            holdRows(pairs, row, rows);
            freeAt.fill(Number.POSITIVE_INFINITY, row, row + rows);
            if (!release || bank === undefined) continue;
            releaseRows(pairs, row, rows, at);
            freeAt.fill(at, row, row + rows);
          }
        }
      }),
    );
  });
});
