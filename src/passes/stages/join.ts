/**
 * Programs of stages become one program of several chips.
 *
 * Each stage was scheduled with a clock of its own, which begins when the first vector can come in; here all get the time of
 * the first. Chips share nothing but that time and the wires.
 */

import { at, invariant } from "../../diagnostics.js";
import type { Plan } from "../../ir/plan.js";
import { type Binding, entryNamed, type Link, type Placement, type Program, type Queues } from "../../ir/program.js";

export interface Stage {
  /** As it was cut. */
  readonly plan: Plan;
  readonly program: Program;
  /** The cycle in which its cycle 0 is. */
  readonly start: number;
}

/** `whole`: what was cut into the stages. */
export const joinStages = (whole: Plan, stages: readonly Stage[], links: readonly Link[]): Program => {
  const [first] = stages;
  invariant(first !== undefined, "there is a first stage");
  const entries = stages.map(({ program }) => entryNamed(program.entries, undefined));
  const inputs = stages.map(({ plan }, chip) => pairs(plan.inputs, entries[chip]?.inputs ?? []));
  const outputs = stages.map(({ plan }, chip) => pairs(plan.outputs, entries[chip]?.outputs ?? []));
  const states = stages.map(({ plan, program }) => pairs(plan.states, program.states));
  return {
    ...first.program,
    chips: stages.flatMap(({ program }) => program.chips),
    links,
    states: whole.states.flatMap((state) => bound(state, states)),
    entries: [
      {
        name: entries[0]?.name ?? "",
        inputs: whole.inputs.flatMap((input) => bound(input, inputs)),
        outputs: whole.outputs.flatMap((output) => bound(output, outputs)),
        queues: stages.map(({ start }, chip) => later(at(at(entries, chip, "stage").queues, 0, "chip"), start)),
        cycles: stages.map(({ start }, chip) => start + at(at(entries, chip, "stage").cycles, 0, "chip")),
        macs: whole.macs,
      },
    ],
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
    (binding?.placements ?? []).map((placement) => onChip(placement, chip)),
  );
  return found
    .filter((binding) => binding !== undefined)
    .slice(0, 1)
    .map((binding) => ({ ...binding, placements }));
};

const onChip = (placement: Placement, chip: number): Placement => ({
  ...placement,
  panels: placement.panels.map(({ planes }) => ({ planes: planes.map((plane) => ({ ...plane, chip })) })),
});

const later = (queues: Queues, start: number): Queues =>
  start === 0
    ? queues
    : queues.map((queue) => queue.map((instruction) => ({ ...instruction, cycle: instruction.cycle + start })));
