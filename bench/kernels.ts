/**
 * Micro benchmark of the linked machine: kernels by themselves, and a long program of matrix passes, linked and run.
 *
 * `node dist/bench/kernels.js [passes]`. The program does what compiled ones do most: weights of the next tile load and
 * install while 128 activation vectors stream through the array; every eighth pass gives its sums back to SRAM.
 */

import { performance } from "node:perf_hooks";
import type { FieldValue, TimedInstruction } from "../src/ir/program.js";
import { memQueue, mxmQueue, queueCount } from "../src/ir/program.js";
import type { Mnemonic } from "../src/ir/isa.js";
import { halfLanes, slicePosition, TARGETS } from "../src/ir/target.js";
import { createMemory } from "../src/runtime/kernels/table.js";
import {
  bestEngine,
  bindKernels,
  compileKernels,
  type Engine,
  ENGINES,
  KERNEL_NAMES,
  KERNELS,
} from "../src/runtime/kernels/kernels.js";
import { createMachine } from "../src/runtime/machine.js";
import type { MachineProgram } from "../src/runtime/program.js";

const target = TARGETS["lpu-v1"];
const { timing, lanes, mxm } = target;
const HALF = halfLanes(target);
const VECTORS = 128;

/** Best time of a few runs, in ms. */
function best(work: () => void, budget = 400): number {
  work();
  let least = Number.POSITIVE_INFINITY;
  const start = performance.now();
  do {
    const before = performance.now();
    work();
    least = Math.min(least, performance.now() - before);
  } while (performance.now() - start < budget);
  return least;
}

function kernelTimes(engine: Engine): void {
  const memory = createMemory(16 << 20);
  const bound = bindKernels(memory, compileKernels(engine, HALF));
  memory.f64.fill(0.5, 0, (8 << 20) / 8);
  const [A, W, OUT] = [1 << 20, 2 << 20, 8 << 20];
  const call = (name: string, values: Readonly<Record<string, number>>, work: number, unit: string): void => {
    KERNELS[name]?.arguments.forEach((argument, at) => {
      memory.i32[16 + at] = values[argument] ?? 0;
    });
    const ms = best(() => bound[KERNEL_NAMES.indexOf(name)]?.(64), engine === "plain" ? 50 : 200);
    console.log(`  ${name.padEnd(16)} ${(work / ms / 1e6).toFixed(2).padStart(8)} ${unit}`);
  };
  console.log(`engine '${engine}'`);
  const macs = VECTORS * HALF * lanes;
  call(
    "multiply",
    {
      a: A,
      w: W,
      c: OUT,
      rows: VECTORS,
      panels: lanes / 4,
      count: HALF,
      panelStep: HALF * 32,
      cStride: lanes * 4,
      add: 1,
    },
    macs,
    "GMAC/s",
  );
  call(
    "multiplyBytes",
    { a: A, aStride: lanes, w: W, c: OUT, rows: VECTORS, columns: lanes, width: lanes, cStride: lanes * 4, add: 1 },
    macs * 2,
    "GMAC/s",
  );
  call(
    "widenRows",
    { dst: OUT, lo: A, loStride: lanes, hi: W, hiStride: lanes, rows: VECTORS, flags: OUT + (4 << 20) },
    VECTORS * HALF,
    "Gelem/s",
  );
  const four = (name: string, value: (k: number) => number): [string, number][] =>
    [0, 1, 2, 3].map((k) => [name + k, value(k)]);
  const columns = Object.fromEntries([
    ...four("lo", (k) => A + k * 8192),
    ...four("loStride", () => lanes),
    ...four("hi", (k) => W + k * 8192),
    ...four("hiStride", () => lanes),
  ]);
  call(
    "loadPanels",
    { dst: OUT, dstStep: HALF * 32, executions: 20, lanes: HALF, ...columns },
    20 * 4 * HALF,
    "Gelem/s",
  );
  const words = {
    dst: OUT,
    a: A,
    aStride: lanes * 4,
    b: W,
    bStride: lanes * 4,
    rows: VECTORS,
    lanes,
    src: A,
    srcStride: lanes * 2,
    count: VECTORS * lanes,
  };
  for (const name of ["alu.add", "alu.exp", "alu.tanh", "alu.erf", "alu.rsqrt", "loadHalf", "storeHalf", "storeFloat"])
    call(name, words, VECTORS * lanes, "Gelem/s");
}

/** Passes on the east hemisphere, back to back. */
function passes(count: number): MachineProgram {
  const queues = Array.from({ length: queueCount(target) }, (): TimedInstruction[] => []);
  const add = (
    queue: number,
    cycle: number,
    op: Mnemonic,
    fields: Record<string, FieldValue>,
    executions = 1,
    step = 0,
  ): void => {
    queues[queue]?.push({
      cycle,
      op,
      fields,
      count: executions,
      interval: 1,
      step: executions === 1 ? 0 : step,
      tap: 0,
      origin: 0,
    });
  };
  const slices = Array.from({ length: 30 }, (_, slice) => ({
    queue: memQueue(target, "E", slice),
    hops: mxm - slicePosition(target, "E", slice),
  }));
  const read = (slice: number, arrival: number, address: number, stream: number, executions: number): void => {
    const { queue = 0, hops = 0 } = slices[slice] ?? {};
    add(queue, arrival - hops - timing.memRead, "read", { address, stream }, executions, 1);
  };
  const tiles = Math.floor(target.rowsPerBank / 20);
  const loads = lanes / 16;
  for (let pass = 0; pass < count; pass++) {
    const abc = 1000 + pass * VECTORS;
    const lw = abc - 60;
    for (let slice = 0; slice < 16; slice++)
      read(slice, lw + timing.mxmWeightSkew, (pass % tiles) * loads, slice, loads);
    add(
      mxmQueue(target, "E", 0, 0),
      lw,
      "lw",
      { stream: 0, mode: 0, ways: 8, column: 0, first: 0, lanes: HALF, clear: 0 },
      loads,
    );
    add(mxmQueue(target, "E", 0, 0), abc - timing.mxmInstall, "iw", {});
    for (const byte of [0, 1])
      read(20 + byte, abc + timing.mxmActivationSkew, (pass % 16) * VECTORS, 16 + byte, VECTORS);
    add(mxmQueue(target, "E", 0, 1), abc, "abc", { stream: 16, mode: pass % 2 }, VECTORS);
    const last = pass % 8 === 7;
    const acc = abc + timing.mxmMultiply;
    add(
      mxmQueue(target, "E", 0, 2),
      acc,
      "acc",
      { row: 0, mode: pass % 8 === 0 ? 0 : 1, give: last ? target.streams : -1 },
      VECTORS,
    );
    for (let byte = 0; last && byte < 4; byte++) {
      const { queue = 0, hops = 0 } = slices[24 + byte] ?? {};
      add(
        queue,
        acc + timing.mxmAccumulate + hops,
        "write",
        { address: target.rowsPerBank, stream: target.streams + byte },
        VECTORS,
        1,
      );
    }
  }
  let seed = 1;
  const bytes = (rows: number) => (): Uint8Array =>
    Uint8Array.from({ length: rows * lanes }, () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
      return (seed >>> 24) & 0x3f;
    });
  const constants = Array.from({ length: 22 }, (_, slice) => ({
    hemisphere: "E" as const,
    slice,
    row: 0,
    rows: target.rowsPerBank,
    bytes: bytes(target.rowsPerBank),
  }));
  return { target, chips: [{ queues, constants, maps: [] }], links: [], origins: [""] };
}

console.log(`best engine here: ${bestEngine()}`);
for (const engine of ENGINES) kernelTimes(engine);
const count = Number(process.argv[2] ?? 2000);
const program = passes(count);
const before = performance.now();
const [machine] = createMachine([program]).programs;
if (machine === undefined) throw new Error("a machine has the programs that it was given");
const { operations, bursts, kernels } = machine.linked;
console.log(
  `program of ${count} passes: ${bursts} bursts, ${operations} operations, ${kernels.length} calls, loaded in ${(performance.now() - before).toFixed(0)} ms`,
);
for (let run = 0; run < 3; run++) {
  machine.reset();
  const start = performance.now();
  const { cycles } = machine.execute();
  const ms = performance.now() - start;
  console.log(
    `run: ${ms.toFixed(0)} ms, ${cycles} cycles, ${((count * VECTORS * HALF * lanes) / ms / 1e6).toFixed(2)} GMAC/s`,
  );
}
