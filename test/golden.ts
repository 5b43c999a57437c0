/**
 * Golden files: input and expected output in one file, so that a change shows cause and effect in one diff.
 *
 * The first line says what is run, `; run: opt --passes=canonicalize`; comments that say why follow; then the input, and
 * below `; expect:` the output, each line as a comment. BLESS=1 (`npm run bless`) writes the output instead of comparing.
 */

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { expect } from "@jest/globals";

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
  const [input = "", ...rest] = text.split(`${MARK}\n`);
  const command = /^; run: (.*)$/m.exec(input)?.[1] ?? "";
  const output = run(command, input).trimEnd();
  const actual = output
    .split("\n")
    .map((line) => (line === "" ? ";" : `; ${line}`))
    .join("\n");
  if (process.env["BLESS"] === "1") {
    writeFileSync(file, `${input.trimEnd()}\n\n${MARK}\n${actual}\n`);
    return;
  }
  expect({ file: path, bless: "npm run bless", output: actual }).toEqual({
    file: path,
    bless: "npm run bless",
    output: rest.join("").trimEnd(),
  });
}
