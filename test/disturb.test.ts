/**
 * Wires that are disturbed: vectors that come early change nothing, on either machine, and a bit that flips is found, said, and
 * made good by doing the run again.
 */

import { describe, expect, test } from "@jest/globals";
import { parseAssembly } from "../src/codegen/listing/assemble.js";
import { readImage } from "../src/codegen/image/image.js";
import { compile } from "../src/compile.js";
import { at } from "../src/diagnostics.js";
import { joinChunks } from "../src/host/build.js";
import { chosenEntry } from "../src/ir/program.js";
import { linkDelay, TARGETS } from "../src/ir/target.js";
import { fetchOutput, placeInput } from "../src/runtime/binding.js";
import { arrivalOf, type Disturbance, EARLIEST } from "../src/runtime/disturb.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { loadProgram } from "../src/runtime/run.js";
import { loadedSram, smallInputs, smallSource, verdict } from "./compiled.js";

const { tiny } = TARGETS;

test("vectors come up to the spread before the schedule counts on them, and clocks drift slowly", () => {
  for (const seed of [1, 2, 3]) {
    const early = Array.from(
      { length: 4000 },
      (_, n) => 27 * n + linkDelay(tiny) - arrivalOf(tiny, seed, 1, 3, 27 * n),
    );
    expect({ seed, least: Math.min(...early), most: Math.max(...early) }).toEqual({ seed, least: 0, most: EARLIEST });
  }
  expect(arrivalOf(tiny, undefined, 1, 3, 50)).toBe(50 + linkDelay(tiny));
  const fast = TARGETS["unit-latency"];
  for (let n = 0; n < 100; n++) expect(arrivalOf(fast, 7, 0, 0, n)).toBeGreaterThan(n);
});

describe("a program on two chips", () => {
  const program = readImage(
    joinChunks(compile(smallSource("bert"), { target: "tiny", system: "node2", stages: 2 }).image()),
  );
  const entry = at(program.entries, 0, "entry");
  const inputs = smallInputs("bert");
  const literal = (disturbed: Disturbance) => {
    const sram = loadedSram(program);
    for (const binding of entry.inputs) placeInput(binding, at([inputs[binding.name] ?? []].flat(), 0, "input"), sram);
    const { cycles } = runLiteral({ ...chosenEntry(program), disturbed }, sram);
    return { cycles, outputs: entry.outputs.map((binding) => fetchOutput(binding, sram)) };
  };
  const linked = (disturbed: Disturbance, threads = 1) => {
    const model = loadProgram(program, { ...disturbed, threads });
    const runs = [1, 2].map(() => {
      const { cyclesByChip: cycles, outputs, replays } = model.entry().run(inputs);
      return { cycles, outputs: Object.values(outputs), replays };
    });
    model.close();
    return runs;
  };
  const [undisturbed] = linked({});

  test("gives the same bits and cycles with jitter and drift", () => {
    expect({ ...literal({ jitter: 1 }), replays: [] }).toEqual(undisturbed);
    for (const seed of [1, 2, 3])
      expect({ seed, runs: linked({ jitter: seed }, seed) }).toEqual({ seed, runs: [undisturbed, undisturbed] });
  });

  test("finds a bit that flips, once, and runs again", () => {
    const flip = { cycle: 0, bit: 77 };
    const told = verdict(() => literal({ flip }));
    expect(told).toMatch(/^LPU4018: .*chip 1 .*receive/s);
    for (const threads of [1, 2])
      expect(linked({ flip }, threads)).toEqual([{ ...undisturbed, replays: [told] }, undisturbed]);
  });

  test("says that nothing is sent so late", () => {
    expect(verdict(() => linked({ flip: { cycle: 1e6, bit: 0 } }))).toMatch(/^LPU4037: .*1000000/);
  });
});

test("a run that is done again finds the states that it found before", () => {
  const count = JSON.stringify([
    {
      ...{ dtype: "u8", factors: [{ dim: 0, divide: 1, extent: tiny.lanes, row: 0, column: 1 }] },
      ...{
        rows: 1,
        columns: tiny.lanes,
        ways: 1,
        panels: [{ planes: [{ chip: 0, hemisphere: "W", slice: 0, row: 7 }] }],
      },
    },
  ]);
  // Chip 0 counts, and sends what the count was.
  const counting = parseAssembly(`.target tiny
    .link 0.0 1.0
    .state "count" u8 [${tiny.lanes}] ${count}
    .entry "step"
    .chip 0
    mem.w0:
      40 read 7 e0
      45 read 7 w0
      50 write 7 w4
    vxm.0:
      46 binary addInt e0 u8 1 i32 w4 as=u8
    sxm.w0:
      50 send w0 0
    .chip 1
    sxm.w0:
      270 receive 0 e0`);
  const model = loadProgram(counting, { flip: { cycle: 0, bit: 3 } });
  const runs = [1, 2].map(() => model.entry().run({}).replays.length);
  expect(runs).toEqual([1, 0]);
  expect(model.snapshot()["count"]?.data[5]).toBe(2);
});
