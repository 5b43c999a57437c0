/**
 * What a build is asked for: of a model, of each of its entries, and of the chips.
 */

import { fail } from "./diagnostics.js";
import { type Devices, devicesOf } from "./frontend/devices.js";
import type { FixedValue } from "./frontend/fix.js";
import type { ModelRecord } from "./frontend/source.js";
import type { StateOption } from "./frontend/states.js";
import type { Graph, Shape } from "./ir/graph.js";
import type { Plan } from "./ir/plan.js";
import type { SystemName } from "./ir/system.js";
import type { TargetName } from "./ir/target.js";
import type { WeightFormatName } from "./ir/weights.js";
import type { PassRecord } from "./passes/graph/pass.js";
import type { Stages } from "./pipeline.js";
import type { OnStage } from "./stages.js";

/** What a model leaves open. */
export interface EntryOptions {
  /** Sizes of named dimensions. */
  readonly bind?: Readonly<Record<string, number>> | undefined;
  /** Shapes of inputs, by name, from which named dimensions follow. */
  readonly shapes?: Readonly<Record<string, Shape>> | undefined;
  /** Inputs whose values are known when the program is compiled: they become constants, and are inputs no more. */
  readonly fix?: Readonly<Record<string, FixedValue>> | undefined;
  /** Outputs of which only the last row is wanted, the end of the axis before the last, by name: others are not computed. */
  readonly last?: readonly string[] | undefined;
}

export interface CompileOptions extends EntryOptions {
  /**
   * The model more than once, on one chip: for each entry what is other than in the options for all. Entries share weights and
   * states; the report is that of the first. One entry, "main", if not given.
   */
  readonly entries?: Readonly<Record<string, EntryOptions>> | undefined;
  /**
   * Inputs that stay on the chip, each with the output that takes its place, or whose end does, for the next run: neither is the
   * host's any more. "auto": all that exporters' conventions pair by name, like past_key_values.0.key and present.0.key.
   */
  readonly state?: StateOption | undefined;
  readonly target?: TargetName | undefined;
  /** Chips, and what joins them; the smallest with as many chips as are taken if not given. */
  readonly system?: SystemName | undefined;
  /** Chips of the system that do not work: others are taken, and no way goes through them. */
  readonly dead?: readonly number[] | undefined;
  /** Chips that may be taken. Where neither they nor a system, stages or `tensor` are given: the fewest that hold the model. */
  readonly chips?: number | undefined;
  /** Chips that work one behind the other, or "auto": as few as hold the model. Chosen with `tensor` if neither is given. */
  readonly stages?: Stages | undefined;
  /**
   * Chips of a node that share each product, with pieces of its weights, in each stage. One does the work where more would not be
   * faster.
   */
  readonly tensor?: number | undefined;
  /**
   * Which of the model's configurations of devices, whose annotations say the stages of nodes and where results lie; the only one if not
   * given, false for none.
   */
  readonly configuration?: string | false | undefined;
  /** What constant weights of products lie as; fp16 if not given. */
  readonly weights?: WeightFormatName | undefined;
  /** Names of ONNX nodes, or of their weights, that stay fp16. */
  readonly keep?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly onStage?: OnStage | undefined;
  /** Called with the graph after every pass. */
  readonly onPass?: ((record: PassRecord, graph: Graph) => void) | undefined;
  /** Called with the plan, before it is scheduled; of several chips with that of each. */
  readonly onPlan?: ((plan: Plan, stage?: number) => void) | undefined;
  /** Milliseconds, for the times of passes. */
  readonly clock?: (() => number) | undefined;
  /** Verify the graph after every pass, and the plan. */
  readonly verify?: boolean | undefined;
}

/** Numbers of chips that are asked for, in a build and in a plan. */
type AskedDevices = Pick<CompileOptions, "configuration" | "tensor" | "stages">;

/** What the model says of the devices that it is for. */
interface SaidDevices {
  readonly devices?: Devices | undefined;
  readonly stageOf?: Devices["stageOf"] | undefined;
}

/** Options of a build with that. */
export type OptionsWithDevices = CompileOptions & SaidDevices;

/** What a model says of its devices takes the place of numbers of chips that are not given. LPU1015 if the two differ. */
export const withDevices = <Asked extends AskedDevices>(model: ModelRecord, options: Asked): Asked & SaidDevices => {
  const { configuration, tensor, stages } = options;
  if (configuration === false) return options;
  const devices = devicesOf(model, configuration);
  if (devices === undefined || devices.stages * devices.members === 1) return options;
  const { members, stageOf } = devices;
  if ((tensor ?? members) !== members || (stages ?? devices.stages) !== devices.stages)
    fail("LPU1015", {
      message: `configuration '${devices.configuration}' of the model has ${devices.stages} stages of ${members} chips, expected ${stages ?? devices.stages} of ${tensor ?? members}`,
      hint: "leave out --stages and --tensor, or build without the configuration (--configuration none)",
    });
  return { ...options, stages: devices.stages, stageOf, devices, ...(members > 1 && { tensor: members }) };
};

/** Entries by name, each with what is said for all and for it alone. */
export const entriesOf = ({
  entries,
  bind,
  shapes,
  fix,
  last = [],
}: CompileOptions): readonly (readonly [string, EntryOptions])[] => {
  const named = Object.entries(entries ?? {});
  if (named.length === 0) return [["main", { bind, shapes, fix, last }]];
  return named.map(([name, own]) => [
    name,
    {
      bind: { ...bind, ...own.bind },
      shapes: { ...shapes, ...own.shapes },
      fix: { ...fix, ...own.fix },
      last: [...last, ...(own.last ?? [])],
    },
  ]);
};
