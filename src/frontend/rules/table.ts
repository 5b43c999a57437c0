/**
 * All import rules, and the choice of one for an operator. A row without `since` is the meaning in every version.
 */

import type { Rule } from "../rule.js";
import { ATTENTION } from "./attention.js";
import { ELEMENTWISE } from "./elementwise.js";
import { GATHER } from "./gather.js";
import { LOSS } from "./loss.js";
import { MATMUL } from "./matmul.js";
import { MICROSOFT } from "./microsoft.js";
import { NN } from "./nn.js";
import { QUANTIZE } from "./quantize.js";
import { REDUCE } from "./reduce.js";
import { RESIZE } from "./resize.js";
import { SAMPLE } from "./sample.js";
import { SCATTER } from "./scatter.js";
import { SEQUENCE } from "./sequence.js";
import { SHAPE } from "./shape.js";
import { SIGNAL } from "./signal.js";
import { SPATIAL } from "./spatial.js";

export const RULES: readonly Rule[] = [
  ...ELEMENTWISE,
  ...REDUCE,
  ...MATMUL,
  ...SHAPE,
  ...SEQUENCE,
  ...GATHER,
  ...SCATTER,
  ...RESIZE,
  ...SAMPLE,
  ...NN,
  ...SPATIAL,
  ...SIGNAL,
  ...LOSS,
  ...ATTENTION,
  ...MICROSOFT,
  ...QUANTIZE,
];

const byOperator = new Map<string, Rule[]>();
for (const rule of RULES) {
  const key = operatorKey(rule.domain ?? "", rule.op);
  byOperator.set(key, [...(byOperator.get(key) ?? []), rule]);
}

/** ONNX itself is the empty domain. */
export function domainOf(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

export function operatorKey(domain: string, op: string): string {
  return domainOf(domain) === "" ? op : `${domain}:${op}`;
}

/** The row of the newest version that is not newer than the model's. */
export function findRule(domain: string, op: string, opset: number): Rule | undefined {
  const rows = (byOperator.get(operatorKey(domain, op)) ?? []).filter((rule) => (rule.since ?? 1) <= opset);
  return rows.reduce<Rule | undefined>(
    (best, rule) => (best === undefined || (rule.since ?? 1) > (best.since ?? 1) ? rule : best),
    undefined,
  );
}

/** Domains in which an operator of this name has rules. */
export const domainsOf = (op: string): readonly string[] => [
  ...new Set(RULES.flatMap((rule) => (rule.op === op ? [rule.domain ?? ""] : []))),
];
