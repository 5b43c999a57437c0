/**
 * Programs of stages become one program of several chips.
 *
 * Each stage was scheduled with a clock of its own, which begins when the first vector can come in; here all get the time of
 * the first. Chips share nothing but that time and the wires.
 */

import { at, sure } from "../../diagnostics.js";
import type { Plan } from "../../ir/plan.js";
import { type Binding, type EntryPoint, type Link, placedBehind, type Program, type Queues } from "../../ir/program.js";

/** One stage of an entry. */
export interface ScheduledStage {
  /** As it was cut. */
  readonly plan: Plan;
  /** Of its chip or of the group of them, with all entries. */
  readonly program: Program;
  /** The cycle in which its cycle 0 is. */
  readonly start: number;
}

/** An entry: the plan that was cut, and its stages. */
export interface StagedEntry {
  readonly whole: Plan;
  readonly stages: readonly ScheduledStage[];
}

export const joinStages = (entries: readonly StagedEntry[], links: readonly Link[]): Program => {
  const stages = sure(entries.at(-1), "last entry").stages.map(({ program }) => program);
  const members = at(stages, 0, "stage").chips.length;
  const states = stages.flatMap((program, stage) => program.states.map((state) => ({ state, chip: stage * members })));
  const names = [...new Set(entries.flatMap(({ whole }) => whole.states.map(({ name }) => name)))];
  return {
    ...at(stages, 0, "stage"),
    chips: stages.flatMap(({ chips }) => chips),
    links,
    states: names.flatMap((name) =>
      states
        .filter(({ state }) => state.name === name)
        .map(({ state, chip }) => ({
          ...state,
          placements: state.placements.map((place) => placedBehind(place, chip)),
        })),
    ),
    entries: entries.map((entry, index) => joinEntry(entry, members, index)),
  };
};

const joinEntry = ({ whole, stages }: StagedEntry, members: number, index: number): EntryPoint => {
  const parts = stages.map(({ program }) => at(program.entries, index, "entry"));
  const inputs = stages.map(({ plan }, stage) => pairs(plan.inputs, at(parts, stage, "stage").inputs));
  const outputs = stages.map(({ plan }, stage) => pairs(plan.outputs, at(parts, stage, "stage").outputs));
  return {
    name: at(parts, 0, "stage").name,
    inputs: whole.inputs.flatMap((input) => bound(input, inputs, members)),
    outputs: whole.outputs.flatMap((output) => bound(output, outputs, members)),
    queues: stages.flatMap(({ start }, stage) => at(parts, stage, "stage").queues.map((own) => later(own, start))),
    cycles: stages.flatMap(({ start }, stage) => at(parts, stage, "stage").cycles.map((cycles) => start + cycles)),
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
  stages: readonly ReadonlyMap<Planned, Bound>[],
  members: number,
): Bound[] => {
  const found = stages.map((bindings) => bindings.get(planned));
  const placements = found.flatMap((binding, stage) =>
    (binding?.placements ?? []).map((placement) => placedBehind(placement, stage * members)),
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
