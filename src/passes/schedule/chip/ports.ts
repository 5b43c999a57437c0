/**
 * Bursts and ports: which bursts of which slice pairs read rows one after another, whether their ports are free, and what
 * is booked and dispatched for them.
 *
 * A flight is vectors on their way past the VXM's position, one a cycle from `diagonal` on, really or as if they flew on.
 * What flies inward is dispatched the slice's position before that, what flies outward as much after it.
 */

import { at } from "../../../diagnostics.js";
import type { Chunk, Copy } from "../place/chunk.js";
import type { Run, PanelRef } from "../../../ir/plan.js";
import { greatestDivisor } from "../../../ir/plan/wires.js";
import { memQueue } from "../../../ir/program.js";
import { NEVER } from "./resources.js";
import { bankOf, type Half, type Pair, pairAt } from "./machine.js";
import type { ReadSource } from "../repeat/placed.js";
import { chunksOf, type Scheduler } from "../state.js";
import { emit } from "../task/trial.js";

/** Vectors that one chunk of a panel gives to a burst. */
export interface ReadPiece {
  readonly chunk: Chunk;
  /** Vectors of the burst before this piece. */
  readonly offset: number;
  /** Row of the panel of the first vector. */
  readonly row: number;
  readonly step: number;
  readonly count: number;
}

/** One burst of one slice pair. */
export interface PairBurst {
  readonly pair: number;
  readonly address: number;
  /** Cycles after the first vector of the flight. */
  readonly delay: number;
  readonly count: number;
  /** Cycles from one vector to the next. */
  readonly interval: number;
  readonly step: number;
  /** Stream pairs above the first of the flight. */
  readonly stream: number;
  /** The bytes of the elements that fly; both if not given. */
  readonly bytes?: readonly number[];
}

/** Vectors on their way past the VXM, one a cycle. */
export interface Flight {
  readonly half: Half;
  readonly inward: boolean;
  /** Cycle in which the first vector passes the VXM's position. */
  readonly diagonal: number;
  /** First stream. */
  readonly stream: number;
  /** Index into Plan.origins. */
  readonly origin: number;
  /** How many cycles each byte of the elements is behind the first; all fly side by side if not given. */
  readonly behind?: readonly number[];
}

/** The same flight some cycles later. */
export const later = (flight: Flight, cycles: number): Flight =>
  cycles === 0 ? flight : { ...flight, diagonal: flight.diagonal + cycles };

/**
 * The bursts that read or write rows of a block vector after vector; `run` counts rows from the start of the block. Vectors
 * that are so many apart that their rows lie in the same way are one burst.
 */
export const burstsOf = (
  { pairs, ways, addresses, before }: Pick<Copy, "pairs" | "ways" | "addresses" | "before">,
  { row, step, count }: Run,
): PairBurst[] => {
  const width = pairs.length / ways;
  const interval = ways / greatestDivisor(ways, Math.abs(step));
  const bursts: PairBurst[] = [];
  for (let delay = 0; delay < Math.min(interval, count); delay++) {
    const first = before + row + delay * step;
    const start = (first % ways) * width;
    for (let stream = 0; stream < width; stream++)
      bursts.push({
        pair: at(pairs, start + stream, "pair"),
        address: at(addresses, start + stream, "address") + Math.floor(first / ways),
        delay,
        count: Math.ceil((count - delay) / interval),
        interval,
        step: (step * interval) / ways,
        stream,
      });
  }
  return bursts;
};

/** The bursts of a flight whose bytes do not fly side by side: slices of a pair that go at different times have bursts of their own. */
export const apart = (bursts: readonly PairBurst[], { behind }: Pick<Flight, "behind">): readonly PairBurst[] =>
  behind === undefined
    ? bursts
    : bursts.flatMap((burst) => {
        const [low = 0, high = 0] = behind.slice(2 * burst.stream);
        const delayed = (delay: number): PairBurst => ({ ...burst, delay: burst.delay + delay });
        if (low === high) return [delayed(low)];
        return [
          { ...delayed(low), bytes: [0] },
          { ...delayed(high), bytes: [1] },
        ];
      });

/** Cycles from the first vector of a burst to its last, both counted. */
export const spanOf = (burst: Pick<PairBurst, "count" | "interval">): number => (burst.count - 1) * burst.interval + 1;

/** First cycle in which the first vector of a piece may be read, so that all are ready when their turn comes. */
export const readyOf = ({ chunk, row, step, count }: ReadPiece): number =>
  chunk.ready === 0 ? -NEVER : chunk.ready + (row - chunk.row) + Math.max(0, (count - 1) * (step - 1));

/** Cycle in which the first vector of a flight must be dispatched from a pair. */
export const dispatchOf = (
  s: Scheduler,
  { position }: Pair,
  { inward, diagonal }: Pick<Flight, "inward" | "diagonal">,
): number => diagonal - s.target.timing.memRead + (inward ? -position : position);

/** 0 if the read ports are free for all bursts and their rows are ready, or a delay. */
export const tryPorts = (s: Scheduler, bursts: readonly PairBurst[], piece: ReadPiece, flight: Flight): number => {
  for (const burst of bursts) {
    const pair = pairAt(flight.half, burst.pair);
    const dispatch = dispatchOf(s, pair, flight);
    const cycle = dispatch + burst.delay;
    // Nothing is dispatched before the barrier.
    if (cycle < s.target.timing.barrier) return s.target.timing.barrier - cycle;
    const early = readyOf(piece) - dispatch;
    if (early > 0) return early;
    const span = spanOf(burst);
    const port = s.trial.figure.fit(pair.read, cycle, span) - cycle;
    if (port > 0) return port;
    const conflict = s.trial.figure.fit(pair.writeBank[bankOf(s.target, burst.address)], cycle, span) - cycle;
    if (conflict > 0) return conflict;
    if (!s.trial.figure.free(pair.issue, cycle, 1)) return 1;
  }
  return 0;
};

/** Books the ports of a pair for a burst that reads from `cycle` on, and dispatches it if the trial is booked. */
export const bookRead = (s: Scheduler, burst: PairBurst, cycle: number, flight: Flight, source: ReadSource): void => {
  const pair = pairAt(flight.half, burst.pair);
  const span = spanOf(burst);
  s.trial.figure.add(pair.read, cycle, span);
  s.trial.figure.add(pair.readBank[bankOf(s.target, burst.address)], cycle, span);
  s.trial.figure.add(pair.issue, cycle, 1);
  emitMemory(s, "read", burst, cycle, flight, 0, source);
};

/** The same of a burst that writes. */
export const bookWrite = (s: Scheduler, burst: PairBurst, cycle: number, flight: Flight, tap: 0 | 1): void => {
  reserveWrite(s, burst, cycle, flight);
  emitMemory(s, "write", burst, cycle, flight, tap);
};

/** Books the ports of a pair for a burst that writes, of which it is not known yet whether vectors fly on behind it. */
export const reserveWrite = (s: Scheduler, burst: PairBurst, cycle: number, flight: Flight): void => {
  const pair = pairAt(flight.half, burst.pair);
  const span = spanOf(burst);
  s.trial.figure.add(pair.write, cycle, span);
  s.trial.figure.add(pair.writeBank[bankOf(s.target, burst.address)], cycle, span);
  s.trial.figure.add(pair.issue, cycle, 1);
};

/** Both slices of a pair do the same, each with one byte of the elements and one stream of the pair of streams. */
export const emitMemory = (
  s: Scheduler,
  op: "read" | "write",
  burst: PairBurst,
  cycle: number,
  flight: Flight,
  tap: number,
  source?: ReadSource,
): void => {
  const { address, count, step, interval, bytes = [0, 1] } = burst;
  const { half, stream, origin } = flight;
  for (const byte of bytes)
    emit(
      s,
      memQueue(s.target, half.hemisphere, 2 * burst.pair + byte),
      cycle,
      { op, fields: { address, stream: stream + 2 * burst.stream + byte }, origin, count, step, interval, tap },
      source,
    );
};

/** Books all bursts of a flight that read a copy. */
export const bookCopy = (
  s: Scheduler,
  panel: PanelRef,
  { chunk, row, step, count }: ReadPiece,
  copy: Copy,
  bursts: readonly PairBurst[],
  flight: Flight,
): void => {
  const rows = { row: row - chunk.row, step, count };
  const source = { ...panel, chunk: chunksOf(s, panel).indexOf(chunk), copy: chunk.copies.indexOf(copy) };
  for (const burst of bursts) {
    const cycle = dispatchOf(s, pairAt(flight.half, burst.pair), flight) + burst.delay;
    bookRead(s, burst, cycle, flight, source);
    s.trial.wants.push({ kind: "read", source, copy, rows, until: cycle + spanOf(burst) });
  }
};
