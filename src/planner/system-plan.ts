/**
 * A plan of a system: what a model would do on it, in figures. All follow from what its parts cost, how they are put together to
 * stages and what goes between these; where a figure rests on an assumption, the plan says which.
 */

import { at } from "../diagnostics.js";
import type { SystemName } from "../ir/system.js";
import { sramBytes, type Target } from "../ir/target.js";
import type { WeightFormatName } from "../ir/weights.js";
import { staticEnergy, watts } from "../report/energy.js";
import { neededBytes, type PartCost, type Span } from "./stages.js";
import type { PlannedHop } from "./wires.js";

/** Where the cycles of a part come from. */
export type CyclesFrom = "scheduled" | "modelled";

/** Parts of the model that are alike, as one group of chips does each. */
export interface Kind extends PartCost {
  readonly first: string;
  readonly last: string;
  /** How many parts are so. */
  readonly count: number;
  /** Chips that share it; all others of the group do the same as one of them. */
  readonly chips: number;
  /** Sets of them that do a piece each, side by side, and exchange nothing. */
  readonly beside: number;
  readonly source: CyclesFrom;
  /** Cycles in which the weights of a chip could reach its arrays, if nothing else took time. */
  readonly floor: number;
  /** Whether states are laid out as in a build; else they are counted as inputs, or by their elements. */
  readonly allLaidOut: boolean;
  /** Of one chip, without what flows at any time. */
  readonly femtojoules: number;
  /** Cycles in which the link between two chips of the group is taken that carries most. */
  readonly linkBusy: number;
}

export interface PlannedStage extends Span {
  readonly chips: readonly number[];
  /** ONNX nodes. */
  readonly from: string;
  readonly to: string;
  /** To the next stage; null behind the last. */
  readonly hop: PlannedHop | null;
}

export interface Prices {
  /** Of one chip, bought. */
  readonly chip: number;
  readonly kwh: number;
}

export interface SystemPlan {
  readonly name: string;
  readonly target: string;
  readonly clockMHz: number;
  readonly system: SystemName;
  /** Chips that work, of groups whose parts are shared all of them and of others one, and all that the system has. */
  readonly chips: number;
  readonly systemChips: number;
  /** Those of the system that do not work. */
  readonly dead: readonly number[];
  /** Chips of a group. */
  readonly tensor: number;
  readonly weights: WeightFormatName;
  /** What a run gives for each sequence: a token of a decoder with a past, or all there is. */
  readonly unit: "token" | "run";
  /** Sequences of a run, and positions that each looks back upon; null without a past. */
  readonly batch: number;
  readonly context: number | null;
  readonly kinds: readonly Kind[];
  readonly stages: readonly PlannedStage[];
  /** From the first cycle of the first stage to the last of the last: in stages, and between them. `interval`: from a run to the next. */
  readonly cycles: {
    readonly stages: number;
    readonly hops: number;
    readonly total: number;
    readonly interval: number;
    readonly floor: number;
  };
  /** By the chips alone, and with what the host takes to give and to get. */
  readonly microseconds: { readonly chips: number; readonly withHost: number };
  /** Units a second. */
  readonly rate: { readonly user: number; readonly userWithHost: number; readonly system: number };
  /** Until the first token after a prompt as long as the context, which goes through token by token; null without a past. */
  readonly firstTokenMicroseconds: number | null;
  /**
   * Sequences: that SRAM holds, whose states are the first to have no room in `fullest`, and that all stages need to be at
   * work. Null without states.
   */
  readonly users: { readonly fit: number; readonly busy: number } | null;
  /** Bytes, of the fullest chip and its stage. */
  readonly sram: {
    readonly capacity: number;
    readonly stage: number;
    readonly constants: number;
    readonly states: number;
    readonly results: number;
  };
  /** Share of the interval in which the busiest link of its kind is taken. */
  readonly links: { readonly between: number; readonly within: number };
  /** At the system's rate. */
  readonly power: { readonly joules: number; readonly watts: number; readonly wattsOfChip: number };
  /** Of a million units; null without prices. */
  readonly cost: { readonly chips: number; readonly energy: number; readonly total: number } | null;
  readonly assumptions: readonly string[];
}

export interface Planned
  extends Pick<
    SystemPlan,
    | "name"
    | "system"
    | "systemChips"
    | "dead"
    | "tensor"
    | "weights"
    | "unit"
    | "batch"
    | "context"
    | "kinds"
    | "stages"
  > {
  readonly target: Target;
  /** By part, its kind. */
  readonly kindOf: readonly number[];
  /** Microseconds that the host takes to give inputs and to get outputs. */
  readonly hostMicroseconds: number;
  readonly prices: Prices | undefined;
  /** What of the model says the stages of its nodes, and how many results it says a place for. */
  readonly said: { readonly configuration: string; readonly results: number } | undefined;
  /** Whether only what is new of keys and values leaves the graph, and not the past with it. */
  readonly appends: boolean;
}

/** Years after which a chip has paid for itself. */
const YEARS = 3;
const HOURS = YEARS * 365 * 24;

export const figuresOf = (planned: Planned): SystemPlan => {
  const {
    target,
    stages,
    kinds,
    kindOf,
    batch,
    tensor,
    unit,
    context,
    hostMicroseconds,
    prices,
    appends: _,
    ...rest
  } = planned;
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const chips = sum(stages.map((stage) => stage.chips.length));
  const ofStages = sum(stages.map(({ cycles }) => cycles));
  const ofHops = sum(stages.map(({ hop }) => hop?.cycles ?? 0));
  const total = ofStages + ofHops;
  const kindsIn = ({ first, end }: Span): readonly Kind[] =>
    kindOf.slice(first, end).map((kind) => at(kinds, kind, "kind"));
  const within = stages.map((stage) => sum(kindsIn(stage).map(({ linkBusy }) => linkBusy)));
  const between = stages.map(({ hop }) => hop?.busy ?? 0);
  const interval = Math.max(...stages.map(({ cycles }) => cycles), ...within, ...between);
  const fullest = stages.reduce((a, b) => (neededBytes(a) >= neededBytes(b) ? a : b));
  const capacity = sramBytes(target);
  const users = usersOf(stages, batch, capacity);
  const hertz = target.clock * 1e6;
  const [seconds, withHost] = [total / hertz, total / hertz + hostMicroseconds / 1e6];
  const running = Math.min(stages.length, users === null ? stages.length : users.fit / batch);
  // As many runs as have users are on their way, and each stage takes the next as soon as it is done.
  const rate = batch * Math.min(hertz / interval, (running * hertz) / total);
  const ofRun = sum(
    stages.map((stage) => stage.chips.length * sum(kindsIn(stage).map(({ femtojoules }) => femtojoules))),
  );
  const femtojoules = ofRun / batch + (staticEnergy(target) * chips * hertz) / rate;
  const powered = watts(target, femtojoules * rate, hertz);
  return {
    ...rest,
    target: target.name,
    clockMHz: target.clock,
    chips,
    tensor,
    unit,
    batch,
    context,
    kinds,
    stages,
    cycles: {
      stages: ofStages,
      hops: ofHops,
      total,
      interval,
      floor: sum(kinds.map(({ count, floor }) => count * floor)),
    },
    microseconds: { chips: seconds * 1e6, withHost: withHost * 1e6 },
    rate: { user: 1 / seconds, userWithHost: 1 / withHost, system: rate },
    firstTokenMicroseconds: context !== null ? (context * interval * 1e6) / hertz + withHost * 1e6 : null,
    users,
    sram: {
      capacity,
      stage: stages.indexOf(fullest),
      constants: fullest.constants,
      states: fullest.states,
      results: fullest.results,
    },
    links: { between: Math.max(...between) / interval, within: Math.max(...within) / interval },
    power: { joules: femtojoules / 1e15, watts: powered, wattsOfChip: powered / chips },
    cost: prices === undefined ? null : costOf(prices, chips, rate, femtojoules / 1e15),
    assumptions: assumptionsOf(planned),
  };
};

const usersOf = (stages: readonly Span[], batch: number, capacity: number): SystemPlan["users"] => {
  const stateful = stages.filter(({ states }) => states > 0);
  if (stateful.length === 0) return null;
  const fits = stateful.map((stage) => 1 + Math.max(0, Math.floor((capacity - neededBytes(stage)) / stage.states)));
  return { fit: batch * Math.min(...fits), busy: batch * stages.length };
};

const JOULES_OF_KWH = 3.6e6;
const MILLION = 1e6;

const costOf = ({ chip, kwh }: Prices, chips: number, rate: number, joules: number): SystemPlan["cost"] => {
  const ofChips = (chip * chips * MILLION) / (HOURS * 3600 * rate);
  const energy = (joules * MILLION * kwh) / JOULES_OF_KWH;
  return { chips: ofChips, energy, total: ofChips + energy };
};

const assumptionsOf = (planned: Planned): readonly string[] => {
  const { target, kinds, stages, unit, prices, tensor, appends, said } = planned;
  return [
    "cycles of parts are of schedules by the compiler, on shapes: one for each kind, not proved by the checker; nothing overlaps between parts",
    ...(kinds.some(({ source }) => source === "modelled")
      ? [
          "parts for which no schedule was found are marked 'modelled': their cycles are an estimate in which nothing overlaps, from the tables by which ways to share are compared; their results in SRAM, energy and load of links are not known and count as none",
        ]
      : []),
    ...(said === undefined
      ? []
      : [
          `nodes are in the stages that configuration '${said.configuration}' of the model says, a part in that of most of its nodes${said.results === 0 ? "" : `; where results lie on the chips of a group is left to the search, though it says so of ${said.results}`}`,
        ]),
    ...(kinds.some(({ beside }) => beside > 1)
      ? [
          "of some parts chips share pieces of pieces, as along rows and columns of a product: a build shares along one axis at once",
        ]
      : []),
    ...(stages.length > 1
      ? [
          `between stages a vector takes a wire for ${target.timing.linkInterval} cycles and is in SRAM of the next chip after that and a hop; ${tensor > 1 ? "it goes on to the others of the group as soon as it is there, while the next ones come" : "wires of the shortest way are all taken"}: modelled`,
        ]
      : []),
    ...(unit === "token"
      ? [
          appends
            ? "new keys and values are written in the place of the oldest, and nothing else of the past moves"
            : "the model writes the past with what is new, row for row: cycles of parts and results in SRAM hold all of that",
          kinds.every(({ allLaidOut }) => allLaidOut)
            ? "states take of SRAM what they do in a build that has little room, where each lies once; a part reads its past as it reads an input"
            : "states of some parts are not laid out as in a build, and may take other room there",
          "the first token follows a prompt as long as the context, token by token, each behind the one before it",
          "the system's rate takes as many users as SRAM holds, up to one run in each stage",
        ]
      : []),
    `the host's time is two PCIe transfers (bytes / ${target.pcieGBs} GB/s + ${target.pcieMicroseconds} us each way); what it does between them takes none`,
    "energy and power are a model, calibrated to the published envelope, not measured; all chips that work are always on",
    ...(prices === undefined
      ? []
      : [
          `a chip is bought and has paid for itself in ${YEARS} years at this rate; room, cooling and hosts are not in it`,
        ]),
  ];
};
