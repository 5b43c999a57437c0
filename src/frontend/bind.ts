/**
 * Gives every input its static shape: from the file, from dimension bindings, and from shapes of given inputs.
 *
 * A named dimension means one number wherever it stands. A dimension may also be named by a sum or product of others
 * (`past_sequence_length + sequence_length`), which is computed when its parts are known. A dimension without number or
 * name is called `input.axis`. All that is left unbound is reported in one error.
 */

import { at, CompileError, didYouMean, fail, sure } from "../diagnostics.js";
import type { Shape } from "../ir/graph.js";
import { formatShape } from "../ir/tensor.js";
import { type FixedValue, shapeOfFixed } from "./fix.js";
import { type Dimension, int64ToNumber, type ValueInfoProto } from "./schema.js";

export interface ImportOptions {
  /** Told of each tensor that a node makes, and its shape. */
  readonly onValue?: ((tensor: string, shape: Shape) => unknown) | undefined;
  /** Sizes of named dimensions. */
  readonly bind: Readonly<Record<string, number>>;
  /** Shapes of inputs, by name; their named dimensions are bound by them. */
  readonly shapes?: Readonly<Record<string, Shape>> | undefined;
  /** Inputs whose values are known when the program is compiled: they become constants, and are inputs no more. */
  readonly fix?: Readonly<Record<string, FixedValue>> | undefined;
  /** Outputs of which only the last row is wanted, the end of the axis before the last. */
  readonly last?: readonly string[] | undefined;
}

type Extent = number | string;

export interface BoundShapes {
  readonly shapes: ReadonlyMap<string, Shape>;
  /** Names that still need a number, in order; shapes that use them are missing. */
  readonly unbound: readonly string[];
  /** What the file says of the outputs that have a shape there, as far as it is known then. */
  readonly declared: ReadonlyMap<string, readonly (number | undefined)[]>;
}

export function bindInputs(
  inputs: readonly ValueInfoProto[],
  outputs: readonly ValueInfoProto[],
  options: ImportOptions,
): BoundShapes {
  const extents = new Map(inputs.map((input) => [input.name, extentsOf(input, options)] as const));
  const known = new Set(
    [...extents.values()]
      .flat()
      .concat(outputs.flatMap(namesOfOutput))
      .filter((extent) => typeof extent === "string")
      .flatMap((name) => [name, ...partsOf(name)]),
  );
  requireNames("input", [...Object.keys(options.shapes ?? {}), ...Object.keys(options.fix ?? {})], [...extents.keys()]);
  requireNames(
    "output",
    options.last ?? [],
    outputs.map(({ name }) => name),
  );
  const sizes = new Map<string, number>();
  for (const [name, size] of Object.entries(options.bind)) bindOne(name, size, known, sizes);
  for (const [name, shape] of Object.entries(givenShapes(inputs, options))) bindShape(name, shape, extents, sizes);
  const shapes = new Map<string, Shape>();
  const unbound = new Set<string>();
  for (const [name, list] of extents) {
    const shape = list.map((extent) => (typeof extent === "number" ? extent : sizeOf(extent, sizes)));
    list.forEach((extent, axis) => {
      if (shape[axis] === undefined) for (const part of unboundParts(String(extent), sizes)) unbound.add(part);
    });
    if (!shape.includes(undefined))
      shapes.set(
        name,
        shape.filter((extent) => extent !== undefined),
      );
  }
  const declared = new Map(
    outputs.flatMap(({ name, type }) => {
      const dims = type?.tensorType?.shape?.dim;
      return dims === undefined ? [] : [[name, dims.map((dim) => declaredExtent(dim, sizes))] as const];
    }),
  );
  return { shapes, unbound: [...unbound], declared };
}

/** Shapes that are given, and those of values that are. */
const givenShapes = (
  inputs: readonly ValueInfoProto[],
  { shapes, fix }: ImportOptions,
): Readonly<Record<string, Shape>> => ({
  ...shapes,
  ...Object.fromEntries(
    Object.entries(fix ?? {}).flatMap(([name, value]) => {
      const shape = shapeOfFixed(
        value,
        inputs.find((input) => input.name === name),
      );
      return shape === undefined ? [] : [[name, shape]];
    }),
  ),
});

/** LPU1004 that names everything that is unbound. */
export function failUnbound(unbound: readonly string[]): never {
  return fail("LPU1004", {
    message: `dimensions ${unbound.map((name) => `'${name}'`).join(", ")} have no size`,
    hint: unbound.map((name) => `--bind ${/[^\w.]/.test(name) ? `'${name}=N'` : `${name}=N`}`).join(" "),
  });
}

function extentsOf(input: ValueInfoProto, options: ImportOptions): readonly Extent[] {
  const dims = input.type?.tensorType?.shape?.dim;
  if (dims === undefined) {
    const given = givenShapes([input], options)[input.name];
    if (given !== undefined) return given;
    return fail("LPU1004", {
      message: `input '${input.name}' has no shape in the model`,
      hint: "give a tensor or a shape for this input; its rank cannot be told from the model",
    });
  }
  return dims.map((dim, axis) => {
    if (dim.value === "dimParam" && dim.dimParam !== "") return dim.dimParam;
    const size = dim.value === "dimValue" ? int64ToNumber(dim.dimValue) : -1;
    return size < 0 ? `${input.name}.${axis}` : size;
  });
}

const declaredExtent = (dim: Dimension, sizes: ReadonlyMap<string, number>): number | undefined =>
  dim.value === "dimValue" ? int64ToNumber(dim.dimValue) : sizeOf(dim.dimParam, sizes);

const namesOfOutput = (output: ValueInfoProto): Extent[] =>
  (output.type?.tensorType?.shape?.dim ?? []).flatMap((dim) =>
    dim.value === "dimParam" && dim.dimParam !== "" ? [dim.dimParam] : [],
  );

function bindOne(name: string, size: number, known: ReadonlySet<Extent>, sizes: Map<string, number>): void {
  if (!known.has(name)) {
    fail("LPU1005", {
      message: `the model has no dimension '${name}'`,
      hint:
        known.size === 0
          ? "all of its dimensions are fixed"
          : `${didYouMean(name, [...known].map(String))}its dimensions are ${[...known].map((other) => `'${other}'`).join(", ")}`,
    });
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    fail("LPU1005", {
      message: `expected a whole number for dimension '${name}', got ${size}`,
      hint: `--bind ${name}=128`,
    });
  }
  sizes.set(name, size);
}

/** Every name that is not that of an input, or of an output, as one error. */
function requireNames(kind: "input" | "output", names: readonly string[], known: readonly string[]): void {
  const listed = known.map((name) => `'${name}'`).join(", ");
  const [first, ...others] = names
    .filter((name) => !known.includes(name))
    .map((name) => {
      const hint = known.length === 0 ? `it has no ${kind}s` : `${didYouMean(name, known)}its ${kind}s are ${listed}`;
      return new CompileError("LPU1005", { message: `the model has no ${kind} '${name}'`, hint });
    });
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
}

function bindShape(
  name: string,
  shape: Shape,
  inputs: ReadonlyMap<string, readonly Extent[]>,
  sizes: Map<string, number>,
): void {
  const extents = sure(inputs.get(name), "shape of the input");
  if (extents.length !== shape.length) {
    fail("LPU1005", {
      message: `input '${name}' expects ${extents.length} dimensions, got shape ${formatShape(shape)}`,
      hint: `the model declares [${extents.join(",")}]`,
    });
  }
  extents.forEach((extent, axis) => {
    const given = at(shape, axis, "extent");
    const expected = typeof extent === "number" ? extent : sizes.get(extent);
    if (expected !== undefined && expected !== given) {
      fail("LPU1005", {
        message: `input '${name}' expects ${expected} at axis ${axis}${typeof extent === "string" ? ` ('${extent}')` : ""}, got shape ${formatShape(shape)}`,
        hint: "every use of a named dimension must have the same size",
      });
    }
    if (typeof extent === "string") sizes.set(extent, given);
  });
}

const isExpression = (text: string): boolean => /[+*/()-]/.test(text) && /^[\w.\s+*/()-]+$/.test(text);
/** Names within an expression; none for a plain name. */
const partsOf = (text: string): string[] => (isExpression(text) ? (text.match(/[A-Za-z_][\w.]*/g) ?? []) : []);

function unboundParts(text: string, sizes: ReadonlyMap<string, number>): string[] {
  const parts = partsOf(text).filter((part) => !sizes.has(part));
  return parts.length > 0 ? parts : [text];
}

/** The size of a named dimension: bound, or computed from its parts; undefined where neither is possible. */
function sizeOf(text: string, sizes: ReadonlyMap<string, number>): number | undefined {
  const bound = sizes.get(text);
  if (bound !== undefined || !isExpression(text)) return bound;
  const tokens = text.match(/[A-Za-z_][\w.]*|\d+|\/\/|[+*/()-]/g) ?? [];
  const { value, next } = sum(tokens, 0, sizes);
  return next === tokens.length && value !== undefined && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

interface Parsed {
  readonly value: number | undefined;
  readonly next: number;
}
type Apply = (a: number, b: number) => number;
const SUMS: Readonly<Record<string, Apply>> = { "+": (a, b) => a + b, "-": (a, b) => a - b };
const floored: Apply = (a, b) => Math.floor(a / b);
const PRODUCTS: Readonly<Record<string, Apply>> = { "*": (a, b) => a * b, "/": floored, "//": floored };

const sum = (tokens: readonly string[], at: number, sizes: ReadonlyMap<string, number>): Parsed =>
  chain(tokens, at, SUMS, (next) => chain(tokens, next, PRODUCTS, (inner) => atom(tokens, inner, sizes)));

function chain(
  tokens: readonly string[],
  at: number,
  operators: Readonly<Record<string, Apply>>,
  operand: (at: number) => Parsed,
): Parsed {
  let { value, next } = operand(at);
  for (let apply = operators[tokens[next] ?? ""]; apply !== undefined; apply = operators[tokens[next] ?? ""]) {
    const right = operand(next + 1);
    value = value === undefined || right.value === undefined ? undefined : apply(value, right.value);
    next = right.next;
  }
  return { value, next };
}

function atom(tokens: readonly string[], place: number, sizes: ReadonlyMap<string, number>): Parsed {
  const token = tokens[place] ?? "";
  if (token === "(") {
    const inner = sum(tokens, place + 1, sizes);
    return tokens[inner.next] === ")"
      ? { value: inner.value, next: inner.next + 1 }
      : { value: undefined, next: tokens.length };
  }
  return { value: /^\d+$/.test(token) ? Number(token) : sizes.get(token), next: place + 1 };
}
