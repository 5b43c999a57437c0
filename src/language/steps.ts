/**
 * Steps of a decoder whose past stays on the chip: one token a run, or a block of a prompt, and whole prompts behind what is kept;
 * of one sequence, or of several side by side, each run for all that have begun.
 */

import { at, fail } from "../diagnostics.js";
import type { Tensor } from "../ir/graph.js";
import { toFloats } from "../ir/tensor.js";
import { blockInputs, capacityOf, type DecoderEntries, PASTS } from "./decoder.js";
import type { KeptPasts, Saved } from "./pasts.js";
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

/** Bytes of the states of one sequence, of SRAM that nothing takes, and how many sequences' states both would hold. */
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

/** A prompt that was taken: the cost is that of all its runs, the logits are those after its last token. */
export interface Prompted extends Step {
  /** Tokens that a kept past had. */
  readonly kept: number;
}

/** A sequence, whose past is one of those that a decoder has. */
export interface Sequence {
  /** Tokens of the past. */
  readonly position: () => number;
  /** In runs with all other sequences that have begun: it waits until each of them has a token to take. */
  readonly step: (tokens: number | readonly number[], signal?: AbortSignal) => Promise<Step>;
  /** From an empty past, or what is kept; of several sequences nothing is. */
  readonly take: (prompt: readonly number[], pasts: KeptPasts | undefined, signal?: AbortSignal) => Promise<Prompted>;
  /** Gives it back: others go on without it, and a text that waits for one has it. */
  readonly release: () => void;
}

export interface Steps extends Omit<Sequence, "release"> {
  /** How many tokens can be taken of a sequence. */
  readonly capacity: number;
  /** The next sequence that is free. */
  readonly hold: () => Promise<Sequence>;
  /** Of all runs so far. */
  readonly spent: () => Cost;
  readonly reset: () => void;
  readonly snapshot: () => Saved;
  readonly restore: (saved: Saved) => void;
  /** Gives the machine back: threads and memory. All but `close` raise LPU5110 from then on. */
  readonly close: () => void;
}

/** That so many tokens fit behind those that are taken: LPU5105. */
export function expectRoom(capacity: number, taken: number, count: number): void {
  if (taken + count <= capacity) return;
  fail("LPU5105", {
    message: `the context holds ${capacity} tokens; ${taken} are taken, ${count} do not fit`,
  });
}

/** What a sequence has taken, and what it is to take next. */
interface Seat {
  readonly index: number;
  taken: readonly number[];
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

const NOTHING: Step = { logits: new Float32Array(), cycles: 0, predictedCycles: 0, runs: 0 };

export function stepsOf<State>(of: Decoder<State>): Steps {
  const { context, past, given: names, logits: output, sequences } = of;
  const { vocabulary } = output;
  const capacity = capacityOf(past, context);
  const sizes = of.whole.blocks.map(({ tokens }) => tokens);
  const [longest = 1] = sizes;
  const seats = Array.from({ length: sequences }, (_, index): Seat => ({ index, ...EMPTY }));
  const first = at(seats, 0, "sequence");
  /** Nothing else refers to it, so that its memory goes when the model is closed. */
  let held: Decoder<State> | undefined = of;
  let spent: Cost = NOTHING;
  let isRunning = false;
  const waiting: (() => void)[] = [];
  const opened = (): Decoder<State> => held ?? fail("LPU5110", { message: "the language model is closed" });

  /** Takes so many tokens of some sequences, behind `rows` of their pasts; the others take what nothing will ever see. */
  const run = async (
    { run: runEntry, cycles: predictedCycles }: Entry,
    rows: number,
    count: number,
    taking: readonly Taking[],
  ) => {
    const blocks = seats.map((seat) => {
      const asked = taking.find((one) => one.seat === seat)?.asked;
      const tokens = asked?.tokens.slice(asked.next, asked.next + count) ?? new Array<number>(count).fill(0);
      return { past, context: rows, tokens, position: asked === undefined ? 0 : seat.taken.length };
    });
    const { outputs, cycles } = await runEntry(blockInputs(names, blocks));
    const own: Cost = { cycles, predictedCycles, runs: 1 };
    spent = added(spent, own);
    const made = outputs[output.name];
    const all = made === undefined ? new Float32Array() : toFloats(made);
    const size = all.length / sequences;
    for (const { seat, asked } of taking) {
      const end = (seat.index + 1) * size;
      seat.taken = [...seat.taken, ...at(blocks, seat.index, "block").tokens];
      asked.next += count;
      asked.sum = { logits: all.slice(end - vocabulary, end), ...added(asked.sum, own) };
      if (asked.next < asked.tokens.length) continue;
      seat.asked = undefined;
      asked.resolve(asked.sum);
    }
  };

  /** The run that all who have begun are ready for. */
  const takeNext = async (asking: readonly Taking[]): Promise<void> => {
    const { whole, shorter } = opened();
    const left = asking.map(({ seat, asked }) => ({
      left: asked.tokens.length - asked.next,
      isBegun: seat.taken.length > 0,
    }));
    const { count, takes } = nextRun(left, sizes);
    const taking = asking.filter((_, index) => takes[index]);
    const seesAll = ({ rows, blocks }: Decoder<State>["whole"]): boolean =>
      taking.every(({ seat }) => PASTS[past].sees(rows, seat.taken.length, count)) &&
      (count === 1 || blocks.some(({ tokens }) => tokens === count));
    const { rows, decode, blocks } = shorter.find(seesAll) ?? whole;
    const block = blocks.find(({ tokens }) => tokens === count);
    const begin = taking.every(({ seat }) => seat.taken.length === 0) ? block?.first : undefined;
    await (begin === undefined ? run(block?.entry ?? decode, rows, count, taking) : run(begin, 0, count, taking));
  };

  /** Runs as long as all who have begun have something to take; between two runs everyone has a turn. */
  const pump = async (): Promise<void> => {
    if (isRunning) return;
    isRunning = true;
    for (;;) {
      await turn();
      for (const { seat, asked } of askingOf(seats))
        if (asked.signal?.aborted === true) drop(seat, asked.signal.reason);
      const asking = askingOf(seats);
      const isReady = seats.every(({ isHeld, taken, asked }) => !isHeld || taken.length === 0 || asked !== undefined);
      if (asking.length === 0 || !isReady) break;
      try {
        await takeNext(asking);
      } catch (error) {
        for (const { seat } of asking) drop(seat, error);
      }
    }
    isRunning = false;
  };

  /** That so many tokens were taken before, and these can be. */
  const expectTokens = (tokens: readonly number[], before: number): void => {
    const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
    if (wrong !== undefined) fail("LPU5106", { message: `expected tokens from 0 to ${vocabulary - 1}, got ${wrong}` });
    if (tokens.length === 0) fail("LPU5106", { message: "expected a token, got none" });
    expectRoom(capacity, before, tokens.length);
  };

  const stepOf = async (seat: Seat, given: number | readonly number[], signal?: AbortSignal): Promise<Step> => {
    opened();
    const tokens = typeof given === "number" ? [given] : given;
    expectTokens(tokens, seat.taken.length);
    if (seat.asked !== undefined) fail("LPU5111", { message: "a step of this sequence has not ended yet" });
    return new Promise<Step>((resolve, reject) => {
      seat.asked = { tokens, signal, resolve, reject, next: 0, sum: NOTHING };
      void pump();
    });
  };

  const reset = (): void => {
    opened().reset();
    for (const seat of seats) seat.taken = [];
  };

  /** That there is one sequence, whose past is all of the states. */
  const alone = (what: string): void => {
    if (sequences > 1) fail("LPU5111", { message: `${what}: the model takes ${sequences} sequences side by side` });
  };

  const snapshot = (): Saved => {
    alone("snapshot");
    return { tokens: first.taken, states: opened().snapshot() };
  };
  const restore = (saved: Saved): void => {
    alone("restore");
    // What `snapshot` of this model gave.
    opened().restore(saved.states as State);
    first.taken = saved.tokens;
  };

  const wholeBlocks = (count: number): number => count - (count % longest);

  /**
   * Takes a prompt, from the past that is kept of it. Only ends of whole blocks of the longest kind are kept, since these are the
   * runs that the whole prompt has too: what is kept changes nothing of what is written.
   */
  const takeOf = async (
    seat: Seat,
    prompt: readonly number[],
    given: KeptPasts | undefined,
    signal?: AbortSignal,
  ): Promise<Prompted> => {
    opened();
    // Before the state changes.
    expectTokens(prompt, 0);
    const pasts = sequences === 1 ? given : undefined;
    const from = pasts?.longest(prompt);
    if (from !== undefined) restore(from);
    else if (sequences === 1) reset();
    else seat.taken = [];
    const kept = seat.taken.length;
    let cost: Cost = NOTHING;
    // At least one token is left, whose logits are wanted.
    const most = prompt.length - 1;
    const stations = pasts === undefined ? [] : [Math.min(most, pasts.shared(prompt)), most].map(wholeBlocks);
    for (const end of stations) {
      if (end <= seat.taken.length) continue;
      cost = added(cost, await stepOf(seat, prompt.slice(seat.taken.length, end), signal));
      pasts?.keep(snapshot());
    }
    const last = await stepOf(seat, prompt.slice(seat.taken.length), signal);
    return { ...last, ...added(cost, last), kept };
  };

  const positionOf = (seat: Seat): number => {
    opened();
    return seat.taken.length;
  };

  const release = (seat: Seat): void => {
    seat.isHeld = false;
    waiting.shift()?.();
    void pump();
  };

  const hold = async (): Promise<Sequence> => {
    for (;;) {
      opened();
      // One alone is nobody's: whoever writes next begins anew.
      const seat = sequences === 1 ? first : seats.find(({ isHeld }) => !isHeld);
      if (seat === undefined) {
        await new Promise<void>((resolve) => waiting.push(resolve));
        continue;
      }
      seat.isHeld = true;
      return {
        position: () => positionOf(seat),
        step: (tokens, signal) => stepOf(seat, tokens, signal),
        take: (prompt, pasts, signal) => takeOf(seat, prompt, pasts, signal),
        release: () => release(seat),
      };
    }
  };

  const close = (): void => {
    held?.close();
    held = undefined;
    for (const seat of seats) seat.taken = [];
    for (const go of waiting.splice(0)) go();
  };

  return {
    capacity,
    position: () => positionOf(first),
    step: async (tokens, signal) => {
      alone("step");
      return stepOf(first, tokens, signal);
    },
    take: async (prompt, pasts, signal) => {
      alone("take");
      return takeOf(first, prompt, pasts, signal);
    },
    hold,
    spent: () => spent,
    reset,
    snapshot,
    restore,
    close,
  };
}

const EMPTY = { taken: [], isHeld: false, asked: undefined } as const;

/** A sequence, and what it asks for. */
interface Taking {
  readonly seat: Seat;
  readonly asked: Asked;
}

const askingOf = (seats: readonly Seat[]): readonly Taking[] =>
  seats.flatMap((seat) => (seat.asked === undefined ? [] : [{ seat, asked: seat.asked }]));

const drop = (seat: Seat, reason: unknown): void => {
  const { asked } = seat;
  seat.asked = undefined;
  asked?.reject(reason);
};

/** Lets others have a turn, so that a long prompt does not keep a server from hearing. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const added = (a: Cost, b: Cost): Cost => ({
  cycles: a.cycles + b.cycles,
  predictedCycles: a.predictedCycles + b.predictedCycles,
  runs: a.runs + b.runs,
});
