/**
 * The proof that a Program is its Plan: it accepts what the scheduler makes, and a legal program that was changed so that it
 * gives other values is refused. Changes are of kinds that no rule of the machine forbids: wrong rows, slices, panels, halves.
 */

import { contentsOf } from "../src/ir/contents.js";
import { beforeAll, describe, expect, test } from "@jest/globals";
import type { AluFunction } from "../src/ir/isa.js";
import { isTile, type Plan } from "../src/ir/plan.js";
import {
  chosenEntry,
  type ConstantBlock,
  type Placement,
  type Program,
  type TimedInstruction,
} from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { schedule } from "../src/passes/schedule/schedule.js";
import { blockGraph, blockInput, instructionsOf, type Victim, withQueues } from "./changed.js";
import { planOf, runOnLiteral, verdict } from "./compiled.js";
import { type Random, seeded } from "./random-program.js";

const ROWS = 12;
const WIDTH = 40;
const INPUT = { x: blockInput(ROWS, WIDTH) };

/** A changed program, or undefined if the seed hit nothing that the change applies to. */
type Change = (program: Program, random: Random) => Program | undefined;

type Edit = (instruction: TimedInstruction) => TimedInstruction;

const edited = (program: Program, edits: ReadonlyMap<TimedInstruction, Edit>): Program =>
  withQueues(
    program,
    (program.entries[0]?.queues[0] ?? []).map((queue) => queue.map((one) => edits.get(one)?.(one) ?? one)),
  );

const setting =
  (fields: TimedInstruction["fields"]): Edit =>
  (one) => ({ ...one, fields: { ...one.fields, ...fields } });

const numberIn = ({ fields }: TimedInstruction, name: string): number => Number(fields[name]);

const pick = <T>(list: readonly T[], random: Random): T | undefined => list[random(list.length)];

const victims = (program: Program, ...ops: readonly string[]): Victim[] =>
  instructionsOf(program).filter(({ instruction }) => ops.includes(instruction.op));

/** The burst of the other slice of a pair, which moves the other byte of the same vectors. */
const twinOf = (program: Program, { queue, instruction }: Victim): TimedInstruction | undefined =>
  program.entries[0]?.queues[0]?.[queue ^ 1]?.find(
    ({ op, cycle, count, fields }) =>
      op === instruction.op &&
      cycle === instruction.cycle &&
      count === instruction.count &&
      fields["address"] === instruction.fields["address"],
  );

/** Both slices of a pair read or write as the edit says. */
const inPair =
  (op: string, edit: (one: TimedInstruction, random: Random) => Edit): Change =>
  (program, random) => {
    const victim = pick(victims(program, op), random);
    const twin = victim === undefined ? undefined : twinOf(program, victim);
    if (victim === undefined || twin === undefined) return undefined;
    const change = edit(victim.instruction, random);
    return edited(
      program,
      new Map([
        [victim.instruction, change],
        [twin, change],
      ]),
    );
  };

/** A field of two pairs of bursts of one kind is exchanged, if the rest of them would fit. */
const exchanged =
  (op: string, field: string, agree: (a: Victim, b: Victim) => boolean): Change =>
  (program, random) => {
    const all = victims(program, op).filter(({ queue }) => queue % 2 === 0);
    const a = pick(all, random);
    if (a === undefined) return undefined;
    const alike = all.filter(
      (b) =>
        b.instruction.count === a.instruction.count &&
        b.instruction.interval === a.instruction.interval &&
        b.instruction.fields[field] !== a.instruction.fields[field] &&
        agree(a, b),
    );
    const b = pick(alike, random);
    if (b === undefined) return undefined;
    const [twinA, twinB] = [twinOf(program, a), twinOf(program, b)];
    if (twinA === undefined || twinB === undefined) return undefined;
    const to =
      ({ fields }: TimedInstruction): Edit =>
      (one) =>
        setting({ [field]: fields[field] ?? 0 })(one);
    return edited(
      program,
      new Map([
        [a.instruction, to(b.instruction)],
        [b.instruction, to(a.instruction)],
        [twinA, to(twinB)],
        [twinB, to(twinA)],
      ]),
    );
  };

const one =
  (ops: readonly string[], edit: (instruction: TimedInstruction, random: Random) => Edit | undefined): Change =>
  (program, random) => {
    const victim = pick(victims(program, ...ops), random)?.instruction;
    const change = victim === undefined ? undefined : edit(victim, random);
    return victim === undefined || change === undefined ? undefined : edited(program, new Map([[victim, change]]));
  };

/** Queues of one pair of slices further out or in are at the same hop. */
const HOP = 4;

const OTHER: Readonly<Partial<Record<AluFunction, AluFunction>>> = { add: "sub", mul: "add", max: "min", sub: "add" };

const withConstants = (program: Program, constants: readonly ConstantBlock[]): Program => ({
  ...program,
  chips: program.chips.map((chip) => ({ ...chip, constants })),
});

const withPlacements = (
  program: Program,
  kind: "inputs" | "outputs",
  change: (placement: Placement) => Placement,
): Program => ({
  ...program,
  entries: program.entries.map((entry) => ({
    ...entry,
    [kind]: entry[kind].map((binding) => ({ ...binding, placements: binding.placements.map(change) })),
  })),
});

const CHANGES: Readonly<Record<string, Change>> = {
  "another row is read": inPair("read", (read, random) => {
    const to = numberIn(read, "address") + 1 + random(ROWS) - random(2 * ROWS);
    return setting({ address: Math.max(0, to) });
  }),
  "rows are read in another order": inPair("read", (read) => (each) => ({ ...each, step: 1 - read.step })),
  "one byte is read from another row": one(["read"], (read) => setting({ address: numberIn(read, "address") + 1 })),
  "two bursts of a pair read each other's rows": exchanged("read", "address", (a, b) => a.queue === b.queue),
  "two panels are read for each other": exchanged(
    "read",
    "stream",
    (a, b) => a.instruction.cycle === b.instruction.cycle && Math.floor(a.queue / HOP) === Math.floor(b.queue / HOP),
  ),
  "another pair of slices is read": (program, random) => {
    const victim = pick(victims(program, "read"), random);
    const twin = victim === undefined ? undefined : twinOf(program, victim);
    if (victim === undefined || twin === undefined) return undefined;
    const queues = (program.entries[0]?.queues[0] ?? []).map((queue, index) => {
      const moved = [victim.queue ^ 2, victim.queue ^ 3].indexOf(index);
      const rest = queue.filter((each) => each !== victim.instruction && each !== twin);
      const added = moved < 0 ? [] : [moved === 0 ? victim.instruction : twin];
      return [...rest, ...added].sort((a, b) => a.cycle - b.cycle);
    });
    return withQueues(program, queues);
  },
  "rows are written where others are": exchanged("write", "address", (a, b) => a.queue === b.queue),
  "rows are written one further": inPair("write", (write) => setting({ address: numberIn(write, "address") + 1 })),
  "the other half is multiplied": one(["abc"], (abc) => setting({ mode: 1 - numberIn(abc, "mode") })),
  "weights come from the other half": one(["lw"], (lw) =>
    numberIn(lw, "mode") === 0 ? undefined : setting({ mode: 3 - numberIn(lw, "mode") }),
  ),
  "weights go to other columns": one(["lw"], (lw) => setting({ column: numberIn(lw, "column") + 1 })),
  "weights keep fewer lanes": one(["lw"], (lw) => setting({ lanes: numberIn(lw, "lanes") - 1 })),
  "another function": one(["binary"], ({ fields }) => {
    const other = OTHER[fields["function"] as AluFunction];
    return other === undefined ? undefined : setting({ function: other });
  }),
  "operands exchanged": one(["binary"], ({ fields }) => {
    const { a, b, typeA, typeB } = fields;
    if (fields["function"] !== "sub" && fields["function"] !== "div") return undefined;
    return setting({ a: b ?? 0, b: a ?? 0, typeA: typeB ?? "", typeB: typeA ?? "" });
  }),
  "another constant": one(["unary", "binary"], ({ fields }) => {
    const found = Object.entries(fields).find(([, value]) => typeof value === "object" && "constant" in value);
    return found === undefined ? undefined : setting({ [found[0]]: { constant: 0.375 } });
  }),
  "another permutation": one(["permute"], (permute) => {
    const map = numberIn(permute, "map");
    return setting({ map: map === 0 ? 1 : map - 1 });
  }),
  "a distribution by a map that is not alike in all superlanes": one(["distribute"], () => setting({ map: 0 })),
  "two constants lie in each other's places": (program, random) => {
    const constants = program.chips[0]?.constants ?? [];
    const a = pick(constants, random);
    const alike = constants.filter((b) => b.rows === a?.rows && b.holds?.byte === a.holds?.byte && b !== a);
    const b = pick(alike, random);
    if (a === undefined || b === undefined) return undefined;
    const { bytes, holds } = a;
    return withConstants(
      program,
      constants.map((each) => {
        if (each === a) return { ...a, bytes: b.bytes, ...(b.holds && { holds: b.holds }) };
        return each === b ? { ...b, bytes, ...(holds && { holds }) } : each;
      }),
    );
  },
  "panels of an input are exchanged": (program) =>
    withPlacements(program, "inputs", (placement) => ({ ...placement, panels: [...placement.panels].reverse() })),
  "an input is laid out in another way": (program) =>
    withPlacements(program, "inputs", (placement) => ({
      ...placement,
      factors: placement.factors.map((factor) => ({ ...factor, row: factor.column, column: factor.row })),
    })),
  "bytes of an input are exchanged": (program) =>
    withPlacements(program, "inputs", (placement) => ({
      ...placement,
      panels: placement.panels.map(({ planes }) => ({ planes: [...planes].reverse() })),
    })),
  "bytes of an output are exchanged": (program) =>
    withPlacements(program, "outputs", (placement) => ({
      ...placement,
      panels: placement.panels.map(({ planes }) => ({ planes: [...planes].reverse() })),
    })),
};

const TRIALS = 12;

describe("legal programs that were changed", () => {
  let plan: Plan;
  let program: Program;
  let outputs: string;
  const resultOf = (of: Program): string =>
    JSON.stringify(runOnLiteral(of, INPUT).outputs.map(({ data }) => Array.from(data)));

  beforeAll(() => {
    plan = planOf(blockGraph(ROWS, WIDTH, 24), TARGETS.tiny);
    program = schedule(plan, TARGETS.tiny).program;
    outputs = resultOf(program);
  });

  test("a burst is named with what it should take and what it takes, and its ONNX node", () => {
    const victim = victims(program, "abc")[0]?.instruction as TimedInstruction;
    const changed = edited(program, new Map([[victim, setting({ mode: 1 - numberIn(victim, "mode") })]]));
    expect(verdict(() => checkSchedule(chosenEntry(changed), plan))).toMatch(
      /^LPU2224: cycle \d+, mxm\.[we]0\.activations: operand 'stream': expected vectors that some pass multiplies by these weights, (low|high) half, found \d+ of panel \d of input 'x' from 0 on \[abc [^\]]*\] from first$/,
    );
  });

  test("constants hold what their blocks say that they do", () => {
    const { lanes } = program.target;
    const contents = contentsOf(program.target, plan.literals);
    const rowsOf = (id: number, panel: number): ArrayLike<number> | undefined => {
      const storage = plan.storages[id];
      return storage?.recipe && contents.panel(storage.recipe, storage.dtype, panel);
    };
    const tiles = new Map(
      plan.tasks.flatMap(({ passes }) =>
        passes.flatMap(({ weights }) =>
          isTile(weights) ? [[weights.key, contents.tile(weights).slice()] as const] : [],
        ),
      ),
    );
    for (const { rows, holds, bytes } of program.chips[0]?.constants ?? []) {
      expect(holds).toBeDefined();
      if (holds === undefined) continue;
      const { of, first, step, byte } = holds;
      const vectors = "tile" in of ? tiles.get(of.tile) : rowsOf(of.storage, of.panel);
      const expected = Uint8Array.from({ length: rows * lanes }, (_, at) => {
        const vector = first + step * Math.floor(at / lanes);
        return (vectors?.[vector * lanes + (at % lanes)] ?? 0) >>> (8 * byte);
      });
      expect(bytes()).toEqual(expected);
    }
  });

  test("what the scheduler made is what the plan says", () => {
    expect(verdict(() => checkSchedule(chosenEntry(program), plan))).toBe("ok");
  });

  test.each(Object.keys(CHANGES))("%s", (name) => {
    const change = CHANGES[name] as Change;
    const seed = 1 + Object.keys(CHANGES).indexOf(name);
    const random = seeded(seed);
    let refused = 0;
    for (let trial = 0; trial < TRIALS; trial++) {
      const changed = change(program, random);
      if (changed === undefined || verdict(() => checkSchedule(chosenEntry(changed))) !== "ok") continue;
      const own = verdict(() => checkSchedule(chosenEntry(changed), plan));
      if (own.startsWith("LPU2224: ")) refused++;
      else expect([seed, trial, own, resultOf(changed) === outputs]).toEqual([seed, trial, "ok", true]);
    }
    expect(refused).toBeGreaterThan(0);
  });
});
