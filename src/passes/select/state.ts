/**
 * States: what a run leaves for the next one in the rows in which it has found a state.
 *
 * A state is read like an input, but lies once: as the array takes it, or plainly. What takes its place is computed like any
 * value, and at last copied: in the state's layout and element type, with zeros on unused lanes, as the host would write it.
 * The scheduler gives the copy the state's rows, and a time when nothing reads them any more. So a run leaves what the host
 * would have placed, had it fetched the output and given it as the input again.
 */

import { at, invariant, sure } from "../../diagnostics.js";
import type { Node } from "../../ir/graph.js";
import { stringAttr } from "../../ir/ops/attributes.js";
import type { PlanState, Storage } from "../../ir/plan.js";
import { fitOperand, leafOf } from "./layout/operand.js";
import { moved } from "./layout/move.js";
import { type Layout, naturalLayout } from "./layout/view.js";
import { columnsOf, withoutPadding } from "./rules/chain.js";
import { joinInto } from "./rules/concat.js";
import { rearrange, type Turn, turnsOf } from "./turns.js";
import {
  addTemp,
  type Chain,
  copyOfLeaf,
  nodeAt,
  originOf,
  pushTask,
  rowRun,
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
  return s.states.flatMap((state) => {
    const output = s.graph.outputs.find(({ name }) => name === s.stateOutputs.get(state.name));
    const layout = layouts.get(state.name);
    invariant(output !== undefined && layout !== undefined, `state '${state.name}' has an output that takes its place`);
    const node = nodeAt(s, output.node);
    const next = attempt(node, () => storeNext(s, state, layout, node));
    return next === undefined ? [] : [{ ...state, next }];
  });
};

const storeNext = (
  s: Selection,
  { name, storage }: Omit<PlanState, "next">,
  { view, shape }: Layout,
  node: Node,
): number => {
  const layout = { view, shape };
  const { dtype } = storageAt(s, storage);
  const space = spaceOf(s.target, layout);
  const turns = turnsOf(s.target, space.rows);
  const { copy, isClean } =
    node.op === "concat" && isNext(s, node)
      ? joinedNext(s, node, layout, dtype, turns)
      : movedNext(s, node, layout, dtype);
  const turnAt = new Map(turns.map((turn) => [turn.before, turn]));
  const copied: Chain = (panel, before) => copy(panel, sure(turnAt.get(before), "turn"));
  const masked = isClean ? copied : withoutPadding(s, copied, layout, dtype);
  const used = columnsOf(view);
  const isFull = (panel: number): boolean =>
    used.filter((column) => Math.floor(column / s.target.lanes) === panel).length === s.target.lanes;
  const next = addTemp(s, node, dtype, space);
  for (const { before, rows } of turns)
    for (let panel = 0; panel < space.panels; panel++)
      pushTask(s, {
        ...(isFull(panel) ? copied : masked)(panel, before, rows.count),
        rows: rows.count,
        storage: next,
        panel,
        row: rows.row,
        step: rows.step,
        origin: originOf(s, node),
      });
  s.copies.set(`next ${name}`, { storage: next, ...layout });
  return next;
};

/** How rows of what takes a state's place are copied. */
interface Next {
  readonly copy: (panel: number, turn: Turn) => ReturnType<Chain>;
  /** Whether there are zeros on unused lanes. */
  readonly isClean: boolean;
}

/** What is joined is stored in the order in which the state's rows are copied. */
const joinedNext = (
  s: Selection,
  node: Node,
  layout: Layout,
  dtype: Storage["dtype"],
  turns: readonly Turn[],
): Next => {
  const storage = addTemp(s, node, dtype, spaceOf(s.target, layout));
  const before = s.tasks.length;
  const { copy, isClean } = joinInto(s, node, layout, storage);
  rearrange(s.tasks, before, storage, turns);
  return { copy: (panel, turn) => copy(panel, rowRun(turn.before, turn.rows.count), turn.rows), isClean };
};

/** A value that lies on the state's lanes. Rows of a state are taken as soon as they have been read, so it lies in none. */
const movedNext = (s: Selection, node: Node, { view, shape }: Layout, dtype: Storage["dtype"]): Next => {
  const fitting = fitted(s, node.id, { view, shape }, "alone");
  const isState = storageAt(s, fitting.storage).kind === "state";
  const value = isState ? moved(s, node.id, fitting, naturalLayout(fitting.shape)) : fitting;
  const fit = fitOperand(s.target, view, shape, value);
  invariant(fit !== undefined, "a value that was moved lies as it was wanted");
  const ops = [copyOfLeaf(dtype, 0)];
  return {
    copy: (panel, { rows: { row, step, count } }) => ({ ops, leaves: [leafOf(value, fit, panel, row, count, step)] }),
    isClean: false,
  };
};
