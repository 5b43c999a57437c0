/**
 * Which inputs of a decoder are what, and the shapes with which it takes tokens behind a window of past positions.
 *
 * The past lies at the end of the window: what is not filled yet stands at the left, where the attention mask has zeros, and
 * each run drops the oldest positions and adds its own at the right. So a decoder needs a mask, and it needs to be told the
 * position of its token: both are refused by name where they are missing (LPU5104), since values would be wrong.
 */

import { CompileError, fail } from "../diagnostics.js";
import { pastNames } from "../frontend/states.js";
import { int64ToNumber, type ValueInfoProto } from "../frontend/schema.js";
import type { GraphRecord } from "../frontend/source.js";
import type { Shape } from "../ir/graph.js";

/** What the host gives at each step; all other inputs are the past, which stays on the chip. */
export const ROLES = {
  ids: { name: "input_ids", doc: "the tokens" },
  mask: { name: "attention_mask", doc: "1 for each position that is filled, the token's own too" },
  positions: { name: "position_ids", doc: "how many tokens came before" },
} as const;

/**
 * Shapes of all inputs of a decoder for one sequence, `tokens` at once behind `context` past positions.
 *
 * @throws LPU5104 naming every input that is not a decoder's, and every one that is missing.
 */
export function decoderShapes(graph: GraphRecord, context: number, tokens: number): Readonly<Record<string, Shape>> {
  const inputs = inputsOf(graph);
  const names = inputs.map(({ name }) => name);
  const past = pastNames(
    names,
    graph.outputs.map(({ name }) => name),
  );
  const roles = new Map<string, Shape>([
    [ROLES.ids.name, [1, tokens]],
    [ROLES.mask.name, [1, context + tokens]],
    [ROLES.positions.name, [1, tokens]],
  ]);
  const problems = [
    ...names
      .filter((name) => !roles.has(name) && !past.has(name))
      .map((name) => `input '${name}' is none of ${[...roles.keys()].join(", ")} and has no output that follows it`),
    ...Object.values(ROLES)
      .filter(({ name }) => !names.includes(name))
      .map(({ name, doc }) => `there is no input '${name}' (${doc})`),
    ...(past.size === 0 ? ["no input and output are a past and a present: past_key_values.N and present.N"] : []),
  ].map((message) => new CompileError("LPU5104", { message }));
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return Object.fromEntries(inputs.map((input) => [input.name, roles.get(input.name) ?? pastShape(input, context)]));
}

/** Whether inputs and outputs are a past and a present. */
export function hasPast({ inputs, outputs }: GraphRecord): boolean {
  const [given, made] = [inputs, outputs].map((list) => list.map(({ name }) => name));
  return given !== undefined && made !== undefined && pastNames(given, made).size > 0;
}

/**
 * Shapes of all inputs of a decoder without a past, which takes `tokens` at once: a text, and what pads it at the right.
 *
 * @throws LPU5104 naming every input that is not a decoder's, and the tokens if they are missing.
 */
export function plainShapes(graph: GraphRecord, tokens: number): Readonly<Record<string, Shape>> {
  const names = inputsOf(graph).map(({ name }) => name);
  const roles: readonly string[] = Object.values(ROLES).map(({ name }) => name);
  const problems = [
    ...names.filter((name) => !roles.includes(name)).map((name) => `input '${name}' is none of ${roles.join(", ")}`),
    ...(names.includes(ROLES.ids.name) ? [] : [`there is no input '${ROLES.ids.name}' (${ROLES.ids.doc})`]),
  ].map((message) => new CompileError("LPU5104", { message }));
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return Object.fromEntries(names.map((name) => [name, [1, tokens]]));
}

const inputsOf = (graph: GraphRecord): readonly ValueInfoProto[] => {
  const constants = new Set(graph.initializers.map(({ proto }) => proto.name));
  return graph.inputs.filter(({ name }) => !constants.has(name));
};

/** [.., past, head width]: the past is the axis before the last; a batch that is only named is 1. */
function pastShape({ name, type }: ValueInfoProto, context: number): Shape {
  const dims = type?.tensorType?.shape?.dim;
  if (dims === undefined || dims.length < 3)
    return fail("LPU5104", { message: `input '${name}': expected an axis of past positions before the last` });
  const sizes = dims.map(({ value, dimValue }) => (value === "dimValue" ? int64ToNumber(dimValue) : undefined));
  const at = sizes.length - 2;
  const own = sizes[at];
  if (own !== undefined && own !== context)
    return fail("LPU5104", {
      message: `input '${name}': the model has ${own} past positions and no other number`,
      hint: `--context ${own}, or export with a dynamic axis for the past`,
    });
  if (sizes.some((size, axis) => size === undefined && axis !== at && axis > 1))
    return fail("LPU5104", {
      message: `input '${name}': expected the sizes of all but the batch and the past in the file`,
      hint: "export with dynamic axes for the batch and the past alone",
    });
  return sizes.map((size, axis) => (axis === at ? context : (size ?? 1)));
}

/** Tokens of the vocabulary, as far as the file says how many. */
export function declaredVocabulary(graph: GraphRecord): number | undefined {
  const logits = graph.outputs.find(({ name }) => name === LOGITS);
  const last = logits?.type?.tensorType?.shape?.dim.at(-1);
  return last?.value === "dimValue" ? int64ToNumber(last.dimValue) : undefined;
}

const LOGITS = "logits";

/** The output that has a number for each token of the vocabulary, its last axis. LPU5104 if there is not one. */
export function logitsOf(outputs: readonly { readonly name: string; readonly shape: Shape }[]): {
  readonly name: string;
  readonly vocabulary: number;
} {
  const logits = outputs.find(({ name }) => name === LOGITS) ?? (outputs.length === 1 ? outputs[0] : undefined);
  if (logits === undefined)
    return fail("LPU5104", {
      message: `expected an output '${LOGITS}', found ${outputs.map(({ name }) => `'${name}'`).join(", ")}`,
    });
  return { name: logits.name, vocabulary: logits.shape.at(-1) ?? 0 };
}
