/**
 * Chips that work one behind the other: a plan is cut into stages, and each is scheduled as the program of a chip, or of the
 * first of a group of chips that share its work.
 *
 * A stage has a clock of its own, which begins when the first vector comes in, and knows when each of the others can be
 * there: what the stage before sends has its cycle by then. In the end all are on the clock of the first.
 */

import { at, CompileError, fail, sure } from "./diagnostics.js";
import { type LinksOf, planInGroup, planOnChip } from "./ir/plan/group.js";
import type { Plan } from "./ir/plan.js";
import { wireKey } from "./ir/plan/wires.js";
import { LEAST_GAIN } from "./ir/facts.js";
import { type EntryPoint, type EntryProgram, entryPrograms, type Link, type Program } from "./ir/program.js";
import {
  chipsIn,
  deadOf,
  linksAmong,
  linksBetween,
  livingChips,
  type SystemName,
  systemOf,
  systemWith,
} from "./ir/system.js";
import { linkDelay, type Target } from "./ir/target.js";
import { joinGroup } from "./passes/group/join.js";
import { keptPairs, steadyFrom } from "./passes/schedule/overlap.js";
import { type Scheduled, schedule } from "./passes/schedule/schedule.js";
import { chipsInLine } from "./system/routes.js";
import { cutPlan, type Hop } from "./passes/stages/cut.js";
import { joinStages, type ScheduledStage, type StagedEntry } from "./passes/stages/join.js";

export interface Pipeline {
  readonly target: Target;
  /** Chips that share the work of each stage: those of the first stage come first. */
  readonly members: number;
  /** What leads from the first chip of each stage to that of the next. */
  readonly hops: readonly Hop[];
  /** All links between the chips. */
  readonly links: readonly Link[];
  /** Stages of ONNX nodes that have one, by name. */
  readonly stageOf?: ReadonlyMap<string, number> | undefined;
}

/** How many chips work one behind the other; "auto": as few as hold the model. */
export type Stages = number | "auto";

const LARGEST: SystemName = "node8";

interface PipelineOptions {
  readonly system?: SystemName | undefined;
  /** Chips of the system that do not work. */
  readonly dead?: readonly number[] | undefined;
  /** Chips that work one behind the other, or groups; one if not given. */
  readonly stages?: number | undefined;
  /** Chips that share the work of each stage; one if not given. */
  readonly tensor?: number | undefined;
  readonly stageOf?: ReadonlyMap<string, number> | undefined;
}

/** LPU2007 if the system has fewer chips than there are stages, or its chips too few links, or chips of no node share work. */
export const pipelineOf = (options: PipelineOptions, target: Target): Pipeline => {
  const { system, stages: count = 1, tensor: members = 1, stageOf } = options;
  const name = system ?? systemWith(count * members);
  const living = livingChips(name, deadOf(options));
  if (members > 1) expectNode(system, living.length, members, count);
  const whole = systemOf(name, target, options.dead);
  const line = members === 1 ? chipsInLine(whole, count) : living.slice(0, members * count);
  const links = linksAmong(whole, line);
  const hops = Array.from({ length: count - 1 }, (_, stage): Hop => {
    const joined = linksBetween({ links }, stage * members, (stage + 1) * members);
    return { from: joined.map(({ fromLink }) => fromLink), to: joined.map(({ toLink }) => toLink) };
  });
  const made = { target, members, hops, links, stageOf };
  if (peersOf(made).some((joined, by) => by > 0 && joined.length === 0))
    fail("LPU2007", {
      message: `chips of target '${target.name}' have ${target.links} links, too few to join each of ${members} to each`,
      hint: "let fewer chips share products, or let them work one behind the other (--stages)",
    });
  return made;
};

/** Chips share work where each is joined to each by as many wires; of a build, all stages are in one node. */
const expectNode = (system: SystemName | undefined, living: number, members: number, stages: number): void => {
  const most = chipsIn(LARGEST);
  const isNode = system === undefined || chipsIn(system) <= most;
  const chips = system === undefined ? most : living;
  if (isNode && members * stages <= chips) return;
  const room = Math.min(chips, most);
  fail("LPU2007", {
    message: `expected chips of one node to share products, got ${stages === 1 ? "" : `${stages} times `}${members}${system === undefined ? "" : ` on system '${system}'`}`,
    hint:
      members > room
        ? `--tensor may be at most ${room} here: a node has at most ${most} chips, each joined to each (lpu systems)`
        : `--tensor times --stages may be at most ${room} here: of a build all groups are in one node; lpu plan says what groups in nodes of their own would do`,
  });
};

const linksTo = ({ links }: Pick<Pipeline, "links">, from: number, to: number): readonly number[] =>
  linksBetween({ links }, from, to).map(({ fromLink }) => fromLink);

/** By how far each chip of a group is behind the first: the links that lead from the first to it. */
export const peersOf = (pipeline: Pick<Pipeline, "members" | "links">): readonly (readonly number[])[] =>
  Array.from({ length: pipeline.members }, (_, by) => linksTo(pipeline, 0, by));

/**
 * By the links of one chip those of another that lead to chips in the same places: as far behind it in its group, and of chips of one
 * group in other groups, too.
 */
const linksInPlaceOf = (pipeline: Pipeline, from: number, to: number): LinksOf => {
  const { members, hops } = pipeline;
  const [own, other] = [Math.floor(from / members), Math.floor(to / members)] as const;
  const groups =
    own === other ? [...hops.keys(), hops.length].map((group) => [group, group] as const) : [[own, other] as const];
  const seen = (chip: number, group: number, by: number): readonly number[] =>
    linksTo(pipeline, chip, group * members + ((chip + by) % members));
  const each = [...peersOf(pipeline).keys()];
  return new Map(groups.flatMap(([near, far]) => each.flatMap((by) => pairs(seen(from, near, by), seen(to, far, by)))));
};

const pairs = (from: readonly number[], to: readonly number[]): [number, number][] =>
  from.map((link, index): [number, number] => [link, at(to, index, "link")]);

/** A plan, and the entry that it becomes. */
export interface NamedPlan {
  readonly name: string;
  readonly plan: Plan;
}

export interface PipelineProgram {
  /** Of the chips that have something to do: stages that would not are left out. */
  readonly program: Program;
  /** By entry: the plan of each chip, as it was scheduled. */
  readonly plans: readonly (readonly Plan[])[];
}

/**
 * Entries one after another, each around what those before it have on every chip: their states, and weights where both are cut
 * alike. `onPlan`: called with the plan of each chip before it is scheduled; `mayFollow`: proves that a run may follow another after so
 * many cycles, where one does before the other ends.
 */
export const pipelineProgram = (
  entries: readonly NamedPlan[],
  asked: Pipeline,
  onPlan: (plan: Plan, stage: number) => void = () => undefined,
  mayFollow: (program: EntryProgram, interval: number) => boolean = () => false,
): PipelineProgram => {
  const { pipeline, cuts } = cutEntries(
    entries.map(({ plan }) => plan),
    asked,
  );
  const { target, members } = pipeline;
  const made: MadeEntry[] = [];
  for (const [index, { name, plan: whole }] of entries.entries()) {
    const before = made.at(-1);
    const plans = at(cuts, index, "entry").map((cut, stage) =>
      stage === 0 ? cut : planInGroup(cut, linksInPlaceOf(pipeline, 0, stage * members)),
    );
    for (const [stage, plan] of plans.entries()) onPlan(plan, stage);
    const later = (stage: number): readonly Plan[] =>
      cuts.slice(index + 1).map((stagesOf) => at(stagesOf, stage, "stage"));
    const around = { target, name, before, later };
    const stages = madeStages(plans, around);
    const isProved = (tried: readonly MadeStage[], period: number): boolean => {
      const { program } = joined(pipeline, [...made, { whole, stages: tried }]);
      return mayFollow(at(entryPrograms(program), index, "entry"), period);
    };
    made.push({ whole, stages: overlapped(stages, (period) => madeStages(plans, around, period), isProved) });
  }
  return joined(pipeline, made);
};

/**
 * By entry its stages, and the pipeline that these are for: of fewer chips where some would have nothing to do in any entry, unless
 * the model says the stages.
 */
export const cutEntries = (
  plans: readonly Plan[],
  pipeline: Pipeline,
): { readonly pipeline: Pipeline; readonly cuts: readonly (readonly Plan[])[] } => {
  const { target, members, hops, links, stageOf } = pipeline;
  const homes = new Map<string, number>();
  const cuts = plans.map((plan) => {
    const stages = cutPlan(plan, target, hops, { homes, stageOf });
    for (const [stage, { states }] of stages.entries()) for (const { name } of states) homes.set(name, stage);
    return stages;
  });
  const isAtWork = (stage: number): boolean => cuts.some((stages) => at(stages, stage, "stage").tasks.length > 0);
  const atWork = Math.max(1, [...hops.keys(), hops.length].filter(isAtWork).length);
  if (atWork > hops.length || (stageOf?.size ?? 0) > 0) return { pipeline, cuts };
  const isLeft = ({ fromChip, toChip }: Link): boolean => Math.max(fromChip, toChip) < atWork * members;
  return cutEntries(plans, { ...pipeline, hops: hops.slice(0, atWork - 1), links: links.filter(isLeft) });
};

interface MadeStage extends Omit<ScheduledStage, "program"> {
  readonly scheduled: Scheduled;
  /** The cycle of its clock from which on its arrays need not wait. */
  readonly from: number;
}

interface MadeEntry {
  readonly whole: Plan;
  readonly stages: readonly MadeStage[];
}

/** What stages of an entry are scheduled for. */
interface StageSurroundings {
  readonly target: Target;
  readonly name: string;
  readonly before: MadeEntry | undefined;
  /** By stage the plans of the entries behind this one. */
  readonly later: (stage: number) => readonly Plan[];
}

/**
 * Each stage when it is known what the one before sends; `period`: cycles after which the next run begins, if that is before this
 * one ends. None behind one whose arrays are not done by then.
 */
const madeStages = (
  plans: readonly Plan[],
  { target, name, before, later }: StageSurroundings,
  period?: number,
): MadeStage[] => {
  const stages: MadeStage[] = [];
  for (const [stage, plan] of plans.entries()) {
    const { start, arrivals } = arrivalsFrom(target, stages.at(-1));
    const earlier = before?.stages[stage]?.scheduled;
    // Runs of one stage do not overlap, nor do those that share states, which are read and written in an order of their own.
    const from = plans.length === 1 || plan.states.length > 0 ? 0 : steadyFrom(plan, target, arrivals);
    const overlap = period === undefined ? undefined : { period, from, head: from + Math.ceil(MEETING * period) };
    const scheduled = schedule(plan, target, { name, earlier, later: later(stage), arrivals, overlap });
    stages.push({ plan, start, from, scheduled });
    if (period !== undefined && workOf({ from, scheduled }) > period) break;
  }
  return stages;
};

/** How long the end of a run may meet what the arrays begin of the next one, in parts of the period. */
const MEETING = 0.04;
/** Periods that are tried, in parts of the longest time for which arrays work: where runs meet they take some more. */
const PERIODS = [1.01, 1.03, 1.06] as const;

/**
 * Stages of which the next run begins before the present one ends, if one may then follow the other so much sooner that it makes up
 * for what each takes longer. `first`: stages that end before.
 */
const overlapped = (
  first: readonly MadeStage[],
  make: (period: number) => readonly MadeStage[],
  isProved: (stages: readonly MadeStage[], period: number) => boolean,
): readonly MadeStage[] => {
  if (first.length === 1 || !first.every(mayOverlap)) return first;
  const longest = Math.max(...first.map(({ scheduled }) => cyclesOf(scheduled)));
  const working = Math.max(...first.map(workOf));
  for (const period of PERIODS.map((share) => Math.ceil(share * working))) {
    const isGain = (stages: readonly MadeStage[]): boolean =>
      period * endOf(stages) < (1 - LEAST_GAIN) * longest * endOf(first);
    if (!isGain(first)) break;
    const stages = ifRoom(() => make(period));
    if (stages?.length === first.length && isGain(stages) && isProved(stages, period)) return stages;
  }
  return first;
};

/** Not where states stay on a chip, chips of a stage send to each other, or no pairs of slices can be kept for wires. */
const mayOverlap = ({ plan, scheduled }: MadeStage): boolean =>
  plan.states.length === 0 &&
  plan.tasks.every(({ wire }) => wire?.twin !== true) &&
  keptPairs(plan, scheduled.program.target) !== undefined;

const entryOf = ({ program }: Scheduled): EntryPoint => sure(program.entries.at(-1), "last entry");

const cyclesOf = (scheduled: Scheduled): number => at(entryOf(scheduled).cycles, 0, "chip");

const endOf = (stages: readonly MadeStage[]): number =>
  Math.max(...stages.map(({ start, scheduled }) => start + cyclesOf(scheduled)));

/** Cycles from when the arrays need not wait to the last activations in them. */
const workOf = ({ from, scheduled }: Pick<MadeStage, "from" | "scheduled">): number => {
  const [queues = []] = entryOf(scheduled).queues;
  const ends = queues.flatMap((queue) =>
    queue.flatMap(({ op, cycle, count, interval }) => (op === "abc" ? [cycle + count * interval] : [])),
  );
  return ends.reduce((last, end) => Math.max(last, end), from) - from;
};

const ifRoom = <T>(make: () => T): T | undefined => {
  try {
    return make();
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
};

/** Stages become those of groups, and these one program. */
const joined = (pipeline: Pipeline, made: readonly MadeEntry[]): PipelineProgram => {
  const { members, hops, links } = pipeline;
  const each = Array.from({ length: members }, (_, chip) => chip);
  const own = Array.from({ length: hops.length + 1 }, (_, stage) =>
    each.map((chip) => linksInPlaceOf(pipeline, stage * members, stage * members + chip)),
  );
  const plansAt = ({ stages }: MadeEntry, stage: number): readonly Plan[] =>
    each.map((chip) =>
      planOnChip(at(stages, stage, "stage").scheduled.plan, chip, at(at(own, stage, "stage"), chip, "chip")),
    );
  const programs = own.map((linksOf, stage) => {
    const parts = made.map((entry) => {
      const { blocks, constantsBy } = at(entry.stages, stage, "stage").scheduled;
      return { blocks, constantsBy, plans: plansAt(entry, stage) };
    });
    return joinGroup(at(sure(made.at(-1), "last entry").stages, stage, "stage").scheduled.program, parts, linksOf);
  });
  const staged = made.map(
    ({ whole, stages }): StagedEntry => ({
      whole,
      stages: stages.map(({ plan, start }, stage) => ({ plan, start, program: at(programs, stage, "stage") })),
    }),
  );
  return {
    program: joinStages(staged, links),
    plans: made.map((entry) => own.flatMap((_, stage) => plansAt(entry, stage))),
  };
};

/** When a stage begins, and from which of its cycles on it can receive what the one before sends. */
const arrivalsFrom = (target: Target, before: MadeStage | undefined) => {
  const delay = (before?.start ?? 0) + linkDelay(target);
  const own = before?.scheduled.plan.tasks.filter(({ wire }) => wire?.twin !== true && wire?.kind === "send") ?? [];
  const keys = new Set(own.map(wireKey));
  const sent = [...(before?.scheduled.sent ?? [])].filter(([key]) => keys.has(key));
  const all = sent.map(([name, cycle]) => [name, cycle + delay] as const);
  const first = Math.min(...all.map(([, cycle]) => cycle));
  const start = all.length === 0 ? 0 : Math.max(0, first - target.timing.barrier);
  return { start, arrivals: new Map(all.map(([name, cycle]) => [name, cycle - start])) };
};
