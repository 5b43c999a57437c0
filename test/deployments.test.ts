/** Which chips a build takes where it is not told: the fewest that hold the model, and of them those whose schedule is the shortest. */

import { describe, expect, test } from "@jest/globals";
import { buildModel } from "../models/families.js";
import { encodeModel } from "../models/onnx-writer.js";
import { compile } from "../src/compile.js";
import { deploymentsOf } from "../src/deployments.js";
import { bytesSource } from "../src/frontend/source.js";
import { checkModel } from "../src/host/check.js";
import { LEAST_GAIN } from "../src/ir/facts.js";
import { TARGETS } from "../src/ir/target.js";
import type { CompileOptions } from "../src/options.js";
import { summaryLines } from "../src/report/summary.js";
import { smallSource, verdict } from "./compiled.js";

const V1 = TARGETS["lpu-v1"];

const setsOf = (options: Parameters<typeof deploymentsOf>[0], target = V1): string[] =>
  deploymentsOf(options, target).map((set) =>
    set.map(({ members, stages }) => `${members}: ${stages.join(" ")}`).join(", "),
  );

describe("deployments", () => {
  test("of nothing that is asked for are those of one node, the fewest chips first, and none twice", () => {
    expect(setsOf({})).toEqual(["1: 1", "1: 2, 2: 1", "1: 3 4, 2: 2, 4: 1", "1: 5 6 7 8, 2: 3 4, 4: 2, 8: 1"]);
    expect(setsOf({}, TARGETS.tiny).slice(0, 2)).toEqual(["1: 1", "1: 2, 2: 1"]);
  });

  test("of chips or of a system are all that can be made of them", () => {
    expect(setsOf({ chips: 3 })).toEqual(["1: 1 2 3, 2: 1"]);
    expect(setsOf({ system: "node4" })).toEqual(["1: 1 2 3 4, 2: 1 2, 4: 1"]);
    expect(setsOf({ system: "node4", dead: [1] })).toEqual(["1: 1 2 3, 2: 1"]);
    expect(setsOf({ system: "node8", chips: 2 })).toEqual(["1: 1 2, 2: 1"]);
    // Of more than a node chips work one behind the other.
    expect(setsOf({ chips: 10 })).toEqual(["1: 1 2 3 4 5 6 7 8 9 10"]);
  });

  test("that are asked for stand beside one chip in each stage", () => {
    expect(setsOf({ stages: 3 })).toEqual(["1: 3"]);
    expect(setsOf({ tensor: 2 })).toEqual(["2: 1, 1: 1"]);
    expect(setsOf({ tensor: 2, stages: 2 })).toEqual(["2: 2, 1: 2"]);
    expect(setsOf({ tensor: 2, system: "node4" })).toEqual(["2: 1 2, 1: 1 2 3 4"]);
    expect(setsOf({ stages: "auto", chips: 2 })).toEqual(["1: 1 2"]);
  });

  test("of more chips than there are, or fewer than are asked for, are refused", () => {
    expect(verdict(() => setsOf({ system: "node2", chips: 3 }))).toMatch(/^LPU2007: .*at most 2/);
    expect(verdict(() => setsOf({ system: "node8", dead: [1], chips: 8 }))).toMatch(/^LPU2007: .*at most 7/);
    expect(verdict(() => setsOf({ chips: 3, tensor: 2, stages: 2 }))).toMatch(/^LPU2007: 2 stages of 2 chips/);
    expect(verdict(() => setsOf({ chips: 1, tensor: 2 }))).toMatch(/^LPU2007/);
    expect(verdict(() => setsOf({ system: "node2", tensor: 4 }))).toMatch(/^LPU2007/);
    expect(verdict(() => setsOf({ system: "rack" }, TARGETS.tiny))).toMatch(/^LPU2007/);
  });
});

/** Of 3 MiB in fp16, which takes two chips of `tiny`. */
const LARGE = bytesSource(
  "large",
  new Uint8Array(
    Buffer.concat([
      ...encodeModel(buildModel("bert", { layers: 2, hidden: 256, heads: 4, intermediate: 1024, vocab: 40, seq: 4 })),
    ]),
  ),
);

describe("a model", () => {
  // That it is built so is in cycles.txt, where the storyteller takes several chips of `tiny`.
  test("goes on the fewest chips that hold it", () => {
    expect(verdict(() => compile(LARGE, { target: "tiny", chips: 1 }))).toMatch(/^LPU2001/);
    expect(checkModel(LARGE, { target: "tiny" })).toMatchObject({ problems: [], chips: 2 });
    expect(checkModel(LARGE, { target: "tiny", chips: 1 }).problems.map(({ code }) => code)).toEqual(["LPU2001"]);
  });

  test("is scheduled in the two most promising ways to share, and on one chip", () => {
    const scheduled: (number | undefined)[] = [];
    const onPlan = (_: unknown, stage?: number): void => void scheduled.push(stage);
    const { sharding } = compile(smallSource("bert"), { target: "unit-latency", system: "node8", onPlan }).report;
    expect([scheduled.length, sharding?.chips, sharding?.runnerUp.chips]).toEqual([3, 8, 4]);
  });

  test("takes of the chips that it may have those that make it fast, and says what else was scheduled", () => {
    const options: CompileOptions = { target: "unit-latency", system: "node2" };
    const { report } = compile(smallSource("gpt2"), options);
    const { sharding } = report;
    expect(sharding).toMatchObject({
      chips: 2,
      asked: 2,
      by: "schedule",
      stages: 1,
      runnerUp: { chips: 1, stages: 1 },
    });
    expect(report.cycles).toBe(sharding?.cycles);
    expect(report.cycles).toBeLessThanOrEqual((1 - LEAST_GAIN) * (sharding?.runnerUp.cycles ?? 0));
    expect(summaryLines(report).join("\n")).toMatch(/shared among 2 chips, .*; cycles: [\d,]+ on 2, [\d,]+ on one/);
    const one = compile(smallSource("gpt2"), { ...options, target: "lpu-v1" }).report;
    expect(one).toMatchObject({ chips: 1, sharding: { chips: 1 } });
  });
});
