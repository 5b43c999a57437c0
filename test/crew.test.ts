/**
 * Chips on threads: any number of them gives the bits and cycles of one, in whatever order they get on; and a thread that ends
 * is said so, and leaves nobody waiting.
 */

import { spawnSync } from "node:child_process";
import { describe, expect, test } from "@jest/globals";
import { joinChunks } from "../src/host/build.js";
import { compile } from "../src/compile.js";
import { sure } from "../src/diagnostics.js";
import { startCrew } from "../src/runtime/crew/crew.js";
import { runShare, type Share, sharesOf, type SharedProgram } from "../src/runtime/crew/share.js";
import { compileKernels } from "../src/runtime/kernels/kernels.js";
import { createMemory } from "../src/runtime/kernels/table.js";
import { loadImage } from "../src/runtime/run.js";
import { smallInputs, smallSource, verdict } from "./compiled.js";
import { type Random, seeded } from "./random-program.js";

/** Four chips, each of which makes `calls` calls in turn, and takes in every third what the chip before it sent last. */
function ring(calls: number): SharedProgram {
  const chips = Int32Array.from({ length: 4 * calls }, (_, call) => call % 4);
  const crossings = Array.from(chips.keys()).filter((call) => call >= 4 && Math.floor(call / 4) % 3 === 0);
  return {
    chips,
    kernels: chips.map((_, call) => call),
    pointers: chips.map((_, call) => call),
    crossings: Int32Array.from(crossings.flatMap((call) => [call, call - 5 + 1])),
  };
}

describe("shares", () => {
  test.each([1, 2, 3, 4])("of %i threads are all calls, and wait for what they take, in any order", (threads) => {
    const program = ring(30);
    const shares = sharesOf(program, threads);
    const all = shares.flatMap(({ kernels }) => Array.from(kernels));
    expect(all.sort((a, b) => a - b)).toEqual(Array.from(program.kernels));
    if (threads === 1) expect(shares[0]?.stops.length).toBe(0);
    for (let seed = 1; seed <= 20; seed++) {
      const done = walk(shares, seeded(seed));
      const place = new Map(done.map((call, at) => [call, at]));
      expect({ seed, calls: done.length }).toEqual({ seed, calls: 120 });
      for (let pair = 0; pair < program.crossings.length; pair += 2) {
        const [taker, sender] = [program.crossings[pair] as number, (program.crossings[pair + 1] as number) - 1];
        expect({ seed, taker, late: sure(place.get(sender), "call") < sure(place.get(taker), "call") }).toEqual({
          ...{ seed, taker, late: true },
        });
      }
    }
  });
});

/** Calls in the order in which threads make them that are chosen by chance, one step of one of them after another. */
function walk(shares: readonly Share[], random: Random): number[] {
  const told = shares.map(() => 0);
  const made = shares.map(() => 0);
  const stop = shares.map(() => 0);
  const done: number[] = [];
  for (let idle = 0; idle < 1000; ) {
    const thread = random(shares.length);
    const { stops, kernels } = sure(shares[thread], "share");
    const [at, call] = [sure(stop[thread], "stop"), sure(made[thread], "calls")];
    idle++;
    if (at < stops.length && stops[at] === call) {
      const [other, calls] = [sure(stops[at + 1], "thread"), sure(stops[at + 2], "calls")];
      if (other === thread) told[thread] = calls;
      else if (sure(told[other], "calls") < calls) continue;
      stop[thread] = at + 3;
    } else if (call < kernels.length) {
      done.push(sure(kernels[call], "call"));
      made[thread] = call + 1;
    } else continue;
    idle = 0;
  }
  return done;
}

const image = joinChunks(compile(smallSource("gpt2"), { target: "tiny", system: "node8", stages: 8 }).image());

describe("a machine on threads", () => {
  test("gives the bits and cycles of one thread, in every run", () => {
    const inputs = smallInputs("gpt2");
    const [first, ...others] = [1, 2, 9].map((threads) => {
      const model = loadImage(image, { threads });
      const runs = [1, 2].map(() => model.entry().run(inputs));
      model.close();
      return runs;
    });
    for (const runs of others) expect(runs).toEqual(first);
  });

  test("runs no more once it is closed", () => {
    const model = loadImage(image, { threads: 2 });
    model.close();
    expect(verdict(() => model.entry().run(smallInputs("gpt2")))).toMatch(/^LPU4036: /);
  });

  test("keeps no process up that has not closed it", () => {
    const script = `const { loadImage } = await import(${JSON.stringify(new URL("../src/runtime/run.js", import.meta.url).href)});
      const bytes = (await import("node:fs")).readFileSync(0);
      loadImage(bytes, { threads: 3 });
      console.log("loaded");`;
    const { status, stdout, error } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      ...{ input: image, encoding: "utf8", timeout: 60_000 },
    });
    expect({ status, stdout, error }).toEqual({ status: 0, stdout: "loaded\n", error: undefined });
  });
});

test("a thread that ends, or that fails, is an error of the run", () => {
  const code = compileKernels("plain", 8, true);
  const [own, other] = sharesOf(ring(30), 2);
  const share = sure(own, "share");
  const data = { memory: createMemory(65536, true).wasm, code, shares: [[share, sure(other, "share")]] };
  for (const script of ["process.exit(0)", "throw 1"]) {
    const crew = startCrew(data, 2, new URL(`data:text/javascript,${encodeURIComponent(script)}`));
    const functions = Array.from(share.kernels, () => () => undefined);
    for (let run = 0; run < 2; run++)
      expect(verdict(() => crew.run(0, (progress) => runShare(share, functions, progress)))).toMatch(/^LPU4036: /);
    crew.dismiss();
  }
  const crew = startCrew(data, 2);
  const failing = (): never => {
    throw new RangeError("own");
  };
  expect(() => crew.run(0, failing)).toThrow("own");
  crew.dismiss();
});
