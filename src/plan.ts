/**
 * Plans of systems from shapes alone: what a model would do on so many chips, without its weights.
 *
 *   modelOf     as in compile.ts, with numbers for weights that are not there; its parts, and which of them are alike
 *   choicesOf   systems that are tried, the smallest first
 *   leastCosts  whether there could be room
 *   costOf      shard, select, schedule: one part of each kind, for the chips of a group
 *   stagesFor   parts to stages, stages to groups, and what goes from group to group
 *   figuresOf   what follows
 */

import { at, CompileError, sure } from "./diagnostics.js";
import { type ModelSource, readModel } from "./frontend/source.js";
import { deadOf, groupsIn, systemOf, systemWith } from "./ir/system.js";
import { type Target, targetOf } from "./ir/target.js";
import { DEFAULT_WEIGHTS } from "./ir/weights.js";
import { withDevices } from "./options.js";
import { type Choice, choicesOf } from "./planner/choices.js";
import { costOf, peersIn } from "./planner/costs.js";
import { refuse, stagesFor, tooLarge } from "./planner/groups.js";
import { hostTime, isOneOf, type Model, modelOf } from "./planner/model.js";
import type { Options, PlanOptions } from "./planner/options.js";
import { capacityOf, laidOutCosts, leastCosts, smallestFor } from "./planner/room.js";
import { fewestStages } from "./planner/stages.js";
import { figuresOf, type Kind, type SystemPlan } from "./planner/system-plan.js";

export type { PlanOptions } from "./planner/options.js";
export type { SystemPlan } from "./planner/system-plan.js";

/** What a model does on a system. LPU2008 if the system does not hold it, and what `compile` throws of the model itself. */
export const plan = (source: ModelSource, asked: PlanOptions): SystemPlan => {
  const record = readModel(source);
  const said = withDevices(record, asked);
  const options: Options = { ...said, tensor: said.devices?.members ?? said.tensor };
  const target = targetOf(options.target);
  const choices = choicesOf(target, options);
  const model = modelOf(source, record, target, options);
  let tooSmall: CompileError | undefined;
  for (const choice of choices)
    try {
      return planOn(choice, model, target, options);
    } catch (error) {
      if (!(error instanceof CompileError) || error.code !== "LPU2008") throw error;
      tooSmall = error;
    }
  throw sure(tooSmall, "system that was looked at");
};

const planOn = (choice: Choice, model: Model, target: Target, options: Options): SystemPlan => {
  const { graph, pasts, parts, kinds } = model;
  const { tensor, grows } = choice;
  const capacity = capacityOf(target);
  const most = Math.min(
    grows ? Number.POSITIVE_INFINITY : groupsIn(choice.system, tensor).length,
    options.stages ?? Number.POSITIVE_INFINITY,
  );
  const least = leastCosts(model, tensor);
  const fewest = fewestStages(least, capacity);
  const peers = peersIn(choice.system, tensor);
  if (fewest === undefined || fewest > most) {
    // Where the system is named, the user sees by how much it is too small: with the rows that are filled up.
    const costs = (options.system === undefined ? undefined : laidOutCosts(model, target, peers)) ?? least;
    // Where a larger one is tried next, nobody sees which would hold it.
    const isLast = options.system !== undefined || grows;
    const holds = isLast ? smallestFor(model, target, options) : undefined;
    return refuse({ ...choice, parts, costs, most, capacity, holds });
  }
  const costed = kinds.map((kind, index): Kind => {
    const alike = parts.filter((part) => part.kind === index);
    const { first, last } = at(alike, 0, "part");
    options.onPart?.(`${first} to ${last}`);
    try {
      return { first, last, count: alike.length, ...costOf(kind, target, peers, pasts) };
    } catch (error) {
      if (!(error instanceof CompileError) || error.code !== "LPU2001") throw error;
      return tooLarge(first, last, error.details.message);
    }
  });
  const kindOf = parts.map(({ kind }) => kind);
  const costs = kindOf.map((kind) => at(costed, kind, "kind"));
  const groups = Math.max(options.stages ?? 1, fewestStages(costs, capacity) ?? 1);
  const grown = Math.max(choice.system.chips, groups * tensor);
  const system = grows ? systemOf(systemWith(grown), target) : choice.system;
  const stages = stagesFor(system, target, { parts, costs, tensor, most, capacity, devices: options.devices });
  const past = graph.inputs.map((id) => at(graph.nodes, id, "node")).find((node) => isOneOf(pasts, node));
  return figuresOf({
    name: graph.name,
    target,
    system: system.name,
    systemChips: system.chips,
    dead: deadOf(options),
    tensor,
    weights: options.weights ?? DEFAULT_WEIGHTS,
    unit: past === undefined ? "run" : "token",
    batch: past === undefined ? (options.batch ?? 1) : at(past.type.shape, 0, "batch"),
    context: past === undefined ? null : at(past.type.shape, past.type.shape.length - 2, "context"),
    kinds: costed,
    kindOf,
    stages,
    hostMicroseconds: hostTime(target, model),
    prices: options.prices,
    said: options.devices && {
      configuration: options.devices.configuration,
      results: options.devices.results.length,
    },
    appends: model.appends,
  });
};
