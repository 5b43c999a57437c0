/** Targets: every figure is read, and every timing decides what all three replays of a program say. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { MachineFault } from "../src/diagnostics.js";
import { chosenEntry, memQueue, type Program, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS, type Target, type Timings } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { placeConstants, Sram } from "../src/runtime/sram.js";
import { machineOf, programOf, wholeProgram } from "./machine-text.js";
import { randomProgram } from "./random-program.js";

const { tiny } = TARGETS;

/** Text of all files below src but the table of targets itself, without comments. */
function sources(folder: string): string {
  return readdirSync(folder, { withFileTypes: true })
    .map((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return sources(path);
      if (!path.endsWith(".ts") || path.endsWith("target.ts")) return "";
      return readFileSync(path, "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
    })
    .join("\n");
}

test("every figure of a target is read by something", () => {
  const text = sources("src");
  const own = readFileSync("src/ir/target.ts", "utf8").split("export const slicePosition")[1] ?? "";
  const names = [...Object.keys(tiny), ...Object.keys(tiny.timing)];
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text + own))).toEqual([]);
});

const WITNESSES: Readonly<Record<string, (program: Program) => readonly number[]>> = {
  literal: (program) => {
    const sram = new Sram(program.target, program.chips.length);
    placeConstants(sram, program.chips);
    return runLiteral(chosenEntry(program), sram).cycles;
  },
  linked: (program) => machineOf(chosenEntry(program)).execute().cycles,
  checker: (program) => {
    checkSchedule(chosenEntry(program));
    return [];
  },
};

function said(witness: string, program: Program): string {
  try {
    return String(WITNESSES[witness]?.(program));
  } catch (error) {
    if (error instanceof MachineFault) return error.code;
    throw error;
  }
}

const own = (op: "notify" | "sync", cycle: number): TimedInstruction => {
  return { cycle, op, fields: {}, count: 1, interval: 1, step: 0, tap: 0, origin: 0 };
};
/** Text for one queue: a length of two bytes, then a config. */
const TEXT = [2, 0, 0x05, 8 | (1 << 5)];
/** What random programs do not have: a barrier, text that is fetched, a dispatch as early as a compiled program may have one. */
const FEW = [
  {
    lines: "mem.w1 75 read 0 e0",
    before: { [memQueue(tiny, "W", 0)]: own("notify", 40), [memQueue(tiny, "W", 1)]: own("sync", 0) },
  },
  { lines: "mem.w0 48 read 0 e0\nmem.w1 48 read 0 e1\nvxm.0 50 ifetch e0", before: {} },
  { lines: "mem.w0 35 read 0 e0", before: {} },
].map(({ lines, before }: { lines: string; before: Readonly<Record<number, TimedInstruction>> }): Program => {
  const { chips, ...base } = programOf(lines);
  const constants = [0, 1].map((slice) => ({
    hemisphere: "W" as const,
    slice,
    row: 0,
    rows: 1,
    bytes: () => Uint8Array.from({ length: tiny.lanes }, (_, lane) => (slice === 0 ? (TEXT[lane] ?? 0) : 0)),
  }));
  const queues = (chips[0]?.queues ?? []).map((queue, index) => {
    const first = before[index];
    return first === undefined ? queue : [first, ...queue];
  });
  return wholeProgram({ ...base, chips: [{ queues, maps: [], constants }] });
});

describe("every timing decides what is legal, or how long a program takes", () => {
  const programs = [...FEW, ...Array.from({ length: 90 }, (_, seed) => randomProgram(seed + 1))];
  for (const [witness, skipped] of [
    ["literal", []],
    ["linked", []],
    // Compiled programs fetch no text.
    ["checker", ["ifetch"]],
  ] as const) {
    test(`as the ${witness} ${witness === "checker" ? "" : "machine "}has it`, () => {
      const idle = (Object.keys(tiny.timing) as (keyof Timings)[]).filter((name) => {
        const timing = { ...tiny.timing, [name]: tiny.timing[name] + 1 };
        const target: Target = { ...tiny, timing };
        return programs.every(
          (program) => said(witness, program) === said(witness, wholeProgram({ ...chosenEntry(program), target })),
        );
      });
      expect(idle).toEqual(skipped);
    });
  }
});
