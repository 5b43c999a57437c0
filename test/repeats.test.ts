/**
 * Repeats: equal layers are found in the plan, searched a place for a few times, and then placed again and again. Every
 * instance still computes with weights of its own, and what is between two instances is exactly the same number of cycles.
 */

import { describe, expect, test } from "@jest/globals";
import { buildModel, type FamilyName } from "../models/families.js";
import { modelBytes, type OnnxModel } from "../models/onnx-writer.js";
import { writeImage } from "../src/codegen/image/image.js";
import { sure } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Argument, Plan } from "../src/ir/plan.js";
import { chosenEntry, type Program, type TimedInstruction } from "../src/ir/program.js";
import type { Range } from "../src/ir/ranges.js";
import { TARGETS } from "../src/ir/target.js";
import { makeTensor } from "../src/ir/tensor.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { findRepeat, positionIn, type Repeat } from "../src/passes/schedule/repeat/repeats.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { planFacts } from "../src/passes/schedule/figures.js";
import { shortened } from "../src/passes/select/bodies/graph.js";
import { select, selectWhole } from "../src/passes/select/select.js";
import { loadImage } from "../src/runtime/run.js";
import { distance, legalGraph, runOnLiteral } from "./compiled.js";
import { modelInputs } from "./reference.js";

const target = TARGETS["lpu-v1"];
const LAYERS = 12;
const SIZES = { layers: LAYERS, hidden: 64, heads: 2, seq: 16, vocab: 50, intermediate: 128 };
const SIZES_BY_FAMILY: Partial<Record<FamilyName, Record<string, number>>> = {
  bert: SIZES,
  gpt2: SIZES,
  llama: { ...SIZES, "kv-heads": 1 },
};

interface Deep {
  readonly graph: Graph;
  readonly plan: Plan;
  readonly inputs: Readonly<Record<string, Tensor>>;
}

const deepBuilt = (family: FamilyName, layers = LAYERS): OnnxModel =>
  buildModel(family, { ...SIZES_BY_FAMILY[family], layers });

const deepGraph = (family: FamilyName): Graph =>
  legalGraph(importModel(bytesSource(family, modelBytes(deepBuilt(family))), { bind: {} }), target);

const deepModel = (family: FamilyName, layers = LAYERS): Deep => {
  const model = deepBuilt(family, layers);
  const graph = importModel(bytesSource(family, modelBytes(model)), { bind: {} });
  const inputs: Record<string, Tensor> = {};
  for (const [name, { dims, data }] of modelInputs(model))
    inputs[name] =
      data instanceof BigInt64Array
        ? makeTensor("i32", dims, Int32Array.from(data, Number))
        : makeTensor("f32", dims, data);
  return { graph, plan: select(legalGraph(graph, target), target), inputs };
};

const repeatOf = (plan: Plan): Repeat | undefined => findRepeat(plan, planFacts(plan, target));

/** Instructions of each instance, in order of cycle within each queue, without the rows that they read and without origins. */
const instancesOf = (program: Program, plan: Plan, repeat: Repeat): Map<number, string[]> => {
  const instanceOfOrigin = new Map<number, number>();
  for (const [index, { origin }] of plan.tasks.entries()) {
    const position = positionIn(repeat, index);
    // The first layer is no instance, and some of its origins are those of later ones only.
    if (position !== undefined) instanceOfOrigin.set(origin, position.instance);
  }
  const texts = new Map<number, string[]>();
  const starts = new Map<number, number>();
  const visit = (see: (instance: number, queue: number, instruction: TimedInstruction) => void): void => {
    for (const [queue, instructions] of (program.entries[0]?.queues[0] ?? []).entries())
      for (const instruction of instructions) {
        const instance = instanceOfOrigin.get(instruction.origin);
        if (instance !== undefined) see(instance, queue, instruction);
      }
  };
  visit((instance, _, { cycle }) => starts.set(instance, Math.min(cycle, starts.get(instance) ?? cycle)));
  visit((instance, queue, { cycle, op, fields, count, interval, step, tap }) => {
    const rows = op === "read" ? { ...fields, address: 0 } : fields;
    const at = cycle - (starts.get(instance) ?? 0);
    const text = JSON.stringify([queue, at, op, rows, count, interval, step, tap]);
    texts.set(instance, [...(texts.get(instance) ?? []), text]);
  });
  return texts;
};

describe("equal stretches of a graph", () => {
  const options = { target, states: new Map(), lying: [], peers: [], room: "ample" as const };
  const told = ({ tasks, storages, origins, outputs, literals, macs }: Plan): unknown => ({
    ...{ tasks, outputs, origins, macs, literals: new Set(literals.keys()) },
    storages: storages.map(({ lanes, ...storage }) => ({ ...storage, columns: lanes?.columns })),
  });

  test.each(["bert", "gpt2", "llama"] as const)("%s: what is selected for a few layers is so for all", (family) => {
    const graph = deepGraph(family);
    expect(shortened(graph)?.omitted.length).toBeGreaterThanOrEqual(LAYERS - 6);
    const [plan, whole] = [select(graph, target), selectWhole(graph, options)];
    expect(told(plan)).toEqual(told(whole));
    const ranges = ({ storages }: Plan): Range[] => storages.flatMap(({ lanes }) => lanes?.values ?? []);
    for (const [index, { lo, hi }] of ranges(whole).entries()) {
      expect(ranges(plan)[index]?.lo).toBeLessThanOrEqual(lo);
      expect(ranges(plan)[index]?.hi).toBeGreaterThanOrEqual(hi);
    }
  });

  test("one layer that is other than the rest, or that something else reads, is no part of it", () => {
    const graph = deepGraph("bert");
    const functions = graph.nodes.filter(({ op }) => op === "erf");
    const odd = functions[4];
    const nodes = graph.nodes.map((node) => (node === odd ? { ...node, op: "tanh" } : node));
    const changed = { ...graph, nodes };
    expect(functions.length).toBe(LAYERS);
    expect(shortened(changed)?.omitted.length ?? 0).toBeLessThan(LAYERS - 8);
    expect(told(select(changed, target))).toEqual(told(selectWhole(changed, options)));
    const read = { name: "read", node: odd?.id ?? 0, declared: "f32" } as const;
    expect(shortened({ ...graph, outputs: [...graph.outputs, read] })).toBeUndefined();
  });
});

describe("equal stretches of a plan", () => {
  test("a layer is found whatever comes before and behind the layers", () => {
    const { plan } = deepModel("bert");
    const repeat = repeatOf(plan);
    // The first layer reads what no layer wrote.
    expect(repeat?.count).toBe(LAYERS - 1);
    const two = deepModel("bert", 2).plan.tasks.length;
    const three = deepModel("bert", 3).plan.tasks.length;
    expect(repeat?.tasks).toBe(three - two);
  });

  test("few layers are no repeat", () => {
    expect(repeatOf(deepModel("bert", 4).plan)).toBeUndefined();
  });

  test("a stretch ends where a task differs, or where something is read once more", () => {
    const { plan } = deepModel("bert");
    const repeat = repeatOf(plan);
    const changed = (repeat?.first ?? 0) + 6 * (repeat?.tasks ?? 0) + 3;
    const tasks = plan.tasks.map((task, index) =>
      index === changed ? { ...task, outputs: task.outputs.map((output) => ({ ...output, row: 1 })) } : task,
    );
    const shorter = repeatOf({ ...plan, tasks });
    expect(shorter?.count).toBe(6);
    expect(shorter?.tasks).toBe(repeat?.tasks);
  });

  test("a stretch ends where a number differs, also one that is not finite, or the sign of a zero", () => {
    const { plan } = deepModel("bert");
    const repeat = repeatOf(plan);
    const isNumber = (arg: Argument): boolean => "constant" in arg;
    const placeOf = (index: number) => positionIn(repeat, index);
    const { slot } = sure(
      plan.tasks.flatMap(({ ops }, index) =>
        ops.some(({ args }) => args.some(isNumber)) ? (placeOf(index) ?? []) : [],
      )[0],
      "task with a number",
    );
    const withNumbers = (numberOf: (instance: number) => number): Plan => ({
      ...plan,
      tasks: plan.tasks.map((task, index) => {
        const place = placeOf(index);
        if (place?.slot !== slot) return task;
        const changed = (arg: Argument): Argument => (isNumber(arg) ? { constant: numberOf(place.instance) } : arg);
        return { ...task, ops: task.ops.map((op) => ({ ...op, args: op.args.map(changed) })) };
      }),
    });
    for (const [number, other] of [
      [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      [Number.NaN, Number.POSITIVE_INFINITY],
      [0, -0],
    ] as const) {
      expect(repeatOf(withNumbers(() => number))?.count).toBe(LAYERS - 1);
      expect(repeatOf(withNumbers((instance) => (instance === 6 ? other : number)))?.count).toBe(6);
    }
  });
});

describe("programs of many equal layers", () => {
  test.each(["bert", "gpt2", "llama"] as const)("%s: exact on the machine, and its schedule legal", (family) => {
    const { graph, plan, inputs } = deepModel(family);
    const { program } = schedule(plan, target);
    checkSchedule(chosenEntry(program));
    const loaded = loadImage(writeImage(program)).entry();
    const { outputs, cycles } = loaded.run(inputs);
    expect(cycles).toBe(loaded.predictedCycles);
    const names = graph.outputs.map(({ name }) => name);
    expect(names.length).toBeGreaterThan(0);
    for (const [index, wanted] of evaluate(graph, inputs).entries())
      expect(distance(outputs[names[index] ?? ""], wanted)).toBeLessThan(5e-3);
  });

  test("instances differ in their constants alone, and follow one another in equal time", () => {
    const { plan } = deepModel("bert");
    const repeat = repeatOf(plan);
    const instances = repeat === undefined ? new Map() : instancesOf(schedule(plan, target).program, plan, repeat);
    const late = instances.get(LAYERS - 4);
    expect(late?.length).toBeGreaterThan(100);
    expect(instances.get(LAYERS - 5)).toEqual(late);
    expect(instances.get(LAYERS - 6)).toEqual(late);
  });

  test("layers whose constants do not fit one behind the other repeat in stretches", () => {
    const { plan } = deepModel("bert");
    const small = { ...target, rowsPerBank: 128 };
    expect(planFacts(plan, small).together).toBe(2);
    const { program } = schedule(plan, small);
    checkSchedule(chosenEntry(program));
    expect(program.entries[0]?.cycles).toEqual(schedule(plan, target).program.entries[0]?.cycles);
  });

  test("the literal machine gives the same bits", () => {
    const { plan, inputs } = deepModel("bert", 8);
    const { program } = schedule(plan, target);
    const linked = loadImage(writeImage(program)).entry().run(inputs);
    const literal = runOnLiteral(program, inputs);
    expect(linked.cyclesByChip).toEqual(literal.cycles);
    expect(Object.values(linked.outputs)).toEqual(literal.outputs);
  });
});
