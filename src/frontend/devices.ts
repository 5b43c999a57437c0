/**
 * What a model says of the devices that it is for: the multi-device annotations of ONNX (IR 11), read and checked.
 *
 * A configuration has a number of devices. A node names its stage, and how each of its operands and results lies on devices:
 * in pieces along an axis, or whole. Here that becomes groups of chips, one behind the other, the stage of each node that has one, and
 * where results lie; everything that is not said is left to the search. A value that a node takes otherwise than it lies is moved.
 */

import { at, CompileError, didYouMean, fail } from "../diagnostics.js";
import type { PlacedResult, PlacementOf } from "../ir/facts.js";
import type { Shape } from "../ir/graph.js";
import { nodesOf, type Plan } from "../ir/plan.js";
import { int64ToNumber, type NodeDeviceConfigurationProto, type NodeProto, type ShardingSpecProto } from "./schema.js";
import { nameOfNode } from "./order.js";
import type { GraphRecord, ModelRecord } from "./source.js";

export interface Devices {
  readonly configuration: string;
  /** Groups one behind the other, and chips of each, which share products. */
  readonly stages: number;
  readonly members: number;
  /** By name of node. */
  readonly stageOf: ReadonlyMap<string, number>;
  readonly results: readonly Omit<PlacedResult, "shape">[];
}

/** With shapes: those of the results that there are in an entry. */
export const placedResults = (
  devices: Devices | undefined,
  shapes: ReadonlyMap<string, Shape>,
): readonly PlacedResult[] =>
  (devices?.results ?? []).flatMap((result) => {
    const shape = shapes.get(result.tensor);
    return shape === undefined ? [] : [{ ...result, shape }];
  });

/**
 * The configuration of that name, or the only one; undefined if the model has none. LPU1015 for a name that is not there, several
 * of which none is named, and annotations that contradict each other or the model; LPU1016 for what chips cannot do.
 */
export const devicesOf = ({ graph, configurations }: ModelRecord, wanted?: string): Devices | undefined => {
  const names = configurations.map(({ name }) => name);
  if (wanted === undefined && names.length === 0) return undefined;
  const chosen = configurations.filter(({ name }) => wanted === undefined || name === wanted);
  const [configuration] = chosen;
  if (configuration === undefined || chosen.length > 1)
    return fail("LPU1015", {
      message:
        wanted === undefined
          ? `expected the name of a configuration of devices, for the model has ${names.length}`
          : `expected ${names.length === 0 ? "a model with configurations of devices" : "one configuration of devices"}, found ${chosen.length} called '${wanted}'`,
      hint: `${wanted === undefined ? "" : didYouMean(wanted, names)}${names.length === 0 ? "leave out --configuration" : `--configuration may be ${names.join(", ")}, or none`}`,
    });
  const { name, numDevices } = configuration;
  const said = graph.nodes.map((node) => annotationOf(node, name, names));
  const stages = Math.max(0, ...said.map(({ stage }) => stage ?? 0)) + 1;
  for (let stage = 0; stage < stages; stage++)
    if (stages > 1 && !said.some((node) => node.stage === stage))
      contradicts(`of ${stages} stages number ${stage} has no node`, undefined);
  const members = Math.max(
    1,
    ...said.flatMap(({ specs }) => specs.map((spec) => Math.max(spec.shards, spec.devices.length))),
  );
  if (members * stages > numDevices)
    contradicts(
      `${stages} stages of ${members} devices are more than the ${numDevices} of configuration '${name}'`,
      undefined,
    );
  for (const node of said) for (const spec of node.specs) expectGroup(node, spec, members);
  return {
    ...{ configuration: name, stages, members },
    stageOf: new Map(said.flatMap((node) => (node.stage === undefined ? [] : [[node.name, node.stage] as const]))),
    results: said.flatMap((node) =>
      node.specs
        .filter(({ isResult }) => isResult)
        .map(({ tensor, axis, shards }) => ({ node: node.name, tensor, placement: shards === 1 ? "whole" : axis })),
    ),
  };
};

/** A program, as far as it says where nodes are. */
export interface Chosen {
  /** By stage: the plan of its first chip. */
  readonly plans: readonly Plan[];
  readonly members: number;
  readonly placementOf?: PlacementOf | undefined;
}

/**
 * What a program has chosen for a model, in the model's own terms: what it would be built by again. A node that is in several stages has
 * none, and a result that became one value with others no place. LPU1016 if a stage has no node of its own.
 */
export const devicesChosen = (
  configuration: string,
  { nodes }: GraphRecord,
  shapes: ReadonlyMap<string, Shape>,
  { plans, members, placementOf }: Chosen,
): Devices => {
  const stagesOf = new Map<string, Set<number>>();
  for (const [stage, plan] of plans.entries())
    for (const task of plan.tasks.filter(({ wire }) => wire === undefined || wire.twin === true))
      for (const name of nodesOf(plan, task)) stagesOf.set(name, (stagesOf.get(name) ?? new Set()).add(stage));
  const stageOf = new Map<string, number>();
  for (const node of plans.length > 1 ? nodes : []) {
    const [stage, ...others] = stagesOf.get(nameOfNode(node)) ?? [];
    if (stage !== undefined && others.length === 0) stageOf.set(nameOfNode(node), stage);
  }
  for (const stage of plans.length > 1 ? plans.keys() : [])
    if (![...stageOf.values()].includes(stage)) refuses(`stage ${stage} has no node that is in it alone`, undefined);
  const results = nodes.flatMap((node) =>
    node.output.flatMap((tensor) => {
      const shape = shapes.get(tensor);
      const placement = shape && placementOf?.(nameOfNode(node), shape);
      return placement === undefined ? [] : [{ node: nameOfNode(node), tensor, placement }];
    }),
  );
  return { configuration, stages: plans.length, members, stageOf, results };
};

interface Spec {
  readonly tensor: string;
  readonly isResult: boolean;
  /** Of a tensor in more than one piece. */
  readonly axis: number;
  readonly shards: number;
  /** Of each piece in turn, or all that have the whole; none if that is not said. */
  readonly devices: readonly number[];
}

interface Annotation {
  readonly name: string;
  readonly stage: number | undefined;
  readonly specs: readonly Spec[];
}

const annotationOf = (node: NodeProto, configuration: string, known: readonly string[]): Annotation => {
  const name = nameOfNode(node);
  const stranger = node.deviceConfigurations.find(({ configurationId }) => !known.includes(configurationId));
  if (stranger !== undefined) contradicts(`configuration '${stranger.configurationId}' is not one of the model`, name);
  const own = node.deviceConfigurations.filter(({ configurationId }) => configurationId === configuration);
  if (own.length > 1) contradicts(`it has ${own.length} annotations for configuration '${configuration}'`, name);
  const [only] = own;
  if (only === undefined) return { name, stage: undefined, specs: [] };
  const specs = only.shardingSpec.map((spec) => specOf(node, name, spec));
  const twice = specs.find(({ tensor }, index) => specs.findIndex((spec) => spec.tensor === tensor) < index);
  if (twice !== undefined) contradicts(`tensor '${twice.tensor}' is said twice where it lies`, name);
  return { name, stage: stageOf(only, name), specs };
};

const stageOf = (annotation: NodeDeviceConfigurationProto, name: string): number | undefined => {
  if (!Object.hasOwn(annotation, "pipelineStage")) return undefined;
  const { pipelineStage } = annotation;
  return pipelineStage >= 0
    ? pipelineStage
    : contradicts(`expected a stage of at least 0, found ${pipelineStage}`, name);
};

const specOf = (node: NodeProto, name: string, spec: ShardingSpecProto): Spec => {
  const { tensorName: tensor, shardedDim, indexToDeviceGroupMap } = spec;
  if (![...node.input, ...node.output].includes(tensor))
    contradicts(`tensor '${tensor}' is neither operand nor result`, name);
  const cuts = shardedDim.flatMap(({ axis, simpleSharding }) => {
    const [first, ...others] = simpleSharding;
    if (first === undefined || others.length > 0)
      return refuses(`tensor '${tensor}' has an axis that is made of ${simpleSharding.length} others`, name);
    const shards = int64ToNumber(first.numShards);
    if (!(shards >= 1)) contradicts(`tensor '${tensor}': expected at least one piece, found ${shards}`, name);
    const extent = first.dim === "dimValue" ? int64ToNumber(first.dimValue) : 0;
    if (extent % shards !== 0)
      contradicts(`tensor '${tensor}': an axis of ${extent} cannot be in ${shards} equal pieces`, name);
    return shards > 1 ? [{ axis: int64ToNumber(axis), shards }] : [];
  });
  if (cuts.length > 1) refuses(`tensor '${tensor}' is in pieces along ${cuts.length} axes`, name);
  const groups = new Map(indexToDeviceGroupMap.map(({ key, value }) => [int64ToNumber(key), value.map(int64ToNumber)]));
  const devices = spec.device.map(int64ToNumber).map((device) => groups.get(device) ?? [device]);
  const { axis = 0, shards = 1 } = cuts[0] ?? {};
  if (shards > 1 && devices.length > 0 && devices.length !== shards)
    contradicts(`tensor '${tensor}' has ${shards} pieces for ${devices.length} devices`, name);
  if (shards > 1 && devices.some((group) => group.length > 1))
    refuses(`tensor '${tensor}' has pieces that several devices have`, name);
  return { tensor, isResult: node.output.includes(tensor), axis, shards, devices: devices.flat() };
};

/** Chips of a group are numbered in a row, each has one piece, and pieces are in their order. */
const expectGroup = ({ name, stage }: Annotation, { tensor, shards, devices }: Spec, members: number): void => {
  if (shards > 1 && shards !== members)
    refuses(`tensor '${tensor}' is in ${shards} pieces, others in ${members}`, name);
  if (devices.length === 0) return;
  const first = stage === undefined ? Math.floor(at(devices, 0, "device") / members) * members : stage * members;
  const wanted = Array.from({ length: members }, (_, member) => first + member);
  if (devices.join() !== wanted.join())
    refuses(`tensor '${tensor}' lies on devices ${devices.join(", ")} in place of ${wanted.join(", ")}`, name);
};

const contradicts = (message: string, node: string | undefined): never =>
  raise("LPU1015", message, node, "correct the annotation, or build without (--configuration none)");
const refuses = (message: string, node: string | undefined): never =>
  raise(
    "LPU1016",
    message,
    node,
    "leave it to the search (without this annotation), or build without (--configuration none)",
  );

const raise = (code: "LPU1015" | "LPU1016", message: string, node: string | undefined, hint: string): never => {
  throw new CompileError(code, { message, hint, ...(node === undefined ? {} : { node }) });
};
