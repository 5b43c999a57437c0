/**
 * Pipelines over several chips: the same bits as on one chip, the cycles that were predicted on each, on both machines; what
 * goes over links is proved, and a program that sends or receives anything else, or too early, is refused.
 */

import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { buildModel } from "../models/families.js";
import { encodeModel, modelBytes } from "../models/onnx-writer.js";
import { readImage, writeImage } from "../src/codegen/image/image.js";
import { type Compiled, compile } from "../src/compile.js";
import { at, CompileError, sure } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { fileFromTensor, wideFromFile } from "../src/host/edge.js";
import { checkModel } from "../src/host/check.js";
import { decodeNpy, encodeNpy } from "../src/host/npy.js";
import { joinChunks } from "../src/host/build.js";
import type { Tensor } from "../src/ir/graph.js";
import { GraphBuilder } from "../src/ir/builder.js";
import { parseGraph } from "../src/ir/parse.js";
import { parsePlan } from "../src/ir/plan/parse.js";
import { printPlan } from "../src/ir/plan/print.js";
import { planProblems } from "../src/ir/plan/verify.js";
import { dealingOf, linkOf, planeCycle, rowCycle } from "../src/ir/plan/wires.js";
import type { Plan } from "../src/ir/plan.js";
import { chipCycles, chosenEntry, type Program, type TimedInstruction } from "../src/ir/program.js";
import { openLanguageModel } from "../src/index.js";
import { stagesOf } from "../src/ir/stage.js";
import { isSystem, systemOf } from "../src/ir/system.js";
import { linkDelay, type Target, TARGETS } from "../src/ir/target.js";
import { literalOf, narrowTensor, tensorOf } from "../src/ir/tensor.js";
import { chipsInLine, hopsFrom } from "../src/system/routes.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { mayFollow } from "../src/passes/check/interval.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { cutPlan } from "../src/passes/stages/cut.js";
import { pipelineOf, pipelineProgram } from "../src/pipeline.js";
import { deploymentsOf, firstWithRoom } from "../src/deployments.js";
import { loadImage } from "../src/runtime/run.js";
import { FIXTURES } from "./exports.js";
import { blockGraph, blockInput } from "./changed.js";
import { compileSmall, planOf, runOnLiteral, type SmallName, smallInputs, smallSource, verdict } from "./compiled.js";
import { check } from "./golden.js";
import { RandomGraph } from "./random-graph.js";
import { seeded } from "./random-program.js";

const SMALL: readonly SmallName[] = ["bert", "gpt2", "llama", "vit"];

const onLinked = ({ image }: Compiled, inputs: Readonly<Record<string, Tensor>>) =>
  loadImage(joinChunks(image())).entry().run(inputs);

/** A program that does all that it does twice, the second time some cycles later: what chips do between one run and the next. */
const twice = (program: Program, interval: number): Program => ({
  ...program,
  entries: program.entries.map((entry) => ({
    ...entry,
    queues: entry.queues.map((queues) =>
      queues.map((queue) =>
        [...queue, ...queue.map((one) => ({ ...one, cycle: one.cycle + interval }))].sort((a, b) => a.cycle - b.cycle),
      ),
    ),
    cycles: entry.cycles.map((cycles) => cycles + interval),
  })),
});

/** One stage on the linked machine. */
const runStage = (program: Program, inputs: Readonly<Record<string, Tensor>>, stage: number) => {
  const entry = loadImage(writeImage(program), { stage }).entry();
  return entry.run(Object.fromEntries(entry.inputs.map(({ name }) => [name, sure(inputs[name], name)])));
};

/** Vectors of some wires, those of the first before those of the next. */
const behindEachOther = (wires: readonly Tensor[]): Tensor => {
  const all = wires.map(({ data }) => data as Uint8Array);
  const [, lanes = 0] = sure(wires[0], "wire").shape;
  return tensorOf("u8", [all.reduce((sum, { length }) => sum + length, 0) / lanes, lanes], joinChunks(all));
};

describe("small models", () => {
  test.each([
    ...SMALL.map((name) => [name, "tiny", 2] as const),
    ["bert", "lpu-v1", 4] as const,
    ["llama", "lpu-v1", 8] as const,
    ["gpt2", "unit-latency", 2] as const,
  ])("%s on %s in %d stages: the bits of one chip, and the cycles of the prediction", (name, target, stages) => {
    const inputs = smallInputs(name);
    const alone = onLinked(compileSmall(name, target), inputs);
    const made = compile(smallSource(name), { target, stages, verify: true });
    const { program, report } = made;
    expect(program.chips.length + report.idle).toBe(stages);
    const linked = onLinked(made, inputs);
    expect(linked.outputs).toEqual(alone.outputs);
    expect(linked.cyclesByChip).toEqual(program.entries[0]?.cycles);
    // The literal machine takes a minute for what has many chips of many lanes.
    if (target === "tiny") {
      const literal = runOnLiteral(program, inputs);
      expect(literal.outputs).toEqual(Object.values(linked.outputs));
      expect(literal.cycles).toEqual(program.entries[0]?.cycles);
    }
    expect(report.busy.length).toBe(program.chips.length);
    // A small model on fast chips is not worth a wire.
    if (target === "tiny") expect(report.linkBytes).toBeGreaterThan(0);
  });

  test.each([["bert", "tiny", { stages: 3 }] as const, ["gpt2", "unit-latency", { stages: 2, tensor: 2 }] as const])(
    "%s on %s: stages of %j one by one, with their wires in files, give the bits of all at once",
    (name, target, asked) => {
      const inputs = smallInputs(name);
      const made = compile(smallSource(name), { target, ...asked });
      const image = joinChunks(made.image());
      const whole = loadImage(image).entry().run(inputs);
      const cycles: number[] = [];
      const ready = new Map(Object.entries(inputs));
      const stages = stagesOf(made.program);
      expect(stages.length).toBeGreaterThan(1);
      expect(stages.map(({ chips }) => chips.length)).toEqual(stages.map(() => ("tensor" in asked ? asked.tensor : 1)));
      for (const [stage, { chips, outer }] of stages.entries()) {
        const entry = loadImage(image, { stage }).entry();
        const given = Object.fromEntries(
          entry.inputs.map((spec) => [spec.name, sure(ready.get(spec.name), spec.name)]),
        );
        const run = entry.run(given);
        // Again with the same inputs: nothing of a run stays.
        expect(entry.run(given)).toEqual(run);
        expect(run.cyclesByChip).toEqual(chips.map((chip) => made.program.entries[0]?.cycles[chip]));
        // A bit flips only where it is found: on a wire that ends here.
        const [leaves] = (outer[0] ?? []).filter(({ kind }) => kind === "send");
        const flip = { cycle: leaves?.vectors[0]?.cycle ?? 0, bit: 5 };
        const flipped = verdict(() =>
          expect(loadImage(image, { stage, flip }).entry().run(given).outputs).toEqual(run.outputs),
        );
        expect(flipped).toMatch(/^(ok|LPU4037.*)$/);
        cycles.push(...run.cyclesByChip);
        if (target === "tiny") {
          const literal = runOnLiteral(made.program, given, stage);
          expect(literal.cycles).toEqual(run.cyclesByChip);
          expect(literal.outputs).toEqual(Object.values(run.outputs));
        }
        for (const { name: output, dtype, shape } of entry.outputs) {
          const file = encodeNpy(fileFromTensor(sure(run.outputs[output], output), dtype));
          const read = narrowTensor(wideFromFile(decodeNpy(file, output), output));
          expect(read.shape).toEqual(shape);
          ready.set(output, read);
        }
      }
      expect(Object.fromEntries(Object.keys(whole.outputs).map((output) => [output, ready.get(output)]))).toEqual(
        whole.outputs,
      );
      expect(cycles).toEqual(whole.cyclesByChip);
      expect(verdict(() => loadImage(image, { stage: stages.length }))).toMatch(/LPU4035/);
    },
  );

  test.each([
    // Chips that are done with a run, or nearly, before the next begins; and the same where that begins sooner.
    [
      "tiny",
      { layers: 4, hidden: 32, heads: 2, intermediate: 64, vocab: 32, seq: 16 },
      1,
      [-40, -1, 0, 1, 7, 20],
    ] as const,
    ["lpu-v1", { layers: 3, hidden: 384, heads: 6, intermediate: 768, vocab: 32, seq: 128 }, 0.95, [-1, 0]] as const,
  ])(
    "on %s of %j a run begins an interval after the one before it: the bits of each",
    (target, sizes, share, others) => {
      const source = bytesSource("bert", new Uint8Array(Buffer.concat([...encodeModel(buildModel("bert", sizes))])));
      const made = compile(source, { target, stages: 3 });
      const { interval, busy } = made.report;
      expect(interval).toBeLessThan(share * Math.max(...busy.map(({ start, end }) => end - start)));
      const isLegal = (later: number): boolean =>
        verdict(() => checkSchedule(chosenEntry(twice(made.program, later)))) === "ok";
      const proved = others.filter((later) => mayFollow(chosenEntry(made.program), interval + later));
      expect(Math.min(...proved)).toBe(0);
      expect(proved.filter((later) => !isLegal(interval + later))).toEqual([]);
      const both = twice(made.program, interval);
      // What a chip between others receives of two runs, one after the other, and what it sends.
      const ids = Array.from({ length: sizes.seq }, (_, index) => (7 * index) % sizes.vocab);
      const [received, sent] = ["wire-0-1", "wire-1-2"];
      const given = {
        input_ids: tensorOf("i32", [1, sizes.seq], ids),
        attention_mask: tensorOf("i32", [1, sizes.seq], new Int32Array(sizes.seq).fill(1, 0, sizes.seq - 3)),
      };
      const other = { ...given, input_ids: tensorOf("i32", [1, sizes.seq], ids.reverse()) };
      const wires = [given, other].map((inputs) => sure(runStage(made.program, inputs, 0).outputs[received], received));
      expect(wires[0]).not.toEqual(wires[1]);
      const middle = (program: Program, wire: Tensor) => runStage(program, { ...given, [received]: wire }, 1);
      const apart = wires.map((wire) => middle(made.program, wire));
      const together = middle(both, behindEachOther(wires));
      const each = apart.map(({ outputs }) => sure(outputs[sent], sent));
      expect(each[0]).not.toEqual(each[1]);
      expect(together.outputs).toEqual({ [sent]: behindEachOther(each) });
      expect(together.cyclesByChip).toEqual(apart[0]?.cyclesByChip.map((cycles) => cycles + interval));
      if (target !== "tiny") return;
      const literal = runOnLiteral(both, { ...given, [received]: behindEachOther(wires) }, 1);
      expect(literal.outputs).toEqual(Object.values(together.outputs));
      expect(literal.cycles).toEqual(together.cyclesByChip);
    },
  );

  test("half of what is sent leaves while the rest is still computed", () => {
    const model = buildModel("bert", { layers: 2, hidden: 640, heads: 10, intermediate: 1280, vocab: 64, seq: 128 });
    const source = bytesSource("bert", new Uint8Array(Buffer.concat([...encodeModel(model)])));
    const [first = []] = chosenEntry(compile(source, { stages: 2 }).program).entry.queues;
    const cyclesOf = (name: string): number[] => first.flat().flatMap(({ op, cycle }) => (op === name ? [cycle] : []));
    const [sent, last] = [cyclesOf("send"), Math.max(...cyclesOf("iw"))];
    expect(sent.filter((cycle) => cycle < last).length).toBeGreaterThanOrEqual(sent.length / 2);
  });

  test("chips that would have nothing to do are left out, and are said", () => {
    const alone = compile(smallSource("bert"));
    const few = compile(smallSource("bert"), { system: "node8", stages: 2 });
    expect([few.report.chips, few.report.idle, alone.report.idle]).toEqual([1, 1, 0]);
    expect(joinChunks(few.image())).toEqual(joinChunks(alone.image()));
    expect(checkModel(smallSource("bert"), { system: "node8", stages: 2 }).chips).toBe(1);
    for (const stages of [2, 8])
      for (const name of SMALL) {
        const { program, report } = compile(smallSource(name), { target: "tiny", stages });
        expect([name, report.chips + report.idle]).toEqual([name, stages]);
        const works = at(program.entries, 0, "entry").queues.map((queues) => queues.some(({ length }) => length > 0));
        expect([name, works]).toEqual([name, works.map(() => true)]);
      }
  });

  test("cycles of each chip", () => {
    check("pipelines.txt", () =>
      SMALL.flatMap((name) =>
        (["tiny", "lpu-v1"] as const).map((target) => {
          const { report } = compile(smallSource(name), { target, stages: 2 });
          const spans = report.busy.map(({ start, end }) => `${start}..${end}`.padStart(12)).join(" ");
          return `${name.padEnd(6)} ${target.padEnd(8)} ${spans} ${String(report.linkBytes).padStart(8)} B`;
        }),
      ).join("\n"),
    );
  });
});

interface Pipelined {
  readonly program: Program;
  /** Of each chip. */
  readonly plans: readonly Plan[];
}

const pipelined = (plan: Plan, target: Target, stages: number): Pipelined => {
  const { program, plans } = pipelineProgram([{ name: "main", plan }], pipelineOf({ stages }, target), (stage) => {
    expect(planProblems(stage, target)).toEqual([]);
    expect(printPlan(parsePlan(printPlan(stage)))).toBe(printPlan(stage));
  });
  return { program, plans: plans.flat() };
};

test("random graphs: the bits of one chip", () => {
  const target = TARGETS["lpu-v1"];
  let done = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const random = new RandomGraph(seeded(seed), 8);
    const { inputs } = random;
    let plan: Plan;
    let alone: Program;
    let made: Pipelined;
    try {
      plan = planOf(random.builder.finish(), target);
      alone = schedule(plan, target).program;
      made = pipelined(plan, target, 2 + (seed % 3));
    } catch (error) {
      if (error instanceof CompileError) continue;
      throw error;
    }
    done++;
    checkSchedule(chosenEntry(made.program), ...made.plans);
    const loaded = loadImage(writeImage(made.program)).entry();
    const { outputs, cycles } = loaded.run(inputs);
    expect({ seed, cycles, outputs }).toEqual({
      seed,
      cycles: loaded.predictedCycles,
      outputs: loadImage(writeImage(alone)).entry().run(inputs).outputs,
    });
  }
  expect(done).toBeGreaterThan(10);
});

const WIDE = 64;

test("two chips hold what one does not", () => {
  const target = { ...TARGETS.tiny, rowsPerBank: 64 };
  const builder = new GraphBuilder("deep");
  const random = seeded(3);
  let at = builder.input("x", { dtype: "f32", shape: [4, WIDE] });
  for (const layer of [..."abcdefghij"]) {
    const values = Array.from({ length: WIDE * WIDE }, () => (random(65) - 32) / 256);
    const weights = builder.constant(literalOf(tensorOf("f32", [WIDE, WIDE], values)), [layer]);
    at = builder.add("tanh", [builder.add("matmul", [at, weights], {}, [layer])], {}, [layer]);
  }
  builder.output("y", at);
  const plan = planOf(builder.finish(), target);
  const x = tensorOf(
    "f32",
    [4, WIDE],
    Array.from({ length: 4 * WIDE }, () => (random(65) - 32) / 16),
  );
  const held = pipelined(plan, target, 2);
  checkSchedule(chosenEntry(held.program), ...held.plans);
  const wide = schedule(plan, TARGETS.tiny).program;
  expect(runOnLiteral(held.program, { x }).outputs).toEqual(runOnLiteral(wide, { x }).outputs);
  expect(verdict(() => schedule(plan, target))).toMatch(/^LPU2001/);
  const tried: number[] = [];
  const fits = firstWithRoom(sure(deploymentsOf({ stages: "auto" }, target)[0]?.[0], "deployment"), (pipeline) => {
    tried.push(pipeline.hops.length + 1);
    return pipelineProgram([{ name: "main", plan }], pipeline).program;
  });
  expect([tried, fits.chips.length]).toEqual([[1, 2], 2]);
});

(existsSync(FIXTURES) ? test : test.skip)(
  "entries and states: a decoder writes on several chips what it writes on one",
  async () => {
    const model = await openLanguageModel(new URL("stories260K-past/model.onnx", FIXTURES).pathname, {
      ...{ context: 8, prefill: 4, stages: 2, cacheDir: false },
    });
    const golden: { readonly tokens: readonly number[] } = JSON.parse(
      readFileSync(new URL("../stories260K/golden_greedy.json", FIXTURES), "utf8"),
    );
    const grouped = await openLanguageModel(new URL("stories260K-past/model.onnx", FIXTURES).pathname, {
      ...{ context: 8, prefill: 4, stages: 2, tensor: 2, target: "unit-latency", cacheDir: false },
    });
    for (const one of [model, grouped]) {
      const written = [];
      for await (const { token } of one.generate(golden.tokens.slice(0, 5), { maxTokens: 3 })) written.push(token);
      expect(written).toEqual(golden.tokens.slice(5, 8));
    }
  },
);

/* ---------- what goes over which link ---------- */

test("vectors are dealt out so that each link takes one at its interval, in the order of rows", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 16 }),
      fc.constantFrom(2, 4),
      fc.integer({ min: 0, max: 15 }),
      fc.integer({ min: 1, max: 80 }),
      (links, bytes, from, rows) => {
        const target = TARGETS["lpu-v1"];
        const dealing = dealingOf(target, links, bytes);
        const wire = { kind: "send", name: "", links: [], first: from % dealing.size } as const;
        const taken = new Map<number, number[]>();
        for (let row = 0; row < rows; row++)
          for (let byte = 0; byte < bytes; byte++) {
            const link = linkOf(dealing, wire, row, byte);
            expect(link).toBeLessThan(links);
            const cycle = rowCycle(dealing, wire, row) + planeCycle(dealing, byte);
            taken.set(link, [...(taken.get(link) ?? []), cycle]);
          }
        expect(rowCycle(dealing, wire, 0)).toBe(0);
        for (const cycles of taken.values()) {
          cycles.sort((a, b) => a - b);
          for (const [at, cycle] of cycles.entries())
            if (at > 0) expect(cycle - (cycles[at - 1] ?? 0)).toBeGreaterThanOrEqual(target.timing.linkInterval);
        }
        // No slower than the links are: all of them work, but before the first row and behind the last.
        const last = Math.max(...[...taken.values()].flat());
        const slots = Math.ceil(((rows + dealing.size) * bytes) / links) + bytes;
        expect(last).toBeLessThan(slots * target.timing.linkInterval);
      },
    ),
  );
});

/* ---------- what is refused ---------- */

describe("a changed pipeline", () => {
  const target = TARGETS.tiny;
  const { program, plans } = pipelined(planOf(blockGraph(12, 40, 40), target), target, 2);
  const inputs = { x: blockInput(12, 40) };

  /** With the instructions of a kind on a chip changed, and the prediction that follows. */
  const changed = (
    chip: number,
    op: string,
    edit: (one: TimedInstruction, at: number) => TimedInstruction,
  ): Program => {
    const [entry] = program.entries;
    if (entry === undefined) throw new Error("a program has an entry");
    let at = 0;
    const queues = entry.queues.map((own, index) =>
      index !== chip
        ? own
        : own.map((queue) =>
            queue.map((one) => (one.op === op ? edit(one, at++) : one)).sort((a, b) => a.cycle - b.cycle),
          ),
    );
    const cycles = queues.map((own) => chipCycles(target, own));
    return { ...program, entries: [{ ...entry, queues, cycles }] };
  };
  const verdictOf = (changedProgram: Program): string =>
    verdict(() => checkSchedule(chosenEntry(changedProgram), ...plans));
  const first = (edit: (one: TimedInstruction) => TimedInstruction) => (one: TimedInstruction, at: number) =>
    at === 0 ? edit(one) : one;

  test("is legal as it is", () => {
    expect(verdictOf(program)).toBe("ok");
    expect(runOnLiteral(program, inputs).cycles).toEqual(program.entries[0]?.cycles);
  });

  test("the checker and the machine refuse what is received before it arrives", () => {
    const early = changed(1, "receive", (one) => ({ ...one, cycle: one.cycle - linkDelay(target) }));
    expect(verdictOf(early)).toMatch(/^LPU22(21|1[0-9])/);
    expect(verdict(() => runOnLiteral(early, inputs))).toMatch(/^LPU40/);
  });

  test("a vector that goes over another link is not what the plan sends there", () => {
    const turned = changed(0, "send", (one) => ({
      ...one,
      fields: { ...one.fields, link: 1 - Number(one.fields["link"]) },
    }));
    expect(verdictOf(turned)).toMatch(/^LPU2224: .*expected to send byte/);
  });

  test("a program that sends nothing is refused", () => {
    const [entry] = program.entries;
    if (entry === undefined) throw new Error("a program has an entry");
    const queues = entry.queues.map((own) => own.map((queue) => queue.filter(({ op }) => op !== "send")));
    const silent = {
      ...program,
      entries: [{ ...entry, queues, cycles: queues.map((own) => chipCycles(target, own)) }],
    };
    expect(verdictOf(silent)).toMatch(/^LPU2221: .*expected a vector on link/);
  });

  test("a link without a wire is refused", () => {
    expect(verdictOf({ ...program, links: [] })).toMatch(/^LPU2221: .*expected a link that is connected/);
    expect(
      verdictOf(
        changed(
          0,
          "send",
          first((one) => ({ ...one, fields: { ...one.fields, link: 9 } })),
        ),
      ),
    ).toMatch(/^LPU2211/);
  });

  test("plans that do not meet at their wires are refused", () => {
    const [before, after] = plans;
    if (before === undefined || after === undefined) throw new Error("two chips have two plans");
    const tasks = after.tasks.map((task) =>
      task.wire === undefined ? task : { ...task, wire: { ...task.wire, name: `${task.wire.name}'` } },
    );
    expect(verdict(() => checkSchedule(chosenEntry(program), before, { ...after, tasks }))).toMatch(/^LPU222[46]/);
  });

  test("an image and a listing hold all of it", () => {
    const again = readImage(writeImage(program));
    expect(runOnLiteral(again, inputs)).toEqual(runOnLiteral(program, inputs));
  });
});

/* ---------- systems ---------- */

const SYSTEM_NAMES = ["card", "node2", "node4", "node8", "rack", "line-2", "line-12", "dragonfly-264", "dragonfly-720"];

test.each(SYSTEM_NAMES.filter(isSystem))(
  "%s uses no link twice, joins every chip, and a pipeline goes through all of it",
  (name) => {
    const system = systemOf(name, TARGETS["lpu-v1"]);
    const { chips, links } = system;
    const ends = links.map(({ fromChip, fromLink }) => `${fromChip}.${fromLink}`);
    expect(new Set(ends).size).toBe(ends.length);
    expect(links.every(({ fromLink }) => fromLink < TARGETS["lpu-v1"].links)).toBe(true);
    const wires = new Set(
      links.map(({ fromChip, fromLink, toChip, toLink }) => [fromChip, fromLink, toChip, toLink].join()),
    );
    for (const { fromChip, fromLink, toChip, toLink } of links)
      expect(wires.has([toChip, toLink, fromChip, fromLink].join())).toBe(true);
    expect(Math.max(...hopsFrom(system, 0))).toBeLessThan(Number.POSITIVE_INFINITY);
    const line = chipsInLine(system, chips);
    expect([...line].sort((a, b) => a - b)).toEqual(Array.from({ length: chips }, (_, chip) => chip));
    const joined = new Set(links.map(({ fromChip, toChip }) => `${fromChip} ${toChip}`));
    for (const [at, chip] of line.entries()) if (at > 0) expect(joined.has(`${line[at - 1]} ${chip}`)).toBe(true);
  },
);

test("ways are as short as the makers say", () => {
  const rack = systemOf("rack", TARGETS["lpu-v1"]);
  const large = systemOf("dragonfly-10440", TARGETS["lpu-v1"]);
  expect([Math.max(...hopsFrom(rack, 0)), large.chips]).toEqual([3, 10440]);
});

test("what cannot be a pipeline says why", () => {
  const graph = parseGraph(`graph @one(%0 "x": f32[3,8]) {\n  %1 = tanh(%0) : f32[3,8]\n  return %1 "y"\n}\n`);
  const plan = planOf(graph, TARGETS.tiny);
  expect(verdict(() => pipelined(plan, TARGETS.tiny, 2))).toMatch(/^LPU2006/);
  expect(verdict(() => pipelineOf({ system: "rack" }, TARGETS.tiny))).toMatch(/^LPU2007: .*has 2/);
  expect(verdict(() => pipelineOf({ system: "node2", stages: 3 }, TARGETS.tiny))).toMatch(/^LPU2007/);
  expect(pipelineOf({ stages: 9 }, TARGETS["lpu-v1"]).hops.length).toBe(8);
});

test("what is made again is made of what comes over a wire, if others read that", () => {
  const sizes = { layers: 2, hidden: 96, heads: 3, intermediate: 321, vocab: 50, seq: 128, positions: 200, classes: 3 };
  const target = TARGETS["lpu-v1"];
  const graph = importModel(bytesSource("bert", modelBytes(buildModel("bert", sizes))), { bind: {} });
  for (const { tasks } of cutPlan(planOf(graph, target), target, pipelineOf({ stages: 2 }, target).hops)) {
    const written = tasks.flatMap(({ outputs }) =>
      outputs.map(({ storage, panel, row }) => [storage, panel, row].join()),
    );
    expect(written.filter((place, index) => written.indexOf(place) !== index)).toEqual([]);
  }
});
