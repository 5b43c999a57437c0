/**
 * Values of `--fix`, read on the thread that does the work: elements as they stand, tensors from their files.
 */

import { CompileError } from "../src/diagnostics.js";
import { throwTogether } from "../src/host/edge.js";
import { readWideFile } from "../src/host/files.js";
import type { FixedValue } from "../src/frontend/fix.js";
import type { FixText } from "./arguments.js";

/** Every file that cannot be read is named in one error. */
export function readFixes(fixes: Readonly<Record<string, FixText>>): Record<string, FixedValue> {
  const problems: CompileError[] = [];
  const values: Record<string, FixedValue> = {};
  for (const [name, fix] of Object.entries(fixes)) {
    try {
      values[name] = typeof fix === "string" ? readWideFile(fix) : fix;
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      problems.push(error);
    }
  }
  throwTogether(problems);
  return values;
}
