/**
 * One engine on one file in a process of its own: `measure.js <engine> <file> <budget seconds> <output file> [dim=extent...]`.
 *
 * Prints one JSON object: seconds to load, seconds of each run, peak memory. The first output's values go to the output
 * file as raw floats, for comparison. At least two runs are made, then more while the budget lasts, at most nine.
 */

import { writeFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { fail } from "../src/diagnostics.js";
import { ENGINES, feedsFor, isEngine } from "./engines.js";

export interface Measurement {
  readonly loadSeconds: number;
  readonly runSeconds: readonly number[];
  readonly peakBytes: number;
}

async function measure(
  engine: string,
  file: string,
  budget: number,
  outputFile: string,
  binds: Readonly<Record<string, number>>,
): Promise<Measurement> {
  if (!isEngine(engine)) fail("LPU5103", { message: `no engine is called '${engine}'` });
  const loading = performance.now();
  const opened = await ENGINES[engine].open(file, binds);
  const loadSeconds = since(loading);
  const feeds = feedsFor(opened.inputs);
  const runSeconds: number[] = [];
  let spent = 0;
  while (runSeconds.length < 2 || (spent < budget && runSeconds.length < 9)) {
    const start = performance.now();
    const outputs = await opened.run(feeds);
    runSeconds.push(since(start));
    spent += since(start);
    const [first] = outputs.values();
    if (runSeconds.length === 1 && first !== undefined)
      writeFileSync(outputFile, new Uint8Array(first.buffer, first.byteOffset, first.byteLength));
  }
  return { loadSeconds, runSeconds, peakBytes: process.resourceUsage().maxRSS * 1024 };
}

const since = (start: number): number => (performance.now() - start) / 1000;

const [engine = "", file = "", budget = "5", outputFile = "", ...binds] = process.argv.slice(2);
const pairs = binds.map((bind) => bind.split("=")).map(([name = "", extent = "1"]) => [name, Number(extent)] as const);
console.log(JSON.stringify(await measure(engine, file, Number(budget), outputFile, Object.fromEntries(pairs))));
// Engines may leave handles open.
process.exit(0);
