/**
 * Inputs that stay on the chip: pairs of an input and the output that takes its place for the next run.
 *
 * What the output gives is what the host would give as the input of the next run. Where it is longer along one dimension, as
 * the past and what is new behind it, that is its end: a window that moves on. A cache that has rows for what is to come is
 * a state of its own shape. All else must be the same. Everything that does not fit is one error (LPU1014).
 */

import { at, CompileError, fail, sure } from "../diagnostics.js";
import { elementCount, type Graph, type GraphOutput, type Node, type NodeId, type Shape } from "../ir/graph.js";
import { filledLiteral } from "../ir/literals.js";
import { edgeDtypeAttr, numberAttr, stringAttr } from "../ir/ops/attributes.js";
import { formatShape } from "../ir/tensor.js";
import { beginsWith } from "./window.js";

/** By the name of the input, the name of the output. */
export type StatePairs = Readonly<Record<string, string>>;

/** What the user asks for: these pairs, or all that exporters' conventions pair by name. */
export type StateOption = StatePairs | "auto";

/** How names of inputs begin whose outputs are called the same, but for another beginning; the names may end there. */
const CONVENTIONS: readonly { readonly past: string; readonly present: string; readonly writer: string }[] = [
  { past: "past_key_values.", present: "present.", writer: "transformers and optimum, onnxruntime-genai" },
  { past: "past_key_values.", present: "present_key_values.", writer: "transformers.onnx" },
  { past: "past.", present: "present.", writer: "torch, by hand" },
  { past: "past", present: "present", writer: "one layer, as its tests have it" },
  { past: "key_cache.", present: "updated_key_cache.", writer: "exporters to static caches" },
  { past: "value_cache.", present: "updated_value_cache.", writer: "exporters to static caches" },
  { past: "past_", present: "present_", writer: "ONNX Runtime's transformer tools" },
];

/** A graph whose outputs that are states have the types of their inputs, and the names of both. */
export interface WithStates {
  readonly graph: Graph;
  readonly states: ReadonlyMap<string, string>;
  /** States of this entry and those before it that are windows, whose outputs have more behind them; with their shapes. */
  readonly windows: ReadonlyMap<string, Shape>;
}

/** `before`: entries of the same program, which say how many rows a state has where the past of this one is empty. */
export function withStates(given: Graph, option: StateOption, before: readonly WithStates[] = []): WithStates {
  const windows = new Map(before.flatMap((entry) => [...entry.windows]));
  const states = checkedStates(given, option === "auto" ? pairsByName(given) : option, windows);
  const graph = withRows(given, states, windows);
  const inputs = inputsOf(graph);
  const nodes = [...graph.nodes];
  const sources = new Map([...states].map(([from, to]) => [to, sure(inputs.get(from), "input").shape]));
  const outputs = graph.outputs.map((output): GraphOutput => {
    const wanted = sources.get(output.name);
    const made = graph.nodes[output.node];
    if (wanted === undefined || made === undefined || formatShape(made.type.shape) === formatShape(wanted))
      return output;
    return {
      ...output,
      node: isShorter(made.type.shape, wanted) ? behindZeros(nodes, made, wanted) : endOf(nodes, made, wanted),
    };
  });
  const own = graph.outputs.flatMap(({ name, node }): [string, Shape][] => {
    const [wanted, made] = [sources.get(name), at(graph.nodes, node, "node").type.shape];
    const state = [...states].find(([, to]) => to === name)?.[0];
    return state === undefined || wanted === undefined || !isShorter(wanted, made) ? [] : [[state, wanted]];
  });
  return { graph: { ...graph, nodes, outputs }, states, windows: new Map([...windows, ...own]) };
}

/** A graph whose pasts have no rows reads none of a state: what it computes is a constant there, and the state an input beside. */
function withRows(graph: Graph, states: WithStates["states"], windows: WithStates["windows"]): Graph {
  const nodes = [...graph.nodes];
  const inputs = graph.inputs.map((id) => {
    const node = at(nodes, id, "node");
    const { attrs, type } = node;
    const name = stringAttr(attrs, "name");
    const whole = states.has(name) && elementCount(type.shape) === 0 ? windows.get(name) : undefined;
    if (whole === undefined) return id;
    nodes[id] = { ...node, op: "constant", attrs: { value: filledLiteral(type, 0) } };
    return nodes.push({ ...node, id: nodes.length, type: { ...type, shape: whole } }) - 1;
  });
  return { ...graph, nodes, inputs };
}

const isShorter = (made: Shape, wanted: Shape): boolean =>
  made.some((extent, axis) => extent < at(wanted, axis, "extent"));

/** A value at the end of a state, which is empty before it. */
const behindZeros = (nodes: Node[], made: Node, wanted: Shape): NodeId => {
  const { type, origin } = made;
  const axis = type.shape.findIndex((extent, index) => extent !== wanted[index]);
  const rows = at(wanted, axis, "extent") - at(type.shape, axis, "extent");
  const empty = { ...type, shape: type.shape.map((extent, index) => (index === axis ? rows : extent)) };
  const add = (node: Omit<Node, "id">): NodeId => nodes.push({ ...node, id: nodes.length }) - 1;
  const zeros = add({ op: "constant", inputs: [], attrs: { value: filledLiteral(empty, 0) }, type: empty, origin });
  return add({ op: "concat", inputs: [zeros, made.id], attrs: { axis }, type: { ...type, shape: wanted }, origin });
};

interface Named {
  readonly name: string;
}

/** Names of inputs, and of the outputs that a convention pairs with them. An input whose output is not there (keys of an encoder) is none. */
export function pastsOf({
  inputs,
  outputs,
}: {
  readonly inputs: readonly Named[];
  readonly outputs: readonly Named[];
}): ReadonlyMap<string, string> {
  const given = new Set(outputs.map(({ name }) => name));
  return new Map(
    inputs.flatMap(({ name }) => {
      const names = CONVENTIONS.filter(({ past }) => name.startsWith(past)).map(
        ({ past, present }) => present + name.slice(past.length),
      );
      const output = names.find((one) => given.has(one));
      return output === undefined ? [] : [[name, output] as const];
    }),
  );
}

/** LPU2004 if a state is not the same tensor in all entries that have it. */
export function expectShared(entries: readonly WithStates[]): void {
  const known = new Map<string, string>();
  for (const { graph, states } of entries)
    for (const [name, { declared, shape }] of inputsOf(graph)) {
      if (!states.has(name)) continue;
      const type = `${declared}${formatShape(shape)}`;
      const before = known.get(name) ?? type;
      known.set(name, before);
      if (before !== type)
        fail("LPU2004", { message: `state '${name}' is ${type} in an entry, and ${before} in one before it` });
    }
}

function pairsByName(graph: Graph): StatePairs {
  const inputs = [...inputsOf(graph).keys()].map((name) => ({ name }));
  const pairs = pastsOf({ inputs, outputs: graph.outputs });
  if (pairs.size === 0)
    fail("LPU1014", {
      message: "expected inputs and outputs that are paired by name, found none",
      hint: `${CONVENTIONS.map(({ past, present }) => `'${past}N' goes with '${present}N'`).join(", ")}: name others, like --state h=next_h`,
    });
  return Object.fromEntries(pairs);
}

/**
 * The last elements of a value along the dimension that is longer than wanted, added to `nodes`: of what is joined along it,
 * the ends of parts, so that the parts need not be joined first.
 */
const endOf = (nodes: Node[], { id: source, op, inputs, attrs, type, origin }: Node, wanted: Shape): NodeId => {
  const add = (node: Omit<Node, "id">): NodeId => nodes.push({ ...node, id: nodes.length }) - 1;
  const axis = type.shape.findIndex((extent, index) => extent !== wanted[index]);
  const sliced = (from: NodeId, start: number, shape: Shape): NodeId => {
    const starts = shape.map((_, index) => (index === axis ? start : 0));
    const strides = shape.map(() => 1);
    return add({
      op: "slice",
      inputs: [from],
      attrs: { starts, sizes: shape, strides },
      type: { ...type, shape },
      origin,
    });
  };
  const from = at(type.shape, axis, "extent") - at(wanted, axis, "extent");
  if (op !== "concat" || numberAttr(attrs, "axis") !== axis) return sliced(source, from, wanted);
  let end = 0;
  const parts = inputs.flatMap((id): NodeId[] => {
    const { shape } = at(nodes, id, "node").type;
    const extent = at(shape, axis, "extent");
    end += extent;
    const kept = Math.min(extent, end - from);
    if (kept <= 0) return [];
    if (kept === extent) return [id];
    return [
      sliced(
        id,
        extent - kept,
        shape.map((size, index) => (index === axis ? kept : size)),
      ),
    ];
  });
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  return add({ op, inputs: parts, attrs, type: { ...type, shape: wanted }, origin });
};

interface Input {
  readonly id: NodeId;
  readonly declared: string;
  readonly shape: Shape;
}

const inputsOf = (graph: Graph): ReadonlyMap<string, Input> =>
  new Map(
    graph.inputs.map((id) => {
      const { attrs, type } = at(graph.nodes, id, "node");
      return [stringAttr(attrs, "name"), { id, declared: edgeDtypeAttr(attrs, "declared"), shape: type.shape }];
    }),
  );

/** Whether an output has the shape of an input, or more along one dimension. */
const follows = (before: Shape, after: Shape): boolean =>
  before.length === after.length &&
  before.every((extent, axis) => extent <= at(after, axis, "extent")) &&
  before.filter((extent, axis) => extent < at(after, axis, "extent")).length <= 1;

/** The pairs, each of which the graph has. */
function checkedStates(graph: Graph, pairs: StatePairs, windows: WithStates["windows"]): ReadonlyMap<string, string> {
  const problems: CompileError[] = [];
  const refuse = (message: string, hint: string): void =>
    void problems.push(new CompileError("LPU1014", { message, hint }));
  const inputs = inputsOf(graph);
  const outputs = new Map(
    graph.outputs.map(({ name, declared, node }) => [
      name,
      { node, declared, shape: at(graph.nodes, node, "node").type.shape },
    ]),
  );
  const taken = new Set<string>();
  for (const [from, to] of Object.entries(pairs)) {
    const [input, output] = [inputs.get(from), outputs.get(to)];
    if (input === undefined) refuse(`state '${from}': expected an input of the model`, `inputs are ${list(inputs)}`);
    if (output === undefined)
      refuse(`state '${from}': expected an output of the model, got '${to}'`, `outputs are ${list(outputs)}`);
    if (taken.has(to))
      refuse(`state '${from}': output '${to}' takes another's place`, "give each state its own output");
    taken.add(to);
    if (input === undefined || output === undefined) continue;
    const [before, after] = [input, output].map(({ declared, shape }) => `${declared}${formatShape(shape)}`);
    if (input.declared !== output.declared || !follows(input.shape, output.shape))
      refuse(
        `state '${from}': expected an output of ${before}, or longer along one dimension, '${to}' is ${after}`,
        "bind dimensions so that both have one shape: what a run leaves, or its end, is what the next one finds",
      );
    else if (elementCount(input.shape) === 0 && !windows.has(from))
      refuse(
        `state '${from}': expected rows, got ${before}`,
        "a past may be empty in an entry behind one in which it is a window that has rows",
      );
    else if (after !== before && elementCount(input.shape) > 0 && !beginsWith(graph.nodes, output.node, input.id))
      refuse(
        `state '${from}': expected '${to}', which is ${after}, to be the input with something behind it`,
        `its rows are placed by their number: bind dimensions so that it is ${before} too, with rows for all that is to come`,
      );
    if (!FLOATS.includes(input.declared))
      refuse(`state '${from}': expected floating-point numbers, got ${before}`, "give other inputs at every run");
  }
  const [first, ...others] = problems;
  if (first !== undefined) throw new CompileError(first.code, first.details, others);
  return new Map(Object.entries(pairs));
}

const FLOATS: readonly string[] = ["f16", "f32", "f64", "bf16"];

const list = (names: ReadonlyMap<string, unknown>): string => [...names.keys()].map((name) => `'${name}'`).join(", ");
