/**
 * The group that runs a graph: how many chips its operations of a group name; one chip where there are none.
 */

import type { Graph, Node } from "./graph.js";
import { numberAttr } from "./ops/attributes.js";
import { opRow } from "./ops.js";

/** The number of chips that a node names; undefined if it is no operation of a group. */
const chipsNamed = ({ op, attrs }: Node): number | undefined =>
  opRow(op).group === undefined ? undefined : numberAttr(attrs, "chips");

/** Chips that run a graph, each the same; what `verifyGraph` holds is that all nodes name the same number. */
export const chipsOf = ({ nodes }: Graph): number => nodes.map(chipsNamed).find((chips) => chips !== undefined) ?? 1;

/** The first node that names another number of chips than one before it. */
export const strangerOf = ({ nodes }: Graph): Node | undefined => {
  const named = nodes.filter((node) => chipsNamed(node) !== undefined);
  const [first] = named;
  return first === undefined ? undefined : named.find((node) => chipsNamed(node) !== chipsNamed(first));
};
