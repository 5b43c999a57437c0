/**
 * Steps of a decoder whose past stays on the chip: one token a run, or a block of a prompt, and whole prompts behind what is kept.
 */

import { fail } from "../diagnostics.js";
import type { Tensor } from "../ir/graph.js";
import { toFloats } from "../ir/tensor.js";
import { blockInputs, capacityOf, type DecoderEntries, PASTS } from "./decoder.js";
import type { KeptPasts, Saved } from "./pasts.js";

/** What of an entry of a program on the machine is needed. */
export interface Entry {
  readonly cycles: number;
  readonly run: (
    inputs: Readonly<Record<string, readonly number[]>>,
  ) => Promise<{ readonly outputs: Readonly<Record<string, Tensor>>; readonly cycles: number }>;
}

/** A program with the shapes of `decoderShapes` and all its past as states. */
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

export interface Steps {
  /** How many tokens can be taken. */
  readonly capacity: number;
  /** Tokens of the past. */
  readonly position: () => number;
  readonly step: (tokens: number | readonly number[], signal?: AbortSignal) => Promise<Step>;
  readonly take: (prompt: readonly number[], pasts: KeptPasts | undefined, signal?: AbortSignal) => Promise<Prompted>;
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

export function stepsOf<State>(of: Decoder<State>): Steps {
  const { context, past, given: names, logits: output } = of;
  const { vocabulary } = output;
  const capacity = capacityOf(past, context);
  const [{ tokens: longest } = { tokens: 1 }] = of.whole.blocks;
  let taken: readonly number[] = [];
  /** Nothing else refers to it, so that its memory goes when the model is closed. */
  let held: Decoder<State> | undefined = of;
  const opened = (): Decoder<State> => held ?? fail("LPU5110", { message: "the language model is closed" });

  /** Behind `rows` of the past. */
  const runBlock = async (
    { run, cycles: predictedCycles }: Entry,
    rows: number,
    tokens: readonly number[],
  ): Promise<Step> => {
    const position = taken.length;
    const { outputs, cycles } = await run(blockInputs(names, { past, context: rows, tokens, position }));
    taken = [...taken, ...tokens];
    const logits = outputs[output.name];
    const last = logits === undefined ? new Float32Array() : toFloats(logits).slice(-vocabulary);
    return { logits: last, cycles, predictedCycles, runs: 1 };
  };

  /** Whether entries see all of the past before a run of so many tokens, and there is one that takes them. */
  const seesAll = ({ rows, blocks }: Decoder<State>["whole"], count: number): boolean =>
    PASTS[past].sees(rows, taken.length, count) && (count === 1 || blocks.some(({ tokens }) => tokens === count));

  /** That so many tokens were taken before, and these can be. */
  const expectTokens = (tokens: readonly number[], before: number): void => {
    const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
    if (wrong !== undefined) fail("LPU5106", { message: `expected tokens from 0 to ${vocabulary - 1}, got ${wrong}` });
    if (tokens.length === 0) fail("LPU5106", { message: "expected a token, got none" });
    expectRoom(capacity, before, tokens.length);
  };

  const step = async (given: number | readonly number[], signal?: AbortSignal): Promise<Step> => {
    opened();
    const tokens = typeof given === "number" ? [given] : given;
    expectTokens(tokens, taken.length);
    let sum: Step = { logits: new Float32Array(), cycles: 0, predictedCycles: 0, runs: 0 };
    for (let at = 0; at < tokens.length; ) {
      await turn();
      signal?.throwIfAborted();
      const { whole, shorter } = opened();
      const count = whole.blocks.find(({ tokens: size }) => tokens.length - at >= size)?.tokens ?? 1;
      const { rows, decode, blocks } = shorter.find((one) => seesAll(one, count)) ?? whole;
      const block = blocks.find(({ tokens: size }) => size === count);
      const first = taken.length === 0 ? block?.first : undefined;
      const next = tokens.slice(at, at + count);
      const own = await (first === undefined ? runBlock(block?.entry ?? decode, rows, next) : runBlock(first, 0, next));
      sum = { logits: own.logits, ...added(sum, own) };
      at += next.length;
    }
    return sum;
  };

  const reset = (): void => {
    opened().reset();
    taken = [];
  };

  const snapshot = (): Saved => ({ tokens: taken, states: opened().snapshot() });
  const restore = (saved: Saved): void => {
    // What `snapshot` of this model gave.
    opened().restore(saved.states as State);
    taken = saved.tokens;
  };

  const wholeBlocks = (count: number): number => count - (count % longest);

  /**
   * Takes a prompt, from the past that is kept of it. Only ends of whole blocks of the longest kind are kept, since these are the
   * runs that the whole prompt has too: what is kept changes nothing of what is written.
   */
  const take: Steps["take"] = async (prompt, pasts, signal) => {
    opened();
    // Before the state changes.
    expectTokens(prompt, 0);
    const from = pasts?.longest(prompt);
    if (from === undefined) reset();
    else restore(from);
    const kept = taken.length;
    let cost: Cost = { cycles: 0, predictedCycles: 0, runs: 0 };
    // At least one token is left, whose logits are wanted.
    const most = prompt.length - 1;
    const stations = pasts === undefined ? [] : [Math.min(most, pasts.shared(prompt)), most].map(wholeBlocks);
    for (const end of stations) {
      if (end <= taken.length) continue;
      cost = added(cost, await step(prompt.slice(taken.length, end), signal));
      pasts?.keep(snapshot());
    }
    const last = await step(prompt.slice(taken.length), signal);
    return { ...last, ...added(cost, last), kept };
  };

  const position = (): number => {
    opened();
    return taken.length;
  };

  const close = (): void => {
    held?.close();
    held = undefined;
    taken = [];
  };

  return { capacity, position, step, take, reset, snapshot, restore, close };
}

/** Lets others have a turn, so that a long prompt does not keep a server from hearing. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const added = (a: Cost, b: Cost): Cost => ({
  cycles: a.cycles + b.cycles,
  predictedCycles: a.predictedCycles + b.predictedCycles,
  runs: a.runs + b.runs,
});
