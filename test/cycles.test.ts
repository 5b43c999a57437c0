/**
 * Cycles, image size and image hash of every committed model on every target: a change of performance is a diff to review,
 * and a refactoring leaves the file as it is.
 */

import { readdirSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { joinChunks } from "../src/host/build.js";
import { CompileError } from "../src/diagnostics.js";
import { hashOf } from "../src/host/files.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { COMMITTED, compileCommitted } from "./committed.js";
import { check } from "./golden.js";

const isTarget = (name: string): name is TargetName => name in TARGETS;
const TARGET_NAMES = Object.keys(TARGETS).filter(isTarget);

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
      TARGET_NAMES.map((target) => {
        try {
          const compiled = compileCommitted(model, target);
          const bytes = joinChunks(compiled.image());
          return line(model.name, target, compiled.report.cycles, bytes.length, hashOf([bytes]));
        } catch (error) {
          if (!(error instanceof CompileError)) throw error;
          return line(model.name, target, "-", "-", error.message);
        }
      }),
    );
    return [line("model", "target", "cycles", "bytes", "sha256"), ...rows].join("\n");
  });
});

test("every committed model is in the list", () => {
  const files = readdirSync(new URL("../../models/small/", import.meta.url)).map((name) => name.replace(".onnx", ""));
  expect(COMMITTED.map(({ name }) => name)).toEqual([...files.sort(), "storyteller"]);
});
