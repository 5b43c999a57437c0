/**
 * Repeating: once one instance of a repeat (repeats.ts) has its place, the later ones make the same choices again.
 *
 * The instances before the model are scheduled freely. Those after it are guided: their tasks go in the same order, to the
 * same arrays, and write to the same slices, so that nothing but times can differ, and after one or two instances these
 * repeat too. From then on instances are not searched for at all: each placement is booked again a fixed number of cycles
 * later, with constants of its own, as long as all that it needs is free. What follows the repeat is scheduled freely.
 */

import { type Chunk, type Copy, rowsOfCopy } from "../place/chunk.js";
import { at, invariant } from "../../../diagnostics.js";
import { isTile, type PackedTile, type StorageId, type Task } from "../../../ir/plan.js";
import { holdRows } from "../chip/memory.js";
import { positionIn } from "./repeats.js";
import { book, fitFrom, type Timeline } from "../chip/resources.js";
import { bankOf, memoriesOf, positionsOf } from "../chip/machine.js";
import type { Dispatched, Placed, RowsSource, ReadSource, TileSource } from "./placed.js";
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

const tileOf = ({ plan }: Scheduler, task: number, pass: number): PackedTile => {
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

/** By how many cycles one instance follows the other, if they do not differ in anything else. */
export const distanceOf = (before: readonly Placed[], after: readonly Placed[]): number | undefined => {
  const cycles = (after[0]?.starts[0] ?? 0) - (before[0]?.starts[0] ?? 0);
  return before.every((placed, i) => isLater(placed, after[i], cycles)) ? cycles : undefined;
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
  readonly model: Placed;
  /** Number of the task. */
  readonly task: number;
  /** After the model. */
  readonly cycles: number;
  /** By how much numbers of storages that are not shared are higher. */
  readonly storages: number;
}

/** Books for a task, some instances after the model's, what was booked for that, `cycles` later. False, and nothing is changed, if it does not fit. */
export const placeAgain = (s: Scheduler, model: Placed, task: number, cycles: number): boolean => {
  const { repeat } = s;
  invariant(repeat !== undefined, "only repeats are placed again");
  const again: Again = { s, model, task, cycles, storages: (repeat.storages * (task - model.task)) / repeat.tasks };
  const moves = movesOf(again);
  if (moves === undefined || !isFree(again)) return false;
  for (let i = 0; i < model.lines.length; i++)
    book(model.lines[i] as Timeline, (model.starts[i] as number) + cycles, (model.ends[i] as number) + cycles);
  for (const written of model.chunks) writeChunk(again, written);
  for (const { source, until } of model.reads) {
    const copy = copyOf(again, source);
    if (copy !== undefined) copy.lastRead = Math.max(copy.lastRead, until + cycles);
  }
  for (const dispatched of model.dispatched) dispatch(again, dispatched, moves);
  return true;
};

/** By how many rows further on each source of the model is read; undefined if it cannot be. */
const movesOf = (again: Again): Map<ReadSource, number> | undefined => {
  const moves = new Map<ReadSource, number>();
  for (const { source } of again.model.dispatched) {
    if (source === undefined || moves.has(source)) continue;
    const move = "storage" in source ? rowsMove(again, source) : tileMove(again, source);
    if (move === undefined) return undefined;
    moves.set(source, move);
  }
  return moves;
};

/** Undefined if the rows lie elsewhere or are not ready. */
const rowsMove = (again: Again, source: RowsSource): number | undefined => {
  const { s, cycles } = again;
  const from = chunkOf(s, source.storage, source);
  const to = chunkOf(s, storageAgain(again, source.storage), source);
  const [model, copy] = [from?.copies[source.copy], to?.copies[source.copy]];
  if (from === undefined || to === undefined || model === undefined || copy === undefined) return undefined;
  const same =
    model.pairs.every((pair, i) => pair === copy.pairs[i]) &&
    model.before === copy.before &&
    to.ready <= from.ready + cycles;
  if (!same) return undefined;
  const [move, ...others] = model.addresses.map((address, i) =>
    moveInBank(s, address, at(copy.addresses, i, "address")),
  );
  return others.every((other) => other === move) ? move : undefined;
};

const tileMove = ({ s, model, task }: Again, { side, pass, way }: TileSource): number | undefined => {
  const from = s.tiles[side].get(tileOf(s, model.task, pass).key);
  const to = s.tiles[side].get(tileOf(s, task, pass).key);
  if (from === undefined || from.pairs[way] !== to?.pairs[way]) return undefined;
  return moveInBank(s, at(from.addresses, way, "address"), to?.addresses[way] ?? 0);
};

/** Undefined if the rows lie in different banks. */
const moveInBank = ({ target }: Scheduler, from: number, to: number): number | undefined =>
  bankOf(target, from) === bankOf(target, to) ? to - from : undefined;

const storageAgain = ({ s, storages }: Again, id: StorageId): StorageId =>
  s.repeat?.shared.has(id) ? id : id + storages;

const chunkOf = (s: Scheduler, storage: StorageId, { panel, chunk }: RowsSource): Chunk | undefined =>
  s.chunks[storage]?.[panel]?.[chunk];

const copyOf = (again: Again, source: RowsSource): Copy | undefined =>
  chunkOf(again.s, storageAgain(again, source.storage), source)?.copies[source.copy];

const isFree = (again: Again): boolean => {
  const { model, cycles } = again;
  return (
    model.lines.every((line, i) => {
      const [start, end] = [model.starts[i] as number, model.ends[i] as number];
      return fitFrom(line, start + cycles, end - start) === start + cycles;
    }) &&
    model.chunks.every(({ chunk, given }) =>
      chunk.copies.every((copy) => areRowsFree(again, copy, chunk.rows, given + cycles)),
    )
  );
};

/** Whether nothing lies in the rows of a copy any more when a result that leaves the VXM at `given` is written there. */
const areRowsFree = ({ s }: Again, copy: Copy, rows: number, given: number): boolean => {
  const by = given + Math.min(...positionsOf(s.halves[copy.side], copy.pairs));
  return memoriesOf(s.halves[copy.side], copy.pairs).every(({ freeAt }, i) => {
    const address = at(copy.addresses, i, "address");
    return freeAt.subarray(address, address + Math.ceil(rows / copy.ways)).every((free) => free <= by);
  });
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

/** What a counterpart of a task has where the task has this origin. */
const originAgain = (model: Task, task: Task, origin: number): number => {
  if (origin === model.origin) return task.origin;
  if (origin === model.passOrigin) return task.passOrigin ?? task.origin;
  return task.ops[model.ops.findIndex((op) => op.origin === origin)]?.origin ?? task.origin;
};

const dispatch = (
  { s, model, task, cycles }: Again,
  { queue, instruction, source }: Dispatched,
  moves: ReadonlyMap<ReadSource, number>,
): void => {
  const move = source === undefined ? 0 : (moves.get(source) ?? 0);
  const { cycle, op, fields, count, interval, step, tap, origin } = instruction;
  s.queues[queue]?.push({
    cycle: cycle + cycles,
    op,
    fields: move === 0 ? fields : { ...fields, address: Number(fields["address"]) + move },
    count,
    interval,
    step,
    tap,
    origin: originAgain(taskAt(s.plan, model.task), taskAt(s.plan, task), origin),
  });
};
