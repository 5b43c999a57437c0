/**
 * Selection: plans of models and random graphs are well formed (what a task reads was written, weights fill each column once),
 * and operands are found where a result needs them.
 */

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { buildModel } from "../models/families.js";
import { encodeModel } from "../models/onnx-writer.js";
import { CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import type { Run, Task } from "../src/ir/plan.js";
import { joinChunks } from "../src/host/build.js";
import { planProblems } from "../src/ir/plan/verify.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { fitOperand, type Located, type RowDigit, runsOf } from "../src/passes/select/layout/operand.js";
import type { Factor, View } from "../src/passes/select/layout/view.js";
import { planOf, type SmallName, smallSource } from "./compiled.js";
import { allIndices, placeOf } from "./places.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const rowsOf = (runs: readonly Run[]): number[] =>
  runs.flatMap(({ row, step, count }) => Array.from({ length: count }, (_, i) => row + i * step));

const REASONS = /^LPU(2001|2101|2201)$/;

describe("plans", () => {
  const models: readonly SmallName[] = ["bert", "gpt2", "llama", "vit"];

  test.each(models)("%s", (name) => {
    const plan = planOf(importModel(smallSource(name), { bind: {} }), TARGETS["lpu-v1"]);
    expect(planProblems(plan, TARGETS["lpu-v1"])).toEqual([]);
    expect(plan.tasks.length).toBeGreaterThan(20);
  });

  test.each<[TargetName, number, number]>([
    ["tiny", 1, 400],
    ["lpu-v1", 401, 100],
  ])("random graphs on %s", (target, first, count) => {
    const problems: string[] = [];
    for (let seed = first; seed < first + count; seed++) {
      try {
        const graph = new RandomGraph(seeded(seed), 7).builder.finish();
        problems.push(
          ...planProblems(planOf(graph, TARGETS[target]), TARGETS[target]).map((one) => `seed ${seed}: ${one}`),
        );
      } catch (error) {
        if (error instanceof CompileError && REASONS.test(error.code)) continue;
        problems.push(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    expect(problems).toEqual([]);
  });
});

describe("squares of a norm", () => {
  /** Tasks that store more than one result, of a decoder of 640 features (two panels) with so many tokens. */
  const besides = (seq: number): readonly Task[] => {
    const sizes = {
      layers: 1,
      hidden: 640,
      heads: 10,
      "kv-heads": 10,
      "head-size": 64,
      intermediate: 640,
      vocab: 64,
      seq,
    };
    const bytes = joinChunks(encodeModel(buildModel("llama", sizes)));
    const plan = planOf(importModel(bytesSource("llama", bytes), { bind: {} }), TARGETS["lpu-v1"]);
    expect(planProblems(plan, TARGETS["lpu-v1"])).toEqual([]);
    return plan.tasks.filter(({ outputs }) => outputs.length > 1);
  };

  test("leave the VXM beside a value of few rows, in both windows", () => {
    const tasks = besides(1);
    expect(tasks.map(({ outputs }) => outputs.length)).toEqual([3, 3, 3, 3]);
    for (const { outputs } of tasks) expect(new Set(outputs.map(({ panel, row }) => `${panel} ${row}`)).size).toBe(1);
  });

  test("are made of what is stored where rows are many", () => {
    expect(besides(64)).toEqual([]);
  });
});

describe("operands", () => {
  const digits = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: -3, max: 9 })), { maxLength: 4 });

  test("runs list the operand's row of every result row", () => {
    fc.assert(
      fc.property(digits, fc.nat(20), fc.nat(), fc.nat(), (list, row, a, b) => {
        let out = 1;
        const own = list.map(([extent, move]): RowDigit => {
          const digit = { extent, out, row: move };
          out *= extent;
          return digit;
        });
        const first = a % out;
        const count = 1 + (b % (out - first));
        const runs = runsOf({ digits: own.reverse(), row }, first, count);
        const want = Array.from({ length: count }, (_, i) =>
          own.reduce((sum, digit) => sum + (Math.floor((first + i) / digit.out) % digit.extent) * digit.row, row),
        );
        expect(rowsOf(runs)).toEqual(want);
        expect(runs.every((run) => run.count >= 1 && (run.count > 1 || run.step === 0))).toBe(true);
      }),
    );
  });

  /** What becomes of a dim: rows or lanes of the result; and in the operand the same, repeated, absent, or moved elsewhere. */
  const dim = fc.record({
    extent: fc.integer({ min: 1, max: 4 }),
    lane: fc.boolean(),
    operand: fc.constantFrom("same", "same", "same", "unit", "moved"),
  });

  test("an operand fits only where each of its elements is read in its place", () => {
    let fits = 0;
    const target = TARGETS.tiny;
    fc.assert(
      fc.property(
        fc.array(dim, { minLength: 1, maxLength: 4 }),
        fc.nat(2),
        fc.nat(2),
        fc.boolean(),
        (dims, panel, shift, everywhere) => {
          const result = layout(
            dims.map(({ extent, lane }) => ({ extent, lane })),
            0,
            panel * target.lanes,
          );
          const own = layout(
            dims.map(({ extent, lane, operand }) => ({
              extent: operand === "unit" ? 1 : extent,
              lane: operand === "moved" ? !lane : lane,
            })),
            shift,
            shift === 1 ? 3 : shift * target.lanes,
            result,
          );
          const shape = dims.map(({ extent, operand }) => (operand === "unit" ? 1 : extent));
          const onLanes = own.dims.some((factors) => factors.some((f) => f.column !== 0));
          const located: Located = {
            storage: 0,
            shape,
            view: own,
            ...(everywhere && !onLanes ? { repeated: "all" } : {}),
          };
          const full = dims.map(({ extent }) => extent);
          const fit = fitOperand(target, result, full, located);
          if (fit === undefined) return;
          fits++;
          for (const index of allIndices(full)) {
            const place = placeOf(result, index);
            const want = placeOf(
              own,
              index.map((at, axis) => (shape[axis] === 1 ? 0 : at)),
            );
            expect(rowsOf(runsOf(fit, place.row, 1))).toEqual([want.row]);
            const lane = place.column % target.lanes;
            const at = fit.fixedPanel ? fit.panelOffset : Math.floor(place.column / target.lanes) + fit.panelOffset;
            if (located.repeated === "all") expect(at).toBe(Math.floor(want.column / target.lanes));
            else expect(at * target.lanes + lane).toBe(want.column);
          }
        },
      ),
      { numRuns: 500 },
    );
    expect(fits).toBeGreaterThan(50);
  });
});

/** Dense rows in row-major order; lanes as `like` has them, or dense. */
function layout(
  dims: readonly { readonly extent: number; readonly lane: boolean }[],
  row: number,
  column: number,
  like?: View,
): View {
  let [nextRow, nextColumn] = [1, 1];
  const factors: Factor[][] = dims.map(() => []);
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    const { extent = 1, lane = false } = dims[axis] ?? {};
    if (extent === 1) continue;
    const known = like?.dims[axis]?.[0]?.column ?? 0;
    factors[axis] = [{ extent, row: lane ? 0 : nextRow, column: lane ? (known === 0 ? nextColumn : known) : 0 }];
    if (lane) nextColumn *= extent;
    else nextRow *= extent;
  }
  return { dims: factors, row, column };
}
