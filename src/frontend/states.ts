/**
 * Inputs that stay on the chip: pairs of an input and the output that takes its place for the next run.
 *
 * What the output gives is what the host would give as the input of the next run. Where it is longer along one dimension, as
 * the past and what is new behind it, that is its end: a window that moves on. A cache that has rows for what is to come is
 * a state of its own shape. All else must be the same. Everything that does not fit is one error (LPU1014).
 */

import { at, CompileError, fail, sure } from "../diagnostics.js";
import { elementCount, type Graph, type GraphOutput, type NodeId, type Shape } from "../ir/graph.js";
import { edgeDtypeAttr, stringAttr } from "../ir/ops/attributes.js";
import { formatShape } from "../ir/tensor.js";
import { nextOf, type Resident, withWholeStates } from "./rows.js";
import { beginsWith, isPlaced } from "./window.js";

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
  /** States of this entry and those before it. */
  readonly known: ReadonlyMap<string, Resident>;
}

/** `before`: entries of the same program, which say how many rows a state has where this one reads fewer of them, or none. */
export function withStates(given: Graph, option: StateOption, before: readonly WithStates[] = []): WithStates {
  const earlier = new Map(before.flatMap((entry) => [...entry.known]));
  const states = checkedStates(given, option === "auto" ? pairsByName(given) : option, earlier);
  const known = new Map(residents(given, states).map(([name, own]) => [name, agreed(own, earlier.get(name))]));
  const { graph, reads } = withWholeStates(given, known);
  const sources = new Map([...states].map(([from, to]) => [to, from]));
  const nodes = [...graph.nodes];
  const outputs = graph.outputs.map((output): GraphOutput => {
    const name = sources.get(output.name);
    if (name === undefined) return output;
    const [read, { kind }] = [sure(reads.get(name), "input"), sure(known.get(name), "state")];
    return { ...output, node: nextOf(nodes, output.node, read, kind) };
  });
  return { graph: { ...graph, nodes, outputs }, states, known: new Map([...known, ...earlier]) };
}

/** A state as an entry before has it; as a value, which both have to read whole, where the two move it otherwise. */
const agreed = (own: Resident, before: Resident = own): Resident =>
  own.kind === before.kind || elementCount(own.shape) === 0 ? before : { ...before, kind: "value" };

/** States as a graph has them by itself. */
const residents = (graph: Graph, states: WithStates["states"]): readonly (readonly [string, Resident])[] => {
  const [inputs, outputs] = [inputsOf(graph), new Map(graph.outputs.map(({ name, node }) => [name, node]))];
  return [...states].map(([from, to]) => {
    const [{ id, shape }, node] = [sure(inputs.get(from), "input"), sure(outputs.get(to), "output")];
    const isLonger = formatShape(at(graph.nodes, node, "node").type.shape) !== formatShape(shape);
    const kind = isLonger ? "window" : isPlaced(graph.nodes, node, id) ? "cache" : "value";
    return [from, { shape, kind }] as const;
  });
};

interface Named {
  readonly name: string;
}

/**
 * Names of inputs, and of the outputs that a convention pairs with them. An input whose output is not there (keys of an
 * encoder) is none.
 */
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
function checkedStates(graph: Graph, pairs: StatePairs, earlier: WithStates["known"]): ReadonlyMap<string, string> {
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
    else if (elementCount(input.shape) === 0 && earlier.get(from)?.kind !== "window")
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
