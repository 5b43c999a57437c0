/**
 * Which vector of a task that sends or receives goes over which link, and when: the same at both ends of a wire.
 *
 * An element of so many bytes lies in as many planes, and each plane of a row is a vector. The links are dealt out in groups of
 * equal size, as many groups as planes can go side by side; each group takes one row after another, a row a cycle, until all
 * of its links are taken, and again when they are free. So links that are as many as a link's interval in cycles would carry a
 * vector a cycle, and fewer as many as they can.
 */

import { DTYPES } from "../dtype.js";
import { at, invariant, sure } from "../../diagnostics.js";
import type { Plan, Task, Wire } from "../plan.js";
import type { Target } from "../target.js";

/** How the planes of a wire's rows are dealt out to its links. */
export interface Dealing {
  /** Planes that go side by side. */
  readonly groups: number;
  /** Links of each group: rows that go one after another before the first of them is taken again. */
  readonly size: number;
  /** Cycles from a plane to the next one that its group of links takes. */
  readonly slot: number;
  /** Cycles from the first row on the links of a group to the next row on the same links. */
  readonly period: number;
}

export const dealingOf = ({ timing }: Target, links: number, bytes: number): Dealing => {
  const groups = greatestDivisor(links, bytes);
  const size = links / groups;
  const slot = Math.max(timing.linkInterval, size);
  return { groups, size, slot, period: (bytes / groups) * slot };
};

/** The greatest number that divides both. */
export const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** The cycle of the first plane of a row, after that of the task's first row. */
export const rowCycle = ({ size, period }: Dealing, { first }: Wire, row: number): number =>
  Math.floor((first + row) / size) * period + ((first + row) % size) - first;

/** The cycle of a plane, after that of the first plane of its row. */
export const planeCycle = ({ groups, slot }: Dealing, byte: number): number => Math.floor(byte / groups) * slot;

/** The link that takes a plane of a row: index into the links of the wire. */
export const linkOf = ({ groups, size }: Dealing, { first }: Wire, row: number, byte: number): number =>
  (byte % groups) * size + ((first + row) % size);

/** Cycles from the first vector of a task to its last, both counted. */
export const wireSpan = (dealing: Dealing, wire: Wire, rows: number, bytes: number): number =>
  Math.max(...Array.from({ length: rows }, (_, row) => rowCycle(dealing, wire, row))) +
  planeCycle(dealing, bytes - 1) +
  1;

/** The same for a task of a plan that sends or receives. */
export const spanOfWired = (plan: Plan, target: Target, task: Task): number => {
  const { wire, rows } = task;
  invariant(wire !== undefined, "a task sends or receives");
  const bytes = wiredBytes(plan, task);
  return wireSpan(dealingOf(target, wire.links.length, bytes), wire, rows, bytes);
};

/** Planes of a row that a task sends or receives. */
const wiredBytes = ({ storages }: Plan, task: Task): number =>
  DTYPES[at(storages, wiredRows(task).storage, "storage").dtype].bytes;

/** One plane of a row of a panel, on its way over a link of a chip. */
export interface WireVector {
  readonly link: number;
  /** After the first vector of the task. */
  readonly cycle: number;
  readonly row: number;
  readonly byte: number;
}

/** All vectors of a task that sends or receives, those of each link in their order. */
export const wireVectors = (plan: Plan, target: Target, task: Task): WireVector[] => {
  const { wire, rows } = task;
  invariant(wire !== undefined, "a task sends or receives");
  const { row: from } = wiredRows(task);
  const bytes = wiredBytes(plan, task);
  const dealing = dealingOf(target, wire.links.length, bytes);
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: bytes }, (_, byte) => ({
      link: at(wire.links, linkOf(dealing, wire, row, byte), "link"),
      cycle: rowCycle(dealing, wire, row) + planeCycle(dealing, byte),
      row: from + row,
      byte,
    })),
  )
    .flat()
    .sort((a, b) => a.cycle - b.cycle);
};

/** Where the rows of a task that sends or receives lie on this chip. */
export const wiredRows = ({ leaves, outputs }: Task): { storage: number; panel: number; row: number } => {
  const [leaf] = leaves;
  const [output] = outputs;
  const place = leaf === undefined ? output : { ...leaf, row: at(leaf.runs, 0, "run").row };
  invariant(place !== undefined, "a task that sends has a leaf, and one that receives an output");
  return { storage: place.storage, panel: place.panel, row: place.row };
};

/** What names the rows of a task at both ends of its wire. */
export const wireKey = (task: Task): string => {
  const { name, twin } = sure(task.wire, "wire of a task");
  return twin === true ? name : `${name} ${wiredRows(task).row}`;
};

/** What a row of a storage is called at both ends of a wire: chips that run one plan call it by its number within its block. */
export const calledRow = ({ storages }: Plan, { wire }: Task, storage: number, row: number): number => {
  const { rows, blocks = 1 } = at(storages, storage, "storage");
  return wire?.twin === true ? row % (rows / blocks) : row;
};
