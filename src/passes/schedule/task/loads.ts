/**
 * Weights that are computed, or come from the host: columns of an array loaded from rows of storages, one burst after
 * another. Rows that lie interleaved load as many columns a cycle as they have ways and weights have streams, others one.
 */

import { at } from "../../../diagnostics.js";
import type { Copy } from "../place/chunk.js";
import type { WeightLoad } from "../../../ir/plan.js";
import { mxmQueue } from "../../../ir/program.js";
import { NEVER } from "../chip/resources.js";
import type { Half } from "../chip/machine.js";
import { LOAD_WAYS } from "../place/rows.js";
import { bookCopy, type Flight, later, type PairBurst, type Piece, readyOf, tryPorts } from "../chip/ports.js";
import { piecesOf, tryPiece } from "./read.js";
import type { Scheduler } from "../state.js";
import { emit, markOf, pickStreams, rollback } from "./trial.js";

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
  const total = bursts.reduce((sum, burst) => sum + burst.executions, 0);
  const first = firstStart(s, bursts, earliest);
  const latest = load.install - s.target.timing.mxmLoad - total + 1;
  if (latest < first) return first - latest;
  // What failed last most likely fails again: it is asked first, before all the others are booked in vain.
  let last: LoadBurst | undefined;
  for (let start = latest, tries = 0; start >= first && tries < LOAD_TRIES; start -= LOAD_STRIDE, tries++) {
    const failed = tryLoadsAt(s, bursts, load, { start, total, last });
    if (failed === undefined) return 0;
    if (failed !== "stream") last = failed;
  }
  return LOAD_STRIDE;
};

/** A burst that loads columns, `ways` at a time. */
interface LoadBurst {
  readonly load: WeightLoad;
  readonly piece: Piece;
  /** The piece as one that is ready when the last of its rows is: `ways` rows a cycle are read while one a cycle was written. */
  readonly waited: Piece;
  readonly column: number;
  readonly ways: number;
  readonly executions: number;
  /** Cycles after the first load. */
  readonly offset: number;
}

const loadBursts = (s: Scheduler, loads: readonly WeightLoad[], half: Half): LoadBurst[] => {
  const bursts: LoadBurst[] = [];
  let offset = 0;
  for (const load of loads)
    for (const piece of piecesOf(s, load, [load.run]))
      for (const { skip, count, ways } of partsOf(s, piece, half)) {
        const executions = count / ways;
        const part = { ...piece, row: piece.row + skip * piece.step, step: count === 1 ? 0 : piece.step, count };
        const waited = { ...part, step: 0, row: part.row + count - executions };
        bursts.push({ load, piece: part, waited, column: load.column + piece.offset + skip, ways, executions, offset });
        offset += executions;
      }
  return bursts;
};

interface LoadPart {
  /** Rows of the piece before it. */
  readonly skip: number;
  readonly count: number;
  readonly ways: number;
}

/**
 * Interleaved rows load as many at once as they have ways, or as weights may have streams for: what is before the first whole
 * turn, and behind the last, in a cycle of its own. All others load one by one.
 */
const partsOf = (s: Scheduler, { chunk, row, step, count }: Piece, half: Half): readonly LoadPart[] => {
  const copy = chunk.copies.find(({ side }) => side === half.side);
  const width = Math.min(copy?.ways ?? 1, Math.max(LOAD_WAYS, s.tilePairs));
  if (copy === undefined || step !== 1 || width === 1) return [{ skip: 0, count, ways: 1 }];
  const into = (copy.before + row - chunk.row) % width;
  const before = into === 0 ? 0 : Math.min(count, width - into);
  const turns = Math.floor((count - before) / width);
  const behind = count - before - turns * width;
  return [
    { skip: 0, count: before, ways: before },
    { skip: before, count: turns * width, ways: width },
    { skip: count - behind, count: behind, ways: behind },
  ].filter((part) => part.count > 0);
};

/** First cycle from `earliest` on in which loading may start, so that the rows of every burst are ready. */
const firstStart = (s: Scheduler, bursts: readonly LoadBurst[], earliest: number): number => {
  const dispatch = earliest + s.target.timing.mxmWeightSkew - s.target.mxm - s.target.timing.memRead;
  return Math.max(earliest, ...bursts.map(({ waited, offset }) => earliest + readyOf(waited) - (dispatch + offset)));
};

/** When loading starts, and for how many cycles it goes on; `last`: the burst for which a start before this one failed. */
interface Start {
  readonly start: number;
  readonly total: number;
  readonly last: LoadBurst | undefined;
}

/** Loads from a cycle on. Returns the burst whose ports are taken, or that no stream is free; undefined if all is booked. */
const tryLoadsAt = (
  s: Scheduler,
  bursts: readonly LoadBurst[],
  load: Load,
  { start, total, last }: Start,
): LoadBurst | "stream" | undefined => {
  const { half, origin } = load;
  const mark = markOf(s);
  const diagonal = start + s.target.timing.mxmWeightSkew - s.target.mxm;
  const width = Math.max(...bursts.map(({ ways }) => ways));
  const stream = pickStreams(s, { half, use: "weights", width, diagonal, length: total });
  const flight: Flight = { half, inward: false, diagonal, stream, origin };
  const isTaken = (burst: LoadBurst): boolean => tryBurst(s, burst, later(flight, burst.offset)) !== 0;
  const failed = stream < 0 ? "stream" : (failsAgain(s, last, isTaken) ?? bursts.find(isTaken));
  if (failed === undefined) emitLoads(s, bursts, load, start, stream);
  else rollback(s, mark);
  return failed;
};

/** The burst that failed last, if it also does alone. */
const failsAgain = (
  s: Scheduler,
  last: LoadBurst | undefined,
  isTaken: (burst: LoadBurst) => boolean,
): LoadBurst | undefined => {
  if (last === undefined) return undefined;
  const mark = markOf(s);
  const taken = isTaken(last);
  rollback(s, mark);
  return taken ? last : undefined;
};

const tryBurst = (s: Scheduler, { load, piece, waited, ways, executions }: LoadBurst, flight: Flight): number => {
  if (ways === 1) return tryPiece(s, load, piece, flight);
  let best = NEVER;
  for (const copy of piece.chunk.copies) {
    if (copy.side !== flight.half.side) continue;
    const bursts = wideBursts(copy, piece, ways, executions);
    const delay = tryPorts(s, bursts, waited, flight);
    if (delay === 0) {
      bookCopy(s, { storage: load.storage, panel: load.panel }, piece, copy, bursts, flight);
      return 0;
    }
    best = Math.min(best, delay);
  }
  return best;
};

/** `wide` neighbouring rows of an interleaved copy at once; where it has more ways, its pairs take turns. */
const wideBursts = (
  { pairs, ways, addresses, before }: Copy,
  { chunk, row }: Piece,
  wide: number,
  executions: number,
): PairBurst[] => {
  const turns = Math.min(executions, ways / wide);
  return Array.from({ length: Math.min(executions, turns) }, (_, delay) => {
    const first = before + row - chunk.row + delay * wide;
    const count = Math.ceil((executions - delay) / turns);
    const way = first % ways;
    return Array.from({ length: wide }, (_, stream): PairBurst => {
      const address = at(addresses, way + stream, "address") + Math.floor(first / ways);
      return { pair: at(pairs, way + stream, "pair"), address, delay, count, interval: turns, step: 1, stream };
    });
  }).flat();
};

const emitLoads = (s: Scheduler, bursts: readonly LoadBurst[], to: Load, start: number, stream: number): void => {
  const { half, install, origin } = to;
  s.figure.add(half.buffer, start, install + 1 - start);
  const queue = mxmQueue(s.target, half.hemisphere, 0, 0);
  s.onCommit.push(() => {
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
  });
};
