/**
 * Plans of a group: chips that run one plan, which is written as that of the first.
 *
 * Chip i has constants of its own under the same keys, writes its own block where the first writes block 0, or reads it where
 * blocks are dealt out, and its links lead to other chips: to the one i behind that to which the link of the first chip leads.
 * Nothing else is other.
 */

import { at } from "../../diagnostics.js";
import type { Plan, PlanBinding, Task, Wire } from "../plan.js";
import type { Hemisphere } from "../target.js";

/** A link of another chip, by that of the first in whose place it is. */
export type LinksOf = ReadonlyMap<number, number>;

export const planOnChip = (plan: Plan, chip: number, links: LinksOf): Plan =>
  chip === 0
    ? plan
    : {
        ...plan,
        // What no chip reads is bound by the first, from which the host takes what is whole.
        inputs: plan.inputs.filter(({ storage }) => storage >= 0),
        outputs: plan.outputs.filter(({ pieces }) => pieces !== undefined),
        literals: new Map([...plan.literals].map(([key, literal]) => [key, literal.shares?.on(chip) ?? literal])),
        tasks: plan.tasks.map((task) => taskOnChip(plan, task, chip, links)),
      };

/** The plan of a group that is another than the first: its chips exchange by links of their own. */
export const planInGroup = (plan: Plan, links: LinksOf): Plan => ({
  ...plan,
  tasks: plan.tasks.map((task) => (task.wire?.twin === true ? { ...task, wire: wireBy(task.wire, links) } : task)),
});

const wireBy = (wire: Wire, links: LinksOf): Wire => ({
  ...wire,
  links: wire.links.map((link) => links.get(link) ?? link),
});

const taskOnChip = ({ storages }: Plan, task: Task, chip: number, links: LinksOf): Task => {
  const rowOnChip = (storage: number, row: number, isRead: boolean): number => {
    const { rows, blocks, dealt = false } = at(storages, storage, "storage");
    return blocks === undefined || dealt !== isRead ? row : turned(row, rows, blocks, chip);
  };
  const outputs = task.outputs.map((output) => ({ ...output, row: rowOnChip(output.storage, output.row, false) }));
  const leaves = task.leaves.map((leaf) => ({
    ...leaf,
    runs: leaf.runs.map((run) => ({ ...run, row: rowOnChip(leaf.storage, run.row, true) })),
  }));
  const { wire } = task;
  return { ...task, leaves, outputs, ...(wire === undefined ? {} : { wire: wireBy(wire, links) }) };
};

/** A row of `blocks` blocks, so many blocks further on, around the end. */
export const turned = (row: number, rows: number, blocks: number, by: number): number =>
  (row + (by * rows) / blocks) % rows;

/** Rows of a slice in which the blocks of a storage lie, one for each chip, one after another. */
export interface BlockPlace {
  readonly hemisphere: Hemisphere;
  readonly slice: number;
  readonly address: number;
  readonly rows: number;
  readonly blocks: number;
  /** Whether chips write them alike, and each reads its own. */
  readonly dealt: boolean;
}

/** A tensor of which each chip has a piece. */
export interface TensorInPieces {
  /** What the host calls the whole. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly axis: number;
}

/** The plan whose inputs, states and outputs of these names are pieces of what the host gives or gets. */
export const withPieces = (
  plan: Plan,
  lanes: number,
  chips: number,
  inputs: ReadonlyMap<string, TensorInPieces>,
  outputs: ReadonlyMap<string, TensorInPieces>,
): Plan => {
  const whole = <Bound extends Omit<PlanBinding, "lookup">>(
    binding: Bound,
    share: TensorInPieces | undefined,
  ): Bound => {
    const storage = plan.storages[binding.storage];
    if (share === undefined) return binding;
    const { name, shape, axis } = share;
    if (storage === undefined) return { ...binding, name, shape };
    const divide = at(shape, axis, "axis") / chips;
    const chip = { dim: axis, divide, extent: chips, row: 0, column: storage.panels * lanes };
    return { ...binding, name, shape, pieces: chips, factors: [...binding.factors, chip] };
  };
  const made = plan.inputs.map((binding) => whole(binding, inputs.get(binding.name)));
  const states = plan.states.map((state) => whole(state, inputs.get(state.name)));
  const isBound = ({ name, storage }: PlanBinding): boolean =>
    storage >= 0 ||
    !(made.some((other) => other.name === name && other.storage >= 0) || states.some((state) => state.name === name));
  return {
    ...plan,
    inputs: made.filter(isBound),
    states,
    outputs: plan.outputs.map((binding) => whole(binding, outputs.get(binding.name))),
  };
};
