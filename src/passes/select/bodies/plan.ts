/**
 * From the plan of a graph with a few of its bodies (graph.ts) to that of the graph with all.
 *
 * What selection makes for a body it makes for the next one, too, with storages and weights of that one. That it did is seen
 * from the plan: what it has for the next body is what it has for the model, renamed. So what it would have for each body
 * that was left out is what it has for the model, renamed as well.
 */

import { at } from "../../../diagnostics.js";
import type { Literal, Node } from "../../../ir/graph.js";
import { literalIn } from "../../../ir/ops/attributes.js";
import { isTile, type PackedTile, type Plan, type Storage, type StorageId, type Task } from "../../../ir/plan.js";
import { tileKey } from "../../../ir/recipe.js";
import { originText } from "../selection.js";
import type { BodyNodes, Shortened } from "./graph.js";

/** How much of a plan there was before a node was lowered: so many of each. */
export interface Made {
  readonly tasks: number;
  readonly storages: number;
  readonly origins: number;
}

/** What selection made for a body. */
type Part = Pick<Plan, "tasks" | "storages" | "origins">;

/** What stands for what a part names. */
interface Renaming {
  readonly storage: (id: StorageId) => StorageId;
  readonly origin: (origin: number) => number;
  /** Of origins, storages and literals. */
  readonly text: (name: string) => string;
}

/**
 * The plan of all bodies; undefined if what it has for the model is not what it has for the next. `made`: before the body that is
 * before the model, before the model, before the next, and behind that.
 */
export const planOfAll = (plan: Plan, { model, next, omitted }: Shortened, made: readonly Made[]): Plan | undefined => {
  const [earliest, before, cut, end] = [0, 1, 2, 3].map((body) => at(made, body, "body"));
  if (earliest === undefined || before === undefined || cut === undefined || end === undefined) return undefined;
  const part = partOf(plan, before, cut);
  const moved = (from: Made, bodies: number): Pick<Renaming, "storage" | "origin"> => ({
    storage: (id) => (id < from.storages ? id : id + bodies * (cut.storages - before.storages)),
    origin: (origin) => (origin < from.origins ? origin : origin + bodies * (cut.origins - before.origins)),
  });
  const copyFor = (body: BodyNodes, bodies: number): Part | undefined => {
    const names = namesOf([...model.before, ...model.own], [...body.before, ...body.own]);
    return names && renamed(part, { ...moved(earliest, bodies), text: (name) => names.get(name) ?? name });
  };
  if (JSON.stringify(copyFor(next, 1)) !== JSON.stringify(partOf(plan, cut, end))) return undefined;
  const copies = omitted.flatMap((body, index) => copyFor(body, index + 1) ?? []);
  // What comes behind the model comes behind the last body, and may take chains from that.
  const names = namesOf(model.own, at(omitted, omitted.length - 1, "body").own);
  if (copies.length < omitted.length || names === undefined) return undefined;
  const behind: Renaming = { ...moved(before, omitted.length), text: (name) => names.get(name) ?? name };
  const parts = [partOf(plan, NONE, cut), ...copies, renamed(partOf(plan, cut), behind)];
  const bound = <Bound extends { readonly storage: StorageId }>(all: readonly Bound[]): Bound[] =>
    all.map((binding) => ({ ...binding, storage: behind.storage(binding.storage) }));
  return {
    ...plan,
    storages: parts.flatMap(({ storages }) => storages),
    tasks: parts.flatMap(({ tasks }) => tasks),
    origins: parts.flatMap(({ origins }) => origins),
    inputs: bound(plan.inputs),
    outputs: bound(plan.outputs),
    states: bound(plan.states).map((state) => ({ ...state, next: behind.storage(state.next) })),
    literals: literalsOfAll(plan, model.own, omitted),
  };
};

const NONE: Made = { tasks: 0, storages: 0, origins: 0 };

const partOf = ({ tasks, storages, origins }: Plan, from: Made, to?: Made): Part => ({
  tasks: tasks.slice(from.tasks, to?.tasks),
  storages: storages.slice(from.storages, to?.storages),
  origins: origins.slice(from.origins, to?.origins),
});

/** By what nodes are called, and their literals: what those in the same places are; undefined if one name stands for several. */
const namesOf = (nodes: readonly Node[], others: readonly Node[]): ReadonlyMap<string, string> | undefined => {
  const names = new Map<string, string>();
  for (const [index, node] of nodes.entries()) {
    const [from, to] = [namesIn(node), namesIn(at(others, index, "node"))];
    if (from.length !== to.length) return undefined;
    for (const [i, name] of from.entries()) {
      const other = at(to, i, "name");
      if ((names.get(name) ?? other) !== other) return undefined;
      names.set(name, other);
    }
  }
  return names;
};

const namesIn = (node: Node): readonly string[] => {
  const literal = literalIn(node);
  return [...node.origin, originText(node), ...(literal === undefined ? [] : [literal.key])];
};

const literalsOfAll = (
  { literals }: Plan,
  model: readonly Node[],
  omitted: readonly BodyNodes[],
): ReadonlyMap<string, Literal> => {
  const all = new Map(literals);
  for (const { own } of omitted)
    for (const [index, node] of own.entries()) {
      const [literal, ofModel] = [literalIn(node), literalIn(at(model, index, "node"))];
      if (literal !== undefined && ofModel !== undefined && literals.has(ofModel.key)) all.set(literal.key, literal);
    }
  return all;
};

/* ---------- renaming ---------- */

const renamed = ({ tasks, storages, origins }: Part, by: Renaming): Part => {
  const tile = renamedTiles(by);
  return {
    tasks: tasks.map((task) => renamedTask(task, by, tile)),
    storages: storages.map((storage) => renamedStorage(storage, by)),
    origins: origins.map(by.text),
  };
};

const renamedStorage = (storage: Storage, { storage: moved, text }: Renaming): Storage => {
  const { id, name, recipe } = storage;
  return {
    ...storage,
    id: moved(id),
    name: text(name),
    ...(recipe?.kind === "spread" ? { recipe: { ...recipe, literal: text(recipe.literal) } } : {}),
  };
};

/** Many tasks multiply by one tile, which is renamed once. */
const renamedTiles = ({ text }: Renaming): ((tile: PackedTile) => PackedTile) => {
  const known = new Map<string, PackedTile>();
  const renamedTile = (tile: PackedTile): PackedTile => {
    const { recipe } = tile;
    if (recipe.kind !== "blocks" || !("literal" in recipe.matrix)) return tile;
    const own = { ...recipe, matrix: { ...recipe.matrix, literal: text(recipe.matrix.literal) } };
    return { ...tile, key: tileKey(own), recipe: own };
  };
  return (tile) => {
    const made = known.get(tile.key) ?? renamedTile(tile);
    known.set(tile.key, made);
    return made;
  };
};

const renamedTask = (task: Task, { storage, origin }: Renaming, tile: (tile: PackedTile) => PackedTile): Task => {
  const moved = <Named extends { readonly storage: StorageId }>(all: readonly Named[]): Named[] =>
    all.map((one) => ({ ...one, storage: storage(one.storage) }));
  const { passes, ops, leaves, outputs, passOrigin } = task;
  return {
    ...task,
    passes: moved(passes).map((pass) => ({
      ...pass,
      weights: isTile(pass.weights) ? tile(pass.weights) : moved(pass.weights),
    })),
    ops: ops.map((op) => (op.origin === undefined ? op : { ...op, origin: origin(op.origin) })),
    leaves: moved(leaves),
    outputs: moved(outputs),
    origin: origin(task.origin),
    ...(passOrigin === undefined ? {} : { passOrigin: origin(passOrigin) }),
  };
};
