/**
 * States: what a run leaves for the next one in the rows in which it has found a state.
 *
 * A state is read like an input, but lies once: as the array takes it, or plainly. What takes its place is computed like any
 * value, and at last copied: in the state's layout and element type, with zeros on unused lanes, as the host would write it.
 * The scheduler gives the copy the state's rows, and a time when nothing reads them any more. So a run leaves what the host
 * would have placed, had it fetched the output and given it as the input again.
 */

import { at, invariant } from "../../diagnostics.js";
import type { Node } from "../../ir/graph.js";
import { stringAttr } from "../../ir/ops/attributes.js";
import { type PlanState, statesOf, type Storage, type StorageId } from "../../ir/plan.js";
import { fitOperand, leafOf, type Located } from "./layout/operand.js";
import { moved } from "./layout/move.js";
import { type Layout, naturalLayout } from "./layout/view.js";
import { withoutPadding } from "./rules/chain.js";
import { joinInto } from "./rules/concat.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  nodeAt,
  originOf,
  pushChain,
  type Selection,
  spaceOf,
  storageAt,
} from "./selection.js";
import { fitted, locate } from "./value.js";

/** Runs a step for a node, and notes what is wrong with it; undefined then. */
type Attempt = <T>(node: Node, step: () => T) => T | undefined;

/** Whether a node is nothing but what takes the place of a state. */
export const isNext = (s: Selection, { id }: Node): boolean => {
  const nexts = new Set(s.stateOutputs.values());
  const names = s.graph.outputs.filter(({ node }) => node === id).map(({ name }) => name);
  return (
    names.length > 0 && names.every((name) => nexts.has(name)) && at(s.consumers, id, "list of readers").length === 0
  );
};

/** Writes what takes the place of every state, after all else. */
export const storeStates = (s: Selection, attempt: Attempt): readonly PlanState[] => {
  const layouts = new Map<string, Layout>();
  for (const id of s.graph.inputs) {
    const name = stringAttr(nodeAt(s, id).attrs, "name");
    if (s.stateOutputs.has(name)) layouts.set(name, locate(s, id));
  }
  const stored = s.states.flatMap((state) => {
    const output = s.graph.outputs.find(({ name }) => name === s.stateOutputs.get(state.name));
    const layout = layouts.get(state.name);
    invariant(output !== undefined && layout !== undefined, `state '${state.name}' has an output that takes its place`);
    const node = nodeAt(s, output.node);
    const next = attempt(node, () => storeNext(s, state, layout, node));
    return next === undefined ? [] : [{ ...state, next }];
  });
  const joined = statesTogether(s);
  for (const { storage, next } of stored) {
    const bothHemispheres = joined.has(storage);
    s.storages[storage] = { ...storageAt(s, storage), bothHemispheres };
    s.storages[next] = { ...storageAt(s, next), output: true, bothHemispheres };
  }
  return stored;
};

/** States of which the passes of one task take several: only those lie in both hemispheres, the others where their passes go. */
const statesTogether = (s: Selection): ReadonlySet<StorageId> =>
  new Set(
    s.tasks.flatMap((task) => {
      const states = statesOf(s.storages, task);
      return states.length > 1 ? states : [];
    }),
  );

const storeNext = (
  s: Selection,
  { name, storage }: Omit<PlanState, "next">,
  { view, shape }: Layout,
  node: Node,
): number => {
  const layout = { view, shape };
  const { dtype } = storageAt(s, storage);
  const space = spaceOf(s.target, layout);
  const value = nextValue(s, node, layout, dtype);
  const fit = fitOperand(s.target, view, shape, value);
  invariant(fit !== undefined, "a value that was moved lies as it was wanted");
  const ops = [copyOfLeaf(dtype, 0)];
  const copy: Chain = (panel, row, rows) => ({ ops, leaves: [leafOf(value, fit, panel, row, rows)] });
  const next = addTemp(s, node, dtype, space);
  pushChain(s, space, withoutPadding(s, copy, layout, dtype), next, originOf(s, node));
  s.copies.set(`next ${name}`, { storage: next, ...layout });
  return next;
};

/** What takes a state's place, in the state's layout. Rows of a state are taken as soon as they have been read, so it lies in none. */
const nextValue = (s: Selection, node: Node, layout: Layout, dtype: Storage["dtype"]): Located => {
  if (node.op === "concat" && isNext(s, node)) {
    const joined = addTemp(s, node, dtype, spaceOf(s.target, layout));
    joinInto(s, node, layout, joined);
    return { storage: joined, ...layout };
  }
  const value = fitted(s, node.id, layout, "alone");
  return storageAt(s, value.storage).kind === "state" ? moved(s, node.id, value, naturalLayout(value.shape)) : value;
};
