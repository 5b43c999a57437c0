/** Stages on the groups of a system, one behind the other, or why they do not fit there. */

import { at, fail, sure } from "../diagnostics.js";
import type { Devices } from "../frontend/devices.js";
import { DTYPES } from "../ir/dtype.js";
import { elementCount, type Graph } from "../ir/graph.js";
import { stringAttr } from "../ir/ops/attributes.js";
import { groupsIn, type System, type SystemName, systemWith } from "../ir/system.js";
import type { Target } from "../ir/target.js";
import { formatBytes } from "../report/units.js";
import { chipsInLine } from "../system/routes.js";
import { COMES, type Part } from "./parts.js";
import { fewestStages, neededBytes, type PartCost, type Span, spanOf, stagesBy, stagesOf } from "./stages.js";
import type { Kind, PlannedStage } from "./system-plan.js";
import { hopsAlong } from "./wires.js";

interface Made {
  readonly parts: readonly Part[];
  readonly costs: readonly Kind[];
  readonly tensor: number;
  /** Stages. */
  readonly most: number;
  readonly capacity: number;
  readonly devices: Devices | undefined;
}

/**
 * The stages that the model says: a part is in that of most of its nodes, and one of whose nodes none has a stage with what is
 * before it. LPU2006 where a stage has no part, LPU2008 where one has no room or no group.
 */
const saidStages = ({ parts, costs, capacity, most }: Made, groups: number, said: Devices): readonly Span[] => {
  const { configuration, stages, stageOf } = said;
  let last = 0;
  const byPart = parts.map(({ graph }) => {
    const own = [...new Set(graph.nodes.flatMap(({ origin }) => origin))].flatMap((name) => stageOf.get(name) ?? []);
    const counts = Array.from({ length: stages }, (_, stage) => own.filter((one) => one === stage).length);
    last = Math.max(last, counts.lastIndexOf(Math.max(1, ...counts)));
    return last;
  });
  const spans = stagesBy(costs, byPart, stages);
  if (spans === undefined)
    return fail("LPU2006", {
      message: `expected a part of the model in each of the ${stages} stages of configuration '${configuration}', found ${new Set(byPart).size} with one`,
      hint: "parts end where one value alone goes on; plan without the configuration (--configuration none)",
    });
  const full = spans.findIndex((span) => neededBytes(span) > capacity);
  if (full >= 0 || Math.min(most, groups) < stages)
    return fail("LPU2008", {
      message:
        full >= 0
          ? `stage ${full} of configuration '${configuration}' takes ${formatBytes(neededBytes(at(spans, full, "stage")))} of each chip, expected at most ${formatBytes(capacity)}`
          : `configuration '${configuration}' has ${stages} stages, expected at most ${Math.min(most, groups)}, the groups of the system`,
    });
  return spans;
};

export const stagesFor = (system: System, target: Target, made: Made): readonly PlannedStage[] => {
  const { parts, costs, tensor, most, capacity, devices } = made;
  const all = groupsIn(system, tensor);
  const spans =
    devices === undefined
      ? stagesOf(costs, Math.min(most, all.length), capacity)
      : saidStages(made, all.length, devices);
  if (spans === undefined) {
    const groups = fewestStages(costs, capacity);
    return refuse({ ...made, system, holds: groups === undefined ? undefined : systemWith(groups * tensor) });
  }
  const line = tensor === 1 ? chipsInLine(system, spans.length) : undefined;
  const groups = spans.map(({ first, end }, stage) => {
    // Where no part is shared, the others of the group have nothing to do.
    const working = Math.max(...costs.slice(first, end).map(({ chips }) => chips));
    return line === undefined ? at(all, stage, "group").slice(0, working) : [at(line, stage, "chip")];
  });
  const vectors = spans.slice(1).map(({ first }) => comingVectors(target, at(parts, first, "part").graph));
  const hops = hopsAlong(system, target, groups, vectors);
  return spans.map(
    (span, stage): PlannedStage => ({
      ...span,
      chips: at(groups, stage, "stage"),
      from: at(parts, span.first, "part").first,
      to: at(parts, span.end - 1, "part").last,
      hop: hops[stage] ?? null,
    }),
  );
};

/** Byte vectors of the value that comes into a part. */
const comingVectors = ({ lanes }: Target, { nodes }: Graph): number => {
  const node = nodes.find(({ op, attrs }) => op === "input" && stringAttr(attrs, "name") === COMES);
  const { dtype, shape } = sure(node, "value that comes").type;
  const last = at(shape, shape.length - 1, "extent");
  return (elementCount(shape) / last) * Math.ceil(last / lanes) * DTYPES[dtype].bytes;
};

/** No number of stages helps where one part is too large for the chips that share it. */
export const tooLarge = (first: string, last: string, why: string): never =>
  fail("LPU2008", {
    message: `what lies between ${first} and ${last} fits in no stage: ${why}`,
    hint: "let more chips share it (--tensor), or take half the bytes of weights (--weights fp8-e4m3)",
  });

interface TooMuch extends Omit<Made, "costs" | "devices"> {
  readonly system: System;
  readonly costs: readonly PartCost[];
  /** A system that has room. */
  readonly holds: SystemName | undefined;
}

export const refuse = ({ system, parts, costs, tensor, most, capacity, holds }: TooMuch): never => {
  const groups = fewestStages(costs, capacity);
  const needed = tensor * neededBytes(spanOf(costs, 0, costs.length));
  const room = tensor * most * capacity;
  const of = tensor === 1 ? "a chip" : `each of ${tensor} chips that share it`;
  const whole = system.nodes.flat().length === system.chips ? "" : ", if all its chips work";
  const hint = holds === undefined ? {} : { hint: `the smallest system that may hold it: --system ${holds}${whole}` };
  const chips = most * tensor;
  if (needed > room)
    return fail("LPU2008", {
      message: `the model needs ${formatBytes(needed)} of SRAM, ${chips < system.chips ? `${chips} ${chips === 1 ? "chip" : "chips"} of ` : ""}system '${system.name}' ${1 < chips && chips < system.chips ? "have" : "has"} room for ${formatBytes(room)}: ${formatBytes(needed - room)} too much`,
      ...hint,
    });
  if (groups !== undefined)
    return fail("LPU2008", {
      message: `the parts of the model fill ${groups} times ${of}, and there are ${most} on system '${system.name}'`,
      ...hint,
    });
  const large = costs.findIndex((cost) => neededBytes(cost) > capacity);
  const { first, last } = at(parts, large, "part");
  const largest = formatBytes(neededBytes(at(costs, large, "part")));
  return tooLarge(first, last, `it needs ${largest} of ${of}, which has room for ${formatBytes(capacity)}`);
};
