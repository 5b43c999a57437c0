/** What a plan of a system is asked, and what the model says of the devices that it is for. */

import type { Devices } from "../frontend/devices.js";
import type { SystemName } from "../ir/system.js";
import type { TargetName } from "../ir/target.js";
import type { WeightFormatName } from "../ir/weights.js";
import type { EntryOptions } from "../options.js";
import type { Prices } from "./system-plan.js";

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

/** What is asked, and what the model says of the devices that it is for. */
export interface Options extends PlanOptions {
  readonly devices?: Devices | undefined;
}
