/**
 * Values that are no finite numbers: where a tensor has one, and which node of a graph made the first that an output has.
 *
 * A node is to blame if its value has a NaN (or an infinity) while no operand has one. An infinity is often meant (masks) and
 * a NaN that comes of one is not, so for a NaN the node that made an infinity on the way is looked for as well.
 */

import { evaluate } from "./evaluate.js";
import type { Graph, Node, NodeId, Tensor } from "./graph.js";
import { stringAttr } from "./ops/attributes.js";
import { cast } from "./ops/elementwise.js";
import { evaluateNode } from "./ops.js";
import { isFloat, toNumbers } from "./tensor.js";

export type NonFiniteName = "NaN" | "Infinity" | "-Infinity";

/** The first element that is no finite number, in row-major order. */
export interface NonFinite {
  readonly element: number;
  /** As text, because JSON has no such numbers. */
  readonly value: NonFiniteName;
  /** How many elements are no finite numbers. */
  readonly count: number;
}

export const nonFiniteName = (value: number): NonFiniteName | undefined =>
  Number.isNaN(value)
    ? "NaN"
    : value === Number.POSITIVE_INFINITY
      ? "Infinity"
      : value === Number.NEGATIVE_INFINITY
        ? "-Infinity"
        : undefined;

/** Undefined where all elements are finite; integers and truth values always are. */
export function findNonFinite(tensor: Tensor): NonFinite | undefined {
  if (!isFloat(tensor.dtype)) return undefined;
  let first: Pick<NonFinite, "element" | "value"> | undefined;
  let count = 0;
  for (const [element, number] of toNumbers(tensor).entries()) {
    const value = nonFiniteName(number);
    if (value === undefined) continue;
    count += 1;
    first ??= { element, value };
  }
  return first === undefined ? undefined : { ...first, count };
}

/** Who made values that are no finite numbers, as ONNX nodes. */
export interface Culprit {
  readonly node: string;
  /** For a NaN made of an infinity: the node that made that. */
  readonly infinityBy?: string;
}

/** What a tensor has among its elements. */
interface Specials {
  readonly nan: boolean;
  readonly infinity: boolean;
}

/**
 * The first node on the way to an output that made a value of this kind from operands without one; undefined if there is none,
 * or the graph itself does not come to one. `graph` is computed in its own types, so that what overflows in fp16 does here.
 */
export function culpritOf(
  graph: Graph,
  inputs: Readonly<Record<string, Tensor>>,
  output: string,
  value: NonFiniteName,
): Culprit | undefined {
  const outputs = graph.outputs.filter(({ name }) => name === output);
  const found: Specials[] = [];
  for (const node of graph.nodes)
    if (node.op === "constant") found[node.id] = specialsOf(evaluateNode(node.op, [], node.attrs, node.type));
  let nan: Node | undefined;
  let infinity: Node | undefined;
  const onNode = (node: Node, result: Tensor): void => {
    const own = specialsOf(result);
    found[node.id] = own;
    const among = (kind: keyof Specials): boolean => node.inputs.some((id: NodeId) => found[id]?.[kind] === true);
    if (own.nan && !among("nan")) nan ??= node;
    if (own.infinity && !among("infinity")) infinity ??= node;
  };
  evaluate({ ...graph, outputs }, fittedInputs(graph, inputs), { onNode });
  if (value !== "NaN") return infinity && { node: textOf(infinity) };
  if (nan === undefined) return undefined;
  const before = infinity !== undefined && infinity.id < nan.id ? { infinityBy: textOf(infinity) } : {};
  return { node: textOf(nan), ...before };
}

const textOf = ({ op, origin }: Node): string => `${origin.join(" + ")} (${op})`;

function specialsOf(tensor: Tensor): Specials {
  if (!isFloat(tensor.dtype)) return { nan: false, infinity: false };
  let [nan, infinity] = [false, false];
  for (const number of toNumbers(tensor)) {
    if (Number.isNaN(number)) nan = true;
    else if (!Number.isFinite(number)) infinity = true;
  }
  return { nan, infinity };
}

/** Inputs in the types in which the graph takes them. */
const fittedInputs = (graph: Graph, inputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> =>
  Object.fromEntries(
    graph.inputs.flatMap((id) => {
      const node = graph.nodes[id];
      const name = node === undefined ? "" : stringAttr(node.attrs, "name");
      const given = inputs[name];
      return node === undefined || given === undefined ? [] : [[name, cast(given, node.type)] as const];
    }),
  );
