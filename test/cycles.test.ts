/**
 * Cycles, image size and image hash of every committed model on every target: a change of performance is a diff to review,
 * and a refactoring leaves the file as it is.
 */

import { readdirSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { joinChunks } from "../src/host/build.js";
import type { CompileOptions } from "../src/options.js";
import { SMALL_MODELS } from "../models/families.js";
import { CompileError } from "../src/diagnostics.js";
import { hashOf } from "../src/host/files.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { COMMITTED, compileCommitted } from "./committed.js";
import { check } from "./golden.js";

const isTarget = (name: string): name is TargetName => name in TARGETS;
interface Machine {
  readonly words: string;
  readonly target: TargetName;
  readonly chips?: Pick<CompileOptions, "system" | "stages" | "tensor">;
}
/** Each target by itself, and for small models chips of the small one: one behind the other, eight in a ring, and two that share products. */
const MACHINES: readonly Machine[] = [
  ...Object.keys(TARGETS)
    .filter(isTarget)
    .map((target) => ({ words: target, target })),
  { words: "tiny node2", target: "tiny", chips: { system: "node2", stages: 2 } },
  { words: "tiny node8", target: "tiny", chips: { system: "node8", stages: 8 } },
  { words: "tiny shared", target: "tiny", chips: { system: "node2", tensor: 2 } },
];

type Cell = string | number;
const COLUMNS: readonly ((cell: Cell) => string)[] = [
  (model) => String(model).padEnd(12),
  (target) => String(target).padEnd(13),
  (cycles) => String(cycles).padStart(8),
  (bytes) => String(bytes).padStart(10),
  String,
];
const line = (...cells: Cell[]): string => COLUMNS.map((format, index) => format(cells[index] ?? "")).join(" ");

test("cycles.txt", () => {
  check("cycles.txt", () => {
    const rows = COMMITTED.flatMap((model) =>
      MACHINES.filter(({ chips }) => chips === undefined || Object.hasOwn(SMALL_MODELS, model.name)).map(
        ({ words, target, chips }) => {
          try {
            const compiled = compileCommitted(model, target, chips);
            const bytes = joinChunks(compiled.image());
            return line(model.name, words, compiled.report.cycles, bytes.length, hashOf([bytes]));
          } catch (error) {
            if (!(error instanceof CompileError)) throw error;
            return line(model.name, words, "-", "-", error.message);
          }
        },
      ),
    );
    return [line("model", "target", "cycles", "bytes", "sha256"), ...rows].join("\n");
  });
});

test("every committed model is in the list", () => {
  const files = readdirSync(new URL("../../models/small/", import.meta.url)).map((name) => name.replace(".onnx", ""));
  expect(COMMITTED.map(({ name }) => name)).toEqual([...files.sort(), "storyteller"]);
});
