/**
 * Systems: how many chips, and which link of which chip is joined to which.
 *
 * A wire joins two links, goes both ways, and takes up the link at each of its ends. Sources are marked as in target.ts.
 */

import { fail } from "../diagnostics.js";
import type { Link } from "./program.js";
import type { Target } from "./target.js";

/** Links of a chip that join it to the others of its node; the makers' cards have four more, which leave the node (C). */
const LOCAL_LINKS = 7;

interface SystemRow {
  readonly doc: string;
  readonly chips: number;
  /** How many wires join every two chips, if a chip has so many links for all of them. */
  readonly joined: (links: number) => number;
}

/** Chips that are joined each to each: what links they have for it are dealt out evenly. */
const node = (chips: number, doc: string): SystemRow => ({
  doc,
  chips,
  joined: (links) => Math.floor(links / (chips - 1)),
});

export const SYSTEMS = {
  card: { doc: "One chip.", chips: 1, joined: () => 0 },
  // The makers' node has eight chips and 28 cables (C); that fewer chips share the same links is our own (A).
  node2: node(2, "Two chips, joined by all links that a chip has for its node."),
  node4: node(4, "Four chips, each joined to each."),
  node8: node(8, "Eight chips, each joined to each by one wire: 28 cables."),
} as const satisfies Readonly<Record<string, SystemRow>>;
export type SystemName = keyof typeof SYSTEMS;
export const isSystem = (name: string): name is SystemName => Object.hasOwn(SYSTEMS, name);

export interface System {
  readonly name: SystemName;
  readonly chips: number;
  /** One for each direction of each wire. */
  readonly links: readonly Link[];
}

/** Wires between every two chips; 0 if the chips have too few links. */
export const wiresOf = (name: SystemName, { links }: Target): number =>
  SYSTEMS[name].joined(Math.min(LOCAL_LINKS, links));

/** A system of chips of a target. LPU2007 if they have too few links. */
export const systemOf = (name: SystemName, target: Target): System => {
  const { chips } = SYSTEMS[name];
  const wires = wiresOf(name, target);
  if (chips > 1 && wires === 0)
    fail("LPU2007", {
      message: `system '${name}' joins a chip to ${chips - 1} others, target '${target.name}' has ${target.links} links`,
      hint: `choose a smaller system, or a target with more links`,
    });
  const links: Link[] = [];
  const used = new Map<number, number>();
  for (let a = 0; a < chips; a++)
    for (let b = a + 1; b < chips; b++)
      for (let wire = 0; wire < wires; wire++) {
        const [linkA, linkB] = [next(used, a), next(used, b)];
        links.push({ fromChip: a, fromLink: linkA, toChip: b, toLink: linkB });
        links.push({ fromChip: b, fromLink: linkB, toChip: a, toLink: linkA });
      }
  return { name, chips, links };
};

/** The lowest link of a chip that no wire has yet. */
const next = (used: Map<number, number>, chip: number): number => {
  const link = used.get(chip) ?? 0;
  used.set(chip, link + 1);
  return link;
};

/** The smallest system of at least so many chips. LPU2007 if there is none. */
export const systemWith = (chips: number): SystemName => {
  for (const [name, row] of Object.entries(SYSTEMS)) if (isSystem(name) && row.chips >= chips) return name;
  return fail("LPU2007", { message: `expected a system of ${chips} chips, the largest has ${SYSTEMS.node8.chips}` });
};

/** Links from a chip to another. */
export const linksBetween = ({ links }: Pick<System, "links">, from: number, to: number): readonly Link[] =>
  links.filter(({ fromChip, toChip }) => fromChip === from && toChip === to);
