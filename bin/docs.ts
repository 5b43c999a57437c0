/**
 * Writes docs/{ISA,TARGETS,SYSTEMS,OPS,ERRORS,PASSES}.md from the tables; with `--check` it only compares, and exits with 1 if a
 * page is not what the tables say. The meanings and sources of target fields are the comments beside them in target.ts.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fieldBits } from "../src/codegen/text/layout.js";
import { OPERATORS } from "../src/frontend/operators.js";
import { TARGETS } from "../src/ir/target.js";
import { hopsFrom } from "../src/system/routes.js";
import { PIPELINE } from "../src/passes/graph/pipeline.js";
import {
  errorsText,
  type FieldNote,
  isaText,
  opsText,
  passesText,
  systemsText,
  targetsText,
} from "../src/report/tables.js";

/** The repository: this file is compiled to dist/bin. */
const ROOT = new URL("../../", import.meta.url);

interface Page {
  readonly from: string;
  readonly text: () => string;
}

const PAGES: Readonly<Record<string, Page>> = {
  "ISA.md": { from: "src/ir/isa.ts", text: () => isaText((op) => fieldBits(TARGETS["lpu-v1"], op)) },
  "TARGETS.md": { from: "src/ir/target.ts", text: () => targetsText(targetNotes(readText("src/ir/target.ts"))) },
  "SYSTEMS.md": { from: "src/ir/system.ts", text: () => systemsText((system) => Math.max(...hopsFrom(system, 0))) },
  "OPS.md": { from: "src/frontend/rules, src/frontend/refused.ts and src/ir/ops", text: () => opsText(OPERATORS) },
  "ERRORS.md": { from: "src/diagnostics.ts", text: errorsText },
  "PASSES.md": { from: "src/passes/graph/pipeline.ts", text: () => passesText(PIPELINE) },
};

const readText = (path: string): string => readFileSync(new URL(path, ROOT), "utf8");

/** `name: value, // U: note` gives source and note; the comment above a field of an interface gives its meaning. */
function targetNotes(source: string): Readonly<Record<string, FieldNote>> {
  const meanings = new Map(
    [...source.matchAll(/\/\*\* ([^\n]*) \*\/\n {2}readonly (\w+):/g)].map(([, doc = "", name = ""]) => [name, doc]),
  );
  const notes: Record<string, FieldNote> = {};
  for (const [, name = "", mark = "", note = ""] of source.matchAll(/^ +(\w+): .*, \/\/ ([PCUDA])(?:: (.*))?$/gm)) {
    notes[name] = { source: mark, doc: [meanings.get(name), note && `(${note})`].filter(Boolean).join(" ") };
  }
  return notes;
}

function main(check: boolean): number {
  const stale: string[] = [];
  for (const [page, { from, text }] of Object.entries(PAGES)) {
    const path = `docs/${page}`;
    const expected = `<!-- generated from ${from} by \`npm run docs\`; do not edit -->\n\n${text()}`;
    if (check && currentText(path) !== expected) stale.push(path);
    if (!check) writeFileSync(new URL(path, ROOT), expected);
  }
  if (stale.length === 0) return 0;
  process.stderr.write(`${stale.join(", ")}: not what the tables say; run \`npm run docs\` and look at the change\n`);
  return 1;
}

function currentText(path: string): string {
  try {
    return readText(path);
  } catch {
    return "";
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.includes("--check"));
