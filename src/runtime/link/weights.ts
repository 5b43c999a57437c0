/**
 * Weights over time: the versions of the arrays, what loads them, and when each is in place.
 *
 * A version is one state of the array of a plane, or of the pair of planes in fp16. It is made by an Install, or by bursts that
 * stream past the buffer, and never changes once it is in place. The rules are those of `semantics-mxm.ts`, applied to
 * bursts in the order of their cycles.
 */

import { at } from "../../diagnostics.js";
import { ARRAYS, type ArrayKind, arrayOf, MNEMONICS, weightColumns } from "../../ir/isa.js";
import { queuePlace } from "../../ir/program.js";
import { instructionOf, lastCycle, type Tables } from "./tables.js";

/** Versions found so far, and the one that each loading burst belongs to. */
export interface WeightFindings {
  readonly versions: Version[];
  readonly versionOf: Map<number, number>;
}

export interface Version {
  readonly kind: ArrayKind;
  /** The version that this one started as a copy of, or -1. */
  base: number;
  /** LW and iwStream bursts in order, without those that a later `clear` undid. */
  loads: number[];
  /** Node that zeroes or copies before the loads. */
  prepare: number;
  /** Activation rows that it multiplies. */
  rows: number;
  /** Another version starts as a copy of it. */
  copied: boolean;
}

interface Install {
  readonly from: number;
  readonly version: number;
}

/** An iwStream burst: when it changes the array, and until when it or any before it does. */
interface Change {
  readonly version: number;
  readonly from: number;
  readonly until: number;
  readonly latest: number;
}

export interface PlaneHistory {
  buffer: number;
  lastLoad: number;
  installs: Install[];
  changes: Change[];
}

export const opOf = (tables: Tables, burst: number): string => at(MNEMONICS, tables.op.at(burst), "mnemonic");
export const kindOf = (tables: Tables, burst: number): ArrayKind => arrayOf(instructionOf(tables, burst));
export const planeOf = (tables: Tables, burst: number): number =>
  queuePlace(tables.target, tables.queue.at(burst)).index;

export function replayWeights(
  tables: Tables,
  findings: WeightFindings,
  queue: (plane: number, part: number) => readonly number[],
): PlaneHistory[] {
  const { target } = tables;
  const planes: PlaneHistory[] = Array.from({ length: target.planes }, () => ({
    buffer: -1,
    lastLoad: 0,
    installs: [],
    changes: [],
  }));
  const bursts = planes.flatMap((_, plane) => queue(plane, 0));
  if (planes.length > 1) bursts.sort((a, b) => tables.cycle.at(a) - tables.cycle.at(b) || a - b);
  for (const burst of bursts) {
    const op = opOf(tables, burst);
    if (op === "lw") loadBuffer(tables, findings, planes, burst);
    else if (op === "iw") install(tables, findings.versions, planes, burst);
    else if (op === "iwStream") streamPastBuffer(tables, findings, planes, burst);
  }
  return planes;
}

/** The planes that work together in an instruction of this kind. */
export function planesFor(
  tables: Tables,
  planes: readonly PlaneHistory[],
  burst: number,
  kind: ArrayKind,
): readonly PlaneHistory[] {
  const plane = planeOf(tables, burst);
  const own = planes[plane];
  if (!ARRAYS[kind].joined && own !== undefined) return [own];
  if (plane !== 0)
    tables.faults.report("LPU4008", burst, tables.cycle.at(burst), "fp16 belongs to the queues of plane 0");
  return planes;
}

function newVersion(versions: Version[], kind: ArrayKind, base: number): number {
  return versions.push({ kind, base, loads: [], prepare: -1, rows: 0, copied: false }) - 1;
}

function addLoad(tables: Tables, findings: WeightFindings, version: number, burst: number): void {
  const record = findings.versions[version];
  if (record === undefined) return;
  const { fields } = instructionOf(tables, burst);
  const { target } = tables;
  const columns = Number(fields["column"]) + tables.count.at(burst) * loadedColumns(tables, burst);
  if (columns > target.lanes) {
    const done = Math.floor((target.lanes - Number(fields["column"])) / loadedColumns(tables, burst));
    const cycle = tables.cycle.at(burst) + Math.max(done, 0) * tables.interval.at(burst) + target.timing.mxmWeightSkew;
    tables.faults.report("LPU4008", burst, cycle, `expected columns below ${target.lanes}, got ${columns - 1}`);
  }
  if (Number(fields["clear"]) === 1) {
    for (const undone of record.loads) findings.versionOf.set(undone, -1);
    record.loads = [];
    record.base = -1;
  }
  record.loads.push(burst);
  findings.versionOf.set(burst, version);
}

/** Columns that one execution loads. */
export function loadedColumns(tables: Tables, burst: number): number {
  const instruction = tables.instructions[burst];
  return instruction === undefined ? 1 : weightColumns(instruction);
}

function loadBuffer(tables: Tables, findings: WeightFindings, planes: readonly PlaneHistory[], burst: number): void {
  const kind = kindOf(tables, burst);
  const own = planesFor(tables, planes, burst, kind);
  const [first] = own;
  if (first === undefined) return;
  if (own.some(({ buffer }) => buffer !== first.buffer || (buffer >= 0 && findings.versions[buffer]?.kind !== kind))) {
    tables.faults.report("LPU4010", burst, tables.cycle.at(burst), "the buffer holds weights of another kind");
  }
  const buffer = first.buffer >= 0 ? first.buffer : newVersion(findings.versions, kind, -1);
  for (const plane of own) {
    plane.buffer = buffer;
    plane.lastLoad = lastCycle(tables, burst);
  }
  addLoad(tables, findings, buffer, burst);
}

function install(tables: Tables, versions: readonly Version[], planes: readonly PlaneHistory[], burst: number): void {
  const { mxmLoad, mxmInstall } = tables.target.timing;
  const { faults } = tables;
  for (let index = 0; index < tables.count.at(burst); index++) {
    const cycle = tables.cycle.at(burst) + index * tables.interval.at(burst);
    const own = planes[planeOf(tables, burst)];
    const buffer = own?.buffer ?? -1;
    const version = versions[buffer];
    if (own === undefined || version === undefined) {
      faults.report("LPU4010", burst, cycle, "the buffer is empty");
      return;
    }
    const ready = own.lastLoad + mxmLoad;
    if (cycle < ready) faults.report("LPU4010", burst, cycle, `the buffer may be installed at cycle ${ready}`);
    for (const plane of planesFor(tables, planes, burst, version.kind)) {
      stillArriving(tables, versions, plane, burst, cycle, cycle + mxmInstall);
      plane.buffer = -1;
      plane.installs.push({ from: cycle + mxmInstall, version: buffer });
    }
  }
}

function streamPastBuffer(
  tables: Tables,
  findings: WeightFindings,
  planes: readonly PlaneHistory[],
  burst: number,
): void {
  const { mxmWeightSkew, mxmInstall } = tables.target.timing;
  const { versions } = findings;
  const kind = kindOf(tables, burst);
  const own = planesFor(tables, planes, burst, kind);
  const since = tables.cycle.at(burst);
  const from = since + mxmWeightSkew;
  const until = lastCycle(tables, burst) + mxmWeightSkew + mxmInstall;
  for (const plane of own) stillArriving(tables, versions, plane, burst, since, from, kind);
  const latest = own[0]?.installs.at(-1)?.version ?? -1;
  const goesOn = own.every(({ changes }) => {
    const last = changes.at(-1);
    return last !== undefined && last.until > from && last.version === latest;
  });
  const version = goesOn ? latest : newVersion(versions, kind, versions[latest]?.kind === kind ? latest : -1);
  for (const plane of own) {
    if (goesOn) plane.installs.pop();
    plane.changes.push({ version, from, until, latest: Math.max(until, plane.changes.at(-1)?.latest ?? until) });
    plane.installs.push({ from: until, version });
  }
  addLoad(tables, findings, version, burst);
}

/** No weights may be on their way past the buffer from a cycle on; those of one kind may follow each other. */
function stillArriving(
  tables: Tables,
  versions: readonly Version[],
  { changes }: PlaneHistory,
  burst: number,
  cycle: number,
  from: number,
  kind?: ArrayKind,
): void {
  const last = changes.at(-1);
  if (last !== undefined && last.latest > from && versions[last.version]?.kind !== kind)
    tables.faults.report("LPU4010", burst, cycle, "weights past the buffer are still arriving");
}

/** Version that each plane's array holds for an ABC dispatched at a cycle; -1 if none or just changing. */
export function versionAt(tables: Tables, plane: PlaneHistory, burst: number, cycle: number): number {
  const change = lastBy(plane.changes, cycle, ({ from }) => from);
  if (change !== undefined && cycle < change.latest) {
    tables.faults.report("LPU4011", burst, cycle, `the array is being changed until cycle ${change.latest}`);
    return -1;
  }
  return lastBy(plane.installs, cycle, ({ from }) => from)?.version ?? -1;
}

/** The last item whose key is at or below a cycle; keys rise. */
const lastBy = <T>(items: readonly T[], cycle: number, key: (item: T) => number): T | undefined =>
  items[countBy(items, cycle, key) - 1];

/** How many items have keys at or below a cycle. */
function countBy<T>(items: readonly T[], cycle: number, key: (item: T) => number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const item = items[middle];
    if (item !== undefined && key(item) <= cycle) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first cycle after this one at which another answer may hold. */
export function nextChange(planes: readonly PlaneHistory[], cycle: number): number {
  let next = Number.POSITIVE_INFINITY;
  for (const { installs, changes } of planes) {
    next = Math.min(next, installs[countBy(installs, cycle, ({ from }) => from)]?.from ?? next);
    // Bursts past the buffer are rare: then every execution asks again.
    if (changes.length > 0) next = Math.min(next, cycle + 1);
  }
  return next;
}
