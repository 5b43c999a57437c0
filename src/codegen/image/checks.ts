/**
 * What must hold of the parts of an image together, beyond the shape of each: for writer and reader alike.
 *
 * Every reference is to something that exists (chip, link, slice, row, dimension, map, origin), so that whoever uses a
 * program may index without looking.
 */

import { fail, invariant } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import {
  type PanelPlace,
  type Placement,
  type Program,
  type Queues,
  queueCount,
  queueName,
  rowsOfPlane,
} from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { layoutOf } from "../text/layout.js";
import type { ProgramRecord } from "./metadata.js";

/** What must hold of a program and its target beyond the shape of the records; for writer and reader. */
export function checkRecord({ chips, links, states, entries }: ProgramRecord, target: Target): void {
  const refuse = (message: string, at: string): never => fail("LPU3035", { message, at: `program.${at}` });
  links.forEach(({ fromChip, fromLink, toChip, toLink }, index) => {
    if (Math.max(fromChip, toChip) >= chips || Math.max(fromLink, toLink) >= target.links) {
      refuse(`expected links 0 to ${target.links - 1} of ${chips} chips`, `links[${index}]`);
    }
  });
  for (const [what, ends] of [
    ["leads to one", links.map(({ fromChip, fromLink }) => `${fromChip}.${fromLink}`)],
    ["comes from one", links.map(({ toChip, toLink }) => `${toChip}.${toLink}`)],
  ] as const) {
    const twice = ends.findIndex((end, index) => ends.indexOf(end) < index);
    if (twice >= 0) refuse(`expected that link ${ends[twice]} ${what} other, found a second one`, `links[${twice}]`);
  }
  if (entries.length === 0) refuse("expected at least one entry", "entries");
  for (const [what, named] of Object.entries({ entries, states })) {
    const twice = named.find(({ name }, index) => named.findIndex((other) => other.name === name) !== index);
    if (twice !== undefined) refuse(`expected ${what} of different names, got '${twice.name}' twice`, what);
  }
  const checkPlacements = (placements: readonly Placement[], dims: number, at: string): void => {
    for (const placement of placements) {
      const { dtype, factors, rows, ways, panels } = placement;
      if (factors.some(({ dim }) => dim >= dims)) refuse(`expected dimensions below ${dims}`, at);
      for (const { planes } of panels) {
        const expected = ways * DTYPES[dtype].bytes;
        if (planes.length !== expected) refuse(`expected ${expected} planes a panel, got ${planes.length}`, at);
        const lies = ({ chip, slice, row }: PanelPlace["planes"][number], plane: number): boolean =>
          chip < chips && slice < target.slices && row + rowsOfPlane(placement, plane) <= 2 * target.rowsPerBank;
        if (!planes.every(lies)) refuse(`expected ${rows} rows on slices of ${chips} chips`, at);
      }
    }
  };
  for (const { name, shape, placements } of states) {
    if (placements.length === 0) refuse("expected a place", `state '${name}'`);
    checkPlacements(placements, shape.length, `state '${name}'`);
  }
  for (const { name, inputs, outputs, cycles } of entries) {
    if (cycles.length !== chips) refuse(`expected cycles of ${chips} chips, got ${cycles.length}`, `entry '${name}'`);
    for (const { name: bound, shape, placements, lookup } of [...inputs, ...outputs]) {
      // Rows of a lookup table have one dimension more than the ids that choose them.
      const dims = shape.length + (lookup === undefined || lookup === null ? 0 : 1);
      checkPlacements(placements, dims, `entry '${name}', binding '${bound}'`);
    }
  }
}

/** Every map that an instruction names exists. */
export function checkQueues(target: Target, queues: Queues, maps: number, refuse: (message: string) => never): void {
  const { byName } = layoutOf(target);
  for (const [queue, instructions] of queues.entries()) {
    for (const { cycle, op, fields } of instructions) {
      const named = byName.get(op)?.fields.find(({ row }) => row.kind === "map");
      if (named === undefined || Number(fields[named.name]) < maps) continue;
      refuse(`expected one of ${maps} maps in ${op} (${queueName(target, queue)} cycle ${cycle})`);
    }
  }
}

export function checkOrigins({ target, entries, origins }: Program): void {
  for (const queues of entries.flatMap((entry) => entry.queues)) {
    invariant(queues.length === queueCount(target), `a chip has ${queues.length} queues, not ${queueCount(target)}`);
    for (const queue of queues) {
      const wrong = queue.find(({ origin }) => !Number.isInteger(origin) || origin < 0 || origin >= origins.length);
      invariant(wrong === undefined, `${wrong?.op} has origin ${wrong?.origin} of ${origins.length}`);
    }
  }
}
