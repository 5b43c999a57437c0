/**
 * Attributes of operations: their kinds, the check that a node has exactly those of its row, and typed access.
 *
 * After `checkAttributes` an accessor cannot fail; called on unchecked attributes it reports what is missing.
 */

import { fail } from "../../diagnostics.js";
import { DTYPES, type DType, type EdgeDType } from "../dtype.js";
import type { Attrs, AttrValue, Literal } from "../graph.js";

export const ATTRIBUTE_KINDS = {
  int: {
    doc: "an integer",
    accepts: (value: AttrValue): boolean => typeof value === "number" && Number.isInteger(value),
  },
  ints: {
    doc: "a list of integers",
    accepts: (value: AttrValue): boolean => isInts(value) && value.every(Number.isInteger),
  },
  number: { doc: "a number", accepts: (value: AttrValue): boolean => typeof value === "number" },
  boolean: { doc: "true or false", accepts: (value: AttrValue): boolean => typeof value === "boolean" },
  string: { doc: "a string", accepts: (value: AttrValue): boolean => typeof value === "string" },
  dtype: { doc: "an element type", accepts: (value: AttrValue): boolean => isDType(value) },
  edgeDtype: { doc: "an element type of a file", accepts: (value: AttrValue): boolean => isEdgeDType(value) },
  literal: { doc: "a constant", accepts: (value: AttrValue): boolean => isLiteral(value) },
} as const;
/** A kind, or the words that a string attribute may be. */
export type AttributeKind = keyof typeof ATTRIBUTE_KINDS | readonly string[];

export const isLiteral = (value: AttrValue): value is Literal => typeof value === "object" && "load" in value;

/** The value of a node that is a constant; undefined for any other. */
export function literalIn({ op, attrs }: { readonly op: string; readonly attrs: Attrs }): Literal | undefined {
  const value = attrs["value"];
  return op === "constant" && value !== undefined && isLiteral(value) ? value : undefined;
}
const isInts = (value: AttrValue): value is readonly number[] => typeof value === "object" && !("load" in value);
export const isDType = (value: unknown): value is DType => typeof value === "string" && Object.hasOwn(DTYPES, value);
export const isEdgeDType = (value: unknown): value is EdgeDType =>
  isDType(value) || value === "i64" || value === "u64" || value === "f64";

export function checkAttributes(op: string, kinds: Readonly<Record<string, AttributeKind>>, attrs: Attrs): void {
  for (const name of Object.keys(attrs)) {
    if (!Object.hasOwn(kinds, name)) fail("LPU2011", { message: `${op}: unknown attribute '${name}'` });
  }
  for (const [name, kind] of Object.entries(kinds)) {
    const value = attrs[name];
    const wanted =
      typeof kind === "string" ? ATTRIBUTE_KINDS[kind].doc : `one of ${kind.map((word) => `'${word}'`).join(", ")}`;
    if (value === undefined) fail("LPU2011", { message: `${op}: expected attribute '${name}', ${wanted}` });
    const fits =
      typeof kind === "string"
        ? ATTRIBUTE_KINDS[kind].accepts(value)
        : typeof value === "string" && kind.includes(value);
    if (!fits)
      fail("LPU2011", {
        message: `${op}: expected attribute '${name}' to be ${wanted}, got ${isLiteral(value) ? "a constant" : JSON.stringify(value)}`,
      });
  }
}

const missing = (name: string, kind: keyof typeof ATTRIBUTE_KINDS): never =>
  fail("LPU2011", { message: `expected attribute '${name}', ${ATTRIBUTE_KINDS[kind].doc}` });

export function numberAttr(attrs: Attrs, name: string): number {
  const value = attrs[name];
  return typeof value === "number" ? value : missing(name, "number");
}

export function intsAttr(attrs: Attrs, name: string): readonly number[] {
  const value = attrs[name];
  return value !== undefined && isInts(value) ? value : missing(name, "ints");
}

export function booleanAttr(attrs: Attrs, name: string): boolean {
  const value = attrs[name];
  return typeof value === "boolean" ? value : missing(name, "boolean");
}

export function stringAttr(attrs: Attrs, name: string): string {
  const value = attrs[name];
  return typeof value === "string" ? value : missing(name, "string");
}

export function dtypeAttr(attrs: Attrs, name: string): DType {
  const value = attrs[name];
  return isDType(value) ? value : missing(name, "dtype");
}

export function edgeDtypeAttr(attrs: Attrs, name: string): EdgeDType {
  const value = attrs[name];
  return isEdgeDType(value) ? value : missing(name, "edgeDtype");
}

export function literalAttr(attrs: Attrs, name: string): Literal {
  const value = attrs[name];
  return value !== undefined && isLiteral(value) ? value : missing(name, "literal");
}
