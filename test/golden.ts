/**
 * Golden files: expected text that is committed, rewritten by `npm run bless`, and compared exactly.
 *
 * A file starts with a line that says what is run, `; run: opt --passes=canonicalize`; comments that say why follow. A file
 * with input holds it next, and below `; expect:` the output, each line as a comment, so that a change shows cause and effect
 * in one diff; a file without input holds the output as it is. BLESS=1 writes the output instead of comparing.
 */

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { unifiedDiff } from "./unified-diff.js";

const ROOT = new URL("../../test/golden/", import.meta.url);
const MARK = "; expect:";

/** Files below a folder of test/golden, with the given ending, in order. */
export function goldenFiles(folder: string, ending: string): string[] {
  return readdirSync(new URL(`${folder}/`, ROOT))
    .sort()
    .flatMap((name) => {
      const path = `${folder}/${name}`;
      if (statSync(new URL(path, ROOT)).isDirectory()) return goldenFiles(path, ending);
      return name.endsWith(ending) ? [path] : [];
    });
}

/** Runs a golden file: `run` gets the command of its first line, without `run: `, and its input. */
export function check(path: string, run: (command: string, input: string) => string): void {
  const file = new URL(path, ROOT);
  const text = readFileSync(file, "utf8");
  const [input = ""] = text.split(`${MARK}\n`);
  const command = /^; run: (.*)$/m.exec(input)?.[1] ?? "";
  const output = run(command, input).trimEnd();
  const lines = hasInput(input) ? output.split("\n").map((line) => (line === "" ? ";" : `; ${line}`)) : [output];
  const actual = `${input.trimEnd()}\n\n${MARK}\n${lines.join("\n")}\n`;
  if (process.env["BLESS"] === "1") {
    if (actual !== text) writeFileSync(file, actual);
    return;
  }
  const difference = unifiedDiff(text, actual, `test/golden/${path}`, "what comes out now");
  if (difference !== "") throw new Error(`if this is right: npm run bless\n${difference}`);
}

const hasInput = (input: string): boolean => input.split("\n").some((line) => line !== "" && !line.startsWith(";"));
