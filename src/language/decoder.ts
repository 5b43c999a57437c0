/**
 * Which inputs of a decoder are what, and the shapes and values with which it takes tokens behind what came before.
 *
 * The past lies in one of two ways. In a window it stands at the end: what is not filled yet is at the left, where the mask has
 * zeros, and each run drops the oldest positions and adds its own at the right. In a cache each position has the row of its
 * number, and what is not filled yet is at the right. What a decoder must be told, so that it sees what is filled and nothing
 * else, is refused by name where it is missing (LPU5104), since values would be wrong.
 */

import { at, CompileError, fail } from "../diagnostics.js";
import type { FixedValue } from "../frontend/fix.js";
import { pastsOf } from "../frontend/states.js";
import { int64ToNumber, type ValueInfoProto } from "../frontend/schema.js";
import { type GraphRecord, type ModelSource, readModel } from "../frontend/source.js";
import type { Shape } from "../ir/graph.js";
import { halfLanes, type Target } from "../ir/target.js";

interface PastRow {
  /** Positions that a decoder has beyond the rows of its past. */
  readonly more: number;
  /** Whether an entry that sees so many rows sees all that is filled, if it takes `count` tokens behind `position` others. */
  readonly sees: (rows: number, position: number, count: number) => boolean;
  /** How many rows an entry sees, if it is to see some of `all`, and rows are loaded `half` at a time. */
  readonly seen: (rows: number, all: number, half: number) => number;
}

export type PastKind = "window" | "cache";

/**
 * How the past lies. Tokens of a window are behind it; what sees a part of it sees its end, which begins where a half-vector does, so
 * that values lie on the lanes on which the array takes them. Tokens of a cache are in it, and a part of it is its beginning.
 */
export const PASTS: Readonly<Record<PastKind, PastRow>> = {
  window: {
    more: 1,
    sees: (rows, position) => position <= rows,
    seen: (rows, all, half) => all - Math.floor((all - rows) / half) * half,
  },
  cache: { more: 0, sees: (rows, position, count) => position + count <= rows, seen: (rows) => rows },
};

/** How many tokens can be taken. */
export const capacityOf = (past: PastKind, context: number): number => context + PASTS[past].more;

/** Operators that place new rows by their number. */
const PLACING: readonly string[] = ["GroupQueryAttention", "TensorScatter"];

/** A run of a decoder for one sequence: these tokens, behind so many others. */
interface Block {
  readonly past: PastKind;
  readonly context: number;
  readonly tokens: readonly number[];
  readonly position: number;
}

/** How long the inputs of a run are. */
interface Extent {
  readonly past: PastKind;
  readonly context: number;
  readonly count: number;
}

interface Role {
  readonly doc: string;
  /** Values of one sequence. */
  readonly length: (extent: Extent) => number;
  readonly value: (block: Block, index: number) => number;
  /** Of one sequence has as many axes as the values have, if it is a list, and one more otherwise. */
  readonly isList?: true;
  readonly needed: readonly PastKind[];
}

const isFilled = ({ past, context, tokens, position }: Block, index: number): boolean =>
  past === "window" ? index >= context - position : index < position + tokens.length;

/** What the host gives at each step, by the input's name; all other inputs are the past, which stays on the chip, or fixed. */
const ROLES: Readonly<Record<string, Role>> = {
  input_ids: {
    doc: "the tokens",
    length: ({ count }) => count,
    value: ({ tokens }, index) => at(tokens, index, "token"),
    needed: ["window", "cache"],
  },
  attention_mask: {
    doc: "1 for each position that is filled, the token's own too",
    length: ({ past, context, count }) => (past === "window" ? context + count : context),
    value: (block, index) => Number(isFilled(block, index)),
    needed: ["window"],
  },
  position_ids: {
    doc: "how many tokens came before",
    length: ({ count }) => count,
    value: ({ position }, index) => position + index,
    needed: ["window"],
  },
  write_indices: {
    doc: "where the new rows go",
    length: () => 1,
    value: ({ position }) => position,
    isList: true,
    needed: [],
  },
  nonpad_kv_seqlen: {
    doc: "how many positions are filled",
    length: () => 1,
    value: ({ position, tokens }) => position + tokens.length,
    isList: true,
    needed: [],
  },
};

const MASK = "attention_mask";

/** Either tells a decoder with a cache what of it is filled. */
const TELLING = [MASK, "nonpad_kv_seqlen"] as const;

/** Inputs that choose among ways through a decoder, and what they must be for one with a past that writes. */
const FIXED: Readonly<Record<string, readonly (number | boolean)[]>> = {
  use_cache_branch: [true],
  num_logits_to_keep: [1],
};

export interface DecoderShapes {
  readonly past: PastKind;
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly fix: Readonly<Record<string, FixedValue>>;
}

/**
 * Shapes of all inputs of a decoder for `batch` sequences, `tokens` of each at once behind `context` past positions.
 *
 * @throws LPU5104 naming every input that is not a decoder's, and every one that is missing.
 */
export function decoderShapes(graph: GraphRecord, context: number, tokens: number, batch = 1): DecoderShapes {
  const inputs = inputsOf(graph);
  const names = inputs.map(({ name }) => name);
  const pasts = pastsOf({ inputs, outputs: graph.outputs });
  const past = graph.nodes.some(({ opType }) => PLACING.includes(opType)) ? "cache" : "window";
  const roles = Object.entries(ROLES);
  const missing = (name: string): string => `there is no input '${name}' (${ROLES[name]?.doc ?? ""})`;
  const problems = [
    ...(pasts.size === 0 ? ["no input and output are a past and a present: past_key_values.N and present.N"] : []),
    ...names.filter((name) => ROLES[name] === undefined && FIXED[name] === undefined && !pasts.has(name)).map(noRole),
    ...roles
      .filter(([name, { needed }]) => needed.includes(past) && !names.includes(name))
      .map(([name]) => missing(name)),
    ...(past === "cache" && !TELLING.some((name) => names.includes(name)) ? [missing(TELLING[0])] : []),
  ].map((message) => new CompileError("LPU5104", { message }));
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  const extent = { past, context, count: tokens } as const;
  const shapes = inputs.flatMap((input): [string, Shape][] => {
    const role = ROLES[input.name];
    if (role === undefined) return pasts.has(input.name) ? [[input.name, pastShape(input, context, batch)]] : [];
    const length = role.length(extent);
    return [[input.name, role.isList === true ? [batch * length] : [batch, length]]];
  });
  const fixed = Object.entries(FIXED).filter(([name]) => names.includes(name));
  return { past, shapes: Object.fromEntries(shapes), fix: Object.fromEntries(fixed) };
}

/** What an entry of a decoder is built with: of its logits those behind its last token. */
export interface EntryShapes extends Omit<DecoderShapes, "past"> {
  readonly last: readonly string[];
}

/** What a decoder is to be built for. */
export interface Buckets {
  /** How many positions a token can look back upon: the most, and fewer for entries that take less time while these suffice. */
  readonly contexts: readonly number[];
  /** Tokens of a prompt that are taken at once. */
  readonly prefill: readonly number[];
  /** Sequences that are taken side by side. */
  readonly batch: number;
}

/**
 * How a decoder is built to take one token a step behind others, and so many of a prompt at once, each an entry of its own: behind
 * others, and where the past is a window whose length the file leaves open, also as the first, which has no past to look back upon.
 */
export function decoderEntries(
  graph: GraphRecord,
  { contexts, prefill, batch }: Buckets,
  target: Target,
): Readonly<Record<string, EntryShapes>> {
  const presents = new Set(pastsOf({ inputs: inputsOf(graph), outputs: graph.outputs }).values());
  const logits = logitsAmong(graph.outputs.filter(({ name }) => !presents.has(name)));
  const last = logits === undefined ? [] : [logits.name];
  const entry = (behind: number, tokens: number): EntryShapes => {
    const { shapes, fix } = decoderShapes(graph, behind, tokens, batch);
    return { shapes, fix, last };
  };
  const blocks = [...new Set(prefill)].filter((tokens) => tokens > 1).sort((a, b) => a - b);
  expectSequences(batch);
  const { past } = decoderShapes(graph, mostOf(contexts), 1, batch);
  const hasFirst = past === "window" && hasOpenPast(graph);
  const all = rowsSeen(graph, past, contexts, halfLanes(target));
  const behind = (rows: number): string => (all.length === 1 ? "" : `-${rows}`);
  const named = (name: string, tokens: number, isOnly: boolean): string =>
    blocks.length === 1 && isOnly ? name : `${name}-${tokens}`;
  return Object.fromEntries([
    // A state has the rows of the first entry.
    ...all.map((rows) => [`decode${behind(rows)}`, entry(rows, 1)] as const),
    ...blocks.flatMap((tokens) => [
      ...all
        .filter((rows) => PASTS[past].sees(rows, 0, tokens))
        .map((rows) => [`${named("prefill", tokens, all.length === 1)}${behind(rows)}`, entry(rows, tokens)] as const),
      ...(hasFirst ? [[named("first", tokens, true), entry(0, tokens)] as const] : []),
    ]),
  ]);
}

/** The most of some contexts. LPU5104 if there is none, or one is no number of positions. */
export function mostOf(contexts: readonly number[]): number {
  if (contexts.length === 0 || contexts.some((context) => !Number.isInteger(context) || context < 1))
    fail("LPU5104", { message: `expected contexts of at least 1, got ${contexts.join(", ") || "none"}` });
  return Math.max(...contexts);
}

function expectSequences(batch: number): void {
  if (!Number.isInteger(batch) || batch < 1)
    fail("LPU5104", { message: `expected a batch of at least one sequence, got ${batch}` });
}

/** Rows of the past that entries see for some contexts, the most first. */
function rowsSeen(graph: GraphRecord, past: PastKind, contexts: readonly number[], half: number): readonly number[] {
  const whole = mostOf(contexts);
  const rowsOf = (context: number): number => PASTS[past].seen(context, whole, half);
  const useless = contexts.find((context) => context < whole && rowsOf(context) === whole);
  if (useless !== undefined)
    fail("LPU5104", {
      message: `context ${useless}: of a window of ${whole} positions all but a multiple of ${half} is seen, which is all of them`,
      hint: `--context ${whole}${whole > half ? `, or beside it ${whole - half} or less` : ""}`,
    });
  const rows = [...new Set(contexts.map(rowsOf))].sort((a, b) => b - a);
  if (rows.length > 1 && !inputsOf(graph).some(({ name }) => name === MASK))
    fail("LPU5104", {
      message: `contexts ${contexts.join(", ")}: there is no input '${MASK}', whose length says how much of the past an entry sees`,
      hint: `--context ${whole}`,
    });
  return rows;
}

/** Whether the file leaves open how many positions the past has. */
function hasOpenPast(graph: GraphRecord): boolean {
  const inputs = inputsOf(graph);
  const pasts = pastsOf({ inputs, outputs: graph.outputs });
  return inputs.every(
    ({ name, type }) => !pasts.has(name) || type?.tensorType?.shape?.dim.at(-2)?.value === "dimParam",
  );
}

interface Described {
  readonly name: string;
  readonly inputs: readonly { readonly name: string; readonly shape: Shape }[];
}

/** An entry that takes `tokens` at once behind others, and one that does where nothing was taken before. */
export interface BlockEntry<E> {
  readonly tokens: number;
  readonly entry: E;
  readonly first: E | undefined;
}

/** Entries that see so many rows of the past. */
export interface BucketEntries<E> {
  readonly rows: number;
  /** Takes one token. */
  readonly decode: E;
  /** Those that take more than one token, from the one that takes most. */
  readonly blocks: readonly BlockEntry<E>[];
}

export interface DecoderEntries<E> {
  /** How many each run takes side by side. */
  readonly sequences: number;
  /** Rows of the past, and how it lies there. */
  readonly context: number;
  readonly past: PastKind;
  /** Names of the inputs that the host gives. */
  readonly given: readonly string[];
  /** What sees the whole past. */
  readonly whole: BucketEntries<E>;
  /** What sees less of it, from what sees least. */
  readonly shorter: readonly BucketEntries<E>[];
}

/**
 * What the entries of a program are for, whose states are the pasts of as many sequences as each entry takes.
 *
 * @throws LPU5104 for a program that is no decoder, or has none that takes one token.
 */
export function decoderIn<E extends Described>(
  entries: readonly E[],
  states: readonly { readonly name: string; readonly shape: Shape }[],
): DecoderEntries<E> {
  const idsOf = ({ inputs }: E): Shape => inputs.find(({ name }) => name === "input_ids")?.shape ?? [];
  const sequences = Math.max(1, ...entries.flatMap((entry) => idsOf(entry).slice(0, 1)));
  const tokensOf = (entry: E): number => {
    const [batch, tokens = 0] = idsOf(entry);
    return batch === sequences ? tokens : 0;
  };
  const maskedIn = ({ inputs }: E): number | undefined => inputs.find(({ name }) => name === MASK)?.shape.at(-1);
  const decodes = entries.filter((entry) => tokensOf(entry) === 1);
  const longest = decodes.reduce<E | undefined>(
    (most, entry) => (most === undefined || (maskedIn(entry) ?? 0) > (maskedIn(most) ?? 0) ? entry : most),
    undefined,
  );
  const context = states[0]?.shape.at(-2);
  if (longest === undefined || context === undefined)
    return fail("LPU5104", {
      message: `expected an entry that takes one token (input_ids) and states, found ${entries.map(({ name }) => `'${name}'`).join(", ")} and ${states.length} states`,
      hint: "lpu build MODEL --context 256 makes such an image of a decoder with past and present",
    });
  const given = longest.inputs.map(({ name }) => name);
  const foreign = given.find((name) => ROLES[name] === undefined);
  if (foreign !== undefined) return fail("LPU5104", { message: noRole(foreign) });
  const past = (maskedIn(longest) ?? context) === context ? "cache" : "window";
  const rowsOf = (entry: E): number => {
    const masked = maskedIn(entry);
    return masked === undefined ? context : masked - (past === "window" ? tokensOf(entry) : 0);
  };
  const isFirst = (entry: E): boolean => past === "window" && rowsOf(entry) === 0;
  const bucketOf = (decode: E): BucketEntries<E> => {
    const rows = rowsOf(decode);
    const blocks = entries
      .filter((entry) => tokensOf(entry) > 1 && rowsOf(entry) === rows)
      .map((entry) => {
        const tokens = tokensOf(entry);
        return { tokens, entry, first: entries.find((other) => isFirst(other) && tokensOf(other) === tokens) };
      });
    return { rows, decode, blocks: blocks.sort((a, b) => b.tokens - a.tokens) };
  };
  const shorter = decodes.filter((entry) => rowsOf(entry) < rowsOf(longest)).map(bucketOf);
  const [whole, seen] = [bucketOf(longest), shorter.sort((a, b) => a.rows - b.rows)];
  return { sequences, past, context, given, whole, shorter: seen };
}

const noRole = (name: string): string =>
  `input '${name}' is none of ${Object.keys(ROLES).join(", ")} and has no output that follows it`;

/** What is given to those inputs of a decoder that the host has: of each sequence its block, of as many tokens as the others. */
export const blockInputs = (
  names: readonly string[],
  blocks: readonly Block[],
): Readonly<Record<string, readonly number[]>> =>
  Object.fromEntries(
    names.flatMap((name) => {
      const role = ROLES[name];
      if (role === undefined) return [];
      const valuesOf = (block: Block): readonly number[] =>
        Array.from({ length: role.length({ ...block, count: block.tokens.length }) }, (_, index) =>
          role.value(block, index),
        );
      return [[name, blocks.flatMap(valuesOf)] as const];
    }),
  );

/** Whether inputs and outputs are a past and a present. */
export const hasPast = (graph: GraphRecord): boolean => pastsOf(graph).size > 0;

export const sourceHasPast = (source: ModelSource): boolean => hasPast(readModel(source).graph);

/** Inputs of a decoder without a past. */
const PLAIN: readonly string[] = ["input_ids", "attention_mask", "position_ids"];

/**
 * Shapes of all inputs of a decoder without a past, which takes `tokens` at once: a text, and what pads it at the right.
 *
 * @throws LPU5104 naming every input that is not a decoder's, and the tokens if they are missing.
 */
export function plainShapes(graph: GraphRecord, tokens: number): Readonly<Record<string, Shape>> {
  const names = inputsOf(graph).map(({ name }) => name);
  const roles = PLAIN;
  const problems = [
    ...names.filter((name) => !roles.includes(name)).map((name) => `input '${name}' is none of ${roles.join(", ")}`),
    ...(names.includes("input_ids") ? [] : [`there is no input 'input_ids' (${ROLES["input_ids"]?.doc})`]),
  ].map((message) => new CompileError("LPU5104", { message }));
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return Object.fromEntries(names.map((name) => [name, [1, tokens]]));
}

const inputsOf = (graph: GraphRecord): readonly ValueInfoProto[] => {
  const constants = new Set(graph.initializers.map(({ proto }) => proto.name));
  return graph.inputs.filter(({ name }) => !constants.has(name));
};

/** [.., batch, heads, past, head width]; a batch that is only named is as large as it is asked for. */
function pastShape({ name, type }: ValueInfoProto, context: number, batch: number): Shape {
  const dims = type?.tensorType?.shape?.dim;
  if (dims === undefined || dims.length < 3)
    return fail("LPU5104", { message: `input '${name}': expected an axis of past positions before the last` });
  const sizes = dims.map(({ value, dimValue }) => (value === "dimValue" ? int64ToNumber(dimValue) : undefined));
  const behind = sizes.length - 2;
  const own = sizes[behind];
  if (own !== undefined && own !== context)
    return fail("LPU5104", {
      message: `input '${name}': the model has ${own} past positions and no other number`,
      hint: `--context ${own}, or export with a dynamic axis for the past`,
    });
  if (sizes.some((size, axis) => size === undefined && axis !== behind && axis > 1))
    return fail("LPU5104", {
      message: `input '${name}': expected the sizes of all but the batch and the past in the file`,
      hint: "export with dynamic axes for the batch and the past alone",
    });
  const first = Math.max(0, sizes.length - 4);
  const sequences = sizes[first];
  if (sequences !== undefined && sequences !== batch)
    return fail("LPU5104", {
      message: `input '${name}': the model takes a batch of ${sequences} and no other, ${batch} is asked for`,
      hint: `--batch ${sequences}, or export with a dynamic axis for the batch`,
    });
  return sizes.map((size, axis) => size ?? (axis === behind ? context : batch));
}

/** Tokens of the vocabulary, as far as the file says how many. */
export function declaredVocabulary(graph: GraphRecord): number | undefined {
  const logits = graph.outputs.find(({ name }) => name === LOGITS);
  const last = logits?.type?.tensorType?.shape?.dim.at(-1);
  return last?.value === "dimValue" ? int64ToNumber(last.dimValue) : undefined;
}

const LOGITS = "logits";

const logitsAmong = <Output extends { readonly name: string }>(outputs: readonly Output[]): Output | undefined =>
  outputs.find(({ name }) => name === LOGITS) ?? (outputs.length === 1 ? outputs[0] : undefined);

/** The output that has a number for each token of the vocabulary, its last axis. LPU5104 if there is not one. */
export function logitsOf(outputs: readonly { readonly name: string; readonly shape: Shape }[]): {
  readonly name: string;
  readonly vocabulary: number;
} {
  const logits = logitsAmong(outputs);
  if (logits === undefined)
    return fail("LPU5104", {
      message: `expected an output '${LOGITS}', found ${outputs.map(({ name }) => `'${name}'`).join(", ")}`,
    });
  return { name: logits.name, vocabulary: logits.shape.at(-1) ?? 0 };
}
