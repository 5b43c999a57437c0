/**
 * Systems: how many chips, and which link of which chip is joined to which.
 *
 * A wire joins two links, goes both ways, and takes up the link at each of its ends. Chips make nodes in which each is joined to
 * each; four further links of each chip leave the node, as 32 ports, and join nodes. Sources are marked as in target.ts.
 */

import { fail } from "../diagnostics.js";
import type { Link } from "./program.js";
import type { Target } from "./target.js";

/** Links of a chip that join it to the others of its node (C). */
export const LOCAL_LINKS = 7;
/** Links of a chip that leave the node (C). */
const OUTER_LINKS = 4;
const NODE_CHIPS = 8;
const NODE_PORTS = NODE_CHIPS * OUTER_LINKS;
/** Nodes of a rack, one of which is a hot spare (C), and wires between every two of them (C, D). */
const RACK_NODES = 9;
const RACK_WIRES = 4;
/** Nodes that are joined to each on a line, on either side, by so many wires (C). */
const LINE_REACH = 4;
const LINE_WIRES = 4;
/** As many chips as the largest system of racks has: none was ever said to be larger. */
const LINE_NODES = 1305;
/** Nodes that are joined each to each (C). Beyond that racks are, and half of the ports of a node leave its rack (D). */
const DRAGONFLY_NODES = 33;
const DRAGONFLY_RACKS = 145;
const RACK_PORTS = NODE_PORTS / 2;

/** `wires` wires between two nodes. */
interface Joint {
  readonly from: number;
  readonly to: number;
  readonly wires: number;
}

/** Nodes, with chips that are joined each to each by `local` wires, or in a ring by `ring`, and what joins the nodes. */
interface Topology {
  readonly nodes: number;
  readonly size: number;
  readonly local: number;
  readonly ring: number;
  readonly joints: readonly Joint[];
}

interface SystemRow {
  readonly doc: string;
  /** What the number in the name may be. */
  readonly numbers?: string;
  /** `count`: the number in the name, if it has one; `links`: those that a chip has for its node. Undefined if there is no such system. */
  readonly topology: (count: number, links: number) => Topology | undefined;
}

/** A ring where chips have too few links to be joined each to each (A). */
const node = (size: number, doc: string): SystemRow => ({
  doc,
  topology: (_, links) => {
    const local = Math.floor(links / (size - 1));
    return { nodes: 1, size, local, ring: local > 0 ? 0 : Math.floor(links / 2), joints: [] };
  },
});

const joinedNodes = (nodes: number, joints: readonly Joint[]): Topology => ({
  nodes,
  size: NODE_CHIPS,
  local: 1,
  ring: 0,
  joints,
});

/** Joints between every two of `count` that are at most `reach` apart. */
const eachToEach = (count: number, wires: number, reach = count): Joint[] => {
  const joints: Joint[] = [];
  for (let from = 0; from < count; from++)
    for (let to = from + 1; to < count && to <= from + reach; to++) joints.push({ from, to, wires });
  return joints;
};

/** Each of `count` joined to the next, and the last to the first. */
const inRing = (count: number, wires: number): Joint[] =>
  Array.from({ length: count }, (_, from) => ({ from, to: (from + 1) % count, wires }));

const dragonfly = (chips: number): Topology | undefined => {
  const nodes = chips / NODE_CHIPS;
  if (!Number.isInteger(nodes)) return undefined;
  if (nodes <= DRAGONFLY_NODES) return joinedNodes(nodes, eachToEach(nodes, Math.floor(NODE_PORTS / (nodes - 1))));
  const racks = nodes / RACK_NODES;
  if (!Number.isInteger(racks) || racks > DRAGONFLY_RACKS) return undefined;
  const inside = eachToEach(RACK_NODES, RACK_PORTS / (RACK_NODES - 1));
  const joints = Array.from({ length: racks }, (_, rack) =>
    inside.map(({ from, to, wires }) => ({ from: rack * RACK_NODES + from, to: rack * RACK_NODES + to, wires })),
  ).flat();
  const wires = Math.floor((RACK_NODES * RACK_PORTS) / (racks - 1));
  // The ports that leave a rack are taken in turn, node after node.
  const taken = new Map<number, number>();
  const nodeOf = (rack: number): number => {
    const port = taken.get(rack) ?? 0;
    taken.set(rack, port + 1);
    return rack * RACK_NODES + Math.floor(port / RACK_PORTS);
  };
  for (const { from, to } of eachToEach(racks, wires))
    for (let wire = 0; wire < wires; wire++) joints.push({ from: nodeOf(from), to: nodeOf(to), wires: 1 });
  return joinedNodes(nodes, joints);
};

/** By name; N stands for a number. */
export const SYSTEMS = {
  card: { doc: "One chip.", topology: () => ({ nodes: 1, size: 1, local: 0, ring: 0, joints: [] }) },
  // The makers' node has eight chips and 28 cables (C); that fewer chips share the same links is our own (A).
  node2: node(2, "Two chips, joined by all links that a chip has for its node."),
  node4: node(4, "Four chips, each joined to each; in a ring where chips have fewer than 3 links."),
  node8: node(
    NODE_CHIPS,
    "Eight chips, each joined to each by one wire: 28 cables; in a ring where chips have fewer than 7 links.",
  ),
  rack: {
    doc: "Nine nodes, every two joined by four wires.",
    topology: () => joinedNodes(RACK_NODES, eachToEach(RACK_NODES, RACK_WIRES)),
  },
  "line-N": {
    doc: "N nodes along a line, up to 1,305, each joined to its four next and four previous ones by four wires each.",
    numbers: `nodes, 2 to ${LINE_NODES}`,
    topology: (nodes) =>
      nodes > 1 && nodes <= LINE_NODES ? joinedNodes(nodes, eachToEach(nodes, LINE_WIRES, LINE_REACH)) : undefined,
  },
  "dragonfly-N": {
    doc: "N chips: up to 264 as nodes that are joined each to each, and up to 10,440 as racks that are.",
    numbers: "chips: a multiple of 8 up to 264, or of 72 up to 10440",
    topology: (chips) => (chips > NODE_CHIPS ? dragonfly(chips) : undefined),
  },
} as const satisfies Readonly<Record<string, SystemRow>>;

export type SystemName = Exclude<keyof typeof SYSTEMS, `${string}-N`> | `line-${number}` | `dragonfly-${number}`;

const rowsByName: ReadonlyMap<string, SystemRow> = new Map(Object.entries(SYSTEMS));

/** The row of a name, and the number in it; undefined if there is none. */
const rowOf = (name: string): { readonly row: SystemRow; readonly count: number } | undefined => {
  const [, kind = name, digits] = /^([a-z]+)-([1-9]\d{0,5})$/.exec(name) ?? [];
  const row = rowsByName.get(digits === undefined ? kind : `${kind}-N`);
  return row === undefined || name.endsWith("-N") ? undefined : { row, count: Number(digits ?? 0) };
};

const topologyOf = (name: string, links: number): Topology | undefined => {
  const found = rowOf(name);
  return found?.row.topology(found.count, Math.min(LOCAL_LINKS, links));
};

export const isSystem = (name: string): name is SystemName => topologyOf(name, LOCAL_LINKS) !== undefined;

export interface System {
  readonly name: SystemName;
  readonly chips: number;
  /** Chips of a node: the first so many are one, the next so many another. */
  readonly nodeChips: number;
  /** By node: its chips that work. Dead ones keep their numbers. */
  readonly nodes: readonly (readonly number[])[];
  /** One for each direction of each wire between chips that work. */
  readonly links: readonly Link[];
}

/** Chips of a system. */
export const chipsIn = (name: SystemName): number => {
  const { nodes, size } = knownTopology(name, LOCAL_LINKS);
  return nodes * size;
};

const knownTopology = (name: SystemName, links: number): Topology => topologyOf(name, links) ?? failUnknown(name);

/** LPU2007 that says what systems there are, or what the number in a name may be; `at`: where the name was given. */
export const failUnknown = (name: string, at = ""): never => {
  const { numbers } = rowsByName.get(name.replace(/-\d+$/, "-N")) ?? {};
  return fail("LPU2007", {
    message: `${at}unknown system '${name}'${numbers === undefined ? "" : `: N is a number of ${numbers}`}`,
    hint: `systems are ${Object.keys(SYSTEMS).join(", ")} (lpu systems)`,
  });
};

/** Whether the chips of a target have as many links as a system takes. */
export const isJoinable = (name: SystemName, { links }: Target): boolean => {
  const { size, local, ring, joints } = knownTopology(name, links);
  const needed = joints.length > 0 ? LOCAL_LINKS + OUTER_LINKS : 0;
  return links >= needed && (size === 1 || local + ring > 0);
};

/** Chips of the system that is named which do not work. LPU2007 if none is named. */
export const deadOf = ({
  system,
  dead = [],
}: {
  readonly system?: SystemName | undefined;
  readonly dead?: readonly number[] | undefined;
}): readonly number[] => {
  if (dead.length > 0 && system === undefined)
    fail("LPU2007", {
      message: `expected a system whose chips ${dead.join(", ")} are dead, none is named`,
      hint: "give the system that they are of (--system)",
    });
  return dead;
};

/** Chips of a system that work. LPU2007 if it has no chip of a number that is dead, or none that works. */
export const livingChips = (name: SystemName, dead: readonly number[] = []): readonly number[] => {
  const all = Array.from({ length: chipsIn(name) }, (_, chip) => chip);
  const unknown = dead.find((chip) => !all.includes(chip));
  if (unknown !== undefined)
    fail("LPU2007", {
      message: `expected dead chips from 0 to ${all.length - 1} of system '${name}', got ${unknown}`,
      hint: "chips have numbers from 0, those of a node one after another",
    });
  const living = all.filter((chip) => !dead.includes(chip));
  if (living.length > 0) return living;
  return fail("LPU2007", {
    message: `expected a chip of system '${name}' that works, all ${all.length} are dead`,
    hint: "choose another system",
  });
};

/**
 * A system of chips of a target, `dead` ones left out with all their wires. LPU2007 if they have too few links, or there is no system
 * of this name, or `dead` is not of it.
 */
export const systemOf = (name: SystemName, target: Target, dead: readonly number[] = []): System => {
  const { nodes, size, local, ring, joints } = knownTopology(name, target.links);
  if (!isJoinable(name, target))
    fail("LPU2007", {
      message: `system '${name}' takes ${joints.length > 0 ? LOCAL_LINKS + OUTER_LINKS : Math.min(2, size - 1)} links of a chip, target '${target.name}' has ${target.links}`,
      hint: "choose a smaller system, or a target with more links",
    });
  const links: Link[] = [];
  const used = new Map<number, number>();
  const join = (a: number, b: number): void => {
    const [linkA, linkB] = [next(used, a), next(used, b)];
    links.push({ fromChip: a, fromLink: linkA, toChip: b, toLink: linkB });
    links.push({ fromChip: b, fromLink: linkB, toChip: a, toLink: linkA });
  };
  for (let first = 0; first < nodes * size; first += size)
    for (const { from, to, wires } of local > 0 ? eachToEach(size, local) : inRing(size, ring))
      for (let wire = 0; wire < wires; wire++) join(first + from, first + to);
  // The ports of a node are an outer link of each of its chips, then a second of each, and so on: wires to a node end at several chips.
  const ports = new Map<number, number>();
  const chipOf = (index: number): number => index * size + (next(ports, index) % size);
  for (const { from, to, wires } of joints) for (let wire = 0; wire < wires; wire++) join(chipOf(from), chipOf(to));
  const living = new Set(livingChips(name, dead));
  return {
    ...{ name, chips: nodes * size, nodeChips: size },
    nodes: Array.from({ length: nodes }, (_, index) =>
      Array.from({ length: size }, (_, chip) => index * size + chip).filter((chip) => living.has(chip)),
    ),
    links: links.filter(({ fromChip, toChip }) => living.has(fromChip) && living.has(toChip)),
  };
};

/** Counts on: the lowest number that something has not had yet. */
const next = (taken: Map<number, number>, owner: number): number => {
  const number = taken.get(owner) ?? 0;
  taken.set(owner, number + 1);
  return number;
};

/** Systems of one node that are taken when none is named, by size. */
export const NODES = ["card", "node2", "node4", "node8"] as const satisfies readonly SystemName[];

/** The smallest system of at least so many chips. */
export const systemWith = (chips: number): SystemName =>
  NODES.find((name) => chipsIn(name) >= chips) ?? `line-${Math.ceil(chips / NODE_CHIPS)}`;

/** Chips of a node of a target that can share products: each is joined to each. */
export const sharingChips = ({ links }: Target): readonly number[] =>
  Array.from({ length: NODE_CHIPS - 1 }, (_, index) => index + 2).filter(
    (chips) => chipsIn(systemWith(chips)) - 1 <= links,
  );

/** Numbers of chips that share products, where that is not asked for. */
export const DEGREES = [1, 2, 4, 8] as const;

/** Groups of so many chips that work, each within a node. */
export const groupsIn = ({ nodes }: System, size: number): readonly (readonly number[])[] =>
  nodes.flatMap((chips) =>
    Array.from({ length: Math.floor(chips.length / size) }, (_, group) =>
      chips.slice(group * size, (group + 1) * size),
    ),
  );

/** Links among some chips, which get the numbers of their places. */
export const linksAmong = ({ links }: System, chips: readonly number[]): readonly Link[] => {
  const numbers = new Map(chips.map((chip, place) => [chip, place]));
  return links.flatMap((link): Link[] => {
    const [fromChip, toChip] = [numbers.get(link.fromChip), numbers.get(link.toChip)];
    return fromChip === undefined || toChip === undefined ? [] : [{ ...link, fromChip, toChip }];
  });
};

/** Links from a chip to another. */
export const linksBetween = ({ links }: Pick<System, "links">, from: number, to: number): readonly Link[] =>
  links.filter(({ fromChip, toChip }) => fromChip === from && toChip === to);
