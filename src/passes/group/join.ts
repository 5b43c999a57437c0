/**
 * The program of the first chip becomes that of a group: the same instructions at the same cycles, with rows and links of each chip.
 *
 * What the first chip writes to its block of a storage, another writes to its own, rows further on in the same slices, and so
 * with what it reads where blocks are dealt out; what it sends and receives by its links goes over those of the other. No
 * timing changes, and passes/check proves each chip anew.
 */

import { at, sure } from "../../diagnostics.js";
import { type BlockPlace, type LinksOf, turned } from "../../ir/plan/group.js";
import type { Plan, PlanBinding } from "../../ir/plan.js";
import {
  type Binding,
  type ConstantBlock,
  type EntryPoint,
  memQueue,
  type Placement,
  placedBehind,
  type Program,
  type Queues,
  type TimedInstruction,
} from "../../ir/program.js";

/** An entry of the first chip, and what others have in its place. */
export interface GroupEntry {
  readonly blocks: readonly BlockPlace[];
  /** What the entry adds to constants. */
  readonly constantsBy: (literals: Plan["literals"]) => readonly ConstantBlock[];
  /** Of each chip. */
  readonly plans: readonly Plan[];
}

/** `program`: of the first chip, with all entries. `own`: the links of each chip, by those of the first. */
export const joinGroup = (program: Program, entries: readonly GroupEntry[], own: readonly LinksOf[]): Program => {
  if (own.length === 1) return program;
  const first = at(program.chips, 0, "chip");
  const constantsOn = (chip: number): readonly ConstantBlock[] => {
    const blocks = entries.flatMap((entry) => constantsIn(entry, chip));
    return blocks.map((block, index) => {
      const like = at(first.constants, index, "block");
      return block.isOwn ? block.block : { ...block.block, bytes: like.bytes, like };
    });
  };
  const states = entries.flatMap(({ plans }) => at(plans, 0, "plan").states);
  return {
    ...program,
    chips: own.map((_, chip) => (chip === 0 ? first : { ...first, constants: constantsOn(chip) })),
    states: program.states.map((state) =>
      onAll(
        state,
        sure(
          states.find(({ name }) => name === state.name),
          "state of a plan",
        ),
        own.length,
      ),
    ),
    entries: program.entries.map((entry, index) => joinEntry(program, entry, at(entries, index, "entry"), own)),
  };
};

/** What an entry adds to the constants of a chip, and whether that is other than what the first has there. */
const constantsIn = ({ constantsBy, plans }: GroupEntry, chip: number) => {
  const [first, own] = [at(plans, 0, "chip").literals, at(plans, chip, "chip").literals];
  return constantsBy(own).map((block) => {
    const literal = block.holds?.literal;
    return { block, isOwn: literal !== undefined && own.get(literal) !== first.get(literal) };
  });
};

const joinEntry = (program: Program, entry: EntryPoint, { blocks, plans }: GroupEntry, own: readonly LinksOf[]) => {
  const plan = at(plans, 0, "plan");
  const queues = at(entry.queues, 0, "chip");
  return {
    ...entry,
    inputs: entry.inputs.map((binding, index) => onAll(binding, at(plan.inputs, index, "input"), own.length)),
    outputs: entry.outputs.map((binding, index) => {
      const planned = at(plan.outputs, index, "output");
      return planned.pieces === undefined ? binding : onAll(binding, planned, own.length);
    }),
    queues: own.map((links, chip) => onChip(program, queues, blocks, chip, links)),
    cycles: own.map(() => at(entry.cycles, 0, "chip")),
  };
};

/** The places of what the host gives or gets, or of what stays: each chip has all of it, or a piece in columns of its own. */
const onAll = <Bound extends Pick<Binding, "placements">>(
  binding: Bound,
  { pieces }: Pick<PlanBinding, "pieces">,
  chips: number,
): Bound => {
  const each = (placement: Placement): Placement[] =>
    Array.from({ length: chips }, (_, chip) => placedBehind(placement, chip));
  const joined = (placement: Placement): Placement => ({
    ...placement,
    columns: placement.columns * chips,
    panels: each(placement).flatMap(({ panels }) => panels),
  });
  const { placements } = binding;
  return { ...binding, placements: pieces === undefined ? placements.flatMap(each) : placements.map(joined) };
};

const onChip = (
  { target }: Program,
  queues: Queues,
  blocks: readonly BlockPlace[],
  chip: number,
  links: LinksOf,
): Queues => {
  if (chip === 0) return queues;
  const places = new Map<number, BlockPlace[]>();
  for (const place of blocks) {
    const queue = memQueue(target, place.hemisphere, place.slice);
    places.set(queue, [...(places.get(queue) ?? []), place]);
  }
  return queues.map((queue, number) =>
    queue.map((instruction) => moved(instruction, places.get(number) ?? [], chip, links)),
  );
};

const moved = (
  instruction: TimedInstruction,
  places: readonly BlockPlace[],
  chip: number,
  links: LinksOf,
): TimedInstruction => {
  const { op, fields } = instruction;
  if (op === "send" || op === "receive")
    return { ...instruction, fields: { ...fields, link: sure(links.get(Number(fields["link"])), "link") } };
  if (op !== "write" && op !== "read") return instruction;
  const address = Number(fields["address"]);
  const place = places.find((one) => address >= one.address && address < one.address + one.rows);
  if (place === undefined || place.dealt !== (op === "read")) return instruction;
  const row = turned(address - place.address, place.rows, place.blocks, chip);
  return { ...instruction, fields: { ...fields, address: place.address + row } };
};
