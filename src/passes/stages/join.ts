/**
 * Programs of stages become one program of several chips.
 *
 * Each stage was scheduled with a clock of its own, which begins when the first vector can come in; here all get the time of
 * the first. Chips share nothing but that time and the wires.
 */

import { at, sure } from "../../diagnostics.js";
import type { Plan } from "../../ir/plan.js";
import { type Binding, type EntryPoint, type Link, placedOn, type Program, type Queues } from "../../ir/program.js";

/** One stage of an entry. */
export interface Stage {
  /** As it was cut. */
  readonly plan: Plan;
  /** Of its chip, with all entries up to this one. */
  readonly program: Program;
  /** The cycle in which its cycle 0 is. */
  readonly start: number;
}

/** An entry: the plan that was cut, and its stages. */
export interface StagedEntry {
  readonly whole: Plan;
  readonly stages: readonly Stage[];
}

export const joinStages = (entries: readonly StagedEntry[], links: readonly Link[]): Program => {
  const chips = sure(entries.at(-1), "last entry").stages.map(({ program }) => program);
  const states = chips.flatMap((program, chip) => program.states.map((state) => ({ state, chip })));
  const names = [...new Set(entries.flatMap(({ whole }) => whole.states.map(({ name }) => name)))];
  return {
    ...at(chips, 0, "chip"),
    chips: chips.flatMap((program) => program.chips),
    links,
    states: names.flatMap((name) =>
      states
        .filter(({ state }) => state.name === name)
        .map(({ state, chip }) => ({ ...state, placements: state.placements.map((place) => placedOn(place, chip)) })),
    ),
    entries: entries.map(({ whole, stages }, index) => joinEntry(whole, stages, index)),
  };
};

const joinEntry = (whole: Plan, stages: readonly Stage[], index: number): EntryPoint => {
  const parts = stages.map(({ program }) => at(program.entries, index, "entry"));
  const inputs = stages.map(({ plan }, chip) => pairs(plan.inputs, at(parts, chip, "stage").inputs));
  const outputs = stages.map(({ plan }, chip) => pairs(plan.outputs, at(parts, chip, "stage").outputs));
  return {
    name: at(parts, 0, "stage").name,
    inputs: whole.inputs.flatMap((input) => bound(input, inputs)),
    outputs: whole.outputs.flatMap((output) => bound(output, outputs)),
    queues: stages.map(({ start }, chip) => later(at(at(parts, chip, "stage").queues, 0, "chip"), start)),
    cycles: stages.map(({ start }, chip) => start + at(at(parts, chip, "stage").cycles, 0, "chip")),
    macs: whole.macs,
  };
};

/** What a plan binds, with what became of it. */
const pairs = <Planned, Bound>(planned: readonly Planned[], made: readonly Bound[]): ReadonlyMap<Planned, Bound> =>
  new Map(
    planned.flatMap((one, at) => {
      const found = made[at];
      return found === undefined ? [] : [[one, found] as const];
    }),
  );

/** What a plan binds, with its places on all chips. An input may be bound several times, each time laid out otherwise. */
const bound = <Planned, Bound extends Pick<Binding, "placements">>(
  planned: Planned,
  chips: readonly ReadonlyMap<Planned, Bound>[],
): Bound[] => {
  const found = chips.map((bindings) => bindings.get(planned));
  const placements = found.flatMap((binding, chip) =>
    (binding?.placements ?? []).map((placement) => placedOn(placement, chip)),
  );
  return found
    .filter((binding) => binding !== undefined)
    .slice(0, 1)
    .map((binding) => ({ ...binding, placements }));
};

const later = (queues: Queues, start: number): Queues =>
  start === 0
    ? queues
    : queues.map((queue) => queue.map((instruction) => ({ ...instruction, cycle: instruction.cycle + start })));
