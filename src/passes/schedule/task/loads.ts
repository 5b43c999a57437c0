/**
 * Weights that are computed, or come from the host: columns of an array loaded from rows of storages, one burst after
 * another. Rows that lie interleaved load as many columns a cycle as they have ways, others one.
 */

import { at } from "../../../diagnostics.js";
import type { Copy } from "../place/chunk.js";
import { LOAD_WAYS, type WeightLoad } from "../../../ir/plan.js";
import { mxmQueue } from "../../../ir/program.js";
import { NEVER } from "../chip/resources.js";
import type { Half } from "../chip/machine.js";
import { bookCopy, type Flight, later, type PairBurst, type ReadPiece, readyOf, tryPorts } from "../chip/ports.js";
import { piecesOf, tryPiece } from "./read.js";
import type { Scheduler } from "../state.js";
import { inOne, isLoadFree, latestStretches, pickLoadStreams, type Stretch } from "./stretches.js";
import { emit, markOf, rollback } from "./trial.js";

/** Start cycles that are tried, and how far they are apart. */
const LOAD_TRIES = 24;
const LOAD_STRIDE = 4;

/** For which array weights are loaded, and when they are installed. */
export interface Load {
  readonly half: Half;
  /** Cycle of the IW. */
  readonly install: number;
  /** Index into Plan.origins. */
  readonly origin: number;
}

/** Loads weights between `earliest` and the IW. Returns 0 or a delay. */
export const tryLoads = (s: Scheduler, loads: readonly WeightLoad[], load: Load, earliest: number): number => {
  const bursts = loadBursts(s, loads, load.half);
  const total = totalOf(bursts);
  const first = firstStart(s, bursts, earliest);
  const latest = load.install - s.target.timing.mxmLoad - total + 1;
  if (latest < first) return first - latest;
  // What failed last most likely fails again: it is asked first, before all the others are booked in vain.
  let last: LoadBurst | undefined;
  // Where the ports of a burst are taken for longer than starts are tried, none before that is worth a trial.
  let delay = LOAD_STRIDE;
  // Where loads take all streams, activations fly between two of them, and every cycle counts.
  const stride = s.tilePairs < load.half.outward.length ? LOAD_STRIDE : 1;
  const stretches = inOne(total);
  for (let start = latest, tries = 0; start >= first && tries < LOAD_TRIES; start -= stride, tries++) {
    const failure = tryLoadsAt(s, bursts, load, { start, stretches, last });
    if (failure === undefined) return 0;
    if (start === latest && failure.delay > LOAD_TRIES * LOAD_STRIDE) delay = failure.delay;
    last = failure.burst ?? last;
  }
  return tryLoadsApart(s, bursts, load, first) ? 0 : delay;
};

/** Loads that take all streams in several stretches, around what flies on them. Whether they do. */
const tryLoadsApart = (s: Scheduler, bursts: readonly LoadBurst[], load: Load, first: number): boolean => {
  const { half, install } = load;
  const count = totalOf(bursts);
  if (Math.max(...bursts.map(({ ways }) => ways)) < half.outward.length) return false;
  const places = bursts.flatMap((burst) => Array.from({ length: burst.executions }, () => placeOf(burst, half)));
  const window = { first, last: install - s.target.timing.mxmLoad, count };
  const found = latestStretches(window, (cycle, execution) => isLoadFree(s, half, cycle, places[execution]));
  if (found === undefined) return false;
  const parts = found.stretches.flatMap((stretch) => bursts.flatMap((burst) => partIn(burst, stretch)));
  return tryLoadsAt(s, parts, load, { ...found, last: undefined }) === undefined;
};

/** Where rows of a burst lie in a hemisphere. */
const placeOf = ({ piece: { chunk } }: LoadBurst, { side }: Half): Copy | undefined =>
  chunk.copies.find((copy) => copy.side === side);

/** What of a burst loads in a stretch of all. */
const partIn = (burst: LoadBurst, { delay, done, count }: Stretch): readonly LoadBurst[] => {
  const { piece, column, ways, offset } = burst;
  const from = Math.max(done, offset);
  const executions = Math.min(done + count, offset + burst.executions) - from;
  if (executions <= 0) return [];
  const skip = (from - offset) * ways;
  const part = { ...piece, row: piece.row + skip * piece.step, count: executions * ways };
  return [{ ...burst, ...readIn(part, executions), column: column + skip, offset: delay + from - done }];
};

/** What is read in so many cycles, and a piece that is ready when the last of its rows is: rows are written one a cycle. */
const readIn = (piece: ReadPiece, executions: number): Pick<LoadBurst, "piece" | "waited" | "executions"> => ({
  piece,
  waited: { ...piece, step: 0, row: piece.row + piece.count - executions },
  executions,
});

/** Pairs of streams on which weights load, and in how many cycles. */
export const loadsOf = (
  s: Scheduler,
  loads: readonly WeightLoad[],
  half: Half,
): { readonly width: number; readonly executions: number } => {
  const bursts = loadBursts(s, loads, half);
  return { width: Math.max(...bursts.map(({ ways }) => ways)), executions: totalOf(bursts) };
};

const totalOf = (bursts: readonly LoadBurst[]): number => bursts.reduce((sum, { executions }) => sum + executions, 0);

/** A burst that loads columns, `ways` at a time, of rows that lie in `turns` times as many. */
interface LoadBurst {
  readonly load: WeightLoad;
  readonly piece: ReadPiece;
  /** The piece as one that is ready when the last of its rows is: `ways` rows a cycle are read while one a cycle was written. */
  readonly waited: ReadPiece;
  readonly column: number;
  readonly ways: number;
  readonly turns: number;
  readonly executions: number;
  /** Cycles after the first load. */
  readonly offset: number;
}

const loadBursts = (s: Scheduler, loads: readonly WeightLoad[], half: Half): LoadBurst[] => {
  const bursts: LoadBurst[] = [];
  let offset = 0;
  for (const load of loads)
    for (const piece of piecesOf(s, load, [load.run]))
      for (const { skip, count, ways, turns } of partsOf(s, piece, half)) {
        const executions = count / ways;
        const part = { ...piece, row: piece.row + skip * piece.step, step: count === 1 ? 0 : piece.step, count };
        const column = load.column + piece.offset + skip;
        bursts.push({ load, ...readIn(part, executions), column, ways, turns, offset });
        offset += executions;
      }
  return bursts;
};

/** Rows of a piece that load together. */
interface LoadPart {
  readonly skip: number;
  readonly count: number;
  readonly ways: number;
  readonly turns: number;
}

/** Whole turns of the interleaving load together, of what is left over as many as few ways divide, and the last ones one by one. */
const partsOf = (s: Scheduler, { chunk, step, count }: ReadPiece, half: Half): LoadPart[] => {
  const ways = chunk.copies.find((copy) => copy.side === half.side)?.ways ?? 1;
  const width = Math.min(ways, s.tilePairs);
  const isWide = step === 1 && width > 1;
  const whole = isWide ? count - (count % ways) : 0;
  const parts: LoadPart[] = [{ skip: 0, count: whole, ways: width, turns: ways / width }];
  let skip = whole;
  while (isWide && count - skip >= LOAD_WAYS) {
    const few = Math.min(width, count - skip - ((count - skip) % LOAD_WAYS));
    parts.push({ skip, count: few, ways: few, turns: 1 });
    skip += few;
  }
  parts.push({ skip, count: count - skip, ways: 1, turns: 1 });
  return parts.filter((part) => part.count > 0);
};

/** First cycle from `earliest` on in which loading may start, so that the rows of every burst are ready. */
const firstStart = (s: Scheduler, bursts: readonly LoadBurst[], earliest: number): number => {
  const dispatch = earliest + s.target.timing.mxmWeightSkew - s.target.mxm - s.target.timing.memRead;
  return Math.max(earliest, ...bursts.map(({ waited, offset }) => earliest + readyOf(waited) - (dispatch + offset)));
};

/** When loading starts, and in which stretches it goes on; `last`: the burst for which a start before this one failed. */
interface Start {
  readonly start: number;
  readonly stretches: readonly Stretch[];
  readonly last: LoadBurst | undefined;
}

/** The burst whose ports are taken, or none where no stream is free, and by how many cycles to start later at least. */
interface Failure {
  readonly burst: LoadBurst | undefined;
  readonly delay: number;
}

/** Loads from a cycle on. Undefined if all is booked. */
const tryLoadsAt = (
  s: Scheduler,
  bursts: readonly LoadBurst[],
  load: Load,
  { start, stretches, last }: Start,
): Failure | undefined => {
  const { half, origin } = load;
  const mark = markOf(s);
  const diagonal = start + s.target.timing.mxmWeightSkew - s.target.mxm;
  const width = Math.max(...bursts.map(({ ways }) => ways));
  const stream = pickLoadStreams(s, half, width, diagonal, stretches);
  const flight: Flight = { half, inward: false, diagonal, stream, origin };
  const failure = stream < 0 ? { burst: undefined, delay: -stream } : tryBursts(s, bursts, flight, last);
  if (failure === undefined) emitLoads(s, bursts, load, start, stream);
  else rollback(s, mark);
  return failure;
};

/** `last`: the burst that is asked first, alone. */
const tryBursts = (
  s: Scheduler,
  bursts: readonly LoadBurst[],
  flight: Flight,
  last: LoadBurst | undefined,
): Failure | undefined => {
  const mark = markOf(s);
  const alone = last === undefined ? 0 : tryBurst(s, last, later(flight, last.offset));
  rollback(s, mark);
  if (alone !== 0) return { burst: last, delay: alone };
  for (const burst of bursts) {
    const delay = tryBurst(s, burst, later(flight, burst.offset));
    if (delay !== 0) return { burst, delay };
  }
  return undefined;
};

const tryBurst = (s: Scheduler, burst: LoadBurst, flight: Flight): number => {
  const { load, piece, waited, ways } = burst;
  if (ways === 1) return tryPiece(s, load, piece, flight);
  let best = NEVER;
  for (const copy of piece.chunk.copies) {
    if (copy.side !== flight.half.side) continue;
    const bursts = wideBursts(copy, burst);
    const delay = tryPorts(s, bursts, waited, flight);
    if (delay === 0) {
      bookCopy(s, { storage: load.storage, panel: load.panel }, piece, copy, bursts, flight);
      return 0;
    }
    best = Math.min(best, delay);
  }
  return best;
};

/** Pairs of an interleaved copy, as many at once as there are ways to load, in turns where it lies in more. */
const wideBursts = (
  { pairs, ways: all, addresses, before }: Copy,
  { piece: { chunk, row }, ways, turns, executions }: LoadBurst,
): PairBurst[] => {
  const first = before + row - chunk.row;
  return Array.from({ length: ways * turns }, (_, i) => {
    const way = (first + i) % all;
    return {
      pair: at(pairs, way, "pair"),
      address: at(addresses, way, "address") + Math.floor((first + i) / all),
      delay: Math.floor(i / ways),
      count: executions / turns,
      interval: turns,
      step: 1,
      stream: i % ways,
    };
  });
};

const emitLoads = (s: Scheduler, bursts: readonly LoadBurst[], to: Load, start: number, stream: number): void => {
  const { half, install, origin } = to;
  s.trial.figure.add(half.buffer, start, install + 1 - start);
  const queue = mxmQueue(s.target, half.hemisphere, 0, 0);
  for (const [index, { load, offset, ways, executions, column }] of bursts.entries()) {
    const shape = {
      mode: 1 + load.half,
      ways,
      column,
      first: load.first,
      lanes: load.lanes,
      clear: index === 0 ? 1 : 0,
    };
    emit(s, queue, start + offset, { op: "lw", fields: { stream, ...shape }, origin, count: executions });
  }
  emit(s, queue, install, { op: "iw", fields: {}, origin });
};
