/**
 * The state of one scheduling: what lies where, what is booked, and what was dispatched so far.
 *
 * A Scheduler is the one mutable value of this pass. What a task wants is gathered in a trial (task/want.ts), which is booked as
 * a whole or dropped, so that a trial that does not fit leaves nothing behind.
 */

import type { Chunk, TilePlace } from "./place/chunk.js";
import { invariant } from "../../diagnostics.js";
import type { AluOp, Plan, Storage, StorageId, PanelRef } from "../../ir/plan.js";
import { queueCount, type TimedInstruction } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { storageSlot } from "./repeat/repeats.js";
import { type Timeline, timelines } from "./chip/resources.js";
import { newPlaced, type Placed } from "./repeat/placed.js";
import type { TimedChain } from "./task/chain-timing.js";
import { newTrial, type Trial } from "./task/want.js";
import { type Half, type LinkLines, newHalf, newLinks, type Side } from "./chip/machine.js";
import { heldIn, takenIn } from "./chip/memory.js";
import { CONSTANT_ROWS, distinctTiles, type PlanFacts, planFacts, rowsOfTile, sliceRowsOf } from "./figures.js";
import { keepRows, type KeptPairs, keptPairs, keptRows, type Overlap } from "./overlap.js";
import { residentIn, rowsOf } from "./place/resident.js";
import { holdEarlier, type Earlier, resultRowsForLater, rowsForLater, earlierPairs } from "./place/earlier.js";

/**
 * Ways to weigh the choices of the scheduler. None is best for every plan, and the result of each is exact before anything
 * runs, so all are tried and the shortest program is kept.
 */
export interface Strategy {
  /** How far, in cycles of the way to the end, the last block of rows may stay behind the first. */
  readonly stagger: number;
  /** What leads to weights within so many cycles does not stay behind. */
  readonly nearWeights: number;
  /** Share of SRAM that constants may fill by being in both hemispheres; the rest is for what is computed. */
  readonly duplicates: number;
  /**
   * Where constants lie: wherever ports are free at their first use; the same, but results keep to rows of their own, and both
   * hemispheres to as many constants, so that later ones find room; or packed before anything has a time, each once.
   */
  readonly constants: "anywhere" | "apart" | "first";
  /** The instance of a repeat whose choices all later ones repeat; NEVER if none. */
  readonly model: number;
  /**
   * Whether tasks go to their places in the order in which results ask for them, so that few wait in SRAM for their readers
   * at once: not at all, as far as the arrays need not wait for that, or always.
   */
  readonly thrift: "none" | "some" | "all";
  /**
   * A number from 0 on and below another: where it is given, it chooses among all that is legal, instead of what is best. A
   * compile has none; tests see by it that outputs do not depend on the schedule.
   */
  readonly draw?: (below: number) => number;
}

/** Of tasks that send or receive, by `wireKey`: the cycle of the first vector. */
export type WireCycles = ReadonlyMap<string, number>;

/** What is there before a plan is scheduled. */
export interface Surroundings {
  /** The program that the plan is a further entry of. */
  readonly earlier?: Earlier | undefined;
  /** Plans of the entries behind this one, whose constants take rows that nothing before them has used. */
  readonly later?: readonly Plan[] | undefined;
  readonly arrivals?: WireCycles | undefined;
  /** If the next run begins before this one ends. */
  readonly overlap?: Overlap | undefined;
}

/** What is known of a plan before it is scheduled, the same for every strategy. */
export interface Known extends PlanFacts {
  /** Bytes of SRAM that are taken from the first cycle on, at least. */
  readonly resident: number;
}

export const knownOf = (plan: Plan, target: Target, earlier?: Earlier): Known => ({
  ...planFacts(plan, target, earlierPairs(earlier)),
  resident: residentIn(plan, target),
});

/** One chip while a plan is scheduled by one strategy. */
export interface Scheduler extends Known {
  readonly plan: Plan;
  readonly target: Target;
  readonly strategy: Strategy;
  readonly halves: readonly [Half, Half];
  readonly alus: readonly Timeline[];
  readonly links: LinkLines;
  /** First cycles in which what other chips send can be received. */
  readonly arrivals: WireCycles;
  readonly overlap: Overlap | undefined;
  /** Pairs for what goes over wires alone. */
  readonly kept: KeptPairs | undefined;
  /** Cycles in which tasks that send begin to. */
  readonly sent: Map<string, number>;
  /** What entries before this one have placed. */
  readonly earlier: Earlier | undefined;
  /** By storage and panel. */
  readonly chunks: readonly (readonly Chunk[][])[];
  /** Rows at the start of each bank in which results may lie. */
  readonly ceiling: number;
  /** By hemisphere: rows of slice pairs in which results lie that readers without a place still want. */
  readonly wanted: [number, number];
  /** By hemisphere: rows of slice pairs that constants and edges have taken. */
  readonly lasting: [number, number];
  /** By task: how many of those that read what it writes have no place yet. */
  readonly readersLeft: Int32Array;
  /** By hemisphere and key. */
  readonly tiles: readonly [Map<string, TilePlace>, Map<string, TilePlace>];
  /** Chains that were timed before: tasks that differ in their rows alone share their operations. */
  readonly chains: Map<readonly AluOp[], TimedChain>;
  /** What placing the present task has changed so far. */
  placed: Placed;
  /** Placed of the same task in an earlier instance, whose choices are made again. */
  model: Placed | undefined;
  readonly queues: TimedInstruction[][];
  /** What is wanted and not booked yet. */
  trial: Trial;
  /** Where the choices of the present task's first trials begin. */
  turn: number;
  /** Rows of slice pairs that second copies of weight tiles may still take. */
  spareRows: number;
  /**
   * What instances to come will take of both, if their tiles lie where those of the model do: rows by hemisphere, and of these,
   * of second copies.
   */
  promised: { readonly rows: [number, number]; copies: number };
  /** Tasks for which a place was searched, and not taken from another instance. */
  searched: number;
  /** Trials of places for them. */
  tried: number;
}

export const newScheduler = (
  plan: Plan,
  target: Target,
  known: Known,
  strategy: Strategy,
  { earlier, later = [], arrivals = new Map(), overlap }: Surroundings = {},
): Scheduler => {
  const halves = [newHalf(target, 0, overlap), newHalf(target, 1, overlap)] as const;
  if (earlier !== undefined) holdEarlier(target, halves, earlier);
  const own = residentRows(plan, target, known, earlier);
  const taken: readonly [number, number] = [takenRows(halves[0]), takenRows(halves[1])];
  const room: Room = {
    resident: own + heldRows(halves),
    taken: own + taken[0] + taken[1],
    kept: rowsForLater(plan, later, target, earlier),
    spared: resultRowsForLater(plan, later, target),
  };
  const kept = overlap && keptPairs(plan, target);
  if (kept !== undefined) for (const half of halves) keepRows(kept, target, half);
  return {
    ...known,
    ceiling: ceilingOf(target, known, strategy, room),
    wanted: [0, 0],
    lasting: [...taken],
    readersLeft: Int32Array.from(known.consumers, (readers) => readers.length),
    plan,
    target,
    strategy,
    halves,
    earlier,
    alus: timelines(target.alus, overlap),
    links: newLinks(target),
    arrivals,
    overlap,
    kept,
    sent: new Map(),
    chunks: plan.storages.map((storage) => Array.from({ length: storage.panels }, () => firstChunks(storage))),
    tiles: [new Map(earlier?.tiles[0]), new Map(earlier?.tiles[1])],
    chains: new Map(),
    placed: newPlaced(-1),
    model: undefined,
    queues: Array.from({ length: queueCount(target) }, () => []),
    trial: newTrial(0),
    turn: 0,
    spareRows: spareRowsOf(target, strategy, room) - strategy.duplicates * 2 * (kept ? keptRows(kept, target) : 0),
    promised: noPromise(),
    searched: 0,
    tried: 0,
  };
};

/** Rows of slice pairs that constants, states and edges take at least, but those that entries before this one have placed. */
const residentRows = (
  plan: Plan,
  target: Target,
  { tilePairs, resident }: Known,
  earlier: Earlier | undefined,
): number => {
  const all = resident / (2 * target.lanes);
  if (earlier === undefined) return all;
  const tiles = [...distinctTiles(plan).values()].filter(({ tile: { key } }) =>
    earlier.tiles.some((own) => own.has(key)),
  );
  const states = plan.storages.filter(({ kind, name }) => kind === "state" && earlier.states.has(name));
  return (
    all -
    tiles.reduce((sum, { tile }) => sum + rowsOfTile(tile, tilePairs), 0) -
    states.reduce((sum, storage) => sum + sliceRowsOf(storage, rowsOf(storage)) / 2, 0)
  );
};

const heldRows = (halves: readonly [Half, Half]): number =>
  halves.flatMap(({ pairs }) => pairs).reduce((sum, { memory }) => sum + heldIn(memory), 0);

/** Rows of slice pairs in which no constant can lie, since something lies in them, or an earlier entry writes them. */
const takenRows = ({ pairs }: Half): number => pairs.reduce((sum, { memory }) => sum + takenIn(memory), 0);

/** Rows of slice pairs that are taken, or to be. */
interface Room {
  /** By constants, states and edges of all entries so far, at least. */
  readonly resident: number;
  /** Also by results of earlier entries. */
  readonly taken: number;
  /** By constants of later entries. */
  readonly kept: number;
  /** By what results of later entries take beyond those of this one. */
  readonly spared: number;
}

/** Rows of slice pairs that second copies of weight tiles may take. */
const spareRowsOf = (
  { slices, rowsPerBank }: Target,
  { duplicates }: Strategy,
  { taken, kept, spared }: Room,
): number => duplicates * 4 * Math.floor(slices / 2) * rowsPerBank - taken - kept - spared;

/**
 * Rows of each bank that are left for results, if constants and edges take no more than they must, and second copies what they may.
 * Where later entries have constants, results keep off rows for these.
 */
const ceilingOf = (target: Target, { tileRows }: PlanFacts, strategy: Strategy, room: Room): number => {
  const banks = 4 * Math.floor(target.slices / 2);
  const left = (rows: number): number => Math.max(0, target.rowsPerBank - Math.ceil(rows / banks));
  const lasting = room.resident + room.kept;
  if (strategy.constants !== "apart") return room.kept > 0 ? left(lasting) : target.rowsPerBank;
  return left(lasting + Math.max(0, Math.min(tileRows, spareRowsOf(target, strategy, room))));
};

export const noPromise = (): Scheduler["promised"] => ({ rows: [0, 0], copies: 0 });

/**
 * Rows of slice pairs of a hemisphere that constants and edges may still take: so many that both have room for as many, where results
 * keep to rows of their own; else all but half of what second copies may not take.
 */
export const lastingRoom = (
  { target: { rowsPerBank }, strategy, ceiling, lasting, promised }: Scheduler,
  { side, pairs }: Half,
): number => {
  const perBank =
    strategy.constants === "apart" ? rowsPerBank - ceiling : (rowsPerBank * (1 + strategy.duplicates)) / 2;
  return 2 * pairs.length * perBank - lasting[side] - promised.rows[side];
};

/** Rows of slice pairs of a hemisphere that results may take, if constants and edges take no more than they must. */
export const resultRoom = ({ target, ceiling, resident }: Scheduler, { pairs }: Half): number => {
  const banks = 2 * pairs.length;
  return Math.min(banks * ceiling, banks * target.rowsPerBank - resident / (2 * 2 * target.lanes));
};

/** Rows of a panel that are there before cycle 0. What the host reads or writes lies in one piece. */
const firstChunks = (storage: Storage): Chunk[] => {
  if (storage.kind === "temp") return [];
  const size = storage.kind === "constant" ? CONSTANT_ROWS : storage.rows;
  const chunks: Chunk[] = [];
  for (let row = 0; row < storage.rows; row += size)
    chunks.push({ row, rows: Math.min(size, storage.rows - row), ready: 0, copies: [] });
  return chunks;
};

export const storageOf = (s: Scheduler, id: StorageId): Storage => {
  const storage = s.plan.storages[id];
  invariant(storage !== undefined, "a storage exists");
  return storage;
};

export const chunksOf = (s: Scheduler, { storage, panel }: PanelRef): Chunk[] => {
  const chunks = s.chunks[storage]?.[panel];
  invariant(chunks !== undefined, "a panel of a storage exists");
  return chunks;
};

/** Adds rows that have their place and time to a panel. */
export const addChunk = (s: Scheduler, panel: PanelRef, chunk: Chunk): void => {
  const chunks = chunksOf(s, panel);
  chunks.push(chunk);
  if (storageOf(s, panel.storage).blocks === undefined) return;
  const ready = Math.max(...chunks.map((one) => one.ready));
  for (const one of chunks) if (one.rows > 0) one.ready = ready;
};

export const otherHalf = (s: Scheduler, half: Half): Half => s.halves[half.side === 0 ? 1 : 0];

/** Whether constants have their places before anything has a time, because room is short. */
export const isPacked = ({ strategy }: Scheduler): boolean => strategy.constants === "first";

/**
 * Hemispheres in which a panel of a storage lies. What only the VXM reads has one, the same for all its rows: a burst may read
 * across blocks; where room is short, panels take turns. What takes the rows of a state lies where that does, a state where an entry before
 * this one has it, and states of a layer take turns.
 */
export const homesOf = (s: Scheduler, storage: Storage, panel: number): readonly Side[] => {
  const { id, bothHemispheres, kind, output } = storage;
  if (bothHemispheres) return [0, 1];
  const lasting = storageOf(s, s.nexts.get(id) ?? id);
  const known = lasting.kind === "state" ? s.earlier?.states.get(lasting.name)?.panels[panel] : undefined;
  if (known !== undefined) return known.map(({ side }) => side);
  const slot = storageSlot(s.repeat, lasting.id);
  const side = s.stateSides.get(slot)?.[panel];
  if (side !== undefined) return [side];
  const taken = s.passing.has(id) || (isPacked(s) && kind !== "input" && !output);
  return (slot + (taken ? panel : 0)) % 2 === 0 ? [0] : [1];
};
