/** What a task of a plan names: panels, storages and tiles, each as often as the task does. */

import { isTile, type PackedTile, type PanelRef, panelsOf, type StorageId, type Task } from "../plan.js";

export const panelsNamed = ({ passes, leaves, outputs }: Task): readonly PanelRef[] => [
  ...passes.flatMap(panelsOf),
  ...leaves,
  ...outputs,
];

export const storagesNamed = (task: Task): StorageId[] => panelsNamed(task).map(({ storage }) => storage);

export const tilesNamed = ({ passes }: Task): PackedTile[] =>
  passes.flatMap(({ weights }) => (isTile(weights) ? [weights] : []));
