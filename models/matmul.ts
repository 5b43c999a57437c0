/**
 * One matrix product with a constant second operand: the model of the throughput figures.
 */

import { GraphBuilder } from "./graph-builder.js";
import type { OnnxModel } from "./onnx-writer.js";
import type { Sizes } from "./sizes.js";

export function matmul({ m, k, n }: Sizes, opset: number, seed: number): OnnxModel {
  const b = new GraphBuilder(opset, seed);
  const x = b.input("x", "float32", [m, k]);
  b.output("y", b.node("MatMul", [x, b.weight("weight", [k, n], 1 / Math.sqrt(k))]), [m, n]);
  return b.finish("matmul");
}
