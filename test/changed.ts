/** Compiled programs that are changed in one place, for tests of the schedule checker: a graph that uses every unit, and changes. */

import { GraphBuilder } from "../src/ir/builder.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { chipCycles, type Program, type TimedInstruction } from "../src/ir/program.js";
import { literalOf, tensorOf } from "../src/ir/tensor.js";
import { seeded } from "./random-program.js";

/**
 * Matmuls by constants and by a stored tensor, a layer norm and a softmax: every unit works. x [rows, width] -> y [rows, rows].
 */
export function blockGraph(rows: number, width: number, inner: number): Graph {
  const builder = new GraphBuilder("block");
  const random = seeded(5);
  const constant = (shape: readonly number[], origin: string): number => {
    const values = Array.from(
      { length: shape.reduce((count, extent) => count * extent, 1) },
      () => (random(65) - 32) / 64,
    );
    return builder.constant(literalOf(tensorOf("f32", shape, values)), [origin]);
  };
  const x = builder.input("x", { dtype: "f32", shape: [rows, width] });
  const first = builder.add("matmul", [x, constant([width, inner], "w")], {}, ["first"]);
  const active = builder.add("tanh", [builder.add("add", [first, constant([inner], "b")], {}, ["bias"])], {}, [
    "active",
  ]);
  const ones = builder.add(
    "layer_norm",
    [active, constant([inner], "s"), constant([inner], "o")],
    { axis: 1, epsilon: 1e-5 },
    ["norm"],
  );
  const turned = builder.add("transpose", [ones], { perm: [1, 0] }, ["turned"]);
  const scores = builder.add("matmul", [ones, turned], {}, ["scores"]);
  builder.output("y", builder.add("softmax", [scores], { axis: 1 }, ["weights"]));
  return builder.finish();
}

export const blockInput = (rows: number, width: number): Tensor =>
  tensorOf(
    "f32",
    [rows, width],
    Array.from({ length: rows * width }, (_, i) => Math.sin(i)),
  );

/** An instruction and its place. */
export interface Victim {
  readonly queue: number;
  readonly at: number;
  readonly instruction: TimedInstruction;
}

export const instructionsOf = ({ entries }: Program): Victim[] =>
  (entries[0]?.queues[0] ?? []).flatMap((list, queue) => list.map((instruction, at) => ({ queue, at, instruction })));

export const withFields = (
  instruction: TimedInstruction,
  fields: TimedInstruction["fields"],
): readonly TimedInstruction[] => [{ ...instruction, fields: { ...instruction.fields, ...fields } }];

export const replaced = (program: Program, { queue, at }: Victim, by: readonly TimedInstruction[]): Program =>
  withQueues(
    program,
    (program.entries[0]?.queues[0] ?? []).map((list, index) =>
      index === queue ? [...list.slice(0, at), ...by, ...list.slice(at + 1)] : list,
    ),
  );

/** The program with other queues; its prediction follows, so that only the change itself is judged. */
export function withQueues(program: Program, queues: readonly (readonly TimedInstruction[])[]): Program {
  const cycles = [chipCycles(program.target, queues)];
  return { ...program, entries: program.entries.map((entry) => ({ ...entry, queues: [queues], cycles })) };
}
