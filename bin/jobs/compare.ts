/** Outputs of a run beside those that are expected: floats by their relative L2 error, all else exactly. */

import { at } from "../../src/diagnostics.js";
import { elementCount, type Tensor } from "../../src/ir/graph.js";
import { type NonFinite, type NonFiniteName, nonFiniteName } from "../../src/ir/nonfinite.js";
import { slice } from "../../src/ir/ops/movement.js";
import { equalShapes, formatShape, isFloat, toNumbers } from "../../src/ir/tensor.js";
import { formatError } from "../../src/report/units.js";
import type { OutputError, WrongSpecial } from "./cases.js";

/** The worst so far, by output. */
export interface Compared {
  readonly outputs: Map<string, OutputError>;
  readonly nonFinite: Map<string, WrongSpecial>;
}

/** What is wrong with an output, or undefined. */
export function compareOutput(
  name: string,
  actual: Tensor | undefined,
  expected: Tensor,
  tolerance: number,
  facts: Compared,
  blame: (value: NonFiniteName) => string | undefined,
): string | undefined {
  if (actual === undefined) return `output '${name}' is missing`;
  if (!equalShapes(actual.shape, expected.shape))
    return `output '${name}': expected shape ${formatShape(expected.shape)}, found ${formatShape(actual.shape)}`;
  const special = specialDifference(actual, expected);
  if (special !== undefined) return `output '${name}': ${special.text}${madeBy(name, special, facts, blame)}`;
  if (!isFloat(expected.dtype)) return wholeDifference(name, actual, expected, facts);
  const error = { name, ...distance(actual, expected) };
  const worst = facts.outputs.get(name);
  if (worst === undefined || !(error.relL2 <= worst.relL2)) facts.outputs.set(name, error);
  if (error.relL2 <= tolerance) return undefined;
  return `output '${name}': expected relative L2 error of at most ${formatError(tolerance)}, found ${formatError(error.relL2)}`;
}

const named = (value: number): string => (Number.isNaN(value) ? "NaN" : `${value}`);

/** Elements at which one of two tensors has an infinity or a NaN, and the other has not the same. */
interface SpecialDifference {
  readonly text: string;
  /** The first that the output has and should not. */
  readonly found: NonFinite | undefined;
}

function specialDifference(actual: Tensor, expected: Tensor): SpecialDifference | undefined {
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const differs = (index: number): boolean =>
    !Object.is(a[index], b[index]) && !(Number.isFinite(a[index]) && Number.isFinite(b[index]));
  const places = Array.from(b.keys()).filter(differs);
  const [first] = places;
  if (first === undefined) return undefined;
  const made = places.flatMap((element) => {
    const value = nonFiniteName(at(a, element, "element"));
    return value === undefined ? [] : [{ element, value }];
  });
  const [one] = made;
  const more = places.length > 1 ? ` (and ${places.length - 1} more)` : "";
  return {
    text: `element ${first}: expected ${named(at(b, first, "element"))}, found ${named(at(a, first, "element"))}${more}`,
    found: one === undefined ? undefined : { ...one, count: made.length },
  };
}

/** Notes the first NaN or infinity that is wrong; what the text of a difference ends with. */
function madeBy(
  output: string,
  { found }: SpecialDifference,
  facts: Compared,
  blame: (value: NonFiniteName) => string | undefined,
): string {
  if (found === undefined || facts.nonFinite.has(output)) return "";
  const node = blame(found.value);
  facts.nonFinite.set(output, { output, ...found, ...(node === undefined ? {} : { madeBy: node }) });
  return node === undefined ? "" : `; the first ${found.value} on the way is made by ${node}`;
}

/** Integers and truth values are right or wrong. */
function wholeDifference(name: string, actual: Tensor, expected: Tensor, facts: Compared): string | undefined {
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const places = Array.from(b.keys()).filter((index) => a[index] !== b[index]);
  const maxAbs = places.reduce(
    (most, index) => Math.max(most, Math.abs(at(a, index, "element") - at(b, index, "element"))),
    0,
  );
  const known = facts.outputs.get(name);
  if (known === undefined || known.maxAbs < maxAbs)
    facts.outputs.set(name, { name, relL2: maxAbs === 0 ? 0 : 1, maxAbs });
  const [first] = places;
  if (first === undefined) return undefined;
  return `output '${name}': ${places.length} of ${b.length} elements differ, element ${first}: expected ${b[first]}, found ${a[first]}`;
}

/** Elements that are equal count as equal, NaN and infinities too; any other NaN or infinity is infinitely far. */
export function distance(actual: Tensor, expected: Tensor): { readonly relL2: number; readonly maxAbs: number } {
  const a = toNumbers(actual);
  const b = toNumbers(expected);
  let differences = 0;
  let norm = 0;
  let maxAbs = 0;
  for (let index = 0; index < b.length; index++) {
    const left = at(a, index, "element");
    const right = at(b, index, "element");
    if (Object.is(left, right)) {
      if (Number.isFinite(right)) norm += right * right;
      continue;
    }
    const difference = Math.abs(left - right);
    const distance = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    differences += distance * distance;
    maxAbs = Math.max(maxAbs, distance);
    if (Number.isFinite(right)) norm += right * right;
  }
  if (differences === 0) return { relL2: 0, maxAbs };
  return { relL2: Math.sqrt(differences / (norm === 0 ? 1 : norm)), maxAbs };
}

/**
 * The last rows that a state and what takes its place both have: it is a window on the end of that, or has zeros before it.
 * Both whole where they differ in more than one dimension, or have nothing in common.
 */
export function commonEnd(state: Tensor, present: Tensor): readonly [Tensor, Tensor] {
  const differ = state.shape.filter((extent, axis) => extent !== present.shape[axis]).length;
  if (state.shape.length !== present.shape.length || differ > 1) return [state, present];
  const sizes = state.shape.map((extent, axis) => Math.min(extent, at(present.shape, axis, "extent")));
  if (elementCount(sizes) === 0) return [state, present];
  const end = ({ dtype, data, shape }: Tensor): Tensor => {
    const starts = shape.map((extent, axis) => extent - at(sizes, axis, "extent"));
    return slice({ dtype, data, shape }, { starts, sizes, strides: sizes.map(() => 1) }, { dtype, shape: sizes });
  };
  return [end(state), end(present)];
}
