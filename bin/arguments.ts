/**
 * The values of options that have a form of their own: `name=value` lists. All that is wrong in a list is one error.
 */

import { availableParallelism } from "node:os";
import { throwTogether } from "../src/host/edge.js";
import { CompileError, fail } from "../src/diagnostics.js";
import type { WireFlip } from "../src/runtime/disturb.js";
import type { StateOption } from "../src/frontend/states.js";
import { failUnknown, isSystem, type SystemName } from "../src/ir/system.js";
import type { Stages } from "../src/pipeline.js";
import { TARGETS, type TargetName } from "../src/ir/target.js";
import { WEIGHT_FORMATS } from "../src/ir/weights.js";

/** `--bind batch=1 --bind seq=128`, or `--bind batch=1,seq=128`. */
export function parseBinds(options: readonly string[]): Record<string, number> {
  return parsePairs(
    "--bind",
    "batch=1",
    options.flatMap((option) => option.split(/,(?=[\w.]+=\d)/)),
    (text) => {
      const extent = Number(text);
      return /^\d+$/.test(text) && Number.isSafeInteger(extent) && extent > 0 ? extent : undefined;
    },
  );
}

/** `--shape input_ids=1x128`. */
export function parseShapes(options: readonly string[]): Record<string, readonly number[]> {
  return parsePairs("--shape", "input_ids=1x128", options, (text) =>
    /^\d+([x,]\d+)*$/.test(text) ? text.split(/[x,]/).map(Number) : undefined,
  );
}

interface NumberOption {
  readonly value: number | undefined;
  readonly least: number;
  /** It must be above the least. */
  readonly isAbove?: true;
  readonly most?: number;
  readonly whole: boolean;
}

/** Numbers within their bounds, by option, as far as they are given; all that are not are one error. */
export function parseNumbers<Options extends Readonly<Record<string, NumberOption>>>(
  options: Options,
): { readonly [Name in keyof Options]: Options[Name]["value"] } {
  const given = Object.entries<NumberOption>(options);
  throwTogether(
    given.flatMap(([name, option]) =>
      option.value === undefined || isWithin(option.value, option)
        ? []
        : [new CompileError("LPU5008", { message: `${name}: expected ${boundsOf(option)}` })],
    ),
  );
  // The names are those of the options.
  return Object.fromEntries(given.map(([name, { value }]) => [name, value])) as {
    [Name in keyof Options]: Options[Name]["value"];
  };
}

const isWithin = (value: number, { least, isAbove, most = Number.MAX_SAFE_INTEGER, whole }: NumberOption): boolean =>
  (isAbove ? value > least : value >= least) && value <= most && (!whole || Number.isInteger(value));

function boundsOf({ least, isAbove, most, whole }: NumberOption): string {
  const bounds = most !== undefined ? `from ${least} to ${most}` : isAbove ? `above ${least}` : `of at least ${least}`;
  return `a ${whole ? "whole number" : "number"} ${bounds}`;
}

type Given<Values> = { readonly [Name in keyof Values]?: Exclude<Values[Name], undefined> };

/** Without those that are not given. */
export const given = <Values extends object>(values: Values): Given<Values> =>
  // What is left out are the names whose value is undefined.
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<Values>;

/** `--input input_ids=ids.npy`; the first `=` ends the name, because a path may have others. */
export function parseInputs(options: readonly string[]): Record<string, string> {
  return parsePairs("--input", "input_ids=ids.npy", options, (text) => (text === "" ? undefined : text));
}

/** `--state past.0.key=present.0.key`, or `--state auto`. */
export function parseStates(options: readonly string[]): StateOption {
  if (options.length === 1 && options[0] === "auto") return "auto";
  return parsePairs("--state", "past.0.key=present.0.key", options, (text) => (text === "" ? undefined : text));
}

/** `--entry decode:seq=1,past=255`: what sizes of dimensions an entry has. */
export function parseEntries(options: readonly string[]): Record<string, { readonly bind: Record<string, number> }> {
  return parsePairs("--entry", "decode:seq=1,past=255", options, (text) => ({ bind: parseBinds([text]) }));
}

/** A file of a tensor, or the elements themselves. */
export type FixText = string | readonly (number | boolean)[];

/** `--fix k=5`, `--fix axes=1,2`, `--fix use_cache=false`, `--fix mask=mask.npy`. */
export function parseFixes(options: readonly string[]): Record<string, FixText> {
  return parsePairs("--fix", "k=5, --fix axes=1,2, --fix flag=true or --fix mask=mask.npy", options, (text) => {
    if (/\.(npy|pb)$/i.test(text)) return text;
    const elements = text.split(",").map(parseElement);
    return elements.some((element) => element === undefined) ? undefined : elements.flatMap((element) => element ?? []);
  });
}

const WORDS: Readonly<Record<string, number | boolean>> = {
  true: true,
  false: false,
  inf: Number.POSITIVE_INFINITY,
  "-inf": Number.NEGATIVE_INFINITY,
  nan: Number.NaN,
};

function parseElement(text: string): number | boolean | undefined {
  const plain = text.trim().toLowerCase();
  if (Object.hasOwn(WORDS, plain)) return WORDS[plain];
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/.test(plain) ? Number(plain) : undefined;
}

export function parseTarget(name: string): TargetName {
  if (isTarget(name)) return name;
  return fail("LPU5008", {
    message: `--target: unknown target '${name}'`,
    hint: `targets are ${Object.keys(TARGETS).join(", ")} (lpu targets)`,
  });
}

/** `--system node2`; undefined if it is not given. */
export function parseSystem(name: string | undefined): SystemName | undefined {
  return name === undefined || isSystem(name) ? name : failUnknown(name, "--system: ");
}

/** `--dead 3,9`. */
export function parseDead(text: string | undefined): readonly number[] {
  if (text === undefined) return [];
  if (!/^\d{1,6}(,\d{1,6})*$/.test(text))
    fail("LPU5008", { message: `--dead: expected numbers of chips like 3,9, got '${text}'` });
  return [...new Set(text.split(",").map(Number))].sort((a, b) => a - b);
}

/** `--stages 2`, or `--stages auto`; undefined if it is not given. */
function parseStages(text: string | undefined): Stages | undefined {
  if (text === undefined || text === "auto") return text;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  return fail("LPU5008", {
    message: `--stages: expected a whole number of at least 1, or auto, got '${text}'`,
  });
}

/** `--context 256` or `--context 256,1024`; undefined if it is not given. */
export const parseContexts = (text: string | undefined): readonly number[] | undefined =>
  parseList("--context", text, "256 or 256,1024");

/** `--prefill 16,128`, each no longer than the longest context; undefined if it is not given. */
export const parsePrefill = (text: string | undefined, context: number | undefined): readonly number[] | undefined =>
  parseList("--prefill", text, "16 or 16,128", context);

function parseList(
  option: string,
  text: string | undefined,
  like: string,
  most?: number,
): readonly number[] | undefined {
  if (text === undefined) return undefined;
  const numbers = /^\d{1,9}(,\d{1,9})*$/.test(text) ? text.split(",").map(Number) : [];
  if (numbers.length > 0 && numbers.every((number) => number >= 1 && number <= (most ?? number))) return numbers;
  return fail("LPU5008", {
    message: `${option}: expected whole numbers ${most === undefined ? "of at least 1" : `from 1 to ${most}`} like ${like}, got '${text}'`,
  });
}

interface DeviceWords {
  readonly system?: string | undefined;
  readonly chips: number | undefined;
  readonly dead?: string | undefined;
  readonly stages: string | undefined;
  readonly tensor: number | undefined;
}

/** `--system node4 --chips 3 --dead 1 --stages 2 --tensor 2`, as far as they are given. */
export function parseDevices({ system, chips, dead, stages, tensor }: DeviceWords) {
  const numbers = parseNumbers({
    "--chips": { value: chips, least: 1, whole: true },
    "--tensor": { value: tensor, least: 1, whole: true },
  });
  return {
    system: parseSystem(system),
    chips: numbers["--chips"],
    dead: parseDead(dead),
    stages: parseStages(stages),
    tensor: numbers["--tensor"],
  };
}

/** `--threads 4`; as many as this computer has cores, if it is not given. */
export const parseThreads = (threads: number | undefined): number =>
  parseNumbers({ "--threads": { value: threads, least: 1, whole: true } })["--threads"] ?? availableParallelism();

/** `--stage 0`: a number of which 0 is one, so that an empty word must not be taken for it; undefined if it is not given. */
export function parseWhole(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  return fail("LPU5008", { message: `${name}: expected a whole number of at least 0, once, got '${text}'` });
}

/** `--fault wire:1200`, or `wire:1200:7` for another bit than the first of the vector. */
export function parseFault(text: string | undefined): WireFlip | undefined {
  if (text === undefined) return undefined;
  const [, cycle, bit = "0"] = /^wire:(\d{1,9})(?::(\d{1,4}))?$/.exec(text) ?? [];
  if (cycle === undefined)
    return fail("LPU5008", { message: `--fault: expected wire:CYCLE or wire:CYCLE:BIT, got '${text}'` });
  return { cycle: Number(cycle), bit: Number(bit) };
}

export const WEIGHT_WORDS: readonly string[] = Object.keys(WEIGHT_FORMATS);

const isTarget = (name: string): name is TargetName => Object.hasOwn(TARGETS, name);

/**
 * Names of dimensions may be expressions with anything in them, so the last `=` ends a name; paths too, so of `--input` and
 * `--fix` the first does. A colon ends the name of an entry.
 */
const cutOf = (option: string, text: string): number => {
  if (option === "--entry") return text.indexOf(":");
  return option === "--bind" || option === "--shape" ? text.lastIndexOf("=") : text.indexOf("=");
};

function parsePairs<Value>(
  option: string,
  example: string,
  texts: readonly string[],
  parse: (text: string) => Value | undefined,
): Record<string, Value> {
  const problems: CompileError[] = [];
  const pairs = new Map<string, Value>();
  const refuse = (message: string): void =>
    void problems.push(new CompileError("LPU5008", { message, hint: `write it like ${option} ${example}` }));
  for (const text of texts) {
    const cut = cutOf(option, text);
    const name = text.slice(0, Math.max(0, cut));
    const value = cut < 1 ? undefined : parse(text.slice(cut + 1));
    if (value === undefined) refuse(`${option}: expected a name and a value, found '${text}'`);
    else if (pairs.has(name)) refuse(`${option}: '${name}' is given twice`);
    else pairs.set(name, value);
  }
  throwTogether(problems);
  return Object.fromEntries(pairs);
}

/** The configuration of devices of a model; none at all if it is called so. */
export const parseConfiguration = (text: string | undefined): string | false | undefined =>
  text === "none" ? false : text;
