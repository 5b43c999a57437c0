/**
 * Any legal schedule gives the same outputs: what a task computes does not depend on when and where it does.
 *
 * A seed draws the next task among all whose operands are there, its hemisphere, where its rows begin to be looked for and
 * how long it waits. Whether the program is legal, and is its plan, the check decides; outputs must equal those of the
 * schedule that the compiler makes, bit for bit. A failure prints its seed.
 */

import { describe, expect, test } from "@jest/globals";
import { writeImage } from "../src/codegen/image/image.js";
import { importModel } from "../src/frontend/import.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import type { Plan } from "../src/ir/plan.js";
import { chosenEntry, type Program } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule, scheduleBy } from "../src/passes/schedule/schedule.js";
import { loadImage } from "../src/runtime/run.js";
import { blockGraph, blockInput } from "./changed.js";
import { COMMITTED } from "./committed.js";
import { planOf } from "./compiled.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const TARGET = TARGETS["lpu-v1"];
const SEEDS = [1, 2, 3];
/** No instance of a repeat is a model for others. */
const NO_MODEL = 2 ** 40;

type Inputs = Readonly<Record<string, Tensor>>;

const outputsOf = (program: Program, inputs: Inputs): Record<string, readonly number[]> => {
  const { outputs } = loadImage(writeImage(program)).entry().run(inputs);
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data, Number)]));
};

const randomProgramOf = (plan: Plan, seed: number): Program =>
  scheduleBy(plan, TARGET, {
    stagger: 0,
    nearWeights: 0,
    duplicates: 0.5,
    constants: "anywhere",
    model: NO_MODEL,
    thrift: "none",
    draw: seeded(seed),
  });

const hold = (graph: Graph, inputs: Inputs): void => {
  const { plan, program } = schedule(planOf(graph, TARGET), TARGET);
  const expected = outputsOf(program, inputs);
  const texts = new Set([JSON.stringify(program.entries[0]?.queues[0])]);
  for (const seed of SEEDS) {
    const drawn = randomProgramOf(plan, seed);
    checkSchedule(chosenEntry(drawn), plan);
    texts.add(JSON.stringify(drawn.entries[0]?.queues[0]));
    expect({ seed, outputs: outputsOf(drawn, inputs) }).toEqual({ seed, outputs: expected });
  }
  expect(texts.size).toBe(1 + SEEDS.length);
};

describe("outputs are the same by every schedule", () => {
  test.each(COMMITTED.map(({ name }) => name))("committed model %s", (name) => {
    const model = COMMITTED.find((one) => one.name === name);
    if (model !== undefined) hold(importModel(model.source(), { bind: model.bind }), model.inputs());
  });

  test("a block of two panels that uses every unit", () => {
    hold(blockGraph(40, 350, 330), { x: blockInput(40, 350) });
  });

  test.each([1, 2, 3])("random graph %i", (seed) => {
    const { builder, inputs } = new RandomGraph(seeded(seed), 8);
    hold(builder.finish(), inputs);
  });
});
