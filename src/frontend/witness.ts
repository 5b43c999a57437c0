/**
 * What a rule reads of its node: attributes and operands are handed over so that each access is noted, and what was given and
 * never looked at is refused by name. So no rule can drop what a model says.
 *
 * Three things may stay unread: an attribute of UNUSED, which means nothing to a program that only runs; what a rule's row
 * says that it ignores, with the reason; and an attribute at the one value of which the row says that its rule stands for it.
 */

import type { NodeId } from "../ir/graph.js";
import { type AttributeProto, decodeText, int64ToNumber } from "./schema.js";

/** Attributes that never change the values of a program that runs. */
export const UNUSED: Readonly<Record<string, string>> = {
  stash_type: "sums and statistics are computed in fp32 in any case",
  seed: "nothing is random in a program that only runs",
  momentum: "running statistics are updated in training only",
  consumed_inputs: "a hint of old operator sets about memory",
  is_test: "programs only run",
};

/** What of a node a rule's row says may stay unread. */
export interface Excused {
  /** Attributes by name and operands by number, whatever they hold, with the reason. */
  readonly ignores?: Readonly<Record<string, string>>;
  /** Attributes by name, at one value: what the operator's schema takes where there is none. */
  readonly defaults?: Readonly<Record<string, number | string>>;
}

class Attributes extends Map<string, AttributeProto> {
  readonly read = new Set<string>();
  override get(name: string): AttributeProto | undefined {
    this.read.add(name);
    return super.get(name);
  }
  override has(name: string): boolean {
    this.read.add(name);
    return super.has(name);
  }
}

export interface Witness {
  readonly attributes: ReadonlyMap<string, AttributeProto>;
  readonly operands: readonly (NodeId | undefined)[];
  /** What was given, not read and not excused by the rule's row, as messages name it. */
  readonly unread: (excused: Excused) => readonly string[];
}

export function witness(
  given: ReadonlyMap<string, AttributeProto>,
  operands: readonly (NodeId | undefined)[],
): Witness {
  const attributes = new Attributes(given);
  const read = new Set<string>();
  const watched = new Proxy(operands, {
    get: (target, name, receiver) => {
      if (typeof name === "string") read.add(name);
      return Reflect.get(target, name, receiver);
    },
  });
  return {
    attributes,
    operands: watched,
    unread: ({ ignores = {}, defaults = {} }) => [
      ...[...given].flatMap(([name, attribute]) =>
        attributes.read.has(name) || name in UNUSED || name in ignores || holds(attribute, defaults[name])
          ? []
          : [`attribute '${name}'`],
      ),
      ...operands.flatMap((id, index) =>
        id === undefined || read.has(`${index}`) || `${index}` in ignores ? [] : [`operand ${index}`],
      ),
    ],
  };
}

/** Whether an attribute has a value: a number in its integer or its float, or a text. */
const holds = ({ i, f, s }: AttributeProto, value: number | string | undefined): boolean =>
  typeof value === "string"
    ? decodeText(s) === value
    : value === 0
      ? int64ToNumber(i) === 0 && f === 0
      : value !== undefined && (int64ToNumber(i) === value || f === Math.fround(value));
