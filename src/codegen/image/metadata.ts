/**
 * The JSON records of an image (target, program, origins) and their readers.
 *
 * A reader is a function from an unknown value and its path to a typed one, or LPU3035 with the path; records are built
 * from readers, so the shape of the JSON is written once. Keys stand in the order of these records and unknown keys are
 * refused: a text that reads is the text that would be written. This file is the boundary where `unknown` becomes typed.
 */

import { fail } from "../../diagnostics.js";
import { DTYPES, type DType, type EdgeDType } from "../../ir/dtype.js";
import type { Binding, EntryPoint, Link, Placement, StateBinding } from "../../ir/program.js";
import { type Hemisphere, TARGETS, type Target } from "../../ir/target.js";

/** A host lookup without its table: `table` is its number in the section `lookups`. */
export interface LookupRecord {
  readonly origin: string;
  readonly dtype: DType;
  readonly rows: number;
  readonly width: number;
  readonly table: number;
}
export type BindingRecord = Omit<Binding, "lookup"> & { readonly lookup: LookupRecord | null };
export type EntryRecord = Omit<EntryPoint, "inputs" | "outputs" | "queues"> & {
  readonly inputs: readonly BindingRecord[];
  readonly outputs: readonly BindingRecord[];
};
export interface ProgramRecord {
  readonly name: string;
  readonly chips: number;
  readonly links: readonly Link[];
  readonly states: readonly StateBinding[];
  readonly entries: readonly EntryRecord[];
}

/** Turns an unknown value at a path into a typed one, or refuses it. */
export type Reader<T> = (value: unknown, path: string) => T;

/** Decodes and checks one JSON record; `what` names it in messages. */
export function readJson<T>(text: string, what: string, reader: Reader<T>): T {
  const record = reader(parse(text, what), what);
  if (JSON.stringify(record) !== text) {
    fail("LPU3035", { message: "expected the record in its canonical form", at: what });
  }
  return record;
}

/** As readJson, for text that people write: any spacing and order of keys. */
export const readLooseJson = <T>(text: string, what: string, reader: Reader<T>): T => reader(parse(text, what), what);

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return fail("LPU3035", { message: error instanceof Error ? error.message : String(error), at: what });
  }
}

const expected = (what: string, value: unknown, path: string): never =>
  fail("LPU3035", { message: `expected ${what}, got ${JSON.stringify(value)?.slice(0, 80)}`, at: path });

const string: Reader<string> = (value, path) => (typeof value === "string" ? value : expected("a string", value, path));

const whole =
  (least: number, most: number): Reader<number> =>
  (value, path) =>
    typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
      ? value
      : expected(`a whole number from ${least} to ${most}`, value, path);

const natural = whole(0, Number.MAX_SAFE_INTEGER);
const positive = whole(1, Number.MAX_SAFE_INTEGER);

const oneOf =
  <T extends string>(words: readonly T[]): Reader<T> =>
  (value, path) =>
    words.find((word) => word === value) ?? expected(`one of ${words.join(", ")}`, value, path);

const list =
  <T>(item: Reader<T>): Reader<readonly T[]> =>
  (value, path) =>
    Array.isArray(value)
      ? value.map((element: unknown, index) => item(element, `${path}[${index}]`))
      : expected("a list", value, path);

const nullable =
  <T>(item: Reader<T>): Reader<T | null> =>
  (value, path) =>
    value === null ? null : item(value, path);

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function record<T>(fields: { readonly [K in keyof T]: Reader<T[K]> }): Reader<T> {
  const names = Object.keys(fields);
  return (value, path) => {
    if (!isRecord(value)) return expected("a record", value, path);
    const unknown = Object.keys(value).find((name) => !names.includes(name));
    if (unknown !== undefined) expected(`only the fields ${names.join(", ")}`, unknown, path);
    const result: Partial<T> = {};
    for (const name in fields) result[name] = fields[name](value[name], `${path}.${name}`);
    // Boundary: the loop above has set every field of T by its reader.
    return result as T;
  };
}

const isDType = (name: string): name is DType => Object.hasOwn(DTYPES, name);
const DTYPE_NAMES: readonly DType[] = Object.keys(DTYPES).filter(isDType);
const EDGE_NAMES: readonly EdgeDType[] = [...DTYPE_NAMES, "i64", "u64", "f64"];
const HEMISPHERES: readonly Hemisphere[] = ["W", "E"];

const placement = record<Placement>({
  dtype: oneOf(DTYPE_NAMES),
  factors: list(record({ dim: natural, divide: positive, extent: positive, row: natural, column: natural })),
  rows: natural,
  columns: natural,
  ways: positive,
  panels: list(
    record({
      planes: list(record({ chip: natural, hemisphere: oneOf(HEMISPHERES), slice: natural, row: natural })),
    }),
  ),
});

const lookup = record<LookupRecord>({
  origin: string,
  dtype: oneOf(DTYPE_NAMES),
  rows: natural,
  width: natural,
  table: natural,
});

const binding = record<BindingRecord>({
  name: string,
  declared: oneOf(EDGE_NAMES),
  shape: list(natural),
  placements: list(placement),
  lookup: nullable(lookup),
});

const state = record<StateBinding>({
  name: string,
  declared: oneOf(EDGE_NAMES),
  shape: list(natural),
  placements: list(placement),
});

const linkReader = record<Link>({ fromChip: natural, fromLink: natural, toChip: natural, toLink: natural });

const entry = record<EntryRecord>({
  name: string,
  inputs: list(binding),
  outputs: list(binding),
  cycles: list(natural),
  macs: natural,
});

export const placementsReader = list(placement);
export const dtypeReader = oneOf(DTYPE_NAMES);
export const edgeDtypeReader = oneOf(EDGE_NAMES);
export const naturalsReader = list(natural);
export const mapReader = list(whole(-32768, 32767));
export const originsReader = list(string);
export const programReader = record<ProgramRecord>({
  name: string,
  chips: whole(0, 65535),
  links: list(linkReader),
  states: list(state),
  entries: list(entry),
});

/** A target record has the fields of any other target, each of the same kind; counts are whole and small. */
export const targetReader: Reader<Target> = (value, path) => like(TARGETS["lpu-v1"], value, path);

function like<T extends object>(template: T, value: unknown, path: string): T {
  if (!isRecord(value)) return expected("a record", value, path);
  const names = Object.keys(template);
  const unknown = Object.keys(value).find((name) => !names.includes(name));
  if (unknown !== undefined) expected(`only the fields ${names.join(", ")}`, unknown, path);
  const entries = Object.entries(template).map(([name, sample]) => [
    name,
    RATES.includes(name) ? rate(value[name], `${path}.${name}`) : likeField(sample, value[name], `${path}.${name}`),
  ]);
  // Boundary: every field of the template has been read with the kind that it has there.
  return Object.freeze(Object.fromEntries(entries)) as T;
}

/** Fields of a target that need not be whole. */
const RATES: readonly string[] = ["clock", "pcieGBs", "pcieMicroseconds"];
const rate: Reader<number> = (value, path) =>
  typeof value === "number" && value >= 0 && value <= 1e6 ? value : expected("a number from 0 to 1000000", value, path);

/** The bound keeps every count of a target addressable, and no reader from allocating much. */
const count = whole(0, 65535);

function likeField(sample: unknown, value: unknown, path: string): unknown {
  if (typeof sample === "number") return count(value, path);
  if (typeof sample === "object" && sample !== null) return like(sample, value, path);
  return typeof value === typeof sample ? value : expected(`a ${typeof sample}`, value, path);
}
