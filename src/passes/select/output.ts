/**
 * Outputs: the storage from which the host takes a tensor, and which element lies where.
 */

import { invariant } from "../../diagnostics.js";
import type { PlanBinding } from "../../ir/plan.js";
import type { Located } from "./layout/operand.js";
import { bindingFactors } from "./input.js";
import { moved } from "./layout/move.js";
import { type Selection, storageAt } from "./selection.js";
import { elementView, naturalLayout } from "./layout/view.js";

/** Binds an output to the storage in which its value lies, copied if that is not a computed one of its own. */
export const bindOutput = (
  s: Selection,
  output: { readonly name: string; readonly declared: PlanBinding["declared"]; readonly node: number },
  stored: Located,
): PlanBinding => {
  const { shape } = stored;
  // The host reads forwards from the first column; what is stored backwards, or elsewhere, is copied first.
  const forwards = stored.view.dims.flat().every((f) => f.row >= 0 && f.column >= 0);
  const asItLies = forwards && stored.view.column === 0 && storageAt(s, stored.storage).kind === "temp";
  const value = asItLies ? stored : moved(s, output.node, stored, naturalLayout(shape));
  const factors = bindingFactors(shape, elementView(shape), shape, value.view);
  invariant(factors !== undefined, "element strides and storage strides of one shape meet");
  return {
    name: output.name,
    declared: output.declared,
    shape,
    storage: value.storage,
    firstRow: value.view.row,
    factors,
  };
};
