/**
 * The report of a program that is small enough to count by hand.
 */

import { describe, expect, test } from "@jest/globals";
import { parseGraph } from "../src/ir/parse.js";
import { type Binding, type Program, type TimedInstruction, chosenEntry } from "../src/ir/program.js";
import { memQueue, mxmQueue, queueCount } from "../src/ir/program.js";
import { peakMacs, TARGETS } from "../src/ir/target.js";
import { estimatePerformance, reportProgram } from "../src/report/report.js";
import { stateRoom } from "../src/report/capacity.js";
import { summaryLines } from "../src/report/summary.js";
import { compileSmall, keptOf } from "./compiled.js";

const target = TARGETS.tiny;
const CYCLES = 100;
const burst = (
  op: TimedInstruction["op"],
  cycle: number,
  count: number,
  interval: number,
  fields: TimedInstruction["fields"],
  step = 0,
): TimedInstruction => ({
  op,
  cycle,
  count,
  interval,
  fields,
  step,
  tap: 0,
  origin: 0,
});

const queues: TimedInstruction[][] = Array.from({ length: queueCount(target) }, () => []);
const put = (queue: number, ...instructions: TimedInstruction[]): void =>
  void (queues[queue] ?? []).push(...instructions);
put(
  memQueue(target, "W", 0),
  burst("read", 0, 10, 1, { address: 0, stream: 32 }, 1),
  burst("write", 40, 4, 2, { address: 100, stream: 2 }, 3),
);
put(mxmQueue(target, "W", 0, 1), burst("abc", 10, 10, 2, { stream: 32, mode: 0 }));
put(mxmQueue(target, "W", 1, 1), burst("abc", 10, 20, 1, { stream: 32, mode: 0 }));
put(
  mxmQueue(target, "W", 0, 2),
  burst("acc", 30, 5, 1, { row: 0, mode: 0, give: 4 }),
  burst("acc", 40, 5, 1, { row: 0, mode: 0, give: -1 }),
);

const binding = (name: string, shape: readonly number[], row: number, lookup?: Binding["lookup"]): Binding => ({
  name,
  declared: "f32",
  shape,
  placements: [
    {
      dtype: "f16",
      factors: [],
      rows: 4,
      columns: 16,
      ways: 2,
      panels: [
        { planes: Array.from({ length: 4 }, (_, plane) => ({ chip: 0, hemisphere: "E" as const, slice: plane, row })) },
      ],
    },
  ],
  ...(lookup === undefined ? {} : { lookup }),
});

const program: Program = {
  target,
  name: "hand-made",
  chips: [{ constants: [{ hemisphere: "W", slice: 0, row: 0, rows: 10, bytes: () => new Uint8Array(0) }], maps: [] }],
  links: [],
  states: [],
  entries: [
    {
      name: "main",
      inputs: [
        binding("x", [4, 16], 0),
        binding("ids", [4], 8, {
          origin: "embed (Gather)",
          dtype: "f16",
          rows: 50,
          width: 16,
          bytes: () => new Uint8Array(0),
        }),
      ],
      outputs: [binding("y", [4, 16], 50)],
      queues: [queues],
      cycles: [CYCLES],
      macs: CYCLES * peakMacs(target) * 0.25,
    },
  ],
  origins: ["fc (MatMul)"],
};

describe("what is wider than fp16", () => {
  const graph = parseGraph(
    [
      "graph @main(%0: f32[2,4], %1: i32[2]) {",
      '  %2 = mul(%0, %0) : f32[2,4] from "square"',
      '  %3 = reduce_sum(%2) {axes=[1], keepdims=true} : f32[2,1] from "sum"',
      '  %4 = reshape(%3) {shape=[2]} : f32[2] from "view"',
      '  %5 = exp(%4) : f32[2] from "exp"',
      '  %6 = add(%1, %1) : i32[2] from "twice"',
      "  return %5, %6",
      "}",
      "",
    ].join("\n"),
  );
  const kept = keptOf(graph);

  test("every reason once, with its tensors and values; views and what is fp16 do not count", () => {
    const rows = kept.map(({ dtype, reason, tensors, values }) => [reason, dtype, tensors, values]);
    expect(rows).toEqual([
      ["input", "f32", 1, 8],
      ["square", "f32", 1, 8],
      ["integer", "i32", 2, 4],
      ["sum", "f32", 2, 4],
    ]);
    expect(kept.find(({ reason }) => reason === "sum")?.origins).toEqual(["sum", "exp"]);
    for (const { doc } of kept) expect(doc).toMatch(/^[a-z].{10,}[^.]$/);
  });

  test("the summary has a line for each", () => {
    const lines = summaryLines(reportProgram(chosenEntry(program), { instructions: 9, bytes: 77 }, kept)).slice(-4);
    expect(lines[0]).toMatch(
      /^wider than fp16 +f32 for 'input': 8 values in 1 tensor {2}\(inputs that take part in sums/,
    );
    expect(lines[2]).toMatch(/^ +i32 for 'integer': 4 values in 2 tensors/);
  });

  test("a build has it in its report", () => {
    const { report } = compileSmall("bert", "lpu-v1");
    expect(report.kept.map(({ reason }) => reason)).toEqual(expect.arrayContaining(["square", "sum"]));
  });
});

describe("report", () => {
  const report = reportProgram(chosenEntry(program), { instructions: 9, bytes: 77 });

  test("times follow from cycles and the clock", () => {
    expect([report.cycles, report.microseconds, report.inferencesPerSecond]).toEqual([100, 100 / 900, 9e6]);
    expect([report.instructions, report.textBytes, report.mxmUtilization]).toEqual([9, 77, 0.25]);
  });

  test("a cycle in which both planes take an activation counts once", () => {
    expect(report.mxmBusy).toEqual({ W: 0.2, E: 0 });
  });

  test("every row counts once, for what it holds", () => {
    const row = target.lanes;
    expect(report.sram).toEqual({
      bytes: 30 * row,
      constants: 10 * row,
      states: 0,
      inputs: 16 * row,
      scratch: 4 * row,
      capacity: 2 * 16 * 2 * 2048 * row,
    });
  });

  test("what is left of SRAM holds states of so many sequences, the one that is there among them", () => {
    expect(report.stateRoom).toBe(null);
    expect(stateRoom(0, 500, 1000)).toBe(null);
    expect(stateRoom(100, 500, 1000)).toEqual({ bytes: 100, free: 500, sequences: 6 });
    expect(stateRoom(100, 501, 1000)).toEqual({ bytes: 100, free: 499, sequences: 5 });
    expect(stateRoom(100, 1200, 1000)).toEqual({ bytes: 100, free: 0, sequences: 1 });
    expect(summaryLines({ ...report, stateRoom: stateRoom(1 << 20, 0, 5 << 20) }).join("\n")).toContain(
      "states           1.00 MiB; with 5.00 MiB that are free, SRAM holds 6 such, or one with 6 times the past",
    );
  });

  test("streams are counted in bytes of a lane", () => {
    expect(report.streams).toEqual({ used: 5, available: 64, vectorsPerCycle: (10 + 4 * 5) / CYCLES });
  });

  test("PCIe moves what is placed, looked up by the host where the host does work", () => {
    const bytes = 4 * 16 * 2;
    expect(report.pcie).toEqual({ inputBytes: 2 * bytes, outputBytes: bytes, microseconds: (3 * bytes) / 24000 + 20 });
    expect(report.hostWork).toEqual([{ input: "ids", origin: "embed (Gather)" }]);
    expect(estimatePerformance(report).totalMicroseconds).toBe(report.microseconds + report.pcie.microseconds);
  });

  test("the summary has one line a fact, in two columns", () => {
    const lines = summaryLines(report);
    expect(lines[0]).toBe("cycles           100  (111 ns at 900 MHz, tiny)");
    expect(lines.at(-1)).toBe("host work        embed (Gather) (rows chosen by ids)");
  });
});
