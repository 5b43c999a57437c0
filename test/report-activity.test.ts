/**
 * The activity of a program against what the machines count and against plain replays by vector, row and cycle.
 */

import { machineOf, wholeProgram } from "./machine-text.js";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { completionCycles, type Mnemonic } from "../src/ir/isa.js";
import {
  chosenEntry,
  isWestward,
  memQueue,
  type Program,
  queueCount,
  queuePlace,
  rowsOfPlane,
  type TimedInstruction,
  vxmQueue,
  type EntryProgram,
} from "../src/ir/program.js";
import { compile } from "../src/compile.js";
import { LINK } from "../src/report/flights.js";
import { ENERGIES, linkDelay, TARGETS } from "../src/ir/target.js";
import { type Activity, activityOf } from "../src/report/activity.js";
import { BOUND_NAMES, type Bound, type Stretches, stretchesOf } from "../src/report/bounds.js";
import { criticalPath, criticalSummary, type PathStep, WAITS } from "../src/report/critical.js";
import { watts } from "../src/report/energy.js";
import { accountsByLayer, accountsByNode, cyclesByBound, layerOf } from "../src/report/nodes.js";
import { operandsOf, queuePosition } from "../src/report/operands.js";
import { powerOf, POWER_ROWS } from "../src/report/power.js";
import { joinChunks } from "../src/host/build.js";
import { bindInputs } from "../src/host/edge.js";
import { loadImage } from "../src/runtime/run.js";
import { compileSmall, type SmallName, smallInputs, smallSource } from "./compiled.js";
import { randomProgram } from "./random-program.js";

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

/** A read of three rows that is written back on the other side after two sums and a product; `moved`, and then read once more. */
function handMade(moved = false): Program {
  const target = TARGETS.tiny;
  const queues: TimedInstruction[][] = Array.from({ length: queueCount(target) }, () => []);
  const burst = (
    queue: number,
    op: Mnemonic,
    cycle: number,
    fields: TimedInstruction["fields"],
    step = 0,
    count = 3,
  ): void =>
    void queues[queue]?.push({ op, cycle, count, interval: count === 1 ? 1 : 2, fields, step, tap: 0, origin: 0 });
  // Slices 4 are at positions -2 and 2. Read at 40: on the register at 41, at the VXM at 43, taken 4 cycles before 47.
  burst(memQueue(target, "W", 4), "read", 40, { address: 8, stream: 0 }, 1);
  burst(memQueue(target, "W", 5), "read", 40, { address: 8, stream: 1 }, 1);
  const operands = { a: { stream: 0, tap: false }, typeA: "f16", b: { constant: 1 }, typeB: "f32" };
  burst(vxmQueue(target, 0), "binary", 47, { function: "add", ...operands, give: -1, give2: -1, as: "f32" });
  const chained = { a: { alu: 0, age: 0 }, typeA: "f32", b: { constant: 2 }, typeB: "f32" };
  burst(vxmQueue(target, 1), "binary", 50, { function: "mul", ...chained, give: 2, give2: 34, as: "f16" });
  // The product is on the VXM's register at 53 and at slice 4 of the east at 55; nothing takes the western one.
  burst(memQueue(target, "E", 4), "write", 55, { address: 20, stream: 2 }, -1);
  burst(memQueue(target, "E", 5), "write", 55, { address: 20, stream: 3 }, -1);
  // Row 18 is written at 59; read at 62 it is on the register at 63, and at slice 4 of the west 4 cycles later.
  for (const byte of moved ? [0, 1] : []) {
    burst(memQueue(target, "E", 4 + byte), "read", 62, { address: 18, stream: 40 + byte }, 1);
    burst(memQueue(target, "W", 4 + byte), "write", 67, { address: 30, stream: 40 + byte }, 1);
  }
  const input = {
    ...{ name: "x", declared: "f32" as const, shape: [3, 16] },
    placements: [
      {
        ...{ dtype: "f16" as const, factors: [], rows: 3, columns: 16, ways: 1 },
        panels: [{ planes: [4, 5].map((slice) => ({ chip: 0, hemisphere: "W" as const, slice, row: 8 })) }],
      },
    ],
  };
  return {
    ...{ target, name: "hand-made", chips: [{ constants: [], maps: [] }], links: [], states: [] },
    entries: [{ name: "main", inputs: [input], outputs: [], queues: [queues], cycles: [moved ? 73 : 61], macs: 0 }],
    origins: ["/layer.0/Add"],
  };
}

describe("a program that is small enough to count by hand", () => {
  const activity = activityOf(chosenEntry(handMade()));
  const { bursts, flights } = activity;

  test("flights go from the burst that gives to the one that takes, or to the edge of the chip", () => {
    const rows = Array.from({ length: flights.size }, (_, flight) => [
      bursts.queue[flights.from[flight] as number] as number,
      flights.to[flight] === -1 ? -1 : (bursts.queue[flights.to[flight] as number] as number),
      flights.stream[flight],
      flights.vectors[flight],
      flights.hops[flight],
    ]);
    const { tiny } = TARGETS;
    const [readA, readB] = [memQueue(tiny, "W", 4), memQueue(tiny, "W", 5)];
    const [writeA, writeB] = [memQueue(tiny, "E", 4), memQueue(tiny, "E", 5)];
    const [add, mul] = [vxmQueue(tiny, 0), vxmQueue(tiny, 1)];
    const flown = rows.filter(([, to]) => to !== -1);
    expect(flown.sort()).toEqual(
      [
        [add, mul, -1, 3, 0],
        [readA, add, 0, 3, 2],
        [readB, add, 1, 3, 2],
        [mul, writeA, 2, 3, 2],
        [mul, writeB, 3, 3, 2],
      ].sort(),
    );
    const lost = rows.filter(([, to]) => to === -1);
    expect(lost.map(([from, , stream, , hops]) => [from, stream, hops])).toContainEqual([mul, 34, 8]);
    expect(sum(lost.map(([, , , vectors]) => Number(vectors)))).toBe(6);
  });

  test("rows are live from their write, or the start, to their last read", () => {
    const { cycle, value } = activity.memory.live;
    const steps = Array.from(cycle, (at, step) => [at, value[step]]);
    // Inputs are read at 40, 42, 44 in both slices; results are written at 55, 57, 59 and read by nobody.
    expect(steps).toEqual([
      ...[
        [0, 6],
        [41, 4],
        [43, 2],
        [45, 0],
      ],
      ...[
        [55, 2],
        [56, 0],
        [57, 2],
        [58, 0],
        [59, 2],
        [60, 0],
      ],
    ]);
    expect([activity.memory.constants, activity.memory.peak]).toEqual([0, 6]);
  });

  test("energy is what the table of classes says", () => {
    const lanes = 16;
    const { energy } = activity;
    expect(energy.sramRead).toBe(Math.round(6 * lanes * 8 * ENERGIES.sramReadBit * 1000));
    expect(energy.sramWrite).toBe(Math.round(6 * lanes * 8 * ENERGIES.sramWriteBit * 1000));
    expect(energy.vxm).toBe(Math.round(3 * lanes * (ENERGIES.aluAdd + ENERGIES.aluMultiply) * 1000));
    const hops = 3 * (2 * 2 + 2 * 2 + 2 * 8);
    expect(energy.flight).toBe(Math.round(hops * lanes * ENERGIES.streamHopByte * 1000));
    expect(energy.dispatch).toBe(Math.round(6 * 3 * ENERGIES.dispatch * 1000));
    expect([energy.array, energy.weights, energy.sxm, energy.links]).toEqual([0, 0, 0, 0]);
  });

  test("the critical path begins when the host's rows could be read, and has what the hand left idle as slack", () => {
    const write = bursts.instructions.findIndex(({ op }) => op === "write");
    // One figure, whose reads could have begun at the barrier, 5 cycles earlier.
    expect(criticalPath(activity)).toEqual([
      { from: 0, to: activity.cycles, burst: write, wait: "start", slack: 40 - TARGETS.tiny.timing.barrier },
    ]);
  });

  test("what reads rows waits for the burst that wrote them", () => {
    const twice = activityOf(chosenEntry(handMade(true)));
    const burstOf = (op: Mnemonic, cycle: number): number =>
      twice.bursts.instructions.findIndex((instruction) => instruction.op === op && instruction.cycle === cycle);
    // The last of three rows is dispatched at 59, changes memory in the next cycle and could be read at 61.
    expect(criticalPath(twice)).toEqual([
      { from: 0, to: 55, burst: burstOf("write", 55), wait: "start", slack: 40 - TARGETS.tiny.timing.barrier },
      { from: 55, to: 73, burst: burstOf("write", 67), wait: "data", slack: 1 },
    ]);
  });

  test("every cycle has its bound", () => {
    // Reads run to 44, sums to 51, products to 54, writes to 59.
    expect(cyclesByBound(stretchesOf(activity))).toEqual({
      ...{ arrays: 0, array: 0, weights: 0, links: 0, sxm: 0 },
      ...{ vxm: 8, ports: 5 + 5, latency: 2 + 1, barrier: 40, idle: 0 },
    });
  });
});

describe.each<[SmallName, "lpu-v1" | "tiny"]>([
  ["bert", "lpu-v1"],
  ["llama", "lpu-v1"],
  ["gpt2", "lpu-v1"],
])("%s on %s", (name, target) => {
  let program: Program;
  let activity: Activity;
  let stretches: Stretches;
  let image: Uint8Array;
  beforeAll(() => {
    const compiled = compileSmall(name, target);
    program = compiled.program;
    image = joinChunks(compiled.image());
    activity = activityOf(chosenEntry(program));
    stretches = stretchesOf(activity);
  });

  test("executions, multiply-accumulates and cycles are those that the machine counts", () => {
    const loaded = loadImage(image).entry();
    const { cycles, counters } = loaded.run(bindInputs(loaded.inputs, smallInputs(name)));
    const { bursts } = activity;
    const executions: Partial<Record<Mnemonic, number>> = {};
    let macs = 0;
    for (const [burst, { op }] of bursts.instructions.entries()) {
      executions[op] = (executions[op] ?? 0) + (bursts.count[burst] as number);
      if (op === "abc") macs += bursts.operations[burst] as number;
    }
    expect(executions).toEqual(counters[0]?.executions);
    expect([macs, activity.cycles]).toEqual([counters[0]?.macs, cycles]);
  });

  test("flights are those of a replay by vector", () => {
    const { flights } = activity;
    expect(streamFlights(activity)).toEqual(replayVectors(activity));
    const { bursts } = activity;
    const all = Array.from(flights.vectors.entries()).filter(([flight]) => (flights.stream[flight] as number) >= 0);
    const vectors = (keep: (flight: number) => boolean): number =>
      sum(all.filter(([flight]) => keep(flight)).map(([, n]) => n));
    expect(vectors((flight) => flights.to[flight] !== -1)).toBe(sum(bursts.taken));
    expect(vectors((flight) => flights.tap[flight] === 0)).toBe(sum(bursts.given));
  });

  test("products have their multiply-accumulates, and what flows through a chain its own operations", () => {
    const accounts = accountsByNode(activity, stretches);
    const products = accounts.filter(({ macs }) => macs > 0).map(({ name }) => name);
    // Two layers of at least queries and keys, values, what follows attention, and two of the feed-forward part.
    expect(products.filter((name) => /\/(MatMul|Gemm)$/.test(name)).length).toBeGreaterThanOrEqual(8);
    const alone = accounts.filter(({ macs, laneOperations }) => macs === 0 && laneOperations > 0);
    expect(alone.some(({ name }) => /\/(Mul|Erf|Tanh|Sigmoid|Pow)(_\d+)?$/.test(name))).toBe(true);
  });

  test("the critical path has every cycle once, and little slack", () => {
    const path = expectPath(activity);
    const { slack, waits } = criticalSummary(activity, path);
    expect(slack).toBeLessThan(activity.cycles / 20);
    expect(waits.data).toBeGreaterThan(activity.cycles / 4);
  });

  test("where no stream is between, ALUs take from ALUs, sums from products, and activations meet loaded weights", () => {
    const { bursts, flights } = activity;
    const { timing, lanes } = program.target;
    const found = { chained: 0, products: 0 };
    const loaded = new Map<number, number>();
    for (let flight = 0; flight < flights.size; flight++) {
      if ((flights.stream[flight] as number) >= 0) continue;
      const [from, to] = [flights.from[flight] as number, flights.to[flight] as number];
      const ops = `${bursts.instructions[from]?.op} ${bursts.instructions[to]?.op}`;
      const apart = (bursts.cycle[to] as number) - (bursts.cycle[from] as number);
      if (ops === "abc acc") {
        found.products += flights.vectors[flight] as number;
        expect(apart % (bursts.interval[from] as number)).toBe(timing.mxmMultiply % (bursts.interval[from] as number));
      } else if (ops === "lw abc") {
        loaded.set(to, (loaded.get(to) ?? 0) + (flights.vectors[flight] as number));
        const ready = (bursts.last[from] as number) + timing.mxmLoad + timing.mxmInstall;
        expect(bursts.cycle[to]).toBeGreaterThanOrEqual(ready);
      } else {
        expect(ops).toMatch(/^(unary|binary|ternary) (unary|binary|ternary)$/);
        found.chained += flights.vectors[flight] as number;
        expect(apart).toBeGreaterThanOrEqual(timing.vxmAlu);
      }
    }
    const expected = { chained: 0, products: 0 };
    for (const [burst, instruction] of bursts.instructions.entries()) {
      operandsOf(program.target).chains(instruction, () => (expected.chained += bursts.count[burst] as number));
      if (instruction.op === "acc") expected.products += instruction.count;
      if (instruction.op !== "abc") continue;
      // A packed vector of fp16 holds two of at most `lanes` columns, on two streams.
      expect(loaded.get(burst)).toBeGreaterThan(0);
      expect(loaded.get(burst)).toBeLessThanOrEqual(2 * lanes);
    }
    expect(found).toEqual(expected);
  });

  test("live rows are those of a replay by cycle", () => {
    const { cycle, value } = activity.memory.live;
    const live = new Int32Array(activity.cycles);
    for (let step = 0; step < cycle.length; step++)
      live.fill(value[step] as number, cycle[step] as number, cycle[step + 1] ?? activity.cycles);
    expect(live).toEqual(replayRows(activity));
    expect(activity.memory.constants).toBe(sum((program.chips[0]?.constants ?? []).map(({ rows }) => rows)));
  });

  test("stretches cover every cycle once, with the first bound that holds in it", () => {
    const bounds: Bound[] = [];
    for (let stretch = 0; stretch < stretches.size; stretch++) {
      expect(stretches.from[stretch]).toBe(bounds.length);
      const bound = BOUND_NAMES[stretches.bound[stretch] as number] as Bound;
      while (bounds.length < (stretches.to[stretch] as number)) bounds.push(bound);
      expect(program.origins[activity.bursts.origin[stretches.burst[stretch] as number] as number]).toBeDefined();
    }
    expect(bounds).toEqual(boundsByCycle(activity));
  });

  test("bounds, nodes and layers each sum to all cycles, and energy of nodes to that of bursts", () => {
    expect(sum(Object.values(cyclesByBound(stretches)))).toBe(activity.cycles);
    for (const accounts of [accountsByNode(activity, stretches), accountsByLayer(activity, stretches)]) {
      expect(sum(accounts.map(({ cycles }) => cycles))).toBe(activity.cycles);
      for (const { bounds, cycles } of accounts) expect(sum(Object.values(bounds))).toBe(cycles);
      expect(sum(accounts.map(({ energy }) => energy))).toBe(sum(activity.bursts.energy));
      expect(sum(accounts.map(({ bursts }) => bursts))).toBe(activity.bursts.size);
    }
  });

  test.each([1, 7, 100, 1e6])("energy over time on a grid of %i cycles sums to the energy of all classes", (grid) => {
    const power = powerOf(activity, grid);
    const { static: always, ...classes } = activity.energy;
    expect(power.total).toBe(sum(Object.values(activity.energy)));
    expect(sum(POWER_ROWS.flatMap((row) => Array.from(power.energy[row])))).toBe(power.total);
    expect(sum(activity.bursts.energy)).toBe(sum(Object.values(classes)));
    expect(sum(power.energy.static)).toBe(always);
    expect(power.bins).toBe(Math.ceil(activity.cycles / grid));
    expect(power.peakWatts).toBeGreaterThanOrEqual(power.averageWatts);
  });
});

describe("a pipeline of two chips", () => {
  let activity: Activity;
  beforeAll(() => {
    activity = activityOf(chosenEntry(compile(smallSource("bert"), { stages: 2 }).program));
  });

  test("every vector that is received was sent from the other chip, early enough", () => {
    const { bursts, flights, program } = activity;
    const links = Array.from(flights.stream.keys()).filter((flight) => flights.stream[flight] === LINK);
    const counted = (op: Mnemonic): number =>
      sum(bursts.instructions.filter((instruction) => instruction.op === op).map(({ count }) => count));
    expect(counted("send")).toBeGreaterThan(0);
    expect(sum(links.map((flight) => flights.vectors[flight] as number))).toBe(counted("send"));
    expect(counted("receive")).toBe(counted("send"));
    for (const flight of links) {
      const [from, to] = [flights.from[flight] as number, flights.to[flight] as number];
      expect([bursts.instructions[from]?.op, bursts.instructions[to]?.op]).toEqual(["send", "receive"]);
      expect([bursts.chip[from], bursts.chip[to]]).toEqual([0, 1]);
      const apart = (bursts.cycle[to] as number) - (bursts.cycle[from] as number);
      expect(apart).toBeGreaterThanOrEqual(linkDelay(program.target));
    }
  });

  test("the critical path goes from one to the other, and a chip that has finished is idle", () => {
    const path = expectPath(activity);
    const chips = path.map(({ burst }) => activity.bursts.chip[burst]);
    expect([chips[0], chips.at(-1)]).toEqual([0, 1]);
    expect(path.some(({ wait }) => wait === "links")).toBe(true);
    const { cycles } = activity.program.entry;
    expect(cyclesByBound(stretchesOf(activity)).idle).toBe(activity.cycles - (cycles[0] as number));
  });
});

/** Steps follow each other from the start to the end, and each ends where its burst begins, but for the last. */
function expectPath(activity: Activity): readonly PathStep[] {
  const path = criticalPath(activity);
  const { steps, waits, sums, slack } = criticalSummary(activity, path);
  expect(path.map(({ from }) => from)).toEqual([0, ...path.slice(0, -1).map(({ to }) => to)]);
  expect(path.at(-1)?.to).toBe(activity.cycles);
  for (const step of path) {
    expect(step.to).toBeGreaterThan(step.from);
    expect(step.slack).toBeGreaterThanOrEqual(0);
    expect(step.slack).toBeLessThanOrEqual(step.to - step.from);
    if (step !== path.at(-1)) expect(activity.bursts.cycle[step.burst]).toBe(step.to);
  }
  expect(path.map(({ wait }) => wait).lastIndexOf("start")).toBe(0);
  expect([sum(WAITS.map((wait) => waits[wait])), sum(sums.map(({ cycles }) => cycles))]).toEqual(
    Array.from({ length: 2 }, () => activity.cycles),
  );
  expect([sum(sums.map((one) => one.steps)), sum(sums.map((one) => one.slack))]).toEqual([steps, slack]);
  return path;
}

/** Programs of all instructions that the machine takes, with the entry that makes them as long as their chips. */
const randomOf = (...seeds: readonly number[]): EntryProgram => {
  const programs = seeds.map((seed) => chosenEntry(randomProgram(seed)));
  const [first] = programs;
  if (first === undefined) throw new RangeError("no seed");
  const links = programs.flatMap((program, chip) =>
    program.links.map((link) => ({ ...link, fromChip: chip, toChip: chip })),
  );
  return chosenEntry(wholeProgram({ ...first, links, chips: programs.flatMap((program) => program.chips) }));
};

describe("random programs", () => {
  test.each(Array.from({ length: 12 }, (_, seed) => seed))(
    "seed %i is what the machine counts, and adds up",
    (seed) => {
      const program = randomOf(seed);
      const activity = activityOf(program);
      const { counters, cycles } = machineOf(program).execute();
      const executions: Partial<Record<Mnemonic, number>> = {};
      let macs = 0;
      for (const [burst, { op, count }] of activity.bursts.instructions.entries()) {
        executions[op] = (executions[op] ?? 0) + count;
        if (op === "abc") macs += activity.bursts.operations[burst] as number;
      }
      expect(executions).toEqual(counters[0]?.executions);
      expect([macs, activity.cycles]).toEqual([counters[0]?.macs, cycles[0]]);
      expect(streamFlights(activity)).toEqual(replayVectors(activity));
      expect(boundsOf(stretchesOf(activity), 0)).toEqual(boundsByCycle(activity));
      expect(powerOf(activity, 5).total).toBe(sum(Object.values(activity.energy)));
      expectPath(activity);
    },
  );

  test("chips side by side do what each does alone", () => {
    const [a, b, both] = [randomOf(1), randomOf(2), randomOf(1, 2)].map(activityOf) as [Activity, Activity, Activity];
    const classes = (activity: Activity): readonly number[] => Object.values({ ...activity.energy, static: 0 });
    expect(classes(both)).toEqual(classes(a).map((energy, kind) => energy + (classes(b)[kind] as number)));
    expect([both.bursts.size, both.flights.size]).toEqual([
      a.bursts.size + b.bursts.size,
      a.flights.size + b.flights.size,
    ]);
    expect(both.cycles).toBe(Math.max(a.cycles, b.cycles));
    expect(sum(both.flights.vectors)).toBe(sum(a.flights.vectors) + sum(b.flights.vectors));
    const stretches = stretchesOf(both);
    expect(sum(Object.values(cyclesByBound(stretches)))).toBe(2 * both.cycles);
    for (const [chip, alone] of [a, b].entries())
      expect(boundsOf(stretches, chip).slice(0, alone.cycles)).toEqual(boundsOf(stretchesOf(alone), 0));
    expect(sum(accountsByNode(both, stretches).map(({ cycles }) => cycles))).toBe(2 * both.cycles);
    expect(powerOf(both, 9).total).toBe(sum(Object.values(both.energy)));
    expect(both.memory.constants).toBe(a.memory.constants + b.memory.constants);
  });
});

/** The bound of every cycle of a chip. */
function boundsOf(stretches: Stretches, chip: number): Bound[] {
  const bounds: Bound[] = [];
  for (let stretch = 0; stretch < stretches.size; stretch++) {
    if (stretches.chip[stretch] !== chip) continue;
    expect(stretches.from[stretch]).toBe(bounds.length);
    const bound = BOUND_NAMES[stretches.bound[stretch] as number] as Bound;
    while (bounds.length < (stretches.to[stretch] as number)) bounds.push(bound);
  }
  return bounds;
}

/** Vectors on streams by giver, taker, stream, hops and tap. */
function streamFlights({ flights }: Activity): Map<string, number> {
  const found = new Map<string, number>();
  for (let flight = 0; flight < flights.size; flight++) {
    if ((flights.stream[flight] as number) < 0) continue;
    const key = [flights.from, flights.to, flights.stream, flights.hops, flights.tap]
      .map((column) => column[flight])
      .join();
    found.set(key, (found.get(key) ?? 0) + (flights.vectors[flight] as number));
  }
  return found;
}

/** Flights by their columns as a string, each vector looked at by itself. */
function replayVectors({ program, bursts }: Activity): Map<string, number> {
  const { target } = program;
  interface Event {
    readonly along: number;
    readonly order: number;
    readonly burst: number;
    readonly position: number;
    readonly tap: boolean;
    readonly gives: boolean;
  }
  const byDiagonal = new Map<string, Event[]>();
  const operands = operandsOf(target);
  for (const [burst, instruction] of bursts.instructions.entries()) {
    const position = queuePosition(target, bursts.queue[burst] as number);
    const visit =
      (gives: boolean) =>
      (operand: { stream: number; streams: number; offset: number; tap: boolean }): void => {
        for (let byte = 0; byte < operand.streams; byte++) {
          for (let execution = 0; execution < instruction.count; execution++) {
            const at = instruction.cycle + execution * instruction.interval + operand.offset;
            const along = isWestward(target, operand.stream) ? -position : position;
            const key = `${operand.stream + byte} ${at - along}`;
            const event = { along, order: gives ? 0 : operand.tap ? 1 : 2, burst, position, tap: operand.tap, gives };
            byDiagonal.set(key, [...(byDiagonal.get(key) ?? []), event]);
          }
        }
      };
    operands.gives(instruction, visit(true));
    operands.takes(instruction, visit(false));
  }
  const found = new Map<string, number>();
  for (const [key, events] of byDiagonal) {
    const stream = Number(key.split(" ")[0]);
    const note = (from: Event, to: number, position: number, tap: number): void => {
      const flight = [from.burst, to, stream, Math.abs(position - from.position), tap].join();
      found.set(flight, (found.get(flight) ?? 0) + 1);
    };
    let flying: Event | undefined;
    let takenAt: number | undefined;
    for (const event of events.sort((a, b) => a.along - b.along || a.order - b.order)) {
      if (takenAt !== undefined && event.along > takenAt) [flying, takenAt] = [undefined, undefined];
      if (event.gives) [flying, takenAt] = [event, undefined];
      else if (flying !== undefined) {
        note(flying, event.burst, event.position, event.tap || takenAt !== undefined ? 1 : 0);
        if (!event.tap) takenAt = event.along;
      }
    }
    if (flying !== undefined && takenAt === undefined)
      note(flying, -1, isWestward(target, stream) ? -target.mxm : target.mxm, 0);
  }
  return found;
}

/** Live rows that are no constants at each cycle, from the accesses of each row by itself. */
function replayRows({ program, bursts, cycles }: Activity): Int32Array {
  const { target } = program;
  const accesses = new Map<string, { at: number; reads: boolean }[]>();
  const of = (key: string): { at: number; reads: boolean }[] => {
    const list = accesses.get(key) ?? [];
    accesses.set(key, list);
    return list;
  };
  for (const [burst, { op, cycle, count, interval, step, fields }] of bursts.instructions.entries()) {
    if (op !== "read" && op !== "write") continue;
    for (let execution = 0; execution < count; execution++)
      of(`${bursts.queue[burst]} ${Number(fields["address"]) + execution * step}`).push({
        at: cycle + execution * interval,
        reads: op === "read",
      });
  }
  const placed = (bindings: Program["entries"][number]["inputs"]): Set<string> =>
    new Set(
      bindings.flatMap(({ placements }) =>
        placements.flatMap((placement) =>
          placement.panels.flatMap(({ planes }) =>
            planes.flatMap(({ hemisphere, slice, row }, plane) =>
              Array.from(
                { length: rowsOfPlane(placement, plane) },
                (_, index) => `${memQueue(target, hemisphere, slice)} ${row + index}`,
              ),
            ),
          ),
        ),
      ),
    );
  const [inputs, outputs] = [placed(program.entry.inputs), placed(program.entry.outputs)];
  const live = new Int32Array(cycles);
  for (const [key, list] of accesses) {
    const sorted = list.sort((a, b) => a.at - b.at);
    const writes = sorted.filter(({ reads }) => !reads).map(({ at }) => at);
    const births = [...(inputs.has(key) ? [-1] : []), ...writes];
    for (const [index, birth] of births.entries()) {
      const next = births[index + 1] ?? Number.POSITIVE_INFINITY;
      const reads = sorted.filter(({ at, reads }) => reads && at > birth && at < next).map(({ at }) => at);
      const final = index === births.length - 1 && outputs.has(key);
      const until = final ? cycles - 1 : (reads.at(-1) ?? birth);
      for (let cycle = Math.max(0, birth); cycle <= until; cycle++) live[cycle] = (live[cycle] as number) + 1;
    }
  }
  return live;
}

/** The bound of every cycle, each looked at by itself. */
function boundsByCycle({ program, bursts, cycles }: Activity): Bound[] {
  const { target } = program;
  const holds = new Map<string, Uint8Array>();
  const mark = (what: string, from: number, to: number): void => {
    const cycle = holds.get(what) ?? new Uint8Array(cycles);
    holds.set(what, cycle.fill(1, from, to));
  };
  const groups: Readonly<Record<string, readonly Mnemonic[]>> = {
    weights: ["lw", "iwStream"],
    links: ["send", "receive"],
    sxm: ["shift", "select", "permute", "distribute", "rotate", "transpose"],
    vxm: ["unary", "binary", "ternary"],
    ports: ["read", "write", "gather", "scatter"],
  };
  let begun = cycles;
  for (const [burst, instruction] of bursts.instructions.entries()) {
    const { op, cycle, count, interval } = instruction;
    const to = cycle + (count - 1) * interval + 1;
    begun = Math.min(begun, cycle);
    if (op === "abc") mark(queuePlace(target, bursts.queue[burst] as number).hemisphere ?? "", cycle, to);
    for (const [name, ops] of Object.entries(groups))
      if (ops.includes(op)) mark(name, cycle, name === "sxm" ? to - 1 + completionCycles(target, instruction) : to);
  }
  const is = (what: string, cycle: number): boolean => holds.get(what)?.[cycle] === 1;
  return Array.from({ length: cycles }, (_, cycle): Bound => {
    if (is("W", cycle) && is("E", cycle)) return "arrays";
    if (is("W", cycle) || is("E", cycle)) return "array";
    for (const name of ["weights", "links", "sxm", "vxm", "ports"] as const) if (is(name, cycle)) return name;
    return cycle < begun ? "barrier" : "latency";
  });
}

test("layers are the folders of a name up to the first number", () => {
  expect(
    ["/bert/encoder/layer.3/output/Add", "/model/layers.1/a + /b/c", "/bert/embeddings/Add_1", "fc_1", "/Add"].map(
      layerOf,
    ),
  ).toEqual(["/bert/encoder/layer.3", "/model/layers.1", "/bert/embeddings", "/", "/"]);
});

test("the model of energy stays within the envelope that is published", () => {
  const target = TARGETS["lpu-v1"];
  const { lanes, mxm, planes } = target;
  const e = ENERGIES;
  const arrays = 2 * planes;
  const row = 8 * lanes;
  // Each cycle every plane takes one vector and gives four; the sums fly to the VXM, pass four ALUs and are written as bytes.
  const flight = (hops: number, streams: number): number => hops * streams * lanes * e.streamHopByte;
  const picojoules =
    arrays * lanes * lanes * e.int8Mac +
    arrays * (row * e.sramReadBit + flight(mxm - 6, 1)) +
    arrays * flight(mxm, 4) +
    arrays * 4 * lanes * (e.aluAdd + e.aluMultiply) * 0.5 +
    arrays * (row * e.sramWriteBit + flight(6, 1)) +
    arrays * 8 * e.dispatch;
  const switching = watts(target, picojoules * 1000, 1);
  const always = e.staticLaneWatts * lanes;
  expect(always + switching).toBeLessThanOrEqual(300);
  expect((185 - always) / switching).toBeGreaterThan(0.5);
  expect((185 - always) / switching).toBeLessThan(0.65);
});
