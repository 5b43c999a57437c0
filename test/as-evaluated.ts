/** What is expected of a compiled graph, in tests: that it gives what the evaluator gives, in the predicted cycles. */

import { expect } from "@jest/globals";
import { writeImage } from "../src/codegen/image/image.js";
import { evaluate } from "../src/ir/evaluate.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { chosenEntry } from "../src/ir/program.js";
import { type TargetName, TARGETS } from "../src/ir/target.js";
import { checkSchedule } from "../src/passes/check/check.js";
import { loadImage } from "../src/runtime/run.js";
import { distance, programOf } from "./compiled.js";

/** Of the machine's fp16 to the evaluator's fp32. */
const TOLERANCE = 5e-3;

/** Fails unless a graph of one input, compiled, is legal and gives on the linked machine what the evaluator gives. */
export function expectAsEvaluated(graph: Graph, x: Tensor, name: TargetName, tolerance = TOLERANCE): void {
  const program = programOf(graph, TARGETS[name]);
  checkSchedule(chosenEntry(program));
  const loaded = loadImage(writeImage(program)).entry();
  const { outputs, cycles } = loaded.run({ x });
  expect(cycles).toBe(loaded.predictedCycles);
  const [want] = evaluate(graph, { x });
  expect(want).toBeDefined();
  if (want !== undefined) expect(distance(Object.values(outputs)[0], want)).toBeLessThanOrEqual(tolerance);
}
