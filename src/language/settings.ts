/**
 * What the files beside a model say of writing with it: which tokens end a text, and how a token is chosen.
 *
 * Hugging Face has generation_config.json, and config.json before it; onnxruntime-genai has genai_config.json, with `model`
 * and `search`. Where several say something, the first of them holds.
 */

import { fail } from "../diagnostics.js";
import type { Sampling } from "./sample.js";

export interface Settings {
  /** Tokens that end a text. */
  readonly ends: readonly number[];
  readonly sampling: Partial<Sampling>;
}

/** A file and the object in it. */
export interface SettingsFile {
  readonly file: string;
  readonly content: object;
}

type Fields = Readonly<Record<string, unknown>>;

interface Field {
  readonly to: keyof Sampling;
  /** Whether a number can be meant. */
  readonly holds: (value: number) => boolean;
  readonly expected: string;
}

const FIELDS: Readonly<Record<string, Field>> = {
  temperature: { to: "temperature", holds: (value) => value >= 0, expected: "a number of at least 0" },
  top_k: {
    to: "topK",
    holds: (value) => Number.isInteger(value) && value >= 0,
    expected: "a whole number of at least 0",
  },
  top_p: { to: "topP", holds: (value) => value >= 0 && value <= 1, expected: "a number from 0 to 1" },
  repetition_penalty: { to: "repetitionPenalty", holds: (value) => value > 0, expected: "a number above 0" },
};

/**
 * @throws LPU5107 for a setting that is not what it should be, with its file.
 */
export function settingsOf(files: readonly SettingsFile[]): Settings {
  const said = files.map(({ file, content }) => {
    // JSON: any object is fields by name.
    const fields = content as Fields;
    const model = fieldsOf(fields["model"]);
    const search = fieldsOf(fields["search"]);
    return {
      ends: endsOf(file, fields["eos_token_id"] ?? model["eos_token_id"]),
      sampling: samplingOf(file, { ...fields, ...search }),
    };
  });
  return {
    ends: said.map(({ ends }) => ends).find((ends) => ends.length > 0) ?? [],
    sampling: said.map(({ sampling }) => sampling).find((sampling) => Object.keys(sampling).length > 0) ?? {},
  };
}

/** Without `do_sample` the likeliest token is taken, whatever else is said; a penalty holds either way. */
function samplingOf(file: string, fields: Fields): Partial<Sampling> {
  const numbers = Object.entries(FIELDS).flatMap(([name, { to, holds, expected }]) => {
    const value = fields[name];
    if (value === undefined || value === null) return [];
    if (typeof value !== "number" || !holds(value)) return wrong(file, name, expected);
    return [[to, value] as const];
  });
  const sampling: Partial<Sampling> = Object.fromEntries(numbers);
  if (fields["do_sample"] === true) return { temperature: 1, ...sampling };
  const { repetitionPenalty } = sampling;
  return repetitionPenalty === undefined ? {} : { repetitionPenalty };
}

function endsOf(file: string, value: unknown): readonly number[] {
  if (value === undefined || value === null) return [];
  const tokens: readonly unknown[] = Array.isArray(value) ? value : [value];
  return tokens.map((token) =>
    typeof token === "number" && Number.isInteger(token) ? token : wrong(file, "eos_token_id", "tokens"),
  );
}

const fieldsOf = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});

const wrong = (file: string, name: string, expected: string): never =>
  fail("LPU5107", { message: `file '${file}': ${name}: expected ${expected}` });
