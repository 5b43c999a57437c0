/** What is said of nodes that cannot be imported. */

import { CompileError, didYouMean, fail, InvariantError } from "../diagnostics.js";
import { nameOfNode } from "./order.js";
import { refusedFor } from "./refused.js";
import type { Wide } from "./rule.js";
import { domainsOf, operatorKey, RULES } from "./rules/table.js";
import type { NodeProto } from "./schema.js";

export const labelOf = (node: NodeProto, prefix = ""): string =>
  `${prefix}${nameOfNode(node)} (${operatorKey(node.domain, node.opType)})`;

export const countsByOperator = (problems: readonly CompileError[]): string[] => {
  const counts = new Map<string, number>();
  for (const { details } of problems) {
    const operator = /\(([^()]*)\)$/.exec(details.node ?? "")?.[1] ?? "model";
    counts.set(operator, (counts.get(operator) ?? 0) + 1);
  }
  return [...counts].map(([operator, count]) => `${operator}: ${count}`);
};

export const missingResult = (index: number, name: string, node: string): CompileError =>
  new CompileError("LPU1003", { message: `result ${index} ('${name}') is not supported`, node });

/** Thrown where the causes were noted already. */
export const PASSED_OVER = new CompileError("LPU1013", { message: "depends on nodes that are not supported" });

export function problemOf(error: unknown, label: string): CompileError {
  if (error instanceof CompileError) {
    const { code, details, others } = error;
    // Type errors of operations name the operation; users know the node.
    const foreign = code.startsWith("LPU2");
    if (!foreign)
      return details.node === undefined ? new CompileError(code, { ...details, node: label }, others) : error;
    return new CompileError(
      code === "LPU2003" ? code : "LPU1012",
      { ...details, node: label, hint: details.hint ?? MISFIT_HINT },
      others,
    );
  }
  if (error instanceof InvariantError || error instanceof RangeError) {
    return new CompileError("LPU1012", {
      message: `operands do not fit: ${error.message}`,
      node: label,
      hint: MISFIT_HINT,
    });
  }
  throw error;
}
const MISFIT_HINT = "the model may be inconsistent, or a dimension is bound to a size for which it was not made";

export const passOver = (): never => {
  throw PASSED_OVER;
};

export function refuse({ problem: { code, details } }: Wide, node: string): never {
  const from = details.node === undefined ? [] : [`it comes from ${details.node}`];
  return fail(code, { ...details, node, notes: [...(details.notes ?? []), ...from] });
}

export function unknownOperator(node: NodeProto, label: string): CompileError {
  const key = operatorKey(node.domain, node.opType);
  const refused = refusedFor(node.domain, key);
  return new CompileError("LPU1002", {
    message: `operator '${key}' is not supported`,
    node: label,
    ...(refused === undefined ? {} : { notes: [refused.doc] }),
    hint: refused?.hint ?? unknownHint(node),
  });
}

/** Another domain, or a name that is spelled nearly like it; operators of other meanings are no help. */
function unknownHint({ domain, opType }: NodeProto): string {
  const rest = "lpu ops lists what is supported; write the operator out in others, or do it outside of the program";
  const [elsewhere] = domainsOf(opType).filter((other) => other !== domain);
  if (elsewhere !== undefined)
    return `'${operatorKey(elsewhere, opType)}' is supported, if that is what is meant; else ${rest}`;
  return `${didYouMean(
    opType,
    RULES.map(({ op }) => op),
  )}${rest}`;
}
