/**
 * Shapes of the inputs of a model for a plan: what a file leaves open follows from how many sequences there are, how long their
 * past is, and how much is new.
 *
 * Of a decoder with a past, that is the axis before the last of each past, and the mask is as long as past and new together; of a
 * model without one, the second axis of each input.
 */

import { fail } from "../diagnostics.js";
import { int64ToNumber, type ValueInfoProto } from "../frontend/schema.js";
import type { GraphRecord } from "../frontend/source.js";
import { pastsOf } from "../frontend/states.js";
import type { Shape } from "../ir/graph.js";

/** As far as they are asked for. */
export interface Sizes {
  /** Sequences at once. */
  readonly batch?: number | undefined;
  /** Past positions of a decoder with a past, else positions. */
  readonly context?: number | undefined;
}

/** Positions where none are asked for. */
const CONTEXT = 4096;

/** What the user says of sizes: of named dimensions, and of inputs. */
export interface Given {
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, unknown>>;
}

const MASK = /mask/;

/**
 * Shapes of inputs that leave something open, by name, but for those that the user gives. LPU1005 where a file has other sizes
 * than are asked for.
 */
export const openShapes = (
  graph: GraphRecord,
  sizes: Sizes,
  { bind, shapes: given }: Given,
): Readonly<Record<string, Shape>> => {
  const { batch = 1, context = CONTEXT } = sizes;
  const pasts = pastsOf(graph);
  const constants = new Set(graph.initializers.map(({ proto }) => proto.name));
  const shapes: [string, Shape][] = [];
  for (const input of graph.inputs) {
    if (constants.has(input.name) || Object.hasOwn(given, input.name)) continue;
    const dims = dimsOf(input);
    const isPast = pasts.has(input.name);
    const axis = isPast ? dims.length - 2 : 1;
    expectSize(input.name, "--batch", dims[0]?.size, sizes.batch);
    if (isPast || pasts.size === 0) expectSize(input.name, "--context", dims[axis]?.size, sizes.context);
    if (!dims.some(({ size }) => size === undefined)) continue;
    const length = isPast || pasts.size === 0 ? context : MASK.test(input.name) ? context + 1 : 1;
    shapes.push([
      input.name,
      dims.map(({ size, name }, index) => {
        const own = size ?? bind[name];
        if (own !== undefined) return own;
        if (index === 0) return batch;
        if (index === axis) return length;
        return fail("LPU1005", {
          message: `input '${input.name}': dimension '${name}' has no size`,
          hint: "give the shape of the input: --shape",
        });
      }),
    ]);
  }
  return Object.fromEntries(shapes);
};

/** What is asked for is not passed over where the file says otherwise. */
const expectSize = (input: string, option: string, own: number | undefined, asked: number | undefined): void => {
  if (own === undefined || asked === undefined || own === asked) return;
  fail("LPU1005", {
    message: `${option}: input '${input}' has ${own} in the file, not ${asked}`,
    hint: `leave ${option} out, or export the model with a dimension that is open`,
  });
};

const dimsOf = ({ type }: ValueInfoProto): readonly { readonly size: number | undefined; readonly name: string }[] =>
  (type?.tensorType?.shape?.dim ?? []).map(({ value, dimValue, dimParam }) => ({
    size: value === "dimValue" ? int64ToNumber(dimValue) : undefined,
    name: dimParam,
  }));
