/**
 * Part of the proof that a Program is its Plan, for one that repeats itself (repeat.ts): values of a stretch of which only some
 * periods are followed.
 *
 * Tasks of the plan are like those of the next layer, `tasks` further on, but for storages of their own, `storages` further on, and
 * for tiles of their own. That is compared for every layer. In some periods what each write writes is found twice, and is
 * one layer further on a period later. Then it is so for all later periods, write by write: a write takes what bursts a period
 * before took for the write a period before, one layer further on, and if that is rows of constants, they are those of
 * the next layer; this is compared for every read. The task of the next layer makes of it what the write is said to write.
 * Other rows that it takes were written in a period that was compared: in the stretch a row that is written is written in every
 * period, so at most one period before it is read, and how long before the write it is read is asked of each (since.ts).
 * So of tasks of which no burst is left nothing need be known but where they write (plan.ts).
 */

import { at } from "../../diagnostics.js";
import type { Plan, Run, StorageId, Task } from "../../ir/plan.js";
import { storagesNamed, tilesNamed } from "../../ir/plan/names.js";
import type { Queues } from "../../ir/program.js";
import { areEqual, haveSameShape, isMap, layerLength, middleOf } from "./alike.js";
import type { Burst, CheckedChip } from "./burst.js";
import type { HeldRows, RowsBefore, RowSpan } from "./edges.js";
import type { Made, PlanValues } from "./plan.js";
import { type Cut, firstFrom, KEPT } from "./repeat.js";
import { append, PLANES, UNKNOWN } from "./values.js";

/** How far apart what is alike lies in a plan. */
interface Step {
  readonly tasks: number;
  readonly storages: number;
}

/** What is known of a program that was shortened, and of its plan. */
export interface Followed {
  readonly layers: Layers;
  readonly learned: PlanValues;
  readonly before: RowsBefore;
  /** The program that was shortened. */
  readonly chip: CheckedChip;
  readonly cut: Cut;
  /** Queues of the program itself. */
  readonly whole: Queues;
  /** Of the program that was shortened. */
  readonly writes: readonly Burst[];
  /** Planes of a write before the cut. */
  readonly written: (write: Burst) => readonly Run[];
  /** Since when what is written is in the making. */
  readonly since: (write: Burst) => number;
}

/** By write of a stretch behind a cut: the planes that it writes. */
export interface Repeated {
  /** From this cycle on, writes must be followed again. */
  readonly end: number;
  readonly written: (write: Burst) => readonly Run[] | undefined;
}

/** Undefined if it cannot be proved like this. */
export const repeatedWrites = (f: Followed): Repeated | undefined => {
  const { periods, stretch, earlier } = f.cut;
  const { period } = stretch;
  const cut = placeOf(f.cut);
  const pairs = writePairs(f);
  const { layers, learned } = f;
  const last = stretch.to - earlier - period;
  for (const [write, later] of pairs) {
    const expected = layers.later(learned, f.written(write), 1);
    if (expected === undefined || !areEqual(expected, f.written(later))) return undefined;
    const { cycle } = later.instruction;
    if (cycle < cut - period) continue;
    if (f.since(later) - period - stretch.reach < cut - compared(f.cut)) return undefined;
    if (layers.later(learned, f.written(later), Math.floor((last - cycle) / period)) === undefined) return undefined;
  }
  layers.lookAhead();
  if (!areConstantsLater(f, layers)) return undefined;
  const end = last - periods * period;
  return {
    end,
    written: (write) => {
      const { cycle } = write.instruction;
      if (cycle < cut || cycle >= end) return undefined;
      const back = Math.floor((cycle - cut) / period) + 1;
      return layers.later(learned, f.written(before(f, write, back)), periods + back);
    },
  };
};

/** The cycle of a cut in the program that was shortened. */
const placeOf = ({ cycle, earlier }: Cut): number => cycle - earlier;

/** Cycles before a cut in which what is written is compared. */
const compared = ({ stretch }: Cut): number => (KEPT - 1) * stretch.period;

/** How many bursts of a queue are in each period. */
const burstsEach = ({ cut, whole }: Followed, queue: number): number => {
  const bursts = at(whole, queue, "queue");
  return firstFrom(bursts, cut.cycle) - firstFrom(bursts, cut.cycle - cut.stretch.period);
};

/** Writes before the cut, each with that of the next period. */
const writePairs = (f: Followed): (readonly [Burst, Burst])[] => {
  const cut = placeOf(f.cut);
  const [start, end] = [cut - compared(f.cut), cut - f.cut.stretch.period];
  return f.writes
    .filter(({ instruction: { cycle } }) => cycle >= start && cycle < end)
    .map((write) => [write, besides(f, write, burstsEach(f, write.queue))]);
};

const before = (f: Followed, write: Burst, back: number): Burst =>
  besides(f, write, -back * burstsEach(f, write.queue));

/** So many bursts further on in its queue. */
const besides = ({ chip }: Followed, { queue, number }: Burst, bursts: number): Burst => {
  const all = at(chip.queues, queue, "queue");
  return at(all, number - at(all, 0, "burst").number + bursts, "burst");
};

/** What made the vector of a number. */
const makerOf = ({ made }: PlanValues, number: number): Made | undefined => {
  let [low, high] = [0, made.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(made, middle, "span").first <= number) low = middle + 1;
    else high = middle;
  }
  const found = made[low - 1];
  return found !== undefined && number < found.first + PLANES * found.count ? found : undefined;
};

/** Undefined if no tasks of a plan are like those behind them, over and over. */
export const layersOf = (plan: Plan): Layers | undefined => {
  const middle = middleOf(plan.tasks);
  const length = layerLength(plan.tasks);
  const [from, to] = [plan.tasks[middle], plan.tasks[middle + length]].map((task) => task?.outputs[0]?.storage);
  if (length === 0 || from === undefined || to === undefined || from === to) return undefined;
  return new Layers(plan, { tasks: length, storages: to - from });
};

/** Tasks and constants that are alike. */
export class Layers {
  private readonly plan: Plan;
  private readonly step: Step;
  /** By task: whether it is like the one of the next layer. */
  private readonly like: (boolean | undefined)[] = [];
  /** By task: in how many layers from its own on, as far as was asked, each such task is like the next. */
  private readonly alike: Uint32Array;
  /** By storage, and by key of a tile: what stands for it in the next layer; itself if it is shared. */
  private readonly storages = new Map<StorageId, StorageId>();
  private readonly tiles = new Map<string, string>();

  constructor(plan: Plan, step: Step) {
    this.plan = plan;
    this.step = step;
    this.alike = new Uint32Array(plan.tasks.length);
  }

  /** What stands for planes that are written some layers further on; undefined if some layer from theirs on is not like the next. */
  later(learned: PlanValues, planes: readonly Run[], layers: number): readonly Run[] | undefined {
    const result: Run[] = [];
    for (const { row, step, count } of planes)
      for (let i = 0; i < count; ) {
        const first = row + i * step;
        const maker = makerOf(learned, first);
        let inside = 1;
        let by = 0;
        if (maker !== undefined) {
          const end = maker.first + PLANES * maker.count;
          for (let next = first + step; i + inside < count && next >= maker.first && next < end; next += step) inside++;
          const there = this.counterpart(learned, maker, layers);
          if (there === undefined) return undefined;
          by = there - maker.first;
        }
        append(result, { row: first + by, step: inside === 1 ? 0 : step, count: inside });
        i += inside;
      }
    return result;
  }

  /** The number of the first vector that stands for those of a task that is like the next. */
  private counterpart({ rows }: PlanValues, { task, storage, panel, row }: Made, layers: number): number | undefined {
    if (!this.areAlike(task, layers)) return undefined;
    const there = this.laterStorage(storage) === storage ? storage : storage + layers * this.step.storages;
    const number = rows[there]?.[panel]?.[row] ?? UNKNOWN;
    return number === UNKNOWN ? undefined : number;
  }

  private areAlike(task: number, layers: number): boolean {
    let known = this.alike[task] as number;
    while (known < layers && this.isLike(task + known * this.step.tasks)) known++;
    this.alike[task] = known;
    return known >= layers;
  }

  /** Tasks of the last layer are like none, but weights for them are read before it begins. */
  lookAhead(): void {
    for (const task of [...this.like.keys()]) if (this.like[task] === true) this.isLike(task + this.step.tasks);
  }

  laterStorage(storage: StorageId): StorageId {
    return this.storages.get(storage) ?? storage;
  }

  isHeldLater(from: HeldRows, to: HeldRows): boolean {
    if (from === undefined || to === undefined) return from === to;
    if ("tile" in from) return "tile" in to && to.tile === (this.tiles.get(from.tile) ?? from.tile);
    return !("tile" in to) && to.panel === from.panel && to.storage === this.laterStorage(from.storage);
  }

  private isLike(index: number): boolean {
    if (index < 0) return false;
    this.like[index] ??= this.compare(this.plan.tasks[index], this.plan.tasks[index + this.step.tasks]);
    return this.like[index];
  }

  private compare(task: Task | undefined, next: Task | undefined): boolean {
    if (task === undefined || next === undefined || !haveSameShape(task, next)) return false;
    const [storages, laterStorages] = [storagesNamed(task), storagesNamed(next)];
    const [tiles, laterTiles] = [task, next].map((one) => tilesNamed(one).map(({ key }) => key)) as [
      string[],
      string[],
    ];
    const same =
      storages.every((storage, i) => this.mayBeLater(storage, at(laterStorages, i, "storage"))) &&
      isMap(storages, laterStorages, this.storages) &&
      isMap(tiles, laterTiles, this.tiles);
    if (!same) return false;
    for (const [i, storage] of storages.entries()) this.storages.set(storage, at(laterStorages, i, "storage"));
    for (const [i, tile] of tiles.entries()) this.tiles.set(tile, at(laterTiles, i, "tile"));
    return true;
  }

  private mayBeLater(storage: StorageId, later: StorageId): boolean {
    if (storage === later) return true;
    const [from, to] = [at(this.plan.storages, storage, "storage"), this.plan.storages[later]];
    return (
      later === storage + this.step.storages &&
      to?.kind === from.kind &&
      to.dtype === from.dtype &&
      to.rows === from.rows &&
      to.panels === from.panels
    );
  }
}

/* ---------- rows that lie there before cycle 0 ---------- */

/** Whether each read of the stretch that finds rows of constants finds those of the next layer a period later. */
const areConstantsLater = (f: Followed, layers: Layers): boolean => {
  const { cut, whole, chip } = f;
  const depth = 2 * chip.target.rowsPerBank;
  const [start, end] = [cut.cycle - compared(cut), cut.stretch.to - 2 * cut.stretch.period];
  return whole.slice(0, 2 * chip.target.slices).every((queue, number) => {
    const each = burstsEach(f, number);
    const rowOf = (burst: number): number => number * depth + Number(at(queue, burst, "burst").fields["address"]);
    const [first, last] = [firstFrom(queue, start), firstFrom(queue, end)];
    for (let i = first; i < last; i++) {
      const { op, step, count } = at(queue, i, "burst");
      if (op !== "read") continue;
      const row = rowOf(i);
      const later = rowOf(i + each);
      // What is read from the same rows period by period is compared once.
      if (row === later && i >= first + each && rowOf(i - each) === row) continue;
      if (!areRowsLater(f.before, layers, row, later, step, count)) return false;
    }
    return true;
  });
};

const areRowsLater = (
  { spanAt, spans }: RowsBefore,
  layers: Layers,
  first: number,
  later: number,
  step: number,
  count: number,
): boolean => {
  for (let i = 0; i < count; ) {
    const row = first + i * step;
    const there = later + i * step;
    const from = spans[(spanAt[row] as number) - 1];
    const to = spans[(spanAt[there] as number) - 1];
    if (from === undefined || to === undefined) {
      // Rows that tasks write.
      if (from !== undefined || row !== there) return false;
      i++;
      continue;
    }
    if (!layers.isHeldLater(from.of, to.of)) return false;
    if (from.offset + (row - from.at) * from.step !== to.offset + (there - to.at) * to.step) return false;
    const alike =
      from.step === to.step && isInside(from, first + (count - 1) * step) && isInside(to, later + (count - 1) * step);
    i += alike ? count - i : 1;
  }
  return true;
};

const isInside = ({ at, count }: RowSpan, row: number): boolean => row >= at && row < at + count;
