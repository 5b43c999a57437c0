/** States of compiled programs: N runs with a state are, to the bit, N runs that are given by hand what the run before left. */

import { describe, expect, test } from "@jest/globals";
import { existsSync, readFileSync } from "node:fs";
import { modelBytes } from "../models/onnx-writer.js";
import { floatTensor, int64Tensor } from "../models/weights.js";
import { type Compiled, compile } from "../src/compile.js";
import { at, sure } from "../src/diagnostics.js";
import { sharedPlan } from "../src/group.js";
import { joinChunks } from "../src/host/build.js";
import { bytesSource } from "../src/frontend/source.js";
import { checkModel } from "../src/host/check.js";
import { lpuit } from "../src/index.js";
import { readImage, writeImage } from "../src/codegen/image/image.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { parseGraph } from "../src/ir/parse.js";
import { isTile, type Plan, type Run, writtenBy } from "../src/ir/plan.js";
import { withSharedStates } from "../src/ir/plan/behind.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { verifyPlan } from "../src/ir/plan/verify.js";
import { chosenEntry, memQueue, type Program } from "../src/ir/program.js";
import { TARGETS, type Target } from "../src/ir/target.js";
import { tensorOf } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { checkPadding } from "../src/passes/check/padding.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "../src/passes/graph/pipeline.js";
import { shared, staysOf } from "../src/passes/graph/shard.js";
import { search } from "../src/passes/graph/shard/search.js";
import { dependenciesOf } from "../src/passes/schedule/dependencies.js";
import { schedule, scheduleBy } from "../src/passes/schedule/schedule.js";
import { select } from "../src/passes/select/select.js";
import { peersOf, pipelineOf, pipelineProgram } from "../src/pipeline.js";
import { clearState, fetchOutput, placeInput } from "../src/runtime/binding.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { loadImage, loadProgram } from "../src/runtime/run.js";
import { placeConstants, Sram } from "../src/runtime/sram.js";
import { instructionsOf, replaced, type Victim, withFields } from "./changed.js";
import { distance, legalGraph, loadedSram, verdict } from "./compiled.js";
import { drawnCosts } from "./drawn.js";
import { seeded } from "./random-program.js";

type States = Readonly<Record<string, string>>;

const compiled = (graph: Graph, target: Target, states: States): { program: Program; check: (of: Program) => void } => {
  const plan = select(legalGraph(graph, target), target, new Map(Object.entries(states)));
  verifyPlan(plan, target);
  expect(printPlan(parsePlan(printPlan(plan)))).toBe(printPlan(plan));
  const { program, plan: scheduled } = schedule(plan, target);
  const check = (of: Program): void => void checkSchedule(chosenEntry(of), scheduled);
  check(program);
  return { program, check };
};

const drawn = (name: string, shape: readonly number[], step: number): Tensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * 7 + step * 3 + name.length) / 2);
  return tensorOf("f32", shape, values);
};

/** A step of attention with two heads for each key, behind so many past positions, and the projection of what it gives. */
function groupedHeads(past: number): { readonly graph: string; readonly states: States } {
  const weights = Array.from({ length: 60 }, (_, i) => ((i * 7) % 11) / 8 - 0.5).join(", ");
  const graph = `graph @main(%0 "q": f32[1,4,1,5], %1 "k": f32[1,2,1,5], %2 "v": f32[1,2,1,5], %3 "keys": f32[1,2,${past},5], %4 "values": f32[1,2,${past},5]) {
  %5 = concat(%3, %1) {axis=2} : f32[1,2,${past + 1},5]
  %6 = concat(%4, %2) {axis=2} : f32[1,2,${past + 1},5]
  %7 = reshape(%0) {shape=[1,2,2,5]} : f32[1,2,2,5]
  %8 = transpose(%5) {perm=[0,1,3,2]} : f32[1,2,5,${past + 1}]
  %9 = matmul(%7, %8) : f32[1,2,2,${past + 1}] from "scores (MatMul)"
  %10 = softmax(%9) {axis=3} : f32[1,2,2,${past + 1}]
  %11 = matmul(%10, %6) : f32[1,2,2,5] from "sums (MatMul)"
  %12 = reshape(%11) {shape=[1,1,20]} : f32[1,1,20]
  %13 = constant() {value=dense<[${weights}]>} : f32[20,3]
  %14 = matmul(%12, %13) : f32[1,1,3] from "out (MatMul)"
  %15 = slice(%3) {sizes=[1,2,${past - 1},5], starts=[0,0,1,0], strides=[1,1,1,1]} : f32[1,2,${past - 1},5]
  %16 = concat(%15, %1) {axis=2} : f32[1,2,${past},5]
  %17 = slice(%4) {sizes=[1,2,${past - 1},5], starts=[0,0,1,0], strides=[1,1,1,1]} : f32[1,2,${past - 1},5]
  %18 = concat(%17, %2) {axis=2} : f32[1,2,${past},5]
  return %14 "y", %16 "next keys", %18 "next values"
}`;
  return { graph, states: { keys: "next keys", values: "next values" } };
}

/** As above, with one head, queries from weights, and a projection so wide that little is done but load its weights. */
function longPast(past: number): { readonly graph: string; readonly states: States } {
  const weights = (count: number): string =>
    Array.from({ length: count }, (_, i) => ((i * 7) % 11) / 8 - 0.5).join(", ");
  const graph = `graph @main(%0 "x": f32[1,5], %1 "k": f32[1,5], %2 "v": f32[1,5], %3 "keys": f32[${past},5], %4 "values": f32[${past},5]) {
  %5 = constant() {value=dense<[${weights(25)}]>} : f32[5,5]
  %6 = matmul(%0, %5) : f32[1,5] from "queries (MatMul)"
  %7 = concat(%3, %1) {axis=0} : f32[${past + 1},5]
  %8 = concat(%4, %2) {axis=0} : f32[${past + 1},5]
  %9 = transpose(%7) {perm=[1,0]} : f32[5,${past + 1}]
  %10 = matmul(%6, %9) : f32[1,${past + 1}] from "scores (MatMul)"
  %11 = softmax(%10) {axis=1} : f32[1,${past + 1}]
  %12 = matmul(%11, %8) : f32[1,5] from "sums (MatMul)"
  %13 = constant() {value=dense<[${weights(5 * 1600)}]>} : f32[5,1600]
  %14 = matmul(%12, %13) : f32[1,1600] from "out (MatMul)"
  %15 = slice(%3) {sizes=[${past - 1},5], starts=[1,0], strides=[1,1]} : f32[${past - 1},5]
  %16 = concat(%15, %1) {axis=0} : f32[${past},5]
  %17 = slice(%4) {sizes=[${past - 1},5], starts=[1,0], strides=[1,1]} : f32[${past - 1},5]
  %18 = concat(%17, %2) {axis=0} : f32[${past},5]
  return %14 "y", %16 "next keys", %18 "next values"
}`;
  return { graph, states: { keys: "next keys", values: "next values" } };
}

/** A cell whose state enters the array; a window of rows that moves on, read as weights; two states that change places; and sums. */
const MODELS: Readonly<Record<string, { readonly graph: string; readonly states: States }>> = {
  "a recurrent cell": {
    graph: `graph @main(%0 "x": f32[4,24], %1 "h": f32[4,21], %2 "u": f32[24,21], %3 "w": f32[21,21]) {
  %4 = matmul(%0, %2) : f32[4,21]
  %5 = matmul(%1, %3) : f32[4,21]
  %6 = add(%4, %5) : f32[4,21]
  %7 = tanh(%6) : f32[4,21] from "cell (Tanh)"
  %8 = neg(%7) : f32[4,21]
  return %7 "next", %8 "y"
}`,
    states: { h: "next" },
  },
  "a window of keys": {
    graph: `graph @main(%0 "q": f32[1,10], %1 "new": f32[1,10], %2 "keys": f32[9,10]) {
  %3 = slice(%2) {sizes=[8,10], starts=[1,0], strides=[1,1]} : f32[8,10]
  %4 = concat(%3, %1) {axis=0} : f32[9,10] from "present (Concat)"
  %5 = transpose(%4) {perm=[1,0]} : f32[10,9]
  %6 = matmul(%0, %5) : f32[1,9]
  %7 = softmax(%6) {axis=1} : f32[1,9]
  %8 = matmul(%7, %4) : f32[1,10]
  return %4 "present", %8 "y"
}`,
    states: { keys: "present" },
  },
  "keys and values of grouped heads, which are loaded from where they lie": groupedHeads(7),
  "more of them than a panel has lanes": groupedHeads(41),
  "two states that change places": {
    graph: `graph @main(%0 "x": f32[3,5], %1 "a": f32[3,5], %2 "b": f32[3,5]) {
  %3 = add(%1, %0) : f32[3,5]
  return %2 "a next", %1 "b next", %3 "y"
}`,
    states: { a: "a next", b: "b next" },
  },
  "a state turned over": {
    graph: `graph @main(%0 "x": f32[6,6], %1 "s": f32[6,6]) {
  %2 = transpose(%1) {perm=[1,0]} : f32[6,6]
  %3 = mul(%1, %0) : f32[6,6]
  return %2 "turned", %3 "y"
}`,
    states: { s: "turned" },
  },
  "a state whose neighbours on unused lanes would not be zero": {
    graph: `graph @main(%0 "x": f32[3,21], %1 "s": f32[3,21], %2 "w": f32[21,4]) {
  %3 = add(%1, %0) : f32[3,21]
  %4 = cos(%3) : f32[3,21] from "turn (Cos)"
  %5 = matmul(%4, %2) : f32[3,4]
  return %4 "next", %5 "y"
}`,
    states: { s: "next" },
  },
  "sums of many rows": {
    graph: `graph @main(%0 "x": f32[90,37], %1 "sum": f32[90,37]) {
  %2 = add(%1, %0) : f32[90,37]
  %3 = exp(%2) : f32[90,37]
  return %2 "next", %3 "y"
}`,
    states: { sum: "next" },
  },
};
const STEPS = 4;
/** Of the machine's fp16 to the evaluator's fp32. */
const NEAR = 5e-3;
const SUMMED = (name: string) => ({ name, type: "float32" as const, dims: [3] });

const modelOf = (name: string): { readonly graph: Graph; readonly states: States } => {
  const { graph = "", states = {} } = MODELS[name] ?? {};
  return { graph: parseGraph(graph), states };
};

describe.each(["tiny", "lpu-v1"] as const)("on %s", (name) => {
  const target = TARGETS[name];
  test.each(Object.keys(MODELS))("%s", (of) => {
    const { graph, states } = modelOf(of);
    const { program } = compiled(graph, target, states);
    const resident = loadProgram(readImage(writeImage(program)));
    const [entry] = program.entries;
    expect(resident.states.map((state) => state.name).sort()).toEqual(Object.keys(states).sort());
    expect(entry?.inputs.some((input) => input.name in states)).toBe(false);

    const literal = new Sram(target, 1);
    placeConstants(literal, program.chips);
    for (const state of program.states) clearState(state, literal);

    const byHand = loadProgram(compiled(graph, target, {}).program).entry();
    const carried: Record<string, Tensor> = {};
    for (const { name: input, shape } of byHand.inputs)
      if (input in states) carried[input] = tensorOf("f32", shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
    for (let step = 0; step < STEPS; step++) {
      const given = Object.fromEntries(
        resident.entry().inputs.map(({ name: input, shape }) => [input, drawn(input, shape, step)]),
      );
      const { outputs, cycles } = resident.entry().run(given);
      expect(cycles).toBe(resident.entry().predictedCycles);
      const meant = evaluate(graph, { ...given, ...carried });
      const wanted = byHand.run({ ...given, ...carried });
      for (const [index, output] of graph.outputs.entries())
        expect(distance(wanted.outputs[output.name], meant[index] as Tensor)).toBeLessThan(NEAR);
      for (const [input, output] of Object.entries(states)) carried[input] = wanted.outputs[output] as Tensor;
      for (const [output, tensor] of Object.entries(outputs)) expect(tensor).toEqual(wanted.outputs[output]);
      expect(resident.snapshot()).toEqual(carried);

      for (const input of entry?.inputs ?? []) placeInput(input, given[input.name] as Tensor, literal);
      expect(runLiteral(chosenEntry(program), literal).cycles).toEqual(entry?.cycles);
      for (const state of program.states) expect(fetchOutput(state, literal)).toEqual(carried[state.name]);
      for (const output of entry?.outputs ?? []) expect(fetchOutput(output, literal)).toEqual(outputs[output.name]);
    }
  });
});

/** Layers one behind the other, each of which looks back upon a past of its own that moves on by a row. */
function layersWithPasts(layers: number, past: number): { readonly graph: string; readonly states: States } {
  const weights = Array.from({ length: 25 }, (_, i) => ((i * 7) % 11) / 8 - 0.5).join(", ");
  const states = Array.from({ length: layers }, (_, layer) => [`keys ${layer}`, `values ${layer}`]).flat();
  const inputs = states.map((name, index) => `, %${index + 1} "${name}": f32[${past},5]`).join("");
  const window = `{sizes=[${past - 1},5], starts=[1,0], strides=[1,1]} : f32[${past - 1},5]`;
  const first = (layer: number): number => 1 + 2 * layers + 11 * layer;
  const end = (layer: number): string => (layer < 0 ? "%0" : `%${first(layer) + 10}`);
  const body = Array.from({ length: layers }, (_, layer) => {
    const [a, keys, x] = [first(layer), 1 + 2 * layer, end(layer - 1)];
    return `  %${a} = constant() {value=dense<[${weights}]>} : f32[5,5]
  %${a + 1} = matmul(${x}, %${a}) : f32[1,5]
  %${a + 2} = slice(%${keys}) ${window}
  %${a + 3} = concat(%${a + 2}, %${a + 1}) {axis=0} : f32[${past},5]
  %${a + 4} = slice(%${keys + 1}) ${window}
  %${a + 5} = concat(%${a + 4}, %${a + 1}) {axis=0} : f32[${past},5]
  %${a + 6} = transpose(%${keys}) {perm=[1,0]} : f32[5,${past}]
  %${a + 7} = matmul(${x}, %${a + 6}) : f32[1,${past}]
  %${a + 8} = softmax(%${a + 7}) {axis=1} : f32[1,${past}]
  %${a + 9} = matmul(%${a + 8}, %${keys + 1}) : f32[1,5]
  %${a + 10} = add(%${a + 9}, ${x}) : f32[1,5]`;
  });
  const nexts = states.map((name, i) => `%${first(Math.floor(i / 2)) + (i % 2 === 0 ? 3 : 5)} "next ${name}"`);
  const graph = `graph @main(%0 "x": f32[1,5]${inputs}) {
${body.join("\n")}
  return ${[`${end(layers - 1)} "y"`, ...nexts].join(", ")}
}`;
  return { graph, states: Object.fromEntries(states.map((name) => [name, `next ${name}`])) };
}

test("states that move on over rows of their own do not keep layers on one chip", () => {
  const target = TARGETS["unit-latency"];
  const { graph, states } = layersWithPasts(2, 40);
  const plan = select(legalGraph(parseGraph(graph), target), target, new Map(Object.entries(states)));
  const nexts = new Set(plan.states.map(({ next }) => next));
  const between = plan.tasks.filter(({ outputs }) => outputs.some(({ storage }) => nexts.has(storage)));
  const readers = between.flatMap(({ leaves }) => leaves.map(({ storage }) => plan.storages[storage]?.kind));
  expect(readers).toContain("temp");
  expect(readers).not.toContain("state");
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipelineOf({ stages: 2 }, target));
  expect(plans.map((stages) => stages.map((stage) => stage.states.map(({ name }) => name)))).toEqual([
    [
      ["keys 0", "values 0"],
      ["keys 1", "values 1"],
    ],
  ]);
  const apart = loadProgram(readImage(writeImage(program)));
  const alone = loadProgram(compiled(parseGraph(graph), target, states).program);
  for (let step = 0; step < STEPS; step++) {
    const given = { x: drawn("x", [1, 5], step) };
    expect(apart.entry().run(given).outputs).toEqual(alone.entry().run(given).outputs);
    expect(apart.snapshot()).toEqual(alone.snapshot());
  }
});

test("a long past lies in as many ways as load on all streams, and moves on in turns of rows", () => {
  const target = TARGETS["lpu-v1"];
  const { graph: text, states } = longPast(777);
  const graph = parseGraph(text);
  const plan = select(legalGraph(graph, target), target, new Map(Object.entries(states)));
  const turns = plan.tasks.flatMap(({ outputs }) => outputs.filter(({ step }) => step === 16));
  expect(turns.map(({ row }) => row).slice(0, 16)).toEqual(Array.from({ length: 16 }, (_, row) => row));
  const { program } = compiled(graph, target, states);
  expect(program.states[0]?.placements[0]?.ways).toBe(16);
  // Sums over the first two panels of values and over the third are made by an array each, of what lies beside it.
  const sides = program.states[1]?.placements[0]?.panels.map(({ planes }) => planes[0]?.hemisphere);
  expect(sides).toEqual(["E", "E", "W"]);
  const resident = loadProgram(readImage(writeImage(program)));
  const byHand = loadProgram(compiled(graph, target, {}).program).entry();
  let left = resident.snapshot();
  for (let step = 0; step < STEPS; step++) {
    const given = Object.fromEntries(
      resident.entry().inputs.map(({ name, shape }) => [name, drawn(name, shape, step)]),
    );
    const { outputs, cycles } = resident.entry().run(given);
    expect(cycles).toBe(resident.entry().predictedCycles);
    const wanted = byHand.run({ ...given, ...left }).outputs;
    expect(outputs["y"]).toEqual(wanted["y"]);
    left = resident.snapshot();
    for (const [name, output] of Object.entries(states)) expect(left[name]).toEqual(wanted[output]);
  }
});

/** Scores of a key with those of so many positions, 64 values each, which move on. */
const windowOfKeys = (past: number): string => `graph @main(%0 "x": f32[1,64], %1 "keys": f32[${past},64]) {
  %2 = concat(%1, %0) {axis=0} : f32[${past + 1},64]
  %3 = transpose(%2) {perm=[1,0]} : f32[64,${past + 1}]
  %4 = matmul(%0, %3) : f32[1,${past + 1}] from "scores (MatMul)"
  %5 = slice(%1) {sizes=[${past - 1},64], starts=[1,0], strides=[1,1]} : f32[${past - 1},64]
  %6 = concat(%5, %0) {axis=0} : f32[${past},64]
  return %4 "y", %6 "next keys"
}`;

describe("rows of a state are taken when those have been read, and not all of it", () => {
  const graph = parseGraph(windowOfKeys(512));
  const states = { keys: "next keys" };
  const { tiny } = TARGETS;
  const plan = select(legalGraph(graph, tiny), tiny, new Map(Object.entries(states)));

  test("a past moves on where no copy of it has room", () => {
    // With a copy of all rows at once it takes banks of 190 rows.
    const { program } = compiled(graph, { ...tiny, rowsPerBank: 160 }, states);
    const resident = loadProgram(readImage(writeImage(program)));
    const byHand = loadProgram(compiled(graph, tiny, {}).program).entry();
    for (let step = 0; step < STEPS; step++) {
      const [x, left] = [drawn("x", [1, 64], step), resident.snapshot()];
      const { outputs, cycles } = resident.entry().run({ x });
      expect(cycles).toBe(resident.entry().predictedCycles);
      const wanted = byHand.run({ x, ...left }).outputs;
      expect(outputs["y"]).toEqual(wanted["y"]);
      expect(resident.snapshot()).toEqual({ keys: wanted["next keys"] });
    }
  });

  test("what writes some waits for what reads these, and for nothing that reads others", () => {
    const { producers } = dependenciesOf(plan);
    const reads = plan.tasks.map(({ leaves, passes }) =>
      leaves.concat(
        passes.flatMap(({ weights }) =>
          isTile(weights) ? [] : weights.map((load) => ({ ...load, runs: [load.run] })),
        ),
      ),
    );
    const rowsIn = (runs: readonly Run[]): number[] =>
      runs.flatMap(({ row, step, count }) => Array.from({ length: count }, (_, i) => row + i * step));
    const [state] = plan.states;
    let copies = 0;
    for (const [index, task] of plan.tasks.entries()) {
      const [output] = task.outputs;
      if (output === undefined || output.storage !== state?.next) continue;
      const written = new Set(rowsIn([writtenBy(task, output)]));
      const readers = reads.flatMap((own, reader) =>
        own.some(
          ({ storage, panel, runs }) =>
            storage === state.storage && panel === output.panel && rowsIn(runs).some((row) => written.has(row)),
        )
          ? [reader]
          : [],
      );
      const first = task.leaves.flatMap(({ storage, panel, runs }) =>
        plan.tasks.flatMap((other, made) =>
          other.outputs.some(
            (one) =>
              one.storage === storage &&
              one.panel === panel &&
              rowsIn([writtenBy(other, one)]).some((row) => rowsIn(runs).includes(row)),
          )
            ? [made]
            : [],
        ),
      );
      expect([...at(producers, index, "task")].sort((a, b) => a - b)).toEqual(
        [...new Set([...readers, ...first])].sort((a, b) => a - b),
      );
      copies++;
    }
    expect(copies).toBeGreaterThan(16);
  });
});

test("what an entry takes together lies together for all of them", () => {
  const target = TARGETS["lpu-v1"];
  const { graph, states } = longPast(777);
  const plan = select(legalGraph(parseGraph(graph), target), target, new Map(Object.entries(states)));
  const whole = { ...plan, storages: plan.storages.map(({ groups: _, ...storage }) => storage) };
  const groupsOf = (of: Plan): unknown => of.storages.flatMap(({ groups }) => (groups === undefined ? [] : [groups]));
  expect(groupsOf(plan)).toEqual([
    [0, 0, 2],
    [0, 0, 2],
  ]);
  expect(withSharedStates([plan, plan]).map(groupsOf)).toEqual([groupsOf(plan), groupsOf(plan)]);
  expect(withSharedStates([plan, whole]).map(groupsOf)).toEqual([[], []]);
  // Which state a plan has first is where selection came upon it first, and a program has one order.
  const turned = { ...plan, states: [...plan.states].reverse() };
  const namesOf = (of: Plan): readonly string[] => of.states.map(({ name }) => name);
  expect(namesOf(plan)).toHaveLength(2);
  expect(withSharedStates([plan, turned]).map(namesOf)).toEqual([namesOf(plan), namesOf(plan)]);
});

/** On two chips that share the graph in a way that is drawn. */
const sharedProgram = (graph: Graph, target: Target, states: States, seed: number): Program => {
  const names = new Map(Object.entries(states));
  const legal = runPasses(graph, [...OPTIMIZE, ...NARROW], { target });
  const stays = staysOf(legal, names);
  const problem = { graph: legal, chips: 2, costs: drawnCosts(seed, ["whole"]), price: 0, stays };
  const pipeline = pipelineOf({ tensor: 2 }, target);
  const layOut = (own: Graph, kept: ReadonlyMap<string, string>): Plan =>
    select(own, target, kept, [], peersOf(pipeline));
  const { plan } = sharedPlan(shared(problem, sure(search(problem), "placements")), target, names, layOut);
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipeline);
  for (const own of plans.flat()) verifyPlan(own, target);
  checkSchedule(chosenEntry(program), ...plans.flat());
  return program;
};

describe.each([1, 2, 3])("on two chips of tiny that share it, seed %i", (seed) => {
  test.each(Object.keys(MODELS))("%s", (of) => {
    const { graph, states } = modelOf(of);
    const program = sharedProgram(graph, TARGETS.tiny, states, seed);
    const resident = loadProgram(readImage(writeImage(program)));
    const [entry] = program.entries;
    const literal = loadedSram(program);
    for (const state of program.states) clearState(state, literal);
    for (let step = 0; step < STEPS; step++) {
      const given = Object.fromEntries(
        resident.entry().inputs.map(({ name: input, shape }) => [input, drawn(input, shape, step)]),
      );
      const meant = evaluate(graph, { ...given, ...resident.snapshot() });
      const { outputs, cyclesByChip } = resident.entry().run(given);
      expect(cyclesByChip).toEqual(entry?.cycles);
      const left = resident.snapshot();
      const next = Object.fromEntries(Object.entries(states).map(([name, output]) => [output, left[name]]));
      for (const [index, output] of graph.outputs.entries())
        expect(distance({ ...outputs, ...next }[output.name], meant[index] as Tensor)).toBeLessThan(NEAR);
      for (const input of entry?.inputs ?? []) placeInput(input, given[input.name] as Tensor, literal);
      expect(runLiteral(chosenEntry(program), literal).cycles).toEqual(entry?.cycles);
      for (const state of program.states) expect(fetchOutput(state, literal)).toEqual(left[state.name]);
      for (const output of entry?.outputs ?? []) expect(fetchOutput(output, literal)).toEqual(outputs[output.name]);
    }
  });
});

const target = TARGETS.tiny;

describe("from an ONNX model", () => {
  const model = modelBytes({
    ...{ name: "sum", opset: 18 },
    nodes: [{ op: "Add", name: "/add", inputs: ["x", "sum"], outputs: ["next"], attributes: {} }],
    inputs: [SUMMED("x"), SUMMED("sum")],
    outputs: [SUMMED("next")],
    initializers: [],
  });
  const options = { target: "tiny", state: { sum: "next" } } as const;

  test("a program keeps a state, and check and build say what it takes", async () => {
    const built = await lpuit(model, { ...options, cacheDir: false });
    expect([built.inputs.length, built.outputs.length, built.states.length]).toEqual([1, 0, 1]);
    const x = Float32Array.of(1, 2, 3);
    for (let step = 0; step < 3; step++) await built.run({ x });
    expect([...(built.snapshot()["sum"]?.data ?? [])]).toEqual([3, 6, 9]);
    built.restore({ sum: tensorOf("f32", [3], [10, 20, 30]) });
    await built.run({ x });
    expect([...(built.snapshot()["sum"]?.data ?? [])]).toEqual([11, 22, 33]);
    built.reset();
    expect([...(built.snapshot()["sum"]?.data ?? [])]).toEqual([0, 0, 0]);
    const checked = checkModel(bytesSource("sum", model), options);
    expect(checked.problems).toEqual([]);
    expect(built.report.sram.states).toBeGreaterThan(0);
    expect(checked.sram?.states).toBe(built.report.sram.states);
  });

  test("the end of an output that is longer stays: a window that moves on", async () => {
    const rows = (name: string, count: number) => ({ name, type: "float32" as const, dims: [1, count, 5] });
    const window = modelBytes({
      ...{ name: "window", opset: 18, initializers: [] },
      nodes: [
        { op: "Concat", name: "/concat", inputs: ["past_3", "new"], outputs: ["present_3"], attributes: { axis: 1 } },
        { op: "ReduceSum", name: "/sum", inputs: ["present_3"], outputs: ["y"], attributes: {} },
      ],
      inputs: [rows("new", 2), rows("past_3", 4)],
      outputs: [rows("present_3", 6), { name: "y", type: "float32" as const, dims: [1, 1, 1] }],
    });
    const built = await lpuit(window, { target: "tiny", state: "auto", cacheDir: false });
    expect(built.states).toEqual([{ name: "past_3", dtype: "f32", shape: [1, 4, 5] }]);
    const last = (count: number, step: number): number[] =>
      Array.from({ length: count * 5 }, (_, i) => Math.max(0, step * 10 - (count * 5 - i) + 1));
    for (let step = 1; step <= 4; step++) {
      const { outputs } = await built.run({ new: Float32Array.from(last(2, step)) });
      expect([...(built.snapshot()["past_3"]?.data ?? [])]).toEqual(last(4, step));
      expect([...(outputs["y"]?.data ?? [])]).toEqual([last(6, step).reduce((sum, value) => sum + value, 0)]);
    }
  });

  test("an entry whose past is empty begins a window anew", async () => {
    const rows = (name: string, open: string) => ({
      ...{ name, type: "float32" as const },
      ...{ dims: [1, 1, 5], open: { 1: open } },
    });
    const window = modelBytes({
      ...{ name: "window", opset: 18, initializers: [] },
      nodes: [
        { op: "Concat", name: "/concat", inputs: ["past_3", "new"], outputs: ["present_3"], attributes: { axis: 1 } },
        { op: "ReduceSum", name: "/sum", inputs: ["present_3"], outputs: ["y"], attributes: {} },
      ],
      inputs: [rows("new", "n"), rows("past_3", "past")],
      outputs: [rows("present_3", "all"), { name: "y", type: "float32" as const, dims: [1, 1, 1] }],
    });
    const options = { target: "tiny", state: "auto" } as const;
    const next = { bind: { n: 1, past: 4 } };
    const entries = { next, first: { bind: { n: 2, past: 0 } }, long: { bind: { n: 6, past: 0 } } };
    const built = await lpuit(window, { ...options, entries, cacheDir: false });
    const run = async (index: number, from: number, count: number): Promise<number | undefined> => {
      const values = Float32Array.from({ length: count * 5 }, (_, i) => from + i);
      return (await built.entries[index]?.run({ new: values }))?.outputs["y"]?.data[0];
    };
    const left = (): readonly number[] => [...(built.snapshot()["past_3"]?.data ?? [])];
    const counted = (from: number, count: number): readonly number[] =>
      Array.from({ length: count }, (_, i) => from + i);
    const zeros = (count: number): readonly number[] => Array<number>(count).fill(0);
    await run(0, 100, 1);
    expect(await run(1, 1, 2)).toBe(55);
    expect(left()).toEqual([...zeros(10), ...counted(1, 10)]);
    expect(await run(0, 11, 1)).toBe(120);
    expect(left()).toEqual([...zeros(5), ...counted(1, 15)]);
    expect(await run(2, 1, 6)).toBe(465);
    expect(left()).toEqual(counted(11, 20));
    const alone = { ...options, entries: { first: entries.first, next } };
    const said = verdict(() => compile(bytesSource("window", window), alone));
    expect(said).toBe("LPU1014: state 'past_3': expected rows, got f32[1,0,5]");
    expect(checkModel(bytesSource("window", window), alone).problems.map(({ message }) => message)).toContain(said);
    expect(checkModel(bytesSource("window", window), { ...options, entries }).problems).toEqual([]);
  });

  const moved = (name: string, dims: readonly number[], open: string) => ({
    ...{ name, type: "float32" as const },
    ...{ dims, open: { 1: open } },
  });
  const sum = { name: "y", type: "float32" as const, dims: [1, 1, 1] };
  const summed = { op: "ReduceSum", name: "/sum", inputs: ["present_3"], outputs: ["y"], attributes: {} };

  /** Runs an entry on both machines, which leave the same: its sum. */
  const onBoth = (bytes: Uint8Array) => {
    const program = readImage(bytes);
    const linked = loadImage(bytes);
    const sram = new Sram(program.target, 1);
    placeConstants(sram, program.chips);
    for (const state of program.states) clearState(state, sram);
    return (name: string, inputs: Readonly<Record<string, Tensor>>): { y: number | undefined; left: unknown } => {
      const entry = sure(
        program.entries.find((one) => one.name === name),
        "entry",
      );
      for (const input of entry.inputs) placeInput(input, sure(inputs[input.name], "input"), sram);
      expect(runLiteral(chosenEntry(program, name), sram).cycles).toEqual(entry.cycles);
      const { outputs, cycles } = sure(
        linked.entries.find((one) => one.name === name),
        "entry",
      ).run(inputs);
      expect(cycles).toBe(entry.cycles[0]);
      for (const output of entry.outputs) expect(fetchOutput(output, sram)).toEqual(outputs[output.name]);
      const [state] = program.states;
      const left = fetchOutput(sure(state, "state"), sram);
      expect(linked.snapshot()).toEqual({ past_3: left });
      return { y: outputs["y"]?.data[0] as number, left: [...left.data] };
    };
  };
  const counted = (from: number, count: number): readonly number[] => Array.from({ length: count }, (_, i) => from + i);
  const total = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);

  test("an entry with fewer rows of a window reads its last ones, and the window moves on whole", () => {
    const window = modelBytes({
      ...{ name: "window", opset: 18, initializers: [] },
      nodes: [
        { op: "Concat", name: "/concat", inputs: ["past_3", "new"], outputs: ["present_3"], attributes: { axis: 1 } },
        summed,
      ],
      inputs: [moved("new", [1, 1, 5], "n"), moved("past_3", [1, 1, 5], "past")],
      outputs: [moved("present_3", [1, 1, 5], "all"), sum],
    });
    const entries = { whole: [2, 8], few: [2, 3], most: [3, 7], first: [2, 0] } as const;
    const bound = Object.entries(entries).map(([name, [n, past]]) => [name, { bind: { n, past } }]);
    const options = { target: "tiny", state: "auto", entries: Object.fromEntries(bound) } as const;
    const run = onBoth(joinChunks(compile(bytesSource("window", window), options).image()));
    let left: readonly number[] = Array<number>(40).fill(0);
    for (const [step, name] of (["few", "few", "whole", "most", "few", "first", "few", "whole"] as const).entries()) {
      const [n, past] = entries[name];
      const values = counted(100 * step + 1, 5 * n);
      const seen = past === 0 ? [] : left.slice(-5 * past);
      const made = run(name, { new: tensorOf("f32", [1, n, 5], Float32Array.from(values)) });
      expect([step, made.y]).toEqual([step, total([...seen, ...values])]);
      left = [...(past === 0 ? left.map(() => 0) : left), ...values].slice(-40);
      expect(made.left).toEqual(left);
    }
    expect(checkModel(bytesSource("window", window), options).problems).toEqual([]);
    const late = { ...options, entries: { few: { bind: { n: 2, past: 3 } }, whole: { bind: { n: 2, past: 8 } } } };
    const said = verdict(() => compile(bytesSource("window", window), late));
    expect(said).toBe("LPU2004: state 'past_3' is f32[1,8,5] in an entry, and f32[1,3,5] in one before it");
  });

  test("an entry whose past is empty begins a window anew that is longer than a panel, and lies on lanes", () => {
    const { lanes } = TARGETS["lpu-v1"];
    const window = modelBytes({
      ...{ name: "values", opset: 18, initializers: [] },
      nodes: [
        { op: "Concat", name: "/concat", inputs: ["past_3", "new"], outputs: ["present_3"], attributes: { axis: 1 } },
        { op: "MatMul", name: "/weigh", inputs: ["p", "present_3"], outputs: ["all_y"], attributes: {} },
        { op: "ReduceSum", name: "/sum", inputs: ["all_y"], outputs: ["y"], attributes: {} },
      ],
      inputs: [
        { name: "p", type: "float32" as const, dims: [1, 3, 1], open: { 2: "all" } },
        ...[moved("new", [1, 1, 5], "n"), moved("past_3", [1, 1, 5], "past")],
      ],
      outputs: [moved("present_3", [1, 1, 5], "all"), sum],
    });
    const entries = { next: [2, lanes + 5], few: [1, 5], first: [2, 0] } as const;
    const bound = Object.entries(entries).map(([name, [n, past]]) => [name, { bind: { n, past, all: n + past } }]);
    const options = { target: "lpu-v1", state: "auto", entries: Object.fromEntries(bound) } as const;
    const run = onBoth(joinChunks(compile(bytesSource("values", window), options).image()));
    let left: readonly number[] = Array<number>(5 * entries.next[1]).fill(0);
    for (const [step, name] of (["next", "first", "next", "few", "next"] as const).entries()) {
      const [n, past] = entries[name];
      const values = counted(20 * step + 1, 5 * n);
      const seen = [...left.slice(left.length - 5 * past), ...values];
      const inputs = {
        p: tensorOf("f32", [1, 3, n + past], new Float32Array(3 * (n + past)).fill(1)),
        new: tensorOf("f32", [1, n, 5], Float32Array.from(values)),
      };
      left = [...(past === 0 ? left.map(() => 0) : left), ...values].slice(-left.length);
      expect(run(name, inputs)).toEqual({ y: 3 * total(seen), left });
    }
  });

  test("an entry with fewer rows of a cache reads its first ones, and the others stay", () => {
    const cache = modelBytes({
      ...{ name: "cache", opset: 24, initializers: [] },
      nodes: [
        {
          ...{ op: "TensorScatter", name: "/scatter", inputs: ["past_3", "new", "from"], outputs: ["present_3"] },
          attributes: { axis: 1 },
        },
        summed,
      ],
      inputs: [
        ...[moved("new", [1, 1, 5], "n"), moved("past_3", [1, 1, 5], "past")],
        { name: "from", type: "int64" as const, dims: [1] },
      ],
      outputs: [moved("present_3", [1, 1, 5], "past"), sum],
    });
    const entries = { whole: { bind: { n: 2, past: 8 } }, few: { bind: { n: 2, past: 3 } } };
    const options = { target: "tiny", state: "auto", entries } as const;
    const run = onBoth(joinChunks(compile(bytesSource("cache", cache), options).image()));
    const left = Array<number>(40).fill(0);
    for (const [step, [name, from]] of (
      [
        ["few", 0],
        ["whole", 5],
        ["few", 1],
        ["whole", 0],
      ] as const
    ).entries()) {
      const values = counted(100 * step + 1, 10);
      left.splice(5 * from, 10, ...values);
      const inputs = { new: tensorOf("f32", [1, 2, 5], Float32Array.from(values)), from: tensorOf("i32", [1], [from]) };
      expect(run(name, inputs)).toEqual({ y: total(name === "few" ? left.slice(0, 15) : left), left });
    }
  });

  const decoder = "../shared/fixtures/transformers/stories260K-past/model.onnx";
  const tokens = "../shared/fixtures/stories260K/golden_greedy.json";
  test("a trained model writes with resident keys and values what it wrote without", async () => {
    if (!existsSync(decoder) || !existsSync(tokens)) {
      console.log("skipped: fixtures not present");
      return;
    }
    const past = 12;
    const bind = { s70: 1, s53: past + 1, s15: past };
    const built = await lpuit(decoder, { bind, state: "auto", cacheDir: false });
    expect(built.states).toHaveLength(10);
    const { tokens: golden }: { tokens: number[] } = JSON.parse(readFileSync(tokens, "utf8"));
    for (let step = 0; step < past; step++) {
      const { outputs, cycles, predictedCycles } = await built.run({
        input_ids: [golden[step] ?? 0],
        attention_mask: Array.from({ length: past + 1 }, (_, i) => (i >= past - step ? 1 : 0)),
        position_ids: [step],
      });
      expect([cycles, predictedCycles]).toEqual([built.cycles, built.cycles]);
      const logits = [...(outputs["logits"]?.data ?? [])];
      expect(logits.indexOf(Math.max(...logits))).toBe(golden[step + 1]);
    }
  });

  test("check refuses what build refuses", () => {
    const wrong = { ...options, state: { sum: "text" } };
    const said = verdict(() => compile(bytesSource("sum", model), wrong));
    expect(said).toMatch(/^LPU1014: state 'sum': expected an output of the model, got 'text'/);
    expect(checkModel(bytesSource("sum", model), wrong).problems.map(({ message }) => message)).toEqual([said]);
  });
});

describe("several entries of one model", () => {
  const named = (name: string, rows: number | string, columns: number) => {
    const value = { name, type: "float32" as const };
    return typeof rows === "number"
      ? { ...value, dims: [rows, columns] }
      : { ...value, dims: [1, columns], open: { 0: rows } };
  };
  const values = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i) / 4);
  const model = modelBytes({
    ...{ name: "cell", opset: 18 },
    nodes: [
      { op: "MatMul", name: "/in", inputs: ["x", "w"], outputs: ["p"], attributes: {} },
      { op: "MatMul", name: "/back", inputs: ["h", "u"], outputs: ["q"], attributes: {} },
      { op: "Add", name: "/y", inputs: ["p", "q"], outputs: ["y"], attributes: {} },
      { op: "ReduceMean", name: "/mean", inputs: ["y", "axes"], outputs: ["m"], attributes: {} },
      { op: "Tanh", name: "/next", inputs: ["m"], outputs: ["next"], attributes: {} },
    ],
    inputs: [named("x", "n", 24), named("h", 1, 21)],
    outputs: [named("y", "n", 21), named("next", 1, 21)],
    initializers: [
      floatTensor("w", [24, 21], values(24 * 21)),
      floatTensor("u", [21, 21], values(21 * 21)),
      int64Tensor("axes", [1], [0]),
    ],
  });
  const state = { h: "next" };
  const entries = { one: { bind: { n: 1 } }, many: { bind: { n: 7 } }, few: { bind: { n: 3 } } };
  const source = bytesSource("cell", model);
  /** Pieces of weights, by hemisphere. */
  const weightsOf = ({ program }: Compiled): readonly string[] =>
    (program.chips[0]?.constants ?? []).flatMap(({ hemisphere, holds }) =>
      holds !== undefined && "tile" in holds.of ? [JSON.stringify([hemisphere, holds])] : [],
    );

  test.each(["tiny", "lpu-v1"] as const)(
    "share weights and states on %s, and each gives what it gives alone",
    (name) => {
      const together = compile(source, { target: name, state, entries });
      const alone = Object.values(entries).map(({ bind }) => compile(source, { target: name, state, bind }));
      expect(weightsOf(together).length).toBeGreaterThan(0);
      expect(new Set(weightsOf(together)).size).toBe(weightsOf(together).length);
      expect(together.report.entries.map((entry) => entry.name)).toEqual(Object.keys(entries));
      const loaded = loadImage(joinChunks(together.image()));
      const literal = new Sram(TARGETS[name], 1);
      placeConstants(literal, together.program.chips);
      for (const one of together.program.states) clearState(one, literal);
      const models = alone.map(({ program }) => loadProgram(program));
      let left = models[0]?.snapshot() ?? {};
      for (const [step, index] of [0, 1, 1, 2, 0, 1].entries()) {
        const entry = loaded.entries[index];
        const [of, model] = [together.program.entries[index], models[index]];
        if (entry === undefined || of === undefined || model === undefined) throw new RangeError("no entry");
        const given = Object.fromEntries(
          entry.inputs.map((input) => [input.name, drawn(input.name, input.shape, step)]),
        );
        const { outputs, cycles } = entry.run(given);
        expect(cycles).toBe(entry.predictedCycles);
        model.restore(left);
        expect(outputs).toEqual(model.entry().run(given).outputs);
        left = model.snapshot();
        expect(loaded.snapshot()).toEqual(left);
        for (const input of of.inputs) placeInput(input, given[input.name] as Tensor, literal);
        expect(runLiteral(chosenEntry(together.program, of.name), literal).cycles).toEqual(of.cycles);
        for (const output of of.outputs) expect(fetchOutput(output, literal)).toEqual(outputs[output.name]);
      }
    },
  );

  test("lay their edges in the same rows, where both have no room beside each other", async () => {
    const named = (name: string) => ({ name, type: "float32" as const, dims: [1, 16], open: { 0: "n" } });
    const given = ["a", "b", "c", "d"];
    const sum = modelBytes({
      ...{ name: "sum", opset: 18, initializers: [] },
      nodes: [{ op: "Sum", name: "/sum", inputs: given, outputs: ["y"], attributes: {} }],
      inputs: given.map(named),
      outputs: [named("y")],
    });
    const rows = { one: 4000, other: 3990 };
    const entries = { one: { bind: { n: rows.one } }, other: { bind: { n: rows.other } } };
    const built = await lpuit(sum, { target: "tiny", entries, cacheDir: false });
    const { inputs, scratch, capacity } = built.report.sram;
    expect(2 * (inputs + scratch)).toBeGreaterThan(capacity);
    for (const [step, entry] of [...built.entries, ...built.entries].entries()) {
      const x = Float32Array.from({ length: 16 * (step % 2 === 0 ? rows.one : rows.other) }, (_, i) => (i % 97) + step);
      const { outputs } = await entry.run(Object.fromEntries(given.map((name) => [name, x])));
      expect(outputs["y"]?.data).toEqual(x.map((value) => 4 * value));
    }
  });

  test("no constant of one lies where another writes", () => {
    const { program } = compile(source, { target: "tiny", state, entries });
    const constants = new Set(
      (program.chips[0]?.constants ?? []).flatMap(({ hemisphere, slice, row, rows }) =>
        Array.from({ length: rows }, (_, i) => `${memQueue(target, hemisphere, slice)} ${row + i}`),
      ),
    );
    const written = program.entries.flatMap(({ queues }) =>
      (queues[0] ?? []).flatMap((instructions, queue) =>
        instructions
          .filter(({ op }) => op === "write")
          .flatMap(({ fields, count, step }) =>
            Array.from({ length: count }, (_, i) => `${queue} ${Number(fields["address"]) + i * step}`),
          ),
      ),
    );
    expect(written.length).toBeGreaterThan(0);
    expect(written.filter((place) => constants.has(place))).toEqual([]);
  });

  test("whose states differ are refused, by check as by build", () => {
    const grown = modelBytes({
      ...{ name: "grown", opset: 18, initializers: [] },
      nodes: [{ op: "Add", name: "/add", inputs: ["x", "s"], outputs: ["next"], attributes: {} }],
      inputs: [named("x", "n", 4), named("s", "n", 4)],
      outputs: [named("next", "n", 4)],
    });
    const options = {
      target: "tiny" as const,
      state: { s: "next" },
      entries: { a: { bind: { n: 2 } }, b: { bind: { n: 3 } } },
    };
    const said = verdict(() => compile(bytesSource("grown", grown), options));
    expect(said).toMatch(/^LPU2004: state 's' is f32\[3,4\] in an entry, and f32\[2,4\] in one before it/);
    expect(checkModel(bytesSource("grown", grown), options).problems.map(({ message }) => message)).toEqual([said]);
    const fits = checkModel(source, { target: "tiny", state, entries });
    expect([fits.problems, fits.supported]).toEqual([[], fits.nodes]);
  });
});

test("whatever the schedule, a state is written when nothing reads it any more", () => {
  const named = ["a recurrent cell", "a window of keys", "two states that change places"].map(modelOf);
  const inTurns = { graph: parseGraph(windowOfKeys(64)), states: { keys: "next keys" } };
  for (const { graph, states } of [...named, inTurns]) {
    const plan = select(legalGraph(graph, target), target, new Map(Object.entries(states)));
    const seen = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const strategy = {
        stagger: 0,
        nearWeights: 0,
        duplicates: 0.5,
        model: 0,
        constants: "anywhere" as const,
        thrift: "none" as const,
        draw: seeded(seed),
      };
      const program = scheduleBy(plan, target, strategy);
      expect(verdict(() => checkSchedule(chosenEntry(program), plan))).toBe("ok");
      seen.add(JSON.stringify(program.entries[0]?.queues));
    }
    expect(seen.size).toBeGreaterThan(6);
  }
});

describe("the checker", () => {
  const { graph, states } = modelOf("a recurrent cell");
  const { program, check } = compiled(graph, target, states);
  const rows = new Set(
    program.states.flatMap(({ placements }) =>
      placements.flatMap(({ panels }) =>
        panels.flatMap(({ planes }) =>
          planes.map(({ hemisphere, slice, row }) => `${memQueue(target, hemisphere, slice)} ${row}`),
        ),
      ),
    ),
  );
  const writes = instructionsOf(program).filter(
    ({ queue, instruction: { op, fields } }) => op === "write" && rows.has(`${queue} ${fields["address"]}`),
  );

  test.each([
    ["lies a row further on", 1, 0],
    ["comes before the state is read", 0, -120],
  ])("refuses a state whose next value %s", (_, further, later) => {
    expect(writes.length).toBeGreaterThan(0);
    for (const victim of writes) {
      const { instruction } = victim;
      const [moved] = withFields(instruction, { address: Number(instruction.fields["address"]) + further });
      const changed = moved === undefined ? [] : [{ ...moved, cycle: moved.cycle + later }];
      expect(verdict(() => check(replaced(program, victim, changed)))).toMatch(/^LPU22/);
    }
  });

  test("refuses one that is not written, and constants in its rows", () => {
    const [victim] = writes;
    expect(verdict(() => check(replaced(program, victim as Victim, [])))).toMatch(/^LPU22\d\d/);
    const [chip] = program.chips;
    const plane = program.states[0]?.placements[0]?.panels[0]?.planes[0];
    const [block] = chip?.constants ?? [];
    if (chip === undefined || plane === undefined || block === undefined) throw new RangeError("no state or constant");
    const constants = [
      ...chip.constants,
      { ...block, hemisphere: plane.hemisphere, slice: plane.slice, row: plane.row },
    ];
    expect(verdict(() => check({ ...program, chips: [{ ...chip, constants }] }))).toMatch(/^LPU2214: state 'h'/);
  });

  test("refuses a plan that leaves anything but zeros on unused lanes of a state", () => {
    const turned = modelOf("a state whose neighbours on unused lanes would not be zero");
    const plan = select(legalGraph(turned.graph, target), target, new Map(Object.entries(turned.states)));
    checkPadding([plan], target);
    const [state] = plan.states;
    const tasks = plan.tasks.map((task) =>
      task.outputs.some(({ storage }) => storage === state?.next)
        ? {
            ...task,
            ops: task.ops.slice(0, -1),
            leaves: task.leaves.slice(0, -1),
            outputs: task.outputs.map((output) => ({ ...output, op: output.op - 1 })),
          }
        : task,
    );
    expect(verdict(() => checkPadding([{ ...plan, tasks }], target))).toMatch(/^LPU2226: state 's'/);
  });
});
