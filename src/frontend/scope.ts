/**
 * What names stand for at a place in a model: results of nodes, what is wrong with them, or nothing. A name is looked up here and
 * then further out; the cause of what could not be made is noted where it is used.
 */

import { CompileError, fail } from "../diagnostics.js";
import type { NodeId } from "../ir/graph.js";
import type { Made, Sequence, Wide } from "./rule.js";

/** What a rule made; what is wrong with a value if it is used; or a value that a reported node should have made. */
export type Value = Made | CompileError | "failed" | "absent";

export interface Scope {
  readonly values: Map<string, Value>;
  readonly parent?: Scope;
}

/** Where causes are noted. */
interface Noting {
  readonly problems: Set<CompileError>;
}

export function define(scope: Scope, name: string, value: Value): void {
  if (scope.values.has(name))
    fail("LPU1008", {
      message: `value '${name}' is made twice`,
      hint: "the model breaks a rule of ONNX; export it again",
    });
  scope.values.set(name, value);
}

/** An operand that is not given: an empty name, or that of an operand of a function which its call leaves out. */
export function isAbsent(scope: Scope, name: string): boolean {
  return name === "" || valueNamed(scope, name) === "absent";
}

/** What a name stands for, here or further out. */
export function valueNamed(scope: Scope, name: string): Value | undefined {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    const value = at.values.get(name);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** The node of a value; undefined (with the cause noted) where it could not be made, or is no tensor of the IR. */
export function lookUp(importer: Noting, scope: Scope, name: string, user: string): NodeId | undefined {
  const value = find(importer, scope, name, user);
  if (value === undefined || typeof value === "number") return value;
  importer.problems.add(
    isSequence(value)
      ? new CompileError("LPU1009", { message: `${user} is a sequence`, hint: NO_SEQUENCES })
      : value.problem,
  );
  return undefined;
}

/** What was made of a value; undefined (with the cause noted) where it could not be made. */
export function find(importer: Noting, scope: Scope, name: string, user: string): Made | undefined {
  const value = valueNamed(scope, name);
  if (value === undefined)
    fail("LPU1008", {
      message: `${user} uses value '${name}' before it is made`,
      hint: "the model breaks a rule of ONNX; export it again",
    });
  if (value instanceof CompileError) importer.problems.add(value);
  return value instanceof CompileError || typeof value === "string" ? undefined : value;
}

export const NO_SEQUENCES =
  "sequences are taken apart when the program is compiled: only tensors may enter and leave it";
export const isSequence = (value: Made): value is Sequence => typeof value === "object" && "items" in value;
export const isWide = (value: Made | undefined): value is Wide => typeof value === "object" && "held" in value;
