/**
 * What a rule reads of its node: attributes and operands are handed over so that each access is noted, and what was given and
 * never looked at is refused by name. So no rule can drop what a model says.
 *
 * Three things may stay unread: an attribute that is off (zero or empty), one of UNUSED that means nothing to a program that
 * only runs, and what a rule's row says that it ignores, with the reason.
 */

import type { NodeId } from "../ir/graph.js";
import { type AttributeProto, int64ToNumber } from "./schema.js";

/** Attributes that never change the values of a program that runs. */
export const UNUSED: Readonly<Record<string, string>> = {
  stash_type: "sums and statistics are computed in fp32 in any case",
  seed: "nothing is random in a program that only runs",
  momentum: "running statistics are updated in training only",
  consumed_inputs: "a hint of old operator sets about memory",
  is_test: "programs only run",
};

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
  /** What was given and not read, as messages name it; `ignores`: attributes by name, operands by number. */
  readonly unread: (ignores: Readonly<Record<string, string>>) => readonly string[];
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
    unread: (ignores) => [
      ...[...given].flatMap(([name, attribute]) =>
        attributes.read.has(name) || name in UNUSED || name in ignores || isOff(attribute)
          ? []
          : [`attribute '${name}'`],
      ),
      ...operands.flatMap((id, index) =>
        id === undefined || read.has(`${index}`) || `${index}` in ignores ? [] : [`operand ${index}`],
      ),
    ],
  };
}

/** Whether an attribute says zero, nothing or not set. */
const isOff = (attribute: AttributeProto): boolean =>
  int64ToNumber(attribute.i) === 0 &&
  attribute.f === 0 &&
  attribute.ints.length === 0 &&
  attribute.floats.length === 0 &&
  attribute.strings.length === 0 &&
  attribute.s.length === 0 &&
  !attribute.t &&
  !attribute.g;
