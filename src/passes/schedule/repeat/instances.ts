/**
 * Repeating: once one instance of a repeat (repeats.ts) has its place, the later ones make the same choices again.
 *
 * The instances before the model are scheduled freely. Those after it are guided: their tasks go in the same order, to the
 * same arrays, and write to the same slices, so that nothing but times can differ, and after one or two instances these
 * repeat too. From then on instances are not searched for at all: each placement is booked again a fixed number of cycles
 * later, with constants of its own (constants.ts), as long as all that it needs is free. What follows the repeat is scheduled freely.
 */

import { type Chunk, type Copy, noteRead, rowsOfCopy, type TilePlace } from "../place/chunk.js";
import { at, invariant } from "../../../diagnostics.js";
import { isTile, type PackedTile, type Plan, type StorageId, type Task } from "../../../ir/plan.js";
import { holdRows, isFreeBy } from "../chip/memory.js";
import { positionIn } from "./repeats.js";
import { book, fitFrom, NEVER, type Timeline } from "../chip/resources.js";
import { bankOf, memoriesOf, pairAt, positionsOf, type Side } from "../chip/machine.js";
import type { Dispatched, Placed, RowsSource, ReadSource, TileSource } from "./placed.js";
import { spanOf } from "../chip/ports.js";
import { taskAt } from "../figures.js";
import { chunksOf, type Scheduler, storageOf } from "../state.js";

/* ---------- counterparts ---------- */

/**
 * Instances, from that of a task on, whose constants are placed together, so that all can do the same: of a long repeat as many
 * as fill a part of a bank, since more of them would leave most of it empty.
 */
export const instancesBeside = ({ repeat, strategy, together }: Scheduler, task: number): number => {
  const position = positionIn(repeat, task);
  if (repeat === undefined || position === undefined || position.instance < strategy.model) return 1;
  const behind = position.instance - strategy.model;
  return Math.min(repeat.count - position.instance, together - (behind % together));
};

const instancesAhead = (s: Scheduler): number => instancesBeside(s, s.placed.task);

/** A constant and those which stand for it in the instances ahead. */
export const storagesAlike = (s: Scheduler, id: StorageId): readonly StorageId[] => {
  const { repeat } = s;
  if (repeat === undefined || repeat.shared.has(id) || storageOf(s, id).kind !== "constant") return [id];
  return Array.from({ length: instancesAhead(s) }, (_, later) => id + later * repeat.storages);
};

/** A tile and those which stand for it in the instances that are placed with it; `pass` is its number in the present task. */
export const tilesAlike = (s: Scheduler, tile: PackedTile, pass: number): readonly PackedTile[] =>
  tilesIn(s, tile, pass, instancesAhead(s));

/** The same for all instances that are still to come. */
export const tilesAhead = (s: Scheduler, tile: PackedTile, pass: number): readonly PackedTile[] => {
  const { repeat, strategy, placed } = s;
  const { instance } = positionIn(repeat, placed.task) ?? { instance: -1 };
  return tilesIn(s, tile, pass, repeat === undefined || instance < strategy.model ? 1 : repeat.count - instance);
};

const tilesIn = (s: Scheduler, tile: PackedTile, pass: number, instances: number): readonly PackedTile[] => {
  const tiles = [tile];
  for (let later = 1; later < instances; later++) {
    const counterpart = tileOf(s, s.placed.task + later * (s.repeat?.tasks ?? 0), pass);
    // All instances share it.
    if (counterpart.key === tile.key) return tiles;
    tiles.push(counterpart);
  }
  return tiles;
};

export const tileOf = ({ plan }: Scheduler, task: number, pass: number): PackedTile => {
  const weights = plan.tasks[task]?.passes[pass]?.weights;
  invariant(weights !== undefined && isTile(weights), "counterparts have the same passes");
  return weights;
};

/* ---------- instances ---------- */

/** The instance of a task; -1 for others. */
export const instanceOf = ({ repeat }: Scheduler, task: number): number => positionIn(repeat, task)?.instance ?? -1;

/** Whether all tasks of the model are placed, and the last of some that were placed is one of them. */
export const isModelDone = (s: Scheduler, placed: readonly Placed[]): boolean => {
  const { model } = s.strategy;
  const last = placed.at(-1);
  if (last === undefined || instanceOf(s, last.task) !== model) return false;
  return placed.filter(({ task }) => instanceOf(s, task) === model).length === s.repeat?.tasks;
};

/** The same task some instances later, if there is one. */
export const laterTask = ({ repeat }: Scheduler, task: number, later: number): number | undefined => {
  const index = task + later * (repeat?.tasks ?? 0);
  return positionIn(repeat, index) === undefined ? undefined : index;
};

/** What is placed of a task of an instance that later ones copy, and what all of them ask of it. */
export interface Model extends Placed {
  /** Of each source the first burst that reads it. */
  readonly firsts: readonly Read[];
  /** By what was dispatched: the operation of the task whose origin it has; MAIN_ORIGIN or PASS_ORIGIN for that of the task itself. */
  readonly origins: readonly number[];
}

type Read = Dispatched & { readonly source: ReadSource };

const MAIN_ORIGIN = -1;
const PASS_ORIGIN = -2;

/** An instance that later ones can copy. */
export interface Instance {
  readonly placed: readonly Model[];
  /** Of each after the one before. */
  readonly cycles: number;
  /** How many others are at work before it ends. */
  readonly overlap: number;
}

/** The second of two instances that follow one another, if they do not differ in anything but time. */
export const repeatedOf = (
  { plan }: Scheduler,
  before: readonly Placed[],
  placed: readonly Placed[],
): Instance | undefined => {
  const cycles = (placed[0]?.starts[0] ?? 0) - (before[0]?.starts[0] ?? 0);
  if (!before.every((one, i) => isLater(one, placed[i], cycles))) return undefined;
  let [first, last] = [NEVER, 0];
  for (const { starts, ends } of placed) {
    for (const start of starts) first = Math.min(first, start);
    for (const end of ends) last = Math.max(last, end);
  }
  return { placed: placed.map((one) => modelOf(plan, one)), cycles, overlap: Math.ceil((last - first) / cycles) };
};

const modelOf = (plan: Plan, placed: Placed): Model => {
  const task = taskAt(plan, placed.task);
  const firsts = new Map<ReadSource, Read>();
  for (const { source, ...read } of placed.dispatched)
    if (source !== undefined && !firsts.has(source)) firsts.set(source, { ...read, source });
  const origins = placed.dispatched.map(({ instruction }) => originIn(task, instruction.origin));
  return { ...placed, firsts: [...firsts.values()], origins };
};

const originIn = (task: Task, origin: number): number => {
  if (origin === task.origin) return MAIN_ORIGIN;
  if (origin === task.passOrigin) return PASS_ORIGIN;
  const op = task.ops.findIndex((one) => one.origin === origin);
  return op < 0 ? MAIN_ORIGIN : op;
};

const isLater = (before: Placed, after: Placed | undefined, cycles: number): boolean =>
  after?.lines.length === before.lines.length &&
  before.lines.every(
    (line, i) =>
      (line === after.lines[i] || (isSums(before, line) && isSums(after, at(after.lines, i, "line")))) &&
      before.starts[i] === at(after.starts, i, "start") - cycles &&
      before.ends[i] === at(after.ends, i, "end") - cycles,
  );

/** Which accumulators a task takes goes round: it makes no difference. */
const isSums = ({ half }: Placed, line: Timeline): boolean => half?.accumulators.includes(line) ?? false;

/* ---------- booking a placement again ---------- */

/** What is placed again: a task of a later instance, as the model was. */
interface Again {
  readonly s: Scheduler;
  readonly instance: Instance;
  readonly model: Model;
  /** Number of the task. */
  readonly task: number;
  /** Instances after the model, and cycles. */
  readonly later: number;
  readonly cycles: number;
  /** By how much numbers of storages that are not shared are higher. */
  readonly storages: number;
}

/** Books for a task of the instance so many behind one what was booked for the model in that. False, and nothing is changed, if it does not fit. */
export const placeAgain = (s: Scheduler, instance: Instance, model: Model, later: number): boolean => {
  const { repeat } = s;
  invariant(repeat !== undefined, "only repeats are placed again");
  const task = model.task + later * repeat.tasks;
  const cycles = later * instance.cycles;
  const again: Again = { s, instance, model, task, later, cycles, storages: later * repeat.storages };
  const moves = movesOf(again);
  if (moves === undefined) return false;
  const booked = bookedAgain(again, moves);
  if (booked === undefined || !isFree(again, booked)) return false;
  const { lines, starts, ends } = booked;
  for (let i = 0; i < lines.length; i++)
    book(at(lines, i, "line"), at(starts, i, "line") + cycles, at(ends, i, "line") + cycles);
  for (const written of model.chunks) writeChunk(again, written);
  for (const { source, rows, until } of model.reads) {
    const copy = copyOf(again, source);
    if (copy !== undefined) noteRead(copy, rows, until + cycles);
  }
  const counterpart = taskAt(s.plan, task);
  for (let i = 0; i < model.dispatched.length; i++) {
    const origin = originAgain(counterpart, at(model.origins, i, "origin"));
    dispatch(again, at(model.dispatched, i, "burst"), moves, origin);
  }
  return true;
};

/** Where what one instance reads lies, for another: so many rows further on, and pairs of slices; a read there begins some cycles later. */
interface Move {
  readonly rows: number;
  readonly pairs: number;
  readonly cycles: number;
}

/** Of each source that does not lie where that of the model does; undefined if it cannot be read like that. */
const movesOf = (again: Again): ReadonlyMap<ReadSource, Move> | undefined => {
  const moves = new Map<ReadSource, Move>();
  for (const read of again.model.firsts) {
    const { source } = read;
    const found = "storage" in source ? rowsMove(again, source) : tileMove(again, source);
    if (found === undefined) return undefined;
    const move = { ...found, cycles: laterBy(again.s, read, found.pairs) };
    if (move.rows !== 0 || move.pairs !== 0) moves.set(source, move);
  }
  return moves;
};

/** Undefined if the rows are not ready. */
const rowsMove = (again: Again, source: RowsSource): Omit<Move, "cycles"> | undefined => {
  const { s, cycles } = again;
  const from = chunkOf(s, source.storage, source);
  const to = chunkOf(s, storageAgain(again, source.storage), source);
  const [model, copy] = [from?.copies[source.copy], to?.copies[source.copy]];
  if (from === undefined || to === undefined || model === undefined || copy === undefined) return undefined;
  if (model.side !== copy.side || model.before !== copy.before || to.ready > from.ready + cycles) return undefined;
  return moveOf(model, copy);
};

const tileMove = ({ s, model, task }: Again, { side, pass, way }: TileSource): Omit<Move, "cycles"> | undefined => {
  const from = s.tiles[side].get(tileOf(s, model.task, pass).key);
  const to = s.tiles[side].get(tileOf(s, task, pass).key);
  return from && to && moveOfPair(from, to, way);
};

/** Undefined if it is not the same for all pairs of a place. */
const moveOf = (from: TilePlace, to: TilePlace): Omit<Move, "cycles"> | undefined => {
  const first = moveOfPair(from, to, 0);
  for (let i = 1; i < from.pairs.length; i++) {
    const { rows, pairs } = moveOfPair(from, to, i);
    if (rows !== first.rows || pairs !== first.pairs) return undefined;
  }
  return first;
};

const moveOfPair = (from: TilePlace, to: TilePlace, i: number): Omit<Move, "cycles"> => ({
  rows: at(to.addresses, i, "address") - at(from.addresses, i, "address"),
  pairs: at(to.pairs, i, "pair") - at(from.pairs, i, "pair"),
});

/** By how many cycles a read of the same flight begins later that is of a slice so many pairs further on. */
export const laterBy = (s: Scheduler, read: Dispatched, pairs: number): number => {
  if (pairs === 0) return 0;
  const { side, pair } = placeOf(s, read);
  const [from, to] = positionsOf(s.halves[side], [pair, pair + pairs]) as [number, number];
  const isEastward = Number(read.instruction.fields["stream"]) < s.target.streams;
  return isEastward === (side === 0) ? from - to : to - from;
};

/** The pair of slices that a burst reads. */
export const placeOf = (
  { target }: Scheduler,
  { queue }: Dispatched,
): { readonly side: Side; readonly pair: number } => ({
  side: queue < target.slices ? 0 : 1,
  pair: Math.floor((queue % target.slices) / 2),
});

/**
 * What the model has booked; where rows lie in another bank or pair, of that. Undefined if that bank is written meanwhile, which
 * is asked of what is still to come as well.
 */
const bookedAgain = (
  { s, instance, model, later }: Again,
  moves: ReadonlyMap<ReadSource, Move>,
): Pick<Placed, "lines" | "starts" | "ends"> | undefined => {
  const known = knownBefore(instance, later);
  const elsewhere = new Map<Timeline, { readonly line: Timeline; readonly cycle: number; readonly by: number }[]>();
  for (const read of model.dispatched) {
    const move = read.source && moves.get(read.source);
    if (move === undefined) continue;
    const { cycle, fields } = read.instruction;
    const { side, pair } = placeOf(s, read);
    const address = Number(fields["address"]);
    const [from, to] = [pairAt(s.halves[side], pair), pairAt(s.halves[side], pair + move.pairs)];
    const [bank, other] = [bankOf(s.target, address), bankOf(s.target, address + move.rows)];
    if (from === to && bank === other) continue;
    const start = cycle + (known ?? 0) + move.cycles;
    if (known === undefined || !isFreeAt(to.writeBank[other], start, spanOf(read.instruction))) return undefined;
    for (const [before, line] of [
      [from.read, to.read],
      [from.readBank[bank], to.readBank[other]],
      [from.issue, to.issue],
    ] as const) {
      const known = elsewhere.get(before) ?? [];
      elsewhere.set(before, known);
      known.push({ line, cycle, by: move.cycles });
    }
  }
  if (elsewhere.size === 0) return model;
  const found = model.lines.map((line, i) => elsewhere.get(line)?.find(({ cycle }) => cycle === model.starts[i]));
  return {
    lines: model.lines.map((line, i) => found[i]?.line ?? line),
    starts: model.starts.map((start, i) => start + (found[i]?.by ?? 0)),
    ends: model.ends.map((end, i) => end + (found[i]?.by ?? 0)),
  };
};

/**
 * So many cycles after an instance comes the last one around which everything is placed, before the one so many behind it: what
 * follows that does as what follows the one that is known. Undefined if none that repeats it is known.
 */
export const knownBefore = ({ cycles, overlap }: Instance, later: number): number | undefined => {
  const instances = later - 1 - overlap;
  return instances < 1 ? undefined : instances * cycles;
};

export const isFreeAt = (line: Timeline, cycle: number, length: number): boolean =>
  fitFrom(line, cycle, length) === cycle;

const storageAgain = ({ s, storages }: Again, id: StorageId): StorageId =>
  s.repeat?.shared.has(id) ? id : id + storages;

const chunkOf = (s: Scheduler, storage: StorageId, { panel, chunk }: RowsSource): Chunk | undefined =>
  s.chunks[storage]?.[panel]?.[chunk];

const copyOf = (again: Again, source: RowsSource): Copy | undefined =>
  chunkOf(again.s, storageAgain(again, source.storage), source)?.copies[source.copy];

const isFree = (again: Again, { lines, starts, ends }: Pick<Placed, "lines" | "starts" | "ends">): boolean => {
  const { model, cycles } = again;
  return (
    lines.every((line, i) => {
      const [start, end] = [starts[i] as number, ends[i] as number];
      return isFreeAt(line, start + cycles, end - start);
    }) &&
    model.chunks.every(({ chunk, given }) =>
      chunk.copies.every((copy) => areRowsFree(again, copy, chunk.rows, given + cycles)),
    )
  );
};

/** Whether nothing lies in the rows of a copy any more when a result that leaves the VXM at `given` is written there. */
const areRowsFree = ({ s }: Again, copy: Copy, rows: number, given: number): boolean => {
  const by = given + Math.min(...positionsOf(s.halves[copy.side], copy.pairs));
  return memoriesOf(s.halves[copy.side], copy.pairs).every((memory, i) =>
    isFreeBy(memory, at(copy.addresses, i, "address"), Math.ceil(rows / copy.ways), by),
  );
};

const writeChunk = (again: Again, { panel, chunk, given }: Placed["chunks"][number]): void => {
  const { s, cycles } = again;
  const { row, rows, ready } = chunk;
  const copies = chunk.copies.map((copy) => {
    s.wanted[copy.side] += rowsOfCopy(copy, rows);
    for (const [i, memory] of memoriesOf(s.halves[copy.side], copy.pairs).entries())
      holdRows([memory], at(copy.addresses, i, "address"), Math.ceil(rows / copy.ways));
    return { ...copy, lastRead: given + cycles + Math.max(...positionsOf(s.halves[copy.side], copy.pairs)) + rows };
  });
  const place = { storage: storageAgain(again, panel.storage), panel: panel.panel };
  chunksOf(s, place).push({ row, rows, ready: ready + cycles, copies });
};

/** What a counterpart of a task has where the task has an origin of `Model.origins`. */
const originAgain = (task: Task, origin: number): number => {
  if (origin === MAIN_ORIGIN) return task.origin;
  return (origin === PASS_ORIGIN ? task.passOrigin : task.ops[origin]?.origin) ?? task.origin;
};

const dispatch = (
  { s, cycles }: Again,
  { queue, instruction, source }: Dispatched,
  moves: ReadonlyMap<ReadSource, Move>,
  origin: number,
): void => {
  const move = source && moves.get(source);
  const { cycle, op, fields, count, interval, step, tap } = instruction;
  s.queues[queue + 2 * (move?.pairs ?? 0)]?.push({
    cycle: cycle + cycles + (move?.cycles ?? 0),
    op,
    fields: move === undefined ? fields : { ...fields, address: Number(fields["address"]) + move.rows },
    count,
    interval,
    step,
    tap,
    origin,
  });
};
