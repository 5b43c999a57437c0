/**
 * What a part of the model costs each of the chips that share it: its plan, by selection; its cycles and its energy, by a schedule,
 * or by the estimates with which ways to share are compared.
 */

import { at, CompileError } from "../diagnostics.js";
import type { Sharding } from "../ir/facts.js";
import { elementCount, type Graph, type Node } from "../ir/graph.js";
import { chipsOf } from "../ir/group.js";
import { stringAttr } from "../ir/ops/attributes.js";
import type { Plan } from "../ir/plan.js";
import { entryNamed, entryProgram, type EntryProgram } from "../ir/program.js";
import { groupsIn, linksAmong, type System } from "../ir/system.js";
import { streamBytes, type Target } from "../ir/target.js";
import { sharedPlan } from "../group.js";
import { runPasses } from "../passes/graph/pass.js";
import { PLACE } from "../passes/graph/pipeline.js";
import { chipGraph } from "../passes/graph/shard/chip.js";
import { costsOf } from "../passes/graph/shard/costs.js";
import { isShareable, wholeCost } from "../passes/graph/shard/search.js";
import { sramNeed } from "../passes/schedule/place/room.js";
import { schedule } from "../passes/schedule/schedule.js";
import { select } from "../passes/select/select.js";
import { peersOf } from "../pipeline.js";
import { activityOf } from "../report/activity.js";
import { isOneOf, type Model } from "./model.js";
import { COMES, GOES } from "./parts.js";
import type { PartCost } from "./stages.js";
import type { Kind } from "./system-plan.js";

type Cost = Omit<Kind, "first" | "last" | "count">;

const EVERYWHERE: ReadonlySet<string> = new Set([COMES, GOES]);

/** The links of the first chip of a group to each, by how far on that is. */
export type Peers = readonly (readonly number[])[];

export const peersIn = (system: System, tensor: number): Peers =>
  peersOf({ members: tensor, links: linksAmong(system, at(groupsIn(system, tensor), 0, "group")) });

/** A part as the chips of a group do it. */
interface SharedPart {
  /** Of chips that share it, or of one. */
  readonly graph: Graph;
  /** How many such chips, or sets of chips, do a piece of the part each, side by side, and exchange nothing. */
  readonly beside: number;
  readonly sharding: Sharding | undefined;
}

/** As chips share it, where they can: in one set, or in several side by side where that takes fewer cycles by the estimates. */
export const placedOn = (part: Graph, target: Target, chips: number): SharedPart => {
  const one: SharedPart = { ...sharedAmong(part, target, chips), beside: 1 };
  // What goes on is whole on all chips.
  const sides = part.outputs.some(({ name }) => name === GOES) ? [] : [2, 4].filter((count) => count < chips);
  const several = sides.flatMap((beside): readonly SharedPart[] => {
    const outer = sharedAmong(part, target, beside);
    if (chipsOf(outer.graph) === 1 || outer.sharding?.exchanges.length !== 0) return [];
    return [{ ...sharedAmong(chipGraph(outer.graph, target).graph, target, chips / beside), beside }];
  });
  const cyclesOf = ({ sharding }: SharedPart): number => sharding?.cycles ?? Number.POSITIVE_INFINITY;
  return several.reduce((best, other) => (cyclesOf(other) < cyclesOf(best) ? other : best), one);
};

const sharedAmong = (part: Graph, target: Target, chips: number): Omit<SharedPart, "beside"> => {
  let sharding: Sharding | undefined;
  const onSharded = (facts: Sharding): void => {
    sharding = facts;
  };
  const graph =
    chips > 1 && isShareable({ graph: part, chips, everywhere: EVERYWHERE })
      ? runPasses(part, PLACE, { target, chips, whole: EVERYWHERE, onSharded })
      : part;
  return { graph, sharding };
};

/** Its plan, and what is kept from run to run. */
export const laidOut = (
  { graph: placed, beside }: SharedPart,
  target: Target,
  all: Peers,
  pasts: Model["pasts"],
): { readonly plan: Plan; readonly kept: Kept } => {
  const peers = all.slice(0, all.length / beside);
  let kept: Kept = { states: 0, allLaidOut: true };
  const layOut = (graph: Graph, own: ReadonlyMap<string, string>): Plan => {
    const plan = select(graph, target, new Map(), [], peers);
    const windows = withWindows(graph, own);
    const states = sramNeed(select(windows.graph, target, windows.states, [], peers), target).states;
    const others = new Map([...own].filter(([name]) => !windows.states.has(name)));
    const read = sramNeed(withPasts(plan, others), target).states;
    kept = { states: states + read, allLaidOut: read === 0 };
    return plan;
  };
  const { plan } = sharedPlan(placed, target, pasts, layOut);
  return { plan, kept };
};

/** Bytes of constants, and of all else but states. */
export const roomOf = (plan: Plan, target: Target, pasts: Model["pasts"]): Pick<PartCost, "constants" | "results"> => {
  const { constants, states, peak } = sramNeed(withPasts(plan, pasts), target);
  return { constants, results: peak - constants - states };
};

/**
 * What a part costs one of the chips that share it: by a schedule, or where none is found by the estimates with which ways to
 * share are compared.
 */
export const costOf = (part: Graph, target: Target, peers: Peers, pasts: Model["pasts"]): Cost => {
  const group = peers.length;
  const placed = placedOn(part, target, group);
  const { beside } = placed;
  const chips = beside * chipsOf(placed.graph);
  try {
    const laid = laidOut(placed, target, peers, pasts);
    const { plan, program } = schedule(laid.plan, target);
    const entry = entryProgram(program, entryNamed(program.entries, undefined));
    const room = roomOf(plan, target, pasts);
    const { energy } = activityOf(entry);
    return {
      chips,
      beside,
      source: "scheduled",
      cycles: at(entry.entry.cycles, 0, "chip"),
      floor: room.constants / streamBytes(target),
      ...room,
      ...laid.kept,
      femtojoules: Object.values(energy).reduce((sum, value) => sum + value, 0) - energy.static,
      linkBusy: linkBusy(entry),
    };
  } catch (error) {
    if (!(error instanceof CompileError) || error.code === "LPU2001" || error.code === "LPU5000") throw error;
    const costs = costsOf(target, group);
    const whole = wholeCost({ graph: part, chips: group, costs, price: 0 });
    const { cycles, constantBytes: constants } = placed.sharding ?? {
      cycles: whole.cycles,
      constantBytes: whole.bytes,
    };
    const ofPast = part.nodes.filter((node) => isOneOf(pasts, node));
    const states = ofPast.reduce((sum, { type }) => sum + (2 * elementCount(type.shape)) / chips, 0);
    const floor = constants / streamBytes(target);
    const unknown = { results: 0, femtojoules: 0, linkBusy: 0 };
    return {
      chips,
      beside,
      source: "modelled",
      cycles,
      floor,
      constants,
      states,
      allLaidOut: states === 0,
      ...unknown,
    };
  }
};

type Kept = Pick<Kind, "states" | "allLaidOut">;

/**
 * The graph of a chip in which what takes the place of a past is the past without its oldest and what is new, as it is in a
 * build; and those pasts that have such a place, by name, with the names of their outputs.
 */
const withWindows = (
  graph: Graph,
  pasts: Model["pasts"],
): { readonly graph: Graph; readonly states: Model["pasts"] } => {
  const [nodes, outputs] = [[...graph.nodes], [...graph.outputs]];
  const states = new Map<string, string>();
  const add = (node: Omit<Node, "id">): number => nodes.push({ ...node, id: nodes.length }) - 1;
  for (const input of graph.inputs) {
    const past = at(nodes, input, "node");
    const next = pasts.get(stringAttr(past.attrs, "name"));
    const place = outputs.findIndex(({ name }) => name === next);
    const output = outputs[place];
    if (next === undefined || output === undefined) continue;
    const { id: fresh, type, origin } = at(nodes, output.node, "node");
    const { shape } = past.type;
    const starts = shape.map((extent, index) => (extent === type.shape[index] ? 0 : (type.shape[index] ?? extent)));
    const axis = starts.findIndex((start) => start > 0);
    const sizes = shape.map((extent, index) => extent - at(starts, index, "start"));
    if (starts.filter((start) => start > 0).length !== 1 || at(sizes, axis, "extent") <= 0) continue;
    const attrs = { starts, sizes, strides: shape.map(() => 1) };
    const kept = add({ op: "slice", inputs: [input], attrs, type: { ...past.type, shape: sizes }, origin });
    const node = add({ op: "concat", inputs: [kept, fresh], attrs: { axis }, type: past.type, origin });
    outputs[place] = { ...output, node };
    states.set(stringAttr(past.attrs, "name"), next);
  }
  return { graph: { ...graph, nodes, outputs }, states };
};

/** The plan, in which what holds a past is a state. */
const withPasts = (plan: Plan, pasts: Model["pasts"]): Plan => {
  const own = new Set(plan.inputs.filter(({ name }) => pasts.has(name)).map(({ storage }) => storage));
  const storages = plan.storages.map((one) => (own.has(one.id) ? { ...one, kind: "state" as const } : one));
  return { ...plan, storages };
};

/** Cycles in which the link is taken over which the first chip sends most. */
const linkBusy = ({ target, chips }: EntryProgram): number => {
  const vectors = new Map<number, number>();
  for (const { op, count, fields } of at(chips, 0, "chip").queues.flat()) {
    if (op !== "send") continue;
    const link = Number(fields["link"]);
    vectors.set(link, count + (vectors.get(link) ?? 0));
  }
  return target.timing.linkInterval * Math.max(0, ...vectors.values());
};
