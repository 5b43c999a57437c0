/**
 * Layers that are proved once: a program of many equal layers is proved by fewer of its periods, and a change in what is left
 * out, or between two stretches of such layers, is found as the proof of every burst finds it. What no rule of the machine forbids: weights of another layer, in the program,
 * in the plan, or in what a block of constants is said to hold.
 */

import { beforeAll, describe, expect, test } from "@jest/globals";
import { buildModel, type FamilyName } from "../models/families.js";
import { modelBytes } from "../models/onnx-writer.js";
import { at, sure } from "../src/diagnostics.js";
import { importModel } from "../src/frontend/import.js";
import { bytesSource } from "../src/frontend/source.js";
import { isTile, type Plan, type Task } from "../src/ir/plan.js";
import { chosenEntry, type EntryProgram, type Program, type TimedInstruction } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { checkedChip } from "../src/passes/check/burst.js";
import { checkSchedule, proveWhole } from "../src/passes/check/check.js";
import { meansRepeatedly } from "../src/passes/check/meaning.js";
import { type Cut, type Shortened, shortened } from "../src/passes/check/repeat.js";
import { checkStreams } from "../src/passes/check/streams.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { instructionsOf, type Victim, withQueues } from "./changed.js";
import { planOf, verdict } from "./compiled.js";
import { seeded } from "./random-program.js";

const SIZES = { hidden: 64, heads: 2, seq: 16, vocab: 50, intermediate: 128 };

/** Layers of each model; and rows of a bank, so few that the reads of 40 layers are in two stretches. */
const DEPTHS: Partial<
  Record<FamilyName, { readonly layers: number; readonly rowsPerBank: number; readonly cuts: number }>
> = {
  bert: { layers: 40, rowsPerBank: 448, cuts: 2 },
  gpt2: { layers: 30, rowsPerBank: 4096, cuts: 1 },
  llama: { layers: 30, rowsPerBank: 4096, cuts: 1 },
};

interface Deep {
  readonly plan: Plan;
  readonly program: Program;
  readonly short: Shortened;
  readonly layers: number;
}

const deepModel = (family: FamilyName): Deep => {
  const { layers, rowsPerBank, cuts } = sure(DEPTHS[family], "depth");
  const target = { ...TARGETS["lpu-v1"], rowsPerBank };
  const model = buildModel(family, { ...SIZES, layers, ...(family === "llama" && { "kv-heads": 1 }) });
  const graph = importModel(bytesSource(family, modelBytes(model)), { bind: {} });
  const { plan, program } = schedule(planOf(graph, target), target);
  const short = sure(shortened(chosenEntry(program)), "stretch");
  expect(short.cuts.length).toBe(cuts);
  return { plan, program, short, layers };
};

/** Whether a program that is left is proved to mean the plan. */
const isMeant = (plan: Plan, program: EntryProgram): boolean => {
  const short = shortened(program);
  if (short === undefined) return false;
  const chip = checkedChip(short.program, 0);
  return meansRepeatedly(plan, chip, checkStreams(chip), short, program.chips[0]?.queues ?? []);
};

/** The same where vectors are taken to stay on their way for so many periods. */
const isMeantWithin = (plan: Plan, program: EntryProgram, periods: number): boolean => {
  const short = sure(shortened(program), "stretch");
  const cuts = short.cuts.map((cut) => ({ ...cut, stretch: { ...cut.stretch, reach: periods * cut.stretch.period } }));
  const chip = checkedChip(short.program, 0);
  return meansRepeatedly(plan, chip, checkStreams(chip), { ...short, cuts }, program.chips[0]?.queues ?? []);
};

const families = new Map<FamilyName, Deep>();
const deep = (family: FamilyName): Deep => {
  const known = families.get(family) ?? deepModel(family);
  families.set(family, known);
  return known;
};

describe("what repeats itself is proved once", () => {
  test.each<FamilyName>(["bert", "gpt2", "llama"])("%s", (family) => {
    const { plan, program, short, layers } = deep(family);
    const entry = chosenEntry(program);
    expect(short.cuts.reduce((sum, { periods }) => sum + periods, 0)).toBeGreaterThan(layers / 3);
    expect(isMeant(plan, entry)).toBe(true);
    expect(verdict(() => checkSchedule(entry, plan))).toBe("ok");
    expect(verdict(() => proveWhole(entry, [plan]))).toBe("ok");
  });

  test("not if a write may take what was written before the periods that are compared", () => {
    const { plan, program } = deep("bert");
    expect([1, 2, 3].map((periods) => isMeantWithin(plan, chosenEntry(program), periods))).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("changes in what is left out", () => {
  let model: Deep;
  beforeAll(() => {
    model = deep("bert");
  });

  const endOf = ({ cycle, periods, stretch }: Cut): number => cycle + periods * stretch.period;

  const between = (from: number, to: number): Victim[] =>
    instructionsOf(model.program).filter(({ instruction: { cycle } }) => cycle >= from && cycle < to);

  /** Instructions of periods that are left out. */
  const leftOut = (): Victim[] => model.short.cuts.flatMap((cut) => between(cut.cycle, endOf(cut)));

  /** Instructions of the last period of one stretch, of the first of the next, and between them. */
  const atBorder = (): Victim[] => {
    const [one, next] = model.short.cuts.map(({ stretch }) => stretch);
    const { to, period } = sure(one, "stretch");
    return between(to - period, sure(next, "stretch").from + period);
  };

  const edited = (edits: ReadonlyMap<TimedInstruction, TimedInstruction | undefined>): Program =>
    withQueues(
      model.program,
      (model.program.entries[0]?.queues[0] ?? []).map((queue) =>
        queue.flatMap((one) => (edits.has(one) ? (edits.get(one) ?? []) : [one])).sort((a, b) => a.cycle - b.cycle),
      ),
    );

  const expectSame = (program: Program, plan: Plan, what: string): string => {
    const whole = verdict(() => proveWhole(chosenEntry(program), [plan]));
    expect([what, verdict(() => checkSchedule(chosenEntry(program), plan))]).toEqual([what, whole]);
    return whole;
  };

  test("one instruction is missing, or another", () => {
    const random = seeded(11);
    const victims = [leftOut(), leftOut(), atBorder()];
    const found = new Set<string>();
    for (let i = 0; i < 9; i++) {
      const all = at(victims, i % victims.length, "victims");
      const { instruction } = all[random(all.length)] as Victim;
      const [name, value] = Object.entries(instruction.fields).find(([, field]) => typeof field === "number") ?? [];
      const changes: readonly (TimedInstruction | undefined)[] = [
        undefined,
        { ...instruction, cycle: instruction.cycle + 1 },
        { ...instruction, tap: 1 - instruction.tap },
        { ...instruction, fields: { ...instruction.fields, ...(name !== undefined && { [name]: Number(value) + 1 }) } },
      ];
      const changed = edited(new Map([[instruction, changes[i % changes.length]]]));
      found.add(expectSame(changed, model.plan, `${i} ${instruction.op} at ${instruction.cycle}`).slice(0, 7));
    }
    expect(found.size).toBeGreaterThan(3);
  });

  /** Reads of a queue that differ in nothing but time and the row of a constant: of one tile in two layers. */
  const counterparts = (): (readonly [TimedInstruction, TimedInstruction])[] => {
    const byPlace = new Map(leftOut().map((victim) => [`${victim.queue} ${victim.instruction.cycle}`, victim]));
    return leftOut().flatMap(({ queue, instruction }) => {
      const { period } = sure(
        model.short.cuts.find((cut) => instruction.cycle < endOf(cut)),
        "cut",
      ).stretch;
      const later = byPlace.get(`${queue} ${instruction.cycle + period}`)?.instruction;
      if (instruction.op !== "read" || later?.op !== "read") return [];
      return later.fields["address"] === instruction.fields["address"] ? [] : [[instruction, later] as const];
    });
  };

  test.each([0, 1])("weights of two layers are exchanged, in stretch %d", (number) => {
    const { cycle: first, stretch } = at(model.short.cuts, number, "cut");
    const all = counterparts().filter(([{ cycle }]) => cycle >= first && cycle < first + 2 * stretch.period);
    expect(all.length).toBeGreaterThan(20);
    const swapped = edited(
      new Map(
        all.slice(0, 8).flatMap(
          ([a, b]) =>
            [
              [a, { ...a, fields: b.fields }],
              [b, { ...b, fields: a.fields }],
            ] as const,
        ),
      ),
    );
    expect(shortened(chosenEntry(swapped))?.cuts[number]?.stretch).toEqual(stretch);
    expect(expectSame(swapped, model.plan, "weights")).toMatch(/^LPU2224/);
  });

  const layerLength = (): number => Math.floor(model.plan.tasks.length / model.layers);

  /** The plan with a task changed, of a layer that is left out if no other part of the way is told. */
  const planWith = (change: (task: Task, index: number) => Task | undefined, part = 0.75): Plan => {
    const first = Math.floor(model.plan.tasks.length * part);
    const index = model.plan.tasks.findIndex((task, at) => at >= first && change(task, at) !== undefined);
    expect(index).toBeGreaterThan(0);
    return {
      ...model.plan,
      tasks: model.plan.tasks.map((task, at) => (at === index ? (change(task, at) ?? task) : task)),
    };
  };

  test("the plan is of another function", () => {
    const plan = planWith((task) => {
      const [op, ...rest] = task.ops;
      return op?.fn === "mul" || op?.fn === "add" ? { ...task, ops: [{ ...op, fn: "sub" }, ...rest] } : undefined;
    });
    expect(expectSame(model.program, plan, "function")).toMatch(/^LPU2224/);
  });

  test("the plan is of another function, in a layer that is left out first or the one before it", () => {
    const { plan, program, short } = model;
    const entry = chosenEntry(program);
    const part = at(short.cuts, 0, "cut").cycle / at(entry.entry.cycles, 0, "chip");
    const first = Math.floor(plan.tasks.length * part) - layerLength();
    let changed = 0;
    for (let index = first; index < first + 2 * layerLength(); index++) {
      const [op, ...rest] = at(plan.tasks, index, "task").ops;
      if (op?.fn !== "mul" && op?.fn !== "add") continue;
      changed++;
      const ops = [{ ...op, fn: "sub" as const }, ...rest];
      const tasks = plan.tasks.map((task, i) => (i === index ? { ...task, ops } : task));
      let meant = false;
      verdict(() => {
        meant = isMeant({ ...plan, tasks }, entry);
      });
      expect([index, meant]).toEqual([index, false]);
    }
    expect(changed).toBeGreaterThan(20);
  });

  test.each([0.5, 0.75])("the plan has weights of another layer, at %d of the way", (part) => {
    const plan = planWith((task, index) => {
      const other = model.plan.tasks[index - 2 * layerLength()]?.passes;
      const [pass, ...rest] = task.passes;
      const weights = other?.[0]?.weights;
      return pass !== undefined &&
        weights !== undefined &&
        isTile(weights) &&
        isTile(pass.weights) &&
        weights.key !== pass.weights.key
        ? { ...task, passes: [{ ...pass, weights }, ...rest] }
        : undefined;
    }, part);
    expect(expectSame(model.program, plan, "tiles")).toMatch(/^LPU2224/);
  });

  test("tasks that go by no name of a burst are not followed, and their plan is proved as a whole", () => {
    const { plan, program } = model;
    const nameless = (from: number): Plan => ({
      ...plan,
      origins: [...plan.origins, "nothing"],
      tasks: plan.tasks.map(({ passOrigin: _, ...task }, index) =>
        index < from ? task : { ...task, origin: plan.origins.length, ops: task.ops.map(({ origin: _, ...op }) => op) },
      ),
    });
    for (const part of [0, 0.5]) {
      const other = nameless(Math.floor(part * plan.tasks.length));
      expect(verdict(() => isMeant(other, chosenEntry(program)))).toMatch(/^LPU2224/);
      expect(verdict(() => checkSchedule(chosenEntry(program), other))).toBe("ok");
    }
  });

  test("the plan reads what another layer gave", () => {
    const plan = planWith((task, index) => {
      const [leaf, ...rest] = task.leaves;
      const other = model.plan.tasks[index - 2 * layerLength()]?.leaves[0];
      const kind = model.plan.storages[leaf?.storage ?? -1]?.kind;
      return leaf === undefined || other === undefined || kind !== "temp" || other.storage === leaf.storage
        ? undefined
        : { ...task, leaves: [{ ...leaf, storage: other.storage }, ...rest] };
    });
    expect(expectSame(model.program, plan, "leaves")).toMatch(/^LPU2224/);
  });

  test("a block of constants holds something else", () => {
    const [a, b] = counterparts()[5] ?? [];
    const rowOf = (one: TimedInstruction | undefined): number => Number(one?.fields["address"]);
    const program: Program = {
      ...model.program,
      chips: model.program.chips.map((chip) => ({
        ...chip,
        constants: chip.constants.map((block) => {
          const holds = (row: number): boolean => row >= block.row && row < block.row + block.rows;
          const other = chip.constants.find(
            (one) =>
              one.slice === block.slice &&
              one.hemisphere === block.hemisphere &&
              one.row <= rowOf(b) &&
              rowOf(b) < one.row + one.rows,
          );
          return holds(rowOf(a)) && other?.holds !== undefined ? { ...block, holds: other.holds } : block;
        }),
      })),
    };
    expect(expectSame(program, model.plan, "holds")).toMatch(/^LPU2224/);
  });
});
