/**
 * Pairs of instructions of one kind of unit at every distance from -4 to +4: the checker, the literal machine and the linked one
 * agree. Each of the two is part of a figure that is legal by itself; one figure is moved so that the two meet.
 */

import { describe, expect, test } from "@jest/globals";
import { MachineFault } from "../src/diagnostics.js";
import { chosenEntry, type Program, queuePlace } from "../src/ir/program.js";
import { TARGETS, type Target } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import type { Sram } from "../src/runtime/sram.js";
import { loadedSram, verdict } from "./compiled.js";
import { machineOf, programOf, wholeProgram } from "./machine-text.js";
import { assembled, type Draft, randomFigure } from "./random-program.js";

/** Few of each unit, so that two figures often share one. */
const SMALL: Target = { ...TARGETS.tiny, slices: 8, rowsPerBank: 256, alus: 4, sxmQueues: 2 };
const UNIT: Target = { ...SMALL, timing: TARGETS["unit-latency"].timing };
const TIME = 320;
const FIGURES = 200;

/** Where the checker asks for more than the machine. */
const STRICTER = ["LPU2211", "LPU2214", "LPU2223"];

const written = (sram: Sram): string => {
  const { lanes } = sram.target;
  const rows: Buffer[] = [];
  sram.written.forEach((flag, row) => {
    if (flag === 1) rows.push(Buffer.from(sram.bytes.subarray(row * lanes, (row + 1) * lanes)));
  });
  return Buffer.concat(rows).toString("base64");
};

/** What a run says: the cycle of its fault (of two in one cycle any may be the first), or cycles and all that is written. */
function said(run: () => { readonly cycles: readonly number[]; readonly sram: Sram }): string {
  try {
    const { cycles, sram } = run();
    return `${cycles} ${written(sram)}`;
  } catch (error) {
    if (error instanceof MachineFault) return `fault at ${error.cycle}`;
    throw error;
  }
}

interface Outcome {
  readonly legal: boolean;
  /** How the three differ; empty if they agree. */
  readonly difference: string;
}

function outcome(program: Program): Outcome {
  const literal = said(() => runLiteral(chosenEntry(program), loadedSram(program)));
  const linked = said(() => {
    const machine = machineOf(chosenEntry(program), { engine: "plain" });
    return { ...machine.execute(), sram: machine.sram };
  });
  const checker = verdict(() => checkSchedule(chosenEntry(program))).slice(0, 7);
  const legal = !literal.startsWith("fault");
  const agrees = literal === linked && (legal ? ["ok", ...STRICTER].includes(checker) : checker !== "ok");
  const difference = agrees ? "" : `${literal.slice(0, 20)}, ${linked.slice(0, 20)}, ${checker}`;
  return { legal, difference };
}

/** Instructions of a figure by name: fp16 and int8 ones of the MXM are two. */
function named({ queue, instruction }: Draft, target: Target): string {
  const { unit } = queuePlace(target, queue);
  const { op, fields } = instruction;
  const kinds: readonly string[] = ["lw", "iwStream", "abc"];
  const full = Number(fields["mode"]) === (op === "abc" ? 2 : 3);
  return `${unit.slice(0, 3)} ${op}${kinds.includes(op) && full ? "8" : ""}`;
}

const moved = (drafts: readonly Draft[], by: number): readonly Draft[] =>
  drafts.map(({ queue, instruction }) => ({ queue, instruction: { ...instruction, cycle: instruction.cycle + by } }));

describe("pairs of instructions at distances from -4 to 4", () => {
  for (const { target, distances } of [
    { target: SMALL, distances: [-4, -3, -2, -1, 0, 1, 2, 3, 4] },
    { target: UNIT, distances: [-1, 0, 1] },
  ]) {
    test(`checker, literal and linked machine agree (vxmAlu ${target.timing.vxmAlu})`, () => {
      const uses = new Map<string, { readonly figure: readonly Draft[]; readonly draft: Draft }[]>();
      for (let seed = 1; seed <= FIGURES; seed++) {
        const figure = randomFigure(seed, target, TIME);
        for (const draft of figure) {
          const name = named(draft, target);
          uses.set(name, [...(uses.get(name) ?? []), { figure, draft }]);
        }
      }
      const names = [...uses.keys()].sort();
      const wrong: string[] = [];
      const count = { legal: 0, broken: 0 };
      let next = 0;
      for (const [at, a] of names.entries()) {
        for (const b of names.slice(at)) {
          if (a.slice(0, 3) !== b.slice(0, 3)) continue;
          const [left, right] = [uses.get(a) ?? [], uses.get(b) ?? []];
          next += 7;
          const first = left[next % left.length];
          const second =
            right.find(({ draft, figure }) => draft.queue === first?.draft.queue && figure !== first.figure) ??
            right[next % right.length];
          if (first === undefined || second === undefined) continue;
          for (const distance of distances) {
            const by = first.draft.instruction.cycle + distance - second.draft.instruction.cycle;
            const program = assembled(1, target, [...first.figure, ...moved(second.figure, by)]);
            const { legal, difference } = outcome(program);
            count[legal ? "legal" : "broken"]++;
            if (difference !== "") wrong.push(`${a}, ${b} at ${distance}: ${difference}`);
          }
        }
      }
      expect(wrong).toEqual([]);
      expect({ names: names.length, legal: count.legal > 100, broken: count.broken > 100 }).toEqual({
        names: 28,
        legal: true,
        broken: true,
      });
    });
  }
});

test("streams past the buffer one after the other, and activations in between", () => {
  const { lanes } = SMALL;
  const start = 60;
  const wrong: string[] = [];
  const verdicts = new Set<boolean>();
  for (let next = 2; next <= 12; next++) {
    for (let abc = 0; abc <= 18; abc++) {
      const load = (at: number): string => `mem.w0 ${at + 3 - 8} read 0 w0 x2
        mem.w1 ${at + 3 - 8} read 0 w1 x2
        mxm.w0.weights ${at} iwStream w0 low 1 0 0 ${lanes / 2} 0 x2`;
      const program = programOf(
        `${load(start)}
         ${load(start + next)}
         ${load(start - 20)}
         mem.w4 ${start + abc + 2 - 7} read 0 w8
         mem.w5 ${start + abc + 2 - 7} read 0 w9
         mxm.w0.activations ${start + abc} abc w8 low
         mxm.w0.accumulate ${start + abc + 13} acc 0 set e12
         ${[0, 1, 2, 3].map((byte) => `mem.e${byte} ${start + abc + 13 + 34 + 9} write 50 e${12 + byte}`).join("\n")}`,
        { target: SMALL },
      );
      const { chips } = assembled(1, SMALL, []);
      const queues = program.chips[0]?.queues ?? [];
      const { legal, difference } = outcome(
        wholeProgram({ ...program, chips: [{ maps: [], queues, constants: chips[0]?.constants ?? [] }] }),
      );
      verdicts.add(legal);
      if (difference !== "") wrong.push(`${next}, ${abc}: ${difference}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(verdicts.size).toBe(2);
});
