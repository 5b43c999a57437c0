/**
 * Where the command line speaks: results on stdout, everything about the way there on stderr.
 *
 * With `--json` stdout holds exactly one JSON object, whatever happens; without it, stdout holds what a person reads, and
 * stages stay on stdout too when they are the result (build), so that a pipe shows them in order. Colours only on a terminal.
 */

import { at } from "../../src/diagnostics.js";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import picocolors from "picocolors";
import type { Colors, Problem } from "./problems.js";
import { printable, renderProblems } from "./problems.js";
import { type TaskReporter, taskReporter } from "./stages.js";

export interface Terminal {
  readonly json: boolean;
  readonly colors: Colors;
  readonly tasks: TaskReporter;
  /** A line for a person; with `--json` it goes nowhere. */
  print(line: string): void;
  /** Text as it grows, without what is not to be shown; with `--json` it goes nowhere. */
  text(text: string): void;
  /** A line about the way, not the result: beside the tasks. */
  note(line: string): void;
  /** The one object of `--json`. */
  result(value: object): void;
  problems(problems: readonly Problem[]): void;
}

export const EXIT = { ok: 0, problem: 1, usage: 2, internal: 3 } as const;

/** Colours for what is written to `output`: none where no person reads it, though `CI` or `FORCE_COLOR` is set. */
export const colorsOf = (output: { readonly isTTY?: boolean }): Colors =>
  picocolors.createColors(output.isTTY === true && picocolors.isColorSupported);

export function openTerminal(json: boolean): Terminal {
  const shown = json ? process.stderr : process.stdout;
  const colors = colorsOf(shown);
  const errorColors = colorsOf(process.stderr);
  return {
    json,
    colors,
    tasks: taskReporter(shown, colors, clock),
    print: (line) => {
      if (!json) process.stdout.write(`${line}\n`);
    },
    text: (text) => {
      if (!json) process.stdout.write(text.split("\n").map(printable).join("\n"));
    },
    note: (line) => void shown.write(`${line}\n`),
    result: (value) => {
      if (json) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
    },
    problems: (problems) => {
      process.stderr.write(`${renderProblems(problems, errorColors)}\n`);
      if (json) process.stdout.write(`${JSON.stringify({ errors: problems }, null, 2)}\n`);
    },
  };
}

/** Lines of the user, one when it is asked for: on a terminal behind a mark, and shown behind one otherwise. Undefined at the end. */
export function openQuestions(terminal: Terminal): {
  readonly next: () => Promise<string | undefined>;
  readonly close: () => void;
} {
  // Not as a terminal: editing of lines and interrupts stay with the system.
  const reader = createInterface({ input: process.stdin, terminal: false });
  const lines = reader[Symbol.asyncIterator]();
  const live = process.stdin.isTTY === true;
  return {
    next: async () => {
      if (live) terminal.text(QUESTION);
      const { value, done } = await lines.next();
      if (done === true) return undefined;
      if (!live) terminal.text(`${QUESTION}${value}\n`);
      return value;
    },
    close: () => reader.close(),
  };
}

export const QUESTION = "> ";

/** Milliseconds since the epoch with a fraction: the same clock in all threads. */
export const clock = (): number => performance.timeOrigin + performance.now();

/** Columns of text, each as wide as its widest cell; the first to the left, numbers to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = at(rows, 0, "row").map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(at(widths, column, "width")) : cell.padEnd(at(widths, column, "width")),
      )
      .map(printable)
      .join("  ")
      .trimEnd(),
  );
}
