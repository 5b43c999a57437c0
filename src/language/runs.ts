/**
 * Runs of a decoder: each takes tokens of all sequences that have begun, and gives each of them its logits.
 *
 * A sequence asks for a step, and waits until each that has begun asks for one too; between two runs everyone has a turn, so that
 * a long prompt does not keep a server from hearing.
 */

import { at, fail } from "../diagnostics.js";
import type { Tensor } from "../ir/graph.js";
import { toFloats } from "../ir/tensor.js";
import { blockInputs, type DecoderEntries, PASTS } from "./decoder.js";
import { nextRun } from "./side-by-side.js";

/** What of an entry of a program on the machine is needed. */
export interface Entry {
  readonly cycles: number;
  readonly run: (
    inputs: Readonly<Record<string, readonly number[]>>,
  ) => Promise<{ readonly outputs: Readonly<Record<string, Tensor>>; readonly cycles: number }>;
}

/** A program with the shapes of `decoderShapes` and all its pasts as states. */
export interface Decoder<State> extends DecoderEntries<Entry> {
  readonly clockMHz: number;
  readonly logits: { readonly name: string; readonly vocabulary: number };
  readonly room: Room;
  readonly reset: () => void;
  readonly snapshot: () => State;
  readonly restore: (state: State) => void;
  /** Ends the threads of the machine. */
  readonly close: () => void;
}

/** Bytes of the states, of SRAM that nothing takes, and how many such states both would hold. */
export interface Room {
  readonly bytes: number;
  readonly free: number;
  readonly sequences: number;
}

export interface Cost {
  /** What the machine counted. */
  readonly cycles: number;
  /** What the compiler said before. */
  readonly predictedCycles: number;
  /** Runs of the program that these are of. */
  readonly runs: number;
}

export interface Step extends Cost {
  /** One number for each token of the vocabulary. */
  readonly logits: Float32Array;
}

/** A sequence of a decoder: what it has taken, and what it is to take next. */
export interface Seat {
  readonly index: number;
  taken: readonly number[];
  /** Whether a text is written with it. */
  isHeld: boolean;
  asked: Asked | undefined;
}

/** Tokens of a step, from number `next` on to take. */
interface Asked {
  readonly tokens: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly resolve: (step: Step) => void;
  readonly reject: (reason: unknown) => void;
  next: number;
  sum: Step;
}

/** A sequence, and what it asks for. */
interface Taking {
  readonly seat: Seat;
  readonly asked: Asked;
}

/** A decoder at work. */
export interface Running<State> {
  /** Undefined when it is closed: nothing else refers to it, so that its memory goes then. */
  decoder: Decoder<State> | undefined;
  readonly seats: readonly Seat[];
  spent: Cost;
  isRunning: boolean;
}

const NO_LOGITS = new Float32Array();
/** Of no run. */
export const NO_COST: Cost = { cycles: 0, predictedCycles: 0, runs: 0 };

export const newRunning = <State>(decoder: Decoder<State>): Running<State> => ({
  ...{ decoder, spent: NO_COST, isRunning: false },
  seats: Array.from({ length: decoder.sequences }, (_, index): Seat => {
    return { index, taken: [], isHeld: false, asked: undefined };
  }),
});

/** LPU5110 if it is closed. */
export const opened = <State>({ decoder }: Running<State>): Decoder<State> =>
  decoder ?? fail("LPU5110", { message: "the language model is closed" });

/** A step of a sequence; LPU5111 if one of it has not ended. */
export function ask<State>(
  running: Running<State>,
  seat: Seat,
  tokens: readonly number[],
  signal?: AbortSignal,
): Promise<Step> {
  if (seat.asked !== undefined) fail("LPU5111", { message: "a step of this sequence has not ended yet" });
  return new Promise<Step>((resolve, reject) => {
    seat.asked = { tokens, signal, resolve, reject, next: 0, sum: { logits: NO_LOGITS, ...NO_COST } };
    void goOn(running);
  });
}

/** Runs as long as all who have begun have something to take. */
export async function goOn<State>(running: Running<State>): Promise<void> {
  if (running.isRunning) return;
  running.isRunning = true;
  const { seats } = running;
  for (;;) {
    await turn();
    for (const { seat, asked } of askingOf(seats)) if (asked.signal?.aborted === true) drop(seat, asked.signal.reason);
    const asking = askingOf(seats);
    const isReady = seats.every(({ isHeld, taken, asked }) => !isHeld || taken.length === 0 || asked !== undefined);
    if (asking.length === 0 || !isReady) break;
    try {
      await takeNext(running, asking);
    } catch (error) {
      for (const { seat } of asking) drop(seat, error);
    }
  }
  running.isRunning = false;
}

/** The run that all who have begun are ready for, by the entry that sees least of the past, if it sees all that is there. */
async function takeNext<State>(running: Running<State>, asking: readonly Taking[]): Promise<void> {
  const { whole, shorter, past } = opened(running);
  const { count, takes } = nextRun(
    asking.map(({ seat, asked }) => ({ left: asked.tokens.length - asked.next, isBegun: seat.taken.length > 0 })),
    whole.blocks.map(({ tokens }) => tokens),
  );
  const taking = asking.filter((_, index) => takes[index]);
  const seesAll = ({ rows, blocks }: Decoder<State>["whole"]): boolean =>
    taking.every(({ seat }) => PASTS[past].sees(rows, seat.taken.length, count)) &&
    (count === 1 || blocks.some(({ tokens }) => tokens === count));
  const { rows, decode, blocks } = shorter.find(seesAll) ?? whole;
  const block = blocks.find(({ tokens }) => tokens === count);
  const first = taking.every(({ seat }) => seat.taken.length === 0) ? block?.first : undefined;
  await (first === undefined
    ? takeBlock(running, { entry: block?.entry ?? decode, rows, count, taking })
    : takeBlock(running, { entry: first, rows: 0, count, taking }));
}

/** A run of an entry that sees so many rows of the pasts. */
interface Block {
  readonly entry: Entry;
  readonly rows: number;
  readonly count: number;
  readonly taking: readonly Taking[];
}

/** Takes `count` tokens of some sequences; the others take what nothing will ever see. */
async function takeBlock<State>(running: Running<State>, { entry, rows, count, taking }: Block): Promise<void> {
  const { past, given, logits, sequences } = opened(running);
  const blocks = running.seats.map((seat) => {
    const asked = taking.find((one) => one.seat === seat)?.asked;
    const tokens = asked?.tokens.slice(asked.next, asked.next + count) ?? new Array<number>(count).fill(0);
    return { past, context: rows, tokens, position: asked === undefined ? 0 : seat.taken.length };
  });
  const { outputs, cycles } = await entry.run(blockInputs(given, blocks));
  const own: Cost = { cycles, predictedCycles: entry.cycles, runs: 1 };
  running.spent = added(running.spent, own);
  const made = outputs[logits.name];
  const all = made === undefined ? NO_LOGITS : toFloats(made);
  for (const { seat, asked } of taking) {
    const end = ((seat.index + 1) * all.length) / sequences;
    seat.taken = [...seat.taken, ...at(blocks, seat.index, "block").tokens];
    asked.next += count;
    asked.sum = { logits: all.slice(end - logits.vocabulary, end), ...added(asked.sum, own) };
    if (asked.next < asked.tokens.length) continue;
    seat.asked = undefined;
    asked.resolve(asked.sum);
  }
}

const askingOf = (seats: readonly Seat[]): readonly Taking[] =>
  seats.flatMap((seat) => (seat.asked === undefined ? [] : [{ seat, asked: seat.asked }]));

const drop = (seat: Seat, reason: unknown): void => {
  const { asked } = seat;
  seat.asked = undefined;
  asked?.reject(reason);
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const added = (a: Cost, b: Cost): Cost => ({
  cycles: a.cycles + b.cycles,
  predictedCycles: a.predictedCycles + b.predictedCycles,
  runs: a.runs + b.runs,
});
