/** Plans as texts: what is read back is what was printed, it makes the same program, and what is wrong in one is named. */

import { describe, expect, test } from "@jest/globals";
import { writeImage } from "../src/codegen/image/image.js";
import { CompileError } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { parseGraph } from "../src/ir/parse.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { planProblems, verifyPlan } from "../src/ir/plan/verify.js";
import { TARGETS } from "../src/ir/target.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { select } from "../src/passes/select/select.js";
import { planOf, type SmallName, smallSource } from "./compiled.js";
import { check, goldenFiles } from "./golden.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const target = TARGETS["lpu-v1"];

describe("goldens", () => {
  test.each(goldenFiles("plans", ".tir"))("%s", (path) =>
    check(path, (command, input) => {
      expect(command).toBe("select --target tiny");
      return printPlan(select(parseGraph(input), TARGETS.tiny));
    }),
  );
});

describe("a plan and its text", () => {
  test.each<SmallName>(["bert", "gpt2", "llama", "vit"])("%s: the same image", (name) => {
    const plan = planOf(importModel(smallSource(name), { bind: {} }), target);
    const text = printPlan(plan);
    const again = parsePlan(text, { literals: plan.literals });
    expect(printPlan(again)).toBe(text);
    const [image, expected] = [again, plan].map((one) => Buffer.from(writeImage(schedule(one, target).program)));
    expect(image?.equals(expected ?? Buffer.of())).toBe(true);
  });

  test("random graphs", () => {
    let planned = 0;
    for (let seed = 1; seed <= 150; seed += 1) {
      const text = textOf(seed);
      if (text === undefined) continue;
      planned += 1;
      expect({ seed, text: printPlan(parsePlan(text)) }).toEqual({ seed, text });
    }
    expect(planned).toBeGreaterThan(100);
  });

  test("without weights a plan can be scheduled, and its image says what is missing", () => {
    const plan = planOf(importModel(smallSource("bert"), { bind: {} }), target);
    const { program } = schedule(parsePlan(printPlan(plan)), target);
    expect(program.entries[0]?.cycles).toEqual(schedule(plan, target).program.entries[0]?.cycles);
    expect(() => writeImage(program)).toThrow(/^LPU3010: expected the contents of literal/);
  });
});

const textOf = (seed: number): string | undefined => {
  try {
    return printPlan(planOf(new RandomGraph(seeded(seed), 7).builder.finish(), TARGETS.tiny));
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
};

const GOOD = `plan @main {
  macs 32
  literal "w": f16[4,2]
  origin "MatMul"
  storage 0: input f16 4 x 1 "x"
  storage 1: temp f16 4 x 1 "y" output
  storage 2: constant f16 1 x 1 "b" = spread "w" rows [] from 0
  input "x": f16[4,4] in 0 from 0 by [[0, 1, 4, 1, 0], [1, 1, 4, 0, 1]]
  output "y": f16[4,2] in 1 from 0 by [[0, 1, 4, 1, 0], [1, 1, 2, 0, 1]]
  task "MatMul": 4 rows {
    pass 0/0 low [0:4] by tile 2 blocks "w" times 1 width 2 [[0, 0, 4, 0, 0, 2, 0]]
    v0 = 2/0 [0:4:0]
    a0 = add(mxm, v0)
    a1 = relu(a0)
    a1 -> 1/0 from 0
  }
}
`;

describe("what is wrong in a plan is named", () => {
  test("nothing", () => {
    expect(printPlan(parsePlan(GOOD))).toBe(GOOD);
    expect(planProblems(parsePlan(GOOD), target)).toEqual([]);
    verifyPlan(parsePlan(GOOD), target);
    const wrong = parsePlan(GOOD.replace("a1 -> 1/0 from 0", "a2 -> 1/0 from 1"));
    expect(() => verifyPlan(wrong, target)).toThrow(/^LPU2225: task 0 \(MatMul\): writes the result of no operation/);
  });

  test.each<[string, string, RegExp]>([
    ["v0 = 2/0 [0:4:0]", "v0 = 2/0 [0:4]", /a leaf reads row 1 of panel 0 of storage 2 \('b'\), which nothing wrote/],
    ["v0 = 2/0 [0:4:0]", "v0 = 2/0 [0:3:0]", /a leaf reads 3 vectors, needs 4/],
    ["v0 = 2/0 [0:4:0]", "v0 = 1/0 [0:4]", /reads row 0 of panel 0 of storage 1/],
    ["a1 -> 1/0 from 0", "a1 -> 1/0 from 1", /writes rows 1 to 4 of storage 1, which has 4/],
    ["a1 -> 1/0 from 0", "a1 -> 1/0 from 0\n    a0 -> 1/0 from 0", /writes rows of storage 1 again/],
    ["a1 -> 1/0 from 0", "a2 -> 1/0 from 0", /writes the result of no operation/],
    ["    a1 -> 1/0 from 0\n", "", /writes nothing(?:.|\n)*output 'y' is not written whole/],
    ["add(mxm, v0)", "add(mxm)", /add of 1 operands/],
    ["add(mxm, v0)", "add(a1, v0)", /operation 0 takes a later one/],
    ["add(mxm, v0)", "add(mxm, v1)", /operation 0 takes no leaf/],
    ["add(mxm, v0)", "add(mxm map 0, v0)", /through no map/],
    ["tile 2 blocks", "tile 1 blocks", /a block that leaves its tile/],
    ["tile 2 blocks", "tile 2 f8e4m3 blocks", /a tile of f8e4m3 that no literal of this type is/],
    ['literal "w"', 'literal "v"', /no literal w(?:.|\n)*a tile of no literal of the plan/],
    ["storage 0: input f16", "storage 0: input f32", /activations are not fp16/],
    ['"b" = spread "w" rows [] from 0', '"b"', /constants have recipes/],
    ["rows [] from 0", "rows [[2, 1, 1]] from 0", /1 rows, and a recipe of 2/],
    ["tile 2 blocks", "rows {0/0 low [0:4] lanes [0:200] column 0} by tile 2 blocks", /LPU3010/],
    [
      'tile 2 blocks "w" times 1 width 2 [[0, 0, 4, 0, 0, 2, 0]]',
      "rows {0/0 low [0:4] lanes [0:200] column 0, 0/0 low [0:1] lanes [0:4] column 3}",
      /lanes 0 to 199 of a half(?:.|\n)*column 3 is loaded twice/,
    ],
  ])("%s made %s", (from, to, problem) => {
    expect(GOOD).toContain(from);
    const problems = (): string => {
      try {
        return planProblems(parsePlan(GOOD.replace(from, to)), target).join("\n");
      } catch (error) {
        return String(error);
      }
    };
    expect(problems()).toMatch(problem);
  });

  test.each([
    ["storage 1: temp", "storage 2: temp", "LPU3010: expected storage 1, got 2"],
    ["relu(a0)", "gelu(a0)", "expected a function of an ALU, got 'gelu'"],
    ["4 rows {", "4 rows [", "expected '{', got '['"],
    ["macs 32", "maks 32", "expected macs, literal, origin, storage, map, input, output, state, task, got 'maks'"],
  ])("%s made %s does not parse", (from, to, message) => {
    expect(() => parsePlan(GOOD.replace(from, to))).toThrow(message);
  });
});
