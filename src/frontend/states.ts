/**
 * Inputs that stay on the chip: pairs of an input and the output that takes its place for the next run.
 *
 * What the output gives is what the host would give as the input of the next run, so both have one type. Everything that does
 * not fit is one error (LPU1014).
 */

import { CompileError } from "../diagnostics.js";
import type { Graph } from "../ir/graph.js";
import { edgeDtypeAttr, stringAttr } from "../ir/ops/attributes.js";
import { formatShape } from "../ir/tensor.js";

/** By the name of the input, the name of the output. */
export type StatePairs = Readonly<Record<string, string>>;

/** The pairs, each of which the graph has. */
export function statesOf(graph: Graph, pairs: StatePairs): ReadonlyMap<string, string> {
  const problems: CompileError[] = [];
  const refuse = (message: string, hint: string): void =>
    void problems.push(new CompileError("LPU1014", { message, hint }));
  const inputs = new Map(
    graph.inputs.map((id) => {
      const { attrs, type } = graph.nodes[id] ?? { attrs: {}, type: { shape: [] } };
      return [stringAttr(attrs, "name"), { declared: edgeDtypeAttr(attrs, "declared"), shape: type.shape }];
    }),
  );
  const outputs = new Map(
    graph.outputs.map(({ name, declared, node }) => [name, { declared, shape: graph.nodes[node]?.type.shape ?? [] }]),
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
    if (before !== after)
      refuse(
        `state '${from}': expected an output of ${before}, '${to}' is ${after}`,
        "bind dimensions so that both have one shape: what a run leaves is what the next one finds",
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
