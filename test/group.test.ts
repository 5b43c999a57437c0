/**
 * Chips that share products: any placement of values runs on both machines with the predicted cycles on every chip, what each
 * chip has of its own is proved, and what cannot be shared is refused.
 */

import { describe, expect, test } from "@jest/globals";
import { sumOverChips } from "../bench/sums.js";
import { writeImage } from "../src/codegen/image/image.js";
import { compile } from "../src/compile.js";
import { sharedPlan } from "../src/group.js";
import { peersOf, pipelineOf, pipelineProgram } from "../src/pipeline.js";
import { select } from "../src/passes/select/select.js";
import { joinChunks } from "../src/host/build.js";
import { importModel } from "../src/frontend/import.js";
import { evaluate, evaluateGroup } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { LEAST_GAIN, type Sharding } from "../src/ir/facts.js";
import { parseGraph } from "../src/ir/parse.js";
import { planOnChip } from "../src/ir/plan/group.js";
import type { Plan } from "../src/ir/plan.js";
import { sure } from "../src/diagnostics.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { planProblems } from "../src/ir/plan/verify.js";
import { chosenEntry, type Program, type TimedInstruction } from "../src/ir/program.js";
import { type TargetName, TARGETS } from "../src/ir/target.js";
import { tensorOf, toFloats } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { runPasses } from "../src/passes/graph/pass.js";
import { NARROW, OPTIMIZE, PLACE } from "../src/passes/graph/pipeline.js";
import { shared } from "../src/passes/graph/shard.js";
import { search } from "../src/passes/graph/shard/search.js";
import { shardingText } from "../src/report/summary.js";
import { loadImage } from "../src/runtime/run.js";
import { runOnLiteral, type SmallName, smallInputs, smallSource, verdict } from "./compiled.js";
import { drawnCosts, relativeError } from "./drawn.js";
import { check } from "./golden.js";

type Inputs = Readonly<Record<string, Tensor>>;
interface GroupProgram {
  readonly program: Program;
  /** Of each chip. */
  readonly plans: readonly Plan[];
}

/** A graph that chips share in a way that is drawn, by exchanges that selection lays out. */
const drawn = (graph: Graph, chips: number, target: TargetName, seed: number): GroupProgram => {
  const legal = runPasses(graph, [...OPTIMIZE, ...NARROW], { target: TARGETS[target] });
  const placed = sure(search({ graph: legal, chips, costs: drawnCosts(seed, ["whole"]), price: 0 }), "placements");
  const pipeline = pipelineOf({ tensor: chips }, TARGETS[target]);
  const layOut = (own: Graph): Plan => select(own, TARGETS[target], new Map(), [], peersOf(pipeline));
  const { plan } = sharedPlan(shared({ graph: legal, chips }, placed), TARGETS[target], new Map(), layOut);
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipeline);
  return { program, plans: plans[0] ?? [] };
};

/** Proves a program, runs it on the linked machine and, if that takes no minute, on the literal one; the greatest error of an output. */
const errorOf = (
  { program, plans }: GroupProgram,
  inputs: Inputs,
  wanted: readonly Tensor[],
  literal: boolean,
): number => {
  const [entry] = program.entries;
  checkSchedule(chosenEntry(program), ...plans);
  const linked = loadImage(writeImage(program)).entry().run(inputs);
  expect(linked.cyclesByChip).toEqual(entry?.cycles);
  expect(new Set(entry?.cycles).size).toBe(1);
  const outputs = Object.values(linked.outputs);
  if (literal) {
    const told = runOnLiteral(program, inputs);
    expect(told.cycles).toEqual(entry?.cycles);
    expect(told.outputs).toEqual(outputs);
  }
  return Math.max(...outputs.map((output, at) => relativeError(toFloats(output), toFloats(wanted[at] ?? output))));
};

describe("any placement of values runs", () => {
  const CASES: readonly (readonly [SmallName, TargetName, number, number])[] = [
    ["gpt2", "tiny", 2, 1],
    ["bert", "tiny", 2, 2],
    ["llama", "tiny", 2, 3],
    ["gpt2", "lpu-v1", 4, 2],
    ["llama", "lpu-v1", 4, 3],
    ["llama", "lpu-v1", 8, 1],
  ];
  test.each(CASES)("of %s on %s, %i chips, seed %i", (name, target, chips, seed) => {
    const graph = importModel(smallSource(name), { bind: {} });
    const inputs = smallInputs(name);
    const made = drawn(graph, chips, target, seed);
    expect(made.program.chips.length).toBe(chips);
    expect(errorOf(made, inputs, evaluate(graph, inputs), target === "tiny")).toBeLessThan(5e-3);
  });
});

/* ---------- small enough to be read ---------- */

const SCORES = `graph @main(%0 "x": f32[4,16]) {
  %1 = constant() {value=dense<splat(0.5)>} : f32[16,16] from "q.weight"
  %2 = matmul(%0, %1) : f32[4,16] from "q (MatMul)"
  %3 = transpose(%2) {perm=[1,0]} : f32[16,4] from "k (Transpose)"
  %4 = matmul(%2, %3) : f32[4,4] from "scores (MatMul)"
  return %4 "y"
}`;
const scores = (seed: number): GroupProgram => drawn(parseGraph(SCORES), 2, "tiny", seed);
const exchangesOf = ({ plans }: GroupProgram): number =>
  plans[0]?.tasks.filter(({ wire }) => wire?.kind === "send").length ?? 0;

describe("the plan of a group", () => {
  test("says what the first chip does", () => {
    const made = scores(1);
    expect(exchangesOf(made)).toBeGreaterThan(0);
    check("group-plan.txt", () => printPlan(made.plans[0] as GroupProgram["plans"][number]));
  });

  test("is read back as it is printed, and right on every chip", () => {
    const { plans } = scores(1);
    for (const plan of plans) {
      expect(planProblems(plan, TARGETS.tiny)).toEqual([]);
      const text = printPlan(plan);
      expect(printPlan(parsePlan(text, { literals: plan.literals }))).toBe(text);
    }
  });
});

describe("a chip is proved to do its own part", () => {
  const changed = (program: Program, chip: number, change: (one: TimedInstruction) => TimedInstruction): Program => ({
    ...program,
    entries: program.entries.map((entry) => ({
      ...entry,
      queues: entry.queues.map((queues, at) => (at === chip ? queues.map((queue) => queue.map(change)) : queues)),
    })),
  });
  const proof = ({ plans }: GroupProgram, program: Program): string =>
    verdict(() => checkSchedule(chosenEntry(program), ...plans));

  test("as it is", () => {
    const made = scores(1);
    expect(proof(made, made.program)).toBe("ok");
  });

  test("with the instructions of the first chip it does another's", () => {
    const made = scores(1);
    const queues = made.program.entries[0]?.queues[0];
    const program = {
      ...made.program,
      entries: made.program.entries.map((entry) => ({ ...entry, queues: entry.queues.map(() => queues ?? []) })),
    };
    expect(proof(made, program)).toMatch(/^LPU2224/);
  });

  test("with the constants of the first chip's plan it is no other's plan", () => {
    const made = scores(1);
    const [first] = made.plans;
    expect(
      proof({ ...made, plans: made.plans.map(() => first as GroupProgram["plans"][number]) }, made.program),
    ).toMatch(/^LPU2224/);
  });

  test("with a vector that is received before it can be there", () => {
    const made = scores(1);
    const early = (one: TimedInstruction): TimedInstruction =>
      one.op === "receive" ? { ...one, cycle: one.cycle - 100 } : one;
    expect(proof(made, changed(made.program, 1, early))).not.toBe("ok");
  });

  test("a block is written around the end", () => {
    const { plans } = scores(1);
    const rows = (chip: number): number[] =>
      (plans[chip]?.tasks ?? []).flatMap(({ outputs }) =>
        outputs.flatMap(({ storage, row }) => (plans[chip]?.storages[storage]?.blocks === undefined ? [] : [row])),
      );
    expect(rows(0).length).toBeGreaterThan(1);
    expect(rows(1)).toEqual(rows(0).map((row) => (row + 2) % 4));
    const [first] = plans;
    expect(first === undefined ? undefined : planOnChip(first, 0, new Map())).toBe(first);
  });
});

/* ---------- sums over chips ---------- */

describe("a sum over chips", () => {
  test.each([
    ["tiny", 2, 4, 48, 0],
    ["tiny", 2, 3, 64, 1],
    ["lpu-v1", 4, 32, 400, undefined],
  ] as const)("on %s, %i chips, [%i, %i], along %s", (target, chips, rows, columns, axis) => {
    const { inputs, wanted, ...made } = sumOverChips(chips, rows, columns, { target, axis });
    expect(made.plans[0]?.storages.some(({ dealt }) => dealt === true)).toBe(true);
    expect(errorOf(made, inputs, wanted, target === "tiny")).toBe(0);
    const text = printPlan(made.plans[1] as Plan);
    expect(printPlan(parsePlan(text, { literals: new Map() }))).toBe(text);
  });

  // Twice a chip's eighth of 52 and of 256 vectors, 27 cycles each, and two hops of 270.
  test.each([
    [8192, 2 * 8 * 27, 1100],
    [40960, 2 * 32 * 27, 2469],
  ])("of %i numbers on eight chips takes few cycles more than its wires", (columns, wires, most) => {
    const { inputs, wanted, ...made } = sumOverChips(8, 1, columns);
    const cycles = made.program.entries[0]?.cycles[0] ?? 0;
    expect(cycles).toBeGreaterThan(wires + 270);
    expect(cycles).toBeLessThanOrEqual(most);
    expect(errorOf(made, inputs, wanted, columns === 8192)).toBe(0);
  });

  test("of blocks that are dealt out each chip is proved to send those of others", () => {
    const made = sumOverChips(2, 4, 48, { target: "tiny", axis: 0 });
    const [first, second] = made.plans as [Plan, Plan];
    const leaves = second.tasks.map(({ leaves }, index) => first.tasks[index]?.leaves ?? leaves);
    const wrong = { ...second, tasks: second.tasks.map((task, index) => ({ ...task, leaves: leaves[index] ?? [] })) };
    expect(verdict(() => checkSchedule(chosenEntry(made.program), first, wrong))).toMatch(/^LPU2224/);
  });
});

/* ---------- constants that are made of pieces ---------- */

test("tails of pieces that lie packed are those of each chip", () => {
  const weights = Array.from({ length: 320 }, (_, i) => ((i * 7) % 11) / 8 - 0.5).join(", ");
  const graph = parseGraph(`graph @main(%0 "x": f16[3,20]) {
  %1 = constant() {value=dense<[${weights}]>} : f16[20,16] from "w"
  %2 = piece(%0) {axis=1, chips=2} : f16[3,10]
  %3 = piece(%1) {axis=0, chips=2} : f16[10,16]
  %4 = matmul(%2, %3) : f16[3,16] from "product (MatMul)"
  %5 = all_reduce(%4) {chips=2} : f16[3,16] from "product (MatMul)"
  return %5 "y"
}`);
  const target = TARGETS.tiny;
  const pipeline = pipelineOf({ tensor: 2 }, target);
  const layOut = (own: Graph): Plan => select(own, target, new Map(), [], peersOf(pipeline), "little");
  const { plan } = sharedPlan(graph, target, new Map(), layOut);
  expect([...plan.literals.keys()].some((key) => key.startsWith("slice"))).toBe(true);
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipeline);
  const x = tensorOf(
    "f16",
    [3, 20],
    Array.from({ length: 60 }, (_, i) => Math.sin(i)),
  );
  const wanted = evaluateGroup(graph, { x }).map((values) => sure(values[0], "value"));
  expect(errorOf({ program, plans: plans.flat() }, { x }, wanted, true)).toBeLessThan(1e-3);
});

/* ---------- from a model ---------- */

describe("compile", () => {
  test("leaves to one chip what several do no faster, and says so", () => {
    const { program, report } = compile(smallSource("bert"), { tensor: 2 });
    expect(program.chips.length).toBe(1);
    const facts = sure(report.sharding ?? undefined, "sharding");
    expect(facts).toMatchObject({ chips: 1, asked: 2, exchanges: [] });
    expect(facts.runnerUp.cycles).toBeGreaterThan((1 - LEAST_GAIN) * facts.cycles);
    const close: Sharding = { ...facts, cycles: 1000, runnerUp: { ...facts.runnerUp, chips: 2, cycles: 999 } };
    expect(shardingText({ ...close, by: "schedule" })).toMatch(
      /less than 1.0 % faster; cycles: 1,000 on one, 999 on 2$/,
    );
    expect(shardingText(facts)).not.toMatch(/less than/);
  });

  test("shares what is worth it", () => {
    const source = smallSource("gpt2");
    const graph = runPasses(importModel(source, { bind: {} }), [...OPTIMIZE, ...NARROW], {
      target: TARGETS["unit-latency"],
    });
    let chips = 0;
    const onSharded = (facts: { readonly chips: number }): void => {
      chips = facts.chips;
    };
    runPasses(graph, PLACE, { target: TARGETS["unit-latency"], chips: 2, onSharded });
    expect(chips).toBe(2);
    const made = compile(source, { tensor: 2, target: "unit-latency", verify: true });
    expect(made.program.chips.length).toBe(2);
    const facts = sure(made.report.sharding ?? undefined, "sharding");
    expect(facts.cycles).toBeLessThanOrEqual((1 - LEAST_GAIN) * facts.runnerUp.cycles);
    expect(shardingText(facts)).toMatch(/^shared among 2 chips/);
    // Weights that are whole on each chip are in the image once.
    const bytesOf = (likes: boolean): number =>
      (made.program.chips[1]?.constants ?? []).reduce(
        (sum, { rows, like }) => sum + ((like !== undefined) === likes ? rows : 0),
        0,
      );
    expect([bytesOf(true) > 0, bytesOf(false) > 0]).toEqual([true, true]);
    const alone = compile(source, { target: "unit-latency" });
    expect(made.report.cycles).toBeLessThan(alone.report.cycles);
    const inputs = smallInputs("gpt2");
    const [on, off] = [made, alone].map(({ image }) => loadImage(joinChunks(image())).entry().run(inputs));
    for (const [name, tensor] of Object.entries(on?.outputs ?? {}))
      expect(relativeError(toFloats(tensor), toFloats(off?.outputs[name] ?? tensor))).toBeLessThan(5e-3);
  });

  test("refuses what cannot be shared", () => {
    const source = smallSource("llama");
    const said = (options: Parameters<typeof compile>[1]): string => verdict(() => compile(source, options));
    expect(said({ tensor: 9 })).toMatch(/^LPU2007/);
    expect(said({ tensor: 4, stages: 3 })).toMatch(/^LPU2007/);
    expect(said({ tensor: 4, system: "node2" })).toMatch(/^LPU2007/);
    expect(said({ tensor: 4, target: "tiny" })).toMatch(/^LPU2007/);
  });
});
