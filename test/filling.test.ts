/**
 * Random graphs that fill the machine: last dims of one to three panels, and one more or less, masked rows, integers, truth
 * values, numbers of several magnitudes. Each is compiled, checked against its plan, and run on both machines against
 * `evaluate`. A failure prints its seed: `new RandomGraph(seeded(seed), STEPS, lanes)`.
 */

import { describe, expect, test } from "@jest/globals";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { select } from "../src/passes/select/select.js";
import { legalGraph } from "./compiled.js";
import { randomGraphVerdict } from "./random-check.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const STEPS = 6;

/** How many seeds; how many graphs must be accepted, and how many of them have a value of several panels, at least. */
const CASES: readonly {
  readonly target: TargetName;
  readonly seeds: number;
  readonly ok: number;
  readonly wide: number;
}[] = [
  { target: "tiny", seeds: 24, ok: 22, wide: 16 },
  { target: "lpu-v1", seeds: 4, ok: 3, wide: 3 },
];

describe.each(CASES)("on $target", ({ target: name, seeds, ok, wide }) => {
  const target = TARGETS[name];
  const graphs = Array.from({ length: seeds }, (_, index) => {
    const { builder, inputs } = new RandomGraph(seeded(index + 1), STEPS, target.lanes);
    return { seed: index + 1, graph: builder.finish(), inputs };
  });

  test("all that is accepted is right, and nearly all is", () => {
    const verdicts = graphs.map(({ seed, graph, inputs }) => `${seed} ${randomGraphVerdict(graph, inputs, target)}`);
    expect(verdicts.filter((verdict) => !/^\d+ (ok|refused: .*)$/.test(verdict))).toEqual([]);
    expect(verdicts.filter((verdict) => verdict.endsWith(" ok")).length).toBeGreaterThanOrEqual(ok);
  });

  test("most have values of several panels", () => {
    const several = graphs.filter(({ graph }) =>
      select(legalGraph(graph, target), target).storages.some(({ panels }) => panels > 1),
    );
    expect(several.length).toBeGreaterThanOrEqual(wide);
  });
});
