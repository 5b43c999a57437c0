/**
 * What went wrong, as plain records that cross threads and print as JSON, and their rendering for a person.
 *
 * Every error ends here and nothing else prints errors: those about the user's input and the machine's faults with all
 * that they know, anything else as an internal error with one line. A stack trace is never shown.
 */

import { CompileError, type DiagnosticCode, DIAGNOSTICS, MachineFault } from "../../src/diagnostics.js";

export interface Problem {
  readonly code: DiagnosticCode;
  readonly message: string;
  readonly node?: string;
  readonly at?: string;
  readonly notes?: readonly string[];
  /** What to do about it. */
  readonly hint: string;
  readonly inputs?: readonly string[];
}

/** Carries problems that are already records, from a worker to where they are printed. */
export class ReportedProblems extends Error {
  readonly problems: readonly Problem[];
  constructor(problems: readonly Problem[]) {
    super(problems.map((problem) => problem.message).join("; "));
    this.name = "ReportedProblems";
    this.problems = problems;
  }
}

export function problemsOf(error: unknown): readonly Problem[] {
  if (error instanceof ReportedProblems) return error.problems;
  if (error instanceof CompileError)
    return [{ code: error.code, ...error.details, hint: error.hint }, ...error.others.flatMap(problemsOf)];
  if (error instanceof MachineFault) return [faultProblem(error)];
  const message = error instanceof Error ? error.message : String(error);
  return [
    {
      code: "LPU5000",
      message: `internal error: ${firstLine(message)}`,
      notes: [...originOf(error)],
      hint: DIAGNOSTICS.LPU5000.hint,
    },
  ];
}

/** The fault's own message already holds cycle, unit and instruction in one line; here they stand on lines of their own. */
function faultProblem(fault: MachineFault): Problem {
  return {
    code: fault.code,
    message: fault.message.replace(/^LPU\d{4}: /, ""),
    ...(fault.origin === "" ? {} : { node: fault.origin }),
    notes: [`cycle ${fault.cycle}, unit ${fault.unit}`, fault.instruction],
    hint: fault.hint,
  };
}

/** Where an internal error was raised, as one function and file of ours: enough for a report, and no trace. */
function* originOf(error: unknown): Generator<string> {
  if (!(error instanceof Error)) return;
  const frame = /at (\S+) \(.*?([\w-]+\.js:\d+):\d+\)/.exec(error.stack?.replace(/^.*at invariant.*$/m, "") ?? "");
  if (frame !== null) yield `raised in ${frame[1]} (${frame[2]})`;
}

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? "";

/** Colours used in messages; the functions of picocolors, or identity. */
export interface Colors {
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly cyan: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly bold: (text: string) => string;
}

export function renderProblems(problems: readonly Problem[], colors: Colors): string {
  return problems.map((problem) => renderProblem(problem, colors)).join("\n");
}

function renderProblem(problem: Problem, colors: Colors): string {
  const line = (label: string, text: string): string => `  ${colors.dim(label.padEnd(5))}  ${shown(text)}`;
  return [
    `${colors.red(colors.bold(`error ${problem.code}`))}: ${shown(problem.message)}`,
    ...(problem.node === undefined ? [] : [line("node", problem.node)]),
    ...(problem.at === undefined ? [] : [line("at", problem.at)]),
    ...(problem.notes ?? []).map((note) => line("note", note)),
    line("hint", problem.hint),
  ].join("\n");
}

/** What a message quotes from a file may be as long as the file. */
const shown = (text: string): string => printable(text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text);
const LONGEST = 1000;

/** Names come from files that anyone may have written: control characters must not reach the terminal. */
export const printable = (text: string): string =>
  text.replace(
    /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\x${(character.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}`,
  );
