/**
 * Stages of a Program: what chips do that work one behind the other, each a program of its own.
 *
 * Chips that send to each other, over however many others, are one stage; between stages all goes one way, so that a stage can run as
 * soon as those before it have run, wherever that was. Its clock stays that of the whole, so each vector that comes in from another
 * stage is there in the cycle in which it would be. Stages are numbered in an order in which they can run.
 */

import { at, fail, sure } from "../diagnostics.js";
import type { Binding, EntryPoint, Program, Queues, StateBinding } from "./program.js";

/** A vector on its way between a chip of a stage and one that is not of it. */
export interface OuterVector {
  /** The chip and its link, at this end. */
  readonly chip: number;
  readonly link: number;
  /** In which it is sent. */
  readonly cycle: number;
}

/** All that a chip of a stage sends to a chip of another, or receives from it, in the order in which it is sent. */
export interface OuterWire {
  /** Like `wire-0-1`: from chip 0 of the whole program to chip 1. */
  readonly name: string;
  readonly kind: "send" | "receive";
  readonly vectors: readonly OuterVector[];
}

export interface Stage {
  /** Numbers of its chips in the whole program. */
  readonly chips: readonly number[];
  /** Of these chips alone, numbered from 0, with the links between them. `macs` stay those of the whole. */
  readonly program: Program;
  /** By entry: wires from and to other stages. */
  readonly outer: readonly (readonly OuterWire[])[];
}

/** Every stage of a program, in an order in which they can run. */
export const stagesOf = (program: Program): readonly Stage[] => {
  const sent = program.entries.map(({ queues }) => wiresIn(program, queues));
  const name = wireNamesOf(program);
  return groupsOf(program.chips.length, sent.flat()).map((chips, stage) => {
    const numbers = new Map(chips.map((chip, number) => [chip, number]));
    const outer = sent.map((wires) => wires.flatMap((wire) => outerWire(wire, numbers, name(wire))));
    return { chips, program: programOn(program, chips, numbers, stage), outer };
  });
};

/** The stage of that number; LPU4035 if there is none. */
export const stageOf = (program: Program, stage: number): Stage => {
  const stages = stagesOf(program);
  return (
    stages[stage] ??
    fail("LPU4035", {
      message: `expected a stage of the program, 0${stages.length > 1 ? ` to ${stages.length - 1}` : ""}, got ${stage}`,
    })
  );
};

/* ---------- wires ---------- */

/** What one chip sends to another, in order. */
interface ChipWire {
  readonly from: number;
  readonly to: number;
  readonly vectors: readonly { readonly fromLink: number; readonly toLink: number; readonly cycle: number }[];
}

/** By pair of chips. Of links that lead nowhere nothing is said: the machine refuses to send on them. */
const wiresIn = ({ links }: Program, queues: readonly Queues[]): readonly ChipWire[] => {
  const joined = new Map(links.map((link) => [`${link.fromChip}:${link.fromLink}`, link]));
  const wires = new Map<string, { from: number; to: number; vectors: ChipWire["vectors"][number][] }>();
  for (const [from, own] of queues.entries())
    for (const { op, fields, cycle, count, interval } of own.flat()) {
      const link = op === "send" ? joined.get(`${from}:${String(fields["link"])}`) : undefined;
      if (link === undefined) continue;
      const { toChip: to, fromLink, toLink } = link;
      const wire = wires.get(`${from}:${to}`) ?? { from, to, vectors: [] };
      wires.set(`${from}:${to}`, wire);
      for (let i = 0; i < count; i++) wire.vectors.push({ fromLink, toLink, cycle: cycle + i * interval });
    }
  for (const { vectors } of wires.values()) vectors.sort((a, b) => a.cycle - b.cycle || a.fromLink - b.fromLink);
  return [...wires.values()].sort((a, b) => a.from - b.from || a.to - b.to);
};

const outerWire = (
  { from, to, vectors }: ChipWire,
  numbers: ReadonlyMap<number, number>,
  name: string,
): OuterWire[] => {
  const [sender, receiver] = [numbers.get(from), numbers.get(to)];
  if ((sender === undefined) === (receiver === undefined)) return [];
  const kind = sender === undefined ? "receive" : "send";
  const end = (vector: ChipWire["vectors"][number]): OuterVector =>
    sender === undefined
      ? { chip: sure(receiver, "chip that receives"), link: vector.toLink, cycle: vector.cycle }
      : { chip: sender, link: vector.fromLink, cycle: vector.cycle };
  return [{ name, kind, vectors: vectors.map(end) }];
};

/** Names that no input or output of the program has. */
const wireNamesOf = ({ entries }: Program): ((wire: ChipWire) => string) => {
  const taken = entries.flatMap(({ inputs, outputs }) => [...inputs, ...outputs].map(({ name }) => name));
  let prefix = "wire";
  while (taken.some((name) => name.startsWith(`${prefix}-`))) prefix += "_";
  return ({ from, to }) => `${prefix}-${from}-${to}`;
};

/* ---------- stages ---------- */

/** Chips that reach each other together, those first that fewest others reach. */
const groupsOf = (chips: number, wires: readonly ChipWire[]): readonly (readonly number[])[] => {
  const all = Array.from({ length: chips }, (_, chip) => chip);
  const reached = all.map((chip) => reachedFrom(chip, wires));
  const reaches = (from: number, to: number): boolean => at(reached, from, "chip").has(to);
  const groupOf = (chip: number): readonly number[] =>
    all.filter((other) => reaches(chip, other) && reaches(other, chip));
  const before = (chip: number): number => all.filter((other) => reaches(other, chip)).length;
  return all
    .filter((chip) => groupOf(chip)[0] === chip)
    .sort((a, b) => before(a) - before(b) || a - b)
    .map(groupOf);
};

/** A chip and all to which it sends, directly or through others. */
const reachedFrom = (chip: number, wires: readonly ChipWire[]): ReadonlySet<number> => {
  const reached = new Set([chip]);
  for (const next of reached) for (const { from, to } of wires) if (from === next) reached.add(to);
  return reached;
};

const programOn = (
  program: Program,
  chips: readonly number[],
  numbers: ReadonlyMap<number, number>,
  stage: number,
): Program => {
  const own = <T>(all: readonly T[]): T[] => chips.map((chip) => at(all, chip, "chip"));
  /** What is bound here; an input that nothing reads is the first stage's. */
  const bound = <Bound extends StateBinding>(bindings: readonly Bound[]): Bound[] =>
    bindings.flatMap((binding) => {
      const placements = placedOn(binding, numbers);
      return placements.length > 0 || (stage === 0 && binding.placements.length === 0)
        ? [{ ...binding, placements }]
        : [];
    });
  return {
    ...program,
    chips: own(program.chips),
    links: program.links.flatMap((link) => {
      const [fromChip, toChip] = [numbers.get(link.fromChip), numbers.get(link.toChip)];
      return fromChip === undefined || toChip === undefined ? [] : [{ ...link, fromChip, toChip }];
    }),
    states: bound(program.states),
    entries: program.entries.map(
      (entry): EntryPoint => ({
        ...entry,
        inputs: bound(entry.inputs),
        outputs: bound(entry.outputs),
        queues: own(entry.queues),
        cycles: own(entry.cycles),
      }),
    ),
  };
};

/** Placements on chips that are here, by their numbers here. */
const placedOn = (
  { placements }: Pick<Binding, "placements">,
  numbers: ReadonlyMap<number, number>,
): Binding["placements"] =>
  placements.flatMap((placement) => {
    const panels = placement.panels.map(({ planes }) => ({
      planes: planes.flatMap((plane) => {
        const chip = numbers.get(plane.chip);
        return chip === undefined ? [] : [{ ...plane, chip }];
      }),
    }));
    const isHere = panels.every(({ planes }, panel) => planes.length === placement.panels[panel]?.planes.length);
    return isHere ? [{ ...placement, panels }] : [];
  });
