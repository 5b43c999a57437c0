/**
 * The schedule checker: it accepts every legal program, and what it accepts the literal machine, the definition, runs.
 * Random machine programs and compiled ones are changed in one place each, from seeds, and both are asked.
 */

import { wholeProgram } from "./machine-text.js";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { MachineFault } from "../src/diagnostics.js";
import { encodeQueue } from "../src/codegen/text/encode.js";
import type { Source } from "../src/ir/isa.js";
import { COUNT_MAX } from "../src/ir/operands.js";
import {
  chosenEntry,
  memQueue,
  mxmQueue,
  type Program,
  queueCount,
  queuePlace,
  type TimedInstruction,
  vxmQueue,
} from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { blockGraph, blockInput, instructionsOf, replaced, type Victim, withFields, withQueues } from "./changed.js";
import { loadedSram, programOf, runOnLiteral, verdict } from "./compiled.js";
import { mutate, type Random, randomProgram, seeded } from "./random-program.js";

const check = (program: Program): string => verdict(() => checkSchedule(chosenEntry(program))).slice(0, 7);
const machine = (program: Program): string =>
  verdict(() => runLiteral(chosenEntry(program), loadedSram(program))).slice(0, 7);

/** Where the checker asks for more than the machine: what no image can hold, rows of constants, work that is lost. */
const STRICTER = ["LPU2211", "LPU2214", "LPU2223"];

describe("random machine programs", () => {
  const seeds = Array.from({ length: 100 }, (_, index) => index + 1);
  const programs = new Map(seeds.map((seed) => [seed, randomProgram(seed)]));

  test("legal ones are accepted, but for sums that are never given", () => {
    const refused = [...programs].map(([seed, program]) => `${seed}: ${check(program)}`);
    expect(refused.filter((line) => !/: (ok|LPU2223)$/.test(line))).toEqual([]);
    expect(refused.filter((line) => line.endsWith("ok")).length).toBeGreaterThan(40);
  });

  test("changed ones are refused just where the machine finds a fault", () => {
    const wrong: string[] = [];
    let broken = 0;
    for (const [seed, program] of programs) {
      for (let change = 0; change < 4; change++) {
        const changed = mutate(program, seed * 100 + change);
        const [own, definition] = [check(changed), machine(changed)];
        if (own !== "ok") broken++;
        if (own === "ok" ? definition !== "ok" : definition === "ok" && !STRICTER.includes(own))
          wrong.push(`seed ${seed}, change ${seed * 100 + change}: checker ${own}, machine ${definition}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(broken).toBeGreaterThan(150);
  });
});

const INPUT = blockInput(6, 20);

interface Change {
  /** Codes that the checker may give; others are a finding. */
  readonly codes: readonly string[];
  /** What becomes of an instruction; undefined if the change does not apply to it. */
  readonly change: (
    instruction: TimedInstruction,
    random: Random,
    program: Program,
  ) => readonly TimedInstruction[] | undefined;
}

/** A change of one field of some instructions. */
const field = (
  ops: readonly string[],
  name: string,
  make: (value: number, random: Random, program: Program) => number,
  codes: readonly string[],
): Change => ({
  codes,
  change: (instruction, random, program) =>
    ops.includes(instruction.op) && Number(instruction.fields[name]) >= 0
      ? withFields(instruction, { [name]: make(Number(instruction.fields[name]), random, program) })
      : undefined,
});

const drop = (op: string, codes: readonly string[]): Change => ({
  codes,
  change: (instruction) => (instruction.op === op ? [] : undefined),
});

const ANY = [
  "LPU2210",
  "LPU2211",
  "LPU2212",
  "LPU2213",
  "LPU2214",
  "LPU2215",
  "LPU2216",
  "LPU2217",
  "LPU2218",
  "LPU2219",
  "LPU2220",
  "LPU2223",
  "LPU2222",
];
const STREAMS = ["LPU2215", "LPU2216"];

const CHANGES: Readonly<Record<string, Change>> = {
  "one cycle later": { codes: ANY, change: (one) => [{ ...one, cycle: one.cycle + 1 }] },
  "one cycle earlier": { codes: ANY, change: (one) => [{ ...one, cycle: one.cycle - 1 }] },
  "dispatched twice": { codes: ["LPU2210"], change: (one) => [one, one] },
  "one execution more": { codes: ANY, change: (one) => [{ ...one, count: one.count + 1 }] },
  "one execution less": {
    codes: ANY,
    change: (one) =>
      one.count > 1
        ? [{ ...one, count: one.count - 1, ...(one.count === 2 ? { interval: 1, step: 0 } : {}) }]
        : undefined,
  },
  "another interval": { codes: ANY, change: (one) => (one.count > 1 ? [{ ...one, interval: 2 }] : undefined) },
  "another stream": field(
    ["read", "write", "abc", "lw"],
    "stream",
    (stream, random, { target }) => (stream + 2 + 2 * random(target.streams - 1)) % (2 * target.streams),
    [...STREAMS, "LPU2211"],
  ),
  "given to another stream": field(
    ["unary", "binary", "ternary", "acc", "permute"],
    "give",
    (stream, _, { target }) => (stream + target.streams) % (2 * target.streams),
    [...STREAMS, "LPU2211"],
  ),
  "a row that holds nothing": field(
    ["read"],
    "address",
    (_, random, { target }) => Math.floor(target.rowsPerBank / 2) + random(64),
    ["LPU2213", "LPU2211", "LPU2212"],
  ),
  "the other bank": field(
    ["read", "write"],
    "address",
    (row, _, { target }) => (row + target.rowsPerBank) % (2 * target.rowsPerBank),
    ["LPU2211", "LPU2212", "LPU2213", "LPU2214"],
  ),
  "an address beyond the slice": field(["read", "write"], "address", (_, __, { target }) => 2 * target.rowsPerBank, [
    "LPU2211",
  ]),
  "another accumulator row": field(["acc"], "row", (row) => row + 1, ["LPU2211", "LPU2220", "LPU2223"]),
  "the other accumulation": field(["acc"], "mode", (mode) => 1 - mode, ["LPU2220", "LPU2223"]),
  "another column": field(["lw"], "column", (_, __, { target }) => target.lanes - 1, ["LPU2211"]),
  "a value left on the stream": {
    codes: [...STREAMS, "LPU2211"],
    change: (one) => (one.tap === 0 && one.op !== "iw" ? [{ ...one, tap: 1 }] : undefined),
  },
  "a result of another age": {
    codes: ["LPU2217", "LPU2211"],
    change: (one) => {
      const chained = Object.entries(one.fields).find(([, value]) => typeof value === "object" && "alu" in value);
      if (chained === undefined) return undefined;
      const [name, source] = chained as [string, Extract<Source, { alu: number }>];
      return withFields(one, { [name]: { ...source, age: source.age + one.count } });
    },
  },
  "a result of another ALU": {
    codes: ["LPU2217"],
    change: (one, _, { target }) => {
      const chained = Object.entries(one.fields).find(([, value]) => typeof value === "object" && "alu" in value);
      if (chained === undefined) return undefined;
      const [name, source] = chained as [string, Extract<Source, { alu: number }>];
      return withFields(one, { [name]: { ...source, alu: (source.alu + target.alus - 1) % target.alus } });
    },
  },
  "no read": drop("read", ["LPU2216"]),
  "no write": drop("write", ["LPU2213", "LPU2214", "LPU2215"]),
  "no load of weights": drop("lw", ["LPU2215", "LPU2218"]),
  "no install": drop("iw", ["LPU2218", "LPU2223"]),
  "no activations": drop("abc", ["LPU2215", "LPU2219"]),
  "no accumulation": drop("acc", ["LPU2216", "LPU2219"]),
  "no permutation": drop("permute", ["LPU2216"]),
};

describe("compiled programs", () => {
  let program: Program;
  let facts: ReturnType<typeof checkSchedule>;
  beforeAll(() => {
    program = programOf(blockGraph(6, 20, 24), TARGETS.tiny);
    facts = checkSchedule(chosenEntry(program));
  });

  test("the program uses every unit, and runs", () => {
    const ops = new Set(program.entries[0]?.queues[0]?.flat().map(({ op }) => op));
    for (const op of ["read", "write", "lw", "iw", "abc", "acc", "unary", "binary", "permute"])
      expect(ops).toContain(op);
    expect(runOnLiteral(program, { x: INPUT }).cycles).toEqual(program.entries[0]?.cycles);
  });

  test.each(Object.keys(CHANGES))("changed: %s", (name) => {
    const { codes, change } = CHANGES[name] as Change;
    const random = seeded(Object.keys(CHANGES).indexOf(name) + 1);
    const victims = instructionsOf(program).filter(
      ({ instruction }) => change(instruction, random, program) !== undefined,
    );
    expect(victims.length).toBeGreaterThan(0);
    const found: string[] = [];
    for (let trial = 0; trial < 12; trial++) {
      const victim = victims[random(victims.length)] as Victim;
      const changed = replaced(program, victim, change(victim.instruction, random, program) ?? []);
      const own = check(changed);
      found.push(own);
      const where = `${victim.queue}/${victim.at} ${victim.instruction.op} at cycle ${victim.instruction.cycle}`;
      if (own === "ok") expect([where, verdict(() => runOnLiteral(changed, { x: INPUT }))]).toEqual([where, "ok"]);
      else expect([where, codes.includes(own) ? "expected" : own]).toEqual([where, "expected"]);
    }
    expect(found.some((code) => code !== "ok")).toBe(true);
  });

  test("an instruction of another unit is refused", () => {
    const queues = program.entries[0]?.queues[0]?.map((queue) => [...queue]) ?? [];
    const read = queues.flat().find(({ op }) => op === "read") as TimedInstruction;
    queues[vxmQueue(program.target, 15)] = [{ ...read, cycle: 40 }];
    expect(check(withQueues(program, queues))).toBe("LPU2211");
  });

  test("what the encoder writes itself, or comes through a stream, is no part of a schedule", () => {
    for (const op of ["nop", "sync", "notify", "repeat", "ifetch"] as const) {
      const queues = Array.from({ length: queueCount(program.target) }, () => [] as TimedInstruction[]);
      queues[0] = [{ ...once(60), op, fields: { cycles: 1, count: 1, interval: 1, source: 0 } }];
      expect(check(withQueues(program, queues))).toBe("LPU2211");
    }
  });

  test("a burst is as long as its text can be: `repeat` counts what is behind the first, an address generator all", () => {
    const { target } = program;
    const long = (count: number, op: "config" | "read"): readonly string[] => {
      const fields = op === "config" ? { length: target.lanes, power: 1 } : { address: 0, stream: 0 };
      const queue = op === "config" ? vxmQueue(target, 0) : memQueue(target, "W", 0);
      const queued = [{ ...once(60), op, fields, count }];
      const encode = (): Uint8Array => encodeQueue(target, queue, queued, { notify: true });
      return [check(bare({ [queue]: queued })), verdict(encode).slice(0, 7)];
    };
    expect(long(COUNT_MAX + 1, "config")).toEqual(["ok", "ok"]);
    expect(long(COUNT_MAX + 2, "config")).toEqual(["LPU2211", "LPU3021"]);
    expect(long(COUNT_MAX, "read")).toEqual(["LPU2213", "ok"]);
    expect(long(COUNT_MAX + 1, "read")).toEqual(["LPU2211", "LPU3021"]);
  });

  test("nothing is dispatched before the barrier", () => {
    const { target } = program;
    const at = (cycle: number): string => check(bare({ [memQueue(target, "W", 0)]: [read(0, cycle, 0)] }));
    expect(at(target.timing.barrier)).toBe("LPU2213");
    expect(at(target.timing.barrier - 1)).toBe("LPU2210");
  });

  test("a row can be read memWrite cycles after its write, not before", () => {
    const { target } = program;
    const { memWrite, memRead } = target.timing;
    const [inner, outer] = [memQueue(target, "W", 0), memQueue(target, "W", 4)];
    // Outward from slice w0 to w4, one hop further; read again at once and left to fly off the chip.
    const withRead = (cycle: number): string =>
      check(
        bare(
          {
            [inner]: [read(0, 50, target.streams)],
            [outer]: [
              { ...once(50 + memRead + 1), op: "write", fields: { address: 7, stream: target.streams } },
              read(7, cycle, 3),
            ],
          },
          [{ hemisphere: "W", slice: 0, row: 0, rows: 1, bytes: () => new Uint8Array(target.lanes) }],
        ),
      );
    expect(withRead(51 + memRead + memWrite)).toBe("ok");
    expect(withRead(50 + memRead + memWrite)).toBe("LPU2213");
  });

  test("weights are installed mxmLoad cycles after the last load and met mxmInstall cycles later, not before", () => {
    const { timing } = program.target;
    const queues = program.entries[0]?.queues[0] ?? [];
    const weights = mxmQueue(program.target, "W", 0, 0);
    const own = queues[weights] ?? [];
    const at = own.findIndex(({ op }) => op === "iw");
    const [load, install] = [own[at - 1], own[at]] as [TimedInstruction, TimedInstruction];
    const abc = queues[weights + 1]?.find(({ cycle }) => cycle > install.cycle) as TimedInstruction;
    const moved = (cycle: number): string =>
      check(replaced(program, { queue: weights, at, instruction: install }, [{ ...install, cycle }]));
    expect(moved(load.cycle + load.count - 1 + timing.mxmLoad)).toBe("ok");
    expect(moved(load.cycle + load.count - 1 + timing.mxmLoad - 1)).toMatch(/LPU22(10|18)/);
    expect(moved(abc.cycle - timing.mxmInstall)).toBe("ok");
    expect(moved(abc.cycle - timing.mxmInstall + 1)).toBe("LPU2218");
  });

  test("two accumulations in one row are refused, though the machine would do them", () => {
    const { target } = program;
    const victim = instructionsOf(program).find(
      ({ instruction: { op, fields } }) => op === "acc" && fields["mode"] === 0 && fields["give"] === -1,
    );
    expect(victim).toBeDefined();
    const { queue, at, instruction } = victim as Victim;
    const next = program.entries[0]?.queues[0]?.[queue]?.[at + 1] as TimedInstruction;
    const changed = replaced(
      program,
      { queue, at: at + 1, instruction: next },
      withFields(next, { mode: 0, row: Number(instruction.fields["row"]) }),
    );
    expect(queuePlace(target, queue).unit).toBe("mxmAccumulate");
    expect(check(changed)).toBe("LPU2223");
    expect(verdict(() => runOnLiteral(changed, { x: INPUT }))).toBe("ok");
  });

  test("rows of constants and inputs are their own, and outputs are written", () => {
    const [chip] = program.chips;
    const [entry] = program.entries;
    if (chip === undefined || entry === undefined) return;
    const [first] = chip.constants;
    expect(
      check({
        ...program,
        chips: [{ ...chip, constants: [...chip.constants, ...(first === undefined ? [] : [first])] }],
      }),
    ).toBe("LPU2214");
    const place = entry.inputs[0]?.placements[0]?.panels[0]?.planes[0];
    expect([place, first]).not.toContain(undefined);
    if (place === undefined || first === undefined) return;
    const onInput = { ...first, hemisphere: place.hemisphere, slice: place.slice, row: place.row };
    expect(check({ ...program, chips: [{ ...chip, constants: [...chip.constants, onInput] }] })).toBe("LPU2214");
    const shifted = entry.outputs.map((output) => ({
      ...output,
      placements: output.placements.map((placement) => ({
        ...placement,
        panels: placement.panels.map(({ planes }) => ({
          planes: planes.map((plane) => ({ ...plane, row: (plane.row + 512) % 4096 })),
        })),
      })),
    }));
    expect(check({ ...program, entries: [{ ...entry, outputs: shifted }] })).toBe("LPU2214");
  });

  test("a wrong prediction of cycles is refused", () => {
    const [entry] = program.entries;
    expect(
      check({ ...program, entries: entry === undefined ? [] : [{ ...entry, cycles: [(entry.cycles[0] ?? 0) + 1] }] }),
    ).toBe("LPU2222");
  });

  test("a fault says where and when, what was expected and what was found", () => {
    const victim = instructionsOf(program).find(({ instruction }) => instruction.op === "iw") as Victim;
    const error = faultOf(() => checkSchedule(chosenEntry(replaced(program, victim, []))));
    expect(error?.unit).toMatch(/^mxm\.[we]0\.activations$/);
    expect(error?.instruction).toMatch(/^abc stream=[we]\d+ mode=(low|high)/);
    expect(error?.cycle).toBeGreaterThan(victim.instruction.cycle);
    expect(program.origins).toContain(error?.origin);
    expect(error?.message).toMatch(/expected f16 weights in the array, found none/);
  });

  test("facts: gaps and work add up to the cycles after the barrier", () => {
    expect(facts.arrays.map(({ hemisphere }) => hemisphere)).toEqual(["W", "E"]);
    const activations = (hemisphere: "W" | "E"): readonly TimedInstruction[] =>
      program.entries[0]?.queues[0]?.[mxmQueue(program.target, hemisphere, 0, 1)] ?? [];
    for (const { hemisphere, busy, idle, classes, longest, waits } of facts.arrays) {
      expect(busy).toBe(activations(hemisphere).reduce((sum, { count }) => sum + count, 0));
      expect(busy + idle).toBe((program.entries[0]?.cycles[0] ?? 0) - program.target.timing.barrier);
      expect(classes.reduce((sum, { cycles }) => sum + cycles, 0)).toBe(idle);
      expect(longest.map(({ cycles }) => cycles)).toEqual(longest.map(({ cycles }) => cycles).sort((a, b) => b - a));
      expect(waits.reduce((sum, { cycles }) => sum + cycles, 0)).toBeLessThanOrEqual(idle);
      for (const { from, cycles, origin } of longest) {
        const inside = activations(hemisphere).filter(
          ({ cycle, count }) => cycle < from + cycles && cycle + count > from,
        );
        expect(inside).toEqual([]);
        const next = activations(hemisphere).find(({ cycle }) => cycle === from + cycles);
        expect(origin).toBe(next === undefined ? "" : program.origins[next.origin]);
      }
    }
  });
});

function faultOf(run: () => unknown): MachineFault | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return error instanceof MachineFault ? error : undefined;
  }
}

const once = (cycle: number): Omit<TimedInstruction, "op" | "fields"> => ({
  cycle,
  count: 1,
  interval: 1,
  step: 0,
  tap: 0,
  origin: 0,
});

const read = (address: number, cycle: number, stream: number): TimedInstruction => ({
  ...once(cycle),
  op: "read",
  fields: { address, stream },
});

/** A program of a few instructions, by queue. */
function bare(
  byQueue: Readonly<Record<number, readonly TimedInstruction[]>>,
  constants: Program["chips"][number]["constants"] = [],
): Program {
  const target = TARGETS.tiny;
  const queues = Array.from({ length: queueCount(target) }, (_, queue) => byQueue[queue] ?? []);
  return wholeProgram({ target, chips: [{ queues, constants, maps: [] }], links: [], origins: [""] });
}
