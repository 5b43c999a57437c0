/**
 * Plans of systems from shapes alone: what a model would do on so many chips, without its weights.
 *
 *   importModel, runPasses   as in compile.ts; numbers stand in for weights that are not there
 *   partsOf                  the graph between places where one value goes on, and which of them are alike
 *   shard, select, schedule  one part of each kind, for the chips of a group
 *   stagesOf, hopsAlong      parts to stages, and what goes from group to group
 *   figuresOf                what follows
 */

import { at, CompileError, fail, sure } from "./diagnostics.js";
import type { Devices } from "./frontend/devices.js";
import { type EntryOptions, withDevices } from "./options.js";
import { importModel } from "./frontend/import.js";
import { type ModelRecord, type ModelSource, readModel } from "./frontend/source.js";
import { pastsOf } from "./frontend/states.js";
import { sharedPlan } from "./group.js";
import { DTYPES } from "./ir/dtype.js";
import type { Sharding } from "./ir/facts.js";
import { elementCount, type Graph, type Node } from "./ir/graph.js";
import { chipsOf } from "./ir/group.js";
import { stringAttr } from "./ir/ops/attributes.js";
import type { Plan } from "./ir/plan.js";
import { entryNamed, entryProgram, type EntryProgram } from "./ir/program.js";
import {
  chipsIn,
  deadOf,
  DEGREES,
  groupsIn,
  isJoinable,
  linksAmong,
  NODES,
  type System,
  type SystemName,
  systemOf,
  systemWith,
} from "./ir/system.js";
import { sramBytes, streamBytes, type Target, TARGETS, type TargetName } from "./ir/target.js";
import { type WeightFormatName, weightOptions } from "./ir/weights.js";
import { runPasses } from "./passes/graph/pass.js";
import { NARROW, OPTIMIZE, PLACE } from "./passes/graph/pipeline.js";
import { chipGraph } from "./passes/graph/shard/chip.js";
import { constantBytes, costsOf } from "./passes/graph/shard/costs.js";
import { isShareable, wholeCost } from "./passes/graph/shard/search.js";
import { sramNeed } from "./passes/schedule/place/room.js";
import { schedule } from "./passes/schedule/schedule.js";
import { select } from "./passes/select/select.js";
import { MOST_RESIDENT } from "./passes/stages/balance.js";
import { peersOf } from "./pipeline.js";
import { figuresOf, type Kind, type Prices, type PlannedStage, type SystemPlan } from "./planner/system-plan.js";
import { COMES, GOES, type Part, partsOf } from "./planner/parts.js";
import { openShapes } from "./planner/shapes.js";
import { neededBytes, fewestStages, type PartCost, type Span, spanOf, stagesBy, stagesOf } from "./planner/stages.js";
import { hopsAlong } from "./planner/wires.js";
import { activityOf } from "./report/activity.js";
import { pcie } from "./report/report.js";
import { formatBytes } from "./report/units.js";
import { chipsInLine } from "./system/routes.js";

export type { SystemPlan } from "./planner/system-plan.js";

export interface PlanOptions extends EntryOptions {
  /** The smallest that holds the model, if not given. */
  readonly system?: SystemName | undefined;
  /** Chips of the system that do not work: no group has them, and no way goes through them. */
  readonly dead?: readonly number[] | undefined;
  readonly target?: TargetName | undefined;
  /** Chips of a group, which share each product; those of a node if not given. */
  readonly tensor?: number | undefined;
  /** Groups one behind the other; at most so many as the system has, if not given. */
  readonly stages?: number | undefined;
  /**
   * Which of the model's configurations of devices says numbers of chips and stages of nodes; the only one if not given, false
   * for none.
   */
  readonly configuration?: string | false | undefined;
  readonly weights?: WeightFormatName | undefined;
  readonly keep?: readonly string[] | undefined;
  /** Sequences at once, where the model leaves that open; 1 if not given. */
  readonly batch?: number | undefined;
  /** Positions that a decoder looks back upon, or that a model without a past has, where the model leaves that open; 4,096 if not given. */
  readonly context?: number | undefined;
  readonly prices?: Prices | undefined;
  /** Told of what is being scheduled. */
  readonly onPart?: ((what: string) => void) | undefined;
}

/** What a model does on a system. LPU2008 if the system does not hold it, and what `compile` throws of the model itself. */
export const plan = (source: ModelSource, asked: PlanOptions): SystemPlan => {
  const record = readModel(source);
  const said = withDevices(record, asked);
  const options: Options = { ...said, tensor: said.devices?.members ?? said.tensor };
  const target = TARGETS[options.target ?? "lpu-v1"];
  const choices = choicesOf(target, options);
  const legal = legalGraph(source, record, target, options);
  const model = { ...legal, ...partsOf(legal.graph) };
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

/** What is asked, and what the model says of the devices that it is for. */
interface Options extends PlanOptions {
  readonly devices?: Devices | undefined;
}

interface Choice {
  readonly system: System;
  /** Chips of a group. */
  readonly tensor: number;
  /** Whether it may be a line of such nodes. */
  readonly grows: boolean;
}

/** The system that is asked for, or all of one node that could be, the smallest first; the last of these grows to a line. */
const choicesOf = (target: Target, options: PlanOptions): readonly Choice[] => {
  const { system, tensor, stages = 1 } = options;
  const dead = deadOf(options);
  if (system !== undefined) {
    const given = systemOf(system, target, dead);
    return [{ system: given, tensor: tensorOf(given, tensor), grows: false }];
  }
  const largest = systemOf("node8", target);
  const nodes = NODES.filter((name) => isJoinable(name, target) && chipsIn(name) % (tensor ?? 1) === 0);
  const choices = nodes.flatMap((name): readonly Choice[] => {
    const node = systemOf(name, target);
    const grows = name === largest.name;
    // What as many chips do not hold that share products, they may hold one behind the other.
    const degrees = tensor !== undefined || grows ? [tensorOf(node, tensor)] : degreesOf(node).reverse();
    return degrees.map((own) => ({ system: node, tensor: own, grows }));
  });
  const wide = choices.filter(({ system: { chips }, tensor: own, grows }) => grows || chips >= stages * own);
  return wide.length > 0 ? wide : [{ system: largest, tensor: tensorOf(largest, tensor), grows: true }];
};

interface Model extends Legal {
  readonly parts: readonly Part[];
  readonly kinds: readonly Graph[];
}

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
    weights: options.weights ?? "fp16",
    unit: past === undefined ? "run" : "token",
    batch: past === undefined ? (options.batch ?? 1) : at(past.type.shape, 0, "batch"),
    context: past === undefined ? null : at(past.type.shape, past.type.shape.length - 2, "context"),
    kinds: costed,
    kindOf,
    stages,
    hostMicroseconds: hostTime(target, graph, model),
    prices: options.prices,
    said: options.devices && {
      configuration: options.devices.configuration,
      results: options.devices.results.length,
    },
    appends: model.appends,
  });
};

/* ---------- room, before anything is scheduled ---------- */

/** What parts need of each of `tensor` chips at least: weights of products and states, as if they were shared out evenly. */
const leastCosts = ({ parts, kinds, pasts }: Model, tensor: number): readonly PartCost[] => {
  const least = kinds.map(({ nodes }): PartCost => {
    const weights = new Set(nodes.filter(({ op }) => op === "matmul").map(({ inputs }) => at(inputs, 1, "operand")));
    const bytes = (own: readonly Node[]): number =>
      own.reduce((sum, { type }) => sum + constantBytes(type), 0) / tensor;
    const constants = bytes(nodes.filter(({ id, op }) => op === "constant" && weights.has(id)));
    const states = bytes(nodes.filter((node) => isOneOf(pasts, node)));
    return { cycles: 0, constants, states, results: 0 };
  });
  return parts.map(({ kind }) => at(least, kind, "kind"));
};

/**
 * The smallest system that has room for what parts need as they are laid out, which is more than the least, since rows are filled
 * up; undefined where no node has for one of them, or one cannot be laid out.
 */
const smallestFor = (model: Model, target: Target, { tensor }: PlanOptions): SystemName | undefined => {
  const capacity = capacityOf(target);
  const isRoom = (name: SystemName, own: number, groups: number | undefined): groups is number =>
    groups !== undefined && (groups * own <= chipsIn(name) || name === NODES.at(-1));
  for (const name of NODES) {
    const own = tensor ?? chipsIn(name);
    if (!isRoom(name, own, fewestStages(leastCosts(model, own), capacity))) continue;
    const costs = laidOutCosts(model, target, peersIn(systemOf(name, target), own));
    const groups = costs === undefined ? undefined : fewestStages(costs, capacity);
    if (isRoom(name, own, groups)) return systemWith(groups * own);
  }
  return undefined;
};

/** What parts need of each chip by the plans that would be scheduled. */
const laidOutCosts = (
  { parts, kinds, pasts }: Model,
  target: Target,
  peers: Peers,
): readonly PartCost[] | undefined => {
  try {
    const costs = kinds.map((kind): PartCost => {
      const { plan, kept } = laidOut(placedOn(kind, target, peers.length), target, peers, pasts);
      return { cycles: 0, ...roomOf(plan, target, pasts), states: kept.states };
    });
    return parts.map(({ kind }) => at(costs, kind, "kind"));
  } catch (error) {
    if (!(error instanceof CompileError) || error.code === "LPU5000") throw error;
    return undefined;
  }
};

/** Chips that can share products, the fewest first. */
const degreesOf = (system: System): number[] =>
  DEGREES.filter((chips) => system.nodeChips % chips === 0 && groupsIn(system, chips).length > 0);

/** Chips of a group; groups do not reach beyond a node, and are of chips that work. */
const tensorOf = (system: System, asked: number | undefined): number => {
  const { name, nodeChips } = system;
  const possible = degreesOf(system);
  const tensor = asked ?? Math.max(...possible);
  const hint = `--tensor may be ${possible.join(", ")}`;
  if (nodeChips % tensor !== 0)
    return fail("LPU2007", {
      message: `expected a number of chips that divides the ${nodeChips} of a node of system '${name}' to share products, got ${tensor}`,
      hint,
    });
  if (groupsIn(system, tensor).length > 0) return tensor;
  return fail("LPU2007", {
    message: `expected a node of system '${name}' with ${tensor} chips that work, found none`,
    hint,
  });
};

/* ---------- the graph ---------- */

interface Legal {
  readonly graph: Graph;
  /** Names of inputs that are a past, and of outputs that take its place. */
  readonly pasts: ReadonlyMap<string, string>;
  readonly presents: ReadonlySet<string>;
  /** Whether of every present only what is new leaves the graph. */
  readonly appends: boolean;
}

const legalGraph = (source: ModelSource, record: ModelRecord, target: Target, options: PlanOptions): Legal => {
  const { bind = {}, shapes = {}, fix = {} } = options;
  const model = record.graph;
  const pasts = pastsOf(model);
  const open = openShapes(model, options, { bind, shapes: { ...shapes, ...fix } });
  const graph = importModel({ ...source, standIns: true }, { bind, shapes: { ...open, ...shapes }, fix });
  const context = { target, weights: weightOptions(options), shapesOnly: true };
  const alone = withNewAlone(graph, pasts);
  const moved = alone.outputs.filter(({ node }, index) => at(graph.outputs, index, "output").node === node);
  const presents = new Set(pasts.values());
  const legal = runPasses(alone, [...OPTIMIZE, ...NARROW], context);
  return {
    graph: legal,
    pasts,
    presents,
    appends: !moved.some(({ name }) => presents.has(name)),
  };
};

/** Of what is joined behind a past only the new leaves the graph: it is written in the place of the oldest. */
const withNewAlone = (graph: Graph, pasts: ReadonlyMap<string, string>): Graph => {
  const presents = new Set(pasts.values());
  const outputs = graph.outputs.map((output) => {
    const { op, inputs } = at(graph.nodes, output.node, "node");
    const [old, fresh, ...others] = inputs.map((id) => at(graph.nodes, id, "node"));
    const isJoined = op === "concat" && old !== undefined && isOneOf(pasts, old) && others.length === 0;
    return presents.has(output.name) && isJoined && fresh !== undefined ? { ...output, node: fresh.id } : output;
  });
  return { ...graph, outputs };
};

const isOneOf = (names: { readonly has: (name: string) => boolean }, { op, attrs }: Node): boolean =>
  op === "input" && names.has(stringAttr(attrs, "name"));

/** Microseconds of the host's two transfers: what it gives, rows of tables that it looks up among that, and what it gets. */
const hostTime = (target: Target, { nodes, inputs, outputs }: Graph, { pasts, presents }: Legal): number => {
  const isTable = (id: number): boolean => at(nodes, id, "node").op === "constant";
  const lookups = nodes.filter(({ op, inputs: [table] }) => op === "gather" && table !== undefined && isTable(table));
  const given = inputs.map((id) => at(nodes, id, "node")).filter((node) => !isOneOf(pasts, node));
  const got = outputs.filter(({ name }) => !presents.has(name)).map(({ node }) => at(nodes, node, "node"));
  const bytes = (list: readonly Node[]): number =>
    list.reduce((sum, { type }) => sum + elementCount(type.shape) * DTYPES[type.dtype].bytes, 0);
  return pcie(target, bytes([...given, ...lookups]), bytes(got)).microseconds;
};

/* ---------- parts ---------- */

type Cost = Omit<Kind, "first" | "last" | "count">;

const EVERYWHERE: ReadonlySet<string> = new Set([COMES, GOES]);

/** The links of the first chip of a group to each, by how far on that is. */
type Peers = readonly (readonly number[])[];

const peersIn = (system: System, tensor: number): Peers =>
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
const placedOn = (part: Graph, target: Target, chips: number): SharedPart => {
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
const laidOut = (
  { graph: placed, beside }: SharedPart,
  target: Target,
  all: Peers,
  pasts: Legal["pasts"],
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
const roomOf = (plan: Plan, target: Target, pasts: Legal["pasts"]): Pick<PartCost, "constants" | "results"> => {
  const { constants, states, peak } = sramNeed(withPasts(plan, pasts), target);
  return { constants, results: peak - constants - states };
};

/**
 * What a part costs one of the chips that share it: by a schedule, or where none is found by the estimates with which ways to
 * share are compared.
 */
const costOf = (part: Graph, target: Target, peers: Peers, pasts: Legal["pasts"]): Cost => {
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
  pasts: Legal["pasts"],
): { readonly graph: Graph; readonly states: Legal["pasts"] } => {
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
const withPasts = (plan: Plan, pasts: Legal["pasts"]): Plan => {
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

/* ---------- stages ---------- */

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

/** Bytes of a chip that parts may fill; the ends of banks need the rest. */
const capacityOf = (target: Target): number => MOST_RESIDENT * sramBytes(target);

const stagesFor = (system: System, target: Target, made: Made): readonly PlannedStage[] => {
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
const tooLarge = (first: string, last: string, why: string): never =>
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

const refuse = ({ system, parts, costs, tensor, most, capacity, holds }: TooMuch): never => {
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
