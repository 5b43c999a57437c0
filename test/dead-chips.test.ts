/** Chips that do not work: lines and groups are of the others, no wire of theirs is used, and what is left says whether it is enough. */

import { describe, expect, test } from "@jest/globals";
import { buildModel } from "../models/families.js";
import { encodeModel } from "../models/onnx-writer.js";
import { compile } from "../src/compile.js";
import { joinChunks } from "../src/host/build.js";
import { plan, type PlanOptions, type SystemPlan } from "../src/index.js";
import { groupsIn, isSystem, livingChips, type SystemName, systemOf } from "../src/ir/system.js";
import { TARGETS } from "../src/ir/target.js";
import { pipelineOf } from "../src/pipeline.js";
import { loadImage } from "../src/runtime/run.js";
import { chipsInLine, hopsFrom } from "../src/system/routes.js";
import { smallInputs, smallSource, verdict } from "./compiled.js";
import { seeded } from "./random-program.js";

const V1 = TARGETS["lpu-v1"];

describe("a line", () => {
  test.each(["node8", "rack", "line-12"].filter(isSystem))("of %s goes through all that work, whichever do", (name) => {
    const count = systemOf(name, V1).chips;
    for (let seed = 1; seed <= 4; seed++) {
      const random = seeded(seed);
      const dead = Array.from({ length: 1 + random(count / 8 + 1) }, () => random(count));
      // A whole node too, where there are several.
      if (count > 8) dead.push(...Array.from({ length: 8 }, (_, chip) => 8 * random(count / 8) + chip));
      const system = systemOf(name, V1, dead);
      const living = livingChips(name, dead);
      const line = chipsInLine(system, living.length);
      expect({ seed, line: [...line].sort((a, b) => a - b) }).toEqual({ seed, line: living });
      for (const [at, chip] of line.entries())
        if (at > 0) expect({ seed, hops: hopsFrom(system, line[at - 1] ?? 0)[chip] }).toEqual({ seed, hops: 1 });
    }
  });

  test("of a ring begins on one side of what is dead, and ends on the other", () => {
    const ring = systemOf("node8", TARGETS.tiny, [3]);
    expect(chipsInLine(ring, 7)).toEqual([2, 1, 0, 7, 6, 5, 4]);
    expect(hopsFrom(ring, 2)[4]).toBe(6);
    expect(verdict(() => chipsInLine(systemOf("node8", TARGETS.tiny, [3, 6]), 6))).toMatch(/^LPU2007/);
    expect(hopsFrom(systemOf("node8", TARGETS.tiny, [3, 6]), 2)[4]).toBe(Number.POSITIVE_INFINITY);
  });
});

test("names of systems that there are not say what their number may be", () => {
  for (const name of ["dragonfly-20", "dragonfly-10512", "line-1", "line-1306", "line-99999"]) {
    expect(isSystem(name)).toBe(false);
    const [kind] = name.split("-");
    expect(verdict(() => systemOf(name as SystemName, V1))).toMatch(
      kind === "line" ? "nodes, 2 to 1305" : "a multiple of 8 up to 264, or of 72 up to 10440",
    );
  }
  expect(["line-2", "line-1305", "dragonfly-16", "dragonfly-10440"].every(isSystem)).toBe(true);
  expect(verdict(() => systemOf("node9" as SystemName, V1))).toMatch(/^LPU2007: unknown system 'node9'$/);
});

test("groups are of chips that work, each within a node", () => {
  const system = systemOf("line-2", V1, [2, 9, 10, 11, 12, 13]);
  expect(groupsIn(system, 4)).toEqual([[0, 1, 3, 4]]);
  expect(groupsIn(system, 2)).toEqual([
    [0, 1],
    [3, 4],
    [5, 6],
    [8, 14],
  ]);
  expect(groupsIn(system, 8)).toEqual([]);
});

test("a program on the others gives the same bits in as many cycles", () => {
  const inputs = smallInputs("gpt2");
  const [whole, rest] = [undefined, [0, 3]].map((dead) => {
    const { image } = compile(smallSource("gpt2"), { system: "node8", stages: 2, tensor: 2, dead });
    const { outputs, cycles } = loadImage(joinChunks(image())).entry().run(inputs);
    return { outputs, cycles };
  });
  expect(rest).toEqual(whole);
});

describe("a plan", () => {
  const sizes = { layers: 3, hidden: 128, heads: 4, "kv-heads": 4, intermediate: 256, vocab: 320, "tied-head": 0 };
  const decoderOf = (own: typeof sizes): Uint8Array =>
    new Uint8Array(Buffer.concat([...encodeModel(buildModel("llama", own, { past: true }), "nowhere")]));
  const planned = (options: PlanOptions): SystemPlan => plan(decoderOf(sizes), { context: 64, ...options });

  test("has groups of chips that work, and skips a node", () => {
    const dead = [0, 8, 9, 10, 11, 12, 13, 14, 15];
    const made = planned({ system: "line-3", tensor: 4, stages: 2, dead });
    expect(made).toMatchObject({ systemChips: 24, dead });
    const groups = groupsIn(systemOf("line-3", V1, dead), 4);
    expect(groups).toEqual([
      [1, 2, 3, 4],
      [16, 17, 18, 19],
      [20, 21, 22, 23],
    ]);
    for (const [stage, { chips }] of made.stages.entries())
      expect(groups[stage]).toEqual(expect.arrayContaining([...chips]));
    expect(made.cycles.total).toBeLessThan(Number.POSITIVE_INFINITY);
    // Where no node has all its chips, fewer share.
    expect(planned({ system: "node8", stages: 1, dead: [7] }).tensor).toBe(4);
  });

  test("says what is not enough", () => {
    expect(verdict(() => planned({ dead: [1] }))).toMatch(/^LPU2007: expected a system/);
    expect(verdict(() => planned({ system: "node8", dead: [8] }))).toMatch(/^LPU2007: .*from 0 to 7/);
    expect(verdict(() => planned({ system: "node2", dead: [0, 1] }))).toMatch(/^LPU2007: .*all 2 are dead/);
    expect(verdict(() => planned({ system: "node8", tensor: 8, dead: [1] }))).toMatch(/^LPU2007: .*8 chips that work/);
    const wide = { ...sizes, hidden: 1024, intermediate: 16384 };
    const on = (dead: readonly number[]) => plan(decoderOf(wide), { context: 64, system: "node2", tensor: 1, dead });
    expect(verdict(() => on([1]))).toMatch(/^LPU2008: .* 1 chip of system 'node2' has room for 207 MiB/);
  });
});

test("a pipeline is of no more chips than work", () => {
  expect(pipelineOf({ system: "node8", dead: [5], stages: 7 }, V1).hops.length).toBe(6);
  expect(verdict(() => pipelineOf({ system: "node2", dead: [0], stages: 2 }, V1))).toMatch(/^LPU2007: .*at most 1/);
  expect(verdict(() => pipelineOf({ system: "node8", dead: [5], tensor: 8, stages: 1 }, V1))).toMatch(/^LPU2007/);
});
