/**
 * Child processes of the bench: the command line's build, timed from outside with its peak memory, and `measure.js`.
 * Each measurement has a fresh process, so that none warms or burdens another.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { fail } from "../src/diagnostics.js";
import type { SystemPlan } from "../src/index.js";
import type { EngineName } from "./engines.js";
import type { Measurement } from "./measure.js";

const DIST = join(dirname(fileURLToPath(import.meta.url)), "..");
/** Models, images and outputs of the bench; everything here is made again by each run. */
export const CACHE = join(DIST, "..", ".cache", "bench");

export interface Built {
  readonly cycles: number;
  readonly macs: number;
  readonly mxmUtilization: number;
  readonly instructions: number;
  readonly sramBytes: number;
  /** By stage. */
  readonly seconds: Readonly<Record<string, number>>;
  /** From start to end of the process. */
  readonly wallSeconds: number;
  readonly peakBytes: number;
}

/** Runs `lpu` with `--json` in a fresh process that says how much memory it took at the most. */
function runLpu(words: readonly string[], timeout?: number) {
  const peakFile = join(CACHE, "peak-memory.txt");
  rmSync(peakFile, { force: true });
  const start = performance.now();
  const all = ["--import", join(DIST, "bench", "peak-memory.js"), join(DIST, "bin", "lpu.js"), ...words, "--json"];
  const { status, stdout } = spawnSync(process.execPath, all, {
    env: { ...process.env, PEAK_MEMORY_FILE: peakFile },
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
    ...(timeout === undefined ? {} : { timeout }),
  });
  const wallSeconds = (performance.now() - start) / 1000;
  const peakBytes = existsSync(peakFile) ? Number(readFileSync(peakFile, "utf8")) : 0;
  return { status, stdout, wallSeconds, peakBytes };
}

/** `lpu build` in a fresh process, without the cache. */
export function buildImage(model: string, image: string, options: readonly string[] = []): Built {
  const words = ["build", model, "-o", image, "--rebuild", ...options];
  const { status, stdout, wallSeconds, peakBytes } = runLpu(words);
  if (status !== 0) failed(["lpu", ...words], status);
  // boundary: the command line's documented JSON
  return { ...(JSON.parse(stdout) as Omit<Built, "wallSeconds" | "peakBytes">), wallSeconds, peakBytes };
}

/** Makes weights, inputs and golden outputs of the fixtures' recipes, where they are not yet. */
export function materialize(script: string, folder: string): void {
  runNode([script, folder], {});
}

export interface Verified {
  /** As `lpu verify` has it, or "no end" after LONGEST. */
  readonly status: string;
  readonly reason: string;
  readonly cycles?: number;
  readonly wallSeconds: number;
  readonly peakBytes: number;
}

/** Milliseconds after which a case is given up. */
const LONGEST = 300_000;

/** `lpu verify` of one case in a fresh process: build, run and comparison. */
export function verifyCase(folder: string): Verified {
  const { stdout, wallSeconds, peakBytes } = runLpu(["verify", folder], LONGEST);
  if (stdout === "") return { status: "no end", reason: "", wallSeconds, peakBytes };
  // boundary: the command line's documented JSON
  const { cases } = JSON.parse(stdout) as { cases: readonly Omit<Verified, "wallSeconds" | "peakBytes">[] };
  const [found] = cases;
  return { ...(found ?? { status: "none", reason: "" }), wallSeconds, peakBytes };
}

/** A model whose weights are not written. */
export function makeShapes(words: readonly string[], file: string): void {
  runNode([join(DIST, "models", "build.js"), ...words, "--no-weights", "-o", file], {});
}

export interface PlannedSystem {
  readonly chips: number;
  readonly unit: "token" | "run";
  readonly microseconds: number;
  /** Units a second, of one user. */
  readonly rate: number;
  readonly wallSeconds: number;
  readonly peakBytes: number;
}

/** `lpu plan` in a fresh process. */
export function planModel(model: string, options: readonly string[]): PlannedSystem {
  const words = ["plan", model, ...options];
  const { status, stdout, wallSeconds, peakBytes } = runLpu(words);
  if (status !== 0) failed(["lpu", ...words], status);
  // boundary: the command line's documented JSON
  const { plan } = JSON.parse(stdout) as { readonly plan: SystemPlan };
  const { chips, unit, microseconds, rate } = plan;
  return { chips, unit, microseconds: microseconds.chips, rate: rate.user, wallSeconds, peakBytes };
}

export interface Timed extends Measurement {
  readonly output: Float32Array;
}

export function measure(engine: EngineName, file: string, budget: number, binds: readonly string[] = []): Timed {
  const outputFile = join(CACHE, `${engine}.output`);
  const text = runNode([join(DIST, "bench", "measure.js"), engine, file, String(budget), outputFile, ...binds], {});
  // boundary: what measure.ts prints
  const measured = JSON.parse(text) as Measurement;
  const bytes = readFileSync(outputFile);
  return {
    ...measured,
    output: new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)),
  };
}

function runNode(words: readonly string[], environment: Readonly<Record<string, string>>): string {
  const { status, stdout, error } = spawnSync(process.execPath, words, {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error !== undefined || status !== 0) failed(["node", ...words], status);
  return stdout;
}

const failed = (words: readonly string[], status: number | null): never =>
  fail("LPU5103", {
    message: `\`${words.join(" ")}\` ended with status ${status ?? "none"}`,
    hint: "what it printed stands above",
  });
