/** Plans of systems: from shapes alone, without weights; what they are made of, that their figures agree, and what is refused. */

import { describe, expect, test } from "@jest/globals";
import { buildModel } from "../models/families.js";
import { encodeModel } from "../models/onnx-writer.js";
import type { SizeName } from "../models/sizes.js";
import { CompileError } from "../src/diagnostics.js";
import { compile, plan, type PlanOptions, type SystemPlan } from "../src/index.js";
import { sramBytes, TARGETS } from "../src/ir/target.js";
import { stagesOf } from "../src/planner/stages.js";

const SIZES: Readonly<Partial<Record<SizeName, number>>> = {
  layers: 3,
  hidden: 128,
  heads: 4,
  "kv-heads": 4,
  intermediate: 256,
  vocab: 320,
  "tied-head": 0,
};

/** A decoder whose weights are not there. */
const decoder = (sizes: Readonly<Partial<Record<SizeName, number>>> = {}): Uint8Array =>
  new Uint8Array(
    Buffer.concat([...encodeModel(buildModel("llama", { ...SIZES, ...sizes }, { past: true }), "nowhere.data")]),
  );

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof CompileError) return error.code;
    throw error;
  }
  return "none";
};

const planned = (options: PlanOptions, sizes = {}): SystemPlan =>
  plan(decoder(sizes), { context: 64, weights: "fp8-e4m3", ...options });

/** What must be true of every plan. */
const expectWhole = (made: SystemPlan): void => {
  const { stages, kinds, cycles, rate, clockMHz, tensor } = made;
  const parts = kinds.reduce((sum, { count }) => sum + count, 0);
  expect(stages.map(({ first }) => first)).toEqual([0, ...stages.slice(0, -1).map(({ end }) => end)]);
  expect(stages.at(-1)?.end).toBe(parts);
  expect(kinds.reduce((sum, kind) => sum + kind.count * kind.cycles, 0)).toBe(cycles.stages);
  expect(cycles.total).toBe(cycles.stages + cycles.hops);
  expect(cycles.floor).toBeLessThan(cycles.stages);
  expect(rate.user).toBeCloseTo((clockMHz * 1e6) / cycles.total, 6);
  expect(rate.userWithHost).toBeLessThan(rate.user);
  expect(new Set(stages.flatMap(({ chips }) => chips)).size).toBe(made.chips);
  for (const { chips } of stages) expect([1, tensor]).toContain(chips.length);
  expect(stages.map(({ hop }) => hop === null)).toEqual(stages.map((_, index) => index === stages.length - 1));
  for (const { constants, states, results } of stages)
    expect(constants + states + results).toBeLessThanOrEqual(made.sram.capacity);
};

describe("a decoder without weights", () => {
  test("on groups of four: alike layers are one kind, and every figure follows from the parts", () => {
    const made = planned({ system: "line-2", tensor: 4 }, { hidden: 512, heads: 8, "kv-heads": 8, intermediate: 2048 });
    expectWhole(made);
    expect(made).toMatchObject({ unit: "token", batch: 1, context: 64, tensor: 4, systemChips: 16 });
    // Attention and the gated part of three layers, the first of which takes the embedding, and the head.
    expect(made.kinds.map(({ count }) => count)).toEqual([1, 3, 2, 1]);
    expect(made.kinds.every(({ source, chips }) => source === "scheduled" && (chips === 4 || chips === 1))).toBe(true);
    expect(made.kinds.map(({ states }) => states > 0)).toEqual([true, false, true, false]);
    expect(made.users).toMatchObject({ busy: made.stages.length });
    expect(made.links.within).toBeGreaterThan(0);
    expect(made.cost).toBeNull();
  });

  test("the same plan each time, and of more layers the same kinds", () => {
    const [one, other] = [planned({ system: "node2" }), planned({ system: "node2" })];
    expect(other).toEqual(one);
    const longer = planned({ system: "node2" }, { layers: 6 });
    const cyclesOf = ({ kinds }: SystemPlan): number[] => kinds.map(({ cycles }) => cycles);
    expect(cyclesOf(longer)).toEqual(cyclesOf(one));
    expect(longer.cycles.stages).toBeGreaterThan(1.7 * one.cycles.stages);
  });

  test("one chip a stage: a pipeline along a node, and the smallest system where none is named", () => {
    const line = planned({ system: "node4", tensor: 1 });
    expectWhole(line);
    expect(line.stages.length).toBe(4);
    expect(line.kinds.every(({ linkBusy }) => linkBusy === 0)).toBe(true);
    expect(line.stages.slice(0, -1).every(({ hop }) => (hop?.wires ?? 0) > 0)).toBe(true);
    expect(planned({ tensor: 1 })).toMatchObject({ system: "card", chips: 1 });
  });

  test("a schedule of one part is what the compiler makes of it", () => {
    const { kinds } = planned({ system: "card", weights: "fp16" }, { layers: 1 });
    const whole = buildModel("llama", { ...SIZES, layers: 1 }, { past: true });
    const model = new Uint8Array(Buffer.concat([...encodeModel(whole)]));
    const bind = { sequence_length: 1, past_sequence_length: 64, total_sequence_length: 65 };
    const { report } = compile(model, { bind });
    const stateful = compile(model, { bind, state: "auto" }).report;
    // A build that has room has them in both hemispheres.
    expect(2 * kinds.reduce((total, { states }) => total + states, 0)).toBe(stateful.sram.states);
    const sum = kinds.reduce((total, { cycles }) => total + cycles, 0);
    // Parts do not overlap in a plan, and a build also moves the past to the outputs.
    expect(sum).toBeGreaterThan(0.7 * report.cycles);
    expect(sum).toBeLessThan(1.5 * report.cycles);
  });

  test("where no system is named, the smallest; chips that share nothing do not work", () => {
    expect(planned({})).toMatchObject({ system: "card", chips: 1, tensor: 1 });
    const [card, node8] = [planned({ system: "card" }), planned({ system: "node8" })];
    expect(node8.kinds.every(({ chips }) => chips === 1)).toBe(true);
    expect(node8).toMatchObject({ chips: node8.stages.length, systemChips: 8, power: card.power });
    expect(planned({ stages: 3, tensor: 1 })).toMatchObject({ system: "node4", chips: 3 });
    expect(planned({ tensor: 2 })).toMatchObject({ system: "node2", tensor: 2 });
  });

  test("prices give the cost of a million tokens, and more users share the chips", () => {
    const prices = { chip: 1000, kwh: 0.2 };
    const [one, four] = [1, 4].map((batch) => planned({ system: "card", prices }, { batch }));
    expect(one?.cost?.total).toBeCloseTo((one?.cost?.chips ?? 0) + (one?.cost?.energy ?? 0), 9);
    expect(four?.batch).toBe(4);
    expect(four?.rate.system ?? 0).toBeGreaterThan(one?.rate.system ?? 0);
    expect(four?.cost?.total ?? 0).toBeLessThan(one?.cost?.total ?? 0);
  });

  test("a product is shared along rows and columns at once where that fills the arrays better", () => {
    // No chip holds the weights. An eighth of the columns is 5.25 panels of 320, and a half of them 21.
    const [rows, panels, passes] = [256, 42, 50];
    const model = buildModel("matmul", { m: rows, k: 160 * passes, n: 320 * panels });
    const made = plan(new Uint8Array(Buffer.concat([...encodeModel(model, "nowhere.data")])), { system: "node8" });
    expect(made.kinds).toMatchObject([{ chips: 8, beside: 2, source: "scheduled", linkBusy: 0 }]);
    expect(made.assumptions.join()).toMatch(/along rows and columns/);
    const alongColumns = (rows * passes * Math.ceil(panels / 8)) / 2;
    expect(made.cycles.total).toBeLessThan(alongColumns);
    expect(made.sram.constants).toBe((160 * passes * 320 * panels * 2) / 2);
  });

  test("of an encoder a run is planned", () => {
    const model = buildModel("bert", { layers: 2, hidden: 64, heads: 2, intermediate: 128, vocab: 100, seq: 16 });
    const made = plan(new Uint8Array(Buffer.concat([...encodeModel(model, "nowhere.data")])), { system: "node2" });
    expectWhole(made);
    expect(made).toMatchObject({ unit: "run", context: null, users: null, firstTokenMicroseconds: null });
  });
});

describe("refused", () => {
  test("weights that are not there, in a build", () => {
    expect(codeOf(() => compile(decoder(), { bind: {} }))).toBe("LPU1004");
    const bind = { sequence_length: 1, past_sequence_length: 64, total_sequence_length: 65 };
    expect(codeOf(() => compile(decoder(), { bind }))).toBe("LPU1007");
  });

  test("a system that does not hold the model, by how much, and what does", () => {
    const large = { layers: 40 };
    const target = "tiny";
    let said: CompileError | undefined;
    try {
      planned({ system: "node2", tensor: 1, target }, large);
    } catch (error) {
      if (error instanceof CompileError) said = error;
    }
    expect(said?.code).toBe("LPU2008");
    expect(said?.message).toMatch(/the model needs [\d.]+ MiB of SRAM, system 'node2' has room .* [\d.]+ MiB too much/);
    expect(said?.details.hint).toMatch(/--system node8/);
  });

  test("weights beyond any chip at once, before anything is scheduled, with the smallest system that may hold them", () => {
    const scheduled: string[] = [];
    const onPart = (part: string): void => void scheduled.push(part);
    const large = { layers: 4, hidden: 4096, heads: 32, "kv-heads": 32, intermediate: 11008 };
    for (const system of ["card", "node2"] as const)
      expect(() => planned({ system, onPart }, large)).toThrow(/needs [\d.]+ MiB of SRAM, system '\w+' has room for/);
    expect(scheduled).toEqual([]);
  });

  test("the system that is named holds weights with the rows that they fill up, before anything is scheduled", () => {
    const scheduled: string[] = [];
    const hintOn = (system: "card" | "node2", onPart?: PlanOptions["onPart"]): string | undefined => {
      try {
        planned({ system, tensor: 1, target: "tiny", onPart }, { layers: 19 });
      } catch (error) {
        if (error instanceof CompileError) return error.details.hint;
        throw error;
      }
      return undefined;
    };
    expect(hintOn("card", (part) => void scheduled.push(part))).toMatch(/--system node4$/);
    expect(scheduled).toEqual([]);
    expect(hintOn("node2")).toMatch(/--system node4$/);
  });

  test("degrees that divide no node, sizes that the file has otherwise", () => {
    expect(codeOf(() => planned({ system: "line-2", tensor: 3 }))).toBe("LPU2007");
    expect(codeOf(() => planned({ system: "card", batch: 2 }))).toBe("LPU1005");
    expect(codeOf(() => planned({ system: "card", fix: { nothing: [1] } }))).toBe("LPU1005");
  });
});

describe("stages", () => {
  const parts = [3, 1, 2, 2, 1, 3].map((cycles) => ({ cycles, constants: cycles, states: 0, results: 1 }));
  const ends = (most: number, capacity = 100): number[] | undefined =>
    stagesOf(parts, most, capacity)?.map(({ end }) => end);

  test("are as short as can be, and as few", () => {
    expect(ends(1)).toEqual([6]);
    expect(ends(2)).toEqual([3, 6]);
    expect(ends(3)).toEqual([2, 4, 6]);
    expect(ends(9)?.length).toBe(4);
  });

  test("have room, or are none", () => {
    expect(ends(6, 4)?.length).toBe(4);
    expect(ends(3, 4)).toBeUndefined();
    expect(ends(6, 3)).toBeUndefined();
    expect(sramBytes(TARGETS["lpu-v1"])).toBe(230686720);
  });
});
