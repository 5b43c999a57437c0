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

/** `lpu build` in a fresh process, without the cache. */
export function buildImage(model: string, image: string, binds: readonly string[] = []): Built {
  const peakFile = join(CACHE, "peak-memory.txt");
  const start = performance.now();
  const output = runNode(
    [
      "--import",
      join(DIST, "bench", "peak-memory.js"),
      join(DIST, "bin", "lpu.js"),
      "build",
      model,
      "-o",
      image,
      "--rebuild",
      "--json",
      ...binds.flatMap((bind) => ["--bind", bind]),
    ],
    { PEAK_MEMORY_FILE: peakFile },
  );
  const wallSeconds = (performance.now() - start) / 1000;
  // boundary: the command line's documented JSON
  const built = JSON.parse(output) as Omit<Built, "wallSeconds" | "peakBytes">;
  return { ...built, wallSeconds, peakBytes: Number(readFileSync(peakFile, "utf8")) };
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
  const peakFile = join(CACHE, "peak-memory.txt");
  rmSync(peakFile, { force: true });
  const words = [
    "--import",
    join(DIST, "bench", "peak-memory.js"),
    join(DIST, "bin", "lpu.js"),
    "verify",
    folder,
    "--json",
  ];
  const start = performance.now();
  const { stdout } = spawnSync(process.execPath, words, {
    env: { ...process.env, PEAK_MEMORY_FILE: peakFile },
    stdio: ["ignore", "pipe", "ignore"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
    timeout: LONGEST,
  });
  const wallSeconds = (performance.now() - start) / 1000;
  const peakBytes = existsSync(peakFile) ? Number(readFileSync(peakFile, "utf8")) : 0;
  if (stdout === "") return { status: "no end", reason: "", wallSeconds, peakBytes };
  // boundary: the command line's documented JSON
  const { cases } = JSON.parse(stdout) as { cases: readonly Omit<Verified, "wallSeconds" | "peakBytes">[] };
  const [found] = cases;
  return { ...(found ?? { status: "none", reason: "" }), wallSeconds, peakBytes };
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
  if (error !== undefined || status !== 0) {
    fail("LPU5103", {
      message: `\`node ${words.join(" ")}\` ended with status ${status ?? "none"}`,
      hint: "what it printed stands above",
    });
  }
  return stdout;
}
