/** One operation by itself, in tests: what the evaluator makes of tensors. */

import type { Attrs, Tensor } from "../src/ir/graph.js";
import { evaluateNode, inferType } from "../src/ir/ops.js";

export const applyOp = (op: string, inputs: readonly Tensor[], attrs: Attrs = {}): Tensor =>
  evaluateNode(op, inputs, attrs, inferType(op, inputs, attrs));
