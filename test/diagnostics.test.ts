/**
 * The table of diagnostics: every row says something, and every code is provoked by a test or stands here with the reason why
 * it is not. What the other tests do not provoke is provoked below.
 */

import { chosenEntry } from "../src/ir/program.js";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { CompileError, DIAGNOSTICS } from "../src/diagnostics.js";
import { elementCount } from "../src/ir/graph.js";
import { parseGraph } from "../src/ir/parse.js";
import { TARGETS } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { type Rule, rewriteGraph } from "../src/passes/graph/rewriter.js";
import { loadProgram } from "../src/runtime/run.js";
import { compileSmall, verdict } from "./compiled.js";
import { programOf, runText, setRow, wholeProgram } from "./machine-text.js";

const TESTS = new URL("../../test/", import.meta.url);
const NOT_PROVOKED: Readonly<Record<string, string>> = {
  LPU5102: "needs a computer without an optional package",
  LPU5103: "belongs to the bench, which no test runs",
};

const codes = Object.keys(DIAGNOSTICS);

describe("the table", () => {
  test("rows stand in the order of their codes", () => {
    expect(codes).toEqual([...codes].sort());
  });

  test("titles are lower case without a period, sentences end with one", () => {
    const wrong = Object.entries(DIAGNOSTICS).filter(
      ([, { title, doc }]) => /^[A-Z][a-z]|\.$/.test(title) || !/^[A-Z].*\.$/s.test(doc),
    );
    expect(wrong).toEqual([]);
  });

  test("every row has a hint: what to do, lower case and without a period, and not what the row says already", () => {
    const rows: readonly (readonly [string, { readonly doc: string; readonly hint: string }])[] =
      Object.entries(DIAGNOSTICS);
    const wrong = rows.filter(
      ([, { doc, hint }]) => hint.length < 20 || /^[A-Z][a-z]|\.$/.test(hint) || doc.toLowerCase().includes(hint),
    );
    expect(wrong).toEqual([]);
  });

  test("what has no hint of its own has that of its row", () => {
    expect(new CompileError("LPU5001", { message: "gone" }).hint).toBe(DIAGNOSTICS.LPU5001.hint);
    expect(new CompileError("LPU5001", { message: "gone", hint: "look" }).hint).toBe("look");
  });

  test("every code is provoked by a test", () => {
    const texts = readdirSync(TESTS, { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(ts|tir|txt)$/.test(name))
      .map((name) => readFileSync(new URL(name, TESTS), "utf8"));
    const missing = codes.filter((code) => !(code in NOT_PROVOKED) && !texts.some((text) => text.includes(code)));
    expect(missing).toEqual([]);
    expect(Object.keys(NOT_PROVOKED).filter((code) => !codes.includes(code))).toEqual([]);
  });
});

describe("provoked here", () => {
  test("LPU2014: rules that undo each other", () => {
    const swap = (from: string, to: string): Rule => ({
      name: `${from}-${to}`,
      law: `${from}(x) == ${to}(x)`,
      ops: [from],
      rewrite: (g, { inputs }) => g.emit(to, inputs),
    });
    const graph = parseGraph("graph @main(%0: f32[2]) {\n  %1 = abs(%0) : f32[2]\n  return %1\n}\n");
    expect(verdict(() => rewriteGraph(graph, [swap("abs", "neg"), swap("neg", "abs")]))).toMatch(/^LPU2014: /);
  });

  test("LPU4032: an image that predicts another number of cycles", () => {
    const { program } = compileSmall("bert", "lpu-v1");
    const wrong = {
      ...program,
      entries: program.entries.map((entry) => ({ ...entry, cycles: [1] })),
    };
    const inputs = Object.fromEntries(
      wrong.entries[0]?.inputs.map(({ name, shape }) => {
        const data = new Int32Array(elementCount(shape)).fill(1);
        return [name, { dtype: "i32" as const, shape, data }];
      }) ?? [],
    );
    expect(verdict(() => loadProgram(wrong).entry().run(inputs))).toMatch(/^LPU4032: expected 1 cycles/);
  });

  test("LPU2221: a vector that nobody sent", () => {
    const program = wholeProgram(
      programOf("sxm.w0 400 receive 0 e0", { links: [{ fromChip: 0, fromLink: 0, toChip: 0, toLink: 0 }] }),
    );
    expect(verdict(() => checkSchedule(chosenEntry(program)))).toMatch(/^LPU2221: /);
  });

  test("LPU4017: fetched text that says that it is longer than what was fetched", () => {
    const late = (): unknown =>
      runText("mem.w0 48 read 0 e0\nmem.w1 48 read 0 e1\nvxm.0 50 ifetch e0", (sram) => {
        for (const slice of ["w0:0", "w1:0"]) setRow(sram, slice, new Uint8Array(TARGETS.tiny.lanes).fill(255));
      });
    expect(verdict(late)).toMatch(/^LPU4017: /);
  });
});
