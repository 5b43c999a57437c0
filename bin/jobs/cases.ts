/**
 * Cases of `lpu verify`: where they are, and what is said about each. A case is a folder in the layout of the ONNX backend
 * tests; it is given itself, or by a folder that holds such folders.
 */

import { readdirSync, statSync } from "node:fs";
import { join, normalize } from "node:path";
import { CompileError } from "../../src/diagnostics.js";
import { throwTogether } from "../../src/host/edge.js";
import { attempt } from "../../src/host/files.js";
import type { NonFinite } from "../../src/ir/nonfinite.js";
import type { Problem } from "../show/problems.js";

export const STATUSES = ["passed", "failed", "unsupported", "error"] as const;
export type CaseStatus = (typeof STATUSES)[number];

export interface OutputError {
  readonly name: string;
  readonly relL2: number;
  readonly maxAbs: number;
}

/** An element that is NaN or infinite where something else is expected. */
export interface WrongSpecial extends NonFinite {
  readonly output: string;
  /** The ONNX node that made the first such value on the way to the output, where it was found. */
  readonly madeBy?: string;
}

export interface CaseResult {
  readonly name: string;
  readonly folder: string;
  readonly status: CaseStatus;
  /** Why it did not pass; empty when it did. */
  readonly reason: string;
  readonly problems: readonly Problem[];
  readonly cycles: number | null;
  readonly predictedCycles: number | null;
  readonly mxmUtilization: number | null;
  readonly hostWork: readonly string[];
  /** Inputs that were fixed to their values, since the model cannot be built without. */
  readonly fixed: readonly string[];
  /** The worst of each output over all data sets. */
  readonly outputs: readonly OutputError[];
  /** NaNs and infinities that are not expected, one for each output that has some. */
  readonly nonFinite: readonly WrongSpecial[];
}

export interface VerifyResult {
  readonly cases: readonly CaseResult[];
  readonly totals: Readonly<Record<CaseStatus, number>>;
}

/** Every folder is a case, or holds cases; all that are neither are one error. */
export function findCases(folders: readonly string[]): string[] {
  const problems: CompileError[] = [];
  const cases = folders.flatMap((folder) => {
    try {
      return isCase(folder) ? [normalize(folder)] : casesInside(folder);
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      problems.push(error);
      return [];
    }
  });
  throwTogether(problems);
  return cases;
}

function casesInside(folder: string): string[] {
  const names = attempt("LPU5001", `folder '${folder}' cannot be read`, () => readdirSync(folder)).sort();
  const inside = names.map((name) => join(folder, name)).filter(isCase);
  if (inside.length > 0) return inside;
  throw new CompileError("LPU5009", {
    message: `'${folder}': expected model.onnx, or folders that have one`,
    hint: "see the layout of the ONNX backend tests",
  });
}

/** A plain file beside the folders is none, and asking inside of it would be an error. */
const isCase = (folder: string): boolean =>
  statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true &&
  statSync(join(folder, "model.onnx"), { throwIfNoEntry: false })?.isFile() === true;
