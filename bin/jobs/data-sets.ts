/**
 * Data sets of a case in the layout of the ONNX backend tests: their files, and what a program with an entry for each is asked for.
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fail } from "../../src/diagnostics.js";
import type { readModel } from "../../src/frontend/source.js";
import type { NamedTensor } from "../../src/frontend/tensors.js";
import { elementCount, type Tensor } from "../../src/ir/graph.js";
import { isWideTensor, type WideTensor } from "../../src/ir/tensor.js";
import type { EntryOptions } from "../../src/options.js";

/** A data set, as its files have it. */
export interface DataSet {
  readonly name: string;
  readonly inputs: Readonly<Record<string, Tensor | WideTensor>>;
}

/** What the model takes: its graph's inputs that have no initializer, in order. */
export function inputsOf({ initializers, inputs }: ReturnType<typeof readModel>["graph"]): string[] {
  const initialized = new Set(initializers.map(({ proto }) => proto.name));
  return inputs.map(({ name }) => name).filter((input) => !initialized.has(input));
}

export function dataSetsOf(folder: string): string[] {
  const sets = readdirSync(folder).filter((name) => /^test_data_set_\d+$/.test(name));
  return sets.sort((a, b) => numberOf(a) - numberOf(b));
}

/** `input_K.pb` is the K-th input, unless the tensor itself carries the name of one. */
export function readNumbered<T>(
  folder: string,
  dataSet: string,
  kind: "input" | "output",
  names: readonly string[],
  read: (path: string) => NamedTensor<T>,
): Record<string, T> {
  const place = join(folder, dataSet);
  const files = readdirSync(place).filter((name) => new RegExp(`^${kind}_\\d+\\.pb$`).test(name));
  const tensors = files
    .sort((a, b) => numberOf(a) - numberOf(b))
    .map((file): [string | undefined, T] => {
      const { name, tensor } = read(join(place, file));
      return [names.includes(name) ? name : names[numberOf(file)], tensor];
    });
  const known = tensors.flatMap(([name, tensor]): [string, T][] => (name === undefined ? [] : [[name, tensor]]));
  if (known.length < tensors.length || (kind === "output" && files.length === 0)) {
    fail("LPU5009", { message: `'${place}': expected ${names.length} ${kind} files, found ${files.length}` });
  }
  return Object.fromEntries(known);
}

/** Of test_data_set_N, or input_N.pb: the only digits of the name. */
const numberOf = (name: string): number => Number(name.replace(/\D/g, ""));

/** What a program has of a data set's inputs, states among them. */
export const givenTo = ({ inputs }: DataSet, fixed: readonly string[]): Readonly<Record<string, Tensor>> =>
  Object.fromEntries(
    Object.entries(inputs).flatMap(([input, tensor]): [string, Tensor][] =>
      fixed.includes(input) || isWideTensor(tensor) ? [] : [[input, tensor]],
    ),
  );

/** What data sets must have in common to be of one entry: shapes, and values of what is fixed. */
export const signatureOf = ({ inputs }: DataSet, fixed: readonly string[]): string =>
  JSON.stringify([
    Object.entries(inputs).map(([input, { shape }]) => [input, shape]),
    fixed.map((input) => valuesOf(inputs[input])),
  ]);

const valuesOf = (value: Tensor | WideTensor | undefined): readonly number[] =>
  value === undefined ? [] : Array.from(isWideTensor(value) ? value.words : value.data);

export const hasEmpty = ({ inputs }: DataSet): boolean =>
  Object.values(inputs).some(({ shape }) => elementCount(shape) === 0);

/** What an entry for a data set is built with. */
export const optionsOf = ({ inputs }: DataSet, fixed: readonly string[]): EntryOptions => {
  const isFixed = ([name]: readonly [string, unknown]): boolean => fixed.includes(name);
  const shaped = Object.entries(inputs).filter((input) => !isFixed(input));
  return {
    fix: Object.fromEntries(Object.entries(inputs).filter(isFixed)),
    shapes: Object.fromEntries(shaped.map(([name, { shape }]) => [name, shape])),
  };
};
