/**
 * Steps of a decoder whose past stays on the chip: of one sequence, or of several side by side, token by token and whole prompts
 * behind what is kept.
 */

import { at, fail } from "../diagnostics.js";
import { capacityOf } from "./decoder.js";
import type { KeptPasts, Saved } from "./pasts.js";
import {
  added,
  ask,
  type Cost,
  type Decoder,
  goOn,
  newRunning,
  NO_COST,
  opened,
  type Running,
  type Seat,
  type Step,
} from "./runs.js";

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

export interface Steps {
  /** How many tokens can be taken of a sequence. */
  readonly capacity: number;
  /** Of the first sequence. */
  readonly position: () => number;
  /** As of a sequence, where there is one: LPU5111. */
  readonly step: (tokens: number | readonly number[]) => Promise<Step>;
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

/** That so many tokens were taken before, and these can be. */
function expectTokens<State>(
  { logits: { vocabulary }, past, context }: Decoder<State>,
  tokens: readonly number[],
  before: number,
): void {
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
  if (wrong !== undefined) fail("LPU5106", { message: `expected tokens from 0 to ${vocabulary - 1}, got ${wrong}` });
  if (tokens.length === 0) fail("LPU5106", { message: "expected a token, got none" });
  expectRoom(capacityOf(past, context), before, tokens.length);
}

const stepOf = async <State>(
  running: Running<State>,
  seat: Seat,
  given: number | readonly number[],
  signal?: AbortSignal,
): Promise<Step> => {
  const tokens = typeof given === "number" ? [given] : given;
  expectTokens(opened(running), tokens, seat.taken.length);
  return ask(running, seat, tokens, signal);
};

/** That there is one sequence, whose past is all of the states: LPU5111. */
const alone = <State>({ seats }: Running<State>, what: string): Seat => {
  if (seats.length > 1) fail("LPU5111", { message: `${what}: the model takes ${seats.length} sequences side by side` });
  return at(seats, 0, "sequence");
};

const reset = <State>(running: Running<State>): void => {
  opened(running).reset();
  for (const seat of running.seats) seat.taken = [];
};

const snapshot = <State>(running: Running<State>): Saved => ({
  tokens: alone(running, "snapshot").taken,
  states: opened(running).snapshot(),
});

const restore = <State>(running: Running<State>, saved: Saved): void => {
  const seat = alone(running, "restore");
  // What `snapshot` of this model gave.
  opened(running).restore(saved.states as State);
  seat.taken = saved.tokens;
};

/** A prompt, and what is kept of others. */
interface Prompt {
  readonly prompt: readonly number[];
  readonly pasts: KeptPasts | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Takes a prompt, from the past that is kept of it. Only ends of whole blocks of the longest kind are kept, since these are the
 * runs that the whole prompt has too: what is kept changes nothing of what is written.
 */
async function takeOf<State>(
  running: Running<State>,
  seat: Seat,
  { prompt, pasts, signal }: Prompt,
): Promise<Prompted> {
  const { whole, sequences } = opened(running);
  // Before the state changes.
  expectTokens(opened(running), prompt, 0);
  const own = sequences === 1 ? pasts : undefined;
  const from = own?.longest(prompt);
  if (from !== undefined) restore(running, from);
  else if (sequences === 1) reset(running);
  else seat.taken = [];
  const kept = seat.taken.length;
  let cost: Cost = NO_COST;
  // At least one token is left, whose logits are wanted.
  const most = prompt.length - 1;
  const [{ tokens: longest } = { tokens: 1 }] = whole.blocks;
  const wholeBlocks = (count: number): number => count - (count % longest);
  const stations = own === undefined ? [] : [Math.min(most, own.shared(prompt)), most].map(wholeBlocks);
  for (const end of stations) {
    if (end <= seat.taken.length) continue;
    cost = added(cost, await stepOf(running, seat, prompt.slice(seat.taken.length, end), signal));
    own?.keep(snapshot(running));
  }
  const last = await stepOf(running, seat, prompt.slice(seat.taken.length), signal);
  return { ...last, ...added(cost, last), kept };
}

const positionOf = <State>(running: Running<State>, seat: Seat): number => {
  opened(running);
  return seat.taken.length;
};

export function stepsOf<State>(decoder: Decoder<State>): Steps {
  const running = newRunning(decoder);
  const { seats } = running;
  /** Texts that wait for a sequence. */
  const waiting: (() => void)[] = [];

  const held = (seat: Seat): Sequence => {
    seat.isHeld = true;
    return {
      position: () => positionOf(running, seat),
      step: (tokens, signal) => stepOf(running, seat, tokens, signal),
      take: (prompt, pasts, signal) => takeOf(running, seat, { prompt, pasts, signal }),
      release: () => {
        seat.isHeld = false;
        waiting.shift()?.();
        void goOn(running);
      },
    };
  };

  return {
    capacity: capacityOf(decoder.past, decoder.context),
    position: () => positionOf(running, at(seats, 0, "sequence")),
    step: async (tokens) => stepOf(running, alone(running, "step"), tokens),
    hold: async () => {
      for (;;) {
        opened(running);
        // One alone is nobody's: whoever writes next begins anew.
        const seat = seats.length === 1 ? seats[0] : seats.find(({ isHeld }) => !isHeld);
        if (seat !== undefined) return held(seat);
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    spent: () => running.spent,
    reset: () => reset(running),
    snapshot: () => snapshot(running),
    restore: (saved) => restore(running, saved),
    close: () => {
      running.decoder?.close();
      running.decoder = undefined;
      for (const seat of seats) seat.taken = [];
      for (const go of waiting.splice(0)) go();
    },
  };
}
